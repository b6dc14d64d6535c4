//! Generated views of attributes, operators and aggregates.

use super::items::{COLUMNS, OF_ELEMENT, OF_NAMED, TEXTS};
use bigdecimal::BigDecimal;
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(super) struct Numeric {
    pub(super) plain: String,
    pub(super) scaled: String,
    pub(super) scale: u32,
}

impl Numeric {
    pub(super) fn at_scale(&self, scale: u32) -> String {
        format!("({} * {})", self.scaled, 10_i64.pow(scale - self.scale))
    }
}

pub(super) fn integer_leaf() -> impl Strategy<Value = Numeric> {
    prop_oneof![
        Just("{i}".to_owned()),
        Just("{j}".to_owned()),
        (-4..5_i64).prop_map(|n| n.to_string())
    ]
    .prop_map(|text| Numeric { plain: text.clone(), scaled: text, scale: 0 })
}

pub(super) fn decimal_leaf() -> impl Strategy<Value = Numeric> {
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
pub(super) fn combined(
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

pub(super) fn comparison() -> impl Strategy<Value = &'static str> {
    prop::sample::select(["=", "<>", "!=", "<", "<=", ">", ">="].as_slice())
}

/// Predicates without needless parentheses: precedence is part of what is compared. Numbers
/// are compared only where `SQLite`'s floats are exact.
pub(super) fn predicate() -> impl Strategy<Value = String> {
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
pub(super) struct Column {
    pub(super) text: String,
    pub(super) exact: Option<(String, u32)>,
}

pub(super) fn aggregate() -> impl Strategy<Value = Column> {
    let column = |text: String| Column { text, exact: None };
    let any = prop::sample::select(["{i}", "{e}", "{t}", "{u}", "{b}", "{c}"].as_slice());
    // Not {t}: where it holds a number, `SQLite` makes a text of it.
    let ordered = prop::sample::select(["{i}", "{j}", "{d}", "{e}", "{u}", "{g}"].as_slice());
    let which = prop::sample::select(["min", "max", "MIN", "max(DISTINCT"].as_slice());
    prop_oneof![
        4 => (which, ordered).prop_map(move |(which, argument)| {
            let opening = if which.contains('(') { " " } else { "(" };
            column(format!("{which}{opening}{argument})"))
        }),
        3 => any.clone().prop_map(move |argument| column(format!("count(DISTINCT {argument})"))),
        1 => combined(integer_leaf().boxed())
            .prop_map(move |a| column(format!("max({})", a.plain))),
        2 => combined(integer_leaf().boxed())
            .prop_map(move |a| column(format!("sum(DISTINCT {})", a.plain))),
        1 => predicate().prop_map(move |argument| column(format!("count(DISTINCT {argument})"))),
        2 => (predicate(), prop::bool::ANY).prop_map(move |(truth, is_and)| {
            let [ours, theirs] = if is_and { ["bool_and", "min"] } else { ["bool_or", "max"] };
            column(format!("«{ours}¦{theirs}»({truth})"))
        }),
        1 => Just(column("count(*)".to_owned())),
        1 => any.prop_map(move |argument| column(format!("count({argument})"))),
        1 => predicate().prop_map(move |argument| column(format!("COUNT({argument})"))),
        1 => combined(integer_leaf().boxed())
            .prop_map(move |a| column(format!("sum({})", a.plain))),
        1 => combined(integer_leaf().boxed())
            .prop_map(move |a| column(format!("avg({})", a.plain))),
        1 => combined(decimal_leaf().boxed())
            .prop_map(move |a| column(format!("Avg({})", a.plain))),
        1 => combined(prop_oneof![integer_leaf(), decimal_leaf()].boxed()).prop_map(|a| Column {
            text: format!("Sum({})", a.plain),
            exact: Some((format!("sum({})", a.scaled), a.scale)),
        }),
    ]
}

pub(super) fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(["{i}", "{j}", "{d}", "{t}", "{u}", "{b}", "{c}"].as_slice())
            .prop_map(str::to_owned),
        1 => predicate(),
        1 => combined(integer_leaf().boxed()).prop_map(|number| number.plain + " + {i}"),
    ]
}

#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(super) columns: Vec<Column>,
    pub(super) filter: Option<String>,
    pub(super) keys: Vec<String>,
    /// What else it reads.
    pub(super) beside: Beside,
    /// In how many rows each group is kept, where it can be in several.
    pub(super) stripes: Option<u32>,
}

/// What a view reads beside its items.
#[derive(Debug, Clone)]
pub(super) enum Beside {
    Nothing,
    /// The elements of a list.
    Elements,
    /// Of each item the one that it names, by this number; whether it is left out without one.
    Named(String, bool),
}

/// What a view is to read beside its items, and which attributes become those of that.
#[derive(Debug, Clone)]
pub(super) struct Moved {
    beside: Beside,
    which: u8,
}

pub(crate) fn definition() -> impl Strategy<Value = Definition> {
    let filter = prop::option::weighted(0.7, predicate()).boxed();
    let grouped = (
        prop::collection::vec(key(), 0..3),
        prop::collection::vec(aggregate(), 1..4),
        filter.clone(),
        (0..4_usize, moved(), stripes()),
    )
        .prop_map(|(mut keys, mut columns, filter, (shown, moved, stripes))| {
            // `GROUP BY TRUE` and `GROUP BY NULL` are refused: they group by nothing.
            keys.retain(|key| key.contains('{'));
            for key in keys.iter().take(shown) {
                columns.insert(columns.len() / 2, Column { text: key.clone(), exact: None });
            }
            Definition { columns, filter, keys, beside: Beside::Nothing, stripes }.reading(moved)
        });
    let plain =
        prop_oneof![key(), predicate(), combined(integer_leaf().boxed()).prop_map(|n| n.plain)];
    let rows = (prop::collection::vec(plain, 1..4), filter, named()).prop_map(rows_of);
    prop_oneof![3 => grouped, 1 => rows]
}

