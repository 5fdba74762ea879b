//! Several receivers under the same stream: medians over rounds, and how many times as much as the first one each takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quantity;
use crate::result::RunResult;

/// Which direction of a figure is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Cost, latency, memory.
    Less,
    /// Throughput.
    More,
}

/// A figure by which receivers are compared.
pub struct Figure {
    /// Its name in JSON. It never changes.
    pub key: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// What is better.
    pub better: Better,
    /// How it is written.
    pub show: fn(f64) -> String,
    /// Where it comes from; `None` if this run did not measure it.
    pub of: fn(&RunResult) -> Option<f64>,
}

/// All figures that are compared, in the order of the tables.
pub const FIGURES: [Figure; 11] = [
    Figure {
        key: "cpu_s_per_million_samples",
        title: "CPU s per M samples",
        better: Better::Less,
        show: quantity::number,
        of: |run| run.cost.as_ref().map(|cost| cost.cpu_s_per_million_samples),
    },
    Figure {
        key: "rss_bytes_per_series",
        title: "RSS per series",
        better: Better::Less,
        show: quantity::bytes,
        of: |run| run.cost.as_ref().and_then(|cost| share(cost.rss_bytes, run.series)),
    },
    Figure {
        key: "rss_bytes",
        title: "RSS",
        better: Better::Less,
        show: quantity::bytes,
        of: |run| run.cost.as_ref().map(|cost| cost.rss_bytes as f64),
    },
    Figure {
        key: "peak_rss_bytes",
        title: "peak RSS",
        better: Better::Less,
        show: quantity::bytes,
        of: |run| run.cost.as_ref().map(|cost| cost.peak_rss_bytes as f64),
    },
    Figure {
        key: "written_bytes_per_sample",
        title: "written per sample",
        better: Better::Less,
        show: quantity::bytes,
        of: written_per_sample,
    },
    Figure {
        key: "achieved_rate",
        title: "samples/s",
        better: Better::More,
        show: quantity::count,
        of: |run| Some(run.achieved_rate),
    },
    Figure {
        key: "p50_ms",
        title: "p50",
        better: Better::Less,
        show: quantity::milliseconds,
        of: |run| Some(run.p50_ms),
    },
    Figure {
        key: "p95_ms",
        title: "p95",
        better: Better::Less,
        show: quantity::milliseconds,
        of: |run| Some(run.p95_ms),
    },
    Figure {
        key: "p99_ms",
        title: "p99",
        better: Better::Less,
        show: quantity::milliseconds,
        of: |run| Some(run.p99_ms),
    },
    Figure {
        key: "max_ms",
        title: "max",
        better: Better::Less,
        show: quantity::milliseconds,
        of: |run| Some(run.max_ms),
    },
    // Not the receiver's: it tells how much of a shared machine was left to it.
    Figure {
        key: "generator_cpu_s_per_million_samples",
        title: "generator CPU s per M",
        better: Better::Less,
        show: quantity::number,
        of: |run| {
            let samples = run.achieved_rate * run.duration_s;
            (samples > 0.0).then(|| run.headroom.cpu_s / samples * 1e6)
        },
    },
];

/// One figure of one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Of all rounds.
    pub median: f64,
    /// The least of all rounds.
    pub min: f64,
    /// The most of all rounds.
    pub max: f64,
    /// The median, divided by that of the first receiver; `None` if that is zero or was not measured.
    pub ratio: Option<f64>,
}

impl Summary {
    /// Whether the rounds of the two overlap, so that a ratio between them says little.
    pub fn overlaps(&self, other: &Summary) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// One receiver among several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Its name.
    pub receiver: String,
    /// How many rounds the medians are made of; rounds that cannot be trusted are not among them.
    pub rounds: usize,
    /// By [`Figure::key`]; without those that no round measured.
    pub figures: BTreeMap<String, Summary>,
}

/// Compares the receivers of these runs; runs of one receiver are its rounds, the first receiver is the base.
///
/// Rounds that were interrupted, got no answer, or in which the generator was the limit say nothing about a receiver;
/// the last ones count all the same where the user allows it.
pub fn compare(runs: &[RunResult], bottleneck_allowed: bool) -> Vec<Compared> {
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        if !names.contains(&run.receiver.as_str()) {
            names.push(&run.receiver);
        }
    }
    let mut compared: Vec<Compared> = Vec::new();
    for name in names {
        let rounds: Vec<&RunResult> =
            runs.iter().filter(|run| run.receiver == name && trusted(run, bottleneck_allowed)).collect();
        let mut figures = BTreeMap::new();
        for figure in &FIGURES {
            let values: Vec<f64> =
                rounds.iter().filter_map(|run| (figure.of)(run)).filter(|value| value.is_finite()).collect();
            let base = compared.first().map(|first| first.figures.get(figure.key).map(|base| base.median));
            if let Some(summary) = summarize(values, base) {
                figures.insert(figure.key.to_owned(), summary);
            }
        }
        compared.push(Compared { receiver: name.to_owned(), rounds: rounds.len(), figures });
    }
    compared
}

