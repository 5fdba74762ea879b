//! A simulated disk, and histories of a log on it that crash anywhere. Everything follows from one seed.

mod canaries;
mod disk;
mod executor;
mod faults;
mod files;
mod history;
mod model;
mod random;
mod store;
mod tests;

pub use disk::SimDisk;
pub use executor::{interleave, run, run_to_end};
pub use faults::FaultRates;
pub use files::SimDirectory;
pub use random::Random;
