//! The four kinds of value a view row can hold, their order, and their texts as keys.
//!
//! Separate because the ledger stores them, rows are found by them and reports print them.
//! Invariant: two scalars are equal exactly when their key texts are equal (`1`, `1.0` and
//! `1E0` are one number). What it gives up: lists, maps, sets and binary, which SQL's
//! comparisons have no answer for.

mod ordered;

pub use ordered::{decode_value, encode_value};

use crate::view::number;
use bigdecimal::{BigDecimal, num_bigint::BigInt};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;
use std::fmt;

/// A value in a view: in a row, a group key, or a literal.
///
/// The order is the order rows print in: NULL, then FALSE and TRUE, then numbers by value,
/// then text by its UTF-8 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    /// SQL's NULL; also what a missing attribute is.
    Null,
    /// TRUE or FALSE.
    Bool(bool),
    /// An exact decimal; equal by value whatever its scale.
    Number(BigDecimal),
    /// Text; the empty text is not NULL.
    Text(String),
}

impl Scalar {
    /// The value as JSON: an exact number without exponent, `null`, a boolean or a string.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => number::plain(value),
            Self::Text(text) => serde_json::Value::String(text.clone()).to_string(),
        }
    }
}

/// As a cell of a table: like JSON, but text without quotes and NULL in capitals.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.pad("NULL"),
            Self::Bool(value) => f.pad(if *value { "true" } else { "false" }),
            Self::Number(value) => f.pad(&number::plain(value)),
            Self::Text(text) => f.pad(text),
        }
    }
}

/// Numbers keep every digit, which only `serde_json`'s own serializer can write.
impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(value) => {
                let raw = RawValue::from_string(number::plain(value)).map_err(S::Error::custom)?;
                raw.serialize(serializer)
            }
        }
    }
}

/// The key of the one row of an aggregate without GROUP BY: a key text is never empty,
/// because `DynamoDB` refuses an empty key attribute.
pub const SHARED_KEY: &str = "-";

/// The text of a row key: `Z` for NULL, `T` and `F`, and for numbers and text a letter, the
/// length in bytes, a colon and the bytes.
///
/// Injective: different keys have different texts, equal keys the same one.
///
/// # Examples
/// ```
/// use changefold::view::scalar::{Scalar, encode_key};
/// assert_eq!(encode_key(&[Scalar::Text("DE:1".to_owned()), Scalar::Null]), "S4:DE:1Z");
/// ```
#[must_use]
pub fn encode_key(key: &[Scalar]) -> String {
    if key.is_empty() {
        return SHARED_KEY.to_owned();
    }
    let mut text = String::new();
    for scalar in key {
        match scalar {
            Scalar::Null => text.push('Z'),
            Scalar::Bool(true) => text.push('T'),
            Scalar::Bool(false) => text.push('F'),
            Scalar::Number(value) => push_counted(&mut text, 'N', &number_text(value)),
            Scalar::Text(value) => push_counted(&mut text, 'S', value),
        }
    }
    text
}

fn push_counted(text: &mut String, kind: char, value: &str) {
    text.push(kind);
    text.push_str(&value.len().to_string());
    text.push(':');
    text.push_str(value);
}

/// Digits without outer zeros and, where it is not 0, the exponent: short for 1E125 too.
fn number_text(value: &BigDecimal) -> String {
    let (digits, exponent) = value.normalized().into_bigint_and_exponent();
    if digits == BigInt::from(0) {
        return "0".to_owned();
    }
    if exponent == 0 { digits.to_string() } else { format!("{digits}E{}", -exponent) }
}

/// The key that [`encode_key`] made this text of; `None` for any other text.
#[must_use]
pub fn decode_key(text: &str) -> Option<Vec<Scalar>> {
    let mut key = Vec::new();
    if text == SHARED_KEY {
        return Some(key);
    }
    let mut rest = text;
    while let Some(kind) = rest.chars().next() {
        rest = &rest[kind.len_utf8()..];
        key.push(match kind {
            'Z' => Scalar::Null,
            'T' => Scalar::Bool(true),
            'F' => Scalar::Bool(false),
            'N' => Scalar::Number(number::read(take_counted(&mut rest)?).ok()?),
            'S' => Scalar::Text(take_counted(&mut rest)?.to_owned()),
            _ => return None,
        });
    }
    // Refuses what only looks like a key: "", "N3:1.0", "S01:x".
    (encode_key(&key) == text).then_some(key)
}

