//! The bare data path, piece by piece: what a sample costs before there is any network or scheduling.

use std::hint::black_box;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use annulus_shards::chunk::XorAppender;
use annulus_shards::rt::{RingFile, ShardDirectory, allowed_cpus, preflight, prepare_directory, spawn_shard};
use annulus_shards::wal::Wal;
use annulus_shards::wire::{SeriesHasher, Skimmer, Unsnappy, canonical_label_bytes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Samples of one request, each of a series of its own.
const SAMPLES: u64 = 2000;

/// A prometheus.WriteRequest of series with 12 labels.
fn request() -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..SAMPLES {
        let instance = format!("10.0.{}.{}:9100", number / 250, number % 250);
        let pod = format!("payments-api-7d9f8c6b5d-{number:05}");
        let labels = [
            ("__name__", "http_server_request_duration_seconds_count"),
            ("cluster", "bench-eu-west-1"),
            ("code", "200"),
            ("container", "payments-api"),
            ("endpoint", "http-metrics"),
            ("environment", "production"),
            ("instance", instance.as_str()),
            ("job", "payments-api"),
            ("method", "GET"),
            ("namespace", "payments"),
            ("pod", pod.as_str()),
            ("route", "/api/v2/orders/{id}"),
        ];
        let mut series = canonical_label_bytes(&labels);
        series.extend([0x12, 16, 0x09]);
        series.extend((number as f64).to_le_bytes());
        series.push(0x10);
        // 1,750,000,000,000 ms as a varint of six bytes.
        series
            .extend((0..6).map(|at| (1_750_000_000_000u64 >> (7 * at)) as u8 & 0x7f | u8::from(at < 5) << 7));
        body.push(0x0a);
        body.extend([series.len() as u8 & 0x7f | 0x80, (series.len() >> 7) as u8]);
        body.extend(series);
    }
    body
}

fn decode(criterion: &mut Criterion) {
    let body = request();
    let compressed = snap::raw::Encoder::new().compress_vec(&body).expect("a request compresses");
    let hasher = SeriesHasher::new([7; 16]).tenant("default-tenant");
    let mut group = criterion.benchmark_group("request of 2000 samples");
    group.throughput(Throughput::Elements(SAMPLES));
    let mut out = Vec::new();
    group.bench_function("snappy", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut step = Unsnappy::new(black_box(&compressed), 64 << 20).expect("a valid block");
            while !step.run(&compressed, &mut out, 128 << 10).expect("a valid block") {}
        });
    });
    let mut plain = vec![0; body.len()];
    group.bench_function("snappy by the snap crate", |bencher| {
        bencher.iter(|| snap::raw::Decoder::new().decompress(black_box(&compressed), &mut plain));
    });
    let mut rows = Vec::new();
    group.bench_function("skim and key", |bencher| {
        bencher.iter(|| {
            rows.clear();
            let done = Skimmer::default().run(black_box(&body), &hasher, &mut rows, usize::MAX);
            assert_eq!((done, rows.len() as u64), (Ok(true), SAMPLES));
        });
    });
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk of 120 samples");
    group.throughput(Throughput::Elements(120));
    group.bench_function("append a counter", |bencher| {
        bencher.iter(|| {
            let mut chunk = XorAppender::default();
            for number in 0..120i64 {
                chunk.append(1_750_000_000_000 + number * 15_000, (number * 37) as f64);
            }
            black_box(chunk.seal())
        });
    });
    group.finish();
}

/// Durable writes of one frame after another, at queue depth 1.
fn commit(criterion: &mut Criterion) {
    if let Err(error) = preflight(1) {
        eprintln!("the commits are left out: {error}");
        return;
    }
    let mut group = criterion.benchmark_group("WAL commit");
    for payload_bytes in [4000usize, 64_000] {
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        group.bench_function(format!("{payload_bytes} bytes"), |bencher| {
            bencher.iter_custom(|count| commits(payload_bytes, count));
        });
    }
    group.finish();
}

fn commits(payload_bytes: usize, count: u64) -> Duration {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (path, (took, duration)) = (directory.path().to_owned(), mpsc::channel());
    let run = move || async move {
        prepare_directory(&path, 0).await.expect("direct I/O");
        let ring = RingFile::create(&path.join("wal"), 64 << 20).await.expect("room for a ring");
        let files = ShardDirectory::new(path);
        let visit = |_, _: &[u8]| Ok::<(), std::io::Error>(());
        let (wal, _) = Wal::open(ring, &files, 0, None, visit).await.expect("a new ring");
        let payload = vec![7; payload_bytes];
        let mut spent = Duration::ZERO;
        for _ in 0..count {
            if !wal.fits(payload.len()) {
                wal.release(wal.durable_seq() + 1).await.expect("a durable superblock");
            }
            let began = Instant::now();
            wal.commit(&payload).await.expect("a durable frame");
            spent += began.elapsed();
        }
        took.send(spent).expect("the bench waits");
    };
    let executor = spawn_shard("bench", allowed_cpus()[0], run).expect("an executor");
    let spent = duration.recv().expect("the executor sends before it ends");
    executor.join().expect("the executor ends in order");
    spent
}

criterion_group!(benches, decode, append, commit);
criterion_main!(benches);
