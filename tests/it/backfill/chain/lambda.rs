//! Lambda as a queue of events, and what became of them.

use changefold::{
    invoke::{Invoke, InvokeError},
    operation::backfill::chain::Chained,
    record::Timestamp,
};
use futures_util::future::{BoxFuture, FutureExt, ready};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Takes asynchronous invocations.
#[derive(Debug, Default)]
pub(in crate::backfill) struct Lambda {
    queue: Mutex<VecDeque<Vec<u8>>>,
    all: Mutex<Vec<Vec<u8>>>,
    refuses: AtomicBool,
}

impl Lambda {
    pub(in crate::backfill) fn take(&self) -> Option<Vec<u8>> {
        self.queue.lock().unwrap().pop_front()
    }

    /// Every event that came.
    pub(in crate::backfill) fn all(&self) -> Vec<Vec<u8>> {
        self.all.lock().unwrap().clone()
    }

    pub(in crate::backfill) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Relaxed);
    }
}

impl Invoke for Lambda {
    fn invoke_later<'i>(
        &'i self,
        function: &'i str,
        event: Vec<u8>,
        _: Timestamp,
    ) -> BoxFuture<'i, Result<(), InvokeError>> {
        assert_eq!(function, super::shop::ARN, "the alias goes with it");
        if self.refuses.load(Relaxed) {
            let message = "AccessDeniedException".to_owned();
            return ready(Err(InvokeError::Refused { status: 403, message })).boxed();
        }
        self.all.lock().unwrap().push(event.clone());
        self.queue.lock().unwrap().push_back(event);
        ready(Ok(())).boxed()
    }
}

/// How often each number has worked.
pub(in crate::backfill) fn times_worked(answers: &[Chained]) -> BTreeMap<u64, u32> {
    let mut worked = BTreeMap::new();
    for number in answers.iter().filter_map(|told| told.link) {
        *worked.entry(number).or_default() += 1;
    }
    worked
}

/// What became of the events of a queue.
#[derive(Debug, Default)]
pub(in crate::backfill) struct Deliveries {
    pub(in crate::backfill) answers: Vec<Chained>,
    pub(in crate::backfill) took_ms: Vec<i64>,
    /// Links that were invoked since the chain was started.
    pub(in crate::backfill) sent: u64,
    /// The greatest number among them.
    pub(in crate::backfill) numbers: u64,
}

impl Deliveries {
    /// No number has worked twice, and no more links were invoked than there are numbers.
    #[track_caller]
    pub(in crate::backfill) fn check(&self) {
        let worked = times_worked(&self.answers);
        assert!(!worked.is_empty(), "nothing was delivered");
        assert!(worked.values().all(|times| *times == 1), "{worked:?}");
        assert!(self.sent <= self.numbers, "{} links for {} numbers", self.sent, self.numbers);
    }
}
