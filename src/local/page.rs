//! The page of a run: every call as a mark, what a failing batch was cut into, what was given up,
//! and the rows of the views.
//!
//! Of a run that is over it is one file that asks nobody for anything; of one that goes on a server
//! gives it out and what comes later (`PageServer`). What producers and functions have said goes
//! into it as data and is drawn as text. What it gives up: of a long run the oldest calls, which
//! are counted and not drawn.

mod action;
mod control;
mod server;
#[cfg(test)]
mod tests;

pub use action::{Action, Actions, Asked, CallFault};
pub use control::{Control, FAULTS_MAX, Permit};
pub use server::{Demand, PageServer, Shared};

use super::{
    mapping::{Millis, OnFailure, Outcome},
    report::{Report, ViewRows},
    run::{Invoked, LISTED_MAX, Observer},
};
use crate::{operation::Listed, record::SequenceNumber, view::scalar::Scalar};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Calls that are kept of a run.
pub const CALLS_MAX: usize = 5_000;

/// Characters that are kept of what a function said.
const MESSAGE_MAX: usize = 1_000;

/// Notices that are kept of a run: the newest.
const NOTICES_MAX: usize = 50;

/// Where the data goes.
const PLACE: &str = "/*DATA*/";
/// Where the script goes that only a live page has.
const LIVE_PLACE: &str = "/*LIVE*/";

/// What a run has done, as far as it is kept.
#[derive(Debug, Default)]
pub struct Journal {
    calls: VecDeque<Called>,
    older: BTreeMap<String, Older>,
    given_up: Vec<GivenUp>,
    views: Vec<Value>,
    /// Tells this run from others, so that a page of another one is not taken for its own.
    run: String,
    /// What is run, and which tables and streams can be written to.
    title: String,
    sources: Value,
    /// How often that was others: a page that has been drawn before begins again.
    titles: u64,
    standing: BTreeMap<String, Standing>,
    desk: Desk,
    totals: Totals,
}

/// Where a shard stands.
#[derive(Debug, Default, Serialize)]
struct Standing {
    /// The position up to which every record has met its fate.
    checkpoint: String,
    /// The age of the last record of the last call when the call began, in milliseconds.
    age: Option<Millis>,
}

/// What a person can change.
#[derive(Debug, Default, Serialize)]
struct Desk {
    control: Value,
    /// None where nothing is ever parked.
    parked: Option<Vec<Listed>>,
    notices: VecDeque<String>,
}

/// What has been done so far.
#[derive(Debug, Default)]
struct Totals {
    calls: u64,
    failed: u64,
    finished: u64,
    given_up: u64,
    /// How often the rows of the views were others.
    views: u64,
    /// How often a shard moved on.
    standing: u64,
    /// How often the rest changed.
    desk: u64,
}

/// A call of the function.
#[derive(Debug, Serialize)]
struct Called {
    shard: String,
    /// When its reply came, in milliseconds of the run.
    at: Millis,
    /// How long it took, in milliseconds.
    took: Millis,
    records: usize,
    first: String,
    last: String,
    outcome: &'static str,
    /// How many records from the first on were finished, where others were not.
    finished: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Calls of a shard that are no longer kept.
#[derive(Debug, Default, Serialize)]
struct Older {
    calls: u64,
    failed: u64,
}

/// Records that the mapping has given up.
#[derive(Debug, Serialize)]
struct GivenUp {
    shard: String,
    records: usize,
    first: String,
    condition: &'static str,
    calls: u32,
    destination: Option<String>,
}

impl Observer for Journal {
    fn read(&mut self, _: u64) {}

    fn invoked(&mut self, invoked: &Invoked<'_>) {
        self.call(invoked.shard.to_owned(), invoked);
    }

    fn discarded(&mut self, on_failure: &OnFailure) {
        self.given_up(on_failure.shard_id().to_owned(), on_failure);
    }
}

impl Journal {
    /// That of a run of this name.
    #[must_use]
    pub fn new(run: String) -> Self {
        Self { run, ..Self::default() }
    }

