//! The only module that names the runtime: spawn, sleep, socket, file, channel.
//!
//! Everything else in this crate is ordinary Rust behind the types here, so that the simulation drives the
//! same code and a second backend stays one folder.

mod aside;
mod disk;
mod executor;
mod file;
mod heap;
mod http;
mod net;
mod notify;
mod nudge;
mod platform;
mod preflight;
mod read_only;
mod resolve;

pub use aside::aside_waiting;
pub use disk::{AppendFile, BLOCK_BYTES, DirectFile, Directory, ReadAt};
pub use executor::{
    Executor, Pacer, allowed_cpus, blocking, monotonic_now, sleep, spawn, spawn_critical, spawn_shard,
    timeout, unix_now_ms, yield_to_reactor,
};
pub use file::{RingFile, ShardDirectory, prepare_directory};
pub use heap::trim_heap;
pub use http::{HyperExecutor, HyperIo, HyperTimer};
pub use net::{Accepted, Listener, Stream, bind_all, retry_at_start};
pub use notify::{Notify, WaitList};
pub use nudge::nudge_count;
pub use platform::{Native, Pace, Platform};
pub use preflight::{PreflightError, preflight};
pub use read_only::{NoFile, ReadOnlyDirectory, ReadOnlyFile};
pub use resolve::{ResolveError, Resolver};
