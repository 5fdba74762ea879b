//! Random histories of a log: commits, checkpoints and releases at once, crashes anywhere, openings again.
//!
//! The code under test is the real one. The checks are outside of it: the model knows which frames were
//! acknowledged, and after each opening a small head, restored from checkpoint and replay as the real one is, must
//! hold each of them once, and nothing else but perhaps the one frame that was under way. Between two openings a byte
//! may rot: one in a checkpoint costs nothing, one in the ring at most what the recovery says.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;

use super::{Random, SimDirectory, SimDisk, interleave, run};
use crate::rt::{BLOCK_BYTES, DirectFile};
use crate::wal::{CheckpointError, Checkpoints, CommitError, PageVisitor, Recovery, Wal};

const SHARD: u32 = 3;

/// Series of the small head; frame `seq` belongs to slice `seq % SLICES`, and a checkpoint has a page for each.
const SLICES: u64 = 4;

/// What many histories have met, so that a test can tell that it tests something.
#[derive(Debug, Default, Clone, PartialEq)]
struct Met(BTreeMap<&'static str, u64>);

/// Everything that enough histories meet.
const ALL_MET: [&str; 14] = [
    "starts",
    "openings",
    "commits",
    "full rings",
    "torn frames",
    "replayed frames",
    "unacknowledged frames kept",
    "checkpoints",
    "failed checkpoints",
    "releases",
    "failed writes",
    "rotten checkpoints",
    "damages",
    "losses",
];

impl Met {
    fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }
}

/// What must be true of the log, kept outside of it.
#[derive(Default)]
struct Model {
    /// Frames that were acknowledged, or shown by a recovery: number to checksum of the payload.
    promised: RefCell<BTreeMap<u64, u32>>,
    /// The frame under way.
    pending: Cell<Option<(u64, u32)>>,
    /// Whether a byte of the ring has changed since the last opening.
    rotten_ring: Cell<bool>,
    /// Frames that a recovery left behind because of damage; a checkpoint may still have what they say.
    abandoned: RefCell<Vec<std::ops::Range<u64>>>,
    /// The checkpoint that a byte of was changed.
    rotten_checkpoint: RefCell<Option<String>>,
    violation: RefCell<Option<String>>,
    met: RefCell<Met>,
}

impl Model {
    fn met(&self, what: &'static str, count: u64) {
        self.met.borrow_mut().add(what, count);
    }

    fn is_abandoned(&self, seq: u64) -> bool {
        self.abandoned.borrow().iter().any(|range| range.contains(&seq))
    }

    fn violate(&self, what: String) {
        self.violation.borrow_mut().get_or_insert(what);
    }
}

/// The small head: which frames its state includes.
#[derive(Default, Clone)]
struct Head {
    frames: BTreeMap<u64, u32>,
    /// Up to which frame the page of each slice goes.
    page_seqs: [u64; SLICES as usize],
    replayed_seq: u64,
}

impl Head {
    fn replay(&mut self, seq: u64, crc: u32) -> Result<(), String> {
        if seq <= self.replayed_seq {
            return Err(format!("frame {seq} was replayed after {}", self.replayed_seq));
        }
        self.replayed_seq = seq;
        if seq > self.page_seqs[(seq % SLICES) as usize] && self.frames.insert(seq, crc).is_some() {
            return Err(format!("frame {seq} was applied twice"));
        }
        Ok(())
    }

    fn page(&self, slice: u64) -> Vec<u8> {
        let mut bytes = slice.to_le_bytes().to_vec();
        for (seq, crc) in self.frames.iter().filter(|(seq, _)| *seq % SLICES == slice) {
            bytes.extend_from_slice(&seq.to_le_bytes());
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        bytes
    }
}

impl PageVisitor for Head {
    fn reset(&mut self) {
        *self = Head::default();
    }

    fn page(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (slice, entries) = bytes.split_first_chunk::<8>().ok_or("a page without a slice")?;
        self.page_seqs[u64::from_le_bytes(*slice) as usize] = seq;
        for entry in entries.chunks_exact(12) {
            let (seq, crc) = entry.split_at(8);
            self.frames.insert(u64::from_le_bytes(seq.try_into()?), u32::from_le_bytes(crc.try_into()?));
        }
        Ok(())
    }
}

/// Watches each write to the ring for frames that it would destroy.
struct Watched<'a, D> {
    inner: D,
    disk: SimDisk,
    model: &'a Model,
}

