//! Aggregations that pick series (`topk`, `bottomk`, `limitk`, `limit_ratio`), and `count_values`, which makes a
//! series of each value.

use std::collections::HashMap;
use std::ops::Range;

use annulus_shards::{Labels, LabelsBuilder};

use super::aggregate::{extent, label_choice};
use super::column::{Column, Series};
use super::eval::{Evaluator, compare_values};
use super::grouping::{LabelChoice, Numbering, Ordinals};
use super::histogram_notes::HistogramNote;
use super::histogram_text::format_histogram;
use super::label_hash::label_hash;
use super::node::{AggregateCall, Node};
use super::number_format::{format_general, format_plain};
use super::steps::Steps;
use crate::promql::ast::AggregateOp;
use crate::promql::value::QueryError;

/// Steps that are looked at together: their values fill a line of the processor's cache.
const RUN_STEPS: usize = 8;

/// The values of a group at one step that were picked so far, each with its series.
type Picked = Vec<(f64, usize)>;

/// What picking at a step needs to know.
struct Picking<'a> {
    op: AggregateOp,
    series: &'a [Series],
    /// The group of each series.
    groups: Vec<usize>,
    group_count: usize,
    /// The hash of each series, where the operator looks at it.
    hashes: Vec<u64>,
}

impl Picking<'_> {
    /// Whether values decide which series are picked.
    fn compares(&self) -> bool {
        matches!(self.op, AggregateOp::TopK | AggregateOp::BottomK)
    }

    /// The series that pass at each of some steps, group by group and in the operator's order.
    ///
    /// Steps that follow each other are looked at together, because their values lie together in memory.
    fn at(&self, steps: Range<usize>, params: &[f64]) -> Vec<Picked> {
        let ks = steps.clone().map(|step| {
            usize::try_from((params[step] as i64).max(0)).unwrap_or(usize::MAX).min(self.series.len())
        });
        let ks: Vec<usize> = ks.collect();
        let mut picked = vec![Picked::new(); steps.len() * self.group_count];
        for (index, one) in self.series.iter().enumerate() {
            let group = self.groups[index];
            let places = (0..).map(|place| place * self.group_count + group);
            for ((step, k), place) in steps.clone().zip(&ks).zip(places) {
                let value = match one.column.get(step) {
                    Some(value) => value,
                    // Of those that are not compared, histograms are as good as any.
                    None if !self.compares() && one.column.histogram(step).is_some() => f64::NAN,
                    None => continue,
                };
                let picked = &mut picked[place];
                let passes = match self.op {
                    AggregateOp::LimitRatio => in_ratio(params[step], self.hashes[index]),
                    AggregateOp::LimitK => picked.len() < *k,
                    op => {
                        pick_best(picked, (value, index), *k, op == AggregateOp::TopK);
                        false
                    }
                };
                if passes {
                    picked.push((value, index));
                }
            }
        }
        if self.compares() {
            for picked in &mut picked {
                picked.sort_by(|a, b| compare_values(a.0, b.0, self.op == AggregateOp::TopK));
            }
        }
        picked.chunks(self.group_count.max(1)).map(<[Picked]>::concat).collect()
    }
}

