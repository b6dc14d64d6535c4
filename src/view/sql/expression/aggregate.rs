//! The aggregates, and the FILTER behind them.
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
use sqlparser::ast::{
    DuplicateTreatment, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments,
};

/// The aggregate of this name, if there is one.
pub(super) fn aggregate_name(call: &Call) -> Option<Function> {
    match call_name(call).as_str() {
        "count" => Some(Function::Count),
        "sum" => Some(Function::Sum),
        "avg" => Some(Function::Avg),
        "min" => Some(Function::Min),
        "max" => Some(Function::Max),
        // `every` is the standard's name, and the one that other engines have as well.
        "bool_and" | "every" => Some(Function::BoolAnd),
        "bool_or" => Some(Function::BoolOr),
        _ => None,
    }
}

impl Scope {
    pub(super) fn aggregate(&self, function: Function, call: &Call) -> Result<Aggregate, SqlError> {
        let at = call_place(call);
        let refuse = || {
            let remedy = "write count(*), count(x), count(DISTINCT x), sum(x), sum(DISTINCT x), \
                          avg(x), min(x), max(x), bool_and(x) or bool_or(x), each also with \
                          FILTER (WHERE condition)";
            Err(SqlError::new(at, format!("this form of {function} is not supported"), remedy))
        };
        let FunctionArguments::List(list) = &call.args else { return refuse() };
        let bare = call.over.is_none()
            && call.null_treatment.is_none()
            && call.within_group.is_empty()
            // Not `==`: it would bring the comparison of every statement there is.
            && matches!(call.parameters, FunctionArguments::None)
            && list.clauses.is_empty();
        let function = match (&list.duplicate_treatment, function) {
            (None, function) => function,
            // Whether a value comes once or twice makes no difference to these.
            (Some(DuplicateTreatment::All), function)
            | (Some(DuplicateTreatment::Distinct), function @ (Function::Min | Function::Max)) => {
                function
            }
            (Some(DuplicateTreatment::Distinct), Function::Count) => Function::CountDistinct,
            (Some(DuplicateTreatment::Distinct), Function::Sum) => Function::SumDistinct,
            (Some(DuplicateTreatment::Distinct), _) => {
                let remedy = "keep sum(DISTINCT x) and count(DISTINCT x), and divide where you \
                              read";
                let problem = format!("{function}(DISTINCT …) is not supported");
                return Err(SqlError::new(at, problem, remedy));
            }
        };
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
                match function {
                    Function::Sum | Function::SumDistinct | Function::Avg => {
                        require(&compiled, Type::Number, &function.to_string(), at)?;
                    }
                    Function::BoolAnd | Function::BoolOr => {
                        require(&compiled, Type::Bool, &function.to_string(), at)?;
                    }
                    Function::Min | Function::Max if compiled.known_type() == Some(Type::Bool) => {
                        let remedy = "write bool_and(x) for the smallest and bool_or(x) for the \
                                      largest of truth values";
                        let problem = format!("{function} of a truth value is not supported");
                        return Err(SqlError::new(at, problem, remedy));
                    }
                    _ => {}
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
