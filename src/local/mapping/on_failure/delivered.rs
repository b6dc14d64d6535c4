//! What reaches each kind of destination, and under which name.
//!
//! Separate from the document because each destination wraps it in its own way: a queue's message
//! is the document, a topic's has it as text in SNS's envelope, a bucket's object has the payload
//! too and a key that tells mapping, shard and moment.

use super::{Iso8601, OnFailure};
use crate::local::mapping::{Destination, uuid::uuid};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The envelope of SNS. What a signature needs is there and empty: nothing signs here.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Notification<'a> {
    r#type: &'static str,
    message_id: String,
    topic_arn: &'a str,
    message: String,
    timestamp: Iso8601,
    signature_version: &'static str,
    signature: &'static str,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: &'static str,
    #[serde(rename = "UnsubscribeURL")]
    unsubscribe_url: &'static str,
}

impl OnFailure {
    /// The body that its destination gets: a queue's message, a topic's as those get it who
    /// subscribe to the topic, or a bucket's object. None without a destination.
    ///
    /// # Panics
    /// Never: it is text and numbers.
    #[must_use]
    pub fn delivered(&self) -> Option<String> {
        let destination = self.destination.as_ref()?;
        let document = self.to_json(Some(destination));
        let Destination::Sns(topic_arn) = destination else { return Some(document) };
        let notification = Notification {
            r#type: "Notification",
            message_id: self.id("message"),
            topic_arn,
            message: document,
            timestamp: Iso8601 { at: self.timestamp, milliseconds: true },
            signature_version: "1",
            signature: "",
            signing_cert_url: "",
            unsubscribe_url: "",
        };
        Some(serde_json::to_string(&notification).expect("an envelope of text serialises"))
    }

    /// The key of a bucket's object:
    /// `aws/lambda/MAPPING/SHARD/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-UUID`.
    ///
    /// Source: Lambda developer guide, "Capturing discarded batches for a Kinesis data stream
    /// Lambda event source"; recorded from AWS.
    #[must_use]
    pub fn object_key(&self) -> String {
        let moment = Iso8601 { at: self.timestamp, milliseconds: false }.to_string();
        let moment = moment.trim_end_matches('Z').replace(':', ".");
        let day = moment.split('T').next().unwrap_or_default().replace('-', "/");
        let (mapping, shard) = (&self.identity.mapping_uuid, &self.identity.shard_id);
        format!("aws/lambda/{mapping}/{shard}/{day}/{moment}-{}", self.id("object"))
    }

    /// A UUID that follows from what was given up, so that a run can be repeated.
    fn id(&self, of: &str) -> String {
        let mut hash = Sha256::new();
        let first = self.first().map(ToString::to_string).unwrap_or_default();
        let last = self.last().map(ToString::to_string).unwrap_or_default();
        for part in [of, &self.request_id, &first, &last, self.condition.as_str()] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        uuid(&hash.finalize().into())
    }
}
