//! What a vector expression evaluates to: for each series one column, a value or nothing per step.
//!
//! Values are floats, in an array with a place per step. Native histograms, which are far rarer and larger, stand beside
//! it in a list that is empty for most columns. An operation that only knows floats passes over them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use ahash::RandomState;
use annulus_shards::{Labels, STALE_NAN_BITS, is_stale};

use crate::promql::histogram::FloatHistogram;
use crate::promql::value::{QueryError, SampleValue, SharedHistogram};

/// Fills the steps without a value. The stale marker says exactly that, and no operation on samples can yield it:
/// it is a signalling NaN, and reading samples turns every other NaN into the quiet one.
pub(super) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// The labels that go when an expression's value is no longer the metric's.
const METADATA_LABELS: [&str; 3] = ["__name__", "__type__", "__unit__"];

/// One value or nothing per step. Memory is taken only for the steps between the first and the last value, so that
/// many series of short life cost what they hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    /// The step of the first of `values`.
    first: usize,
    /// The floats; there is room for the steps of histograms too.
    values: Vec<f64>,
    /// The histograms and their steps, in order; none where there is a float.
    histograms: Vec<(usize, SharedHistogram)>,
}

impl Column {
    /// A column without values, with room at `count` steps.
    pub(super) fn absent(count: usize) -> Column {
        Column { first: 0, values: vec![ABSENT; count], histograms: Vec::new() }
    }

    /// A column without values, with room at the steps given.
    pub(super) fn absent_in(extent: Range<usize>) -> Column {
        Column { first: extent.start, values: vec![ABSENT; extent.len()], histograms: Vec::new() }
    }

    /// A column without values, with room where another column has it.
    pub(super) fn absent_within(other: &Column) -> Column {
        Column::absent_in(other.extent())
    }

    /// A column from one value per step; [`ABSENT`] where there is none.
    pub(super) fn from_values(values: Vec<f64>) -> Column {
        Column::new(values, Vec::new())
    }

    /// A column from one float per step, [`ABSENT`] where there is none, and histograms with their steps in order.
    pub(super) fn new(values: Vec<f64>, histograms: Vec<(usize, SharedHistogram)>) -> Column {
        let mut column = Column { first: 0, values, histograms };
        column.trim();
        column
    }

    /// The float of one step.
    #[inline]
    pub(super) fn get(&self, step: usize) -> Option<f64> {
        let value = *self.values.get(step.checked_sub(self.first)?)?;
        (!is_stale(value)).then_some(value)
    }

    /// Sets the float of one step, for which the column has room and no histogram.
    #[inline]
    pub(super) fn set(&mut self, step: usize, value: f64) {
        self.values[step - self.first] = value;
    }

    /// The histogram of one step.
    #[inline]
    pub(super) fn histogram(&self, step: usize) -> Option<&SharedHistogram> {
        let place = self.histograms.binary_search_by_key(&step, |(step, _)| *step).ok()?;
        Some(&self.histograms[place].1)
    }

    /// The value of one step.
    #[inline]
    pub(super) fn value(&self, step: usize) -> Option<SampleValue> {
        match self.get(step) {
            Some(value) => Some(SampleValue::Float(value)),
            None => self.histogram(step).cloned().map(SampleValue::Histogram),
        }
    }

    /// Sets the value of one step that has none and for which the column has room.
    pub(super) fn set_value(&mut self, step: usize, value: SampleValue) {
        match value {
            SampleValue::Float(value) => self.set(step, value),
            SampleValue::Histogram(histogram) => {
                let place = self.histograms.partition_point(|(other, _)| *other < step);
                self.histograms.insert(place, (step, histogram));
            }
        }
    }

