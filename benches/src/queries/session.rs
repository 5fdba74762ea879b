//! One receiver, from its start over the load and all questions to its end.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use annulus_loadgen::commands::compare::process::Process;
use annulus_loadgen::commands::compare::target::{Kind, Spawn, Target};
use annulus_loadgen::commands::options::RunOptions;
use annulus_loadgen::ledger::Ledger;
use annulus_loadgen::measure::progress::{Progress, ProgressLine};
use annulus_loadgen::measure::recorder::Recorder;
use annulus_loadgen::measure::usage::Usage;
use annulus_loadgen::measure::watch::watch_creation;
use annulus_loadgen::send::load::{Lanes, Load, Mode, Plan};
use annulus_loadgen::send::retry::RetryPolicy;
use annulus_loadgen::send::stop::Stop;
use annulus_loadgen::stream::Protocol;
use annulus_loadgen::verify::answer::FoundValue;
use tokio::time::sleep;

use super::answer::Content;
use super::catalogue::{Query, Shape, seconds};
use super::client::{Client, Question};
use super::data::Data;
use super::ingest::{Ingest, Ingested};
use super::statistics::Times;

/// Connections of the load, with one request at a time on each.
const CONNECTIONS: usize = 4;

/// A receiver that is at its limit says so with 503; the load is not what is measured here.
const RETRIES: u32 = 1000;

/// Longest wait for the last answers of the load.
const DRAIN: Duration = Duration::from_secs(60);

/// Longest wait until all that was acknowledged can be queried.
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);

/// Rest between two looks whether it can.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is done with each receiver.
#[derive(Debug, Clone)]
pub struct Session {
    /// The series.
    pub data: Data,
    /// The questions, in their order.
    pub queries: &'static [Query],
    /// How often each is asked, after once for warming up.
    pub runs: u32,
    /// Rest between load and questions.
    pub rest: Duration,
    /// What is written meanwhile.
    pub ingest: Option<Ingest>,
}

/// What one receiver did.
#[derive(Debug)]
pub struct Measured {
    /// Its name in tables.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How long the load took.
    pub load_s: f64,
    /// CPU that it spent on the load.
    pub load_cpu_s: f64,
    /// Memory after load and rest.
    pub rss_bytes: u64,
    /// In the order of the questions.
    pub asked: Vec<Asked>,
    /// What was written meanwhile.
    pub ingested: Option<Ingested>,
}

/// One question, asked several times.
#[derive(Debug)]
pub struct Asked {
    /// Times until the answers were there.
    pub times: Times,
    /// Bytes of the last answer.
    pub answer_bytes: u64,
    /// CPU of the receiver for all these answers; what else it did meanwhile is part of it.
    pub cpu_s: f64,
    /// The most memory that it took meanwhile.
    pub rss_peak_bytes: u64,
    /// What the last answer said.
    pub content: Content,
}

impl Asked {
    /// CPU for one answer, on average.
    pub fn cpu_s_per_answer(&self) -> f64 {
        self.cpu_s / self.times.count().max(1) as f64
    }

    /// Adds more runs of the same question.
    fn add(&mut self, more: Asked) {
        self.times = Times::joined([&self.times, &more.times]);
        self.cpu_s += more.cpu_s;
        self.rss_peak_bytes = self.rss_peak_bytes.max(more.rss_peak_bytes);
        (self.answer_bytes, self.content) = (more.answer_bytes, more.content);
    }
}

impl Session {
    /// Starts a receiver, does everything with it, and ends it whatever happened.
    pub async fn with(
        &self,
        name: &str,
        spawn: &Spawn,
        directory: Option<&Path>,
        stop: &Stop,
    ) -> Result<Measured, String> {
        let process = Process::start(name, spawn, directory).await?;
        let outcome = tokio::select! {
            outcome = self.measure(process.target(), spawn.kind, stop) => outcome,
            () = stop.requested() => Err("interrupted".to_owned()),
        };
        process.stop().await;
        outcome.map_err(|reason| format!("{name}: {reason}"))
    }

    async fn measure(&self, target: &Target, kind: Kind, stop: &Stop) -> Result<Measured, String> {
        let begin = Instant::now();
        self.load(target, stop).await?;
        let base = target.query_url.as_deref().ok_or("it has no query API")?;
        self.wait_until_visible(base).await?;
        let load_s = begin.elapsed().as_secs_f64();
        let load_cpu_s = usage(target)?.cpu_s;
        sleep(self.rest).await;
        let rss_bytes = usage(target)?.rss_bytes;
        eprintln!("{}: {} questions", target.name, self.queries.len());
        let (asked, ingested) = match self.ingest {
            None => (self.ask_all(target, base).await?, None),
            Some(ingest) => {
                let asking = self.ask_at_least(ingest.duration, target, base);
                let (asked, ingested) = ingest.beside(target, asking).await?;
                (asked, Some(ingested))
            }
        };
        Ok(Measured { name: target.name.clone(), kind, load_s, load_cpu_s, rss_bytes, asked, ingested })
    }

