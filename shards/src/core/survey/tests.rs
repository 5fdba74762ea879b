//! Surveys of directories that a log on a simulated disk has written.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::chunk::{Encoding, XorAppender};
use crate::chunklog::ChunkLog;
use crate::sim::{Random, SimDirectory, SimDisk, run_to_end};
use crate::wal::{Checkpoints, Encoder, Wal};
use crate::wire::canonical_label_bytes;

const SHARD: u32 = 1;

const WINDOW_MS: i64 = 7_200_000;

fn hasher() -> SeriesHasher {
    SeriesHasher::new([9; 16])
}

/// A ring of frames with one series and one sample each, as a file in a directory.
fn shard_with_frames(frames: u32) -> tempfile::TempDir {
    let disk = SimDisk::new(Random::new(1), 64 * 4096);
    let directory = SimDirectory::new(Random::new(2));
    let visit = |_, _: &[u8]| Ok::<_, io::Error>(());
    let (wal, _) = run_to_end(Wal::open(disk.clone(), &directory, SHARD, None, visit)).unwrap();
    for number in 0..frames {
        let mut encoder = Encoder::default();
        let text = number.to_string();
        let labels = canonical_label_bytes(&[("__name__", "m"), ("n", &text)]);
        encoder.series(number, ["a", "b"][number as usize % 2], &labels);
        encoder.sample(number, 1000, 1.0);
        run_to_end(wal.commit(encoder.bytes())).unwrap();
    }
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("wal"), disk.bytes()).unwrap();
    temp
}

fn names(directory: &Path) -> BTreeSet<String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_survey_fills_the_head_and_leaves_the_files_as_they_are() {
    let temp = shard_with_frames(5);
    let before = std::fs::read(temp.path().join("wal")).unwrap();
    let found = survey_shard(temp.path(), SHARD, &hasher(), WINDOW_MS, true).unwrap();
    let ring = found.ring.as_ref().unwrap();
    assert_eq!((ring.frames.len(), found.replayed_samples, found.head.live_series_count()), (5, 5, 5));
    assert!(found.used_checkpoint().is_none() && found.missing_files.1 == 0);
    let content = survey_content(&found.head, &HashMap::new());
    let of = |series, samples| TenantContent { series, samples, ..TenantContent::default() };
    assert_eq!(content.into_iter().collect::<Vec<_>>(), [("a".into(), of(3, 3)), ("b".into(), of(2, 2))]);
    assert_eq!(std::fs::read(temp.path().join("wal")).unwrap(), before);
    assert_eq!(names(temp.path()), BTreeSet::from(["wal".to_owned()]));
}

#[test]
fn files_of_garbage_are_told_and_nothing_panics() {
    let temp = shard_with_frames(3);
    for name in ["checkpoint-00000000000000000007", "chunks-0000000003-0", "chunks-x", "wal-damaged-2"] {
        std::fs::write(temp.path().join(name), vec![0xa5; 8192]).unwrap();
    }
    let found = survey_shard(temp.path(), SHARD, &hasher(), WINDOW_MS, true).unwrap();
    assert!(matches!(found.checkpoints[0].content, Err(InvalidReason::Header)));
    assert_eq!((found.checkpoints.len(), found.head.live_series_count()), (1, 3));
    let mut files = Vec::new();
    survey_chunks(temp.path(), true, |file| files.push(file)).unwrap();
    assert_eq!((files.len(), files[0].damaged.len(), files[0].chunks.len()), (1, 2, 0));
    std::fs::write(temp.path().join("wal"), b"short").unwrap();
    let found = survey_shard(temp.path(), SHARD, &hasher(), WINDOW_MS, false).unwrap();
    assert!(matches!(found.ring, Err(WalError::UnusableSize { found: 5 })));
    assert!(survey_superblocks(temp.path()).is_err());
    std::fs::remove_file(temp.path().join("wal")).unwrap();
    assert!(survey_shard(temp.path(), SHARD, &hasher(), WINDOW_MS, false).unwrap().ring.is_err());
    assert!(survey_shard(&temp.path().join("none"), SHARD, &hasher(), WINDOW_MS, false).is_err());
}

#[test]
fn a_checkpoint_that_is_whole_counts_and_a_damaged_one_gives_its_reason() {
    let temp = shard_with_frames(4);
    let head = survey_shard(temp.path(), SHARD, &hasher(), WINDOW_MS, false).unwrap().head;
    let directory = SimDirectory::new(Random::new(3));
    let checkpoints = run_to_end(Checkpoints::load(
        directory.clone(),
        SHARD,
        &mut Image::new(Rc::default(), ExtraLimits::default()),
    ))
    .unwrap()
    .0;
    for begin_seq in [3, 5] {
        let mut writer = run_to_end(checkpoints.create(begin_seq)).unwrap();
        let mut page = Vec::new();
        crate::head::ImageWriter::default().page(&head, &mut page);
        run_to_end(writer.page(4, &page)).unwrap();
        run_to_end(writer.finish(4)).unwrap();
    }
    for name in directory.names() {
        std::fs::write(temp.path().join(&name), directory.bytes(&name).unwrap()).unwrap();
    }
    let survey = || survey_shard(temp.path(), SHARD, &hasher(), WINDOW_MS, true).unwrap();
    let found = survey();
    let used: Vec<bool> = found.checkpoints.iter().map(|one| one.is_used).collect();
    assert_eq!((used.as_slice(), found.used_checkpoint().unwrap().series), (&[true, false][..], 4));
    assert_eq!((found.replayed_samples, found.head.live_series_count()), (0, 4));
    let newest = temp.path().join(&found.checkpoints[0].name);
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let found = survey();
    assert!(matches!(found.checkpoints[0].content, Err(InvalidReason::Page { page: 0 })));
    assert_eq!((found.used_checkpoint().unwrap().covered.begin_seq, found.head.live_series_count()), (3, 4));
}

