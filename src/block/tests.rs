//! Tests of writer, reader and verification together.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use annulus_shards::matcher::MatchOp;
use annulus_shards::{Labels, Matcher};
use proptest::prelude::*;

use super::format::{AGGREGATES, HISTOGRAM, XOR, XOR2};
use super::samples::{Content, MAX_MS, MIN_MS, any_content, encode, read, tight, ulid, write};
use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn some_content(series_count: i64) -> Content {
    (0..series_count)
        .map(|number| {
            let pod = format!("pod-{number:05}");
            let labels =
                labels(&[("__name__", "up"), ("job", ["api", "node"][number as usize % 2]), ("pod", &pod)]);
            (labels, vec![vec![(number, 1.0), (number + 15_000, 2.0)], vec![(number + 30_000, 0.5)]])
        })
        .collect()
}

/// The files of a block, by path.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in [folder.to_owned(), folder.join("chunks")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Everything that can be read of a block; errors are fine.
fn use_block(folder: &Path) {
    let report = verify(folder);
    let _ = report.to_string();
    let _ = BlockList::open_all(folder.parent().unwrap()).unwrap();
    let Ok(block) = BlockReader::open(folder) else { return };
    for name in block.index().label_names() {
        let _ = block.index().label_values(name);
        for pattern in ["a.*", "a|b|pod-00003", ""] {
            for op in [MatchOp::Regex, MatchOp::NotRegex] {
                let _ = block.index().postings(&[Matcher::new(op, name, pattern).unwrap()], &|| true);
            }
        }
    }
    let (mut series, mut chunks) = (block.index().series_reader(), block.chunk_reader());
    for reference in
        block.index().all_series().into_iter().flatten().chain([SeriesRef(u32::MAX), SeriesRef(0)])
    {
        for chunk in series.read(reference).into_iter().flat_map(|series| series.chunks) {
            let _ = chunks.read(chunk.place);
        }
    }
    let _ = chunks.read(ChunkPlace::from_number(u64::MAX));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_block_gives_back_what_was_written(content in any_content(60), small: bool) {
        let parent = tempfile::tempdir().unwrap();
        let options = if small { tight() } else { WriterOptions::default() };
        let meta = write(parent.path(), ulid(1), &content, options);
        prop_assert_eq!(meta.is_none(), content.is_empty());
        let Some(meta) = meta else {
            prop_assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
            return Ok(());
        };
        let folder = parent.path().join(meta.ulid.to_string());
        let block = BlockReader::open(&folder).unwrap();
        prop_assert_eq!(block.meta(), &meta);
        prop_assert_eq!(&read(&block), &content);
        let report = verify(&folder);
        prop_assert!(report.is_sound(), "{}", report);
        prop_assert_eq!(&report.counted, &meta.stats);

        let mut values: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
        for (name, value) in content.keys().flat_map(Labels::iter) {
            values.entry(name).or_default().insert(value);
        }
        prop_assert!(block.index().label_names().eq(values.keys().copied()));
        for (name, values) in values {
            prop_assert!(block.index().label_values(name).unwrap().iter().eq(values));
        }
        prop_assert_eq!(block.index().label_values("no such label").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn matchers_find_what_a_scan_finds(
        content in any_content(60),
        conditions in proptest::collection::vec(
            (0usize..4, prop_oneof![Just("__name__".to_owned()), "[a-e]"], prop_oneof![
                "[a-c]{0,2}", Just(".*".to_owned()), Just(".+".to_owned()), Just("a.*".to_owned()),
                Just("a|bb|c".to_owned()), Just("a|".to_owned()), Just("1[0-5]*".to_owned()), Just("(a|b).?".to_owned()),
            ]), 0..4),
    ) {
        prop_assume!(!content.is_empty());
        let parent = tempfile::tempdir().unwrap();
        let meta = write(parent.path(), ulid(1), &content, tight()).unwrap();
        let block = BlockReader::open(&parent.path().join(meta.ulid.to_string())).unwrap();
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        let matchers: Vec<_> =
            conditions.into_iter().map(|(op, name, value)| Matcher::new(ops[op], name, value).unwrap()).collect();
        let expected: Vec<_> = content.keys()
            .filter(|labels| matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or(""))))
            .collect();
        let references = block.index().postings(&matchers, &|| true).unwrap();
        let mut series = block.index().series_reader();
        let found: Vec<_> = references.iter().map(|reference| series.read(*reference).unwrap().labels).collect();
        prop_assert!(found.iter().eq(expected.iter().copied()), "{:?}: {:?}", matchers, found);
        let values: std::collections::BTreeSet<_> = expected.iter().filter_map(|labels| labels.get("a")).collect();
        prop_assert!(block.index().label_values_of("a", &references).unwrap().iter().eq(values));
    }

    #[test]
    fn a_changed_byte_is_found_and_stops_nobody(content in any_content(12), at: prop::sample::Index, with in 1u8..) {
        prop_assume!(!content.is_empty());
        let parent = tempfile::tempdir().unwrap();
        let meta = write(parent.path(), ulid(1), &content, tight()).unwrap();
        let folder = parent.path().join(meta.ulid.to_string());
        let files: Vec<_> = files(&folder).into_iter().filter(|(path, _)| !path.ends_with("meta.json")).collect();
        let (path, mut bytes) = files[at.index(files.len())].clone();
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        fs::write(&path, &bytes).unwrap();
        use_block(&folder);
        // The padding of segments and of the index is the only thing that no checksum covers.
        let padding = if path.ends_with("index") { true } else { (5..8).contains(&at) };
        prop_assert!(padding || !verify(&folder).is_sound(), "{} {at}", path.display());
    }

    #[test]
    fn a_cut_file_is_found_and_stops_nobody(content in any_content(12), at: prop::sample::Index) {
        prop_assume!(!content.is_empty());
        let parent = tempfile::tempdir().unwrap();
        let meta = write(parent.path(), ulid(1), &content, tight()).unwrap();
        let folder = parent.path().join(meta.ulid.to_string());
        let files: Vec<_> = files(&folder).into_iter().collect();
        let (path, bytes) = &files[at.index(files.len())];
        fs::write(path, &bytes[..at.index(bytes.len())]).unwrap();
        use_block(&folder);
        // The last byte of `meta.json` is the end of its line.
        let whole = path.ends_with("meta.json") && at.index(bytes.len()) + 1 == bytes.len();
        prop_assert!(whole || !verify(&folder).is_sound());
    }
}

