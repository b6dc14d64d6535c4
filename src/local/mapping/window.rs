//! Tumbling windows of a shard: their bounds, their state, and what a call is told of them.
//!
//! A window is as long as `TumblingWindowInSeconds` and begins at a multiple of that since 1970.
//! A record belongs to the one in which it arrived. What the function returns as `state` is given
//! to the next call of the window, and to its last one, which has no records: that comes when a
//! record of a later window is there, or the shard ends. Source: Lambda developer guide,
//! "Implementing stateful DynamoDB stream processing"; call sequences recorded from AWS.
//!
//! What AWS has not shown, and is inferred: a record that arrived in an earlier window than the
//! one that is open counts to the open one; after a window was ended early, its later records
//! begin with an empty state.

use super::{Entry, ShardIdentity, on_failure::second};
use crate::record::Timestamp;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The most bytes that a state may have as JSON; a larger one ends its window early.
///
/// Source: Lambda developer guide, "Each shard can have up to 1 MB of state", read as 1024².
pub const STATE_BYTES_MAX: usize = 1024 * 1024;

const EMPTY: &str = "{}";

/// The window of a shard that is open, and its state.
#[derive(Debug, Clone)]
pub(super) struct Window {
    start: Timestamp,
    length_ms: i64,
    state: Arc<str>,
}

/// What a call is told of its window.
#[derive(Debug, Clone)]
pub struct WindowCall {
    /// When the window begins.
    pub start: Timestamp,
    /// When the next one does.
    pub end: Timestamp,
    /// What earlier calls of the window have returned, as JSON; `{}` at first.
    pub state: Arc<str>,
    /// Whether this is the window's last call, which has no records.
    pub is_final: bool,
    /// Whether it is the last one because the state has become too large.
    pub is_terminated_early: bool,
    /// The members of the event behind its records.
    members: String,
}

/// How a window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A later one has begun, or the shard is at its end.
    InTime,
    /// Its state has become too large.
    Early,
}

impl Window {
    /// The window of a record, with an empty state.
    pub(super) fn of(entry: &Entry, seconds: u32) -> Self {
        let length_ms = i64::from(seconds) * 1_000;
        Self { start: start(entry, length_ms), length_ms, state: EMPTY.into() }
    }

    /// Whether a record belongs to a later one.
    pub(super) fn is_before(&self, entry: &Entry) -> bool {
        self.start < start(entry, self.length_ms)
    }

    /// Takes the state of a reply; tells whether it is too large to go on.
    pub(super) fn keep(&mut self, state: &RawValue) -> bool {
        self.state = state.get().into();
        self.state.len() > STATE_BYTES_MAX
    }

    /// Whether this is what a call is told of it, so that it need not be written again.
    pub(super) fn is_told_by(&self, call: &WindowCall, end: Option<End>) -> bool {
        let (is_final, is_terminated_early) = (end.is_some(), end == Some(End::Early));
        Arc::ptr_eq(&self.state, &call.state)
            && self.start == call.start
            && (is_final, is_terminated_early) == (call.is_final, call.is_terminated_early)
    }

    /// What a call is told of it; `end` is of its last one.
    pub(super) fn call(&self, identity: &ShardIdentity, end: Option<End>) -> WindowCall {
        let (is_final, is_terminated_early) = (end.is_some(), end == Some(End::Early));
        let (start, until) = (self.start, Timestamp(self.start.0 + self.length_ms));
        let text = |text: &str| serde_json::Value::from(text);
        let members = format!(
            r#","shardId":{},"eventSourceARN":{},"window":{{"start":"{}","end":"{}"}},"state":{},"isFinalInvokeForWindow":{is_final},"isWindowTerminatedEarly":{is_terminated_early}"#,
            text(&identity.shard_id),
            text(&identity.stream_arn),
            second(start),
            second(until),
            self.state,
        );
        let state = Arc::clone(&self.state);
        WindowCall { start, end: until, state, is_final, is_terminated_early, members }
    }
}

impl WindowCall {
    /// The members of the event behind its records, comma and all.
    pub(super) fn members(&self) -> &str {
        &self.members
    }
}

/// When the window begins in which a record arrived. Without a time it is in the first of all,
/// so in whichever is open.
fn start(entry: &Entry, length_ms: i64) -> Timestamp {
    let Timestamp(arrival) = entry.arrival.unwrap_or_default();
    Timestamp(arrival - arrival.rem_euclid(length_ms))
}
