//! What a case says of its stream: shards, which of them continue which, and their records.
//!
//! Separate because it is checked as a whole: what cannot have happened in a stream is refused,
//! since a case of it would prove nothing. A case may only count its records and shards; then
//! none is kept, so a case of a million is as cheap as one of ten.

use super::seconds::{Seconds, millis};
use crate::{
    local::{
        mapping::Listed,
        source::{ShardLine, Stated},
    },
    record::Source,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Unexpected, Visitor},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt, marker::PhantomData, num::NonZeroU64};

/// The longest record that a case may have, in bytes of JSON: more than Kinesis takes.
const BYTES_MAX: usize = 16 << 20;

/// The most shards of a case.
const SHARDS_MAX: u64 = 10_000;

/// So many, or each by itself.
#[derive(Debug)]
pub(super) enum Told<T> {
    Counted(u64),
    Listed(Vec<T>),
}

/// A record as a case writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRecord {
    #[serde(rename = "shardId")]
    shard_id: Option<String>,
    key: Option<Value>,
    at: Option<Seconds>,
    bytes: Option<usize>,
    #[serde(rename = "eventName")]
    event_name: Option<String>,
    image: Option<Map<String, Value>>,
    data: Option<Value>,
}

/// The stream of a case.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) source: Source,
    /// In the order in which they are written.
    pub(super) shards: Vec<Listed>,
    records: Records,
}

#[derive(Debug)]
enum Records {
    Counted { records: u64, shards: NonZeroU64, keys: NonZeroU64 },
    Listed { all: Vec<Record>, of_shards: Vec<Vec<u64>> },
}

/// A record of a case.
#[derive(Debug)]
struct Record {
    shard: u64,
    /// The number of its key among those of its shard, by first appearance.
    key: u64,
    at: i64,
    body: Body,
}

#[derive(Debug, Default)]
struct Body {
    bytes: Option<usize>,
    event_name: Option<String>,
    image: Option<Map<String, Value>>,
    data: Option<Value>,
}

/// What a record is to the mapping.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) key: u64,
    /// When it arrived, in milliseconds since the mapping began.
    pub(super) at: i64,
    pub(super) body: String,
}

impl Contents {
    /// # Errors
    /// In words what contradicts itself.
    pub(super) fn new(
        source: Source,
        records: Told<WrittenRecord>,
        shards: Option<Told<ShardLine>>,
        keys: Option<NonZeroU64>,
    ) -> Result<Self, String> {
        let all = match records {
            Told::Counted(records) => return Self::counted(source, records, shards.as_ref(), keys),
            Told::Listed(all) => all,
        };
        if keys.is_some() {
            return Err("`keys` beside a list of records; there each one has its `key`".to_owned());
        }
        let shards = match shards {
            None => None,
            Some(Told::Counted(count)) => Some(numbered(self::count(count)?)),
            Some(Told::Listed(shards)) => Some(lineage(shards)?),
        };
        let mut reading = Reading::new(source, shards);
        for (number, record) in (1..).zip(all) {
            reading.take(number, record).map_err(|found| format!("record {number} {found}"))?;
        }
        let Reading { shards, all, of_shards, .. } = reading;
        Ok(Self { source, shards, records: Records::Listed { all, of_shards } })
    }

    fn counted(
        source: Source,
        records: u64,
        shards: Option<&Told<ShardLine>>,
        keys: Option<NonZeroU64>,
    ) -> Result<Self, String> {
        let shards = match shards {
            None => NonZeroU64::MIN,
            Some(Told::Counted(shards)) => count(*shards)?,
            Some(Told::Listed(_)) => {
                return Err("a list of shards needs a list of records, each with its \
                            `shardId`"
                    .to_owned());
            }
        };
        let keys = keys.unwrap_or(NonZeroU64::MIN);
        let names = numbered(shards);
        Ok(Self { source, shards: names, records: Records::Counted { records, shards, keys } })
    }

    /// How many records there are.
    pub(super) fn records(&self) -> u64 {
        match &self.records {
            Records::Counted { records, .. } => *records,
            Records::Listed { all, .. } => all.len() as u64,
        }
    }

    /// How many keys the records of a shard have.
    pub(super) fn keys(&self) -> u64 {
        match &self.records {
            Records::Counted { keys, .. } => keys.get(),
            Records::Listed { all, .. } => all.iter().map(|it| it.key + 1).max().unwrap_or(1),
        }
    }

    /// The shard of a record, counted from 0.
    pub(super) fn shard_of(&self, number: u64) -> u64 {
        match &self.records {
            Records::Counted { shards, .. } => number.saturating_sub(1) % *shards,
            Records::Listed { .. } => self.listed(number).map_or(0, |record| record.shard),
        }
    }

