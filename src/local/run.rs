//! A run: the event source mapping over a backlog, in virtual time, or over a live stream.
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
//! others. A live stream ([`follow`]) is the same loop in real time: where a fixture would be
//! read on, it waits for records, for a shard that begins, or to be told to stop.
//!
//! What is kept in memory is what is in invocation: records waiting for a full batch, batches
//! under way, and a few delivered ones. One exception, where the rules of AWS ask for it: a
//! sub-lane stuck for long must not hold up the others of its shard, so what stands behind it
//! is read and kept.

mod backlog;
mod calls;
mod in_flight;
mod lane;
mod observer;
mod summary;
#[cfg(test)]
mod tests;

use super::{
    clock::{Turn, VirtualClock},
    faults::Plan,
    mapping::{Invocation, Millis, OnFailure, Records, Step},
    source::Fixtures,
    target::Target,
};
use crate::call::Call;
use backlog::Recorded;
pub use backlog::{Backlog, Next, Stream};
use bytes::Bytes;
use calls::Arriving;
use futures_util::future::{FusedFuture, FutureExt as _};
use in_flight::{InFlight, Role, next_turn};
use lane::Lane;
use observer::Counting;
pub use observer::{Invoked, Observer};
use std::{collections::BTreeMap, pin::pin, sync::Arc};
pub use summary::{RunError, Setting, Summary};

/// Lists of a summary are cut here.
pub const LISTED_MAX: usize = 1_000;

/// Checkpoints are written after so many invocations, and at the end.
const CHECKPOINT_EVERY: u64 = 1_000;

/// Of a live stream they are written when nothing is to be done, and under load so often.
const CHECKPOINT_EVERY_MS: Millis = 200;

/// So much later than the last record has become too old a run is over.
const DAY: Millis = 86_400_000;

/// Age that no record can reach in a stream that is not told to keep longer: the most that
/// `MaximumRecordAgeInSeconds` can say.
const AGE_MAX: Millis = 604_800_000;

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
    observed(fixtures, target, clock, setting, &mut Counting(progress)).await
}

/// The same, told to who observes it.
///
/// # Errors
/// As of [`run`].
pub async fn observed<T: Target>(
    fixtures: &Fixtures,
    target: &T,
    clock: &Arc<VirtualClock>,
    setting: Setting,
    observer: &mut dyn Observer,
) -> Result<Summary, RunError> {
    let run = Run::new(Recorded::new(fixtures), target, clock, setting);
    run.through(std::future::pending(), observer).await
}

/// Delivers a live stream to the target as its records come, until `stop` resolves. Then no call
/// is begun any more; those under way end, and the checkpoints are written.
///
/// # Errors
/// The stream cannot be read any more, or the checkpoint file fails.
pub async fn follow<T: Target>(
    stream: impl Backlog,
    target: &T,
    clock: &Arc<VirtualClock>,
    setting: Setting,
    stop: impl Future<Output = ()>,
    observer: &mut dyn Observer,
) -> Result<Summary, RunError> {
    Run::new(stream, target, clock, setting).through(stop, observer).await
}

/// What the shards want when they can do no more at this moment.
#[derive(Debug, Default)]
struct Outlook {
    /// The first shard that wants more records now.
    reads: Option<usize>,
    /// When a shard goes on by itself.
    wake: Option<Millis>,
    /// Whether a shard has ended, so that others may begin.
    ended: bool,
}

struct Run<'t, T, B> {
    target: &'t T,
    clock: Arc<VirtualClock>,
    setting: Setting,
    stream: Stream,
    backlog: B,
    lanes: Vec<Lane>,
    in_flight: Vec<InFlight<'t>>,
    /// Replies on their way: by the moment they arrive, then in order of ending.
    replies: BTreeMap<(Millis, u64), Arriving>,
    /// Tells replies apart that arrive at the same moment.
    replies_so_far: u64,
    saves: Saves,
    /// Nothing is begun any more.
    is_stopping: bool,
    summary: Summary,
}

/// When the checkpoints were written last.
#[derive(Debug, Default)]
struct Saves {
    invocations: u64,
    at: Millis,
    /// Whether one has moved since.
    is_due: bool,
}

impl<'t, T: Target, B: Backlog> Run<'t, T, B> {
    fn new(backlog: B, target: &'t T, clock: &Arc<VirtualClock>, setting: Setting) -> Self {
        Self {
            target,
            clock: Arc::clone(clock),
            stream: backlog.stream(),
            backlog,
            lanes: Vec::new(),
            in_flight: Vec::new(),
            replies: BTreeMap::new(),
            replies_so_far: 0,
            setting,
            saves: Saves::default(),
            is_stopping: false,
            summary: Summary::default(),
        }
    }

