//! Warnings and infos of a query, in Prometheus' words, each once and in a fixed order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::calendar::format_rfc3339;
use super::histogram_notes::HistogramNote;
use super::number_format::format_general;
use crate::promql::ast::Span;

/// How serious an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// The result may be wrong.
    Warning,
    /// The result may not be what was meant.
    Info,
}

/// Where buckets of classic histograms had to be made monotonic, over all steps and series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ForcedMonotonic {
    /// Time of the first and the last such step.
    pub(super) steps_ms: (i64, i64),
    /// The lowest and the highest bucket concerned.
    pub(super) buckets: (f64, f64),
    /// The largest decrease.
    pub(super) diff_max: f64,
    /// How often.
    pub(super) count: u64,
}

impl ForcedMonotonic {
    /// Joins two findings.
    pub(super) fn merge(&mut self, other: &ForcedMonotonic) {
        self.steps_ms.0 = self.steps_ms.0.min(other.steps_ms.0);
        self.steps_ms.1 = self.steps_ms.1.max(other.steps_ms.1);
        self.buckets.0 = self.buckets.0.min(other.buckets.0);
        self.buckets.1 = self.buckets.1.max(other.buckets.1);
        self.diff_max = self.diff_max.max(other.diff_max);
        self.count += other.count;
    }
}

#[derive(Debug, Clone, Copy)]
struct Place {
    span: Span,
    forced: Option<ForcedMonotonic>,
}

/// Collects annotations. Equal texts count as one, at the place that comes first in the query.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    texts: BTreeMap<(Level, String), Place>,
}

impl Annotations {
    /// φ lies outside of `[0, 1]`.
    pub(super) fn invalid_quantile(&mut self, quantile: f64, span: Span) {
        let got = format_general(quantile, None);
        self.add(Level::Warning, format!("quantile value should be between 0 and 1, got {got}"), span);
    }

    /// The ratio of `limit_ratio` lies outside of `[-1, 1]`.
    pub(super) fn invalid_ratio(&mut self, ratio: f64, capped: f64, span: Span) {
        let (got, to) = (format_general(ratio, None), format_general(capped, None));
        let text = format!("ratio value should be between -1 and 1, got {got}, capping to {to}");
        self.add(Level::Warning, text, span);
    }

    /// A series of a classic histogram has no usable upper bound.
    pub(super) fn bad_bucket_label(&mut self, metric_name: &str, value: &str, span: Span) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {value:?}");
        self.add(Level::Warning, with_metric_name(text, metric_name), span);
    }

    /// The order of a range query's series is always that of their labels.
    pub(super) fn sort_in_range_query(&mut self, span: Span) {
        let text = "sort is ineffective for range queries since results are always ordered by labels";
        self.add(Level::Warning, text.to_owned(), span);
    }

    /// `rate` or `increase` of something that is not named like a counter.
    pub(super) fn possible_non_counter(&mut self, metric_name: &str, span: Span) {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.add(Level::Info, format!("{text} {metric_name:?}"), span);
    }

    /// Buckets decreased where they must not.
    pub(super) fn forced_monotonic(&mut self, metric_name: &str, forced: ForcedMonotonic, span: Span) {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.insert(Level::Info, with_metric_name(text.to_owned(), metric_name), span, Some(forced));
    }

    /// Something about native histograms; of a metric, where that matters.
    pub(super) fn histograms(&mut self, note: HistogramNote, metric_name: &str, span: Span) {
        let (level, text) = note.text(metric_name);
        self.add(level, text, span);
    }

    fn add(&mut self, level: Level, text: String, span: Span) {
        self.insert(level, text, span, None);
    }

    fn insert(&mut self, level: Level, text: String, span: Span, forced: Option<ForcedMonotonic>) {
        match self.texts.entry((level, text)) {
            Entry::Vacant(entry) => {
                entry.insert(Place { span, forced });
            }
            Entry::Occupied(mut entry) => {
                let place = entry.get_mut();
                if span.start < place.span.start {
                    place.span = span;
                }
                if let (Some(mine), Some(other)) = (&mut place.forced, &forced) {
                    mine.merge(other);
                }
            }
        }
    }

    /// The texts of warnings and of infos, with their places in the query.
    pub(super) fn into_texts(self, query: &str) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for ((level, text), place) in self.texts {
            let details = place.forced.map(|forced| forced_details(&forced)).unwrap_or_default();
            let position = position(query, place.span);
            match level {
                Level::Warning => warnings.push(format!("PromQL warning: {text}{details} ({position})")),
                Level::Info => infos.push(format!("PromQL info: {text}{details} ({position})")),
            }
        }
        (warnings, infos)
    }
}

fn with_metric_name(text: String, metric_name: &str) -> String {
    if metric_name.is_empty() { text } else { format!("{text} for metric name {metric_name:?}") }
}

fn forced_details(forced: &ForcedMonotonic) -> String {
    format!(
        ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
        format_general(forced.buckets.0, None),
        format_general(forced.buckets.1, None),
        format_general(forced.diff_max, Some(2)),
        forced.count,
        format_rfc3339(forced.steps_ms.0),
        format_rfc3339(forced.steps_ms.1),
    )
}

/// Line and column, counted from 1; the column counts bytes, as in Prometheus.
fn position(query: &str, span: Span) -> String {
    let before = query.as_bytes().get(..span.start as usize).unwrap_or_default();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: u32) -> Span {
        Span { start, end: start + 1 }
    }

    #[test]
    fn equal_texts_are_told_once_at_their_first_place() {
        let mut annotations = Annotations::default();
        annotations.possible_non_counter("foo", at(9));
        annotations.possible_non_counter("foo", at(5));
        annotations.invalid_quantile(1.5, at(0));
        let (warnings, infos) = annotations.into_texts("rate(foo)\n+ rate(foo)");
        assert_eq!(warnings, ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:1)"]);
        assert_eq!(
            infos,
            ["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \
              \"foo\" (1:6)"]
        );
    }

    #[test]
    fn positions_count_lines_and_columns_from_one() {
        assert_eq!(position("a\nbc", at(3)), "2:2");
        assert_eq!(position("a", at(99)), "1:1");
    }

    #[test]
    fn forced_monotonicity_is_summed_up_over_steps() {
        let mut annotations = Annotations::default();
        for time_ms in [60_000, 0] {
            let forced = ForcedMonotonic {
                steps_ms: (time_ms, time_ms),
                buckets: (0.1, 5.0),
                diff_max: 10.0,
                count: 1,
            };
            annotations.forced_monotonic("", forced, at(0));
        }
        let (_, infos) = annotations.into_texts("x");
        assert!(
            infos[0].ends_with(
                ", from buckets 0.1 to 5, with a max diff of 10, over 2 samples from 1970-01-01T00:00:00Z to \
                 1970-01-01T00:01:00Z (1:1)"
            ),
            "{infos:?}"
        );
    }
}
