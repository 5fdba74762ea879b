//! What a peer sends: thanos.WriteRequest, and the bodies of remote write 1.0 that it holds.
//!
//! Schema (thanos `pkg/store/storepb/rpc.proto`): WriteRequest {1: repeated TimeSeries, 2: string tenant, 3: int64 replica,
//! 4: repeated TimeSeriesTenantTuple}; TimeSeriesTenantTuple {1: repeated TimeSeries, 2: string tenant}. TimeSeries is that of
//! remote write 1.0, and so is its field number: the series of a tenant are a body of remote write 1.0 as they stand. With
//! field 4 present, fields 1 and 2 do not count; senders before Thanos 0.43 know only fields 1 to 3.

use crate::edge::TENANT_BYTES_MAX;
use crate::wire::{Field, Reader, WireError};

/// The most tenants of one request: each is written for on its own.
const TENANTS_MAX: usize = 10_000;

/// Series of a tenant stand side by side, as every known peer writes them; so many times something may stand between them.
const SPANS_MAX: usize = 1024;

const SERIES: u32 = 1;
const TENANT: u32 = 2;
const REPLICA: u32 = 3;
const TUPLE: u32 = 4;

/// Why bytes are not a request of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not protobuf, or not of this schema.
    #[error("the request of a peer is not a thanos.WriteRequest: {0}")]
    Wire(#[from] WireError),
    /// A tenant's name is not text, or too long.
    #[error("the request of a peer names a tenant that is not UTF-8 of at most {TENANT_BYTES_MAX} bytes")]
    Tenant,
    /// More tenants than a request may have.
    #[error("the request of a peer is for more than {TENANTS_MAX} tenants")]
    TooManyTenants,
    /// Series with too much between them.
    #[error("the series of one tenant stand at more than {SPANS_MAX} places of the request")]
    Scattered,
    /// The number of a replica is negative, or no number of a replica.
    #[error("the request of a peer is for replica {0}")]
    Replica(i64),
}

/// The series of one tenant as a body of remote write 1.0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantBody {
    /// Empty when the peer names none.
    pub tenant: String,
    /// Nothing but fields 1.
    pub body: Vec<u8>,
}

/// A request of a peer, parted by tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRequest {
    /// Which copy the sender wants kept here, from 1; 0 when it did not choose one.
    pub replica: u32,
    /// In the order of the request; a tenant may come twice.
    pub parts: Vec<TenantBody>,
}

/// Parts a decompressed message by tenant, in small steps: a message may have millions of fields.
#[derive(Default)]
pub struct Splitter {
    position: usize,
    /// Where the tuple ends that the walk is in.
    tuple_end: Option<usize>,
    series: Spans,
    tenant: String,
    replica: i64,
    tuples: Vec<Tuple>,
}

#[derive(Default)]
struct Tuple {
    series: Spans,
    tenant: String,
}

