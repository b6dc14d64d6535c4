//! Where the rows are meant to differ from `SQLite`'s: what docs/views.md lists, no more.

use super::sql;
use changefold::{
    event::Value,
    view::evaluate::{Contribution, evaluate},
};
use rusqlite::{Connection, types::Value as Cell};

/// `SQLite`'s value of an expression over nothing, and ours; `None` is quarantine.
#[track_caller]
fn differs(expression: &str, theirs: &str, ours: Option<&str>) {
    let database = Connection::open_in_memory().unwrap();
    let found: Cell =
        database.query_row(&format!("SELECT {expression}"), [], |row| row.get(0)).unwrap();
    let found = match found {
        Cell::Null => "NULL".to_owned(),
        Cell::Integer(value) => value.to_string(),
        Cell::Real(value) => format!("{value:?}"),
        Cell::Text(text) => text,
        Cell::Blob(_) => "bytes".to_owned(),
    };
    assert_eq!(found, theirs, "SQLite: {expression}");
    let text = format!("CREATE MATERIALIZED VIEW v AS SELECT {expression} AS x FROM t");
    let view = sql::parse(&text).unwrap().remove(0);
    let found = match evaluate(&view, &Value::Map(Vec::new())) {
        Ok(Contribution::Row(row)) => Some(row[0].to_string()),
        Ok(other) => panic!("{expression}: {other:?}"),
        Err(_) => None,
    };
    assert_eq!(found.as_deref(), ours, "{expression}");
}

/// The expression has a value in `SQLite`, and is refused here.
#[track_caller]
fn is_refused(expression: &str) {
    let database = Connection::open_in_memory().unwrap();
    let select = format!("SELECT {}", expression.replace("item", "'item'"));
    database.query_row(&select, [], |row| row.get::<_, Cell>(0)).unwrap();
    let text = format!("CREATE MATERIALIZED VIEW v AS SELECT {expression} AS x FROM t");
    let error = sql::parse(&text).unwrap_err();
    assert!(error.column > 35 && !error.remedy.is_empty(), "{expression}: {error}");
}

#[test]
fn numbers_are_decimals_and_not_floats() {
    differs("0.1 + 0.2 = 0.3", "0", Some("true"));
    differs("round(1.005, 2)", "1.0", Some("1.01"));
    differs("CAST(2.5 * 2 AS text)", "5.0", Some("5"));
    let digits = "12345678901234567890123456789012345678";
    differs(&format!("{digits} - {digits} + 1 = 2"), "0", Some("false"));
    differs(&format!("{digits} = {digits} + 1"), "1", Some("false"));
}

#[test]
fn case_counts_in_a_pattern() {
    differs("'A' LIKE 'a'", "1", Some("false"));
    differs("lower('A') LIKE 'a'", "1", Some("true"));
}

#[test]
fn what_is_no_number_is_quarantined_and_not_zero() {
    differs("CAST('abc' AS numeric)", "0", None);
    differs("CAST('12 apples' AS numeric)", "12", None);
    differs("CAST('' AS numeric)", "0", None);
    differs("5.5 % 2", "1.0", None);
}

#[test]
fn what_engines_disagree_about_is_refused() {
    for expression in [
        "7 / 2",
        "7 % 0",
        "7 % 1.5",
        "1 || 'x'",
        "lower(1)",
        "1 = '1'",
        "1 IN ('1')",
        "1 IS TRUE",
        "coalesce(1, 'x')",
        "CASE WHEN TRUE THEN 1 ELSE 'x' END",
        "substr(item, -2)",
        "substr(item, 0, 2)",
        "round(1234.5, -2)",
        "CAST(1.5 AS integer)",
        "CAST(TRUE AS text)",
        "item LIKE item",
        "item LIKE 'a\\%'",
        "1 < 2 < 3",
        "ifnull(item, 1)",
    ] {
        is_refused(expression);
    }
}
