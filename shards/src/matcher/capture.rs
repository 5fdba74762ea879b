//! Regular expressions whose groups are wanted: those of `label_replace` and of relabelling rules.

use std::fmt;
use std::sync::Arc;

use regex::{Captures, Regex};

use super::go_syntax::translate_capturing;
use super::{CompileError, MatcherError, PATTERN_BYTES_MAX, Room, compile};

/// A pattern with the rules of a matcher, and with groups. Cheap to clone.
#[derive(Clone)]
pub struct CapturePattern(Arc<Inner>);

struct Inner {
    regex: Regex,
    /// The name of each group that has one.
    names: Vec<Option<String>>,
    /// For the pattern and for what a thread that matches keeps for its groups.
    room: Room,
}

impl CapturePattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// When Go refuses it, when it takes too much memory, or when all patterns together do.
    pub fn new(text: &str) -> Result<CapturePattern, MatcherError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(CompileError::TooLarge.about(text));
        }
        let (translated, names) = translate_capturing(text)?;
        let (regex, room) = compile(&translated, names.len()).map_err(|error| error.about(text))?;
        Ok(CapturePattern(Arc::new(Inner { regex, names, room })))
    }

    /// Whether all of a text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.regex.is_match(text)
    }

    /// The groups of a text of which all matches.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        self.0.regex.captures(text)
    }

    /// The number of the group of that name.
    pub fn group_named(&self, name: &str) -> Option<usize> {
        let index = self.0.names.iter().position(|other| other.as_deref() == Some(name))?;
        Some(index + 1)
    }

    /// Memory that is set aside for it.
    pub fn compiled_bytes(&self) -> usize {
        self.0.room.0
    }

    /// What it costs at most to match a text of so many bytes, in bytes of the pattern that are looked at: each byte of the
    /// text meets all of them, and the bounds of all groups.
    pub fn cost(&self, text_bytes: usize) -> usize {
        self.compiled_bytes().saturating_mul(text_bytes)
    }
}

impl fmt::Debug for CapturePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CapturePattern").field(&self.0.regex.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_are_read_as_go_reads_them() {
        for (pattern, text, expected) in [
            (r"(\w+)", "é", None),
            (r"(\w+)", "a_1", Some("a_1")),
            (r"(\d+).*", "٣", None),
            ("([a&&b]+)", "a&b", Some("a&b")),
            ("([[a]+)", "[a", Some("[a")),
            (r"(\Qa.b\E)", "a.b", Some("a.b")),
            (r"(\Qa.b\E)", "axb", None),
            ("(a{,2})", "a{,2}", Some("a{,2}")),
            ("(.*)", "a\nb", Some("a\nb")),
            ("(a|ab)(c|bcd)?", "abcd", Some("a")),
        ] {
            let found = CapturePattern::new(pattern).unwrap();
            let captures = found.captures(text);
            assert_eq!(captures.map(|found| found.get(1).unwrap().as_str()), expected, "{pattern}");
        }
        for pattern in [r"\u{61}", "a{1001}", "(", "a)|(b", "(?P<a>x)(?P<a>y)"] {
            assert!(CapturePattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn groups_are_found_by_names_that_only_go_has() {
        let pattern = CapturePattern::new("(?:x)(?P<1a>y)(z)(?<b>.)").unwrap();
        assert_eq!(pattern.group_named("1a"), Some(1));
        assert_eq!((pattern.group_named("b"), pattern.group_named("c")), (Some(3), None));
        assert_eq!(&pattern.captures("xyz!").unwrap()[3], "!");
    }

    #[test]
    fn a_large_pattern_may_not_have_many_groups() {
        let groups = "(a)".repeat(100);
        assert!(CapturePattern::new(&groups).is_ok());
        let error = CapturePattern::new(&format!(r"\pL{{50}}{groups}")).unwrap_err();
        assert!(matches!(error, MatcherError::TooLarge { .. }), "{error}");
        assert!(CapturePattern::new(&"x".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_a_matcher_matches(pattern in "[ab.*+?|()^$]{0,8}", text in "[ab\n]{0,5}") {
            let matcher = crate::Matcher::new(crate::MatchOp::Regex, "a", pattern.clone());
            let capturing = CapturePattern::new(&pattern);
            prop_assert_eq!(matcher.is_ok(), capturing.is_ok());
            if let (Ok(matcher), Ok(capturing)) = (matcher, capturing) {
                prop_assert_eq!(matcher.matches(&text), capturing.is_match(&text));
                prop_assert_eq!(matcher.matches(&text), capturing.captures(&text).is_some());
            }
        }

        #[test]
        fn no_pattern_makes_matching_panic(pattern in "\\PC{0,40}", text in "\\PC{0,20}") {
            if let Ok(capturing) = CapturePattern::new(&pattern) {
                let _ = capturing.captures(&text);
            }
        }
    }
}
