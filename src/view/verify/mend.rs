//! Writes rows that are not what the ledger says, beside live traffic.
//!
//! A ledger row is never written here; that is `reconcile`'s. Each write has a guard that makes it
//! right whenever it commits:
//!
//! - A group's row is replaced by the sum of the ledger only if it is as it was read, its revision
//!   included. The revision was read before the ledger was, and every transaction that changes a
//!   contribution to the group adds to it. So none has committed since, and the sum is that of the
//!   moment of the write. A transaction that commits later adds its difference to the right row.
//! - A projection's row is deleted only if every ledger row that it may belong to is as it was
//!   read, in one transaction with it: whoever brings the row in writes that ledger row too.
//!
//! What it gives up: a function from before rows had revisions does not count its transactions.
//! Where one runs beside, during a deployment, a row could be taken for unchanged that two of its
//! transactions have changed to and fro; so repair when the deployment is over.

use super::{End, Walk, unanswered};
use crate::{
    store::{
        Item, StoreError, Trouble,
        rows::{number, text},
    },
    view::{
        definition::Shape,
        rows::{ROW_KEY, sums},
        source_item::LEDGER_KEY,
    },
};
use aws_sdk_dynamodb::types::{ConditionCheck, Delete, Put, TransactWriteItem};

impl Walk<'_> {
    /// Replaces a group's row if it is as it was stored.
    pub(super) fn row_put(
        &self,
        view: usize,
        row: Item,
        stored: Option<&Item>,
    ) -> TransactWriteItem {
        let definition = &self.views.definitions[view];
        let put = Put::builder().table_name(&self.views.view_tables[view]).set_item(Some(row));
        let put = match (stored, &definition.shape) {
            (Some(stored), Shape::Groups(groups)) => {
                let mut put = put;
                let mut conditions = Vec::new();
                let names = sums::attributes(definition, groups.aggregates.len());
                for (at, name) in names.into_iter().enumerate() {
                    let value = stored.get(&name).cloned();
                    put = put.expression_attribute_names(format!("#a{at}"), name);
                    conditions.push(match &value {
                        Some(_) => format!("#a{at} = :a{at}"),
                        None => format!("attribute_not_exists(#a{at})"),
                    });
                    if let Some(value) = value {
                        put = put.expression_attribute_values(format!(":a{at}"), value);
                    }
                }
                put.condition_expression(conditions.join(" AND "))
            }
            _ => put
                .condition_expression("attribute_not_exists(#k)")
                .expression_attribute_names("#k", ROW_KEY),
        };
        let put = put.build().expect("table and item are set");
        TransactWriteItem::builder().put(put).build()
    }

    /// Deletes a projection's row if the ledger rows have these revisions; false if it has to be
    /// looked at again.
    pub(super) async fn delete_row(
        &self,
        view: usize,
        row_key: &str,
        guards: Vec<(String, u64)>,
    ) -> Result<bool, End> {
        let guards = guards.into_iter().map(|(pk, revision)| {
            let check = ConditionCheck::builder()
                .table_name(&self.views.ledger_table)
                .key(LEDGER_KEY, text(pk));
            let check = match revision {
                0 => check
                    .condition_expression("attribute_not_exists(#k)")
                    .expression_attribute_names("#k", LEDGER_KEY),
                _ => check
                    .condition_expression("#r = :r")
                    .expression_attribute_names("#r", "rev")
                    .expression_attribute_values(":r", number(revision)),
            };
            let check = check.build().expect("table, key and condition are set");
            TransactWriteItem::builder().condition_check(check).build()
        });
        let delete = Delete::builder()
            .table_name(&self.views.view_tables[view])
            .key(ROW_KEY, text(row_key))
            .build()
            .expect("table and key are set");
        let delete = TransactWriteItem::builder().delete(delete).build();
        self.guarded(guards.chain([delete]).collect()).await
    }

    /// Runs a transaction; false if its guard does not hold, or it is not known.
    pub(super) async fn guarded(&self, actions: Vec<TransactWriteItem>) -> Result<bool, End> {
        let looks_again =
            |error: &StoreError| matches!(error.trouble, Trouble::Guard | Trouble::Unknown);
        match self.store().transact(actions, self.call.deadline).await {
            Ok(()) => Ok(true),
            Err(error) if looks_again(&error) => Ok(false),
            Err(error) => Err(unanswered(error)),
        }
    }
}
