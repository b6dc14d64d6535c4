//! The tables and streams of a developer's desk: made as the template says, never changed.
//!
//! What is there already is looked at: a table with another key is refused by name, as a
//! function that was written for one key makes nothing good of another.

use super::{
    live::LiveError,
    template::{Index, StreamOfKinesis, Table},
};
use crate::{
    record::Timestamp,
    recovery::{
        services::{CallError, Services, client_config},
        stream::Clients,
    },
    store::Endpoint,
};
use aws_sdk_dynamodb::{
    error::BuildError,
    operation::create_table::CreateTableInput,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
        LocalSecondaryIndex, Projection, ProjectionType, ScalarAttributeType, StreamSpecification,
        StreamViewType, TableDescription, TimeToLiveSpecification,
    },
};
use aws_sdk_kinesis::types::{StreamMode, StreamModeDetails, StreamStatus};
use std::time::Duration;

/// Making one table or stream may take so long.
const PATIENCE_MS: i64 = 60_000;
/// Between two looks at a stream that is being made.
const PAUSE: Duration = Duration::from_millis(100);

/// A table or stream cannot be made as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// There is one of this name with another key.
    #[error(
        "table {name} is there with the key {found}, and should have {wanted}; delete it, or name \
         another --state or endpoint"
    )]
    OtherKey {
        /// The table.
        name: String,
        /// Its key.
        found: String,
        /// The template's.
        wanted: String,
    },
    /// The definition is none.
    #[error("table {name}: {error}; see its properties in the template")]
    Definition {
        /// The table.
        name: String,
        /// What is missing.
        error: BuildError,
    },
    /// It did not become active.
    #[error("stream {0} is not active after a minute; see the endpoint's own log")]
    NotActive(String),
    /// The service refuses, or cannot be reached.
    #[error(transparent)]
    Live(#[from] LiveError),
}

/// Makes what a template asks for.
#[derive(Debug)]
pub struct Maker {
    services: Services,
    clients: Clients,
    dynamodb: aws_sdk_dynamodb::Client,
}

impl Maker {
    /// Builds the clients. Does no IO.
    #[must_use]
    pub fn new(services: &Services, dynamodb: &Endpoint) -> Self {
        let config = client_config!(aws_sdk_dynamodb, services, dynamodb);
        Self {
            services: services.clone(),
            clients: Clients::new(services),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(config.build()),
        }
    }

    /// The client of the tables.
    #[must_use]
    pub fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        &self.dynamodb
    }

    fn deadline(&self) -> Timestamp {
        Timestamp(self.services.clock().now().0.saturating_add(PATIENCE_MS))
    }

    /// Makes a table that is not there; tells whether it did.
    ///
    /// # Errors
    /// It is there with another key, or DynamoDB refuses.
    pub async fn table(&self, table: &Table) -> Result<bool, MakeError> {
        let request = self.dynamodb.describe_table().table_name(&table.name);
        let described =
            self.services.call("DescribeTable", self.deadline(), || request.clone().send()).await;
        match described {
            Ok(answer) => {
                check_key(table, answer.table.as_ref())?;
                return Ok(false);
            }
            Err(error) if error.code == "ResourceNotFoundException" => {}
            Err(error) => return Err(fails("table", &table.name, error)),
        }
        let input = input(table)
            .map_err(|error| MakeError::Definition { name: table.name.clone(), error })?;
        let attempt = || {
            self.dynamodb
                .create_table()
                .set_table_name(input.table_name.clone())
                .set_attribute_definitions(input.attribute_definitions.clone())
                .set_key_schema(input.key_schema.clone())
                .set_billing_mode(input.billing_mode.clone())
                .set_stream_specification(input.stream_specification.clone())
                .set_global_secondary_indexes(input.global_secondary_indexes.clone())
                .set_local_secondary_indexes(input.local_secondary_indexes.clone())
                .send()
        };
        let made = self.services.call("CreateTable", self.deadline(), attempt).await;
        made.map_err(|error| fails("table", &table.name, error))?;
        if let Some(attribute) = &table.ttl {
            self.expire_by(&table.name, attribute).await?;
        }
        Ok(true)
    }

    async fn expire_by(&self, table: &str, attribute: &str) -> Result<(), MakeError> {
        let ttl = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true);
        let ttl =
            ttl.build().map_err(|error| MakeError::Definition { name: table.to_owned(), error })?;
        let request =
            self.dynamodb.update_time_to_live().table_name(table).time_to_live_specification(ttl);
        let attempt = || request.clone().send();
        let updated = self.services.call("UpdateTimeToLive", self.deadline(), attempt).await;
        updated.map(|_| ()).map_err(|error| fails("table", table, error))
    }

    /// Makes a stream that is not there; tells whether it did. It can be written to then.
    ///
    /// # Errors
    /// Kinesis refuses, or the stream does not become active.
    pub async fn stream(&self, stream: &StreamOfKinesis) -> Result<bool, MakeError> {
        if self.status(&stream.name).await?.is_some() {
            self.wait_until_active(&stream.name).await?;
            return Ok(false);
        }
        let mode =
            if stream.shards.is_some() { StreamMode::Provisioned } else { StreamMode::OnDemand };
        let mode = StreamModeDetails::builder().stream_mode(mode).build().ok();
        let request = self
            .clients
            .kinesis
            .create_stream()
            .stream_name(&stream.name)
            .set_shard_count(stream.shards)
            .set_stream_mode_details(mode);
        let attempt = || request.clone().send();
        let created = self.services.call("CreateStream", self.deadline(), attempt).await;
        created.map_err(|error| fails("stream", &stream.name, error))?;
        self.wait_until_active(&stream.name).await?;
        if let Some(hours) = stream.retention_hours.filter(|hours| *hours > 24) {
            let request = self
                .clients
                .kinesis
                .increase_stream_retention_period()
                .stream_name(&stream.name)
                .retention_period_hours(hours);
            let attempt = || request.clone().send();
            let kept =
                self.services.call("IncreaseStreamRetentionPeriod", self.deadline(), attempt).await;
            kept.map_err(|error| fails("stream", &stream.name, error))?;
        }
        Ok(true)
    }

    async fn wait_until_active(&self, name: &str) -> Result<(), MakeError> {
        let deadline = self.deadline();
        while self.services.clock().now() < deadline {
            if matches!(
                self.status(name).await?,
                Some(StreamStatus::Active | StreamStatus::Updating)
            ) {
                return Ok(());
            }
            self.services.clock().sleep(PAUSE).await;
        }
        Err(MakeError::NotActive(name.to_owned()))
    }

    async fn status(&self, name: &str) -> Result<Option<StreamStatus>, MakeError> {
        let request = self.clients.kinesis.describe_stream_summary().stream_name(name);
        let attempt = || request.clone().send();
        match self.services.call("DescribeStreamSummary", self.deadline(), attempt).await {
            Ok(answer) => {
                Ok(answer.stream_description_summary.map(|summary| summary.stream_status))
            }
            Err(error) if error.code == "ResourceNotFoundException" => Ok(None),
            Err(error) => Err(fails("stream", name, error)),
        }
    }
}

