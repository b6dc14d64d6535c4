//! Where records are remembered, and what a full row does.

use super::*;
use crate::{
    clock::SystemClock,
    event,
    store::{Endpoint, embedded},
};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use std::sync::Arc;

const TIMES: (Timestamp, Timestamp) = (Timestamp(1_800_000_000_000), Timestamp(i64::MAX));

fn progress(stripes: u16) -> Progress {
    let endpoint = Endpoint {
        region: "us-east-1".to_owned(),
        url: Some("http://embedded".to_owned()),
        credentials: SharedCredentialsProvider::new(Credentials::new(
            "local", "local", None, None, "test",
        )),
    };
    let client = embedded::open(None).unwrap();
    let store = Store::new(client, &endpoint, Arc::new(SystemClock), 1);
    let progress = Progress::new(store, "progress".to_owned(), 24).with_stripes(stripes);
    progress.of_consumer("orders".to_owned())
}

fn event(arrival: &str, (number, data): (&str, &str), stream: &str) -> String {
    format!(
        r#"{{"Records":[{{"kinesis":{{"partitionKey":"a","sequenceNumber":"{number}",
        "data":"{data}","approximateArrivalTimestamp":{arrival}}},"eventSource":"aws:kinesis",
        "eventID":"shardId-000000000006:{number}",
        "eventSourceARN":"arn:aws:kinesis:us-east-2:1:stream/{stream}"}}]}}"#
    )
}

fn place_of(progress: &Progress, payload: &str) -> Place {
    let batch = event::parse(payload.as_bytes());
    progress.place(&batch.records().unwrap()[0])
}

#[track_caller]
fn place(arrival: &str, number: &str, stream: &str) -> Place {
    place_of(&progress(64), &event(arrival, (number, "e30="), stream))
}

#[test]
fn a_place_belongs_to_the_record_alone() {
    let here = place("1545084650.987", "1", "clicks");
    assert_eq!(here, place("1.545084650987E9", "1", "clicks/consumer/c:1"));
    assert_eq!(
        here.row,
        "P#orders#arn:aws:kinesis:us-east-2:1:stream/clicks#5150282#shardId-000000000006"
    );
    assert_ne!(here.mark, place("1545084650.987", "2", "clicks").mark);
    assert_ne!(here.row, place("1545094650.987", "1", "clicks").row);
}

/// Neighbours with one sequence number: their place in the batch tells nothing.
#[test]
fn unpacked_records_are_told_apart_by_their_data() {
    let of = |data| place_of(&progress(4), &event("1545084650.987", ("1", data), "clicks"));
    assert_ne!(of("e30=").mark, of("e31=").mark);
    assert_eq!(of("e30="), of("e30="));
}

/// Those of an aggregate that is taken apart here: their place in it is always the same.
#[test]
fn user_records_are_told_apart_by_their_place() {
    // One key, one hash key of none, twice the data `{}`.
    let message = b"\x0a\x01a\x1a\x06\x08\x00\x1a\x02{}\x1a\x06\x08\x00\x1a\x02{}";
    let data = [&b"\xf3\x89\x9a\xc2"[..], message, &md5::Md5::digest(message)[..]].concat();
    let data = base64_simd::STANDARD.encode_to_string(data);
    let payload = event("1545084650.987", ("1", &data), "clicks");
    let batch = event::parse(payload.as_bytes());
    let [one, other] = batch.records().unwrap() else { panic!("not two records") };
    let (one, other) = (progress(4).place(one), progress(4).place(other));
    assert_eq!(one.row, other.row);
    assert_ne!(one.mark, other.mark);
}

#[test]
fn consumers_and_stripes_have_rows_of_their_own() {
    let item = r#"{"Records":[{"eventSource":"aws:dynamodb","eventName":"INSERT",
        "eventSourceARN":"arn:aws:dynamodb:us-east-2:1:table/orders/stream/x",
        "dynamodb":{"ApproximateCreationDateTime":1545084650,"SequenceNumber":"1",
        "Keys":{"pk":{"S":"a"}}}}]}"#;
    let wide = progress(1_024);
    let other = wide.of_consumer("totals".to_owned());
    assert_ne!(place_of(&wide, item).row, place_of(&other, item).row);
    let stripe: u16 = place_of(&wide, item).row.rsplit_once('#').unwrap().1.parse().unwrap();
    assert!(place_of(&progress(4), item).row.ends_with(&format!("#{}", stripe % 4)));
}

fn marked(at: usize) -> Place {
    let mut mark = Mark::default();
    mark[..8].copy_from_slice(&at.to_be_bytes());
    Place { row: "row".to_owned(), mark }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
}

/// Everybody has read an empty row, and all write it.
#[test]
fn a_row_is_bounded_by_what_it_holds_when_it_is_written() {
    run(async {
        let progress = progress(1);
        progress.ensure_table(TIMES.1).await.unwrap();
        let nothing = Memory::default();
        let tried =
            Note::Tried { attempts: 2, unclassified: 0, first_failed_ms: 1_800_000_000_000 };
        let mut full = 0;
        for function in 0..30 {
            let own = |at: usize| marked(function * 1_000 + at);
            let finished = (0..500).map(|at| (own(at), Note::Finished));
            let notes: Vec<_> = finished.chain((500..600).map(|at| (own(at), tried))).collect();
            full += progress.remember(&notes, &nothing, TIMES).await.unwrap();
        }
        assert!(full > 0, "the row never was full");
        let rows = progress.store.read(&progress.rows(&[marked(0)]), TIMES.1).await.unwrap();
        let memory = progress.recall(&rows);
        let count = |is: fn(Remembered) -> bool| {
            let all = (0..30_000).map(marked);
            all.filter(|place| is(memory.of(place))).count()
        };
        let (finished, attempted) = (count(|it| it.finished), count(|it| it.attempts == 2));
        assert!((MARKS_MAX..MARKS_MAX + MARKS_PER_WRITE).contains(&finished), "{finished}");
        assert!((TRIED_MAX..TRIED_MAX + TRIED_PER_WRITE).contains(&attempted), "{attempted}");
        let bytes = Change::put("progress", rows[0].1.clone()).size();
        assert!(bytes < 400_000, "{bytes} bytes");

        // What is there goes on being noted; what is new runs unnoted, and nothing halts.
        let again =
            [(marked(500), Note::Tried { attempts: 3, unclassified: 0, first_failed_ms: 0 })];
        assert_eq!(progress.remember(&again, &memory, TIMES).await.unwrap(), 0);
        progress.mark_start((&marked(1), &memory), 1, TIMES).await.unwrap();
        progress.mark_start((&marked(500), &memory), 1, TIMES).await.unwrap();
        let rows = progress.store.read(&progress.rows(&[marked(0)]), TIMES.1).await.unwrap();
        let memory = progress.recall(&rows);
        assert_eq!(memory.of(&marked(1)).starts, 0);
        let Remembered { attempts, starts, .. } = memory.of(&marked(500));
        assert_eq!((attempts, starts), (3, 1));
    });
}
