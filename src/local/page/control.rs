//! Which calls may begin, as a person at the page says.
//!
//! The mapping does not know of it: a call that may not begin yet is under way for it. What waits
//! here has its batch already; what comes meanwhile is in the next one. What it gives up: records
//! grow older in a pause, as in a function that is busy.

use super::{CallFault, Shared};
use serde_json::json;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// So many faults wait for their calls at most.
pub const FAULTS_MAX: usize = 100;

/// What all calls of a desk ask before they begin.
#[derive(Debug, Clone)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
    page: Shared,
}

#[derive(Debug, Default)]
struct State {
    is_paused: bool,
    has_ended: bool,
    /// Calls that may begin although it is paused.
    steps: usize,
    waiting: usize,
    faults: VecDeque<CallFault>,
}

/// How a call begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// What is to happen to it.
    pub fault: Option<CallFault>,
    /// Whether it had to wait.
    pub has_waited: bool,
}

impl Control {
    /// Calls begin by themselves; the page is told of what changes.
    #[must_use]
    pub fn new(page: Shared) -> Self {
        let control =
            Self(Arc::new(Inner { state: Mutex::default(), changed: Notify::new(), page }));
        control.tell(&control.lock());
        control
    }

    /// What is locked is whole between any two lines of this file.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &State) {
        let State { is_paused, waiting, faults, .. } = state;
        let told = json!({ "paused": is_paused, "waiting": waiting, "faults": faults });
        self.0.page.write(|journal| journal.control(told));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        self.tell(&state);
        self.0.changed.notify_waiters();
    }

    /// No call begins from now on.
    pub fn pause(&self) {
        self.change(|state| state.is_paused = true);
    }

    /// Calls begin by themselves again.
    pub fn resume(&self) {
        self.change(|state| (state.is_paused, state.steps) = (false, 0));
    }

    /// Lets one call begin, in a pause: who waits, or the next who comes.
    pub fn step(&self) {
        self.change(|state| (state.is_paused, state.steps) = (true, state.steps + 1));
    }

    /// Says what happens to the next call for which nothing is said yet.
    ///
    /// # Errors
    /// [`FAULTS_MAX`] wait already.
    pub fn arm(&self, fault: CallFault) -> Result<(), String> {
        if self.lock().faults.len() >= FAULTS_MAX {
            return Err(format!("{FAULTS_MAX} faults wait for their calls already"));
        }
        self.change(|state| state.faults.push_back(fault));
        Ok(())
    }

    /// Turns away whoever waits, and whoever comes.
    pub fn end(&self) {
        self.lock().has_ended = true;
        self.0.changed.notify_waiters();
    }

    /// Lets calls in again after an end.
    pub fn begin(&self) {
        self.lock().has_ended = false;
    }

    /// Waits until a call may begin; none if no call begins any more.
    pub async fn permit(&self) -> Option<Permit> {
        let mut waiting: Option<Waiting<'_>> = None;
        loop {
            let changed = self.0.changed.notified();
            {
                let mut state = self.lock();
                if state.has_ended {
                    return None;
                }
                if !state.is_paused || state.steps > 0 {
                    state.steps = state.steps.saturating_sub(1);
                    let fault = state.faults.pop_front();
                    if fault.is_some() {
                        self.tell(&state);
                    }
                    return Some(Permit { fault, has_waited: waiting.is_some() });
                }
            }
            waiting.get_or_insert_with(|| Waiting::new(self));
            changed.await;
        }
    }
}

/// A call that waits; the page says how many do.
struct Waiting<'c>(&'c Control);

impl<'c> Waiting<'c> {
    fn new(control: &'c Control) -> Self {
        let mut state = control.lock();
        state.waiting += 1;
        control.tell(&state);
        Self(control)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting -= 1;
        self.0.tell(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::{CallFault, Control, FAULTS_MAX, Permit};
    use crate::local::page::Shared;
    use futures_util::FutureExt as _;

    #[test]
    fn a_step_lets_one_call_begin_and_a_fault_is_for_one() {
        let control = Control::new(Shared::default());
        let free = Permit { fault: None, has_waited: false };
        assert_eq!(control.permit().now_or_never(), Some(Some(free)));
        control.pause();
        let (mut one, mut other) = (Box::pin(control.permit()), Box::pin(control.permit()));
        assert!((&mut one).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        assert_eq!(control.lock().waiting, 2);
        control.arm(CallFault::Crash).unwrap();
        control.step();
        let struck = Permit { fault: Some(CallFault::Crash), has_waited: true };
        assert_eq!((&mut other).now_or_never(), Some(Some(struck)));
        assert!((&mut one).now_or_never().is_none(), "one step is one call");
        control.resume();
        assert_eq!((&mut one).now_or_never(), Some(Some(Permit { has_waited: true, ..free })));
        drop((one, other));
        assert_eq!(control.lock().waiting, 0);
        for _ in 0..FAULTS_MAX {
            control.arm(CallFault::Fail).unwrap();
        }
        assert!(control.arm(CallFault::Fail).is_err(), "what waits is bounded");
    }

    #[test]
    fn an_end_turns_away_who_waits() {
        let control = Control::new(Shared::default());
        control.pause();
        let mut one = Box::pin(control.permit());
        assert!((&mut one).now_or_never().is_none());
        control.end();
        assert_eq!((&mut one).now_or_never(), Some(None));
    }
}
