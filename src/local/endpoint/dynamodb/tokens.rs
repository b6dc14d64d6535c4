//! Transactions that come again with their `ClientRequestToken`, as an SDK's retry does.
//!
//! The answer of each is kept for ten minutes in the file of the tables: SDKs make up a token
//! for every transaction, and with a file so many are not held in memory. A token is kept once its
//! transaction is done, and none for one that failed. The process that is killed between the
//! two has forgotten it, and so has one that cannot write it.
//!
//! AWS's rule: <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>.
//! What it gives up: an answer that is given again says nothing of `ConsumedCapacity`.

use crate::{
    local::endpoint::wire::{self, Reply},
    record::Timestamp,
    store::embedded::TOKEN_LENGTH_MAX,
};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// For how long a token is known, in milliseconds; AWS's rule.
const KEPT_MS: i64 = 600_000;
/// How often the old ones are deleted, in milliseconds.
const TRIM_MS: i64 = 60_000;

const TABLE: &str = r#"
    CREATE TABLE IF NOT EXISTS "desk:tokens" (
        operation TEXT NOT NULL, token TEXT NOT NULL, asked BLOB NOT NULL, answer TEXT NOT NULL,
        done INTEGER NOT NULL, UNIQUE (operation, token));
    CREATE INDEX IF NOT EXISTS "desk:tokens:done" ON "desk:tokens" (done);"#;

/// What the tokens are kept by.
#[derive(Debug)]
pub(super) struct Tokens {
    connection: Connection,
    /// When old ones were deleted, in milliseconds since the Unix epoch.
    trimmed_at: i64,
}

/// A transaction with a token.
pub(super) struct Transaction {
    operation: &'static str,
    token: String,
    /// A digest of what the token stands for: of the items or statements alone.
    asked: [u8; 32],
}

impl Transaction {
    /// Reads it from a request; nothing if that is none, or has no token.
    pub(super) fn of(operation: &str, body: &[u8]) -> Option<Self> {
        let (operation, member) = match operation {
            "TransactWriteItems" => ("TransactWriteItems", "TransactItems"),
            "ExecuteTransaction" => ("ExecuteTransaction", "TransactStatements"),
            _ => return None,
        };
        let request: Value = serde_json::from_slice(body).ok()?;
        let token = request["ClientRequestToken"].as_str()?;
        if token.len() > TOKEN_LENGTH_MAX {
            // The store refuses it.
            return None;
        }
        // The members of a value are in the order of their names here, whatever it was.
        let asked = Sha256::digest(request[member].to_string()).into();
        Some(Self { operation, token: token.to_owned(), asked })
    }
}

impl Tokens {
    /// Opens the connection to a store that is open already.
    pub(super) fn open(place: &str) -> rusqlite::Result<Self> {
        let connection = super::connected(place)?;
        connection.execute_batch(TABLE)?;
        Ok(Self { connection, trimmed_at: i64::MIN })
    }

    /// What was answered to a transaction that was done already.
    pub(super) fn known(
        &self,
        Timestamp(now): Timestamp,
        transaction: &Transaction,
    ) -> rusqlite::Result<Option<Reply>> {
        let Transaction { operation, token, asked } = transaction;
        let sql = r#"SELECT asked, answer FROM "desk:tokens"
            WHERE operation = ?1 AND token = ?2 AND done > ?3"#;
        let known: Option<(Vec<u8>, String)> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![operation, token, now.saturating_sub(KEPT_MS)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(known.map(|(was, answer)| if was == asked { (200, answer) } else { mismatch() }))
    }

    /// Keeps what is answered to a transaction that is done.
    pub(super) fn keep(
        &mut self,
        Timestamp(now): Timestamp,
        transaction: &Transaction,
        answer: &str,
    ) -> rusqlite::Result<()> {
        let Transaction { operation, token, asked } = transaction;
        let mut again: Value = serde_json::from_str(answer).unwrap_or_default();
        if let Some(members) = again.as_object_mut() {
            members.remove("ConsumedCapacity");
        }
        let sql = r#"INSERT OR REPLACE INTO "desk:tokens" (operation, token, asked, answer, done)
            VALUES (?1, ?2, ?3, ?4, ?5)"#;
        let mut kept = self.connection.prepare_cached(sql)?;
        kept.execute(params![operation, token, asked, again.to_string(), now])?;
        if now.saturating_sub(self.trimmed_at) >= TRIM_MS {
            self.trimmed_at = now;
            let old = r#"DELETE FROM "desk:tokens" WHERE done <= ?1"#;
            self.connection.execute(old, [now.saturating_sub(KEPT_MS)])?;
        }
        Ok(())
    }
}

fn mismatch() -> Reply {
    let kind = "com.amazonaws.dynamodb.v20120810#IdempotentParameterMismatchException";
    let message = "this ClientRequestToken was used for a transaction with other items or \
                   statements; a token is known for 10 minutes";
    wire::error(400, kind, message)
}
