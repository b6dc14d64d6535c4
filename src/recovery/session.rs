//! What is known of a batch's records before it runs, and what is kept of it afterwards.
//!
//! One round trip at the start reads the progress and the open keys together; at the end the
//! parks are confirmed, then the progress is written. In between everything is plain state of
//! one [`Session`]: the work asks what a record is *before* it runs, and says what became of
//! it. The processor's lanes and the bulk calls share it, so there is one rule for parking,
//! for holding a key and for remembering.
//!
//! Without tables a session knows nothing and keeps nothing.

mod unpacked;

pub(crate) use super::park::envelope::chain;
use super::{
    attempts::Tried,
    durable::{DurableState, OnUnkeyed, OutOfTime},
    park::{
        Key, OnPark, Park, ParkError, Pending,
        envelope::{self, Envelope, HELD, VERSION},
        holds::{Holds, State},
        space::SpaceError,
    },
    progress::{Memory, Note, Place, Progress, Remembered},
};
use crate::{
    call::{Call, Halt, Measures},
    concurrent,
    deadline::{Deadline, Expected},
    event::Record,
    layout::{Layout, Order},
    outcome::Outcome,
    processor::{Class, Failure},
    record::Timestamp,
    store::StoreError,
    telemetry,
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

/// What a record is before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may run.
    Run,
    /// An earlier delivery finished it.
    Finished,
    /// An earlier record of its key is parked, and it queues behind.
    Held,
}

/// One invocation's knowledge of its records.
pub(crate) struct Session<'s> {
    pub(crate) durable: &'s DurableState,
    /// As this invocation's consumer sees them.
    pub(crate) park: Option<Park>,
    progress: Option<Progress>,
    pub(crate) records: &'s [Record<'s>],
    pub(crate) layout: Layout<'s>,
    pub(crate) call: &'s Call,
    pub(crate) deadline: &'s Deadline<'s>,
    places: Vec<Place>,
    memory: Memory,
    pub(crate) holds: RefCell<Holds>,
    /// By what order keys are told, as settings write it.
    order: String,
    pub(crate) admissions: Vec<Cell<Admission>>,
    pub(crate) outcomes: Vec<Cell<Outcome>>,
    /// By lane: whether its records queue behind one parked in this invocation.
    held_lanes: Vec<Cell<bool>>,
    queued: Vec<Cell<bool>>,
    /// By the key's hash.
    pending: RefCell<BTreeMap<String, (Key, Vec<Pending>)>>,
    tried: RefCell<BTreeMap<usize, Tried>>,
    /// The record that came alone, if its starts are marked.
    alone: Cell<Option<usize>>,
    /// Whether the records were given up by the mapping, and are not run.
    pub(crate) rescues: Cell<bool>,
    pub(crate) measures: RefCell<&'s mut Measures>,
}

