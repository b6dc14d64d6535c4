//! What the store says, compared with itself: rows and values against the ledger.
//!
//! It reads the tables as anybody does, by the layout of `docs/views.md`, and knows nothing of how
//! they came to be.

use changefold::{
    store::embedded::Embedded,
    view::scalar::{Scalar, decode_key, encode_value},
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Its name, its function, and the aggregate that has its values.
type Column = (&'static str, &'static str, usize);
/// A group, and counts with sums or values.
type Added = (String, Vec<(u64, Option<String>)>);

/// What the ledger says of an item and a view.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Contribution {
    /// An item that others are joined with.
    Mark(#[expect(dead_code, reason = "it tells this from the others")] String),
    /// A row of a projection.
    Row(#[expect(dead_code, reason = "it tells this from the others")] bool),
    One(Added),
    OfElements(Vec<Added>),
}

/// The aggregates of the views of the test: column, function, and where its values are.
const COLUMNS: [(&str, &[Column]); 11] = [
    ("ends", &[("n", "count", 0), ("lo", "min", 1), ("hi", "max", 1), ("d", "count distinct", 1)]),
    (
        "numbers",
        &[
            ("lo", "min", 0),
            ("s", "sum distinct", 0),
            ("small", "max", 2),
            ("any_large", "bool", 3),
            ("total", "sum", 4),
        ],
    ),
    ("names", &[("groups", "count distinct", 0), ("last", "max", 1)]),
    ("lines", &[("n", "count", 0), ("total", "sum", 1), ("lo", "min", 2)]),
    ("by_country", &[("n", "count", 0), ("total", "sum", 1), ("weighted", "sum", 2)]),
    ("countries", &[("lo", "min", 0), ("d", "count distinct", 1)]),
    ("sizes", &[("n", "count", 0), ("total", "sum", 1)]),
    ("most", &[("n", "count", 0), ("with_y", "count", 1)]),
    ("least", &[("n", "count", 0), ("total", "sum", 1)]),
    ("largest", &[("lo", "min", 0), ("hi", "max", 1)]),
    ("varied", &[("d", "count distinct", 0)]),
];

/// By which column views tell their first groups.
const FIRST_BY: [(&str, &str); 4] =
    [("most", "n"), ("least", "total"), ("largest", "hi"), ("varied", "d")];

type Rows = Vec<Map<String, Value>>;

pub(super) fn scan(store: &Embedded, table: &str) -> Rows {
    let request = json!({ "TableName": table }).to_string();
    let (status, answer) = store.answer("DynamoDB_20120810.Scan", request.as_bytes());
    if status != 200 {
        return Vec::new();
    }
    let mut answer: Value = serde_json::from_str(&answer).unwrap();
    let items = answer["Items"].take();
    serde_json::from_value(items).unwrap()
}

/// A group by its view and key: its items, and by aggregate count, sum and values.
#[derive(Default)]
struct Group {
    items: u64,
    parts: BTreeMap<usize, (u64, bigdecimal::BigDecimal)>,
    values: BTreeMap<usize, BTreeMap<Scalar, u64>>,
}

fn groups(store: &Embedded) -> BTreeMap<(String, String), Group> {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    for row in scan(store, "ledger") {
        let Some(text) = row.get("c").and_then(|c| c["S"].as_str()) else { continue };
        let contributions: BTreeMap<String, Contribution> = serde_json::from_str(text).unwrap();
        let added = contributions.into_iter().flat_map(|(view, contribution)| {
            let added = match contribution {
                Contribution::Mark(_) | Contribution::Row(_) => Vec::new(),
                Contribution::One(added) => vec![added],
                Contribution::OfElements(added) => added,
            };
            added.into_iter().map(move |(key, addends)| (view.clone(), key, addends))
        });
        for (view, key, addends) in added {
            let group = groups.entry((view, key)).or_default();
            group.items += 1;
            for (at, (count, text)) in addends.into_iter().enumerate() {
                let part = group.parts.entry(at).or_default();
                part.0 += count;
                match text.as_deref().map(|text| (text, text.parse())) {
                    Some((_, Ok(sum))) => part.1 += bigdecimal::BigDecimal::clone(&sum),
                    Some((text, Err(_))) => {
                        let value = decode_key(text).unwrap().remove(0);
                        *group.values.entry(at).or_default().entry(value).or_default() += 1;
                    }
                    None => {}
                }
            }
        }
    }
    groups
}

/// What differs, if anything does.
pub(super) fn check(store: &Embedded) -> Result<(), String> {
    let groups = groups(store);
    let mut expected = BTreeMap::new();
    for ((view, key), group) in &groups {
        for (keeper, values) in &group.values {
            for (value, items) in values {
                let partition = format!("{view}~1#{keeper}#{key}");
                expected.insert((partition, encode_value(value)), items.to_string());
            }
        }
    }
    let text = |row: &Map<String, Value>, name: &str| row[name]["S"].as_str().unwrap().to_owned();
    let found: BTreeMap<_, _> = scan(store, "ledger-values")
        .iter()
        // The others are of joins.
        .filter(|row| row.contains_key("n"))
        .map(|row| ((text(row, "pk"), text(row, "sk")), row["n"]["N"].as_str().unwrap().to_owned()))
        .collect();
    if found != expected {
        return Err(format!("values {found:?}\n  instead of {expected:?}"));
    }
    for (view, columns) in COLUMNS {
        let rows = scan(store, view);
        let mut keys: BTreeSet<String> = rows.iter().map(|row| text(row, "_pk")).collect();
        keys.extend(groups.keys().filter(|(of, _)| of == view).map(|(_, key)| key.clone()));
        for key in keys {
            let none = Group::default();
            let group = groups.get(&(view.to_owned(), key.clone())).unwrap_or(&none);
            let row = rows.iter().find(|row| text(row, "_pk") == key);
            let row = row.ok_or_else(|| format!("{view} has no row {key}"))?;
            let first_by = FIRST_BY.iter().find(|(of, _)| *of == view).map(|(_, column)| *column);
            check_row(row, columns, group)
                .and_then(|()| check_index(row, (columns, first_by), group))
                .map_err(|what| format!("{view} {key}: {what}"))?;
        }
    }
    Ok(())
}

/// A row is in the index, by the attributes of its keys, exactly if the group has what it is by.
fn check_index(
    row: &Map<String, Value>,
    (columns, first_by): (&[Column], Option<&str>),
    group: &Group,
) -> Result<(), String> {
    let Some((name, function, at)) = columns.iter().find(|(name, ..)| Some(*name) == first_by)
    else {
        return Ok(());
    };
    let values = group.values.get(at);
    let last = values.and_then(|values| values.keys().next_back()).map(encode_value);
    let (sorts_by, is_expected) = match *function {
        "max" => ("_by", last.is_some()),
        "sum" => (*name, group.parts.get(at).is_some_and(|(count, _)| *count > 0)),
        _ => (*name, group.items > 0),
    };
    let is_in = row.contains_key("_top") && row.contains_key(sorts_by);
    let last = last.filter(|_| *function == "max");
    if is_in != is_expected || last != row.get("_by").map(|it| it["S"].as_str().unwrap().to_owned())
    {
        return Err(format!("{row:?} is in the index: {is_in}, not {is_expected}, by {last:?}"));
    }
    Ok(())
}

fn check_row(row: &Map<String, Value>, columns: &[Column], group: &Group) -> Result<(), String> {
    let number = |name: &str| {
        let digits = row.get(name).map_or("0", |it| it["N"].as_str().unwrap_or("no number"));
        digits.parse::<bigdecimal::BigDecimal>().unwrap()
    };
    let is = |name: &str, found: String, expected: String| {
        if found == expected { Ok(()) } else { Err(format!("{name} is {found}, not {expected}")) }
    };
    let numbers = |name: &str, expected: bigdecimal::BigDecimal| {
        is(name, number(name).normalized().to_string(), expected.normalized().to_string())
    };
    numbers("_rows", group.items.into())?;
    let none = BTreeMap::new();
    for &(column, function, at) in columns {
        let (count, sum) = group.parts.get(&at).cloned().unwrap_or_default();
        let values = group.values.get(&at).unwrap_or(&none);
        let shown = row.get(column).cloned().unwrap_or(Value::Null);
        let attribute = |value: Option<&Scalar>| match value {
            None => Value::Null,
            Some(Scalar::Text(text)) => json!({ "S": text }),
            Some(other) => json!({ "N": other.to_string() }),
        };
        match function {
            "count" => numbers(column, count.into())?,
            "sum" => numbers(column, sum)?,
            "bool" => numbers(&format!("_true_{column}"), sum)?,
            "count distinct" => numbers(column, (values.len() as u64).into())?,
            "sum distinct" => {
                let sum = values.keys().map(|value| match value {
                    Scalar::Number(value) => value.clone(),
                    other => panic!("{other}"),
                });
                numbers(column, sum.sum())?;
                numbers(&format!("_n_{column}"), (values.len() as u64).into())?;
            }
            "min" => is(column, shown.to_string(), attribute(values.keys().next()).to_string())?,
            "max" => {
                is(column, shown.to_string(), attribute(values.keys().next_back()).to_string())?;
            }
            other => panic!("{other}"),
        }
    }
    Ok(())
}
