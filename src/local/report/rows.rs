//! The rows of a view for programs: JSON and CSV.
//!
//! Separate from what people are shown because these are formats that others read.

use super::Row;
use crate::view::scalar::Scalar;

/// Rows of a view as a JSON list of objects, with every digit.
///
/// # Panics
/// Only on a broken invariant: every part is a number, a text or JSON already.
#[must_use]
pub fn rows_json(columns: &[String], rows: &[Vec<Scalar>]) -> String {
    let rows: Vec<Row<'_>> = rows.iter().map(|row| Row { columns, row }).collect();
    serde_json::to_string(&rows).expect("texts and numbers are JSON")
}

/// Rows of a view as CSV (RFC 4180) with a header. NULL is an empty field, an empty text is `""`.
#[must_use]
pub fn rows_csv(columns: &[String], rows: &[Vec<Scalar>]) -> String {
    let quoted = |text: &str| {
        if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let field = |value: &Scalar| match value {
        Scalar::Null => String::new(),
        other => quoted(&other.to_string()),
    };
    let header: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let rows = rows.iter().map(|row| row.iter().map(field).collect::<Vec<_>>());
    let lines = std::iter::once(header).chain(rows).map(|fields| fields.join(",") + "\r\n");
    lines.collect()
}
