//! What can be wrong with a block that is read.

use std::io;

use super::meta::MetaError;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They end too early.
    #[error("{needed} bytes are needed, {left} are left")]
    Truncated {
        /// What the entry takes.
        needed: u64,
        /// What there is.
        left: u64,
    },
    /// They changed after they were written.
    #[error("the checksum is {stored:#010x}, the bytes give {computed:#010x}")]
    Checksum {
        /// What the file says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The file is of another kind.
    #[error("the file begins with {found:#010x} instead of {expected:#010x}")]
    Magic {
        /// The first four bytes.
        found: u32,
        /// What they should be.
        expected: u32,
    },
    /// Blocks of before 2018 have it.
    #[error(
        "the index has format 1, which is not supported: compact the block with a Prometheus of version 2"
    )]
    IndexVersion1,
    /// A format that this version does not know.
    #[error("the file has format {found}, this version of annulus reads {expected}")]
    Version {
        /// What the file says.
        found: u8,
        /// What is known.
        expected: u8,
    },
    /// A number in groups of seven bits that does not end, or exceeds its type.
    #[error("a variable-length number is malformed")]
    Varint,
    /// A label is not text.
    #[error("a label is not valid UTF-8")]
    Utf8,
    /// Something that must rise does not.
    #[error("{what} are out of order")]
    Order {
        /// What is out of order.
        what: &'static str,
    },
    /// A number that cannot be true.
    #[error("{what} is {found}, the limit is {limit}")]
    Limit {
        /// What the number counts or points to.
        what: &'static str,
        /// What the file says.
        found: u64,
        /// What is possible.
        limit: u64,
    },
    /// A count or length that its surroundings contradict.
    #[error("{what} is {found} instead of {expected}")]
    Mismatch {
        /// What the number counts.
        what: &'static str,
        /// What the file says.
        found: u64,
        /// What its surroundings say.
        expected: u64,
    },
}

/// A fault, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {fault}")]
pub struct DecodeError {
    /// From the beginning of the file.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// Why a block, or a part of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The system, or the store behind it, refused a read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file's bytes are wrong.
    #[error("{file}: {source}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong, and where.
        source: DecodeError,
    },
    /// `meta.json` is wrong.
    #[error("{file}: {source}")]
    Meta {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: MetaError,
    },
    /// `meta.json` lists a file that has another size or is not there.
    #[error("{file}: meta.json says {stated} bytes, there are {}", found.map_or("none".to_owned(), |found| found.to_string()))]
    Size {
        /// The file.
        file: String,
        /// What the description says.
        stated: u64,
        /// What the disk says, if it has the file.
        found: Option<u64>,
    },
    /// A series names a chunk in a segment that the block does not have.
    #[error("{file}: there is no chunk segment {segment}, the block has {count}")]
    NoSegment {
        /// The folder of the segments.
        file: String,
        /// Its index from 0.
        segment: u32,
        /// How many there are.
        count: usize,
    },
}

impl DecodeError {
    /// Names the file.
    pub fn in_file(self, file: &str) -> BlockError {
        BlockError::Malformed { file: file.to_owned(), source: self }
    }
}
