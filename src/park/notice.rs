//! What the mapping says of records it gave up: its own on-failure messages, as input.
//!
//! They reach a function as a queue's event, a topic's, a topic's inside a queue's, a
//! bucket's notification of a new object (by any of these ways), or by hand. Separate from
//! the stream events because such a message tells positions, not records; fetching those is
//! `fetch`'s part. What it gives up: an event that carries no such message at all is not
//! judged here, only passed over.

mod document;

pub use document::{Notice, NoticeError};

use serde::Deserialize;

/// An event that carries on-failure messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notices {
    /// How they came.
    pub carrier: Carrier,
    /// Every message of the event, in its order.
    pub messages: Vec<Message>,
}

/// How on-failure messages reached the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A queue: the reply may name the messages that are to come again.
    Queue,
    /// A topic.
    Topic,
    /// A bucket's notification.
    Bucket,
    /// Nothing: the event is the document.
    Direct,
}

/// One message of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The queue's message id, for the reply; none where no queue is the carrier.
    pub id: Option<String>,
    /// What is in it: one, or as many as a bucket's notification names. None at all: there
    /// is nothing to do, as for the message that tests a bucket's configuration.
    pub contents: Vec<Result<Content, NoticeError>>,
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

/// Reads an event that carries on-failure messages of a mapping; `None` for any other, be it
/// a stream's records, changefold's own envelopes, or no JSON at all.
///
/// Nearly every event is another, so they are told apart by a search for a few words before
/// anything is parsed. One such message makes the event one of these; what else is in it is
/// then an error of its message.
#[must_use]
pub fn recognise(payload: &[u8]) -> Option<Notices> {
    let text = std::str::from_utf8(payload).ok()?;
    if !["BatchInfo", "aws:s3", "s3:TestEvent"].iter().any(|word| text.contains(word)) {
        return None;
    }
    let (carrier, messages) = event(text)?;
    let contents = || messages.iter().flat_map(|message| &message.contents);
    let is_ours = |content: &Result<Content, NoticeError>| match content {
        Ok(_) => true,
        Err(error) => error.is_of_notice(),
    };
    // Of a message without contents, only the test of a configuration is known.
    let is_known = contents().any(is_ours) || contents().next().is_none();
    (is_known && !messages.is_empty()).then_some(Notices { carrier, messages })
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
}

/// One element of `Records`, whoever sent it.
#[derive(Deserialize)]
struct Carried {
    #[serde(rename = "eventSource", alias = "EventSource")]
    source: Option<String>,
    #[serde(rename = "eventName")]
    event_name: Option<String>,
    #[serde(rename = "messageId")]
    message_id: Option<String>,
    body: Option<String>,
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

fn event(text: &str) -> Option<(Carrier, Vec<Message>)> {
    let outer: Outer = serde_json::from_str(text).ok()?;
    let Some(records) = outer.records else {
        let contents = contents(text, DEPTH_MAX);
        return Some((Carrier::Direct, vec![Message { id: None, contents }]));
    };
    let carrier = match records.first()?.source.as_deref()? {
        "aws:sqs" => Carrier::Queue,
        "aws:sns" => Carrier::Topic,
        "aws:s3" => Carrier::Bucket,
        _ => return None,
    };
    let messages = records.into_iter().map(|record| Message {
        id: record.message_id.clone(),
        contents: of_record(record, DEPTH_MAX),
    });
    Some((carrier, messages.collect()))
}

fn of_record(record: Carried, depth: u32) -> Vec<Result<Content, NoticeError>> {
    if let Some(text) = record.body.or(record.sns.map(|sns| sns.message)) {
        return contents(&text, depth);
    }
    match record.s3 {
        Some(s3) if is_created(record.event_name.as_deref()) => {
            vec![object(s3).map(Content::Object)]
        }
        Some(_) => Vec::new(),
        None => vec![Err(NoticeError::UnknownShape)],
    }
}

/// What a message's text holds: a document, or another carrier around one.
fn contents(text: &str, depth: u32) -> Vec<Result<Content, NoticeError>> {
    let Ok(outer) = serde_json::from_str::<Outer>(text) else {
        return vec![Err(NoticeError::UnknownShape)];
    };
    let Some(depth) = depth.checked_sub(1) else {
        return vec![Err(NoticeError::UnknownShape)];
    };
    match outer {
        Outer { records: Some(records), .. } => {
            let is_buckets = !records.is_empty() && records.iter().all(|it| it.s3.is_some());
            if !is_buckets {
                return vec![Err(NoticeError::UnknownShape)];
            }
            records.into_iter().flat_map(|record| of_record(record, depth)).collect()
        }
        Outer { topic: Some(_), message: Some(message), .. } => contents(&message, depth),
        Outer { event: Some(event), .. } if event == "s3:TestEvent" => Vec::new(),
        _ => vec![Notice::read(text).map(|notice| Content::Notice(Box::new(notice)))],
    }
}

/// `ObjectCreated:Put` and its kin; some carriers write `s3:` before it.
fn is_created(event_name: Option<&str>) -> bool {
    event_name
        .is_none_or(|name| name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated:"))
}

fn object(s3: BucketMessage) -> Result<Object, NoticeError> {
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
