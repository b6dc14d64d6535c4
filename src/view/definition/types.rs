//! Which type an expression has before there is an item.
//!
//! Separate because both ends need the same answer: the parser refuses types that cannot
//! meet, and evaluation asks an item's value for the type that its place is known to have.

use super::expression::{Call, Expression, Part, Target};
use crate::view::scalar::Scalar;

/// The types SQL's operators work on here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// TRUE or FALSE.
    Bool,
    /// A number.
    Number,
    /// A text.
    Text,
}

impl Type {
    /// `DynamoDB`'s name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Number => "N",
            Self::Text => "S",
        }
    }
}

impl Expression {
    /// The type known without an item: `None` for paths and NULL, and for what only hands on
    /// such values.
    #[must_use]
    pub fn known_type(&self) -> Option<Type> {
        match self {
            Self::Path(_) | Self::Element(_) | Self::Literal(Scalar::Null) => None,
            Self::Literal(Scalar::Number(_))
            | Self::Arithmetic(..)
            | Self::Negate(_)
            | Self::Cast(_, Target::Number) => Some(Type::Number),
            Self::Literal(Scalar::Text(_)) | Self::Concat(_) | Self::Cast(_, Target::Text) => {
                Some(Type::Text)
            }
            Self::Literal(Scalar::Bool(_))
            | Self::Compare(..)
            | Self::And(_)
            | Self::Or(_)
            | Self::Not(_)
            | Self::IsNull(_)
            | Self::Is(..)
            | Self::IsDistinct(..)
            | Self::In(..)
            | Self::Between(_)
            | Self::Like(..) => Some(Type::Bool),
            Self::Case(case) => common_type(case.values()),
            Self::Call(call, arguments) => match call {
                Call::Coalesce | Call::Nullif => common_type(arguments),
                _ => call.result(),
            },
            Self::Time(time) => Some(match time.part {
                Part::Start { .. } => Type::Text,
                Part::Field(_) => Type::Number,
            }),
            Self::OfGroup(of_group) => of_group.known_type(),
        }
    }
}

/// The type of values that must have one: that of the first that has any.
pub(in crate::view) fn common_type<'e>(
    values: impl IntoIterator<Item = &'e Expression>,
) -> Option<Type> {
    values.into_iter().find_map(Expression::known_type)
}

impl Call {
    /// The type of its result; `None` where it is that of its arguments.
    const fn result(self) -> Option<Type> {
        match self {
            Self::Coalesce | Self::Nullif => None,
            Self::Lower
            | Self::Upper
            | Self::Substr
            | Self::Trim
            | Self::Ltrim
            | Self::Rtrim
            | Self::Replace => Some(Type::Text),
            Self::Length
            | Self::Abs
            | Self::Round
            | Self::Floor
            | Self::Ceil
            | Self::Cardinality => Some(Type::Number),
            Self::Contains => Some(Type::Bool),
        }
    }
}
