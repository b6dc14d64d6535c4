//! The changes of tables, as their streams keep them.
//!
//! A second connection to the file of the embedded store, with two tables of its own: streams,
//! and changes by position. A trigger moves each row that dynoxide writes for its own streams
//! into them, in the transaction of the change itself, and leaves dynoxide's table empty. Names
//! have a colon, which no table of a user has.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

/// The view type that the store's streams have.
pub(super) const BOTH_IMAGES: &str = "NEW_AND_OLD_IMAGES";
const VIEWS: [&str; 4] = ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", BOTH_IMAGES];

/// For how long a change is kept, in milliseconds; AWS's rule.
const KEPT_MS: i64 = 24 * 3_600_000;
/// How often what has expired is looked for, in milliseconds.
const TRIM_MS: i64 = 60_000;

const TABLES: &str = r#"
    CREATE TABLE IF NOT EXISTS "desk:streams" (
        id INTEGER PRIMARY KEY AUTOINCREMENT, table_name TEXT NOT NULL, origin TEXT NOT NULL,
        label TEXT NOT NULL, view TEXT NOT NULL, key_schema TEXT NOT NULL, opened INTEGER NOT NULL,
        closed INTEGER, first INTEGER NOT NULL, trimmed INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS "desk:streams:table" ON "desk:streams" (table_name, closed);
    CREATE TABLE IF NOT EXISTS "desk:views" (table_name TEXT PRIMARY KEY, view TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS "desk:changes" (
        position INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL,
        arrived_s INTEGER NOT NULL, event_id TEXT NOT NULL, event_name TEXT NOT NULL,
        keys TEXT NOT NULL, new_image TEXT, old_image TEXT, user_identity TEXT);
    CREATE INDEX IF NOT EXISTS "desk:changes:stream" ON "desk:changes" (stream);
    CREATE TRIGGER IF NOT EXISTS "desk:capture" BEFORE INSERT ON _stream_records BEGIN
        INSERT INTO "desk:changes" (stream, arrived_s, event_id, event_name, keys, new_image,
            old_image, user_identity)
        SELECT id, NEW.created_at, NEW.event_id, NEW.event_name, NEW.keys_json, NEW.new_image,
            NEW.old_image, NEW.user_identity
        FROM "desk:streams" WHERE table_name = NEW.table_name AND closed IS NULL;
        SELECT RAISE(IGNORE);
    END;"#;

/// The connection.
#[derive(Debug)]
pub(super) struct Changes {
    connection: Connection,
    /// When what had expired was deleted, in milliseconds since the Unix epoch.
    trimmed_at: i64,
}

/// A stream of a table, enabled or not any more.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) id: i64,
    pub(super) table: String,
    pub(super) label: String,
    /// The `StreamViewType` that was asked for.
    pub(super) view: String,
    /// The table's `KeySchema` in JSON.
    pub(super) key_schema: String,
    /// Milliseconds since the Unix epoch.
    pub(super) opened: i64,
    pub(super) closed: Option<i64>,
    /// No change of it has a lower position.
    pub(super) first: i64,
    /// All up to this position have expired.
    pub(super) trimmed: i64,
}

/// A change of an item.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) position: i64,
    /// Seconds since the Unix epoch.
    pub(super) arrived_s: i64,
    pub(super) event_id: String,
    pub(super) event_name: String,
    pub(super) keys: String,
    pub(super) new_image: Option<String>,
    pub(super) old_image: Option<String>,
    pub(super) user_identity: Option<String>,
}

/// A view type that there is.
pub(super) fn known_view(text: &str) -> Option<&'static str> {
    VIEWS.into_iter().find(|view| *view == text)
}

const STREAM: &str = "id, table_name, label, view, key_schema, opened, closed, first, trimmed";

