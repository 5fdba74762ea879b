//! Tests of the cutter over a head that crashes where it is told to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus_shards::Labels;
use annulus_shards::chunk::{AnyHistogram, Buckets, Encoding, Histogram, Span, Value, decode, decode_values};
use annulus_shards::core::HeadChunk;
use annulus_shards::head::{Head, Rules, SeriesKey, TimeWindows};
use bytes::Bytes;
use prometheus::Registry;

use super::cutter::{CutConfig, Cutter};
use super::fake::{Crash, FakeHead};
use super::metrics::CutMetrics;
use super::policy::Now;
use super::stop::{StopSignal, Stopper, stop_pair};
use crate::block::{BlockEntry, BlockList, BlockReader, verify};

/// The wall clock is past all samples of these tests.
const WALL_AHEAD_MS: i64 = 1 << 50;

const WINDOWS: TimeWindows = TimeWindows { block_ms: 1_000, out_of_order_ms: 500, future_ms: 0 };
const INTERVAL: Duration = Duration::from_secs(60);

/// A data directory, a head and the time, which outlive a cutter.
struct World {
    data_dir: tempfile::TempDir,
    head: FakeHead,
    now_ms: Arc<AtomicI64>,
    metrics: CutMetrics,
    told: Arc<Mutex<Vec<PathBuf>>>,
}

impl World {
    fn new() -> World {
        World {
            data_dir: tempfile::tempdir().unwrap(),
            head: FakeHead::new(WINDOWS),
            now_ms: Arc::new(AtomicI64::new(0)),
            metrics: CutMetrics::register(&Registry::new()),
            told: Arc::default(),
        }
    }

    /// A cutter of a process that has just started.
    fn start(&self) -> (Stopper, Cutter) {
        let (stopper, stop) = stop_pair();
        (stopper, self.start_with(stop, Box::new(|| {})))
    }

    fn start_with(&self, stop: StopSignal, on_block: Box<dyn Fn() + Send>) -> Cutter {
        let config = CutConfig {
            data_dir: self.data_dir.path().to_owned(),
            windows: WINDOWS,
            labels: BTreeMap::from(
                [("receive_replica", "0"), ("tenant_id", "x")].map(|(a, b)| (a.into(), b.into())),
            ),
            tenant_label: "tenant_id".to_owned(),
            interval: INTERVAL,
            memory_bytes: 1 << 10,
        };
        let (now_ms, told) = (Arc::clone(&self.now_ms), Arc::clone(&self.told));
        let clock = move || {
            let now_ms = now_ms.load(Ordering::Relaxed);
            Now { wall_ms: now_ms.saturating_add(WALL_AHEAD_MS), uptime_ms: now_ms }
        };
        let tell = move |block: &Path| {
            told.lock().unwrap().push(block.to_owned());
            on_block();
            Ok(())
        };
        let head = Box::new(self.head.clone());
        Cutter::open(config, head, Box::new(tell), self.metrics.clone(), stop, Box::new(clock)).unwrap()
    }

    /// Cuts until nothing is due, as a new process would.
    fn cut_all(&self) -> Duration {
        let (_stopper, mut cutter) = self.start();
        finish(&mut cutter)
    }

    fn folder(&self, tenant: &str) -> PathBuf {
        self.data_dir.path().join("blocks").join(tenant)
    }

    /// The blocks of a tenant, all of which are sound, and nothing else in their folder.
    fn blocks(&self, tenant: &str) -> Vec<BlockEntry> {
        let folder = self.folder(tenant);
        if !folder.exists() {
            return Vec::new();
        }
        let list = BlockList::open_all(&folder).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), list.blocks.len());
        for block in &list.blocks {
            let report = verify(&block.folder);
            assert!(report.is_sound(), "{report}");
        }
        list.blocks
    }

    /// Every sample in the blocks of a tenant and in its head, sorted.
    fn content(&self, tenant: &str) -> Vec<(Labels, i64, u64)> {
        let mut content = self.head.content(tenant);
        for block in self.blocks(tenant) {
            content.extend(samples_of(&block.folder));
        }
        content.sort();
        content
    }

    fn ranges(&self, tenant: &str) -> Vec<(i64, i64)> {
        self.blocks(tenant).iter().map(|block| (block.meta.min_ms, block.meta.max_ms)).collect()
    }
}

