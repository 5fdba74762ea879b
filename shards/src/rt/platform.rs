//! What one shard stands on: an executor, its disk and its clock, or the simulation of them.

use std::future::Future;
use std::io;

use super::aside::aside;
use super::disk::{DirectFile, Directory};
use super::executor::{Pacer, blocking, unix_now_ms};
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

    /// The wall clock in milliseconds since the Unix epoch.
    fn unix_now_ms(&self) -> i64;

    /// Runs work that may wait for the disk where it holds up nobody. A panic in it is an error.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = io::Result<T>>;

    /// Computes what may take any time where it holds up nobody. A panic in it is an error.
    fn aside<T: Send + 'static>(
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

    fn unix_now_ms(&self) -> i64 {
        unix_now_ms()
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        blocking(work).await
    }

    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        aside(work).await
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
