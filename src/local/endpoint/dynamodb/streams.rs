//! The API of DynamoDB Streams.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB_Streams.html>

use super::changes::{Change, Changes, Stream};
use crate::local::{
    endpoint::wire::{self, Call, Reply},
    token,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How long an iterator is good, in milliseconds; AWS's rule.
const ITERATOR_MS: i64 = 15 * 60_000;
/// AWS's limits of one `GetRecords`.
const RECORDS_MAX: i64 = 1_000;
const BYTES_MAX: usize = 1 << 20;
/// AWS's limit of one page of streams and of shards.
const LISTED_MAX: i64 = 100;
/// Sequence numbers have at least 21 digits.
const FIRST_SEQUENCE: u128 = 100_000_000_000_000_000_000;

const OPERATIONS: &str = "DescribeStream, GetRecords, GetShardIterator, ListStreams";

/// Where a reader stands in a shard.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Place {
    stream: i64,
    /// The position of the next change; 0 is the trim horizon.
    next: i64,
    /// When it was given out, in milliseconds since the Unix epoch.
    issued: i64,
}

/// Why there is no answer: the name and the message.
struct Refusal(&'static str, String);

type Result<T> = std::result::Result<T, Refusal>;

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self("InternalServerError", format!("the desk's streams cannot be read: {error}"))
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal("ValidationException", message.into())
}

fn not_found(what: &str) -> Refusal {
    Refusal("ResourceNotFoundException", format!("Requested resource not found: {what:.1024}"))
}

/// Answers one call.
pub(super) fn answer(changes: &mut Changes, now: i64, call: &Call<'_>) -> Reply {
    match dispatch(changes, now, call) {
        Ok(answer) => (200, answer.to_string()),
        Err(Refusal(code, message)) => {
            let status = if code == "InternalServerError" { 500 } else { 400 };
            let model = match code {
                "ValidationException" => "com.amazon.coral.validate",
                "UnknownOperationException" | "SerializationException" => {
                    "com.amazon.coral.service"
                }
                _ => "com.amazonaws.dynamodb.v20120810",
            };
            wire::error(status, &format!("{model}#{code}"), &message)
        }
    }
}

fn dispatch(changes: &mut Changes, now: i64, call: &Call<'_>) -> Result<Value> {
    let request: Value = serde_json::from_slice(call.body).map_err(|error| {
        let message = format!("the request is not JSON at column {}", error.column());
        Refusal("SerializationException", message)
    })?;
    changes.trim(now)?;
    match call.operation {
        "DescribeStream" => describe(changes, call.region, &request),
        "GetRecords" => records(changes, now, call.region, &request),
        "GetShardIterator" => iterator(changes, now, &request),
        "ListStreams" => list(changes, call.region, &request),
        operation => Err(Refusal(
            "UnknownOperationException",
            format!("DynamoDB Streams has no {operation:?}; it has {OPERATIONS}"),
        )),
    }
}

fn text<'a>(request: &'a Value, member: &str) -> Result<&'a str> {
    request[member].as_str().ok_or_else(|| {
        let mut chars = member.chars();
        let first = chars.next().map(|first| first.to_ascii_lowercase());
        let member: String = first.into_iter().chain(chars).collect();
        invalid(format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: \
             Member must not be null"
        ))
    })
}

fn limit(request: &Value, most: i64) -> Result<i64> {
    match &request["Limit"] {
        Value::Null => Ok(most),
        limit => limit.as_i64().filter(|limit| (1..=most).contains(limit)).ok_or_else(|| {
            invalid(format!(
                "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy \
                 constraint: Member must be from 1 to {most}"
            ))
        }),
    }
}

/// `arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL`, of any Region and account.
fn find(changes: &Changes, request: &Value, member: &str) -> Result<Stream> {
    let arn = text(request, member)?;
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    let parts: Vec<&str> = resource.splitn(4, '/').collect();
    let ["table", table, "stream", label] = parts[..] else {
        return Err(invalid(format!("Invalid StreamArn: {arn:.1024}")));
    };
    changes.stream(table, label)?.ok_or_else(|| not_found(&format!("Stream: {arn} not found")))
}

