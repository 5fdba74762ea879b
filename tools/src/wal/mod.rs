//! `annulus-tools wal`: the write-ahead log, the checkpoints and the chunk log of shards, without writing.

mod inspect;
mod records;
mod verify;

use std::process::ExitCode;

use crate::output::exit_code;

/// The length of a window while a log is replayed. It decides only which chunks would be closed, and is not stored.
pub const WINDOW_MS: i64 = 7_200_000;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Shows what is in the write-ahead log of each shard.
    ///
    /// Superblocks, size, use, and what the frames hold: records by kind, times, tenants. Works on a data directory
    /// and on the directory of one shard, while annulus is stopped or crashed. While it runs, frames that are just
    /// being written may look damaged.
    Inspect(inspect::Arguments),
    /// Checks everything that a start would read, and says what it would lose.
    ///
    /// Superblocks, every frame's checksum, every checkpoint, every chunk. Nothing is written or repaired: a start of
    /// annulus sets damaged parts aside by itself.
    ///
    /// Exit codes: 0 everything is whole, 1 something is damaged, 2 wrong usage or something cannot be read.
    Verify(verify::Arguments),
}

/// Runs one of them.
pub fn run(command: &Command) -> ExitCode {
    exit_code(match command {
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    })
}
