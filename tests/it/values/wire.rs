//! Between the functions and their store: every call is a step, and some fail.
//!
//! A transaction is visible row by row: a query may still show rows of values that it has deleted,
//! while the group's row is read as it left it.

use super::checker;
use crate::{backfill::world::World, support};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use changefold::store::embedded::Embedded;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

const VALUES: &str = "ledger-values";
/// One call in so many.
const THROTTLED: u32 = 40;
const CONFLICT: u32 = 12;
const LOST: u32 = 25;
/// So many calls of all functions later a control does what belongs into a transaction.
const LATE_CALLS: u32 = 200;
/// For so many calls of all functions rows stay hidden whose transaction is never answered.
const HIDDEN_CALLS: u32 = 12;
/// So many queries show what was deleted, where they meet it.
const HALF_VISIBLE: u32 = 2;

/// What a control breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Values are counted behind the transaction, and not in it.
    ValuesApart,
    /// Whatever was read of a group's row, it is written.
    NoVersion,
    /// The same with the rows of values.
    ValuesUnconditional,
    /// A part of a change is written whatever the ledger's row has become.
    PartsUnguarded,
    /// Whoever has written an item is shown the joined item as it was before.
    MirrorsOnce,
    /// An item is joined again whatever the ledger's row has become.
    RejoinUnguarded,
    /// Which item is named is written behind the transaction, and not in it.
    ReferencesApart,
}

/// A transport that is part of the world.
#[derive(Clone)]
pub(super) struct Wire {
    world: Arc<World>,
    store: Embedded,
    broken: Option<Broken>,
    seen: Arc<Mutex<Seen>>,
    /// What this function was shown of joined items, and whether it has written since.
    shown: Arc<Mutex<(BTreeMap<String, Value>, bool)>>,
}

#[derive(Debug, Default)]
struct Seen {
    met: BTreeMap<&'static str, u64>,
    wrong: Option<String>,
    /// Rows of values that were deleted, and may still be shown.
    deleted: Vec<Value>,
    /// Rows of joins as they were before transactions that are not answered yet.
    hidden: Vec<Hidden>,
    /// What is done so many calls later.
    late: Vec<(u32, Value)>,
}

/// A row as it is shown for so many calls more, or that it is not shown.
#[derive(Debug, Clone)]
struct Hidden {
    key: Value,
    shown: Option<Value>,
    calls: u32,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let wire = self.clone();
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let body = request.body().bytes().unwrap_or_default().to_owned();
        HttpConnectorFuture::new(async move { wire.answer(&target, &body).await })
    }
}

impl Wire {
    pub(super) fn new(world: &Arc<World>, store: &Embedded, broken: Option<Broken>) -> Self {
        let (world, store, seen) = (Arc::clone(world), store.clone(), Arc::default());
        Self { world, store, broken, seen, shown: Arc::default() }
    }

    pub(super) fn client(&self) -> SharedHttpClient {
        support::client_of(Self { shown: Arc::default(), ..self.clone() })
    }

    /// What was wrong at a step.
    pub(super) fn wrong(&self) -> Option<String> {
        self.seen.lock().unwrap().wrong.clone()
    }

