//! Rows, ledger and source compared, and mended where they differ.
//!
//! Beside live writes: `backfill/checks.rs`.

use crate::{
    parked::changefold,
    reconcile::{ORDERS, Shop, VIEWS, number},
    support::{self, call, order},
};
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    call::Halt,
    handler::Function,
    local::store_server::StoreServer,
    operation::{
        self, Operation, Operations,
        backfill::{Backfill, Status, Which},
        verified::{LastVerified, ViewDrift},
        verify::{Check, Drift, Repair, Stopped, Verified, Verify},
    },
    outcome::Answer,
    store::{Item, Store, embedded::Embedded},
};
use std::sync::Arc;

/// Asks once.
async fn ask(shop: &Shop, operation: Operation) -> Result<Verified, Halt> {
    let event = operation::event(operation);
    let Answer::Operation(answer) = shop.function.invoke(&event, &call()).await? else {
        panic!("a reply to an operation");
    };
    Ok(serde_json::from_value(answer).unwrap())
}

/// What `view status` says of the last verifications.
async fn last_verified(shop: &Shop) -> Vec<LastVerified> {
    let event = operation::event(Operation::Backfill(Backfill::Status(Which::default())));
    let Answer::Operation(answer) = shop.function.invoke(&event, &call()).await.unwrap() else {
        panic!("a reply to an operation");
    };
    serde_json::from_value::<Status>(answer).unwrap().verified
}

/// Asks until the end, as nobody writes.
async fn walk(shop: &Shop, request: &Verify, make: impl Fn(Verify) -> Operation) -> Verified {
    let mut request = Verify { at_rest: true, ..request.clone() };
    let mut all = Verified::default();
    loop {
        let told = ask(shop, make(request.clone())).await.unwrap();
        all.checked += told.checked;
        all.mended += told.mended;
        all.drift.extend(told.drift);
        all.undecided.extend(told.undecided);
        all.not_done.extend(told.not_done);
        request.cursor = told.cursor;
        if request.cursor.is_none() {
            return all;
        }
    }
}

pub(crate) fn rows() -> Verify {
    Verify::default()
}

pub(crate) fn source() -> Verify {
    Verify { check: Check::Source, table: Some(ORDERS.to_owned()), ..Verify::default() }
}

async fn verify(shop: &Shop, request: &Verify) -> Verified {
    walk(shop, request, Operation::Verify).await
}

async fn repair(shop: &Shop, request: &Verify, dry_run: bool) -> Verified {
    walk(shop, request, |of| Operation::Repair(Repair { of, dry_run })).await
}

/// What has drifted, at a glance.
fn told(verified: &Verified) -> Vec<String> {
    assert_eq!((&verified.undecided, &verified.not_done), (&Vec::new(), &Vec::new()));
    let one = |drift: &Drift| {
        let Drift { what, view, generation: _, group, expected, found, items } = drift;
        format!("{what} {view} {group}: {expected} {found} {}", items.join("+"))
    };
    let mut told: Vec<String> = verified.drift.iter().map(one).collect();
    told.sort();
    told
}

/// What has drifted, at a glance.
pub(crate) async fn walked(shop: &Shop, request: &Verify) -> Vec<String> {
    told(&verify(shop, request).await)
}

/// Finds this, mends it, and finds nothing any more.
pub(crate) async fn is_found_and_mended(shop: &Shop, request: &Verify, expected: &[&str]) {
    assert_eq!(told(&verify(shop, request).await), expected);
    let dry = repair(shop, request, true).await;
    assert_eq!((told(&dry), dry.mended), (expected.iter().map(ToString::to_string).collect(), 0));
    assert_eq!(told(&verify(shop, request).await), expected, "a dry run changes nothing");
    let mended = repair(shop, request, false).await;
    assert_eq!(told(&mended), expected);
    assert!(mended.mended > 0);
    is_clean(shop).await;
}

