//! Calls under way: the turns they get, their ends, and their replies on the way to the mapping.

use super::{
    Run,
    backlog::Backlog,
    in_flight::{End, Failed, InFlight, Role, Turned, next_turn},
    observer::{Invoked, Observer},
    summary::RunError,
};
use crate::local::{
    mapping::{InvocationId, Millis, Records, Reply},
    target::Target,
};
use futures_util::future::FusedFuture;
use std::{pin::pin, sync::Arc};

/// Distinct errors of the function that are remembered.
const ERRORS_MAX: usize = 10;

/// A reply on its way, and what it is the reply to.
pub(super) struct Arriving {
    shard: usize,
    id: InvocationId,
    reply: Reply,
    records: Records,
    started: Millis,
    /// What the function said, if it said no more.
    error: Option<String>,
}

impl<'t, T: Target, B: Backlog> Run<'t, T, B> {
    /// Whether an invocation is under way that has to end before time passes.
    pub(super) fn is_awaiting(&self) -> bool {
        self.in_flight.iter().any(|invocation| invocation.role != Role::Zombie)
    }

    /// Lets invocations take turns until the mapping has to be asked again: one has ended, or
    /// a shard's moment has come by itself.
    pub(super) async fn take_turns(
        &mut self,
        wake: Option<Millis>,
        stop: &mut (impl FusedFuture<Output = ()> + Unpin),
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let clock = Arc::clone(&self.clock);
        let mut moment = pin!(clock.comes(wake));
        loop {
            let Self { backlog, in_flight, setting, is_stopping, .. } = self;
            tokio::select! {
                biased;
                at = next_turn(in_flight, &mut setting.faults) => {
                    if self.take_turn(at, observer) {
                        return Ok(());
                    }
                }
                () = &mut moment => return Ok(()),
                () = &mut *stop, if !stop.is_terminated() => {
                    *is_stopping = true;
                    return Ok(());
                }
                changed = backlog.changes(), if !*is_stopping => return changed,
            }
        }
    }

    /// Gives one invocation its turn; tells whether the mapping has to be asked again.
    pub(super) fn take_turn(&mut self, at: usize, observer: &mut dyn Observer) -> bool {
        match self.in_flight[at].take_turn(&self.clock, self.setting.timeout) {
            Turned::Paused => false,
            Turned::ReplyLost(id) => {
                let invocation = &self.in_flight[at];
                let moment = invocation.turn.started() + invocation.turn.slept();
                let arriving = Arriving::of(invocation, id, Reply::FunctionError);
                self.expect_reply(moment, arriving, observer);
                true
            }
            Turned::Over(end) => {
                let invocation = self.in_flight.remove(at);
                self.land(&invocation, end, observer);
                true
            }
        }
    }

    /// Takes note of an invocation that has ended.
    fn land(&mut self, invocation: &InFlight<'t>, end: End, observer: &mut dyn Observer) {
        let (of_store, left) = invocation.turn.faults().finish();
        if let Some(faults) = &mut self.setting.faults {
            let struck = [invocation.struck.as_slice(), &of_store].concat();
            faults.settle(invocation.shard, &invocation.records, invocation.armed, &struck, left);
        }
        if let Err(Failed::Function(error)) = &end.result {
            self.note_error(&error.message);
        }
        let Role::Awaited(id) = invocation.role else { return };
        let error = match &end.result {
            Err(Failed::Function(error)) => Some(error.message.clone()),
            _ => None,
        };
        let reply = match end.result {
            Ok(reply) => {
                if let Some(faults) =
                    self.setting.faults.as_mut().filter(|_| is_full_success(&reply))
                {
                    faults.delivered(invocation.shard, invocation.records.clone());
                }
                Reply::Returned(reply)
            }
            Err(Failed::Function(error)) if !error.was_invoked => Reply::NotInvoked,
            Err(_) => Reply::FunctionError,
        };
        let arriving = Arriving { error, ..Arriving::of(invocation, id, reply) };
        self.expect_reply(end.at, arriving, observer);
    }

    fn note_error(&mut self, message: &str) {
        let errors = &mut self.summary.errors;
        if errors.len() < ERRORS_MAX || errors.contains_key(message) {
            *errors.entry(message.to_owned()).or_default() += 1;
        }
    }

    fn expect_reply(&mut self, moment: Millis, arriving: Arriving, observer: &mut dyn Observer) {
        if matches!(arriving.reply, Reply::FunctionError) {
            self.summary.failed_invocations += 1;
        }
        self.replies_so_far += 1;
        self.replies.insert((moment, self.replies_so_far), arriving);
        self.hand_over_replies(observer);
    }

    pub(super) fn hand_over_replies(&mut self, observer: &mut dyn Observer) {
        let now = self.clock.elapsed();
        while let Some(first) = self.replies.first_entry().filter(|first| first.key().0 <= now) {
            let Arriving { shard, id, reply, records, started, error } = first.remove();
            let lane = &mut self.lanes[shard];
            let outcome = lane.machine.reply(id, now, reply);
            let age = records.last().map(|last| started.saturating_sub_signed(last.present_since));
            self.summary.iterator_age_max = self.summary.iterator_age_max.max(age);
            observer.invoked(&Invoked {
                shard: &lane.name,
                records: records.len(),
                first: records.first().map(|record| &record.sequence_number),
                last: records.last().map(|record| &record.sequence_number),
                at: now,
                outcome,
                took: now.saturating_sub(started),
                age,
                error: error.as_deref(),
            });
        }
    }
}

impl Arriving {
    fn of(invocation: &InFlight<'_>, id: InvocationId, reply: Reply) -> Self {
        let records = invocation.records.clone();
        let (shard, started) = (invocation.shard, invocation.turn.started());
        Self { shard, id, reply, records, started, error: None }
    }
}

/// Whether the reply leaves no record of its batch to the mapping.
fn is_full_success(reply: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(reply)
        .is_ok_and(|reply| reply["batchItemFailures"].as_array().is_none_or(Vec::is_empty))
}