    /// Writes a call down, under a name of its shard.
    pub fn call(&mut self, shard: String, invoked: &Invoked<'_>) {
        let (outcome, finished) = match invoked.outcome {
            Outcome::Succeeded => ("succeeded", invoked.records),
            Outcome::Partial(finished) => ("partial", finished),
            Outcome::Failed => ("failed", 0),
            Outcome::NotInvoked => ("not_invoked", 0),
        };
        let position = |number: Option<&SequenceNumber<'static>>| {
            number.map(ToString::to_string).unwrap_or_default()
        };
        if let Some(age) = invoked.age {
            self.standing.entry(shard.clone()).or_default().age = Some(age);
        }
        self.totals.calls += 1;
        self.totals.failed += u64::from(invoked.outcome == Outcome::Failed);
        self.totals.finished += finished as u64;
        self.calls.push_back(Called {
            shard,
            at: invoked.at,
            took: invoked.took,
            records: invoked.records,
            first: position(invoked.first),
            last: position(invoked.last),
            outcome,
            finished,
            error: invoked.error.map(|error| error.chars().take(MESSAGE_MAX).collect()),
        });
        if self.calls.len() > CALLS_MAX
            && let Some(oldest) = self.calls.pop_front()
        {
            let older = self.older.entry(oldest.shard).or_default();
            older.calls += 1;
            older.failed += u64::from(oldest.outcome == "failed");
        }
    }

    /// Writes down what was given up, under a name of its shard.
    pub fn given_up(&mut self, shard: String, on_failure: &OnFailure) {
        self.totals.given_up += 1;
        if self.given_up.len() < LISTED_MAX {
            self.given_up.push(GivenUp {
                shard,
                records: on_failure.records.len(),
                first: on_failure.first().map(ToString::to_string).unwrap_or_default(),
                condition: on_failure.condition.as_str(),
                calls: on_failure.approximate_invoke_count,
                destination: on_failure.destination.as_ref().map(|it| it.arn().to_owned()),
            });
        }
    }

    /// Writes down how far a shard is, under a name of its own.
    pub fn passed(&mut self, shard: String, checkpoint: &SequenceNumber<'_>) {
        self.standing.entry(shard).or_default().checkpoint = checkpoint.to_string();
        self.totals.standing += 1;
    }

    /// Writes down something that a person should know.
    pub fn notice(&mut self, notice: String) {
        self.desk.notices.push_back(notice);
        if self.desk.notices.len() > NOTICES_MAX {
            self.desk.notices.pop_front();
        }
        self.totals.desk += 1;
    }

    fn control(&mut self, control: Value) {
        self.desk.control = control;
        self.totals.desk += 1;
    }

    /// Takes in the rows of the views and what is parked as they are now; tells whether they are
    /// others.
    fn rows(&mut self, views: &[ViewRows], parked: Option<&[Listed]>) -> bool {
        let views: Vec<Value> = views.iter().map(shown).collect();
        let is_other = (views != self.views, parked != self.desk.parked.as_deref());
        if is_other.0 {
            self.views = views;
            self.totals.views += 1;
        }
        if is_other.1 {
            self.desk.parked = parked.map(<[_]>::to_vec);
            self.totals.desk += 1;
        }
        is_other.0 || is_other.1
    }

    /// The page of a run that is over.
    ///
    /// # Panics
    /// Only on a broken invariant: the page has a place for its data, and all of it is JSON.
    #[must_use]
    pub fn page(&self, title: &str, report: &Report) -> String {
        let summary = &report.summary;
        let time = if summary.is_in_real_time { "" } else { " of virtual time" };
        let figures = json!({
            "records": summary.records,
            "calls": summary.invocations,
            "calls without a reply": summary.failed_invocations,
            "batches halved": summary.bisects,
            "given up": summary.discards,
            "lost": summary.lost,
            format!("seconds{time}"): seconds(summary.elapsed),
        });
        let state = match report.seed {
            Some(seed) => format!("The run is over. Its faults have the seed {seed}."),
            None => "The run is over.".to_owned(),
        };
        let views = report.results.views.iter().map(shown).collect();
        page(&self.data(title, &state, (figures, views)), "")
    }

    /// Says what is run from now on, and which tables and streams can be written to.
    fn entitle(&mut self, title: &str, sources: Value) {
        if self.title != title || self.sources != sources {
            (self.title, self.sources) = (title.to_owned(), sources);
            self.titles += 1;
        }
    }

    /// What tells a page's run and its title from others.
    fn of_run(&self) -> String {
        if self.titles == 0 { self.run.clone() } else { format!("{}.{}", self.run, self.titles) }
    }

