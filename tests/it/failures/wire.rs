//! Between the function and its store: sees what is parked and taken out, and breaks the
//! protocol for the controls.
//!
//! As in `tamper.rs`, the product has no switch for this: requests and answers are rewritten
//! on their way.

use super::checker::Checker;
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use std::{fmt, sync::Arc};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Rows of records that were redriven are not found again.
    ReceiptsForgotten,
    /// Once it is fixed, the first parked record of a key does not queue behind itself.
    FromExclusive,
    /// Records queue behind a head whether or not it is open.
    OpenUnchecked,
    /// A key is closed whether or not the last of its records goes.
    CloseUnchecked,
    /// A park that was refused is taken for confirmed.
    RefusalTakenForParked,
    /// Tried records are remembered as finished ones.
    TriedMarkedFinished,
    /// A record that is parked already is parked again over it.
    ParkUnguarded,
    /// Parked records of a key are found last first.
    LastFirst,
    /// Both functions have one name.
    OneName,
    /// Of a queue's messages only the first unfinished is named.
    OnlyFirstNamed,
    /// A redrive takes records that others have overtaken, unasked.
    OvertakenUnchecked,
    /// Nobody knows which later records of a key were begun or finished.
    LaterForgotten,
    /// That a redrive has started a record is not kept.
    StartsForgotten,
    /// A drop knows no limit.
    LimitIgnored,
    /// Any failure counts for the last attempt.
    AnyAttemptCounts,
    /// Records without a key are parked where they have to stop the rest.
    UnkeyedParked,
}

impl Broken {
    /// Whether it is broken in the end as well.
    pub(crate) fn lasts(self) -> bool {
        matches!(
            self,
            Self::OneName
                | Self::OvertakenUnchecked
                | Self::LaterForgotten
                | Self::StartsForgotten
                | Self::LastFirst
                | Self::AnyAttemptCounts
        )
    }

    /// Whether it is broken on the wire, as opposed to the harness.
    fn is_on_the_wire(self) -> bool {
        match self {
            Self::ReceiptsForgotten
            | Self::FromExclusive
            | Self::OpenUnchecked
            | Self::CloseUnchecked
            | Self::RefusalTakenForParked
            | Self::TriedMarkedFinished
            | Self::ParkUnguarded
            | Self::LaterForgotten
            | Self::StartsForgotten
            | Self::LastFirst => true,
            Self::OneName
            | Self::OnlyFirstNamed
            | Self::OvertakenUnchecked
            | Self::LimitIgnored
            | Self::AnyAttemptCounts
            | Self::UnkeyedParked => false,
        }
    }
}

/// A transport that watches, and may break something.
#[derive(Clone)]
pub(crate) struct Wire {
    inner: SharedHttpClient,
    checker: Arc<Checker>,
    broken: Option<Broken>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Wire {
    pub(crate) fn wrap(
        inner: SharedHttpClient,
        checker: &Arc<Checker>,
        broken: Option<Broken>,
    ) -> SharedHttpClient {
        let broken = broken.filter(|it| it.is_on_the_wire());
        SharedHttpClient::new(Self { inner, checker: Arc::clone(checker), broken })
    }
}

impl HttpClient for Wire {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        let (checker, broken) = (Arc::clone(&self.checker), self.broken);
        SharedHttpConnector::new(Connector { inner, checker, broken })
    }
}

struct Connector {
    inner: SharedHttpConnector,
    checker: Arc<Checker>,
    broken: Option<Broken>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        if self.broken.is_none() && operation != "TransactWriteItems" && operation != "UpdateItem" {
            return self.inner.call(request);
        }
        let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        if let Some(broken) = self.broken {
            tamper_with_request(broken, &operation, &mut body);
            *request.body_mut() = SdkBody::from(body.to_string());
        }
        announce(&self.checker, &body);
        let answer = self.inner.call(request);
        let (checker, broken) = (Arc::clone(&self.checker), self.broken);
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await;
            if let (Some(broken), Ok(answer)) = (broken, &mut answer) {
                tamper_with_answer(broken, &operation, &body, answer, &checker);
            }
            let is_good = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
            if body["TableName"] == "progress" {
                checker.note_remembered(&body, is_good);
            } else if is_good {
                watch(&checker, &body);
            } else if let Ok(answer) = &answer {
                watch_refusal(&checker, &body, answer);
            }
            answer
        })
    }
}

