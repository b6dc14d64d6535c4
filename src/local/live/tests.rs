//! Reading against services that answer from a script: what is hard to bring about otherwise.

use super::*;
use crate::{
    local::{
        live::{buffer::Taken, discovery::Discovery},
        mapping::Entry,
    },
    record::SequenceNumber,
    recovery::services::scripted::{Answer, START, Script, block_on, error, ok},
};
use serde_json::{Value, json};
use std::sync::Mutex;

const KINESIS_ARN: &str = "arn:aws:kinesis:eu-west-1:1:stream/clicks";
const DYNAMODB_ARN: &str = "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/2026";

type Told = Arc<Mutex<Vec<Notice>>>;

fn reading(script: &Script, source: Source, arn: &str) -> (Reading, Told) {
    let told = Told::default();
    let hears = Arc::clone(&told);
    let reading = Reading {
        services: script.services(None),
        source,
        event_source_arn: arn.to_owned(),
        invoked_as: "arn:aws:iam::123456789012:role/LambdaRole".to_owned(),
        mapping_uuid: "uuid".to_owned(),
        time_zero: START,
        written: None,
        tell: Arc::new(move |notice| hears.lock().unwrap().push(notice.clone())),
    };
    (reading, told)
}

/// What reading one shard to its end came to.
struct Ran {
    entries: Vec<Entry>,
    told: Vec<Notice>,
    /// Operation and body of each request.
    requests: Vec<(String, Value)>,
    failure: Option<LiveError>,
}

impl Ran {
    fn numbers(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.sequence_number.as_str()).collect()
    }
}

fn read(source: Source, position: Position, answers: Vec<Answer>) -> Ran {
    let arn = if source == Source::Kinesis { KINESIS_ARN } else { DYNAMODB_ARN };
    read_of(source, arn, position, answers)
}

fn read_of(source: Source, arn: &str, position: Position, answers: Vec<Answer>) -> Ran {
    let script = Script::new(answers);
    let (reading, told) = reading(&script, source, arn);
    let buffers = Arc::new(Buffers::default());
    let shard_id = "shardId-000000000000".to_owned();
    buffers.open(&shard_id);
    let reader = Reader {
        clients: Arc::new(Clients::new(&reading.services)),
        reading: Arc::new(reading),
        buffers: Arc::clone(&buffers),
        shard_id: shard_id.clone(),
        read_ahead: usize::MAX,
    };
    block_on(reader.read(position));
    let mut entries = Vec::new();
    while let Taken::Entry(entry) = buffers.take(&shard_id) {
        entries.push(entry);
    }
    let body = |body: &str| serde_json::from_str(body).unwrap();
    let requests = script.requests().into_iter().map(|it| (it.operation, body(&it.body))).collect();
    let told = told.lock().unwrap().clone();
    let failure = block_on(buffers.changes()).err();
    Ran { entries, told, requests, failure }
}

fn number(number: u64) -> SequenceNumber<'static> {
    SequenceNumber::new(number.to_string()).unwrap()
}

