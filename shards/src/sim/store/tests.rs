//! Histories by the thousand, and planted bugs that they must find.

use super::history::{history, long_life};
use super::life::{Bug, Size};
use super::model::Met;

/// Everything that enough histories meet.
const ALL_MET: &[&str] = &[
    "answers lost",
    "blocks",
    "checkpoints",
    "chunk files taken away",
    "chunks missing",
    "chunks of histograms read",
    "chunks read from files",
    "conflicting requests",
    "crashes in the midst",
    "damaged chunks",
    "failed checkpoints",
    "failed writes of chunks",
    "finished blocks found again",
    "frames replayed",
    "histograms written or repeated",
    "invalid checkpoints",
    "kills",
    "late requests",
    "old requests",
    "orderly ends",
    "power cuts",
    "reads",
    "recoveries",
    "recoveries from a checkpoint",
    "refused by a full disk",
    "refused by a full ring",
    "repeated requests",
    "rotten checkpoints",
    "rotten chunk files",
    "samples lost with a file",
    "samples repeated",
    "samples written",
    "tenants forgotten",
    "torn frames",
    "unanswered samples gone",
    "unanswered samples kept",
    "windows cut",
];

/// Runs a history; a panic in it is a violation as well.
fn checked_history(seed: u64, bug: Option<Bug>) -> Result<Met, String> {
    std::panic::catch_unwind(|| history(seed, bug)).unwrap_or_else(|_| Err("panic, see above".to_owned()))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn a_shard_survives_every_crash_with_all_that_it_promised() {
    let (first, seeds) = (number("ANNULUS_SIM_SEED", 0), number("ANNULUS_SIM_SEEDS", 200));
    let mut total = Met::default();
    for seed in first..first + seeds {
        let met = checked_history(seed, None)
            .unwrap_or_else(|violation| panic!("ANNULUS_SIM_SEED={seed} ANNULUS_SIM_SEEDS=1: {violation}"));
        met.0.into_iter().for_each(|(what, count)| total.add(what, count));
    }
    let crashes: u64 = ["kills", "power cuts"].iter().filter_map(|what| total.0.get(what)).sum();
    println!("{crashes} crashes: {total:?}");
    if seeds >= 200 {
        for what in ALL_MET {
            assert!(total.0.get(what).is_some_and(|count| *count > 0), "{what}: {total:?}");
        }
    }
}

/// Whether a bug shows in a history that is a good one without it.
fn is_caught(bug: Bug) -> bool {
    let violation = |seed| checked_history(seed, Some(bug)).err().map(|violation| (seed, violation));
    let Some((seed, violation)) = (0..number("ANNULUS_SIM_BUG_SEEDS", 2_000)).find_map(violation) else {
        return false;
    };
    println!("{bug:?} in history {seed}: {violation}");
    checked_history(seed, None).is_ok()
}

#[test]
fn a_checkpoint_before_its_chunks_is_caught() {
    assert!(is_caught(Bug::ChunksNotFlushed));
}

#[test]
fn files_that_go_before_the_bounds_are_durable_are_caught() {
    assert!(is_caught(Bug::FilesBeforeBounds));
}

#[test]
fn numbers_that_are_reused_at_once_are_caught() {
    assert!(is_caught(Bug::NumbersAtOnce));
}

#[test]
fn a_block_that_is_read_before_the_freeze_is_durable_is_caught() {
    assert!(is_caught(Bug::FreezeNotDurable));
}

#[test]
fn a_shard_that_is_cut_for_ever_stays_small() {
    let sizes = long_life(number("ANNULUS_SIM_SEED", 1)).unwrap();
    assert!(sizes.len() > 200, "only {} cuts", sizes.len());
    let largest = |sizes: &[Size]| {
        let largest = |of: fn(&Size) -> u64| sizes.iter().map(of).max();
        (
            largest(|size| size.head_bytes),
            largest(|size| size.numbers.into()),
            largest(|size| size.files as u64),
        )
    };
    let (early, late) = sizes.split_at(sizes.len() / 2);
    let (early, late) = (largest(early), largest(late));
    println!("{} cuts: {early:?}, then {late:?}", sizes.len());
    let bound = |early: Option<u64>| early.map(|early| early + early / 4);
    assert!(late.0 <= bound(early.0) && late.1 <= bound(early.1) && late.2 <= bound(early.2));
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..10 {
        assert_eq!(checked_history(seed, None), checked_history(seed, None));
    }
}
