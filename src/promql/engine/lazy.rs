//! Series that are computed when they are asked for: selectors and range functions, each series decoded once for
//! all steps. Aggregations fold them as they come, so that the samples of a whole selector never lie in memory.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use annulus_shards::Labels;
use annulus_shards::chunk::ResetHint;

use super::borders::smooth;
use super::column::{
    Column, Series, has_same_labels, histogram_points, merge_same_labels, metadata, same_labelset,
};
use super::eval::{Arguments, Evaluator};
use super::histogram_borders::smooth_either;
use super::histogram_notes::{HistogramNote, Notes};
use super::node::{Node, RangeCall, RangeCheck, Ranged, Selector};
use super::samples::{Detail, Samples};
use super::steps::Steps;
use super::sweep::SweepBuffers;
use super::window::{Window, latest_times, latest_values, over_windows, over_windows_of_both};
use crate::promql::ast::{Borders, Span};
use crate::promql::histogram::FloatHistogram;
use crate::promql::value::{QueryError, SampleValue, SharedHistogram};
use crate::source::SeriesChunks;

/// About how many points are computed at once: few enough to lie in the processor's cache when they are used.
const BATCH_POINTS: usize = 1 << 18;

/// Fewest and most series that are computed at once.
const BATCH_SERIES: Range<usize> = 64..4096;

/// Name endings of counters.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

type Compute<'a> = Box<dyn Fn(usize, &mut Room) -> Result<Column, QueryError> + Sync + 'a>;
type Observe<'a> = Box<dyn Fn(usize, &Column) + 'a>;

/// What a thread uses again from series to series.
#[derive(Default)]
struct Room {
    samples: Samples,
    sweep: SweepBuffers,
}

/// Series of which only the labels are known yet.
pub(super) struct Lazy<'a> {
    labels: Vec<Labels>,
    drop_name: Vec<bool>,
    compute: Compute<'a>,
    /// Called in order for each series that has a value.
    observe: Option<Observe<'a>>,
    /// What it means when two of them have the same labels now that their names are gone.
    repeats: Repeats,
}

/// Whether series may have become one when their names went.
#[derive(Clone, Copy, PartialEq)]
enum Repeats {
    /// All labels differ.
    None,
    /// The series are joined where their steps do not meet.
    Join,
    /// An error, even if their steps do not meet.
    Refuse,
}

impl Lazy<'_> {
    /// The labels of every series, also of those that will have no value.
    pub(super) fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// Whether a series' name goes at the end.
    pub(super) fn drops_name(&self, index: usize) -> bool {
        self.drop_name[index]
    }

    /// Whether labels repeat, so that the series have to be collected before they are used.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.repeats != Repeats::None
    }

    /// Computes all series in parallel and passes those with a value on, some at a time, in order.
    pub(super) fn for_each_batch(
        &self,
        evaluator: &Evaluator<'_>,
        steps: &Steps,
        mut each: impl FnMut(Vec<(usize, Column)>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let usual = (BATCH_POINTS / steps.count().max(1)).clamp(BATCH_SERIES.start, BATCH_SERIES.end);
        let compute = &self.compute;
        let rooms = evaluator.workers.buffers();
        // Histograms are of any size, so the first series show how many of them may be computed at once.
        let (mut start, mut batch) = (0, BATCH_SERIES.start);
        while start < self.labels.len() {
            let end = (start + batch).min(self.labels.len());
            let held = evaluator.budget.held();
            let of_histograms = AtomicU64::new(0);
            let columns: Vec<Result<Option<Column>, QueryError>> =
                evaluator.workers.map_with(start..end, &rooms, |room, index| {
                    evaluator.control.check()?;
                    let column = compute(index, room)?;
                    if column.has_histograms() {
                        let points = column.len() as u64;
                        let all = of_histograms.fetch_add(points, Ordering::Relaxed).saturating_add(points);
                        evaluator.budget.allow(held, all)?;
                    }
                    Ok((!column.is_absent()).then_some(column))
                });
            let of_each = usize::try_from(of_histograms.into_inner()).unwrap_or(usize::MAX) / (end - start);
            batch = BATCH_POINTS.checked_div(of_each).map_or(usual, |batch| batch.clamp(1, usual));
            let mut present = Vec::with_capacity(columns.len());
            for (index, column) in (start..end).zip(columns) {
                let Some(column) = column? else { continue };
                if let Some(observe) = &self.observe {
                    observe(index, &column);
                }
                present.push((index, column));
            }
            each(present)?;
            start = end;
        }
        Ok(())
    }

    /// All series with a value.
    ///
    /// # Errors
    /// When two of them have the same labels.
    pub(super) fn collect(self, evaluator: &Evaluator<'_>, steps: &Steps) -> Result<Vec<Series>, QueryError> {
        let mut series = Vec::new();
        self.for_each_batch(evaluator, steps, |batch| {
            evaluator.budget.add(batch.iter().map(|(_, column)| column.len() as u64).sum())?;
            series.extend(batch.into_iter().map(|(index, column)| {
                let (labels, drop_name) = (self.labels[index].clone(), self.drop_name[index]);
                Series { labels, drop_name, column }
            }));
            Ok(())
        })?;
        match self.repeats {
            Repeats::None => Ok(series),
            Repeats::Join => merge_same_labels(series),
            Repeats::Refuse if has_same_labels(series.iter().map(|one| &one.labels)) => Err(same_labelset()),
            Repeats::Refuse => Ok(series),
        }
    }
}

