//! The lists of values and operators of a pattern, and what EventBridge refuses in them.

use super::{
    PatternError,
    cidr::Cidr,
    leaf::{Leaf, Range, Test},
    number::millionths,
    reading::Reading,
    text::{AnyCase, Wildcard},
    written::{At, Json},
};
use std::collections::BTreeSet;

const VALUES: &str = "a text, a number, true, false, null or an operator";
const ANY_OPERATOR: &str = "prefix, suffix, anything-but, numeric, exists, equals-ignore-case, \
                            wildcard or cidr, in lower case";
const BLOCK: &str = "an address and its bits, like \"10.0.0.0/24\"";
const NUMBERS: &str = "a number from -5000000000 to 5000000000";

/// The least number that is compared and the greatest, in millionths.
const LEAST: i64 = -5_000_000_000_000_000;
const GREATEST: i64 = 5_000_000_000_000_000;

/// A list that is not empty.
pub(super) fn leaf(reading: &mut Reading<'_, '_>, elements: &[At]) -> Result<Leaf, PatternError> {
    let document = reading.document;
    let mut leaf = Leaf::default();
    for (index, element) in elements.iter().enumerate() {
        reading.within(&format!("[{index}]"), |it| {
            match document.value(*element) {
                Json::Null => leaf.is_null = true,
                Json::Boolean(true) => leaf.is_true = true,
                Json::Boolean(false) => leaf.is_false = true,
                Json::String(text) => {
                    leaf.strings.insert(text.as_ref().into());
                }
                Json::Number(text) => match millionths(text) {
                    Some(number) => {
                        leaf.numbers.insert(number);
                    }
                    None => {
                        leaf.digits.insert((*text).into());
                    }
                },
                Json::Object(members) => match members.as_slice() {
                    [(name, operand)] => {
                        it.within(name, |it| operator(it, name, *operand, &mut leaf))?;
                    }
                    _ => return Err(it.refused(*element, "one operator an object")),
                },
                Json::Array(_) => return Err(it.refused(*element, VALUES)),
            }
            Ok(())
        })?;
    }
    Ok(leaf)
}

fn operator(
    it: &mut Reading<'_, '_>,
    name: &str,
    operand: At,
    leaf: &mut Leaf,
) -> Result<(), PatternError> {
    let value = it.document.value(operand);
    let test = match (name, value) {
        ("exists", Json::Boolean(true)) => {
            leaf.exists = true;
            return Ok(());
        }
        ("exists", Json::Boolean(false)) => {
            leaf.is_absent = true;
            return Ok(());
        }
        ("exists", _) => return Err(it.refused(operand, "true or false")),
        ("prefix" | "suffix", Json::String(text)) => end(name, text),
        ("prefix" | "suffix", Json::Object(_)) => end_of_any_case(it, name, operand)?,
        ("prefix" | "suffix", _) => {
            return Err(it.refused(operand, "a text, or {\"equals-ignore-case\": a text}"));
        }
        ("equals-ignore-case" | "wildcard", Json::String(text)) => of_text(it, name, text)?,
        ("equals-ignore-case" | "wildcard", _) => return Err(it.refused(operand, "a text")),
        ("cidr", Json::String(text)) => match Cidr::new(text) {
            Some(cidr) => Test::Cidr(cidr),
            None => return Err(it.refused(operand, BLOCK)),
        },
        ("cidr", _) => return Err(it.refused(operand, BLOCK)),
        ("numeric", Json::Array(terms)) => Test::Numeric(range(it, terms)?),
        ("numeric", _) => return Err(it.refused(operand, "a list like [\">\", 0, \"<=\", 5]")),
        ("anything-but", _) => anything_but(it, operand)?,
        _ => return Err(it.error("an unknown operator".to_owned(), ANY_OPERATOR)),
    };
    leaf.tests.push(test);
    Ok(())
}

fn end(name: &str, text: &str) -> Test {
    if name == "prefix" { Test::Prefix(text.to_owned()) } else { Test::Suffix(text.to_owned()) }
}

fn of_text(it: &Reading<'_, '_>, name: &str, text: &str) -> Result<Test, PatternError> {
    if name == "equals-ignore-case" {
        return Ok(Test::EqualOfAnyCase(AnyCase::new(text)));
    }
    let allowed = "5 stars, none beside another, with \\* for a star and \\\\ for a backslash";
    Wildcard::new(text).map(Test::Wildcard).map_err(|found| it.error(found, allowed))
}

/// `{"prefix": {"equals-ignore-case": "…"}}` and the same of `suffix`.
fn end_of_any_case(
    it: &mut Reading<'_, '_>,
    name: &str,
    operand: At,
) -> Result<Test, PatternError> {
    let document = it.document;
    let allowed = "a text, or {\"equals-ignore-case\": a text}";
    let inner = match document.value(operand) {
        Json::Object(members) => match members.as_slice() {
            [(inner, value)] if inner == "equals-ignore-case" => *value,
            _ => return Err(it.refused(operand, allowed)),
        },
        _ => return Err(it.refused(operand, allowed)),
    };
    it.within("equals-ignore-case", |it| match document.value(inner) {
        Json::String(text) if name == "prefix" => Ok(Test::PrefixOfAnyCase(AnyCase::new(text))),
        Json::String(text) => Ok(Test::SuffixOfAnyCase(AnyCase::new(text))),
        _ => Err(it.refused(inner, "a text")),
    })
}

