//! Whole requests through rules and tenant label.

use proptest::prelude::*;

use super::*;
use crate::relabel::parse_rules;

const TENANT: &str = "header";

fn hasher() -> SeriesHasher {
    SeriesHasher::new([5; 16])
}

fn rewriter(rules: &str, tenant_label: Option<&str>) -> Rewriter {
    let metrics = RelabelMetrics::register(&Registry::new());
    let rules = NodeRules::new(Arc::new(parse_rules(rules).unwrap()), metrics);
    Rewriter::new(rules, tenant_label.map(Arc::from), hasher(), 0)
}

/// A body of label sets, and for each of them as many rows, and one row of the other kinds.
fn request(series: &[(Vec<(&str, &str)>, usize)]) -> (Vec<u8>, TenantRows) {
    let own = hasher().tenant(TENANT);
    let (mut body, mut rows, mut extras) = (Vec::new(), Vec::new(), Extras::default());
    for (labels, count) in series {
        let label_bytes = canonical_label_bytes(labels);
        let labels = BodyRange { offset: body.len() as u32, len: label_bytes.len() as u32 };
        let key = own.key(&label_bytes);
        body.extend(label_bytes);
        let row =
            Row { key, label_offset: labels.offset, label_len: labels.len, timestamp_ms: 0, value: 0.0 };
        rows.extend((0..*count as i64).map(|timestamp_ms| Row { timestamp_ms, ..row }));
        extras.histograms.push(HistogramRow { key, labels, timestamp_ms: 7, message: labels });
        let exemplar = ExemplarRow { key, series_labels: labels, labels, timestamp_ms: 8, value: 0.5 };
        extras.exemplars.push(exemplar);
    }
    (body, TenantRows { tenant: TENANT.into(), hasher: own, rows, extras })
}

fn rewrite(rewriter: &mut Rewriter, series: &[(Vec<(&str, &str)>, usize)]) -> (Vec<u8>, Rewritten) {
    let (mut body, all) = request(series);
    let mut walk = Walk::new(all, body.len());
    while !rewriter.run(&mut walk, &mut body).unwrap() {}
    (body, walk.finish())
}

/// Tenant, labels and time of each row, with the labels as text; every row has to have the key of its labels.
fn rows(body: &[u8], rewritten: &Rewritten) -> Vec<(String, String, i64)> {
    let mut found = Vec::new();
    for part in &rewritten.parts {
        let text = |labels: &[u8]| {
            let labels = parse_labels(labels).unwrap();
            labels.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>()
        };
        let mut push = |range: BodyRange, key: SeriesKey, timestamp_ms| {
            let labels = range.of(body);
            assert_eq!(part.hasher.key(labels), key);
            found.push((part.tenant.to_string(), text(labels), timestamp_ms));
        };
        for row in &part.rows {
            push(BodyRange { offset: row.label_offset, len: row.label_len }, row.key, row.timestamp_ms);
        }
        for row in &part.extras.histograms {
            push(row.labels, row.key, row.timestamp_ms);
        }
        for row in &part.extras.exemplars {
            push(row.series_labels, row.key, row.timestamp_ms);
        }
    }
    found
}

fn owned(rows: &[(&str, &str, i64)]) -> Vec<(String, String, i64)> {
    rows.iter().map(|(tenant, labels, ms)| ((*tenant).to_owned(), (*labels).to_owned(), *ms)).collect()
}