/// Every sample in a block.
pub fn samples_of(block: &Path) -> Vec<(Labels, i64, u64)> {
    let reader = BlockReader::open(block).unwrap();
    let (mut series, mut chunks) = (reader.index().series_reader(), reader.chunk_reader());
    let mut samples = Vec::new();
    for reference in reader.index().all_series().unwrap() {
        let read = series.read(reference).unwrap();
        for chunk in read.chunks {
            let chunk = chunks.read(chunk.place).unwrap();
            let add = |time_ms, value: f64| samples.push((read.labels.clone(), time_ms, value.to_bits()));
            decode(Encoding::from_byte(chunk.encoding).unwrap(), chunk.bytes, add).unwrap();
        }
    }
    samples
}

/// Runs rounds until one says that there is nothing more to do.
fn finish(cutter: &mut Cutter) -> Duration {
    let mut pauses = std::iter::repeat_with(|| cutter.round()).take(1_000);
    pauses.find(|pause| !pause.is_zero()).expect("the rounds come to an end")
}

fn labels(number: i64) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("pod", format!("pod-{number}").as_str())])
}

/// Seven series over three windows, with a late sample here and there.
fn fill(world: &World, tenant: &str) {
    for time_ms in (100..3_200).step_by(90) {
        for number in 0..7 {
            assert!(world.head.append(tenant, &labels(number), time_ms + number, time_ms as f64));
        }
        if time_ms % 4 == 0 && time_ms > 500 {
            assert!(world.head.append(tenant, &labels(3), time_ms - 405, -1.0));
        }
    }
}

#[test]
fn a_sample_of_an_older_window_that_comes_before_the_freeze_is_in_a_block() {
    let world = World::new();
    for time_ms in (2_100..6_000).step_by(90) {
        assert!(world.head.append("a", &labels(1), time_ms, 1.0));
    }
    world.head.state().late = Some((labels(2), 500, 7.0));
    let mut expected = world.content("a");
    expected.push((labels(2), 500, 7f64.to_bits()));
    expected.sort();
    world.cut_all();
    assert!(world.content("a") == expected, "the sample was dropped without being in a block");
    assert_eq!(world.ranges("a")[0], (0, 1_000));
}

#[test]
fn windows_become_blocks_and_leave_the_head() {
    let world = World::new();
    fill(&world, "a");
    let before = world.content("a");
    world.now_ms.store(5_000, Ordering::Relaxed);
    assert_eq!(world.cut_all(), INTERVAL);
    assert!(world.content("a") == before);
    assert_eq!(world.ranges("a"), [(0, 1_000), (1_000, 2_000)]);
    assert!(world.head.content("a").iter().all(|(_, time_ms, _)| *time_ms >= 2_000));
    let block = &world.blocks("a")[0];
    let thanos = block.meta.thanos.as_ref().unwrap();
    assert_eq!((block.meta.compaction.level, thanos.source.as_str()), (1, "receive"));
    let expected = [("receive_replica", "0"), ("tenant_id", "a")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(thanos.labels, BTreeMap::from(expected));
    assert_eq!((world.metrics.blocks.get(), world.metrics.failures.get()), (2, 0));
    assert_eq!(world.metrics.last_success_seconds.get(), (5_000 + WALL_AHEAD_MS) as f64 / 1000.0);
    assert_eq!(world.metrics.pending_windows.get(), 0);
    let folders: Vec<_> = world.blocks("a").into_iter().map(|block| block.folder).collect();
    assert_eq!(*world.told.lock().unwrap(), folders);
}

#[test]
fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
    let mut crashes = 0;
    for call in 1.. {
        for is_done in [false, true] {
            let world = World::new();
            fill(&world, "a");
            let before = world.content("a");
            world.head.state().crash = Some(Crash { call, is_done });
            let (stopper, mut cutter) = world.start();
            finish(&mut cutter);
            drop((cutter, stopper));
            crashes += world.metrics.failures.get();
            // What is in the head may be in a block as well, until the head drops it.
            let mut after = world.content("a");
            after.dedup();
            assert!(after == before, "call {call}");
            world.head.state().crash = None;
            world.cut_all();
            assert!(world.content("a") == before, "call {call}");
            assert_eq!(world.ranges("a"), [(0, 1_000), (1_000, 2_000)], "call {call}");
            if world.head.state().calls.len() < call {
                assert!(crashes > 20, "{crashes}");
                return;
            }
        }
    }
}

#[test]
fn an_end_right_after_the_block_only_leaves_the_truncation() {
    let world = World::new();
    fill(&world, "a");
    let (before, (stopper, stop)) = (world.content("a"), stop_pair());
    let stopper = Mutex::new(Some(stopper));
    let mut cutter = world.start_with(stop, Box::new(move || drop(stopper.lock().unwrap().take())));
    cutter.round();
    drop(cutter);
    assert_eq!(world.ranges("a"), [(0, 1_000)]);
    let block = world.blocks("a").remove(0).folder;
    world.head.state().calls.clear();
    world.cut_all();
    let expected = ["tenants", "freeze a 1000", "tenants", "truncate a 1000"];
    assert_eq!(world.head.state().calls[..4], expected);
    assert_eq!(world.told.lock().unwrap()[..2], [block.clone(), block]);
    assert!(world.content("a") == before);
}

