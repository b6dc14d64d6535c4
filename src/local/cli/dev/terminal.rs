//! A line for every invocation, as long as they can be read.
//!
//! Names, numbers and outcomes; of a record nothing but its position. More than a few a second
//! are counted and told together.

use super::talk;
use crate::{
    clock::{Clock as _, SystemClock},
    local::{
        live::Tell,
        mapping::{OnFailure, Outcome},
        page::Shared,
        run::{Invoked, Observer},
    },
    record::Timestamp,
};
use aws_smithy_types::date_time::{DateTime, Format};
use std::{cell::RefCell, fmt, rc::Rc, sync::Arc};

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

/// One mapping of them.
#[derive(Debug)]
pub(super) struct Mapping {
    name: String,
    terminal: Rc<RefCell<Terminal>>,
    page: Option<Shared>,
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
    pub(super) fn new(name: &str, terminal: Rc<RefCell<Terminal>>, page: Option<Shared>) -> Self {
        Self { name: name.to_owned(), terminal, page }
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
