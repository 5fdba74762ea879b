//! Aggregations that fold each group to one value per step: `sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`,
//! `stdvar`, `quantile`. Series are folded in their order, one by one, as they are computed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use annulus_shards::{Labels, is_stale};

use super::column::{ABSENT, Column, Series};
use super::eval::Evaluator;
use super::grouping::LabelChoice;
use super::histogram_group::{Fold, HistogramCell};
use super::histogram_notes::{HistogramNote, Notes};
use super::lazy::Lazy;
use super::math_functions::{larger, smaller};
use super::node::{AggregateCall, Node};
use super::quantile::quantile;
use super::steps::Steps;
use crate::promql::ast::AggregateOp;
use crate::promql::kahan::{Average, KahanSum};
use crate::promql::value::QueryError;

/// Steps of a group that are worked at together.
const RUN_STEPS: usize = 128;

/// Fewer points than this are not worth waking other threads for.
const PARALLEL_POINTS_MIN: usize = 1 << 13;

/// So many series are taken in at once, if they are all there.
const READY_BATCH: usize = 4096;

/// The state of one group at one step.
trait Cell: Default + Clone + Send {
    /// Takes a value in.
    fn add(&mut self, value: f64);
    /// The result, if there was a value.
    fn result(self, param: f64) -> Option<f64>;
    /// What it makes of histograms.
    const HISTOGRAMS: Histograms;
    /// Whether it holds on to each value, which then counts against the budget.
    const KEEPS_VALUES: bool = false;
}

/// What an aggregation makes of native histograms.
enum Histograms {
    /// They count like any value.
    Count,
    /// They are combined among themselves.
    Combine(Fold),
    /// They are passed over, and the aggregation of that name is told.
    Ignore(&'static str),
}

/// What is aggregated.
enum Input<'a> {
    Lazy(Lazy<'a>),
    Ready(Vec<Series>),
}

struct Group<C> {
    labels: Labels,
    drop_name: bool,
    /// The step of the first of `cells`; they cover the steps of the series so far.
    first: usize,
    cells: Vec<C>,
    /// The histograms by their steps; there are few aggregations that have any.
    histograms: BTreeMap<usize, HistogramCell>,
    /// Which of the members at hand are to be taken in.
    waiting: Vec<usize>,
}

/// A series that is to be taken in.
struct Member<'a> {
    index: usize,
    drop_name: bool,
    column: &'a Column,
}

/// Some steps of a group, which nobody else changes meanwhile.
struct Run<'a, C> {
    first: usize,
    cells: &'a mut [C],
    waiting: &'a [usize],
}

impl<C: Cell> Run<'_, C> {
    fn add(&mut self, members: &[Member<'_>]) {
        let steps = self.first..self.first + self.cells.len();
        for position in self.waiting {
            for (step, value) in members[*position].column.present_in(steps.clone()) {
                self.cells[step - self.first].add(value);
            }
        }
    }
}

