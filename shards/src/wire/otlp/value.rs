//! Values of attributes (opentelemetry.proto.common.v1.AnyValue) as the text of a label: scalars as they are, bytes in
//! base64, lists and maps as JSON.
//!
//! Schema: AnyValue {1: string, 2: bool, 3: int64, 4: double, 5: ArrayValue, 6: KeyValueList, 7: bytes};
//! ArrayValue {1: repeated AnyValue}; KeyValueList {1: repeated KeyValue}; KeyValue {1: key, 2: AnyValue}.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fault::{Fault, PointError, text_of};
use crate::wire::labels::LABEL_BYTES_MAX;
use crate::wire::proto::{Field, Reader, WireError};

/// How deep lists and maps may nest. Reading goes down by recursion.
const DEPTH_MAX: u32 = 32;

/// One attribute; its value is read when it is needed.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Its name, as sent.
    pub key: &'a str,
    /// Its AnyValue.
    value: Message<'a>,
}

/// A message inside of the body.
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Where in the body it begins.
    pub base: usize,
}

impl<'a> Message<'a> {
    /// The message that a field holds.
    pub fn of(field: &Field<'a>) -> Result<Message<'a>, WireError> {
        let bytes = field.bytes()?;
        Ok(Message { bytes, base: field.end - bytes.len() })
    }

    /// Its fields.
    pub fn fields(&self) -> Reader<'a> {
        Reader::new(self.bytes, self.base)
    }
}

impl<'a> Attribute<'a> {
    /// Reads a KeyValue.
    pub fn read(message: Message<'a>) -> Result<Attribute<'a>, Fault> {
        let (mut key, mut value) = (&b""[..], Message::default());
        let mut fields = message.fields();
        while let Some(field) = fields.field()? {
            match field.number {
                1 => key = field.bytes()?,
                2 => value = Message::of(&field)?,
                _ => {}
            }
        }
        Ok(Attribute { key: text_of(key)?, value })
    }

    /// Its value as the text of a label.
    pub fn text(&self) -> Result<Cow<'a, str>, Fault> {
        match Any::read(self.value)? {
            Any::Text(text) => Ok(Cow::Borrowed(text)),
            Any::Bytes(bytes) if bytes.len() > LABEL_BYTES_MAX => Err(PointError::TooLarge.into()),
            Any::Bytes(bytes) => Ok(Cow::Owned(STANDARD.encode(bytes))),
            Any::Bool(value) => Ok(Cow::Borrowed(if value { "true" } else { "false" })),
            Any::Int(value) => Ok(Cow::Owned(value.to_string())),
            Any::Double(value) => Ok(Cow::Owned(match json_number(value) {
                Some(text) => text,
                // The same text as Go's encoder gives, which Prometheus stores.
                None => format!("json: unsupported value: {}", go_float(value)),
            })),
            Any::Empty => Ok(Cow::Borrowed("")),
            nested @ (Any::List(_) | Any::Map(_)) => {
                let mut json = Json { text: String::new(), has_number_without_json: false };
                json.put(nested, DEPTH_MAX)?;
                // JSON has no NaN and no infinities: with one of them there is no text, and so no label.
                Ok(Cow::Owned(if json.has_number_without_json { String::new() } else { json.text }))
            }
        }
    }
}

/// A float as `strconv.FormatFloat(value, 'f', -1, 64)` writes it: the shortest digits that read back, no exponent.
pub fn go_float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

