//! Exemplars of a point: what was observed, when, and in which trace.
//!
//! Schema: Exemplar {2: fixed64 time, 3: double, 4: span id, 5: trace id, 6: sfixed64, 7: filtered attributes}.

use std::borrow::Cow;
use std::fmt::Write;

use super::fault::Fault;
use super::points::time_ms;
use super::value::{Attribute, Message};
use crate::wire::labels::{LABELS_MAX, put_label};

/// The most characters that names and values of an exemplar's labels have together (OpenMetrics); attributes that do not
/// fit are left out, all of them.
const CHARS_MAX: usize = 128;

/// One exemplar with its labels encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// What was observed.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Its own labels, canonically encoded; at most a few hundred bytes.
    pub label_bytes: Vec<u8>,
}

impl Exemplar {
    /// Reads one; `None` if the sender says nothing of the value.
    pub fn read(message: Message<'_>) -> Result<Option<Exemplar>, Fault> {
        let (mut time_ns, mut value, mut attributes) = (0, None, Vec::new());
        let (mut span_id, mut trace_id) = (&b""[..], &b""[..]);
        let mut fields = message.fields();
        while let Some(field) = fields.field()? {
            match field.number {
                2 => time_ns = field.fixed64()?,
                3 => value = Some(f64::from_bits(field.fixed64()?)),
                4 => span_id = field.bytes()?,
                5 => trace_id = field.bytes()?,
                6 => value = Some(field.fixed64()? as i64 as f64),
                7 if attributes.len() <= LABELS_MAX => {
                    attributes.push(Attribute::read(Message::of(&field)?)?);
                }
                _ => {}
            }
        }
        let Some(value) = value else { return Ok(None) };
        let mut labels = Vec::new();
        labels.extend(hex(trace_id, 16).map(|id| (Cow::Borrowed("trace_id"), Cow::Owned(id))));
        labels.extend(hex(span_id, 8).map(|id| (Cow::Borrowed("span_id"), Cow::Owned(id))));
        let id_count = labels.len();
        for attribute in &attributes {
            if !attribute.key.is_empty() {
                labels.push((Cow::Borrowed(attribute.key), attribute.text()?));
            }
        }
        let chars = |text: &str| text.chars().count();
        if labels.iter().map(|(name, value)| chars(name) + chars(value)).sum::<usize>() > CHARS_MAX {
            labels.truncate(id_count);
        }
        // A stable sort: of a repeated name the first stays, so that no attribute hides an id.
        labels.sort_by(|(left, _): &(Cow<'_, str>, _), (right, _)| left.cmp(right));
        labels.dedup_by(|(name, _), (kept, _)| name == kept);
        let mut label_bytes = Vec::new();
        for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            put_label(&mut label_bytes, name.as_bytes(), value.as_bytes());
        }
        Ok(Some(Exemplar { value, time_ms: time_ms(time_ns), label_bytes }))
    }
}

/// An id of the right length that is not all zeros, which would mean none.
fn hex(id: &[u8], len: usize) -> Option<String> {
    if id.len() != len || id.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut text = String::with_capacity(2 * len);
    for byte in id {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, any, attribute};
    use super::*;
    use crate::wire::canonical_label_bytes;
    use prost::Message as _;

    fn read(exemplar: &testing::Exemplar) -> Option<Exemplar> {
        Exemplar::read(Message { bytes: &exemplar.encode_to_vec(), base: 0 }).unwrap()
    }

    fn exemplar() -> testing::Exemplar {
        testing::Exemplar {
            time_ns: 7_999_999,
            double: Some(1.5),
            span_id: vec![0xab; 8],
            trace_id: vec![0x01; 16],
            ..Default::default()
        }
    }

    #[test]
    fn ids_and_attributes_become_labels_in_order() {
        let mut sent = exemplar();
        sent.attributes = vec![
            attribute("user.id", any::int(7)),
            attribute("trace_id", any::text("no")),
            attribute("e", any::text("")),
        ];
        let (trace, span) = ("01".repeat(16), "ab".repeat(8));
        let labels = [("span_id", &*span), ("trace_id", &*trace), ("user.id", "7")];
        let expected = Exemplar { value: 1.5, time_ms: 7, label_bytes: canonical_label_bytes(&labels) };
        assert_eq!(read(&sent), Some(expected));
    }

    #[test]
    fn attributes_that_do_not_fit_are_left_out_and_ids_stay() {
        let mut sent = exemplar();
        sent.attributes = vec![attribute("a", any::text(&"x".repeat(CHARS_MAX)))];
        let without = read(&exemplar());
        assert!(!without.as_ref().unwrap().label_bytes.is_empty());
        assert_eq!(read(&sent), without);
    }

    #[test]
    fn an_exemplar_without_a_value_says_nothing_and_zero_ids_are_none() {
        assert_eq!(read(&testing::Exemplar { double: None, ..exemplar() }), None);
        let zeros = testing::Exemplar {
            double: None,
            int: Some(-3),
            span_id: vec![0; 8],
            trace_id: vec![1; 3],
            ..exemplar()
        };
        assert_eq!(read(&zeros), Some(Exemplar { value: -3.0, time_ms: 7, label_bytes: Vec::new() }));
    }
}
