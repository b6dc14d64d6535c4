//! What an operator asks of a running function: look at parked records, redrive, drop.
//!
//! The function does it itself, so that an operator needs no build of it: the command line
//! sends these events through Lambda's Invoke API, or to the function in its own process. An
//! operation goes by the member `changefold`, which no event of a stream has. Members that are
//! not known are refused: a filter that is misspelt would otherwise select everything.
//!
//! Whoever may invoke the function may ask, so its resource policy and IAM decide who that is;
//! [`Operations`] says what the function carries out at all.
//!
//! ```json
//! {"changefold": {"version": 1, "redrive": {"keys": ["order_id=o-1007"], "limit": 100}}}
//! ```

pub mod backfill;
pub mod generations;
pub mod replay;
pub mod verified;
pub mod verify;

use crate::recovery::park::envelope::Envelope;
use backfill::{Backfill, ReconcileRequest};
use generations::{Diff, DropView, Switch};
use replay::Replay;
use serde::{Deserialize, Serialize};
use verify::{Repair, Verify};

/// Version of the operations.
pub const VERSION: u32 = 1;

/// How many records an answer lists, or a call works on, unless the operation says otherwise.
pub const LIMIT_DEFAULT: usize = 1_000;

/// How many bytes the records of one answer take at most, unless the operation says otherwise.
/// Lambda refuses a reply beyond 6 MB (6,291,456 bytes); what is around the records fits beside.
/// Source: "Lambda quotas", invocation payload of a synchronous response.
pub const ANSWER_BYTES_MAX: usize = 5_500_000;

/// Which operations a function carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operations {
    /// None.
    Off,
    /// Those that change nothing and give no payload: [`Operation::List`],
    /// [`Operation::Verify`], [`Operation::Diff`], [`Operation::Show`] without payloads, and the
    /// steps of a backfill that only tell.
    Read,
    /// All of them.
    #[default]
    All,
}

impl Operations {
    /// Whether this operation is carried out.
    #[must_use]
    pub fn allow(self, operation: &Operation) -> bool {
        match (self, operation) {
            (Self::All, _)
            | (Self::Read, Operation::List(_) | Operation::Verify(_) | Operation::Diff(_)) => true,
            (Self::Read, Operation::Show(selection)) => selection.without_payload,
            (Self::Read, Operation::Backfill(step)) => step.only_reads(),
            (
                Self::Read,
                Operation::Redrive(_)
                | Operation::Drop(_)
                | Operation::Reconcile(_)
                | Operation::Repair(_)
                | Operation::Switch(_)
                | Operation::DropView(_)
                | Operation::Replay(_),
            )
            | (Self::Off, _) => false,
        }
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Lists parked records.
    List(Selection),
    /// Gives the whole envelopes of parked records, with their payload.
    Show(Selection),
    /// Processes parked records, each key's in order, and lifts the holds.
    Redrive(Redrive),
    /// Gives parked records up; receipts of them stay.
    Drop(Drop),
    /// Brings items from their source into the views, whatever the ledger says of them.
    #[cfg_attr(not(feature = "backfill"), serde(deserialize_with = "unread"))]
    Reconcile(ReconcileRequest),
    /// Brings every item of a table into its views, step by step.
    #[cfg_attr(not(feature = "backfill"), serde(deserialize_with = "unread"))]
    Backfill(Backfill),
    /// Compares views with their ledger, or the ledger with its source.
    #[cfg_attr(not(feature = "backfill"), serde(deserialize_with = "unread"))]
    Verify(Verify),
    /// Mends what a verification would find.
    #[cfg_attr(not(feature = "backfill"), serde(deserialize_with = "unread"))]
    Repair(Repair),
    /// Says what a deploy of other definitions would do.
    #[cfg_attr(not(feature = "backfill"), serde(deserialize_with = "unread"))]
    Diff(Diff),
    /// Makes another generation of a view the one that readers are given.
    #[cfg_attr(not(feature = "backfill"), serde(deserialize_with = "unread"))]
    Switch(Switch),
    /// Takes a view or a generation of it away.
    #[cfg_attr(not(feature = "backfill"), serde(deserialize_with = "unread"))]
    DropView(DropView),
    /// Takes records of an archive into the views.
    #[cfg_attr(not(feature = "backfill"), serde(deserialize_with = "unread"))]
    Replay(Replay),
}

/// What a program cannot carry out it does not read either: it is refused by its name.
#[cfg(not(feature = "backfill"))]
fn unread<'de, D: serde::Deserializer<'de>, T: Default>(operation: D) -> Result<T, D::Error> {
    serde::de::IgnoredAny::deserialize(operation).map(|_| T::default())
}

impl Operation {
    /// Its name in the event, and in the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Show(_) => "show",
            Self::Redrive(_) => "redrive",
            Self::Drop(_) => "drop",
            Self::Reconcile(_) => "reconcile",
            Self::Backfill(_) => "backfill",
            Self::Verify(_) => "verify",
            Self::Repair(_) => "repair",
            Self::Diff(_) => "diff",
            Self::Switch(_) => "switch",
            Self::DropView(_) => "drop_view",
            Self::Replay(_) => "replay",
        }
    }
}

