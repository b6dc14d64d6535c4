//! Operations on parked records, by the function that parked them.
//!
//! A redrive runs a key's records in order through the same processor as live ones, each under
//! the key's lease, and takes a record out when it is done. The live function goes on
//! meanwhile: as long as the key is open its new records queue behind, and the redrive meets
//! them too; when the last one is out, the hold goes with it and the next runs live.
//!
//! What it gives up: the effect and the note that it is made are not one transaction. A redrive
//! that dies in between makes the effect again, with the same identity.

use super::{
    Call, Halt,
    deadline::Deadline,
    retry::{Pauses, TRIES_IN_PLACE},
};
use crate::{
    clock::Clock,
    event::{self, ParkedQueues, Record},
    operation::{
        LIMIT_DEFAULT, Listed, Listing, NotRedriven, Operation, Redrive, Redriven, Selection,
    },
    park::{
        Park, ParkError,
        envelope::{Envelope, HELD},
        inventory::ParkedKey,
        rows::{Fate, PayloadError, Row},
    },
    processor::{Class, Failure},
    record::Timestamp,
    store::StoreError,
    telemetry,
};
use serde::Serialize;
use serde_json::Value;

/// Runs one record, as the live way does.
pub(super) trait Runner {
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
pub(super) struct Operator<'o, R> {
    pub(super) runner: &'o R,
    pub(super) park: &'o Park,
    /// Queues whose messages may bring parked records, also as parked messages.
    pub(super) parked_queues: &'o ParkedQueues,
    pub(super) clock: &'o dyn Clock,
    pub(super) pauses: &'o Pauses,
    pub(super) call: &'o Call,
}

/// The envelopes of parked records.
#[derive(Debug, Default, Serialize)]
struct Shown {
    parked: Vec<Envelope>,
    cursor: Option<String>,
}

/// Where the work on one key ended.
enum KeyEnd {
    /// All of its records were looked at.
    Through,
    /// The limit or the time is used up.
    Stopped,
}

