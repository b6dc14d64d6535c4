//! What an index over the rows of groups sorts by, so that the first ones are read by a query.
//!
//! ```text
//! index `top`   partition key _top   `T` in the row of every group that has a value
//!               sort key             the column, where it is a count or a sum; else _by,
//!                                    the value as its text in the order of values
//! ```
//!
//! A row is in the index while it has both. The same update that adds to a group keeps them:
//!
//! - Who adds items, or values of a sum, puts the row into the index: there is one then.
//! - Who takes some away and adds none has read the row before. If they are the last ones, the row
//!   leaves the index, on the condition that it still has so many; else on the condition that it
//!   has more than go. So two who do that to a group do not hinder each other.
//! - A smallest or largest value is known when it is written (`extremes`).
//!
//! Separate because views without LIMIT have nothing of it. What it gives up: a read unit for each
//! group that loses items, and the index's own units, one or two for each row that is written. All
//! groups are in one partition of the index, which takes 1,000 write units a second.

use super::{Delta, Extremes, Parts, ROWS, aggregate_columns, count_attribute, groups, scalar};
use crate::{
    store::{Index, Item, rows::text},
    view::{
        definition::{Function, Top, View},
        number,
        scalar::{Scalar, encode_value},
    },
};
#[cfg(feature = "local")]
use aws_sdk_dynamodb::types::Update;
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType, builders::UpdateBuilder};
use std::cmp::Reverse;

/// The name of the index.
pub(crate) const INDEX: &str = "top";
/// Its partition key, and what every row has there.
pub(crate) const RANKED: (&str, &str) = ("_top", "T");
/// Its sort key for smallest and largest values.
const BY: &str = "_by";

/// By what the first groups of a view are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranking<'v> {
    pub(crate) top: Top,
    column: &'v str,
    function: Function,
    aggregate: usize,
}

/// A row's place among the others: smaller ones come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Up(Scalar),
    Down(Reverse<Scalar>),
}

impl Rank {
    /// That of a row; none where the column is NULL.
    pub(super) fn of(top: Top, row: &[Scalar]) -> Option<Self> {
        let value = row.get(top.column).filter(|value| **value != Scalar::Null)?.clone();
        Some(if top.is_descending { Self::Down(Reverse(value)) } else { Self::Up(value) })
    }
}

impl<'v> Ranking<'v> {
    /// That of a view with LIMIT.
    pub(crate) fn of(view: &'v View) -> Option<Self> {
        let groups = groups(view)?;
        let top = groups.top?;
        let name = &groups.columns.get(top.column)?.name;
        let columns = aggregate_columns(view).into_iter();
        let found = columns.into_iter().find(|(column, ..)| *column == name);
        found.map(|(column, function, aggregate)| Self { top, column, function, aggregate })
    }

    fn is_of_extreme(&self) -> bool {
        matches!(self.function, Function::Min | Function::Max)
    }

