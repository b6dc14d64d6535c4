//! The way of a record through the function, over decoding it alone.
//!
//! Both sides read every record into the same borrowing type and make the same digest of it.
//! The reference stops there; ours is a whole invocation: the lanes by key over a processor
//! that makes the digest, the checkpoint, the reply's bytes, the metrics' line. It has the log
//! and the recorder that Lambda's function has, so this part is the last: they stay for the
//! rest of the process.

use crate::{
    allocations,
    measure::{self, Goal, PAIRS, Row},
    model::{self, Order},
    payloads::{self, Payload, Size},
};
use changefold::{
    batch::{Call, lanes::Lanes},
    clock::SystemClock,
    event,
    handler::Function,
    processor::{Context, Failure, Processor},
    record::{Change, Timestamp},
    telemetry::{self, Telemetry},
};
use std::{cell::Cell, io, sync::Arc};
use tokio::runtime::Runtime;

/// Lambda's log is `info`; the collector must not complain of parts that never flush it.
const LOG: &str = "info,metrics_cloudwatch_embedded=off";

pub(crate) fn rows() -> Vec<Row> {
    let telemetry = telemetry::init(LOG, "ratios").unwrap();
    Size::ALL.into_iter().flat_map(|size| rows_of(size, &telemetry)).collect()
}

fn rows_of(size: Size, telemetry: &Telemetry) -> Vec<Row> {
    let payload = &payloads::dynamodb(size);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let function = Function::new(
        Lanes::new(Digester::default(), Arc::new(SystemClock)),
        Arc::new(SystemClock),
    );
    let ours = || invoke(payload, &function, (&runtime, telemetry));
    assert_eq!(decode(payload), ours(), "both sides read the same");
    let pairs =
        measure::in_turns(PAIRS, || measure::time(|| decode(payload)), || measure::time(ours));
    let reference = measure::per_record(pairs.iter().map(|(it, _)| *it), payload.records);
    let whole = measure::per_record(pairs.iter().map(|(_, it)| *it), payload.records);
    let note = format!("{reference:.0} + {:.0} ns a record", whole - reference);
    let of = |what: &str| format!("{what}, {}", size.name());
    let goal = Goal::at_most(of("our processing of a record over decode alone"), 1.15, 1.05);
    vec![
        Row::measured(goal, measure::share(&pairs), note),
        allocations_row(of("allocations per record beyond decode"), payload, ours),
    ]
}

fn allocations_row(name: String, payload: &Payload, ours: impl Fn() -> u64) -> Row {
    let alone = allocations::count(|| decode(payload)).count;
    let whole = allocations::count(&ours).count;
    let beyond = whole.saturating_sub(alone);
    let per_record = (beyond as f64 * 100.0 / payload.records as f64).floor() / 100.0;
    let note = format!("{beyond} in a batch of {}", payload.records);
    Row::counted(Goal::at_most(name, 0.0, 0.0), per_record, note)
}

/// What the processor of both sides does.
#[derive(Debug, Default)]
struct Digester(Cell<u64>);

impl Processor for Digester {
    type Item<'a> = Order<'a>;

    async fn process(&self, change: Change<Order<'_>>, _: &Context<'_>) -> Result<(), Failure> {
        self.0.update(|sum| sum.wrapping_add(model::of_change(&change)));
        Ok(())
    }
}

/// The reference: every record decoded and looked at, and nothing else.
fn decode(payload: &Payload) -> u64 {
    let batch = event::parse(&payload.bytes);
    let records = batch.records().unwrap();
    records.iter().fold(0, |sum: u64, record| {
        sum.wrapping_add(model::of_change(&record.change::<Order<'_>>().unwrap()))
    })
}

/// Ours: what an invocation in Lambda is, from the payload's bytes to the reply's.
fn invoke(
    payload: &Payload,
    function: &Function<Lanes<Digester>>,
    (runtime, telemetry): (&Runtime, &Telemetry),
) -> u64 {
    let call = Call { request_id: "ratios".to_owned(), deadline: Timestamp(i64::MAX / 2) };
    let answer = runtime.block_on(function.invoke(&payload.bytes, &call)).unwrap();
    let reply = serde_json::to_vec(&answer).unwrap();
    assert_eq!(reply, br#"{"batchItemFailures":[]}"#);
    telemetry.flush_to(&call.request_id, io::sink());
    function.work().processor().0.take()
}
