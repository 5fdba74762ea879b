//! The threads that compute the series of one operation in parallel.
//!
//! Owns:     a pool of threads, shared by all queries.
//! Touches:  nothing else.
//! Runs on:  each query has a thread of its own, which waits here for its series. Tasks of the pool are series, never
//!           whole queries, so a short query is not held up behind a long one that happens to run on the same thread.
//! Promises: results in order, whatever the number of threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use crate::background::{GiveWay, give_way};

/// Fewer series than this are not worth waking other threads for.
const PARALLEL_MIN: usize = 16;

/// A pool of threads for work on many series.
pub(super) struct Workers {
    pool: rayon::ThreadPool,
}

impl Workers {
    /// A pool of so many threads.
    ///
    /// # Panics
    /// When the operating system does not start the threads.
    pub(super) fn new(threads: usize) -> Workers {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("promql-{index}"))
            .start_handler(|_| give_way(GiveWay::Query))
            .build()
            .expect("a process that cannot start its query threads cannot serve");
        Workers { pool }
    }

    /// What the function makes of each index, in order.
    pub(super) fn map<T: Send>(&self, count: usize, function: impl Fn(usize) -> T + Sync) -> Vec<T> {
        if count < PARALLEL_MIN {
            return (0..count).map(function).collect();
        }
        self.pool.install(|| (0..count).into_par_iter().map(&function).collect())
    }

    /// The same, with a buffer that a thread uses again from index to index.
    pub(super) fn map_with<B: Send, T: Send>(
        &self,
        indexes: std::ops::Range<usize>,
        buffers: &Buffers<B>,
        function: impl Fn(&mut B, usize) -> T + Sync + Send,
    ) -> Vec<T> {
        let function = |index| function(&mut buffers.of_this_thread(), index);
        if indexes.len() < PARALLEL_MIN {
            return indexes.map(function).collect();
        }
        self.pool.install(|| indexes.into_par_iter().map(function).collect())
    }

    /// A buffer for each thread.
    pub(super) fn buffers<B: Default>(&self) -> Buffers<B> {
        // One more is for the thread of the query.
        Buffers((0..=self.pool.current_num_threads()).map(|_| Mutex::default()).collect())
    }

    /// Changes each item.
    pub(super) fn update<T: Send>(&self, items: &mut [T], function: impl Fn(&mut T) + Sync + Send) {
        if items.len() < PARALLEL_MIN {
            items.iter_mut().for_each(function);
        } else {
            self.share(items, function);
        }
    }

    /// The same for items that are worth it even if they are few.
    pub(super) fn share<T: Send>(&self, items: &mut [T], function: impl Fn(&mut T) + Sync + Send) {
        self.pool.install(|| items.par_iter_mut().for_each(function));
    }

    /// What the function makes of each item, in order.
    pub(super) fn turn<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        function: impl Fn(T) -> R + Sync + Send,
    ) -> Vec<R> {
        if items.len() < PARALLEL_MIN {
            return items.into_iter().map(function).collect();
        }
        self.pool.install(|| items.into_par_iter().map(function).collect())
    }
}

/// A buffer for each thread of a pool, and one for the thread that waits for the pool.
pub(super) struct Buffers<B>(Vec<Mutex<B>>);

impl<B> Buffers<B> {
    /// The buffer of the thread that asks. No other thread takes it, so there is nothing to wait for.
    fn of_this_thread(&self) -> MutexGuard<'_, B> {
        let last = self.0.len() - 1;
        let index = rayon::current_thread_index().map_or(last, |index| index.min(last));
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_a_buffer_of_its_own() {
        let workers = Workers::new(3);
        let buffers: Buffers<Vec<usize>> = workers.buffers();
        for indexes in [0..3, 3..1000] {
            let pushed = workers.map_with(indexes.clone(), &buffers, |buffer, index| {
                buffer.push(index);
                index
            });
            assert_eq!(pushed, indexes.collect::<Vec<_>>());
        }
        let mut all: Vec<usize> =
            buffers.0.into_iter().flat_map(|buffer| buffer.into_inner().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn results_come_in_order() {
        let workers = Workers::new(3);
        for count in [0, 1, PARALLEL_MIN - 1, PARALLEL_MIN, 1000] {
            assert_eq!(workers.map(count, |index| index * 2), (0..count).map(|i| i * 2).collect::<Vec<_>>());
            let mut items: Vec<usize> = (0..count).collect();
            workers.update(&mut items, |item| *item += 1);
            assert_eq!(items, (1..=count).collect::<Vec<_>>());
            assert_eq!(workers.turn(items, |item| item - 1), (0..count).collect::<Vec<_>>());
        }
    }
}
