//! The mapping's messages by every way they come, and what is none of them.

use super::*;
use crate::{
    event,
    record::{SequenceNumber, SequenceNumberError, Source, Timestamp},
    recovery::park::envelope::tests::envelope,
};
use proptest::prelude::*;
use serde_json::json;

const DYNAMODB: &str = concat!(
    r#"{"requestContext":{"requestId":"4c1f","functionArn":"arn:aws:lambda:eu-west-1:123456789012:function:f:live","#,
    r#""condition":"RetryAttemptsExhausted","approximateInvokeCount":2},"#,
    r#""responseContext":{"statusCode":200,"executedVersion":"1","functionError":null},"#,
    r#""version":"1.0","timestamp":"2026-09-17T13:03:40.011Z","#,
    r#""DDBStreamBatchInfo":{"shardId":"shardId-00000001789649398921-b190244f","#,
    r#""startSequenceNumber":"9700001729061958505432","endSequenceNumber":"11900001787531427260892","#,
    r#""approximateArrivalOfFirstRecord":"2026-09-17T13:02:26Z","#,
    r#""approximateArrivalOfLastRecord":"2026-09-17T13:02:27Z","batchSize":3,"#,
    r#""streamArn":"arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2026-09-17T12:50:51.000"}}"#,
);
const KINESIS: &str = concat!(
    r#"{"requestContext":{"requestId":"4c1f","functionArn":"arn:aws:lambda:eu-west-1:123456789012:function:f","#,
    r#""condition":"RecordAgeExceeded","approximateInvokeCount":1},"version":"1.0","#,
    r#""payload":"{\"Records\":[{\"ApproximateCreationDateTime\":1.789651658E9}]}","#,
    r#""timestamp":"2026-09-19T09:12:00.000Z","KinesisBatchInfo":{"shardId":"shardId-000000000000","#,
    r#""startSequenceNumber":"49","endSequenceNumber":"49","#,
    r#""approximateArrivalOfFirstRecord":"2026-09-19T09:10:23.187Z","#,
    r#""approximateArrivalOfLastRecord":"2026-09-19T09:10:23.187Z","batchSize":1,"#,
    r#""streamArn":"arn:aws:kinesis:eu-west-1:123456789012:stream/s/consumer/c:1"}}"#,
);
const WINDOW: &str = concat!(
    r#"{"requestContext":{"requestId":"4c1f","functionArn":"f","condition":"RetryAttemptsExhausted"},"#,
    r#""version":"1.0","timestamp":"2026-09-17T13:03:40.011Z","#,
    r#""DDBStreamBatchInfo":{"shardId":"shardId-1","streamArn":"arn:aws:dynamodb:r:1:table/t/stream/l"},"#,
    r#""timeWindowInfo":{"window":{"start":"2026-09-17T12:50:50Z","end":"2026-09-17T12:51:00Z"},"#,
    r#""isFinalInvokeForWindow":true,"isWindowTerminatedEarly":false}}"#,
);
const KEY: &str = "aws/lambda/8a3e/shardId-1/2026/09/17/2026-09-17T13.03.40-a%28b%29+c";

fn queue(bodies: &[&str]) -> String {
    let record = |(index, body): (usize, &&str)| {
        json!({
            "messageId": format!("m-{index}"), "receiptHandle": "r", "body": body,
            "attributes": {"ApproximateReceiveCount": "1"}, "messageAttributes": {},
            "md5OfBody": "0", "eventSource": "aws:sqs", "awsRegion": "eu-west-1",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:failed",
        })
    };
    let records: Vec<_> = bodies.iter().enumerate().map(record).collect();
    json!({ "Records": records }).to_string()
}

fn topic(message: &str) -> String {
    json!({"Records": [{
        "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn",
        "Sns": {"Type": "Notification", "MessageId": "n", "TopicArn": "arn", "Subject": null,
                "Message": message, "Timestamp": "2026-09-17T13:03:40.011Z"},
    }]})
    .to_string()
}

fn topic_in_queue(message: &str) -> String {
    let body = json!({"Type": "Notification", "MessageId": "n", "TopicArn": "arn",
                      "Message": message, "Timestamp": "2026-09-17T13:03:40.011Z"});
    body.to_string()
}

fn bucket(event_name: &str, keys: &[&str]) -> String {
    let record = |key: &&str| {
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": event_name,
            "s3": {"bucket": {"name": "failed"}, "object": {"key": key, "size": 7}},
        })
    };
    json!({"Records": keys.iter().map(record).collect::<Vec<_>>()}).to_string()
}

