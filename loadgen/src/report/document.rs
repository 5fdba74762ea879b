//! The file of results: what was measured, when, by which command.
//!
//! Its JSON is read by `plan --calibrate` and by people's own scripts: fields are added, never renamed or removed.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::report::comparison::{self, Compared};
use crate::report::{html, text};
use crate::result::RunResult;

/// Names the format of the file; a change that old readers cannot understand gets another number.
pub const FORMAT: &str = "annulus-loadgen/1";

/// Which command made the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One run.
    Run,
    /// One run per step of a rising rate.
    Ramp,
    /// One run per receiver and round.
    Compare,
}

/// Everything that one invocation measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`FORMAT`].
    pub format: String,
    /// The command.
    pub kind: Kind,
    /// As typed, without secrets.
    pub command_line: String,
    /// Milliseconds since the Unix epoch.
    pub begin_ms: i64,
    /// Version of the generator.
    pub generator: String,
    /// The steps of a ramp in their order; the runs of a comparison in the order in which they were made.
    pub runs: Vec<RunResult>,
    /// The step of a ramp with the highest rate that stayed within all limits.
    #[serde(default)]
    pub highest_sustained: Option<usize>,
    /// Why a ramp ended: the limit that was crossed.
    #[serde(default)]
    pub ended_by: Option<String>,
    /// Shows figures although the generator was the limit.
    #[serde(default)]
    pub bottleneck_allowed: bool,
    /// The comparison; empty for other commands.
    #[serde(default)]
    pub comparison: Vec<Compared>,
}

/// A file that cannot be written, read or understood.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Not a file of results.
    #[error("{} is not a result of annulus-loadgen: {reason}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Report {
    /// The report of one run.
    pub fn run(command_line: String, begin_ms: i64, result: RunResult) -> Report {
        Report::new(Kind::Run, command_line, begin_ms, vec![result])
    }

    /// The report of a ramp.
    pub fn ramp(
        command_line: String,
        begin_ms: i64,
        steps: Vec<RunResult>,
        highest_sustained: Option<usize>,
        ended_by: Option<String>,
    ) -> Report {
        let highest_sustained = highest_sustained.filter(|index| *index < steps.len());
        Report { highest_sustained, ended_by, ..Report::new(Kind::Ramp, command_line, begin_ms, steps) }
    }

    /// The report of a comparison; runs with equal names are rounds of one receiver.
    pub fn compare(command_line: String, begin_ms: i64, runs: Vec<RunResult>) -> Report {
        let comparison = comparison::compare(&runs, false);
        Report { comparison, ..Report::new(Kind::Compare, command_line, begin_ms, runs) }
    }

    fn new(kind: Kind, command_line: String, begin_ms: i64, mut runs: Vec<RunResult>) -> Report {
        for run in &mut runs {
            run.url = without_password(&run.url);
        }
        Report {
            format: FORMAT.to_owned(),
            kind,
            command_line,
            begin_ms,
            generator: env!("CARGO_PKG_VERSION").to_owned(),
            runs,
            highest_sustained: None,
            ended_by: None,
            bottleneck_allowed: false,
            comparison: Vec::new(),
        }
    }

    /// Shows figures although the generator was the limit.
    pub fn allow_bottleneck(&mut self) {
        self.bottleneck_allowed = true;
        if self.kind == Kind::Compare {
            self.comparison = comparison::compare(&self.runs, true);
        }
    }

    /// The run that headlines speak about: the only one, or the highest sustained step.
    pub fn main_run(&self) -> Option<&RunResult> {
        match self.kind {
            Kind::Run => self.runs.first(),
            Kind::Ramp => self.highest_sustained.and_then(|index| self.runs.get(index)),
            Kind::Compare => None,
        }
    }

    /// Whether this run's figures may stand as a headline.
    pub fn shows_headline(&self, run: &RunResult) -> bool {
        run.headroom.bottleneck.is_none() || self.bottleneck_allowed
    }

    /// For a terminal.
    pub fn to_text(&self) -> String {
        text::render(self)
    }

    /// One page without any other file.
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// Pretty JSON with a newline at its end.
    pub fn to_json(&self) -> String {
        let mut json =
            serde_json::to_string_pretty(self).expect("a report holds only numbers, texts and lists");
        json.push('\n');
        json
    }

    /// Writes the JSON; "-" is standard output.
    pub fn save_json(&self, path: &Path) -> Result<(), ReportError> {
        write(path, &self.to_json())
    }

    /// Writes the page; "-" is standard output.
    pub fn save_html(&self, path: &Path) -> Result<(), ReportError> {
        write(path, &self.to_html())
    }

    /// Reads a report.
    pub fn load(path: &Path) -> Result<Report, ReportError> {
        let bytes = fs::read(path).map_err(|source| ReportError::Io { path: path.to_owned(), source })?;
        let invalid = |reason: String| ReportError::Invalid { path: path.to_owned(), reason };
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        match json.get("format").and_then(serde_json::Value::as_str) {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(invalid(format!("its format is {other:?}, this version reads {FORMAT:?}")));
            }
            None => return Err(invalid("it names no format".to_owned())),
        }
        serde_json::from_value(json).map_err(|error| invalid(error.to_string()))
    }
}

