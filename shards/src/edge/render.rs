//! The text of `/metrics`, made on a thread of its own: with many tenants it takes milliseconds, which a shard
//! does not have.

use futures::channel::oneshot;
use prometheus::{Encoder, Registry, TextEncoder};

/// Asks for the text.
pub type RenderJob = oneshot::Sender<Vec<u8>>;

/// Renders until every sender of jobs has gone.
pub fn render_thread(registry: Registry, jobs: flume::Receiver<RenderJob>) {
    for reply in jobs {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be rendered");
        }
        // An error in sending means that the client has gone.
        let _ = reply.send(text);
    }
}
