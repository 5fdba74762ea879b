//! What a receiver of remote write costs: CPU, memory, disk and latency per acknowledged sample, and per query.
//!
//! Receivers run as child processes and are measured from outside (`/proc`), so that annulus and others are treated
//! alike: the same stream, the same connections, one after the other in one run. The load, the measuring and the
//! report are those of the load generator.

mod cost;
mod queries;

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
    Cost(cost::CostArguments),
    Queries(queries::QueriesArguments),
}

fn main() -> ExitCode {
    match Arguments::parse().bench {
        Bench::Cost(arguments) => cost::command(&arguments),
        Bench::Queries(arguments) => queries::command(&arguments),
    }
}
