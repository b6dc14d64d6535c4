//! IS, IN, BETWEEN, LIKE, CASE and CAST.
//!
//! Separate from the operators because each has a grammar of its own. Invariant: `NOT IN` and
//! its like come out as NOT over the test, so there is one form of each.

use super::{KINDS, Scope, differing, meet, not, noun, place, refuse_comparison, require};
use crate::view::{
    definition::{Between, Case, Expression, Pattern, Target, Type},
    sql::SqlError,
};
use sqlparser::{
    ast::{CaseWhen, DataType, Expr, ObjectNamePart, Value},
    tokenizer::Location,
};

/// The longest pattern of a LIKE, in characters: its product with the text is what it costs.
const PATTERN_MAX: usize = 1000;

impl Scope {
    /// A predicate; `clause` says whose, for a message.
    pub(super) fn condition_of(
        &self,
        clause: &str,
        expr: &Expr,
        at: Location,
    ) -> Result<Expression, SqlError> {
        let compiled = self.compile(expr, at, 0)?;
        require(&compiled, Type::Bool, clause, place(expr, at))?;
        Ok(compiled)
    }

    pub(super) fn condition(
        &self,
        expr: &Expr,
        at: Location,
        depth: usize,
    ) -> Result<Expression, SqlError> {
        let is = |inner: &Expr, value, negated| {
            let inner = self.typed(inner, Type::Bool, "IS", at, depth)?;
            Ok(with(negated, Expression::Is(Box::new(inner), value)))
        };
        match expr {
            Expr::IsTrue(inner) => is(inner, true, false),
            Expr::IsNotTrue(inner) => is(inner, true, true),
            Expr::IsFalse(inner) => is(inner, false, false),
            Expr::IsNotFalse(inner) => is(inner, false, true),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                let [left, right] = self.alike([left, right], "IS DISTINCT FROM", at, depth)?;
                let differs = Expression::IsDistinct(Box::new(left), Box::new(right));
                Ok(with(matches!(expr, Expr::IsNotDistinctFrom(..)), differs))
            }
            Expr::InList { expr: value, list, negated } => {
                refuse_comparison(value, at)?;
                let value = self.compile(value, at, depth)?;
                let mut known = value.known_type();
                let mut values = Vec::with_capacity(list.len());
                for one in list {
                    let at = place(one, at);
                    let one = self.compile(one, at, depth)?;
                    meet(&mut known, &one, "IN", at)?;
                    values.push(one);
                }
                Ok(with(*negated, Expression::In(Box::new(value), values)))
            }
            Expr::Between { expr: value, negated, low, high } => {
                let operands = [value.as_ref(), low.as_ref(), high.as_ref()];
                let [value, low, high] = self.alike(operands, "BETWEEN", at, depth)?;
                let between = Between { value, low, high };
                Ok(with(*negated, Expression::Between(Box::new(between))))
            }
            Expr::Like { negated, any: false, expr: value, pattern, escape_char } => {
                refuse_comparison(value, at)?;
                let value = self.typed(value, Type::Text, "LIKE", at, depth)?;
                let pattern = read_pattern(pattern, escape_char.as_deref(), at)?;
                Ok(with(*negated, Expression::Like(Box::new(value), pattern)))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), at, depth)
            }
            Expr::Cast { expr: value, data_type, .. } => self.cast(value, data_type, at, depth),
            _ => Err(SqlError::new(at, "this expression is not supported", KINDS)),
        }
    }

    fn case(
        &self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
        at: Location,
        depth: usize,
    ) -> Result<Expression, SqlError> {
        let operand = operand.map(|operand| self.compile(operand, at, depth)).transpose()?;
        let mut compared = operand.as_ref().and_then(Expression::known_type);
        let mut known = None;
        let mut branches = Vec::with_capacity(conditions.len());
        for CaseWhen { condition, result } in conditions {
            let condition_at = place(condition, at);
            let condition = self.compile(condition, condition_at, depth)?;
            if operand.is_some() {
                meet(&mut compared, &condition, "CASE", condition_at)?;
            } else {
                require(&condition, Type::Bool, "WHEN", condition_at)?;
            }
            let value_at = place(result, at);
            let value = self.compile(result, value_at, depth)?;
            give(&mut known, &value, "CASE", value_at)?;
            branches.push((condition, value));
        }
        let otherwise = match otherwise {
            Some(otherwise) => {
                let at = place(otherwise, at);
                let otherwise = self.compile(otherwise, at, depth)?;
                give(&mut known, &otherwise, "CASE", at)?;
                Some(otherwise)
            }
            None => None,
        };
        Ok(Expression::Case(Box::new(Case { operand, branches, otherwise })))
    }

    fn cast(
        &self,
        value: &Expr,
        data_type: &DataType,
        at: Location,
        depth: usize,
    ) -> Result<Expression, SqlError> {
        let name = match data_type {
            DataType::Custom(name, modifiers) => match name.0.as_slice() {
                [ObjectNamePart::Identifier(name)] if modifiers.is_empty() => {
                    name.value.to_ascii_lowercase()
                }
                [ObjectNamePart::Identifier(_)] => {
                    let remedy = "write round(x, 2) for digits, substr(x, 1, 20) for characters";
                    return Err(SqlError::new(at, "a type of CAST has no length", remedy));
                }
                _ => String::new(),
            },
            _ => String::new(),
        };
        let target = match name.as_str() {
            "numeric" | "decimal" => Target::Number,
            "text" | "varchar" => Target::Text,
            _ => {
                let remedy = match name.as_str() {
                    "int" | "integer" | "bigint" | "smallint" => {
                        "engines disagree about fractions; write floor(x) or round(x), and CAST(x \
                         AS numeric) of a text"
                    }
                    "real" | "double" | "float" => "numbers are exact; write CAST(x AS numeric)",
                    "bool" | "boolean" => {
                        "engines disagree about what is true; write x <> 0, or x = 'true'"
                    }
                    "date" | "timestamp" | "timestamptz" => "write date_trunc('day', x)",
                    _ => "the types of CAST are numeric and text",
                };
                return Err(SqlError::new(at, "this CAST is not supported", remedy));
            }
        };
        let at = place(value, at);
        let value = self.compile(value, at, depth)?;
        if target == Target::Text && value.known_type() == Some(Type::Bool) {
            let remedy = "engines disagree about its text; write CASE WHEN x THEN 'yes' ELSE 'no' \
                          END";
            return Err(SqlError::new(
                at,
                "CAST of a truth value to text is not supported",
                remedy,
            ));
        }
        Ok(Expression::Cast(Box::new(value), target))
    }
}

