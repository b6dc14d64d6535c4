//! One parked record, from its row to what came of it.
//!
//! The record is marked as started in its row before it runs, and the mark goes with the
//! outcome: a mark that stays is of a record that ended the process. The same write gives the
//! whole row back, so it costs no round trip more than reading it. What a failure means is as
//! on the live way, with two differences: a transient failure keeps the error the record was
//! parked with, because it says something about what is down, not about the record; and an
//! unclassified one is tried once, because the record has used up its attempts already.

use super::{
    Runner,
    under_way::{Place, Redriving, not_redriven},
};
use crate::{
    call::Halt,
    event::{self, Record},
    processor::{
        Class, Failure,
        errors::{halted, timed_out},
    },
    record::Timestamp,
    recovery::{
        park::rows::{Fate, PayloadError, Row},
        session::chain,
    },
    retry::TRIES_IN_PLACE,
    telemetry,
};
use futures_util::future::{Either, select};
use std::pin::pin;

/// How a record ended.
pub(super) enum Ran {
    /// It is finished, and so many are left of its key, where that is known.
    Done(Option<u64>),
    /// It is not parked any more: somebody else took it out.
    Gone,
    /// It failed, and its key stops.
    Failed,
    /// The call stops, and the record was not to blame.
    Stopped,
}

/// How the processor left it.
enum Tried {
    Finished,
    Failed(Failure),
    /// It still ran at the hard limit and was cancelled.
    CutOff,
}

