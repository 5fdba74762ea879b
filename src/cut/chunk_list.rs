//! The chunks of one series as bytes, on their way from the head into a block.

use annulus_shards::chunk::Encoding;

/// Times, encoding and length of a chunk.
const HEADER_BYTES: usize = 8 + 8 + 1 + 4;

/// A chunk, wherever its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawChunk<'a> {
    /// Time of its first sample.
    pub min_ms: i64,
    /// Time of its last sample.
    pub max_ms: i64,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Without encoding byte and checksum.
    pub bytes: &'a [u8],
}

impl RawChunk<'_> {
    /// Its bytes in a list.
    pub fn listed_bytes(&self) -> usize {
        HEADER_BYTES + self.bytes.len()
    }

    /// Appends it to a list.
    ///
    /// # Panics
    /// If it is longer than 4 GiB; the head's own limit is far below.
    pub fn put(&self, list: &mut Vec<u8>) {
        let length = u32::try_from(self.bytes.len()).expect("no chunk of a head is that long");
        list.extend_from_slice(&self.min_ms.to_le_bytes());
        list.extend_from_slice(&self.max_ms.to_le_bytes());
        list.push(self.encoding as u8);
        list.extend_from_slice(&length.to_le_bytes());
        list.extend_from_slice(self.bytes);
    }
}

/// Walks a list. What is no chunk ends it.
#[derive(Debug, Clone)]
pub struct ChunkIter<'a>(&'a [u8]);

impl<'a> ChunkIter<'a> {
    /// From the first chunk on.
    pub fn new(list: &'a [u8]) -> ChunkIter<'a> {
        ChunkIter(list)
    }

    /// Whether bytes are a list to their end.
    pub fn is_whole(list: &[u8]) -> bool {
        let mut chunks = ChunkIter(list);
        while chunks.next().is_some() {}
        chunks.0.is_empty()
    }
}

impl<'a> Iterator for ChunkIter<'a> {
    type Item = RawChunk<'a>;

    fn next(&mut self) -> Option<RawChunk<'a>> {
        let (min_ms, rest) = self.0.split_first_chunk()?;
        let (max_ms, rest) = rest.split_first_chunk()?;
        let (encoding, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let encoding = Encoding::from_byte(*encoding)?;
        self.0 = rest;
        let (min_ms, max_ms) = (i64::from_le_bytes(*min_ms), i64::from_le_bytes(*max_ms));
        Some(RawChunk { min_ms, max_ms, encoding, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_put_and_a_cut_one_is_noticed() {
        let chunks = [
            RawChunk { min_ms: i64::MIN, max_ms: -1, encoding: Encoding::Xor, bytes: b"abc" },
            RawChunk { min_ms: 5, max_ms: i64::MAX, encoding: Encoding::FloatHistogram, bytes: b"" },
        ];
        let mut list = Vec::new();
        let mut ends = vec![0];
        for chunk in &chunks {
            chunk.put(&mut list);
            ends.push(list.len());
        }
        assert_eq!(list.len(), chunks.iter().map(RawChunk::listed_bytes).sum::<usize>());
        assert_eq!(ChunkIter::new(&list).collect::<Vec<_>>(), chunks);
        for length in 0..=list.len() {
            assert_eq!(ChunkIter::is_whole(&list[..length]), ends.contains(&length), "{length}");
        }
    }
}
