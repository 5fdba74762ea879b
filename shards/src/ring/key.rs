//! The hash that places a series on a ring: xxHash64 of its tenant and labels, as Thanos Receive computes it.
//!
//! Tenant, names and values each end in the byte 0xFF, which no UTF-8 has. Labels count in the order in which they
//! came, all of them: what relabelling made of them, and without the label that named the tenant.

use xxhash_rust::xxh64::Xxh64;

use crate::wire::{Reader, WireError};

const END: u8 = 0xff;

/// Labels are brought together in pieces of this size, as most series need one: feeding the hash name by name costs
/// more than the hash does.
const BUFFER_BYTES: usize = 1024;

/// Hashes the series of one tenant. To be made once per request and used for each of its series.
#[derive(Clone)]
pub struct PlacementHasher {
    /// With the tenant in it.
    start: Xxh64,
    hash: Xxh64,
    buffer: [u8; BUFFER_BYTES],
    buffered: usize,
}

impl PlacementHasher {
    /// A hasher for the series of a tenant.
    pub fn new(tenant: &str) -> PlacementHasher {
        let mut start = Xxh64::new(0);
        start.update(tenant.as_bytes());
        start.update(&[END]);
        PlacementHasher { hash: start.clone(), start, buffer: [0; BUFFER_BYTES], buffered: 0 }
    }

    /// The hash of a series from its names and values.
    pub fn pairs<T: AsRef<[u8]>>(&mut self, pairs: impl IntoIterator<Item = (T, T)>) -> u64 {
        self.begin();
        for (name, value) in pairs {
            self.put(name.as_ref());
            self.put(value.as_ref());
        }
        self.finish()
    }

    /// The hash of a series from its labels as remote write 1.0 encodes them: repeated field 1 {1: name, 2: value}.
    /// It is that of the labels which a parser finds, however they are encoded. Whether they are UTF-8 does not
    /// matter here.
    pub fn label_bytes(&mut self, label_bytes: &[u8]) -> Result<u64, WireError> {
        self.begin();
        let mut rest = label_bytes;
        while let Some((name, value, behind)) = plain_label(rest) {
            self.put(name);
            self.put(value);
            rest = behind;
        }
        if !rest.is_empty() {
            self.put_fields(rest, label_bytes.len() - rest.len())?;
        }
        Ok(self.finish())
    }

    #[inline]
    fn begin(&mut self) {
        self.hash.clone_from(&self.start);
        self.buffered = 0;
    }

    /// Adds a name or a value.
    #[inline]
    fn put(&mut self, part: &[u8]) {
        let end = self.buffered + part.len();
        if end >= BUFFER_BYTES {
            return self.put_long(part);
        }
        self.buffer[self.buffered..end].copy_from_slice(part);
        self.buffer[end] = END;
        self.buffered = end + 1;
    }

    #[cold]
    fn put_long(&mut self, part: &[u8]) {
        self.hash.update(&self.buffer[..self.buffered]);
        self.hash.update(part);
        self.buffer[0] = END;
        self.buffered = 1;
    }

    #[inline]
    fn finish(&mut self) -> u64 {
        self.hash.update(&self.buffer[..self.buffered]);
        self.hash.digest()
    }

    /// Adds labels that are encoded in any way that protobuf allows.
    fn put_fields(&mut self, bytes: &[u8], base: usize) -> Result<(), WireError> {
        let mut fields = Reader::new(bytes, base);
        while let Some(field) = fields.field()? {
            if field.number != 1 {
                continue;
            }
            let label = field.bytes()?;
            let (mut name, mut value) = (&[][..], &[][..]);
            let mut parts = Reader::new(label, field.end - label.len());
            while let Some(part) = parts.field()? {
                match part.number {
                    1 => name = part.bytes()?,
                    2 => value = part.bytes()?,
                    _ => {}
                }
            }
            self.put(name);
            self.put(value);
        }
        Ok(())
    }
}

