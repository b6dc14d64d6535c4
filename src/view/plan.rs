//! What views would cost: a model of what the function asks of its tables.
//!
//! Batches go through the function's own decoding, evaluation and packing into transactions, and
//! nothing is sent: the model keeps what the tables would hold, as far as it decides what a
//! request costs. So a new construct is counted as it is written. Units are AWS's: two for each
//! KB of an item in a transaction, the larger of before and after; one for each 4 KB that is read
//! consistently, also where there is nothing. Separate from the desk, which brings the batches.
//! What it gives up: faults, conflicts of batches that run at once, and the first registration
//! of views.

use super::{
    OpenError,
    candidate::Delivered,
    definition::View,
    ledger::{
        Known,
        model::{Reads, Transaction, Values},
    },
    reading::Reading,
    registry::{Registered, Registry, table_name},
    rows::{ROW_KEY, RowId, ranked::Ranking},
    served::{Known as Files, Served},
    source_item::LEDGER_KEY,
    sources::{self, Filing},
    values::VALUE_KEYS,
};
use crate::{
    event::Record,
    record::Timestamp,
    store::{BATCH_GET_KEYS_MAX, Item, Store, StoreError},
};
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

/// What the rows of the ledger are counted under.
const LEDGER: &str = "ledger";
const PREFIX: &str = "";

/// Bytes of one write unit.
const WRITE_BYTES: usize = 1_024;
/// Bytes of one read unit of a consistent read.
const READ_BYTES: usize = 4_096;
/// Units of a write in a transaction, as multiples of the same write by itself.
///
/// Source: DynamoDB developer guide, "Read and write operations", transactional requests.
pub(crate) const IN_TRANSACTION: usize = 2;

/// What the records so far have cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// Records.
    pub records: u64,
    /// Batches.
    pub batches: u64,
    /// Calls of the store.
    pub calls: u64,
    /// Read units.
    pub read_units: u64,
    /// Write units of the ledger's table.
    pub ledger_write_units: u64,
    /// By view, what its table has and costs.
    pub views: BTreeMap<String, ViewCost>,
}

/// What one view's table has and costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewCost {
    /// Rows that there are.
    pub rows: u64,
    /// Write units.
    pub write_units: u64,
    /// The row that is written most: its key.
    pub hottest: String,
    /// How often it was written.
    pub hottest_writes: u64,
    /// Write units that these took.
    pub hottest_units: u64,
}

impl Cost {
    /// Write units of all tables.
    #[must_use]
    pub fn write_units(&self) -> u64 {
        self.ledger_write_units + self.views.values().map(|view| view.write_units).sum::<u64>()
    }
}

/// The tables of views as they would be.
#[derive(Debug)]
pub struct Model {
    served: Served,
    known: Known,
    values: Values,
    /// Bytes of each row, by table and key.
    sizes: BTreeMap<(String, String), usize>,
    /// Writes of each view's row and their units.
    writes: BTreeMap<RowId, (u64, u64)>,
    /// The rows that are in the index of their table.
    ranked: BTreeSet<(String, String)>,
    cost: Cost,
}

impl Model {
    /// Nothing yet of these views. The store is never asked.
    ///
    /// # Errors
    /// The views cannot be served together, as [`OpenError`] says.
    pub fn new(views: &[View], store: Store) -> Result<Self, OpenError> {
        let mut registry = Registry::default();
        for view in views {
            let registered = Registered {
                from: view.from.clone(),
                fingerprint: view.fingerprint(),
                table: Some(table_name(PREFIX, &view.name, 1)),
                is_current: true,
                was_current: true,
                ..Registered::default()
            };
            registry.generations.insert((view.name.clone(), 1), registered);
        }
        let files = Files { definitions: views, order: views };
        let served = Served::nothing(store, LEDGER, "plan").with(&registry, files)?;
        let views = views.iter().map(|view| (view.name.clone(), ViewCost::default()));
        let cost = Cost { views: views.collect(), ..Cost::default() };
        let (sizes, writes, ranked) = Default::default();
        let (known, values) = Default::default();
        Ok(Self { served, known, values, sizes, writes, ranked, cost })
    }

