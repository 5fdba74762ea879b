//! Checkpoints: images of the head, each in a file of its own, and which of them are kept.
//!
//! A file is `checkpoint-<begin_seq>`; its pages together cover every frame below `begin_seq`, and each page says
//! up to which frame its own series go beyond that. Two rules make them safe to rely on:
//! - A checkpoint is finished only once every frame that a page includes is durable. Otherwise a crash could leave
//!   samples in a checkpoint whose frame never was, and whose number a later frame gets.
//! - The ring's tail moves to the `begin_seq` of the older of the two newest checkpoints that are known to be
//!   whole, so that one of them may be lost.

mod reader;
mod writer;

use std::io;

pub use reader::{Invalid, InvalidReason};
pub use writer::{Finished, Writer};

use crate::rt::Directory;

/// The longest page. A bound for the reader's memory; a page holds whole series, whose labels are bounded too.
pub const PAGE_BYTES_MAX: usize = 16 << 20;

/// How many checkpoints are kept.
const KEPT: usize = 2;

/// What is added to the name of one that was passed over.
const PASSED_OVER: &str = ".damaged";

/// The frames that a checkpoint makes unnecessary, and those that it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered {
    /// Every frame below this one is covered.
    pub begin_seq: u64,
    /// The newest frame that a page includes; `begin_seq - 1` if none goes further.
    pub end_seq: u64,
}

/// Receives a checkpoint's pages.
pub trait PageVisitor {
    /// A checkpoint begins. What pages of an earlier one brought, which turned out to be damaged, is to be forgotten.
    fn reset(&mut self);

    /// The next page, in the order in which they were written. It includes every frame up to `seq` that concerns it.
    ///
    /// # Errors
    /// When the bytes are not a page of the head; the checkpoint then counts as damaged.
    fn page(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Why checkpoints cannot be loaded, written or kept.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A newer version wrote it. An older one beside it would be a silent step back.
    #[error(
        "checkpoint {name} has format {found}, this version of annulus reads up to {known}: start the version that \
         wrote it, or a newer one"
    )]
    Newer {
        /// The file.
        name: String,
        /// The version found.
        found: u32,
        /// The newest version that is known.
        known: u32,
    },
    /// The system cannot read this one, and neither the newest nor the one before it is whole. It may be a fault that
    /// passes; a start without the checkpoint could lose frames, and would soon remove it.
    #[error(
        "checkpoint {name} cannot be read, and no other one can take its place: {source}; if the fault stays, move \
         the file away to start without it"
    )]
    Unreadable {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What a start found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What the loaded checkpoint covers; `None` if there is none.
    pub covered: Option<Covered>,
    /// How many pages it has.
    pub pages: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Newer ones that could not be used.
    pub invalid: Vec<Invalid>,
}

/// The checkpoints of one shard.
pub struct Checkpoints<D: Directory> {
    directory: D,
    shard: u32,
    /// Those that are known to be whole, oldest first, at most [`KEPT`].
    whole: Vec<u64>,
}

impl<D: Directory> Checkpoints<D> {
    /// Reads the newest checkpoint that is whole, and falls back to older ones. Those that were passed over are renamed:
    /// one that a later start can read after all may have frames that this start counts as lost, and whose successors
    /// know nothing of them.
    ///
    /// # Errors
    /// When the directory cannot be read, when a newer version has written one, or when the system cannot read one and
    /// the ring need not reach back to the newest whole one. Damage is not an error, see [`Loaded::invalid`].
    pub async fn load(
        directory: D,
        shard: u32,
        visitor: &mut impl PageVisitor,
    ) -> Result<(Checkpoints<D>, Loaded), CheckpointError> {
        let mut loaded = Loaded::default();
        let names = directory.list().await;
        let names =
            names.map_err(|source| CheckpointError::Io { what: "listing the checkpoints", source })?;
        let mut begins: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
        begins.sort_unstable();
        let passed_over_before = names.iter().filter(|name| was_passed_over(name)).count();
        let mut whole = Vec::new();
        while let Some(begin_seq) = begins.pop() {
            visitor.reset();
            match reader::read(&directory, shard, begin_seq, visitor).await? {
                Ok(read) => {
                    loaded = Loaded { invalid: loaded.invalid, ..read };
                    whole.push(begin_seq);
                    break;
                }
                Err(reason) => loaded.invalid.push(Invalid { name: file_name(begin_seq), reason }),
            }
        }
        if whole.is_empty() {
            visitor.reset();
        }
        // The ring reaches back to the second newest. Older files are ones whose removal a power cut has undone.
        if whole.is_empty() || loaded.invalid.len() + passed_over_before >= KEPT {
            for Invalid { name, reason } in std::mem::take(&mut loaded.invalid) {
                match reason {
                    InvalidReason::Io(source) => return Err(CheckpointError::Unreadable { name, source }),
                    reason => loaded.invalid.push(Invalid { name, reason }),
                }
            }
        }
        for Invalid { name, .. } in &loaded.invalid {
            let renamed = directory.publish(name, &format!("{name}{PASSED_OVER}")).await;
            renamed
                .map_err(|source| CheckpointError::Io { what: "renaming a damaged checkpoint", source })?;
        }
        Ok((Checkpoints { directory, shard, whole }, loaded))
    }

