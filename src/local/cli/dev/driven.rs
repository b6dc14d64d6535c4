//! The function as `dev` calls it: when somebody lets it, with what somebody asked for, and within
//! its timeout.

use super::terminal::Waits;
use crate::{
    call::Call,
    clock::{Clock as _, SystemClock},
    local::{
        page::{CallFault, Control},
        target::{FunctionError, Target},
    },
    record::Timestamp,
};
use bytes::Bytes;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use std::time::Duration;
use tokio::time::Instant;

/// What the function may take beyond its `Timeout` before the desk lets go of it: programs are
/// ended by whoever started them, which is told earlier.
const TIMEOUT_GRACE: Duration = Duration::from_millis(500);

/// A function that ends in the middle of its work has so long for the first half.
const BEFORE_A_CRASH: Duration = Duration::from_millis(50);

/// A function as the mappings of a desk call it.
pub(super) struct Driven<'t, T> {
    pub(super) target: &'t T,
    /// The function's `Timeout`.
    pub(super) timeout: Duration,
    /// None where nobody can say anything, as there is no page.
    pub(super) control: Option<Control>,
    /// How long its calls wait until they may begin.
    pub(super) waits: Waits,
}

impl<T: Target> Target for Driven<'_, T> {
    fn invoke(
        &self,
        payload: Bytes,
        call: Call,
    ) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        let waiting = self.waits.next();
        async move {
            let Some(control) = &self.control else { return self.call(payload, call).await };
            let since = Instant::now();
            let Some(permit) = control.permit().await else {
                return Err(FunctionError::not_invoked("the desk was told to stop"));
            };
            // A pause is none of the function's time.
            let call = if permit.has_waited { self.renewed(call) } else { call };
            if let Some(waiting) = waiting.filter(|_| permit.has_waited) {
                self.waits.end(waiting, since.elapsed());
            }
            match permit.fault {
                None => self.call(payload, call).await,
                Some(fault) => self.struck(fault, payload, call).await,
            }
        }
        .boxed_local()
    }
}

