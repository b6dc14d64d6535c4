//! The functions of values: which there are, and what they take.
//!
//! Separate because it is a table. A name that another engine has and this one has not is
//! refused with what comes nearest.

use super::{Scope, call_place, condition::give, meet, place, require};
use crate::view::{
    definition::{Call, Expression, Type},
    scalar::Scalar,
    sql::SqlError,
};
use bigdecimal::ToPrimitive;
use sqlparser::{
    ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart},
    tokenizer::Location,
};
use std::ops::RangeInclusive;

/// The most digits `round` leaves behind the point, as in `SQLite`.
const ROUND_MAX: u32 = 30;

/// Name, meaning, number of arguments, type of arguments, and how it is written.
type Entry = (&'static str, Call, RangeInclusive<usize>, Option<Type>, &'static str);

const ANY: Option<Type> = None;
const TEXT: Option<Type> = Some(Type::Text);
const NUMBER: Option<Type> = Some(Type::Number);

const CALLS: [Entry; 18] = [
    ("coalesce", Call::Coalesce, 2..=100, ANY, "coalesce(a, b)"),
    ("nullif", Call::Nullif, 2..=2, ANY, "nullif(a, b)"),
    ("lower", Call::Lower, 1..=1, TEXT, "lower(a)"),
    ("upper", Call::Upper, 1..=1, TEXT, "upper(a)"),
    ("length", Call::Length, 1..=1, TEXT, "length(a)"),
    ("substr", Call::Substr, 2..=3, ANY, "substr(a, 1, 3)"),
    ("substring", Call::Substr, 2..=3, ANY, "substr(a, 1, 3)"),
    ("trim", Call::Trim, 1..=2, TEXT, "trim(a) or trim(a, 'characters')"),
    ("ltrim", Call::Ltrim, 1..=2, TEXT, "ltrim(a) or ltrim(a, 'characters')"),
    ("rtrim", Call::Rtrim, 1..=2, TEXT, "rtrim(a) or rtrim(a, 'characters')"),
    ("replace", Call::Replace, 3..=3, TEXT, "replace(a, 'from', 'to')"),
    ("abs", Call::Abs, 1..=1, NUMBER, "abs(a)"),
    ("round", Call::Round, 1..=2, NUMBER, "round(a) or round(a, 2)"),
    ("floor", Call::Floor, 1..=1, NUMBER, "floor(a)"),
    ("ceil", Call::Ceil, 1..=1, NUMBER, "ceil(a)"),
    ("ceiling", Call::Ceil, 1..=1, NUMBER, "ceil(a)"),
    ("cardinality", Call::Cardinality, 1..=1, ANY, "cardinality(tags)"),
    ("contains", Call::Contains, 2..=2, ANY, "contains(tags, 'new')"),
];

/// Functions of other engines, and what comes nearest.
const NEAREST: [(&[&str], &str); 13] = [
    (&["ifnull", "nvl"], "write coalesce(a, b)"),
    (&["iif", "if", "decode"], "write CASE WHEN a THEN b ELSE c END"),
    (&["char_length", "character_length", "len"], "write length(a)"),
    (&["btrim"], "write trim(a)"),
    (&["left", "right", "mid"], "write substr(a, 1, 3)"),
    (&["instr", "position", "strpos", "starts_with"], "write a LIKE '%text%'"),
    (&["concat", "concat_ws", "format", "printf"], "write a || b"),
    (&["mod"], "write a % 16, with a literal"),
    (&["greatest", "least"], "write CASE WHEN a > b THEN a ELSE b END"),
    (
        &["now", "random", "current_date", "current_timestamp"],
        "a view depends on its items alone; write the value into the item",
    ),
    (
        &["strftime", "date", "datetime", "time", "date_part", "year", "month", "day", "hour"],
        "write date_trunc('hour', placed_at) or EXTRACT(hour FROM placed_at)",
    ),
    (&["size", "array_length", "json_array_length"], "write cardinality(tags)"),
    (
        &["string_agg", "group_concat", "array_agg", "json_agg"],
        "what it makes grows with its group and a row does not; keep a row for each item, and \
         join the texts where you read",
    ),
];

/// The names of all functions of values.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    CALLS.into_iter().map(|(name, ..)| name).chain(["date_trunc", "to_timestamp"])
}

pub(super) fn call_name(call: &Function) -> String {
    match call.name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => name.value.to_ascii_lowercase(),
        _ => String::new(),
    }
}

