//! The body of a request to a peer: one gRPC frame, made in steps that leave the shard time for others.

use std::cell::RefCell;

use bytes::Bytes;
use snap::raw::Encoder;

use super::block::{BLOCK_ENCODING, ExtendedBlock};
use super::frame::FRAME_HEAD_BYTES;
use super::request::{Envelope, ForwardRequest, MessageForm};
use super::stream::{CHUNK_TEXT_BYTES, IDENTIFIER, put_chunk};
use crate::rt::Pacer;

/// The largest message of gRPC, as Thanos sets it.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// What the pieces of a plain body are gathered to: a frame of HTTP/2 for each series would cost more than the copy.
const PIECE_BYTES: usize = CHUNK_TEXT_BYTES;

/// How a message is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    /// The framing format of snappy.
    Stream,
    /// One block of snappy.
    Block,
}

impl Encoding {
    /// What `grpc-encoding` calls it; nothing if the header is left out.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Encoding::Identity => None,
            Encoding::Stream => Some("snappy"),
            Encoding::Block => Some(BLOCK_ENCODING),
        }
    }
}

/// The message is larger than any peer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {message_bytes} bytes is larger than gRPC allows")]
pub(super) struct MessageTooLarge {
    message_bytes: usize,
}

/// Makes the pieces of a body. A block that cannot be used becomes a stream, so the encoding is answered too.
pub(super) async fn encode(
    request: &ForwardRequest,
    form: MessageForm,
    encoding: Encoding,
    encoder: &RefCell<Encoder>,
) -> Result<(Encoding, Vec<Bytes>), MessageTooLarge> {
    let envelope = Envelope::new(request, form);
    let message_bytes = envelope.message_bytes(request);
    if message_bytes > MESSAGE_BYTES_MAX {
        return Err(MessageTooLarge { message_bytes });
    }
    let pieces = match encoding {
        Encoding::Block => match extended(request, &envelope) {
            Some(pieces) => pieces,
            None => return Ok((Encoding::Stream, vec![stream(request, &envelope, encoder).await])),
        },
        Encoding::Stream => vec![stream(request, &envelope, encoder).await],
        Encoding::Identity => plain(request, &envelope).await,
    };
    Ok((encoding, pieces))
}

/// The block of a sender with the envelope around its text.
fn extended(request: &ForwardRequest, envelope: &Envelope) -> Option<Vec<Bytes>> {
    let (block, text_bytes) = (request.block.as_ref()?, request.series.size_bytes());
    let block = ExtendedBlock::new(&envelope.prefix, block, text_bytes, &envelope.suffix);
    let block =
        block.inspect_err(|error| tracing::error!(%error, "a block that was read cannot be passed on"));
    let block = block.ok()?;
    let mut head = frame_head(true, block.size_bytes()).to_vec();
    head.extend_from_slice(&block.head);
    Some(vec![head.into(), block.elements, block.tail.into()])
}

async fn stream(request: &ForwardRequest, envelope: &Envelope, encoder: &RefCell<Encoder>) -> Bytes {
    let mut text = Text::new(request, envelope);
    let mut body = vec![0; FRAME_HEAD_BYTES];
    body.extend_from_slice(&IDENTIFIER);
    let mut chunk = Vec::with_capacity(CHUNK_TEXT_BYTES.min(envelope.message_bytes(request)));
    let mut pacer = Pacer::default();
    while text.fill(&mut chunk, CHUNK_TEXT_BYTES) {
        put_chunk(&mut body, &chunk, &mut encoder.borrow_mut());
        chunk.clear();
        pacer.pace().await;
    }
    let head = frame_head(true, body.len() - FRAME_HEAD_BYTES);
    body[..FRAME_HEAD_BYTES].copy_from_slice(&head);
    // Room was taken for text that does not compress, and the body may wait for its peer for a while.
    body.shrink_to_fit();
    body.into()
}

async fn plain(request: &ForwardRequest, envelope: &Envelope) -> Vec<Bytes> {
    let mut head = frame_head(false, envelope.message_bytes(request)).to_vec();
    if let Some(series) = request.series.as_whole() {
        head.extend_from_slice(&envelope.prefix);
        return vec![head.into(), series.clone(), envelope.suffix.clone().into()];
    }
    let (mut text, mut pieces, mut pacer) = (Text::new(request, envelope), Vec::new(), Pacer::default());
    let mut piece = head;
    while text.fill(&mut piece, PIECE_BYTES) {
        pieces.push(std::mem::take(&mut piece).into());
        pacer.pace().await;
    }
    pieces
}

fn frame_head(is_compressed: bool, message_bytes: usize) -> [u8; FRAME_HEAD_BYTES] {
    let length =
        u32::try_from(message_bytes).expect("a stream is hardly larger than its text, which is below 2 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [u8::from(is_compressed), a, b, c, d]
}

/// A walk over the bytes of a message that are in many places.
struct Text<'a, I> {
    slices: I,
    rest: &'a [u8],
}

