//! One case as it stands in its line, checked so that no key is silently ignored.

use super::SimulateError;
use crate::{
    local::{lines, mapping::Parameters},
    record::Source,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A case that can be run.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) id: Value,
    pub(super) records: u64,
    pub(super) parameters: Parameters,
    pub(super) function: Function,
    pub(super) expect: Option<Expected>,
}

impl Case {
    pub(super) fn parse(text: &str, line: usize) -> Result<Self, SimulateError> {
        let written: Written = lines::parse(text, line)?;
        let mut parameters = Parameters::default();
        for (name, value) in &written.mapping {
            parameters
                .set(name, value)
                .map_err(|error| SimulateError::Parameter { line, error })?;
        }
        // A simulated shard is one of a table's stream.
        parameters
            .check(Source::DynamoDb)
            .map_err(|error| SimulateError::Parameter { line, error })?;
        Ok(Self {
            id: written.id,
            records: written.records,
            parameters,
            function: written.function,
            expect: written.expect,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Value,
    /// Where the expectation comes from; changes nothing.
    #[serde(default, rename = "evidence")]
    _evidence: Value,
    records: u64,
    #[serde(default)]
    mapping: Map<String, Value>,
    #[serde(default)]
    function: Function,
    expect: Option<Expected>,
}

/// The function as a rule over record numbers.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Function {
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
pub(super) struct Expected {
    pub(super) invocations: Vec<Vec<u64>>,
    pub(super) on_failure: Vec<Discarded>,
    #[serde(default)]
    pub(super) unfinished: bool,
}

/// The part of an on-failure record that a case speaks about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Discarded {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<u64>,
    #[serde(rename = "batchSize")]
    pub(super) batch_size: usize,
    #[serde(rename = "approximateInvokeCount")]
    pub(super) approximate_invoke_count: u32,
    pub(super) condition: String,
    #[serde(rename = "functionError")]
    pub(super) function_error: Option<String>,
}
