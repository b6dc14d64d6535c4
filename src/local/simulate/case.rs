//! One case as it stands in its line, checked so that no key is silently ignored.

use super::SimulateError;
use crate::{
    local::{lines, mapping::Parameters},
    record::Source,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::num::NonZeroU64;

/// A case that can be run.
#[derive(Debug)]
pub(in crate::local) struct Case {
    pub(in crate::local) id: Value,
    pub(in crate::local) rule: String,
    pub(in crate::local) evidence: String,
    pub(in crate::local) what: String,
    pub(in crate::local) source: Source,
    pub(in crate::local) records: u64,
    pub(in crate::local) shards: NonZeroU64,
    pub(in crate::local) keys: NonZeroU64,
    /// As it stands in the case.
    pub(in crate::local) mapping: Map<String, Value>,
    pub(super) parameters: Parameters,
    pub(in crate::local) function: Function,
    pub(in crate::local) compares_shape: bool,
    pub(in crate::local) expect: Option<Expected>,
}

impl Case {
    pub(in crate::local) fn parse(text: &str, line: usize) -> Result<Self, SimulateError> {
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
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Self {
            id: written.id,
            rule: text(&written.rule),
            evidence: text(&written.evidence),
            what: text(&written.what),
            source,
            records: written.records,
            shards: written.shards.unwrap_or(NonZeroU64::MIN),
            keys: written.keys.unwrap_or(NonZeroU64::MIN),
            mapping: written.mapping,
            parameters,
            function: written.function,
            compares_shape: written.compares.is_some(),
            expect: written.expect,
        })
    }

    /// The shard of a record, counted from 0.
    pub(in crate::local) fn shard_of(&self, number: u64) -> u64 {
        number.saturating_sub(1) % self.shards
    }

    /// The key of a record among those of its shard, counted from 0.
    pub(in crate::local) fn key_of(&self, number: u64) -> u64 {
        number.saturating_sub(1) / self.shards % self.keys
    }
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
    records: u64,
    shards: Option<NonZeroU64>,
    keys: Option<NonZeroU64>,
    #[serde(default)]
    mapping: Map<String, Value>,
    #[serde(default)]
    function: Function,
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

/// The function as a rule over record numbers.
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
    pub(super) unfinished: bool,
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
