//! How a view is kept: by which protocol, in which rows, and what one change touches.
//!
//! Separate because it is told without any load: the numbers are those of one change of an item
//! whose rows are under 1 KB. What a load costs is `view plan`'s.

use crate::{
    store::{ACTIONS_MAX, BATCH_GET_KEYS_MAX},
    view::{
        definition::{Groups, Output, Shape, View},
        evaluate::ELEMENTS_MAX,
        plan::IN_TRANSACTION,
        rows::ranked::{INDEX, Ranking},
        scalar::SHARED_KEY,
    },
};
use serde::Serialize;
use std::fmt::{self, Write as _};

/// How one view is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The view.
    pub view: String,
    /// Its table or stream.
    pub source: String,
    /// What an item of the source is.
    pub items: String,
    /// How its rows are kept exact.
    pub protocol: &'static str,
    /// What it has a row for.
    pub rows: String,
    /// The list whose elements it reads; what is said of a change is said of one element then.
    pub elements: Option<String>,
    /// The table whose items are joined, by which attribute, and what an item has of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<[String; 3]>,
    /// What the key of a row, `_pk`, is made of.
    pub key: String,
    /// The attributes of an item that it looks at.
    pub attributes: Vec<String>,
    /// Whether a row has all attributes of its item, these or others.
    #[serde(skip)]
    pub shows_all: bool,
    /// The rows of its table that one change writes: at least, where the item stays in its group,
    /// and at most.
    pub rows_per_change: [usize; 3],
    /// What is read before a change is written: rows of groups and values at most, and the next
    /// values in place of extremes at most.
    pub reads_per_change: [usize; 2],
    /// The index that sorts the rows, and by what; none without LIMIT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// The views that share the ledger rows of the source, itself included.
    pub shares_ledger_with: Vec<String>,
    /// The actions of the transaction of one change, for all of these views: at least, and at
    /// most.
    pub actions_per_change: [usize; 2],
    /// The write units of one change by itself, for all of these views: at least, and at most.
    pub write_units_per_change: [usize; 2],
    /// The calls of a batch of 100 changes of different items: reads, and transactions at least
    /// and at most.
    pub calls_per_100: [usize; 3],
}

impl Explained {
    /// How a view is kept beside the others.
    #[must_use]
    pub fn of(view: &View, all: &[&View]) -> Self {
        let shares = |other: &&&View| other.from == view.from && other.key == view.key;
        let sharing: Vec<&View> = all.iter().filter(shares).copied().collect();
        let most: usize = sharing.iter().map(|view| touched(view)[2] + view.extremes()).sum();
        let items = match &view.key {
            Some(path) => format!("those that {path} names"),
            None => "by the key of the table; each record of a Kinesis stream".to_owned(),
        };
        let (rows, key) = match &view.shape {
            Shape::Rows(_) => ("each item".to_owned(), "the key of the item".to_owned()),
            Shape::Groups(groups) if groups.keys.is_empty() => {
                ("all items together".to_owned(), format!("`{SHARED_KEY}`"))
            }
            Shape::Groups(groups) => {
                let keys: Vec<String> = groups.keys.iter().map(ToString::to_string).collect();
                let shown = |index: usize| {
                    let mut columns = groups.columns.iter();
                    let column = columns.find(|column| column.output == Output::Key(index));
                    column.map_or_else(|| keys[index].clone(), |column| column.name.clone())
                };
                let names: Vec<String> = (0..keys.len()).map(shown).collect();
                (format!("each value of {}", keys.join(", ")), names.join(", "))
            }
        };
        let (rows, key) = match &view.shape {
            Shape::Groups(Groups { stripes: Some(stripes), keys, .. }) => {
                let key = if keys.is_empty() { String::new() } else { key + ", " };
                (
                    format!("{rows}, in each of {stripes} stripes; readers add them up"),
                    format!("{key}the stripe of the item, 00 to {:02}", stripes - 1),
                )
            }
            _ => (rows, key),
        };
        let kept = 1 + most;
        Self {
            view: view.name.clone(),
            source: view.from.clone(),
            items,
            protocol: match view.shape {
                Shape::Rows(_) => {
                    "projection: the item's row is put or deleted beside its ledger row"
                }
                Shape::Groups(_) => {
                    "ledger: the difference to what the item added before goes onto its group"
                }
            },
            rows,
            joined: view
                .join
                .as_ref()
                .map(|join| [join.table.clone(), join.key.clone(), join.reference.to_string()]),
            elements: view.unnest.as_ref().map(|unnest| unnest.list.to_string()),
            key,
            attributes: view.attributes().into_iter().map(str::to_owned).collect(),
            shows_all: view.shows_all(),
            rows_per_change: touched(view),
            reads_per_change: read(view),
            index: Ranking::of(view).map(|it| format!("{INDEX} by {}", it.sort_attribute())),
            shares_ledger_with: sharing.iter().map(|view| view.name.clone()).collect(),
            actions_per_change: [1, kept],
            write_units_per_change: [IN_TRANSACTION, IN_TRANSACTION * kept],
            // One key more says which views are served, one the fence of a table.
            calls_per_100: [
                (100 + 2_usize).div_ceil(BATCH_GET_KEYS_MAX),
                100_usize.div_ceil(ACTIONS_MAX),
                (100 * kept).div_ceil(ACTIONS_MAX),
            ],
        }
    }
}