    async fn through(
        mut self,
        stop: impl Future<Output = ()>,
        observer: &mut dyn Observer,
    ) -> Result<Summary, RunError> {
        let mut stop = pin!(stop.fuse());
        loop {
            // Told to stop while much is to be done, it must not begin more of it.
            self.is_stopping |= !stop.is_terminated() && (&mut stop).now_or_never().is_some();
            self.begin_shards();
            let outlook = self.attend(observer);
            observer.read(self.summary.records);
            if outlook.ended {
                continue;
            }
            self.save_now_and_then()?;
            let is_real = self.clock.is_real();
            if self.is_awaiting() && !(is_real && outlook.reads.is_some()) {
                self.take_turns(outlook.wake, &mut stop, observer).await?;
                continue;
            }
            if let Some(shard) = outlook.reads {
                self.read(shard, observer)?;
                continue;
            }
            let next = [outlook.wake, self.replies.first_key_value().map(|(key, _)| key.0)];
            let next = next.into_iter().flatten().min();
            if next.is_none() && (self.is_stopping || !self.backlog.is_live()) {
                break;
            }
            self.rest(next, &mut stop).await?;
            self.hand_over_replies(observer);
        }
        self.finish(observer).await
    }

    /// Makes a lane of each shard that begins.
    fn begin_shards(&mut self) {
        if self.is_stopping {
            return;
        }
        for name in self.backlog.begin() {
            self.lanes.push(Lane::new(&name, &self.stream, &self.setting));
        }
    }

