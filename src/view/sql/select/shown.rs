//! HAVING and ORDER BY: which groups are shown, and what names mean there.
//!
//! In HAVING a name is found as in GROUP BY. In ORDER BY it is first of all that of a column, as
//! in the standard. What it gives up: an order of all rows, and one by what no index can sort.

use super::{Last, NOT_GROUPED, Named, Order, Piece, Sort, ordinal, used_paths};
use crate::view::{
    definition::{
        Expression, Function, GroupColumn, Groups, Output, Part, Path, Retain, Shape, Top,
    },
    sql::{
        SqlError,
        expression::{Computed, InHaving, Scope},
    },
};
use sqlparser::{ast::Expr, tokenizer::Location};
use std::collections::BTreeSet;

/// What can be ordered by.
const REMEDY: &str = "order by one column that is a count, a sum, a min or a max";

/// The names that AS gives to columns and that are those of no attribute of the statement.
pub(super) fn aliases(
    scope: &Scope,
    columns: &[Named],
    filter: Option<&Expression>,
    keys: &[Expression],
) -> BTreeSet<String> {
    let mut used = used_paths(columns, filter);
    used.extend(scope.used_beside());
    for key in keys {
        key.visit_paths(&mut |path: &Path| {
            used.extend((path.parts().len() == 1).then(|| path.first()));
        });
    }
    let names = columns.iter().filter(|it| it.aliased).map(|it| &it.name);
    names.filter(|name| !used.contains(name.as_str())).cloned().collect()
}

/// Nothing but groups has these clauses.
pub(super) fn refuse(last: &Last) -> Result<(), SqlError> {
    if let Some(Piece { at, .. }) = &last.having {
        return Err(SqlError::new(*at, "HAVING needs GROUP BY or aggregates", "write WHERE"));
    }
    if let Some(Order { at, .. }) = &last.order {
        let remedy = "rows of items print sorted by their key; sort otherwise where you read";
        return Err(SqlError::new(*at, "ORDER BY needs GROUP BY", remedy));
    }
    Ok(())
}

pub(super) fn compile(
    scope: &Scope,
    groups: &mut Groups,
    aliases: BTreeSet<String>,
    last: Last,
) -> Result<(), SqlError> {
    if let Some(Piece { at, expression }) = last.having {
        let having = InHaving { groups: groups.clone(), aliases };
        groups.having = Some(scope.having((&expression, at), &having)?);
    }
    if let Some(order) = last.order {
        groups.top = Some(top(scope, groups, order)?);
    }
    Ok(())
}

fn top(scope: &Scope, groups: &Groups, order: Order) -> Result<Top, SqlError> {
    let Order { at, by, limit } = order;
    if groups.keys.is_empty() {
        let remedy = "without GROUP BY a view has one row; take ORDER BY away";
        return Err(SqlError::new(at, "ORDER BY needs GROUP BY", remedy));
    }
    let mut by = by.into_iter();
    let Some(Sort { piece, is_descending }) = by.next() else {
        return Err(SqlError::new(at, "ORDER BY names no column", REMEDY));
    };
    let column = column_of(scope, groups, &piece)?;
    let refuse = |what: &str, why: &str| {
        let problem = format!("ORDER BY {what} is not supported");
        Err(SqlError::new(piece.at, problem, format!("{why}; {REMEDY}")))
    };
    match groups.columns[column].output {
        Output::Key(_) => return refuse("a key", "rows print sorted by their keys"),
        Output::Aggregate(index) => match groups.aggregates[index].function {
            Function::Avg => {
                return refuse("an average", "a row keeps its sum and its count, and no quotient");
            }
            Function::BoolAnd | Function::BoolOr => {
                return refuse("a truth value", "a row keeps two counts of it");
            }
            Function::SumDistinct => {
                let why = "whether it is NULL is not known before it is written";
                return refuse("sum(DISTINCT …)", why);
            }
            Function::Count
            | Function::CountDistinct
            | Function::Sum
            | Function::Min
            | Function::Max => {}
        },
    }
    for (at, Sort { piece, is_descending }) in by.enumerate() {
        let is_key = column_of(scope, groups, &piece)
            .is_ok_and(|column| groups.columns[column].output == Output::Key(at));
        if is_descending || !is_key {
            let remedy = "equal groups are told by the keys of GROUP BY, in their order and the \
                          smaller first; write those behind it, or nothing";
            return Err(SqlError::new(
                piece.at,
                "this order of equal groups is not supported",
                remedy,
            ));
        }
    }
    // Of columns that are equal the first one, as a text with another name says it.
    let is_same = |other: &GroupColumn| match (other.output, groups.columns[column].output) {
        (Output::Aggregate(one), Output::Aggregate(other)) => {
            groups.aggregates[one] == groups.aggregates[other]
        }
        _ => false,
    };
    let column = groups.columns.iter().position(is_same).unwrap_or(column);
    Ok(Top { column, is_descending, limit })
}

