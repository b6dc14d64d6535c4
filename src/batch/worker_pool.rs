//! Several workers on one task: each takes what can be done, until nothing is left.
//!
//! It is separate from the lanes because it is only about whose turn it is: what there is to
//! do is a [`WorkSource`]'s. A worker is one future for the whole source, made when all others are
//! busy; so what never has to wait is done by one worker, in one go, and costs no memory for
//! each piece of work. It keeps these invariants: a worker is polled when it is given work, or
//! when what it waits for woke it, never else; workers are polled in the order in which they
//! were woken, so the order of events follows from the work alone; work that waited and was
//! woken comes before more work is taken, so neither kind can keep the other from its turn.
//!
//! What it gives up: all workers are on one task, so they wait beside each other and never
//! compute beside each other.

use futures_util::{future::LocalBoxFuture, task::AtomicWaker};
use std::{
    cell::Cell,
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// What a pool does.
pub(super) trait WorkSource {
    /// Whether there is something to begin with. A worker that is polled then begins it, or
    /// finds that there is nothing.
    fn has_work(&self) -> bool;

    /// Whether nothing is under way and nothing will begin, or what is under way must stop.
    fn is_over(&self) -> bool;

    /// A worker's whole future: it takes work as long as there is some and nobody else has a
    /// turn ([`Slot::is_another_woken`]), and otherwise [waits](Slot::wait_for_work).
    fn work(&self, slot: Rc<Slot>) -> LocalBoxFuture<'_, Infallible>;
}

/// A worker's place in the pool: what the two know of each other.
#[derive(Debug)]
pub(super) struct Slot {
    woken: Arc<WakeQueue>,
    is_idle: Cell<bool>,
    turns: Cell<u64>,
}

impl Slot {
    /// Gives the turn back until there is work again.
    pub(super) async fn wait_for_work(&self) {
        self.is_idle.set(true);
        futures_util::pending!();
    }

    /// Whether another worker that waited should have a turn.
    pub(super) fn is_another_woken(&self) -> bool {
        self.woken.is_any.load(Ordering::Relaxed)
    }

    /// How many turns the worker has had: while the number stays, it has not waited.
    pub(super) fn turns(&self) -> u64 {
        self.turns.get()
    }
}

/// The workers that a source has; a future that ends with it.
pub(super) struct WorkerPool<'s, S> {
    source: &'s S,
    workers: Vec<Worker<'s>>,
    idle: Vec<usize>,
    woken: Arc<WakeQueue>,
}

struct Worker<'d> {
    future: LocalBoxFuture<'d, Infallible>,
    slot: Rc<Slot>,
    signal: Arc<WorkerWaker>,
    waker: Waker,
}

impl<'s, S: WorkSource> WorkerPool<'s, S> {
    pub(super) fn new(source: &'s S) -> Self {
        Self { source, workers: Vec::new(), idle: Vec::new(), woken: Arc::default() }
    }

    /// A worker that has nothing to do.
    fn idle_worker(&mut self) -> usize {
        if let Some(worker) = self.idle.pop() {
            return worker;
        }
        let woken = Arc::clone(&self.woken);
        let slot = Rc::new(Slot { woken, is_idle: Cell::new(false), turns: Cell::new(0) });
        let worker = self.workers.len();
        let signal = WorkerWaker {
            worker,
            is_woken: AtomicBool::new(false),
            woken: Arc::clone(&self.woken),
        };
        let signal = Arc::new(signal);
        let waker = Waker::from(Arc::clone(&signal));
        self.workers.push(Worker {
            future: self.source.work(Rc::clone(&slot)),
            slot,
            signal,
            waker,
        });
        worker
    }

    /// Lets a worker go on; tells whether it is idle now.
    fn poll_worker(&mut self, number: usize) -> bool {
        let Worker { future, slot, signal, waker } = &mut self.workers[number];
        // Whoever wakes it from here on is heard again.
        signal.is_woken.store(false, Ordering::Release);
        slot.is_idle.set(false);
        slot.turns.update(|turns| turns + 1);
        let Poll::Pending = future.as_mut().poll(&mut Context::from_waker(waker));
        let is_idle = slot.is_idle.get();
        if is_idle {
            self.idle.push(number);
        }
        is_idle
    }