    /// The key of a record among those of its shard, counted from 0.
    pub(super) fn key_of(&self, number: u64) -> u64 {
        match &self.records {
            Records::Counted { shards, keys, .. } => number.saturating_sub(1) / *shards % *keys,
            Records::Listed { .. } => self.listed(number).map_or(0, |record| record.key),
        }
    }

    /// The number of the record at this place of its shard, both from 0 and 1 on.
    pub(super) fn number_at(&self, shard: u64, place: u64) -> Option<u64> {
        match &self.records {
            Records::Counted { records, shards, .. } => {
                let number = place.checked_mul(shards.get())?.checked_add(shard + 1)?;
                (number <= *records).then_some(number)
            }
            Records::Listed { of_shards, .. } => {
                let of_shard = of_shards.get(usize::try_from(shard).ok()?)?;
                of_shard.get(usize::try_from(place).ok()?).copied()
            }
        }
    }

    /// When a record arrived.
    pub(super) fn at(&self, number: u64) -> i64 {
        self.listed(number).map_or(0, |record| record.at)
    }

    /// A record as the mapping gets it.
    pub(super) fn written(&self, number: u64) -> Written {
        let none = Body::default();
        let body = self.listed(number).map_or(&none, |record| &record.body);
        let (key, at) = (self.key_of(number), self.at(number));
        Written { key, at, body: padded(text(self.source, number, body), body.bytes) }
    }

    fn listed(&self, number: u64) -> Option<&Record> {
        let Records::Listed { all, .. } = &self.records else { return None };
        all.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }
}

fn count(shards: u64) -> Result<NonZeroU64, String> {
    let count = NonZeroU64::new(shards).filter(|_| shards <= SHARDS_MAX);
    count.ok_or_else(|| format!("`shards` is {shards}; a stream of a case has 1 to {SHARDS_MAX}"))
}

fn numbered(shards: NonZeroU64) -> Vec<Listed> {
    (0..shards.get())
        .map(|shard| Listed { shard_id: format!("simulated-{shard}"), parents: Vec::new() })
        .collect()
}

/// The shards, if they can have been so in a stream.
fn lineage(written: Vec<ShardLine>) -> Result<Vec<Listed>, String> {
    if written.is_empty() {
        return Err("`shards` is empty; a stream has one at least".to_owned());
    }
    let mut stated = Stated::new();
    for (number, line) in (1..).zip(written) {
        let place = format!("shard {number} of `shards`");
        stated.state(line, &place).map_err(|found| found.to_string())?;
    }
    Ok(stated.finish())
}

/// The list of records so far.
struct Reading {
    source: Source,
    shards: Vec<Listed>,
    /// Whether the case states its shards; else they are those that its records name.
    is_stated: bool,
    all: Vec<Record>,
    of_shards: Vec<Vec<u64>>,
    /// For each shard its keys so far.
    keys: Vec<BTreeMap<String, u64>>,
    /// For each shard which record of a child said that it has ended.
    ended: Vec<Option<u64>>,
    /// For each shard when its last record arrived, or the last of those it continues.
    last: Vec<Option<i64>>,
    at: i64,
}

impl Reading {
    fn new(source: Source, shards: Option<Vec<Listed>>) -> Self {
        let mut reading = Self {
            source,
            shards: Vec::new(),
            is_stated: shards.is_some(),
            all: Vec::new(),
            of_shards: Vec::new(),
            keys: Vec::new(),
            ended: Vec::new(),
            last: Vec::new(),
            at: 0,
        };
        shards.into_iter().flatten().for_each(|shard| reading.add(shard));
        reading
    }

    fn add(&mut self, shard: Listed) {
        self.shards.push(shard);
        self.of_shards.push(Vec::new());
        self.keys.push(BTreeMap::new());
        self.ended.push(None);
        self.last.push(None);
    }

    fn take(&mut self, number: u64, written: WrittenRecord) -> Result<(), String> {
        let shard = self.shard(written.shard_id)?;
        let at = written.at.map_or(self.at, |Seconds(at)| at);
        if let Some(child) = self.ended[shard] {
            return Err(format!(
                "is of shard `{}`, which ended before record {child} of its child",
                self.shards[shard].shard_id
            ));
        }
        let is_first = self.of_shards[shard].is_empty();
        let parents = if is_first { self.parents(shard) } else { Vec::new() };
        let before = self.last[shard].max(parents.iter().filter_map(|it| self.last[*it]).max());
        if let Some(before) = before.filter(|before| at < *before) {
            return Err(format!(
                "arrives at {} s, before one that stands in front of it in its shard or a parent \
                 ({} s)",
                millis(at),
                millis(before)
            ));
        }
        self.end(&parents, number);
        let keys = &mut self.keys[shard];
        let next = keys.len() as u64;
        let key = written.key.unwrap_or_default().to_string();
        let key = *keys.entry(key).or_insert(next);
        let WrittenRecord { bytes, event_name, image, data, .. } = written;
        let body = Body { bytes, event_name, image, data };
        check(self.source, number, &body)?;
        self.last[shard] = Some(at);
        self.at = at;
        self.of_shards[shard].push(number);
        self.all.push(Record { shard: shard as u64, key, at, body });
        Ok(())
    }

