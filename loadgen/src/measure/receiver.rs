//! What the receiver spends: read from `/proc` for processes on this machine, from its metrics otherwise.

use std::sync::Arc;

use super::usage::{self, Usage};
use crate::result::ReceiverCost;
use crate::send::endpoint::Endpoint;
use crate::send::link::get_page;

/// Where the receiver's costs are seen.
#[derive(Clone)]
pub enum CostSource {
    /// Its processes on this machine.
    Processes(Vec<u32>),
    /// The metrics of its processes, in Prometheus' text format.
    Metrics(Vec<Arc<Endpoint>>),
}

/// The sum over the receiver's processes at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Reading {
    usage: Usage,
    context_switches: Option<u64>,
}

/// Follows the costs over the measured part of a load.
pub struct CostMeter {
    source: CostSource,
    first: Option<Reading>,
    last: Option<Reading>,
    rss_max_bytes: u64,
    /// Why there is no reading, the first time there was none.
    trouble: Option<String>,
}

/// What one second cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// CPU since the last reading, in seconds.
    pub cpu_s: f64,
    /// Memory.
    pub rss_bytes: u64,
}

impl CostMeter {
    /// One that has not looked yet.
    pub fn new(source: CostSource) -> CostMeter {
        CostMeter { source, first: None, last: None, rss_max_bytes: 0, trouble: None }
    }

    /// Looks for the first time, when the measured part begins.
    pub async fn begin(&mut self) -> Result<(), String> {
        let reading = self.read(true).await?;
        self.rss_max_bytes = reading.usage.rss_bytes;
        (self.first, self.last) = (Some(reading), Some(reading));
        Ok(())
    }

    /// Like [`begin`](CostMeter::begin), for a receiver that could be read before: what fails is told at the end.
    pub async fn begin_or_note(&mut self) {
        if let Err(error) = self.begin().await {
            self.trouble.get_or_insert(error);
        }
    }

    /// Looks again. Nothing is known of a second in which a process could not be read or was restarted.
    pub async fn step(&mut self) -> Option<Step> {
        let reading = match self.read(false).await {
            Ok(reading) => reading,
            Err(error) => {
                self.trouble.get_or_insert(error);
                return None;
            }
        };
        let before = self.last.replace(reading)?;
        let cpu_s = reading.usage.cpu_s - before.usage.cpu_s;
        if cpu_s < 0.0 {
            self.trouble.get_or_insert_with(|| "a process was restarted".to_owned());
            return None;
        }
        self.rss_max_bytes = self.rss_max_bytes.max(reading.usage.rss_bytes);
        Some(Step { cpu_s, rss_bytes: reading.usage.rss_bytes })
    }

    /// The sum, for so many acknowledged samples; an error says why there is none.
    pub async fn end(self, acknowledged_samples: u64) -> Result<ReceiverCost, String> {
        let last = self.read(true).await?;
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let first = self.first.unwrap_or_default();
        let cpu_s = last.usage.cpu_s - first.usage.cpu_s;
        let difference = |after: Option<u64>, before: Option<u64>| Some(after?.saturating_sub(before?));
        // The kernel remembers the highest peak; it is of the measured part only if it rose there.
        let did_peak = last.usage.rss_peak_bytes > first.usage.rss_peak_bytes;
        let peak_rss_bytes = if did_peak { last.usage.rss_peak_bytes } else { self.rss_max_bytes };
        Ok(ReceiverCost {
            cpu_s,
            cpu_s_per_million_samples: if acknowledged_samples == 0 {
                0.0
            } else {
                cpu_s / (acknowledged_samples as f64 / 1e6)
            },
            rss_bytes: last.usage.rss_bytes,
            peak_rss_bytes: peak_rss_bytes.max(last.usage.rss_bytes),
            written_bytes: difference(last.usage.written_bytes, first.usage.written_bytes),
            context_switches: difference(last.context_switches, first.context_switches),
            source: self.source.to_string(),
        })
    }

