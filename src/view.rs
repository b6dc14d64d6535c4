//! Materialized views, kept exactly once in DynamoDB.
//!
//! A view is state, not effects: what the newest change of an item contributes replaces what
//! the one before contributed. So a batch is coalesced to the newest change per item, each is
//! evaluated for every view of its source, and the differences go through the
//! ledger in guarded transactions. Order within a batch, duplicates and every way
//! AWS can cut a batch again make no difference. What it gives up: a view lags by the batch
//! in progress, and items changed before the mapping began are not in it until they change.

mod canonical;
pub mod definition;
pub mod evaluate;
mod image;
mod ledger;
pub mod load;
pub mod number;
pub mod quarantine;
pub mod registry;
pub mod rows;
pub mod scalar;
mod source_item;
pub mod sql;
pub mod total;

pub use ledger::{LEDGER_KEY, LEDGER_TTL};

use crate::{
    batch::{Call, Halt, Measures, Work},
    event::{DecodeError, Record, Value},
    outcome::Outcome,
    record::{Change, Source, Timestamp},
    store::{Store, StoreError},
    telemetry,
};
use definition::{Path, View};
use evaluate::{Contribution, Poison, evaluate, path_value};
use ledger::{Candidate, Fate, Ledger};
use quarantine::Quarantine;
use registry::RegistryError;
use rows::Stored;
use scalar::{Scalar, encode_key};
use source_item::{SourceItem, version};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Views of one source: each item touches up to two rows of each, and one transaction holds
/// 99 rows beside the guard.
const VIEWS_PER_SOURCE_MAX: usize = 49;
/// An update expression may have 4 KB, a column takes up to 32 bytes of it.
const COLUMNS_MAX: usize = 100;
/// Room in a ledger row of at most 400 KB for the record of a quarantined item. A larger change
/// of a table is not kept, the table has the item; a larger stream record is not acknowledged.
const RECORD_BYTES_MAX: usize = 300_000;
/// How long a ledger row outlives the stream's retention: late duplicates end with it.
const LEDGER_SLACK_S: i64 = 86_400;

/// The views a function keeps, on their tables.
#[derive(Debug)]
pub struct Views {
    store: Store,
    ledger_table: String,
    definitions: Vec<View>,
    view_tables: Vec<String>,
    groups: Vec<Group>,
}

/// Views that share the ledger rows of one source: same stream, same item key.
#[derive(Debug)]
struct Group {
    name: String,
    stream: String,
    key: Option<Path>,
    views: Vec<usize>,
    /// The attributes its views look at.
    attributes: Arc<[String]>,
}

/// One delivered change of an item, for one group.
#[derive(Debug)]
struct Delivered {
    version: String,
    /// The record's place in the batch.
    index: usize,
    group: usize,
    item: SourceItem,
    /// Why no view can take the record: its key cannot be read.
    unkeyed: Option<Poison>,
}

/// The views cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Two views have one name.
    #[error("view {0} is defined twice; rename one of them")]
    Twice(String),
    /// A source feeds more views than one transaction can keep together.
    #[error("{0} feeds more than {VIEWS_PER_SOURCE_MAX} views; split them over two functions")]
    TooMany(String),
    /// One row's update would not fit the store's expression.
    #[error("view {0} has more than {COLUMNS_MAX} columns; split it into two views")]
    TooWide(String),
    /// The state was made by other views.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store refuses or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// A stable code, reported to Lambda as the error type.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Twice(_) | Self::TooMany(_) | Self::TooWide(_) => "ViewsInvalid",
            Self::Registry(RegistryError::Store(_)) | Self::Store(_) => "StoreUnavailable",
            Self::Registry(_) => "StateOfOtherViews",
        }
    }
}

