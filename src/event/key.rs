//! The names of a map's entries, for maps whose keys are not strings.
//!
//! Separate from scalars because a name has no type tag: it is whatever is asked for.

use super::{
    error::Error,
    json,
    scalar::{Scalar, ScalarKind, visit_text},
};
use serde::{
    Deserializer,
    de::{IntoDeserializer, Visitor},
};
use std::borrow::Cow;

/// The name of a map's entry. As with `serde_json`, it can be read as a number or boolean.
#[derive(Debug)]
pub(super) struct Key<'de>(pub(super) Cow<'de, str>);

impl<'de> Key<'de> {
    fn number<V: Visitor<'de>>(
        self,
        visitor: V,
        read: impl FnOnce(Scalar<'de>, V) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        if json::is_number(&self.0) {
            read(Scalar { kind: ScalarKind::Number, text: self.0 }, visitor)
        } else {
            Err(Error::mismatch("a name", &visitor))
        }
    }
}

macro_rules! number_key {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.number(visitor, |number, visitor| number.$name(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    number_key!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128);
    number_key!(deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128);
    number_key!(deserialize_f32 deserialize_f64);

    #[inline(always)]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visit_text(self.0, visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &*self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(Error::mismatch("a name", &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            Cow::Owned(text) => visitor.visit_byte_buf(text.into_bytes()),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    serde::forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