/// Checks that one of several possible values has the type of those before it.
pub(super) fn give(
    known: &mut Option<Type>,
    value: &Expression,
    form: &str,
    at: Location,
) -> Result<(), SqlError> {
    let Some((first, second)) = differing(known, value) else { return Ok(()) };
    let problem = format!("{form} is {} or {}", noun(first), noun(second));
    Err(SqlError::new(at, problem, "give values of one type, or CAST them to one"))
}

fn with(negated: bool, test: Expression) -> Expression {
    if negated { not(test) } else { test }
}

/// The text of a literal in quotes.
pub(super) fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn read_pattern(pattern: &Expr, escape: Option<&Expr>, at: Location) -> Result<Pattern, SqlError> {
    let at = place(pattern, at);
    let Some(text) = literal_text(pattern) else {
        let remedy = "write the pattern in quotes, as in name LIKE 'A%'";
        return Err(SqlError::new(at, "LIKE needs a literal behind it", remedy));
    };
    if text.chars().count() > PATTERN_MAX {
        let problem = format!("a pattern has at most {PATTERN_MAX} characters");
        return Err(SqlError::new(at, problem, "write a shorter one"));
    }
    let Some(escape) = escape else {
        if text.contains('\\') {
            let remedy = "engines disagree about it; write ESCAPE and the character that escapes";
            return Err(SqlError::new(at, "a pattern with a backslash and no ESCAPE", remedy));
        }
        return Ok(Pattern { text: text.to_owned(), escape: None });
    };
    let escape_at = place(escape, at);
    let mut characters = literal_text(escape).unwrap_or_default().chars();
    let (Some(escape), None) = (characters.next(), characters.next()) else {
        let problem = "ESCAPE needs one character";
        return Err(SqlError::new(escape_at, problem, "write one in quotes, as in ESCAPE '!'"));
    };
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        if one == escape && rest.next().is_none() {
            let remedy = "write the character twice if it is meant itself";
            return Err(SqlError::new(at, "the pattern ends in its ESCAPE character", remedy));
        }
    }
    Ok(Pattern { text: text.to_owned(), escape: Some(escape) })
}
