//! What all whole-process tests share.

pub mod http;
pub mod metrics;
pub mod otlp;
pub mod process;
pub mod query;
pub mod random;
pub mod server;
pub mod write;

use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Probes until there is an answer. The only way in which tests wait: a condition with a bound, not a pause.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    wait_until(what, limit, || probe().ok_or_else(String::new))
}

/// The same with a probe that says why it has no answer yet; the last reason is shown when time is up.
pub fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(found) => return found,
            Err(reason) => assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what} {reason}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An address on which nobody listens. Its port is below those that the system gives to connections by itself: one of
/// these could be taken by a connection before the process that is to listen has started.
pub fn free_address() -> SocketAddr {
    const PORTS: Range<u32> = 12_000..32_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in PORTS {
        let offset = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + offset).unwrap();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
    panic!("no port is free");
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Says that a test is left out on this machine, and why.
pub fn leave_out(test: &str, why: &str) {
    eprintln!("left out: {test}: {why}");
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
