//! Functions that look at labels: `label_replace`, `label_join`, sorting by labels, the labels of `absent`, and how
//! label sets are written in error texts.

use std::cmp::Ordering;
use std::fmt::Write as _;

use annulus_shards::labels::{LABEL_BYTES_MAX, METRIC_NAME};
use annulus_shards::matcher::{CapturePattern, MatcherError, Template};
use annulus_shards::{Labels, LabelsBuilder, MatchOp, Matcher};

use crate::promql::value::QueryError;
use crate::source::SourceError;

/// What one match may cost, as [`CapturePattern::cost`] counts it. A match cannot be stopped, so this is also how long a
/// query goes on when its time is up: a few seconds.
const MATCH_COST_MAX: usize = 1 << 33;

/// How a label is made from others.
#[derive(Debug)]
pub(super) enum LabelEdit {
    /// `label_replace`: where the source matches, the target becomes the expanded replacement.
    Replace {
        /// Fully anchored.
        pattern: CapturePattern,
        /// With `$1`, `${name}`.
        replacement: Template,
        /// The label that is matched.
        source: String,
        /// The label that is set.
        target: String,
    },
    /// `label_join`: the target becomes the joined sources.
    Join {
        /// Stands between the values.
        separator: String,
        /// The labels that are joined.
        sources: Vec<String>,
        /// The label that is set.
        target: String,
    },
}

impl LabelEdit {
    /// A `label_replace` from its texts and its pattern.
    pub(super) fn replace(
        target: &str,
        replacement: &str,
        source: &str,
        pattern: CapturePattern,
    ) -> Result<LabelEdit, QueryError> {
        check_name(target, "destination", "label_replace")?;
        let replacement = Template::new(replacement, &pattern);
        Ok(LabelEdit::Replace { pattern, replacement, source: source.to_owned(), target: target.to_owned() })
    }

    /// A `label_join` from its texts.
    pub(super) fn join(target: &str, separator: &str, sources: Vec<String>) -> Result<LabelEdit, QueryError> {
        for source in &sources {
            check_name(source, "source", "label_join")?;
        }
        check_name(target, "destination", "label_join")?;
        Ok(LabelEdit::Join { separator: separator.to_owned(), sources, target: target.to_owned() })
    }

    /// The labels of a series after the edit; nothing when it does not apply.
    ///
    /// # Errors
    /// When a label would be longer than labels may be.
    pub(super) fn apply(&self, labels: &Labels) -> Result<Option<Labels>, QueryError> {
        let value_of = |name: &String| labels.get(name).unwrap_or_default();
        let (target, value) = match self {
            LabelEdit::Replace { pattern, replacement, source, target } => {
                let source = value_of(source);
                if pattern.cost(source.len()) > MATCH_COST_MAX {
                    return Err(QueryError::Execution(format!(
                        "the regular expression in label_replace() is too large for a value of {} bytes",
                        source.len()
                    )));
                }
                let Some(captures) = pattern.captures(source) else { return Ok(None) };
                (target, replacement.expand(&captures, LABEL_BYTES_MAX).ok_or_else(too_long)?)
            }
            LabelEdit::Join { separator, sources, target } => {
                let values: Vec<&str> = sources.iter().map(value_of).collect();
                if values.iter().map(|value| value.len() + separator.len()).sum::<usize>() > LABEL_BYTES_MAX {
                    return Err(too_long());
                }
                (target, values.join(separator))
            }
        };
        let mut builder = LabelsBuilder::from_labels(labels);
        builder.set(target, &value);
        Ok(Some(builder.finish()))
    }

    /// Whether it sets the metric's name: a name that is set on purpose stays.
    pub(super) fn sets_name(&self) -> bool {
        let (LabelEdit::Replace { target, .. } | LabelEdit::Join { target, .. }) = self;
        target == METRIC_NAME
    }
}

/// A few repeated groups make a label of any length, so that it has to be known before it is made.
fn too_long() -> QueryError {
    QueryError::Execution(format!("a label value would be longer than {LABEL_BYTES_MAX} bytes"))
}

/// The pattern of a `label_replace`.
pub(super) fn replace_pattern(text: &str) -> Result<CapturePattern, QueryError> {
    CapturePattern::new(text).map_err(|error| match error {
        MatcherError::Syntax(_) | MatcherError::TooLarge { .. } => {
            QueryError::Execution(format!("invalid regular expression in label_replace(): {text}"))
        }
        // There may be room later.
        MatcherError::NoRoom { .. } => SourceError::Unavailable(error.to_string()).into(),
    })
}

/// Any text but the empty one is a label name.
fn check_name(name: &str, what: &str, function: &str) -> Result<(), QueryError> {
    if name.is_empty() {
        return Err(QueryError::Execution(format!("invalid {what} label name in {function}(): {name}")));
    }
    Ok(())
}

/// The labels that `absent` gives its one series: those which the selector fixes by equality, once each.
pub(super) fn absent_labels(matchers: &[Matcher]) -> Labels {
    let mut builder = LabelsBuilder::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.finish()
}

/// Order by the values of the labels named, numbers within them compared as numbers; then by all labels.
pub(super) fn compare_by_labels(a: &Labels, b: &Labels, names: &[String]) -> Ordering {
    names
        .iter()
        .map(|name| natural_order(a.get(name).unwrap_or_default(), b.get(name).unwrap_or_default()))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.cmp(b))
}

