//! Generated views over all the expressions there are.
//!
//! Where `SQLite` has another text for something, or none, a template has both as
//! «ours¦theirs».

use super::{
    items::{BIG, TEXTS},
    operators::{Beside, Column, Definition, Numeric, moved, named, rows_of, stripes},
};
use proptest::prelude::*;

type Template = BoxedStrategy<String>;

fn one_of(texts: &'static [&'static str]) -> Template {
    prop::sample::select(texts).prop_map(str::to_owned).boxed()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn any_literal() -> Template {
    prop::sample::select(TEXTS.as_slice()).prop_map(literal).boxed()
}

/// The three types, in terms of each other up to a depth.
struct Typed {
    integer: Template,
    text: Template,
    truth: Template,
}

fn leaves() -> Typed {
    let number = (-4..5_i64).prop_map(|number| number.to_string());
    Typed {
        integer: prop_oneof![3 => one_of(&["{i}", "{j}"]), 1 => number].boxed(),
        text: prop_oneof![3 => one_of(&["{t}", "{u}"]), 1 => any_literal()].boxed(),
        truth: prop_oneof![
            3 => one_of(&["{b}", "{c}"]),
            1 => one_of(&["TRUE", "FALSE", "NULL"]),
        ]
        .boxed(),
    }
}

/// Two of one type in one template, at the places `A`, `B` and `P`.
fn forms(
    forms: &'static [&'static str],
    one: &Template,
    other: &Template,
    truth: &Template,
) -> Template {
    (prop::sample::select(forms), one.clone(), other.clone(), truth.clone())
        .prop_map(|(form, one, other, truth)| {
            let mut text = String::new();
            for character in form.chars() {
                match character {
                    '①' => text.push_str(&one),
                    '②' => text.push_str(&other),
                    '③' => text.push_str(&truth),
                    character => text.push(character),
                }
            }
            text
        })
        .boxed()
}

/// What has the type of its operands.
const ANY_TYPE: &[&str] = &[
    "CASE WHEN ③ THEN ① END",
    "CASE WHEN ③ THEN ① ELSE ② END",
    "CASE ③ WHEN TRUE THEN ① WHEN FALSE THEN ② END",
    "CASE ① WHEN ② THEN ② ELSE ① END",
    "coalesce(①, ②)",
    "coalesce(①, NULL, ②)",
    "nullif(①, ②)",
];

const INTEGERS: &[&str] = &[
    "(①) + (②)",
    "(①) - (②)",
    "-(①)",
    "abs(①)",
    "(①) % 3",
    "(①) % -2",
    "(①)%1",
    "CAST(③ AS numeric)",
    // To `SQLite` a rounded integer is a float, of another text.
    "«round(①)¦CAST(round(①) AS INTEGER)»",
    "«floor(①)¦(①)»",
    "«ceil(① + 0.5) - 1¦(①)»",
    "«CAST((①)::text AS decimal)¦(①)»",
];

const INTEGERS_OF_TEXT: &[&str] = &[
    "length(①)",
    "CASE WHEN ① IN ('10', '9') THEN CAST(① AS numeric) END",
    "CASE WHEN trim(①) IN ('10', '9') THEN CAST(' ' || (①) || '  ' AS NUMERIC) END",
];

const INTEGERS_OF_COLUMNS: &[&str] = &[
    "«cardinality({l})¦json_array_length({l})»",
    "«EXTRACT(hour FROM {z})¦CAST(strftime('%H', {z}) AS INTEGER)»",
    "«EXTRACT(minute FROM {z})¦CAST(strftime('%M', {z}) AS INTEGER)»",
    "«floor(extract(second FROM {z}))¦CAST(strftime('%S', {z}) AS INTEGER)»",
    "«EXTRACT(day FROM {z})¦CAST(strftime('%d', {z}) AS INTEGER)»",
    "«EXTRACT(month FROM {z})¦CAST(strftime('%m', {z}) AS INTEGER)»",
    "«EXTRACT(year FROM {z})¦CAST(strftime('%Y', {z}) AS INTEGER)»",
    "«EXTRACT(dow FROM {z})¦CAST(strftime('%w', {z}) AS INTEGER)»",
    "«EXTRACT(isodow FROM {z})¦CAST(strftime('%u', {z}) AS INTEGER)»",
    "«EXTRACT(doy FROM {z})¦CAST(strftime('%j', {z}) AS INTEGER)»",
    "«EXTRACT(quarter FROM {z})¦((CAST(strftime('%m', {z}) AS INTEGER) + 2) / 3)»",
    "«floor(EXTRACT(epoch FROM {z}))¦CAST(strftime('%s', {z}) AS INTEGER)»",
];

