//! Writes messages of the OpenTelemetry protocol into a buffer, from borrowed values.
//!
//! The keys and lengths are written by prost. Its generated messages own all that they hold, which would be two allocations for each attribute.
//!
//! Source of the field numbers: opentelemetry-proto 1.x, `common/v1/common.proto`, `trace/v1/trace.proto`, `metrics/v1/metrics.proto`.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// Field numbers of `KeyValue` and `AnyValue`.
mod field {
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const STRING: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const INT: u32 = 3;
    pub(super) const DOUBLE: u32 = 4;
    pub(super) const ARRAY: u32 = 5;
}

/// Writes a field of bytes, text, or a message that is encoded already.
pub(super) fn bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Writes a field of eight bytes.
pub(super) fn fixed64(out: &mut Vec<u8>, tag: u32, value: u64) {
    encode_key(tag, WireType::SixtyFourBit, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a field of four bytes.
pub(super) fn fixed32(out: &mut Vec<u8>, tag: u32, value: u32) {
    encode_key(tag, WireType::ThirtyTwoBit, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a number of variable length.
pub(super) fn varint(out: &mut Vec<u8>, tag: u32, value: u64) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

/// Begins a field that holds a message of `length` bytes, which must follow.
pub(super) fn message(out: &mut Vec<u8>, tag: u32, length: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Bytes of a field of `length` bytes with a tag below 16.
pub(super) fn field_length(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// The attributes of a span or a resource, written as fields of this tag.
pub(super) struct Attributes<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) tag: u32,
}

impl Attributes<'_> {
    /// Adds an attribute of text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        let inner = field_length(value.len());
        self.begin(name, inner);
        bytes(self.out, field::STRING, value.as_bytes());
    }

    /// Adds an attribute of text whose name begins with `prefix`.
    pub(super) fn text_below(&mut self, prefix: &str, name: &str, value: &str) {
        let (length, inner) = (prefix.len() + name.len(), field_length(value.len()));
        message(self.out, self.tag, field_length(length) + field_length(inner));
        message(self.out, field::KEY, length);
        self.out.extend_from_slice(prefix.as_bytes());
        self.out.extend_from_slice(name.as_bytes());
        message(self.out, field::VALUE, inner);
        bytes(self.out, field::STRING, value.as_bytes());
    }

    /// Adds an attribute of text, if there is one.
    pub(super) fn maybe_text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// Adds an attribute that is a list of one text.
    pub(super) fn list_of_one(&mut self, name: &str, value: &str) {
        let item = field_length(value.len());
        let list = field_length(item);
        self.begin(name, field_length(list));
        message(self.out, field::ARRAY, list);
        message(self.out, 1, item);
        bytes(self.out, field::STRING, value.as_bytes());
    }

    /// Adds an attribute of a number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        // The protocol's numbers are signed.
        let value = value.min(i64::MAX as u64);
        self.begin(name, 1 + encoded_len_varint(value));
        varint(self.out, field::INT, value);
    }

    /// Adds an attribute of a number, if there is one.
    pub(super) fn maybe_number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(name, value);
        }
    }

    /// Adds an attribute of a number with a fraction.
    pub(super) fn fraction(&mut self, name: &str, value: f64) {
        self.begin(name, 1 + 8);
        fixed64(self.out, field::DOUBLE, value.to_bits());
    }

    /// Adds an attribute that is true or false.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.begin(name, 2);
        varint(self.out, field::BOOL, value.into());
    }

    /// Begins an attribute whose `AnyValue` has `inner` bytes.
    fn begin(&mut self, name: &str, inner: usize) {
        message(self.out, self.tag, field_length(name.len()) + field_length(inner));
        bytes(self.out, field::KEY, name.as_bytes());
        message(self.out, field::VALUE, inner);
    }
}
