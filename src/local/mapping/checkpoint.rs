//! Which records of a shard are resolved, and how far the mapping may stand.
//!
//! Separate because it is the one place that decides it: sub-lanes finish in any order, the
//! checkpoint only ever moves over the resolved beginning. Records with the same sequence
//! number (de-aggregated by enhanced fan-out) are one position, passed together.

use crate::record::SequenceNumber;
use std::collections::VecDeque;

/// The unresolved stretch of a shard, and the position before it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Positions in shard order from the lowest unresolved one on; the count is how many
    /// records of that position are unresolved.
    positions: VecDeque<(SequenceNumber<'static>, usize)>,
    passed: Option<SequenceNumber<'static>>,
    /// Whether no neighbour of the newest position can come any more.
    settled: bool,
}

impl Progress {
    /// # Panics
    /// The sequence number is lower than one before it.
    pub(super) fn begin(&mut self, sequence_number: &SequenceNumber<'static>) {
        let last = self.positions.back_mut();
        if let Some((_, unresolved)) = last.filter(|(last, _)| last == sequence_number) {
            *unresolved += 1;
            return;
        }
        let before = self.positions.back().map(|(last, _)| last).or(self.passed.as_ref());
        assert!(
            before.is_none_or(|before| before < sequence_number),
            "record {sequence_number} was offered after a later one of its shard"
        );
        self.settled = false;
        self.positions.push_back((sequence_number.clone(), 1));
        self.advance();
    }

    /// # Panics
    /// The record was never begun, or was resolved before: a record has one fate.
    pub(super) fn resolve(&mut self, sequence_number: &SequenceNumber<'static>) {
        let index = self.positions.partition_point(|(position, _)| position < sequence_number);
        let unresolved = self
            .positions
            .get_mut(index)
            .filter(|(position, unresolved)| position == sequence_number && *unresolved > 0)
            .map(|(_, unresolved)| unresolved);
        let Some(unresolved) = unresolved else {
            panic!("record {sequence_number} was resolved twice, or never offered")
        };
        *unresolved -= 1;
        self.advance();
    }

    /// Says that the next record, if there will be one, has a number of its own.
    pub(super) fn settle(&mut self) {
        self.settled = true;
        self.advance();
    }

    /// The highest position with nothing unresolved at or below it.
    pub(super) fn checkpoint(&self) -> Option<&SequenceNumber<'static>> {
        self.passed.as_ref()
    }

    fn advance(&mut self) {
        // The newest position stays while a neighbour with the same number may still come:
        // passing the number would lose it.
        while (self.settled || self.positions.len() > 1)
            && self.positions.front().is_some_and(|(_, unresolved)| *unresolved == 0)
        {
            self.passed = self.positions.pop_front().map(|(position, _)| position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> SequenceNumber<'static> {
        SequenceNumber::new(text.to_owned()).unwrap()
    }

    /// `+n` begins, `-n` resolves, `.` settles; after each the checkpoint, `_` for none.
    #[track_caller]
    fn check(steps: &str, expected: &str) {
        let mut progress = Progress::default();
        let mut found = Vec::new();
        for step in steps.split_whitespace() {
            match step.split_at(1) {
                ("+", text) => progress.begin(&number(text)),
                ("-", text) => progress.resolve(&number(text)),
                _ => progress.settle(),
            }
            found.push(progress.checkpoint().map_or("_".to_owned(), ToString::to_string));
        }
        assert_eq!(found.join(" "), expected, "{steps}");
    }

    #[test]
    fn it_stands_at_the_last_record_before_the_lowest_unresolved_one() {
        check("+1 +2 +3 -1 -2 -3 .", "_ _ _ 1 2 2 3");
        check("+1 +2 +3 -3 -2 -1 .", "_ _ _ _ _ 2 3");
    }

    #[test]
    fn the_newest_position_waits_for_neighbours_with_the_same_number() {
        check("+1 -1 +1 -1 +2 .", "_ _ _ _ 1 1");
        check("+7 +7 +8 -7 -8 -7 .", "_ _ _ _ _ 7 8");
    }

    #[test]
    fn at_rest_the_newest_position_is_passed_and_a_later_one_waits_again() {
        check("+1 . -1 +2 -2 +3 .", "_ _ 1 1 1 2 2");
    }

    #[test]
    fn numbers_of_different_length_stand_in_numeric_order() {
        check("+9 +10 +100 -10 -9 .", "_ _ _ _ 10 10");
    }

    #[test]
    fn a_record_out_of_order_or_with_a_second_fate_is_a_broken_invariant() {
        for steps in ["+10 +9", "+1 +2 -1 +1", "+1 -1 -1", "+1 -2"] {
            let run = std::panic::catch_unwind(|| check(steps, ""));
            let message = run.unwrap_err();
            let message = message.downcast_ref::<String>().unwrap();
            assert!(message.contains("offered") || message.contains("resolved"), "{message}");
        }
    }
}