fn list(changes: &Changes, region: &str, request: &Value) -> Result<Value> {
    let most = usize::try_from(limit(request, LISTED_MAX)?).unwrap_or_default();
    let mut streams = changes.streams(request["TableName"].as_str())?;
    if !request["ExclusiveStartStreamArn"].is_null() {
        let after = find(changes, request, "ExclusiveStartStreamArn")?.id;
        streams.retain(|stream| stream.id > after);
    }
    let has_more = streams.len() > most;
    streams.truncate(most);
    let listed: Vec<Value> = streams
        .iter()
        .map(|stream| {
            json!({
                "StreamArn": stream.arn(region),
                "TableName": stream.table,
                "StreamLabel": stream.label,
            })
        })
        .collect();
    let mut answer = json!({ "Streams": listed });
    if let Some(last) = streams.last().filter(|_| has_more) {
        answer["LastEvaluatedStreamArn"] = last.arn(region).into();
    }
    Ok(answer)
}

fn describe(changes: &Changes, region: &str, request: &Value) -> Result<Value> {
    limit(request, LISTED_MAX)?;
    let stream = find(changes, request, "StreamArn")?;
    let mut sequences = json!({ "StartingSequenceNumber": sequence(stream.first) });
    if stream.closed.is_some() {
        let last = changes.last(stream.id)?.unwrap_or(stream.trimmed).max(stream.first);
        sequences["EndingSequenceNumber"] = sequence(last).into();
    }
    let shard = json!({ "ShardId": stream.shard(), "SequenceNumberRange": sequences });
    let is_after =
        request["ExclusiveStartShardId"].as_str().is_some_and(|it| *it >= *stream.shard());
    // There is one shard, which has no children.
    let shards =
        if is_after || request.get("ShardFilter").is_some() { vec![] } else { vec![shard] };
    let keys: Value = serde_json::from_str(&stream.key_schema).unwrap_or_default();
    Ok(json!({ "StreamDescription": {
        "StreamArn": stream.arn(region),
        "StreamLabel": stream.label,
        "StreamStatus": if stream.closed.is_some() { "DISABLED" } else { "ENABLED" },
        "StreamViewType": stream.view,
        "CreationRequestDateTime": stream.opened / 1000,
        "TableName": stream.table,
        "KeySchema": keys,
        "Shards": shards,
    } }))
}

fn sequence(position: i64) -> String {
    (FIRST_SEQUENCE + u128::from(position.unsigned_abs())).to_string()
}

fn position(sequence: &str) -> Option<i64> {
    let is_number = !sequence.is_empty() && sequence.bytes().all(|it| it.is_ascii_digit());
    let number = sequence.parse::<u128>().ok().filter(|_| is_number)?;
    i64::try_from(number.checked_sub(FIRST_SEQUENCE)?).ok()
}

fn iterator(changes: &Changes, now: i64, request: &Value) -> Result<Value> {
    let stream = find(changes, request, "StreamArn")?;
    let shard = text(request, "ShardId")?;
    if shard != stream.shard() {
        let arn = text(request, "StreamArn")?;
        return Err(not_found(&format!("Shard {shard} in stream {arn} does not exist")));
    }
    let kind = text(request, "ShardIteratorType")?;
    let next = match kind {
        "TRIM_HORIZON" => 0,
        "LATEST" => changes.next()?,
        "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER" => {
            let number = text(request, "SequenceNumber")?;
            let is_own = |it: &i64| (stream.first..changes.next().unwrap_or(0)).contains(it);
            let position = position(number).filter(|it| is_own(it) || *it == stream.first);
            let position = position.ok_or_else(|| {
                invalid(format!("Invalid SequenceNumber: {number:.40} is none of the shard's"))
            })?;
            let next = if kind == "AT_SEQUENCE_NUMBER" { position } else { position + 1 };
            // Behind the last one that was trimmed nothing is missing.
            if next <= stream.trimmed {
                return Err(trimmed());
            }
            next
        }
        kind => {
            return Err(invalid(format!(
                "1 validation error detected: Value '{kind:.64}' at 'shardIteratorType' failed to \
                 satisfy constraint: Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, \
                 LATEST, AT_SEQUENCE_NUMBER, TRIM_HORIZON]"
            )));
        }
    };
    let iterator = Place { stream: stream.id, next, issued: now };
    Ok(json!({ "ShardIterator": token::seal(&iterator) }))
}

fn trimmed() -> Refusal {
    let message = "The operation attempted to read past the oldest stream record in a shard; \
                   begin again at TRIM_HORIZON";
    Refusal("TrimmedDataAccessException", message.to_owned())
}

