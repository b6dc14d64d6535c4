//! From the parser's expressions to the definition's, with every type that is known checked.
//!
//! Separate because it is the only place that sees the parser's hundred kinds of expression:
//! some become ours, the rest is refused. Invariant: in what comes out, operands of known
//! type fit their operator, so a wrong type can only come from an item.

mod aggregate;
mod call;
mod condition;
mod element;
mod of_group;
mod place;
mod time;

use super::SqlError;
use crate::view::{
    definition::{Aggregate, Comparison, Expression, Operation, Path, Type},
    number::{self, NumberFault},
    scalar::Scalar,
};
use aggregate::aggregate_name;
use bigdecimal::Zero;
pub(super) use of_group::InHaving;
pub(super) use place::without_parentheses;
use place::{call_place, place};
use sqlparser::{
    ast::{BinaryOperator, Expr, Ident, UnaryOperator, Value},
    tokenizer::Location,
};

/// The deepest nesting of operators, so that no recursion over a definition is deeper.
const DEPTH_MAX: usize = 100;

/// What can be written where anything else was.
const KINDS: &str = "an expression has attributes, literals, = <> < <= > >= + - * % ||, AND, OR, \
                     NOT, IS, IN, BETWEEN, LIKE, CASE, CAST and functions";

/// The names of all functions of values.
pub(super) fn function_names() -> impl Iterator<Item = &'static str> {
    call::names()
}

/// What the names of one statement mean.
#[derive(Clone)]
pub(super) struct Scope {
    /// The alias of FROM, or its name.
    pub(super) qualifier: String,
    /// What the elements of a list are called, if the statement reads those.
    pub(super) element: Option<String>,
    /// Where that list is.
    pub(super) list: Option<Path>,
    /// What the items of a joined table are called, if the statement joins one.
    pub(super) joined: Option<String>,
    /// Attributes by which items name those.
    pub(super) references: Vec<String>,
    /// Names of tables of a join that have an alias, with it.
    pub(super) aliased: Vec<(String, String)>,
    /// What can be asked of groups, in HAVING.
    pub(super) having: Option<InHaving>,
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
            Expr::Function(call) if let Some(function) = aggregate_name(call) => {
                self.aggregate(function, call).map(Computed::Aggregate)
            }
            other => self.expression(other, at).map(Computed::Expression),
        }
    }

    /// Compiles an expression over one item; `at` is where it begins.
    pub(super) fn expression(&self, expr: &Expr, at: Location) -> Result<Expression, SqlError> {
        self.compile(expr, at, 0)
    }

    /// Compiles a predicate.
    pub(super) fn predicate(&self, expr: &Expr, at: Location) -> Result<Expression, SqlError> {
        self.condition_of("WHERE", expr, at)
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
                Ok(not(tested))
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => {
                Ok(not(self.typed(inner, Type::Bool, "NOT", at, depth)?))
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                Ok(match self.typed(inner, Type::Number, "`-`", at, depth)? {
                    Expression::Literal(Scalar::Number(value)) => {
                        Expression::Literal(Scalar::Number(-value))
                    }
                    other => Expression::Negate(Box::new(other)),
                })
            }
            Expr::BinaryOp { op: BinaryOperator::And, .. } => Ok(Expression::And(self.chain(
                expr,
                &BinaryOperator::And,
                Type::Bool,
                at,
                depth,
            )?)),
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => {
                Ok(Expression::Or(self.chain(expr, &BinaryOperator::Or, Type::Bool, at, depth)?))
            }
            Expr::BinaryOp { op: operator @ BinaryOperator::StringConcat, .. } => {
                Ok(Expression::Concat(self.chain(expr, operator, Type::Text, at, depth)?))
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, at, depth),
            Expr::Function(call) if let Some(function) = aggregate_name(call) => {
                self.aggregate_of_group(function, call, at)
            }
            Expr::Function(call) => self.call(call, depth),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.element(root, access_chain, at)
            }
            Expr::Extract { field, expr: of, .. } => self.extract(field, of, at, depth),
            other => self.condition(other, at, depth),
        }
    }

    fn path(&self, parts: &[Ident], at: Location) -> Result<Expression, SqlError> {
        if parts.iter().any(|part| part.value.is_empty()) {
            return Err(SqlError::new(at, "an attribute's name is empty", "give its name"));
        }
        let is_bare = parts.len() == 1;
        let parts = match parts {
            [qualifier, rest @ ..] if qualifier.value == self.qualifier && !rest.is_empty() => {
                let is_hiding = |it: &&String| rest[0].value == **it;
                if let Some(hidden) = self.element.as_ref().filter(is_hiding) {
                    let problem = format!("the element {hidden} hides the attribute of that name");
                    return Err(SqlError::new(at, problem, "give the element another name"));
                }
                if let Some(hidden) = self.joined.as_ref().filter(is_hiding) {
                    let problem = format!("the table {hidden} hides the attribute of that name");
                    return Err(SqlError::new(at, problem, "give the table another alias"));
                }
                rest
            }
            [table, _, ..] if let Some((name, alias)) = self.alias_of(&table.value) => {
                let problem = format!("{name} is called {alias} here");
                return Err(SqlError::new(at, problem, format!("write {alias}. before the name")));
            }
            [table] if self.joined.as_ref() == Some(&table.value) => {
                let problem = format!("{} is a table", table.value);
                let remedy = format!("name an attribute of it, as in {}.name", table.value);
                return Err(SqlError::new(at, problem, remedy));
            }
            all => all,
        };
        let mut names = parts.iter().map(|part| part.value.clone());
        let first = names.next().unwrap_or_default();
        Ok(self.shown(Expression::Path(Path::new(first, names)), is_bare))
    }

    /// Attributes that a statement uses beside SELECT and WHERE: its list, and those of ON.
    pub(super) fn used_beside(&self) -> impl Iterator<Item = &str> {
        let list = self.list.as_ref().filter(|list| list.parts().len() == 1).map(Path::first);
        list.into_iter().chain(self.references.iter().map(String::as_str))
    }

    /// What a table of a join is called, by its name.
    fn alias_of(&self, table: &str) -> Option<&(String, String)> {
        self.aliased.iter().find(|(name, _)| name == table)
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
        operands_type: Type,
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
            let sign = match operands_type {
                Type::Text => format!("`{operator}`"),
                _ => operator.to_string(),
            };
            let part = self.typed(operand, operands_type, &sign, at, depth)?;
            match (operator, part) {
                (BinaryOperator::And, Expression::And(inner))
                | (BinaryOperator::Or, Expression::Or(inner))
                | (BinaryOperator::StringConcat, Expression::Concat(inner)) => parts.extend(inner),
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
            if operation == Operation::Remainder && !is_divisor(&right) {
                let remedy = "engines disagree about 0 and fractions; write a whole number that \
                              is not 0, as in id % 16";
                return Err(SqlError::new(right_at, "`%` needs a literal behind it", remedy));
            }
            return Ok(Expression::Arithmetic(operation, Box::new(left), Box::new(right)));
        }
        let Some(comparison) = comparison(operator) else {
            let problem = format!("`{operator}` is not supported");
            return Err(SqlError::new(at, problem, KINDS));
        };
        let sign = format!("`{operator}`");
        let [left, right] = self.alike([left, right], &sign, left_at, depth)?;
        Ok(Expression::Compare(comparison, Box::new(left), Box::new(right)))
    }

    /// Operands that are compared with each other: of one type, and none a comparison itself.
    fn alike<const N: usize>(
        &self,
        operands: [&Expr; N],
        operator: &str,
        at: Location,
        depth: usize,
    ) -> Result<[Expression; N], SqlError> {
        for operand in operands {
            refuse_comparison(operand, place(operand, at))?;
        }
        let mut known = None;
        let mut compiled = Vec::with_capacity(N);
        for operand in operands {
            let at = place(operand, at);
            let operand = self.compile(operand, at, depth)?;
            meet(&mut known, &operand, operator, at)?;
            compiled.push(operand);
        }
        compiled
            .try_into()
            .map_err(|_| SqlError::new(at, "this expression is not supported", KINDS))
    }
}

