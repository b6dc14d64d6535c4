//! The order as a type: borrowing for us, owned for `serde_dynamo`, which cannot borrow.
//!
//! Both are plain `serde` derives with all 13 attributes, so that neither side reads less.

use changefold::record::Change;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use std::{borrow::Cow, fmt};

macro_rules! order {
    ($order:ident, $address:ident, $line:ident, [$($life:lifetime $borrow:ident)?], $text:ty, $note:ty) => {
        #[derive(Debug, Deserialize)]
        pub(crate) struct $order $(<$life>)? {
            pk: $text,
            sk: $text,
            status: $text,
            total: f64,
            currency: $text,
            #[serde(rename = "createdAt")]
            created_at: u64,
            paid: bool,
            version: u32,
            $(#[serde($borrow)])?
            address: $address $(<$life>)?,
            $(#[serde($borrow)])?
            items: Vec<$line $(<$life>)?>,
            tags: Vec<$text>,
            sig: Bytes,
            $(#[serde($borrow)])?
            note: Option<$note>,
        }

        #[derive(Debug, Deserialize)]
        struct $address $(<$life>)? {
            street: $text,
            city: $text,
            zip: $text,
        }

        #[derive(Debug, Deserialize)]
        struct $line $(<$life>)? {
            sku: $text,
            qty: u32,
            price: f64,
        }

        impl $(<$life>)? Digest for $order $(<$life>)? {
            fn digest(&self) -> u64 {
                let mut sum = Sum::default();
                for text in [&*self.pk, &*self.sk, &*self.status, &*self.currency] {
                    sum.text(text);
                }
                sum.add(self.total.to_bits());
                sum.add(self.created_at);
                sum.add(u64::from(self.paid) + 2 * u64::from(self.version));
                for text in [&*self.address.street, &*self.address.city, &*self.address.zip] {
                    sum.text(text);
                }
                for line in &self.items {
                    sum.text(&line.sku);
                    sum.add(u64::from(line.qty) ^ line.price.to_bits());
                }
                for tag in &self.tags {
                    sum.text(tag);
                }
                sum.bytes(&self.sig.0);
                sum.text(self.note.as_deref().unwrap_or_default());
                sum.0
            }
        }
    };
}

order!(Order, Address, Line, ['a borrow], &'a str, Text<'a>);
order!(OwnedOrder, OwnedAddress, OwnedLine, [], String, String);

/// A number that depends on every field, so that both sides can be seen to read alike.
pub(crate) trait Digest {
    fn digest(&self) -> u64;
}

/// What a change's images are, taken together.
pub(crate) fn of_change<T: Digest>(change: &Change<T>) -> u64 {
    let image = |image: Option<&T>| image.map_or(7, Digest::digest);
    image(change.new_image()).wrapping_mul(3) ^ image(change.old_image())
}

#[derive(Debug, Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(7) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// The length and the ends: reading all bytes would measure the digest.
    fn bytes(&mut self, bytes: &[u8]) {
        let end = |byte: Option<&u8>| u64::from(byte.copied().unwrap_or_default());
        self.add(bytes.len() as u64 | end(bytes.first()) << 32 | end(bytes.last()) << 40);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

/// Text that borrows unless it has escapes.
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Bytes: DynamoDB's binary, and in a document the text of one.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_owned()))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}