    /// Begins a checkpoint of everything below `begin_seq`. What a failed one left is removed first: on a full disk it
    /// would take the very space that the next one needs.
    pub async fn create(&self, begin_seq: u64) -> Result<Writer<D>, CheckpointError>
    where
        D: Clone,
    {
        let io = |what| move |source| CheckpointError::Io { what, source };
        for name in self.directory.list().await.map_err(io("listing the checkpoints"))? {
            if is_unfinished(&name) {
                self.directory.remove(&name).await.map_err(io("removing an unfinished checkpoint"))?;
            }
        }
        Writer::create(self.directory.clone(), self.shard, begin_seq).await
    }

    /// Keeps a finished checkpoint and the one before it, and removes all other files of checkpoints. As long as only
    /// one is known to be whole, older ones stay: nobody has looked at them yet, and they may be needed.
    ///
    /// Returns the frame below which the ring may be released, once there are two.
    pub async fn keep(&mut self, finished: &Finished) -> Result<Option<u64>, CheckpointError> {
        self.whole.retain(|begin_seq| *begin_seq != finished.covered.begin_seq);
        self.whole.push(finished.covered.begin_seq);
        if self.whole.len() > KEPT {
            self.whole.remove(0);
        }
        let io = |what| move |source| CheckpointError::Io { what, source };
        for name in self.directory.list().await.map_err(io("listing the checkpoints"))? {
            let stale = match parse_name(&name) {
                Some(begin_seq) => self.whole.len() == KEPT && !self.whole.contains(&begin_seq),
                None => is_unfinished(&name) || (self.whole.len() == KEPT && was_passed_over(&name)),
            };
            if stale {
                self.directory.remove(&name).await.map_err(io("removing an old checkpoint"))?;
            }
        }
        Ok((self.whole.len() == KEPT).then(|| self.whole[0]))
    }

    /// The directory that they are in.
    pub fn directory(&self) -> &D {
        &self.directory
    }
}

fn file_name(begin_seq: u64) -> String {
    format!("checkpoint-{begin_seq:020}")
}

fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".new").and_then(parse_name).is_some()
}

fn was_passed_over(name: &str) -> bool {
    name.strip_suffix(PASSED_OVER).and_then(parse_name).is_some()
}

fn parse_name(name: &str) -> Option<u64> {
    let begin_seq = name.strip_prefix("checkpoint-")?.parse().ok()?;
    (file_name(begin_seq) == name).then_some(begin_seq)
}

/// The bytes that writer and reader agree on.
mod format {
    pub const MAGIC: [u8; 8] = *b"annulusC";
    pub const VERSION: u32 = 1;
    /// Magic, version, shard, begin_seq, checksum.
    pub const HEADER_BYTES: usize = 8 + 4 + 4 + 8 + 4;
    /// Length, checksum, seq.
    pub const PAGE_HEADER_BYTES: usize = 4 + 4 + 8;
    /// In the place of a page's length: the footer follows.
    pub const FOOTER_MARK: u32 = u32::MAX;
    /// Mark, checksum, end_seq, count of pages.
    pub const FOOTER_BYTES: usize = 4 + 4 + 8 + 8;

    /// A page's checksum. It includes the place of the page, so that no other page can stand there.
    pub fn page_crc(begin_seq: u64, index: u64, seq: u64, bytes: &[u8]) -> u32 {
        let mut place = [0; 28];
        place[0..8].copy_from_slice(&begin_seq.to_le_bytes());
        place[8..16].copy_from_slice(&index.to_le_bytes());
        place[16..24].copy_from_slice(&seq.to_le_bytes());
        place[24..28].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
    }

    /// The footer's checksum, which includes those of all pages.
    pub fn footer_crc(pages_crc: u32, begin_seq: u64, end_seq: u64, pages: u64) -> u32 {
        let mut fields = [0; 28];
        fields[0..8].copy_from_slice(&begin_seq.to_le_bytes());
        fields[8..16].copy_from_slice(&end_seq.to_le_bytes());
        fields[16..24].copy_from_slice(&pages.to_le_bytes());
        fields[24..28].copy_from_slice(&pages_crc.to_le_bytes());
        crc32c::crc32c(&fields)
    }
}

#[cfg(test)]
mod tests;
