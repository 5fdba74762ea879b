//! Tests of the list of local blocks, and of reading them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use annulus_shards::MatchOp;
use futures::executor::block_on;

use super::error::ReadFailure;
use super::samples::*;
use super::scope::{Scope, StopOnDrop};
use super::*;
use crate::block::{Downsample, ThanosMeta};
use crate::source::held_bytes;
use crate::source::{SelectRequest, Source, SourceError, View, ViewSource, Warnings};

/// One series of a sample per 10 ms, in chunks of ten.
fn series(pairs: &[(&str, &str)], (min_ms, max_ms): (i64, i64)) -> Content {
    let samples: Samples = (min_ms..max_ms).step_by(10).map(|time_ms| (time_ms, time_ms as f64)).collect();
    Content::from([(labels(pairs), samples.chunks(10).map(<[_]>::to_vec).collect())])
}

/// A block of a tenant with the series `up`.
fn write_up(root: &Path, tenant: &str, number: u128, times: (i64, i64)) -> std::path::PathBuf {
    let content = series(&[("__name__", "up"), ("job", "a")], times);
    write(root, tenant, meta(number, times, block_labels(tenant)), &content)
}

fn source(blocks: &Arc<LocalBlocks>) -> BlockSource {
    BlockSource::new(Arc::clone(blocks), BYTES_MAX)
}

/// The source of a query that may do without what cannot be read.
fn partial(blocks: &Arc<LocalBlocks>, warnings: &Warnings) -> Arc<dyn ViewSource> {
    source(blocks).view(&View { partial: Some(warnings.clone()), ..View::default() })
}

fn times_of(blocks: &Arc<LocalBlocks>, times: (i64, i64)) -> Vec<i64> {
    let source = partial(blocks, &Warnings::default());
    let found = content(&select(source.as_ref(), vec![], times), times);
    let mut times: Vec<i64> = found.into_values().flatten().map(|(time_ms, _)| time_ms).collect();
    times.sort_unstable();
    times
}

