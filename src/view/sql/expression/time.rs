//! `date_trunc`, `extract` and `to_timestamp`.
//!
//! Separate because their words are literals with a meaning. `to_timestamp` is no value of its
//! own: it says inside the other two how a value is to be read.

use super::{
    Scope,
    call::{arguments, call_name},
    call_place,
    condition::literal_text,
    place, require, without_parentheses,
};
use crate::view::{
    definition::{Expression, Field, Offset, Part, Time, TimeUnit, Type},
    sql::SqlError,
};
use sqlparser::{
    ast::{DateTimeField, Expr, Function as Call},
    tokenizer::Location,
};

const TRUNC: &str = "write date_trunc('hour', placed_at): second, minute, hour, day, week, month, \
                     quarter or year";
const EXTRACT: &str = "write EXTRACT(hour FROM placed_at): second, minute, hour, day, month, \
                       quarter, year, dow, isodow, doy or epoch";
const UNIT: &str = "write to_timestamp(x, 'milliseconds'), or 'seconds', 'iso' or 'utc'";

impl Scope {
    pub(super) fn date_trunc(&self, call: &Call, depth: usize) -> Result<Expression, SqlError> {
        let at = call_place(call);
        let (unit, of, offset) = match arguments(call, TRUNC)?.as_slice() {
            [unit, of] => (*unit, *of, None),
            [unit, of, offset] => (*unit, *of, Some(*offset)),
            _ => return Err(SqlError::new(at, "this form of date_trunc is not supported", TRUNC)),
        };
        let field = literal_text(unit).and_then(|unit| field_named(&unit.to_ascii_lowercase()));
        let Some(field) = field.filter(|field| is_truncated(*field)) else {
            let problem = "date_trunc needs what to cut the time to";
            return Err(SqlError::new(place(unit, at), problem, TRUNC));
        };
        let offset = match offset {
            None => Offset::UTC,
            Some(offset) => literal_text(offset).and_then(read_offset).ok_or_else(|| {
                let remedy = "write '+02:00' or 'UTC': zones with rules change with their tables";
                SqlError::new(place(offset, at), "this is no fixed time zone", remedy)
            })?,
        };
        self.time(Part::Start { of: field, offset }, of, at, depth)
    }

    pub(super) fn extract(
        &self,
        field: &DateTimeField,
        of: &Expr,
        at: Location,
        depth: usize,
    ) -> Result<Expression, SqlError> {
        let (name, at) = match field {
            DateTimeField::Custom(name) => (name.value.to_ascii_lowercase(), name.span.start),
            _ => (String::new(), at),
        };
        match field_named(&name).filter(|field| *field != Field::Week) {
            Some(field) => self.time(Part::Field(field), of, at, depth),
            None => Err(SqlError::new(at, "this field is not supported", EXTRACT)),
        }
    }

    fn time(
        &self,
        part: Part,
        of: &Expr,
        at: Location,
        depth: usize,
    ) -> Result<Expression, SqlError> {
        let (unit, of) = match without_parentheses(of) {
            Expr::Function(call) if call_name(call) == "to_timestamp" => {
                let at = call_place(call);
                let [of, unit] = arguments(call, UNIT)?[..] else {
                    let problem = "to_timestamp needs a value and its unit";
                    return Err(SqlError::new(at, problem, UNIT));
                };
                let named = literal_text(unit).and_then(unit_named);
                let problem = "to_timestamp needs the unit of its value";
                (named.ok_or_else(|| SqlError::new(place(unit, at), problem, UNIT))?, of)
            }
            other => (TimeUnit::Iso, other),
        };
        let at = place(of, at);
        let of = self.compile(of, at, depth)?;
        let (needs, form) = match unit {
            TimeUnit::Iso | TimeUnit::Utc => (Type::Text, "a time in ISO 8601"),
            TimeUnit::Seconds | TimeUnit::Milliseconds => (Type::Number, "a time in seconds"),
        };
        require(&of, needs, form, at)?;
        Ok(Expression::Time(Box::new(Time { part, unit, of })))
    }
}

fn field_named(name: &str) -> Option<Field> {
    Some(match name {
        "year" => Field::Year,
        "quarter" => Field::Quarter,
        "month" => Field::Month,
        "week" => Field::Week,
        "day" => Field::Day,
        "hour" => Field::Hour,
        "minute" => Field::Minute,
        "second" => Field::Second,
        "dow" => Field::Dow,
        "isodow" => Field::Isodow,
        "doy" => Field::Doy,
        "epoch" => Field::Epoch,
        _ => return None,
    })
}

const fn is_truncated(field: Field) -> bool {
    !matches!(field, Field::Dow | Field::Isodow | Field::Doy | Field::Epoch)
}

fn unit_named(name: &str) -> Option<TimeUnit> {
    Some(match name.to_ascii_lowercase().as_str() {
        "iso" => TimeUnit::Iso,
        "utc" => TimeUnit::Utc,
        "seconds" => TimeUnit::Seconds,
        "milliseconds" => TimeUnit::Milliseconds,
        _ => return None,
    })
}

/// `Z`, `UTC` or what [`Offset::read`] takes.
fn read_offset(text: &str) -> Option<Offset> {
    if text.eq_ignore_ascii_case("utc") || text.eq_ignore_ascii_case("z") {
        return Some(Offset::UTC);
    }
    Offset::read(text)
}