impl<C: Cell> Group<C> {
    fn new(labels: Labels, drop_name: bool) -> Group<C> {
        Group {
            labels,
            drop_name,
            first: 0,
            cells: Vec::new(),
            histograms: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Its steps, in runs that can be worked at in parallel.
    fn runs(&mut self) -> impl Iterator<Item = Run<'_, C>> {
        let (first, waiting) = (self.first, self.waiting.as_slice());
        let runs = self.cells.chunks_mut(RUN_STEPS).enumerate();
        runs.map(move |(index, cells)| Run { first: first + index * RUN_STEPS, cells, waiting })
    }

    /// Makes room at the steps given, and says for how many more.
    fn cover(&mut self, extent: Range<usize>) -> usize {
        let count = self.cells.len();
        if count == 0 {
            self.first = extent.start;
        } else if extent.start < self.first {
            self.cells.splice(..0, vec![C::default(); self.first - extent.start]);
            self.first = extent.start;
        }
        let wanted = extent.end.saturating_sub(self.first);
        if wanted > self.cells.len() {
            self.cells.resize(wanted, C::default());
        }
        self.cells.len() - count
    }

    /// Takes in the values of a series, for whose steps there is room, and says what that costs beyond it.
    fn add(&mut self, column: &Column, notes: &mut Notes) -> usize {
        if self.histograms.is_empty() {
            for (step, value) in column.present() {
                self.cells[step - self.first].add(value);
            }
        } else {
            let histograms = &self.histograms;
            let is_open = |step: usize| histograms.get(&step).is_none_or(|cell| !cell.is_closed());
            for (step, value) in column.present().filter(|(step, _)| is_open(*step)) {
                self.cells[step - self.first].add(value);
            }
        }
        if column.has_histograms() { self.add_histograms(column, notes) } else { 0 }
    }

    fn add_histograms(&mut self, column: &Column, notes: &mut Notes) -> usize {
        let fold = match C::HISTOGRAMS {
            Histograms::Combine(fold) => fold,
            Histograms::Ignore(name) => {
                notes.add(HistogramNote::IgnoredInAggregation(name));
                return 0;
            }
            Histograms::Count => {
                // Which number it is does not matter.
                column.histograms().for_each(|(step, _)| self.cells[step - self.first].add(0.0));
                return 0;
            }
        };
        let mut points = 0;
        for (step, histogram) in column.histograms() {
            match self.histograms.entry(step) {
                Entry::Occupied(cell) => {
                    let cell = cell.into_mut();
                    let before = cell.points();
                    cell.add(histogram, notes);
                    points += cell.points().saturating_sub(before);
                }
                Entry::Vacant(place) => {
                    let has_float = self.cells[step - self.first].clone().result(f64::NAN).is_some();
                    points += place.insert(HistogramCell::new(fold, histogram, has_float)).points();
                }
            }
        }
        points
    }

    fn finish(self, params: Option<&[f64]>, notes: &mut Notes) -> Series {
        let param = |step: usize| params.map_or(f64::NAN, |params| params[step]);
        let before = std::iter::repeat_n(ABSENT, self.first);
        let results = self.cells.into_iter().enumerate();
        let results = results.map(|(index, cell)| cell.result(param(self.first + index)).unwrap_or(ABSENT));
        let mut values: Vec<f64> = before.chain(results).collect();
        let mut histograms = Vec::new();
        for (step, cell) in self.histograms {
            if !is_stale(values[step]) {
                notes.add(HistogramNote::MixedGroup);
                values[step] = ABSENT;
            } else if let Some(histogram) = cell.finish(notes) {
                histograms.push((step, Arc::new(histogram)));
            }
        }
        let column = Column::new(values, histograms);
        Series { labels: self.labels, drop_name: self.drop_name, column }
    }
}

impl Evaluator<'_> {
    /// The value of an aggregation.
    pub(super) fn aggregate(&self, call: &AggregateCall, steps: &Steps) -> Result<Vec<Series>, QueryError> {
        match call.op {
            AggregateOp::Sum => self.fold::<Sum>(call, steps, None),
            AggregateOp::Avg => self.fold::<Average>(call, steps, None),
            AggregateOp::Min => self.fold::<Extreme<false>>(call, steps, None),
            AggregateOp::Max => self.fold::<Extreme<true>>(call, steps, None),
            AggregateOp::Count => self.fold::<Count>(call, steps, None),
            AggregateOp::Group => self.fold::<Presence>(call, steps, None),
            AggregateOp::Stddev => self.fold::<Variance<true>>(call, steps, None),
            AggregateOp::Stdvar => self.fold::<Variance<false>>(call, steps, None),
            AggregateOp::Quantile => {
                let params = self.param(call, steps)?;
                self.check_quantiles(call, &params);
                self.fold::<Quantile>(call, steps, Some(&params))
            }
            AggregateOp::CountValues => self.count_values(call, steps),
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio => {
                self.select_series(call, steps)
            }
        }
    }

