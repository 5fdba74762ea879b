//! Series and samples for the tests of blocks.

use std::collections::BTreeMap;
use std::path::Path;

use annulus_shards::Labels;
use annulus_shards::chunk::{Encoding, XorAppender, decode};
use proptest::prelude::*;

use super::format::XOR;
use super::{BlockMeta, BlockReader, BlockWriter, ChunkIn, LocalFile, ThanosMeta, Ulid, WriterOptions};

/// Samples of one chunk.
pub type Samples = Vec<(i64, f64)>;

/// The series of a block with their chunks.
pub type Content = BTreeMap<Labels, Vec<Samples>>;

/// The times of the blocks that the tests write.
pub const MIN_MS: i64 = -1_000_000;
pub const MAX_MS: i64 = 1_000_000_000;

/// A name that is the same in every run.
pub fn ulid(number: u128) -> Ulid {
    Ulid::from_parts(1_756_015_212_123, number)
}

/// Options with which small blocks get many segments and many sorted runs.
pub fn tight() -> WriterOptions {
    WriterOptions { memory_bytes: 600, segment_bytes_max: 300 }
}

/// A chunk of floats.
pub fn encode(samples: &Samples) -> Box<[u8]> {
    let mut appender = XorAppender::default();
    for (time_ms, value) in samples {
        appender.append(*time_ms, *value);
    }
    appender.seal()
}

/// Writes a block.
pub fn write(parent: &Path, ulid: Ulid, content: &Content, options: WriterOptions) -> Option<BlockMeta> {
    let mut meta = BlockMeta::from_head(ulid, MIN_MS, MAX_MS);
    meta.thanos = Some(ThanosMeta { version: 1, source: "receive".to_owned(), ..ThanosMeta::default() });
    let mut writer = BlockWriter::create(parent, meta, options).unwrap();
    for (labels, chunks) in content {
        let encoded: Vec<_> = chunks.iter().map(encode).collect();
        let chunks: Vec<_> = chunks
            .iter()
            .zip(&encoded)
            .map(|(samples, bytes)| ChunkIn {
                min_ms: samples[0].0,
                max_ms: samples[samples.len() - 1].0,
                encoding: XOR,
                bytes,
            })
            .collect();
        writer.append(labels, &chunks).unwrap();
    }
    writer.finish().unwrap()
}

/// Reads all of a block.
pub fn read(block: &BlockReader<LocalFile>) -> Content {
    let (mut series, mut chunks) = (block.index().series_reader(), block.chunk_reader());
    let mut content = Content::new();
    for reference in block.index().all_series().unwrap() {
        let read = series.read(reference).unwrap();
        let mut of_series = Vec::new();
        for meta in read.chunks {
            let chunk = chunks.read(meta.place).unwrap();
            assert_eq!(chunk.encoding, XOR);
            let mut samples = Samples::new();
            decode(Encoding::Xor, chunk.bytes, |time_ms, value| samples.push((time_ms, value))).unwrap();
            assert_eq!((samples[0].0, samples[samples.len() - 1].0), (meta.min_ms, meta.max_ms));
            of_series.push(samples);
        }
        content.insert(read.labels, of_series);
    }
    content
}

/// Random series: names that many share, values that many differ in, texts of any letters.
pub fn any_content(series_max: usize) -> impl Strategy<Value = Content> {
    let name = prop_oneof![Just("__name__".to_owned()), "[a-d]".prop_map(String::from), "\\PC{1,8}"];
    let value = prop_oneof!["[a-c]{1,2}", "[0-9]{1,5}", "\\PC{1,40}"];
    let labels = proptest::collection::btree_map(name, value, 1..5)
        .prop_map(|labels| Labels::from_pairs(labels.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
    let steps = proptest::collection::vec((1i64..100_000, any::<i32>()), 1..12);
    let chunks = (MIN_MS..1_000_000, proptest::collection::vec(steps, 1..4)).prop_map(|(start, chunks)| {
        let mut time_ms = start;
        let mut sample = |(step, value): (i64, i32)| {
            time_ms += step;
            (time_ms, f64::from(value))
        };
        chunks.into_iter().map(|steps| steps.into_iter().map(&mut sample).collect()).collect()
    });
    proptest::collection::btree_map(labels, chunks, 0..series_max)
}
