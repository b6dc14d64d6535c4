//! What a transaction makes of groups that keep values.
//!
//! A sum is added to without looking; a minimum is not. So before the transaction the rows of the
//! groups are read, and those of the values that come or go, and from what they say follow the
//! counts of the values, how many are different, and the extremes. All of that is conditional on
//! what was read (`rows/extremes`, `values`): a transaction that somebody was ahead of fails as a
//! whole, and its changes are planned again from the ledger on.
//!
//! Where the smallest value goes, the next one is the first row of the table that is left, read
//! consistently and without those rows that go in this very transaction. `DynamoDB` shows what a
//! transaction has written row by row: the group's row may already say what the value's row does
//! not yet say. So the transaction checks that the row of the next value is there.
//!
//! What it gives up: a read unit for each group and each value, and another one and a check for
//! each extreme that goes; groups without such aggregates are not read. And a smaller value that
//! another transaction has just brought, whose row a query does not show yet while the group's row
//! has changed: no condition can be put on a row that nobody knows of. The extreme is wrong then
//! until it changes or is mended; a verification tells of it.

use super::{Chunk, Ledger, leaving::Left};
use crate::{
    concurrent,
    record::Timestamp,
    store::{Item, StoreError, Trouble, rows::RowKey},
    view::{
        definition::{Function, Groups, Shape},
        rows::{
            self, Delta, Effect, RowId, ValueKey,
            extremes::{ExtremeColumn, Extremes, NoValue, extreme_columns},
        },
        scalar::Scalar,
        total::summand,
        values::{self, Partition},
    },
};
use aws_sdk_dynamodb::types::TransactWriteItem;
use bigdecimal::BigDecimal;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a chunk by table and keys.
type Stored = BTreeMap<(String, String, String), Item>;

/// A group of which values come or go.
pub(super) struct Changed<'c> {
    pub(super) row: &'c RowId,
    pub(super) groups: &'c Groups,
    delta: &'c Delta,
    pub(super) values: Vec<Counted<'c>>,
    /// The group's row as it was stored; it is read where extremes are shown.
    stored: Option<Item>,
    /// What takes the places of extremes that go.
    next: Vec<Next>,
}

/// A value of a group, and how many items have it.
pub(super) struct Counted<'c> {
    pub(super) key: &'c ValueKey,
    pub(super) partition: Partition,
    value: Scalar,
    more: i64,
    read: u64,
    pub(super) new: u64,
}

/// The value that an aggregate shows next.
struct Next {
    aggregate: usize,
    /// None if none is left.
    value: Option<Scalar>,
    /// Keys of its row.
    row: Option<(String, String)>,
}

/// An extreme of a group whose next one has to be read.
pub(super) struct Wanted<'c> {
    /// Which of the groups that change.
    at: usize,
    pub(super) column: ExtremeColumn<'c>,
    /// Where the values are.
    pub(super) partition: String,
    /// How many rows to read: one more than go.
    pub(super) rows: usize,
}

impl Counted<'_> {
    const fn is_gone(&self) -> bool {
        self.new == 0
    }

    /// By how much the number of different values grows.
    fn different(&self) -> i64 {
        i64::from(self.read == 0 && self.new > 0) - i64::from(self.read > 0 && self.new == 0)
    }
}