    /// The parameter at each step.
    pub(super) fn param(&self, call: &AggregateCall, steps: &Steps) -> Result<Vec<f64>, QueryError> {
        match &call.param {
            Some(node) => self.scalar(node, steps),
            None => Err(QueryError::Execution("the aggregation lacks its parameter".to_owned())),
        }
    }

    fn check_quantiles(&self, call: &AggregateCall, params: &[f64]) {
        let (max, min) = extent(params);
        self.annotate(|annotations| {
            if params.iter().any(|param| param.is_nan()) {
                annotations.invalid_quantile(f64::NAN, call.param_span);
            }
            if max > 1.0 {
                annotations.invalid_quantile(max, call.param_span);
            }
            if min < 0.0 {
                annotations.invalid_quantile(min, call.param_span);
            }
        });
    }

    fn fold<C: Cell>(
        &self,
        call: &AggregateCall,
        steps: &Steps,
        params: Option<&[f64]>,
    ) -> Result<Vec<Series>, QueryError> {
        let choice = label_choice(call);
        let input = match &call.node {
            node @ (Node::Latest(_) | Node::LatestTime(_) | Node::Range(_)) => {
                let lazy = self.lazy(node, steps)?;
                if lazy.is_ambiguous() { Input::Ready(lazy.collect(self, steps)?) } else { Input::Lazy(lazy) }
            }
            node => Input::Ready(self.vector(node, steps)?),
        };
        let labels: Vec<&Labels> = match &input {
            Input::Lazy(lazy) => lazy.labels().iter().collect(),
            Input::Ready(series) => series.iter().map(|one| &one.labels).collect(),
        };
        let numbering = choice.number(&labels, self.workers);
        let mut places: Vec<Option<usize>> = vec![None; numbering.count];
        let mut groups: Vec<Group<C>> = Vec::new();
        let mut add = |members: &[Member<'_>]| {
            self.control.check()?;
            let mut points = 0;
            for (position, member) in members.iter().enumerate() {
                // Groups come in the order in which they get their first value.
                let place = *places[numbering.numbers[member.index]].get_or_insert_with(|| {
                    groups.push(Group::new(choice.of(labels[member.index]), member.drop_name));
                    groups.len() - 1
                });
                let group = &mut groups[place];
                points += group.cover(member.column.extent());
                if C::KEEPS_VALUES {
                    points += member.column.present().count();
                }
                group.drop_name |= member.drop_name;
                group.waiting.push(position);
            }
            self.budget.add(points as u64)?;
            if members.iter().any(|member| member.column.has_histograms())
                || groups.iter().any(|group| !group.histograms.is_empty())
            {
                groups.iter_mut().for_each(|group| group.waiting.clear());
                let group_of = |member: &Member<'_>| {
                    Some((places[numbering.numbers[member.index]]?, labels[member.index]))
                };
                return self.add_in_order(call, members, group_of, &mut groups);
            }
            self.add_floats(members, &mut groups);
            Ok(())
        };
        match &input {
            Input::Lazy(lazy) => lazy.for_each_batch(self, steps, |batch| {
                let member = |(index, column)| Member { index, drop_name: lazy.drops_name(index), column };
                add(&batch.iter().map(|(index, column)| member((*index, column))).collect::<Vec<_>>())
            })?,
            Input::Ready(series) => {
                for (batch, series) in series.chunks(READY_BATCH).enumerate() {
                    let indexes = batch * READY_BATCH..;
                    let members = indexes.zip(series).map(|(index, one)| Member {
                        index,
                        drop_name: one.drop_name,
                        column: &one.column,
                    });
                    add(&members.collect::<Vec<_>>())?;
                }
            }
        }
        let mut notes = Notes::default();
        let results = groups.into_iter().map(|group| group.finish(params, &mut notes));
        let results = results.filter(|one| !one.column.is_absent()).collect();
        self.tell(&notes, "", call.node_span);
        Ok(results)
    }

    /// Takes in floats: each group's in the order of its series, groups and runs of steps in parallel.
    fn add_floats<C: Cell>(&self, members: &[Member<'_>], groups: &mut [Group<C>]) {
        let points: usize = members.iter().map(|member| member.column.extent().len()).sum();
        let runs = groups.iter_mut().filter(|group| !group.waiting.is_empty()).flat_map(Group::runs);
        let add = |run: &mut Run<'_, C>| run.add(members);
        if points < PARALLEL_POINTS_MIN {
            runs.for_each(|mut run| add(&mut run));
        } else {
            self.workers.share(&mut runs.collect::<Vec<_>>(), add);
        }
        groups.iter_mut().for_each(|group| group.waiting.clear());
    }

    /// Takes in values of any kind, series by series, and tells what there is to say of each.
    fn add_in_order<'l, C: Cell>(
        &self,
        call: &AggregateCall,
        members: &[Member<'_>],
        group_of: impl Fn(&Member<'_>) -> Option<(usize, &'l Labels)>,
        groups: &mut [Group<C>],
    ) -> Result<(), QueryError> {
        for member in members {
            let Some((place, labels)) = group_of(member) else { continue };
            let mut notes = Notes::default();
            self.budget.add(groups[place].add(member.column, &mut notes) as u64)?;
            if !notes.is_empty() {
                self.tell(&notes, labels.metric_name().unwrap_or_default(), call.node_span);
            }
        }
        Ok(())
    }
}

