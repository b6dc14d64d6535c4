//! The whole way through the function, in one place.
//!
//! [`Function::invoke`] takes the bytes Lambda delivers and gives the reply. Lambda's own
//! loop (`lambda.rs`) and the local event source mapping call the same method with the same
//! bytes; that is why what runs on your desk is what runs in Lambda.

use crate::{
    batch::{Call, Halt, Work},
    clock::Clock,
    event::{self, Batch},
    operation,
    outcome::{Answer, Outcome, Reply},
    telemetry::{self, Counts},
};
#[cfg(feature = "destinations")]
use crate::{
    park::{
        notice::{self, Notices},
        services::Services,
    },
    rescue::rescue,
};
use std::sync::Arc;

/// The function: what Lambda invokes and what the local mapping drives.
#[derive(Debug)]
pub struct Function<W> {
    work: W,
    clock: Arc<dyn Clock>,
    #[cfg(feature = "destinations")]
    services: Option<Services>,
}

impl<W: Work> Function<W> {
    /// A function that does this work on every batch.
    pub fn new(work: W, clock: Arc<dyn Clock>) -> Self {
        Self {
            work,
            clock,
            #[cfg(feature = "destinations")]
            services: None,
        }
    }

    /// Lets the function fetch what the mapping gave up: its on-failure messages become an
    /// input ([`rescue`](crate::rescue)).
    #[cfg(feature = "destinations")]
    #[must_use]
    pub fn with_services(self, services: Option<Services>) -> Self {
        Self { services, ..self }
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
                Halt::new("OperationUnreadable", "the operation cannot be read").caused_by(error)
            })?;
            let answer = Box::pin(self.work.operate(&operation, call)).await;
            telemetry::operation_finished(call, answer.as_ref().err());
            return answer.map(Answer::Operation);
        }
        let batch = event::parse(payload);
        #[cfg(feature = "destinations")]
        if let Some(notices) = notices(payload, &batch) {
            let services = self.services.as_ref().ok_or_else(|| {
                Halt::new("RescueUnsupported", "the streams cannot be reached: set AWS_REGION")
            })?;
            return Box::pin(rescue(&self.work, services, notices, call)).await;
        }
        let mut counts = Counts::default();
        let reply = Box::pin(self.process(&batch, call, &mut counts)).await;
        telemetry::invocation_finished(call, &counts, reply.as_ref().err());
        reply.map(Answer::Reply)
    }

    async fn process(
        &self,
        batch: &Batch<'_>,
        call: &Call,
        counts: &mut Counts,
    ) -> Result<Reply, Halt> {
        let records = batch.records().map_err(unreadable)?;
        if batch.is_windowed() {
            return Err(windowed());
        }
        counts.receive(records, self.clock.now());

        let mut outcomes = vec![Outcome::default(); records.len()];
        let worked = self.work.work(records, &mut outcomes, &mut counts.measures, call).await;
        counts.finish(&outcomes);
        worked?;

        Ok(Reply::of(records, &outcomes))
    }
}

/// The mapping's own on-failure messages, if this is such an event. A stream's records are none,
/// so a batch of them is not searched.
#[cfg(feature = "destinations")]
fn notices(payload: &[u8], batch: &Batch<'_>) -> Option<Notices> {
    let is_of_stream = batch
        .records()
        .is_ok_and(|records| records.first().is_none_or(|record| !record.source().is_queue()));
    if is_of_stream { None } else { notice::recognise(payload) }
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