/// Damages what is only read when a block is opened.
fn damage_symbols(folder: &Path) {
    let path = folder.join("index");
    let mut bytes = fs::read(&path).unwrap();
    bytes[14] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn blocks_are_read_for_the_times_that_they_cover() {
    let root = tempfile::tempdir().unwrap();
    write_up(root.path(), "a", 1, (0, 1_000));
    write_up(root.path(), "a", 2, (1_000, 2_000));
    let (blocks, registry) = open(root.path(), ReaderLimits::default());
    assert_eq!(times_of(&blocks, (970, 1_010)), [970, 980, 990, 1_000, 1_010]);
    assert_eq!(metric(&registry, "annulus_local_blocks_opened_total"), 2.0);
    let covering =
        |min_ms, max_ms| -> Vec<i64> { blocks.covering(min_ms, max_ms).iter().map(|b| b.min_ms).collect() };
    assert_eq!(covering(999, 999), [0]);
    assert_eq!(covering(1_000, 1_000), [1_000], "the end of a block is not in it");
    assert_eq!(covering(i64::MIN, i64::MAX), [0, 1_000]);
    assert!(covering(2_000, 9_000).is_empty());
}

#[test]
fn series_have_the_labels_that_their_block_names_and_lose_replica_labels() {
    let root = tempfile::tempdir().unwrap();
    let of_a = series(&[("__name__", "up"), ("region", "us"), ("replica", "1")], (0, 100));
    write(root.path(), "folder", meta(1, (0, 1_000), block_labels("a")), &of_a);
    // A block as Prometheus writes it.
    let bare = crate::block::BlockMeta { thanos: None, ..meta(2, (0, 1_000), Default::default()) };
    write(root.path(), "b", bare, &series(&[("__name__", "up")], (0, 100)));
    // One of another system, without a tenant's label, and with a label that sorts before all others.
    let foreign = [("Zone", "1"), ("empty", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    write(root.path(), "c", meta(3, (0, 1_000), foreign.into()), &series(&[("__name__", "up")], (0, 100)));
    let (blocks, registry) = open(root.path(), ReaderLimits::default());
    let all: Vec<String> = content(&select(&source(&blocks), vec![], (0, 99)), (0, 99)).into_keys().collect();
    assert_eq!(
        all,
        [
            r#"{"Zone": "1", "__name__": "up"}"#,
            r#"{"__name__": "up", "region": "eu", "tenant_id": "a"}"#,
            r#"{"__name__": "up", "region": "eu", "tenant_id": "b"}"#,
        ]
    );
    let count =
        |op, name: &str, value: &str| select(&source(&blocks), vec![matcher(op, name, value)], (0, 99)).len();
    assert_eq!(count(MatchOp::Equal, "tenant_id", "b"), 1);
    assert_eq!(count(MatchOp::NotEqual, "tenant_id", "b"), 2);
    assert_eq!(count(MatchOp::Equal, "region", "us"), 0);
    assert_eq!(count(MatchOp::Equal, "region", "eu"), 2);
    assert_eq!(count(MatchOp::Equal, "empty", ""), 3);
    // Hidden labels can still be asked for.
    assert_eq!(count(MatchOp::Equal, "replica", "1"), 1);
    assert_eq!(count(MatchOp::Equal, "receive_replica", "r0"), 2);
    assert_eq!(metric(&registry, "prometheus_tsdb_blocks_loaded"), 3.0);
}

#[test]
fn label_sets_that_hiding_makes_equal_are_one_series() {
    let root = tempfile::tempdir().unwrap();
    let mut both = series(&[("__name__", "up"), ("replica", "1")], (0, 500));
    both.extend(series(&[("__name__", "up"), ("replica", "2")], (5, 505)));
    write(root.path(), "a", meta(1, (0, 1_000), block_labels("a")), &both);
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    let found = select(&source(&blocks), vec![], (0, 999));
    assert_eq!(found.len(), 1);
    assert_eq!(content(&found, (0, 999)).into_values().next().unwrap().len(), 100);
}

#[test]
fn names_and_values_are_those_of_the_final_labels() {
    let root = tempfile::tempdir().unwrap();
    let mut of_a = series(&[("__name__", "up"), ("job", "x"), ("replica", "1")], (0, 100));
    for number in 0..1_500 {
        of_a.extend(series(&[("__name__", "many"), ("i", &format!("{number:04}"))], (0, 100)));
    }
    write(root.path(), "a", meta(1, (0, 1_000), block_labels("a")), &of_a);
    let of_b = series(&[("__name__", "up"), ("job", "y"), ("pod", "p")], (0, 100));
    write(root.path(), "b", meta(2, (1_000, 2_000), block_labels("b")), &{
        let shift = |(labels, _): (annulus_shards::Labels, _)| (labels, vec![vec![(1_500, 1.0)]]);
        of_b.into_iter().map(shift).collect()
    });
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    let source = source(&blocks);
    let names = |sets, max_ms| block_on(source.label_names(sets, 0, max_ms)).unwrap();
    let values = |name: &str, sets| block_on(source.label_values(name.to_owned(), sets, 0, 5_000)).unwrap();
    let up = || matcher(MatchOp::Equal, "__name__", "up");
    assert_eq!(names(vec![], 5_000), ["__name__", "i", "job", "pod", "region", "tenant_id"]);
    assert_eq!(names(vec![], 999), ["__name__", "i", "job", "region", "tenant_id"]);
    assert_eq!(names(vec![vec![up()]], 5_000), ["__name__", "job", "pod", "region", "tenant_id"]);
    assert!(names(vec![vec![matcher(MatchOp::Equal, "job", "z")]], 5_000).is_empty());
    assert_eq!(values("job", vec![]), ["x", "y"]);
    assert_eq!(values("job", vec![vec![up(), matcher(MatchOp::Equal, "tenant_id", "b")]]), ["y"]);
    assert_eq!(values("tenant_id", vec![]), ["a", "b"]);
    assert_eq!(values("tenant_id", vec![vec![matcher(MatchOp::Equal, "job", "x")]]), ["a"]);
    assert_eq!(values("i", vec![vec![matcher(MatchOp::Equal, "__name__", "many")]]).len(), 1_500);
    assert_eq!(values("i", vec![vec![matcher(MatchOp::Regex, "i", "000[12]")]]), ["0001", "0002"]);
    assert!(values("replica", vec![]).is_empty() && values("receive_replica", vec![]).is_empty());
}

#[test]
fn labels_alone_come_without_chunks() {
    let root = tempfile::tempdir().unwrap();
    write_up(root.path(), "a", 1, (0, 1_000));
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    let labels_only = |times| {
        let request = SelectRequest { skip_chunks: true, ..request(vec![], times) };
        block_on(source(&blocks).select(request)).unwrap()
    };
    assert!(labels_only((0, 9)).iter().all(|one| one.chunks.is_empty()));
    assert_eq!((labels_only((0, 9)).len(), labels_only((995, 999)).len()), (1, 0));
}

#[test]
fn a_broken_block_is_passed_over_and_counted_until_it_is_whole() {
    let root = tempfile::tempdir().unwrap();
    write_up(root.path(), "a", 1, (0, 1_000));
    let broken = write_up(root.path(), "a", 2, (1_000, 2_000));
    let meta = fs::read(broken.join("meta.json")).unwrap();
    fs::write(broken.join("meta.json"), "{").unwrap();
    let (blocks, registry) = open(root.path(), ReaderLimits::default());
    assert_eq!(metric(&registry, "annulus_local_blocks_broken"), 1.0);
    assert_eq!(times_of(&blocks, (980, 1_020)), [980, 990]);
    let told = Warnings::default();
    select(partial(&blocks, &told).as_ref(), vec![], (0, 1));
    assert_eq!(told.texts().len(), 1, "a block that says no times may have any");
    fs::write(broken.join("meta.json"), meta).unwrap();
    assert_eq!(blocks.scan().unwrap(), ScanReport { added: 1, removed: 0, broken: 0 });
    assert_eq!(times_of(&blocks, (980, 1_020)), [980, 990, 1_000, 1_010, 1_020]);
    assert_eq!(metric(&registry, "annulus_local_blocks_broken"), 0.0);
}

#[test]
fn a_block_that_cannot_be_opened_fails_every_query_of_its_times_that_may_not_be_partial() {
    let root = tempfile::tempdir().unwrap();
    write_up(root.path(), "a", 1, (0, 1_000));
    let folder = write_up(root.path(), "a", 2, (1_000, 2_000));
    let (blocks, registry) = open(root.path(), ReaderLimits::default());
    damage_symbols(&folder);
    let error = block_on(source(&blocks).select(request(vec![], (0, 5_000)))).unwrap_err();
    assert!(matches!(&error, SourceError::Corrupt(text) if text.contains(&ulid(2).to_string())), "{error}");
    assert_eq!(metric(&registry, "annulus_local_blocks_broken"), 1.0);
    for scan in [false, true] {
        if scan {
            let report = ScanReport { added: 0, removed: 0, broken: 1 };
            assert_eq!(blocks.scan().unwrap(), report, "it stays aside");
        }
        assert_eq!(times_of(&blocks, (980, 1_020)), [980, 990]);
        let strict = |times| block_on(source(&blocks).select(request(vec![], times)));
        assert!(matches!(strict((1_999, 5_000)), Err(SourceError::Corrupt(_))));
        assert_eq!(strict((0, 999)).unwrap().len(), 1, "the times of other blocks are whole");
        let names = block_on(source(&blocks).label_names(vec![], 1_000, 1_000));
        let values = block_on(source(&blocks).label_values("job".to_owned(), vec![], 1_000, 1_000));
        assert!(names.is_err() && values.is_err());
    }
    damage_symbols(&folder);
    assert_eq!(blocks.scan().unwrap().added, 1);
    assert_eq!(times_of(&blocks, (980, 1_020)).len(), 5);
}

#[test]
fn a_query_that_may_be_partial_is_told_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    write_up(root.path(), "a", 1, (0, 1_000));
    let folder = write_up(root.path(), "a", 2, (1_000, 2_000));
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    damage_symbols(&folder);
    for _ in 0..2 {
        let (told, untold) = (Warnings::default(), Warnings::default());
        assert_eq!(select(partial(&blocks, &told).as_ref(), vec![], (0, 1_500)).len(), 1);
        let texts = told.texts();
        assert!(texts.len() == 1 && texts[0].contains(&ulid(2).to_string()), "{texts:?}");
        let source = partial(&blocks, &told);
        assert!(!block_on(source.label_names(vec![], 0, 1_500)).unwrap().is_empty());
        assert_eq!(block_on(source.label_values("job".to_owned(), vec![], 0, 1_500)).unwrap(), ["a"]);
        select(partial(&blocks, &untold).as_ref(), vec![], (0, 999));
        assert!(untold.texts().is_empty());
    }
}

#[test]
fn a_query_may_see_the_labels_that_others_do_not() {
    let root = tempfile::tempdir().unwrap();
    let both = series(&[("__name__", "up"), ("replica", "1"), ("job", "a")], (0, 500));
    write(root.path(), "a", meta(1, (0, 1_000), block_labels("a")), &both);
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    let names = |hidden: &[&str]| {
        let hidden: Vec<String> = hidden.iter().map(|name| (*name).to_owned()).collect();
        let source = source(&blocks).view(&View { hidden_labels: Some(hidden.into()), ..View::default() });
        let found = select(source.as_ref(), vec![], (0, 999));
        let of_series: Vec<String> = found[0].labels.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(block_on(source.label_names(vec![], 0, 999)).unwrap(), of_series);
        of_series
    };
    assert_eq!(names(&[]), ["__name__", "job", "receive_replica", "region", "replica", "tenant_id"]);
    assert_eq!(names(&["job", "replica"]), ["__name__", "receive_replica", "region", "tenant_id"]);
}

#[test]
fn a_damaged_chunk_is_an_error_that_names_the_file() {
    let root = tempfile::tempdir().unwrap();
    let segment = write_up(root.path(), "a", 1, (0, 1_000)).join("chunks/000001");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[20] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    let error = block_on(source(&blocks).select(request(vec![], (0, 5_000)))).unwrap_err();
    assert!(matches!(&error, SourceError::Corrupt(text) if text.contains("chunks/000001")), "{error}");
}

#[test]
fn blocks_that_cannot_be_served_are_refused_with_a_reason() {
    let root = tempfile::tempdir().unwrap();
    let content = series(&[("__name__", "up")], (0, 100));
    let (blocks, registry) = open(root.path(), ReaderLimits::default());
    let mut downsampled = meta(1, (0, 1_000), block_labels("a"));
    let resolution = Downsample { resolution_ms: 300_000 };
    downsampled.thanos = Some(ThanosMeta { downsample: resolution, ..ThanosMeta::default() });
    let long = [("l".to_owned(), "x".repeat(annulus_shards::labels::LABEL_BYTES_MAX + 1))];
    let paths = [
        write(root.path(), "a", downsampled, &content),
        write(root.path(), "a", meta(2, (0, 1_000), long.into()), &content),
        root.path().join("a").join(ulid(3).to_string()),
    ];
    let errors = paths.map(|path| blocks.add(&path).unwrap_err());
    assert!(matches!(errors[0], LocalBlockError::Downsampled { resolution_ms: 300_000 }), "{}", errors[0]);
    assert!(matches!(errors[1], LocalBlockError::Label), "{}", errors[1]);
    assert!(matches!(errors[2], LocalBlockError::Block(_)), "{}", errors[2]);
    assert!(matches!(blocks.add(Path::new("/")), Err(LocalBlockError::Place { .. })));
    assert_eq!(metric(&registry, "annulus_local_blocks_broken"), 3.0);
    assert!(times_of(&blocks, (0, 999)).is_empty());
}

#[test]
fn a_scan_follows_what_happens_by_hand() {
    let root = tempfile::tempdir().unwrap();
    let (blocks, registry) = open(&root.path().join("blocks"), ReaderLimits::default());
    let root = root.path().join("blocks");
    let first = write_up(&root, "a", 1, (0, 1_000));
    write_up(&root, "b", 2, (1_000, 2_000));
    write_up(&root, ".tmp", 3, (0, 1_000));
    fs::create_dir_all(root.join("a/01K3W3Q6C0Z8S5X0V4N2T7H9JM.tmp")).unwrap();
    assert_eq!(blocks.scan().unwrap(), ScanReport { added: 2, removed: 0, broken: 0 });
    assert_eq!(blocks.scan().unwrap(), ScanReport::default());
    assert_eq!(metric(&registry, "prometheus_tsdb_lowest_timestamp_seconds"), 1.0);
    fs::create_dir_all(root.join("c")).unwrap();
    fs::rename(&first, root.join("c").join(first.file_name().unwrap())).unwrap();
    assert_eq!(blocks.scan().unwrap(), ScanReport { added: 1, removed: 1, broken: 0 }, "it was moved");
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(blocks.scan().unwrap(), ScanReport { added: 0, removed: 2, broken: 0 });
    for name in ["prometheus_tsdb_blocks_loaded", "prometheus_tsdb_storage_blocks_bytes"] {
        assert_eq!(metric(&registry, name), 0.0, "{name}");
    }
}

#[test]
fn the_same_block_in_two_places_is_served_once() {
    let root = tempfile::tempdir().unwrap();
    write_up(root.path(), "a", 1, (0, 1_000));
    let other = write_up(root.path(), "b", 1, (0, 1_000));
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    assert_eq!(times_of(&blocks, (0, 20)), [0, 10, 20]);
    assert!(matches!(blocks.add(&other), Err(LocalBlockError::Duplicate { .. })));
    fs::remove_dir_all(root.path().join("a")).unwrap();
    assert_eq!(blocks.scan().unwrap(), ScanReport { added: 1, removed: 1, broken: 0 });
}

#[test]
fn a_block_is_added_once_and_at_once() {
    let root = tempfile::tempdir().unwrap();
    let (blocks, registry) = open(root.path(), ReaderLimits::default());
    let path = write_up(root.path(), "a", 1, (0, 1_000));
    blocks.add(&path).unwrap();
    blocks.add(&path).unwrap();
    assert_eq!(times_of(&blocks, (0, 20)), [0, 10, 20]);
    assert_eq!(blocks.scan().unwrap(), ScanReport::default());
    let on_disk: u64 = ["index", "meta.json", "chunks/000001"]
        .iter()
        .map(|file| fs::metadata(path.join(file)).unwrap().len())
        .sum();
    assert_eq!(metric(&registry, "prometheus_tsdb_storage_blocks_bytes"), on_disk as f64);
}

#[test]
fn a_read_that_has_a_block_open_goes_on_when_the_block_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let path = write_up(root.path(), "a", 1, (0, 1_000));
    let (blocks, registry) = open(root.path(), ReaderLimits::default());
    let block = Arc::clone(&blocks.covering(0, 999)[0]);
    let chunks = blocks.read(&block, &Scope::new(BYTES_MAX, View::default()), |reader| {
        let doomed = path.with_extension("tmp-for-deletion");
        fs::rename(&path, &doomed).unwrap();
        assert!(blocks.remove(ulid(1)) && !blocks.remove(ulid(1)));
        fs::remove_dir_all(&doomed).unwrap();
        let series = reader.index().all_series()?;
        let found = reader.index().series_reader().read(series[0])?;
        let mut chunks = reader.chunk_reader();
        for chunk in &found.chunks {
            chunks.read(chunk.place)?;
        }
        Ok(found.chunks.len())
    });
    assert_eq!(chunks.unwrap(), Some(10));
    assert_eq!(metric(&registry, "annulus_local_blocks_open"), 0.0);
    assert!(times_of(&blocks, (0, 999)).is_empty());
}

#[test]
fn a_block_that_goes_before_it_is_read_counts_as_gone() {
    let root = tempfile::tempdir().unwrap();
    let path = write_up(root.path(), "a", 1, (0, 1_000));
    write_up(root.path(), "a", 2, (1_000, 2_000));
    let (blocks, registry) = open(root.path(), ReaderLimits::default());
    fs::rename(&path, path.with_extension("tmp-for-deletion")).unwrap();
    assert_eq!(times_of(&blocks, (980, 1_020)), [1_000, 1_010, 1_020]);
    assert_eq!(metric(&registry, "annulus_local_blocks_broken"), 0.0);
    // Half deleted while it is read.
    let block = Arc::clone(&blocks.covering(1_000, 1_000)[0]);
    let read = blocks.read(&block, &Scope::new(BYTES_MAX, View::default()), |reader| {
        blocks.remove(ulid(2));
        reader.chunk_reader().read(crate::block::ChunkPlace::new(7, 0))?;
        Ok::<(), ReadFailure>(())
    });
    assert!(read.unwrap().is_none());
}

#[test]
fn no_more_blocks_stay_open_than_may() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..5 {
        write_up(root.path(), "a", number, (number as i64 * 1_000, (number as i64 + 1) * 1_000));
    }
    let (blocks, registry) = open(root.path(), ReaderLimits { count_max: 2, ..ReaderLimits::default() });
    let opened = || metric(&registry, "annulus_local_blocks_opened_total");
    assert_eq!(times_of(&blocks, (0, 5_000)).len(), 500);
    assert_eq!((opened(), metric(&registry, "annulus_local_blocks_open")), (5.0, 2.0));
    times_of(&blocks, (1_000, 1_000));
    times_of(&blocks, (2_000, 2_000));
    let before = opened();
    times_of(&blocks, (1_000, 2_000));
    assert_eq!(opened(), before, "those read last are still open");
    let (blocks, registry) = open(root.path(), ReaderLimits { bytes_max: 1, ..ReaderLimits::default() });
    assert_eq!(times_of(&blocks, (0, 5_000)).len(), 500);
    assert_eq!(metric(&registry, "annulus_local_blocks_open"), 0.0);
}

