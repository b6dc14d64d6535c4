//! A run at work: what the calls of one command share, whatever the run reads.

use crate::{
    local::cli::{Complaint, asked::Asked, progress},
    operation::{
        Operation,
        backfill::{Backfill, Begun, Counts, Portion, Stopped, Worked},
    },
    view::Views,
};
use indicatif::ProgressBar;
use serde::de::DeserializeOwned;
use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

/// How long a call waits for a segment that others work on.
pub(super) const LEASED_MS: u64 = 2_000;
/// So many calls of one kind in a row may come to nothing because a store does not answer.
const UNANSWERED_MAX: u32 = 20;

pub(super) async fn ask<T: DeserializeOwned>(
    asked: &Asked<Views>,
    step: Backfill,
) -> Result<T, Complaint> {
    asked.ask(Operation::Backfill(step)).await
}

/// A run, as the calls that work on it share it.
pub(super) struct Running<'r> {
    pub(super) asked: &'r Asked<Views>,
    pub(super) table: &'r str,
    pub(super) begun: &'r Begun,
    bar: ProgressBar,
    counts: RefCell<Counts>,
    /// Why there is nothing more to do.
    ended: Cell<Option<Stopped>>,
}

impl<'r> Running<'r> {
    pub(super) fn new(
        asked: &'r Asked<Views>,
        table: &'r str,
        begun: &'r Begun,
        items: u64,
    ) -> Self {
        let (counts, ended) = (RefCell::default(), Cell::new(None));
        Self { asked, table, begun, bar: progress(items, "items"), counts, ended }
    }

    /// How many calls work at a time, if so many may.
    pub(super) fn calls(&self, calls: u32) -> u32 {
        match self.asked {
            Asked::Deployed(_) => calls.clamp(1, self.begun.segments.max(1)),
            // One process has one call at a time, as an execution environment has.
            Asked::Here(_) => 1,
        }
    }

    /// Why there is nothing more to do.
    pub(super) fn ended(&self) -> Option<Stopped> {
        self.ended.get()
    }

    /// The first of the complaints of those who worked, if there is one.
    pub(super) fn ends(&self, hands: Vec<Result<(), Complaint>>) -> Result<(), Complaint> {
        self.bar.finish_and_clear();
        let ended: Result<Vec<()>, Complaint> = hands.into_iter().collect();
        ended.map(drop).map_err(|complaint| {
            complaint.with_hint("what is done stays done: run the command again, and it goes on")
        })
    }

    /// Takes note of what a call has done; how long to wait before the next, in milliseconds.
    pub(super) fn after(&self, worked: &Worked, unanswered: &mut u32) -> Result<u64, Complaint> {
        self.counts.borrow_mut().add(worked.counts);
        self.bar.set_position(self.counts.borrow().scanned);
        let is_unanswered =
            matches!(worked.stopped, Some(Stopped::Unanswered | Stopped::Throttled));
        *unanswered = if is_unanswered { *unanswered + 1 } else { 0 };
        if *unanswered == UNANSWERED_MAX {
            return Err(Complaint::new("the tables do not answer, or are throttled"));
        }
        Ok(match worked.stopped {
            Some(stopped @ (Stopped::AllDone | Stopped::Units | Stopped::Stopped)) => {
                self.ended.set(Some(stopped));
                0
            }
            Some(Stopped::Leased) => LEASED_MS,
            _ => worked.wait_ms,
        })
    }

    /// Asks for one portion after another until nothing is left.
    pub(super) async fn work(&self) -> Result<(), Complaint> {
        let mut unanswered = 0;
        while self.ended.get().is_none() {
            let (table, run) = (self.table.to_owned(), self.begun.run.clone());
            let portion = Portion { table, run, ..Portion::default() };
            let worked: Worked = ask(self.asked, Backfill::Work(portion)).await?;
            let pause = self.after(&worked, &mut unanswered)?;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }
}
