//! Live streams of the desk's endpoint against a target that notes what it is given.

use super::{dynamodb, put};
use crate::support::{block_on, environment, local_endpoint};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};
use aws_sdk_kinesis::{
    Client,
    config::BehaviorVersion,
    primitives::Blob,
    types::{PutRecordsRequestEntry, Shard},
};
use bytes::Bytes;
use changefold::{
    call::Call,
    clock::{Clock as _, SystemClock},
    local::{
        checkpoint::Checkpoints,
        clock::{Pace, VirtualClock},
        endpoint::{Endpoint, Serving},
        live::{Live, Reading, Written, kinesis_stream, table_stream},
        mapping::{OnFailure, Parameters, Records},
        run::{Invoked, Observer, Setting, Summary, follow},
        target::{FunctionError, Target},
    },
    record::Source,
    recovery::services::{Endpoints, Services},
    store,
};
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Notes the records that it takes, and takes no batch with a poison record.
struct Notes {
    wanted: usize,
    is_poison: fn(&Value) -> bool,
    taken: RefCell<Vec<Value>>,
    enough: Notify,
    given_up: Cell<usize>,
}

impl Notes {
    fn new(wanted: usize, is_poison: fn(&Value) -> bool) -> Self {
        Self {
            wanted,
            is_poison,
            taken: RefCell::default(),
            enough: Notify::new(),
            given_up: Cell::new(0),
        }
    }

    fn give_up(&self, records: usize) {
        self.given_up.set(self.given_up.get() + records);
        self.look();
    }

    fn look(&self) {
        if self.taken.borrow().len() + self.given_up.get() >= self.wanted {
            self.enough.notify_one();
        }
    }
}

impl Target for Notes {
    fn invoke(&self, payload: Bytes, _: Call) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        async move {
            let event: Value = serde_json::from_slice(&payload).unwrap();
            let records = event["Records"].as_array().unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            if records.iter().any(self.is_poison) {
                return Err(FunctionError::unhandled("poisoned"));
            }
            self.taken.borrow_mut().extend(records.iter().cloned());
            self.look();
            Ok(Bytes::from_static(b"{}"))
        }
        .boxed_local()
    }
}

struct Counts<'a>(&'a Notes);

impl Observer for Counts<'_> {
    fn read(&mut self, _: u64) {}

    fn invoked(&mut self, _: &Invoked<'_>) {}

    fn discarded(&mut self, on_failure: &OnFailure) {
        self.0.give_up(on_failure.records.len());
    }

    fn lost(&mut self, _: &str, records: &Records) {
        self.0.give_up(records.len());
    }
}

struct Desk {
    /// None where another server is read.
    endpoint: Option<Arc<Endpoint>>,
    url: String,
    services: Services,
}

impl Desk {
    async fn start() -> Self {
        let serving = Serving::in_memory(Arc::new(SystemClock));
        let endpoint = Arc::new(Endpoint::start(serving).await.unwrap());
        let url = endpoint.url();
        Self::at(url, Some(endpoint))
    }

    fn at(url: String, endpoint: Option<Arc<Endpoint>>) -> Self {
        let credentials = local_endpoint(None).credentials;
        let endpoints = Endpoints::new("us-east-1", &credentials, |_| Some(url.clone()));
        let services = Services::new(store::network(), endpoints, Arc::new(SystemClock), 1);
        Self { endpoint, url, services }
    }

    async fn follow(
        &self,
        source: Source,
        arn: &str,
        notes: &Notes,
        parameters: Parameters,
    ) -> Summary {
        let clock = VirtualClock::new(SystemClock.now(), Pace::Real);
        let endpoint = self.endpoint.clone();
        let written =
            endpoint.map(|endpoint| -> Written { Arc::new(move || endpoint.written().boxed()) });
        let reading = Reading {
            services: self.services.clone(),
            source,
            event_source_arn: arn.to_owned(),
            invoked_as: "role".to_owned(),
            mapping_uuid: "uuid".to_owned(),
            time_zero: clock.timestamp(0),
            written,
            tell: Arc::new(|_| {}),
        };
        let mut checkpoints = Checkpoints::forgotten();
        let live = Live::open(reading, &parameters, &mut checkpoints).await.unwrap();
        let setting = Setting {
            parameters,
            timeout: 60_000,
            function_arn: "arn".to_owned(),
            checkpoints,
            from_start: false,
            faults: None,
        };
        let mut observer = Counts(notes);
        let run = follow(live, notes, &clock, setting, notes.enough.notified(), &mut observer);
        tokio::time::timeout(Duration::from_secs(18), run)
            .await
            .unwrap_or_else(|_| {
                panic!("{} of {} records came", notes.taken.borrow().len(), notes.wanted)
            })
            .unwrap()
    }

