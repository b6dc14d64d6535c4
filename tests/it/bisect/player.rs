//! A bulk processor that does what each record tells it to, with its clock and its tables.

use crate::support::{FOREVER, block_on, call, embedded};
use changefold::{
    batch::{Order, Work, bisect::Bulk},
    call::{Call, Halt, Measures},
    clock::Clock,
    event as delivered,
    operation::{Listing, Operation, Selection},
    outcome::{Outcome, Reply},
    processor::{BatchFailure, BatchItem, BatchProcessor, Failure},
    record::Timestamp,
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
        progress::Progress,
    },
};
use futures_util::future::{BoxFuture, FutureExt};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// What one record does: `fate` is `ok`, `park`, `error`, `panic`, `halt`, `hang`, `down`,
/// `unreadable`, or `flaky3`, which fails three times for a passing reason.
#[derive(Debug, Clone)]
pub(super) struct Scripted {
    pub(super) key: char,
    /// Shares its sequence number with the record before it.
    pub(super) aggregated: bool,
    pub(super) fate: String,
}

#[derive(serde::Deserialize)]
pub(super) struct Script<'a> {
    id: usize,
    key: char,
    fate: &'a str,
}

/// What a failing call leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing: all or nothing.
    Transactional,
    /// What could be done, and it says so.
    Reporting,
    /// The first so many of what could be done, and it says so.
    Partial(usize),
    /// What could be done, without a word: against the rules.
    Silent,
}

/// Does as told and writes it down. Records go by their place in the stream, from 1.
pub(super) struct Player {
    style: Style,
    limit: NonZeroUsize,
    /// What calls take, in milliseconds.
    clock: Arc<Manual>,
    takes: i64,
    pub(super) healed: Cell<bool>,
    pub(super) calls: RefCell<Vec<Vec<usize>>>,
    pub(super) attempts: RefCell<Vec<u32>>,
    pub(super) effects: RefCell<Vec<(usize, char)>>,
    flaked: RefCell<BTreeMap<usize, u32>>,
}

impl Player {
    fn failure(&self, script: &Script<'_>) -> Option<Failure> {
        if self.healed.get() {
            return None;
        }
        match script.fate {
            "ok" => None,
            "park" => Some(Failure::park("told to")),
            "error" => Some(std::io::Error::other("told to").into()),
            "halt" => Some(Failure::halt("told to")),
            "down" => Some(Failure::retry("told to")),
            "panic" => panic!("told to"),
            flaky => {
                let times: u32 = flaky.strip_prefix("flaky").unwrap().parse().unwrap();
                let mut flaked = self.flaked.borrow_mut();
                let so_far = flaked.entry(script.id).or_default();
                *so_far += 1;
                (*so_far <= times).then(|| Failure::retry("told to"))
            }
        }
    }

    fn done(&self, script: &Script<'_>) {
        self.effects.borrow_mut().push((script.id, script.key));
    }
}

impl BatchProcessor for Player {
    type Item<'a> = Script<'a>;

    fn limit(&self) -> NonZeroUsize {
        self.limit
    }

    async fn process(&self, batch: &[BatchItem<'_, Script<'_>>]) -> Result<(), BatchFailure> {
        let scripts: Vec<&Script<'_>> =
            batch.iter().map(|item| item.change().new_image().unwrap()).collect();
        self.calls.borrow_mut().push(scripts.iter().map(|script| script.id).collect());
        self.attempts.borrow_mut().extend(batch.iter().map(|item| item.context().attempt()));
        self.clock.0.fetch_add(self.takes, Ordering::Relaxed);
        if scripts.iter().any(|script| script.fate == "hang") {
            std::future::pending::<()>().await;
        }
        let (mut stopped, mut finished, mut first) = (BTreeSet::new(), Vec::new(), None);
        for (place, script) in scripts.iter().enumerate() {
            let failure = self.failure(script);
            if stopped.contains(&script.key) {
                continue;
            }
            match failure {
                None => finished.push(place),
                Some(failure) => {
                    stopped.insert(script.key);
                    first.get_or_insert(failure);
                }
            }
        }
        let most = if let Style::Partial(most) = self.style { most } else { usize::MAX };
        finished.truncate(if first.is_some() { most } else { usize::MAX });
        if first.is_none() || self.style != Style::Transactional {
            for place in &finished {
                self.done(scripts[*place]);
            }
        }
        match (first, self.style) {
            (None, _) => Ok(()),
            (Some(failure), Style::Reporting | Style::Partial(_)) => Err(failure.after(finished)),
            (Some(failure), Style::Transactional | Style::Silent) => Err(failure.into()),
        }
    }
}

/// A clock that sleeping and the processor move.
#[derive(Debug, Default)]
pub(super) struct Manual(AtomicI64);

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
        std::future::ready(()).boxed()
    }

    /// Whoever waits without making time pass waits until then.
    fn watch(&self, Timestamp(moment): Timestamp) -> BoxFuture<'static, ()> {
        if moment == FOREVER.0 {
            return std::future::pending().boxed();
        }
        std::future::ready(()).boxed()
    }
}

/// Reads `a a+:park b:flaky2` (key, `+` if aggregated with the one before, fate).
pub(super) fn scripted(batch: &str) -> Vec<Scripted> {
    let record = |word: &str| {
        let (name, fate) = word.split_once(':').unwrap_or((word, "ok"));
        let key = name.chars().next().unwrap();
        Scripted { key, aggregated: name.ends_with('+'), fate: fate.to_owned() }
    };
    batch.split_whitespace().map(record).collect()
}

