//! Items of every shape, and the flat table of the same for `SQLite`.

use bigdecimal::{BigDecimal, ToPrimitive};
use changefold::event::Value;
use proptest::prelude::*;
use rusqlite::{Connection, types::Value as Cell};
use serde_json::json;
use std::{borrow::Cow, collections::BTreeMap};

/// Column of the flat table, path in the item. In a template `{i}` stands for either.
pub(super) const COLUMNS: [(&str, &str, &str); 11] = [
    ("i", "INTEGER", "i"),
    ("j", "INTEGER", "m.j"),
    ("d", "REAL", "o.d"),
    ("e", "REAL", "m.e"),
    ("t", "TEXT", "t"),
    ("u", "TEXT", "m.n.\"deep u\""),
    ("b", "INTEGER", "b"),
    ("c", "INTEGER", "o.m.c"),
    // A time, a list and a number of 38 digits: text for `SQLite`.
    ("z", "TEXT", "z"),
    ("l", "TEXT", "o.l"),
    ("g", "TEXT", "g"),
];

/// What is in an element of the list `o.lines`, by its path in the element.
pub(super) const OF_ELEMENT: [(&str, &str); 2] = [("n", "n"), ("w", "m.w")];

/// What is in an item that others name, by its path in it; its key is `k`.
pub(super) const OF_NAMED: [(&str, &str); 3] = [("p", "i"), ("q", "m.t"), ("r", "b")];

/// An element of a list: a number and a text, if it is a map that has them.
pub(crate) type Line = Option<(Option<i64>, Option<&'static str>)>;

/// The values one item has; `None` is missing or null.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    i: Option<i64>,
    j: Option<i64>,
    /// Hundredths.
    d: Option<i64>,
    e: Option<i64>,
    t: Option<&'static str>,
    u: Option<&'static str>,
    b: Option<bool>,
    c: Option<bool>,
    z: Option<&'static str>,
    l: Option<Vec<Option<&'static str>>>,
    g: Option<&'static str>,
    lines: Option<Vec<Line>>,
    /// A column that has a value of another type than its own.
    pub(super) wrong: Option<(&'static str, Wrong)>,
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

    fn lines(&self, lines: &[Line]) -> Value<'static> {
        let nulls = self.spelling & 16 != 0;
        let line = |(n, w): (Option<i64>, Option<&'static str>)| {
            let inner = w.map(|text| Value::Map(vec![("w".into(), Value::Text(text.into()))]));
            let members = [("n", n.map(|value| self.number(value))), ("m", inner)];
            let members = members.into_iter().filter(|(_, value)| nulls || value.is_some());
            let members = members.map(|(name, it)| (name.into(), it.unwrap_or(Value::Null)));
            Value::Map(members.collect())
        };
        Value::List(lines.iter().map(|it| it.map_or(Value::Null, line)).collect())
    }

    pub(crate) fn value(&self) -> Value<'static> {
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
        let mut item = map(vec![
            ("i", self.i.map(|value| self.number(value))),
            ("d", self.d.map(|value| self.decimal(value))),
            ("t", self.t.map(|text| Value::Text(text.into()))),
            ("b", self.b.map(Value::Bool)),
            ("z", self.z.map(|text| Value::Text(text.into()))),
            ("l", self.l.as_deref().map(list)),
            ("g", self.g.map(|digits| Value::Number(digits.into()))),
            ("lines", self.lines.as_deref().map(|lines| self.lines(lines))),
            ("m", (!empty || self.spelling & 32 != 0).then_some(inner)),
            // Never named by a view: of types SQL has no answer for.
            ("ignored", Some(Value::List(vec![Value::Null]))),
        ]);
        if let (Some((name, wrong)), Value::Map(members)) = (self.wrong, &mut item) {
            members.retain(|(found, _)| found != name);
            members.push((name.into(), wrong.value()));
        }
        item
    }

    /// The column's value for `SQLite`.
    fn cell(&self, column: &str) -> Cell {
        let text = |text: Option<&str>| text.map_or(Cell::Null, |text| Cell::Text(text.to_owned()));
        let integer = |value: Option<i64>| value.map_or(Cell::Null, Cell::Integer);
        let real = |hundredths: Option<i64>| {
            let value = |value: i64| BigDecimal::new(value.into(), 2).to_f64().unwrap();
            hundredths.map_or(Cell::Null, |hundredths| Cell::Real(value(hundredths)))
        };
        if let Some((wrong, value)) = self.wrong
            && column.trim_end_matches("_s") == wrong
        {
            // An item with it is only in a view that does not look at it.
            return if column == "lines" { Cell::Null } else { value.cell() };
        }
        match column {
            "i" => integer(self.i),
            "j" => integer(self.j),
            "d" => real(self.d),
            "e" => real(self.e),
            "d_s" => integer(self.d),
            "e_s" => integer(self.e),
            "t" => text(self.t),
            "u" => text(self.u),
            "b" => integer(self.b.map(i64::from)),
            "c" => integer(self.c.map(i64::from)),
            "z" => text(self.z),
            "g" => text(self.g),
            "lines" => self.lines.as_ref().map_or(Cell::Null, |lines| {
                let line = |(n, w)| json!({ "n": n, "m": { "w": w } });
                let lines = lines.iter().map(|it| it.map_or(serde_json::Value::Null, line));
                Cell::Text(lines.collect::<serde_json::Value>().to_string())
            }),
            "l" => self
                .l
                .as_ref()
                .map_or(Cell::Null, |list| Cell::Text(serde_json::to_string(list).unwrap())),
            other => panic!("no column {other}"),
        }
    }
}

