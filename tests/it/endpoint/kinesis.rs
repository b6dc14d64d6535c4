//! Kinesis through its client.

use super::desk;
use crate::support::block_on;
use aws_sdk_kinesis::{
    Client,
    error::ProvideErrorMetadata as _,
    primitives::{Blob, DateTime},
    types::{
        PutRecordsRequestEntry, ScalingType, Shard, ShardFilter, ShardFilterType,
        ShardIteratorType, StreamMode, StreamModeDetails,
    },
};
use std::collections::{BTreeMap, BTreeSet};

const STREAM: &str = "clicks";

async fn put(kinesis: &Client, numbers: std::ops::Range<u32>) {
    for chunk in numbers.collect::<Vec<_>>().chunks(500) {
        let mut put = kinesis.put_records().stream_name(STREAM);
        for number in chunk {
            let entry = PutRecordsRequestEntry::builder()
                .partition_key(format!("key-{}", number % 37))
                .data(Blob::new(number.to_string()));
            put = put.records(entry.build().unwrap());
        }
        let put = put.send().await.unwrap();
        assert_eq!(put.failed_record_count, Some(0));
        assert_eq!(put.records.len(), chunk.len());
        assert!(put.records.iter().all(|it| it.sequence_number.is_some() && it.shard_id.is_some()));
    }
}

async fn shards(kinesis: &Client, filter: Option<ShardFilter>) -> Vec<Shard> {
    let mut found = vec![];
    let mut page = kinesis.list_shards().stream_name(STREAM).max_results(3);
    page = page.set_shard_filter(filter);
    loop {
        let answer = page.send().await.unwrap();
        found.extend(answer.shards.unwrap_or_default());
        let Some(token) = answer.next_token else { return found };
        page = kinesis.list_shards().next_token(token).max_results(3);
    }
}

/// Reads parents before children; each key's records as they come.
async fn read_all(kinesis: &Client) -> BTreeMap<String, Vec<u32>> {
    let shards = shards(kinesis, None).await;
    let (mut read, mut found) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
    while read.len() < shards.len() {
        for shard in &shards {
            let parents = [&shard.parent_shard_id, &shard.adjacent_parent_shard_id];
            let waits = parents.into_iter().flatten().any(|parent| !read.contains(parent));
            if waits || read.contains(&shard.shard_id) {
                continue;
            }
            let begin = kinesis.get_shard_iterator().stream_name(STREAM).shard_id(&shard.shard_id);
            let begin = begin.shard_iterator_type(ShardIteratorType::TrimHorizon).send();
            let mut next = begin.await.unwrap().shard_iterator;
            let is_closed =
                shard.sequence_number_range.as_ref().unwrap().ending_sequence_number.is_some();
            while let Some(iterator) = next {
                let answer =
                    kinesis.get_records().shard_iterator(iterator).limit(700).send().await.unwrap();
                for record in &answer.records {
                    let text = std::str::from_utf8(record.data.as_ref()).unwrap().to_owned();
                    let key = record.partition_key.clone().unwrap();
                    found.entry(key).or_default().push(text.parse().unwrap());
                }
                let is_at_tip = answer.millis_behind_latest == Some(0);
                assert!(answer.next_shard_iterator.is_some() || is_closed);
                assert_eq!(answer.child_shards.is_some(), answer.next_shard_iterator.is_none());
                next = answer.next_shard_iterator.filter(|_| is_closed || !is_at_tip);
            }
            read.insert(shard.shard_id.clone());
        }
    }
    found
}

#[test]
fn records_keep_their_order_while_the_stream_reshards() {
    block_on(async {
        let (endpoint, clients, _) = desk().await;
        let kinesis = &clients.kinesis;
        kinesis.create_stream().stream_name(STREAM).shard_count(4).send().await.unwrap();
        put(kinesis, 0..2000).await;
        let half = u128::MAX / 8;
        let split =
            kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
        split.new_starting_hash_key(half.to_string()).send().await.unwrap();
        put(kinesis, 2000..4000).await;
        let merge = kinesis.merge_shards().stream_name(STREAM);
        let merge = merge.shard_to_merge("shardId-000000000001");
        merge.adjacent_shard_to_merge("shardId-000000000002").send().await.unwrap();
        put(kinesis, 4000..6000).await;
        let scale = kinesis.update_shard_count().stream_name(STREAM).target_shard_count(8);
        let scaled = scale.scaling_type(ScalingType::UniformScaling).send().await.unwrap();
        assert_eq!((scaled.current_shard_count, scaled.target_shard_count), (Some(4), Some(8)));
        put(kinesis, 6000..8000).await;

        let filter = ShardFilter::builder().r#type(ShardFilterType::AtLatest).build().unwrap();
        assert_eq!(shards(kinesis, Some(filter)).await.len(), 8);
        let all = shards(kinesis, None).await;
        let names: BTreeSet<&str> = all.iter().map(|shard| shard.shard_id.as_str()).collect();
        for shard in &all[4..] {
            assert!(names.contains(shard.parent_shard_id.as_deref().unwrap()), "{shard:?}");
        }
        let found = read_all(kinesis).await;
        assert_eq!(found.values().map(Vec::len).sum::<usize>(), 8000);
        assert!(found.values().all(|numbers| numbers.windows(2).all(|pair| pair[0] < pair[1])));
        endpoint.stop().await;
    });
}