/// The first label, if it is encoded as senders do and short: name, then value, nothing else, and lengths of one
/// byte. Gives name, value and what follows the label.
#[inline]
fn plain_label(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let &[0x0a, len @ 0..0x80, 0x0a, name_len, ref rest @ ..] = bytes else {
        return None;
    };
    let (parts, behind) = rest.split_at_checked(usize::from(len).checked_sub(2)?)?;
    let (name, value) = parts.split_at_checked(usize::from(name_len))?;
    let &[0x12, value_len, ref value @ ..] = value else {
        return None;
    };
    (value.len() == usize::from(value_len)).then_some((name, value, behind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{canonical_label_bytes, label_pairs, put_varint};
    use proptest::prelude::*;
    use xxhash_rust::xxh64::xxh64;

    fn slow_hash(tenant: &str, pairs: &[(&str, &str)]) -> u64 {
        let mut bytes = tenant.as_bytes().to_vec();
        bytes.push(0xff);
        for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(part.as_bytes());
            bytes.push(0xff);
        }
        xxh64(&bytes, 0)
    }

    fn field(out: &mut Vec<u8>, number: u64, content: &[u8]) {
        put_varint(out, number << 3 | 2);
        put_varint(out, content.len() as u64);
        out.extend_from_slice(content);
    }

    /// One label in one of the ways in which protobuf can write it.
    fn encode(out: &mut Vec<u8>, name: &str, value: &str, way: u8) {
        let mut label = Vec::new();
        match way % 6 {
            0 => {
                field(&mut label, 1, name.as_bytes());
                field(&mut label, 2, value.as_bytes());
            }
            1 => {
                field(&mut label, 2, value.as_bytes());
                field(&mut label, 1, name.as_bytes());
            }
            2 => {
                field(&mut label, 1, b"another name");
                field(&mut label, 2, b"another value");
                field(&mut label, 2, value.as_bytes());
                field(&mut label, 1, name.as_bytes());
            }
            3 => {
                label.extend_from_slice(&[0x18, 0x96, 0x01]);
                field(&mut label, 1, name.as_bytes());
                field(&mut label, 2, value.as_bytes());
                field(&mut label, 2000, b"unknown");
            }
            4 => {
                // A length of one byte more than it needs.
                label.push(0x0a);
                label.extend_from_slice(&[name.len() as u8 | 0x80, 0]);
                label.extend_from_slice(name.as_bytes());
                field(&mut label, 2, value.as_bytes());
            }
            _ => {
                for (number, text) in [(1, name), (2, value)] {
                    if !text.is_empty() {
                        field(&mut label, number, text.as_bytes());
                    }
                }
            }
        }
        field(out, 1, &label);
    }

    proptest! {
        #[test]
        fn however_labels_are_encoded_their_hash_is_that_of_the_parsed_ones(
            tenant in "[a-z-]{0,40}",
            labels in proptest::collection::vec(("[a-z_]{0,20}", ".{0,300}", any::<u8>()), 0..14),
        ) {
            let mut bytes = Vec::new();
            for (name, value, way) in &labels {
                encode(&mut bytes, name, value, *way);
            }
            let pairs: Vec<_> = labels.iter().map(|(name, value, _)| (name.as_str(), value.as_str())).collect();
            let parsed: Vec<_> = label_pairs(&bytes).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(&parsed, &pairs);
            let mut hasher = PlacementHasher::new(&tenant);
            let expected = slow_hash(&tenant, &pairs);
            prop_assert_eq!(hasher.label_bytes(&bytes), Ok(expected));
            prop_assert_eq!(hasher.pairs(pairs.iter().copied()), expected);
            prop_assert_eq!(hasher.label_bytes(&canonical_label_bytes(&pairs)), Ok(expected));
        }

        #[test]
        fn random_bytes_end_in_an_answer_that_leaves_no_trace(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), cut in 0..60usize,
        ) {
            let mut hasher = PlacementHasher::new("tenant");
            let labels = canonical_label_bytes(&[("__name__", "up"), ("job", "node"), ("instance", "10.0.0.1:9100")]);
            let expected = hasher.label_bytes(&labels);
            let _ = hasher.label_bytes(&bytes);
            let mut damaged = labels[..cut.min(labels.len())].to_vec();
            damaged.extend_from_slice(&bytes);
            let _ = hasher.label_bytes(&damaged);
            prop_assert_eq!(hasher.label_bytes(&labels), expected);
        }
    }

    #[test]
    fn parts_at_the_edge_of_the_buffer_are_hashed_whole() {
        let mut hasher = PlacementHasher::new("tenant");
        for len in (BUFFER_BYTES - 12..BUFFER_BYTES + 3).chain([10 * BUFFER_BYTES]) {
            let long = "x".repeat(len);
            let pairs = [("a", long.as_str()), ("b", "y"), ("c", long.as_str())];
            assert_eq!(hasher.pairs(pairs), slow_hash("tenant", &pairs), "{len}");
        }
    }

    #[test]
    fn fields_that_are_no_labels_do_not_count() {
        let mut hasher = PlacementHasher::new("tenant");
        let labels = canonical_label_bytes(&[("__name__", "up")]);
        let mut with_a_sample = vec![0x12, 2, 0x10, 5];
        with_a_sample.extend_from_slice(&labels);
        assert_eq!(hasher.label_bytes(&with_a_sample), hasher.label_bytes(&labels));
        assert!(matches!(hasher.label_bytes(&[0x0a, 0x7f]), Err(WireError::Truncated { offset: 2 })));
        assert!(matches!(hasher.label_bytes(&[0x08, 1]), Err(WireError::WireType { .. })));
    }
}
