//! What is said about native histograms in a query, in Prometheus' words.

use super::annotations::Level;
use crate::promql::ast::BinaryOp;

/// One thing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HistogramNote {
    /// A range holds floats and histograms.
    MixedRange,
    /// A group holds floats and histograms.
    MixedGroup,
    /// Exponential and custom buckets meet.
    MixedBuckets,
    /// A histogram stands beside the buckets of a classic one of the same labels.
    MixedWithClassic,
    /// A gauge is treated as a counter.
    NotCounter,
    /// A counter is treated as a gauge.
    NotGauge,
    /// A function of floats met histograms too.
    IgnoredInRange,
    /// An aggregation of floats met histograms.
    IgnoredInAggregation(&'static str),
    /// One histogram began anew and the other did not.
    HintsCollide(Combination),
    /// Only the custom bounds that all histograms have are left.
    BoundsReconciled(Combination),
    /// An operator that does not apply to these kinds of values.
    IncompatibleTypes(BinaryOp, Kind, Kind),
    /// An operator met exponential and custom buckets.
    IncompatibleBuckets(BinaryOp),
    /// A quantile is one of the observations of NaN.
    QuantileIsNan,
    /// A quantile is higher for the observations of NaN.
    QuantileIsSkewed,
    /// A fraction leaves out the observations of NaN.
    FractionWithoutNan,
}

/// What histograms are combined for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combination {
    /// `+`, and what a counter had before a reset.
    Addition,
    /// `-`, and changes over time.
    Subtraction,
    /// Sums and averages.
    Aggregation,
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number.
    Float,
    /// A native histogram.
    Histogram,
}

impl HistogramNote {
    /// How serious it is, and its text about a metric.
    pub(super) fn text(self, metric_name: &str) -> (Level, String) {
        let about = |text: &str| format!("{text} {metric_name:?}");
        let known = |text: &str| match metric_name {
            "" => text.to_owned(),
            name => format!("{text} for metric name {name:?}"),
        };
        let text = match self {
            HistogramNote::MixedRange => about("encountered a mix of histograms and floats for metric name"),
            HistogramNote::MixedGroup => {
                "encountered a mix of histograms and floats for aggregation".to_owned()
            }
            HistogramNote::MixedBuckets => about(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name",
            ),
            HistogramNote::MixedWithClassic => {
                known("vector contains a mix of classic and native histograms")
            }
            HistogramNote::NotCounter => about("this native histogram metric is not a counter:"),
            HistogramNote::NotGauge => about("this native histogram metric is not a gauge:"),
            HistogramNote::IgnoredInRange => {
                about("ignored histograms in a range containing both floats and histograms for metric name")
            }
            HistogramNote::IgnoredInAggregation(name) => format!("ignored histogram in {name} aggregation"),
            HistogramNote::HintsCollide(combination) => {
                format!("conflicting counter resets during histogram {}", combination.name())
            }
            HistogramNote::BoundsReconciled(combination) => {
                format!("mismatched custom buckets were reconciled during {}", combination.name())
            }
            HistogramNote::IncompatibleTypes(op, left, right) => {
                let (op, left, right) = (op.as_str(), left.name(), right.name());
                format!(
                    "incompatible sample types encountered for binary operator {op:?}: {left} {op} {right}"
                )
            }
            HistogramNote::IncompatibleBuckets(op) => {
                format!("incompatible bucket layout encountered for binary operator {}", op.as_str())
            }
            HistogramNote::QuantileIsNan => {
                known("input to histogram_quantile has NaN observations, result is NaN")
            }
            HistogramNote::QuantileIsSkewed => {
                known("input to histogram_quantile has NaN observations, result is skewed higher")
            }
            HistogramNote::FractionWithoutNan => known(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions",
            ),
        };
        (self.level(), text)
    }

    fn level(self) -> Level {
        match self {
            HistogramNote::MixedRange
            | HistogramNote::MixedGroup
            | HistogramNote::MixedBuckets
            | HistogramNote::MixedWithClassic
            | HistogramNote::NotCounter
            | HistogramNote::NotGauge
            | HistogramNote::HintsCollide(_)
            | HistogramNote::IncompatibleBuckets(_) => Level::Warning,
            HistogramNote::IgnoredInRange
            | HistogramNote::IgnoredInAggregation(_)
            | HistogramNote::BoundsReconciled(_)
            | HistogramNote::IncompatibleTypes(..)
            | HistogramNote::QuantileIsNan
            | HistogramNote::QuantileIsSkewed
            | HistogramNote::FractionWithoutNan => Level::Info,
        }
    }
}

impl Combination {
    fn name(self) -> &'static str {
        match self {
            Combination::Addition => "addition",
            Combination::Subtraction => "subtraction",
            Combination::Aggregation => "aggregation",
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Float => "float",
            Kind::Histogram => "histogram",
        }
    }
}

/// What there is to say, each once; seldom more than one thing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Notes(Vec<HistogramNote>);

impl Notes {
    /// Adds something to say.
    pub(super) fn add(&mut self, note: HistogramNote) {
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    /// Whether there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all of others.
    pub(super) fn join(&mut self, others: Notes) {
        others.0.into_iter().for_each(|note| self.add(note));
    }

    /// All there is to say.
    pub(super) fn iter(&self) -> impl Iterator<Item = HistogramNote> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_prometheus() {
        let text = |note: HistogramNote, name| note.text(name).1;
        let types = HistogramNote::IncompatibleTypes(BinaryOp::Add, Kind::Histogram, Kind::Float);
        assert_eq!(
            text(types, ""),
            "incompatible sample types encountered for binary operator \"+\": histogram + float"
        );
        assert_eq!(
            text(HistogramNote::MixedRange, "m"),
            "encountered a mix of histograms and floats for metric name \"m\""
        );
        assert_eq!(
            text(HistogramNote::QuantileIsNan, ""),
            "input to histogram_quantile has NaN observations, result is NaN"
        );
        assert_eq!(
            text(HistogramNote::HintsCollide(Combination::Aggregation), ""),
            "conflicting counter resets during histogram aggregation"
        );
    }

    #[test]
    fn a_thing_is_said_once() {
        let mut notes = Notes::default();
        notes.add(HistogramNote::NotGauge);
        notes.add(HistogramNote::NotGauge);
        let mut more = notes.clone();
        more.add(HistogramNote::MixedRange);
        notes.join(more);
        assert_eq!(notes.iter().collect::<Vec<_>>(), [HistogramNote::NotGauge, HistogramNote::MixedRange]);
    }
}
