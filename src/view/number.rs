//! Exact decimals: how a number's text becomes a value, and which values are numbers at all.
//!
//! Separate because three stages need the same limits: literals in SQL, attributes of items,
//! results of arithmetic. Invariant: every [`BigDecimal`] made here has at most 38 significant
//! digits and a magnitude `DynamoDB` can store, so adding and comparing them stays cheap; the
//! exponent of a text is checked *before* anything of its size is built. What it gives up:
//! numbers that `DynamoDB` could not hold either.

use bigdecimal::{
    BigDecimal, RoundingMode, Zero,
    num_bigint::{BigInt, Sign},
};

/// The most significant digits a number may have.
///
/// Source: `DynamoDB` developer guide, "Data types", number: up to 38 digits of precision.
pub const DIGITS_MAX: usize = 38;

/// Decimal exponent of the largest number's first digit: 9.99…E+125.
///
/// Source: the same page; the smallest magnitude is 1E-130.
pub const EXPONENT_MAX: i64 = 125;

/// Decimal exponent of the smallest number's first digit.
pub const EXPONENT_MIN: i64 = -130;

/// Significant digits an average is rounded to.
pub const AVERAGE_DIGITS: u64 = 20;

/// Why a text or a result is no number of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFault {
    /// The text is not `[+-]digits[.digits][E[+-]digits]`.
    NotANumber,
    /// More than [`DIGITS_MAX`] digits between the first and the last that is not zero.
    Digits,
    /// Larger than 9.99…E125 or smaller than 1E-130.
    Magnitude,
}

impl NumberFault {
    /// What would have been right, in the words of a poison report.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::NotANumber => "N",
            Self::Digits => "at most 38 digits",
            Self::Magnitude => "a number between 1E-130 and 9.99E125",
        }
    }

    /// What was there instead, without the value.
    #[must_use]
    pub const fn found(self) -> &'static str {
        match self {
            Self::NotANumber => "text that is not a number",
            Self::Digits => "more digits",
            Self::Magnitude => "a number outside that range",
        }
    }
}

/// Reads a number as `DynamoDB`, JSON and SQL write it.
///
/// Time and memory follow the length of the text, never its exponent.
///
/// # Errors
/// The text is no number, or one outside the limits of this module.
pub fn read(text: &str) -> Result<BigDecimal, NumberFault> {
    let (negative, unsigned) = split_sign(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], read_exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !all_digits || (whole.is_empty() && fraction.is_empty()) {
        return Err(NumberFault::NotANumber);
    }
    let digits = || whole.bytes().chain(fraction.bytes());
    let Some(first) = digits().position(|byte| byte != b'0') else {
        return Ok(BigDecimal::zero());
    };
    let last = digits().rposition_of_nonzero().unwrap_or(first);
    if last - first >= DIGITS_MAX {
        return Err(NumberFault::Digits);
    }
    // The value is 0.whole-fraction × 10^(whole digits + exponent).
    let point = length(whole).saturating_add(exponent);
    if !(EXPONENT_MIN..=EXPONENT_MAX).contains(&point.saturating_sub(position(first) + 1)) {
        return Err(NumberFault::Magnitude);
    }
    let significant = digits().skip(first).take(last - first + 1);
    // At most 38 digits: below 10^38, which an i128 holds.
    let value = significant.fold(0_i128, |sum, byte| sum * 10 + i128::from(byte - b'0'));
    let scale = position(last) + 1 - point;
    Ok(BigDecimal::new(BigInt::from(if negative { -value } else { value }), scale))
}

/// The index of the last digit that is not zero.
trait LastNonZero {
    fn rposition_of_nonzero(self) -> Option<usize>;
}

impl<I: Iterator<Item = u8>> LastNonZero for I {
    fn rposition_of_nonzero(self) -> Option<usize> {
        self.enumerate().filter(|(_, byte)| *byte != b'0').map(|(index, _)| index).last()
    }
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

/// An exponent too large for an `i64` is as good as the largest one: both are refused, or
/// belong to a zero.
fn read_exponent(text: &str) -> Result<i64, NumberFault> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberFault::NotANumber);
    }
    let magnitude = digits.parse::<i64>().unwrap_or(i64::MAX);
    Ok(if negative { -magnitude } else { magnitude })
}

