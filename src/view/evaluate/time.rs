//! Points in time: read from text or numbers, and what can be asked of them.
//!
//! Separate because it knows no items. Invariant: nothing is guessed, neither the unit of a
//! number nor the offset of a text. Years are 0000 to 9999 of the Gregorian calendar. What it
//! gives up: time zones with rules, leap seconds, and fractions below a nanosecond.

use super::Operand;
use crate::{
    civil::{civil_date, day_of},
    view::{
        definition::{Field, Offset, Part, TimeUnit},
        number,
    },
};
use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive, num_bigint::BigInt};
use std::borrow::Cow;

const DAY_S: i64 = 86_400;

/// A point in time, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant {
    /// Seconds since 1970 in UTC.
    seconds: i64,
    /// What comes on top, below a second.
    nanoseconds: u32,
}

impl Instant {
    pub(super) const fn seconds(self) -> i64 {
        self.seconds
    }
}

/// What a value should have been, and what it was.
pub(super) type TimeFault = (&'static str, &'static str);

/// Reads a point in time; NULL is none.
///
/// # Errors
/// The value does not say one in this unit.
pub(super) fn read(unit: TimeUnit, value: &Operand<'_>) -> Result<Option<Instant>, TimeFault> {
    let scale = match unit {
        TimeUnit::Iso | TimeUnit::Utc => {
            let expected = match unit {
                TimeUnit::Iso => "an ISO 8601 time with its offset, such as 2026-03-02T08:05:00Z",
                _ => "an ISO 8601 time without an offset, such as 2026-03-02T08:05:00",
            };
            return match value {
                Operand::Null => Ok(None),
                Operand::Text(text) => match read_iso(text.as_bytes(), unit == TimeUnit::Utc) {
                    Some(instant) => Ok(Some(instant)),
                    None => Err((expected, "another text")),
                },
                Operand::Number(_) => Err((expected, "N")),
                Operand::Bool(_) => Err((expected, "BOOL")),
            };
        }
        TimeUnit::Seconds => 0,
        TimeUnit::Milliseconds => 3,
    };
    let expected = "a time of the years 0000 to 9999, to the nanosecond, as N";
    match value {
        Operand::Null => Ok(None),
        Operand::Number(value) => {
            let (digits, own) = value.normalized().into_bigint_and_exponent();
            let seconds = BigDecimal::new(digits, own + scale);
            let whole = number::rounded(&seconds, 0, RoundingMode::Floor);
            let nanoseconds = (seconds - &whole) * BigDecimal::from(1_000_000_000);
            let instant = whole
                .to_i64()
                .filter(|_| nanoseconds.is_integer())
                .and_then(|seconds| Some(Instant { seconds, nanoseconds: nanoseconds.to_u32()? }));
            instant.filter(is_of_years).map(Some).ok_or((expected, "another number"))
        }
        Operand::Text(_) => Err((expected, "S")),
        Operand::Bool(_) => Err((expected, "BOOL")),
    }
}

fn is_of_years(instant: &Instant) -> bool {
    (day_of(0, 1, 1)..day_of(10_000, 1, 1)).contains(&instant.seconds.div_euclid(DAY_S))
}

