//! Reading one checkpoint, and finding out whether it is whole.

use std::io;

use super::format::{
    FOOTER_BYTES, FOOTER_MARK, HEADER_BYTES, MAGIC, PAGE_HEADER_BYTES, VERSION, footer_crc, page_crc,
};
use super::{CheckpointError, Covered, Loaded, PAGE_BYTES_MAX, PageVisitor, file_name};
use crate::rt::{BLOCK_BYTES, DirectFile, Directory};
use crate::wal::frame::{SEQ_MAX, array};
use crate::wal::read_ahead::ReadAhead;

/// A checkpoint that was passed over; `.damaged` was added to its name.
#[derive(Debug)]
pub struct Invalid {
    /// What the file was called.
    pub name: String,
    /// What is wrong with it.
    pub reason: InvalidReason,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidReason {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[source] io::Error),
    /// The header is not that of a checkpoint.
    #[error("its header is damaged")]
    Header,
    /// It was made for another shard.
    #[error("it belongs to shard {found}")]
    WrongShard {
        /// The shard it belongs to.
        found: u32,
    },
    /// Its name is not the one that it was given.
    #[error("it begins at frame {found}, which is not what its name says")]
    WrongName {
        /// Where it begins.
        found: u64,
    },
    /// It ends before its footer.
    #[error("it ends inside page {page}")]
    Truncated {
        /// Index of the page.
        page: u64,
    },
    /// A page's checksum does not match.
    #[error("page {page} is damaged")]
    Page {
        /// Index of the page.
        page: u64,
    },
    /// The footer's checksum does not match.
    #[error("its footer is damaged")]
    Footer,
    /// The head did not accept a page.
    #[error("page {page}: {source}")]
    Visit {
        /// Index of the page.
        page: u64,
        /// What the head said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reads a checkpoint and hands its pages over as they come.
pub(super) async fn read<D: Directory>(
    directory: &D,
    shard: u32,
    begin_seq: u64,
    visitor: &mut impl PageVisitor,
) -> Result<Result<Loaded, InvalidReason>, CheckpointError> {
    let name = file_name(begin_seq);
    let file = match directory.open(&name).await {
        Ok(file) => file,
        Err(error) => return Ok(Err(InvalidReason::Io(error))),
    };
    let bytes = file.size_bytes();
    let whole_blocks = bytes / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let mut stream = Stream { ahead: ReadAhead::new(&file, 0, whole_blocks), piece: None, used: 0 };
    let read = read_stream(&mut stream, shard, begin_seq, visitor).await;
    drop(stream);
    // Nothing was written, so a failed close loses nothing.
    let _ = file.close().await;
    match read {
        Ok(Content::Whole { end_seq, pages }) => {
            let covered = Some(Covered { begin_seq, end_seq });
            Ok(Ok(Loaded { covered, pages, bytes, invalid: Vec::new() }))
        }
        Ok(Content::Newer(found)) => Err(CheckpointError::Newer { name, found, known: VERSION }),
        Err(reason) => Ok(Err(reason)),
    }
}

enum Content {
    Whole { end_seq: u64, pages: u64 },
    Newer(u32),
}

async fn read_stream<F: DirectFile>(
    stream: &mut Stream<'_, F>,
    shard: u32,
    begin_seq: u64,
    visitor: &mut impl PageVisitor,
) -> Result<Content, InvalidReason> {
    let header: [u8; HEADER_BYTES] = stream.fixed().await?.ok_or(InvalidReason::Header)?;
    let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    if header[..8] != MAGIC || number_u32(&header, HEADER_BYTES - 4) != crc {
        return Err(InvalidReason::Header);
    }
    let version = number_u32(&header, 8);
    if version != VERSION {
        return Ok(Content::Newer(version));
    }
    let found = number_u32(&header, 12);
    if found != shard {
        return Err(InvalidReason::WrongShard { found });
    }
    let found = number_u64(&header, 16);
    if found > SEQ_MAX {
        return Err(InvalidReason::Header);
    }
    if found != begin_seq {
        return Err(InvalidReason::WrongName { found });
    }

    let mut bytes = Vec::new();
    let mut pages = 0;
    let mut pages_crc = 0;
    let mut pages_end_seq = begin_seq.saturating_sub(1);
    loop {
        let truncated = InvalidReason::Truncated { page: pages };
        let Some(page) = stream.fixed::<PAGE_HEADER_BYTES>().await? else { return Err(truncated) };
        let (len, crc, seq) = (number_u32(&page, 0), number_u32(&page, 4), number_u64(&page, 8));
        if len == FOOTER_MARK {
            const COUNT_BYTES: usize = FOOTER_BYTES - PAGE_HEADER_BYTES;
            let Some(count) = stream.fixed::<COUNT_BYTES>().await? else { return Err(truncated) };
            let count = u64::from_le_bytes(count);
            let whole = crc == footer_crc(pages_crc, begin_seq, seq, count);
            if !whole || count != pages || seq != pages_end_seq {
                return Err(InvalidReason::Footer);
            }
            return Ok(Content::Whole { end_seq: seq, pages });
        }
        if len as usize > PAGE_BYTES_MAX || seq > SEQ_MAX {
            return Err(InvalidReason::Page { page: pages });
        }
        bytes.clear();
        if !stream.take(len as usize, &mut bytes).await? {
            return Err(truncated);
        }
        if crc != page_crc(begin_seq, pages, seq, &bytes) {
            return Err(InvalidReason::Page { page: pages });
        }
        visitor.page(seq, &bytes).map_err(|source| InvalidReason::Visit { page: pages, source })?;
        pages_crc = crc32c::crc32c_append(pages_crc, &crc.to_le_bytes());
        pages_end_seq = pages_end_seq.max(seq);
        pages += 1;
    }
}

/// The bytes of a file, front to back.
struct Stream<'a, F: DirectFile> {
    ahead: ReadAhead<'a, F>,
    piece: Option<F::Read>,
    /// How much of the piece was taken.
    used: usize,
}

impl<F: DirectFile> Stream<'_, F> {
    /// The next `N` bytes; `None` if the file ends before.
    async fn fixed<const N: usize>(&mut self) -> Result<Option<[u8; N]>, InvalidReason> {
        let mut bytes = Vec::with_capacity(N);
        self.take(N, &mut bytes).await?;
        Ok(bytes.try_into().ok())
    }

    /// Appends the next `len` bytes; false if the file ends before.
    async fn take(&mut self, len: usize, bytes: &mut Vec<u8>) -> Result<bool, InvalidReason> {
        let mut wanted = len;
        while wanted > 0 {
            let piece = self.piece.as_ref().map_or(&[][..], |piece| piece.as_ref());
            let rest = &piece[self.used..];
            if rest.is_empty() {
                if !self.next_piece().await? {
                    return Ok(false);
                }
                continue;
            }
            let part = &rest[..wanted.min(rest.len())];
            bytes.extend_from_slice(part);
            self.used += part.len();
            wanted -= part.len();
        }
        Ok(true)
    }

    async fn next_piece(&mut self) -> Result<bool, InvalidReason> {
        self.piece = self.ahead.next().await.map_err(InvalidReason::Io)?;
        self.used = 0;
        Ok(self.piece.is_some())
    }
}

fn number_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn number_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
