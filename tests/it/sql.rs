//! The SQL of views against `SQLite`: any definition of the subset over any items.
//!
//! A generated view is run twice: its contributions summed up here, and its own SELECT by
//! `SQLite` over the same items with every path flattened to a typed column. Integers, text,
//! booleans and NULL are equal exactly, decimals and averages within 1e-9 relative, and every
//! sum of decimals also exactly, as `SQLite`'s own sum of scaled integers.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure")]

use bigdecimal::{BigDecimal, ToPrimitive};
use changefold::{
    event::Value,
    view::{
        definition::{Shape, View},
        evaluate::{Contribution, evaluate},
        scalar::Scalar,
        sql,
        total::{Total, finish},
    },
};
use proptest::prelude::*;
use rusqlite::{Connection, types::Value as Cell};
use std::{borrow::Cow, collections::BTreeMap};

/// Column of the flat table, path in the item. In a template `{i}` stands for either.
const COLUMNS: [(&str, &str, &str); 8] = [
    ("i", "INTEGER", "i"),
    ("j", "INTEGER", "m.j"),
    ("d", "REAL", "o.d"),
    ("e", "REAL", "m.e"),
    ("t", "TEXT", "t"),
    ("u", "TEXT", "m.n.\"deep u\""),
    ("b", "INTEGER", "b"),
    ("c", "INTEGER", "o.m.c"),
];

/// The values one item has; `None` is missing or null.
#[derive(Debug, Clone)]
struct Item {
    i: Option<i64>,
    j: Option<i64>,
    /// Hundredths.
    d: Option<i64>,
    e: Option<i64>,
    t: Option<&'static str>,
    u: Option<&'static str>,
    b: Option<bool>,
    c: Option<bool>,
    /// How numbers are spelled, and whether what is absent is missing or null.
    spelling: u8,
}

impl Item {
    fn number(&self, value: i64) -> Value<'static> {
        Value::Number(Cow::Owned(match self.spelling % 4 {
            0 => value.to_string(),
            1 => format!("{value}.0"),
            2 => format!("{value}E0"),
            _ => format!("{value}0e-1"),
        }))
    }

    fn decimal(&self, hundredths: i64) -> Value<'static> {
        let value = BigDecimal::new(hundredths.into(), 2);
        Value::Number(Cow::Owned(match self.spelling % 3 {
            0 => value.normalized().to_plain_string(),
            1 => format!("{hundredths}E-2"),
            _ => value.to_plain_string(),
        }))
    }

    fn value(&self) -> Value<'static> {
        let nulls = self.spelling & 16 != 0;
        let map = |members: Vec<(&'static str, Option<Value<'static>>)>| {
            let members = members.into_iter().filter(|(_, value)| nulls || value.is_some());
            Value::Map(
                members.map(|(name, value)| (name.into(), value.unwrap_or(Value::Null))).collect(),
            )
        };
        let deep = self.u.map(|text| map(vec![("deep u", Some(Value::Text(text.into())))]));
        let inner = map(vec![
            ("j", self.j.map(|value| self.number(value))),
            ("e", self.e.map(|value| self.decimal(value))),
            ("c", self.c.map(Value::Bool)),
            ("n", deep),
        ]);
        let empty = self.j.is_none() && self.e.is_none() && self.c.is_none() && self.u.is_none();
        map(vec![
            ("i", self.i.map(|value| self.number(value))),
            ("d", self.d.map(|value| self.decimal(value))),
            ("t", self.t.map(|text| Value::Text(text.into()))),
            ("b", self.b.map(Value::Bool)),
            ("m", (!empty || self.spelling & 32 != 0).then_some(inner)),
            // Never named by a view: of types SQL has no answer for.
            ("ignored", Some(Value::List(vec![Value::Null]))),
        ])
    }
}

const TEXTS: [&str; 8] = ["", "a", "Z", "é", "10", "9", "it's", "a\u{0301} 😀"];

