//! What one item contributes to a view: a pure function of the definition and the item.
//!
//! Separate because everything exact rests on it being pure: the ledger evaluates an item
//! again and again, and the difference must depend on the item alone. Invariants: SQL's
//! three-valued logic; a missing attribute is NULL; no coercion between types, a value of the
//! wrong one is the item's [`Poison`]. What it gives up: an item with one such value
//! contributes nothing to that view.
//!
//! The order of evaluation is fixed: WHERE first, and only where it is TRUE the columns, keys
//! and arguments, in the order of the text. AND stops at its first FALSE, OR at its first
//! TRUE, from left to right (as `SQLite` does): `kind = 'sale' AND amount > 10` never looks at
//! the amount of another kind. CASE, coalesce, IN and BETWEEN stop where the AND, OR and
//! conditions they stand for would. Every other operator looks at all operands before it
//! decides.

mod collection;
mod computed;
mod text;
mod time;

use crate::{
    event::Value,
    view::{
        definition::{
            Aggregate, Call, Comparison, DecimalBound, Expression, Function, Groups, Join,
            Operation, Path, Shape, TimeUnit, Type, View,
        },
        number,
        scalar::{Scalar, encode_key},
        total::Addend,
    },
};
use bigdecimal::BigDecimal;
pub use collection::ELEMENTS_MAX;
use std::{borrow::Cow, cmp::Ordering};

/// The longest row key, in bytes, that `DynamoDB` takes as a partition key.
///
/// Source: `DynamoDB` developer guide, "Constraints", partition key: 1 to 2,048 bytes.
pub const KEY_BYTES_MAX: usize = 2048;
/// What the stripe takes of it, where groups are kept in several rows: `S2:07`.
const STRIPE_BYTES: usize = 5;

/// The longest text that is kept as a value, in bytes, without its letter ([`encode_value`]).
///
/// Source: `DynamoDB` developer guide, "Constraints", sort key: 1 to 1,024 bytes.
///
/// [`encode_value`]: crate::view::scalar::encode_value
pub const VALUE_BYTES_MAX: usize = 1023;

/// The types a value can have where its place has none, for a report.
const ANY_TYPE: &str = "N, S or BOOL";

/// What one item means to a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contribution {
    /// WHERE is not TRUE for it.
    Nothing,
    /// Its row in a projection, in SELECT order.
    Row(Vec<Scalar>),
    /// What it adds to groups: one addition, or one for each element of its list, and never none.
    Groups(Vec<Addition>),
}

/// What an item, or an element of its list, adds to a group; and 1 to the group's hidden count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// The GROUP BY values; empty without GROUP BY.
    pub key: Vec<Scalar>,
    /// One addend per aggregate of the definition, in its order.
    pub addends: Vec<Addend>,
}

/// Why a view cannot take an item. Holds names and types, never values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("attribute `{attribute}`: expected {expected}, found {found}")]
pub struct Poison {
    /// The path of the attribute, or the computed expression, as SQL.
    pub attribute: String,
    /// The type or limit the view needs: `N`, `S`, `BOOL`, `M`, `decimal(28,9)`, …
    pub expected: String,
    /// The type or kind of excess that was there.
    pub found: String,
}

impl Poison {
    fn new(
        attribute: &(impl ToString + ?Sized),
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { attribute: attribute.to_string(), expected: expected.into(), found: found.into() }
    }
}

/// Computes what `item` contributes to `view`; of a view that joins, as if the item that it names
/// were not there.
///
/// # Errors
/// A value has a type or a size the view cannot use; the first one met, in evaluation order.
pub fn evaluate(view: &View, item: &Value<'_>) -> Result<Contribution, Poison> {
    evaluate_joined(view, item, None)
}

