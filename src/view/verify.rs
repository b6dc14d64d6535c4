//! Whether the views are exact, beside live traffic, and making them so.
//!
//! Two things are compared. *Ledger and source* (`source`): what each item contributes, by the
//! source and by the ledger. *Rows and ledger* (`groups`, `projections`): whether each row is
//! the sum of the ledger. Both write while they are read, so a difference is nothing yet; what
//! counts is a difference at one revision:
//!
//! - A ledger row that has the same revision before and after the source was read says what it
//!   said at that moment. If it still has that revision, and the item is still the same, in a
//!   call that began when the stream had passed the moment, then no record is under way that
//!   would make them equal: the item has drifted. (The moment the call began counts, not that
//!   of its look: what was written in between may be under way.)
//! - A group's row counts the transactions that change it (`_rev`). If it has the same count
//!   before and after the whole ledger was read, no contribution to the group has changed
//!   meanwhile, so the sum is that of one moment: if it differs, the row has drifted.
//! - A projection's row changes together with one ledger row, whose revision is its own too.
//!
//! Everything a walk knows is in its cursor; the function keeps nothing. What it gives up: a
//! group that is written at every moment while the ledger is read, at each of several looks, stays
//! undecided unless it is equal once.

mod groups;
mod keys;
mod last;
mod look;
mod mend;
mod projections;
mod source;
mod values;

use super::{registry, rows::NO_DEADLINE, served::Served};
use crate::{
    call::{Call, Halt},
    operation::{
        backfill::NotDone,
        verified::Found,
        verify::{
            Check, DRIFT_MAX_DEFAULT, Drift, ITERATOR_AGE_DEFAULT_MS, Repair, Stopped, Verified,
            Verify,
        },
    },
    record::Timestamp,
    store::{Store, StoreError, Trouble, Usage},
    telemetry,
};
use serde::{Serialize, de::DeserializeOwned};

/// Time kept before the deadline, in milliseconds, if the call has that much: a quarter of its
/// time at most.
const RESERVE_MS: i64 = 3_000;
/// How far moments may be apart that two machines give to one event, in milliseconds; the date of
/// an answer and of a record are whole seconds.
const SLACK_MS: i64 = 5_000;
/// So often a thing is looked at that is written meanwhile.
const LOOKS_MAX: u32 = 8;
/// Bytes of what one answer tells, about. Lambda refuses a reply beyond 6 MB, and the cursor
/// takes up to half of it.
const TOLD_BYTES_MAX: usize = 1_500_000;

/// What to do with what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Find out whether it has drifted.
    Verify,
    /// Say what would be mended.
    DryRun,
    /// Mend it.
    Repair,
}

/// One call of a walk.
#[derive(Debug)]
struct Walk<'w> {
    views: &'w Served,
    call: &'w Call,
    request: &'w Verify,
    mode: Mode,
    /// Where the walk stood before the call, if it had begun.
    place: Option<&'w str>,
    /// What the calls before have found.
    found: Found,
    told: Verified,
    told_bytes: usize,
    /// The source that the ledger is compared with, by its ARN.
    source_arn: Option<String>,
    /// Whether a step was taken: a call takes one, whatever it costs.
    has_begun: bool,
    /// When the call began, by this machine: the iterator age is of then at the latest.
    began_ms: i64,
    reserve_ms: i64,
    began: Usage,
}

/// How a call ended that did not fail: at the walk's end, or before it.
type Ended = Result<(), End>;

/// Why a call goes no further.
#[derive(Debug)]
enum End {
    Stopped(Stopped),
    Halted(Halt),
}

impl From<Halt> for End {
    fn from(halt: Halt) -> Self {
        Self::Halted(halt)
    }
}

impl Served {
    /// Verifies a portion.
    ///
    /// # Errors
    /// What is asked for is not there, or a store refuses.
    pub(super) async fn verify_asked(
        &self,
        request: &Verify,
        call: &Call,
    ) -> Result<Verified, Halt> {
        Box::pin(self.walk(request, Mode::Verify, call)).await
    }

    /// Repairs a portion.
    ///
    /// # Errors
    /// As [`verify_asked`](Self::verify_asked); or the ledger is another function's by now.
    pub(super) async fn repair_asked(
        &self,
        request: &Repair,
        call: &Call,
    ) -> Result<Verified, Halt> {
        let mode = if request.dry_run { Mode::DryRun } else { Mode::Repair };
        if mode == Mode::Repair {
            registry::still_owned(&self.store, &self.ledger_table, &self.owner, call.deadline)
                .await?;
        }
        Box::pin(self.walk(&request.of, mode, call)).await
    }

