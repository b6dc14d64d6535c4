//! An archive of a stream that goes into a ledger: what is applied, what is skipped, what is
//! refused.

use crate::{
    aggregates::packed,
    backfill::exported::Folder,
    oracle,
    parked::{changefold, scripted},
    support::{self, call},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    clock::{Clock as _, SystemClock},
    handler::Function,
    local::store_server::StoreServer,
    outcome::Answer,
    store::{Store, embedded::Embedded},
    view::Views,
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{fs, io::Write as _, path::Path, sync::Arc};

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW pages AS
      SELECT page, count(*) AS n, sum(ms) AS total FROM clicks GROUP BY page;
    CREATE MATERIALIZED VIEW seats WITH (key = id) AS
      SELECT page, count(*) AS n, sum(ms) AS total FROM changes GROUP BY page;
    CREATE MATERIALIZED VIEW bought AS
      SELECT page, count(*) AS n, sum(ms) AS total FROM orders GROUP BY page;";
const DAY_MS: i64 = 86_400_000;

/// A record of the stream `clicks`, where every record is an item, or of the changelog `changes`.
fn record(stream: &str, number: u64, key: u64, age_ms: i64) -> Value {
    let (page, ms) = (["/a", "/b", "/c"][(number % 3) as usize], number * 7);
    let data = json!({"id": format!("k{key}"), "page": page, "ms": ms}).to_string();
    let arrived = (SystemClock.now().0 - age_ms) / 1_000;
    let sequence_number = format!("4967225491{number:020}");
    json!({
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": format!("k{key}"),
            "sequenceNumber": sequence_number, "approximateArrivalTimestamp": arrived,
            "data": base64_simd::STANDARD.encode_to_string(data),
        },
        "eventSource": "aws:kinesis", "eventVersion": "1.0",
        "eventID": format!("shardId-000000000000:{sequence_number}"),
        "eventSourceARN": format!("arn:aws:kinesis:us-east-1:123456789012:stream/{stream}"),
    })
}

/// So many days ago.
fn date(days: i64) -> String {
    let moment = aws_smithy_types::DateTime::from_millis(SystemClock.now().0 - days * DAY_MS);
    moment.fmt(aws_smithy_types::date_time::Format::DateTime).unwrap()
}

/// So many records of `clicks` that have just come.
pub(crate) fn clicks(count: u64) -> Vec<Value> {
    (0..count).map(|it| record("clicks", it, it, 0)).collect()
}

/// What `SQLite` is given of these records: each an item, or the newest of each key.
pub(crate) fn items(records: &[Value], is_changelog: bool) -> oracle::Items {
    let of = |record: &Value| {
        let data = record["kinesis"]["data"].as_str().unwrap();
        let data = base64_simd::STANDARD.decode_to_vec(data).unwrap();
        let data: Value = serde_json::from_slice(&data).unwrap();
        let item = json!({
            "id": {"S": data["id"]}, "page": {"S": data["page"]},
            "ms": {"N": data["ms"].to_string()},
        });
        let number = record["kinesis"]["sequenceNumber"].to_string();
        (if is_changelog { item["id"].to_string() } else { number }, item)
    };
    records.iter().map(of).collect()
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| record.to_string() + "\n").collect()
}

fn write_packed(path: &Path, text: &str) {
    let mut packed = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
}

pub(crate) struct Desk {
    embedded: Embedded,
    function: Function<Views>,
    url: String,
    pub(crate) folder: Folder,
}

impl Desk {
    /// A person runs the command over this archive; code, applied, skipped, and what was said.
    fn replay(&self, archive: &Path, more: &[&str]) -> (Option<i32>, (u64, u64), String) {
        self.replay_with(archive.to_str().unwrap(), more, &[])
    }

