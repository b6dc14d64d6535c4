//! The values of groups, counted: what min, max and distinct aggregates are computed from.
//!
//! ```text
//! pk   <view>~<generation>#<aggregate>#<group's key>     n    how many items have the value
//! sk   the value, in the order of values                 g    the group's key, where pk has a hash
//! ```
//!
//! A row for each value that an item of a group has, and none for the others. When the last item
//! with the smallest value leaves, the next one is the first row that is left. The rows change in
//! the transaction of the ledger rows and the group's row (`ledger/settle`).
//!
//! One table has the rows of all views of a ledger, beside the ledger and named after it. It is
//! one table to set up, and one right; a view that is added needs nothing. It can be one because
//! a sort key in the order of values (`scalar::encode_value`) takes numbers and texts; with
//! `DynamoDB`'s own order there would be one for each, and for each view. Aggregates with the same
//! argument share rows: `min(x)`, `max(x)` and `count(DISTINCT x)` cost what one of them costs.
//!
//! It is separate because three write such rows: the ledger, a repair and a drop. What it gives
//! up: texts of more than 1,023 bytes, whose items are quarantined.

use super::{definition::View, registry::RegistryError, rows::ValueKey, source_item::hashed};
use crate::{
    record::Timestamp,
    store::{
        Item, Store,
        rows::{RowKey, number, number_of, text, text_of},
    },
};
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update,
};

/// Behind the ledger table's name.
const TABLE_SUFFIX: &str = "-values";
/// Names of the table's two key attributes; the second one sorts.
pub(crate) const VALUE_KEYS: [&str; 2] = ["pk", "sk"];
const ITEMS: &str = "n";
const GROUP: &str = "g";
/// What stands for a group's key that is too long.
const HASHED: &str = "h:";
/// `DynamoDB` takes so many bytes of a partition key.
pub(crate) const PARTITION_BYTES_MAX: usize = 2_048;

/// The name of the table with the values of a ledger's views.
#[must_use]
pub fn table_name(ledger_table: &str) -> String {
    format!("{ledger_table}{TABLE_SUFFIX}")
}

/// What the partition keys of a view's generation begin with. The name of a view has no `~`.
pub(crate) fn place(view: &str, generation: u32) -> String {
    format!("{view}~{generation}#")
}

/// The values that one aggregate keeps of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) key: String,
    /// The group's key, if the partition's key has a hash of it.
    hashed: Option<String>,
}

impl Partition {
    pub(crate) fn new(place: &str, keeper: usize, group: &str) -> Self {
        let key = format!("{place}{keeper}#{group}");
        if key.len() <= PARTITION_BYTES_MAX {
            return Self { key, hashed: None };
        }
        Self { key: format!("{place}{keeper}#{}", hashed(group)), hashed: Some(group.to_owned()) }
    }

    /// Where the row of a value is.
    pub(crate) fn row<'t>(&self, table: &'t str, sort_key: &str) -> RowKey<'t> {
        RowKey { table, key: key_item(&self.key, sort_key) }
    }

    /// The row that says that so many items have a value.
    pub(crate) fn item(&self, sort_key: &str, items: u64) -> Item {
        let mut item = key_item(&self.key, sort_key);
        item.insert(ITEMS.to_owned(), number(items));
        item.extend(self.hashed.as_ref().map(|group| (GROUP.to_owned(), text(group))));
        item
    }

    /// The part of a transaction by which so many items more have a value; none if that changes
    /// nothing.
    ///
    /// It holds only if the value was there as it was read, or was not, and is there then or is
    /// not: that is all that the group's row follows from. Where it is there before and after,
    /// the number is added to, so that two who count one value do not hinder each other.
    pub(crate) fn counted(
        &self,
        table: &str,
        sort_key: &str,
        (read, new): (u64, u64),
    ) -> Option<TransactWriteItem> {
        if read == new {
            return None;
        }
        if read == 0 || new == 0 {
            let condition = match read {
                0 => ("attribute_not_exists(#n)", None),
                read => ("#n = :n", Some(number(read))),
            };
            return Some(self.set_if(table, sort_key, new, Some(condition)));
        }
        let more = i128::from(new) - i128::from(read);
        let amount = AttributeValue::N(more.to_string());
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(key_item(&self.key, sort_key)))
            .update_expression("ADD #n :more")
            .expression_attribute_names("#n", ITEMS)
            .expression_attribute_values(":more", amount);
        let update = if more > 0 {
            update.condition_expression("attribute_exists(#n)")
        } else {
            // At least one is left.
            update
                .condition_expression("#n > :gone")
                .expression_attribute_values(":gone", number(read - new))
        };
        let update = update.build().expect("table, key and expression are set");
        Some(TransactWriteItem::builder().update(update).build())
    }

    /// The part of a transaction that makes so many items have a value, whatever was there.
    pub(crate) fn set(&self, table: &str, sort_key: &str, items: u64) -> TransactWriteItem {
        self.set_if(table, sort_key, items, None)
    }

    fn set_if(
        &self,
        table: &str,
        sort_key: &str,
        items: u64,
        condition: Option<(&str, Option<AttributeValue>)>,
    ) -> TransactWriteItem {
        let names = condition.as_ref().map(|_| [("#n".to_owned(), ITEMS.to_owned())].into());
        let (condition, value) = condition.unzip();
        let condition = condition.map(str::to_owned);
        let values = value.flatten().map(|value| [(":n".to_owned(), value)].into());
        let action = TransactWriteItem::builder();
        if items == 0 {
            let key = key_item(&self.key, sort_key);
            let delete = Delete::builder().table_name(table).set_key(Some(key));
            let delete = delete
                .set_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values);
            return action.delete(delete.build().expect("table and key are set")).build();
        }
        let put = Put::builder().table_name(table).set_item(Some(self.item(sort_key, items)));
        let put = put
            .set_condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values);
        action.put(put.build().expect("table and item are set")).build()
    }
}

