//! The fence of a whole source: a repair that has looked at every item says when it began.
//!
//! ```text
//! pk   F#<source><kind>     f    fence, in milliseconds
//! ```
//!
//! An item that a repair has found equal is not written, so it has no fence of its own. Yet a
//! late copy of a record could take it back: of records A, B, A that were all lost the item shows
//! nothing, and then B alone comes. Such a record was created before the repair began. Every item
//! was compared after that moment, or reconciled, so what was created before it is contained in
//! what the ledger says. The row is written when the repair has come to its end and nothing was
//! left undone; the moment is that of its first reading, by the source's own clock.
//!
//! What it gives up: a copy that an invocation has in hand at the moment the repair ends may have
//! been admitted before the fence was there.

use super::entry::{FENCE, is_before};
use crate::{
    record::Timestamp,
    store::{
        Item, Store, StoreError, Trouble,
        rows::{number, number_of, text, text_of},
    },
    view::source_item::LEDGER_KEY,
};
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use std::collections::BTreeMap;

/// What the keys of the rows begin with.
const FENCE_PREFIX: &str = "F#";

/// Key of the fence of a source and the views that share ledger rows of it.
pub(crate) fn fence_key(source_arn: &str, kind: &str) -> String {
    format!("{FENCE_PREFIX}{source_arn}{kind}")
}

/// The fences that were read, by their keys.
#[derive(Debug, Default)]
pub(super) struct Fences(BTreeMap<String, Timestamp>);

impl Fences {
    /// Takes a row if it is a fence; or tells which of its attributes cannot be read.
    pub(super) fn take(&mut self, row: &Item) -> Result<bool, &'static str> {
        let Some(key) = text_of(row, LEDGER_KEY).filter(|key| key.starts_with(FENCE_PREFIX)) else {
            return Ok(false);
        };
        let fence = number_of(row, FENCE).ok_or(FENCE)?;
        self.0.insert(key.to_owned(), Timestamp(fence));
        Ok(true)
    }

    /// Whether a change that was created then is contained in what the ledger says, by the
    /// fence with this key.
    pub(super) fn contain(&self, key: Option<&str>, created: Option<Timestamp>) -> bool {
        let fence = key.and_then(|key| self.0.get(key)).copied();
        is_before(created, fence)
    }
}

/// Moves a fence forward. Never back: a later repair knows more.
///
/// # Errors
/// The store refuses, or stays unavailable until the deadline's reserve.
pub(crate) async fn advance(
    store: &Store,
    table: &str,
    (key, Timestamp(fence)): (&str, Timestamp),
    deadline: Timestamp,
) -> Result<(), StoreError> {
    let put = Put::builder()
        .table_name(table)
        .item(LEDGER_KEY, text(key))
        .item(FENCE, number(fence))
        .condition_expression("attribute_not_exists(#k) OR #f < :f")
        .expression_attribute_names("#k", LEDGER_KEY)
        .expression_attribute_names("#f", FENCE)
        .expression_attribute_values(":f", number(fence))
        .build()
        .expect("table and item are set");
    let put = TransactWriteItem::builder().put(put).build();
    match store.transact(vec![put], deadline).await {
        Err(error) if error.trouble != Trouble::Guard => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_told_from_the_rows_of_items() {
        let mut fences = Fences::default();
        let key = fence_key("arn:aws:dynamodb:us-east-1:1:table/orders", "");
        let row = |key: &str, fence| {
            Item::from([(LEDGER_KEY.to_owned(), text(key)), (FENCE.to_owned(), fence)])
        };
        assert_eq!(fences.take(&row("K#orders#S1:a", number(7))), Ok(false));
        assert_eq!(fences.take(&row(&key, text("soon"))), Err(FENCE));
        assert_eq!(fences.take(&row(&key, number(100_000))), Ok(true));
        assert!(fences.contain(Some(&key), Some(Timestamp(94_999))));
        assert!(!fences.contain(Some(&key), Some(Timestamp(95_000))));
        assert!(!fences.contain(None, Some(Timestamp(0))));
        assert!(!fences.contain(Some("F#another"), Some(Timestamp(0))));
    }
}