/// The samples behind a range function.
pub(super) enum Input<'a> {
    /// Chunks of the store, the times wanted, and what of histograms.
    Chunks(&'a [SeriesChunks], (i64, i64), Detail),
    /// The values of a subquery.
    Columns(Vec<Series>, Steps),
}

impl Input<'_> {
    /// How many series.
    pub(super) fn len(&self) -> usize {
        match self {
            Input::Chunks(series, ..) => series.len(),
            Input::Columns(series, _) => series.len(),
        }
    }

    /// The labels of a series, and whether its name goes at the end.
    pub(super) fn labels(&self, index: usize) -> (&Labels, bool) {
        match self {
            Input::Chunks(series, ..) => (&series[index].labels, false),
            Input::Columns(series, _) => (&series[index].labels, series[index].drop_name),
        }
    }

    /// Whether all series have the same name, type and unit, so that they differ even without those.
    fn is_one_metric(&self) -> bool {
        let metadata = |index| metadata(self.labels(index).0);
        (1..self.len()).all(|index| metadata(index).eq(metadata(0)))
    }

    /// The samples of a series, without stale markers.
    pub(super) fn read(&self, index: usize, samples: &mut Samples) -> Result<(), QueryError> {
        match self {
            Input::Chunks(series, bounds_ms, detail) => {
                samples.read(&series[index].labels, &series[index].chunks, *bounds_ms, false, *detail)
            }
            Input::Columns(series, steps) => {
                samples.clear();
                for (step, value) in series[index].column.present() {
                    samples.push(steps.time_ms(step), value);
                }
                let histograms = series[index].column.histograms();
                let histograms = histograms.map(|(step, one)| (steps.time_ms(step), without_hint(one)));
                samples.histograms.extend(histograms);
                Ok(())
            }
        }
    }
}

