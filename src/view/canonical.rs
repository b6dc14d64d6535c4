//! The canonical SQL text of a view: the `Display` of its definition.
//!
//! Separate because it is what fingerprints hash and what people read in reports. Invariant:
//! parsing the text gives the same definition, so different definitions have different texts.

use crate::view::{
    definition::{
        Aggregate, Comparison, Expression, Function, Groups, Operation, Output, Path, Shape, View,
    },
    number,
    scalar::Scalar,
};
use std::fmt;

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE MATERIALIZED VIEW {} WITH (", Name(&self.name))?;
        if let Some(key) = &self.key {
            write!(f, "key = {key}, ")?;
        }
        let hours = self.retention_hours;
        write!(f, "retention_hours = {hours}, decimal = {}) AS SELECT ", self.decimal)?;
        match &self.shape {
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
        if let Some(filter) = &self.filter {
            write!(f, " WHERE {filter}")?;
        }
        match &self.shape {
            Shape::Groups(Groups { keys, .. }) if !keys.is_empty() => {
                f.write_str(" GROUP BY ")?;
                separated(f, keys, |f, key| write!(f, "{key}"))
            }
            _ => Ok(()),
        }
    }
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
        match &self.argument {
            None => write!(f, "{}(*)", self.function),
            Some(argument) => write!(f, "{}({argument})", self.function),
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
        })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.binding();
        match self {
            Self::Path(path) => path.fmt(f),
            Self::Literal(literal) => fmt_literal(f, literal),
            // A comparison is no operand of another one without parentheses.
            Self::Compare(comparison, left, right) => {
                write!(f, "{} {comparison} {}", At(left, own + 1), At(right, own + 1))
            }
            // `a - b - c` is `(a - b) - c`.
            Self::Arithmetic(operation, left, right) => {
                write!(f, "{} {operation} {}", At(left, own), At(right, own + 1))
            }
            // `--` would begin a comment.
            Self::Negate(inner) => write!(f, "-{}", At(inner, own + 1)),
            Self::And(parts) => fmt_joined(f, parts, " AND ", own + 1),
            Self::Or(parts) => fmt_joined(f, parts, " OR ", own + 1),
            Self::Not(inner) => match inner.as_ref() {
                Self::IsNull(tested) => write!(f, "{} IS NOT NULL", At(tested, 5)),
                _ => write!(f, "NOT {}", At(inner, own)),
            },
            Self::IsNull(inner) => write!(f, "{} IS NULL", At(inner, own + 1)),
        }
    }
}

/// An operand at a place that asks for at least this binding.
struct At<'a>(&'a Expression, u8);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.binding() < self.1 { write!(f, "({})", self.0) } else { self.0.fmt(f) }
    }
}

fn fmt_joined(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expression],
    operator: &str,
    binding: u8,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        write!(f, "{}", At(part, binding))?;
    }
    Ok(())
}

fn fmt_literal(f: &mut fmt::Formatter<'_>, literal: &Scalar) -> fmt::Result {
    match literal {
        Scalar::Null => f.write_str("NULL"),
        Scalar::Bool(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
        Scalar::Number(value) => f.write_str(&number::plain(value)),
        Scalar::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
    }
}
