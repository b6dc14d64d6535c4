//! The row of a run, and the rows that say how far its views are.
//!
//! Both change in one transaction under the run's revision: of two who change it one is first,
//! and the other looks again. A reader of a view's row never finds more than is true.

use super::bucket::Limits;
use crate::{
    operation::backfill::{chain::ChainStatus, export::Export},
    record::Timestamp,
    store::{
        Item, Store, StoreError,
        rows::{Change, number, number_of, text, text_of},
    },
    view::{
        building::{self, RunState, STATE, ViewState},
        served::Generation,
        source_item::LEDGER_KEY,
    },
};
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, TransactWriteItem};
use serde::Serialize;
use std::collections::BTreeSet;

/// A run over one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The source, by the ARN that its items are filed under.
    pub(super) source: String,
    pub(super) id: String,
    pub(super) revision: u64,
    pub(super) state: RunState,
    pub(super) segments: u32,
    pub(super) limits: Limits,
    /// The table's own id: a table that was made anew is another one.
    pub(super) table_id: Option<String>,
    pub(super) items_expected: u64,
    pub(super) bytes_expected: u64,
    pub(super) began_ms: i64,
    /// Nothing is read before, by the store's clock.
    pub(super) from_ms: Option<i64>,
    pub(super) scan_end_ms: Option<i64>,
    /// The chain that works on it, if one was started.
    pub(super) chain: Option<ChainStatus>,
    /// The generations of the source's views that it builds.
    pub(super) generations: BTreeSet<u32>,
    /// What it reads instead of the table, if anything.
    pub(super) export: Option<Export>,
    /// A moment at which it was there, by the store's clock; only a run that reads an export is
    /// dated.
    pub(super) dated_ms: Option<i64>,
}

/// A view of a run, whose state is written with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Built<'v> {
    pub(super) view: &'v str,
    pub(super) generation: Generation,
    pub(super) table: &'v str,
    /// How far it is, by all the tables that it reads.
    pub(super) state: ViewState,
}

/// The run of another table that the state of a view follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OtherRun {
    pub(super) source: String,
    /// The revision at which it was read; none if there is none.
    pub(super) revision: Option<u64>,
}

impl OtherRun {
    /// The part of a transaction that holds only while that run is as it was read.
    fn is_as_read(&self, table: &str) -> TransactWriteItem {
        let check = ConditionCheck::builder()
            .table_name(table)
            .key(LEDGER_KEY, text(building::run_key(&self.source)));
        let check = match self.revision {
            None => check.condition_expression("attribute_not_exists(pk)"),
            Some(revision) => check
                .condition_expression("rev = :rev")
                .expression_attribute_values(":rev", number(revision)),
        };
        let check = check.build().expect("table, key and condition are set");
        TransactWriteItem::builder().condition_check(check).build()
    }
}

/// What there is of a table when a run begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'t> {
    pub(super) table_id: Option<&'t str>,
    pub(super) items: u64,
    pub(super) bytes: u64,
}

impl Run {
    /// A run that begins now. It takes the place of the one that is there, if any.
    pub(super) fn begun(
        (source, id): (&str, String),
        former: Option<&Self>,
        (segments, limits, generations): (u32, Limits, BTreeSet<u32>),
        expected: Expected<'_>,
        Timestamp(now): Timestamp,
    ) -> Self {
        Self {
            source: source.to_owned(),
            id,
            revision: former.map_or(0, |former| former.revision),
            state: RunState::Scanning,
            segments,
            limits,
            table_id: expected.table_id.map(str::to_owned),
            items_expected: expected.items,
            bytes_expected: expected.bytes,
            began_ms: now,
            from_ms: None,
            scan_end_ms: None,
            generations,
            chain: None,
            export: None,
            dated_ms: None,
        }
    }

    /// Reads the run over a source; none if there is none.
    ///
    /// # Errors
    /// The store does not answer. A row that cannot be read is none.
    pub(super) async fn find(
        store: &Store,
        table: &str,
        source: &str,
        deadline: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let row = store.get(table, LEDGER_KEY, &building::run_key(source), deadline).await?;
        Ok(row.and_then(|row| Self::read(source, &row)))
    }