fn length(text: &str) -> i64 {
    position(text.len())
}

fn position(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// Brings a result of arithmetic into normal form, or says which limit it breaks.
///
/// # Errors
/// The value has more than 38 significant digits, or a magnitude that cannot be stored.
pub fn limit(value: &BigDecimal) -> Result<BigDecimal, NumberFault> {
    let value = value.normalized();
    if value.is_zero() {
        return Ok(value);
    }
    if value.digits() > DIGITS_MAX as u64 {
        return Err(NumberFault::Digits);
    }
    if !(EXPONENT_MIN..=EXPONENT_MAX).contains(&first_digit_exponent(&value)) {
        return Err(NumberFault::Magnitude);
    }
    Ok(value)
}

/// The decimal exponent of the first significant digit; `value` is not zero.
fn first_digit_exponent(value: &BigDecimal) -> i64 {
    let digits = i64::try_from(value.digits()).unwrap_or(i64::MAX);
    digits - 1 - value.fractional_digit_count()
}

/// How many digits `value` has before and after the decimal point, without outer zeros.
#[must_use]
pub fn digits_around_point(value: &BigDecimal) -> (u64, u64) {
    let value = value.normalized();
    if value.is_zero() {
        return (0, 0);
    }
    let whole = u64::try_from(first_digit_exponent(&value) + 1).unwrap_or(0);
    let fraction = u64::try_from(value.fractional_digit_count()).unwrap_or(0);
    (whole, fraction)
}

/// The value with at most `scale` digits after the point.
#[must_use]
pub fn rounded(value: &BigDecimal, scale: u32, mode: RoundingMode) -> BigDecimal {
    let (value, scale) = (value.normalized(), i64::from(scale));
    // The library would write the zeros out.
    if value.fractional_digit_count() <= scale {
        return value;
    }
    value.with_scale_round(scale, mode).normalized()
}

/// What is left of a whole number divided by another that is not 0, with the sign of the
/// first; `None` if one is not whole, or the second is 0.
#[must_use]
pub fn remainder(value: &BigDecimal, divisor: &BigDecimal) -> Option<BigDecimal> {
    if divisor.is_zero() || !value.is_integer() || !divisor.is_integer() {
        return None;
    }
    let whole = |value: &BigDecimal| value.with_scale(0).into_bigint_and_scale().0;
    Some(BigDecimal::new(whole(value) % whole(divisor), 0))
}

/// `sum / count`, half-even to [`AVERAGE_DIGITS`] significant digits; `None` over no value.
#[must_use]
pub fn average(sum: &BigDecimal, count: u64) -> Option<BigDecimal> {
    if count == 0 {
        return None;
    }
    let (digits, scale) = sum.normalized().into_bigint_and_scale();
    if digits.is_zero() {
        return Some(BigDecimal::zero());
    }
    // 20 digits of the divisor at most, 20 of the quotient, two to spare.
    let shift = 42_u32;
    let divisor = BigInt::from(count);
    let dividend = digits * BigInt::from(10).pow(shift);
    let quotient = &dividend / &divisor;
    let rest = &dividend - &quotient * &divisor;
    // One more digit stands for everything that the division cut off: it can only turn an
    // exact half into more than a half.
    let sticky = match rest.sign() {
        Sign::NoSign => BigInt::from(0),
        Sign::Plus => BigInt::from(1),
        Sign::Minus => BigInt::from(-1),
    };
    let exact = BigDecimal::new(quotient * 10 + sticky, scale + i64::from(shift) + 1);
    let precision = std::num::NonZeroU64::new(AVERAGE_DIGITS)?;
    Some(exact.with_precision_round(precision, RoundingMode::HalfEven).normalized())
}

/// The value in digits and one point: no exponent, no trailing zeros, no negative zero.
#[must_use]
pub fn plain(value: &BigDecimal) -> String {
    let value = value.normalized();
    if value.is_zero() { "0".to_owned() } else { value.to_plain_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<&str, NumberFault>) {
        assert_eq!(read(text).map(|value| plain(&value)), expect.map(str::to_owned), "{text}");
    }

    #[test]
    fn numbers_keep_every_digit_and_only_their_value() {
        for text in ["1", "1.0", "1E0", "+1", "0.1e1", "10E-1", "00001.0000"] {
            check(text, Ok("1"));
        }
        for text in ["0", "-0", "0.000", "0E999999999999999999999", ".0", "0e-99999999999"] {
            check(text, Ok("0"));
        }
        check("-12.50", Ok("-12.5"));
        check("1E3", Ok("1000"));
        check(".5", Ok("0.5"));
        check("5.", Ok("5"));
        let digits = "12345678901234567890123456789012345678";
        check(digits, Ok(digits));
        check(&format!("000{digits}.000"), Ok(digits));
        check(&format!("1{}", "0".repeat(125)), Ok(&format!("1{}", "0".repeat(125))));
    }

    #[test]
    fn texts_beyond_the_limits_are_refused_whatever_their_exponent() {
        check("123456789012345678901234567890123456789", Err(NumberFault::Digits));
        check("1.00000000000000000000000000000000000001", Err(NumberFault::Digits));
        check("1E126", Err(NumberFault::Magnitude));
        check("9.99E125", Ok(&format!("999{}", "0".repeat(123))));
        check("1E-130", Ok(&format!("0.{}1", "0".repeat(129))));
        check("9E-131", Err(NumberFault::Magnitude));
        check("1E1000000000", Err(NumberFault::Magnitude));
        check("1E-99999999999999999999999", Err(NumberFault::Magnitude));
        check(&format!("1{}", "0".repeat(1_000_000)), Err(NumberFault::Magnitude));
        for text in ["", "-", "+", ".", "E1", "1E", "1E+", "--1", "1 ", "1_0", "0x1", "NaN", "١"] {
            check(text, Err(NumberFault::NotANumber));
        }
    }

    #[test]
    fn results_of_arithmetic_have_the_same_limits() {
        let number = |text| read(text).unwrap();
        let product = number("12345678901234567891") * number("12345678901234567891");
        assert_eq!(limit(&product), Err(NumberFault::Digits));
        assert_eq!(limit(&(number("1E100") * number("1E100"))), Err(NumberFault::Magnitude));
        assert_eq!(limit(&(number("1E100") + number("1"))), Err(NumberFault::Digits));
        let back = (number("1E100") + number("1")) - number("1E100");
        assert_eq!(limit(&back), Ok(number("1")));
        assert_eq!(limit(&(number("2.5") * number("4"))), Ok(number("10")));
    }

    #[test]
    fn an_average_is_rounded_half_even_to_twenty_digits() {
        let check = |sum: &str, count, expect: &str| {
            let sum = read(sum).unwrap();
            assert_eq!(average(&sum, count).map(|value| plain(&value)).unwrap(), expect);
        };
        check("10", 4, "2.5");
        check("0", 7, "0");
        check("1", 3, "0.33333333333333333333");
        check("-2", 3, "-0.66666666666666666667");
        check("100", 1, "100");
        // Exactly half way: to the even neighbour.
        check("1.00000000000000000005", 1, "1");
        check("1.00000000000000000015", 1, "1.0000000000000000002");
        check("-1.00000000000000000025", 1, "-1.0000000000000000002");
        // The smallest bit more than half way: away from zero.
        check("1.0000000000000000000500000000000000001", 1, "1.0000000000000000001");
        check(
            "12345678901234567890123456789012345678",
            1,
            "12345678901234567890000000000000000000",
        );
        assert_eq!(average(&read("1").unwrap(), 0), None);
    }

    #[test]
    fn an_average_over_many_has_all_its_digits() {
        let value = average(&read("1E125").unwrap(), 18_446_744_073_709_551_615).unwrap();
        // 1E125 / (2^64 - 1) = 5.4210108624275221703…E105
        assert!(plain(&value).starts_with("54210108624275221703"), "{}", plain(&value));
        assert_eq!(value.digits(), 20);
    }

    #[test]
    fn digits_are_counted_around_the_point() {
        for (text, expect) in [
            ("0", (0, 0)),
            ("0.5", (0, 1)),
            ("0.05", (0, 2)),
            ("12.50", (2, 1)),
            ("1E10", (11, 0)),
            ("-123.456", (3, 3)),
        ] {
            assert_eq!(digits_around_point(&read(text).unwrap()), expect, "{text}");
        }
    }
}
