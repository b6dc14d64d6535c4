//! What the mapping says of records it gave up: its own on-failure messages, as input.
//!
//! They reach a function as messages of a queue ([`of_queue`]), or as an event of its own
//! ([`recognise`]): a topic's, a bucket's notification of a new object, or the document by hand;
//! a topic's or a bucket's may also stand inside a queue's message. Separate from the stream
//! events because such a message tells positions, not records; fetching those is `fetch`'s
//! part, and whether it is believed `rescue`'s. It keeps one invariant: what is not known for
//! an on-failure message is [`Found::Other`], so that nothing else is ever taken for done.

mod document;

pub use document::{Notice, NoticeError};

use crate::event::Record;
use serde::Deserialize;
use std::str;

/// An event that carries on-failure messages, and no queue's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notices {
    /// How they came.
    pub carrier: Carrier,
    /// Every message of the event, in its order.
    pub messages: Vec<Found>,
}

/// How on-failure messages reached the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A topic.
    Topic,
    /// A bucket's notification.
    Bucket,
    /// Nothing: the event is the document.
    Direct,
}

/// What a message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Something else.
    Other,
    /// What the mapping gave up: one document, or as many objects as a bucket's notification
    /// names. What else stands beside these is an error.
    Notices(Vec<Result<Content, NoticeError>>),
    /// The message by which S3 tests where a bucket's notifications go: there is nothing to do.
    Test {
        /// The bucket.
        bucket: String,
    },
}

/// What a message brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The document itself.
    Notice(Box<Notice>),
    /// An object that holds the document: fetch it, then [`Notice::read`] it.
    Object(Object),
}

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The bucket.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// Which version, in a bucket that keeps them.
    pub version_id: Option<String>,
}

/// What the keys of the mapping's objects begin with.
/// Source: Lambda developer guide, "Capturing discarded batches for a Kinesis data stream
/// Lambda event source".
const OBJECT_PREFIX: &str = "aws/lambda/";

/// A queue's message holds a topic's, which holds a bucket's; no deeper.
const DEPTH_MAX: u32 = 3;

/// Reads an event of a topic, of a bucket or by hand that carries on-failure messages of a
/// mapping; `None` for any other, be it a stream's or a queue's records, changefold's own
/// envelopes, or no JSON at all.
#[must_use]
pub fn recognise(payload: &[u8]) -> Option<Notices> {
    let text = str::from_utf8(payload).ok().filter(|text| may_be_notice(text))?;
    let outer: Outer = serde_json::from_str(text).ok()?;
    let (carrier, messages) = match outer.records {
        None => (Carrier::Direct, vec![found(text, DEPTH_MAX)]),
        Some(records) => match records.first()?.source.as_deref()? {
            "aws:sns" => (Carrier::Topic, records.into_iter().map(of_topic).collect()),
            "aws:s3" => (Carrier::Bucket, vec![of_bucket(records)]),
            _ => return None,
        },
    };
    messages.iter().any(Found::is_ours).then_some(Notices { carrier, messages })
}

/// What each of a queue's messages is; `None` if none of them is an on-failure message, as in
/// nearly every batch.
#[must_use]
pub fn of_queue(records: &[Record<'_>]) -> Option<Vec<Found>> {
    if !records.first().is_some_and(|record| record.source().is_queue()) {
        return None;
    }
    let of_message = |record: &Record<'_>| {
        // A body that cannot be read is an error of its record.
        let body = record.data().ok().flatten();
        let text = body.and_then(|body| str::from_utf8(body).ok());
        text.filter(|text| may_be_notice(text)).map_or(Found::Other, |text| found(text, DEPTH_MAX))
    };
    // Spares other batches the reading of their bodies. AWS writes none of the words escaped.
    if !records.iter().any(|record| may_be_notice(record.raw())) {
        return None;
    }
    let messages: Vec<Found> = records.iter().map(of_message).collect();
    messages.iter().any(Found::is_ours).then_some(messages)
}

