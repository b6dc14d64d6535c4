//! What is known of a batch's records before it runs, and what is kept of it afterwards.
//!
//! One round trip at the start reads the progress and the open keys together; at the end the
//! parks are confirmed, then the progress is written. In between everything is plain state of
//! one [`Session`]: the work asks what a record is *before* it runs, and says what became of
//! it. The processor's lanes and the bulk calls share it, so there is one rule for parking,
//! for holding a key and for remembering.
//!
//! Without tables a session knows nothing and keeps nothing.

mod parking;
mod remembering;
mod unpacked;

pub(crate) use super::park::envelope::chain;
use super::{
    attempts::Tried,
    durable::{DurableState, OnUnkeyed},
    park::{
        Key, OnPark, Park, Pending,
        holds::{Holds, State},
        space::SpaceError,
    },
    progress::{Memory, Place, Progress, Remembered},
};
use crate::{
    call::{Call, Halt, Measures},
    deadline::Deadline,
    event::Record,
    layout::{Layout, Order},
    outcome::Outcome,
    processor::{Class, Failure},
    store::StoreError,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
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
    /// Store calls that were made before.
    calls_before: u64,
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
            calls_before: durable.store_calls(),
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

    /// Says what became of the records, and what it took.
    pub(crate) fn tell(&self, outcomes: &mut [Outcome]) {
        for (outcome, said) in outcomes.iter_mut().zip(&self.outcomes) {
            *outcome = said.get();
        }
        let calls = self.durable.store_calls() - self.calls_before;
        self.measures.borrow_mut().store_calls = calls;
    }
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
    Halt::new("DurableStateUnreadable", "what is known of the records cannot be read or noted")
        .caused_by(error)
}
