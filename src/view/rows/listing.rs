//! Stored rows as readers are shown them.
//!
//! Separate from how rows are written: a reader knows the definition and a row, and nothing of the
//! ledger. A group without items is not shown, nor one that HAVING hides or whose time is over; the
//! stripes of a group are one row; and an aggregate without GROUP BY has a row over no items.

use super::{
    NO_DEADLINE, ROW_KEY, ROWS, aggregate_columns, count_attribute, extremes::extreme_columns,
    groups, having::holds, ranked::Rank, retained, scalar, striped, sum_attribute, whole,
};
use crate::{
    record::Timestamp,
    store::{Item, Store, StoreError, Trouble},
    view::{
        definition::{Groups, View},
        number,
        scalar::{Scalar, decode_key},
        total::{Total, finish},
    },
};
use bigdecimal::BigDecimal;
use std::collections::BTreeMap;

/// A view's rows at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Names of the columns, in SELECT order.
    pub columns: Vec<String>,
    /// The first rows in the order of their key columns.
    pub rows: Vec<Vec<Scalar>>,
    /// How many rows the view has.
    pub total: usize,
}

pub(crate) async fn list(
    store: &Store,
    view: &View,
    table: &str,
    limit: usize,
) -> Result<Listing, StoreError> {
    let mut first = BTreeMap::new();
    let mut shown = Shown::of(view, table, store.clock().now());
    let top = groups(view).and_then(|groups| groups.top).map_or(usize::MAX, |top| top.limit);
    let limit = limit.min(top);
    let mut total = 0;
    let mut take = |(key, row)| {
        total += 1;
        first.insert(key, row);
        if first.len() > limit {
            first.pop_last();
        }
    };
    let mut from = None;
    loop {
        let page = store.scan(table, None, from, NO_DEADLINE).await?;
        for item in &page.items {
            shown.row(item)?.map(&mut take);
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    shown.rest()?.into_iter().for_each(take);
    let (columns, rows) = in_columns(view, first.into_values().collect());
    Ok(Listing { columns, rows, total: total.min(top) })
}

/// The names of the columns, and the rows in their order.
pub(crate) fn in_columns(view: &View, rows: Vec<Vec<Scalar>>) -> (Vec<String>, Vec<Vec<Scalar>>) {
    if view.shows_all() {
        return whole::in_columns(&rows);
    }
    (view.columns().into_iter().map(str::to_owned).collect(), rows)
}

/// A row's place in the order: its rank among the first groups, if the view shows those, and its
/// key, with the text to tell equal places apart.
type Place = (Option<Rank>, Vec<Scalar>, String);
/// A row as it is shown, and its place.
pub(crate) type Read = (Place, Vec<Scalar>);

/// What readers are shown of stored rows, one after another.
pub(crate) struct Shown<'v> {
    view: &'v View,
    table: &'v str,
    now: Timestamp,
    /// The stripes so far, added up by the keys of their groups.
    striped: BTreeMap<Vec<Scalar>, Vec<Total>>,
    /// Whether a row of some items was there, shown or not.
    has_items: bool,
}

impl<'v> Shown<'v> {
    /// Nothing yet of a view, whose rows are in this table.
    pub(crate) const fn of(view: &'v View, table: &'v str, now: Timestamp) -> Self {
        Self { view, table, now, striped: BTreeMap::new(), has_items: false }
    }

    /// What is shown of a stored row; nothing yet of one that is a stripe.
    ///
    /// # Errors
    /// It is not as changefold writes it.
    pub(crate) fn row(&mut self, item: &Item) -> Result<Option<Read>, StoreError> {
        if retained::is_gone(item, self.now) {
            return Ok(None);
        }
        let mut place = self.place(item)?;
        let Some(groups) = groups(self.view) else {
            return Ok(Some((place, self.columns(item)?)));
        };
        let Some(totals) = self.totals(groups, item)? else { return Ok(None) };
        self.has_items = true;
        if groups.stripes.is_none() {
            return self.group(groups, place, &totals);
        }
        place.1.pop();
        match self.striped.get_mut(&place.1) {
            Some(sum) => striped::add(groups, sum, totals),
            None => drop(self.striped.insert(place.1, totals)),
        }
        Ok(None)
    }

    /// What is shown when all stored rows were looked at: the groups whose stripes these were, in
    /// the order of their keys, and the row over no items, if there were none.
    ///
    /// # Errors
    /// HAVING cannot be told of a group.
    pub(crate) fn rest(mut self) -> Result<Vec<Read>, StoreError> {
        let Some(groups) = groups(self.view) else { return Ok(Vec::new()) };
        let mut rest = Vec::new();
        for (key, totals) in std::mem::take(&mut self.striped) {
            rest.extend(self.group(groups, (None, key, String::new()), &totals)?);
        }
        if !self.has_items && groups.keys.is_empty() {
            rest.extend(over_nothing(self.view, groups));
        }
        Ok(rest)
    }

    fn unreadable(&self) -> StoreError {
        StoreError {
            operation: "Scan",
            endpoint: self.table.to_owned(),
            trouble: Trouble::Rejected,
            code: "ViewRowUnreadable".to_owned(),
            message: format!(
                "a row of view {} is not as changefold writes it; the table must not be written \
                 by anything else",
                self.view.name
            ),
        }
    }

    fn place(&self, item: &Item) -> Result<Place, StoreError> {
        let text = item.get(ROW_KEY).and_then(|key| key.as_s().ok());
        let text = text.ok_or_else(|| self.unreadable())?;
        let key = decode_key(text).unwrap_or_else(|| vec![Scalar::Text(text.clone())]);
        Ok((None, key, text.clone()))
    }

    /// The columns of a projection's row.
    fn columns(&self, item: &Item) -> Result<Vec<Scalar>, StoreError> {
        if self.view.shows_all() {
            return Ok(whole::members(item));
        }
        let names = self.view.columns().into_iter();
        let values: Option<Vec<_>> = names.map(|name| scalar(item.get(name))).collect();
        values.ok_or_else(|| self.unreadable())
    }

    /// The totals of a group's row; none of one without items.
    fn totals(&self, groups: &Groups, item: &Item) -> Result<Option<Vec<Total>>, StoreError> {
        let unreadable = || self.unreadable();
        let number_of = |name: &str| match item.get(name) {
            None => Some(BigDecimal::default()),
            Some(value) => number::read(value.as_n().ok()?).ok(),
        };
        if number_of(ROWS).ok_or_else(unreadable)? <= BigDecimal::default() {
            return Ok(None);
        }
        let mut totals = vec![Total::default(); groups.aggregates.len()];
        for (name, function, index) in aggregate_columns(self.view) {
            if let Some(attribute) = count_attribute(name, function) {
                let count = number_of(&attribute).ok_or_else(unreadable)?;
                totals[index].count = count.to_string().parse().map_err(|_| unreadable())?;
            }
            if let Some(attribute) = sum_attribute(name, function) {
                totals[index].sum = number_of(&attribute).ok_or_else(unreadable)?;
            }
        }
        for column in extreme_columns(groups) {
            totals[column.aggregate].extreme = column.read(Some(item)).map_err(|_| unreadable())?;
        }
        Ok(Some(totals))
    }

    /// The row of a group at its place; none of one that HAVING hides, or that has no place among
    /// the first ones.
    fn group(
        &self,
        groups: &Groups,
        place: Place,
        totals: &[Total],
    ) -> Result<Option<Read>, StoreError> {
        // What it names can be a value of the row.
        let is_shown = holds(groups, &place.1, totals).map_err(|poison| StoreError {
            code: "HavingUnfit".to_owned(),
            message: format!(
                "HAVING of view {} cannot be told of a row: expected {}, found {}",
                self.view.name, poison.expected, poison.found
            ),
            ..self.unreadable()
        })?;
        if !is_shown {
            return Ok(None);
        }
        let row = finish(self.view, &place.1, totals);
        let Some(top) = groups.top else { return Ok(Some((place, row))) };
        let rank = Rank::of(top, &row);
        Ok(rank.map(|rank| ((Some(rank), place.1, place.2), row)))
    }
}

/// The row that a view without GROUP BY has over no items: SQL's aggregate has exactly one.
fn over_nothing(view: &View, groups: &Groups) -> Option<Read> {
    let totals = vec![Total::default(); aggregate_columns(view).len()];
    let is_shown = holds(groups, &[], &totals).unwrap_or(false);
    is_shown.then(|| (Place::default(), finish(view, &[], &totals)))
}
