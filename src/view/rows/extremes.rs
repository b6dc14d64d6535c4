//! The smallest and largest values that a group's row shows, and under which condition.
//!
//! They follow from the row and the values of the group, which both are read before the
//! transaction, so they hold only if what they follow from is as it was:
//!
//! - A value that comes can only be compared with the extreme that is there. So the extreme has to
//!   be the one that was read; whoever changes it makes the transaction fail.
//! - Where the extreme goes, the next one is read from the values that are left. Any transaction on
//!   the group may have changed those, so the row's revision has to be the one that was read, and
//!   the next value has to be there (`ledger/settle`).
//!
//! Two who do not touch an extreme do not hinder each other. What it gives up: two who take the
//! extremes of one group, one of whom has to read again.

use super::{Parts, REVISION, attribute, scalar};
use crate::{
    store::Item,
    view::{
        definition::{Function, Groups, Output},
        scalar::Scalar,
    },
};
use aws_sdk_dynamodb::types::{AttributeValue, builders::UpdateBuilder};

/// What a transaction makes of the extremes of a group.
#[derive(Debug, Default)]
pub(crate) struct Extremes {
    columns: Vec<Extreme>,
    revision: Revision,
}

/// Which revision the row must have.
#[derive(Debug, Default)]
enum Revision {
    #[default]
    Any,
    /// Still this one, as it was stored.
    Read(Option<AttributeValue>),
}

/// What stands where a value belongs is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoValue;

#[derive(Debug)]
struct Extreme {
    name: String,
    /// As it was stored.
    read: Option<AttributeValue>,
    new: Option<Scalar>,
}

/// A column that shows an extreme.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExtremeColumn<'v> {
    pub(crate) name: &'v str,
    /// Of which aggregate.
    pub(crate) aggregate: usize,
    /// The aggregate that keeps its values.
    pub(crate) keeper: usize,
    /// Whether the largest value is meant.
    pub(crate) is_last: bool,
}

impl ExtremeColumn<'_> {
    /// The one of two values that it shows.
    pub(crate) fn best(self, one: Option<Scalar>, other: Option<Scalar>) -> Option<Scalar> {
        match (one, other) {
            (Some(one), Some(other)) => {
                Some(if self.is_last { one.max(other) } else { one.min(other) })
            }
            (one, other) => one.or(other),
        }
    }

    /// What a row shows; nothing where there is no row.
    ///
    /// # Errors
    /// That is no value.
    pub(crate) fn read(self, row: Option<&Item>) -> Result<Option<Scalar>, NoValue> {
        let Some(row) = row else { return Ok(None) };
        let value = scalar(row.get(self.name)).ok_or(NoValue)?;
        Ok(Some(value).filter(|value| *value != Scalar::Null))
    }
}

/// The columns of a view that show extremes.
pub(crate) fn extreme_columns(groups: &Groups) -> impl Iterator<Item = ExtremeColumn<'_>> {
    groups.columns.iter().filter_map(|column| {
        let Output::Aggregate(aggregate) = column.output else { return None };
        let function = groups.aggregates.get(aggregate)?.function;
        let is_last = match function {
            Function::Min => false,
            Function::Max => true,
            _ => return None,
        };
        let keeper = groups.values_of(aggregate)?;
        Some(ExtremeColumn { name: &column.name, aggregate, keeper, is_last })
    })
}

impl Extremes {
    /// Shows this value in a column, if it is what was stored.
    pub(crate) fn show(
        &mut self,
        column: ExtremeColumn<'_>,
        stored: Option<&Item>,
        new: Option<Scalar>,
    ) {
        let read = stored.and_then(|row| row.get(column.name)).cloned();
        self.columns.push(Extreme { name: column.name.to_owned(), read, new });
    }

    /// Holds only at the revision that was read.
    pub(crate) fn only_at(&mut self, stored: Option<&Item>) {
        self.revision = Revision::Read(stored.and_then(|row| row.get(REVISION)).cloned());
    }

    /// Adds what is set and removed to an update, and its condition.
    pub(super) fn write(&self, mut update: UpdateBuilder, parts: &mut Parts) -> UpdateBuilder {
        let Parts { set, remove, conditions, .. } = parts;
        let mut is_as_read =
            |mut update: UpdateBuilder, name: String, read: &Option<AttributeValue>| {
                conditions.push(match read {
                    Some(value) => {
                        let place = name.replace('#', ":r");
                        update = update.expression_attribute_values(&place, value.clone());
                        format!("{name} = {place}")
                    }
                    None => format!("attribute_not_exists({name})"),
                });
                update
            };
        for (at, Extreme { name, read, new }) in self.columns.iter().enumerate() {
            let place = format!("#m{at}");
            update = update.expression_attribute_names(&place, name);
            if matches!(self.revision, Revision::Any) {
                update = is_as_read(update, place.clone(), read);
            }
            match new {
                Some(value) => {
                    update =
                        update.expression_attribute_values(format!(":m{at}"), attribute(value));
                    set.push(format!("{place} = :m{at}"));
                }
                None => remove.push(place),
            }
        }
        if let Revision::Read(read) = &self.revision {
            update = update.expression_attribute_names("#rev", REVISION);
            update = is_as_read(update, "#rev".to_owned(), read);
        }
        update
    }

    /// What a column shows from now on, and whether it is told here: else it shows what it did.
    pub(super) fn shown(&self, name: &str) -> (bool, Option<&Scalar>) {
        let column = self.columns.iter().find(|it| it.name == name);
        (column.is_some(), column.and_then(|it| it.new.as_ref()))
    }
}
