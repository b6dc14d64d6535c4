//! From the parser's expressions to the definition's, with every type that is known checked.
//!
//! Separate because it is the only place that sees the parser's hundred kinds of expression:
//! nine become ours, the rest is refused. Invariant: in what comes out, operands of known
//! type fit their operator, so a wrong type can only come from an item.

use super::SqlError;
use crate::view::{
    definition::{Aggregate, Comparison, Expression, Function, Operation, Path},
    evaluate::Type,
    number::{self, NumberFault},
    scalar::Scalar,
};
use sqlparser::{
    ast::{
        BinaryOperator, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments,
        Ident, ObjectNamePart, Spanned, UnaryOperator, Value,
    },
    tokenizer::Location,
};

/// The deepest nesting of operators, so that no recursion over a definition is deeper.
const DEPTH_MAX: usize = 100;

/// What can be written where anything else was.
const KINDS: &str = "an expression has attributes, literals, = <> < <= > >= + - *, AND, OR, NOT \
                     and IS [NOT] NULL";

/// What the names of one statement mean.
pub(super) struct Scope {
    /// The alias of FROM, or its name.
    pub(super) qualifier: String,
}

/// What a SELECT column computes.
pub(super) enum Computed {
    Expression(Expression),
    Aggregate(Aggregate),
}

impl Scope {
    /// Compiles one SELECT column, which alone may be an aggregate.
    pub(super) fn column(&self, expr: &Expr, at: Location) -> Result<Computed, SqlError> {
        match without_parentheses(expr) {
            Expr::Function(call) => match aggregate_name(call) {
                Some(function) => self.aggregate(function, call).map(Computed::Aggregate),
                None => Err(refuse_call(call)),
            },
            other => self.expression(other, at).map(Computed::Expression),
        }
    }

    /// Compiles an expression over one item; `at` is where it begins.
    pub(super) fn expression(&self, expr: &Expr, at: Location) -> Result<Expression, SqlError> {
        self.compile(expr, at, 0)
    }

    /// Compiles a predicate.
    pub(super) fn predicate(&self, expr: &Expr, at: Location) -> Result<Expression, SqlError> {
        let compiled = self.compile(expr, at, 0)?;
        require(&compiled, Type::Bool, "WHERE", place(expr, at))?;
        Ok(compiled)
    }