    /// Whether any value is a histogram.
    #[inline]
    pub(super) fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// Step and histogram, for the steps that have one.
    pub(super) fn histograms(&self) -> impl Iterator<Item = (usize, &SharedHistogram)> + '_ {
        self.histograms.iter().map(|(step, histogram)| (*step, histogram))
    }

    /// The steps that have a value of either kind; those of floats first.
    pub(super) fn present_steps(&self) -> impl Iterator<Item = usize> + '_ {
        self.present().map(|(step, _)| step).chain(self.histograms.iter().map(|(step, _)| *step))
    }

    /// What it costs, in floats.
    pub(super) fn len(&self) -> usize {
        let sizes = self.histograms.iter().map(|(_, histogram)| histogram_points(histogram));
        self.values.len() + sizes.sum::<usize>()
    }

    /// The steps it has room for.
    pub(super) fn extent(&self) -> Range<usize> {
        self.first..self.first + self.values.len()
    }

    /// Whether no step has a value; such series do not exist in a result.
    pub(super) fn is_absent(&self) -> bool {
        self.histograms.is_empty() && self.values.iter().all(|value| is_stale(*value))
    }

    /// Step and float, for the steps that have one.
    pub(super) fn present(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let values = self.values.iter().copied().enumerate();
        values.filter(|(_, value)| !is_stale(*value)).map(|(index, value)| (self.first + index, value))
    }

    /// The same for some of the steps.
    #[inline]
    pub(super) fn present_in(&self, steps: Range<usize>) -> impl Iterator<Item = (usize, f64)> + '_ {
        let start = steps.start.clamp(self.first, self.first + self.values.len());
        let end = steps.end.clamp(start, self.first + self.values.len());
        let values = self.values[start - self.first..end - self.first].iter().copied().enumerate();
        values.filter(|(_, value)| !is_stale(*value)).map(move |(index, value)| (start + index, value))
    }

    /// Replaces each float by what the function makes of it; nothing removes the value. Histograms are removed.
    #[inline]
    pub(super) fn map(&mut self, function: impl FnMut(usize, f64) -> Option<f64>) {
        self.histograms.clear();
        self.map_floats(function);
        self.trim();
    }

    /// Replaces each value by what the functions make of it; nothing removes the value.
    #[inline]
    pub(super) fn map_both(
        &mut self,
        floats: impl FnMut(usize, f64) -> Option<f64>,
        mut histograms: impl FnMut(usize, &SharedHistogram) -> Option<SampleValue>,
    ) {
        self.map_floats(floats);
        for (step, histogram) in std::mem::take(&mut self.histograms) {
            match histograms(step, &histogram) {
                Some(SampleValue::Float(value)) => self.set(step, value),
                Some(SampleValue::Histogram(histogram)) => self.histograms.push((step, histogram)),
                None => {}
            }
        }
        self.trim();
    }

    /// Removes the values of some steps.
    pub(super) fn retain(&mut self, is_kept: impl Fn(usize) -> bool) {
        self.map_floats(|step, value| is_kept(step).then_some(value));
        self.histograms.retain(|(step, _)| is_kept(*step));
        self.trim();
    }

    #[inline]
    fn map_floats(&mut self, mut function: impl FnMut(usize, f64) -> Option<f64>) {
        for (index, value) in self.values.iter_mut().enumerate() {
            if !is_stale(*value) {
                *value = function(self.first + index, *value).unwrap_or(ABSENT);
            }
        }
    }

    /// The value of a one-step column at all of `count` steps.
    pub(super) fn spread(&self, count: usize) -> Column {
        let histogram = self.histogram(0);
        Column {
            first: 0,
            values: vec![self.get(0).unwrap_or(ABSENT); count],
            histograms: histogram
                .map_or_else(Vec::new, |one| (0..count).map(|step| (step, one.clone())).collect()),
        }
    }

    /// Takes over the values of another column; false when both have one at the same step.
    fn fill_from(&mut self, other: &Column) -> bool {
        let (mine, theirs) = (self.extent(), other.extent());
        let first = mine.start.min(theirs.start);
        let mut joined = Column::absent_in(first..mine.end.max(theirs.end));
        for (step, value) in self.present() {
            joined.set(step, value);
        }
        joined.histograms = std::mem::take(&mut self.histograms);
        if other.present_steps().any(|step| joined.get(step).is_some() || joined.histogram(step).is_some()) {
            return false;
        }
        for (step, value) in other.present() {
            joined.set(step, value);
        }
        joined.histograms.extend(other.histograms.iter().cloned());
        joined.histograms.sort_by_key(|(step, _)| *step);
        *self = joined;
        true
    }

    /// Gives up the room before the first and after the last value.
    pub(super) fn trim(&mut self) {
        let is_value = |value: &f64| !is_stale(*value);
        let mut end = self.values.iter().rposition(is_value).map_or(0, |last| last + 1);
        if let Some((last, _)) = self.histograms.last() {
            end = end.max(last - self.first + 1);
        }
        self.values.truncate(end);
        let mut absent = self.values.iter().position(is_value).unwrap_or(if end == 0 { 0 } else { end - 1 });
        if let Some((first, _)) = self.histograms.first() {
            absent = absent.min(first - self.first);
        }
        self.values.drain(..absent);
        self.first += absent;
        if self.values.len() < self.values.capacity() / 2 {
            self.values.shrink_to_fit();
        }
    }
}

