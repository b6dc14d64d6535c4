//! What the lanes and the bulk calls do alike around the records they run.
//!
//! The work on a batch goes in passes: run the records, confirm the parks, run those whose key
//! was opened meanwhile, and at the end remember what is beyond the checkpoint. It is separate
//! from `durable.rs`, which knows what a record is, because this is about when it is asked; and
//! from the two works, so that a record without a key, or one that is cut off, fares the same
//! in both. It keeps that nothing is remembered before the last park is confirmed.
//!
//! What it gives up: a lifted record runs after others of its pass, never among them. Its key
//! was held until then, so no order is lost.

use crate::{
    call::Halt,
    outcome::Outcome,
    processor::{Class, errors::timed_out},
    recovery::session::{Admission, Session},
    telemetry,
};

/// One batch on its way through a work.
pub(super) trait Run<'r> {
    /// What is known of its records.
    fn session(&self) -> &Session<'r>;

    /// Runs these records as far as they go.
    ///
    /// # Errors
    /// The work halts.
    async fn pass(&self, wanted: &[usize]) -> Result<(), Halt>;
}

/// Works on a batch from what is known of it to what is kept of it.
///
/// # Errors
/// The work halts.
pub(super) async fn work_through<'r>(
    run: impl Run<'r>,
    outcomes: &mut [Outcome],
) -> Result<(), Halt> {
    let session = run.session();
    let passes = session.in_passes(async |wanted| run.pass(wanted).await);
    let ran = Box::pin(passes).await;
    session.tell(outcomes);
    ran
}

impl Session<'_> {
    /// Runs all records, pass by pass, as long as there are any to run.
    ///
    /// # Errors
    /// The work halts: in a pass, or because a record's start cannot be noted.
    async fn in_passes(
        &self,
        pass: impl AsyncFn(&[usize]) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        self.note_begun_later().await?;
        self.start_alone().await?;
        let mut wanted: Vec<usize> = (0..self.records.len()).collect();
        loop {
            if let Err(halt) = pass(&wanted).await {
                self.forget_start().await;
                return Err(halt);
            }
            wanted = self.flush().await;
            if !self.goes_on_after_failure() {
                wanted.retain(|at| !self.is_after_failed(*at));
            }
            if wanted.is_empty() || self.deadline.is_late() {
                break;
            }
        }
        self.remember().await;
        Ok(())
    }

    fn is_after_failed(&self, at: usize) -> bool {
        self.outcomes[..at].iter().any(|outcome| outcome.get() == Outcome::Failed)
    }

    /// Looks at the records whose lane is unknown. Such a record could belong to any: it halts,
    /// or is parked on its own, or fails; those that fail are given back.
    ///
    /// # Errors
    /// The record halts the work.
    pub(super) fn look_at_unkeyed(&self, wanted: &[usize]) -> Result<Vec<usize>, Halt> {
        let mut failed = Vec::new();
        for (at, failure) in &self.layout.unkeyed {
            if self.admission(*at) == Admission::Finished || wanted.binary_search(at).is_err() {
                continue;
            }
            let record = &self.records[*at];
            if failure.class() == Class::Halt || self.halts_on_unkeyed() {
                return Err(Halt::new(
                    failure.code(),
                    format!(
                        "record {}: the key that orders it cannot be read, and keys are held: \
                         correct the order, or set CHANGEFOLD_ON_UNKEYED=park",
                        record.sequence_number()
                    ),
                ));
            }
            self.note_attempt(*at, failure);
            telemetry::record_failed(record, self.call, failure.code(), failure.reason());
            if failure.class() != Class::Retry && self.can_park() {
                self.set_aside(*at, failure);
            } else {
                self.outcomes[*at].set(Outcome::Failed);
                failed.push(*at);
            }
        }
        Ok(failed)
    }

    /// A record still ran at the hard limit, and was cancelled. Of the batch's first unfinished
    /// record that is a failed attempt, because nothing else stood in its way; unless it shared
    /// its call with others.
    pub(super) fn cut_off(&self, at: usize, is_shared: bool) {
        self.outcomes[at].set(Outcome::Failed);
        let failure = timed_out();
        telemetry::record_failed(&self.records[at], self.call, failure.code(), failure.reason());
        if is_shared || !(0..at).all(|before| self.is_past(before)) {
            return;
        }
        self.note_attempt(at, &failure);
        if self.is_parked_by(at, failure.class()) {
            self.set_aside(at, &failure);
        }
    }
}
