//! When a peer that failed is tried again: a state machine without a clock of its own.

use std::time::{Duration, Instant};

/// Lets requests through to a peer, or not for a while.
#[derive(Debug)]
pub struct BackOff {
    state: State,
    wait_min: Duration,
    wait_max: Duration,
    /// Goes up with each failure that counts.
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Clear,
    /// Nothing goes through until then; afterwards one request does.
    Waiting {
        until: Instant,
        wait: Duration,
    },
    /// One request is on its way.
    Probing {
        wait: Duration,
    },
}

/// The right to send one request. What became of it has to be told with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    epoch: u64,
    is_probe: bool,
}

impl BackOff {
    /// All goes through. The first wait is `wait_min`; each failure of a probe doubles it, up to `wait_max`.
    pub fn new(wait_min: Duration, wait_max: Duration) -> BackOff {
        BackOff { state: State::Clear, wait_min, wait_max, epoch: 0 }
    }

    /// Whether a request may be sent now.
    pub fn admit(&mut self, now: Instant) -> Option<Pass> {
        let is_probe = match self.state {
            State::Clear => false,
            State::Waiting { until, wait } if until <= now => {
                self.state = State::Probing { wait };
                true
            }
            State::Waiting { .. } | State::Probing { .. } => return None,
        };
        Some(Pass { epoch: self.epoch, is_probe })
    }

    /// The peer answered, whatever it said of the request; or all is to be tried again.
    pub fn succeed(&mut self) {
        self.state = State::Clear;
    }

    /// The peer cannot be reached, or says that it can take nothing. A request that was sent before the last failure tells
    /// nothing new: of a hundred that fail together, one counts. `random` is any number.
    pub fn fail(&mut self, pass: Pass, now: Instant, random: u32) {
        if pass.epoch == self.epoch {
            self.fail_now(now, random);
        }
    }

    /// As [`BackOff::fail`], for what was found out without a request.
    pub fn fail_now(&mut self, now: Instant, random: u32) {
        let wait = match self.state {
            State::Clear => self.wait_min,
            State::Waiting { wait, .. } | State::Probing { wait } => wait.saturating_mul(2),
        };
        let wait = wait.min(self.wait_max);
        // Between half of it and all of it, so that the shards of all nodes do not come back at once.
        let part = 0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0;
        self.state = State::Waiting { until: now + wait.mul_f64(part), wait };
        self.epoch += 1;
    }

    /// A request ended without a word about the peer. If it was the probe, the next request is.
    pub fn abandon(&mut self, pass: Pass, now: Instant) {
        if let State::Probing { wait } = self.state
            && pass.is_probe
            && pass.epoch == self.epoch
        {
            self.state = State::Waiting { until: now, wait };
        }
    }

    /// The wait that a peer's last failure made, until an answer ends it.
    pub fn wait(&self) -> Duration {
        match self.state {
            State::Clear => Duration::ZERO,
            State::Waiting { wait, .. } | State::Probing { wait } => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::monotonic_now;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn waits_double_up_to_their_maximum_and_an_answer_ends_them() {
        let (mut back_off, mut now) = (BackOff::new(MIN, MAX), monotonic_now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let pass = back_off.admit(now).unwrap();
            back_off.fail(pass, now, u32::MAX);
            assert_eq!(back_off.admit(now), None);
            waits.push(back_off.wait().as_millis());
            now += back_off.wait();
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let probe = back_off.admit(now).unwrap();
        assert_eq!(back_off.admit(now), None, "one request at a time finds out");
        back_off.succeed();
        assert!(back_off.admit(now).is_some() && !back_off.admit(now).unwrap().is_probe);
        back_off.fail(probe, now, 0);
        assert_eq!(back_off.wait(), MIN);
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let (mut back_off, now) = (BackOff::new(MIN, MAX), monotonic_now());
        let passes: Vec<_> = (0..100).map(|_| back_off.admit(now).unwrap()).collect();
        for pass in passes {
            back_off.fail(pass, now, u32::MAX);
        }
        assert_eq!(back_off.wait(), MIN);
    }

    #[test]
    fn a_probe_that_tells_nothing_makes_room_for_another() {
        let (mut back_off, now) = (BackOff::new(MIN, MAX), monotonic_now());
        let pass = back_off.admit(now).unwrap();
        back_off.fail(pass, now, 0);
        back_off.abandon(pass, now);
        assert_eq!(back_off.admit(now), None, "a request from before the failure opens nothing");
        let probe = back_off.admit(now + MAX).unwrap();
        back_off.abandon(probe, now + MAX);
        assert!(back_off.admit(now + MAX).unwrap().is_probe);
    }

    proptest! {
        /// Against the rules themselves: never two probes at once, never a request before half the wait, and always one
        /// after the whole wait if none is on its way.
        #[test]
        fn whatever_happens_the_peer_is_neither_flooded_nor_forgotten(
            steps in proptest::collection::vec((0u8..5, 0u64..7000, any::<u32>(), any::<usize>()), 1..200),
        ) {
            let mut back_off = BackOff::new(MIN, MAX);
            let mut now = monotonic_now();
            let mut passes: Vec<Pass> = Vec::new();
            let mut failed_at: Option<Instant> = None;
            for (step, millis, random, which) in steps {
                match step {
                    0 => now += Duration::from_millis(millis),
                    1 => match (back_off.admit(now), failed_at) {
                        (Some(pass), None) => {
                            prop_assert!(!pass.is_probe);
                            passes.push(pass);
                        }
                        (Some(pass), Some(failed_at)) => {
                            prop_assert!(pass.is_probe);
                            prop_assert!(now >= failed_at + back_off.wait() / 2);
                            let is_open = |other: &&Pass| other.is_probe && other.epoch == pass.epoch;
                            prop_assert_eq!(passes.iter().find(is_open), None);
                            passes.push(pass);
                        }
                        (None, None) => prop_assert!(false, "refused without a failure"),
                        (None, Some(failed_at)) => {
                            let is_open = |pass: &Pass| pass.is_probe && pass.epoch == back_off.epoch;
                            let is_probing = passes.iter().any(is_open);
                            prop_assert!(is_probing || now < failed_at + back_off.wait());
                        }
                    },
                    _ if passes.is_empty() => {}
                    2 => {
                        passes.swap_remove(which % passes.len());
                        back_off.succeed();
                        // Whoever was the probe then is none any more.
                        passes.iter_mut().for_each(|pass| pass.is_probe = false);
                        failed_at = None;
                    }
                    3 => {
                        let pass = passes.swap_remove(which % passes.len());
                        let epoch = back_off.epoch;
                        back_off.fail(pass, now, random);
                        if back_off.epoch != epoch {
                            failed_at = Some(now);
                        }
                    }
                    _ => back_off.abandon(passes.swap_remove(which % passes.len()), now),
                }
                prop_assert!(back_off.wait() <= MAX);
                prop_assert_eq!(back_off.wait() == Duration::ZERO, failed_at.is_none());
            }
        }
    }
}
