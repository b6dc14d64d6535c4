//! Single rows by their whole key: what progress and the park read and write.
//!
//! Beside the transaction of `store.rs`, because nothing here is joined with anything else:
//! each write is idempotent by itself (a set union, an absolute value, a condition), so a
//! lost answer is answered by sending it again. What it gives up: a caller that counts must
//! write the sum, not an increment.

use super::{BATCH_GET_KEYS_MAX, Item, Page, Store, StoreError, Tries, Trouble, tables::Dated};
use crate::{concurrent, record::Timestamp};
use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{
        batch_get_item::{
            BatchGetItemError, BatchGetItemOutput, builders::BatchGetItemFluentBuilder,
        },
        query::builders::QueryFluentBuilder,
    },
    types::{
        AttributeValue, KeysAndAttributes, Put, ReturnConsumedCapacity, ReturnValue,
        TransactWriteItem, Update,
    },
};
use std::collections::BTreeMap;

/// A text attribute.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(crate) fn number(value: impl std::fmt::Display + Copy) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Reads a text attribute.
pub(crate) fn text_of<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// Reads a number attribute; none if it is no number of this type.
pub(crate) fn number_of<N: std::str::FromStr>(item: &Item, name: &str) -> Option<N> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// A row of a table by its key attributes.
#[derive(Debug, Clone)]
pub(crate) struct RowKey<'t> {
    pub(crate) table: &'t str,
    pub(crate) key: Item,
}

/// Which attributes of rows are read: an expression, and what its one placeholder stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) expression: &'static str,
    pub(crate) name: (&'static str, &'static str),
}

impl Attributes {
    #[expect(clippy::disallowed_types, reason = "the SDK's own type; its order is never looked at")]
    fn names(&self) -> std::collections::HashMap<String, String> {
        let (placeholder, name) = self.name;
        [(placeholder.to_owned(), name.to_owned())].into()
    }
}

/// One change of one row, on its own or in a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) table: String,
    /// The key to update, or the whole row to put.
    pub(crate) item: Item,
    /// What an update does; a put has none.
    pub(crate) update: Option<String>,
    pub(crate) condition: Option<&'static str>,
    pub(crate) names: Vec<(String, String)>,
    pub(crate) values: Item,
}

impl Change {
    /// Replaces a row.
    pub(crate) fn put(table: &str, item: Item) -> Self {
        Self {
            table: table.to_owned(),
            item,
            update: None,
            condition: None,
            names: Vec::new(),
            values: Item::new(),
        }
    }

    /// Changes attributes of a row, which is made if it is not there.
    pub(crate) fn update(table: &str, key: Item, update: impl Into<String>) -> Self {
        Self { update: Some(update.into()), ..Self::put(table, key) }
    }

    pub(crate) fn only_if(self, condition: &'static str) -> Self {
        Self { condition: Some(condition), ..self }
    }

    pub(crate) fn name(mut self, placeholder: impl Into<String>, name: impl Into<String>) -> Self {
        self.names.push((placeholder.into(), name.into()));
        self
    }

    pub(crate) fn value(mut self, placeholder: impl Into<String>, value: AttributeValue) -> Self {
        self.values.insert(placeholder.into(), value);
        self
    }

    /// Bytes it is about, for packing transactions: DynamoDB counts names and values.
    pub(crate) fn size(&self) -> usize {
        let sizes = |item: &Item| -> usize {
            item.iter().map(|(name, value)| name.len() + size_of(value)).sum()
        };
        sizes(&self.item) + sizes(&self.values) + self.update.as_ref().map_or(0, String::len)
    }

    #[expect(clippy::disallowed_types, reason = "the SDK's own type; its order is never looked at")]
    fn name_map(&self) -> Option<std::collections::HashMap<String, String>> {
        (!self.names.is_empty()).then(|| self.names.iter().cloned().collect())
    }

    fn value_map(&self) -> Option<Item> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }

    pub(crate) fn into_action(self) -> TransactWriteItem {
        let (names, values) = (self.name_map(), self.value_map());
        let built = "table, key and expression are given";
        match self.update {
            None => TransactWriteItem::builder().put(
                Put::builder()
                    .table_name(self.table)
                    .set_item(Some(self.item))
                    .set_condition_expression(self.condition.map(str::to_owned))
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .build()
                    .expect(built),
            ),
            Some(update) => TransactWriteItem::builder().update(
                Update::builder()
                    .table_name(self.table)
                    .set_key(Some(self.item))
                    .update_expression(update)
                    .set_condition_expression(self.condition.map(str::to_owned))
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .build()
                    .expect(built),
            ),
        }
        .build()
    }
}

fn size_of(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Bs(set) => set.iter().map(|bytes| bytes.as_ref().len() + 1).sum(),
        AttributeValue::M(map) => map.iter().map(|(name, it)| name.len() + size_of(it) + 1).sum(),
        AttributeValue::L(list) => list.iter().map(|it| size_of(it) + 1).sum(),
        _ => 1,
    }
}

