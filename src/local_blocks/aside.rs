//! Takes the reading of blocks off the threads that serve many queries at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::channel::oneshot;

use super::scope::{Scope, StopOnDrop};
use crate::source::SourceError;

/// Runs a read on rayon's threads and waits for it. Dropping the future stops the read before its next unit.
pub(super) async fn aside<T: Send + 'static>(
    scope: Scope,
    read: impl FnOnce(&Scope) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let scope = Arc::new(scope);
    let _stop = StopOnDrop(Arc::clone(&scope));
    let (sender, receiver) = oneshot::channel();
    rayon::spawn(move || {
        let read = AssertUnwindSafe(|| read(&scope));
        // A panic that left this closure would end the process, writes and all.
        let result = catch_unwind(read).unwrap_or_else(|_| Err(gone("a read of local blocks panicked")));
        // Nobody waits any more when the query was canceled.
        let _ = sender.send(result);
    });
    receiver.await.map_err(|_| gone("the query threads are gone"))?
}

fn gone(text: &str) -> SourceError {
    SourceError::Unavailable(text.to_owned())
}
