//! Keys near a failure: what becomes of their later records is noted.
//!
//! Separate from the session because it is about records that may come back by a rescue, which
//! most never do. It is asked three times: before records run, which later ones of a watched key
//! are among them; at the end, which of those are finished; and which keys are to be watched from
//! now on, or no more. It keeps that no later record of a watched key runs before that is noted.

use super::{
    park::{
        holds::{Entry, State},
        later::Noted,
    },
    session::{Admission, Session, unreadable},
};
use crate::{call::Halt, outcome::Outcome, telemetry};
use std::collections::{BTreeMap, BTreeSet};

/// Keys that one batch watches at most, those of its first unfinished records.
const WATCHED_MAX: usize = 64;

impl Session<'_> {
    /// Notes which later records of watched keys are about to run.
    ///
    /// # Errors
    /// It is not confirmed, so they must not run.
    pub(crate) async fn note_begun_later(&self) -> Result<(), Halt> {
        let Some(park) = &self.park else { return Ok(()) };
        let newest = self.newest_later(
            &[State::Watched],
            |at| self.admissions[at].get() == Admission::Run,
            |entry, sort| *sort > *entry.from,
        );
        if newest.is_empty() {
            return Ok(());
        }
        let times = (self.deadline.now(), self.deadline.ends());
        park.note_later(&newest, Noted::Begun, times).await.map_err(unreadable)
    }

    /// Notes which later records are finished, of keys that are watched, or let them flow past
    /// parked ones.
    pub(crate) async fn note_finished_later(&self) {
        let Some(park) = &self.park else { return };
        let newest = self.newest_later(
            &[State::Skipped, State::Watched],
            |at| self.outcomes[at].get() == Outcome::Applied,
            |entry, sort| entry.state == State::Skipped || *sort > *entry.from,
        );
        if newest.is_empty() {
            return;
        }
        let times = (self.deadline.now(), self.deadline.ends());
        let noted = park.note_later(&newest, Noted::Finished, times);
        let noted = self.deadline.until(self.deadline.writes_end(), noted).await;
        if let Some(Err(error)) = noted {
            telemetry::progress_lost(self.call, &error.code, &error);
        }
    }

    /// The newest place, by key, of those records that are meant, where their key is in one of
    /// these states.
    fn newest_later(
        &self,
        states: &[State],
        is_meant: impl Fn(usize) -> bool,
        is_later: impl Fn(&Entry, &str) -> bool,
    ) -> BTreeMap<String, String> {
        let mut newest: BTreeMap<String, String> = BTreeMap::new();
        let holds = self.holds.borrow();
        if !holds.has(states) {
            return newest;
        }
        for (at, record) in self.records.iter().enumerate().filter(|(at, _)| is_meant(*at)) {
            let key = self.key(at, record);
            let entry = holds.entry(&key.hash).filter(|entry| states.contains(&entry.state));
            let Some(entry) = entry else { continue };
            let sort = self.sort(at);
            if is_later(entry, &sort) {
                let last = newest.entry(key.hash).or_default();
                *last = sort.max(std::mem::take(last));
            }
        }
        newest
    }

    /// Watches the keys of unfinished records of a stream, which the mapping may give up, and
    /// no longer those whose record is finished.
    pub(crate) async fn watch_unfinished(&self) {
        let Some(park) = self.park.as_ref().filter(|_| !self.is_queue()) else { return };
        let keys = self.to_watch();
        if keys.is_empty() {
            return;
        }
        let holds = self.holds.borrow().clone();
        let times = (self.deadline.now(), self.deadline.ends());
        let written = park.watch(&holds, &keys, times);
        let written = self.deadline.until(self.deadline.writes_end(), written).await;
        if let Some(Err(error)) = written {
            telemetry::progress_lost(self.call, &error.code, &error);
        }
    }

    /// Whether the mapping may give a record up soon: it failed at an earlier delivery already.
    /// Without progress that is not known of any.
    ///
    /// One that failed once is not watched, since most work at the next delivery, and what
    /// everybody reads would change with each.
    fn may_be_given_up(&self, at: usize) -> bool {
        self.progress().is_none() || {
            let before = self.remembered(at);
            before.attempts > 0 || before.starts > 0
        }
    }

    /// By key, from where on it is to be watched; none if no more.
    fn to_watch(&self) -> BTreeMap<String, Option<String>> {
        let mut keys: BTreeMap<String, Option<String>> = BTreeMap::new();
        let holds = self.holds.borrow();
        let watched: BTreeSet<&str> = holds.watched().collect();
        for (at, record) in self.records.iter().enumerate() {
            let is_finished = self.outcomes[at].get().is_finished();
            if is_finished && watched.is_empty() || keys.len() >= WATCHED_MAX && !is_finished {
                continue;
            }
            let hash = self.key(at, record).hash;
            if !is_finished && !self.may_be_given_up(at) {
                continue;
            }
            if !is_finished {
                // The first of a key is the earliest.
                keys.entry(hash).or_default().get_or_insert_with(|| self.sort(at));
            } else if watched.contains(hash.as_str())
                && holds.entry(&hash).is_some_and(|entry| entry.from == self.sort(at))
            {
                keys.entry(hash).or_insert(None);
            }
        }
        keys
    }
}
