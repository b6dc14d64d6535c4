//! A world of virtual time: tasks that go on in an order that a seed chooses, a step at a time.
//!
//! A step is what a task does between two moments of its store calls, so every interleaving at
//! those is possible. An invocation may be killed at any step, or be frozen there and go on days
//! later, beside whatever took its place. Time passes with calls, and where all tasks sleep.

use changefold::{clock::Clock, record::Timestamp};
use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture};
use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// When every world begins: the records' dates are whole seconds from there.
pub(crate) const BEGIN_MS: i64 = 1_790_000_000_000;

/// Time and chance, as the stores and the clocks see them.
pub(crate) struct World {
    state: Mutex<State>,
}

struct State {
    now: i64,
    rng: fastrand::Rng,
    /// Whether the task that is being polled has made a step.
    acted: bool,
    /// Until when the task that is being polled sleeps.
    sleeps_until: Option<i64>,
    /// Whether it is a call of a backfill.
    is_worker: bool,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let rng = fastrand::Rng::with_seed(seed);
        let (acted, sleeps_until, is_worker) = (false, None, false);
        let state = State { now: BEGIN_MS, rng, acted, sleeps_until, is_worker };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn now(&self) -> i64 {
        self.state().now
    }

    /// One time in so many.
    pub(crate) fn is_one_in(&self, many: u32) -> bool {
        many > 0 && self.state().rng.u32(..many) == 0
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        self.state().rng.usize(..bound)
    }

    pub(crate) fn ms_below(&self, bound: i64) -> i64 {
        self.state().rng.i64(0..bound)
    }

    pub(crate) fn is_worker(&self) -> bool {
        self.state().is_worker
    }

    /// Lets others go first; a little time passes.
    pub(crate) async fn step(&self) {
        let mut waited = false;
        poll_fn(|context| {
            let mut state = self.state();
            state.acted = true;
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            state.now += state.rng.i64(0..4);
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Waits until a moment. Whoever waits is polled at every step of its task.
    pub(crate) async fn until(&self, moment: i64) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.now >= moment {
                return Poll::Ready(());
            }
            let sleeps_until = state.sleeps_until.map_or(moment, |until| until.min(moment));
            state.sleeps_until = Some(sleeps_until);
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    pub(crate) async fn pass(&self, ms: i64) {
        let moment = self.now() + ms;
        self.until(moment).await;
    }
}

/// A function's clock, which may be wrong.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    pub(crate) world: Arc<World>,
    pub(crate) ahead_ms: i64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.world.now() + self.ahead_ms)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let world = Arc::clone(&self.world);
        let ms = i64::try_from(duration.as_millis()).unwrap();
        async move { world.pass(ms).await }.boxed()
    }

    fn watch(&self, Timestamp(moment): Timestamp) -> BoxFuture<'static, ()> {
        let (world, moment) = (Arc::clone(&self.world), moment - self.ahead_ms);
        async move { world.until(moment).await }.boxed()
    }
}

struct Task {
    future: LocalBoxFuture<'static, ()>,
    due: i64,
    is_worker: bool,
}

/// The tasks of a world.
#[derive(Clone)]
pub(crate) struct Tasks {
    world: Arc<World>,
    spawned: Rc<RefCell<Vec<Task>>>,
}

/// What becomes of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It lives to its end.
    Lives,
    /// Its process dies after so many polls.
    Dies(usize),
    /// It is taken for dead after so many polls, and goes on after so many milliseconds.
    Freezes(usize, i64),
}

impl Tasks {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), spawned: Rc::default() }
    }

    pub(crate) fn spawn(&self, is_worker: bool, task: impl Future<Output = ()> + 'static) {
        let task = Task { future: task.boxed_local(), due: 0, is_worker };
        self.spawned.borrow_mut().push(task);
    }

    /// Polls tasks in an order of chance until all are done.
    pub(crate) fn run(&self) {
        let mut tasks: Vec<Task> = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            tasks.append(&mut self.spawned.borrow_mut());
            if tasks.is_empty() {
                return;
            }
            let now = self.world.now();
            let awake: Vec<usize> = (0..tasks.len()).filter(|&at| tasks[at].due <= now).collect();
            if awake.is_empty() {
                let next = tasks.iter().map(|task| task.due).min().unwrap();
                self.world.state().now = next;
                continue;
            }
            let at = awake[self.world.below(awake.len())];
            {
                let mut state = self.world.state();
                (state.acted, state.sleeps_until) = (false, None);
                state.is_worker = tasks[at].is_worker;
            }
            let is_done = tasks[at].future.as_mut().poll(&mut context).is_ready();
            let state = self.world.state();
            let sleeps = state.sleeps_until.filter(|_| !state.acted);
            drop(state);
            if is_done {
                drop(tasks.swap_remove(at));
            } else {
                tasks[at].due = sleeps.unwrap_or(0);
            }
        }
    }

    /// Makes an invocation, which may not come to its end.
    pub(crate) async fn attempt<T: 'static>(
        &self,
        fate: Fate,
        invocation: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let mut invocation = Some(invocation.boxed_local());
        let mut polls = 0;
        let ended = poll_fn(|context| {
            let running = invocation.as_mut().unwrap();
            if let Poll::Ready(told) = running.as_mut().poll(context) {
                return Poll::Ready(Some(told));
            }
            polls += 1;
            match fate {
                Fate::Dies(after) | Fate::Freezes(after, _) if polls >= after => Poll::Ready(None),
                _ => Poll::Pending,
            }
        })
        .await;
        if let (None, Fate::Freezes(_, ms)) = (&ended, fate) {
            let frozen = invocation.take().unwrap();
            let (world, is_worker) = (Arc::clone(&self.world), self.world.is_worker());
            self.spawn(is_worker, async move {
                world.pass(ms).await;
                drop(frozen.await);
            });
        }
        ended
    }
}
