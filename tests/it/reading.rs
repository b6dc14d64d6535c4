//! `view read` and the library's reader: the rows of a view by whoever may read its tables, equal
//! to those the replay itself has printed.

use crate::support::{self, FOREVER, call, order};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    clock::SystemClock,
    local::store_server::StoreServer,
    store::{Store, embedded::Embedded},
    view::{
        generation::LookupError,
        read::{Condition, ReadError, Reader, Rows},
        scalar::Scalar,
    },
};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::{Command, Output},
    sync::Arc,
};

fn run(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_changefold");
    let root = env!("CARGO_MANIFEST_DIR");
    Command::new(program).current_dir(root).args(arguments).output().unwrap()
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {talk}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A directory of kept tables, gone with the test.
struct State(String);

impl State {
    fn of(fixture: &str, views: &str, faults: &str) -> (Self, Value) {
        let name = format!("{}-{faults}", fixture.replace(['/', '.'], "-"));
        let path = std::env::temp_dir().join(format!("changefold-{}-{name}", std::process::id()));
        let state = Self(path.to_str().unwrap().to_owned());
        let document = json(&[
            "replay", fixture, "--views", views, "--state", &state.0, "--faults", faults,
            "--format", "json",
        ]);
        (state, document)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A value as it is asked for: text in quotes.
fn asked(column: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!("{column}='{}'", text.replace('\'', "''")),
        Value::Null => format!("{column}=NULL"),
        other => format!("{column}={other}"),
    }
}

#[test]
fn every_row_of_every_view_is_read_as_the_replay_has_printed_it() {
    for (fixture, views, keys) in [
        ("fixtures/orders.jsonl", "views/orders.sql", &[("customer_totals", "customer_id")][..]),
        ("fixtures/flights-600.jsonl.gz", "views/flights.sql", &[("late_by_day", "day")]),
        ("fixtures/clicks.jsonl", "views/clicks.sql", &[("pages", "page")]),
    ] {
        let (state, document) = State::of(fixture, views, "3");
        let read = |more: &[&str]| {
            json(&[&["view", "read", "--state", &state.0, "--format", "json"], more].concat())
        };
        for (view, expected) in document["views"].as_object().unwrap() {
            assert_eq!(&read(&[view]), expected, "{view}");
        }
        for (view, column) in keys {
            for row in document["views"][view].as_array().unwrap() {
                let found = read(&[view, "--where", &asked(column, &row[column])]);
                assert_eq!(found, Value::Array(vec![row.clone()]));
            }
        }
    }
}

#[test]
fn a_view_is_read_by_its_key_where_all_of_it_is_given_and_else_by_a_scan() {
    let (state, document) = State::of("fixtures/flights-600.jsonl.gz", "views/flights.sql", "1");
    let said = |more: &[&str]| {
        let output = run(&[&["view", "read", "--state", &state.0], more].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, talk) = said(&["boards", "--where", "origin=JFK", "--where", "status=LANDED"]);
    assert_eq!(code, Some(0));
    assert!(talk.contains("1 rows of changefold_boards (generation 1), by key, for "), "{talk}");
    let (_, talk) = said(&["boards", "--where", "origin=JFK"]);
    assert!(talk.contains("by a scan"), "{talk}");
    let (_, talk) = said(&["boards", "--limit", "2"]);
    assert!(talk.contains("2 rows") && talk.contains("there may be more"), "{talk}");
    let (_, talk) = said(&["week"]);
    assert!(talk.contains("by key"), "{talk}");
    let (code, talk) = said(&["board"]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("knows no view board; it has airlines, boards,"), "{talk}");
    let (code, talk) = said(&["boards", "--where", "airport=JFK"]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("has no column airport; it has origin, status"), "{talk}");
    // Averages are quotients, NULL is an empty field, and columns of text are quoted as needed.
    let csv = run(&["view", "read", "visibility", "--state", &state.0, "--format", "csv"]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    let rows = document["views"]["visibility"].as_array().unwrap();
    assert_eq!(csv.lines().count(), rows.len() + 1);
    assert!(csv.starts_with("visibility,flights,avg_late,avg_fahrenheit\r\n"), "{csv}");
    let null = rows.iter().find(|row| row["visibility"].is_null()).expect("a row of NULL");
    assert!(csv.contains(&format!("\r\n,{},", null["flights"])), "{csv}");
}

const VIEWS: &str = "\
    CREATE MATERIALIZED VIEW totals AS SELECT region, count(*) AS n, sum(amount) AS total, \
    avg(amount) AS mean FROM orders GROUP BY region;\
    CREATE MATERIALIZED VIEW everything AS SELECT count(*) AS n, sum(amount) AS s FROM orders;\
    CREATE MATERIALIZED VIEW plain AS SELECT region, amount FROM orders";

async fn reader(store: &Store, view: &str) -> Result<Reader, ReadError> {
    Reader::open(store.clone(), ("r_ledger", "r_"), view, FOREVER).await
}

async fn shown(store: &Store, view: &str, conditions: &[Condition]) -> String {
    let reader = reader(store, view).await.unwrap();
    let Rows { rows, .. } = reader.rows(conditions, None, FOREVER, &mut |_| {}).await.unwrap();
    let row = |row: &Vec<Scalar>| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    rows.iter().map(row).collect::<Vec<_>>().join("; ")
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

#[test]
fn a_group_without_items_has_no_row_and_all_items_together_always_have_one() {
    support::block_on(async {
        let store = support::embedded(83);
        let function = support::function(VIEWS, &store, "r_").await;
        assert_eq!(shown(&store, "everything", &[]).await, "0 NULL");
        let records = [
            order(1, "INSERT", "O#1", Some(("EU", "1", "PAID"))),
            order(2, "INSERT", "O#2", Some(("EU", "2", "PAID"))),
            order(3, "INSERT", "O#3", Some(("US", "5", "PAID"))),
        ];
        let event = format!("{{\"Records\":[{}]}}", records.join(","));
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(shown(&store, "totals", &[]).await, "EU 2 3 1.5; US 1 5 5");
        let of = |region| [Condition::equals("region", text(region))];
        assert_eq!(shown(&store, "totals", &of("EU")).await, "EU 2 3 1.5");
        assert_eq!(shown(&store, "totals", &of("AS")).await, "");
        let five = Condition::equals("mean", Scalar::Number(5.into()));
        assert_eq!(shown(&store, "totals", &[five]).await, "US 1 5 5");
        let key = Condition::equals("_pk", text("S3:O#2"));
        assert_eq!(shown(&store, "plain", &[key]).await, "EU 2");
        let event = format!("{{\"Records\":[{}]}}", order(4, "REMOVE", "O#3", None));
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(shown(&store, "totals", &[]).await, "EU 2 3 1.5");
        assert_eq!(shown(&store, "totals", &of("US")).await, "", "by its key as well");
        assert_eq!(shown(&store, "everything", &[]).await, "2 3");
    });
}

#[test]
fn the_rows_of_a_group_that_is_kept_in_several_are_added_up() {
    const STRIPED: &str = "\
        CREATE MATERIALIZED VIEW totals WITH (stripes = 4) AS SELECT region, count(*) AS n, \
        sum(amount) AS total, avg(amount) AS mean, min(amount) AS least, max(amount) AS most \
        FROM orders GROUP BY region;\
        CREATE MATERIALIZED VIEW everything WITH (stripes = 8) AS SELECT count(*) AS n, \
        sum(amount) AS s FROM orders;\
        CREATE MATERIALIZED VIEW large WITH (stripes = 4) AS SELECT region, count(*) AS n \
        FROM orders GROUP BY region HAVING count(*) > 9;\
        CREATE MATERIALIZED VIEW few AS SELECT count(*) AS n FROM orders HAVING count(*) < 3";
    support::block_on(async {
        let store = support::embedded(85);
        let function = support::function(STRIPED, &store, "r_").await;
        assert_eq!(shown(&store, "everything", &[]).await, "0 NULL");
        assert_eq!(shown(&store, "few", &[]).await, "0");
        let record = |number: u32| {
            let (region, key) = (["EU", "US", "AS"][number as usize % 3], format!("O#{number}"));
            order(number, "INSERT", &key, Some((region, &number.to_string(), "PAID")))
        };
        let records: Vec<String> = (1..=31).map(record).collect();
        let event = format!("{{\"Records\":[{}]}}", records.join(","));
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        let all = "AS 10 155 15.5 2 29; EU 10 165 16.5 3 30; US 11 176 16 1 31";
        assert_eq!(shown(&store, "totals", &[]).await, all);
        assert_eq!(shown(&store, "everything", &[]).await, "31 496");
        assert_eq!(shown(&store, "large", &[]).await, "AS 10; EU 10; US 11");
        let stored = store.scan("r_totals", None, None, FOREVER).await.unwrap().items;
        assert!(stored.len() > 9, "only {} rows keep three groups", stored.len());

        let totals = reader(&store, "totals").await.unwrap();
        let of = [Condition::equals("region", text("EU"))];
        assert!(totals.is_by_key(&of) && !totals.is_by_key(&[]));
        let mut looked = 0;
        let found = totals.rows(&of, None, FOREVER, &mut |rows| looked = rows).await.unwrap();
        assert_eq!((found.rows.len(), found.rows[0][1].to_string()), (1, "10".to_owned()));
        assert!((2..=4).contains(&looked), "{looked} rows were read");
        let most = Condition::equals("most", Scalar::Number(31.into()));
        assert!(shown(&store, "totals", &[most]).await.starts_with("US 11"));
        for (limit, is_cut) in [(0, true), (2, true), (3, false), (4, false)] {
            let found = totals.rows(&[], Some(limit), FOREVER, &mut |_| {}).await.unwrap();
            assert_eq!((found.rows.len(), found.is_cut), (limit.min(3), is_cut));
        }
        let key = Condition::equals("_pk", text("S2:EUS2:00"));
        let error = totals.rows(&[key], None, FOREVER, &mut |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("no column _pk"), "{error}");

        let removes = (1..=31).filter(|number| number % 3 == 0);
        let removes: Vec<String> =
            removes.map(|it| order(100 + it, "REMOVE", &format!("O#{it}"), None)).collect();
        let event = format!("{{\"Records\":[{}]}}", removes.join(","));
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(shown(&store, "large", &[]).await, "AS 10; US 11");
        assert_eq!(shown(&store, "few", &[]).await, "", "21 are not few, and not none");
        let none = Condition::equals("n", Scalar::Number(0.into()));
        assert_eq!(shown(&store, "everything", &[none]).await, "");
        assert_eq!(shown(&store, "totals", &of).await, "", "no group without items");
    });
}

#[test]
fn a_view_that_was_added_and_not_built_is_refused() {
    support::block_on(async {
        let store = support::embedded(84);
        let function = support::function(VIEWS, &store, "r_").await;
        let event =
            format!("{{\"Records\":[{}]}}", order(1, "INSERT", "O#1", Some(("EU", "1", "PAID"))));
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        let added = "CREATE MATERIALIZED VIEW late AS SELECT region FROM orders;\
            CREATE MATERIALIZED VIEW plain AS SELECT amount FROM orders";
        support::function(added, &store, "r_").await;
        let error = reader(&store, "late").await.unwrap_err();
        assert!(matches!(error, ReadError::Lookup(LookupError::NotBuilt(_))), "{error}");
        // The changed one is read as it was, until it is switched to.
        let plain = reader(&store, "plain").await.unwrap();
        assert_eq!((plain.columns(), plain.current().generation), (vec!["region", "amount"], 1));
        let unknown = reader(&store, "none").await.unwrap_err();
        assert!(unknown.to_string().contains("knows no view none; it has "), "{unknown}");
    });
}

/// A Lambda that knows one function's settings, and what it was asked.
fn lambda(variables: &Value) -> (String, std::thread::JoinHandle<String>) {
    let body = json!({"Environment": {"Variables": variables}}).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answered = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let asked = lines.next().unwrap().unwrap();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close");
        write!(stream, "{head}\r\n\r\n{body}").unwrap();
        asked
    });
    (url, answered)
}

#[test]
fn of_a_deployed_function_its_settings_say_which_tables_are_read() {
    support::block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let client = SharedHttpClient::new(embedded.clone());
        let endpoint = support::local_endpoint(Some("http://embedded"));
        let store = Store::new(client, &endpoint, Arc::new(SystemClock), 85);
        let function = support::function(VIEWS, &store, "r_").await;
        let record = order(1, "INSERT", "O#1", Some(("EU", "1.5", "PAID")));
        let event = format!("{{\"Records\":[{record}]}}");
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        let server = StoreServer::start(embedded).await.unwrap();
        let (url, answered) = lambda(&json!({
            "CHANGEFOLD_LEDGER_TABLE": "r_ledger",
            "CHANGEFOLD_VIEW_TABLE_PREFIX": "r_",
        }));
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_changefold"))
            .args(["view", "read", "totals", "--function", "shop:live", "--format", "csv"])
            .envs([
                ("AWS_ENDPOINT_URL_LAMBDA", url),
                ("AWS_ENDPOINT_URL_DYNAMODB", server.url()),
                ("AWS_REGION", "eu-west-1".to_owned()),
                ("AWS_ACCESS_KEY_ID", "id".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "s".to_owned()),
            ])
            .output()
            .await
            .unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{talk}");
        let rows = String::from_utf8(output.stdout).unwrap();
        assert_eq!(rows, "region,n,total,mean\r\nEU,1,1.5,1.5\r\n");
        let asked = answered.join().unwrap();
        assert_eq!(asked, "GET /2015-03-31/functions/shop%3Alive/configuration HTTP/1.1");
        server.stop().await;
    });
}
