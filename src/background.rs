//! Work that has time: it gives way to the shards, for which every millisecond is one of an ack.

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How much of a large file is written before it is flushed. The flush of hundreds of megabytes at once would keep the
/// disk from the shards' WAL for tens of milliseconds.
pub const FLUSH_BYTES: u64 = 1 << 20;

/// A pause is so many times as long as the flush before it: the share of acks that meet one is to be about a hundredth.
const PAUSE_FACTOR: u32 = 64;

/// The longest pause after a flush.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// How much a thread gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveWay {
    /// Somebody waits for the answer: a quarter of a processor remains on a saturated machine.
    Query,
    /// It has hours: some hundredths remain.
    Blocks,
}

/// From now on the calling thread gets a processor after those that acknowledge writes.
pub fn give_way(how: GiveWay) {
    // Nothing forbids a thread to be nicer; if something did, the thread would only be less polite.
    let _ = rustix::process::setpriority_process(None, nice(how));
}

/// The kernel's weights are 1024 for 0, 335 for 5 and 15 for 19.
fn nice(how: GiveWay) -> i32 {
    match how {
        GiveWay::Query => 5,
        GiveWay::Blocks => 19,
    }
}

/// Flushes what was written of a file, and leaves the disk to the shards for much longer than that took.
pub fn flush_piece(file: &File) -> io::Result<()> {
    let began = Instant::now();
    file.sync_data()?;
    thread::sleep((began.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX));
    Ok(())
}

/// Copies the rest of a file to the position of another one, flushed in pieces. Gives the number of bytes.
pub fn copy_in_pieces(source: &mut File, target: &mut File) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        let piece = io::copy(&mut io::Read::take(&mut *source, FLUSH_BYTES), target)?;
        if piece == 0 {
            return Ok(copied);
        }
        copied += piece;
        flush_piece(target)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn a_copy_in_pieces_is_the_whole_file() {
        let content: Vec<u8> = (0..2 * FLUSH_BYTES + 5).map(|at| (at % 251) as u8).collect();
        let (mut source, mut target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all(&content).unwrap();
        source.seek(SeekFrom::Start(0)).unwrap();
        assert_eq!(copy_in_pieces(&mut source, &mut target).unwrap(), content.len() as u64);
        let mut copy = Vec::new();
        target.seek(SeekFrom::Start(0)).unwrap();
        target.read_to_end(&mut copy).unwrap();
        assert!(copy == content);
    }

    #[test]
    fn only_the_calling_thread_gives_way() {
        let own_nice = || rustix::process::getpriority_process(None).unwrap();
        let before = own_nice();
        let inside = std::thread::spawn(move || {
            give_way(GiveWay::Blocks);
            own_nice()
        });
        assert!(inside.join().unwrap() >= nice(GiveWay::Blocks));
        assert_eq!(own_nice(), before);
    }
}
