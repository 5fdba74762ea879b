//! Random histories of a log: commits, checkpoints and releases at once, crashes anywhere, openings again.
//!
//! The code under test is the real one. After each opening a small head, restored from checkpoint and replay as the
//! real one is, is compared with the model. Between two openings the disk may rot in one place, or become unreadable in
//! one; and in some histories it lies, writes to wrong places or fails reads now and then.

use std::cell::{Cell, RefCell};

use super::disk::delay;
use super::model::{Head, Met, Model, Rot, SLICES, Watched};
use super::{FaultRates, Random, SimDirectory, SimDisk, interleave, run};
use crate::rt::{BLOCK_BYTES, DirectFile};
use crate::wal::{CheckpointError, Checkpoints, CommitError, InvalidReason, Wal, WalError};

const SHARD: u32 = 3;

/// The random streams of a history that are not the disk's: one more draw from one must not shift another.
struct Streams {
    /// What the log's users do.
    choices: Random,
    /// Which of two tasks goes on.
    order: Random,
    /// Which faults there are, and where it rots.
    faults: Random,
}

/// One history: several openings of the same disk. The error says what was violated.
pub(super) fn history<D, W>(seed: u64, wrap: W) -> Result<Met, String>
where
    D: DirectFile<Buffer = Vec<u8>, Read = Vec<u8>>,
    W: Fn(SimDisk) -> D,
{
    let random = Random::new(seed);
    let blocks = 16 + random.below(40) as usize;
    let disk = SimDisk::new(random.fork(), blocks * BLOCK_BYTES);
    let directory = SimDirectory::new(random.fork());
    let model = Model::default();
    let streams = Streams { choices: random.fork(), order: random.fork(), faults: random.fork() };
    let rates = some_rates(&streams.faults);
    let choices = &streams.choices;

    // A recovery tells of damage once; that one is not interrupted, so that the model hears it.
    let mut unheard = false;
    for _ in 0..2 + choices.below(6) {
        let calm = unheard;
        let openings = model.count("openings");
        let rates = if calm { FaultRates::default() } else { rates };
        disk.faults().set_rates(rates);
        directory.faults().set_rates(rates);
        disk.fail_writes_after((!calm && choices.one_in(6)).then(|| choices.below(20)));
        let full_soon = !calm && choices.one_in(6);
        directory.limit_space(if full_soon { choices.below(20 * BLOCK_BYTES as u64) } else { u64::MAX });
        let steps = (!calm && !choices.one_in(5)).then(|| choices.below(800));

        model.gather_evidence(&disk);
        let deceived = disk.faults().counts();
        let opening = Watched { inner: wrap(disk.clone()), disk: disk.clone(), model: &model };
        let mut session = Box::pin(session(opening, &disk, &directory, &model, &streams));
        let crashed = run(session.as_mut(), steps).is_none();
        let power_cut = (crashed || choices.one_in(2)) && !choices.one_in(2);
        if power_cut {
            disk.cut_power();
            directory.cut_power();
        } else if crashed {
            disk.kill();
            directory.kill();
        }
        drop(session);
        if let Some(violation) = model.violation.take() {
            return Err(violation);
        }
        if model.is_lost() {
            break;
        }
        let heard = model.count("openings") > openings;
        unheard = (unheard && !heard) || disk.faults().counts() != deceived || (power_cut && disk.deceives());
        unheard |= rot(&disk, &directory, &model, &streams.faults);
        if !heard {
            disk.heal();
            directory.heal();
        }
        spoil(&disk, &directory, &model, &streams.faults);
    }
    let (disk_counts, directory_counts) = (disk.faults().counts(), directory.faults().counts());
    model.met("misdirected writes", disk_counts.misdirected_writes);
    model.met("lying flushes", disk_counts.lying_flushes);
    model.met("failed reads", disk_counts.failed_reads + directory_counts.failed_reads);
    Ok(model.met.take())
}

/// Most histories have an honest disk, and few have more than one kind of fault.
fn some_rates(random: &Random) -> FaultRates {
    let rate = || if random.one_in(8) { 8 + random.below(60) } else { 0 };
    FaultRates { misdirected_writes: rate(), lying_flushes: rate(), failed_reads: rate() }
}

