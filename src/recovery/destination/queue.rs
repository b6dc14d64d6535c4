//! A queue of Amazon SQS.
//!
//! Separate for its limit and for FIFO: there the records of one key stay in order, and a
//! repeat within five minutes is dropped. What it gives up: messages are sent one by one, so
//! that each record has an answer of its own.

use super::{Destination, DestinationError, Fifo, json, message};
use crate::{
    record::Timestamp,
    recovery::{
        park::envelope::Envelope,
        services::{CallError, Services, client_config},
    },
};
use futures_util::future::{BoxFuture, FutureExt as _};
use std::fmt;

/// The longest message, in bytes. Source: the SQS developer guide, "Amazon SQS message quotas".
const MESSAGE_BYTES_MAX: usize = 1_048_576;
/// What it was until August 2025; a queue may still be set to it.
const MESSAGE_BYTES_ONCE: usize = 262_144;

/// A queue.
pub(super) struct Queue {
    client: aws_sdk_sqs::Client,
    services: Services,
    url: String,
    is_fifo: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Queue {
    /// The endpoint is the configured one, else the one in the queue's own URL: that may be
    /// another Region's, or a VPC endpoint.
    pub(super) fn new(services: &Services, url: &str, region: Option<&str>) -> Self {
        let mut endpoint = services.endpoints.sqs.clone();
        if endpoint.url.is_none() {
            endpoint.url = origin(url).map(str::to_owned);
            if let Some(region) = region {
                region.clone_into(&mut endpoint.region);
            }
        }
        let config = client_config!(aws_sdk_sqs, services, &endpoint);
        Self {
            client: aws_sdk_sqs::Client::from_conf(config.build()),
            services: services.clone(),
            url: url.to_owned(),
            is_fifo: Fifo::is_named_by(url),
        }
    }

    async fn send_text(
        &self,
        envelope: &Envelope,
        text: &str,
        deadline: Timestamp,
    ) -> Result<(), CallError> {
        let mut request = self.client.send_message().queue_url(&self.url).message_body(text);
        if self.is_fifo {
            let fifo = Fifo::new(envelope);
            request =
                request.message_group_id(fifo.group).message_deduplication_id(fifo.deduplication);
        }
        let attempt = || request.clone().send();
        self.services.call("SendMessage", deadline, attempt).await.map(drop)
    }

    async fn send_envelope(
        &self,
        envelope: &Envelope,
        deadline: Timestamp,
    ) -> Result<(), DestinationError> {
        let text = message(&self.url, envelope, MESSAGE_BYTES_MAX)?;
        let mut sent = self.send_text(envelope, &text, deadline).await;
        if text.len() > MESSAGE_BYTES_ONCE
            && sent.as_ref().is_err_and(|error| !error.is_transient)
            && envelope.record_encoding.is_none()
        {
            // Perhaps this queue's own limit is lower; a compressed message may pass it.
            sent = self.send_text(envelope, &json(&envelope.compressed()), deadline).await;
        }
        sent.map_err(|error| DestinationError::call(&self.url, envelope, error))
    }
}

impl Destination for Queue {
    fn send<'a>(
        &'a self,
        envelope: &'a Envelope,
        deadline: Timestamp,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        self.send_envelope(envelope, deadline).boxed()
    }
}

