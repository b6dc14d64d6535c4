//! Tables and their streams through their clients.

use super::{Clients, HOUR_MS, SetForward, desk};
use crate::support::block_on;
use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata as _,
    types::{
        AttributeValue, Put, StreamSpecification, StreamViewType, TimeToLiveSpecification,
        TransactWriteItem, Update,
    },
};
use aws_sdk_dynamodbstreams::types::{OperationType, Record, ShardIteratorType};
use changefold::{
    clock::{Clock as _, SystemClock},
    local::endpoint::{Endpoint, Serving},
};
use std::sync::Arc;

const TABLE: &str = "orders";

/// An item as the streams' client has it.
#[expect(clippy::disallowed_types, reason = "the SDK's own type; its order is never looked at")]
type Item = std::collections::HashMap<String, aws_sdk_dynamodbstreams::types::AttributeValue>;

/// The number of an item: nothing of an image that is not there.
fn number(image: Option<&Item>) -> &str {
    image.map_or("", |image| image.get("value").map_or("?", |value| value.as_n().unwrap()))
}

/// What happened to which item, as `MODIFY a 1>2`.
fn told(record: &Record) -> String {
    let data = record.dynamodb.as_ref().unwrap();
    let id = data.keys.as_ref().unwrap()["id"].as_s().unwrap();
    let name = record.event_name.as_ref().unwrap().as_str();
    format!("{name} {id} {}>{}", number(data.old_image()), number(data.new_image()))
}

async fn change(clients: &Clients) {
    clients.put(TABLE, "a", "1").await;
    clients.put(TABLE, "a", "2").await;
    // The same again changes nothing, in whatever form.
    clients.put(TABLE, "a", "2.0").await;
    clients.put(TABLE, "b", "1").await;
    let delete = clients.tables.delete_item().table_name(TABLE);
    delete.key("id", AttributeValue::S("a".to_owned())).send().await.unwrap();
}

#[test]
fn a_stream_has_each_change_in_order_in_the_view_that_was_asked_for() {
    for (view, wanted) in [
        (
            StreamViewType::NewAndOldImages,
            ["INSERT a >1", "MODIFY a 1>2", "INSERT b >1", "REMOVE a 2>"],
        ),
        (StreamViewType::NewImage, ["INSERT a >1", "MODIFY a >2", "INSERT b >1", "REMOVE a >"]),
        (StreamViewType::OldImage, ["INSERT a >", "MODIFY a 1>", "INSERT b >", "REMOVE a 2>"]),
        (StreamViewType::KeysOnly, ["INSERT a >", "MODIFY a >", "INSERT b >", "REMOVE a >"]),
    ] {
        block_on(async {
            let (_endpoint, clients, _) = desk().await;
            let arn = clients.create_table(TABLE, view.clone()).await;
            change(&clients).await;
            let records = clients.changes(&arn).await;
            let found: Vec<_> = records.iter().map(told).collect();
            assert_eq!(found, wanted, "{view:?}");
            let numbers = records.iter().map(|it| it.dynamodb.as_ref().unwrap().sequence_number());
            let numbers: Vec<&str> = numbers.map(Option::unwrap).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers[0].len() == 21);
            let first = &records[0];
            assert_eq!(first.aws_region(), Some("us-east-1"));
            assert_eq!(first.user_identity(), None);
            let table = clients.tables.describe_table().table_name(TABLE).send().await.unwrap();
            let table = table.table.unwrap();
            assert_eq!(
                table.table_arn(),
                Some("arn:aws:dynamodb:us-east-1:123456789012:table/orders")
            );
            assert_eq!(table.latest_stream_arn(), Some(&*arn));
            assert_eq!(table.stream_specification.unwrap().stream_view_type, Some(view));
        });
    }
}

