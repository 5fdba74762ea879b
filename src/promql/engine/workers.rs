//! The threads that compute the series of one operation in parallel.
//!
//! Owns:     a pool of threads, shared by all queries.
//! Touches:  nothing else.
//! Runs on:  each query has a thread of its own, which waits here for its series. Tasks of the pool are series, never
//!           whole queries, so a short query is not held up behind a long one that happens to run on the same thread.
//! Promises: results in order, whatever the number of threads.

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
        self.map_with(0..count, || (), |(), index| function(index))
    }

    /// The same, with a buffer that a thread uses again from index to index.
    pub(super) fn map_with<B, T: Send>(
        &self,
        indexes: std::ops::Range<usize>,
        buffer: impl Fn() -> B + Sync + Send,
        function: impl Fn(&mut B, usize) -> T + Sync + Send,
    ) -> Vec<T> {
        if indexes.len() < PARALLEL_MIN {
            let mut buffer = buffer();
            return indexes.map(|index| function(&mut buffer, index)).collect();
        }
        self.pool.install(|| indexes.into_par_iter().map_init(buffer, function).collect())
    }

    /// Changes each item.
    pub(super) fn update<T: Send>(&self, items: &mut [T], function: impl Fn(&mut T) + Sync + Send) {
        if items.len() < PARALLEL_MIN {
            items.iter_mut().for_each(function);
        } else {
            self.pool.install(|| items.par_iter_mut().for_each(function));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        let workers = Workers::new(3);
        for count in [0, 1, PARALLEL_MIN - 1, PARALLEL_MIN, 1000] {
            assert_eq!(workers.map(count, |index| index * 2), (0..count).map(|i| i * 2).collect::<Vec<_>>());
            let mut items: Vec<usize> = (0..count).collect();
            workers.update(&mut items, |item| *item += 1);
            assert_eq!(items, (1..=count).collect::<Vec<_>>());
        }
    }
}
