//! The receivers: real programs with data directories of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, free_address, wait_for};

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which program.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Annulus(PathBuf),
    Prometheus,
    VictoriaMetrics,
}

impl Kind {
    /// The annulus binary that `ANNULUS_BINARY` names or that was built beside this one, if there is one.
    pub fn annulus() -> Option<Kind> {
        let beside = PathBuf::from(env!("CARGO_BIN_EXE_annulus-loadgen")).with_file_name("annulus");
        let binary = std::env::var_os("ANNULUS_BINARY").map_or(beside, PathBuf::from);
        binary.exists().then_some(Kind::Annulus(binary))
    }

    /// A program on the `PATH`, if it is there.
    pub fn installed(self, program: &str) -> Option<Kind> {
        let mut version = Command::new(program);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok().then_some(self)
    }
}

/// A running receiver.
pub struct Receiver {
    pub kind: Kind,
    pub write: SocketAddr,
    pub query: SocketAddr,
    grpc: SocketAddr,
    /// Before its directory, which holds the log that a failed test shows.
    process: Process,
    home: TempDir,
}

impl Receiver {
    /// Starts one with an empty data directory and waits until it serves.
    pub fn start(kind: Kind) -> Receiver {
        let write = free_address();
        let query = if matches!(kind, Kind::Annulus(_)) { free_address() } else { write };
        let (grpc, home) = (free_address(), tempfile::tempdir().unwrap());
        let process = spawn(&kind, write, query, grpc, &home);
        let mut receiver = Receiver { kind, write, query, grpc, process, home };
        receiver.wait_until_it_serves();
        receiver
    }

    /// SIGKILL, then a new process with the same addresses and data.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.kind, self.write, self.query, self.grpc, &self.home);
        self.wait_until_it_serves();
    }

    /// Waits until it counts so many samples as stored. Only for annulus.
    pub fn wait_until_it_stored(&self, samples: u64) {
        let stored = || {
            let page = get(self.write, "/metrics").ok()?;
            let counts = page
                .lines()
                .filter(|line| line.starts_with("annulus_ingest_samples_total{") && line.contains("written"));
            Some(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>())
        };
        let is_enough = || stored().filter(|stored| *stored >= samples as f64);
        wait_for("samples in the receiver", PATIENCE, is_enough);
    }

    /// Where it takes remote write.
    pub fn write_url(&self) -> String {
        format!("http://{}{}", self.write, self.write_path())
    }

    /// The path of remote write.
    pub fn write_path(&self) -> &'static str {
        if matches!(self.kind, Kind::Annulus(_)) { "/api/v1/receive" } else { "/api/v1/write" }
    }

    /// The base address of its query API.
    pub fn query_url(&self) -> String {
        format!("http://{}", self.query)
    }

    fn wait_until_it_serves(&mut self) {
        let path = if self.kind == Kind::VictoriaMetrics { "/health" } else { "/-/ready" };
        wait_for(&format!("{:?}", self.kind), PATIENCE, || {
            assert_eq!(self.process.ended(), None, "the receiver ended");
            (is_ok(self.query, path) && is_ok(self.write, path)).then_some(())
        });
    }
}

fn spawn(kind: &Kind, write: SocketAddr, query: SocketAddr, grpc: SocketAddr, home: &TempDir) -> Process {
    let data = home.path().join("data");
    let data = data.display();
    let mut command;
    match kind {
        Kind::Annulus(binary) => {
            command = Command::new(binary);
            command.args([
                "all".to_owned(),
                format!("--data-dir={data}"),
                format!("--http-address={write}"),
                format!("--query.http-address={query}"),
                format!("--grpc-address={grpc}"),
                "--self-scrape=false".to_owned(),
                // A label that the stream does not know, as a replica has it.
                "--label=replica=\"a\"".to_owned(),
            ]);
        }
        Kind::Prometheus => {
            let config = home.path().join("prometheus.yml");
            std::fs::write(&config, "").unwrap();
            command = Command::new("prometheus");
            command.args([
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={write}"),
                "--web.enable-remote-write-receiver".to_owned(),
                "--enable-feature=native-histograms".to_owned(),
            ]);
        }
        Kind::VictoriaMetrics => {
            command = Command::new("victoria-metrics");
            command.args([format!("-storageDataPath={data}"), format!("-httpListenAddr={write}")]);
        }
    }
    Process::spawn(command, &home.path().join("receiver.log"))
}

fn is_ok(address: SocketAddr, path: &str) -> bool {
    get(address, path).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The whole answer, head and all.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