impl Views {
    /// Serves views on the tables that belong to them, after checking that the state there
    /// was made by the same definitions.
    ///
    /// # Errors
    /// Names clash, the state was made by other definitions, or the store does not answer.
    pub async fn open(
        views: Vec<View>,
        store: Store,
        ledger_table: &str,
        view_table_prefix: &str,
        deadline: Timestamp,
    ) -> Result<Self, OpenError> {
        let mut groups: Vec<Group> = Vec::new();
        for (index, view) in views.iter().enumerate() {
            if views[..index].iter().any(|other| other.name == view.name) {
                return Err(OpenError::Twice(view.name.clone()));
            }
            if view.columns().len() > COLUMNS_MAX {
                return Err(OpenError::TooWide(view.name.clone()));
            }
            let name = group_name(view);
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.views.push(index),
                None => groups.push(Group {
                    name,
                    stream: view.from.clone(),
                    key: view.key.clone(),
                    views: vec![index],
                    attributes: Arc::default(),
                }),
            }
        }
        for group in &mut groups {
            let names: BTreeSet<&str> =
                group.views.iter().flat_map(|&view| views[view].attributes()).collect();
            group.attributes = names.into_iter().map(str::to_owned).collect();
        }
        if let Some(group) = groups.iter().find(|group| group.views.len() > VIEWS_PER_SOURCE_MAX) {
            return Err(OpenError::TooMany(group.stream.clone()));
        }
        let registered: Vec<_> = views.iter().map(|view| (view, group_name(view))).collect();
        let dropped = registry::check(&store, ledger_table, &registered, deadline).await?;
        for view in dropped {
            tracing::warn!(view, "ViewDropped: its rows no longer follow the source");
        }
        let view_tables = views.iter().map(|view| view_table(view_table_prefix, view)).collect();
        let ledger_table = ledger_table.to_owned();
        Ok(Self { store, ledger_table, definitions: views, view_tables, groups })
    }

    /// Makes the tables of these views where they are missing. For the desk and for tests; a
    /// deployed function's tables come from its template.
    ///
    /// # Errors
    /// The store refuses or cannot be reached.
    pub async fn ensure_tables(
        views: &[View],
        store: &Store,
        ledger_table: &str,
        view_table_prefix: &str,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        store.ensure_table(ledger_table, &[LEDGER_KEY], Some(LEDGER_TTL), deadline).await?;
        for view in views {
            let table = view_table(view_table_prefix, view);
            store.ensure_table(&table, &[rows::ROW_KEY], None, deadline).await?;
        }
        Ok(())
    }

    /// The views served.
    #[must_use]
    pub fn definitions(&self) -> &[View] {
        &self.definitions
    }

    /// The store they are kept in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The first rows of a view in the order of its key columns, and how many there are.
    ///
    /// # Errors
    /// The store does not answer, or a row is not as changefold writes it.
    pub async fn rows(&self, view: usize, limit: usize) -> Result<rows::Listing, StoreError> {
        rows::list(&self.store, &self.definitions[view], &self.view_tables[view], limit).await
    }

    /// The first items that some view leaves out, and how many there are.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn quarantined(&self, limit: usize) -> Result<quarantine::Quarantined, StoreError> {
        let names: Vec<&str> = self.definitions.iter().map(|view| view.name.as_str()).collect();
        quarantine::list(&self.store, &self.ledger_table, &names, limit).await
    }

    /// Which item of one group a record is about.
    fn delivered(
        &self,
        group: usize,
        record: &Record<'_>,
        index: usize,
    ) -> Result<Delivered, Unreadable> {
        let Group { key, attributes, .. } = &self.groups[group];
        let (item, unkeyed) = match (key, record.source()) {
            (None, Source::Kinesis) => (SourceItem::of_append(record), None),
            (None, _) => (SourceItem::of_change(record)?, None),
            (Some(path), Source::Kinesis) => match image::read(record, attributes)?.new_image() {
                Some(item) => changelog_item(path, item, record),
                None => return Err(Unreadable::NoNewImage),
            },
            (Some(_), _) => return Err(Unreadable::KeyOfTable),
        };
        Ok(Delivered { version: version(record), index, group, item, unkeyed })
    }

    /// What a change asks of its group's views.
    fn candidate(
        &self,
        delivered: &Delivered,
        record: &Record<'_>,
        now: Timestamp,
    ) -> Result<Candidate, Unreadable> {
        let group = &self.groups[delivered.group];
        let change = image::read(record, &group.attributes)?;
        let removed = matches!(change, Change::Remove { .. });
        let item = match change {
            Change::Insert { new: Some(new) } | Change::Modify { new: Some(new), .. } => Some(new),
            Change::Remove { .. } => None,
            Change::Insert { .. } | Change::Modify { .. } => return Err(Unreadable::NoNewImage),
        };
        let appended = record.source() == Source::Kinesis && group.key.is_none();
        let unkeyed = &delivered.unkeyed;
        let mut candidate = Candidate {
            pk: delivered.item.ledger_key(&group.name),
            key: delivered.item.readable.clone(),
            version: delivered.version.clone(),
            contributions: BTreeMap::new(),
            projected: BTreeMap::new(),
            row_key: delivered.item.row_key.clone(),
            quarantine: BTreeMap::new(),
            record: None,
            expires_s: None,
        };
        for &view in &group.views {
            let evaluated = match (unkeyed, &item) {
                (_, None) => continue,
                (Some(poison), _) => Err(poison.clone()),
                (None, Some(item)) => evaluate(&self.definitions[view], item),
            };
            self.contribute(view, evaluated, record, &mut candidate);
        }
        if !candidate.quarantine.is_empty() {
            if record.raw().len() <= RECORD_BYTES_MAX {
                candidate.record = Some(record.raw().to_owned());
            } else if record.source() == Source::Kinesis {
                return Err(Unreadable::TooLargeToKeep);
            }
        } else if removed || appended {
            let arrival = record.approximate_arrival().unwrap_or(now).max(now);
            let retention_hours =
                group.views.iter().map(|&view| self.definitions[view].retention_hours).max();
            let retention_s = i64::from(retention_hours.unwrap_or(24)) * 3_600;
            candidate.expires_s = Some(arrival.0 / 1_000 + retention_s + LEDGER_SLACK_S);
        }
        Ok(candidate)
    }

    fn contribute(
        &self,
        view: usize,
        evaluated: Result<Contribution, Poison>,
        record: &Record<'_>,
        candidate: &mut Candidate,
    ) {
        match evaluated {
            Ok(Contribution::Nothing) => {}
            Ok(Contribution::Row(values)) => {
                let row = rows::projected(&self.definitions[view], &candidate.row_key, &values);
                candidate.projected.insert(view, row);
                candidate.contributions.insert(view, Stored::Row);
            }
            Ok(Contribution::Group { key, addends }) => {
                let key = encode_key(&key);
                candidate.contributions.insert(view, Stored::Group { key, addends });
            }
            Err(poison) => {
                let sequence_number = record.sequence_number().to_string();
                candidate.quarantine.insert(view, Quarantine { poison, sequence_number });
            }
        }
    }

    /// The groups that read the stream a record comes from.
    fn groups_of(&self, record: &Record<'_>) -> Result<Vec<usize>, Halt> {
        let Some(stream) = record.stream_name() else {
            return Err(Halt::new(
                "SourceUnknown",
                format!(
                    "record {}: the event has no eventSourceARN, so no view's FROM can match it",
                    record.sequence_number()
                ),
            ));
        };
        let groups: Vec<usize> =
            (0..self.groups.len()).filter(|&index| self.groups[index].stream == stream).collect();
        if groups.is_empty() {
            return Err(Halt::new(
                "NoViewForSource",
                format!(
                    "no view reads FROM {stream}; remove this event source or add a view of it"
                ),
            ));
        }
        Ok(groups)
    }
}

