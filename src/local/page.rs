//! The page of a run: every call as a mark, what a failing batch was cut into, what was given up,
//! and the rows of the views.
//!
//! Of a run that is over it is one file that asks nobody for anything; of one that goes on a server
//! gives it out and what comes later (`PageServer`). What producers and functions have said goes
//! into it as data and is drawn as text. What it gives up: of a long run the oldest calls, which
//! are counted and not drawn.

mod server;

pub use server::{Demand, PageServer, Shared};

use super::{
    mapping::{Millis, OnFailure, Outcome},
    report::{Report, ViewRows},
    run::{Invoked, LISTED_MAX, Observer},
};
use crate::{record::SequenceNumber, view::scalar::Scalar};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Calls that are kept of a run.
pub const CALLS_MAX: usize = 5_000;

/// Characters that are kept of what a function said.
const MESSAGE_MAX: usize = 1_000;

/// Where the data goes.
const PLACE: &str = "/*DATA*/";

/// What a run has done, as far as it is kept.
#[derive(Debug, Default)]
pub struct Journal {
    calls: VecDeque<Called>,
    older: BTreeMap<String, Older>,
    given_up: Vec<GivenUp>,
    views: Vec<Value>,
    totals: Totals,
}

/// What has been done so far.
#[derive(Debug, Default)]
struct Totals {
    calls: u64,
    failed: u64,
    finished: u64,
    given_up: u64,
    /// How often the rows of the views were read.
    views: u64,
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

    /// Takes in the rows of the views as they are now; tells whether they are others.
    fn rows(&mut self, views: &[ViewRows]) -> bool {
        let views: Vec<Value> = views.iter().map(shown).collect();
        let is_other = views != self.views;
        if is_other {
            self.views = views;
            self.totals.views += 1;
        }
        is_other
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
            format!("seconds{time}"): seconds(summary.elapsed),
        });
        let state = match report.seed {
            Some(seed) => format!("The run is over. Its faults have the seed {seed}."),
            None => "The run is over.".to_owned(),
        };
        let views = report.results.views.iter().map(shown).collect();
        page(&self.data(title, &state, (figures, views)))
    }

    /// The page of a run that goes on.
    fn live(&self, title: &str) -> String {
        let mut data = self.data(title, "Live.", (self.figures(), self.views.clone()));
        data["after"] = self.number().into();
        page(&data)
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

    /// How far the journal is: calls, what was given up, and readings of the views.
    fn number(&self) -> String {
        format!("{}-{}-{}", self.totals.calls, self.given_up.len(), self.totals.views)
    }

    /// What has happened after such a number, as a server-sent event with the next one.
    fn events(&self, after: &str) -> Option<String> {
        let mut numbers = after.split('-').map(|number| number.parse::<u64>().unwrap_or_default());
        let [calls, given_up, views] = std::array::from_fn(|_| numbers.next().unwrap_or_default());
        let new_calls = self.totals.calls.saturating_sub(calls);
        let new_calls = usize::try_from(new_calls).unwrap_or(usize::MAX).min(self.calls.len());
        let calls: Vec<&Called> = self.calls.iter().skip(self.calls.len() - new_calls).collect();
        let given_up = usize::try_from(given_up).unwrap_or(usize::MAX);
        let given_up = self.given_up.get(given_up..).unwrap_or_default();
        let views = (self.totals.views != views).then_some(&self.views);
        if calls.is_empty() && given_up.is_empty() && views.is_none() {
            return None;
        }
        let news = json!({ "calls": calls, "discarded": given_up, "views": views,
            "figures": self.figures() });
        // JSON has no line ends of its own.
        Some(format!("retry: 250\nid: {}\nevent: news\ndata: {news}\n\n", self.number()))
    }
}

/// The page with its data.
fn page(data: &Value) -> String {
    let (head, rest) =
        include_str!("page/page.html").split_once(PLACE).expect("the page has a place");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::report::Results;

    #[test]
    fn what_a_producer_has_said_cannot_end_the_script() {
        let rows = vec![vec![Scalar::Text("</script><script>alert(1)</script>".to_owned())]];
        let view = ViewRows { name: "v".into(), columns: vec!["c".into()], rows, total: 1 };
        let results = Results { views: vec![view], ..Results::default() };
        let report = Report { results, ..Report::default() };
        let page = Journal::default().page("<b>", &report);
        assert_eq!(page.matches("</script>").count(), 2, "its own two");
        let data = page.split_once(r#"type="application/json">"#).unwrap().1;
        let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
        assert_eq!(data["views"][0]["rows"][0][0], "</script><script>alert(1)</script>");
        assert_eq!(data["title"], "<b>");
    }

    #[test]
    fn events_are_what_came_after_a_number() {
        let mut journal = Journal::default();
        assert_eq!(journal.events("0-0-0"), None);
        let call = |journal: &mut Journal, records| {
            journal.invoked(&Invoked {
                shard: "s",
                records,
                first: None,
                last: None,
                at: 1,
                outcome: Outcome::Succeeded,
                took: 1,
                error: None,
            });
        };
        call(&mut journal, 5);
        let first = journal.events("").unwrap();
        assert!(first.starts_with("retry: 250\nid: 1-0-0\nevent: news\ndata: {"), "{first}");
        assert_eq!(first.lines().count(), 5, "{first}");
        assert_eq!(journal.events("1-0-0"), None);
        call(&mut journal, 6);
        let next = journal.events("1-0-0").unwrap();
        let news: Value = serde_json::from_str(next.split("data: ").nth(1).unwrap()).unwrap();
        assert_eq!((&news["calls"][0]["records"], &news["calls"][1]), (&6.into(), &Value::Null));
        assert_eq!(news["figures"]["records finished"], 11);
        for _ in 0..=CALLS_MAX {
            call(&mut journal, 1);
        }
        let news = journal.events("2-0-0").unwrap();
        assert_eq!(news.matches("succeeded").count(), CALLS_MAX, "those that are kept");
        assert_eq!(journal.older["s"].calls, 3);
    }
}
