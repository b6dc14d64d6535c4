//! From what items contribute to what a row shows.
//!
//! Separate from evaluation because the two ends of the ledger meet here: items put addends
//! in, reading a row takes a value out. Invariant: a total is the sum of its addends, exactly,
//! so taking one off again leaves no trace. Aggregates that cannot be taken back by subtraction
//! (min, max, distinct) are computed from the values of a group, which are counted one by one
//! (`values`); here they are taken from a row, or from all items at once.

use crate::view::{
    definition::{Function, GroupColumn, Groups, Output, Shape, View},
    number,
    scalar::Scalar,
};
use bigdecimal::BigDecimal;
use std::collections::BTreeSet;

/// What one item adds to one aggregate of its group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Addend {
    /// 1 for `count(*)` and for an argument that is not NULL, else 0.
    pub count: u64,
    /// The exact argument of sum and avg, 1 for a TRUE one of `bool_and` and `bool_or` and 0 for
    /// a FALSE one; `None` where it is NULL, and for count.
    pub sum: Option<BigDecimal>,
    /// The argument of min, max and distinct aggregates, whose count and sum are nothing; `None`
    /// where it is NULL, and where an aggregate before has it ([`Groups::values_of`]).
    ///
    /// [`Groups::values_of`]: crate::view::definition::Groups::values_of
    pub value: Option<Scalar>,
}

/// One aggregate over all items of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Total {
    /// The aggregate's own number of values that are not NULL; of a distinct one, of those that
    /// are different.
    pub count: u64,
    /// Their exact sum; 0 for count.
    pub sum: BigDecimal,
    /// The smallest or the largest value, for min and max.
    pub extreme: Option<Scalar>,
}

/// The totals of a group's aggregates over all its items, in the order of the definition.
#[must_use]
pub fn totals<'a>(groups: &Groups, items: impl IntoIterator<Item = &'a [Addend]>) -> Vec<Total> {
    let mut totals = vec![Total::default(); groups.aggregates.len()];
    let mut values: Vec<BTreeSet<&Scalar>> = vec![BTreeSet::new(); totals.len()];
    for addends in items {
        for ((total, values), addend) in totals.iter_mut().zip(&mut values).zip(addends) {
            total.count += addend.count;
            if let Some(value) = &addend.sum {
                total.sum += value;
            }
            values.extend(&addend.value);
        }
    }
    for (at, total) in totals.iter_mut().enumerate() {
        let Some(values) = groups.values_of(at).and_then(|keeper| values.get(keeper)) else {
            continue;
        };
        match groups.aggregates[at].function {
            Function::Min => total.extreme = values.first().map(|value| (*value).clone()),
            Function::Max => total.extreme = values.last().map(|value| (*value).clone()),
            Function::CountDistinct | Function::SumDistinct => {
                for value in values {
                    total.count += 1;
                    total.sum += summand(value);
                }
            }
            _ => {}
        }
    }
    totals
}

/// What a value adds to a distinct sum.
pub(crate) fn summand(value: &Scalar) -> BigDecimal {
    match value {
        Scalar::Number(value) => value.clone(),
        _ => BigDecimal::default(),
    }
}

/// The output row, in SELECT order, of a group with this key and these totals.
///
/// All but count are NULL over no value; avg is `sum / count`, half-even to 20 significant
/// digits. A key or total that is not there (state of another definition) shows as NULL. A
/// projection's row is its own values, so `key` comes back as it is.
#[must_use]
pub fn finish(view: &View, key: &[Scalar], totals: &[Total]) -> Vec<Scalar> {
    let Shape::Groups(groups) = &view.shape else {
        return key.to_vec();
    };
    let value = |column: &GroupColumn| value_of(groups, column.output, (key, totals));
    groups.columns.iter().map(value).collect()
}

/// What a row shows in one place.
pub(crate) fn value_of(
    groups: &Groups,
    output: Output,
    (key, totals): (&[Scalar], &[Total]),
) -> Scalar {
    match output {
        Output::Key(index) => key.get(index).cloned().unwrap_or(Scalar::Null),
        Output::Aggregate(index) => match (groups.aggregates.get(index), totals.get(index)) {
            (Some(aggregate), Some(total)) => total_value(aggregate.function, total),
            _ => Scalar::Null,
        },
    }
}

fn total_value(function: Function, total: &Total) -> Scalar {
    match function {
        Function::Count | Function::CountDistinct => Scalar::Number(BigDecimal::from(total.count)),
        Function::Min | Function::Max => total.extreme.clone().unwrap_or(Scalar::Null),
        _ if total.count == 0 => Scalar::Null,
        Function::Sum | Function::SumDistinct => Scalar::Number(total.sum.normalized()),
        Function::BoolAnd => Scalar::Bool(total.sum == total.count),
        Function::BoolOr => Scalar::Bool(total.sum > BigDecimal::default()),
        Function::Avg => {
            number::average(&total.sum, total.count).map_or(Scalar::Null, Scalar::Number)
        }
    }
}
