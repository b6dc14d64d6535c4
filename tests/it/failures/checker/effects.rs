//! What the processor does: its tries and its effects, and whether it may do so.

use super::{Checker, Kind};
use crate::failures::script::UNKEYED;
use changefold::processor::Context;

impl Checker {
    /// Whether the processor was given the record whose content this is.
    pub(crate) fn knows(&self, at: usize, context: &Context<'_>) -> bool {
        let told = &self.script.records[at];
        let key = context.key().map(|key| key.to_string());
        let key = key.unwrap_or_else(|_| format!("key-{UNKEYED}"));
        context.sequence_number().as_str() == told.sequence_number
            && context.ordinal() == 0
            && key.ends_with(&format!("key-{}", told.key))
    }

    /// A record is tried; tells how often it has been.
    pub(crate) fn attempt(&self, at: usize, is_the_one: bool) -> u32 {
        let mut state = self.state();
        if !is_the_one {
            state.violated("order", format!("record {at} comes under another name"));
        }
        let current = state.current.unwrap();
        let invocation = &mut state.invocations[current];
        let tries = invocation.tried.entry(at).or_default();
        *tries += 1;
        let (again, kind) = (*tries > 1, invocation.kind);
        let since = match kind {
            Kind::Live => state.records[at].parked,
            Kind::Redrive => state.records[at].settled,
            Kind::Rescue => Some(0),
        };
        if since.is_some_and(|since| since < state.began(current)) {
            let number = &self.script.records[at].sequence_number;
            state.violated("receipt", format!("{number} runs by {kind:?}, and has its receipt"));
        }
        if again && kind == Kind::Live {
            state.count("retried in place");
        }
        state.records[at].attempts += 1;
        state.tell(at, || format!("tried by {kind:?}"));
        state.records[at].attempts
    }

    /// A try failed in a way that may pass.
    pub(crate) fn failed_transiently(&self, at: usize) {
        self.state().records[at].transient += 1;
    }

    /// A record's effect is made.
    pub(crate) fn effect(&self, at: usize) {
        let mut state = self.state();
        let told = &self.script.records[at];
        let number = &told.sequence_number;
        let current = state.current.unwrap();
        let kind = state.invocations[current].kind;
        state.invocations[current].made.push(at);
        state.log.push(at);
        state.tell(at, || format!("EFFECT by {kind:?}"));
        if state.records[at].effects > 0 {
            state.count("repeated");
            // A redrive that still goes on cannot be known to have lost its lease.
            let rival = state.invocations.iter().enumerate().position(|(other, it)| {
                other != current && it.kind == Kind::Redrive && !it.is_over && it.made.contains(&at)
            });
            if let Some(rival) = rival.filter(|_| kind == Kind::Redrive) {
                state.invocations[rival].rivals.push((current, at));
                state.invocations[current].rivals.push((rival, at));
            } else if !state.records[at].excused {
                state.violated("repeat", format!("{number} runs again by {kind:?}, for no reason"));
            }
        } else {
            let is_free = |at: usize| {
                let (told, seen) = (&self.script.records[at], &state.records[at]);
                let is_let_go = seen.given_up || seen.rescued || seen.dropped || told.is_filtered;
                let is_passed_by = !self.holds && (!told.is_healthy() || seen.row.is_some());
                told.key == UNKEYED || is_let_go || is_passed_by
            };
            let of_key = &self.script.by_key[told.key];
            let waits = |at: &&usize| state.records[**at].effects == 0 && !is_free(**at);
            let is_told = !(is_free(at) || self.gives_up && kind == Kind::Redrive);
            let before = of_key[..told.turn].iter().find(waits).filter(|_| is_told).copied();
            if let Some(before) = before {
                let before = &self.script.records[before].sequence_number;
                state.violated("order", format!("{number} runs by {kind:?} before {before}"));
            }
        }
        self.look_at_overtaken(&mut state, at);
        if told.key == UNKEYED && kind == Kind::Live {
            state.violated("unkeyed", format!("{number} runs live"));
        }
        state.records[at].effects += 1;
        match kind {
            Kind::Redrive if state.is_after_the_run => state.count("redriven at the end"),
            Kind::Redrive => state.count("redriven"),
            Kind::Live if state.refused.contains(&(current, at)) => state.count("lifted"),
            Kind::Live => {}
            Kind::Rescue => state.violated("receipt", format!("{number} runs by a rescue")),
        }
    }
}