/// Scheme and host of a URL.
fn origin(url: &str) -> Option<&str> {
    let host = url.find("://")? + 3;
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    Some(&url[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::{
        destination::Address,
        park::envelope::tests::envelope,
        services::scripted::{Answer, FOREVER, START, Script, block_on, error, ok},
    };

    const SENT: &str = r#"{"MessageId":"m"}"#;
    const URL: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/parked";

    #[track_caller]
    fn check(
        envelope: &Envelope,
        answers: impl IntoIterator<Item = Answer>,
        deadline: Timestamp,
        expected: Result<(), (bool, &str)>,
    ) -> Vec<Envelope> {
        let script = Script::new(answers);
        let address: Address = URL.parse().unwrap();
        let queue = address.open(&script.services(None));
        let sent = block_on(queue.send(envelope, deadline));
        let sent = sent.map_err(|error| (error.is_transient(), error));
        let code = |error: DestinationError| match error {
            DestinationError::Call { source, .. } => source.code,
            other => other.to_string(),
        };
        let expected = expected.map_err(|(is_transient, code)| (is_transient, code.to_owned()));
        assert_eq!(sent.map_err(|(is_transient, error)| (is_transient, code(error))), expected);
        let read = |body: &str| {
            let request: serde_json::Value = serde_json::from_str(body).unwrap();
            serde_json::from_str(request["MessageBody"].as_str().unwrap()).unwrap()
        };
        let requests = script.requests();
        assert!(requests.iter().all(|it| it.url.starts_with("https://sqs.eu-central-1.amazon")));
        requests.iter().map(|request| read(&request.body)).collect()
    }

    #[test]
    fn throttling_and_lost_answers_are_tried_again_until_the_deadline() {
        let envelope = envelope("{}");
        let throttled = || error(400, "RequestThrottled");
        check(&envelope, [throttled(), Answer::Lost, error(500, "I"), ok(SENT)], FOREVER, Ok(()));
        let expected = Err((true, "RequestThrottled"));
        check(&envelope, std::iter::repeat_n(throttled(), 16), FOREVER, expected);
        check(&envelope, [throttled()], START, expected);
        check(&envelope, [error(403, "AccessDenied")], FOREVER, Err((false, "AccessDenied")));
    }

    #[test]
    fn a_queue_with_a_lower_limit_gets_it_compressed() {
        let envelope = envelope(&"x".repeat(300_000));
        let refused = || error(400, "InvalidParameterValue");
        let sent = check(&envelope, [refused(), ok(SENT)], FOREVER, Ok(()));
        assert_eq!(sent, [envelope.clone(), envelope.compressed().into_owned()]);
        let expected = Err((false, "InvalidParameterValue"));
        check(&envelope, [refused(), refused()], FOREVER, expected);
    }

    #[test]
    fn whatever_is_sent_is_read_behind_the_queue() {
        let arn = "arn:aws:sqs:eu-central-1:123456789012:parked";
        let believed = crate::event::ParkedQueues::new([arn.to_owned()]);
        let data = |size: usize| "A\u{fffe}\u{ffff}\"\\ü\n".repeat(size / 10);
        let of_table = |size| {
            serde_json::json!({
                "eventSource": "aws:dynamodb", "eventName": "INSERT",
                "eventSourceARN": "arn:aws:dynamodb:r:1:table/t/stream/l",
                "dynamodb": {"SequenceNumber": "7", "Keys": {"k": {"S": data(10)}},
                             "NewImage": {"a": {"S": data(size)}}},
            })
        };
        let of_stream = |size| {
            let data = base64_simd::STANDARD.encode_to_string(data(size));
            serde_json::json!({
                "eventSource": "aws:kinesis", "eventSourceARN": "arn:aws:kinesis:r:1:stream/s",
                "eventID": "shardId-1:7",
                "kinesis": {"sequenceNumber": "7", "partitionKey": "p", "data": data},
            })
        };
        let of_queue = |size| {
            serde_json::json!({
                "eventSource": "aws:sqs", "eventSourceARN": arn, "messageId": "m",
                "body": data(size),
            })
        };
        let refused = || error(400, "InvalidParameterValue");
        // Plain, compressed after a refusal, and compressed because it is too long.
        for (size, answers) in [
            (1_000, vec![ok(SENT)]),
            (300_000, vec![refused(), ok(SENT)]),
            (1_500_000, vec![ok(SENT)]),
        ] {
            for record in [of_table(size), of_stream(size), of_queue(size)] {
                let record = record.to_string();
                let sent = check(&envelope(&record), answers.clone(), FOREVER, Ok(()));
                let body = json(sent.last().unwrap());
                let message = serde_json::json!({"Records": [{
                    "eventSource": "aws:sqs", "eventSourceARN": arn, "messageId": "n",
                    "body": body,
                }]});
                let message = message.to_string();
                let batch = crate::event::parse(message.as_bytes()).believing(&believed);
                let [message] = batch.records().unwrap() else { panic!("one message") };
                let inner = message.inner().unwrap().expect("the record that was sent");
                assert_eq!(inner.raw(), record);
                let wrapped = format!(r#"{{"Records":[{record}]}}"#);
                let alone = crate::event::parse(wrapped.as_bytes());
                let alone = &alone.records().unwrap()[0];
                assert!(message.data().is_ok());
                assert_eq!(message.keys(), alone.keys());
                assert_eq!(inner.data(), alone.data());
            }
        }
    }

    #[test]
    fn an_origin_is_scheme_and_host() {
        assert_eq!(origin("http://127.0.0.1:4566/0/q"), Some("http://127.0.0.1:4566"));
        assert_eq!(origin("https://host"), Some("https://host"));
        assert_eq!(origin("host/q"), None);
    }
}
