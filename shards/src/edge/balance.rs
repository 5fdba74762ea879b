//! Which shard serves a connection: one of those that have the fewest.
//!
//! The kernel deals connections out by a hash of their addresses, and the few connections of a sender live for days: all
//! of them may land on one shard, which then decodes every request while the others wait. So the shard that accepts a
//! connection hands it to the one that has the fewest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rt::Accepted;

/// Connections on their way to another shard, which takes them up within microseconds; beyond that they stay.
const HANDED_MAX: usize = 256;

/// One shard's place among those that share the connections of a node.
pub struct Seat<C = Accepted> {
    index: usize,
    /// Open connections of each shard, and those on their way to it.
    open: Arc<[AtomicUsize]>,
    lanes: Arc<[flume::Sender<C>]>,
    handed: flume::Receiver<C>,
}

/// The places of `count` shards.
pub fn seats<C>(count: usize) -> Vec<Seat<C>> {
    let open: Arc<[AtomicUsize]> = (0..count).map(|_| AtomicUsize::new(0)).collect();
    let (lanes, handed): (Vec<_>, Vec<_>) = (0..count).map(|_| flume::bounded(HANDED_MAX)).unzip();
    let lanes: Arc<[_]> = lanes.into();
    let seat = |(index, handed)| Seat { index, open: Arc::clone(&open), lanes: Arc::clone(&lanes), handed };
    handed.into_iter().enumerate().map(seat).collect()
}

impl<C> Seat<C> {
    /// Connections of this shard that were not given up yet.
    pub fn open_count(&self) -> usize {
        self.open[self.index].load(Ordering::Relaxed)
    }

    /// The same of all shards together.
    pub fn total_count(&self) -> usize {
        self.open.iter().map(|open| open.load(Ordering::Relaxed)).sum()
    }

    /// Hands a connection to the shard with the fewest, or gives it back if that is this one. It counts as open from here
    /// on; `None` if it went elsewhere.
    ///
    /// Two shards may choose at the same time, so that counts can differ by more than one: nothing depends on it.
    pub fn place(&self, connection: C) -> Option<C> {
        let open_count = |shard: usize| self.open[shard].load(Ordering::Relaxed);
        let (mut shard, mut fewest) = (self.index, open_count(self.index));
        for other in 0..self.open.len() {
            if open_count(other) < fewest {
                (shard, fewest) = (other, open_count(other));
            }
        }
        self.open[shard].fetch_add(1, Ordering::Relaxed);
        if shard == self.index {
            return Some(connection);
        }
        match self.lanes[shard].try_send(connection) {
            Ok(()) => None,
            Err(error) => {
                self.open[shard].fetch_sub(1, Ordering::Relaxed);
                self.open[self.index].fetch_add(1, Ordering::Relaxed);
                Some(error.into_inner())
            }
        }
    }

    /// The next connection that another shard hands over. Waits for ever when there is no other shard.
    pub async fn handed(&self) -> C {
        match self.handed.recv_async().await {
            Ok(connection) => connection,
            // This seat holds a sender itself.
            Err(flume::RecvError::Disconnected) => std::future::pending().await,
        }
    }

    /// A connection of this shard has ended.
    pub fn give_up(&self) {
        self.open[self.index].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn connections_of_one_acceptor_are_shared_evenly() {
        let seats = seats::<u32>(3);
        let kept = (0..8).filter(|number| seats[1].place(*number).is_some()).count();
        assert_eq!(kept, 3, "at equal counts the acceptor keeps it");
        let open: Vec<usize> = seats.iter().map(Seat::open_count).collect();
        assert_eq!(open, [3, 3, 2]);
        assert_eq!(seats[0].total_count(), 8);
        let taken = std::iter::from_fn(|| seats[0].handed().now_or_never()).count();
        assert_eq!(taken, 3);
        (0..3).for_each(|_| seats[0].give_up());
        assert!(seats[1].place(8).is_none() && seats[0].open_count() == 1);
    }

    #[test]
    fn a_connection_stays_where_it_is_when_the_other_shard_does_not_take_it_up() {
        let seats = seats::<usize>(2);
        let kept = (0..3 * HANDED_MAX).filter(|number| seats[0].place(*number).is_some()).count();
        assert_eq!(kept, 2 * HANDED_MAX);
        assert_eq!((seats[0].open_count(), seats[1].open_count()), (2 * HANDED_MAX, HANDED_MAX));
    }
}
