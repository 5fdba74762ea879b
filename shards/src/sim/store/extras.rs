//! Exemplars and metadata of a shard through crashes: what was acknowledged is there, in order, and nothing twice.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::{Either, select};

use super::super::disk::delay;
use super::super::{Random, SimDirectory, SimDisk, run};
use super::platform::{Files, Frames, Simulated, WatchedRing};
use super::tasks::Tasks;
use crate::core::parts::{
    Checkpointer, ChunkWriter, HeadBudget, Page, ReadJob, Shard, ShardPlace, forget_tenants, recover_files,
    run_read,
};
use crate::core::{Failure, ReadError, ReadRequest, ShardState, SharedState, WriteBatch, split};
use crate::head::{ExtraLimits, TimeWindows};
use crate::matcher::{MatchOp, Matcher};
use crate::metadata::{MetadataReason, MetricKind};
use crate::metrics::Metrics;
use crate::rt::BLOCK_BYTES;
use crate::wire::{BodyRange, ExemplarRow, Extras, MetadataRow, Row, SeriesHasher, canonical_label_bytes};

const LIMITS: ExtraLimits = ExtraLimits { exemplars_max: 40, families_max: 1000, head_bytes_max: u64::MAX };
const WINDOWS: TimeWindows = TimeWindows { block_ms: 1000, out_of_order_ms: 300, future_ms: 0 };

/// More than there may be exemplars: most exemplars are the only one of their series, whose others are gone.
const SERIES: u64 = 64;

/// What senders know. Exemplars and families are numbered in the order in which they are sent.
#[derive(Default)]
struct Sent {
    next: i64,
    acknowledged: Vec<i64>,
}

struct World {
    disk: SimDisk,
    directory: SimDirectory,
    frames: Rc<Frames>,
    sent: Rc<RefCell<Sent>>,
    choices: Random,
}

/// Recovers a shard that writes and makes checkpoints.
async fn start(world: &World, hasher: &SeriesHasher) -> (Rc<Shard<Simulated>>, Checkpointer<Simulated>) {
    let files = Files::new(world.directory.clone(), true);
    let ring = WatchedRing::new(world.disk.clone(), Rc::clone(&world.frames));
    let recovered = recover_files(files, ring, 0, hasher, WINDOWS.block_ms, LIMITS).await.unwrap();
    world.frames.recovered(recovered.wal.next_seq());
    let state = SharedState::new(1);
    state.set(0, ShardState::Serving);
    let shard = Rc::new(Shard::new(
        Simulated::new(world.choices.fork(), i64::MAX),
        ShardPlace { index: 0, count: 1 },
        hasher.clone(),
        Metrics::register(&prometheus::Registry::new()).shard(0),
        state,
        HeadBudget { bytes_max: u64::MAX, used_bytes: Default::default(), disk_is_low: Default::default() },
        WINDOWS,
    ));
    *shard.head.borrow_mut() = recovered.head;
    assert!(shard.wal.set(recovered.wal).is_ok());
    let chunks = Rc::new(ChunkWriter::new(Rc::clone(&shard), recovered.chunks));
    let checkpointer = Checkpointer::new(Rc::clone(&shard), chunks, recovered.checkpoints);
    (shard, checkpointer)
}

/// One life: recovery, a check, then writes and checkpoints until the crash.
async fn live(world: &World) {
    let hasher = SeriesHasher::new([7; 16]);
    let (shard, checkpointer) = start(world, &hasher).await;
    // The rings are small: all that is acknowledged has metadata.
    shard.metadata_spare_percent.set(0);
    check(&shard, &world.sent.borrow());
    check_reads(&shard).await;
    let mut tasks = Tasks::new(world.choices.fork());
    let committer = Rc::clone(&shard);
    tasks.add_endless(async move { committer.commit_loop().await });
    let choices = world.choices.fork();
    tasks.add_endless(async move {
        loop {
            for _ in 0..choices.below(200) {
                delay(&choices).await;
            }
            checkpointer.make().await.unwrap();
        }
    });
    let (sent, choices) = (Rc::clone(&world.sent), world.choices.fork());
    tasks.add(async move {
        for _ in 0..100 {
            write(&shard, &hasher, &sent, choices.below(6) as i64).await;
        }
        check(&shard, &sent.borrow());
    });
    tasks.run().await;
}

