//! A run: the event source mapping over a backlog, in virtual time.
//!
//! A discrete-event loop on one thread. At any virtual moment the shards first say all they
//! want, then the invocations under way take turns until none of those that the mapping waits
//! for is left, then more of the backlog is read, and only when nothing else is left time
//! moves to the next reply or the end of the next backoff. Without faults invocations take
//! turns in the order they began; with faults the seed decides. So a run repeats exactly as
//! long as the store is in this process.
//!
//! Where the target is another process, time is real ([`Pace::Real`](super::clock::Pace)):
//! moments are waited for, and a shard whose moment comes does not wait for the invocations of
//! others.
//!
//! What is kept in memory is what is in invocation: records waiting for a full batch, batches
//! under way, and a few delivered ones. One exception, where the rules of AWS ask for it: a
//! sub-lane stuck for long must not hold up the others of its shard, so what stands behind it
//! is read and kept.

mod in_flight;
mod lane;
#[cfg(test)]
mod tests;

use super::{
    checkpoint::{CheckpointError, Checkpoints},
    clock::{Turn, VirtualClock},
    faults::{Faults, Plan},
    mapping::{Invocation, InvocationId, Millis, OnFailure, Parameters, Records, Reply, Step},
    source::{Feed, FixtureError, Fixtures},
    target::Target,
};
use crate::call::Call;
use bytes::Bytes;
use in_flight::{End, Failed, InFlight, Role, Turned};
use lane::Lane;
use std::{collections::BTreeMap, pin::pin, sync::Arc, task::Poll};

/// Lists of a summary are cut here.
pub const LISTED_MAX: usize = 1_000;

/// More zombies than this are made to finish.
const ZOMBIES_MAX: usize = 8;

/// Checkpoints are written after so many invocations, and at the end.
const CHECKPOINT_EVERY: u64 = 1_000;

/// Distinct errors of the function that are remembered.
const ERRORS_MAX: usize = 10;

/// Age that no record can reach in a stream that is not told to keep longer: the most that
/// `MaximumRecordAgeInSeconds` can say.
const AGE_MAX: Millis = 604_800_000;

/// What a run needs beside its target.
#[derive(Debug)]
pub struct Setting {
    /// The mapping's parameters.
    pub parameters: Parameters,
    /// The function's `Timeout`, in milliseconds.
    pub timeout: Millis,
    /// The function, as on-failure records name it.
    pub function_arn: String,
    /// Where the shards stand, and where to keep it.
    pub checkpoints: Checkpoints,
    /// Whether to begin at the start of the stream all the same.
    pub from_start: bool,
    /// Faults to inject, if any.
    pub faults: Option<Faults>,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Records that the mapping read.
    pub records: u64,
    /// Those of them that no filter took; none where the mapping has no filters.
    pub filtered: Option<u64>,
    /// Those of them that came before the starting position; none where it is no moment.
    pub passed: Option<u64>,
    /// Calls of the function, duplicates included.
    pub invocations: u64,
    /// Calls that ended without a reply.
    pub failed_invocations: u64,
    /// Failing batches that were halved.
    pub bisects: u64,
    /// Injected faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often the mapping discarded records.
    pub discards: u64,
    /// The on-failure records, [`LISTED_MAX`] at most, as their destination gets them.
    pub on_failure: Vec<String>,
    /// Errors of the function that were not injected, ten at most, with counts.
    pub errors: BTreeMap<String, u64>,
    /// Milliseconds from time zero to the end.
    pub elapsed: Millis,
    /// Whether those are real; else they are virtual.
    pub is_in_real_time: bool,
}

/// A run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The backlog cannot be read.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// The mapping's place cannot be kept.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A failing batch is retried for ever.
    #[error(
        "shard `{shard}` makes no progress: its batch has failed for a week of virtual time, \
         and neither MaximumRetryAttempts nor MaximumRecordAgeInSeconds ends it{}",
        error.as_ref().map(|error| format!(" (last error: {error})")).unwrap_or_default()
    )]
    Stuck {
        /// The shard.
        shard: String,
        /// What the function said.
        error: Option<String>,
    },
}

