//! The fault plan: which invocations fail, how, and how often a record may be met by it.
//!
//! The kind that has struck least comes next, chance deciding among equals, so that a short
//! run meets every kind; a kind that could not strike (no store call of its sort was made) is
//! counted less, so that it comes back soon. Two
//! bounds keep a run honest. A record meets at most [`FAULTS_PER_RECORD_MAX`] faults, and no
//! more than the mapping's retries allow, so that no record is discarded because of faults
//! that are not its own: whoever fails is counted on *all* records of the invocation, when the
//! fault is armed, and given back when it did not strike. And faults stop when half of the
//! record age is used up by the backoff they cause.

mod of_store;
mod strike;
#[cfg(test)]
mod tests;

use super::mapping::{Entry, Millis, Parameters, RETENTION_HOURS, Records};
use crate::record::SequenceNumber;
pub use of_store::{Operation, StoreFaults};
use std::collections::{BTreeMap, VecDeque};
pub(super) use strike::{Strike, with_unprocessed};

/// At most so many faults meet any one record.
pub const FAULTS_PER_RECORD_MAX: u8 = 3;

/// How many delivered batches are kept for a late second delivery.
const RECENT_BATCHES: usize = 4;

/// A batch with more records than this is halved by its first faults.
const LARGE_BATCH: usize = 16;

/// What a strike weighs in the choice of the next kind, and what a miss does: enough that a
/// kind that cannot strike at all (there is no store) holds up no other.
const STRIKE: u64 = 4;
const MISS: u64 = 1;

/// A process is killed within so many milliseconds, or not at all if it is faster: about as long
/// as a call of a function that keeps views takes.
const KILL_WITHIN: Millis = 60;

/// The longest of the pauses that follow one, two and three failures, in milliseconds.
const BACKOFF_MAX: Millis = 1_000;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The function ends with an error, somewhere between its store calls.
    FunctionError,
    /// The function runs into its time limit and is cut off.
    Timeout,
    /// The process dies before a store call is made.
    CrashBeforeStoreCall,
    /// The process dies when a store call has been performed, before it learns so.
    CrashAfterStoreCall,
    /// Lambda loses sight of the invocation, which goes on beside its retry.
    LostReply,
    /// A batch that was delivered before is delivered again, later.
    DuplicateDelivery,
    /// The store refuses a write because another transaction holds the item.
    TransactionConflict,
    /// The store refuses a call because of its rate.
    Throttling,
    /// The store answers only a part of a batch read.
    UnprocessedKeys,
    /// The store performs a write and its answer is lost.
    LostAnswer,
}

impl Fault {
    /// All kinds, in the order of the report.
    pub const ALL: [Self; 10] = [
        Self::FunctionError,
        Self::Timeout,
        Self::CrashBeforeStoreCall,
        Self::CrashAfterStoreCall,
        Self::LostReply,
        Self::DuplicateDelivery,
        Self::TransactionConflict,
        Self::Throttling,
        Self::UnprocessedKeys,
        Self::LostAnswer,
    ];

    /// The name in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FunctionError => "function_error",
            Self::Timeout => "timeout",
            Self::CrashBeforeStoreCall => "crash_before_store_call",
            Self::CrashAfterStoreCall => "crash_after_store_call",
            Self::LostReply => "lost_reply",
            Self::DuplicateDelivery => "duplicate_delivery",
            Self::TransactionConflict => "transaction_conflict",
            Self::Throttling => "throttling",
            Self::UnprocessedKeys => "unprocessed_keys",
            Self::LostAnswer => "lost_answer",
        }
    }

    /// Whether the invocation cannot survive it. The others may be overcome in place.
    fn ends_the_invocation(self) -> bool {
        match self {
            Self::FunctionError
            | Self::Timeout
            | Self::CrashBeforeStoreCall
            | Self::CrashAfterStoreCall
            | Self::LostReply => true,
            Self::DuplicateDelivery
            | Self::TransactionConflict
            | Self::Throttling
            | Self::UnprocessedKeys
            | Self::LostAnswer => false,
        }
    }

    /// Whether it comes to a process of its own; a kill is a [`FunctionError`](Self::FunctionError)
    /// there.
    fn reaches_a_process(self, serves_store: bool) -> bool {
        match self {
            Self::FunctionError | Self::LostReply | Self::DuplicateDelivery => true,
            Self::TransactionConflict
            | Self::Throttling
            | Self::UnprocessedKeys
            | Self::LostAnswer => serves_store,
            Self::Timeout | Self::CrashBeforeStoreCall | Self::CrashAfterStoreCall => false,
        }
    }

    /// Whether it strikes a store call, as opposed to the invocation as a whole.
    fn is_of_the_store(self) -> bool {
        match self {
            Self::FunctionError | Self::Timeout | Self::LostReply | Self::DuplicateDelivery => {
                false
            }
            Self::CrashBeforeStoreCall
            | Self::CrashAfterStoreCall
            | Self::TransactionConflict
            | Self::Throttling
            | Self::UnprocessedKeys
            | Self::LostAnswer => true,
        }
    }
}

