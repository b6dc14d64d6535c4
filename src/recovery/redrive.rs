//! Operations on parked records, by the function that parked them.
//!
//! A redrive runs a key's records in order through the same processor as live ones, each under
//! the key's lease, and takes a record out when it is done. The live function goes on
//! meanwhile: as long as the key is open its new records queue behind, and the redrive meets
//! them too; when the last one is out, the hold goes with it and the next runs live.
//!
//! What protects the live way protects a redrive ([`keys`] and [`record`] say how): the
//! deadline's reserve and hard limit, the circuit, a halt, marks of started records.
//!
//! What it gives up: the effect and the note that it is made are not one transaction. A redrive
//! that dies in between makes the effect again, with the same identity.

mod cursor;
mod discard;
mod keys;
mod look;
mod record;
mod under_way;

use super::{
    durable::DurableState,
    park::{
        Park, ParkError,
        inventory::{Page, ParkedKey},
        rows::{Fate, Row},
        space::SpaceError,
    },
};
use crate::{
    call::{Call, Halt},
    clock::Clock,
    event::Record,
    operation::{NotRedriven, Operation, Redrive, Selection},
    processor::Failure,
    record::Timestamp,
    retry::Pauses,
    store::StoreError,
};
use cursor::Cursor;
use serde::Serialize;
use serde_json::Value;

/// Runs one record, as the live way does.
pub(crate) trait Runner {
    /// How many records may run at a time.
    fn concurrency(&self) -> usize;

    /// One try.
    async fn run<'r>(
        &self,
        record: &'r Record<'r>,
        call: &'r Call,
        attempt: u32,
    ) -> Result<(), Failure>;

    /// Whether the record can be read at all.
    fn read<'r>(&self, record: &'r Record<'r>) -> Result<(), Failure>;
}

/// One operation on its way.
pub(crate) struct Operator<'o, R> {
    pub(crate) runner: &'o R,
    pub(crate) durable: &'o DurableState,
    pub(crate) park: &'o Park,
    pub(crate) clock: &'o dyn Clock,
    pub(crate) pauses: &'o Pauses,
    pub(crate) call: &'o Call,
    /// Who takes leases. Lambda repeats the id of a request when it retries an asynchronous
    /// invocation, and the one before may still be at work: the id alone is not enough.
    pub(crate) owner: String,
}

/// Which keys and records are meant.
#[derive(Debug, Clone, Copy)]
struct Wanted<'w> {
    keys: &'w [String],
    exclude: &'w [String],
    source: Option<&'w str>,
    sequence_number: Option<&'w str>,
    error_code: Option<&'w str>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
}

impl<'w> Wanted<'w> {
    fn of_selection(selection: &'w Selection) -> Self {
        Self {
            keys: &selection.keys,
            exclude: &selection.exclude,
            source: selection.source.as_deref(),
            sequence_number: selection.sequence_number.as_deref(),
            error_code: selection.error_code.as_deref(),
            since_ms: selection.since_ms,
            until_ms: selection.until_ms,
        }
    }

    fn of_redrive(redrive: &'w Redrive) -> Self {
        Self {
            keys: &redrive.keys,
            exclude: &redrive.exclude,
            source: redrive.source.as_deref(),
            sequence_number: None,
            error_code: redrive.error_code.as_deref(),
            since_ms: redrive.since_ms,
            until_ms: redrive.until_ms,
        }
    }

    fn has_key(&self, parked: &ParkedKey) -> bool {
        let key = &parked.key.readable;
        (self.keys.is_empty() || self.keys.contains(key))
            && !self.exclude.contains(key)
            && self.source.is_none_or(|source| parked.is_of(source))
    }

    fn has_row(&self, row: &Row) -> bool {
        let Self { sequence_number, error_code, since_ms, until_ms, .. } = *self;
        sequence_number.is_none_or(|number| number == row.envelope.sequence_number)
            && error_code.is_none_or(|code| code == row.envelope.error_code)
            && since_ms.is_none_or(|since| row.parked_ms() >= since)
            && until_ms.is_none_or(|until| row.parked_ms() < until)
    }
}

impl<R: Runner> Operator<'_, R> {
    pub(crate) async fn operate(&self, operation: &Operation) -> Result<Value, Halt> {
        match operation {
            Operation::List(selection) => Ok(told(&self.list(selection).await?)),
            Operation::Show(selection) => Ok(told(&self.show(selection).await?)),
            Operation::Redrive(redrive) => Ok(told(&self.redrive(redrive).await?)),
            Operation::Drop(drop) => Ok(told(&self.discard(drop).await?)),
            Operation::Reconcile(_)
            | Operation::Backfill(_)
            | Operation::Verify(_)
            | Operation::Repair(_)
            | Operation::Diff(_)
            | Operation::Switch(_)
            | Operation::DropView(_)
            | Operation::Replay(_) => Err(Halt::no_views()),
        }
    }

    /// The keys that are meant, from the cursor on.
    async fn keys(&self, wanted: &Wanted<'_>, cursor: &Cursor) -> Result<Vec<ParkedKey>, Halt> {
        let times = (self.clock.now(), self.call.deadline);
        let parked = self.park.parked_keys(times).await;
        let mut parked = parked.map_err(|error| match error {
            SpaceError::Store(error) => self.unanswered(error),
            error => super::session::unsettled(error),
        })?;
        parked.retain(|parked| wanted.has_key(parked) && cursor.has(&parked.key.hash));
        Ok(parked)
    }

    /// A page of a key's records, without their payloads.
    async fn page(&self, parked: &ParkedKey, after: Option<&str>) -> Result<Page, Halt> {
        let page = self.park.page(&parked.key, after, self.call.deadline).await;
        page.map_err(|error| self.unanswered(error))
    }

    /// Takes a record out; tells how many are left of its key, none if the lease is lost.
    async fn take_out(
        &self,
        parked: &ParkedKey,
        row: &Row,
        fate: Fate,
    ) -> Result<Option<u64>, Halt> {
        let times = (self.clock.now(), self.call.deadline);
        let settled = self.park.settle(&parked.key, row, (fate, &self.owner), times).await;
        settled.map_err(|error| match error {
            ParkError::Store(error) => self.unanswered(error),
            other => {
                Halt::new(other.code(), "a parked record could not be taken out").caused_by(other)
            }
        })
    }

    /// Takes the lease of a key, or says that it cannot be had.
    async fn lease(&self, parked: &ParkedKey) -> Result<Result<(), NotRedriven>, Halt> {
        let times: (Timestamp, Timestamp) = (self.clock.now(), self.call.deadline);
        let leased = self.park.lease(&parked.key, &self.owner, times).await;
        let is_leased = leased.map_err(|error| self.unanswered(error))?;
        Ok(if is_leased {
            Ok(())
        } else {
            Err(NotRedriven {
                key: parked.key.readable.clone(),
                source: parked.key.source_arn.clone(),
                sequence_number: String::new(),
                error_code: "KeyLeased".to_owned(),
                error: "another operation works on this key; its lease runs out by itself"
                    .to_owned(),
            })
        })
    }

    fn unanswered(&self, error: StoreError) -> Halt {
        if error.code == "ResourceNotFoundException" {
            let message = format!(
                "there is no table `{}`: CHANGEFOLD_PARK_TABLE names the park, and an operation \
                 makes none",
                self.park.table
            );
            return Halt::new("ParkTableMissing", message).caused_by(error);
        }
        Halt::new("ParkUnreadable", "the park table does not answer").caused_by(error)
    }
}

fn told(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).expect("an answer is texts and numbers")
}
