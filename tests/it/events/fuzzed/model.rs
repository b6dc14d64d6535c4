//! A type as users have one, and what is read into it, by hand, from JSON that is known.
//!
//! Separate from the values because a decoder may take a quicker way when it knows the fields.
//! Fields that are absent, unknown, there twice or of another type all have their rules, and
//! they are written down here a second time.

use super::{
    attributes::{base64, is_decimal},
    json::{Json, Kind},
};
use changefold::event::Number;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Model<'a> {
    pk: String,
    #[serde(borrow)]
    status: Cow<'a, str>,
    total: f64,
    version: u32,
    paid: bool,
    note: Option<String>,
    address: Option<Address>,
    items: Vec<Line>,
    tags: Vec<String>,
    sig: Option<Vec<u8>>,
    #[serde(borrow)]
    exact: Option<Number<'a>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Address {
    zip: String,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Line {
    sku: String,
    qty: i64,
}

/// The model in an image.
pub(crate) fn model(image: &Json<'_>) -> Option<Model<'static>> {
    image.members()?;
    Some(Model {
        pk: required(image, "pk", text)?,
        status: required(image, "status", text)?.into(),
        total: required(image, "total", float)?,
        version: required(image, "version", whole)?,
        paid: required(image, "paid", boolean)?,
        note: optional(image, "note", text)?,
        address: optional(image, "address", address)?,
        items: required(image, "items", |it| list(it)?.into_iter().map(line).collect())?,
        tags: required(image, "tags", |it| list(it)?.into_iter().map(text).collect())?,
        sig: optional(image, "sig", bytes)?,
        exact: optional(image, "exact", |it| Number::new(digits(it)?.to_owned()))?,
    })
}

/// A type tag and what stands under it.
type Tagged<'j> = (&'j str, &'j Json<'j>);

fn tagged<'j>(json: &'j Json<'_>) -> Option<Tagged<'j>> {
    let [(tag, content)] = json.members()? else { return None };
    Some((tag, content))
}

fn required<'j, T>(
    object: &'j Json<'_>,
    name: &str,
    read: impl Fn(Tagged<'j>) -> Option<T>,
) -> Option<T> {
    if object.repeated(&[name]).is_empty() { read(tagged(object.get(name)?)?) } else { None }
}

#[expect(clippy::option_option, reason = "whether it can be read, and whether it is there")]
fn optional<'j, T>(
    object: &'j Json<'_>,
    name: &str,
    read: impl Fn(Tagged<'j>) -> Option<T>,
) -> Option<Option<T>> {
    if object.get(name).is_none() {
        return Some(None);
    }
    required(object, name, |(tag, content)| match (tag, &content.kind) {
        ("NULL", Kind::Bool(true)) => Some(None),
        _ => read((tag, content)).map(Some),
    })
}

fn digits((tag, content): Tagged<'_>) -> Option<&str> {
    content.as_text().filter(|text| tag == "N" && is_decimal(text))
}

fn text((tag, content): Tagged<'_>) -> Option<String> {
    let text = if tag == "S" { content.as_text() } else { digits((tag, content)) };
    text.map(str::to_owned)
}

fn boolean((tag, content): Tagged<'_>) -> Option<bool> {
    match (tag, &content.kind) {
        ("BOOL", Kind::Bool(value)) => Some(*value),
        _ => None,
    }
}

fn float(value: Tagged<'_>) -> Option<f64> {
    digits(value)?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A number without a fraction, in any spelling.
fn whole<T: TryFrom<i128>>(value: Tagged<'_>) -> Option<T> {
    let text = digits(value)?;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [integer, fraction].concat();
    let significant = digits.trim_end_matches('0').trim_start_matches(['+', '-', '0']);
    if significant.is_empty() {
        return T::try_from(0).ok();
    }
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let zeros = exponent - i64::try_from(fraction.len()).ok()? + i64::try_from(zeros).ok()?;
    let zeros = usize::try_from(zeros).ok().filter(|zeros| zeros + significant.len() <= 38)?;
    let sign = if integer.starts_with('-') { "-" } else { "" };
    let number: i128 = [sign, significant, &"0".repeat(zeros)].concat().parse().ok()?;
    T::try_from(number).ok()
}

/// The elements of what reads as a sequence; binary is one of numbers, for [`bytes`] only.
fn list((tag, content): Tagged<'_>) -> Option<Vec<Tagged<'_>>> {
    let element = match (tag, &content.kind) {
        ("L", Kind::List(list)) => return list.iter().map(tagged).collect(),
        ("B", Kind::Text(text)) => return base64(text)?.is_empty().then(Vec::new),
        ("SS", _) => "S",
        ("NS", _) => "N",
        ("BS", _) => "B",
        _ => return None,
    };
    let Kind::List(set) = &content.kind else { return None };
    Some(set.iter().map(|value| (element, value)).collect())
}

fn bytes((tag, content): Tagged<'_>) -> Option<Vec<u8>> {
    match tag {
        "B" => base64(content.as_text()?),
        _ => list((tag, content))?.into_iter().map(whole).collect(),
    }
}

/// A struct's fields one after another, as a list may hold them.
fn fields<const N: usize>((tag, content): Tagged<'_>) -> Option<[Tagged<'_>; N]> {
    if tag == "L" { list((tag, content))?.try_into().ok() } else { None }
}

fn address((tag, content): Tagged<'_>) -> Option<Address> {
    if let Some([zip]) = fields((tag, content)) {
        return Some(Address { zip: text(zip)? });
    }
    (tag == "M").then(|| Some(Address { zip: required(content, "zip", text)? }))?
}

fn line((tag, content): Tagged<'_>) -> Option<Line> {
    if let Some([sku, qty]) = fields((tag, content)) {
        return Some(Line { sku: text(sku)?, qty: whole(qty)? });
    }
    (tag == "M").then(|| {
        Some(Line { sku: required(content, "sku", text)?, qty: required(content, "qty", whole)? })
    })?
}
