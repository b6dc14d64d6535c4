//! One case as it stands in its line, checked so that no key is silently ignored.

use super::{
    SimulateError,
    contents::{Contents, Told, WrittenRecord},
    order::Order,
    seconds::Since,
};
use crate::{
    local::{
        lines,
        mapping::{Parameters, READINGS, ReadingError, Readings},
        source::ShardLine,
    },
    record::Source,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::num::{NonZeroU32, NonZeroU64};

/// The largest state of a function in a case: more than Lambda lets one return.
const STATE_BYTES_MAX: usize = 8 << 20;

/// A case that can be run.
#[derive(Debug)]
pub(in crate::local) struct Case {
    pub(in crate::local) id: Value,
    pub(in crate::local) rule: String,
    pub(in crate::local) evidence: String,
    pub(in crate::local) what: String,
    pub(in crate::local) source: Source,
    pub(super) contents: Contents,
    /// As it stands in the case.
    pub(in crate::local) mapping: Map<String, Value>,
    pub(super) parameters: Parameters,
    pub(super) order: Order,
    pub(in crate::local) function: Function,
    pub(super) print: Vec<Print>,
    pub(in crate::local) compares_shape: bool,
    pub(in crate::local) expect: Option<Expected>,
}

impl Case {
    pub(in crate::local) fn parse(text: &str, line: usize) -> Result<Self, SimulateError> {
        Self::with(text, line, &[])
    }

    /// The same with readings for all that it does not say itself.
    pub(super) fn with(
        text: &str,
        line: usize,
        readings: &[(String, String)],
    ) -> Result<Self, SimulateError> {
        let written: Written = lines::parse(text, line)?;
        let source = match written.source {
            WrittenSource::DynamoDb => Source::DynamoDb,
            WrittenSource::Kinesis => Source::Kinesis,
        };
        let invalid = |error| SimulateError::Parameter { line, error };
        let mut parameters = Parameters::default();
        for (name, value) in &written.mapping {
            parameters.set(name, value).map_err(invalid)?;
        }
        parameters.check(source).map_err(invalid)?;
        parameters.retention_s = written.retention.map(NonZeroU32::get);
        let mut order = Order::default();
        let own = written.readings.iter().map(|(name, value)| {
            (name.as_str(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        let given = readings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in given.chain(own) {
            choose(&mut parameters.readings, &mut order, name, &value)
                .map_err(|error| SimulateError::Reading { line, error })?;
        }
        let contradiction = |found| SimulateError::Contradiction { line, found };
        let contents = Contents::new(source, written.records, written.shards, written.keys)
            .map_err(contradiction)?;
        if written.function.state_bytes.is_some_and(|bytes| bytes > STATE_BYTES_MAX) {
            return Err(contradiction(format!(
                "`state_bytes` is more than {STATE_BYTES_MAX}, which no function can return"
            )));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Self {
            id: written.id,
            rule: text(&written.rule),
            evidence: text(&written.evidence),
            what: text(&written.what),
            source,
            contents,
            mapping: written.mapping,
            parameters,
            order,
            function: written.function,
            print: written.print,
            compares_shape: written.compares.is_some(),
            expect: written.expect,
        })
    }

    /// How many records there are.
    pub(in crate::local) fn records(&self) -> u64 {
        self.contents.records()
    }

    /// How many shards there are.
    pub(in crate::local) fn shards(&self) -> u64 {
        self.contents.shards.len() as u64
    }

    /// How many keys the records of a shard have.
    pub(in crate::local) fn keys(&self) -> u64 {
        self.contents.keys()
    }

    /// The shard of a record, counted from 0.
    pub(in crate::local) fn shard_of(&self, number: u64) -> u64 {
        self.contents.shard_of(number)
    }

    /// The key of a record among those of its shard, counted from 0.
    pub(in crate::local) fn key_of(&self, number: u64) -> u64 {
        self.contents.key_of(number)
    }

    /// Whether the case says what this is to be.
    pub(super) fn expects(&self, print: Print) -> bool {
        self.expect.as_ref().is_some_and(|expected| match print {
            Print::Checkpoints => expected.checkpoints.is_some(),
            Print::Timeline => expected.timeline.is_some(),
        })
    }
}

/// Whether each of these is a reading, so that a case cannot be blamed for it.
pub(super) fn check_readings(readings: &[(String, String)]) -> Result<(), ReadingError> {
    let (mut of_mapping, mut order) = (Readings::default(), Order::default());
    readings.iter().try_for_each(|(name, value)| choose(&mut of_mapping, &mut order, name, value))
}

fn choose(
    of_mapping: &mut Readings,
    order: &mut Order,
    name: &str,
    value: &str,
) -> Result<(), ReadingError> {
    if READINGS.contains(&name) { of_mapping.set(name, value) } else { order.set(name, value) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Value,
    /// The rule that the case is an example of, where its expectation comes from, and what it
    /// shows; they change nothing.
    #[serde(default)]
    rule: Value,
    #[serde(default)]
    evidence: Value,
    #[serde(default)]
    what: Value,
    #[serde(default)]
    source: WrittenSource,
    records: Told<WrittenRecord>,
    shards: Option<Told<ShardLine>>,
    keys: Option<NonZeroU64>,
    #[serde(default)]
    mapping: Map<String, Value>,
    /// How many seconds the stream keeps a record.
    retention: Option<NonZeroU32>,
    #[serde(default)]
    readings: Map<String, Value>,
    #[serde(default)]
    function: Function,
    #[serde(default)]
    print: Vec<Print>,
    compares: Option<Compares>,
    expect: Option<Expected>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenSource {
    #[default]
    DynamoDb,
    Kinesis,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compares {
    Shape,
}

/// What is printed of a case on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Print {
    /// Where each shard stands after each step.
    Checkpoints,
    /// Each call with its moments.
    Timeline,
}

/// The function as a rule over record numbers and moments.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::local) struct Function {
    #[serde(default)]
    pub(super) throws_on: Vec<u64>,
    #[serde(default)]
    pub(super) reports: Vec<u64>,
    /// A literal response; `Some(Null)` is a function that returns `null`.
    #[serde(default, deserialize_with = "present")]
    pub(super) replies: Option<Value>,
    /// How long a call takes.
    #[serde(default)]
    pub(super) takes: Since,
    /// Calls that begin before this moment do not reach it.
    #[serde(default)]
    pub(super) throttled_until: Since,
    /// Calls that begin at this moment or later neither throw nor report.
    pub(super) heals_at: Option<Since>,
    /// It throws in the last call of a window.
    #[serde(default)]
    pub(super) throws_at_window_end: bool,
    /// How large the state is that it returns, in bytes of JSON.
    pub(super) state_bytes: Option<usize>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::local) struct Expected {
    pub(in crate::local) invocations: Vec<Vec<u64>>,
    pub(in crate::local) on_failure: Vec<Discarded>,
    #[serde(default)]
    pub(super) lost: Vec<Vec<u64>>,
    #[serde(default)]
    pub(super) unfinished: bool,
    /// Of each element only the members that are written are compared.
    pub(super) checkpoints: Option<Vec<Map<String, Value>>>,
    pub(super) timeline: Option<Vec<Map<String, Value>>>,
}

/// The part of an on-failure record that a case speaks about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::local) struct Discarded {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::local) first: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::local) last: Option<u64>,
    #[serde(rename = "batchSize")]
    pub(in crate::local) batch_size: usize,
    #[serde(rename = "approximateInvokeCount")]
    pub(in crate::local) approximate_invoke_count: u32,
    pub(in crate::local) condition: String,
    #[serde(rename = "functionError")]
    pub(in crate::local) function_error: Option<String>,
}
