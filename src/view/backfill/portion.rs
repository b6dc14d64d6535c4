//! One call's portion of a segment: pages are read, and what the ledger does not know comes in.
//!
//! The cursor moves only behind items that are in, so a call that is killed anywhere repeats a
//! part of its last page, which the ledger knows by then. Nothing is begun that the deadline does
//! not leave time for: what a call has read must not go in much later, when the row of an item
//! that was removed meanwhile may be gone.

use super::{
    bucket::{Cost, Leave},
    pace::Pace,
    run::Run,
    segment::{Segment, cursor_at},
};
use crate::{
    call::{Call, Halt},
    operation::backfill::{Counts, NotDone, Stopped, Worked},
    record::Timestamp,
    store::{
        ACTIONS_MAX, Store, StoreError, Trouble, Usage,
        tables::{PageOf, SegmentPage},
    },
    telemetry,
    view::{
        building::RunState,
        ledger::{Basis, Candidate, Fate, ledger_unread},
        reconcile::{is_of_one_item, refused},
        rows::{Added, Stored, item_bytes},
        scalar::encode_value,
        served::Served,
        source_table::{Found, SourceTable},
        total::Addend,
    },
};
use std::{collections::VecDeque, time::Duration};

/// Time kept before the deadline, in milliseconds, if the call has that much: a quarter of its
/// time at most.
const RESERVE_MS: i64 = 3_000;
/// Items of one page at most.
const PAGE_MAX: u32 = 1_000;
/// What the writes around a step cost: the bucket's row, and the segment's.
const AROUND_WRITE: f64 = 2.0;
/// And the reads: the bucket's row, and the run's.
const AROUND_READ: f64 = 2.0;
/// What a call costs beside its steps: what it looks up, its lease, and the end of both.
const CALL_READ: f64 = 10.0;
const CALL_WRITE: f64 = 4.0;
/// Units that an item costs to be read, before it is known: 1 KB, eventually consistent.
const READ_UNITS_DEFAULT: f64 = 0.125;
/// Of the items that cannot be brought in so many are told in an answer.
const TOLD_MAX: usize = 100;

/// What an item asks of each group of views.
type Made = Vec<Result<Candidate, NotDone>>;

/// A call at work on a segment.
#[derive(Debug)]
pub(super) struct Work<'w> {
    pub(super) views: &'w Served,
    pub(super) call: &'w Call,
    pub(super) source: &'w SourceTable<'w>,
    /// The source for each group of views that the run builds.
    pub(super) groups: Vec<SourceTable<'w>>,
    pub(super) run: Run,
    pub(super) segment: Segment,
    /// Other segments that nobody worked on when the call began.
    pub(super) free: VecDeque<Segment>,
    pub(super) pace: Pace<'w>,
    pub(super) told: Worked,
    /// What was used when the call began, and what the bucket was told of.
    pub(super) began: Usage,
    pub(super) accounted: Usage,
    pub(super) reserve_ms: i64,
    pub(super) read_units_per_item: f64,
    pub(super) quarantine_told: usize,
}

/// The time kept before a deadline.
pub(super) fn reserve_ms(Timestamp(now): Timestamp, Timestamp(deadline): Timestamp) -> i64 {
    (deadline.saturating_sub(now) / 4).clamp(0, RESERVE_MS)
}

/// What an item costs to be read, as far as the table's own counts tell.
pub(super) fn read_units_per_item(items: u64, bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let units = |items: u64, bytes: u64| bytes as f64 / items as f64 / 8_192.0;
    if items == 0 || bytes == 0 { READ_UNITS_DEFAULT } else { units(items, bytes) }
}

