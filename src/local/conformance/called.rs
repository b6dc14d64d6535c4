//! Where the functions of the cases ask what to do.
//!
//! Each case has a path of its own. What a function was called with is kept, and which record has
//! which sequence number: the destination names records by these alone.

use crate::local::{
    http::{self, Answer, Server},
    simulate::Function,
};
use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A function's rule, and what it was called with.
#[derive(Debug, Clone, Default)]
pub(super) struct Played {
    function: Function,
    /// The record numbers of each call.
    pub(super) calls: Vec<Vec<u64>>,
    /// The record numbers by sequence number.
    pub(super) numbers: BTreeMap<String, u64>,
}

/// The server that functions ask.
#[derive(Debug)]
pub(super) struct Asking {
    server: Server,
    /// By path.
    played: Arc<Mutex<BTreeMap<String, Played>>>,
}

impl Asking {
    pub(super) async fn start(address: SocketAddr) -> io::Result<Self> {
        let played = Arc::<Mutex<BTreeMap<String, Played>>>::default();
        let asked = Arc::clone(&played);
        let server = Server::start_at(address, move |request: Request<Bytes>| {
            let told = match lock(&asked).get_mut(request.uri().path()) {
                Some(played) => played.answer(request.body()),
                None => json!({ "error": "no case asks any more" }),
            };
            std::future::ready(answer(&told))
        });
        Ok(Self { server: server.await?, played })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Answers at this path as this function does.
    pub(super) fn play(&self, path: &str, function: &Function) {
        let played = Played { function: function.clone(), ..Played::default() };
        lock(&self.played).insert(path.to_owned(), played);
    }

    /// What was asked at this path so far.
    pub(super) fn played(&self, path: &str) -> Played {
        lock(&self.played).get(path).cloned().unwrap_or_default()
    }

    /// Answers no more at this path.
    pub(super) fn forget(&self, path: &str) {
        lock(&self.played).remove(path);
    }
}

fn lock(played: &Mutex<BTreeMap<String, Played>>) -> MutexGuard<'_, BTreeMap<String, Played>> {
    played.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(told: &Value) -> Answer {
    http::json(200, "application/json", told.to_string())
}

impl Played {
    /// Takes note of a call, and tells what the function does.
    fn answer(&mut self, event: &[u8]) -> Value {
        let event: Value = serde_json::from_slice(event).unwrap_or_default();
        let records = event["Records"].as_array().map(Vec::as_slice).unwrap_or_default();
        let read: Option<Vec<(u64, String)>> = records.iter().map(read).collect();
        let Some(read) = read else {
            return json!({ "error": "a record without its number, or without a sequence number" });
        };
        let numbers: Vec<u64> = read.iter().map(|(number, _)| *number).collect();
        let identifiers: BTreeMap<u64, &str> =
            read.iter().map(|(number, position)| (*number, position.as_str())).collect();
        let returned = self.function.returned(&numbers, |number| {
            identifiers.get(number).copied().unwrap_or_default().to_owned()
        });
        self.numbers.extend(read.iter().map(|(number, position)| (position.clone(), *number)));
        self.calls.push(numbers);
        match returned {
            Some(reply) => json!({ "reply": reply }),
            None => json!({ "error": "the case says so" }),
        }
    }
}

/// A record's number and its sequence number.
fn read(record: &Value) -> Option<(u64, String)> {
    if let Some(change) = record.get("dynamodb") {
        let number = change["NewImage"]["n"]["N"].as_str()?.parse().ok()?;
        return Some((number, change["SequenceNumber"].as_str()?.to_owned()));
    }
    let data = base64_simd::STANDARD.decode_to_vec(record["kinesis"]["data"].as_str()?).ok()?;
    let data: Value = serde_json::from_slice(&data).ok()?;
    Some((data["n"].as_u64()?, record["kinesis"]["sequenceNumber"].as_str()?.to_owned()))
}
