//! What the ledger would ask of a store, without one.
//!
//! The protocol's own parts decide: which rows are read, what a change differs by, how changes
//! are packed into transactions, which value comes next where an extreme goes. Only the store's
//! answers are assumed: every transaction is committed, and nobody else writes. Values are kept
//! in memory, as many as their table would have rows. Separate because nothing that is deployed
//! asks for it.

use super::{
    Basis, Candidate, Change, Chunk, Entry, Joined, Known, LARGE_AT_ONCE, Ledger,
    pack::{pack, waves},
    settle::Changed,
};
use crate::{
    record::Timestamp,
    store::{BATCH_GET_KEYS_MAX, Item, StoreError, rows::RowKey},
    view::{
        registry,
        rows::{self, Effect, RowId, ValueKey, extremes::extreme_columns, ranked::Ranking},
        values::{self, Partition},
        version::{Standing, standing},
    },
};
use aws_sdk_dynamodb::types::TransactWriteItem;
use std::collections::{BTreeMap, BTreeSet};

/// A plan is of changes that are new.
const NO_TIME: Timestamp = Timestamp(0);

/// A look at the ledger, and what follows from it.
#[derive(Debug)]
pub(crate) struct Round {
    /// The keys of the ledger's rows that are read.
    pub(crate) keys: BTreeSet<String>,
    /// What else is read before it, and behind it: of joins.
    pub(crate) reads: Reads,
    pub(crate) transactions: Vec<Transaction>,
}

/// A transaction as it would be sent.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// The guards of its changes come first.
    pub(crate) actions: Vec<TransactWriteItem>,
    pub(crate) guards: usize,
    /// What is read before it.
    pub(crate) reads: Reads,
}

/// What is read for a transaction.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pub(crate) calls: usize,
    /// Keys with their tables. What one query reads is charged together, rows of a bulk read
    /// each by itself.
    pub(crate) rows: Vec<Vec<(String, Item)>>,
}

/// How many items of each group have each value, by partition and sort key; and how many items
/// groups have.
#[derive(Debug, Default)]
pub(crate) struct Values {
    values: BTreeMap<String, BTreeMap<String, u64>>,
    /// By what the rows of views with LIMIT are in their index, by table and key.
    ranked: BTreeMap<(String, String), Item>,
}

