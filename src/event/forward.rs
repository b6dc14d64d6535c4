//! Methods of a serde deserializer that only pass the visitor on.
//!
//! The deserializers of attributes, documents and scalars forward alike, so the forwarding
//! stands here once.

/// Methods that do as another of the same deserializer does.
macro_rules! as_method {
    ($method:ident: $($name:ident)*) => {
        $(#[inline]
        fn $name<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.$method(visitor)
        })*
    };
}

/// A tuple is read as a sequence, however many elements its type has.
macro_rules! tuples_as_sequences {
    () => {
        fn deserialize_tuple<V: serde::de::Visitor<'de>>(
            self,
            _: usize,
            visitor: V,
        ) -> Result<V::Value, Error> {
            self.deserialize_seq(visitor)
        }

        fn deserialize_tuple_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            _: usize,
            visitor: V,
        ) -> Result<V::Value, Error> {
            self.deserialize_seq(visitor)
        }
    };
}

pub(super) use {as_method, tuples_as_sequences};