#[test]
fn rows_of_every_kind_get_the_labels_that_rules_make() {
    let mut rewriter = rewriter(
        "[{action: drop, source_labels: [__name__], regex: 'go_.*'}, {action: labeldrop, regex: pod}, \
          {target_label: cluster, replacement: eu}]",
        None,
    );
    let series = [
        (vec![("__name__", "up"), ("pod", "a")], 2),
        (vec![("__name__", "go_gc"), ("pod", "a")], 3),
        (vec![("__name__", "up"), ("cluster", "eu")], 1),
    ];
    let up = "__name__=up cluster=eu ";
    let expected = owned(&[
        (TENANT, up, 0),
        (TENANT, up, 1),
        (TENANT, up, 0),
        (TENANT, up, 7),
        (TENANT, up, 7),
        (TENANT, up, 8),
        (TENANT, up, 8),
    ]);
    for _ in 0..2 {
        let (body, rewritten) = rewrite(&mut rewriter, &series);
        assert_eq!(rows(&body, &rewritten), expected);
        assert_eq!(rewritten.too_long, 0);
    }
    assert_eq!((rewriter.misses.get(), rewriter.dropped.get()), (3, 10));
    // The first two are looked for three times in each request, of which the cache knows all but the first.
    assert_eq!(rewriter.hits.get(), 15);
}

#[test]
fn a_label_names_the_tenant_and_is_removed() {
    let mut rewriter = rewriter("", Some("team"));
    let series = [
        (vec![("__name__", "up"), ("team", "a")], 1),
        (vec![("__name__", "up")], 1),
        (vec![("__name__", "up"), ("team", "a/b")], 2),
        (vec![("__name__", "up"), ("team", "header")], 1),
    ];
    for _ in 0..2 {
        let (body, rewritten) = rewrite(&mut rewriter, &series);
        let expected = [
            (TENANT, "__name__=up ", 0),
            (TENANT, "__name__=up ", 0),
            (TENANT, "__name__=up ", 7),
            (TENANT, "__name__=up ", 7),
            (TENANT, "__name__=up ", 8),
            (TENANT, "__name__=up ", 8),
            ("a", "__name__=up ", 0),
            ("a", "__name__=up ", 7),
            ("a", "__name__=up ", 8),
        ];
        assert_eq!(rows(&body, &rewritten), owned(&expected));
        let (count, tenant) = rewritten.bad_tenant.unwrap();
        assert_eq!((count, &*tenant), (4, "a/b"));
    }
}

#[test]
fn what_rules_may_make_of_a_request_is_bounded() {
    let mut rewriter = rewriter(
        "[{source_labels: [x], target_label: x, replacement: '$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1'}]",
        None,
    );
    let values: Vec<String> = (0..200).map(|number| format!("{number:02000}")).collect();
    let series: Vec<_> = values.iter().map(|x| (vec![("__name__", "up"), ("x", x.as_str())], 1)).collect();
    let (mut body, all) = request(&series);
    let bytes_max = GROWTH_FACTOR * body.len() + GROWTH_BYTES_MIN;
    let mut walk = Walk::new(all, body.len());
    let error = loop {
        match rewriter.run(&mut walk, &mut body) {
            Ok(done) => assert!(!done),
            Err(error) => break error,
        }
    };
    assert_eq!(error, RewriteError::TooLarge { bytes_max });
    assert!(body.len() < bytes_max + bytes_max / 2);
    let long = "x".repeat(60_000);
    let (_, rewritten) = rewrite(&mut rewriter, &[(vec![("__name__", "up"), ("x", &long)], 2)]);
    assert_eq!((rewritten.too_long, rewritten.parts[0].rows.len()), (4, 0));
}

#[test]
fn a_request_for_too_many_tenants_is_an_error() {
    let mut rewriter = rewriter("", Some("team"));
    let teams: Vec<String> = (0..TENANTS_MAX).map(|number| format!("t{number}")).collect();
    let series: Vec<_> =
        teams.iter().map(|team| (vec![("__name__", "up"), ("team", team.as_str())], 1)).collect();
    let (mut body, all) = request(&series);
    let mut walk = Walk::new(all, body.len());
    let error = loop {
        match rewriter.run(&mut walk, &mut body) {
            Ok(done) => assert!(!done),
            Err(error) => break error,
        }
    };
    assert_eq!(error, RewriteError::TooManyTenants);
}

