//! `annulus all` under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::http::get;
use super::process::Process;
use super::query::QueryApi;
use super::write::Sender;
use super::{free_address, wait_for};

/// The binary that cargo built for this test run.
pub const BINARY: &str = env!("CARGO_BIN_EXE_annulus");

/// How long a start may take, the making of the WAL rings included, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Clone, Copy)]
pub struct Addresses {
    /// Remote write, health, metrics.
    pub write: SocketAddr,
    /// The query API.
    pub query: SocketAddr,
    /// The same as `write`, on the port that Thanos keeps for gRPC.
    pub grpc: SocketAddr,
}

impl Addresses {
    /// Three free ones.
    pub fn free() -> Addresses {
        Addresses { write: free_address(), query: free_address(), grpc: free_address() }
    }
}

/// The arguments of `annulus all` with a data directory and addresses; later ones in `extra` win.
pub fn arguments(data_dir: &Path, addresses: &Addresses, extra: &[&str]) -> Vec<String> {
    let mut arguments = vec![
        "all".to_owned(),
        format!("--data-dir={}", data_dir.display()),
        format!("--http-address={}", addresses.write),
        format!("--query.http-address={}", addresses.query),
        format!("--grpc-address={}", addresses.grpc),
        "--self-scrape=false".to_owned(),
        "--log.format=logfmt".to_owned(),
        "--label=replica=\"a\"".to_owned(),
    ];
    for (flag, value) in [("--shards", "2"), ("--wal.ring-size", "16MiB")] {
        if !extra.iter().any(|argument| argument.starts_with(flag)) {
            arguments.push(format!("{flag}={value}"));
        }
    }
    arguments.extend(extra.iter().map(|argument| (*argument).to_owned()));
    arguments
}

/// A server with a data directory that goes when the test ends.
pub struct Server {
    /// The running process.
    pub process: Process,
    /// Where it listens, also after a restart.
    pub addresses: Addresses,
    extra: Vec<String>,
    home: TempDir,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// Starts one with more flags.
    pub fn start_with(extra: &[&str]) -> Server {
        let home = tempfile::tempdir().unwrap();
        let addresses = Addresses::free();
        let process = Server::spawn(&home, &addresses, extra);
        let extra = extra.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Server { process, addresses, extra, home };
        server.wait_ready();
        server
    }

    fn spawn(home: &TempDir, addresses: &Addresses, extra: &[&str]) -> Process {
        let mut command = Command::new(BINARY);
        command.args(arguments(&home.path().join("data"), addresses, extra));
        Process::spawn("annulus", command, home.path())
    }

    fn wait_ready(&mut self) {
        wait_for("annulus is ready", START_LIMIT, || {
            if let Some(status) = self.process.ended() {
                panic!("annulus ended while it started: {status}");
            }
            let is_ready = |address| get(address, "/-/ready").is_ok_and(|response| response.status == 200);
            (is_ready(self.addresses.write) && is_ready(self.addresses.query)).then_some(())
        });
    }

    /// kill -9, then the same command again.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.restart();
    }

    /// SIGTERM, then the same command again; says how the first process ended.
    pub fn terminate_and_restart(&mut self) -> ExitStatus {
        let status = self.process.terminate(STOP_LIMIT);
        self.restart();
        status
    }

    /// The same command with other flags, after the process ended.
    pub fn restart_with(&mut self, extra: &[&str]) {
        self.extra = extra.iter().map(|argument| (*argument).to_owned()).collect();
        self.restart();
    }

    /// The same command again, after the process ended.
    pub fn restart(&mut self) {
        assert!(self.process.ended().is_some(), "the server still runs");
        let extra: Vec<&str> = self.extra.iter().map(String::as_str).collect();
        self.process = Server::spawn(&self.home, &self.addresses, &extra);
        self.wait_ready();
    }

    /// Its query API.
    pub fn query(&self) -> QueryApi {
        QueryApi(self.addresses.query)
    }

    /// A sender to it.
    pub fn sender(&self) -> Sender {
        Sender::new(self.addresses.write)
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing that a test sends may make a task of the server panic, whatever the answer was.
        if !std::thread::panicking() {
            assert!(!self.process.log().contains("panicked"), "annulus panicked:\n{}", self.process.log());
        }
    }
}
