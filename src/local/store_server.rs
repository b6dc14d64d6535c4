//! The embedded DynamoDB over HTTP, for a function in another process.
//!
//! The very store that the desk uses in its own process (`store/embedded.rs`), behind a port:
//! `AWS_ENDPOINT_URL_DYNAMODB` is all that a function in any language needs. It counts what it
//! is asked, since the function's own counts stay in the function's process. Where it is known
//! which invocation asks, the call meets its faults ([`ServedStore`]). What it gives up:
//! signatures are not checked, and it serves the operations of the embedded store only.

use super::{
    clock::Turn,
    endpoint::wire::{self, Call, Hosts, Reply, Service},
    faults::{Fault, Operation, Strike, with_unprocessed},
    http::{Answer, Server, hang_up},
};
use crate::store::{Usage, embedded::Embedded};
use bytes::Bytes;
use hyper::Request;
use serde::Deserialize;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// The variable by which every SDK finds a DynamoDB.
pub(super) const DYNAMODB_URL: &str = "AWS_ENDPOINT_URL_DYNAMODB";

/// A store as other processes ask it, and what it has been asked. Its clones are the same.
#[derive(Debug, Clone)]
pub struct ServedStore {
    store: Embedded,
    usage: Arc<Mutex<Usage>>,
}

impl ServedStore {
    /// Serves a store.
    #[must_use]
    pub fn new(store: Embedded) -> Self {
        Self { store, usage: Arc::default() }
    }

    /// What it has been asked so far, and what it said that cost.
    #[must_use]
    pub fn usage(&self) -> Usage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request; one of an invocation meets the faults of that.
    pub(super) fn answer(&self, request: &Request<Bytes>, turn: Option<&Turn>) -> Answer {
        let mut is_lost = false;
        let strike = |call: &Call<'_>| {
            let turn = turn?;
            let strike = turn.faults().strike(Operation::of_target(call.operation), call.body)?;
            Some((turn, strike))
        };
        let answer = wire::answer(request, Hosts::Loopback, |call| {
            if call.service != Service::DynamoDb {
                let message = "this is the store of `replay --exec`, which is DynamoDB alone";
                return wire::error(400, "UnknownOperationException", message);
            }
            match strike(&call) {
                None => self.perform(&call),
                Some((_, Strike::Refused(body))) => (400, body.to_string()),
                Some((turn, Strike::KeysHeldBack(rng))) => self.hold_back(&call, turn, rng),
                Some((_, Strike::AnswerLost)) => {
                    is_lost = true;
                    self.perform(&call)
                }
                Some((_, Strike::DiesBefore | Strike::DiesAfter)) => {
                    unreachable!("a process of its own is killed whole, not at a store call")
                }
            }
        });
        if is_lost { hang_up() } else { answer }
    }

    /// Answers a batch read without some of its keys.
    fn hold_back(&self, call: &Call<'_>, turn: &Turn, mut rng: fastrand::Rng) -> Reply {
        let (status, body) = self.perform(call);
        let whole = (status == 200).then_some(body.as_bytes());
        let part = whole.and_then(|body| with_unprocessed(call.body, body, &mut rng));
        if let Some(part) = part {
            return (status, part.to_string());
        }
        turn.faults().take_back(Fault::UnprocessedKeys, rng);
        (status, body)
    }

    fn perform(&self, call: &Call<'_>) -> Reply {
        let (status, body) = self.store.answer(call.operation, call.body);
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut usage, call.operation, &body);
        (status, body)
    }
}

/// A store behind a port. Dropping it closes the port; the store stays what it is.
#[derive(Debug)]
pub struct StoreServer {
    server: Server,
    store: ServedStore,
}

impl StoreServer {
    /// Serves a store on a free port of the loopback interface.
    ///
    /// # Errors
    /// The system gives no port.
    pub async fn start(store: Embedded) -> io::Result<Self> {
        let store = ServedStore::new(store);
        let asked = store.clone();
        let server = Server::start(move |request| {
            let answer = asked.answer(&request, None);
            async { answer }
        });
        Ok(Self { server: server.await?, store })
    }

    /// What to reach it by: the value of `AWS_ENDPOINT_URL_DYNAMODB`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What it has been asked since it was started, and what it said that cost.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.store.usage()
    }

    /// Closes the port and every connection; when it returns they are closed.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

fn count(usage: &mut Usage, operation: &str, answer: &str) {
    usage.calls += 1;
    let units = serde_json::from_str::<Costs>(answer).map_or(0.0, |costs| costs.units());
    let is_read = ["GetItem", "Query", "Scan"].iter().any(|read| operation.ends_with(read));
    *if is_read { &mut usage.read_units } else { &mut usage.write_units } += units;
}

/// What an answer says that its request cost.
#[derive(Deserialize)]
struct Costs {
    #[serde(rename = "ConsumedCapacity")]
    consumed: Option<Consumed>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Consumed {
    OfOneTable(Capacity),
    OfEachTable(Vec<Capacity>),
}

#[derive(Deserialize)]
struct Capacity {
    #[serde(rename = "CapacityUnits")]
    units: Option<f64>,
}

impl Costs {
    fn units(&self) -> f64 {
        let tables = match &self.consumed {
            None => &[],
            Some(Consumed::OfOneTable(table)) => std::slice::from_ref(table),
            Some(Consumed::OfEachTable(tables)) => tables,
        };
        tables.iter().filter_map(|table| table.units).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::count;
    use crate::store::Usage;

    #[test]
    fn reads_and_writes_are_counted_apart() {
        let mut usage = Usage::default();
        for (operation, answer) in [
            ("BatchGetItem", r#"{"ConsumedCapacity":[{"CapacityUnits":1.5}]}"#),
            ("GetItem", r#"{"ConsumedCapacity":{"CapacityUnits":1.0}}"#),
            ("PutItem", r#"{"ConsumedCapacity":{"CapacityUnits":4.0}}"#),
            ("PutItem", r#"{"__type":"ResourceNotFoundException"}"#),
            ("", "?"),
        ] {
            count(&mut usage, operation, answer);
        }
        assert_eq!(usage, Usage { calls: 5, write_units: 4.0, read_units: 2.5 });
    }
}
