//! Who has which series, and since when: targets side by side, cut into blocks of one request each.
//!
//! A *slot* is the place of one series in the order of the stream; a target owns a run of slots. When a pod is
//! replaced its target begins a new generation: the same slots hold new series. The last round of a generation
//! carries stale markers instead of values, so each slot gives exactly one value a round.

use std::ops::Range;

use super::catalogue::{Catalogue, Kind};
use super::mix::{Chance, under};
use super::profile::Profile;

/// A lifetime has at least a value, a value and a stale marker.
const LIFETIME_ROUNDS_MIN: u64 = 3;

/// Ages at round 0 of what never restarts are drawn below this: a day of rounds of 15 s.
const AGE_ROUNDS_MAX: u64 = 5760;

/// What hashes under a target's hash are for.
const SALT_LIFE: u64 = 1 << 40;
const SALT_RESTART: u64 = 2 << 40;
const SALT_NATIVE: u64 = 3 << 40;

/// One target: what is scraped as a whole, comes and goes as a whole, and is verified as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// Its number among the targets whose names are made the same way.
    pub(super) index: u32,
    /// Its first slot.
    first: u64,
}

/// A run of slots of one target inside a block.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) target: usize,
    /// Positions in the recipes of the target's kind.
    pub(super) recipes: Range<usize>,
    /// The slot of the first of them.
    pub(super) first_slot: u64,
}

/// A target in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// How often the target was replaced.
    pub(super) generation: u64,
    /// Whether this round carries stale markers.
    pub(super) is_last: bool,
    /// Rounds since its counters began.
    pub(super) age: u64,
    /// The hash of target and generation.
    pub(super) hash: u64,
}

/// All targets and their fates.
#[derive(Debug)]
pub(super) struct Layout {
    seed: u64,
    series: u64,
    per_block: u64,
    targets: Vec<Target>,
    /// Rounds that a pod lives, stale marker included; `None` for ever.
    lifetime: Option<u64>,
    /// Rounds between two restarts of a container.
    restart: Option<u64>,
}

impl Layout {
    /// Adds targets, always of the kind that lacks most, until there are exactly `series` slots: the last target
    /// may be cut short.
    pub(super) fn new(
        profile: &Profile,
        catalogue: &Catalogue,
        seed: u64,
        per_block: u64,
        interval_ms: i64,
    ) -> Layout {
        let series = profile.series;
        let shares = profile.mix.shares().map(|(_, share)| share);
        let share_sum: f64 = shares.iter().sum();
        let native = Chance::new(profile.native_histogram_share);
        let kinds =
            [Kind::NodeExporter, Kind::Cadvisor, Kind::KubeState, Kind::Apiserver, Kind::App, Kind::Flood];
        let (mut filled, mut counts) = ([0u64; 6], [0u32; 6]);
        let (mut targets, mut next) = (Vec::new(), 0);
        while next < series {
            let lack = |&which: &usize| (next + 1) as f64 * shares[which] / share_sum - filled[which] as f64;
            let wanted = (0..kinds.len()).filter(|&which| shares[which] > 0.0);
            let which = wanted
                .max_by(|left, right| lack(left).total_cmp(&lack(right)))
                .expect("a checked profile gives a kind a share");
            let index = counts[which];
            let kind = match kinds[which] {
                Kind::App if native.happens(under(seed, SALT_NATIVE | u64::from(index))) => Kind::AppNative,
                kind => kind,
            };
            targets.push(Target { kind, index, first: next });
            let size = catalogue.recipes(kind).len() as u64;
            counts[which] += 1;
            filled[which] += size;
            next += size;
        }
        targets.shrink_to_fit();
        let lifetime =
            rounds_between(profile.churn_per_hour, interval_ms).map(|rounds| rounds.max(LIFETIME_ROUNDS_MIN));
        let restart = rounds_between(profile.counter_resets_per_hour, interval_ms);
        Layout { seed, series, per_block, targets, lifetime, restart }
    }

    pub(super) fn series(&self) -> u64 {
        self.series
    }

    pub(super) fn blocks(&self) -> u64 {
        self.series.div_ceil(self.per_block)
    }

    pub(super) fn block_of(&self, slot: u64) -> u64 {
        slot / self.per_block
    }