/// Computes what `item` contributes to `view` together with the item that it names, if that is
/// there.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_joined(
    view: &View,
    item: &Value<'_>,
    joined: Option<&Value<'_>>,
) -> Result<Contribution, Poison> {
    let item = Item::new(item)?;
    if let Some(join) = &view.join {
        if joined.is_none() && join.is_inner {
            return Ok(Contribution::Nothing);
        }
        let joined = joined.unwrap_or(&Value::Null);
        return Item { element: Some((&join.alias, joined)), ..item }.contribution(view);
    }
    let Some(unnest) = &view.unnest else { return item.contribution(view) };
    // An item that is no row whatever its elements are may have anything in place of its list.
    for condition in conditions_on_item(view) {
        if item.truth(condition)? != Some(true) {
            return Ok(Contribution::Nothing);
        }
    }
    let mut additions = Vec::new();
    for element in &*item.elements(&unnest.list)? {
        let row = Item { element: Some((&unnest.element, element)), ..item };
        if let Contribution::Groups(more) = row.contribution(view)? {
            additions.extend(more);
        }
    }
    if additions.is_empty() {
        return Ok(Contribution::Nothing);
    }
    Ok(Contribution::Groups(additions))
}

/// The key of the item that `item` names, of a view that joins; none where it is NULL.
///
/// # Errors
/// A value on the way to it has a type that the view cannot use, or it is none of a key.
pub fn reference(join: &Join, item: &Value<'_>) -> Result<Option<Scalar>, Poison> {
    match Item::new(item)?.scalar(&join.reference)? {
        Scalar::Null => Ok(None),
        Scalar::Bool(_) => Err(Poison::new(&join.reference, "N or S", "BOOL")),
        key => Ok(Some(key)),
    }
}

/// The conditions at the beginning of WHERE that ask nothing of an element.
fn conditions_on_item(view: &View) -> impl Iterator<Item = &Expression> {
    let conditions = match &view.filter {
        None => &[],
        Some(Expression::And(parts)) => parts.as_slice(),
        Some(other) => std::slice::from_ref(other),
    };
    conditions.iter().take_while(|condition| {
        let mut is_on_item = true;
        condition.visit_paths(&mut |path| is_on_item &= !view.is_of_element(path));
        is_on_item
    })
}

/// The value at a path, as [`evaluate`] sees it: NULL where it is missing.
///
/// # Errors
/// The value is of a type no view can hold, or the path goes through one that has no members.
pub fn path_value(path: &Path, item: &Value<'_>) -> Result<Scalar, Poison> {
    Item::new(item)?.scalar(&Expression::Path(path.clone()))
}

/// Whether an expression that names no attribute is TRUE.
///
/// # Errors
/// As [`evaluate`].
pub(crate) fn is_true(constant: &Expression) -> Result<bool, Poison> {
    Ok(Item { members: &[], element: None }.truth(constant)? == Some(true))
}

/// The seconds since 1970 of a time as `date_trunc` gives it.
pub(crate) fn seconds_of(text: &str) -> Option<i64> {
    let instant = time::read(TimeUnit::Iso, &Operand::Text(Cow::Borrowed(text)));
    instant.ok().flatten().map(time::Instant::seconds)
}

/// A value on its way through an expression; what an item or a literal holds stays borrowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Operand<'v> {
    Null,
    Bool(bool),
    Number(Cow<'v, BigDecimal>),
    Text(Cow<'v, str>),
}

impl Operand<'_> {
    fn found(&self) -> Option<Type> {
        match self {
            Self::Null => None,
            Self::Bool(_) => Some(Type::Bool),
            Self::Number(_) => Some(Type::Number),
            Self::Text(_) => Some(Type::Text),
        }
    }

    fn into_scalar(self) -> Scalar {
        match self {
            Self::Null => Scalar::Null,
            Self::Bool(value) => Scalar::Bool(value),
            Self::Number(value) => Scalar::Number(value.normalized()),
            Self::Text(text) => Scalar::Text(text.into_owned()),
        }
    }
}

/// `DynamoDB`'s name for a value's type.
const fn type_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Bool(_) => "BOOL",
        Value::Number(_) => "N",
        Value::Text(_) => "S",
        Value::Binary(_) => "B",
        Value::List(_) => "L",
        Value::Map(_) => "M",
        Value::TextSet(_) => "SS",
        Value::NumberSet(_) => "NS",
        Value::BinarySet(_) => "BS",
    }
}

/// A value as an operand; `place` is where it was found, for the report.
fn operand_of<'v>(
    value: &'v Value<'v>,
    place: &impl ToString,
    expected: &str,
) -> Result<Operand<'v>, Poison> {
    match value {
        Value::Null => Ok(Operand::Null),
        Value::Bool(value) => Ok(Operand::Bool(*value)),
        Value::Text(text) => Ok(Operand::Text(Cow::Borrowed(text))),
        Value::Number(text) => number::read(text)
            .map(|value| Operand::Number(Cow::Owned(value)))
            .map_err(|fault| Poison::new(place, fault.expected(), fault.found())),
        other => Err(Poison::new(place, expected, type_name(other))),
    }
}

