//! A scalar as a text whose bytes sort as the values do.
//!
//! Separate from the text of a row key, which only has to be found: a sort key of `DynamoDB` is
//! read from either end, and its order is that of its UTF-8 bytes. So numbers of any size stand
//! beside texts in one table. Invariant: the order of two texts is the order of their scalars, and
//! equal scalars have one text. What it gives up: NULL, which is no value of an aggregate.

use super::Scalar;
use bigdecimal::{BigDecimal, num_bigint::BigInt, num_traits::Signed as _};

/// What is added to the place of a number's first digit, so that it is never negative: numbers
/// have their first digit from 10^-130 to 10^125.
const PLACE_BIAS: i64 = 200;
/// The highest biased place there is room for.
const PLACE_MAX: i64 = 999;

/// The text of a value: `B` and a digit, `N` and the parts of a number, `S` and the text.
///
/// A positive number is `2`, the place of its first digit in three digits, and its digits without
/// outer zeros; a negative one is `0` and the same with each digit taken from 9, ended by `~`, so
/// that more digits sort lower. Zero is `1`. Numbers keep the limits of
/// [`number`](crate::view::number). NULL has the text of no value.
///
/// # Examples
/// ```
/// use changefold::view::scalar::{Scalar, encode_value};
/// let number = |text: &str| encode_value(&Scalar::Number(text.parse().unwrap()));
/// assert_eq!((number("12.50"), number("-12.5")), ("N2202125".into(), "N0797874~".into()));
/// assert!(number("-2") < number("-1.5") && number("9") < number("10"));
/// ```
#[must_use]
pub fn encode_value(value: &Scalar) -> String {
    match value {
        Scalar::Null => "Z".to_owned(),
        Scalar::Bool(value) => format!("B{}", u8::from(*value)),
        Scalar::Number(value) => format!("N{}", number_text(value)),
        Scalar::Text(text) => format!("S{text}"),
    }
}

fn number_text(value: &BigDecimal) -> String {
    let (digits, scale) = value.normalized().into_bigint_and_scale();
    if digits == BigInt::from(0) {
        return "1".to_owned();
    }
    let text = digits.abs().to_string();
    let length = i64::try_from(text.len()).unwrap_or(PLACE_MAX);
    let place = (length - scale + PLACE_BIAS).clamp(0, PLACE_MAX);
    if digits.is_positive() {
        return format!("2{place:03}{text}");
    }
    let complement = text.bytes().map(|digit| char::from(b'0' + (b'9' - digit)));
    format!("0{:03}{}~", PLACE_MAX - place, complement.collect::<String>())
}

/// The value that [`encode_value`] made this text of; `None` for any other text.
#[must_use]
pub fn decode_value(text: &str) -> Option<Scalar> {
    let mut parts = text.chars();
    let value = match parts.next()? {
        'B' => Scalar::Bool(parts.as_str() == "1"),
        'N' => Scalar::Number(number_of(parts.as_str())?),
        'S' => Scalar::Text(parts.as_str().to_owned()),
        _ => return None,
    };
    // Refuses what only looks like a value: "B7", "N22021250".
    (encode_value(&value) == text).then_some(value)
}

fn number_of(text: &str) -> Option<BigDecimal> {
    let (kind, rest) = text.split_at_checked(1)?;
    if kind == "1" {
        return Some(BigDecimal::default());
    }
    let (place, digits) = rest.split_at_checked(3)?;
    let place: i64 = place.parse().ok()?;
    let (place, digits) = match kind {
        "2" => (place, digits.to_owned()),
        "0" => {
            let complement = digits.strip_suffix('~')?.bytes();
            let complement = complement.map(|digit| b'9'.checked_sub(digit));
            let digits = complement.map(|digit| Some(char::from(b'0' + digit?)));
            (PLACE_MAX - place, format!("-{}", digits.collect::<Option<String>>()?))
        }
        _ => return None,
    };
    let length = i64::try_from(digits.trim_start_matches('-').len()).ok()?;
    Some(BigDecimal::new(digits.parse().ok()?, length - (place - PLACE_BIAS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::number;
    use proptest::prelude::*;

    #[test]
    fn the_texts_of_values_are_fixed() {
        for (number, expect) in [
            ("0", "N1"),
            ("1", "N22011"),
            ("100", "N22031"),
            ("-1", "N07988~"),
            ("0.05", "N21995"),
            ("1E125", "N23261"),
            ("1E-130", "N20711"),
            ("-9.99E125", "N0673000~"),
        ] {
            let value = Scalar::Number(number::read(number).unwrap());
            assert_eq!(encode_value(&value), expect);
            assert_eq!(decode_value(expect), Some(value));
        }
        for text in ["", "Z", "B", "B2", "N", "N10", "N2", "N220110", "N0798~", "N07988", "N079é~"]
        {
            assert_eq!(decode_value(text), None, "{text}");
        }
    }

    fn any_value() -> impl Strategy<Value = Scalar> {
        let digits = prop_oneof![-200..200_i128, any::<i64>().prop_map(i128::from), any::<i128>()];
        prop_oneof![
            any::<bool>().prop_map(Scalar::Bool),
            (digits, -80..90_i64).prop_map(|(digits, scale)| {
                Scalar::Number(BigDecimal::new((digits / 10).into(), scale).normalized())
            }),
            (-20..20_i64, -2..3_i64)
                .prop_map(|(digits, scale)| Scalar::Number(BigDecimal::new(digits.into(), scale))),
            "[a-c~é\u{ffff}😀]{0,3}".prop_map(Scalar::Text),
            any::<String>().prop_map(Scalar::Text),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn texts_sort_as_their_values_do(one in any_value(), other in any_value()) {
            let (a, b) = (encode_value(&one), encode_value(&other));
            prop_assert_eq!(a.as_bytes().cmp(b.as_bytes()), one.cmp(&other), "{} {}", a, b);
            prop_assert_eq!(decode_value(&a), Some(one));
        }

        #[test]
        fn any_text_is_a_value_or_not_without_panic(text in "[BNS0-9~é]{0,9}") {
            if let Some(value) = decode_value(&text) {
                prop_assert_eq!(encode_value(&value), text);
            }
        }
    }
}
