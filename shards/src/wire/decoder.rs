//! The one walk over a decoded request that its sender is served with, whatever form the request has.

use super::extras::Extras;
use super::key::TenantHasher;
use super::proto::WireError;
use super::skim::{Row, Skimmed, Skimmer};
use super::skim2::Skimmer2;

/// What a body is, once it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Remote write 1.0: prometheus.WriteRequest.
    RemoteWrite1,
    /// Remote write 2.0: io.prometheus.write.v2.Request.
    RemoteWrite2,
}

/// Reads a body of one of these forms, piece by piece.
pub enum Decoder {
    /// Of remote write 1.0.
    RemoteWrite1(Skimmer),
    /// Of remote write 2.0.
    RemoteWrite2(Box<Skimmer2>),
}

impl Decoder {
    /// Nothing is read. A body takes at most `decoded_bytes_max` bytes also when what it refers to is written out.
    pub fn new(form: Form, decoded_bytes_max: usize) -> Decoder {
        match form {
            Form::RemoteWrite1 => Decoder::RemoteWrite1(Skimmer::default()),
            Form::RemoteWrite2 => Decoder::RemoteWrite2(Box::new(Skimmer2::new(decoded_bytes_max))),
        }
    }

    /// Bytes that a sample of a usual request takes with its series' labels, or a little less.
    pub fn bytes_per_row(&self) -> usize {
        match self {
            Decoder::RemoteWrite1(_) => 256,
            Decoder::RemoteWrite2(_) => 48,
        }
    }

    /// Goes on for about `bytes` bytes. Answers whether the end was reached.
    ///
    /// # Errors
    /// When the body is not of this form, or asks for more than a request may; nothing of it is to be used then.
    pub fn run(
        &mut self,
        body: &[u8],
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
        bytes: usize,
    ) -> Result<bool, WireError> {
        match self {
            Decoder::RemoteWrite1(skimmer) => skimmer.run(body, hasher, rows, bytes),
            Decoder::RemoteWrite2(skimmer) => skimmer.run(body, hasher, rows, bytes),
        }
    }

    /// Memory that is taken beside the rows.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Decoder::RemoteWrite1(skimmer) => skimmer.memory_bytes(),
            Decoder::RemoteWrite2(skimmer) => skimmer.memory_bytes(),
        }
    }

    /// Appends to the body what the rows point to behind its end, and tells what there was.
    pub fn finish(self, body: &mut Vec<u8>) -> (Skimmed, Extras) {
        match self {
            Decoder::RemoteWrite1(skimmer) => skimmer.finish(body),
            Decoder::RemoteWrite2(skimmer) => skimmer.finish(body),
        }
    }
}
