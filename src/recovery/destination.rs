//! Where records set aside are sent: a queue, a topic or a bucket, one message per record.
//!
//! Separate from the park table, which is always there: a destination tells somebody, the
//! table keeps the order. Every implementation sends the same document, the
//! [`Envelope`], and waits and gives up alike. What it gives up: delivery is at least once
//! (a lost answer sends again; a bucket keeps one object per record all the same, a FIFO
//! queue drops the repeat within five minutes), and a queue or topic refuses a record that
//! does not fit it even compressed.

mod bucket;
mod queue;
mod topic;

use super::{
    park::envelope::Envelope,
    services::{CallError, Services},
};
use crate::{hex::hex, record::Timestamp};
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

/// Takes the records set aside, one at a time.
pub trait Destination: fmt::Debug + Send + Sync {
    /// Sends one record; transient failures are tried again until shortly before the deadline.
    ///
    /// # Errors
    /// The record was not sent, or its answer was lost: sending it again is always right.
    fn send<'a>(
        &'a self,
        envelope: &'a Envelope,
        deadline: Timestamp,
    ) -> BoxFuture<'a, Result<(), DestinationError>>;
}

/// Opens the destination a setting names. Does no IO.
///
/// # Errors
/// The text names no destination; see [`Address`].
pub fn open(text: &str, services: &Services) -> Result<Box<dyn Destination>, AddressError> {
    Ok(text.parse::<Address>()?.open(services))
}

/// Name of a destination, as settings write it.
///
/// # Examples
/// ```
/// use changefold::recovery::destination::Address;
/// let queue: Address = "https://sqs.eu-west-1.amazonaws.com/123456789012/parked".parse()?;
/// assert_eq!(queue, "arn:aws:sqs:eu-west-1:123456789012:parked".parse()?);
/// let bucket: Address = "s3://parked/orders".parse()?;
/// assert_eq!(bucket.to_string(), "s3://parked/orders");
/// assert!("parked".parse::<Address>().is_err());
/// # Ok::<(), changefold::recovery::destination::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A queue, `https://…/ACCOUNT/NAME` or `arn:aws:sqs:REGION:ACCOUNT:NAME`.
    Queue {
        /// URL of the queue.
        url: String,
        /// Its Region, where the URL or ARN tells it.
        region: Option<String>,
    },
    /// A topic, `arn:aws:sns:REGION:ACCOUNT:NAME`.
    Topic {
        /// ARN of the topic.
        arn: String,
        /// Its Region.
        region: String,
    },
    /// A bucket, `s3://BUCKET/PREFIX` or `arn:aws:s3:::BUCKET`.
    Bucket {
        /// Name of the bucket.
        bucket: String,
        /// What every key begins with, without a slash at its end; may be empty.
        prefix: String,
    },
}