/// What a histogram costs, in the unit in which a float with its time is one.
pub(super) fn histogram_points(histogram: &FloatHistogram) -> usize {
    let FloatHistogram { positive, negative, custom_values, .. } = histogram;
    let numbers = positive.spans.len() + positive.values.len() + negative.spans.len() + negative.values.len();
    (size_of::<FloatHistogram>() + size_of::<f64>() * (numbers + custom_values.len()))
        / (2 * size_of::<f64>())
}

/// One series of a vector.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Its labels.
    pub(super) labels: Labels,
    /// The name no longer fits the values and goes at the end of the query, if names are removed late.
    pub(super) drop_name: bool,
    /// Its values.
    pub(super) column: Column,
}

/// What a node of the plan evaluates to.
#[derive(Debug)]
pub(super) enum Value {
    /// One number per step.
    Scalar(Vec<f64>),
    /// A text.
    Text(String),
    /// A value or nothing per series and step.
    Vector(Vec<Series>),
}

impl Value {
    /// How many points it holds, for the budget.
    pub(super) fn points(&self) -> u64 {
        match self {
            Value::Scalar(values) => values.len() as u64,
            Value::Text(_) => 0,
            Value::Vector(series) => series.iter().map(|s| s.column.len() as u64).sum(),
        }
    }

    /// The value of a one-step evaluation at all of `count` steps.
    pub(super) fn spread(self, count: usize) -> Value {
        match self {
            Value::Scalar(values) => Value::Scalar(vec![values[0]; count]),
            Value::Text(text) => Value::Text(text),
            Value::Vector(mut series) => {
                for one in &mut series {
                    one.column = one.column.spread(count);
                }
                Value::Vector(series)
            }
        }
    }
}

/// The error for two series that became one.
pub(super) fn same_labelset() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

/// The metric's name, type and unit among the labels.
pub(super) fn metadata(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().filter(|(name, _)| METADATA_LABELS.contains(name))
}

/// The labels without the metric's name, type and unit.
pub(super) fn without_metadata(labels: &Labels) -> Labels {
    if !labels.iter().any(|(name, _)| METADATA_LABELS.contains(&name)) {
        return labels.clone();
    }
    Labels::from_sorted(labels.iter().filter(|(name, _)| !METADATA_LABELS.contains(name)))
}

/// Whether two series have the same labels.
pub(super) fn has_same_labels<'a>(labels: impl ExactSizeIterator<Item = &'a Labels>) -> bool {
    let mut seen = HashMap::with_capacity_and_hasher(labels.len(), RandomState::new());
    labels.into_iter().any(|labels| seen.insert(labels, ()).is_some())
}

