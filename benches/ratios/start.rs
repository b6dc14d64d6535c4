//! A cold start: from the spawn of the process to the reply of its first invocation.
//!
//! Ours is the `bootstrap` that ships, with one view; the peer (`benches/peers/stock`) is the
//! official runtime and the official SDK as their guides set them up, with one `ADD`. Both
//! find the same environment, the same Runtime API and the same store over HTTP, in this
//! process. Ours asks the store three times (registry, ledger, transaction), the peer once.

use crate::measure::{self, Goal, PAIRS, Row};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use changefold::{
    call::Call,
    clock::{Clock, SystemClock},
    local::{
        runtime_api::{Program, RuntimeApi},
        store_server::StoreServer,
        target::Target,
    },
    record::Timestamp,
    store::{Endpoint, Roots, Store, embedded::Embedded},
    view::{Views, registry::Owner, sql},
};
use std::{
    cell::Cell,
    fs::{self, File},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const FUNCTION_ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:start";
const VIEW: &str = "CREATE MATERIALIZED VIEW by_region AS
    SELECT region, count(*) AS orders FROM orders GROUP BY region;";
const FOREVER: Timestamp = Timestamp(i64::MAX);
/// Debian's file of the system's roots.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
const TIMEOUT_MS: i64 = 30_000;
const BUILD: &str = "run cargo build --profile lambda --no-default-features \
    --features lambda --bin bootstrap";

pub(crate) fn rows() -> Vec<Row> {
    let ours = measure::target().join("lambda/bootstrap");
    vec![start_row(&ours), size_row(&ours)]
}

fn size_row(ours: &Path) -> Row {
    let goal = Goal::at_most("stripped bootstrap with views, MB", 8.0, 6.0);
    match fs::metadata(ours) {
        Ok(found) => Row::counted(goal, found.len() as f64 / 1e6, format!("{} bytes", found.len())),
        Err(_) => Row::missing(goal, BUILD),
    }
}

fn start_row(ours: &Path) -> Row {
    let stock = measure::target().join("peers/stock/release/stock");
    let goal = Goal::at_most("spawn to the first reply, against the stock SDK", 0.7, 0.5);
    if !ours.exists() {
        return Row::missing(goal, BUILD);
    }
    if !stock.exists() {
        return Row::missing(goal, "run benches/peers/install.sh");
    }
    let folder = std::env::temp_dir().join(format!("changefold-start-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("view.sql"), VIEW).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, store) = runtime.block_on(async {
        let server = StoreServer::start(Embedded::open(None).unwrap()).await.unwrap();
        let store = store(&server.url());
        let views = sql::parse(VIEW).unwrap();
        Views::ensure_tables(&views, &store, "ledger", "view_", FOREVER).await.unwrap();
        store.ensure_table("stock", &["_pk"], None, FOREVER).await.unwrap();
        (server, store)
    });
    let number = Cell::new(0);
    let first_reply = |program: &Path| {
        number.set(number.get() + 1);
        let program = self::program(program, &server.url(), &folder);
        let event = event(number.get());
        let clock = Arc::new(SystemClock);
        let deadline = Timestamp(clock.now().0 + TIMEOUT_MS);
        let call = Call::new("first", deadline);
        let function = RuntimeApi::new(program, clock);
        // By the clock: most of it is another process's time.
        let start = Instant::now();
        let reply = runtime.block_on(function.invoke(event.into(), call));
        let lasted = start.elapsed();
        // Its process ends here, outside of what is measured.
        runtime.block_on(async { drop(function) });
        reply.unwrap_or_else(|error| panic!("{}: {error}", folder.join("log").display()));
        lasted
    };
    let pairs = measure::in_turns(PAIRS, || first_reply(&stock), || first_reply(ours));
    let (counted, added) = runtime.block_on(async {
        let added = store.scan("stock", None, None, FOREVER).await.unwrap();
        let added = added.items[0]["orders"].as_n().unwrap().clone();
        let views = sql::parse(VIEW).unwrap();
        // The program's: a ledger has one owner.
        let (name, tables) = (FUNCTION_ARN.rsplit(':').next().unwrap(), ("ledger", "view_"));
        let views = Views::open(views, store, tables, &Owner::new(name), FOREVER).await.unwrap();
        (views.rows(0, 1).await.unwrap().rows[0][1].to_string(), added)
    });
    let starts = (PAIRS + 1).to_string();
    assert_eq!((&counted, &added), (&starts, &starts), "every start has written its row");
    fs::remove_dir_all(&folder).unwrap();
    let least = |side: fn(&(Duration, Duration)) -> Duration| {
        measure::per_record(pairs.iter().map(side), 1) / 1e6
    };
    let note = format!("{:.1} → {:.1} ms", least(|pair| pair.0), least(|pair| pair.1));
    Row::timed(goal, &pairs, note)
}

fn store(url: &str) -> Store {
    let local = Credentials::new("local", "local", None, None, "");
    let credentials = SharedCredentialsProvider::new(local);
    let endpoint =
        Endpoint { region: "eu-west-1".to_owned(), url: Some(url.to_owned()), credentials };
    Store::new(Roots::Usual.network_to(&endpoint), &endpoint, Arc::new(SystemClock), 1)
}

fn program(path: &Path, url: &str, folder: &Path) -> Program {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut program = Program::new(path, FUNCTION_ARN)
        .with_output(log)
        .with_variable("CHANGEFOLD_VIEWS", folder.join("view.sql"));
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "local"),
        // Not set: the SDK does not read it, and ours would.
        ("AWS_CA_BUNDLE", ""),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_ENDPOINT_URL_DYNAMODB", url),
        ("CHANGEFOLD_LEDGER_TABLE", "ledger"),
        ("CHANGEFOLD_VIEW_TABLE_PREFIX", "view_"),
        ("STOCK_TABLE", "stock"),
    ] {
        program = program.with_variable(name, value);
    }
    // As in Lambda's image: one file of roots, and no folder that has each of them again.
    if Path::new(ROOTS).exists() {
        program = program.with_variable("SSL_CERT_FILE", ROOTS).with_variable("SSL_CERT_DIR", "");
    }
    program
}

fn event(number: u32) -> String {
    format!(
        r#"{{"Records":[{{"eventID":"{number}","eventName":"INSERT","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"eu-west-1","dynamodb":{{"ApproximateCreationDateTime":1789649451.0,"Keys":{{"pk":{{"S":"O#{number}"}}}},"NewImage":{{"pk":{{"S":"O#{number}"}},"region":{{"S":"EU"}},"amount":{{"N":"12.50"}}}},"SequenceNumber":"{number}","SizeBytes":1,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-09-17T12:50:51.000"}}]}}"#
    )
}
