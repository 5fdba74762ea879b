//! A simulated disk, and histories of a log on it that crash anywhere. Everything follows from one seed.

mod disk;
mod executor;
mod files;
mod history;
mod random;
mod store;

pub use disk::SimDisk;
pub use executor::{interleave, run, run_to_end};
pub use files::SimDirectory;
pub use random::Random;