    pub(super) fn target_count(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn target(&self, target: usize) -> Target {
        self.targets[target]
    }

    /// The slots of a target.
    pub(super) fn slots(&self, target: usize) -> Range<u64> {
        let end = self.targets.get(target + 1).map_or(self.series, |next| next.first);
        self.targets[target].first..end
    }

    /// The slots of a block.
    pub(super) fn block_slots(&self, block: u64) -> Range<u64> {
        let first = block * self.per_block;
        first..(first + self.per_block).min(self.series)
    }

    /// The targets, or parts of targets, that make up a block.
    pub(super) fn pieces(&self, block: u64) -> impl Iterator<Item = Piece> + '_ {
        let slots = self.block_slots(block);
        // The first target begins at slot 0, so one always begins at or before the block.
        let first = self.targets.partition_point(|target| target.first <= slots.start) - 1;
        let within =
            (first..self.targets.len()).take_while(move |&target| self.targets[target].first < slots.end);
        let slots = self.block_slots(block);
        within.map(move |target| {
            let own = self.slots(target);
            let (begin, end) = (own.start.max(slots.start), own.end.min(slots.end));
            let recipes = (begin - own.start) as usize..(end - own.start) as usize;
            Piece { target, recipes, first_slot: begin }
        })
    }

    /// The target's state in a round.
    pub(super) fn life(&self, target: usize, round: u64) -> Life {
        let own = under(self.seed, target as u64);
        let (generation, is_last, age) = match self.lifetime {
            Some(lifetime) if self.targets[target].kind.churns() => {
                // Round 0 finds the targets at any point of their lives but the last.
                let lived = round.saturating_add(under(own, SALT_LIFE) % (lifetime - 1));
                (lived / lifetime, lived % lifetime == lifetime - 1, lived % lifetime)
            }
            _ => (0, false, round.saturating_add(under(own, SALT_LIFE) % AGE_ROUNDS_MAX)),
        };
        let age = match self.restart {
            Some(restart) => age.saturating_add(under(own, SALT_RESTART) % restart) % restart,
            None => age,
        };
        Life { generation, is_last, age, hash: under(own, generation) }
    }

    /// A number that is equal in two rounds exactly if every target of the block has the same generation in both:
    /// the sum of the generations, none of which ever falls.
    pub(super) fn generation_sum(&self, block: u64, round: u64) -> u64 {
        self.pieces(block).map(|piece| self.life(piece.target, round).generation).sum()
    }
}

/// The rounds between two events of which each target has `per_hour` an hour; `None` if there are none.
fn rounds_between(per_hour: f64, interval_ms: i64) -> Option<u64> {
    (per_hour > 0.0).then(|| {
        let rounds = 3_600_000.0 / (per_hour * interval_ms as f64);
        // A float beyond the range of a u64 becomes its largest value; half of it keeps sums in range.
        (rounds.round() as u64).clamp(2, u64::MAX >> 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(text: &str, per_block: u64) -> Layout {
        Layout::new(&Profile::read(text).unwrap(), &Catalogue::new(), 7, per_block, 15_000)
    }

    #[test]
    fn the_number_of_series_is_exact_and_blocks_cover_each_slot_once() {
        for (series, per_block) in [(1, 1), (1, 2000), (999, 10), (20_000, 2000), (20_001, 777)] {
            let layout = layout(&format!("series = {series}\nnative_histogram_share = 0.5\n"), per_block);
            let mut next = 0;
            for block in 0..layout.blocks() {
                for piece in layout.pieces(block) {
                    assert_eq!(piece.first_slot, next);
                    assert_eq!(layout.block_of(next), block);
                    assert!(!piece.recipes.is_empty());
                    next += piece.recipes.len() as u64;
                }
            }
            assert_eq!(next, series);
        }
    }

    #[test]
    fn the_mix_is_kept() {
        let layout = layout("series = 200000\n[mix]\napp = 3.0\ncadvisor = 1.0\n", 2000);
        let app: u64 = (0..layout.target_count())
            .filter(|&target| layout.target(target).kind == Kind::App)
            .map(|target| layout.slots(target).end - layout.slots(target).start)
            .sum();
        assert!((149_000..151_000).contains(&app), "{app} of 200000");
    }

    #[test]
    fn pods_are_replaced_as_often_as_the_profile_says_and_end_with_one_stale_round() {
        // Every 40 rounds of 15 s.
        let layout = layout("series = 3000\nchurn_per_hour = 6.0\n[mix]\napp = 1.0\n", 2000);
        for target in 0..layout.target_count() {
            assert_eq!(
                layout.life(target, 399).generation.abs_diff(10),
                u64::from(layout.life(target, 399).generation == 9)
            );
            for round in 0..400 {
                let (life, next) = (layout.life(target, round), layout.life(target, round + 1));
                assert_eq!(life.is_last, life.generation != next.generation, "round {round}");
                assert_eq!(next.age, if life.is_last { 0 } else { life.age + 1 });
            }
            assert!(!layout.life(target, 0).is_last);
        }
    }

    #[test]
    fn containers_restart_without_a_new_generation() {
        let layout = layout("series = 3000\ncounter_resets_per_hour = 24.0\n[mix]\napp = 1.0\n", 2000);
        for target in 0..layout.target_count() {
            let resets = (0..100).filter(|&round| layout.life(target, round).age == 0).count();
            assert_eq!(resets, 10);
            assert_eq!(layout.life(target, 100).generation, 0);
        }
    }
}