impl Work<'_> {
    /// Takes the lease of a segment that is free, or says why there is none to be had.
    ///
    /// # Errors
    /// A store refuses.
    pub(super) async fn lease(&mut self, owner: &str) -> Result<Option<Stopped>, Halt> {
        if let Some(stopped) = self.leave(Cost::of_units(CALL_READ, CALL_WRITE)).await? {
            return Ok(Some(stopped));
        }
        loop {
            let place = self.views.ledger_place();
            match self.segment.lease(place, owner, self.call.deadline).await {
                Ok(true) => {
                    self.told.segment = Some(self.segment.number);
                    return Ok(None);
                }
                Ok(false) => {}
                Err(error) if error.trouble == Trouble::Rejected => {
                    return Err(ledger_unread(error));
                }
                Err(error) => return self.gave_up(&error).await.map(Some),
            }
            let Some(next) = self.free.pop_front() else { return Ok(Some(Stopped::Leased)) };
            self.segment = next;
        }
    }

    /// Takes the lease of a segment, and works until its end or until there is a reason to stop.
    ///
    /// # Errors
    /// A store refuses.
    pub(super) async fn pages(&mut self, owner: &str) -> Result<Stopped, Halt> {
        if let Some(stopped) = self.lease(owner).await? {
            return Ok(stopped);
        }
        loop {
            if let Some(stopped) = self.must_stop().await? {
                return Ok(stopped);
            }
            let limit = self.page_limit();
            let read = self.read_units_per_item * f64::from(limit) + 0.5 + AROUND_READ;
            if let Some(stopped) = self.leave(Cost::of_units(read, AROUND_WRITE)).await? {
                return Ok(stopped);
            }
            let page = PageOf {
                table: &self.source.table,
                segment: self.segment.number,
                segments: self.run.segments,
                after: self.segment.cursor.clone(),
                limit,
                // What is read late the stream brings again.
                is_consistent: false,
            };
            let page = self.source.store.scan_segment(&page, self.call.deadline).await;
            self.account();
            let page = match page {
                Ok(page) => page,
                Err(error) if error.trouble == Trouble::Rejected => {
                    return Err(self.source.unreadable(error));
                }
                Err(error) => return self.gave_up(&error).await,
            };
            if !page.items.is_empty() {
                #[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
                let items = page.items.len() as f64;
                self.read_units_per_item = (page.read_units / items).max(0.01);
            }
            if let Some(stopped) = self.take_in(page, None).await? {
                return Ok(stopped);
            }
            if self.segment.is_done {
                return Ok(Stopped::SegmentDone);
            }
        }
    }

    /// How many items the next page may have: what the bucket holds, read and looked up.
    fn page_limit(&self) -> u32 {
        #[expect(clippy::cast_precision_loss, reason = "thousandths of a second's units")]
        let burst = self.run.limits.burst().read as f64 / 1_000.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and cut to the longest page"
        )]
        let items = (burst / (self.read_units_per_item + 1.0)).min(f64::from(PAGE_MAX)) as u32;
        items.max(1)
    }

    /// Brings the items of a page in, as many at a time as the rates allow. The cursor behind
    /// an item is its key, or for a page of given items its position: that of the first.
    pub(super) async fn take_in(
        &mut self,
        page: SegmentPage,
        first: Option<u64>,
    ) -> Result<Option<Stopped>, Halt> {
        let mut found = Vec::with_capacity(page.items.len());
        for item in page.items {
            let key = self.source.key_of(&item)?;
            found.push(Found { key, item: Some(item), basis: Basis::Scan });
        }
        let keys: Vec<_> = found.iter().map(|found| found.key.clone()).collect();
        let mut made: Vec<Made> = Vec::new();
        made.resize_with(found.len(), Vec::new);
        for source in &self.groups {
            let of_group = self.views.candidates(source, &found, self.now())?;
            for (made, candidate) in made.iter_mut().zip(of_group) {
                made.push(candidate);
            }
        }
        drop(found);
        let mut at = 0;
        loop {
            let (count, cost) = self.next_few(&made);
            if let Some(stopped) = self.leave(cost).await? {
                return Ok(Some(stopped));
            }
            if self.is_late() {
                return Ok(Some(Stopped::Deadline));
            }
            let few: Vec<_> = made.drain(..count).collect();
            if let Some(stopped) = self.bring_in(few).await? {
                return Ok(Some(stopped));
            }
            at += count;
            let is_end = made.is_empty();
            if is_end {
                self.segment.is_done = page.next.is_none();
                self.segment.cursor.clone_from(&page.next);
            } else {
                self.segment.cursor = Some(match first {
                    None => keys[at - 1].clone(),
                    Some(first) => cursor_at(first + at as u64),
                });
            }
            let saved = self.segment.save(self.views.ledger_place(), self.call.deadline).await;
            self.account();
            match saved {
                Ok(true) => {}
                Ok(false) => return Ok(Some(Stopped::LeaseLost)),
                Err(error) => return self.gave_up(&error).await.map(Some),
            }
            if is_end {
                return Ok(None);
            }
        }
    }

    /// How many of the items fit into what the bucket holds, at least one if there is any, and
    /// what they cost at most.
    fn next_few(&self, made: &[Made]) -> (usize, Cost) {
        let burst = self.run.limits.burst();
        let mut cost = Cost::of_units(AROUND_READ, AROUND_WRITE);
        for (at, candidates) in made.iter().enumerate() {
            let candidates = candidates.iter();
            let more = candidates.fold(cost, |cost, candidate| {
                cost.plus(Cost::of_units(1.0, candidate.as_ref().map_or(0.0, write_units)))
            });
            if at > 0 && (more.read > burst.read || more.write > burst.write) {
                return (at, cost);
            }
            cost = more;
        }
        (made.len(), cost)
    }

    /// Puts items into the ledger where it knows nothing of them.
    async fn bring_in(&mut self, few: Vec<Made>) -> Result<Option<Stopped>, Halt> {
        let scanned = few.len() as u64;
        let (mut candidates, mut not_done) = (Vec::new(), Vec::new());
        for candidate in few.into_iter().flatten() {
            match candidate {
                Ok(candidate) => candidates.push(candidate),
                Err(it) => not_done.push(it),
            }
        }
        let applied = self.apply(candidates, &mut not_done).await;
        self.account();
        let (candidates, fates) = match applied {
            Ok(applied) => applied,
            Err(error) if error.trouble == Trouble::Rejected => return Err(ledger_unread(error)),
            Err(error) => return self.gave_up(&error).await.map(Some),
        };
        let told = &mut self.quarantine_told;
        let quarantined = self.views.tell_quarantined(told, (&candidates, &fates), self.call);
        let of = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count() as u64;
        let counts = Counts {
            scanned,
            added: of(Fate::Applied),
            known: of(Fate::AlreadyApplied),
            quarantined,
            not_done: not_done.len() as u64,
        };
        self.told.counts.add(counts);
        self.segment.counts.add(counts);
        self.segment.note(&not_done);
        let room = TOLD_MAX.saturating_sub(self.told.not_done.len());
        self.told.not_done.extend(not_done.into_iter().take(room));
        Ok(None)
    }

    /// Applies candidates; one that the store refuses is set aside, and the others are not.
    async fn apply(
        &self,
        candidates: Vec<Candidate>,
        not_done: &mut Vec<NotDone>,
    ) -> Result<(Vec<Candidate>, Vec<Fate>), StoreError> {
        let ledger = self.views.ledger();
        let (mut applied, mut all_fates) = (Vec::new(), Vec::new());
        let mut parts = vec![candidates];
        while let Some(mut part) = parts.pop() {
            match ledger.apply(&part, self.call.deadline).await {
                Ok(fates) => {
                    for fate in &fates {
                        if let Fate::Unfinished(error) = fate {
                            return Err(error.clone());
                        }
                    }
                    self.views.tell_joined(&ledger, self.call);
                    applied.extend(part);
                    all_fates.extend(fates);
                }
                Err(error) if !is_of_one_item(&error) => return Err(error),
                Err(error) if part.len() == 1 => not_done.push(refused(&part[0].key, &error)),
                Err(_) => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
            }
        }
        Ok((applied, all_fates))
    }

    /// Waits until a step may be done, or says why not to.
    pub(super) async fn leave(&mut self, cost: Cost) -> Result<Option<Stopped>, Halt> {
        loop {
            match self.pace.take(cost, self.call.deadline).await {
                Ok(Leave::Granted) => return Ok(None),
                Ok(Leave::UsedUp) => return Ok(Some(Stopped::Units)),
                Ok(Leave::Wait(ms)) => {
                    let Timestamp(now) = self.now();
                    let ends = now.saturating_add_unsigned(ms).saturating_add(self.reserve_ms);
                    if ends >= self.call.deadline.0 {
                        self.told.wait_ms = ms;
                        return Ok(Some(Stopped::Rate));
                    }
                    self.clock_store().clock().sleep(Duration::from_millis(ms)).await;
                }
                Err(error) if error.trouble == Trouble::Rejected => {
                    return Err(ledger_unread(error));
                }
                Err(error) => return self.gave_up(&error).await.map(Some),
            }
        }
    }

    /// Whether the call's time is over, or its run.
    pub(super) async fn must_stop(&mut self) -> Result<Option<Stopped>, Halt> {
        if self.is_late() {
            return Ok(Some(Stopped::Deadline));
        }
        let (store, table) = self.views.ledger_place();
        let deadline = self.call.deadline;
        match Run::find(store, table, &self.source.arn, deadline).await {
            Ok(Some(run)) if run.id == self.run.id => {
                self.told.state = Some(run.state);
                Ok(stopped_by(run.state))
            }
            Ok(_) => Ok(Some(Stopped::Stopped)),
            Err(error) if error.trouble == Trouble::Rejected => Err(ledger_unread(error)),
            Err(error) => self.gave_up(&error).await.map(Some),
        }
    }

    /// A store does not do what it is asked; if it is throttled the whole run gives way.
    async fn gave_up(&mut self, error: &StoreError) -> Result<Stopped, Halt> {
        telemetry::store_unfinished(error);
        if error.trouble != Trouble::Throttled {
            return Ok(Stopped::Unanswered);
        }
        drop(self.pace.throttled(self.call.deadline).await);
        self.told.wait_ms = 1_000;
        Ok(Stopped::Throttled)
    }

    /// Tells the bucket what the last steps have cost.
    fn account(&mut self) {
        let usage = self.views.usage();
        let Usage { read_units, write_units, .. } = usage.since(self.accounted);
        self.pace.spent(Cost::of_units(read_units, write_units));
        self.accounted = usage;
    }

    fn is_late(&self) -> bool {
        self.now().0.saturating_add(self.reserve_ms) >= self.call.deadline.0
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock_store().clock().now()
    }

    fn clock_store(&self) -> &Store {
        self.views.ledger_place().0
    }
}

