//! The one DynamoDB client: AWS, any endpoint that speaks its protocol, or the embedded
//! store, all through the official SDK.
//!
//! It is separate so that everything that talks to DynamoDB meets one classification of
//! failure. The SDK's own retries are off: it would resend a transaction whose answer was
//! lost without telling us, and it cannot know that a conflict is not a duplicate. What it
//! gives up is the SDK's adaptive rate limiting; our backoff is full jitter.

#[cfg(feature = "local")]
pub mod embedded;
mod failure;
pub(crate) mod json;
mod network;
#[cfg(feature = "backfill")]
pub mod role;
pub(crate) mod rows;
pub(crate) mod tables;

pub use failure::{StoreError, Trouble};
pub use network::{Bundle, BundleError, Roots, network};

pub(crate) use crate::backoff::Tries;

use crate::{backoff::Backoff, clock::Clock, record::Timestamp};
use aws_sdk_dynamodb::{
    Client,
    config::{
        BehaviorVersion, Region, SharedCredentialsProvider, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, ConsumedCapacity, GlobalSecondaryIndex,
        KeySchemaElement, KeyType, Projection, ProjectionType, ReturnConsumedCapacity,
        ScalarAttributeType, TimeToLiveSpecification, TransactWriteItem,
    },
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use failure::{trouble_of, trouble_of_cancellation};
use rows::RowKey;
use serde::Serialize;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// An item as the SDK passes it.
#[expect(clippy::disallowed_types, reason = "the SDK's own type; its order is never looked at")]
pub type Item = std::collections::HashMap<String, AttributeValue>;

/// The most keys of one `BatchGetItem`; AWS's limit.
pub const BATCH_GET_KEYS_MAX: usize = 100;

/// The most actions of one `TransactWriteItems`; AWS's limit.
pub const ACTIONS_MAX: usize = 100;

/// How to reach DynamoDB.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// AWS Region, as in `AWS_REGION`.
    pub region: String,
    /// Another endpoint than the Region's, for local servers.
    pub url: Option<String>,
    /// Who signs the requests. Asked again when what was given has expired.
    pub credentials: SharedCredentialsProvider,
}

impl Endpoint {
    /// Has somebody else sign, unless the endpoint is plain `http`: no service of AWS is, and
    /// a server of one's own checks no signature.
    pub fn sign_with(&mut self, credentials: &SharedCredentialsProvider) {
        if checks_signatures(self.url.as_deref()) {
            self.credentials = credentials.clone();
        }
    }
}

/// Whether signatures matter to what answers there: at the Region's own endpoint, and at any
/// other that is not plain `http`.
#[must_use]
pub fn checks_signatures(url: Option<&str>) -> bool {
    url.is_none_or(|url| !url.starts_with("http://"))
}

/// DynamoDB, with every answer classified and every unit counted.
#[derive(Clone)]
pub struct Store {
    client: Client,
    backoff: Backoff,
    endpoint: String,
    usage: Arc<Mutex<Usage>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What the store has been asked, and what it said that cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// HTTP requests sent, repeated ones included.
    pub calls: u64,
    /// Write capacity units, as told in `ConsumedCapacity`.
    pub write_units: f64,
    /// Read capacity units, as told in `ConsumedCapacity`.
    pub read_units: f64,
}

impl Usage {
    /// What has been used since an earlier moment.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            write_units: self.write_units - before.write_units,
            read_units: self.read_units - before.read_units,
        }
    }
}