impl Evaluator<'_> {
    /// The value of an aggregation that picks series; at one step alone, they come in the order of the operator.
    pub(super) fn select_series(
        &self,
        call: &AggregateCall,
        steps: &Steps,
    ) -> Result<Vec<Series>, QueryError> {
        let params = self.param(call, steps)?;
        let series = self.vector(&call.node, steps)?;
        if !self.check_params(call, &params)? {
            return Ok(Vec::new());
        }
        let picking = self.picking(call, &series);
        if picking.compares() {
            let is_ignored = |(step, _): (usize, _)| params[step] >= 1.0;
            if series.iter().any(|one| one.column.histograms().any(is_ignored)) {
                let note = HistogramNote::IgnoredInAggregation(call.op.as_str());
                self.annotate(|annotations| annotations.histograms(note, "", call.span));
            }
        }
        let runs: Vec<Range<usize>> = (0..steps.count())
            .step_by(RUN_STEPS)
            .map(|start| start..(start + RUN_STEPS).min(steps.count()))
            .collect();
        let picked = self.workers.turn(runs, |run| {
            self.control.check()?;
            let picked = picking.at(run, &params);
            self.budget.add(picked.iter().map(|picked| picked.len() as u64).sum())?;
            Ok::<_, QueryError>(picked)
        });
        let mut columns: Vec<Option<Column>> = vec![None; series.len()];
        let mut order: Vec<usize> = (0..series.len()).collect();
        let mut step = 0;
        for run in picked {
            self.control.check()?;
            for picked in run? {
                if steps.is_single() {
                    order = picked.iter().map(|(_, index)| *index).collect();
                }
                for (_, index) in picked {
                    let column = match &mut columns[index] {
                        Some(column) => column,
                        none => {
                            self.budget.add(series[index].column.len() as u64)?;
                            none.insert(Column::absent_within(&series[index].column))
                        }
                    };
                    if let Some(value) = series[index].column.value(step) {
                        column.set_value(step, value);
                    }
                }
                step += 1;
            }
        }
        let mut picked = Vec::new();
        for index in order {
            if let Some(column) = columns[index].take().filter(|column| !column.is_absent()) {
                let Series { labels, drop_name, .. } = &series[index];
                picked.push(Series { labels: labels.clone(), drop_name: *drop_name, column });
            }
        }
        Ok(picked)
    }

    fn picking<'a>(&self, call: &AggregateCall, series: &'a [Series]) -> Picking<'a> {
        let labels: Vec<&Labels> = series.iter().map(|one| &one.labels).collect();
        let Numbering { numbers: groups, count: group_count } =
            label_choice(call).number(&labels, self.workers);
        let hashes = match call.op {
            AggregateOp::LimitRatio => self.workers.map(labels.len(), |index| label_hash(labels[index])),
            _ => Vec::new(),
        };
        Picking { op: call.op, series, groups, group_count, hashes }
    }

    /// Whether any parameter lets a series pass.
    fn check_params(&self, call: &AggregateCall, params: &[f64]) -> Result<bool, QueryError> {
        let (max, min) = extent(params);
        let any_nan = params.iter().any(|param| param.is_nan());
        let error = |text: String| Err(QueryError::Execution(text));
        if call.op == AggregateOp::LimitRatio {
            if max == 0.0 && min == 0.0 {
                return Ok(false);
            }
            if any_nan {
                return error("Ratio value is NaN".to_owned());
            }
            self.annotate(|annotations| {
                if max > 1.0 {
                    annotations.invalid_ratio(max, 1.0, call.param_span);
                }
                if min < -1.0 {
                    annotations.invalid_ratio(min, -1.0, call.param_span);
                }
            });
            return Ok(true);
        }
        if max < 1.0 {
            return Ok(false);
        }
        if any_nan {
            return error("Parameter value is NaN".to_owned());
        }
        if min <= i64::MIN as f64 {
            return error(format!("Scalar value {} underflows int64", format_general(min, None)));
        }
        if max >= i64::MAX as f64 {
            return error(format!("Scalar value {} overflows int64", format_general(max, None)));
        }
        Ok(true)
    }

    /// For each group and value the number of series that have it; the label named holds the value.
    pub(super) fn count_values(
        &self,
        call: &AggregateCall,
        steps: &Steps,
    ) -> Result<Vec<Series>, QueryError> {
        let Some(Node::Text(label)) = &call.param else {
            return Err(QueryError::Execution("count_values lacks its label".to_owned()));
        };
        if label.is_empty() {
            return Err(QueryError::Execution(format!("invalid label name {label:?}")));
        }
        let choice = if call.without {
            LabelChoice::all_but(&call.grouping)
        } else {
            let mut names = call.grouping.clone();
            names.push(label.clone());
            LabelChoice::only(&names)
        };
        let series = self.vector(&call.node, steps)?;
        let mut ordinals = Ordinals::default();
        let mut counts: Vec<Series> = Vec::new();
        for one in &series {
            self.control.check()?;
            // Values repeat along a series far more often than they change.
            let mut known: HashMap<u64, usize> = HashMap::new();
            let mut number_of = |text: &str| -> Result<usize, QueryError> {
                let mut builder = LabelsBuilder::from_labels(&one.labels);
                builder.set(label, text);
                let labels = choice.of(&builder.finish());
                let number = ordinals.of(&labels);
                if number == counts.len() {
                    self.budget.add(steps.count() as u64)?;
                    let column = Column::absent(steps.count());
                    counts.push(Series { labels, drop_name: false, column });
                }
                Ok(number)
            };
            let mut found = Vec::new();
            for (step, value) in one.column.present() {
                let number = match known.get(&value.to_bits()) {
                    Some(number) => *number,
                    None => {
                        let number = number_of(&format_plain(value))?;
                        known.insert(value.to_bits(), number);
                        number
                    }
                };
                found.push((step, number));
            }
            for (step, histogram) in one.column.histograms() {
                found.push((step, number_of(&format_histogram(histogram))?));
            }
            for (step, number) in found {
                let column = &mut counts[number].column;
                column.set(step, column.get(step).unwrap_or(0.0) + 1.0);
            }
        }
        Ok(counts)
    }
}

