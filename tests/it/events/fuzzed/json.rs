//! JSON as `serde_json` reads it, with nothing lost: repeated names, the text of numbers, the
//! text of every value.
//!
//! It is separate because `serde_json::Value` forgets all three. What it gives up: speed, and
//! values deeper than any that is decoded; a text with such a value is as one that is no JSON.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::fmt;

/// Deeper values are not looked into. Well above the 127 at which decoding ends.
const DEPTH_MAX: usize = 300;

/// How many containers may nest in a value that is decoded.
const DECODED_DEPTH_MAX: usize = 127;

/// A value and its text.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    pub(crate) text: &'a str,
    pub(crate) kind: Kind<'a>,
    /// How many containers nest in it, itself included.
    depth: usize,
}

#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Json<'a>>),
    Object(Vec<(String, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// The value, if `serde_json` reads one, every string in it included.
    pub(crate) fn read(text: &'a [u8]) -> Option<Self> {
        Self::of(serde_json::from_slice::<&RawValue>(text).ok()?.get(), 0)
    }

    fn of(text: &'a str, above: usize) -> Option<Self> {
        let mut depth = 0;
        let mut inner = |text: &'a RawValue| {
            let value = (above < DEPTH_MAX).then(|| Self::of(text.get(), above + 1))??;
            depth = depth.max(value.depth);
            Some(value)
        };
        let kind = match text.as_bytes().first()? {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool(text == "true"),
            b'"' => Kind::Text(serde_json::from_str(text).ok()?),
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                Kind::List(elements.into_iter().map(inner).collect::<Option<_>>()?)
            }
            b'{' => {
                let Members(members) = serde_json::from_str(text).ok()?;
                let members = members.into_iter().map(|(name, value)| Some((name, inner(value)?)));
                Kind::Object(members.collect::<Option<_>>()?)
            }
            _ => Kind::Number,
        };
        let depth = depth + usize::from(matches!(kind, Kind::List(_) | Kind::Object(_)));
        Some(Self { text, kind, depth })
    }

    /// Whether nothing in it nests too deep to be decoded.
    pub(crate) fn is_decodable(&self) -> bool {
        self.depth <= DECODED_DEPTH_MAX
    }

    pub(crate) fn members(&self) -> Option<&[(String, Json<'a>)]> {
        if let Kind::Object(members) = &self.kind { Some(members) } else { None }
    }

    /// The last member of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Json<'a>> {
        let mut members = self.members()?.iter().rev();
        members.find(|(found, _)| found == name).map(|(_, value)| value)
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    /// Which of `names` are there more than once.
    pub(crate) fn repeated<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let members = self.members().unwrap_or_default();
        let count = |name| members.iter().filter(|(found, _)| found == name).count();
        names.iter().copied().filter(|&name| count(name) > 1).collect()
    }
}

/// An object's members, as many as there are.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Self)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