/// One item under evaluation, and what is read with it: an element of its list or the item that it
/// names, with the name of that.
#[derive(Clone, Copy)]
struct Item<'v> {
    members: &'v [(Cow<'v, str>, Value<'v>)],
    element: Option<(&'v str, &'v Value<'v>)>,
}

impl<'v> Item<'v> {
    fn new(item: &'v Value<'v>) -> Result<Self, Poison> {
        match item {
            Value::Map(members) => Ok(Self { members, element: None }),
            other => Err(Poison::new("(item)", "M", type_name(other))),
        }
    }

    /// What the row adds or shows, where WHERE is TRUE for it.
    fn contribution(&self, view: &View) -> Result<Contribution, Poison> {
        if let Some(filter) = &view.filter
            && self.truth(filter)? != Some(true)
        {
            return Ok(Contribution::Nothing);
        }
        match &view.shape {
            Shape::Rows(columns) => {
                let row = columns.iter().map(|column| self.scalar(&column.expression));
                Ok(Contribution::Row(row.collect::<Result<_, _>>()?))
            }
            Shape::Groups(groups) => {
                let key = self.group_key(groups)?;
                let addends = groups.aggregates.iter().map(|one| self.addend(one, view.decimal));
                let mut addends = addends.collect::<Result<Vec<_>, _>>()?;
                for (at, addend) in addends.iter_mut().enumerate() {
                    // Those of one argument share its value, and the first of them has it.
                    addend.value.take_if(|_| groups.values_of(at) != Some(at));
                }
                Ok(Contribution::Groups(vec![Addition { key, addends }]))
            }
        }
    }

    /// The value at a path; `None` is NULL: missing, or null anywhere on the way.
    fn find(&self, path: &Path) -> Result<Option<&'v Value<'v>>, Poison> {
        let mut members = self.members;
        let mut parts = path.parts().iter().enumerate().peekable();
        while let Some((index, part)) = parts.next() {
            let element = self.element.filter(|(name, _)| index == 0 && name == part);
            // The last of equal names wins, as in `event::Value`.
            let of_item = || members.iter().rev().find(|(name, _)| name == part);
            let value = element.map(|(_, value)| value);
            let value = match value.or_else(|| of_item().map(|(_, value)| value)) {
                None | Some(Value::Null) => return Ok(None),
                Some(value) => value,
            };
            if parts.peek().is_none() {
                return Ok(Some(value));
            }
            match value {
                Value::Map(inner) => members = inner,
                other => {
                    let mut way = path.parts().iter().take(index + 1).cloned();
                    let reached = Path::new(way.next().unwrap_or_default(), way);
                    return Err(Poison::new(&reached, "M", type_name(other)));
                }
            }
        }
        Ok(None)
    }