const TEXTS_OF_TEXT: &[&str] = &[
    "① || ②",
    "① || '-' || (②)",
    "lower(①)",
    "upper(①)",
    "substr(①, 2)",
    "substr(①, 1, 1)",
    "substr(①, 2, 3)",
    "substr(①, 3, 0)",
    "trim(①)",
    "trim(' ' || (①) || '  ')",
    "ltrim('  ' || (①) || ' ')",
    "rtrim(①, 'a9 ')",
    "trim(①, ②)",
    "replace(①, 'a', ②)",
    "replace(①, ②, '<>')",
];

const TEXTS_OF_INTEGER: &[&str] = &["CAST(① AS text)", "«(①)::text¦CAST(① AS TEXT)»"];

const TEXTS_OF_COLUMNS: &[&str] = &[
    "«{l}[0]¦json_extract({l}, '$[0]')»",
    "«{l}[2]¦json_extract({l}, '$[2]')»",
    "CAST({g} AS text)",
    "«date_trunc('second', {z})¦strftime('%Y-%m-%dT%H:%M:%SZ', {z})»",
    "«date_trunc('minute', {z})¦strftime('%Y-%m-%dT%H:%M:00Z', {z})»",
    "«date_trunc('hour', {z})¦strftime('%Y-%m-%dT%H:00:00Z', {z})»",
    "«date_trunc('day', {z})¦strftime('%Y-%m-%dT00:00:00Z', {z})»",
    "«date_trunc('day', {z}, '+02:00')¦strftime('%Y-%m-%dT00:00:00+02:00', {z}, '+120 minutes')»",
    "«date_trunc('hour', {z}, '-0330')¦strftime('%Y-%m-%dT%H:00:00-03:30', {z}, '-210 minutes')»",
    "«date_trunc('week', {z})¦strftime('%Y-%m-%dT00:00:00Z', {z}, '-6 days', 'weekday 1')»",
    "«date_trunc('month', {z})¦strftime('%Y-%m-01T00:00:00Z', {z})»",
    "«date_trunc('year', {z})¦strftime('%Y-01-01T00:00:00Z', {z})»",
    "«date_trunc('hour', to_timestamp({i} * 5000, 'seconds'))\
     ¦strftime('%Y-%m-%dT%H:00:00Z', {i} * 5000, 'unixepoch')»",
    "«date_trunc('second', to_timestamp({i} * 1000, 'milliseconds'))\
     ¦strftime('%Y-%m-%dT%H:%M:%SZ', {i}, 'unixepoch')»",
    "«date_trunc('day', to_timestamp(substr(date_trunc('second', {z}), 1, 19), 'utc'))\
     ¦strftime('%Y-%m-%dT00:00:00Z', {z})»",
];

const TRUTHS_OF_TEXT: &[&str] = &[
    "(①) LIKE '%a%'",
    "(①) LIKE '_'",
    "(①) LIKE '__%'",
    "(①) LIKE '9%'",
    "(①) LIKE 'A'",
    "(①) NOT LIKE '%!%%' ESCAPE '!'",
    "(①) LIKE '%\\_' ESCAPE '\\'",
    "(①) LIKE '%😀'",
    "«contains({l}, ①)\
     ¦CASE WHEN {l} IS NOT NULL THEN (①) IN (SELECT value FROM json_each({l})) END»",
];

const TRUTHS_OF_TRUTH: &[&str] = &[
    "(③) IS TRUE",
    "(③) IS NOT TRUE",
    "(③) IS FALSE",
    "(③) IS NOT FALSE",
    "NOT (③)",
    "(③) AND (①) = (②)",
    "(③) OR (①) < (②)",
    "(③) IS NULL",
];

