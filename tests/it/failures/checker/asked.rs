//! What an operator asked for, and whether that is what happened.

use super::{Checker, Invocation, Kind, State};
use changefold::operation::{Operation, Selection};
use serde_json::Value;

/// What an operation was to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Whether it may run what others have overtaken.
    superseded: bool,
    /// Whether it may run what has ended redrives before.
    pub(super) crashed: bool,
    drop: Option<Selection>,
}

impl Asked {
    pub(crate) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Redrive(redrive) => {
                Self { superseded: redrive.superseded, crashed: redrive.crashed, drop: None }
            }
            Operation::Drop(drop) => Self { drop: Some(drop.selection.clone()), ..Self::default() },
            _ => Self::default(),
        }
    }
}

impl Checker {
    pub(crate) fn note_asked(&self, invocation: usize, asked: Asked) {
        self.state().invocations[invocation].asked = asked;
    }

    /// A redrive that was not told to leaves alone what others had overtaken.
    pub(super) fn look_at_overtaken(&self, state: &mut State, at: usize) {
        let current = state.current.unwrap();
        let invocation = &state.invocations[current];
        let is_told_to = invocation.asked.superseded;
        // Elsewhere only one that outlived its retry overtakes, and nobody can know of that.
        if !self.gives_up || invocation.kind != Kind::Redrive || is_told_to {
            return;
        }
        let Some(parked) = state.records[at].parked else { return };
        let told = &self.script.records[at];
        let later = &self.script.by_key[told.key][told.turn + 1..];
        let has_overtaken = |later: &&usize| {
            let seen = &state.records[**later];
            seen.effects > 0 && seen.finished.is_some_and(|finished| finished < parked)
        };
        if let Some(later) = later.iter().find(has_overtaken) {
            let [at, later] = [at, *later].map(|it| &self.script.records[it].sequence_number);
            state.violated("overtaken", format!("{at} runs after {later}, unasked"));
        } else if state.records[at].rescued {
            state.count("redriven unasked after its rescue");
        }
    }

    /// A drop is about to take a record out.
    pub(crate) fn note_drop_asked(&self, pk: &str, sk: &str) {
        let mut state = self.state();
        let Some(at) = state.of_row(pk, sk) else {
            return state.violated("drop", "a row of nobody");
        };
        state.records[at].dropped = true;
        state.tell(at, || "to be dropped".to_owned());
        let told = &self.script.records[at];
        let Some(current) = state.current else { return };
        let Some(selection) = state.invocations[current].asked.drop.clone() else {
            return state.violated("drop", "nobody asked for it");
        };
        let is_key = |key: &String| key.ends_with(&format!("key-{}", told.key));
        let is_number = |number: &String| self.script.find(number) == Some(at);
        let is_unkeyed = |key: &String| key.contains(&told.sequence_number);
        let keys = &selection.keys;
        if !(keys.iter().any(is_key) || keys.iter().any(is_unkeyed))
            || !selection.sequence_number.as_ref().is_none_or(is_number)
        {
            state.violated("drop", format!("{} was not meant", told.sequence_number));
        }
        let dropped = &mut state.invocations[current].dropped;
        let (is_new, count) = (dropped.insert(at), dropped.len());
        if selection.limit.is_some_and(|limit| count > limit) {
            state.violated("drop", format!("{count} for a limit of {:?}", selection.limit));
        }
        if is_new {
            state.count("dropped");
            if selection.limit.is_some() {
                state.count("dropped within a limit");
            }
        }
    }

    /// A drop says how many it dropped.
    pub(super) fn look_at_dropped(&self, invocation: usize, answer: &Value) {
        let mut state = self.state();
        let Invocation { asked, dropped, .. } = &state.invocations[invocation];
        if asked.drop.is_some() && answer["done"] != dropped.len() {
            let what = format!("{} dropped, told: {answer}", dropped.len());
            state.violated("drop", what);
        }
    }
}