    /// Waits for the next moment, or for more of the stream.
    async fn rest(
        &mut self,
        moment: Option<Millis>,
        stop: &mut (impl FusedFuture<Output = ()> + Unpin),
    ) -> Result<(), RunError> {
        if self.backlog.is_live() {
            self.save_if_due()?;
        }
        let clock = Arc::clone(&self.clock);
        let passes = async {
            match moment {
                Some(moment) => clock.pass_to(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = passes => {}
            () = stop, if !stop.is_terminated() => self.is_stopping = true,
            changed = self.backlog.changes(), if !self.is_stopping => changed?,
        }
        moment.map_or(Ok(()), |moment| self.check_age(moment))
    }

    /// Asks every shard what it wants, until none can do more at this moment.
    fn attend(&mut self, observer: &mut dyn Observer) -> Outlook {
        let mut outlook = Outlook::default();
        if self.is_stopping {
            return outlook;
        }
        let now = self.clock.elapsed();
        for shard in 0..self.lanes.len() {
            let has_more = self.backlog.has_more(shard);
            let mut is_fed = has_more
                && !self.lanes[shard].is_cut()
                && (!self.backlog.is_live() || self.lanes[shard].takes_more());
            self.lanes[shard].is_fed(is_fed);
            loop {
                match self.lanes[shard].machine.poll(now) {
                    Step::Invoke(invocation) => {
                        self.lanes[shard].sends(&invocation.records);
                        observer.begun(&self.lanes[shard].name, &invocation.records);
                        self.start(shard, invocation);
                    }
                    Step::Deliver(on_failure) => {
                        self.deliver(&on_failure);
                        observer.discarded(&on_failure);
                    }
                    Step::Lost(records) => {
                        self.summary.lost += records.len() as u64;
                        observer.lost(&self.lanes[shard].name, &records);
                    }
                    // The last of the recorded batch went into none: a filter took it, or it came
                    // before the starting position.
                    Step::Read if self.lanes[shard].forget_cut() => {
                        is_fed = has_more;
                        self.lanes[shard].is_fed(is_fed);
                    }
                    Step::Read => {
                        let wake = match self.waits_before_reading(shard, now) {
                            None if is_fed => {
                                outlook.reads = outlook.reads.or(Some(shard));
                                break;
                            }
                            None => self.lanes[shard].machine.wakes_at(),
                            waits => waits,
                        };
                        if let Some(wake) = wake {
                            outlook.wakes_at(wake);
                        }
                        break;
                    }
                    Step::Wait(moment) => {
                        outlook.wakes_at(moment);
                        break;
                    }
                    Step::Busy => break,
                    Step::Done => {
                        if self.lanes[shard].ends() {
                            self.backlog.finish(shard);
                            outlook.ended = true;
                        }
                        break;
                    }
                }
            }
            self.note_checkpoint(shard, observer);
        }
        outlook
    }

    /// When enough was read ahead, a backoff of a sub-lane comes first: a fault must not make
    /// the rest of the backlog pile up. Not for long, though: in the stream the others go on,
    /// and their records must not grow old.
    fn waits_before_reading(&self, shard: usize, now: Millis) -> Option<Millis> {
        let parameters = &self.setting.parameters;
        let age = [parameters.maximum_record_age_s, parameters.retention_s].into_iter().flatten();
        let patience = age.min().map_or(AGE_MAX, |age| Millis::from(age) * 1000) / 10;
        if self.lanes[shard].takes_more() || now > patience {
            return None;
        }
        self.lanes[shard].machine.wakes_at()
    }

    fn start(&mut self, shard: usize, invocation: Invocation) {
        let now = self.clock.elapsed();
        let mut plan = match &mut self.setting.faults {
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
        let deadline = self.clock.timestamp(now + self.setting.timeout);
        let call = Call::new(request_id.to_owned(), deadline);
        let payload = Bytes::from(batch.1.event());
        let turn = Turn::new(now, std::mem::take(&mut plan.store));
        let invoked = self.target.invoke(payload, call);
        self.summary.invocations += 1;
        let kill = plan.kill_after.map(|after| {
            let clock = Arc::clone(&self.clock);
            async move { clock.comes(Some(now + after)).await }.boxed_local()
        });
        let launched = InFlight::new(role, batch, &plan, turn, invoked);
        self.in_flight.push(launched.with_kill(kill));
    }

    fn deliver(&mut self, on_failure: &OnFailure) {
        self.summary.discards += 1;
        if self.summary.on_failure.len() < LISTED_MAX {
            let document = on_failure.to_json(on_failure.destination.as_ref());
            self.summary.on_failure.push(document);
        }
    }

    fn note_checkpoint(&mut self, shard: usize, observer: &mut dyn Observer) {
        let lane = &mut self.lanes[shard];
        if !lane.forget_finished() {
            return;
        }
        let Some(checkpoint) = lane.machine.checkpoint() else { return };
        if let Some(faults) = &mut self.setting.faults {
            faults.forget(shard, checkpoint);
        }
        self.setting.checkpoints.advance(&lane.name, checkpoint);
        observer.passed(&lane.name, checkpoint);
        self.saves.is_due = true;
    }

    /// One read: up to `BatchSize` records of this shard, and what stands between them for
    /// shards that keep pace.
    fn read(&mut self, shard: usize, observer: &mut dyn Observer) -> Result<(), RunError> {
        let mut wanted = self.setting.parameters.batch_size;
        while wanted > 0 {
            let lanes = &self.lanes;
            let next = self.backlog.next(shard, &|other| lanes[other].takes_more())?;
            let is_last = matches!(next, Next::LastOfBatch(..));
            match next {
                Next::Record(of, entry) | Next::LastOfBatch(of, entry) => {
                    observer.came(&self.lanes[of].name, &entry);
                    if self.lanes[of].offer(entry) {
                        self.summary.records += 1;
                        wanted -= usize::from(of == shard);
                        if is_last {
                            self.lanes[of].cut();
                        }
                        if is_last && of == shard {
                            break;
                        }
                    }
                }
                Next::Nothing => break,
                Next::End => {
                    self.lanes[shard].machine.close();
                    break;
                }
                Next::Over => {
                    self.lanes[shard].machine.end_of_input();
                    break;
                }
            }
        }
        Ok(())
    }

    fn save_now_and_then(&mut self) -> Result<(), RunError> {
        let is_time = if self.backlog.is_live() {
            self.clock.elapsed() - self.saves.at >= CHECKPOINT_EVERY_MS
        } else {
            self.summary.invocations - self.saves.invocations >= CHECKPOINT_EVERY
        };
        if is_time { self.save_if_due() } else { Ok(()) }
    }

    fn save_if_due(&mut self) -> Result<(), RunError> {
        if std::mem::take(&mut self.saves.is_due) {
            self.saves.invocations = self.summary.invocations;
            self.saves.at = self.clock.elapsed();
            self.setting.checkpoints.save()?;
        }
        Ok(())
    }

    /// With neither retries nor age bounded a poison record would be retried for ever, unless the
    /// stream lets it expire. A window's last call has no records that could grow old.
    fn check_age(&self, now: Millis) -> Result<(), RunError> {
        let parameters = &self.setting.parameters;
        let limits = [parameters.maximum_record_age_s, parameters.retention_s];
        let longest = limits.into_iter().flatten().max();
        let kept = longest.map_or(0, |seconds| Millis::from(seconds) * 1000 + DAY);
        if now <= AGE_MAX.max(kept) || self.backlog.is_live() {
            return Ok(());
        }
        let mut lanes = self.lanes.iter();
        let stuck = lanes.clone().find(|lane| lane.has_unfinished());
        // A window's last call is stuck without a record.
        let stuck = stuck.or_else(|| lanes.find(|lane| !lane.is_over()));
        let shard = stuck.map(|lane| lane.name.clone()).unwrap_or_default();
        Err(RunError::Stuck { shard, error: self.summary.errors.keys().next().cloned() })
    }

    /// Lets the zombies come to their ends, then sums up.
    async fn finish(mut self, observer: &mut dyn Observer) -> Result<Summary, RunError> {
        while !self.in_flight.is_empty() {
            let at = next_turn(&mut self.in_flight, &mut self.setting.faults).await;
            self.take_turn(at, observer);
        }
        // Calls that ended after the run was told to stop.
        for shard in 0..self.lanes.len() {
            self.note_checkpoint(shard, observer);
        }
        self.setting.checkpoints.save()?;
        self.summary.bisects = self.lanes.iter().map(|lane| lane.machine.bisects()).sum();
        let filtered = self.lanes.iter().map(|lane| lane.machine.filtered()).sum();
        self.summary.filtered = (!self.setting.parameters.filters.is_empty()).then_some(filtered);
        let passed = self.lanes.iter().map(|lane| lane.machine.passed()).sum();
        self.summary.passed = self.setting.parameters.starting_timestamp.map(|_| passed);
        self.summary.elapsed = self.clock.elapsed();
        self.summary.is_in_real_time = self.clock.is_real();
        if let Some(faults) = &self.setting.faults {
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
