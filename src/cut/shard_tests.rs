//! The cutter over real shards: their files, their executors, a restart.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus_shards::Labels;
use annulus_shards::chunk::decode;
use annulus_shards::core::{IngestRules, Node, NodeConfig, ReadRequest, Readiness, load_chunks};
use annulus_shards::head::TimeWindows;
use annulus_shards::rt::preflight;
use futures::executor::block_on;
use prometheus::Registry;
use prost::Message;

use super::tests::samples_of;
use super::{CutConfig, CutMetrics, CutThread};
use crate::block::verify;

const WINDOWS: TimeWindows = TimeWindows { block_ms: 7_200_000, out_of_order_ms: 1_800_000, future_ms: 0 };
const TENANT: &str = "team-a";
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    time_ms: i64,
}

fn start_node(data_dir: &Path) -> Node {
    let config = NodeConfig {
        data_dir: data_dir.to_owned(),
        shards: Some(2),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ring_bytes: 16 << 20,
        body_bytes_max: 1 << 20,
        decoded_bytes_max: 8 << 20,
        inflight_bytes_max: 64 << 20,
        connections_max: None,
        receive_timeout: Duration::from_secs(2),
        head_bytes_max: 1 << 30,
        extras: Default::default(),
        windows: WINDOWS,
        free_bytes_min: 0,
        tenant_header: "THANOS-TENANT".to_owned(),
        default_tenant: TENANT.to_owned(),
        rules: IngestRules::default(),
        otlp: Default::default(),
    };
    let node = Node::start(config, Registry::new()).unwrap();
    wait_until(|| node.handle().readiness() == Readiness::Ready);
    node
}

fn wait_until(is_done: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

/// Writes eight hours of 60 series, with a late sample of each in every half hour.
fn write_eight_hours(node: &Node) {
    let label = |name: &str, value: String| Label { name: name.to_owned(), value };
    let sample = |minute: i64| Sample { value: (minute % 7) as f64, time_ms: minute * 60_000 };
    let one = |number: i64, samples| {
        let labels = vec![label("__name__", "up".to_owned()), label("pod", format!("pod-{number}"))];
        TimeSeries { labels, samples }
    };
    for half_hour in 0..16 {
        let minutes = half_hour * 30..(half_hour + 1) * 30;
        let in_order = (0..60).map(|number| one(number, minutes.clone().map(sample).collect()));
        let late = Sample { value: -1.0, time_ms: minutes.start * 60_000 + 30_000 };
        let late = (0..60).map(|number| one(number, vec![late.clone()]));
        for series in [in_order.collect(), late.collect()] {
            let request = WriteRequest { series };
            let answer = block_on(node.handle().write(TENANT, request.encode_to_vec()));
            assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
        }
    }
}

/// Every sample in the head.
fn head(node: &Node) -> Vec<(Labels, i64, u64)> {
    let request = ReadRequest {
        tenants: Vec::new(),
        matchers: Vec::new(),
        min_ms: i64::MIN,
        max_ms: i64::MAX,
        skip_chunks: false,
    };
    let mut series = block_on(node.handle().select(request, 1 << 30)).unwrap();
    load_chunks(&mut series).unwrap();
    let mut samples = Vec::new();
    for one in series {
        for chunk in one.chunks {
            let add = |time_ms, value: f64| samples.push((one.labels.clone(), time_ms, value.to_bits()));
            decode(chunk.encoding, chunk.bytes.loaded().unwrap(), add).unwrap();
        }
    }
    samples
}

/// Of eight hours, three windows are due; the fourth is not over.
fn cut_three_windows(node: &Node, data_dir: &Path) -> (CutMetrics, Vec<PathBuf>) {
    let config = CutConfig {
        data_dir: data_dir.to_owned(),
        windows: WINDOWS,
        labels: BTreeMap::from([("receive_replica".to_owned(), "0".to_owned())]),
        tenant_label: "tenant_id".to_owned(),
        interval: PATIENCE,
        memory_bytes: 16 << 10,
    };
    let (tell, told) = flume::unbounded::<PathBuf>();
    let on_block = Box::new(move |block: &Path| Ok(tell.send(block.to_owned())?));
    let metrics = CutMetrics::register(&Registry::new());
    let cutter = CutThread::start(config, node.handle(), on_block, metrics.clone()).unwrap();
    let blocks: Vec<PathBuf> = (0..3).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    // A cut counts once the head has dropped what is in its block.
    wait_until(|| metrics.seconds.get_sample_count() == 3);
    assert!(cutter.stop(PATIENCE));
    (metrics, blocks)
}

#[test]
fn real_shards_give_their_windows_to_blocks_and_know_it_after_a_restart() {
    if let Err(error) = preflight(2) {
        eprintln!("left out: {error}");
        return;
    }
    let data_dir = tempfile::tempdir().unwrap();
    let node = start_node(data_dir.path());
    write_eight_hours(&node);
    let mut before = head(&node);
    before.sort();
    assert_eq!(before.len(), 60 * 16 * 31);

    let (metrics, blocks) = cut_three_windows(&node, data_dir.path());
    assert_eq!((metrics.blocks.get(), metrics.failures.get(), metrics.lost_chunks.get()), (3, 0, 0));
    let mut in_blocks = Vec::new();
    for block in &blocks {
        let report = verify(block);
        assert!(report.is_sound(), "{report}");
        in_blocks.extend(samples_of(block));
    }
    let all = |node: &Node| {
        let mut all = head(node);
        assert!(all.iter().all(|(_, time_ms, _)| *time_ms >= 3 * WINDOWS.block_ms));
        all.extend(in_blocks.iter().cloned());
        all.sort();
        all
    };
    assert!(all(&node) == before);
    node.stop(PATIENCE).unwrap();
    let node = start_node(data_dir.path());
    assert!(all(&node) == before);
    node.stop(PATIENCE).unwrap();
}

#[test]
fn damaged_chunks_of_the_log_are_left_out_and_the_block_is_made() {
    if let Err(error) = preflight(2) {
        eprintln!("left out: {error}");
        return;
    }
    let data_dir = tempfile::tempdir().unwrap();
    let node = start_node(data_dir.path());
    write_eight_hours(&node);
    let before = head(&node).len();
    // An orderly end brings all closed chunks into the log.
    node.stop(PATIENCE).unwrap();
    let node = start_node(data_dir.path());
    assert_eq!(head(&node).len(), before);
    let mut damaged = 0;
    for shard in fs::read_dir(data_dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        let files = fs::read_dir(shard).into_iter().flatten().map(|entry| entry.unwrap().path());
        for file in files.filter(|file| file.to_string_lossy().contains("chunks-")) {
            let file = fs::File::options().read(true).write(true).open(file).unwrap();
            let at = file.metadata().unwrap().len() / 2;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[!byte[0]], at).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let (metrics, blocks) = cut_three_windows(&node, data_dir.path());
    assert_eq!((metrics.blocks.get(), metrics.failures.get()), (3, 0));
    let lost = metrics.lost_chunks.get();
    assert!((1..=damaged).contains(&lost), "{lost} chunks of {damaged} files");
    assert!(blocks.iter().all(|block| verify(block).is_sound()));
    node.stop(PATIENCE).unwrap();
}
