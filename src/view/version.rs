//! Which of two changes of an item is the newer.
//!
//! ```text
//! <label>#<length>:<number>:<ordinal>     position in the table's stream, or in a data stream
//! @<microseconds><u|m>:<mark>             moment of a change that came through a data stream
//! ```
//!
//! A position decides always. Text order is the order of the changes: a new stream of the same
//! table has a later label; within one stream the numbers of an item grow along its shards' lineage
//! (DynamoDB developer guide, "Change data capture").
//!
//! What a table streams into a Kinesis data stream may come twice and in any order, and has no
//! number of its own. So its moment decides, and the mark, a hash of what the item is after the
//! change, tells a copy from another change. Two changes of one item at one moment are the one case
//! that is not decided: then the item is left out, under that moment and with the mark `?`, until a
//! later change comes or the item is read from its table. A moment that is known to the
//! millisecond is the same as any within it.
//!
//! What it gives up: a table may feed a ledger in one of the two ways only, for a moment and a
//! position cannot be compared.

use crate::{event::Record, hex::hex};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

/// What the version of a change with a moment begins with.
const MOMENT: char = '@';
/// The mark of an item of which it is not known what it is.
const UNDECIDED: &str = "?";

/// How a change stands to what the ledger knows of its item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It came later.
    Newer,
    /// The ledger has it, or a newer one, or has noted that its moment is not decided.
    Known,
    /// It is another change of the same moment.
    Undecided,
    /// The ledger's came in the other way.
    Incomparable,
}

/// The version of a record's change.
pub(crate) fn version(record: &Record<'_>) -> String {
    if let Some(made) = record.made() {
        let image = record.new_image_text().unwrap_or_default();
        let mark = hex(&Sha256::digest(image)[..8]);
        return Moment { micros: made.micros, is_coarse: made.is_coarse, mark: &mark }.text();
    }
    let label = record.stream_label().unwrap_or_default();
    format!("{label}#{}:{:06}", record.sequence_number().sortable(), record.ordinal())
}

/// How a change with this version stands to an item of that one. A scan has read an item without a
/// version, before everything.
pub(crate) fn standing(version: &str, known: &str) -> Standing {
    if known.is_empty() {
        return Standing::Newer;
    }
    match (Moment::of(version), Moment::of(known)) {
        (None, None) if known < version => Standing::Newer,
        (None, None) => Standing::Known,
        (Some(moment), Some(known)) => moment.standing(known),
        _ => Standing::Incomparable,
    }
}

/// Whether it says that what the item is was not decided.
pub(crate) fn is_undecided(version: &str) -> bool {
    Moment::of(version).is_some_and(|moment| moment.mark == UNDECIDED)
}

/// The version of an item of which two changes are of one moment.
pub(crate) fn undecided(version: &str, other: &str) -> String {
    let (Some(one), Some(other)) = (Moment::of(version), Moment::of(other)) else {
        return version.to_owned();
    };
    let is_coarse = one.is_coarse || other.is_coarse;
    let micros = if is_coarse { one.micros / 1_000 * 1_000 } else { one.micros };
    Moment { micros, is_coarse, mark: UNDECIDED }.text()
}

#[derive(Debug, Clone, Copy)]
struct Moment<'v> {
    micros: u64,
    is_coarse: bool,
    mark: &'v str,
}

impl<'v> Moment<'v> {
    fn of(version: &'v str) -> Option<Self> {
        let (moment, mark) = version.strip_prefix(MOMENT)?.split_once(':')?;
        let (micros, is_coarse) = match moment.strip_suffix('m') {
            Some(micros) => (micros, true),
            None => (moment.strip_suffix('u')?, false),
        };
        Some(Self { micros: micros.parse().ok()?, is_coarse, mark })
    }

    fn text(&self) -> String {
        let unit = if self.is_coarse { 'm' } else { 'u' };
        format!("{MOMENT}{:017}{unit}:{}", self.micros, self.mark)
    }

    fn standing(self, known: Self) -> Standing {
        let is_coarse = self.is_coarse || known.is_coarse;
        let unit = if is_coarse { 1_000 } else { 1 };
        match (self.micros / unit).cmp(&(known.micros / unit)) {
            Ordering::Greater => Standing::Newer,
            Ordering::Less => Standing::Known,
            Ordering::Equal if known.mark == UNDECIDED => Standing::Known,
            // Of two precisions, what lies between them could be either's.
            Ordering::Equal if self.mark == known.mark && self.is_coarse == known.is_coarse => {
                Standing::Known
            }
            Ordering::Equal => Standing::Undecided,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(micros: u64, is_coarse: bool, mark: &str) -> String {
        Moment { micros, is_coarse, mark }.text()
    }

    #[test]
    fn a_position_is_newer_by_its_text() {
        for (version, known, expected) in [
            ("l#003:100:000000", "", Standing::Newer),
            ("l#003:100:000000", "l#002:99:000000", Standing::Newer),
            ("l#003:100:000000", "l#003:100:000000", Standing::Known),
            ("l#002:99:000000", "l#003:100:000000", Standing::Known),
        ] {
            assert_eq!(standing(version, known), expected, "{version} {known}");
        }
    }

    #[test]
    fn a_moment_is_newer_by_its_number_and_one_moment_is_not_decided() {
        let at = |micros, mark| moment(micros, false, mark);
        let of_ms = |micros, mark| moment(micros, true, mark);
        let known = at(1_720_740_233_012_995, "a");
        for (version, expected) in [
            (at(1_720_740_233_012_996, "b"), Standing::Newer),
            (at(1_720_740_233_012_994, "b"), Standing::Known),
            (at(1_720_740_233_012_995, "a"), Standing::Known),
            (at(1_720_740_233_012_995, "b"), Standing::Undecided),
            (of_ms(1_720_740_233_013_000, "b"), Standing::Newer),
            (of_ms(1_720_740_233_012_000, "b"), Standing::Undecided),
            (of_ms(1_720_740_233_012_000, "a"), Standing::Undecided),
            (of_ms(1_720_740_233_011_000, "b"), Standing::Known),
            ("l#003:100:000000".to_owned(), Standing::Incomparable),
        ] {
            assert_eq!(standing(&version, &known), expected, "{version}");
        }
        assert_eq!(standing(&known, "l#003:100:000000"), Standing::Incomparable);
        assert_eq!(standing(&known, ""), Standing::Newer);
    }

    #[test]
    fn what_is_not_decided_stays_so_until_something_later_comes() {
        let both = undecided(&moment(5_500, false, "a"), &moment(5_500, false, "b"));
        assert!(is_undecided(&both) && !is_undecided("l#003:100:000000"));
        assert_eq!(standing(&moment(5_500, false, "a"), &both), Standing::Known);
        assert_eq!(standing(&moment(5_501, false, "a"), &both), Standing::Newer);
        // One of them is known to the millisecond: so are both.
        let both = undecided(&moment(5_500, false, "a"), &moment(5_000, true, "b"));
        assert_eq!(standing(&moment(5_999, false, "c"), &both), Standing::Known);
        assert_eq!(standing(&moment(6_000, false, "c"), &both), Standing::Newer);
        // A batch that has both meets a ledger that has one of them.
        assert_eq!(standing(&both, &moment(5_500, false, "a")), Standing::Undecided);
    }
}
