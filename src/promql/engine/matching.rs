//! Binary operators between two vectors: series are paired by their signatures, then combined step by step.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use annulus_shards::{Labels, LabelsBuilder};

use super::column::{Column, Series, histogram_points, merge_same_labels, without_metadata};
use super::control::{Budget, Control};
use super::eval::Evaluator;
use super::fill::fill_missing;
use super::grouping::{LabelChoice, Ordinals};
use super::histogram_binary::{Combined, combine_values};
use super::histogram_notes::HistogramNote;
use super::label_functions::format_labels;
use super::math_functions::{arithmetic, compare, from_bool};
use super::node::BinaryCall;
use super::presence::Presence;
use super::steps::Steps;
use super::workers::Workers;
use crate::promql::ast::{BinaryOp, Cardinality, Matching};
use crate::promql::value::{QueryError, SampleValue};

/// The series of both sides that share a signature, as indexes.
#[derive(Debug, Default, Clone)]
struct MatchGroup {
    /// Of the side that may have several of them.
    many: Vec<usize>,
    /// Of the side that has one at each step.
    one: Vec<usize>,
}

/// An error at a step; the query reports that of the earliest step, whichever thread finds it.
struct Conflict {
    step: usize,
    /// Prometheus looks for repeated series of the "one" side before it pairs any.
    while_pairing: bool,
    index: usize,
    message: String,
}

/// What pairing needs to know.
struct Pairing<'a> {
    call: &'a BinaryCall,
    many: &'a [Series],
    one: &'a [Series],
    /// Steps at which the "many" side has any value.
    many_present: Vec<bool>,
    /// The "many" side is the right one.
    swapped: bool,
    /// Names that no longer fit go now.
    drop_metadata: bool,
    steps: &'a Steps,
    control: &'a Control,
    budget: &'a Budget,
    /// The last thing to say of each step, and the series of the "many" side that it is about.
    notes: Mutex<BTreeMap<usize, (usize, HistogramNote)>>,
}

/// Why a group has no result.
enum Failure {
    Query(QueryError),
    Conflict(Conflict),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Failure {
        Failure::Query(error)
    }
}

impl Evaluator<'_> {
    /// Arithmetic or comparison of two vectors.
    pub(super) fn combine_vectors(
        &self,
        call: &BinaryCall,
        left: Vec<Series>,
        right: Vec<Series>,
        steps: &Steps,
    ) -> Result<Vec<Series>, QueryError> {
        let swapped = call.matching.cardinality == Cardinality::OneToMany;
        let (mut many, mut one) = if swapped { (right, left) } else { (left, right) };
        let fills = !call.matching.fill.is_none();
        if fills {
            fill_missing(&call.matching, &mut many, &mut one, self.workers, &self.budget)?;
        }
        let groups = match_groups(&call.matching, &many, &one, self.workers);
        let is_arithmetic = !call.op.is_comparison() && !call.op.is_trim();
        let repeats = groups.iter().any(|group| group.one.len() > 1);
        let pairing = Pairing {
            call,
            many: &many,
            one: &one,
            // With values to fill in, repeated series are looked for even at steps that need none.
            many_present: if repeats && !fills { any_present(&many, steps) } else { Vec::new() },
            swapped,
            drop_metadata: is_arithmetic || (call.return_bool && !self.late_names),
            steps,
            control: self.control,
            budget: &self.budget,
            notes: Mutex::default(),
        };
        let results = self.workers.map(groups.len(), |index| pairing.combine(&groups[index]));
        let mut paired = Vec::new();
        let mut first: Option<Conflict> = None;
        for result in results {
            match result {
                Ok(series) => paired.extend(series),
                Err(Failure::Query(error)) => return Err(error),
                Err(Failure::Conflict(conflict)) => {
                    let is_earlier = |other: &Conflict| conflict.key() < other.key();
                    if first.as_ref().is_none_or(is_earlier) {
                        first = Some(conflict);
                    }
                }
            }
        }
        if let Some(conflict) = first {
            return Err(QueryError::Execution(conflict.message));
        }
        for (_, note) in pairing.notes.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
            self.annotate(|annotations| annotations.histograms(note, "", call.span));
        }
        paired.sort_by_key(|(index, _)| *index);
        merge_same_labels(paired.into_iter().map(|(_, series)| series).collect())
    }

    /// `and`, `or`, `unless`.
    pub(super) fn combine_sets(
        &self,
        call: &BinaryCall,
        left: Vec<Series>,
        right: Vec<Series>,
    ) -> Result<Vec<Series>, QueryError> {
        let (left_numbers, right_numbers, count) = signatures(&call.matching, &left, &right, self.workers);
        match call.op {
            BinaryOp::Or => {
                let taken = Presence::of(&left, &left_numbers, count, &self.budget)?;
                let added = masked(right, &right_numbers, &taken, false);
                merge_same_labels(left.into_iter().chain(added).collect())
            }
            op => {
                let present = Presence::of(&right, &right_numbers, count, &self.budget)?;
                Ok(masked(left, &left_numbers, &present, op == BinaryOp::And))
            }
        }
    }
}

