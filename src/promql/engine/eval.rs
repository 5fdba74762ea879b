//! The evaluation of a plan, node by node; the files beside hold the larger operations.
//!
//! Owns:     the budget and the annotations of one query.
//! Touches:  nothing but the series that were fetched for it.
//! Runs on:  a thread of the query's own, node by node; the series of a node in parallel on the workers.
//! Promises: the same answer whatever the number of threads.

use std::cmp::Ordering;
use std::sync::{Mutex, PoisonError};

use annulus_shards::Labels;

use super::annotations::Annotations;
use super::calendar::seconds_of;
use super::column::{ABSENT, Column, Series, Value, merge_same_labels, without_metadata};
use super::control::{Budget, Control};
use super::histogram_notes::Notes;
use super::label_functions::{LabelEdit, compare_by_labels};
use super::node::{Node, Sort};
use super::steps::Steps;
use super::workers::Workers;
use crate::promql::ast::Span;
use crate::promql::costs::CostCounter;
use crate::promql::histogram::{FloatHistogram, multiply};
use crate::promql::value::{QueryError, SampleValue, SharedHistogram};
use crate::source::SeriesChunks;

/// Evaluates the plan of one query.
pub(super) struct Evaluator<'q> {
    /// The series of each request of the plan.
    pub(super) fetched: &'q [Vec<SeriesChunks>],
    /// When to stop.
    pub(super) control: &'q Control,
    /// Where the series of a node are computed.
    pub(super) workers: &'q Workers,
    /// What may be held.
    pub(super) budget: Budget,
    /// Warnings and infos so far.
    pub(super) annotations: Mutex<Annotations>,
    /// Names that no longer fit are removed at the end of the query, not at once.
    pub(super) late_names: bool,
    /// Where the samples are counted, if they are.
    pub(super) costs: Option<&'q CostCounter>,
}