impl<D: DirectFile<Buffer = Vec<u8>, Read = Vec<u8>>> DirectFile for Watched<'_, D> {
    type Buffer = Vec<u8>;
    type Read = Vec<u8>;

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn allocate(&self, len: usize) -> Vec<u8> {
        self.inner.allocate(len)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.inner.read_at(offset, len).await
    }

    async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        let number =
            |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let tails = self.disk.with_bytes_at(0, 2 * BLOCK_BYTES, |copies| {
            (number(copies, 40), number(copies, BLOCK_BYTES + 40))
        });
        // The format by hand: a reader of the same code would share its mistakes.
        let mut block = offset as usize;
        for new in buffer.chunks(BLOCK_BYTES).filter(|_| offset >= 2 * BLOCK_BYTES as u64) {
            self.disk.with_bytes_at(block, BLOCK_BYTES, |old| {
                let seq = number(old, 8);
                let crc = u32::from_le_bytes(old[40..44].try_into().expect("four"));
                let promised = self.model.promised.borrow().get(&seq) == Some(&crc);
                let promised = promised && !self.model.is_abandoned(seq);
                if old[..4] == *b"AnWF" && promised && seq >= tails.0.min(tails.1) && old != new {
                    self.model.violate(format!("frame {seq} is needed and was overwritten"));
                }
            });
            block += BLOCK_BYTES;
        }
        self.inner.write_at(buffer, offset).await
    }

    async fn yield_now(&self) {
        self.inner.yield_now().await;
    }

    async fn close(self) -> io::Result<()> {
        self.inner.close().await
    }
}

/// One history: several openings of the same disk. The error says what was violated.
fn history<D, W>(seed: u64, wrap: W) -> Result<Met, String>
where
    D: DirectFile<Buffer = Vec<u8>, Read = Vec<u8>>,
    W: Fn(SimDisk) -> D,
{
    let random = Random::new(seed);
    let blocks = 16 + random.below(40) as usize;
    let disk = SimDisk::new(random.fork(), blocks * BLOCK_BYTES);
    let directory = SimDirectory::new(random.fork());
    let model = Model::default();
    let (choices, order) = (random.fork(), random.fork());

    for _ in 0..2 + random.below(6) {
        // A recovery tells of damage once; that one is not interrupted, so that the model hears it.
        let calm = model.rotten_ring.get();
        disk.fail_writes_after((!calm && choices.one_in(6)).then(|| choices.below(20)));
        let full_soon = !calm && choices.one_in(6);
        directory.limit_space(if full_soon { choices.below(20 * BLOCK_BYTES as u64) } else { u64::MAX });
        let steps = (!calm && !choices.one_in(5)).then(|| choices.below(800));

        let opening = Watched { inner: wrap(disk.clone()), disk: disk.clone(), model: &model };
        let mut session = Box::pin(session(opening, &directory, &model, &choices, &order));
        let crashed = run(session.as_mut(), steps).is_none();
        if crashed || choices.one_in(2) {
            if choices.one_in(2) {
                disk.kill();
                directory.kill();
            } else {
                disk.cut_power();
                directory.cut_power();
            }
        }
        drop(session);
        if let Some(violation) = model.violation.take() {
            return Err(violation);
        }
        rot(&disk, &directory, &model, &choices);
    }
    Ok(model.met.take())
}

/// Perhaps changes one byte, of the ring or of a checkpoint; never of two checkpoints that exist at once.
fn rot(disk: &SimDisk, directory: &SimDirectory, model: &Model, choices: &Random) {
    let flip = 1 << choices.below(8);
    // A ring that was never opened must be all zeros.
    if choices.one_in(8) && model.met.borrow().0.contains_key("openings") {
        disk.flip(choices.below(disk.size_bytes()) as usize, flip);
        model.rotten_ring.set(true);
    }
    let names: Vec<_> =
        directory.names().into_iter().filter(|name| name.starts_with("checkpoint-")).collect();
    let mut rotten = model.rotten_checkpoint.borrow_mut();
    if choices.one_in(4) && !names.is_empty() && rotten.as_ref().is_none_or(|rotten| !names.contains(rotten))
    {
        let name = &names[choices.below(names.len() as u64) as usize];
        directory.flip(name, choices.next() as usize, flip);
        *rotten = Some(name.clone());
    }
}