#[test]
fn a_select_takes_its_budget_and_not_a_byte_more() {
    let root = tempfile::tempdir().unwrap();
    write_up(root.path(), "a", 1, (0, 1_000));
    write_up(root.path(), "b", 2, (0, 1_000));
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    let needed = held_bytes(&select(&source(&blocks), vec![], (0, 999)));
    let with = |bytes_max| {
        let source = BlockSource::new(Arc::clone(&blocks), bytes_max);
        block_on(source.select(request(vec![], (0, 999))))
    };
    assert_eq!(with(needed).unwrap().len(), 2);
    let error = with(needed - 1).unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { bytes_max } if bytes_max == needed - 1));
}

#[test]
fn a_read_stops_when_nobody_waits_for_it() {
    let root = tempfile::tempdir().unwrap();
    write_up(root.path(), "a", 1, (0, 1_000));
    let (blocks, _) = open(root.path(), ReaderLimits::default());
    let scope = Arc::new(Scope::new(BYTES_MAX, View::default()));
    drop(StopOnDrop(Arc::clone(&scope)));
    let list = blocks.covering(0, 999);
    assert!(super::select::select(&blocks, &list, &request(vec![], (0, 999)), &scope).is_err());
    assert!(super::texts::label_names(&blocks, &list, &[], &scope).is_err());
}