/// Nearly every text is another one, so they are told apart by a search for a few words before
/// anything is parsed.
fn may_be_notice(text: &str) -> bool {
    ["BatchInfo", "aws:s3", "s3:TestEvent"].iter().any(|word| text.contains(word))
}

impl Found {
    fn is_ours(&self) -> bool {
        !matches!(self, Self::Other)
    }
}

/// Members an event, a document or a message may have: whatever is there tells what it is.
#[derive(Deserialize)]
struct Outer {
    #[serde(rename = "Records")]
    records: Option<Vec<Carried>>,
    #[serde(rename = "TopicArn")]
    topic: Option<String>,
    #[serde(rename = "Message")]
    message: Option<String>,
    #[serde(rename = "Event")]
    event: Option<String>,
    #[serde(rename = "Bucket")]
    bucket: Option<String>,
}

/// One element of `Records`, whoever sent it.
#[derive(Deserialize)]
struct Carried {
    #[serde(rename = "eventSource", alias = "EventSource")]
    source: Option<String>,
    #[serde(rename = "eventName")]
    event_name: Option<String>,
    #[serde(rename = "Sns")]
    sns: Option<TopicMessage>,
    s3: Option<BucketMessage>,
}

#[derive(Deserialize)]
struct TopicMessage {
    #[serde(rename = "Message")]
    message: String,
}

#[derive(Deserialize)]
struct BucketMessage {
    bucket: BucketName,
    object: ObjectName,
}

#[derive(Deserialize)]
struct BucketName {
    name: String,
}

#[derive(Deserialize)]
struct ObjectName {
    key: String,
    #[serde(rename = "versionId")]
    version_id: Option<String>,
}

fn of_topic(record: Carried) -> Found {
    record.sns.map_or(Found::Other, |sns| found(&sns.message, DEPTH_MAX))
}

/// A bucket's notification. It is about on-failure objects if it names one that was created.
fn of_bucket(records: Vec<Carried>) -> Found {
    let objects = records.into_iter().map(|record| object(record).map(Content::Object));
    let contents: Vec<_> = objects.collect();
    if contents.iter().any(Result::is_ok) { Found::Notices(contents) } else { Found::Other }
}

/// What a message's text holds: a document, or another carrier around one.
fn found(text: &str, depth: u32) -> Found {
    let Ok(outer) = serde_json::from_str::<Outer>(text) else { return Found::Other };
    let Some(depth) = depth.checked_sub(1) else { return Found::Other };
    match outer {
        Outer { records: Some(records), .. } => of_bucket(records),
        Outer { topic: Some(_), message: Some(message), .. } => found(&message, depth),
        Outer { event: Some(event), bucket: Some(bucket), .. } if event == "s3:TestEvent" => {
            Found::Test { bucket }
        }
        _ => match Notice::read(text) {
            Err(error) if !error.is_of_notice() => Found::Other,
            read => Found::Notices(vec![read.map(|notice| Content::Notice(Box::new(notice)))]),
        },
    }
}

/// `ObjectCreated:Put` and its kin; some carriers write `s3:` before it.
fn is_created(event_name: Option<&str>) -> bool {
    event_name
        .is_none_or(|name| name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated:"))
}

/// The object that was created, if it is one of a mapping's.
fn object(record: Carried) -> Result<Object, NoticeError> {
    let is_created = is_created(record.event_name.as_deref());
    let s3 = record.s3.filter(|_| is_created).ok_or(NoticeError::OtherObject)?;
    let key = decoded(&s3.object.key).filter(|key| key.starts_with(OBJECT_PREFIX));
    let key = key.ok_or(NoticeError::OtherObject)?;
    Ok(Object { bucket: s3.bucket.name, key, version_id: s3.object.version_id })
}

/// Keys are written as a form's values are: `+` for a space, `%XX` for what is not plain.
/// Source: S3 user guide, "Event message structure".
fn decoded(key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
