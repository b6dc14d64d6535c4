//! DynamoDB JSON for serde: type-tagged values straight into any `T: Deserialize`.
//!
//! `{"S": "x"}` reads as a string, `{"M": {…}}` as a map of such values, and so on, with no
//! tree of attribute values in between. An image (`{"id": {"S": "x"}}`) reads as the content
//! of an `M`. A value has exactly one type tag; attributes a type does not ask for are passed
//! without a look at their tags.

use super::{
    containers::{self, Notation},
    error::{DecodeError, DecodeReason, Error},
    forward::tuples_as_sequences,
    json::{BadEnd, Cursor},
    number::{NUMBER_NAME, ShortNumber},
    scalar::{Scalar, ScalarKind, Set, Special, VALUE_NAME},
};
use serde::{
    Deserialize, Deserializer,
    de::{Expected, Visitor},
};

/// Reads an image or the keys: an object whose members are attribute values.
#[inline]
pub(super) fn read_item<'de, T: Deserialize<'de>>(
    text: &'de str,
    root: &'static str,
) -> Result<T, DecodeError> {
    let mut cursor = Cursor::new(text);
    let item = Attribute { cursor: &mut cursor, tag: Some(Tag::Map), bare: true };
    match T::deserialize(item) {
        Ok(item) => match cursor.finish() {
            Ok(()) => Ok(item),
            Err(end) => Err(DecodeError::at_root::<T>(root, end.into())),
        },
        Err(error) => Err(DecodeError::at_root::<T>(root, error)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Null,
    Bool,
    Scalar(ScalarKind),
    Set(ScalarKind),
    List,
    Map,
}

impl Tag {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "S" => Self::Scalar(ScalarKind::Text),
            "N" => Self::Scalar(ScalarKind::Number),
            "M" => Self::Map,
            "BOOL" => Self::Bool,
            "L" => Self::List,
            "NULL" => Self::Null,
            "B" => Self::Scalar(ScalarKind::Binary),
            "SS" => Self::Set(ScalarKind::Text),
            "NS" => Self::Set(ScalarKind::Number),
            "BS" => Self::Set(ScalarKind::Binary),
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Scalar(ScalarKind::Text) => "a string",
            Self::Scalar(ScalarKind::Number) => "a number",
            Self::Scalar(ScalarKind::Binary) => "binary",
            Self::Set(ScalarKind::Text) => "a string set",
            Self::Set(ScalarKind::Number) => "a number set",
            Self::Set(ScalarKind::Binary) => "a binary set",
            Self::List => "a list",
            Self::Map => "a map",
        }
    }
}

/// DynamoDB's notation.
pub(super) struct Typed;

impl Notation for Typed {
    type Node<'c, 'de: 'c> = Attribute<'c, 'de>;

    fn node<'c, 'de>(cursor: &'c mut Cursor<'de>) -> Attribute<'c, 'de> {
        Attribute { cursor, tag: None, bare: false }
    }
}

/// The attribute value that comes next.
pub(super) struct Attribute<'c, 'de> {
    cursor: &'c mut Cursor<'de>,
    /// The type tag, once it has been read.
    tag: Option<Tag>,
    /// Whether the value stands without its tag and braces, as an image does.
    bare: bool,
}