/// Sequence numbers: neighbours that are aggregated share one.
pub(super) fn numbers(records: &[Scripted]) -> Vec<usize> {
    let mut number = 0;
    let next = |record: &Scripted| {
        number += usize::from(!record.aggregated || number == 0);
        number
    };
    records.iter().map(next).collect()
}

/// The Kinesis event of the records from this sequence number on.
pub(super) fn event(records: &[Scripted], from: usize) -> String {
    let elements = records.iter().zip(numbers(records)).enumerate();
    let elements = elements.filter(|(_, (_, number))| *number >= from);
    let elements = elements.map(|(at, (Scripted { key, fate, .. }, number))| {
        let data = match fate.as_str() {
            "unreadable" => "not JSON planted-7f3a".to_owned(),
            fate => format!(r#"{{"id":{},"key":"{key}","fate":"{fate}","note":"planted-7f3a"}}"#, at + 1),
        };
        let data = base64_simd::STANDARD.encode_to_string(data);
        format!(
            r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"{key}","sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":1545084650.987}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000006:{number}","eventName":"aws:kinesis:record","awsRegion":"us-east-2","eventSourceARN":"arn:aws:kinesis:us-east-2:123456789012:stream/clicks"}}"#
        )
    });
    format!(r#"{{"Records":[{}]}}"#, elements.collect::<Vec<_>>().join(","))
}

/// What is kept of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keep {
    pub(super) park: Option<OnPark>,
    pub(super) progress: bool,
}

pub(super) const NOTHING: Keep = Keep { park: None, progress: false };
pub(super) const PARK: Keep = Keep { park: Some(OnPark::Hold), progress: false };
pub(super) const SKIP: Keep = Keep { park: Some(OnPark::Skip), progress: false };
pub(super) const PROGRESS: Keep = Keep { park: None, progress: true };

/// A bulk processor with its tables.
pub(super) struct Bench {
    pub(super) bulk: Bulk<Player>,
    clock: Arc<Manual>,
}

/// How one invocation ended.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) reply: Result<String, Halt>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) measures: Measures,
}

impl Bench {
    pub(super) fn new(keep: Keep, style: Style, limit: usize) -> Self {
        Self::taking(0, keep, style, limit)
    }

    pub(super) fn taking(takes: i64, keep: Keep, style: Style, limit: usize) -> Self {
        let clock = Arc::new(Manual::default());
        let mut durable = DurableState::none().with_max_attempts(NonZeroU32::new(3).unwrap());
        let store = (keep != NOTHING).then(|| embedded(1));
        if let Some((store, policy)) = store.as_ref().zip(keep.park) {
            durable = durable.with_park(Park::new(store.clone(), "parked".to_owned(), policy, 24));
        }
        if let Some(store) = store.filter(|_| keep.progress) {
            durable = durable.with_progress(Progress::new(store, "progress".to_owned(), 24));
        }
        block_on(durable.ensure_tables(FOREVER)).unwrap();
        let player = Player {
            style,
            limit: NonZeroUsize::new(limit).unwrap(),
            clock: Arc::clone(&clock),
            takes,
            healed: Cell::default(),
            calls: RefCell::default(),
            attempts: RefCell::default(),
            effects: RefCell::default(),
            flaked: RefCell::default(),
        };
        let bulk = Bulk::new(player, Arc::clone(&clock) as Arc<dyn Clock>)
            .with_durable_state(durable)
            .with_seed(7);
        Self { bulk, clock }
    }

    pub(super) fn in_order(self, order: Order) -> Self {
        Self { bulk: self.bulk.with_order(order), ..self }
    }

    /// One invocation.
    pub(super) fn play(&self, payload: &str, deadline: Timestamp) -> Played {
        self.clock.0.store(0, Ordering::Relaxed);
        let call = Call { deadline, ..call() };
        let batch = delivered::parse(payload.as_bytes());
        let records = batch.records().unwrap();
        let mut outcomes = vec![Outcome::default(); records.len()];
        let mut measures = Measures::default();
        let worked =
            block_on(Box::pin(self.bulk.work(records, &mut outcomes, &mut measures, &call)));
        let reply = || serde_json::to_value(Reply::of(records, &outcomes)).unwrap();
        let reply =
            worked.map(|()| match reply()["batchItemFailures"].as_array().unwrap().as_slice() {
                [] => String::new(),
                named => {
                    let named = named.iter().map(|it| it["itemIdentifier"].as_str().unwrap());
                    named.collect::<Vec<_>>().join(" ")
                }
            });
        Played { reply, outcomes, measures }
    }

    pub(super) fn operate(&self, operation: &Operation) -> serde_json::Value {
        block_on(self.bulk.operate(operation, &call())).unwrap()
    }

    /// What is parked: sequence number, code, how many queue behind.
    pub(super) fn parked(&self) -> Vec<(String, String, u64)> {
        let selection = Selection { limit: Some(1_000), ..Selection::default() };
        let listing: Listing =
            serde_json::from_value(self.operate(&Operation::List(selection))).unwrap();
        let parked = listing.parked.into_iter();
        let mut parked: Vec<_> =
            parked.map(|it| (it.sequence_number, it.error_code, it.held_behind)).collect();
        parked.sort();
        parked
    }

    pub(super) fn calls(&self) -> String {
        let calls = self.bulk.processor().calls.borrow();
        let call = |call: &Vec<usize>| call.iter().map(ToString::to_string).collect::<String>();
        calls.iter().map(call).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn effects(&self) -> Vec<usize> {
        self.bulk.processor().effects.borrow().iter().map(|(id, _)| *id).collect()
    }
}
