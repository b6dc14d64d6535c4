//! Between the functions and their store: makes every call a step of the world, and fails some.
//!
//! As in `tamper.rs`, the product has no switch for what a control breaks: requests and answers
//! are rewritten on their way.

use super::world::World;
use crate::support;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::{
    body::SdkBody,
    date_time::{DateTime, Format},
};
use changefold::store::embedded::Embedded;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

/// What a control breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// An item that was scanned goes in whatever the ledger knows.
    PutWithoutCondition,
    /// Ledger rows have no fence.
    FenceForgotten,
    /// Nobody looks at the fence of the whole source.
    SourceFenceUnread,
    /// Rows of removed items have a time to live while views are built.
    TombstonesExpire,
    /// A reconcile reads the source before the ledger.
    SourceFirst,
    /// An invocation does not ask whether what is served has changed.
    RegistryNotReread,
    /// A backfill of a new generation does not wait.
    GenerationNotAwaited,
    /// A new generation takes records that were finished before it was served.
    GenerationNotFenced,
    /// Rows of what was dropped are deleted at once.
    DropNotAwaited,
}

/// How often things fail, one call in so many; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Troubles {
    pub(super) throttled: u32,
    pub(super) conflict: u32,
    pub(super) lost_answer: u32,
}

/// Units that a call of a backfill has used, and when.
pub(super) type Used = (i64, f64, f64);

/// What is seen of the calls.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) used: Vec<Used>,
    pub(super) met: BTreeMap<&'static str, u64>,
    /// Calls of the backfill that were killed.
    pub(super) died: u64,
    /// The source as it was before the ledger was read.
    before: BTreeMap<String, Value>,
}

/// A transport that is part of the world.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) world: Arc<World>,
    pub(super) store: Embedded,
    pub(super) troubles: Troubles,
    pub(super) broken: Option<Broken>,
    /// So many items has a page of a scan at most; 0 is no limit.
    pub(super) scan_limit: usize,
    /// One call in so many takes seconds; 0 is none.
    pub(super) stalls: u32,
    pub(super) seen: Arc<Mutex<Seen>>,
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
        HttpConnectorFuture::new(async move { wire.answer(&target, body).await })
    }
}

impl Wire {
    pub(super) fn client(&self) -> SharedHttpClient {
        support::client_of(self.clone())
    }

    fn count(&self, what: &'static str) {
        *self.seen.lock().unwrap().met.entry(what).or_default() += 1;
    }

    async fn answer(&self, target: &str, body: Vec<u8>) -> Result<HttpResponse, ConnectorError> {
        let operation = target.rsplit('.').next().unwrap_or_default();
        let mut body = body;
        self.world.step().await;
        if self.world.is_one_in(self.stalls) {
            self.world.pass(self.world.ms_below(8_000)).await;
        }
        if operation == "Scan" && self.scan_limit > 0 {
            let mut request: Value = serde_json::from_slice(&body).unwrap();
            request["Limit"] = json!(self.scan_limit);
            body = request.to_string().into_bytes();
        }
        if let Some(broken) = self.broken {
            let mut request: Value = serde_json::from_slice(&body).unwrap();
            if let Some(told) = self.break_protocol(broken, operation, &mut request).await {
                return Ok(response(200, told.to_string(), self.world.now()));
            }
            body = request.to_string().into_bytes();
        }
        if self.world.is_one_in(self.troubles.throttled) {
            self.count("throttled");
            return Ok(self.failed("ProvisionedThroughputExceededException", json!(null)));
        }
        if operation == "TransactWriteItems" && self.world.is_one_in(self.troubles.conflict) {
            self.count("conflict");
            let request: Value = serde_json::from_slice(&body).unwrap();
            let actions = request["TransactItems"].as_array().unwrap().len();
            let mut reasons = vec![json!({"Code": "None"}); actions];
            reasons[self.world.below(actions)] = json!({"Code": "TransactionConflict"});
            return Ok(self.failed("TransactionCanceledException", json!(reasons)));
        }
        let (status, told) = self.store.answer(target, &body);
        self.account(&told);
        let answered = self.world.now();
        self.world.step().await;
        if self.world.is_one_in(self.troubles.lost_answer) {
            self.count("lost_answer");
            return Err(ConnectorError::io("the answer was lost".into()));
        }
        Ok(response(status, told, answered))
    }

    fn failed(&self, code: &str, reasons: Value) -> HttpResponse {
        let told = json!({
            "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
            "message": "injected", "Message": "injected", "CancellationReasons": reasons,
        });
        response(400, told.to_string(), self.world.now())
    }

    fn account(&self, told: &str) {
        if !self.world.is_worker() || !told.contains("ConsumedCapacity") {
            return;
        }
        let told: Value = serde_json::from_str(told).unwrap();
        let consumed = &told["ConsumedCapacity"];
        let each = consumed.as_array().map_or(std::slice::from_ref(consumed), Vec::as_slice);
        let units: f64 = each.iter().filter_map(|it| it["CapacityUnits"].as_f64()).sum();
        let is_read = told.get("Responses").is_some()
            || told.get("Items").is_some()
            || told.get("Count").is_some();
        let now = self.world.now();
        let used = if is_read { (now, units, 0.0) } else { (now, 0.0, units) };
        self.seen.lock().unwrap().used.push(used);
    }

