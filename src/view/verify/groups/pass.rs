//! The groups of a pass, and where a walk over them stands: what is in a cursor.
//!
//! Separate because one call writes it and another one reads it. What it gives up: nothing of it is
//! kept anywhere else, so it has to stay small.

use super::super::values::{By, Cut, Held, Room, answer_bytes};
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
    /// How often it differed and was written meanwhile.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) looks: u32,
    /// What it was reckoned at in the pass.
    #[serde(skip)]
    bytes: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(looks: &u32) -> bool {
    *looks == 0
}

/// The groups of a pass in the order of their hashes.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) groups: BTreeMap<(u64, usize, String), Group>,
    pub(super) bytes: usize,
    /// For values that are looked at one by one.
    pub(super) room: Room,
}

impl Place {
    pub(super) fn is_in(&self, hash: u64) -> bool {
        self.looks == 0 && self.from <= hash && self.to.is_none_or(|to| hash < to)
    }
}

impl Pass {
    pub(super) fn put(&mut self, hash: u64, group: Group) {
        self.room.take_all(&group.held);
        let at = (hash, group.view, group.key.clone());
        self.groups.insert(at.clone(), group);
        self.reckon(&at);
    }

    /// Reckons again what a group takes, which may have more by now.
    pub(super) fn reckon(&mut self, at: &(u64, usize, String)) {
        if let Some(group) = self.groups.get_mut(at) {
            let bytes = group.bytes();
            self.bytes = self.bytes - group.bytes + bytes;
            group.bytes = bytes;
        }
    }

    /// Gives up the last group; its hash.
    pub(super) fn drop_last(&mut self) -> Option<u64> {
        let ((hash, _, _), group) = self.groups.pop_last()?;
        self.bytes -= group.bytes;
        Some(hash)
    }

    /// Takes in that a group has a value.
    pub(super) fn add(
        &mut self,
        place: &Place,
        at: &(u64, usize, String),
        value: (&ValueKey, Option<u64>, By),
    ) {
        let Some(group) = self.groups.get_mut(at) else { return };
        group.held.glance(value);
        if place.looks == 0 {
            return;
        }
        while let Some(group) = self.groups.get_mut(at)
            && !group.held.look(value, &mut self.room)
        {
            self.make_room(at);
        }
    }

