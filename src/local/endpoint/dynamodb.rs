//! The desk's DynamoDB: the embedded store, with streams as AWS has them.
//!
//! dynoxide writes a row for each change and reads them back by a walk over all of them, for
//! each new one as well, keeps them for ever, and finds those of a deleted table again under
//! the next of its name. So a trigger in its file takes each row into tables of our own
//! ([`changes`]), and the API of DynamoDB Streams is answered from there ([`streams`]). The
//! store itself is as it was, and what has no producers, as a replay, opens it without.
//!
//! Its streams always have both images, so that a change that changes nothing is seen and
//! left out, as DynamoDB does; the view type that was asked for says what of them is shown.
//! ARNs are those of the Region that asks; on the desk a table is the same in every Region.
//!
//! What it gives up: a stream has one shard as long as it is enabled.

mod changes;
mod streams;
mod tokens;

use super::wire::{self, Call, Reply, Service};
use crate::{
    local::template::ACCOUNT,
    record::Timestamp,
    store::embedded::{Embedded, EmbeddedError},
};
use changes::Changes;
use rusqlite::Connection;
use serde_json::Value;
use std::{
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokens::{Tokens, Transaction};

/// How ARNs of the embedded store begin.
const STORE_ARN: &str = "arn:aws:dynamodb:dynoxide:000000000000:";

/// The tables and their streams.
#[derive(Debug)]
pub(super) struct Tables {
    store: Embedded,
    /// Whoever has it is alone with the store: its connections never meet.
    alone: Mutex<Alone>,
}

/// What is ours in the store's file.
#[derive(Debug)]
struct Alone {
    changes: Changes,
    tokens: Tokens,
}

impl Tables {
    /// Opens the tables in memory, or on a file that is made if it is not there.
    pub(super) fn open(
        file: Option<&Path>,
        Timestamp(now): Timestamp,
    ) -> Result<Self, EmbeddedError> {
        static SO_FAR: AtomicU64 = AtomicU64::new(0);
        let place = file.map_or_else(
            || {
                // A name for one store in memory that its connections share.
                let number = SO_FAR.fetch_add(1, Ordering::Relaxed);
                format!("file:changefold-desk-{number}?mode=memory&cache=shared")
            },
            |file| file.to_string_lossy().into_owned(),
        );
        let store = Embedded::open(Some(Path::new(&place)))?.without_sync()?;
        let opened = |error| EmbeddedError::new(place.as_str(), &error);
        let changes = Changes::open(&place, now).map_err(opened)?;
        let tokens = Tokens::open(&place).map_err(opened)?;
        Ok(Self { store, alone: Mutex::new(Alone { changes, tokens }) })
    }

    /// Answers one call of DynamoDB or of its streams.
    pub(super) fn answer(&self, at: Timestamp, call: &Call<'_>) -> Reply {
        let Timestamp(now) = at;
        let mut alone = self.lock();
        let Alone { changes, tokens } = &mut *alone;
        let answered = match (call.service, call.operation) {
            (Service::DynamoDbStreams, _) => return streams::answer(changes, now, call),
            (_, "CreateTable" | "DeleteTable" | "DescribeTable" | "UpdateTable") => {
                self.manage(changes, now, call)
            }
            (_, "TransactWriteItems" | "ExecuteTransaction") => self.transact(tokens, at, call),
            (_, "TagResource" | "UntagResource" | "ListTagsOfResource") => {
                let body = with_store_arn(call.body);
                Ok(self.store.answer(call.operation, &body))
            }
            _ => Ok(self.store.answer(call.operation, call.body)),
        };
        answered.unwrap_or_else(|error| {
            let message = format!("the desk's DynamoDB cannot use its tables: {error}");
            wire::error(500, "InternalServerError", &message)
        })
    }

    /// Deletes the items whose time to live is over; says how many.
    pub(super) fn delete_expired(&self) -> Result<usize, EmbeddedError> {
        let _alone = self.lock();
        self.store.delete_expired()
    }

    fn lock(&self) -> MutexGuard<'_, Alone> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction, done once for its token.
    fn transact(
        &self,
        tokens: &mut Tokens,
        at: Timestamp,
        call: &Call<'_>,
    ) -> rusqlite::Result<Reply> {
        let transaction = Transaction::of(call.operation, call.body);
        let known = transaction.as_ref().map(|it| tokens.known(at, it)).transpose()?.flatten();
        if let Some(known) = known {
            return Ok(known);
        }
        let (status, answer) = self.store.answer(call.operation, call.body);
        if let (Some(transaction), 200) = (transaction, status) {
            // It is done: an error here would have it sent, and done, once more.
            drop(tokens.keep(at, &transaction, &answer));
        }
        Ok((status, answer))
    }

    /// A call that makes, changes, deletes or describes a table, and maybe its stream.
    fn manage(&self, changes: &mut Changes, now: i64, call: &Call<'_>) -> rusqlite::Result<Reply> {
        let mut request: Value = serde_json::from_slice(call.body).unwrap_or_default();
        let table = request["TableName"].as_str().unwrap_or_default().to_owned();
        let specification = &mut request["StreamSpecification"];
        let enables = specification["StreamEnabled"].as_bool();
        if let (Some(enables), "UpdateTable") = (enables, call.operation)
            && let Some(refused) = changes.refuses(&table, enables)?
        {
            return Ok(wire::error(400, "com.amazon.coral.validate#ValidationException", &refused));
        }
        let view = specification["StreamViewType"].as_str().and_then(changes::known_view);
        let (status, answer) = match view.filter(|_| enables == Some(true)) {
            Some(view) => {
                specification["StreamViewType"] = changes::BOTH_IMAGES.into();
                changes.want(&table, view)?;
                self.store.answer(call.operation, request.to_string().as_bytes())
            }
            None => self.store.answer(call.operation, call.body),
        };
        if status != 200 {
            return Ok((status, answer));
        }
        if call.operation != "DescribeTable" {
            changes.follow(now)?;
        }
        Ok((status, described(changes, &table, call.region, &answer)?))
    }
}

/// A connection of our own to the store's file.
fn connected(place: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(place)?;
    connection.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA synchronous = NORMAL;")?;
    Ok(connection)
}

/// A table's description, with the ARNs of a Region and the stream as it was asked for.
fn described(
    changes: &Changes,
    table: &str,
    region: &str,
    answer: &str,
) -> rusqlite::Result<String> {
    let answer = answer.replace(STORE_ARN, &arn(region, ""));
    let Ok(mut answer) = serde_json::from_str::<Value>(&answer) else { return Ok(answer) };
    for member in ["Table", "TableDescription"] {
        let Some(description) = answer.get_mut(member) else { continue };
        if let Some(stream) = changes.latest(table)? {
            description["LatestStreamArn"] = stream.arn(region).into();
            description["LatestStreamLabel"] = stream.label.clone().into();
            if let Some(specification) = description.get_mut("StreamSpecification") {
                specification["StreamViewType"] = stream.view.clone().into();
            }
        }
    }
    Ok(answer.to_string())
}

/// The ARN of something of DynamoDB in a Region.
fn arn(region: &str, resource: &str) -> String {
    format!("arn:aws:dynamodb:{region}:{ACCOUNT}:{resource}")
}

/// A request with the store's own form of the `ResourceArn` in it.
fn with_store_arn(body: &[u8]) -> Vec<u8> {
    let Ok(mut request) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    let resource = request["ResourceArn"].as_str().and_then(|arn| arn.splitn(6, ':').nth(5));
    if let Some(resource) = resource {
        request["ResourceArn"] = format!("{STORE_ARN}{resource}").into();
    }
    request.to_string().into_bytes()
}