const TRUTHS_OF_ANY_TYPE: &[&str] = &[
    "(①) = (②)",
    "(①) <> (②)",
    "(①) <= (②)",
    "(①) IN (②)",
    "(①) IN (②, ①)",
    "(①) IN (②, NULL)",
    "(①) NOT IN (②)",
    "(①) BETWEEN (②) AND (①)",
    "(①) NOT BETWEEN (②) AND (①)",
    "(①) IS DISTINCT FROM (②)",
    "(①) IS NOT DISTINCT FROM (②)",
    "(①) IS NULL",
    "CASE ① WHEN ② THEN ③ END",
];

const TRUTHS_OF_COLUMNS: &[&str] = &[
    "{g} = «12345678901234567890123456789012345678¦'12345678901234567890123456789012345678'»",
    "{g} IN («12345678901234567890123456789012345679¦'12345678901234567890123456789012345679'», \
     NULL)",
    "{g} IS DISTINCT FROM \
     «-99999999999999999999999999999999999999¦'-99999999999999999999999999999999999999'»",
    "«{l}[1]¦json_extract({l}, '$[1]')» IS NULL",
    "{d} IN (0.1, 0.2, 0.3, -1)",
    "{d} BETWEEN 0.1 AND {e}",
    "{d} IS DISTINCT FROM {e}",
    "nullif({d}, {e}) IS NULL",
    "coalesce({d}, {e}) > 0.2",
];

/// Each type in terms of the others.
fn deeper(inner: &Typed) -> Typed {
    let Typed { integer, text, truth } = inner;
    let columns = |texts| forms(texts, integer, integer, truth);
    Typed {
        integer: prop_oneof![
            2 => integer.clone(),
            3 => forms(INTEGERS, integer, integer, truth),
            2 => forms(ANY_TYPE, integer, integer, truth),
            2 => forms(INTEGERS_OF_TEXT, text, text, truth),
            2 => columns(INTEGERS_OF_COLUMNS),
        ]
        .boxed(),
        text: prop_oneof![
            2 => text.clone(),
            4 => forms(TEXTS_OF_TEXT, text, text, truth),
            2 => forms(ANY_TYPE, text, text, truth),
            1 => forms(TEXTS_OF_INTEGER, integer, integer, truth),
            3 => columns(TEXTS_OF_COLUMNS),
        ]
        .boxed(),
        truth: prop_oneof![
            1 => truth.clone(),
            2 => forms(TRUTHS_OF_TEXT, text, text, truth),
            2 => forms(TRUTHS_OF_TRUTH, integer, integer, truth),
            2 => forms(TRUTHS_OF_ANY_TYPE, integer, integer, truth),
            2 => forms(TRUTHS_OF_ANY_TYPE, text, text, truth),
            1 => forms(TRUTHS_OF_ANY_TYPE, truth, truth, truth),
            1 => forms(ANY_TYPE, truth, truth, truth),
            2 => columns(TRUTHS_OF_COLUMNS),
        ]
        .boxed(),
    }
}

/// Decimals of hundredths, rounded; exactly so as integers of a scale.
fn rounded() -> BoxedStrategy<Numeric> {
    let half = "CASE WHEN {d_s} < 0 THEN -1 ELSE 1 END";
    let floor = |value: &str| format!("(({value} - ((({value}) % 100) + 100) % 100) / 100)");
    let whole = |plain: &str, scaled: String| Numeric {
        plain: format!("«{plain}¦{scaled}»"),
        scaled,
        scale: 0,
    };
    let tenths = format!("(({{d_s}} + 5 * {half}) / 10)");
    prop::sample::select(vec![
        whole("round({d})", format!("(({{d_s}} + 50 * {half}) / 100)")),
        whole("floor({d})", floor("{d_s}")),
        whole("ceil({d})", format!("(-{})", floor("(-{d_s})"))),
        Numeric {
            plain: format!("«round({{d}}, 1)¦({tenths} / 10.0)»"), scaled: tenths, scale: 1
        },
        Numeric { plain: "round({d}, 2)".to_owned(), scaled: "{d_s}".to_owned(), scale: 2 },
        Numeric { plain: "abs({d})".to_owned(), scaled: "abs({d_s})".to_owned(), scale: 2 },
        Numeric {
            plain: "coalesce({d}, {e}, 0.5)".to_owned(),
            scaled: "coalesce({d_s}, {e_s}, 50)".to_owned(),
            scale: 2,
        },
    ])
    .boxed()
}