impl<'a> Text<'a, ()> {
    fn new(request: &'a ForwardRequest, envelope: &'a Envelope) -> Text<'a, impl Iterator<Item = &'a [u8]>> {
        let prefix = std::iter::once(&envelope.prefix[..]);
        let slices = prefix.chain(request.series.slices()).chain(std::iter::once(&envelope.suffix[..]));
        Text { slices, rest: &[] }
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Text<'a, I> {
    /// Appends until there are so many bytes. Answers whether any were left.
    fn fill(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        let len_before = out.len();
        while out.len() < bytes {
            if self.rest.is_empty() {
                match self.slices.next() {
                    Some(slice) => self.rest = slice,
                    None => break,
                }
            }
            let (now, later) = self.rest.split_at(self.rest.len().min(bytes - out.len()));
            out.extend_from_slice(now);
            self.rest = later;
        }
        out.len() > len_before
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::request::SeriesBytes;
    use super::super::{Splitter, Unstream, unframe};
    use super::*;
    use crate::rt::{allowed_cpus, spawn_shard};
    use proptest::prelude::*;

    /// Encodes in every way, and reads each as a peer does.
    async fn check(request: ForwardRequest) {
        let encoder = RefCell::new(Encoder::new());
        let wanted: Vec<u8> = request.series.slices().flatten().copied().collect();
        for form in [MessageForm::Fields, MessageForm::Tuples] {
            for encoding in [Encoding::Identity, Encoding::Stream, Encoding::Block] {
                let (used, pieces) = encode(&request, form, encoding, &encoder).await.unwrap();
                assert!(used == encoding || request.block.is_none());
                let body = pieces.concat();
                let (is_compressed, message) = unframe(&body).unwrap();
                assert_eq!(is_compressed, encoding != Encoding::Identity);
                let mut text = Vec::new();
                match used {
                    Encoding::Identity => text = message.to_vec(),
                    Encoding::Stream => {
                        let mut step = Unstream::new(message, 1 << 30).unwrap();
                        while !step.run(message, &mut text).unwrap() {}
                    }
                    Encoding::Block => text = snap::raw::Decoder::new().decompress_vec(message).unwrap(),
                }
                let mut splitter = Splitter::default();
                while !splitter.run(&text, 100).unwrap() {}
                let read = splitter.finish(text).unwrap();
                assert_eq!(read.replica, request.replica);
                assert_eq!(read.parts.len(), 1);
                assert_eq!(read.parts[0].tenant, *request.tenant);
                assert!(read.parts[0].body == wanted);
            }
        }
    }

    fn on_shard<F: Future<Output = ()> + 'static>(make: impl FnOnce() -> F + Send + 'static) {
        spawn_shard("test", allowed_cpus()[0], make).unwrap().join().unwrap();
    }

    fn series(count: usize, bytes: usize) -> Vec<u8> {
        let mut body = Vec::new();
        for number in 0..count {
            body.push(0x0a);
            super::super::block::put_varint(&mut body, bytes as u64);
            body.extend((0..bytes).map(|at| (at * number) as u8));
        }
        body
    }

    #[test]
    fn each_encoding_and_form_is_read_by_the_other_end() {
        on_shard(|| async {
            for (count, bytes) in [(0, 0), (1, 0), (3, 100), (2000, 110), (1, 300_000)] {
                let body = series(count, bytes);
                let block = snap::raw::Encoder::new().compress_vec(&body).unwrap();
                for block in [None, Some(Bytes::from(block))] {
                    let series = SeriesBytes::whole(Bytes::from(body.clone()));
                    check(ForwardRequest { tenant: "team-a".into(), replica: 2, series, block }).await;
                }
            }
        });
    }

    #[test]
    fn a_block_of_other_series_is_not_passed_on() {
        on_shard(|| async {
            let series = SeriesBytes::whole(Bytes::from(series(3, 10)));
            let block = Some(snap::raw::Encoder::new().compress_vec(b"other").unwrap().into());
            let request = ForwardRequest { tenant: "t".into(), replica: 0, series, block };
            let encoder = RefCell::new(Encoder::new());
            let (used, _) = encode(&request, MessageForm::Fields, Encoding::Block, &encoder).await.unwrap();
            assert_eq!(used, Encoding::Stream);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn some_series_of_a_body_are_encoded_as_if_they_were_alone(
            picks in proptest::collection::vec(any::<bool>(), 0..1500), bytes in 0usize..300,
            tenant in "[a-z]{0,200}", replica in 0u32..5,
        ) {
            on_shard(move || async move {
                let one = series(1, bytes).len() as u32;
                let body = Arc::new(series(picks.len(), bytes));
                let starts = (0..).map(|number| number * one);
                let picked = picks.iter().zip(starts).filter(|(is_picked, _)| **is_picked);
                let ranges = picked.map(|(_, start)| start..start + one).collect();
                let series = SeriesBytes::picked(body, ranges);
                check(ForwardRequest { tenant: tenant.into(), replica, series, block: None }).await;
            });
        }
    }
}
