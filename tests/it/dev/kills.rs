//! `dev --state`, killed under writes again and again: nothing is lost, the views stay exact.

use super::{
    desk::{Desk, Scratch, caught_up},
    differences, dynamodb, items, put,
};
use crate::support::{block_on, local_endpoint};
use aws_sdk_dynamodbstreams::{
    config::{BehaviorVersion, Region},
    types::ShardIteratorType,
};
use changefold::{
    clock::SystemClock,
    local::endpoint::{Endpoint, Serving},
    store,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const TABLE: [&str; 2] = ["--table", "orders=order_id"];

/// Where the checkpoints of the one mapping are, once there are any.
fn checkpoint(state: &Path) -> Option<PathBuf> {
    let mapping = std::fs::read_dir(state.join("mappings")).ok()?.next()?.ok()?;
    Some(mapping.path().join("checkpoint.json"))
}

/// Writes and kills; returns how many puts were acknowledged. A put that was cut off may have
/// been made: it is made again after the restart, before anything else.
fn kill(scratch: &Path, kills: u32, mut after: impl FnMut(&Path)) -> (Desk, u32) {
    let arguments = [TABLE.as_slice(), &["--state", "state", "--quiet"]].concat();
    let mut number = 0;
    for round in 0..kills {
        let desk = Desk::start(scratch, &arguments);
        let client = dynamodb(&desk.url);
        // Another moment each time: in a batch, between batches, at the start.
        let pause = Duration::from_millis(u64::from(round * 37 % 150));
        number = block_on(async {
            let puts = async {
                let mut number = number;
                while put(&client, number).await.is_ok() {
                    number += 1;
                }
                number
            };
            let kill = async {
                tokio::time::sleep(Duration::from_millis(30) + pause).await;
                desk.kill();
            };
            tokio::join!(puts, kill).0
        });
        after(scratch);
    }
    let desk = Desk::start(scratch, &arguments);
    block_on(async {
        let client = dynamodb(&desk.url);
        for number in number..number + 20 {
            put(&client, number).await.unwrap();
        }
    });
    (desk, number + 20)
}

fn check(kills: u32, name: &str) {
    let scratch = Scratch::new(name);
    let (desk, puts) = kill(&scratch.0, kills, |_| {});
    assert!(puts > kills * 5, "{puts} puts are too few to meet a kill");
    block_on(caught_up(&desk, &items(0..puts)));
    let (_, status) = desk.stop();
    assert_eq!(status, Some(0));
}

#[test]
fn twenty_kills_lose_nothing_and_the_views_stay_exact() {
    check(20, "kills");
}

#[test]
#[ignore = "takes minutes: `cargo test --all-features --test it dev::kills -- --ignored`"]
fn two_hundred_kills_lose_nothing_and_the_views_stay_exact() {
    check(200, "kills-200");
}

/// The position of the newest change in what a killed desk has left.
async fn newest(state: &Path) -> Option<String> {
    let serving =
        Serving { state: Some(state.to_owned()), ..Serving::in_memory(Arc::new(SystemClock)) };
    let endpoint = Endpoint::start(serving).await.unwrap();
    let config = aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(local_endpoint(None).credentials)
        .endpoint_url(endpoint.url())
        .http_client(store::network())
        .build();
    let client = aws_sdk_dynamodbstreams::Client::from_conf(config);
    let streams = client.list_streams().table_name("orders").send().await.unwrap();
    let arn = streams.streams()[0].stream_arn().unwrap();
    let described = client.describe_stream().stream_arn(arn).send().await.unwrap();
    let shard = described.stream_description().unwrap().shards()[0].shard_id().unwrap().to_owned();
    let request = client.get_shard_iterator().stream_arn(arn).shard_id(shard);
    let answer = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let mut iterator = answer.shard_iterator;
    let mut newest = None;
    loop {
        let page = client.get_records().set_shard_iterator(iterator).send().await.unwrap();
        let Some(last) = page.records().last() else { break };
        newest = last.dynamodb().unwrap().sequence_number().map(str::to_owned);
        iterator = page.next_shard_iterator;
    }
    endpoint.stop().await;
    newest
}

/// The control: with a checkpoint that stands at the newest change, whether it is finished or
/// not, the same kills lose some.
#[test]
fn a_checkpoint_written_before_its_records_are_finished_loses_some() {
    // A kill has to come while there is something unfinished.
    let loses_some = |round: u32| loses_some(&format!("control-{round}"));
    assert!((0..12).any(loses_some), "the control finds nothing");
}

fn loses_some(name: &str) -> bool {
    let scratch = Scratch::new(name);
    let (desk, puts) = kill(&scratch.0, 8, |scratch| {
        let Some(path) = checkpoint(&scratch.join("state")) else { return };
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        let Some(newest) = block_on(newest(&scratch.join("state"))) else { return };
        let mut all: serde_json::Value = serde_json::from_str(&text).unwrap();
        for stream in all.as_object_mut().unwrap().values_mut() {
            stream.as_object_mut().unwrap().values_mut().for_each(|number| {
                *number = serde_json::Value::from(newest.clone());
            });
        }
        std::fs::write(&path, all.to_string()).unwrap();
    });
    let found = block_on(async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        differences(&desk.url, &items(0..puts)).await
    });
    desk.kill();
    !found.is_empty()
}
