//! The query API as Prometheus' own programs and wrong requests meet it.

mod errors;
mod hostile;
mod partial;
mod promtool;
mod read;
mod replicas;
mod running;
mod stats;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::http::get;
use super::support::process::Process;
use super::support::{free_address, wait_for};

/// How long a Prometheus may take to start on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A Prometheus that takes remote write and scrapes nothing.
struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts one with more configuration, and waits until it is ready; nothing where it is not installed.
    fn start(home: &Path, configuration: &str) -> Option<Prometheus> {
        if !is_installed("prometheus") {
            return None;
        }
        let address = free_address();
        let config = home.join("prometheus.yml");
        fs::write(&config, configuration).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.join("prometheus-data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver");
        let process = Process::spawn("prometheus", command, home);
        wait_for("Prometheus is ready", START_LIMIT, || {
            get(address, "/-/ready").is_ok_and(|response| response.status == 200).then_some(())
        });
        Some(Prometheus { address, _process: process })
    }
}

/// Whether a program of Prometheus is there.
fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}
