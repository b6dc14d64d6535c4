//! The first groups of a view, from its index.
//!
//! Separate because it is another way to read than by key or by a scan. The index has the groups
//! in the order of their values and says nothing of the order of equal ones. So it is read until a
//! value comes that is not among the first. What it gives up: the index is a moment behind the
//! table, and many groups with the value of the last one are all read.

use super::{ReadError, Reader};
use crate::{
    record::Timestamp,
    store::Item,
    view::{
        definition::Top,
        rows::{
            listing,
            ranked::{INDEX, RANKED},
        },
    },
};

impl Reader {
    /// The first groups in their order, each with its row as it is stored.
    pub(super) async fn first(
        &self,
        top: Top,
        deadline: Timestamp,
        looked_at: &mut impl FnMut(u64),
    ) -> Result<Vec<(listing::Read, Item)>, ReadError> {
        let (table, mut from, mut looked) = (&self.current.table, None, 0);
        let mut shown = self.shown();
        let mut found: Vec<(listing::Read, Item)> = Vec::new();
        loop {
            // One more says whether the last one has equals.
            let how = (top.is_descending, top.limit + 1);
            let page = self.store.of_index((table, INDEX, RANKED), how, from, deadline).await?;
            looked += page.items.len() as u64;
            looked_at(looked);
            from = page.next;
            for item in page.items {
                let Some(row) = shown.row(&item)? else { continue };
                let last = found.get(top.limit.saturating_sub(1));
                if last.is_some_and(|((place, _), _)| row.0.0 > place.0) {
                    from = None;
                    break;
                }
                found.push((row, item));
            }
            if from.is_none() {
                break;
            }
        }
        found.sort_unstable_by(|one, other| one.0.0.cmp(&other.0.0));
        found.truncate(top.limit);
        Ok(found)
    }
}