/// What an AnyValue holds.
enum Any<'a> {
    Empty,
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    List(Message<'a>),
    Map(Message<'a>),
    Bytes(&'a [u8]),
}

impl<'a> Any<'a> {
    fn read(message: Message<'a>) -> Result<Any<'a>, Fault> {
        let mut any = Any::Empty;
        let mut fields = message.fields();
        while let Some(field) = fields.field()? {
            any = match field.number {
                1 => Any::Text(text_of(field.bytes()?)?),
                2 => Any::Bool(field.varint()? != 0),
                3 => Any::Int(field.varint()? as i64),
                4 => Any::Double(f64::from_bits(field.fixed64()?)),
                5 => Any::List(Message::of(&field)?),
                6 => Any::Map(Message::of(&field)?),
                7 => Any::Bytes(field.bytes()?),
                _ => any,
            };
        }
        Ok(any)
    }
}

struct Json {
    text: String,
    has_number_without_json: bool,
}

impl Json {
    fn put(&mut self, any: Any<'_>, depth: u32) -> Result<(), Fault> {
        let Some(depth) = depth.checked_sub(1) else { return Err(PointError::TooDeep.into()) };
        match any {
            Any::Empty => self.text.push_str("null"),
            Any::Text(text) => self.put_string(text),
            Any::Bool(value) => self.text.push_str(if value { "true" } else { "false" }),
            Any::Int(value) => self.text.push_str(&value.to_string()),
            Any::Double(value) => match json_number(value) {
                Some(text) => self.text.push_str(&text),
                None => self.has_number_without_json = true,
            },
            Any::Bytes(bytes) if bytes.len() > LABEL_BYTES_MAX => return Err(PointError::TooLarge.into()),
            Any::Bytes(bytes) => self.put_string(&STANDARD.encode(bytes)),
            Any::List(list) => self.put_list(list, depth)?,
            Any::Map(map) => self.put_map(map, depth)?,
        }
        if self.text.len() > LABEL_BYTES_MAX {
            return Err(PointError::TooLarge.into());
        }
        Ok(())
    }

    fn put_list(&mut self, list: Message<'_>, depth: u32) -> Result<(), Fault> {
        self.text.push('[');
        let mut is_first = true;
        let mut fields = list.fields();
        while let Some(field) = fields.field()? {
            if field.number == 1 {
                if !std::mem::take(&mut is_first) {
                    self.text.push(',');
                }
                self.put(Any::read(Message::of(&field)?)?, depth)?;
            }
        }
        self.text.push(']');
        Ok(())
    }

    /// In the order of the keys, as Go writes maps; of a repeated key the last value stays.
    fn put_map(&mut self, map: Message<'_>, depth: u32) -> Result<(), Fault> {
        let mut pairs = Vec::new();
        let mut fields = map.fields();
        while let Some(field) = fields.field()? {
            if field.number == 1 {
                pairs.push(Attribute::read(Message::of(&field)?)?);
            }
        }
        pairs.sort_by_key(|pair| pair.key);
        self.text.push('{');
        let mut is_first = true;
        for (index, pair) in pairs.iter().enumerate() {
            if pairs.get(index + 1).is_some_and(|next| next.key == pair.key) {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                self.text.push(',');
            }
            self.put_string(pair.key);
            self.text.push(':');
            self.put(Any::read(pair.value)?, depth)?;
        }
        self.text.push('}');
        Ok(())
    }

    /// With the escapes of Go's encoder, which are more than JSON needs.
    fn put_string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    // Writing to a string cannot fail.
                    let _ = write!(self.text, "\\u{:04x}", c as u32);
                }
                _ => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// A number as JavaScript and Go's JSON write it; `None` for what JSON cannot hold.
fn json_number(value: f64) -> Option<String> {
    let size = value.abs();
    if !value.is_finite() {
        return None;
    }
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return Some(value.to_string());
    }
    let text = format!("{value:e}");
    Some(if size < 1.0 { text } else { text.replacen('e', "e+", 1) })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AnyValue, KeyValue, any, list, map};
    use super::*;
    use prost::Message as _;

    fn text(value: AnyValue) -> Result<String, String> {
        let bytes = KeyValue { key: "k".into(), value: Some(value) }.encode_to_vec();
        let attribute = Attribute::read(Message { bytes: &bytes, base: 0 });
        let text = attribute.and_then(|attribute| attribute.text().map(Cow::into_owned));
        text.map_err(|fault| format!("{fault:?}"))
    }

    #[test]
    fn scalars_are_written_as_go_writes_them() {
        for (value, expected) in [
            (any::text("a b"), "a b"),
            (any::bool(true), "true"),
            (any::int(-42), "-42"),
            (any::double(1.0), "1"),
            (any::double(0.1), "0.1"),
            (any::double(-0.0), "-0"),
            (any::double(1e-7), "1e-7"),
            (any::double(1.5e21), "1.5e+21"),
            (any::double(1e20), "100000000000000000000"),
            (any::double(f64::NAN), "json: unsupported value: NaN"),
            (any::double(f64::INFINITY), "json: unsupported value: +Inf"),
            (any::bytes(b"\x01\x02\x03\x04"), "AQIDBA=="),
            (AnyValue::default(), ""),
        ] {
            assert_eq!(text(value).as_deref(), Ok(expected));
        }
        for (value, expected) in [
            (0.5, "0.5"),
            (10.0, "10"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (1e21, "1000000000000000000000"),
        ] {
            assert_eq!(go_float(value), expected);
        }
    }

    #[test]
    fn lists_and_maps_are_json_with_sorted_keys() {
        let inner = map([("b", any::int(1)), ("a", any::double(1e21)), ("b", any::text("<\"\u{1}>\n"))]);
        let value =
            list([any::text("x"), AnyValue::default(), inner, list([]), map([]), any::bytes(b"\x01")]);
        let expected = r#"["x",null,{"a":1e+21,"b":"\u003c\"\u0001\u003e\n"},[],{},"AQ=="]"#;
        assert_eq!(text(value).as_deref(), Ok(expected));
        assert_eq!(text(list([any::double(f64::NAN)])).as_deref(), Ok(""));
    }

    #[test]
    fn deep_and_long_values_are_refused() {
        let deep = |levels: u32| (1..levels).fold(list([]), |inner, _| list([inner]));
        assert!(text(deep(DEPTH_MAX)).is_ok());
        assert!(text(deep(DEPTH_MAX + 1)).unwrap_err().contains("TooDeep"));
        let long = "\u{1}".repeat(LABEL_BYTES_MAX / 4);
        assert!(text(list([any::text(&long)])).unwrap_err().contains("TooLarge"));
        assert!(text(any::bytes(&vec![0; LABEL_BYTES_MAX + 1])).unwrap_err().contains("TooLarge"));
    }
}
