//! The options of a view, `WITH (name = value, …)`.
//!
//! Each has its range and is given once; what stands in their place is refused where it stands.

use super::{
    super::{SqlError, select::Piece},
    Reader,
};
use crate::view::{
    definition::{DecimalBound, Path},
    rows::striped::STRIPES,
};
use sqlparser::{
    ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart, Value},
    tokenizer::{Location, Token},
};

/// Retention a Kinesis stream can have, in hours.
///
/// Source: Kinesis Data Streams guide, "Change the data retention period": 24 hours to 365 days.
const RETENTION_HOURS: std::ops::RangeInclusive<u32> = 24..=8760;

/// What stands in `WITH (…)`.
#[derive(Default)]
pub(super) struct Options {
    pub(super) key: Option<Path>,
    pub(super) retention_hours: Option<u32>,
    pub(super) decimal: Option<DecimalBound>,
    /// In hours, and where that stands.
    pub(super) retain: Option<(u32, Location)>,
    /// And where that stands.
    pub(super) stripes: Option<(u32, Location)>,
}

impl Options {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), SqlError> {
        reader.expect_sign(&Token::LParen)?;
        loop {
            let (name, at) = reader.name("an option")?;
            reader.expect_sign(&Token::Eq)?;
            let value = reader.expression()?;
            self.set(&name, at, &value)?;
            if !reader.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        reader.expect_sign(&Token::RParen)
    }

    fn set(&mut self, name: &str, at: Location, value: &Piece) -> Result<(), SqlError> {
        let is = |option: &str| name.eq_ignore_ascii_case(option);
        let fault = |problem, remedy| Err(SqlError::new(value.at, problem, remedy));
        let taken = if is("key") {
            let Some(key) = option_path(&value.expression) else {
                return fault("key is no attribute", "write key = id, or key = customer.id");
            };
            self.key.replace(key).is_some()
        } else if is("retention_hours") {
            let hours = option_integer(&value.expression);
            let Some(hours) = hours.filter(|hours| RETENTION_HOURS.contains(hours)) else {
                let remedy = "write the stream's retention, a whole number from 24 to 8760";
                return fault("retention_hours is not in its range", remedy);
            };
            self.retention_hours.replace(hours).is_some()
        } else if is("decimal") {
            let Some(bound) = option_decimal(&value.expression) else {
                let remedy = "write decimal = '12,2': digits in all (1 to 38), digits after the \
                              point (not more)";
                return fault("decimal is not digits in all and after the point", remedy);
            };
            self.decimal.replace(bound).is_some()
        } else if is("retain") {
            let Some(hours) = option_hours(&value.expression) else {
                let remedy = "write retain = '90 days', or '36 hours'; up to 36500 days";
                return fault("retain is no number of days or hours", remedy);
            };
            self.retain.replace((hours, value.at)).is_some()
        } else if is("stripes") {
            let stripes = option_integer(&value.expression);
            let Some(stripes) = stripes.filter(|stripes| STRIPES.contains(stripes)) else {
                let remedy = "write stripes = 8: in how many rows each group is kept, 2 to 100";
                return fault("stripes is not in its range", remedy);
            };
            self.stripes.replace((stripes, value.at)).is_some()
        } else {
            let remedy = match suggestion(name) {
                Some(meant) => format!("did you mean {meant}?"),
                None => {
                    "the options are key, decimal, retention_hours, retain and stripes".to_owned()
                }
            };
            return Err(SqlError::new(at, format!("there is no option {name}"), remedy));
        };
        if taken {
            let problem = format!("option {name} is given twice");
            return Err(SqlError::new(at, problem, "take one of them away"));
        }
        Ok(())
    }
}

/// The option that begins like this name, or that the name begins like.
fn suggestion(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let starts = [
        ("retain", "retai"),
        ("retention_hours", "ret"),
        ("decimal", "dec"),
        ("key", "key"),
        ("stripes", "stripe"),
        ("decimal", "num"),
    ];
    starts
        .into_iter()
        .find(|(_, start)| name.starts_with(start) || name.ends_with(start))
        .map(|(option, _)| option)
}

fn option_path(value: &Expr) -> Option<Path> {
    let parts = match value {
        Expr::Identifier(part) => std::slice::from_ref(part),
        Expr::CompoundIdentifier(parts) => parts,
        _ => return None,
    };
    let mut names = parts.iter().map(|part| part.value.clone());
    if parts.iter().any(|part| part.value.is_empty()) {
        return None;
    }
    names.next().map(|first| Path::new(first, names))
}

/// `'90 days'` or `'36 hours'`, in hours.
fn option_hours(value: &Expr) -> Option<u32> {
    let Expr::Value(value) = value else { return None };
    let Value::SingleQuotedString(text) = &value.value else { return None };
    let (number, unit) = text.trim().split_once(' ')?;
    let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
    let hours = match unit.trim() {
        "day" | "days" => number.checked_mul(24)?,
        "hour" | "hours" => number,
        _ => return None,
    };
    (hours <= 36_500 * 24).then_some(hours)
}

fn option_integer(value: &Expr) -> Option<u32> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// `'12,2'`, or `decimal(12,2)` and `numeric(12,2)`.
fn option_decimal(value: &Expr) -> Option<DecimalBound> {
    let (precision, scale) = match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => {
                let (precision, scale) = text.split_once(',')?;
                (precision.trim().parse().ok()?, scale.trim().parse().ok()?)
            }
            _ => return None,
        },
        Expr::Function(function) => {
            // Not `to_string`: it would bring the text of every statement there is.
            let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
                return None;
            };
            let name = name.value.to_ascii_lowercase();
            let FunctionArguments::List(list) = &function.args else { return None };
            let number = |argument: &FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => option_integer(value),
                _ => None,
            };
            match list.args.as_slice() {
                [precision, scale] if name == "decimal" || name == "numeric" => {
                    (number(precision)?, number(scale)?)
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    ((1..=38).contains(&precision) && scale <= precision)
        .then_some(DecimalBound { precision, scale })
}
