//! What one shard stands on: an executor with its disk, or the simulation of both.

use std::future::Future;
use std::io;

use super::disk::{DirectFile, Directory};
use super::executor::{Pacer, blocking};
use super::file::{RingFile, ShardDirectory};

/// Where the tasks of a shard run, and where its files are.
pub trait Platform: 'static {
    /// The ring of the WAL.
    type Ring: DirectFile;
    /// The directory of checkpoints and chunk files.
    type Files: Directory + Clone;
    /// Ends the turns of a task.
    type Pace: Pace;

    /// For one task.
    fn pacer(&self) -> Self::Pace;

    /// Runs work that may wait for the disk where it holds up nobody. A panic in it is an error.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = io::Result<T>>;
}

/// Lets other tasks run every now and then during long work.
pub trait Pace {
    /// To be called between units of work of some 100 µs.
    fn pace(&mut self) -> impl Future<Output = ()>;

    /// The task has waited for something: its turn begins again.
    fn restart(&mut self);
}

/// The real executor and disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl Platform for Native {
    type Ring = RingFile;
    type Files = ShardDirectory;
    type Pace = Pacer;

    fn pacer(&self) -> Pacer {
        Pacer::default()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        blocking(work).await
    }
}

impl Pace for Pacer {
    async fn pace(&mut self) {
        Pacer::pace(self).await;
    }

    fn restart(&mut self) {
        Pacer::restart(self);
    }
}
