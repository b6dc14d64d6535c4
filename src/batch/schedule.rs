//! Which unit of a batch may start next: plain data, no futures, no clock.
//!
//! A unit is what has one outcome: neighbours with the same sequence number. It may span
//! several lanes, and starts when every earlier unit that shares a lane with it is finished.
//! Ready units start in stream order, so the reply's number rises as fast as it can.
//!
//! A unit that failed keeps everything later from starting ([`fail`](Schedule::fail)): Lambda
//! delivers again from the lowest failed record, so work beyond it would only be done twice.
//! What runs already is kept. Where progress is remembered, and in a queue, which is told of
//! each message by itself, it stops its own lanes alone ([`stop_lanes`](Schedule::stop_lanes)).

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

/// No record.
const NONE: u32 = u32::MAX;

/// The order in which the units of one batch start.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Per record: the unit it belongs to, and the next record in its lane.
    records: Vec<Place>,
    /// Per unit: its records, and how many of them wait for an earlier unit.
    units: Vec<Unit>,
    /// By lane: the last record so far.
    lane_ends: Vec<u32>,
    /// Units before this one have started or wait, or are among the passed.
    next: usize,
    /// Units that had to wait when they were passed, and are ready now.
    passed: BinaryHeap<Reverse<u32>>,
    /// No unit from here on may start.
    end: usize,
    running: usize,
    concurrency: usize,
}

#[derive(Debug)]
struct Place {
    unit: u32,
    next_in_lane: u32,
}

#[derive(Debug)]
struct Unit {
    records: Range<u32>,
    waiting: u32,
    is_finished: bool,
}

impl Schedule {
    /// A schedule that has room for so many lanes and records, and none yet; at most
    /// `concurrency` units will run at a time.
    pub(super) fn new((lanes, records): (usize, usize), concurrency: usize) -> Self {
        Self {
            records: Vec::with_capacity(records),
            units: Vec::with_capacity(records),
            lane_ends: vec![NONE; lanes],
            next: 0,
            passed: BinaryHeap::new(),
            end: usize::MAX,
            running: 0,
            concurrency,
        }
    }

    /// Adds the next record, which stands in this lane, to the last unit or to a new one.
    pub(super) fn push(&mut self, lane: usize, is_new_unit: bool) {
        let record = number(self.records.len());
        if is_new_unit || self.units.is_empty() {
            self.units.push(Unit { records: record..record, waiting: 0, is_finished: false });
        }
        let last = self.units.len() - 1;
        let unit = &mut self.units[last];
        unit.records.end = record + 1;
        let before = std::mem::replace(&mut self.lane_ends[lane], record);
        if before != NONE {
            let before = &mut self.records[before as usize];
            before.next_in_lane = record;
            unit.waiting += u32::from(before.unit as usize != last);
        }
        self.records.push(Place { unit: number(last), next_in_lane: NONE });
    }

    /// The records of a unit.
    pub(super) fn records(&self, unit: usize) -> Range<usize> {
        let Range { start, end } = self.units[unit].records;
        start as usize..end as usize
    }

    /// Whether a unit could start now.
    pub(super) fn has_ready(&mut self) -> bool {
        self.running < self.concurrency && self.earliest().is_some()
    }

    /// Whether nothing runs, and nothing can start any more.
    pub(super) fn is_over(&mut self) -> bool {
        self.running == 0 && self.earliest().is_none()
    }

    /// The earliest unit that waits for none.
    fn earliest(&mut self) -> Option<usize> {
        // A passed one is earlier than all that are not.
        let passed = self.passed.peek().map(|Reverse(unit)| *unit as usize);
        let earliest = passed.unwrap_or_else(|| {
            while self.units.get(self.next).is_some_and(|unit| unit.waiting > 0) {
                self.next += 1;
            }
            self.next
        });
        (earliest < self.end.min(self.units.len())).then_some(earliest)
    }

    /// Starts the earliest unit that may start.
    pub(super) fn start(&mut self) -> Option<usize> {
        let unit = self.earliest().filter(|_| self.running < self.concurrency)?;
        self.running += 1;
        if unit < self.next {
            self.passed.pop();
        } else {
            self.next += 1;
        }
        Some(unit)
    }

    /// A running unit is finished: its lanes go on.
    pub(super) fn finish(&mut self, unit: usize) {
        self.running -= 1;
        self.units[unit].is_finished = true;
        for record in self.records(unit) {
            let next = self.records[record].next_in_lane;
            let Some(&Place { unit: number, .. }) = self.records.get(next as usize) else {
                continue;
            };
            let follower = number as usize;
            if follower != unit {
                self.units[follower].waiting -= 1;
                if self.units[follower].waiting == 0 && follower < self.next {
                    self.passed.push(Reverse(number));
                }
            }
        }
    }

    /// A running unit failed, and later ones go on: only its own lanes stop.
    pub(super) fn stop_lanes(&mut self) {
        // Those behind it in its lanes wait for it to finish, which it never will.
        self.running -= 1;
    }

    /// Whether this unit has run to its end.
    pub(super) fn is_finished(&self, unit: usize) -> bool {
        self.units.get(unit).is_some_and(|unit| unit.is_finished)
    }

    /// The unit that a record belongs to.
    pub(super) fn unit_of(&self, record: usize) -> usize {
        self.records[record].unit as usize
    }

