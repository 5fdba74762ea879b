//! Tests of the ring as a whole: what it refuses, what it survives, and what it says about damage.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::task::{Context, Waker};

use proptest::prelude::*;

use super::frame::{self, BlockKind, Header};
use super::*;
use crate::rt::{BLOCK_BYTES, DirectFile};
use crate::sim::{Random, SimDirectory, SimDisk, interleave, run_to_end};

const SHARD: u32 = 2;
const REGION: usize = 2 * BLOCK_BYTES;

fn ring(blocks: usize) -> (SimDisk, SimDirectory) {
    let random = Random::new(1);
    (SimDisk::new(random.fork(), REGION + blocks * BLOCK_BYTES), SimDirectory::new(random))
}

type Frames = Vec<(u64, Vec<u8>)>;
type Opened = (Wal<SimDisk>, Recovery, Frames);

fn try_open(disk: &SimDisk, directory: &SimDirectory, covered: Option<Covered>) -> Result<Opened, WalError> {
    let mut frames = Vec::new();
    let opened = run_to_end(Wal::open(disk.clone(), directory, SHARD, covered, |seq, payload| {
        frames.push((seq, payload.to_vec()));
        Ok::<_, io::Error>(())
    }));
    opened.map(|(wal, recovery)| (wal, recovery, frames))
}

fn open(disk: &SimDisk, directory: &SimDirectory) -> Opened {
    try_open(disk, directory, None).unwrap()
}

fn commit(wal: &Wal<SimDisk>, payload: &[u8]) -> u64 {
    run_to_end(wal.commit(payload)).unwrap()
}

/// Where each frame of the newest epoch that wrote its number begins in the file.
fn frames_in(bytes: &[u8]) -> BTreeMap<u64, (usize, Header)> {
    let mut found = BTreeMap::new();
    for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate().skip(2) {
        if let BlockKind::First(header) = frame::inspect(block) {
            let newer =
                found.get(&header.seq).is_none_or(|(_, other): &(usize, Header)| other.epoch < header.epoch);
            if newer {
                found.insert(header.seq, (index * BLOCK_BYTES, header));
            }
        }
    }
    found
}

#[test]
fn frames_come_back_in_order_and_only_those_that_no_checkpoint_covers() {
    let (disk, directory) = ring(20);
    let (wal, recovery, _) = open(&disk, &directory);
    assert_eq!(recovery, Recovery { epoch: 1, ..Recovery::default() });
    assert_eq!((wal.next_seq(), wal.durable_seq(), wal.used_bytes()), (1, 0, 0));
    for len in [0, 1, 5000] {
        commit(&wal, &vec![len as u8; len]);
    }
    assert_eq!((wal.next_seq(), wal.durable_seq(), wal.used_bytes()), (4, 3, 4 * 4096));
    let (_, recovery, frames) = open(&disk, &directory);
    assert_eq!(frames, [(1, vec![]), (2, vec![1]), (3, vec![0x88; 5000])]);
    assert_eq!((recovery.frames, recovery.payload_bytes, recovery.seqs), (3, 5001, Some((1, 3))));
    let covered = Some(Covered { begin_seq: 3, end_seq: 3 });
    let (wal, recovery, frames) = try_open(&disk, &directory, covered).unwrap();
    assert_eq!((frames.len(), recovery.seqs), (1, Some((3, 3))));
    assert_eq!(wal.used_bytes(), 4 * 4096, "what the older checkpoint needs stays");
}