    /// The worker that was woken first, unless it is idle: then it was too late.
    fn woken_worker(&mut self) -> Option<usize> {
        loop {
            let worker = self.woken.next()?;
            let Worker { slot, signal, .. } = &self.workers[worker];
            if !slot.is_idle.get() {
                return Some(worker);
            }
            signal.is_woken.store(false, Ordering::Release);
        }
    }
}

impl<S: WorkSource> Future for WorkerPool<'_, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let pool = &mut *self;
        pool.woken.listener.register(context.waker());
        // Work that wakes itself must not keep the task from everybody else.
        let mut turns_left = pool.workers.len().max(1);
        while !pool.source.is_over() {
            // Only those woken by now: who is woken again waits for what begins in between.
            let woken = pool.woken.len();
            if woken == 0 && !pool.source.has_work() {
                return Poll::Pending;
            }
            for _ in 0..woken {
                if turns_left == 0 {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                turns_left -= 1;
                if let Some(worker) = pool.woken_worker() {
                    pool.poll_worker(worker);
                }
                if pool.source.is_over() {
                    return Poll::Ready(());
                }
            }
            // What waits does not keep others from beginning; what ended lets go first.
            while pool.source.has_work() {
                let worker = pool.idle_worker();
                if pool.poll_worker(worker) && pool.woken.len() > 0 {
                    break;
                }
            }
        }
        Poll::Ready(())
    }
}

/// The workers that were woken, in order, and the task that polls them.
#[derive(Debug, Default)]
struct WakeQueue {
    listener: AtomicWaker,
    workers: Mutex<VecDeque<usize>>,
    /// Whether `workers` holds one.
    is_any: AtomicBool,
}

impl WakeQueue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are woken.
    fn len(&self) -> usize {
        if self.is_any.load(Ordering::Acquire) { self.lock().len() } else { 0 }
    }

    fn next(&self) -> Option<usize> {
        if !self.is_any.load(Ordering::Acquire) {
            return None;
        }
        let mut workers = self.lock();
        let worker = workers.pop_front();
        self.is_any.store(!workers.is_empty(), Ordering::Release);
        worker
    }
}

/// What a worker's wakers wake.
#[derive(Debug)]
struct WorkerWaker {
    worker: usize,
    is_woken: AtomicBool,
    woken: Arc<WakeQueue>,
}