fn any_item() -> impl Strategy<Value = Item> {
    let number = || prop::option::weighted(0.8, -5..6_i64);
    let decimal = || {
        prop::option::weighted(
            0.8,
            prop_oneof![Just(10), Just(20), Just(30), -300..300_i64, -99_999..100_000_i64],
        )
    };
    let text = || prop::option::weighted(0.8, prop::sample::select(TEXTS.as_slice()));
    let truth = || prop::option::weighted(0.7, any::<bool>());
    ((number(), number(), decimal(), decimal()), (text(), text(), truth(), truth(), any::<u8>()))
        .prop_map(|((i, j, d, e), (t, u, b, c, spelling))| Item {
            i,
            j,
            d,
            e,
            t,
            u,
            b,
            c,
            spelling,
        })
}

/// A numeric expression in whole numbers of `10^-scale`, as the user writes it and as an
/// integer of that scale.
#[derive(Debug, Clone)]
struct Numeric {
    plain: String,
    scaled: String,
    scale: u32,
}

impl Numeric {
    fn at_scale(&self, scale: u32) -> String {
        format!("({} * {})", self.scaled, 10_i64.pow(scale - self.scale))
    }
}

fn integer_leaf() -> impl Strategy<Value = Numeric> {
    prop_oneof![
        Just("{i}".to_owned()),
        Just("{j}".to_owned()),
        (-4..5_i64).prop_map(|n| n.to_string())
    ]
    .prop_map(|text| Numeric { plain: text.clone(), scaled: text, scale: 0 })
}

fn decimal_leaf() -> impl Strategy<Value = Numeric> {
    prop_oneof![
        3 => Just(("{d}".to_owned(), "{d_s}".to_owned())),
        3 => Just(("{e}".to_owned(), "{e_s}".to_owned())),
        1 => (-300..300_i64).prop_map(|n| {
            (BigDecimal::new(n.into(), 2).to_plain_string(), n.to_string())
        }),
    ]
    .prop_map(|(plain, scaled)| Numeric { plain, scaled, scale: 2 })
}

/// Adds operators: products of at most three leaves, so that scaled integers fit 64 bits.
fn combined(
    leaf: impl Strategy<Value = Numeric> + Clone + 'static,
) -> impl Strategy<Value = Numeric> {
    let two = (leaf.clone(), leaf.clone(), 0..4_u8).prop_map(|(a, b, operator)| {
        let scale = a.scale.max(b.scale);
        let sum = |sign: &str| Numeric {
            plain: format!("{} {sign} {}", a.plain, b.plain),
            scaled: format!("({} {sign} {})", a.at_scale(scale), b.at_scale(scale)),
            scale,
        };
        match operator {
            0 => sum("+"),
            1 => sum("-"),
            2 => Numeric {
                plain: format!("{} * {}", a.plain, b.plain),
                scaled: format!("({} * {})", a.scaled, b.scaled),
                scale: a.scale + b.scale,
            },
            _ => Numeric {
                plain: format!("-({})", a.plain),
                scaled: format!("(-({}))", a.scaled),
                scale: a.scale,
            },
        }
    });
    let three = (leaf.clone(), two.clone(), any::<bool>()).prop_map(|(a, b, product)| {
        if product {
            return Numeric {
                plain: format!("({}) * {}", b.plain, a.plain),
                scaled: format!("({} * {})", b.scaled, a.scaled),
                scale: a.scale + b.scale,
            };
        }
        let scale = a.scale.max(b.scale);
        Numeric {
            plain: format!("{} - ({})", a.plain, b.plain),
            scaled: format!("({} - {})", a.at_scale(scale), b.at_scale(scale)),
            scale,
        }
    });
    prop_oneof![3 => leaf, 2 => two, 1 => three]
}

fn comparison() -> impl Strategy<Value = &'static str> {
    prop::sample::select(["=", "<>", "!=", "<", "<=", ">", ">="].as_slice())
}