impl Conflict {
    fn key(&self) -> (usize, bool, usize) {
        (self.step, self.while_pairing, self.index)
    }
}

impl Pairing<'_> {
    fn combine(&self, group: &MatchGroup) -> Result<Vec<(usize, Series)>, Failure> {
        self.control.check()?;
        match (group.many.as_slice(), group.one.as_slice()) {
            ([], [_] | []) | (_, []) => Ok(Vec::new()),
            ([many], [one]) => {
                self.budget.add(self.many[*many].column.len() as u64)?;
                Ok(self.combine_pair(*many, *one)?.into_iter().collect())
            }
            _ => self.combine_many(group),
        }
    }

    /// The frequent case: one series on each side.
    fn combine_pair(&self, many: usize, one: usize) -> Result<Option<(usize, Series)>, QueryError> {
        let mut column = self.many[many].column.clone();
        let other = &self.one[one].column;
        if column.has_histograms() || other.has_histograms() || self.call.op.is_trim() {
            column = self.combine_columns(many, other)?;
        } else {
            column.map(|step, value| self.apply(value, other.get(step)?));
        }
        if column.is_absent() {
            return Ok(None);
        }
        Ok(Some((many, self.series(self.labels(many, one)?, column))))
    }

    fn combine_columns(&self, many: usize, other: &Column) -> Result<Column, QueryError> {
        let column = &self.many[many].column;
        let mut combined = Column::absent_within(column);
        for step in column.extent() {
            if let (Some(value), Some(other)) = (column.value(step), other.value(step))
                && let Some(value) = self.apply_values(step, many, &value, &other)?.value
            {
                combined.set_value(step, value);
            }
        }
        combined.trim();
        Ok(combined)
    }

    fn combine_many(&self, group: &MatchGroup) -> Result<Vec<(usize, Series)>, Failure> {
        let one_to_one = self.call.matching.cardinality == Cardinality::OneToOne;
        let mut places: HashMap<(usize, usize), (usize, usize)> = HashMap::new();
        let mut ordinals = Ordinals::default();
        let mut results: Vec<(usize, Labels, Column)> = Vec::new();
        let mut last_steps: Vec<Option<usize>> = Vec::new();
        for step in 0..self.steps.count() {
            self.control.check()?;
            let only_one = self.only_one(group, step).map_err(Failure::Conflict)?;
            let Some((one, one_value)) = only_one else { continue };
            let mut matched = false;
            for many in &group.many {
                let Some(value) = self.many[*many].column.value(step) else { continue };
                let Combined { value, is_impossible, .. } =
                    self.apply_values(step, *many, &value, &one_value)?;
                if is_impossible {
                    continue;
                }
                let conflict = |message: &str| {
                    Failure::Conflict(Conflict {
                        step,
                        while_pairing: true,
                        index: *many,
                        message: message.to_owned(),
                    })
                };
                if one_to_one && matched {
                    return Err(conflict(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
                matched = true;
                let (place, number) = match places.get(&(*many, one)) {
                    Some(found) => *found,
                    None => {
                        let column = Column::absent_within(&self.many[*many].column);
                        self.budget.add(column.len() as u64)?;
                        let labels = self.labels(*many, one)?;
                        let found = (results.len(), ordinals.of(&labels));
                        last_steps.resize(ordinals.len(), None);
                        results.push((*many, labels, column));
                        places.insert((*many, one), found);
                        found
                    }
                };
                if !one_to_one && last_steps[number].replace(step) == Some(step) {
                    return Err(conflict(
                        "multiple matches for labels: grouping labels must ensure unique matches",
                    ));
                }
                if let Some(value) = value {
                    results[place].2.set_value(step, value);
                }
            }
        }
        let present = results.into_iter().filter(|(_, _, column)| !column.is_absent());
        Ok(present.map(|(many, labels, column)| (many, self.series(labels, column))).collect())
    }

    /// The series of the "one" side that has a value at a step.
    fn only_one(&self, group: &MatchGroup, step: usize) -> Result<Option<(usize, SampleValue)>, Conflict> {
        let mut found: Option<(usize, SampleValue)> = None;
        for index in &group.one {
            let Some(value) = self.one[*index].column.value(step) else { continue };
            if let Some((first, _)) = found
                && self.many_present.get(step).copied().unwrap_or(true)
            {
                let message = self.repeated(first, *index);
                return Err(Conflict { step, while_pairing: false, index: *index, message });
            }
            found = Some((*index, value));
        }
        Ok(found)
    }

    fn repeated(&self, first: usize, second: usize) -> String {
        let matching = &self.call.matching;
        let signature = signature_choice(matching).of(&self.one[second].labels);
        let side = if self.swapped { "left" } else { "right" };
        let mut series = [first, second].map(|index| format_labels(self.one[index].labels.iter()));
        series.sort();
        format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}]\
             ;many-to-many matching not allowed: matching labels must be unique on one side",
            format_labels(signature.iter()),
            series[0],
            series[1],
        )
    }

    #[inline]
    fn apply(&self, many: f64, one: f64) -> Option<f64> {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        combine(self.call, left, right, left)
    }

    /// The same for values of any kind. Histograms that come of it count as points.
    fn apply_values(
        &self,
        step: usize,
        many_index: usize,
        many: &SampleValue,
        one: &SampleValue,
    ) -> Result<Combined, QueryError> {
        if let (SampleValue::Float(many), SampleValue::Float(one)) = (many, one)
            && !self.call.op.is_trim()
        {
            return Ok(Combined::plain(self.apply(*many, *one)));
        }
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let combined = combine_values(self.call, left, right, true);
        if let Some(note) = combined.note {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            let last = notes.entry(step).or_insert((many_index, note));
            if last.0 <= many_index {
                *last = (many_index, note);
            }
        }
        if let Some(SampleValue::Histogram(histogram)) = &combined.value {
            self.budget.add(histogram_points(histogram) as u64)?;
        }
        Ok(combined)
    }

    fn series(&self, labels: Labels, column: Column) -> Series {
        Series { labels, drop_name: self.call.return_bool, column }
    }

    /// The labels of the result of a pair. Labels that are copied from the "one" side to many series count as points.
    fn labels(&self, many: usize, one: usize) -> Result<Labels, QueryError> {
        let matching = &self.call.matching;
        let mut labels = self.many[many].labels.clone();
        if self.drop_metadata {
            labels = without_metadata(&labels);
        }
        if matching.cardinality == Cardinality::OneToOne {
            let named = |name: &str| matching.labels.iter().any(|label| label == name);
            labels = Labels::from_sorted(labels.iter().filter(|(name, _)| named(name) == matching.on));
        }
        if matching.include.is_empty() {
            return Ok(labels);
        }
        let mut builder = LabelsBuilder::from_labels(&labels);
        let mut bytes = 0;
        for name in &matching.include {
            let value = self.one[one].labels.get(name).unwrap_or_default();
            bytes += value.len();
            builder.set(name, value);
        }
        self.budget.add((bytes / size_of::<f64>()) as u64)?;
        Ok(builder.finish())
    }
}

