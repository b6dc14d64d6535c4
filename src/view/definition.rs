//! What a view is, independent of the text it came from.
//!
//! Separate from the parser so that evaluation, storage and reports know only this type.
//! Its `Display` is the one canonical SQL text of a definition: same meaning, same text, so
//! a hash of it tells definitions apart, and parsing it gives the definition back. What it
//! gives up: the author's spelling, comments and layout.

mod expression;
mod shown;
mod types;

pub(super) use types::common_type;
pub use {
    expression::{
        Between, Call, Case, Comparison, Element, Expression, Field, Offset, Operation, Part,
        Pattern, Step, Target, Time, TimeUnit,
    },
    shown::{OfGroup, Retain, Shown, Top},
    types::Type,
};

use crate::hex::hex;
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fmt};

/// Hours after which a Kinesis stream forgets a record, unless the view says otherwise.
///
/// Source: Kinesis Data Streams guide, "Change the data retention period": default 24 hours.
pub const RETENTION_HOURS_DEFAULT: u32 = 24;

/// Version of the canonical text; part of every fingerprint.
const CANONICAL_VERSION: &str = "changefold view 1\n";

/// One materialized view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name, which is also the last part of its table's name.
    pub name: String,
    /// The table or stream it reads, exactly as the event source ARN spells it.
    pub from: String,
    /// Where a Kinesis record carries the key of its item; without it every record is an item.
    pub key: Option<Path>,
    /// The list of each item whose elements it reads one by one, if it reads those.
    pub unnest: Option<Unnest>,
    /// The table whose item each item names, if it reads that too.
    pub join: Option<Join>,
    /// How long the stream keeps its records.
    pub retention_hours: u32,
    /// What a value that is summed or averaged must fit.
    pub decimal: DecimalBound,
    /// Keeps an item only where it is TRUE.
    pub filter: Option<Expression>,
    /// What the view shows of the items it keeps.
    pub shape: Shape,
}

/// `FROM source, unnest(list) AS element`: a row for each element of an item's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnest {
    /// Where the list is in the item.
    pub list: Path,
    /// What an element is called: a path that begins so leads into the element.
    pub element: String,
}

/// `LEFT JOIN table AS alias ON alias.key = reference`: with each item the one that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The table that has the joined items, exactly as the event source ARN spells it.
    pub table: String,
    /// What a joined item is called: a path that begins so leads into it.
    pub alias: String,
    /// The only attribute of the table's key.
    pub key: String,
    /// What an item has of it.
    pub reference: Expression,
    /// Whether an item that names none is left out (`JOIN`), as opposed to being a row with NULLs.
    pub is_inner: bool,
}

/// The two kinds of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// One row per item; without columns it has all attributes of the item.
    Rows(Vec<Column>),
    /// One row per group of items.
    Groups(Groups),
}

/// A view with aggregates or GROUP BY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// The GROUP BY expressions; none means one group, which exists over nothing too.
    pub keys: Vec<Expression>,
    /// The aggregates, in SELECT order.
    pub aggregates: Vec<Aggregate>,
    /// What the row shows, in SELECT order.
    pub columns: Vec<GroupColumn>,
    /// Of which groups readers are shown the rows: where it is TRUE of what a row says.
    pub having: Option<Expression>,
    /// How many of them, by which column; without it all.
    pub top: Option<Top>,
    /// How long the groups of a time are kept; without it for good.
    pub retain: Option<Retain>,
    /// In how many rows each group is kept; without it in one.
    pub stripes: Option<u32>,
}

/// A column of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, unique in the view.
    pub name: String,
    /// What it shows.
    pub expression: Expression,
}

/// A column of a grouped view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupColumn {
    /// Its name, unique in the view.
    pub name: String,
    /// What it shows.
    pub output: Output,
}

/// Where a grouped column's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The group key at this index of [`Groups::keys`].
    Key(usize),
    /// The aggregate at this index of [`Groups::aggregates`].
    Aggregate(usize),
}

/// One aggregate of a grouped view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// Which one.
    pub function: Function,
    /// Its argument; `None` is `count(*)`.
    pub argument: Option<Expression>,
}