/// The arguments of a call that has nothing else.
pub(super) fn arguments<'c>(call: &'c Function, remedy: &str) -> Result<Vec<&'c Expr>, SqlError> {
    let refuse = || {
        let problem = format!("this form of {} is not supported", call_name(call));
        SqlError::new(call_place(call), problem, remedy)
    };
    let FunctionArguments::List(list) = &call.args else { return Err(refuse()) };
    let bare = call.filter.is_none()
        && call.over.is_none()
        && call.null_treatment.is_none()
        && call.within_group.is_empty()
        && matches!(call.parameters, FunctionArguments::None)
        && list.duplicate_treatment.is_none()
        && list.clauses.is_empty();
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) if bare => Ok(argument),
        _ => Err(refuse()),
    });
    arguments.collect()
}

impl Scope {
    pub(super) fn call(&self, call: &Function, depth: usize) -> Result<Expression, SqlError> {
        let at = call_place(call);
        let name = call_name(call);
        match name.as_str() {
            "date_trunc" => return self.date_trunc(call, depth),
            "to_timestamp" => {
                let remedy = "write date_trunc('second', to_timestamp(x, 'milliseconds'))";
                return Err(SqlError::new(at, "to_timestamp stands inside date_trunc", remedy));
            }
            _ => {}
        }
        let Some((_, function, count, taken, form)) =
            CALLS.into_iter().find(|(known, ..)| *known == name)
        else {
            return Err(refuse(&name, at));
        };
        let remedy = format!("write {form}");
        let given = arguments(call, &remedy)?;
        if !count.contains(&given.len()) {
            let problem = format!("{name} takes other arguments");
            return Err(SqlError::new(at, problem, remedy));
        }
        let mut compiled = Vec::with_capacity(given.len());
        for (index, argument) in given.into_iter().enumerate() {
            let at = place(argument, at);
            let argument = self.compile(argument, at, depth)?;
            let taken = match (function, index) {
                (Call::Substr, 0) => TEXT,
                _ => taken,
            };
            if let Some(taken) = taken {
                require(&argument, taken, &name, at)?;
            }
            check_argument(function, index, &argument, at)?;
            compiled.push((argument, at));
        }
        let mut known = None;
        for (argument, at) in &compiled {
            match function {
                Call::Coalesce => give(&mut known, argument, "coalesce", *at)?,
                Call::Nullif => meet(&mut known, argument, "nullif", *at)?,
                _ => {}
            }
        }
        let arguments = compiled.into_iter().map(|(argument, _)| argument).collect();
        Ok(Expression::Call(function, arguments))
    }
}

/// Checks the arguments that must be literals or paths.
fn check_argument(
    function: Call,
    index: usize,
    argument: &Expression,
    at: Location,
) -> Result<(), SqlError> {
    let whole = |least: u32, most: u32| {
        matches!(argument, Expression::Literal(Scalar::Number(value))
            if value.is_integer()
                && value.to_u32().is_some_and(|value| (least..=most).contains(&value)))
    };
    let (fits, problem, remedy) = match (function, index) {
        (Call::Round, 1) => (
            whole(0, ROUND_MAX),
            "round needs a literal from 0 to 30",
            "engines disagree about others; write round(a, 2)",
        ),
        (Call::Substr, 1) => (
            whole(1, u32::MAX),
            "substr needs a literal from 1",
            "engines disagree about others; write substr(a, 1, 3), which counts from 1",
        ),
        (Call::Substr, 2) => (
            whole(0, u32::MAX),
            "substr needs a literal from 0",
            "engines disagree about others; write substr(a, 1, 3)",
        ),
        (Call::Cardinality | Call::Contains, 0) => (
            matches!(argument, Expression::Path(_) | Expression::Element(_)),
            "this is no list of the item",
            "write an attribute, as in contains(tags, 'new'); text is searched with LIKE",
        ),
        _ => return Ok(()),
    };
    if fits { Ok(()) } else { Err(SqlError::new(at, problem, remedy)) }
}

fn refuse(name: &str, at: Location) -> SqlError {
    let problem = match name {
        "" => "this function is not supported".to_owned(),
        _ => format!("function {name} is not supported"),
    };
    let nearest = NEAREST.iter().find(|(names, _)| names.contains(&name));
    let remedy = nearest.map_or(
        "the functions are count, sum and avg, and those of values in docs/views.md",
        |(_, remedy)| remedy,
    );
    SqlError::new(at, problem, remedy)
}