    pub(crate) fn replay_with(
        &self,
        archive: &str,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> (Option<i32>, (u64, u64), String) {
        let views = self.folder.path().join("views.sql");
        let of = ["--endpoint-url", &self.url, "--views", views.to_str().unwrap()];
        let arguments = [&["view", "replay", archive, "--format", "json"], &of[..], more].concat();
        let tables = [
            ("CHANGEFOLD_LEDGER_TABLE", "x_ledger"),
            ("CHANGEFOLD_VIEW_TABLE_PREFIX", "x_"),
            ("CHANGEFOLD_CONSUMER", "test"),
        ];
        let (code, told, said) = changefold(&arguments, &[&tables, environment].concat());
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        let count = |name: &str| told[name].as_u64().unwrap_or_default();
        (code, (count("applied"), count("skipped")), said)
    }

    async fn deliver(&self, records: &[Value]) {
        let event = json!({ "Records": records }).to_string();
        let answer = self.function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(serde_json::to_value(answer).unwrap(), json!({"batchItemFailures": []}));
    }

    pub(crate) async fn is_exact(&self, view: usize, items: &oracle::Items) {
        let from = ["clicks", "changes"][view];
        let listing = self.function.work().rows(view, usize::MAX).await.unwrap();
        oracle::compare(&oracle::statements(VIEWS)[view], from, items, &listing).unwrap();
    }
}

pub(crate) fn with_a_desk(test: impl AsyncFnOnce(Desk)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let endpoint = support::local_endpoint(Some("http://embedded"));
        let client = SharedHttpClient::new(embedded.clone());
        let store = Store::new(client, &endpoint, Arc::new(SystemClock), 1);
        let function = support::function(VIEWS, &store, "x_").await;
        let server = StoreServer::start(embedded.clone()).await.unwrap();
        let folder = Folder::new();
        fs::write(folder.path().join("views.sql"), VIEWS).unwrap();
        test(Desk { embedded, function, url: server.url(), folder }).await;
    });
}

#[test]
fn an_archive_is_applied_once_whatever_the_order_of_its_files() {
    with_a_desk(async |desk| {
        let records: Vec<Value> = (0..2_500).map(|it| record("clicks", it, it % 40, 0)).collect();
        let archive = Folder::new();
        fs::create_dir_all(archive.path().join("2026/11")).unwrap();
        fs::write(archive.path().join("2026/11/30.jsonl"), lines(&records[..400])).unwrap();
        write_packed(&archive.path().join("2026/11/29.jsonl.gz"), &lines(&records[400..2_400]));
        let event = json!({"Records": records[2_400..]}).to_string();
        fs::write(archive.path().join("rest.json"), event).unwrap();
        fs::write(archive.path().join("_SUCCESS"), "").unwrap();
        let (code, counts, said) = desk.replay(archive.path(), &[]);
        assert_eq!((code, counts), (Some(0), (2_500, 0)), "{said}");
        assert!(said.contains("_SUCCESS"), "{said}");
        desk.is_exact(0, &items(&records, false)).await;
        let (code, counts, said) = desk.replay(archive.path(), &[]);
        assert_eq!((code, counts), (Some(0), (0, 2_500)), "{said}");
        desk.is_exact(0, &items(&records, false)).await;
    });
}

/// An archive may keep what a producer's library packed, as the stream has it.
#[test]
fn aggregates_in_an_archive_count_by_what_is_in_them() {
    with_a_desk(async |desk| {
        let clicks: Vec<Value> = (0..60).map(|it| record("clicks", it, it, 0)).collect();
        let aggregates = clicks.chunks(6).map(|together| {
            let user_record = |record: &Value| {
                let data = record["kinesis"]["data"].as_str().unwrap();
                let key = record["kinesis"]["partitionKey"].as_str().unwrap().to_owned();
                (key, None, base64_simd::STANDARD.decode_to_vec(data).unwrap())
            };
            let packed: Vec<_> = together.iter().map(user_record).collect();
            let mut aggregate = together[0].clone();
            let data = base64_simd::STANDARD.encode_to_string(packed::aggregate(&packed));
            aggregate["kinesis"]["data"] = data.into();
            aggregate
        });
        let aggregates: Vec<Value> = aggregates.collect();
        desk.deliver(&aggregates[3..5]).await;
        let archive = desk.folder.path().join("clicks.jsonl");
        fs::write(&archive, lines(&aggregates)).unwrap();
        assert_eq!(desk.replay(&archive, &[]).1, (48, 12));
        assert_eq!(desk.replay(&archive, &[]).1, (0, 60));
        desk.is_exact(0, &items(&clicks, false)).await;
    });
}