/// Rows that a change writes: where the view keeps nothing of the item, where it stays in its
/// group with its values, and where both are others.
fn touched(view: &View) -> [usize; 3] {
    let references = if view.join.is_some() { 2 } else { 0 };
    [0, 1, groups(view) + 2 * view.values_of_item() + references]
}

/// Rows that a change reads before: those of groups with extremes, of groups that lose items where
/// there is an index, and of values, and next values.
fn read(view: &View) -> [usize; 2] {
    let shown = match Ranking::of(view) {
        _ if view.extremes() > 0 => groups(view),
        Some(_) => 1,
        None => 0,
    };
    [shown + 2 * view.values_of_item(), view.extremes()]
}

/// Rows of the view's own table that a change writes at most.
fn groups(view: &View) -> usize {
    match &view.shape {
        Shape::Groups(groups) if !groups.keys.is_empty() => 2,
        // An item stays in its stripe.
        Shape::Groups(_) | Shape::Rows(_) => 1,
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, stays, most] = self.rows_per_change;
        let [reading, few, many] = self.calls_per_100;
        let [reads, next] = self.reads_per_change;
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "  {name:<13}{value}");
        line("source", format!("{}, items {}", self.source, self.items))?;
        line("protocol", self.protocol.to_owned())?;
        line("a row for", self.rows.clone())?;
        if let Some(list) = &self.elements {
            line(
                "elements",
                format!(
                    "those of {list}, at most {ELEMENTS_MAX} of an item; below a change is one of \
                     one element, and what a transaction does not hold is written in parts"
                ),
            )?;
        }
        if let Some([table, key, reference]) = &self.joined {
            line(
                "joined with",
                format!(
                    "the item of {table} whose {key} is {reference}; a change reads it before and \
                     after, and where it names another one writes that in two rows more; a \
                     change of {table} is one of every item that names it"
                ),
            )?;
        }
        line("row key", self.key.clone())?;
        let attributes =
            if self.shows_all { "all of the item".to_owned() } else { self.attributes.join(", ") };
        line("attributes", attributes)?;
        line(
            "a change",
            match (most, reads) {
                (1, _) => format!(
                    "writes {stays} row, or {least} where WHERE is not TRUE before and after"
                ),
                (_, 1..) => format!(
                    "writes {stays} row, up to {most} where its group or its values are others, \
                     or {least} where nothing changes"
                ),
                _ => format!(
                    "writes {stays} row, {most} where the item goes to another group, or {least} \
                     where nothing changes"
                ),
            },
        )?;
        if let Some(index) = &self.index {
            let what = "one write unit more for each row, two where its place is another";
            line("index", format!("{index}; {what}, and a read of groups that lose items"))?;
        }
        if reads > usize::from(self.index.is_some()) {
            let next = match next {
                0 => String::new(),
                _ => format!(
                    ", and {next} next values where the smallest or largest ones go, which the \
                     transaction checks"
                ),
            };
            let place = "a row each, in one table beside the ledger";
            line("values", format!("{place}; a change reads up to {reads} rows{next}"))?;
        }
        line("ledger row", format!("shared by {}", self.shares_ledger_with.join(", ")))?;
        let [alone, all] = self.actions_per_change;
        let [low, high] = self.write_units_per_change;
        line(
            "transaction",
            format!(
                "{alone} to {all} of {ACTIONS_MAX} actions a change, {low} to {high} write units"
            ),
        )?;
        line("calls", format!("of 100 changes: {reading} to read, {few} to {many} to write"))?;
        write!(f, "{}\n{text}", self.view)
    }
}
