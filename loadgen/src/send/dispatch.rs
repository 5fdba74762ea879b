//! Which request may start on which lane.
//! Owns:     the requests that are due and wait, and which lanes rest.
//! Touches:  nothing: no clock, no network, no thread. [`super::load`] calls it under a lock.
//! Promises: requests of one block never overlap and keep their order, so that a receiver sees each series in order
//!           of time, as from Prometheus. No lane rests while a request waits that it may carry.
//!
//! A lane carries one request at a time: a connection of HTTP/1.1, a stream of HTTP/2, a shard of Prometheus.
//! Request `n` is of block `n % blocks`, and a block is the series that a shard owns as a whole.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// A request that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// On which lane.
    pub lane: usize,
    /// Which request.
    pub request: u64,
    /// When it could start at the earliest: when it was due, or when what it waited for ended. Time that passes
    /// after it is lost by the generator and by nobody else.
    pub ready_us: u64,
}

/// How requests find their lanes.
#[derive(Debug)]
pub enum Dispatch {
    /// Any lane that rests.
    AnyLane(AnyLane),
    /// Each block has its lane, as each series has its shard in Prometheus.
    Shards(Shards),
}

impl Dispatch {
    /// Takes a request that is due.
    pub fn offer(&mut self, request: u64, due_us: u64) -> Option<Start> {
        match self {
            Dispatch::AnyLane(lanes) => lanes.offer(request, due_us),
            Dispatch::Shards(shards) => shards.offer(request, due_us),
        }
    }

    /// Takes note that a lane is done with a request, and gives what may start because of it.
    pub fn finish(&mut self, lane: usize, request: u64, now_us: u64) -> Vec<Start> {
        match self {
            Dispatch::AnyLane(lanes) => lanes.finish(lane, request, now_us).into_iter().collect(),
            Dispatch::Shards(shards) => shards.finish(lane, now_us),
        }
    }

    /// Requests that are due and wait.
    pub fn waiting(&self) -> usize {
        match self {
            Dispatch::AnyLane(lanes) => lanes.ready.len() + lanes.behind,
            Dispatch::Shards(shards) => shards.backlog.len() + shards.queued(),
        }
    }

    /// Requests that are under way.
    pub fn in_flight(&self) -> usize {
        match self {
            Dispatch::AnyLane(lanes) => lanes.in_flight,
            Dispatch::Shards(shards) => shards.shards.iter().filter(|shard| shard.is_busy).count(),
        }
    }

    /// The shards that there are; `None` for lanes that are no shards.
    pub fn shards(&self) -> Option<usize> {
        match self {
            Dispatch::AnyLane(_) => None,
            Dispatch::Shards(shards) => Some(shards.shards.len()),
        }
    }

    /// Whether a change of the number of shards is under way.
    pub fn is_resharding(&self) -> bool {
        matches!(self, Dispatch::Shards(shards) if shards.wanted.is_some())
    }

    /// Changes the number of shards, as soon as all have sent what they have: until then nothing more is taken from
    /// the log, so that no series is overtaken on its way to another shard.
    pub fn reshard(&mut self, count: usize) {
        if let Dispatch::Shards(shards) = self {
            assert!(count > 0, "a load has lanes");
            shards.wanted = Some(count);
            shards.change_if_idle();
        }
    }

    /// Forgets all requests that wait, and says which they were.
    pub fn forget_waiting(&mut self) -> Vec<u64> {
        match self {
            Dispatch::AnyLane(lanes) => {
                let behind = lanes.claimed.values_mut().flat_map(std::mem::take);
                let forgotten = lanes.ready.iter().copied().chain(behind).collect();
                for request in std::mem::take(&mut lanes.ready) {
                    lanes.claimed.remove(&(request % lanes.blocks));
                }
                lanes.behind = 0;
                forgotten
            }
            Dispatch::Shards(shards) => {
                let queued = shards.shards.iter_mut().flat_map(|shard| std::mem::take(&mut shard.queue));
                queued.chain(std::mem::take(&mut shards.backlog)).collect()
            }
        }
    }
}

/// Lanes that take turns: the one that has rested longest is next.
#[derive(Debug)]
pub struct AnyLane {
    blocks: u64,
    in_flight_max: usize,
    idle: VecDeque<usize>,
    in_flight: usize,
    /// Blocks with a request under way or ready, and the later requests that wait behind it.
    claimed: HashMap<u64, VecDeque<u64>>,
    /// How many wait in `claimed`.
    behind: usize,
    /// Requests that wait only for a lane.
    ready: BTreeSet<u64>,
}

impl AnyLane {
    /// Lanes at rest, of which `in_flight_max` may be busy at once.
    pub fn new(blocks: u64, lanes: usize, in_flight_max: usize) -> AnyLane {
        assert!(blocks > 0 && lanes > 0 && in_flight_max > 0, "a load has blocks and lanes");
        AnyLane {
            blocks,
            in_flight_max,
            idle: (0..lanes).collect(),
            in_flight: 0,
            claimed: HashMap::new(),
            behind: 0,
            ready: BTreeSet::new(),
        }
    }

