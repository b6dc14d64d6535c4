//! Numbers as EventBridge compares them.
//!
//! EventBridge's documentation: numbers are compared from −5·10⁹ to 5·10⁹ inclusive, with 15
//! digits of precision, six of them behind the point. So a number in this range is a count of
//! millionths here, and further digits are cut off (towards minus infinity, as `event-ruler`,
//! AWS's published matcher, does). 300 and 300.0 are one number. A number outside the range can
//! only equal the same digits, and no `numeric` matches it.

/// The greatest number that is compared, and the least one's magnitude, in millionths.
const LIMIT: i64 = 5_000_000_000_000_000;

/// Digits before the point that a number of the range can have.
const WHOLE_DIGITS_MAX: i64 = 10;

/// Digits behind the point that are compared.
const FRACTION_DIGITS: i64 = 6;

/// A number of JSON in millionths; none if it is out of EventBridge's range.
///
/// `text` is a number of JSON's grammar.
pub(super) fn millionths(text: &str) -> Option<i64> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    let zeros = digits().take_while(|digit| *digit == b'0').count();
    if zeros == whole.len() + fraction.len() {
        return Some(0);
    }
    // How many of the digits, leading zeros left out, stand before the point.
    let length = |digits: usize| i64::try_from(digits).unwrap_or(i64::MAX);
    let point = exponent_of(exponent).saturating_add(length(whole.len()) - length(zeros));
    if point > WHOLE_DIGITS_MAX {
        return None;
    }
    let kept = usize::try_from(point + FRACTION_DIGITS).unwrap_or(0);
    let mut magnitude = 0_i64;
    let mut rest = digits().skip(zeros);
    for _ in 0..kept {
        let digit = rest.next().unwrap_or(b'0') - b'0';
        magnitude = magnitude * 10 + i64::from(digit);
    }
    let is_cut = rest.any(|digit| digit != b'0');
    if magnitude > LIMIT || (magnitude == LIMIT && is_cut) {
        return None;
    }
    Some(if is_negative { -magnitude - i64::from(is_cut) } else { magnitude })
}

/// An exponent, held to what cannot change the answer.
fn exponent_of(text: &str) -> i64 {
    const FAR: i64 = i64::MAX / 4;
    let unsigned = text.trim_start_matches(['+', '-']);
    let magnitude = unsigned.parse::<i64>().map_or(FAR, |exponent| exponent.min(FAR));
    if text.starts_with('-') { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::millionths;

    #[test]
    fn numbers_are_millionths_in_the_range_and_nothing_outside() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0.000e9", Some(0)),
            ("0e99999999999999999999", Some(0)),
            ("300", Some(300_000_000)),
            ("300.0", Some(300_000_000)),
            ("3e2", Some(300_000_000)),
            ("0.3E+3", Some(300_000_000)),
            ("30000000e-5", Some(300_000_000)),
            ("301.8", Some(301_800_000)),
            ("0.0000019", Some(1)),
            ("-0.0000019", Some(-2)),
            ("-0.0000010", Some(-1)),
            ("1e-7", Some(0)),
            ("-1e-7", Some(-1)),
            ("1e-99999999999999999999", Some(0)),
            ("5000000000", Some(5_000_000_000_000_000)),
            ("-5e9", Some(-5_000_000_000_000_000)),
            ("5000000000.0000001", None),
            ("-5000000000.0000001", None),
            ("5000000000.000001", None),
            ("4999999999.9999999", Some(4_999_999_999_999_999)),
            ("10000000000", None),
            ("1e99999999999999999999", None),
            ("-1789649451000", None),
        ] {
            assert_eq!(millionths(text), expected, "{text}");
        }
    }
}
