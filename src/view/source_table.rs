//! The table that views are computed from, read itself instead of its stream.
//!
//! An item that was read goes the way of a record: it is written as the record that its stream
//! would deliver, and read, filed and evaluated by the code that does so for those. So what a
//! view takes from a scan is what it would take from the stream, to the last digit. The table
//! may be another account's or Region's; it has a store of its own
//! ([`Views::with_source_store`](super::Views::with_source_store)).
//!
//! What it gives up: an item is written as text and read again, which costs a fraction of what
//! reading it from the table costs.

use super::{
    NO_VIEW_FOR_SOURCE,
    candidate::Unreadable,
    ledger::{Basis, Candidate},
    registry::RegistryError,
    served::{Group, Served},
    sources::{self, Filing},
};
use crate::{
    call::Halt,
    event,
    operation::backfill::NotDone,
    record::Timestamp,
    store::{
        Item, Store, StoreError, Trouble,
        json::item_to_json,
        tables::{Described, TableStream},
    },
    telemetry::Chain,
};
use serde_json::{Value, json};

/// A table that views are computed from.
#[derive(Debug, Clone)]
pub(crate) struct SourceTable<'v> {
    pub(crate) store: &'v Store,
    /// How the store is asked for it.
    pub(crate) table: String,
    /// Whose items they are: the ARN that they are filed under.
    pub(crate) arn: String,
    pub(crate) described: Described,
    filing: Filing,
    /// For which group of views it is read.
    pub(crate) group: usize,
    /// What tells this group's ledger rows from those of others.
    kind: String,
}

/// An item as it was found, and its key.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) key: Item,
    /// None if there is no such item.
    pub(crate) item: Option<Item>,
    pub(crate) basis: Basis,
}

impl SourceTable<'_> {
    /// The key of an item.
    ///
    /// # Errors
    /// A key attribute is missing, which no item of the table can be without.
    pub(crate) fn key_of(&self, item: &Item) -> Result<Item, Halt> {
        let keys = self.described.keys.iter();
        let key = keys.map(|name| Some((name.clone(), item.get(name)?.clone())));
        key.collect::<Option<Item>>().ok_or_else(|| {
            let names = self.described.keys.join(", ");
            Halt::new("KeyInvalid", format!("the key of {} is {names}, no less", self.name()))
        })
    }

    /// The name that views call it by.
    pub(crate) fn name(&self) -> &str {
        name_of(&self.arn)
    }

    /// Whether it is the first source of its name that the ledger has had.
    pub(crate) fn is_first(&self) -> bool {
        self.filing.qualifier.is_none()
    }

    /// Whether a ledger row is of an item of it, in its group.
    pub(crate) fn files(&self, ledger_key: &str) -> bool {
        self.filing.files(ledger_key, &self.kind)
    }

    /// Says that the table cannot be read, and what helps.
    pub(crate) fn unreadable(&self, error: StoreError) -> Halt {
        unreadable(self.name(), error)
    }
}

