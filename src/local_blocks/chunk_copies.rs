//! Copies of chunks, many in one allocation: a query may want millions of chunks of some hundred bytes each.

use annulus_shards::chunk::Encoding;
use bytes::Bytes;

use crate::block::ChunkMeta;
use crate::source::ChunkRef;

/// Chunks share an allocation up to this size. Whoever keeps one of them keeps them all.
const PIECE_BYTES: usize = 64 << 10;

/// Collects chunks.
#[derive(Debug, Default)]
pub(super) struct ChunkCopies {
    done: Vec<ChunkRef>,
    piece: Vec<u8>,
    /// The chunks in `piece`: what they are, and where each ends.
    open: Vec<(ChunkMeta, Encoding, usize)>,
}

impl ChunkCopies {
    /// Copies one chunk.
    pub(super) fn push(&mut self, meta: ChunkMeta, encoding: Encoding, bytes: &[u8]) {
        if self.piece.len() + bytes.len() > PIECE_BYTES {
            self.close_piece();
        }
        self.piece.extend_from_slice(bytes);
        self.open.push((meta, encoding, self.piece.len()));
    }

    /// All chunks, as they came; of which replica they are is for the caller to say.
    pub(super) fn finish(mut self) -> Vec<ChunkRef> {
        self.close_piece();
        self.done
    }

    fn close_piece(&mut self) {
        // As a boxed slice it keeps no room beyond its end.
        let piece = Bytes::from(std::mem::take(&mut self.piece).into_boxed_slice());
        let mut start = 0;
        for (meta, encoding, end) in self.open.drain(..) {
            let bytes = piece.slice(start..end);
            let ChunkMeta { min_ms, max_ms, .. } = meta;
            self.done.push(ChunkRef { min_ms, max_ms, encoding, bytes, replica: 0 });
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::ChunkPlace;

    #[test]
    fn chunks_of_any_size_come_back_as_they_were() {
        let lengths = [0, 1, PIECE_BYTES - 1, 0, 2, 3 * PIECE_BYTES, 5, PIECE_BYTES];
        let content = |index: usize| vec![index as u8; lengths[index]];
        let mut copies = ChunkCopies::default();
        for index in 0..lengths.len() {
            let place = ChunkPlace::from_number(0);
            let meta = ChunkMeta { place, min_ms: index as i64, max_ms: 100 };
            copies.push(meta, Encoding::Xor, &content(index));
        }
        let chunks = copies.finish();
        assert_eq!(chunks.len(), lengths.len());
        for (index, chunk) in chunks.iter().enumerate() {
            assert_eq!((chunk.min_ms, &chunk.bytes[..]), (index as i64, &content(index)[..]));
        }
    }
}
