//! Core to core: bounded lock-free single-producer single-consumer rings, one per ordered pair of shards.
//!
//! Owns:     the rings and one waker per receiving shard.
//! Touches:  nothing else.
//! Runs on:  any shard; an outbox and an inbox belong to one thread each.
//! Promises: messages of one sender arrive in order; a full ring is an error of the sender, never a wait.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::task::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

/// The sending side of one shard: a ring to each other shard.
pub struct Outbox<T> {
    lanes: Vec<Option<Producer<T>>>,
    wakers: Vec<Arc<AtomicWaker>>,
}

/// The receiving side of one shard: a ring from each other shard.
pub struct Inbox<T> {
    lanes: Vec<Consumer<T>>,
    waker: Arc<AtomicWaker>,
    next: usize,
}

/// Rings of `capacity` messages between each two of `count` shards.
pub fn mesh<T>(count: usize, capacity: usize) -> Vec<(Outbox<T>, Inbox<T>)> {
    let wakers: Vec<Arc<AtomicWaker>> = (0..count).map(|_| Arc::default()).collect();
    let mut inboxes: Vec<Inbox<T>> = wakers
        .iter()
        .map(|waker| Inbox { lanes: Vec::with_capacity(count), waker: Arc::clone(waker), next: 0 })
        .collect();
    let outboxes: Vec<Outbox<T>> = (0..count)
        .map(|from| {
            let lanes = (0..count)
                .map(|to| {
                    (from != to).then(|| {
                        let (producer, consumer) = RingBuffer::new(capacity);
                        inboxes[to].lanes.push(consumer);
                        producer
                    })
                })
                .collect();
            Outbox { lanes, wakers: wakers.clone() }
        })
        .collect();
    outboxes.into_iter().zip(inboxes).collect()
}

impl<T> Outbox<T> {
    /// Hands a message to another shard; gives it back when that shard's ring is full.
    ///
    /// # Panics
    /// When a shard sends to itself.
    pub fn try_send(&mut self, to: usize, message: T) -> Result<(), T> {
        let lane = self.lanes[to].as_mut().expect("a shard does not send to itself");
        lane.push(message).map_err(|rtrb::PushError::Full(message)| message)?;
        self.wakers[to].wake();
        Ok(())
    }

    /// Messages that wait at another shard.
    pub fn queued(&self, to: usize) -> usize {
        self.lanes[to].as_ref().map_or(0, |lane| lane.buffer().capacity() - lane.slots())
    }
}

impl<T> Inbox<T> {
    /// The next message of any shard, taken in turns; pending while there is none.
    pub async fn receive(&mut self) -> T {
        poll_fn(|context| {
            if let Some(message) = self.try_receive() {
                return Poll::Ready(message);
            }
            // Register, then look again: a message pushed in between would wake nobody.
            self.waker.register(context.waker());
            self.try_receive().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The next message, if one waits.
    pub fn try_receive(&mut self) -> Option<T> {
        for _ in 0..self.lanes.len() {
            self.next = (self.next + 1) % self.lanes.len();
            if let Ok(message) = self.lanes[self.next].pop() {
                return Some(message);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_gives_the_message_back() {
        let mut ends = mesh::<u32>(2, 2);
        let (mut outbox, _) = ends.remove(0);
        let (_, mut inbox) = ends.remove(0);
        assert_eq!(outbox.try_send(1, 1), Ok(()));
        assert_eq!(outbox.try_send(1, 2), Ok(()));
        assert_eq!(outbox.try_send(1, 3), Err(3));
        assert_eq!(outbox.queued(1), 2);
        assert_eq!(inbox.try_receive(), Some(1));
        assert_eq!(outbox.try_send(1, 3), Ok(()));
    }

    #[test]
    fn every_message_arrives_once_and_each_sender_in_order() {
        const COUNT: u32 = 20_000;
        let mut ends = mesh::<(usize, u32)>(3, 16);
        let (_, mut inbox) = ends.remove(0);
        let senders: Vec<_> = ends
            .into_iter()
            .enumerate()
            .map(|(sender, (mut outbox, _))| {
                std::thread::spawn(move || {
                    for number in 0..COUNT {
                        while outbox.try_send(0, (sender, number)).is_err() {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut expected = [0; 2];
        futures::executor::block_on(async {
            while expected != [COUNT; 2] {
                let (sender, number) = inbox.receive().await;
                assert_eq!(number, expected[sender]);
                expected[sender] += 1;
            }
        });
        for sender in senders {
            sender.join().unwrap();
        }
    }
}
