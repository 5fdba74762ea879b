//! The command `verify`: reads the ledger of a run, verifies, and says what it found.

use std::error::Error;
use std::fmt::Write;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::QueryClient;
use super::verifier::{NativeHistograms, VerifyError, VerifyOptions, verify};
use crate::commands;
use crate::ledger::Ledger;
use crate::measure::progress::ProgressLine;
use crate::quantity::{parse_count, parse_duration, parse_share};
use crate::result::Verification;
use crate::send::endpoint::{AccessOptions, Endpoint, EndpointError};
use crate::stream::Stream;

/// Read back what a run sent and compare every sample, bit for bit.
///
/// The stream of a run is a pure function of its seed, so nothing but the fate of each request had to be kept: in the
/// file that `run --ledger` wrote. Each series is asked for with range selectors in the Prometheus query API.
///
/// A sample is lost if its request was acknowledged and it is not there; altered if another value is there;
/// duplicated if it is there more than once; unexpected if it was never sent. Samples of requests that failed may be
/// there or not, and are counted apart. Stale markers are checked by their effect on instant queries.
///
/// Prometheus needs --web.enable-remote-write-receiver, and --enable-feature=native-histograms for those.
/// VictoriaMetrics shows new series only after some seconds (--settle 30s) and rounds values to twelve digits
/// (--tolerance 1e-11). With Thanos Query, its deduplication must know all replica labels.
///
/// Exit code: 0 without any difference, 1 with differences, 2 if the answers do not allow a result.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// Ledger that `run --ledger` wrote.
    #[arg(long, value_name = "FILE")]
    pub ledger: PathBuf,
    /// Base address of the Prometheus query API, e.g. http://127.0.0.1:9090.
    #[arg(long, value_name = "URL")]
    pub query_url: String,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// How to read back.
    #[command(flatten)]
    pub query: QueryArgs,
    /// As whom.
    #[command(flatten)]
    pub access: AccessOptions,
}

/// How to read back.
#[derive(Debug, Clone, clap::Args)]
pub struct QueryArgs {
    /// A label that the receiver adds and that is not compared; can be repeated. Labels that all series have with
    /// one value and that the stream does not know are found without it.
    #[arg(long, value_name = "NAME", help_heading = "Verification")]
    pub ignore_label: Vec<String>,
    /// Time that the receiver may take to show what it has acknowledged: a target that lacks samples is read again
    /// until it is over.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration,
          help_heading = "Verification")]
    pub settle: Duration,
    /// Targets that are read at the same time; each takes about 100 MB at most.
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64),
          help_heading = "Verification")]
    pub query_concurrency: u16,
    /// Read back at most so many targets (pods, nodes, ...), spread over all. Default: all.
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Verification")]
    pub verify_targets: Option<u64>,
    /// Repetitions of a query that fails with a broken connection, 429 or 5xx.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=20),
          help_heading = "Verification")]
    pub query_retries: u32,
    /// Relative difference of two floats that counts as equal; 0 asks for the same bits.
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share,
          help_heading = "Verification")]
    pub tolerance: f64,
    /// Native histograms that are not there: auto counts them as lost unless the receiver returns none at all.
    #[arg(long, value_name = "MODE", value_enum, default_value_t, help_heading = "Verification")]
    pub native_histograms: NativeHistograms,
}

/// The defaults of all flags.
impl Default for QueryArgs {
    fn default() -> QueryArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: QueryArgs,
        }
        <Line as clap::Parser>::parse_from(["verify"]).args
    }
}

impl QueryArgs {
    /// The options for the query API at an endpoint.
    pub fn options(&self, endpoint: Endpoint) -> Result<VerifyOptions, EndpointError> {
        Ok(VerifyOptions {
            client: QueryClient::new(endpoint, self.query_retries)?,
            ignored_labels: self.ignore_label.clone(),
            settle: self.settle,
            concurrency: self.query_concurrency.into(),
            tolerance: self.tolerance,
            native_histograms: self.native_histograms,
            targets_max: self.verify_targets,
        })
    }
}

