//! From the pieces of a SELECT to the shape of a view.
//!
//! Separate because here names meet: which column is which group key, what an alias in GROUP
//! BY means, what a column is called. Invariant: every column of a grouped view is one of its
//! keys or one of its aggregates, so a row can be computed from key and totals alone.

mod shown;

use super::{
    SqlError,
    expression::{Computed, Scope},
};
use crate::view::definition::{Column, Expression, GroupColumn, Groups, Output, Path, Shape};
use sqlparser::{
    ast::{Expr, Value},
    tokenizer::Location,
};
use std::collections::BTreeSet;

/// What is wrong with a column of groups that is neither key nor aggregate.
pub(super) const NOT_GROUPED: &str = "is no aggregate and not in GROUP BY";

/// A piece of the statement that is an expression.
pub(super) struct Piece {
    pub(super) at: Location,
    pub(super) expression: Expr,
}

/// One entry of the SELECT list.
pub(super) struct Item {
    pub(super) piece: Piece,
    pub(super) alias: Option<(String, Location)>,
}

/// A SELECT column that has its meaning and its name.
struct Named {
    name: String,
    /// Whether AS gave the name, so that GROUP BY may use it.
    aliased: bool,
    at: Location,
    computed: Computed,
}

pub(super) use shown::{retain, stripes};

/// What stands behind GROUP BY.
pub(super) struct Last {
    pub(super) having: Option<Piece>,
    pub(super) order: Option<Order>,
}

/// ORDER BY with LIMIT.
pub(super) struct Order {
    pub(super) at: Location,
    pub(super) by: Vec<Sort>,
    pub(super) limit: usize,
}

/// One entry of ORDER BY.
pub(super) struct Sort {
    pub(super) piece: Piece,
    pub(super) is_descending: bool,
}

/// Compiles the clauses together.
pub(super) fn compile(
    scope: &Scope,
    items: Vec<Item>,
    filter: Option<Piece>,
    (groups, last): (Vec<Piece>, Last),
) -> Result<(Option<Expression>, Shape), SqlError> {
    if let Some(Piece { at, .. }) = groups.first().filter(|_| items.is_empty()) {
        let remedy = "name the keys and aggregates of the groups";
        return Err(SqlError::new(*at, "SELECT * has no groups", remedy));
    }
    let columns = name_columns(scope, items)?;
    let filter = filter.map(|piece| scope.predicate(&piece.expression, piece.at)).transpose()?;
    let aggregates = columns.iter().any(|column| matches!(column.computed, Computed::Aggregate(_)));
    let shape = if aggregates || !groups.is_empty() {
        let keys = group_keys(scope, &columns, filter.as_ref(), groups)?;
        let aliases = shown::aliases(scope, &columns, filter.as_ref(), &keys);
        let mut groups = grouped(columns, keys)?;
        shown::compile(scope, &mut groups, aliases, last)?;
        Shape::Groups(groups)
    } else {
        shown::refuse(&last)?;
        Shape::Rows(columns.into_iter().filter_map(plain_column).collect())
    };
    Ok((filter, shape))
}

fn name_columns(scope: &Scope, items: Vec<Item>) -> Result<Vec<Named>, SqlError> {
    let mut columns: Vec<Named> = Vec::new();
    let mut names = BTreeSet::new();
    for Item { piece, alias } in items {
        let computed = scope.column(&piece.expression, piece.at)?;
        let (name, at, aliased) = match (alias, &computed) {
            (Some((name, at)), _) => (name, at, true),
            (None, Computed::Expression(Expression::Path(path))) => {
                (path.last().to_owned(), piece.at, false)
            }
            (None, _) => {
                let remedy = "write AS and a name behind it";
                return Err(SqlError::new(piece.at, "a computed column has no name", remedy));
            }
        };
        if name.starts_with('_') {
            let remedy = "names that begin with _ are ours; write AS and another name";
            return Err(SqlError::new(at, format!("column {name} cannot be called so"), remedy));
        }
        if !names.insert(name.clone()) {
            let problem = format!("there are two columns {name}");
            return Err(SqlError::new(at, problem, "write AS and another name"));
        }
        columns.push(Named { name, aliased, at: piece.at, computed });
    }
    Ok(columns)
}

