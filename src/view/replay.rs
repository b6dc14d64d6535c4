//! An archive of a stream, taken into the views.
//!
//! A record of an archive is what the stream has delivered, and goes the same way (`work`): the
//! ledger skips it where it knows it, or a newer change of its item. One thing is different: an
//! archive keeps records for longer than the ledger remembers them.
//!
//! A record that is appended has a row of its own in the ledger, and so has an item that was
//! removed, until no copy can come any more: a day longer than the stream keeps records. Of one
//! that is older than the stream's retention the ledger cannot say whether it was applied and
//! forgotten, or never came. To apply it again would count it twice, or bring a removed item back.
//! So it is refused. A table can be backfilled instead. A record of Kinesis is taken if it arrived
//! before everything that the mapping has delivered here; whoever asks says from when that is. The
//! rows of records that an archive of a Kinesis stream brings are kept for good: a second run
//! skips them whenever it comes. The items of a changelog are never forgotten.
//!
//! What it gives up: nothing tells whether an archive is whole.

use super::{
    reading::{Part, Reading},
    registry,
    served::Served,
    work::Origin,
};
use crate::{
    call::{Call, Halt, Measures},
    event,
    operation::replay::{RECORDS_MAX, Replay, Replayed},
    outcome::Outcome,
    record::{Source, Timestamp},
};
use serde_json::json;

impl Served {
    /// Takes records of an archive in.
    ///
    /// # Errors
    /// The ledger is another function's, a record is none or no view's, the ledger may have
    /// forgotten it, or the store refuses.
    pub(super) async fn replay(&self, request: &Replay, call: &Call) -> Result<Replayed, Halt> {
        registry::still_owned(&self.store, &self.ledger_table, &self.owner, call.deadline).await?;
        if request.records.len() > RECORDS_MAX {
            let message = format!("{RECORDS_MAX} records of an archive are taken at a time");
            return Err(Halt::new("ReplayInvalid", message));
        }
        if request.records.is_empty() {
            return Ok(Replayed::default());
        }
        let event = json!({ "Records": request.records }).to_string();
        let batch = event::parse(event.as_bytes());
        let records = batch.records().map_err(|error| {
            Halt::new("ArchiveUnreadable", "what was given are no records of a stream")
                .caused_by(error.clone())
        })?;
        let now = self.store.clock().now();
        let readings: Vec<Reading<'_>> = records.iter().map(Reading::of).collect();
        for part in self.parts(&readings)?.into_iter().filter_map(Result::ok).flatten() {
            self.check_archived(part, request.delivered_from_ms, now)?;
        }
        let mut outcomes = vec![Outcome::default(); records.len()];
        let mut measures = Measures::default();
        self.work(records, &mut outcomes, &mut measures, (call, Origin::Archive)).await?;
        let of = |wanted: Outcome| outcomes.iter().filter(|it| **it == wanted).count() as u64;
        // A given record may be an aggregate: it is unfinished if anything in it is.
        let given = records.iter().scan(0, |seen, record| {
            *seen += usize::from(record.is_first_of_element());
            Some(*seen - 1)
        });
        let unfinished = given.zip(&outcomes).filter(|(_, outcome)| !outcome.is_finished());
        let mut unfinished: Vec<usize> = unfinished.map(|(index, _)| index).collect();
        unfinished.dedup();
        Ok(Replayed {
            applied: of(Outcome::Applied),
            skipped: of(Outcome::AlreadyApplied),
            unfinished,
        })
    }

    /// Refuses what cannot be told from what was applied already.
    fn check_archived(
        &self,
        (group, record): Part<'_>,
        delivered_from_ms: Option<i64>,
        Timestamp(now): Timestamp,
    ) -> Result<(), Halt> {
        let number = record.sequence_number();
        let is_kinesis = record.source() == Source::Kinesis;
        if is_kinesis && record.shard_id().is_none() {
            let message = format!("record {number} has no eventID, which names its shard");
            return Err(Halt::new("ArchiveUnfit", message));
        }
        let group = &self.groups[group];
        let is_forgotten = group.key.is_none();
        let kept_ms = i64::from(self.retention_hours(group)) * 3_600_000;
        let arrival = record.approximate_arrival();
        let is_old = arrival.is_none_or(|arrival| arrival.0 < now.saturating_sub(kept_ms));
        let is_of_before =
            is_kinesis && arrival.zip(delivered_from_ms).is_some_and(|(it, from)| it.0 < from);
        if is_forgotten && is_old && !is_of_before {
            let remedy = if is_kinesis {
                "if it arrived before everything that the mapping of this function has \
                 delivered, say from when that is (--delivered-from)"
            } else {
                "backfill the table instead (`view backfill`)"
            };
            let hours = self.retention_hours(group);
            return Err(Halt::new(
                "ArchiveTooOld",
                format!(
                    "record {number} is older than {hours} hours (retention_hours of its \
                     views): the ledger may have applied and forgotten it; {remedy}"
                ),
            ));
        }
        Ok(())
    }
}
