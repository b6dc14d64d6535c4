//! A ledger row: how it is read, and how it is replaced at the revision that was read.
//!
//! ```text
//! pk   K#<source>#<item>          key  the item's key, for people
//! v    version applied; empty where no record of the stream was, but the item itself
//! rev  +1 with every write        c    contributions by view
//! q    why views leave it out     record  the record of a quarantined item
//! f    fence, in milliseconds: when the source was read to reconcile the item
//! ttl  only where nothing comes after it; `gone` instead while views are built
//! j    by view that joins the item with another: what it is before, and with which (`join`)
//! part there while a change is written in part: `c` is what it has come to, `v` as before it
//! ```
//!
//! Separate because the layout is what functions of several versions share. What it gives up:
//! a function from before fences writes a row without the one it had.

use super::{
    LEDGER_TTL,
    join::{LEFTS, Left, lefts_from, lefts_text},
};
use crate::{
    record::Timestamp,
    store::{
        Item,
        rows::{Change, number, number_of, text, text_of},
    },
    view::{
        quarantine::QUARANTINE,
        rows::{self, Stored},
        source_item::LEDGER_KEY,
    },
};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use std::collections::BTreeMap;

/// How far the clocks that date a record and a read of the source may be apart, in
/// milliseconds; a record's own moment is rounded down to the second.
const FENCE_SLACK_MS: i64 = 5_000;

pub(super) const FENCE: &str = "f";
const PART: &str = "part";
/// When a row could have gone that stays while views are built, in seconds since the epoch.
pub(crate) const GONE: &str = "gone";

/// What a ledger row says. One that is not there says nothing, at revision 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) revision: u64,
    pub(crate) version: String,
    pub(crate) contributions: BTreeMap<String, Stored>,
    /// When the source was last read to reconcile the item.
    pub(crate) fence: Option<Timestamp>,
    /// Whether the contributions are those of a change that was written in part.
    pub(crate) is_part: bool,
    /// What the item is before it is joined with others, by the view that does.
    pub(crate) lefts: BTreeMap<String, Left>,
    /// Why views leave the item out.
    quarantine: Option<AttributeValue>,
}

impl Entry {
    /// Reads a row; or which of its attributes cannot be read.
    pub(crate) fn read(item: &Item) -> Result<(String, Self), &'static str> {
        let text = |name: &'static str| text_of(item, name).ok_or(name);
        let contributions = rows::contributions_from(text("c")?).ok_or("c")?;
        let entry = Self {
            revision: number_of(item, "rev").ok_or("rev")?,
            version: text("v")?.to_owned(),
            contributions,
            fence: number_of(item, FENCE).map(Timestamp),
            is_part: item.contains_key(PART),
            lefts: match text_of(item, LEFTS) {
                Some(text) => lefts_from(text).ok_or(LEFTS)?,
                None => BTreeMap::new(),
            },
            quarantine: item.get(QUARANTINE).cloned(),
        };
        Ok((text(LEDGER_KEY)?.to_owned(), entry))
    }

    /// Whether some view leaves the item out.
    pub(super) fn is_left_out(&self) -> bool {
        self.quarantine.is_some()
    }

    /// Whether there is a row.
    pub(crate) fn exists(&self) -> bool {
        self.revision > 0
    }

    /// Takes in what [`Guard::of_rejoined`] writes.
    #[cfg(feature = "local")]
    pub(super) fn rejoined(&mut self, row: &Item) {
        self.revision += 1;
        let contributions = text_of(row, "c").and_then(rows::contributions_from);
        self.contributions = contributions.unwrap_or_default();
        self.lefts = text_of(row, LEFTS).and_then(lefts_from).unwrap_or_default();
    }

    /// Says why a view leaves the item out, or that it does not.
    pub(super) fn set_quarantine(&mut self, view: &str, reason: Option<AttributeValue>) {
        let mut reasons = match self.quarantine.take() {
            Some(AttributeValue::M(reasons)) => reasons,
            _ => Item::new(),
        };
        match reason {
            Some(reason) => reasons.insert(view.to_owned(), reason),
            None => reasons.remove(view),
        };
        self.quarantine = (!reasons.is_empty()).then_some(AttributeValue::M(reasons));
    }

    /// Whether what was read to reconcile the item contains a change that was created then.
    pub(crate) fn contains(&self, created: Option<Timestamp>) -> bool {
        is_before(created, self.fence)
    }
}

/// Whether a change was created before the source was read, and the slack.
pub(super) fn is_before(created: Option<Timestamp>, fence: Option<Timestamp>) -> bool {
    match (fence, created) {
        (Some(fence), Some(created)) => created.0 < fence.0.saturating_sub(FENCE_SLACK_MS),
        _ => false,
    }
}

/// The new ledger row of an item, written only at the revision that was read.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) item: Item,
    pub(super) revision_read: u64,
    /// Whether what else the row has stays, and which attributes go.
    pub(super) keeps: Option<Vec<&'static str>>,
}

impl Guard {
    /// A row without what only some rows have.
    pub(super) fn new(
        (pk, key): (&str, &str),
        (version, contributions): (&str, String),
        (revision_read, fence): (u64, Option<Timestamp>),
    ) -> Self {
        let mut item = Item::from([
            (LEDGER_KEY.to_owned(), text(pk)),
            ("key".to_owned(), text(key)),
            ("v".to_owned(), text(version)),
            ("rev".to_owned(), number(revision_read + 1)),
            ("c".to_owned(), text(contributions)),
        ]);
        item.extend(fence.map(|Timestamp(fence)| (FENCE.to_owned(), number(fence))));
        Self { item, revision_read, keeps: None }
    }

