//! Who sees everything: effects, deliveries, replies, rows; and says what must not be.
//!
//! The rules, each with its name in a [`Violation`]:
//! - `order`: under hold, the first effects of a key come in stream order without gaps, at any
//!   moment. So nothing later of a key runs before its parked record. Under skip the same holds
//!   for the records that are never set aside.
//! - `repeat`: an effect is made again only of a record that was in invocation at a fault, that
//!   was delivered by the mapping twice, or, where nothing is remembered or the store refused
//!   to, that the reply left to the mapping together with an earlier one.
//! - `receipt`: an invocation that began after a record was parked never runs it, and neither
//!   does a redrive that began after it was taken out.
//! - `finished`: what a reply passes has its effect, or a parked row with its payload.
//! - `lost`: in the end every record has its effect, unless the operator dropped it, and
//!   nothing is parked.
//! - `overtaken`: a redrive that was not told to runs no record which a later one of its key had
//!   overtaken when it was parked.
//! - `attempts`: a record is parked for an unclassified failure after so many of them, whatever
//!   else it failed by before.
//! - `drop`: a drop takes what was asked for, within its limit, and says how many.
//! - `unkeyed`: a record without a key never runs live, and is not parked where it has to halt.
//! - `copy`: what is shown of a parked record is what was parked first, byte for byte.
//! - `cursed`: a record that ends every redrive keeps no other key's records from theirs, and
//!   unless it is asked for, it ends no more of them than it has attempts; and none is refused
//!   for that which was started less often.
//! - `discarded`, `stuck`, `operator`: the mapping gives up no record, every run ends, and no
//!   operation meets a damaged row.
//!
//! Records that a mapping gave up are out of the rule `order`, and so are redrives beside such
//! a mapping: a range that is rescued has records of others in it, which earlier ones of their
//! key may still follow.

mod asked;
mod cursed;
mod effects;
mod rows;

pub(crate) use asked::Asked;

use super::script::{Scenario, Script, Settings};
use crate::support;
use changefold::store::embedded::Embedded;
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
    /// Any operation.
    Redrive,
    /// Records that a mapping gave up are set aside.
    Rescue,
}

/// How often things happened.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

pub(crate) struct Checker {
    pub(crate) script: Arc<Script>,
    store: Embedded,
    holds: bool,
    remembers: bool,
    gives_up: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts everything that is taken note of.
    tick: u64,
    is_fixed: bool,
    is_after_the_run: bool,
    is_curse_lifted: bool,
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
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Seen {
    attempts: u32,
    /// How many of them failed in a way that may pass.
    transient: u32,
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
    /// In which form.
    copy: u32,
    /// Whether a rescue parked it.
    rescued: bool,
    /// When it was taken out again.
    settled: Option<u64>,
    /// Whether the mapping gave it up.
    given_up: bool,
    /// Whether an operator may have dropped it.
    dropped: bool,
    /// When it was known to be finished.
    finished: Option<u64>,
    /// How often a redrive may have marked it as started.
    starts: u32,
    /// How many redrives it has ended that were not told to run what did so before.
    ended: u32,
    /// Whether a redrive refused it because it had ended others.
    refused: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// In which form its records come.
    forms: Vec<u32>,
    /// Whether a record without a key has to halt it.
    halts: bool,
    /// What the operator wanted.
    asked: Asked,
    dropped: BTreeSet<usize>,
}

impl Checker {
    pub(crate) fn new(script: Arc<Script>, store: Embedded, settings: &Settings) -> Arc<Self> {
        let records = vec![Seen::default(); script.records.len()];
        let is_told = support::environment("SIM_SEED").is_some();
        let state =
            Mutex::new(State { records, story: is_told.then(Vec::new), ..State::default() });
        let Settings { holds, remembers, scenario, .. } = *settings;
        let gives_up = scenario == Scenario::Rescue;
        // A queue remembers its messages by itself.
        let remembers = remembers || scenario == Scenario::Queue;
        Arc::new(Self { script, store, holds, remembers, gives_up, state })
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

    pub(crate) fn is_curse_lifted(&self) -> bool {
        self.state().is_curse_lifted
    }

    /// Now no record ends the process any more.
    pub(crate) fn lift_the_curse(&self) {
        self.state().is_curse_lifted = true;
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
            // What is rescued may have been finished by whom nobody can ask.
            seen.excused |= seen.in_flight > 0 || seen.passed || kind == Kind::Rescue;
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
            forms: Vec::new(),
            halts: false,
            asked: Asked::default(),
            dropped: BTreeSet::new(),
        });
        state.invocations.len() - 1
    }