    fn kinesis(&self) -> Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_sdk_kinesis::config::Region::new("us-east-1"))
            .credentials_provider(local_endpoint(None).credentials)
            .endpoint_url(&self.url)
            .http_client(store::network())
            .build();
        Client::from_conf(config)
    }
}

async fn shards(client: &Client) -> Vec<Shard> {
    let listed = client.list_shards().stream_name("clicks").send().await.unwrap();
    listed.shards.unwrap()
}

async fn open_shards(client: &Client) -> Vec<Shard> {
    let mut shards = shards(client).await;
    shards
        .retain(|shard| shard.sequence_number_range().unwrap().ending_sequence_number().is_none());
    let start = |shard: &Shard| hash(shard.hash_key_range().unwrap().starting_hash_key());
    shards.sort_by_key(start);
    shards
}

fn hash(text: &str) -> u128 {
    text.parse().unwrap()
}

/// Splits the first open shard, or merges the first two; both while records come.
async fn reshard(client: &Client, splits: bool) {
    let open = open_shards(client).await;
    if splits {
        let range = open[0].hash_key_range().unwrap();
        let (from, to) = (hash(range.starting_hash_key()), hash(range.ending_hash_key()));
        let middle = from + (to - from) / 2;
        let request = client.split_shard().stream_name("clicks").shard_to_split(open[0].shard_id());
        request.new_starting_hash_key(middle.to_string()).send().await.unwrap();
    } else {
        let request =
            client.merge_shards().stream_name("clicks").shard_to_merge(open[1].shard_id());
        request.adjacent_shard_to_merge(open[2].shard_id()).send().await.unwrap();
    }
    loop {
        let summary = client.describe_stream_summary().stream_name("clicks").send().await.unwrap();
        if summary.stream_description_summary().unwrap().stream_status().as_str() == "ACTIVE" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const KEYS: usize = 40;

/// Each key counts its records.
async fn produce(client: &Client, rounds: usize) {
    for round in 0..rounds {
        if round % 10 == 5 {
            reshard(client, round % 20 == 5).await;
        }
        let records = (0..KEYS).map(|key| {
            let entry = PutRecordsRequestEntry::builder().partition_key(format!("k{key}"));
            entry.data(Blob::new(round.to_string())).build().unwrap()
        });
        let request = client.put_records().stream_name("clicks");
        let answer = request.set_records(Some(records.collect())).send().await.unwrap();
        assert_eq!(answer.failed_record_count(), Some(0));
    }
}

#[test]
fn a_stream_that_splits_and_merges_loses_nothing_and_keeps_the_order_of_keys() {
    block_on(async { check_resharding(Desk::start().await, 60).await });
}

/// kinesis-local instead of the desk's endpoint; `tests/dev.sh` sets where it is. It says nothing
/// of writes, so it is polled once a second, each generation of shards after the other.
#[test]
fn a_stream_of_kinesis_local_that_splits_and_merges_loses_nothing() {
    let Some(url) = environment("CHANGEFOLD_TEST_KINESIS") else { return };
    block_on(async { check_resharding(Desk::at(url, None), 20).await });
}

/// Resharded twice in twenty rounds.
async fn check_resharding(desk: Desk, rounds: usize) {
    let client = desk.kinesis();
    client.create_stream().stream_name("clicks").shard_count(4).send().await.unwrap();
    let found = kinesis_stream(&desk.services, "clicks").await.unwrap();
    let notes = Notes::new(rounds * KEYS, |_| false);
    let parameters = Parameters::default();
    let follow = desk.follow(Source::Kinesis, &found.arn, &notes, parameters);
    let (summary, ()) = tokio::join!(follow, produce(&client, rounds));
    assert_eq!(summary.records, (rounds * KEYS) as u64);

    let taken = notes.taken.into_inner();
    let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for record in &taken {
        let data = record["kinesis"]["data"].as_str().unwrap();
        let data = base64_simd::STANDARD.decode_to_vec(data).unwrap();
        let round = String::from_utf8(data).unwrap().parse().unwrap();
        by_key.entry(record["kinesis"]["partitionKey"].as_str().unwrap()).or_default().push(round);
    }
    assert_eq!(by_key.len(), KEYS);
    for (key, found) in by_key {
        assert_eq!(found, (0..rounds).collect::<Vec<_>>(), "{key}");
    }
    let of =
        |record: &Value| record["eventID"].as_str().unwrap().split(':').next().unwrap().to_owned();
    let order: Vec<String> = taken.iter().map(of).collect();
    let all = shards(&client).await;
    let reshards = rounds / 20;
    assert_eq!(all.len(), 4 + reshards * 2 + reshards, "as many splits as merges");
    for child in &all {
        let Some(first) = order.iter().position(|shard| shard == child.shard_id()) else {
            continue;
        };
        for parent in [child.parent_shard_id(), child.adjacent_parent_shard_id()] {
            let last = parent.and_then(|parent| order.iter().rposition(|it| it == parent));
            assert!(last.is_none_or(|last| last < first), "{child:?}");
        }
    }
}

#[test]
fn a_poison_record_is_set_aside_while_the_others_of_its_shard_flow() {
    const PUTS: usize = 300;
    block_on(async {
        let desk = Desk::start().await;
        let client = dynamodb(&desk.url);
        let key = AttributeDefinition::builder()
            .attribute_name("order_id")
            .attribute_type(ScalarAttributeType::S);
        let schema = KeySchemaElement::builder().attribute_name("order_id").key_type(KeyType::Hash);
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewAndOldImages);
        client
            .create_table()
            .table_name("orders")
            .attribute_definitions(key.build().unwrap())
            .key_schema(schema.build().unwrap())
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(stream.build().unwrap())
            .send()
            .await
            .unwrap();
        let found = table_stream(&desk.services, &client, "orders").await.unwrap();
        assert!(found.has_new_images());
        // Placed, and changed: two records.
        let notes = Notes::new(PUTS, |record| record["dynamodb"]["Keys"]["order_id"]["S"] == "o13");
        let parameters = Parameters {
            bisect_batch_on_function_error: true,
            maximum_retry_attempts: Some(0),
            ..Parameters::default()
        };
        let produce = async {
            for number in 0..u32::try_from(PUTS).unwrap() {
                put(&client, number).await.unwrap();
            }
        };
        let follow = desk.follow(Source::DynamoDb, &found.arn, &notes, parameters);
        let (summary, ()) = tokio::join!(follow, produce);
        assert_eq!((summary.discards, notes.given_up.get()), (2, 2), "{:?}", summary.on_failure);
        assert!(summary.on_failure[0].contains("DDBStreamBatchInfo"));
        let taken = notes.taken.into_inner();
        assert_eq!(taken.len(), PUTS - 2);
        let number = |record: &Value| {
            let text = record["dynamodb"]["SequenceNumber"].as_str().unwrap();
            text.parse::<u128>().unwrap()
        };
        assert!(taken.is_sorted_by_key(number));
    });
}

// R42
#[test]
fn a_record_that_its_stream_lets_expire_is_lost_and_told_and_the_next_one_comes() {
    block_on(async {
        let desk = Desk::start().await;
        let client = desk.kinesis();
        client.create_stream().stream_name("clicks").shard_count(1).send().await.unwrap();
        let longer = client.increase_stream_retention_period().stream_name("clicks");
        longer.retention_period_hours(48).send().await.unwrap();
        let found = kinesis_stream(&desk.services, "clicks").await.unwrap();
        assert_eq!(found.retention_s, 48 * 3_600);

        // Nobody waits for two days here: for the mapping it is a second.
        let parameters = Parameters { retention_s: Some(1), ..Parameters::default() };
        let is_poison: fn(&Value) -> bool = |record| record["kinesis"]["partitionKey"] == "poison";
        let notes = Notes::new(2, is_poison);
        let put = async |key: &str| {
            let put = client.put_record().stream_name("clicks").partition_key(key);
            put.data(Blob::new("{}")).send().await.unwrap();
        };
        let produce = async {
            put("poison").await;
            while notes.given_up.get() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            put("good").await;
        };
        let follow = desk.follow(Source::Kinesis, &found.arn, &notes, parameters);
        let (summary, ()) = tokio::join!(follow, produce);
        assert_eq!((summary.lost, summary.discards), (1, 0));
        assert_eq!(notes.taken.into_inner().len(), 1);
    });
}
