//! The keys of a redrive, side by side.
//!
//! As many keys as the function's concurrency are worked on at a time, each until nothing of it
//! is parked any more. So a key into which live records keep flowing is emptied record after
//! record, and its hold closes, while others run beside it. It keeps these invariants: a key's
//! records run one after another; nothing starts after the first reason to stop (the limit, the
//! deadline's reserve, an open circuit, a halt); a key that ended, well or not, is not met again
//! by who goes on from the cursor.
//!
//! A record that was started before and told no outcome may have ended the process. Such
//! suspects run after all other keys, and alone, so that they take nobody with them and nobody
//! else can be blamed for them.
//!
//! What it gives up: suspects wait for the end even where it was not they.

use super::{
    Operator, Runner, Wanted,
    cursor::Cursor,
    record::Ran,
    under_way::{Place, Redriving, not_redriven, unreadable_row},
};
use crate::{
    call::Halt,
    deadline::Deadline,
    operation::{ANSWER_BYTES_MAX, DryRun, LIMIT_DEFAULT, Redrive, Redriven},
    processor::Failure,
    recovery::park::{inventory::ParkedKey, rows::Row},
};
use futures_util::stream::{self, StreamExt};
use std::cell::{Cell, RefCell};

/// Where the work on one key ended.
enum KeyEnd {
    /// It was not begun.
    NotBegun,
    /// Its first record is not one that is meant.
    NotMeant,
    /// Its next record may have ended the process, at so many starts, and has to run alone.
    Suspect(u32),
    /// The call stops before its end, after this record.
    Stopped(Option<String>),
    /// Nothing is to be done for it any more in this redrive.
    Through,
}

impl<R: Runner> Operator<'_, R> {
    /// Redrives keys up to the limit and the deadline.
    pub(super) async fn redrive(&self, redrive: &Redrive) -> Result<Redriven, Halt> {
        let wanted = Wanted::of_redrive(redrive);
        let cursor = Cursor::read(redrive.cursor.as_deref())?;
        let mut keys = self.keys(&wanted, &cursor).await?;
        // Those that an earlier call began first: a record that was cut off gets all the time.
        keys.sort_by_key(|parked| !cursor.has_begun(&parked.key.hash));
        let told =
            Redriven { dry_run: redrive.dry_run.then(DryRun::default), ..Redriven::default() };
        let left = keys.iter().map(|parked| (parked.key.hash.as_str(), parked.parked));
        let redriving = Redriving {
            operator: self,
            redrive,
            deadline: Deadline::new(self.clock, self.call),
            circuit: RefCell::default(),
            wanted,
            records: Cell::new(redrive.limit.unwrap_or(LIMIT_DEFAULT)),
            bytes: Cell::new(ANSWER_BYTES_MAX),
            stopped: Cell::new(None),
            halt: RefCell::new(None),
            left: RefCell::new(left.collect()),
            told: RefCell::new(told),
        };
        let ends = redriving.run(&keys, &cursor).await;
        redriving.summed_up(&keys, &ends, &cursor)
    }
}

impl<'r, R: Runner> Redriving<'r, R> {
    /// Works on all keys, the suspects last; tells where each ended.
    async fn run(&self, keys: &'r [ParkedKey], cursor: &Cursor) -> Vec<KeyEnd> {
        let width = self.operator.runner.concurrency().min(keys.len()).min(self.records.get());
        let width = width.max(1);
        let place = |(at, parked)| Place { parked, at, is_alone: false };
        let mut ends: Vec<KeyEnd> = Vec::new();
        ends.resize_with(keys.len(), || KeyEnd::NotBegun);
        let mut side_by_side = stream::iter(keys.iter().enumerate().map(place))
            .map(async |place| (place.at, self.key(place, cursor).await))
            .buffer_unordered(width);
        while let Some((at, end)) = side_by_side.next().await {
            ends[at] = end;
        }
        drop(side_by_side);
        // The one that did it has more starts than those that only ran beside it.
        let suspect = |(at, end): (usize, &KeyEnd)| match end {
            KeyEnd::Suspect(starts) => Some((*starts, at)),
            _ => None,
        };
        let mut suspects: Vec<(u32, usize)> = ends.iter().enumerate().filter_map(suspect).collect();
        suspects.sort_unstable();
        for (_, at) in suspects {
            let end = self.key(Place { parked: &keys[at], at, is_alone: true }, cursor).await;
            // One that is not reached stays what it is.
            if !matches!(end, KeyEnd::NotBegun) {
                ends[at] = end;
            }
        }
        ends
    }

