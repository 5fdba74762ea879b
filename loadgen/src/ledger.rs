//! What became of each request, by its number, and the file that carries it to another process.
//!
//! Owns:     two bits per request, in pages that double in size.
//! Runs on:  any thread: reading and writing are lock-free; the first touch of a page allocates it.
//! Promises: a fate that was set is read back, in this process and, once saved, in another one.
//!
//! The file: a line that names the format and its version, a line of JSON with the stream's configuration and the
//! number of requests, the bits as one snappy block, and the CRC32C of all that in 4 bytes, little endian.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::stream::StreamConfig;

/// The file begins with this; a version follows.
const MAGIC: &str = "annulus-ledger ";

const VERSION: u64 = 1;

const FATES_PER_WORD: u64 = 32;

/// Words of the first page; each further page has twice as many as the one before.
const FIRST_PAGE_WORDS: u64 = 1 << 10;

/// Pages for more than 2^42 requests: a century of a thousand a second. Only pages in use are allocated.
const PAGES: usize = 28;

/// The fate of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not sent (yet).
    NotSent,
    /// Acknowledged (2xx): every sample must be there.
    Acknowledged,
    /// Given up without an answer, or after 5xx: each sample may or may not be there.
    Unknown,
    /// Refused for good (4xx): each sample may or may not be there.
    Refused,
}

impl Fate {
    fn bits(self) -> u64 {
        match self {
            Fate::NotSent => 0,
            Fate::Acknowledged => 1,
            Fate::Unknown => 2,
            Fate::Refused => 3,
        }
    }

    fn from_bits(bits: u64) -> Fate {
        match bits & 3 {
            0 => Fate::NotSent,
            1 => Fate::Acknowledged,
            2 => Fate::Unknown,
            _ => Fate::Refused,
        }
    }
}

/// Two bits per request; shared by all senders.
#[derive(Debug, Default)]
pub struct Ledger {
    pages: [OnceLock<Box<[AtomicU64]>>; PAGES],
    end: AtomicU64,
}

/// The second line of the file.
#[derive(Serialize, Deserialize)]
struct Header {
    end: u64,
    stream: StreamConfig,
}

impl Ledger {
    /// A ledger of a run in which nothing was sent yet.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Notes what became of a request; a later fate replaces an earlier one.
    ///
    /// # Panics
    /// When the number is 2^42 or more, which no run reaches.
    pub fn set(&self, request: u64, fate: Fate) {
        let (page, word, shift) = place(request);
        assert!(page < PAGES, "request {request} is beyond the ledger");
        let words =
            self.pages[page].get_or_init(|| (0..page_words(page)).map(|_| AtomicU64::new(0)).collect());
        let replace = |word: u64| Some(word & !(3 << shift) | fate.bits() << shift);
        // The closure never declines, so the update cannot fail.
        let _ = words[word].fetch_update(Ordering::Relaxed, Ordering::Relaxed, replace);
        if fate != Fate::NotSent {
            // Releases the word with it: whoever sees this end sees the fates below it that were set before.
            self.end.fetch_max(request + 1, Ordering::AcqRel);
        }
    }

    /// What became of a request.
    pub fn get(&self, request: u64) -> Fate {
        let (page, word, shift) = place(request);
        let words = self.pages.get(page).and_then(OnceLock::get);
        words.map_or(Fate::NotSent, |words| Fate::from_bits(words[word].load(Ordering::Relaxed) >> shift))
    }

    /// One past the highest request that was sent.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Writes it with the stream's configuration, so that `verify` works in another process, later. The file
    /// appears whole or not at all; a file of that name is replaced.
    pub fn save(&self, path: &Path, config: &StreamConfig) -> io::Result<()> {
        let end = self.end();
        let header = serde_json::to_string(&Header { end, stream: config.clone() })?;
        let mut bytes = format!("{MAGIC}{VERSION}\n{header}\n").into_bytes();
        let fates: Vec<u8> = (0..end.div_ceil(4))
            .map(|byte| {
                let of = |index: u64| self.get(byte * 4 + index).bits() << (2 * index);
                (of(0) | of(1) | of(2) | of(3)) as u8
            })
            .collect();
        let packed = snap::raw::Encoder::new().compress_vec(&fates).map_err(io::Error::other)?;
        bytes.extend(packed);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let mut file = File::create(&part)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    }

    /// Reads what `save` wrote. An error is one line that names the file.
    pub fn load(path: &Path) -> Result<(Ledger, StreamConfig), String> {
        let bytes = std::fs::read(path).map_err(|error| format!("ledger {}: {error}", path.display()))?;
        parse(&bytes).map_err(|error| format!("ledger {}: {error}", path.display()))
    }
}