/// From one opening to the crash or the end.
async fn session<D: DirectFile>(
    disk: D,
    directory: &SimDirectory,
    model: &Model,
    choices: &Random,
    order: &Random,
) {
    model.met("starts", 1);
    let mut head = Head::default();
    let (checkpoints, loaded) = match Checkpoints::load(directory.clone(), SHARD, &mut head).await {
        Ok(loaded) => loaded,
        Err(error) => return model.violate(format!("loading checkpoints: {error}")),
    };
    for invalid in &loaded.invalid {
        model.met("rotten checkpoints", 1);
        if model.rotten_checkpoint.borrow().as_ref() != Some(&invalid.name) {
            model.violate(format!("a finished checkpoint is invalid: {invalid:?}"));
        }
    }
    let opened = Wal::open(disk, directory, SHARD, loaded.covered, |seq, payload| {
        head.replay(seq, crc32c::crc32c(payload))
    });
    let (wal, recovery) = match opened.await {
        Ok(opened) => opened,
        Err(crate::wal::WalError::Io { .. }) => return,
        Err(error) => return model.violate(format!("opening: {error}")),
    };
    check_opening(model, &head, &recovery, wal.next_seq());
    let begin_seq = loaded.covered.map_or(1, |covered| covered.begin_seq);
    for damage in &recovery.damage {
        let end_seq = if damage.lost.is_some() { wal.next_seq() } else { begin_seq };
        model.abandoned.borrow_mut().push(damage.seq..end_seq);
    }

    let head = RefCell::new(head);
    let committing = Cell::new(true);
    let commits = commit_frames(&wal, &head, model, choices, &committing);
    let checkpoints = write_checkpoints(&wal, checkpoints, &head, model, choices, &committing);
    interleave(order, commits, checkpoints).await;
    if choices.one_in(2) && wal.close().await.is_err() {
        model.met("failed writes", 1);
    }
}

fn check_opening(model: &Model, head: &Head, recovery: &Recovery, next_seq: u64) {
    let mut promised = model.promised.borrow_mut();
    model.met("openings", 1);
    model.met("replayed frames", recovery.frames);
    model.met("torn frames", u64::from(recovery.torn.is_some()));
    if let Some((seq, crc)) = model.pending.take()
        && head.frames.get(&seq) == Some(&crc)
    {
        promised.insert(seq, crc);
        model.met("unacknowledged frames kept", 1);
    }
    // Rot of the ring and later of a checkpoint can cost together what each alone does not; but never silently.
    for seq in recovery.missing.iter().flat_map(|range| range.clone()) {
        if model.is_abandoned(seq) {
            if !head.frames.contains_key(&seq) {
                promised.remove(&seq);
            }
        } else {
            model.violate(format!("frame {seq} is missing: {recovery:?}"));
        }
    }
    let known = recovery.damage.iter().all(|damage| model.is_abandoned(damage.seq));
    let rotten = model.rotten_ring.take();
    if rotten || known {
        // The last frame, if nothing tells that it was durable, looks like a torn one.
        let newest = promised.last_key_value().map(|(seq, _)| *seq);
        let torn = recovery.torn.map(|torn| torn.seq).filter(|seq| rotten && Some(*seq) == newest);
        let lost = |seq| {
            let ranges = recovery.damage.iter().filter_map(|damage| damage.lost.as_ref());
            torn == Some(seq) || ranges.into_iter().any(|range| range.contains(&seq))
        };
        let before = promised.len();
        promised.retain(|seq, _| head.frames.contains_key(seq) || !lost(*seq));
        model.met("losses", u64::from(promised.len() < before));
        model.met("damages", u64::from(!recovery.damage.is_empty()));
    } else {
        model.violate(format!("an undamaged ring is reported as damaged: {recovery:?}"));
    }
    if *promised != head.frames {
        let lost: Vec<_> = promised.keys().filter(|seq| !head.frames.contains_key(seq)).collect();
        let added: Vec<_> = head.frames.keys().filter(|seq| !promised.contains_key(seq)).collect();
        model.violate(format!("lost {lost:?}, added {added:?}, or with other bytes; {recovery:?}"));
    }
    if promised.last_key_value().is_some_and(|(seq, _)| *seq >= next_seq) {
        model.violate(format!("frame {next_seq} would be written twice"));
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
        model.pending.set(Some((seq, crc)));
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
                super::disk::delay(choices).await;
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
            super::disk::delay(choices).await;
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
        super::disk::delay(choices).await;
    }
    while wal.durable_seq() < writer.end_seq() {
        if wal.is_poisoned() {
            return Ok(None);
        }
        super::disk::delay(choices).await;
    }
    let finished = writer.finish(wal.durable_seq()).await?;
    checkpoints.keep(&finished).await
}

