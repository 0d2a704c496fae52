//! AMF0, the encoding of RTMP's commands and metadata (Adobe's AMF0 specification).
//!
//! Decoding is bounded in depth and number of values, so a message costs memory in proportion to its length.

use bytes::{BufMut, BytesMut};

use crate::Error;

/// How deep values may be nested.
pub const MAX_DEPTH: usize = 16;
/// How many values one message may hold, those inside objects and arrays counted.
pub const MAX_VALUES: usize = 4096;

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
const REFERENCE: u8 = 7;
const ECMA_ARRAY: u8 = 8;
const OBJECT_END: u8 = 9;
const STRICT_ARRAY: u8 = 10;
const DATE: u8 = 11;
const LONG_STRING: u8 = 12;
const UNSUPPORTED: u8 = 13;
const XML: u8 = 15;
const TYPED_OBJECT: u8 = 16;

/// An AMF0 value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A double.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A string of any length; what is not UTF-8 was replaced.
    String(String),
    /// An object, its class name (if it had one) left out; properties in their order.
    Object(Vec<(String, Value)>),
    /// Nothing.
    Null,
    /// Not even that; also stands for references and unsupported values.
    Undefined,
    /// An associative array.
    EcmaArray(Vec<(String, Value)>),
    /// A list.
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970, UTC.
    Date(f64),
}

impl Value {
    /// The text, when it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// The number, when it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// The truth, when it is a boolean, or a number as some clients send.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(b) => Some(*b),
            Value::Number(n) => Some(*n != 0.0),
            _ => None,
        }
    }

    /// The properties of an object or an associative array.
    pub fn properties(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(p) | Value::EcmaArray(p) => Some(p),
            _ => None,
        }
    }

    /// A property of an object or an associative array.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.properties()?.iter().find(|(k, _)| k == name).map(|(_, v)| v)
    }

    /// An object of these properties.
    pub fn object<'a>(properties: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
        Value::Object(properties.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Value::Number(n) => {
                out.put_u8(NUMBER);
                out.put_f64(*n);
            }
            Value::Boolean(b) => {
                out.put_u8(BOOLEAN);
                out.put_u8(u8::from(*b));
            }
            Value::String(s) => match u16::try_from(s.len()) {
                Ok(length) => {
                    out.put_u8(STRING);
                    out.put_u16(length);
                    out.put_slice(s.as_bytes());
                }
                Err(_) => {
                    out.put_u8(LONG_STRING);
                    out.put_u32(s.len() as u32);
                    out.put_slice(s.as_bytes());
                }
            },
            Value::Object(properties) => {
                out.put_u8(OBJECT);
                encode_properties(properties, out);
            }
            Value::Null => out.put_u8(NULL),
            Value::Undefined => out.put_u8(UNDEFINED),
            Value::EcmaArray(properties) => {
                out.put_u8(ECMA_ARRAY);
                out.put_u32(properties.len() as u32);
                encode_properties(properties, out);
            }
            Value::StrictArray(values) => {
                out.put_u8(STRICT_ARRAY);
                out.put_u32(values.len() as u32);
                values.iter().for_each(|v| v.encode(out));
            }
            Value::Date(ms) => {
                out.put_u8(DATE);
                out.put_f64(*ms);
                out.put_u16(0);
            }
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Value::String(s.to_owned())
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Value {
        Value::Number(n)
    }
}

fn encode_properties(properties: &[(String, Value)], out: &mut BytesMut) {
    for (key, value) in properties {
        let mut end = key.len().min(usize::from(u16::MAX));
        while !key.is_char_boundary(end) {
            end -= 1;
        }
        out.put_u16(end as u16);
        out.put_slice(&key.as_bytes()[..end]);
        value.encode(out);
    }
    out.put_slice(&[0, 0, OBJECT_END]);
}

/// The values of a message one after the other.
///
/// # Errors
/// When a value is cut short, of a type that RTMP does not use, or beyond the limits.
pub fn decode(data: &[u8]) -> Result<Vec<Value>, Error> {
    let mut decoder = Decoder { data, left: MAX_VALUES };
    let mut values = Vec::new();
    while !decoder.data.is_empty() {
        values.push(decoder.value(0)?);
    }
    Ok(values)
}

