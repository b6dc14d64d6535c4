//! Plain JSON for serde, as `serde_json` reads it: the documents in data and messages.
//!
//! Separate from `serde_json` because [`Value`](super::Value) and [`Number`](super::Number)
//! need the text of numbers, and errors need paths without values. Floats are left to
//! `serde_json`, so that they are its floats to the last bit.

use super::{
    containers::{self, Notation},
    error::{DecodeError, DecodeReason, Error},
    forward::{as_method, tuples_as_sequences},
    json::{self, Cursor, Problem},
    number::NUMBER_NAME,
    scalar::{Scalar, ScalarKind, Special, VALUE_NAME, visit_text},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Expected, Unexpected, Visitor},
};
use std::borrow::Cow;

/// Reads a whole document.
#[inline]
pub(super) fn read_document<'de, T: Deserialize<'de>>(
    text: &'de str,
    root: &'static str,
) -> Result<T, DecodeError> {
    let mut cursor = Cursor::new(text);
    match T::deserialize(Document { cursor: &mut cursor }) {
        Ok(value) => match cursor.finish() {
            Ok(()) => Ok(value),
            Err(end) => Err(DecodeError::at_root::<T>(root, end.into())),
        },
        Err(error) => Err(DecodeError::at_root::<T>(root, error)),
    }
}

/// Reads a whole document that has to be text first.
#[inline]
pub(super) fn read_bytes<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    root: &'static str,
) -> Result<T, DecodeError> {
    let text = json::text(bytes).map_err(|at| DecodeError::new(root, DecodeReason::Utf8 { at }))?;
    read_document(text, root)
}

/// JSON's own notation.
struct Plain;

impl Notation for Plain {
    type Node<'c, 'de: 'c> = Document<'c, 'de>;

    fn node<'c, 'de>(cursor: &'c mut Cursor<'de>) -> Document<'c, 'de> {
        Document { cursor }
    }
}

/// The JSON value that comes next.
struct Document<'c, 'de> {
    cursor: &'c mut Cursor<'de>,
}

impl<'de> Document<'_, 'de> {
    #[inline]
    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.short_number() {
            Some(number) if number.behind == 0 && !number.is_negative => {
                self.cursor.advance(number.len);
                visitor.visit_u64(number.digits)
            }
            Some(number) if number.behind > 0 => match number.double() {
                Some(value) => {
                    self.cursor.advance(number.len);
                    visitor.visit_f64(value)
                }
                None => self.long_number(visitor),
            },
            _ => self.long_number(visitor),
        }
    }

    #[cold]
    fn long_number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !matches!(self.cursor.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(mismatch(self.cursor, &visitor));
        }
        let text = self.cursor.number()?;
        if let Ok(value) = text.parse::<u64>() {
            return visitor.visit_u64(value);
        }
        // `-0` is a float to `serde_json`: an integer has no sign of zero.
        if let Some(value) = text.parse::<i64>().ok().filter(|&value| value != 0) {
            return visitor.visit_i64(value);
        }
        match serde_json::from_str::<f64>(text) {
            Ok(value) => visitor.visit_f64(value),
            Err(_) => Err(Error::invalid_value(Unexpected::Float(0.0), &visitor)),
        }
    }

    /// The text of a number without fraction and exponent.
    fn digits(self, expected: &dyn Expected) -> Result<&'de str, Error> {
        if !matches!(self.cursor.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(mismatch(self.cursor, expected));
        }
        let text = self.cursor.number()?;
        if text.contains(['.', 'e', 'E']) {
            return Err(Error::mismatch("a number with a fraction", expected));
        }
        Ok(text)
    }

    #[inline]
    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(text) = self.cursor.plain_string() {
            return visitor.visit_borrowed_str(text);
        }
        if self.cursor.peek() != Some(b'"') {
            return Err(mismatch(self.cursor, &visitor));
        }
        visit_text(self.cursor.string()?, visitor)
    }
}

#[cold]
fn mismatch(cursor: &mut Cursor<'_>, expected: &dyn Expected) -> Error {
    Error::json_type(cursor, &expected.to_string())
}

impl<'de> Deserializer<'de> for Document<'_, 'de> {
    type Error = Error;

