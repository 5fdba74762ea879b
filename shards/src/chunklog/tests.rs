use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::chunk::Encoding;
use crate::rt::{BLOCK_BYTES, Directory};
use crate::sim::{Random, SimDirectory, run_to_end};

const WINDOW_MS: i64 = 7_200_000;

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at) as u8).collect()
}

/// What a reader of any thread gets.
fn read(log: &ChunkLog, place: ChunkPlace) -> Option<Vec<u8>> {
    let mut bytes = match log.find(place) {
        Found::Memory(bytes) => ChunkBytes::Memory(bytes),
        Found::Logged(logged) => ChunkBytes::Logged(logged),
        Found::Missing => return None,
    };
    load(std::iter::once(&mut bytes)).unwrap();
    bytes.loaded().map(|bytes| bytes.to_vec())
}

#[test]
fn chunks_are_readable_before_while_and_after_they_are_written() {
    let directory = SimDirectory::new(Random::new(1));
    let log = RefCell::new(ChunkLog::default());
    let mut writer = ChunkLogWriter::new(directory.clone());
    let mut places = Vec::new();
    for number in 0..9000 {
        let window_ms = (number as i64 / 3000) * WINDOW_MS;
        let chunk = content(number, 1 + number % 300);
        places.push((log.borrow_mut().append(window_ms, Encoding::Xor, &chunk), chunk));
        if number % 700 == 0 {
            run_to_end(writer.write(&log)).unwrap();
        }
    }
    for (place, chunk) in &places {
        assert_eq!(read(&log.borrow(), *place).as_ref(), Some(chunk));
    }
    run_to_end(writer.flush(&log)).unwrap();
    assert_eq!(log.borrow().pending_bytes(), 0);
    for (place, chunk) in &places {
        assert!(log.borrow().pending(*place).is_none());
        assert_eq!(read(&log.borrow(), *place).as_ref(), Some(chunk));
    }
    // All at once, in any order.
    let mut all: Vec<ChunkBytes> = places
        .iter()
        .rev()
        .map(|(place, _)| match log.borrow().find(*place) {
            Found::Logged(logged) => ChunkBytes::Logged(logged),
            found => panic!("{found:?}"),
        })
        .collect();
    load(all.iter_mut()).unwrap();
    for (bytes, (_, chunk)) in all.iter().rev().zip(&places) {
        assert_eq!(bytes.loaded().unwrap(), chunk);
    }

    // Another process finds them, and gives none of their numbers to new files.
    let again = RefCell::new(ChunkLog::default());
    for (file, window_ms) in run_to_end(ChunkLogWriter::list(&directory)).unwrap() {
        let reader = run_to_end(directory.reader(&file_name(file, window_ms))).unwrap();
        let size_bytes = reader.size_bytes().unwrap() as u32;
        again.borrow_mut().add_existing(file, window_ms, size_bytes, reader);
    }
    for (place, chunk) in &places {
        again.borrow_mut().retain(*place);
        assert_eq!(read(&again.borrow(), *place).as_ref(), Some(chunk));
    }
    assert_eq!(again.borrow().next_file(), 3);
    assert_eq!(again.borrow_mut().append(0, Encoding::Xor, &[1]).file, 3);
    assert!(again.borrow().missing_files().is_empty());

    // A file goes when its last chunk does.
    for (place, _) in &places[..3000] {
        again.borrow_mut().release(*place);
    }
    assert_eq!(again.borrow_mut().take_unneeded(|_| false), [(0, 0)]);
    run_to_end(ChunkLogWriter::new(directory.clone()).remove(&[(0, 0)])).unwrap();
    assert_eq!(directory.names().len(), 2);
}

#[test]
fn padding_of_any_length_is_told_from_records() {
    for first_bytes in 4060..4096usize {
        let directory = SimDirectory::new(Random::new(4));
        let log = RefCell::new(ChunkLog::default());
        let mut writer = ChunkLogWriter::new(directory.clone());
        let mut places = Vec::new();
        for round in 0..4 {
            for (number, len) in [first_bytes - RECORD_HEADER_BYTES, 17, 3000].into_iter().enumerate() {
                let chunk = content(round * 3 + number, len);
                places.push((log.borrow_mut().append(0, Encoding::Xor, &chunk), chunk));
                if number == 0 {
                    run_to_end(writer.flush(&log)).unwrap();
                }
            }
        }
        run_to_end(writer.flush(&log)).unwrap();
        for (place, chunk) in &places {
            assert!(log.borrow().pending(*place).is_none(), "{first_bytes}: it stays in memory");
            assert_eq!(read(&log.borrow(), *place).as_ref(), Some(chunk), "{first_bytes}");
        }
        let bytes = directory.bytes(&file_name(0, 0)).unwrap();
        let scanned: Vec<_> = Scan::new(0, 0, &bytes).map(|record| record.unwrap().0).collect();
        assert_eq!(scanned, places.iter().map(|(place, _)| *place).collect::<Vec<_>>(), "{first_bytes}");
    }
}