/// Keeps groups for so long.
pub(in crate::view::sql) fn retain(
    shape: &mut Shape,
    hours: u32,
    at: Location,
) -> Result<(), SqlError> {
    let no_bucket = || {
        let remedy = "group by one time that is cut, as in GROUP BY date_trunc('day', placed_at)";
        SqlError::new(at, "retain needs a time to count from", remedy)
    };
    let Shape::Groups(groups) = shape else { return Err(no_bucket()) };
    let is_time = |key: &Expression| match key {
        Expression::Time(time) => matches!(time.part, Part::Start { .. }),
        _ => false,
    };
    let key = groups.keys.iter().position(is_time).ok_or_else(no_bucket)?;
    if groups.keys.iter().filter(|key| is_time(key)).count() > 1 {
        return Err(no_bucket());
    }
    if groups.value_keepers().next().is_some() {
        let remedy = "the values of groups that are gone would stay; take min, max and DISTINCT \
                      into a view without it";
        return Err(SqlError::new(
            at,
            "retain beside min, max and DISTINCT is not supported",
            remedy,
        ));
    }
    groups.retain = Some(Retain { key, hours });
    Ok(())
}

/// Keeps each group in so many rows.
pub(in crate::view::sql) fn stripes(
    shape: &mut Shape,
    stripes: u32,
    at: Location,
) -> Result<(), SqlError> {
    let refuse = |problem: &str, remedy: &str| Err(SqlError::new(at, problem, remedy));
    let Shape::Groups(groups) = shape else {
        let remedy = "each item has a row of its own; take stripes away";
        return refuse("stripes needs groups", remedy);
    };
    if groups.top.is_some() {
        let remedy = "no index sorts a group that is kept in several rows; take one of them away";
        return refuse("stripes beside LIMIT is not supported", remedy);
    }
    if !groups.can_be_striped() {
        let remedy = "a value may be in several rows of a group, so they do not add up; take \
                      DISTINCT into a view without it";
        return refuse("stripes beside DISTINCT is not supported", remedy);
    }
    groups.stripes = Some(stripes);
    Ok(())
}

/// The column that an entry of ORDER BY means.
fn column_of(scope: &Scope, groups: &Groups, piece: &Piece) -> Result<usize, SqlError> {
    let Piece { at, expression } = piece;
    let found = |is_it: &dyn Fn(usize) -> bool| (0..groups.columns.len()).find(|at| is_it(*at));
    let by_name = match expression {
        Expr::Identifier(name) => found(&|at| groups.columns[at].name == name.value),
        _ => None,
    };
    if let Some(column) = by_name {
        return Ok(column);
    }
    if let Some(number) = ordinal(expression) {
        let number = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        return number.filter(|at| *at < groups.columns.len()).ok_or_else(|| no_column(*at));
    }
    let computed = scope.column(expression, *at)?;
    found(&|at| match (groups.columns[at].output, &computed) {
        (Output::Aggregate(index), Computed::Aggregate(it)) => groups.aggregates[index] == *it,
        (Output::Key(index), Computed::Expression(it)) => groups.keys[index] == *it,
        _ => false,
    })
    .ok_or_else(|| match &computed {
        Computed::Expression(Expression::Path(path)) => {
            SqlError::new(*at, format!("{path} in ORDER BY {NOT_GROUPED}"), REMEDY)
        }
        _ => no_column(*at),
    })
}

fn no_column(at: Location) -> SqlError {
    SqlError::new(at, "ORDER BY names no column of the view", REMEDY)
}
