//! Protobuf messages as trees, so that a mutation can reach a field at any depth and all lengths around it stay right.

/// A field of a message.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its number in the schema.
    pub number: u64,
    /// What it holds.
    pub content: Content,
}

/// What a field holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// A text or other bytes.
    Bytes(Vec<u8>),
    /// Varints without tags.
    Packed(Vec<u64>),
    /// A message inside.
    Message(Vec<Field>),
    /// Bytes after a tag with this wire type, whether they fit it or not.
    Raw(u8, Vec<u8>),
}

/// A number.
pub fn varint(number: u64, value: u64) -> Field {
    Field { number, content: Content::Varint(value) }
}

/// A double.
pub fn double(number: u64, value: f64) -> Field {
    fixed(number, value.to_bits())
}

/// Eight bytes.
pub fn fixed(number: u64, value: u64) -> Field {
    Field { number, content: Content::Fixed64(value) }
}

/// A text.
pub fn text(number: u64, value: impl AsRef<[u8]>) -> Field {
    Field { number, content: Content::Bytes(value.as_ref().to_vec()) }
}

/// A list of numbers.
pub fn packed(number: u64, values: &[u64]) -> Field {
    Field { number, content: Content::Packed(values.to_vec()) }
}

/// A message.
pub fn nested(number: u64, fields: Vec<Field>) -> Field {
    Field { number, content: Content::Message(fields) }
}

/// The bytes of a message.
pub fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        put(&mut out, field);
    }
    out
}

fn put(out: &mut Vec<u8>, field: &Field) {
    let tag = |wire_type: u8| field.number << 3 | u64::from(wire_type);
    let mut put_bytes = |bytes: &[u8]| {
        put_varint(out, tag(2));
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    };
    match &field.content {
        Content::Bytes(bytes) => put_bytes(bytes),
        Content::Message(fields) => put_bytes(&encode(fields)),
        Content::Packed(values) => {
            let mut bytes = Vec::new();
            for value in values {
                put_varint(&mut bytes, *value);
            }
            put_bytes(&bytes);
        }
        Content::Varint(value) => {
            put_varint(out, tag(0));
            put_varint(out, *value);
        }
        Content::Fixed64(value) => {
            put_varint(out, tag(1));
            out.extend_from_slice(&value.to_le_bytes());
        }
        Content::Raw(wire_type, bytes) => {
            put_varint(out, tag(*wire_type));
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
