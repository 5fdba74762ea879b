//! The peers of one shard.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use snap::raw::Encoder;

use super::failure::PeerFailure;
use super::link::Link;
use super::request::{ForwardRequest, MessageForm};
use crate::metrics::PeerFamilies;
use crate::ring::{EndpointIndex, Rings};
use crate::rt::Resolver;

/// How messages are compressed, as `--receive.grpc-compression` names it. A peer that does not take it gets plain ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all, not even as its sender did.
    None,
    /// With snappy.
    #[default]
    Snappy,
}

/// What flags say about requests to peers.
#[derive(Debug, Clone, Copy)]
pub struct PeersOptions {
    /// How messages name their tenant.
    pub form: MessageForm,
    /// How messages are compressed.
    pub compression: Compression,
    /// The wait after the first failure of a peer.
    pub backoff_min: Duration,
    /// The longest wait after failures of a peer (`--receive-forward-max-backoff`).
    pub backoff_max: Duration,
    /// Requests of this shard that may be on their way to one peer.
    pub inflight_requests_max: usize,
    /// Bytes of their series.
    pub inflight_bytes_max: usize,
}

impl Default for PeersOptions {
    fn default() -> PeersOptions {
        PeersOptions {
            form: MessageForm::default(),
            compression: Compression::default(),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            inflight_requests_max: 256,
            inflight_bytes_max: 64 << 20,
        }
    }
}

/// Sends to the endpoints of the rings. It belongs to one shard and shares nothing with others but metrics.
pub struct Peers {
    options: PeersOptions,
    resolver: Resolver,
    families: PeerFamilies,
    links: RefCell<HashMap<Rc<str>, Rc<Link>>>,
    encoder: RefCell<Encoder>,
}

impl Peers {
    /// Without any endpoint.
    pub fn new(options: PeersOptions, resolver: Resolver, families: PeerFamilies) -> Peers {
        Peers {
            options,
            resolver,
            families,
            links: RefCell::default(),
            encoder: RefCell::new(Encoder::new()),
        }
    }

    /// Takes the endpoints of new rings, except this node's own. Those that stay keep their connections; those of others are
    /// closed once what is on them is answered. All failures are forgotten, as in Thanos Receive.
    pub fn replace(&self, rings: &Rings, own: Option<EndpointIndex>) {
        let endpoints = rings.indexed_endpoints().filter(|(index, _)| Some(*index) != own);
        let mut old = self.links.take();
        let links = endpoints.map(|(_, endpoint)| {
            let address = endpoint.address.as_str();
            match old.remove_entry(address) {
                Some((address, link)) => {
                    link.forget_failures();
                    (address, link)
                }
                None => {
                    let metrics = self.families.peer(address);
                    (address.into(), Link::new(address, self.options, self.resolver.clone(), metrics))
                }
            }
        });
        *self.links.borrow_mut() = links.collect();
    }

    /// Forgets all endpoints: nothing is sent any more, and connections close once what is on them is answered.
    pub fn close(&self) {
        self.links.take();
    }

    /// Sends a request to the endpoint of that address, as the rings write it, and waits for the answer, but not longer than
    /// `limit`. When this is dropped before, the request is given up.
    ///
    /// # Errors
    /// When the peer did not say that it has stored all of the request. It never waits for room, nor for a peer that failed a
    /// moment ago.
    pub async fn send(
        &self,
        address: &str,
        request: &ForwardRequest,
        limit: Duration,
    ) -> Result<(), PeerFailure> {
        let link = self.links.borrow().get(address).cloned();
        let link = link.ok_or_else(|| PeerFailure::Unreachable {
            reason: "no hashring has this endpoint any more".to_owned(),
        })?;
        link.send(request, limit, &self.encoder).await
    }
}

#[cfg(test)]
mod tests;