/// The item a changelog's key attribute names. Where the key cannot be read, the record's own
/// place stands for it, and no view of the group can take the record.
fn changelog_item(
    path: &Path,
    item: &Value<'_>,
    record: &Record<'_>,
) -> (SourceItem, Option<Poison>) {
    match path_value(path, item) {
        Ok(Scalar::Null) => {
            let poison = Poison {
                attribute: path.to_string(),
                expected: "a key".to_owned(),
                found: "NULL".to_owned(),
            };
            (SourceItem::of_append(record), Some(poison))
        }
        Ok(key) => (SourceItem::of_changelog(path, key), None),
        Err(poison) => (SourceItem::of_append(record), Some(poison)),
    }
}

/// Why a record cannot become a candidate.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Record(#[from] DecodeError),
    #[error(
        "a view cannot evaluate it, and with more than {RECORD_BYTES_MAX} bytes it is too \
         large to keep"
    )]
    TooLargeToKeep,
    #[error(
        "the stream carries no new image; set its StreamViewType to NEW_AND_OLD_IMAGES or NEW_IMAGE"
    )]
    NoNewImage,
    #[error("WITH (key = …) is for Kinesis streams, items of a table have their own key")]
    KeyOfTable,
}

impl Unreadable {
    fn code(&self) -> &'static str {
        match self {
            Self::Record(error) => error.code(),
            Self::TooLargeToKeep => "RecordTooLargeToKeep",
            Self::NoNewImage | Self::KeyOfTable => "SourceUnfit",
        }
    }
}