#[test]
fn a_full_ring_refuses_and_goes_on_after_a_release() {
    let (disk, directory) = ring(16);
    let (wal, ..) = open(&disk, &directory);
    for _ in 0..16 {
        assert!(wal.fits(10));
        commit(&wal, &[7; 10]);
    }
    let full = run_to_end(wal.commit(b"x"));
    assert!(matches!(
        full,
        Err(CommitError::Full { needed_bytes: 4096, used_bytes: 65536, size_bytes: 65536 })
    ));
    assert!(!wal.fits(10) && !wal.is_poisoned());
    run_to_end(wal.release(3)).unwrap();
    assert!(wal.fits(2 * 4048) && !wal.fits(3 * 4092));
    assert_eq!(commit(&wal, &[9; 5000]), 17);
    assert!(!wal.fits(0));
    let too_large = run_to_end(wal.commit(&[0; 17 * 4096]));
    assert!(matches!(too_large, Err(CommitError::TooLarge { .. })));
    let (wal, recovery, frames) = open(&disk, &directory);
    assert_eq!(frames.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (3..=17).collect::<Vec<_>>());
    assert_eq!(recovery.missing, [1..=2], "without a checkpoint the released frames are missing");
    run_to_end(wal.release(18)).unwrap();
    assert_eq!(wal.used_bytes(), 0);
    assert!(wal.fits(15 * 4092), "an empty ring takes a frame of its whole size");
    commit(&wal, &[5; 15 * 4092]);
    assert_eq!(open(&disk, &directory).2.len(), 1);
}

#[test]
fn a_failed_write_poisons_the_log_and_recovery_heals_it() {
    let (disk, directory) = ring(16);
    let (wal, ..) = open(&disk, &directory);
    commit(&wal, b"first");
    disk.fail_writes_after(Some(0));
    assert!(matches!(run_to_end(wal.commit(b"second")), Err(CommitError::Io(_))));
    disk.fail_writes_after(None);
    assert!(matches!(run_to_end(wal.commit(b"third")), Err(CommitError::Poisoned)));
    assert!(matches!(run_to_end(wal.release(2)), Err(ReleaseError::Poisoned)));
    let (wal, _, frames) = open(&disk, &directory);
    assert_eq!(frames[0], (1, b"first".to_vec()));
    let next = commit(&wal, b"again");
    assert_eq!(open(&disk, &directory).2.last(), Some(&(next, b"again".to_vec())));
    disk.fail_writes_after(Some(1));
    assert!(matches!(run_to_end(wal.release(2)), Err(ReleaseError::Io(_))));
    assert!(matches!(run_to_end(wal.commit(b"more")), Err(CommitError::Poisoned)));
}

#[test]
fn a_dropped_commit_poisons_the_log() {
    // Polled until it waits for its write, then dropped: whether the write was done is unknown.
    for seed in 0..50 {
        let disk = SimDisk::new(Random::new(seed), REGION + 16 * BLOCK_BYTES);
        let directory = SimDirectory::new(Random::new(seed));
        let (wal, ..) = open(&disk, &directory);
        let mut dropped = Box::pin(wal.commit(b"x"));
        if dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            continue;
        }
        drop(dropped);
        assert!(wal.is_poisoned());
        assert!(matches!(run_to_end(wal.commit(b"y")), Err(CommitError::Poisoned)));
        return;
    }
    panic!("no seed makes a write wait");
}

#[test]
fn rings_that_are_not_this_shards_are_refused() {
    let (disk, directory) = ring(16);
    commit(&open(&disk, &directory).0, b"x");
    let bytes = disk.bytes();
    let refused = |bytes: Vec<u8>| {
        let disk = SimDisk::with_bytes(Random::new(1), bytes);
        try_open(&disk, &directory, None).map(drop).unwrap_err()
    };
    assert!(matches!(refused(bytes[..bytes.len() - 4096].to_vec()), WalError::WrongSize { .. }));
    assert!(matches!(refused(bytes[..100].to_vec()), WalError::UnusableSize { found: 100 }));
    assert!(matches!(refused(Vec::new()), WalError::UnusableSize { found: 0 }));
    let mut damaged = bytes.clone();
    damaged[20] ^= 1;
    damaged[4096 + 20] ^= 1;
    assert!(matches!(refused(damaged), WalError::NoSuperblock));
    let mut newer = bytes[..BLOCK_BYTES].to_vec();
    newer[8] = 9;
    newer[12..16].fill(0);
    let crc = crc32c::crc32c(&newer);
    newer[12..16].copy_from_slice(&crc.to_le_bytes());
    let newer = [&newer, &bytes[BLOCK_BYTES..]].concat();
    assert!(matches!(refused(newer), WalError::Newer { found: 9, known: 1 }));
    let other = run_to_end(Wal::open(disk, &directory, SHARD + 1, None, |_, _| Ok::<_, io::Error>(())));
    assert!(matches!(other.map(drop), Err(WalError::WrongShard { found: SHARD, .. })));
}