/// What a queue's event, or another, holds.
fn found(event: &str) -> Option<Vec<Found>> {
    let batch = event::parse(event.as_bytes());
    match batch.records() {
        Ok(records) => of_queue(records),
        Err(_) => recognise(event.as_bytes()).map(|notices| notices.messages),
    }
}

fn document(text: &str) -> Found {
    Found::Notices(vec![Notice::read(text).map(|notice| Content::Notice(Box::new(notice)))])
}

#[track_caller]
fn check(event: &str, carrier: Option<Carrier>, text: &str) {
    assert_eq!(found(event), Some(vec![document(text)]), "{event}");
    assert_eq!(recognise(event.as_bytes()).map(|notices| notices.carrier), carrier, "{event}");
}

#[test]
fn the_document_is_read() {
    assert_eq!(
        Notice::read(DYNAMODB).unwrap(),
        Notice {
            source: Source::DynamoDb,
            stream_arn:
                "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2026-09-17T12:50:51.000"
                    .to_owned(),
            shard_id: "shardId-00000001789649398921-b190244f".to_owned(),
            first: SequenceNumber::new("9700001729061958505432").unwrap(),
            last: SequenceNumber::new("11900001787531427260892").unwrap(),
            batch_size: 3,
            condition: "RetryAttemptsExhausted".to_owned(),
            first_arrival: Some(Timestamp(1_789_650_146_000)),
            last_arrival: Some(Timestamp(1_789_650_147_000)),
            payload: None,
            function_arn: "arn:aws:lambda:eu-west-1:123456789012:function:f:live".to_owned(),
        }
    );
    let kinesis = Notice::read(KINESIS).unwrap();
    assert_eq!((kinesis.source, &*kinesis.condition), (Source::Kinesis, "RecordAgeExceeded"));
    assert_eq!(kinesis.first_arrival, Some(Timestamp(1_789_809_023_187)));
    let event = r#"{"Records":[{"ApproximateCreationDateTime":1.789651658E9}]}"#;
    assert_eq!(kinesis.payload.as_deref(), Some(event));
    let as_object = KINESIS
        .replace(r#""{\"Records\":[{\"ApproximateCreationDateTime\":1.789651658E9}]}""#, event);
    assert_eq!(Notice::read(&as_object).unwrap(), kinesis);
}

#[test]
fn an_arrival_may_be_missing() {
    let text = DYNAMODB.replace(r#""approximateArrivalOfFirstRecord":"2026-09-17T13:02:26Z","#, "");
    let notice = Notice::read(&text).unwrap();
    assert_eq!((notice.first_arrival, notice.batch_size), (None, 3));
}

#[test]
fn a_document_that_leads_nowhere_says_why() {
    let read = |from: &str, to: &str| Notice::read(&DYNAMODB.replace(from, to)).unwrap_err();
    assert_eq!(Notice::read(WINDOW), Err(NoticeError::Window));
    assert_eq!(read("streamArn", "x"), NoticeError::Missing { member: "streamArn" });
    assert_eq!(read("shardId\":", "x\":"), NoticeError::Missing { member: "shardId" });
    assert_eq!(read("endSeq", "x"), NoticeError::Missing { member: "endSequenceNumber" });
    assert_eq!(read("batchSize", "x"), NoticeError::Missing { member: "batchSize" });
    let source = SequenceNumberError::NotDecimal;
    let error = NoticeError::SequenceNumber { member: "startSequenceNumber", source };
    assert_eq!(read("9700001729061958505432", "A"), error);
    assert_eq!(read("9700001729061958505432", "99999999999999999999999"), NoticeError::Reversed);
    assert_eq!(read("DDBStreamBatchInfo", "KafkaBatchInfo"), NoticeError::UnknownShape);
    for text in ["", "null", "[]", "7", "{}", "{\"requestContext\":{}}"] {
        assert_eq!(Notice::read(text), Err(NoticeError::UnknownShape), "{text}");
    }
}

#[test]
fn it_comes_by_queue_topic_topic_in_queue_and_hand() {
    for document in [DYNAMODB, KINESIS] {
        check(&queue(&[document]), None, document);
        check(&topic(document), Some(Carrier::Topic), document);
        check(&queue(&[&topic_in_queue(document)]), None, document);
        check(document, Some(Carrier::Direct), document);
    }
}

#[test]
fn a_bucket_names_the_object_by_every_way() {
    let event = bucket("ObjectCreated:Put", &[KEY]);
    let object = Object {
        bucket: "failed".to_owned(),
        key: "aws/lambda/8a3e/shardId-1/2026/09/17/2026-09-17T13.03.40-a(b) c".to_owned(),
        version_id: None,
    };
    let expected = Some(vec![Found::Notices(vec![Ok(Content::Object(object))])]);
    for event in [event.clone(), topic(&event), queue(&[&event]), queue(&[&topic_in_queue(&event)])]
    {
        assert_eq!(found(&event), expected, "{event}");
    }
    let mixed = found(&bucket("ObjectCreated:Put", &[KEY, "aws/lambda%2"])).unwrap();
    let Found::Notices(contents) = &mixed[0] else { panic!("{mixed:?}") };
    assert!(contents[0].is_ok());
    assert_eq!(contents[1], Err(NoticeError::OtherObject));
}

#[test]
fn what_a_bucket_says_of_anything_else_is_no_notice() {
    let events = [
        bucket("ObjectRemoved:Delete", &[KEY]),
        bucket("ObjectCreated:Put", &["reports/1.csv"]),
        bucket("ObjectCreated:Put", &[]),
        bucket("LifecycleExpiration:Delete", &[KEY]),
        r#"{"Event":"s3:TestEvent","Service":"Amazon S3"}"#.to_owned(),
    ];
    for event in &events {
        for event in [event.clone(), topic(event), queue(&[event])] {
            assert_eq!(found(&event), None, "{event}");
        }
        let beside = found(&queue(&[event, DYNAMODB])).unwrap();
        assert_eq!(beside, [Found::Other, document(DYNAMODB)], "{event}");
    }
    let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"failed"}"#;
    let expected = Some(vec![Found::Test { bucket: "failed".to_owned() }]);
    for event in [test.to_owned(), topic(test), queue(&[test])] {
        assert_eq!(found(&event), expected, "{event}");
    }
}

#[test]
fn the_other_messages_of_an_event_stand_beside_it() {
    let own = serde_json::to_string(&envelope(DYNAMODB)).unwrap();
    let found = found(&queue(&[&own, DYNAMODB, "no JSON", WINDOW])).unwrap();
    let window = Found::Notices(vec![Err(NoticeError::Window)]);
    assert_eq!(found, [Found::Other, document(DYNAMODB), Found::Other, window]);
}

#[test]
fn no_other_event_is_taken_for_one() {
    let own = serde_json::to_string(&envelope(DYNAMODB)).unwrap();
    let stream = json!({"Records": [{
        "eventSource": "aws:dynamodb", "eventName": "INSERT",
        "dynamodb": {"SequenceNumber": "1", "Keys": {"k": {"S": DYNAMODB}}},
    }]});
    for event in [
        stream.to_string(),
        queue(&[&own]),
        queue(&["KinesisBatchInfo aws:s3"]),
        topic(&own),
        own,
        queue(&[&queue(&[DYNAMODB])]),
        r#"{"Records":[],"x":"BatchInfo"}"#.to_owned(),
        r#"{"requestPayload":{"BatchInfo":1}}"#.to_owned(),
        "BatchInfo".to_owned(),
        String::new(),
    ] {
        assert_eq!(found(&event), None, "{event}");
    }
    let mut deep = DYNAMODB.to_owned();
    for _ in 0..3 {
        deep = topic_in_queue(&deep);
    }
    assert_eq!(found(&queue(&[&deep])), None);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let notices = recognise(&bytes);
        prop_assert!(notices.is_none());
        prop_assert!(Notice::read(&String::from_utf8_lossy(&bytes)).is_err());
    }

    #[test]
    fn nothing_nearly_right_makes_it_panic(
        document in prop::sample::select(vec![DYNAMODB, KINESIS, WINDOW]),
        way in 0..5_u8,
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"{}[],:0%+\\".to_vec())],
    ) {
        let bucket_event = bucket("ObjectCreated:Put", &[KEY]);
        let event = match way {
            0 => queue(&[document]),
            1 => topic(document),
            2 => queue(&[&topic_in_queue(document)]),
            3 => queue(&[&bucket_event]),
            _ => document.to_owned(),
        };
        let mut bytes = event.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for found in found(&String::from_utf8_lossy(&bytes)).into_iter().flatten() {
            if let Found::Notices(contents) = found {
                prop_assert_eq!(contents.len(), 1);
            }
        }
        let mut bytes = document.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(notice) = Notice::read(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(notice.first <= notice.last);
        }
    }
}
