//! Groups that lose items, where a row has to leave an index with the last of them.
//!
//! Separate because it asks nothing of values: of views with LIMIT the rows of such groups are
//! read before the transaction, together with what else it reads, and the condition of the update
//! follows from how many items there are (`rows/ranked`). Other views are not read for it.

use super::{Chunk, Ledger};
use crate::{
    store::{Item, rows::RowKey},
    view::rows::{self, Effect, RowId, ranked::Ranking},
};
use std::collections::BTreeMap;

/// The rows of groups that lose items, as they were stored.
pub(super) type Left = BTreeMap<RowId, Item>;

impl Ledger<'_> {
    /// The groups of a transaction that may leave an index.
    pub(super) fn leaving<'c>(&self, chunk: &'c Chunk) -> Vec<&'c RowId> {
        let loses = |(row, effect): &(&RowId, &Effect)| match effect {
            Effect::Add(delta) => {
                Ranking::of(&self.views[row.view]).is_some_and(|it| it.more(delta) < 0)
            }
            _ => false,
        };
        chunk.effects.iter().filter(loses).map(|(row, _)| row).collect()
    }

    /// Adds their keys to those of the rows that are read.
    pub(super) fn join<'t>(&'t self, keys: &mut Vec<RowKey<'t>>, leaving: &[&RowId]) {
        for row in leaving {
            let (table, key) = (&*self.view_tables[row.view], rows::key_item(&row.key));
            if !keys.iter().any(|other| other.table == table && other.key == key) {
                keys.push(RowKey { table, key });
            }
        }
    }

    /// What was read of them.
    pub(super) fn left(&self, leaving: Vec<&RowId>, found: &[(String, Item)]) -> Left {
        let of = |row: &RowId| {
            let is_it = |(table, item): &&(String, Item)| {
                *table == self.view_tables[row.view] && rows::key_of(item) == Some(&*row.key)
            };
            found.iter().find(is_it).map(|(_, item)| item.clone())
        };
        leaving.into_iter().filter_map(|row| Some((row.clone(), of(row)?))).collect()
    }
}
