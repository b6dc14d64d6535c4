//! Which record of a batch may start next: plain data, no futures, no clock.
//!
//! A record starts when every earlier one of its lane is finished. Ready records start in stream
//! order, so the reply's number rises as fast as it can. Neighbours with one sequence number are
//! no exception: their lanes run beside each other, and the reply joins what becomes of them.
//!
//! A record that failed keeps everything later from starting ([`fail`](Schedule::fail)): Lambda
//! delivers again from the lowest failed record, so work beyond it would only be done twice.
//! What runs already is kept. Where progress is remembered, and in a queue, which is told of
//! each message by itself, it stops its own lane alone ([`stop_lane`](Schedule::stop_lane)).

use std::{cmp::Reverse, collections::BinaryHeap};

/// No record.
const NONE: u32 = u32::MAX;

/// The order in which the records of one batch start.
#[derive(Debug)]
pub(super) struct Schedule {
    records: Vec<Place>,
    /// By lane: the last record so far.
    lane_ends: Vec<u32>,
    /// Records before this one have started or wait, or are among the passed.
    next: usize,
    /// Records that had to wait when they were passed, and are ready now.
    passed: BinaryHeap<Reverse<u32>>,
    /// No record from here on may start.
    end: usize,
    running: usize,
    concurrency: usize,
}

/// Where a record stands.
#[derive(Debug)]
struct Place {
    next_in_lane: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// An earlier record of its lane is not finished.
    Waits,
    /// It may not start at all.
    Withheld,
    /// It may start, or runs, or has failed.
    Free,
    Finished,
}

impl Schedule {
    /// A schedule that has room for so many lanes and records, and none yet; at most
    /// `concurrency` records will run at a time.
    pub(super) fn new((lanes, records): (usize, usize), concurrency: usize) -> Self {
        Self {
            records: Vec::with_capacity(records),
            lane_ends: vec![NONE; lanes],
            next: 0,
            passed: BinaryHeap::new(),
            end: usize::MAX,
            running: 0,
            concurrency,
        }
    }

    /// Adds the next record, which stands in this lane.
    pub(super) fn push(&mut self, lane: usize) {
        let record = number(self.records.len());
        let before = std::mem::replace(&mut self.lane_ends[lane], record);
        let state = match self.records.get_mut(before as usize) {
            Some(before) => {
                before.next_in_lane = record;
                State::Waits
            }
            None => State::Free,
        };
        self.records.push(Place { next_in_lane: NONE, state });
    }

    /// Whether a record could start now.
    pub(super) fn has_ready(&mut self) -> bool {
        self.running < self.concurrency && self.earliest().is_some()
    }

    /// Whether nothing runs, and nothing can start any more.
    pub(super) fn is_over(&mut self) -> bool {
        self.running == 0 && self.earliest().is_none()
    }

    /// The earliest record that waits for none.
    pub(super) fn earliest(&mut self) -> Option<usize> {
        // A passed one is earlier than all that are not.
        let passed = self.passed.peek().map(|Reverse(record)| *record as usize);
        let earliest = passed.unwrap_or_else(|| {
            let waits = |place: &Place| matches!(place.state, State::Waits | State::Withheld);
            while self.records.get(self.next).is_some_and(waits) {
                self.next += 1;
            }
            self.next
        });
        (earliest < self.end.min(self.records.len())).then_some(earliest)
    }

    /// Starts the earliest record that may start.
    pub(super) fn start(&mut self) -> Option<usize> {
        let record = self.earliest().filter(|_| self.running < self.concurrency)?;
        self.running += 1;
        if record < self.next {
            self.passed.pop();
        } else {
            self.next += 1;
        }
        Some(record)
    }

    /// A running record is finished: its lane goes on.
    pub(super) fn finish(&mut self, record: usize) {
        self.running -= 1;
        let place = &mut self.records[record];
        place.state = State::Finished;
        let number = place.next_in_lane;
        let Some(follower) = self.records.get_mut(number as usize) else { return };
        if follower.state == State::Waits {
            follower.state = State::Free;
            if (number as usize) < self.next {
                self.passed.push(Reverse(number));
            }
        }
    }

    /// A running record failed, and later ones go on: only its own lane stops.
    pub(super) fn stop_lane(&mut self) {
        // Those behind it in its lane wait for it to finish, which it never will.
        self.running -= 1;
    }

    /// Whether this record has run to its end.
    pub(super) fn is_finished(&self, record: usize) -> bool {
        self.records.get(record).is_some_and(|place| place.state == State::Finished)
    }

    /// A running record failed: its lane stops, and nothing later starts.
    pub(super) fn fail(&mut self, record: usize) {
        self.running -= 1;
        self.stop_from(record);
    }

    /// A record that has not started does not start at all, and none behind it in its lane.
    pub(super) fn withhold(&mut self, record: usize) {
        self.passed.retain(|Reverse(passed)| *passed as usize != record);
        self.records[record].state = State::Withheld;
    }

    /// Nothing from this record on starts any more.
    pub(super) fn stop_from(&mut self, record: usize) {
        self.end = self.end.min(record);
    }
}