    /// The page of a run that goes on.
    fn live(&self) -> String {
        let mut data = self.data(&self.title, "Live.", (self.figures(), self.views.clone()));
        data["after"] = self.number().into();
        data["sources"] = self.sources.clone();
        data["standing"] = json!(self.standing);
        data["desk"] = json!(self.desk);
        page(&data, include_str!("page/live.js"))
    }

    fn data(&self, title: &str, state: &str, (figures, views): (Value, Vec<Value>)) -> Value {
        let drawn: BTreeMap<&str, Option<&Older>> = self
            .calls
            .iter()
            .map(|call| (call.shard.as_str(), None))
            .chain(self.older.iter().map(|(shard, older)| (shard.as_str(), Some(older))))
            .collect();
        let shards = drawn.into_iter().map(|(name, older)| json!({ "name": name, "older": older }));
        json!({
            "title": title,
            "state": state,
            "limit": CALLS_MAX,
            "figures": figures,
            "shards": shards.collect::<Vec<_>>(),
            "calls": self.calls,
            "discarded": self.given_up,
            "views": views,
        })
    }

    fn figures(&self) -> Value {
        let Totals { calls, failed, finished, given_up, .. } = self.totals;
        json!({ "records finished": finished, "calls": calls, "calls failed": failed,
            "given up": given_up })
    }

    /// How far the journal is: the run, calls, what was given up, and what changed otherwise.
    fn number(&self) -> String {
        let Totals { calls, views, standing, desk, .. } = self.totals;
        format!("{}-{calls}-{}-{views}-{standing}-{desk}", self.of_run(), self.given_up.len())
    }

    /// What has happened after such a number, as a server-sent event with the next one.
    fn events(&self, after: &str) -> Option<String> {
        let mut numbers = after.split('-');
        if numbers.next().is_some_and(|run| run != self.of_run()) {
            // A page of an earlier run at this address: it has to begin again.
            return Some(format!("id: {}\nevent: other\ndata: {{}}\n\n", self.number()));
        }
        let mut numbers = numbers.map(|number| number.parse::<u64>().unwrap_or_default());
        let [calls, given_up, views, standing, desk] =
            std::array::from_fn(|_| numbers.next().unwrap_or_default());
        let new_calls = self.totals.calls.saturating_sub(calls);
        let new_calls = usize::try_from(new_calls).unwrap_or(usize::MAX).min(self.calls.len());
        let calls: Vec<&Called> = self.calls.iter().skip(self.calls.len() - new_calls).collect();
        let given_up = usize::try_from(given_up).unwrap_or(usize::MAX);
        let given_up = self.given_up.get(given_up..).unwrap_or_default();
        let views = (self.totals.views != views).then_some(&self.views);
        let desk = (self.totals.desk != desk).then_some(&self.desk);
        let has_moved = !calls.is_empty() || self.totals.standing != standing;
        if !has_moved && given_up.is_empty() && views.is_none() && desk.is_none() {
            return None;
        }
        let news = json!({ "calls": calls, "discarded": given_up, "views": views, "desk": desk,
            "standing": self.standing, "figures": self.figures() });
        // JSON has no line ends of its own.
        Some(format!("retry: 250\nid: {}\nevent: news\ndata: {news}\n\n", self.number()))
    }
}

/// The page with its data, and with a script for a live one.
fn page(data: &Value, script: &str) -> String {
    let page = include_str!("page/page.html").replace(LIVE_PLACE, script);
    let (head, rest) = page.split_once(PLACE).expect("the page has a place");
    // The text of a script ends at the first `</script`, whatever it stands in.
    format!("{head}{}{rest}", data.to_string().replace('<', "\\u003c"))
}

/// The rows of a view as they are shown.
fn shown(view: &ViewRows) -> Value {
    let is_number = |row: &Vec<Scalar>, at: usize| matches!(row.get(at), Some(Scalar::Number(_)));
    let has_numbers = |at: &usize| view.rows.iter().any(|row| is_number(row, *at));
    let rows = view.rows.iter().map(|row| row.iter().map(cell).collect::<Value>());
    json!({
        "name": view.name,
        "columns": view.columns,
        "numbers": (0..view.columns.len()).filter(has_numbers).collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
        "total": view.total,
    })
}

/// A value as it is shown; numbers as text, which keeps their digits.
fn cell(value: &Scalar) -> Value {
    match value {
        Scalar::Null => Value::Null,
        other => Value::String(other.to_string()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(elapsed: Millis) -> f64 {
    elapsed as f64 / 1_000.0
}
