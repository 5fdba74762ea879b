//! What a query cost, as Prometheus' `stats` parameter shows it.

use std::io::{self, Write};

use super::number;
use crate::promql::value::QueryCosts;

/// The costs of a query, and how much of them is shown.
#[derive(Debug, Clone)]
pub struct QueryStats {
    /// What the engine counted.
    pub costs: QueryCosts,
    /// Seconds that the query waited for its turn.
    pub queue_seconds: f64,
    /// Seconds from its arrival to its answer.
    pub total_seconds: f64,
    /// Whether samples are shown by step.
    pub by_step: bool,
}

impl QueryStats {
    /// The object, as Prometheus writes it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let QueryStats { costs, queue_seconds, total_seconds, by_step } = self;
        let timings = [
            ("evalTotalTime", costs.prepare_seconds + costs.evaluate_seconds),
            // Series come sorted from the source.
            ("resultSortTime", 0.0),
            ("queryPreparationTime", costs.prepare_seconds),
            ("innerEvalTime", costs.evaluate_seconds),
            ("execQueueTime", *queue_seconds),
            ("execTotalTime", *total_seconds),
        ];
        out.write_all(br#"{"timings":{"#)?;
        for (index, (name, seconds)) in timings.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, r#"{comma}"{name}":{seconds}"#)?;
        }
        out.write_all(br#"},"samples":{"#)?;
        if *by_step {
            out.write_all(br#""totalQueryableSamplesPerStep":["#)?;
            for (index, (time_ms, samples)) in costs.samples_by_step.iter().enumerate() {
                out.write_all(if index > 0 { b",[" } else { b"[" })?;
                number::write_sample_time(out, *time_ms)?;
                write!(out, ",{samples}]")?;
            }
            out.write_all(b"],")?;
        }
        let QueryCosts { samples, peak_samples, .. } = costs;
        write!(out, r#""totalQueryableSamples":{samples},"peakSamples":{peak_samples}}}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_read_as_in_prometheus() {
        let costs = QueryCosts {
            prepare_seconds: 0.25,
            evaluate_seconds: 0.5,
            samples: 3,
            peak_samples: 2,
            samples_by_step: vec![(1_000, 1), (2_500, 2)],
        };
        let mut stats = QueryStats { costs, queue_seconds: 0.0, total_seconds: 1.0, by_step: true };
        let text = |stats: &QueryStats| {
            let mut out = Vec::new();
            stats.write(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let timings = r#"{"timings":{"evalTotalTime":0.75,"resultSortTime":0,"queryPreparationTime":0.25,"innerEvalTime":0.5,"execQueueTime":0,"execTotalTime":1},"samples":{"#;
        let by_step = r#""totalQueryableSamplesPerStep":[[1,1],[2.500,2]],"#;
        let sums = r#""totalQueryableSamples":3,"peakSamples":2}}"#;
        assert_eq!(text(&stats), format!("{timings}{by_step}{sums}"));
        stats.by_step = false;
        assert_eq!(text(&stats), format!("{timings}{sums}"));
    }
}
