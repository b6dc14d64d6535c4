//! Records that the mapping itself gave up, brought back before the stream forgets them.
//!
//! The on-failure messages of an event source mapping are an input like any other: they say
//! which range of which shard was given up, and only a bucket's have the records. The range is
//! fetched from the stream, a page at a time, and each page is handed to the work as a batch: a
//! processor's records are parked, in order and held, unless they are finished or parked
//! already; views just apply them, since an older version changes nothing. A page is finished
//! before the next is fetched, and a message counts as done when all of its records are. If a
//! rescue breaks off, the next delivery begins anew and finds what is safe already.
//!
//! A message is taken in only if it is believed ([`Trust`]). One that is not stays where it came
//! from, and is counted.
//!
//! What it gives up: what the stream has trimmed is lost, and can only be said. Between two
//! deliveries of one message the stream may trim what the first had rescued; that counts as
//! lost then. A range that is not there for another reason (a wrong account, a table made anew)
//! keeps its message.

mod parts;
mod trust;

pub(crate) use parts::{Kind, Part, parts};
pub use trust::{Bucket, Trust};

use crate::{
    batch::Work,
    call::{Call, Halt, Measures},
    event::{self, Record},
    outcome::Outcome,
    recovery::{
        fetch::{FetchError, Lost, Streams, Why},
        notice::{Carrier, Content, Found, Notice, NoticeError, Notices},
        services::Services,
    },
    telemetry,
};
use serde_json::{Value, json};
use std::{
    cell::{Cell, OnceCell},
    collections::BTreeSet,
    time::Duration,
};
use trust::{Refused, check_payload};

/// What a rescue needs: the services that have the records, and the rule whom to believe.
#[derive(Debug, Clone)]
pub struct Rescue {
    services: Services,
    trust: Trust,
}

/// What became of the records of notices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Records set aside, or applied where views are kept.
    pub rescued: u64,
    /// Records that were finished or parked already.
    pub known: u64,
    /// Records that the stream no longer has.
    pub lost: u64,
    /// How long the stream would have kept the first record still, in seconds.
    pub time_left_s: Option<u64>,
}

/// Why a notice is not done with.
#[derive(Debug, thiserror::Error)]
enum RescueError {
    #[error("the message is no on-failure message")]
    Other,
    #[error("the on-failure message leads nowhere")]
    Notice(#[from] NoticeError),
    #[error("the on-failure message is not believed")]
    Refused(#[from] Refused),
    #[error("the records cannot be fetched")]
    Fetch(#[from] FetchError),
    #[error(
        "the stream does not know the range ({why:?}): is it another account's, or was it made \
         anew? The message is kept"
    )]
    NotThere { why: Why },
    #[error("what was fetched is no event")]
    Event(#[from] event::EventError),
    #[error("{unfinished} of its records could not be set aside; the log says why")]
    Unfinished { unfinished: u64 },
    #[error("the records could not be set aside")]
    Work(#[source] Halt),
}

impl RescueError {
    /// Stable code.
    fn code(&self) -> &'static str {
        match self {
            Self::Other => "NoticeUnknown",
            Self::Notice(_) => "NoticeUnusable",
            Self::Refused(refused) => refused.code(),
            Self::Fetch(_) => "RescueFetchFailed",
            Self::NotThere { .. } => "RescueRangeUnknown",
            Self::Event(_) => "RescuedEventInvalid",
            Self::Unfinished { .. } => "RescueUnfinished",
            Self::Work(halt) => halt.code,
        }
    }

    /// Whether nothing but another message or another setting helps.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Other | Self::Notice(_) | Self::Refused(_))
    }
}

impl Rescue {
    /// Does no IO.
    #[must_use]
    pub fn new(services: Services, trust: Trust) -> Self {
        Self { services, trust }
    }

    /// Whether there is something to do for a message: not for the test of a bucket's
    /// notifications, if the bucket is one of ours.
    pub(crate) fn is_to_be_passed(rescue: Option<&Self>, found: &Found) -> bool {
        let is_ours = |bucket: &str| rescue.is_some_and(|it| it.trust.has_bucket(bucket));
        match found {
            Found::Other => true,
            Found::Test { bucket } => !is_ours(bucket),
            Found::Notices(_) => false,
        }
    }
}

/// The on-failure messages of one invocation on their way.
pub(crate) struct Rescuer<'r, W> {
    work: &'r W,
    rescue: Option<&'r Rescue>,
    call: &'r Call,
    /// The clients are made when the first is needed.
    streams: OnceCell<Streams>,
    total: Cell<Rescued>,
}

impl<'r, W: Work> Rescuer<'r, W> {
    /// Without a `rescue` every message is refused.
    pub(crate) fn new(work: &'r W, rescue: Option<&'r Rescue>, call: &'r Call) -> Self {
        Self { work, rescue, call, streams: OnceCell::new(), total: Cell::default() }
    }

    /// Rescues the records of an event that no queue has brought.
    ///
    /// # Errors
    /// Something is not done, and the carrier cannot be told which: the event comes again, as
    /// often as Lambda repeats an asynchronous invocation.
    pub(crate) async fn event(self, notices: &Notices) -> Result<Value, Halt> {
        let mut failed = 0;
        for found in &notices.messages {
            failed += usize::from(!self.message(None, found).await);
        }
        let Rescued { rescued, known, lost, time_left_s } = self.finish();
        if failed == 0 {
            return Ok(json!({
                "rescued": rescued, "known": known, "lost": lost, "time_left_s": time_left_s,
            }));
        }
        let kept = match notices.carrier {
            Carrier::Direct => "nothing keeps it but its sender",
            Carrier::Topic | Carrier::Bucket => {
                "Lambda repeats the invocation twice, then the message is gone: put a queue in \
                 between"
            }
        };
        let message = format!("{failed} on-failure messages could not be rescued; {kept}");
        Err(Halt::new("RescueFailed", message))
    }