/// Whether the share of the hash in all hashes lies within the ratio; a negative ratio takes the complement.
fn in_ratio(ratio: f64, hash: u64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    let share = hash as f64 / u64::MAX as f64;
    (ratio > 0.0 && share < ratio) || (ratio < 0.0 && share >= 1.0 + ratio)
}

/// Keeps the best `k` in a heap with the worst on top, as Go's `container/heap` does: which of equal values stay
/// depends on the heap's layout.
fn pick_best(heap: &mut Picked, new: (f64, usize), k: usize, largest: bool) {
    if k == 0 {
        return;
    }
    let worse = |a: f64, b: f64| a.is_nan() || if largest { a < b } else { a > b };
    if heap.len() < k {
        heap.push(new);
        let mut child = heap.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !worse(heap[child].0, heap[parent].0) {
                break;
            }
            heap.swap(child, parent);
            child = parent;
        }
        return;
    }
    let top = heap[0].0;
    let better = if largest { top < new.0 } else { top > new.0 };
    if !(better || (top.is_nan() && !new.0.is_nan())) {
        return;
    }
    heap[0] = new;
    let mut parent = 0;
    loop {
        let left = 2 * parent + 1;
        if left >= heap.len() {
            break;
        }
        let right = left + 1;
        let child = if right < heap.len() && worse(heap[right].0, heap[left].0) { right } else { left };
        if !worse(heap[child].0, heap[parent].0) {
            break;
        }
        heap.swap(parent, child);
        parent = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(values: &[f64], k: usize, largest: bool) -> Vec<usize> {
        let mut heap = Picked::new();
        for (index, value) in values.iter().enumerate() {
            pick_best(&mut heap, (*value, index), k, largest);
        }
        let mut indexes: Vec<usize> = heap.into_iter().map(|(_, index)| index).collect();
        indexes.sort_unstable();
        indexes
    }

    #[test]
    fn nan_gives_way_to_any_value() {
        assert_eq!(best(&[f64::NAN, 1.0, 3.0, 2.0], 2, true), [2, 3]);
        assert_eq!(best(&[3.0, f64::NAN, 1.0, 2.0], 2, false), [2, 3]);
        assert_eq!(best(&[f64::NAN, 1.0], 2, true), [0, 1]);
    }

    #[test]
    fn the_first_of_equal_values_stays() {
        assert_eq!(best(&[1.0, 1.0, 1.0], 1, true), [0]);
    }

    #[test]
    fn a_ratio_and_its_complement_share_no_series() {
        for hash in [0, 1 << 61, 1 << 62, 1 << 63, u64::MAX] {
            assert_ne!(in_ratio(0.4, hash), in_ratio(-0.6, hash));
        }
        assert!(in_ratio(-1.0, u64::MAX) && !in_ratio(0.0, 0));
    }
}
