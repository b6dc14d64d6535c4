//! From what items contribute to what a row shows.
//!
//! Separate from evaluation because the two ends of the ledger meet here: items put addends
//! in, reading a row takes a value out. Invariant: a total is the sum of its addends, exactly,
//! so taking one off again leaves no trace. What it gives up: aggregates that cannot be taken
//! back by subtraction (min, max, distinct).

use crate::view::{
    definition::{Function, Output, Shape, View},
    number,
    scalar::Scalar,
};
use bigdecimal::BigDecimal;

/// What one item adds to one aggregate of its group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addend {
    /// 1 for `count(*)` and for an argument that is not NULL, else 0.
    pub count: u64,
    /// The exact argument of sum and avg; `None` where it is NULL, and for count.
    pub sum: Option<BigDecimal>,
}

/// One aggregate over all items of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Total {
    /// The aggregate's own number of values that are not NULL.
    pub count: u64,
    /// Their exact sum; 0 for count.
    pub sum: BigDecimal,
}

impl Total {
    /// Takes one item's addend in.
    pub fn add(&mut self, addend: &Addend) {
        self.count += addend.count;
        if let Some(value) = &addend.sum {
            self.sum += value;
        }
    }
}

/// The output row, in SELECT order, of a group with this key and these totals.
///
/// Sum and avg over no value are NULL; avg is `sum / count`, half-even to 20 significant
/// digits. A key or total that is not there (state of another definition) shows as NULL. A
/// projection's row is its own values, so `key` comes back as it is.
#[must_use]
pub fn finish(view: &View, key: &[Scalar], totals: &[Total]) -> Vec<Scalar> {
    let Shape::Groups(groups) = &view.shape else {
        return key.to_vec();
    };
    let value = |output: Output| match output {
        Output::Key(index) => key.get(index).cloned().unwrap_or(Scalar::Null),
        Output::Aggregate(index) => match (groups.aggregates.get(index), totals.get(index)) {
            (Some(aggregate), Some(total)) => total_value(aggregate.function, total),
            _ => Scalar::Null,
        },
    };
    groups.columns.iter().map(|column| value(column.output)).collect()
}

fn total_value(function: Function, total: &Total) -> Scalar {
    match function {
        Function::Count => Scalar::Number(BigDecimal::from(total.count)),
        Function::Sum if total.count == 0 => Scalar::Null,
        Function::Sum => Scalar::Number(total.sum.normalized()),
        Function::Avg => {
            number::average(&total.sum, total.count).map_or(Scalar::Null, Scalar::Number)
        }
    }
}
