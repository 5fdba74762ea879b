//! How many shards Prometheus would run, judged as it judges: from what came in, what went out, and how long that took.
//! No clock and no network: [`super::load`] tells what happened, and asks once in a cycle.
//!
//! Requests are counted where Prometheus counts samples; all requests of a load are about equally large, and the
//! sums below do not depend on the unit.

use std::time::Duration;

/// Time between two judgements.
pub const CYCLE: Duration = Duration::from_secs(10);

/// Weight of the newest cycle in a rate.
const WEIGHT: f64 = 0.2;

/// The number of shards changes only if more than this share of them is wanted in addition, or to go.
const TOLERANCE: f64 = 0.3;

/// Share of the backlog that is to be caught up with in each second.
const CATCH_UP: f64 = 0.05;

/// With a longer delay than this, no shard is taken away.
const DELAY_S_MAX: f64 = 10.0;

/// Events per second, smoothed over cycles.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    events: f64,
    per_second: f64,
    is_begun: bool,
}

impl Rate {
    fn tick(&mut self, cycle_s: f64) {
        let now = std::mem::take(&mut self.events) / cycle_s;
        if self.is_begun {
            self.per_second += WEIGHT * (now - self.per_second);
        } else if now > 0.0 {
            (self.is_begun, self.per_second) = (true, now);
        }
    }
}

/// Follows the flow of requests and the number of shards.
#[derive(Debug, Clone)]
pub struct Resharder {
    shards: usize,
    shards_min: usize,
    shards_max: usize,
    cycle: Duration,
    arrived: Rate,
    sent: Rate,
    dropped: Rate,
    /// Seconds that shards spent on sending, for each second.
    sending_s: Rate,
    /// Due times of the newest request that arrived, and of the newest that was sent.
    newest_arrived_us: u64,
    newest_sent_us: u64,
    /// When a request was sent last.
    sent_at_us: Option<u64>,
    /// While a receiver asks for patience, more shards would only make it worse.
    held_until_us: u64,
}

impl Resharder {
    /// It begins with the fewest shards, as Prometheus does.
    pub fn new(shards_min: usize, shards_max: usize, cycle: Duration) -> Resharder {
        assert!(0 < shards_min && shards_min <= shards_max, "the bounds of the shards were checked");
        Resharder {
            shards: shards_min,
            shards_min,
            shards_max,
            cycle,
            arrived: Rate::default(),
            sent: Rate::default(),
            dropped: Rate::default(),
            sending_s: Rate::default(),
            newest_arrived_us: 0,
            newest_sent_us: 0,
            sent_at_us: None,
            held_until_us: 0,
        }
    }

    /// A request became due.
    pub fn arrive(&mut self, due_us: u64) {
        self.arrived.events += 1.0;
        self.newest_arrived_us = self.newest_arrived_us.max(due_us);
    }

    /// A request has met its fate, be it good or bad, after so long on its shard.
    pub fn finish(&mut self, due_us: u64, took: Duration, now_us: u64) {
        self.sent.events += 1.0;
        self.sending_s.events += took.as_secs_f64();
        self.newest_sent_us = self.newest_sent_us.max(due_us);
        self.sent_at_us = Some(now_us);
    }

    /// A request was too old to be sent.
    pub fn discard(&mut self, due_us: u64) {
        self.dropped.events += 1.0;
        self.newest_sent_us = self.newest_sent_us.max(due_us);
    }

    /// An attempt failed and is repeated after a pause.
    pub fn hold(&mut self, pause: Duration, now_us: u64) {
        let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.held_until_us = self.held_until_us.max(now_us.saturating_add(pause_us.saturating_mul(2)));
    }

    /// Judges at the end of a cycle; gives a number of shards only if it is to change. `is_busy` says that an earlier
    /// change is not complete.
    pub fn judge(&mut self, now_us: u64, is_busy: bool) -> Option<usize> {
        let cycle_s = self.cycle.as_secs_f64();
        for rate in [&mut self.arrived, &mut self.sent, &mut self.dropped, &mut self.sending_s] {
            rate.tick(cycle_s);
        }
        let wanted = self.wanted()?;
        let is_stuck = self.sent_at_us.is_none_or(|at| at + self.cycle.as_micros() as u64 <= now_us);
        if wanted == self.shards || is_busy || is_stuck || now_us < self.held_until_us {
            return None;
        }
        self.shards = wanted;
        Some(wanted)
    }