    /// Rescues the records of a queue's messages; what became of each. Behind one that is not
    /// done, the rest of its FIFO group is left alone.
    pub(crate) async fn messages(&self, messages: &[(Record<'_>, Found)]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut stopped = BTreeSet::new();
        for (record, found) in messages {
            let group = record.message_group();
            let is_behind = group.is_some_and(|group| stopped.contains(group));
            let is_done = !is_behind && self.message(record.message_id(), found).await;
            if !is_done {
                stopped.extend(group);
            }
            outcomes.push(match (is_done, is_behind) {
                (true, _) => Outcome::Applied,
                (false, false) => Outcome::Failed,
                (false, true) => Outcome::NotAttempted,
            });
        }
        outcomes
    }

    /// Says what became of all records.
    pub(crate) fn finish(self) -> Rescued {
        let total = self.total.get();
        let Rescued { rescued, known, lost, time_left_s } = total;
        telemetry::rescue_finished(self.call, (rescued, known, lost), time_left_s);
        total
    }

    /// Whether a message is done with.
    async fn message(&self, id: Option<&str>, found: &Found) -> bool {
        match self.try_message(found).await {
            Ok(()) => true,
            Err(error) => {
                let (code, is_refusal) = (error.code(), error.is_refusal());
                telemetry::rescue_failed(self.call, id, (code, is_refusal), &error);
                false
            }
        }
    }

    async fn try_message(&self, found: &Found) -> Result<(), RescueError> {
        if let (Found::Test { .. }, false) = (found, Rescue::is_to_be_passed(self.rescue, found)) {
            return Ok(());
        }
        let Found::Notices(contents) = found else { return Err(RescueError::Other) };
        let rescue = self.rescue.ok_or(Refused::Off)?;
        for content in contents {
            match content.as_ref().map_err(Clone::clone)? {
                Content::Notice(notice) => self.notice(rescue, notice, false).await?,
                Content::Object(object) => {
                    let owner = rescue.trust.owner(object)?;
                    let text = self.streams(rescue).object(object, owner, self.call.deadline);
                    let notice = Notice::read(&text.await?)?;
                    self.notice(rescue, &notice, true).await?;
                }
            }
        }
        Ok(())
    }

    fn streams(&self, rescue: &Rescue) -> &Streams {
        self.streams.get_or_init(|| Streams::new(&rescue.services))
    }

    async fn notice(
        &self,
        rescue: &Rescue,
        notice: &Notice,
        is_object: bool,
    ) -> Result<(), RescueError> {
        let invoked_arn = self.call.function_arn.as_deref();
        rescue.trust.check(notice, (is_object, invoked_arn))?;
        let streams = self.streams(rescue);
        match &notice.payload {
            Some(payload) => self.batch(notice, payload.as_bytes(), check_payload).await?,
            None => self.range(notice, streams).await?,
        }
        let time_left = streams.time_left(notice, self.call.deadline).await;
        let time_left_s = time_left.as_ref().map(Duration::as_secs);
        self.count(Rescued { time_left_s, ..Rescued::default() });
        Ok(())
    }

    /// Takes a range in, page by page.
    async fn range(&self, notice: &Notice, streams: &Streams) -> Result<(), RescueError> {
        let mut range = streams.range(notice);
        while let Some(page) = range.page(self.call.deadline).await? {
            let event = format!(r#"{{"Records":[{}]}}"#, page.join(","));
            drop(page);
            self.batch(notice, event.as_bytes(), |_, _| Ok(())).await?;
        }
        let Some(lost) = range.lost() else { return Ok(()) };
        // Where some of the range is there, the rest was trimmed.
        if let (Lost { why: why @ (Why::NoShard | Why::UnknownPosition), .. }, 0) =
            (&lost, range.read())
        {
            return Err(RescueError::NotThere { why: *why });
        }
        telemetry::records_lost(self.call, notice, &lost);
        self.count(Rescued { lost: lost.records, ..Rescued::default() });
        Ok(())
    }

    /// Takes records in; they are finished, all of them, or it is an error.
    async fn batch(
        &self,
        notice: &Notice,
        event: &[u8],
        check: impl Fn(&Notice, &[Record<'_>]) -> Result<(), Refused>,
    ) -> Result<(), RescueError> {
        let batch = event::parse(event);
        let records = batch.records().map_err(Clone::clone)?;
        check(notice, records)?;
        let mut outcomes = vec![Outcome::default(); records.len()];
        let mut measures = Measures::default();
        let given_up = (notice.condition.as_str(), self.call);
        let worked = self.work.rescue(records, &mut outcomes, &mut measures, given_up);
        Box::pin(worked).await.map_err(RescueError::Work)?;
        let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|it| is(it)).count() as u64;
        self.count(Rescued {
            rescued: count(|it| matches!(it, Outcome::Parked | Outcome::Applied)),
            known: count(|it| matches!(it, Outcome::AlreadyApplied)),
            ..Rescued::default()
        });
        match count(|it| !it.is_finished()) {
            0 => Ok(()),
            unfinished => Err(RescueError::Unfinished { unfinished }),
        }
    }

    fn count(&self, rescued: Rescued) {
        self.total.set(self.total.get().and(rescued));
    }
}

impl Rescued {
    /// Both together; the time left is that of the first to go.
    fn and(self, other: Self) -> Self {
        let time_left_s = match (self.time_left_s, other.time_left_s) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            rescued: self.rescued + other.rescued,
            known: self.known + other.known,
            lost: self.lost + other.lost,
            time_left_s,
        }
    }
}

#[cfg(test)]
mod tests;