fn fails(what: &'static str, name: &str, error: CallError) -> MakeError {
    LiveError::Call { place: format!("{what} {name}"), error }.into()
}

fn check_key(wanted: &Table, found: Option<&TableDescription>) -> Result<(), MakeError> {
    let Some(found) = found else { return Ok(()) };
    let mut parts: Vec<&KeySchemaElement> = found.key_schema().iter().collect();
    parts.sort_by_key(|part| part.key_type() != &KeyType::Hash);
    let kind = |name: &str| {
        let attributes = found.attribute_definitions().iter();
        let mut attributes = attributes.filter(|it| it.attribute_name() == name);
        attributes.next().map_or("?", |it| it.attribute_type().as_str()).to_owned()
    };
    let found: Vec<(String, String)> = parts
        .iter()
        .map(|part| (part.attribute_name().to_owned(), kind(part.attribute_name())))
        .collect();
    let kind = |name: &String| {
        let found = wanted.attributes.iter().find(|(attribute, _)| attribute == name);
        found.map_or("?".to_owned(), |(_, kind)| kind.clone())
    };
    let key: Vec<(String, String)> =
        wanted.key.iter().map(|name| (name.clone(), kind(name))).collect();
    if found == key {
        return Ok(());
    }
    let text = |key: &[(String, String)]| {
        key.iter().map(|(name, kind)| format!("{name} ({kind})")).collect::<Vec<_>>().join(", ")
    };
    Err(MakeError::OtherKey { name: wanted.name.clone(), found: text(&found), wanted: text(&key) })
}

fn input(table: &Table) -> Result<CreateTableInput, BuildError> {
    let attributes: Vec<AttributeDefinition> = table
        .attributes
        .iter()
        .map(|(name, kind)| {
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::from(kind.as_str()))
                .build()
        })
        .collect::<Result<_, _>>()?;
    let stream = table.view_type.as_ref().map(|view_type| {
        StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::from(view_type.as_str()))
            .build()
    });
    let (local, global): (Vec<&Index>, Vec<&Index>) =
        table.indexes.iter().partition(|index| index.is_local);
    let local: Vec<LocalSecondaryIndex> = local
        .into_iter()
        .map(|index| {
            LocalSecondaryIndex::builder()
                .index_name(&index.name)
                .set_key_schema(Some(schema(&index.key)?))
                .projection(projection(index))
                .build()
        })
        .collect::<Result<_, _>>()?;
    let global: Vec<GlobalSecondaryIndex> = global
        .into_iter()
        .map(|index| {
            GlobalSecondaryIndex::builder()
                .index_name(&index.name)
                .set_key_schema(Some(schema(&index.key)?))
                .projection(projection(index))
                .build()
        })
        .collect::<Result<_, _>>()?;
    CreateTableInput::builder()
        .table_name(&table.name)
        .set_attribute_definitions(Some(attributes))
        .set_key_schema(Some(schema(&table.key)?))
        .billing_mode(BillingMode::PayPerRequest)
        .set_stream_specification(stream.transpose()?)
        .set_local_secondary_indexes(Some(local).filter(|it| !it.is_empty()))
        .set_global_secondary_indexes(Some(global).filter(|it| !it.is_empty()))
        .build()
}

fn schema(key: &[String]) -> Result<Vec<KeySchemaElement>, BuildError> {
    key.iter()
        .zip([KeyType::Hash, KeyType::Range])
        .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build())
        .collect()
}

fn projection(index: &Index) -> Projection {
    let included = Some(index.included.clone()).filter(|it| !it.is_empty());
    Projection::builder()
        .projection_type(ProjectionType::from(index.projection.as_str()))
        .set_non_key_attributes(included)
        .build()
}