#[test]
fn a_stopped_cut_leaves_nothing_behind_and_is_made_up_for() {
    let world = World::new();
    fill(&world, "a");
    let before = world.content("a");
    let (stopper, mut cutter) = world.start();
    let mut stopper = Some(stopper);
    world.head.state().on_page = Some(Box::new(move || drop(stopper.take())));
    cutter.round();
    drop(cutter);
    assert!(world.blocks("a").is_empty());
    assert_eq!(world.metrics.failures.get(), 0);
    assert!(!world.head.append("a", &labels(0), 999, 0.0), "the window stays frozen");
    world.head.state().on_page = None;
    world.cut_all();
    assert!(world.content("a") == before);
}

#[test]
fn what_a_killed_process_left_unfinished_is_removed() {
    let world = World::new();
    fill(&world, "a");
    let before = world.content("a");
    let unfinished = world.folder("a").join("01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("index"), "half").unwrap();
    world.cut_all();
    assert!(world.content("a") == before);
}

#[test]
fn an_idle_tenant_is_cut_to_its_end() {
    let world = World::new();
    fill(&world, "a");
    let before = world.content("a");
    let (_stopper, mut cutter) = world.start();
    finish(&mut cutter);
    assert_eq!(world.ranges("a").len(), 2);
    world.now_ms.store(3_000 + 1_000 + 500, Ordering::Relaxed);
    finish(&mut cutter);
    assert!(world.head.content("a").is_empty());
    assert!(world.content("a") == before);
    assert_eq!(world.ranges("a"), [(0, 1_000), (1_000, 2_000), (2_000, 3_000), (3_000, 4_000)]);
}

#[test]
fn a_gap_of_years_is_one_step() {
    let world = World::new();
    let late_ms = 1_700_000_000_000;
    for time_ms in [50, late_ms, late_ms + 10_000] {
        assert!(world.head.append("a", &labels(1), time_ms, 1.0));
    }
    let before = world.content("a");
    world.cut_all();
    assert_eq!(world.ranges("a"), [(0, 1_000), (late_ms, late_ms + 1_000)]);
    assert!(world.content("a") == before);
    let calls = world.head.state().calls.len();
    assert!(calls < 60, "{calls}");
}

#[test]
fn a_tenant_that_fails_does_not_hold_up_others_and_is_tried_less_often() {
    let world = World::new();
    fill(&world, "a");
    fill(&world, "b");
    let (_stopper, mut cutter) = world.start();
    let obstacle = world.folder("a");
    fs::write(&obstacle, "not a folder").unwrap();
    let seconds = |cutter: &mut Cutter| {
        let pause = finish(cutter);
        world.now_ms.fetch_add(pause.as_millis() as i64, Ordering::Relaxed);
        pause.as_secs()
    };
    // The interval is shorter than the later pauses; rounds without a try do not count.
    assert_eq!([seconds(&mut cutter), seconds(&mut cutter), seconds(&mut cutter)], [30, 60, 60]);
    assert_eq!(world.metrics.failures.get(), 3);
    seconds(&mut cutter);
    assert_eq!(world.metrics.failures.get(), 3);
    assert!(world.ranges("b").starts_with(&[(0, 1_000), (1_000, 2_000)]));
    assert_eq!(world.metrics.pending_windows.get(), 1);
    fs::remove_file(&obstacle).unwrap();
    for _ in 0..5 {
        seconds(&mut cutter);
    }
    assert!(world.ranges("a").starts_with(&[(0, 1_000), (1_000, 2_000)]));
}

#[test]
fn a_shard_that_does_not_answer_pauses_all() {
    let world = World::new();
    fill(&world, "a");
    let (_stopper, mut cutter) = world.start();
    let mut round = |call| {
        let mut state = world.head.state();
        state.crash = Some(Crash { call, is_done: false });
        state.calls.clear();
        drop(state);
        cutter.round().as_secs()
    };
    // At the look at all tenants, at a freeze, and at a stream.
    assert_eq!([1, 2, 3, 1, 1].map(&mut round), [30, 60, 120, 240, 300]);
    assert_eq!(round(1_000), 0);
    assert_eq!(round(1), 30);
    assert_eq!(world.metrics.failures.get(), 6);
}

#[test]
fn a_head_that_reads_its_log_is_waited_for() {
    let world = World::new();
    fill(&world, "a");
    let (_stopper, mut cutter) = world.start();
    world.head.state().is_recovering = true;
    assert_eq!(cutter.round().as_secs(), 1);
    assert_eq!(world.metrics.failures.get(), 0);
    world.head.state().is_recovering = false;
    assert!(cutter.round().is_zero());
}

#[test]
fn a_broken_chunk_is_counted_and_does_not_stop_the_block() {
    let world = World::new();
    fill(&world, "a");
    let before = world.content("a");
    let broken = HeadChunk::xor(200, 300, Bytes::from_static(b"\0\x09broken"));
    world.head.state().extra_chunk = Some(broken);
    world.cut_all();
    assert!(world.content("a") == before);
    assert_eq!(world.metrics.lost_chunks.get(), 7);
}

/// What a real head gives of a series of histograms: one chunk with a sample each 10 ms.
fn histograms(min_ms: i64, count: i64) -> HeadChunk {
    let (mut head, rules) = (Head::default(), Rules::replay(1 << 40));
    let series = head.create(SeriesKey(1), "a", &[("__name__", "x")]).unwrap();
    for number in 0..count {
        let positive = Buckets { spans: vec![Span { offset: 0, length: 2 }], values: vec![number, 1] };
        let count = 2 * number as u64 + 1;
        let histogram = Histogram { count, sum: number as f64, positive, ..Histogram::default() };
        let histogram = AnyHistogram::Integer(histogram);
        head.append_histogram(series, min_ms + number * 10, &histogram, &rules, &()).unwrap();
    }
    let mut chunks = head.read(&Arc::from("a"), series.0, i64::MIN, i64::MAX, false).unwrap().chunks;
    assert_eq!((chunks.len(), chunks[0].encoding), (1, Encoding::Histogram));
    chunks.remove(0)
}

#[test]
fn histograms_are_in_the_block_beside_floats_and_are_counted() {
    let world = World::new();
    fill(&world, "a");
    let floats = world.content("a").len() as u64;
    // Overlaps chunks of floats, so that both are decoded and encoded again.
    world.head.state().extra_chunk = Some(histograms(208, 12));
    world.cut_all();
    let stats: Vec<_> = world.blocks("a").into_iter().map(|block| block.meta.stats).collect();
    assert_eq!(stats.iter().map(|stats| stats.histogram_sample_count).sum::<u64>(), 7 * 12);
    let in_blocks: u64 = stats.iter().map(|stats| stats.sample_count - stats.histogram_sample_count).sum();
    assert_eq!(in_blocks + world.head.content("a").len() as u64, floats);
    let first = world.blocks("a").remove(0).folder;
    let reader = BlockReader::open(&first).unwrap();
    let (mut series, mut chunks) = (reader.index().series_reader(), reader.chunk_reader());
    for reference in reader.index().all_series().unwrap() {
        let mut sums = Vec::new();
        for chunk in series.read(reference).unwrap().chunks {
            let chunk = chunks.read(chunk.place).unwrap();
            decode_values(Encoding::from_byte(chunk.encoding).unwrap(), chunk.bytes, |time_ms, value| {
                if let Value::Histogram(histogram) = value {
                    sums.push((time_ms, histogram.sum));
                }
            })
            .unwrap();
        }
        let expected: Vec<_> = (0..12).map(|number| (208 + number * 10, number as f64)).collect();
        assert_eq!(sums, expected);
    }
    let promtool = Path::new("/usr/bin/promtool");
    if !promtool.exists() {
        println!("promtool is not installed");
        return;
    }
    fs::create_dir(world.folder("a").join("wal")).unwrap();
    let mut command = Command::new(promtool);
    let analysis = command.args(["tsdb", "analyze"]).arg(world.folder("a")).arg(first.file_name().unwrap());
    let analysis = analysis.output().unwrap();
    let text = String::from_utf8_lossy(&analysis.stdout);
    assert!(analysis.status.success() && text.contains("Series: 7"), "{analysis:?}");
}

#[test]
fn names_of_tenants_do_not_leave_the_folder() {
    let world = World::new();
    for tenant in ["..", ".tmp", "x/y", "01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp"] {
        fill(&world, tenant);
        world.head.append(tenant, &labels(0), 9_000, 0.0);
    }
    world.cut_all();
    // A second start tidies, and must not take a tenant for something unfinished.
    world.cut_all();
    for folder in ["%2E.", "%2Etmp", "x%2Fy", "01ARZ3NDEKTSV4RRFFQ69G5FAV%2Etmp"] {
        assert_eq!(world.ranges(folder).len(), 4, "{folder}");
    }
}
