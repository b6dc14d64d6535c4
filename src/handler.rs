//! The whole way through the function, in one place.
//!
//! [`Function::invoke`] takes the bytes Lambda delivers and gives the reply. Lambda's own
//! loop (`lambda.rs`) and the local event source mapping call the same method with the same
//! bytes; that is why what runs on your desk is what runs in Lambda.

use crate::{
    batch::{Call, Halt, Work},
    clock::Clock,
    event,
    outcome::{Outcome, Reply, checkpoint},
    telemetry::{self, Counts},
};
use std::sync::Arc;

/// The function: what Lambda invokes and what the local mapping drives.
#[derive(Debug)]
pub struct Function<W> {
    work: W,
    clock: Arc<dyn Clock>,
}

impl<W: Work> Function<W> {
    /// A function that does this work on every batch.
    pub fn new(work: W, clock: Arc<dyn Clock>) -> Self {
        Self { work, clock }
    }

    /// The work it does.
    pub fn work(&self) -> &W {
        &self.work
    }

    /// The clock the function lives by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// One invocation: bytes in, reply out.
    ///
    /// # Errors
    /// The invocation failed as a whole, and Lambda will deliver the batch again: the payload
    /// is no event of a stream (the codes of [`event::EventError`]), it belongs to a tumbling
    /// window (`WindowUnsupported`), or the work halted.
    pub async fn invoke(&self, payload: &[u8], call: &Call) -> Result<Reply, Halt> {
        let mut counts = Counts::default();
        let reply = self.process(payload, call, &mut counts).await;
        telemetry::invocation_finished(call, &counts, reply.as_ref().err());
        reply
    }

    async fn process(
        &self,
        payload: &[u8],
        call: &Call,
        counts: &mut Counts,
    ) -> Result<Reply, Halt> {
        let batch = event::parse(payload);
        let records = batch.records().map_err(unreadable)?;
        if batch.is_windowed() {
            return Err(windowed());
        }
        counts.receive(records, self.clock.now());

        let mut outcomes = vec![Outcome::default(); records.len()];
        let worked = self.work.work(records, &mut outcomes, &mut counts.measures, call).await;
        counts.finish(&outcomes);
        worked?;

        let positions = records.iter().map(event::Record::sequence_number);
        Ok(Reply::from(checkpoint(positions.zip(outcomes))))
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