impl<'r, R: Runner> Redriving<'r, R> {
    /// Runs one parked record, or only decodes it in a dry run.
    pub(super) async fn record(&self, place: Place<'r>, row: &Row) -> Result<Ran, Halt> {
        let Some(row) = self.start(place, row).await? else { return Ok(Ran::Gone) };
        let (operator, key) = (self.operator, &place.parked.key);
        let payload = match operator.park.payload(key, &row, operator.call.deadline).await {
            Ok(payload) => payload,
            Err(PayloadError::Store(error)) => return Err(operator.unanswered(error)),
            Err(error @ PayloadError::Damaged { .. }) => {
                return self
                    .fail(place, row, Failure::park(error).with_code("PayloadDamaged"))
                    .await;
            }
        };
        let event = format!(r#"{{"Records":[{payload}]}}"#);
        // Neighbours of one number were parked one by one: the place among them is kept.
        let batch = event::parse(event.as_bytes())
            .believing(&operator.durable.parked_queues)
            .with_ordinal(row.envelope.ordinal);
        let record = match batch.records() {
            Ok([record]) => record,
            Ok(_) => {
                let failure = Failure::park(NotOneRecord).with_code("PayloadDamaged");
                return self.fail(place, row, failure).await;
            }
            Err(error) => {
                let failure = Failure::park(error.clone()).with_code(error.code());
                return self.fail(place, row, failure).await;
            }
        };
        if self.redrive.dry_run {
            return match operator.runner.read(record) {
                Ok(()) => {
                    self.done(place.parked, None);
                    Ok(Ran::Done(None))
                }
                Err(failure) => self.fail(place, row, failure).await,
            };
        }
        let began = self.deadline.now();
        match self.tried(place, record, &row).await {
            Tried::Finished => self.finish(place, &row).await,
            Tried::Failed(failure) if failure.class() == Class::Halt => {
                self.halt(halted((record, 1), failure));
                self.note(place, &row).await?;
                Ok(Ran::Stopped)
            }
            Tried::Failed(failure) => {
                let (code, reason) = (failure.code(), failure.reason());
                telemetry::record_failed(record, operator.call, code, reason);
                self.fail(place, row, failure).await
            }
            // With less than half of the time it may have been too short for any record.
            Tried::CutOff if !self.deadline.is_early(began) => {
                self.note(place, &row).await?;
                self.give_one_back();
                Ok(Ran::Stopped)
            }
            Tried::CutOff => self.fail(place, row, timed_out()).await,
        }
    }

    /// Marks a record as started and reads it; none if it is not parked any more.
    async fn start(&self, place: Place<'r>, row: &Row) -> Result<Option<Row>, Halt> {
        self.take_one();
        let (operator, key) = (self.operator, &place.parked.key);
        let (began, ends) = (self.deadline.now(), operator.call.deadline);
        let started = if self.redrive.dry_run {
            operator.park.whole(key, &row.sort, ends).await
        } else {
            let mark = (self.version(), place.is_alone);
            operator.park.start(key, row, mark, ends).await
        };
        self.deadline.learn_call(began);
        let started = started.map_err(|error| operator.unanswered(error))?;
        if started.is_none() {
            self.give_one_back();
        }
        Ok(started)
    }

    /// The processor's tries, up to the hard limit.
    async fn tried(&self, place: Place<'_>, record: &Record<'_>, row: &Row) -> Tried {
        let tries = pin!(self.tries(place, record, row));
        let limit = pin!(self.operator.clock.watch(self.deadline.hard_limit()));
        match select(tries, limit).await {
            Either::Left((Ok(()), _)) => Tried::Finished,
            Either::Left((Err(failure), _)) => Tried::Failed(failure),
            Either::Right(_) => Tried::CutOff,
        }
    }

    async fn tries(&self, place: Place<'_>, record: &Record<'_>, row: &Row) -> Result<(), Failure> {
        let operator = self.operator;
        let mut tries = 0;
        loop {
            tries += 1;
            let began = self.deadline.now();
            let attempt = row.envelope.attempts.saturating_add(tries);
            let result = operator.runner.run(record, operator.call, attempt).await;
            self.deadline.learn_record(began);
            let transient = match &result {
                Err(failure) if failure.class() == Class::Retry => Some(failure.code()),
                _ => None,
            };
            self.circuit.borrow_mut().note(transient, place.at);
            let Err(failure) = result else { return Ok(()) };
            let again = transient.is_some()
                && tries < TRIES_IN_PLACE
                && !self.circuit.borrow().is_open()
                && operator.pauses.before_try(tries, operator.clock, self.deadline.reserve()).await
                && !self.circuit.borrow().is_open();
            if !again {
                return Err(failure);
            }
        }
    }

    /// Takes a record out that has had its effect.
    async fn finish(&self, place: Place<'r>, row: &Row) -> Result<Ran, Halt> {
        let began = self.deadline.now();
        let left = self.operator.take_out(place.parked, row, Fate::Done).await?;
        self.deadline.learn_call(began);
        if left.is_none() {
            let failure = Failure::retry(LeaseLost).with_code("LeaseLost");
            self.failed(not_redriven(place.parked, row, &failure));
            return Ok(Ran::Failed);
        }
        self.done(place.parked, left);
        Ok(Ran::Done(left))
    }

    /// A record stays, and its key stops at it.
    async fn fail(&self, place: Place<'r>, mut row: Row, failure: Failure) -> Result<Ran, Halt> {
        self.failed(not_redriven(place.parked, &row, &failure));
        if !self.redrive.dry_run {
            let Timestamp(now) = self.operator.clock.now();
            row.envelope.attempts = row.envelope.attempts.saturating_add(1);
            row.envelope.last_failed_ms = now;
            if failure.class() != Class::Retry {
                failure.code().clone_into(&mut row.envelope.error_code);
                row.envelope.error = chain(failure.reason());
            }
            self.note(place, &row).await?;
        }
        Ok(Ran::Failed)
    }

    /// Notes the row of a record that stays, without its mark.
    async fn note(&self, place: Place<'r>, row: &Row) -> Result<(), Halt> {
        let operator = self.operator;
        let began = self.deadline.now();
        let noted = operator.park.note_outcome(&place.parked.key, row, operator.call.deadline);
        let noted = noted.await;
        self.deadline.learn_call(began);
        noted.map_err(|error| operator.unanswered(error))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("another redrive has taken the key over; the effect may be made twice")]
struct LeaseLost;

#[derive(Debug, thiserror::Error)]
#[error("the parked payload is not one record")]
struct NotOneRecord;