/// Delivers the backlog to the target, to the end. `progress` hears how many records were read.
///
/// # Errors
/// The backlog or the checkpoint file fails, or a batch fails for ever.
pub async fn run<T: Target>(
    fixtures: &Fixtures,
    target: &T,
    clock: &Arc<VirtualClock>,
    setting: Setting,
    progress: &mut dyn FnMut(u64),
) -> Result<Summary, RunError> {
    let mut run = Run::new(fixtures, target, clock, setting);
    loop {
        let outlook = run.attend();
        progress(run.summary.records);
        let is_real = run.clock.is_real();
        if run.is_awaiting() && !(is_real && outlook.reads.is_some()) {
            run.take_turns(outlook.wake).await;
            continue;
        }
        run.save_now_and_then()?;
        if let Some(shard) = outlook.reads {
            run.read(shard)?;
            continue;
        }
        let next = [outlook.wake, run.replies.first_key_value().map(|(key, _)| key.0)];
        let Some(moment) = next.into_iter().flatten().min() else { break };
        run.clock.pass_to(moment).await;
        run.check_age(moment)?;
        run.hand_over_replies();
    }
    run.finish().await
}

/// What the shards want when they can do no more at this moment.
#[derive(Debug, Default)]
struct Outlook {
    /// The first shard that wants more records now.
    reads: Option<usize>,
    /// When a shard goes on by itself.
    wake: Option<Millis>,
}

struct Run<'t, T> {
    target: &'t T,
    clock: Arc<VirtualClock>,
    parameters: Parameters,
    timeout: Millis,
    feed: Feed,
    lanes: Vec<Lane>,
    in_flight: Vec<InFlight<'t>>,
    /// Replies on their way: by the moment they arrive, then in order of ending.
    replies: BTreeMap<(Millis, u64), (usize, InvocationId, Reply)>,
    faults: Option<Faults>,
    /// Tells replies apart that arrive at the same moment.
    replies_so_far: u64,
    checkpoints: Checkpoints,
    saved_at: u64,
    summary: Summary,
}

impl<'t, T: Target> Run<'t, T> {
    fn new(
        fixtures: &Fixtures,
        target: &'t T,
        clock: &Arc<VirtualClock>,
        setting: Setting,
    ) -> Self {
        Self {
            target,
            clock: Arc::clone(clock),
            lanes: fixtures
                .shards()
                .iter()
                .map(|shard| Lane::new(shard, fixtures, &setting))
                .collect(),
            feed: fixtures.feed(),
            parameters: setting.parameters,
            timeout: setting.timeout,
            in_flight: Vec::new(),
            replies: BTreeMap::new(),
            replies_so_far: 0,
            faults: setting.faults,
            checkpoints: setting.checkpoints,
            saved_at: 0,
            summary: Summary::default(),
        }
    }

    /// Asks every shard what it wants, until none can do more at this moment.
    fn attend(&mut self) -> Outlook {
        let mut outlook = Outlook::default();
        let now = self.clock.elapsed();
        for shard in 0..self.lanes.len() {
            loop {
                match self.lanes[shard].machine.poll(now) {
                    Step::Invoke(invocation) => self.start(shard, invocation),
                    Step::Deliver(on_failure) => self.deliver(&on_failure),
                    Step::Read => {
                        match self.waits_before_reading(shard, now) {
                            Some(wake) => outlook.wakes_at(wake),
                            None => outlook.reads = outlook.reads.or(Some(shard)),
                        }
                        break;
                    }
                    Step::Wait(moment) => {
                        outlook.wakes_at(moment);
                        break;
                    }
                    Step::Busy | Step::Done => break,
                }
            }
            self.note_checkpoint(shard);
        }
        outlook
    }

    /// When enough was read ahead, a backoff of a sub-lane comes first: a fault must not make
    /// the rest of the backlog pile up. Not for long, though: in the stream the others go on,
    /// and their records must not grow old.
    fn waits_before_reading(&self, shard: usize, now: Millis) -> Option<Millis> {
        let age = self.parameters.maximum_record_age_s;
        let patience = age.map_or(AGE_MAX, |age| Millis::from(age) * 1000) / 10;
        if self.lanes[shard].takes_more() || now > patience {
            return None;
        }
        self.lanes[shard].machine.wakes_at()
    }