impl Store {
    /// Reads rows of several tables, consistently, in one round trip: a call for each hundred,
    /// several at a time. Rows that are not there are left out; the order is arbitrary.
    ///
    /// # Errors
    /// The store refuses, or stays unavailable until the deadline's reserve.
    pub(crate) async fn read(
        &self,
        keys: &[RowKey<'_>],
        deadline: Timestamp,
    ) -> Result<Vec<(String, Item)>, StoreError> {
        let chunks = keys.chunks(BATCH_GET_KEYS_MAX);
        let calls =
            chunks.map(|keys| self.read_some(keys, BatchGetItemFluentBuilder::send, deadline));
        Ok(concurrent::all_or_error(calls).await?.into_iter().flatten().collect())
    }

    /// Reads one row by its string key, consistently, and tells when that was by the store's own
    /// clock. A store that does not date its answers is believed to have our time.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn row_dated(
        &self,
        table: &str,
        (name, key): (&str, &str),
        deadline: Timestamp,
    ) -> Result<(Option<Item>, Timestamp), StoreError> {
        let (dated, asked) = (Dated::default(), self.clock().now());
        let row = RowKey { table, key: Item::from([(name.to_owned(), text(key))]) };
        let send = |request: BatchGetItemFluentBuilder| {
            let request = request.customize().interceptor(dated.clone());
            async { request.send().await }
        };
        let mut found = self.read_some(&[row], send, deadline).await?;
        Ok((found.pop().map(|(_, row)| row), dated.moment().unwrap_or(asked)))
    }

