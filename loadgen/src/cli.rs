//! The command line: which command runs, and how a wrong flag is told.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::commands::{compare, plan, ramp, run};
use crate::send::sink;
use crate::verify;

/// Load, verification and capacity planning for any receiver of Prometheus remote write.
///
/// A stream as real targets make it is sent on a fixed schedule that waits for nobody; latency counts from the time
/// at which each request was due. Everything that is sent can be read back and compared, bit for bit.
///
/// Start with:
///
/// annulus-loadgen run --url http://127.0.0.1:19291/api/v1/receive --series 100k --duration 60s
#[derive(Debug, Parser)]
#[command(name = "annulus-loadgen", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Ramp(Box<ramp::RampArgs>),
    Verify(Box<verify::VerifyArgs>),
    Plan(Box<plan::PlanArgs>),
    Compare(Box<compare::CompareArgs>),
    #[command(hide = true)]
    Sink(sink::SinkArgs),
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Run(args) => run::command(&args),
            Command::Ramp(args) => ramp::command(&args),
            Command::Verify(args) => verify::command(&args),
            Command::Plan(args) => plan::command(&args),
            Command::Compare(args) => compare::command(&args),
            Command::Sink(args) => sink::command(&args),
        },
        Err(error) => show(&error),
    }
}

/// Help and version as clap prints them; of an error only its first paragraph, on one line.
fn show(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Whoever closed the standard output does not want to see it.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
    } else {
        eprintln!("{}", one_line(&error.to_string()));
    }
    ExitCode::from(2)
}

fn one_line(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_contradict_neither_each_other_nor_clap() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_flag_is_one_line() {
        for (line, part) in [
            (vec!["run"], "--url"),
            (vec!["run", "--url", "http://x/", "--rate", "fast"], "'fast' for '--rate <RATE>'"),
            (vec!["run", "--url", "http://x/", "--shards", "3"], "--as-prometheus"),
            (vec!["run", "--url", "http://x/", "--cert-file", "c"], "--key-file"),
            (vec!["run", "--url", "http://x/", "--verify"], "--query-url"),
            (vec!["verify", "--query-url", "http://x/"], "--ledger"),
            (vec!["ramp", "--url", "http://x/", "--precision", "7"], "--precision"),
        ] {
            let error = Cli::try_parse_from([vec!["annulus-loadgen"], line].concat()).unwrap_err();
            let text = one_line(&error.to_string());
            assert!(text.starts_with("error: ") && text.contains(part) && !text.contains('\n'), "{text}");
        }
    }
}
