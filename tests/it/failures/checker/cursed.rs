//! Records that end the process, and what they may do to redrives.

use super::{Checker, Kind};
use crate::failures::script::MAX_ATTEMPTS;
use serde_json::Value;

impl Checker {
    /// The processor has met a record that ends the process.
    pub(crate) fn kill(&self, at: usize) {
        let mut state = self.state();
        let current = state.current.unwrap();
        let invocation = &mut state.invocations[current];
        invocation.is_killed = true;
        if invocation.kind != Kind::Redrive || invocation.asked.crashed {
            return;
        }
        state.records[at].ended += 1;
        let ended = state.records[at].ended;
        if ended > MAX_ATTEMPTS {
            let number = &self.script.records[at].sequence_number;
            state.violated("cursed", format!("{number} ends its redrive {ended}, unasked"));
        }
    }

    /// A redrive is about to mark a record as started.
    pub(crate) fn note_start(&self, pk: &str, sk: &str) {
        let mut state = self.state();
        if let Some(at) = state.of_row(pk, sk) {
            state.records[at].starts += 1;
        }
    }

    /// A record was not redriven, because it had ended redrives before.
    pub(super) fn look_at_crashed(&self, failed: &Value) {
        self.count("redriven no more, as crashed");
        let Some(at) = failed["sequence_number"].as_str().and_then(|it| self.script.find(it))
        else {
            return self.violated("cursed", format!("nobody's record: {failed}"));
        };
        let mut state = self.state();
        let seen = &mut state.records[at];
        seen.refused = true;
        let starts = seen.starts;
        if starts < MAX_ATTEMPTS {
            state.violated("cursed", format!("refused after {starts} starts: {failed}"));
        }
    }

    /// A record that ends every redrive keeps only its own key.
    pub(crate) fn look_at_cursed(&self) {
        let records = &self.script.records;
        for (at, told) in records.iter().enumerate() {
            let is_cursed =
                |at: &usize| records[*at].fate == "cursed" || self.state().records[*at].refused;
            let is_kept = self.script.by_key[told.key].iter().any(is_cursed);
            if !is_kept && self.is_missing(at) {
                let number = &told.sequence_number;
                self.violated("cursed", format!("{number} waits for a key that is not its own"));
            }
        }
    }
}
