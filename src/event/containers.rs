//! Lists, maps and enums for serde, shared by the two notations.
//!
//! DynamoDB JSON and plain JSON differ in how a value is written, not in how values stand in
//! objects and arrays. A [`Notation`] says how to read one value; everything around values
//! is here once, the growing of error paths included.

use super::{
    error::{DecodeReason, Error},
    json::{Cursor, Problem},
    key::Key,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
};
use std::{borrow::Cow, marker::PhantomData};

/// How one value is written.
pub(super) trait Notation {
    /// Reads the value that comes next at a cursor.
    type Node<'c, 'de: 'c>: Deserializer<'de, Error = Error>;

    fn node<'c, 'de>(cursor: &'c mut Cursor<'de>) -> Self::Node<'c, 'de>;
}

/// Reads the object that comes next.
pub(super) fn map<'de, N: Notation, V: Visitor<'de>>(
    cursor: &mut Cursor<'de>,
    visitor: V,
) -> Result<V::Value, Error> {
    cursor.enter()?;
    let mut members = Members::<N> { cursor, first: true, open: true, name: None, of: PhantomData };
    let value = visitor.visit_map(&mut members)?;
    if members.open && members.advance()? {
        return Err(too_long("a map"));
    }
    cursor.leave();
    Ok(value)
}

/// Reads the array that comes next.
pub(super) fn list<'de, N: Notation, V: Visitor<'de>>(
    cursor: &mut Cursor<'de>,
    visitor: V,
) -> Result<V::Value, Error> {
    cursor.enter()?;
    let mut elements = Elements::<N> { cursor, first: true, open: true, at: 0, of: PhantomData };
    let value = visitor.visit_seq(&mut elements)?;
    if elements.open && elements.cursor.next_element(&mut elements.first)? {
        return Err(too_long("a list"));
    }
    cursor.leave();
    Ok(value)
}

/// Reads the object that comes next as `{"variant": content}`.
pub(super) fn variant<'de, N: Notation, V: Visitor<'de>>(
    cursor: &mut Cursor<'de>,
    visitor: V,
) -> Result<V::Value, Error> {
    cursor.enter()?;
    let value = visitor.visit_enum(Variant::<N> { cursor: &mut *cursor, of: PhantomData })?;
    if !cursor.eat(b'}') {
        let comma = cursor.peek() == Some(b',');
        let fault = cursor.fault(Problem::ExpectedCommaOrEnd);
        return if comma { Err(too_long("a map")) } else { Ok(fault?) };
    }
    cursor.leave();
    Ok(value)
}

#[cold]
fn too_long(found: &'static str) -> Error {
    Error::new(DecodeReason::Value { found, expected: "fewer entries".to_owned() })
}

struct Members<'c, 'de, N> {
    cursor: &'c mut Cursor<'de>,
    first: bool,
    open: bool,
    name: Option<Cow<'de, str>>,
    of: PhantomData<N>,
}

impl<N> Members<'_, '_, N> {
    fn advance(&mut self) -> Result<bool, Error> {
        self.name = self.cursor.next_member(&mut self.first)?;
        self.open = self.name.is_some();
        Ok(self.open)
    }
}

impl<'de, N: Notation> MapAccess<'de> for &mut Members<'_, 'de, N> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        if !self.open || !self.advance()? {
            return Ok(None);
        }
        let name = self.name.clone().unwrap_or_default();
        seed.deserialize(Key(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(N::node(self.cursor))
            .map_err(|error| error.in_member(self.name.as_deref().unwrap_or_default()))
    }
}

struct Elements<'c, 'de, N> {
    cursor: &'c mut Cursor<'de>,
    first: bool,
    open: bool,
    at: usize,
    of: PhantomData<N>,
}

impl<'de, N: Notation> SeqAccess<'de> for &mut Elements<'_, 'de, N> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.open = self.open && self.cursor.next_element(&mut self.first)?;
        if !self.open {
            return Ok(None);
        }
        let value =
            seed.deserialize(N::node(self.cursor)).map_err(|error| error.in_element(self.at))?;
        self.at += 1;
        Ok(Some(value))
    }
}

struct Variant<'c, 'de, N> {
    cursor: &'c mut Cursor<'de>,
    of: PhantomData<N>,
}

impl<'c, 'de, N: Notation> EnumAccess<'de> for Variant<'c, 'de, N> {
    type Error = Error;
    type Variant = Content<'c, 'de, N>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), Error> {
        let name = self.cursor.name()?;
        let variant = seed.deserialize(Key(name.clone()))?;
        Ok((variant, Content { cursor: self.cursor, name, of: PhantomData }))
    }
}

struct Content<'c, 'de, N> {
    cursor: &'c mut Cursor<'de>,
    name: Cow<'de, str>,
    of: PhantomData<N>,
}

impl<'c, 'de, N: Notation> Content<'c, 'de, N> {
    fn read<T>(self, read: impl FnOnce(N::Node<'c, 'de>) -> Result<T, Error>) -> Result<T, Error> {
        read(N::node(self.cursor)).map_err(|error| error.in_member(&self.name))
    }
}

impl<'de, N: Notation> VariantAccess<'de> for Content<'_, 'de, N> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.read(<()>::deserialize)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.read(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.read(|node| node.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.read(|node| node.deserialize_struct("", fields, visitor))
    }
}
