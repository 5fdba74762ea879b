//! `annulus-tools`: looks into and checks what annulus keeps, and runs its test scripts.

mod promqltest;

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
    /// Runs test scripts in the language of Prometheus' promqltest.
    Promqltest(promqltest::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Promqltest(arguments) => promqltest::run(&arguments),
    }
}