impl Address {
    /// Opens the destination of this name. Does no IO.
    #[must_use]
    pub fn open(&self, services: &Services) -> Box<dyn Destination> {
        match self {
            Self::Queue { url, region } => {
                Box::new(queue::Queue::new(services, url, region.as_deref()))
            }
            Self::Topic { arn, region } => Box::new(topic::Topic::new(services, arn, region)),
            Self::Bucket { bucket, prefix } => {
                Box::new(bucket::Bucket::new(services, bucket, prefix))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue { url, .. } => f.write_str(url),
            Self::Topic { arn, .. } => f.write_str(arn),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(rest) = text.strip_prefix("s3://") {
            return bucket(rest);
        }
        if let Some(rest) = text.strip_prefix("arn:") {
            return of_arn(text, rest);
        }
        let after_scheme = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let (host, path) = after_scheme.and_then(|it| it.split_once('/')).ok_or(AddressError)?;
        let has_name = path.split_once('/').is_some_and(|(account, name)| {
            !account.is_empty() && !name.is_empty() && !name.contains(['?', '#'])
        });
        if host.is_empty() || !has_name {
            return Err(AddressError);
        }
        Ok(Self::Queue { url: text.to_owned(), region: region_of_host(host) })
    }
}

fn of_arn(text: &str, rest: &str) -> Result<Address, AddressError> {
    let parts: Vec<_> = rest.splitn(5, ':').collect();
    let [partition, service, region, account, name] = parts[..] else { return Err(AddressError) };
    let is_whole = !region.is_empty() && !account.is_empty() && !name.contains([':', '/']);
    match service {
        "s3" if region.is_empty() && account.is_empty() => bucket(name),
        "sqs" if is_whole && !name.is_empty() => {
            let suffix = domain_of(partition).ok_or(AddressError)?;
            let url = format!("https://sqs.{region}.{suffix}/{account}/{name}");
            Ok(Address::Queue { url, region: Some(region.to_owned()) })
        }
        "sns" if is_whole && !name.is_empty() => {
            Ok(Address::Topic { arn: text.to_owned(), region: region.to_owned() })
        }
        _ => Err(AddressError),
    }
}

fn bucket(name: &str) -> Result<Address, AddressError> {
    let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || !bucket.chars().all(is_name) {
        return Err(AddressError);
    }
    let prefix = prefix.trim_end_matches('/').to_owned();
    Ok(Address::Bucket { bucket: bucket.to_owned(), prefix })
}

/// Domain of the AWS endpoints of a partition.
/// Source: the `dnsSuffix` of the SDKs' partition table (partitions.json).
fn domain_of(partition: &str) -> Option<&'static str> {
    match partition {
        "aws" | "aws-us-gov" => Some("amazonaws.com"),
        "aws-cn" => Some("amazonaws.com.cn"),
        "aws-eusc" => Some("amazonaws.eu"),
        _ => None,
    }
}

/// The Region in `sqs.REGION.amazonaws.com`, also of VPC endpoints, and in the old
/// `REGION.queue.amazonaws.com`; none in any other host.
fn region_of_host(host: &str) -> Option<String> {
    let labels: Vec<_> = host.split([':', '.']).collect();
    if !labels.iter().any(|label| matches!(*label, "amazonaws" | "api")) {
        return None;
    }
    let at = |wanted: &str| labels.iter().position(|label| *label == wanted);
    let region = match at("sqs").or_else(|| at("sqs-fips")) {
        Some(at) => labels.get(at + 1),
        None => at("queue").and_then(|at| labels.get(at.checked_sub(1)?)),
    };
    region.filter(|region| region.contains('-')).map(|region| (*region).to_owned())
}

/// The text names no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a destination: expected https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE, \
     arn:aws:sqs:REGION:ACCOUNT:QUEUE, arn:aws:sns:REGION:ACCOUNT:TOPIC or s3://BUCKET/PREFIX"
)]
pub struct AddressError;

/// A record was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// The service takes nothing of this size.
    #[error(
        "{destination} cannot take the record {identity}: its message has {bytes} bytes even \
         compressed, at most {limit} are allowed; name a bucket (s3://BUCKET/PREFIX) instead"
    )]
    TooLarge {
        /// The destination.
        destination: String,
        /// The record's stable name.
        identity: String,
        /// Size of the smallest message that holds the record.
        bytes: usize,
        /// The service's limit.
        limit: usize,
    },
    /// The service refused it, or could not be reached in time.
    #[error("{destination} did not take the record {identity}")]
    Call {
        /// The destination.
        destination: String,
        /// The record's stable name.
        identity: String,
        /// What the service said.
        source: CallError,
    },
}

impl DestinationError {
    /// Whether sending the same record later may succeed without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TooLarge { .. } => false,
            Self::Call { source, .. } => source.is_transient,
        }
    }

    fn call(destination: &str, envelope: &Envelope, source: CallError) -> Self {
        Self::Call { destination: destination.to_owned(), identity: envelope.identity(), source }
    }
}

/// The envelope as the text of a message of at most `limit` bytes, compressed where it has to
/// be.
fn message(
    destination: &str,
    envelope: &Envelope,
    limit: usize,
) -> Result<String, DestinationError> {
    let plain = json(envelope);
    if plain.len() <= limit {
        return Ok(plain);
    }
    let compressed = json(&envelope.compressed());
    let bytes = compressed.len().min(plain.len());
    if compressed.len() <= limit {
        return Ok(compressed);
    }
    let (destination, identity) = (destination.to_owned(), envelope.identity());
    Err(DestinationError::TooLarge { destination, identity, bytes, limit })
}

/// The document as text that SQS and SNS take: they refuse the two code points that XML has
/// no place for, which JSON may write as escapes.
/// Source: `MessageBody` of `SendMessage` in the SQS API reference.
fn json(envelope: &Envelope) -> String {
    let text = serde_json::to_string(envelope).expect("text and numbers serialise");
    if text.contains(['\u{fffe}', '\u{ffff}']) {
        return text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
    }
    text
}

