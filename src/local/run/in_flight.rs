//! One invocation under way, and the turns it gets.
//!
//! An invocation is a future that is polled by hand: only so can a seed decide who goes next,
//! and only so can a "crashed" one be dropped in the middle.

use crate::local::{
    clock::{Turn, VirtualClock},
    faults::{Fault, Faults, Plan},
    mapping::{InvocationId, Millis, Records},
    target::FunctionError,
};
use bytes::Bytes;
use futures_util::{future::LocalBoxFuture, task::AtomicWaker};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// More zombies than this are made to finish.
const ZOMBIES_MAX: usize = 8;

/// The future of one invocation.
pub(super) type Invoked<'t> = LocalBoxFuture<'t, Result<Bytes, FunctionError>>;

/// What an invocation is to the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The mapping waits for its reply.
    Awaited(InvocationId),
    /// Its reply was lost, and it goes on.
    Zombie,
    /// A duplicate delivery, whose reply nobody waits for.
    Duplicate,
}

/// An invocation under way.
pub(super) struct InFlight<'t> {
    pub(super) role: Role,
    pub(super) shard: usize,
    pub(super) records: Records,
    pub(super) turn: Arc<Turn>,
    /// How many faults the plan has counted on the records.
    pub(super) armed: u8,
    /// Faults of the whole invocation that have struck.
    pub(super) struck: Vec<Fault>,
    cut: Option<(Fault, u32)>,
    pauses: u32,
    alarm: Arc<Alarm>,
    /// Ends when its process is to be killed, which dropping the invocation does.
    kill: Option<LocalBoxFuture<'static, ()>>,
    invoked: Invoked<'t>,
}

/// What one turn of an invocation came to.
pub(super) enum Turned {
    /// It goes on later.
    Paused,
    /// Its reply is lost; it has become a zombie.
    ReplyLost(InvocationId),
    /// It is over.
    Over(End),
}

/// How an invocation ended, with the moment its caller learns so.
pub(super) struct End {
    pub(super) result: Result<Bytes, Failed>,
    pub(super) at: Millis,
}

/// Why there is no reply.
pub(super) enum Failed {
    /// The function's own doing.
    Function(FunctionError),
    /// A fault of the plan.
    Injected,
}

impl<'t> InFlight<'t> {
    pub(super) fn new(
        role: Role,
        (shard, records): (usize, Records),
        plan: &Plan,
        turn: Arc<Turn>,
        invoked: Invoked<'t>,
    ) -> Self {
        let alarm = Arc::new(Alarm { rung: AtomicBool::new(true), run: AtomicWaker::new() });
        Self {
            role,
            shard,
            records,
            turn,
            armed: plan.armed,
            struck: Vec::new(),
            cut: plan.cut,
            pauses: 0,
            alarm,
            kill: None,
            invoked,
        }
    }

    /// Has its process killed when this ends, if it is not faster.
    pub(super) fn with_kill(mut self, kill: Option<LocalBoxFuture<'static, ()>>) -> Self {
        self.kill = kill;
        self
    }

    /// Whether a turn would bring it on. If not, `waker` is told when that changes.
    pub(super) fn is_ready(&self, waker: &Waker) -> bool {
        self.alarm.run.register(waker);
        self.alarm.rung.load(Ordering::Acquire)
    }

    /// Lets the invocation run until it pauses: at a store call, a sleep, or its end.
    pub(super) fn take_turn(&mut self, clock: &VirtualClock, timeout: Millis) -> Turned {
        if let Some(turned) = self.strike_at_pause(timeout) {
            return turned;
        }
        self.alarm.rung.store(false, Ordering::Release);
        clock.give_turn(Some(Arc::clone(&self.turn)));
        let waker = Waker::from(Arc::clone(&self.alarm));
        let mut context = Context::from_waker(&waker);
        if self.kill.as_mut().is_some_and(|kill| kill.as_mut().poll(&mut context).is_ready()) {
            clock.give_turn(None);
            return self.cut_off(Fault::FunctionError, timeout);
        }
        let polled = self.invoked.as_mut().poll(&mut context);
        clock.give_turn(None);
        self.pauses += 1;
        if polled.is_pending() && !self.alarm.rung.load(Ordering::Acquire) {
            self.turn.pass_time();
        }
        if self.turn.faults().is_crashed() {
            return self.over(Err(Failed::Injected), self.turn.slept());
        }
        if self.turn.slept() > timeout {
            let message = format!("the function was still running at its timeout of {timeout} ms");
            return self.over(Err(Failed::Function(FunctionError::unhandled(message))), timeout);
        }
        match (polled, self.cut.take()) {
            (Poll::Ready(result), None) => {
                self.over(result.map_err(Failed::Function), self.turn.slept())
            }
            // It was faster than its fault: then the fault meets its reply.
            (Poll::Ready(_), Some((fault, _))) => self.cut_off(fault, timeout),
            (Poll::Pending, cut) => {
                self.cut = cut;
                self.strike_at_pause(timeout).unwrap_or(Turned::Paused)
            }
        }
    }

    /// Applies the fault that is due after this many pauses.
    fn strike_at_pause(&mut self, timeout: Millis) -> Option<Turned> {
        let (fault, after) = self.cut?;
        if self.pauses < after {
            return None;
        }
        self.cut = None;
        match self.role {
            Role::Awaited(id) if fault == Fault::LostReply => {
                self.struck.push(fault);
                self.role = Role::Zombie;
                Some(Turned::ReplyLost(id))
            }
            _ => Some(self.cut_off(fault, timeout)),
        }
    }

    fn cut_off(&mut self, fault: Fault, timeout: Millis) -> Turned {
        self.struck.push(fault);
        let after = if fault == Fault::Timeout { timeout } else { self.turn.slept() };
        self.over(Err(Failed::Injected), after)
    }

    fn over(&self, result: Result<Bytes, Failed>, after: Millis) -> Turned {
        Turned::Over(End { result, at: self.turn.started() + after })
    }
}

/// The number of the invocation that has the next turn: waits until one can go on.
pub(super) async fn next_turn(
    in_flight: &mut [InFlight<'_>],
    faults: &mut Option<Faults>,
) -> usize {
    std::future::poll_fn(|context| {
        let ready: Vec<usize> =
            (0..in_flight.len()).filter(|at| in_flight[*at].is_ready(context.waker())).collect();
        choose(in_flight, faults, &ready).map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Who is next. A zombie lags behind: that is how it meets later batches.
fn choose(
    in_flight: &[InFlight<'_>],
    faults: &mut Option<Faults>,
    ready: &[usize],
) -> Option<usize> {
    let first = *ready.first()?;
    let Some(faults) = faults else { return Some(first) };
    let at = ready[faults.choose(ready.len())];
    let zombies = in_flight.iter().filter(|invocation| invocation.role == Role::Zombie).count();
    if in_flight[at].role == Role::Zombie && zombies <= ZOMBIES_MAX {
        return Some(ready[faults.choose(ready.len())]);
    }
    Some(at)
}

/// Rings when an invocation can go on, and wakes the run.
struct Alarm {
    rung: AtomicBool,
    run: AtomicWaker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.run.wake();
    }
}