fn list(elements: &[Option<&'static str>]) -> Value<'static> {
    let element =
        |text: Option<&'static str>| text.map_or(Value::Null, |text| Value::Text(text.into()));
    Value::List(elements.iter().copied().map(element).collect())
}

/// What stands where a value of another type belongs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wrong {
    Text,
    Number,
    List,
}

impl Wrong {
    pub(super) fn value(self) -> Value<'static> {
        match self {
            Self::Text => Value::Text("wrong".into()),
            Self::Number => Value::Number("77".into()),
            Self::List => Value::List(vec![Value::Null]),
        }
    }

    fn cell(self) -> Cell {
        match self {
            Self::Text => Cell::Text("wrong".to_owned()),
            Self::Number => Cell::Integer(77),
            Self::List => Cell::Text("[null]".to_owned()),
        }
    }
}

pub(super) const TEXTS: [&str; 8] = ["", "a", "Z", "é", "10", "9", "it's", "a\u{0301} 😀"];

pub(super) const TIMES: [&str; 8] = [
    "2013-01-01T10:15:00Z",
    "2013-01-01T10:59:59.250Z",
    "2013-01-01 23:30:00+02:00",
    "2012-12-31T22:30:00-03:30",
    "2013-01-07T00:00Z",
    "2012-02-29T12:00:00.5Z",
    "1969-12-31T23:59:59Z",
    "2013-06-30T00:00:00+00:00",
];

/// Digits of which a float keeps less than half.
pub(super) const BIG: [&str; 3] = [
    "12345678901234567890123456789012345678",
    "12345678901234567890123456789012345679",
    "-99999999999999999999999999999999999999",
];

pub(crate) fn any_item() -> impl Strategy<Value = Item> {
    let number = || prop::option::weighted(0.8, -5..6_i64);
    let decimal = || {
        prop::option::weighted(
            0.8,
            prop_oneof![Just(10), Just(20), Just(30), -300..300_i64, -99_999..100_000_i64],
        )
    };
    let text = || prop::option::weighted(0.8, prop::sample::select(TEXTS.as_slice()));
    let truth = || prop::option::weighted(0.7, any::<bool>());
    let time = prop::option::weighted(0.8, prop::sample::select(TIMES.as_slice()));
    let big = prop::option::weighted(0.8, prop::sample::select(BIG.as_slice()));
    let element = prop::option::weighted(0.8, prop::sample::select(TEXTS.as_slice()));
    let list = prop::option::weighted(0.8, prop::collection::vec(element, 0..4));
    let word = prop::option::weighted(0.8, prop::sample::select(TEXTS.as_slice()));
    let line = prop::option::weighted(0.9, (number(), word));
    let lines = prop::option::weighted(0.8, prop::collection::vec(line, 0..5));
    let wrong = prop::option::weighted(
        0.1,
        (
            prop::sample::select(["i", "d", "t", "b", "z", "l", "lines"].as_slice()),
            prop_oneof![Just(Wrong::Text), Just(Wrong::Number), Just(Wrong::List)],
        ),
    )
    .prop_map(|wrong| wrong.filter(|wrong| !is_right(*wrong)));
    let plain = (number(), number(), decimal(), decimal());
    let others = (text(), text(), truth(), truth(), any::<u8>());
    (plain, others, (time, list, big, lines, wrong)).prop_map(
        |((i, j, d, e), (t, u, b, c, spelling), (z, l, g, lines, wrong))| Item {
            i,
            j,
            d,
            e,
            t,
            u,
            b,
            c,
            z,
            l,
            g,
            lines,
            wrong,
            spelling,
        },
    )
}