    fn offer(&mut self, request: u64, due_us: u64) -> Option<Start> {
        if let Some(behind) = self.claimed.get_mut(&(request % self.blocks)) {
            behind.push_back(request);
            self.behind += 1;
            return None;
        }
        self.claimed.insert(request % self.blocks, VecDeque::new());
        self.ready.insert(request);
        self.begin(due_us)
    }

    fn finish(&mut self, lane: usize, request: u64, now_us: u64) -> Option<Start> {
        assert!(self.in_flight > 0, "a request finished that never started");
        self.in_flight -= 1;
        self.idle.push_back(lane);
        let block = request % self.blocks;
        match self.claimed.get_mut(&block).and_then(VecDeque::pop_front) {
            Some(next) => {
                self.behind -= 1;
                self.ready.insert(next);
            }
            None => {
                self.claimed.remove(&block);
            }
        }
        self.begin(now_us)
    }

    /// The oldest request that is ready, if a lane is.
    fn begin(&mut self, ready_us: u64) -> Option<Start> {
        if self.in_flight >= self.in_flight_max || self.ready.is_empty() {
            return None;
        }
        let lane = self.idle.pop_front()?;
        let request = self.ready.pop_first()?;
        self.in_flight += 1;
        Some(Start { lane, request, ready_us })
    }
}

/// The queues of Prometheus: one for each shard, each bounded, filled from one log.
#[derive(Debug)]
pub struct Shards {
    blocks: u64,
    /// Requests that wait for one shard. One more makes all later requests wait, whatever shard they need:
    /// Prometheus reads its log no further while one shard is full.
    capacity: usize,
    shards: Vec<Shard>,
    backlog: VecDeque<u64>,
    /// How many there are to be once all are idle.
    wanted: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct Shard {
    is_busy: bool,
    queue: VecDeque<u64>,
}

impl Shards {
    /// Shards at rest.
    pub fn new(blocks: u64, shards: usize, capacity: usize) -> Shards {
        assert!(blocks > 0 && shards > 0, "a load has blocks and lanes");
        let shards = vec![Shard::default(); shards];
        Shards { blocks, capacity, shards, backlog: VecDeque::new(), wanted: None }
    }

    fn queued(&self) -> usize {
        self.shards.iter().map(|shard| shard.queue.len()).sum()
    }

    fn offer(&mut self, request: u64, due_us: u64) -> Option<Start> {
        self.backlog.push_back(request);
        self.admit(due_us)
    }

    fn finish(&mut self, lane: usize, now_us: u64) -> Vec<Start> {
        let mut starts = Vec::new();
        let shard = &mut self.shards[lane];
        assert!(shard.is_busy, "a request finished that never started");
        match shard.queue.pop_front() {
            Some(request) => starts.push(Start { lane, request, ready_us: now_us }),
            None => shard.is_busy = false,
        }
        self.change_if_idle();
        starts.extend(std::iter::from_fn(|| self.admit(now_us)));
        starts
    }

    fn change_if_idle(&mut self) {
        // A shard that is not busy has nothing in its queue.
        if let Some(count) = self.wanted
            && self.shards.iter().all(|shard| !shard.is_busy)
        {
            self.shards = vec![Shard::default(); count];
            self.wanted = None;
        }
    }

