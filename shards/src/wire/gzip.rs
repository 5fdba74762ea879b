//! The gzip around a request, inflated piece by piece: unlike a snappy block it does not say how large it gets.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// What is asked of the decoder at once.
const PIECE_BYTES: usize = 32 << 10;

/// Input of one run, which may hold many blocks without any text.
const RUN_INPUT_BYTES: usize = 64 << 10;

/// What a member costs besides its bytes, of which it need not have more than twenty: the decoder starts anew.
const MEMBER_COST_BYTES: usize = 2 << 10;

/// Why a body could not be inflated.
#[derive(Debug, thiserror::Error)]
pub enum GzipError {
    /// Not gzip, or damaged.
    #[error("the body is not valid gzip: {0}")]
    Invalid(#[from] io::Error),
    /// More than allowed; the rest was not looked at.
    #[error("the body inflates to more than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

/// Inflates one body, which may be several members one after another.
pub struct Gunzip<'a> {
    decoder: GzDecoder<Input<'a>>,
    bytes_max: usize,
}

/// What is left of a body, of which the decoder gets so much in this run.
#[derive(Clone, Copy)]
struct Input<'a> {
    rest: &'a [u8],
    room_bytes: usize,
}

impl Read for Input<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Input<'_> {
    /// The decoder keeps its place when there is no more for now, wherever it is.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.room_bytes == 0 && !self.rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.rest[..self.rest.len().min(self.room_bytes)])
    }

    fn consume(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
        self.room_bytes -= bytes;
    }
}

impl<'a> Gunzip<'a> {
    /// Nothing is inflated yet.
    pub fn new(body: &'a [u8], bytes_max: usize) -> Gunzip<'a> {
        let input = Input { rest: body, room_bytes: RUN_INPUT_BYTES };
        Gunzip { decoder: GzDecoder::new(input), bytes_max }
    }

    /// Appends up to about `bytes` to `out`, and reads a bounded part of the body for it. Answers whether the end was
    /// reached.
    ///
    /// # Errors
    /// When the body is damaged or inflates to too much; `out` then holds what came before.
    pub fn run(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<bool, GzipError> {
        let end = out.len().saturating_add(bytes);
        self.decoder.get_mut().room_bytes = RUN_INPUT_BYTES;
        while out.len() < end {
            let start = out.len();
            // One byte past the limit tells too much from just enough.
            let piece = PIECE_BYTES.min(self.bytes_max.saturating_sub(start) + 1);
            out.resize(start + piece, 0);
            let read = self.decoder.read(&mut out[start..]);
            out.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) if !self.next_member() => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if out.len() > self.bytes_max {
                return Err(GzipError::TooLarge { bytes_max: self.bytes_max });
            }
        }
        Ok(false)
    }

    /// Goes on behind a member; `false` at the end of the body.
    fn next_member(&mut self) -> bool {
        let Input { rest, room_bytes } = *self.decoder.get_mut();
        if rest.is_empty() {
            return false;
        }
        self.decoder.reset(Input { rest, room_bytes: room_bytes.saturating_sub(MEMBER_COST_BYTES) });
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, GzipError> {
        let (mut out, mut inflater) = (Vec::new(), Gunzip::new(body, bytes_max));
        while !inflater.run(&mut out, 1000)? {}
        Ok(out)
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![0; 8 << 20]);
        let (mut out, mut inflater) = (Vec::new(), Gunzip::new(&bomb, 100_000));
        let refused = loop {
            match inflater.run(&mut out, 10_000) {
                Ok(is_done) => assert!(!is_done),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, GzipError::TooLarge { bytes_max: 100_000 }));
        assert!(out.capacity() < 300_000, "{}", out.capacity());
        assert_eq!(gunzip(&gzip(&[7; 1000]), 1000).unwrap(), [7; 1000]);
        assert!(matches!(gunzip(&gzip(&[7; 1001]), 1000), Err(GzipError::TooLarge { .. })));
    }

    #[test]
    fn what_is_not_gzip_is_an_error() {
        let whole = gzip(b"hello world");
        for body in [&b""[..], b"hello", &whole[..whole.len() - 1], &[&whole[..], b"tail"].concat()] {
            assert!(matches!(gunzip(body, 1000), Err(GzipError::Invalid(_))), "{body:?}");
        }
        assert_eq!(gunzip(&[&whole[..], &whole].concat(), 1000).unwrap(), b"hello worldhello world");
    }

    #[test]
    fn members_and_blocks_without_text_are_read_step_by_step() {
        let members = gzip(b"").repeat(20_000);
        let mut blocks = gzip(b"")[..10].to_vec();
        blocks.extend([0, 0, 0, 0xff, 0xff].repeat(200_000));
        blocks.extend([1, 0, 0, 0xff, 0xff]);
        blocks.extend([0; 8]);
        for (body, run_count_min) in [(members, 500), (blocks, 15)] {
            let (mut out, mut inflater) = (Vec::new(), Gunzip::new(&body, 1000));
            let mut run_count = 1;
            while !inflater.run(&mut out, 1000).unwrap() {
                run_count += 1;
            }
            assert!(out.is_empty() && run_count >= run_count_min, "{run_count}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in proptest::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(gunzip(&gzip(&text), 5000).unwrap(), text);
        }

        #[test]
        fn damaged_gzip_ends_in_a_result(at in 0..200usize, byte: u8) {
            let mut body = gzip(&[1, 2, 3, 4].repeat(300));
            let at = at % body.len();
            body[at] = byte;
            let _ = gunzip(&body, 10_000);
        }
    }
}