#[test]
fn every_changed_byte_of_an_index_is_found_or_is_padding() {
    let parent = tempfile::tempdir().unwrap();
    let meta = write(parent.path(), ulid(1), &some_content(5), WriterOptions::default()).unwrap();
    let folder = parent.path().join(meta.ulid.to_string());
    let path = folder.join("index");
    let whole = fs::read(&path).unwrap();
    let mut unseen = Vec::new();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, &bytes).unwrap();
        use_block(&folder);
        if verify(&folder).is_sound() {
            unseen.push(at);
        }
    }
    assert!(unseen.iter().all(|at| whole[*at] == 0), "{unseen:?}");
    assert!(unseen.len() < 15 * 6 + 4, "{unseen:?}");
}

#[test]
fn many_series_take_long_lists_and_many_runs() {
    let parent = tempfile::tempdir().unwrap();
    let content: Content = some_content(20_000).into_iter().map(|(l, c)| (l, c[..1].to_vec())).collect();
    let options = WriterOptions { memory_bytes: 100_000, segment_bytes_max: 50_000 };
    let meta = write(parent.path(), ulid(1), &content, options).unwrap();
    let folder = parent.path().join(meta.ulid.to_string());
    let report = verify(&folder);
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.counted.series_count, report.counted.sample_count), (20_000, 40_000));
    let thanos = meta.thanos.unwrap();
    assert!(thanos.files.len() > 10 && thanos.files.is_sorted_by(|a, b| a.path < b.path));
    assert!(thanos.index_stats.series_bytes_max >= 32 && thanos.index_stats.chunk_bytes_max < 40);
    let block = BlockReader::open(&folder).unwrap();
    let count = |op, value: &str| {
        let matcher = Matcher::new(op, "pod", value).unwrap();
        block.index().postings(&[matcher], &|| true).unwrap().len()
    };
    assert_eq!(count(MatchOp::Equal, "pod-00777"), 1);
    assert_eq!(count(MatchOp::Regex, "pod-0077."), 10);
    assert_eq!(count(MatchOp::NotRegex, "pod-0.*"), 10_000);
    let looks = std::cell::Cell::new(0);
    let nobody_waits_after_ten = || looks.replace(looks.get() + 1) < 10;
    let any = [Matcher::new(MatchOp::Regex, "pod", "pod-[0-9]+").unwrap()];
    assert_eq!(block.index().postings(&any, &nobody_waits_after_ten).unwrap().len(), 10);
    assert_eq!(looks.get(), 11, "no value is compared once nobody waits");
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "no spool stays: {names:?}");
}

