//! Records that the mapping itself gave up, brought back before the stream forgets them.
//!
//! The on-failure messages of an event source mapping are an input like any other: they say
//! which range of which shard was given up, and only a bucket's have the records. The range is
//! fetched from the stream and handed to the work as a batch: a processor's records are parked,
//! in order and held, unless they are finished or parked already; views just apply them, since
//! an older version changes nothing. A message counts as done when all of its records are.
//!
//! What it gives up: what the stream has trimmed is lost, and can only be said. A range that is
//! not there for another reason (a wrong account, a table made anew) keeps its message.

use crate::{
    batch::{Call, Halt, Measures, Work},
    event,
    outcome::{Answer, Outcome, Reply},
    park::{
        fetch::{FetchError, Lost, Streams, Why},
        notice::{Carrier, Content, Message, Notice, NoticeError, Notices},
        services::Services,
    },
    telemetry,
};
use serde_json::json;
use std::time::Duration;

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
    #[error("the message is no on-failure document")]
    Notice(#[from] NoticeError),
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
    Unfinished { unfinished: usize },
    #[error("the records could not be set aside")]
    Work(#[source] Halt),
}

/// Rescues the records of every notice.
///
/// # Errors
/// Something is not done and the carrier cannot be told which: the event comes again.
pub(crate) async fn rescue<W: Work>(
    work: &W,
    services: &Services,
    notices: Notices,
    call: &Call,
) -> Result<Answer, Halt> {
    let streams = Streams::new(services);
    let mut total = Rescued::default();
    let mut failed: Vec<Option<String>> = Vec::new();
    for message in notices.messages {
        let id = message.id.clone();
        match rescue_message(work, &streams, message, call).await {
            Ok(rescued) => total = total.and(rescued),
            Err(error) => {
                telemetry::rescue_failed(call, id.as_deref(), &error);
                failed.push(id);
            }
        }
    }
    let Rescued { rescued, known, lost, time_left_s } = total;
    telemetry::rescue_finished(call, (rescued, known, lost), time_left_s);
    if notices.carrier == Carrier::Queue {
        // A message without an id cannot be: it was read from a queue's event.
        let ids = failed.into_iter().flatten();
        return Ok(Answer::Reply(Reply::keeping(ids)));
    }
    if !failed.is_empty() {
        let message = format!("{} on-failure messages could not be rescued", failed.len());
        return Err(Halt::new("RescueFailed", message));
    }
    Ok(Answer::Operation(json!({
        "rescued": rescued, "known": known, "lost": lost, "time_left_s": time_left_s,
    })))
}

async fn rescue_message<W: Work>(
    work: &W,
    streams: &Streams,
    message: Message,
    call: &Call,
) -> Result<Rescued, RescueError> {
    let mut total = Rescued::default();
    for content in message.contents {
        let notice = match content? {
            Content::Notice(notice) => *notice,
            Content::Object(object) => {
                Notice::read(&streams.object(&object, call.deadline).await?)?
            }
        };
        total = total.and(rescue_notice(work, streams, &notice, call).await?);
    }
    Ok(total)
}

async fn rescue_notice<W: Work>(
    work: &W,
    streams: &Streams,
    notice: &Notice,
    call: &Call,
) -> Result<Rescued, RescueError> {
    let (event, lost, time_left) = if let Some(payload) = &notice.payload {
        (payload.clone(), None, streams.time_left(notice, call.deadline).await)
    } else {
        let fetched = streams.fetch(notice, call.deadline).await?;
        let event = format!(r#"{{"Records":[{}]}}"#, fetched.records.join(","));
        (event, fetched.lost, fetched.time_left)
    };
    let batch = event::parse(event.as_bytes());
    let records = batch.records().map_err(Clone::clone)?;
    // Where some of the range is there, the rest was trimmed.
    if let (Some(Lost { why: why @ (Why::NoShard | Why::UnknownPosition), .. }), []) =
        (&lost, records)
    {
        return Err(RescueError::NotThere { why: *why });
    }
    let mut outcomes = vec![Outcome::default(); records.len()];
    let mut measures = Measures::default();
    let worked = work.rescue(records, &mut outcomes, &mut measures, (&notice.condition, call));
    Box::pin(worked).await.map_err(RescueError::Work)?;
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|it| is(it)).count();
    let unfinished = count(|it| !it.is_finished());
    if unfinished > 0 {
        return Err(RescueError::Unfinished { unfinished });
    }
    if let Some(lost) = &lost {
        telemetry::records_lost(call, notice, lost);
    }
    Ok(Rescued {
        rescued: count(|it| matches!(it, Outcome::Parked | Outcome::Applied)) as u64,
        known: count(|it| matches!(it, Outcome::AlreadyApplied)) as u64,
        lost: lost.map_or(0, |lost| lost.records),
        time_left_s: time_left.as_ref().map(Duration::as_secs),
    })
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