/// Joins series of the same labels whose values do not meet at any step; the first one keeps its place.
///
/// # Errors
/// When two of them have a value at the same step.
pub(super) fn merge_same_labels(series: Vec<Series>) -> Result<Vec<Series>, QueryError> {
    if series.len() < 2 || !has_same_labels(series.iter().map(|one| &one.labels)) {
        return Ok(series);
    }
    let mut places: HashMap<Labels, usize, RandomState> = HashMap::default();
    let mut merged: Vec<Series> = Vec::with_capacity(series.len());
    for one in series {
        match places.entry(one.labels.clone()) {
            Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push(one);
            }
            Entry::Occupied(place) => {
                if !merged[*place.get()].column.fill_from(&one.column) {
                    return Err(same_labelset());
                }
            }
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(value: &str, values: &[f64]) -> Series {
        Series {
            labels: Labels::from_pairs([("a", value)]),
            drop_name: false,
            column: Column::from_values(values.to_vec()),
        }
    }

    #[test]
    fn series_of_the_same_labels_become_one_when_their_steps_do_not_meet() {
        let merged = merge_same_labels(vec![
            series("x", &[1.0, ABSENT]),
            series("y", &[5.0, 6.0]),
            series("x", &[ABSENT, 2.0]),
        ])
        .unwrap();
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].column, Column::from_values(vec![1.0, 2.0]));
        assert!(merge_same_labels(vec![series("x", &[1.0, ABSENT]), series("x", &[1.0, 2.0])]).is_err());
    }

    #[test]
    fn only_the_steps_between_the_first_and_the_last_value_cost_memory() {
        let mut column = Column::from_values(vec![ABSENT, 1.0, ABSENT, 3.0, ABSENT, ABSENT]);
        assert_eq!((column.extent(), column.len()), (1..4, 3));
        assert_eq!(
            (0..6).map(|step| column.get(step)).collect::<Vec<_>>(),
            [None, Some(1.0), None, Some(3.0), None, None]
        );
        column.map(|_, value| (value > 1.0).then_some(value));
        assert_eq!(column.extent(), 3..4);
        assert!(Column::from_values(vec![ABSENT; 3]).is_absent());
        let mut room = Column::absent_within(&column);
        room.set(3, 7.0);
        assert_eq!(room.present().collect::<Vec<_>>(), [(3, 7.0)]);
    }

    #[test]
    fn some_of_the_steps_may_lie_anywhere() {
        let column = Column::from_values(vec![ABSENT, ABSENT, 2.0, ABSENT, 4.0]);
        let steps = |steps: Range<usize>| column.present_in(steps).map(|(step, _)| step).collect::<Vec<_>>();
        assert_eq!((steps(0..9), steps(0..3), steps(3..5)), (vec![2, 4], vec![2], vec![4]));
        assert!(steps(0..2).is_empty() && steps(7..9).is_empty() && steps(3..4).is_empty());
    }

    #[test]
    fn histograms_stand_beside_floats() {
        let histogram = |count| SharedHistogram::new(FloatHistogram { count, ..FloatHistogram::default() });
        let mut column = Column::new(
            vec![ABSENT, ABSENT, 2.0, ABSENT, ABSENT],
            vec![(1, histogram(1.0)), (3, histogram(3.0))],
        );
        assert_eq!(column.extent(), 1..4);
        assert!(column.value(0).is_none() && column.value(2) == Some(SampleValue::Float(2.0)));
        assert_eq!(column.value(3), Some(SampleValue::Histogram(histogram(3.0))));
        assert_eq!(column.present_steps().collect::<Vec<_>>(), [2, 1, 3]);
        column.map_both(|_, _| None, |_, histogram| (histogram.count > 1.0).then_some(7.0.into()));
        assert_eq!((column.extent(), column.get(3), column.has_histograms()), (3..4, Some(7.0), false));
        let mut column = Column::new(vec![ABSENT; 2], vec![(1, histogram(1.0))]);
        assert!(!column.fill_from(&Column::from_values(vec![ABSENT, 1.0])));
        let mut column = Column::new(vec![ABSENT; 2], vec![(1, histogram(1.0))]);
        assert!(column.fill_from(&Column::from_values(vec![4.0])));
        assert_eq!((column.get(0), column.histogram(1).is_some()), (Some(4.0), true));
        column.map(|_, value| Some(value));
        assert!(!column.has_histograms());
    }

    #[test]
    fn a_quiet_nan_is_a_value() {
        let mut column = Column::absent(2);
        column.set(1, f64::NAN);
        assert_eq!(column.get(0), None);
        assert!(column.get(1).is_some_and(f64::is_nan));
        column.map(|_, value| Some(-value));
        assert_eq!(column.present().count(), 1);
    }

    #[test]
    fn name_type_and_unit_go_together() {
        let labels = Labels::from_pairs([("__name__", "m"), ("__type__", "counter"), ("job", "a")]);
        assert_eq!(without_metadata(&labels), Labels::from_pairs([("job", "a")]));
    }
}
