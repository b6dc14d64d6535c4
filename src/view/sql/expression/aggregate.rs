//! count, sum and avg, and the FILTER behind them.
//!
//! Separate because an aggregate is no expression: it stands alone in its column. A FILTER is
//! compiled to the CASE that it stands for, so nothing behind this file knows of it.

use super::{Scope, call::call_name, call_place, place, require};
use crate::view::{
    definition::{Aggregate, Case, Expression, Function, Type},
    scalar::Scalar,
    sql::SqlError,
};
use bigdecimal::BigDecimal;
use sqlparser::ast::{Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments};

/// The aggregate of this name, if there is one.
pub(super) fn aggregate_name(call: &Call) -> Option<Function> {
    match call_name(call).as_str() {
        "count" => Some(Function::Count),
        "sum" => Some(Function::Sum),
        "avg" => Some(Function::Avg),
        _ => None,
    }
}

impl Scope {
    pub(super) fn aggregate(&self, function: Function, call: &Call) -> Result<Aggregate, SqlError> {
        let at = call_place(call);
        let refuse = || {
            let remedy = "write count(*), count(x), sum(x) or avg(x), each also with FILTER \
                          (WHERE condition)";
            Err(SqlError::new(at, format!("this form of {function} is not supported"), remedy))
        };
        let FunctionArguments::List(list) = &call.args else { return refuse() };
        let bare = call.over.is_none()
            && call.null_treatment.is_none()
            && call.within_group.is_empty()
            // Not `==`: it would bring the comparison of every statement there is.
            && matches!(call.parameters, FunctionArguments::None)
            && list.duplicate_treatment.is_none()
            && list.clauses.is_empty();
        let filter = match &call.filter {
            Some(filter) => Some(self.condition_of("FILTER", filter, at)?),
            None => None,
        };
        let argument = match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]
                if bare && function == Function::Count =>
            {
                None
            }
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] if bare => {
                let at = place(argument, at);
                let compiled = self.compile(argument, at, 0)?;
                if function != Function::Count {
                    require(&compiled, Type::Number, &function.to_string(), at)?;
                }
                Some(compiled)
            }
            _ => return refuse(),
        };
        let argument = match filter {
            None => argument,
            Some(filter) => {
                let one = || Expression::Literal(Scalar::Number(BigDecimal::from(1)));
                let branches = vec![(filter, argument.unwrap_or_else(one))];
                let case = Case { operand: None, branches, otherwise: None };
                Some(Expression::Case(Box::new(case)))
            }
        };
        Ok(Aggregate { function, argument })
    }
}
