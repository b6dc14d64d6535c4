//! Where a function keeps what it has to keep: a park, a progress, a destination.
//!
//! Separate from the session, which is one invocation's, because this is the function's and
//! made of its settings. Nothing is kept unless it is said where; then a record that fails
//! stays unfinished.

use super::{
    consumer::consumer,
    park::{Park, Pending},
    progress::Progress,
};
use crate::{
    call::Call,
    deadline::Deadline,
    event::ParkedQueues,
    record::Timestamp,
    store::{Store, StoreError},
};
#[cfg(feature = "destinations")]
use crate::{recovery::destination::Destination, telemetry};
use std::num::NonZeroU32;

/// How often an unclassified failure is tried before the record is parked, unless told
/// otherwise.
pub const MAX_ATTEMPTS_DEFAULT: NonZeroU32 = NonZeroU32::new(3).expect("3 is not zero");

/// What becomes of a record whose key cannot be read, where keys are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnkeyed {
    /// The invocation fails: the record could belong to any key.
    #[default]
    Halt,
    /// It is parked on its own, and others flow.
    Park,
}

/// What becomes of a record that is to be parked when too many keys have parked records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// It stays unfinished, and with it its shard.
    #[default]
    Block,
    /// It goes to the destination alone. Its key is not held: later records of it run.
    Destination,
}

/// Where a function keeps what it has to keep, and by what rule.
#[derive(Debug, Default)]
pub struct DurableState {
    pub(crate) progress: Option<Progress>,
    pub(crate) park: Option<Park>,
    #[cfg(feature = "destinations")]
    destination: Option<Box<dyn Destination>>,
    pub(crate) on_unkeyed: OnUnkeyed,
    #[cfg_attr(not(feature = "destinations"), expect(dead_code, reason = "there is none"))]
    on_full: OnFull,
    pub(crate) parked_queues: ParkedQueues,
    max_attempts: Option<NonZeroU32>,
    pub(crate) function: String,
    pub(crate) function_version: String,
    /// Who works on the streams, if a setting says so.
    consumer: Option<String>,
}

