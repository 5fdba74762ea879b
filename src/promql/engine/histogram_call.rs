//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction` over the series of classic histograms, and over
//! native ones.

use std::collections::BTreeMap;

use annulus_shards::{Labels, LabelsBuilder};

use super::annotations::ForcedMonotonic;
use super::column::{Column, Series, merge_same_labels};
use super::eval::Evaluator;
use super::grouping::Ordinals;
use super::histogram_notes::{HistogramNote, Notes};
use super::histogram_quantile::{Bucket, Decrease, bucket_fraction, bucket_quantile, parse_upper_bound};
use super::node::{HistogramCall, HistogramQuestion, Node};
use super::number_format::format_open_metrics;
use super::steps::Steps;
use crate::promql::ast::Span;
use crate::promql::histogram::{FloatHistogram, histogram_fraction, histogram_quantile};
use crate::promql::value::QueryError;

/// The label that holds a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// The series of one histogram.
struct Histogram {
    labels: Labels,
    /// Upper bound and index of each series of a classic histogram.
    buckets: Vec<(f64, usize)>,
    /// The index of the series of native histograms.
    native: Option<usize>,
}

/// What a histogram is asked for at one step.
#[derive(Clone, Copy)]
enum Asked {
    Quantile(f64),
    Fraction(f64, f64),
}

/// What came of a histogram.
struct Answer {
    series: Series,
    forced: Option<ForcedMonotonic>,
    notes: Notes,
}

/// What is asked at each step.
enum Question {
    /// φ
    Quantile(Vec<f64>),
    /// φ at the only steps that ask for it; the label tells the results apart.
    OneOfQuantiles {
        quantile: f64,
        steps: Vec<usize>,
        label: String,
    },
    Fraction(Vec<f64>, Vec<f64>),
}

