//! Single values whose text is already read: strings, numbers, binary.
//!
//! DynamoDB writes all three scalars as JSON strings, in attributes and in sets alike, so
//! they are read here once. Numbers go to integers and floats by value and to strings as
//! their digits; [`Number`](super::Number) and [`Value`](super::Value) get the exact text.

mod special;

pub(super) use special::{Set, Special, VALUE_NAME};

use super::{
    error::{DecodeReason, Error},
    forward::{as_method, tuples_as_sequences},
    json::Cursor,
    number::{NUMBER_NAME, is_decimal, short_decimal, short_integer},
};
use serde::{
    Deserializer,
    de::{Error as _, Expected, IntoDeserializer, Unexpected, Visitor, value::SeqDeserializer},
};
use std::borrow::Cow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Text,
    Number,
    Binary,
}

impl ScalarKind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Binary => "binary",
        }
    }
}

/// A scalar as it was written: text, digits, or base64.
#[derive(Debug)]
pub(super) struct Scalar<'de> {
    pub(super) kind: ScalarKind,
    pub(super) text: Cow<'de, str>,
}

impl<'de> Scalar<'de> {
    /// Reads the JSON string that comes next as a scalar of DynamoDB.
    #[inline]
    pub(super) fn read(cursor: &mut Cursor<'de>, kind: ScalarKind) -> Result<Self, Error> {
        if let Some(text) = cursor.plain_string() {
            return Ok(Self::plain(kind, text));
        }
        if cursor.peek() != Some(b'"') {
            return Err(Error::json_type(cursor, "a string under the type tag"));
        }
        Ok(Self { kind, text: cursor.string()? })
    }

    /// A scalar without escapes.
    #[inline(always)]
    pub(super) fn plain(kind: ScalarKind, text: &'de str) -> Self {
        Self { kind, text: Cow::Borrowed(text) }
    }

    fn digits(self) -> Result<Cow<'de, str>, Error> {
        if is_decimal(&self.text) { Ok(self.text) } else { Err(Error::new(DecodeReason::Number)) }
    }

    fn bytes(&self) -> Result<Vec<u8>, Error> {
        base64_simd::STANDARD
            .decode_to_vec(self.text.as_bytes())
            .map_err(|_| Error::new(DecodeReason::Base64))
    }

    #[inline]
    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kind != ScalarKind::Number {
            return Err(Error::mismatch(self.kind.name(), &visitor));
        }
        if let Some(value) = short_integer(&self.text) {
            return visitor.visit_u64(value);
        }
        match self.long_integer(&visitor)? {
            Integer::Unsigned(value) => visitor.visit_u64(value),
            Integer::Signed(value) => visitor.visit_i64(value),
        }
    }

    /// An integer in any spelling.
    #[inline(never)]
    fn long_integer(self, expected: &dyn Expected) -> Result<Integer, Error> {
        let parse = |digits: &str| match digits.parse() {
            Ok(value) => Some(Integer::Unsigned(value)),
            Err(_) => digits.parse().ok().map(Integer::Signed),
        };
        if let Some(value) = parse(&self.text) {
            return Ok(value);
        }
        let digits = self.digits()?;
        let Some(plain) = whole(&digits) else {
            return Err(Error::mismatch("a number with a fraction", expected));
        };
        parse(&plain).ok_or_else(|| Error::invalid_value(Unexpected::Signed(0), expected))
    }

    fn wide_integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kind != ScalarKind::Number {
            return Err(Error::mismatch(self.kind.name(), &visitor));
        }
        let digits = self.digits()?;
        let Some(plain) = whole(&digits) else {
            return Err(Error::mismatch("a number with a fraction", &visitor));
        };
        if let Ok(value) = plain.parse::<u128>() {
            return visitor.visit_u128(value);
        }
        match plain.parse::<i128>() {
            Ok(value) => visitor.visit_i128(value),
            Err(_) => Err(Error::invalid_value(Unexpected::Signed(0), &visitor)),
        }
    }

    #[inline]
    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kind != ScalarKind::Number {
            return Err(Error::mismatch(self.kind.name(), &visitor));
        }
        if let Some(value) = short_decimal(&self.text) {
            return visitor.visit_f64(value);
        }
        match self.digits()?.parse::<f64>() {
            Ok(value) if value.is_finite() => visitor.visit_f64(value),
            _ => Err(Error::invalid_value(Unexpected::Float(0.0), &visitor)),
        }
    }

    /// A number for a type that asks for nothing in particular: an integer where one fits,
    /// else a float, as `serde_json` does.
    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Ok(value) = self.text.parse::<u64>() {
            return visitor.visit_u64(value);
        }
        match self.text.parse::<i64>() {
            Ok(value) => visitor.visit_i64(value),
            Err(_) => self.float(visitor),
        }
    }
}

