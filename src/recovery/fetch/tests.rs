//! Ranges that are partly or wholly gone, stale iterators and the deadline, by script.

use super::{range::RESERVE_MS, *};
use crate::recovery::services::scripted::{Answer, FOREVER, START, Script, block_on, error, ok};

const HOUR_MS: i64 = 3_600_000;

fn notice(source: Source, first: u32, last: u32, batch_size: u64) -> Notice {
    let (stream_arn, shard_id) = match source {
        Source::Kinesis => ("arn:aws:kinesis:us-west-2:1:stream/s/consumer/c:1", "shardId-1"),
        Source::DynamoDb | Source::Sqs => {
            ("arn:aws:dynamodb:us-west-2:1:table/t/stream/l", "shardId-2")
        }
    };
    let number = |number: u32| SequenceNumber::new(number.to_string()).unwrap();
    Notice {
        source,
        stream_arn: stream_arn.to_owned(),
        shard_id: shard_id.to_owned(),
        first: number(first),
        last: number(last),
        batch_size,
        condition: "RetryAttemptsExhausted".to_owned(),
        first_arrival: Some(Timestamp(START.0 - HOUR_MS)),
        last_arrival: Some(Timestamp(START.0 - HOUR_MS)),
        payload: None,
        function_arn: "f".to_owned(),
    }
}

