//! Several calls under way together, but never more than a few.
//!
//! Separate so that one bound holds everywhere: a batch may have thousands of rows to read or
//! write, and each call under way takes a connection, while Lambda gives a process 1,024 file
//! descriptors. The answers come in the order of the calls, whichever ended first, so what
//! follows from them does not depend on chance.
//!
//! What it gives up: a call whose predecessors are slow waits with its answer, and takes a place
//! meanwhile.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// The most calls of one kind that are under way together.
pub(crate) const CALLS_AT_ONCE: usize = 32;

/// Makes all the calls.
pub(crate) async fn all<F: Future>(calls: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    stream::iter(calls).buffered(CALLS_AT_ONCE).collect().await
}

/// Makes the calls until one fails.
///
/// # Errors
/// That of the first call, in their order, that failed.
pub(crate) async fn all_or_error<F, T, E>(calls: impl IntoIterator<Item = F>) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>>,
{
    stream::iter(calls).buffered(CALLS_AT_ONCE).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::cell::Cell;

    #[test]
    fn answers_come_in_order_and_few_calls_are_under_way() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let call = async |at: usize| {
            now.update(|now| now + 1);
            most.update(|most: usize| most.max(now.get()));
            // The later, the sooner.
            for _ in 0..(200 - at) {
                let mut is_first = true;
                std::future::poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if std::mem::take(&mut is_first) {
                        return std::task::Poll::Pending;
                    }
                    std::task::Poll::Ready(())
                })
                .await;
            }
            now.update(|now| now - 1);
            if at == 150 { Err(at) } else { Ok(at) }
        };
        let run = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answers = run.block_on(all((0..200).map(call)));
        assert_eq!(most.get(), CALLS_AT_ONCE);
        assert!(answers.iter().enumerate().all(|(at, it)| it.unwrap_or_else(|at| at) == at));
        assert_eq!(run.block_on(all_or_error((0..200).map(call))), Err(150));
        let none = all(std::iter::empty::<std::future::Ready<()>>()).now_or_never();
        assert_eq!(none, Some(Vec::new()));
    }
}
