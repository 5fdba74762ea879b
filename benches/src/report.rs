//! Medians as a table, and ratios to the first receiver.

use std::fmt;

use crate::receiver::Kind;

/// The numbers of one run.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Of which receiver.
    pub kind: Kind,
    /// Acknowledged samples by wall clock.
    pub samples_per_second: f64,
    /// The receiver's CPU.
    pub cpu_seconds_per_million: f64,
    /// The load's own CPU on the same machine.
    pub sender_cpu_seconds_per_million: f64,
    /// The receiver's memory at the end.
    pub resident_mebibytes: f64,
    /// Its most since it started.
    pub resident_peak_mebibytes: f64,
    /// Bytes to storage.
    pub written_bytes_per_sample: f64,
    /// Half of the answers came sooner.
    pub latency_p50_ms: f64,
    /// One answer in a hundred took longer.
    pub latency_p99_ms: f64,
    /// Requests that were sent again.
    pub retries: u64,
}

/// A column: its title, its digits after the point, and where it comes from.
type Column = (&'static str, usize, fn(&Measurement) -> f64);

const COLUMNS: [Column; 9] = [
    ("CPU s/M samples", 3, |run| run.cpu_seconds_per_million),
    ("samples/s", 0, |run| run.samples_per_second),
    ("p50 ms", 2, |run| run.latency_p50_ms),
    ("p99 ms", 2, |run| run.latency_p99_ms),
    ("RSS MiB", 0, |run| run.resident_mebibytes),
    ("peak MiB", 0, |run| run.resident_peak_mebibytes),
    ("written B/sample", 1, |run| run.written_bytes_per_sample),
    ("retries", 0, |run| run.retries as f64),
    ("sender CPU s/M", 3, |run| run.sender_cpu_seconds_per_million),
];

impl fmt::Display for Measurement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.kind.name())?;
        for (title, digits, value) in COLUMNS {
            write!(formatter, ", {title} {:.digits$}", value(self))?;
        }
        Ok(())
    }
}

/// Prints the medians of each receiver, and how many times as much as the first one each other takes.
pub fn print_report(measured: &[(Kind, Vec<Measurement>)]) {
    println!("\nmedians:");
    print_line("receiver", COLUMNS.map(|(title, ..)| title.to_owned()));
    for (kind, runs) in measured {
        print_line(
            kind.name(),
            COLUMNS.map(|(_, digits, value)| format!("{:.digits$}", median(runs, value))),
        );
    }
    let Some(((base, base_runs), others)) = measured.split_first().filter(|(_, others)| !others.is_empty())
    else {
        return;
    };
    println!("\ntimes as much as {}:", base.name());
    for (kind, runs) in others {
        print_line(
            kind.name(),
            COLUMNS.map(|(_, _, value)| {
                let ratio = median(runs, value) / median(base_runs, value);
                if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() }
            }),
        );
    }
}

fn print_line(name: &str, cells: [String; COLUMNS.len()]) {
    let cells: Vec<String> = cells
        .iter()
        .zip(COLUMNS)
        .map(|(cell, (title, ..))| format!("{cell:>width$}", width = title.len()))
        .collect();
    println!("{name:<17} {}", cells.join("  "));
}

fn median(runs: &[Measurement], value: fn(&Measurement) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(samples_per_second: f64) -> Measurement {
        Measurement {
            kind: Kind::Prometheus,
            samples_per_second,
            cpu_seconds_per_million: 0.0,
            sender_cpu_seconds_per_million: 0.0,
            resident_mebibytes: 0.0,
            resident_peak_mebibytes: 0.0,
            written_bytes_per_sample: 0.0,
            latency_p50_ms: 0.0,
            latency_p99_ms: 0.0,
            retries: 0,
        }
    }

    #[test]
    fn the_median_does_not_depend_on_order() {
        let of = |values: &[f64]| {
            let runs: Vec<_> = values.iter().map(|value| run(*value)).collect();
            median(&runs, |run| run.samples_per_second)
        };
        assert_eq!(of(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(of(&[]).is_nan());
    }
}