#[test]
fn samples_of_any_times_open_few_files() {
    let directory = SimDirectory::new(Random::new(5));
    let log = RefCell::new(ChunkLog::default());
    let mut writer = ChunkLogWriter::new(directory.clone());
    let places: Vec<_> = (0..1000)
        .map(|number| {
            log.borrow_mut().append(number * WINDOW_MS, Encoding::Xor, &content(number as usize, 40))
        })
        .collect();
    run_to_end(writer.flush(&log)).unwrap();
    assert!(directory.names().len() <= 20, "{}", directory.names().len());
    for (place, number) in places.iter().zip(0..) {
        assert_eq!(read(&log.borrow(), *place), Some(content(number, 40)));
    }
}

#[test]
fn a_full_disk_keeps_chunks_in_memory_until_there_is_space() {
    let directory = SimDirectory::new(Random::new(2));
    let log = RefCell::new(ChunkLog::default());
    let mut writer = ChunkLogWriter::new(directory.clone());
    let append = |number| {
        let chunk = content(number, 2000);
        (log.borrow_mut().append(0, Encoding::Xor, &chunk), chunk)
    };
    let places: Vec<_> = (0..500).map(append).collect();
    directory.limit_space(300 << 10);
    let error = run_to_end(writer.flush(&log)).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert!(log.borrow().pending_bytes() > 0);
    for (place, chunk) in &places {
        assert_eq!(read(&log.borrow(), *place).as_ref(), Some(chunk));
    }
    directory.limit_space(u64::MAX);
    run_to_end(writer.flush(&log)).unwrap();
    for (place, chunk) in &places {
        assert_eq!(read(&log.borrow(), *place).as_ref(), Some(chunk));
    }
}

#[test]
fn damage_is_told_from_what_was_written() {
    let directory = SimDirectory::new(Random::new(3));
    let log = RefCell::new(ChunkLog::default());
    let places: Vec<ChunkPlace> =
        (0..100).map(|number| log.borrow_mut().append(0, Encoding::Xor, &content(number, 100))).collect();
    run_to_end(ChunkLogWriter::new(directory.clone()).flush(&log)).unwrap();
    let name = file_name(0, 0);
    directory.flip(&name, places[50].offset as usize + RECORD_HEADER_BYTES + 7, 4);
    let bytes = directory.bytes(&name).unwrap();
    let scanned: Vec<_> = Scan::new(0, 0, &bytes).collect();
    let damaged = Err((places[50].offset, RecordDamage::Checksum));
    assert_eq!(scanned.iter().filter(|record| record.is_err()).collect::<Vec<_>>(), [&damaged]);
    let Found::Logged(logged) = log.borrow().find(places[50]) else { panic!("it was written") };
    let error = load(std::iter::once(&mut ChunkBytes::Logged(logged))).unwrap_err();
    assert!(matches!(error, LogReadError::Damaged { damage: RecordDamage::Checksum, .. }), "{error}");
    assert_eq!(read(&log.borrow(), places[51]), Some(content(51, 100)));
}

#[test]
fn names_are_of_files_only() {
    for (file, window_ms) in [(0, 0), (7, -7_200_000), (u32::MAX, i64::MAX), (1, i64::MIN)] {
        assert_eq!(parse_file_name(&file_name(file, window_ms)), Some((file, window_ms)));
    }
    for name in ["chunks-1-0", "chunks-0000000001-00", "chunks-", "checkpoint-00000000000000000001", "wal"] {
        assert_eq!(parse_file_name(name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_scanned_to_the_end(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3 * BLOCK_BYTES),
        chunks in proptest::collection::vec(1usize..200, 0..40),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
    ) {
        prop_assert!(Scan::new(1, 0, &bytes).all(|record| record.is_err()));
        bytes.clear();
        let mut places = BTreeMap::new();
        for (number, len) in chunks.iter().enumerate() {
            let place = ChunkPlace::new(1, bytes.len() as u32, *len, Encoding::Xor);
            super::record::put_record(&mut bytes, place, &content(number, *len));
            places.insert(place, content(number, *len));
        }
        for (at, byte) in edits {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        for (place, chunk) in Scan::new(1, 0, &bytes).flatten() {
            prop_assert_eq!(places.get(&place).map(Vec::as_slice), Some(chunk));
        }
    }
}
