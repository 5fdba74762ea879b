//! The protocol between nodes: gRPC `thanos.WriteableStore/RemoteWrite`, as Thanos Receive speaks it.
//!
//! Owns:     the bytes of requests between nodes; no connection.
//! Touches:  nothing.
//! Runs on:  wherever it is called.
//! Promises: what a peer sends is checked before memory is taken for it, and a request that cannot be read changes nothing.

mod frame;
mod message;
mod status;
mod stream;

pub use frame::{FRAME_HEAD_BYTES, FrameError, put_frame, unframe};
pub use message::{MessageError, PeerRequest, Splitter, TenantBody};
pub use status::Code;
pub use stream::{StreamError, Unstream, put_stream};