/// `YYYY-MM-DDThh:mm[:ss[.fraction]]`, a space for the `T`, and `Z` or `±hh[[:]mm]` behind it
/// unless it is UTC.
fn read_iso(text: &[u8], utc: bool) -> Option<Instant> {
    let mut rest = text;
    let year = digits(&mut rest, 4)?;
    sign(&mut rest, b"-")?;
    let month = digits(&mut rest, 2).filter(|month| (1..=12).contains(month))?;
    sign(&mut rest, b"-")?;
    let day = digits(&mut rest, 2).filter(|day| *day >= 1)?;
    let days = day_of(year, month, day);
    if civil_date(days) != (year, month, day) {
        return None;
    }
    sign(&mut rest, b"T ")?;
    let hour = digits(&mut rest, 2).filter(|hour| *hour < 24)?;
    sign(&mut rest, b":")?;
    let minute = digits(&mut rest, 2).filter(|minute| *minute < 60)?;
    let (mut second, mut nanoseconds) = (0, 0);
    if sign(&mut rest, b":").is_some() {
        second = digits(&mut rest, 2).filter(|second| *second < 60)?;
        if sign(&mut rest, b".,").is_some() {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let scale = 9_u32.checked_sub(u32::try_from(length).ok()?)?;
            let fraction = digits(&mut rest, length).filter(|_| length > 0)?;
            nanoseconds = u32::try_from(fraction * 10_i64.pow(scale)).ok()?;
        }
    }
    let offset = match rest {
        [] if utc => 0,
        b"Z" if !utc => 0,
        _ if !utc => i64::from(Offset::read(std::str::from_utf8(rest).ok()?)?.0),
        _ => return None,
    };
    let seconds = days * DAY_S + hour * 3600 + (minute - offset) * 60 + second;
    Some(Instant { seconds, nanoseconds }).filter(is_of_years)
}

/// Takes so many digits, at most 18.
fn digits(rest: &mut &[u8], length: usize) -> Option<i64> {
    let (found, after) = rest.split_at_checked(length)?;
    *rest = after;
    found
        .iter()
        .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Takes one of these signs.
fn sign(rest: &mut &[u8], signs: &[u8]) -> Option<()> {
    let (first, after) = rest.split_first()?;
    signs.contains(first).then(|| *rest = after)
}

/// A part of a point in time.
pub(super) fn part<'v>(part: Part, instant: &Instant) -> Operand<'v> {
    match part {
        Part::Start { of, offset } => Operand::Text(Cow::Owned(start(of, offset, instant))),
        Part::Field(field) => Operand::Number(Cow::Owned(extract(field, instant))),
    }
}

/// The beginning of the field's period that the point lies in, as time of that zone.
fn start(of: Field, offset: Offset, instant: &Instant) -> String {
    let local = instant.seconds + i64::from(offset.0) * 60;
    let (days, second) = (local.div_euclid(DAY_S), local.rem_euclid(DAY_S));
    let (year, month, _) = civil_date(days);
    let (days, second) = match of {
        Field::Second | Field::Epoch => (days, second),
        Field::Minute => (days, second / 60 * 60),
        Field::Hour => (days, second / 3600 * 3600),
        Field::Day | Field::Dow | Field::Isodow | Field::Doy => (days, 0),
        // 1970 began on a Thursday.
        Field::Week => (days - (days + 3).rem_euclid(7), 0),
        Field::Month => (day_of(year, month, 1), 0),
        Field::Quarter => (day_of(year, (month - 1) / 3 * 3 + 1, 1), 0),
        Field::Year => (day_of(year, 1, 1), 0),
    };
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{offset}")
}

fn extract(field: Field, instant: &Instant) -> BigDecimal {
    let (days, second) = (instant.seconds.div_euclid(DAY_S), instant.seconds.rem_euclid(DAY_S));
    let (year, month, day) = civil_date(days);
    let with_fraction = |seconds: i64| {
        let nanoseconds = BigInt::from(seconds) * 1_000_000_000 + instant.nanoseconds;
        BigDecimal::new(nanoseconds, 9).normalized()
    };
    BigDecimal::from(match field {
        Field::Year => year,
        Field::Quarter => (month - 1) / 3 + 1,
        Field::Month => month,
        Field::Day => day,
        Field::Hour => second / 3600,
        Field::Minute => second / 60 % 60,
        Field::Second => return with_fraction(second % 60),
        Field::Dow => (days + 4).rem_euclid(7),
        Field::Isodow | Field::Week => (days + 3).rem_euclid(7) + 1,
        Field::Doy => days - day_of(year, 1, 1) + 1,
        Field::Epoch => return with_fraction(instant.seconds),
    })
}
