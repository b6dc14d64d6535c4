//! The processing of many changes in one call, for stores that are written in bulk.
//!
//! It is separate from the one-at-a-time form because a failure means something else here: of
//! a call with several records it does not say whose it is. So the caller
//! ([`Bulk`](crate::batch::bisect::Bulk)) repeats or halves the call, and a processor keeps
//! one of two promises, or its effects may be repeated within an invocation: it writes all of
//! a call or nothing, or it says which items are finished ([`BatchFailure::after`]).
//!
//! What this gives up: the order within a call is the processor's own care. The items come in
//! stream order, those of one key among them.

use super::{Context, Failure};
use crate::record::Change;
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::BTreeSet, error::Error, fmt, marker::PhantomData, num::NonZeroUsize};

/// Your processing of many changes in one call.
///
/// # Examples
/// ```
/// use changefold::processor::{BatchFailure, BatchItem, BatchProcessor, Failure};
/// use std::num::NonZeroUsize;
///
/// #[derive(serde::Deserialize)]
/// struct Order<'a> {
///     id: &'a str, // borrowed from the payload
/// }
///
/// struct Copy;
///
/// impl BatchProcessor for Copy {
///     type Item<'a> = Order<'a>;
///
///     fn limit(&self) -> NonZeroUsize {
///         NonZeroUsize::new(25).expect("25 is not zero")
///     }
///
///     async fn process(&self, batch: &[BatchItem<'_, Order<'_>>]) -> Result<(), BatchFailure> {
///         let mut ids = Vec::new();
///         for item in batch {
///             ids.extend(item.change().new_image().map(|order| order.id));
///         }
///         let written = put(&ids).await?; // an error without a word is unclassified
///         if written < ids.len() {
///             return Err(Failure::retry("throttled").after(0..written));
///         }
///         Ok(())
///     }
/// }
/// # async fn put(ids: &[&str]) -> std::io::Result<usize> { Ok(ids.len()) }
/// # fn is<P: BatchProcessor>(_: P) {}
/// # is(Copy);
/// ```
pub trait BatchProcessor {
    /// The type an image or a Kinesis document is read into; may borrow from the payload.
    type Item<'a>: Deserialize<'a>;

    /// The most records of one call; all of the batch unless told otherwise.
    fn limit(&self) -> NonZeroUsize {
        NonZeroUsize::MAX
    }

    /// Processes the changes, which come in stream order. There is at least one.
    ///
    /// A panic in here is an [unclassified](super::Class::Unclassified) failure of the call.
    ///
    /// # Errors
    /// Not all of the call is processed. The class says what is to become of the rest:
    /// [`Retry`](super::Class::Retry) sends the same records again,
    /// [`Halt`](super::Class::Halt) fails the invocation, and anything else halves the call,
    /// down to the record that fails alone.
    fn process<'a>(
        &self,
        batch: &[BatchItem<'a, Self::Item<'a>>],
    ) -> impl Future<Output = Result<(), BatchFailure>>;
}

/// One change of a bulk call.
#[derive(Debug)]
pub struct BatchItem<'a, T> {
    /// Which record of the batch it is.
    at: usize,
    change: Change<T>,
    context: Context<'a>,
}

impl<'a, T> BatchItem<'a, T> {
    pub(crate) fn new(at: usize, change: Change<T>, context: Context<'a>) -> Self {
        Self { at, change, context }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn set_attempt(&mut self, attempt: u32) {
        self.context = self.context.with_attempt(attempt);
    }

    /// The change, as a [`Processor`](super::Processor) would get it.
    #[must_use]
    pub fn change(&self) -> &Change<T> {
        &self.change
    }

    /// Where the change stands; its [`identity`](Context::identity) makes effects idempotent.
    #[must_use]
    pub fn context(&self) -> &Context<'a> {
        &self.context
    }
}

/// Why a bulk call is not processed, and which of its items are finished nevertheless.
///
/// `?` turns any error into an unclassified failure, and a [`Failure`] into one of nothing
/// finished; [`Failure::after`] makes one that reports.
///
/// # Examples
/// ```
/// use changefold::processor::{BatchFailure, Failure};
/// let failure = Failure::retry("throttled").after([0, 2]);
/// assert_eq!(failure.finished().collect::<Vec<_>>(), [0, 2]);
/// let io: BatchFailure = std::io::Error::other("reset").into();
/// assert_eq!((io.failure().code(), io.finished().count()), ("ProcessorError", 0));
/// ```
#[derive(Debug)]
pub struct BatchFailure {
    failure: Failure,
    finished: BTreeSet<usize>,
}

impl BatchFailure {
    /// Reports items as finished, by their places in the call: they are applied and never sent
    /// again. Places the call does not have say nothing.
    ///
    /// Of one key's items only the first may be reported: one that is left out and sent again
    /// would come after a later one.
    #[must_use]
    pub fn after(mut self, finished: impl IntoIterator<Item = usize>) -> Self {
        self.finished.extend(finished);
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// The items reported as finished, ascending.
    pub fn finished(&self) -> impl Iterator<Item = usize> {
        self.finished.iter().copied()
    }

    pub(crate) fn into_parts(self) -> (Failure, BTreeSet<usize>) {
        (self.failure, self.finished)
    }
}

impl From<Failure> for BatchFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, finished: BTreeSet::new() }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for BatchFailure {
    fn from(error: E) -> Self {
        Failure::from(error).into()
    }
}

/// Makes a batch processor of an `async` closure over an owned type.
///
/// # Examples
/// ```
/// use changefold::processor::{self, BatchItem, Failure};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: String,
/// }
///
/// let processor = processor::from_batch_fn(async |batch: &[BatchItem<'_, Order>]| {
///     put(batch.iter().filter_map(|item| item.change().new_image())).await?;
///     Ok(())
/// });
/// # async fn put<'o>(_: impl Iterator<Item = &'o Order>) -> std::io::Result<()> { Ok(()) }
/// # fn is<P: processor::BatchProcessor>(_: P) {}
/// # is(processor);
/// ```
pub fn from_batch_fn<T, F>(process: F) -> FromBatchFn<T, F>
where
    T: DeserializeOwned,
    F: AsyncFn(&[BatchItem<'_, T>]) -> Result<(), BatchFailure>,
{
    FromBatchFn { process, limit: NonZeroUsize::MAX, item: PhantomData }
}

/// The processor [`from_batch_fn`] makes.
pub struct FromBatchFn<T, F> {
    process: F,
    limit: NonZeroUsize,
    item: PhantomData<fn() -> T>,
}

impl<T, F> FromBatchFn<T, F> {
    /// Chooses the most records of one call.
    #[must_use]
    pub fn with_limit(self, limit: NonZeroUsize) -> Self {
        Self { limit, ..self }
    }
}

impl<T, F> fmt::Debug for FromBatchFn<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromBatchFn").finish_non_exhaustive()
    }
}

impl<T, F> BatchProcessor for FromBatchFn<T, F>
where
    T: DeserializeOwned,
    F: AsyncFn(&[BatchItem<'_, T>]) -> Result<(), BatchFailure>,
{
    type Item<'a> = T;

    fn limit(&self) -> NonZeroUsize {
        self.limit
    }

    async fn process(&self, batch: &[BatchItem<'_, T>]) -> Result<(), BatchFailure> {
        (self.process)(batch).await
    }
}