    fn aggregate(&self, function: Function, call: &Call) -> Result<Aggregate, SqlError> {
        let at = call_place(call);
        let refuse = || {
            let remedy = "write count(*), count(x), sum(x) or avg(x)";
            Err(SqlError::new(at, format!("this form of {function} is not supported"), remedy))
        };
        let FunctionArguments::List(list) = &call.args else { return refuse() };
        let bare = call.filter.is_none()
            && call.over.is_none()
            && call.null_treatment.is_none()
            && call.within_group.is_empty()
            // Not `==`: it would bring the comparison of every statement there is.
            && matches!(call.parameters, FunctionArguments::None)
            && list.duplicate_treatment.is_none()
            && list.clauses.is_empty();
        match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]
                if bare && function == Function::Count =>
            {
                Ok(Aggregate { function, argument: None })
            }
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] if bare => {
                let at = place(argument, at);
                let compiled = self.compile(argument, at, 0)?;
                if function != Function::Count {
                    require(&compiled, Type::Number, &function.to_string(), at)?;
                }
                Ok(Aggregate { function, argument: Some(compiled) })
            }
            _ => refuse(),
        }
    }

    fn compile(&self, expr: &Expr, at: Location, depth: usize) -> Result<Expression, SqlError> {
        let at = place(expr, at);
        if depth > DEPTH_MAX {
            let remedy = "take operators away, or write several views";
            return Err(SqlError::new(at, "nested too deeply", remedy));
        }
        let depth = depth + 1;
        match expr {
            Expr::Nested(inner) => self.compile(inner, at, depth),
            Expr::Identifier(part) => self.path(std::slice::from_ref(part), at),
            Expr::CompoundIdentifier(parts) => self.path(parts, at),
            Expr::Value(value) => literal(&value.value, at).map(Expression::Literal),
            Expr::IsNull(inner) => {
                Ok(Expression::IsNull(Box::new(self.compile(inner, at, depth)?)))
            }
            Expr::IsNotNull(inner) => {
                let tested = Expression::IsNull(Box::new(self.compile(inner, at, depth)?));
                Ok(Expression::Not(Box::new(tested)))
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => {
                let inner = self.typed(inner, Type::Bool, "NOT", at, depth)?;
                Ok(Expression::Not(Box::new(inner)))
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                Ok(match self.typed(inner, Type::Number, "`-`", at, depth)? {
                    Expression::Literal(Scalar::Number(value)) => {
                        Expression::Literal(Scalar::Number(-value))
                    }
                    other => Expression::Negate(Box::new(other)),
                })
            }
            Expr::BinaryOp { op: BinaryOperator::And, .. } => {
                Ok(Expression::And(self.chain(expr, &BinaryOperator::And, at, depth)?))
            }
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => {
                Ok(Expression::Or(self.chain(expr, &BinaryOperator::Or, at, depth)?))
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, at, depth),
            Expr::Function(call) if aggregate_name(call).is_some() => {
                let remedy = "make each aggregate a SELECT column of its own, and combine them \
                              where you read";
                Err(SqlError::new(at, "an aggregate has no place in an expression", remedy))
            }
            Expr::Function(call) => Err(refuse_call(call)),
            _ => Err(SqlError::new(at, "this expression is not supported", KINDS)),
        }
    }

    fn path(&self, parts: &[Ident], at: Location) -> Result<Expression, SqlError> {
        if parts.iter().any(|part| part.value.is_empty()) {
            return Err(SqlError::new(at, "an attribute's name is empty", "give its name"));
        }
        let parts = match parts {
            [qualifier, rest @ ..] if qualifier.value == self.qualifier && !rest.is_empty() => rest,
            all => all,
        };
        let mut names = parts.iter().map(|part| part.value.clone());
        let first = names.next().unwrap_or_default();
        Ok(Expression::Path(Path::new(first, names)))
    }

    fn typed(
        &self,
        expr: &Expr,
        expected: Type,
        operator: &str,
        at: Location,
        depth: usize,
    ) -> Result<Expression, SqlError> {
        let at = place(expr, at);
        let compiled = self.compile(expr, at, depth)?;
        require(&compiled, expected, operator, at)?;
        Ok(compiled)
    }

    /// The operands of a chain of one operator, however long, left to right.
    fn chain(
        &self,
        expr: &Expr,
        operator: &BinaryOperator,
        at: Location,
        depth: usize,
    ) -> Result<Vec<Expression>, SqlError> {
        let mut rest = expr;
        let mut operands = Vec::new();
        while let Expr::BinaryOp { left, op, right } = without_parentheses(rest)
            && op == operator
        {
            operands.push(right.as_ref());
            rest = left;
        }
        operands.push(rest);
        let mut parts = Vec::new();
        for operand in operands.into_iter().rev() {
            let part = self.typed(operand, Type::Bool, &operator.to_string(), at, depth)?;
            match (operator, part) {
                (BinaryOperator::And, Expression::And(inner))
                | (BinaryOperator::Or, Expression::Or(inner)) => parts.extend(inner),
                (_, part) => parts.push(part),
            }
        }
        Ok(parts)
    }

    fn binary(
        &self,
        left: &Expr,
        operator: &BinaryOperator,
        right: &Expr,
        at: Location,
        depth: usize,
    ) -> Result<Expression, SqlError> {
        let (left_at, right_at) = (place(left, at), place(right, at));
        if let Some(operation) = arithmetic(operator) {
            let sign = format!("`{operator}`");
            let left = self.typed(left, Type::Number, &sign, left_at, depth)?;
            let right = self.typed(right, Type::Number, &sign, right_at, depth)?;
            return Ok(Expression::Arithmetic(operation, Box::new(left), Box::new(right)));
        }
        let Some(comparison) = comparison(operator) else {
            let problem = format!("`{operator}` is not supported");
            return Err(SqlError::new(at, problem, KINDS));
        };
        for (operand, at) in [(left, left_at), (right, right_at)] {
            if is_comparison(operand) {
                let remedy = "write a < b AND b < c, or put one comparison in parentheses";
                return Err(SqlError::new(at, "comparisons cannot be chained", remedy));
            }
        }
        let left = self.compile(left, left_at, depth)?;
        let right = self.compile(right, right_at, depth)?;
        if let (Some(first), Some(second)) = (left.known_type(), right.known_type())
            && first != second
        {
            let problem = format!("`{operator}` compares {} with {}", noun(first), noun(second));
            return Err(SqlError::new(right_at, problem, "compare values of one type"));
        }
        Ok(Expression::Compare(comparison, Box::new(left), Box::new(right)))
    }
}

