//! What the mapping did in one case: what is printed of it, and how it is compared.

use super::{
    case::{Discarded, Expected, Print},
    seconds::Since,
};
use crate::local::mapping::{Invocation, Outcome, WindowCall};
use serde::Serialize;
use serde_json::{Map, Value};

/// What the mapping did in one case.
#[derive(Debug, Clone, Default, Serialize)]
pub(in crate::local) struct Trace {
    pub(super) id: Value,
    pub(in crate::local) invocations: Vec<Vec<u64>>,
    pub(in crate::local) on_failure: Vec<Discarded>,
    /// What the stream had let expire.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lost: Vec<Vec<u64>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) unfinished: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checkpoints: Option<Vec<Standing>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeline: Option<Vec<Called>>,
    /// What is sent to the destination, whole.
    #[serde(skip)]
    pub(in crate::local) documents: Vec<String>,
}

/// Where a shard stands after a step.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Standing {
    at: Since,
    shard_id: String,
    after: After,
    /// The record up to which every one has met its fate; null before the first.
    checkpoint: Option<u64>,
}

/// The steps after which a shard may stand elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum After {
    /// A call was answered.
    Reply,
    /// Records were given up.
    OnFailure,
    /// The stream had let records expire.
    Lost,
    /// Records were read, or the shard has ended.
    Read,
}

/// A call of the function.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Called {
    at: Since,
    shard_id: String,
    sub_lane: usize,
    request_id: String,
    attempt: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    bisected: bool,
    records: Vec<u64>,
    /// The age of the last of them when the call began.
    #[serde(skip_serializing_if = "Option::is_none")]
    iterator_age: Option<Since>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<CalledWindow>,
    /// None of a call that was still under way when the case was given up.
    ended: Option<Since>,
    outcome: Option<&'static str>,
    /// How many records from the first on were finished, where others were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<usize>,
}

/// The window of a call, in seconds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct CalledWindow {
    start: i64,
    end: i64,
    #[serde(rename = "isFinalInvokeForWindow")]
    is_final: bool,
    #[serde(rename = "isWindowTerminatedEarly")]
    is_terminated_early: bool,
}

impl Trace {
    pub(super) fn new(id: Value, asks: impl Fn(Print) -> bool) -> Self {
        Self {
            id,
            checkpoints: asks(Print::Checkpoints).then(Vec::new),
            timeline: asks(Print::Timeline).then(Vec::new),
            ..Self::default()
        }
    }

    /// Takes note of a call that begins.
    pub(super) fn begins(&mut self, at: u64, shard_id: &str, invocation: &Invocation) {
        let Some(timeline) = &mut self.timeline else { return };
        timeline.push(Called {
            at: Since(at),
            shard_id: shard_id.to_owned(),
            sub_lane: invocation.id.lane(),
            request_id: invocation.request_id.to_string(),
            attempt: invocation.attempt,
            bisected: invocation.bisected,
            records: self.invocations.last().cloned().unwrap_or_default(),
            iterator_age: invocation
                .records
                .last()
                .map(|last| Since(at.saturating_sub_signed(last.present_since))),
            window: invocation.records.window().map(CalledWindow::of),
            ended: None,
            outcome: None,
            finished: None,
        });
    }