#[test]
fn a_stream_ends_when_it_is_disabled_and_the_next_begins_anew() {
    block_on(async {
        let (_endpoint, clients, _) = desk().await;
        let arn = clients.create_table(TABLE, StreamViewType::NewImage).await;
        clients.put(TABLE, "a", "1").await;
        let range = clients.shard(&arn).await.sequence_number_range.unwrap();
        assert!(range.starting_sequence_number.is_some() && range.ending_sequence_number.is_none());
        let set = async |enabled: bool| {
            let stream = StreamSpecification::builder().stream_enabled(enabled);
            let stream = stream.set_stream_view_type(enabled.then_some(StreamViewType::OldImage));
            let update = clients.tables.update_table().table_name(TABLE);
            update.stream_specification(stream.build().unwrap()).send().await
        };
        let twice = set(true).await.unwrap_err().into_service_error();
        assert_eq!(twice.meta().code(), Some("ValidationException"));
        set(false).await.unwrap();
        clients.put(TABLE, "unseen", "1").await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let next = set(true).await.unwrap().table_description.unwrap().latest_stream_arn.unwrap();
        assert_ne!(arn, next);
        clients.put(TABLE, "b", "1").await;

        assert!(
            clients
                .shard(&arn)
                .await
                .sequence_number_range
                .unwrap()
                .ending_sequence_number
                .is_some()
        );
        let begin = clients.begin(&arn, ShardIteratorType::TrimHorizon).await;
        let last = clients.streams.get_records().shard_iterator(begin).send().await.unwrap();
        assert_eq!(last.next_shard_iterator, None);
        assert_eq!(last.records().iter().map(told).collect::<Vec<_>>(), ["INSERT a >1"]);
        assert_eq!(
            clients.changes(&next).await.iter().map(told).collect::<Vec<_>>(),
            ["INSERT b >"]
        );
        let listed = clients.streams.list_streams().table_name(TABLE).send().await.unwrap();
        let listed: Vec<_> = listed.streams().iter().map(|it| it.stream_arn().unwrap()).collect();
        assert_eq!(listed, [&arn, &next]);
    });
}

/// dynoxide itself keeps them by the table's name.
#[test]
fn a_new_table_does_not_have_the_changes_of_a_deleted_one() {
    block_on(async {
        let (_endpoint, clients, _) = desk().await;
        let old = clients.create_table(TABLE, StreamViewType::NewImage).await;
        clients.put(TABLE, "a", "1").await;
        clients.tables.delete_table().table_name(TABLE).send().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let new = clients.create_table(TABLE, StreamViewType::NewImage).await;
        assert_eq!(clients.changes(&new).await, []);
        assert_eq!(clients.changes(&old).await.len(), 1, "AWS keeps them for a day");
    });
}

#[test]
fn items_whose_time_is_over_are_deleted_as_by_dynamodb() {
    block_on(async {
        let (endpoint, clients, _) = desk().await;
        let arn = clients.create_table(TABLE, StreamViewType::NewAndOldImages).await;
        let ttl = TimeToLiveSpecification::builder().attribute_name("value").enabled(true);
        let update = clients.tables.update_time_to_live().table_name(TABLE);
        update.time_to_live_specification(ttl.build().unwrap()).send().await.unwrap();
        // AWS leaves what is over for five years.
        let over = (SystemClock.now().0 / 1000 - 10).to_string();
        clients.put(TABLE, "over", &over).await;
        clients.put(TABLE, "kept", "9000000000").await;
        let records = loop {
            let written = endpoint.written();
            let records = clients.changes(&arn).await;
            if records.len() > 2 {
                break records;
            }
            tokio::time::timeout(std::time::Duration::from_secs(10), written).await.unwrap();
        };
        let [_, _, gone] = &records[..] else { panic!("{records:?}") };
        assert_eq!(gone.event_name, Some(OperationType::Remove));
        assert_eq!(told(gone), format!("REMOVE over {over}>"));
        let who = gone.user_identity.as_ref().unwrap();
        assert_eq!(who.r#type(), Some("Service"));
        assert_eq!(who.principal_id(), Some("dynamodb.amazonaws.com"));
    });
}

#[test]
fn changes_are_gone_after_a_day_and_who_stood_there_is_told() {
    block_on(async {
        let (_endpoint, clients, clock) = desk().await;
        let arn = clients.create_table(TABLE, StreamViewType::NewImage).await;
        clients.put(TABLE, "a", "1").await;
        let first = clients.changes(&arn).await.remove(0).dynamodb.unwrap();
        clock.by(24 * HOUR_MS + 2_000);
        assert_eq!(clients.changes(&arn).await, []);
        let shard = clients.shard(&arn).await.shard_id.unwrap();
        let begin = clients.streams.get_shard_iterator().stream_arn(&arn).shard_id(&shard);
        let begin = begin.set_sequence_number(first.sequence_number);
        let at = begin.clone().shard_iterator_type(ShardIteratorType::AtSequenceNumber);
        let at = at.send().await.unwrap_err();
        assert!(at.into_service_error().is_trimmed_data_access_exception());
        // Behind it nothing is missing.
        begin.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).send().await.unwrap();
        let iterator = clients.begin(&arn, ShardIteratorType::Latest).await;
        clock.by(15 * 60_000 + 1);
        let old = clients.streams.get_records().shard_iterator(iterator).send().await.unwrap_err();
        assert!(old.into_service_error().is_expired_iterator_exception());
        let stray = clients.streams.describe_stream();
        let stray = stray.stream_arn(arn.replace("orders", "others")).send().await.unwrap_err();
        assert!(stray.into_service_error().is_resource_not_found_exception());
        let stray = clients.streams.get_shard_iterator().stream_arn(&arn).shard_id("shardId-0");
        let stray = stray.shard_iterator_type(ShardIteratorType::Latest).send().await.unwrap_err();
        assert!(stray.into_service_error().is_resource_not_found_exception());
    });
}

