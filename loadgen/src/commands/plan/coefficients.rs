//! What a sample and a series cost: built-in guesses, replaced by what was measured on the user's own machine.

use std::path::Path;

use serde::Serialize;

use crate::commands::plan::PlanError;
use crate::commands::plan::worksheet::{Term, Unit};
use crate::quantity;
use crate::report::Report;
use crate::report::comparison::{share, written_per_sample};
use crate::result::RunResult;

/// The field's rule: a receiver whose p95 is above two seconds is overloaded.
pub const P95_MS_MAX: f64 = 2000.0;

/// A step that acknowledged a smaller share of the offered rate did not sustain it.
const KEPT_UP_SHARE: f64 = 0.98;

/// Which coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Receiving a sample and making it durable.
    CpuPerMillionSamples,
    /// Sending a sample on to another node.
    CpuPerMillionForwarded,
    /// Making a series.
    CpuPerMillionNewSeries,
    /// Cutting, compacting and downsampling blocks, over the life of a sample.
    CpuPerMillionCompacted,
    /// Memory of a series in the head.
    MemoryPerSeries,
    /// Memory of a node without any series.
    MemoryPerNode,
    /// A sample in a request.
    WirePerSample,
    /// A sample in the log.
    WalPerSample,
    /// A series in the log.
    WalPerNewSeries,
    /// A sample in a checkpoint or block.
    BlockPerSample,
    /// A series in the index of a block.
    IndexPerSeries,
    /// Five aggregates over five minutes of a series.
    WindowOf5m,
    /// Five aggregates over an hour of a series.
    WindowOf1h,
    /// How fast checkpoints are written.
    CheckpointSpeed,
    /// How much one request to the object storage carries.
    ObjectPart,
}

/// Where a coefficient comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A guess that ships with this program.
    BuiltIn,
    /// Measured by the file given as --calibrate.
    Calibrated,
    /// Given as --coefficient.
    Given,
}

/// One coefficient.
#[derive(Debug, Clone, Serialize)]
pub struct Coefficient {
    #[serde(skip)]
    key: Key,
    #[serde(skip)]
    unit: Unit,
    /// Its name on the command line and in JSON.
    pub name: &'static str,
    /// In base units.
    pub value: f64,
    /// Where it comes from.
    pub source: Source,
    /// What it is, after its value.
    pub label: &'static str,
}

impl Coefficient {
    /// The value with its unit.
    pub fn shown(&self) -> String {
        format!("{} {}", self.unit.show(self.value), self.label)
    }
}

const fn built_in(key: Key, name: &'static str, value: f64, unit: Unit, label: &'static str) -> Coefficient {
    Coefficient { key, unit, name, value, source: Source::BuiltIn, label }
}

const MIB: f64 = 1024.0 * 1024.0;

const BUILT_IN: [Coefficient; 15] = [
    built_in(Key::CpuPerMillionSamples, "cpu-samples", 0.25, Unit::Count, "CPU s per M samples"),
    built_in(Key::CpuPerMillionForwarded, "cpu-forwarded", 0.1, Unit::Count, "CPU s per M forwarded samples"),
    built_in(Key::CpuPerMillionNewSeries, "cpu-new-series", 10.0, Unit::Count, "CPU s per M new series"),
    built_in(Key::CpuPerMillionCompacted, "cpu-compacted", 0.5, Unit::Count, "CPU s per M samples compacted"),
    built_in(Key::MemoryPerSeries, "memory-series", 600.0, Unit::Bytes, "per series"),
    built_in(Key::MemoryPerNode, "memory-node", 2048.0 * MIB, Unit::Bytes, "for requests and queries"),
    built_in(Key::WirePerSample, "wire-sample", 40.0, Unit::Bytes, "per sample on the wire"),
    built_in(Key::WalPerSample, "wal-sample", 7.0, Unit::Bytes, "per sample in the WAL"),
    built_in(Key::WalPerNewSeries, "wal-new-series", 350.0, Unit::Bytes, "per new series in the WAL"),
    built_in(Key::BlockPerSample, "block-sample", 1.3, Unit::Bytes, "per sample in a block"),
    built_in(Key::IndexPerSeries, "index-series", 250.0, Unit::Bytes, "per series in an index"),
    built_in(Key::WindowOf5m, "window-5m", 15.0, Unit::Bytes, "per series and 5 min window"),
    built_in(Key::WindowOf1h, "window-1h", 25.0, Unit::Bytes, "per series and 1 h window"),
    built_in(Key::CheckpointSpeed, "checkpoint-speed", 100.0 * MIB, Unit::Bytes, "per second of checkpoint"),
    built_in(Key::ObjectPart, "object-part", 8.0 * MIB, Unit::Bytes, "per request"),
];

