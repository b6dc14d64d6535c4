//! The expressions of a view: what can be computed from one item.
//!
//! Separate from the shape of a view because it is what grows. Invariant: each meaning has
//! one form here, so that it has one canonical text: `NOT IN` is NOT over IN, `FILTER` is a
//! CASE inside its aggregate, `::` is CAST. What it gives up: the author's choice of words.

use super::{OfGroup, Path};
use crate::view::scalar::Scalar;
use bigdecimal::num_bigint::Sign;

/// An expression over one item. Types that cannot meet were refused when it was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// An attribute's value, NULL where it is missing.
    Path(Path),
    /// A constant.
    Literal(Scalar),
    /// Two values of one type compared.
    Compare(Comparison, Box<Expression>, Box<Expression>),
    /// Two numbers combined.
    Arithmetic(Operation, Box<Expression>, Box<Expression>),
    /// A number with the other sign.
    Negate(Box<Expression>),
    /// TRUE where all are; at least two, read left to right up to the first FALSE.
    And(Vec<Expression>),
    /// TRUE where one is; at least two, read left to right up to the first TRUE.
    Or(Vec<Expression>),
    /// The opposite; of NULL, NULL.
    Not(Box<Expression>),
    /// Whether there is no value, of any type.
    IsNull(Box<Expression>),
    /// Whether a truth value is this one; of NULL, FALSE.
    Is(Box<Expression>, bool),
    /// Whether two values of one type differ, where NULL is a value like the others.
    IsDistinct(Box<Expression>, Box<Expression>),
    /// Whether a value equals one of others, read left to right up to the first that does.
    In(Box<Expression>, Vec<Expression>),
    /// Whether a value lies between a lowest and a highest one, both included.
    Between(Box<Between>),
    /// Whether a text has a pattern.
    Like(Box<Expression>, Pattern),
    /// The value of the first branch whose condition is TRUE.
    Case(Box<Case>),
    /// Texts one behind the other; at least two.
    Concat(Vec<Expression>),
    /// A value as another type.
    Cast(Box<Expression>, Target),
    /// A function of its arguments.
    Call(Call, Vec<Expression>),
    /// What is inside a list.
    Element(Box<Element>),
    /// A part of a point in time.
    Time(Box<Time>),
    /// In HAVING: what the row of a group says.
    OfGroup(Box<OfGroup>),
}

/// The operands of BETWEEN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Between {
    /// What is tested.
    pub value: Expression,
    /// The lowest value that passes.
    pub low: Expression,
    /// The highest value that passes.
    pub high: Expression,
}

/// The pieces of a CASE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What the conditions are compared with; without it they are predicates.
    pub operand: Option<Expression>,
    /// Condition and value, in the order they are tried; at least one.
    pub branches: Vec<(Expression, Expression)>,
    /// The value where no branch is taken; NULL without it.
    pub otherwise: Option<Expression>,
}

impl Case {
    /// The values it can have, in order.
    pub fn values(&self) -> impl Iterator<Item = &Expression> {
        self.branches.iter().map(|(_, value)| value).chain(&self.otherwise)
    }

    /// What is compared: the operand, if any, and then the conditions.
    pub fn conditions(&self) -> impl Iterator<Item = &Expression> {
        self.operand.iter().chain(self.branches.iter().map(|(condition, _)| condition))
    }
}

/// The pattern of a LIKE: `%` is any text, `_` any character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The pattern as it is written.
    pub text: String,
    /// What takes the meaning of the character behind it.
    pub escape: Option<char>,
}

/// What a value can be cast to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `numeric`: of a text its number, of TRUE 1, of FALSE 0.
    Number,
    /// `text`: of a number its digits.
    Text,
}

/// The functions of one or several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The first value that is not NULL.
    Coalesce,
    /// The first value; NULL where it equals the second.
    Nullif,
    /// A text with the letters A to Z small.
    Lower,
    /// A text with the letters a to z capital.
    Upper,
    /// The characters of a text, counted.
    Length,
    /// Characters of a text from a place, counted from 1; all of them, or so many.
    Substr,
    /// A text without the spaces, or the characters of another text, at both ends.
    Trim,
    /// The same at its beginning.
    Ltrim,
    /// The same at its end.
    Rtrim,
    /// A text with every occurrence of a second one exchanged for a third.
    Replace,
    /// A number without its sign.
    Abs,
    /// A number rounded, half away from zero, to whole or so many digits after the point.
    Round,
    /// The next whole number down.
    Floor,
    /// The next whole number up.
    Ceil,
    /// The elements of a list or set, or the members of a map, counted.
    Cardinality,
    /// Whether a list or set has an element.
    Contains,
}