    fn start(&mut self, shard: usize, invocation: Invocation) {
        let now = self.clock.elapsed();
        let mut plan = match &mut self.faults {
            Some(faults) => faults.plan(shard, &invocation.records, now),
            None => Plan::default(),
        };
        let duplicate = plan.duplicate.take();
        let role = Role::Awaited(invocation.id);
        self.launch(role, (shard, invocation.records), &invocation.request_id, plan);
        if let Some(batch) = duplicate {
            self.launch(Role::Duplicate, batch, &invocation.request_id, Plan::default());
        }
    }

    fn launch(&mut self, role: Role, batch: (usize, Records), request_id: &str, mut plan: Plan) {
        let now = self.clock.elapsed();
        let deadline = self.clock.timestamp(now + self.timeout);
        let call = Call::new(request_id.to_owned(), deadline);
        let payload = Bytes::from(batch.1.event());
        let turn = Turn::new(now, std::mem::take(&mut plan.store));
        let invoked = self.target.invoke(payload, call);
        self.summary.invocations += 1;
        self.in_flight.push(InFlight::new(role, batch, &plan, turn, invoked));
    }

    fn deliver(&mut self, on_failure: &OnFailure) {
        self.summary.discards += 1;
        if self.summary.on_failure.len() < LISTED_MAX {
            let document = on_failure.to_json(on_failure.destination.as_ref());
            self.summary.on_failure.push(document);
        }
    }

    fn note_checkpoint(&mut self, shard: usize) {
        let lane = &mut self.lanes[shard];
        if !lane.forget_finished() {
            return;
        }
        let Some(checkpoint) = lane.machine.checkpoint() else { return };
        if let Some(faults) = &mut self.faults {
            faults.forget(shard, checkpoint);
        }
        self.checkpoints.advance(&lane.name, checkpoint);
    }

    /// Whether an invocation is under way that has to end before time passes.
    fn is_awaiting(&self) -> bool {
        self.in_flight.iter().any(|invocation| invocation.role != Role::Zombie)
    }

    /// Lets invocations take turns until the mapping has to be asked again: one has ended, or
    /// a shard's moment has come by itself.
    async fn take_turns(&mut self, wake: Option<Millis>) {
        let clock = Arc::clone(&self.clock);
        let mut moment = pin!(clock.comes(wake));
        loop {
            tokio::select! {
                biased;
                is_over = self.take_turn() => if is_over { return },
                () = &mut moment => return,
            }
        }
    }

