//! Who sees everything: effects, deliveries, replies, rows; and says what must not be.
//!
//! The rules, each with its name in a [`Violation`]:
//! - `order`: under hold, the first effects of a key come in stream order without gaps, at any
//!   moment. So nothing later of a key runs before its parked record. Under skip the same holds
//!   for the records that are never set aside.
//! - `repeat`: an effect is made again only of a record that was in flight at a fault, that
//!   was delivered by the mapping twice, or, where nothing is remembered or the store refused
//!   to, that the reply left to the mapping together with an earlier one.
//! - `receipt`: an invocation that began after a record was parked never runs it, and neither
//!   does a redrive that began after it was taken out.
//! - `finished`: what a reply passes has its effect, or a parked row with its payload.
//! - `lost`: in the end every record has its effect, and nothing is parked.
//! - `discarded`, `stuck`, `operator`: the mapping gives up no record, every run ends, and no
//!   operation meets a damaged row.

mod rows;

use super::script::{Script, Settings};
use crate::support;
use changefold::{processor::Context, store::embedded::Embedded};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

/// A rule that was broken, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// What an invocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Live,
    Redrive,
}

/// How often things happened.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

pub(crate) struct Witness {
    pub(crate) script: Arc<Script>,
    store: Embedded,
    holds: bool,
    remembers: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts everything that is taken note of.
    tick: u64,
    is_fixed: bool,
    is_after_the_run: bool,
    current: Option<usize>,
    invocations: Vec<Invocation>,
    records: Vec<Seen>,
    log: Vec<usize>,
    /// Records that were not let behind a closed head, by invocation.
    refused: BTreeSet<(usize, usize)>,
    counts: Counts,
    violations: Vec<Violation>,
    /// What happened to which record, if somebody wants to read it.
    story: Option<Vec<(usize, String)>>,
}

/// What is known of one record.
#[derive(Default, Clone)]
struct Seen {
    attempts: u32,
    effects: u32,
    /// Whether it may be repeated.
    excused: bool,
    /// How many invocations have it now.
    in_flight: u32,
    /// Whether a reply has passed it.
    passed: bool,
    /// Where its parked row stands, or was to stand.
    row: Option<(String, String)>,
    /// When it was parked.
    parked: Option<u64>,
    /// When it was taken out again.
    settled: Option<u64>,
}

struct Invocation {
    kind: Kind,
    records: Vec<usize>,
    began: u64,
    is_over: bool,
    is_killed: bool,
    /// The records it has tried, and how often.
    tried: BTreeMap<usize, u32>,
    made: Vec<usize>,
    /// Whether it ended without an answer, or knew that it had lost its lease.
    is_lost: bool,
    /// Records that another redrive, still under way, ran as well: one of them must get lost.
    rivals: Vec<(usize, usize)>,
    /// What it could not write to the progress table.
    unremembered: Vec<Value>,
}