#[test]
fn a_transaction_that_is_sent_twice_is_done_once_also_by_the_next_process() {
    let directory = std::env::temp_dir().join(format!("changefold-tokens-{}", std::process::id()));
    block_on(async {
        let forward = SetForward::default();
        let clock = Arc::new(forward.clone());
        let serving = Serving { state: Some(directory.clone()), ..Serving::in_memory(clock) };
        let endpoint = Endpoint::start(serving.clone()).await.unwrap();
        let clients = Clients::at(&endpoint.url());
        let arn = clients.create_table(TABLE, StreamViewType::NewImage).await;
        let put = Put::builder().table_name(TABLE);
        let put = put.item("id", AttributeValue::S("b".to_owned())).build().unwrap();
        let add = Update::builder().table_name(TABLE);
        let add = add.key("id", AttributeValue::S("a".to_owned()));
        let add = add.update_expression("ADD #v :one").expression_attribute_names("#v", "value");
        let add = add.expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
        let items = [
            TransactWriteItem::builder().put(put).build(),
            TransactWriteItem::builder().update(add.build().unwrap()).build(),
        ];
        let write = |clients: &Clients, token: &str, items: &[TransactWriteItem]| {
            let write = clients.tables.transact_write_items().client_request_token(token);
            write.set_transact_items(Some(items.to_vec())).send()
        };
        for _ in 0..2 {
            write(&clients, "once", &items).await.unwrap();
        }
        let other = write(&clients, "once", &items[..1]).await.unwrap_err().into_service_error();
        assert!(other.is_idempotent_parameter_mismatch_exception(), "{other:?}");
        let long = write(&clients, &"1".repeat(37), &items).await.unwrap_err();
        assert_eq!(long.into_service_error().code(), Some("ValidationException"));
        endpoint.stop().await;

        let endpoint = Endpoint::start(serving).await.unwrap();
        let clients = Clients::at(&endpoint.url());
        write(&clients, "once", &items).await.unwrap();
        let found: Vec<_> = clients.changes(&arn).await.iter().map(told).collect();
        assert_eq!(found, ["INSERT b >?", "INSERT a >1"]);
        forward.by(HOUR_MS / 6);
        write(&clients, "once", &items).await.unwrap();
        let found: Vec<_> = clients.changes(&arn).await.iter().map(told).collect();
        assert_eq!(found, ["INSERT b >?", "INSERT a >1", "MODIFY a >2"]);
        endpoint.stop().await;
    });
    std::fs::remove_dir_all(directory).unwrap();
}

/// Each new row had to walk over all of them.
#[test]
fn no_row_of_a_stream_is_left_in_the_store_s_own_table() {
    let directory = std::env::temp_dir().join(format!("changefold-rows-{}", std::process::id()));
    block_on(async {
        let clock = Arc::new(SystemClock);
        let serving = Serving { state: Some(directory.clone()), ..Serving::in_memory(clock) };
        let endpoint = Endpoint::start(serving).await.unwrap();
        let clients = Clients::at(&endpoint.url());
        let arn = clients.create_table(TABLE, StreamViewType::NewImage).await;
        change(&clients).await;
        assert_eq!(clients.changes(&arn).await.len(), 4);
        endpoint.stop().await;
    });
    let store = rusqlite::Connection::open(directory.join("tables.sqlite")).unwrap();
    let rows = store.query_row("SELECT count(*) FROM _stream_records", [], |row| row.get(0));
    assert_eq!(rows, Ok(0));
    std::fs::remove_dir_all(directory).unwrap();
}
