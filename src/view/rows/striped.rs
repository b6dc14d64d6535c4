//! Groups that are kept in several rows each (`WITH (stripes = …)`), so that many batches can add
//! to one group at once.
//!
//! The key of a row ends in the number of its stripe, which follows from the key of the item: so an
//! item is in the same stripe whatever becomes of it, and everything that keeps rows exact sees
//! more groups and nothing else. Readers add the rows of a group up. Separate because views without
//! stripes have nothing of it. What it gives up: what cannot be added up. A value may be in several
//! stripes, so their different values cannot be counted from the rows.

use super::{extremes::extreme_columns, groups};
use crate::view::{
    definition::{Groups, View},
    scalar::Scalar,
    total::Total,
};
use sha2::{Digest as _, Sha256};

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
    groups(view)?.stripes
}

/// What stands for a stripe in the key of its row: two digits, of which keys make `S2:07`.
fn text_of(stripe: u64) -> Scalar {
    Scalar::Text(format!("{stripe:02}"))
}

/// Takes in what another stripe of a group says.
pub(super) fn add(groups: &Groups, sum: &mut [Total], more: Vec<Total>) {
    let columns: Vec<_> = extreme_columns(groups).collect();
    for (at, (sum, more)) in sum.iter_mut().zip(more).enumerate() {
        sum.count += more.count;
        sum.sum += more.sum;
        if let Some(column) = columns.iter().find(|column| column.aggregate == at) {
            sum.extreme = column.best(sum.extreme.take(), more.extreme);
        }
    }
}
