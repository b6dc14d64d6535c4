//! The values of groups and the ledger: whether as many rows say so as items have the value.
//!
//! At a glance the values of a group are one number: the sum of a hash of each, as often as an
//! item has it. It is the same by the rows and by the ledger if both have the same values, and a
//! cursor stays small however many there are. Where it differs, the next look takes the values one
//! by one, and that number as well: it decides about a group that has more of them than there is
//! room for. They belong to the revision of their group's row, for they change with it alone.
//!
//! Groups that differ share the room for values. Where it is full, the last group by its hash gives
//! up what it has and is looked at again when the ones before it are done. So the first one is
//! always looked at as a whole.
//!
//! What it gives up: a group that differs and has more than [`VALUES_MAX`] values is told of and
//! not mended. Two sums that are equal by chance, of which there is one in 2^64.

use super::{End, Walk, unanswered};
use crate::{
    store::{
        Item,
        rows::{number, text},
    },
    view::{
        definition::{Groups, View},
        rows::{self, ROW_KEY, ValueKey, sums::Sums},
        scalar::Scalar,
        served::Served,
        values::{self, Partition, VALUE_KEYS},
    },
};
use aws_sdk_dynamodb::types::{TransactWriteItem, Update};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Values of groups that differ, in one cursor.
pub(super) const VALUES_MAX: usize = 10_000;
/// Bytes of them, as they stand in an answer: Lambda takes 6 MB of it.
const VALUES_BYTES_MAX: usize = 1_500_000;
/// What stands around a value's text: its aggregate, two counts, and signs.
const COUNTS_BYTES: usize = 40;
/// Values that are mended in one transaction, beside the group's row.
const MENDED_AT_ONCE: usize = 99;

/// The values of a group, by their rows and by the ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Sums of hashes.
    prints: (u64, u64),
    /// How many items have each value, at a look; the key is the keeper and the value's text.
    counts: BTreeMap<String, (Count, Count)>,
    /// Whether there was room for them.
    cut: Cut,
}

/// Why the values of a group are not looked at one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cut {
    /// They are.
    #[default]
    No,
    /// Other groups have the room.
    ForOthers,
    /// They are more than there is room for.
    TooMany,
}

/// Room for the values of groups that differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    values: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { values: VALUES_MAX, bytes: VALUES_BYTES_MAX }
    }
}

impl Room {
    /// Takes the room of one more value, if there is enough.
    fn take(&mut self, name: &str) -> bool {
        let left = self.bytes.checked_sub(COUNTS_BYTES + answer_bytes(name));
        let Some((values, bytes)) = self.values.checked_sub(1).zip(left) else { return false };
        (self.values, self.bytes) = (values, bytes);
        true
    }

    fn give_back(&mut self, held: &Held) {
        self.values += held.counts.len();
        self.bytes += held.bytes();
    }

    /// Takes the room of what another call has looked at.
    pub(super) fn take_all(&mut self, held: &Held) {
        self.values = self.values.saturating_sub(held.counts.len());
        self.bytes = self.bytes.saturating_sub(held.bytes());
    }
}

/// What a text takes in an answer: it stands in a cursor, which is JSON in a text of JSON.
pub(super) fn answer_bytes(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' => 4,
        0..0x20 => 7,
        _ => 1,
    });
    bytes.sum()
}

/// How many items have a value; none if a row does not say so.
type Count = Option<u64>;

/// Who says that a group has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The value's row.
    Row,
    /// Items of the ledger.
    Ledger,
}

impl Held {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Takes in that so many items have a value, at a glance.
    pub(super) fn glance(&mut self, (key, items, by): (&ValueKey, Count, By)) {
        let print = match by {
            By::Row => &mut self.prints.0,
            By::Ledger => &mut self.prints.1,
        };
        // What is not a number is as many as no group has items.
        *print = print.wrapping_add(hash(key).wrapping_mul(items.unwrap_or(u64::MAX)));
    }

    /// Takes in that so many items have a value, by itself; false if there is no room for it.
    pub(super) fn look(
        &mut self,
        (key, items, by): (&ValueKey, Count, By),
        room: &mut Room,
    ) -> bool {
        if self.cut != Cut::No {
            return true;
        }
        let name = format!("{} {}", key.keeper, key.sort_key);
        if !self.counts.contains_key(&name) && !room.take(&name) {
            return false;
        }
        let counts = self.counts.entry(name).or_insert((Some(0), Some(0)));
        let count = match by {
            By::Row => &mut counts.0,
            By::Ledger => &mut counts.1,
        };
        *count = count.zip(items).map(|(count, items)| count + items);
        true
    }

    /// Gives up the values that were looked at, and their room.
    pub(super) fn give_up(&mut self, cut: Cut, room: &mut Room) {
        room.give_back(self);
        self.counts.clear();
        self.cut = cut;
    }

    pub(super) fn has_room(&self) -> bool {
        !self.counts.is_empty()
    }

    pub(super) const fn cut(&self) -> Cut {
        self.cut
    }

    pub(super) fn is_equal(&self) -> bool {
        self.prints.0 == self.prints.1
            && self.counts.values().all(|(found, expected)| found == expected)
    }

    /// What the values take in an answer.
    fn bytes(&self) -> usize {
        self.counts.keys().map(|name| COUNTS_BYTES + answer_bytes(name)).sum()
    }