fn iterator() -> Answer {
    ok(r#"{"ShardIterator":"i"}"#)
}

/// Records that arrived so many seconds after the script's start; the last page has no next.
fn page(source: Source, numbers: &[u64], next: Option<&str>) -> Answer {
    let second = |number: &u64| {
        let start = START.0 / 1_000 + i64::try_from(*number).unwrap();
        start - 10
    };
    let records: Vec<Value> = numbers
        .iter()
        .map(|number| match source {
            Source::Kinesis => json!({
                "SequenceNumber": number.to_string(), "PartitionKey": "k", "Data": "",
                "ApproximateArrivalTimestamp": second(number),
            }),
            _ => json!({"eventID": "e", "eventName": "INSERT", "dynamodb": {
                "SequenceNumber": number.to_string(), "Keys": {"id": {"S": "k"}},
                "ApproximateCreationDateTime": second(number),
            }}),
        })
        .collect();
    let page = json!({"Records": records, "NextShardIterator": next, "MillisBehindLatest": 0});
    ok(&page.to_string())
}

#[test]
fn an_iterator_that_expired_is_renewed_behind_the_last_record() {
    for source in [Source::Kinesis, Source::DynamoDb] {
        let ran = read(
            source,
            Position::Horizon,
            vec![
                iterator(),
                page(source, &[1, 2], Some("j")),
                error(400, "ExpiredIteratorException"),
                iterator(),
                page(source, &[], Some("k")),
                page(source, &[3], None),
            ],
        );
        assert_eq!(ran.numbers(), ["1", "2", "3"]);
        let renewed = &ran.requests[3].1;
        assert_eq!(renewed["ShardIteratorType"], "AFTER_SEQUENCE_NUMBER");
        let number = &renewed
            [if source == Source::Kinesis { "StartingSequenceNumber" } else { "SequenceNumber" }];
        assert_eq!(number, "2");
        assert_eq!(ran.told, []);
    }
}

/// A batch may be as large as Kinesis allows a read to be.
#[test]
fn a_read_asks_for_a_whole_batch() {
    for (source, limit) in [(Source::Kinesis, 10_000), (Source::DynamoDb, 1_000)] {
        let ran = read(source, Position::Horizon, vec![iterator(), page(source, &[1], None)]);
        assert_eq!(ran.requests[1].1["Limit"], limit);
    }
}

#[test]
fn faults_that_pass_end_no_reading_and_skip_no_record() {
    for fault in [
        error(400, "ProvisionedThroughputExceededException"),
        error(500, "InternalFailure"),
        error(400, "ExpiredTokenException"),
        error(400, "AccessDeniedException"),
        Answer::Lost,
    ] {
        let mut answers = vec![iterator(), page(Source::DynamoDb, &[1], Some("j"))];
        answers.extend(std::iter::repeat_n(fault.clone(), 100));
        answers.push(page(Source::DynamoDb, &[2], None));
        let ran = read(Source::DynamoDb, Position::Horizon, answers);
        assert_eq!(ran.numbers(), ["1", "2"], "{fault:?}");
        let told: Vec<String> = ran.told.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "told once, and once when it is over: {told:?}");
        assert!(told[0].ends_with("it is tried again") && told[1].ends_with("it goes on"));
        // The same iterator again: it stands behind the last record that was read.
        assert!(ran.requests[2..].iter().all(|(_, body)| body["ShardIterator"] == "j"));
    }
}

#[test]
fn a_checkpoint_that_was_trimmed_is_told_and_the_horizon_read() {
    let ran = read(
        Source::DynamoDb,
        Position::After(number(7)),
        vec![
            error(400, "TrimmedDataAccessException"),
            iterator(),
            page(Source::DynamoDb, &[9], None),
        ],
    );
    assert_eq!(ran.numbers(), ["9"]);
    assert_eq!(ran.requests[1].1["ShardIteratorType"], "TRIM_HORIZON");
    let told = ran.told[0].to_string();
    assert!(told.contains("has trimmed records behind 7"), "{told}");
}

/// DynamoDB Local says so of an iterator that has waited at the horizon of an empty shard. With
/// LATEST the records from before must not come all the same.
#[test]
fn an_iterator_that_was_trimmed_before_the_first_record_is_asked_for_again() {
    let trimmed = || error(400, "TrimmedDataAccessException");
    let answers = |numbers: &[u64]| {
        vec![iterator(), trimmed(), iterator(), page(Source::DynamoDb, numbers, None)]
    };
    let ran = read(Source::DynamoDb, Position::Horizon, answers(&[8, 10]));
    assert_eq!((ran.numbers(), &ran.told[..]), (vec!["8", "10"], [].as_slice()));
    let ran = read(Source::DynamoDb, Position::Latest, answers(&[8, 10]));
    assert_eq!((ran.numbers(), &ran.told[..]), (vec!["10"], [].as_slice()));
}

/// The mapping takes no record after a later one of its shard.
#[test]
fn a_place_that_was_trimmed_in_the_middle_repeats_nothing() {
    let ran = read(
        Source::DynamoDb,
        Position::Horizon,
        vec![
            iterator(),
            page(Source::DynamoDb, &[1, 2], Some("j")),
            error(400, "TrimmedDataAccessException"),
            iterator(),
            page(Source::DynamoDb, &[1, 2, 4], Some("k")),
            page(Source::DynamoDb, &[5], None),
        ],
    );
    assert_eq!(ran.numbers(), ["1", "2", "4", "5"]);
    assert!(matches!(ran.told[..], [Notice::Trimmed { .. }]));
}

#[test]
fn a_stream_made_anew_is_read_from_its_beginning() {
    let ran = read(
        Source::Kinesis,
        Position::After(number(7)),
        vec![error(400, "InvalidArgumentException"), iterator(), page(Source::Kinesis, &[1], None)],
    );
    assert_eq!(ran.numbers(), ["1"]);
    assert!(matches!(ran.told[0], Notice::UnknownPosition { .. }));
}

