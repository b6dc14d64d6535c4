//! Whose a ledger is, and whose its rows are: functions, accounts and Regions.

use crate::support::{self, call, endpoint, order};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use changefold::{
    call::Call,
    clock::{Clock, SystemClock},
    handler::Function,
    record::Timestamp,
    store::{Item, Store},
    view::{
        Views,
        registry::{NOBODY, Owner},
        sql,
    },
};
use std::sync::Arc;

const TOTALS: &str = "CREATE MATERIALIZED VIEW totals AS \
    SELECT region, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY region;";
const OPEN: &str = "CREATE MATERIALIZED VIEW open_orders AS \
    SELECT pk, amount FROM orders WHERE status = 'OPEN';";

async fn deliver<const N: usize>(function: &Function<Views>, records: [&String; N]) {
    let records = records.map(String::as_str).join(",");
    let event = format!("{{\"Records\":[{records}]}}");
    let reply = function.invoke(event.as_bytes(), &call()).await.unwrap();
    assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"batchItemFailures":[]}"#);
}

async fn rows(function: &Function<Views>, view: usize) -> String {
    support::table(&function.work().rows(view, usize::MAX).await.unwrap())
}

/// The same record, of the table of the same name in another Region.
fn abroad(record: &str) -> String {
    record.replace(":us-east-1:", ":eu-west-1:")
}