#[test]
fn an_archive_fills_a_gap_and_goes_back_nowhere() {
    with_a_desk(async |desk| {
        let clicks: Vec<Value> = (0..300).map(|it| record("clicks", it, it, 0)).collect();
        desk.deliver(&clicks[..100]).await;
        desk.deliver(&clicks[200..]).await;
        let archive = desk.folder.path().join("clicks.jsonl");
        fs::write(&archive, lines(&clicks[50..250])).unwrap();
        let (code, counts, said) = desk.replay(&archive, &[]);
        assert_eq!((code, counts), (Some(0), (100, 100)), "{said}");
        desk.is_exact(0, &items(&clicks, false)).await;
        // Of each key a change has come that is newer than those of the archive, but of two keys.
        let changes: Vec<Value> = (0..60).map(|it| record("changes", it, it % 10, 0)).collect();
        let newest: Vec<Value> = (50..58).map(|it| changes[it].clone()).collect();
        desk.deliver(&newest).await;
        let archive = desk.folder.path().join("changes.jsonl.gz");
        write_packed(&archive, &lines(&changes[..50]));
        let (code, counts, said) = desk.replay(&archive, &[]);
        assert_eq!((code, counts), (Some(0), (10, 40)), "{said}");
        let expected = [&changes[..50], &newest].concat();
        desk.is_exact(1, &items(&expected, true)).await;
    });
}

#[test]
fn records_that_the_ledger_may_have_forgotten_are_refused_unless_they_never_came() {
    with_a_desk(async |desk| {
        let old: Vec<Value> = (0..20).map(|it| record("clicks", it, it, 40 * DAY_MS)).collect();
        let archive = desk.folder.path().join("old.jsonl");
        fs::write(&archive, lines(&old)).unwrap();
        let (code, _, said) = desk.replay(&archive, &[]);
        assert_eq!(code, Some(2), "{said}");
        for part in ["ArchiveTooOld", "older than 24 hours", "0 records applied"] {
            assert!(said.contains(part), "no {part} in: {said}");
        }
        // The mapping has delivered records of before then: it may have delivered these.
        let (code, _, said) = desk.replay(&archive, &["--delivered-from", &date(41)]);
        assert!(code == Some(2) && said.contains("--delivered-from"), "{said}");
        let since = date(10);
        let never = ["--delivered-from", &since];
        let (code, counts, said) = desk.replay(&archive, &never);
        assert_eq!((code, counts), (Some(0), (20, 0)), "{said}");
        desk.is_exact(0, &items(&old, false)).await;
        // What an archive has brought is remembered for good.
        let scan = json!({"TableName": "x_ledger"}).to_string();
        let (_, told) = desk.embedded.answer("DynamoDB_20120810.Scan", scan.as_bytes());
        let told: Value = serde_json::from_str(&told).unwrap();
        let rows = told["Items"].as_array().unwrap().iter();
        let rows: Vec<&Value> =
            rows.filter(|row| row["pk"]["S"].as_str().unwrap().starts_with("K#")).collect();
        assert_eq!(rows.len(), 20);
        assert!(rows.iter().all(|row| row["ttl"].is_null()), "{rows:?}");
        assert_eq!(desk.replay(&archive, &never).1, (0, 20));
        // A changelog's rows stay, so its versions are never forgotten.
        let old: Vec<Value> = (0..20).map(|it| record("changes", it, it, 40 * DAY_MS)).collect();
        fs::write(&archive, lines(&old)).unwrap();
        assert_eq!(desk.replay(&archive, &[]).1, (20, 0));
        desk.is_exact(1, &items(&old, true)).await;
        // An item of a table could have been removed since.
        let order = support::order(7, "INSERT", "o-1", Some(("EU", "5", "OPEN")));
        fs::write(&archive, order + "\n").unwrap();
        let (code, _, said) = desk.replay(&archive, &never);
        assert!(code == Some(2) && said.contains("`view backfill`"), "{said}");
    });
}

