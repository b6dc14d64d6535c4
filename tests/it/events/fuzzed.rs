//! What must hold of the decoder for any bytes at all, through the public API.
//!
//! The fuzz target (`tests/fuzz`) includes this file and gives it bytes without end; here it is
//! given the corpus. The rules are the documented ones, written a second time over JSON that
//! `serde_json` has read: what is well-formed has to be read so and not otherwise. What is
//! skipped need not be well-formed, only its brackets closed and its text UTF-8, so of other
//! bytes only this is asked: nothing panics, and whatever is given back is a value.

#[path = "fuzzed/attributes.rs"]
mod attributes;
#[path = "fuzzed/json.rs"]
mod json;
#[path = "fuzzed/model.rs"]
mod model;

use changefold::{
    event::{self, DecodeError, Record, RecordKey, Value},
    record::{Change, RemoveCause, Source},
};
use json::{Json, Kind};
use model::Model;
use serde::Deserialize;

/// The bytes as an event, as the data of a Kinesis record, as image and keys of an item.
pub(crate) fn check(input: &[u8]) {
    check_event(input);
    check_event(&kinesis_event(input));
    check_event(&dynamodb_event(input));
}

fn kinesis_event(data: &[u8]) -> Vec<u8> {
    let data = base64_simd::STANDARD.encode_to_string(data);
    let start = r#"{"Records":[{"kinesis":{"sequenceNumber":"7","partitionKey":"p","data":""#;
    [start, &data, r#""},"eventSource":"aws:kinesis"}]}"#].concat().into_bytes()
}

/// Between two records of a usual shape, in case the decoder learns from one for the next.
fn dynamodb_event(image: &[u8]) -> Vec<u8> {
    let usual: &[u8] = br#"{"pk":{"S":"p"},"status":{"S":"NEW"},"total":{"N":"12.50"},
"version":{"N":"3"},"paid":{"BOOL":true},"note":{"NULL":true},"address":{"M":{"zip":{"S":"1"}}},
"items":{"L":[{"M":{"sku":{"S":"a"},"qty":{"N":"2"}}}]},"tags":{"SS":["x"]},"sig":{"B":"AA=="}}"#;
    let mut event = b"{\"Records\":[".to_vec();
    for (at, image) in [usual, image, usual].into_iter().enumerate() {
        let start = format!(r#"{{"eventName":"MODIFY","dynamodb":{{"SequenceNumber":"{at}","#);
        for part in [start.as_bytes(), br#""Keys":"#, image, br#","NewImage":"#, image] {
            event.extend_from_slice(part);
        }
        event.extend_from_slice(br#","OldImage":"#);
        event.extend_from_slice(image);
        event.extend_from_slice(br#"},"eventSource":"aws:dynamodb"}"#);
        event.extend_from_slice(if at < 2 { b"," } else { b"]}" });
    }
    event
}

fn check_event(payload: &[u8]) {
    let batch = event::parse(payload);
    let records = batch.records();
    for record in records.unwrap_or_default() {
        check_valid(record, payload);
        if let Some(json) = Json::read(record.raw().as_bytes()) {
            check_record(record, &json);
        }
    }
    if records.is_ok() {
        assert!(is_balanced(payload), "an event whose brackets are open was accepted");
    }
    let Some(event) = Json::read(payload) else { return };
    match standing(&event) {
        Standing::Unclear => {}
        Standing::Refused => assert!(records.is_err(), "an event without address was accepted"),
        Standing::Accepted => {
            let records = records.expect("an event with its addresses is accepted");
            let Some(Kind::List(expected)) = event.get("Records").map(|it| &it.kind) else {
                unreachable!("an accepted event has records")
            };
            let raw: Vec<&str> = records.iter().map(Record::raw).collect();
            let texts: Vec<&str> = expected.iter().map(|json| json.text).collect();
            assert_eq!(raw, texts);
        }
    }
}

/// Whether the text is UTF-8 and every bracket outside strings has its partner.
fn is_balanced(payload: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(payload) else { return false };
    let (mut depth, mut bytes) = (0usize, text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return false,
            b'}' | b']' => depth -= 1,
            b'"' => loop {
                match bytes.next() {
                    Some(b'"') => break,
                    Some(b'\\') => drop(bytes.next()),
                    Some(_) => {}
                    None => return false,
                }
            },
            _ => {}
        }
    }
    depth == 0
}

/// What the addresses of an event, or of a record, say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Accepted,
    Refused,
    /// Several members are there twice, or one that only the other service has: no rule says.
    Unclear,
}

fn standing(event: &Json<'_>) -> Standing {
    let Some(Kind::List(records)) = event.get("Records").map(|it| &it.kind) else {
        return Standing::Refused;
    };
    let repeated = event.repeated(&["Records", "shardId", "window"]);
    let sources: Vec<_> = records.iter().map(|it| it.get("eventSource")?.as_text()).collect();
    let standings: Vec<Standing> = records.iter().map(record_standing).collect();
    let is_mixed = sources.windows(2).any(|pair| pair[0] != pair[1]);
    if is_mixed || repeated.contains(&"Records") || standings.contains(&Standing::Refused) {
        Standing::Refused
    } else if !repeated.is_empty() || standings.contains(&Standing::Unclear) {
        Standing::Unclear
    } else {
        Standing::Accepted
    }
}

const MEMBERS: &[&str] = &[
    "dynamodb",
    "kinesis",
    "eventSource",
    "eventID",
    "eventName",
    "eventSourceARN",
    "userIdentity",
    "messageId",
    "body",
    "attributes",
];
const IN_DYNAMODB: &[&str] =
    &["SequenceNumber", "ApproximateCreationDateTime", "Keys", "NewImage", "OldImage"];
const IN_KINESIS: &[&str] =
    &["sequenceNumber", "approximateArrivalTimestamp", "partitionKey", "data"];
const IN_SQS: &[&str] =
    &["SequenceNumber", "MessageGroupId", "SentTimestamp", "ApproximateReceiveCount"];
const ADDRESS: &[&str] = &[
    "dynamodb",
    "kinesis",
    "eventSource",
    "SequenceNumber",
    "sequenceNumber",
    "messageId",
    "attributes",
    "MessageGroupId",
];

/// The member that holds what is a service's own, what it has of interest, and the number.
fn body_of(record: &Json<'_>) -> Option<(Source, &'static str, &'static [&'static str])> {
    Some(match record.get("eventSource")?.as_text()? {
        "aws:dynamodb" => (Source::DynamoDb, "dynamodb", IN_DYNAMODB),
        "aws:kinesis" => (Source::Kinesis, "kinesis", IN_KINESIS),
        "aws:sqs" => (Source::Sqs, "attributes", IN_SQS),
        _ => return None,
    })
}

