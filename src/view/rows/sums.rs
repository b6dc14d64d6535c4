//! What a group's row says, number by number.
//!
//! Separate from how rows are listed, because a check compares what is kept and not what is
//! shown: an average's two halves, the count behind a sum, the revision. Invariant: what is
//! written here is read back as it was. What it gives up: attributes that are not ours.

use super::{
    REVISION, ROW_KEY, ROWS, aggregate_columns, attribute, count_attribute, key_columns,
    sum_attribute,
};
use crate::{
    store::{
        Item,
        rows::{number, text, text_of},
    },
    view::{
        definition::View,
        number::{self as decimal, plain},
        scalar::{Scalar, decode_key},
        total::Addend,
    },
};
use aws_sdk_dynamodb::types::AttributeValue;
use bigdecimal::BigDecimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::str::FromStr as _;

/// The numbers of a group: items, and of each aggregate the values and their sum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    rows: BigDecimal,
    parts: Vec<(BigDecimal, BigDecimal)>,
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
        Self { rows: BigDecimal::default(), parts: vec![Default::default(); aggregates] }
    }

    /// Of how many aggregates it is.
    pub(crate) fn aggregates(&self) -> usize {
        self.parts.len()
    }

    /// Takes one item's addends in.
    pub(crate) fn add(&mut self, addends: &[Addend]) {
        self.rows += 1;
        for ((count, sum), addend) in self.parts.iter_mut().zip(addends) {
            *count += addend.count;
            if let Some(value) = &addend.sum {
                *sum += value;
            }
        }
    }

    /// The numbers, as digits, by the names of the row's attributes.
    pub(crate) fn told(&self, view: &View) -> Value {
        let amounts = amounts(view, self).into_iter();
        let told = amounts.map(|(name, value)| (name, Value::String(plain(value))));
        Value::Object(told.collect::<Map<_, _>>())
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
            part.0 = number_of(&count_attribute(name, function))?;
            if let Some(attribute) = sum_attribute(name, function) {
                part.1 = number_of(&attribute)?;
            }
        }
        let keys = decode_key(&key)?;
        let is_right = |(name, value)| match (item.get(name), value) {
            (None | Some(AttributeValue::Null(_)), Scalar::Null) => true,
            (found, value) => super::scalar(found) == Some(value),
        };
        key_values(view, &keys).all(is_right).then_some(sums)
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
    item
}

/// The names of all attributes that a row may have beside its key.
pub(crate) fn attributes(view: &View, aggregates: usize) -> Vec<String> {
    let zero = Sums::zero(aggregates);
    let mut names = vec![REVISION.to_owned()];
    names.extend(amounts(view, &zero).into_iter().map(|(name, _)| name));
    names.extend(key_columns(view).into_iter().map(|(name, _)| name.to_owned()));
    names
}

fn key_values<'v>(view: &'v View, keys: &[Scalar]) -> impl Iterator<Item = (&'v str, Scalar)> {
    let columns = key_columns(view).into_iter();
    columns.filter_map(|(name, index)| Some((name, keys.get(index)?.clone())))
}

/// Every number of a row and the attribute that holds it.
fn amounts<'s>(view: &View, sums: &'s Sums) -> Vec<(String, &'s BigDecimal)> {
    let mut amounts = vec![(ROWS.to_owned(), &sums.rows)];
    for (name, function, index) in aggregate_columns(view) {
        let Some((count, sum)) = sums.parts.get(index) else { continue };
        amounts.push((count_attribute(name, function), count));
        amounts.extend(sum_attribute(name, function).map(|attribute| (attribute, sum)));
    }
    amounts
}

/// Digits, all in one list: a cursor has many of them.
impl Serialize for Sums {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = self.parts.iter().flat_map(|(count, sum)| [count, sum]);
        serializer.collect_seq(std::iter::once(&self.rows).chain(parts).map(plain))
    }
}

impl<'de> Deserialize<'de> for Sums {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = Vec::<String>::deserialize(deserializer)?;
        let numbers: Result<Vec<_>, _> = digits.iter().map(|it| BigDecimal::from_str(it)).collect();
        let mut numbers = numbers.map_err(serde::de::Error::custom)?.into_iter();
        let rows = numbers.next().unwrap_or_default();
        let mut parts = Vec::new();
        while let (Some(count), Some(sum)) = (numbers.next(), numbers.next()) {
            parts.push((count, sum));
        }
        Ok(Self { rows, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sql;

    fn view() -> View {
        let text = "CREATE MATERIALIZED VIEW v AS
            SELECT a, count(*) AS n, avg(x) AS mean, sum(x) AS s FROM t GROUP BY a;";
        sql::parse(text).unwrap().remove(0)
    }

    fn sums() -> Sums {
        let mut sums = Sums::zero(3);
        let value = || Some(decimal::read("-1.50").unwrap());
        let addend = |sum| Addend { count: 1, sum };
        sums.add(&[addend(None), addend(value()), addend(value())]);
        sums.add(&[addend(None), Addend::default(), Addend::default()]);
        sums
    }

    #[test]
    fn a_row_and_a_cursor_are_read_as_they_were_written() {
        let item = row(&view(), "S2:EU", &sums(), 7);
        let expected = GroupRow { key: "S2:EU".into(), revision: 7, sums: Some(sums()) };
        assert_eq!(read(&view(), 3, &item), Some(expected));
        assert!(attributes(&view(), 3).iter().all(|name| item.contains_key(name)));
        assert_eq!(item.len(), attributes(&view(), 3).len() + 1);
        let text = serde_json::to_string(&sums()).unwrap();
        assert_eq!(serde_json::from_str::<Sums>(&text).unwrap(), sums());
        let told = sums().told(&view()).to_string();
        assert_eq!(
            told,
            r#"{"_n_mean":"1","_n_s":"1","_rows":"2","_sum_mean":"-1.5","n":"2","s":"-1.5"}"#
        );
    }

    #[test]
    fn a_row_that_is_not_as_it_was_written_says_nothing() {
        for (name, value) in
            [("n", text("2")), ("a", text("US")), ("_rev", text("x")), ("s", text(""))]
        {
            let mut item = row(&view(), "S2:EU", &sums(), 7);
            item.insert(name.to_owned(), value);
            assert_eq!(read(&view(), 3, &item).unwrap().sums, None, "{name}");
        }
        assert_eq!(read(&view(), 3, &Item::new()), None);
        let old = Item::from([(ROW_KEY.to_owned(), text("Z"))]);
        assert_eq!(read(&view(), 3, &old).unwrap().sums, Some(Sums::zero(3)));
    }
}