fn records(changes: &Changes, now: i64, region: &str, request: &Value) -> Result<Value> {
    let most = limit(request, RECORDS_MAX)?;
    let iterator: Place = token::open(text(request, "ShardIterator")?)
        .ok_or_else(|| invalid("Invalid ShardIterator"))?;
    if now.saturating_sub(iterator.issued) > ITERATOR_MS {
        let message = "Iterator expired after 15 minutes; get another by GetShardIterator";
        return Err(Refusal("ExpiredIteratorException", message.to_owned()));
    }
    let stream = changes.stream_of(iterator.stream)?;
    let stream = stream.ok_or_else(|| not_found("the stream of the iterator is gone"))?;
    if iterator.next > 0 && iterator.next <= stream.trimmed {
        return Err(trimmed());
    }
    let found = changes.read(stream.id, iterator.next, most, now)?;
    let may_be_more = i64::try_from(found.len()) == Ok(most);
    let (mut records, mut bytes, mut next, mut was_cut) = (Vec::new(), 0, iterator.next, false);
    for change in found {
        let position = change.position;
        if let Some((record, size)) = record(&stream, region, &change) {
            bytes += size;
            was_cut = bytes > BYTES_MAX && !records.is_empty();
            if was_cut {
                break;
            }
            records.push(record);
        }
        next = position + 1;
    }
    let mut answer = json!({ "Records": records });
    if stream.closed.is_none() || may_be_more || was_cut {
        let next = Place { next, issued: now, ..iterator };
        answer["NextShardIterator"] = token::seal(&next).into();
    }
    Ok(answer)
}

/// A change as a record, and its size; none if it changed nothing.
fn record(stream: &Stream, region: &str, change: &Change) -> Option<(Value, usize)> {
    // The store wrote them, so they are JSON.
    let read = |text: &String| serde_json::from_str::<Value>(text).unwrap_or_default();
    let [mut new, mut old] = [&change.new_image, &change.old_image].map(|it| it.as_ref().map(read));
    if change.event_name == "MODIFY" {
        [&mut new, &mut old].into_iter().flatten().for_each(sort_sets);
        if new == old {
            return None;
        }
    }
    let keys = read(&change.keys);
    let shows = |image| stream.view == image || stream.view == super::changes::BOTH_IMAGES;
    let mut size = size_of_item(&keys);
    let mut data = Map::new();
    data.insert("ApproximateCreationDateTime".to_owned(), change.arrived_s.into());
    data.insert("Keys".to_owned(), keys);
    for (member, image, view) in [("NewImage", new, "NEW_IMAGE"), ("OldImage", old, "OLD_IMAGE")] {
        if let Some(image) = image.filter(|_| shows(view)) {
            size += size_of_item(&image);
            data.insert(member.to_owned(), image);
        }
    }
    data.insert("SequenceNumber".to_owned(), sequence(change.position).into());
    data.insert("SizeBytes".to_owned(), size.into());
    data.insert("StreamViewType".to_owned(), stream.view.clone().into());
    let mut record = json!({
        "eventID": change.event_id,
        "eventName": change.event_name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": region,
        "dynamodb": data,
    });
    // What the store has only for items whose time to live is over.
    if let Some(who) = change.user_identity.as_ref().map(read) {
        record["userIdentity"] = json!({ "PrincipalId": who["principalId"], "Type": who["type"] });
    }
    Some((record, size))
}

/// Sets have no order, and their members in JSON may come in any.
fn sort_sets(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (kind, value) in members {
                match value {
                    Value::Array(members) if ["SS", "NS", "BS"].contains(&&**kind) => {
                        members.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
                    }
                    value => sort_sets(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(sort_sets),
        _ => {}
    }
}

/// The bytes of an item as DynamoDB counts them: names and values, a number about half its
/// digits, three for a list or map and one for each of its members
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>).
fn size_of_item(item: &Value) -> usize {
    let attributes = item.as_object().into_iter().flatten();
    attributes.map(|(name, value)| name.len() + size_of(value)).sum()
}

fn size_of(value: &Value) -> usize {
    let Some((kind, value)) = value.as_object().and_then(|it| it.iter().next()) else { return 0 };
    let one = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        match kind.as_str() {
            "S" | "SS" => text.len(),
            "N" | "NS" => text.bytes().filter(u8::is_ascii_digit).count().div_ceil(2) + 1,
            "B" | "BS" => text.trim_end_matches('=').len() * 3 / 4,
            _ => 1,
        }
    };
    match (kind.as_str(), value) {
        ("L", Value::Array(members)) => 3 + members.iter().map(|it| 1 + size_of(it)).sum::<usize>(),
        ("M", Value::Object(members)) => 3 + members.len() + size_of_item(value),
        (_, Value::Array(members)) => members.iter().map(one).sum(),
        (_, value) => one(value),
    }
}