/// The part of a transaction that holds only if a value's row is there.
pub(crate) fn is_there(table: &str, partition: &str, sort_key: &str) -> TransactWriteItem {
    let check = ConditionCheck::builder()
        .table_name(table)
        .set_key(Some(key_item(partition, sort_key)))
        .condition_expression("attribute_exists(#n)")
        .expression_attribute_names("#n", ITEMS)
        .build()
        .expect("table, key and condition are set");
    TransactWriteItem::builder().condition_check(check).build()
}

/// The keys of a value's row.
pub(crate) fn key_item(partition: &str, sort_key: &str) -> Item {
    let [pk, sk] = VALUE_KEYS.map(str::to_owned);
    Item::from([(pk, text(partition)), (sk, text(sort_key))])
}

/// How many items have a value, by its row; none if it is not as changefold writes it.
pub(crate) fn items_of(row: &Item) -> Option<u64> {
    number_of(row, ITEMS)
}

/// Keys of a row.
pub(crate) fn keys_of(row: &Item) -> Option<(&str, &str)> {
    let [pk, sk] = VALUE_KEYS;
    Some((text_of(row, pk)?, text_of(row, sk)?))
}

/// Which value of which group a row is about, if it is one of the view with this place.
pub(crate) fn meant<'r>(row: &'r Item, place: &str) -> Option<(&'r str, ValueKey)> {
    let (partition, sort_key) = keys_of(row)?;
    let (keeper, group) = partition.strip_prefix(place)?.split_once('#')?;
    let group = if group.starts_with(HASHED) { text_of(row, GROUP)? } else { group };
    let keeper = keeper.parse().ok()?;
    Some((group, ValueKey { keeper, sort_key: sort_key.to_owned() }))
}

/// Refuses where views keep values, or join, and the table for them is not there, or is another.
///
/// # Errors
/// It is not; or the store does not answer.
pub(crate) async fn has_table(
    (store, ledger_table): (&Store, &str),
    views: impl IntoIterator<Item = &View>,
    deadline: Timestamp,
) -> Result<(), RegistryError> {
    let Some(view) = views.into_iter().find(|view| view.needs_values_table()) else {
        return Ok(());
    };
    let table = table_name(ledger_table);
    let row = Partition::new(&place(&view.name, 1), 0, "-").row(&table, "Z");
    match store.read(&[row], deadline).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match &*error.code {
            // The second one tells of other keys.
            "ResourceNotFoundException" | "ValidationException" => {
                RegistryError::ValuesTableMissing { view: view.name.clone(), table }
            }
            _ => error.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_known_by_its_keys_however_long_the_group() {
        for group in ["-", "S2:EUZ", &format!("S2000:{}", "é".repeat(1_000))] {
            let partition = Partition::new(&place("totals", 2), 3, group);
            assert!(partition.key.len() <= PARTITION_BYTES_MAX);
            let action = partition.counted("t", "N1", (0, 2)).unwrap();
            let row = action.put().unwrap().item().clone();
            assert_eq!(items_of(&row), Some(2));
            let key = ValueKey { keeper: 3, sort_key: "N1".to_owned() };
            assert_eq!(meant(&row, "totals~2#"), Some((group, key)));
            for other in ["totals~20#", "totals~1#", "total~2#"] {
                assert_eq!(meant(&row, other), None);
            }
        }
    }

    #[test]
    fn a_count_is_written_only_where_there_is_one() {
        let partition = Partition::new("v~1#", 0, "-");
        assert!(partition.counted("t", "N1", (2, 2)).is_none());
        let gone = partition.counted("t", "N1", (1, 0)).unwrap();
        assert_eq!(gone.delete().unwrap().condition_expression(), Some("#n = :n"));
        let new = partition.counted("t", "N1", (0, 2)).unwrap();
        assert_eq!(new.put().unwrap().condition_expression(), Some("attribute_not_exists(#n)"));
        let set = partition.set("t", "N1", 2);
        assert_eq!(set.put().unwrap().condition_expression(), None);
    }

    #[test]
    fn a_value_that_others_have_is_counted_without_its_number() {
        let partition = Partition::new("v~1#", 0, "-");
        for ((read, new), condition, amounts) in [
            ((1, 3), "attribute_exists(#n)", [(":more", "2")].as_slice()),
            ((5, 2), "#n > :gone", &[(":gone", "3"), (":more", "-3")]),
        ] {
            let action = partition.counted("t", "N1", (read, new)).unwrap();
            let update = action.update().unwrap();
            assert_eq!(update.condition_expression(), Some(condition));
            assert_eq!(update.update_expression(), "ADD #n :more");
            let values = update.expression_attribute_values().unwrap();
            let mut found: Vec<_> = values
                .iter()
                .map(|(name, it)| (name.as_str(), it.as_n().unwrap().as_str()))
                .collect();
            found.sort_unstable();
            assert_eq!(found, amounts);
        }
    }
}