#[test]
fn two_tables_of_one_name_do_not_share_rows() {
    support::block_on(async {
        let store = support::embedded(21);
        for round in 0..2 {
            let function = support::function(&[TOTALS, OPEN].concat(), &store, "a_").await;
            let here = order(100, "INSERT", "O#1", Some(("EU", "10", "OPEN")));
            let there = abroad(&order(90, "INSERT", "O#1", Some(("EU", "2", "OPEN"))));
            deliver(&function, [&here]).await;
            deliver(&function, [&there]).await;
            deliver(&function, [&there, &here]).await;
            assert_eq!(rows(&function, 0).await, "EU 2 12", "start {round}");
            assert_eq!(rows(&function, 1).await, "O#1 10; O#1 2", "start {round}");
        }
        let function = support::function(&[TOTALS, OPEN].concat(), &store, "a_").await;
        deliver(&function, [&abroad(&order(120, "REMOVE", "O#1", None))]).await;
        assert_eq!(rows(&function, 0).await, "EU 1 10");
        assert_eq!(rows(&function, 1).await, "O#1 10");
    });
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn item<const N: usize>(fields: [(&str, AttributeValue); N]) -> Item {
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

async fn put(store: &Store, table: &str, item: Item) {
    let put = Put::builder().table_name(table).set_item(Some(item)).build().unwrap();
    let action = TransactWriteItem::builder().put(put).build();
    store.transact(vec![action], support::FOREVER).await.unwrap();
}

/// What the functions before there were owners have left, read from a run of c7bab04: the
/// registry, two items of the table `orders`, and the rows of both views.
async fn an_older_ledger(store: &Store, prefix: &str) {
    let number = |digits: &str| AttributeValue::N(digits.to_owned());
    let registered = |from: &str, fingerprint: &str| {
        AttributeValue::M(item([("from", text(from)), ("fingerprint", text(fingerprint))]))
    };
    let views = item([
        (
            "totals",
            registered(
                "orders",
                "609369622c94222ad0895f07b263f865e17e36f6794acb94b9233505de02bc8a",
            ),
        ),
        (
            "open_orders",
            registered(
                "orders",
                "7e0c4d8cc69abb7f5760e63fb15309364f561ccd4e1f83678468d5d94d04c3a2",
            ),
        ),
    ]);
    let ledger = format!("{prefix}ledger");
    let kept = [
        item([("pk", text("V#")), ("rev", number("1")), ("views", AttributeValue::M(views))]),
        item([
            ("pk", text("K#orders#S3:O#1")),
            ("key", text("pk=O#1")),
            ("rev", number("1")),
            ("v", text("2026-09-17T12:50:51.000#003:100:000000")),
            ("c", text(r#"{"open_orders":true,"totals":["S2:EU",[[1,null],[1,"10.5"]]]}"#)),
        ]),
        item([
            ("pk", text("K#orders#S3:O#2")),
            ("key", text("pk=O#2")),
            ("rev", number("1")),
            ("v", text("2026-09-17T12:50:51.000#003:101:000000")),
            ("c", text(r#"{"totals":["S2:EU",[[1,null],[1,"4"]]]}"#)),
        ]),
    ];
    let total = item([
        ("_pk", text("S2:EU")),
        ("region", text("EU")),
        ("_rows", number("2")),
        ("orders", number("2")),
        ("_n_total", number("2")),
        ("total", number("14.5")),
    ]);
    let open = item([("_pk", text("S3:O#1")), ("pk", text("O#1")), ("amount", number("10.5"))]);
    store.ensure_table(&ledger, &["pk"], Some("ttl"), support::FOREVER).await.unwrap();
    for (view, row) in [("totals", total), ("open_orders", open)] {
        let table = format!("{prefix}{view}");
        store.ensure_table(&table, &["_pk"], None, support::FOREVER).await.unwrap();
        put(store, &table, row).await;
    }
    for item in kept {
        put(store, &ledger, item).await;
    }
}

#[test]
fn rows_of_an_older_ledger_go_on_counting() {
    support::block_on(async {
        let store = support::embedded(22);
        an_older_ledger(&store, "b_").await;
        let views = [TOTALS, OPEN].concat();
        for round in 0..2 {
            let function = support::function(&views, &store, "b_").await;
            let late = order(100, "INSERT", "O#1", Some(("EU", "10.5", "OPEN")));
            deliver(&function, [&late]).await;
            assert_eq!(rows(&function, 0).await, "EU 2 14.5", "start {round}: a late duplicate");
        }
        let function = support::function(&views, &store, "b_").await;
        deliver(&function, [&order(110, "MODIFY", "O#1", Some(("EU", "11", "PAID")))]).await;
        deliver(&function, [&order(111, "REMOVE", "O#2", None)]).await;
        assert_eq!(rows(&function, 0).await, "EU 1 11");
        assert_eq!(rows(&function, 1).await, "");
    });
}

/// What the name meant before, it means for the first source that comes. Another one of the
/// name has rows of its own, also after a new start.
#[test]
fn an_older_ledger_is_one_sources() {
    support::block_on(async {
        let store = support::embedded(23);
        an_older_ledger(&store, "c_").await;
        let views = [TOTALS, OPEN].concat();
        let function = support::function(&views, &store, "c_").await;
        deliver(&function, [&order(110, "MODIFY", "O#1", Some(("EU", "11", "OPEN")))]).await;
        let there = abroad(&order(200, "INSERT", "O#1", Some(("EU", "2", "OPEN"))));
        for _ in 0..2 {
            let function = support::function(&views, &store, "c_").await;
            deliver(&function, [&there]).await;
            assert_eq!(rows(&function, 0).await, "EU 3 17");
            assert_eq!(rows(&function, 1).await, "O#1 11; O#1 2");
        }
    });
}

async fn open(store: &Store, views: &str, prefix: &str, owner: &Owner) -> Result<Views, String> {
    let views = sql::parse(views).unwrap();
    let ledger = format!("{prefix}ledger");
    let tables = (&*ledger, prefix);
    let opened = Views::open(views, store.clone(), tables, owner, support::FOREVER).await;
    opened.map_err(|error| format!("{}: {error}", error.code()))
}

/// Nobody knows whose an older ledger is. A function that lacks one of its views may be another.
#[test]
fn an_older_ledger_is_not_taken_by_a_function_with_other_views() {
    support::block_on(async {
        let store = support::embedded(24);
        an_older_ledger(&store, "d_").await;
        let (some, other) = (Owner::new("Some"), Owner::new("Other"));
        let refused = open(&store, TOTALS, "d_", &some).await.unwrap_err();
        for part in ["LedgerOfAnother", "open_orders", "CHANGEFOLD_LEDGER_TAKE_FROM=nobody"] {
            assert!(refused.contains(part), "no {part} in: {refused}");
        }
        let takes = some.clone().taking_from(Some(NOBODY.to_owned()));
        open(&store, TOTALS, "d_", &takes).await.unwrap();
        open(&store, TOTALS, "d_", &some).await.unwrap();
        let nobody = other.taking_from(Some(NOBODY.to_owned()));
        let refused = open(&store, TOTALS, "d_", &nobody).await.unwrap_err();
        assert!(refused.contains("belongs to Some"), "it is somebody's now: {refused}");
    });
}

#[test]
fn a_view_that_is_not_in_the_files_is_served_all_the_same() {
    support::block_on(async {
        let store = support::embedded(25);
        let function = support::function(&[TOTALS, OPEN].concat(), &store, "e_").await;
        deliver(&function, [&order(1, "INSERT", "O#1", Some(("EU", "1", "OPEN")))]).await;
        let owner = Owner::new("test");
        // A version of the function that does not have it serves it all the same.
        let older = support::function(TOTALS, &store, "e_").await;
        deliver(&older, [&order(2, "INSERT", "O#2", Some(("EU", "2", "OPEN")))]).await;
        assert_eq!(rows(&function, 1).await, "O#1 1; O#2 2");
        open(&store, &[TOTALS, OPEN].concat(), "e_", &owner).await.unwrap();
    });
}

/// A function from before must not begin again at zero beside rows that it does not find: it
/// reads a view's source from the member `from`, and refuses a registry without it. In a ledger
/// of its own time it finds the member, and both go on.
#[test]
fn a_function_from_before_reads_only_the_ledgers_it_understands() {
    support::block_on(async {
        let store = support::embedded(26);
        an_older_ledger(&store, "f_").await;
        for (prefix, member) in [("f_", "from"), ("g_", "source")] {
            let function = support::function(&[TOTALS, OPEN].concat(), &store, prefix).await;
            deliver(&function, [&order(200, "INSERT", "O#9", Some(("EU", "1", "OPEN")))]).await;
            let ledger = format!("{prefix}ledger");
            let row = store.get(&ledger, "pk", "V#", support::FOREVER).await.unwrap().unwrap();
            for (view, entry) in row["views"].as_m().unwrap() {
                let mut members: Vec<&str> =
                    entry.as_m().unwrap().keys().map(String::as_str).collect();
                members.sort_unstable();
                let mut expected = ["fingerprint", "generation", "sql", "table", member];
                expected.sort_unstable();
                assert_eq!(members, expected, "{prefix}{view}");
            }
        }
    });
}

mod two_processes {
    //! The shipped function, twice, over one store.

    use super::*;
    use changefold::{
        local::{
            runtime_api::{Program, RuntimeApi},
            store_server::StoreServer,
            target::Target,
        },
        store::embedded::Embedded,
    };
    use std::{
        fs::{self, File},
        path::PathBuf,
    };

    struct Sql(PathBuf);

    impl Sql {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("changefold-ledgers-{}-{name}.sql", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for Sql {
        fn drop(&mut self) {
            fs::remove_file(&self.0).ok();
        }
    }

    fn start(name: &str, views: &Sql, url: &str, settings: &[(&str, &str)]) -> RuntimeApi {
        let arn = format!("arn:aws:lambda:us-east-1:123456789012:function:{name}");
        let silence = File::options().write(true).open("/dev/null").unwrap();
        let mut program = Program::new(env!("CARGO_BIN_EXE_bootstrap"), arn)
            .with_output(silence)
            .with_variable("AWS_ENDPOINT_URL_DYNAMODB", url)
            .with_variable("CHANGEFOLD_VIEWS", &views.0)
            .with_variable("CHANGEFOLD_LEDGER_TABLE", "ledger")
            .with_variable("CHANGEFOLD_VIEW_TABLE_PREFIX", "view_");
        for (name, value) in settings {
            program = program.with_variable(name, value);
        }
        RuntimeApi::new(program, Arc::new(SystemClock))
    }

    async fn invoke(function: &RuntimeApi, record: String) -> Result<String, String> {
        let deadline = Timestamp(SystemClock.now().0 + 60_000);
        let event = format!("{{\"Records\":[{record}]}}");
        let call = Call { deadline, ..call() };
        let answer = function.invoke(event.into(), call).await.map_err(|error| error.message)?;
        Ok(String::from_utf8(answer.to_vec()).unwrap())
    }

    #[test]
    fn a_second_function_does_not_strike_off_the_views_of_the_first() {
        support::block_on(async {
            let server = StoreServer::start(Embedded::open(None).unwrap()).await.unwrap();
            let (store, url) = (endpoint(&server.url()), server.url());
            let both = sql::parse(&[TOTALS, OPEN].concat()).unwrap();
            Views::ensure_tables(&both, &store, "ledger", "view_", support::FOREVER).await.unwrap();
            let (totals, open) = (Sql::new("totals", TOTALS), Sql::new("open", OPEN));
            let change = |number| order(number, "MODIFY", "O#1", Some(("EU", "1", "OPEN")));

            let first = start("Totals", &totals, &url, &[]);
            invoke(&first, change(1)).await.unwrap();
            let second = start("OpenOrders", &open, &url, &[]);
            let refused = invoke(&second, change(2)).await.unwrap_err();
            for part in [
                "LedgerOfAnother",
                "ledger belongs to Totals",
                "this is OpenOrders",
                "CHANGEFOLD_LEDGER_TABLE",
                "CHANGEFOLD_LEDGER_TAKE_FROM=Totals",
            ] {
                assert!(refused.contains(part), "no {part} in: {refused}");
            }
            // The first goes on, also in a new process.
            invoke(&start("Totals", &totals, &url, &[]), change(3)).await.unwrap();
            let consumer = [("CHANGEFOLD_CONSUMER", "Totals")];
            invoke(&start("Renamed", &totals, &url, &consumer), change(4)).await.unwrap();

            // Taken over on purpose, after which the former owner is refused.
            let takes = [("CHANGEFOLD_LEDGER_TAKE_FROM", "Totals")];
            invoke(&start("Heir", &totals, &url, &takes), change(5)).await.unwrap();
            invoke(&start("Heir", &totals, &url, &[]), change(6)).await.unwrap();
            let refused = invoke(&start("Totals", &totals, &url, &[]), change(7)).await;
            assert!(refused.unwrap_err().contains("belongs to Heir"));
        });
    }
}
