//! Functions that look at labels: `label_replace`, `label_join`, sorting by labels, the labels of `absent`, and how
//! label sets are written in error texts.

use std::cmp::Ordering;
use std::fmt::Write as _;

use annulus_shards::labels::{LABEL_BYTES_MAX, METRIC_NAME};
use annulus_shards::{Labels, LabelsBuilder, MatchOp, Matcher};
use regex::Regex;

use crate::promql::value::QueryError;

/// Larger compiled patterns are refused, as in matchers.
const REGEX_BYTES_MAX: usize = 10 << 20;

/// How a label is made from others.
#[derive(Debug)]
pub(super) enum LabelEdit {
    /// `label_replace`: where the source matches, the target becomes the expanded replacement.
    Replace {
        /// Fully anchored.
        pattern: Regex,
        /// With `$1`, `${name}`.
        replacement: String,
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
    /// A `label_replace` from its texts.
    pub(super) fn replace(
        target: &str,
        replacement: &str,
        source: &str,
        pattern: &str,
    ) -> Result<LabelEdit, QueryError> {
        let compiled =
            regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).size_limit(REGEX_BYTES_MAX).build();
        let pattern = compiled.map_err(|_| {
            QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
        })?;
        check_name(target, "destination", "label_replace")?;
        let (replacement, source, target) = (replacement.to_owned(), source.to_owned(), target.to_owned());
        Ok(LabelEdit::Replace { pattern, replacement, source, target })
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
                let Some(captures) = pattern.captures(source) else { return Ok(None) };
                let groups_max = replacement.matches('$').count();
                check_length(replacement.len().saturating_add(source.len().saturating_mul(groups_max)))?;
                let mut value = String::new();
                captures.expand(replacement, &mut value);
                (target, value)
            }
            LabelEdit::Join { separator, sources, target } => {
                let values: Vec<&str> = sources.iter().map(value_of).collect();
                check_length(values.iter().map(|value| value.len() + separator.len()).sum())?;
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
fn check_length(bytes: usize) -> Result<(), QueryError> {
    if bytes > LABEL_BYTES_MAX {
        return Err(QueryError::Execution(format!(
            "a label value of up to {bytes} bytes would be longer than {LABEL_BYTES_MAX} bytes"
        )));
    }
    Ok(())
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

    #[test]
    fn a_replacement_needs_a_full_match() {
        let edit = LabelEdit::replace("dst", "$1-${2}", "src", "a(.)c(.*)").unwrap();
        assert_eq!(apply(&edit, &[("src", "abcd")]).unwrap().get("dst"), Some("b-d"));
        assert_eq!(apply(&edit, &[("src", "xabc")]), None);
    }

    #[test]
    fn a_joined_name_is_set_on_purpose() {
        let edit = LabelEdit::join("__name__", "_", vec!["a".into(), "b".into()]).unwrap();
        assert_eq!(apply(&edit, &[("a", "x"), ("b", "y")]).unwrap().metric_name(), Some("x_y"));
        assert!(edit.sets_name());
    }

    #[test]
    fn a_label_that_grows_without_bound_is_an_error() {
        let edit = LabelEdit::replace("dst", &"$1".repeat(1000), "src", "(.*)").unwrap();
        let labels = Labels::from_pairs([("src", "x".repeat(10_000).as_str())]);
        assert!(edit.apply(&labels).is_err());
        let edit = LabelEdit::join("dst", "", vec!["src".to_owned(); 1000]).unwrap();
        assert!(edit.apply(&labels).is_err());
    }

    #[test]
    fn bad_patterns_and_names_are_errors() {
        assert!(LabelEdit::replace("dst", "", "src", "(").is_err());
        assert!(LabelEdit::replace("", "", "src", ".*").is_err());
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
