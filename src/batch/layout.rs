//! Which lane each record of a batch belongs to.

use super::Halt;
use crate::{
    event::{DecodeError, Record, RecordKey, Value, record_key},
    park::Key,
    processor::Failure,
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Which records have to stay in order with each other.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Order {
    /// Records of one DynamoDB item, or of one Kinesis partition key. Messages of a FIFO queue
    /// stay in order with their group; those of a standard queue, which keeps no order, run
    /// each by itself, except parked records of one key.
    #[default]
    Key,
    /// Records of one partition key. A DynamoDB event does not say which of an item's two
    /// key attributes that is, so it has to be named; without the name, DynamoDB records
    /// halt the invocation. For a queue's messages the same as [`Key`](Self::Key).
    PartitionKey {
        /// Name of the table's partition key attribute; Kinesis needs none.
        attribute: Option<String>,
    },
    /// All records of the batch: one after another. AWS itself keeps this order only with a
    /// `ParallelizationFactor` of 1.
    Shard,
    /// Records for which the function gives the same text. A failure is that record's. If it
    /// parts a FIFO queue's group, messages behind a failed one may be processed twice.
    By(fn(&Record<'_>) -> Result<String, Failure>),
}

/// The lane of every record.
#[derive(Debug, Default)]
pub(super) struct Layout<'r> {
    /// By record: the number of its lane.
    lanes: Vec<usize>,
    /// By lane.
    names: Vec<Lane<'r>>,
    /// Records whose lane cannot be told. Each stands in a lane of its own.
    pub(super) unkeyed: BTreeMap<usize, Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lane<'r> {
    Shard,
    Key(RecordKey<'r>),
    Attribute(Value<'r>),
    Text(String),
    Unknown(usize),
}

impl<'r> Layout<'r> {
    /// Finds the lanes.
    ///
    /// # Errors
    /// The order cannot be told for any record: a wrong setting.
    pub(super) fn of(records: &'r [Record<'r>], order: &Order) -> Result<Self, Halt> {
        let mut layout = Self::default();
        let mut numbers: BTreeMap<Lane<'r>, usize> = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            let lane = lane(record, order)?.unwrap_or_else(|failure| {
                layout.unkeyed.insert(at, failure);
                Lane::Unknown(at)
            });
            let number = *numbers.entry(lane).or_insert_with_key(|lane| {
                layout.names.push(lane.clone());
                layout.names.len() - 1
            });
            layout.lanes.push(number);
        }
        Ok(layout)
    }

    /// The number of a record's lane.
    pub(super) fn lane(&self, record: usize) -> usize {
        self.lanes[record]
    }

    /// How many lanes there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// What keeps a record in order, as the park knows it.
    pub(super) fn key(&self, at: usize, record: &Record<'_>) -> Key {
        let source = record.source_arn().unwrap_or_default();
        let (canonical, readable) = match &self.names[self.lanes[at]] {
            Lane::Shard => (String::new(), "(shard)".to_owned()),
            Lane::Key(key) => (key.canonical(), key.to_string()),
            Lane::Attribute(value) => (record_key::value_text(value), record_key::readable(value)),
            Lane::Text(text) => (format!("T{text}"), text.clone()),
            Lane::Unknown(_) => {
                let place = format!("{}/{}", record.sequence_number(), record.ordinal());
                (format!("U{place}"), format!("(unreadable) {place}"))
            }
        };
        Key::new(source, &canonical, readable)
    }
}

/// The lane of one record. The outer error is everybody's, the inner one this record's.
fn lane<'r>(record: &'r Record<'r>, order: &Order) -> Result<Result<Lane<'r>, Failure>, Halt> {
    Ok(match order {
        Order::Shard => Ok(Lane::Shard),
        Order::Key | Order::PartitionKey { .. } if record.source().is_queue() => {
            Ok(queue_lane(record))
        }
        Order::Key => record.keys().map(Lane::Key).map_err(undecodable),
        Order::By(name) => match catch_unwind(AssertUnwindSafe(|| name(record))) {
            Ok(text) => text.map(Lane::Text),
            Err(_) => Err(Failure::unclassified("Panicked", "the order's function panicked")),
        },
        Order::PartitionKey { attribute } => match record.keys() {
            Err(error) => Err(undecodable(error)),
            Ok(RecordKey::Item(key)) => {
                Ok(Lane::Attribute(partition_key(key, attribute.as_deref())?))
            }
            Ok(key @ RecordKey::Partition(_)) => Ok(Lane::Key(key)),
        },
    })
}

/// What a queue keeps in order: a FIFO queue its groups, whatever the messages are about. In a
/// standard queue only parked records have a key; a message whose key cannot be read fails
/// when its change is read, and must not hold up others until then.
fn queue_lane<'r>(record: &'r Record<'r>) -> Lane<'r> {
    let group = record.message_group().map(|group| RecordKey::Partition(group.into()));
    let own = || RecordKey::Partition(record.message_id().unwrap_or_default().into());
    Lane::Key(group.unwrap_or_else(|| record.keys().unwrap_or_else(|_| own())))
}

/// What cannot be read will never be read.
pub(super) fn undecodable(error: DecodeError) -> Failure {
    let code = error.code();
    Failure::park(error).with_code(code)
}

fn partition_key<'r>(
    key: Vec<(Cow<'r, str>, Value<'r>)>,
    attribute: Option<&str>,
) -> Result<Value<'r>, Halt> {
    let Some(attribute) = attribute else {
        return Err(Halt::new(
            "OrderUnknown",
            "a DynamoDB event does not say which key attribute is the partition key: \
             name it, as in `CHANGEFOLD_ORDER=partition_key:customer_id`",
        ));
    };
    let named = key.into_iter().find(|(name, _)| name == attribute);
    named.map(|(_, value)| value).ok_or_else(|| {
        Halt::new(
            "OrderUnknown",
            format!("the table's items have no key attribute `{attribute}`: correct the order"),
        )
    })
}
