//! A line for every invocation, as long as they can be read.
//!
//! Names, numbers and outcomes; of a record nothing but its position. More than a few a second
//! are counted and told together.

use super::{recorder::Recorder, talk};
use crate::{
    clock::{Clock as _, SystemClock},
    local::{
        live::{LiveError, Notice, Tell},
        mapping::{Entry, Millis, OnFailure, Outcome, Records},
        page::Shared,
        report::LOST,
        run::{Invoked, Observer},
    },
    record::{SequenceNumber, Timestamp},
};
use aws_smithy_types::date_time::{DateTime, Format};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// So many lines are written in a second.
const LINES_A_SECOND: u32 = 10;
/// An error's message is cut here.
const MESSAGE_MAX: usize = 300;

/// What is written for all mappings together.
#[derive(Debug)]
pub(super) struct Terminal {
    is_quiet: bool,
    second: i64,
    lines: u32,
    untold: Untold,
}

/// Invocations without a line of their own.
#[derive(Debug, Default)]
struct Untold {
    invocations: u64,
    records: u64,
    failed: u64,
}

/// Of each shard the records that have not met their fate: position, and when they came.
pub(super) type Behind = Rc<RefCell<BTreeMap<String, VecDeque<(SequenceNumber<'static>, i64)>>>>;

/// What cannot be read at the moment: streams with their shards.
pub(super) type Trouble = Arc<Mutex<BTreeSet<String>>>;

/// How far a mapping is, for who waits for it.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) name: String,
    pub(super) behind: Behind,
    pub(super) trouble: Trouble,
}

/// How long calls have waited until they might begin, by shard and first record.
#[derive(Debug, Clone, Default)]
pub(super) struct Waits(Rc<RefCell<AllWaits>>);

#[derive(Debug, Default)]
struct AllWaits {
    /// The call that begins now.
    next: Option<Waiting>,
    ended: BTreeMap<Waiting, Millis>,
}

/// A call, by its shard and its first record.
pub(super) type Waiting = (String, String);

impl Waits {
    /// The call that was told of last.
    pub(super) fn next(&self) -> Option<Waiting> {
        self.0.borrow_mut().next.take()
    }

    /// A call that has waited begins.
    pub(super) fn end(&self, call: Waiting, waited: Duration) {
        let waited = Millis::try_from(waited.as_millis()).unwrap_or(Millis::MAX);
        self.0.borrow_mut().ended.insert(call, waited);
    }

    pub(super) fn begin(&self, shard: &str, first: Option<&SequenceNumber<'_>>) {
        self.0.borrow_mut().next = Some(waiting(shard, first));
    }

    pub(super) fn take(&self, shard: &str, first: Option<&SequenceNumber<'_>>) -> Millis {
        self.0.borrow_mut().ended.remove(&waiting(shard, first)).unwrap_or_default()
    }
}

fn waiting(shard: &str, first: Option<&SequenceNumber<'_>>) -> Waiting {
    (shard.to_owned(), first.map(ToString::to_string).unwrap_or_default())
}

/// One mapping of them.
#[derive(Debug)]
pub(super) struct Mapping {
    name: String,
    terminal: Rc<RefCell<Terminal>>,
    page: Option<Shared>,
    recorder: Option<Recorder>,
    behind: Behind,
    trouble: Trouble,
    waits: Waits,
}

impl Terminal {
    pub(super) fn new(is_quiet: bool) -> Self {
        Self { is_quiet, second: 0, lines: 0, untold: Untold::default() }
    }

    /// Tells of what has no line of its own.
    pub(super) fn flush(&mut self) {
        let Untold { invocations, records, failed } = std::mem::take(&mut self.untold);
        if invocations > 0 {
            talk(format_args!(
                "… and {invocations} more invocations with {records} records, {failed} failed"
            ));
        }
    }

    /// Whether there is room for another line in this second.
    fn has_room(&mut self, Timestamp(now): Timestamp) -> bool {
        let second = now.div_euclid(1_000);
        if second != self.second {
            self.second = second;
            self.lines = 0;
            self.flush();
        }
        self.lines += 1;
        self.lines <= LINES_A_SECOND
    }
}

impl Mapping {
    pub(super) fn new(
        name: &str,
        terminal: Rc<RefCell<Terminal>>,
        page: Option<Shared>,
        recorder: Option<Recorder>,
    ) -> Self {
        let (behind, trouble, waits) = Default::default();
        Self { name: name.to_owned(), terminal, page, recorder, behind, trouble, waits }
    }

    /// How far it is from now on.
    pub(super) fn followed(&self) -> Followed {
        let (behind, trouble) = (Rc::clone(&self.behind), Arc::clone(&self.trouble));
        Followed { name: self.name.clone(), behind, trouble }
    }

    /// How long its calls wait: none of that is the function's time.
    pub(super) fn waits(&self) -> Waits {
        self.waits.clone()
    }

    /// What goes on writing records down.
    pub(super) fn into_recorder(self) -> Option<Recorder> {
        self.recorder.map(Recorder::reads_again)
    }

    /// What cannot be written down is told once; the run goes on.
    fn record(&mut self, write: impl FnOnce(&mut Recorder) -> std::io::Result<()>) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = write(recorder)
        {
            talk(format_args!("{} is recorded no further: {error}", self.name));
            self.recorder = None;
        }
    }

    /// A shard's name among those of all streams.
    fn shard(&self, shard: &str) -> String {
        format!("{} {shard}", self.name)
    }

    /// Tells of what happens to the reading.
    pub(super) fn notices(&self) -> Tell {
        let (name, trouble) = (self.name.clone(), Arc::clone(&self.trouble));
        Arc::new(move |notice| {
            note(&mut trouble.lock().unwrap_or_else(PoisonError::into_inner), notice);
            talk(format_args!("{} {name} {notice}", time(SystemClock.now())));
        })
    }
}