    pub(super) fn met(&self) -> BTreeMap<&'static str, u64> {
        self.seen.lock().unwrap().met.clone()
    }

    fn count(&self, what: &'static str) {
        *self.seen.lock().unwrap().met.entry(what).or_default() += 1;
    }

    async fn answer(&self, target: &str, body: &[u8]) -> Result<HttpResponse, ConnectorError> {
        let operation = target.rsplit('.').next().unwrap_or_default();
        self.world.step().await;
        self.do_late();
        let is_of_rows = matches!(operation, "BatchGetItem" | "Query" | "TransactWriteItems");
        if is_of_rows && self.world.is_one_in(THROTTLED) {
            self.count("throttled");
            return Ok(error(&json!({
                "__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException",
                "message": "too many",
            })));
        }
        if operation == "Query" {
            self.count("next");
        }
        let mut named = Vec::new();
        let answer = match operation {
            "TransactWriteItems" => self.transact(target, body, &mut named).await,
            "BatchGetItem" if self.broken == Some(Broken::MirrorsOnce) => {
                self.mirrors_once(body, self.store.answer(target, body))
            }
            "BatchGetItem" => {
                let request: Value = serde_json::from_slice(body).unwrap();
                self.hides_in(&request, self.store.answer(target, body))
            }
            "Query" if self.broken.is_none() => {
                let request: Value = serde_json::from_slice(body).unwrap();
                self.half_visible(&request, self.store.answer(target, body))
            }
            _ => self.store.answer(target, body),
        };
        if !named.is_empty() {
            self.world.step().await;
        }
        let is_lost = operation == "TransactWriteItems" && self.world.is_one_in(LOST);
        if !is_lost {
            // All of it is shown once it is answered.
            self.seen.lock().unwrap().hidden.retain(|row| !named.contains(&row.key));
        }
        if is_lost {
            self.count("lost");
            return Err(ConnectorError::timeout("the answer was lost".into()));
        }
        // What was read may be old by now.
        self.world.step().await;
        Ok(response(answer))
    }

    /// Shows rows that were deleted a moment ago, once at most.
    fn half_visible(&self, request: &Value, (status, answer): (u16, String)) -> (u16, String) {
        let partition = &request["ExpressionAttributeValues"][":pk"];
        if partition["S"].as_str().is_some_and(|key| key.contains("~1#j#")) {
            return self.hides_in(request, (status, answer));
        }
        let deleted = std::mem::take(&mut self.seen.lock().unwrap().deleted);
        if status != 200 || request["TableName"] != VALUES || !self.world.is_one_in(HALF_VISIBLE) {
            return (status, answer);
        }
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let rows = answer["Items"].as_array_mut().unwrap();
        let is_shown = |row: &Value| row["pk"] == *partition;
        let more: Vec<Value> = deleted.into_iter().filter(is_shown).collect();
        if !more.is_empty() {
            self.count("half visible");
        }
        rows.extend(more);
        let key = |row: &Value| row["sk"]["S"].as_str().unwrap().to_owned();
        rows.sort_by_key(key);
        rows.dedup_by_key(|row| key(row));
        if request["ScanIndexForward"] == false {
            rows.reverse();
        }
        rows.truncate(usize::try_from(request["Limit"].as_u64().unwrap()).unwrap());
        (status, answer.to_string())
    }

    /// Shows these rows of joins, as they are found, as they were before transactions that are not
    /// answered yet.
    fn hides(&self, rows: &mut Vec<Value>, is_asked: impl Fn(&Value) -> bool) {
        let key = |row: &Value| json!({"pk": row["pk"], "sk": row["sk"]});
        let hidden = self.seen.lock().unwrap().hidden.clone();
        for Hidden { key: hidden, shown, .. } in hidden.into_iter().filter(|it| is_asked(&it.key)) {
            self.count("hidden");
            rows.retain(|row| key(row) != hidden);
            rows.extend(shown);
        }
    }

    /// A query or a bulk read of rows of joins.
    fn hides_in(&self, request: &Value, (status, answer): (u16, String)) -> (u16, String) {
        if status != 200 || self.broken == Some(Broken::RejoinUnguarded) {
            return (status, answer);
        }
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let partition = &request["ExpressionAttributeValues"][":pk"];
        if let Some(rows) = answer["Items"].as_array_mut() {
            let is_named = |key: &Value| key["pk"] == *partition && key["sk"]["S"] != "=";
            self.hides(rows, is_named);
            rows.sort_by_key(|row| row["sk"]["S"].as_str().unwrap().to_owned());
        } else if let Some(keys) = request["RequestItems"][VALUES]["Keys"].as_array()
            && let Some(rows) = answer["Responses"][VALUES].as_array_mut()
        {
            self.hides(rows, |key| keys.contains(key));
        }
        (status, answer.to_string())
    }

    /// Shows who has written the joined items that he was shown before.
    fn mirrors_once(&self, body: &[u8], (status, answer): (u16, String)) -> (u16, String) {
        let request: Value = serde_json::from_slice(body).unwrap();
        let Some(keys) = request["RequestItems"][VALUES]["Keys"].as_array() else {
            return (status, answer);
        };
        if status != 200 || keys.iter().any(|key| key["sk"]["S"] != "=") {
            return (status, answer);
        }
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let rows = answer["Responses"][VALUES].as_array_mut().unwrap();
        let mut shown = self.shown.lock().unwrap();
        let (known, has_written) = &mut *shown;
        for key in keys {
            let is_it = |row: &&Value| row["pk"] == key["pk"];
            let row = rows.iter().find(is_it).cloned().unwrap_or(Value::Null);
            match known.get(&key["pk"].to_string()).filter(|_| *has_written) {
                None => drop(known.insert(key["pk"].to_string(), row)),
                Some(before) => {
                    rows.retain(|row| row["pk"] != key["pk"]);
                    rows.extend(Some(before).filter(|row| !row.is_null()).cloned());
                }
            }
        }
        *has_written = false;
        (status, answer.to_string())
    }

    async fn transact(&self, target: &str, body: &[u8], named: &mut Vec<Value>) -> (u16, String) {
        let mut request: Value = serde_json::from_slice(body).unwrap();
        if self.world.is_one_in(CONFLICT) {
            self.count("conflict");
            let actions = request["TransactItems"].as_array().unwrap().len();
            let mut reasons = vec![json!({"Code": "None"}); actions];
            reasons[actions - 1] = json!({"Code": "TransactionConflict"});
            return (400, cancelled(&reasons));
        }
        let actions = request["TransactItems"].as_array().unwrap();
        if actions.iter().filter_map(|it| it.get("Put")).any(is_part) {
            self.count("part");
        }
        if actions.iter().filter_map(|it| it.get("Update")).any(leaves_index) {
            self.count("leaves");
        }
        let apart = self.tamper(&mut request);
        let before = checker::scan(&self.store, VALUES);
        let (status, answer) = self.store.answer(target, request.to_string().as_bytes());
        if status == 200 {
            let actions = request["TransactItems"].as_array().unwrap().iter();
            let keys = actions.filter_map(|it| {
                let row = it.get("Put").map(|put| &put["Item"]);
                let row = row.or_else(|| it.get("Delete").map(|delete| &delete["Key"]))?;
                let is_of_join = row["pk"]["S"].as_str()?.contains("~1#j#");
                is_of_join.then(|| json!({"pk": row["pk"], "sk": row["sk"]}))
            });
            named.extend(keys);
            let mut seen = self.seen.lock().unwrap();
            // Nobody writes a row before it is shown.
            seen.hidden.retain(|row| !named.contains(&row.key));
            for key in &*named {
                let is_it = |row: &&serde_json::Map<String, Value>| {
                    row["pk"] == key["pk"] && row["sk"] == key["sk"]
                };
                let shown = before.iter().find(is_it).cloned().map(Value::Object);
                seen.hidden.push(Hidden { key: key.clone(), shown, calls: HIDDEN_CALLS });
            }
            drop(seen);
            self.shown.lock().unwrap().1 = true;
        }
        if status == 200 {
            let after = checker::scan(&self.store, VALUES);
            let is_deleted = |row: &&serde_json::Map<String, Value>| {
                !after.iter().any(|it| (&it["pk"], &it["sk"]) == (&row["pk"], &row["sk"]))
            };
            let deleted = before.iter().filter(is_deleted).cloned().map(Value::Object);
            self.seen.lock().unwrap().deleted.extend(deleted);
        }
        if status == 200 && !apart.is_empty() {
            self.world.step().await;
            let request = json!({ "TransactItems": apart });
            let (status, answer) = self.store.answer(target, request.to_string().as_bytes());
            assert_eq!(status, 200, "{answer}");
        }
        if status == 200 && self.broken.is_none() {
            self.count("checked");
            let wrong = checker::check(&self.store).err();
            let mut seen = self.seen.lock().unwrap();
            seen.wrong = seen.wrong.take().or(wrong);
        }
        if answer.contains("ConditionalCheckFailed") {
            self.count("overtaken");
        }
        (status, answer)
    }

    /// Does what a control does behind the transaction.
    fn do_late(&self) {
        let mut seen = self.seen.lock().unwrap();
        for (calls, action) in &mut seen.late {
            *calls -= 1;
            if *calls == 0 {
                let request = json!({ "TransactItems": [action] }).to_string();
                let target = "DynamoDB_20120810.TransactWriteItems";
                let (status, answer) = self.store.answer(target, request.as_bytes());
                assert_eq!(status, 200, "{answer}");
            }
        }
        seen.late.retain(|(calls, _)| *calls > 0);
        for row in &mut seen.hidden {
            row.calls -= 1;
        }
        seen.hidden.retain(|row| row.calls > 0);
    }

    /// Breaks a transaction as the control says; what is to be done behind it.
    fn tamper(&self, request: &mut Value) -> Vec<Value> {
        let actions = request["TransactItems"].as_array_mut().unwrap();
        let is_of_value = |action: &Value| {
            action.as_object().unwrap().values().all(|inner| inner["TableName"] == VALUES)
        };
        match self.broken {
            None | Some(Broken::MirrorsOnce) => {}
            Some(Broken::NoVersion) => {
                let groups = actions.iter_mut().filter(|it| !is_of_value(it));
                groups.filter_map(|it| it.get_mut("Update")).for_each(unconditional);
            }
            Some(Broken::ValuesUnconditional) => {
                actions.retain(|it| it.get("ConditionCheck").is_none());
                let values = actions.iter_mut().filter(|it| is_of_value(it));
                values.for_each(|it| {
                    it.as_object_mut().unwrap().values_mut().for_each(unconditional);
                });
            }
            Some(Broken::RejoinUnguarded) => {
                let updates = actions.iter_mut().filter_map(|it| it.get_mut("Update"));
                updates.filter(|it| it["TableName"] == "ledger").for_each(unconditional);
            }
            Some(Broken::ReferencesApart) => {
                let all = std::mem::take(actions);
                let is_reference = |action: &Value| {
                    let row = &action["Put"]["Item"];
                    row["pk"]["S"].as_str().is_some_and(|key| key.contains("~1#j#"))
                        && row["sk"]["S"] != "="
                };
                let (apart, within): (Vec<_>, Vec<_>) = all.into_iter().partition(is_reference);
                *actions = within;
                let late = &mut self.seen.lock().unwrap().late;
                late.extend(apart.into_iter().map(|action| (LATE_CALLS, action)));
            }
            Some(Broken::PartsUnguarded) => {
                let parts = actions.iter_mut().filter_map(|it| it.get_mut("Put"));
                parts.filter(|put| is_part(put)).for_each(unconditional);
            }
            Some(Broken::ValuesApart) => {
                actions.retain(|it| it.get("ConditionCheck").is_none());
                let all = std::mem::take(actions);
                let (mut apart, within): (Vec<_>, Vec<_>) = all.into_iter().partition(is_of_value);
                *actions = within;
                for action in &mut apart {
                    action.as_object_mut().unwrap().values_mut().for_each(unconditional);
                }
                return apart;
            }
        }
        Vec::new()
    }
}

