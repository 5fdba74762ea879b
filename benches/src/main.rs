//! What a receiver of remote write costs: CPU, memory, disk and latency per acknowledged sample.
//!
//! Receivers run as child processes and are measured from outside (`/proc`), so that annulus and others are
//! treated alike: same series, same bodies, same connections, one after the other in one run.

mod cost;
mod http;
mod receiver;
mod report;
mod sender;
mod series;
mod template;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "annulus-benches", about = "Measures receivers of Prometheus remote write side by side")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// CPU, memory, bytes written and latency of ingestion, closed loop.
    Cost(cost::CostArguments),
}

fn main() -> ExitCode {
    let Bench::Cost(arguments) = Arguments::parse().bench;
    match cost::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("annulus-benches: {error}");
            ExitCode::FAILURE
        }
    }
}
