//! What a record asks of the views: the item that it is about, evaluated for each of them.
//!
//! Pure functions of the record and the definitions. What a view that joins makes of an item
//! follows only when the item that it names is read (`ledger/join`), so an item goes there as it is
//! before that.

use super::{
    ELEMENTS_BYTES_MAX, LEDGER_SLACK_S, RECORD_BYTES_MAX, building,
    definition::{Join, Path, Unnest, View},
    evaluate::{Contribution, Poison, evaluate, path_value, reference},
    image,
    ledger::{Basis, Candidate, Expiry, IMAGE_BYTES_MAX, Left, fence::fence_key, mark_of},
    quarantine::Quarantine,
    rows::{self, Stored},
    scalar::{Scalar, encode_key},
    served::{Group, Served},
    source_item::{SourceItem, bounded},
    sources::Filing,
    version::version,
};
use crate::{
    event::{self, DecodeError, Record, RecordKey, Value},
    record::{Change, Source, Timestamp},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// One delivered change of an item, for one group.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) version: String,
    /// The record's place in the batch.
    pub(super) index: usize,
    group: usize,
    /// Key of the item's ledger row.
    pub(super) pk: String,
    item: SourceItem,
    /// Why no view can take the record: its key cannot be read.
    unkeyed: Option<Poison>,
}

impl Served {
    /// Which item of one group a record is about.
    pub(super) fn delivered(
        &self,
        group: usize,
        record: &Record<'_>,
        (index, filing): (usize, &Filing),
    ) -> Result<Delivered, Unreadable> {
        let Group { key, attributes, kind, joined, .. } = &self.groups[group];
        for &view in joined {
            Self::check_joined(&self.definitions[view], record, filing)?;
        }
        let (mut item, unkeyed) = match (key, record.source()) {
            (None, Source::Kinesis) if self.joins(group) => {
                return Err(Unreadable::JoinOfAppends);
            }
            (None, Source::Kinesis) => (SourceItem::of_append(record), None),
            (None, _) => (SourceItem::of_change(record)?, None),
            (Some(path), Source::Kinesis) => match image::read(record, attributes)?.new_image() {
                Some(item) => changelog_item(path, item, record),
                None => return Err(Unreadable::NoNewImage),
            },
            (Some(_), _) => return Err(Unreadable::KeyOfTable),
        };
        let pk = filing.ledger_key(kind, &item);
        if let Some(arn) = &filing.qualifier {
            item = item.of_source(arn);
        }
        Ok(Delivered { version: version(record), index, group, pk, item, unkeyed })
    }

    /// Whether views of a group join its items with others.
    fn joins(&self, group: usize) -> bool {
        let mut views = self.groups[group].views.iter();
        views.any(|&view| self.definitions[view].join.is_some())
    }

    /// Refuses a source whose items are not known by the one attribute that a view joins by.
    fn check_joined(view: &View, record: &Record<'_>, filing: &Filing) -> Result<(), Unreadable> {
        let Some(join) = &view.join else { return Ok(()) };
        let (view, table) = (view.name.clone(), join.table.clone());
        if filing.qualifier.is_some() {
            return Err(Unreadable::JoinOfSeveral { view, table });
        }
        let is_key = |(name, value): &(Cow<'_, str>, Value<'_>)| {
            *name == join.key && matches!(value, Value::Text(_) | Value::Number(_))
        };
        let is_joined_by = match record.source() {
            Source::DynamoDb => match record.keys()? {
                RecordKey::Item(keys) => keys.len() == 1 && keys.iter().all(is_key),
                RecordKey::Partition(_) => false,
            },
            _ => false,
        };
        if is_joined_by {
            return Ok(());
        }
        Err(Unreadable::JoinOfOtherKey { view, table, key: join.key.clone() })
    }