/// The labels by which an aggregation groups.
pub(super) fn label_choice(call: &AggregateCall) -> LabelChoice {
    if call.without { LabelChoice::all_but(&call.grouping) } else { LabelChoice::only(&call.grouping) }
}

/// The largest and the smallest parameter; NaN if any is NaN.
pub(super) fn extent(params: &[f64]) -> (f64, f64) {
    params.iter().fold((-f64::MAX, f64::MAX), |(max, min), param| (larger(max, *param), smaller(min, *param)))
}

#[derive(Default, Clone)]
struct Sum(Option<KahanSum>);

impl Cell for Sum {
    const HISTOGRAMS: Histograms = Histograms::Combine(Fold::Sum);

    #[inline]
    fn add(&mut self, value: f64) {
        match &mut self.0 {
            Some(sum) => sum.add(value),
            None => self.0 = Some(KahanSum::new(value)),
        }
    }

    fn result(self, _: f64) -> Option<f64> {
        self.0.map(KahanSum::total)
    }
}

impl Cell for Average {
    const HISTOGRAMS: Histograms = Histograms::Combine(Fold::Average);

    #[inline]
    fn add(&mut self, value: f64) {
        Average::add(self, value);
    }

    fn result(self, _: f64) -> Option<f64> {
        self.mean()
    }
}

/// The largest value (`MAX`) or the smallest; NaN only where there is nothing else.
#[derive(Default, Clone)]
struct Extreme<const MAX: bool>(Option<f64>);

impl<const MAX: bool> Cell for Extreme<MAX> {
    const HISTOGRAMS: Histograms = Histograms::Ignore(if MAX { "max" } else { "min" });

    #[inline]
    fn add(&mut self, value: f64) {
        let better = self.0.is_none_or(|best| best.is_nan() || if MAX { best < value } else { best > value });
        if better {
            self.0 = Some(value);
        }
    }

    fn result(self, _: f64) -> Option<f64> {
        self.0
    }
}

#[derive(Default, Clone)]
struct Count(u64);

impl Cell for Count {
    const HISTOGRAMS: Histograms = Histograms::Count;

    #[inline]
    fn add(&mut self, _: f64) {
        self.0 += 1;
    }

    fn result(self, _: f64) -> Option<f64> {
        (self.0 > 0).then_some(self.0 as f64)
    }
}

