//! Parks and sends near the deadline: nothing begins that cannot end, and nothing is waited for
//! that does not come.

use super::*;

#[cfg(feature = "destinations")]
mod sends {
    use super::*;
    use changefold::{
        call::Call,
        recovery::{
            destination::{Destination, DestinationError},
            park::envelope::Envelope,
        },
    };
    use futures_util::future::{BoxFuture, FutureExt};
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicI64, Ordering::Relaxed},
        },
        time::Duration,
    };

    /// A clock that goes on when it is told to, or is waited by.
    #[derive(Debug, Default)]
    struct Told(AtomicI64);

    impl Clock for Told {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Relaxed))
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.0.fetch_add(duration.as_millis().try_into().unwrap(), Relaxed);
            std::future::ready(()).boxed()
        }

        fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            std::future::pending().boxed()
        }
    }

    /// Takes so long for a record, by the clock.
    #[derive(Debug)]
    struct Slow {
        clock: Arc<Told>,
        took_ms: i64,
        sent: Arc<Mutex<Vec<(String, i64)>>>,
    }

    impl Destination for Slow {
        fn send<'a>(
            &'a self,
            envelope: &'a Envelope,
            _: Timestamp,
        ) -> BoxFuture<'a, Result<(), DestinationError>> {
            let ends = self.clock.0.fetch_add(self.took_ms, Relaxed) + self.took_ms;
            self.sent.lock().unwrap().push((envelope.sequence_number.clone(), ends));
            std::future::ready(Ok(())).boxed()
        }
    }

    /// Parks 100 records of these many keys, with ten seconds for it; gives back the reply, what
    /// was sent and when that ended, and when the invocation ended.
    fn park_a_hundred(keys: u32, took_ms: i64) -> (Value, Vec<(String, i64)>, i64) {
        block_on(async {
            let clock = Arc::new(Told::default());
            let sent = Arc::new(Mutex::new(Vec::new()));
            let slow = Slow { clock: Arc::clone(&clock), took_ms, sent: Arc::clone(&sent) };
            let embedded = Embedded::open(None).unwrap();
            let client = SharedHttpClient::new(embedded);
            let store = Store::new(client, &local_endpoint(None), clock.clone(), 1);
            let durable = parking(&store, OnPark::Hold).with_destination(Box::new(slow));
            durable.ensure_tables(FOREVER).await.unwrap();
            let processor = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
                Err(Failure::park("never"))
            });
            let lanes = Lanes::new(processor, clock.clone()).with_durable_state(durable);
            let function = Function::new(lanes, clock.clone());
            let record = |at: u32| order(at, "INSERT", &format!("k{}", at % keys), None);
            let event = batch(&(1..=100).map(record).collect::<Vec<_>>());
            let call = Call { deadline: Timestamp(10_000), ..call() };
            let reply = function.invoke(&event, &call).await.unwrap();
            let sent = sent.lock().unwrap().clone();
            (serde_json::to_value(reply).unwrap(), sent, clock.now().0)
        })
    }

    #[test]
    fn no_send_begins_that_cannot_end_in_time() {
        for keys in [1, 100] {
            let (reply, sent, ended) = park_a_hundred(keys, 400);
            assert!(ended <= 10_000, "{keys} keys: it ended at {ended} of 10000 ms");
            assert!((3..30).contains(&sent.len()), "{keys} keys: {} were sent", sent.len());
            if keys == 1 {
                // What is not sent is not finished: it comes again, from there on.
                let next = (sent.len() + 1).to_string();
                assert_eq!(reply["batchItemFailures"][0]["itemIdentifier"], json!(next));
            }
        }
        let (reply, sent, _) = park_a_hundred(7, 10);
        assert_eq!((sent.len(), reply), (100, json!({"batchItemFailures": []})));
    }

    /// Never answers.
    #[derive(Debug)]
    struct Stuck;

    impl Destination for Stuck {
        fn send<'a>(
            &'a self,
            _: &'a Envelope,
            _: Timestamp,
        ) -> BoxFuture<'a, Result<(), DestinationError>> {
            std::future::pending().boxed()
        }
    }

    #[test]
    fn a_destination_that_does_not_answer_leaves_time_for_the_reply() {
        block_on(async {
            let embedded = Embedded::open(None).unwrap();
            let durable =
                parking(&store(&embedded), OnPark::Hold).with_destination(Box::new(Stuck));
            let processor = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
                Err(Failure::park("never"))
            });
            let function = function(durable, processor).await;
            let Timestamp(now) = SystemClock.now();
            let call = Call { deadline: Timestamp(now + 2_000), ..call() };
            let event = batch(&[order(1, "INSERT", "a", None)]);
            let limit = tokio::time::sleep(Duration::from_secs(2));
            tokio::select! {
                reply = function.invoke(&event, &call) => {
                    let reply = serde_json::to_value(reply.unwrap()).unwrap();
                    assert_eq!(reply["batchItemFailures"][0]["itemIdentifier"], "1");
                }
                () = limit => panic!("no reply before the deadline"),
            }
        });
    }
}
