//! The function in processes of its own: `examples/crashing.rs`, and what a run of it has come
//! to.

use super::{Backlog, FUNCTION_ARN, RETENTION_HOURS, backlog::effects};
use crate::support::{self, FOREVER};
use changefold::{
    call::Call,
    clock::{Clock, SystemClock},
    local::{
        clock::VirtualClock,
        runtime_api::{Program, RuntimeApi},
        target::Target,
    },
    operation::{self, Operation, Redrive, Redriven, Selection},
    record::Timestamp,
    recovery::{
        durable::DurableState,
        park::{OnPark, Park, envelope::Envelope},
        progress::Progress,
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::PathBuf,
    sync::Arc,
};

/// How long a record takes, in milliseconds, and how many are processed at a time.
const RECORD_MS: &str = "4";
const CONCURRENCY: &str = "4";

/// How long an operation may take, in milliseconds.
const OPERATION_MS: i64 = 60_000;

/// What the program is to keep, and where.
pub(super) struct Kept<'b> {
    pub(super) backlog: &'b Backlog,
    pub(super) store_url: String,
    pub(super) progress: bool,
}

impl Kept<'_> {
    fn effects(&self) -> PathBuf {
        self.backlog.path("effects")
    }

    /// The function, its tables made.
    pub(super) async fn function(&self, clock: Arc<VirtualClock>) -> RuntimeApi {
        let store = support::endpoint(&self.store_url);
        let mut durable = DurableState::none();
        let park = Park::new(store.clone(), "park".to_owned(), OnPark::Hold, RETENTION_HOURS);
        durable = durable.with_park(park);
        if self.progress {
            let progress = Progress::new(store, "progress".to_owned(), RETENTION_HOURS);
            durable = durable.with_progress(progress);
        }
        durable.ensure_tables(FOREVER).await.unwrap();
        RuntimeApi::new(self.program(), clock)
    }

    fn program(&self) -> Program {
        let log = File::options().create(true).append(true).open(self.backlog.path("log"));
        let progress_table = if self.progress { "progress" } else { "" };
        let mut program = Program::new(support::crashing::path(), FUNCTION_ARN)
            .with_output(log.unwrap())
            .with_variable("CRASHING_EFFECTS", self.effects());
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.store_url),
            ("CHANGEFOLD_CONCURRENCY", CONCURRENCY),
            ("CHANGEFOLD_PARK_TABLE", "park"),
            ("CHANGEFOLD_PROGRESS_TABLE", progress_table),
            ("CRASHING_MS", RECORD_MS),
            ("RUST_LOG", "warn"),
        ] {
            program = program.with_variable(name, value);
        }
        program
    }

    /// What there is when all is at rest, by the function's own account.
    pub(super) async fn settled(&self) -> Settled {
        let function = RuntimeApi::new(self.program(), Arc::new(SystemClock));
        let all = Selection { limit: Some(usize::MAX), ..Selection::default() };
        let shown: Shown = operate(&function, Operation::Show(all)).await;
        Settled { effects: effects(&self.effects()), parked: shown.parked }
    }

    /// Redrives all that is parked, with a program in which every record works.
    pub(super) async fn cured(&self) -> Settled {
        let program = self.program().with_variable("CRASHING_CURED", "yes");
        let function = RuntimeApi::new(program, Arc::new(SystemClock));
        let all = Redrive { limit: Some(usize::MAX), ..Redrive::default() };
        let redriven: Redriven = operate(&function, Operation::Redrive(all)).await;
        assert_eq!((redriven.left, redriven.failed.len()), (0, 0), "{redriven:?}");
        self.settled().await
    }
}

#[derive(serde::Deserialize)]
struct Shown {
    parked: Vec<Envelope>,
}

/// An operator's request, through the Runtime API as well.
async fn operate<A: DeserializeOwned>(function: &RuntimeApi, operation: Operation) -> A {
    let deadline = Timestamp(SystemClock.now().0 + OPERATION_MS);
    let call = Call::new("operator", deadline);
    let payload = operation::event(operation).into();
    let answer = function.invoke(payload, call).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// Effects and parked records at rest.
pub(super) struct Settled {
    /// In the order they were made.
    pub(super) effects: Vec<(String, u64)>,
    pub(super) parked: Vec<Envelope>,
}

impl Settled {
    /// By key the parked records, in their order.
    pub(super) fn parked_numbers(&self) -> BTreeMap<&str, Vec<u64>> {
        let mut parked: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for envelope in &self.parked {
            let number = envelope.sequence_number.parse().unwrap();
            parked.entry(&envelope.key).or_default().push(number);
        }
        parked
    }

    /// Effects beyond the first of a record.
    pub(super) fn repeated(&self) -> usize {
        self.effects.len() - self.made().len()
    }

    fn made(&self) -> BTreeSet<u64> {
        self.effects.iter().map(|(_, number)| *number).collect()
    }

    /// Records that have no effect and are not parked either.
    pub(super) fn lost(&self, backlog: &Backlog) -> Vec<u64> {
        let mut there = self.made();
        there.extend(self.parked_numbers().values().flatten());
        let numbers = backlog.records.iter().map(|record| record.number);
        numbers.filter(|number| !there.contains(number)).collect()
    }

    /// The effects of each key were made in order, repeated ones aside.
    pub(super) fn check_order(&self) {
        let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (key, number) in self.effects.iter().filter(|(_, number)| seen.insert(*number)) {
            let before = latest.insert(key, *number).unwrap_or(0);
            assert!(before < *number, "{key}: {number} came after {before}");
        }
    }
}