impl Observer for Mapping {
    fn read(&mut self, _: u64) {
        let mut terminal = self.terminal.borrow_mut();
        if SystemClock.now().0.div_euclid(1_000) != terminal.second {
            terminal.flush();
        }
    }

    fn invoked(&mut self, invoked: &Invoked<'_>) {
        let waited = self.waits.take(invoked.shard, invoked.first);
        let invoked = &Invoked { took: invoked.took.saturating_sub(waited), ..*invoked };
        if let Some(page) = &self.page {
            page.write(|journal| journal.call(self.shard(invoked.shard), invoked));
            page.has_worked();
        }
        let mut terminal = self.terminal.borrow_mut();
        if terminal.is_quiet {
            return;
        }
        let now = SystemClock.now();
        if terminal.has_room(now) {
            talk(format_args!("{} {} {}", time(now), self.name, Line(invoked)));
        } else {
            terminal.untold.invocations += 1;
            terminal.untold.records += invoked.records as u64;
            terminal.untold.failed += u64::from(invoked.outcome != Outcome::Succeeded);
        }
    }

    fn came(&mut self, shard: &str, entry: &Entry) {
        let place = (entry.sequence_number.clone(), entry.present_since);
        self.behind.borrow_mut().entry(shard.to_owned()).or_default().push_back(place);
        self.record(|recorder| {
            recorder.came(shard, entry);
            Ok(())
        });
    }

    fn begun(&mut self, shard: &str, records: &Records) {
        self.waits.begin(shard, records.first().map(|record| &record.sequence_number));
        self.record(|recorder| recorder.begun(shard, records));
    }

    fn passed(&mut self, shard: &str, checkpoint: &SequenceNumber<'_>) {
        self.record(|recorder| recorder.passed(shard, checkpoint));
        if let Some(behind) = self.behind.borrow_mut().get_mut(shard) {
            while behind.front().is_some_and(|(number, _)| number <= checkpoint) {
                behind.pop_front();
            }
        }
        if let Some(page) = &self.page {
            page.write(|journal| journal.passed(self.shard(shard), checkpoint));
        }
    }

    fn lost(&mut self, shard: &str, records: &Records) {
        let (name, count) = (&self.name, records.len());
        let told = format!("{name} {shard} lost: {count} records: {LOST}");
        talk(format_args!("{} {told}", time(SystemClock.now())));
        if let Some(page) = &self.page {
            page.write(|journal| journal.notice(told));
        }
    }

    fn discarded(&mut self, on_failure: &OnFailure) {
        if let Some(page) = &self.page {
            page.write(|journal| journal.given_up(self.shard(on_failure.shard_id()), on_failure));
        }
        let first = on_failure.records.first().map(|record| record.sequence_number.as_str());
        talk(format_args!(
            "{} {} discarded: {} records from {} on ({:?})",
            time(SystemClock.now()),
            self.name,
            on_failure.records.len(),
            first.unwrap_or("?"),
            on_failure.condition
        ));
    }
}

/// Keeps what cannot be read at the moment.
fn note(trouble: &mut BTreeSet<String>, notice: &Notice) {
    match notice {
        Notice::Trouble { place, .. }
        | Notice::Blocked { error: LiveError::Unreadable { place, .. } } => {
            trouble.insert(place.clone());
        }
        Notice::Recovered { place } => {
            trouble.remove(place);
        }
        _ => {}
    }
}

struct Line<'a>(&'a Invoked<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Invoked { shard, records, first, outcome, took, error, .. } = self.0;
        let plural = if *records == 1 { "" } else { "s" };
        write!(f, "{shard}: {records} record{plural}")?;
        if let Some(first) = first {
            write!(f, " from {first} on")?;
        }
        write!(f, ", {took} ms: ")?;
        match outcome {
            Outcome::Succeeded => f.write_str("ok")?,
            Outcome::Partial(finished) => write!(f, "the first {finished} ok, then one failed")?,
            Outcome::Failed => f.write_str("failed")?,
            Outcome::NotInvoked => f.write_str("not invoked")?,
        }
        match error {
            Some(error) => write!(f, ": {}", cut(error)),
            None => Ok(()),
        }
    }
}

fn cut(message: &str) -> &str {
    let end = message.char_indices().nth(MESSAGE_MAX).map_or(message.len(), |(at, _)| at);
    message[..end].lines().next().unwrap_or_default()
}

/// `12:13:46.120`, in UTC.
fn time(Timestamp(now): Timestamp) -> String {
    let text = DateTime::from_millis(now - now.rem_euclid(1_000)).fmt(Format::DateTime);
    let text = text.unwrap_or_default();
    let second = text.get(11..19).unwrap_or_default();
    format!("{second}.{:03}", now.rem_euclid(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_known_until_it_goes_on() {
        let mut trouble = BTreeSet::new();
        let place = || "stream clicks, shard a".to_owned();
        let what = "it is no JSON".to_owned();
        let error = LiveError::Unreadable { place: place(), sequence_number: "7".to_owned(), what };
        note(&mut trouble, &Notice::Begun { shard_id: "a".to_owned() });
        assert_eq!(trouble.len(), 0);
        note(&mut trouble, &Notice::Blocked { error });
        assert_eq!(trouble.iter().collect::<Vec<_>>(), [&place()]);
        note(&mut trouble, &Notice::Recovered { place: "another".to_owned() });
        assert_eq!(trouble.len(), 1);
        note(&mut trouble, &Notice::Recovered { place: place() });
        assert_eq!(trouble.len(), 0);
    }
}
