//! One piece of work so many times, for `benches/instructions.sh` to count its instructions.
//!
//! Separate from the table because a count needs no turns and no clock: `ratios --count NAME
//! TIMES` does the work and prints nothing. The start of the process, the making of the payload
//! and what is done once fall out of the difference of two such counts.

use crate::{
    decode,
    model::{self, Order},
    payloads::{self, Payload, Size},
};
use changefold::{
    batch::lanes::Lanes,
    call::Call,
    clock::SystemClock,
    handler::Function,
    processor::{Context, Failure, Processor},
    record::{Change, Timestamp},
};
use std::{hint::black_box, sync::Arc};

/// A name, the payload, and the work done on it.
type Counted = (&'static str, fn() -> Payload, fn(&Payload) -> u64);

/// What is not ours does not begin with `ours`.
const WORK: &[Counted] = &[
    ("a", dynamodb, decode::official),
    ("a'", dynamodb, decode::with_paths),
    ("walk", dynamodb, decode::walk),
    ("b", kinesis, decode::kinesis_official),
    ("ours-typed", dynamodb, decode::typed),
    ("ours-keys", dynamodb, decode::keys),
    ("ours-kinesis", kinesis, decode::typed),
    ("ours-invoke", dynamodb, invoke),
    ("ours-invoke-kinesis", kinesis, invoke),
];

fn dynamodb() -> Payload {
    payloads::dynamodb(Size::Thousand)
}

fn kinesis() -> Payload {
    payloads::kinesis(Size::Thousand)
}

/// Does what the command line asks for, if it is this.
pub(crate) fn asked() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, name, times] = arguments.as_slice() else { return false };
    if flag != "--count" {
        return false;
    }
    let (_, payload, work) = WORK.iter().find(|(known, ..)| known == name).unwrap();
    let payload = payload();
    for _ in 0..times.parse().unwrap() {
        black_box(work(black_box(&payload)));
    }
    true
}

struct Look;

impl Processor for Look {
    type Item<'a> = Order<'a>;

    async fn process(&self, change: Change<Order<'_>>, _: &Context<'_>) -> Result<(), Failure> {
        black_box(model::of_change(&change));
        Ok(())
    }
}

/// One invocation, from the event's bytes to the reply's.
fn invoke(payload: &Payload) -> u64 {
    let clock = Arc::new(SystemClock);
    let function = Function::new(Lanes::new(Look, clock.clone()), clock);
    let call = Call::new("count", Timestamp(i64::MAX));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let reply = runtime.block_on(function.invoke(&payload.bytes, &call)).unwrap();
    let reply = serde_json::to_string(&reply).unwrap();
    assert_eq!(reply, r#"{"batchItemFailures":[]}"#);
    reply.len() as u64
}
