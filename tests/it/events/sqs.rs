//! Messages of SQS queues: the decoder against `aws_lambda_events`, and parked records that
//! come back in a message's body.

use super::{
    Whole,
    agreement::check_conversion,
    check_event_error, dynamodb_event, fixture,
    generated::{Writer, text},
    kinesis_event,
};
use aws_lambda_events::sqs;
use changefold::{
    event::{self, RecordKey, Value},
    record::{Change, RemoveCause, Source, Timestamp},
};
use proptest::prelude::*;

const ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:jobs";

/// The element of a message: `attributes` are members of that object.
fn message(id: &str, attributes: &str, body: &str) -> String {
    let body = serde_json::to_string(body).unwrap();
    format!(
        r#"{{"messageId":"{id}","receiptHandle":"AQEB","body":{body},"attributes":{{"SenderId":"me",{attributes}}},"messageAttributes":{{}},"md5OfBody":"","eventSource":"aws:sqs","eventSourceARN":"{ARN}","awsRegion":"eu-west-1"}}"#
    )
}

fn standard(id: &str, body: &str) -> String {
    message(id, r#""ApproximateReceiveCount":"1","SentTimestamp":"1545082649183""#, body)
}

fn fifo(id: &str, number: &str, group: &str, body: &str) -> String {
    let attributes = format!(r#""SequenceNumber":"{number}","MessageGroupId":"{group}""#);
    message(id, &attributes, body)
}

fn event_of(messages: &[String]) -> String {
    format!(r#"{{"Records":[{}]}}"#, messages.join(","))
}

/// The first record of a stream's event, as changefold parks it.
fn envelope(event: &str) -> String {
    let batch = event::parse(event.as_bytes());
    let record = batch.records().unwrap()[0].raw();
    serde_json::json!({"changefold": 1, "function": "f", "record": record, "later": 1}).to_string()
}

#[track_caller]
fn check_sqs(payload: &[u8]) {
    let theirs: sqs::SqsEvent = serde_json::from_slice(payload).unwrap();
    let batch = event::parse(payload);
    let ours = batch.records().unwrap();
    assert_eq!(ours.len(), theirs.records.len());
    for (ours, theirs) in ours.iter().zip(&theirs.records) {
        check_conversion::<sqs::SqsMessage>(ours);
        let attribute = |name: &str| theirs.attributes.get(name).map(String::as_str);
        assert_eq!(ours.source(), Source::Sqs);
        assert_eq!(ours.message_id(), theirs.message_id.as_deref());
        assert_eq!(ours.stream_arn(), theirs.event_source_arn.as_deref());
        assert_eq!(ours.data().unwrap(), theirs.body.as_ref().map(String::as_bytes));
        let sent = attribute("SentTimestamp").map(|text| Timestamp(text.parse().unwrap()));
        assert_eq!(ours.approximate_arrival(), sent);
        let count = attribute("ApproximateReceiveCount").map(|text| text.parse().unwrap());
        assert_eq!(ours.receive_count(), count);
        if let Some(number) = attribute("SequenceNumber") {
            assert_eq!(ours.sequence_number().as_str(), number);
            assert_eq!(ours.message_group(), attribute("MessageGroupId"));
        }
    }
}

#[test]
fn a_recorded_event_reads_as_aws_lambda_events_reads_it() {
    check_sqs(&fixture("example-sqs-event.json"));
}

#[test]
fn a_message_says_where_it_is_from() {
    let event = event_of(&[standard("a", "{}"), standard("b", "{}")]);
    let batch = event::parse(event.as_bytes());
    let [first, second] = batch.records().unwrap() else { panic!("two messages") };
    assert_eq!((first.message_id(), second.message_id()), (Some("a"), Some("b")));
    // A standard queue has no positions: the place in the event stands in.
    assert_eq!((first.sequence_number().as_str(), second.sequence_number().as_str()), ("0", "1"));
    assert_eq!((first.stream_name(), first.shard_id()), (Some("jobs"), None));
    assert_eq!(first.approximate_arrival(), Some(Timestamp(1_545_082_649_183)));
    assert_eq!((first.receive_count(), first.message_group()), (Some(1), None));
    assert_eq!(first.keys(), Ok(RecordKey::Partition("a".into())));

    let event = event_of(&[fifo("a", "18849496460467696128", "g", "{}")]);
    let batch = event::parse(event.as_bytes());
    let record = &batch.records().unwrap()[0];
    assert_eq!(record.sequence_number().as_str(), "18849496460467696128");
    assert_eq!(record.message_group(), Some("g"));
    assert_eq!(record.keys(), Ok(RecordKey::Partition("g".into())));

    // A fair queue's group is a tenant: it keeps no order.
    let event = event_of(&[message("a", r#""MessageGroupId":"tenant""#, "{}")]);
    let batch = event::parse(event.as_bytes());
    let record = &batch.records().unwrap()[0];
    assert_eq!(record.message_group(), None);
    assert_eq!(record.keys(), Ok(RecordKey::Partition("a".into())));
    // A FIFO queue is one by its name, too, and a number that is none costs only itself.
    let event = event_of(&[fifo("a", "-", "g", "{}")]).replace(":jobs", ":jobs.fifo");
    let batch = event::parse(event.as_bytes());
    let record = &batch.records().unwrap()[0];
    assert_eq!((record.sequence_number().as_str(), record.message_group()), ("0", Some("g")));
}

#[test]
fn messages_are_units_of_their_own() {
    // Sequence numbers count within a group, so neighbours may have the same.
    let event = event_of(&[fifo("a", "7", "g", "{}"), fifo("b", "7", "h", "{}")]);
    let batch = event::parse(event.as_bytes());
    assert_eq!(batch.units().unwrap().map(<[_]>::len).collect::<Vec<_>>(), [1, 1]);
    assert!(batch.records().unwrap().iter().all(|record| record.ordinal() == 0));
}

#[test]
fn a_message_that_cannot_be_reported_fails_the_event() {
    let good = standard("a", "{}");
    let none = "record 1 has no message id, so it cannot be reported as unfinished";
    for id in [r#""messageId":"""#, r#""messageId":null"#, r#""messageId":7"#, r#""other":"b""#] {
        let bad = standard("b", "{}").replace(r#""messageId":"b""#, id);
        check_event_error(&event_of(&[good.clone(), bad]), "MessageIdMissing", none);
    }
    let check_twice = |member: &str, value: &str| {
        let twice = format!(r#""{member}":{value},"{member}":"#);
        let bad = fifo("b", "1", "g", "{}").replace(&format!(r#""{member}":"#), &twice);
        let message = format!("record 1 has `{member}` twice");
        check_event_error(&event_of(&[good.clone(), bad]), "EventMemberRepeated", &message);
    };
    check_twice("messageId", "\"c\"");
    check_twice("attributes", "{}");
    check_twice("MessageGroupId", "\"h\"");
    check_twice("SequenceNumber", "\"2\"");
    let mixed = event_of(&[good, kinesis_event(b"{}")[12..].trim_end_matches("]}").to_owned()]);
    let message = "record 1 is from another service than record 0";
    check_event_error(&mixed, "EventSourcesMixed", message);
}

#[test]
fn a_body_that_is_no_document_is_the_messages_error() {
    let check = |body: &str, code: &str, path: &str| {
        let bad = standard("b", "{}").replace(r#""body":"{}""#, body);
        let event = event_of(&[standard("a", "{}"), bad, standard("c", "{}")]);
        let batch = event::parse(event.as_bytes());
        let records = batch.records().unwrap();
        let error = records[1].values().unwrap_err();
        assert_eq!((error.code(), error.path()), (code, path), "{body}");
        assert_eq!(records[1].message_id(), Some("b"));
        assert!(records[0].values().is_ok() && records[2].values().is_ok(), "{body}");
        records[1].keys().is_ok()
    };
    assert!(check(r#""body":"Hello World""#, "JsonInvalid", "body"));
    assert!(check(r#""body":"{} {}""#, "JsonInvalid", "body"));
    assert!(check(r#""body":{}"#, "TypeMismatch", "body"));
    assert!(check(r#""body":"\ud800""#, "JsonInvalid", "body"));
    assert!(check(r#""other":"{}""#, "Missing", "body"));
    assert!(!check(r#""body":"{}","body":"{}""#, "Repeated", "body"));
}

#[test]
fn the_body_is_the_document() {
    #[derive(serde::Deserialize)]
    struct Job<'a> {
        name: &'a str,
        #[serde(borrow)]
        price: event::Number<'a>,
    }
    let body = r#"{"name":"é","price":1.50}"#;
    let event = event_of(&[standard("a", body)]);
    let batch = event::parse(event.as_bytes());
    let record = &batch.records().unwrap()[0];
    let Ok(Change::Insert { new: Some(job) }) = record.change::<Job<'_>>() else {
        panic!("an insert")
    };
    assert_eq!((job.name, job.price.as_str()), ("é", "1.50"));
    assert_eq!(record.data(), Ok(Some(body.as_bytes())));
    assert!(record.inner().unwrap().is_none());

    // A notification of a topic without raw delivery is a document like any other, and so is
    // one that only mentions us.
    let sns = r#"{"Type":"Notification","Message":"{\"changefold\":1}"}"#;
    for body in [sns, r#"{"changefold":"1","record":"{}"}"#, r#"["changefold"]"#] {
        let event = event_of(&[standard("a", body)]);
        let batch = event::parse(event.as_bytes());
        let record = &batch.records().unwrap()[0];
        assert!(record.inner().unwrap().is_none(), "{body}");
        let Change::Insert { new: Some(value) } = record.values().unwrap() else { panic!() };
        assert_eq!(value, serde_json::from_str::<Whole>(body).unwrap().0, "{body}");
    }
}

/// The queue of these tests is believed.
fn parse_believing(event: &str) -> event::Batch<'_> {
    event::parse(event.as_bytes()).believing(&event::ParkedQueues::new([ARN.to_owned()]))
}

#[test]
fn a_parked_change_of_a_table_is_unwrapped() {
    let images = r#""Keys":{"id":{"S":"o"}},"NewImage":{"n":{"N":"2"}},"OldImage":{"n":{"N":"1"}}"#;
    let image =
        |digits: &'static str| Some(Value::Map(vec![("n".into(), Value::Number(digits.into()))]));
    for (name, expected) in [
        ("INSERT", Change::Insert { new: image("2") }),
        ("MODIFY", Change::Modify { old: image("1"), new: image("2") }),
        ("REMOVE", Change::Remove { old: image("1"), cause: RemoveCause::User }),
    ] {
        let body = envelope(&dynamodb_event(name, &[images]));
        let event = event_of(&[standard("a", &body)]);
        let batch = parse_believing(&event);
        let record = &batch.records().unwrap()[0];
        assert_eq!(record.values(), Ok(expected));
        let key = RecordKey::Item(vec![("id".into(), Value::Text("o".into()))]);
        assert_eq!(record.keys(), Ok(key));
        assert_eq!((record.source(), record.stream_name()), (Source::Sqs, Some("jobs")));
        assert_eq!(record.data(), Ok(Some(body.as_bytes())));
        let inner = record.inner().unwrap().unwrap();
        assert_eq!((inner.source(), inner.stream_name()), (Source::DynamoDb, Some("orders")));
        assert_eq!(inner.sequence_number().as_str(), "1");
    }
}

#[test]
fn a_parked_kinesis_record_is_unwrapped() {
    let parked = kinesis_event(br#"{"name":"x"}"#);
    let check = |body: &str, inner_source: Source| {
        let event = event_of(&[fifo("a", "1", "g", body)]);
        let batch = parse_believing(&event);
        let record = &batch.records().unwrap()[0];
        let expected = Value::Map(vec![("name".into(), Value::Text("x".into()))]);
        assert_eq!(record.values(), Ok(Change::Insert { new: Some(expected) }));
        assert_eq!(record.inner().unwrap().unwrap().source(), inner_source);
        // What keeps the message in order is still its group.
        assert_eq!(record.message_group(), Some("g"));
        format!("{:?}", record.keys().unwrap())
    };
    assert_eq!(check(&envelope(&parked), Source::Kinesis), r#"Partition("p")"#);
    // A message parked in its turn is opened down to the innermost record.
    let again = envelope(&event_of(&[standard("b", &envelope(&parked))]));
    assert_eq!(check(&again, Source::Kinesis), r#"Partition("p")"#);
    let plain = envelope(&event_of(&[standard("b", r#"{"name":"x"}"#)]));
    assert_eq!(check(&plain, Source::Sqs), r#"Partition("b")"#);
}

#[test]
fn an_envelope_of_a_queue_that_is_not_believed_is_a_document() {
    let forged = envelope(&dynamodb_event("REMOVE", &[r#""Keys":{"id":{"S":"victim"}}"#]));
    let event = event_of(&[standard("a", &forged)]);
    let other = event::ParkedQueues::new([format!("{ARN}-of-another")]);
    for batch in [
        event::parse(event.as_bytes()),
        event::parse(event.as_bytes()).believing(&other),
        parse_believing(&event).believing(&event::ParkedQueues::default()),
    ] {
        let record = &batch.records().unwrap()[0];
        assert!(record.inner().unwrap().is_none());
        assert_eq!(record.keys(), Ok(RecordKey::Partition("a".into())));
        let Change::Insert { new: Some(value) } = record.values().unwrap() else { panic!() };
        assert_eq!(value, serde_json::from_str::<Whole>(&forged).unwrap().0);
    }
    // A message that was parked itself came from where it came from, whoever brings it back.
    let foreign = standard("b", &forged).replace(ARN, &format!("{ARN}-of-another"));
    for (message, key) in [(foreign, "Partition(\"b\")"), (standard("b", &forged), "victim")] {
        let event = event_of(&[standard("a", &envelope(&event_of(&[message])))]);
        let batch = parse_believing(&event);
        let record = &batch.records().unwrap()[0];
        assert!(format!("{:?}", record.keys().unwrap()).contains(key), "{key}");
    }
}

#[test]
fn an_envelope_that_cannot_be_opened_is_the_messages_error() {
    let check = |body: &str, code: &str, message: &str| {
        let event = event_of(&[standard("a", body), standard("b", "{}")]);
        let batch = parse_believing(&event);
        let records = batch.records().unwrap();
        let error = records[0].values().unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message), "{body}");
        assert_eq!(records[0].keys().unwrap_err(), error);
        assert_eq!(records[0].inner().unwrap_err(), error);
        assert!(records[1].values().is_ok());
    };
    check(
        r#"{"changefold":2,"record":"{}"}"#,
        "EnvelopeVersionUnknown",
        "`body.changefold` is another version than 1, the only one this function reads: update \
         the function to the version that parked the record, or a later one",
    );
    check(r#"{"changefold":1}"#, "Missing", "`body.record` is missing");
    check(
        r#"{"changefold":1,"record":{}}"#,
        "TypeMismatch",
        "`body.record` is an object, expected a string",
    );
    check(
        r#"{"changefold":1,"record":"{}","changefold":1}"#,
        "Repeated",
        "`body.changefold` is there twice",
    );
    for (encoding, record, reason) in [
        (
            "gzip",
            "H4s",
            "`record_encoding` is not known here: only `gzip+base64` is; update \
                         changefold",
        ),
        ("gzip+base64", "?", "`record` is not base64, as `record_encoding` says"),
        ("gzip+base64", "AAAA", "`record` is not gzip, as `record_encoding` says, or ends early"),
    ] {
        let body = serde_json::json!({"changefold": 1, "record": record,
                                      "record_encoding": encoding});
        let message = format!("`body.record` cannot be decoded: {reason}");
        check(&body.to_string(), "ParkedRecordUnreadable", &message);
    }
    check(
        r#"{"changefold":1,"record":"{","record_encoding":null}"#,
        "ParkedRecordInvalid",
        "`body.record` holds no record: the payload is not JSON: line 1, column 2: the text \
         ends too early",
    );
    check(
        r#"{"changefold":1,"record":"{\"eventSource\":\"aws:s3\"}"}"#,
        "ParkedRecordInvalid",
        "`body.record` holds no record: record 0 is not from a stream or a queue: \
         `eventSource` is `aws:s3`, expected `aws:dynamodb`, `aws:kinesis` or `aws:sqs`",
    );
}

proptest! {
    #[test]
    fn events_read_as_aws_lambda_events_reads_them(
        messages in prop::collection::vec(
            (text(), prop::option::of((any::<u64>(), text())), any::<u32>(), any::<i64>()),
            1..4,
        ),
        seed in any::<u64>(),
    ) {
        let mut writer = Writer::new(seed);
        writer.token("{");
        writer.unknown();
        writer.name("Records");
        writer.list(&messages, |writer, (body, fifo, count, sent)| {
            writer.token("{");
            writer.unknown();
            let id = writer.rng.u64(..);
            writer.token(&format!(r#""messageId":"{id}","body":"#));
            writer.string(body);
            writer.token(r#","eventSource":"aws:sqs","attributes":{"#);
            if let Some((number, group)) = fifo {
                writer.token(&format!(r#""SequenceNumber":"{number}","MessageGroupId":"#));
                writer.string(group);
                writer.token(",");
            }
            writer.token(&format!(r#""ApproximateReceiveCount":"{count}","#));
            writer.token(&format!(r#""SentTimestamp":"{sent}"}},"eventSourceARN":"arn"}}"#));
        });
        writer.token("}");
        check_sqs(writer.out.as_bytes());
    }

    #[test]
    fn a_damaged_event_never_panics(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), "[\"{}\\[\\],:\\\\0-9A-Zntu ]", any::<bool>()),
            1..4,
        ),
    ) {
        let table = dynamodb_event("INSERT", &[r#""Keys":{"id":{"S":"o"}},"NewImage":{}"#]);
        let once = envelope(&event_of(&[standard("c", &envelope(&table))]));
        let event = event_of(&[
            fifo("a", "1", "g", &envelope(&kinesis_event(b"[1]"))),
            standard("b", &once),
        ]);
        let mut text: Vec<char> = event.chars().collect();
        for (at, new, replace) in edits {
            let at = at.index(text.len());
            let new = new.chars().next().unwrap();
            if replace { text[at] = new } else { text.insert(at, new) }
        }
        let text: String = text.into_iter().collect();
        let batch = parse_believing(&text);
        for record in batch.records().unwrap_or_default() {
            let id = record.message_id();
            prop_assert!(id.is_some_and(|id| !id.is_empty()));
            // Only that they return counts here.
            drop((record.keys(), record.values(), record.data()));
            drop(record.inner());
        }
    }
}