    /// The attribute that the index sorts by.
    pub(crate) fn sort_attribute(&self) -> &'v str {
        if self.is_of_extreme() { BY } else { self.column }
    }

    /// The index.
    pub(crate) fn index(&self) -> Index {
        let of_sort_key =
            if self.is_of_extreme() { ScalarAttributeType::S } else { ScalarAttributeType::N };
        Index {
            name: INDEX,
            partition_key: RANKED.0,
            sort_key: (self.sort_attribute().to_owned(), of_sort_key),
        }
    }

    /// The attribute that counts what the column is computed of; none for extremes.
    fn counted(&self) -> Option<String> {
        match self.function {
            Function::Min | Function::Max => None,
            Function::Count | Function::CountDistinct => Some(ROWS.to_owned()),
            function => count_attribute(self.column, function),
        }
    }

    /// By how much that number grows.
    pub(crate) fn more(&self, delta: &Delta) -> i64 {
        match self.function {
            Function::Min | Function::Max => 0,
            Function::Count | Function::CountDistinct => delta.rows,
            _ => delta.addends.get(self.aggregate).map_or(0, |(count, _)| *count),
        }
    }

    /// Adds to an update what puts the row into the index, or takes it out.
    pub(super) fn write(
        &self,
        mut update: UpdateBuilder,
        (delta, stored, extremes): (&Delta, Option<&Item>, &Extremes),
        parts: &mut Parts,
    ) -> UpdateBuilder {
        let enters = |update: UpdateBuilder, parts: &mut Parts| {
            parts.set.push("#top = :top".to_owned());
            update
                .expression_attribute_names("#top", RANKED.0)
                .expression_attribute_values(":top", text(RANKED.1))
        };
        let Some(counted) = self.counted() else {
            let (is_told, shown) = extremes.shown(self.column);
            if !is_told {
                return update;
            }
            update = update.expression_attribute_names("#by", BY);
            let Some(value) = shown else {
                parts.remove.push("#by".to_owned());
                return update;
            };
            parts.set.push("#by = :by".to_owned());
            update = update.expression_attribute_values(":by", text(encode_value(value)));
            return enters(update, parts);
        };
        match self.more(delta) {
            0 => update,
            1.. => enters(update, parts),
            more => {
                let read = stored.and_then(|row| row.get(&counted));
                let is_last = count(read).saturating_add(more) <= 0;
                let condition = if is_last { "#rows = :rows" } else { "#rows > :rows" };
                if is_last {
                    parts.remove.push("#top".to_owned());
                    update = update.expression_attribute_names("#top", RANKED.0);
                }
                let bound = match read {
                    Some(read) if is_last => read.clone(),
                    // Below nothing only if rows were changed by hand: a verification tells of it.
                    None if is_last => return update,
                    _ => AttributeValue::N((-more).to_string()),
                };
                parts.conditions.push(condition.to_owned());
                update
                    .expression_attribute_names("#rows", counted)
                    .expression_attribute_values(":rows", bound)
            }
        }
    }

    /// What an update does in the index: whether the row is in it from then on, if that changes,
    /// and whether its value does. What writes the whole row or removes it is not told.
    #[cfg(feature = "local")]
    pub(crate) fn effect(&self, update: Option<&Update>) -> (Option<bool>, bool) {
        let Some(update) = update else { return (None, false) };
        let enters = if self.is_of_extreme() { "#by = :by" } else { "#top = :top" };
        let leaves = if self.is_of_extreme() { "#by" } else { "#top" };
        let expression = &update.update_expression;
        let removed = expression.split("REMOVE ").nth(1).unwrap_or_default();
        let is_in = if expression.contains(enters) {
            Some(true)
        } else {
            removed.contains(leaves).then_some(false)
        };
        let values = update.expression_attribute_values.as_ref();
        let value = |place: String| values.and_then(|values| values.get(&place));
        let names = update.expression_attribute_names.iter().flatten();
        let place = names.filter(|(_, name)| *name == self.column).map(|(place, _)| &place[1..]);
        let moves = place.filter(|place| !place.starts_with('k')).any(|place| {
            match (value(format!(":{place}")), value(format!(":r{place}"))) {
                (Some(AttributeValue::N(more)), None) if !self.is_of_extreme() => more != "0",
                (new, read) => new != read,
            }
        });
        (is_in, moves)
    }

    /// Counts in a row what a transaction adds to it.
    #[cfg(feature = "local")]
    pub(crate) fn count(&self, row: &mut Item, delta: &Delta) {
        if let Some(counted) = self.counted() {
            let items = count(row.get(&counted)) + self.more(delta);
            row.insert(counted, AttributeValue::N(items.to_string()));
        }
    }

    /// Puts a row into the index that says everything else already.
    pub(super) fn show(&self, row: &mut Item) {
        let is_in = match self.counted() {
            Some(counted) => count(row.get(&counted)) > 0,
            None => match scalar(row.get(self.column)) {
                None | Some(Scalar::Null) => false,
                Some(value) => {
                    row.insert(BY.to_owned(), text(encode_value(&value)));
                    true
                }
            },
        };
        if is_in {
            row.insert(RANKED.0.to_owned(), text(RANKED.1));
        }
    }

    /// Whether a row is in the index, at its place, exactly if it belongs there.
    pub(super) fn is_right(&self, row: &Item) -> bool {
        let mut right = row.clone();
        right.remove(BY);
        right.remove(RANKED.0);
        self.show(&mut right);
        let is_in = |row: &Item| {
            let has_all = row.contains_key(RANKED.0) && row.contains_key(self.sort_attribute());
            has_all.then(|| row.get(self.sort_attribute()).cloned())
        };
        is_in(&right) == is_in(row)
    }

    /// The names of the attributes that the index alone needs.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &'static str> {
        let by = self.is_of_extreme().then_some(BY);
        by.into_iter().chain([RANKED.0])
    }
}

fn count(value: Option<&AttributeValue>) -> i64 {
    let digits = value.and_then(|value| value.as_n().ok());
    let number = digits.and_then(|digits| number::read(digits).ok());
    number.and_then(|number| number.to_string().parse().ok()).unwrap_or_default()
}