    /// Takes a batch in, as the function would be given it. Records that no view can take are
    /// counted and left out.
    ///
    /// # Errors
    /// What is kept of a value is none, which is a defect of changefold.
    pub fn batch(&mut self, records: &[Record<'_>]) -> Result<(), StoreError> {
        self.cost.records += records.len() as u64;
        self.cost.batches += 1;
        let mut items: BTreeMap<String, Vec<(Delivered, &Record<'_>)>> = BTreeMap::new();
        let readings: Vec<Reading<'_>> = records.iter().map(Reading::of).collect();
        for (index, reading) in readings.iter().enumerate() {
            for (group, record) in self.served.parts_of(reading) {
                let Some(filing) = record.source_arn().and_then(|arn| self.filing(arn)) else {
                    continue;
                };
                if let Ok(delivered) = self.served.delivered(group, record, (index, &filing)) {
                    items.entry(delivered.pk.clone()).or_default().push((delivered, record));
                }
            }
        }
        let mut candidates = Vec::with_capacity(items.len());
        for mut changes in items.into_values() {
            changes.sort_by(|(a, _), (b, _)| Reverse(&a.version).cmp(&Reverse(&b.version)));
            let taken = changes.iter().find_map(|(delivered, record)| {
                self.served.candidate(delivered, record, Timestamp(0)).ok()
            });
            candidates.extend(taken);
        }
        if candidates.is_empty() {
            return Ok(());
        }
        let kept = (&mut self.known, &mut self.values);
        for round in self.served.ledger().rounds(&candidates, kept)? {
            self.cost.calls += round.keys.len().div_ceil(BATCH_GET_KEYS_MAX) as u64;
            for key in round.keys {
                self.cost.read_units += self.read([(LEDGER.to_owned(), key)]);
            }
            self.read_all(round.reads);
            for transaction in round.transactions {
                self.sent(transaction);
            }
        }
        Ok(())
    }

    /// Counts a transaction and what is read for it.
    fn sent(&mut self, transaction: Transaction) {
        self.cost.calls += 1;
        self.read_all(transaction.reads);
        let (ledger, views) = transaction.actions.split_at(transaction.guards);
        for action in ledger {
            self.cost.ledger_write_units += self.written(action);
        }
        for action in views {
            self.write_of_view(action);
        }
    }

    /// Counts reads.
    fn read_all(&mut self, reads: Reads) {
        self.cost.calls += reads.calls as u64;
        for rows in reads.rows {
            let rows = rows.into_iter().map(|(table, key)| (table, key_of(&key)));
            self.cost.read_units += self.read(rows);
        }
    }

    /// The units of a read of rows that are charged together.
    fn read(&self, rows: impl IntoIterator<Item = (String, String)>) -> u64 {
        let bytes = rows.into_iter().map(|row| self.sizes.get(&row).copied().unwrap_or_default());
        bytes.sum::<usize>().div_ceil(READ_BYTES).max(1) as u64
    }

    /// Counts an action on a row of a view, or on one of a value, which belongs to its view. A
    /// value's row is never written without its group's, so that one is not the hottest.
    fn write_of_view(&mut self, action: &TransactWriteItem) {
        let (table, key, _) = sized(action);
        let view = self.served.view_tables.iter().position(|it| *it == table);
        let definition = view.map(|view| self.served.definitions[view].clone());
        let ranking = definition.as_ref().and_then(Ranking::of);
        let of_index = ranking.map_or(0, |ranking| self.written_to_index(ranking, action));
        let units = self.written(action) + of_index;
        let name = match view {
            Some(view) => &self.served.definitions[view].name,
            // The name of a view has no `~`.
            None => key.split_once('~').map_or(key.as_str(), |(name, _)| name),
        };
        if let Some(cost) = self.cost.views.get_mut(name) {
            cost.write_units += units;
        }
        if let Some(view) = view {
            let writes = self.writes.entry(RowId::new(view, key)).or_default();
            *writes = (writes.0 + 1, writes.1 + units);
        }
    }

    /// The units that the index takes of what is written to a row: one for each KB, and as much
    /// again where the row has another place in it.
    fn written_to_index(&mut self, ranking: Ranking<'_>, action: &TransactWriteItem) -> u64 {
        let (table, key, bytes) = sized(action);
        let place = (table, key);
        let (enters, moves) = ranking.effect(action.update());
        let was = self.ranked.contains(&place);
        let is = enters.unwrap_or(was);
        let before = self.sizes.get(&place).copied().unwrap_or_default();
        if is {
            self.ranked.insert(place);
        } else {
            self.ranked.remove(&place);
        }
        let writes = u64::from(was || is) + u64::from(was && is && moves);
        let larger = bytes.map_or(before, |(bytes, _)| bytes.max(before));
        writes * larger.div_ceil(WRITE_BYTES).max(1) as u64
    }

    /// How the items of a source are filed; the first of its name is written down.
    fn filing(&self, arn: &str) -> Option<Filing> {
        let mut sources = self.served.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let resource = sources::resource(arn)?;
        sources.first.entry(resource.to_owned()).or_insert_with(|| arn.to_owned());
        sources.filing(arn)
    }

    /// What everything so far has cost.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let mut cost = self.cost.clone();
        for (row, (writes, units)) in &self.writes {
            let (name, table) =
                (&self.served.definitions[row.view].name, &self.served.view_tables[row.view]);
            let Some(view) = cost.views.get_mut(name) else { continue };
            view.rows += u64::from(self.sizes.contains_key(&(table.clone(), row.key.clone())));
            if *writes > view.hottest_writes {
                view.hottest.clone_from(&row.key);
                (view.hottest_writes, view.hottest_units) = (*writes, *units);
            }
        }
        cost
    }

    /// The units of an action; the row has its new size after it.
    fn written(&mut self, action: &TransactWriteItem) -> u64 {
        let (table, key, bytes) = sized(action);
        let place = (table, key);
        let before = self.sizes.get(&place).copied().unwrap_or_default();
        match bytes {
            // What an update leaves out is still there.
            Some((bytes, is_update)) => {
                let after = if is_update { bytes.max(before) } else { bytes };
                self.sizes.insert(place, after);
            }
            // A check leaves the row as it is, at the price of a write.
            None if action.condition_check().is_some() => {}
            None => drop(self.sizes.remove(&place)),
        }
        let larger = bytes.map_or(before, |(bytes, _)| bytes.max(before));
        (IN_TRANSACTION * larger.div_ceil(WRITE_BYTES).max(1)) as u64
    }
}

/// Table, key and bytes of what an action writes, and whether it adds to what is there; no bytes
/// of a removal or a check.
fn sized(action: &TransactWriteItem) -> (String, String, Option<(usize, bool)>) {
    if let Some(put) = action.put() {
        let bytes = billed_bytes(&put.item);
        return (put.table_name.clone(), key_of(&put.item), Some((bytes, false)));
    }
    if let Some(update) = action.update() {
        // What only a condition uses is not written.
        let names = update.expression_attribute_names.iter().flatten();
        let names = names.filter(|(place, _)| !place.starts_with("#r"));
        let names: usize = names.map(|(_, name)| name.len()).sum();
        let values = update.expression_attribute_values.iter().flatten();
        let values = values.filter(|(place, _)| !place.starts_with(":r"));
        let values: usize = values.map(|(_, value)| value_bytes(value)).sum();
        let bytes = billed_bytes(&update.key) + names + values;
        return (update.table_name.clone(), key_of(&update.key), Some((bytes, true)));
    }
    let deleted = action.delete().map(|it| (&it.table_name, &it.key));
    let row = deleted.or_else(|| action.condition_check().map(|it| (&it.table_name, &it.key)));
    let (table, key) = row.map(|(table, key)| (table.clone(), key_of(key))).unwrap_or_default();
    (table, key, None)
}

/// The text of a row's key, or of both.
fn key_of(item: &Item) -> String {
    let text = |name: &str| item.get(name).and_then(|key| key.as_s().ok());
    let key = text(ROW_KEY).or_else(|| text(LEDGER_KEY)).cloned().unwrap_or_default();
    text(VALUE_KEYS[1]).map_or(key.clone(), |sort_key| format!("{key} {sort_key}"))
}

/// The size of an item as DynamoDB bills it; the packing of transactions only estimates it.
///
/// Source: DynamoDB developer guide, "DynamoDB item sizes and formats": names and texts in UTF-8,
/// a number about a byte for two digits and one more, lists and maps three and one an element.
fn billed_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => {
            digits.bytes().filter(u8::is_ascii_digit).count().div_ceil(2) + 1
        }
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::L(list) => 3 + list.iter().map(|it| 1 + value_bytes(it)).sum::<usize>(),
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, it)| 1 + name.len() + value_bytes(it)).sum::<usize>()
        }
        _ => 1,
    }
}
