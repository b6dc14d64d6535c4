//! Rows that have all attributes of their item.
//!
//! Separate because such a view has no columns until its rows are read. The row has the attributes
//! as they are, lists, maps, sets and bytes too. Names that begin with `_` are ours, so that an
//! attribute of such a name is left out. As a value of a column, what is no scalar is its DynamoDB
//! JSON. Invariant: equal values are equal texts, whatever the order of members and sets. What it
//! gives up: an item that leaves no room for the key of its row, which is quarantined.

use super::{ROW_KEY, item_bytes, scalar};
use crate::{
    event::Value,
    store::{Item, rows::text},
    view::{evaluate::Poison, number, scalar::Scalar},
};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use base64_simd::STANDARD;
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeSet, fmt::Display};

/// The most bytes of a row: what DynamoDB takes, without room to count otherwise.
///
/// Source: DynamoDB developer guide, "Constraints", item size: 400 KB.
const BYTES_MAX: usize = 400_000;
/// How deep lists and maps may be inside each other; an item of a table is never deeper.
///
/// Source: the same, "Nested attribute depth".
const DEPTH_MAX: usize = 32;

/// The row of an item.
///
/// # Errors
/// No row can hold it.
pub(crate) fn row(key: &str, item: &Value<'_>) -> Result<Item, Poison> {
    let poison = |attribute: &str, expected: &str, found: &dyn Display| Poison {
        attribute: attribute.to_owned(),
        expected: expected.to_owned(),
        found: found.to_string(),
    };
    let Value::Map(members) = item else {
        return Err(poison("(item)", "M", &item.kind()));
    };
    let mut row = Item::new();
    for (name, value) in members.iter().filter(|(name, _)| is_shown(name)) {
        let unfit = |(expected, found): (&str, &str)| poison(name, expected, &found);
        row.insert(name.clone().into_owned(), attribute(value, 1).map_err(unfit)?);
    }
    row.insert(ROW_KEY.to_owned(), text(key));
    let bytes = item_bytes(&row);
    if bytes > BYTES_MAX {
        let expected = format!("a row of at most {BYTES_MAX} bytes with its key");
        return Err(poison("(item)", &expected, &format!("{bytes} bytes")));
    }
    Ok(row)
}

fn is_shown(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('_')
}

/// A value as it is stored; or what is expected in its place, and what was found.
fn attribute(
    value: &Value<'_>,
    depth: usize,
) -> Result<AttributeValue, (&'static str, &'static str)> {
    if depth > DEPTH_MAX {
        return Err(("lists and maps 32 deep", "deeper ones"));
    }
    let digits = |digits: &str| match number::read(digits) {
        Ok(_) => Ok(digits.to_owned()),
        Err(fault) => Err((fault.expected(), fault.found())),
    };
    Ok(match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::Number(number) => AttributeValue::N(digits(number)?),
        Value::Text(value) => text(value.clone()),
        Value::Binary(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
        Value::List(values) => {
            let values = values.iter().map(|value| attribute(value, depth + 1));
            AttributeValue::L(values.collect::<Result<_, _>>()?)
        }
        Value::Map(members) => {
            let member = |(name, value): &(std::borrow::Cow<'_, str>, Value<'_>)| {
                if name.is_empty() {
                    return Err(("members with names", "one without"));
                }
                Ok((name.clone().into_owned(), attribute(value, depth + 1)?))
            };
            AttributeValue::M(members.iter().map(member).collect::<Result<_, _>>()?)
        }
        Value::TextSet(set) => AttributeValue::Ss(set.iter().map(ToString::to_string).collect()),
        Value::NumberSet(set) => {
            AttributeValue::Ns(set.iter().map(|it| digits(it)).collect::<Result<_, _>>()?)
        }
        Value::BinarySet(set) => {
            AttributeValue::Bs(set.iter().map(|bytes| Blob::new(bytes.clone())).collect())
        }
    })
}

/// What a row shows: names and values by turns.
pub(super) fn members(row: &Item) -> Vec<Scalar> {
    let mut names: Vec<&String> = row.keys().filter(|name| is_shown(name)).collect();
    names.sort_unstable();
    let pair = |name: &String| [Scalar::Text(name.clone()), shown(row.get(name))];
    names.into_iter().flat_map(pair).collect()
}

/// The value of a column in what [`members`] gives.
pub(crate) fn member<'r>(row: &'r [Scalar], column: &str) -> Option<&'r Scalar> {
    let is_it = |pair: &&[Scalar]| matches!(&pair[0], Scalar::Text(name) if name == column);
    row.chunks_exact(2).find(is_it).map(|pair| &pair[1])
}

