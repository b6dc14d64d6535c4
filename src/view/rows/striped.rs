//! Groups that are kept in several rows each (`WITH (stripes = …)`), so that many batches can add
//! to one group at once.
//!
//! The key of a row ends in the number of its stripe, which follows from the key of the item: so an
//! item is in the same stripe whatever becomes of it, and everything that keeps rows exact sees
//! more groups and nothing else. Readers add the rows of a group up. Separate because views without
//! stripes have nothing of it. What it gives up: what cannot be added up. A value may be in several
//! stripes, so their different values cannot be counted from the rows.

use super::{Item, Read, StoreError, extreme_columns, groups, retained, row_of, shown, totals_of};
use crate::{
    record::Timestamp,
    view::{
        definition::{Shape, View},
        scalar::Scalar,
        total::Total,
    },
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// In how many rows a group can be kept. As many are read by their keys in one call.
pub(crate) const STRIPES: std::ops::RangeInclusive<u32> = 2..=100;

/// Which stripe of a view the item with this key is in; none if the view has no stripes.
pub(crate) fn stripe_of(view: &View, item: &str) -> Option<Scalar> {
    let stripes = stripes(view)?;
    let digest = Sha256::digest(item.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Some(text_of(number % u64::from(stripes)))
}

/// The numbers of a view's stripes; none if it has no stripes.
pub(crate) fn all(view: &View) -> Option<Vec<Scalar>> {
    Some((0..u64::from(stripes(view)?)).map(text_of).collect())
}

fn stripes(view: &View) -> Option<u32> {
    match &view.shape {
        Shape::Groups(groups) => groups.stripes,
        Shape::Rows(_) => None,
    }
}

/// What stands for a stripe in the key of its row: two digits, of which keys make `S2:07`.
fn text_of(stripe: u64) -> Scalar {
    Scalar::Text(format!("{stripe:02}"))
}

/// Stored rows, one after another, as readers are shown them.
pub(crate) struct Reading<'v> {
    view: &'v View,
    table: &'v str,
    now: Timestamp,
    groups: BTreeMap<Vec<Scalar>, Vec<Total>>,
    /// Whether a row of some items was there, shown or not.
    has_items: bool,
}

impl<'v> Reading<'v> {
    /// Nothing yet of a view, whose rows are in this table.
    pub(crate) const fn of(view: &'v View, table: &'v str, now: Timestamp) -> Self {
        Self { view, table, now, groups: BTreeMap::new(), has_items: false }
    }

    /// What readers are shown of a stored row; nothing yet of one that is a stripe.
    ///
    /// # Errors
    /// It is not as changefold writes it.
    pub(crate) fn row(&mut self, item: &Item) -> Result<Option<Read>, StoreError> {
        if retained::is_gone(item, self.now) {
            return Ok(None);
        }
        if groups(self.view).is_none() {
            return super::read_row(self.view, self.table, item);
        }
        let Some((mut place, totals)) = totals_of(self.view, self.table, item)? else {
            return Ok(None);
        };
        self.has_items = true;
        if stripes(self.view).is_none() {
            let is_shown = shown(self.view, self.table, (&place.1, &totals))?;
            return Ok(if is_shown { row_of(self.view, place, &totals) } else { None });
        }
        place.1.pop();
        match self.groups.get_mut(&place.1) {
            Some(sum) => add(self.view, sum, totals),
            None => drop(self.groups.insert(place.1, totals)),
        }
        Ok(None)
    }

    /// The row that the view has over no items, if there were none.
    pub(crate) fn over_nothing(&self) -> Option<Vec<Scalar>> {
        if self.has_items { None } else { super::over_nothing(self.view) }
    }

    /// The groups whose stripes these were, in the order of their keys.
    ///
    /// # Errors
    /// HAVING cannot be told of one of them.
    pub(crate) fn groups(self) -> Result<Vec<Read>, StoreError> {
        let mut read = Vec::new();
        for (key, totals) in self.groups {
            let place = (None, key, String::new());
            if shown(self.view, self.table, (&place.1, &totals))? {
                read.extend(row_of(self.view, place, &totals));
            }
        }
        Ok(read)
    }
}

fn add(view: &View, sum: &mut [Total], more: Vec<Total>) {
    let columns: Vec<_> = groups(view).into_iter().flat_map(extreme_columns).collect();
    for (at, (sum, more)) in sum.iter_mut().zip(more).enumerate() {
        sum.count += more.count;
        sum.sum += more.sum;
        if let Some(column) = columns.iter().find(|column| column.aggregate == at) {
            sum.extreme = column.best(sum.extreme.take(), more.extreme);
        }
    }
}
