//! Lists, maps and sets inside an item.
//!
//! Separate because no operand holds one: they are looked into where they are.

use super::{Item, Operand, Poison, operand_of, type_name};
use crate::{
    event::Value,
    view::{
        definition::{Element, Expression, Path, Step},
        number,
    },
};
use bigdecimal::BigDecimal;
use std::borrow::Cow;

/// The most elements of a list of an item that a view reads one by one.
pub const ELEMENTS_MAX: usize = 1_000;

impl<'v> Item<'v> {
    /// The elements of a list or a set; none where it is NULL.
    pub(super) fn elements(&self, list: &Path) -> Result<Cow<'v, [Value<'v>]>, Poison> {
        let texts = |values: &'v [Cow<'v, str>], value: fn(Cow<'v, str>) -> Value<'v>| {
            Cow::Owned(values.iter().map(|text| value(Cow::Borrowed(&**text))).collect())
        };
        let elements: Cow<'v, [Value<'v>]> = match self.find(list)? {
            None => Cow::Borrowed(&[]),
            Some(Value::List(values)) => Cow::Borrowed(values),
            Some(Value::TextSet(values)) => texts(values, Value::Text),
            Some(Value::NumberSet(values)) => texts(values, Value::Number),
            Some(other) => {
                return Err(Poison::new(list, "L, SS or NS", type_name(other)));
            }
        };
        if elements.len() > ELEMENTS_MAX {
            let expected = format!("at most {ELEMENTS_MAX} elements");
            return Err(Poison::new(list, expected, format!("{} elements", elements.len())));
        }
        Ok(elements)
    }

    /// The value inside a list; `None` is NULL: missing, beyond the end, or null on the way.
    pub(super) fn find_element(&self, element: &Element) -> Result<Option<&'v Value<'v>>, Poison> {
        let Some(mut value) = self.find(&element.list)? else { return Ok(None) };
        for (taken, step) in element.steps.iter().enumerate() {
            let next = match (step, value) {
                (Step::Index(index), Value::List(values)) => {
                    usize::try_from(*index).ok().and_then(|index| values.get(index))
                }
                (Step::Name(name), Value::Map(members)) => {
                    let mut members = members.iter().rev();
                    members.find(|(found, _)| found == name).map(|(_, value)| value)
                }
                (step, other) => {
                    let steps = element.steps.iter().take(taken).cloned().collect();
                    let reached = Element { list: element.list.clone(), steps };
                    let reached = Expression::Element(Box::new(reached));
                    let expected = if matches!(step, Step::Index(_)) { "L" } else { "M" };
                    return Err(Poison::new(&reached, expected, type_name(other)));
                }
            };
            match next {
                None | Some(Value::Null) => return Ok(None),
                Some(next) => value = next,
            }
        }
        Ok(Some(value))
    }

    /// The value that a path of either kind leads to; NULL for any other expression.
    fn found(&self, place: &Expression) -> Result<Option<&'v Value<'v>>, Poison> {
        match place {
            Expression::Path(path) => self.find(path),
            Expression::Element(element) => self.find_element(element),
            _ => Ok(None),
        }
    }

    pub(super) fn cardinality(&self, list: &Expression) -> Result<Operand<'v>, Poison> {
        let count = match self.found(list)? {
            None => return Ok(Operand::Null),
            Some(Value::List(values)) => values.len(),
            Some(Value::Map(members)) => members.len(),
            Some(Value::TextSet(values) | Value::NumberSet(values)) => values.len(),
            Some(Value::BinarySet(values)) => values.len(),
            Some(other) => return Err(Poison::new(list, "L, M or a set", type_name(other))),
        };
        Ok(Operand::Number(Cow::Owned(BigDecimal::from(count as u64))))
    }

    /// Whether the value is one of the elements, as IN: NULL where it, or the list, is NULL, and
    /// where it is not found but an element is NULL; of an empty list, FALSE. An element of
    /// another type is another value.
    pub(super) fn contains<'s>(
        &'s self,
        list: &'s Expression,
        value: &'s Expression,
    ) -> Result<Operand<'s>, Poison> {
        let wanted = self.operand(value)?;
        let Some(found) = self.found(list)? else { return Ok(Operand::Null) };
        let number = |text: &str| {
            number::read(text).map_err(|fault| Poison::new(list, fault.expected(), fault.found()))
        };
        let mut result = Operand::Bool(false);
        match found {
            Value::List(values) => {
                for value in values {
                    match value {
                        Value::Null => result = Operand::Null,
                        Value::Bool(_) | Value::Text(_) | Value::Number(_)
                            if operand_of(value, list, "")? == wanted =>
                        {
                            result = Operand::Bool(true);
                            break;
                        }
                        _ => {}
                    }
                }
            }
            Value::TextSet(values) => {
                let is = |text: &str| matches!(&wanted, Operand::Text(wanted) if wanted == text);
                result = Operand::Bool(values.iter().any(|text| is(text)));
            }
            Value::NumberSet(values) => {
                for value in values {
                    if matches!(&wanted, Operand::Number(wanted) if **wanted == number(value)?) {
                        result = Operand::Bool(true);
                    }
                }
            }
            Value::BinarySet(_) => {}
            other => return Err(Poison::new(list, "L or a set", type_name(other))),
        }
        // DynamoDB has no empty sets.
        let empty = matches!(found, Value::List(values) if values.is_empty());
        Ok(if wanted == Operand::Null && !empty { wanted } else { result })
    }
}
