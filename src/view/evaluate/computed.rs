//! The expressions that are more than an attribute, a comparison or arithmetic.
//!
//! Separate from the operators every view uses, which pass these by. Invariant: NULL in, NULL
//! out, unless SQL says otherwise of a form; a value of a type that its place cannot use is
//! the item's poison.

use super::{ANY_TYPE, Item, Operand, Poison, operand_of, text, time};
use crate::view::{
    definition::{Between, Call, Case, Expression, Target, Type, common_type},
    number,
};
use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive};
use std::{borrow::Cow, cmp::Ordering};

/// The longest text an expression makes, in bytes: no item could hold a longer one.
///
/// Source: `DynamoDB` developer guide, "Constraints", item size: 400 KB.
const TEXT_BYTES_MAX: usize = 400 * 1024;

impl Item<'_> {
    /// Evaluates one of the forms of this module; `expected` is the type its place needs.
    pub(super) fn computed<'s>(
        &'s self,
        expression: &'s Expression,
        expected: Option<Type>,
    ) -> Result<Operand<'s>, Poison> {
        let truth = |value: Option<bool>| value.map_or(Operand::Null, Operand::Bool);
        Ok(match expression {
            Expression::Is(inner, wanted) => Operand::Bool(self.truth(inner)? == Some(*wanted)),
            Expression::IsDistinct(left, right) => {
                let (left, right) = self.alike(left, right)?;
                Operand::Bool(left != right)
            }
            Expression::In(value, list) => truth(self.is_in(value, list)?),
            Expression::Between(between) => truth(self.is_between(between)?),
            Expression::Like(inner, pattern) => {
                truth(self.text(inner)?.map(|text| text::is_like(&text, pattern)))
            }
            Expression::Case(case) => match self.branch(case)? {
                Some(value) => {
                    self.maybe_typed(value, expected.or_else(|| expression.known_type()))?
                }
                None => Operand::Null,
            },
            Expression::Concat(parts) => self.concat(expression, parts)?,
            Expression::Cast(inner, target) => self.cast(expression, inner, *target)?,
            Expression::Call(call, arguments) => {
                self.call(expression, *call, arguments, expected)?
            }
            Expression::Element(element) => {
                let expected = expected.map_or(ANY_TYPE, Type::name);
                match self.find_element(element)? {
                    Some(value) => operand_of(value, expression, expected)?,
                    None => Operand::Null,
                }
            }
            Expression::Time(time) => {
                let operand = self.operand(&time.of)?;
                let instant = match time::read(time.unit, &operand) {
                    Ok(Some(instant)) => instant,
                    Ok(None) => return Ok(Operand::Null),
                    Err((expected, found)) => {
                        return Err(Poison::new(&time.of, expected, found));
                    }
                };
                time::part(time.part, &instant)
            }
            // Its value is put in its place where a row is read.
            Expression::OfGroup(_) => Operand::Null,
            _ => return self.operand(expression),
        })
    }

    /// Evaluates to a text, or NULL.
    fn text<'s>(&'s self, expression: &'s Expression) -> Result<Option<Cow<'s, str>>, Poison> {
        Ok(match self.typed(expression, Type::Text)? {
            Operand::Text(text) => Some(text),
            _ => None,
        })
    }

    /// Whether the value equals one of the list: what a chain of `=` and OR says.
    fn is_in(&self, value: &Expression, list: &[Expression]) -> Result<Option<bool>, Poison> {
        let known = value.known_type().or_else(|| common_type(list));
        let value = self.maybe_typed(value, known)?;
        let needed = known.or_else(|| value.found());
        let mut result = Some(false);
        for one in list {
            match order(&value, &self.maybe_typed(one, needed)?) {
                Some(Ordering::Equal) => return Ok(Some(true)),
                Some(_) => {}
                None => result = None,
            }
        }
        Ok(result)
    }

    /// Whether the value lies between: what two comparisons and AND say.
    fn is_between(&self, between: &Between) -> Result<Option<bool>, Poison> {
        let Between { value, low, high } = between;
        let known = common_type([value, low, high]);
        let value = self.maybe_typed(value, known)?;
        let low = self.maybe_typed(low, known.or_else(|| value.found()))?;
        let above = order(&value, &low).map(|order| order != Ordering::Less);
        if above == Some(false) {
            return Ok(above);
        }
        let needed = known.or_else(|| value.found()).or_else(|| low.found());
        let high = self.maybe_typed(high, needed)?;
        let below = order(&value, &high).map(|order| order != Ordering::Greater);
        Ok(if below == Some(false) { below } else { above.and(below) })
    }

    /// The value of the branch that is taken, if there is one.
    pub(super) fn branch<'s>(&self, case: &'s Case) -> Result<Option<&'s Expression>, Poison> {
        let Some(operand) = &case.operand else {
            for (condition, value) in &case.branches {
                if self.truth(condition)? == Some(true) {
                    return Ok(Some(value));
                }
            }
            return Ok(case.otherwise.as_ref());
        };
        let known = common_type(case.conditions());
        let operand = self.maybe_typed(operand, known)?;
        let needed = known.or_else(|| operand.found());
        for (condition, value) in &case.branches {
            let condition = self.maybe_typed(condition, needed)?;
            if order(&operand, &condition) == Some(Ordering::Equal) {
                return Ok(Some(value));
            }
        }
        Ok(case.otherwise.as_ref())
    }

    fn concat<'s>(
        &'s self,
        whole: &Expression,
        parts: &'s [Expression],
    ) -> Result<Operand<'s>, Poison> {
        let parts = parts.iter().map(|part| self.text(part)).collect::<Result<Vec<_>, _>>()?;
        let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(Operand::Null);
        };
        check_length(whole, parts.iter().map(|part| part.len()).sum())?;
        Ok(Operand::Text(Cow::Owned(parts.concat())))
    }

    fn cast<'s>(
        &'s self,
        whole: &Expression,
        inner: &'s Expression,
        target: Target,
    ) -> Result<Operand<'s>, Poison> {
        Ok(match (target, self.operand(inner)?) {
            (_, Operand::Null) => Operand::Null,
            (Target::Number, number @ Operand::Number(_))
            | (Target::Text, number @ Operand::Text(_)) => number,
            (Target::Number, Operand::Bool(value)) => {
                Operand::Number(Cow::Owned(BigDecimal::from(u8::from(value))))
            }
            (Target::Number, Operand::Text(text)) => {
                let read = number::read(text.trim_matches(|one: char| one.is_ascii_whitespace()));
                let fault = |fault: number::NumberFault| {
                    Poison::new(whole, fault.expected(), fault.found())
                };
                Operand::Number(Cow::Owned(read.map_err(fault)?))
            }
            (Target::Text, Operand::Number(value)) => {
                Operand::Text(Cow::Owned(number::plain(&value)))
            }
            (Target::Text, Operand::Bool(_)) => {
                return Err(Poison::new(inner, "N or S", Type::Bool.name()));
            }
        })
    }

    fn call<'s>(
        &'s self,
        whole: &'s Expression,
        call: Call,
        arguments: &'s [Expression],
        expected: Option<Type>,
    ) -> Result<Operand<'s>, Poison> {
        match (call, arguments) {
            (Call::Coalesce, values) => {
                let known = expected.or_else(|| whole.known_type());
                for value in values {
                    match self.maybe_typed(value, known)? {
                        Operand::Null => {}
                        found => return Ok(found),
                    }
                }
                Ok(Operand::Null)
            }
            (Call::Nullif, [value, other]) => {
                let (value, other) = self.alike(value, other)?;
                Ok(if order(&value, &other) == Some(Ordering::Equal) {
                    Operand::Null
                } else {
                    value
                })
            }
            (Call::Cardinality, [list]) => self.cardinality(list),
            (Call::Contains, [list, value]) => self.contains(list, value),
            (Call::Abs | Call::Round | Call::Floor | Call::Ceil, [value, digits @ ..]) => {
                let Some(value) = self.number(value)? else { return Ok(Operand::Null) };
                let digits = match digits {
                    [digits] => self.number(digits)?.and_then(|digits| digits.to_u32()),
                    _ => None,
                };
                let value = match call {
                    Call::Abs => value.abs(),
                    Call::Floor => number::rounded(&value, 0, RoundingMode::Floor),
                    Call::Ceil => number::rounded(&value, 0, RoundingMode::Ceiling),
                    _ => number::rounded(&value, digits.unwrap_or(0), RoundingMode::HalfUp),
                };
                let value = number::limit(&value)
                    .map_err(|fault| Poison::new(whole, fault.expected(), fault.found()))?;
                Ok(Operand::Number(Cow::Owned(value)))
            }
            (_, [text, rest @ ..]) => self.text_call(whole, call, text, rest),
            (_, []) => Ok(Operand::Null),
        }
    }

    fn text_call<'s>(
        &'s self,
        whole: &Expression,
        call: Call,
        text: &'s Expression,
        rest: &'s [Expression],
    ) -> Result<Operand<'s>, Poison> {
        let text = self.text(text)?;
        if call == Call::Substr {
            let count = |at: usize| match rest.get(at) {
                Some(count) => Ok(self.number(count)?.and_then(|count| count.to_usize())),
                None => Ok(None),
            };
            let (start, length) = (count(0)?, count(1)?);
            let Some(text) = text else { return Ok(Operand::Null) };
            let found = text::part(&text, start.unwrap_or(1), length);
            return Ok(Operand::Text(match text {
                Cow::Borrowed(text) => Cow::Borrowed(&text[found]),
                Cow::Owned(text) => Cow::Owned(text[found].to_owned()),
            }));
        }
        let rest = rest.iter().map(|one| self.text(one)).collect::<Result<Vec<_>, _>>()?;
        let rest = rest.into_iter().collect::<Option<Vec<_>>>();
        let (Some(text), Some(rest)) = (text, rest) else { return Ok(Operand::Null) };
        Ok(match (call, rest.as_slice()) {
            (Call::Length, _) => {
                Operand::Number(Cow::Owned(BigDecimal::from(text.chars().count() as u64)))
            }
            (Call::Lower, _) => Operand::Text(Cow::Owned(text.to_ascii_lowercase())),
            (Call::Upper, _) => Operand::Text(Cow::Owned(text.to_ascii_uppercase())),
            (Call::Replace, [from, to]) => {
                check_length(whole, text::replaced_length(&text, from, to))?;
                // Not `str::replace`, which finds the empty text between all characters.
                let same = from.is_empty();
                Operand::Text(if same { text } else { text.replace(&**from, to).into() })
            }
            _ => Operand::Text(text::trimmed(text, call, rest.first().map(|rest| &**rest))),
        })
    }
}

/// How two values of one type compare; `None` where one is NULL.
pub(super) fn order(left: &Operand<'_>, right: &Operand<'_>) -> Option<Ordering> {
    (*left != Operand::Null && *right != Operand::Null).then(|| left.cmp(right))
}

fn check_length(whole: &Expression, bytes: usize) -> Result<(), Poison> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let expected = format!("a text of at most {TEXT_BYTES_MAX} bytes");
    Err(Poison::new(whole, expected, format!("{bytes} bytes")))
}
