//! What a replay came to, as tables for a person or as one JSON document.
//!
//! The document's members and their order are a contract. Numbers are written digit by digit,
//! so nothing passes through a float that was exact before.

mod planned;
mod rows;

pub use planned::plan_table;
pub use rows::{rows_csv, rows_json};

use super::{
    faults::Fault,
    run::{LISTED_MAX, Summary},
};
use crate::{
    operation::{
        Listed,
        backfill::{Status, ViewStatus},
        generations::Differences,
        verified::LastVerified,
        verify::Drift,
    },
    store::Usage,
    view::{
        building::ViewState,
        quarantine::{Quarantined, QuarantinedItem},
        scalar::Scalar,
    },
};
use aws_smithy_types::date_time::{DateTime, Format};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt, fmt::Write as _};

/// A batch that waited for less is nothing to tell people of.
const ITERATOR_AGE_SHOWN: u64 = 60_000;

/// What became of records that their stream let expire.
pub const LOST: &str = "the stream had let them expire while their shard was held up; they were \
                        neither applied nor set aside";

/// All there is to say about a replay.
#[derive(Debug, Default)]
pub struct Report {
    /// The seed of the faults, if any were injected.
    pub seed: Option<u64>,
    /// The run itself.
    pub summary: Summary,
    /// What the store holds at rest.
    pub results: Results,
}

/// What a replay has made, read when all is at rest.
#[derive(Debug, Default)]
pub struct Results {
    /// The views in the order they were given.
    pub views: Vec<ViewRows>,
    /// Items that a view leaves out.
    pub quarantined: Quarantined,
    /// Parked records, where a processor has a park: those that failed, with how many queue
    /// behind.
    pub parked: Option<Vec<Listed>>,
    /// What the store was asked during the run.
    pub store: Usage,
}

/// The rows of one view, in the order they print in.
#[derive(Debug, Default)]
pub struct ViewRows {
    /// The view's name.
    pub name: String,
    /// The columns as written in the `SELECT`.
    pub columns: Vec<String>,
    /// [`LISTED_MAX`] rows at most.
    pub rows: Vec<Vec<Scalar>>,
    /// How many rows there are.
    pub total: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    seed: Option<u64>,
    records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    filtered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<u64>,
    invocations: u64,
    failed_invocations: u64,
    bisects: u64,
    lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iterator_age_max_ms: Option<u64>,
    faults: BTreeMap<&'static str, u64>,
    views: Views<'a>,
    quarantined: &'a Quarantined,
    #[serde(skip_serializing_if = "Option::is_none")]
    parked: Option<&'a [Listed]>,
    on_failure: Vec<&'a RawValue>,
    store: Usage,
}

struct Views<'a>(&'a [ViewRows]);

struct Row<'a> {
    columns: &'a [String],
    row: &'a [Scalar],
}

impl Report {
    /// The one JSON document, without a line end.
    ///
    /// # Panics
    /// Only on a broken invariant: every part is a number, a text or JSON already.
    #[must_use]
    pub fn json(&self) -> String {
        let summary = &self.summary;
        let on_failure = summary
            .on_failure
            .iter()
            .map(|document| serde_json::from_str(document).expect("it was serialised as JSON"))
            .collect();
        let document = Document {
            seed: self.seed,
            records: summary.records,
            filtered: summary.filtered,
            passed: summary.passed,
            invocations: summary.invocations,
            failed_invocations: summary.failed_invocations,
            bisects: summary.bisects,
            lost: summary.lost,
            iterator_age_max_ms: summary.iterator_age_max,
            faults: self.faults(),
            views: Views(&self.results.views),
            quarantined: &self.results.quarantined,
            parked: self.results.parked.as_deref(),
            on_failure,
            store: self.results.store,
        };
        serde_json::to_string(&document).expect("texts and numbers are JSON")
    }