fn trusted(run: &RunResult, bottleneck_allowed: bool) -> bool {
    // Without a single answer there is no latency, and no cost of an answer.
    let is_complete = run.achieved_rate > 0.0 && !run.interrupted;
    is_complete && (bottleneck_allowed || run.headroom.bottleneck.is_none())
}

/// `base` is `None` for the first receiver, which is its own base.
fn summarize(mut values: Vec<f64>, base: Option<Option<f64>>) -> Option<Summary> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    };
    let base = base.unwrap_or(Some(median));
    let ratio = base.filter(|base| *base != 0.0).map(|base| median / base);
    Some(Summary { median, min, max, ratio })
}

/// Bytes written to storage per sample, both of the measured part: counts of a run include its warm-up.
pub fn written_per_sample(run: &RunResult) -> Option<f64> {
    let samples = run.achieved_rate * run.duration_s;
    let written = run.cost.as_ref()?.written_bytes?;
    (samples > 0.0).then(|| written as f64 / samples)
}

/// `None` of nothing, rather than infinity.
pub fn share(amount: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| amount as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Headroom, ReceiverCost};

    fn run(receiver: &str, cpu: f64, p99_ms: f64) -> RunResult {
        RunResult {
            receiver: receiver.to_owned(),
            series: 1000,
            achieved_rate: 10.0,
            p99_ms,
            cost: Some(ReceiverCost {
                cpu_s_per_million_samples: cpu,
                rss_bytes: 600_000,
                ..ReceiverCost::default()
            }),
            ..RunResult::default()
        }
    }

    #[test]
    fn ratios_are_between_medians_and_to_the_first_receiver() {
        let runs = [
            run("a", 0.2, 5.0),
            run("b", 2.0, 60.0),
            run("a", 0.3, 4.0),
            run("b", 2.2, 50.0),
            run("a", 0.25, 9.0),
        ];
        let compared = compare(&runs, false);
        assert_eq!((compared[0].receiver.as_str(), compared[0].rounds), ("a", 3));
        let (a, b) = (&compared[0].figures, &compared[1].figures);
        assert_eq!(
            a["cpu_s_per_million_samples"],
            Summary { median: 0.25, min: 0.2, max: 0.3, ratio: Some(1.0) }
        );
        assert_eq!(b["cpu_s_per_million_samples"].median, 2.1);
        assert_eq!(b["p99_ms"].ratio, Some(11.0));
        assert_eq!(a["rss_bytes_per_series"].median, 600.0);
    }

    #[test]
    fn rounds_in_which_the_generator_was_the_limit_do_not_count() {
        let mut slow = run("a", 0.2, 900.0);
        slow.headroom = Headroom { bottleneck: Some("its CPUs are busy".to_owned()), ..Headroom::default() };
        let compared = compare(&[run("a", 0.2, 5.0), slow], false);
        assert_eq!((compared[0].rounds, compared[0].figures["p99_ms"].max), (1, 5.0));
    }

    #[test]
    fn rounds_without_any_answer_do_not_count_as_fast() {
        let silent = RunResult { achieved_rate: 0.0, ..run("a", 0.0, 0.0) };
        let compared = compare(&[silent], false);
        assert_eq!((compared[0].rounds, compared[0].figures.len()), (0, 0));
    }

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        let mut unknown = run("remote", 0.0, 5.0);
        unknown.cost = None;
        let compared = compare(&[unknown, run("b", 2.0, 5.0)], false);
        assert!(!compared[0].figures.contains_key("cpu_s_per_million_samples"));
        assert_eq!(compared[1].figures["cpu_s_per_million_samples"].ratio, None);
    }

    #[test]
    fn written_bytes_are_divided_by_the_samples_of_the_measured_part() {
        let cost = ReceiverCost { written_bytes: Some(1100), ..ReceiverCost::default() };
        let mut run = RunResult { acknowledged_samples: 900, cost: Some(cost), ..RunResult::default() };
        assert_eq!(written_per_sample(&run), None);
        (run.achieved_rate, run.duration_s) = (10.0, 10.0);
        assert_eq!(written_per_sample(&run), Some(11.0));
    }

    #[test]
    fn overlapping_rounds_are_recognised() {
        let of = |min, max| Summary { median: min, min, max, ratio: None };
        assert!(of(1.0, 2.0).overlaps(&of(1.5, 3.0)));
        assert!(!of(1.0, 2.0).overlaps(&of(2.5, 3.0)));
    }
}