/// The result of an operator on two values; nothing where a comparison filters. `kept` is the value that passes.
#[inline]
pub(super) fn combine(call: &BinaryCall, left: f64, right: f64, kept: f64) -> Option<f64> {
    match compare(call.op, left, right) {
        None => arithmetic(call.op, left, right),
        Some(holds) if call.return_bool => Some(from_bool(holds)),
        Some(holds) => holds.then_some(kept),
    }
}

/// The labels by which series are paired.
pub(super) fn signature_choice(matching: &Matching) -> LabelChoice {
    if matching.on { LabelChoice::only(&matching.labels) } else { LabelChoice::all_but(&matching.labels) }
}

/// The number of each series' signature, for both sides, and how many signatures there are.
pub(super) fn signatures(
    matching: &Matching,
    left: &[Series],
    right: &[Series],
    workers: &Workers,
) -> (Vec<usize>, Vec<usize>, usize) {
    let labels: Vec<&Labels> = left.iter().chain(right).map(|one| &one.labels).collect();
    let mut left_numbers = signature_choice(matching).number(&labels, workers);
    let right_numbers = left_numbers.numbers.split_off(left.len());
    (left_numbers.numbers, right_numbers, left_numbers.count)
}

fn match_groups(matching: &Matching, many: &[Series], one: &[Series], workers: &Workers) -> Vec<MatchGroup> {
    let (many_numbers, one_numbers, count) = signatures(matching, many, one, workers);
    let mut groups = vec![MatchGroup::default(); count];
    for (index, number) in many_numbers.into_iter().enumerate() {
        groups[number].many.push(index);
    }
    for (index, number) in one_numbers.into_iter().enumerate() {
        groups[number].one.push(index);
    }
    groups
}

fn any_present(series: &[Series], steps: &Steps) -> Vec<bool> {
    let mut present = vec![false; steps.count()];
    for step in series.iter().flat_map(|one| one.column.present_steps()) {
        present[step] = true;
    }
    present
}

/// The series with only those values whose signature is present (or absent) at their step.
fn masked(series: Vec<Series>, numbers: &[usize], present: &Presence, wanted: bool) -> Vec<Series> {
    let mut kept = Vec::with_capacity(series.len());
    for (mut one, number) in series.into_iter().zip(numbers) {
        one.column.retain(|step| present.at(*number, step) == wanted);
        if !one.column.is_absent() {
            kept.push(one);
        }
    }
    kept
}