    as_method!(number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);
    as_method!(number: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);
    as_method!(number: deserialize_f32 deserialize_f64);
    as_method!(text: deserialize_char deserialize_str deserialize_string deserialize_identifier);
    as_method!(deserialize_bytes: deserialize_byte_buf);

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.digits(&visitor)?.parse() {
            Ok(value) => visitor.visit_i128(value),
            Err(_) => Err(Error::invalid_value(Unexpected::Signed(0), &visitor)),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.digits(&visitor)?.parse() {
            Ok(value) => visitor.visit_u128(value),
            Err(_) => Err(Error::invalid_value(Unexpected::Signed(0), &visitor)),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            Some(b'n') => self.deserialize_unit(visitor),
            Some(b't' | b'f') => self.deserialize_bool(visitor),
            Some(b'"') => self.text(visitor),
            Some(b'[') => self.deserialize_seq(visitor),
            Some(b'{') => self.deserialize_map(visitor),
            Some(b'-' | b'0'..=b'9') => self.number(visitor),
            _ => Ok(self.cursor.fault(Problem::ExpectedValue)?),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            Some(b't') => {
                self.cursor.literal("true")?;
                visitor.visit_bool(true)
            }
            Some(b'f') => {
                self.cursor.literal("false")?;
                visitor.visit_bool(false)
            }
            _ => Err(mismatch(self.cursor, &visitor)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            Some(b'[') => self.deserialize_seq(visitor),
            Some(b'"') => match self.cursor.string()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
                Cow::Owned(text) => visitor.visit_byte_buf(text.into_bytes()),
            },
            _ => Err(mismatch(self.cursor, &visitor)),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.cursor.peek() != Some(b'n') {
            return visitor.visit_some(self);
        }
        self.cursor.literal("null")?;
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.cursor.peek() != Some(b'n') {
            return Err(mismatch(self.cursor, &visitor));
        }
        self.cursor.literal("null")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name != VALUE_NAME && name != NUMBER_NAME {
            return visitor.visit_newtype_struct(self);
        }
        match self.cursor.peek() {
            Some(b'-' | b'0'..=b'9') => {
                let text = Cow::Borrowed(self.cursor.number()?);
                let number = Scalar { kind: ScalarKind::Number, text };
                if name == NUMBER_NAME {
                    number.deserialize_newtype_struct(name, visitor)
                } else {
                    visitor.visit_enum(Special::Number(number))
                }
            }
            _ if name == NUMBER_NAME => Err(mismatch(self.cursor, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            Some(b'[') => containers::list::<Plain, V>(self.cursor, visitor),
            _ => Err(mismatch(self.cursor, &visitor)),
        }
    }

    tuples_as_sequences!();

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            Some(b'{') => containers::map::<Plain, V>(self.cursor, &[], visitor),
            _ => Err(mismatch(self.cursor, &visitor)),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            Some(b'{') => containers::map::<Plain, V>(self.cursor, fields, visitor),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            Some(b'{') => containers::variant::<Plain, V>(self.cursor, variants, visitor),
            Some(b'"') => {
                let text = self.cursor.string()?;
                Scalar { kind: ScalarKind::Text, text }.deserialize_enum(name, variants, visitor)
            }
            _ => Err(mismatch(self.cursor, &visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.cursor.skip()?;
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;

    #[track_caller]
    fn check(text: &str, expected: Result<(), (usize, Problem)>) {
        let found = read_document::<Value<'_>>(text, "data").map(drop);
        let expected =
            expected.map_err(|(at, problem)| DecodeReason::Json { at, problem: problem.text() });
        assert_eq!(found.map_err(|error| error.reason().clone()), expected, "{text}");
    }

    #[test]
    fn a_fault_names_its_place() {
        check(" {\"a\" : [1, -2.5e+3, true, null, {}]} ", Ok(()));
        check("", Err((0, Problem::End)));
        check("[1,]", Err((3, Problem::TrailingComma)));
        check("{\"a\" 1}", Err((5, Problem::ExpectedColon)));
        check("{1:1}", Err((1, Problem::ExpectedName)));
        check("[1 2]", Err((3, Problem::ExpectedCommaOrEnd)));
        check("[1}", Err((2, Problem::ExpectedCommaOrEnd)));
        check("\"a\nb\"", Err((2, Problem::ControlCharacter)));
        check("\"\\x\"", Err((2, Problem::Escape)));
        check("\"\\u12g4\"", Err((5, Problem::Escape)));
        check("01", Err((1, Problem::TrailingText)));
        check("1.x", Err((2, Problem::Number)));
        check("truth", Err((0, Problem::ExpectedValue)));
        check("\"abc", Err((4, Problem::End)));
        check("1 1", Err((2, Problem::TrailingText)));
    }
}