fn parse(bytes: &[u8]) -> Result<(Ledger, StreamConfig), String> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or("this is not a ledger")?;
    let (version, rest) = split_line(rest)?;
    match version.parse::<u64>() {
        Ok(VERSION) => {}
        Ok(newer) if newer > VERSION => {
            return Err(format!("it has version {newer}; this program reads up to version {VERSION}"));
        }
        _ => return Err(format!("its version {version:?} is unknown")),
    }
    let (content, checksum) = bytes.split_last_chunk().ok_or("it is cut short")?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return Err("it is damaged or cut short: its checksum is wrong".to_owned());
    }
    let (header, rest) = split_line(rest)?;
    let header: Header =
        serde_json::from_str(header).map_err(|error| format!("its header is wrong: {error}"))?;
    let packed = rest.strip_suffix(checksum).ok_or("it is cut short")?;
    // The length is compared before anything of that size is allocated.
    let length =
        snap::raw::decompress_len(packed).map_err(|error| format!("its fates are damaged: {error}"))?;
    if length as u64 != header.end.div_ceil(4) {
        return Err(format!("it has {length} bytes of fates for {} requests", header.end));
    }
    let fates = snap::raw::Decoder::new().decompress_vec(packed);
    let fates = fates.map_err(|error| format!("its fates are damaged: {error}"))?;
    let ledger = Ledger::new();
    for (byte, bits) in (0..).zip(fates) {
        for index in 0..4 {
            let fate = Fate::from_bits(u64::from(bits) >> (2 * index));
            if fate != Fate::NotSent {
                ledger.set(byte * 4 + index, fate);
            }
        }
    }
    if ledger.end() != header.end {
        return Err(format!("it has fates of {} requests, not of {}", ledger.end(), header.end));
    }
    Ok((ledger, header.stream))
}

fn split_line(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or("it is cut short")?;
    let line = str::from_utf8(&bytes[..end]).map_err(|_| "it has a line that is not text")?;
    Ok((line, &bytes[end + 1..]))
}

/// Page, word in the page, and bit in the word.
fn place(request: u64) -> (usize, usize, u64) {
    // Counted from the size of the first page on, the words of a page share their highest bit.
    let word = request / FATES_PER_WORD + FIRST_PAGE_WORDS;
    let page = word.ilog2() - FIRST_PAGE_WORDS.ilog2();
    let first = FIRST_PAGE_WORDS << page;
    (page as usize, (word - first) as usize, request % FATES_PER_WORD * 2)
}

fn page_words(page: usize) -> u64 {
    FIRST_PAGE_WORDS << page
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> StreamConfig {
        StreamConfig {
            profile: "series = 5\n# \"quoted\"\n".to_owned(),
            profile_changes: vec!["cluster=\"a\"".to_owned()],
            seed: u64::MAX,
            series: Some(7),
            samples_per_request: 100,
            begin_ms: 1_770_000_000_000,
            interval_ms: 15_000,
        }
    }

    const FATES: [Fate; 4] = [Fate::NotSent, Fate::Acknowledged, Fate::Unknown, Fate::Refused];

    fn saved() -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let ledger = Ledger::new();
        for request in 0..5000 {
            ledger.set(request, FATES[(request % 7 % 4) as usize]);
        }
        ledger.set(5000, Fate::Refused);
        ledger.save(&path, &config()).unwrap();
        std::fs::read(path).unwrap()
    }

    proptest! {
        #[test]
        fn fates_survive_the_file(changes in prop::collection::vec((0u64..100_000, 0usize..4), 0..300)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("ledger");
            let ledger = Ledger::new();
            let mut fates = std::collections::BTreeMap::new();
            for (request, fate) in changes {
                ledger.set(request, FATES[fate]);
                fates.insert(request, FATES[fate]);
            }
            // A fate taken back leaves the end where it was; the file says so only with a last fate that stands.
            ledger.set(100_000, Fate::Acknowledged);
            ledger.save(&path, &config()).unwrap();
            let (loaded, stream) = Ledger::load(&path).unwrap();
            prop_assert_eq!(stream, config());
            prop_assert_eq!(loaded.end(), 100_001);
            for request in 0..100_000 {
                prop_assert_eq!(loaded.get(request), fates.get(&request).copied().unwrap_or(Fate::NotSent));
            }
        }
    }

    #[test]
    fn an_empty_ledger_survives_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        Ledger::new().save(&path, &config()).unwrap();
        let (loaded, _) = Ledger::load(&path).unwrap();
        assert_eq!((loaded.end(), loaded.get(0), loaded.get(u64::MAX)), (0, Fate::NotSent, Fate::NotSent));
    }

    #[test]
    fn pages_follow_one_another_without_a_gap() {
        let (mut page, mut word) = (0, 0);
        for request in (0..200_000_000).step_by(FATES_PER_WORD as usize) {
            let found = place(request);
            assert_eq!(found, (page, word, 0));
            word += 1;
            if word as u64 == page_words(page) {
                (page, word) = (page + 1, 0);
            }
        }
        assert!(place((1 << 42) - 1).0 < PAGES);
    }

    #[test]
    fn threads_that_share_words_do_not_lose_fates() {
        let ledger = Ledger::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ledger = &ledger;
                scope.spawn(move || {
                    (0..50_000).for_each(|step| ledger.set(step * 4 + thread, FATES[thread as usize]));
                });
            }
        });
        assert!((0..200_000).all(|request| ledger.get(request) == FATES[(request % 4) as usize]));
        assert_eq!(ledger.end(), 200_000);
    }

    #[test]
    fn any_damage_is_an_error() {
        let whole = saved();
        assert!(parse(&whole).is_ok());
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(parse(&damaged).is_err(), "damaged at {at}");
        }
    }

    #[test]
    fn other_files_and_newer_versions_are_told_apart() {
        let error = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(error(b"{}"), "this is not a ledger");
        assert!(error(b"annulus-ledger 2\n").contains("version 2"));
        assert!(Ledger::load(Path::new("/nonexistent/ledger")).unwrap_err().contains("/nonexistent/ledger"));
    }
}