    /// What it all came to, and where to go on.
    fn summed_up(
        self,
        keys: &[ParkedKey],
        ends: &[KeyEnd],
        before: &Cursor,
    ) -> Result<Redriven, Halt> {
        if let Some(halt) = self.halt.into_inner() {
            return Err(halt);
        }
        let mut told = self.told.into_inner();
        let is_new = |hash: &str| !before.has_begun(hash);
        let not_begun = keys.iter().zip(ends).filter(|(_, end)| matches!(end, KeyEnd::NotBegun));
        let next = not_begun.map(|(parked, _)| parked.key.hash.as_str()).find(|it| is_new(it));
        let mut cursor = Cursor::from_key(next.map(str::to_owned));
        for (ParkedKey { key, .. }, end) in keys.iter().zip(ends) {
            match end {
                KeyEnd::Stopped(after) => cursor.go_on_in(&key.hash, after.as_deref()),
                KeyEnd::NotBegun if !is_new(&key.hash) => {
                    cursor.go_on_in(&key.hash, before.after(&key.hash));
                }
                KeyEnd::Suspect(_) => cursor.go_on_in(&key.hash, None),
                KeyEnd::NotBegun | KeyEnd::NotMeant | KeyEnd::Through => {}
            }
        }
        told.cursor = cursor.text();
        told.stopped = self.stopped.get().filter(|_| told.cursor.is_some());
        let left = self.left.into_inner();
        let is_meant = |end: &KeyEnd| !matches!(end, KeyEnd::NotMeant);
        for (ParkedKey { key, .. }, _) in keys.iter().zip(ends).filter(|(_, end)| is_meant(end)) {
            let left = left.get(key.hash.as_str()).copied().unwrap_or(0);
            told.left += left;
            if told.cursor.is_some() && !cursor.has(&key.hash) {
                told.left_behind += left;
            }
        }
        Ok(told)
    }

    /// Works on one key under its lease.
    async fn key(&self, place: Place<'r>, cursor: &Cursor) -> KeyEnd {
        let (operator, key) = (self.operator, &place.parked.key);
        if !self.may_start() {
            return KeyEnd::NotBegun;
        }
        let after = cursor.after(&key.hash).filter(|_| self.redrive.dry_run);
        if self.redrive.dry_run {
            return self.records(place, after).await.unwrap_or_else(|halt| {
                self.halt(halt);
                KeyEnd::Stopped(None)
            });
        }
        match operator.lease(place.parked).await {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => {
                self.take_one();
                self.failed(refused);
                return KeyEnd::Through;
            }
            Err(halt) => {
                self.halt(halt);
                return KeyEnd::Stopped(None);
            }
        }
        let ended = self.records(place, None).await;
        operator.park.release(key, &operator.owner, operator.call.deadline).await;
        ended.unwrap_or_else(|halt| {
            self.halt(halt);
            KeyEnd::Stopped(None)
        })
    }

    /// Works on the records of a key, until none is parked any more.
    async fn records(&self, place: Place<'r>, after: Option<&str>) -> Result<KeyEnd, Halt> {
        let mut read = after.map(str::to_owned);
        let (mut is_first, mut begins_in_the_middle) = (after.is_none(), false);
        loop {
            // How many are left of the key, if this pass took one out.
            let mut left = None;
            loop {
                let page = self.operator.page(place.parked, read.as_deref()).await?;
                for row in page.rows {
                    let row = match row {
                        Ok(row) => row,
                        Err(unreadable) => {
                            self.take_one();
                            self.failed(unreadable_row(place.parked, &unreadable));
                            return Ok(KeyEnd::Through);
                        }
                    };
                    if std::mem::take(&mut is_first) && !self.wanted.has_row(&row) {
                        return Ok(KeyEnd::NotMeant);
                    }
                    if !self.may_start() {
                        return Ok(KeyEnd::Stopped(read));
                    }
                    if let Some(failure) = self.refusal(place, &row) {
                        self.take_one();
                        self.failed(not_redriven(place.parked, &row, &failure));
                        return Ok(KeyEnd::Through);
                    }
                    let starts = row.starts(self.version()).count;
                    if starts > 0 && !place.is_alone && !self.redrive.dry_run {
                        return Ok(KeyEnd::Suspect(starts));
                    }
                    match self.record(place, &row).await? {
                        Ran::Done(now_left) => left = now_left.or(left),
                        Ran::Gone => {}
                        Ran::Failed => return Ok(KeyEnd::Through),
                        Ran::Stopped => return Ok(KeyEnd::Stopped(read)),
                    }
                    read = Some(row.sort);
                }
                let Some(more_after) = page.more_after else { break };
                read = Some(more_after);
            }
            match left {
                // More came meanwhile, behind what was read.
                Some(left) if left > 0 => begins_in_the_middle = true,
                // Or before it, of a late delivery.
                None if std::mem::take(&mut begins_in_the_middle) => read = None,
                Some(_) | None => return Ok(KeyEnd::Through),
            }
        }
    }

    /// Why a record is not run at all, whatever the time.
    fn refusal(&self, place: Place<'_>, row: &Row) -> Option<Failure> {
        let Redrive { superseded, crashed, .. } = *self.redrive;
        if !superseded && !place.parked.runs_by_default(row) {
            return Some(match place.parked.superseded(row) {
                "yes" => Failure::park(Overtaken).with_code("Superseded"),
                _ => Failure::park(PerhapsOvertaken).with_code("SupersededUnknown"),
            });
        }
        let starts = row.starts(self.version());
        let is_due = starts.count >= self.operator.durable.max_attempts() && starts.last_alone;
        (is_due && !crashed)
            .then(|| Failure::park(Crashed { starts: starts.count }).with_code("Crashed"))
    }
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
#[error(
    "the process ended at each of {starts} redrives of this record; correct the function, then \
     redrive it with `crashed`"
)]
struct Crashed {
    starts: u32,
}