fn iterator() -> Answer {
    ok(r#"{"ShardIterator":"i"}"#)
}

/// A page of either service; `None` ends the shard.
fn page(source: Source, numbers: &[u32], next: Option<&str>) -> Answer {
    let record = |number: &u32| match source {
        Source::Kinesis => {
            format!(r#"{{"SequenceNumber":"{number}","Data":"e30=","PartitionKey":"k"}}"#)
        }
        Source::DynamoDb | Source::Sqs => {
            format!(r#"{{"dynamodb":{{"SequenceNumber":"{number}"}}}}"#)
        }
    };
    let records: Vec<_> = numbers.iter().map(record).collect();
    let next = next.map_or_else(String::new, |next| format!(r#","NextShardIterator":"{next}""#));
    ok(&format!(r#"{{"Records":[{}]{next}}}"#, records.join(",")))
}

fn retention() -> Answer {
    ok(r#"{"StreamDescriptionSummary":{"StreamName":"s","StreamARN":"a","StreamStatus":"ACTIVE",
        "RetentionPeriodHours":24,"StreamCreationTimestamp":1,"EnhancedMonitoring":[],
        "OpenShardCount":1}}"#)
}

/// All pages of a range.
async fn read(
    streams: &Streams,
    notice: &Notice,
) -> Result<(Vec<String>, Option<Lost>), FetchError> {
    let mut range = streams.range(notice);
    let mut records = Vec::new();
    while let Some(page) = range.page(FOREVER).await? {
        records.extend(page);
    }
    Ok((records, range.lost()))
}

/// Numbers read, and from, until, count and reason of what is lost.
type Outcome<'a> = (Vec<u32>, Option<(&'a str, Option<&'a str>, u64, Why)>);

#[track_caller]
fn check(notice: &Notice, answers: Vec<Answer>, expected: &Outcome<'_>) -> Vec<String> {
    let mut answers = answers;
    if notice.source == Source::Kinesis {
        answers.push(retention());
    }
    let script = Script::new(answers);
    let streams = Streams::new(&script.services(None));
    let (records, lost) = block_on(read(&streams, notice)).unwrap();
    let left = block_on(streams.time_left(notice, FOREVER)).unwrap();
    let number = |record: &String| {
        let event = format!(r#"{{"Records":[{record}]}}"#);
        let batch = crate::event::parse(event.as_bytes());
        batch.records().unwrap()[0].sequence_number().as_str().parse().unwrap()
    };
    let lost = lost.as_ref().map(|lost| {
        (
            lost.from.as_str(),
            lost.until.as_ref().map(SequenceNumber::as_str),
            lost.records,
            lost.why,
        )
    });
    let read: Vec<u32> = records.iter().map(number).collect();
    assert_eq!((read, lost), *expected);
    assert!(left <= Duration::from_hours(23) && left > Duration::from_hours(22), "{left:?}");
    let requests = script.requests();
    for request in &requests {
        assert!(request.url.contains(".us-west-2."), "the stream's Region: {}", request.url);
    }
    requests.into_iter().map(|it| format!("{} {}", it.operation, it.body)).collect()
}

const KINESIS: Source = Source::Kinesis;
const DYNAMODB: Source = Source::DynamoDb;

#[test]
fn a_range_is_read_over_pages_and_to_its_last_record() {
    let calls = check(
        &notice(KINESIS, 3, 9, 3),
        vec![
            iterator(),
            page(KINESIS, &[3, 5], Some("j")),
            page(KINESIS, &[], Some("k")),
            page(KINESIS, &[8, 9, 11], Some("l")),
        ],
        &(vec![3, 5, 8, 9], None),
    );
    assert!(!calls[0].contains("consumer"), "the stream's own ARN: {}", calls[0]);
    assert!(calls[0].contains("AT_SEQUENCE_NUMBER") && calls[0].contains(r#""3""#));
    assert!(calls[1].contains(r#""Limit":3"#) && calls[2].contains(r#""Limit":1000"#));
    check(
        &notice(DYNAMODB, 3, 9, 2),
        vec![iterator(), page(DYNAMODB, &[3], Some("j")), page(DYNAMODB, &[9], None)],
        &(vec![3, 9], None),
    );
}

#[test]
fn a_stale_iterator_is_renewed_behind_the_last_record() {
    let calls = check(
        &notice(KINESIS, 3, 9, 2),
        vec![
            iterator(),
            error(400, "ExpiredIteratorException"),
            iterator(),
            page(KINESIS, &[3], Some("j")),
            error(400, "ProvisionedThroughputExceededException"),
            error(400, "ExpiredIteratorException"),
            iterator(),
            page(KINESIS, &[9], None),
        ],
        &(vec![3, 9], None),
    );
    assert!(calls[2].contains("\"AT_SEQUENCE_NUMBER"), "{}", calls[2]);
    assert!(calls[6].contains("AFTER_SEQUENCE_NUMBER") && calls[6].contains(r#""3""#));
}

#[test]
fn what_is_trimmed_at_the_beginning_is_lost() {
    check(
        &notice(KINESIS, 3, 9, 3),
        vec![iterator(), page(KINESIS, &[8, 9], Some("j"))],
        &(vec![8, 9], Some(("3", Some("8"), 1, Why::Trimmed))),
    );
    for at_once in [true, false] {
        let trimmed = || error(400, "TrimmedDataAccessException");
        let mut answers = if at_once { vec![trimmed()] } else { vec![iterator(), trimmed()] };
        answers.extend([iterator(), page(DYNAMODB, &[], Some("j"))]);
        answers.push(page(DYNAMODB, &[7, 9, 10], Some("k")));
        let lost = Some(("3", Some("7"), 3, Why::Trimmed));
        check(&notice(DYNAMODB, 3, 9, 5), answers, &(vec![7, 9], lost));
    }
}

#[test]
fn what_is_gone_whole_is_lost_whole() {
    let lost = |why| (vec![], Some(("3", None, 4, why)));
    let later = |source| vec![iterator(), page(source, &[12], Some("j"))];
    check(&notice(KINESIS, 3, 9, 4), later(KINESIS), &lost(Why::Trimmed));
    let mut answers = vec![error(400, "TrimmedDataAccessException")];
    answers.extend(later(DYNAMODB));
    check(&notice(DYNAMODB, 3, 9, 4), answers, &lost(Why::Trimmed));
    for source in [KINESIS, DYNAMODB] {
        let answers = vec![error(400, "ResourceNotFoundException")];
        check(&notice(source, 3, 9, 4), answers, &lost(Why::NoShard));
        check(
            &notice(source, 3, 9, 4),
            vec![iterator(), page(source, &[], None)],
            &lost(Why::Trimmed),
        );
    }
    let mut answers = vec![error(400, "InvalidArgumentException"), iterator()];
    answers.push(page(KINESIS, &[1, 2], Some("j")));
    check(&notice(KINESIS, 3, 9, 4), answers, &lost(Why::UnknownPosition));
    let tip = ok(r#"{"Records":[],"NextShardIterator":"j","MillisBehindLatest":0}"#);
    check(&notice(KINESIS, 3, 9, 4), vec![iterator(), tip], &lost(Why::Trimmed));
}

#[test]
fn what_is_lost_in_the_middle_is_told_from_the_record_before_it() {
    check(
        &notice(DYNAMODB, 3, 9, 5),
        vec![
            iterator(),
            page(DYNAMODB, &[3, 4], Some("j")),
            error(400, "TrimmedDataAccessException"),
            iterator(),
            page(DYNAMODB, &[9], Some("k")),
        ],
        &(vec![3, 4, 9], Some(("4", Some("9"), 2, Why::Trimmed))),
    );
}

#[test]
fn empty_pages_prove_nothing_while_the_records_must_be_there() {
    let empty = || page(DYNAMODB, &[], Some("j"));
    let young = notice(DYNAMODB, 3, 9, 4);
    let old = Notice { last_arrival: Some(Timestamp(START.0 - 25 * HOUR_MS)), ..young.clone() };
    let answers = || {
        let mut answers = vec![error(400, "TrimmedDataAccessException"), iterator()];
        answers.extend(std::iter::repeat_with(empty).take(101));
        answers
    };
    check(&old, answers(), &(vec![], Some(("3", None, 4, Why::Trimmed))));
    let mut more = answers();
    more.push(page(DYNAMODB, &[9], None));
    check(&young, more, &(vec![9], Some(("3", Some("9"), 3, Why::Trimmed))));
}

#[test]
fn near_the_deadline_it_stops_and_can_go_on() {
    let answers = vec![iterator(), page(DYNAMODB, &[3], Some("j")), page(DYNAMODB, &[], Some("k"))];
    let script = Script::new(answers);
    let streams = Streams::new(&script.services(None));
    let notice = notice(DYNAMODB, 3, 9, 2);
    let mut range = streams.range(&notice);
    let deadline = Timestamp(START.0 + RESERVE_MS + 100);
    block_on(async {
        assert_eq!(range.page(deadline).await.unwrap().map(|page| page.len()), Some(1));
        let error = range.page(deadline).await.unwrap_err();
        assert!(matches!(error, FetchError::OutOfTime { .. }) && error.is_transient());
    });
    assert_eq!((range.read(), range.lost()), (1, None));
    assert_eq!(script.requests().len(), 3);
}

#[test]
fn a_refusal_is_no_loss() {
    let script = Script::new([iterator(), error(400, "AccessDeniedException")]);
    let streams = Streams::new(&script.services(None));
    let error = block_on(read(&streams, &notice(KINESIS, 3, 9, 2))).unwrap_err();
    assert!(matches!(error, FetchError::Call { .. }) && !error.is_transient(), "{error}");
}

#[test]
fn an_object_is_fetched_of_its_owner_only_and_as_far_as_it_may_be_long() {
    let object =
        Object { bucket: "given-up".to_owned(), key: "aws/lambda/k".to_owned(), version_id: None };
    let script = Script::new([ok("{}"), ok(&"x".repeat(OBJECT_BYTES_MAX + 1))]);
    let streams = Streams::new(&script.services(Some("http://127.0.0.1:9")));
    let fetch = || block_on(streams.object(&object, "123456789012", FOREVER));
    assert_eq!(fetch().as_deref(), Ok("{}"));
    let error = fetch().unwrap_err();
    assert!(matches!(error, FetchError::ObjectTooLarge { .. }), "{error}");
    for request in script.requests() {
        assert_eq!(request.expected_bucket_owner.as_deref(), Some("123456789012"));
    }
}