impl<R: Runner> Operator<'_, R> {
    pub(super) async fn operate(&self, operation: &Operation) -> Result<Value, Halt> {
        match operation {
            Operation::List(selection) => Ok(told(&self.list(selection).await?)),
            Operation::Show(selection) => Ok(told(&self.show(selection).await?)),
            Operation::Redrive(redrive) => Ok(told(&self.redrive(redrive).await?)),
            Operation::Drop(drop) => {
                if !drop.yes || drop.selection.keys.is_empty() {
                    return Err(Halt::new(
                        "DropNotConfirmed",
                        "records are dropped by their keys, and with `yes` only",
                    ));
                }
                Ok(told(&self.drop(&drop.selection).await?))
            }
        }
    }

    /// The keys that are meant, from the cursor on.
    async fn keys(&self, keys: &[String], cursor: Option<&String>) -> Result<Vec<ParkedKey>, Halt> {
        let mut parked = {
            let times = (self.clock.now(), self.call.deadline);
            self.park.parked_keys(times).await.map_err(super::session::unsettled)?
        };
        parked.retain(|parked| {
            let is_meant = keys.is_empty() || keys.contains(&parked.key.readable);
            is_meant && cursor.is_none_or(|cursor| parked.key.hash >= *cursor)
        });
        Ok(parked)
    }

    /// All parked records of a key.
    async fn rows(&self, parked: &ParkedKey) -> Result<Vec<Row>, Halt> {
        let (mut rows, mut from) = (Vec::new(), None);
        loop {
            let page = self.park.page(&parked.key, from, self.call.deadline).await;
            let page = page.map_err(unanswered)?;
            rows.extend(page.rows);
            from = page.next;
            if from.is_none() {
                return Ok(rows);
            }
        }
    }

    async fn list(&self, selection: &Selection) -> Result<Listing, Halt> {
        let limit = selection.limit.unwrap_or(LIMIT_DEFAULT);
        let mut listing = Listing::default();
        for parked in self.keys(&selection.keys, selection.cursor.as_ref()).await? {
            if listing.parked.len() >= limit {
                listing.cursor = Some(parked.key.hash);
                break;
            }
            let rows = self.rows(&parked).await?;
            // One line for each record that failed; those that only wait are counted.
            let mut of_key: Vec<Listed> = Vec::new();
            for row in &rows {
                match of_key.last_mut() {
                    Some(last) if row.envelope.error_code == HELD => last.held_behind += 1,
                    _ => of_key.push(listed(&parked, row)),
                }
            }
            of_key.retain(|it| {
                let row =
                    rows.iter().find(|row| row.envelope.sequence_number == it.sequence_number);
                row.is_some_and(|row| is_selected(selection, row))
            });
            listing.parked.extend(of_key);
        }
        Ok(listing)
    }

    async fn show(&self, selection: &Selection) -> Result<Shown, Halt> {
        let limit = selection.limit.unwrap_or(LIMIT_DEFAULT);
        let mut shown = Shown::default();
        for parked in self.keys(&selection.keys, selection.cursor.as_ref()).await? {
            if shown.parked.len() >= limit {
                shown.cursor = Some(parked.key.hash);
                break;
            }
            for row in self.rows(&parked).await? {
                if !is_selected(selection, &row) {
                    continue;
                }
                let payload = self.park.payload(&parked.key, &row, self.call.deadline).await;
                let record = payload.map_err(|error| damaged(&error))?;
                shown.parked.push(Envelope { record, ..row.envelope });
            }
        }
        Ok(shown)
    }

    async fn drop(&self, selection: &Selection) -> Result<Redriven, Halt> {
        let mut redriven = Redriven::default();
        for parked in self.keys(&selection.keys, None).await? {
            let mut left = parked.parked;
            if !self.has_lease(&parked, &mut redriven).await? {
                redriven.left += left;
                continue;
            }
            for row in self.rows(&parked).await? {
                if is_selected(selection, &row)
                    && self.take_out(&parked, &row, Fate::Dropped).await?
                {
                    left = left.saturating_sub(1);
                    redriven.done += 1;
                    telemetry::parked_record_dropped(self.call, &row.envelope);
                }
            }
            self.park.release(&parked.key, self.owner(), self.call.deadline).await;
            redriven.left += left;
        }
        Ok(redriven)
    }

    async fn redrive(&self, redrive: &Redrive) -> Result<Redriven, Halt> {
        let deadline = Deadline::new(self.clock, self.call);
        let limit = redrive.limit.unwrap_or(LIMIT_DEFAULT) as u64;
        let mut redriven = Redriven::default();
        let mut keys = self.keys(&redrive.keys, redrive.cursor.as_ref()).await?.into_iter();
        for parked in keys.by_ref() {
            if redriven.done >= limit || deadline.is_late() {
                redriven.left += parked.parked;
                redriven.cursor = Some(parked.key.hash);
                break;
            }
            if !redrive.dry_run && !self.has_lease(&parked, &mut redriven).await? {
                redriven.left += parked.parked;
                continue;
            }
            let before = redriven.done;
            let ended = self.redrive_key(&parked, redrive, (limit, &deadline), &mut redriven).await;
            if !redrive.dry_run {
                self.park.release(&parked.key, self.owner(), self.call.deadline).await;
            }
            let done = if redrive.dry_run { 0 } else { redriven.done - before };
            redriven.left += parked.parked.saturating_sub(done);
            if matches!(ended?, KeyEnd::Stopped) {
                redriven.cursor = Some(parked.key.hash);
                break;
            }
        }
        redriven.left += keys.map(|parked| parked.parked).sum::<u64>();
        Ok(redriven)
    }

    /// Redrives one key until nothing is parked there, a record fails, or it has to stop.
    async fn redrive_key(
        &self,
        parked: &ParkedKey,
        redrive: &Redrive,
        (limit, deadline): (u64, &Deadline<'_>),
        redriven: &mut Redriven,
    ) -> Result<KeyEnd, Halt> {
        let mut from = None;
        let mut is_first = true;
        loop {
            let page = self.park.page(&parked.key, from, self.call.deadline).await;
            let page = page.map_err(unanswered)?;
            for mut row in page.rows {
                let is_meant =
                    redrive.error_code.as_ref().is_none_or(|code| *code == row.envelope.error_code);
                if std::mem::take(&mut is_first) && !is_meant {
                    return Ok(KeyEnd::Through);
                }
                if redriven.done >= limit || deadline.is_late() {
                    return Ok(KeyEnd::Stopped);
                }
                if !redrive.superseded && !parked.runs_by_default(&row) {
                    let failure = match parked.superseded(&row) {
                        "yes" => Failure::park(Overtaken).with_code("Superseded"),
                        _ => Failure::park(PerhapsOvertaken).with_code("SupersededUnknown"),
                    };
                    redriven.failed.push(not_redriven(&row, &failure));
                    return Ok(KeyEnd::Through);
                }
                if let Err(failure) = self.redrive_row(parked, &row, redrive, deadline).await? {
                    redriven.failed.push(not_redriven(&row, &failure));
                    if !redrive.dry_run {
                        self.note_failed(parked, &mut row, &failure).await?;
                    }
                    return Ok(KeyEnd::Through);
                }
                if !redrive.dry_run && !self.take_out(parked, &row, Fate::Done).await? {
                    let failure = Failure::retry(LeaseLost).with_code("LeaseLost");
                    redriven.failed.push(not_redriven(&row, &failure));
                    return Ok(KeyEnd::Through);
                }
                redriven.done += 1;
            }
            from = page.next;
            if from.is_none() {
                return Ok(KeyEnd::Through);
            }
        }
    }

    /// Runs one parked record, or only reads it.
    async fn redrive_row(
        &self,
        parked: &ParkedKey,
        row: &Row,
        redrive: &Redrive,
        deadline: &Deadline<'_>,
    ) -> Result<Result<(), Failure>, Halt> {
        let payload = match self.park.payload(&parked.key, row, self.call.deadline).await {
            Ok(payload) => payload,
            Err(PayloadError::Store(error)) => return Err(unanswered(error)),
            Err(error @ PayloadError::Damaged { .. }) => {
                return Ok(Err(Failure::park(error).with_code("PayloadDamaged")));
            }
        };
        let event = format!(r#"{{"Records":[{payload}]}}"#);
        // Neighbours of one number were parked one by one: the place among them is kept.
        let batch = event::parse(event.as_bytes())
            .believing(self.parked_queues)
            .with_ordinal(row.envelope.ordinal);
        let record = match batch.records() {
            Ok([record]) => record,
            Ok(_) => return Ok(Err(Failure::park(NotOneRecord).with_code("PayloadDamaged"))),
            Err(error) => {
                let code = error.code();
                return Ok(Err(Failure::park(error.clone()).with_code(code)));
            }
        };
        if redrive.dry_run {
            return Ok(self.runner.read(record));
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let began = deadline.now();
            let attempt = row.envelope.attempts.saturating_add(tries);
            let result = self.runner.run(record, self.call, attempt).await;
            deadline.learn_unit(began);
            let Err(failure) = result else { return Ok(Ok(())) };
            let again = failure.class() == Class::Retry
                && tries < TRIES_IN_PLACE
                && self.pauses.before_try(tries, self.clock, deadline.reserve()).await;
            if !again {
                telemetry::record_failed(record, self.call, failure.code(), failure.reason());
                return Ok(Err(failure));
            }
        }
    }

    async fn note_failed(
        &self,
        parked: &ParkedKey,
        row: &mut Row,
        failure: &Failure,
    ) -> Result<(), Halt> {
        row.envelope.attempts = row.envelope.attempts.saturating_add(1);
        row.envelope.last_failed_ms = self.clock.now().0;
        failure.code().clone_into(&mut row.envelope.error_code);
        row.envelope.error = super::session::chain(failure.reason());
        self.park.note_failed(&parked.key, row, self.call.deadline).await.map_err(unanswered)
    }

    /// Takes a record out; false if the lease is lost.
    async fn take_out(&self, parked: &ParkedKey, row: &Row, fate: Fate) -> Result<bool, Halt> {
        let times = (self.clock.now(), self.call.deadline);
        let settled = self.park.settle(&parked.key, row, (fate, self.owner()), times).await;
        settled.map_err(|error| match error {
            ParkError::Store(error) => unanswered(error),
            other => {
                Halt::new(other.code(), "a parked record could not be taken out").caused_by(other)
            }
        })
    }

    async fn has_lease(&self, parked: &ParkedKey, redriven: &mut Redriven) -> Result<bool, Halt> {
        let times: (Timestamp, Timestamp) = (self.clock.now(), self.call.deadline);
        let leased = self.park.lease(&parked.key, self.owner(), times).await;
        let is_leased = leased.map_err(unanswered)?;
        if !is_leased {
            redriven.failed.push(NotRedriven {
                key: parked.key.readable.clone(),
                sequence_number: String::new(),
                error_code: "KeyLeased".to_owned(),
                error: "another redrive works on this key; its lease runs out by itself".to_owned(),
            });
        }
        Ok(is_leased)
    }

    fn owner(&self) -> &str {
        &self.call.request_id
    }
}

fn listed(parked: &ParkedKey, row: &Row) -> Listed {
    Listed {
        key: parked.key.readable.clone(),
        sequence_number: row.envelope.sequence_number.clone(),
        error_code: row.envelope.error_code.clone(),
        attempts: row.envelope.attempts,
        held_behind: 0,
        parked_ms: row.parked_ms(),
        superseded: parked.superseded(row).to_owned(),
    }
}

fn is_selected(selection: &Selection, row: &Row) -> bool {
    let Selection { sequence_number, error_code, since_ms, until_ms, .. } = selection;
    sequence_number.as_ref().is_none_or(|number| *number == row.envelope.sequence_number)
        && error_code.as_ref().is_none_or(|code| *code == row.envelope.error_code)
        && since_ms.is_none_or(|since| row.parked_ms() >= since)
        && until_ms.is_none_or(|until| row.parked_ms() < until)
}

fn not_redriven(row: &Row, failure: &Failure) -> NotRedriven {
    NotRedriven {
        key: row.envelope.key.clone(),
        sequence_number: row.envelope.sequence_number.clone(),
        error_code: failure.code().to_owned(),
        error: telemetry::Chain(failure.reason()).to_string(),
    }
}

fn told(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).expect("an answer is texts and numbers")
}

fn unanswered(error: StoreError) -> Halt {
    Halt::new("ParkUnreadable", "the park table does not answer").caused_by(error)
}

fn damaged(error: &PayloadError) -> Halt {
    Halt::new("PayloadDamaged", error.to_string())
}

#[derive(Debug, thiserror::Error)]
#[error("a later record of the key was processed; redrive it with `superseded` all the same")]
struct Overtaken;

#[derive(Debug, thiserror::Error)]
#[error(
    "the mapping gave the record up, and it is not known whether a later one of its key was \
     processed: drop it, or redrive it with `superseded` all the same"
)]
struct PerhapsOvertaken;

#[derive(Debug, thiserror::Error)]
#[error("another redrive has taken the key over; the effect may be made twice")]
struct LeaseLost;

#[derive(Debug, thiserror::Error)]
#[error("the parked payload is not one record")]
struct NotOneRecord;
