//! Measuring: what was sent and how fast it was answered, what it cost the receiver, and whether the generator
//! itself was the limit.

pub mod headroom;
pub mod progress;
pub mod receiver;
pub mod recorder;
pub mod usage;
pub mod watch;
