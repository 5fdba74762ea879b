//! annulus-loadgen: load, capacity planning and verification for receivers of Prometheus remote write.

use std::process::ExitCode;

fn main() -> ExitCode {
    annulus_loadgen::cli::main()
}
