//! A receiver as a child process with a directory of its own, both gone when it is over.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::commands::compare::target::{Kind, Spawn, Target};

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one question whether it is ready may take.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Bytes of its log that are shown when it does not start.
const LOG_TAIL_BYTES: usize = 400;

/// A running child. Dropping it kills it; [`Process::stop`] lets it end in order.
pub struct Process {
    child: Child,
    target: Target,
    // Removed with everything in it, after the child is gone.
    _directory: TempDir,
}

impl Process {
    /// Starts a receiver below `parent` (the temporary directory by default) and waits until it serves.
    pub async fn start(name: &str, spawn: &Spawn, parent: Option<&Path>) -> Result<Process, String> {
        let failed = |error: io::Error| format!("{name} cannot be started: {error}");
        let mut builder = tempfile::Builder::new();
        builder.prefix("annulus-loadgen-");
        let directory = match parent {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let directory = directory.map_err(failed)?;
        let (write, query) = addresses(spawn.kind).map_err(failed)?;
        let program = program(spawn);
        let log = directory.path().join("log");
        let output = fs::File::create(&log).map_err(failed)?;
        let mut command = Command::new(&program);
        command.args(arguments(spawn.kind, directory.path(), write, query).map_err(failed)?);
        command.args(&spawn.flags);
        command.stdin(Stdio::null()).stdout(output.try_clone().map_err(failed)?).stderr(output);
        // Ctrl-C is for this program: the receiver must live until its last answer was counted.
        command.process_group(0);
        let child = command.spawn().map_err(|error| format!("{name}: {}: {error}", program.display()))?;
        let target = Target {
            name: name.to_owned(),
            url: format!("http://{write}{}", spawn.kind.write_path()),
            query_url: Some(format!("http://{query}")),
            pids: vec![child.id()],
            kind: Some(spawn.kind),
        };
        let mut process = Process { child, target, _directory: directory };
        process.wait_until_ready(spawn.kind, query, &log).await?;
        Ok(process)
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks it to end, and kills it if it does not.
    pub async fn stop(mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait_until_ready(&mut self, kind: Kind, query: SocketAddr, log: &Path) -> Result<(), String> {
        let path = if kind == Kind::VictoriaMetrics { "/health" } else { "/-/ready" };
        let deadline = Instant::now() + PATIENCE;
        while !answers_ok(query, path).await {
            let reason = match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Ok(None) => format!("is not ready after {} s", PATIENCE.as_secs()),
                Ok(Some(status)) => format!("ended at once ({status})"),
                Err(error) => error.to_string(),
            };
            return Err(format!("{} {reason}; the end of its log: {}", self.target.name, tail(log)));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Addresses for writes and queries. Somebody may take them before the receiver does; then it says so and ends.
fn addresses(kind: Kind) -> io::Result<(SocketAddr, SocketAddr)> {
    let write = free_address()?;
    let query = if kind == Kind::Annulus { free_address()? } else { write };
    Ok((write, query))
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// The program given, or the one beside this program, or else the one in `PATH`.
fn program(spawn: &Spawn) -> PathBuf {
    if let Some(binary) = &spawn.binary {
        return binary.clone();
    }
    let name = spawn.kind.name();
    let beside = std::env::current_exe().map(|path| path.with_file_name(name)).ok();
    beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}

fn arguments(kind: Kind, directory: &Path, write: SocketAddr, query: SocketAddr) -> io::Result<Vec<String>> {
    let data = directory.join("data");
    let data = data.display();
    Ok(match kind {
        Kind::Annulus => vec![
            "all".to_owned(),
            format!("--data-dir={data}"),
            format!("--http-address={write}"),
            format!("--query.http-address={query}"),
            format!("--grpc-address={}", free_address()?),
            "--self-scrape=false".to_owned(),
            "--label=replica=\"compared\"".to_owned(),
        ],
        Kind::Prometheus => {
            // It needs a configuration file; an empty one scrapes nothing.
            let config = directory.join("prometheus.yml");
            fs::write(&config, "")?;
            vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={write}"),
                "--web.enable-remote-write-receiver".to_owned(),
                // Without it, versions before 3 refuse what the built-in profiles hold.
                "--enable-feature=native-histograms".to_owned(),
                "--log.level=warn".to_owned(),
            ]
        }
        Kind::VictoriaMetrics => vec![
            format!("-storageDataPath={data}"),
            format!("-httpListenAddr={write}"),
            "-retentionPeriod=100y".to_owned(),
            "-search.maxUniqueTimeseries=100000000".to_owned(),
            "-loggerLevel=WARN".to_owned(),
        ],
    })
}

async fn answers_ok(address: SocketAddr, path: &str) -> bool {
    let question = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        io::Result::Ok(status)
    };
    matches!(timeout(ANSWER_TIME, question).await, Ok(Ok(status)) if status.ends_with(b" 200"))
}

/// The end of a log on one line.
fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..];
    let text = String::from_utf8_lossy(end);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_program_that_does_not_exist_or_ends_at_once_is_one_clear_line() {
        let parent = tempfile::tempdir().unwrap();
        for (binary, reason) in [("/nonexistent/x", "No such file"), ("/bin/false", "ended at once")] {
            let spawn = Spawn { kind: Kind::Prometheus, binary: Some(binary.into()), flags: Vec::new() };
            let started = runtime().block_on(Process::start("x", &spawn, Some(parent.path())));
            let error = started.err().unwrap();
            assert!(error.contains(reason) && !error.contains('\n'), "{error}");
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_receiver_that_is_installed_starts_answers_and_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let spawn = Spawn { kind: Kind::Prometheus, binary: None, flags: Vec::new() };
        if Command::new("prometheus").arg("--version").output().is_err() {
            println!("left out: prometheus is not installed");
            return;
        }
        runtime().block_on(async {
            let process = Process::start("prometheus", &spawn, Some(parent.path())).await.unwrap();
            assert_eq!(process.target().pids.len(), 1);
            assert!(process.target().url.ends_with("/api/v1/write"));
            process.stop().await;
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