impl<'de> Attribute<'_, 'de> {
    /// Reads up to the tagged content.
    #[inline(always)]
    fn open(&mut self) -> Result<Tag, Error> {
        if let Some(tag) = self.tag {
            return Ok(tag);
        }
        let plain = match self.cursor.third_byte() {
            Some(b'S') if self.cursor.plain_tag("{\"S\":") => Tag::Scalar(ScalarKind::Text),
            Some(b'N') if self.cursor.plain_tag("{\"N\":") => Tag::Scalar(ScalarKind::Number),
            Some(b'M') if self.cursor.plain_tag("{\"M\":") => Tag::Map,
            Some(b'L') if self.cursor.plain_tag("{\"L\":") => Tag::List,
            Some(b'S') if self.cursor.plain_tag("{\"SS\":") => Tag::Set(ScalarKind::Text),
            Some(b'B') if self.cursor.plain_tag("{\"B\":") => Tag::Scalar(ScalarKind::Binary),
            Some(b'B') if self.cursor.plain_tag("{\"BOOL\":") => Tag::Bool,
            Some(b'N') if self.cursor.plain_tag("{\"NULL\":") => Tag::Null,
            _ => return self.open_slowly(),
        };
        self.tag = Some(plain);
        Ok(plain)
    }

    #[cold]
    fn open_slowly(&mut self) -> Result<Tag, Error> {
        if self.cursor.peek() != Some(b'{') {
            return Err(Error::json_type(self.cursor, "an attribute value with its type tag"));
        }
        self.cursor.enter()?;
        let Some(name) = self.cursor.next_member(&mut true)? else {
            let expected = "an attribute value with its type tag".to_owned();
            return Err(Error::new(DecodeReason::Type { found: "an empty object", expected }));
        };
        let Some(tag) = Tag::named(&name) else {
            let expected = "a type tag S, N, B, BOOL, NULL, L, M, SS, NS or BS".to_owned();
            return Err(Error::new(DecodeReason::UnknownName { expected }));
        };
        self.tag = Some(tag);
        Ok(tag)
    }

    /// Passes the brace behind the content.
    #[inline(always)]
    fn close(&mut self) -> Result<(), BadEnd> {
        if self.bare {
            return Ok(());
        }
        if self.cursor.plain("}") {
            self.cursor.leave();
            return Ok(());
        }
        self.close_slowly()
    }

    #[cold]
    fn close_slowly(&mut self) -> Result<(), BadEnd> {
        if self.cursor.next_member(&mut false).map_err(BadEnd::Fault)?.is_some() {
            return Err(BadEnd::SeveralTags);
        }
        self.cursor.leave();
        Ok(())
    }

    fn null(mut self) -> Result<(), Error> {
        // DynamoDB knows only `true` here.
        if self.cursor.peek() != Some(b't') {
            return Err(Error::json_type(self.cursor, "`true` under the tag NULL"));
        }
        self.cursor.literal("true")?;
        Ok(self.close()?)
    }

    fn boolean(mut self) -> Result<bool, Error> {
        let value = match self.cursor.peek() {
            Some(b't') => self.cursor.literal("true").map(|()| true)?,
            Some(b'f') => self.cursor.literal("false").map(|()| false)?,
            _ => return Err(Error::json_type(self.cursor, "`true` or `false` under the tag BOOL")),
        };
        self.close()?;
        Ok(value)
    }

    #[inline]
    fn scalar(mut self, kind: ScalarKind) -> Result<Scalar<'de>, Error> {
        let scalar = Scalar::read(self.cursor, kind)?;
        self.close()?;
        Ok(scalar)
    }

    #[inline]
    fn list<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.cursor.peek() != Some(b'[') {
            return Err(Error::json_type(self.cursor, "an array under the tag L"));
        }
        let closing = Closing(self);
        containers::list::<Typed, V>(closing.0.cursor, visitor)
    }

    #[inline]
    fn map<V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.cursor.peek() != Some(b'{') {
            return Err(Error::json_type(self.cursor, "an object of attribute values"));
        }
        let closing = Closing(self);
        containers::map::<Typed, V>(closing.0.cursor, names, visitor)
    }

    fn set<T>(
        mut self,
        kind: ScalarKind,
        read: impl FnOnce(Set<'_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.cursor.peek() != Some(b'[') {
            return Err(Error::json_type(self.cursor, "an array under the set's tag"));
        }
        self.cursor.enter()?;
        let mut open = true;
        let value = read(Set { cursor: self.cursor, kind, first: true, at: 0, open: &mut open })?;
        // A tuple takes as many elements as it has places; the set must have no more.
        if open && self.cursor.next_element(&mut false)? {
            return Err(BadEnd::TooLong("a set").into());
        }
        self.cursor.leave();
        self.close()?;
        Ok(value)
    }

    /// A scalar under whatever tag.
    #[cold]
    fn tagged_scalar(mut self, expected: &dyn Expected) -> Result<Scalar<'de>, Error> {
        match self.open()? {
            Tag::Scalar(kind) => self.scalar(kind),
            tag => Self::mismatch(tag, expected),
        }
    }

    /// A string as a whole, if its tag is still to be read.
    #[inline(always)]
    fn plain_text(&mut self) -> Option<&'de str> {
        if self.tag.is_some() {
            return None;
        }
        self.cursor.plain_between("{\"S\":\"", "\"}")
    }

    /// A number's digits as a whole, if its tag is still to be read.
    #[inline(always)]
    fn plain_digits(&mut self) -> Option<&'de str> {
        if self.tag.is_some() {
            return None;
        }
        self.cursor.plain_between("{\"N\":\"", "\"}")
    }

    /// A whole number of not too many digits, if its tag is still to be read.
    #[inline(always)]
    fn plain_whole(&mut self) -> Option<u64> {
        if self.tag.is_some() {
            return None;
        }
        self.cursor.plain_number_between("{\"N\":\"", "\"}", ShortNumber::whole)
    }

    /// A number that is exact as a double, if its tag is still to be read.
    #[inline(always)]
    fn plain_double(&mut self) -> Option<f64> {
        if self.tag.is_some() {
            return None;
        }
        self.cursor.plain_number_between("{\"N\":\"", "\"}", ShortNumber::double)
    }

    fn mismatch<T>(tag: Tag, expected: &dyn Expected) -> Result<T, Error> {
        Err(Error::mismatch(tag.name(), expected))
    }
}