impl Stream {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            table: row.get(1)?,
            label: row.get(2)?,
            view: row.get(3)?,
            key_schema: row.get(4)?,
            opened: row.get(5)?,
            closed: row.get(6)?,
            first: row.get(7)?,
            trimmed: row.get(8)?,
        })
    }

    /// Its ARN in a Region.
    pub(super) fn arn(&self, region: &str) -> String {
        super::arn(region, &format!("table/{}/stream/{}", self.table, self.label))
    }

    /// The name of its shard, in the form of AWS's.
    pub(super) fn shard(&self) -> String {
        format!("shardId-{:020}-{:08x}", self.opened, self.id)
    }
}

impl Changes {
    /// Opens the connection to a store that is open already.
    pub(super) fn open(place: &str, now: i64) -> rusqlite::Result<Self> {
        let connection = super::connected(place)?;
        connection.execute_batch(TABLES)?;
        let mut changes = Self { connection, trimmed_at: i64::MIN };
        // A process that was killed may have made a table, but not yet its stream.
        changes.follow(now)?;
        Ok(changes)
    }

    /// What AWS says to one who enables a stream that is enabled, or the other way round.
    pub(super) fn refuses(&self, table: &str, enables: bool) -> rusqlite::Result<Option<String>> {
        let sql = "SELECT stream_enabled FROM _tables WHERE table_name = ?1";
        let is_enabled: Option<bool> =
            self.connection.query_row(sql, [table], |row| row.get(0)).optional()?;
        Ok(match (is_enabled, enables) {
            (Some(true), true) => {
                Some(format!("Table already has an enabled stream: TableName: {table}"))
            }
            (Some(false), false) => {
                Some(format!("Table does not have a stream to disable: TableName: {table}"))
            }
            _ => None,
        })
    }

    /// Keeps the view type that the next stream of a table shall have.
    pub(super) fn want(&mut self, table: &str, view: &str) -> rusqlite::Result<()> {
        let sql = r#"INSERT OR REPLACE INTO "desk:views" (table_name, view) VALUES (?1, ?2)"#;
        self.connection.execute(sql, [table, view])?;
        Ok(())
    }

