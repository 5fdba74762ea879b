//! What is forwarded to a peer, and the protobuf around its series.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::block::put_varint;

/// Tags of length-delimited fields and of the replica's number; `message` has the schema.
const TENANT_TAG: u8 = 2 << 3 | 2;
const REPLICA_TAG: u8 = 3 << 3;
const TUPLE_TAG: u8 = 4 << 3 | 2;

/// How a message names the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MessageForm {
    /// Fields 1 to 3, which every version of Thanos reads.
    #[default]
    Fields,
    /// Fields 3 and 4, as Thanos sends them since 0.43.
    Tuples,
}

/// Series of a request: fields 1 of remote write 1.0, tags included, some or all of those of a body. A copy shares its memory.
#[derive(Debug, Clone)]
pub struct SeriesBytes {
    body: Bytes,
    /// `None` is all of it.
    ranges: Option<Rc<[Range<u32>]>>,
    size_bytes: usize,
}

impl SeriesBytes {
    /// All of a body that has nothing but series.
    pub fn whole(body: Bytes) -> SeriesBytes {
        SeriesBytes { size_bytes: body.len(), body, ranges: None }
    }

    /// Some series of a body that shards share.
    ///
    /// # Panics
    /// When a range is not within the body.
    pub fn picked(body: Arc<Vec<u8>>, ranges: Vec<Range<u32>>) -> SeriesBytes {
        let is_within = |range: &Range<u32>| range.start <= range.end && range.end as usize <= body.len();
        assert!(ranges.iter().all(is_within), "a series is within the body that it was found in");
        let size_bytes = ranges.iter().map(|range| (range.end - range.start) as usize).sum();
        SeriesBytes { body: Bytes::from_owner(Shared(body)), ranges: Some(ranges.into()), size_bytes }
    }

    /// Their length.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The memory itself, if they are in one piece.
    pub(super) fn as_whole(&self) -> Option<&Bytes> {
        self.ranges.is_none().then_some(&self.body)
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.as_whole().map(|body| &body[..]);
        let picked = self.ranges.iter().flat_map(|ranges| ranges.iter());
        whole.into_iter().chain(picked.map(|range| &self.body[range.start as usize..range.end as usize]))
    }
}

/// A body that outlives the request which it came with.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What one peer shall store. A copy for another peer costs a few counters.
#[derive(Debug, Clone)]
pub struct ForwardRequest {
    /// Whose series they are.
    pub tenant: Arc<str>,
    /// Which copy the peer keeps, from 1.
    pub replica: u32,
    /// What it shall store.
    pub series: SeriesBytes,
    /// A snappy block whose text is `series`, byte for byte, if a sender's is at hand. Peers that take it get it as it is.
    pub block: Option<Bytes>,
}

/// The bytes before and after the series in a message.
pub(super) struct Envelope {
    pub prefix: Vec<u8>,
    pub suffix: Vec<u8>,
}

impl Envelope {
    pub fn new(request: &ForwardRequest, form: MessageForm) -> Envelope {
        let (mut prefix, mut suffix) = (Vec::new(), Vec::with_capacity(request.tenant.len() + 8));
        suffix.push(TENANT_TAG);
        put_varint(&mut suffix, request.tenant.len() as u64);
        suffix.extend_from_slice(request.tenant.as_bytes());
        if form == MessageForm::Tuples {
            prefix.push(TUPLE_TAG);
            put_varint(&mut prefix, (request.series.size_bytes() + suffix.len()) as u64);
        }
        if request.replica > 0 {
            suffix.push(REPLICA_TAG);
            put_varint(&mut suffix, u64::from(request.replica));
        }
        Envelope { prefix, suffix }
    }

    /// The length of the message.
    pub fn message_bytes(&self, request: &ForwardRequest) -> usize {
        self.prefix.len() + request.series.size_bytes() + self.suffix.len()
    }
}
