//! Records the mapping gave up, read from the stream again by their positions.
//!
//! Separate because it is the only place that reads a stream itself. It goes page by page,
//! so a range of any length takes the memory of one page; each record becomes the JSON text
//! that Lambda delivers for it. What the stream no longer has is said, not passed over.
//!
//! What it gives up: it reads the shard, so it also brings what a filter had left out or
//! another lane of the shard had done (whoever processes them has to bear repeats), and what
//! a producer packed into one record stays packed, also where the mapping's own consumer had
//! it unpacked. `invokeIdentityArn` is left out: the stream does not know it.

mod range;

pub use range::Range;

use super::{
    notice::{Notice, Object},
    services::{CallError, Services, client_config},
    stream::{Clients, Shard},
};
use crate::record::{SequenceNumber, Source, Timestamp};
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use std::time::Duration;

/// How long a DynamoDB stream keeps a record.
/// Source: DynamoDB developer guide, "Change data capture for DynamoDB Streams".
const DYNAMODB_RETENTION: Duration = Duration::from_hours(24);
/// An on-failure object holds one event of at most 6 MiB, escaped.
const OBJECT_BYTES_MAX: usize = 64 << 20;

/// The streams, and the bucket the mapping's on-failure objects are in.
#[derive(Debug, Clone)]
pub struct Streams {
    clients: Clients,
    s3: aws_sdk_s3::Client,
}

/// Records of a range that the stream no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// How many: those given up, less those read. With a filter or a parallelization factor
    /// there were others between them, so that more may be lost. Those that were read once and
    /// trimmed since are among them.
    pub records: u64,
    /// Where they begin: position of the first, or of the last record before them.
    pub from: SequenceNumber<'static>,
    /// Position of the first record after them that is still there; `None`: nothing of the
    /// range is there from `from` on.
    pub until: Option<SequenceNumber<'static>>,
    /// Why.
    pub why: Why,
}

/// Why records are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The stream has trimmed them: they were older than it keeps records.
    Trimmed,
    /// There is no such stream or shard any more; or it is another account's.
    NoShard,
    /// The stream does not know the position: it was made anew under its old name.
    UnknownPosition,
}

/// Records could not be fetched. What is lost for good is no error: see [`Lost`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The service refused, or could not be reached in time.
    #[error("fetching {place}")]
    Call {
        /// Stream and shard, or the object.
        place: String,
        /// What the service said.
        source: CallError,
    },
    /// The deadline is near and the end of the range is not reached.
    #[error(
        "the range of {place} is not read to its end in time; a longer timeout or a later \
         delivery continues"
    )]
    OutOfTime {
        /// Stream and shard.
        place: String,
    },
    /// Something this version cannot put into words.
    #[error("{place} has {what}")]
    Unreadable {
        /// Stream and shard, or the object.
        place: String,
        /// What was found.
        what: &'static str,
    },
    /// An object too large to be the mapping's.
    #[error("{place} is larger than any on-failure object (64 MiB)")]
    ObjectTooLarge {
        /// The object.
        place: String,
    },
}

impl FetchError {
    /// Whether a later call may succeed without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Call { source, .. } => source.is_transient,
            Self::OutOfTime { .. } => true,
            Self::Unreadable { .. } | Self::ObjectTooLarge { .. } => false,
        }
    }
}

impl Streams {
    /// Builds the clients. Does no IO.
    #[must_use]
    pub fn new(services: &Services) -> Self {
        let endpoint = &services.endpoints.s3;
        let s3 =
            client_config!(aws_sdk_s3, services, endpoint).force_path_style(endpoint.url.is_some());
        Self { clients: Clients::new(services), s3: aws_sdk_s3::Client::from_conf(s3.build()) }
    }

    /// Fetches an on-failure object: the document, for [`Notice::read`]. S3 gives it only if the
    /// bucket belongs to the account `owner`.
    ///
    /// # Errors
    /// The object is not there, may not be read or is larger than the mapping's are; or S3 cannot
    /// be reached in time.
    pub async fn object(
        &self,
        object: &Object,
        owner: &str,
        deadline: Timestamp,
    ) -> Result<String, FetchError> {
        let place = || format!("s3://{}/{}", object.bucket, object.key);
        let attempt = || {
            let request = self.s3.get_object().bucket(&object.bucket).key(&object.key);
            let request = request.expected_bucket_owner(owner);
            request.set_version_id(object.version_id.clone()).send()
        };
        // The body is part of the call: one that breaks off is worth another try.
        let mut breaks = 0;
        loop {
            let answer = self.clients.services.call("GetObject", deadline, attempt).await;
            let answer = answer.map_err(|source| FetchError::Call { place: place(), source })?;
            match body(answer.body).await {
                Ok(Some(body)) => {
                    let what = "bytes that are not UTF-8, so no on-failure message";
                    return String::from_utf8(body)
                        .map_err(|_| FetchError::Unreadable { place: place(), what });
                }
                Ok(None) => return Err(FetchError::ObjectTooLarge { place: place() }),
                Err(error) if breaks == 2 => {
                    let source = CallError::broken_off("GetObject", &error);
                    return Err(FetchError::Call { place: place(), source });
                }
                Err(_) => breaks += 1,
            }
        }
    }

    /// The records of a notice, to be read page by page.
    #[must_use]
    pub fn range<'a>(&'a self, notice: &'a Notice) -> Range<'a> {
        Range::new(self, notice)
    }

    /// The shard of a notice: its parser gives no queue, which has no shards.
    fn shard<'a>(&'a self, notice: &'a Notice) -> Shard<'a> {
        Shard::new(&self.clients, notice.source, &notice.stream_arn, &notice.shard_id)
    }

    /// How long the stream will keep the first record of a notice from now on: zero if it is due,
    /// `None` if its arrival or the stream's retention is not known.
    pub async fn time_left(&self, notice: &Notice, deadline: Timestamp) -> Option<Duration> {
        let arrival = notice.first_arrival?;
        let retention = match notice.source {
            Source::DynamoDb | Source::Sqs => DYNAMODB_RETENTION,
            Source::Kinesis => self.shard(notice).kinesis_retention(deadline).await?,
        };
        let retention_ms = i64::try_from(retention.as_millis()).ok()?;
        let left_ms = arrival
            .0
            .saturating_add(retention_ms)
            .saturating_sub(self.clients.services.clock().now().0);
        Some(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)))
    }
}

/// The bytes of an object; `None` if they are too many, whatever was announced.
async fn body(mut body: ByteStream) -> Result<Option<Vec<u8>>, ByteStreamError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.try_next().await? {
        if bytes.len() + chunk.len() > OBJECT_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
