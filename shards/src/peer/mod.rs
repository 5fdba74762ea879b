//! The protocol between nodes: gRPC `thanos.WriteableStore/RemoteWrite`, as Thanos Receive speaks it.
//!
//! Owns:     the bytes of requests between nodes, and a shard's connections to its peers.
//! Touches:  no head and no WAL. Who sends what to whom, and how many answers suffice, is the dispatcher's concern.
//! Runs on:  the bytes wherever they are called for, the connections on their shard.
//! Promises: what a peer sends is checked before memory is taken for it, and a request that cannot be read changes nothing.
//!           What is on its way to a peer is bounded; one that is slow, gone or lies is waited for by its own requests only,
//!           and never longer than their deadline.

mod answer;
mod backoff;
mod block;
mod connection;
mod encode;
mod failure;
mod frame;
mod link;
mod message;
mod peers;
mod request;
mod status;
mod stream;

pub use block::{BLOCK_ENCODING, ExtendError, ExtendedBlock};
pub use failure::PeerFailure;
pub use frame::{FRAME_HEAD_BYTES, FrameError, put_frame, unframe};
pub use message::{MessageError, PeerRequest, Splitter, TenantBody};
pub use peers::{Compression, Peers, PeersOptions};
pub use request::{ForwardRequest, MessageForm, SeriesBytes};
pub use status::Code;
pub use stream::{StreamError, Unstream, put_stream};
