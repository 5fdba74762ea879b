//! `info`: adds the labels of info series, such as `target_info`, to the series of the same instance and job.

use std::collections::{HashMap, HashSet};

use annulus_shards::labels::METRIC_NAME;
use annulus_shards::{Labels, LabelsBuilder, MatchOp, Matcher};

use super::column::{Column, Series, merge_same_labels};
use super::control::Control;
use super::eval::Evaluator;
use super::grouping::LabelChoice;
use super::label_functions::format_labels;
use super::node::{Node, Selector};
use super::steps::Steps;
use crate::promql::value::QueryError;

/// The info metric that is meant if none is named.
const TARGET_INFO: &str = "target_info";

/// Info metrics, as opposed to others, where the query only says which it does not mean.
const ANY_INFO: &str = ".+_info";

/// The labels by which an info series belongs to another.
const IDENTIFYING_LABELS: [&str; 2] = ["instance", "job"];

/// A call of `info`.
pub(super) struct InfoCall {
    /// The series that get labels.
    pub(super) node: Node,
    /// The info series, as of the time of what they are added to.
    pub(super) selector: Selector,
    /// Which info metrics are asked for: a series of these is not extended.
    pub(super) names: Vec<Matcher>,
    /// Conditions on the labels to add; if there are any, only these labels are added.
    pub(super) data: Vec<Matcher>,
}

/// The matchers of a call's second argument: those on the name, with what they mean if they do not say which
/// metrics, and those on other labels.
pub(super) fn info_matchers(matchers: &[Matcher]) -> Result<(Vec<Matcher>, Vec<Matcher>), QueryError> {
    let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
        matchers.iter().cloned().partition(|matcher| matcher.name == METRIC_NAME);
    let is_positive = |matcher: &Matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
    if !names.iter().any(is_positive) {
        let (op, value) =
            if names.is_empty() { (MatchOp::Equal, TARGET_INFO) } else { (MatchOp::Regex, ANY_INFO) };
        let matcher = Matcher::new(op, METRIC_NAME, value);
        names.insert(0, matcher.map_err(|error| QueryError::Execution(error.to_string()))?);
    }
    Ok((names, data))
}

/// The info series of one metric that belong to the same instance and job: at a step the newest one counts.
struct Group {
    series: Vec<usize>,
}

/// What is known before the series are extended one by one.
struct Info<'a> {
    call: &'a InfoCall,
    series: Vec<Series>,
    groups: Vec<Group>,
    /// Groups by the identity that they share, in order of the names of their metrics.
    by_identity: HashMap<Labels, Vec<usize>>,
    identity: LabelChoice,
}

