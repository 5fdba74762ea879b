//! `annulus-tools head`: what takes the room in memory.

mod fetch;
mod offline;
mod stats;

use std::process::ExitCode;

use crate::output::exit_code;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Shows what takes the room: series by tenant, metric, label and label pair.
    ///
    /// Asks a running process (--url; Prometheus and Thanos Receive answer too), or reads the files of one that has
    /// stopped or crashed (--data-dir), without writing.
    Stats(stats::Arguments),
}

/// Runs it.
pub fn run(command: &Command) -> ExitCode {
    exit_code(match command {
        Command::Stats(arguments) => stats::run(arguments),
    })
}