impl Store {
    /// Builds the client. Does no IO.
    #[must_use]
    pub fn new(
        http_client: SharedHttpClient,
        endpoint: &Endpoint,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Self {
        let mut config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(endpoint.region.clone()))
            .credentials_provider(endpoint.credentials.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(3))
                    .read_timeout(Duration::from_secs(10))
                    .build(),
            )
            .http_client(http_client);
        if let Some(url) = &endpoint.url {
            config = config.endpoint_url(url);
        }
        Self {
            client: Client::from_conf(config.build()),
            backoff: Backoff::new(clock, seed),
            endpoint: endpoint.url.clone().unwrap_or_else(|| endpoint.region.clone()),
            usage: Arc::default(),
        }
    }

    /// The clock the store backs off by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.backoff.clock()
    }

    /// Where it is: a Region, or the URL of a server.
    pub(crate) fn place(&self) -> &str {
        &self.endpoint
    }

    /// Whether it is at another endpoint than the Region's.
    pub(crate) fn has_url(&self) -> bool {
        self.endpoint.contains("://")
    }

    /// What has been used since the store was built.
    #[must_use]
    pub fn usage(&self) -> Usage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads rows by their string key, consistently; the order of the answer is arbitrary.
    ///
    /// Unprocessed keys and transient failures are tried again until the deadline's reserve.
    ///
    /// # Errors
    /// The store refuses, or stays unavailable until the reserve.
    pub async fn batch_get(
        &self,
        table: &str,
        key_name: &str,
        keys: &[String],
        deadline: Timestamp,
    ) -> Result<Vec<Item>, StoreError> {
        let row = |key: &String| RowKey {
            table,
            key: Item::from([(key_name.to_owned(), AttributeValue::S(key.clone()))]),
        };
        let rows: Vec<RowKey<'_>> = keys.iter().map(row).collect();
        Ok(self.read(&rows, deadline).await?.into_iter().map(|(_, item)| item).collect())
    }

    /// Reads one row by its string key, consistently.
    ///
    /// # Errors
    /// As [`batch_get`](Self::batch_get).
    pub async fn get(
        &self,
        table: &str,
        key_name: &str,
        key: &str,
        deadline: Timestamp,
    ) -> Result<Option<Item>, StoreError> {
        Ok(self.batch_get(table, key_name, &[key.to_owned()], deadline).await?.pop())
    }

    /// Writes all the items, or none.
    ///
    /// Conflicts and throttling, which leave nothing behind, are tried again with the same
    /// request until the deadline's reserve.
    ///
    /// # Errors
    /// [`Trouble::Guard`]: a condition failed. [`Trouble::Unknown`]: the answer was lost; the
    /// guards must be read to know. Anything else: nothing was written.
    pub async fn transact(
        &self,
        items: Vec<TransactWriteItem>,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let answer = self
                .client
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await;
            match self.answered_transaction(answer) {
                Ok(output) => {
                    self.count_write(output.consumed_capacity());
                    return Ok(());
                }
                Err(error) => match error.trouble {
                    Trouble::Conflict | Trouble::Throttled => self.pause(&mut tries, error).await?,
                    Trouble::Guard | Trouble::Unknown | Trouble::Rejected => return Err(error),
                },
            }
        }
    }

    /// Reads one page of a table, optionally only rows that match a filter.
    ///
    /// # Errors
    /// As [`batch_get`](Self::batch_get).
    pub async fn scan(
        &self,
        table: &str,
        filter: Option<&Filter>,
        from: Option<Item>,
        deadline: Timestamp,
    ) -> Result<Page, StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let mut request = self
                .client
                .scan()
                .table_name(table)
                .consistent_read(true)
                .set_exclusive_start_key(from.clone())
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            if let Some(filter) = filter {
                request = request
                    .filter_expression(filter.expression)
                    .set_expression_attribute_names(Some(filter.names()))
                    .set_expression_attribute_values(filter.values());
            }
            match self.answered("Scan", request.send().await) {
                Ok(output) => {
                    self.count_read(
                        output.consumed_capacity().map(std::slice::from_ref).unwrap_or_default(),
                    );
                    return Ok(Page {
                        items: output.items.unwrap_or_default(),
                        next: output.last_evaluated_key,
                    });
                }
                Err(error) => self.pause(&mut tries, error).await?,
            }
        }
    }

    /// Makes a table with one or two string keys (the second one sorts) and on-demand
    /// capacity, unless it is there already.
    ///
    /// # Errors
    /// The store refuses, or cannot be reached.
    pub async fn ensure_table(
        &self,
        table: &str,
        keys: &[&str],
        ttl: Option<&str>,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        self.ensure_table_with(table, keys, (ttl, None), deadline).await
    }

    /// The same with an index over all attributes.
    pub(crate) async fn ensure_table_with(
        &self,
        table: &str,
        keys: &[&str],
        (ttl, index): (Option<&str>, Option<Index>),
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let described = self.client.describe_table().table_name(table).send().await;
            match self.answered("DescribeTable", described) {
                Ok(_) => return Ok(()),
                Err(error) if error.code == "ResourceNotFoundException" => break,
                Err(error) => self.pause(&mut tries, error).await?,
            }
        }
        let built = |error: aws_sdk_dynamodb::error::BuildError| {
            self.rejected("CreateTable", &error.to_string())
        };
        let mut request =
            self.client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in keys.iter().zip([KeyType::Hash, KeyType::Range]) {
            let key = KeySchemaElement::builder().attribute_name(*name).key_type(kind);
            let attribute = AttributeDefinition::builder()
                .attribute_name(*name)
                .attribute_type(ScalarAttributeType::S);
            request = request
                .key_schema(key.build().map_err(built)?)
                .attribute_definitions(attribute.build().map_err(built)?);
        }
        if let Some(index) = index {
            let (sort_key, of_sort_key) = index.sort_key;
            let keys = [
                (index.partition_key.to_owned(), ScalarAttributeType::S, KeyType::Hash),
                (sort_key, of_sort_key, KeyType::Range),
            ];
            let projection = Projection::builder().projection_type(ProjectionType::All).build();
            let mut made = GlobalSecondaryIndex::builder().index_name(index.name);
            for (name, of_key, kind) in keys {
                let key = KeySchemaElement::builder().attribute_name(&name).key_type(kind);
                let attribute =
                    AttributeDefinition::builder().attribute_name(name).attribute_type(of_key);
                request = request.attribute_definitions(attribute.build().map_err(built)?);
                made = made.key_schema(key.build().map_err(built)?);
            }
            let made = made.projection(projection).build().map_err(built)?;
            request = request.global_secondary_indexes(made);
        }
        let created = request.send().await;
        match self.answered("CreateTable", created) {
            Ok(_) => {}
            Err(error) if error.code == "ResourceInUseException" => {}
            Err(error) => return Err(error),
        }
        self.until_active(table, deadline).await?;
        if let Some(attribute) = ttl {
            let ttl = TimeToLiveSpecification::builder()
                .attribute_name(attribute)
                .enabled(true)
                .build()
                .map_err(built)?;
            let answer = self
                .client
                .update_time_to_live()
                .table_name(table)
                .time_to_live_specification(ttl)
                .send()
                .await;
            self.answered("UpdateTimeToLive", answer)?;
        }
        Ok(())
    }

    async fn until_active(&self, table: &str, deadline: Timestamp) -> Result<(), StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let described = self.client.describe_table().table_name(table).send().await;
            let error = match self.answered("DescribeTable", described) {
                Ok(output) => {
                    let status = output.table.and_then(|table| table.table_status);
                    if status == Some(aws_sdk_dynamodb::types::TableStatus::Active) {
                        return Ok(());
                    }
                    StoreError {
                        trouble: Trouble::Throttled,
                        ..self.rejected("DescribeTable", "the new table did not become active")
                    }
                }
                Err(error) => error,
            };
            self.pause(&mut tries, error).await?;
        }
    }

    /// Waits before the next try, or gives the error back when there is no point or no time.
    async fn pause(&self, tries: &mut Tries, error: StoreError) -> Result<(), StoreError> {
        match error.trouble {
            Trouble::Guard | Trouble::Rejected => return Err(error),
            Trouble::Conflict | Trouble::Throttled | Trouble::Unknown => {}
        }
        if self.back_off(tries).await { Ok(()) } else { Err(error) }
    }

    /// A text that no other call to this, in this process or another, is likely to give.
    pub(crate) fn unique(&self) -> String {
        let Timestamp(now) = self.clock().now();
        format!("{now:x}-{:016x}", self.backoff.random())
    }

    /// Waits with full jitter; false when the tries or the time before the deadline's reserve
    /// are used up.
    pub(crate) async fn back_off(&self, tries: &mut Tries) -> bool {
        self.backoff.wait(tries).await
    }

    fn answered<T, E>(
        &self,
        operation: &'static str,
        answer: Result<T, SdkError<E>>,
    ) -> Result<T, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.count_call();
        answer.map_err(|error| {
            let trouble = match &error {
                SdkError::ServiceError(service) => {
                    trouble_of(error.code(), service.raw().status().as_u16())
                }
                SdkError::ConstructionFailure(_) => Trouble::Rejected,
                _ => Trouble::Unknown,
            };
            self.classified(operation, trouble, &error)
        })
    }

    /// As [`answered`](Self::answered), with each cancellation reason looked at: a conflict is
    /// not a duplicate, and only a failed condition is a failed guard.
    fn answered_transaction<T>(
        &self,
        answer: Result<T, SdkError<TransactWriteItemsError>>,
    ) -> Result<T, StoreError> {
        const OPERATION: &str = "TransactWriteItems";
        let Err(error) = answer else { return self.answered(OPERATION, answer) };
        if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
            error.as_service_error()
        {
            self.count_call();
            let codes =
                || cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code());
            let trouble = trouble_of_cancellation(codes());
            let mut named: Vec<_> = codes().filter(|code| *code != "None").collect();
            named.sort_unstable();
            named.dedup();
            return Err(StoreError {
                operation: OPERATION,
                endpoint: self.endpoint.clone(),
                trouble,
                code: "TransactionCanceledException".to_owned(),
                message: named.join(", "),
            });
        }
        self.answered(OPERATION, Err(error))
    }

    fn classified<E>(
        &self,
        operation: &'static str,
        trouble: Trouble,
        error: &SdkError<E>,
    ) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let code = error.code().unwrap_or(match error {
            SdkError::TimeoutError(_) => "NoAnswerInTime",
            SdkError::DispatchFailure(_) => "NotReachable",
            SdkError::ResponseError(_) => "AnswerUnreadable",
            _ => "RequestNotSent",
        });
        let message = error.message().map_or_else(
            || {
                let mut text = error.to_string();
                let mut cause = std::error::Error::source(error);
                while let Some(inner) = cause {
                    text = format!("{text}: {inner}");
                    cause = inner.source();
                }
                text
            },
            str::to_owned,
        );
        StoreError {
            operation,
            endpoint: self.endpoint.clone(),
            trouble,
            code: code.to_owned(),
            message,
        }
    }

    fn rejected(&self, operation: &'static str, message: &str) -> StoreError {
        StoreError {
            operation,
            endpoint: self.endpoint.clone(),
            trouble: Trouble::Rejected,
            code: "RequestRejected".to_owned(),
            message: message.to_owned(),
        }
    }

    fn count_call(&self) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).calls += 1;
    }

    fn count_read(&self, consumed: &[ConsumedCapacity]) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).read_units += units(consumed);
    }

    fn count_write(&self, consumed: &[ConsumedCapacity]) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).write_units += units(consumed);
    }
}

/// An index over a whole table, by a text and one more attribute.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    pub(crate) name: &'static str,
    pub(crate) partition_key: &'static str,
    /// Its name and its type.
    pub(crate) sort_key: (String, ScalarAttributeType),
}

/// One page of a scan.
#[derive(Debug)]
pub struct Page {
    /// The rows.
    pub items: Vec<Item>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Item>,
}

/// A scan's filter: one expression over one attribute `#a` and, if it compares, one text `:v`.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The filter expression.
    pub expression: &'static str,
    /// What `#a` stands for.
    pub attribute: &'static str,
    /// What `:v` stands for.
    pub value: Option<String>,
}

impl Filter {
    #[expect(clippy::disallowed_types, reason = "the SDK's own type; its order is never looked at")]
    fn names(&self) -> std::collections::HashMap<String, String> {
        [("#a".to_owned(), self.attribute.to_owned())].into()
    }

    fn values(&self) -> Option<Item> {
        let value = self.value.clone()?;
        Some(Item::from([(":v".to_owned(), AttributeValue::S(value))]))
    }
}

fn units(consumed: &[ConsumedCapacity]) -> f64 {
    consumed.iter().filter_map(ConsumedCapacity::capacity_units).sum()
}