/// The faults of one run, drawn from its seed.
#[derive(Debug)]
pub struct Faults {
    rng: fastrand::Rng,
    /// How much each kind has been used: [`STRIKE`] and [`MISS`] for every time.
    used: BTreeMap<Fault, u64>,
    /// Faults met so far, of records that have met any and are not finished.
    met: BTreeMap<(usize, SequenceNumber<'static>), u8>,
    counts: BTreeMap<&'static str, u64>,
    recent: VecDeque<Recent>,
    per_record: u8,
    until: Millis,
    /// Of a function in a process of its own: whether the desk serves its store.
    of_process: Option<bool>,
}

/// A batch that was delivered, with how often a fault met it.
#[derive(Debug)]
struct Recent {
    shard: usize,
    records: Records,
    met: u8,
}

impl Recent {
    fn may_meet_another(&self) -> bool {
        self.met < FAULTS_PER_RECORD_MAX
    }
}

/// What is planned for one invocation.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Faults of its store calls.
    pub(super) store: StoreFaults,
    /// A fault of the whole invocation and after how many pauses it strikes.
    pub(super) cut: Option<(Fault, u32)>,
    /// After how long its process is killed, in real time.
    pub(super) kill_after: Option<Millis>,
    /// An earlier batch to be delivered once more, beside this invocation: shard and records.
    pub(super) duplicate: Option<(usize, Records)>,
    /// How many faults are armed, and so counted on each record.
    pub(super) armed: u8,
    /// One of them ends the invocation: it makes no sense to arm more after it.
    ends: bool,
}

impl Faults {
    /// The faults that `seed` stands for, under a mapping's parameters. `timeout` is the
    /// function's, in milliseconds.
    #[must_use]
    pub fn new(seed: u64, parameters: &Parameters, timeout: Millis) -> Self {
        let retries = parameters.maximum_retry_attempts.unwrap_or(u32::MAX);
        let per_record = u8::try_from(retries).unwrap_or(u8::MAX).min(FAULTS_PER_RECORD_MAX);
        // Faults that are still to come cost a record this much time; half the age is ours.
        let worst = Millis::from(FAULTS_PER_RECORD_MAX) * (timeout + BACKOFF_MAX);
        let age = parameters.maximum_record_age_s.unwrap_or(RETENTION_HOURS * 3_600);
        let until = (Millis::from(age) * 1000 / 2).saturating_sub(worst);
        Self {
            rng: fastrand::Rng::with_seed(seed),
            used: Fault::ALL.iter().map(|fault| (*fault, 0)).collect(),
            met: BTreeMap::new(),
            counts: Fault::ALL.iter().map(|fault| (fault.name(), 0)).collect(),
            recent: VecDeque::new(),
            per_record,
            until,
            of_process: None,
        }
    }

    /// The same for a function in a process of its own, in real time: the process is killed at a
    /// moment ([`Fault::FunctionError`]), a reply is lost while it goes on, and a batch comes
    /// again. If the desk `serves_store`, a call of that is refused, answered in part, or its
    /// answer is lost. Which calls are met is drawn from the seed; how far a process has come when
    /// it is killed is not.
    #[must_use]
    pub fn of_process(self, serves_store: bool) -> Self {
        Self { of_process: Some(serves_store), ..self }
    }

    /// How often each kind has struck; every kind is there.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// Chooses one of `length` invocations that could go on.
    pub(super) fn choose(&mut self, length: usize) -> usize {
        self.rng.usize(..length)
    }

    /// Decides what this invocation is to meet.
    pub(super) fn plan(&mut self, shard: usize, records: &[Entry], now: Millis) -> Plan {
        let mut plan = Plan::default();
        if now >= self.until {
            return plan;
        }
        let allowed = self.per_record.saturating_sub(self.met_by(shard, records));
        let percent = percent(records.len());
        // A large batch is to be halved while faults are left for its halves: many small
        // batches meet more kinds than one large batch.
        let halves_first = records.len() > LARGE_BATCH && allowed > 1;
        // One more draw than faults allowed: the duplicate is somebody else's fault.
        for _ in 0..=allowed {
            if self.rng.u32(..100) >= percent {
                break;
            }
            let may_strike = plan.armed < allowed && !plan.ends;
            // Where nothing else may come, a duplicate would come every time.
            let may_repeat = plan.duplicate.is_none()
                && self.has_duplicate()
                && (may_strike || self.rng.u32(..4) == 0);
            let of_process = self.of_process;
            let reaches = |fault: Fault| match of_process {
                None => true,
                Some(serves_store) => fault.reaches_a_process(serves_store),
            };
            let Some(fault) = self.draw(|fault| {
                if fault == Fault::DuplicateDelivery {
                    return may_repeat;
                }
                let is_wanted = fault.ends_the_invocation() || !halves_first;
                may_strike && is_wanted && reaches(fault)
            }) else {
                break;
            };
            if fault == Fault::DuplicateDelivery {
                plan.duplicate = self.duplicate();
                continue;
            }
            plan.armed += 1;
            plan.ends |= fault.ends_the_invocation();
            if fault.is_of_the_store() {
                // Most invocations make few calls: rarely let one through.
                let skip = u32::from(self.rng.u32(..4) == 0);
                plan.store.arm(fault, skip, self.rng.fork());
            } else if of_process.is_some() && fault == Fault::FunctionError {
                plan.kill_after = Some(self.rng.u64(..KILL_WITHIN));
            } else {
                // A reply can only be lost of an invocation that has begun.
                let first = u32::from(fault == Fault::LostReply);
                plan.cut = Some((fault, first + self.rng.u32(..3)));
            }
        }
        self.count_on(shard, records, plan.armed);
        plan
    }