    /// Tables of the views and of what went wrong, then a summary.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for view in &self.results.views {
            view.write_to(&mut text);
        }
        self.write_quarantined(&mut text);
        if let Some(parked) = self.results.parked.as_ref().filter(|parked| !parked.is_empty()) {
            push(&mut text, format_args!("parked\n{}\n", parked_table(parked)));
        }
        self.write_summary(&mut text);
        text
    }

    /// One line for each list that was cut, for people who read only the JSON document.
    #[must_use]
    pub fn cuts(&self) -> Vec<String> {
        let views = self.results.views.iter().map(|view| {
            let what = format!("view `{}`", view.name);
            (what, view.rows.len(), view.total)
        });
        let quarantined = &self.results.quarantined;
        let others = [
            ("quarantined".to_owned(), quarantined.first.len(), quarantined.count),
            ("on_failure".to_owned(), self.summary.on_failure.len(), self.summary.discards),
        ];
        views.chain(others).filter_map(|(what, listed, of)| cut(&what, listed, of)).collect()
    }

    /// Every kind of fault with its count.
    fn faults(&self) -> BTreeMap<&'static str, u64> {
        let counts = &self.summary.faults;
        let count = |fault: &Fault| counts.get(fault.name()).copied().unwrap_or(0);
        Fault::ALL.iter().map(|fault| (fault.name(), count(fault))).collect()
    }

    fn write_quarantined(&self, text: &mut String) {
        let quarantined = &self.results.quarantined;
        if quarantined.count == 0 {
            return;
        }
        let table = quarantined_table(&quarantined.first);
        push(text, format_args!("quarantined\n{table}"));
        if let Some(cut) = cut("quarantined", quarantined.first.len(), quarantined.count) {
            push(text, format_args!("{cut}"));
        }
        text.push('\n');
    }

    fn write_summary(&self, text: &mut String) {
        let summary = &self.summary;
        push(
            text,
            format_args!(
                "{} records{}{} in {} invocations, {} failed, {} bisects, {}.{:03} s of {} time",
                summary.records,
                summary.passed.map_or_else(String::new, |it| {
                    format!(", {it} before the starting position,")
                }),
                summary.filtered.map_or_else(String::new, |it| format!(", {it} filtered out,")),
                summary.invocations,
                summary.failed_invocations,
                summary.bisects,
                summary.elapsed / 1000,
                summary.elapsed % 1000,
                if summary.is_in_real_time { "real" } else { "virtual" },
            ),
        );
        if let Some(age) = summary.iterator_age_max.filter(|age| *age >= ITERATOR_AGE_SHOWN) {
            let (seconds, rest) = (age / 1000, age % 1000);
            push(text, format_args!("iterator age at most {seconds}.{rest:03} s"));
        }
        if summary.lost > 0 {
            push(text, format_args!("{} records LOST: {LOST}", summary.lost));
        }
        if let Some(seed) = self.seed {
            let counts: Vec<String> =
                self.faults().iter().map(|(name, count)| format!("{name} {count}")).collect();
            push(text, format_args!("faults of seed {seed}: {}", counts.join(", ")));
        }
        let store = self.results.store;
        push(
            text,
            format_args!(
                "store: {} calls, {} write units, {} read units",
                store.calls, store.write_units, store.read_units
            ),
        );
        let kept = match &self.results.parked {
            None => format!("{} quarantined", self.results.quarantined.count),
            Some(parked) => {
                let behind: u64 = parked.iter().map(|it| it.held_behind).sum();
                format!("{} parked and {behind} held behind", parked.len())
            }
        };
        push(text, format_args!("{kept}, {} on-failure records", summary.discards));
    }
}

impl ViewRows {
    fn write_to(&self, text: &mut String) {
        push(text, format_args!("{}\n{}", self.name, rows_table(&self.columns, &self.rows)));
        if let Some(cut) = cut(&format!("view `{}`", self.name), self.rows.len(), self.total) {
            push(text, format_args!("{cut}"));
        }
        text.push('\n');
    }
}