impl Ledger<'_> {
    /// What a batch makes, one round after another; what is known of its items, and of the values,
    /// is as it is after them.
    ///
    /// # Errors
    /// A value is not as changefold writes it.
    pub(crate) fn rounds(
        &self,
        candidates: &[Candidate],
        (known, values): (&mut Known, &mut Values),
    ) -> Result<Vec<Round>, StoreError> {
        let mut rounds = Vec::new();
        for mut pending in self.slices(candidates) {
            while !pending.is_empty() {
                let rows = pending.iter().flat_map(|&index| candidates[index].rows_read());
                let keys = rows.cloned().chain([registry::served_key()]).collect();
                let mut reads = self.reads_of_named(pending.iter().map(|&at| &candidates[at]));
                let mut changes = Vec::new();
                let mut written = Vec::new();
                for index in std::mem::take(&mut pending) {
                    let candidate = &candidates[index];
                    let entry = known.entry(&candidate.pk);
                    let is_old = matches!(&candidate.basis, Basis::Record { version, .. }
                        if standing(version, &entry.version) == Standing::Known);
                    if !is_old {
                        let joined = self.joined(candidate, known)?;
                        changes.push(self.change(index, &joined, (&entry, known), NO_TIME));
                        written.push(candidate);
                    }
                }
                reads.join(self.reads_of_named(written.into_iter()));
                for change in &changes {
                    if let Ok((pk, entry)) = Entry::read(&change.guard.item) {
                        known.entries.insert(pk, entry);
                    }
                    known.take_mirrors(&change.effects);
                }
                pending.extend(changes.iter().filter(|it| it.is_part).map(|it| it.index));
                let transactions = self.transactions(changes, values)?;
                rounds.push(Round { keys, reads, transactions });
            }
        }
        let joined = candidates.iter().flat_map(|candidate| self.joined_as(candidate));
        let mut joined: BTreeMap<Joined, Vec<String>> =
            joined.map(|joined| (joined, Vec::new())).collect();
        if !joined.is_empty() {
            self.collect_named(known, &mut joined);
        }
        for (joined, items) in joined {
            self.spread_rounds((&joined, &items), (known, values), &mut rounds)?;
        }
        Ok(rounds)
    }

    /// What is read of the items that these name.
    fn reads_of_named<'c>(&self, candidates: impl Iterator<Item = &'c Candidate>) -> Reads {
        let named: BTreeSet<Joined> = candidates.flat_map(Candidate::named).collect();
        let rows = named.iter().map(|joined| vec![self.mirror_key(joined)]);
        Reads { calls: named.len().div_ceil(BATCH_GET_KEYS_MAX), rows: rows.collect() }
    }

    /// The items that name each of these.
    fn collect_named(&self, known: &Known, joined: &mut BTreeMap<Joined, Vec<String>>) {
        for (pk, entry) in &known.entries {
            for (name, left) in &entry.lefts {
                let views = (0..self.views.len()).filter(|&view| self.views[view].name == *name);
                for view in views {
                    if let Some(items) = left.names(view).and_then(|named| joined.get_mut(&named)) {
                        items.push(pk.clone());
                    }
                }
            }
        }
    }

    /// All items that name one are joined again.
    fn spread_rounds(
        &self,
        (joined, items): (&Joined, &[String]),
        (known, values): (&mut Known, &mut Values),
        rounds: &mut Vec<Round>,
    ) -> Result<(), StoreError> {
        let (view, _) = joined;
        let rows = items.iter().map(|item| self.reference_key(joined, item));
        let mut query = Some(Reads { calls: 1, rows: vec![rows.collect()] });
        for some in items.chunks(LARGE_AT_ONCE) {
            let mut reads = query.take().unwrap_or_default();
            reads.join(Reads { calls: 1, rows: vec![vec![self.mirror_key(joined)]] });
            let mut changes = Vec::new();
            for (index, item) in some.iter().enumerate() {
                let of_view = (known.entry(item), std::slice::from_ref(view), NO_TIME);
                if let Some(change) =
                    self.rejoined(index, item, of_view, (&known.mirrors, None), &mut Vec::new())?
                {
                    if let Some(entry) = known.entries.get_mut(item) {
                        entry.rejoined(&change.guard.item);
                    }
                    changes.push(change);
                }
            }
            let keys = some.iter().cloned().chain([registry::served_key()]).collect();
            let transactions = self.transactions(changes, values)?;
            rounds.push(Round { keys, reads, transactions });
        }
        if let Some(reads) = query {
            rounds.push(Round { keys: BTreeSet::new(), reads, transactions: Vec::new() });
        }
        Ok(())
    }

    /// The transactions of changes, in the order in which those that share a row run.
    fn transactions(
        &self,
        changes: Vec<Change>,
        values: &mut Values,
    ) -> Result<Vec<Transaction>, StoreError> {
        let chunks = waves(pack(changes)).into_iter().flatten();
        chunks.map(|chunk| self.modelled(&chunk, values)).collect()
    }

    /// A transaction, and what is read for it; the values are as it leaves them.
    fn modelled(&self, chunk: &Chunk, values: &mut Values) -> Result<Transaction, StoreError> {
        let mut changed = self.changed(chunk)?;
        let mut reads = Reads::default();
        let leaving = self.leaving(chunk);
        let found = leaving.iter().filter_map(|row| values.ranked_row(self, row));
        let found: Vec<(String, Item)> = found.collect();
        if !changed.is_empty() || !leaving.is_empty() {
            let table = values::table_name(self.table);
            let mut keys = self.keys_of(&changed, &table);
            self.join(&mut keys, &leaving);
            reads.calls += keys.len().div_ceil(BATCH_GET_KEYS_MAX);
            let row = |RowKey { table, key }: RowKey<'_>| vec![(table.to_owned(), key)];
            reads.rows.extend(keys.into_iter().map(row));
            let stored = changed.iter().flat_map(|group| self.stored(group, values)).collect();
            self.take_values(&mut changed, stored)?;
            let wanted = self.wanted(&changed)?;
            reads.calls += wanted.len();
            let mut found = Vec::new();
            for next in wanted {
                let rows = values.end_of(&next.partition, (next.column.is_last, next.rows));
                let keys = rows.iter().map(|row| (table.clone(), row.clone()));
                reads.rows.push(keys.collect());
                found.push((next, rows));
            }
            self.take_next(&mut changed, found.into_iter())?;
        }
        let actions = self.actions(chunk, (&changed, &self.left(leaving, &found)))?;
        for (row, effect) in &chunk.effects {
            values.count_ranked(self, row, effect);
        }
        for value in changed.iter().flat_map(|group| &group.values) {
            values.set(&value.partition, value.key, value.new);
        }
        Ok(Transaction { actions, guards: chunk.changes.len(), reads })
    }

    /// A group's row, as far as it shows extremes, and the rows of its values that change.
    fn stored(&self, group: &Changed<'_>, values: &Values) -> Vec<(String, Item)> {
        let mut stored = Vec::new();
        let mut row = rows::key_item(&group.row.key);
        for column in extreme_columns(group.groups) {
            let partition = group.values.iter().find(|it| it.key.keeper == column.keeper);
            let shown = partition.and_then(|it| {
                let rows = values.end_of(&it.partition.key, (column.is_last, 1));
                let (_, sort_key) = values::keys_of(rows.first()?)?;
                ValueKey { keeper: column.keeper, sort_key: sort_key.to_owned() }.value()
            });
            row.extend(shown.map(|value| (column.name.to_owned(), rows::attribute(&value))));
        }
        stored.push((self.view_tables[group.row.view].clone(), row));
        let table = values::table_name(self.table);
        let found = group.values.iter().filter_map(|it| {
            let items = values.values.get(&it.partition.key)?.get(&it.key.sort_key)?;
            Some((table.clone(), it.partition.item(&it.key.sort_key, *items)))
        });
        stored.extend(found);
        stored
    }
}

