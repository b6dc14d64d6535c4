//! An operator's requests to the function: what a drop, a redrive and a look keep to.
//!
//! Requests and answers are the documented JSON, the store is the embedded one, and time passes
//! only where a record takes some.

mod looks;
mod redrives;
mod switch;

use crate::support::{self, block_on, local_endpoint, order};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    batch::lanes::Lanes,
    call::{Call, Halt},
    clock::Clock,
    handler::Function,
    outcome::Answer,
    processor::{Context, Failure, Processor},
    record::{Change, Timestamp},
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
    },
    store::{Store, embedded::Embedded},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    num::NonZeroUsize,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

/// How long an invocation may take, in milliseconds.
const TIMEOUT_MS: i64 = 60_000;

/// A hanging record goes on for so long if nobody cancels it: an hour.
const HANGS_MS: i64 = 3_600_000;

/// A clock that a record moves.
#[derive(Debug, Default)]
pub(crate) struct Moved(Mutex<(i64, Vec<Waker>)>);

impl Moved {
    fn pass(&self, milliseconds: i64) {
        let mut time = self.0.lock().unwrap();
        time.0 += milliseconds;
        time.1.drain(..).for_each(Waker::wake);
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.lock().unwrap().0)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.pass(i64::try_from(duration.as_millis()).unwrap());
        std::future::ready(()).boxed()
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        unreachable!("a shared clock watches")
    }
}

/// The clock as the function has it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Shared(Arc<Moved>);

impl Clock for Shared {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    fn watch(&self, Timestamp(moment): Timestamp) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.0);
        std::future::poll_fn(move |context| {
            let mut time = clock.0.lock().unwrap();
            if time.0 >= moment {
                return Poll::Ready(());
            }
            time.1.push(context.waker().clone());
            Poll::Pending
        })
        .boxed()
    }
}

/// A shop in which a record does what it is told to by its sequence number.
pub(crate) struct Shop {
    clock: Shared,
    fates: RefCell<BTreeMap<String, &'static str>>,
    others: Cell<&'static str>,
    /// Records the processor was called with, and those that had their effect.
    called: RefCell<Vec<String>>,
    effects: RefCell<Vec<String>>,
    is_killed: Cell<bool>,
}

impl Shop {
    fn tell(&self, number: u32, fate: &'static str) {
        self.fates.borrow_mut().insert(number.to_string(), fate);
    }

    /// What was called since it was asked last.
    fn called(&self) -> Vec<String> {
        self.called.take()
    }
}

impl Processor for Shop {
    type Item<'a> = IgnoredAny;

    async fn process(&self, _: Change<IgnoredAny>, at: &Context<'_>) -> Result<(), Failure> {
        let number = at.sequence_number().as_str().to_owned();
        self.called.borrow_mut().push(number.clone());
        let fate = self.fates.borrow().get(&number).copied().unwrap_or(self.others.get());
        match fate {
            "park" => return Err(Failure::park("it refuses").with_code("Refused")),
            "down" => return Err(Failure::retry("no answer").with_code("ShopDown")),
            "halt" => return Err(Failure::halt("no shop").with_code("ShopGone")),
            "hang" => {
                for _ in 0..HANGS_MS / 100 {
                    self.clock.0.pass(100);
                    tokio::task::yield_now().await;
                }
            }
            "kill" => {
                self.is_killed.set(true);
                std::future::pending::<()>().await;
            }
            // Others have begun when it goes on.
            _ => tokio::task::yield_now().await,
        }
        self.effects.borrow_mut().push(number);
        Ok(())
    }
}

/// A function over a shop, its park, and its store.
pub(crate) struct Bench {
    function: Function<Lanes<Shop>>,
    clock: Shared,
    store: Embedded,
}

impl Bench {
    fn new(concurrency: usize) -> Self {
        let store = Embedded::open(None).unwrap();
        Self::over(store.clone(), SharedHttpClient::new(store), concurrency)
    }

    fn over(store: Embedded, client: SharedHttpClient, concurrency: usize) -> Self {
        let clock = Shared::default();
        clock.0.pass(1_772_442_000_000);
        let of_store = Store::new(client, &local_endpoint(None), Arc::new(clock.clone()), 1);
        let park = Park::new(of_store, "park".to_owned(), OnPark::Hold, 24);
        let durable = DurableState::none().with_park(park).of_function("shop", "1");
        block_on(durable.ensure_tables(support::FOREVER)).unwrap();
        let shop = Shop {
            clock: clock.clone(),
            fates: RefCell::default(),
            others: Cell::new("ok"),
            called: RefCell::default(),
            effects: RefCell::default(),
            is_killed: Cell::new(false),
        };
        let lanes = Lanes::new(shop, Arc::new(clock.clone()))
            .with_durable_state(durable)
            .with_concurrency(NonZeroUsize::new(concurrency).unwrap());
        let function = Function::new(lanes, Arc::new(clock.clone()));
        Self { function, clock, store }
    }

    fn shop(&self) -> &Shop {
        self.function.work().processor()
    }

    fn call(&self) -> Call {
        Call::new("operator", Timestamp(self.clock.now().0 + TIMEOUT_MS))
    }

    async fn invoke_to(&self, payload: &str, call: &Call) -> Result<Value, Halt> {
        self.function.invoke(payload.as_bytes(), call).await.map(|answer| match answer {
            Answer::Operation(answer) => answer,
            Answer::Reply(reply) => serde_json::to_value(reply).unwrap(),
        })
    }

    fn invoke(&self, payload: &str) -> Result<Value, Halt> {
        block_on(self.invoke_to(payload, &self.call()))
    }

