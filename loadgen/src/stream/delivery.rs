//! Which samples a request carries of a series: its own, and on request late ones and repeated ones.
//!
//! - A *late* sample is withheld in its round and sent `late_rounds` rounds later, in front of that round's own
//!   sample; newer samples of the series were sent in between, so it arrives out of order.
//! - A *repeated* sample is sent in its round and once more in the next, in front of that round's own sample.
//! - Both stay within one generation of a target and away from its stale marker, and no late sample is repeated.

use super::layout::Layout;
use super::mix::{Chance, under};
use super::profile::Profile;

const SALT_LATE: u64 = 5 << 40;
const SALT_REPEATED: u64 = 6 << 40;

/// A series of the stream: a slot, and the target that owns it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) target: usize,
    pub(super) slot: u64,
}

/// The rounds whose samples a request carries of one series, in order of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Carried {
    rounds: [u64; 3],
    count: usize,
}

impl Carried {
    pub(super) fn rounds(&self) -> &[u64] {
        &self.rounds[..self.count]
    }

    fn push(&mut self, round: u64) {
        self.rounds[self.count] = round;
        self.count += 1;
    }
}

/// The rules of a profile.
#[derive(Debug)]
pub(super) struct Delivery {
    seed: u64,
    late: Chance,
    late_rounds: u64,
    repeated: Chance,
}

impl Delivery {
    pub(super) fn new(profile: &Profile, seed: u64) -> Delivery {
        Delivery {
            seed,
            late: Chance::new(profile.late_share),
            late_rounds: profile.late_rounds,
            repeated: Chance::new(profile.duplicate_share),
        }
    }

    /// Whether every request carries each sample once, in its round.
    pub(super) fn is_plain(&self) -> bool {
        self.late.is_never() && self.repeated.is_never()
    }

    /// What the request of a round carries.
    pub(super) fn carried(&self, layout: &Layout, slot: Slot, round: u64) -> Carried {
        let mut carried = Carried::default();
        if let Some(past) = round.checked_sub(self.late_rounds)
            && self.is_late(layout, slot, past)
        {
            carried.push(past);
        }
        if let Some(past) = round.checked_sub(1)
            && self.is_repeated(layout, slot, past)
        {
            carried.push(past);
        }
        if !self.is_late(layout, slot, round) {
            carried.push(round);
        }
        carried
    }

    /// The round whose request carries the sample of a round first.
    pub(super) fn sent_in(&self, layout: &Layout, slot: Slot, round: u64) -> u64 {
        if self.is_late(layout, slot, round) { round + self.late_rounds } else { round }
    }

    fn is_late(&self, layout: &Layout, slot: Slot, round: u64) -> bool {
        self.late.happens(self.draw(slot, SALT_LATE, round))
            && self.is_one_life(layout, slot, round, self.late_rounds)
    }

    fn is_repeated(&self, layout: &Layout, slot: Slot, round: u64) -> bool {
        self.repeated.happens(self.draw(slot, SALT_REPEATED, round))
            && self.is_one_life(layout, slot, round, 1)
            && !self.is_late(layout, slot, round)
            && !self.is_late(layout, slot, round + 1)
    }

    /// Whether the series still lives so many rounds later.
    fn is_one_life(&self, layout: &Layout, slot: Slot, round: u64, rounds: u64) -> bool {
        let (now, then) =
            (layout.life(slot.target, round), layout.life(slot.target, round.saturating_add(rounds)));
        now.generation == then.generation && !then.is_last
    }

    fn draw(&self, slot: Slot, salt: u64, round: u64) -> u64 {
        under(under(self.seed ^ salt, slot.slot), round)
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::Catalogue;
    use super::*;

    const PROFILE: &str =
        "series = 400\nchurn_per_hour = 12.0\nlate_share = 0.2\nlate_rounds = 3\nduplicate_share = 0.2\n";

    #[test]
    fn every_sample_is_carried_once_or_twice_and_late_ones_out_of_order() {
        let profile = Profile::read(PROFILE).unwrap();
        let layout = Layout::new(&profile, &Catalogue::new(), 5, 100, 15_000);
        let delivery = Delivery::new(&profile, 5);
        let (mut late, mut repeated) = (0, 0);
        for target in 0..layout.target_count() {
            for slot in layout.slots(target) {
                let slot = Slot { target, slot };
                let mut carriers = vec![Vec::new(); 60];
                for round in 0..60 {
                    let carried = delivery.carried(&layout, slot, round);
                    assert!(carried.rounds().is_sorted());
                    for &past in carried.rounds() {
                        carriers[past as usize].push(round);
                    }
                }
                for (round, carriers) in carriers[..57].iter().enumerate() {
                    let round = round as u64;
                    assert_eq!(carriers[0], delivery.sent_in(&layout, slot, round));
                    match carriers[..] {
                        [only] if only == round => {}
                        [only] if only == round + 3 => late += 1,
                        [first, second] if first == round && second == round + 1 => repeated += 1,
                        _ => panic!("round {round} is carried in {carriers:?}"),
                    }
                }
            }
        }
        let total = 57 * 400;
        assert!(late > total / 10 && repeated > total / 20, "{late} late and {repeated} repeated of {total}");
    }

    #[test]
    fn stale_markers_are_on_time_and_the_last_word() {
        let profile = Profile::read(PROFILE).unwrap();
        let layout = Layout::new(&profile, &Catalogue::new(), 5, 100, 15_000);
        let delivery = Delivery::new(&profile, 5);
        for target in 0..layout.target_count() {
            let slot = Slot { target, slot: layout.slots(target).start };
            for round in 0..100 {
                let life = layout.life(target, round);
                let carried = delivery.carried(&layout, slot, round);
                assert!(!life.is_last || carried.rounds() == [round]);
                let same = |&past: &u64| layout.life(target, past).generation == life.generation;
                assert!(carried.rounds().iter().all(same));
            }
        }
    }
}