    /// In which forms the records of an invocation come, and whether one of them without a key
    /// has to halt it.
    pub(crate) fn note_forms(&self, invocation: usize, forms: Vec<u32>, halts: bool) {
        let mut state = self.state();
        let invocation = &mut state.invocations[invocation];
        (invocation.forms, invocation.halts) = (forms, halts);
    }

    /// This invocation is polled from now on, or none.
    pub(crate) fn turn_of(&self, invocation: Option<usize>) {
        self.state().current = invocation;
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
                || self.holds && !self.gives_up && code.starts_with("Superseded")
            {
                self.violated("operator", failed.to_string());
            }
            match code {
                "Crashed" => self.look_at_crashed(failed),
                "TimedOut" => self.count("timed out in a redrive"),
                "Superseded" => self.count("overtaken"),
                "SupersededUnknown" => self.count("perhaps overtaken"),
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
        self.look_at_dropped(invocation, answer);
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

    /// A batch was answered: of a stream everything before the record that the reply names is
    /// finished, of a queue whatever it does not name.
    pub(crate) fn replied(&self, invocation: usize, reply: &Value) {
        let records = self.state().end(invocation).unwrap_or_default();
        let failures = reply["batchItemFailures"].as_array().unwrap();
        let named = failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap());
        let named: Option<Vec<usize>> = named.map(|name| self.script.find(name)).collect();
        let named = named.filter(|named| named.iter().all(|at| records.contains(at)));
        let Some(named) = named else {
            return self.violated("finished", format!("a foreign reply: {reply}"));
        };
        let (finished, unfinished): (Vec<usize>, Vec<usize>) = if self.script.is_of_queue() {
            records.iter().partition(|at| !named.contains(at))
        } else {
            let lowest = records.iter().position(|at| named.first() == Some(at));
            let (finished, unfinished) = records.split_at(lowest.unwrap_or(records.len()));
            (finished.to_vec(), unfinished.to_vec())
        };
        for at in &finished {
            self.look_at_finished(*at);
            let mut state = self.state();
            let tick = state.tick;
            state.records[*at].passed = true;
            state.records[*at].finished.get_or_insert(tick);
            state.tell(*at, || format!("passed by {invocation}"));
        }
        let is_lost = !self.state().invocations[invocation].unremembered.is_empty();
        if is_lost {
            self.count("progress lost");
        }
        if is_lost || !self.remembers {
            for at in &unfinished {
                self.state().records[*at].excused = true;
            }
        }
    }

    /// What a rescue calls finished has its effect or its copy.
    pub(crate) fn rescued(&self, invocation: usize, finished: &[bool]) {
        let records = self.state().end(invocation).unwrap_or_default();
        for (at, is_finished) in records.iter().zip(finished) {
            if *is_finished {
                self.count("rescued");
                self.look_at_finished(*at);
            }
        }
    }

    /// The mapping will not deliver these again.
    pub(crate) fn given_up(&self, records: &[usize]) {
        let mut state = self.state();
        for at in records {
            state.count("given up");
            state.records[*at].given_up = true;
            state.tell(*at, || "given up by the mapping".to_owned());
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

    /// In which form a record has come to the current invocation.
    fn form(&self, at: usize) -> Option<u32> {
        let Invocation { records, forms, .. } = &self.invocations[self.current?];
        forms.get(records.iter().position(|record| *record == at)?).copied()
    }

    /// Which record's row this is.
    fn of_row(&self, pk: &str, sk: &str) -> Option<usize> {
        let is_it = |seen: &Seen| seen.row.as_ref().is_some_and(|row| row.0 == pk && row.1 == sk);
        self.records.iter().position(is_it)
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
