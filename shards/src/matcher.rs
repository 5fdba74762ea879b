//! Label matchers of a selector, with Prometheus' rules: regular expressions are fully anchored, `.` matches a
//! newline, and a label that is absent has the empty value.

use regex::Regex;

/// The four operators of a label matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

/// One condition on one label.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How the value is compared.
    pub op: MatchOp,
    /// The value or pattern as the user wrote it.
    pub value: String,
    regex: Option<Regex>,
}

/// A pattern that is not a valid regular expression, or is too large when compiled.
#[derive(Debug, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Compiled patterns larger than this are refused: `.{1000}{1000}` must cost an error, not the memory.
const REGEX_BYTES_MAX: usize = 10 << 20;

impl Matcher {
    /// A matcher; fails when a regular expression does not compile.
    pub fn new(
        op: MatchOp,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Matcher, MatcherError> {
        let value = value.into();
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let wrong = |reason: String| MatcherError { pattern: value.clone(), reason };
                // Alone first: `a)|(b` would be valid between the anchors, and escape them.
                regex_syntax::parse(&value).map_err(|error| wrong(error.to_string()))?;
                let mut builder = regex::RegexBuilder::new(&format!("^(?s:{value})$"));
                Some(builder.size_limit(REGEX_BYTES_MAX).build().map_err(|error| wrong(error.to_string()))?)
            }
        };
        Ok(Matcher { name: name.into(), op, value, regex })
    }

    /// Whether a value fulfils the condition; an absent label is passed as `""`.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => unreachable!("new() compiles the pattern"),
        }
    }

    /// Whether series without the label fulfil the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_and_absent_labels_are_empty() {
        let matcher = Matcher::new(MatchOp::Regex, "job", "api|node.*").unwrap();
        assert!(matcher.matches("api") && matcher.matches("node\nexporter"));
        assert!(!matcher.matches("my-api") && !matcher.matches_empty());
        assert!(Matcher::new(MatchOp::NotEqual, "job", "api").unwrap().matches_empty());
    }

    #[test]
    fn a_pattern_that_explodes_is_refused() {
        assert!(Matcher::new(MatchOp::Regex, "a", ".{1000}{1000}").is_err());
        assert!(Matcher::new(MatchOp::Regex, "a", "(").is_err());
    }

    #[test]
    fn a_pattern_cannot_escape_the_anchors() {
        assert!(Matcher::new(MatchOp::Regex, "a", "a)|(b").is_err());
    }
}
