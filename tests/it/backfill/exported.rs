//! A backfill from an export of the table: the files as DynamoDB writes them, and the command.

use super::steps::{Shop, VIEWS};
use crate::{
    oracle,
    parked::{changefold, scripted},
    support::{self, call},
};
use changefold::{
    local::{export::Export, place::Place, store_server::StoreServer},
    outcome::Answer,
    store::embedded::Embedded,
};
use flate2::{Compression, write::GzEncoder};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub(crate) const ORDERS: &str = "arn:aws:dynamodb:dynoxide:000000000000:table/orders";

/// A directory of its own, which goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("changefold-export-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn edit(&self, file: &str, edit: impl FnOnce(String) -> String) {
        let path = self.0.join(file);
        fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn ask(embedded: &Embedded, operation: &str, body: &Value) -> Value {
    let target = format!("DynamoDB_20120810.{operation}");
    let (status, told) = embedded.answer(&target, body.to_string().as_bytes());
    assert_eq!(status, 200, "{operation}: {told}");
    serde_json::from_str(&told).unwrap()
}

pub(crate) fn items_of(embedded: &Embedded) -> Vec<Value> {
    let told = ask(embedded, "Scan", &json!({"TableName": "orders"}));
    told["Items"].as_array().unwrap().clone()
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

fn md5_of(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(Md5::digest(bytes))
}

/// Writes an export as DynamoDB does: two manifests, and data files of which one is empty.
pub(crate) fn write_export(folder: &Path, items: &[Value], table_arn: &str, time: &str) {
    fs::create_dir(folder.join("data")).unwrap();
    let mut manifest = String::new();
    for file in 0..3_usize {
        let of_file = items.iter().enumerate().filter(|(at, _)| file < 2 && at % 2 == file);
        let lines: Vec<String> =
            of_file.map(|(_, item)| json!({"Item": item}).to_string() + "\n").collect();
        let bytes = gzipped(&lines.concat());
        let name = format!("data/{file}x7rmb4dsy5e3lfa6zsjrmgbxu.json.gz");
        fs::write(folder.join(&name), &bytes).unwrap();
        manifest += &json!({
            "itemCount": lines.len(), "md5Checksum": md5_of(&bytes), "etag": "af83d6f2-1",
            "dataFileS3Key": format!("daily/AWSDynamoDB/01/{name}"),
        })
        .to_string();
        manifest += "\n";
    }
    fs::write(folder.join("manifest-files.json"), manifest).unwrap();
    let summary = json!({
        "version": "2020-06-30", "exportArn": format!("{table_arn}/export/01"),
        "startTime": time, "endTime": time, "tableArn": table_arn, "exportTime": time,
        "s3Bucket": "exports", "s3Prefix": "daily", "s3SseAlgorithm": "AES256",
        "s3SseKmsKeyId": null, "billedSizeBytes": 5000, "itemCount": items.len(),
        "manifestFilesS3Key": "daily/AWSDynamoDB/01/manifest-files.json",
        "outputFormat": "DYNAMODB_JSON", "exportType": "FULL_EXPORT",
    });
    fs::write(folder.join("manifest-summary.json"), summary.to_string()).unwrap();
    fs::write(folder.join("_started"), "").unwrap();
}

pub(crate) fn now() -> String {
    use changefold::clock::{Clock as _, SystemClock};
    let now = aws_smithy_types::DateTime::from_millis(SystemClock.now().0);
    now.fmt(aws_smithy_types::date_time::Format::DateTime).unwrap()
}

/// Lets a run be two minutes older than it is.
pub(crate) fn age_the_run(embedded: &Embedded) {
    let key = json!({"pk": {"S": format!("B#{ORDERS}")}});
    let told = ask(embedded, "GetItem", &json!({"TableName": "shop_ledger", "Key": key}));
    let mut row = told["Item"].clone();
    for name in ["dated_ms", "from_ms"] {
        let moment: i64 = row[name]["N"].as_str().unwrap().parse().unwrap();
        row[name] = json!({"N": (moment - 120_000).to_string()});
    }
    ask(embedded, "PutItem", &json!({"TableName": "shop_ledger", "Item": row}));
}

fn record(number: u32, item: &Value, is_removed: bool) -> Value {
    let mut change = json!({
        "SequenceNumber": number.to_string(), "Keys": {"pk": item["pk"]},
        "ApproximateCreationDateTime": 1_789_649_451, "StreamViewType": "NEW_IMAGE",
    });
    if !is_removed {
        change["NewImage"] = item.clone();
    }
    json!({
        "eventName": if is_removed { "REMOVE" } else { "MODIFY" },
        "eventSource": "aws:dynamodb", "dynamodb": change,
        "eventSourceARN": format!("{ORDERS}/stream/2026-09-17T12:50:51.000"),
    })
}

/// The command with its server, as a person runs it.
pub(crate) struct Desk {
    url: String,
    views: PathBuf,
}

impl Desk {
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> (Option<i32>, String, String) {
        let end = ["--endpoint-url", &self.url, "--views", self.views.to_str().unwrap()];
        let tables = [
            ("CHANGEFOLD_LEDGER_TABLE", "shop_ledger"),
            ("CHANGEFOLD_VIEW_TABLE_PREFIX", "shop_"),
            ("CHANGEFOLD_CONSUMER", "test"),
        ];
        changefold(&[&["view"], arguments, &end].concat(), &[&tables, environment].concat())
    }

    pub(crate) fn backfill(&self, more: &[&str]) -> (Option<i32>, String, String) {
        self.run(&[&["backfill", "--table", "orders", "--yes"], more].concat())
    }

    pub(crate) fn counts(&self) -> Value {
        let (_, told, said) = self.run(&["status", "--table", "orders", "--format", "json"]);
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{said}"));
        told["runs"][0]["counts"].clone()
    }
}

/// The views of orders are what SQL says of these items.
pub(crate) async fn is_exact(shop: &Shop, items: &[Value]) {
    let items = items.iter().map(|item| (item["pk"].to_string(), item.clone()));
    let items: oracle::Items = items.collect();
    for (view, statement) in oracle::statements(VIEWS).iter().enumerate().take(2) {
        let listing = shop.function.work().rows(view, usize::MAX).await.unwrap();
        oracle::compare(statement, "orders", &items, &listing).unwrap();
    }
}

pub(crate) fn with_a_desk(test: impl AsyncFnOnce(Shop, Embedded, Desk)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let shop = Shop::in_store(embedded.clone(), 50).await;
        let server = StoreServer::start(embedded.clone()).await.unwrap();
        let folder = Folder::new();
        let views = folder.path().join("views.sql");
        fs::write(&views, VIEWS).unwrap();
        test(shop, embedded, Desk { url: server.url(), views }).await;
    });
}

