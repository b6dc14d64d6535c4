//! DynamoDB's notation, interpreted over JSON that `serde_json` has read.
//!
//! Separate, and plain on purpose: it is what our decoder is held against, so it shares
//! nothing with it but the type of its result.

use super::json::{Json, Kind};
use changefold::event::Value;
use std::borrow::Cow;

/// An image or keys: an object of attribute values.
pub(crate) fn item(json: &Json<'_>) -> Option<Value<'static>> {
    if json.is_decodable() { members(json) } else { None }
}

fn members(json: &Json<'_>) -> Option<Value<'static>> {
    let mut kept: Vec<(Cow<'static, str>, Value<'static>)> = Vec::new();
    for (name, value) in json.members()? {
        let value = attribute(value)?;
        match kept.iter_mut().find(|(found, _)| found == name) {
            Some(found) => found.1 = value,
            None => kept.push((name.clone().into(), value)),
        }
    }
    Some(Value::Map(kept))
}

/// One value with its type tag.
pub(crate) fn attribute(json: &Json<'_>) -> Option<Value<'static>> {
    let [(tag, content)] = json.members()? else { return None };
    let text = || content.as_text().map(str::to_owned);
    Some(match (tag.as_str(), &content.kind) {
        ("S", _) => Value::Text(text()?.into()),
        ("N", _) => Value::Number(text().filter(|text| is_decimal(text))?.into()),
        ("B", _) => Value::Binary(base64(&text()?)?.into()),
        ("BOOL", Kind::Bool(value)) => Value::Bool(*value),
        ("NULL", Kind::Bool(true)) => Value::Null,
        ("L", Kind::List(list)) => Value::List(list.iter().map(attribute).collect::<Option<_>>()?),
        ("M", _) => members(content)?,
        ("SS", _) => Value::TextSet(set(content, |text| Some(text.to_owned().into()))?),
        ("NS", _) => {
            Value::NumberSet(set(content, |text| is_decimal(text).then(|| text.to_owned().into()))?)
        }
        ("BS", _) => Value::BinarySet(set(content, |text| base64(text).map(Cow::from))?),
        _ => return None,
    })
}

fn set<T>(content: &Json<'_>, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let Kind::List(elements) = &content.kind else { return None };
    elements.iter().map(|element| read(element.as_text()?)).collect()
}

/// Rust's own grammar of floats, without its infinities and its not-a-number.
pub(crate) fn is_decimal(text: &str) -> bool {
    text.parse::<f64>().is_ok() && !text.contains(['i', 'I', 'n', 'N'])
}

/// RFC 4648 with padding and without bits that are left over.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.strip_suffix("==").or(text.strip_suffix('=')).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for byte in digits.bytes() {
        bits = bits << 6 | u32::from(digit(byte)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held).to_le_bytes()[0]);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0 && held < 6).then_some(bytes)
}

/// The value as `serde_json::Value` has it, where it can have it: it knows no bytes.
pub(crate) fn plain(value: &Value<'_>) -> Option<serde_json::Value> {
    let number = |text: &str| {
        let whole = text.parse::<u64>().map(Into::into).or(text.parse::<i64>().map(Into::into));
        whole.ok().or_else(|| Some(serde_json::Number::from_f64(text.parse().ok()?)?.into()))
    };
    Some(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(digits) => number(digits)?,
        Value::Text(text) => text.as_ref().into(),
        Value::List(list) => list.iter().map(plain).collect::<Option<_>>()?,
        Value::Map(members) => {
            let members =
                members.iter().map(|(name, value)| Some((name.to_string(), plain(value)?)));
            serde_json::Value::Object(members.collect::<Option<_>>()?)
        }
        Value::TextSet(set) => set.iter().map(AsRef::<str>::as_ref).collect(),
        Value::NumberSet(set) => set.iter().map(|digits| number(digits)).collect::<Option<_>>()?,
        Value::BinarySet(set) if set.is_empty() => serde_json::Value::Array(Vec::new()),
        Value::Binary(_) | Value::BinarySet(_) => return None,
    })
}