    /// Breaks one rule; gives an answer where the store is not asked.
    async fn break_protocol(
        &self,
        broken: Broken,
        operation: &str,
        request: &mut Value,
    ) -> Option<Value> {
        match (broken, operation) {
            (Broken::SourceFenceUnread, "BatchGetItem") => {
                let keys = request.pointer_mut("/RequestItems/ledger/Keys");
                if let Some(keys) = keys.and_then(Value::as_array_mut) {
                    let is_fence = |key: &Value| key["pk"]["S"].as_str().unwrap().starts_with("F#");
                    keys.retain(|key| !is_fence(key));
                }
                None
            }
            (Broken::SourceFirst, "BatchGetItem") => {
                let keys = request["RequestItems"]["ledger"]["Keys"].as_array();
                let key = |key: &Value| key["pk"]["S"].as_str().unwrap_or_default().to_owned();
                let keys: Vec<String> = keys.into_iter().flatten().map(key).collect();
                // Only a reconcile reads items beside the row of their run, and always does.
                let is_reconcile = keys.iter().any(|key| key.starts_with("B#"))
                    && keys.iter().any(|key| key.starts_with("K#"))
                    && self.world.is_worker();
                if is_reconcile {
                    self.remember_source();
                    for _ in 0..60 {
                        self.world.step().await;
                    }
                }
                None
            }
            (Broken::SourceFirst, "GetItem") => {
                let seen = self.seen.lock().unwrap();
                let item = seen.before.get(request["Key"]["pk"]["S"].as_str().unwrap());
                Some(item.map_or_else(|| json!({}), |item| json!({ "Item": item })))
            }
            (Broken::RegistryNotReread, "BatchGetItem") => {
                let keys = request.pointer_mut("/RequestItems/ledger/Keys");
                if let Some(keys) = keys.and_then(Value::as_array_mut).filter(|it| it.len() > 1) {
                    keys.retain(|key| key["pk"]["S"] != "V#served");
                }
                None
            }
            (_, "TransactWriteItems") => {
                let now = self.world.now();
                for action in request["TransactItems"].as_array_mut().unwrap() {
                    if let Some(put) = action.get_mut("Put") {
                        break_write(broken, put, now);
                    }
                }
                None
            }
            _ => None,
        }
    }

    fn remember_source(&self) {
        let scan = json!({ "TableName": "orders" }).to_string();
        let (_, told) = self.store.answer("DynamoDB_20120810.Scan", scan.as_bytes());
        let told: Value = serde_json::from_str(&told).unwrap();
        let items = told["Items"].as_array().unwrap().iter();
        let items = items.map(|item| (item["pk"]["S"].as_str().unwrap().to_owned(), item.clone()));
        self.seen.lock().unwrap().before = items.collect();
    }
}

fn break_write(broken: Broken, put: &mut Value, now: i64) {
    match broken {
        Broken::GenerationNotAwaited => {
            if let Some(row) = put.get_mut("Item").and_then(Value::as_object_mut) {
                row.remove("from_ms");
            }
        }
        Broken::GenerationNotFenced => {
            // The date is an hour too early, and what is waited for an hour later.
            let shift = |row: &mut Value, name: &str, ms: i64| {
                let moment = row.pointer_mut(&format!("/{name}/N"));
                if let Some(moment) = moment
                    && let Some(read) = moment.as_str().and_then(|it| it.parse::<i64>().ok())
                {
                    *moment = json!((read + ms).to_string());
                }
            };
            let served = put.pointer_mut("/Item/served/L").and_then(Value::as_array_mut);
            for entry in served.into_iter().flatten() {
                let since = entry.pointer("/M/since_ms/N").and_then(Value::as_str);
                let since = since.and_then(|since| since.parse::<i64>().ok());
                if since.is_some_and(|since| since > now - 1_800_000) {
                    shift(&mut entry["M"], "since_ms", -3_600_000);
                }
            }
            if let Some(item) = put.get_mut("Item") {
                shift(item, "from_ms", 3_600_000);
            }
        }
        Broken::DropNotAwaited => {
            let dropped = put.pointer_mut("/Item/dropped/L").and_then(Value::as_array_mut);
            for entry in dropped.into_iter().flatten() {
                if let Some(since) = entry.pointer_mut("/M/since_ms/N") {
                    *since = json!((now - 3_600_000).to_string());
                }
            }
        }
        _ => {}
    }
    let Some(put) = put.as_object_mut().filter(|put| put["Item"].get("c").is_some()) else {
        return;
    };
    match broken {
        Broken::PutWithoutCondition if put["Item"]["v"]["S"] == "" => {
            put.retain(|name, _| name == "TableName" || name == "Item");
        }
        Broken::FenceForgotten => {
            put["Item"].as_object_mut().unwrap().remove("f");
        }
        Broken::TombstonesExpire if put["Item"]["c"]["S"] == "{}" => {
            let ttl = (now / 1_000 + 2 * 86_400).to_string();
            put["Item"]["ttl"] = json!({ "N": ttl });
        }
        _ => {}
    }
}

fn response(status: u16, told: String, now: i64) -> HttpResponse {
    let mut response =
        HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(told));
    let date = DateTime::from_millis(now).fmt(Format::HttpDate).unwrap();
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response.headers_mut().insert("date", date);
    response
}