#[test]
fn a_table_is_backfilled_from_its_export() {
    with_a_desk(async |shop, embedded, desk| {
        let folder = Folder::new();
        let named = folder.path().to_str().unwrap();
        let (code, told, said) = desk.backfill(&["--export"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(told.contains("building"), "{told}");
        let line = format!("export-table-to-point-in-time --table-arn {ORDERS}");
        assert!(said.contains(&line) && said.contains("none of the table"), "{said}");
        let mut items = items_of(&embedded);
        write_export(folder.path(), &items, ORDERS, &now());
        let (code, _, said) = desk.backfill(&["--export", named]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("would come back") && said.contains(&line), "{said}");
        assert_eq!(desk.counts()["scanned"], 0);
        let (_, _, said) = desk.run(&["status"]);
        assert!(said.contains("awaits an export"), "{said}");
        age_the_run(&embedded);
        // Since the export an item has changed and another was removed, and the stream says so. A
        // third came past the stream: whoever reads the table finds it.
        items[7]["amount"] = json!({"N": "1000"});
        let removed = items.remove(0);
        let records = [record(1, &removed, true), record(2, &items[6], false)];
        let event = json!({"Records": records}).to_string();
        shop.function.invoke(event.as_bytes(), &call()).await.unwrap();
        let hidden = json!({"pk": {"S": "hidden"}, "region": {"S": "EU"}, "amount": {"N": "5"}});
        ask(&embedded, "PutItem", &json!({"TableName": "orders", "Item": hidden}));
        let slow = ["--export", named, "--units-max", "150", "--write-units-per-s", "100"];
        let (code, told, said) = desk.backfill(&slow);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("in 3 files") && said.contains("used up"), "{said}{told}");
        let paused = desk.counts()["scanned"].as_u64().unwrap();
        assert!((1..50).contains(&paused), "{paused}");
        let (code, told, said) = desk.backfill(&["--export", named]);
        assert_eq!((code, told.contains("catching up")), (Some(0), true), "{said}{told}");
        let counts = desk.counts();
        assert_eq!((&counts["scanned"], &counts["added"]), (&json!(50), &json!(48)), "{counts}");
        is_exact(&shop, &items).await;
        let (code, _, said) = desk.backfill(&["--export", named]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(desk.counts(), counts, "nothing is done twice");
    });
}

#[test]
fn a_run_reads_what_it_was_begun_with() {
    with_a_desk(async |_, embedded, desk| {
        let (folder, other, foreign) = (Folder::new(), Folder::new(), Folder::new());
        let named = |folder: &Folder| folder.path().to_str().unwrap().to_owned();
        let items = items_of(&embedded);
        assert_eq!(desk.backfill(&["--export"]).0, Some(0));
        age_the_run(&embedded);
        write_export(folder.path(), &items, ORDERS, &now());
        write_export(other.path(), &items, ORDERS, &now());
        other.edit("manifest-summary.json", |text| text.replace("/export/01", "/export/02"));
        write_export(foreign.path(), &items, &ORDERS.replace("orders", "others"), &now());
        let refused = |more: &[&str], part: &str| {
            let (code, _, said) = desk.backfill(more);
            assert_eq!((code, said.contains(part)), (Some(2), true), "no {part} in: {said}");
        };
        refused(&["--export", &named(&foreign)], "ExportOfAnotherTable");
        refused(&[], "RunReadsOther");
        let bound = desk.backfill(&["--export", &named(&folder), "--units-max", "1"]);
        assert!(bound.2.contains("used up"), "{}", bound.2);
        refused(&["--export", &named(&other)], "RunReadsOther");
        // A run that takes its place remembers what was removed as long as it did.
        assert_eq!(desk.run(&["stop", "--table", "orders"]).0, Some(0));
        let (code, _, said) = desk.backfill(&["--export", &named(&other), "--again"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(desk.counts()["added"], 50);
        // One over the table itself does not, and takes no items.
        assert_eq!(desk.backfill(&["--again", "--units-max", "1"]).0, Some(1));
        refused(&["--export", &named(&other)], "RunReadsOther");
    });
}

#[test]
fn a_deployed_function_is_given_the_items_of_an_export() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let embedded = Embedded::open(None).unwrap();
    let shop = runtime.block_on(Shop::in_store(embedded.clone(), 40));
    let (url, end) = scripted(move |_, body| {
        let event = body.to_string().into_bytes();
        match runtime.block_on(shop.function.invoke(&event, &call())) {
            Ok(Answer::Operation(answer)) => (200, answer),
            other => panic!("{other:?}"),
        }
    });
    let environment = [("AWS_ENDPOINT_URL_LAMBDA", &*url)];
    let folder = Folder::new();
    let start = ["view", "backfill", "--function", "views:live", "--table", "orders", "--yes"];
    let run = |more: &[&str]| changefold(&[&start, more].concat(), &environment);
    assert_eq!(run(&["--export"]).0, Some(0));
    age_the_run(&embedded);
    write_export(folder.path(), &items_of(&embedded), ORDERS, &now());
    let named = folder.path().to_str().unwrap();
    let (code, told, said) = run(&["--export", named, "--format", "json", "--calls", "2"]);
    assert_eq!(code, Some(0), "{said}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["runs"][0]["counts"]["added"], 40, "{told}");
    let (segments, scanned) = (&told["runs"][0]["segments"], &told["runs"][0]["state"]);
    assert_eq!((segments, scanned), (&json!(3), &json!("catching_up")), "{told}");
    let work = |body: &Value| body["changefold"]["backfill"]["work"].clone();
    let given = end().into_iter().map(|(_, body)| work(&body)).filter(|it| !it.is_null());
    assert!(given.filter(|work| work["given"]["items"][0].is_object()).count() >= 2);
}

/// The first command dies when the function has done what it was asked; then two are at it.
#[test]
fn a_command_that_died_and_two_at_once_bring_nothing_in_twice() {
    const ITEMS: usize = 2_500;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let embedded = Embedded::open(None).unwrap();
    let shop = runtime.block_on(Shop::in_store(embedded.clone(), ITEMS));
    let mut portions = 0;
    let (url, end) = scripted(move |_, body| {
        let event = body.to_string().into_bytes();
        let Ok(Answer::Operation(answer)) = runtime.block_on(shop.function.invoke(&event, &call()))
        else {
            panic!("no answer to {body}");
        };
        let given = &body["changefold"]["backfill"]["work"]["given"]["items"];
        portions += u32::from(given[0].is_object());
        if portions == 1 && given[0].is_object() {
            return (400, json!({"message": "nobody reads this"}));
        }
        (200, answer)
    });
    let folder = Folder::new();
    let named = folder.path().to_str().unwrap();
    let start = ["view", "backfill", "--function", "views:live", "--table", "orders", "--yes"];
    let limits = ["--write-units-per-s", "9999999", "--read-units-per-s", "9999999"];
    let run = |more: &[&str]| {
        let arguments = [&start, &limits[..], &["--segments", "1", "--format", "json"], more];
        changefold(&arguments.concat(), &[("AWS_ENDPOINT_URL_LAMBDA", &*url)])
    };
    assert_eq!(run(&["--export"]).0, Some(0));
    age_the_run(&embedded);
    write_export(folder.path(), &items_of(&embedded), ORDERS, &now());
    let (code, _, said) = run(&["--export", named]);
    assert!(code == Some(2) && said.contains("what is done stays done"), "{said}");
    let ended = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| run(&["--export", named])));
        both.map(|command| command.join().unwrap())
    });
    for (code, told, said) in ended {
        assert_eq!(code, Some(0), "{said}");
        let told: Value = serde_json::from_str(&told).unwrap();
        let counts = &told["runs"][0]["counts"];
        assert_eq!((&counts["scanned"], &counts["added"]), (&json!(ITEMS), &json!(ITEMS)));
    }
    let given = |body: &Value| {
        let given = &body["changefold"]["backfill"]["work"]["given"];
        given["items"].as_array().filter(|items| !items.is_empty()).map(|_| given["from"].clone())
    };
    let from: Vec<Value> = end().iter().filter_map(|(_, body)| given(body)).collect();
    assert_eq!((&from[0], &from[1]), (&json!(0), &json!(1000)), "it goes on where the run stands");
}