    /// Context switches are counted thread by thread, which is too dear for every second.
    async fn read(&self, is_full: bool) -> Result<Reading, String> {
        let mut sum = Reading::default();
        sum.usage.written_bytes = Some(0);
        match &self.source {
            CostSource::Processes(pids) => {
                for &pid in pids {
                    let failed = |error| format!("process {pid} cannot be read: {error}");
                    sum.add(Usage::of(pid).map_err(failed)?);
                    if is_full {
                        let switches = usage::context_switches(pid).map_err(failed)?;
                        sum.context_switches = Some(sum.context_switches.unwrap_or(0) + switches);
                    }
                }
            }
            CostSource::Metrics(endpoints) => {
                for endpoint in endpoints {
                    let failed = |error: String| format!("metrics of {}: {error}", endpoint.url);
                    let page = get_page(endpoint).await.map_err(|error| failed(error.to_string()))?;
                    sum.add(parse_metrics(&page).map_err(failed)?);
                }
            }
        }
        Ok(sum)
    }
}

impl Reading {
    fn add(&mut self, usage: Usage) {
        self.usage.cpu_s += usage.cpu_s;
        self.usage.rss_bytes += usage.rss_bytes;
        self.usage.rss_peak_bytes += usage.rss_peak_bytes;
        let written = self.usage.written_bytes.zip(usage.written_bytes);
        self.usage.written_bytes = written.map(|(sum, bytes)| sum + bytes);
    }
}

impl std::fmt::Display for CostSource {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, names): (_, Vec<String>) = match self {
            CostSource::Processes(pids) => ("processes", pids.iter().map(u32::to_string).collect()),
            CostSource::Metrics(endpoints) => {
                ("metrics of", endpoints.iter().map(|endpoint| endpoint.url.clone()).collect())
            }
        };
        write!(out, "{what} {}", names.join(", "))
    }
}

/// Finds the metrics that every Prometheus client library has about its process.
fn parse_metrics(page: &str) -> Result<Usage, String> {
    let value = |name: &str| {
        page.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            // With or without labels, with or without a timestamp.
            let rest = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
            if !rest.starts_with(' ') {
                return None;
            }
            rest.split_whitespace().next()?.parse::<f64>().ok()
        })
    };
    let needed = |name: &str| value(name).ok_or_else(|| format!("has no {name}"));
    let rss_bytes = needed("process_resident_memory_bytes")? as u64;
    Ok(Usage {
        cpu_s: needed("process_cpu_seconds_total")?,
        rss_bytes,
        rss_peak_bytes: 0,
        written_bytes: value("process_io_storage_written_bytes_total").map(|bytes| bytes as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_a_process_are_found_with_and_without_labels() {
        let page = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total{a=\"}\"} 1.5 1700000000\n\
                    process_resident_memory_bytes_x 3\nprocess_resident_memory_bytes 1.2e+06\n";
        let usage = parse_metrics(page).unwrap();
        assert_eq!((usage.cpu_s, usage.rss_bytes, usage.written_bytes), (1.5, 1_200_000, None));
        assert!(parse_metrics("up 1\n").unwrap_err().contains("process_resident_memory_bytes"));
    }

    #[tokio::test]
    async fn the_cost_of_this_very_process_is_seen() {
        let mut meter = CostMeter::new(CostSource::Processes(vec![std::process::id()]));
        meter.begin().await.unwrap();
        let begun = std::time::Instant::now();
        let mut number = 1u64;
        while begun.elapsed().as_millis() < 100 {
            number = std::hint::black_box(number.wrapping_mul(7));
        }
        assert!(meter.step().await.unwrap().rss_bytes > 0);
        let cost = meter.end(2_000_000).await.unwrap();
        assert!(cost.cpu_s > 0.02 && cost.cpu_s_per_million_samples == cost.cpu_s / 2.0, "{cost:?}");
        assert!(cost.peak_rss_bytes >= cost.rss_bytes);
        assert_eq!(cost.source, format!("processes {}", std::process::id()));
    }

    #[tokio::test]
    async fn a_process_that_is_not_there_is_named() {
        let mut meter = CostMeter::new(CostSource::Processes(vec![u32::MAX]));
        assert!(meter.begin().await.unwrap_err().starts_with("process 4294967295 cannot be read"));
    }
}
