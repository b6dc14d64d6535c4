//! What a group's row says, number by number.
//!
//! Separate from how rows are listed, because a check compares what is kept and not what is
//! shown: an average's two halves, the count behind a sum, the revision. Invariant: what is
//! written here is read back as it was. What it gives up: attributes that are not ours.

use super::{
    REVISION, ROW_KEY, ROWS, aggregate_columns, attribute, count_attribute,
    extremes::{ExtremeColumn, extreme_columns},
    groups, key_columns,
    ranked::Ranking,
    retained, sum_attribute,
};
use crate::{
    store::{
        Item,
        rows::{number, text, text_of},
    },
    view::{
        definition::{Function, Groups, View},
        number::{self as decimal, plain},
        scalar::{Scalar, decode_key, encode_key},
        total::{Addend, summand},
    },
};
use aws_sdk_dynamodb::types::AttributeValue;
use bigdecimal::BigDecimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, str::FromStr as _};

/// The numbers of a group: items, and of each aggregate the values and their sum; and the
/// smallest or largest value where that is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    rows: BigDecimal,
    parts: Vec<(BigDecimal, BigDecimal)>,
    extremes: BTreeMap<usize, Scalar>,
}

/// A row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupRow {
    /// Key of the row.
    pub(crate) key: String,
    /// How many transactions have changed it; 0 where it is from before this was counted.
    pub(crate) revision: u64,
    /// Its numbers; none if an attribute is not as changefold writes it.
    pub(crate) sums: Option<Sums>,
}

impl Sums {
    /// Nothing of so many aggregates.
    pub(crate) fn zero(aggregates: usize) -> Self {
        let parts = vec![Default::default(); aggregates];
        Self { rows: BigDecimal::default(), parts, extremes: BTreeMap::new() }
    }

    /// Of how many aggregates it is.
    pub(crate) fn aggregates(&self) -> usize {
        self.parts.len()
    }

    /// Takes one item's addends in. How many values are different does not follow from them one
    /// by one ([`count_different`](Self::count_different)).
    pub(crate) fn add(&mut self, groups: &Groups, addends: &[Addend]) {
        self.rows += 1;
        for ((count, sum), addend) in self.parts.iter_mut().zip(addends) {
            *count += addend.count;
            if let Some(value) = &addend.sum {
                *sum += value;
            }
        }
        for column in extreme_columns(groups) {
            let value = addends.get(column.keeper).and_then(|addend| addend.value.clone());
            self.show(column, value);
        }
    }

    /// The smallest and largest values that are texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.extremes.values().filter_map(|value| match value {
            Scalar::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    fn show(&mut self, column: ExtremeColumn<'_>, value: Option<Scalar>) {
        let best = column.best(self.extremes.remove(&column.aggregate), value);
        self.extremes.extend(best.map(|best| (column.aggregate, best)));
    }

    /// Forgets how many values are different.
    pub(crate) fn forget_different(&mut self, groups: &Groups) {
        for (part, aggregate) in self.parts.iter_mut().zip(&groups.aggregates) {
            if is_distinct(aggregate.function) {
                *part = Default::default();
            }
        }
    }

    /// Takes in that there is such a value, for the aggregates whose values this one keeps.
    pub(crate) fn count_different(&mut self, groups: &Groups, keeper: usize, value: &Scalar) {
        for (at, part) in self.parts.iter_mut().enumerate() {
            let Some(function) = groups.aggregates.get(at).map(|one| one.function) else {
                continue;
            };
            if is_distinct(function) && groups.values_of(at) == Some(keeper) {
                part.0 += 1;
                if function == Function::SumDistinct {
                    part.1 += summand(value);
                }
            }
        }
    }

    /// The numbers, as digits, by the names of the row's attributes.
    pub(crate) fn told(&self, view: &View) -> Value {
        let amounts = amounts(view, self).into_iter();
        let told = amounts.map(|(name, value)| (name, Value::String(plain(value))));
        let extremes = self.shown(view);
        let extremes =
            extremes.map(|(name, value)| (name.to_owned(), Value::String(value.to_string())));
        Value::Object(told.chain(extremes).collect::<Map<_, _>>())
    }

    /// The smallest and largest values by the names of their columns.
    fn shown<'v>(&'v self, view: &'v View) -> impl Iterator<Item = (&'v str, &'v Scalar)> {
        let columns = groups(view).into_iter().flat_map(extreme_columns);
        columns.filter_map(|it| Some((it.name, self.extremes.get(&it.aggregate)?)))
    }
}

