//! A child process: its output in a file, ended by its own id, its log shown when the test fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait_for;

/// How much of a log a failed test shows.
const LOG_LINES_SHOWN: usize = 60;

/// A running or ended child.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with its output appended to `<directory>/<name>.log`.
    pub fn spawn(name: &str, mut command: Command, directory: &Path) -> Process {
        let log = directory.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { name: name.to_owned(), child, log, ended: None }
    }

    /// All that it wrote, earlier runs under the same name included.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_for(&what, limit, || self.ended())
    }

    /// SIGKILL: no code of the process runs any more.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.child.kill().unwrap();
            self.ended = Some(self.child.wait().unwrap());
        }
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        }
        self.wait(limit)
    }

    /// Its number, by which the kernel shows it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it occupies now.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Memory that it has asked for, whether it was ever touched or not.
    pub fn addressed_bytes(&self) -> u64 {
        self.status_bytes("VmSize:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// CPU time that it has used, in the kernel too.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses can hold anything; user and system time are the 12th and 13th fields after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- the end of the log of {}:\n{}\n---", self.name, shown.join("\n"));
        }
    }
}