/// The aggregates there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// How many items, or how many values that are not NULL.
    Count,
    /// Exact sum of the values that are not NULL.
    Sum,
    /// Their sum by their count.
    Avg,
    /// The smallest of the values that are not NULL: numbers by value, texts by their bytes, and
    /// any number below any text.
    Min,
    /// The largest of them, in the same order.
    Max,
    /// How many different values that are not NULL.
    CountDistinct,
    /// Exact sum of the different values that are not NULL.
    SumDistinct,
    /// Whether no value is FALSE; NULL values do not count.
    BoolAnd,
    /// Whether a value is TRUE; NULL values do not count.
    BoolOr,
}

impl Function {
    /// Whether it needs to know which values a group has, and not their number and sum alone: what
    /// the group's next minimum is when the old one goes, or whether another item has the value.
    #[must_use]
    pub const fn keeps_values(self) -> bool {
        match self {
            Self::Min | Self::Max | Self::CountDistinct | Self::SumDistinct => true,
            Self::Count | Self::Sum | Self::Avg | Self::BoolAnd | Self::BoolOr => false,
        }
    }
}

impl Groups {
    /// Whether each group can be kept in several rows, which readers add up.
    pub(crate) fn can_be_striped(&self) -> bool {
        let is_distinct = |one: &Aggregate| {
            matches!(one.function, Function::CountDistinct | Function::SumDistinct)
        };
        self.top.is_none() && !self.aggregates.iter().any(is_distinct)
    }

    /// The aggregate that keeps the values of this one: the first of those with the same argument,
    /// which share them. None if no values are kept for it.
    #[must_use]
    pub fn values_of(&self, aggregate: usize) -> Option<usize> {
        let one = self.aggregates.get(aggregate).filter(|one| one.function.keeps_values())?;
        let is_same =
            |other: &Aggregate| other.function.keeps_values() && other.argument == one.argument;
        self.aggregates.iter().position(is_same)
    }

    /// The aggregates that keep values, each for itself and those that share them.
    pub fn value_keepers(&self) -> impl Iterator<Item = usize> {
        (0..self.aggregates.len()).filter(|&at| self.values_of(at) == Some(at))
    }
}

/// `decimal(precision, scale)`: below 10^(precision - scale), with at most `scale` digits after
/// the point, so that adding many stays within the 38 digits `DynamoDB` adds exactly.
///
/// The default leaves ten of the 38 digits as headroom: a group of 10^10 items adds exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecimalBound {
    /// Digits in all, 1 to 38.
    pub precision: u32,
    /// Digits after the point, at most `precision`.
    pub scale: u32,
}

impl Default for DecimalBound {
    fn default() -> Self {
        Self { precision: 28, scale: 9 }
    }
}

impl fmt::Display for DecimalBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decimal({},{})", self.precision, self.scale)
    }
}

/// The way to an attribute: its name, then the members of the maps inside it. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<String>);

impl Path {
    /// A path of at least one part.
    #[must_use]
    pub fn new(first: String, rest: impl IntoIterator<Item = String>) -> Self {
        Self(std::iter::once(first).chain(rest).collect())
    }

    /// Its parts, outermost first.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// The attribute of the item it starts at.
    #[must_use]
    pub fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// What a column of it is called unless AS says otherwise.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }
}

