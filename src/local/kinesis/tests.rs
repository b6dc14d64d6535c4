//! The desk's Kinesis as its clients see it: JSON in, JSON out, at moments of the test's choice.

#![expect(clippy::needless_pass_by_value, reason = "cases are written where they are used")]

use super::{Kinesis, request::seconds};
use crate::record::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// When the tests begin, in milliseconds since the Unix epoch.
const START: i64 = 1_790_000_000_123;
const HOUR_MS: i64 = 3_600_000;

struct Desk {
    kinesis: Kinesis,
    now: i64,
}

impl Desk {
    fn new() -> Self {
        Self { kinesis: Kinesis::open(None).unwrap(), now: START }
    }

    fn with_stream(shards: u32) -> Self {
        let desk = Self::new();
        desk.ask("CreateStream", json!({ "StreamName": "clicks", "ShardCount": shards }));
        desk
    }

    fn try_ask(&self, operation: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let at = Timestamp(self.now);
        let (status, answer) = self.kinesis.answer(at, "eu-west-1", operation, body.as_bytes());
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        if status == 200 {
            Ok(answer)
        } else {
            Err(format!("{} {}", answer["__type"], answer["message"]))
        }
    }

    #[track_caller]
    fn ask(&self, operation: &str, mut body: Value) -> Value {
        if body.get("ShardIterator").is_none() && body.get("StreamName").is_none() {
            body["StreamName"] = "clicks".into();
        }
        self.try_ask(operation, &body).unwrap()
    }

    #[track_caller]
    fn refuses(&self, operation: &str, body: Value, code: &str) {
        let refusal = self.try_ask(operation, &body).unwrap_err();
        assert!(refusal.contains(code), "{operation} {body}: {refusal}");
    }

    fn put(&self, key: &str, data: &str) -> Value {
        let data = base64_simd::STANDARD.encode_to_string(data);
        self.ask("PutRecord", json!({ "PartitionKey": key, "Data": data }))
    }

    fn iterator(&self, shard: &str, mut how: Value) -> String {
        how["ShardId"] = shard.into();
        let answer = self.ask("GetShardIterator", how);
        answer["ShardIterator"].as_str().unwrap().to_owned()
    }

    fn read(&self, iterator: &str, limit: u32) -> Value {
        self.ask("GetRecords", json!({ "ShardIterator": iterator, "Limit": limit }))
    }

    /// What the records are, from an iterator on.
    fn data(&self, shard: &str, how: Value) -> Vec<String> {
        texts(&self.read(&self.iterator(shard, how), 100))
    }

    fn shards(&self, filter: Value) -> Vec<Value> {
        let body = if filter.is_null() { json!({}) } else { json!({ "ShardFilter": filter }) };
        self.ask("ListShards", body)["Shards"].as_array().unwrap().clone()
    }

    fn split(&self, shard: &str, at: u128) {
        let body = json!({ "ShardToSplit": shard, "NewStartingHashKey": at.to_string() });
        self.ask("SplitShard", body);
    }

    fn merge(&self, one: &str, other: &str) {
        self.ask("MergeShards", json!({ "ShardToMerge": one, "AdjacentShardToMerge": other }));
    }
}

fn texts(answer: &Value) -> Vec<String> {
    let records = answer["Records"].as_array().unwrap();
    let text =
        |record: &Value| base64_simd::STANDARD.decode_to_vec(record["Data"].as_str().unwrap());
    records.iter().map(|it| String::from_utf8(text(it).unwrap()).unwrap()).collect()
}

fn ids(shards: &[Value]) -> Vec<&str> {
    shards.iter().map(|shard| shard["ShardId"].as_str().unwrap()).collect()
}

fn number(text: &Value) -> u128 {
    text.as_str().unwrap().parse().unwrap()
}

const FIRST: &str = "shardId-000000000000";

#[test]
fn every_operation_that_is_named_is_served() {
    let desk = Desk::new();
    for operation in super::SERVED {
        if let Err(refusal) = desk.try_ask(operation, &json!({})) {
            assert!(!refusal.contains("UnknownOperation"), "{operation}: {refusal}");
        }
    }
    desk.refuses("SubscribeToShard", json!({}), "read by GetRecords");
    desk.refuses("MakeCoffee", json!({}), "PutRecords");
}

