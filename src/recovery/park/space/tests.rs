//! The change from the old layout, whose rows are written here as they were.

use super::*;
use crate::{
    clock::SystemClock,
    recovery::park::{OnPark, holds::Entry},
    store::{Endpoint, Store, embedded},
};
use aws_sdk_dynamodb::{
    config::{Credentials, SharedCredentialsProvider},
    types::AttributeValue,
};

const DEADLINE: Timestamp = Timestamp(i64::MAX);
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HASH: &str = "0bf1e65ac9b0e5e6fd1a9a2d2f0a7c11";

async fn table() -> Park {
    let client = embedded::open(None).unwrap();
    let endpoint = Endpoint {
        region: "us-east-1".to_owned(),
        url: Some("http://embedded".to_owned()),
        credentials: SharedCredentialsProvider::new(Credentials::new(
            "local", "local", None, None, "test",
        )),
    };
    let store = Store::new(client, &endpoint, Arc::new(SystemClock), 1);
    let park = Park::new(store, "park".to_owned(), OnPark::Hold, 24);
    park.ensure_table(DEADLINE).await.unwrap();
    park
}

/// As the version before wrote it, its record parked by `orders`.
async fn write_old_rows(park: &Park, state: &str) {
    let envelope = r#"{"changefold":1,"function":"orders","function_version":"7","stream_arn":"",
        "key":"pk=a","sequence_number":"1","ordinal":0,"error_code":"Refused","error":[],
        "attempts":1,"first_failed_ms":0,"last_failed_ms":0,"record":""}"#;
    let number = |text: &str| AttributeValue::N(text.to_owned());
    let entries = [(HASH.to_owned(), text(format!("{state} 1799999000 R##1#000000")))];
    let mut stripe = holds::key("S#3");
    stripe.insert("rev".to_owned(), number("5"));
    stripe.insert("e".to_owned(), AttributeValue::M(entries.into()));
    let mut row = Item::new();
    for (name, value) in [
        ("pk", format!("K#{HASH}")),
        ("sk", "R##1#000000".to_owned()),
        ("state", "parked".to_owned()),
    ] {
        row.insert(name.to_owned(), text(value));
    }
    row.insert("envelope".to_owned(), text(envelope));
    row.insert("parked_ms".to_owned(), number("1799999000000"));
    for item in [stripe, row] {
        park.store.change(&Change::put("park", item), DEADLINE).await.unwrap();
    }
}

async fn held(park: &Park, consumer: &str, function: &str) -> Result<Vec<(String, State)>, String> {
    let mut park =
        Park { cache: Cache::default(), ..park.clone() }.of_consumer(consumer.to_owned(), function);
    let holds = park.holds_now("", (NOW, DEADLINE)).await.map_err(|error| error.to_string())?;
    Ok(holds.all().map(|(hash, entry)| (hash.to_owned(), entry.state)).collect())
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
}

#[test]
fn old_parks_are_their_functions_and_nobody_elses() {
    run(async {
        let park = table().await;
        write_old_rows(&park, "open").await;
        let refused = held(&park, "totals", "totals").await.unwrap_err();
        assert!(refused.contains("`orders`") && refused.contains("CHANGEFOLD_OLD_PARKS"));
        let all = vec![(HASH.to_owned(), State::Open)];
        assert_eq!(held(&park, "orders:live", "orders").await.unwrap(), all);
        // Afterwards it is settled: another consumer begins with nothing.
        assert_eq!(held(&park, "totals", "totals").await.unwrap(), []);
        assert_eq!(held(&park, "orders", "orders").await.unwrap(), []);
        assert_eq!(held(&park, "orders:live", "orders").await.unwrap(), all);
    });
}

