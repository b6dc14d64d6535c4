//! Cases in, call sequences out: the mapping alone, against a function described in a line.
//!
//! Separate from the run over fixtures because nothing here is a record's content: record i
//! has sequence number `i` and holds `n` = i, and that is all a filter can ask for; the function
//! is a rule over these numbers, and time is virtual.
//! Unless a case has several `keys`, all records are changes of one item, and stay in one
//! sub-lane whatever `ParallelizationFactor` says.

mod case;

use self::case::Expected;
pub(super) use self::case::{Case, Discarded, Function};
use super::{
    lines::{self, LineError, lines},
    mapping::{
        Entry, Invocation, Millis, OnFailure, ParameterError, Reply, Shard, ShardIdentity, Step,
    },
};
use crate::record::{SequenceNumber, Source, Timestamp};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use std::io::{self, BufRead, Write};

/// After this many calls a case is given up as unfinished.
pub const CALLS_MAX: usize = 10_000;

/// What a run over all cases came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimulateSummary {
    /// Cases read.
    pub cases: usize,
    /// Cases that differ from their `expect`; zero unless checked.
    pub different: usize,
}

/// Why the cases could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// A line cannot be read, or is no case.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A case's `mapping` has something AWS or the desk does not take.
    #[error("line {line}: {error}")]
    Parameter {
        /// Counted from 1.
        line: usize,
        /// Which parameter and why.
        error: ParameterError,
    },
    /// The result cannot be written.
    #[error("the result cannot be written")]
    Write(#[source] io::Error),
}

/// What the mapping did in one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Trace {
    id: Value,
    pub(super) invocations: Vec<Vec<u64>>,
    pub(super) on_failure: Vec<Discarded>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unfinished: bool,
    /// What is sent to the destination, whole.
    #[serde(skip)]
    pub(super) documents: Vec<String>,
}

/// Runs every case and writes one line for each, in input order.
///
/// With `check` each result is held against the case's `expect`, and `difference` gets one
/// line of text for each difference.
///
/// # Errors
/// - The input cannot be read, or the output not written.
/// - A line is no case: the error names the line and the key.
pub fn simulate(
    input: impl BufRead,
    mut output: impl Write,
    check: bool,
    mut difference: impl FnMut(&str),
) -> Result<SimulateSummary, SimulateError> {
    let mut summary = SimulateSummary::default();
    for line in lines(input) {
        let (line, text) = line?;
        let case = Case::parse(&text, line)?;
        let trace = run(&case);
        serde_json::to_writer(&mut output, &trace)
            .map_err(|error| SimulateError::Write(error.into()))?;
        output.write_all(b"\n").map_err(SimulateError::Write)?;
        summary.cases += 1;
        if check {
            let differences = differences(&trace, case.expect.as_ref());
            summary.different += usize::from(!differences.is_empty());
            let id = lines::name(&case.id);
            for text in differences {
                difference(&format!("{id}: {text}"));
            }
        }
    }
    output.flush().map_err(SimulateError::Write)?;
    Ok(summary)
}

pub(super) fn run(case: &Case) -> Trace {
    let mut trace = Trace {
        id: case.id.clone(),
        invocations: Vec::new(),
        on_failure: Vec::new(),
        unfinished: false,
        documents: Vec::new(),
    };
    let mut shards: Vec<Feeding> =
        (0..case.shards.get()).map(|shard| Feeding::new(case, shard)).collect();
    let mut now = 0;
    loop {
        let mut wake: Option<Millis> = None;
        for shard in &mut shards {
            if !shard.attend(now, &mut wake, &mut trace) {
                trace.unfinished = true;
                return trace;
            }
        }
        let Some(moment) = wake else { return trace };
        now = moment;
    }
}

/// A shard of a case, and what is still to come of it.
struct Feeding<'c> {
    case: &'c Case,
    machine: Shard,
    /// The number of the next record, which is the case's last one or before it.
    next: u64,
}

impl<'c> Feeding<'c> {
    fn new(case: &'c Case, shard: u64) -> Self {
        let machine = Shard::new(identity(case.source, shard), case.parameters.clone());
        Self { case, machine, next: shard + 1 }
    }

