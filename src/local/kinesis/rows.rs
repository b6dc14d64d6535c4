//! The tables: streams, their shards, and the records.
//!
//! A record's row is its shard's number and its count in one, so that a shard's records lie
//! together, in order, and a read is one walk. What has expired by the clock is not read, and is
//! deleted when somebody writes.

use super::{
    error::{KinesisError, Result},
    hash::Range,
    sequence::Sequence,
};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

/// Marks the file as one of these (`PRAGMA application_id`), and the form of its tables.
const APPLICATION: i64 = 0x6366_6b6e;
const FORM: i64 = 1;
/// A count within a shard takes so many bits of a record's row.
const COUNT_BITS: u32 = 40;
const HOUR_MS: i64 = 3_600_000;
/// How often what has expired of a stream is deleted, in milliseconds.
const TRIM_MS: i64 = 1_000;

const TABLES: &str = "
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
        hours INTEGER NOT NULL, mode TEXT NOT NULL, shards INTEGER NOT NULL, tags TEXT NOT NULL,
        trimmed INTEGER NOT NULL);
    CREATE TABLE shards (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, number INTEGER NOT NULL,
        low BLOB NOT NULL, high BLOB NOT NULL, parent INTEGER, adjacent INTEGER,
        made_s INTEGER NOT NULL, opened INTEGER NOT NULL, closed INTEGER, next INTEGER NOT NULL,
        arrived INTEGER NOT NULL, UNIQUE (stream, number));
    CREATE TABLE records (
        id INTEGER PRIMARY KEY, arrived INTEGER NOT NULL, partition_key TEXT NOT NULL,
        data BLOB NOT NULL);";

/// Makes the tables, or finds them as they should be.
pub(super) fn prepare(connection: &Connection) -> std::result::Result<(), String> {
    let say = |error: rusqlite::Error| error.to_string();
    let number = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).map_err(say)
    };
    // Nothing waits for the disk: only a loss of power takes what was acknowledged.
    let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000";
    match (number("application_id")?, number("user_version")?, number("schema_version")?) {
        (APPLICATION, FORM, _) => connection.execute_batch(set).map_err(say),
        (0, 0, 0) => connection
            .execute_batch(&format!(
                "{set}; BEGIN; {TABLES} PRAGMA application_id = {APPLICATION}; \
                 PRAGMA user_version = {FORM}; COMMIT;"
            ))
            .map_err(say),
        (APPLICATION, form, _) => {
            Err(format!("was written by another version (form {form}); name another directory"))
        }
        _ => Err("is another program's; name another directory".to_owned()),
    }
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: i64,
    pub(super) name: String,
    /// Milliseconds since the Unix epoch.
    pub(super) created: i64,
    /// For how long records are kept.
    pub(super) hours: i64,
    /// `PROVISIONED` or `ON_DEMAND`.
    pub(super) mode: String,
    /// When what had expired was deleted, in milliseconds since the Unix epoch.
    trimmed: i64,
}

/// A shard of a stream.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    pub(super) id: i64,
    /// Its number within the stream.
    pub(super) number: u32,
    pub(super) range: Range,
    pub(super) parent: Option<u32>,
    /// The other parent of a merge's child.
    pub(super) adjacent: Option<u32>,
    /// See [`Sequence`].
    made_s: i64,
    /// When it was made and closed, in milliseconds since the Unix epoch.
    pub(super) opened: i64,
    pub(super) closed: Option<i64>,
    /// The count of its next record. That of the first is 1.
    pub(super) next: i64,
    /// When the last record arrived, in milliseconds since the Unix epoch.
    pub(super) arrived: i64,
}

impl Stream {
    const COLUMNS: &'static str = "id, name, created, hours, mode, trimmed";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            created: row.get(2)?,
            hours: row.get(3)?,
            mode: row.get(4)?,
            trimmed: row.get(5)?,
        })
    }

    /// What arrived before has expired, in milliseconds since the Unix epoch.
    pub(super) fn horizon(&self, now: i64) -> i64 {
        now.saturating_sub(self.hours.saturating_mul(HOUR_MS))
    }
}

/// A stream's ARN, in the Region that asks.
pub(super) fn arn(region: &str, name: &str) -> String {
    let account = super::ACCOUNT;
    format!("arn:aws:kinesis:{region}:{account}:stream/{name}")
}

