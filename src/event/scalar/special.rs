//! What serde's data model cannot name: exact numbers and sets, for [`Value`].
//!
//! A deserializer asked for a newtype called [`VALUE_NAME`] may answer with an enum instead:
//! variant 0 is the text of a number, 1 to 3 are the sets of strings, numbers and bytes.
//! `Value` asks so, and nobody else does.
//!
//! [`Value`]: crate::event::Value

use super::{Scalar, ScalarKind};
use crate::event::{
    error::{DecodeReason, Error},
    json::Cursor,
};
use serde::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess, Visitor,
    value::SeqAccessDeserializer,
};

/// How `Value` asks for itself.
pub(in crate::event) const VALUE_NAME: &str = "$changefold::Value";

/// An exact number, or a set.
pub(in crate::event) enum Special<'c, 'de> {
    Number(Scalar<'de>),
    Set(Set<'c, 'de>),
}

impl<'de> EnumAccess<'de> for Special<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let variant: u8 = match &self {
            Self::Number(_) => 0,
            Self::Set(set) => match set.kind {
                ScalarKind::Text => 1,
                ScalarKind::Number => 2,
                ScalarKind::Binary => 3,
            },
        };
        let variant = IntoDeserializer::<Error>::into_deserializer(variant);
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> VariantAccess<'de> for Special<'_, 'de> {
    type Error = Error;

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        match self {
            Self::Number(number) => seed.deserialize(number),
            Self::Set(set) => seed.deserialize(SeqAccessDeserializer::new(set)),
        }
    }

    fn unit_variant(self) -> Result<(), Error> {
        Err(Error::new(DecodeReason::Number))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(Error::new(DecodeReason::Number))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(Error::new(DecodeReason::Number))
    }
}

/// The elements of a DynamoDB set; the opening bracket is passed already.
pub(in crate::event) struct Set<'c, 'de> {
    pub(in crate::event) cursor: &'c mut Cursor<'de>,
    pub(in crate::event) kind: ScalarKind,
    pub(in crate::event) first: bool,
    pub(in crate::event) at: usize,
    /// Turns false when the closing bracket is passed.
    pub(in crate::event) open: &'c mut bool,
}

impl<'de> SeqAccess<'de> for Set<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        *self.open = *self.open && self.cursor.next_element(&mut self.first)?;
        if !*self.open {
            return Ok(None);
        }
        let value = Scalar::read(self.cursor, self.kind)
            .and_then(|scalar| seed.deserialize(scalar))
            .map_err(|error| error.in_element(self.at))?;
        self.at += 1;
        Ok(Some(value))
    }
}