/// Perhaps changes one place of the ring, and one of a checkpoint; never of two checkpoints that exist at once.
/// Returns whether the ring was changed.
fn rot(disk: &SimDisk, directory: &SimDirectory, model: &Model, random: &Random) -> bool {
    // A ring that was never opened must be all zeros; and one that rotted is opened before it rots in a second place.
    let may_rot = model.count("openings") > 0 && model.rot.get() == Rot::None;
    let ring_rots = random.one_in(8) && may_rot;
    if ring_rots {
        // Half of the time it hits one of the newest frames, where it hurts.
        let place = if random.one_in(2) { model.recent_place(random.below(6)) } else { None };
        let place = place.unwrap_or(0..disk.size_bytes() as usize);
        let at = place.start + random.below(place.len() as u64) as usize;
        if random.one_in(2) {
            disk.flip(at, 1 << random.below(8));
            model.rot.set(Rot::Bit);
        } else {
            // Within one block: a burst over both superblocks would be the end of the ring.
            let len = (1 + random.below(600) as usize).min(BLOCK_BYTES - at % BLOCK_BYTES);
            disk.rot(at, &run_of_bytes(random, len));
            model.rot.set(Rot::Burst);
            model.met("rot bursts", 1);
        }
    }
    let names = checkpoint_names(directory);
    let mut rotten = model.rotten_checkpoint.borrow_mut();
    // One that was passed over has another name, and then there is only one left as well.
    let known = names.iter().any(|name| name.ends_with(".damaged") || rotten.as_ref() == Some(name));
    if random.one_in(4) && !names.is_empty() && !known {
        let name = &names[random.below(names.len() as u64) as usize];
        if random.one_in(2) {
            directory.flip(name, random.next() as usize, 1 << random.below(8));
        } else {
            let len = 1 + random.below(600) as usize;
            directory.rot(name, random.below(2 * BLOCK_BYTES as u64) as usize, &run_of_bytes(random, len));
        }
        *rotten = Some(name.clone());
    }
    ring_rots
}

/// Noise or zeros.
fn run_of_bytes(random: &Random, len: usize) -> Vec<u8> {
    if random.one_in(2) { vec![0; len] } else { random.bytes(len) }
}

/// Perhaps makes a block of the ring or a checkpoint unreadable.
fn spoil(disk: &SimDisk, directory: &SimDirectory, model: &Model, random: &Random) {
    if random.one_in(16) {
        disk.spoil(random.below(disk.size_bytes()) as usize);
        model.met("unreadable blocks", 1);
    }
    let names = checkpoint_names(directory);
    if random.one_in(16) && !names.is_empty() {
        directory.spoil(&names[random.below(names.len() as u64) as usize]);
        model.met("unreadable checkpoints", 1);
    }
}

fn checkpoint_names(directory: &SimDirectory) -> Vec<String> {
    directory.names().into_iter().filter(|name| name.starts_with("checkpoint-")).collect()
}

/// From one opening to the crash or the end.
async fn session<D: DirectFile>(
    ring: D,
    disk: &SimDisk,
    directory: &SimDirectory,
    model: &Model,
    streams: &Streams,
) {
    model.met("starts", 1);
    let mut head = Head::default();
    let (checkpoints, loaded) = match Checkpoints::load(directory.clone(), SHARD, &mut head).await {
        Ok(loaded) => loaded,
        Err(CheckpointError::Unreadable { .. }) => {
            return model.met("starts without a readable checkpoint", 1);
        }
        Err(error) => return model.violate(format!("loading checkpoints: {error}")),
    };
    for invalid in &loaded.invalid {
        let rotten = model.rotten_checkpoint.borrow().as_ref() == Some(&invalid.name);
        match &invalid.reason {
            InvalidReason::Io(_) => model.met("checkpoints passed over as unreadable", 1),
            _ if rotten => model.met("rotten checkpoints", 1),
            _ => model.violate(format!("a finished checkpoint is invalid: {invalid:?}")),
        }
    }
    let opened = Wal::open(ring, directory, SHARD, loaded.covered, |seq, payload| {
        head.replay(seq, crc32c::crc32c(payload))
    });
    let (wal, recovery) = match opened.await {
        Ok(opened) => opened,
        Err(WalError::Io { .. }) => return model.met("starts that a failed read or write stopped", 1),
        Err(WalError::NoSuperblock) if disk.deceives() => return model.lose(),
        Err(error) => return model.violate(format!("opening: {error}")),
    };
    model.check_opening(&head, &recovery, wal.next_seq(), disk.deceives());
    let begin_seq = loaded.covered.map_or(1, |covered| covered.begin_seq);
    for damage in &recovery.damage {
        let end_seq = if damage.lost.is_some() { wal.next_seq() } else { begin_seq };
        model.abandoned.borrow_mut().push(damage.seq..end_seq);
    }

    let head = RefCell::new(head);
    let committing = Cell::new(true);
    let commits = commit_frames(&wal, &head, model, &streams.choices, &committing);
    let checkpoints = write_checkpoints(&wal, checkpoints, &head, model, &streams.choices, &committing);
    interleave(&streams.order, commits, checkpoints).await;
    if streams.choices.one_in(2) && wal.close().await.is_err() {
        model.met("failed writes", 1);
    }
}