#[test]
fn a_reader_is_woken_by_a_write_and_misses_none() {
    block_on(async {
        let (endpoint, clients, _) = desk().await;
        let kinesis = &clients.kinesis;
        kinesis.create_stream().stream_name(STREAM).send().await.unwrap();
        let before = endpoint.written();
        put(kinesis, 0..1).await;
        before.await;
        let idle = endpoint.written();
        kinesis.describe_stream().stream_name(STREAM).send().await.unwrap();
        clients.tables.list_tables().send().await.unwrap();
        assert!(futures_util::FutureExt::now_or_never(idle).is_none(), "nothing was written");
    });
}

#[test]
fn streams_are_known_by_name_and_by_arn_and_records_arrive_to_the_millisecond() {
    block_on(async {
        let (_endpoint, clients, clock) = desk().await;
        let kinesis = &clients.kinesis;
        let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().unwrap();
        let create = kinesis.create_stream().stream_name(STREAM).stream_mode_details(mode);
        create.send().await.unwrap();
        let summary = kinesis.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
        let arn = summary.stream_description_summary.unwrap().stream_arn;
        assert_eq!(arn, "arn:aws:kinesis:us-east-1:123456789012:stream/clicks");
        let put = kinesis.put_record().stream_arn(&arn).partition_key("k").data(Blob::new("a"));
        let put = put.explicit_hash_key(u128::MAX.to_string()).send().await.unwrap();
        assert_eq!(put.shard_id, "shardId-000000000003");
        clock.by(50);
        let from = changefold::clock::Clock::now(&clock).0;
        let second = kinesis.put_record().stream_arn(&arn).partition_key("k").data(Blob::new("b"));
        second.explicit_hash_key(u128::MAX.to_string()).send().await.unwrap();
        let begin = kinesis.get_shard_iterator().stream_arn(&arn).shard_id(&put.shard_id);
        let begin = begin.shard_iterator_type(ShardIteratorType::AtTimestamp);
        let begin = begin.timestamp(DateTime::from_millis(from)).send().await.unwrap();
        let read = kinesis.get_records().stream_arn(&arn);
        let read = read.shard_iterator(begin.shard_iterator.unwrap()).send().await.unwrap();
        let [record] = &read.records[..] else { panic!("{:?}", read.records) };
        assert_eq!(record.data.as_ref(), b"b");
        // The client reads seconds with a fraction, and their nearest double may be below.
        let arrived = record.approximate_arrival_timestamp.unwrap().as_nanos() + 500_000;
        assert!((from..from + 10_000).contains(&i64::try_from(arrived / 1_000_000).unwrap()));
    });
}

#[test]
fn refusals_are_known_to_the_client_by_their_type() {
    block_on(async {
        let (_endpoint, clients, clock) = desk().await;
        let kinesis = &clients.kinesis;
        let none = kinesis.describe_stream().stream_name("none").send().await.unwrap_err();
        assert!(none.into_service_error().is_resource_not_found_exception());
        kinesis.create_stream().stream_name(STREAM).send().await.unwrap();
        let twice = kinesis.create_stream().stream_name(STREAM).send().await.unwrap_err();
        assert!(twice.into_service_error().is_resource_in_use_exception());
        let begin = kinesis.get_shard_iterator().stream_name(STREAM);
        let begin = begin.shard_id("shardId-000000000000");
        let begin = begin.shard_iterator_type(ShardIteratorType::Latest).send().await.unwrap();
        clock.by(5 * 60_000 + 1);
        let old = kinesis.get_records().set_shard_iterator(begin.shard_iterator);
        let old = old.send().await.unwrap_err().into_service_error();
        assert!(old.is_expired_iterator_exception(), "{old}");
        let fan_out = kinesis
            .register_stream_consumer()
            .stream_arn("arn:aws:kinesis:us-east-1:123456789012:stream/clicks");
        let fan_out = fan_out.consumer_name("c").send().await.unwrap_err().into_service_error();
        assert_eq!(fan_out.code(), Some("UnknownOperationException"));
        assert!(fan_out.message().unwrap().contains("GetRecords"), "{fan_out:?}");
    });
}
