//! The embedded DynamoDB over HTTP, for a function in another process.
//!
//! The very store that the desk uses in its own process (`store/embedded.rs`), behind a port:
//! `AWS_ENDPOINT_URL_DYNAMODB` is all that a function in any language needs. It counts what it
//! is asked, since the function's own counts stay in the function's process. What it gives up:
//! signatures are not checked, and it serves the operations of the embedded store only.

use super::{
    endpoint::wire::{self, Call, Hosts, Reply, Service},
    http::Server,
};
use crate::store::{Usage, embedded::Embedded};
use serde::Deserialize;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// A store behind a port. Dropping it closes the port; the store stays what it is.
#[derive(Debug)]
pub struct StoreServer {
    server: Server,
    usage: Arc<Mutex<Usage>>,
}

impl StoreServer {
    /// Serves a store on a free port of the loopback interface.
    ///
    /// # Errors
    /// The system gives no port.
    pub async fn start(store: Embedded) -> io::Result<Self> {
        let usage = Arc::new(Mutex::new(Usage::default()));
        let counted = Arc::clone(&usage);
        let server = Server::start(move |request| {
            let serve = |call: Call<'_>| answer(&store, &counted, &call);
            let answer = wire::answer(&request, Hosts::Loopback, serve);
            async { answer }
        });
        Ok(Self { server: server.await?, usage })
    }

    /// What to reach it by: the value of `AWS_ENDPOINT_URL_DYNAMODB`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What it has been asked since it was started, and what it said that cost.
    #[must_use]
    pub fn usage(&self) -> Usage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the port and every connection; when it returns they are closed.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

fn answer(store: &Embedded, usage: &Mutex<Usage>, call: &Call<'_>) -> Reply {
    if call.service != Service::DynamoDb {
        let message = "this is the store of `replay --exec`, which is DynamoDB alone";
        return wire::error(400, "UnknownOperationException", message);
    }
    let (status, body) = store.answer(call.operation, call.body);
    count(&mut usage.lock().unwrap_or_else(PoisonError::into_inner), call.operation, &body);
    (status, body)
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
