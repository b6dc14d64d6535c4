//! Items of which two changes have one moment, and the table that knows what they are.
//!
//! Such an item is left out first (`version`), in a transaction like any other. Then it is read
//! from its table and reconciled, under the version that says so: what is read after both changes
//! were made has both in it. Where the table cannot be read, the item stays left out and listed,
//! until its next change or until an operator reconciles it. A delivery that finds it left out
//! tries again.
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

    /// The keys of those with these ledger rows, by their tables and groups.
    fn keys(&self, rows: &BTreeSet<String>) -> BTreeMap<(&str, usize), Vec<Item>> {
        let mut keys: BTreeMap<(&str, usize), Vec<Item>> = BTreeMap::new();
        for (group, record) in rows.iter().filter_map(|row| self.0.get(row)) {
            if let (Some(arn), Some(key)) = (record.source_arn(), key_of(record)) {
                keys.entry((arn, *group)).or_default().push(key);
            }
        }
        keys
    }
}

impl Served {
    /// Brings the items with these ledger rows from their tables into the views, as far as that
    /// can be done now.
    pub(super) async fn decide(
        &self,
        undecided: &Undecided<'_>,
        rows: &BTreeSet<String>,
        call: &Call,
    ) {
        for ((arn, group), keys) in undecided.keys(rows) {
            match self.read_again((arn, group), &keys, call).await {
                Ok(0) => {}
                Ok(left) => telemetry::items_undecided(call, left, "Unfinished"),
                Err(halt) => telemetry::items_undecided(call, keys.len(), halt.code),
            }
        }
    }

    /// How many of a table's items could not be brought in.
    async fn read_again(
        &self,
        (arn, group): (&str, usize),
        keys: &[Item],
        call: &Call,
    ) -> Result<usize, Halt> {
        let source = self.source_table(arn, call.deadline).await?;
        let mut left = 0;
        for source in self.in_each_group(&source).filter(|source| source.group == group) {
            let outcomes = self.reconcile(&source, keys, call.deadline).await?;
            left += outcomes.iter().filter(|outcome| **outcome != Outcome::Done).count();
        }
        Ok(left)
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
