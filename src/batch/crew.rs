//! Several hands on one task: each takes what can be done, until nothing is left.
//!
//! It is separate from the lanes because it is only about whose turn it is: what there is to
//! do is a [`Duty`]'s. A member is one future for the whole duty, made when all others are
//! busy; so what never has to wait is done by one member, in one go, and costs no memory for
//! each piece of work. It keeps these invariants: a member is polled when it is given work, or
//! when what it waits for woke it, never else; members are woken in the order in which they
//! were rung for, so the order of events follows from the work alone; work that waits and was
//! rung for comes before more work is taken, so neither kind can keep the other from its turn.
//!
//! What it gives up: all members are on one task, so they wait beside each other and never
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

/// What a crew does.
pub(super) trait Duty {
    /// Whether there is something to begin with. A member that is polled then begins it, or
    /// finds that there is nothing.
    fn has_work(&self) -> bool;

    /// Whether nothing is under way and nothing will begin, or what is under way must stop.
    fn is_over(&self) -> bool;

    /// A member's whole life: it takes work as long as there is some and nobody else has a
    /// turn ([`Seat::is_anybody_rung`]), and otherwise [rests](Seat::rest).
    fn serve(&self, seat: Rc<Seat>) -> LocalBoxFuture<'_, Infallible>;
}

/// Where a member sits: what it and its crew know of each other.
#[derive(Debug)]
pub(super) struct Seat {
    bell: Arc<Bell>,
    is_resting: Cell<bool>,
    turns: Cell<u64>,
}

impl Seat {
    /// Gives the turn back until there is work again.
    pub(super) async fn rest(&self) {
        self.is_resting.set(true);
        futures_util::pending!();
    }

    /// Whether somebody who waited should have a turn.
    pub(super) fn is_anybody_rung(&self) -> bool {
        self.bell.is_rung.load(Ordering::Relaxed)
    }

    /// How many turns the member has had: while the number stays, it has not waited.
    pub(super) fn turns(&self) -> u64 {
        self.turns.get()
    }
}

/// The members that a duty has; a future that ends with it.
pub(super) struct Crew<'d, D> {
    duty: &'d D,
    members: Vec<Member<'d>>,
    resting: Vec<usize>,
    bell: Arc<Bell>,
}

struct Member<'d> {
    life: LocalBoxFuture<'d, Infallible>,
    seat: Rc<Seat>,
    cord: Arc<Cord>,
    waker: Waker,
}

impl<'d, D: Duty> Crew<'d, D> {
    pub(super) fn new(duty: &'d D) -> Self {
        Self { duty, members: Vec::new(), resting: Vec::new(), bell: Arc::default() }
    }

    /// A member that has nothing to do.
    fn resting_member(&mut self) -> usize {
        if let Some(member) = self.resting.pop() {
            return member;
        }
        let bell = Arc::clone(&self.bell);
        let seat = Rc::new(Seat { bell, is_resting: Cell::new(false), turns: Cell::new(0) });
        let member = self.members.len();
        let cord = Cord { member, is_pulled: AtomicBool::new(false), bell: Arc::clone(&self.bell) };
        let cord = Arc::new(cord);
        let waker = Waker::from(Arc::clone(&cord));
        self.members.push(Member { life: self.duty.serve(Rc::clone(&seat)), seat, cord, waker });
        member
    }

    /// Lets a member go on; tells whether it rests now.
    fn give_turn(&mut self, number: usize) -> bool {
        let Member { life, seat, cord, waker } = &mut self.members[number];
        // Whoever pulls from here on is heard again.
        cord.is_pulled.store(false, Ordering::Release);
        seat.is_resting.set(false);
        seat.turns.update(|turns| turns + 1);
        let Poll::Pending = life.as_mut().poll(&mut Context::from_waker(waker));
        let is_resting = seat.is_resting.get();
        if is_resting {
            self.resting.push(number);
        }
        is_resting
    }

    /// The member that was rung for first, unless it rests: then it was too late.
    fn rung_member(&mut self) -> Option<usize> {
        loop {
            let member = self.bell.next()?;
            let Member { seat, cord, .. } = &self.members[member];
            if !seat.is_resting.get() {
                return Some(member);
            }
            cord.is_pulled.store(false, Ordering::Release);
        }
    }
}

impl<D: Duty> Future for Crew<'_, D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let crew = &mut *self;
        crew.bell.listener.register(context.waker());
        // Work that rings for itself must not keep the task from everybody else.
        let mut turns_left = crew.members.len().max(1);
        while !crew.duty.is_over() {
            // Only those rung for by now: who rings again waits for what begins in between.
            let rung = crew.bell.rung();
            if rung == 0 && !crew.duty.has_work() {
                return Poll::Pending;
            }
            for _ in 0..rung {
                if turns_left == 0 {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                turns_left -= 1;
                if let Some(member) = crew.rung_member() {
                    crew.give_turn(member);
                }
                if crew.duty.is_over() {
                    return Poll::Ready(());
                }
            }
            // What waits does not keep others from beginning; what ended lets go first.
            while crew.duty.has_work() {
                let member = crew.resting_member();
                if crew.give_turn(member) && crew.bell.rung() > 0 {
                    break;
                }
            }
        }
        Poll::Ready(())
    }
}

