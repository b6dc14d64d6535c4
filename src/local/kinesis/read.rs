//! Records are read: iterators, and what lies after them.

use super::{
    Asked,
    error::{KinesisError, Result},
    request::{self, GetIterator, GetRecords},
    rows::{self, Shard, Stream},
    shards,
    token::Place,
};
use base64_simd::STANDARD;
use rusqlite::{OptionalExtension as _, Transaction};
use serde::Serialize;
use serde_json::{Value, json};

/// AWS's limits of one call
/// (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>).
const RECORDS_MAX: i64 = 10_000;
const BYTES_MAX: usize = 10 << 20;

pub(super) fn iterator(
    tables: &Transaction<'_>,
    Asked { now, .. }: Asked<'_>,
    request: &GetIterator<'_>,
) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let shard = shards::find(tables, &stream, &request.shard_id, now)?;
    let next = position(tables, &shard, request, now)?;
    let iterator = Place { shard: shard.id, next, issued: now };
    Ok(json!({ "ShardIterator": iterator.to_text() }).to_string())
}

/// The count of the record that an iterator begins with.
fn position(
    tables: &Transaction<'_>,
    shard: &Shard,
    request: &GetIterator<'_>,
    now: i64,
) -> Result<i64> {
    let kind = request.shard_iterator_type.as_str();
    match kind {
        "TRIM_HORIZON" => Ok(0),
        "LATEST" => Ok(shard.next),
        "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER" => {
            let number = request.starting_sequence_number.as_deref().ok_or_else(|| {
                KinesisError::argument(format!(
                    "Must specify StartingSequenceNumber for ShardIteratorType {kind}."
                ))
            })?;
            let count = shard.count_of(number).ok_or_else(|| {
                KinesisError::argument(format!(
                    "StartingSequenceNumber {number:.129} used in GetShardIterator on shard {} is \
                     invalid because it did not come from this shard.",
                    rows::shard_id(shard.number)
                ))
            })?;
            Ok(if kind == "AT_SEQUENCE_NUMBER" { count } else { count + 1 })
        }
        "AT_TIMESTAMP" => {
            let at = request.timestamp.map(request::millis).ok_or_else(|| {
                KinesisError::argument("Must specify timestamp for ShardIteratorType AT_TIMESTAMP.")
            })?;
            if at > now {
                return Err(KinesisError::argument(format!(
                    "The timestampInMillis parameter cannot be greater than the \
                     currentTimestampInMillis. timestampInMillis: {at}, \
                     currentTimestampInMillis: {now}"
                )));
            }
            first_since(tables, shard, at)
        }
        _ => Err(KinesisError::constraint(
            kind,
            "shardIteratorType",
            "satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, \
             AT_SEQUENCE_NUMBER, TRIM_HORIZON]",
        )),
    }
}

/// The count of the first record that arrived at a moment or later. Arrivals do not go back
/// within a shard, so halving finds it.
fn first_since(tables: &Transaction<'_>, shard: &Shard, at: i64) -> Result<i64> {
    let mut lookup = tables.prepare_cached(
        "SELECT id, arrived FROM records WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 1",
    )?;
    let end = shard.row(shard.next);
    let (mut low, mut high) = (1, shard.next);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = lookup.query_row([shard.row(middle), end], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        match found.optional()? {
            Some((row, arrived)) if arrived < at => low = shard.count(row) + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    approximate_arrival_timestamp: f64,
    data: String,
    partition_key: String,
    sequence_number: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    records: Vec<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_shard_iterator: Option<String>,
    millis_behind_latest: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_shards: Vec<Value>,
}

pub(super) fn records(
    tables: &Transaction<'_>,
    Asked { now, .. }: Asked<'_>,
    request: &GetRecords,
) -> Result<String> {
    let limit = request::within(request.limit, "limit", 1..=RECORDS_MAX)?;
    let iterator = Place::read(&request.shard_iterator, now)?;
    let (stream, shard) = rows::shard(tables, iterator.shard)?;
    let (records, next) = walk(tables, &stream, &shard, iterator.next, limit, now)?;
    let behind = behind(tables, &stream, &shard, next, now)?;
    let is_over = shard.closed.is_some() && behind.is_none();
    let child_shards = if is_over { children(tables, &stream, &shard)? } else { vec![] };
    let next = Place { shard: shard.id, next, issued: now };
    let answer = Answer {
        records,
        next_shard_iterator: (!is_over).then(|| next.to_text()),
        millis_behind_latest: behind.unwrap_or(0),
        child_shards,
    };
    serde_json::to_string(&answer).map_err(|error| KinesisError::unreadable(&error))
}

/// The records from a count on, and the count after them.
fn walk(
    tables: &Transaction<'_>,
    stream: &Stream,
    shard: &Shard,
    from: i64,
    limit: usize,
    now: i64,
) -> Result<(Vec<Record>, i64)> {
    let mut found = tables.prepare_cached(
        "SELECT id, arrived, partition_key, data FROM records \
         WHERE id >= ?1 AND id < ?2 AND arrived >= ?3 ORDER BY id LIMIT ?4",
    )?;
    let range = [shard.row(from), shard.row(shard.next), stream.horizon(now), rows::size(limit)];
    let mut found = found.query(range)?;
    let (mut records, mut bytes, mut next) = (Vec::new(), 0, from);
    while let Some(row) = found.next()? {
        let (arrived, partition_key): (i64, String) = (row.get(1)?, row.get(2)?);
        let data = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
        bytes += data.len() + partition_key.len();
        if bytes > BYTES_MAX && !records.is_empty() {
            break;
        }
        let count = shard.count(row.get(0)?);
        next = count + 1;
        records.push(Record {
            approximate_arrival_timestamp: request::seconds(arrived),
            data: STANDARD.encode_to_string(data),
            partition_key,
            sequence_number: shard.sequence(count, arrived),
        });
    }
    Ok((records, next))
}

/// How long ago the next record arrived, in milliseconds; none if there is no next one.
fn behind(
    tables: &Transaction<'_>,
    stream: &Stream,
    shard: &Shard,
    next: i64,
    now: i64,
) -> Result<Option<i64>> {
    let mut first = tables.prepare_cached(
        "SELECT arrived FROM records WHERE id >= ?1 AND id < ?2 AND arrived >= ?3 \
         ORDER BY id LIMIT 1",
    )?;
    let range = [shard.row(next), shard.row(shard.next), stream.horizon(now)];
    let arrived = first.query_row(range, |row| row.get::<_, i64>(0)).optional()?;
    Ok(arrived.map(|arrived| now.saturating_sub(arrived).max(0)))
}

fn children(tables: &Transaction<'_>, stream: &Stream, parent: &Shard) -> Result<Vec<Value>> {
    let parents = |child: &Shard| {
        let parents = child.parent.into_iter().chain(child.adjacent);
        parents.map(rows::shard_id).collect::<Vec<_>>()
    };
    let children = rows::children(tables, stream, parent)?;
    Ok(children
        .iter()
        .map(|child| {
            json!({
                "ShardId": rows::shard_id(child.number),
                "ParentShards": parents(child),
                "HashKeyRange": shards::range_json(child.range),
            })
        })
        .collect())
}
