//! `annulus-tools block`: blocks on the disk, those of Prometheus and Thanos too.

mod find;
mod inspect;
mod list;
mod verify;

use std::process::ExitCode;

use crate::output::exit_code;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Lists the blocks in a directory.
    ///
    /// The directory may hold blocks, folders of tenants with blocks, or be a data directory (its `blocks` are
    /// listed then).
    ///
    /// Exit codes: 0 all look whole, 1 some do not, 2 wrong usage or something cannot be read.
    Ls(list::Arguments),
    /// Shows what takes the room in one block.
    ///
    /// Sections of the index, labels by number of values, metrics by number of series, label pairs, and chunks by
    /// encoding. Reads the whole block.
    Inspect(inspect::Arguments),
    /// Checks every byte of blocks that somebody could read, and what their parts say about each other.
    ///
    /// Exit codes: 0 all are whole, 1 some are damaged, 2 wrong usage or something cannot be read.
    Verify(verify::Arguments),
}

/// Runs one of them.
pub fn run(command: &Command) -> ExitCode {
    exit_code(match command {
        Command::Ls(arguments) => list::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    })
}