/// Whom to give a turn, and whom to tell that there is somebody.
#[derive(Debug, Default)]
struct Bell {
    listener: AtomicWaker,
    rung: Mutex<VecDeque<usize>>,
    /// Whether `rung` holds somebody.
    is_rung: AtomicBool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are rung for.
    fn rung(&self) -> usize {
        if self.is_rung.load(Ordering::Acquire) { self.lock().len() } else { 0 }
    }

    fn next(&self) -> Option<usize> {
        if !self.is_rung.load(Ordering::Acquire) {
            return None;
        }
        let mut rung = self.lock();
        let member = rung.pop_front();
        self.is_rung.store(!rung.is_empty(), Ordering::Release);
        member
    }
}

/// What a member's wakers pull.
#[derive(Debug)]
struct Cord {
    member: usize,
    is_pulled: AtomicBool,
    bell: Arc<Bell>,
}

impl Wake for Cord {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_pulled.swap(true, Ordering::AcqRel) {
            return;
        }
        {
            let mut rung = self.bell.lock();
            rung.push_back(self.member);
            self.bell.is_rung.store(true, Ordering::Release);
        }
        self.bell.listener.wake();
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
        members: Cell<usize>,
        polls: Cell<u32>,
        /// By job: what it waits with, where it is not rung for at once.
        wakers: RefCell<Vec<(usize, Waker)>>,
        rings_itself: bool,
    }

    impl Jobs {
        async fn wait(&self, job: usize) {
            let mut has_waited = false;
            futures_util::future::poll_fn(|context| {
                self.polls.update(|polls| polls + 1);
                if std::mem::replace(&mut has_waited, true) {
                    return Poll::Ready(());
                }
                if self.rings_itself {
                    context.waker().wake_by_ref();
                } else {
                    self.wakers.borrow_mut().push((job, context.waker().clone()));
                }
                Poll::Pending
            })
            .await;
        }
    }

    impl Duty for Jobs {
        fn has_work(&self) -> bool {
            self.begun.get() < self.waits.len() && self.under_way.get() < self.at_a_time
        }

        fn is_over(&self) -> bool {
            self.under_way.get() == 0 && self.begun.get() == self.waits.len()
        }

        fn serve(&self, seat: Rc<Seat>) -> LocalBoxFuture<'_, Infallible> {
            self.members.update(|members| members + 1);
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
                        if seat.is_anybody_rung() {
                            break;
                        }
                    }
                    seat.rest().await;
                }
            })
        }
    }

    /// How many jobs are done by how many members, with how many polls.
    fn run(jobs: &Jobs, mut ring: impl FnMut(usize) -> usize) -> (usize, usize, u32) {
        let mut crew = Crew::new(jobs);
        let mut context = Context::from_waker(noop_waker_ref());
        while crew.poll_unpin(&mut context).is_pending() {
            let waiting = jobs.wakers.borrow().len();
            if waiting > 0 {
                let (_, waker) = jobs.wakers.borrow_mut().remove(ring(waiting));
                waker.wake();
            }
        }
        (jobs.ended.borrow().len(), jobs.members.get(), jobs.polls.get())
    }

    fn jobs(waits: &[u32], at_a_time: usize, rings_itself: bool) -> Jobs {
        Jobs { waits: waits.to_vec(), at_a_time, rings_itself, ..Jobs::default() }
    }

    #[test]
    fn what_never_waits_is_done_by_one_member_in_order() {
        let jobs = jobs(&[0; 100], 16, false);
        assert_eq!(run(&jobs, |_| 0), (100, 1, 0));
        assert!(jobs.ended.borrow().is_sorted());
    }

    #[test]
    fn a_member_is_polled_only_when_it_was_rung_for() {
        let jobs = jobs(&[1; 100], 50, false);
        assert_eq!(run(&jobs, |waiting| waiting - 1), (100, 50, 200));
    }

    #[test]
    fn a_job_that_rings_for_itself_keeps_nobody_from_its_turn() {
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
        let mut crew = Crew::new(&jobs);
        let mut context = Context::from_waker(noop_waker_ref());
        assert!(crew.poll_unpin(&mut context).is_pending());
        let (_, waker) = jobs.wakers.borrow_mut().remove(0);
        waker.wake_by_ref();
        assert!(crew.poll_unpin(&mut context).is_pending());
        // The second job waits; the first one's waker is the same member's.
        waker.wake_by_ref();
        assert!(crew.poll_unpin(&mut context).is_ready());
        waker.wake();
        assert_eq!(*jobs.ended.borrow(), [0, 1]);
    }

    proptest! {
        #[test]
        fn all_jobs_end_whoever_is_rung_for_first(
            waits in prop::collection::vec(0..4_u32, 0..40),
            at_a_time in 1..6_usize,
            rings_itself: bool,
            rings in prop::collection::vec(any::<prop::sample::Index>(), 160),
        ) {
            let jobs = jobs(&waits, at_a_time, rings_itself);
            let mut rings = rings.into_iter();
            let ring = |waiting| rings.next().map_or(0, |ring| ring.index(waiting));
            let (ended, members, polls) = run(&jobs, ring);
            prop_assert_eq!((ended, polls), (waits.len(), 2 * waits.iter().sum::<u32>()));
            prop_assert!(members <= at_a_time);
        }
    }
}