    /// What a change asks of its group's views.
    pub(super) fn candidate(
        &self,
        delivered: &Delivered,
        record: &Record<'_>,
        now: Timestamp,
    ) -> Result<Candidate, Unreadable> {
        let group = &self.groups[delivered.group];
        let is_whole = group.views.iter().any(|&view| self.definitions[view].shows_all());
        let change =
            if is_whole { record.values()? } else { image::read(record, &group.attributes)? };
        let removed = matches!(change, Change::Remove { .. });
        let item = match change {
            Change::Insert { new: Some(new) } | Change::Modify { new: Some(new), .. } => Some(new),
            Change::Remove { .. } => None,
            Change::Insert { .. } | Change::Modify { .. } => return Err(Unreadable::NoNewImage),
        };
        let appended = record.source() == Source::Kinesis && group.key.is_none();
        let unkeyed = &delivered.unkeyed;
        let mut candidate = Candidate {
            pk: delivered.pk.clone(),
            group: delivered.group,
            key: delivered.item.readable.clone(),
            basis: Basis::Record {
                version: delivered.version.clone(),
                created: record.approximate_arrival(),
                fence: (record.source() == Source::DynamoDb)
                    .then(|| record.source_arn().map(|arn| fence_key(arn, &group.kind)))
                    .flatten(),
            },
            contributions: BTreeMap::new(),
            projected: BTreeMap::new(),
            lefts: BTreeMap::new(),
            rights: BTreeMap::new(),
            row_key: delivered.item.row_key.clone(),
            quarantine: BTreeMap::new(),
            record: None,
            expiry: None,
        };
        for &view in &group.views {
            let evaluated = match (unkeyed, &item) {
                (_, None) => continue,
                (Some(poison), _) => Err(poison.clone()),
                (None, Some(item)) => match &self.definitions[view].join {
                    // What it contributes depends on the item that it names.
                    Some(join) => match self.left(view, join, item, &candidate) {
                        Ok(left) => {
                            candidate.lefts.insert(view, left);
                            continue;
                        }
                        Err(poison) => Err(poison),
                    },
                    None => evaluate(&self.definitions[view], item),
                },
            };
            self.contribute(view, (evaluated, item.as_ref()), record, &mut candidate);
        }
        for (&view, item) in
            group.joined.iter().filter_map(|view| item.as_ref().map(|it| (view, it)))
        {
            match image_of(item, &self.definitions[view].joined_attributes(), 0) {
                Ok(image) => {
                    candidate.contributions.insert(view, Stored::Joined(mark_of(&image)));
                    candidate.rights.insert(view, image);
                }
                Err(poison) => leave_out(view, poison, record, &mut candidate),
            }
        }
        if !candidate.quarantine.is_empty() {
            let kept = self.bytes_of_elements(&candidate) + images_bytes(&candidate);
            if record.raw().len() + kept <= RECORD_BYTES_MAX {
                candidate.record = Some(record.raw().to_owned());
            } else if record.source() == Source::Kinesis {
                return Err(Unreadable::TooLargeToKeep);
            }
        } else if removed || appended {
            let arrival = record.approximate_arrival().unwrap_or(now).max(now);
            let retention_s = i64::from(self.retention_hours(group)) * 3_600;
            let run = record.source_arn().map(building::run_key);
            candidate.expiry = Some(Expiry {
                at_s: arrival.0 / 1_000 + retention_s + LEDGER_SLACK_S,
                unless_building: run.filter(|_| removed),
            });
        }
        Ok(candidate)
    }

    /// What an item is before it is joined.
    fn left(
        &self,
        view: usize,
        join: &Join,
        item: &Value<'_>,
        candidate: &Candidate,
    ) -> Result<Left, Poison> {
        let definition = &self.definitions[view];
        let reference = reference(join, item)?;
        Ok(Left {
            reference: reference.map(|key| bounded(encode_key(&[key]))),
            image: image_of(item, &definition.attributes(), images_bytes(candidate))?,
            taken: None,
            row_key: definition.needs_item_key().then(|| candidate.row_key.clone()),
        })
    }