#[test]
fn the_claimer_has_the_old_hashes_and_others_have_their_own() {
    run(async {
        let park = table().await;
        write_old_rows(&park, "closed").await;
        let key = Key { hash: HASH.to_owned(), readable: String::new(), source_arn: String::new() };
        let mut first = park.of_consumer("orders".to_owned(), "orders");
        first.holds_now("", (NOW, DEADLINE)).await.unwrap();
        assert_eq!(first.key(key.clone()).hash, HASH);
        let mut other = park.of_consumer("totals".to_owned(), "totals");
        other.holds_now("", (NOW, DEADLINE)).await.unwrap();
        let third = park.of_consumer("third".to_owned(), "third");
        let hashes = [other.key(key.clone()).hash, third.key(key).hash, HASH.to_owned()];
        assert!(hashes[0] != hashes[1] && !hashes[..2].contains(&hashes[2]), "{hashes:?}");
    });
}

#[test]
fn a_setting_takes_or_leaves_the_old_parks() {
    run(async {
        let park = table().await;
        write_old_rows(&park, "open").await;
        let leaves = park.clone().with_old_parks(OldParks::Leave);
        assert_eq!(held(&leaves, "totals", "totals").await.unwrap(), []);
        let takes = park.clone().with_old_parks(OldParks::Take);
        assert_eq!(held(&takes, "totals", "totals").await.unwrap().len(), 1);
        assert_eq!(held(&park, "orders", "orders").await.unwrap(), [], "they are taken");
    });
}

/// A version from before still runs: it sees what was held, and can open or close no key.
#[test]
fn old_rows_are_fenced_when_they_are_claimed() {
    run(async {
        let park = table().await;
        write_old_rows(&park, "open").await;
        held(&park, "orders", "orders").await.unwrap();
        let rows: Vec<RowKey<'_>> = (0..OLD_STRIPES).map(|at| park.old_row(at)).collect();
        let rows = park.store.read(&rows, DEADLINE).await.unwrap();
        assert_eq!(rows.len(), usize::from(OLD_STRIPES));
        assert!(rows.iter().all(|(_, item)| !item.contains_key("rev")));
        assert_eq!(park.old_in(&rows).entries.entry(HASH).map(|it| it.state), Some(State::Open));
    });
}

/// Another process parks, and a table is emptied under a process that has a copy.
#[test]
fn a_copy_is_used_as_long_as_it_is_the_newest() {
    run(async {
        let park = table().await.of_consumer("c".to_owned(), "");
        let mut here = park.clone();
        let mut there = Park { cache: Cache::default(), ..park.clone() };
        let times = (NOW, DEADLINE);
        let open = async |park: &mut Park, hash: &str, now: Timestamp| {
            let holds = park.holds_now("", (now, DEADLINE)).await.unwrap();
            let entry = Entry { state: State::Open, from: String::new(), changed_s: now.0 / 1_000 };
            let (changes, _) = holds.set(park.of(), hash, entry, park.bounds(now)).unwrap();
            park.store.change_all(changes, DEADLINE).await.unwrap();
        };
        let parked = async |park: &mut Park| {
            let holds = park.holds_now("", times).await.unwrap();
            holds.parked().map(|(hash, _)| hash.to_owned()).collect::<Vec<_>>()
        };
        open(&mut here, "00", NOW).await;
        assert_eq!(parked(&mut there).await, ["00"]);
        open(&mut here, "01", NOW).await;
        open(&mut there, "00b", NOW).await;
        assert_eq!(parked(&mut here).await, ["00", "00b", "01"]);
        let calls = park.store.usage().calls;
        assert_eq!(parked(&mut here).await.len(), 3);
        assert_eq!(park.store.usage().calls - calls, 1, "one row tells that nothing changed");

        for stripe in [0, 1] {
            park.store.delete(&park.of().stripe(stripe), DEADLINE).await.unwrap();
        }
        for replica in 0..REPLICAS {
            park.store.delete(&park.of().revisions(replica), DEADLINE).await.unwrap();
        }
        assert_eq!(parked(&mut here).await, [""; 0]);
        open(&mut there, "00", Timestamp(NOW.0 + 1_000)).await;
        assert_eq!(parked(&mut here).await, ["00"]);
    });
}
