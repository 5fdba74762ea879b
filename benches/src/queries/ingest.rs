//! A load beside the queries: what dashboards feel while a cluster writes, and what writers feel.

use std::time::Duration;

use annulus_loadgen::commands::compare::target::Target;
use annulus_loadgen::commands::options::RunOptions;
use annulus_loadgen::commands::run::run;
use annulus_loadgen::measure::progress::{Phase, Progress};
use annulus_loadgen::result::RunResult;
use annulus_loadgen::send::stop::Stop;
use serde::Serialize;
use tokio::sync::Notify;

use crate::cost::{PROFILE, PROFILE_CHANGES};

/// The load ends with the queries, long before this.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// How much is written beside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ingest {
    /// Samples per second, due by a schedule.
    pub rate: f64,
    /// Series that they belong to; none of them is asked for.
    pub series: u64,
    /// How long at least.
    pub duration: Duration,
}

/// What became of it, from the first query to the last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ingested {
    /// Samples acknowledged per second.
    pub samples_per_s: f64,
    /// Latency of acknowledgements, from when a request was due.
    pub ack_p50_ms: f64,
    /// Likewise.
    pub ack_p99_ms: f64,
    /// Samples refused or of unknown fate.
    pub failed_samples: u64,
    /// Why the latencies say more about the generator than about the receiver, if they do.
    pub bottleneck: Option<String>,
}

impl Ingest {
    /// Does something while the load runs: begins when all series are made, and ends the load when it is done.
    pub async fn beside<T>(
        self,
        target: &Target,
        something: impl Future<Output = Result<T, String>>,
    ) -> Result<(T, Ingested), String> {
        let (stop, begun) = (Stop::default(), Notify::new());
        let progress = |progress: &Progress| {
            if progress.phase == Phase::Measuring {
                begun.notify_one();
            }
        };
        let options = self.options(&target.url);
        let load = async {
            let result = run(&options, &stop, &progress).await;
            // A load that could not even begin must not be waited for.
            begun.notify_one();
            result.map_err(|error| format!("the load beside the queries: {error}"))
        };
        let queries = async {
            begun.notified().await;
            let outcome = something.await;
            stop.request();
            outcome
        };
        let (load, outcome) = tokio::join!(load, queries);
        Ok((outcome?, Ingested::from(&load?)))
    }

    fn options(&self, url: &str) -> RunOptions {
        let mut load = RunOptions::to_url(url);
        load.stream.profile = PROFILE.to_owned();
        load.stream.set = PROFILE_CHANGES.map(str::to_owned).to_vec();
        load.stream.series = Some(self.series);
        load.pace.rate = Some(self.rate);
        load.pace.duration = DURATION_MAX;
        load
    }
}

impl From<&RunResult> for Ingested {
    fn from(result: &RunResult) -> Ingested {
        Ingested {
            samples_per_s: result.achieved_rate,
            ack_p50_ms: result.p50_ms,
            ack_p99_ms: result.p99_ms,
            failed_samples: result.refused_samples + result.unknown_samples,
            bottleneck: result.headroom.bottleneck.clone(),
        }
    }
}