impl Served {
    /// Finds a source of these views by its name or ARN.
    ///
    /// # Errors
    /// No view reads it, there is no such table, the name means several, or a store does not
    /// answer.
    pub(crate) async fn source_table(
        &self,
        which: &str,
        deadline: Timestamp,
    ) -> Result<SourceTable<'_>, Halt> {
        let name = name_of(which);
        let group = self.groups_of_table(name).next().ok_or_else(|| {
            let message =
                format!("no view reads FROM {name} as a table; name one that a view reads");
            Halt::new(NO_VIEW_FOR_SOURCE, message)
        })?;
        let store = self.source_store();
        // A server of one's own knows its tables by name, and makes up their ARNs.
        let is_arn = which.starts_with("arn:");
        let table = if store.has_url() { name } else { which }.to_owned();
        let described = store.describe(&table, deadline).await;
        let described = described.map_err(|error| unreadable(name, error))?.ok_or_else(|| {
            Halt::new(
                "SourceTableMissing",
                format!(
                    "there is no table {name} at {}: CHANGEFOLD_SOURCE_REGION and \
                     CHANGEFOLD_SOURCE_ENDPOINT_URL say where the source is",
                    store.place()
                ),
            )
        })?;
        let arn = if is_arn && store.has_url() { which } else { &described.arn }.to_owned();
        let filing = self.filing(&arn, deadline).await.map_err(unfiled)?;
        if filing.qualifier.is_some() && !is_arn {
            let known = self.first_source(&arn).unwrap_or_default();
            return Err(Halt::new(
                "SourceAmbiguous",
                format!(
                    "{name} was {known} until now, and the table that is there is {arn}: say \
                     which one is meant by its ARN"
                ),
            ));
        }
        let kind = self.groups[group].kind.clone();
        Ok(SourceTable { store, table, arn, described, filing, group, kind })
    }

    /// The groups of views that read a table of this name.
    fn groups_of_table(&self, name: &str) -> impl Iterator<Item = usize> {
        let reads = move |group: &Group| group.stream == name && group.key.is_none();
        (0..self.groups.len()).filter(move |&group| reads(&self.groups[group]))
    }

    /// A source as each group of views reads it.
    pub(crate) fn in_each_group<'s>(
        &'s self,
        source: &SourceTable<'s>,
    ) -> impl Iterator<Item = SourceTable<'s>> {
        self.groups_of_table(name_of(&source.arn)).map(|group| SourceTable {
            group,
            kind: self.groups[group].kind.clone(),
            ..source.clone()
        })
    }

    /// Turns what was read of a table into candidates, as records of its stream would be.
    ///
    /// # Errors
    /// The text of the records cannot be read, which is a fault of this program.
    pub(crate) fn candidates(
        &self,
        source: &SourceTable<'_>,
        found: &[Found],
        now: Timestamp,
    ) -> Result<Vec<Result<Candidate, NotDone>>, Halt> {
        let records: Option<Vec<Value>> =
            found.iter().map(|found| record(&source.arn, found)).collect();
        let unknown = || {
            let message = "an item has a type of attribute that this version does not know";
            Halt::new("SourceUnfit", format!("table {}: {message}", source.name()))
        };
        let event = json!({ "Records": records.ok_or_else(unknown)? }).to_string();
        let batch = event::parse(event.as_bytes());
        let records = batch.records().map_err(|error| {
            Halt::new("SourceUnfit", format!("table {}: its items cannot be read", source.name()))
                .caused_by(error.clone())
        })?;
        let candidates = records.iter().zip(found).enumerate().map(|(index, (record, found))| {
            let not_done = |error: Unreadable| NotDone {
                key: found.readable_key(),
                code: error.code().to_owned(),
                reason: Chain(&error).to_string(),
            };
            let delivered = self.delivered(source.group, record, (index, &source.filing));
            let delivered = delivered.map_err(not_done)?;
            let mut candidate = self.candidate(&delivered, record, now).map_err(not_done)?;
            candidate.basis = found.basis.clone();
            // The table has the item; and it came with no record.
            candidate.record = None;
            for quarantine in candidate.quarantine.values_mut() {
                quarantine.sequence_number.clear();
            }
            Ok(candidate)
        });
        Ok(candidates.collect())
    }

    /// The source that a name of a table means, if one has come.
    fn first_source(&self, arn: &str) -> Option<String> {
        let resource = sources::resource(arn)?;
        let sources = self.sources.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sources.first.get(resource).cloned()
    }

    /// The ARN of a source that has come, by its name or ARN.
    pub(crate) fn source_arn(&self, which: &str) -> Option<String> {
        if which.starts_with("arn:") {
            return Some(which.to_owned());
        }
        self.first_source(&format!(":::::table/{which}"))
    }
}

impl Found {
    /// The key as people read it in a list.
    pub(crate) fn readable_key(&self) -> String {
        let mut parts: Vec<String> = self
            .key
            .iter()
            .map(|(name, value)| {
                let value = match value.as_s().or(value.as_n()) {
                    Ok(text) => text.clone(),
                    Err(_) => "(bytes)".to_owned(),
                };
                format!("{name}={value}")
            })
            .collect();
        parts.sort();
        parts.join(", ")
    }
}

/// The record that the stream would deliver of an item.
fn record(arn: &str, found: &Found) -> Option<Value> {
    let mut change = json!({ "SequenceNumber": "0", "Keys": item_to_json(&found.key)? });
    if let Some(item) = &found.item {
        change["NewImage"] = item_to_json(item)?;
    }
    let event_name = if found.item.is_some() { "INSERT" } else { "REMOVE" };
    Some(json!({
        "eventSource": "aws:dynamodb",
        "eventSourceARN": arn,
        "eventName": event_name,
        "dynamodb": change,
    }))
}

/// The name of a table that is said by its name or ARN.
fn name_of(which: &str) -> &str {
    let resource = sources::resource(which);
    resource.and_then(|resource| resource.strip_prefix("table/")).unwrap_or(which)
}

fn unreadable(name: &str, error: StoreError) -> Halt {
    let remedy = match error.trouble {
        Trouble::Rejected => {
            "may the function read it (dynamodb:DescribeTable, Scan, GetItem), and is it there?"
        }
        _ => "what is done stays done; ask again",
    };
    Halt::new("SourceUnreadable", format!("the table {name} does not answer: {remedy}"))
        .caused_by(error)
}

fn unfiled(error: RegistryError) -> Halt {
    Halt::new(error.code(), "the source cannot be entered into the ledger").caused_by(error)
}

/// Refuses a table whose stream could not keep the views up to date.
///
/// # Errors
/// There is no stream, or one without the new images.
pub(crate) fn check_stream(source: &SourceTable<'_>) -> Result<(), Halt> {
    let fault = match source.described.stream {
        TableStream::WithNewImage => return Ok(()),
        TableStream::None => "has no stream",
        TableStream::WithoutNewImage => "has a stream without new images",
    };
    Err(Halt::new(
        "SourceHasNoStream",
        format!(
            "the table {} {fault}: what changes while it is read, and after, would not be in the \
             views. Set its StreamViewType to NEW_AND_OLD_IMAGES and map the stream to this \
             function from TRIM_HORIZON first. If it streams its changes into a Kinesis data \
             stream that is mapped so, say --without-stream",
            source.name()
        ),
    ))
}
