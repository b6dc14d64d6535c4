//! What the witness sees of the tables: rows that are written, and whether copies are whole.

use super::{Seen, Witness};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Read as _};

impl Witness {
    /// A record that a reply passed has its effect, or a parked row with its payload.
    pub(super) fn look_at_finished(&self, at: usize) {
        let seen = self.state().records[at].clone();
        if seen.effects > 0 || seen.passed {
            return;
        }
        let number = &self.script.records[at].sequence_number;
        let row = seen.row.map(|(pk, sk)| self.row(&pk, &sk));
        let Some(row) = row.filter(|row| row["state"]["S"] == "parked") else {
            return self.violated("finished", format!("{number} has neither effect nor copy"));
        };
        let packed = row["record"]["B"].as_str().unwrap_or_default();
        let packed = base64_simd::STANDARD.decode_to_vec(packed).unwrap();
        let mut text = String::new();
        let read = GzDecoder::new(&*packed).read_to_string(&mut text);
        if read.is_err() || text != self.script.records[at].body {
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

    /// Every record without effect has its copy.
    pub(crate) fn look_at_shown(&self, shown: &Value) {
        let envelopes = shown["parked"].as_array().into_iter().flatten();
        let copies: BTreeMap<&str, &str> = envelopes
            .filter_map(|it| Some((it["sequence_number"].as_str()?, it["record"].as_str()?)))
            .collect();
        let mut state = self.state();
        for (told, seen) in self.script.records.iter().zip(state.records.clone()) {
            let number = told.sequence_number.as_str();
            let copy = copies.get(number).copied();
            if copy.is_none() && seen.effects == 0 || copy.is_some_and(|copy| copy != told.body) {
                state.violated("lost", format!("{number} is shown as {copy:?}"));
            }
        }
    }

    /// A row is to be written for a parked record.
    pub(crate) fn note_row(&self, at: usize, pk: &str, sk: &str) {
        self.state().records[at].row = Some((pk.to_owned(), sk.to_owned()));
    }

    /// It was written.
    pub(crate) fn note_parked(&self, at: usize, code: &str) {
        let mut state = self.state();
        let tick = state.tick;
        state.records[at].parked.get_or_insert(tick);
        state.tell(at, || format!("PARKED as {code}"));
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
        let is_it = |seen: &Seen| seen.row.as_ref().is_some_and(|row| row.0 == pk && row.1 == sk);
        let Some(at) = state.records.iter().position(is_it) else { return };
        let tick = state.tick;
        state.records[at].settled.get_or_insert(tick);
        state.tell(at, || "taken out".to_owned());
        let of_key = &self.script.by_key[self.script.records[at].key];
        if of_key.iter().any(|at| state.records[*at].in_flight > 0) {
            state.count("redriven beside live records of the key");
        }
    }

    /// In the end nothing is missing.
    pub(crate) fn look_at_the_end(&self) {
        let mut state = self.state();
        for (told, seen) in self.script.records.iter().zip(state.records.clone()) {
            if seen.effects == 0 {
                state.violated("lost", format!("{} has no effect", told.sequence_number));
            }
        }
    }
}
