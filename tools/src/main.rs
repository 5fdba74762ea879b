//! `annulus-tools`: looks into and checks what annulus keeps, and runs its test scripts.
//! Owns:     nothing: whatever it looks at is opened for reading only.
//! Touches:  the files that it is told to look at; with `--url`, one process over the network.
//! Runs on:  the main thread.
//! Promises: a damaged or hostile file gives a report or an error, never a panic.

mod block;
mod data_dir;
mod head;
mod output;
mod promqltest;
mod wal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tools for annulus.
#[derive(Debug, Parser)]
#[command(name = "annulus-tools", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks into the write-ahead log, checkpoints and chunks on a disk, and checks them.
    #[command(subcommand)]
    Wal(wal::Command),
    /// Lists, looks into and checks blocks.
    #[command(subcommand)]
    Block(block::Command),
    /// Shows what takes the room in memory.
    #[command(subcommand)]
    Head(head::Command),
    /// Runs test scripts in the language of Prometheus' promqltest.
    Promqltest(promqltest::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Wal(command) => wal::run(&command),
        Command::Block(command) => block::run(&command),
        Command::Head(command) => head::run(&command),
        Command::Promqltest(arguments) => promqltest::run(&arguments),
    }
}
