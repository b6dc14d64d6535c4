//! The rows of the views' tables, and how differences are written to them.
//!
//! A view's table holds one row per group, keyed by [`ROW_KEY`]. Beside the key it has the
//! view's own columns, to be read by anyone: group keys, counts, and sums. Names beginning
//! with `_` are ours: `_rows` counts the items of the group, `_n_<column>` the values behind a
//! sum or an average, `_sum_<column>` what an average divides, `_true_<column>` the TRUE ones of a
//! `bool_and` or `bool_or`. A smallest or largest value that is NULL is not there. `_top` and `_by`
//! are for an index (`ranked`). With stripes a group has several rows (`striped`). A group exists
//! while `_rows` is above 0; a sum is NULL while its `_n_` is 0. `_rev` grows with every
//! transaction that changes what the ledger says of the group, also where the changes of several
//! items cancel out: while it stays, so does every contribution. A projection's row has the
//! columns only.
//!
//! It is separate because the layout is a contract with those who read the tables. It gives
//! up removing a group's row when its last item leaves: the row stays, with `_rows` 0. Whether an
//! item is the last one is known only to who has read the row, which would cost a read unit and a
//! wait for each group that loses an item, whether it empties or not. And a row that is gone and
//! comes again has lost the revision by which a verification knows that nobody has changed it.

pub(crate) mod extremes;
pub(crate) mod having;
pub(crate) mod listing;
pub(crate) mod ranked;
pub(crate) mod retained;
mod stored;
pub(crate) mod striped;
pub(crate) mod sums;
pub(crate) mod whole;

pub use listing::Listing;
pub(crate) use stored::{Added, Stored, contributions_from, contributions_text};

use crate::{
    record::Timestamp,
    store::Item,
    view::{
        definition::{Function, Groups, Output, Shape, View},
        number,
        scalar::{Scalar, decode_key, decode_value},
        total::Addend,
    },
};
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};
use bigdecimal::BigDecimal;
use extremes::Extremes;
use ranked::Ranking;

/// Name of a view table's key attribute.
pub const ROW_KEY: &str = "_pk";
const ROWS: &str = "_rows";
pub(crate) const REVISION: &str = "_rev";
/// What an extreme takes of a transaction: a text of up to 1,023 bytes as it was read, the one that
/// takes its place, and names.
const EXTREME_BYTES: usize = 2_200;
/// What a check of a value's row takes: its keys.
const CHECK_BYTES: usize = 3_300;
/// Reading a table at rest has no invocation's deadline.
pub(crate) const NO_DEADLINE: Timestamp = Timestamp(i64::MAX);

/// Which value of a group: by the aggregate that keeps it, and its text in the order of values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValueKey {
    pub(crate) keeper: usize,
    pub(crate) sort_key: String,
}

impl ValueKey {
    /// The value; none if it is not as changefold writes it.
    pub(crate) fn value(&self) -> Option<Scalar> {
        decode_value(&self.sort_key)
    }
}

/// A row of some view's table, or of a value of one of its groups; these come behind their group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowId {
    pub(crate) view: usize,
    pub(crate) key: String,
    pub(crate) value: Option<ValueKey>,
}

impl RowId {
    /// A row of a view's own table.
    pub(crate) const fn new(view: usize, key: String) -> Self {
        Self { view, key, value: None }
    }
}

/// What a transaction does to a row.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// Adds to a group.
    Add(Delta),
    /// Replaces a projection's row.
    Put(Item),
    /// Removes a projection's row.
    Delete,
    /// So many items more have the value.
    Count(i64),
}

