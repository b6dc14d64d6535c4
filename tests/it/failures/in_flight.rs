//! Invocations beside each other where the desk has no mapping: who is next is for chance to
//! say, and time passes when nobody can go on.

use super::scripted::pause;
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture},
    orchestrator::HttpRequest,
};
use changefold::{clock::Clock, record::Timestamp, store::embedded::Embedded};
use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

/// A clock that somebody else moves on.
#[derive(Debug, Clone)]
pub(crate) struct ManualClock(Arc<Mutex<Timers>>);

#[derive(Debug)]
struct Timers {
    now: i64,
    /// By the moment they wait for: who, and whether time may pass because of it.
    waiting: BTreeMap<(i64, u64), (Waker, bool)>,
    so_far: u64,
}

impl ManualClock {
    pub(crate) fn new(Timestamp(now): Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Timers { now, waiting: BTreeMap::new(), so_far: 0 })))
    }

    /// The next moment that somebody waits for, if anybody sleeps.
    fn next(&self) -> Option<i64> {
        let timers = self.0.lock().unwrap();
        timers.waiting.values().any(|(_, sleeps)| *sleeps).then_some(())?;
        timers.waiting.first_key_value().map(|((moment, _), _)| *moment)
    }

    pub(crate) fn pass_to(&self, moment: i64) {
        let mut timers = self.0.lock().unwrap();
        timers.now = timers.now.max(moment);
        for ((due, _), (waker, _)) in &timers.waiting {
            if *due <= timers.now {
                waker.wake_by_ref();
            }
        }
    }

    fn wait(&self, moment: i64, sleeps: bool) -> BoxFuture<'static, ()> {
        let mut timers = self.0.lock().unwrap();
        timers.so_far += 1;
        let place = (moment, timers.so_far);
        Timer { clock: self.clone(), place, sleeps }.boxed()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.lock().unwrap().now)
    }

    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
        let length = i64::try_from(length.as_millis()).unwrap();
        self.wait(self.now().0 + length, true)
    }

    fn watch(&self, Timestamp(moment): Timestamp) -> BoxFuture<'static, ()> {
        self.wait(moment, false)
    }
}

struct Timer {
    clock: ManualClock,
    place: (i64, u64),
    sleeps: bool,
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut timers = self.clock.0.lock().unwrap();
        if timers.now >= self.place.0 {
            return Poll::Ready(());
        }
        timers.waiting.insert(self.place, (context.waker().clone(), self.sleeps));
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.clock.0.lock().unwrap().waiting.remove(&self.place);
    }
}

/// A clock that nobody waits for: a sleep just makes it later.
#[derive(Debug)]
pub(crate) struct Alone(Mutex<i64>);

impl Alone {
    pub(crate) fn new(Timestamp(now): Timestamp) -> Arc<Self> {
        Arc::new(Self(Mutex::new(now)))
    }

    pub(crate) fn pass(&self, milliseconds: i64) {
        *self.0.lock().unwrap() += milliseconds;
    }
}

impl Clock for Alone {
    fn now(&self) -> Timestamp {
        Timestamp(*self.0.lock().unwrap())
    }

    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
        self.pass(i64::try_from(length.as_millis()).unwrap());
        std::future::ready(()).boxed()
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

/// A store at which others may go first.
#[derive(Debug, Clone)]
pub(crate) struct Polite(pub(crate) Embedded);

impl HttpConnector for Polite {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let store = self.0.clone();
        HttpConnectorFuture::new(async move {
            pause(1).await;
            let answer = store.call(request).await;
            pause(1).await;
            answer
        })
    }
}

/// Whether somebody can go on.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Invocation<'f, T> {
    future: LocalBoxFuture<'f, T>,
    flag: Arc<Flag>,
    /// When it is cut off, and what that means.
    ends: (i64, Option<T>),
}

/// All that is under way.
pub(crate) struct InFlight<'f, T> {
    under_way: Vec<Invocation<'f, T>>,
    clock: ManualClock,
    rng: fastrand::Rng,
}

impl<'f, T> InFlight<'f, T> {
    pub(crate) fn new(clock: &ManualClock, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ 0xf119);
        Self { under_way: Vec::new(), clock: clock.clone(), rng }
    }

    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Starts something that is cut off at a moment.
    pub(crate) fn launch(&mut self, future: LocalBoxFuture<'f, T>, ends: Timestamp, cut_off: T) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.under_way.push(Invocation { future, flag, ends: (ends.0, Some(cut_off)) });
    }

    /// Gives somebody a turn, or lets time pass, up to `moment`; gives back what has ended.
    /// The error says that nothing is left to wait for.
    pub(crate) fn turn(&mut self, moment: Option<i64>) -> Result<Option<T>, ()> {
        let is_ready = |invocation: &Invocation<'_, T>| invocation.flag.0.load(Ordering::Relaxed);
        let ready: Vec<usize> =
            (0..self.under_way.len()).filter(|at| is_ready(&self.under_way[*at])).collect();
        let Some(at) = self.rng.choice(ready) else { return self.pass(moment) };
        let Invocation { future, flag, .. } = &mut self.under_way[at];
        flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(flag));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => Ok(None),
            Poll::Ready(ended) => {
                drop(self.under_way.remove(at));
                Ok(Some(ended))
            }
        }
    }

    fn pass(&mut self, moment: Option<i64>) -> Result<Option<T>, ()> {
        let ends = self.under_way.iter().map(|invocation| invocation.ends.0).min();
        let next = [moment, self.clock.next(), ends].into_iter().flatten().min();
        self.clock.pass_to(next.ok_or(())?);
        let Timestamp(now) = self.clock.now();
        let is_over = |invocation: &Invocation<'_, T>| invocation.ends.0 <= now;
        let over = self.under_way.iter().position(is_over);
        Ok(over.and_then(|at| self.under_way.remove(at).ends.1.take()))
    }
}
