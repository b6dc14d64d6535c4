//! Paths that go through a list, such as `lines[0].price`.

use super::Scope;
use crate::view::{
    definition::{Element, Expression, Step},
    sql::SqlError,
};
use sqlparser::{
    ast::{AccessExpr, Expr, Subscript, Value},
    tokenizer::Location,
};

const REMEDY: &str = "write an attribute and a whole number from 0, as in lines[0].price";

impl Scope {
    pub(super) fn element(
        &self,
        root: &Expr,
        chain: &[AccessExpr],
        at: Location,
    ) -> Result<Expression, SqlError> {
        let mut names = match root {
            Expr::Identifier(part) => vec![part.clone()],
            Expr::CompoundIdentifier(parts) => parts.clone(),
            _ => return Err(SqlError::new(at, "this expression is not supported", REMEDY)),
        };
        let mut steps = Vec::new();
        for access in chain {
            match access {
                AccessExpr::Dot(Expr::Identifier(part)) if steps.is_empty() => {
                    names.push(part.clone());
                }
                AccessExpr::Dot(Expr::Identifier(part)) if !part.value.is_empty() => {
                    steps.push(Step::Name(part.value.clone()));
                }
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    steps.push(Step::Index(index_of(index).ok_or_else(|| {
                        let problem = "an index of a list is a whole number from 0";
                        SqlError::new(super::place(index, at), problem, REMEDY)
                    })?));
                }
                _ => return Err(SqlError::new(at, "this expression is not supported", REMEDY)),
            }
        }
        match self.path(&names, at)? {
            path if steps.is_empty() => Ok(path),
            Expression::Path(list) => Ok(Expression::Element(Box::new(Element { list, steps }))),
            _ => Err(SqlError::new(at, "this expression is not supported", REMEDY)),
        }
    }
}

fn index_of(index: &Expr) -> Option<u32> {
    match index {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