/// Which parked records are meant; what is left out selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Keys as the list prints them.
    pub keys: Vec<String>,
    /// Keys that are not meant, as the list prints them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The table or stream the records came from, by name or ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// One record of these keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<String>,
    /// Code of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Parked at this moment or later, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Parked before this moment, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// At most so many records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Goes on where an earlier answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Leaves the records' payloads out; only a show has them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_payload: bool,
    /// At most so many bytes of records in a show's answer, [`ANSWER_BYTES_MAX`] unless said.
    /// More is for a function that answers past Lambda.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<usize>,
}

/// What to redrive, and how.
///
/// The records of a key run in order, so `error_code`, `since_ms` and `until_ms` choose keys by
/// their first parked record, not records among those of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redrive {
    /// Keys as the list prints them; none selects all.
    pub keys: Vec<String>,
    /// Keys that are not meant, as the list prints them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The table or stream the records came from, by name or ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only keys whose first parked record failed with this code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Only keys whose first parked record was parked at this moment or later, in milliseconds
    /// since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Only keys whose first parked record was parked before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// At most so many records, those that fail included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Goes on where an earlier answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Reads and decodes the records, does not run them, and changes nothing.
    pub dry_run: bool,
    /// Also records that a later one of their key has overtaken.
    pub superseded: bool,
    /// Also records that ended the process at as many redrives as attempts are allowed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub crashed: bool,
}

/// What to give up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drop {
    /// Which records; at least a key, and its source where several have that key.
    pub selection: Selection,
    /// Nothing is dropped without it.
    pub yes: bool,
}

/// A parked record in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What keeps it in order.
    pub key: String,
    /// ARN of the table, stream or queue it came from.
    #[serde(default)]
    pub source: String,
    /// Position in its shard.
    pub sequence_number: String,
    /// Code of its failure.
    pub error_code: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How many records of its key queue behind it.
    pub held_behind: u64,
    /// When it was parked, in milliseconds since the epoch.
    pub parked_ms: i64,
    /// Whether a later record of its key was processed: `yes`, `no`, `unknown`.
    pub superseded: String,
}

/// Parked records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The records, by key and position.
    pub parked: Vec<Listed>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<String>,
}

/// A parked record as a show gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownRecord {
    /// What was kept of it. Its `record` is empty if `record_omitted` says why, and compressed
    /// where it would not fit into an answer otherwise.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Why the payload is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_omitted: Option<Omitted>,
}

/// Why a payload is not in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omitted {
    /// Stable code: `NotAskedFor`, `TooLargeForReply`, `PayloadDamaged`.
    pub code: String,
    /// What it means, and how to get the payload.
    pub message: String,
}

/// The envelopes of parked records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The records, by key and position.
    pub parked: Vec<ShownRecord>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<String>,
}

/// What a redrive or a drop came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Records finished in this call; in a dry run, those that could be decoded.
    pub done: u64,
    /// Records of the selected keys that are still parked, those included whose key failed, is
    /// at work elsewhere, or was not reached. A call that goes on from a cursor counts from
    /// there.
    pub left: u64,
    /// Of these, the records of keys that the new cursor has passed: a caller that goes on adds
    /// them up.
    #[serde(default)]
    pub left_behind: u64,
    /// Records that stopped their key.
    pub failed: Vec<NotRedriven>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<String>,
    /// Why the call ended before its end, where there is a cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// What a dry run tried, and what it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
}

/// Why a redrive or a drop ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stopped {
    /// It worked on as many records as it may, or its answer is full.
    Limit,
    /// The invocation has no time left.
    Deadline,
    /// Consecutive transient failures of one code over several keys: what all need is down.
    CircuitOpen,
}

/// What a dry run does with each record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRun {
    /// What was tried.
    pub tried: Vec<String>,
    /// What a redrive does beyond that.
    pub not_tried: Vec<String>,
}