/// Its iterators are those of a stream that is gone, and no sequence number of before is its own.
#[test]
fn a_stream_made_anew_while_it_is_read_is_read_from_its_beginning() {
    let same = ok(r#"{"Shards":[{"ShardId":"shardId-000000000000","HashKeyRange":{
        "StartingHashKey":"0","EndingHashKey":"1"},"SequenceNumberRange":{
        "StartingSequenceNumber":"1"}}]}"#);
    let ran = read(
        Source::Kinesis,
        Position::Horizon,
        vec![
            iterator(),
            page(Source::Kinesis, &[7], Some("j")),
            error(400, "ResourceNotFoundException"),
            same,
            error(400, "InvalidArgumentException"),
            iterator(),
            page(Source::Kinesis, &[8, 9], None),
        ],
    );
    assert_eq!(ran.numbers(), ["7", "8", "9"]);
    assert_eq!(ran.requests[4].1["ShardIteratorType"], "AFTER_SEQUENCE_NUMBER");
    assert_eq!(ran.requests[5].1["ShardIteratorType"], "TRIM_HORIZON");
    assert!(ran.told.iter().any(|it| matches!(it, Notice::UnknownPosition { .. })));
}

/// The mapping takes no record from before one that it has: such a stream ends the reading.
#[test]
fn a_stream_made_anew_with_lower_numbers_is_an_error() {
    let same = ok(r#"{"Shards":[{"ShardId":"shardId-000000000000","HashKeyRange":{
        "StartingHashKey":"0","EndingHashKey":"1"},"SequenceNumberRange":{
        "StartingSequenceNumber":"1"}}]}"#);
    for first in [7, 3] {
        let ran = read(
            Source::Kinesis,
            Position::Horizon,
            vec![
                iterator(),
                page(Source::Kinesis, &[6, 7], Some("j")),
                error(400, "ResourceNotFoundException"),
                same.clone(),
                error(400, "InvalidArgumentException"),
                iterator(),
                page(Source::Kinesis, &[first, 9], None),
            ],
        );
        assert_eq!(ran.numbers(), ["6", "7"]);
        let failure = ran.failure.unwrap();
        let LiveError::MadeAnew { place, sequence_number } = &failure else { panic!("{failure}") };
        assert!(place.contains("shardId-000000000000"), "{place}");
        assert_eq!(*sequence_number, first.to_string());
        assert!(failure.to_string().contains("start again"), "{failure}");
    }
}

/// What the checkpoint has passed is not delivered again, though the horizon still has it.
#[test]
fn a_trimmed_checkpoint_repeats_nothing_of_before() {
    let ran = read(
        Source::DynamoDb,
        Position::After(number(7)),
        vec![
            error(400, "TrimmedDataAccessException"),
            iterator(),
            page(Source::DynamoDb, &[6, 7, 9], None),
        ],
    );
    assert_eq!(ran.numbers(), ["9"]);
}

#[test]
fn a_record_that_cannot_be_read_blocks_its_shard_until_it_can_be() {
    let source = Source::DynamoDb;
    let change = |number: &str, key: &Value| {
        json!({"eventID": "e", "eventName": "INSERT", "dynamodb": {
            "SequenceNumber": number, "Keys": {"id": key}, "ApproximateCreationDateTime": 1}})
    };
    // A type that DynamoDB did not have when this was written.
    let records = [change("1", &json!({"S": "k"})), change("2", &json!({"NEW": "k"}))];
    let broken = json!({"Records": records, "NextShardIterator": "j"});
    let again = json!({"Records": records[1..], "NextShardIterator": "k"});
    let (first, again) = (ok(&broken.to_string()), ok(&again.to_string()));
    let answers = vec![iterator(), first, iterator(), again, iterator(), page(source, &[2], None)];
    let ran = read(source, Position::Horizon, answers);
    assert_eq!((ran.numbers(), &ran.failure), (vec!["1", "2"], &None));
    assert_eq!(ran.requests[2].1["ShardIteratorType"], "AFTER_SEQUENCE_NUMBER");
    let told: Vec<String> = ran.told.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("record 2") && told[0].contains("blocks its shard"), "{told:?}");
    assert!(told[1].ends_with("it goes on"), "{told:?}");
    assert_eq!(told.len(), 2, "it is told once, however often it is met");
}