impl Reads {
    fn join(&mut self, other: Self) {
        self.calls += other.calls;
        self.rows.extend(other.rows);
    }
}

impl Values {
    /// The row of a group of a view with LIMIT, as far as it says whether it is in the index.
    fn ranked_row(&self, ledger: &Ledger<'_>, row: &RowId) -> Option<(String, Item)> {
        let table = &ledger.view_tables[row.view];
        let item = self.ranked.get(&(table.clone(), row.key.clone()))?.clone();
        Some((table.clone(), item))
    }

    fn count_ranked(&mut self, ledger: &Ledger<'_>, row: &RowId, effect: &Effect) {
        let (Some(ranking), Effect::Add(delta)) = (Ranking::of(&ledger.views[row.view]), effect)
        else {
            return;
        };
        let table = ledger.view_tables[row.view].clone();
        let item = self.ranked.entry((table, row.key.clone()));
        ranking.count(item.or_insert_with(|| rows::key_item(&row.key)), delta);
    }

    /// The keys of the first rows of a partition, or of the last ones from the end on.
    fn end_of(&self, partition: &str, (is_last, limit): (bool, usize)) -> Vec<Item> {
        let Some(values) = self.values.get(partition) else { return Vec::new() };
        let key = |(sort_key, _): (&String, &u64)| values::key_item(partition, sort_key);
        if is_last {
            values.iter().rev().take(limit).map(key).collect()
        } else {
            values.iter().take(limit).map(key).collect()
        }
    }

    fn set(&mut self, partition: &Partition, key: &ValueKey, items: u64) {
        let values = self.values.entry(partition.key.clone()).or_default();
        if items == 0 {
            values.remove(&key.sort_key);
        } else {
            values.insert(key.sort_key.clone(), items);
        }
    }
}