impl Work for Views {
    async fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        call: &Call,
    ) -> Result<(), Halt> {
        if records.iter().any(|record| record.source().is_queue()) {
            return Err(queue_refused());
        }
        let calls_before = self.store.usage().calls;
        let now = self.store.clock().now();
        let mut items: BTreeMap<String, Vec<Delivered>> = BTreeMap::new();
        let mut asked: Vec<Vec<String>> = vec![Vec::new(); records.len()];
        let mut failed = |record: &Record<'_>, index: usize, error: Unreadable| match error {
            Unreadable::Record(_) | Unreadable::TooLargeToKeep => {
                telemetry::record_failed(record, call, error.code(), &error);
                outcomes[index] = Outcome::Failed;
                Ok(())
            }
            Unreadable::NoNewImage | Unreadable::KeyOfTable => Err(halt(record, &error)),
        };
        for (index, record) in records.iter().enumerate() {
            for group in self.groups_of(record)? {
                match self.delivered(group, record, index) {
                    Ok(delivered) => {
                        let pk = delivered.item.ledger_key(&self.groups[group].name);
                        asked[index].push(pk.clone());
                        items.entry(pk).or_default().push(delivered);
                    }
                    Err(error) => failed(record, index, error)?,
                }
            }
        }
        let mut candidates = Vec::with_capacity(items.len());
        for mut changes in items.into_values() {
            // What an item was before its newest change in the batch is never evaluated.
            changes.sort_by(|a, b| Reverse(&a.version).cmp(&Reverse(&b.version)));
            for delivered in changes {
                let record = &records[delivered.index];
                match self.candidate(&delivered, record, now) {
                    Ok(candidate) => {
                        candidates.push(candidate);
                        break;
                    }
                    Err(error) => failed(record, delivered.index, error)?,
                }
            }
        }
        let ledger = Ledger {
            store: &self.store,
            table: &self.ledger_table,
            views: &self.definitions,
            view_tables: &self.view_tables,
        };
        let applied = ledger.apply(&candidates, call.deadline).await;
        measures.store_calls = self.store.usage().calls - calls_before;
        let fates = applied.map_err(rejected)?;
        let fates: BTreeMap<&str, &Fate> =
            candidates.iter().map(|candidate| candidate.pk.as_str()).zip(&fates).collect();
        for (outcome, asked) in outcomes.iter_mut().zip(&asked) {
            if *outcome != Outcome::Failed {
                *outcome = joined(asked.iter().filter_map(|pk| fates.get(pk.as_str()).copied()));
            }
        }
        Ok(())
    }
}

/// A record is finished when its item's newest change is, in every group that reads it.
fn joined<'f>(fates: impl Iterator<Item = &'f Fate>) -> Outcome {
    let mut joined = None;
    for fate in fates {
        let outcome = match fate {
            Fate::Applied => Outcome::Applied,
            Fate::AlreadyApplied => Outcome::AlreadyApplied,
            Fate::Unfinished(error) => {
                telemetry::store_unfinished(error);
                return Outcome::Failed;
            }
        };
        if joined != Some(Outcome::Applied) {
            joined = Some(outcome);
        }
    }
    joined.unwrap_or_default()
}

fn halt(record: &Record<'_>, error: &Unreadable) -> Halt {
    Halt::new(error.code(), format!("record {}: {error}", record.sequence_number()))
}

fn queue_refused() -> Halt {
    Halt::new(
        "SourceUnfit",
        "views cannot be kept from a queue: its messages have no version, so a late duplicate \
         could not be told from news; remove this event source and give the views the stream \
         itself",
    )
}

fn rejected(error: StoreError) -> Halt {
    Halt::new("StoreRejected", error.to_string()).caused_by(error)
}

/// Ledger rows are shared by the views that read the same items: same stream, same key.
fn group_name(view: &View) -> String {
    match &view.key {
        None => view.from.clone(),
        Some(path) => format!("{}@{path}", view.from),
    }
}

fn view_table(prefix: &str, view: &View) -> String {
    format!("{prefix}{}", view.name)
}