/// Reads a row of a view with groups; none if it has no key.
pub(crate) fn read(view: &View, aggregates: usize, item: &Item) -> Option<GroupRow> {
    let key = text_of(item, ROW_KEY)?.to_owned();
    let number_of = |name: &str| match item.get(name) {
        None => Some(BigDecimal::default()),
        Some(value) => decimal::read(value.as_n().ok()?).ok(),
    };
    let sums = || {
        let mut sums = Sums { rows: number_of(ROWS)?, ..Sums::zero(aggregates) };
        for (name, function, index) in aggregate_columns(view) {
            let part = sums.parts.get_mut(index)?;
            if let Some(attribute) = count_attribute(name, function) {
                part.0 = number_of(&attribute)?;
            }
            if let Some(attribute) = sum_attribute(name, function) {
                part.1 = number_of(&attribute)?;
            }
        }
        for column in groups(view).into_iter().flat_map(extreme_columns) {
            sums.show(column, column.read(Some(item)).ok()?);
        }
        let keys = decode_key(&key)?;
        let is_right = |(name, value)| match (item.get(name), value) {
            (None | Some(AttributeValue::Null(_)), Scalar::Null) => true,
            (found, value) => super::scalar(found) == Some(value),
        };
        let is_ranked = Ranking::of(view).is_none_or(|ranking| ranking.is_right(item));
        let is_dated = retained::is_right(view, &key, item);
        (is_ranked && is_dated && key_values(view, &keys).all(is_right)).then_some(sums)
    };
    let revision = number_of(REVISION).and_then(|it| it.to_string().parse().ok());
    Some(GroupRow {
        sums: sums().filter(|_| revision.is_some()),
        revision: revision.unwrap_or(0),
        key,
    })
}

/// The row that says this, at a revision.
pub(crate) fn row(view: &View, key: &str, sums: &Sums, revision: u64) -> Item {
    let mut item =
        Item::from([(ROW_KEY.to_owned(), text(key)), (REVISION.to_owned(), number(revision))]);
    let keys = decode_key(key).unwrap_or_default();
    item.extend(key_values(view, &keys).map(|(name, value)| (name.to_owned(), attribute(&value))));
    let amounts = amounts(view, sums).into_iter();
    item.extend(amounts.map(|(name, value)| (name, AttributeValue::N(plain(value)))));
    item.extend(sums.shown(view).map(|(name, value)| (name.to_owned(), attribute(value))));
    item.extend(retained::ends_at(view, key).map(|at| (retained::TTL.to_owned(), number(at))));
    if let Some(ranking) = Ranking::of(view) {
        ranking.show(&mut item);
    }
    item
}

/// The names of all attributes that a row may have beside its key.
pub(crate) fn attributes(view: &View, aggregates: usize) -> Vec<String> {
    let zero = Sums::zero(aggregates);
    let mut names = vec![REVISION.to_owned()];
    names.extend(amounts(view, &zero).into_iter().map(|(name, _)| name));
    names.extend(key_columns(view).into_iter().map(|(name, _)| name.to_owned()));
    let extremes = groups(view).into_iter().flat_map(extreme_columns);
    names.extend(extremes.map(|column| column.name.to_owned()));
    let ranking = Ranking::of(view);
    names.extend(ranking.iter().flat_map(Ranking::attributes).map(str::to_owned));
    names
}

fn key_values<'v>(view: &'v View, keys: &[Scalar]) -> impl Iterator<Item = (&'v str, Scalar)> {
    let columns = key_columns(view).into_iter();
    columns.filter_map(|(name, index)| Some((name, keys.get(index)?.clone())))
}

const fn is_distinct(function: Function) -> bool {
    matches!(function, Function::CountDistinct | Function::SumDistinct)
}

/// Every number of a row and the attribute that holds it.
fn amounts<'s>(view: &View, sums: &'s Sums) -> Vec<(String, &'s BigDecimal)> {
    let mut amounts = vec![(ROWS.to_owned(), &sums.rows)];
    for (name, function, index) in aggregate_columns(view) {
        let Some((count, sum)) = sums.parts.get(index) else { continue };
        amounts.extend(count_attribute(name, function).map(|attribute| (attribute, count)));
        amounts.extend(sum_attribute(name, function).map(|attribute| (attribute, sum)));
    }
    amounts
}

/// What stands before a smallest or largest value in the list.
const EXTREME: char = '@';

