//! What the keys of one redrive share: how much may still be done, and what was done.
//!
//! Nothing starts any more after the first reason to stop, so that what was not begun is one
//! range of keys. What it gives up: records under way at that moment go on to their end.

use super::{Operator, Wanted};
use crate::{
    call::Halt,
    deadline::Deadline,
    operation::{NotRedriven, Redrive, Redriven, Stopped},
    processor::Failure,
    recovery::park::{
        inventory::{ParkedKey, Unreadable},
        rows::Row,
    },
    retry::Circuit,
    telemetry,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

/// More characters of an error are not in an answer.
const ERROR_CHARS_MAX: usize = 1_000;

/// A redrive on its way, as its keys share it.
pub(super) struct Redriving<'r, R> {
    pub(super) operator: &'r Operator<'r, R>,
    pub(super) redrive: &'r Redrive,
    pub(super) deadline: Deadline<'r>,
    pub(super) circuit: RefCell<Circuit>,
    pub(super) wanted: Wanted<'r>,
    /// How many records may still be worked on.
    pub(super) records: Cell<usize>,
    /// How many bytes the answer has left for records that failed.
    pub(super) bytes: Cell<usize>,
    pub(super) stopped: Cell<Option<Stopped>>,
    pub(super) halt: RefCell<Option<Halt>>,
    /// By hash, how many records of a key are parked.
    pub(super) left: RefCell<BTreeMap<&'r str, u64>>,
    pub(super) told: RefCell<Redriven>,
}

/// A key, its place among those of the call, and whether nothing runs beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'r> {
    pub(super) parked: &'r ParkedKey,
    pub(super) at: usize,
    pub(super) is_alone: bool,
}

impl<'r, R> Redriving<'r, R> {
    /// Whether another record may start.
    pub(super) fn may_start(&self) -> bool {
        if self.stopped.get().is_some() || self.halt.borrow().is_some() {
            return false;
        }
        let stopped = if self.circuit.borrow().is_open() {
            Stopped::CircuitOpen
        } else if self.records.get() == 0 || self.bytes.get() == 0 {
            Stopped::Limit
        } else if self.deadline.is_late() {
            Stopped::Deadline
        } else {
            return true;
        };
        self.stopped.set(Some(stopped));
        false
    }

    /// The whole redrive fails; what runs beside it ends, and nothing else starts.
    pub(super) fn halt(&self, halt: Halt) {
        self.halt.borrow_mut().get_or_insert(halt);
    }

    /// A record is worked on.
    pub(super) fn take_one(&self) {
        self.records.update(|records| records.saturating_sub(1));
    }

    /// It was not, after all.
    pub(super) fn give_one_back(&self) {
        self.records.update(|records| records + 1);
    }

    /// A record is finished, and so many are left of its key, as far as that is known.
    pub(super) fn done(&self, parked: &'r ParkedKey, left: Option<u64>) {
        self.told.borrow_mut().done += 1;
        if let Some(left) = left {
            self.left.borrow_mut().insert(&parked.key.hash, left);
        }
    }

    /// A key stops here.
    pub(super) fn failed(&self, not_redriven: NotRedriven) {
        let NotRedriven { key, source, sequence_number, error_code, error } = &not_redriven;
        let texts = [key, source, sequence_number, error_code, error];
        let bytes = texts.iter().map(|text| text.len() + 40).sum::<usize>();
        self.bytes.update(|left| left.saturating_sub(bytes));
        self.told.borrow_mut().failed.push(not_redriven);
    }

    /// The version of the function, whose starts of a record count.
    pub(super) fn version(&self) -> &'r str {
        &self.operator.durable.function_version
    }
}

/// What is told of a row that cannot be read, and that nothing of its key may pass.
pub(super) fn unreadable_row(parked: &ParkedKey, unreadable: &Unreadable) -> NotRedriven {
    NotRedriven {
        key: parked.key.readable.clone(),
        source: parked.key.source_arn.clone(),
        sequence_number: String::new(),
        error_code: "ParkedRowUnreadable".to_owned(),
        error: unreadable.to_string(),
    }
}

/// What is told of a record that stays.
pub(super) fn not_redriven(parked: &ParkedKey, row: &Row, failure: &Failure) -> NotRedriven {
    let error = telemetry::Chain(failure.reason()).to_string();
    let cut = error.char_indices().nth(ERROR_CHARS_MAX).map(|(at, _)| at);
    NotRedriven {
        key: parked.key.readable.clone(),
        source: parked.key.source_arn.clone(),
        sequence_number: row.envelope.sequence_number.clone(),
        error_code: failure.code().to_owned(),
        error: cut.map_or_else(|| error.clone(), |at| format!("{} (cut)", &error[..at])),
    }
}
