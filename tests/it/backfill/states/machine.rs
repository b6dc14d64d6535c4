//! As much of the states language as `infra/backfill.asl.json` uses, and no more.
//!
//! A state, a field, a path or a function that it does not know ends the test: what is not
//! interpreted here was not tested. Rules: "States language specification" and the Step Functions
//! developer guide. `DIFFERENCE`: items of a map are worked on one after another, a retry waits
//! without jitter, and the limits of a payload are not looked at.

use serde_json::{Map, Value, json};
use std::future::Future;

/// How an execution ends that fails: error and cause.
pub(super) type Failed = (String, String);

/// What a machine asks, and the time that it passes.
pub(super) trait World {
    /// Invokes the function; what it answers, or the name of the error.
    fn invoke(&self, payload: &Value) -> impl Future<Output = Result<Value, String>>;
    /// Passes the time of a wait.
    fn wait(&self, seconds: u64);
}

/// What is seen of an execution.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The states that were entered.
    pub(super) states: Vec<String>,
    /// Events of the longest history: of the execution or of one of its map's.
    pub(super) events_max: u64,
    /// Retries of tasks.
    pub(super) retries: u64,
}

/// Executes a machine to its end.
pub(super) async fn execute(
    machine: &Value,
    input: Value,
    world: &impl World,
    seen: &mut Seen,
) -> Result<Value, Failed> {
    known(machine, &["Comment", "StartAt", "States", "ProcessorConfig"]);
    let mut name = text(&machine["StartAt"]).to_owned();
    let (mut data, mut events) = (input, 2);
    loop {
        let state = &machine["States"][&name];
        seen.states.push(name.clone());
        events += 2;
        let next = match text(&state["Type"]) {
            "Pass" => {
                known(state, &["Type", "Comment", "Parameters", "Next"]);
                data = template(&state["Parameters"], &data, None);
                state
            }
            "Task" => {
                let result = task(state, &data, world, seen, &mut events).await?;
                data = placed(state, data, result);
                state
            }
            "Map" => {
                let result = Box::pin(map(state, &data, world, seen)).await?;
                data = placed(state, data, result);
                state
            }
            "Choice" => {
                known(state, &["Type", "Comment", "Choices", "Default"]);
                let chosen = list(&state["Choices"]).iter().find(|rule| holds(rule, &data));
                name = text(chosen.map_or(&state["Default"], |rule| &rule["Next"])).to_owned();
                continue;
            }
            "Wait" => {
                known(state, &["Type", "Comment", "Seconds", "SecondsPath", "Next"]);
                let seconds = state.get("SecondsPath").map(|it| path(text(it), &data, None));
                let seconds = seconds.unwrap_or_else(|| state["Seconds"].clone());
                world.wait(seconds.as_u64().expect("whole seconds"));
                state
            }
            "Succeed" => {
                known(state, &["Type", "Comment"]);
                seen.events_max = seen.events_max.max(events);
                return Ok(data);
            }
            "Fail" => {
                known(state, &["Type", "Comment", "Error", "Cause"]);
                return Err((text(&state["Error"]).to_owned(), text(&state["Cause"]).to_owned()));
            }
            other => panic!("{name}: a state of type {other}"),
        };
        name = text(&next["Next"]).to_owned();
    }
}

async fn task(
    state: &Value,
    data: &Value,
    world: &impl World,
    seen: &mut Seen,
    events: &mut u64,
) -> Result<Value, Failed> {
    let fields = ["Type", "Comment", "Resource", "Parameters", "ResultSelector", "ResultPath"];
    known(state, &[&fields[..], &["TimeoutSeconds", "Retry", "Next"]].concat());
    assert_eq!(state["Resource"], "arn:aws:states:::lambda:invoke");
    let parameters = template(&state["Parameters"], data, None);
    known(&parameters, &["FunctionName", "Payload"]);
    assert_eq!(parameters["FunctionName"], "${FunctionArn}");
    let retriers = list(&state["Retry"]);
    let mut attempts = vec![0; retriers.len()];
    loop {
        *events += 3;
        let error = match world.invoke(&parameters["Payload"]).await {
            Ok(payload) => {
                let result = json!({ "StatusCode": 200, "Payload": payload });
                return Ok(template(&state["ResultSelector"], &result, None));
            }
            Err(error) => error,
        };
        let matches =
            |retrier: &Value| list(&retrier["ErrorEquals"]).iter().any(|it| *it == json!(error));
        let Some(at) = retriers.iter().position(matches) else {
            return Err((error, "nobody retries it".to_owned()));
        };
        let fields = ["ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate"];
        known(&retriers[at], &[&fields[..], &["MaxDelaySeconds", "JitterStrategy"]].concat());
        let number = |name: &str, otherwise: u64| retriers[at][name].as_u64().unwrap_or(otherwise);
        if attempts[at] >= number("MaxAttempts", 3) {
            return Err((error, "its retries are used up".to_owned()));
        }
        let power = u32::try_from(attempts[at]).unwrap();
        let delay = number("IntervalSeconds", 1) * number("BackoffRate", 2).pow(power);
        world.wait(delay.min(number("MaxDelaySeconds", u64::MAX)));
        attempts[at] += 1;
        seen.retries += 1;
    }
}

