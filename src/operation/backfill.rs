//! What an operator asks of views over a table that has data already.
//!
//! Separate from the operations on parked records because nothing of those is shared but the
//! way they come: one event, one bounded portion of work, one answer that says what is left.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which items to bring from their source into the views, whatever the ledger says of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRequest {
    /// The source: a table by its name or ARN.
    pub table: String,
    /// The keys of the items, as DynamoDB's own JSON: `{"order_id":{"S":"o-1007"}}`.
    pub keys: Vec<Value>,
}

/// What became of items that were to be reconciled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// The views have them as the source has them.
    pub done: u64,
    /// They cannot be brought in.
    pub not_done: Vec<NotDone>,
    /// There was no time for them.
    pub unfinished: u64,
}

/// An item that cannot be brought into the views.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotDone {
    /// The item's key, for people.
    pub key: String,
    /// Code of the reason.
    pub code: String,
    /// The reason.
    pub reason: String,
}