#[test]
fn what_is_no_archive_of_these_views_is_refused_with_its_place() {
    with_a_desk(async |desk| {
        let refused = |text: &str, parts: &[&str]| {
            let archive = desk.folder.path().join("x.jsonl");
            fs::write(&archive, text).unwrap();
            let (code, _, said) = desk.replay(&archive, &[]);
            assert_eq!(code, Some(2), "{said}");
            for part in parts {
                assert!(said.contains(part), "no {part} in: {said}");
            }
        };
        let good = record("clicks", 1, 1, 0);
        refused(&format!("{good}\n{{}}\n"), &["x.jsonl:2"]);
        refused(&record("others", 1, 1, 0).to_string(), &["no view reads FROM others"]);
        let mut shardless = good.clone();
        shardless.as_object_mut().unwrap().remove("eventID");
        refused(&shardless.to_string(), &["eventID"]);
        let empty = Folder::new();
        let (code, _, said) = desk.replay(empty.path(), &[]);
        assert!(code == Some(2) && said.contains(".jsonl.gz"), "{said}");
        let archive = desk.folder.path().join("x.jsonl");
        fs::write(&archive, good.to_string()).unwrap();
        let (code, _, said) = desk.replay_with(
            archive.to_str().unwrap(),
            &[],
            &[("CHANGEFOLD_CONSUMER", "somebody")],
        );
        assert!(code == Some(2) && said.contains("test"), "{said}");
        let listing = desk.function.work().rows(0, usize::MAX).await.unwrap();
        assert_eq!(listing.total, 0, "nothing of it is in");
    });
}

/// The function finishes what its time allows, and the command gives it the rest.
#[test]
fn a_deployed_function_is_given_what_it_has_not_finished() {
    let (url, end) = scripted(|_, body| {
        let records = body["changefold"]["replay"]["records"].as_array().unwrap().len();
        let left: Vec<usize> = (records / 2..records).filter(|_| records > 1).collect();
        let done = records - left.len();
        (200, json!({"applied": done, "skipped": 0, "unfinished": left}))
    });
    let folder = Folder::new();
    let records: Vec<Value> = (0..20).map(|it| record("clicks", it, it, 0)).collect();
    let archive = folder.path().join("clicks.jsonl");
    fs::write(&archive, lines(&records)).unwrap();
    let arguments = ["view", "replay", archive.to_str().unwrap(), "--function", "views:live"];
    let (code, told, said) = changefold(&arguments, &[("AWS_ENDPOINT_URL_LAMBDA", &*url)]);
    assert_eq!((code, told.as_str()), (Some(0), "applied  20\nskipped  0\n"), "{said}");
    let counts = |body: &Value| body["changefold"]["replay"]["records"].as_array().unwrap().len();
    let counts: Vec<usize> = end().iter().map(|(_, body)| counts(body)).collect();
    assert_eq!(counts, [20, 10, 5, 3, 2, 1]);
}

#[test]
fn an_answer_is_of_the_records_that_were_given() {
    support::block_on(async {
        let store = support::embedded(1);
        let function = support::function(VIEWS, &store, "").await;
        let replay = json!({"records": [record("clicks", 1, 1, 0), record("clicks", 2, 2, 0)]});
        let event = json!({"changefold": {"version": 1, "replay": replay}}).to_string();
        let answer = function.invoke(event.as_bytes(), &call()).await.unwrap();
        let Answer::Operation(told) = answer else { panic!("a reply to an operation") };
        assert_eq!(told, json!({"applied": 2, "skipped": 0, "unfinished": []}));
    });
}
