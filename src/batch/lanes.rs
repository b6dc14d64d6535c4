//! A [`Processor`] over one batch: lanes beside each other, each in stream order.
//!
//! It is separate from the views because a processor is called record by record, with
//! anything in between, while the views write many records in one transaction. It keeps
//! three invariants: a record starts when every earlier one of its lane is finished; nothing
//! later than the lowest failed record starts; only a processor that returned `Ok` makes a
//! record *applied*. All lanes run on one task, so the order of events is a function of the
//! processor alone.
//!
//! What it gives up: a processor that hangs runs into Lambda's own timeout, because the
//! deadline is looked at before a unit starts and not while one runs.

use super::{Call, Halt, Measures, Work, schedule::Schedule};
use crate::{
    clock::Clock,
    event::{DecodeError, Record, RecordKey, Value},
    outcome::Outcome,
    processor::{Context, Failure, Processor},
    record::Timestamp,
    telemetry,
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use std::{
    borrow::Cow,
    cell::Cell,
    num::NonZeroUsize,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// How many units run at a time unless told otherwise: enough to hide a store's latency, few
/// enough not to crowd a small table.
pub const CONCURRENCY_DEFAULT: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not zero");

/// Time kept back from the deadline, in milliseconds. No unit starts within it, so that the
/// units that run can end and the reply still gets out; a timeout would repeat the batch.
pub const RESERVE_MS: i64 = 500;

/// Which records have to stay in order with each other.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Order {
    /// Records of one DynamoDB item, or of one Kinesis partition key.
    #[default]
    Key,
    /// Records of one partition key. A DynamoDB event does not say which of an item's two
    /// key attributes that is, so it has to be named; without the name, DynamoDB records
    /// halt the invocation.
    PartitionKey {
        /// Name of the table's partition key attribute; Kinesis needs none.
        attribute: Option<String>,
    },
    /// All records of the batch: one after another. AWS itself keeps this order only with a
    /// `ParallelizationFactor` of 1.
    Shard,
    /// Records for which the function gives the same text. A failure is that record's.
    By(fn(&Record<'_>) -> Result<String, Failure>),
}

/// Work by a [`Processor`], one change at a time.
#[derive(Debug)]
pub struct Lanes<P> {
    processor: P,
    order: Order,
    concurrency: NonZeroUsize,
    clock: Arc<dyn Clock>,
}

impl<P: Processor> Lanes<P> {
    /// Lanes by key, [`CONCURRENCY_DEFAULT`] at a time.
    pub fn new(processor: P, clock: Arc<dyn Clock>) -> Self {
        Self { processor, order: Order::default(), concurrency: CONCURRENCY_DEFAULT, clock }
    }

    /// The processor in its lanes.
    pub fn processor(&self) -> &P {
        &self.processor
    }

    /// Chooses which records have to stay in order.
    #[must_use]
    pub fn with_order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// Chooses how many units run at a time.
    #[must_use]
    pub fn with_concurrency(self, concurrency: NonZeroUsize) -> Self {
        Self { concurrency, ..self }
    }

    /// Runs the records of one unit, one after another, until one fails or an earlier unit
    /// has failed meanwhile.
    async fn run<'r>(
        &self,
        unit: usize,
        records: &'r [Record<'r>],
        call: &'r Call,
        lowest_failed: &Cell<usize>,
    ) -> (usize, Ended<'r>) {
        for record in records {
            if lowest_failed.get() < unit {
                return (unit, Ended::Stopped);
            }
            if let Err(fault) = self.run_one(record, call).await {
                lowest_failed.update(|lowest| lowest.min(unit));
                return (unit, Ended::Failed(record, fault));
            }
        }
        (unit, Ended::Applied)
    }

    async fn run_one<'r>(&self, record: &'r Record<'r>, call: &'r Call) -> Result<(), Fault> {
        let context = Context::new(record, call);
        // Reading runs the user's `Deserialize`, so it stands inside the guard as well. After
        // a panic the processor is called again: as with a mutex, its state is its own care.
        let processed = AssertUnwindSafe(async {
            let change = record.change::<P::Item<'_>>().map_err(Fault::Undecodable)?;
            self.processor.process(change, &context).await.map_err(Fault::Refused)
        });
        processed.catch_unwind().await.unwrap_or(Err(Fault::Panicked))
    }

    fn is_late(&self, call: &Call) -> bool {
        let Timestamp(deadline) = call.deadline;
        self.clock.now() >= Timestamp(deadline.saturating_sub(RESERVE_MS))
    }
}

impl<P: Processor> Work for Lanes<P> {
    async fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        _measures: &mut Measures,
        call: &Call,
    ) -> Result<(), Halt> {
        let layout = Layout::of(records, &self.order)?;
        let mut schedule = Schedule::new(layout.lanes, self.concurrency.get());
        if let Some((unit, record, fault)) = layout.fault {
            schedule.stop_from(unit);
            fault.report(&records[record], call)?;
            outcomes[unit_around(records, record)].fill(Outcome::Failed);
        }
        // A unit is polled for the first time after it was started here, so the set of running
        // units cannot tell alone whether an earlier one failed in between.
        let lowest_failed = Cell::new(usize::MAX);
        let mut running = FuturesUnordered::new();
        loop {
            while schedule.has_ready() {
                if self.is_late(call) {
                    schedule.stop_from(0);
                } else if let Some(unit) = schedule.start() {
                    let records = &records[schedule.records(unit)];
                    running.push(self.run(unit, records, call, &lowest_failed));
                }
            }
            let Some((unit, ended)) = running.next().await else { return Ok(()) };
            let outcome = match ended {
                Ended::Applied => {
                    schedule.finish(unit);
                    Outcome::Applied
                }
                Ended::Stopped => {
                    schedule.fail(unit);
                    Outcome::NotAttempted
                }
                Ended::Failed(record, fault) => {
                    schedule.fail(unit);
                    fault.report(record, call)?;
                    Outcome::Failed
                }
            };
            outcomes[schedule.records(unit)].fill(outcome);
        }
    }
}