#[test]
fn each_kind_of_iterator_begins_where_it_should() {
    let mut desk = Desk::with_stream(1);
    let mut numbers = vec![];
    for data in ["a", "b", "c"] {
        desk.now += 1000;
        numbers.push(desk.put("k", data)["SequenceNumber"].clone());
    }
    desk.now += 1000;
    let at = seconds;
    let number = |kind: &str, at: usize| {
        let mut how = json!({ "ShardIteratorType": kind });
        how["StartingSequenceNumber"] = numbers[at].clone();
        how
    };
    for (how, from) in [
        (json!({ "ShardIteratorType": "TRIM_HORIZON" }), 0),
        (number("AT_SEQUENCE_NUMBER", 1), 1),
        (number("AFTER_SEQUENCE_NUMBER", 1), 2),
        (number("AFTER_SEQUENCE_NUMBER", 2), 3),
        (json!({ "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at(START) }), 0),
        (json!({ "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at(START + 2000) }), 1),
        (json!({ "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at(START + 2001) }), 2),
        (json!({ "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at(START + 3001) }), 3),
        (json!({ "ShardIteratorType": "LATEST" }), 3),
    ] {
        assert_eq!(desk.data(FIRST, how.clone()), ["a", "b", "c"][from..], "{how}");
    }
    let begin =
        desk.shards(Value::Null)[0]["SequenceNumberRange"]["StartingSequenceNumber"].clone();
    let how =
        json!({ "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": begin });
    assert_eq!(desk.data(FIRST, how), ["a", "b", "c"]);
    let latest = desk.iterator(FIRST, json!({ "ShardIteratorType": "LATEST" }));
    desk.put("k", "d");
    assert_eq!(texts(&desk.read(&latest, 10)), ["d"]);
}

#[test]
fn what_makes_no_sense_is_refused_by_aws_s_name() {
    let desk = Desk::with_stream(2);
    let iterator = |shard: &str, kind: &str| {
        let mut body = json!({ "StreamName": "clicks", "ShardId": shard });
        body["ShardIteratorType"] = kind.into();
        body
    };
    let with = |mut body: Value, name: &str, value: Value| {
        body[name] = value;
        body
    };
    let at =
        |kind: &str, value: Value| with(iterator(FIRST, kind), "StartingSequenceNumber", value);
    for (operation, body, code) in [
        ("CreateStream", json!({ "StreamName": "clicks" }), "ResourceInUseException"),
        ("CreateStream", json!({ "StreamName": "a", "ShardCount": 0 }), "ValidationException"),
        ("CreateStream", json!({ "StreamName": "a", "ShardCount": 99_999 }), "LimitExceeded"),
        ("DescribeStream", json!({ "StreamName": "none" }), "ResourceNotFoundException"),
        ("DescribeStream", json!({ "StreamName": "clicks", "Limit": 0 }), "ValidationException"),
        ("GetShardIterator", iterator("shardId-000000000007", "LATEST"), "ResourceNotFound"),
        ("GetShardIterator", iterator(FIRST, "NOW"), "ValidationException"),
        ("GetShardIterator", iterator(FIRST, "AT_TIMESTAMP"), "InvalidArgumentException"),
        ("GetShardIterator", at("AT_SEQUENCE_NUMBER", json!("7")), "InvalidArgumentException"),
        ("GetShardIterator", at("AT_SEQUENCE_NUMBER", Value::Null), "InvalidArgumentException"),
        (
            "GetShardIterator",
            with(iterator(FIRST, "AT_TIMESTAMP"), "Timestamp", json!(9e9)),
            "InvalidArgumentException",
        ),
        ("GetRecords", json!({ "ShardIterator": "AAAA" }), "InvalidArgumentException"),
        ("GetRecords", json!({ "ShardIterator": "AAAA", "Limit": 10_001 }), "ValidationException"),
        (
            "PutRecord",
            json!({ "StreamName": "none", "PartitionKey": "a", "Data": "" }),
            "ResourceNotFoundException",
        ),
        (
            "PutRecord",
            json!({ "StreamName": "clicks", "PartitionKey": "", "Data": "" }),
            "ValidationException",
        ),
        (
            "PutRecord",
            json!({ "StreamName": "clicks", "PartitionKey": "a", "Data": "?" }),
            "ValidationException",
        ),
        (
            "PutRecord",
            json!({ "StreamName": "clicks", "PartitionKey": "a", "Data": 7 }),
            "SerializationException",
        ),
        (
            "PutRecord",
            json!({ "StreamName": "clicks", "PartitionKey": "a" }),
            "ValidationException",
        ),
        (
            "PutRecord",
            json!({ "StreamName": "clicks", "PartitionKey": "a", "Data": "",
            "ExplicitHashKey": "340282366920938463463374607431768211456" }),
            "InvalidArgumentException",
        ),
        ("PutRecords", json!({ "StreamName": "clicks", "Records": [] }), "ValidationException"),
        (
            "SplitShard",
            json!({ "StreamName": "clicks", "ShardToSplit": FIRST,
            "NewStartingHashKey": "1" }),
            "InvalidArgumentException",
        ),
        (
            "MergeShards",
            json!({ "StreamName": "clicks", "ShardToMerge": FIRST,
            "AdjacentShardToMerge": FIRST }),
            "InvalidArgumentException",
        ),
        (
            "UpdateShardCount",
            json!({ "StreamName": "clicks", "TargetShardCount": 5,
            "ScalingType": "UNIFORM_SCALING" }),
            "InvalidArgumentException",
        ),
        (
            "IncreaseStreamRetentionPeriod",
            json!({ "StreamName": "clicks",
            "RetentionPeriodHours": 23 }),
            "InvalidArgumentException",
        ),
        (
            "DecreaseStreamRetentionPeriod",
            json!({ "StreamName": "clicks",
            "RetentionPeriodHours": 23 }),
            "InvalidArgumentException",
        ),
        ("ListShards", json!({ "NextToken": "x" }), "InvalidArgumentException"),
    ] {
        desk.refuses(operation, body, code);
    }
    let huge = base64_simd::STANDARD.encode_to_string(vec![0; (1 << 20) + 1]);
    let body = json!({ "StreamName": "clicks", "PartitionKey": "a", "Data": huge });
    desk.refuses("PutRecord", body, "ValidationException");
}

#[test]
fn a_number_of_one_shard_is_none_of_another() {
    let desk = Desk::with_stream(2);
    let number = desk.put("k", "a")["SequenceNumber"].clone();
    let strays = [FIRST, "shardId-000000000001"].into_iter().filter(|shard| {
        let mut body = json!({ "StreamName": "clicks", "ShardId": shard });
        body["ShardIteratorType"] = "AT_SEQUENCE_NUMBER".into();
        body["StartingSequenceNumber"] = number.clone();
        desk.try_ask("GetShardIterator", &body).is_err()
    });
    assert_eq!(strays.count(), 1);
}

#[test]
fn a_closed_shard_ends_with_its_last_record_and_names_its_children() {
    let mut desk = Desk::with_stream(1);
    desk.put("k", "a");
    desk.put("k", "b");
    let begin = desk.iterator(FIRST, json!({ "ShardIteratorType": "TRIM_HORIZON" }));
    desk.now += 5;
    desk.split(FIRST, 1 << 127);
    let first = desk.read(&begin, 1);
    assert!(first.get("ChildShards").is_none() && first["NextShardIterator"].is_string());
    assert_eq!(first["MillisBehindLatest"], 5);
    let last = desk.read(first["NextShardIterator"].as_str().unwrap(), 1);
    assert_eq!(texts(&last), ["b"]);
    assert!(last.get("NextShardIterator").is_none(), "{last}");
    assert_eq!(
        ids(last["ChildShards"].as_array().unwrap()),
        ["shardId-000000000001", "shardId-000000000002"]
    );
    assert_eq!(last["ChildShards"][0]["ParentShards"], json!([FIRST]));
    let range = &desk.shards(Value::Null)[0]["SequenceNumberRange"];
    assert!(range["EndingSequenceNumber"].as_str() > range["StartingSequenceNumber"].as_str());
    desk.merge("shardId-000000000002", "shardId-000000000001");
    let merged = &desk.shards(Value::Null)[3];
    assert_eq!(merged["ParentShardId"], "shardId-000000000002");
    assert_eq!(merged["AdjacentParentShardId"], "shardId-000000000001");
    desk.refuses(
        "SplitShard",
        json!({ "StreamName": "clicks", "ShardToSplit": FIRST,
        "NewStartingHashKey": "9" }),
        "ResourceInUseException",
    );
}

#[test]
fn records_and_shards_expire_by_the_clock() {
    let mut desk = Desk::with_stream(1);
    desk.put("k", "old");
    desk.now += 12 * HOUR_MS;
    desk.put("k", "new");
    desk.split(FIRST, 1 << 127);
    desk.now += 12 * HOUR_MS;
    let horizon = json!({ "ShardIteratorType": "TRIM_HORIZON" });
    assert_eq!(desk.data(FIRST, horizon.clone()), ["old", "new"]);
    desk.now += 1;
    assert_eq!(desk.data(FIRST, horizon.clone()), ["new"]);
    desk.ask("IncreaseStreamRetentionPeriod", json!({ "RetentionPeriodHours": 48 }));
    desk.now += 13 * HOUR_MS;
    assert_eq!(desk.data(FIRST, horizon)[1..], ["new"]);
    desk.ask("DecreaseStreamRetentionPeriod", json!({ "RetentionPeriodHours": 24 }));
    assert_eq!(ids(&desk.shards(Value::Null)), ["shardId-000000000001", "shardId-000000000002"]);
    desk.put("k", "next");
    let rows = |table: &str| {
        let kinesis = desk.kinesis.0.lock().unwrap();
        let sql = format!("SELECT count(*) FROM {table}");
        kinesis.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((rows("records"), rows("shards")), (1, 2));
}

#[test]
fn an_iterator_expires_after_five_minutes() {
    let mut desk = Desk::with_stream(1);
    let iterator = desk.iterator(FIRST, json!({ "ShardIteratorType": "LATEST" }));
    desk.now += 300_000;
    let next = desk.read(&iterator, 1)["NextShardIterator"].clone();
    desk.now += 1;
    desk.refuses("GetRecords", json!({ "ShardIterator": iterator }), "ExpiredIteratorException");
    desk.ask("GetRecords", json!({ "ShardIterator": next }));
    desk.ask("DeleteStream", json!({}));
    desk.refuses("GetRecords", json!({ "ShardIterator": next }), "ResourceNotFoundException");
    desk.ask("CreateStream", json!({ "ShardCount": 1 }));
    desk.refuses("GetRecords", json!({ "ShardIterator": next }), "ResourceNotFoundException");
}

#[test]
fn shards_are_listed_by_filter_and_in_pages() {
    let mut desk = Desk::with_stream(2);
    desk.now += 1000;
    desk.split(FIRST, 1 << 120);
    desk.now += 1000;
    let at = |kind: &str, millis: i64| json!({ "Type": kind, "Timestamp": seconds(millis) });
    for (filter, numbers) in [
        (Value::Null, vec![0, 1, 2, 3]),
        (json!({ "Type": "AT_LATEST" }), vec![1, 2, 3]),
        (json!({ "Type": "AT_TRIM_HORIZON" }), vec![0, 1]),
        (json!({ "Type": "FROM_TRIM_HORIZON" }), vec![0, 1, 2, 3]),
        (json!({ "Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000001" }), vec![2, 3]),
        (at("AT_TIMESTAMP", START + 500), vec![0, 1]),
        (at("AT_TIMESTAMP", START + 1500), vec![1, 2, 3]),
        (at("FROM_TIMESTAMP", START + 500), vec![0, 1, 2, 3]),
        (at("FROM_TIMESTAMP", START + 1500), vec![1, 2, 3]),
    ] {
        let wanted: Vec<String> = numbers.iter().map(|it| format!("shardId-{it:012}")).collect();
        assert_eq!(ids(&desk.shards(filter.clone())), wanted, "{filter}");
    }
    let filter = json!({ "Type": "AT_LATEST" });
    let mut page = desk.ask("ListShards", json!({ "MaxResults": 1, "ShardFilter": filter }));
    let mut found = vec![page["Shards"][0]["ShardId"].clone()];
    while let Some(token) = page.get("NextToken").cloned() {
        let body = json!({ "MaxResults": 1, "NextToken": token });
        page = desk.try_ask("ListShards", &body).unwrap();
        found.push(page["Shards"][0]["ShardId"].clone());
    }
    assert_eq!(found.len(), 3, "{found:?}");
    let described = desk.ask("DescribeStream", json!({ "Limit": 3 }));
    assert_eq!(described["StreamDescription"]["HasMoreShards"], true);
    let summary = desk.ask("DescribeStreamSummary", json!({}));
    assert_eq!(summary["StreamDescriptionSummary"]["OpenShardCount"], 3);
}

#[test]
fn streams_are_listed_tagged_and_scale_on_demand() {
    let desk = Desk::new();
    for name in ["c", "a", "b"] {
        let mode = json!({ "StreamMode": "ON_DEMAND" });
        desk.ask("CreateStream", json!({ "StreamName": name, "StreamModeDetails": mode }));
    }
    let page = desk.try_ask("ListStreams", &json!({ "Limit": 2 })).unwrap();
    assert_eq!((&page["StreamNames"], &page["HasMoreStreams"]), (&json!(["a", "b"]), &json!(true)));
    let token = json!({ "NextToken": page["NextToken"] });
    assert_eq!(desk.try_ask("ListStreams", &token).unwrap()["StreamNames"], json!(["c"]));
    let summary = desk.ask("DescribeStreamSummary", json!({ "StreamName": "a" }));
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!(summary["OpenShardCount"], 4);
    assert_eq!(summary["StreamARN"], "arn:aws:kinesis:eu-west-1:123456789012:stream/a");
    let scale =
        json!({ "StreamName": "a", "TargetShardCount": 8, "ScalingType": "UNIFORM_SCALING" });
    desk.refuses("UpdateShardCount", scale, "ValidationException");
    desk.ask("AddTagsToStream", json!({ "StreamName": "a", "Tags": { "x": "1", "y": "2" } }));
    desk.ask("RemoveTagsFromStream", json!({ "StreamName": "a", "TagKeys": ["x"] }));
    let tags = desk.ask("ListTagsForStream", json!({ "StreamName": "a" }));
    assert_eq!(tags["Tags"], json!([{ "Key": "y", "Value": "2" }]));
}

/// One thing that happens to a stream.
#[derive(Debug, Clone)]
enum Deed {
    Put(u8),
    /// Which open shard, and where in it.
    Split(prop::sample::Index, u128),
    Merge(prop::sample::Index),
    Scale(u32),
    Wait(i64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (0..20_u8).prop_map(Deed::Put),
        2 => (any::<prop::sample::Index>(), any::<u128>()).prop_map(|it| Deed::Split(it.0, it.1)),
        2 => any::<prop::sample::Index>().prop_map(Deed::Merge),
        1 => (1..9_u32).prop_map(Deed::Scale),
        1 => (0..1500_i64).prop_map(Deed::Wait),
    ];
    prop::collection::vec(deed, 1..60)
}

fn range(shard: &Value) -> (u128, u128) {
    let range = &shard["HashKeyRange"];
    (number(&range["StartingHashKey"]), number(&range["EndingHashKey"]))
}

impl Desk {
    /// The open shards, in the order of their keys: they always share out all keys.
    fn open(&self) -> Vec<Value> {
        let mut open = self.shards(json!({ "Type": "AT_LATEST" }));
        open.sort_by_key(range);
        assert_eq!((range(&open[0]).0, range(&open[open.len() - 1]).1), (0, u128::MAX));
        assert!(open.windows(2).all(|pair| range(&pair[0]).1 + 1 == range(&pair[1]).0), "{open:?}");
        open
    }

    fn happen(&mut self, deed: &Deed, so_far: usize) {
        let open = self.open();
        match deed {
            Deed::Put(key) => {
                let key = format!("key-{key}");
                let said = self.put(&key, &format!("{key} {so_far}"));
                let hash = super::hash::of(&key);
                let holders = open.iter().filter(|it| (range(it).0..=range(it).1).contains(&hash));
                assert_eq!(
                    holders.map(|it| &it["ShardId"]).collect::<Vec<_>>(),
                    [&said["ShardId"]]
                );
            }
            Deed::Split(at, key) => {
                let shard = at.get(&open);
                let (low, high) = range(shard);
                if high - low > 4 {
                    let at = low + 2 + key % (high - low - 2);
                    self.split(shard["ShardId"].as_str().unwrap(), at);
                }
            }
            Deed::Merge(at) if open.len() > 1 => {
                let left = at.index(open.len() - 1);
                let [one, other] = [left, left + 1].map(|it| open[it]["ShardId"].as_str().unwrap());
                self.merge(one, other);
            }
            Deed::Merge(_) => {}
            Deed::Scale(count) => {
                let count = (*count as usize).clamp(open.len().div_ceil(2), open.len() * 2);
                let body = json!({ "TargetShardCount": count, "ScalingType": "UNIFORM_SCALING" });
                self.ask("UpdateShardCount", body);
                let bounds =
                    super::hash::ranges(&super::hash::boundaries(u32::try_from(count).unwrap()));
                let found: Vec<_> = self.open().iter().map(range).collect();
                assert_eq!(found, bounds.iter().map(|it| (it.low, it.high)).collect::<Vec<_>>());
            }
            Deed::Wait(millis) => self.now += millis,
        }
    }

    /// Reads all shards, none before its parents are at their ends; gives each key's records.
    fn read_by_lineage(&self) -> BTreeMap<String, Vec<(String, usize)>> {
        let shards = self.shards(Value::Null);
        let (mut read, mut found) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
        while read.len() < shards.len() {
            let before = read.len();
            for shard in &shards {
                let id = shard["ShardId"].as_str().unwrap();
                let parents = ["ParentShardId", "AdjacentParentShardId"];
                let parents = parents.iter().filter_map(|it| shard[*it].as_str());
                if read.contains(id) || !parents.clone().all(|parent| read.contains(parent)) {
                    continue;
                }
                let mut next =
                    Some(self.iterator(id, json!({ "ShardIteratorType": "TRIM_HORIZON" })));
                while let Some(iterator) = next {
                    let answer = self.read(&iterator, 3);
                    for (text, record) in
                        texts(&answer).iter().zip(answer["Records"].as_array().unwrap())
                    {
                        let (key, count) = text.split_once(' ').unwrap();
                        let number = record["SequenceNumber"].as_str().unwrap().to_owned();
                        found
                            .entry(key.to_owned())
                            .or_default()
                            .push((number, count.parse().unwrap()));
                    }
                    let is_at_tip = texts(&answer).is_empty();
                    next = answer["NextShardIterator"]
                        .as_str()
                        .map(str::to_owned)
                        .filter(|_| !is_at_tip);
                }
                read.insert(id.to_owned());
            }
            assert!(read.len() > before, "a shard's parents are not to be had: {shards:?}");
        }
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn keys_keep_their_order_over_any_splits_and_merges(shards in 1..5_u32, deeds in deeds()) {
        let mut desk = Desk::with_stream(shards);
        let mut written = BTreeMap::<String, Vec<usize>>::new();
        for (number, deed) in deeds.iter().enumerate() {
            desk.happen(deed, number);
            if let Deed::Put(key) = deed {
                written.entry(format!("key-{key}")).or_default().push(number);
            }
        }
        let found = desk.read_by_lineage();
        for records in found.values() {
            prop_assert!(records.windows(2).all(|pair| pair[0].0 < pair[1].0), "{records:?}");
        }
        let counts = |records: &Vec<(String, usize)>| records.iter().map(|it| it.1).collect();
        let found: BTreeMap<String, Vec<usize>> =
            found.iter().map(|(key, records)| (key.clone(), counts(records))).collect();
        prop_assert_eq!(found, written);
    }
}