    fn contribute(
        &self,
        view: usize,
        (evaluated, item): (Result<Contribution, Poison>, Option<&Value<'_>>),
        record: &Record<'_>,
        candidate: &mut Candidate,
    ) {
        match evaluated {
            Ok(Contribution::Nothing) => {}
            Ok(Contribution::Row(values)) => {
                let definition = &self.definitions[view];
                let row = match item.filter(|_| definition.shows_all()) {
                    Some(item) => rows::whole::row(&candidate.row_key, item),
                    None => Ok(rows::projected(definition, &candidate.row_key, &values)),
                };
                let row = match row {
                    Ok(row) => row,
                    Err(poison) => return leave_out(view, poison, record, candidate),
                };
                candidate.projected.insert(view, row);
                candidate.contributions.insert(view, Stored::Row);
            }
            Ok(Contribution::Groups(additions)) => {
                let item = (&self.definitions[view], &*candidate.row_key);
                let stored = Stored::of(additions, item);
                candidate.contributions.insert(view, stored);
                if let Some(unnest) = &self.definitions[view].unnest
                    && let Some(poison) = self.too_large(unnest, candidate)
                {
                    candidate.contributions.remove(&view);
                    leave_out(view, poison, record, candidate);
                }
            }
            Err(poison) => leave_out(view, poison, record, candidate),
        }
    }

    /// What the elements of an item's lists take of its ledger row.
    fn bytes_of_elements(&self, candidate: &Candidate) -> usize {
        let of_elements = candidate.contributions.iter().filter_map(|(&view, stored)| {
            let view = &self.definitions[view];
            view.unnest.as_ref().map(|_| (&*view.name, stored))
        });
        rows::contributions_text(of_elements).len()
    }

    /// Says so if what an item's elements add is more than its ledger row has room for.
    fn too_large(&self, unnest: &Unnest, candidate: &Candidate) -> Option<Poison> {
        let bytes = self.bytes_of_elements(candidate);
        (bytes > ELEMENTS_BYTES_MAX).then(|| Poison {
            attribute: unnest.list.to_string(),
            expected: format!(
                "elements that take at most {ELEMENTS_BYTES_MAX} bytes of the ledger"
            ),
            found: format!("{bytes} bytes"),
        })
    }
}

/// The attributes of an item that a view with a join looks at, beside so many bytes of others.
fn image_of(item: &Value<'_>, names: &BTreeSet<&str>, beside: usize) -> Result<String, Poison> {
    let image = item.to_image(names);
    let found = match image.len() + beside {
        ..=IMAGE_BYTES_MAX if event::image(&image).is_ok() => return Ok(image),
        ..=IMAGE_BYTES_MAX => "values that are nested too deeply".to_owned(),
        bytes => format!("{bytes} bytes"),
    };
    Err(Poison {
        attribute: names.iter().copied().collect::<Vec<_>>().join(", "),
        expected: format!(
            "attributes that take at most {IMAGE_BYTES_MAX} bytes of the ledger, for all views \
             that join"
        ),
        found,
    })
}

/// What an item's ledger row has of it for views that join.
fn images_bytes(candidate: &Candidate) -> usize {
    candidate.lefts.values().map(|left| left.image.len()).sum()
}

/// Puts the item into quarantine for one view.
fn leave_out(view: usize, poison: Poison, record: &Record<'_>, candidate: &mut Candidate) {
    let sequence_number = record.sequence_number().to_string();
    candidate.quarantine.insert(view, Quarantine { poison, sequence_number });
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
pub(super) enum Unreadable {
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
    #[error(
        "each record of the stream is an item of its own, and a view that joins needs items that \
         change: add WITH (key = …)"
    )]
    JoinOfAppends,
    #[error(
        "view {view} joins {table} by {key}, which is not the whole key of it as text or number; \
         join by the key of a DynamoDB table"
    )]
    JoinOfOtherKey { view: String, table: String, key: String },
    #[error(
        "view {view} joins {table}, and this is a second table of that name; map one of them only"
    )]
    JoinOfSeveral { view: String, table: String },
}

impl Unreadable {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Record(error) => error.code(),
            Self::TooLargeToKeep => "RecordTooLargeToKeep",
            Self::NoNewImage
            | Self::KeyOfTable
            | Self::JoinOfAppends
            | Self::JoinOfOtherKey { .. }
            | Self::JoinOfSeveral { .. } => "SourceUnfit",
        }
    }
}
