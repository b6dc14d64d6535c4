//! What a list at the end of a path asks of the values there.
//!
//! The elements of the list are alternatives. Plain values are kept sorted, so a long list of
//! them costs a value no more than a look-up; each other test is made once for a value, in
//! time linear in the test and the value.

use super::{
    cidr::Cidr,
    event::Value,
    text::{AnyCase, Wildcard},
};
use std::collections::BTreeSet;

/// The alternatives of one list.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one alternative, and all may be there")]
pub(super) struct Leaf {
    pub(super) strings: BTreeSet<Box<str>>,
    /// Numbers of EventBridge's range, in millionths.
    pub(super) numbers: BTreeSet<i64>,
    /// Numbers out of that range, digit by digit.
    pub(super) digits: BTreeSet<Box<str>>,
    pub(super) is_null: bool,
    pub(super) is_true: bool,
    pub(super) is_false: bool,
    /// `{"exists": true}` is among them.
    pub(super) exists: bool,
    /// `{"exists": false}` is among them.
    pub(super) is_absent: bool,
    pub(super) tests: Vec<Test>,
}

/// One operator with its operand.
#[derive(Debug)]
pub(super) enum Test {
    Prefix(String),
    PrefixOfAnyCase(AnyCase),
    Suffix(String),
    SuffixOfAnyCase(AnyCase),
    EqualOfAnyCase(AnyCase),
    Wildcard(Wildcard),
    Cidr(Cidr),
    Numeric(Range),
    NoneOfStrings(BTreeSet<Box<str>>),
    NoneOfNumbers(BTreeSet<i64>),
    NoneOf(Vec<Test>),
}

/// Numbers from one to another, in millionths, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: i64,
    pub(super) greatest: i64,
}

impl Leaf {
    /// Whether one of the alternatives takes a value that is there: no array and no object.
    pub(super) fn takes(&self, value: &Value<'_>) -> bool {
        let is_plain = match value {
            Value::Null => self.is_null,
            Value::Boolean(true) => self.is_true,
            Value::Boolean(false) => self.is_false,
            Value::String(text) => self.strings.contains(text.as_ref()),
            Value::Number { millionths: Some(number), .. } => self.numbers.contains(number),
            Value::Number { text, millionths: None } => self.digits.contains(*text),
            Value::Array(_) | Value::Object(_) => return false,
        };
        is_plain || self.exists || self.tests.iter().any(|test| test.takes(value))
    }
}

impl Test {
    fn takes(&self, value: &Value<'_>) -> bool {
        match self {
            Self::NoneOfStrings(texts) => {
                !matches!(value, Value::String(text) if texts.contains(text.as_ref()))
            }
            Self::NoneOfNumbers(numbers) => {
                let is_one = |number: &Option<i64>| number.is_some_and(|it| numbers.contains(&it));
                !matches!(value, Value::Number { millionths, .. } if is_one(millionths))
            }
            Self::NoneOf(tests) => !tests.iter().any(|test| test.takes(value)),
            Self::Numeric(range) => match value {
                Value::Number { millionths: Some(number), .. } => {
                    (range.least..=range.greatest).contains(number)
                }
                _ => false,
            },
            _ => matches!(value, Value::String(text) if self.takes_text(text)),
        }
    }

    fn takes_text(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::PrefixOfAnyCase(prefix) => prefix.begins(text),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::SuffixOfAnyCase(suffix) => suffix.ends(text),
            Self::EqualOfAnyCase(equal) => equal.is(text),
            Self::Wildcard(wildcard) => wildcard.is(text),
            Self::Cidr(cidr) => cidr.contains(text),
            Self::Numeric(_)
            | Self::NoneOfStrings(_)
            | Self::NoneOfNumbers(_)
            | Self::NoneOf(_) => false,
        }
    }
}