#[inline(always)]
pub(super) fn visit_text<'de, V: Visitor<'de>>(
    text: Cow<'de, str>,
    visitor: V,
) -> Result<V::Value, Error> {
    match text {
        Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
        Cow::Owned(text) => visitor.visit_string(text),
    }
}

enum Integer {
    Unsigned(u64),
    Signed(i64),
}

/// The digits of a decimal that is a whole number of at most 40 digits: `1.50E2` is `150`.
fn whole(decimal: &str) -> Option<String> {
    let (mantissa, exponent) = decimal.split_once(['e', 'E']).unwrap_or((decimal, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let negative = integer.starts_with('-');
    let integer = integer.trim_start_matches(['-', '+']);
    let all = format!("{integer}{fraction}");
    let digits = all.trim_end_matches('0');
    let zeros = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(all.len() - digits.len()).ok()?)?;
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let zeros = usize::try_from(zeros).ok()?;
    // Longer than any integer type: the caller's parse says that it does not fit.
    let zeros = "0".repeat(zeros.min(40));
    Some(format!("{}{digits}{zeros}", if negative { "-" } else { "" }))
}

impl<'de> Deserializer<'de> for Scalar<'de> {
    type Error = Error;

    as_method!(integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);
    as_method!(integer: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);
    as_method!(wide_integer: deserialize_i128 deserialize_u128);
    as_method!(float: deserialize_f32 deserialize_f64);
    as_method!(deserialize_str: deserialize_string deserialize_identifier);
    as_method!(deserialize_bytes: deserialize_byte_buf);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind {
            ScalarKind::Text => visit_text(self.text, visitor),
            ScalarKind::Number => self.number(visitor),
            ScalarKind::Binary => visitor.visit_byte_buf(self.bytes()?),
        }
    }

    #[inline(always)]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind {
            ScalarKind::Text => visit_text(self.text, visitor),
            ScalarKind::Number => visit_text(self.digits()?, visitor),
            ScalarKind::Binary => Err(Error::mismatch(self.kind.name(), &visitor)),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind {
            ScalarKind::Text => visit_text(self.text, visitor),
            kind => Err(Error::mismatch(kind.name(), &visitor)),
        }
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind {
            ScalarKind::Binary => visitor.visit_byte_buf(self.bytes()?),
            kind => Err(Error::mismatch(kind.name(), &visitor)),
        }
    }

    /// Binary is a list of bytes too, so that `Vec<u8>` needs no attribute of its own.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind {
            ScalarKind::Binary => {
                let mut bytes = SeqDeserializer::<_, Error>::new(self.bytes()?.into_iter());
                let value = visitor.visit_seq(&mut bytes)?;
                bytes.end()?;
                Ok(value)
            }
            kind => Err(Error::mismatch(kind.name(), &visitor)),
        }
    }

    tuples_as_sequences!();

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match (name, self.kind) {
            (NUMBER_NAME, ScalarKind::Number) => visit_text(self.digits()?, visitor),
            (NUMBER_NAME, kind) => Err(Error::mismatch(kind.name(), &visitor)),
            (VALUE_NAME, ScalarKind::Number) => visitor.visit_enum(Special::Number(self)),
            (VALUE_NAME, _) => self.deserialize_any(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.kind {
            ScalarKind::Text => visitor.visit_enum(self.text.into_deserializer()),
            kind => Err(Error::mismatch(kind.name(), &visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Err(Error::mismatch(self.kind.name(), &visitor))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Err(Error::mismatch(self.kind.name(), &visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        Err(Error::mismatch(self.kind.name(), &visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Err(Error::mismatch(self.kind.name(), &visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        Err(Error::mismatch(self.kind.name(), &visitor))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn a_whole_number_is_one_in_any_spelling() {
        for (decimal, expected) in [
            ("150", Some("150")),
            ("1.50E2", Some("150")),
            ("-2.0", Some("-2")),
            ("+7", Some("7")),
            ("-0.00", Some("0")),
            ("100e-2", Some("1")),
            ("1.5", None),
            ("1e-1", None),
            ("0e99999999999999999999", None),
        ] {
            assert_eq!(whole(decimal).as_deref(), expected, "{decimal}");
        }
        assert!(whole("1e999999999").is_some_and(|digits| digits.parse::<u128>().is_err()));
    }
}