/// Compares runs of digits as numbers and other runs as text; a number too large for that is text.
fn natural_order(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() && !b.is_empty() {
        let ((a_run, a_rest), (b_run, b_rest)) = (split_run(a), split_run(b));
        let order = match (a_run.parse::<i64>(), b_run.parse::<i64>()) {
            (Ok(a_number), Ok(b_number)) => a_number.cmp(&b_number),
            _ => a_run.cmp(b_run),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    a.len().cmp(&b.len())
}

fn split_run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    text.split_at(text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len()))
}

/// `{a="1", b="2"}`, as Prometheus writes a label set.
pub(super) fn format_labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in labels.enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let plain = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
            && !name.starts_with(|c: char| c.is_ascii_digit());
        // Writing to a string does not fail.
        let _ = if plain {
            write!(text, "{separator}{name}={value:?}")
        } else {
            write!(text, "{separator}{name:?}={value:?}")
        };
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(edit: &LabelEdit, pairs: &[(&str, &str)]) -> Option<Labels> {
        edit.apply(&Labels::from_pairs(pairs.iter().copied())).unwrap()
    }

    fn replace(
        target: &str,
        replacement: &str,
        source: &str,
        pattern: &str,
    ) -> Result<LabelEdit, QueryError> {
        LabelEdit::replace(target, replacement, source, replace_pattern(pattern)?)
    }

    #[test]
    fn a_replacement_needs_a_full_match() {
        let edit = replace("dst", "$1-${2}", "src", "a(.)c(.*)").unwrap();
        assert_eq!(apply(&edit, &[("src", "abcd")]).unwrap().get("dst"), Some("b-d"));
        assert_eq!(apply(&edit, &[("src", "xabc")]), None);
    }

    #[test]
    fn patterns_and_replacements_are_read_as_go_reads_them() {
        let replaced = |replacement: &str, pattern: &str, value: &str| {
            let edit = replace("dst", replacement, "src", pattern).unwrap();
            apply(&edit, &[("src", value)]).map(|labels| labels.get("dst").unwrap_or("").to_owned())
        };
        assert_eq!(replaced("$1", r"(\w+)", "é"), None);
        assert_eq!(replaced("$1", r"(\Qa.b\E)", "axb"), None);
        assert_eq!(replaced("$1", "([a&&b]+)", "a&b").as_deref(), Some("a&b"));
        assert_eq!(replaced("${1 }", "(.*)", "a").as_deref(), Some("${1 }"));
        assert_eq!(replaced("$1a", "(?P<1a>.*)", "b").as_deref(), Some("b"));
        for pattern in [r"\u{61}", "a{1001}"] {
            let error = replace("dst", "", "src", pattern).unwrap_err().to_string();
            assert_eq!(error, format!("invalid regular expression in label_replace(): {pattern}"));
        }
    }

    #[test]
    fn a_large_pattern_is_not_matched_with_a_long_text() {
        let edit = replace("dst", "$1", "src", r"(.*(\pL{40}|\pN).*)").unwrap();
        let labels = |bytes: usize| Labels::from_pairs([("src", "1".repeat(bytes).as_str())]);
        assert!(edit.apply(&labels(10)).unwrap().is_some());
        let error = edit.apply(&labels(1 << 20)).unwrap_err().to_string();
        assert!(error.contains("too large for a value of 1048576 bytes"), "{error}");
    }

    #[test]
    fn a_joined_name_is_set_on_purpose() {
        let edit = LabelEdit::join("__name__", "_", vec!["a".into(), "b".into()]).unwrap();
        assert_eq!(apply(&edit, &[("a", "x"), ("b", "y")]).unwrap().metric_name(), Some("x_y"));
        assert!(edit.sets_name());
    }

    #[test]
    fn a_label_that_grows_without_bound_is_an_error() {
        let edit = replace("dst", &"$1".repeat(1000), "src", "(.*)").unwrap();
        let labels = Labels::from_pairs([("src", "x".repeat(10_000).as_str())]);
        assert!(edit.apply(&labels).is_err());
        let edit = LabelEdit::join("dst", "", vec!["src".to_owned(); 1000]).unwrap();
        assert!(edit.apply(&labels).is_err());
    }

    #[test]
    fn bad_patterns_and_names_are_errors() {
        assert!(replace("dst", "", "src", "(").is_err());
        assert!(replace("", "", "src", ".*").is_err());
        assert!(LabelEdit::join("dst", "", vec![String::new()]).is_err());
    }

    #[test]
    fn absent_keeps_what_equality_fixes_once() {
        let matcher = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
        let labels = absent_labels(&[
            matcher(MatchOp::Equal, METRIC_NAME, "up"),
            matcher(MatchOp::Equal, "job", "a"),
            matcher(MatchOp::Equal, "twice", "a"),
            matcher(MatchOp::Equal, "twice", "b"),
            matcher(MatchOp::Regex, "instance", ".*"),
        ]);
        assert_eq!(labels, Labels::from_pairs([("job", "a")]));
    }

    #[test]
    fn numbers_in_labels_sort_as_numbers() {
        assert_eq!(natural_order("cpu2", "cpu10"), Ordering::Less);
        assert_eq!(natural_order("cpu", "cpu1"), Ordering::Less);
        assert_eq!(natural_order("1.2", "1.10"), Ordering::Less);
        assert_eq!(natural_order("b1", "a2"), Ordering::Greater);
    }
}