/// A view of rows.
pub(super) fn rows_of(
    (columns, filter, moved): (Vec<String>, Option<String>, Option<Moved>),
) -> Definition {
    let columns = columns.into_iter().map(|text| Column { text, exact: None }).collect();
    let (keys, beside) = (Vec::new(), Beside::Nothing);
    Definition { columns, filter, keys, beside, stripes: None }.reading(moved)
}

/// What a view with groups reads beside its items.
pub(super) fn moved() -> impl Strategy<Value = Option<Moved>> {
    let elements = (0..8_u8).prop_map(|which| Some(Moved { beside: Beside::Elements, which }));
    prop_oneof![3 => Just(None), 3 => elements, 2 => named()]
}

/// In how many rows each group is kept.
pub(super) fn stripes() -> impl Strategy<Value = Option<u32>> {
    prop::option::weighted(0.4, 2..5_u32)
}

/// The item that an item names, or nothing.
pub(super) fn named() -> impl Strategy<Value = Option<Moved>> {
    let reference = prop::sample::select(
        ["{j}", "{i}", "({i} + 1)", "coalesce({j}, {i})", "CASE WHEN {b} THEN {j} END"].as_slice(),
    );
    let named = (reference, any::<bool>(), 0..8_u8).prop_map(|(reference, is_inner, which)| {
        Moved { beside: Beside::Named(reference.to_owned(), is_inner), which }
    });
    prop::option::weighted(0.6, named)
}

impl Definition {
    /// The same with something beside the items, if that is to be: it gets some attributes.
    pub(super) fn reading(mut self, moved: Option<Moved>) -> Self {
        let Some(Moved { beside, which }) = moved else { return self };
        let (number, word) = match &beside {
            Beside::Nothing => return self,
            Beside::Elements => ("{n}", "{w}"),
            Beside::Named(..) => ("{p}", "{q}"),
        };
        let truth =
            if matches!(beside, Beside::Named(..)) && which & 4 == 0 { "{r}" } else { "{b}" };
        let of_other = |text: &String| {
            let text = text.replace(if which & 1 == 0 { "{i}" } else { "{j}" }, number);
            text.replace(if which & 2 == 0 { "{t}" } else { "{u}" }, word).replace("{b}", truth)
        };
        for column in &mut self.columns {
            column.text = of_other(&column.text);
            column.exact = column.exact.as_ref().map(|(sum, scale)| (of_other(sum), *scale));
        }
        self.filter = self.filter.as_ref().map(of_other);
        self.keys = self.keys.iter().map(of_other).collect();
        Self { beside, ..self }
    }

    /// The statement, as the user writes it.
    pub(crate) fn statement(&self) -> String {
        let select = fill(&self.select(false), false);
        let stripes = self.stripes.filter(|_| !select.contains("(DISTINCT"));
        let with = stripes.map_or_else(String::new, |it| format!("WITH (stripes = {it}) "));
        format!("CREATE MATERIALIZED VIEW v {with}AS {select}")
    }

    /// The SELECT, as the user writes it; `exact` puts scaled sums in place of decimal ones.
    pub(super) fn select(&self, exact: bool) -> String {
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
        match &self.beside {
            Beside::Nothing => {}
            Beside::Elements => text += ", «unnest(o.lines)¦json_each(o.lines)» AS line",
            Beside::Named(reference, is_inner) => {
                let join = if *is_inner { "JOIN" } else { "LEFT JOIN" };
                text = format!("{text} {join} named AS x ON x.k = {reference}");
            }
        }
        if let Some(filter) = &self.filter {
            text = format!("{text} WHERE {filter}");
        }
        if !self.keys.is_empty() {
            text = format!("{text} GROUP BY {}", self.keys.join(", "));
        }
        if let Beside::Named(..) = self.beside {
            // Of two tables a path says which it is of.
            let paths = COLUMNS.iter().filter(|(.., path)| !path.starts_with("o."));
            for (name, _, path) in paths {
                text = text.replace(&format!("{{{name}}}"), &format!("«o.{path}¦{name}»"));
            }
        }
        text
    }
}

/// Puts paths, or flat columns, in the places of a template, and of each «ours¦theirs» what is
/// meant for that side.
pub(super) fn fill(template: &str, flat: bool) -> String {
    let mut text = template.to_owned();
    // From the innermost outwards.
    while let Some(end) = text.find('»') {
        let begin = text[..end].rfind('«').unwrap();
        let (ours, theirs) = text[begin + '«'.len_utf8()..end].split_once('¦').unwrap();
        let side = if flat { theirs } else { ours }.to_owned();
        text.replace_range(begin..end + '»'.len_utf8(), &side);
    }
    let text = OF_ELEMENT.iter().fold(text, |text, (name, path)| {
        let theirs = format!("json_extract(line.value, '$.{path}')");
        let ours = format!("line.{path}");
        text.replace(&format!("{{{name}}}"), if flat { &theirs } else { &ours })
    });
    let text = OF_NAMED.iter().fold(text, |text, (name, path)| {
        let ours = format!("x.{path}");
        text.replace(&format!("{{{name}}}"), if flat { name } else { &ours })
    });
    COLUMNS.iter().fold(text, |text, (name, _, path)| {
        text.replace(&format!("{{{name}}}"), if flat { name } else { path })
            .replace(&format!("{{{name}_s}}"), &format!("{name}_s"))
    })
}
