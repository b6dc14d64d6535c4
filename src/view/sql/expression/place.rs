//! Where an expression begins.
//!
//! Separate because the parser keeps the places of names and literals only. Walks instead of
//! asking the parser, whose own walk is recursive in every operand.

use sqlparser::{
    ast::{Expr, Function as Call, Spanned},
    tokenizer::Location,
};

pub(in crate::view::sql) fn without_parentheses(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

pub(super) fn call_place(call: &Call) -> Location {
    call.name.0.first().map_or(Location::new(1, 1), |part| part.span().start)
}

/// Where an expression begins, as far as the parser kept it: the place of its leftmost
/// operand.
pub(super) fn place(expr: &Expr, fallback: Location) -> Location {
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::BinaryOp { left, .. } => left,
            Expr::Nested(inner)
            | Expr::UnaryOp { expr: inner, .. }
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsDistinctFrom(inner, _)
            | Expr::IsNotDistinctFrom(inner, _)
            | Expr::InList { expr: inner, .. }
            | Expr::Between { expr: inner, .. }
            | Expr::Like { expr: inner, .. }
            | Expr::Cast { expr: inner, .. }
            | Expr::Extract { expr: inner, .. }
            | Expr::CompoundFieldAccess { root: inner, .. } => inner,
            Expr::Identifier(part) => return part.span.start,
            Expr::CompoundIdentifier(parts) => {
                return parts.first().map_or(fallback, |part| part.span.start);
            }
            Expr::Value(value) => return value.span.start,
            Expr::Function(call) => return call_place(call),
            Expr::Case { case_token, .. } => return case_token.0.span.start,
            _ => return fallback,
        };
    }
}
