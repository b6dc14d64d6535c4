//! The canonical SQL text of a view: the `Display` of its definition.
//!
//! Separate because it is what fingerprints hash and what people read in reports. Invariant:
//! parsing the text gives the same definition, so different definitions have different texts.

mod expression;

use crate::view::definition::{
    Aggregate, Function, Groups, Join, Output, Path, Shape, Top, Unnest, View,
};
use std::fmt;

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE MATERIALIZED VIEW {} WITH (", Name(&self.name))?;
        if let Some(key) = &self.key {
            write!(f, "key = {key}, ")?;
        }
        let hours = self.retention_hours;
        write!(f, "retention_hours = {hours}, decimal = {}", self.decimal)?;
        if let Shape::Groups(Groups { retain: Some(retain), .. }) = &self.shape {
            write!(f, ", retain = {retain}")?;
        }
        if let Shape::Groups(Groups { stripes: Some(stripes), .. }) = &self.shape {
            write!(f, ", stripes = {stripes}")?;
        }
        f.write_str(") AS SELECT ")?;
        match &self.shape {
            Shape::Rows(columns) if columns.is_empty() => f.write_str("*")?,
            Shape::Rows(columns) => separated(f, columns, |f, column| {
                write!(f, "{} AS {}", column.expression, Name(&column.name))
            })?,
            Shape::Groups(groups) => separated(f, &groups.columns, |f, column| {
                match column.output {
                    Output::Key(index) => fmt_some(f, groups.keys.get(index))?,
                    Output::Aggregate(index) => fmt_some(f, groups.aggregates.get(index))?,
                }
                write!(f, " AS {}", Name(&column.name))
            })?,
        }
        write!(f, " FROM {}", Name(&self.from))?;
        if let Some(Unnest { list, element }) = &self.unnest {
            write!(f, ", unnest({list}) AS {}", Name(element))?;
        }
        if let Some(Join { table, alias, key, reference, is_inner }) = &self.join {
            let (kind, table) = (if *is_inner { "INNER" } else { "LEFT" }, Name(table));
            let (alias, key) = (Name(alias), Name(key));
            write!(f, " {kind} JOIN {table} AS {alias} ON {alias}.{key} = {reference}")?;
        }
        if let Some(filter) = &self.filter {
            write!(f, " WHERE {filter}")?;
        }
        let Shape::Groups(groups) = &self.shape else { return Ok(()) };
        if !groups.keys.is_empty() {
            f.write_str(" GROUP BY ")?;
            separated(f, &groups.keys, |f, key| write!(f, "{key}"))?;
        }
        if let Some(having) = &groups.having {
            write!(f, " HAVING {having}")?;
        }
        groups.top.map_or(Ok(()), |top| fmt_top(f, groups, top))
    }
}

fn fmt_top(f: &mut fmt::Formatter<'_>, groups: &Groups, top: Top) -> fmt::Result {
    let Top { column, is_descending, limit } = top;
    f.write_str(" ORDER BY ")?;
    if let Some(Output::Aggregate(at)) = groups.columns.get(column).map(|column| column.output) {
        fmt_some(f, groups.aggregates.get(at))?;
    }
    write!(f, "{} LIMIT {limit}", if is_descending { " DESC" } else { "" })
}

fn fmt_some(f: &mut fmt::Formatter<'_>, value: Option<&impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| value.fmt(f))
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    mut write: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write(f, item)?;
    }
    Ok(())
}

/// An identifier, in quotes where it would otherwise be read as something else.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain_name(self.0) {
            f.write_str(self.0)
        } else {
            write!(f, "\"{}\"", self.0.replace('"', "\"\""))
        }
    }
}

/// Whether a name can stand without quotes: ASCII only, though the parser takes more.
fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !super::sql::is_reserved(name)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts().iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            Name(part).fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let distinct = match self.function {
            Function::CountDistinct | Function::SumDistinct => "DISTINCT ",
            _ => "",
        };
        match &self.argument {
            None => write!(f, "{}(*)", self.function),
            Some(argument) => write!(f, "{}({distinct}{argument})", self.function),
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count | Self::CountDistinct => "count",
            Self::Sum | Self::SumDistinct => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::BoolAnd => "bool_and",
            Self::BoolOr => "bool_or",
        })
    }
}
