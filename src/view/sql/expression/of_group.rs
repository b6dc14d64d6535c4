//! What HAVING may ask: the keys of a group and its aggregates.
//!
//! Separate because everywhere else an expression is over one item. An aggregate has to be a
//! column of the view, because no other is kept.

use super::Scope;
use crate::view::{
    definition::{Expression, Function, Groups, OfGroup, Output, Shown},
    sql::{SqlError, select::NOT_GROUPED},
};
use sqlparser::{
    ast::{Expr, Function as Call},
    tokenizer::Location,
};
use std::collections::BTreeSet;

/// What HAVING may ask of.
#[derive(Clone)]
pub(in crate::view::sql) struct InHaving {
    pub(in crate::view::sql) groups: Groups,
    /// Names that are not attributes but what AS calls a column.
    pub(in crate::view::sql) aliases: BTreeSet<String>,
}

impl InHaving {
    /// What of a group an expression is: a key, or, of a name without a table, the column of that
    /// name.
    fn shown(&self, expression: &Expression, is_bare: bool) -> Option<Expression> {
        let Groups { keys, aggregates, columns, .. } = &self.groups;
        let key = keys.iter().position(|key| key == expression).map(Output::Key);
        let alias = || match expression {
            Expression::Path(path)
                if is_bare && path.parts().len() == 1 && self.aliases.contains(path.first()) =>
            {
                columns.iter().find(|it| it.name == path.first()).map(|it| it.output)
            }
            _ => None,
        };
        let output = key.or_else(alias)?;
        let shown = match output {
            Output::Key(index) => Shown::Key(keys.get(index)?.clone()),
            Output::Aggregate(index) => Shown::Aggregate(aggregates.get(index)?.clone()),
        };
        Some(Expression::OfGroup(Box::new(OfGroup { output, shown })))
    }
}

impl Scope {
    /// In HAVING what of a group a path is, and elsewhere itself.
    pub(super) fn shown(&self, path: Expression, is_bare: bool) -> Expression {
        self.having.as_ref().and_then(|having| having.shown(&path, is_bare)).unwrap_or(path)
    }

    /// An aggregate inside an expression.
    pub(super) fn aggregate_of_group(
        &self,
        function: Function,
        call: &Call,
        at: Location,
    ) -> Result<Expression, SqlError> {
        let Some(InHaving { groups, .. }) = &self.having else {
            let remedy = "make each aggregate a SELECT column of its own, and combine them where \
                          you read";
            return Err(SqlError::new(at, "an aggregate has no place in an expression", remedy));
        };
        let of_items = Self { having: None, ..self.clone() };
        let aggregate = of_items.aggregate(function, call)?;
        let Some(index) = groups.aggregates.iter().position(|other| *other == aggregate) else {
            let problem = format!("{aggregate} is no column of the view");
            let remedy = "write it into SELECT with AS and a name: no other aggregate is kept";
            return Err(SqlError::new(at, problem, remedy));
        };
        let (output, shown) = (Output::Aggregate(index), Shown::Aggregate(aggregate));
        Ok(Expression::OfGroup(Box::new(OfGroup { output, shown })))
    }

    /// Compiles HAVING.
    pub(in crate::view::sql) fn having(
        &self,
        (expr, at): (&Expr, Location),
        having: &InHaving,
    ) -> Result<Expression, SqlError> {
        let scope = Self { having: Some(having.clone()), ..self.clone() };
        let mut condition = scope.condition_of("HAVING", expr, at)?;
        // Keys that are more than a path.
        condition.replace(&mut |part| having.shown(part, false));
        let mut other = None;
        condition.visit_paths(&mut |path| other = other.or(Some(path)));
        if let Some(path) = other {
            let problem = format!("{path} in HAVING {NOT_GROUPED}");
            return Err(SqlError::new(at, problem, "write it into WHERE, or into GROUP BY"));
        }
        Ok(condition)
    }
}
