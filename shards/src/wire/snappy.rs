//! The snappy block around a remote write request.

/// Why a body could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum SnappyError {
    /// Not a snappy block, or a damaged one.
    #[error("the body is not a valid snappy block: {0}")]
    Invalid(#[from] snap::Error),
    /// The block says that it is larger than allowed; nothing was allocated for it.
    #[error("the body says it decompresses to {declared_bytes} bytes; at most {bytes_max} are allowed")]
    TooLarge {
        /// The declared size.
        declared_bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
}

/// Decompresses a block into `out`, whose memory is reused; the declared size is checked before any allocation.
pub fn decompress(body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), SnappyError> {
    let declared = snap::raw::decompress_len(body)?;
    if declared > bytes_max {
        return Err(SnappyError::TooLarge { declared_bytes: declared as u64, bytes_max });
    }
    // A byte of a snappy block yields at most 64/3 bytes of text, so that a small body cannot ask for much memory.
    if declared > body.len().saturating_mul(22) {
        return Err(SnappyError::Invalid(snap::Error::Header));
    }
    if out.len() < declared {
        out.resize(declared, 0);
    } else {
        out.truncate(declared);
    }
    let written = snap::raw::Decoder::new().decompress(body, out)?;
    out.truncate(written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_refused_before_memory_is_taken() {
        let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
        bomb.extend([0; 100]);
        let mut out = Vec::new();
        assert!(matches!(decompress(&bomb, 1 << 20, &mut out), Err(SnappyError::TooLarge { .. })));
        assert!(matches!(decompress(&bomb, usize::MAX, &mut out), Err(SnappyError::Invalid(_))));
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn the_densest_block_passes() {
        let text = vec![7u8; 4 << 20];
        let body = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        let mut out = vec![1; 8 << 20];
        decompress(&body, 4 << 20, &mut out).unwrap();
        assert_eq!(out, text);
    }

    #[test]
    fn what_is_not_snappy_is_an_error() {
        let mut out = Vec::new();
        for body in [&[][..], b"hello world", &[5, 0x10, 1, 2], &[0xff; 20]] {
            assert!(decompress(body, 1 << 20, &mut out).is_err(), "{body:?}");
        }
    }
}