/// A record that a transaction parks: which one, and the code of its failure.
fn parks<'b>(checker: &Checker, action: &'b Value) -> Option<(usize, &'b str)> {
    let item = &action["Put"]["Item"];
    let envelope: Value = serde_json::from_str(item["envelope"]["S"].as_str()?).ok()?;
    let at = checker.script.find(envelope["sequence_number"].as_str()?)?;
    Some((at, item["error_code"]["S"].as_str()?))
}

fn actions(body: &Value) -> impl Iterator<Item = &Value> {
    body["TransactItems"].as_array().into_iter().flatten()
}

fn place(key: &Value) -> (&str, &str) {
    (key["pk"]["S"].as_str().unwrap(), key["sk"]["S"].as_str().unwrap())
}

fn announce(checker: &Checker, body: &Value) {
    if body["ExpressionAttributeValues"].get(":starts").is_some() {
        let (pk, sk) = place(&body["Key"]);
        checker.note_start(pk, sk);
    }
    match body["ExpressionAttributeNames"]["#noted"].as_str() {
        Some("begun") => checker.count("a later record noted as begun"),
        Some("later") => checker.count("a later record noted as finished"),
        _ => {}
    }
    for action in actions(body) {
        if let Some((at, _)) = parks(checker, action) {
            let (pk, sk) = place(&action["Put"]["Item"]);
            checker.note_row(at, pk, sk);
            if action["Put"]["Item"]["parts"].is_object() {
                checker.count("parked in parts");
            }
        }
        if let Some(("dropped", pk, sk)) = settles(action) {
            checker.note_drop_asked(pk, sk);
        }
    }
}

/// A parked record that a transaction takes out: what becomes of it, and its row.
fn settles(action: &Value) -> Option<(&str, &str, &str)> {
    let fate = action["Update"]["ExpressionAttributeValues"][":fate"]["S"].as_str()?;
    let (pk, sk) = place(&action["Update"]["Key"]);
    Some((fate, pk, sk))
}

fn watch(checker: &Checker, body: &Value) {
    for action in actions(body) {
        if let Some((at, code)) = parks(checker, action) {
            checker.note_parked(at, code);
        }
        if let Some((_, pk, sk)) = settles(action) {
            checker.note_settled(pk, sk);
        }
        let values = &action["Update"]["ExpressionAttributeValues"];
        if values.get(":shut").is_some() {
            checker.count("closed");
        }
    }
}

fn watch_refusal(checker: &Checker, body: &Value, answer: &HttpResponse) {
    let told: Value =
        answer.body().bytes().and_then(|it| serde_json::from_slice(it).ok()).unwrap_or_default();
    let head = actions(body).position(|action| {
        action["Update"]["ConditionExpression"].as_str() == Some("is_open = :open")
    });
    let Some(head) = head else { return };
    if told["CancellationReasons"][head]["Code"] == "ConditionalCheckFailed" {
        for action in actions(body) {
            if let Some((at, _)) = parks(checker, action) {
                checker.note_refused(at);
            }
        }
    }
}