/// A batch is a few megabytes at most.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a batch has fewer than 2^32 records")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Records given as letters for their lanes.
    fn schedule(lanes: impl IntoIterator<Item = char>, concurrency: usize) -> Schedule {
        let mut schedule = Schedule::new((5, 0), concurrency);
        lanes.into_iter().for_each(|lane| schedule.push(lane as usize - 'a' as usize));
        schedule
    }

    /// Runs a schedule to its end. `batch` writes records apart by spaces, each the letter of its
    /// lane; `!` after it makes the record fail. `pick` chooses which running record ends next.
    /// Gives back what started, in order, and what ended well.
    fn run(
        batch: &str,
        concurrency: usize,
        mut pick: impl FnMut(usize) -> usize,
    ) -> (Vec<usize>, Vec<usize>) {
        let records: Vec<&str> = batch.split_whitespace().collect();
        let lane = |record: usize| records[record].chars().next().unwrap();
        let mut schedule = schedule((0..records.len()).map(lane), concurrency);
        let (mut started, mut finished, mut running) = (Vec::new(), Vec::new(), Vec::new());
        let mut lowest_failed = usize::MAX;
        loop {
            while let Some(record) = schedule.start() {
                assert!(record < lowest_failed, "{record} started after {lowest_failed} failed");
                for earlier in (0..record).filter(|other| lane(*other) == lane(record)) {
                    assert!(finished.contains(&earlier), "{record} started before {earlier} ended");
                }
                started.push(record);
                running.push(record);
            }
            assert!(running.len() <= concurrency, "too many in flight");
            assert_eq!(schedule.is_over(), running.is_empty());
            if running.is_empty() {
                break;
            }
            let record = running.remove(pick(running.len()));
            if records[record].ends_with('!') {
                lowest_failed = lowest_failed.min(record);
                schedule.fail(record);
            } else {
                schedule.finish(record);
                finished.push(record);
            }
        }
        (started, finished)
    }

    /// The record that runs longest ends first.
    #[track_caller]
    fn check(batch: &str, concurrency: usize, started: &[usize], finished: &[usize]) {
        check_by(batch, concurrency, |_| 0, started, finished);
    }

    #[track_caller]
    fn check_by(
        batch: &str,
        concurrency: usize,
        pick: impl FnMut(usize) -> usize,
        started: &[usize],
        finished: &[usize],
    ) {
        let (actual_started, mut actual_finished) = run(batch, concurrency, pick);
        actual_finished.sort_unstable();
        assert_eq!((&*actual_started, &*actual_finished), (started, finished), "{batch}");
    }

    #[test]
    fn lanes_run_beside_each_other_and_in_order_within() {
        check("", 4, &[], &[]);
        check("a b c", 4, &[0, 1, 2], &[0, 1, 2]);
        check("a a b", 4, &[0, 2, 1], &[0, 1, 2]);
        check("a a b", 1, &[0, 1, 2], &[0, 1, 2]);
        // The lowest ready record goes first, however late it became ready.
        check("a b c a d", 2, &[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_failed_record_stops_its_lane_and_all_later_records() {
        check("a! a b", 1, &[0], &[]);
        check("a b! c d", 2, &[0, 1, 2], &[0, 2]);
        // An earlier record still starts after a later one failed; a later one does not.
        check_by("a a b! c", 2, |running| running - 1, &[0, 2, 1], &[0, 1]);
    }

    #[test]
    fn in_a_queue_a_failed_or_withheld_record_stops_its_lane_only() {
        let mut schedule = schedule(['a', 'b', 'a', 'c', 'b'], 2);
        schedule.withhold(1);
        assert_eq!(
            (schedule.start(), schedule.start(), schedule.start()),
            (Some(0), Some(3), None)
        );
        schedule.stop_lane();
        schedule.finish(3);
        assert_eq!(schedule.start(), None, "2 waits for 0, and 4 for 1");
    }

    #[test]
    fn a_withheld_record_is_not_freed_by_the_one_before_it() {
        let mut schedule = schedule(['a', 'a', 'b'], 2);
        schedule.withhold(1);
        assert_eq!(schedule.start(), Some(0));
        schedule.finish(0);
        assert_eq!((schedule.start(), schedule.start()), (Some(2), None));
    }

    proptest! {
        #[test]
        fn no_record_is_forgotten_unless_a_lower_one_failed(
            batch in prop::collection::vec("[a-e]!{0,1}", 0..40),
            concurrency in 1_usize..6,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let mut picks = picks.into_iter();
            let (started, finished) = run(&batch.join(" "), concurrency, |running| {
                picks.next().map_or(0, |pick| pick.index(running))
            });
            let lowest = batch.iter().position(|it| it.ends_with('!')).unwrap_or(batch.len());
            // Everything below the lowest failing record is finished, and that one was tried.
            prop_assert!((0..lowest).all(|record| finished.contains(&record)));
            prop_assert!(lowest == batch.len() || started.contains(&lowest));
        }
    }
}