/// Checks that a compared value has the type of those before it.
fn meet(
    known: &mut Option<Type>,
    operand: &Expression,
    operator: &str,
    at: Location,
) -> Result<(), SqlError> {
    let Some((first, second)) = differing(known, operand) else { return Ok(()) };
    let problem = format!("{operator} compares {} with {}", noun(first), noun(second));
    Err(SqlError::new(at, problem, "compare values of one type"))
}

/// Takes note of the type of one more value; the two types, if it is another than known.
fn differing(known: &mut Option<Type>, value: &Expression) -> Option<(Type, Type)> {
    let second = value.known_type();
    let first = *known.get_or_insert(second?);
    second.filter(|second| *second != first).map(|second| (first, second))
}

fn not(expression: Expression) -> Expression {
    Expression::Not(Box::new(expression))
}

fn is_divisor(expression: &Expression) -> bool {
    matches!(expression, Expression::Literal(Scalar::Number(value))
        if value.is_integer() && !value.is_zero())
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
            let remedy = match (expected, found) {
                (Type::Number | Type::Text, Type::Number | Type::Text)
                | (Type::Number, Type::Bool) => "write CAST(x AS numeric) or CAST(x AS text)",
                _ => "there is no conversion between types; write a comparison or a CASE",
            };
            Err(SqlError::new(at, problem, remedy))
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
        BinaryOperator::Modulo => Some(Operation::Remainder),
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

/// Refuses a comparison without parentheses as an operand of another one: engines group a
/// chain of them differently.
fn refuse_comparison(operand: &Expr, at: Location) -> Result<(), SqlError> {
    let compares = match operand {
        Expr::BinaryOp { op, .. } => comparison(op).is_some(),
        Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..) => true,
        _ => false,
    };
    if compares {
        let remedy = "write a < b AND b < c, or put one comparison in parentheses";
        return Err(SqlError::new(at, "comparisons cannot be chained", remedy));
    }
    Ok(())
}
