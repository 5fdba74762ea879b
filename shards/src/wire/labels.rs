//! Labels of a series that was never seen before: parsed and checked once, then known by their key.

use super::proto::{Reader, WireError, put_varint, varint_len};

/// Labels of a series, in the order in which they came.
pub type LabelPairs<'a> = Vec<(&'a str, &'a str)>;

/// The longest name or value of a label in bytes.
pub const LABEL_BYTES_MAX: usize = 64 << 10;

/// The most labels a series may have.
pub const LABELS_MAX: usize = 1024;

/// The most bytes that all labels of a series may take on the wire; a series record must fit in a WAL frame.
pub const SERIES_BYTES_MAX: usize = 256 << 10;

/// Labels for which there is room at once.
const USUAL_LABELS: usize = 16;

/// Why a label set is not one that Prometheus would send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// No labels at all.
    #[error("the label set is empty")]
    Empty,
    /// A label without a name.
    #[error("a label has no name")]
    NoName,
    /// A label without a value; to Prometheus it would be no label.
    #[error("label {name:?} has no value")]
    NoValue {
        /// The label.
        name: String,
    },
    /// No `__name__`: Prometheus always sends one.
    #[error("the series has no __name__ label")]
    NoMetricName,
    /// The same name twice.
    #[error("label {name:?} occurs twice")]
    Repeated {
        /// The label.
        name: String,
    },
    /// Not in the order of their names.
    #[error("label {name:?} is out of order: labels must be sorted by name")]
    Unsorted {
        /// The first label that sorts before its predecessor.
        name: String,
    },
    /// Not UTF-8.
    #[error("a label's name or value is not valid UTF-8")]
    NotUtf8,
    /// A name without a value in a list of references to symbols.
    #[error("{count} references to symbols are not pairs of names and values")]
    OddReferences {
        /// How many there are.
        count: usize,
    },
    /// A reference to no symbol.
    #[error("symbol {reference} is referred to, but there are only {symbol_count}")]
    NoSymbol {
        /// The reference.
        reference: u32,
        /// How many symbols the request has.
        symbol_count: usize,
    },
    /// One label, or all together, are over the bounds.
    #[error(
        "the labels are too many or too long (at most {LABELS_MAX} labels, {LABEL_BYTES_MAX} bytes each, \
         {SERIES_BYTES_MAX} bytes together)"
    )]
    TooLarge,
    /// Not protobuf.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Parses and checks the label fields of a time series.
pub fn parse_labels(label_bytes: &[u8]) -> Result<LabelPairs<'_>, LabelError> {
    if label_bytes.len() > SERIES_BYTES_MAX {
        return Err(LabelError::TooLarge);
    }
    let mut pairs = LabelPairs::new();
    let mut has_metric_name = false;
    let mut fields = Reader::new(label_bytes, 0);
    while let Some(field) = fields.field()? {
        let (name, value) = parse_label(field.bytes()?)?;
        if name.is_empty() {
            return Err(LabelError::NoName);
        }
        if value.is_empty() {
            return Err(LabelError::NoValue { name: name.to_owned() });
        }
        if let Some((previous, _)) = pairs.last() {
            match name.cmp(previous) {
                std::cmp::Ordering::Greater => {}
                std::cmp::Ordering::Equal => return Err(LabelError::Repeated { name: name.to_owned() }),
                std::cmp::Ordering::Less => return Err(LabelError::Unsorted { name: name.to_owned() }),
            }
        }
        if pairs.len() == LABELS_MAX || name.len().max(value.len()) > LABEL_BYTES_MAX {
            return Err(LabelError::TooLarge);
        }
        has_metric_name |= name == crate::labels::METRIC_NAME;
        pairs.push((name, value));
    }
    if pairs.is_empty() {
        return Err(LabelError::Empty);
    }
    if !has_metric_name {
        return Err(LabelError::NoMetricName);
    }
    Ok(pairs)
}

/// Parses labels that pass all checks and are in the canonical encoding, with names and values of less than 128 bytes: nearly
/// all. `None` says nothing about any others.
pub fn parse_canonical(label_bytes: &[u8]) -> Option<LabelPairs<'_>> {
    if label_bytes.len() > SERIES_BYTES_MAX {
        return None;
    }
    let mut pairs = LabelPairs::with_capacity(USUAL_LABELS);
    let (mut previous, mut has_metric_name, mut rest) = ("", false, label_bytes);
    while let [0x0a, low, after @ ..] = rest {
        let (len, after) = match (low, after) {
            (..0x80, after) => (usize::from(*low), after),
            (_, [high @ 1..0x80, after @ ..]) => (usize::from(low & 0x7f) | usize::from(*high) << 7, after),
            _ => return None,
        };
        let (label, after) = after.split_at_checked(len)?;
        let [0x0a, name_len @ ..0x80, ..] = label else { return None };
        let name_end = 2 + usize::from(*name_len);
        // One check for both texts: what stands before and between them is ASCII.
        let text = std::str::from_utf8(label).ok()?;
        let (name, value) = (text.get(2..name_end)?, text.get(name_end + 2..)?);
        let is_canonical = label[name_end] == 0x12 && usize::from(label[name_end + 1]) == value.len();
        // Sorted names differ, and none is empty.
        if !is_canonical || !(1..0x80).contains(&value.len()) || name <= previous || pairs.len() == LABELS_MAX
        {
            return None;
        }
        has_metric_name |= name == crate::labels::METRIC_NAME;
        pairs.push((name, value));
        (previous, rest) = (name, after);
    }
    (rest.is_empty() && has_metric_name).then_some(pairs)
}

