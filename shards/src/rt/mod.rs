//! The only module that names the runtime: spawn, sleep, socket, file, channel.
//!
//! Everything else in this crate is ordinary Rust behind the traits here, so that the simulation drives the
//! same code and a second backend stays one file.

mod disk;

pub use disk::{BLOCK_BYTES, DirectFile};
