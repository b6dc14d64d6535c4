//! Lists, maps and enums for serde, shared by the two notations.
//!
//! DynamoDB JSON and plain JSON differ in how a value is written, not in how values stand in
//! objects and arrays. A [`Notation`] says how to read one value; everything around values
//! is here once, the growing of error paths included.
//!
//! A value's end is checked behind the reader's back, when it lets go of the entries, and asked
//! for by whoever goes on: a user's struct may be large, and to look at the end with the value
//! in hand would copy it.

use super::{
    error::{Error, UNKNOWN_NAME},
    json::{BadEnd, Cursor, Problem},
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

/// Reads the object that comes next. `names` are those the reader's type knows: only they
/// come into an error's path.
#[inline]
pub(super) fn map<'de, N: Notation, V: Visitor<'de>>(
    cursor: &mut Cursor<'de>,
    names: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, Error> {
    cursor.enter()?;
    let of = PhantomData;
    let mut members = Members::<N> { cursor, first: true, open: true, name: 0, names, of };
    visitor.visit_map(&mut members)
}

/// Reads the array that comes next.
#[inline]
pub(super) fn list<'de, N: Notation, V: Visitor<'de>>(
    cursor: &mut Cursor<'de>,
    visitor: V,
) -> Result<V::Value, Error> {
    cursor.enter()?;
    let mut elements = Elements::<N> { cursor, first: true, open: true, at: 0, of: PhantomData };
    visitor.visit_seq(&mut elements)
}

/// Reads the object that comes next as `{"variant": content}`.
pub(super) fn variant<'de, N: Notation, V: Visitor<'de>>(
    cursor: &mut Cursor<'de>,
    names: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, Error> {
    cursor.enter()?;
    let variant = Variant::<N> { cursor: &mut *cursor, names, of: PhantomData };
    let value = visitor.visit_enum(variant)?;
    if let Some(end) = cursor.bad_end() {
        return Err(end.into());
    }
    if !cursor.eat(b'}') {
        let comma = cursor.peek() == Some(b',');
        let fault = cursor.fault(Problem::ExpectedCommaOrEnd);
        return if comma { Err(BadEnd::TooLong("a map").into()) } else { Ok(fault?) };
    }
    cursor.leave();
    Ok(value)
}

struct Members<'c, 'de, N> {
    cursor: &'c mut Cursor<'de>,
    first: bool,
    open: bool,
    /// Where the last member begins, at its name or at the comma before it.
    name: usize,
    names: &'static [&'static str],
    of: PhantomData<N>,
}

impl<'de, N> Members<'_, 'de, N> {
    #[inline]
    fn next(&mut self) -> Result<Option<Cow<'de, str>>, Error> {
        self.name = self.cursor.place();
        let name = self.cursor.next_member(&mut self.first)?;
        self.open = name.is_some();
        Ok(name)
    }

    /// What is wrong with the value of the last member. Its name is read again for it.
    #[cold]
    fn in_last(&self, error: Error) -> Error {
        error.in_member(known(&self.cursor.name_at(self.name), self.names))
    }
}

/// A member's name as the reader's type spells it. Any other name, a map's key above all, is
/// the payload's, and stays out of errors.
fn known(name: &str, names: &'static [&'static str]) -> &'static str {
    names.iter().find(|known| **known == name).copied().unwrap_or(UNKNOWN_NAME)
}

impl<N> Drop for Members<'_, '_, N> {
    #[inline]
    fn drop(&mut self) {
        if self.open {
            match self.cursor.next_member(&mut self.first) {
                Ok(None) => {}
                Ok(Some(_)) => self.cursor.end_badly(BadEnd::TooLong("a map")),
                Err(fault) => self.cursor.end_badly(BadEnd::Fault(fault)),
            }
        }
        self.cursor.leave();
    }
}

impl<'de, N: Notation> MapAccess<'de> for &mut Members<'_, 'de, N> {
    type Error = Error;

    #[inline(always)]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        if !self.open {
            return Ok(None);
        }
        self.name = self.cursor.place();
        if let Some(name) = self.cursor.plain_member(&mut self.first) {
            return seed.deserialize(Key(Cow::Borrowed(name))).map(Some);
        }
        if self.cursor.plain("}") {
            self.open = false;
            return Ok(None);
        }
        match self.next()? {
            Some(name) => seed.deserialize(Key(name)).map(Some),
            None => Ok(None),
        }
    }

    #[inline(always)]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = seed.deserialize(N::node(self.cursor));
        match self.cursor.bad_end() {
            None => value.map_err(|error| self.in_last(error)),
            Some(end) => Err(self.in_last(value.err().unwrap_or_else(|| end.into()))),
        }
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

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.open = self.open && self.cursor.next_element(&mut self.first)?;
        if !self.open {
            return Ok(None);
        }
        let value = seed.deserialize(N::node(self.cursor));
        let value = match self.cursor.bad_end() {
            None => value.map_err(|error| error.in_element(self.at))?,
            Some(end) => {
                let error = value.err().unwrap_or_else(|| end.into());
                return Err(error.in_element(self.at));
            }
        };
        self.at += 1;
        Ok(Some(value))
    }
}

impl<N> Drop for Elements<'_, '_, N> {
    #[inline]
    fn drop(&mut self) {
        if self.open {
            match self.cursor.next_element(&mut self.first) {
                Ok(false) => {}
                Ok(true) => self.cursor.end_badly(BadEnd::TooLong("a list")),
                Err(fault) => self.cursor.end_badly(BadEnd::Fault(fault)),
            }
        }
        self.cursor.leave();
    }
}

struct Variant<'c, 'de, N> {
    cursor: &'c mut Cursor<'de>,
    names: &'static [&'static str],
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
        let known = known(&name, self.names);
        let variant = seed.deserialize(Key(name))?;
        Ok((variant, Content { cursor: self.cursor, name: known, of: PhantomData }))
    }
}

struct Content<'c, 'de, N> {
    cursor: &'c mut Cursor<'de>,
    name: &'static str,
    of: PhantomData<N>,
}

impl<'c, 'de, N: Notation> Content<'c, 'de, N> {
    fn read<T>(self, read: impl FnOnce(N::Node<'c, 'de>) -> Result<T, Error>) -> Result<T, Error> {
        read(N::node(self.cursor)).map_err(|error| error.in_member(self.name))
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
