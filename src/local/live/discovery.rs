//! The shards of a stream, listed to the last page.
//!
//! Children are listed when their parent has ended, not always at once: so the list is asked for
//! again every few seconds, and when a shard has ended.

use super::{LiveError, Notice, Reading, buffer::Buffers, listed};
use crate::{
    local::mapping::Listed,
    record::{Source, Timestamp},
    recovery::{services::CallError, stream::Clients},
};
use std::{sync::Arc, time::Duration};

/// Between two listings. AWS allows a hundred a second for Kinesis and ten for DynamoDB.
const BETWEEN: Duration = Duration::from_secs(10);
/// After a shard has ended its children may take a moment to be listed.
const AFTER_AN_END: Duration = Duration::from_secs(1);
const PATIENCE_MS: i64 = 10_000;

/// What lists the shards of one stream.
#[derive(Debug)]
pub(super) struct Discovery {
    reading: Arc<Reading>,
    clients: Arc<Clients>,
}

impl Discovery {
    pub(super) fn new(reading: Arc<Reading>, clients: Arc<Clients>) -> Self {
        Self { reading, clients }
    }

    /// The whole list.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, LiveError> {
        let listing = match self.reading.source {
            Source::Kinesis => self.kinesis().await,
            Source::DynamoDb | Source::Sqs => self.dynamodb().await,
        };
        listing.map_err(|error| {
            let name = self.reading.event_source_arn.clone();
            if error.code == "ResourceNotFoundException" {
                LiveError::Missing { what: "stream", name, place: None }
            } else {
                LiveError::Call { place: name, error }
            }
        })
    }

    /// Lists again and again. A list that cannot be had is told once and asked for again; the
    /// readers find out for themselves whether the stream is gone.
    pub(super) async fn repeat(self, buffers: Arc<Buffers>) {
        let mut is_troubled = false;
        let mut pause = BETWEEN;
        loop {
            let clock = self.clients.services.clock();
            tokio::select! {
                () = clock.sleep(pause) => pause = BETWEEN,
                () = buffers.shard_ends() => pause = AFTER_AN_END,
            }
            match self.list().await {
                Ok(listing) => {
                    is_troubled = false;
                    buffers.list(listing);
                }
                Err(LiveError::Call { place, error }) if !is_troubled => {
                    is_troubled = true;
                    (self.reading.tell)(&Notice::Trouble { place, error });
                }
                Err(_) => {}
            }
        }
    }

    fn deadline(&self) -> Timestamp {
        Timestamp(self.clients.services.clock().now().0.saturating_add(PATIENCE_MS))
    }

    async fn kinesis(&self) -> Result<Vec<Listed>, CallError> {
        let stream = self.reading.event_source_arn.split("/consumer/").next().unwrap_or_default();
        let mut listing = Vec::new();
        let mut token: Option<String> = None;
        loop {
            // A token stands for the stream, and is not taken beside its name.
            let first = token.is_none().then(|| stream.to_owned());
            let request = self.clients.kinesis.list_shards().set_stream_arn(first);
            let request = request.set_next_token(token);
            let attempt = || request.clone().send();
            let answer = self.clients.services.call("ListShards", self.deadline(), attempt).await?;
            for shard in answer.shards.unwrap_or_default() {
                let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
                listing.push(listed(&shard.shard_id, parents));
            }
            token = answer.next_token;
            if token.is_none() {
                return Ok(listing);
            }
        }
    }

    async fn dynamodb(&self) -> Result<Vec<Listed>, CallError> {
        let mut listing = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let request = self
                .clients
                .dynamodb
                .describe_stream()
                .stream_arn(&self.reading.event_source_arn)
                .set_exclusive_start_shard_id(last);
            let attempt = || request.clone().send();
            let answer =
                self.clients.services.call("DescribeStream", self.deadline(), attempt).await?;
            let Some(description) = answer.stream_description else { return Ok(listing) };
            for shard in description.shards.unwrap_or_default() {
                if let Some(shard_id) = shard.shard_id {
                    listing.push(listed(&shard_id, [shard.parent_shard_id]));
                }
            }
            last = description.last_evaluated_shard_id;
            if last.is_none() {
                return Ok(listing);
            }
        }
    }
}
