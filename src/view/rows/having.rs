//! Whether HAVING shows a group.
//!
//! Separate because it is told of a row that was read, and not of an item. Its condition is
//! evaluated as one of items is, with what the row says in the places of what it asks.

use crate::view::{
    definition::{Expression, Groups},
    evaluate::{Poison, is_true},
    scalar::Scalar,
    total::{Total, value_of},
};

/// Whether HAVING is TRUE of a group with this key and these totals.
///
/// # Errors
/// It asks for another type than a value has. What is named can be a value of the row.
pub(crate) fn holds(groups: &Groups, key: &[Scalar], totals: &[Total]) -> Result<bool, Poison> {
    let Some(having) = &groups.having else { return Ok(true) };
    let mut having = having.clone();
    having.replace(&mut |part| match part {
        Expression::OfGroup(it) => {
            Some(Expression::Literal(value_of(groups, it.output, (key, totals))))
        }
        _ => None,
    });
    is_true(&having)
}