    /// A running unit failed: its lanes stop, and nothing later starts.
    pub(super) fn fail(&mut self, unit: usize) {
        self.running -= 1;
        self.stop_from(unit);
    }

    /// A unit that has not started does not start at all, and none behind it in its lanes.
    pub(super) fn withhold(&mut self, unit: usize) {
        self.passed.retain(|Reverse(passed)| *passed as usize != unit);
        // More than there are records that it could wait for.
        self.units[unit].waiting = u32::MAX;
    }

    /// Nothing from this unit on starts any more.
    pub(super) fn stop_from(&mut self, unit: usize) {
        self.end = self.end.min(unit);
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

    /// Records given as the number of their unit and a letter for their lane.
    fn schedule(records: impl IntoIterator<Item = (usize, char)>, concurrency: usize) -> Schedule {
        let mut schedule = Schedule::new((5, 0), concurrency);
        let mut before = None;
        for (unit, lane) in records {
            let is_new = before.replace(unit) != Some(unit);
            schedule.push(lane as usize - 'a' as usize, is_new);
        }
        schedule
    }

    /// Runs a schedule to its end. `batch` writes units apart by spaces, each a word whose
    /// letters are its records' lanes; `!` after a word makes the unit fail. `pick` chooses
    /// which running unit ends next. Gives back what started, in order, and what ended well.
    fn run(
        batch: &str,
        concurrency: usize,
        mut pick: impl FnMut(usize) -> usize,
    ) -> (Vec<usize>, Vec<usize>) {
        let units: Vec<&str> = batch.split_whitespace().collect();
        let records = units.iter().enumerate().flat_map(|(number, unit)| {
            unit.trim_end_matches('!').chars().map(move |lane| (number, lane))
        });
        let mut schedule = schedule(records, concurrency);
        let (mut started, mut finished, mut running) = (Vec::new(), Vec::new(), Vec::new());
        let mut lowest_failed = usize::MAX;
        loop {
            while let Some(unit) = schedule.start() {
                assert!(unit < lowest_failed, "{unit} started after {lowest_failed} failed");
                let lanes = units[unit].trim_end_matches('!');
                let shares = |other: usize| units[other].contains(|lane| lanes.contains(lane));
                for earlier in (0..unit).filter(|other| shares(*other)) {
                    assert!(finished.contains(&earlier), "{unit} started before {earlier} ended");
                }
                started.push(unit);
                running.push(unit);
            }
            assert!(running.len() <= concurrency, "too many in flight");
            assert_eq!(schedule.is_over(), running.is_empty());
            if running.is_empty() {
                break;
            }
            let unit = running.remove(pick(running.len()));
            if units[unit].ends_with('!') {
                lowest_failed = lowest_failed.min(unit);
                schedule.fail(unit);
            } else {
                schedule.finish(unit);
                finished.push(unit);
            }
        }
        (started, finished)
    }

    /// The unit that runs longest ends first.
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
        // The lowest ready unit goes first, however late it became ready.
        check("a b c a d", 2, &[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_failed_unit_stops_its_lane_and_all_later_units() {
        check("a! a b", 1, &[0], &[]);
        check("a b! c d", 2, &[0, 1, 2], &[0, 2]);
        // An earlier unit still starts after a later one failed; a later one does not.
        check_by("a a b! c", 2, |running| running - 1, &[0, 2, 1], &[0, 1]);
    }

    #[test]
    fn a_unit_of_several_lanes_waits_for_all_of_them() {
        check("a b ab c", 4, &[0, 1, 3, 2], &[0, 1, 2, 3]);
        check("ab a b", 4, &[0, 1, 2], &[0, 1, 2]);
        check("aab a! b", 4, &[0, 1, 2], &[0, 2]);
        // Two records of one unit in one lane do not wait for each other.
        check("aaa aa", 4, &[0, 1], &[0, 1]);
    }

    #[test]
    fn in_a_queue_a_failed_or_withheld_unit_stops_its_lane_only() {
        let mut schedule = schedule([(0, 'a'), (1, 'b'), (2, 'a'), (3, 'c'), (4, 'b')], 2);
        schedule.withhold(1);
        assert_eq!(
            (schedule.start(), schedule.start(), schedule.start()),
            (Some(0), Some(3), None)
        );
        schedule.stop_lanes();
        schedule.finish(3);
        assert_eq!(schedule.start(), None, "2 waits for 0, and 4 for 1");
    }

    proptest! {
        #[test]
        fn no_unit_is_forgotten_unless_a_lower_one_failed(
            batch in prop::collection::vec("[a-e]{1,3}!{0,1}", 0..24),
            concurrency in 1_usize..6,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 24),
        ) {
            let mut picks = picks.into_iter();
            let (started, finished) = run(&batch.join(" "), concurrency, |running| {
                picks.next().map_or(0, |pick| pick.index(running))
            });
            let lowest = batch.iter().position(|unit| unit.ends_with('!')).unwrap_or(batch.len());
            // Everything below the lowest failing unit is finished, and that unit was tried.
            prop_assert!((0..lowest).all(|unit| finished.contains(&unit)));
            prop_assert!(lowest == batch.len() || started.contains(&lowest));
        }
    }
}
