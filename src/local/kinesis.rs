//! A Kinesis on the desk: its streams, shards and records in `SQLite`, its API in JSON.
//!
//! It is the project's own. ferrokinesis, the crate there is, refuses ARNs in 11 of the 15
//! operations that take one, reads `AT_TIMESTAMP` wrong, knows no child shards and whole seconds
//! only, loses records on several threads, and writes all it holds with each put when it is to
//! survive its process; it would bring 46 crates. `SQLite` is in the tree with the embedded
//! DynamoDB.
//!
//! Everything here is a function of the tables, the request and the moment, which is passed in.
//! One call is one transaction, so what was acknowledged is there after the process is killed.
//!
//! What it gives up, beside the operations that [`SERVED`] does not name: enhanced fan-out
//! (`RegisterStreamConsumer`, `SubscribeToShard`); throttles, so no record of a `PutRecords`
//! fails alone; encryption; and the states between: a stream is `ACTIVE` as soon as it is
//! asked for.

mod error;
mod filter;
mod hash;
mod manage;
mod put;
mod read;
mod request;
mod reshard;
mod rows;
mod sequence;
mod shards;
#[cfg(test)]
mod tests;
mod token;

use crate::{local::template::ACCOUNT, record::Timestamp};
use error::{KinesisError, Result};
use rusqlite::Connection;
use serde::de::Deserialize;
use std::{
    fmt,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// The operations that are served.
const SERVED: [&str; 23] = [
    "AddTagsToStream",
    "CreateStream",
    "DecreaseStreamRetentionPeriod",
    "DeleteStream",
    "DescribeLimits",
    "DescribeStream",
    "DescribeStreamSummary",
    "GetRecords",
    "GetShardIterator",
    "IncreaseStreamRetentionPeriod",
    "ListShards",
    "ListStreams",
    "ListTagsForResource",
    "ListTagsForStream",
    "MergeShards",
    "PutRecord",
    "PutRecords",
    "RemoveTagsFromStream",
    "SplitShard",
    "TagResource",
    "UntagResource",
    "UpdateShardCount",
    "UpdateStreamMode",
];

/// The file is not one of these.
#[derive(Debug, thiserror::Error)]
#[error("the desk's Kinesis {place}: {message}")]
pub struct KinesisOpenError {
    place: String,
    message: String,
}

/// The streams of the desk.
pub(super) struct Kinesis(Mutex<Connection>);

impl fmt::Debug for Kinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kinesis")
    }
}

/// When something is asked for, and from where.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    /// Milliseconds since the Unix epoch.
    now: i64,
    region: &'a str,
}

impl Kinesis {
    /// Opens the streams in memory, or on a file that is made if it is not there.
    pub(super) fn open(file: Option<&Path>) -> std::result::Result<Self, KinesisOpenError> {
        let opened = match file {
            None => Connection::open_in_memory(),
            Some(file) => Connection::open(file),
        };
        let opened = opened.map_err(|error| error.to_string()).and_then(|connection| {
            rows::prepare(&connection)?;
            Ok(Self(Mutex::new(connection)))
        });
        opened.map_err(|message| KinesisOpenError {
            place: file.map_or_else(|| "in memory".to_owned(), |file| file.display().to_string()),
            message,
        })
    }

    /// Answers one request: the HTTP status and the body.
    pub(super) fn answer(
        &self,
        Timestamp(now): Timestamp,
        region: &str,
        operation: &str,
        body: &[u8],
    ) -> (u16, String) {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match dispatch(&mut connection, Asked { now, region }, operation, body) {
            Ok(answer) => (200, answer),
            Err(error) => (error.status(), error.to_json()),
        }
    }
}

/// One call, one transaction: what fails leaves nothing behind.
fn dispatch(
    connection: &mut Connection,
    asked: Asked<'_>,
    operation: &str,
    body: &[u8],
) -> Result<String> {
    let tables = connection.transaction()?;
    let answer = match operation {
        "AddTagsToStream" | "TagResource" => manage::add_tags(&tables, &through(body)?),
        "CreateStream" => manage::create(&tables, asked, &through(body)?),
        "DecreaseStreamRetentionPeriod" => manage::shorten(&tables, &through(body)?),
        "DeleteStream" => manage::delete(&tables, &through(body)?),
        "DescribeLimits" => manage::limits(&tables),
        "DescribeStream" => manage::describe(&tables, asked, &through(body)?),
        "DescribeStreamSummary" => manage::summary(&tables, asked, &through(body)?),
        "GetRecords" => read::records(&tables, asked, &through(body)?),
        "GetShardIterator" => read::iterator(&tables, asked, &through(body)?),
        "IncreaseStreamRetentionPeriod" => manage::lengthen(&tables, &through(body)?),
        "ListShards" => shards::list(&tables, asked, &through(body)?),
        "ListStreams" => manage::list(&tables, asked, &through(body)?),
        "ListTagsForResource" | "ListTagsForStream" => manage::tags(&tables, &through(body)?),
        "MergeShards" => shards::merge(&tables, asked, &through(body)?),
        "PutRecord" => put::record(&tables, asked, through(body)?),
        "PutRecords" => put::records(&tables, asked, through(body)?),
        "RemoveTagsFromStream" | "UntagResource" => manage::remove_tags(&tables, &through(body)?),
        "SplitShard" => shards::split(&tables, asked, &through(body)?),
        "UpdateShardCount" => shards::scale(&tables, asked, &through(body)?),
        "UpdateStreamMode" => manage::set_mode(&tables, &through(body)?),
        _ => Err(KinesisError::unserved(operation, &SERVED)),
    }?;
    tables.commit()?;
    Ok(answer)
}

fn through<'a, R: Deserialize<'a>>(body: &'a [u8]) -> Result<R> {
    serde_json::from_slice(body).map_err(|error| KinesisError::unreadable(&error))
}