impl Effect {
    /// Joins the effect of another item on the same row. Only groups are shared by items.
    pub(crate) fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Add(delta), Self::Add(more)) => delta.merge(more),
            (Self::Count(items), Self::Count(more)) => *items += more,
            (this, other) => *this = other.clone(),
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Self::Add(delta) => delta.is_zero(),
            Self::Count(items) => *items == 0,
            Self::Put(_) | Self::Delete => false,
        }
    }

    /// How many rows a transaction may have to check beside the one that it writes.
    pub(crate) fn checks(&self) -> usize {
        match self {
            Self::Add(delta) => delta.checks,
            Self::Put(_) | Self::Delete | Self::Count(_) => 0,
        }
    }

    /// About how much of a transaction's 4 MB it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Add(delta) => {
                let extremes = EXTREME_BYTES * delta.extremes + CHECK_BYTES * delta.checks;
                2_500 + 100 * delta.addends.len() + extremes
            }
            Self::Put(item) => item_bytes(item),
            Self::Delete => 2_500,
            Self::Count(_) => 6_000,
        }
    }
}

/// Net change of a group: how many items more, and by how much each aggregate's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delta {
    rows: i64,
    addends: Vec<(i64, BigDecimal)>,
    /// Columns of the view that show extremes.
    extremes: usize,
    /// How many of them can go, so that the rows of the next values are checked.
    checks: usize,
}

impl Delta {
    /// Nothing of so many aggregates, in a view with so many columns that show extremes.
    pub(crate) fn zero(aggregates: usize, extremes: usize) -> Self {
        Self { rows: 0, addends: vec![(0, BigDecimal::default()); aggregates], extremes, checks: 0 }
    }

    /// Takes in that a value goes.
    pub(crate) fn loses_value(&mut self) {
        self.checks = self.extremes;
    }

    /// Takes one item's addends in, or out with `sign` -1.
    pub(crate) fn add(&mut self, addends: &[Addend], sign: i64) {
        self.rows += sign;
        for ((count, sum), addend) in self.addends.iter_mut().zip(addends) {
            *count += sign * addend.count.cast_signed();
            if let Some(value) = &addend.sum {
                *sum += value * sign;
            }
        }
    }