/// A laptop sleeps with an iterator of LATEST that nothing has come through yet.
#[test]
fn an_iterator_of_latest_that_expired_loses_nothing_since_it_was_asked_for() {
    let answers = |source, numbers: &[u64]| {
        let expired = error(400, "ExpiredIteratorException");
        vec![iterator(), expired, iterator(), page(source, numbers, None)]
    };
    let ran = read(Source::Kinesis, Position::Latest, answers(Source::Kinesis, &[11]));
    assert_eq!(ran.requests[0].1["ShardIteratorType"], "LATEST");
    assert_eq!(ran.requests[2].1["ShardIteratorType"], "AT_TIMESTAMP");
    assert_eq!(ran.requests[2].1["Timestamp"], json!(START.0 / 1_000));
    // Of DynamoDB the whole shard is read, and what came before is left out.
    let ran = read(Source::DynamoDb, Position::Latest, answers(Source::DynamoDb, &[8, 9, 10, 11]));
    assert_eq!(ran.requests[2].1["ShardIteratorType"], "TRIM_HORIZON");
    assert_eq!(ran.numbers(), ["10", "11"]);
}

/// History that fills more than one page is left out to its end.
#[test]
fn what_came_before_is_left_out_on_every_page() {
    let source = Source::DynamoDb;
    let ran = read(
        source,
        Position::Since(START),
        vec![
            iterator(),
            page(source, &[1, 2], Some("j")),
            error(400, "ExpiredIteratorException"),
            iterator(),
            page(source, &[3, 9], Some("k")),
            page(source, &[10, 11], Some("l")),
            page(source, &[12], None),
        ],
    );
    assert_eq!(ran.numbers(), ["10", "11", "12"]);
}

/// What an iterator of LATEST brings came after it, though our clock may be ahead.
#[test]
fn what_latest_brings_is_taken_whatever_the_clock_says() {
    let source = Source::DynamoDb;
    let answers = vec![iterator(), page(source, &[7, 8], Some("j")), page(source, &[9], None)];
    let ran = read(source, Position::Latest, answers);
    assert_eq!(ran.numbers(), ["7", "8", "9"]);
}

#[test]
fn a_shard_that_was_trimmed_ends_and_a_stream_that_is_gone_is_an_error() {
    let gone = || error(400, "ResourceNotFoundException");
    let other = ok(r#"{"Shards":[{"ShardId":"other","HashKeyRange":{"StartingHashKey":"0",
        "EndingHashKey":"1"},"SequenceNumberRange":{"StartingSequenceNumber":"1"}}]}"#);
    let ran = read(Source::Kinesis, Position::Horizon, vec![gone(), other]);
    assert!(matches!(ran.told[..], [Notice::Trimmed { .. }]), "{:?}", ran.told);
    assert_eq!(ran.failure, None);
    let ran = read(Source::Kinesis, Position::Horizon, vec![gone(), gone()]);
    let failure = ran.failure.unwrap().to_string();
    assert!(failure.contains("is not there; create it"), "{failure}");
}

#[test]
fn every_page_of_shards_is_listed_and_no_page_names_the_stream_twice() {
    let shard = |name: &str, parent: Option<&str>| {
        json!({"ShardId": name, "ParentShardId": parent, "HashKeyRange":
            {"StartingHashKey": "0", "EndingHashKey": "1"},
            "SequenceNumberRange": {"StartingSequenceNumber": "1"}})
    };
    let first = json!({"Shards": [shard("a", None)], "NextToken": "t"});
    let second = json!({"Shards": [shard("b", Some("a"))]});
    let script = Script::new([ok(&first.to_string()), ok(&second.to_string())]);
    let (reading, _) = reading(&script, Source::Kinesis, KINESIS_ARN);
    let clients = Arc::new(Clients::new(&reading.services));
    let listing = block_on(Discovery::new(Arc::new(reading), clients).list()).unwrap();
    assert_eq!(listing, [listed("a", []), listed("b", [Some("a".to_owned())])]);
    let requests = script.requests();
    assert!(requests[0].body.contains("clicks") && !requests[1].body.contains("clicks"));
}

/// The records of recorded events, as `GetRecords` gives them.
fn as_read(record: &Value) -> Value {
    let mut read = record.clone();
    if let Some(kinesis) = record.get("kinesis") {
        return json!({
            "SequenceNumber": kinesis["sequenceNumber"], "PartitionKey": kinesis["partitionKey"],
            "Data": kinesis["data"], "EncryptionType": kinesis["encryptionType"],
            "ApproximateArrivalTimestamp": kinesis["approximateArrivalTimestamp"],
        });
    }
    // The service tells neither, and spells an identity in its own way.
    read.as_object_mut().unwrap().remove("eventSourceARN");
    if let Some(identity) = read.as_object_mut().unwrap().remove("userIdentity") {
        read["userIdentity"] =
            json!({"Type": identity["type"], "PrincipalId": identity["principalId"]});
    }
    read
}