impl View {
    /// Hex SHA-256 of the definition: equal for texts that differ only in layout, comments,
    /// case of keywords, aliases of the source, and in defaults written out.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::new()
            .chain_update(CANONICAL_VERSION.as_bytes())
            .chain_update(self.to_string().as_bytes())
            .finalize();
        hex(&digest)
    }

    /// Whether it has a row for each group, as opposed to each item.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        matches!(self.shape, Shape::Groups(_))
    }

    /// Whether what an item is in depends on its key: its row, or its stripe of a group.
    pub(crate) fn needs_item_key(&self) -> bool {
        match &self.shape {
            Shape::Rows(_) => true,
            Shape::Groups(groups) => groups.stripes.is_some(),
        }
    }

    /// Whether a row has all attributes of its item (`SELECT *`).
    #[must_use]
    pub fn shows_all(&self) -> bool {
        matches!(&self.shape, Shape::Rows(columns) if columns.is_empty())
    }

    /// Whether it shows the first groups only.
    #[must_use]
    pub fn has_limit(&self) -> bool {
        matches!(&self.shape, Shape::Groups(groups) if groups.top.is_some())
    }

    /// Whether it has aggregates that keep values ([`Function::keeps_values`]).
    #[must_use]
    pub fn keeps_values(&self) -> bool {
        self.values_of_item() > 0
    }

    /// How many values of its own one item has: those that are kept for min, max and DISTINCT.
    #[must_use]
    pub fn values_of_item(&self) -> usize {
        match &self.shape {
            Shape::Groups(groups) => groups.value_keepers().count(),
            Shape::Rows(_) => 0,
        }
    }

    /// How many columns show the smallest or largest value of a group.
    #[must_use]
    pub fn extremes(&self) -> usize {
        match &self.shape {
            Shape::Groups(groups) => {
                let is_extreme = |column: &&GroupColumn| match column.output {
                    Output::Aggregate(at) => {
                        matches!(groups.aggregates[at].function, Function::Min | Function::Max)
                    }
                    Output::Key(_) => false,
                };
                groups.columns.iter().filter(is_extreme).count()
            }
            Shape::Rows(_) => 0,
        }
    }

    /// How many rows one change of an item touches at most, beside its ledger row: those of the
    /// group that it leaves and of the one that it joins, and of the values that are the smallest
    /// and largest then, which are checked.
    #[must_use]
    pub fn rows_of_change(&self) -> usize {
        let references = if self.join.is_some() { 2 } else { 0 };
        2 * (1 + self.values_of_item()) + self.extremes() + references
    }

    /// Whether it has rows in the table beside the ledger: values, or who names which item.
    #[must_use]
    pub fn needs_values_table(&self) -> bool {
        self.keeps_values() || self.join.is_some()
    }

    /// Whether a path leads into the element of a list and not into the item.
    #[must_use]
    pub fn is_of_element(&self, path: &Path) -> bool {
        self.unnest.as_ref().is_some_and(|unnest| unnest.element == path.first())
    }

    /// Whether a path leads into the joined item and not into the item.
    #[must_use]
    pub fn is_of_joined(&self, path: &Path) -> bool {
        self.join.as_ref().is_some_and(|join| join.alias == path.first())
    }

    /// The top-level attributes of a joined item that the view looks at.
    #[must_use]
    pub fn joined_attributes(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for expression in self.expressions() {
            expression.visit_paths(&mut |path| {
                if self.is_of_joined(path) {
                    names.extend(path.parts().get(1).map(String::as_str));
                }
            });
        }
        names
    }

    /// The names of the output columns, in SELECT order; none of `SELECT *`.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        match &self.shape {
            Shape::Rows(columns) => columns.iter().map(|column| column.name.as_str()).collect(),
            Shape::Groups(groups) => {
                groups.columns.iter().map(|column| column.name.as_str()).collect()
            }
        }
    }

    /// The top-level attributes of an item that the view looks at, its source key included.
    #[must_use]
    pub fn attributes(&self) -> BTreeSet<&str> {
        self.paths().into_iter().map(Path::first).collect()
    }

    /// The paths into an item that the view looks at, its source key and its list included.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        let of_list = self.unnest.as_ref().map(|unnest| &unnest.list);
        let mut paths: Vec<&Path> = self.key.iter().chain(of_list).collect();
        for expression in self.expressions() {
            expression.visit_paths(&mut |path| {
                if !self.is_of_element(path) && !self.is_of_joined(path) {
                    paths.push(path);
                }
            });
        }
        if let Some(join) = &self.join {
            join.reference.visit_paths(&mut |path| paths.push(path));
        }
        paths
    }

    /// Whether it has expressions or aggregates that the first release did not have.
    pub(super) fn has_newer_expressions(&self) -> bool {
        let is_newer_function = |one: &Aggregate| {
            !matches!(one.function, Function::Count | Function::Sum | Function::Avg)
        };
        let has_newer_aggregates = match &self.shape {
            Shape::Groups(groups) => {
                let is_filtered = groups.having.is_some() || groups.top.is_some();
                is_filtered
                    || groups.retain.is_some()
                    || groups.aggregates.iter().any(is_newer_function)
            }
            Shape::Rows(_) => false,
        };
        let is_newer = has_newer_aggregates
            || self.unnest.is_some()
            || self.join.is_some()
            || self.shows_all();
        is_newer || self.expressions().into_iter().any(Expression::is_newer)
    }

    fn expressions(&self) -> Vec<&Expression> {
        let mut all: Vec<&Expression> = self.filter.iter().collect();
        match &self.shape {
            Shape::Rows(columns) => all.extend(columns.iter().map(|column| &column.expression)),
            Shape::Groups(groups) => {
                all.extend(&groups.keys);
                all.extend(groups.aggregates.iter().filter_map(|one| one.argument.as_ref()));
            }
        }
        all
    }
}
