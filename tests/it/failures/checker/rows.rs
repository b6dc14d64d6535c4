//! What the checker sees of the tables: rows that are written, and whether copies are whole.

use super::{Checker, Kind};
use crate::failures::script::{FIRST, MAX_ATTEMPTS, UNKEYED};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::{collections::BTreeSet, io::Read as _};

/// More often than any message is received.
const FORMS_MAX: u32 = 30;

impl Checker {
    /// A record that a reply passed has its effect, or a parked row with its payload.
    pub(super) fn look_at_finished(&self, at: usize) {
        let seen = self.state().records[at].clone();
        if seen.effects > 0 || seen.passed {
            return;
        }
        let number = &self.script.records[at].sequence_number;
        let row = seen.row.map(|(pk, sk)| self.row(&pk, &sk));
        let state = row.as_ref().and_then(|row| row["state"]["S"].as_str());
        if state == Some("dropped") && seen.dropped {
            return;
        }
        let Some(row) = row.as_ref().filter(|_| state == Some("parked")) else {
            return self.violated("finished", format!("{number} has neither effect nor copy"));
        };
        if row["parts"].is_object() {
            return; // who is shown it, looks at it
        }
        let packed = row["record"]["B"].as_str().unwrap_or_default();
        let packed = base64_simd::STANDARD.decode_to_vec(packed).unwrap();
        let mut text = String::new();
        let read = GzDecoder::new(&*packed).read_to_string(&mut text);
        let is_copy = self.script.is_of_queue()
            || [FIRST, FIRST + 1].iter().any(|form| text == self.script.text(at, *form));
        if read.is_err() || !is_copy {
            self.violated("finished", format!("the copy of {number} is another one: {text}"));
        }
    }

    fn row(&self, pk: &str, sk: &str) -> Value {
        let asked = json!({
            "TableName": "park", "ConsistentRead": true, "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
        });
        let (status, answer) =
            self.store.answer("DynamoDB_20120810.GetItem", asked.to_string().as_bytes());
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["Item"].take()
    }

    /// What is shown of parked records is what was parked.
    pub(crate) fn look_at_copies(&self, shown: &Value) {
        for it in shown["parked"].as_array().into_iter().flatten() {
            let number = it["sequence_number"].as_str().unwrap_or_default();
            let at = self.script.find(number);
            if !it["record_omitted"].is_null() || !it["record_encoding"].is_null() {
                if it["record_omitted"]["code"] == "PayloadDamaged" {
                    self.violated("copy", format!("{number} is damaged"));
                }
                continue;
            }
            let Some(at) = at else {
                self.violated("copy", format!("{number} is nobody's"));
                continue;
            };
            // Who parked it may have died before it heard so: then it is whoever's copy.
            let copy = self.state().records[at].copy;
            let forms = if copy == 0 { FIRST..=FORMS_MAX } else { copy..=copy };
            if !forms.into_iter().any(|form| it["record"] == *self.script.text(at, form)) {
                self.violated("copy", format!("{number} is not what was parked in form {copy}"));
            }
        }
    }

    /// Every record without effect has its copy.
    pub(crate) fn look_at_shown(&self, shown: &Value) {
        self.look_at_copies(shown);
        let envelopes = shown["parked"].as_array().into_iter().flatten();
        let copies: BTreeSet<usize> =
            envelopes.filter_map(|it| self.script.find(it["sequence_number"].as_str()?)).collect();
        for at in 0..self.script.records.len() {
            if !copies.contains(&at) && self.is_missing(at) {
                let number = &self.script.records[at].sequence_number;
                self.violated("lost", format!("{number} has neither effect nor copy"));
            }
        }
    }

    /// Whether a record has no effect, and nobody gave it up.
    pub(super) fn is_missing(&self, at: usize) -> bool {
        let seen = self.state().records[at].clone();
        let is_dropped = || {
            let row = seen.row.as_ref().map(|(pk, sk)| self.row(pk, sk));
            seen.dropped && row.is_some_and(|row| row["state"]["S"] == "dropped")
        };
        seen.effects == 0 && !self.script.records[at].is_filtered && !is_dropped()
    }

    /// A row is to be written for a parked record.
    pub(crate) fn note_row(&self, at: usize, pk: &str, sk: &str) {
        let mut state = self.state();
        let form = state.form(at).unwrap_or(FIRST);
        let seen = &mut state.records[at];
        seen.row = Some((pk.to_owned(), sk.to_owned()));
        if seen.parked.is_some() && form != seen.copy {
            state.count("parked again in another form");
        }
    }

    /// It was written.
    pub(crate) fn note_parked(&self, at: usize, code: &str) {
        let mut state = self.state();
        let tick = state.tick;
        let current = state.current.map(|it| &state.invocations[it]);
        let (kind, halts) = current.map_or((Kind::Live, false), |it| (it.kind, it.halts));
        let form = state.form(at);
        let seen = &mut state.records[at];
        if seen.parked.is_none() {
            seen.parked = Some(tick);
            seen.copy = form.unwrap_or(FIRST);
            seen.rescued = kind == Kind::Rescue;
        }
        let unclassified = seen.attempts - seen.transient;
        let told = &self.script.records[at];
        let number = &told.sequence_number;
        if ["ProcessorError", "Panicked"].contains(&code) && unclassified < MAX_ATTEMPTS {
            let what = format!("{number} is parked after {unclassified} unclassified failures");
            state.violated("attempts", what);
        }
        if told.key == UNKEYED && halts && code != "HeldBehindParked" {
            state.violated("unkeyed", format!("{number} is parked, and had to halt"));
        }
        if code == "ProcessorError" && state.records[at].transient > 0 {
            state.count("parked after transient failures");
        }
        if told.key == UNKEYED {
            state.count("parked without a key");
        }
        if kind == Kind::Rescue && state.records[at].effects > 0 {
            state.count("rescued after its effect");
        }
        state.tell(at, || format!("PARKED as {code} by {kind:?}"));
        state.count(match code {
            "HeldBehindParked" => "held",
            "Crashed" => "parked as crashed",
            "TimedOut" => "parked as timed out",
            _ => "parked",
        });
    }

    /// A write of progress was answered, or not.
    pub(crate) fn note_remembered(&self, written: &Value, is_good: bool) {
        let mut state = self.state();
        let Some(current) = state.current else { return };
        let unremembered = &mut state.invocations[current].unremembered;
        unremembered.retain(|it| it != written);
        if !is_good {
            unremembered.push(written.clone());
        }
    }

    /// It was not, because the head was closed.
    pub(crate) fn note_refused(&self, at: usize) {
        let mut state = self.state();
        if let Some(current) = state.current {
            state.refused.insert((current, at));
            state.tell(at, || "refused".to_owned());
        }
    }

    /// A parked record was taken out.
    pub(crate) fn note_settled(&self, pk: &str, sk: &str) {
        let mut state = self.state();
        let Some(at) = state.of_row(pk, sk) else { return };
        let tick = state.tick;
        let seen = &mut state.records[at];
        seen.settled.get_or_insert(tick);
        seen.finished.get_or_insert(tick);
        state.tell(at, || "taken out".to_owned());
        let of_key = &self.script.by_key[self.script.records[at].key];
        if of_key.iter().any(|at| state.records[*at].in_flight > 0) {
            state.count("redriven beside live records of the key");
        }
    }

    /// In the end nothing is missing.
    pub(crate) fn look_at_the_end(&self) {
        for at in 0..self.script.records.len() {
            if self.is_missing(at) {
                let number = &self.script.records[at].sequence_number;
                self.violated("lost", format!("{number} has no effect"));
            }
        }
    }
}