    /// The row of an item that is joined again: what it contributes, with whom, and why views
    /// leave it out. All else stays.
    pub(super) fn of_rejoined(pk: &str, entry: &Entry) -> Self {
        let contributions = entry.contributions.iter();
        let contributions = contributions.map(|(view, stored)| (view.as_str(), stored));
        let item = Item::from([
            (LEDGER_KEY.to_owned(), text(pk)),
            ("rev".to_owned(), number(entry.revision + 1)),
            ("c".to_owned(), text(rows::contributions_text(contributions))),
        ]);
        let mut guard = Self { item, revision_read: entry.revision, keeps: Some(Vec::new()) };
        guard.set_lefts(entry.lefts.iter().map(|(view, left)| (view.as_str(), left)));
        match &entry.quarantine {
            Some(quarantine) => guard.set(QUARANTINE, quarantine.clone()),
            None => guard.keeps = Some(vec![QUARANTINE]),
        }
        guard
    }

    /// Keeps what the item is before it is joined.
    pub(super) fn set_lefts<'l>(&mut self, lefts: impl Iterator<Item = (&'l str, &'l Left)>) {
        if let Some(lefts) = lefts_text(lefts) {
            self.set(LEFTS, text(lefts));
        }
    }

    /// The row of a change that is written in part. An item that is in quarantine stays listed; for
    /// its record there may be no room, until the last part has one.
    pub(super) fn of_part((pk, key): (&str, &str), contributions: String, entry: &Entry) -> Self {
        let read = (entry.revision, entry.fence);
        let mut guard = Self::new((pk, key), (&entry.version, contributions), read);
        guard.set(PART, AttributeValue::Bool(true));
        if let Some(quarantine) = &entry.quarantine {
            guard.set(QUARANTINE, quarantine.clone());
        }
        guard
    }

    pub(super) fn set(&mut self, name: &str, value: AttributeValue) {
        self.item.insert(name.to_owned(), value);
    }

    /// The row may go at a moment, but stays beyond it while views are built.
    pub(super) fn expires(&mut self, at_s: i64, is_building: bool) {
        self.set(if is_building { GONE } else { LEDGER_TTL }, number(at_s));
    }

    pub(super) fn action(&self, table: &str) -> TransactWriteItem {
        if let Some(removed) = &self.keeps {
            return self.update(table, removed);
        }
        let put = Put::builder().table_name(table).set_item(Some(self.item.clone()));
        let put = if self.revision_read == 0 {
            put.condition_expression("attribute_not_exists(#k)")
                .expression_attribute_names("#k", LEDGER_KEY)
        } else {
            put.condition_expression("#r = :r")
                .expression_attribute_names("#r", "rev")
                .expression_attribute_values(":r", number(self.revision_read))
        };
        let put = put.build().expect("table and item are set");
        TransactWriteItem::builder().put(put).build()
    }

    fn update(&self, table: &str, removed: &[&str]) -> TransactWriteItem {
        let mut key = self.item.clone();
        key.retain(|name, _| name == LEDGER_KEY);
        let set: BTreeMap<&String, &AttributeValue> =
            self.item.iter().filter(|(name, _)| *name != LEDGER_KEY).collect();
        let mut set_to = Vec::with_capacity(set.len());
        let mut change = Change::update(table, key, "");
        for (at, (name, value)) in set.into_iter().enumerate() {
            set_to.push(format!("#a{at} = :a{at}"));
            change = change.name(format!("#a{at}"), name).value(format!(":a{at}"), value.clone());
        }
        let mut expression = format!("SET {}", set_to.join(", "));
        if !removed.is_empty() {
            let places: Vec<String> = (0..removed.len()).map(|at| format!("#b{at}")).collect();
            expression = format!("{expression} REMOVE {}", places.join(", "));
        }
        for (at, name) in removed.iter().enumerate() {
            change = change.name(format!("#b{at}"), *name);
        }
        let change = Change { update: Some(expression), ..change };
        let read = number(self.revision_read);
        change.only_if("#r = :r").name("#r", "rev").value(":r", read).into_action()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_contains_what_was_created_before_it_and_its_slack() {
        let fenced = Entry { fence: Some(Timestamp(100_000)), ..Entry::default() };
        for (created, contained) in [(94_999, true), (95_000, false), (100_000, false)] {
            assert_eq!(fenced.contains(Some(Timestamp(created))), contained, "{created}");
        }
        assert!(!fenced.contains(None), "a record without a moment is not known to be in it");
        assert!(!Entry::default().contains(Some(Timestamp(0))));
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let guard = Guard::new(("K#a", "pk=a"), ("", "{}".into()), (4, Some(Timestamp(7))));
        let (pk, entry) = Entry::read(&guard.item).unwrap();
        let read = (&*pk, entry.revision, &*entry.version, entry.fence);
        assert_eq!(read, ("K#a", 5, "", Some(Timestamp(7))));
        assert_eq!(Entry::read(&Item::new()).unwrap_err(), "c");
    }
}