/// A path that goes through a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The way to the first list.
    pub list: Path,
    /// The way inside it: first an index.
    pub steps: Vec<Step>,
}

/// One step inside a list or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The element at this index of a list, from 0.
    Index(u32),
    /// The member of this name of a map.
    Name(String),
}

/// A part of a point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// Which part.
    pub part: Part,
    /// How the value says the time.
    pub unit: TimeUnit,
    /// The value.
    pub of: Expression,
}

/// What is taken of a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `date_trunc`: the beginning of its hour, day, …, as ISO 8601 text.
    Start {
        /// The hour, day, … it is the beginning of.
        of: Field,
        /// The time zone where it begins.
        offset: Offset,
    },
    /// `extract`: one field of it, in UTC, as a number.
    Field(Field),
}

/// A time zone without rules: minutes east of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset(pub i16);

impl Offset {
    /// That of UTC itself.
    pub const UTC: Self = Self(0);

    /// Reads `+02:00`, `-0330` or `+02`; ISO 8601 has no more than 23:59.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (sign, digits) = match text.split_at_checked(1)? {
            ("+", digits) => (1, digits),
            ("-", digits) => (-1, digits),
            _ => return None,
        };
        let (hours, minutes) = match digits.len() {
            2 => (digits, "0"),
            4 => digits.split_at_checked(2)?,
            5 => digits.split_once(':').filter(|(hours, _)| hours.len() == 2)?,
            _ => return None,
        };
        let number = |digits: &str, below: i16| {
            let all = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<i16>().ok().filter(|number| all && *number < below)
        };
        Some(Self(sign * (number(hours, 24)? * 60 + number(minutes, 60)?)))
    }
}

/// How a value says a point in time. It is never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// ISO 8601 text that says its offset from UTC.
    Iso,
    /// ISO 8601 text that does not say it, and means UTC.
    Utc,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
}

/// The fields of a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The year.
    Year,
    /// The quarter of the year, from 1.
    Quarter,
    /// The month, from 1.
    Month,
    /// The week, which begins on Monday; only its beginning can be asked for.
    Week,
    /// The day of the month, from 1.
    Day,
    /// The hour, from 0.
    Hour,
    /// The minute, from 0.
    Minute,
    /// The second, from 0, with its fraction.
    Second,
    /// The day of the week, Sunday being 0; as all below it can only be extracted.
    Dow,
    /// The day of the week, Monday being 1 and Sunday 7.
    Isodow,
    /// The day of the year, from 1.
    Doy,
    /// The seconds since 1970, with their fraction.
    Epoch,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>` and `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// How two numbers are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `%` of whole numbers, by a literal that is not 0; it has the sign of the first.
    Remainder,
}

impl Expression {
    /// Calls `visit` with every path in it, left to right.
    pub fn visit_paths<'e>(&'e self, visit: &mut impl FnMut(&'e Path)) {
        match self {
            Self::Path(path) => visit(path),
            Self::Element(element) => visit(&element.list),
            other => other.visit_operands(&mut |operand| operand.visit_paths(visit)),
        }
    }

    /// Whether it is, or has inside it, one of the forms that came after the first release:
    /// all but attributes, literals, comparisons, `+ - *`, AND, OR, NOT and IS NULL.
    pub(super) fn is_newer(&self) -> bool {
        let mut newer = !matches!(
            self,
            Self::Path(_)
                | Self::Literal(_)
                | Self::Compare(..)
                | Self::Arithmetic(Operation::Add | Operation::Subtract | Operation::Multiply, ..)
                | Self::Negate(_)
                | Self::And(_)
                | Self::Or(_)
                | Self::Not(_)
                | Self::IsNull(_)
        );
        self.visit_operands(&mut |operand| newer = newer || operand.is_newer());
        newer
    }