/// Predicates without needless parentheses: precedence is part of what is compared. Numbers
/// are compared only where `SQLite`'s floats are exact.
fn predicate() -> impl Strategy<Value = String> {
    let integers = || combined(integer_leaf().boxed()).prop_map(|numeric| numeric.plain);
    let decimal = prop_oneof![
        Just("{d}".to_owned()),
        Just("{e}".to_owned()),
        Just("0.1".to_owned()),
        Just("-2.50".to_owned()),
        Just("{i}".to_owned()),
    ];
    let text = prop_oneof![
        Just("{t}".to_owned()),
        Just("{u}".to_owned()),
        prop::sample::select(TEXTS.as_slice())
            .prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
    ];
    let truth = prop::sample::select(["{b}", "{c}", "TRUE", "FALSE", "{b}", "{c}"].as_slice());
    let tested =
        prop::sample::select(["{i}", "{j}", "{d}", "{e}", "{t}", "{u}", "{b}", "{c}"].as_slice());
    let leaf = prop_oneof![
        (integers(), comparison(), integers()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        (decimal.clone(), comparison(), decimal).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        (text.clone(), comparison(), text).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        (truth.clone(), comparison(), truth.clone())
            .prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        truth.prop_map(str::to_owned),
        (tested, any::<bool>())
            .prop_map(|(a, not)| format!("{a} IS {}NULL", if not { "NOT " } else { "" })),
        Just("{i} = NULL".to_owned()),
        Just("NULL".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| parts.join(" AND ")),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| parts.join(" OR ")),
            inner.clone().prop_map(|part| format!("NOT {part}")),
            inner.clone().prop_map(|part| format!("({part})")),
            inner.prop_map(|part| format!("({part}) IS NULL")),
        ]
    })
}

/// A SELECT column: its template, and for a sum of decimals the exact sum beside it.
#[derive(Debug, Clone)]
struct Column {
    text: String,
    exact: Option<(String, u32)>,
}

fn aggregate() -> impl Strategy<Value = Column> {
    let column = |text: String| Column { text, exact: None };
    let any = prop::sample::select(["{i}", "{e}", "{t}", "{u}", "{b}", "{c}"].as_slice());
    prop_oneof![
        Just(column("count(*)".to_owned())),
        any.prop_map(move |argument| column(format!("count({argument})"))),
        predicate().prop_map(move |argument| column(format!("COUNT({argument})"))),
        combined(integer_leaf().boxed()).prop_map(move |a| column(format!("sum({})", a.plain))),
        combined(integer_leaf().boxed()).prop_map(move |a| column(format!("avg({})", a.plain))),
        combined(decimal_leaf().boxed()).prop_map(move |a| column(format!("Avg({})", a.plain))),
        combined(prop_oneof![integer_leaf(), decimal_leaf()].boxed()).prop_map(|a| Column {
            text: format!("Sum({})", a.plain),
            exact: Some((format!("sum({})", a.scaled), a.scale)),
        }),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(["{i}", "{j}", "{d}", "{t}", "{u}", "{b}", "{c}"].as_slice())
            .prop_map(str::to_owned),
        1 => predicate(),
        1 => combined(integer_leaf().boxed()).prop_map(|number| number.plain + " + {i}"),
    ]
}

#[derive(Debug, Clone)]
struct Definition {
    columns: Vec<Column>,
    filter: Option<String>,
    keys: Vec<String>,
}

fn definition() -> impl Strategy<Value = Definition> {
    let filter = prop::option::weighted(0.7, predicate()).boxed();
    let grouped = (
        prop::collection::vec(key(), 0..3),
        prop::collection::vec(aggregate(), 1..4),
        filter.clone(),
        0..4_usize,
    )
        .prop_map(|(mut keys, mut columns, filter, shown)| {
            // `GROUP BY TRUE` and `GROUP BY NULL` are refused: they group by nothing.
            keys.retain(|key| key.contains('{'));
            for key in keys.iter().take(shown) {
                columns.insert(columns.len() / 2, Column { text: key.clone(), exact: None });
            }
            Definition { columns, filter, keys }
        });
    let plain =
        prop_oneof![key(), predicate(), combined(integer_leaf().boxed()).prop_map(|n| n.plain)];
    let rows = (prop::collection::vec(plain, 1..4), filter).prop_map(|(columns, filter)| {
        let columns = columns.into_iter().map(|text| Column { text, exact: None }).collect();
        Definition { columns, filter, keys: Vec::new() }
    });
    prop_oneof![3 => grouped, 1 => rows]
}

impl Definition {
    /// The SELECT, as the user writes it; `exact` puts scaled sums in place of decimal ones.
    fn select(&self, exact: bool) -> String {
        let columns: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| match &column.exact {
                Some((sum, _)) if exact => format!("{sum} AS x{index}"),
                _ => format!("{} AS x{index}", column.text),
            })
            .collect();
        let mut text = format!("SELECT {} FROM orders o", columns.join(", "));
        if let Some(filter) = &self.filter {
            text = format!("{text} WHERE {filter}");
        }
        if !self.keys.is_empty() {
            text = format!("{text} GROUP BY {}", self.keys.join(", "));
        }
        text
    }
}