fn tamper_with_request(broken: Broken, operation: &str, body: &mut Value) {
    if operation == "UpdateItem" && broken == Broken::TriedMarkedFinished {
        mark_finished(body);
    }
    if broken == Broken::StartsForgotten
        && let Some(starts) = body["ExpressionAttributeValues"].get_mut(":starts")
    {
        *starts = json!({ "N": "0" });
    }
    if broken == Broken::ParkUnguarded {
        for action in body["TransactItems"].as_array_mut().into_iter().flatten() {
            if action["Put"]["Item"]["envelope"].is_object() {
                action["Put"].as_object_mut().unwrap().remove("ConditionExpression");
            }
        }
    }
    let (from, to, unused) = match broken {
        Broken::OpenUnchecked => ("is_open = :open", None, ":open"),
        Broken::CloseUnchecked => {
            ("lease_owner = :me AND parked = :one", Some("lease_owner = :me"), ":one")
        }
        _ => return,
    };
    for action in body["TransactItems"].as_array_mut().into_iter().flatten() {
        let Some(update) = action["Update"].as_object_mut() else { continue };
        if update.get("ConditionExpression").is_some_and(|condition| *condition == from) {
            match to {
                Some(to) => update["ConditionExpression"] = json!(to),
                None => drop(update.remove("ConditionExpression")),
            }
            update["ExpressionAttributeValues"].as_object_mut().unwrap().remove(unused);
        }
    }
}

/// Makes the note of failed attempts one of finished records.
fn mark_finished(body: &mut Value) {
    let names = body["ExpressionAttributeNames"].as_object().cloned().unwrap_or_default();
    let marks = names.iter().filter(|(name, _)| name.starts_with("#a"));
    let marks: Vec<String> = marks
        .filter_map(|(_, name)| {
            let mark = name.as_str()?.strip_prefix("a_")?;
            let mark = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(mark).ok()?;
            Some(base64_simd::STANDARD.encode_to_string(mark))
        })
        .collect();
    if marks.is_empty() {
        return;
    }
    let ttl = body["ExpressionAttributeValues"][":t"].clone();
    body.as_object_mut().unwrap().remove("ConditionExpression");
    body["UpdateExpression"] = json!("ADD ids :ids SET #t = :t");
    body["ExpressionAttributeNames"] = json!({ "#t": names["#t"] });
    body["ExpressionAttributeValues"] = json!({ ":t": ttl, ":ids": { "BS": marks } });
}

fn tamper_with_answer(
    broken: Broken,
    operation: &str,
    body: &Value,
    answer: &mut HttpResponse,
    checker: &Checker,
) {
    let text = answer.body().bytes().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    match (broken, operation) {
        (Broken::RefusalTakenForParked, "TransactWriteItems") => {
            let is_park = actions(body).any(|action| parks(checker, action).is_some());
            if is_park && text.contains("TransactionConflict") {
                *answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::from("{}"));
            }
        }
        (Broken::LastFirst, "Query") => {
            let Ok(mut told) = serde_json::from_str::<Value>(&text) else { return };
            let Some(rows) = told["Items"].as_array_mut() else { return };
            rows.reverse();
            *answer.body_mut() = SdkBody::from(told.to_string());
        }
        (Broken::ReceiptsForgotten, "BatchGetItem") => {
            rewrite_rows(answer, &text, |rows| rows.retain(|row| row["state"]["S"] != "done"));
        }
        (Broken::LaterForgotten, "BatchGetItem") => rewrite_rows(answer, &text, |rows| {
            for row in rows.iter_mut().filter_map(Value::as_object_mut) {
                row.retain(|name, _| name != "later" && name != "begun");
            }
        }),
        (Broken::FromExclusive, "BatchGetItem") if checker.is_fixed() => {
            rewrite_rows(answer, &text, |rows| {
                rows.retain(|row| row["state"]["S"] != "parked");
                // Only rows of entries: looking into another would add a member to it.
                for row in rows.iter_mut().filter(|row| row.get("e").is_some()) {
                    for entry in
                        row["e"]["M"].as_object_mut().into_iter().flat_map(|it| it.values_mut())
                    {
                        let moved =
                            format!("{}~", entry["S"].as_str().unwrap().trim_end_matches('~'));
                        entry["S"] = json!(moved);
                    }
                }
            });
        }
        _ => {}
    }
}

fn rewrite_rows(answer: &mut HttpResponse, text: &str, rewrite: impl FnOnce(&mut Vec<Value>)) {
    let Ok(mut told) = serde_json::from_str::<Value>(text) else { return };
    let Some(rows) = told["Responses"]["park"].as_array_mut() else { return };
    rewrite(rows);
    *answer.body_mut() = SdkBody::from(told.to_string());
}