fn aggregate(typed: &Typed) -> BoxedStrategy<Column> {
    let column = |text: String| Column { text, exact: None };
    let filter = prop_oneof![
        1 => Just(String::new()),
        1 => typed.truth.clone().prop_map(|truth| format!(" FILTER (WHERE {truth})")),
    ];
    let any = prop_oneof![typed.integer.clone(), typed.text.clone(), typed.truth.clone()];
    let ordered = prop_oneof![
        typed.integer.clone(),
        // As above: a text for sure.
        typed.text.clone().prop_map(|text| format!("({text}) || ''")),
    ];
    prop_oneof![
        4 => (ordered, filter.clone(), prop::bool::ANY).prop_map(move |(value, filter, is_min)| {
            column(format!("{}({value}){filter}", if is_min { "min" } else { "max" }))
        }),
        2 => (any.clone(), filter.clone())
            .prop_map(move |(any, filter)| column(format!("count(DISTINCT {any}){filter}"))),
        1 => (typed.truth.clone(), filter.clone()).prop_map(move |(truth, filter)| {
            column(format!("«every¦min»({truth}){filter}"))
        }),
        2 => (rounded(), filter.clone()).prop_map(|(number, filter)| Column {
            text: format!("sum(DISTINCT {}){filter}", number.plain),
            exact: Some((format!("sum(DISTINCT {}){filter}", number.scaled), number.scale)),
        }),
        1 => filter.clone().prop_map(move |filter| column(format!("count(*){filter}"))),
        1 => (any, filter.clone())
            .prop_map(move |(any, filter)| column(format!("count({any}){filter}"))),
        1 => (typed.integer.clone(), filter.clone())
            .prop_map(move |(number, filter)| column(format!("sum({number}){filter}"))),
        1 => (typed.integer.clone(), filter.clone())
            .prop_map(move |(number, filter)| column(format!("avg({number}){filter}"))),
        1 => (rounded(), filter).prop_map(|(number, filter)| Column {
            text: format!("sum({}){filter}", number.plain),
            exact: Some((format!("sum({}){filter}", number.scaled), number.scale)),
        }),
    ]
    .boxed()
}

/// Groups by expressions, and by the numbers and names of columns that are shown.
pub(super) fn definition() -> impl Strategy<Value = Definition> {
    let typed = deeper(&deeper(&leaves()));
    let filter = prop::option::weighted(0.5, typed.truth.clone()).boxed();
    let value = prop_oneof![
        4 => typed.integer.clone(),
        4 => typed.text.clone(),
        2 => typed.truth.clone(),
        1 => Just("{g}".to_owned()),
        1 => prop::sample::select(BIG.as_slice())
            .prop_map(|big| format!("coalesce({{g}}, «{big}¦'{big}'»)")),
    ]
    .boxed();
    let parts = (
        prop::collection::vec((value.clone(), 0..4_u8), 0..3),
        prop::collection::vec(aggregate(&typed), 1..3),
        filter.clone(),
        (moved(), stripes()),
    );
    let grouped = parts.prop_map(|(mut values, aggregates, filter, (moved, stripes))| {
        // A key without an attribute may be a constant, which is refused.
        values.retain(|(value, _)| value.contains('{'));
        let (mut columns, mut keys) = (aggregates, Vec::new());
        for (value, how) in values {
            let number = columns.len();
            let shown = Column { text: value.clone(), exact: None };
            match how {
                0 => keys.push(value),
                1 => {
                    columns.push(shown);
                    keys.push(value);
                }
                2 => {
                    columns.push(shown);
                    keys.push((number + 1).to_string());
                }
                _ => {
                    columns.push(shown);
                    keys.push(format!("x{number}"));
                }
            }
        }
        Definition { columns, filter, keys, beside: Beside::Nothing, stripes }.reading(moved)
    });
    let rows = (prop::collection::vec(value, 1..4), filter, named()).prop_map(rows_of);
    prop_oneof![3 => grouped, 1 => rows]
}