#[test]
fn what_is_refused_leaves_the_block_as_it_was() {
    let parent = tempfile::tempdir().unwrap();
    let meta = BlockMeta::from_head(ulid(1), MIN_MS, MAX_MS);
    let mut writer = BlockWriter::create(parent.path(), meta, WriterOptions::default()).unwrap();
    let bytes = encode(&vec![(10, 1.0), (20, 2.0)]);
    let chunk = ChunkIn { min_ms: 10, max_ms: 20, encoding: XOR, bytes: &bytes };
    let b = labels(&[("b", "1")]);
    writer.append(&b, &[chunk, ChunkIn { min_ms: 21, max_ms: 31, ..chunk }]).unwrap();
    let later = labels(&[("c", "1")]);
    let mut refused = |labels: &Labels, chunks: &[ChunkIn<'_>]| writer.append(labels, chunks).unwrap_err();
    assert!(matches!(refused(&b, &[chunk]), WriteError::SeriesOrder { .. }));
    assert!(matches!(refused(&labels(&[("a", "2")]), &[chunk]), WriteError::SeriesOrder { .. }));
    assert!(matches!(refused(&Labels::empty(), &[chunk]), WriteError::Labels { .. }));
    for pairs in
        [[("d", "1"), ("c", "1")], [("c", "1"), ("c", "2")], [("c", ""), ("d", "1")], [("", "1"), ("d", "1")]]
    {
        assert!(
            matches!(refused(&Labels::from_sorted(pairs), &[chunk]), WriteError::Labels { .. }),
            "{pairs:?}"
        );
    }
    assert!(matches!(
        refused(&later, &[chunk, chunk]),
        WriteError::ChunkOrder { min_ms: 10, last_max_ms: 20, .. }
    ));
    for (min_ms, max_ms) in [(20, 10), (MIN_MS - 1, 10), (10, MAX_MS)] {
        let outside = ChunkIn { min_ms, max_ms, ..chunk };
        assert!(matches!(refused(&later, &[outside]), WriteError::ChunkTimes { .. }));
    }
    for (encoding, bytes) in
        [(XOR, &[0, 0, 1][..]), (XOR, &[1]), (XOR2, &bytes), (0, &bytes), (AGGREGATES, &[0])]
    {
        assert!(matches!(refused(&later, &[ChunkIn { encoding, bytes, ..chunk }]), WriteError::Chunk { .. }));
    }
    writer.append(&later, &[]).unwrap();
    let histogram = ChunkIn { encoding: HISTOGRAM, bytes: &[0, 7, 0], ..chunk };
    writer.append(&later, &[histogram]).unwrap();
    let stats = writer.finish().unwrap().unwrap().stats;
    assert_eq!(
        stats,
        BlockStats {
            sample_count: 11,
            float_sample_count: 4,
            histogram_sample_count: 7,
            series_count: 2,
            chunk_count: 3,
            tombstone_count: 0
        }
    );
}

#[test]
fn a_dropped_writer_leaves_nothing_and_a_crash_leaves_what_can_be_removed() {
    let parent = tempfile::tempdir().unwrap();
    let meta = BlockMeta::from_head(ulid(1), MIN_MS, MAX_MS);
    let writer = BlockWriter::create(parent.path(), meta.clone(), WriterOptions::default()).unwrap();
    let name = format!("{}.tmp", meta.ulid);
    assert!(parent.path().join(&name).is_dir());
    assert!(BlockWriter::create(parent.path(), meta.clone(), WriterOptions::default()).is_err());
    assert!(BlockList::open_all(parent.path()).unwrap().broken.is_empty());
    std::mem::forget(writer);
    for other in ["wal", "x.tmp", "01K3W3Q6C0Z8S5X0V4N2T7H9JM", "01K3W3Q6C0Z8S5X0V4N2T7H9JM.tmp-for-deletion"]
    {
        fs::create_dir(parent.path().join(other)).unwrap();
    }
    let removed = remove_unfinished(parent.path()).unwrap();
    assert_eq!(removed, [name.as_str(), "01K3W3Q6C0Z8S5X0V4N2T7H9JM.tmp-for-deletion"]);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 3);
    drop(BlockWriter::create(parent.path(), meta.clone(), WriterOptions::default()).unwrap());
    assert!(!parent.path().join(&name).exists());
    write(parent.path(), meta.ulid, &some_content(1), tight()).unwrap();
    let error = BlockWriter::create(parent.path(), meta, WriterOptions::default()).err().unwrap();
    assert!(error.to_string().contains("exists"), "{error}");
}