/// Reads an export whole, or says why not.
async fn read(folder: &Folder) -> Result<u64, String> {
    let told = |error: &dyn std::error::Error| {
        let source = error.source().map_or_else(String::new, ToString::to_string);
        format!("{error} {source}")
    };
    let place = Place::Directory(folder.path().to_owned());
    let export = Export::open(place).await.map_err(|error| told(&error))?;
    let mut found = 0;
    for file in export.segments(2).concat() {
        let mut items = export.items(file).await.map_err(|error| told(&error))?;
        while items.next_item().map_err(|error| told(&error))?.is_some() {
            found += 1;
        }
    }
    Ok(found)
}

#[test]
fn an_export_that_is_not_whole_is_refused_with_its_file_and_the_remedy() {
    const FIRST: &str = "data/0x7rmb4dsy5e3lfa6zsjrmgbxu.json.gz";
    type Edit = fn(&Folder);
    let cases: [(&str, Edit, &[&str]); 10] = [
        ("it is whole", |_| {}, &[]),
        (
            "no summary",
            |it| fs::remove_file(it.path().join("manifest-summary.json")).unwrap(),
            &["manifest-summary.json", "not COMPLETED", "describe-export"],
        ),
        (
            "no list of files",
            |it| fs::remove_file(it.path().join("manifest-files.json")).unwrap(),
            &["manifest-files.json"],
        ),
        (
            "incremental",
            |it| it.edit("manifest-summary.json", |text| text.replace("FULL_", "INCREMENTAL_")),
            &["manifest-summary.json", "incremental", "--export-type FULL_EXPORT"],
        ),
        (
            "Ion",
            |it| it.edit("manifest-summary.json", |text| text.replace("DYNAMODB_JSON", "ION")),
            &["ION", "--export-format DYNAMODB_JSON"],
        ),
        (
            "a file is missing",
            |it| fs::remove_file(it.path().join(FIRST)).unwrap(),
            &[FIRST, "is not there", "export the table again"],
        ),
        (
            "the list ends early",
            |it| {
                it.edit("manifest-files.json", |text| {
                    text.lines().skip(1).map(|line| line.to_owned() + "\n").collect()
                });
            },
            &["manifest-files.json", "a part of it is missing"],
        ),
        (
            "fewer items than said",
            |it| rewrite(it, |text| text[..text.len() / 2].to_owned()),
            &[FIRST, "items, and the manifest says", "export the table again"],
        ),
        (
            "a line that is no item",
            |it| rewrite(it, |text| text.replacen("\"N\"", "\"Q\"", 1)),
            &[FIRST, ":1", "not an item"],
        ),
        (
            "a bit is lost",
            |it| {
                let path = it.path().join(FIRST);
                let mut bytes = fs::read(&path).unwrap();
                bytes[4] ^= 1;
                fs::write(path, bytes).unwrap();
            },
            &[FIRST, "MD5", "export the table again"],
        ),
    ];
    support::block_on(async {
        let embedded = Embedded::open(None).unwrap();
        Shop::in_store(embedded.clone(), 21).await;
        for (what, edit, parts) in cases {
            let folder = Folder::new();
            write_export(folder.path(), &items_of(&embedded), ORDERS, &now());
            edit(&folder);
            let told = read(&folder).await;
            match told {
                Ok(found) => assert_eq!((found, parts.len()), (21, 0), "{what} was read"),
                Err(told) => {
                    assert!(!parts.is_empty(), "{what}: {told}");
                    for part in parts {
                        assert!(told.contains(part), "{what}: no {part} in: {told}");
                    }
                }
            }
        }
    });
}