    /// Does what is to be done at this moment; false if the case has made too many calls.
    fn attend(&mut self, now: Millis, wake: &mut Option<Millis>, trace: &mut Trace) -> bool {
        loop {
            match self.machine.poll(now) {
                Step::Invoke(_) if trace.invocations.len() == CALLS_MAX => return false,
                Step::Invoke(invocation) => {
                    let numbers = numbers(&invocation);
                    let reply = self.case.function.answer(&numbers);
                    trace.invocations.push(numbers);
                    self.machine.reply(invocation.id, now, reply);
                }
                Step::Deliver(on_failure) => {
                    trace.on_failure.push(discarded(&on_failure));
                    trace.documents.push(on_failure.to_json(None));
                }
                Step::Read if self.next <= self.case.records => {
                    self.machine.offer(entry(self.case, self.next));
                    self.next += self.case.shards.get();
                }
                Step::Read => self.machine.close(),
                Step::Wait(until) => {
                    *wake = Some(wake.map_or(until, |wake| wake.min(until)));
                    return true;
                }
                Step::Busy => unreachable!("every call is answered before the next poll"),
                Step::Done => return true,
            }
        }
    }
}

fn identity(source: Source, shard: u64) -> ShardIdentity {
    ShardIdentity {
        source,
        shard_id: format!("simulated-{shard}"),
        stream_arn: "simulated".to_owned(),
        function_arn: "simulated".to_owned(),
        mapping_uuid: "simulated".to_owned(),
        time_zero: Timestamp(0),
    }
}

fn entry(case: &Case, number: u64) -> Entry {
    let body = match case.source {
        Source::Kinesis => {
            let data = base64_simd::STANDARD.encode_to_string(format!(r#"{{"n":{number}}}"#));
            format!(r#"{{"kinesis":{{"sequenceNumber":"{number}","data":"{data}"}}}}"#)
        }
        Source::DynamoDb | Source::Sqs => format!(
            r#"{{"dynamodb":{{"SequenceNumber":"{number}","NewImage":{{"n":{{"N":"{number}"}}}}}}}}"#
        ),
    };
    Entry {
        sequence_number: SequenceNumber::new(number.to_string())
            .expect("a number is written in decimal digits"),
        key: case.key_of(number),
        arrival: Some(Timestamp(0)),
        present_since: 0,
        body: Bytes::from(body),
    }
}

fn number(sequence_number: &SequenceNumber<'_>) -> u64 {
    sequence_number.as_str().parse().expect("made from a number by `entry`")
}

fn numbers(invocation: &Invocation) -> Vec<u64> {
    invocation.records.iter().map(|entry| number(&entry.sequence_number)).collect()
}

fn discarded(on_failure: &OnFailure) -> Discarded {
    Discarded {
        first: on_failure.first().map(number),
        last: on_failure.last().map(number),
        batch_size: on_failure.records.len(),
        approximate_invoke_count: on_failure.approximate_invoke_count,
        condition: on_failure.condition.as_str().to_owned(),
        function_error: on_failure.function_error.map(str::to_owned),
    }
}

/// Every difference in words; empty when the trace is what was expected.
fn differences(trace: &Trace, expected: Option<&Expected>) -> Vec<String> {
    let Some(expected) = expected else {
        return vec!["no `expect` to check against".to_owned()];
    };
    let mut found = unequal("invocation", &expected.invocations, &trace.invocations);
    found.extend(unequal("on_failure", &expected.on_failure, &trace.on_failure));
    if expected.unfinished != trace.unfinished {
        found.push(format!(
            "unfinished: expected {}, got {}",
            expected.unfinished, trace.unfinished
        ));
    }
    found
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

impl case::Function {
    /// What the function does with these records.
    fn answer(&self, records: &[u64]) -> Reply {
        self.returned(records, u64::to_string).map_or(Reply::FunctionError, |response| {
            Reply::Returned(Bytes::from(response.to_string()))
        })
    }

    /// What the function returns for these records: none, if one of `throws_on` is among them;
    /// a report of those of `reports` that are, each by its identifier; otherwise `replies`, or
    /// an empty report.
    pub(in crate::local) fn returned(
        &self,
        records: &[u64],
        identifier: impl Fn(&u64) -> String,
    ) -> Option<Value> {
        if self.throws_on.iter().any(|number| records.contains(number)) {
            return None;
        }
        let reported = self.reports.iter().filter(|number| records.contains(number));
        let failures: Vec<Value> = reported
            .map(|number| serde_json::json!({ "itemIdentifier": identifier(number) }))
            .collect();
        Some(match &self.replies {
            Some(replies) if failures.is_empty() => replies.clone(),
            // The state is for windows; without them nobody looks at it.
            _ => serde_json::json!({ "batchItemFailures": failures, "state": {} }),
        })
    }
}