#[test]
fn many_labels_end_a_unit_early() {
    let names: Vec<String> = (0..200).map(|number| format!("label_{number:03}")).collect();
    let labels = |value| {
        let labels = names.iter().map(|name| (name.as_str(), value));
        [("__name__", "up")].into_iter().chain(labels).collect::<Vec<_>>()
    };
    let series: Vec<_> = ["1", "2", "3"].into_iter().map(|value| (labels(value), 1)).collect();
    let costs = |rules: &str| {
        let mut rewriter = rewriter(rules, None);
        let (mut body, all) = request(&series);
        let mut walk = Walk::new(all, body.len());
        let mut costs = Vec::new();
        while !rewriter.run(&mut walk, &mut body).unwrap() {
            costs.push(walk.cost);
        }
        costs
    };
    let plain = costs("[{action: keep, source_labels: [__name__], regex: up}]");
    assert!((200..400).contains(&plain[0]), "each label is looked at: {plain:?}");
    let mapped = costs("[{action: labelmap, regex: '(nothing)'}]");
    assert!(mapped[0] > 200 * 200, "each label may be mapped over all: {mapped:?}");
}

#[test]
fn without_rules_there_is_nothing_to_do() {
    assert!(!rewriter("", None).begin());
    assert!(rewriter("", Some("team")).begin() && rewriter("[{action: labeldrop, regex: x}]", None).begin());
}

#[test]
fn other_rules_hold_for_what_was_relabelled_before() {
    let mut rewriter = rewriter("[{target_label: b, replacement: old}]", None);
    let numbers: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let series: Vec<_> =
        numbers.iter().map(|number| (vec![("__name__", "up"), ("a", number.as_str())], 1)).collect();
    let labels_of = |rewriter: &mut Rewriter| {
        let (body, rewritten) = rewrite(rewriter, &series);
        rows(&body, &rewritten).into_iter().map(|(_, labels, _)| labels).collect::<Vec<_>>()
    };
    assert!(rewriter.begin() && labels_of(&mut rewriter).iter().all(|labels| labels.ends_with("b=old ")));
    rewriter.node.replace(parse_rules("[{target_label: b, replacement: new}]").unwrap());
    assert!(rewriter.begin() && labels_of(&mut rewriter).iter().all(|labels| labels.ends_with("b=new ")));
    rewriter.node.replace(Rules::default());
    assert!(rewriter.cache_bytes.get() > 0);
    assert!(!rewriter.begin());
    while !rewriter.stale.is_empty() {
        assert!(!rewriter.begin());
    }
    assert_eq!((rewriter.cache.size_bytes(), rewriter.cache_bytes.get()), (0, 0));
    rewriter.node.replace(parse_rules("[{target_label: b, replacement: again}]").unwrap());
    assert!(rewriter.begin() && labels_of(&mut rewriter).iter().all(|labels| labels.ends_with("b=again ")));
}

proptest! {
    #[test]
    fn the_cache_changes_no_outcome(
        picks in proptest::collection::vec((0usize..4, 0usize..3, 0usize..3), 1..60),
    ) {
        let rules = "[{action: drop, source_labels: [a, b], regex: '1;.*'}, \
                      {source_labels: [a], regex: '(2)', target_label: team, replacement: 't$1'}, \
                      {action: labelmap, regex: '(b)', replacement: 'c_$1'}]";
        let values = ["", "1", "2", "3"];
        let series: Vec<_> = picks.iter().map(|(a, b, count)| {
            let labels = [("__name__", "up"), ("a", values[*a]), ("b", values[*b])];
            (labels.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>(), *count)
        }).collect();
        let mut warm = rewriter(rules, Some("team"));
        rewrite(&mut warm, &series);
        let mut tiny = rewriter(rules, Some("team"));
        tiny.cache = Cache::new(0);
        let (body, rewritten) = rewrite(&mut warm, &series);
        let (other_body, other) = rewrite(&mut tiny, &series);
        prop_assert_eq!(rows(&body, &rewritten), rows(&other_body, &other));
        prop_assert_eq!(tiny.hits.get(), 0);
    }
}