fn take_counted<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (length, after) = rest.split_once(':')?;
    let (value, after) = after.split_at_checked(length.parse().ok()?)?;
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Scalar {
        Scalar::Number(number::read(text).unwrap())
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    #[test]
    fn rows_print_null_first_then_booleans_numbers_and_text_by_bytes() {
        let sorted = [
            Scalar::Null,
            Scalar::Bool(false),
            Scalar::Bool(true),
            number("-1E125"),
            number("-1"),
            number("0"),
            number("1E-130"),
            number("2"),
            number("10"),
            number("1E125"),
            text(""),
            text("10"),
            text("2"),
            text("Z"),
            text("a"),
            text("é"),
            text("\u{ffff}"),
            text("😀"),
        ];
        for pair in sorted.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
    }

    #[test]
    fn json_keeps_every_digit() {
        let row = [number("1.50"), number("1E3"), number("-0.0"), Scalar::Null, text("a\"\n")];
        let json = "[1.5,1000,0,null,\"a\\\"\\n\"]";
        assert_eq!(serde_json::to_string(&row).unwrap(), json);
        let each: Vec<_> = row.iter().map(Scalar::to_json).collect();
        assert_eq!(format!("[{}]", each.join(",")), json);
        let long = "-12345678901234567890.123456789012345678";
        assert_eq!(number(long).to_json(), long);
        assert_eq!(serde_json::to_string(&number(long)).unwrap(), long);
    }

    #[test]
    fn a_cell_shows_null_apart_from_text() {
        let cells = [Scalar::Null, Scalar::Bool(true), number("1.0"), text("x")];
        assert_eq!(cells.map(|cell| cell.to_string()), ["NULL", "true", "1", "x"]);
        assert_eq!(format!("[{:>5}]", number("12")), "[   12]");
    }

    #[test]
    fn key_texts_are_fixed() {
        for (key, expect) in [
            (vec![], "-"),
            (vec![Scalar::Null], "Z"),
            (vec![text("")], "S0:"),
            (vec![text("EU-DE"), text("abc")], "S5:EU-DES3:abc"),
            (vec![number("1.0")], "N1:1"),
            (vec![number("1E0")], "N1:1"),
            (vec![number("-0.50")], "N5:-5E-1"),
            (vec![number("1000")], "N3:1E3"),
            (vec![Scalar::Bool(true), Scalar::Bool(false), text("é")], "TFS2:é"),
        ] {
            assert_eq!(encode_key(&key), expect);
            assert_eq!(decode_key(expect), Some(key));
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in [
            "",
            "z",
            "S",
            "S5:abc",
            "S-1:",
            "S01:a",
            "S1:é",
            "N3:1.0",
            "N1:x",
            "N2:-0",
            "Z-",
            "-Z",
            "S1:aX",
            "N99999999999999999999:1",
            "é",
        ] {
            assert_eq!(decode_key(text), None, "{text}");
        }
    }

    fn any_scalar() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            Just(Scalar::Null),
            any::<bool>().prop_map(Scalar::Bool),
            (any::<i64>(), -90..80_i64)
                .prop_map(|(digits, scale)| Scalar::Number(BigDecimal::new(digits.into(), scale))),
            "[ZTFNS0-9:-]{0,6}".prop_map(Scalar::Text),
            any::<String>().prop_map(Scalar::Text),
        ]
    }

    proptest! {
        #[test]
        fn a_key_comes_back_from_its_text(key in prop::collection::vec(any_scalar(), 0..4)) {
            prop_assert_eq!(decode_key(&encode_key(&key)), Some(key));
        }

        #[test]
        fn keys_are_equal_exactly_when_their_texts_are(
            one in prop::collection::vec(any_scalar(), 0..3),
            other in prop::collection::vec(any_scalar(), 0..3),
        ) {
            prop_assert_eq!(one == other, encode_key(&one) == encode_key(&other));
        }

        #[test]
        fn any_text_decodes_or_not_without_panic(text in "[ZTFNS0-9:.E+-]{0,12}") {
            if let Some(key) = decode_key(&text) {
                prop_assert_eq!(encode_key(&key), text);
            }
        }
    }
}
