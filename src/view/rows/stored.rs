//! What an item contributes, as its ledger row holds it.
//!
//! Separate because it is a layout that functions of several versions share. What it gives up:
//! names; a part is known by its place.

use super::striped::stripe_of;
use crate::view::{
    definition::View,
    evaluate::Addition,
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
    /// Others are joined with it: the mark of what they are joined with.
    Joined(String),
    /// Additions to groups, in order: one, or one for each element of a list.
    Groups(Vec<Added>),
}

/// What an item, or an element of its list, adds to the group with this key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Added {
    pub(crate) key: String,
    pub(crate) addends: Vec<Addend>,
}

impl Added {
    /// Takes its place in a list, which is in order.
    pub(crate) fn join(self, list: &mut Vec<Self>) {
        let at = list.partition_point(|other| *other <= self);
        list.insert(at, self);
    }
}

impl Stored {
    /// What an item adds to the groups of a view, in order.
    pub(crate) fn of(additions: Vec<Addition>, (view, item): (&View, &str)) -> Self {
        let stripe = stripe_of(view, item);
        let mut added = Vec::with_capacity(additions.len());
        for Addition { mut key, addends } in additions {
            key.extend(stripe.clone());
            Added { key: encode_key(&key), addends }.join(&mut added);
        }
        Self::Groups(added)
    }

    /// What is added to groups.
    pub(crate) fn added(&self) -> &[Added] {
        match self {
            Self::Row | Self::Joined(_) => &[],
            Self::Groups(added) => added,
        }
    }
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

/// One contribution: `true` for a row, a text where others are joined with the item, or the
/// group's key and the addends, each a count and
/// the digits of a sum, or a value as in a key, which begins with a letter. Several of those are
/// a list; one is not, which is as it was before there were several.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Part {
    Row(bool),
    Mark(String),
    Group(String, Parts),
    Groups(Vec<(String, Parts)>),
}

type Parts = Vec<(u64, Option<String>)>;

impl From<&Stored> for Part {
    fn from(stored: &Stored) -> Self {
        match stored {
            Stored::Row => Self::Row(true),
            Stored::Joined(mark) => Self::Mark(mark.clone()),
            Stored::Groups(added) => match added.as_slice() {
                [one] => Self::Group(one.key.clone(), parts(&one.addends)),
                several => Self::Groups(
                    several.iter().map(|one| (one.key.clone(), parts(&one.addends))).collect(),
                ),
            },
        }
    }
}

impl Part {
    fn into_stored(self) -> Option<Stored> {
        let added = match self {
            Self::Row(_) => return Some(Stored::Row),
            Self::Mark(mark) => return Some(Stored::Joined(mark)),
            Self::Group(key, parts) => vec![added(key, parts)?],
            Self::Groups(several) => {
                several.into_iter().map(|(key, parts)| added(key, parts)).collect::<Option<_>>()?
            }
        };
        Some(Stored::Groups(added))
    }
}

fn parts(addends: &[Addend]) -> Parts {
    let part = |Addend { count, sum, value }: &Addend| {
        let value = || value.as_ref().map(|it| encode_key(std::slice::from_ref(it)));
        (*count, sum.as_ref().map(number::plain).or_else(value))
    };
    addends.iter().map(part).collect()
}

fn added(key: String, parts: Parts) -> Option<Added> {
    let addend = |(count, text): (u64, Option<String>)| {
        let Some(text) = text else { return Some(Addend { count, ..Addend::default() }) };
        if text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            let value = decode_key(&text)?.pop();
            return Some(Addend { count, value, ..Addend::default() });
        }
        let sum = number::read(&text).ok();
        sum.is_some().then_some(Addend { count, sum, value: None })
    };
    let addends = parts.into_iter().map(addend).collect::<Option<_>>()?;
    Some(Added { key, addends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::scalar::Scalar;

    #[test]
    fn what_is_read_is_what_was_written() {
        let added = |key: &str, amount: i64| Added {
            key: key.to_owned(),
            addends: vec![
                Addend { count: 1, sum: Some(amount.into()), value: None },
                Addend { value: Some(Scalar::Text("a".to_owned())), ..Addend::default() },
            ],
        };
        let (one, other) = (added("S1:a", 5), added("S1:b", -7));
        let all = [
            ("one", Stored::Groups(vec![one.clone()])),
            ("row", Stored::Row),
            ("two", Stored::Groups(vec![one, other])),
        ];
        let text = contributions_text(all.iter().map(|(view, stored)| (*view, stored)));
        let group = |key: &str, sum: &str| format!(r#"["{key}",[[1,"{sum}"],[0,"S1:a"]]]"#);
        let [a, b] = [group("S1:a", "5"), group("S1:b", "-7")];
        assert_eq!(text, format!(r#"{{"one":{a},"row":true,"two":[{a},{b}]}}"#));
        let read = contributions_from(&text).unwrap();
        assert_eq!(read, all.map(|(view, stored)| (view.to_owned(), stored)).into());
    }
}