/// Writes the first data file anew, with the checksum that it has then.
fn rewrite(folder: &Folder, edit: impl FnOnce(&str) -> String) {
    let path = folder.path().join("data/0x7rmb4dsy5e3lfa6zsjrmgbxu.json.gz");
    let former = fs::read(&path).unwrap();
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(&*former);
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    let whole = edit(&text);
    let whole = whole.rfind('\n').map_or("", |end| &whole[..=end]);
    let bytes = gzipped(whole);
    fs::write(&path, &bytes).unwrap();
    folder.edit("manifest-files.json", |text| text.replace(&md5_of(&former), &md5_of(&bytes)));
}

/// The gzip's own checksum, where the manifest has none.
#[test]
fn a_data_file_without_a_checksum_in_the_manifest_is_held_against_its_own() {
    support::block_on(async {
        let embedded = Embedded::open(None).unwrap();
        Shop::in_store(embedded.clone(), 21).await;
        let folder = Folder::new();
        write_export(folder.path(), &items_of(&embedded), ORDERS, &now());
        folder.edit("manifest-files.json", |text| text.replace("md5Checksum", "sum"));
        assert_eq!(read(&folder).await, Ok(21));
        let path = folder.path().join("data/0x7rmb4dsy5e3lfa6zsjrmgbxu.json.gz");
        let mut bytes = fs::read(&path).unwrap();
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let told = read(&folder).await.unwrap_err();
        assert!(told.contains("checksum"), "{told}");
        fs::write(path, &bytes[..checksum - 20]).unwrap();
        assert!(read(&folder).await.is_err());
    });
}