fn is_part(put: &Value) -> bool {
    put["Item"].get("part").is_some()
}

fn leaves_index(update: &Value) -> bool {
    let expression = update["UpdateExpression"].as_str();
    expression.is_some_and(|it| it.contains("REMOVE #top"))
}

/// Takes the condition off an action, and what only that uses.
fn unconditional(action: &mut Value) {
    let action = action.as_object_mut().unwrap();
    if action.remove("ConditionExpression").is_none() {
        return;
    }
    let update = action.get("UpdateExpression").and_then(Value::as_str).unwrap_or_default();
    let is_sign = |sign: char| !sign.is_alphanumeric() && sign != '#' && sign != ':';
    let used: Vec<String> = update.split(is_sign).map(str::to_owned).collect();
    for part in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
        if let Some(names) = action.get_mut(part).and_then(Value::as_object_mut) {
            names.retain(|name, _| used.contains(name));
            if names.is_empty() {
                action.remove(part);
            }
        }
    }
}

fn cancelled(reasons: &[Value]) -> String {
    json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled",
        "CancellationReasons": reasons,
    })
    .to_string()
}

fn error(answer: &Value) -> HttpResponse {
    response((400, answer.to_string()))
}

pub(super) fn response((status, answer): (u16, String)) -> HttpResponse {
    let mut response =
        HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(answer));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}