/// The terms of `numeric`: an equation, one bound, or a lower bound and then an upper one.
fn range(it: &mut Reading<'_, '_>, terms: &[At]) -> Result<Range, PatternError> {
    let allowed = "[op, number], or a lower bound and then an upper one like \
                   [\">\", 0, \"<=\", 5]; op is =, <, <=, > or >=";
    let whole = Range { least: LEAST, greatest: GREATEST };
    match terms {
        [operator, number] => {
            let number = bound(it, 1, *number)?;
            let names = "=, <, <=, > or >=";
            it.within("[0]", |it| match comparison(it, *operator) {
                Some("=") => Ok(Range { least: number, greatest: number }),
                Some("<") => Ok(Range { greatest: number - 1, ..whole }),
                Some("<=") => Ok(Range { greatest: number, ..whole }),
                Some(">") => Ok(Range { least: number + 1, ..whole }),
                Some(">=") => Ok(Range { least: number, ..whole }),
                _ => Err(it.refused(*operator, names)),
            })
        }
        [lower, bottom, upper, top] => {
            let (bottom, top) = (bound(it, 1, *bottom)?, bound(it, 3, *top)?);
            let least = it.within("[0]", |it| match comparison(it, *lower) {
                Some(">") => Ok(bottom + 1),
                Some(">=") => Ok(bottom),
                _ => Err(it.refused(*lower, "> or >=")),
            })?;
            let greatest = it.within("[2]", |it| match comparison(it, *upper) {
                Some("<") => Ok(top - 1),
                Some("<=") => Ok(top),
                _ => Err(it.refused(*upper, "< or <=")),
            })?;
            // As `event-ruler` has it.
            if bottom >= top {
                let found = "a range whose bottom is not less than its top".to_owned();
                return Err(it.error(found, allowed));
            }
            Ok(Range { least, greatest })
        }
        _ => Err(it.error(format!("a list of {} terms", terms.len()), allowed)),
    }
}

/// The number at this index of a range, in millionths.
fn bound(it: &mut Reading<'_, '_>, index: usize, at: At) -> Result<i64, PatternError> {
    let number = match it.document.value(at) {
        Json::Number(text) => millionths(text),
        _ => None,
    };
    it.within(&format!("[{index}]"), |it| number.ok_or_else(|| it.refused(at, NUMBERS)))
}

fn comparison<'d>(it: &Reading<'d, '_>, at: At) -> Option<&'d str> {
    match it.document.value(at) {
        Json::String(text) => Some(text),
        _ => None,
    }
}

/// `anything-but` with a value, a list of values of one type, or one operator on texts.
fn anything_but(it: &mut Reading<'_, '_>, operand: At) -> Result<Test, PatternError> {
    let allowed = "a text, a number, a list of texts or of numbers, or one of prefix, suffix, \
                   equals-ignore-case and wildcard";
    let document = it.document;
    match document.value(operand) {
        Json::String(text) => Ok(Test::NoneOfStrings(BTreeSet::from([text.as_ref().into()]))),
        Json::Number(text) => match millionths(text) {
            Some(number) => Ok(Test::NoneOfNumbers(BTreeSet::from([number]))),
            None => Err(it.refused(operand, NUMBERS)),
        },
        Json::Array(elements) if !elements.is_empty() => none_of(it, elements),
        Json::Object(members) => match members.as_slice() {
            [(name, value)] => it.within(name, |it| {
                let names = ["prefix", "suffix", "equals-ignore-case", "wildcard"];
                if !names.contains(&name.as_ref()) {
                    let allowed = "prefix, suffix, equals-ignore-case or wildcard";
                    return Err(it.error("no operator for anything-but".to_owned(), allowed));
                }
                none_of_texts(it, name, *value)
            }),
            _ => Err(it.refused(operand, allowed)),
        },
        _ => Err(it.refused(operand, allowed)),
    }
}

/// A list that is not empty, all of texts or all of numbers.
fn none_of(it: &mut Reading<'_, '_>, elements: &[At]) -> Result<Test, PatternError> {
    let document = it.document;
    let (mut texts, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, element) in elements.iter().enumerate() {
        it.within(&format!("[{index}]"), |it| {
            match document.value(*element) {
                Json::String(text) if numbers.is_empty() => {
                    texts.insert(text.as_ref().into());
                }
                // A number out of range would equal none that is compared: `event-ruler`
                // refuses it, where it takes one as a plain value.
                Json::Number(text) if texts.is_empty() => {
                    let number = millionths(text);
                    numbers.insert(number.ok_or_else(|| it.refused(*element, NUMBERS))?);
                }
                _ => return Err(it.refused(*element, "only texts, or only numbers")),
            }
            Ok(())
        })?;
    }
    Ok(if numbers.is_empty() { Test::NoneOfStrings(texts) } else { Test::NoneOfNumbers(numbers) })
}

/// An operator under `anything-but`, with one text or a list of them.
fn none_of_texts(it: &mut Reading<'_, '_>, name: &str, operand: At) -> Result<Test, PatternError> {
    let document = it.document;
    let one = |it: &Reading<'_, '_>, at: At| match document.value(at) {
        // Everything begins and ends with an empty text, so nothing could match. What is empty
        // under the two others is a value like another.
        Json::String(text) if text.is_empty() && matches!(name, "prefix" | "suffix") => {
            Err(it.refused(at, "a text that is not empty"))
        }
        Json::String(text) if matches!(name, "prefix" | "suffix") => Ok(end(name, text)),
        Json::String(text) => of_text(it, name, text),
        _ => Err(it.refused(at, "a text, or a list of texts")),
    };
    let Json::Array(elements) = document.value(operand) else {
        return Ok(Test::NoneOf(vec![one(it, operand)?]));
    };
    if elements.is_empty() {
        return Err(it.refused(operand, "a text, or a list of texts"));
    }
    let mut tests = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        tests.push(it.within(&format!("[{index}]"), |it| one(it, *element))?);
    }
    Ok(Test::NoneOf(tests))
}