impl Default for DryRun {
    fn default() -> Self {
        let words = |words: [&str; 2]| words.map(str::to_owned).into();
        Self { tried: words(["payload", "decode"]), not_tried: words(["lease", "processor"]) }
    }
}

/// Why a key's redrive stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRedriven {
    /// The key.
    pub key: String,
    /// ARN of the table, stream or queue it came from.
    #[serde(default)]
    pub source: String,
    /// The record it stopped at.
    pub sequence_number: String,
    /// Code of the failure.
    pub error_code: String,
    /// The failure and what it came from.
    pub error: String,
}

/// An event that means to be an operation and is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// It is not as documented.
    #[error("the operation cannot be read, expected {{\"changefold\":{{\"version\":1,…}}}}")]
    Malformed(#[source] serde_json::Error),
    /// Another version than [`VERSION`].
    #[error("the operation has version {found}, this function knows {VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Event {
    changefold: Request,
}

#[derive(Serialize, Deserialize)]
struct Request {
    version: u32,
    #[serde(flatten)]
    operation: Operation,
}

/// Reads an operation; none if the event is something else.
///
/// # Errors
/// It says it is an operation, and cannot be read.
#[must_use]
pub fn read(payload: &[u8]) -> Option<Result<Operation, OperationError>> {
    let text = payload.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    if !text.starts_with(b"\"changefold\"") {
        return None;
    }
    // The version first: what follows may be of another one.
    let version = |value: &serde_json::Value| value["changefold"]["version"].as_u64();
    let read =
        serde_json::from_slice::<serde_json::Value>(payload).and_then(|value| {
            match version(&value).and_then(|version| u32::try_from(version).ok()) {
                Some(found) if found != VERSION => Ok(Err(OperationError::Version { found })),
                _ => serde_json::from_value::<Event>(value).map(Ok),
            }
        });
    Some(match read {
        Ok(Ok(event)) => Ok(event.changefold.operation),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(OperationError::Malformed(error)),
    })
}

/// The event that asks for an operation.
///
/// # Panics
/// Never: an operation is texts and numbers.
#[must_use]
pub fn event(operation: Operation) -> Vec<u8> {
    let request = Request { version: VERSION, operation };
    serde_json::to_vec(&Event { changefold: request }).expect("an operation is texts and numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_its_event() {
        let redrive = Redrive { keys: vec!["a".into()], limit: Some(3), ..Redrive::default() };
        for operation in [
            Operation::List(Selection::default()),
            Operation::Redrive(redrive),
            Operation::Drop(Drop { yes: true, ..Drop::default() }),
        ] {
            let event = event(operation.clone());
            assert_eq!(read(&event).unwrap().unwrap(), operation);
        }
    }

    #[test]
    fn each_switch_allows_what_it_says() {
        let bare = Selection { without_payload: true, ..Selection::default() };
        let operations = [
            Operation::List(Selection::default()),
            Operation::Show(bare),
            Operation::Show(Selection::default()),
            Operation::Redrive(Redrive { dry_run: true, ..Redrive::default() }),
            Operation::Drop(Drop::default()),
        ];
        for (switch, allowed) in
            [(Operations::Off, 0), (Operations::Read, 2), (Operations::default(), 5)]
        {
            let is_allowed = operations.each_ref().map(|operation| switch.allow(operation));
            assert_eq!(is_allowed, std::array::from_fn(|at| at < allowed), "{switch:?}");
        }
    }

    #[test]
    fn the_documented_event_is_read() {
        let event = r#" { "changefold": {"version":1,"redrive":{"keys":["k"],"dry_run":true}}}"#;
        let Operation::Redrive(redrive) = read(event.as_bytes()).unwrap().unwrap() else {
            panic!("another operation");
        };
        assert_eq!((redrive.keys, redrive.dry_run), (vec!["k".to_owned()], true));
    }

    #[track_caller]
    fn refused(event: &str, expected: &str) {
        let error = read(event.as_bytes()).unwrap().unwrap_err();
        let text = crate::telemetry::Chain(&error).to_string();
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(read(br#"{"Records":[]}"#).is_none());
        assert!(read(b"").is_none());
        refused(r#"{"changefold":{"version":2,"new":{}}}"#, "version 2");
        refused(r#"{"changefold":{"version":1,"redrive":{"key":"a"}}}"#, "unknown field `key`");
        refused(r#"{"changefold":{"version":1}}"#, "cannot be read");
        refused(r#"{"changefold":"#, "cannot be read");
    }
}