/// The columns of rows, and these in the order of those.
pub(super) fn in_columns(rows: &[Vec<Scalar>]) -> (Vec<String>, Vec<Vec<Scalar>>) {
    let names = rows.iter().flat_map(|row| row.iter().step_by(2));
    let names: BTreeSet<&Scalar> = names.collect();
    let columns: Vec<String> = names.iter().map(ToString::to_string).collect();
    let in_order = |row: &Vec<Scalar>| {
        let value = |name: &String| member(row, name).cloned().unwrap_or(Scalar::Null);
        columns.iter().map(value).collect()
    };
    let rows = rows.iter().map(in_order).collect();
    (columns, rows)
}

/// The attributes in which rows differ.
pub(super) fn others(one: &Item, other: Option<&Item>) -> Vec<String> {
    let Some(other) = other else {
        return one.keys().filter(|name| is_shown(name)).cloned().collect();
    };
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differs = |name: &&String| {
        one.contains_key(*name) != other.contains_key(*name)
            || shown(one.get(*name)) != shown(other.get(*name))
    };
    names.into_iter().filter(differs).cloned().collect()
}

fn shown(value: Option<&AttributeValue>) -> Scalar {
    scalar(value).unwrap_or_else(|| Scalar::Text(value.map(json).unwrap_or_default().to_string()))
}

fn json(value: &AttributeValue) -> Json {
    let digits = |digits: &String| match number::read(digits) {
        Ok(value) => number::plain(&value),
        Err(_) => digits.clone(),
    };
    let bytes = |blob: &Blob| STANDARD.encode_to_string(blob);
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": digits(number) }),
        AttributeValue::Bool(value) => json!({ "BOOL": value }),
        AttributeValue::Null(_) => json!({ "NULL": true }),
        AttributeValue::B(blob) => json!({ "B": bytes(blob) }),
        AttributeValue::L(values) => json!({ "L": values.iter().map(json).collect::<Vec<_>>() }),
        AttributeValue::M(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), json(value)));
            json!({ "M": members.collect::<Map<_, _>>() })
        }
        AttributeValue::Ss(set) => json!({ "SS": set.iter().collect::<BTreeSet<_>>() }),
        AttributeValue::Ns(set) => json!({ "NS": set.iter().map(digits).collect::<BTreeSet<_>>() }),
        AttributeValue::Bs(set) => json!({ "BS": set.iter().map(bytes).collect::<BTreeSet<_>>() }),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<'a>(members: &[(&'static str, Value<'a>)]) -> Value<'a> {
        Value::Map(members.iter().map(|(name, it)| ((*name).into(), it.clone())).collect())
    }

    #[test]
    fn a_row_has_every_attribute_that_is_not_called_as_ours_are() {
        let list = Value::List(vec![Value::Null, map(&[("x", Value::Bool(true))])]);
        let set = Value::NumberSet(vec!["2".into(), "1.0".into()]);
        let number = Value::Number("1.50".into());
        let item = map(&[("n", number), ("_rev", Value::Null), ("l", list), ("s", set)]);
        let (columns, rows) = in_columns(&[members(&row("S1:a", &item).unwrap()), vec![]]);
        assert_eq!(columns, ["l", "n", "s"]);
        let told: Vec<_> = rows[0].iter().map(ToString::to_string).collect();
        let list = r#"{"L":[{"NULL":true},{"M":{"x":{"BOOL":true}}}]}"#;
        assert_eq!(told, [list, "1.5", r#"{"NS":["1","2"]}"#]);
        assert_eq!(rows[1], [Scalar::Null, Scalar::Null, Scalar::Null]);
    }

    #[test]
    fn rows_differ_where_values_do_and_not_where_they_are_written_otherwise() {
        let of = |number: &'static str, text: Option<&'static str>| {
            let mut members = vec![("n", Value::List(vec![Value::Number(number.into())]))];
            members.extend(text.map(|text| ("t", Value::Text(text.into()))));
            row("k", &map(&members)).unwrap()
        };
        let one = of("1.0", Some("a"));
        assert_eq!(others(&one, Some(&of("1", Some("a")))), Vec::<String>::new());
        assert_eq!(others(&one, Some(&of("2", Some("b")))), ["n", "t"]);
        assert_eq!(others(&one, Some(&of("1", None))), ["t"]);
        assert_eq!(others(&one, None).len(), 2);
    }

    #[test]
    fn what_no_row_holds_is_refused() {
        let refused = |value: Value<'static>| row("k", &map(&[("a", value)])).unwrap_err();
        let nines = "9".repeat(39);
        assert_eq!(refused(Value::Number(nines.into())).attribute, "a");
        let deep = (0..40).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert_eq!(refused(deep).found, "deeper ones");
        assert_eq!(refused(map(&[("", Value::Null)])).found, "one without");
        let long = refused(Value::Text("x".repeat(BYTES_MAX).into()));
        assert_eq!((&*long.attribute, &*long.found), ("(item)", "400007 bytes"));
    }
}