/// Whether that is of the column's own type, or text that `SQLite` would read as JSON.
fn is_right((column, wrong): (&str, Wrong)) -> bool {
    matches!(
        (column, wrong),
        ("i" | "d", Wrong::Number)
            | ("t" | "z", Wrong::Text)
            | ("l", Wrong::Text | Wrong::List)
            | ("lines", Wrong::List)
    )
}

/// An item that others name by its key.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    p: Option<i64>,
    q: Option<&'static str>,
    r: Option<bool>,
    /// Whether what is absent is null.
    nulls: bool,
}

/// Items that others name, by their keys.
pub(crate) type Names = BTreeMap<i64, Named>;

impl Named {
    pub(crate) fn value(&self, key: i64) -> Value<'static> {
        let number = |value: i64| Value::Number(Cow::Owned(value.to_string()));
        let text = self.q.map(|text| Value::Map(vec![("t".into(), Value::Text(text.into()))]));
        let members =
            [("i", self.p.map(number)), ("m", text), ("b", self.r.map(Value::Bool))].into_iter();
        let members = members.filter(|(_, value)| self.nulls || value.is_some());
        let members = members.map(|(name, value)| (name.into(), value.unwrap_or(Value::Null)));
        Value::Map(std::iter::once(("k".into(), number(key))).chain(members).collect())
    }

    fn row(&self, key: i64) -> [Cell; 4] {
        [
            Cell::Integer(key),
            self.p.map_or(Cell::Null, Cell::Integer),
            self.q.map_or(Cell::Null, |text| Cell::Text(text.to_owned())),
            self.r.map_or(Cell::Null, |truth| Cell::Integer(i64::from(truth))),
        ]
    }
}

pub(crate) fn any_named() -> impl Strategy<Value = Named> {
    let number = prop::option::weighted(0.8, -5..6_i64);
    let text = prop::option::weighted(0.8, prop::sample::select(TEXTS.as_slice()));
    let truth = prop::option::weighted(0.7, any::<bool>());
    (number, text, truth, any::<bool>()).prop_map(|(p, q, r, nulls)| Named { p, q, r, nulls })
}

/// The keys that items name, of which some are there.
pub(crate) const KEYS: std::ops::Range<i64> = -4..6;

pub(crate) fn any_names() -> impl Strategy<Value = Names> {
    prop::collection::btree_map(KEYS, any_named(), 0..8)
}

pub(super) fn load(items: &[&Item], names: &Names) -> Connection {
    let database = Connection::open_in_memory().unwrap();
    // As in PostgreSQL and the standard: `SQLite` alone takes `a` for `A` unless told.
    database.execute_batch("PRAGMA case_sensitive_like = ON").unwrap();
    let mut columns: Vec<_> = COLUMNS.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    columns.extend([("d_s", "INTEGER"), ("e_s", "INTEGER"), ("lines", "TEXT")]);
    let typed: Vec<_> = columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    database.execute(&format!("CREATE TABLE orders ({})", typed.join(", ")), []).unwrap();
    let places = vec!["?"; columns.len()].join(", ");
    let insert = format!("INSERT INTO orders VALUES ({places})");
    for item in items {
        let row = columns.iter().map(|(name, _)| item.cell(name));
        database.execute(&insert, rusqlite::params_from_iter(row)).unwrap();
    }
    database.execute("CREATE TABLE named (k INTEGER, p INTEGER, q TEXT, r INTEGER)", []).unwrap();
    for (key, named) in names {
        let row = rusqlite::params_from_iter(named.row(*key));
        database.execute("INSERT INTO named VALUES (?, ?, ?, ?)", row).unwrap();
    }
    database
}