impl Wake for WorkerWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        {
            let mut workers = self.woken.lock();
            workers.push_back(self.worker);
            self.woken.is_any.store(true, Ordering::Release);
        }
        self.woken.listener.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, task::noop_waker_ref};
    use proptest::prelude::*;
    use std::cell::RefCell;

    /// Jobs that wait so often before they end, at most so many at a time.
    #[derive(Debug, Default)]
    struct Jobs {
        waits: Vec<u32>,
        at_a_time: usize,
        begun: Cell<usize>,
        under_way: Cell<usize>,
        ended: RefCell<Vec<usize>>,
        workers: Cell<usize>,
        polls: Cell<u32>,
        /// By job: what it waits with, where it is not woken at once.
        wakers: RefCell<Vec<(usize, Waker)>>,
        wakes_itself: bool,
    }

    impl Jobs {
        async fn wait(&self, job: usize) {
            let mut has_waited = false;
            futures_util::future::poll_fn(|context| {
                self.polls.update(|polls| polls + 1);
                if std::mem::replace(&mut has_waited, true) {
                    return Poll::Ready(());
                }
                if self.wakes_itself {
                    context.waker().wake_by_ref();
                } else {
                    self.wakers.borrow_mut().push((job, context.waker().clone()));
                }
                Poll::Pending
            })
            .await;
        }
    }

    impl WorkSource for Jobs {
        fn has_work(&self) -> bool {
            self.begun.get() < self.waits.len() && self.under_way.get() < self.at_a_time
        }

        fn is_over(&self) -> bool {
            self.under_way.get() == 0 && self.begun.get() == self.waits.len()
        }

        fn work(&self, slot: Rc<Slot>) -> LocalBoxFuture<'_, Infallible> {
            self.workers.update(|workers| workers + 1);
            Box::pin(async move {
                loop {
                    while self.has_work() {
                        let job = self.begun.replace(self.begun.get() + 1);
                        self.under_way.update(|jobs| jobs + 1);
                        for _ in 0..self.waits[job] {
                            self.wait(job).await;
                        }
                        self.under_way.update(|jobs| jobs - 1);
                        self.ended.borrow_mut().push(job);
                        if slot.is_another_woken() {
                            break;
                        }
                    }
                    slot.wait_for_work().await;
                }
            })
        }
    }

    /// How many jobs are done by how many workers, with how many polls.
    fn run(jobs: &Jobs, mut choose: impl FnMut(usize) -> usize) -> (usize, usize, u32) {
        let mut pool = WorkerPool::new(jobs);
        let mut context = Context::from_waker(noop_waker_ref());
        while pool.poll_unpin(&mut context).is_pending() {
            let waiting = jobs.wakers.borrow().len();
            if waiting > 0 {
                let (_, waker) = jobs.wakers.borrow_mut().remove(choose(waiting));
                waker.wake();
            }
        }
        (jobs.ended.borrow().len(), jobs.workers.get(), jobs.polls.get())
    }

    fn jobs(waits: &[u32], at_a_time: usize, wakes_itself: bool) -> Jobs {
        Jobs { waits: waits.to_vec(), at_a_time, wakes_itself, ..Jobs::default() }
    }

    #[test]
    fn what_never_waits_is_done_by_one_worker_in_order() {
        let jobs = jobs(&[0; 100], 16, false);
        assert_eq!(run(&jobs, |_| 0), (100, 1, 0));
        assert!(jobs.ended.borrow().is_sorted());
    }

    #[test]
    fn a_worker_is_polled_only_when_it_was_woken() {
        let jobs = jobs(&[1; 100], 50, false);
        assert_eq!(run(&jobs, |waiting| waiting - 1), (100, 50, 200));
    }

    #[test]
    fn a_job_that_wakes_itself_keeps_nobody_from_its_turn() {
        // The first waits a thousand times; the others need one turn each.
        let mut waits = [1; 21];
        waits[0] = 1_000;
        let jobs = jobs(&waits, 4, true);
        assert_eq!(run(&jobs, |_| 0), (21, 4, 2_040));
        assert_eq!(jobs.ended.borrow().last(), Some(&0));
    }

    #[test]
    fn a_waker_kept_from_earlier_work_does_no_harm() {
        let jobs = jobs(&[1, 1], 1, false);
        let mut pool = WorkerPool::new(&jobs);
        let mut context = Context::from_waker(noop_waker_ref());
        assert!(pool.poll_unpin(&mut context).is_pending());
        let (_, waker) = jobs.wakers.borrow_mut().remove(0);
        waker.wake_by_ref();
        assert!(pool.poll_unpin(&mut context).is_pending());
        // The second job waits; the first one's waker is the same worker's.
        waker.wake_by_ref();
        assert!(pool.poll_unpin(&mut context).is_ready());
        waker.wake();
        assert_eq!(*jobs.ended.borrow(), [0, 1]);
    }

    proptest! {
        #[test]
        fn all_jobs_end_whoever_is_woken_first(
            waits in prop::collection::vec(0..4_u32, 0..40),
            at_a_time in 1..6_usize,
            wakes_itself: bool,
            choices in prop::collection::vec(any::<prop::sample::Index>(), 160),
        ) {
            let jobs = jobs(&waits, at_a_time, wakes_itself);
            let mut choices = choices.into_iter();
            let choose = |waiting| choices.next().map_or(0, |choice| choice.index(waiting));
            let (ended, workers, polls) = run(&jobs, choose);
            prop_assert_eq!((ended, polls), (waits.len(), 2 * waits.iter().sum::<u32>()));
            prop_assert!(workers <= at_a_time);
        }
    }
}