    /// Takes in what became of the different values of an aggregate: how many more there are, and
    /// by how much their sum is larger.
    pub(crate) fn add_different(&mut self, aggregate: usize, (more, sum): (i64, &BigDecimal)) {
        if let Some(part) = self.addends.get_mut(aggregate) {
            part.0 += more;
            part.1 += sum;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.checks = self.checks.max(other.checks);
        for ((count, sum), (more_count, more_sum)) in self.addends.iter_mut().zip(&other.addends) {
            *count += more_count;
            *sum += more_sum;
        }
    }

    fn is_zero(&self) -> bool {
        self.rows == 0
            && self.addends.iter().all(|(count, sum)| *count == 0 && *sum == BigDecimal::default())
    }
}

/// The row a projection shows of an item.
pub(crate) fn projected(view: &View, key: &str, values: &[Scalar]) -> Item {
    let mut item: Item = view
        .columns()
        .into_iter()
        .zip(values)
        .map(|(name, value)| (name.to_owned(), attribute(value)))
        .collect();
    item.insert(ROW_KEY.to_owned(), AttributeValue::S(key.to_owned()));
    item
}

/// The part of a transaction that changes one row. It has no condition: the ledger rows in
/// the same transaction are its guard.
pub(crate) fn action(
    view: &View,
    (table, key): (&str, &str),
    effect: &Effect,
    stored: Option<&Item>,
) -> TransactWriteItem {
    let action = TransactWriteItem::builder();
    let row_key = AttributeValue::S(key.to_owned());
    match effect {
        Effect::Put(item) => {
            let put = Put::builder().table_name(table).set_item(Some(item.clone())).build();
            action.put(put.expect("table and item are set"))
        }
        Effect::Delete => {
            let delete = Delete::builder().table_name(table).key(ROW_KEY, row_key).build();
            action.delete(delete.expect("table and key are set"))
        }
        Effect::Add(delta) => {
            action.update(addition(view, (table, key), (delta, stored), &Extremes::default()))
        }
        Effect::Count(_) => unreachable!("a value has no row in a view's own table"),
    }
    .build()
}

/// What an update's expression and its condition are made of.
#[derive(Debug, Default)]
struct Parts {
    set: Vec<String>,
    remove: Vec<String>,
    add: Vec<String>,
    conditions: Vec<String>,
}

/// Adds to a group and shows its extremes. The row was read before where it may leave an index.
pub(crate) fn addition(
    view: &View,
    (table, key): (&str, &str),
    (delta, stored): (&Delta, Option<&Item>),
    extremes: &Extremes,
) -> Update {
    let mut update =
        Update::builder().table_name(table).key(ROW_KEY, AttributeValue::S(key.to_owned()));
    let mut parts = Parts::default();
    let Parts { set, add, .. } = &mut parts;
    let keys = decode_key(key).unwrap_or_default();
    for (name, value) in key_columns(view)
        .into_iter()
        .filter_map(|(name, index)| keys.get(index).map(|value| (name, attribute(value))))
    {
        let place = set.len();
        update = update
            .expression_attribute_names(format!("#k{place}"), name)
            .expression_attribute_values(format!(":k{place}"), value);
        set.push(format!("#k{place} = :k{place}"));
    }
    if let Some(at) = retained::ends_at(view, key) {
        update = update
            .expression_attribute_names("#ttl", retained::TTL)
            .expression_attribute_values(":ttl", AttributeValue::N(at.to_string()));
        set.push("#ttl = :ttl".to_owned());
    }
    let one = (REVISION.to_owned(), "1".to_owned());
    for (name, amount) in amounts(view, delta).into_iter().chain([one]) {
        let place = add.len();
        update = update
            .expression_attribute_names(format!("#a{place}"), name)
            .expression_attribute_values(format!(":a{place}"), AttributeValue::N(amount));
        add.push(format!("#a{place} :a{place}"));
    }
    update = extremes.write(update, &mut parts);
    if let Some(ranking) = Ranking::of(view) {
        update = ranking.write(update, (delta, stored, extremes), &mut parts);
    }
    if !parts.conditions.is_empty() {
        update = update.condition_expression(parts.conditions.join(" AND "));
    }
    let expression = parts.expression();
    update.update_expression(expression).build().expect("table, key and expression are set")
}

impl Parts {
    fn expression(&self) -> String {
        let parts = [("SET", &self.set), ("REMOVE", &self.remove), ("ADD", &self.add)];
        let parts = parts.into_iter().filter(|(_, parts)| !parts.is_empty());
        let parts = parts.map(|(word, parts)| format!("{word} {}", parts.join(", ")));
        parts.collect::<Vec<_>>().join(" ")
    }
}

/// The attributes to add to, with amounts other than zero. An index has rows only that have what
/// it sorts by.
fn amounts(view: &View, delta: &Delta) -> Vec<(String, String)> {
    let mut amounts = Vec::new();
    let sorts_by = Ranking::of(view).map_or("", |ranking| ranking.sort_attribute());
    let mut push = |name: String, amount: BigDecimal| {
        if amount != BigDecimal::default() || name == sorts_by {
            amounts.push((name, number::plain(&amount)));
        }
    };
    push(ROWS.to_owned(), BigDecimal::from(delta.rows));
    for (name, function, index) in aggregate_columns(view) {
        let Some((count, sum)) = delta.addends.get(index) else { continue };
        if let Some(attribute) = count_attribute(name, function) {
            push(attribute, BigDecimal::from(*count));
        }
        if let Some(attribute) = sum_attribute(name, function) {
            push(attribute, sum.clone());
        }
    }
    amounts
}

fn count_attribute(column: &str, function: Function) -> Option<String> {
    match function {
        Function::Count | Function::CountDistinct => Some(column.to_owned()),
        Function::Sum
        | Function::Avg
        | Function::SumDistinct
        | Function::BoolAnd
        | Function::BoolOr => Some(format!("_n_{column}")),
        Function::Min | Function::Max => None,
    }
}

fn sum_attribute(column: &str, function: Function) -> Option<String> {
    match function {
        Function::Count | Function::CountDistinct | Function::Min | Function::Max => None,
        Function::Sum | Function::SumDistinct => Some(column.to_owned()),
        Function::Avg => Some(format!("_sum_{column}")),
        Function::BoolAnd | Function::BoolOr => Some(format!("_true_{column}")),
    }
}

fn groups(view: &View) -> Option<&Groups> {
    match &view.shape {
        Shape::Groups(groups) => Some(groups),
        Shape::Rows(_) => None,
    }
}

fn key_columns(view: &View) -> Vec<(&str, usize)> {
    let columns = groups(view).into_iter().flat_map(|groups| &groups.columns);
    columns
        .filter_map(|column| match column.output {
            Output::Key(index) => Some((column.name.as_str(), index)),
            Output::Aggregate(_) => None,
        })
        .collect()
}

/// Columns that show aggregates: name, function, and which aggregate of the definition.
pub(crate) fn aggregate_columns(view: &View) -> Vec<(&str, Function, usize)> {
    let Some(groups) = groups(view) else { return Vec::new() };
    groups
        .columns
        .iter()
        .filter_map(|column| match column.output {
            Output::Aggregate(index) => {
                Some((column.name.as_str(), groups.aggregates[index].function, index))
            }
            Output::Key(_) => None,
        })
        .collect()
}

pub(crate) fn attribute(value: &Scalar) -> AttributeValue {
    match value {
        Scalar::Null => AttributeValue::Null(true),
        Scalar::Bool(value) => AttributeValue::Bool(*value),
        Scalar::Number(value) => AttributeValue::N(number::plain(value)),
        Scalar::Text(text) => AttributeValue::S(text.clone()),
    }
}

fn scalar(value: Option<&AttributeValue>) -> Option<Scalar> {
    Some(match value {
        None | Some(AttributeValue::Null(_)) => Scalar::Null,
        Some(AttributeValue::Bool(value)) => Scalar::Bool(*value),
        Some(AttributeValue::N(digits)) => Scalar::Number(number::read(digits).ok()?),
        Some(AttributeValue::S(text)) => Scalar::Text(text.clone()),
        Some(_) => return None,
    })
}

/// The columns in which two rows of a projection differ; all of them where there is no other row.
pub(crate) fn other_columns(view: &View, one: &Item, other: Option<&Item>) -> Vec<String> {
    if view.shows_all() {
        return whole::others(one, other);
    }
    let mut columns: Vec<String> = view.columns().into_iter().map(str::to_owned).collect();
    let Some(other) = other else { return columns };
    columns.retain(|name| match (scalar(one.get(name)), scalar(other.get(name))) {
        (Some(one), Some(other)) => one != other,
        _ => true,
    });
    columns
}

/// About what an item takes of a transaction's 4 MB.
pub(crate) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len() + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len() + 1,
        AttributeValue::Ss(texts) | AttributeValue::Ns(texts) => {
            texts.iter().map(|text| text.len() + 2).sum::<usize>() + 3
        }
        AttributeValue::Bs(values) => {
            values.iter().map(|bytes| bytes.as_ref().len() + 2).sum::<usize>() + 3
        }
        AttributeValue::L(values) => values.iter().map(|it| value_bytes(it) + 1).sum::<usize>() + 3,
        AttributeValue::M(members) => item_bytes(members) + members.len() + 3,
        _ => 1,
    }
}

/// The key of a row with this text.
pub(crate) fn key_item(key: &str) -> Item {
    Item::from([(ROW_KEY.to_owned(), AttributeValue::S(key.to_owned()))])
}

/// The key of a row of a view's table.
pub(crate) fn key_of(row: &Item) -> Option<&str> {
    row.get(ROW_KEY)?.as_s().ok().map(String::as_str)
}
