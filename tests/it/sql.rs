//! The SQL of views against `SQLite`: any definition of the subset over any items.
//!
//! A generated view is run twice: its contributions summed up here, and its own SELECT by
//! `SQLite` over the same items with every path flattened to a typed column. Integers, text,
//! booleans and NULL are equal exactly, decimals and averages within 1e-9 relative, and every
//! sum of decimals also exactly, as `SQLite`'s own sum of scaled integers. An item with a
//! value of a wrong type is in both or in neither.
//!
//! `PROPTEST_CASES=20000 cargo test --all-features --test it sql::` runs 20,000 of each.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure")]

mod differences;
mod expressions;
pub(crate) mod items;
pub(crate) mod operators;

use bigdecimal::{BigDecimal, ToPrimitive};
use changefold::view::{
    definition::{Shape, View},
    evaluate::{Addition, Contribution, Poison, evaluate_joined, reference},
    number,
    scalar::Scalar,
    sql,
    total::{Addend, finish, totals},
};
use items::{Item, Names, any_item, any_names, load};
use operators::{Definition, definition, fill};
use proptest::prelude::*;
use rusqlite::{Connection, types::Value as Cell};
use std::collections::BTreeMap;

fn theirs(database: &Connection, select: &str) -> Vec<Vec<Cell>> {
    let mut statement = database.prepare(select).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect());
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// The view's rows, by summing up contributions, and the items that are in it: those with a
/// value of a wrong type may be none of its.
fn ours<'i>(view: &View, items: &'i [Item], names: &Names) -> (Vec<Vec<Scalar>>, Vec<&'i Item>) {
    let (mut rows, mut taken) = (Vec::new(), Vec::new());
    let mut groups: BTreeMap<Vec<Scalar>, Vec<Vec<Addend>>> = BTreeMap::new();
    if matches!(&view.shape, Shape::Groups(groups) if groups.keys.is_empty()) {
        groups.insert(Vec::new(), Vec::new());
    }
    for item in items {
        let contribution = match contribution(view, item, names) {
            Ok(contribution) => contribution,
            Err(poison) if item.wrong.is_none() => panic!("{view}: {item:?}: {poison}"),
            Err(_) => continue,
        };
        taken.push(item);
        match contribution {
            Contribution::Nothing => {}
            Contribution::Row(row) => rows.push(row),
            Contribution::Groups(added) => {
                for Addition { key, addends } in added {
                    groups.entry(key).or_default().push(addends);
                }
            }
        }
    }
    if let Shape::Groups(definition) = &view.shape {
        rows.extend(groups.iter().map(|(key, items)| {
            finish(view, key, &totals(definition, items.iter().map(Vec::as_slice)))
        }));
    }
    (rows, taken)
}

/// What an item contributes to a view, with the one that it names, if it is to have that.
pub(crate) fn contribution(
    view: &View,
    item: &Item,
    names: &Names,
) -> Result<Contribution, Poison> {
    let item = item.value();
    let joined = match &view.join {
        None => None,
        Some(join) => reference(join, &item)?.and_then(|key| {
            let is_it = |named: &i64| key == Scalar::Number((*named).into());
            names.iter().find(|(named, _)| is_it(named)).map(|(key, named)| named.value(*key))
        }),
    };
    evaluate_joined(view, &item, joined.as_ref())
}

/// Whether the cells are the same value; `scale` where theirs is an integer of that scale.
fn same(ours: &Scalar, theirs: &Cell, scale: Option<u32>) -> bool {
    match (ours, theirs) {
        (Scalar::Null, Cell::Null) => true,
        (Scalar::Bool(ours), Cell::Integer(theirs)) => i64::from(*ours) == *theirs,
        (Scalar::Text(ours), Cell::Text(theirs)) => ours == theirs,
        // Numbers of 38 digits are text to `SQLite`, and so is a number among texts.
        (Scalar::Number(ours), Cell::Text(theirs)) => number::plain(ours) == *theirs,
        (Scalar::Number(ours), Cell::Integer(theirs)) => {
            *ours == BigDecimal::new((*theirs).into(), i64::from(scale.unwrap_or(0)))
        }
        (Scalar::Number(ours), Cell::Real(theirs)) => {
            // Sums of values up to 10^9 that cancel have no relative precision left.
            let ours = ours.to_f64().unwrap();
            (ours - theirs).abs() <= 1e-9 * ours.abs().max(theirs.abs()).max(1e3)
        }
        _ => false,
    }
}