/// Writes a sample of some series, an exemplar and some metadata of each, until the shard takes it.
async fn write(shard: &Shard<Simulated>, hasher: &SeriesHasher, sent: &RefCell<Sent>, count: i64) {
    let numbers = {
        let sent = &mut *sent.borrow_mut();
        sent.next += count;
        sent.next - count..sent.next
    };
    loop {
        let (gather, batch) = batch(hasher, numbers.clone());
        shard.write(batch).await;
        let outcome = gather.wait().await;
        match outcome.failure {
            None => {
                assert_eq!(outcome.exemplars_written, numbers.clone().count() as u64, "{outcome:?}");
                sent.borrow_mut().acknowledged.extend(numbers);
                return;
            }
            Some(Failure::RingFull) => {}
            Some(other) => panic!("a write failed: {other:?}"),
        }
    }
}

fn batch(hasher: &SeriesHasher, numbers: std::ops::Range<i64>) -> (crate::core::Gather, WriteBatch) {
    let hasher = hasher.tenant("t");
    let mut body = Vec::new();
    let mut put = |bytes: &[u8]| {
        let range = BodyRange { offset: body.len() as u32, len: bytes.len() as u32 };
        body.extend_from_slice(bytes);
        range
    };
    let series = |number: u64| canonical_label_bytes(&[("__name__", "x"), ("n", &number.to_string())]);
    let mut rows = Vec::new();
    for number in [0].into_iter().chain(numbers.clone().map(|number| number as u64 % SERIES)) {
        let (label_bytes, timestamp_ms) = (series(number), numbers.end);
        let labels = put(&label_bytes);
        let (label_offset, label_len) = (labels.offset, labels.len);
        let key = hasher.key(&label_bytes);
        rows.push(Row { key, label_offset, label_len, timestamp_ms, value: timestamp_ms as f64 });
    }
    let mut extras = Extras::default();
    for number in numbers {
        let label_bytes = series(number as u64 % SERIES);
        let labels = put(&canonical_label_bytes(&[("trace_id", &format!("{number:032}"))]));
        let (key, series_labels) = (hasher.key(&label_bytes), put(&label_bytes));
        let (timestamp_ms, value) = (number, number as f64 / 3.0);
        extras.exemplars.push(ExemplarRow { key, series_labels, labels, timestamp_ms, value });
        let (family, text) = (put(family(number).as_bytes()), put(b"Help."));
        extras.metadata.push(MetadataRow { kind: 2, family, help: text, unit: text });
    }
    let extras = (!extras.is_empty()).then(|| Box::new(extras));
    let (gather, mut batches) = split(Arc::from("t"), Arc::new(body), vec![(rows, extras)]);
    (gather, batches.pop().expect("one part makes one batch"))
}

/// There are few of them: many are described again.
fn family(number: i64) -> String {
    format!("family_{}", number / 7)
}

fn check(shard: &Shard<Simulated>, sent: &Sent) {
    let head = shard.head.borrow();
    let extras = head.extras();
    let stored: Vec<i64> = extras.exemplars.from("t", 0).map(|one| one.exemplar.timestamp_ms).collect();
    assert!(stored.is_sorted_by(|a, b| a < b), "in the order in which they came, each once: {stored:?}");
    let is_full = stored.len() == LIMITS.exemplars_max;
    for number in &sent.acknowledged {
        let is_there = stored.binary_search(number).is_ok();
        assert!(is_there || is_full && *number < stored[0], "exemplar {number} is gone: {stored:?}");
        assert_eq!(extras.metadata.descriptions("t", &family(*number)).len(), 1, "metadata of {number}");
    }
    for one in extras.exemplars.from("t", 0) {
        let number = one.exemplar.timestamp_ms;
        assert_eq!(one.series.get("n"), Some(&*(number as u64 % SERIES).to_string()));
        assert_eq!(one.exemplar.labels.get("trace_id"), Some(&*format!("{number:032}")));
    }
}