/// A shard's name.
pub(super) fn shard_id(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// The number in a shard's name. AWS's own pattern lets other names pass, which name no shard.
pub(super) fn shard_number(id: &str) -> Option<u32> {
    id.strip_prefix("shardId-").unwrap_or(id).parse().ok()
}

impl Shard {
    const COLUMNS: &'static str =
        "id, number, low, high, parent, adjacent, made_s, opened, closed, next, arrived";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let key = |column| row.get(column).map(u128::from_be_bytes);
        Ok(Self {
            id: row.get(0)?,
            number: row.get(1)?,
            range: Range { low: key(2)?, high: key(3)? },
            parent: row.get(4)?,
            adjacent: row.get(5)?,
            made_s: row.get(6)?,
            opened: row.get(7)?,
            closed: row.get(8)?,
            next: row.get(9)?,
            arrived: row.get(10)?,
        })
    }

    /// A sequence number of this shard.
    pub(super) fn sequence(&self, count: i64, at: i64) -> String {
        let Self { made_s, number: shard, .. } = *self;
        Sequence { made_s, count: count.unsigned_abs(), arrived_s: at / 1000, shard }.to_text()
    }

    /// The count of a sequence number of this shard; none if it is another's.
    pub(super) fn count_of(&self, sequence_number: &str) -> Option<i64> {
        let sequence = Sequence::parse(sequence_number)?;
        let is_own = sequence.made_s == self.made_s && sequence.shard == self.number;
        i64::try_from(sequence.count).ok().filter(|count| is_own && *count <= self.next)
    }

    /// The row of a record.
    pub(super) fn row(&self, count: i64) -> i64 {
        (self.id << COUNT_BITS) + count
    }

    /// The count of a record's row.
    pub(super) fn count(&self, row: i64) -> i64 {
        row - self.row(0)
    }
}

/// A stream by its name.
pub(super) fn stream(tables: &Transaction<'_>, name: &str) -> Result<Stream> {
    let sql = format!("SELECT {} FROM streams WHERE name = ?1", Stream::COLUMNS);
    let found = tables.prepare_cached(&sql)?.query_row([name], Stream::of).optional()?;
    found.ok_or_else(|| no_stream(name))
}

pub(super) fn no_stream(name: &str) -> KinesisError {
    let account = super::ACCOUNT;
    KinesisError::not_found(format!("Stream {name} under account {account} not found."))
}

