//! What a request sends: nothing, bytes, or a stretch of a file, handed to the connection piece by piece.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::stream;
use futures::{Stream, StreamExt};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::bucket::error::BucketError;

/// Small enough that a slow connection shows progress well before it counts as stalled.
const PIECE_BYTES: usize = 128 << 10;

/// The content of a request. A clone costs little, so that a request can be sent again.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A stretch of a local file, which is never in memory as a whole.
    File {
        /// The file.
        path: PathBuf,
        /// Where the stretch begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { length, .. } => *length,
        }
    }

    /// The MD5 of the content, computed where it may take its time.
    pub(super) async fn md5(&self) -> Result<[u8; 16], BucketError> {
        let content = self.clone();
        let path = match self {
            Content::Bytes(_) => PathBuf::new(),
            Content::File { path, .. } => path.clone(),
        };
        let digest = tokio::task::spawn_blocking(move || content.md5_blocking()).await;
        digest
            .unwrap_or_else(|_| Err(io::Error::other("the runtime is stopping")))
            .map_err(|error| BucketError::io(&path, error))
    }

    fn md5_blocking(&self) -> io::Result<[u8; 16]> {
        match self {
            Content::Bytes(bytes) => Ok(md5::compute(bytes).0),
            Content::File { path, offset, length } => {
                use std::io::{Read, Seek};
                let mut file = std::fs::File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                let mut context = md5::Context::new();
                let copied = io::copy(&mut file.take(*length), &mut context)?;
                if copied < *length { Err(shorter()) } else { Ok(context.finalize().0) }
            }
        }
    }

    /// The body of one try. `sent_bytes` grows whenever the connection takes something.
    pub(super) async fn body(&self, sent_bytes: Arc<AtomicU64>) -> Result<reqwest::Body, BucketError> {
        match self {
            _ if self.len() == 0 => Ok(reqwest::Body::from(Bytes::new())),
            Content::Bytes(bytes) => {
                let pieces = stream::unfold(bytes.clone(), |mut rest| async move {
                    if rest.is_empty() {
                        return None;
                    }
                    let piece = rest.split_to(rest.len().min(PIECE_BYTES));
                    Some((Ok(piece), rest))
                });
                Ok(reqwest::Body::wrap_stream(counted(pieces, sent_bytes)))
            }
            Content::File { path, offset, length } => {
                let pieces = file_pieces(path, *offset, *length)
                    .await
                    .map_err(|error| BucketError::io(path, error))?;
                Ok(reqwest::Body::wrap_stream(counted(pieces, sent_bytes)))
            }
        }
    }
}

fn counted(
    pieces: impl Stream<Item = io::Result<Bytes>>,
    sent_bytes: Arc<AtomicU64>,
) -> impl Stream<Item = io::Result<Bytes>> {
    pieces.inspect(move |piece| {
        if let Ok(piece) = piece {
            sent_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    })
}

async fn file_pieces(
    path: &Path,
    offset: u64,
    length: u64,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + use<>> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    Ok(stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let mut piece = BytesMut::with_capacity(wanted);
        while piece.len() < wanted {
            let read = (&mut file).take((wanted - piece.len()) as u64).read_buf(&mut piece).await?;
            if read == 0 {
                return Err(shorter());
            }
        }
        Ok(Some((piece.freeze(), (file, left - wanted as u64))))
    }))
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(content: &Content) -> io::Result<Vec<u8>> {
        let Content::File { path, offset, length } = content else { panic!("not a file") };
        let pieces: Vec<_> = file_pieces(path, *offset, *length).await?.collect().await;
        pieces.into_iter().try_fold(Vec::new(), |mut all, piece| {
            all.extend_from_slice(&piece?);
            Ok(all)
        })
    }

    #[tokio::test]
    async fn a_stretch_of_a_file_is_sent_and_summed_exactly() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        for (offset, length) in
            [(0, 1), (5, PIECE_BYTES), (PIECE_BYTES - 1, 2 * PIECE_BYTES + 3), (0, bytes.len())]
        {
            let content = Content::File { path: path.clone(), offset: offset as u64, length: length as u64 };
            let expected = &bytes[offset..offset + length];
            assert_eq!(sent(&content).await.unwrap(), expected);
            assert_eq!(content.md5().await.unwrap(), md5::compute(expected).0);
        }
        let past = Content::File { path, offset: 1, length: bytes.len() as u64 };
        assert!(sent(&past).await.is_err() && past.md5().await.is_err());
    }
}