    /// Lets the last group that has room give it up for one that has too little.
    fn make_room(&mut self, at: &(u64, usize, String)) {
        let mut having = self.groups.iter().filter(|(_, group)| group.held.has_room());
        let is_alone = having.clone().all(|(other, _)| other == at);
        let last = having.next_back().map(|(last, _)| last).filter(|last| *last > at);
        let last = last.unwrap_or(at).clone();
        let cut = if is_alone { Cut::TooMany } else { Cut::ForOthers };
        if let Some(group) = self.groups.get_mut(&last) {
            group.held.give_up(cut, &mut self.room);
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
        Self { view, key, revision: None, found, expected, held, items, looks: 0, bytes: 0 }
    }

    /// Whether no transaction, and nobody else, has changed the row since it was read.
    pub(super) fn is_still(&self, now: Option<&GroupRow>) -> bool {
        match now {
            None => self.revision.is_none(),
            Some(now) => self.revision == Some(now.revision) && self.found == now.sums,
        }
    }

    /// About what it takes in a cursor: a number has up to 38 digits, most have few; a smallest or
    /// largest value is there twice, or will be.
    fn bytes(&self) -> usize {
        let texts = |sums: &Sums| sums.texts().map(answer_bytes).sum::<usize>();
        let texts = texts(&self.expected).max(self.found.as_ref().map_or(0, texts));
        100 + answer_bytes(&self.key) + 80 * self.expected.aggregates() + 2 * texts
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{
        scalar::{Scalar, encode_value},
        sql,
        total::Addend,
    };

    /// What Lambda takes of an answer is 6 MB; beside the cursor it has what has drifted.
    const CURSOR_BYTES_MAX: usize = 4_000_000;

    fn in_answer(groups: &[&Group]) -> usize {
        let cursor = serde_json::to_string(groups).unwrap();
        serde_json::to_string(&cursor).unwrap().len()
    }

    #[test]
    fn a_cursor_with_long_values_fits_into_an_answer() {
        for (text, values) in [("\u{1}", 200..300), ("\"", 300..400), ("x", 1_300..1_500)] {
            let mut pass = Pass::default();
            pass.put(1, Group::without_row(0, "S2:EU".to_owned(), 1));
            let place = Place { looks: 1, ..Place::default() };
            for at in 0..10_000 {
                let value = Scalar::Text(format!("{at:05}{}", text.repeat(1_000)));
                let value = ValueKey { keeper: 0, sort_key: encode_value(&value) };
                pass.add(&place, &(1, 0, "S2:EU".to_owned()), (&value, Some(1), By::Row));
                let groups: Vec<_> = pass.groups.values().collect();
                if groups[0].held.cut() != Cut::No {
                    assert_eq!(groups[0].held.cut(), Cut::TooMany);
                    assert!(values.contains(&at), "{text:?} {at}");
                    break;
                }
                if at + 1 == values.start {
                    assert!(in_answer(&groups) > 1_000_000, "{text:?}");
                }
                assert!(at % 50 != 0 || in_answer(&groups) < 1_600_000, "{text:?}");
            }
            assert!(in_answer(&pass.groups.values().collect::<Vec<_>>()) < 1_000);
        }
    }

    /// Groups at their first look, whose values come in this order of their hashes.
    fn looked_at(groups: &[(u64, usize)]) -> Vec<Cut> {
        let mut pass = Pass::default();
        let place = Place { looks: 1, ..Place::default() };
        for (hash, _) in groups {
            pass.put(*hash, Group::without_row(0, "Z".to_owned(), 1));
        }
        for by in [By::Row, By::Ledger] {
            for (hash, values) in groups {
                for at in 0..*values {
                    let value = ValueKey { keeper: 0, sort_key: format!("S{at}") };
                    pass.add(&place, &(*hash, 0, "Z".to_owned()), (&value, Some(1), by));
                }
            }
        }
        assert!(pass.groups.values().all(|group| group.held.is_equal()));
        pass.groups.values().map(|group| group.held.cut()).collect()
    }

    #[test]
    fn the_first_group_is_looked_at_whatever_others_have() {
        let several = [(1, 6_000), (2, 6_000), (3, 6_000)];
        let first = [Cut::No, Cut::ForOthers, Cut::ForOthers];
        assert_eq!(looked_at(&several), first);
        let reversed: Vec<_> = several.into_iter().rev().collect();
        assert_eq!(looked_at(&reversed), first);
        assert_eq!(looked_at(&[(1, 4_000), (2, 6_000)]), [Cut::No, Cut::No]);
        assert_eq!(looked_at(&[(1, 10_001)]), [Cut::TooMany]);
        // One that is too large leaves the room to the others.
        assert_eq!(looked_at(&[(1, 10_001), (2, 6_000)]), [Cut::TooMany, Cut::No]);
    }

    #[test]
    fn a_group_with_more_values_than_there_is_room_for_is_equal_or_not() {
        let mut pass = Pass::default();
        let place = Place { looks: 1, ..Place::default() };
        pass.put(1, Group::without_row(0, "Z".to_owned(), 1));
        let mut add = |at: usize, items, by| {
            let value = ValueKey { keeper: 0, sort_key: format!("S{at}") };
            pass.add(&place, &(1, 0, "Z".to_owned()), (&value, Some(items), by));
            pass.groups.values().all(|group| group.held.is_equal())
        };
        for at in 0..10_001 {
            add(at, 2, By::Row);
        }
        let is_equal: Vec<bool> = (0..10_001).map(|at| add(at, 2, By::Ledger)).collect();
        assert!(is_equal[10_000] && !is_equal[9_999]);
        assert!(!add(7, 1, By::Ledger));
    }

    #[test]
    fn groups_are_reckoned_with_the_texts_of_their_extremes() {
        let text = "CREATE MATERIALIZED VIEW v AS
            SELECT a, min(b) AS lo, max(b) AS hi FROM t GROUP BY a";
        let view = sql::parse(text).unwrap().remove(0);
        let Shape::Groups(groups) = &view.shape else { panic!("no groups") };
        let mut pass = Pass::default();
        for hash in 0..400 {
            let key = format!("S4:{hash:04}");
            let value = Some(Scalar::Text("\u{1}".repeat(1_000)));
            let addends = [Addend { value, ..Addend::default() }, Addend::default()];
            let at = (hash, 0, key.clone());
            // Half of them are known of the ledger alone, whose items come later.
            let mut group = Group::without_row(0, key, 2);
            if hash % 2 == 0 {
                group.found.as_mut().unwrap().add(groups, &addends);
            }
            pass.put(hash, group);
            pass.groups.get_mut(&at).unwrap().expected.add(groups, &addends);
            pass.reckon(&at);
        }
        let bytes = in_answer(&pass.groups.values().collect::<Vec<_>>());
        assert!(bytes > CURSOR_BYTES_MAX && pass.bytes > bytes, "{} {bytes}", pass.bytes);
        while pass.drop_last().is_some() {}
        assert_eq!(pass.bytes, 0);
    }
}