async fn commit_frames<D: DirectFile>(
    wal: &Wal<D>,
    head: &RefCell<Head>,
    model: &Model,
    choices: &Random,
    committing: &Cell<bool>,
) {
    for _ in 0..choices.below(40) {
        let len = match choices.below(8) {
            0 => choices.below(8 * BLOCK_BYTES as u64),
            1 | 2 => choices.below(3 * BLOCK_BYTES as u64),
            _ => choices.below(300),
        };
        let payload = choices.bytes(len as usize);
        let crc = crc32c::crc32c(&payload);
        // As in a shard: the batch is applied in memory before it is durable.
        let seq = wal.next_seq();
        model.begin(seq, crc);
        head.borrow_mut().frames.insert(seq, crc);
        let fits = wal.fits(payload.len());
        match wal.commit(&payload).await {
            Ok(committed) => {
                if committed != seq || !fits {
                    model.violate(format!("frame {seq} was committed as {committed}, fits: {fits}"));
                }
                model.promised.borrow_mut().insert(seq, crc);
                model.pending.set(None);
                model.met("commits", 1);
            }
            Err(CommitError::Full { .. } | CommitError::TooLarge { .. }) => {
                if fits {
                    model.violate(format!("frame {seq} fits, and the ring was full"));
                }
                head.borrow_mut().frames.remove(&seq);
                model.pending.set(None);
                model.met("full rings", 1);
                delay(choices).await;
            }
            Err(CommitError::Io(_)) => {
                model.met("failed writes", 1);
                break;
            }
            // A release has failed; this frame was never tried.
            Err(CommitError::Poisoned) => {
                head.borrow_mut().frames.remove(&seq);
                model.pending.set(None);
                break;
            }
        }
    }
    committing.set(false);
}

async fn write_checkpoints<D: DirectFile>(
    wal: &Wal<D>,
    mut checkpoints: Checkpoints<SimDirectory>,
    head: &RefCell<Head>,
    model: &Model,
    choices: &Random,
    committing: &Cell<bool>,
) {
    while committing.get() {
        for _ in 0..choices.below(20) {
            delay(choices).await;
        }
        match write_checkpoint(wal, &mut checkpoints, head, choices).await {
            Ok(None) => {}
            Ok(Some(below_seq)) => match wal.release(below_seq).await {
                Ok(()) => model.met("releases", 1),
                Err(_) => return,
            },
            Err(_) => model.met("failed checkpoints", 1),
        }
        model.met("checkpoints", 1);
        if wal.is_poisoned() {
            return;
        }
    }
}

async fn write_checkpoint<D: DirectFile>(
    wal: &Wal<D>,
    checkpoints: &mut Checkpoints<SimDirectory>,
    head: &RefCell<Head>,
    choices: &Random,
) -> Result<Option<u64>, CheckpointError> {
    let mut writer = checkpoints.create(wal.next_seq()).await?;
    for slice in 0..SLICES {
        let seq = wal.next_seq() - 1;
        let page = head.borrow().page(slice);
        writer.page(seq, &page).await?;
        delay(choices).await;
    }
    while wal.durable_seq() < writer.end_seq() {
        if wal.is_poisoned() {
            return Ok(None);
        }
        delay(choices).await;
    }
    let finished = writer.finish(wal.durable_seq()).await?;
    checkpoints.keep(&finished).await
}
