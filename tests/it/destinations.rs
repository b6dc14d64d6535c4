//! Destinations and streams against servers: what is sent is read back equal, what is
//! fetched is what was written.
//!
//! `tests/destinations.sh` starts the servers and names them in the environment; without it
//! there is nothing to run against.

mod objects;
mod rescue;
mod streams;

use crate::support::{FOREVER, block_on, config, environment, local_endpoint};
use changefold::{
    clock::SystemClock,
    recovery::{
        destination,
        fetch::Streams,
        notice::{Content, Found, Notice, Object, recognise},
        park::envelope::{Envelope, VERSION},
        services::{Endpoints, Services},
    },
    store,
};
use std::{sync::Arc, time::Duration};

fn services(url: &str) -> Services {
    let credentials = local_endpoint(None).credentials;
    let endpoints = Endpoints::new("us-east-1", &credentials, |_| Some(url.to_owned()));
    Services::new(store::network(), endpoints, Arc::new(SystemClock), 1)
}

fn envelope(number: u32, record: &str) -> Envelope {
    Envelope {
        changefold: VERSION,
        function: "orders".to_owned(),
        function_version: "7".to_owned(),
        stream_arn: "arn:aws:kinesis:us-east-1:123456789012:stream/clicks".to_owned(),
        shard_id: Some("shardId-000000000001".to_owned()),
        key: "o-1 \u{fffe}\u{ffff} ü".to_owned(),
        sequence_number: number.to_string(),
        ordinal: 0,
        error_code: "DataNotJson".to_owned(),
        error: vec!["data: expected a number".to_owned()],
        attempts: 3,
        arrived_ms: Some(1),
        first_failed_ms: 2,
        last_failed_ms: 3,
        record_encoding: None,
        record_bytes: None,
        record: record.to_owned(),
    }
}

/// Small, and too large for a topic and then for a queue unless compressed.
fn envelopes() -> Vec<Envelope> {
    let sizes = [1, 300_000, 1_100_000];
    let record = |size: usize| format!("{{\"a\":\"{}\"}}", "ab".repeat(size / 2));
    sizes.iter().zip(1..).map(|(size, number)| envelope(number, &record(*size))).collect()
}

fn same_record(found: &Envelope, sent: &Envelope) {
    assert_eq!(found.record_text().unwrap(), sent.record);
    let plain = Envelope {
        record: sent.record.clone(),
        record_encoding: None,
        record_bytes: None,
        ..found.clone()
    };
    assert_eq!(&plain, sent);
}

/// Takes every message off a queue.
async fn receive(sqs: &aws_sdk_sqs::Client, url: &str, wanted: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..50 {
        let answer = sqs.receive_message().queue_url(url).max_number_of_messages(10).send().await;
        for message in answer.unwrap().messages.unwrap_or_default() {
            let receipt = message.receipt_handle.unwrap();
            sqs.delete_message().queue_url(url).receipt_handle(receipt).send().await.unwrap();
            bodies.push(message.body.unwrap());
        }
        if bodies.len() >= wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bodies.len(), wanted);
    bodies
}

async fn queue(sqs: &aws_sdk_sqs::Client, name: &str) -> String {
    let mut request = sqs.create_queue().queue_name(name);
    if name.ends_with("fifo") {
        request = request.attributes(aws_sdk_sqs::types::QueueAttributeName::FifoQueue, "true");
    }
    request.send().await.unwrap().queue_url.unwrap()
}

fn sorted(bodies: &[String]) -> Vec<Envelope> {
    let mut found: Vec<Envelope> =
        bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    found.sort_by(|a, b| a.sequence_number.cmp(&b.sequence_number));
    found
}

#[test]
fn a_queue_gives_back_what_it_was_sent() {
    let Some(server) = environment("CHANGEFOLD_TEST_MINISTACK") else { return };
    block_on(async {
        let sqs = aws_sdk_sqs::Client::from_conf(config!(aws_sdk_sqs, &server).build());
        let url = queue(&sqs, "parked").await;
        for address in [url.as_str(), "arn:aws:sqs:us-east-1:000000000000:parked"] {
            let destination = destination::open(address, &services(&server)).unwrap();
            let sent = envelopes();
            for envelope in &sent {
                destination.send(envelope, FOREVER).await.unwrap();
            }
            let found = sorted(&receive(&sqs, &url, sent.len()).await);
            for (found, sent) in found.iter().zip(&sent) {
                same_record(found, sent);
            }
            let encodings = found.iter().map(|envelope| envelope.record_encoding.is_some());
            assert_eq!(encodings.collect::<Vec<_>>(), [false, false, true]);
        }
        let url = queue(&sqs, "parked.fifo").await;
        let destination = destination::open(&url, &services(&server)).unwrap();
        let again = Envelope { attempts: 4, ..envelope(1, "{}") };
        for envelope in [envelope(1, "{}"), envelope(1, "{}"), again.clone()] {
            destination.send(&envelope, FOREVER).await.unwrap();
        }
        let found = receive(&sqs, &url, 2).await;
        let found: Vec<Envelope> =
            found.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
        assert_eq!(found, [envelope(1, "{}"), again], "the repeat is dropped, the news is not");
        let missing = format!("{server}/000000000000/missing");
        let missing = destination::open(&missing, &services(&server)).unwrap();
        let error = missing.send(&envelope(1, "{}"), FOREVER).await.unwrap_err();
        assert!(!error.is_transient(), "{error:?}");
    });
}