    /// How many values there should be, how many there are, and how many of all differ.
    pub(super) fn told(&self) -> (usize, usize, usize) {
        let count =
            |is: fn(&(Count, Count)) -> bool| self.counts.values().filter(|it| is(it)).count();
        (
            count(|(_, expected)| *expected != Some(0)),
            count(|(found, _)| *found != Some(0)),
            count(|(found, expected)| found != expected),
        )
    }

    /// Makes the sums say how many values are different by the ledger. Where there was no room for
    /// the values, what their rows say stays: it is the same if the values are equal.
    pub(super) fn recount(&self, groups: &Groups, sums: &mut Sums) {
        if self.cut != Cut::No {
            return;
        }
        sums.forget_different(groups);
        let there = self.counts.iter().filter(|(_, (_, expected))| *expected != Some(0));
        for (key, value) in there.filter_map(|(name, _)| value_of(name)) {
            sums.count_different(groups, key.keeper, &value);
        }
    }
}

fn value_of(name: &str) -> Option<(ValueKey, Scalar)> {
    let (keeper, sort_key) = name.split_once(' ')?;
    let key = ValueKey { keeper: keeper.parse().ok()?, sort_key: sort_key.to_owned() };
    let value = key.value()?;
    Some((key, value))
}

fn hash(key: &ValueKey) -> u64 {
    let hash = Sha256::new()
        .chain_update(key.keeper.to_be_bytes())
        .chain_update(key.sort_key.as_bytes())
        .finalize();
    // Odd, so that no number of items makes it nothing.
    hash[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte)) | 1
}

/// A value's row, as far as it is one of what is served.
pub(super) struct ValueRow {
    pub(super) view: usize,
    pub(super) group: String,
    pub(super) key: ValueKey,
    pub(super) items: Count,
}

impl Served {
    /// Whether any view that is served keeps values.
    pub(super) fn keeps_values(&self) -> bool {
        self.definitions.iter().any(View::keeps_values)
    }

    /// What the partitions of a view's values begin with.
    fn place_of(&self, view: usize) -> String {
        values::place(&self.definitions[view].name, self.generations[view].number)
    }
}

impl Walk<'_> {
    /// Reads a page of the values; and the keys behind which the next one begins.
    pub(super) async fn value_page(
        &self,
        after: Option<(&str, &str)>,
    ) -> Result<(Vec<ValueRow>, Option<(String, String)>), End> {
        let table = values::table_name(&self.views.ledger_table);
        let [pk, sk] = VALUE_KEYS.map(str::to_owned);
        let from = after
            .map(|(partition, sort_key)| Item::from([(pk, text(partition)), (sk, text(sort_key))]));
        let page = self.store().scan(&table, None, from, self.call.deadline).await;
        let page = page.map_err(unanswered)?;
        let places: Vec<(usize, String)> = (0..self.views.definitions.len())
            .filter(|&view| self.views.definitions[view].keeps_values())
            .map(|view| (view, self.views.place_of(view)))
            .collect();
        let rows = page.items.iter().filter_map(|row| {
            let meant = |(view, place): &(usize, String)| {
                values::meant(row, place).map(|(group, key)| (*view, group, key))
            };
            let (view, group, key) = places.iter().find_map(meant)?;
            Some(ValueRow { view, group: group.to_owned(), key, items: values::items_of(row) })
        });
        let next = page.next.as_ref().and_then(values::keys_of);
        let next = next.map(|(pk, sk)| (pk.to_owned(), sk.to_owned()));
        Ok((rows.collect(), next))
    }

    /// Replaces a group's row, and the rows of values that are otherwise; false if it has to be
    /// looked at again.
    ///
    /// Each transaction has the revision for its guard that the one before has made. So nobody has
    /// changed the group in between, and one that was planned before fails.
    pub(super) async fn mend_group(
        &self,
        (view, key): (usize, &str),
        (row, revision): (Item, u64),
        (held, stored): (&Held, Option<&Item>),
    ) -> Result<bool, End> {
        let table = values::table_name(&self.views.ledger_table);
        let place = self.views.place_of(view);
        let differ = held.counts.iter().filter(|(_, (found, expected))| found != expected);
        let differ = differ.filter_map(|(name, (_, expected))| {
            let (keeper, sort_key) = name.split_once(' ')?;
            let partition = Partition::new(&place, keeper.parse().ok()?, key);
            Some(partition.set(&table, sort_key, expected.unwrap_or(0)))
        });
        let mut left = differ.collect::<Vec<TransactWriteItem>>().into_iter();
        let mut guard = self.row_put(view, row, stored);
        for revision in revision.. {
            let actions = std::iter::once(guard).chain(left.by_ref().take(MENDED_AT_ONCE));
            if !self.guarded(actions.collect()).await? {
                return Ok(false);
            }
            if left.len() == 0 {
                break;
            }
            guard = self.touch(view, key, revision);
        }
        Ok(true)
    }

    /// Adds one to the revision of a row that has this one.
    fn touch(&self, view: usize, key: &str, revision: u64) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&self.views.view_tables[view])
            .key(ROW_KEY, text(key))
            .update_expression("ADD #r :one")
            .condition_expression("#r = :r")
            .expression_attribute_names("#r", rows::REVISION)
            .expression_attribute_values(":r", number(revision))
            .expression_attribute_values(":one", number(1));
        let update = update.build().expect("table, key and expression are set");
        TransactWriteItem::builder().update(update).build()
    }
}
