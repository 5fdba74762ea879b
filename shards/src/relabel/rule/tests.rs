//! Each action against what Prometheus' rules say.

use proptest::prelude::*;

use super::*;
use crate::relabel::parse_rules;

/// The labels after the rules; nothing when the series is dropped.
fn relabelled(labels: &[(&str, &str)], rules: &str) -> Option<Vec<(String, String)>> {
    let rules = parse_rules(rules).unwrap();
    let mut set = LabelSet::new(labels);
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    rules.apply(&mut set).unwrap().then(|| set.sorted().into_iter().map(owned).collect())
}

fn check(labels: &[(&str, &str)], rules: &str, expected: Option<&[(&str, &str)]>) {
    let expected = expected.map(|labels| {
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    });
    assert_eq!(relabelled(labels, rules), expected, "{rules}");
}

const ABC: [(&str, &str); 3] = [("a", "foo"), ("b", "bar"), ("c", "baz")];

#[test]
fn replace_sets_the_target_where_the_pattern_matches() {
    check(
        &ABC,
        "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")]),
    );
    // No match, no change.
    check(&ABC, "[{source_labels: [a], regex: 'oo', target_label: d, replacement: x}]", Some(&ABC));
    // Sources are joined; the defaults copy.
    check(
        &ABC,
        "[{source_labels: [a, b], target_label: a}]",
        Some(&[("a", "foo;bar"), ("b", "bar"), ("c", "baz")]),
    );
    check(
        &ABC,
        "[{source_labels: [c, z, a], separator: '', target_label: d}]",
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "bazfoo")]),
    );
    // An empty result removes the target.
    check(
        &ABC,
        "[{source_labels: [a], regex: 'f(.*)', target_label: b, replacement: ''}]",
        Some(&[("a", "foo"), ("c", "baz")]),
    );
    check(&ABC, "[{source_labels: [z], target_label: b}]", Some(&[("a", "foo"), ("c", "baz")]));
    // The target may be made of the match; one that has no name is left alone.
    check(
        &[("a", "some-name-value")],
        "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${1}', replacement: '${2}'}]",
        Some(&[("a", "some-name-value"), ("name", "value")]),
    );
    check(&ABC, "[{source_labels: [a], regex: '(x?)foo', target_label: '${1}', replacement: y}]", Some(&ABC));
    // Without sources the pattern sees the empty text.
    check(
        &[("a", "1")],
        "[{target_label: cluster, replacement: eu-1}]",
        Some(&[("a", "1"), ("cluster", "eu-1")]),
    );
    // `.` matches a newline.
    check(
        &[("a", "x\ny")],
        "[{source_labels: [a], regex: 'x.y', target_label: a, replacement: z}]",
        Some(&[("a", "z")]),
    );
}

#[test]
fn rules_apply_one_after_the_other() {
    check(
        &ABC,
        "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'm$1'}, \
          {source_labels: [d], regex: moo, target_label: e, replacement: cow}, \
          {action: drop, source_labels: [e], regex: nothing}]",
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "moo"), ("e", "cow")]),
    );
    check(&ABC, "[{action: drop, source_labels: [a], regex: foo}, {target_label: a, replacement: x}]", None);
}

#[test]
fn keep_and_drop_ask_for_a_whole_match() {
    check(&ABC, "[{action: drop, source_labels: [a], regex: '.*o.*'}]", None);
    check(&ABC, "[{action: drop, source_labels: [a], regex: 'f|oo'}]", Some(&ABC));
    check(&ABC, "[{action: drop, source_labels: [z], regex: '.+'}]", Some(&ABC));
    check(&ABC, "[{action: keep, source_labels: [a], regex: no-match}]", None);
    check(&ABC, "[{action: keep, source_labels: [a, b], regex: 'f.*;bar'}]", Some(&ABC));
    check(&ABC, "[{action: keep, source_labels: [z], regex: ''}]", Some(&ABC));
}

#[test]
fn keepequal_and_dropequal_compare_two_labels() {
    let same = [("a", "1"), ("b", "1"), ("c", "2")];
    check(&same, "[{action: dropequal, source_labels: [a], target_label: b}]", None);
    check(&same, "[{action: dropequal, source_labels: [a], target_label: c}]", Some(&same));
    check(&same, "[{action: keepequal, source_labels: [a], target_label: b}]", Some(&same));
    check(&same, "[{action: keepequal, source_labels: [a], target_label: c}]", None);
    // Two absent labels are equal.
    check(&same, "[{action: keepequal, source_labels: [y], target_label: z}]", Some(&same));
}

#[test]
fn hashmod_is_the_tail_of_md5() {
    check(
        &ABC,
        "[{action: hashmod, source_labels: [c], separator: ';', modulus: 1000, target_label: d}]",
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "976")]),
    );
    check(
        &[("a", "foo\nbar")],
        "[{action: hashmod, source_labels: [a], modulus: 1000, target_label: b}]",
        Some(&[("a", "foo\nbar"), ("b", "734")]),
    );
}