/// For FIFO queues and topics: what stays in order, and what is a repeat.
///
/// The number of tries is part of the second: a record that fails again after it was taken
/// out of the queue and redriven is news, not a repeat.
struct Fifo {
    group: String,
    deduplication: String,
}

impl Fifo {
    /// The suffix is the service's own mark, in lower case only.
    fn is_named_by(name: &str) -> bool {
        name.strip_suffix(".fifo").is_some()
    }

    fn new(envelope: &Envelope) -> Self {
        Self {
            group: hash(&format!("{}\n{}", envelope.stream_arn, envelope.key)),
            deduplication: hash(&format!("{}\n{}", envelope.identity(), envelope.attempts)),
        }
    }
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::park::envelope::tests::envelope;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, Option<&str>)>) {
        let parsed = text.parse::<Address>().ok();
        let region = parsed.as_ref().and_then(|address| match address {
            Address::Queue { region, .. } => region.clone(),
            Address::Topic { region, .. } => Some(region.clone()),
            Address::Bucket { .. } => None,
        });
        let found = parsed.map(|address| (address.to_string(), region));
        let expected = expected.map(|(name, region)| (name.to_owned(), region.map(str::to_owned)));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn an_address_is_a_url_an_arn_or_a_bucket() {
        for text in [
            "https://sqs.eu-west-1.amazonaws.com/123456789012/q",
            "https://vpce-0a1.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q",
            "https://eu-west-1.queue.amazonaws.com/123456789012/q",
            "https://sqs.eu-west-1.api.aws/123456789012/q.fifo",
        ] {
            check(text, Some((text, Some("eu-west-1"))));
        }
        let local = "http://127.0.0.1:4566/000000000000/q";
        check(local, Some((local, None)));
        check(
            "arn:aws-cn:sqs:cn-north-1:123456789012:q",
            Some(("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", Some("cn-north-1"))),
        );
        let topic = "arn:aws:sns:eu-west-1:123456789012:t";
        check(topic, Some((topic, Some("eu-west-1"))));
        check("arn:aws:s3:::b", Some(("s3://b", None)));
        check("arn:aws:s3:::b/p", Some(("s3://b/p", None)));
        check("s3://b/p/q/", Some(("s3://b/p/q", None)));
        for text in [
            "",
            "parked",
            "https://sqs.eu-west-1.amazonaws.com",
            "https://sqs.eu-west-1.amazonaws.com/123456789012",
            "ftp://host/1/q",
            "s3://",
            "s3:///p",
            "s3://a bucket",
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            "arn:aws:sqs:eu-west-1:123456789012",
            "arn:aws:sqs:::q",
            "arn:aws:sns:eu-west-1:123456789012:t:subscription",
            "arn:other:sqs:eu-west-1:123456789012:q",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_message_is_compressed_only_where_it_has_to_be() {
        let record = format!("{{\"a\":\"{}\u{fffe}\u{ffff}\"}}", "x".repeat(5_000));
        let envelope = envelope(&record);
        let read = |text: &str| serde_json::from_str::<Envelope>(text).unwrap();
        let plain = message("d", &envelope, 10_000).unwrap();
        assert!(!plain.contains(['\u{fffe}', '\u{ffff}']));
        assert_eq!(read(&plain), envelope);
        let compressed = message("d", &envelope, 1_000).unwrap();
        assert!(compressed.len() <= 1_000);
        assert_eq!(read(&compressed).record_text().unwrap(), record);
        let error = message("d", &envelope, 100).unwrap_err();
        assert!(matches!(error, DestinationError::TooLarge { limit: 100, .. }));
        let text = error.to_string();
        assert!(text.contains("s3://") && text.contains(&envelope.identity()), "{text}");
    }

    #[test]
    fn what_fails_again_is_no_repeat() {
        let first = envelope("{}");
        let other_try = Envelope { attempts: 4, ..first.clone() };
        let other_record = Envelope { ordinal: 3, ..first.clone() };
        let other_key = Envelope { key: "k-2".to_owned(), ..first.clone() };
        let (a, b) = (Fifo::new(&first), Fifo::new(&other_try));
        assert_eq!(a.group, b.group);
        assert_ne!(a.deduplication, b.deduplication);
        assert_ne!(a.deduplication, Fifo::new(&other_record).deduplication);
        assert_ne!(a.group, Fifo::new(&other_key).group);
        assert_eq!(a.deduplication, Fifo::new(&other_key).deduplication);
    }
}
