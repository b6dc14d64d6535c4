//! Generated views of attributes, operators and aggregates.

use super::items::{COLUMNS, OF_ELEMENT, TEXTS};
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
    /// Whether it reads the elements of a list.
    pub(super) unnests: bool,
}

pub(crate) fn definition() -> impl Strategy<Value = Definition> {
    let filter = prop::option::weighted(0.7, predicate()).boxed();
    let grouped = (
        prop::collection::vec(key(), 0..3),
        prop::collection::vec(aggregate(), 1..4),
        filter.clone(),
        (0..4_usize, of_elements()),
    )
        .prop_map(|(mut keys, mut columns, filter, (shown, of_elements))| {
            // `GROUP BY TRUE` and `GROUP BY NULL` are refused: they group by nothing.
            keys.retain(|key| key.contains('{'));
            for key in keys.iter().take(shown) {
                columns.insert(columns.len() / 2, Column { text: key.clone(), exact: None });
            }
            Definition { columns, filter, keys, unnests: false }.of_elements(of_elements)
        });
    let plain =
        prop_oneof![key(), predicate(), combined(integer_leaf().boxed()).prop_map(|n| n.plain)];
    let rows = (prop::collection::vec(plain, 1..4), filter).prop_map(|(columns, filter)| {
        let columns = columns.into_iter().map(|text| Column { text, exact: None }).collect();
        Definition { columns, filter, keys: Vec::new(), unnests: false }
    });
    prop_oneof![3 => grouped, 1 => rows]
}

/// Which attributes become those of an element.
pub(super) fn of_elements() -> impl Strategy<Value = Option<u8>> {
    prop::option::weighted(0.4, 0..4_u8)
}

impl Definition {
    /// The same of the elements of a list, if it is to be one: some attributes become theirs.
    pub(super) fn of_elements(mut self, which: Option<u8>) -> Self {
        let Some(which) = which else { return self };
        let of_element = |text: &String| {
            let number = if which & 1 == 0 { "{i}" } else { "{j}" };
            let word = if which & 2 == 0 { "{t}" } else { "{u}" };
            text.replace(number, "{n}").replace(word, "{w}")
        };
        for column in &mut self.columns {
            column.text = of_element(&column.text);
            column.exact = column.exact.as_ref().map(|(sum, scale)| (of_element(sum), *scale));
        }
        self.filter = self.filter.as_ref().map(of_element);
        self.keys = self.keys.iter().map(of_element).collect();
        Self { unnests: true, ..self }
    }

    /// The statement, as the user writes it.
    pub(crate) fn statement(&self) -> String {
        format!("CREATE MATERIALIZED VIEW v AS {}", fill(&self.select(false), false))
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
        if self.unnests {
            text += ", «unnest(o.lines)¦json_each(o.lines)» AS line";
        }
        if let Some(filter) = &self.filter {
            text = format!("{text} WHERE {filter}");
        }
        if !self.keys.is_empty() {
            text = format!("{text} GROUP BY {}", self.keys.join(", "));
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
    COLUMNS.iter().fold(text, |text, (name, _, path)| {
        text.replace(&format!("{{{name}}}"), if flat { name } else { path })
            .replace(&format!("{{{name}_s}}"), &format!("{name}_s"))
    })
}