impl<T: Target> Driven<'_, T> {
    fn renewed(&self, call: Call) -> Call {
        let timeout_ms = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
        let deadline = Timestamp(SystemClock.now().0.saturating_add(timeout_ms));
        Call { deadline, ..call }
    }

    async fn call(&self, payload: Bytes, call: Call) -> Result<Bytes, FunctionError> {
        let invoked = self.target.invoke(payload, call);
        tokio::time::timeout(self.timeout + TIMEOUT_GRACE, invoked).await.unwrap_or_else(|_| {
            Err(FunctionError::unhandled("the function was still running at its timeout"))
        })
    }

    /// A call to which something happens, as somebody asked on the page.
    async fn struck(
        &self,
        fault: CallFault,
        payload: Bytes,
        call: Call,
    ) -> Result<Bytes, FunctionError> {
        let asked = |what| FunctionError::unhandled(format!("{what}, as the page asked"));
        match fault {
            CallFault::Fail => Err(asked("the function has failed")),
            CallFault::TimeOut => {
                let worked = async {
                    drop(self.target.invoke(payload, call).await);
                    std::future::pending::<()>().await;
                };
                drop(tokio::time::timeout(self.timeout, worked).await);
                Err(asked("the function was still running at its timeout"))
            }
            CallFault::Crash => {
                // Dropping a call in the middle is what a process that dies looks like; if it was
                // quicker, its answer is lost.
                let invoked = self.target.invoke(payload, call);
                drop(tokio::time::timeout(BEFORE_A_CRASH, invoked).await);
                Err(asked("the function's process has ended"))
            }
            CallFault::Twice => {
                let first = self.call(payload.clone(), call.clone()).await;
                drop(self.call(payload, self.renewed(call)).await);
                first
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CallFault, Control, Driven, Waits};
    use crate::{
        call::Call,
        local::{
            page::Shared,
            target::{FunctionError, Target},
        },
        record::Timestamp,
    };
    use bytes::Bytes;
    use futures_util::future::{FutureExt as _, LocalBoxFuture};
    use std::{cell::Cell, time::Duration};

    /// Counts the calls that begin and end.
    #[derive(Default)]
    struct Counted {
        begun: Cell<u32>,
        ended: Cell<u32>,
        takes: Duration,
    }

    impl Target for Counted {
        fn invoke(&self, _: Bytes, _: Call) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
            async move {
                self.begun.set(self.begun.get() + 1);
                tokio::time::sleep(self.takes).await;
                self.ended.set(self.ended.get() + 1);
                Ok(Bytes::from_static(b"{}"))
            }
            .boxed_local()
        }
    }

    #[tokio::test]
    async fn what_was_asked_for_happens_to_one_call() {
        for (fault, takes_ms, counted, message) in [
            (None, 1, (1, 1), None),
            (Some(CallFault::Fail), 1, (0, 0), Some("failed")),
            (Some(CallFault::TimeOut), 1, (1, 1), Some("timeout")),
            (Some(CallFault::Crash), 1, (1, 1), Some("process has ended")),
            (Some(CallFault::Crash), 5_000, (1, 0), Some("process has ended")),
            (Some(CallFault::Twice), 1, (2, 2), None),
        ] {
            let takes = Duration::from_millis(takes_ms);
            let target = Counted { takes, ..Counted::default() };
            let control = Control::new(Shared::default());
            if let Some(fault) = fault {
                control.arm(fault).unwrap();
            }
            let timeout = Duration::from_millis(100);
            let waits = Waits::default();
            let driven = Driven { target: &target, timeout, control: Some(control), waits };
            let call = || Call::new("id", Timestamp(i64::MAX));
            let answer = driven.invoke(Bytes::new(), call()).await;
            assert_eq!((target.begun.get(), target.ended.get()), counted, "{fault:?}");
            match message {
                None => assert_eq!(answer.unwrap(), "{}"),
                Some(part) => {
                    let error = answer.unwrap_err();
                    assert!(error.was_invoked && error.message.contains(part), "{error}");
                }
            }
            if takes_ms == 1 {
                assert!(driven.invoke(Bytes::new(), call()).await.is_ok(), "the next is as ever");
            }
        }
    }

    #[tokio::test]
    async fn what_a_call_waits_in_a_pause_is_told_beside_it() {
        let waits = Waits::default();
        let control = Control::new(Shared::default());
        let (target, timeout) = (Counted::default(), Duration::from_secs(5));
        let driven = Driven { target: &target, timeout, control: Some(control.clone()), waits };
        let call = || Call::new("id", Timestamp(i64::MAX));
        driven.waits.begin("s", None);
        driven.invoke(Bytes::new(), call()).await.unwrap();
        assert_eq!(driven.waits.take("s", None), 0);
        control.pause();
        driven.waits.begin("s", None);
        let paused = driven.invoke(Bytes::new(), call());
        // Another call is told of before this one may begin.
        driven.waits.begin("other", None);
        let resumed = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            control.resume();
        };
        let (answer, ()) = tokio::join!(paused, resumed);
        answer.unwrap();
        assert_eq!(driven.waits.take("other", None), 0);
        assert!(driven.waits.take("s", None) >= 50);
        assert_eq!(driven.waits.take("s", None), 0, "it is taken once");
    }

    #[tokio::test]
    async fn a_call_that_outlasts_its_timeout_is_let_go_of() {
        let target = Counted { takes: Duration::from_secs(20), ..Counted::default() };
        let (timeout, waits) = (Duration::from_millis(1), Waits::default());
        let driven = Driven { target: &target, timeout, control: None, waits };
        let call = Call::new("id", Timestamp(i64::MAX));
        let error = driven.invoke(Bytes::new(), call).await.unwrap_err();
        assert!(error.was_invoked && error.message.contains("timeout"), "{error}");
        assert_eq!((target.begun.get(), target.ended.get()), (1, 0));
    }
}