impl Witness {
    pub(crate) fn new(script: Arc<Script>, store: Embedded, settings: &Settings) -> Arc<Self> {
        let records = vec![Seen::default(); script.records.len()];
        let is_told = support::environment("SIM_SEED").is_some();
        let state =
            Mutex::new(State { records, story: is_told.then(Vec::new), ..State::default() });
        let Settings { holds, remembers, .. } = *settings;
        Arc::new(Self { script, store, holds, remembers, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        state.tick += 1;
        state
    }

    pub(crate) fn is_fixed(&self) -> bool {
        self.state().is_fixed
    }

    /// The operator has deployed the fix, or takes it back.
    pub(crate) fn fix(&self, is_fixed: bool) {
        self.state().is_fixed = is_fixed;
    }

    pub(crate) fn is_after_the_run(&self) -> bool {
        self.state().is_after_the_run
    }

    pub(crate) fn end_the_run(&self) {
        let mut state = self.state();
        state.is_fixed = true;
        state.is_after_the_run = true;
    }

    /// How many effects there are.
    pub(crate) fn effects(&self) -> usize {
        self.state().log.len()
    }

    /// The effects in order, how often what happened, and the rules that were broken.
    pub(crate) fn told(&self) -> (Vec<usize>, Counts, Vec<Violation>) {
        let state = self.state();
        (state.log.clone(), state.counts.clone(), state.violations.clone())
    }

    /// What happened to the records of a key.
    pub(crate) fn story(&self, key: usize) -> Vec<String> {
        let story = self.state().story.clone().unwrap_or_default();
        let of_key = story.into_iter().filter(|(at, _)| self.script.records[*at].key == key);
        of_key
            .map(|(at, what)| {
                let told = &self.script.records[at];
                format!("key-{key} {} ({} {}) {what}", told.sequence_number, told.turn, told.fate)
            })
            .collect()
    }

    pub(crate) fn count(&self, name: &'static str) {
        self.state().count(name);
    }

    pub(crate) fn add(&self, counts: &Counts) {
        let mut state = self.state();
        for (name, count) in counts {
            *state.counts.entry(name).or_default() += count;
        }
    }

    pub(crate) fn violated(&self, rule: &'static str, what: impl Into<String>) {
        self.state().violated(rule, what);
    }

    /// An invocation begins.
    pub(crate) fn begin(&self, kind: Kind, records: Vec<usize>) -> usize {
        let mut state = self.state();
        let number = state.invocations.len();
        for at in &records {
            let seen = &mut state.records[*at];
            seen.excused |= seen.in_flight > 0 || seen.passed;
            seen.in_flight += 1;
            state.tell(*at, || format!("delivered to {number}"));
        }
        let began = state.tick;
        state.invocations.push(Invocation {
            kind,
            records,
            began,
            is_over: false,
            is_killed: false,
            tried: BTreeMap::new(),
            made: Vec::new(),
            is_lost: false,
            rivals: Vec::new(),
            unremembered: Vec::new(),
        });
        state.invocations.len() - 1
    }

    /// This invocation is polled from now on, or none.
    pub(crate) fn turn_of(&self, invocation: Option<usize>) {
        self.state().current = invocation;
    }

    /// The processor has met a record that ends the process.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        let current = state.current.unwrap();
        state.invocations[current].is_killed = true;
    }

    pub(crate) fn is_killed(&self, invocation: usize) -> bool {
        self.state().invocations[invocation].is_killed
    }

    /// An invocation ended without a reply.
    pub(crate) fn died(&self, invocation: usize) {
        let mut state = self.state();
        state.invocations[invocation].is_lost = true;
        let Some(records) = state.end(invocation) else { return };
        let made = state.invocations[invocation].made.clone();
        for at in records.into_iter().chain(made) {
            state.tell(at, || format!("{invocation} died"));
            state.records[at].excused = true;
        }
    }

    /// A redrive was answered.
    pub(crate) fn redriven(&self, invocation: usize, answer: &Value) {
        let lost = answer["failed"].as_array().into_iter().flatten().any(|failed| {
            let code = failed["error_code"].as_str().unwrap_or_default();
            if ["PayloadDamaged", "EventNotJson"].contains(&code)
                || self.holds && code == "Superseded"
            {
                self.violated("operator", failed.to_string());
            }
            match code {
                "Crashed" => self.count("redriven no more, as crashed"),
                "TimedOut" => self.count("timed out in a redrive"),
                _ => {}
            }
            code == "LeaseLost"
        });
        if answer["stopped"] == "CircuitOpen" {
            self.count("redrives that met an open circuit");
        }
        if lost {
            return self.died(invocation);
        }
        let mut state = self.state();
        for (rival, at) in state.invocations[invocation].rivals.clone() {
            let Invocation { is_over, is_lost, .. } = state.invocations[rival];
            if is_over && !is_lost {
                let number = &self.script.records[at].sequence_number;
                state.violated("repeat", format!("{number} ran in two redrives with a lease"));
            }
        }
        state.end(invocation);
    }

    /// A batch was answered: everything before the record that the reply names is finished.
    pub(crate) fn replied(&self, invocation: usize, reply: &Value) {
        let records = self.state().end(invocation).unwrap_or_default();
        let failures = reply["batchItemFailures"].as_array().unwrap();
        let named = failures.first().map(|failure| failure["itemIdentifier"].as_str().unwrap());
        let named = named.and_then(|number| self.script.find(number));
        let lowest = match named {
            Some(named) => records.iter().position(|at| *at == named),
            None if failures.is_empty() => Some(records.len()),
            None => None,
        };
        let Some(lowest) = lowest else {
            return self.violated("finished", format!("a foreign reply: {reply}"));
        };
        for at in &records[..lowest] {
            self.look_at_finished(*at);
            let mut state = self.state();
            state.records[*at].passed = true;
            state.tell(*at, || format!("passed by {invocation}"));
        }
        let is_lost = !self.state().invocations[invocation].unremembered.is_empty();
        if is_lost {
            self.count("progress lost");
        }
        if is_lost || !self.remembers {
            for at in &records[lowest..] {
                self.state().records[*at].excused = true;
            }
        }
    }

    /// Whether the processor was given the record whose content this is.
    pub(crate) fn knows(&self, at: usize, context: &Context<'_>) -> bool {
        let told = &self.script.records[at];
        let key = context.key().map(|key| key.to_string()).unwrap_or_default();
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
                !self.holds
                    && (!self.script.records[at].is_healthy() || state.records[at].row.is_some())
            };
            let of_key = &self.script.by_key[told.key];
            let waits = |at: &&usize| state.records[**at].effects == 0 && !is_free(**at);
            let before = of_key[..told.turn].iter().find(waits).filter(|_| !is_free(at)).copied();
            if let Some(before) = before {
                let before = &self.script.records[before].sequence_number;
                state.violated("order", format!("{number} runs by {kind:?} before {before}"));
            }
        }
        state.records[at].effects += 1;
        match kind {
            Kind::Redrive if state.is_after_the_run => state.count("redriven at the end"),
            Kind::Redrive => state.count("redriven"),
            Kind::Live if state.refused.contains(&(current, at)) => state.count("lifted"),
            Kind::Live => {}
        }
    }
}

impl State {
    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    fn tell(&mut self, at: usize, what: impl FnOnce() -> String) {
        let (tick, current) = (self.tick, self.current);
        if let Some(story) = &mut self.story {
            story.push((at, format!("at {tick} in {current:?}: {}", what())));
        }
    }

    fn violated(&mut self, rule: &'static str, what: impl Into<String>) {
        self.violations.push(Violation { rule, what: what.into() });
    }

    fn began(&self, invocation: usize) -> u64 {
        self.invocations[invocation].began
    }

    /// Ends an invocation, once; gives back its records.
    fn end(&mut self, invocation: usize) -> Option<Vec<usize>> {
        let invocation = &mut self.invocations[invocation];
        if std::mem::replace(&mut invocation.is_over, true) {
            return None;
        }
        let records = invocation.records.clone();
        for at in &records {
            self.records[*at].in_flight -= 1;
        }
        Some(records)
    }
}