fn write(path: &Path, content: &str) -> Result<(), ReportError> {
    let written = if path == Path::new("-") {
        io::stdout().lock().write_all(content.as_bytes())
    } else {
        fs::write(path, content)
    };
    written.map_err(|source| ReportError::Io { path: path.to_owned(), source })
}

/// Flags whose values must not end up in a file that is passed around.
const SECRET_FLAGS: [&str; 4] = ["--basic-auth", "--bearer-token", "--header", "--password"];

/// The command line as it could be typed again, without secrets.
pub fn command_line(arguments: impl IntoIterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut hides_next = false;
    for argument in arguments {
        let flag = argument.split_once('=').map(|(flag, _)| flag);
        let word = if std::mem::take(&mut hides_next) {
            "[hidden]".to_owned()
        } else if let Some(flag) = flag.filter(|flag| SECRET_FLAGS.contains(flag)) {
            format!("{flag}=[hidden]")
        } else {
            hides_next = SECRET_FLAGS.contains(&argument.as_str());
            quoted(&without_password(&argument))
        };
        words.push(word);
    }
    words.join(" ")
}

/// `https://user:password@host/` without the part before the `@`, for every URL in the text.
fn without_password(text: &str) -> String {
    let mut parts = text.split("://");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let authority = &part[..part.find(['/', '?', '#', ',', ' ']).unwrap_or(part.len())];
        let host = authority.rfind('@').map_or(part, |at| &part[at..]);
        result.push_str("://");
        result.push_str(if host.len() < part.len() { "[hidden]" } else { "" });
        result.push_str(host);
    }
    result
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> String {
        command_line(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn secrets_do_not_reach_the_report() {
        assert_eq!(
            line(&["x", "--basic-auth", "me:secret", "--rate", "5"]),
            "x --basic-auth [hidden] --rate 5"
        );
        assert_eq!(line(&["x", "--basic-auth=me:secret"]), "x --basic-auth=[hidden]");
        assert_eq!(line(&["--url", "http://me:secret@host:1/x"]), "--url http://[hidden]@host:1/x");
        assert_eq!(line(&["--url=http://host/a@b"]), "--url=http://host/a@b");
        let receiver = "name=a,url=http://me:secret@h:1/w,query-url=http://me:secret@h:2";
        assert_eq!(line(&[receiver]), "name=a,url=http://[hidden]@h:1/w,query-url=http://[hidden]@h:2");
        let run = RunResult { url: "http://me:secret@h/w".to_owned(), ..RunResult::default() };
        assert_eq!(Report::run(String::new(), 0, run).runs[0].url, "http://[hidden]@h/w");
    }

    #[test]
    fn words_with_blanks_are_quoted() {
        assert_eq!(line(&["a b", "it's", ""]), r"'a b' 'it'\''s' ''");
    }

    #[test]
    fn a_saved_report_is_read_back_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.json");
        let report =
            Report::ramp("x".to_owned(), 5, vec![RunResult::default(); 2], Some(1), Some("p95".to_owned()));
        report.save_json(&path).unwrap();
        assert_eq!(Report::load(&path).unwrap(), report);
    }

    #[test]
    fn files_that_are_no_results_say_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.json");
        let error = |content: &str| {
            fs::write(&path, content).unwrap();
            Report::load(&path).unwrap_err().to_string()
        };
        assert!(error("").contains("is not a result of annulus-loadgen: EOF"));
        assert!(error("{}").ends_with("it names no format"));
        assert!(error(r#"{"format":"annulus-loadgen/9"}"#).contains("annulus-loadgen/9"));
        assert!(error(r#"{"format":"annulus-loadgen/1"}"#).contains("missing field"));
        assert!(Report::load(directory.path().join("absent").as_path()).is_err());
    }

    #[test]
    fn a_winner_that_is_no_step_is_no_winner() {
        let report = Report::ramp(String::new(), 0, vec![RunResult::default()], Some(7), None);
        assert_eq!(report.main_run(), None);
    }
}