    /// Gives one invocation its turn; tells whether the mapping has to be asked again.
    async fn take_turn(&mut self) -> bool {
        let at = std::future::poll_fn(|context| {
            let ready: Vec<usize> = (0..self.in_flight.len())
                .filter(|at| self.in_flight[*at].is_ready(context.waker()))
                .collect();
            self.choose(&ready).map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        match self.in_flight[at].take_turn(&self.clock, self.timeout) {
            Turned::Paused => false,
            Turned::ReplyLost(id) => {
                let turn = &self.in_flight[at].turn;
                let moment = turn.started() + turn.slept();
                let shard = self.in_flight[at].shard;
                self.expect_reply(shard, id, moment, Reply::FunctionError);
                true
            }
            Turned::Over(end) => {
                let invocation = self.in_flight.remove(at);
                self.land(&invocation, end);
                true
            }
        }
    }

    /// Who is next. A zombie lags behind: that is how it meets later batches.
    fn choose(&mut self, ready: &[usize]) -> Option<usize> {
        let first = *ready.first()?;
        let Some(faults) = &mut self.faults else { return Some(first) };
        let at = ready[faults.choose(ready.len())];
        let zombies =
            self.in_flight.iter().filter(|invocation| invocation.role == Role::Zombie).count();
        if self.in_flight[at].role == Role::Zombie && zombies <= ZOMBIES_MAX {
            return Some(ready[faults.choose(ready.len())]);
        }
        Some(at)
    }

    /// Takes note of an invocation that has ended.
    fn land(&mut self, invocation: &InFlight<'t>, end: End) {
        let (of_store, left) = invocation.turn.faults().finish();
        if let Some(faults) = &mut self.faults {
            let struck = [invocation.struck.as_slice(), &of_store].concat();
            faults.settle(invocation.shard, &invocation.records, invocation.armed, &struck, left);
        }
        if let Err(Failed::Function(error)) = &end.result {
            self.note_error(&error.message);
        }
        let Role::Awaited(id) = invocation.role else { return };
        let reply = match end.result {
            Ok(reply) => {
                if let Some(faults) = self.faults.as_mut().filter(|_| is_full_success(&reply)) {
                    faults.delivered(invocation.shard, invocation.records.clone());
                }
                Reply::Returned(reply)
            }
            Err(Failed::Function(error)) if !error.was_invoked => Reply::NotInvoked,
            Err(_) => Reply::FunctionError,
        };
        self.expect_reply(invocation.shard, id, end.at, reply);
    }

    fn note_error(&mut self, message: &str) {
        let errors = &mut self.summary.errors;
        if errors.len() < ERRORS_MAX || errors.contains_key(message) {
            *errors.entry(message.to_owned()).or_default() += 1;
        }
    }

    fn expect_reply(&mut self, shard: usize, id: InvocationId, moment: Millis, reply: Reply) {
        if matches!(reply, Reply::FunctionError) {
            self.summary.failed_invocations += 1;
        }
        self.replies_so_far += 1;
        self.replies.insert((moment, self.replies_so_far), (shard, id, reply));
        self.hand_over_replies();
    }

    fn hand_over_replies(&mut self) {
        let now = self.clock.elapsed();
        while let Some(first) = self.replies.first_entry().filter(|first| first.key().0 <= now) {
            let (shard, id, reply) = first.remove();
            self.lanes[shard].machine.reply(id, now, reply);
        }
    }

    /// One read: up to `BatchSize` records of this shard, and what stands between them for
    /// shards that keep pace.
    fn read(&mut self, shard: usize) -> Result<(), RunError> {
        let mut wanted = self.parameters.batch_size;
        while wanted > 0 {
            let lanes = &self.lanes;
            let found = self.feed.next(shard, |other| lanes[other].takes_more())?;
            let Some((of, entry)) = found else {
                self.lanes[shard].machine.close();
                return Ok(());
            };
            if self.lanes[of].offer(entry) {
                self.summary.records += 1;
                wanted -= usize::from(of == shard);
            }
        }
        Ok(())
    }

    fn save_now_and_then(&mut self) -> Result<(), RunError> {
        if self.summary.invocations - self.saved_at >= CHECKPOINT_EVERY {
            self.saved_at = self.summary.invocations;
            self.checkpoints.save()?;
        }
        Ok(())
    }

    /// With neither retries nor age bounded a poison record would be retried for ever.
    fn check_age(&self, now: Millis) -> Result<(), RunError> {
        if now <= AGE_MAX || self.parameters.maximum_record_age_s.is_some() {
            return Ok(());
        }
        let stuck = self.lanes.iter().find(|lane| lane.has_unfinished());
        let shard = stuck.map(|lane| lane.name.clone()).unwrap_or_default();
        Err(RunError::Stuck { shard, error: self.summary.errors.keys().next().cloned() })
    }

    /// Lets the zombies come to their ends, then sums up.
    async fn finish(mut self) -> Result<Summary, RunError> {
        while !self.in_flight.is_empty() {
            self.take_turn().await;
        }
        self.checkpoints.save()?;
        self.summary.bisects = self.lanes.iter().map(|lane| lane.machine.bisects()).sum();
        let filtered = self.lanes.iter().map(|lane| lane.machine.filtered()).sum();
        self.summary.filtered = (!self.parameters.filters.is_empty()).then_some(filtered);
        let passed = self.lanes.iter().map(|lane| lane.machine.passed()).sum();
        self.summary.passed = self.parameters.starting_timestamp.map(|_| passed);
        self.summary.elapsed = self.clock.elapsed();
        self.summary.is_in_real_time = self.clock.is_real();
        if let Some(faults) = &self.faults {
            self.summary.faults.clone_from(faults.counts());
        }
        Ok(self.summary)
    }
}

impl Outlook {
    fn wakes_at(&mut self, moment: Millis) {
        self.wake = Some(self.wake.map_or(moment, |wake| wake.min(moment)));
    }
}

/// Whether the reply leaves no record of its batch to the mapping.
fn is_full_success(reply: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(reply)
        .is_ok_and(|reply| reply["batchItemFailures"].as_array().is_none_or(Vec::is_empty))
}