const fn noun(known: Type) -> &'static str {
    match known {
        Type::Bool => "a truth value",
        Type::Number => "a number",
        Type::Text => "a text",
    }
}

fn require(
    expression: &Expression,
    expected: Type,
    operator: &str,
    at: Location,
) -> Result<(), SqlError> {
    match expression.known_type() {
        Some(found) if found != expected => {
            let problem = format!("{operator} needs {}, not {}", noun(expected), noun(found));
            Err(SqlError::new(at, problem, "there is no conversion between types"))
        }
        _ => Ok(()),
    }
}

fn literal(value: &Value, at: Location) -> Result<Scalar, SqlError> {
    match value {
        Value::Null => Ok(Scalar::Null),
        Value::Boolean(value) => Ok(Scalar::Bool(*value)),
        Value::SingleQuotedString(text) => Ok(Scalar::Text(text.clone())),
        Value::Number(text, _) => number::read(text).map(Scalar::Number).map_err(|fault| {
            let (problem, remedy) = match fault {
                NumberFault::NotANumber => ("this is not a number", "write digits and one point"),
                NumberFault::Digits => {
                    ("a number has at most 38 digits", "round it to what the values can have")
                }
                NumberFault::Magnitude => {
                    ("a number is between 1E-130 and 9.99E125", "no value is beyond that")
                }
            };
            SqlError::new(at, problem, remedy)
        }),
        _ => Err(SqlError::new(at, "this literal is not supported", KINDS)),
    }
}

const fn arithmetic(operator: &BinaryOperator) -> Option<Operation> {
    match operator {
        BinaryOperator::Plus => Some(Operation::Add),
        BinaryOperator::Minus => Some(Operation::Subtract),
        BinaryOperator::Multiply => Some(Operation::Multiply),
        _ => None,
    }
}

const fn comparison(operator: &BinaryOperator) -> Option<Comparison> {
    match operator {
        BinaryOperator::Eq => Some(Comparison::Equal),
        BinaryOperator::NotEq => Some(Comparison::NotEqual),
        BinaryOperator::Lt => Some(Comparison::Less),
        BinaryOperator::LtEq => Some(Comparison::LessOrEqual),
        BinaryOperator::Gt => Some(Comparison::Greater),
        BinaryOperator::GtEq => Some(Comparison::GreaterOrEqual),
        _ => None,
    }
}

/// A comparison without parentheses: engines group a chain of them differently.
fn is_comparison(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op, .. } if comparison(op).is_some())
}

fn without_parentheses(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

fn call_place(call: &Call) -> Location {
    call.name.0.first().map_or(Location::new(1, 1), |part| part.span().start)
}

fn call_name(call: &Call) -> String {
    match call.name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => name.value.to_ascii_lowercase(),
        _ => String::new(),
    }
}

fn aggregate_name(call: &Call) -> Option<Function> {
    match call_name(call).as_str() {
        "count" => Some(Function::Count),
        "sum" => Some(Function::Sum),
        "avg" => Some(Function::Avg),
        _ => None,
    }
}

fn refuse_call(call: &Call) -> SqlError {
    let name = call_name(call);
    let problem = match name.as_str() {
        "min" | "max" => format!("{name} is not supported yet"),
        "" => "this function is not supported".to_owned(),
        _ => format!("function {name} is not supported"),
    };
    SqlError::new(call_place(call), problem, "the functions are count, sum and avg")
}

/// Where an expression begins, as far as the parser kept it: the place of its leftmost
/// operand. Walks instead of asking the parser, whose own walk is recursive in every operand.
fn place(expr: &Expr, fallback: Location) -> Location {
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::BinaryOp { left, .. } => left,
            Expr::Nested(inner)
            | Expr::UnaryOp { expr: inner, .. }
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner) => inner,
            Expr::Identifier(part) => return part.span.start,
            Expr::CompoundIdentifier(parts) => {
                return parts.first().map_or(fallback, |part| part.span.start);
            }
            Expr::Value(value) => return value.span.start,
            Expr::Function(call) => return call_place(call),
            _ => return fallback,
        };
    }
}