/// The flags of `run` about reading back what it has sent.
#[derive(Debug, Clone, clap::Args)]
pub struct ReadBackArgs {
    /// Read everything back after the load and compare every sample, as the command `verify` does.
    #[arg(long, requires = "query_url", help_heading = "Verification")]
    pub verify: bool,
    /// Base address of the receiver's Prometheus query API, e.g. http://127.0.0.1:9090.
    #[arg(long, value_name = "URL", requires = "verify", help_heading = "Verification")]
    pub query_url: Option<String>,
    /// How to read back.
    #[command(flatten)]
    pub query: QueryArgs,
}

impl ReadBackArgs {
    /// The options, if reading back is wanted.
    pub fn options(&self, access: &AccessOptions) -> Result<Option<VerifyOptions>, EndpointError> {
        let url = self.query_url.as_ref().filter(|_| self.verify);
        url.map(|url| self.query.options(access.endpoint("--query-url", url)?)).transpose()
    }
}

/// Runs the command.
pub fn command(args: &VerifyArgs) -> ExitCode {
    commands::block_on(None, execute(args))
}

async fn execute(args: &VerifyArgs) -> Result<ExitCode, Box<dyn Error>> {
    let (ledger, config) =
        Ledger::load(&args.ledger).map_err(|error| format!("--ledger {}: {error}", args.ledger.display()))?;
    let options = args.query.options(args.access.endpoint("--query-url", &args.query_url)?)?;
    let stream = Arc::new(Stream::new(&config)?);
    let found = verify_with_progress(stream, Arc::new(ledger), &options).await?;
    // Whoever closed the standard output does not want to see it.
    let _ = std::io::stdout().write_all(summary(&found).as_bytes());
    if let Some(path) = &args.json {
        write_json(path, &found).map_err(|error| format!("--json {}: {error}", path.display()))?;
    }
    Ok(if is_clean(&found) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Verifies, and shows on the standard error how far it is.
pub async fn verify_with_progress(
    stream: Arc<Stream>,
    ledger: Arc<Ledger>,
    options: &VerifyOptions,
) -> Result<Verification, VerifyError> {
    let line = Mutex::new(ProgressLine::default());
    let line = || line.lock().unwrap_or_else(PoisonError::into_inner);
    let found = verify(stream, ledger, options, |progress| line().show(&progress)).await;
    line().clear();
    found
}

fn write_json(path: &Path, found: &Verification) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(found)?;
    text.push('\n');
    std::fs::write(path, text)
}

/// Whether everything that was acknowledged is there, once and as it was sent, and nothing else.
pub fn is_clean(found: &Verification) -> bool {
    found.lost + found.altered + found.duplicated + found.unexpected == 0
}

/// The result for people.
pub fn summary(found: &Verification) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes any text");
    let verdict = if is_clean(found) { "no difference" } else { "DIFFERENCES" };
    line(format!(
        "{} samples of {} series read back: {verdict}",
        found.samples_checked, found.series_checked
    ));
    for (name, count) in [
        ("lost", found.lost),
        ("altered", found.altered),
        ("duplicated", found.duplicated),
        ("unexpected", found.unexpected),
    ] {
        line(format!("  {name:<12}{count:>14}"));
    }
    if found.unknown_present + found.unknown_absent > 0 {
        line(format!(
            "  not acknowledged: {} samples are there, {} are not",
            found.unknown_present, found.unknown_absent
        ));
    }
    for note in &found.notes {
        line(format!("  note: {note}"));
    }
    for example in &found.examples {
        line(format!("  {example}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_counts_notes_and_examples() {
        let mut found = Verification { series_checked: 2, samples_checked: 30, ..Verification::default() };
        assert!(
            is_clean(&found)
                && summary(&found).starts_with("30 samples of 2 series read back: no difference\n")
        );
        found.lost = 3;
        found.unknown_absent = 5;
        found.notes.push("something".to_owned());
        found.examples.push("lost: x".to_owned());
        let text = summary(&found);
        assert!(!is_clean(&found) && text.contains("DIFFERENCES"), "{text}");
        assert!(text.contains("  lost                     3\n"), "{text}");
        assert!(
            text.contains("0 samples are there, 5 are not") && text.contains("note: something"),
            "{text}"
        );
        assert!(text.ends_with("  lost: x\n"), "{text}");
    }
}