/// How a unit ended.
#[derive(Debug)]
enum Ended<'r> {
    Applied,
    /// An earlier unit failed before all of its records had started.
    Stopped,
    Failed(&'r Record<'r>, Fault),
}

/// Why a record is not processed.
#[derive(Debug)]
enum Fault {
    /// Its lane or its content cannot be read.
    Undecodable(DecodeError),
    /// The processor said so.
    Refused(Failure),
    /// The user's code panicked. What it said stays out of the log: a panic's message often
    /// quotes the value it stumbled over.
    Panicked,
}

impl Fault {
    /// Writes the failure down, or fails the invocation.
    fn report(self, record: &Record<'_>, call: &Call) -> Result<(), Halt> {
        match self {
            Self::Undecodable(error) => {
                telemetry::record_failed(record, call, error.code(), &error);
            }
            Self::Refused(failure) => {
                let code = failure.code();
                let is_halt = matches!(failure, Failure::Halt(_));
                let reason = failure.into_reason();
                if is_halt {
                    let at = record.sequence_number();
                    return Err(Halt::new(code, format!("the processor halted at record {at}"))
                        .caused_by(reason));
                }
                telemetry::record_failed(record, call, code, &*reason);
            }
            Self::Panicked => telemetry::record_failed(record, call, "Panicked", &Panicked),
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the processor panicked; the log's `CodePanicError` says where")]
struct Panicked;

/// The lane of every record, up to the first whose lane cannot be told.
struct Layout<'r> {
    /// Unit and lane by record.
    lanes: Vec<(usize, Lane<'r>)>,
    /// Unit and record where it ended early, and why.
    fault: Option<(usize, usize, Fault)>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane<'r> {
    Shard,
    Key(RecordKey<'r>),
    Attribute(Value<'r>),
    Text(String),
}

impl<'r> Layout<'r> {
    /// A record whose lane is unknown could belong to any, so nothing from it on can start:
    /// the layout ends there.
    fn of(records: &'r [Record<'r>], order: &Order) -> Result<Self, Halt> {
        let mut lanes = Vec::with_capacity(records.len());
        let units = records.chunk_by(|a, b| a.sequence_number() == b.sequence_number());
        for (unit, neighbours) in units.enumerate() {
            for record in neighbours {
                match lane(record, order)? {
                    Ok(lane) => lanes.push((unit, lane)),
                    Err(fault) => {
                        let fault = Some((unit, lanes.len(), fault));
                        return Ok(Self { lanes, fault });
                    }
                }
            }
        }
        Ok(Self { lanes, fault: None })
    }
}

/// The lane of one record. The outer error is everybody's, the inner one this record's.
fn lane<'r>(record: &'r Record<'r>, order: &Order) -> Result<Result<Lane<'r>, Fault>, Halt> {
    Ok(match order {
        Order::Shard => Ok(Lane::Shard),
        Order::Key => record.keys().map(Lane::Key).map_err(Fault::Undecodable),
        Order::By(name) => match catch_unwind(AssertUnwindSafe(|| name(record))) {
            Ok(text) => text.map(Lane::Text).map_err(Fault::Refused),
            Err(_) => Err(Fault::Panicked),
        },
        Order::PartitionKey { attribute } => match record.keys() {
            Err(error) => Err(Fault::Undecodable(error)),
            Ok(RecordKey::Item(key)) => {
                Ok(Lane::Attribute(partition_key(key, attribute.as_deref())?))
            }
            Ok(key @ RecordKey::Partition(_)) => Ok(Lane::Key(key)),
        },
    })
}

fn partition_key<'r>(
    key: Vec<(Cow<'r, str>, Value<'r>)>,
    attribute: Option<&str>,
) -> Result<Value<'r>, Halt> {
    let Some(attribute) = attribute else {
        return Err(Halt::new(
            "OrderUnknown",
            "a DynamoDB event does not say which key attribute is the partition key: \
             name it, as in `CHANGEFOLD_ORDER=partition_key:customer_id`",
        ));
    };
    let named = key.into_iter().find(|(name, _)| name == attribute);
    named.map(|(_, value)| value).ok_or_else(|| {
        Halt::new(
            "OrderUnknown",
            format!("the table's items have no key attribute `{attribute}`: correct the order"),
        )
    })
}

/// The neighbours that share a record's sequence number.
fn unit_around(records: &[Record<'_>], record: usize) -> Range<usize> {
    let is_same =
        |other: &&Record<'_>| other.sequence_number() == records[record].sequence_number();
    let before = records[..record].iter().rev().take_while(is_same).count();
    let after = records[record..].iter().take_while(is_same).count();
    record - before..record + after
}