/// All coefficients, and what was measured on the user's machine beside them.
#[derive(Debug, Clone)]
pub struct Coefficients {
    all: [Coefficient; 15],
    /// The highest rate that one node sustained, in samples per second.
    pub sustained_rate: Option<f64>,
    /// Bytes written to the device per acknowledged sample.
    pub written_bytes_per_sample: Option<f64>,
    /// How many series were measured.
    pub calibrated_series: Option<u64>,
    /// What was measured, in a sentence.
    pub calibration: Option<String>,
}

impl Default for Coefficients {
    fn default() -> Coefficients {
        Coefficients {
            all: BUILT_IN,
            sustained_rate: None,
            written_bytes_per_sample: None,
            calibrated_series: None,
            calibration: None,
        }
    }
}

impl Coefficients {
    /// All of them.
    pub fn all(&self) -> &[Coefficient] {
        &self.all
    }

    /// For a line of the worksheet; a star marks what nobody measured.
    pub fn term(&self, key: Key) -> Term {
        // A key stands in the table exactly once: see the tests.
        let coefficient = self.all.iter().find(|c| c.key == key).expect("every key is in the table");
        let star = if coefficient.source == Source::BuiltIn { "*" } else { "" };
        Term::of(coefficient.value, coefficient.unit, &format!("{}{star}", coefficient.label))
    }

    /// Replaces a coefficient by "name=value".
    pub fn give(&mut self, assignment: &str) -> Result<(), PlanError> {
        let (name, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        let Some(coefficient) = self.all.iter_mut().find(|c| c.name == name) else {
            let names: Vec<&str> = BUILT_IN.iter().map(|c| c.name).collect();
            return Err(PlanError(format!("--coefficient: {name:?} is none of {}", names.join(", "))));
        };
        let parsed = match coefficient.unit {
            Unit::Bytes => quantity::parse_bytes(value),
            _ => quantity::parse_number(value),
        };
        let value = parsed.map_err(|reason| PlanError(format!("--coefficient {name}: {reason}")))?;
        coefficient.set(value, Source::Given)
    }

    /// Takes what a ramp or a run on the user's own machine measured.
    pub fn calibrate(&mut self, path: &Path) -> Result<(), PlanError> {
        let report = Report::load(path).map_err(|error| PlanError(format!("--calibrate: {error}")))?;
        self.calibrate_by(&report)
            .map_err(|PlanError(reason)| PlanError(format!("--calibrate {}: {reason}", path.display())))
    }

    fn calibrate_by(&mut self, report: &Report) -> Result<(), PlanError> {
        let sustained = |run: &&RunResult| {
            !run.interrupted
                && run.headroom.bottleneck.is_none()
                && run.p95_ms <= P95_MS_MAX
                && run.achieved_rate > 0.0
                && run.achieved_rate >= run.offered_rate * KEPT_UP_SHARE
        };
        let best = report.main_run().filter(sustained);
        let highest = || {
            report.runs.iter().filter(sustained).max_by(|a, b| a.achieved_rate.total_cmp(&b.achieved_rate))
        };
        let run = best.or_else(highest).ok_or_else(|| {
            PlanError("no run in it kept up with its rate, within a p95 of 2 s, without the generator being the bottleneck".to_owned())
        })?;
        let cost = run.cost.as_ref().ok_or_else(|| {
            PlanError(
                "it holds no cost of the receiver: measure with --receiver-pid or --receiver-metrics"
                    .to_owned(),
            )
        })?;
        self.set(Key::CpuPerMillionSamples, cost.cpu_s_per_million_samples)?;
        if let Some(bytes) = share(cost.rss_bytes, run.series) {
            self.set(Key::MemoryPerSeries, bytes)?;
        }
        if let Some(bytes) = share(run.body_bytes, run.sent_samples) {
            self.set(Key::WirePerSample, bytes)?;
        }
        self.written_bytes_per_sample = written_per_sample(run);
        // A single run shows that a rate was sustained, not that it was the highest.
        let searched = report.highest_sustained.is_some();
        self.sustained_rate = searched.then_some(run.achieved_rate);
        self.calibrated_series = Some(run.series);
        self.calibration = Some(format!(
            "{} samples/s over {} series with p95 {} on {}",
            quantity::count(run.achieved_rate),
            quantity::count(run.series as f64),
            quantity::milliseconds(run.p95_ms),
            run.machine,
        ));
        Ok(())
    }

    fn set(&mut self, key: Key, value: f64) -> Result<(), PlanError> {
        self.all.iter_mut().filter(|c| c.key == key).try_for_each(|c| c.set(value, Source::Calibrated))
    }
}

impl Coefficient {
    fn set(&mut self, value: f64, source: Source) -> Result<(), PlanError> {
        if !(value.is_finite() && value > 0.0) {
            return Err(PlanError(format!("{} must be above zero, not {value}", self.name)));
        }
        self.value = value;
        self.source = source;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Headroom, ReceiverCost};

