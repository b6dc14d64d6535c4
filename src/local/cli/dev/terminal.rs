//! A line for every invocation, as long as they can be read.
//!
//! Names, numbers and outcomes; of a record nothing but its position. More than a few a second
//! are counted and told together.

use super::{recorder::Recorder, talk};
use crate::{
    clock::{Clock as _, SystemClock},
    local::{
        live::Tell,
        mapping::{Entry, OnFailure, Outcome, Records},
        page::Shared,
        run::{Invoked, Observer},
    },
    record::{SequenceNumber, Timestamp},
};
use aws_smithy_types::date_time::{DateTime, Format};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    fmt,
    rc::Rc,
    sync::Arc,
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

/// One mapping of them.
#[derive(Debug)]
pub(super) struct Mapping {
    name: String,
    terminal: Rc<RefCell<Terminal>>,
    page: Option<Shared>,
    recorder: Option<Recorder>,
    behind: Behind,
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
        let behind = Behind::default();
        Self { name: name.to_owned(), terminal, page, recorder, behind }
    }

    /// When the oldest record came that has not met its fate, in milliseconds of the run.
    pub(super) fn behind(&self) -> Behind {
        Rc::clone(&self.behind)
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
        let name = self.name.clone();
        Arc::new(move |notice| talk(format_args!("{} {name} {notice}", time(SystemClock.now()))))
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
