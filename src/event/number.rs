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