impl Splitter {
    /// Looks at `fields` more fields. Answers whether the end was reached.
    ///
    /// # Errors
    /// When the message is not of the schema. What its series hold is not looked at.
    pub fn run(&mut self, message: &[u8], fields: usize) -> Result<bool, MessageError> {
        for _ in 0..fields {
            let end = self.tuple_end.unwrap_or(message.len());
            let mut reader = Reader::new(&message[self.position..end], self.position);
            let Some(field) = reader.field()? else {
                if self.tuple_end.take().is_none() {
                    return Ok(true);
                }
                continue;
            };
            self.position = field.end;
            if self.tuple_end.is_some() {
                let tuple = self.tuples.last_mut().expect("a tuple was begun with its end");
                match field.number {
                    SERIES => tuple.series.add(&field)?,
                    TENANT => tuple.tenant = tenant(&field)?,
                    _ => {}
                }
                continue;
            }
            match field.number {
                SERIES => self.series.add(&field)?,
                TENANT => self.tenant = tenant(&field)?,
                REPLICA => self.replica = field.varint()? as i64,
                TUPLE => {
                    if self.tuples.len() == TENANTS_MAX {
                        return Err(MessageError::TooManyTenants);
                    }
                    self.position = field.end - field.bytes()?.len();
                    self.tuple_end = Some(field.end);
                    self.tuples.push(Tuple::default());
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Bytes that `finish` copies: none for a request of one tenant.
    pub fn copied_bytes(&self) -> usize {
        if self.tuples.len() < 2 { 0 } else { self.tuples.iter().map(|tuple| tuple.series.bytes()).sum() }
    }

    /// What was found, once the end was reached. The message's own memory becomes the body of a request for one tenant, which
    /// is what peers send; only what other forms have is copied.
    ///
    /// # Errors
    /// When the number of the replica is none.
    pub fn finish(mut self, message: Vec<u8>) -> Result<PeerRequest, MessageError> {
        let replica = match self.replica {
            number @ 0..=0xff => number as u32,
            number => return Err(MessageError::Replica(number)),
        };
        if self.tuples.is_empty() {
            self.tuples.push(Tuple { series: self.series, tenant: self.tenant });
        }
        if let [only] = &mut self.tuples[..] {
            let tenant = std::mem::take(&mut only.tenant);
            return Ok(PeerRequest {
                replica,
                parts: vec![TenantBody { tenant, body: only.series.cut_out(message) }],
            });
        }
        let part = |tuple: Tuple| TenantBody { body: tuple.series.copy_from(&message), tenant: tuple.tenant };
        Ok(PeerRequest { replica, parts: self.tuples.into_iter().map(part).collect() })
    }
}

fn tenant(field: &Field<'_>) -> Result<String, MessageError> {
    let bytes = field.bytes()?;
    let name = std::str::from_utf8(bytes).map_err(|_| MessageError::Tenant)?;
    if name.len() > TENANT_BYTES_MAX {
        return Err(MessageError::Tenant);
    }
    Ok(name.to_owned())
}

/// Where the fields of series are in a message: mostly one run of them.
#[derive(Default)]
struct Spans(Vec<std::ops::Range<usize>>);

impl Spans {
    fn add(&mut self, field: &Field<'_>) -> Result<(), MessageError> {
        field.bytes()?;
        let span_count = self.0.len();
        match self.0.last_mut() {
            Some(last) if last.end == field.start => last.end = field.end,
            _ if span_count == SPANS_MAX => return Err(MessageError::Scattered),
            _ => self.0.push(field.start..field.end),
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(std::ops::Range::len).sum()
    }

    fn copy_from(&self, message: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes());
        for span in &self.0 {
            body.extend_from_slice(&message[span.clone()]);
        }
        body
    }

    fn cut_out(&self, mut message: Vec<u8>) -> Vec<u8> {
        match &self.0[..] {
            [] => Vec::new(),
            [span] => {
                message.truncate(span.end);
                message.drain(..span.start);
                message
            }
            _ => self.copy_from(&message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    /// The schema as another implementation reads and writes it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct WriteRequest {
        #[prost(bytes, repeated, tag = "1")]
        timeseries: Vec<Vec<u8>>,
        #[prost(string, tag = "2")]
        tenant: String,
        #[prost(int64, tag = "3")]
        replica: i64,
        #[prost(message, repeated, tag = "4")]
        tuples: Vec<TenantTuple>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct TenantTuple {
        #[prost(bytes, repeated, tag = "1")]
        timeseries: Vec<Vec<u8>>,
        #[prost(string, tag = "2")]
        tenant: String,
    }

    fn read(message: Vec<u8>) -> Result<PeerRequest, MessageError> {
        let mut splitter = Splitter::default();
        while !splitter.run(&message, 2)? {}
        splitter.finish(message)
    }

    fn series(body: &[u8]) -> Vec<Vec<u8>> {
        WriteRequest::decode(body).unwrap().timeseries
    }

    fn lists() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5)
    }

    #[test]
    fn what_no_replica_can_be_is_refused() {
        for replica in [-1, 256, i64::MAX] {
            let message = WriteRequest { replica, ..WriteRequest::default() }.encode_to_vec();
            assert_eq!(read(message), Err(MessageError::Replica(replica)));
        }
    }

    #[test]
    fn fields_in_any_order_are_found() {
        // Tenant, series, replica, series.
        let message = b"\x12\x01t\x0a\x01a\x18\x02\x0a\x01b".to_vec();
        let request = read(message).unwrap();
        assert_eq!(request.replica, 2);
        let part = TenantBody { tenant: "t".to_owned(), body: b"\x0a\x01a\x0a\x01b".to_vec() };
        assert_eq!(request.parts, [part]);
    }

    #[test]
    fn names_of_tenants_are_text_of_a_bounded_length() {
        let long = "t".repeat(TENANT_BYTES_MAX + 1);
        let message = WriteRequest { tenant: long, ..WriteRequest::default() }.encode_to_vec();
        assert_eq!(read(message), Err(MessageError::Tenant));
        assert_eq!(read(vec![0x22, 3, 0x12, 1, 0xff]), Err(MessageError::Tenant));
        assert_eq!(read(b"\x22\x00".repeat(TENANTS_MAX + 1)), Err(MessageError::TooManyTenants));
    }

    #[test]
    fn what_stands_between_series_is_bounded() {
        let message = b"\x0a\x00\x28\x00".repeat(SPANS_MAX + 1);
        assert_eq!(read(message), Err(MessageError::Scattered));
    }

    proptest! {
        #[test]
        fn both_forms_of_the_request_are_read(
            timeseries in lists(), tuples in proptest::collection::vec((lists(), "[a-z]{0,5}"), 0..4),
            tenant in "[a-z]{0,5}", replica in 0i64..4,
        ) {
            let tuples: Vec<_> =
                tuples.into_iter().map(|(timeseries, tenant)| TenantTuple { timeseries, tenant }).collect();
            let sent = WriteRequest { timeseries, tenant, replica, tuples };
            let read = read(sent.encode_to_vec()).unwrap();
            prop_assert_eq!(i64::from(read.replica), replica);
            let parts: Vec<_> = read.parts.iter().map(|part| (series(&part.body), part.tenant.clone())).collect();
            let wanted: Vec<_> = if sent.tuples.is_empty() {
                vec![(sent.timeseries, sent.tenant)]
            } else {
                sent.tuples.into_iter().map(|tuple| (tuple.timeseries, tuple.tenant)).collect()
            };
            prop_assert_eq!(parts, wanted);
        }

        #[test]
        fn random_bytes_end_in_a_result(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(message);
        }
    }
}