/// What a start of a shard with two checkpoints, a log and chunk files reads: names and bytes.
fn whole_shard() -> Vec<(String, Vec<u8>)> {
    let temp = shard_with_frames(6);
    let head = survey_shard(temp.path(), SHARD, &hasher(), WINDOW_MS, false).unwrap().head;
    let directory = SimDirectory::new(Random::new(6));
    let log = RefCell::new(ChunkLog::default());
    for number in 0..40u8 {
        let mut appender = XorAppender::default();
        (0..50).for_each(|at| appender.append(at * 1000, f64::from(number)));
        log.borrow_mut().append(0, Encoding::Xor, &appender.to_bytes());
    }
    run_to_end(ChunkLogWriter::new(directory.clone()).flush(&log)).unwrap();
    let checkpoints = run_to_end(Checkpoints::load(
        directory.clone(),
        SHARD,
        &mut Image::new(Rc::default(), ExtraLimits::default()),
    ))
    .unwrap()
    .0;
    for begin_seq in [2, 4] {
        let mut writer = run_to_end(checkpoints.create(begin_seq)).unwrap();
        let mut page = Vec::new();
        crate::head::ImageWriter::default().page(&head, &mut page);
        run_to_end(writer.page(4, &page)).unwrap();
        run_to_end(writer.finish(4)).unwrap();
    }
    let mut files: Vec<(String, Vec<u8>)> =
        directory.names().into_iter().map(|name| (name.clone(), directory.bytes(&name).unwrap())).collect();
    files.push(("wal".to_owned(), std::fs::read(temp.path().join("wal")).unwrap()));
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_change_of_the_files_makes_a_survey_panic(
        changes in proptest::collection::vec(
            (any::<Index>(), any::<Index>(), proptest::option::weighted(0.9, 1u8..)),
            1..5,
        ),
    ) {
        let mut files = whole_shard();
        for (file, at, flip) in changes {
            let bytes = &mut file.get_mut(&mut files).1;
            // A file that an earlier change has emptied has nothing to change.
            if let Some(at) = (!bytes.is_empty()).then(|| at.index(bytes.len())) {
                match flip {
                    Some(flip) => bytes[at] ^= flip,
                    None => bytes.truncate(at),
                }
            }
        }
        let temp = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(temp.path().join(name), bytes).unwrap();
        }
        let _ = survey_superblocks(temp.path());
        let _ = survey_ring(temp.path(), SHARD, |_, _| Ok::<_, io::Error>(()));
        let mut chunks = HashMap::new();
        survey_chunks(temp.path(), true, |file| chunks.extend(file.chunks)).unwrap();
        // A header that says a newer version with the right checksum is the only refusal, and no flip makes one.
        let found = survey_shard(temp.path(), SHARD, &hasher(), WINDOW_MS, true).unwrap();
        survey_content(&found.head, &chunks);
    }
}

#[test]
fn every_record_is_found_and_a_flipped_byte_costs_one() {
    let directory = SimDirectory::new(Random::new(4));
    let log = RefCell::new(ChunkLog::default());
    let mut expected = Vec::new();
    for number in 0..300u16 {
        let mut appender = XorAppender::default();
        for sample in 0..=number % 100 {
            appender.append(i64::from(sample) * 1000, f64::from(number) * 1.1);
        }
        let place = log.borrow_mut().append(0, Encoding::Xor, &appender.to_bytes());
        expected.push((place, number % 100 + 1));
    }
    let mut writer = ChunkLogWriter::new(directory.clone());
    run_to_end(writer.flush(&log)).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let name = directory.names().remove(0);
    let mut bytes = directory.bytes(&name).unwrap();
    std::fs::write(temp.path().join(&name), &bytes).unwrap();
    let survey = |bytes: &[u8]| {
        std::fs::write(temp.path().join(&name), bytes).unwrap();
        let mut files = Vec::new();
        survey_chunks(temp.path(), true, |file| files.push(file)).unwrap();
        files.remove(0)
    };
    let found = survey(&bytes);
    assert_eq!(found.chunks, expected.iter().copied().collect());
    assert!(found.damaged.is_empty() && found.malformed.is_empty());
    let hit = expected[150].0;
    bytes[hit.offset as usize + 9] ^= 4;
    let found = survey(&bytes);
    assert_eq!(found.damaged, [(hit.offset, RecordDamage::Checksum)]);
    assert_eq!(found.chunks.len(), 299);
}