fn plain_column(column: Named) -> Option<Column> {
    match column.computed {
        Computed::Expression(expression) => Some(Column { name: column.name, expression }),
        Computed::Aggregate(_) => None,
    }
}

/// The GROUP BY expressions without repetitions.
fn group_keys(
    scope: &Scope,
    columns: &[Named],
    filter: Option<&Expression>,
    groups: Vec<Piece>,
) -> Result<Vec<Expression>, SqlError> {
    let mut used = used_paths(columns, filter);
    used.extend(scope.used_beside());
    let mut keys: Vec<Expression> = Vec::new();
    for Piece { at, expression } in groups {
        let named = match ordinal(&expression) {
            Some(number) => Some(column_at(columns, number, at)?),
            None => group_alias(columns, &used, &expression),
        };
        let key = match named {
            Some(Named { computed: Computed::Expression(aliased), .. }) => aliased.clone(),
            Some(Named { computed: Computed::Aggregate(_), .. }) => {
                let remedy = "group by attributes; filter the groups where you read the view";
                return Err(SqlError::new(at, "GROUP BY names an aggregate", remedy));
            }
            None => scope.expression(&expression, at)?,
        };
        if matches!(key, Expression::Literal(_)) {
            let remedy = "group by an attribute, or by the number of a column";
            return Err(SqlError::new(at, "GROUP BY names a constant", remedy));
        }
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The number of a SELECT column, if that is what stands in GROUP BY.
fn ordinal(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => Some(digits),
            _ => None,
        },
        _ => None,
    }
}

/// The column of this number, from 1.
fn column_at<'c>(columns: &'c [Named], number: &str, at: Location) -> Result<&'c Named, SqlError> {
    let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    index.and_then(|index| columns.get(index)).ok_or_else(|| {
        let remedy = format!("the columns have the numbers 1 to {}", columns.len());
        SqlError::new(at, format!("there is no column {number}"), remedy)
    })
}

/// The paths of one part that the statement uses outside GROUP BY.
fn used_paths<'c>(columns: &'c [Named], filter: Option<&'c Expression>) -> BTreeSet<&'c str> {
    let mut used = BTreeSet::new();
    let expressions = columns.iter().filter_map(|column| match &column.computed {
        Computed::Expression(expression) => Some(expression),
        Computed::Aggregate(aggregate) => aggregate.argument.as_ref(),
    });
    for expression in expressions.chain(filter) {
        expression.visit_paths(&mut |path: &Path| {
            if path.parts().len() == 1 {
                used.insert(path.first());
            }
        });
    }
    used
}

/// The column whose alias this GROUP BY entry is; see the head of `sql.rs` for the rule.
fn group_alias<'c>(
    columns: &'c [Named],
    used: &BTreeSet<&str>,
    expression: &Expr,
) -> Option<&'c Named> {
    match expression {
        Expr::Identifier(name) if !used.contains(name.value.as_str()) => {
            columns.iter().find(|column| column.aliased && column.name == name.value)
        }
        _ => None,
    }
}

fn grouped(columns: Vec<Named>, keys: Vec<Expression>) -> Result<Groups, SqlError> {
    let (aggregates, columns_of) = (Vec::new(), Vec::new());
    let mut groups = Groups {
        keys,
        aggregates,
        columns: columns_of,
        having: None,
        top: None,
        retain: None,
        stripes: None,
    };
    for Named { name, at, computed, .. } in columns {
        let output = match computed {
            Computed::Aggregate(aggregate) => {
                groups.aggregates.push(aggregate);
                Output::Aggregate(groups.aggregates.len() - 1)
            }
            Computed::Expression(expression) => {
                let Some(index) = groups.keys.iter().position(|key| *key == expression) else {
                    let problem = format!("column {name} {NOT_GROUPED}");
                    let remedy = format!("add {expression} to GROUP BY");
                    return Err(SqlError::new(at, problem, remedy));
                };
                Output::Key(index)
            }
        };
        groups.columns.push(GroupColumn { name, output });
    }
    Ok(groups)
}
