//! What an operator asks of a running function: look at parked records, redrive, drop.
//!
//! The function does it itself, so that an operator needs no build of it: the command line
//! sends these events through Lambda's Invoke API, or to the function in its own process. An
//! operation goes by the member `changefold`, which no event of a stream has. Members that are
//! not known are refused: a filter that is misspelt would otherwise select everything.
//!
//! ```json
//! {"changefold": {"version": 1, "redrive": {"keys": ["order_id=o-1007"], "limit": 100}}}
//! ```

use serde::{Deserialize, Serialize};

/// Version of the operations.
pub const VERSION: u32 = 1;

/// How many records an answer lists, or a call works on, unless the operation says otherwise.
pub const LIMIT_DEFAULT: usize = 1_000;

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
}

/// Which parked records are meant; what is left out selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Keys as the list prints them.
    pub keys: Vec<String>,
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
}

/// What to redrive, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redrive {
    /// Keys as the list prints them; none selects all.
    pub keys: Vec<String>,
    /// Only keys whose first parked record failed with this code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// At most so many records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Goes on where an earlier answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Reads the records and changes nothing.
    pub dry_run: bool,
    /// Also records that a later one of their key has overtaken.
    pub superseded: bool,
}

/// What to give up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drop {
    /// Which records; at least a key.
    pub selection: Selection,
    /// Nothing is dropped without it.
    pub yes: bool,
}

/// A parked record in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What keeps it in order.
    pub key: String,
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

/// What a redrive or a drop came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Records finished in this call; in a dry run, those that could be read.
    pub done: u64,
    /// Records of the selected keys that are still parked.
    pub left: u64,
    /// Records that stopped their key.
    pub failed: Vec<NotRedriven>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<String>,
}

/// Why a key's redrive stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRedriven {
    /// The key.
    pub key: String,
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
