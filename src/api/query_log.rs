//! Which queries run, in a file that outlives the process, and which took long, in the log.
//!
//! The file has a line per query that may run at once: a JSON object while one does, blank otherwise. A process that
//! was killed for its memory leaves there what it was computing; the next start logs it. Lines are written without a
//! flush: the file is meant to survive the process, not the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};

use crate::rfc3339::now_ms;

/// The name of the file, as in Prometheus.
const FILE_NAME: &str = "queries.active";

/// Bytes of a line, its newline included, as in Prometheus.
const LINE_BYTES: usize = 1_000;

/// More queries at once than this are not written down.
const LINES_MAX: usize = 1_000;

/// Query texts are cut to this in the log.
const LOGGED_CHARS_MAX: usize = 1_000;

/// Writes down queries.
pub struct QueryLog {
    active: Option<ActiveFile>,
    /// Queries that take at least as long are logged.
    slow: Option<Duration>,
    running: IntGauge,
    slow_count: IntCounter,
}

struct ActiveFile {
    file: File,
    free: Mutex<Vec<u16>>,
}

/// A query that runs; dropped when it ends, or when nobody waits for it any more.
pub struct Running<'a> {
    log: &'a QueryLog,
    line: Option<u16>,
    started: Instant,
    text: &'a str,
    times: String,
    outcome: Option<&'static str>,
    samples: u64,
}

impl QueryLog {
    /// A log without a file, that counts in these metrics.
    pub fn new(slow: Option<Duration>, running: IntGauge, slow_count: IntCounter) -> QueryLog {
        QueryLog { active: None, slow, running, slow_count }
    }

    /// Logs what a process before this one left in the folder's file, and begins a new file for `lines` queries.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn keep_file(&mut self, folder: &Path, lines: usize) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let path = folder.join(FILE_NAME);
        for left in left_over(&path) {
            tracing::warn!(query = left, "this query was running when the process before this one ended");
        }
        let lines = lines.min(LINES_MAX);
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
        file.write_all_at(&blank().repeat(lines), 0)?;
        let free = (0..lines).rev().map(|line| u16::try_from(line).expect("there are few lines")).collect();
        self.active = Some(ActiveFile { file, free: Mutex::new(free) });
        Ok(())
    }

    /// Writes a query down; `times` says for when it is asked.
    pub fn begin<'a>(&'a self, text: &'a str, times: String) -> Running<'a> {
        self.running.inc();
        let line = self.active.as_ref().and_then(|active| active.begin(text));
        Running { log: self, line, started: Instant::now(), text, times, outcome: None, samples: 0 }
    }
}

impl Running<'_> {
    /// Says how the query ended; without, it counts as canceled.
    pub fn end(mut self, outcome: &'static str, samples: u64) {
        self.outcome = Some(outcome);
        self.samples = samples;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.log.running.dec();
        if let (Some(active), Some(line)) = (&self.log.active, self.line) {
            active.end(line);
        }
        let took = self.started.elapsed();
        if self.log.slow.is_some_and(|slow| took >= slow) {
            self.log.slow_count.inc();
            let (query, outcome) = (cut(self.text, LOGGED_CHARS_MAX), self.outcome.unwrap_or("canceled"));
            let (seconds, times, samples) = (took.as_secs_f64(), &self.times, self.samples);
            tracing::warn!(query, times, seconds, samples, outcome, "a query took long");
        }
    }
}

impl ActiveFile {
    fn begin(&self, text: &str) -> Option<u16> {
        let line = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        self.write(line, &line_of(text, now_ms() / 1000));
        Some(line)
    }

    fn end(&self, line: u16) {
        self.write(line, &blank());
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// A full disk must not stop queries: the line is then wrong, and nothing else.
    fn write(&self, line: u16, bytes: &[u8]) {
        if let Err(error) = self.file.write_all_at(bytes, u64::from(line) * LINE_BYTES as u64) {
            tracing::debug!(%error, "a running query could not be written down");
        }
    }
}

fn blank() -> Vec<u8> {
    let mut line = vec![b' '; LINE_BYTES];
    line[LINE_BYTES - 1] = b'\n';
    line
}

/// The line of a query, whose text is cut until it fits.
fn line_of(text: &str, timestamp_sec: i64) -> Vec<u8> {
    let mut line = blank();
    let mut chars = LINE_BYTES;
    loop {
        let shown = cut(text, chars);
        let json = serde_json::json!({"query": shown, "timestamp_sec": timestamp_sec}).to_string();
        if json.len() < LINE_BYTES {
            line[..json.len()].copy_from_slice(json.as_bytes());
            return line;
        }
        // An escaped character takes up to six bytes.
        chars = chars.min(shown.chars().count()) * 3 / 4;
    }
}

fn cut(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// What an earlier process left; whatever the file holds, no more than it can have written.
fn left_over(path: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let read = file.take((LINE_BYTES * LINES_MAX) as u64).read_to_end(&mut bytes);
        if let Err(error) = read {
            tracing::warn!(%error, path = %path.display(), "the queries of the process before cannot be read");
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::trim).filter(|line| line.starts_with('{')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(folder: &Path, lines: usize, slow: Option<Duration>) -> QueryLog {
        let gauge = IntGauge::new("running", "running").unwrap();
        let counter = IntCounter::new("slow_total", "slow").unwrap();
        let mut log = QueryLog::new(slow, gauge, counter);
        log.keep_file(folder, lines).unwrap();
        log
    }

    #[test]
    fn running_queries_are_in_the_file_until_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let log = log(folder.path(), 2, Some(Duration::ZERO));
        let (first, second) = (log.begin("up", String::new()), log.begin("a \"b\"\n", String::new()));
        let _third = log.begin("no line is free for this", String::new());
        let left = left_over(&path);
        assert!(left.len() == 2 && left[0].contains(r#""query":"up""#), "{left:?}");
        assert_eq!(log.running.get(), 3);
        second.end("answered", 1);
        assert_eq!(left_over(&path).len(), 1);
        drop(first);
        assert!(left_over(&path).is_empty());
        assert_eq!((log.slow_count.get(), log.running.get()), (2, 1));
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * LINE_BYTES as u64);
    }

    #[test]
    fn a_file_of_any_content_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, b"{\xff\0\n\n  {\"query\":\"x\"}  \nfoo").unwrap();
        assert_eq!(left_over(&path).len(), 2);
        let _log = log(folder.path(), 1, None);
        assert!(left_over(&path).is_empty());
    }

    proptest! {
        #[test]
        fn every_query_fits_into_its_line(text in prop_oneof!["\\PC{0,2000}", "[\"\u{1}x]{0,3000}"]) {
            let line = line_of(&text, 1);
            prop_assert_eq!(line.len(), LINE_BYTES);
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert!(text.starts_with(value["query"].as_str().unwrap()));
        }
    }
}