    async fn read_some<S>(
        &self,
        keys: &[RowKey<'_>],
        send: impl Fn(BatchGetItemFluentBuilder) -> S,
        deadline: Timestamp,
    ) -> Result<Vec<(String, Item)>, StoreError>
    where
        S: Future<Output = Result<BatchGetItemOutput, SdkError<BatchGetItemError>>>,
    {
        const OPERATION: &str = "BatchGetItem";
        let mut wanted: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for RowKey { table, key } in keys {
            wanted.entry((*table).to_owned()).or_default().push(key.clone());
        }
        let mut found = Vec::with_capacity(keys.len());
        let mut tries = Tries::new(deadline);
        loop {
            let mut request = self
                .client
                .batch_get_item()
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            for (table, keys) in &wanted {
                let keys = KeysAndAttributes::builder()
                    .set_keys(Some(keys.clone()))
                    .consistent_read(true)
                    .build()
                    .map_err(|error| self.rejected(OPERATION, &error.to_string()))?;
                request = request.request_items(table, keys);
            }
            let answer = send(request).await;
            let error = match self.answered(OPERATION, answer) {
                Ok(output) => {
                    self.count_read(output.consumed_capacity());
                    for (table, items) in output.responses.unwrap_or_default() {
                        found.extend(items.into_iter().map(|item| (table.clone(), item)));
                    }
                    let left = output.unprocessed_keys.unwrap_or_default();
                    wanted = left.into_iter().map(|(table, it)| (table, it.keys)).collect();
                    wanted.retain(|_, keys| !keys.is_empty());
                    if wanted.is_empty() {
                        return Ok(found);
                    }
                    StoreError {
                        trouble: Trouble::Throttled,
                        ..self.rejected(OPERATION, "keys stayed unprocessed")
                    }
                }
                Err(error) => error,
            };
            self.pause(&mut tries, error).await?;
        }
    }

    /// Makes one change. A lost answer sends it again.
    ///
    /// # Errors
    /// [`Trouble::Guard`]: its condition does not hold, or held before an answer was lost. Else
    /// as [`read`](Self::read).
    pub(crate) async fn change(
        &self,
        change: &Change,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let condition = change.condition.map(str::to_owned);
            let (names, values) = (change.name_map(), change.value_map());
            let answer = if let Some(update) = &change.update {
                let sent = self
                    .client
                    .update_item()
                    .table_name(&change.table)
                    .set_key(Some(change.item.clone()))
                    .update_expression(update)
                    .set_condition_expression(condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .send()
                    .await;
                self.answered("UpdateItem", sent).map(|output| output.consumed_capacity)
            } else {
                let sent = self
                    .client
                    .put_item()
                    .table_name(&change.table)
                    .set_item(Some(change.item.clone()))
                    .set_condition_expression(condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .send()
                    .await;
                self.answered("PutItem", sent).map(|output| output.consumed_capacity)
            };
            match answer {
                Ok(consumed) => {
                    self.count_write(consumed.as_slice());
                    return Ok(());
                }
                Err(error) => self.pause(&mut tries, error).await?,
            }
        }
    }

    /// Updates a row and gives it back as it is then. A lost answer sends it again.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub(crate) async fn update(
        &self,
        change: &Change,
        deadline: Timestamp,
    ) -> Result<Item, StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let sent = self
                .client
                .update_item()
                .table_name(&change.table)
                .set_key(Some(change.item.clone()))
                .set_update_expression(change.update.clone())
                .set_condition_expression(change.condition.map(str::to_owned))
                .set_expression_attribute_names(change.name_map())
                .set_expression_attribute_values(change.value_map())
                .return_values(ReturnValue::AllNew)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await;
            match self.answered("UpdateItem", sent) {
                Ok(output) => {
                    self.count_write(output.consumed_capacity.as_slice());
                    return Ok(output.attributes.unwrap_or_default());
                }
                Err(error) => self.pause(&mut tries, error).await?,
            }
        }
    }

    /// Makes all the changes, or none; as [`transact`](Self::transact).
    ///
    /// # Errors
    /// As [`transact`](Self::transact).
    pub(crate) async fn change_all(
        &self,
        changes: Vec<Change>,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        self.transact(changes.into_iter().map(Change::into_action).collect(), deadline).await
    }

    /// Deletes a row, which need not be there.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn delete(
        &self,
        row: &RowKey<'_>,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let sent = self
                .client
                .delete_item()
                .table_name(row.table)
                .set_key(Some(row.key.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await;
            match self.answered("DeleteItem", sent) {
                Ok(output) => {
                    self.count_write(output.consumed_capacity.as_slice());
                    return Ok(());
                }
                Err(error) => self.pause(&mut tries, error).await?,
            }
        }
    }

    /// Keys of all rows under a partition key `pk` whose sort key `sk` begins so. An empty
    /// beginning means all.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn keys(
        &self,
        (table, pk, prefix): (&str, &str, &str),
        deadline: Timestamp,
    ) -> Result<Vec<Item>, StoreError> {
        let (mut tries, mut keys, mut from) = (Tries::new(deadline), Vec::new(), None);
        let request = self.under((table, pk, prefix)).projection_expression("pk, sk");
        loop {
            let request = request.clone().set_exclusive_start_key(from);
            let page = self.page(request, &mut tries).await?;
            keys.extend(page.items);
            from = page.next;
            if from.is_none() {
                return Ok(keys);
            }
        }
    }

    /// Reads the first rows under a partition key `pk` in the order of the sort key, or the last
    /// ones from the end on, consistently.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn end_of(
        &self,
        (table, pk): (&str, &str),
        (is_last, limit): (bool, usize),
        deadline: Timestamp,
    ) -> Result<Vec<Item>, StoreError> {
        let request = self
            .under((table, pk, ""))
            .scan_index_forward(!is_last)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        Ok(self.page(request, &mut Tries::new(deadline)).await?.items)
    }

    /// Reads one page of the rows under a partition key `pk` whose sort key `sk` begins so, in
    /// the order of the sort key, consistently.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn query(
        &self,
        (table, pk, prefix): (&str, &str, &str),
        from: Option<Item>,
        (attributes, limit): (Option<&Attributes>, Option<i32>),
        deadline: Timestamp,
    ) -> Result<Page, StoreError> {
        let request = self
            .under((table, pk, prefix))
            .set_projection_expression(attributes.map(|it| it.expression.to_owned()))
            .set_expression_attribute_names(attributes.map(Attributes::names))
            .set_exclusive_start_key(from)
            .set_limit(limit);
        self.page(request, &mut Tries::new(deadline)).await
    }

    /// Reads one page of the rows of an index with this value of its partition key, in the order
    /// of its sort key or from its end on. No index over a whole table is read consistently.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn of_index(
        &self,
        (table, index, key): (&str, &str, (&str, &str)),
        (is_descending, limit): (bool, usize),
        from: Option<Item>,
        deadline: Timestamp,
    ) -> Result<Page, StoreError> {
        let request = self
            .client
            .query()
            .table_name(table)
            .index_name(index)
            .key_condition_expression("#k = :k")
            .expression_attribute_names("#k", key.0)
            .expression_attribute_values(":k", text(key.1))
            .scan_index_forward(!is_descending)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(from)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        self.page(request, &mut Tries::new(deadline)).await
    }

    /// A query of the rows under a partition key whose sort key begins so; an empty beginning
    /// means all.
    fn under(&self, (table, pk, prefix): (&str, &str, &str)) -> QueryFluentBuilder {
        let request = self
            .client
            .query()
            .table_name(table)
            .consistent_read(true)
            .expression_attribute_values(":pk", text(pk))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        if prefix.is_empty() {
            return request.key_condition_expression("pk = :pk");
        }
        request
            .key_condition_expression("pk = :pk AND begins_with(sk, :sk)")
            .expression_attribute_values(":sk", text(prefix))
    }

    /// Sends a query until it is answered.
    async fn page(
        &self,
        request: QueryFluentBuilder,
        tries: &mut Tries,
    ) -> Result<Page, StoreError> {
        loop {
            match self.answered("Query", request.clone().send().await) {
                Ok(output) => {
                    let consumed = output.consumed_capacity().map(std::slice::from_ref);
                    self.count_read(consumed.unwrap_or_default());
                    let next = output.last_evaluated_key;
                    return Ok(Page { items: output.items.unwrap_or_default(), next });
                }
                Err(error) => self.pause(tries, error).await?,
            }
        }
    }
}
