//! What the live desk takes: from a put's answer to the changed row, records a second, memory.
//!
//! Figures of a machine and a build, printed and hardly asserted: `tests/figures.sh dev`.

use crate::{
    dev::{Desk, Scratch, dynamodb},
    support::{self, block_on, local_endpoint},
};
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use aws_sdk_kinesis::{
    config::{BehaviorVersion, Region},
    primitives::Blob,
    types::PutRecordsRequestEntry,
};
use changefold::{
    record::Timestamp,
    store::{self, Store},
    view::{
        read::{Condition, Reader},
        scalar::Scalar,
    },
};
use std::time::{Duration, Instant};

const VIEWS: &str = "
CREATE MATERIALIZED VIEW by_id AS SELECT id, count(*) AS items FROM things GROUP BY id;
CREATE MATERIALIZED VIEW all_of_it AS SELECT k, count(*) AS clicks FROM clicks GROUP BY k;
";
const DEADLINE: Timestamp = Timestamp(i64::MAX);
/// Puts of one rate that are looked at.
const LOOKS: usize = 200;
const RECORDS: [u64; 2] = [100_000, 1_000_000];
const GROWTH_MAX: f64 = 1.2;

fn start(name: &str) -> (Scratch, Desk) {
    let scratch = Scratch::new(name);
    std::fs::write(scratch.0.join("views.sql"), VIEWS).unwrap();
    let arguments = ["--table", "things=id", "--stream", "clicks=4", "--quiet", "--no-page"];
    let desk = Desk::start(&scratch.0, &arguments);
    (scratch, desk)
}

async fn reader(store: &Store, view: &str) -> Reader {
    let tables = ("changefold_ledger", "changefold_");
    Reader::open(store.clone(), tables, view, DEADLINE).await.unwrap()
}

async fn rows(reader: &Reader, column: &str, value: &str) -> Vec<Vec<Scalar>> {
    let of = Condition::equals(column, Scalar::Text(value.to_owned()));
    reader.rows(&[of], None, DEADLINE, &mut |_| {}).await.unwrap().rows
}

async fn put(client: &Client, id: &str) {
    let id = AttributeValue::S(id.to_owned());
    client.put_item().table_name("things").item("id", id).send().await.unwrap();
}

/// Milliseconds from a put's answer to its row, at so many puts a second.
#[expect(clippy::disallowed_methods, reason = "it is the time that is measured")]
async fn latencies(client: &Client, reader: &Reader, a_second: usize) -> Vec<f64> {
    let pause = Duration::from_secs(1) / u32::try_from(a_second).unwrap();
    // So many puts between two that are looked at; their rows are not waited for.
    let (every, looks) = if a_second > 50 { (10, LOOKS) } else { (1, LOOKS / 2) };
    let (mut found, mut next) = (Vec::new(), Instant::now());
    for number in 0..looks * every {
        tokio::time::sleep_until(next.into()).await;
        next = (next + pause).max(Instant::now());
        let id = format!("at-{a_second}-{number}");
        put(client, &id).await;
        if number % every == every - 1 {
            let answered = Instant::now();
            while rows(reader, "id", &id).await.is_empty() {}
            found.push(answered.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    found.sort_by(f64::total_cmp);
    found
}

#[test]
#[ignore = "figures of a machine: tests/figures.sh dev"]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
fn from_a_puts_answer_to_the_changed_row() {
    let (_scratch, desk) = start("latency");
    println!("| puts a second | p50, ms | p99, ms |");
    println!("|--:|--:|--:|");
    block_on(async {
        let (client, store) = (dynamodb(&desk.url), support::endpoint(&desk.url));
        put(&client, "first").await;
        let reader = reader(&store, "by_id").await;
        for a_second in [10, 500] {
            let found = latencies(&client, &reader, a_second).await;
            let at = |part: usize| found[(found.len() - 1) * part / 100];
            println!("| {a_second} | {:.1} | {:.1} |", at(50), at(99));
        }
    });
    assert_eq!(desk.stop().1, Some(0));
}

#[test]
#[ignore = "figures of a machine: tests/figures.sh dev"]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
#[expect(clippy::disallowed_methods, reason = "it is the time that is measured")]
fn records_that_pass_in_a_second() {
    const ITEMS: usize = 20_000;
    let (_scratch, desk) = start("throughput");
    let began = Instant::now();
    block_on(async {
        let client = dynamodb(&desk.url);
        for first in (0..ITEMS).step_by(25) {
            let put = |number: usize| {
                let id = AttributeValue::S(format!("i{number}"));
                let put = PutRequest::builder().item("id", id).build().unwrap();
                WriteRequest::builder().put_request(put).build()
            };
            let puts = (first..first + 25).map(put).collect();
            client.batch_write_item().request_items("things", puts).send().await.unwrap();
        }
        let reader = reader(&support::endpoint(&desk.url), "by_id").await;
        let last = format!("i{}", ITEMS - 1);
        while rows(&reader, "id", &last).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let took = began.elapsed().as_secs_f64();
    println!("| records | seconds | records a second |");
    println!("|--:|--:|--:|");
    println!("| {ITEMS} | {took:.1} | {:.0} |", f64::from(u32::try_from(ITEMS).unwrap()) / took);
    let (summary, status) = desk.stop();
    assert!(summary.contains(&format!("things: {ITEMS} records in ")), "{summary}");
    assert_eq!(status, Some(0));
}

/// The memory of the process now, in KiB.
fn memory_of(desk: &Desk) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", desk.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "a million records: tests/figures.sh dev; minutes"]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
fn the_memory_after_a_million_records_is_that_after_100_000() {
    let (_scratch, desk) = start("memory");
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(local_endpoint(None).credentials)
        .endpoint_url(&desk.url)
        .http_client(store::network())
        .build();
    let kinesis = aws_sdk_kinesis::Client::from_conf(config);
    println!("| records | memory, MB |");
    println!("|--:|--:|");
    let mut written = 0;
    let memory = RECORDS.map(|records| {
        block_on(async {
            while written < records {
                let entry = |number: u64| {
                    let key = format!("k{}", number % 100);
                    let data = Blob::new(format!(r#"{{"k":"{key}"}}"#));
                    let entry = PutRecordsRequestEntry::builder().partition_key(key);
                    entry.data(data).build().unwrap()
                };
                let entries = (written..written + 500).map(entry).collect();
                let request = kinesis.put_records().stream_name("clicks");
                let answer = request.set_records(Some(entries)).send().await.unwrap();
                assert_eq!(answer.failed_record_count(), Some(0));
                written += 500;
            }
            let reader = reader(&support::endpoint(&desk.url), "all_of_it").await;
            let wanted = (records / 100).to_string();
            // All keys have as many; the last one is behind none of the others for long.
            loop {
                let found = rows(&reader, "k", "k99").await;
                if found.first().is_some_and(|row| row[1].to_string() == wanted) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let memory = memory_of(&desk);
        println!("| {records} | {:.1} |", memory / 1024.0);
        memory
    });
    assert!(memory[1] <= memory[0] * GROWTH_MAX, "{memory:?}");
    assert_eq!(desk.stop().1, Some(0));
}