impl DurableState {
    /// Keeps nothing: what fails stays unfinished.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Remembers finished records beyond the checkpoint, and attempts.
    #[must_use]
    pub fn with_progress(self, progress: Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Sets aside what will never work.
    #[must_use]
    pub fn with_park(self, park: Park) -> Self {
        Self { park: Some(park), ..self }
    }

    /// Sends what is set aside there, too; without a park, only there.
    #[cfg(feature = "destinations")]
    #[must_use]
    pub fn with_destination(self, destination: Box<dyn Destination>) -> Self {
        Self { destination: Some(destination), ..self }
    }

    /// Chooses what becomes of records whose key cannot be read.
    #[must_use]
    pub fn with_on_unkeyed(self, on_unkeyed: OnUnkeyed) -> Self {
        Self { on_unkeyed, ..self }
    }

    /// Chooses what becomes of a record that the park has no room for.
    #[must_use]
    pub fn with_on_full(self, on_full: OnFull) -> Self {
        Self { on_full, ..self }
    }

    /// Believes the envelopes of parked records in messages of these queues, also when such a
    /// message was parked itself and is redriven.
    #[must_use]
    pub fn with_parked_queues(self, parked_queues: ParkedQueues) -> Self {
        Self { parked_queues, ..self }
    }

    /// Chooses how often an unclassified failure is tried, over all invocations.
    #[must_use]
    pub fn with_max_attempts(self, max_attempts: NonZeroU32) -> Self {
        Self { max_attempts: Some(max_attempts), ..self }
    }

    /// Names the function and its version, for parked records.
    #[must_use]
    pub fn of_function(self, function: &str, version: &str) -> Self {
        Self { function: function.to_owned(), function_version: version.to_owned(), ..self }
    }

    /// Names the consumer, in place of the function and the alias it is invoked by. What one
    /// consumer keeps, no other sees; functions that work on one stream must not share a name.
    #[must_use]
    pub fn of_consumer(self, name: impl Into<String>) -> Self {
        Self { consumer: Some(name.into()), ..self }
    }

    /// Who works on the streams in this invocation.
    #[must_use]
    pub fn consumer(&self, call: &Call) -> String {
        consumer(self.consumer.as_deref(), &self.function, call.function_arn.as_deref())
    }

    /// Makes the tables, unless they are there already.
    ///
    /// # Errors
    /// The store refuses, or cannot be reached.
    pub async fn ensure_tables(&self, deadline: Timestamp) -> Result<(), StoreError> {
        if let Some(progress) = &self.progress {
            progress.ensure_table(deadline).await?;
        }
        if let Some(park) = &self.park {
            park.ensure_table(deadline).await?;
        }
        Ok(())
    }

    /// The park, if there is one.
    #[must_use]
    pub fn park(&self) -> Option<&Park> {
        self.park.as_ref()
    }

    /// The park as this invocation's consumer sees it.
    pub(crate) fn park_of(&self, call: &Call) -> Option<Park> {
        let park = self.park.as_ref()?;
        Some(park.of_consumer(self.consumer(call), &self.function))
    }

    /// The progress of this invocation's consumer.
    pub(crate) fn progress_of(&self, call: &Call) -> Option<Progress> {
        Some(self.progress.as_ref()?.of_consumer(self.consumer(call)))
    }

    /// Whether a record that the park has no room for is finished when the destination has it.
    pub(crate) fn sends_when_full(&self) -> bool {
        #[cfg(feature = "destinations")]
        return self.on_full == OnFull::Destination && self.destination.is_some();
        #[cfg(not(feature = "destinations"))]
        false
    }

    pub(crate) fn has_place(&self) -> bool {
        self.sends() || self.park.is_some()
    }

    /// Sends records to the destination; how many, from the first on, are there for sure. None
    /// is begun that would not end in time.
    #[cfg(feature = "destinations")]
    pub(crate) async fn send(
        &self,
        queue: &[Pending],
        (call, deadline): (&Call, &Deadline<'_>),
    ) -> usize {
        let Some(destination) = &self.destination else { return queue.len() };
        for (sent, pending) in queue.iter().enumerate() {
            if !deadline.has_time_to_send() {
                telemetry::park_failed(call, "DestinationOutOfTime", &OutOfTime);
                return sent;
            }
            let (began, limit) = (deadline.now(), deadline.sends_end());
            let answer = deadline.until(limit, destination.send(&pending.envelope, limit)).await;
            deadline.learn_send(began);
            match answer {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    telemetry::park_failed(call, "DestinationFailed", &error);
                    return sent;
                }
                None => {
                    telemetry::park_failed(call, "DestinationOutOfTime", &OutOfTime);
                    return sent;
                }
            }
        }
        queue.len()
    }

    #[cfg(not(feature = "destinations"))]
    #[expect(clippy::unused_async, reason = "its twin sends")]
    pub(crate) async fn send(&self, queue: &[Pending], _: (&Call, &Deadline<'_>)) -> usize {
        queue.len()
    }

    /// Whether records that are set aside are sent to a destination as well.
    pub(crate) fn sends(&self) -> bool {
        #[cfg(feature = "destinations")]
        return self.destination.is_some();
        #[cfg(not(feature = "destinations"))]
        false
    }

    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(MAX_ATTEMPTS_DEFAULT).get()
    }

    /// Store calls made so far, for the invocation's metrics.
    pub(crate) fn store_calls(&self) -> u64 {
        self.store().map_or(0, |store| store.usage().calls)
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        let park = self.park.as_ref().map(|park| &park.store);
        self.progress.as_ref().map(Progress::store).or(park)
    }
}

/// There is no time left to set a record aside, or to remember it, before the deadline.
#[derive(Debug, thiserror::Error)]
#[error("the function's time is nearly used up; what is not noted by now comes again")]
pub(crate) struct OutOfTime;
