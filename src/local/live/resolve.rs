//! The stream behind a name: a table's, or one of Kinesis.

use super::LiveError;
use crate::{
    local::mapping::RETENTION_HOURS,
    record::Timestamp,
    recovery::{
        services::{CallError, Services},
        stream::Clients,
    },
};

/// A call that finds a stream may take so long.
const PATIENCE_MS: i64 = 10_000;

/// A stream that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its ARN.
    pub arn: String,
    /// `StreamViewType` of a table's stream.
    pub view_type: Option<String>,
    /// For how long it keeps a record, in seconds.
    pub retention_s: u32,
}

impl Found {
    /// Whether views can be made of what it says.
    #[must_use]
    pub fn has_new_images(&self) -> bool {
        self.view_type.as_deref().is_none_or(|it| it == "NEW_IMAGE" || it == "NEW_AND_OLD_IMAGES")
    }
}

fn deadline(services: &Services) -> Timestamp {
    Timestamp(services.clock().now().0.saturating_add(PATIENCE_MS))
}

fn fails(what: &'static str, name: &str, url: Option<&str>, error: CallError) -> LiveError {
    let place = url.map(str::to_owned);
    if error.code == "ResourceNotFoundException" {
        return LiveError::Missing { what, name: name.to_owned(), place };
    }
    let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
    LiveError::Call { place: format!("{what} {name}{place}"), error }
}

/// The stream of a table.
///
/// # Errors
/// There is no such table, it has no stream, or it cannot be asked.
pub async fn table_stream(
    services: &Services,
    dynamodb: &aws_sdk_dynamodb::Client,
    table: &str,
) -> Result<Found, LiveError> {
    let request = dynamodb.describe_table().table_name(table);
    let answer = services
        .call("DescribeTable", deadline(services), || request.clone().send())
        .await
        .map_err(|error| {
            fails("table", table, services.endpoints.dynamodb_streams.url.as_deref(), error)
        })?;
    let table_found = answer.table.as_ref();
    let specification = table_found.and_then(|table| table.stream_specification());
    let view_type = specification
        .filter(|it| it.stream_enabled())
        .and_then(|it| it.stream_view_type())
        .map(|it| it.as_str().to_owned());
    match (table_found.and_then(|table| table.latest_stream_arn()), view_type) {
        (Some(arn), Some(view_type)) => {
            let retention_s = RETENTION_HOURS * 3_600;
            Ok(Found { arn: arn.to_owned(), view_type: Some(view_type), retention_s })
        }
        _ => Err(LiveError::NoStream(table.to_owned())),
    }
}

/// A stream of Kinesis, by its name.
///
/// # Errors
/// There is no such stream, or it cannot be asked.
pub async fn kinesis_stream(services: &Services, name: &str) -> Result<Found, LiveError> {
    let clients = Clients::new(services);
    let request = clients.kinesis.describe_stream_summary().stream_name(name);
    let answer = services
        .call("DescribeStreamSummary", deadline(services), || request.clone().send())
        .await
        .map_err(|error| fails("stream", name, services.endpoints.kinesis.url.as_deref(), error))?;
    let summary = answer.stream_description_summary;
    let hours = summary.as_ref().and_then(|it| u32::try_from(it.retention_period_hours).ok());
    let retention_s = hours.filter(|it| *it > 0).unwrap_or(RETENTION_HOURS).saturating_mul(3_600);
    let arn = summary.map(|summary| summary.stream_arn).unwrap_or_default();
    Ok(Found { arn, view_type: None, retention_s })
}
