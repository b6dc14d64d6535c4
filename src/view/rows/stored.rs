//! What an item contributes, as its ledger row holds it.
//!
//! Separate because it is a layout that functions of several versions share. What it gives up:
//! names; a part is known by its place.

use crate::view::{
    number,
    scalar::{decode_key, encode_key},
    total::Addend,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an item contributes to a view, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// A row of its own in a projection.
    Row,
    /// These addends to the group with this key.
    Group { key: String, addends: Vec<Addend> },
}

/// The contributions of one item by view, as the ledger row holds them: one text and not a
/// map of maps, because a row is read and written as often as its item changes.
pub(crate) fn contributions_text<'s>(
    contributions: impl Iterator<Item = (&'s str, &'s Stored)>,
) -> String {
    let parts: BTreeMap<&str, Part> =
        contributions.map(|(view, stored)| (view, Part::from(stored))).collect();
    serde_json::to_string(&parts).expect("texts and integers are JSON")
}

/// Reads what [`contributions_text`] wrote; `None` for any other text.
pub(crate) fn contributions_from(text: &str) -> Option<BTreeMap<String, Stored>> {
    let parts: BTreeMap<String, Part> = serde_json::from_str(text).ok()?;
    parts.into_iter().map(|(view, part)| Some((view, part.into_stored()?))).collect()
}

/// One contribution: `true` for a row, or the group's key and the addends, each a count and
/// the digits of a sum, or a value as in a key, which begins with a letter.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Part {
    Row(bool),
    Group(String, Vec<(u64, Option<String>)>),
}

impl From<&Stored> for Part {
    fn from(stored: &Stored) -> Self {
        let Stored::Group { key, addends } = stored else { return Self::Row(true) };
        let addends = addends
            .iter()
            .map(|Addend { count, sum, value }| {
                let value = || value.as_ref().map(|it| encode_key(std::slice::from_ref(it)));
                (*count, sum.as_ref().map(number::plain).or_else(value))
            })
            .collect();
        Self::Group(key.clone(), addends)
    }
}

impl Part {
    fn into_stored(self) -> Option<Stored> {
        let (key, parts) = match self {
            Self::Row(_) => return Some(Stored::Row),
            Self::Group(key, parts) => (key, parts),
        };
        let addends = parts
            .into_iter()
            .map(|(count, text)| {
                let Some(text) = text else { return Some(Addend { count, ..Addend::default() }) };
                if text.starts_with(|first: char| first.is_ascii_alphabetic()) {
                    let value = decode_key(&text)?.pop();
                    return Some(Addend { count, value, ..Addend::default() });
                }
                let sum = number::read(&text).ok();
                sum.is_some().then_some(Addend { count, sum, value: None })
            })
            .collect::<Option<_>>()?;
        Some(Stored::Group { key, addends })
    }
}
