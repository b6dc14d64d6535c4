//! Groups of a time that are kept for a while after it has ended (`WITH (retain = …)`).
//!
//! Their rows say in `_ttl` when they go, and DynamoDB deletes them after that, at no cost and at a
//! moment of its own. So readers pass a row from then on, deleted or not. What an item adds to such
//! a group, or takes off, is not written any more: it would make a row of what is left over. The
//! ledger goes on saying what the item contributes.
//!
//! Two functions may differ about what time it is. So nothing is left out before the row is passed
//! by everybody: until it goes, a row is exact. Separate because views without it have nothing of
//! it. What it gives up: a check of groups in their last day.

use crate::{
    record::Timestamp,
    store::{Item, rows::number_of},
    view::{
        definition::{Expression, Field, Part, Shape, View},
        evaluate::seconds_of,
        scalar::{Scalar, decode_key},
    },
};

/// Name of the attribute that DynamoDB's time to live reads, in seconds since the epoch.
pub(crate) const TTL: &str = "_ttl";
/// So much later than readers writers pass a group, in seconds: how far clocks may be apart.
const SLACK_S: i64 = 600;
/// A check passes a group so much earlier, in seconds: it takes less than that.
const CHECK_S: i64 = 86_400;

/// When the row of a group goes, in seconds since the epoch; none if it stays.
pub(crate) fn ends_at(view: &View, key: &str) -> Option<i64> {
    let Shape::Groups(groups) = &view.shape else { return None };
    let retain = groups.retain?;
    let Expression::Time(time) = groups.keys.get(retain.key)? else { return None };
    let Part::Start { of, .. } = time.part else { return None };
    let Scalar::Text(start) = decode_key(key)?.into_iter().nth(retain.key)? else { return None };
    Some(seconds_of(&start)? + longest(of) + i64::from(retain.hours) * 3_600)
}

/// How long an hour, a day, … can be, in seconds.
const fn longest(field: Field) -> i64 {
    match field {
        Field::Second => 1,
        Field::Minute => 60,
        Field::Hour => 3_600,
        Field::Week => 7 * 86_400,
        Field::Month => 31 * 86_400,
        Field::Quarter => 92 * 86_400,
        Field::Year => 366 * 86_400,
        _ => 86_400,
    }
}

/// Whether nothing is written to a group any more.
pub(crate) fn is_over(view: &View, key: &str, now: Timestamp) -> bool {
    ends_at(view, key).is_some_and(|at| at + SLACK_S <= now.0 / 1_000)
}

/// Whether a check passes a group.
pub(crate) fn is_unchecked(view: &View, key: &str, now: Timestamp) -> bool {
    ends_at(view, key).is_some_and(|at| at - CHECK_S <= now.0 / 1_000)
}

/// Whether a row of a group says when it goes.
pub(crate) fn is_right(view: &View, key: &str, row: &Item) -> bool {
    ends_at(view, key).is_none_or(|at| number_of(row, TTL) == Some(at))
}

/// Whether readers pass a row, which may be deleted at any moment.
pub(crate) fn is_gone(row: &Item, now: Timestamp) -> bool {
    number_of::<i64>(row, TTL).is_some_and(|at| at <= now.0 / 1_000)
}