    /// Sends all samples as fast as they are taken; every one of them must be acknowledged.
    async fn load(&self, target: &Target, stop: &Stop) -> Result<(), String> {
        let plan = Plan {
            mode: Mode::Closed,
            protocol: Protocol::RemoteWrite1,
            lanes: Lanes::Any { count: CONNECTIONS, in_flight_max: CONNECTIONS },
            links: CONNECTIONS,
            retry: RetryPolicy::plain(RETRIES),
            end_us: u64::MAX,
            first_request: 0,
            end_request: self.data.requests(),
            age_max_us: None,
            metadata_every: None,
        };
        let endpoints = RunOptions::to_url(&target.url).endpoint.endpoints(plan.protocol);
        let endpoints = endpoints.map_err(|error| error.to_string())?;
        let (ledger, recorder) = (Arc::new(Ledger::new()), Arc::new(Recorder::new()));
        let load = Load::start(plan, endpoints, Arc::new(self.data), ledger, Arc::clone(&recorder)).await;
        let mut load = load.map_err(|error| error.to_string())?;
        let line = Mutex::new(ProgressLine::default());
        let locked = || line.lock().unwrap_or_else(PoisonError::into_inner);
        let show = |progress: &Progress| locked().show(progress);
        let is_done = watch_creation(&mut load, &recorder, stop, &show).await;
        load.drain(DRAIN, stop).await;
        locked().clear();
        let record = recorder.record();
        let (acknowledged, wanted) = (record.totals.acknowledged_samples, self.data.samples());
        if is_done && acknowledged == wanted {
            return Ok(());
        }
        let reason = record.errors.first().map_or("the load ended early", |(text, _)| text);
        Err(format!("{acknowledged} of {wanted} samples were acknowledged: {reason}"))
    }

    /// Waits until every sample is counted: some receivers show what they have acknowledged only seconds later.
    async fn wait_until_visible(&self, base: &str) -> Result<(), String> {
        let data = &self.data;
        let range_ms = data.interval_ms * (data.rounds as i64 + 1);
        let mut client = Client::connect(base).await?;
        let deadline = Instant::now() + VISIBLE_WITHIN;
        for (metric, series) in data.metrics().filter(|(_, series)| *series > 0) {
            let text = format!("sum(count_over_time({metric}[{range_ms}ms]))");
            let time = seconds(data.end_ms());
            let parameters = vec![("query", text), ("time", time), ("nocache", "1".to_owned())];
            let question = Question::post("/api/v1/query", parameters);
            let wanted = (series * data.rounds) as f64;
            loop {
                let answer = client.ask(&question).await.map_err(|error| format!("{metric}: {error}"))?;
                let found = number(&Content::read(&answer.body, Shape::Instant)?);
                if found == wanted {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("{metric}: {found} of {wanted} acknowledged samples can be queried"));
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// All questions, again and again, until there are enough acknowledgements for a quantile of theirs too.
    async fn ask_at_least(
        &self,
        duration: Duration,
        target: &Target,
        base: &str,
    ) -> Result<Vec<Asked>, String> {
        let begin = Instant::now();
        let mut asked = self.ask_all(target, base).await?;
        while begin.elapsed() < duration {
            let more = self.ask_all(target, base).await?;
            asked.iter_mut().zip(more).for_each(|(asked, more)| asked.add(more));
        }
        Ok(asked)
    }

    async fn ask_all(&self, target: &Target, base: &str) -> Result<Vec<Asked>, String> {
        let mut asked = Vec::with_capacity(self.queries.len());
        for query in self.queries {
            let outcome = self.ask(query, target, base).await;
            asked.push(outcome.map_err(|reason| format!("{}: {reason}", query.name))?);
        }
        Ok(asked)
    }

    async fn ask(&self, query: &Query, target: &Target, base: &str) -> Result<Asked, String> {
        let question = query.question(&self.data);
        let mut client = Client::connect(base).await?;
        let mut last = client.ask(&question).await?;
        forget_peak(target);
        let before = usage(target)?;
        let mut times_ms = Vec::with_capacity(self.runs as usize);
        for _ in 0..self.runs {
            last = client.ask(&question).await?;
            times_ms.push(last.wall.as_secs_f64() * 1000.0);
        }
        let after = usage(target)?;
        Ok(Asked {
            times: Times::new(times_ms),
            answer_bytes: last.body.len() as u64,
            cpu_s: after.cpu_s - before.cpu_s,
            rss_peak_bytes: after.rss_peak_bytes,
            content: Content::read(&last.body, query.shape)?,
        })
    }
}

/// The value of the only series; 0 while there is none.
fn number(content: &Content) -> f64 {
    let Content::Series(series) = content else { return 0.0 };
    let sample = series.values().next().and_then(|samples| samples.first());
    match sample.map(|sample| &sample.value) {
        Some(FoundValue::Float(value)) => *value,
        Some(FoundValue::Histogram(_)) | None => 0.0,
    }
}

fn usage(target: &Target) -> Result<Usage, String> {
    let pid = *target.pids.first().ok_or("it has no process")?;
    Usage::of(pid).map_err(|error| format!("process {pid} cannot be read: {error}"))
}

/// Lets the peak of the memory begin anew, as proc_pid_clear_refs(5) says. Where the kernel refuses that, the peak
/// stays what it was before, which can only make it larger.
fn forget_peak(target: &Target) {
    for pid in &target.pids {
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_no_series_is_zero() {
        let read = |result: &str| {
            let body =
                format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#);
            number(&Content::read(body.as_bytes(), Shape::Instant).unwrap())
        };
        assert_eq!(read(""), 0.0);
        assert_eq!(read(r#"{"metric":{},"value":[1,"42"]}"#), 42.0);
    }
}