/// An attribute value whose content is being read: the brace behind it is passed afterwards.
struct Closing<'c, 'de>(Attribute<'c, 'de>);

impl Drop for Closing<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if let Err(end) = self.0.close() {
            self.0.cursor.end_badly(end);
        }
    }
}

/// Methods for scalars: the plain spelling first, then any other.
macro_rules! scalars {
    ($plain:ident $visit:ident: $($name:ident)*) => {
        $(#[inline(always)]
        fn $name<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            match self.$plain() {
                Some(value) => visitor.$visit(value),
                None => self.tagged_scalar(&visitor)?.$name(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Attribute<'_, 'de> {
    type Error = Error;

    scalars!(plain_whole visit_u64: deserialize_i8 deserialize_i16 deserialize_i32);
    scalars!(plain_whole visit_u64: deserialize_i64 deserialize_u8 deserialize_u16);
    scalars!(plain_whole visit_u64: deserialize_u32 deserialize_u64);
    scalars!(plain_double visit_f64: deserialize_f32 deserialize_f64);
    scalars!(plain_text visit_borrowed_str: deserialize_char deserialize_str);
    scalars!(plain_text visit_borrowed_str: deserialize_string deserialize_identifier);

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.tagged_scalar(&visitor)?.deserialize_i128(visitor)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.tagged_scalar(&visitor)?.deserialize_u128(visitor)
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.open()? {
            Tag::Null => {
                self.null()?;
                visitor.visit_unit()
            }
            Tag::Bool => visitor.visit_bool(self.boolean()?),
            Tag::Scalar(kind) => self.scalar(kind)?.deserialize_any(visitor),
            Tag::Set(kind) => self.set(kind, |set| visitor.visit_seq(set)),
            Tag::List => self.list(visitor),
            Tag::Map => self.map(&[], visitor),
        }
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        if self.tag.is_none() {
            if self.cursor.plain_literal("{\"BOOL\":true}") {
                return visitor.visit_bool(true);
            }
            if self.cursor.plain_literal("{\"BOOL\":false}") {
                return visitor.visit_bool(false);
            }
        }
        match self.open()? {
            Tag::Bool => visitor.visit_bool(self.boolean()?),
            tag => Self::mismatch(tag, &visitor),
        }
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.open()? {
            Tag::Scalar(kind) => self.scalar(kind)?.deserialize_bytes(visitor),
            Tag::List => self.list(visitor),
            tag => Self::mismatch(tag, &visitor),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        if self.tag.is_none() {
            if self.cursor.starts_with("{\"S\":") || self.cursor.starts_with("{\"N\":") {
                return visitor.visit_some(self);
            }
            if self.cursor.plain_literal("{\"NULL\":true}") {
                return visitor.visit_none();
            }
        }
        if self.open()? == Tag::Null {
            self.null()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.open()? {
            Tag::Null => {
                self.null()?;
                visitor.visit_unit()
            }
            tag => Self::mismatch(tag, &visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name != VALUE_NAME && name != NUMBER_NAME {
            return visitor.visit_newtype_struct(self);
        }
        if let Some(digits) = self.plain_digits() {
            return Scalar::plain(ScalarKind::Number, digits)
                .deserialize_newtype_struct(name, visitor);
        }
        match self.open()? {
            Tag::Scalar(kind) => self.scalar(kind)?.deserialize_newtype_struct(name, visitor),
            tag if name == NUMBER_NAME => Self::mismatch(tag, &visitor),
            Tag::Set(kind) => self.set(kind, |set| visitor.visit_enum(Special::Set(set))),
            Tag::Null | Tag::Bool | Tag::List | Tag::Map => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.open()? {
            Tag::List => self.list(visitor),
            Tag::Set(kind) => self.set(kind, |set| visitor.visit_seq(set)),
            Tag::Scalar(kind) => self.scalar(kind)?.deserialize_seq(visitor),
            tag => Self::mismatch(tag, &visitor),
        }
    }

    tuples_as_sequences!();

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.open()? {
            Tag::Map => self.map(&[], visitor),
            tag => Self::mismatch(tag, &visitor),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.open()? {
            Tag::Map => self.map(fields, visitor),
            Tag::List => self.list(visitor),
            tag => Self::mismatch(tag, &visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.open()? {
            Tag::Scalar(kind) => self.scalar(kind)?.deserialize_enum(name, variants, visitor),
            Tag::Map => {
                if self.cursor.peek() != Some(b'{') {
                    return Err(Error::json_type(self.cursor, "an object of attribute values"));
                }
                let value = containers::variant::<Typed, V>(self.cursor, variants, visitor)?;
                self.close()?;
                Ok(value)
            }
            tag => Self::mismatch(tag, &visitor),
        }
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.cursor.skip()?;
        if self.tag.is_some() {
            self.close()?;
        }
        visitor.visit_unit()
    }
}