/// Why a run in this state goes no further.
pub(super) fn stopped_by(state: RunState) -> Option<Stopped> {
    match state {
        RunState::Scanning => None,
        RunState::Paused => Some(Stopped::Units),
        RunState::Stopped => Some(Stopped::Stopped),
        RunState::CatchingUp | RunState::Ready => Some(Stopped::AllDone),
    }
}

/// What an item costs to be written at most: two units for a ledger row and for each row that
/// it touches, for each KB.
fn write_units(candidate: &Candidate) -> f64 {
    let added = || candidate.contributions.values().flat_map(Stored::added);
    let rows = added().map(|Added { key, addends }| 1.0 + kilobytes_of_values(key, addends));
    let projected = candidate.projected.values().map(|row| kilobytes(item_bytes(row)));
    let touched = added().map(|it| 1 + it.addends.len()).sum::<usize>();
    // What is written in parts has its ledger row in each.
    let parts = touched.div_ceil(ACTIONS_MAX).max(1);
    let contributed: usize = added().map(|it| 20 + it.key.len() + 20 * it.addends.len()).sum();
    let guard = kilobytes(300 + candidate.pk.len() + candidate.key.len() + contributed);
    let guards = std::iter::repeat_n(guard, parts);
    2.0 * guards.chain(rows).chain(projected).sum::<f64>()
}

#[expect(clippy::cast_precision_loss, reason = "an item has at most 400 KB")]
fn kilobytes(bytes: usize) -> f64 {
    bytes.div_ceil(1_024).max(1) as f64
}

/// A row for each value that is kept, with the key of the group and the value in its keys.
fn kilobytes_of_values(key: &str, addends: &[Addend]) -> f64 {
    let values = addends.iter().filter_map(|addend| addend.value.as_ref());
    values.map(|value| kilobytes(300 + key.len() + encode_value(value).len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::scalar::Scalar;

    #[test]
    fn values_are_reckoned_with_their_keys() {
        let addend =
            |text: &str| Addend { value: Some(Scalar::Text(text.to_owned())), ..Addend::default() };
        let addends = [Addend::default(), addend("a"), addend(&"x".repeat(1_000))];
        assert!((kilobytes_of_values("S1:a", &addends) - 3.0).abs() < 0.1);
        let long = "k".repeat(2_000);
        assert!((kilobytes_of_values(&long, &addends) - 7.0).abs() < 0.1);
    }
}