async fn map(
    state: &Value,
    data: &Value,
    world: &impl World,
    seen: &mut Seen,
) -> Result<Value, Failed> {
    let fields = ["Type", "Comment", "ItemsPath", "ItemSelector", "MaxConcurrency"];
    known(state, &[&fields[..], &["ItemProcessor", "ResultPath", "Next"]].concat());
    let processor = &state["ItemProcessor"];
    assert_eq!(
        processor["ProcessorConfig"],
        json!({ "Mode": "DISTRIBUTED", "ExecutionType": "STANDARD" })
    );
    let mut results = Vec::new();
    for (index, item) in list(&path(text(&state["ItemsPath"]), data, None)).iter().enumerate() {
        let context = json!({ "Map": { "Item": { "Index": index, "Value": item } } });
        let input = template(&state["ItemSelector"], data, Some(&context));
        results.push(execute(processor, input, world, seen).await?);
    }
    Ok(json!(results))
}

/// Where the result of a state goes.
fn placed(state: &Value, mut data: Value, result: Value) -> Value {
    let Some(place) = state.get("ResultPath") else { return result };
    let name = text(place).strip_prefix("$.").filter(|name| !name.contains(['.', '[']));
    data[name.unwrap_or_else(|| panic!("a result path {place}"))] = result;
    data
}

fn holds(rule: &Value, data: &Value) -> bool {
    let combined = |name: &str| rule.get(name).map(list);
    if let Some(rules) = combined("Or") {
        known(rule, &["Or", "Next"]);
        return rules.iter().any(|rule| holds(rule, data));
    }
    if let Some(denied) = rule.get("Not") {
        known(rule, &["Not", "Next"]);
        return !holds(denied, data);
    }
    let compared = ["StringEquals", "NumericGreaterThan", "NumericGreaterThanEquals"];
    known(rule, &[&["Variable", "Next"], &compared[..]].concat());
    let found = path(text(&rule["Variable"]), data, None);
    // A variable of another type fulfils no comparison.
    let number = |name: &str| Some((found.as_i64()?, rule.get(name)?.as_i64()?));
    rule.get("StringEquals").is_some_and(|wanted| found.is_string() && *wanted == found)
        || number("NumericGreaterThan").is_some_and(|(found, than)| found > than)
        || number("NumericGreaterThanEquals").is_some_and(|(found, than)| found >= than)
}

/// A payload template, filled in.
fn template(template: &Value, data: &Value, context: Option<&Value>) -> Value {
    let Value::Object(fields) = template else { return template.clone() };
    let filled = fields.iter().map(|(name, value)| match name.strip_suffix(".$") {
        Some(name) => (name.to_owned(), expression(text(value), data, context)),
        None => (name.clone(), self::template(value, data, context)),
    });
    Value::Object(filled.collect::<Map<_, _>>())
}

fn expression(text: &str, data: &Value, context: Option<&Value>) -> Value {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return json!(number);
    }
    let Some(call) = text.strip_prefix("States.").and_then(|call| call.strip_suffix(')')) else {
        return path(text, data, context);
    };
    let (name, arguments) = call.split_once('(').expect("a function");
    let numbers: Vec<i64> = arguments_of(arguments)
        .into_iter()
        .map(|it| expression(it, data, context).as_i64().expect("a number"))
        .collect();
    match (name, numbers.as_slice()) {
        ("MathAdd", [a, b]) => json!(a + b),
        ("ArrayRange", [first, last, 1]) => {
            let range: Vec<i64> = (*first..=*last).collect();
            assert!(range.len() <= 1_000, "an array of {}", range.len());
            json!(range)
        }
        _ => panic!("States.{name} of {numbers:?}"),
    }
}

/// The arguments of a function, which may be functions themselves.
fn arguments_of(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[from..]);
    found
}

/// What a path finds; a path that finds nothing fails an execution.
fn path(path: &str, data: &Value, context: Option<&Value>) -> Value {
    let (root, rest) = match path.strip_prefix("$$") {
        Some(rest) => (context.expect("only an item selector looks at the context"), rest),
        None => (data, path.strip_prefix('$').unwrap_or_else(|| panic!("a path {path}"))),
    };
    let mut found = root;
    for part in rest.split(['.', '[']).filter(|part| !part.is_empty()) {
        let next = match part.strip_suffix(']') {
            Some(index) => found.get(index.parse::<usize>().expect("a number in brackets")),
            None => found.get(part),
        };
        found = next.unwrap_or_else(|| panic!("{path} finds nothing in {data}"));
    }
    found.clone()
}

/// Refuses what has a field that nobody interprets.
fn known(object: &Value, fields: &[&str]) {
    for field in object.as_object().expect("an object").keys() {
        assert!(fields.contains(&field.as_str()), "{field} is not interpreted");
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