impl Evaluator<'_> {
    /// The value of a function of classic and native histograms.
    pub(super) fn histogram(&self, call: &HistogramCall, steps: &Steps) -> Result<Vec<Series>, QueryError> {
        let questions = self.questions(&call.question, steps)?;
        let series = self.vector(&call.node, steps)?;
        let histograms = self.histograms(&series, call.span);
        let mut results = Vec::new();
        for question in &questions {
            let answers: Vec<Result<_, QueryError>> = self.workers.map(histograms.len(), |index| {
                self.control.check()?;
                Ok(self.answer(question, &histograms[index], &series, steps))
            });
            for (answer, histogram) in answers.into_iter().zip(&histograms) {
                let Answer { series: one, forced, notes } = answer?;
                let name = self.annotated_name(&histogram.labels);
                self.tell(&notes, name, call.span);
                if let Some(forced) = forced {
                    self.annotate(|annotations| annotations.forced_monotonic(name, forced, call.span));
                }
                if !one.column.is_absent() {
                    self.budget.add(one.column.len() as u64)?;
                    results.push(one);
                }
            }
        }
        merge_same_labels(results)
    }

    fn questions(&self, question: &HistogramQuestion, steps: &Steps) -> Result<Vec<Question>, QueryError> {
        match question {
            HistogramQuestion::Quantile(node, span) => {
                Ok(vec![Question::Quantile(self.quantiles(node, *span, steps)?)])
            }
            HistogramQuestion::Quantiles(label, nodes) => {
                let mut questions = Vec::new();
                for (node, span) in nodes {
                    // A quantile may be another one at each step.
                    let mut distinct: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
                    for (step, quantile) in self.quantiles(node, *span, steps)?.iter().enumerate() {
                        distinct.entry(quantile.to_bits()).or_default().push(step);
                    }
                    questions.extend(distinct.into_iter().map(|(bits, steps)| Question::OneOfQuantiles {
                        quantile: f64::from_bits(bits),
                        steps,
                        label: label.clone(),
                    }));
                }
                Ok(questions)
            }
            HistogramQuestion::Fraction(lower, upper) => {
                Ok(vec![Question::Fraction(self.scalar(lower, steps)?, self.scalar(upper, steps)?)])
            }
        }
    }

    fn quantiles(&self, node: &Node, span: Span, steps: &Steps) -> Result<Vec<f64>, QueryError> {
        let quantiles = self.scalar(node, steps)?;
        for quantile in quantiles.iter().filter(|quantile| !(0.0..=1.0).contains(*quantile)) {
            self.annotate(|annotations| annotations.invalid_quantile(*quantile, span));
        }
        Ok(quantiles)
    }

    /// The series, put together by all labels but the bound.
    fn histograms(&self, series: &[Series], span: Span) -> Vec<Histogram> {
        let mut ordinals = Ordinals::default();
        let mut histograms: Vec<Histogram> = Vec::new();
        for (index, one) in series.iter().enumerate() {
            if one.column.has_histograms() {
                let histogram = entry(&mut ordinals, &mut histograms, one.labels.clone());
                histogram.native = Some(index);
                if one.column.present().next().is_none() {
                    continue;
                }
            }
            let bound = one.labels.get(BUCKET_LABEL).unwrap_or_default();
            let Some(upper_bound) = parse_upper_bound(bound) else {
                let name = self.annotated_name(&one.labels);
                self.annotate(|annotations| annotations.bad_bucket_label(name, bound, span));
                continue;
            };
            let labels = Labels::from_sorted(one.labels.iter().filter(|(name, _)| *name != BUCKET_LABEL));
            entry(&mut ordinals, &mut histograms, labels).buckets.push((upper_bound, index));
        }
        histograms
    }

    /// The metric's name for annotations; Prometheus leaves it out where names go at once.
    fn annotated_name<'a>(&self, labels: &'a Labels) -> &'a str {
        if self.late_names { labels.metric_name().unwrap_or_default() } else { "" }
    }

    fn answer(&self, question: &Question, histogram: &Histogram, series: &[Series], steps: &Steps) -> Answer {
        let mut notes = Notes::default();
        let mut forced: Option<ForcedMonotonic> = None;
        let mut buckets: Vec<Bucket> = Vec::new();
        let (only, extent) = match question {
            Question::OneOfQuantiles { steps, .. } => (Some(steps), steps[0]..steps[steps.len() - 1] + 1),
            _ => (None, 0..steps.count()),
        };
        let mut column = Column::absent_in(extent.clone());
        let all = only.is_none().then_some(extent).into_iter().flatten();
        for step in only.into_iter().flatten().copied().chain(all) {
            buckets.clear();
            buckets.extend(histogram.buckets.iter().filter_map(|(upper_bound, index)| {
                let count = series[*index].column.get(step)?;
                Some(Bucket { upper_bound: *upper_bound, count })
            }));
            let asked = match question {
                Question::Fraction(lower, upper) => Asked::Fraction(lower[step], upper[step]),
                Question::Quantile(quantiles) => Asked::Quantile(quantiles[step]),
                Question::OneOfQuantiles { quantile, .. } => Asked::Quantile(*quantile),
            };
            if let Some(native) = histogram.native.and_then(|index| series[index].column.histogram(step)) {
                if buckets.is_empty() {
                    column.set(step, native_answer(asked, native, &mut notes));
                } else {
                    notes.add(HistogramNote::MixedWithClassic);
                }
                continue;
            }
            if buckets.is_empty() {
                continue;
            }
            match asked {
                Asked::Fraction(lower, upper) => {
                    column.set(step, bucket_fraction(lower, upper, &mut buckets));
                }
                Asked::Quantile(quantile) => {
                    let (value, decrease) = bucket_quantile(quantile, &mut buckets);
                    column.set(step, value);
                    if let Some(decrease) = decrease {
                        add_decrease(&mut forced, decrease, steps.time_ms(step));
                    }
                }
            }
        }
        let mut labels = self.renamed(&histogram.labels);
        if let Question::OneOfQuantiles { quantile, label, .. } = question {
            let mut builder = LabelsBuilder::from_labels(&labels);
            builder.set(label, &format_open_metrics(*quantile));
            labels = builder.finish();
        }
        column.trim();
        Answer { series: Series { labels, drop_name: true, column }, forced, notes }
    }
}

/// The histogram of some labels, a new one if there is none.
fn entry<'a>(
    ordinals: &mut Ordinals,
    histograms: &'a mut Vec<Histogram>,
    labels: Labels,
) -> &'a mut Histogram {
    let number = ordinals.of(&labels);
    if number == histograms.len() {
        histograms.push(Histogram { labels, buckets: Vec::new(), native: None });
    }
    &mut histograms[number]
}

fn native_answer(asked: Asked, histogram: &FloatHistogram, notes: &mut Notes) -> f64 {
    let (estimate, nan_note) = match asked {
        Asked::Quantile(quantile) => {
            (histogram_quantile(quantile, histogram), HistogramNote::QuantileIsSkewed)
        }
        Asked::Fraction(lower, upper) => {
            (histogram_fraction(lower, upper, histogram), HistogramNote::FractionWithoutNan)
        }
    };
    if estimate.has_nan_observations {
        notes.add(nan_note);
    }
    if estimate.is_nan_observation {
        notes.add(HistogramNote::QuantileIsNan);
    }
    estimate.value
}

fn add_decrease(forced: &mut Option<ForcedMonotonic>, decrease: Decrease, time_ms: i64) {
    let new = ForcedMonotonic {
        steps_ms: (time_ms, time_ms),
        buckets: decrease.bounds,
        diff_max: decrease.diff_max,
        count: 1,
    };
    match forced {
        Some(forced) => forced.merge(&new),
        None => *forced = Some(new),
    }
}