    /// Calls `visit` with every operand, left to right.
    fn visit_operands<'e>(&'e self, visit: &mut dyn FnMut(&'e Self)) {
        match self {
            Self::Path(_) | Self::Literal(_) | Self::Element(_) | Self::OfGroup(_) => {}
            Self::Compare(_, left, right)
            | Self::Arithmetic(_, left, right)
            | Self::IsDistinct(left, right) => {
                visit(left);
                visit(right);
            }
            Self::And(parts) | Self::Or(parts) | Self::Concat(parts) | Self::Call(_, parts) => {
                parts.iter().for_each(visit);
            }
            Self::Negate(inner)
            | Self::Not(inner)
            | Self::IsNull(inner)
            | Self::Is(inner, _)
            | Self::Like(inner, _)
            | Self::Cast(inner, _) => visit(inner),
            Self::In(value, list) => {
                visit(value);
                list.iter().for_each(visit);
            }
            Self::Between(between) => {
                [&between.value, &between.low, &between.high].into_iter().for_each(visit);
            }
            Self::Case(case) => {
                case.operand.iter().for_each(&mut *visit);
                for (condition, value) in &case.branches {
                    visit(condition);
                    visit(value);
                }
                case.otherwise.iter().for_each(visit);
            }
            Self::Time(time) => visit(&time.of),
        }
    }

    /// Puts something else in the places that `other` names, and looks no deeper there.
    pub(in crate::view) fn replace(&mut self, other: &mut dyn FnMut(&Self) -> Option<Self>) {
        if let Some(other) = other(self) {
            *self = other;
            return;
        }
        match self {
            Self::Path(_) | Self::Literal(_) | Self::Element(_) | Self::OfGroup(_) => {}
            Self::Compare(_, left, right)
            | Self::Arithmetic(_, left, right)
            | Self::IsDistinct(left, right) => {
                left.replace(other);
                right.replace(other);
            }
            Self::And(parts) | Self::Or(parts) | Self::Concat(parts) | Self::Call(_, parts) => {
                for part in parts {
                    part.replace(other);
                }
            }
            Self::Negate(inner)
            | Self::Not(inner)
            | Self::IsNull(inner)
            | Self::Is(inner, _)
            | Self::Like(inner, _)
            | Self::Cast(inner, _) => inner.replace(other),
            Self::In(value, list) => {
                value.replace(other);
                for one in list {
                    one.replace(other);
                }
            }
            Self::Between(between) => {
                let Between { value, low, high } = &mut **between;
                for operand in [value, low, high] {
                    operand.replace(other);
                }
            }
            Self::Case(case) => {
                if let Some(operand) = &mut case.operand {
                    operand.replace(other);
                }
                for (condition, value) in &mut case.branches {
                    condition.replace(other);
                    value.replace(other);
                }
                if let Some(value) = &mut case.otherwise {
                    value.replace(other);
                }
            }
            Self::Time(time) => time.of.replace(other),
        }
    }

    /// How tightly the outermost operator binds, as in the grammar: an operand that binds
    /// less tightly than its place asks for stands in parentheses.
    pub(in crate::view) fn binding(&self) -> u8 {
        match self {
            Self::Or(_) => 1,
            Self::And(_) => 2,
            Self::Not(_) => 3,
            Self::Compare(..)
            | Self::IsNull(_)
            | Self::Is(..)
            | Self::IsDistinct(..)
            | Self::In(..)
            | Self::Between(_)
            | Self::Like(..) => 4,
            Self::Arithmetic(Operation::Add | Operation::Subtract, ..) => 5,
            Self::Arithmetic(Operation::Multiply | Operation::Remainder, ..) | Self::Concat(_) => 6,
            Self::Negate(_) => 7,
            Self::Literal(Scalar::Number(value)) if value.sign() == Sign::Minus => 7,
            Self::Path(_)
            | Self::Literal(_)
            | Self::Case(_)
            | Self::Cast(..)
            | Self::Call(..)
            | Self::Element(_)
            | Self::Time(_) => 8,
            Self::OfGroup(of_group) => of_group.binding(),
        }
    }
}