    /// Takes note of what became of a plan when its invocation has ended.
    pub(super) fn settle(
        &mut self,
        shard: usize,
        records: &[Entry],
        armed: u8,
        struck: &[Fault],
        left: impl IntoIterator<Item = Fault>,
    ) {
        for fault in struck {
            self.count(*fault);
        }
        for fault in left {
            // It was counted as a strike when it was drawn.
            self.used.entry(fault).and_modify(|used| *used -= STRIKE - MISS);
        }
        let unused = armed.saturating_sub(u8::try_from(struck.len()).unwrap_or(u8::MAX));
        for number in numbers(records) {
            if let Some(met) = self.met.get_mut(&(shard, number.clone())) {
                *met = met.saturating_sub(unused);
            }
        }
    }

    /// Remembers a delivered batch for a duplicate delivery.
    pub(super) fn delivered(&mut self, shard: usize, records: Records) {
        let met = self.met_by(shard, &records);
        if self.recent.len() == RECENT_BATCHES {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { shard, records, met });
    }

    /// Forgets the records that are finished.
    pub(super) fn forget(&mut self, shard: usize, through: &SequenceNumber<'static>) {
        let first = (shard, SequenceNumber::new("0").expect("a digit is a number"));
        let last = (shard, through.clone());
        while let Some(key) = self.met.range(&first..=&last).next().map(|(key, _)| key.clone()) {
            self.met.remove(&key);
        }
    }

    fn has_duplicate(&self) -> bool {
        self.recent.iter().any(Recent::may_meet_another)
    }

    /// An earlier batch that may still meet a fault.
    fn duplicate(&mut self) -> Option<(usize, Records)> {
        let length = self.recent.iter().filter(|recent| recent.may_meet_another()).count();
        let at = self.rng.usize(..length.max(1));
        let recent = self.recent.iter_mut().filter(|recent| recent.may_meet_another()).nth(at)?;
        recent.met += 1;
        let again = (recent.shard, recent.records.clone());
        self.count(Fault::DuplicateDelivery);
        Some(again)
    }

    /// The least used of the kinds that may come now.
    fn draw(&mut self, may: impl Fn(Fault) -> bool) -> Option<Fault> {
        let open = || self.used.iter().filter(|(fault, _)| may(**fault));
        let least = *open().map(|(_, used)| used).min()?;
        let equals: Vec<Fault> =
            open().filter(|(_, used)| **used == least).map(|(fault, _)| *fault).collect();
        let fault = *self.rng.choice(&equals)?;
        *self.used.entry(fault).or_default() += STRIKE;
        Some(fault)
    }

    fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault.name()).or_default() += 1;
    }

    /// The most faults that any of the records has met.
    fn met_by(&self, shard: usize, records: &[Entry]) -> u8 {
        let met = |record: &Entry| self.met.get(&(shard, record.sequence_number.clone())).copied();
        records.iter().filter_map(met).max().unwrap_or(0)
    }

    fn count_on(&mut self, shard: usize, records: &[Entry], armed: u8) {
        if armed == 0 {
            return;
        }
        for number in numbers(records) {
            *self.met.entry((shard, number.clone())).or_default() += armed;
        }
    }
}

/// The sequence numbers of a batch, each once: de-aggregated neighbours are one unit.
fn numbers(records: &[Entry]) -> impl Iterator<Item = &SequenceNumber<'static>> {
    let mut last = None;
    records.iter().map(|record| &record.sequence_number).filter(move |number| {
        let is_new = last != Some(*number);
        last = Some(*number);
        is_new
    })
}

/// How likely a fault is, by the size of the batch: 12 % for one record, 72 % for ten, 96 %
/// from 16 on. Few large batches then meet as many kinds as many small ones.
fn percent(records: usize) -> u32 {
    if records <= 1 {
        return 12;
    }
    let root = u32::try_from(records.isqrt()).unwrap_or(u32::MAX);
    root.saturating_mul(24).min(96)
}