#[test]
fn labelmap_copies_labels_to_other_names() {
    check(
        &[("a", "foo"), ("b1", "bar"), ("b2", "baz")],
        "[{action: labelmap, regex: '(b.*)', replacement: 'bar_${1}'}]",
        Some(&[("a", "foo"), ("b1", "bar"), ("b2", "baz"), ("bar_b1", "bar"), ("bar_b2", "baz")]),
    );
    check(
        &[("__meta_my_bar", "aaa"), ("__meta_my_baz", "bbb"), ("other", "x")],
        "[{action: labelmap, regex: '__meta_(my.*)'}, {action: labeldrop, regex: '__meta_.*'}]",
        Some(&[("my_bar", "aaa"), ("my_baz", "bbb"), ("other", "x")]),
    );
    // Of two labels with one name the last in order stays; a label that was set comes after all others.
    check(
        &[("x1", "1"), ("x2", "2")],
        "[{action: labelmap, regex: 'x.', replacement: x}]",
        Some(&[("x", "2"), ("x1", "1"), ("x2", "2")]),
    );
    check(
        &[("x1", "1"), ("x2", "2")],
        "[{target_label: x1, replacement: '3'}, {action: labelmap, regex: 'x.', replacement: x}]",
        Some(&[("x", "3"), ("x1", "3"), ("x2", "2")]),
    );
}

#[test]
fn labeldrop_and_labelkeep_go_by_names() {
    check(&ABC, "[{action: labeldrop, regex: 'b.*'}]", Some(&[("a", "foo"), ("c", "baz")]));
    check(&ABC, "[{action: labelkeep, regex: 'b.*'}]", Some(&[("b", "bar")]));
    check(&ABC, "[{action: labelkeep, regex: x}]", Some(&[]));
}

#[test]
fn cases_are_mapped_one_character_to_one() {
    let rules = "[{action: lowercase, source_labels: [a], target_label: l}, \
                  {action: uppercase, source_labels: [a], target_label: u}]";
    for (value, lower, upper) in [
        ("bAr123Foo", "bar123foo", "BAR123FOO"),
        ("Straße", "straße", "STRAßE"),
        ("\u{130}x", "ix", "\u{130}X"),
        ("\u{1f80}", "\u{1f80}", "\u{1f88}"),
        ("\u{1fb3}\u{fb01}", "\u{1fb3}\u{fb01}", "\u{1fbc}\u{fb01}"),
        ("ÉÀ\u{3a3}", "éà\u{3c3}", "ÉÀ\u{3a3}"),
    ] {
        check(&[("a", value)], rules, Some(&[("a", value), ("l", lower), ("u", upper)]));
    }
}

#[test]
fn labels_that_grow_without_end_are_an_error() {
    let value = "x".repeat(LABEL_BYTES_MAX / 2);
    let rules = parse_rules("[{source_labels: [a], target_label: a, replacement: '$1$1$1'}]").unwrap();
    assert_eq!(rules.apply(&mut LabelSet::new(&[("a", &value)])), Err(TooLong));
    let double = "{action: labelmap, regex: '(.*)', replacement: 'x$1'}";
    let rules = parse_rules(&format!("[{}]", [double; 4].join(","))).unwrap();
    assert_eq!(rules.apply(&mut LabelSet::new(&[("a", &value)])), Ok(true));
    let rules = parse_rules(&format!("[{}]", [double; 100].join(","))).unwrap();
    assert_eq!(rules.apply(&mut LabelSet::new(&[("a", &value)])), Err(TooLong));
}

proptest! {
    #[test]
    fn no_rule_panics_and_labels_stay_a_set(
        labels in proptest::collection::btree_map("[a-c_]{1,3}", ".{1,6}", 0..6),
        rules in proptest::collection::vec(
            (0..Action::ALL.len(), "[a-c$1{}]{0,5}", "[a-c$12{}é]{0,6}", prop_oneof![
                Just("(.*)"), Just("(a)?(.*)"), Just("[a-c]+"), Just("(?P<n>.)(.*)"), Just("")
            ], 0u64..5),
            0..5,
        ),
    ) {
        let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
        for (action, target, replacement, pattern, modulus) in rules {
            let rule = format!(
                "[{{action: {}, source_labels: [a, b], regex: {}, target_label: {}, replacement: {}, modulus: {modulus}}}]",
                Action::ALL[action].name(), quote(pattern), quote(&target), quote(&replacement),
            );
            let Ok(rules) = parse_rules(&rule) else { continue };
            let pairs: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut set = LabelSet::new(&pairs);
            let _ = rules.apply(&mut set);
            let sorted = set.sorted();
            prop_assert!(sorted.windows(2).all(|pair| pair[0].0 < pair[1].0), "{sorted:?}");
            prop_assert!(sorted.iter().all(|(_, value)| !value.is_empty()), "{sorted:?}");
        }
    }
}