/// Paths at which two values differ.
fn differences(recorded: &Value, live: &Value, path: &str, found: &mut Vec<String>) {
    match (recorded, live) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let (one, other) = (one.get(name), other.get(name));
                let path = format!("{path}.{name}");
                match (one, other) {
                    (Some(one), Some(other)) => differences(one, other, &path, found),
                    (Some(_), None) => found.push(format!("{path}: left out")),
                    _ => found.push(format!("{path}: added")),
                }
            }
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        _ if recorded == live => {}
        _ => found.push(format!("{path}: {recorded} became {live}")),
    }
}

/// Field by field against the recorded events of `fixtures/events`. What differs is meant to:
/// a `null` is what a console's example has, the services have no member instead.
#[test]
fn a_live_record_is_the_recorded_one_field_by_field() {
    const INTENDED: [&str; 3] = [
        "dynamodb-event-null-items .dynamodb.Keys: left out",
        "dynamodb-event-null-items .dynamodb.NewImage: left out",
        "dynamodb-event-null-items .dynamodb.OldImage: left out",
    ];
    let mut found = Vec::new();
    let mut compared = 0;
    for name in
        ["dynamodb-event", "dynamodb-event-null-items", "kinesis-event", "kinesis-event-encrypted"]
    {
        let path = format!("{}/fixtures/events/example-{name}.json", env!("CARGO_MANIFEST_DIR"));
        let event: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for recorded in event["Records"].as_array().unwrap() {
            let source =
                if recorded.get("kinesis").is_some() { Source::Kinesis } else { Source::DynamoDb };
            let page = json!({"Records": [as_read(recorded)]}).to_string();
            let arn = recorded["eventSourceARN"].as_str().unwrap();
            let ran = read_of(source, arn, Position::Horizon, vec![iterator(), ok(&page)]);
            assert_eq!(ran.failure, None);
            let live: Value = serde_json::from_slice(&ran.entries[0].body).unwrap();
            let mut of_record = Vec::new();
            differences(recorded, &live, "", &mut of_record);
            found.extend(of_record.into_iter().map(|it| format!("{name} {it}")));
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared}");
    assert_eq!(found, INTENDED);
}

/// The order of members as recorded from AWS, numbers of 38 digits, and whole seconds as a float.
#[test]
fn a_live_change_is_written_as_aws_writes_it() {
    let digits = "99999999999999999999999999999999999999";
    let read = json!({"Records": [{
        "eventID": "e", "eventName": "MODIFY", "eventVersion": "1.1",
        "eventSource": "aws:dynamodb", "awsRegion": "eu-west-1",
        "dynamodb": {"ApproximateCreationDateTime": 1_789_649_451,
            "Keys": {"id": {"S": "k"}}, "NewImage": {"id": {"S": "k"}, "n": {"N": digits}},
            "OldImage": {"id": {"S": "k"}, "b": {"BS": ["AAE="]}},
            "SequenceNumber": "9700001729061958505432", "SizeBytes": 9,
            "StreamViewType": "NEW_AND_OLD_IMAGES"},
    }]});
    let answers = vec![iterator(), ok(&read.to_string())];
    let ran = read_of(Source::DynamoDb, DYNAMODB_ARN, Position::Horizon, answers);
    let expected = format!(
        concat!(
            r#"{{"eventID":"e","eventName":"MODIFY","eventVersion":"1.1","#,
            r#""eventSource":"aws:dynamodb","awsRegion":"eu-west-1","dynamodb":"#,
            r#"{{"ApproximateCreationDateTime":1789649451.0,"Keys":{{"id":{{"S":"k"}}}},"#,
            r#""NewImage":{{"id":{{"S":"k"}},"n":{{"N":"{digits}"}}}},"#,
            r#""OldImage":{{"b":{{"BS":["AAE="]}},"id":{{"S":"k"}}}},"#,
            r#""SequenceNumber":"9700001729061958505432","SizeBytes":9,"#,
            r#""StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"{arn}"}}"#,
        ),
        digits = digits,
        arn = DYNAMODB_ARN
    );
    assert_eq!(String::from_utf8(ran.entries[0].body.to_vec()).unwrap(), expected);
    assert_eq!(ran.entries[0].present_since, 1_789_649_451_000 - START.0);
}