    /// Delivers records, each a number and a key, of the table `orders`.
    #[track_caller]
    fn deliver(&self, records: &[(u32, &str)]) {
        assert_eq!(self.invoke(&event(records)).unwrap(), json!({"batchItemFailures": []}));
    }

    /// Parks the first record of each key, and the others behind.
    #[track_caller]
    fn park(&self, records: &[(u32, &str)]) {
        self.shop().others.set("park");
        self.deliver(records);
        self.shop().others.set("ok");
        self.shop().called();
    }

    #[track_caller]
    fn ask(&self, operation: &str, of: Value) -> Value {
        self.try_to_ask(operation, of).unwrap()
    }

    fn try_to_ask(&self, operation: &str, of: Value) -> Result<Value, Halt> {
        self.invoke(&asked(operation, of))
    }

    /// Key, code of the failure, attempts, and records behind.
    fn listed(&self) -> Vec<(String, String, u64, u64)> {
        let listed = self.ask("list", json!({}));
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let count = |it: &Value| it.as_u64().unwrap();
        let of = |it: &Value| {
            (
                text(&it["key"]),
                text(&it["error_code"]),
                count(&it["attempts"]),
                count(&it["held_behind"]),
            )
        };
        let mut listed: Vec<_> = listed["parked"].as_array().unwrap().iter().map(of).collect();
        listed.sort();
        listed
    }

    /// Lets so much time pass that the leases of a dead redrive are over.
    fn outlive_leases(&self) {
        self.clock.0.pass(2 * TIMEOUT_MS);
    }

    /// An invocation that a record ends, with the process: what it has not done by then, it
    /// never does.
    fn dies(&self, payload: &str) {
        block_on(async {
            let call = self.call();
            let mut invoked = pin!(self.invoke_to(payload, &call));
            std::future::poll_fn(|context| {
                let polled = invoked.as_mut().poll(context);
                if self.shop().is_killed.take() {
                    return Poll::Ready(());
                }
                assert!(polled.is_pending(), "it answers: {polled:?}");
                Poll::Pending
            })
            .await;
        });
    }
}

fn event(records: &[(u32, &str)]) -> String {
    let records: Vec<String> =
        records.iter().map(|(number, key)| order(*number, "INSERT", key, None)).collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

fn asked(operation: &str, of: Value) -> String {
    let mut request = json!({"version": 1});
    request[operation] = of;
    json!({ "changefold": request }).to_string()
}

#[test]
fn a_drop_keeps_to_its_limit_and_goes_on_from_its_cursor() {
    let bench = Bench::new(16);
    bench.park(&[(1, "a"), (2, "a"), (3, "a"), (4, "a")]);
    let drop = |limit: usize, cursor: &Value| {
        let selection = json!({"keys": ["pk=a"], "limit": limit, "cursor": cursor});
        bench.ask("drop", json!({"selection": selection, "yes": true}))
    };
    let first = drop(1, &Value::Null);
    assert_eq!((&first["done"], &first["left"]), (&json!(1), &json!(3)), "{first}");
    assert!(first["cursor"].is_string() && first["stopped"] == "Limit", "{first}");
    // What is left is held, and runs in its order.
    bench.deliver(&[(5, "a")]);
    assert!(bench.shop().called().is_empty());
    let second = drop(2, &first["cursor"]);
    assert_eq!((&second["done"], &second["left"]), (&json!(2), &json!(2)), "{second}");
    let last = bench.ask("redrive", json!({}));
    assert_eq!((&last["done"], &last["left"]), (&json!(2), &json!(0)), "{last}");
    assert_eq!(bench.shop().called(), ["4", "5"]);
}

#[test]
fn a_drop_stops_before_the_deadline() {
    let bench = Bench::new(16);
    bench.park(&[(1, "a"), (2, "a")]);
    let asked = asked("drop", json!({"selection": {"keys": ["pk=a"]}, "yes": true}));
    let call = Call::new("operator", bench.clock.now());
    let told = block_on(bench.invoke_to(&asked, &call)).unwrap();
    assert_eq!((&told["done"], &told["left"]), (&json!(0), &json!(2)), "{told}");
    assert!(told["cursor"].is_string() && told["stopped"] == "Deadline", "{told}");
}

#[test]
fn a_key_text_of_two_sources_is_not_dropped_without_its_source() {
    let bench = Bench::new(16);
    bench.park(&[(1, "a"), (2, "a")]);
    bench.shop().others.set("park");
    bench.invoke(&event(&[(1, "a")]).replace("table/orders", "table/returns")).unwrap();
    let drop =
        |selection: Value| bench.try_to_ask("drop", json!({"selection": selection, "yes": true}));
    let halt = drop(json!({"keys": ["pk=a"]})).unwrap_err();
    assert_eq!(halt.code, "KeyAmbiguous");
    assert!(
        halt.message.contains("table/orders and arn:aws") && !halt.message.contains("pk=a"),
        "{halt}"
    );
    assert_eq!(bench.listed().len(), 2, "nothing is dropped");
    let told = drop(json!({"keys": ["pk=a"], "source": "returns"})).unwrap();
    assert_eq!((&told["done"], &told["left"]), (&json!(1), &json!(0)), "{told}");
    let arn = "arn:aws:dynamodb:us-east-1:123456789012:table/orders";
    let listed =
        bench.ask("list", json!({"source": format!("{arn}/stream/2026-09-17T12:50:51.000")}));
    assert_eq!(
        (&listed["parked"][0]["source"], &listed["parked"][0]["held_behind"]),
        (&json!(arn), &json!(1))
    );
    let told = drop(json!({"keys": ["pk=a"], "source": arn})).unwrap();
    assert_eq!((&told["done"], &told["left"]), (&json!(2), &json!(0)), "{told}");
}
