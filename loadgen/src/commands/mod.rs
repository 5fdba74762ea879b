//! The commands, one file or folder each.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub mod compare;
mod drive;
pub mod options;
pub mod plan;
pub mod queue;
mod queue_file;
pub mod ramp;
pub mod run;
mod setup;

/// Runs a command on a runtime of its own; an error is one line and exit code 2.
pub fn block_on(
    threads: Option<usize>,
    command: impl Future<Output = Result<ExitCode, Box<dyn std::error::Error>>>,
) -> ExitCode {
    raise_file_limit();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let outcome = builder.enable_all().build().map_err(Into::into).and_then(|runtime| {
        // Work is done by tasks: the thread that blocks here only waits.
        runtime.block_on(command)
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

/// Allows as many sockets as this user may have. If it cannot be raised, connecting fails with a clear error.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_of_a_lane_ends_the_program_with_code_2() {
        let crash = async { Err(run::RunError::Crashed.into()) };
        assert_eq!(block_on(Some(1), crash), ExitCode::from(2));
    }
}
