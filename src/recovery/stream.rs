//! A shard of either service, read by positions through the official SDKs.
//!
//! Separate because two read streams themselves: who fetches what the mapping gave up
//! (`fetch`), and the desk, whose mapping reads a stream as Lambda's does. Both get a record
//! as the JSON text that Lambda delivers for it, and both decide alone what a failure means:
//! here is no way through a stream, only one call after another.

mod shard;
mod text;

#[cfg(feature = "destinations")]
pub(crate) use shard::PAGE_RECORDS_MAX;
pub(crate) use shard::{Page, Position, Shard};

use super::services::{Services, client_config};

/// The clients of the two services.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    pub(crate) services: Services,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodbstreams::Client,
}

impl Clients {
    /// Builds the clients. Does no IO.
    pub(crate) fn new(services: &Services) -> Self {
        let endpoints = &services.endpoints;
        let kinesis = client_config!(aws_sdk_kinesis, services, &endpoints.kinesis);
        let dynamodb =
            client_config!(aws_sdk_dynamodbstreams, services, &endpoints.dynamodb_streams);
        Self {
            services: services.clone(),
            kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
            dynamodb: aws_sdk_dynamodbstreams::Client::from_conf(dynamodb.build()),
        }
    }
}