/// A disk with a planted bug: a write is acknowledged before it is done.
struct EarlyAcknowledgement {
    disk: SimDisk,
    late: Cell<Option<u64>>,
}

/// A disk with a planted bug: superblocks are not written after the first.
struct LostSuperblocks {
    disk: SimDisk,
    written: Cell<u64>,
}

macro_rules! forward_to_disk {
    () => {
        type Buffer = Vec<u8>;
        type Read = Vec<u8>;

        fn size_bytes(&self) -> u64 {
            self.disk.size_bytes()
        }

        fn allocate(&self, len: usize) -> Vec<u8> {
            self.disk.allocate(len)
        }

        async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            self.disk.read_at(offset, len).await
        }

        async fn yield_now(&self) {
            self.disk.yield_now().await;
        }

        async fn close(self) -> io::Result<()> {
            Ok(())
        }
    };
}

impl DirectFile for EarlyAcknowledgement {
    forward_to_disk!();

    async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        if let Some(late) = self.late.replace(Some(self.disk.start_write(offset, buffer))) {
            self.disk.complete(late)?;
        }
        Ok(())
    }
}

impl DirectFile for LostSuperblocks {
    forward_to_disk!();

    async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        if offset < 2 * BLOCK_BYTES as u64 && self.written.replace(self.written.get() + 1) >= 2 {
            return Ok(());
        }
        self.disk.write_at(buffer, offset).await
    }
}

/// Runs a history; a panic in it is a violation as well.
fn checked_history<D, W>(seed: u64, wrap: W) -> Result<Met, String>
where
    D: DirectFile<Buffer = Vec<u8>, Read = Vec<u8>>,
    W: Fn(SimDisk) -> D,
{
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history(seed, wrap)))
        .unwrap_or_else(|_| Err("panic, see above".to_owned()))
}

#[test]
fn what_was_acknowledged_survives_every_crash() {
    let seeds = std::env::var("ANNULUS_SIM_SEEDS").ok().map_or(3_000, |count| count.parse().unwrap());
    let first = std::env::var("ANNULUS_SIM_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let mut total = Met::default();
    for seed in first..first + seeds {
        let met = checked_history(seed, |disk| disk)
            .unwrap_or_else(|violation| panic!("ANNULUS_SIM_SEED={seed} ANNULUS_SIM_SEEDS=1: {violation}"));
        met.0.into_iter().for_each(|(what, count)| total.add(what, count));
    }
    println!("{total:?}");
    if seeds >= 1_000 {
        for what in ALL_MET {
            assert!(total.0.get(what).is_some_and(|count| *count >= 20), "{what}: {total:?}");
        }
    }
}

#[test]
fn a_disk_that_acknowledges_early_is_caught() {
    let caught = (0..300).filter(|seed| {
        checked_history(*seed, |disk| EarlyAcknowledgement { disk, late: Cell::new(None) }).is_err()
    });
    assert!(caught.count() > 0, "the simulation cannot find a planted bug");
}

#[test]
fn a_tail_that_is_not_durable_is_caught() {
    let caught = (0..300).filter(|seed| {
        checked_history(*seed, |disk| LostSuperblocks { disk, written: Cell::new(0) }).is_err()
    });
    assert!(caught.count() > 0, "the simulation cannot find a planted bug");
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..20 {
        let first = checked_history(seed, |disk| disk).unwrap();
        assert_eq!(first, checked_history(seed, |disk| disk).unwrap());
    }
}