struct Decoder<'a> {
    data: &'a [u8],
    left: usize,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH || self.left == 0 {
            return Err(Error::AmfTooLarge { depth: MAX_DEPTH, count: MAX_VALUES });
        }
        self.left -= 1;
        Ok(match self.u8()? {
            NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            BOOLEAN => Value::Boolean(self.u8()? != 0),
            STRING => Value::String(self.short_string()?),
            OBJECT => Value::Object(self.properties(depth)?),
            NULL => Value::Null,
            UNDEFINED | UNSUPPORTED => Value::Undefined,
            REFERENCE => {
                self.take(2)?;
                Value::Undefined
            }
            ECMA_ARRAY => {
                // The count is a hint that encoders get wrong; the end marker is what counts.
                self.take(4)?;
                Value::EcmaArray(self.properties(depth)?)
            }
            STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.array()?) as usize;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            DATE => {
                let ms = f64::from_be_bytes(self.array()?);
                self.take(2)?;
                Value::Date(ms)
            }
            LONG_STRING | XML => {
                let length = u32::from_be_bytes(self.array()?) as usize;
                Value::String(self.text(length)?)
            }
            TYPED_OBJECT => {
                self.short_string()?;
                Value::Object(self.properties(depth)?)
            }
            other => return Err(Error::AmfType(other)),
        })
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut properties = Vec::new();
        // Some encoders leave the end marker out at the end of a message.
        while !self.data.is_empty() {
            let key = self.short_string()?;
            if key.is_empty() && self.data.first() == Some(&OBJECT_END) {
                self.take(1)?;
                break;
            }
            properties.push((key, self.value(depth + 1)?));
        }
        Ok(properties)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (head, tail) = self.data.split_at_checked(n).ok_or(Error::AmfTruncated)?;
        self.data = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.data.split_first_chunk().ok_or(Error::AmfTruncated)?;
        self.data = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan()).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,12}".prop_map(Value::String),
            Just(Value::Null),
            Just(Value::Undefined),
            Just(Value::Date(1.5e12)),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let properties = proptest::collection::vec(("[a-z]{1,8}", inner.clone()), 0..6);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.prop_map(Value::EcmaArray),
                proptest::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec(value(), 0..5)) {
            let mut out = BytesMut::new();
            values.iter().for_each(|v| v.encode(&mut out));
            prop_assert_eq!(decode(&out).unwrap(), values);
        }

        #[test]
        fn anything_is_survived(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode(&data);
        }
    }

    #[test]
    fn long_strings() {
        let long = Value::String("x".repeat(70_000));
        let mut out = BytesMut::new();
        long.encode(&mut out);
        assert_eq!(out[0], LONG_STRING);
        assert_eq!(decode(&out).unwrap(), [long]);
    }

    #[test]
    fn bounds() {
        let deep: Vec<u8> = std::iter::repeat_n([STRICT_ARRAY, 0, 0, 0, 1], 1000).flatten().collect();
        assert!(matches!(decode(&deep), Err(Error::AmfTooLarge { .. })));
        assert!(matches!(decode(&vec![NULL; MAX_VALUES + 1]), Err(Error::AmfTooLarge { .. })));
        // A huge announced count allocates nothing.
        assert!(matches!(decode(&[STRICT_ARRAY, 255, 255, 255, 255]), Err(Error::AmfTruncated)));
        assert!(matches!(decode(&[LONG_STRING, 255, 255, 255, 255, 1]), Err(Error::AmfTruncated)));
        assert!(matches!(decode(&[0x11]), Err(Error::AmfType(0x11))));
    }

    #[test]
    fn a_missing_end_marker_is_forgiven() {
        let data = [ECMA_ARRAY, 0, 0, 0, 1, 0, 1, b'a', BOOLEAN, 1];
        assert_eq!(decode(&data).unwrap(), [Value::EcmaArray(vec![("a".into(), Value::Boolean(true))])]);
    }
}
