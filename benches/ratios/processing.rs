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
    batch::lanes::Lanes,
    call::Call,
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

/// A usual timeout, which the lanes watch.
const TIMEOUT_MS: i64 = 60_000;

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
    let ours = |payload: &Payload| invoke(payload, &function, (&runtime, telemetry));
    assert_eq!(decode(payload), ours(payload), "both sides read the same");
    let pairs = measure::in_turns(
        PAIRS,
        || measure::time(|| decode(payload)),
        || measure::time(|| ours(payload)),
    );
    let reference = measure::per_record(pairs.iter().map(|(it, _)| *it), payload.records);
    let whole = measure::per_record(pairs.iter().map(|(_, it)| *it), payload.records);
    let note = format!("{reference:.0} + {:.0} ns a record", whole - reference);
    let of = |what: &str| format!("{what}, {}", size.name());
    let goal = Goal::at_most(of("our processing of a record over decode alone"), 1.15, 1.05);
    vec![
        Row::timed(goal, &pairs, note),
        allocations_row(of("allocations per record beyond decode"), payload, ours),
    ]
}

/// What is allocated for every record after the first: an invocation has its own.
fn allocations_row(name: String, payload: &Payload, invoke: impl Fn(&Payload) -> u64) -> Row {
    let beyond = |payload: &Payload| {
        let alone = allocations::count(|| decode(payload)).count;
        allocations::count(|| invoke(payload)).count.saturating_sub(alone)
    };
    let (of_all, of_one) = (beyond(payload), beyond(&first_record(payload)));
    let per_record = of_all.saturating_sub(of_one) as f64 / (payload.records - 1) as f64;
    let note = format!("{of_all} for {} records, {of_one} for one", payload.records);
    Row::counted(Goal::at_most(name, 0.0, 0.0), per_record, note)
}

/// The event of the first record alone.
fn first_record(payload: &Payload) -> Payload {
    let batch = event::parse(&payload.bytes);
    let record = batch.records().unwrap()[0].raw();
    Payload { bytes: format!(r#"{{"Records":[{record}]}}"#).into_bytes(), records: 1 }
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
    let Timestamp(now) = function.clock().now();
    let deadline = Timestamp(now + TIMEOUT_MS);
    let call = Call::new("ratios", deadline);
    let answer = runtime.block_on(function.invoke(&payload.bytes, &call)).unwrap();
    let reply = serde_json::to_vec(&answer).unwrap();
    assert_eq!(reply, br#"{"batchItemFailures":[]}"#);
    telemetry.flush_to(&call.request_id, io::sink());
    function.work().processor().0.take()
}
