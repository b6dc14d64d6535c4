//! Values whose type is only known when they are read, without loss.
//!
//! serde's data model has no exact decimals and no sets. [`Value`] asks for itself under a
//! private name, which our deserializers answer with the exact text or the set; any other
//! deserializer sees a plain newtype and gives what it can (its floats).

use super::scalar::VALUE_NAME;
use serde::{
    Deserialize, Deserializer,
    de::{self, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// An attribute value, exactly as it was sent.
///
/// Comparison is structural: numbers compare by their text, maps by order too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value<'a> {
    /// `{"NULL": true}` or `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number: its digits as they were sent.
    Number(Cow<'a, str>),
    /// A string.
    Text(Cow<'a, str>),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
    /// A list.
    List(Vec<Value<'a>>),
    /// A map in order of appearance, names unique: the last of equal names has won.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
    /// A set of strings, in the order sent.
    TextSet(Vec<Cow<'a, str>>),
    /// A set of numbers: their digits, in the order sent.
    NumberSet(Vec<Cow<'a, str>>),
    /// A set of byte strings, in the order sent.
    BinarySet(Vec<Cow<'a, [u8]>>),
}

impl<'a> Value<'a> {
    /// The value under `name`, if this is a map that has it.
    ///
    /// # Examples
    /// ```
    /// use changefold::event::Value;
    /// let item = Value::Map(vec![("paid".into(), Value::Bool(true))]);
    /// assert_eq!(item.get("paid"), Some(&Value::Bool(true)));
    /// assert_eq!(item.get("Paid"), None);
    /// ```
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        let Self::Map(members) = self else { return None };
        members.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// The type in DynamoDB's notation: `NULL`, `BOOL`, `N`, `S`, `B`, `L`, `M`, `SS`, `NS`
    /// or `BS`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Bool(_) => "BOOL",
            Self::Number(_) => "N",
            Self::Text(_) => "S",
            Self::Binary(_) => "B",
            Self::List(_) => "L",
            Self::Map(_) => "M",
            Self::TextSet(_) => "SS",
            Self::NumberSet(_) => "NS",
            Self::BinarySet(_) => "BS",
        }
    }

    /// The attributes of these names, in DynamoDB's notation: what [`image`](super::image) reads.
    /// Items that are equal have one text: names and sets are in order.
    pub(crate) fn to_image(&self, names: &BTreeSet<&str>) -> String {
        let Self::Map(members) = self else { return "{}".to_owned() };
        let wanted = members.iter().filter(|(name, _)| names.contains(&**name));
        object(wanted).to_string()
    }

    fn to_json(&self) -> serde_json::Value {
        let bytes = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
        let value = match self {
            Self::Null => true.into(),
            Self::Bool(value) => (*value).into(),
            Self::Number(text) | Self::Text(text) => (&**text).into(),
            Self::Binary(value) => bytes(value).into(),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Map(members) => object(members.iter()),
            Self::TextSet(set) | Self::NumberSet(set) => {
                set.iter().map(|text| &**text).collect::<BTreeSet<&str>>().into_iter().collect()
            }
            Self::BinarySet(set) => {
                set.iter().map(|value| bytes(value)).collect::<BTreeSet<_>>().into_iter().collect()
            }
        };
        serde_json::Value::Object(std::iter::once((self.kind().to_owned(), value)).collect())
    }

    /// A copy that no longer borrows from the payload.
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        fn text(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        fn bytes(bytes: Cow<'_, [u8]>) -> Cow<'static, [u8]> {
            Cow::Owned(bytes.into_owned())
        }
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(digits) => Value::Number(text(digits)),
            Self::Text(value) => Value::Text(text(value)),
            Self::Binary(value) => Value::Binary(bytes(value)),
            Self::List(values) => Value::List(values.into_iter().map(Self::into_owned).collect()),
            Self::Map(members) => Value::Map(
                members.into_iter().map(|(name, value)| (text(name), value.into_owned())).collect(),
            ),
            Self::TextSet(set) => Value::TextSet(set.into_iter().map(text).collect()),
            Self::NumberSet(set) => Value::NumberSet(set.into_iter().map(text).collect()),
            Self::BinarySet(set) => Value::BinarySet(set.into_iter().map(bytes).collect()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(VALUE_NAME, ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(value.to_string().into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(value.to_string().into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        if value.is_finite() {
            Ok(Value::Number(value.to_string().into()))
        } else {
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(text.to_owned().into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Value::Binary(Cow::Borrowed(bytes)))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Value::Binary(bytes.to_owned().into()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        Ok(Value::Binary(bytes.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = elements.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Text(name)) = entries.next_key()? {
            members.push((name, entries.next_value()?));
        }
        Ok(Value::Map(last_wins(members)))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
        fn texts(set: Vec<Text<'_>>) -> Vec<Cow<'_, str>> {
            set.into_iter().map(|Text(text)| text).collect()
        }
        let (variant, content) = data.variant::<u8>()?;
        Ok(match variant {
            0 => Value::Number(content.newtype_variant::<Text<'de>>()?.0),
            1 => Value::TextSet(texts(content.newtype_variant()?)),
            2 => Value::NumberSet(texts(content.newtype_variant()?)),
            _ => {
                let set = content.newtype_variant::<Vec<Bytes>>()?;
                Value::BinarySet(set.into_iter().map(|Bytes(bytes)| bytes.into()).collect())
            }
        })
    }
}

/// Keeps the first place and the last value of each name, as `serde_json`'s map does.
fn last_wins<'a>(members: Vec<(Cow<'a, str>, Value<'a>)>) -> Vec<(Cow<'a, str>, Value<'a>)> {
    let mut places = BTreeMap::new();
    let unique = if members.len() <= 8 {
        let names = || members.iter().map(|(name, _)| name).enumerate();
        !names().any(|(at, name)| members[..at].iter().any(|(other, _)| other == name))
    } else {
        members.iter().enumerate().all(|(at, (name, _))| places.insert(&**name, at).is_none())
    };
    if unique {
        return members;
    }
    let mut places: BTreeMap<Cow<'a, str>, usize> = BTreeMap::new();
    let mut kept: Vec<(Cow<'a, str>, Value<'a>)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        if let Some(&place) = places.get(&name) {
            kept[place].1 = value;
        } else {
            places.insert(name.clone(), kept.len());
            kept.push((name, value));
        }
    }
    kept
}

/// A string, borrowed where possible (a plain `Cow` never borrows under serde).
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(text.to_owned().into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Text(text.into()))
    }
}

/// The bytes of a binary value.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("binary")
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        Ok(Bytes(bytes))
    }
}
/// Members by their names, in order.
fn object<'m>(members: impl Iterator<Item = &'m (Cow<'m, str>, Value<'m>)>) -> serde_json::Value {
    let members: BTreeMap<&str, serde_json::Value> =
        members.map(|(name, value)| (&**name, value.to_json())).collect();
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
