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
    fn serve<'d>(&'d self, seat: Rc<Seat>) -> LocalBoxFuture<'d, Infallible>;
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

    fn give_turn(&mut self, number: usize) {
        let Member { life, seat, cord, waker } = &mut self.members[number];
        // Whoever pulls from here on is heard again.
        cord.is_pulled.store(false, Ordering::Release);
        seat.is_resting.set(false);
        seat.turns.update(|turns| turns + 1);
        let Poll::Pending = life.as_mut().poll(&mut Context::from_waker(waker));
        if seat.is_resting.get() {
            self.resting.push(number);
        }
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
            if turns_left == 0 && crew.bell.is_rung.load(Ordering::Acquire) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(member) = crew.rung_member() {
                turns_left -= 1;
                crew.give_turn(member);
            } else if !crew.duty.has_work() {
                return Poll::Pending;
            }
            if crew.duty.has_work() {
                let member = crew.resting_member();
                crew.give_turn(member);
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
