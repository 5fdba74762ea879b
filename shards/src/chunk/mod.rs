//! Prometheus' chunk encodings.

/// How the bytes of a chunk are encoded (Prometheus `tsdb/chunkenc`); the number is the byte on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Gorilla-style floats.
    Xor = 1,
}
