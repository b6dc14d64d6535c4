//! The whole way through the function, in one place.
//!
//! [`Function::invoke`] takes the bytes Lambda delivers and gives the reply. Lambda's own
//! loop (`lambda.rs`) and the local event source mapping call the same method with the same
//! bytes; that is why what runs on your desk is what runs in Lambda.

use crate::{
    batch::Work,
    call::{Call, Halt},
    clock::Clock,
    event::{self, ParkedQueues, Record},
    operation::{self, Operation, Operations},
    outcome::{Answer, Outcome, Reply},
    telemetry::{self, Counts},
};
#[cfg(feature = "destinations")]
use crate::{
    event::Batch,
    recovery::notice::{self, Found, Notices},
    rescue::{Kind, Part, Rescue, Rescuer, parts},
};
use serde_json::Value;
#[cfg(feature = "destinations")]
use std::collections::BTreeSet;
use std::sync::Arc;

/// The function: what Lambda invokes and what the local mapping drives.
#[derive(Debug)]
pub struct Function<W> {
    work: W,
    clock: Arc<dyn Clock>,
    parked_queues: ParkedQueues,
    operations: Operations,
    #[cfg(feature = "destinations")]
    rescue: Option<Rescue>,
}

impl<W: Work> Function<W> {
    /// A function that does this work on every batch.
    pub fn new(work: W, clock: Arc<dyn Clock>) -> Self {
        Self {
            work,
            clock,
            parked_queues: ParkedQueues::default(),
            operations: Operations::default(),
            #[cfg(feature = "destinations")]
            rescue: None,
        }
    }

    /// Believes the envelopes of parked records in messages of these queues.
    #[must_use]
    pub fn with_parked_queues(self, parked_queues: ParkedQueues) -> Self {
        Self { parked_queues, ..self }
    }

    /// Chooses which of an operator's requests the function carries out.
    #[must_use]
    pub fn with_operations(self, operations: Operations) -> Self {
        Self { operations, ..self }
    }

    /// Lets the function fetch what the mapping gave up: its on-failure messages become an
    /// input ([`rescue`](crate::rescue)). Without, they are refused.
    #[cfg(feature = "destinations")]
    #[must_use]
    pub fn with_rescue(self, rescue: Option<Rescue>) -> Self {
        Self { rescue, ..self }
    }

    /// What it takes back of what the mapping gave up.
    #[cfg(all(test, feature = "destinations"))]
    pub(crate) fn rescue(&self) -> Option<&Rescue> {
        self.rescue.as_ref()
    }

    /// The work it does.
    pub fn work(&self) -> &W {
        &self.work
    }

    /// The clock the function lives by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// One invocation: bytes in, reply out. Beside events it takes an operator's requests
    /// ([`operation`]).
    ///
    /// # Errors
    /// The invocation failed as a whole, and Lambda will deliver the batch again: the payload
    /// is no event of a stream or a queue (the codes of [`event::EventError`]), it belongs to a
    /// tumbling window (`WindowUnsupported`), or the work halted.
    pub async fn invoke(&self, payload: &[u8], call: &Call) -> Result<Answer, Halt> {
        if let Some(operation) = operation::read(payload) {
            let operation = operation.map_err(|error| {
                let halt = Halt::new("OperationUnreadable", "the operation cannot be read");
                // Why not is for who asks: it quotes what was asked, keys for instance.
                telemetry::operation_finished(call, "unreadable", Err(&halt));
                halt.caused_by(error)
            })?;
            let answer = self.operate(&operation, call).await;
            telemetry::operation_finished(call, operation.name(), answer.as_ref());
            return answer.map(Answer::Operation);
        }
        let batch = event::parse(payload).believing(&self.parked_queues);
        #[cfg(feature = "destinations")]
        let batch = match self.route(payload, batch) {
            Route::Batch(batch) => batch,
            Route::Notices(notices) => {
                let rescuer = Rescuer::new(&self.work, self.rescue.as_ref(), call);
                return Box::pin(rescuer.event(&notices)).await.map(Answer::Operation);
            }
            Route::Parts(parts) => {
                return Box::pin(self.in_parts(parts, call)).await.map(Answer::Reply);
            }
        };
        let is_windowed = batch.is_windowed();
        let records = batch
            .records()
            .map_err(unreadable)
            .and_then(|records| if is_windowed { Err(windowed()) } else { Ok(records) });
        match records {
            Ok(records) => {
                let outcomes = Box::pin(self.process(records, call)).await?;
                Ok(Answer::Reply(Reply::of(records, &outcomes)))
            }
            Err(halt) => {
                telemetry::invocation_finished(call, &Counts::default(), Some(&halt));
                Err(halt)
            }
        }
    }