    /// Moves requests from the log into queues, until one of them may start or the next one's queue is full.
    fn admit(&mut self, ready_us: u64) -> Option<Start> {
        if self.wanted.is_some() {
            return None;
        }
        while let Some(&request) = self.backlog.front() {
            let lane = (request % self.blocks % self.shards.len() as u64) as usize;
            let shard = &mut self.shards[lane];
            if shard.is_busy && shard.queue.len() >= self.capacity {
                return None;
            }
            self.backlog.pop_front();
            if !shard.is_busy {
                shard.is_busy = true;
                return Some(Start { lane, request, ready_us });
            }
            shard.queue.push_back(request);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn start(lane: usize, request: u64, ready_us: u64) -> Start {
        Start { lane, request, ready_us }
    }

    #[test]
    fn a_request_starts_when_it_is_due_or_when_a_lane_becomes_free() {
        let mut dispatch = Dispatch::AnyLane(AnyLane::new(100, 2, 2));
        assert_eq!(dispatch.offer(0, 10), Some(start(0, 0, 10)));
        assert_eq!(dispatch.offer(1, 20), Some(start(1, 1, 20)));
        assert_eq!(dispatch.offer(2, 30), None);
        assert_eq!((dispatch.in_flight(), dispatch.waiting()), (2, 1));
        assert_eq!(dispatch.finish(1, 1, 99), [start(1, 2, 99)]);
    }

    #[test]
    fn lanes_take_turns() {
        let mut dispatch = Dispatch::AnyLane(AnyLane::new(100, 3, 3));
        for request in 0..9 {
            let started = dispatch.offer(request, request).unwrap();
            assert_eq!(started.lane as u64, request % 3);
            assert!(dispatch.finish(started.lane, request, request).is_empty());
        }
    }

    #[test]
    fn the_bound_of_requests_under_way_holds_with_lanes_at_rest() {
        let mut dispatch = Dispatch::AnyLane(AnyLane::new(100, 8, 1));
        assert!(dispatch.offer(0, 0).is_some());
        assert_eq!(dispatch.offer(1, 0), None);
        assert_eq!(dispatch.finish(0, 0, 5), [start(1, 1, 5)]);
    }

    #[test]
    fn the_next_round_of_a_block_waits_for_the_one_before() {
        let mut dispatch = Dispatch::AnyLane(AnyLane::new(4, 9, 9));
        assert_eq!(dispatch.offer(3, 0), Some(start(0, 3, 0)));
        assert_eq!(dispatch.offer(7, 1), None, "of the same block");
        assert_eq!(dispatch.offer(11, 2), None, "of the same block");
        assert_eq!(dispatch.offer(4, 3), Some(start(1, 4, 3)));
        assert_eq!(dispatch.finish(0, 3, 8), [start(2, 7, 8)]);
        assert_eq!(dispatch.finish(2, 7, 9), [start(3, 11, 9)]);
    }

    #[test]
    fn a_full_shard_holds_up_all_that_come_later() {
        let mut dispatch = Dispatch::Shards(Shards::new(4, 2, 1));
        assert_eq!(dispatch.offer(0, 0), Some(start(0, 0, 0)));
        assert_eq!(dispatch.offer(2, 1), None, "queued behind 0");
        assert_eq!(dispatch.offer(4, 2), None, "the queue of its shard is full");
        assert_eq!(dispatch.offer(1, 3), None, "its shard rests, but the log is not read so far");
        assert_eq!(dispatch.waiting(), 3);
        assert_eq!(dispatch.finish(0, 0, 9), [start(0, 2, 9), start(1, 1, 9)]);
    }

    #[test]
    fn shards_change_only_when_all_have_sent_what_they_had() {
        let mut dispatch = Dispatch::Shards(Shards::new(4, 1, 5));
        assert_eq!(dispatch.offer(0, 0), Some(start(0, 0, 0)));
        assert_eq!(dispatch.offer(1, 1), None, "queued behind 0");
        dispatch.reshard(2);
        assert_eq!(dispatch.offer(3, 2), None, "the log rests");
        assert_eq!(dispatch.finish(0, 0, 5), [start(0, 1, 5)]);
        assert!(dispatch.is_resharding() && dispatch.shards() == Some(1));
        assert_eq!(dispatch.finish(0, 1, 9), [start(1, 3, 9)]);
        assert!(!dispatch.is_resharding() && dispatch.shards() == Some(2));
    }

    #[test]
    fn what_waits_can_be_forgotten() {
        for mut dispatch in [Dispatch::AnyLane(AnyLane::new(4, 1, 1)), Dispatch::Shards(Shards::new(4, 1, 1))]
        {
            for request in 0..9 {
                dispatch.offer(request, 0);
            }
            assert_eq!(dispatch.forget_waiting().len(), 8);
            assert!(dispatch.finish(0, 0, 1).is_empty());
            assert_eq!((dispatch.in_flight(), dispatch.waiting()), (0, 0));
        }
    }

    proptest! {
        #[test]
        fn every_request_starts_once_and_each_block_in_order(
            is_sharded: bool,
            blocks in 1u64..12,
            lanes in 1usize..6,
            limit in 1usize..6,
            choices in prop::collection::vec(any::<u16>(), 1..300),
        ) {
            let mut dispatch = if is_sharded {
                Dispatch::Shards(Shards::new(blocks, lanes, limit))
            } else {
                Dispatch::AnyLane(AnyLane::new(blocks, lanes, limit))
            };
            let (mut under_way, mut started, mut next) = (Vec::<Start>::new(), HashSet::new(), 0);
            let mut newest = vec![None; blocks as usize];
            let mut finishing = false;
            for choice in choices.iter().copied().chain(std::iter::repeat_n(0, 400)) {
                finishing |= started.len() + dispatch.waiting() >= 200;
                if !finishing && choice % 16 == 1 {
                    dispatch.reshard(1 + choice as usize / 16 % 7);
                }
                let starts: Vec<Start> = if finishing || choice % 2 == 0 {
                    if under_way.is_empty() {
                        continue;
                    }
                    let done = under_way.swap_remove(choice as usize % under_way.len());
                    dispatch.finish(done.lane, done.request, 0)
                } else {
                    next += 1;
                    dispatch.offer(next - 1, 0).into_iter().collect()
                };
                for start in starts {
                    prop_assert!(under_way.iter().all(|other| other.lane != start.lane));
                    prop_assert!(under_way.iter().all(|other| other.request % blocks != start.request % blocks));
                    prop_assert!(newest[(start.request % blocks) as usize] < Some(start.request));
                    newest[(start.request % blocks) as usize] = Some(start.request);
                    prop_assert!(started.insert(start.request));
                    under_way.push(start);
                }
                prop_assert_eq!(dispatch.in_flight(), under_way.len());
                prop_assert_eq!(started.len() + dispatch.waiting(), next as usize);
            }
            // All that were offered have ended: nothing may be left behind.
            prop_assert_eq!(under_way.len() + dispatch.waiting(), 0);
        }
    }
}
