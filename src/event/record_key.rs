//! A record's key as text: one that tells keys apart, and one for people.

use super::{RecordKey, Value};
use std::fmt::{self, Write as _};

impl RecordKey<'_> {
    /// A text that is the same for equal keys and different for different ones: every part is
    /// preceded by its type and length.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Partition(key) => part(&mut text, 'P', key),
            Self::Item(attributes) => {
                for (name, value) in attributes {
                    part(&mut text, 'A', name);
                    text.push_str(&value_text(value));
                }
            }
        }
        text
    }
}

/// For people: `order_id=o-1001, line=2`, or the partition key.
impl fmt::Display for RecordKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(key) => f.write_str(key),
            Self::Item(attributes) => {
                for (at, (name, value)) in attributes.iter().enumerate() {
                    let separator = if at == 0 { "" } else { ", " };
                    write!(f, "{separator}{name}={}", readable(value))?;
                }
                Ok(())
            }
        }
    }
}

/// A key attribute as [`RecordKey::canonical`] has it.
pub(crate) fn value_text(value: &Value<'_>) -> String {
    let mut text = String::new();
    let kind = match value {
        Value::Text(_) => 'S',
        Value::Number(_) => 'N',
        Value::Binary(_) => 'B',
        _ => 'V',
    };
    part(&mut text, kind, &readable(value));
    text
}

/// A key attribute of a table is text, a number or bytes.
pub(crate) fn readable(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) | Value::Number(text) => text.clone().into_owned(),
        Value::Binary(bytes) => base64_simd::STANDARD.encode_to_string(bytes),
        other => format!("{other:?}"),
    }
}

fn part(text: &mut String, kind: char, part: &str) {
    write!(text, "{kind}{}:{part}", part.len()).expect("a String takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn different_keys_have_different_texts() {
        let text = |value: &'static str| Value::Text(Cow::Borrowed(value));
        let item = |pairs: Vec<(&'static str, Value<'static>)>| {
            RecordKey::Item(pairs.into_iter().map(|(name, it)| (name.into(), it)).collect())
        };
        let keys = [
            item(vec![("a", text("1"))]),
            item(vec![("a", Value::Number("1".into()))]),
            item(vec![("a", text("1")), ("b", text("2"))]),
            item(vec![("a", text("1, b=2"))]),
            RecordKey::Partition("1".into()),
        ];
        let mut texts: Vec<String> = keys.iter().map(RecordKey::canonical).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), keys.len(), "{texts:?}");
        assert_eq!(keys[2].to_string(), "a=1, b=2");
    }
}