    /// Carries an operator's request out, if the setting allows it.
    async fn operate(&self, operation: &Operation, call: &Call) -> Result<Value, Halt> {
        if self.operations.allow(operation) {
            return Box::pin(self.work.operate(operation, call)).await;
        }
        Err(match self.operations {
            Operations::Read => Halt::new(
                "OperationsReadOnly",
                "this function carries out `list`, `show` with `without_payload`, and what only \
                 tells of a backfill: CHANGEFOLD_OPERATIONS=all allows the others",
            ),
            Operations::Off | Operations::All => Halt::new(
                "OperationsOff",
                "this function carries out no operations: CHANGEFOLD_OPERATIONS=read or =all \
                 allows them",
            ),
        })
    }

    /// Works on records, and tells what became of each.
    async fn process(&self, records: &[Record<'_>], call: &Call) -> Result<Vec<Outcome>, Halt> {
        let mut counts = Counts::default();
        counts.receive(records, self.clock.now());
        let mut outcomes = vec![Outcome::default(); records.len()];
        let worked = self.work.work(records, &mut outcomes, &mut counts.measures, call).await;
        counts.finish(&outcomes);
        telemetry::invocation_finished(call, &counts, worked.as_ref().err());
        worked.map(|()| outcomes)
    }
}

/// What an event is taken for.
#[cfg(feature = "destinations")]
enum Route<'a> {
    /// Records to work on.
    Batch(Batch<'a>),
    /// On-failure messages that no queue has brought.
    Notices(Notices),
    /// A queue's batch with on-failure messages in it.
    Parts(Vec<Part<'a>>),
}

#[cfg(feature = "destinations")]
impl<W: Work> Function<W> {
    /// Finds the mapping's own on-failure messages. A stream's records are none, so a batch of
    /// them is not searched.
    fn route<'a>(&self, payload: &[u8], batch: Batch<'a>) -> Route<'a> {
        let Ok(records) = batch.records() else {
            return notice::recognise(payload).map_or(Route::Batch(batch), Route::Notices);
        };
        let rescue = self.rescue.as_ref();
        let is_ordinary = |found: &Found| Rescue::is_to_be_passed(rescue, found);
        let found = notice::of_queue(records);
        let Some(found) = found.filter(|found| !found.iter().all(is_ordinary)) else {
            return Route::Batch(batch);
        };
        let records = batch.into_records().into_iter().flatten();
        Route::Parts(parts(records.zip(found), is_ordinary))
    }

    /// Deals with a batch that holds on-failure messages beside others. What is behind an
    /// unfinished message of its FIFO group stays with it. Where the work halts, its messages are
    /// named like failed ones: the records that were rescued beside them need not come again.
    ///
    /// # Errors
    /// The work halted, and no message is finished.
    async fn in_parts(&self, parts: Vec<Part<'_>>, call: &Call) -> Result<Reply, Halt> {
        let rescuer = Rescuer::new(&self.work, self.rescue.as_ref(), call);
        let (mut records, mut outcomes) = (Vec::new(), Vec::new());
        let mut halted = None;
        let mut stopped: BTreeSet<String> = BTreeSet::new();
        for Part { kind, messages } in parts {
            let is_behind = |record: &Record<'_>| {
                record.message_group().is_some_and(|group| stopped.contains(group))
            };
            let (behind, messages): (Vec<_>, Vec<_>) =
                messages.into_iter().partition(|(record, _)| is_behind(record));
            outcomes.extend(behind.iter().map(|_| Outcome::NotAttempted));
            records.extend(behind.into_iter().map(|(record, _)| record));
            let (ended, dealt_with) = match kind {
                Kind::Ordinary => {
                    let ordinary: Vec<_> = messages.into_iter().map(|(record, _)| record).collect();
                    let ended = Box::pin(self.process(&ordinary, call)).await;
                    let ended = ended.unwrap_or_else(|halt| {
                        halted.get_or_insert(halt);
                        vec![Outcome::NotAttempted; ordinary.len()]
                    });
                    (ended, ordinary)
                }
                Kind::Notices => {
                    let ended = Box::pin(rescuer.messages(&messages)).await;
                    (ended, messages.into_iter().map(|(record, _)| record).collect())
                }
            };
            let unfinished = dealt_with.iter().zip(&ended).filter(|(_, it)| !it.is_finished());
            let groups = unfinished.filter_map(|(record, _)| record.message_group());
            stopped.extend(groups.map(str::to_owned));
            records.extend(dealt_with);
            outcomes.extend(ended);
        }
        rescuer.finish();
        if let Some(halt) = halted.filter(|_| !outcomes.iter().any(|it| it.is_finished())) {
            return Err(halt);
        }
        Ok(Reply::of(&records, &outcomes))
    }
}

fn unreadable(error: &event::EventError) -> Halt {
    Halt::new(error.code(), "the event cannot be read").caused_by(error.clone())
}

/// Lambda fails a windowed invocation whose reply has no `state`, and we keep none.
fn windowed() -> Halt {
    Halt::new(
        "WindowUnsupported",
        "the event belongs to a tumbling window, which is not served: \
         take TumblingWindowInSeconds out of the event source mapping",
    )
}