impl Evaluator<'_> {
    /// The value of `info`.
    pub(super) fn info(&self, call: &InfoCall, steps: &Steps) -> Result<Vec<Series>, QueryError> {
        let base = self.vector(&call.node, steps)?;
        let series = self.latest_times(&call.selector, steps, false).collect(self, steps)?;
        let is_info = |one: &Series| {
            let name = one.labels.metric_name().unwrap_or_default();
            call.names.iter().all(|matcher| matcher.matches(name))
        };
        let info = Info::new(call, series, base.iter().filter(|one| !is_info(one)));
        info.check_conflicts(&base, steps, self.control)?;
        let mut extended = Vec::with_capacity(base.len());
        for one in base {
            self.control.check()?;
            if is_info(&one) {
                extended.push(one);
            } else {
                extended.extend(self.extend(&info, &one)?);
            }
        }
        merge_same_labels(extended)
    }

    /// The series with other labels wherever it meets other info series.
    fn extend(&self, info: &Info<'_>, one: &Series) -> Result<Vec<Series>, QueryError> {
        let identity = info.identity.of(&one.labels);
        let groups = info.by_identity.get(&identity).map(Vec::as_slice).unwrap_or_default();
        let mut columns: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut results: Vec<Option<Series>> = Vec::new();
        for step in one.column.present_steps() {
            let met: Vec<usize> =
                groups.iter().filter_map(|group| info.newest(&info.groups[*group], step)).collect();
            let place = match columns.get(&met) {
                Some(place) => *place,
                None => {
                    let result = match info.labels(&one.labels, &met)? {
                        Some(labels) => {
                            self.budget.add(one.column.len() as u64)?;
                            let column = Column::absent_within(&one.column);
                            Some(Series { labels, drop_name: one.drop_name, column })
                        }
                        None => None,
                    };
                    results.push(result);
                    columns.insert(met, results.len() - 1);
                    results.len() - 1
                }
            };
            if let (Some(result), Some(value)) = (&mut results[place], one.column.value(step)) {
                result.column.set_value(step, value);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }
}

impl<'a> Info<'a> {
    /// Keeps the info series that may belong to any of the others: those whose identifying labels each have a value
    /// that one of them has.
    fn new<'s>(call: &'a InfoCall, series: Vec<Series>, base: impl Iterator<Item = &'s Series>) -> Info<'a> {
        let mut values: [HashSet<&str>; 2] = Default::default();
        for one in base {
            for (name, values) in IDENTIFYING_LABELS.iter().zip(&mut values) {
                values.extend(one.labels.get(name).filter(|value| !value.is_empty()));
            }
        }
        let may_belong = |one: &Series| {
            let mut asked = IDENTIFYING_LABELS.iter().zip(&values).filter(|(_, values)| !values.is_empty());
            asked.all(|(name, values)| values.contains(one.labels.get(name).unwrap_or_default()))
        };
        let any_asked = values.iter().any(|values| !values.is_empty());
        let series: Vec<Series> = series.into_iter().filter(|one| any_asked && may_belong(one)).collect();
        let identity = LabelChoice::only(&IDENTIFYING_LABELS.map(str::to_owned));
        let mut numbers: HashMap<(&str, Labels), usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut by_identity: HashMap<Labels, Vec<usize>> = HashMap::new();
        for (index, one) in series.iter().enumerate() {
            let (name, labels) = (one.labels.metric_name().unwrap_or_default(), identity.of(&one.labels));
            let number = *numbers.entry((name, labels)).or_insert_with_key(|(_, labels)| {
                groups.push(Group { series: Vec::new() });
                by_identity.entry(labels.clone()).or_default().push(groups.len() - 1);
                groups.len() - 1
            });
            groups[number].series.push(index);
        }
        drop(numbers);
        Info { call, series, groups, by_identity, identity }
    }

    /// The series of a group whose sample is the newest at a step; the values of info series here are the times of
    /// their samples.
    fn newest(&self, group: &Group, step: usize) -> Option<usize> {
        let time = |index: &usize| self.series[*index].column.get(step);
        let newer = |a: &usize, b: &usize| time(a).partial_cmp(&time(b)).unwrap_or(std::cmp::Ordering::Equal);
        group.series.iter().copied().max_by(newer).filter(|index| time(index).is_some())
    }

    /// Refuses two samples of the same time in one group, at steps at which there is something to extend.
    fn check_conflicts(&self, base: &[Series], steps: &Steps, control: &Control) -> Result<(), QueryError> {
        if self.groups.iter().all(|group| group.series.len() < 2) {
            return Ok(());
        }
        for step in 0..steps.count() {
            control.check()?;
            if !base.iter().any(|one| one.column.value(step).is_some()) {
                continue;
            }
            for group in self.groups.iter().filter(|group| group.series.len() > 1) {
                let Some(newest) = self.newest(group, step) else { continue };
                let time = self.series[newest].column.get(step);
                let equal =
                    |index: &&usize| **index != newest && self.series[**index].column.get(step) == time;
                if let (Some(first), Some(time)) = (group.series.iter().find(equal), time) {
                    let time_ms = (time * 1000.0).round() as i64;
                    let [first, second] = [*first, newest]
                        .map(|index| format!("{} @ {time_ms}", show_series(&self.series[index].labels)));
                    return Err(QueryError::Execution(format!(
                        "found duplicate series for info metric: existing {first}, new {second}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The labels of a series with those of the info series that it meets; nothing if it should have met one.
    fn labels(&self, base: &Labels, met: &[usize]) -> Result<Option<Labels>, QueryError> {
        let data = &self.call.data;
        if met.is_empty() && !data.iter().all(Matcher::matches_empty) {
            return Ok(None);
        }
        let mut added: HashMap<&str, &str> = HashMap::new();
        let mut builder = LabelsBuilder::from_labels(base);
        for index in met {
            for (name, value) in self.series[*index].labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
                if !data.is_empty() && !data.iter().any(|matcher| matcher.name == name) {
                    continue;
                }
                if added.get(name).is_some_and(|before| *before != value) {
                    return Err(QueryError::Execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.insert(name, value);
                    builder.set(name, value);
                }
            }
        }
        Ok(Some(builder.finish()))
    }
}

/// `name{a="1"}`, as Prometheus writes a series.
fn show_series(labels: &Labels) -> String {
    let name = labels.metric_name().unwrap_or_default();
    format!("{name}{}", format_labels(labels.iter().filter(|(name, _)| *name != METRIC_NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
        Matcher::new(op, name, value).unwrap()
    }

    fn names(matchers: &[Matcher]) -> Vec<(MatchOp, String)> {
        let (names, _) = info_matchers(matchers).unwrap();
        names.iter().map(|matcher| (matcher.op, matcher.value.clone())).collect()
    }

    #[test]
    fn the_metrics_meant_are_those_named_or_target_info() {
        let (named, not) = (MatchOp::Equal, MatchOp::NotEqual);
        assert_eq!(names(&[]), [(named, TARGET_INFO.to_owned())]);
        assert_eq!(names(&[matcher(named, METRIC_NAME, "a")]), [(named, "a".to_owned())]);
        assert_eq!(
            names(&[matcher(not, METRIC_NAME, "a"), matcher(named, "b", "c")]),
            [(MatchOp::Regex, ANY_INFO.to_owned()), (not, "a".to_owned())]
        );
    }
}