/// Rows of a view as a table for people.
#[must_use]
pub fn rows_table(columns: &[String], rows: &[Vec<Scalar>]) -> Table {
    let mut table = table(columns);
    for row in rows {
        table.add_row(row.iter().map(ToString::to_string));
    }
    let is_number = |row: &Vec<Scalar>, at| matches!(row.get(at), Some(Scalar::Number(_)));
    for at in (0..columns.len()).filter(|at| rows.iter().any(|row| is_number(row, *at))) {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Parked records as a table for people.
#[must_use]
pub fn parked_table(parked: &[Listed]) -> Table {
    let header = ["key", "sequence number", "error", "attempts", "held behind", "superseded"];
    let mut table = table(header);
    for it in parked {
        table.add_row([
            it.key.clone(),
            it.sequence_number.clone(),
            it.error_code.clone(),
            it.attempts.to_string(),
            it.held_behind.to_string(),
            it.superseded.clone(),
        ]);
    }
    for column in [3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Quarantined items as a table for people.
#[must_use]
pub fn quarantined_table(items: &[QuarantinedItem]) -> Table {
    let mut table = table(["view", "key", "attribute", "expected", "found", "sequence number"]);
    for item in items {
        table.add_row([
            &item.view,
            &item.key,
            &item.attribute,
            &item.expected,
            &item.found,
            &item.sequence_number,
        ]);
    }
    table
}

/// How far views are built, as a table for people.
#[must_use]
pub fn building_table(status: &Status) -> Table {
    let header = [
        "view",
        "generation",
        "table",
        "state",
        "items scanned",
        "left",
        "items/s",
        "quarantined",
        "not done",
        "drift",
    ];
    let mut table = table(header);
    for view in &status.views {
        let state = view.state.map_or("not backfilled", ViewState::as_str);
        let run = status.runs.iter().find(|run| Some(&run.source) == view.source.as_ref());
        let current = if view.is_current { " (current)" } else { "" };
        let generation = format!("{}{current}", view.generation);
        let run = run.filter(|run| run.generations.contains(&view.generation));
        let mut row = vec![view.view.clone(), generation, view.table.clone(), state.to_owned()];
        match run {
            None => row.resize(header.len() - 1, String::new()),
            Some(run) => {
                let counts = run.counts;
                let is_scanned = run.scan_end_ms.is_some();
                let left = run.items_expected.saturating_sub(counts.scanned);
                let until = run.scan_end_ms.unwrap_or(run.now_ms);
                let took_ms = until.saturating_sub(run.began_ms).max(1).unsigned_abs();
                let numbers = [
                    counts.scanned,
                    if is_scanned { 0 } else { left },
                    counts.scanned.saturating_mul(1_000) / took_ms,
                    counts.quarantined,
                    counts.not_done,
                ];
                row.extend(numbers.map(|number| number.to_string()));
            }
        }
        row.push(drift_of(view, &status.verified));
        table.add_row(row);
    }
    for column in 4..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A moment as people read it, of milliseconds since 1970.
#[must_use]
pub fn moment(ms: i64) -> String {
    DateTime::from_millis(ms).fmt(Format::DateTime).unwrap_or_else(|_| format!("{ms} ms"))
}

/// What the last verifications have found of a view: nothing if there was none.
fn drift_of(view: &ViewStatus, verified: &[LastVerified]) -> String {
    if verified.is_empty() {
        return String::new();
    }
    let found = verified.iter().flat_map(|last| &last.found.drift);
    let of_view = found.filter(|it| it.view == view.view && it.generation == view.generation);
    of_view.map(|it| it.drift).sum::<u64>().to_string()
}

/// What a deploy would do, as a table for people.
#[must_use]
pub fn differences_table(differences: &Differences) -> Table {
    let mut table = table(["view", "change", "parts", "generation", "table"]);
    for view in &differences.views {
        let generation = view.generation.map(|it| it.to_string()).unwrap_or_default();
        let (change, parts) = (view.change.as_str().to_owned(), view.parts.join(", "));
        let of = view.table.clone().unwrap_or_default();
        table.add_row([view.view.clone(), change, parts, generation, of]);
    }
    table
}

/// What is not as it should be, as a table for people.
#[must_use]
pub fn drift_table(drift: &[Drift]) -> Table {
    let mut table =
        table(["what", "view", "generation", "group or key", "expected", "found", "items"]);
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for Drift { what, view, generation, group, expected, found, items } in drift {
        let (expected, found) = (text(expected), text(found));
        table.add_row([
            what,
            view,
            &generation.to_string(),
            group,
            &expected,
            &found,
            &items.join("; "),
        ]);
    }
    table
}

fn table(header: impl IntoIterator<Item = impl ToString>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header.into_iter().map(|name| name.to_string()));
    table
}

fn cut(what: &str, listed: usize, of: u64) -> Option<String> {
    let listed = u64::try_from(listed).unwrap_or(u64::MAX);
    (listed < of).then(|| format!("{what}: {listed} of {of} listed, {LISTED_MAX} at most"))
}

fn push(text: &mut String, line: fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes all text");
}

impl Serialize for Views<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|view| {
            let columns = &view.columns;
            let rows: Vec<Row<'_>> = view.rows.iter().map(|row| Row { columns, row }).collect();
            (&view.name, rows)
        }))
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        for (column, value) in self.columns.iter().zip(self.row) {
            map.serialize_entry(column, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Results, ViewRows};
    use crate::{local::run::Summary, view::scalar::Scalar};

    fn number(text: &str) -> Scalar {
        Scalar::Number(text.parse().unwrap())
    }

    fn report() -> Report {
        let rows = vec![
            vec![Scalar::Null, number("12345678901234567890123456789.000000001")],
            vec![Scalar::Text("DE".to_owned()), number("2")],
        ];
        let view = ViewRows {
            name: "totals".to_owned(),
            columns: vec!["country".to_owned(), "total".to_owned()],
            rows,
            total: 3,
        };
        let empty = ViewRows { name: "none".to_owned(), ..ViewRows::default() };
        let results = Results { views: vec![view, empty], ..Results::default() };
        let summary = Summary {
            records: 4,
            invocations: 2,
            discards: 1,
            on_failure: vec![r#"{"version":"1.0"}"#.to_owned()],
            ..Summary::default()
        };
        Report { seed: Some(7), summary, results }
    }

    #[test]
    fn the_document_has_the_members_of_the_contract_and_exact_numbers() {
        let json = report().json();
        let faults = r#""faults":{"crash_after_store_call":0,"crash_before_store_call":0,"duplicate_delivery":0,"function_error":0,"lost_answer":0,"lost_reply":0,"throttling":0,"timeout":0,"transaction_conflict":0,"unprocessed_keys":0}"#;
        let views = r#""views":{"totals":[{"country":null,"total":12345678901234567890123456789.000000001},{"country":"DE","total":2}],"none":[]}"#;
        assert_eq!(
            json,
            format!(
                r#"{{"seed":7,"records":4,"invocations":2,"failed_invocations":0,"bisects":0,"lost":0,{faults},{views},"quarantined":{{"count":0,"first":[]}},"on_failure":[{{"version":"1.0"}}],"store":{{"calls":0,"write_units":0.0,"read_units":0.0}}}}"#
            )
        );
    }

    #[test]
    fn a_cut_is_said_in_the_table_and_beside_the_document() {
        let cut = "view `totals`: 2 of 3 listed, 1000 at most";
        assert_eq!(report().cuts(), [cut]);
        let text = report().text();
        assert!(text.contains(cut), "{text}");
        assert!(text.contains("│ NULL    ┆"), "{text}");
    }
}
