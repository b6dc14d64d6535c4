//! The groups of a pass, and where a walk over them stands: what is in a cursor.
//!
//! Separate because one call writes it and another one reads it. What it gives up: nothing of it is
//! kept anywhere else, so it has to stay small.

use super::super::values::{By, Held, VALUES_MAX};
use crate::view::{
    definition::{Shape, View},
    rows::{
        ValueKey,
        sums::{GroupRow, Sums},
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Where a walk stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) phase: Phase,
    /// Which view's rows are read.
    pub(super) view: usize,
    /// Behind which row to go on.
    pub(super) after: Option<String>,
    /// The second key of that row, if its table has two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after_sort: Option<String>,
    /// Which hashes are in this pass; no end is all the rest.
    pub(super) from: u64,
    pub(super) to: Option<u64>,
    /// What the hashes are made with: a sample is by chance.
    pub(super) salt: u64,
    /// Rows that are left of a sample of the view's.
    pub(super) left: Option<u64>,
    /// How often the groups have been looked at in this pass; not yet is 0.
    pub(super) looks: u32,
    pub(super) groups: Vec<Group>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Rows of projections are looked for in the ledger.
    #[default]
    Projections,
    /// Rows of groups are read.
    Rows,
    /// The rows of their values are read.
    Values,
    /// The ledger is read.
    Ledger,
    /// Rows that differ are read again.
    Close,
}

/// A group, its row and the sum of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) view: usize,
    pub(super) key: String,
    /// The row's revision; none if there is no row.
    pub(super) revision: Option<u64>,
    /// What the row says; none if it cannot be read.
    pub(super) found: Option<Sums>,
    pub(super) expected: Sums,
    #[serde(default, skip_serializing_if = "Held::is_nothing")]
    pub(super) held: Held,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) items: Vec<String>,
}

/// The groups of a pass in the order of their hashes.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) groups: BTreeMap<(u64, usize, String), Group>,
    pub(super) bytes: usize,
    /// How many values are looked at one by one.
    pub(super) values: usize,
}

impl Place {
    pub(super) fn is_in(&self, hash: u64) -> bool {
        self.looks == 0 && self.from <= hash && self.to.is_none_or(|to| hash < to)
    }
}

impl Pass {
    pub(super) fn put(&mut self, hash: u64, group: Group) {
        self.bytes += group.bytes();
        self.values += group.held.len();
        self.groups.insert((hash, group.view, group.key.clone()), group);
    }

    /// Takes in that a group has a value.
    pub(super) fn add(
        &mut self,
        place: &Place,
        at: &(u64, usize, String),
        value: (&ValueKey, Option<u64>, By),
    ) {
        let room = (place.looks > 0).then(|| VALUES_MAX.saturating_sub(self.values));
        if let Some(group) = self.groups.get_mut(at) {
            self.values += group.held.add(value, room);
        }
    }
}

impl Group {
    pub(super) fn of(view: usize, aggregates: usize, row: GroupRow) -> Self {
        Self {
            revision: Some(row.revision),
            found: row.sums,
            ..Self::without_row(view, row.key, aggregates)
        }
    }

    pub(super) fn without_row(view: usize, key: String, aggregates: usize) -> Self {
        let (found, expected) = (Some(Sums::zero(aggregates)), Sums::zero(aggregates));
        let (held, items) = (Held::default(), Vec::new());
        Self { view, key, revision: None, found, expected, held, items }
    }

    /// Whether no transaction, and nobody else, has changed the row since it was read.
    pub(super) fn is_still(&self, now: Option<&GroupRow>) -> bool {
        match now {
            None => self.revision.is_none(),
            Some(now) => self.revision == Some(now.revision) && self.found == now.sums,
        }
    }

    /// About what it takes in a cursor: a number has up to 38 digits, most have few.
    pub(super) fn bytes(&self) -> usize {
        100 + 2 * self.key.len() + 80 * self.expected.aggregates()
    }
}

/// How many aggregates a view has; none if it has no groups.
pub(super) fn aggregates(view: &View) -> Option<usize> {
    match &view.shape {
        Shape::Groups(groups) => Some(groups.aggregates.len()),
        Shape::Rows(_) => None,
    }
}

pub(super) fn hash(salt: u64, view: &View, key: &str) -> u64 {
    let hash = Sha256::new()
        .chain_update(salt.to_be_bytes())
        .chain_update(view.name.as_bytes())
        .chain_update([0])
        .chain_update(key.as_bytes())
        .finalize();
    hash[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}