/// The streams after a name, in the order of their names.
pub(super) fn streams(tables: &Transaction<'_>, after: &str, most: usize) -> Result<Vec<Stream>> {
    let columns = Stream::COLUMNS;
    let sql = format!("SELECT {columns} FROM streams WHERE name > ?1 ORDER BY name LIMIT ?2");
    let mut found = tables.prepare_cached(&sql)?;
    let found = found.query_map(params![after, size(most)], Stream::of)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// A size as the tables have it.
pub(super) fn size(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// All shards of a stream that may have records, in the order they were made.
pub(super) fn shards(tables: &Transaction<'_>, stream: &Stream, now: i64) -> Result<Vec<Shard>> {
    let columns = Shard::COLUMNS;
    let sql = format!(
        "SELECT {columns} FROM shards WHERE stream = ?1 AND (closed IS NULL OR closed >= ?2) \
         ORDER BY number"
    );
    let mut found = tables.prepare_cached(&sql)?;
    let found = found.query_map([stream.id, stream.horizon(now)], Shard::of)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// The open shards of a stream, in the order of their hash keys.
pub(super) fn open_shards(tables: &Transaction<'_>, stream: &Stream) -> Result<Vec<Shard>> {
    let columns = Shard::COLUMNS;
    let sql =
        format!("SELECT {columns} FROM shards WHERE stream = ?1 AND closed IS NULL ORDER BY low");
    let mut found = tables.prepare_cached(&sql)?;
    let found = found.query_map([stream.id], Shard::of)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// A shard by its row, with the stream it is of.
pub(super) fn shard(tables: &Transaction<'_>, id: i64) -> Result<(Stream, Shard)> {
    let sql = format!("SELECT {}, stream FROM shards WHERE id = ?1", Shard::COLUMNS);
    let read = |row: &Row<'_>| Ok((Shard::of(row)?, row.get::<_, i64>(11)?));
    let found = tables.prepare_cached(&sql)?.query_row([id], read).optional()?;
    let gone = || KinesisError::not_found("The stream or the shard of the iterator is gone.");
    let (shard, stream) = found.ok_or_else(gone)?;
    Ok((stream_of(tables, stream)?, shard))
}

/// A stream by its row.
pub(super) fn stream_of(tables: &Transaction<'_>, id: i64) -> Result<Stream> {
    let sql = format!("SELECT {} FROM streams WHERE id = ?1", Stream::COLUMNS);
    let found = tables.prepare_cached(&sql)?.query_row([id], Stream::of).optional()?;
    found.ok_or_else(|| KinesisError::not_found("The stream of the token is gone."))
}

/// The children of a shard.
pub(super) fn children(
    tables: &Transaction<'_>,
    stream: &Stream,
    parent: &Shard,
) -> Result<Vec<Shard>> {
    let columns = Shard::COLUMNS;
    let sql = format!(
        "SELECT {columns} FROM shards WHERE stream = ?1 AND (parent = ?2 OR adjacent = ?2) \
         ORDER BY number"
    );
    let mut found = tables.prepare_cached(&sql)?;
    let found = found.query_map(params![stream.id, parent.number], Shard::of)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Makes a shard with these parents.
pub(super) fn add_shard(
    tables: &Transaction<'_>,
    stream: &Stream,
    range: Range,
    parents: [Option<&Shard>; 2],
    now: i64,
) -> Result<()> {
    // A child's numbers are greater than its parents', however soon it follows.
    let made_s = parents.iter().flatten().map(|parent| parent.made_s + 1).max();
    let [parent, adjacent] = parents.map(|parent| parent.map(|parent| parent.number));
    tables
        .prepare_cached(
            "INSERT INTO shards (stream, number, low, high, parent, adjacent, made_s, opened, \
             next, arrived) SELECT id, shards, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?7 FROM streams \
             WHERE id = ?1",
        )?
        .execute(params![
            stream.id,
            range.low.to_be_bytes(),
            range.high.to_be_bytes(),
            parent,
            adjacent,
            made_s.unwrap_or(0).max(now / 1000),
            now
        ])?;
    let mut count =
        tables.prepare_cached("UPDATE streams SET shards = shards + 1 WHERE id = ?1")?;
    count.execute([stream.id])?;
    Ok(())
}

/// Closes a shard: nothing is written to it any more.
pub(super) fn close_shard(tables: &Transaction<'_>, shard: &Shard, now: i64) -> Result<()> {
    // Its end is after its last record, even if the clock was set back.
    let closed = now.max(shard.arrived);
    let mut close = tables.prepare_cached("UPDATE shards SET closed = ?2 WHERE id = ?1")?;
    close.execute([shard.id, closed])?;
    Ok(())
}

/// Deletes now and then what has expired of a stream: records, and shards that ended before.
pub(super) fn trim(tables: &Transaction<'_>, stream: &Stream, now: i64) -> Result<()> {
    if now.saturating_sub(stream.trimmed) < TRIM_MS {
        return Ok(());
    }
    let mut mark = tables.prepare_cached("UPDATE streams SET trimmed = ?2 WHERE id = ?1")?;
    mark.execute([stream.id, now])?;
    let horizon = stream.horizon(now);
    // Most often nothing has: that is one look at each shard's first record.
    let mut all = tables.prepare_cached("SELECT id, closed FROM shards WHERE stream = ?1")?;
    let all = all.query_map([stream.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let all: Vec<(i64, Option<i64>)> = all.collect::<rusqlite::Result<_>>()?;
    for (shard, closed) in all {
        let (first, end) = (shard << COUNT_BITS, (shard + 1) << COUNT_BITS);
        let kept = "SELECT id FROM records WHERE id >= ?1 AND id < ?2 AND arrived >= ?3 \
                    ORDER BY id LIMIT 1";
        let mut kept = tables.prepare_cached(kept)?;
        let kept = kept.query_row([first, end, horizon], |row| row.get(0)).optional()?;
        let mut delete = tables.prepare_cached("DELETE FROM records WHERE id >= ?1 AND id < ?2")?;
        delete.execute([first, kept.unwrap_or(end)])?;
        if closed.is_some_and(|closed| closed < horizon) {
            tables.prepare_cached("DELETE FROM shards WHERE id = ?1")?.execute([shard])?;
        }
    }
    Ok(())
}

/// Deletes a stream with all that it holds.
pub(super) fn delete(tables: &Transaction<'_>, stream: &Stream) -> Result<()> {
    tables.execute(
        &format!(
            "DELETE FROM records WHERE EXISTS (SELECT 1 FROM shards WHERE stream = ?1 \
             AND id = records.id >> {COUNT_BITS})"
        ),
        [stream.id],
    )?;
    tables.execute("DELETE FROM shards WHERE stream = ?1", [stream.id])?;
    tables.execute("DELETE FROM streams WHERE id = ?1", [stream.id])?;
    Ok(())
}