/// Reads give what is stored, as it was asked for.
async fn check_reads(shard: &Rc<Shard<Simulated>>) {
    let matcher = |name, value: &str| Matcher::new(MatchOp::Equal, name, value).unwrap();
    let read = async |tenant, times: (i64, i64), bytes_max| {
        let (reply, pages) = flume::unbounded();
        let one = |n| ReadRequest {
            tenants: vec![matcher("tenant", tenant)],
            matchers: vec![matcher("__name__", "x"), matcher("n", n)],
            min_ms: times.0,
            max_ms: times.1,
            skip_chunks: true,
        };
        let requests = [one("1"), one("2"), one("2")].into();
        run_read(Rc::clone(shard), ReadJob::Exemplars { requests, bytes_max, reply }).await;
        parts(pages.drain())
    };
    let stored = |times: std::ops::RangeInclusive<i64>| {
        let head = shard.head.borrow();
        let extras = head.extras();
        let all = extras.exemplars.from("t", 0).map(|one| one.exemplar.timestamp_ms);
        all.filter(|ms| [1, 2].contains(&(ms % SERIES as i64)) && times.contains(ms)).collect::<Vec<i64>>()
    };
    let middle = stored(i64::MIN..=i64::MAX).first().copied().unwrap_or(0);
    for times in [(i64::MIN, i64::MAX), (middle, middle)] {
        let found = read("t", times, u64::MAX).await.unwrap();
        assert!(found.len() <= 2, "each series comes once");
        let mut all: Vec<i64> =
            found.iter().flat_map(|one| &one.exemplars).map(|one| one.timestamp_ms).collect();
        all.sort_unstable();
        assert_eq!(all, stored(times.0..=times.1));
        assert!(found.is_empty() || read("t", times, 10).await.is_err(), "more than ten bytes");
    }
    assert!(read("other", (i64::MIN, i64::MAX), u64::MAX).await.unwrap().is_empty());
    let families = shard.head.borrow().extras().metadata.families("t");
    for only in [None, families.first().map(|family| family.to_string())] {
        let (reply, pages) = flume::unbounded();
        run_read(Rc::clone(shard), ReadJob::Metadata { family: only.clone(), reply }).await;
        let found: Vec<_> = parts(pages.drain()).unwrap().into_iter().map(|one| one.family).collect();
        let is_asked = |family: &&Arc<str>| only.as_ref().is_none_or(|only| *only == ***family);
        assert_eq!(found, families.iter().filter(is_asked).cloned().collect::<Vec<_>>());
    }
}

/// What an answer's pages have, if it came to its end.
fn parts<T>(pages: impl Iterator<Item = Result<Page<T>, ReadError>>) -> Result<Vec<T>, ReadError> {
    let mut all = Vec::new();
    for page in pages {
        match page? {
            Page::Part(mut part) => all.append(&mut part),
            Page::End => return Ok(all),
        }
    }
    panic!("an answer without an end");
}

/// Fills the ring with requests that describe a new family each, and compares what becomes of the metadata with how much
/// of the ring was used at that time.
async fn fill(world: &World, spare_percent: u64) {
    let hasher = SeriesHasher::new([7; 16]);
    let (shard, checkpointer) = start(world, &hasher).await;
    shard.metadata_spare_percent.set(spare_percent);
    let mut tasks = Tasks::new(world.choices.fork());
    let committer = Rc::clone(&shard);
    tasks.add_endless(async move { committer.commit_loop().await });
    tasks.add(async move {
        let (mut taken, mut left_out) = (0, 0);
        let dropped = || shard.metrics.extras.metadata_dropped[MetadataReason::RingFull as usize].get();
        let write = async |number: i64| {
            let (gather, batch) = batch(&hasher, number..number + 1);
            let before = dropped();
            shard.write(batch).await;
            let outcome = gather.wait().await;
            assert_eq!(outcome.exemplars_written, u64::from(outcome.failure.is_none()), "{outcome:?}");
            (outcome.failure, dropped() > before)
        };
        let wal = shard.wal.get().unwrap();
        let mut checkpoints = 0;
        for family in 0.. {
            // The tail moves past what two of them cover, with frames between them.
            if wal.used_bytes() * 2 > wal.size_bytes() * checkpoints {
                checkpointer.make().await.unwrap();
                checkpoints += 1;
            }
            let is_scarce = wal.used_bytes() > wal.size_bytes() / 100 * (100 - spare_percent);
            match write(family * 7).await {
                (None, is_left_out) => {
                    assert_eq!(is_left_out, is_scarce, "{} bytes of the ring are used", wal.used_bytes());
                    *(if is_scarce { &mut left_out } else { &mut taken }) += 1;
                }
                (Some(Failure::RingFull), _) => break,
                (Some(other), _) => panic!("a write failed: {other:?}"),
            }
        }
        assert!(taken > 0 && (left_out > 0) == (spare_percent > 0), "{taken} taken, {left_out} left out");
        assert_eq!(shard.head.borrow().extras().metadata.family_count(), taken);
        let (head_bytes, extra_bytes) =
            (shard.head.borrow().size_bytes(), shard.head.borrow().extras().size_bytes());
        assert!(extra_bytes > 100 * taken as u64, "{extra_bytes} bytes of exemplars and metadata");
        assert_eq!(shard.metrics.head_bytes.get() as u64, head_bytes + extra_bytes);
        checkpointer.make().await.unwrap();
        assert_eq!(write(7 * 1000).await, (None, false), "there is room again");
    });
    tasks.run().await;
}