    fn shard(&mut self, name: Option<String>) -> Result<usize, String> {
        let Some(name) = name else {
            if self.shards.is_empty() {
                self.add(Listed { shard_id: "simulated-0".to_owned(), parents: Vec::new() });
            }
            let is_clear = self.shards.len() == 1;
            return is_clear.then_some(0).ok_or_else(|| {
                "has no `shardId`, and there are several shards it could be of".to_owned()
            });
        };
        if let Some(shard) = self.shards.iter().position(|shard| shard.shard_id == name) {
            return Ok(shard);
        }
        if self.is_stated {
            return Err(format!("is of shard `{name}`, which the case does not state"));
        }
        self.add(Listed { shard_id: name, parents: Vec::new() });
        Ok(self.shards.len() - 1)
    }

    /// All shards that this one continues, the parents of parents too.
    fn parents(&self, shard: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = vec![shard];
        while let Some(shard) = open.pop() {
            for parent in &self.shards[shard].parents {
                let number = self.shards.iter().position(|shard| shard.shard_id == *parent);
                if let Some(number) = number.filter(|number| !found.contains(number)) {
                    found.push(number);
                    open.push(number);
                }
            }
        }
        found
    }

    fn end(&mut self, parents: &[usize], number: u64) {
        for parent in parents {
            self.ended[*parent].get_or_insert(number);
        }
    }
}

/// Whether a record can be what is written of it.
fn check(source: Source, number: u64, body: &Body) -> Result<(), String> {
    let is_kinesis = source == Source::Kinesis;
    if is_kinesis && (body.image.is_some() || body.event_name.is_some()) {
        return Err("has `image` or `eventName`; a record of Kinesis has `data`".to_owned());
    }
    if !is_kinesis && body.data.is_some() {
        return Err("has `data`; a change of DynamoDB has `image` and `eventName`".to_owned());
    }
    let Some(bytes) = body.bytes else { return Ok(()) };
    let shortest = text(source, number, body).len();
    if !(shortest..=BYTES_MAX).contains(&bytes) {
        return Err(format!("has {bytes} `bytes`; it can have {shortest} to {BYTES_MAX}"));
    }
    Ok(())
}

/// A record's JSON: its number is in it, and what the case gives it beside.
fn text(source: Source, number: u64, body: &Body) -> String {
    match source {
        Source::Kinesis => {
            let data = body.data.clone().unwrap_or_else(|| json!({ "n": number })).to_string();
            let data = base64_simd::STANDARD.encode_to_string(data);
            format!(r#"{{"kinesis":{{"sequenceNumber":"{number}","data":"{data}"}}}}"#)
        }
        Source::DynamoDb | Source::Sqs => {
            let name = body.event_name.as_ref().map(|it| format!(r#""eventName":{},"#, json!(it)));
            let mut image = Map::new();
            image.insert("n".to_owned(), json!({ "N": number.to_string() }));
            image.extend(body.image.clone().unwrap_or_default());
            format!(
                r#"{{{}"dynamodb":{{"SequenceNumber":"{number}","NewImage":{}}}}}"#,
                name.unwrap_or_default(),
                Value::Object(image)
            )
        }
    }
}

/// The same with as many bytes as wanted: spaces before its last brace.
fn padded(mut text: String, bytes: Option<usize>) -> String {
    let spaces = bytes.unwrap_or_default().saturating_sub(text.len());
    if spaces > 0 {
        text.pop();
        text.extend(std::iter::repeat_n(' ', spaces));
        text.push('}');
    }
    text
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Told<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountOrList(PhantomData))
    }
}

struct CountOrList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for CountOrList<T> {
    type Value = Told<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a list")
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Told<T>, E> {
        Ok(Told::Counted(count))
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Told<T>, E> {
        let negative = |_| E::invalid_value(Unexpected::Signed(count), &self);
        u64::try_from(count).map(Told::Counted).map_err(negative)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Told<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element()? {
            all.push(one);
        }
        Ok(Told::Listed(all))
    }
}