    async fn walk(&self, request: &Verify, mode: Mode, call: &Call) -> Result<Verified, Halt> {
        let Timestamp(now) = self.store.clock().now();
        let left = call.deadline.0.saturating_sub(now);
        let (found, place) = self.cursor_of(request)?;
        let mut walk = Walk {
            views: self,
            call,
            request,
            mode,
            place,
            found,
            told: Verified::default(),
            told_bytes: 0,
            source_arn: None,
            has_begun: false,
            began_ms: now,
            reserve_ms: (left / 4).clamp(0, RESERVE_MS),
            began: self.usage(),
        };
        let ended = match request.check {
            Check::Rows => walk.rows().await,
            Check::Source => walk.source().await,
        };
        last::add(&mut walk.found, &walk.told);
        let stopped = match ended {
            Ok(()) => None,
            Err(End::Stopped(stopped)) => Some(stopped),
            Err(End::Halted(halt)) => return Err(halt),
        };
        if mode == Mode::Verify && matches!(stopped, None | Some(Stopped::Limit)) {
            walk.remember(stopped.is_none()).await?;
        }
        let mut told = walk.told;
        told.cursor = told.cursor.filter(|_| stopped.is_some());
        if let Some(place) = &mut told.cursor {
            let found = serde_json::to_string(&walk.found).expect("texts and numbers are JSON");
            *place = format!("{} {found}\n{place}", self.mark());
        }
        told.stopped = stopped;
        let Usage { read_units, write_units, .. } = self.usage().since(walk.began);
        (told.read_units, told.write_units) = (read_units, write_units);
        Ok(told)
    }

    /// What a cursor says: what was found until then, and where the walk stood.
    fn cursor_of<'r>(&self, request: &'r Verify) -> Result<(Found, Option<&'r str>), Halt> {
        let Some(text) = &request.cursor else { return Ok((Found::default(), None)) };
        let (head, place) = text.split_once('\n').unwrap_or((text, ""));
        let (mark, found) = head.split_once(' ').unwrap_or(("", head));
        if !mark.is_empty() && mark != self.mark() {
            let message = "other views are served by now: begin the walk again, without a cursor";
            return Err(Halt::new("CursorOutdated", message));
        }
        Ok((serde_json::from_str(found).map_err(unreadable)?, Some(place)))
    }
}

fn unreadable(error: serde_json::Error) -> Halt {
    let message = "the cursor is not one of this check: begin without";
    Halt::new("CursorUnreadable", message).caused_by(error)
}

impl Walk<'_> {
    /// Where the walk stands.
    fn cursor<C: DeserializeOwned>(&self) -> Result<Option<C>, Halt> {
        self.place.map(serde_json::from_str).transpose().map_err(unreadable)
    }

    fn stands(&mut self, place: &impl Serialize) {
        let place = serde_json::to_string(place).expect("texts and numbers are JSON");
        self.told.cursor = Some(place);
    }

    /// Ends the call where it has to end.
    fn goes_on(&mut self) -> Ended {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        let used = self.views.usage().since(self.began).read_units;
        let stopped = if self.told.drift.len() >= self.request.limit.unwrap_or(DRIFT_MAX_DEFAULT)
            || self.told_bytes >= TOLD_BYTES_MAX
        {
            Stopped::Limit
        } else if self.now().saturating_add(self.reserve_ms) >= self.call.deadline.0 {
            Stopped::Deadline
        } else if has_begun && self.request.read_units_max.is_some_and(|max| used >= max.into()) {
            Stopped::Units
        } else {
            return Ok(());
        };
        Err(End::Stopped(stopped))
    }

    fn tell(&mut self, drift: Drift) {
        self.told_bytes += serde_json::to_string(&drift).map_or(0, |text| text.len());
        self.told.drift.push(drift);
    }

    fn tell_all(&mut self, drift: Vec<Drift>) {
        for drift in drift {
            self.tell(drift);
        }
    }

    fn cannot(&mut self, not_done: NotDone) {
        self.told_bytes += not_done.key.len() + not_done.reason.len() + 100;
        self.told.not_done.push(not_done);
    }

    /// How long a difference has to last, in milliseconds.
    fn lasting_ms(&self) -> i64 {
        if self.request.at_rest {
            return 0;
        }
        let age = self.request.iterator_age_ms.unwrap_or(ITERATOR_AGE_DEFAULT_MS);
        i64::try_from(age).unwrap_or(NO_DEADLINE.0).saturating_add(SLACK_MS)
    }

    fn store(&self) -> &Store {
        &self.views.store
    }

    fn now(&self) -> i64 {
        self.store().clock().now().0
    }
}

/// A store did not do what it was asked.
fn unanswered(error: StoreError) -> End {
    if error.trouble == Trouble::Rejected {
        return End::Halted(super::ledger::ledger_unread(error));
    }
    telemetry::store_unfinished(&error);
    End::Stopped(match error.trouble {
        Trouble::Throttled => Stopped::Throttled,
        _ => Stopped::Unanswered,
    })
}
