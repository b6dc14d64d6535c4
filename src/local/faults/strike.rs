//! What becomes of a store call that meets a fault, wherever it comes from: from this process
//! through the SDK's HTTP client, or from another one to the store that is served to it.
//!
//! Answers made up here have the bytes of DynamoDB's own (AWS JSON 1.0, API version 2012-08-10),
//! so that the SDK's parser and the function's own handling of errors are part of what is tested.

use super::{Fault, Operation};
use serde_json::{Map, Value, json};

/// What becomes of the call.
#[derive(Debug)]
pub(in crate::local) enum Strike {
    /// It is not performed, and refused with status 400 and this body.
    Refused(Value),
    /// It is performed, and its answer is lost.
    AnswerLost,
    /// It is performed, and some keys are taken out of its answer ([`with_unprocessed`]).
    KeysHeldBack(fastrand::Rng),
    /// Its process dies before it is performed.
    DiesBefore,
    /// It is performed, and its process dies before it learns so.
    DiesAfter,
}

impl Strike {
    /// What a fault does to the call of `operation` with the body `asked`.
    pub(super) fn of(
        fault: Fault,
        operation: Operation,
        asked: &[u8],
        mut rng: fastrand::Rng,
    ) -> Self {
        match fault {
            Fault::CrashBeforeStoreCall => Self::DiesBefore,
            Fault::CrashAfterStoreCall => Self::DiesAfter,
            Fault::LostAnswer => Self::AnswerLost,
            Fault::Throttling => Self::Refused(throttled(&mut rng)),
            Fault::TransactionConflict => Self::Refused(conflict(operation, asked, &mut rng)),
            Fault::UnprocessedKeys => Self::KeysHeldBack(rng),
            Fault::FunctionError | Fault::Timeout | Fault::LostReply | Fault::DuplicateDelivery => {
                unreachable!("a fault of the whole invocation is never armed on its store calls")
            }
        }
    }
}

fn throttled(rng: &mut fastrand::Rng) -> Value {
    let (name, message) = if rng.bool() {
        ("ThrottlingException", "Rate of requests exceeds the allowed throughput.")
    } else {
        (
            "ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded. \
             Consider increasing your provisioning level with the UpdateTable API.",
        )
    };
    let namespace = match name {
        "ThrottlingException" => "com.amazon.coral.availability",
        _ => "com.amazonaws.dynamodb.v20120810",
    };
    json!({ "__type": format!("{namespace}#{name}"), "message": message })
}

/// A transaction is cancelled with one conflict among its actions; a plain write meets the
/// exception of its own.
fn conflict(operation: Operation, asked: &[u8], rng: &mut fastrand::Rng) -> Value {
    const ONGOING: &str = "Transaction is ongoing for the item";
    if !matches!(operation, Operation::Transaction { .. }) {
        return json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException",
            "message": ONGOING,
        });
    }
    let actions = serde_json::from_slice::<Value>(asked)
        .ok()
        .and_then(|body| body.get("TransactItems")?.as_array().map(Vec::len))
        .unwrap_or(1)
        .max(1);
    let hit = rng.usize(..actions);
    let code = |at: usize| if at == hit { "TransactionConflict" } else { "None" };
    let reasons: Vec<_> = (0..actions)
        .map(|at| {
            if at == hit {
                json!({ "Code": code(at), "Message": ONGOING })
            } else {
                json!({ "Code": code(at) })
            }
        })
        .collect();
    let codes: Vec<_> = (0..actions).map(code).collect();
    json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "CancellationReasons": reasons,
        "Message": format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            codes.join(", ")
        ),
    })
}

/// Takes about half of the keys out of an answered batch read and lists them as unprocessed.
///
/// The request itself has gone out whole: it is signed. None when it is not a batch read.
pub(in crate::local) fn with_unprocessed(
    asked: &[u8],
    answer: &[u8],
    rng: &mut fastrand::Rng,
) -> Option<Value> {
    let asked: Value = serde_json::from_slice(asked).ok()?;
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    let mut unprocessed = Map::new();
    for (table, request) in asked.get("RequestItems")?.as_object()? {
        let keys = request.get("Keys")?.as_array()?;
        let (kept, held): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|_| rng.bool());
        // At least one key has to be held back, or there is no fault.
        let held = if held.is_empty() { kept.into_iter().take(1).collect() } else { held };
        if let Some(items) = answer["Responses"][table].as_array_mut() {
            items.retain(|item| !held.iter().any(|key| is_item(item, key)));
        }
        let mut rest = request.clone();
        rest["Keys"] = Value::Array(held);
        unprocessed.insert(table.clone(), rest);
    }
    answer["UnprocessedKeys"] = Value::Object(unprocessed);
    Some(answer)
}

fn is_item(item: &Value, key: &Value) -> bool {
    key.as_object().is_some_and(|key| key.iter().all(|(name, part)| item.get(name) == Some(part)))
}