/// The labels as they come, in any order and perhaps none: for exemplars, whose rules are others than a series'. The
/// first error is the last item.
pub fn label_pairs(label_bytes: &[u8]) -> impl Iterator<Item = Result<(&str, &str), LabelError>> {
    let mut fields = Some(Reader::new(label_bytes, 0));
    std::iter::from_fn(move || {
        let pair = match fields.as_mut()?.field() {
            Ok(field) => field?.bytes().map_err(LabelError::from).and_then(parse_label),
            Err(error) => Err(error.into()),
        };
        if pair.is_err() {
            fields = None;
        }
        Some(pair)
    })
}

fn parse_label(bytes: &[u8]) -> Result<(&str, &str), LabelError> {
    let (mut name, mut value) = (&[][..], &[][..]);
    let mut fields = Reader::new(bytes, 0);
    while let Some(field) = fields.field()? {
        match field.number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| LabelError::NotUtf8);
    Ok((text(name)?, text(value)?))
}

/// The one encoding of a label set from which its key is made, whatever a sender's encoder does: repeated
/// field 1 {1: name, 2: value}, shortest lengths, nothing else.
pub fn canonical_label_bytes(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len() + 8).sum());
    for (name, value) in pairs {
        put_label(&mut out, name, value);
    }
    out
}

/// Appends one label in that encoding.
#[inline]
pub fn put_label(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    let (name, value) = (name.as_ref(), value.as_ref());
    let part_len = |text: &[u8]| 1 + varint_len(text.len() as u64) + text.len();
    out.push(0x0a);
    put_varint(out, (part_len(name) + part_len(value)) as u64);
    for (tag, text) in [(0x0a, name), (0x12, value)] {
        out.push(tag);
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_label_set_that_prometheus_would_not_send_is_named() {
        let name = ("__name__", "up");
        let check = |pairs: &[(&str, &str)], error: LabelError| {
            assert_eq!(parse_labels(&canonical_label_bytes(pairs)), Err(error));
        };
        check(&[], LabelError::Empty);
        check(&[name, ("", "x")], LabelError::NoName);
        check(&[name, ("a", "")], LabelError::NoValue { name: "a".into() });
        check(&[("a", "b")], LabelError::NoMetricName);
        check(&[name, ("a", "1"), ("a", "2")], LabelError::Repeated { name: "a".into() });
        check(&[name, ("b", "1"), ("a", "2")], LabelError::Unsorted { name: "a".into() });
        check(&[name, ("a", &"x".repeat(LABEL_BYTES_MAX + 1))], LabelError::TooLarge);
        assert_eq!(parse_labels(&[0x0a, 4, 0x0a, 2, 0xff, 0xfe]), Err(LabelError::NotUtf8));
        assert!(matches!(parse_labels(&[0x0a, 200]), Err(LabelError::Wire(_))));
    }

    #[test]
    fn another_encoding_of_the_same_labels_has_the_same_canonical_bytes() {
        // The value before the name, a two-byte length for one, and an unknown field.
        let odd = [
            0x0a,
            0x87 + 7,
            0x00,
            0x12,
            2,
            b'u',
            b'p',
            0x0a,
            8,
            b'_',
            b'_',
            b'n',
            b'a',
            b'm',
            b'e',
            b'_',
            b'_',
        ];
        let pairs = parse_labels(&odd).unwrap();
        assert_eq!(pairs, [("__name__", "up")]);
        assert_ne!(canonical_label_bytes(&pairs), odd);
        assert_eq!(parse_labels(&canonical_label_bytes(&pairs)).unwrap(), pairs);
    }

    fn any_pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        let set = proptest::collection::btree_map("[a-z_]{1,8}|.{1,140}", ".{0,140}", 0..12);
        (set, any::<bool>()).prop_map(|(mut set, is_named)| {
            if is_named {
                set.insert("__name__".into(), "up".into());
            }
            set.into_iter().collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_for_canonical_is_so_and_passes_all_checks(
            pairs in any_pairs(),
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
            cut in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let texts: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut bytes = canonical_label_bytes(&texts);
            if !edits.is_empty() && !bytes.is_empty() {
                for (at, byte) in &edits {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
            }
            let parsed = parse_labels(&bytes);
            let is_short = pairs.iter().all(|(name, value)| name.len().max(value.len()) < 0x80);
            match parse_canonical(&bytes) {
                Some(pairs) => {
                    prop_assert_eq!(&canonical_label_bytes(&pairs), &bytes);
                    prop_assert_eq!(parsed, Ok(pairs));
                }
                None => prop_assert!(!edits.is_empty() || !is_short || parsed.is_err(), "{:?}", pairs),
            }
        }

        #[test]
        fn random_bytes_are_not_taken_for_other_labels(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(pairs) = parse_canonical(&bytes) {
                prop_assert_eq!(parse_labels(&bytes), Ok(pairs));
            }
        }

        #[test]
        fn canonical_bytes_parse_back(set in proptest::collection::btree_map("[a-z]{1,8}", ".{1,300}", 0..12)) {
            let mut set = set;
            set.insert("__name__".into(), "up".into());
            let pairs: Vec<_> = set.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let bytes = canonical_label_bytes(&pairs);
            prop_assert_eq!(parse_labels(&bytes).unwrap(), pairs);
        }
    }
}