    fn step(rate: f64, p95_ms: f64) -> RunResult {
        RunResult {
            offered_rate: rate,
            achieved_rate: rate,
            duration_s: 100.0 / rate,
            p95_ms,
            series: 1000,
            sent_samples: 100,
            acknowledged_samples: 100,
            body_bytes: 3100,
            cost: Some(ReceiverCost {
                cpu_s_per_million_samples: rate / 1e6,
                rss_bytes: 700_000,
                written_bytes: Some(1100),
                ..ReceiverCost::default()
            }),
            ..RunResult::default()
        }
    }

    fn calibrated(report: &Report) -> Result<Coefficients, String> {
        let mut coefficients = Coefficients::default();
        coefficients.calibrate_by(report).map_err(|PlanError(reason)| reason)?;
        Ok(coefficients)
    }

    #[test]
    fn every_key_and_every_name_is_in_the_table_once() {
        for (index, coefficient) in BUILT_IN.iter().enumerate() {
            assert!(
                BUILT_IN[index + 1..].iter().all(|c| c.key != coefficient.key && c.name != coefficient.name)
            );
            assert_eq!(coefficient.key as usize, index);
        }
    }

    #[test]
    fn a_ramp_gives_its_winner() {
        let steps = vec![step(100_000.0, 5.0), step(200_000.0, 90.0), step(400_000.0, 2500.0)];
        let coefficients = calibrated(&Report::ramp(String::new(), 0, steps, Some(1), None)).unwrap();
        assert_eq!(coefficients.sustained_rate, Some(200_000.0));
        assert_eq!(coefficients.term(Key::CpuPerMillionSamples).text(), "0.2 CPU s per M samples");
        assert_eq!(coefficients.term(Key::MemoryPerSeries).value, 700.0);
        assert_eq!(coefficients.term(Key::WirePerSample).value, 31.0);
        assert_eq!(coefficients.written_bytes_per_sample, Some(11.0));
        assert_eq!(coefficients.term(Key::BlockPerSample).text(), "1.3 B per sample in a block*");
    }

    #[test]
    fn a_single_run_gives_costs_but_no_highest_rate() {
        let coefficients = calibrated(&Report::run(String::new(), 0, step(100_000.0, 5.0))).unwrap();
        assert_eq!(coefficients.sustained_rate, None);
        assert_eq!(coefficients.term(Key::CpuPerMillionSamples).value, 0.1);
    }

    #[test]
    fn runs_that_prove_nothing_are_refused() {
        let slow = step(100.0, 2001.0);
        let headroom = Headroom { bottleneck: Some("busy".to_owned()), ..Headroom::default() };
        let limited = RunResult { headroom, ..step(100.0, 5.0) };
        let lagging = RunResult { achieved_rate: 90.0, ..step(100.0, 5.0) };
        let partial = RunResult { interrupted: true, ..step(100.0, 5.0) };
        for run in [slow, limited, lagging, partial] {
            let error = calibrated(&Report::run(String::new(), 0, run)).unwrap_err();
            assert!(error.starts_with("no run in it kept up"), "{error}");
        }
        let free = RunResult { cost: None, ..step(100.0, 5.0) };
        assert!(calibrated(&Report::run(String::new(), 0, free)).unwrap_err().contains("--receiver-pid"));
        let zero = RunResult { cost: Some(ReceiverCost::default()), ..step(100.0, 5.0) };
        assert!(calibrated(&Report::run(String::new(), 0, zero)).is_err());
    }

    #[test]
    fn a_coefficient_can_be_given_and_mistakes_are_named() {
        let mut coefficients = Coefficients::default();
        coefficients.give("cpu-samples=0.5").unwrap();
        coefficients.give("memory-series=1KiB").unwrap();
        assert_eq!(coefficients.term(Key::CpuPerMillionSamples).text(), "0.5 CPU s per M samples");
        assert_eq!(coefficients.term(Key::MemoryPerSeries).value, 1024.0);
        assert!(coefficients.give("cpu=1").unwrap_err().0.contains("is none of cpu-samples"));
        assert!(coefficients.give("cpu-samples").unwrap_err().0.contains("is not a number"));
        assert!(coefficients.give("cpu-samples=0").unwrap_err().0.contains("above zero"));
    }
}
