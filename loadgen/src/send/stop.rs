//! The wish to end early, as Ctrl-C gives it: seen by threads and by tasks.

use std::sync::Arc;

use tokio::sync::watch;

/// A flag that is raised once. Clones share it.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Stop {
        Stop(Arc::new(watch::channel(false).0))
    }
}

impl Stop {
    /// One that Ctrl-C or SIGTERM raises; a second signal ends the process at once.
    pub fn on_signal() -> Stop {
        let stop = Stop::default();
        let raised = stop.clone();
        tokio::spawn(async move {
            signal().await;
            raised.request();
            signal().await;
            std::process::exit(130);
        });
        stop
    }

    /// Raises it.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has been raised.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is raised.
    pub async fn requested(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = receiver.wait_for(|requested| *requested).await;
    }
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals keep their usual effect: they end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_and_who_asks_both_see_it() {
        let stop = Stop::default();
        assert!(!stop.is_requested());
        stop.clone().request();
        stop.requested().await;
        assert!(stop.is_requested());
    }
}