    fn read(source: &str, row: &Item) -> Option<Self> {
        let limits = Limits {
            read_per_s: number_of(row, "read_units_per_s")?,
            write_per_s: number_of(row, "write_units_per_s")?,
            units_max: number_of(row, "units_max"),
        };
        Some(Self {
            source: source.to_owned(),
            id: text_of(row, "run")?.to_owned(),
            revision: number_of(row, "rev")?,
            state: RunState::read(text_of(row, STATE)?)?,
            segments: number_of(row, "segments")?,
            limits,
            table_id: text_of(row, "table_id").map(str::to_owned),
            items_expected: number_of(row, "items_expected")?,
            bytes_expected: number_of(row, "bytes_expected")?,
            began_ms: number_of(row, "began_ms")?,
            from_ms: number_of(row, "from_ms"),
            scan_end_ms: number_of(row, "scan_end_ms"),
            chain: text_of(row, "chain").and_then(|json| serde_json::from_str(json).ok()),
            export: match text_of(row, "export") {
                None => None,
                Some(json) => Some(serde_json::from_str(json).ok()?),
            },
            dated_ms: number_of(row, "dated_ms"),
            generations: match text_of(row, "generations") {
                None => [1].into(),
                Some(text) => text.split(',').map(|it| it.parse().ok()).collect::<Option<_>>()?,
            },
        })
    }

    /// Writes the run at the revision that was read, and with it how far its views are.
    ///
    /// # Errors
    /// [`Trouble::Guard`](crate::store::Trouble::Guard) or
    /// [`Trouble::Unknown`](crate::store::Trouble::Unknown): look again. Else the store refuses,
    /// or stays unavailable.
    pub(super) async fn write(
        &self,
        (store, table): (&Store, &str),
        (views, others): (&[Built<'_>], &[OtherRun]),
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let mut row = Item::from([
            (LEDGER_KEY.to_owned(), text(building::run_key(&self.source))),
            ("run".to_owned(), text(&self.id)),
            ("rev".to_owned(), number(self.revision + 1)),
            (STATE.to_owned(), text(self.state.as_str())),
            ("segments".to_owned(), number(self.segments)),
            ("read_units_per_s".to_owned(), number(self.limits.read_per_s)),
            ("write_units_per_s".to_owned(), number(self.limits.write_per_s)),
            ("items_expected".to_owned(), number(self.items_expected)),
            ("bytes_expected".to_owned(), number(self.bytes_expected)),
            ("began_ms".to_owned(), number(self.began_ms)),
        ]);
        let generations: Vec<String> = self.generations.iter().map(u32::to_string).collect();
        let generations = generations.join(",");
        let optional = [
            ("units_max", self.limits.units_max.map(number)),
            ("scan_end_ms", self.scan_end_ms.map(number)),
            ("from_ms", self.from_ms.map(number)),
            ("generations", (self.generations != [1].into()).then(|| text(generations))),
            ("table_id", self.table_id.as_deref().map(text)),
            ("chain", self.chain.as_ref().map(json)),
            ("export", self.export.as_ref().map(json)),
            ("dated_ms", self.dated_ms.map(number)),
        ];
        row.extend(optional.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?))));
        let run = Change::put(table, row)
            .only_if("attribute_not_exists(pk) OR rev = :rev")
            .value(":rev", number(self.revision));
        let Timestamp(now) = store.clock().now();
        let states = views.iter().flat_map(|built| {
            let Built { view, generation: Generation { number: of, is_current, .. }, .. } = *built;
            let row = |key: String| {
                Item::from([
                    (LEDGER_KEY.to_owned(), text(key)),
                    ("view".to_owned(), text(view)),
                    ("generation".to_owned(), number(of)),
                    ("table".to_owned(), text(built.table)),
                    (STATE.to_owned(), text(built.state.as_str())),
                    ("source".to_owned(), text(&self.source)),
                    ("run".to_owned(), text(&self.id)),
                    ("since_ms".to_owned(), number(now)),
                ])
            };
            // What readers are given may be another generation by now.
            let current = is_current.then(|| {
                Change::put(table, row(building::state_key(view)))
                    .only_if("attribute_not_exists(#g) OR #g = :g")
                    .name("#g", "generation")
                    .value(":g", number(of))
            });
            let own = (of > 1 || !is_current)
                .then(|| Change::put(table, row(building::generation_key(view, of))));
            current.into_iter().chain(own)
        });
        let changes = [run].into_iter().chain(states).map(Change::into_action);
        let checks = others.iter().map(|other| other.is_as_read(table));
        store.transact(changes.chain(checks).collect(), deadline).await
    }
}

fn json(told: &impl Serialize) -> AttributeValue {
    text(serde_json::to_string(told).expect("texts and numbers are JSON"))
}
