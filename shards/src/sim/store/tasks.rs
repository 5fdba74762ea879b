//! Tasks of one executor, one random step of one of them at a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use super::super::Random;

/// A task.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The tasks of one life.
pub struct Tasks {
    random: Random,
    running: Vec<Task>,
    /// They end with the life only.
    endless: Vec<Task>,
}

impl Tasks {
    pub fn new(random: Random) -> Tasks {
        Tasks { random, running: Vec::new(), endless: Vec::new() }
    }

    /// Adds a task that ends.
    pub fn add(&mut self, task: impl Future<Output = ()> + 'static) {
        self.running.push(Box::pin(task));
    }

    /// Adds a task that never ends.
    pub fn add_endless(&mut self, task: impl Future<Output = ()> + 'static) {
        self.endless.push(Box::pin(task));
    }

    /// Runs all tasks until those that end have ended.
    pub async fn run(&mut self) {
        poll_fn(|context| {
            let count = self.running.len() + self.endless.len();
            if self.running.is_empty() {
                return Poll::Ready(());
            }
            let at = self.random.below(count as u64) as usize;
            if let Some(task) = self.running.get_mut(at) {
                if task.as_mut().poll(context).is_ready() {
                    drop(self.running.swap_remove(at));
                }
            } else if self.endless[at - self.running.len()].as_mut().poll(context).is_ready() {
                unreachable!("an endless task has ended");
            }
            // The next step is another one, so that a crash can come between.
            Poll::Pending
        })
        .await;
    }
}