    /// Opens and closes streams as their tables now are.
    pub(super) fn follow(&mut self, now: i64) -> rusqlite::Result<()> {
        let tables = self.connection.transaction()?;
        tables.execute(
            r#"UPDATE "desk:streams" SET closed = ?1 WHERE closed IS NULL AND NOT EXISTS (
                SELECT 1 FROM _tables AS it WHERE it.table_name = "desk:streams".table_name
                AND it.stream_enabled AND it.stream_label = "desk:streams".origin)"#,
            [now],
        )?;
        tables.execute(
            r#"INSERT INTO "desk:streams"
                (table_name, origin, label, view, key_schema, opened, first)
            SELECT it.table_name, it.stream_label,
                strftime('%Y-%m-%dT%H:%M:%f', ?1 / 1000.0, 'unixepoch'),
                coalesce((SELECT view FROM "desk:views" WHERE table_name = it.table_name), ?2),
                it.key_schema, ?1,
                1 + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'desk:changes'), 0)
            FROM _tables AS it WHERE it.stream_enabled AND NOT EXISTS (
                SELECT 1 FROM "desk:streams" AS known
                WHERE known.table_name = it.table_name AND known.closed IS NULL)"#,
            params![now, BOTH_IMAGES],
        )?;
        tables.commit()
    }

    /// The latest stream of a table, if it ever had one.
    pub(super) fn latest(&self, table: &str) -> rusqlite::Result<Option<Stream>> {
        // That of a table which is gone is found by its ARN only.
        let sql = format!(
            r#"SELECT {STREAM} FROM "desk:streams" WHERE table_name = ?1
            AND opened >= (SELECT created_at FROM _tables WHERE table_name = ?1) * 1000
            ORDER BY id DESC LIMIT 1"#
        );
        self.connection.prepare_cached(&sql)?.query_row([table], Stream::of).optional()
    }

    /// A stream by its table and label.
    pub(super) fn stream(&self, table: &str, label: &str) -> rusqlite::Result<Option<Stream>> {
        let sql = format!(
            r#"SELECT {STREAM} FROM "desk:streams" WHERE table_name = ?1 AND label = ?2
            ORDER BY id DESC LIMIT 1"#
        );
        self.connection.prepare_cached(&sql)?.query_row([table, label], Stream::of).optional()
    }

    /// A stream by its row.
    pub(super) fn stream_of(&self, id: i64) -> rusqlite::Result<Option<Stream>> {
        let sql = format!(r#"SELECT {STREAM} FROM "desk:streams" WHERE id = ?1"#);
        self.connection.prepare_cached(&sql)?.query_row([id], Stream::of).optional()
    }

    /// All streams, or those of a table, in the order they were enabled.
    pub(super) fn streams(&self, table: Option<&str>) -> rusqlite::Result<Vec<Stream>> {
        let sql = format!(
            r#"SELECT {STREAM} FROM "desk:streams" WHERE ?1 IS NULL OR table_name = ?1 ORDER BY id"#
        );
        let mut found = self.connection.prepare_cached(&sql)?;
        found.query_map([table], Stream::of)?.collect()
    }

    /// The position of the next change, of whatever table.
    pub(super) fn next(&self) -> rusqlite::Result<i64> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'desk:changes'";
        let last = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).optional()?;
        Ok(last.unwrap_or(0) + 1)
    }

    /// The last change of a stream that is kept.
    pub(super) fn last(&self, stream: i64) -> rusqlite::Result<Option<i64>> {
        let sql = r#"SELECT max(position) FROM "desk:changes" WHERE stream = ?1"#;
        self.connection.query_row(sql, [stream], |row| row.get(0))
    }

    /// The changes of a stream from a position on, that have not expired.
    pub(super) fn read(
        &self,
        stream: i64,
        from: i64,
        most: i64,
        now: i64,
    ) -> rusqlite::Result<Vec<Change>> {
        let mut found = self.connection.prepare_cached(
            r#"SELECT position, arrived_s, event_id, event_name, keys, new_image, old_image,
                user_identity
            FROM "desk:changes" WHERE stream = ?1 AND position >= ?2 AND arrived_s >= ?3
            ORDER BY position LIMIT ?4"#,
        )?;
        let found = found.query_map([stream, from, horizon_s(now), most], |row| {
            Ok(Change {
                position: row.get(0)?,
                arrived_s: row.get(1)?,
                event_id: row.get(2)?,
                event_name: row.get(3)?,
                keys: row.get(4)?,
                new_image: row.get(5)?,
                old_image: row.get(6)?,
                user_identity: row.get(7)?,
            })
        })?;
        found.collect()
    }

    /// Deletes what has expired, now and then: changes, and streams that ended before.
    pub(super) fn trim(&mut self, now: i64) -> rusqlite::Result<()> {
        if now.saturating_sub(self.trimmed_at) < TRIM_MS {
            return Ok(());
        }
        self.trimmed_at = now;
        let tables = self.connection.transaction()?;
        let all = tables
            .prepare_cached(r#"SELECT id FROM "desk:streams""#)?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        for stream in all {
            // Most often nothing has: that is one look at the stream's first change.
            let kept = r#"SELECT position FROM "desk:changes" WHERE stream = ?1
                AND arrived_s >= ?2 ORDER BY position LIMIT 1"#;
            let kept = tables.prepare_cached(kept)?;
            let kept: Option<i64> =
                { kept }.query_row([stream, horizon_s(now)], |row| row.get(0)).optional()?;
            let kept = kept.unwrap_or(i64::MAX);
            tables.execute(
                r#"UPDATE "desk:streams" SET trimmed = max(trimmed, coalesce((
                    SELECT max(position) FROM "desk:changes"
                    WHERE stream = ?1 AND position < ?2), 0)) WHERE id = ?1"#,
                [stream, kept],
            )?;
            let delete = r#"DELETE FROM "desk:changes" WHERE stream = ?1 AND position < ?2"#;
            tables.execute(delete, [stream, kept])?;
        }
        let ended = r#"DELETE FROM "desk:streams" WHERE closed < ?1"#;
        tables.execute(ended, [now.saturating_sub(KEPT_MS)])?;
        tables.commit()
    }
}

fn horizon_s(now: i64) -> i64 {
    now.saturating_sub(KEPT_MS) / 1000
}