#[test]
fn a_list_has_the_whole_blocks_by_time_and_names_the_broken_ones() {
    let parent = tempfile::tempdir().unwrap();
    let folder = |number| parent.path().join(ulid(number).to_string());
    for number in 1..=6 {
        write(parent.path(), ulid(number), &some_content(3), tight()).unwrap();
    }
    fs::write(folder(1).join("meta.json"), "{").unwrap();
    fs::remove_file(folder(2).join("index")).unwrap();
    fs::remove_file(folder(3).join("chunks/000001")).unwrap();
    fs::rename(folder(4), folder(7)).unwrap();
    fs::create_dir(folder(8)).unwrap();
    fs::write(folder(9), "not a folder").unwrap();
    let list = BlockList::open_all(parent.path()).unwrap();
    let names: Vec<_> = list.blocks.iter().map(|block| block.meta.ulid).collect();
    assert_eq!(names, [ulid(5), ulid(6)]);
    let broken: Vec<_> = list.broken.iter().map(|broken| broken.folder.clone()).collect();
    assert_eq!(broken, [folder(1), folder(2), folder(3), folder(7), folder(8)]);
    assert!(list.broken[3].error.to_string().contains("its folder is"), "{}", list.broken[3].error);
    assert!(BlockList::open_all(&parent.path().join("none")).is_err());
}