#[test]
fn a_topic_passes_on_what_it_was_sent() {
    let Some(server) = environment("CHANGEFOLD_TEST_MINISTACK") else { return };
    block_on(async {
        let sqs = aws_sdk_sqs::Client::from_conf(config!(aws_sdk_sqs, &server).build());
        let sns = aws_sdk_sns::Client::from_conf(config!(aws_sdk_sns, &server).build());
        let url = queue(&sqs, "subscribed").await;
        let topic = sns.create_topic().name("parked").send().await.unwrap().topic_arn.unwrap();
        let subscribe = sns.subscribe().topic_arn(&topic).protocol("sqs");
        let subscribe = subscribe.endpoint("arn:aws:sqs:us-east-1:000000000000:subscribed");
        subscribe.send().await.unwrap();
        let destination = destination::open(&topic, &services(&server)).unwrap();
        let sent = envelopes();
        for envelope in &sent {
            destination.send(envelope, FOREVER).await.unwrap();
        }
        let bodies = receive(&sqs, &url, sent.len()).await;
        let message = |body: &String| {
            let outer: serde_json::Value = serde_json::from_str(body).unwrap();
            outer["Message"].as_str().unwrap().to_owned()
        };
        let found = sorted(&bodies.iter().map(message).collect::<Vec<_>>());
        for (found, sent) in found.iter().zip(&sent) {
            same_record(found, sent);
        }
        let encodings = found.iter().map(|envelope| envelope.record_encoding.is_some());
        assert_eq!(encodings.collect::<Vec<_>>(), [false, true, true]);
    });
}

#[test]
fn a_bucket_keeps_one_object_per_record() {
    let Some(server) = environment("CHANGEFOLD_TEST_MINISTACK") else { return };
    block_on(async {
        let config = config!(aws_sdk_s3, &server).force_path_style(true).build();
        let s3 = aws_sdk_s3::Client::from_conf(config);
        s3.create_bucket().bucket("parked").send().await.unwrap();
        let destination = destination::open("s3://parked/p", &services(&server)).unwrap();
        let sent = envelopes();
        for envelope in sent.iter().chain(&sent) {
            destination.send(envelope, FOREVER).await.unwrap();
        }
        let listed = s3.list_objects_v2().bucket("parked").send().await.unwrap();
        let keys: Vec<_> = listed.contents().iter().filter_map(|object| object.key()).collect();
        let expected = |number| format!("p/orders/clicks/shardId-000000000001/{number}-0.json");
        assert_eq!(keys, [expected(1), expected(2), expected(3)]);
        for (key, sent) in keys.iter().zip(&sent) {
            let object = s3.get_object().bucket("parked").key(*key).send().await.unwrap();
            let body = object.body.collect().await.unwrap().to_vec();
            assert_eq!(&serde_json::from_slice::<Envelope>(&body).unwrap(), sent);
        }
        the_mappings_object_is_fetched(&s3, &server).await;
    });
}

async fn the_mappings_object_is_fetched(s3: &aws_sdk_s3::Client, server: &str) {
    let document = r#"{"requestContext":{"functionArn":"f","condition":"RecordAgeExceeded"},"payload":"{\"Records\":[]}","KinesisBatchInfo":{"shardId":"s","startSequenceNumber":"1","endSequenceNumber":"1","batchSize":1,"streamArn":"a"}}"#;
    let key = "aws/lambda/8a3e/shardId-1/2026/09/17/2026-09-17T13.03.40-a(b) c";
    let body = document.as_bytes().to_vec().into();
    s3.put_object().bucket("parked").key(key).body(body).send().await.unwrap();
    let event = format!(
        r#"{{"Records":[{{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{{"bucket":{{"name":"parked"}},"object":{{"key":"{}"}}}}}}]}}"#,
        key.replace('(', "%28").replace(')', "%29").replace(' ', "+")
    );
    let notices = recognise(event.as_bytes()).unwrap();
    let Found::Notices(contents) = &notices.messages[0] else { panic!() };
    let Ok(Content::Object(object)) = &contents[0] else { panic!() };
    let streams = Streams::new(&services(server));
    let found = streams.object(object, "000000000000", FOREVER).await.unwrap();
    assert_eq!(Notice::read(&found).unwrap().payload.as_deref(), Some(r#"{"Records":[]}"#));
    let missing = Object { key: "aws/lambda/none".to_owned(), ..object.clone() };
    let error = streams.object(&missing, "000000000000", FOREVER).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
}
