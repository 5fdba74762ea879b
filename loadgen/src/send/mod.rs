//! Sending: which request goes out when, on which connection, and what happens when it is refused.
//!
//! From the outside in: [`load`] drives a whole load, [`dispatch`] decides what may start and [`reshard`] on how many
//! shards, [`lane`] carries one request after another to its fate, [`retry`] decides about the next attempt, [`link`]
//! keeps a connection, and [`endpoint`] with [`tls`] says where and as whom. [`metadata`] sends beside all that.

pub mod dispatch;
pub mod endpoint;
mod lane;
pub mod link;
pub mod load;
mod metadata;
pub mod reshard;
pub mod retry;
pub mod sink;
pub mod stop;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