    /// Takes note of how a call has ended, counted from 0.
    pub(super) fn ends(&mut self, call: usize, at: u64, outcome: Outcome) {
        let Some(called) = self.timeline.as_mut().and_then(|all| all.get_mut(call)) else { return };
        called.ended = Some(Since(at));
        called.outcome = Some(match outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Partial(_) => "partial",
            Outcome::Failed => "failed",
            Outcome::NotInvoked => "not_invoked",
        });
        called.finished = match outcome {
            Outcome::Partial(finished) => Some(finished),
            _ => None,
        };
    }

    /// Takes note of where a shard stands.
    pub(super) fn stands(
        &mut self,
        at: u64,
        shard_id: &str,
        after: After,
        checkpoint: Option<u64>,
    ) {
        if let Some(checkpoints) = &mut self.checkpoints {
            let (at, shard_id) = (Since(at), shard_id.to_owned());
            checkpoints.push(Standing { at, shard_id, after, checkpoint });
        }
    }

    /// What is printed: that which only was compared is left out.
    pub(super) fn printed(mut self, prints: impl Fn(Print) -> bool) -> Self {
        self.checkpoints.take_if(|_| !prints(Print::Checkpoints));
        self.timeline.take_if(|_| !prints(Print::Timeline));
        self
    }

    /// Every difference in words; empty when this is what was expected.
    pub(super) fn differences(&self, expected: Option<&Expected>) -> Vec<String> {
        let Some(expected) = expected else {
            return vec!["no `expect` to check against".to_owned()];
        };
        let mut found = unequal("invocation", &expected.invocations, &self.invocations);
        found.extend(unequal("on_failure", &expected.on_failure, &self.on_failure));
        found.extend(unequal("lost", &expected.lost, &self.lost));
        if expected.unfinished != self.unfinished {
            found.push(format!(
                "unfinished: expected {}, got {}",
                expected.unfinished, self.unfinished
            ));
        }
        found.extend(narrowed(
            "checkpoint",
            expected.checkpoints.as_ref(),
            self.checkpoints.as_ref(),
        ));
        found.extend(narrowed("timeline", expected.timeline.as_ref(), self.timeline.as_ref()));
        found
    }
}

impl CalledWindow {
    fn of(window: &WindowCall) -> Self {
        Self {
            start: window.start.0.div_euclid(1_000),
            end: window.end.0.div_euclid(1_000),
            is_final: window.is_final,
            is_terminated_early: window.is_terminated_early,
        }
    }
}

/// Differences in those members that are expected; numbers are compared by what they are.
fn narrowed<T: Serialize>(
    what: &str,
    expected: Option<&Vec<Map<String, Value>>>,
    got: Option<&Vec<T>>,
) -> Vec<String> {
    let Some(expected) = expected else { return Vec::new() };
    let got: Vec<Map<String, Value>> = got
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, one)| {
            let mut members = match serde_json::to_value(one) {
                Ok(Value::Object(members)) => members,
                _ => Map::new(),
            };
            if let Some(wanted) = expected.get(index) {
                members.retain(|name, _| wanted.contains_key(name));
            }
            by_value(members)
        })
        .collect();
    let expected: Vec<Map<String, Value>> = expected.iter().cloned().map(by_value).collect();
    unequal(what, &expected, &got)
}

/// The same with whole numbers written as such: `1.0` is `1`.
fn by_value(mut members: Map<String, Value>) -> Map<String, Value> {
    members.values_mut().for_each(write_whole);
    members
}

fn write_whole(value: &mut Value) {
    /// Below it every whole number is exact.
    const WHOLE_MAX: f64 = 9e15;
    match value {
        Value::Number(number) if number.is_f64() => {
            let found = number.as_f64().filter(|it| it.fract() == 0.0 && it.abs() < WHOLE_MAX);
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
            if let Some(whole) = found {
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(write_whole),
        Value::Object(members) => members.values_mut().for_each(write_whole),
        _ => {}
    }
}

fn unequal<T: Serialize + PartialEq>(what: &str, expected: &[T], got: &[T]) -> Vec<String> {
    let json = |value: Option<&T>| {
        value.map_or_else(
            || "none".to_owned(),
            |value| serde_json::to_string(value).expect("numbers and text serialise"),
        )
    };
    (0..expected.len().max(got.len()))
        .filter(|&index| expected.get(index) != got.get(index))
        .map(|index| {
            let (expected, got) = (json(expected.get(index)), json(got.get(index)));
            format!("{what} {}: expected {expected}, got {got}", index + 1)
        })
        .collect()
}