/// Puts paths, or flat columns, in the places of a template.
fn fill(template: &str, flat: bool) -> String {
    COLUMNS.iter().fold(template.to_owned(), |text, (name, _, path)| {
        text.replace(&format!("{{{name}}}"), if flat { name } else { path })
            .replace(&format!("{{{name}_s}}"), &format!("{name}_s"))
    })
}

fn load(items: &[Item]) -> Connection {
    let database = Connection::open_in_memory().unwrap();
    let columns: Vec<_> = COLUMNS.iter().map(|(name, kind, _)| format!("{name} {kind}")).collect();
    let table = format!("CREATE TABLE orders ({}, d_s INTEGER, e_s INTEGER)", columns.join(", "));
    database.execute(&table, []).unwrap();
    let real = |hundredths: Option<i64>| {
        hundredths.map(|value| BigDecimal::new(value.into(), 2).to_f64().unwrap())
    };
    for item in items {
        let row = rusqlite::params![
            item.i,
            item.j,
            real(item.d),
            real(item.e),
            item.t,
            item.u,
            item.b,
            item.c,
            item.d,
            item.e
        ];
        let insert = "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        database.execute(insert, row).unwrap();
    }
    database
}

fn theirs(database: &Connection, select: &str) -> Vec<Vec<Cell>> {
    let mut statement = database.prepare(select).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect());
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// The view's rows, by summing up contributions.
fn ours(view: &View, items: &[Item]) -> Vec<Vec<Scalar>> {
    let mut rows = Vec::new();
    let mut groups: BTreeMap<Vec<Scalar>, Vec<Total>> = BTreeMap::new();
    let aggregates = match &view.shape {
        Shape::Groups(groups) => groups.aggregates.len(),
        Shape::Rows(_) => 0,
    };
    if matches!(&view.shape, Shape::Groups(groups) if groups.keys.is_empty()) {
        groups.insert(Vec::new(), vec![Total::default(); aggregates]);
    }
    for item in items {
        match evaluate(view, &item.value()).unwrap() {
            Contribution::Nothing => {}
            Contribution::Row(row) => rows.push(row),
            Contribution::Group { key, addends } => {
                let totals =
                    groups.entry(key).or_insert_with(|| vec![Total::default(); aggregates]);
                for (total, addend) in totals.iter_mut().zip(&addends) {
                    total.add(addend);
                }
            }
        }
    }
    rows.extend(groups.iter().map(|(key, totals)| finish(view, key, totals)));
    rows
}

/// Whether the cells are the same value; `scale` where theirs is an integer of that scale.
fn same(ours: &Scalar, theirs: &Cell, scale: Option<u32>) -> bool {
    match (ours, theirs) {
        (Scalar::Null, Cell::Null) => true,
        (Scalar::Bool(ours), Cell::Integer(theirs)) => i64::from(*ours) == *theirs,
        (Scalar::Text(ours), Cell::Text(theirs)) => ours == theirs,
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_view_has_the_rows_of_sqlite(
        definition in definition(),
        items in prop::collection::vec(any_item(), 0..25),
    ) {
        let text = fill(&definition.select(false), false);
        let view = sql::parse(&format!("CREATE MATERIALIZED VIEW v AS {text}"));
        let view = view.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?.remove(0);
        let ours = ours(&view, &items);
        let database = load(&items);

        let plain = fill(&definition.select(false), true);
        let rows = theirs(&database, &plain);
        let none = vec![None; definition.columns.len()];
        prop_assert!(same_rows(&ours, rows.clone(), &none), "{text}\n{ours:?}\n{rows:?}");

        let exact = fill(&definition.select(true), true);
        let scales: Vec<_> =
            definition.columns.iter().map(|column| Some(column.exact.as_ref()?.1)).collect();
        let rows = theirs(&database, &exact);
        prop_assert!(same_rows(&ours, rows.clone(), &scales), "{exact}\n{ours:?}\n{rows:?}");
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
