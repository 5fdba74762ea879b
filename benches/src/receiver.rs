//! The receivers that can be measured: how each is started, written to, and asked what it stored.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use crate::http::{escape, get};

/// How long a start or a stop may take, and how long written samples may stay invisible.
const PATIENCE: Duration = Duration::from_secs(60);

/// A receiver of remote write 1.0 with the Prometheus query API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// `annulus all` of this workspace; it alone flushes before each answer.
    Annulus,
    /// Prometheus with --web.enable-remote-write-receiver.
    Prometheus,
    /// Single-node VictoriaMetrics.
    VictoriaMetrics,
}

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Annulus => "annulus",
            Kind::Prometheus => "prometheus",
            Kind::VictoriaMetrics => "victoria-metrics",
        }
    }

    /// Where it takes writes.
    pub fn write_path(self) -> &'static str {
        match self {
            Kind::Annulus => "/api/v1/receive",
            Kind::Prometheus | Kind::VictoriaMetrics => "/api/v1/write",
        }
    }

    /// Its own count of samples stored: a metric and a part of its labels.
    fn stored_metric(self) -> (&'static str, &'static str) {
        match self {
            Kind::Annulus => ("annulus_ingest_samples_total", "written"),
            Kind::Prometheus => ("prometheus_tsdb_head_samples_appended_total", ""),
            Kind::VictoriaMetrics => ("vm_rows_inserted_total", "promremotewrite"),
        }
    }

    /// A path that answers 200 once it serves.
    fn ready_path(self) -> &'static str {
        match self {
            Kind::Annulus | Kind::Prometheus => "/-/ready",
            Kind::VictoriaMetrics => "/health",
        }
    }
}

/// Why a receiver could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// It does not start.
    #[error("{name} does not start ({command}): {reason}; its log is {}", log.display())]
    Start {
        /// Which.
        name: &'static str,
        /// What was run.
        command: String,
        /// What happened.
        reason: String,
        /// Where it wrote.
        log: PathBuf,
    },
    /// It does not answer as a Prometheus would.
    #[error("{name} answers {target} with {answer}")]
    Answer {
        /// Which.
        name: &'static str,
        /// What was asked.
        target: String,
        /// What came.
        answer: String,
    },
    /// Files or sockets.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A running receiver; it is stopped when this goes.
pub struct Receiver {
    /// Which.
    pub kind: Kind,
    /// Where it takes writes.
    pub write: SocketAddr,
    query: SocketAddr,
    child: Child,
}

impl Receiver {
    /// Starts one in a directory of its own and waits until it serves.
    pub fn start(
        kind: Kind,
        binary: Option<&Path>,
        directory: &Path,
        flags: &[String],
    ) -> Result<Receiver, ReceiverError> {
        let write = free_address()?;
        let query = if kind == Kind::Annulus { free_address()? } else { write };
        let mut command = command(kind, binary, directory, write, query)?;
        command.args(flags);
        let log = directory.join("log");
        let output = fs::File::create(&log)?;
        let failed = |reason: String| ReceiverError::Start {
            name: kind.name(),
            command: format!("{command:?}"),
            reason,
            log: log.clone(),
        };
        let mut spawned = Command::new(command.get_program());
        spawned.args(command.get_args()).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawned.spawn().map_err(|error| failed(error.to_string()))?;
        let mut receiver = Receiver { kind, write, query, child };
        let deadline = Instant::now() + PATIENCE;
        while !get(query, kind.ready_path()).is_ok_and(|response| response.status == 200) {
            if let Some(status) = receiver.child.try_wait()? {
                return Err(failed(status.to_string()));
            }
            if Instant::now() > deadline {
                return Err(failed(format!("not ready after {PATIENCE:?}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(receiver)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many samples it says it has stored since its start.
    pub fn stored_samples(&self) -> Result<u64, ReceiverError> {
        let (name, part) = self.kind.stored_metric();
        let text = self.get("/metrics")?;
        let is_ours = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(part)
        };
        let values =
            text.lines().filter(is_ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }

    /// The single value of a query at a time; `None` while it gives none.
    pub fn query(&self, query: &str, time_ms: i64) -> Result<Option<f64>, ReceiverError> {
        let time = format!("{}.{:03}", time_ms / 1000, time_ms % 1000);
        let target = format!("/api/v1/query?query={}&time={time}", escape(query));
        let text = self.get(&target)?;
        let answer: serde_json::Value =
            serde_json::from_str(&text).map_err(|_| self.answer(&target, &text))?;
        let result = answer["data"]["result"].as_array().ok_or_else(|| self.answer(&target, &text))?;
        Ok(result.first().and_then(|series| series["value"][1].as_str()?.parse().ok()))
    }

    /// Asks until the answer is the expected one: some receivers show what they stored only later.
    pub fn expect(&self, query: &str, time_ms: i64, expected: f64) -> Result<(), ReceiverError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.query(query, time_ms)?;
            if found == Some(expected) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.answer(query, &format!("{found:?} instead of {expected}")));
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn get(&self, target: &str) -> Result<String, ReceiverError> {
        let response = get(self.query, target)?;
        if response.status != 200 {
            return Err(self.answer(target, &format!("{} {}", response.status, response.text())));
        }
        Ok(response.text())
    }

    fn answer(&self, target: &str, answer: &str) -> ReceiverError {
        let shorten = |text: &str| text.chars().take(300).collect();
        ReceiverError::Answer { name: self.kind.name(), target: shorten(target), answer: shorten(answer) }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn command(
    kind: Kind,
    binary: Option<&Path>,
    directory: &Path,
    write: SocketAddr,
    query: SocketAddr,
) -> io::Result<Command> {
    let data = directory.join("data");
    let data = data.display();
    let program = binary.map_or_else(|| default_binary(kind), |path| Ok(path.to_owned()))?;
    let mut command = Command::new(program);
    match kind {
        Kind::Annulus => command.args([
            "all".to_owned(),
            format!("--data-dir={data}"),
            format!("--http-address={write}"),
            format!("--query.http-address={query}"),
            format!("--grpc-address={}", free_address()?),
            "--self-scrape=false".to_owned(),
            "--label=replica=\"bench\"".to_owned(),
        ]),
        Kind::Prometheus => {
            // It needs a configuration file; an empty one scrapes nothing.
            let config = directory.join("prometheus.yml");
            fs::write(&config, "")?;
            command.args([
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={write}"),
                "--web.enable-remote-write-receiver".to_owned(),
                "--log.level=warn".to_owned(),
            ])
        }
        Kind::VictoriaMetrics => command.args([
            format!("-storageDataPath={data}"),
            format!("-httpListenAddr={write}"),
            "-retentionPeriod=100y".to_owned(),
            "-search.maxUniqueTimeseries=100000000".to_owned(),
            "-loggerLevel=WARN".to_owned(),
        ]),
    };
    Ok(command)
}

/// annulus as it was built beside this binary, the others from `PATH`.
fn default_binary(kind: Kind) -> io::Result<PathBuf> {
    match kind {
        Kind::Annulus => Ok(std::env::current_exe()?.with_file_name("annulus")),
        Kind::Prometheus => Ok("prometheus".into()),
        Kind::VictoriaMetrics => Ok("victoria-metrics".into()),
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