    fn wanted(&self) -> Option<usize> {
        let (arrived, sent) = (self.arrived.per_second, self.sent.per_second);
        if sent <= 0.0 {
            return None;
        }
        let kept = sent / (self.dropped.per_second + sent);
        let delay_s = self.newest_arrived_us.saturating_sub(self.newest_sent_us) as f64 / 1e6;
        let backlog = delay_s * arrived * kept;
        let seconds_each = self.sending_s.per_second / sent;
        let wanted = (seconds_each * (arrived * kept + CATCH_UP * backlog)).ceil();
        let shards = self.shards as f64;
        if (shards * (1.0 - TOLERANCE)..=shards * (1.0 + TOLERANCE)).contains(&wanted) {
            return None;
        }
        if wanted < shards && delay_s > DELAY_S_MAX {
            return None;
        }
        Some((wanted as usize).clamp(self.shards_min, self.shards_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CYCLE_US: u64 = 10_000_000;

    /// Plays cycles in which a request arrives each millisecond and takes `took` on its shard. What so many shards
    /// cannot carry is sent later. Gives the number of shards after each cycle.
    fn play(resharder: &mut Resharder, took: Duration, cycles: u64) -> Vec<usize> {
        let (mut shards, mut sent) = (resharder.shards, 0);
        let play = |cycle: u64| {
            let begin_us = cycle * CYCLE_US;
            for request in cycle * 10_000..(cycle + 1) * 10_000 {
                resharder.arrive(request * 1000);
            }
            let room = (shards as f64 * 10.0 / took.as_secs_f64()) as u64;
            let end = (sent + room).min((cycle + 1) * 10_000);
            for request in sent..end {
                resharder.finish(request * 1000, took, begin_us);
            }
            sent = end;
            shards = resharder.judge(begin_us + CYCLE_US - 1, false).unwrap_or(shards);
            shards
        };
        (0..cycles).map(play).collect()
    }

    #[test]
    fn shards_are_added_until_they_carry_the_load() {
        let mut resharder = Resharder::new(1, 50, CYCLE);
        // A thousand requests a second of 4 ms each keep four shards busy.
        let shards = play(&mut resharder, Duration::from_millis(4), 60);
        assert!(shards[1] >= 4, "{shards:?}");
        assert!((4..=6).contains(shards.last().unwrap()), "{shards:?}");
    }

    #[test]
    fn a_small_deviation_changes_nothing() {
        let mut resharder = Resharder::new(5, 50, CYCLE);
        assert_eq!(play(&mut resharder, Duration::from_micros(4900), 20), vec![5; 20]);
    }

    #[test]
    fn bounds_hold() {
        let mut resharder = Resharder::new(2, 6, CYCLE);
        assert_eq!(play(&mut resharder, Duration::from_millis(20), 20).last(), Some(&6));
        let mut resharder = Resharder::new(2, 6, CYCLE);
        assert_eq!(play(&mut resharder, Duration::from_micros(10), 20), vec![2; 20]);
    }

    #[test]
    fn shards_go_when_they_are_not_needed_unless_it_is_behind() {
        let grown = || {
            let mut resharder = Resharder::new(1, 50, CYCLE);
            play(&mut resharder, Duration::from_millis(20), 30);
            assert!(resharder.shards >= 20, "{resharder:?}");
            // From here on it has to carry little.
            Resharder {
                arrived: Rate::default(),
                sent: Rate::default(),
                sending_s: Rate::default(),
                ..resharder
            }
        };
        let mut resharder = grown();
        let before = resharder.shards;
        let last_us = resharder.newest_arrived_us + 1_000_000;
        resharder.arrive(last_us);
        resharder.finish(last_us, Duration::from_millis(1), last_us);
        assert_eq!(resharder.judge(last_us, false), Some(1));
        let mut behind = grown();
        behind.arrive(last_us);
        behind.newest_sent_us = last_us - 11_000_000;
        behind.finish(0, Duration::from_millis(1), last_us);
        assert_eq!((behind.judge(last_us, false), behind.shards), (None, before));
    }

    #[test]
    fn nothing_changes_while_nothing_is_sent_or_the_receiver_asks_for_patience() {
        let want_more = |resharder: &mut Resharder| {
            for request in 0..10_000u64 {
                resharder.arrive(request * 1000);
                resharder.finish(request * 1000, Duration::from_micros(8500), request * 1000);
            }
        };
        let fresh = || Resharder::new(1, 50, CYCLE);
        let mut resharder = fresh();
        want_more(&mut resharder);
        assert_eq!(resharder.clone().judge(CYCLE_US, false), Some(9));
        assert_eq!(resharder.clone().judge(CYCLE_US, true), None);
        assert_eq!(resharder.clone().judge(3 * CYCLE_US, false), None);
        resharder.hold(Duration::from_secs(3), CYCLE_US - 1_000_000);
        assert_eq!(resharder.clone().judge(CYCLE_US, false), None);
        assert_eq!(fresh().judge(CYCLE_US, false), None);
    }
}
