//! Tests of checkpoints: what is read back, what is passed over, what is kept.

use proptest::prelude::*;

use super::*;
use crate::sim::{Random, SimDirectory, run_to_end};

const SHARD: u32 = 4;

#[derive(Default)]
struct Pages {
    pages: Vec<(u64, Vec<u8>)>,
    resets: u32,
}

impl PageVisitor for Pages {
    fn reset(&mut self) {
        self.pages.clear();
        self.resets += 1;
    }

    fn page(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if bytes == b"refused" {
            return Err("refused".into());
        }
        self.pages.push((seq, bytes.to_vec()));
        Ok(())
    }
}

fn directory() -> SimDirectory {
    SimDirectory::new(Random::new(11))
}

fn load(directory: &SimDirectory) -> (Checkpoints<SimDirectory>, Loaded, Pages) {
    let mut pages = Pages::default();
    let (checkpoints, loaded) = run_to_end(Checkpoints::load(directory.clone(), SHARD, &mut pages)).unwrap();
    (checkpoints, loaded, pages)
}

fn write(directory: &SimDirectory, begin_seq: u64, pages: &[(u64, Vec<u8>)]) -> Finished {
    run_to_end(async {
        let mut writer = Writer::create(directory.clone(), SHARD, begin_seq).await.unwrap();
        for (seq, bytes) in pages {
            writer.page(*seq, bytes).await.unwrap();
        }
        let end_seq = writer.end_seq();
        writer.finish(end_seq).await.unwrap()
    })
}

fn name(begin_seq: u64) -> String {
    file_name(begin_seq)
}

#[test]
fn pages_come_back_in_order_with_their_numbers() {
    let directory = directory();
    let (_, loaded, pages) = load(&directory);
    assert_eq!((loaded.covered, pages.pages.len()), (None, 0));
    let written = vec![(9, vec![1; 700_000]), (12, vec![]), (10, vec![3; 5])];
    let finished = write(&directory, 10, &written);
    assert_eq!(finished.covered, Covered { begin_seq: 10, end_seq: 12 });
    assert_eq!(directory.names(), ["checkpoint-00000000000000000010"]);
    let (_, loaded, pages) = load(&directory);
    assert_eq!(pages.pages, written);
    assert_eq!((loaded.covered, loaded.pages, loaded.bytes), (Some(finished.covered), 3, finished.bytes));
}

#[test]
fn an_empty_checkpoint_covers_what_its_name_says() {
    let directory = directory();
    write(&directory, 1, &[]);
    assert_eq!(load(&directory).1.covered, Some(Covered { begin_seq: 1, end_seq: 0 }));
}

#[test]
fn a_damaged_one_is_passed_over_and_its_pages_are_forgotten() {
    let directory = directory();
    write(&directory, 10, &[(9, vec![1; 9000])]);
    let good = directory.bytes(&name(10)).unwrap();
    write(&directory, 20, &[(19, vec![2; 9000]), (19, vec![3; 9000])]);
    let whole = directory.bytes(&name(20)).unwrap();
    let used = whole.len() - whole.iter().rev().take_while(|byte| **byte == 0).count();
    for at in (0..used).step_by(97).chain(used - 30..used) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        directory.put(&name(20), damaged);
        let (_, loaded, pages) = load(&directory);
        assert_eq!((loaded.covered.unwrap().begin_seq, loaded.invalid.len()), (10, 1), "byte {at}");
        assert_eq!((pages.pages, pages.resets), (vec![(9, vec![1; 9000])], 2));
    }
    for blocks in 0..whole.len() / 4096 {
        directory.put(&name(20), whole[..blocks * 4096].to_vec());
        assert_eq!(load(&directory).1.covered.unwrap().begin_seq, 10);
    }
    // A copy under another name, and one that the head refuses.
    directory.put(&name(20), good);
    assert!(matches!(load(&directory).1.invalid[0].reason, InvalidReason::WrongName { found: 10 }));
    write(&directory, 20, &[(19, b"refused".to_vec())]);
    assert!(matches!(load(&directory).1.invalid[0].reason, InvalidReason::Visit { page: 0, .. }));
    directory.delete(&name(10));
    let (_, loaded, pages) = load(&directory);
    assert_eq!((loaded.covered, pages.pages.len()), (None, 0));
}