#[test]
fn verification_finds_what_checksums_do_not_show() {
    let parent = tempfile::tempdir().unwrap();
    let bytes = encode(&vec![(10, 1.0), (20, 2.0)]);
    let meta = BlockMeta::from_head(ulid(1), MIN_MS, MAX_MS);
    let mut writer = BlockWriter::create(parent.path(), meta, WriterOptions::default()).unwrap();
    let chunk = ChunkIn { min_ms: 10, max_ms: 25, encoding: XOR, bytes: &bytes };
    writer.append(&labels(&[("a", "1")]), &[chunk]).unwrap();
    let mut meta = writer.finish().unwrap().unwrap();
    let folder = parent.path().join(meta.ulid.to_string());
    let report = verify(&folder);
    assert!(report.to_string().contains("its samples are from 10 to 20"), "{report}");
    assert_eq!(report.finding_count, 1);
    (meta.max_ms, meta.stats.series_count, meta.stats.sample_count) = (25, 2, 3);
    fs::write(folder.join("meta.json"), meta.to_json()).unwrap();
    let report = verify(&folder).to_string();
    for part in ["outside the block", "numSeries 2, there are 1", "numSamples 3, there are 2"] {
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn verification_compares_the_postings_with_the_series() {
    let parent = tempfile::tempdir().unwrap();
    let meta = write(parent.path(), ulid(1), &some_content(6), WriterOptions::default()).unwrap();
    let folder = parent.path().join(meta.ulid.to_string());
    let block = BlockReader::open(&folder).unwrap();
    let jobs = |value: &str| {
        let matchers = [Matcher::new(MatchOp::Equal, "job", value).unwrap()];
        block
            .index()
            .postings(&matchers, &|| true)
            .unwrap()
            .iter()
            .flat_map(|series| series.0.to_be_bytes())
            .collect::<Vec<_>>()
    };
    let (api, node) = (jobs("api"), jobs("node"));
    let mut bytes = fs::read(folder.join("index")).unwrap();
    let at = bytes.windows(api.len()).rposition(|window| window == api).unwrap();
    // The last series of the one list takes the place of the last of the other; the checksum is right.
    bytes[at + 8..at + 12].copy_from_slice(&node[8..]);
    let crc = crc32c::crc32c(&bytes[at - 4..at + 12]);
    bytes[at + 12..at + 16].copy_from_slice(&crc.to_be_bytes());
    fs::write(folder.join("index"), bytes).unwrap();
    let report = verify(&folder);
    assert!(matches!(&report.findings[..], [Finding::Postings { name }] if name == "job"), "{report}");
}

/// A file in a bucket: it counts requests, and can be cut off.
struct Remote {
    bytes: bytes::Bytes,
    reads: Arc<AtomicUsize>,
    short: bool,
}

impl RangeRead for Remote {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_range(&self, offset: u64, length: u64) -> io::Result<bytes::Bytes> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.read_range(offset, length - u64::from(self.short))
    }
}

#[test]
fn a_block_is_read_by_few_ranges_and_a_short_answer_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    let meta = write(parent.path(), ulid(1), &some_content(2_000), WriterOptions::default()).unwrap();
    let folder = parent.path().join(meta.ulid.to_string());
    let reads = Arc::new(AtomicUsize::new(0));
    let open = |short| {
        let file = |name: &str| NamedFile {
            name: name.to_owned(),
            file: Remote {
                bytes: fs::read(folder.join(name)).unwrap().into(),
                reads: Arc::clone(&reads),
                short,
            },
        };
        BlockReader::new(meta.clone(), file("index"), vec![file("chunks/000001")])
    };
    let block = open(false).unwrap();
    assert_eq!(reads.swap(0, Ordering::Relaxed), 5, "two headers, the table of contents, two sections");
    let (mut series, mut chunks) = (block.index().series_reader(), block.chunk_reader());
    let mut chunk_count = 0;
    for reference in block.index().all_series().unwrap() {
        for chunk in series.read(reference).unwrap().chunks {
            chunks.read(chunk.place).unwrap();
            chunk_count += 1;
        }
    }
    assert_eq!(chunk_count, 4_000);
    assert!(reads.load(Ordering::Relaxed) < 40, "{reads:?} reads");
    assert!(matches!(open(true), Err(BlockError::Io { .. })));
}

#[test]
fn an_index_of_format_1_is_refused_by_its_name() {
    let parent = tempfile::tempdir().unwrap();
    let meta = write(parent.path(), ulid(1), &some_content(3), tight()).unwrap();
    let folder = parent.path().join(meta.ulid.to_string());
    let mut bytes = fs::read(folder.join("index")).unwrap();
    bytes[4] = 1;
    fs::write(folder.join("index"), bytes).unwrap();
    let error = BlockReader::open(&folder).unwrap_err().to_string();
    assert!(error.contains("index: at byte 4: the index has format 1"), "{error}");
}
