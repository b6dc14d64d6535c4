//! `replay --on-failure DIR`: each on-failure record in a file, as its destination would get it.

use changefold::{
    batch::lanes::Lanes,
    local::cli::{self, Exit},
    processor::{self, Context, Failure},
    record::Change,
    recovery::notice::{Carrier, recognise},
};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::PathBuf,
    process::Command,
};

/// A directory of its own, gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("changefold-on-failure-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    /// The files by their paths in it.
    fn files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.0.clone()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let name = path.strip_prefix(&self.0).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(path).unwrap());
            }
        }
        found
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/orders.jsonl");

/// Whether the processor fails for ever at a record.
fn is_poison(number: &str) -> bool {
    number.ends_with('3')
}

/// The sequence numbers of all poison, from the fixture itself.
fn poison() -> BTreeSet<String> {
    let text = fs::read_to_string(FIXTURE).unwrap();
    let number = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["dynamodb"]["SequenceNumber"].as_str().unwrap().to_owned()
    };
    let found: BTreeSet<String> =
        text.lines().map(number).filter(|number| is_poison(number)).collect();
    assert!((3..40).contains(&found.len()), "{found:?}");
    found
}

fn to(destination: &str) -> String {
    format!("DestinationConfig.OnFailure.Destination={destination}")
}

/// The files of a replay whose processor fails at all poison, and what each is: the document
/// that AWS wrote.
fn written(
    name: &str,
    destination: &str,
    document: impl Fn(&Value) -> Value,
) -> BTreeMap<String, (String, Value)> {
    let directory = Directory::new(name);
    let processor = processor::from_fn(async |_: Change<IgnoredAny>, context: &Context<'_>| {
        let is_poison = is_poison(context.sequence_number().as_str());
        if is_poison { Err(Failure::halt("for ever")) } else { Ok(()) }
    });
    let destination = to(destination);
    let path = directory.0.to_str().unwrap();
    let arguments = ["desk", "replay", FIXTURE, "--template", "infra/template.yaml"]
        .into_iter()
        .chain(["--set", "MaximumRetryAttempts=0", "--set", "BisectBatchOnFunctionError=true"])
        .chain(["--set", &destination, "--on-failure", path])
        .map(OsString::from);
    let exit = cli::run_processor(|setup| Lanes::set_up(processor, setup), None, arguments);
    assert_eq!(exit, Exit::Discarded);
    let files: BTreeMap<String, (String, Value)> = directory
        .files()
        .into_iter()
        .map(|(name, body)| {
            let value = document(&serde_json::from_str(&body).unwrap());
            (name, (body, value))
        })
        .collect();
    let number = |it: &(String, Value)| {
        let batch = &it.1["DDBStreamBatchInfo"];
        assert_eq!(batch["startSequenceNumber"], batch["endSequenceNumber"], "{batch}");
        batch["startSequenceNumber"].as_str().unwrap().to_owned()
    };
    let numbers: Vec<String> = files.values().map(number).collect();
    assert_eq!(numbers.len(), poison().len(), "one file for each");
    assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), poison());
    files
}

// R45
#[test]
fn a_queue_gets_the_document_and_a_topic_has_it_as_text() {
    let queue = "arn:aws:sqs:eu-west-1:123456789012:failed";
    let of_queue = written("queue", queue, Value::clone);
    for (number, (name, (body, document))) in (1..).zip(&of_queue) {
        assert_eq!(*name, format!("sqs/failed/{number:06}.json"));
        assert!(body.starts_with(r#"{"requestContext":{"requestId":""#), "{body}");
        assert_eq!(document.get("payload"), None, "a queue gets no payload");
        assert_eq!(recognise(body.as_bytes()).unwrap().carrier, Carrier::Direct);
    }
    let arn = "arn:aws:sns:eu-west-1:123456789012:failed";
    let of_topic = written("topic", arn, |envelope| {
        assert_eq!(envelope["Type"], "Notification");
        assert_eq!(envelope["TopicArn"], arn);
        serde_json::from_str(envelope["Message"].as_str().unwrap()).unwrap()
    });
    let mut ids = BTreeSet::new();
    for (number, (name, (body, _))) in (1..).zip(&of_topic) {
        assert_eq!(*name, format!("sns/failed/{number:06}.json"));
        assert!(recognise(body.as_bytes()).is_some(), "{body}");
        let envelope: Value = serde_json::from_str(body).unwrap();
        ids.insert(envelope["MessageId"].to_string());
    }
    assert_eq!(ids.len(), of_topic.len(), "each message has an id of its own");
    let documents = |files: &BTreeMap<String, (String, Value)>| {
        files.values().map(|(_, document)| document.clone()).collect::<Vec<_>>()
    };
    assert_eq!(documents(&of_queue), documents(&of_topic), "both get the same");
}

// R45
#[test]
fn a_bucket_gets_the_payload_too_under_a_key_that_tells_shard_and_moment() {
    let bucket = "arn:aws:s3:::given-up";
    let files = written("bucket", bucket, Value::clone);
    for (key, (_, document)) in &files {
        let moment = document["timestamp"].as_str().unwrap();
        let (day, second) = (moment[..10].replace('-', "/"), moment[..19].replace(':', "."));
        let batch = &document["DDBStreamBatchInfo"];
        let shard = batch["shardId"].as_str().unwrap();
        let mapping = "00000000-0000-4000-8000-000000000000";
        let prefix = format!("s3/given-up/aws/lambda/{mapping}/{shard}/{day}/{second}-");
        let id = key.strip_prefix(&prefix).unwrap_or_else(|| panic!("{key} is not {prefix}…"));
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        let payload: Value = serde_json::from_str(document["payload"].as_str().unwrap()).unwrap();
        let records = payload["Records"].as_array().unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["dynamodb"]["SequenceNumber"], batch["startSequenceNumber"]);
    }
    let again = written("bucket-again", bucket, Value::clone);
    assert_eq!(again, files, "a run repeats, down to the keys");
}

#[test]
fn what_nobody_would_get_and_a_directory_in_use_are_refused() {
    let directory = Directory::new("refused");
    let refused = |destination: &str, message: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["replay", FIXTURE, "--views", "views/orders.sql"])
            .args(["--set", &to(destination), "--on-failure"])
            .arg(&directory.0)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(message), "{said}");
        assert!(said.contains("kafka") || said.contains("hint: name "), "{said}");
    };
    refused("", "the mapping has no on-failure destination");
    refused("kafka://failed", "a Kafka topic is a destination only of mappings whose source");
    assert!(!directory.0.exists(), "nothing is made of what is refused");
    fs::create_dir_all(&directory.0).unwrap();
    fs::write(directory.0.join("kept"), "mine").unwrap();
    refused("arn:aws:sqs:eu-west-1:123456789012:failed", "it is not empty");
    assert_eq!(directory.files().len(), 1);
}
