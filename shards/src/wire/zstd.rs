//! A remote write request as zstd frames (RFC 8878).
//!
//! Decompressed in small steps, because a small body can hold much work; memory for the text is taken as it appears.

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// The largest window: what RFC 9659 asks of every decoder of `Content-Encoding: zstd`, and no more.
const WINDOW_LOG_MAX: u32 = 23;

/// Text of one step; some 150 µs of work.
const STEP_TEXT_BYTES: usize = 256 << 10;

/// Input of one step, which may hold many blocks and frames without any text.
const STEP_INPUT_BYTES: usize = 64 << 10;

/// Why a body could not be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ZstdError {
    /// Not zstd, damaged, or with a window over the limit.
    #[error("the body is not valid zstd: {0}")]
    Invalid(&'static str),
    /// Nothing is wrong with the body.
    #[error("there is no memory for a zstd decoder")]
    NoMemory,
    /// More text than is allowed.
    #[error("the body decompresses to more than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

/// Decompresses one body.
pub struct Unzstd {
    context: DCtx<'static>,
    consumed: usize,
    bytes_max: usize,
}

impl Unzstd {
    /// Nothing is decompressed. What a body says of its size is believed if it is too much, and for nothing else.
    ///
    /// # Errors
    /// When the body is too large by its own account, or does not begin as zstd.
    pub fn new(body: &[u8], bytes_max: usize) -> Result<Unzstd, ZstdError> {
        let declared = zstd_safe::get_frame_content_size(body)
            .map_err(|_| ZstdError::Invalid("it does not begin with a frame"))?;
        if declared.is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(ZstdError::TooLarge { bytes_max });
        }
        let mut context = DCtx::try_create().ok_or(ZstdError::NoMemory)?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(failed)?;
        Ok(Unzstd { context, consumed: 0, bytes_max })
    }

    /// Goes on for one step and appends to `out`. Answers whether the end was reached.
    ///
    /// # Errors
    /// When the body is damaged, or has more text than is allowed.
    pub fn run(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<bool, ZstdError> {
        let text_before = out.len();
        // One byte over the limit tells a text that is as long as allowed from a longer one.
        let room = STEP_TEXT_BYTES.min(self.bytes_max.saturating_sub(text_before).saturating_add(1));
        out.resize(text_before + room, 0);
        let input_end = body.len().min(self.consumed + STEP_INPUT_BYTES);
        let mut input = InBuffer::around(&body[..input_end]);
        input.set_pos(self.consumed);
        let mut output = OutBuffer::around(&mut out[text_before..]);
        let result = self.context.decompress_stream(&mut output, &mut input);
        let written = output.pos();
        let is_stuck = written == 0 && input.pos() == self.consumed;
        self.consumed = input.pos();
        out.truncate(text_before + written);
        let is_frame_end = result.map_err(failed)? == 0;
        if out.len() > self.bytes_max {
            return Err(ZstdError::TooLarge { bytes_max: self.bytes_max });
        }
        if is_frame_end && self.consumed == body.len() {
            return Ok(true);
        }
        if is_stuck {
            return Err(ZstdError::Invalid("it ends inside a frame"));
        }
        Ok(false)
    }

    /// Memory of the decoder itself: its window, above all.
    pub fn memory_bytes(&self) -> usize {
        self.context.sizeof()
    }
}

/// What an error of the library means. It takes memory for the window once it knows how large that is.
fn failed(code: usize) -> ZstdError {
    if zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_memory_allocation) {
        return ZstdError::NoMemory;
    }
    ZstdError::Invalid(zstd_safe::get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decompress(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, ZstdError> {
        let (mut out, mut step) = (Vec::new(), Unzstd::new(body, bytes_max)?);
        while !step.run(body, &mut out)? {
            assert!(out.len() <= bytes_max && step.memory_bytes() < 10 << 20);
        }
        Ok(out)
    }

    fn compress(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(text.len()));
        zstd_safe::compress(&mut out, text, 3).unwrap();
        out
    }

    /// Without the size of the text in its head, as a stream is written.
    fn stream(text: &[u8]) -> Vec<u8> {
        let mut context = zstd_safe::CCtx::create();
        let mut out = vec![0; zstd_safe::compress_bound(text.len()) + 100];
        let mut output = OutBuffer::around(&mut out[..]);
        let mut input = InBuffer::around(text);
        while input.pos() < text.len() {
            context.compress_stream(&mut output, &mut input).unwrap();
        }
        while context.end_stream(&mut output).unwrap() > 0 {}
        let written = output.pos();
        out.truncate(written);
        out
    }

    #[test]
    fn a_bomb_is_refused_before_its_text_is_made() {
        let text = vec![0; 64 << 20];
        let too_large = Err(ZstdError::TooLarge { bytes_max: 1 << 20 });
        assert_eq!(decompress(&compress(&text), 1 << 20), too_large);
        let bomb = stream(&text);
        assert!(bomb.len() < 10_000, "{}", bomb.len());
        assert_eq!(decompress(&bomb, 1 << 20), too_large);
        assert_eq!(decompress(&bomb, 64 << 20), Ok(text));
    }

    #[test]
    fn a_window_over_the_limit_is_refused() {
        let mut context = zstd_safe::CCtx::create();
        context.set_parameter(zstd_safe::CParameter::WindowLog(WINDOW_LOG_MAX + 1)).unwrap();
        let text: Vec<u8> = (0..17u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(text.len()));
        context.compress2(&mut out, &text).unwrap();
        assert!(matches!(decompress(&out, 32 << 20), Err(ZstdError::Invalid(_))));
    }

    #[test]
    fn frames_may_follow_each_other_and_have_no_text() {
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let body = [&compress(b"one")[..], &skippable, &stream(b""), &compress(b"two")].concat();
        assert_eq!(decompress(&body, 6), Ok(b"onetwo".to_vec()));
        assert_eq!(decompress(&body, 5), Err(ZstdError::TooLarge { bytes_max: 5 }));
    }

    #[test]
    fn what_is_not_zstd_is_an_error() {
        let whole = compress(&b"text ".repeat(1000));
        for body in [&[][..], b"hello world", &[0xff; 20], &whole[..whole.len() - 1], &whole[..5]] {
            assert!(matches!(decompress(body, 1 << 20), Err(ZstdError::Invalid(_))), "{body:?}");
        }
    }

    #[test]
    fn a_lack_of_memory_is_no_fault_of_the_body() {
        let code = |kind: ZSTD_ErrorCode| (kind as usize).wrapping_neg();
        assert_eq!(failed(code(ZSTD_ErrorCode::ZSTD_error_memory_allocation)), ZstdError::NoMemory);
        let damaged = failed(code(ZSTD_ErrorCode::ZSTD_error_corruption_detected));
        assert!(matches!(damaged, ZstdError::Invalid(_)), "{damaged:?}");
    }

    proptest! {
        #[test]
        fn text_comes_back(text in proptest::collection::vec(any::<u8>(), 0..2000), times in 1usize..300) {
            let text = text.repeat(times);
            prop_assert_eq!(decompress(&compress(&text), text.len()), Ok(text.clone()));
            prop_assert_eq!(decompress(&stream(&text), text.len()), Ok(text));
        }

        #[test]
        fn mutated_frames_end_in_a_result(
            text in proptest::collection::vec(any::<u8>(), 0..200),
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut body = compress(&text.repeat(50));
            for (index, byte) in edits {
                let at = index.index(body.len());
                body[at] = byte;
            }
            body.truncate(cut.index(body.len() + 1));
            if let Ok(text) = decompress(&body, 20_000) {
                prop_assert!(text.len() <= 20_000);
            }
        }
    }
}
