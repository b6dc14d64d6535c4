//! The endpoint's process is killed in the middle of writes: what it acknowledged is there.

use super::Clients;
use crate::support::{block_on, crashing::Served};
use aws_sdk_dynamodb::types::{AttributeValue, StreamViewType};
use aws_sdk_kinesis::{
    primitives::Blob,
    types::{PutRecordsRequestEntry, ShardIteratorType},
};
use std::{collections::BTreeSet, ffi::OsStr, fs, path::Path, time::Duration};

const STREAM: &str = "clicks";
const TABLE: &str = "orders";
const SHARD: &str = "shardId-000000000000";

/// An endpoint in a process of its own.
fn serve(directory: &Path) -> Served {
    Served::start([OsStr::new("endpoint"), directory.as_os_str()])
}

/// Writes until the process is gone; what was acknowledged is added.
async fn write_records(clients: &Clients, round: u64, acknowledged: &mut BTreeSet<String>) {
    for number in 0.. {
        let texts: Vec<String> = (0..20).map(|it| format!("{round}-{number}-{it}")).collect();
        let mut put = clients.kinesis.put_records().stream_name(STREAM);
        for text in &texts {
            let entry = PutRecordsRequestEntry::builder().partition_key(text);
            put = put.records(entry.data(Blob::new(text.as_str())).build().unwrap());
        }
        match put.send().await {
            Ok(answer) => {
                assert_eq!(answer.failed_record_count, Some(0));
                acknowledged.extend(texts);
            }
            Err(_) => return,
        }
    }
}

async fn write_items(clients: &Clients, round: u64, acknowledged: &mut BTreeSet<String>) {
    for number in 0.. {
        let id = format!("{round}-{number}");
        let put = clients.tables.put_item().table_name(TABLE);
        match put.item("id", AttributeValue::S(id.clone())).send().await {
            Ok(_) => acknowledged.insert(id),
            Err(_) => return,
        };
    }
}

async fn records(clients: &Clients) -> Vec<String> {
    let begin = clients.kinesis.get_shard_iterator().stream_name(STREAM).shard_id(SHARD);
    let begin = begin.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let (mut next, mut found) = (begin.shard_iterator, vec![]);
    while let Some(iterator) = next {
        let answer = clients.kinesis.get_records().shard_iterator(iterator).send().await.unwrap();
        let texts = answer.records.iter().map(|it| String::from_utf8(it.data.clone().into_inner()));
        found.extend(texts.map(Result::unwrap));
        next = answer.next_shard_iterator.filter(|_| !answer.records.is_empty());
    }
    found
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let directory = std::env::temp_dir().join(format!("changefold-kills-{}", std::process::id()));
    drop(fs::remove_dir_all(&directory));
    let (mut put, mut items) = (BTreeSet::new(), BTreeSet::new());
    let mut arn = String::new();
    for round in 0..8_u64 {
        let served = serve(&directory);
        block_on(async {
            let clients = Clients::at(&served.url);
            if round == 0 {
                clients.kinesis.create_stream().stream_name(STREAM).send().await.unwrap();
                arn = clients.create_table(TABLE, StreamViewType::NewImage).await;
            }
            let killed = async move {
                tokio::time::sleep(Duration::from_millis(60 + 37 * round)).await;
                drop(served);
            };
            let clients = &clients;
            tokio::join!(
                killed,
                write_records(clients, round, &mut put),
                write_items(clients, round, &mut items),
            );
        });
    }
    assert!(put.len() > 100 && items.len() > 20, "{} records, {} items", put.len(), items.len());
    let served = serve(&directory);
    block_on(async {
        let clients = Clients::at(&served.url);
        let found = records(&clients).await;
        let once: BTreeSet<String> = found.iter().cloned().collect();
        assert_eq!(found.len(), once.len(), "a record is there twice");
        assert!(put.is_subset(&once), "{:?} are lost", put.difference(&once));
        let changes = clients.changes(&arn).await;
        let ids = changes.iter().map(|it| it.dynamodb.as_ref().unwrap().keys.as_ref().unwrap());
        let in_stream: BTreeSet<String> =
            ids.map(|keys| keys["id"].as_s().unwrap().clone()).collect();
        assert!(items.is_subset(&in_stream), "{:?} are lost", items.difference(&in_stream));
        let mut kept = BTreeSet::new();
        let mut pages = clients.tables.scan().table_name(TABLE).into_paginator().items().send();
        while let Some(item) = pages.next().await {
            kept.insert(item.unwrap()["id"].as_s().unwrap().clone());
        }
        assert_eq!(kept, in_stream, "an item and its change are written as one");
    });
    drop(served);
    fs::remove_dir_all(directory).unwrap();
}
