//! Looks before the executors start whether io_uring can be used: glommio itself would panic.

use std::io;

/// What is missing for the ingest plane, with the cure.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// A seccomp profile or the sysctl forbids the system calls.
    #[error(
        "io_uring is forbidden here: a seccomp profile or the sysctl kernel.io_uring_disabled blocks it. In a \
         container, allow io_uring_setup, io_uring_enter and io_uring_register (Kubernetes: \
         securityContext.seccompProfile.type: Unconfined or a Localhost profile); on the host, set \
         kernel.io_uring_disabled=0"
    )]
    Forbidden,
    /// The kernel does not know io_uring.
    #[error("this kernel has no io_uring (Linux 5.8 or newer is needed), or a seccomp profile hides it")]
    Missing,
    /// The memory that may be locked does not cover the rings.
    #[error(
        "RLIMIT_MEMLOCK is {limit_bytes} bytes, too small for io_uring: {shards} shards need {needed_bytes} bytes. \
         Raise it (`ulimit -l`, systemd LimitMEMLOCK=64M, container --ulimit memlock=-1) or start fewer \
         shards (--shards)"
    )]
    Memlock {
        /// The soft limit of this process.
        limit_bytes: u64,
        /// What the rings and their buffers take.
        needed_bytes: u64,
        /// How many shards were asked for.
        shards: usize,
    },
    /// Anything else that the kernel answered.
    #[error("io_uring_setup failed: {0}")]
    Setup(io::Error),
}

/// Below this limit glommio refuses to start an executor.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// Locked by one executor: three rings and their registered buffers, measured at the settings that
/// [`super::spawn_shard`] uses.
const MEMLOCK_BYTES_PER_SHARD: u64 = 512 << 10;

/// Checks what `shards` executors need of the kernel; to be called before any is started.
pub fn preflight(shards: usize) -> Result<(), PreflightError> {
    match io_uring::IoUring::new(8) {
        Ok(_) => {}
        Err(error) => {
            return Err(match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => PreflightError::Forbidden,
                Some(libc::ENOSYS) => PreflightError::Missing,
                Some(libc::ENOMEM) => memlock_error(shards),
                _ => PreflightError::Setup(error),
            });
        }
    }
    let limit_bytes = memlock_limit_bytes();
    if !locks_without_limit() && limit_bytes < needed_bytes(shards) {
        return Err(memlock_error(shards));
    }
    Ok(())
}

fn needed_bytes(shards: usize) -> u64 {
    MEMLOCK_BYTES_MIN.max(shards as u64 * MEMLOCK_BYTES_PER_SHARD)
}

fn memlock_error(shards: usize) -> PreflightError {
    PreflightError::Memlock { limit_bytes: memlock_limit_bytes(), needed_bytes: needed_bytes(shards), shards }
}

fn memlock_limit_bytes() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current.unwrap_or(u64::MAX)
}

/// `CAP_IPC_LOCK` lifts the limit; bit 14 of the effective set in `/proc/self/status`.
fn locks_without_limit() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1)
}