#[test]
fn another_shards_file_is_passed_over_and_a_newer_format_is_refused() {
    let directory = directory();
    write(&directory, 10, &[(9, vec![1])]);
    let bytes = directory.bytes(&name(10)).unwrap();
    let with_header = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        let crc = crc32c::crc32c(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    directory.put(&name(10), with_header(12, 9));
    assert!(matches!(load(&directory).1.invalid[0].reason, InvalidReason::WrongShard { found: 9 }));
    directory.put(&name(10), with_header(8, 2));
    let newer = run_to_end(Checkpoints::load(directory.clone(), SHARD, &mut Pages::default()));
    assert!(matches!(newer.map(drop), Err(CheckpointError::Newer { found: 2, .. })));
}

#[test]
fn the_two_newest_whole_ones_are_kept_and_the_older_one_sets_the_tail() {
    let directory = directory();
    let (mut checkpoints, ..) = load(&directory);
    let keep = |checkpoints: &mut Checkpoints<_>, begin_seq| {
        let finished = write(&directory, begin_seq, &[(begin_seq, vec![1])]);
        run_to_end(checkpoints.keep(&finished)).unwrap()
    };
    assert_eq!(keep(&mut checkpoints, 10), None);
    assert_eq!(keep(&mut checkpoints, 20), Some(10));
    assert_eq!(keep(&mut checkpoints, 20), Some(10), "the same again is still one");
    directory.put("checkpoint-00000000000000000025.new", vec![]);
    directory.put("wal", vec![]);
    assert_eq!(keep(&mut checkpoints, 30), Some(20));
    assert_eq!(directory.names(), [name(20), name(30), "wal".to_owned()]);

    // After a start only the one that was read is known to be whole.
    let mut damaged = directory.bytes(&name(30)).unwrap();
    damaged[40] ^= 1;
    directory.put(&name(30), damaged);
    let (mut checkpoints, loaded, _) = load(&directory);
    assert_eq!(loaded.covered.unwrap().begin_seq, 20);
    assert_eq!(keep(&mut checkpoints, 40), Some(20));
    assert_eq!(directory.names(), [name(20), name(40), "wal".to_owned()]);
}

#[test]
fn one_that_was_passed_over_never_comes_back() {
    let directory = directory();
    for begin_seq in [10, 20] {
        write(&directory, begin_seq, &[(begin_seq, vec![1])]);
    }
    directory.spoil(&name(20));
    let (mut checkpoints, loaded, _) = load(&directory);
    assert_eq!(loaded.covered.unwrap().begin_seq, 10);
    assert!(matches!(loaded.invalid[0].reason, InvalidReason::Io(_)));
    directory.heal();
    directory.cut_power();
    assert_eq!(load(&directory).1.covered.unwrap().begin_seq, 10);
    assert_eq!(directory.names(), [name(10), format!("{}.damaged", name(20))]);
    let finished = write(&directory, 30, &[(30, vec![1])]);
    assert_eq!(run_to_end(checkpoints.keep(&finished)).unwrap(), Some(10));
    assert_eq!(directory.names(), [name(10), name(30)]);
}

#[test]
fn one_that_cannot_be_read_stops_the_start_if_no_other_can_take_its_place() {
    let directory = directory();
    for begin_seq in [10, 20, 30] {
        write(&directory, begin_seq, &[(begin_seq, vec![1])]);
    }
    let refused = |directory: &SimDirectory| {
        let loaded = run_to_end(Checkpoints::load(directory.clone(), SHARD, &mut Pages::default()));
        matches!(loaded.map(drop), Err(CheckpointError::Unreadable { .. }))
    };
    directory.spoil(&name(20));
    directory.flip(&name(30), 5, 1);
    assert!(refused(&directory), "the ring need not reach back to the third");
    directory.delete(&name(10));
    directory.delete(&name(30));
    assert!(refused(&directory), "there is no other");
    assert_eq!(directory.names(), [name(20)]);
    directory.heal();
    assert_eq!(load(&directory).1.covered.unwrap().begin_seq, 20);
}

#[test]
fn an_older_one_stays_until_two_are_known_to_be_whole() {
    let directory = directory();
    for begin_seq in [10, 20] {
        write(&directory, begin_seq, &[(begin_seq, vec![1])]);
    }
    let (mut checkpoints, ..) = load(&directory);
    let finished = write(&directory, 20, &[(20, vec![1])]);
    assert_eq!(run_to_end(checkpoints.keep(&finished)).unwrap(), None);
    assert_eq!(directory.names(), [name(10), name(20)]);
}

#[test]
fn a_full_disk_leaves_the_older_checkpoints_as_they_were() {
    let directory = directory();
    write(&directory, 10, &[(9, vec![1; 100])]);
    directory.limit_space(300 << 10);
    let failed = run_to_end(async {
        let mut writer = Writer::create(directory.clone(), SHARD, 20).await?;
        writer.page(19, &[2; 600_000]).await
    });
    assert!(matches!(failed, Err(CheckpointError::Io { what: "writing a checkpoint", .. })));
    assert_eq!(load(&directory).1.covered.unwrap().begin_seq, 10);
}

#[test]
#[should_panic(expected = "a page includes frame 12, and only 11 is durable")]
fn one_that_includes_a_frame_that_is_not_durable_is_never_finished() {
    run_to_end(async {
        let mut writer = Writer::create(directory(), SHARD, 10).await.unwrap();
        writer.page(12, b"x").await.unwrap();
        let _ = writer.finish(11).await;
    });
}

proptest! {
    #[test]
    fn random_files_are_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..9000), header in any::<bool>()) {
        let directory = directory();
        write(&directory, 10, &[]);
        let mut file = directory.bytes(&name(10)).unwrap();
        if header {
            file.truncate(format::HEADER_BYTES);
        } else {
            file.clear();
        }
        file.extend_from_slice(&bytes);
        directory.put(&name(10), file);
        prop_assert_eq!(load(&directory).1.covered, None);
    }
}

#[test]
fn what_failed_checkpoints_left_does_not_pile_up() {
    let directory = directory();
    let (checkpoints, ..) = load(&directory);
    run_to_end(async {
        for begin_seq in [10, 20, 30] {
            let mut writer = checkpoints.create(begin_seq).await.unwrap();
            writer.page(begin_seq, &vec![1; 600_000]).await.unwrap();
        }
    });
    assert_eq!(directory.names(), ["checkpoint-00000000000000000030.new"]);
}