/// Known members that are there twice: in the record, in its body, in the others' bodies.
fn repeated(record: &Json<'_>) -> (Vec<&'static str>, usize) {
    let mut own = record.repeated(MEMBERS);
    let mut foreign = 0;
    let bodies = [("dynamodb", IN_DYNAMODB), ("kinesis", IN_KINESIS), ("attributes", IN_SQS)];
    for (name, known) in bodies {
        let inner = record.get(name).map(|body| body.repeated(known)).unwrap_or_default();
        match body_of(record) {
            Some((_, body, _)) if body == name => own.extend(inner),
            _ => foreign += inner.len(),
        }
    }
    (own, foreign)
}

fn record_standing(record: &Json<'_>) -> Standing {
    let Some((source, body, known)) = body_of(record) else { return Standing::Refused };
    let address = if source.is_queue() {
        record.get("messageId").and_then(Json::as_text).filter(|id| !id.is_empty())
    } else {
        let number = record.get(body).and_then(|body| body.get(known[0]));
        number.and_then(Json::as_text).filter(|text| {
            (1..=129).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    match repeated(record) {
        (own, 0) if own.is_empty() && address.is_some() => Standing::Accepted,
        (own, 0) if own.is_empty() => Standing::Refused,
        (own, 0) if own.iter().any(|it| ADDRESS.contains(it)) => Standing::Refused,
        (own, 0) if own.len() == 1 && address.is_some() => Standing::Accepted,
        _ => Standing::Unclear,
    }
}

/// Asks a record for everything; what it gives is a value, and is of this payload.
fn check_valid(record: &Record<'_>, payload: &[u8]) {
    assert!(payload.as_ptr_range().contains(&record.raw().as_ptr()) || record.raw().is_empty());
    assert!(std::str::from_utf8(record.raw().as_bytes()).is_ok());
    if let Ok(key) = record.keys() {
        match &key {
            RecordKey::Item(item) => item.iter().for_each(|(_, value)| check_value(value)),
            RecordKey::Partition(key) => check_text(key),
        }
        drop((key.canonical(), key.to_string()));
    }
    if let Ok(change) = record.values() {
        [change.new_image(), change.old_image()].into_iter().flatten().for_each(check_value);
    }
    // Only that they return counts.
    drop(record.change::<Model<'_>>());
    drop(record.change::<serde_json::Value>());
    drop(record.change::<serde::de::IgnoredAny>());
    drop(record.data().map(|data| data.map(<[u8]>::len)));
    drop(record.inner());
    let _ = (record.shard_id(), record.stream_label(), record.message_group());
}

fn check_text(text: &str) {
    assert!(std::str::from_utf8(text.as_bytes()).is_ok(), "a text that is not UTF-8");
}

fn check_value(value: &Value<'_>) {
    let number = |text: &str| assert!(attributes::is_decimal(text), "{text} is no number");
    match value {
        Value::Null | Value::Bool(_) | Value::Binary(_) | Value::BinarySet(_) => {}
        Value::Number(text) => number(text),
        Value::NumberSet(set) => set.iter().for_each(|text| number(text)),
        Value::Text(text) => check_text(text),
        Value::TextSet(set) => set.iter().for_each(|text| check_text(text)),
        Value::List(list) => list.iter().for_each(check_value),
        Value::Map(members) => {
            for (at, (name, value)) in members.iter().enumerate() {
                check_text(name);
                check_value(value);
                assert!(members[..at].iter().all(|(other, _)| other != name), "a name twice");
            }
        }
    }
}

/// Holds an accepted record against its own text.
fn check_record(record: &Record<'_>, json: &Json<'_>) {
    let (own, foreign) = repeated(json);
    if own.len() == 1 && foreign == 0 {
        assert!(record.keys().is_err() && record.values().is_err() && record.data().is_err());
    }
    let Some((source, body, known)) = body_of(json).filter(|_| own.is_empty() && foreign == 0)
    else {
        return;
    };
    let text = |name| json.get(name).and_then(Json::as_text);
    assert_eq!(record.source(), source);
    assert_eq!(record.event_id(), text("eventID"));
    assert_eq!(record.stream_arn(), text("eventSourceARN"));
    let body = json.get(body);
    let part = |name: &'static str| body.and_then(|body| body.get(name));
    if !source.is_queue() {
        let number = part(known[0]).and_then(Json::as_text);
        assert_eq!(Some(record.sequence_number().as_str()), number);
        check_arrival(record, part(known[1]));
    }
    match source {
        Source::DynamoDb => check_dynamodb(record, json, part),
        Source::Kinesis => {
            let key = part("partitionKey").and_then(Json::as_text);
            let key = key.map(|key| RecordKey::Partition(key.into()));
            assert_eq!(record.keys().ok(), key);
            let data = part("data").and_then(|data| attributes::base64(data.as_text()?));
            assert_eq!(record.data().ok(), data.as_deref().map(Some));
            check_document(record, data.as_deref());
        }
        Source::Sqs => {
            assert_eq!(record.message_id(), text("messageId"));
            let body = text("body").map(str::as_bytes);
            assert_eq!(record.data().ok(), body.map(Some));
            if matches!(record.inner(), Ok(None)) {
                check_document(record, body);
            }
        }
    }
}

/// Seconds in any spelling, to the millisecond.
#[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
fn check_arrival(record: &Record<'_>, seconds: Option<&Json<'_>>) {
    let seconds = seconds.filter(|seconds| matches!(seconds.kind, Kind::Number));
    let seconds = seconds.and_then(|seconds| serde_json::from_str::<f64>(seconds.text).ok());
    let expected = seconds.map(|seconds| (seconds * 1000.0).round() as i64);
    let found = record.approximate_arrival().map(|arrival| arrival.0);
    let distance = found.zip(expected).map_or(0, |(found, expected)| found.abs_diff(expected));
    assert!(found.is_some() == expected.is_some() && distance <= 1, "{found:?}, {expected:?}");
}

fn check_dynamodb<'j>(
    record: &Record<'_>,
    json: &'j Json<'_>,
    part: impl Fn(&'static str) -> Option<&'j Json<'j>>,
) {
    let keys = part("Keys").filter(|keys| !matches!(keys.kind, Kind::Null));
    let keys = keys.and_then(attributes::item).and_then(|keys| match keys {
        Value::Map(mut keys) if !keys.is_empty() => {
            keys.sort_by(|(a, _), (b, _)| a.cmp(b));
            Some(RecordKey::Item(keys))
        }
        _ => None,
    });
    assert_eq!(record.keys().ok(), keys);

    let identity = json.get("userIdentity").map(|identity| identity.text);
    let name = json.get("eventName").and_then(Json::as_text);
    let images = Images {
        name: name.unwrap_or_default(),
        cause: remove_cause(identity),
        old: part("OldImage").filter(|image| !matches!(image.kind, Kind::Null)),
        new: part("NewImage").filter(|image| !matches!(image.kind, Kind::Null)),
    };
    let values = images.change(attributes::item);
    assert_eq!(record.values().ok(), values, "{}", json.text);
    assert_eq!(record.change().ok(), images.change(model::model), "{}", json.text);
    let plain = images.change(|image| attributes::plain(&attributes::item(image)?).map(Bits));
    assert_eq!(record.change().ok(), plain, "{}", json.text);
}

struct Images<'j> {
    name: &'j str,
    cause: Option<RemoveCause>,
    old: Option<&'j Json<'j>>,
    new: Option<&'j Json<'j>>,
}

impl<'j> Images<'j> {
    /// The change, if the images that belong to it can be read.
    fn change<T>(&self, read: impl Fn(&'j Json<'j>) -> Option<T>) -> Option<Change<T>> {
        let image = |image: Option<&'j Json<'j>>| match image {
            None => Some(None),
            Some(image) => read(image).map(Some),
        };
        Some(match self.name {
            "INSERT" => Change::Insert { new: image(self.new)? },
            "MODIFY" => Change::Modify { old: image(self.old)?, new: image(self.new)? },
            "REMOVE" => Change::Remove { old: image(self.old)?, cause: self.cause? },
            _ => return None,
        })
    }
}

fn remove_cause(identity: Option<&str>) -> Option<RemoveCause> {
    #[derive(Deserialize)]
    struct UserIdentity {
        r#type: Option<String>,
        #[serde(rename = "principalId")]
        principal: Option<String>,
    }
    let identity: Option<UserIdentity> = serde_json::from_str(identity.unwrap_or("null")).ok()?;
    let is_ttl = identity.is_some_and(|identity| {
        identity.r#type.as_deref() == Some("Service")
            && identity.principal.as_deref() == Some("dynamodb.amazonaws.com")
    });
    Some(if is_ttl { RemoveCause::Ttl } else { RemoveCause::User })
}

/// A document's type: what it does not name is passed over.
#[derive(Debug, PartialEq, Deserialize)]
struct Document {
    pk: Option<String>,
    total: Option<f64>,
    version: Option<i32>,
    #[serde(default)]
    items: Vec<(u8, Option<char>)>,
}

/// Holds the reading of data or of a body, none if there is no text at all, against
/// `serde_json`'s. A record without either is an error.
fn check_document(record: &Record<'_>, data: Option<&[u8]>) {
    let theirs = data.and_then(|data| serde_json::from_slice(data).ok()).map(Bits);
    assert_eq!(inserted(record.change()), theirs);
    let json = data.and_then(Json::read);
    let exact = json.as_ref().filter(|json| json.is_decodable()).map(exact);
    assert_eq!(inserted(record.values()), exact);
    if json.is_some() {
        let theirs = data.and_then(|data| serde_json::from_slice::<Document>(data).ok());
        assert_eq!(inserted(record.change()), theirs);
    }
}

fn inserted<T>(change: Result<Change<T>, DecodeError>) -> Option<T> {
    match change.ok()? {
        Change::Insert { new } => new,
        _ => panic!("what has no images is an insert"),
    }
}

/// A document with the text of its numbers.
fn exact(json: &Json<'_>) -> Value<'static> {
    match &json.kind {
        Kind::Null => Value::Null,
        Kind::Bool(value) => Value::Bool(*value),
        Kind::Number => Value::Number(json.text.to_owned().into()),
        Kind::Text(text) => Value::Text(text.clone().into()),
        Kind::List(list) => Value::List(list.iter().map(exact).collect()),
        Kind::Object(members) => {
            let mut kept: Vec<(std::borrow::Cow<'static, str>, Value<'static>)> = Vec::new();
            for (name, value) in members {
                match kept.iter_mut().find(|(found, _)| found == name) {
                    Some(found) => found.1 = exact(value),
                    None => kept.push((name.clone().into(), exact(value))),
                }
            }
            Value::Map(kept)
        }
    }
}

/// A `serde_json` value whose floats are compared to the last bit.
#[derive(Debug, Deserialize)]
struct Bits(serde_json::Value);

impl PartialEq for Bits {
    fn eq(&self, other: &Self) -> bool {
        use serde_json::Value as Json;
        fn same(a: &Json, b: &Json) -> bool {
            match (a, b) {
                (Json::Number(a), Json::Number(b)) => {
                    let bits = |it: &serde_json::Number| it.as_f64().map(f64::to_bits);
                    a == b && bits(a) == bits(b)
                }
                (Json::Array(a), Json::Array(b)) => {
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
                }
                (Json::Object(a), Json::Object(b)) => {
                    let mut pairs = a.iter().zip(b);
                    a.len() == b.len() && pairs.all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
                }
                _ => a == b,
            }
        }
        same(&self.0, &other.0)
    }
}

#[cfg(test)]
#[test]
fn the_corpus_is_read_as_the_rules_say() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/decode");
    let mut checked = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        checked += 1;
    }
    assert!(checked > 50, "only {checked} inputs in {}", corpus.display());
}