#[test]
fn a_visitor_that_refuses_a_frame_stops_the_opening() {
    let (disk, directory) = ring(16);
    commit(&open(&disk, &directory).0, b"x");
    let opened = run_to_end(Wal::open(disk, &directory, SHARD, None, |_, _| Err("no")));
    assert!(matches!(opened.map(drop), Err(WalError::Visit { seq: 1, .. })));
}

#[test]
fn an_orderly_end_is_trusted_and_a_rotten_last_frame_is_still_found() {
    let (disk, directory) = ring(16);
    let (wal, ..) = open(&disk, &directory);
    commit(&wal, b"one");
    commit(&wal, b"two");
    run_to_end(wal.close()).unwrap();
    let bytes = disk.bytes();
    let (_, recovery, frames) = open(&disk, &directory);
    assert_eq!((frames.len(), recovery.torn, recovery.damage), (2, None, vec![]));
    let rotten = SimDisk::with_bytes(Random::new(3), bytes);
    rotten.flip(REGION + BLOCK_BYTES + 50, 1);
    let (_, recovery, frames) = open(&rotten, &directory);
    assert_eq!((frames.len(), recovery.torn), (1, None));
    assert_eq!(recovery.damage[0].lost, Some(2..=2));
}

#[test]
fn damage_that_the_checkpoint_covers_costs_nothing() {
    let (disk, directory) = ring(30);
    let (wal, ..) = open(&disk, &directory);
    for number in 1..=10u8 {
        commit(&wal, &[number; 5000]);
    }
    disk.flip(frames_in(&disk.bytes())[&4].0 + 300, 0x40);
    let covered = Some(Covered { begin_seq: 8, end_seq: 9 });
    let (wal, recovery, frames) = try_open(&disk, &directory, covered).unwrap();
    assert_eq!(frames.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [8, 9, 10]);
    let damage = &recovery.damage[0];
    assert_eq!((damage.seq, damage.reason, &damage.lost), (4, BadFrame::Payload, &None));
    assert_eq!((wal.tail_seq(), wal.next_seq()), (1, 11));
    commit(&wal, b"more");
    let (wal, again, frames) = try_open(&disk, &directory, covered).unwrap();
    assert_eq!((frames.len(), again.damage), (4, recovery.damage));
    run_to_end(wal.release(8)).unwrap();
    let (_, recovery, frames) = try_open(&disk, &directory, covered).unwrap();
    assert_eq!((frames.len(), recovery.damage), (4, vec![]));
}

