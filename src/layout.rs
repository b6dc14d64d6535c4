//! Which lane each record of a batch belongs to.
//!
//! Separate from the schedule, which only knows numbers of lanes, because this is where keys
//! are told apart. By key, the default, that costs a hash of the key's text and no memory of
//! its own: keys are read only where their text is unusual, and compared only where hashes are
//! equal. Equal keys never stand in two lanes, however they are written. The hash has no
//! secret, so somebody who chooses the keys can make them collide; then, and for every other
//! order, lanes are told by comparing all keys, which nobody can make slow.
//!
//! What it gives up: a lane's key is read again when it is asked for, which only happens
//! where records are parked.

use crate::{
    call::Halt,
    event::{
        DecodeError, Record, RecordKey, Value,
        record_key::{self, KeyText},
    },
    processor::Failure,
    recovery::park::Key,
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
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

/// As `CHANGEFOLD_ORDER` says it. Two functions are not told apart.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::PartitionKey { attribute: None } => f.write_str("partition_key"),
            Self::PartitionKey { attribute: Some(name) } => write!(f, "partition_key:{name}"),
            Self::Shard => f.write_str("shard"),
            Self::By(_) => f.write_str("(a function)"),
        }
    }
}

/// The lane of every record.
#[derive(Debug)]
pub(crate) struct Layout<'r> {
    /// By record: the number of its lane. Lanes are numbered as they are met.
    lanes: Vec<u32>,
    count: usize,
    /// By lane, where lanes are told by comparison.
    names: Vec<Lane<'r>>,
    /// Records whose lane cannot be told. Each stands in a lane of its own.
    pub(crate) unkeyed: BTreeMap<usize, Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lane<'r> {
    Shard,
    Key(RecordKey<'r>),
    Attribute(Value<'r>),
    Text(String),
    Unknown(usize),
}

/// So many records ahead a key is asked for.
const AHEAD: usize = 8;

impl<'r> Layout<'r> {
    /// Finds the lanes.
    ///
    /// # Errors
    /// The order cannot be told for any record: a wrong setting.
    pub(crate) fn of(records: &'r [Record<'r>], order: &Order) -> Result<Self, Halt> {
        let is_of_queue = records.first().is_some_and(|record| record.source().is_queue());
        let by_hash = match order {
            Order::Key if !is_of_queue => Self::by_hash(records),
            _ => None,
        };
        by_hash.map_or_else(|| Self::by_comparison(records, order), Ok)
    }

    fn empty(length: usize) -> Self {
        let lanes = Vec::with_capacity(length);
        Self { lanes, count: 0, names: Vec::new(), unkeyed: BTreeMap::new() }
    }

    /// Lanes by key. Keys are not read where their text tells their hash; none if too many
    /// different ones have the same, as only somebody who chooses them so could bring about.
    fn by_hash(records: &'r [Record<'r>]) -> Option<Self> {
        let mut layout = Self::empty(records.len());
        let mut firsts = Firsts::new(records.len());
        for (at, record) in records.iter().enumerate() {
            // A key is a few bytes in a kilobyte: nothing else would have it near in time.
            let ahead = records.get(at + AHEAD).and_then(Record::key_text);
            ahead.into_iter().for_each(KeyText::prefetch);
            let plain = record.key_text().and_then(KeyText::plain_hash);
            let hash = plain.map_or_else(|| record.keys().map(|key| key.hash()), Ok);
            let first = match hash {
                Ok(hash) => firsts.first(hash, at, |first| has_key_of(record, &records[first]))?,
                Err(error) => {
                    layout.unkeyed.insert(at, undecodable(error));
                    None
                }
            };
            let lane = first.map_or(number(layout.count), |first| layout.lanes[first]);
            layout.count += usize::from(first.is_none());
            layout.lanes.push(lane);
        }
        Some(layout)
    }

    fn by_comparison(records: &'r [Record<'r>], order: &Order) -> Result<Self, Halt> {
        let mut layout = Self::empty(records.len());
        let mut numbers: BTreeMap<Lane<'r>, u32> = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            let lane = lane(record, order)?.unwrap_or_else(|failure| {
                layout.unkeyed.insert(at, failure);
                Lane::Unknown(at)
            });
            let number = *numbers.entry(lane).or_insert_with_key(|lane| {
                layout.names.push(lane.clone());
                number(layout.names.len() - 1)
            });
            layout.lanes.push(number);
        }
        layout.count = layout.names.len();
        Ok(layout)
    }

    /// The number of a record's lane.
    pub(crate) fn lane(&self, record: usize) -> usize {
        self.lanes[record] as usize
    }

    /// How many lanes there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// What keeps a record in order, as the park knows it.
    pub(crate) fn key(&self, at: usize, record: &Record<'_>) -> Key {
        let source = record.source_arn().unwrap_or_default();
        let read;
        let lane = if let Some(lane) = self.names.get(self.lane(at)) {
            lane
        } else {
            // What was hashed can be read.
            let lane = if self.unkeyed.contains_key(&at) { None } else { record.keys().ok() };
            read = lane.map_or(Lane::Unknown(at), Lane::Key);
            &read
        };
        let (canonical, readable) = match lane {
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

/// A batch is a few megabytes at most.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a batch has fewer than 2^32 records")
}

/// Whether two records are about one key. Texts that are the same mean the same; others may.
fn has_key_of(record: &Record<'_>, other: &Record<'_>) -> bool {
    let text = record.key_text();
    if text.is_some() && text == other.key_text() {
        return true;
    }
    record.keys().is_ok_and(|key| other.keys().is_ok_and(|other| key == other))
}

/// The first record of each key met so far, by the key's hash.
#[derive(Debug)]
struct Firsts {
    /// A power of two of places, at least twice as many as records: the upper half of a hash,
    /// and below it a record's number from 1. Zero is a free place.
    places: Vec<u64>,
    /// How many more places may be looked at, so that no choice of keys takes longer than
    /// comparing them would.
    looks_left: usize,
}

/// Looks per record before the hash is given up: with half of the places free two or three
/// are usual.
const LOOKS: usize = 16;

/// How many looks it counts to read two keys and compare them.
const LOOKS_PER_COMPARISON: usize = 16;

impl Firsts {
    fn new(records: usize) -> Self {
        let places = vec![0; (records * 2).next_power_of_two()];
        Self { places, looks_left: (records + 16) * LOOKS }
    }

    /// The first record with this hash that is the same as this one; if there is none, this
    /// one is the first from now on. The outer `None` says that it took too long.
    #[expect(clippy::option_option, reason = "the outer one ends the search for all records")]
    fn first(
        &mut self,
        hash: u64,
        record: usize,
        is_same: impl Fn(usize) -> bool,
    ) -> Option<Option<usize>> {
        const RECORD: u64 = u32::MAX as u64;
        let last = self.places.len() - 1;
        let mut at = usize::try_from(hash & RECORD).unwrap_or_default() & last;
        loop {
            self.looks_left = self.looks_left.checked_sub(1)?;
            let place = &mut self.places[at];
            if *place == 0 {
                *place = hash & !RECORD | u64::from(number(record + 1));
                return Some(None);
            }
            if (*place ^ hash) & !RECORD == 0 {
                let first = usize::try_from(*place & RECORD).unwrap_or_default() - 1;
                if is_same(first) {
                    return Some(Some(first));
                }
                self.looks_left = self.looks_left.checked_sub(LOOKS_PER_COMPARISON)?;
            }
            at = (at + 1) & last;
        }
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
pub(crate) fn undecodable(error: DecodeError) -> Failure {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event;
    use proptest::prelude::*;

    /// An event with these keys, as they stand in the payload.
    fn event(keys: &[String]) -> String {
        let record = |(at, keys): (usize, &String)| {
            let at = at + 1;
            format!(
                r#"{{"eventSource":"aws:dynamodb","dynamodb":{{"SequenceNumber":"{at}","Keys":{keys}}}}}"#
            )
        };
        let records: Vec<String> = keys.iter().enumerate().map(record).collect();
        format!(r#"{{"Records":[{}]}}"#, records.join(","))
    }

    /// Both ways to tell lanes, over one event.
    #[track_caller]
    fn check(keys: &[String]) {
        let event = event(keys);
        let batch = event::parse(event.as_bytes());
        let records = batch.records().unwrap();
        let hashed = Layout::by_hash(records).unwrap();
        let compared = Layout::by_comparison(records, &Order::Key).unwrap();
        assert_eq!((&hashed.lanes, hashed.count), (&compared.lanes, compared.count), "{event}");
        let unkeyed = |layout: &Layout<'_>| {
            let code = |(at, failure): (&usize, &Failure)| (*at, failure.code());
            layout.unkeyed.iter().map(code).collect::<Vec<_>>()
        };
        assert_eq!(unkeyed(&hashed), unkeyed(&compared), "{event}");
        for (at, record) in records.iter().enumerate() {
            let (hashed, compared) = (hashed.key(at, record), compared.key(at, record));
            assert_eq!((hashed.hash, hashed.readable), (compared.hash, compared.readable));
        }
    }

    /// A few keys in many spellings, some of them no keys at all.
    fn spelling() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            r#"\{"S":"(a|b|\\\\u0061|\\\\u0062|é|\\\\u00e9)"\}"#,
            r#"\{ ?"N": ?"(1|1\.0|01|x|-1)" ?\}"#,
            r#"\{"B":"(AA==|AAA=|AB==)"\}"#,
            r#"\{"(S|N|X)":(1|null)\}"#,
        ];
        let pair = (value.clone(), value).prop_flat_map(|(a, b)| {
            prop_oneof![
                Just(format!(r#"{{"a":{a}}}"#)),
                Just(format!(r#"{{"a":{a},"b":{b}}}"#)),
                Just(format!(r#"{{"b":{b},"a":{a}}}"#)),
                Just(format!(r#"{{"b" : {b},"\u0061":{a}}}"#)),
                Just(format!(r#"{{"a":{b},"a":{a}}}"#)),
            ]
        });
        prop_oneof![9 => pair, 1 => "null|\\{\\}|7"]
    }

    proptest! {
        #[test]
        fn one_key_is_one_lane_however_it_is_written(
            keys in prop::collection::vec(spelling(), 0..40),
        ) {
            check(&keys);
        }
    }

    #[test]
    fn keys_that_collide_are_told_apart_by_comparison_before_it_gets_slow() {
        // Different records under one hash, as somebody could choose them.
        let mut firsts = Firsts::new(1_000);
        let records = (0..1_000).map_while(|at| firsts.first(7, at, |_| false)).count();
        assert!((2..100).contains(&records), "{records} records met before it was given up");
        // Different hashes that begin at one place.
        let mut firsts = Firsts::new(1_000);
        let beside = |at: usize| firsts.first((at as u64 + 1) << 32, at, |_| false);
        let records = (0..1_000).map_while(beside).count();
        assert!((100..500).contains(&records), "{records} records met before it was given up");
        // Random ones are not given up, even where each is its own.
        let mut firsts = Firsts::new(5_000);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut next = |at| firsts.first(rng.u64(..), at, |_| false);
        assert!((0..5_000).all(|at| next(at) == Some(None)));
    }
}