#[derive(Default, Clone)]
struct Presence(bool);

impl Cell for Presence {
    const HISTOGRAMS: Histograms = Histograms::Count;

    #[inline]
    fn add(&mut self, _: f64) {
        self.0 = true;
    }

    fn result(self, _: f64) -> Option<f64> {
        self.0.then_some(1.0)
    }
}

/// Welford's variance, or its root (`ROOT`).
#[derive(Default, Clone)]
struct Variance<const ROOT: bool> {
    count: f64,
    mean: f64,
    squares: f64,
}

impl<const ROOT: bool> Cell for Variance<ROOT> {
    const HISTOGRAMS: Histograms = Histograms::Ignore(if ROOT { "stddev" } else { "stdvar" });

    #[inline]
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = value;
            self.squares = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn result(self, _: f64) -> Option<f64> {
        let variance = self.squares / self.count;
        (self.count > 0.0).then_some(if ROOT { variance.sqrt() } else { variance })
    }
}

#[derive(Default, Clone)]
struct Quantile(Vec<f64>);

impl Cell for Quantile {
    const HISTOGRAMS: Histograms = Histograms::Ignore("quantile");
    const KEEPS_VALUES: bool = true;

    fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    fn result(mut self, param: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| quantile(param, &mut self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold<C: Cell>(values: &[f64], param: f64) -> Option<f64> {
        let mut cell = C::default();
        for value in values {
            cell.add(*value);
        }
        cell.result(param)
    }

    #[test]
    fn groups_without_a_value_have_no_result() {
        assert_eq!(fold::<Sum>(&[], 0.0), None);
        assert_eq!(fold::<Average>(&[], 0.0), None);
        assert_eq!(fold::<Extreme<true>>(&[], 0.0), None);
        assert_eq!(fold::<Count>(&[], 0.0), None);
        assert_eq!(fold::<Presence>(&[], 0.0), None);
        assert_eq!(fold::<Variance<true>>(&[], 0.0), None);
        assert_eq!(fold::<Quantile>(&[], 0.5), None);
    }

    #[test]
    fn a_group_covers_the_steps_of_its_series() {
        let mut group = Group::<Count>::new(Labels::empty(), false);
        assert_eq!(group.cover(5..7), 2);
        assert_eq!(group.cover(6..9), 2);
        assert_eq!(group.cover(3..4), 2);
        assert_eq!(group.cover(3..9), 0);
        assert_eq!((group.first, group.cells.len()), (3, 6));
        group.cells[0].add(1.0);
        assert_eq!(
            group.finish(None, &mut Notes::default()).column.present().collect::<Vec<_>>(),
            [(3, 1.0)]
        );
    }

    #[test]
    fn extremes_prefer_any_value_to_nan() {
        assert_eq!(fold::<Extreme<true>>(&[f64::NAN, 1.0, f64::NAN, 3.0, 2.0], 0.0), Some(3.0));
        assert_eq!(fold::<Extreme<false>>(&[2.0, f64::NAN, 1.0], 0.0), Some(1.0));
        assert!(fold::<Extreme<false>>(&[f64::NAN], 0.0).unwrap().is_nan());
    }

    #[test]
    fn spread_of_known_values() {
        assert_eq!(fold::<Variance<false>>(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 0.0), Some(4.0));
        assert_eq!(fold::<Variance<true>>(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 0.0), Some(2.0));
        assert!(fold::<Variance<false>>(&[f64::INFINITY], 0.0).unwrap().is_nan());
        assert_eq!(fold::<Quantile>(&[1.0, 3.0, 2.0], 0.5), Some(2.0));
    }

    #[test]
    fn parameters_span_from_the_smallest_to_the_largest() {
        assert_eq!(extent(&[0.5, -1.0, 2.0]), (2.0, -1.0));
        assert!(extent(&[0.5, f64::NAN]).0.is_nan());
    }
}