#[test]
fn frames_before_covered_damage_still_serve_an_older_checkpoint() {
    let (disk, directory) = ring(30);
    let (wal, ..) = open(&disk, &directory);
    for number in 1..=10u8 {
        commit(&wal, &[number; 5000]);
    }
    disk.flip(frames_in(&disk.bytes())[&4].0 + 300, 0x40);
    try_open(&disk, &directory, Some(Covered { begin_seq: 8, end_seq: 9 })).unwrap();
    let older = Some(Covered { begin_seq: 2, end_seq: 1 });
    let (_, recovery, frames) = try_open(&disk, &directory, older).unwrap();
    assert_eq!(frames.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(recovery.damage[0].lost, Some(4..=10));
}

#[test]
fn numbers_that_a_checkpoint_has_seen_are_not_used_again() {
    let (disk, directory) = ring(30);
    let covered = Some(Covered { begin_seq: 500, end_seq: 510 });
    let (wal, recovery, _) = try_open(&disk, &directory, covered).unwrap();
    assert_eq!(recovery.damage[0].lost, Some(500..=510), "the ring is new, and the checkpoint is not");
    assert_eq!((commit(&wal, b"x"), wal.durable_seq()), (511, 511));
    let (_, recovery, frames) = try_open(&disk, &directory, covered).unwrap();
    assert_eq!((frames, recovery.damage), (vec![(511, b"x".to_vec())], vec![]));
    assert_eq!(recovery.missing, [500..=510], "no checkpoint has been written since");
}

#[test]
fn damage_at_the_end_that_the_checkpoint_covers_leaves_its_numbers_used() {
    let (disk, directory) = ring(30);
    let (wal, ..) = open(&disk, &directory);
    for number in 1..=10u8 {
        commit(&wal, &[number; 100]);
    }
    for (_, (offset, _)) in frames_in(&disk.bytes()).range(6..) {
        disk.flip(*offset + 60, 1);
    }
    let covered = Some(Covered { begin_seq: 11, end_seq: 10 });
    let (wal, recovery, frames) = try_open(&disk, &directory, covered).unwrap();
    assert_eq!((frames.len(), recovery.damage.len(), &recovery.damage[0].lost), (0, 1, &None));
    assert_eq!(commit(&wal, b"new"), 11);
    let (_, recovery, frames) = try_open(&disk, &directory, covered).unwrap();
    assert_eq!((frames, recovery.damage), (vec![(11, b"new".to_vec())], vec![]));
}

#[test]
fn a_damaged_rest_is_kept_beside_the_ring() {
    let (disk, directory) = ring(16);
    let (wal, ..) = open(&disk, &directory);
    for number in 1..=12u8 {
        commit(&wal, &[number; 100]);
    }
    run_to_end(wal.release(9)).unwrap();
    for number in 13..=20u8 {
        commit(&wal, &[number; 100]);
    }
    let before = disk.bytes();
    // Frame 15 lies at the end of the file, 17 to 20 at its begin.
    disk.flip(frames_in(&before)[&15].0, 0x40);
    let damaged = disk.bytes();
    let (wal, recovery, frames) = open(&disk, &directory);
    assert_eq!(frames.len(), 6);
    let damage = &recovery.damage[0];
    assert_eq!((damage.lost.clone(), damage.reason), (Some(15..=20), BadFrame::Unknown));
    assert_eq!((damage.whole_frames, damage.bytes), (5, 6 * 4096));
    assert_eq!(damage.offset, (REGION + 14 * BLOCK_BYTES) as u64);
    assert_eq!(damage.set_aside.as_deref(), Some("wal-damaged-2"));
    let copy = directory.bytes("wal-damaged-2").unwrap();
    assert!(String::from_utf8_lossy(&copy[..BLOCK_BYTES]).contains("lost_seqs=15-20\nwhole_frames=5\n"));
    assert_eq!(copy[BLOCK_BYTES..3 * BLOCK_BYTES], damaged[damage.offset as usize..]);
    assert_eq!(copy[3 * BLOCK_BYTES..], damaged[REGION..REGION + 4 * BLOCK_BYTES]);
    assert_eq!(commit(&wal, b"after"), 21);
    let (_, recovery, frames) = open(&disk, &directory);
    assert_eq!((frames.len(), frames[6].0, recovery.damage), (7, 21, vec![]));
    assert_eq!(recovery.missing, [1..=8, 15..=20]);
}

#[test]
fn nothing_is_written_while_the_damaged_rest_cannot_be_copied() {
    let (disk, directory) = ring(16);
    let (wal, ..) = open(&disk, &directory);
    for number in 1..=5u8 {
        commit(&wal, &[number; 100]);
    }
    disk.flip(REGION + 60, 1);
    let before = disk.bytes();
    directory.limit_space(2 * BLOCK_BYTES as u64);
    let refused = try_open(&disk, &directory, None).map(drop);
    assert!(matches!(refused, Err(WalError::Io { what: "copying the damaged part of the WAL", .. })));
    assert_eq!(disk.bytes(), before);
    directory.limit_space(u64::MAX);
    assert_eq!(open(&disk, &directory).1.damage[0].lost, Some(1..=5));
}

/// What a test writes before it damages the file.
#[derive(Debug, Clone)]
struct Written {
    /// Payload lengths of the frames of each opening.
    sessions: Vec<Vec<usize>>,
    /// How many of the first session's frames are released at its end.
    released: usize,
    /// Whether the last opening ends in order.
    closed: bool,
}

fn any_written() -> impl Strategy<Value = Written> {
    let len = prop_oneof![4 => 0usize..300, 2 => 0usize..9000, 1 => 0usize..30_000];
    let session = proptest::collection::vec(len, 0..14);
    (proptest::collection::vec(session, 1..4), 0usize..14, any::<bool>())
        .prop_map(|(sessions, released, closed)| Written { sessions, released, closed })
}

/// Writes the frames that fit; returns the ones that are still needed, and the tail.
fn write(written: &Written, disk: &SimDisk, directory: &SimDirectory) -> (Frames, u64) {
    let mut frames = Vec::new();
    let mut tail_seq = 1;
    for (session, lens) in written.sessions.iter().enumerate() {
        let (wal, ..) = open(disk, directory);
        for (number, len) in lens.iter().enumerate() {
            let payload = Random::new((session * 100 + number) as u64).bytes(*len);
            if wal.fits(*len) {
                frames.push((commit(&wal, &payload), payload));
            }
        }
        if session == 0 {
            tail_seq = wal.next_seq().min(1 + written.released as u64);
            run_to_end(wal.release(tail_seq)).unwrap();
        }
        if written.closed && session + 1 == written.sessions.len() {
            run_to_end(wal.close()).unwrap();
        }
    }
    frames.retain(|(seq, _)| *seq >= tail_seq);
    (frames, tail_seq)
}

/// Whether a frame's header, and all of its bytes that carry meaning, are as they were.
fn intact(before: &[u8], after: &[u8], offset: usize, header: &Header) -> (bool, bool) {
    let len = header.blocks() as usize * BLOCK_BYTES;
    let (before, after) = (&before[offset..offset + len], &after[offset..offset + len]);
    let mut left = header.payload_len as usize;
    let mut whole = true;
    for (index, (old, new)) in before.chunks(BLOCK_BYTES).zip(after.chunks(BLOCK_BYTES)).enumerate() {
        let head = if index == 0 { 48 } else { 4 };
        let used = head + left.min(BLOCK_BYTES - head);
        left -= used - head;
        whole &= old[..used] == new[..used];
    }
    (before[..48] == after[..48], whole)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn cut_or_flip_the_file_at_any_byte_and_recovery_yields_exactly_the_records_wholly_before_the_damage_and_reports_the_rest(
        written in any_written(),
        at in any::<proptest::sample::Index>(),
        flip in proptest::option::weighted(0.7, 1u8..),
        in_frame in any::<Option<proptest::sample::Index>>(),
    ) {
        let (disk, directory) = ring(40);
        let (frames, tail_seq) = write(&written, &disk, &directory);
        let before = disk.bytes();
        let places = frames_in(&before);
        let mut at = at.index(before.len());
        // Half of the cases hit a frame that is needed.
        if let Some(index) = in_frame && !frames.is_empty() {
            let (offset, header) = places[&frames[index.index(frames.len())].0];
            at = offset + at % (header.blocks() as usize * BLOCK_BYTES);
        }
        let mut after = before.clone();
        match flip {
            Some(flip) => after[at] ^= flip,
            None => after[at..].fill(0),
        }
        let disk = SimDisk::with_bytes(Random::new(5), after.clone());
        let directory = SimDirectory::new(Random::new(6));
        // A checkpoint covers what was released, as it must; otherwise that would be reported as missing.
        let covered = Some(Covered { begin_seq: tail_seq, end_seq: tail_seq - 1 });

        let superblock_left = before[..4096] == after[..4096] || before[4096..8192] == after[4096..8192];
        if !superblock_left {
            // Only a cut inside the first superblock leaves neither: the file is zeros from there, as a new one is.
            let (_, _, got) = try_open(&disk, &directory, covered).unwrap();
            prop_assert!(flip.is_none() && got.is_empty());
            return Ok(());
        }
        // The newest superblock that is left tells up to where frames were durable when it was written.
        let copies = [0, 4096].into_iter().filter(|at| before[*at..*at + 4096] == after[*at..*at + 4096]);
        let durable_seq = copies.map(|at| u64::from_le_bytes(before[at + 56..at + 64].try_into().unwrap()));
        let durable_seq = durable_seq.max().unwrap();
        let first_bad = frames.iter().position(|(seq, _)| {
            let (offset, header) = &places[seq];
            !intact(&before, &after, *offset, header).1
        });
        let expected = &frames[..first_bad.unwrap_or(frames.len())];
        let evidence = frames[expected.len()..].iter().skip(1).filter_map(|(seq, _)| {
            let (offset, header) = &places[seq];
            match intact(&before, &after, *offset, header) {
                (_, true) => Some(*seq),
                (true, false) => Some(header.prev_seq),
                (false, false) => None,
            }
        });
        let last_seq = evidence.chain([durable_seq]).max().unwrap();

        let (wal, recovery, got) = try_open(&disk, &directory, covered).unwrap();
        prop_assert_eq!(&got[..], expected);
        prop_assert_eq!(&recovery.missing, &[]);
        match first_bad.map(|index| frames[index].0) {
            None => {
                prop_assert_eq!(&recovery.damage, &[]);
                // At most the dead block where the next frame goes looks like a torn one.
                prop_assert!(recovery.torn.is_none_or(|torn| torn.offset == (at / 4096 * 4096) as u64));
            }
            Some(bad_seq) if bad_seq <= last_seq => {
                prop_assert_eq!(recovery.damage.len(), 1);
                prop_assert_eq!(&recovery.damage[0].lost, &Some(bad_seq..=last_seq));
                let name = format!("wal-damaged-{}", written.sessions.len() + 1);
                prop_assert_eq!(directory.names(), [name.clone()]);
                prop_assert_eq!(recovery.damage[0].set_aside.as_ref(), Some(&name));
            }
            Some(bad_seq) => {
                prop_assert_eq!(&recovery.damage, &[]);
                if flip.is_some() {
                    prop_assert_eq!(recovery.torn.map(|torn| torn.seq), Some(bad_seq));
                }
            }
        }

        // The log goes on; the next recovery finds the same, then the new, and no new damage.
        let mut expected = expected.to_vec();
        for number in 0..3u8 {
            let payload = vec![number; 3000 * usize::from(number)];
            if wal.fits(payload.len()) {
                expected.push((commit(&wal, &payload), payload));
            }
        }
        disk.cut_power();
        let (_, again, got) = try_open(&disk, &directory, covered).unwrap();
        prop_assert_eq!(got, expected);
        prop_assert_eq!(again.damage, vec![]);
        let lost: Vec<_> = recovery.damage.into_iter().filter_map(|damage| damage.lost).collect();
        prop_assert_eq!(again.missing, lost);
    }
}

#[test]
fn a_recovery_that_crashes_is_repeated_with_the_same_result() {
    for writes in 0..6 {
        let (disk, directory) = ring(16);
        let (wal, ..) = open(&disk, &directory);
        for number in 1..=5u8 {
            commit(&wal, &[number; 5000]);
        }
        disk.flip(frames_in(&disk.bytes())[&3].0 + 4, 1);
        disk.fail_writes_after(Some(writes));
        let first = try_open(&disk, &directory, None);
        assert_eq!(first.is_ok(), writes >= 3, "the last frame again, then two superblocks");
        disk.fail_writes_after(None);
        let (_, recovery, frames) = open(&disk, &directory);
        assert_eq!(frames.len(), 2);
        // One superblock, even one whose write failed, may be enough to leave the damage behind. The copy stays.
        assert!(recovery.damage.is_empty() || writes <= 1);
        assert!(!recovery.damage.is_empty() || writes >= 1);
        assert_eq!(recovery.set_aside[0], "wal-damaged-2");
    }
}

#[test]
fn impossible_numbers_are_damage_whatever_their_checksum_says() {
    let (disk, directory) = ring(16);
    commit(&open(&disk, &directory).0, b"x");
    let bytes = disk.bytes();
    let opened = |bytes: Vec<u8>| {
        let disk = SimDisk::with_bytes(Random::new(1), bytes);
        try_open(&disk, &directory, None).map(|(_, recovery, _)| recovery)
    };
    for at in [16, 40, 48, 56, 64, 72, 80] {
        let mut block = bytes[..BLOCK_BYTES].to_vec();
        block[at..at + 8].fill(0xff);
        block[12..16].fill(0);
        let crc = crc32c::crc32c(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        let changed = [&block[..], &block[..], &bytes[REGION..]].concat();
        assert!(matches!(opened(changed), Err(WalError::NoSuperblock)), "field at {at}");
    }
    for at in [8, 16] {
        let mut changed = bytes.clone();
        changed[REGION + at..REGION + at + 8].fill(0xff);
        let crc = crc32c::crc32c(&changed[REGION..REGION + 44]);
        changed[REGION + 44..REGION + 48].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(opened(changed).unwrap().torn.map(|torn| torn.reason), Some(BadFrame::Header));
    }
}

/// The superblock copies, each with its checksum made right, after a change of their fields.
fn change_superblocks(disk: &SimDisk, change: impl Fn(&mut [u8])) -> SimDisk {
    let mut bytes = disk.bytes();
    for copy in bytes[..REGION].chunks_mut(BLOCK_BYTES) {
        change(copy);
        copy[12..16].fill(0);
        let crc = crc32c::crc32c(copy);
        copy[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    SimDisk::with_bytes(Random::new(1), bytes)
}

#[test]
fn a_recovery_searches_as_far_as_the_limit_and_the_whole_ring_if_it_knows_of_none() {
    let (disk, directory) = ring(400);
    let (wal, ..) = open(&disk, &directory);
    for number in 0..110u8 {
        commit(&wal, &[number]);
    }
    let searched = |disk: &SimDisk| open(disk, &directory).1.searched_bytes / BLOCK_BYTES as u64;
    // Frame 101 has raised the limit to 100 blocks behind its end.
    let copy = SimDisk::with_bytes(Random::new(1), disk.bytes());
    assert_eq!(searched(&copy), 201 - 110);
    assert_eq!(searched(&copy), 100, "each opening puts the limit ahead again");

    let old = change_superblocks(&disk, |copy| copy[88..96].fill(0));
    assert_eq!(searched(&old), 400 - 110, "a superblock that an older version has written");
    assert_eq!(searched(&old), 100);

    let torn = SimDisk::with_bytes(Random::new(1), disk.bytes());
    torn.flip(20, 1);
    assert_eq!(searched(&torn), 400 - 110, "the copy that is lost may have had a later limit");

    let stale = change_superblocks(&disk, |copy| copy[88..96].copy_from_slice(&100u64.to_le_bytes()));
    assert_eq!(searched(&stale), 400 - 110, "frames beyond the limit prove that it is not the newest one");
}

#[test]
fn frames_of_an_opening_whose_superblocks_the_disk_has_lost_come_back() {
    for closed in [false, true] {
        let (disk, directory) = ring(40);
        let (wal, ..) = open(&disk, &directory);
        commit(&wal, b"one");
        if closed {
            run_to_end(wal.close()).unwrap();
        }
        let superblocks = disk.bytes()[..REGION].to_vec();
        let (wal, ..) = open(&disk, &directory);
        for payload in [b"two", b"six"] {
            commit(&wal, payload);
        }
        disk.rot(0, &superblocks);
        let (wal, recovery, frames) = open(&disk, &directory);
        assert_eq!((frames.len(), recovery.epoch, recovery.damage.len()), (3, 3, 0));
        assert_eq!(commit(&wal, b"four"), 4);
        assert_eq!(open(&disk, &directory).2.len(), 4);
    }
}

#[test]
fn a_frame_in_a_wrong_place_is_damage_and_not_the_next_one() {
    for place in [9, 12] {
        let (disk, directory) = ring(40);
        let (wal, ..) = open(&disk, &directory);
        for number in 0..8u8 {
            commit(&wal, &[number]);
        }
        run_to_end(wal.release(4)).unwrap();
        commit(&wal, b"nine");
        let offset = frames_in(&disk.bytes())[&9].0;
        let frame = disk.bytes()[offset..offset + BLOCK_BYTES].to_vec();
        disk.rot(offset, &[0; BLOCK_BYTES]);
        disk.rot(REGION + place * BLOCK_BYTES, &frame);
        let (_, recovery, frames) = open(&disk, &directory);
        assert_eq!((frames.len(), recovery.damage.len()), (5, 1));
        assert_eq!((recovery.damage[0].seq, recovery.damage[0].reason), (9, BadFrame::Gone));
        assert_eq!(recovery.damage[0].lost, Some(9..=9));
    }
}

#[test]
fn a_limit_is_durable_before_a_frame_goes_beyond_it() {
    for (writes, limit_blocks) in [(0, None), (1, Some(4 + 20 + 10))] {
        let (disk, directory) = ring(40);
        let (wal, ..) = open(&disk, &directory);
        for number in 0..4u8 {
            commit(&wal, &[number]);
        }
        let before = disk.bytes();
        disk.fail_writes_after(Some(writes));
        let frame = vec![7; 19 * 4092];
        assert!(matches!(run_to_end(wal.commit(&frame)), Err(CommitError::Io(_))));
        assert!(wal.is_poisoned());
        let after = disk.bytes();
        if let Some(limit_blocks) = limit_blocks {
            let reaches = [0, 4096].map(|at| u64::from_le_bytes(after[at + 88..at + 96].try_into().unwrap()));
            assert!(reaches.contains(&limit_blocks) && reaches.contains(&10), "{reaches:?}");
        } else {
            assert!(before[REGION..] == after[REGION..], "no limit, no frame");
        }
        disk.fail_writes_after(None);
        assert_eq!(open(&disk, &directory).2[..4].len(), 4);
    }
}

#[test]
fn a_ring_of_any_history_is_searched_at_most_a_quarter_and_a_frame_beyond_its_end() {
    let (disk, directory) = ring(64);
    let random = Random::new(9);
    for _ in 0..200 {
        let (wal, recovery, _) = open(&disk, &directory);
        assert!(recovery.searched_bytes <= 16 * BLOCK_BYTES as u64, "{recovery:?}");
        assert_eq!(recovery.damage, []);
        for _ in 0..random.below(6) {
            let len = random.below(12 * 4092) as usize;
            while !wal.fits(len) {
                run_to_end(wal.release(wal.tail_seq() + 1)).unwrap();
            }
            commit(&wal, &vec![1; len]);
        }
    }
}

#[test]
fn a_release_and_a_commit_that_meet_at_the_superblocks_take_turns() {
    for seed in 0..200 {
        let random = Random::new(seed);
        let disk = SimDisk::new(random.fork(), REGION + 32 * BLOCK_BYTES);
        let directory = SimDirectory::new(random.fork());
        let (wal, ..) = open(&disk, &directory);
        for number in 0..8u8 {
            commit(&wal, &[number]);
        }
        // The limit is 8 blocks behind the region's begin.
        let commits = async { assert_eq!(wal.commit(&[9; 10 * 4092]).await.unwrap(), 9) };
        let releases = async {
            wal.release(3).await.unwrap();
            wal.release(6).await.unwrap();
        };
        run_to_end(interleave(&random, commits, releases));
        disk.cut_power();
        let covered = Some(Covered { begin_seq: 6, end_seq: 5 });
        let (wal, recovery, frames) = try_open(&disk, &directory, covered).unwrap();
        assert_eq!((frames.len(), wal.tail_seq(), recovery.damage.len()), (4, 6, 0));
        assert!(recovery.searched_bytes <= 8 * BLOCK_BYTES as u64);
    }
}

#[test]
fn size_bytes_is_what_frames_can_use() {
    let (disk, directory) = ring(16);
    let (wal, ..) = open(&disk, &directory);
    assert_eq!(wal.size_bytes(), disk.size_bytes() - REGION as u64);
    assert_eq!(frame_bytes(4048) + frame_bytes(4049), 3 * 4096);
}
