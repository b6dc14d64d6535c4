//! Which keys have parked records: a few striped rows, read with every batch.
//!
//! The check has to be cheap when nothing is parked, so all open keys stand in [`STRIPES`]
//! rows that are read in the same round trip as the progress. An entry is a hash of the key
//! and what it means for later records. It stays for a while after its key was closed: then
//! a late duplicate of a parked record is looked up instead of run.
//!
//! Rows are replaced under their revision, so two functions never overwrite each other's
//! entries. What it gives up: [`ENTRIES_MAX`] keys in a row; beyond that parking fails, loudly,
//! because so many broken keys are no longer exceptions.

use crate::store::{
    Item,
    rows::{Change, RowKey, number, number_of, text, text_of},
};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::BTreeMap;

/// How many rows share the keys.
pub(crate) const STRIPES: u8 = 8;

/// The most open keys of one row; 30 KB of it, far below the 400 KB an item may have.
pub(crate) const ENTRIES_MAX: usize = 512;

/// Sort key of the rows that are no record.
const SORT: &str = "S";

/// What parked records of a key mean for its later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Later records queue behind.
    Open,
    /// Later records flow.
    Skipped,
    /// None is parked any more; those that were are known.
    Closed,
}

/// One key's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) state: State,
    /// Place of the first parked record, as sort key.
    pub(crate) from: String,
    /// When the entry was last changed, in seconds since the epoch.
    pub(crate) changed_s: i64,
}

/// One row of entries, as it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stripe {
    revision: u64,
    pub(crate) entries: BTreeMap<String, Entry>,
}

/// All rows of entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds {
    stripes: BTreeMap<u8, Stripe>,
}

/// No room for another open key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The row of a key's entry.
pub(crate) fn stripe_of(hash: &str) -> u8 {
    let byte = hash.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    byte.unwrap_or_default() % STRIPES
}

/// The key of a row of entries.
pub(crate) fn row(table: &str, stripe: u8) -> RowKey<'_> {
    RowKey { table, key: key(stripe) }
}

fn key(stripe: u8) -> Item {
    Item::from([("pk".to_owned(), text(format!("S#{stripe}"))), ("sk".to_owned(), text(SORT))])
}

impl Holds {
    /// Takes what belongs to them out of the rows that were read; rows not there are empty.
    pub(crate) fn read(&mut self, table: &str, rows: &[(String, Item)]) {
        for (_, item) in rows.iter().filter(|(of, _)| of == table) {
            let number = text_of(item, "pk").and_then(|pk| pk.strip_prefix("S#")?.parse().ok());
            if let (Some(number), Some(SORT)) = (number, text_of(item, "sk")) {
                self.stripes.insert(number, Stripe::read(item));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stripes.values().all(|stripe| stripe.entries.is_empty())
    }

    /// The entry of a key.
    pub(crate) fn entry(&self, hash: &str) -> Option<&Entry> {
        self.stripes.get(&stripe_of(hash))?.entries.get(hash)
    }

    /// Hashes of the keys that have parked records.
    pub(crate) fn parked(&self) -> Vec<(&str, &Entry)> {
        let all = self.stripes.values().flat_map(|stripe| &stripe.entries);
        all.filter(|(_, entry)| entry.state != State::Closed)
            .map(|(hash, entry)| (hash.as_str(), entry))
            .collect()
    }

    /// The change that sets an entry, and the row as it is after it. Closed entries make
    /// room, the oldest first.
    pub(crate) fn set(
        &self,
        table: &str,
        hash: &str,
        entry: Entry,
    ) -> Result<(Change, Stripe), Full> {
        let place = stripe_of(hash);
        let mut stripe = self.stripes.get(&place).cloned().unwrap_or_default();
        stripe.entries.insert(hash.to_owned(), entry);
        while stripe.entries.len() > ENTRIES_MAX {
            let closed = stripe.entries.iter().filter(|(_, entry)| entry.state == State::Closed);
            let oldest = closed.min_by_key(|(_, entry)| entry.changed_s).map(|(hash, _)| hash);
            let Some(oldest) = oldest.cloned() else { return Err(Full) };
            stripe.entries.remove(&oldest);
        }
        let before = stripe.revision;
        stripe.revision += 1;
        let mut item = key(place);
        item.insert("rev".to_owned(), number(stripe.revision));
        let entries = stripe.entries.iter().map(|(hash, entry)| (hash.clone(), entry.attribute()));
        item.insert("e".to_owned(), AttributeValue::M(entries.collect()));
        let change = Change::put(table, item);
        let change = if before == 0 {
            change.only_if("attribute_not_exists(pk)")
        } else {
            change.only_if("rev = :rev").value(":rev", number(before))
        };
        Ok((change, stripe))
    }

    /// Takes note of a row that was written.
    pub(crate) fn wrote(&mut self, hash: &str, stripe: Stripe) {
        self.stripes.insert(stripe_of(hash), stripe);
    }
}

impl Stripe {
    fn read(item: &Item) -> Self {
        let entries = item.get("e").and_then(|entries| entries.as_m().ok()).into_iter().flatten();
        let entries =
            entries.filter_map(|(hash, it)| Some((hash.clone(), Entry::of_attribute(it)?)));
        Self { revision: number_of(item, "rev").unwrap_or(0), entries: entries.collect() }
    }
}

impl Entry {
    fn attribute(&self) -> AttributeValue {
        let state = match self.state {
            State::Open => "open",
            State::Skipped => "skipped",
            State::Closed => "closed",
        };
        text(format!("{state} {} {}", self.changed_s, self.from))
    }

    fn of_attribute(value: &AttributeValue) -> Option<Self> {
        let mut parts = value.as_s().ok()?.splitn(3, ' ');
        let state = match parts.next()? {
            "open" => State::Open,
            "skipped" => State::Skipped,
            "closed" => State::Closed,
            _ => return None,
        };
        let changed_s = parts.next()?.parse().ok()?;
        Some(Self { state, changed_s, from: parts.next()?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: State, changed_s: i64) -> Entry {
        Entry { state, from: "R#a b".to_owned(), changed_s }
    }

    #[test]
    fn an_entry_survives_its_row() {
        let mut holds = Holds::default();
        for (hash, state) in [("00a", State::Open), ("08b", State::Skipped), ("10c", State::Closed)]
        {
            let (change, stripe) = holds.set("t", hash, entry(state, 7)).unwrap();
            holds.wrote(hash, stripe);
            let mut again = Holds::default();
            again.read("t", &[("t".to_owned(), change.item), ("u".to_owned(), Item::new())]);
            assert_eq!(again.entry(hash), Some(&entry(state, 7)));
        }
        assert_eq!(holds.parked().len(), 2);
    }

    #[test]
    fn closed_entries_make_room_and_then_there_is_none() {
        let mut holds = Holds::default();
        let closed = entry(State::Closed, 1);
        let (_, stripe) = holds.set("t", "00", closed).unwrap();
        holds.wrote("00", stripe);
        for at in 0..ENTRIES_MAX {
            let hash = format!("00{at:04}");
            let (_, stripe) = holds.set("t", &hash, entry(State::Open, 2)).unwrap();
            holds.wrote(&hash, stripe);
        }
        assert_eq!(holds.entry("00"), None);
        assert_eq!(holds.set("t", "00x", entry(State::Open, 3)).err(), Some(Full));
    }
}
