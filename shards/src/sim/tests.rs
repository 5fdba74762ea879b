//! Fixed seeds, fresh seeds, and planted bugs that must be found.
//!
//! `ANNULUS_SIM_SEED` and `ANNULUS_SIM_SEEDS` choose the fixed ones, `ANNULUS_SIM_SECONDS` says for how long fresh ones
//! are tried.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::SimDisk;
use super::canaries::{EarlyAcknowledgement, LostLimits, LostSuperblocks};
use super::history::history;
use super::model::Met;
use crate::rt::{DirectFile, monotonic_now};

/// Everything that enough histories meet.
const ALL_MET: [&str; 25] = [
    "starts",
    "openings",
    "commits",
    "full rings",
    "torn frames",
    "replayed frames",
    "searched blocks",
    "unacknowledged frames kept",
    "checkpoints",
    "failed checkpoints",
    "releases",
    "failed writes",
    "rotten checkpoints",
    "rot bursts",
    "damages",
    "losses",
    "misdirected writes",
    "lying flushes",
    "failed reads",
    "unreadable blocks",
    "unreadable checkpoints",
    "checkpoints passed over as unreadable",
    "starts without a readable checkpoint",
    "starts that a failed read or write stopped",
    "losses to a lying disk that are told",
];

/// Seeds of one batch of the soak.
const BATCH: u64 = 200;

/// How often a long soak says that it goes on.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().unwrap())
}

/// Runs a history; a panic in it is a violation as well.
fn checked_history<D, W>(seed: u64, wrap: W) -> Result<Met, String>
where
    D: DirectFile<Buffer = Vec<u8>, Read = Vec<u8>>,
    W: Fn(SimDisk) -> D,
{
    catch_unwind(AssertUnwindSafe(|| history(seed, wrap)))
        .unwrap_or_else(|_| Err("panic, see above".to_owned()))
}

/// Runs histories of an honest log.
fn check_seeds(seeds: std::ops::Range<u64>, total: &mut Met) {
    for seed in seeds {
        let met = checked_history(seed, |disk| disk)
            .unwrap_or_else(|violation| panic!("ANNULUS_SIM_SEED={seed} ANNULUS_SIM_SEEDS=1: {violation}"));
        met.0.into_iter().for_each(|(what, count)| total.add(what, count));
    }
}

#[test]
fn what_was_acknowledged_survives_every_crash() {
    let seeds = from_environment("ANNULUS_SIM_SEEDS", 3_000);
    let first = from_environment("ANNULUS_SIM_SEED", 0);
    let mut total = Met::default();
    check_seeds(first..first + seeds, &mut total);
    println!("{total:?}");
    if seeds >= 3_000 {
        for what in ALL_MET {
            assert!(total.0.get(what).is_some_and(|count| *count >= 20), "{what}: {total:?}");
        }
    }
}

#[test]
fn soak() {
    let duration = Duration::from_secs(from_environment("ANNULUS_SIM_SECONDS", 3));
    let first = u64::from(getrandom::u32().unwrap()) << 20;
    println!("fresh seeds from {first}");
    let (begin, mut total, mut next, mut told) = (monotonic_now(), Met::default(), first, Duration::ZERO);
    while begin.elapsed() < duration {
        check_seeds(next..next + BATCH, &mut total);
        next += BATCH;
        if begin.elapsed() - told >= PROGRESS_PERIOD {
            told = begin.elapsed();
            let count = |what| total.0.get(what).copied().unwrap_or(0);
            let (openings, commits, damages) = (count("openings"), count("commits"), count("damages"));
            println!(
                "{} s: {} histories, {openings} openings, {commits} commits, {damages} with damage",
                told.as_secs(),
                next - first
            );
        }
    }
    println!("{} histories: {total:?}", next - first);
}

fn is_caught<D, W>(seeds: u64, wrap: W)
where
    D: DirectFile<Buffer = Vec<u8>, Read = Vec<u8>>,
    W: Fn(SimDisk) -> D,
{
    let caught = (0..seeds).any(|seed| checked_history(seed, &wrap).is_err());
    assert!(caught, "the simulation cannot find a planted bug");
}

#[test]
fn a_disk_that_acknowledges_early_is_caught() {
    is_caught(300, EarlyAcknowledgement::new);
}

#[test]
fn a_tail_that_is_not_durable_is_caught() {
    is_caught(300, LostSuperblocks::new);
}

#[test]
fn a_limit_that_is_not_durable_before_the_frame_is_caught() {
    is_caught(3_000, LostLimits::new);
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..50 {
        let first = checked_history(seed, |disk| disk).unwrap();
        assert_eq!(first, checked_history(seed, |disk| disk).unwrap());
    }
}
