//! A bucket of Amazon S3: one object per record.
//!
//! Separate because it is the only destination without a limit and without repeats: the key
//! is a pure function of the record, so that sending again overwrites. What it gives up:
//! compression, since nothing forces it and a plain document is read more easily.

use super::{Destination, DestinationError, json};
use crate::{
    record::Timestamp,
    recovery::{
        park::envelope::Envelope,
        services::{Services, client_config},
    },
};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use std::fmt::{self, Write as _};

/// A bucket and what the keys in it begin with.
pub(super) struct Bucket {
    client: aws_sdk_s3::Client,
    services: Services,
    name: String,
    prefix: String,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Bucket");
        f.field("name", &self.name).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Bucket {
    pub(super) fn new(services: &Services, name: &str, prefix: &str) -> Self {
        let endpoint = &services.endpoints.s3;
        // Servers that are not AWS have no host name for each bucket.
        let config =
            client_config!(aws_sdk_s3, services, endpoint).force_path_style(endpoint.url.is_some());
        Self {
            client: aws_sdk_s3::Client::from_conf(config.build()),
            services: services.clone(),
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    async fn send_envelope(
        &self,
        envelope: &Envelope,
        deadline: Timestamp,
    ) -> Result<(), DestinationError> {
        let key = key(&self.prefix, envelope);
        let body = Bytes::from(json(envelope));
        let attempt = || {
            self.client
                .put_object()
                .bucket(&self.name)
                .key(&key)
                .content_type("application/json")
                .body(ByteStream::from(body.clone()))
                .send()
        };
        let sent = self.services.call("PutObject", deadline, attempt).await;
        let destination = || format!("s3://{}/{key}", self.name);
        sent.map(drop).map_err(|error| DestinationError::call(&destination(), envelope, error))
    }
}

impl Destination for Bucket {
    fn send<'a>(
        &'a self,
        envelope: &'a Envelope,
        deadline: Timestamp,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        self.send_envelope(envelope, deadline).boxed()
    }
}

/// `prefix/function/stream/shard/sequence number-ordinal.json`; `-` for what is not known.
fn key(prefix: &str, envelope: &Envelope) -> String {
    let mut key = String::new();
    if !prefix.is_empty() {
        key.push_str(prefix);
        key.push('/');
    }
    let function = Some(envelope.function.as_str());
    for part in [function, envelope.stream_name(), envelope.stable_shard_id()] {
        part_of_key(&mut key, part.filter(|part| !part.is_empty()).unwrap_or("-"));
        key.push('/');
    }
    part_of_key(&mut key, &envelope.sequence_number);
    write!(key, "-{}.json", envelope.ordinal).expect("writing to a string does not fail");
    key
}

/// Appends what S3 calls safe in a key as it is, and anything else as `%XX`, so that no part
/// reaches into another.
/// Source: the S3 user guide, "Naming Amazon S3 objects".
fn part_of_key(key: &mut String, part: &str) {
    for byte in part.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'!' => {
                key.push(char::from(byte));
            }
            _ => write!(key, "%{byte:02X}").expect("writing to a string does not fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::park::envelope::tests::envelope;

    #[test]
    fn a_key_is_a_pure_function_of_the_record() {
        let kinesis = envelope("{}");
        assert_eq!(
            key("parked", &kinesis),
            "parked/orders/clicks/shardId-000000000001/4967-2.json"
        );
        let again = Envelope { attempts: 9, last_failed_ms: 7, ..kinesis.clone() };
        assert_eq!(key("", &again), "orders/clicks/shardId-000000000001/4967-2.json");
        let table = "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2026".to_owned();
        let dynamodb = Envelope { stream_arn: table, ..kinesis.clone() };
        assert_eq!(key("p", &dynamodb), "p/orders/t/-/4967-2.json");
        let strange = Envelope {
            function: "a/../b".to_owned(),
            stream_arn: String::new(),
            shard_id: None,
            ..kinesis
        };
        assert_eq!(key("p", &strange), "p/a%2F..%2Fb/-/-/4967-2.json");
    }
}