/// Digits, all in one list: a cursor has many of them. Values come last, each with its aggregate.
impl Serialize for Sums {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = self.parts.iter().flat_map(|(count, sum)| [count, sum]);
        let numbers = std::iter::once(&self.rows).chain(parts).map(plain);
        let extremes = self.extremes.iter().map(|(at, value)| {
            format!("{EXTREME}{at} {}", encode_key(std::slice::from_ref(value)))
        });
        serializer.collect_seq(numbers.chain(extremes))
    }
}

impl<'de> Deserialize<'de> for Sums {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = Vec::<String>::deserialize(deserializer)?;
        let (values, digits): (Vec<_>, Vec<_>) =
            digits.iter().partition(|text| text.starts_with(EXTREME));
        let extreme = |text: &String| {
            let (at, key) = text.strip_prefix(EXTREME)?.split_once(' ')?;
            Some((at.parse().ok()?, decode_key(key)?.pop()?))
        };
        let extremes = values.into_iter().filter_map(extreme).collect();
        let numbers: Result<Vec<_>, _> = digits.iter().map(|it| BigDecimal::from_str(it)).collect();
        let mut numbers = numbers.map_err(serde::de::Error::custom)?.into_iter();
        let rows = numbers.next().unwrap_or_default();
        let mut parts = Vec::new();
        while let (Some(count), Some(sum)) = (numbers.next(), numbers.next()) {
            parts.push((count, sum));
        }
        Ok(Self { rows, parts, extremes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sql;

    fn view() -> View {
        let text = "CREATE MATERIALIZED VIEW v AS
            SELECT a, count(*) AS n, avg(x) AS mean, sum(x) AS s, min(y) AS lo, max(y) AS hi,
              count(DISTINCT y) AS d, sum(DISTINCT y) AS e FROM t GROUP BY a;";
        sql::parse(text).unwrap().remove(0)
    }

    fn sums() -> Sums {
        let view = view();
        let groups = groups(&view).unwrap();
        let mut sums = Sums::zero(7);
        let value = || Some(decimal::read("-1.50").unwrap());
        let addend = |sum| Addend { count: 1, sum, value: None };
        let kept = |value| Addend { value: Some(value), ..Addend::default() };
        let (three, text) = (Scalar::Number(3.into()), Scalar::Text("@1".into()));
        sums.add(groups, &[addend(None), addend(value()), addend(value()), kept(three.clone())]);
        let none = Addend::default;
        sums.add(groups, &[addend(None), none(), none(), kept(text.clone())]);
        sums.count_different(groups, 3, &Scalar::Number(9.into()));
        sums.forget_different(groups);
        sums.count_different(groups, 3, &three);
        sums.count_different(groups, 3, &text);
        sums
    }

    #[test]
    fn a_row_and_a_cursor_are_read_as_they_were_written() {
        let item = row(&view(), "S2:EU", &sums(), 7);
        let expected = GroupRow { key: "S2:EU".into(), revision: 7, sums: Some(sums()) };
        assert_eq!(read(&view(), 7, &item), Some(expected));
        assert!(attributes(&view(), 7).iter().all(|name| item.contains_key(name)));
        assert_eq!(item.len(), attributes(&view(), 7).len() + 1);
        let text = serde_json::to_string(&sums()).unwrap();
        assert_eq!(serde_json::from_str::<Sums>(&text).unwrap(), sums());
        let told = sums().told(&view()).to_string();
        assert_eq!(
            told,
            r#"{"_n_e":"2","_n_mean":"1","_n_s":"1","_rows":"2","_sum_mean":"-1.5","d":"2","e":"3","hi":"@1","lo":"3","n":"2","s":"-1.5"}"#
        );
    }

    #[test]
    fn a_row_that_is_not_as_it_was_written_says_nothing() {
        for (name, value) in [
            ("n", text("2")),
            ("a", text("US")),
            ("_rev", text("x")),
            ("s", text("")),
            ("lo", AttributeValue::L(vec![])),
        ] {
            let mut item = row(&view(), "S2:EU", &sums(), 7);
            item.insert(name.to_owned(), value);
            assert_eq!(read(&view(), 7, &item).unwrap().sums, None, "{name}");
        }
        assert_eq!(read(&view(), 7, &Item::new()), None);
        let old = Item::from([(ROW_KEY.to_owned(), text("Z"))]);
        assert_eq!(read(&view(), 7, &old).unwrap().sums, Some(Sums::zero(7)));
    }
}
