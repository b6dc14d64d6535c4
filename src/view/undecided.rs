//! Items of which two changes have one moment, and the table that knows what they are.
//!
//! Such an item is left out first (`version`), in a transaction like any other. Then it is read
//! from its table and reconciled, under the version that says so: what is read after both changes
//! were made has both in it. Where the table cannot be read, the item stays left out and listed,
//! until its next change or until an operator reconciles it. A delivery that finds it left out
//! tries again. Where there is no time to end it, the record fails and comes again.
//!
//! What it gives up: an item that two writers change within a microsecond costs a read of its table
//! and two more transactions; the function needs the right to read the table for it.

use super::{ledger::Candidate, reconcile::Outcome, served::Served};
use crate::{
    call::{Call, Halt},
    event::{Record, RecordKey, Value},
    store::Item,
    telemetry,
};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use std::collections::{BTreeMap, BTreeSet};

/// The records of a batch whose items may turn out to be undecided, by their ledger rows.
#[derive(Debug, Default)]
pub(super) struct Undecided<'r>(BTreeMap<String, (usize, &'r Record<'r>)>);

impl<'r> Undecided<'r> {
    /// Keeps the record of a candidate, if it has a moment.
    pub(super) fn note(&mut self, candidate: &Candidate, record: &'r Record<'r>) {
        if record.made().is_some() {
            self.0.insert(candidate.pk.clone(), (candidate.group, record));
        }
    }

    /// Those with these ledger rows and their keys, by their tables and groups.
    fn keys<'s>(&self, rows: &'s BTreeSet<String>) -> BTreeMap<(&str, usize), Keys<'s>> {
        let mut keys: BTreeMap<(&str, usize), Keys<'s>> = BTreeMap::new();
        for row in rows {
            let Some((group, record)) = self.0.get(row) else { continue };
            if let (Some(arn), Some(key)) = (record.source_arn(), key_of(record)) {
                let (rows, items) = keys.entry((arn, *group)).or_default();
                rows.push(row);
                items.push(key);
            }
        }
        keys
    }
}

/// Ledger rows of items, and the keys of the items.
type Keys<'s> = (Vec<&'s String>, Vec<Item>);

impl Served {
    /// Brings the items with these ledger rows from their tables into the views, as far as that
    /// can be done now. Returns the rows that were begun and are not finished: an item may be in
    /// its row by then, and not yet in all that follows from it.
    pub(super) async fn decide<'s>(
        &self,
        undecided: &Undecided<'_>,
        rows: &'s BTreeSet<String>,
        call: &Call,
    ) -> BTreeSet<&'s str> {
        let mut unfinished = BTreeSet::new();
        for ((arn, group), (rows, keys)) in undecided.keys(rows) {
            match self.read_again((arn, group), &keys, call).await {
                Ok(outcomes) => {
                    let is_not_done = |it: &&Outcome| matches!(it, Outcome::NotDone(_));
                    let left = outcomes.iter().filter(is_not_done).count();
                    if left > 0 {
                        telemetry::items_undecided(call, left, "NotDone");
                    }
                    let is_unfinished =
                        |(_, it): &(_, &Outcome)| matches!(it, Outcome::Unfinished(_));
                    let with_rows = rows.into_iter().zip(&outcomes).filter(is_unfinished);
                    unfinished.extend(with_rows.map(|(row, _)| row.as_str()));
                }
                Err(halt) => telemetry::items_undecided(call, keys.len(), halt.code),
            }
        }
        unfinished
    }

    /// What became of a table's items that were to be brought in.
    async fn read_again(
        &self,
        (arn, group): (&str, usize),
        keys: &[Item],
        call: &Call,
    ) -> Result<Vec<Outcome>, Halt> {
        let source = self.source_table(arn, call.deadline).await?;
        let mut sources = self.in_each_group(&source).filter(|source| source.group == group);
        match sources.next() {
            Some(source) => self.reconcile(&source, keys, call.deadline).await,
            None => Ok(Vec::new()),
        }
    }
}

fn key_of(record: &Record<'_>) -> Option<Item> {
    let Ok(RecordKey::Item(attributes)) = record.keys() else { return None };
    let attribute = |value: &Value<'_>| match value {
        Value::Text(text) => Some(AttributeValue::S(text.clone().into_owned())),
        Value::Number(digits) => Some(AttributeValue::N(digits.clone().into_owned())),
        Value::Binary(bytes) => Some(AttributeValue::B(Blob::new(bytes.clone().into_owned()))),
        _ => None,
    };
    let key = attributes.iter().map(|(name, value)| Some((name.to_string(), attribute(value)?)));
    key.collect()
}
