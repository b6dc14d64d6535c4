//! Numbers with all their digits.
//!
//! serde's own numbers end at 64 or 128 bits and at doubles; DynamoDB's have 38 decimal
//! digits. [`Number`] asks for itself under a private name, which our deserializers answer
//! with the text of the number.

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use std::{borrow::Cow, fmt};

/// How [`Number`] asks for itself.
pub(super) const NUMBER_NAME: &str = "$changefold::Number";

/// A number with all its digits, from a DynamoDB `N` or a plain JSON number.
///
/// It is the text that was sent, checked to be a decimal number. Equality is that of the
/// text: `1` and `1.0` differ. Read by a deserializer other than ours (behind
/// `#[serde(flatten)]` or an untagged enum, for example), it is as exact as that one is.
///
/// # Examples
/// ```
/// use changefold::event::Number;
/// assert_eq!(Number::new("0.10").map(|number| number.as_str().to_owned()), Some("0.10".into()));
/// assert!(Number::new("ten").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Number<'a>(Cow<'a, str>);

impl<'a> Number<'a> {
    /// Wraps the text of a decimal number; `None` if it is not one.
    #[must_use]
    pub fn new(text: impl Into<Cow<'a, str>>) -> Option<Self> {
        let text = text.into();
        is_decimal(&text).then_some(Self(text))
    }

    /// The digits as they were sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A copy that no longer borrows from the payload.
    #[must_use]
    pub fn into_owned(self) -> Number<'static> {
        Number(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Number<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(NUMBER_NAME, NumberVisitor { foreign: false })
    }
}

struct NumberVisitor {
    /// Whether a deserializer other than ours answers; its strings are not numbers.
    foreign: bool,
}

impl<'de> Visitor<'de> for NumberVisitor {
    type Value = Number<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(Self { foreign: true })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Number(value.to_string().into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Number(value.to_string().into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Number::new(value.to_string())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        if self.foreign {
            return Err(E::invalid_type(de::Unexpected::Str(text), &self));
        }
        Ok(Number(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if self.foreign {
            return Err(E::invalid_type(de::Unexpected::Str(text), &self));
        }
        Ok(Number(text.to_owned().into()))
    }
}

/// Whether `text` is a decimal number: sign, digits with a point or without, exponent.
pub(super) fn is_decimal(text: &str) -> bool {
    fn digits(text: &str) -> bool {
        text.bytes().all(|byte| byte.is_ascii_digit())
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let mantissa = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    digits(integer)
        && digits(fraction)
        && !(integer.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|text| !text.is_empty() && digits(text))
}

/// The value of the digits that a text begins with, behind those of `value`, and the rest. It is
/// right for at most nineteen digits altogether.
#[inline]
fn leading_digits(mut text: &[u8], mut value: u64) -> (u64, &[u8]) {
    while let [digit @ b'0'..=b'9', rest @ ..] = text {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        text = rest;
    }
    (value, text)
}

/// The value of at most nineteen digits and nothing else.
#[inline]
pub(super) fn short_integer(text: &str) -> Option<u64> {
    match leading_digits(text.as_bytes(), 0) {
        (value, []) if !text.is_empty() && text.len() <= 19 => Some(value),
        _ => None,
    }
}

/// A number of at most nineteen digits, as JSON writes it, without an exponent.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortNumber {
    pub(super) is_negative: bool,
    /// Its digits, without the point.
    pub(super) digits: u64,
    /// How many of them are behind the point.
    pub(super) behind: usize,
    /// How many bytes it takes in the text.
    pub(super) len: usize,
}

impl ShortNumber {
    /// The number that a text begins with.
    #[inline]
    pub(super) fn at_start(text: &[u8]) -> Option<Self> {
        let (is_negative, unsigned) = match text {
            [b'-', unsigned @ ..] => (true, unsigned),
            unsigned => (false, unsigned),
        };
        let (whole, mut rest) = leading_digits(unsigned, 0);
        let before = unsigned.len() - rest.len();
        let (mut digits, mut behind) = (whole, 0);
        if let [b'.', fraction @ ..] = rest {
            (digits, rest) = leading_digits(fraction, whole);
            behind = fraction.len() - rest.len();
            if behind == 0 {
                return None;
            }
        }
        let is_written_as_json = before == 1 || before > 1 && unsigned.first() != Some(&b'0');
        if !is_written_as_json || before + behind > 19 || matches!(rest, [b'e' | b'E', ..]) {
            return None;
        }
        Some(Self { is_negative, digits, behind, len: text.len() - rest.len() })
    }

    /// Its value, if it has no sign and no point.
    #[inline]
    pub(super) fn whole(self) -> Option<u64> {
        (self.behind == 0 && !self.is_negative).then_some(self.digits)
    }

    /// Its value, where a division of two exact doubles gives it without an error: at most 2^53
    /// without the point. That is what any correct reader gives, and what `serde_json` computes.
    #[inline]
    pub(super) fn double(self) -> Option<f64> {
        const EXACT_MAX: u64 = 1 << 53;
        /// The powers of ten up to the most digits there can be behind a point.
        const POWERS: [f64; 19] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
            1e16, 1e17, 1e18,
        ];
        if self.digits > EXACT_MAX {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
        let value = self.digits as f64 / POWERS.get(self.behind)?;
        Some(if self.is_negative { -value } else { value })
    }
}

/// The value of a number without an exponent that is short enough to be exact.
#[inline]
pub(super) fn short_decimal(text: &str) -> Option<f64> {
    let number = ShortNumber::at_start(text.as_bytes())?;
    if number.len == text.len() { number.double() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{short_decimal, short_integer};
    use proptest::prelude::*;

    #[test]
    fn only_what_is_exact_is_short() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("-0", Some(-0.0)),
            ("12.50", Some(12.5)),
            ("-0.1", Some(-0.1)),
            ("9007199254740992", Some(9_007_199_254_740_992.0)),
            ("9007199254740993", None),
            ("99999999999999999999", None),
            ("1e3", None),
            ("", None),
            ("-", None),
            (".", None),
            ("1.", None),
            (".5", None),
            ("1.2.3", None),
            ("+1", None),
            ("1 ", None),
        ] {
            let found = short_decimal(text).map(f64::to_bits);
            assert_eq!(found, expected.map(f64::to_bits), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_short_integer_is_what_others_read(text in "[0-9]{0,21}|[0-9]{1,3}[-+ .a]") {
            let expected = text.parse::<u64>().ok().filter(|_| text.len() <= 19);
            prop_assert_eq!(short_integer(&text), expected);
        }

        #[test]
        fn a_short_decimal_is_what_others_read(text in "-?(0|[1-9][0-9]{0,17})([.][0-9]{1,18})?") {
            if let Some(value) = short_decimal(&text) {
                prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
                let theirs: f64 = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(value.to_bits(), theirs.to_bits());
            }
        }
    }
}