impl<'q> Evaluator<'q> {
    /// An evaluation that has not begun.
    pub(super) fn new(
        fetched: &'q [Vec<SeriesChunks>],
        control: &'q Control,
        workers: &'q Workers,
        points_max: u64,
        late_names: bool,
    ) -> Evaluator<'q> {
        let (budget, annotations) = (Budget::new(points_max), Mutex::default());
        Evaluator { fetched, control, workers, budget, annotations, late_names, costs: None }
    }

    /// The value of a node. What its operands held is free again afterwards.
    pub(super) fn value(&self, node: &Node, steps: &Steps) -> Result<Value, QueryError> {
        self.control.check()?;
        let held_before = self.budget.held();
        let value = self.operation(node, steps)?;
        self.budget.settle(held_before.saturating_add(value.points()))?;
        Ok(value)
    }

    /// The value of a node that is a vector.
    pub(super) fn vector(&self, node: &Node, steps: &Steps) -> Result<Vec<Series>, QueryError> {
        match self.value(node, steps)? {
            Value::Vector(series) => Ok(series),
            _ => Err(QueryError::Execution("expected an instant vector".to_owned())),
        }
    }

    /// The value of a node that is a scalar.
    pub(super) fn scalar(&self, node: &Node, steps: &Steps) -> Result<Vec<f64>, QueryError> {
        match self.value(node, steps)? {
            Value::Scalar(values) => Ok(values),
            _ => Err(QueryError::Execution("expected a scalar".to_owned())),
        }
    }

    /// The values of scalar nodes.
    pub(super) fn scalars(&self, nodes: &[Node], steps: &Steps) -> Result<Vec<Vec<f64>>, QueryError> {
        nodes.iter().map(|node| self.scalar(node, steps)).collect()
    }

    /// Adds an annotation.
    pub(super) fn annotate(&self, add: impl FnOnce(&mut Annotations)) {
        add(&mut self.annotations.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds what there is to say of histograms.
    pub(super) fn tell(&self, notes: &Notes, metric_name: &str, span: Span) {
        for note in notes.iter() {
            self.annotate(|annotations| annotations.histograms(note, metric_name, span));
        }
    }

    /// The labels of a series whose value is no longer the metric's.
    pub(super) fn renamed(&self, labels: &Labels) -> Labels {
        if self.late_names { labels.clone() } else { without_metadata(labels) }
    }

    fn operation(&self, node: &Node, steps: &Steps) -> Result<Value, QueryError> {
        let count = steps.count();
        match node {
            Node::Number(value) => Ok(Value::Scalar(vec![*value; count])),
            Node::Text(text) => Ok(Value::Text(text.clone())),
            Node::Time => Ok(Value::Scalar(steps.iter().map(|time_ms| time_ms as f64 / 1000.0).collect())),
            Node::Constant(node) => {
                let value = self.value(node, &steps.first())?;
                self.budget.allow(self.budget.held(), value.points().saturating_mul(count as u64))?;
                Ok(value.spread(count))
            }
            Node::Latest(_) | Node::LatestTime(_) | Node::Range(_) => {
                let lazy = self.lazy(node, steps)?;
                lazy.collect(self, steps).map(Value::Vector)
            }
            Node::StepTime(node) => {
                let seconds = |step| steps.time_ms(step) as f64 / 1000.0;
                let series = self.vector(node, steps)?;
                self.map_both(series, |step, _| Some(seconds(step)), |step, _| Some(seconds(step).into()))
            }
            Node::Absent(labels, node) => self.absent(labels, node, steps),
            Node::Nothing(node) => self.vector(node, steps).map(|_| Value::Vector(Vec::new())),
            Node::ToScalar(node) => Ok(Value::Scalar(only_values(&self.vector(node, steps)?, count))),
            Node::ToVector(node) => {
                let column = Column::from_values(self.scalar(node, steps)?);
                Ok(Value::Vector(vec![Series { labels: Labels::empty(), drop_name: false, column }]))
            }
            Node::ScalarPair(function, left, right) => {
                let (left, right) = (self.scalar(left, steps)?, self.scalar(right, steps)?);
                Ok(Value::Scalar(left.iter().zip(&right).map(|(a, b)| function(*a, *b)).collect()))
            }
            Node::Math(function, node, args) => {
                let args = self.scalars(args, steps)?;
                let args = Arguments::new(&args, count);
                self.map(node, steps, |step, value| function(value, args.at(step)))
            }
            Node::Date(function, Some(node)) => {
                self.map(node, steps, |_, value| Some(function(seconds_of(value))))
            }
            Node::Date(function, None) => {
                let values = steps.iter().map(|time_ms| function(time_ms / 1000)).collect();
                let column = Column::from_values(values);
                Ok(Value::Vector(vec![Series { labels: Labels::empty(), drop_name: false, column }]))
            }
            Node::Sort(sort, node) => self.sort(sort, node, steps),
            Node::Relabel(edit, node) => {
                let series = self.vector(node, steps)?;
                self.relabel(edit, series).map(Value::Vector)
            }
            Node::HistogramStat(stat, node) => {
                let series = self.vector(node, steps)?;
                self.map_both(series, |_, _| None, |_, histogram| Some(stat(histogram).into()))
            }
            Node::Histogram(call) => self.histogram(call, steps).map(Value::Vector),
            Node::Info(call) => self.info(call, steps).map(Value::Vector),
            Node::Negate(node) => match self.value(node, steps)? {
                Value::Scalar(values) => Ok(Value::Scalar(values.into_iter().map(|value| -value).collect())),
                Value::Vector(series) => self.map_both(
                    series,
                    |_, value| Some(-value),
                    |_, histogram| {
                        let mut negated = FloatHistogram::clone(histogram);
                        multiply(&mut negated, -1.0);
                        Some(negated.into())
                    },
                ),
                Value::Text(_) => Err(QueryError::Execution("a string cannot be negated".to_owned())),
            },
            Node::Aggregate(call) => self.aggregate(call, steps).map(Value::Vector),
            Node::Binary(call) => self.binary(call, steps),
            Node::Samples(_) => Err(QueryError::Execution("a range vector stands where none may".to_owned())),
        }
    }

    fn map(
        &self,
        node: &Node,
        steps: &Steps,
        function: impl Fn(usize, f64) -> Option<f64> + Sync,
    ) -> Result<Value, QueryError> {
        let series = self.vector(node, steps)?;
        self.map_series(series, function)
    }

    /// Applies a function to each float, and drops histograms; the series lose their names.
    pub(super) fn map_series(
        &self,
        series: Vec<Series>,
        function: impl Fn(usize, f64) -> Option<f64> + Sync,
    ) -> Result<Value, QueryError> {
        self.map_both(series, function, |_, _| None)
    }

    /// Applies functions to each float and to each histogram; the series lose their names.
    pub(super) fn map_both(
        &self,
        mut series: Vec<Series>,
        floats: impl Fn(usize, f64) -> Option<f64> + Sync,
        histograms: impl Fn(usize, &SharedHistogram) -> Option<SampleValue> + Sync,
    ) -> Result<Value, QueryError> {
        self.workers.update(&mut series, |one| {
            if self.control.check().is_err() {
                return;
            }
            one.column.map_both(&floats, &histograms);
            one.labels = self.renamed(&one.labels);
            one.drop_name = true;
        });
        self.control.check()?;
        series.retain(|one| !one.column.is_absent());
        merge_same_labels(series).map(Value::Vector)
    }

    /// Edits the labels of each series. Labels may grow, so their bytes count as points while they are made.
    fn relabel(&self, edit: &LabelEdit, mut series: Vec<Series>) -> Result<Vec<Series>, QueryError> {
        let edited = self.workers.map(series.len(), |index| {
            self.control.check()?;
            let labels = edit.apply(&series[index].labels)?;
            let bytes = labels.as_ref().map_or(0, Labels::size_bytes);
            self.budget.add((bytes / size_of::<f64>()) as u64)?;
            Ok::<_, QueryError>(labels)
        });
        for (one, labels) in series.iter_mut().zip(edited) {
            if let Some(labels) = labels? {
                one.labels = labels;
                one.drop_name &= !edit.sets_name();
            }
        }
        merge_same_labels(series)
    }

    fn absent(&self, labels: &Labels, node: &Node, steps: &Steps) -> Result<Value, QueryError> {
        let mut values = vec![1.0; steps.count()];
        for one in self.vector(node, steps)? {
            for step in one.column.present_steps() {
                values[step] = ABSENT;
            }
        }
        let column = Column::from_values(values);
        let series = Series { labels: labels.clone(), drop_name: false, column };
        Ok(Value::Vector(if series.column.is_absent() { Vec::new() } else { vec![series] }))
    }

    fn sort(&self, sort: &Sort, node: &Node, steps: &Steps) -> Result<Value, QueryError> {
        let mut series = self.vector(node, steps)?;
        if sort.labels.is_none() && series.iter().any(|one| one.column.has_histograms()) {
            // There is no order of histograms.
            series.iter_mut().for_each(|one| one.column.map(|_, value| Some(value)));
            series.retain(|one| !one.column.is_absent());
        }
        if !steps.is_single() {
            self.annotate(|annotations| annotations.sort_in_range_query(sort.span));
            return Ok(Value::Vector(series));
        }
        match &sort.labels {
            Some(names) => series.sort_by(|a, b| {
                let order = compare_by_labels(&a.labels, &b.labels, names);
                if sort.descending { order.reverse() } else { order }
            }),
            None => series.sort_by(|a, b| {
                let (a, b) = (a.column.get(0).unwrap_or(f64::NAN), b.column.get(0).unwrap_or(f64::NAN));
                compare_values(a, b, sort.descending)
            }),
        }
        Ok(Value::Vector(series))
    }
}

/// The order of values in a sorted result; NaN comes last in both directions.
pub(super) fn compare_values(a: f64, b: f64, descending: bool) -> Ordering {
    let by_value = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    a.is_nan().cmp(&b.is_nan()).then(if descending { by_value.reverse() } else { by_value })
}

/// The scalar arguments of a call, laid out step by step.
pub(super) struct Arguments {
    values: Vec<f64>,
    width: usize,
}

impl Arguments {
    /// From one column per argument.
    pub(super) fn new(columns: &[Vec<f64>], count: usize) -> Arguments {
        let values = (0..count).flat_map(|step| columns.iter().map(move |column| column[step])).collect();
        Arguments { values, width: columns.len() }
    }

    /// The arguments at one step.
    #[inline]
    pub(super) fn at(&self, step: usize) -> &[f64] {
        &self.values[step * self.width..(step + 1) * self.width]
    }
}

/// The value of the only series at each step; NaN where there is none or more than one.
fn only_values(series: &[Series], count: usize) -> Vec<f64> {
    let mut values = vec![f64::NAN; count];
    let mut seen = vec![0u8; count];
    for one in series {
        for (step, value) in one.column.present() {
            values[step] = if seen[step] == 0 { value } else { f64::NAN };
            seen[step] = 1;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_sorts_last_in_both_directions() {
        for (descending, expected) in [(false, [1.0, 2.0]), (true, [2.0, 1.0])] {
            let mut values = [f64::NAN, 2.0, 1.0];
            values.sort_by(|a, b| compare_values(*a, *b, descending));
            assert_eq!(values[..2], expected);
        }
    }

    #[test]
    fn a_scalar_needs_exactly_one_series() {
        let series = |values: [f64; 3]| Series {
            labels: Labels::empty(),
            drop_name: false,
            column: Column::from_values(values.to_vec()),
        };
        let values = only_values(&[series([1.0, ABSENT, 1.0]), series([2.0, ABSENT, ABSENT])], 3);
        assert!(values[0].is_nan() && values[1].is_nan());
        assert_eq!(values[2], 1.0);
    }

    #[test]
    fn a_query_that_nobody_waits_for_leaves_the_workers_to_others() {
        let (control, workers) = (Control::new(std::time::Duration::MAX), Workers::new(2));
        let evaluator = Evaluator::new(&[], &control, &workers, 1_000_000, false);
        let series = || {
            let one = |number: usize| Series {
                labels: Labels::from_pairs([("a", number.to_string().as_str())]),
                drop_name: false,
                column: Column::from_values(vec![1.0]),
            };
            (0..100).map(one).collect::<Vec<Series>>()
        };
        let edit = LabelEdit::join("b", "", vec!["a".to_owned()]).unwrap();
        assert!(evaluator.relabel(&edit, series()).is_ok());
        control.cancel();
        assert!(matches!(evaluator.relabel(&edit, series()), Err(QueryError::Canceled)));
        let mapped = evaluator.map_series(series(), |_, _| panic!("it was canceled"));
        assert!(matches!(mapped, Err(QueryError::Canceled)));
    }

    #[test]
    fn arguments_are_found_by_step() {
        let arguments = Arguments::new(&[vec![1.0, 2.0], vec![3.0, 4.0]], 2);
        assert_eq!((arguments.at(0), arguments.at(1)), (&[1.0, 3.0][..], &[2.0, 4.0][..]));
        assert!(Arguments::new(&[], 2).at(1).is_empty());
    }
}