    /// An attribute as an operand; `expected` says what its place needs, for the report.
    fn attribute(&self, path: &Path, expected: &str) -> Result<Operand<'v>, Poison> {
        self.find(path)?.map_or(Ok(Operand::Null), |value| operand_of(value, path, expected))
    }

    /// Evaluates to a value of any type SQL knows.
    fn operand<'s>(&'s self, expression: &'s Expression) -> Result<Operand<'s>, Poison> {
        match expression {
            Expression::Path(path) => self.attribute(path, ANY_TYPE),
            Expression::Literal(literal) => Ok(match literal {
                Scalar::Null => Operand::Null,
                Scalar::Bool(value) => Operand::Bool(*value),
                Scalar::Number(value) => Operand::Number(Cow::Borrowed(value)),
                Scalar::Text(text) => Operand::Text(Cow::Borrowed(text)),
            }),
            Expression::Arithmetic(..) | Expression::Negate(_) => Ok(self
                .number(expression)?
                .map_or(Operand::Null, |value| Operand::Number(Cow::Owned(value)))),
            Expression::Compare(..)
            | Expression::And(_)
            | Expression::Or(_)
            | Expression::Not(_)
            | Expression::IsNull(_) => {
                Ok(self.truth(expression)?.map_or(Operand::Null, Operand::Bool))
            }
            other => self.computed(other, None),
        }
    }

    fn scalar(&self, expression: &Expression) -> Result<Scalar, Poison> {
        self.operand(expression).map(Operand::into_scalar)
    }

    /// Evaluates to a value of this type, or NULL.
    fn typed<'s>(
        &'s self,
        expression: &'s Expression,
        expected: Type,
    ) -> Result<Operand<'s>, Poison> {
        let operand = match expression {
            Expression::Path(path) => self.attribute(path, expected.name())?,
            Expression::Case(_) | Expression::Call(..) | Expression::Element(_) => {
                self.computed(expression, Some(expected))?
            }
            other => self.operand(other)?,
        };
        match operand.found() {
            Some(found) if found != expected => {
                Err(Poison::new(expression, expected.name(), found.name()))
            }
            _ => Ok(operand),
        }
    }

    /// Evaluates a predicate in three-valued logic; `None` is unknown.
    fn truth(&self, expression: &Expression) -> Result<Option<bool>, Poison> {
        match expression {
            Expression::And(parts) => self.first(parts, false),
            Expression::Or(parts) => self.first(parts, true),
            Expression::Not(inner) => Ok(self.truth(inner)?.map(|value| !value)),
            Expression::IsNull(inner) => Ok(Some(!self.is_present(inner)?)),
            Expression::Compare(comparison, left, right) => self.compare(*comparison, left, right),
            other => match self.typed(other, Type::Bool)? {
                Operand::Bool(value) => Ok(Some(value)),
                _ => Ok(None),
            },
        }
    }

    /// AND and OR: the first part that is `decisive` decides; else unknown if any part is.
    fn first(&self, parts: &[Expression], decisive: bool) -> Result<Option<bool>, Poison> {
        let mut result = Some(!decisive);
        for part in parts {
            match self.truth(part)? {
                Some(value) if value == decisive => return Ok(Some(decisive)),
                Some(_) => {}
                None => result = None,
            }
        }
        Ok(result)
    }

    fn compare(
        &self,
        comparison: Comparison,
        left: &Expression,
        right: &Expression,
    ) -> Result<Option<bool>, Poison> {
        let (left, right) = self.alike(left, right)?;
        if left == Operand::Null || right == Operand::Null {
            return Ok(None);
        }
        // Both have one type here, so the derived order compares their values: numbers by
        // value, text by bytes, FALSE before TRUE.
        let order = left.cmp(&right);
        Ok(Some(match comparison {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::NotEqual => order != Ordering::Equal,
            Comparison::Less => order == Ordering::Less,
            Comparison::LessOrEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterOrEqual => order != Ordering::Less,
        }))
    }

    /// Two operands that must have one type.
    fn alike<'s>(
        &'s self,
        left: &'s Expression,
        right: &'s Expression,
    ) -> Result<(Operand<'s>, Operand<'s>), Poison> {
        let known = left.known_type().or_else(|| right.known_type());
        let left = self.maybe_typed(left, known)?;
        let right = self.maybe_typed(right, known.or_else(|| left.found()))?;
        Ok((left, right))
    }

    /// Evaluates to a value of this type, where its place has one.
    fn maybe_typed<'s>(
        &'s self,
        expression: &'s Expression,
        expected: Option<Type>,
    ) -> Result<Operand<'s>, Poison> {
        expected
            .map_or_else(|| self.operand(expression), |expected| self.typed(expression, expected))
    }

    /// Whether there is a value, of any type, also one no operator could use.
    fn is_present(&self, expression: &Expression) -> Result<bool, Poison> {
        match expression {
            Expression::Path(path) => Ok(self.find(path)?.is_some()),
            Expression::Element(element) => Ok(self.find_element(element)?.is_some()),
            Expression::Case(case) => match self.branch(case)? {
                Some(value) => self.is_present(value),
                None => Ok(false),
            },
            Expression::Call(Call::Coalesce, values) => {
                for value in values {
                    if self.is_present(value)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            other => Ok(self.operand(other)? != Operand::Null),
        }
    }

    /// Evaluates to a number; every result on the way keeps the limits of [`number`].
    fn number(&self, expression: &Expression) -> Result<Option<BigDecimal>, Poison> {
        let result = match expression {
            Expression::Arithmetic(operation, left, right) => {
                match (self.number(left)?, self.number(right)?) {
                    (Some(left), Some(right)) => match operation {
                        Operation::Add => left + right,
                        Operation::Subtract => left - right,
                        Operation::Multiply => left * right,
                        Operation::Remainder => {
                            number::remainder(&left, &right).ok_or_else(|| {
                                Poison::new(expression, "whole numbers", "a fraction")
                            })?
                        }
                    },
                    _ => return Ok(None),
                }
            }
            Expression::Negate(inner) => match self.number(inner)? {
                Some(value) => -value,
                None => return Ok(None),
            },
            other => {
                return Ok(match self.typed(other, Type::Number)? {
                    Operand::Number(value) => Some(value.into_owned()),
                    _ => None,
                });
            }
        };
        number::limit(&result)
            .map(Some)
            .map_err(|fault| Poison::new(expression, fault.expected(), fault.found()))
    }

    fn group_key(&self, groups: &Groups) -> Result<Vec<Scalar>, Poison> {
        let key = groups.keys.iter().map(|one| self.scalar(one)).collect::<Result<Vec<_>, _>>()?;
        let bytes = encode_key(&key).len();
        // The stripe comes behind it.
        let beside = if groups.stripes.is_some() { STRIPE_BYTES } else { 0 };
        if bytes + beside > KEY_BYTES_MAX {
            let names: Vec<String> = groups.keys.iter().map(ToString::to_string).collect();
            let most = KEY_BYTES_MAX - beside;
            let expected = format!("a group key of at most {most} bytes");
            return Err(Poison::new(&names.join(", "), expected, format!("{bytes} bytes")));
        }
        Ok(key)
    }

    fn addend(&self, aggregate: &Aggregate, bound: DecimalBound) -> Result<Addend, Poison> {
        let Some(argument) = &aggregate.argument else {
            return Ok(Addend { count: 1, ..Addend::default() });
        };
        let bounded = || {
            let Some(value) = self.number(argument)? else { return Ok(None) };
            check_bound(&value, bound)
                .map_err(|found| Poison::new(argument, bound.to_string(), found))?;
            Ok(Some(value.normalized()))
        };
        Ok(match aggregate.function {
            Function::Count => {
                Addend { count: u64::from(self.is_present(argument)?), ..Addend::default() }
            }
            Function::Sum | Function::Avg => bounded()?.map_or_else(Addend::default, |value| {
                Addend { count: 1, sum: Some(value), ..Addend::default() }
            }),
            Function::BoolAnd | Function::BoolOr => match self.truth(argument)? {
                None => Addend::default(),
                Some(truth) => {
                    let sum = Some(BigDecimal::from(u8::from(truth)));
                    Addend { count: 1, sum, ..Addend::default() }
                }
            },
            Function::SumDistinct => {
                Addend { value: bounded()?.map(Scalar::Number), ..Addend::default() }
            }
            Function::Min | Function::Max | Function::CountDistinct => {
                Addend { value: self.kept(aggregate.function, argument)?, ..Addend::default() }
            }
        })
    }

    /// The value of a function that keeps values; none for NULL.
    fn kept(&self, function: Function, argument: &Expression) -> Result<Option<Scalar>, Poison> {
        let value = self.scalar(argument)?;
        match &value {
            Scalar::Null => return Ok(None),
            // `SQLite` has numbers for them, and others no order.
            Scalar::Bool(_) if function != Function::CountDistinct => {
                return Err(Poison::new(argument, "N or S", Type::Bool.name()));
            }
            Scalar::Text(text) if text.len() > VALUE_BYTES_MAX => {
                let expected = format!("a text of at most {VALUE_BYTES_MAX} bytes");
                return Err(Poison::new(argument, expected, format!("{} bytes", text.len())));
            }
            _ => {}
        }
        Ok(Some(value))
    }
}

/// Says how a value that is to be summed goes beyond the declared decimal.
fn check_bound(value: &BigDecimal, bound: DecimalBound) -> Result<(), String> {
    let (whole, fraction) = number::digits_around_point(value);
    let whole_max = bound.precision.saturating_sub(bound.scale);
    if whole > u64::from(whole_max) {
        return Err(format!("{whole} digits before the point"));
    }
    if fraction > u64::from(bound.scale) {
        return Err(format!("{fraction} digits after the point"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