#[test]
fn metadata_leaves_its_part_of_the_ring_to_samples() {
    for (seed, spare_percent) in [0, 25, 40].into_iter().enumerate() {
        let choices = Random::new(seed as u64);
        let world = World {
            disk: SimDisk::new(choices.fork(), 40 * BLOCK_BYTES),
            directory: SimDirectory::new(choices.fork()),
            frames: Rc::default(),
            sent: Rc::default(),
            choices,
        };
        assert!(run(pin!(fill(&world, spare_percent)), None).is_some());
    }
}

/// What is described of tenants that come and go is there as long as they are known, and goes then.
async fn forget(world: &World) {
    let hasher = SeriesHasher::new([7; 16]);
    let (shard, checkpointer) = start(world, &hasher).await;
    let describe = |tenant: &str| {
        let head = shard.head.borrow();
        head.extras_mut().metadata.describe(tenant, "up", MetricKind::Gauge, "Is it?", "").unwrap();
    };
    let described = || shard.head.borrow().extras().metadata.tenants();
    ["knows", "silent"].into_iter().for_each(describe);
    let is_known = |tenant: &str| tenant == "knows";
    let turn = shard.maintenance.try_turn().unwrap();
    forget_tenants(&shard, is_known);
    assert_eq!(described().len(), 2, "an image that is made knows tenants by number");
    drop(turn);
    shard.set_state(ShardState::Recovering);
    forget_tenants(&shard, is_known);
    assert_eq!(described().len(), 2, "a replay brings series later");
    shard.set_state(ShardState::Serving);
    forget_tenants(&shard, |_| true);
    assert_eq!(described().len(), 2);
    forget_tenants(&shard, is_known);
    assert_eq!(described(), ["knows".into()]);
    describe("silent");
    assert_eq!(described().len(), 2, "it comes back");
    forget_tenants(&shard, is_known);
    {
        let (made, committing) = (pin!(checkpointer.make()), pin!(shard.commit_loop()));
        assert!(matches!(select(made, committing).await, Either::Left((Ok(()), _))));
    }
    drop((shard, checkpointer));
    let (shard, _) = start(world, &hasher).await;
    assert_eq!(shard.head.borrow().extras().metadata.tenants(), ["knows".into()], "also after a restart");
}

#[test]
fn metadata_of_a_tenant_that_nobody_knows_is_forgotten() {
    let choices = Random::new(1);
    let world = World {
        disk: SimDisk::new(choices.fork(), 40 * BLOCK_BYTES),
        directory: SimDirectory::new(choices.fork()),
        frames: Rc::default(),
        sent: Rc::default(),
        choices,
    };
    assert!(run(pin!(forget(&world)), None).is_some());
}

#[test]
fn exemplars_and_metadata_survive_every_crash() {
    let (mut lives, mut most) = (0, 0);
    for seed in 0..60 {
        let choices = Random::new(seed);
        let blocks = 24 + choices.below(40) as usize;
        let world = World {
            disk: SimDisk::new(choices.fork(), blocks * BLOCK_BYTES),
            directory: SimDirectory::new(choices.fork()),
            frames: Rc::default(),
            sent: Rc::default(),
            choices,
        };
        for _ in 0..6 {
            let steps = world.choices.below(6000);
            let _ = run(pin!(live(&world)), Some(steps));
            if world.choices.one_in(2) {
                world.disk.kill();
                world.directory.kill();
            } else {
                world.disk.cut_power();
                world.directory.cut_power();
            }
            lives += 1;
        }
        most = most.max(world.sent.borrow().acknowledged.len());
    }
    assert!(most > 3 * LIMITS.exemplars_max, "{most} acknowledged in one of {lives} lives");
}