pub(crate) async fn is_clean(shop: &Shop) {
    for request in [rows(), source()] {
        let verified = verify(shop, &request).await;
        assert_eq!(told(&verified), Vec::<String>::new());
        assert!(verified.checked > 0);
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Changes a row by hand.
pub(crate) async fn tamper(
    shop: &Shop,
    table: &str,
    key: (&str, &str),
    change: impl Fn(&mut Item),
) {
    let row = shop.store.get(table, key.0, key.1, support::FOREVER).await.unwrap();
    let mut row = row.unwrap_or_else(|| Item::from([(key.0.to_owned(), text(key.1))]));
    change(&mut row);
    let put = Put::builder().table_name(table).set_item(Some(row)).build().unwrap();
    let action = TransactWriteItem::builder().put(put).build();
    shop.store.transact(vec![action], support::FOREVER).await.unwrap();
}

async fn delete(shop: &Shop, table: &str, (name, key): (&str, &str)) {
    let delete = Delete::builder().table_name(table).key(name, text(key)).build().unwrap();
    let action = TransactWriteItem::builder().delete(delete).build();
    shop.store.transact(vec![action], support::FOREVER).await.unwrap();
}

/// Three orders in two regions, in the table and delivered.
async fn shop(seed: u64) -> Shop {
    filled(Shop::open(seed).await).await
}

async fn filled(shop: Shop) -> Shop {
    for (at, key, region, amount, status) in [
        (100, "O#1", "EU", "10", "OPEN"),
        (101, "O#2", "EU", "0.5", "PAID"),
        (102, "O#3", "US", "7", "OPEN"),
    ] {
        shop.set(key, Some((region, number(amount), status))).await;
        shop.deliver(order(at, "INSERT", key, Some((region, amount, status)))).await;
    }
    shop.check("EU 2 10.5; US 1 7", "O#1 10; O#3 7").await;
    is_clean(&shop).await;
    shop
}

const EU: (&str, &str) = ("_pk", "S2:EU");
const EU_SUMS: &str = r#"{"_n_total":"2","_rows":"2","orders":"2","total":"10.5"}"#;

#[test]
fn a_row_changed_by_hand_is_found_and_mended() {
    support::block_on(async {
        let shop = shop(1).await;
        let other = |name: &'static str, value: AttributeValue| {
            move |row: &mut Item| drop(row.insert(name.to_owned(), value.clone()))
        };
        let items = "pk=O#1+pk=O#2";
        for (name, value, found) in [
            ("total", number("11"), EU_SUMS.replace("10.5", "11")),
            ("_rows", number("3"), EU_SUMS.replace(r#""_rows":"2""#, r#""_rows":"3""#)),
            ("orders", text("2"), r#""not as changefold writes it""#.to_owned()),
            ("region", text("US"), r#""not as changefold writes it""#.to_owned()),
        ] {
            tamper(&shop, "a_totals", EU, other(name, value)).await;
            let expected = format!("group totals EU: {EU_SUMS} {found} {items}");
            is_found_and_mended(&shop, &rows(), &[&expected]).await;
            shop.check("EU 2 10.5; US 1 7", "O#1 10; O#3 7").await;
        }
        // What the stream adds later it adds to the right row.
        shop.set("O#4", Some(("EU", number("1"), "PAID"))).await;
        shop.deliver(order(103, "INSERT", "O#4", Some(("EU", "1", "PAID")))).await;
        shop.check("EU 3 11.5; US 1 7", "O#1 10; O#3 7").await;
        is_clean(&shop).await;
    });
}

#[test]
fn a_row_that_is_missing_or_too_many_is_found_and_mended() {
    support::block_on(async {
        let shop = shop(2).await;
        delete(&shop, "a_totals", EU).await;
        let row = |row: &mut Item| drop(row.insert("_rows".to_owned(), number("4")));
        tamper(&shop, "a_totals", ("_pk", "S4:APAC"), row).await;
        let none = r#"{"_n_total":"0","_rows":"0","orders":"0","total":"0"}"#;
        let expected = [
            // The column of the key is missing as well.
            &*format!(r#"group totals APAC: {none} "not as changefold writes it" "#),
            &*format!(r#"group totals EU: {EU_SUMS} "no row" pk=O#1+pk=O#2"#),
        ];
        is_found_and_mended(&shop, &rows(), &expected).await;
        shop.check("EU 2 10.5; US 1 7", "O#1 10; O#3 7").await;

        tamper(&shop, "a_open_orders", ("_pk", "S3:O#2"), |_| ()).await;
        let expected = [r#"row open_orders O#2: "no row" "a row" "#];
        is_found_and_mended(&shop, &rows(), &expected).await;
        shop.check("EU 2 10.5; US 1 7", "O#1 10; O#3 7").await;

        delete(&shop, "a_open_orders", ("_pk", "S3:O#1")).await;
        let verified = verify(&shop, &rows()).await;
        assert_eq!(told(&verified), [r#"row open_orders O#1: "a row" "no row" "#]);
        let left = repair(&shop, &rows(), false).await.not_done;
        assert_eq!((&*left[0].code, left.len()), ("SourceNeeded", 1));
        let expected =
            [r#"item open_orders : "a row" {"other":["pk","amount"],"row":"no row"} pk=O#1"#];
        is_found_and_mended(&shop, &source(), &expected).await;
        shop.check("EU 2 10.5; US 1 7", "O#1 10; O#3 7").await;
    });
}

#[test]
fn what_the_mapping_lost_is_found_and_mended() {
    support::block_on(async {
        let shop = shop(3).await;
        // One moved, one changed where only a projection sees it, one came, one went.
        shop.set("O#1", Some(("US", number("10"), "PAID"))).await;
        is_found_and_mended(
            &shop,
            &source(),
            &[
                r#"item open_orders : "nothing" "a row" pk=O#1"#,
                r#"item totals US: {"group":"US"} {"group":"EU"} pk=O#1"#,
            ],
        )
        .await;
        tamper(&shop, "a_open_orders", ("_pk", "S3:O#3"), |row| {
            row.insert("amount".to_owned(), number("8"));
        })
        .await;
        let expected = [r#"item open_orders : "a row" {"other":["amount"],"row":"a row"} pk=O#3"#];
        is_found_and_mended(&shop, &source(), &expected).await;
        shop.set("O#9", Some(("EU", number("3"), "PAID"))).await;
        shop.set("O#2", None).await;
        is_found_and_mended(
            &shop,
            &source(),
            &[
                r#"item totals EU: "nothing" {"group":"EU"} pk=O#2"#,
                r#"item totals EU: {"group":"EU"} "nothing" pk=O#9"#,
            ],
        )
        .await;
        shop.set("O#9", Some(("EU", number("4"), "PAID"))).await;
        let expected =
            [r#"item totals EU: {"group":"EU"} {"other":["total"],"place":{"group":"EU"}} pk=O#9"#];
        is_found_and_mended(&shop, &source(), &expected).await;
        shop.check("EU 1 4; US 2 17", "O#3 7").await;
    });
}

/// Without it, the sum of one item's new and another's old contribution was drift, of a row that
/// nobody had changed.
#[test]
fn changes_that_cancel_out_in_a_group_are_counted_by_its_revision() {
    support::block_on(async {
        let shop = shop(4).await;
        let revision = async || {
            let row = shop.store.get("a_totals", EU.0, EU.1, support::FOREVER).await.unwrap();
            row.unwrap()["_rev"].as_n().unwrap().clone()
        };
        let before = revision().await;
        let one = order(110, "MODIFY", "O#1", Some(("EU", "0.5", "OPEN")));
        let other = order(111, "MODIFY", "O#2", Some(("EU", "10", "PAID")));
        shop.deliver(format!("{one},{other}")).await;
        assert_ne!(revision().await, before);
        shop.check("EU 2 10.5; US 1 7", "O#1 0.5; O#3 7").await;
    });
}

#[test]
fn an_item_whose_record_is_under_way_has_not_drifted() {
    support::block_on(async {
        let shop = shop(5).await;
        shop.set("O#1", Some(("US", number("10"), "PAID"))).await;
        let mut request = Verify { iterator_age_ms: Some(20), ..source() };
        for _ in 0..3 {
            let told = ask(&shop, Operation::Verify(request.clone())).await.unwrap();
            assert_eq!((told.stopped, told.drift), (Some(Stopped::Waits), Vec::new()));
            assert!((4_000..5_100).contains(&told.wait_ms), "{}", told.wait_ms);
            request.cursor = told.cursor;
        }
        shop.deliver(order(120, "MODIFY", "O#1", Some(("US", "10", "PAID")))).await;
        // Nothing is waited for that has become equal; but this is not known before a look.
        request.at_rest = true;
        let told = ask(&shop, Operation::Verify(request)).await.unwrap();
        assert_eq!((told.drift, told.cursor), (Vec::new(), None));
    });
}

#[test]
fn groups_beyond_the_bound_take_another_pass_and_none_is_left_out() {
    support::block_on(async {
        let shop = Shop::open(6).await;
        for at in 0..20 {
            let (key, region) = (format!("O#{at}"), format!("R{at}"));
            shop.deliver(order(100 + at, "INSERT", &key, Some((&region, "1", "PAID")))).await;
        }
        for at in [3, 7, 19] {
            let key = format!("S{}:R{at}", 1 + at.to_string().len());
            tamper(&shop, "a_totals", ("_pk", &key), |row| {
                row.insert("total".to_owned(), number("2"));
            })
            .await;
        }
        delete(&shop, "a_totals", ("_pk", "S2:R5")).await;
        for groups_max in [1, 2, 6, 50] {
            let request = Verify { groups_max: Some(groups_max), ..rows() };
            let verified = verify(&shop, &request).await;
            assert_eq!((verified.checked, verified.drift.len()), (20, 4), "{groups_max}");
        }
        // In portions of one page, and of so many groups by chance.
        let request = Verify { read_units_max: Some(1), groups_max: Some(6), ..rows() };
        let verified = verify(&shop, &request).await;
        assert_eq!((verified.checked, verified.drift.len()), (20, 4));
        // What the calls have found together is kept.
        let last = last_verified(&shop).await;
        assert_eq!((last[0].found.checked, last[0].sample), (20, None));
        let totals = ViewDrift { view: "totals".to_owned(), generation: 1, drift: 4 };
        assert_eq!((last[0].is_whole, &last[0].found.drift), (true, &vec![totals]));
        let verified = verify(&shop, &Verify { sample: Some(5), ..rows() }).await;
        assert_eq!(verified.checked, 5);
        let last = last_verified(&shop).await;
        assert_eq!((last.len(), last[0].found.checked, last[0].sample), (1, 5, Some(5)));
        // A walk that is given up at its limit has said what it found until then.
        let request = Verify { limit: Some(1), groups_max: Some(1), at_rest: true, ..rows() };
        let told = ask(&shop, Operation::Verify(request)).await.unwrap();
        assert_eq!((told.stopped, told.drift.len()), (Some(Stopped::Limit), 1));
        let last = last_verified(&shop).await;
        assert_eq!((last[0].is_whole, last[0].found.drift[0].drift), (false, 1));
    });
}

#[test]
fn a_sample_of_items_is_of_so_many() {
    support::block_on(async {
        let shop = Shop::open(7).await;
        for at in 0..30 {
            shop.set(&format!("O#{at}"), Some(("EU", number("1"), "PAID"))).await;
        }
        let verified = verify(&shop, &Verify { sample: Some(4), ..source() }).await;
        assert_eq!((verified.checked, verified.drift.len()), (4, 4));
        let verified = verify(&shop, &Verify { limit: Some(1), ..source() }).await;
        assert_eq!(verified.drift.len(), 30, "a limit ends a call, and the next goes on");
    });
}

#[test]
fn what_cannot_be_asked_is_refused() {
    support::block_on(async {
        let Shop { store, function } = shop(8).await;
        let function = function.with_operations(Operations::Read);
        let shop = Shop { store, function };
        is_clean(&shop).await;
        let refused = async |operation| ask(&shop, operation).await.unwrap_err().code;
        let repair = Operation::Repair(Repair { dry_run: true, ..Repair::default() });
        assert_eq!(refused(repair).await, "OperationsReadOnly");
        let cursor = Some("{}".to_owned());
        let verify = |request: Verify| Operation::Verify(request);
        assert_eq!(refused(verify(Verify { cursor, ..source() })).await, "CursorUnreadable");
        assert_eq!(refused(verify(Verify { table: None, ..source() })).await, "TableMissing");
        let run = format!("B#{ORDERS}");
        tamper(&shop, "a_ledger", ("pk", &run), |row| {
            row.insert("state".to_owned(), text("scanning"));
        })
        .await;
        assert_eq!(refused(verify(source())).await, "ViewsBuilding");
        let _: &Function<_> = &shop.function;
    });
}

/// The verbs, as a person runs them.
#[test]
fn what_differs_is_told_with_exit_code_1_and_mended_at_an_endpoint() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let client = SharedHttpClient::new(embedded.clone());
        let endpoint = support::local_endpoint(Some("http://embedded"));
        let store = Store::new(client, &endpoint, Arc::new(changefold::clock::SystemClock), 1);
        let shop = filled(Shop::in_store(store).await).await;
        let server = StoreServer::start(embedded).await.unwrap();
        let views = std::env::temp_dir().join(format!("verify-{}.sql", std::process::id()));
        std::fs::write(&views, VIEWS).unwrap();
        let (url, path) = (server.url(), views.to_str().unwrap().to_owned());
        let run = async |arguments: &[&str]| {
            let end = ["--endpoint-url", &url, "--views", &path, "--at-rest"];
            let end = if arguments[0] == "status" { &end[..4] } else { &end };
            let arguments: Vec<String> =
                [&["view"], arguments, end].concat().into_iter().map(str::to_owned).collect();
            let run = move || {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let tables = [
                    ("CHANGEFOLD_LEDGER_TABLE", "a_ledger"),
                    ("CHANGEFOLD_VIEW_TABLE_PREFIX", "a_"),
                    ("CHANGEFOLD_CONSUMER", "test"),
                ];
                changefold(&arguments, &tables)
            };
            tokio::task::spawn_blocking(run).await.unwrap()
        };
        let (code, told, said) = run(&["verify"]).await;
        assert_eq!((code, &*told), (Some(0), ""), "{said}");
        assert!(said.contains("--table names a source"), "{said}");
        shop.set("O#3", Some(("EU", number("7"), "OPEN"))).await;
        tamper(&shop, "a_totals", EU, |row| drop(row.insert("total".into(), number("9")))).await;
        let (code, told, _) = run(&["verify", "--table", ORDERS, "--format", "json"]).await;
        let all: Verified = serde_json::from_str(&told).unwrap();
        assert_eq!((code, all.drift.len()), (Some(1), 2), "{told}");
        let (_, told, said) = run(&["status"]).await;
        let row = |view: &str| told.lines().find(|line| line.contains(view)).unwrap_or_default();
        assert!(row(" totals").contains(" 2 │"), "{told}");
        assert!(row(" open_orders").contains(" 0 │"), "{told}");
        assert!(said.contains("rows and ledger: 4 compared, 1 drifted, 0 undecided"), "{said}");
        assert!(said.contains(&format!("ledger and {ORDERS}: ")), "{said}");
        let (code, told, said) = run(&["repair", "--table", ORDERS, "--dry-run"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(told.contains("pk=O#3") && said.contains("2 would be mended"), "{told}{said}");
        let (code, _, said) = run(&["repair", "--table", ORDERS]).await;
        assert_eq!((code, said.contains("2 mended")), (Some(0), true), "{said}");
        let (code, _, said) = run(&["verify", "--table", ORDERS]).await;
        assert_eq!(code, Some(0), "{said}");
        let (_, told, _) = run(&["status", "--format", "json"]).await;
        let status: Status = serde_json::from_str(&told).unwrap();
        assert_eq!(status.verified.len(), 2, "{told}");
        for last in status.verified {
            assert!(last.is_whole && last.found.checked > 0 && last.found.drift.is_empty());
        }
        shop.check("EU 3 17.5", "O#1 10; O#3 7").await;
        std::fs::remove_file(views).unwrap();
    });
}

/// The label of the stream that the records of [`order`] come from, and later ones.
const LABELS: [&str; 2] = ["2026-09-17T12:50:51.000", "2026-11-02T08:00:00.000"];

/// The same change by a stream that was enabled later, at another time.
fn of_later_stream(record: &str) -> String {
    record.replace(LABELS[0], LABELS[1]).replace("1789649451.0", "4102444800.0")
}

/// Between two streams of a table nobody writes down what changes. The numbers of the new one begin
/// anew; its label tells that they are later.
#[test]
fn a_stream_that_was_off_for_a_while_leaves_gaps_that_a_repair_mends() {
    support::block_on(async {
        let shop = shop(9).await;
        shop.set("O#2", Some(("US", number("0.5"), "OPEN"))).await;
        shop.set("O#3", None).await;
        shop.set("O#4", Some(("EU", number("2"), "OPEN"))).await;
        shop.set("O#1", Some(("EU", number("11"), "OPEN"))).await;
        let new = order(1, "MODIFY", "O#1", Some(("EU", "11", "OPEN")));
        shop.deliver(of_later_stream(&new)).await;
        shop.deliver(order(900, "MODIFY", "O#1", Some(("US", "99", "OPEN")))).await;
        shop.check("EU 2 11.5; US 1 7", "O#1 11; O#3 7").await;
        is_found_and_mended(
            &shop,
            &source(),
            &[
                r#"item open_orders : "a row" "nothing" pk=O#2"#,
                r#"item open_orders : "a row" "nothing" pk=O#4"#,
                r#"item open_orders : "nothing" "a row" pk=O#3"#,
                r#"item totals EU: {"group":"EU"} "nothing" pk=O#4"#,
                r#"item totals US: "nothing" {"group":"US"} pk=O#3"#,
                r#"item totals US: {"group":"US"} {"group":"EU"} pk=O#2"#,
            ],
        )
        .await;
        // What the first stream still brings is from before; what the second brings goes on.
        for (number, key) in [(901, "O#2"), (902, "O#3"), (903, "O#4")] {
            shop.deliver(order(number, "MODIFY", key, Some(("US", "99", "OPEN")))).await;
        }
        shop.check("EU 2 13; US 1 0.5", "O#1 11; O#2 0.5; O#4 2").await;
        let new = order(2, "REMOVE", "O#4", None);
        shop.deliver(of_later_stream(&new)).await;
        shop.check("EU 1 11; US 1 0.5", "O#1 11; O#2 0.5").await;
    });
}

/// The restored table has the old name, older items, and a stream of its own.
#[test]
fn a_table_restored_from_a_backup_is_what_the_views_say_after_a_repair() {
    support::block_on(async {
        let shop = shop(10).await;
        // Behind the backup, which has the three orders as they are here.
        for (at, key, new) in [
            (200, "O#1", Some(("US", "1", "PAID"))),
            (201, "O#3", None),
            (202, "O#5", Some(("EU", "5", "OPEN"))),
        ] {
            let kind = if new.is_some() { "MODIFY" } else { "REMOVE" };
            shop.deliver(order(at, kind, key, new)).await;
        }
        shop.check("EU 2 5.5; US 1 1", "O#5 5").await;
        let repaired = repair(&shop, &source(), false).await;
        assert_eq!(repaired.mended, 3);
        shop.check("EU 2 10.5; US 1 7", "O#1 10; O#3 7").await;
        is_clean(&shop).await;
        let new = order(1, "MODIFY", "O#1", Some(("US", "3", "OPEN")));
        shop.deliver(of_later_stream(&new)).await;
        shop.deliver(order(203, "MODIFY", "O#1", Some(("EU", "99", "OPEN")))).await;
        shop.check("EU 1 0.5; US 2 10", "O#1 3; O#3 7").await;
    });
}
