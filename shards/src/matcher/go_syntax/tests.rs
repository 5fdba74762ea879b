//! What patterns mean, and what is refused, by hand and by properties.

use super::*;
use proptest::prelude::*;
use regex::Regex;

fn matches(pattern: &str, text: &str) -> bool {
    let translated = translate(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let regex = Regex::new(&format!("^(?s:{translated})$"));
    regex.unwrap_or_else(|error| panic!("{pattern} as {translated}: {error}")).is_match(text)
}

/// Patterns, with texts that they match and texts that they do not match in Go.
const TRUTHS: &[(&str, &[&str], &[&str])] = &[
    (r"\d+", &["09"], &["٣", ""]),
    (r"\D", &["٣", "\n"], &["1"]),
    (r"\w+", &["a_Z9"], &["é", "a-b"]),
    (r"\W", &["é", "-"], &["_"]),
    (r"\s", &["\t", "\n", "\x0c", "\r", " "], &["\x0b", "\u{a0}"]),
    (r"[\d\s]+", &["1 2"], &["٣", "\x0b"]),
    (r"[^\d]", &["٣"], &["1"]),
    (r"[\D]", &["a"], &["1"]),
    (r"[^\D]", &["1"], &["a"]),
    (r"a\b.*", &["a", "a-", "aé"], &["ab"]),
    (r"\Qa.b*\E+", &["a.b*", "a.b**"], &["axb", "a.b"]),
    (r"\Qa|b", &["a|b"], &["a"]),
    (r"\Q\E", &[""], &["a"]),
    (r"\Aab\z", &["ab"], &["ab\n"]),
    (r"(?P<x>a)(?<y>b)", &["ab"], &["a"]),
    (r"(?i)ab", &["AB", "aB"], &["a"]),
    (r"(?i:a)b", &["Ab"], &["AB"]),
    (r"(?i)a(?-i)b", &["Ab"], &["AB"]),
    (r"(?-s).", &["a"], &["\n"]),
    (r".", &["\n", "é"], &[""]),
    (r"(?m)a$\nb", &["a\nb"], &["a"]),
    (r"(?U)a+", &["aa"], &[""]),
    (r"()|a", &["", "a"], &["b"]),
    (r"a{2}", &["aa"], &["a", "aaa"]),
    (r"a{2,}", &["aa", "aaa"], &["a"]),
    (r"a{1,2}?", &["a", "aa"], &["aaa"]),
    (r"a{", &["a{"], &["a"]),
    (r"a{,2}", &["a{,2}"], &["aa", ""]),
    (r"a{01}", &["a{01}"], &["a"]),
    (r"{a}", &["{a}"], &["a"]),
    (r"a}", &["a}"], &[]),
    (r"[]a]", &["]", "a"], &["b"]),
    (r"[^]a]", &["b"], &["]"]),
    (r"[a[]", &["a", "["], &["]"]),
    (r"[a&&b]", &["a", "&", "b"], &["c"]),
    (r"[!--]", &["!", "+", "-"], &["."]),
    (r"[+--]", &["+", ",", "-"], &["."]),
    (r"[a-]", &["a", "-"], &["b"]),
    (r"[a-c-e]", &["b", "-", "e"], &["d"]),
    (r"[\]-a]", &["]", "_", "a"], &["b"]),
    (r"[[:word:]]+", &["a_1"], &["é", "-"]),
    (r"[[:^alpha:]]", &["1"], &["a"]),
    (r"[x[:digit:]]", &["x", "1"], &["d"]),
    (r"[a~~b]", &["~"], &["c"]),
    (r"\pN", &["1", "٣"], &["a"]),
    (r"\p{Greek}+", &["αβ"], &["a"]),
    (r"\p{^Greek}", &["a"], &["α"]),
    (r"\P{Greek}", &["a"], &["α"]),
    (r"\P{^Greek}", &["α"], &["a"]),
    (r"[\p{Lu}1]", &["É", "1"], &["é"]),
    (r"\PL", &["1"], &["a"]),
    (r"\x41\x{42}\103\0", &["ABC\0"], &["A"]),
    (r"\.\-\_\<\/\ \@", &[".-_</ @"], &[]),
    (r"\a\f\t\n\r\v", &["\x07\x0c\t\n\r\x0b"], &[]),
    (r"a # b", &["a # b"], &["a"]),
    (r"é+", &["éé"], &["e"]),
    (r"(?i)k", &["K", "\u{212a}"], &["x"]),
    (r"(?)a", &["a"], &[]),
];

#[test]
fn patterns_mean_what_they_mean_in_go() {
    for (pattern, yes, no) in TRUTHS {
        for text in *yes {
            assert!(matches(pattern, text), "{pattern} matches {text:?}");
        }
        for text in *no {
            assert!(!matches(pattern, text), "{pattern} does not match {text:?}");
        }
    }
}

#[test]
fn what_go_refuses_is_refused_in_its_words() {
    for (pattern, message) in [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("a)|(b", "unexpected ): `a)|(b`"),
        ("[a", "missing closing ]: `[a`"),
        ("[", "missing closing ]: `[`"),
        ("[]", "missing closing ]: `[]`"),
        ("[a--]", "invalid character class range: `a--`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        ("[[:wat:]]", "invalid character class range: `[:wat:]`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("(+)", "missing argument to repetition operator: `+`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*??", "invalid nested repetition operator: `*??`"),
        ("a+{2}", "invalid nested repetition operator: `+{2}`"),
        (".{1000}{1000}", "invalid nested repetition operator: `{1000}{1000}`"),
        ("(.{1000}){1000}", "invalid repeat count: `{1000}`"),
        ("((a{10}b){10}c){11}", "invalid repeat count: `{11}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\xZZ", r"invalid escape sequence: `\xZZ`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000}`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        (r"\p{Alphabetic}", r"invalid character class range: `\p{Alphabetic}`"),
        (r"\p", r"invalid character class range: `\p`"),
        (r"\pé", r"invalid character class range: `\pé`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?<!a)", "invalid or unsupported Perl syntax: `(?<`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<>a)", "invalid named capture: `(?P<>`"),
        ("(?P<a", "invalid named capture: `(?P<a`"),
        ("(?P<a>)(?P<a>)", "duplicate capture group name: `a`"),
    ] {
        let error = translate(pattern).expect_err(pattern).to_string();
        assert_eq!(error, format!("error parsing regexp: {message}"), "{pattern}");
    }
}

#[test]
fn groups_have_a_depth() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(matches(&nested(NESTING_MAX), "a"));
    assert!(translate(&nested(100_000)).is_err());
}

proptest! {
    #[test]
    fn what_is_translated_is_accepted_or_too_large(pattern in r#"[ab\\(){}\[\]|*+?.^$\-:&0-9pPdDsSwWQEbxzACn<>=!,imsUé]{0,16}"#) {
        if let Ok(translated) = translate(&pattern) {
            prop_assert!(regex_syntax::parse(&translated).is_ok(), "{} as {}", pattern, translated);
        }
    }

    #[test]
    fn a_quoted_text_matches_itself_alone(text in "[^\\\\]{0,12}", other in ".{0,12}") {
        let pattern = format!("\\Q{text}\\E");
        prop_assert!(matches(&pattern, &text));
        prop_assert_eq!(matches(&pattern, &other), text == other);
    }

    #[test]
    fn an_escaped_text_matches_itself_alone(text in "[ -~é\n]{0,12}", other in "[ -~]{0,3}") {
        let escape = |char: char| if char.is_ascii_punctuation() { format!("\\{char}") } else { char.to_string() };
        let pattern: String = text.chars().map(escape).collect();
        prop_assert!(matches(&pattern, &text), "{}", pattern);
        prop_assert_eq!(matches(&pattern, &other), text == other);
    }

    #[test]
    fn a_class_of_characters_holds_these(chars in proptest::collection::btree_set(proptest::char::range('!', '~'), 1..6), probe in proptest::char::range('!', '~')) {
        // Behind the others these three have no meaning of their own.
        let last = |char: &char| matches!(char, '^' | '-' | '\\');
        let plain: String = chars.iter().filter(|char| !last(char) && **char != ']').collect();
        let mut inside = String::from(if chars.contains(&']') { "]" } else { "" });
        inside.push_str(&plain);
        if chars.contains(&'\\') { inside.push_str("\\\\"); }
        if inside.is_empty() { inside.push('a'); }
        if chars.contains(&'^') { inside.push('^'); }
        if chars.contains(&'-') { inside.push('-'); }
        // `[:` could begin a named class; the set is ordered, so it does not occur.
        let expected = chars.contains(&probe) || (inside.starts_with('a') && probe == 'a');
        prop_assert_eq!(matches(&format!("[{inside}]"), &probe.to_string()), expected, "[{}]", inside);
    }
}
