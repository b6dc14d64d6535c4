//! Records are written.

use super::{
    Asked,
    error::{KinesisError, Result},
    hash,
    request::{Entry, Named, PutRecord, PutRecords},
    rows::{self, Shard},
};
use base64_simd::STANDARD;
use rusqlite::{Transaction, params};
use serde::Serialize;

/// AWS's limits (<https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>):
/// records of a call, bytes of a record unless a stream is set to more, and of a call.
const RECORDS_MAX: usize = 500;
const RECORD_BYTES_MAX: usize = 1 << 20;
const CALL_BYTES_MAX: usize = 10 << 20;
const PARTITION_KEY_MAX: usize = 256;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    sequence_number: String,
    shard_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AllWritten {
    /// All are, or the call fails.
    failed_record_count: u32,
    records: Vec<Written>,
    encryption_type: &'static str,
}

/// A record that is fit to be written.
struct Fit<'a> {
    key: u128,
    partition_key: &'a str,
    data: Vec<u8>,
}

pub(super) fn record(
    tables: &Transaction<'_>,
    asked: Asked<'_>,
    request: PutRecord<'_>,
) -> Result<String> {
    let (stream, entry) = request.parts();
    let written = write(tables, asked, &stream, std::slice::from_ref(&entry))?;
    answer(&written.first())
}

pub(super) fn records(
    tables: &Transaction<'_>,
    asked: Asked<'_>,
    request: PutRecords<'_>,
) -> Result<String> {
    let (stream, entries) = request.parts();
    if !(1..=RECORDS_MAX).contains(&entries.len()) {
        let must = format!("have length less than or equal to {RECORDS_MAX} and at least 1");
        let what = format!("[{} records]", entries.len());
        return Err(KinesisError::constraint(what, "records", &must));
    }
    let records = write(tables, asked, &stream, &entries)?;
    answer(&AllWritten { failed_record_count: 0, records, encryption_type: "NONE" })
}

fn answer(answer: &impl Serialize) -> Result<String> {
    serde_json::to_string(answer).map_err(|error| KinesisError::unreadable(&error))
}

fn write(
    tables: &Transaction<'_>,
    Asked { now, .. }: Asked<'_>,
    stream: &Named<'_>,
    entries: &[Entry<'_>],
) -> Result<Vec<Written>> {
    let fit: Vec<Fit<'_>> = entries.iter().map(fit).collect::<Result<_>>()?;
    let bytes: usize = fit.iter().map(|it| it.data.len() + it.partition_key.len()).sum();
    if bytes > CALL_BYTES_MAX {
        return Err(KinesisError::argument("Records size exceeds 10 MB limit"));
    }
    let stream = rows::stream(tables, stream.name()?)?;
    rows::trim(tables, &stream, now)?;
    let mut shards = rows::open_shards(tables, &stream)?;
    let mut insert = tables.prepare_cached(
        "INSERT INTO records (id, arrived, partition_key, data) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut written = Vec::with_capacity(fit.len());
    for Fit { key, partition_key, data } in fit {
        let Some(shard) = shards.iter_mut().find(|shard| shard.range.contains(key)) else {
            return Err(KinesisError::not_found("The stream has no shard for the record."));
        };
        // In a shard time does not go back, whatever the clock is set to.
        shard.arrived = shard.arrived.max(now);
        let count = shard.next;
        shard.next += 1;
        insert.execute(params![shard.row(count), shard.arrived, partition_key, data])?;
        let sequence_number = shard.sequence(count, shard.arrived);
        written.push(Written { sequence_number, shard_id: rows::shard_id(shard.number) });
    }
    advance(tables, &shards, now)?;
    Ok(written)
}

/// Writes down how far the shards are that were written to.
fn advance(tables: &Transaction<'_>, shards: &[Shard], now: i64) -> Result<()> {
    let mut advance = tables
        .prepare_cached("UPDATE shards SET next = ?2, arrived = ?3 WHERE id = ?1 AND next <> ?2")?;
    for shard in shards {
        advance.execute([shard.id, shard.next, shard.arrived.max(now)])?;
    }
    Ok(())
}

fn fit<'a>(entry: &'a Entry<'_>) -> Result<Fit<'a>> {
    let partition_key = entry.partition_key.as_ref();
    if !(1..=PARTITION_KEY_MAX).contains(&partition_key.chars().count()) {
        let must = format!("have length less than or equal to {PARTITION_KEY_MAX} and at least 1");
        return Err(KinesisError::constraint("(a key)", "partitionKey", &must));
    }
    let data = STANDARD
        .decode_to_vec(entry.data.as_bytes())
        .map_err(|_| KinesisError::validation("1 validation error detected: Data is not base64"))?;
    if data.len() > RECORD_BYTES_MAX {
        let must = format!("have length less than or equal to {RECORD_BYTES_MAX}");
        return Err(KinesisError::constraint("(bytes)", "data", &must));
    }
    let key = match &entry.explicit_hash_key {
        None => hash::of(partition_key),
        Some(key) => hash::parse(key).ok_or_else(|| {
            KinesisError::argument(format!(
                "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: \
                 [0, 2^128-1]. Specified value was {key:.40}"
            ))
        })?,
    };
    Ok(Fit { key, partition_key, data })
}