/// Finds for each of our rows one of theirs, and the other way round.
fn same_rows(ours: &[Vec<Scalar>], mut theirs: Vec<Vec<Cell>>, scales: &[Option<u32>]) -> bool {
    ours.len() == theirs.len()
        && ours.iter().all(|row| {
            let found = theirs.iter().position(|other| {
                row.iter().zip(other).zip(scales).all(|((a, b), scale)| same(a, b, *scale))
            });
            found.map(|at| theirs.swap_remove(at)).is_some()
        })
}

/// One pair of a view and items, against `SQLite`.
fn check(definition: &Definition, items: &[Item], names: &Names) -> Result<(), TestCaseError> {
    let text = definition.statement();
    let view = sql::parse(&text);
    let view = view.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?.remove(0);
    let (ours, taken) = ours(&view, items, names);
    same_as_sqlite(definition, &ours, (&taken, names))
}

/// Whether these are the view's rows over the items, by `SQLite`.
pub(crate) fn same_as_sqlite(
    definition: &Definition,
    ours: &[Vec<Scalar>],
    (taken, names): (&[&Item], &Names),
) -> Result<(), TestCaseError> {
    let text = definition.statement();
    let database = load(taken, names);

    let plain = fill(&definition.select(false), true);
    let rows = theirs(&database, &plain);
    let none = vec![None; definition.columns.len()];
    prop_assert!(same_rows(ours, rows.clone(), &none), "{text}\n{plain}\n{ours:?}\n{rows:?}");

    let exact = fill(&definition.select(true), true);
    let scales: Vec<_> =
        definition.columns.iter().map(|column| Some(column.exact.as_ref()?.1)).collect();
    let rows = theirs(&database, &exact);
    prop_assert!(same_rows(ours, rows.clone(), &scales), "{exact}\n{ours:?}\n{rows:?}");
    Ok(())
}

/// So many cases, or as many as `PROPTEST_CASES` says.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    let told = config.cases != 256;
    config.cases = if told { config.cases } else { usual };
    config.max_shrink_iters = 200;
    config
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn every_view_has_the_rows_of_sqlite(
        definition in definition(),
        items in prop::collection::vec(any_item(), 0..25),
        names in any_names(),
    ) {
        check(&definition, &items, &names)?;
    }
}

proptest! {
    #![proptest_config(cases(1400))]

    #[test]
    fn every_expression_has_the_values_of_sqlite(
        definition in expressions::definition(),
        items in prop::collection::vec(any_item(), 0..25),
        names in any_names(),
    ) {
        check(&definition, &items, &names)?;
    }
}

/// The oracle must notice a wrong row, or it proves nothing.
#[test]
fn a_wrong_row_is_noticed() {
    let number = |text: &str| Scalar::Number(text.parse().unwrap());
    let ours = vec![vec![number("1.5"), Scalar::Null], vec![number("2"), Scalar::Bool(true)]];
    let row = |sum: f64, last: Cell| vec![Cell::Real(sum), last];
    let right = vec![vec![Cell::Integer(2), Cell::Integer(1)], row(1.5, Cell::Null)];
    assert!(same_rows(&ours, right.clone(), &[None, None]));
    assert!(!same_rows(&ours, right[..1].to_vec(), &[None, None]));
    for wrong in [row(1.51, Cell::Null), row(1.5, Cell::Integer(0)), row(2.0, Cell::Null)] {
        assert!(!same_rows(&ours, vec![right[0].clone(), wrong], &[None, None]));
    }
    assert!(same(&number("1.5"), &Cell::Integer(150), Some(2)));
    assert!(!same(&number("1.5"), &Cell::Integer(151), Some(2)));
    assert!(!same(&Scalar::Text(String::new()), &Cell::Null, None));
}