impl Ledger<'_> {
    /// The actions of a transaction.
    ///
    /// # Errors
    /// The rows that it follows from cannot be read.
    pub(super) async fn transaction(
        &self,
        chunk: &Chunk,
        deadline: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let mut changed = self.changed(chunk)?;
        let leaving = self.leaving(chunk);
        let mut left = Left::new();
        if !changed.is_empty() || !leaving.is_empty() {
            let table = values::table_name(self.table);
            let mut keys = self.keys_of(&changed, &table);
            self.join(&mut keys, &leaving);
            let rows = self.store.read(&keys, deadline).await?;
            left = self.left(leaving, &rows);
            self.take_values(&mut changed, rows)?;
            let wanted = self.wanted(&changed)?;
            let reads = wanted.iter().map(|next| {
                let place = (&*table, &*next.partition);
                self.store.end_of(place, (next.column.is_last, next.rows), deadline)
            });
            let found = concurrent::all_or_error(reads).await?;
            self.take_next(&mut changed, wanted.into_iter().zip(found))?;
        }
        self.actions(chunk, (&changed, &left))
    }

    /// The actions of a transaction of which everything is known.
    pub(super) fn actions(
        &self,
        chunk: &Chunk,
        (changed, left): (&[Changed<'_>], &Left),
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let guards = chunk.changes.iter().map(|change| change.guard.action(self.table));
        let mut actions: Vec<TransactWriteItem> = guards.collect();
        for (row, effect) in chunk.effects.iter().filter(|(row, _)| row.value.is_none()) {
            if !changed.iter().any(|group| group.row == row) {
                let place = (&*self.view_tables[row.view], &*row.key);
                let view = &self.views[row.view];
                actions.push(rows::action(view, place, effect, left.get(row)));
            }
        }
        for group in changed {
            self.settle(group, left.get(group.row), &mut actions)?;
        }
        let joins = chunk.effects.iter();
        actions.extend(joins.filter_map(|(row, effect)| self.join_action(row, effect)));
        Ok(actions)
    }

    /// The groups of a chunk of which values come or go.
    pub(super) fn changed<'c>(&'c self, chunk: &'c Chunk) -> Result<Vec<Changed<'c>>, StoreError> {
        let mut changed: Vec<Changed<'c>> = Vec::new();
        let mut group = None;
        // The values of a group come right behind it.
        for (row, effect) in &chunk.effects {
            let (Some(key), Effect::Count(more)) = (&row.value, effect) else {
                group = match effect {
                    Effect::Add(delta) => Some((row, delta)),
                    _ => None,
                };
                continue;
            };
            let (Some((group, delta)), Shape::Groups(groups)) =
                (group, &self.views[row.view].shape)
            else {
                continue;
            };
            if *more == 0 {
                continue;
            }
            let value = key.value().ok_or_else(|| self.unreadable("c"))?;
            let place =
                values::place(&self.views[row.view].name, self.generations[row.view].number);
            let partition = Partition::new(&place, key.keeper, &row.key);
            let counted = Counted { key, partition, value, more: *more, read: 0, new: 0 };
            match changed.last_mut().filter(|last| last.row == group) {
                Some(last) => last.values.push(counted),
                None => changed.push(Changed {
                    row: group,
                    groups,
                    delta,
                    values: vec![counted],
                    stored: None,
                    next: Vec::new(),
                }),
            }
        }
        Ok(changed)
    }

    /// The rows to read: of the groups that show extremes of the values, and of the values.
    pub(super) fn keys_of<'t>(
        &'t self,
        changed: &[Changed<'_>],
        table: &'t str,
    ) -> Vec<RowKey<'t>> {
        let mut keys = Vec::new();
        for group in changed {
            if extreme_columns(group.groups).any(|column| group.has_values_of(column)) {
                let key = rows::key_item(&group.row.key);
                keys.push(RowKey { table: &self.view_tables[group.row.view], key });
            }
            let values = group.values.iter();
            keys.extend(values.map(|it| it.partition.row(table, &it.key.sort_key)));
        }
        keys
    }

    /// Takes in what these rows say, each with its table.
    pub(super) fn take_values(
        &self,
        changed: &mut [Changed<'_>],
        rows: Vec<(String, Item)>,
    ) -> Result<(), StoreError> {
        let table = values::table_name(self.table);
        let mut stored = Stored::new();
        for (from, row) in rows {
            let keys = match values::keys_of(&row).filter(|_| from == table) {
                Some((pk, sk)) => (pk.to_owned(), sk.to_owned()),
                None => (rows::key_of(&row).unwrap_or_default().to_owned(), String::new()),
            };
            stored.insert((from, keys.0, keys.1), row);
        }
        for group in changed {
            let view_table = self.view_tables[group.row.view].clone();
            group.stored = stored.remove(&(view_table, group.row.key.clone(), String::new()));
            for value in &mut group.values {
                let keys = (value.partition.key.clone(), value.key.sort_key.clone());
                if let Some(row) = stored.get(&(table.clone(), keys.0, keys.1)) {
                    value.read = values::items_of(row).ok_or_else(|| self.value_unreadable())?;
                }
                // Below nothing only if rows were changed by hand: a verification tells of it.
                value.new = value.read.saturating_add_signed(value.more);
            }
        }
        Ok(())
    }

    /// The extremes that go, whose places others take that have to be read.
    pub(super) fn wanted<'c>(
        &self,
        changed: &[Changed<'c>],
    ) -> Result<Vec<Wanted<'c>>, StoreError> {
        let mut wanted = Vec::new();
        for (at, group) in changed.iter().enumerate() {
            for column in extreme_columns(group.groups) {
                if group.needs_next(column).map_err(|_| self.value_unreadable())? {
                    let partition = group.of(column.keeper).next().map(|it| &*it.partition.key);
                    let partition = partition.unwrap_or_default().to_owned();
                    let gone = group.of(column.keeper).filter(|it| it.is_gone()).count();
                    wanted.push(Wanted { at, column, partition, rows: gone + 1 });
                }
            }
        }
        Ok(wanted)
    }

    /// Takes in which values come next, by the first rows of their partitions.
    pub(super) fn take_next<'c>(
        &self,
        changed: &mut [Changed<'c>],
        found: impl Iterator<Item = (Wanted<'c>, Vec<Item>)>,
    ) -> Result<(), StoreError> {
        for (Wanted { at, column, partition, .. }, rows) in found {
            let keys = rows.iter().filter_map(values::keys_of).map(|(_, sort_key)| ValueKey {
                keeper: column.keeper,
                sort_key: sort_key.to_owned(),
            });
            let is_gone =
                |key: &ValueKey| changed[at].values.iter().any(|it| it.key == key && it.is_gone());
            let left = keys.into_iter().find(|key| !is_gone(key));
            let value = left.as_ref().map(|key| key.value().ok_or_else(|| self.value_unreadable()));
            let (value, aggregate) = (value.transpose()?, column.aggregate);
            let row = left.map(|key| (partition, key.sort_key));
            changed[at].next.push(Next { aggregate, value, row });
        }
        Ok(())
    }

    /// The actions on a group and its values.
    fn settle(
        &self,
        group: &Changed<'_>,
        left: Option<&Item>,
        actions: &mut Vec<TransactWriteItem>,
    ) -> Result<(), StoreError> {
        let mut delta = group.delta.clone();
        for (at, aggregate) in group.groups.aggregates.iter().enumerate() {
            let is_sum = match aggregate.function {
                Function::CountDistinct => false,
                Function::SumDistinct => true,
                _ => continue,
            };
            for it in group.groups.values_of(at).into_iter().flat_map(|keeper| group.of(keeper)) {
                let sum = if is_sum { summand(&it.value) } else { BigDecimal::default() };
                let more = it.different();
                delta.add_different(at, (more, &(sum * more)));
            }
        }
        let mut extremes = Extremes::default();
        for column in extreme_columns(group.groups) {
            // Whoever leaves its values alone needs nothing of it and does nothing to it.
            if !group.has_values_of(column) {
                continue;
            }
            let read = column.read(group.stored.as_ref()).map_err(|_| self.value_unreadable())?;
            let next = group.next.iter().find(|next| next.aggregate == column.aggregate);
            if next.is_some() {
                extremes.only_at(group.stored.as_ref());
            }
            let stays = read.filter(|read| !group.is_gone(column, read));
            let left = next.map_or(stays, |next| next.value.clone());
            let new = column.best(left, group.best(column));
            extremes.show(column, group.stored.as_ref(), new);
        }
        let RowId { view, key, .. } = group.row;
        let place = (&*self.view_tables[*view], &**key);
        let update = rows::addition(&self.views[*view], place, (&delta, left), &extremes);
        actions.push(TransactWriteItem::builder().update(update).build());
        let table = values::table_name(self.table);
        let counted = group
            .values
            .iter()
            .filter_map(|it| it.partition.counted(&table, &it.key.sort_key, (it.read, it.new)));
        actions.extend(counted);
        // What is written has a condition of its own; no row may come twice.
        let is_written = |(partition, sort_key): &&(String, String)| {
            let mut values = group.values.iter();
            values.any(|it| it.partition.key == *partition && it.key.sort_key == *sort_key)
        };
        let next = group.next.iter().filter_map(|next| next.row.as_ref());
        let checked: BTreeSet<_> = next.filter(|row| !is_written(row)).collect();
        let checks = checked.into_iter();
        actions.extend(
            checks.map(|(partition, sort_key)| values::is_there(&table, partition, sort_key)),
        );
        Ok(())
    }

    fn value_unreadable(&self) -> StoreError {
        StoreError {
            operation: "BatchGetItem",
            endpoint: values::table_name(self.table),
            trouble: Trouble::Rejected,
            code: "ViewRowUnreadable".to_owned(),
            message: "a value, or the smallest or largest one in a view's row, is not as \
                      changefold writes it; the tables must not be written by anything else"
                .to_owned(),
        }
    }
}

impl<'c> Changed<'c> {
    /// The values that change of those that one aggregate keeps.
    fn of(&self, keeper: usize) -> impl Iterator<Item = &Counted<'c>> {
        self.values.iter().filter(move |it| it.key.keeper == keeper)
    }

    /// Whether values come or go of which this column shows one.
    fn has_values_of(&self, column: ExtremeColumn<'_>) -> bool {
        self.of(column.keeper).next().is_some()
    }

    /// Whether the last item with a value leaves.
    fn is_gone(&self, column: ExtremeColumn<'_>, value: &Scalar) -> bool {
        self.of(column.keeper).any(|it| it.value == *value && it.is_gone())
    }

    /// The best of the values that change and are there then.
    fn best(&self, column: ExtremeColumn<'_>) -> Option<Scalar> {
        let there = self.of(column.keeper).filter(|it| !it.is_gone());
        there.fold(None, |best, it| column.best(best, Some(it.value.clone())))
    }

    /// Whether the extreme goes and none of the values that change takes its place.
    fn needs_next(&self, column: ExtremeColumn<'_>) -> Result<bool, NoValue> {
        let read = column.read(self.stored.as_ref())?;
        let Some(gone) = read.filter(|read| self.is_gone(column, read)) else { return Ok(false) };
        let best = self.best(column);
        Ok(best.is_none() || column.best(best, Some(gone.clone())) == Some(gone))
    }
}