impl<'s> Session<'s> {
    /// Reads what is known of the records.
    ///
    /// # Errors
    /// It cannot be read, so nothing may run: a held key could not be told. Or keys are held by
    /// another order than the records have now.
    pub(crate) async fn open(
        (durable, order): (&'s DurableState, &Order),
        (records, layout): (&'s [Record<'s>], Layout<'s>),
        measures: &'s mut Measures,
        (call, deadline): (&'s Call, &'s Deadline<'s>),
    ) -> Result<Self, Halt> {
        let (lanes, length) = (layout.len(), records.len());
        let mut session = Self {
            durable,
            park: durable.park_of(call),
            progress: durable.progress_of(call),
            records,
            layout,
            call,
            deadline,
            places: Vec::new(),
            memory: Memory::default(),
            holds: RefCell::default(),
            order: order.to_string(),
            admissions: vec![Cell::new(Admission::Run); length],
            outcomes: vec![Cell::new(Outcome::default()); length],
            held_lanes: vec![Cell::new(false); lanes],
            queued: vec![Cell::new(false); length],
            pending: RefCell::default(),
            tried: RefCell::default(),
            alone: Cell::new(None),
            rescues: Cell::new(false),
            measures: RefCell::new(measures),
        };
        session.recall().await?;
        if let Some(foreign) = session.holds.borrow().foreign_order() {
            return Err(order_changed(foreign, order));
        }
        Ok(session)
    }

    async fn recall(&mut self) -> Result<(), Halt> {
        let Some(store) = self.durable.store() else { return Ok(()) };
        if self.records.is_empty() {
            return Ok(());
        }
        if let Some(progress) = self.progress() {
            self.places = self.records.iter().map(|record| progress.place(record)).collect();
        }
        let mut rows = Vec::new();
        if let Some(progress) = self.progress() {
            rows.extend(progress.rows(&self.places));
        }
        if let Some(park) = &self.park {
            rows.extend(park.rows_to_read(self.spread_by()));
        }
        let asked = self.deadline.now();
        let rows = store.read(&rows, self.deadline.ends()).await.map_err(unreadable)?;
        self.deadline.learn_call(asked);
        if let Some(progress) = self.progress() {
            self.memory = progress.recall(&rows);
            for (place, admission) in self.places.iter().zip(&self.admissions) {
                if self.memory.of(place).finished {
                    admission.set(Admission::Finished);
                }
            }
        }
        if let Some(mut park) = self.park.take() {
            let times = (self.deadline.now(), self.deadline.ends());
            let holds = park.holds(&rows, times).await.map_err(unsettled)?;
            *self.holds.get_mut() = holds.by_order(&self.order);
            self.read_holds_after_finished(&mut park).await.map_err(unsettled)?;
            let park = self.park.insert(park);
            let mut park = park.clone();
            self.look_up_parked(&mut park).await.map_err(unsettled)?;
        }
        Ok(())
    }

    /// What tells invocations apart that are beside each other: the shard where it is known.
    fn spread_by(&self) -> &str {
        let shard = self.records.first().and_then(Record::shard_id);
        shard.unwrap_or(&self.call.request_id)
    }

    /// Where keys have, or had, parked records: which of these records are known there.
    async fn look_up_parked(&self, park: &mut Park) -> Result<(), SpaceError> {
        let asked = self.find_held();
        let positions: Vec<(&Key, &str)> =
            asked.iter().map(|(_, key, sort)| (key, sort.as_str())).collect();
        let known = park.known(&positions, self.deadline.ends()).await?;
        let is_any_known = known.contains(&true);
        for ((at, ..), is_known) in asked.iter().zip(known) {
            if is_known {
                self.admissions[*at].set(Admission::Finished);
            }
        }
        if is_any_known {
            self.read_holds_after_finished(park).await?;
            self.find_held();
        }
        Ok(())
    }

    /// A record that is known to be finished may have been parked by somebody else since the
    /// holds were read (rows read together are not one moment): then its later records have
    /// to queue behind it, and only holds that are read after it tell.
    async fn read_holds_after_finished(&self, park: &mut Park) -> Result<(), SpaceError> {
        if self.admissions.iter().any(|admission| admission.get() == Admission::Finished) {
            let times = (self.deadline.now(), self.deadline.ends());
            let holds = park.holds_now(self.spread_by(), times).await?;
            self.holds.replace(holds.by_order(&self.order));
        }
        Ok(())
    }

    /// Marks the records that queue behind a parked one; gives back those that may be known.
    fn find_held(&self) -> Vec<(usize, Key, String)> {
        let holds = self.holds.borrow();
        self.measure_holds(&holds);
        let mut asked = Vec::new();
        if !holds.has(&[State::Open, State::Skipped, State::Closed]) {
            return asked;
        }
        for (at, record) in self.records.iter().enumerate() {
            if self.admissions[at].get() == Admission::Finished {
                continue;
            }
            let key = self.key(at, record);
            let entry = holds.entry(&key.hash).filter(|entry| entry.state != State::Watched);
            let Some(entry) = entry else { continue };
            let sort = self.sort(at);
            if entry.state == State::Open && self.is_behind(at, &sort, &entry.from) {
                self.admissions[at].set(Admission::Held);
            } else {
                asked.push((at, key, sort));
            }
        }
        asked
    }

    /// What keeps a record in order, as the park of this consumer knows it.
    pub(crate) fn key(&self, at: usize, record: &Record<'_>) -> Key {
        let key = self.layout.key(at, record);
        match &self.park {
            Some(park) => park.key(key),
            None => key,
        }
    }

    fn measure_holds(&self, holds: &Holds) {
        let oldest = holds.parked().map(|(_, entry)| entry.changed_s).min();
        let mut measures = self.measures.borrow_mut();
        measures.keys_parked = holds.parked().count() as u64;
        measures.oldest_parked_s = oldest
            .map_or(0, |since| u64::try_from(self.deadline.now().0 / 1_000 - since).unwrap_or(0));
    }

    /// What a record is before it runs.
    pub(crate) fn admission(&self, at: usize) -> Admission {
        let admission = self.admissions[at].get();
        if admission == Admission::Run && self.held_lanes[self.layout.lane(at)].get() {
            return Admission::Held;
        }
        admission
    }

    /// What earlier deliveries left of a record.
    pub(crate) fn remembered(&self, at: usize) -> Remembered {
        self.places.get(at).map(|place| self.memory.of(place)).unwrap_or_default()
    }

    fn tried(&self, at: usize) -> Tried {
        let here = self.tried.borrow().get(&at).copied();
        here.unwrap_or_else(|| Tried::before(&self.remembered(at), self.deadline.now().0))
    }

    /// Attempts of a record so far, those of earlier invocations included.
    pub(crate) fn attempts(&self, at: usize) -> u32 {
        let here = self.tried.borrow().get(&at).map(|tried| tried.attempts);
        here.unwrap_or_else(|| self.remembered(at).attempts)
    }

    /// Takes note of a failed attempt.
    pub(crate) fn note_attempt(&self, at: usize, failure: &Failure) {
        let mut tried = self.tried(at);
        tried.count(failure.class());
        self.tried.borrow_mut().insert(at, tried);
        self.measures.borrow_mut().count_failure(failure.code());
    }

    /// Whether a record whose last attempt, which was noted, failed with this class may be tried
    /// again in this invocation.
    pub(crate) fn may_try_again(&self, at: usize, class: Class) -> bool {
        self.tried(at).may_try_again(class, self.durable.max_attempts())
    }

    /// Whether a failure means that the record is set aside.
    pub(crate) fn is_parked_by(&self, at: usize, class: Class) -> bool {
        self.can_park() && self.tried(at).is_given_up(class, self.durable.max_attempts())
    }

    /// Marks a record that comes alone as started; those that have been started too often
    /// without any outcome are set aside instead. Tells whether the record may run.
    ///
    /// # Errors
    /// The mark is not confirmed, so the record must not run.
    pub(crate) async fn start_alone(&self) -> Result<(), Halt> {
        let Some(progress) = self.progress().filter(|it| it.marks_starts) else {
            return Ok(());
        };
        let Some(first) = self.records.first() else { return Ok(()) };
        let is_alone = self.records.iter().all(|it| it.shares_unit(first));
        let free = |at: &usize| self.admission(*at) == Admission::Run;
        let free: Vec<usize> = (0..self.records.len()).filter(free).collect();
        let (true, Some(&at)) = (is_alone, free.first()) else { return Ok(()) };
        self.alone.set(Some(at));
        let starts = self.remembered(at).starts;
        if starts >= self.durable.max_attempts() && self.can_park() {
            for at in free {
                let failure = Failure::park(Crashed { starts }).with_code("Crashed");
                let mut tried = self.tried(at);
                tried.count_starts(starts);
                self.tried.borrow_mut().insert(at, tried);
                self.set_aside(at, &failure);
            }
            return Ok(());
        }
        let times = (self.deadline.now(), self.deadline.ends());
        let marked = progress.mark_start((&self.places[at], &self.memory), starts + 1, times).await;
        self.deadline.learn_call(times.0);
        marked.map_err(unreadable)
    }

    pub(crate) fn can_park(&self) -> bool {
        self.durable.has_place()
    }

    /// Whether a record waits for its park to be confirmed.
    pub(crate) fn is_queued(&self, at: usize) -> bool {
        self.queued[at].get()
    }

    /// Whether nothing more is to be done for a record in this invocation.
    pub(crate) fn is_past(&self, at: usize) -> bool {
        self.outcomes[at].get().is_finished() || self.is_queued(at)
    }

    /// Whether a record without a readable key fails the invocation.
    pub(crate) fn halts_on_unkeyed(&self) -> bool {
        let holds = self.park.as_ref().is_some_and(|park| park.policy == OnPark::Hold);
        holds && self.durable.on_unkeyed == OnUnkeyed::Halt
    }

    /// Whether later records may be processed although an earlier one is not finished: where
    /// that they are is remembered, or told one by one.
    pub(crate) fn goes_on_after_failure(&self) -> bool {
        self.progress().is_some() || self.is_queue()
    }

    /// The progress, where records have a place: a queue remembers its messages itself.
    pub(crate) fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref().filter(|_| !self.is_queue())
    }

    pub(crate) fn is_queue(&self) -> bool {
        self.records.first().is_some_and(|record| record.source().is_queue())
    }

    /// Queues a record that failed for parking.
    pub(crate) fn set_aside(&self, at: usize, failure: &Failure) {
        self.queue(at, failure.code(), chain(failure.reason()), true);
        let holds = self.park.as_ref().is_some_and(|park| park.policy == OnPark::Hold);
        self.held_lanes[self.layout.lane(at)].set(holds);
    }

    /// Queues a record behind a parked one of its key.
    pub(crate) fn queue_behind(&self, at: usize) {
        self.queue(at, HELD, Vec::new(), false);
    }

    fn queue(&self, at: usize, code: &str, error: Vec<String>, failed: bool) {
        let record = &self.records[at];
        let key = self.key(at, record);
        let Timestamp(now) = self.deadline.now();
        let Tried { attempts, first_failed_ms, .. } = self.tried(at);
        let envelope = Envelope {
            changefold: VERSION,
            function: self.durable.function.clone(),
            function_version: self.durable.function_version.clone(),
            stream_arn: record.stream_arn().unwrap_or_default().to_owned(),
            shard_id: record.shard_id().map(str::to_owned),
            key: key.readable.clone(),
            sequence_number: record
                .message_id()
                .unwrap_or(record.sequence_number().as_str())
                .to_owned(),
            ordinal: record.ordinal(),
            error_code: envelope::code(code),
            error,
            attempts,
            arrived_ms: record.approximate_arrival().map(|Timestamp(at)| at),
            first_failed_ms,
            last_failed_ms: now,
            record: record.raw().to_owned(),
            record_encoding: None,
            record_bytes: None,
        };
        self.queued[at].set(true);
        let (sort, is_rescued) = (self.sort(at), self.rescues.get());
        let pending = Pending { record: at, sort, envelope, failed, is_rescued };
        let mut queues = self.pending.borrow_mut();
        let (_, queue) = queues.entry(key.hash.clone()).or_insert_with(|| (key, Vec::new()));
        queue.push(pending);
        self.deadline.expect_one_more(queue.len(), self.durable.sends());
    }

    /// Confirms all parks; gives back the records whose key was opened meanwhile, which have
    /// to run after all.
    pub(crate) async fn flush(&self) -> Vec<usize> {
        let queues = std::mem::take(&mut *self.pending.borrow_mut());
        if queues.is_empty() {
            return Vec::new();
        }
        // Those that open their key write the same rows, so they would only meet there. The
        // first of the batch goes first: if time or room ends, the reply is as far as it can be.
        let (behind, mut opening): (Vec<_>, Vec<_>) =
            queues.into_values().partition(|(key, _)| self.is_open(key));
        opening.sort_by_key(|(_, queue)| queue.iter().map(|it| it.record).min());
        let lifted = RefCell::new(Vec::new());
        let confirms = async {
            let behind = behind.into_iter().map(async |(key, queue)| {
                let confirmed = self.confirm(key, queue).await;
                lifted.borrow_mut().extend(confirmed);
            });
            concurrent::all(behind).await;
            for (key, queue) in opening {
                let confirmed = self.confirm(key, queue).await;
                lifted.borrow_mut().extend(confirmed);
            }
        };
        // Those of which it is not known by then come again.
        self.deadline.until(self.deadline.writes_end(), confirms).await;
        let mut lifted = lifted.into_inner();
        self.deadline.expect(Expected::default());
        lifted.sort_unstable();
        for queued in &self.queued {
            queued.set(false);
        }
        for at in &lifted {
            self.admissions[*at].set(Admission::Run);
            self.held_lanes[self.layout.lane(*at)].set(false);
        }
        // What was parked just now is there at the end, and no later batch may come to tell.
        self.measure_holds(&self.holds.borrow());
        lifted
    }

    fn is_open(&self, key: &Key) -> bool {
        let holds = self.holds.borrow();
        holds.entry(&key.hash).is_some_and(|entry| entry.state == State::Open)
    }

    /// Whether the park has no room for this key, and its records may do without.
    fn goes_past_park(&self, key: &Key) -> bool {
        let has_no_room = |park: &Park| self.holds.borrow().is_full(&key.hash, park.keys_max);
        self.durable.sends_when_full() && self.park.as_ref().is_some_and(has_no_room)
    }

    async fn confirm(&self, key: Key, mut queue: Vec<Pending>) -> Vec<usize> {
        queue.sort_by(|a, b| a.sort.cmp(&b.sort));
        let failed: BTreeSet<usize> =
            queue.iter().filter(|it| it.failed).map(|it| it.record).collect();
        for at in &failed {
            self.outcomes[*at].set(Outcome::Failed);
        }
        if self.goes_past_park(&key) {
            // Nothing is held, so what only queues behind runs.
            let (failed, behind): (Vec<Pending>, Vec<Pending>) =
                queue.into_iter().partition(|it| it.failed);
            self.send_alone(&failed).await;
            return behind.into_iter().map(|it| it.record).collect();
        }
        // Both have to confirm: the table last, since its row is what is found at a repeat.
        let sent = Box::pin(self.durable.send(&queue, (self.call, self.deadline))).await;
        queue.truncate(sent);
        let Some(park) = &self.park else {
            for it in &queue {
                self.outcomes[it.record].set(Outcome::Parked);
            }
            return Vec::new();
        };
        if !queue.is_empty() && !self.deadline.has_time_to_write() {
            telemetry::park_failed(self.call, "ParkOutOfTime", &OutOfTime);
            return Vec::new();
        }
        let sent: Vec<usize> = queue.iter().map(|it| it.record).collect();
        let began = self.deadline.now();
        let times = (self.call.request_id.as_str(), began, self.deadline.ends());
        let (confirmed, ended) = Box::pin(park.confirm(&key, queue, &self.holds, times)).await;
        self.deadline.learn_call(began);
        let mut measures = self.measures.borrow_mut();
        for at in confirmed.parked {
            self.outcomes[at].set(Outcome::Parked);
            measures.held += u64::from(!failed.contains(&at));
        }
        for at in confirmed.known {
            self.outcomes[at].set(Outcome::AlreadyApplied);
        }
        drop(measures);
        match ended {
            Ok(()) => {}
            // It was full after all. What is not parked is where the destination is by now.
            Err(ParkError::Full) if self.durable.sends_when_full() => {
                let is_unfinished = |at: &usize| !self.outcomes[*at].get().is_finished();
                self.sent_alone(&sent.into_iter().filter(is_unfinished).collect::<Vec<_>>());
            }
            Err(error) => telemetry::park_failed(self.call, error.code(), &error),
        }
        confirmed.lifted
    }

    /// Sends records for which the park has no room to the destination alone.
    async fn send_alone(&self, failed: &[Pending]) {
        let sent = Box::pin(self.durable.send(failed, (self.call, self.deadline))).await;
        let sent: Vec<usize> = failed[..sent].iter().map(|it| it.record).collect();
        self.sent_alone(&sent);
    }

    fn sent_alone(&self, records: &[usize]) {
        for at in records {
            self.outcomes[*at].set(Outcome::Parked);
            telemetry::sent_past_park(&self.records[*at], self.call);
        }
        self.measures.borrow_mut().sent_past_park += records.len() as u64;
    }

    /// Remembers what is beyond the checkpoint, if the batch ends early.
    pub(crate) async fn remember(&self) {
        self.note_finished_later().await;
        self.watch_unfinished().await;
        let Some(progress) = self.progress() else { return };
        let is_finished = |at: usize| self.outcomes[at].get().is_finished();
        let lowest = (0..self.records.len()).find(|at| !is_finished(*at));
        let first = match (lowest, self.alone.get()) {
            // Its neighbours come again with it, those before it as well.
            (Some(lowest), _) => {
                let unit = |at: &usize| self.records[*at].shares_unit(&self.records[lowest]);
                (0..lowest).find(unit).unwrap_or(lowest)
            }
            // A record that was started before and is finished now: its starts must not count
            // against it if it comes again.
            (None, Some(alone)) if self.remembered(alone).starts > 0 => alone,
            (None, _) => return,
        };
        let tried = self.tried.borrow().clone();
        let unfinished: BTreeSet<&Place> = (first..self.records.len())
            .filter(|at| !is_finished(*at))
            .map(|at| &self.places[at])
            .collect();
        let notes: Vec<(Place, Note)> = (first..self.records.len())
            .filter_map(|at| {
                let note = if is_finished(at) {
                    // Of records that nothing tells apart, all are finished or none.
                    if self.may_have_twins_elsewhere(at) || unfinished.contains(&self.places[at]) {
                        return None;
                    }
                    Note::Finished
                } else {
                    let Tried { attempts, unclassified, first_failed_ms, .. } = *tried.get(&at)?;
                    Note::Tried { attempts, unclassified, first_failed_ms }
                };
                Some((self.places[at].clone(), note))
            })
            .collect();
        let times = (self.deadline.now(), self.deadline.ends());
        let remembered = progress.remember(&notes, &self.memory, times);
        let remembered = self.deadline.until(self.deadline.writes_end(), remembered).await;
        self.note_remembered(remembered.unwrap_or(Ok(0)));
    }

    /// Takes back the mark of a record that came alone: the process lives, whatever happened.
    pub(crate) async fn forget_start(&self) {
        let (Some(progress), Some(alone)) = (self.progress(), self.alone.get()) else { return };
        let place = &self.places[alone];
        let Tried { attempts, unclassified, first_failed_ms, .. } = self.tried(alone);
        let times = (self.deadline.now(), self.deadline.ends());
        let note = Note::Tried { attempts, unclassified, first_failed_ms };
        let note = [(place.clone(), note)];
        self.note_remembered(progress.remember(&note, &self.memory, times).await);
    }

    fn note_remembered(&self, remembered: Result<u64, StoreError>) {
        match remembered {
            Ok(0) => {}
            Ok(full) => telemetry::progress_full(self.call, full),
            Err(error) => telemetry::progress_lost(self.call, &error),
        }
    }
}

/// The function's process ended whenever the record ran.
#[derive(Debug, thiserror::Error)]
#[error("the process ended at each of {starts} starts of this record, which came alone")]
struct Crashed {
    starts: u32,
}

/// It is not known whose parked records are meant, so nothing may run.
pub(crate) fn unsettled(error: SpaceError) -> Halt {
    let code = match error {
        SpaceError::Store(error) => return unreadable(error),
        SpaceError::Foreign { .. } => "OldParksForeign",
        SpaceError::Contended => "ParkContended",
    };
    Halt::new(code, error.to_string())
}

/// Held keys are known by the order they were parked in: by another, no record meets its hold.
fn order_changed(held: &str, now: &Order) -> Halt {
    Halt::new(
        "OrderChanged",
        format!(
            "keys are held that were parked in the order `{held}`, and the order is `{now}` now, \
             which would let their records pass: redrive or drop what is parked, or set \
             CHANGEFOLD_ORDER to what it was"
        ),
    )
}

pub(crate) fn unreadable(error: StoreError) -> Halt {
    Halt::new("KeepingUnreadable", "what is known of the records cannot be read or noted")
        .caused_by(error)
}