impl Evaluator<'_> {
    /// The series of a node that reads samples.
    pub(super) fn lazy<'a>(&'a self, node: &'a Node, steps: &'a Steps) -> Result<Lazy<'a>, QueryError> {
        match node {
            Node::Latest(selector) if selector.borders == Borders::Smoothed => {
                let find =
                    |samples: &Samples, labels: &Labels| self.smoothed(selector, steps, samples, labels);
                Ok(self.latest(selector, steps, find, false))
            }
            Node::Latest(selector) => {
                let find = |samples: &Samples, _: &Labels| Ok(latest_values(samples, steps, selector.reach));
                Ok(self.latest(selector, steps, find, false))
            }
            Node::LatestTime(selector) => Ok(self.latest_times(selector, steps, true)),
            Node::Range(call) => self.range(call, steps),
            _ => Err(QueryError::Execution("expected a selector".to_owned())),
        }
    }

    /// The time of the latest sample of each series at each step.
    pub(super) fn latest_times<'a>(
        &'a self,
        selector: &'a Selector,
        steps: &'a Steps,
        renames: bool,
    ) -> Lazy<'a> {
        let find = |samples: &Samples, _: &Labels| Ok(latest_times(samples, steps, selector.reach));
        self.latest(selector, steps, find, renames)
    }

    /// The values of a `smoothed` selector.
    fn smoothed(
        &self,
        selector: &Selector,
        steps: &Steps,
        samples: &Samples,
        labels: &Labels,
    ) -> Result<Column, QueryError> {
        let (reach, control) = (selector.reach, self.control);
        if samples.histograms.is_empty() {
            return over_windows(samples, steps, reach, control, |_, window| smooth(window));
        }
        let mut notes = Notes::default();
        let (held, mut made) = (self.budget.held(), 0);
        let smooth = |_: usize, window: &Window<'_>| {
            let value = smooth_either(window, &mut notes);
            self.allow_histogram(held, &mut made, value.as_ref())?;
            Ok(value)
        };
        let column = over_windows_of_both(samples, steps, reach, control, smooth)?;
        self.tell(&notes, labels.metric_name().unwrap_or_default(), selector.span);
        Ok(column)
    }

    /// The value of each series at each step, as `find` makes it of the samples.
    fn latest<'a>(
        &'a self,
        selector: &'a Selector,
        steps: &'a Steps,
        find: impl Fn(&Samples, &Labels) -> Result<Column, QueryError> + Sync + 'a,
        renames: bool,
    ) -> Lazy<'a> {
        let series = &self.fetched[selector.request];
        let held_before = self.budget.held();
        let bounds_ms = selector.reach.bounds_ms(steps);
        // A stale marker ends a series, but is nothing to draw a line to.
        let keep_stale = selector.borders != Borders::Smoothed;
        let labels =
            |one: &SeriesChunks| if renames { self.renamed(&one.labels) } else { one.labels.clone() };
        let labels = self.workers.map(series.len(), |index| labels(&series[index]));
        Lazy {
            repeats: if renames && has_same_labels(labels.iter()) { Repeats::Join } else { Repeats::None },
            drop_name: vec![renames; labels.len()],
            labels,
            compute: Box::new(move |index, Room { samples, .. }| {
                let SeriesChunks { labels, chunks } = &series[index];
                samples.read(labels, chunks, bounds_ms, keep_stale, selector.detail)?;
                self.budget.allow(held_before, samples.points() as u64)?;
                let column = find(samples, labels)?;
                self.tally_latest(samples, &column, steps);
                Ok(column)
            }),
            observe: None,
        }
    }

    /// The series that a range function or a whole query reads.
    pub(super) fn input<'a>(&'a self, ranged: &'a Ranged, steps: &Steps) -> Result<Input<'a>, QueryError> {
        match ranged {
            Ranged::Selector(selector) => {
                let bounds_ms = selector.reach.bounds_ms(steps);
                Ok(Input::Chunks(&self.fetched[selector.request], bounds_ms, selector.detail))
            }
            Ranged::Subquery { node, steps: Some(steps), .. } => {
                Ok(Input::Columns(self.vector(node, steps)?, *steps))
            }
            Ranged::Subquery { steps: None, .. } => Ok(Input::Columns(Vec::new(), *steps)),
        }
    }

    fn range<'a>(&'a self, call: &'a RangeCall, steps: &'a Steps) -> Result<Lazy<'a>, QueryError> {
        let args = self.scalars(&call.args, steps)?;
        let input = Arc::new(self.input(&call.ranged, steps)?);
        if matches!(call.check, RangeCheck::SmoothingFactors) && input.len() > 0 {
            check_smoothing_factors(&args)?;
        }
        let held_before = self.budget.held();
        let names = self.workers.map(input.len(), |index| {
            let (labels, drops_name) = input.labels(index);
            let drops_name = drops_name || !call.keeps_name;
            (if drops_name { self.renamed(labels) } else { labels.clone() }, drops_name)
        });
        let (labels, drop_name): (Vec<Labels>, Vec<bool>) = names.into_iter().unzip();
        let observe = self.observer(call, Arc::clone(&input), &args);
        let args = Arguments::new(&args, steps.count());
        let reach = call.ranged.reach();
        Ok(Lazy {
            repeats: if !self.late_names && !input.is_one_metric() && has_same_labels(labels.iter()) {
                Repeats::Refuse
            } else {
                Repeats::None
            },
            labels,
            drop_name,
            compute: Box::new(move |index, Room { samples, sweep }| {
                input.read(index, samples)?;
                self.budget.allow(held_before, samples.points() as u64)?;
                self.tally_windows(samples, steps, reach);
                if !samples.histograms.is_empty() {
                    let name = input.labels(index).0.metric_name().unwrap_or_default();
                    return self.over_histograms(call, name, samples, steps, &args);
                }
                if let Some(function) = call.sweep {
                    return function.over(samples, steps, reach, self.control, sweep);
                }
                over_windows(samples, steps, reach, self.control, |step, window| {
                    (call.function)(window, args.at(step))
                })
            }),
            observe,
        })
    }

    /// Counts what the histograms of a series cost while they are made.
    fn allow_histogram(
        &self,
        held: u64,
        made: &mut u64,
        value: Option<&SampleValue>,
    ) -> Result<(), QueryError> {
        if let Some(SampleValue::Histogram(histogram)) = value {
            *made += histogram_points(histogram) as u64;
            self.budget.allow(held, *made)?;
        }
        Ok(())
    }

    /// A range function over a series that has histograms, and what is to be said about it.
    fn over_histograms(
        &self,
        call: &RangeCall,
        metric_name: &str,
        samples: &Samples,
        steps: &Steps,
        args: &Arguments,
    ) -> Result<Column, QueryError> {
        let mut notes = Notes::default();
        let (held, mut made) = (self.budget.held(), 0);
        let function = |step: usize, window: &Window<'_>| {
            let of_floats = || (call.function)(window, args.at(step)).map(SampleValue::Float);
            if window.histograms.is_empty() {
                return Ok(of_floats());
            }
            if let Some(function) = call.of_histograms {
                let value = function(window, args.at(step), &mut notes);
                self.allow_histogram(held, &mut made, value.as_ref())?;
                return Ok(value);
            }
            if window.times.is_empty() {
                return Ok(None);
            }
            notes.add(HistogramNote::IgnoredInRange);
            Ok(of_floats())
        };
        let column = over_windows_of_both(samples, steps, call.ranged.reach(), self.control, function)?;
        self.tell(&notes, metric_name, call.span);
        Ok(column)
    }

    fn observer<'a>(
        &'a self,
        call: &'a RangeCall,
        input: Arc<Input<'a>>,
        args: &[Vec<f64>],
    ) -> Option<Observe<'a>> {
        match call.check {
            RangeCheck::CounterName(span) => Some(self.counter_names(input, span)),
            RangeCheck::Quantile(span) => {
                let invalid = |(_, q): &(usize, f64)| !(0.0..=1.0).contains(q);
                let invalid: Vec<(usize, f64)> =
                    args.first()?.iter().copied().enumerate().filter(invalid).collect();
                Some(Box::new(move |_, column| {
                    for (_, quantile) in invalid.iter().filter(|(step, _)| column.get(*step).is_some()) {
                        self.annotate(|annotations| annotations.invalid_quantile(*quantile, span));
                    }
                }))
            }
            RangeCheck::None | RangeCheck::SmoothingFactors => None,
        }
    }

    fn counter_names<'a>(&'a self, input: Arc<Input<'a>>, span: Span) -> Observe<'a> {
        let seen: Mutex<HashSet<String>> = Mutex::default();
        Box::new(move |index, column| {
            // Histograms are known to be counters or not without regard to their names.
            if column.present().next().is_none() {
                return;
            }
            let name = input.labels(index).0.metric_name().unwrap_or_default();
            if name.is_empty() || COUNTER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
                return;
            }
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if !seen.contains(name) {
                seen.insert(name.to_owned());
                self.annotate(|annotations| annotations.possible_non_counter(name, span));
            }
        })
    }
}

/// A histogram as a subquery gives it. What it says about the sample before it is not about the step before it.
fn without_hint(histogram: &SharedHistogram) -> SharedHistogram {
    match histogram.reset_hint {
        ResetHint::Unknown | ResetHint::Gauge => histogram.clone(),
        ResetHint::Yes | ResetHint::No => {
            Arc::new(FloatHistogram { reset_hint: ResetHint::Unknown, ..FloatHistogram::clone(histogram) })
        }
    }
}

fn check_smoothing_factors(args: &[Vec<f64>]) -> Result<(), QueryError> {
    for (values, (name, short)) in args.iter().zip([("smoothing", "sf"), ("trend", "tf")]) {
        if let Some(value) = values.iter().find(|value| **value <= 0.0 || **value >= 1.0) {
            return Err(QueryError::Execution(format!(
                "invalid {name} factor. Expected: 0 < {short} < 1, got: {value:.6}"
            )));
        }
    }
    Ok(())
}
