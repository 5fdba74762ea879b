//! The wish that the cutter ends, as it is seen from everywhere in it.

use std::convert::Infallible;
use std::time::Duration;

use flume::{Receiver, RecvTimeoutError, Sender};

/// Ends the cutter when it is dropped.
#[derive(Debug)]
pub struct Stopper {
    _alive: Sender<Infallible>,
}

/// Tells whether the [`Stopper`] is gone.
#[derive(Debug, Clone)]
pub struct StopSignal(Receiver<Infallible>);

/// The two ends.
pub fn stop_pair() -> (Stopper, StopSignal) {
    let (alive, signal) = flume::bounded(0);
    (Stopper { _alive: alive }, StopSignal(signal))
}

impl StopSignal {
    /// Whether the cutter is to end.
    pub fn is_set(&self) -> bool {
        self.0.is_disconnected()
    }

    /// Waits for some time, or until the cutter is to end, and answers whether it is.
    pub fn wait(&self, pause: Duration) -> bool {
        self.0.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected)
    }

    /// Completes when the cutter is to end.
    pub async fn stopped(&self) {
        let Err(_) = self.0.recv_async().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_stopper_is_seen_at_once() {
        let (stopper, signal) = stop_pair();
        assert!(!signal.is_set() && !signal.wait(Duration::ZERO));
        drop(stopper);
        assert!(signal.is_set() && signal.wait(Duration::from_secs(3600)));
        futures::executor::block_on(signal.stopped());
    }
}
