//! What a session remembers: records finished beyond the reply's, attempts, and starts.

use super::{Admission, Session, unreadable};
use crate::{
    call::Halt,
    processor::Failure,
    recovery::{
        attempts::Tried,
        durable::OutOfTime,
        progress::{Note, Place},
    },
    store::StoreError,
    telemetry,
};
use std::collections::BTreeSet;

impl Session<'_> {
    /// Marks a record that comes alone as started; those that have been started too often
    /// without any outcome are set aside instead. Tells whether the record may run.
    ///
    /// # Errors
    /// The mark is not confirmed, so the record must not run.
    pub(crate) async fn start_alone(&self) -> Result<(), Halt> {
        let Some(progress) = self.progress().filter(|it| it.marks_starts) else {
            return Ok(());
        };
        let Some(first) = self.records.first() else { return Ok(()) };
        let is_alone = self.records.iter().all(|it| it.shares_unit(first));
        let free = |at: &usize| self.admission(*at) == Admission::Run;
        let free: Vec<usize> = (0..self.records.len()).filter(free).collect();
        let (true, Some(&at)) = (is_alone, free.first()) else { return Ok(()) };
        self.alone.set(Some(at));
        let starts = self.remembered(at).starts;
        if starts >= self.durable.max_attempts() && self.can_park() {
            for at in free {
                let failure = Failure::park(Crashed { starts }).with_code("Crashed");
                let mut tried = self.tried(at);
                tried.count_starts(starts);
                self.tried.borrow_mut().insert(at, tried);
                self.set_aside(at, &failure);
            }
            return Ok(());
        }
        let times = (self.deadline.now(), self.deadline.ends());
        let marked = progress.mark_start((&self.places[at], &self.memory), starts + 1, times).await;
        self.deadline.learn_call(times.0);
        marked.map_err(unreadable)
    }

    /// Remembers what is beyond the checkpoint, if the batch ends early.
    pub(crate) async fn remember(&self) {
        self.note_finished_later().await;
        self.watch_unfinished().await;
        let Some(progress) = self.progress() else { return };
        let is_finished = |at: usize| self.outcomes[at].get().is_finished();
        let lowest = (0..self.records.len()).find(|at| !is_finished(*at));
        let first = match (lowest, self.alone.get()) {
            // Its neighbours come again with it, those before it as well.
            (Some(lowest), _) => {
                let unit = |at: &usize| self.records[*at].shares_unit(&self.records[lowest]);
                (0..lowest).find(unit).unwrap_or(lowest)
            }
            // A record that was started before and is finished now: its starts must not count
            // against it if it comes again.
            (None, Some(alone)) if self.remembered(alone).starts > 0 => alone,
            (None, _) => return,
        };
        let tried = self.tried.borrow().clone();
        let unfinished: BTreeSet<&Place> = (first..self.records.len())
            .filter(|at| !is_finished(*at))
            .map(|at| &self.places[at])
            .collect();
        let notes: Vec<(Place, Note)> = (first..self.records.len())
            .filter_map(|at| {
                let note = if is_finished(at) {
                    // Of records that nothing tells apart, all are finished or none.
                    if self.may_have_twins_elsewhere(at) || unfinished.contains(&self.places[at]) {
                        return None;
                    }
                    Note::Finished
                } else {
                    let Tried { attempts, unclassified, first_failed_ms, .. } = *tried.get(&at)?;
                    Note::Tried { attempts, unclassified, first_failed_ms }
                };
                Some((self.places[at].clone(), note))
            })
            .collect();
        let times = (self.deadline.now(), self.deadline.ends());
        let remembered = progress.remember(&notes, &self.memory, times);
        let remembered = self.deadline.until(self.deadline.writes_end(), remembered).await;
        match remembered {
            Some(remembered) => self.note_remembered(remembered),
            None => telemetry::progress_lost(self.call, "ProgressOutOfTime", &OutOfTime),
        }
    }

    /// Takes back the mark of a record that came alone: the process lives, whatever happened.
    pub(crate) async fn forget_start(&self) {
        let (Some(progress), Some(alone)) = (self.progress(), self.alone.get()) else { return };
        let place = &self.places[alone];
        let Tried { attempts, unclassified, first_failed_ms, .. } = self.tried(alone);
        let times = (self.deadline.now(), self.deadline.ends());
        let note = Note::Tried { attempts, unclassified, first_failed_ms };
        let note = [(place.clone(), note)];
        self.note_remembered(progress.remember(&note, &self.memory, times).await);
    }

    fn note_remembered(&self, remembered: Result<u64, StoreError>) {
        match remembered {
            Ok(0) => {}
            Ok(full) => telemetry::progress_full(self.call, full),
            Err(error) => telemetry::progress_lost(self.call, &error.code, &error),
        }
    }
}

/// The function's process ended whenever the record ran.
#[derive(Debug, thiserror::Error)]
#[error("the process ended at each of {starts} starts of this record, which came alone")]
struct Crashed {
    starts: u32,
}
