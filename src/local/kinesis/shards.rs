//! Shards are listed, split, merged and scaled.

use super::{
    Asked,
    error::{KinesisError, Result},
    filter::Filter,
    hash::{self, Range},
    request::{self, ListShards, Merge, Scale, Split},
    reshard::{self, Step},
    rows::{self, Shard, Stream},
    token::Listing,
};
use rusqlite::Transaction;
use serde_json::{Map, Value, json};

/// The most open shards; AWS's quota in its largest Regions.
pub(super) const SHARDS_MAX: u32 = 20_000;
/// What `ListShards` gives at most, and unless told otherwise.
const LISTED_MAX: i64 = 10_000;
const LISTED: i64 = 1_000;

pub(super) fn list(
    tables: &Transaction<'_>,
    Asked { now, .. }: Asked<'_>,
    request: &ListShards<'_>,
) -> Result<String> {
    let most = request::within(request.max_results.or(Some(LISTED)), "maxResults", 1..=LISTED_MAX)?;
    let (stream, after, filter) = if let Some(token) = &request.next_token {
        if request.stream.is_there() || request.exclusive_start_shard_id.is_some() {
            let message = "NextToken and StreamName cannot be provided together.";
            return Err(KinesisError::argument(message));
        }
        let Listing { stream, after, filter, .. } = Listing::read(token, now)?;
        (rows::stream_of(tables, stream)?, Some(after), filter)
    } else {
        let stream = rows::stream(tables, request.stream.name()?)?;
        let filter = request.shard_filter.as_ref();
        let filter = filter.map(|it| Filter::of(it, &stream, now)).transpose()?;
        let (filter, after) = filter.unwrap_or_default();
        let start = request.exclusive_start_shard_id.as_deref().and_then(rows::shard_number);
        (stream, start.max(after).map(i64::from), filter)
    };
    let mut shards = rows::shards(tables, &stream, now)?;
    shards.retain(|it| after.is_none_or(|after| i64::from(it.number) > after) && filter.takes(it));
    let mut answer = Map::new();
    if shards.len() > most {
        shards.truncate(most);
        let after = shards.last().map_or(-1, |shard| i64::from(shard.number));
        let next = Listing { stream: stream.id, after, filter, issued: now };
        answer.insert("NextToken".to_owned(), next.to_text().into());
    }
    answer.insert("Shards".to_owned(), shards.iter().map(to_json).collect());
    Ok(Value::Object(answer).to_string())
}

/// A shard as listings show it.
pub(super) fn to_json(shard: &Shard) -> Value {
    let mut sequences = Map::new();
    let first = shard.sequence(0, shard.opened);
    sequences.insert("StartingSequenceNumber".to_owned(), first.into());
    if let Some(closed) = shard.closed {
        let last = shard.sequence(shard.next, closed);
        sequences.insert("EndingSequenceNumber".to_owned(), last.into());
    }
    let mut members = Map::new();
    members.insert("ShardId".to_owned(), rows::shard_id(shard.number).into());
    for (name, parent) in
        [("ParentShardId", shard.parent), ("AdjacentParentShardId", shard.adjacent)]
    {
        if let Some(parent) = parent {
            members.insert(name.to_owned(), rows::shard_id(parent).into());
        }
    }
    members.insert("HashKeyRange".to_owned(), range_json(shard.range));
    members.insert("SequenceNumberRange".to_owned(), sequences.into());
    Value::Object(members)
}

pub(super) fn range_json(range: Range) -> Value {
    json!({ "StartingHashKey": range.low.to_string(), "EndingHashKey": range.high.to_string() })
}

/// A shard by its name.
pub(super) fn find(tables: &Transaction<'_>, stream: &Stream, id: &str, now: i64) -> Result<Shard> {
    let number = rows::shard_number(id);
    let shards = rows::shards(tables, stream, now)?;
    shards.into_iter().find(|shard| Some(shard.number) == number).ok_or_else(|| {
        KinesisError::not_found(format!(
            "Shard {id:.128} in stream {} under account {} does not exist",
            stream.name,
            super::ACCOUNT
        ))
    })
}

/// An open shard by its name, of a stream whose shards are its owner's to change.
fn find_open(tables: &Transaction<'_>, stream: &Stream, id: &str, now: i64) -> Result<Shard> {
    refuse_on_demand(stream)?;
    let shard = find(tables, stream, id, now)?;
    if shard.closed.is_some() {
        return Err(KinesisError::in_use(format!(
            "Shard {id} in stream {} under account {} has already been merged or split, and thus \
             is not eligible for merging or splitting.",
            stream.name,
            super::ACCOUNT
        )));
    }
    Ok(shard)
}

fn refuse_on_demand(stream: &Stream) -> Result<()> {
    if stream.mode == "ON_DEMAND" {
        return Err(KinesisError::validation(format!(
            "Request is invalid. Stream {} under account {} is in On-Demand mode.",
            stream.name,
            super::ACCOUNT
        )));
    }
    Ok(())
}

pub(super) fn split(
    tables: &Transaction<'_>,
    Asked { now, .. }: Asked<'_>,
    request: &Split<'_>,
) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let shard = find_open(tables, &stream, &request.shard, now)?;
    let Range { low, high } = shard.range;
    let key = &request.new_starting_hash_key;
    let at = hash::parse(key).ok_or_else(|| {
        KinesisError::constraint(
            format!("{key:.40}"),
            "newStartingHashKey",
            r"satisfy regular expression pattern: 0|([1-9]\d{0,38})",
        )
    })?;
    if at <= low.saturating_add(1) || at >= high {
        return Err(KinesisError::argument(format!(
            "NewStartingHashKey {at} used in SplitShard() on shard {} in stream {} under account \
             {} is not both greater than one plus the shard's StartingHashKey {low} and less than \
             the shard's EndingHashKey {high}.",
            rows::shard_id(shard.number),
            stream.name,
            super::ACCOUNT
        )));
    }
    refuse_too_many(rows::open_shards(tables, &stream)?.len() + 1)?;
    apply(tables, &stream, Step::Split(at), now)?;
    Ok(String::new())
}

pub(super) fn merge(
    tables: &Transaction<'_>,
    Asked { now, .. }: Asked<'_>,
    request: &Merge<'_>,
) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let one = find_open(tables, &stream, &request.shard, now)?;
    let other = find_open(tables, &stream, &request.adjacent, now)?;
    let (left, right) =
        if one.range.low < other.range.low { (&one, &other) } else { (&other, &one) };
    if left.range.high.checked_add(1) != Some(right.range.low) {
        return Err(KinesisError::argument(format!(
            "Shards {} and {} in stream {} under account {} are not an adjacent pair of shards \
             eligible for merging",
            request.shard,
            request.adjacent,
            stream.name,
            super::ACCOUNT
        )));
    }
    // The parent is the one that was named first.
    join(tables, &stream, [&one, &other], now)?;
    Ok(String::new())
}

pub(super) fn scale(
    tables: &Transaction<'_>,
    Asked { now, region }: Asked<'_>,
    request: &Scale<'_>,
) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    refuse_on_demand(&stream)?;
    if request.scaling_type != "UNIFORM_SCALING" {
        let must = "satisfy enum value set: [UNIFORM_SCALING]";
        return Err(KinesisError::constraint(&request.scaling_type, "scalingType", must));
    }
    let open = rows::open_shards(tables, &stream)?;
    let target = request.target_shard_count;
    let count = u32::try_from(target).ok().filter(|count| *count > 0).ok_or_else(|| {
        let must = "have value greater than or equal to 1";
        KinesisError::constraint(target, "targetShardCount", must)
    })?;
    let wanted = count as usize;
    if wanted > open.len() * 2 || wanted * 2 < open.len() {
        return Err(KinesisError::argument(format!(
            "TargetShardCount {wanted} is more than double or less than half of the {} open shards \
             of stream {}; get there in several steps",
            open.len(),
            stream.name
        )));
    }
    refuse_too_many(wanted)?;
    let ranges: Vec<Range> = open.iter().map(|shard| shard.range).collect();
    for step in reshard::steps(&ranges, count) {
        apply(tables, &stream, step, now)?;
    }
    let answer = json!({
        "StreamName": stream.name,
        "StreamARN": rows::arn(region, &stream.name),
        "CurrentShardCount": open.len(),
        "TargetShardCount": wanted,
    });
    Ok(answer.to_string())
}

pub(super) fn refuse_too_many(shards: usize) -> Result<()> {
    if shards > SHARDS_MAX as usize {
        return Err(KinesisError::limit(format!(
            "This request would exceed the shard limit for the account {}: {SHARDS_MAX}.",
            super::ACCOUNT
        )));
    }
    Ok(())
}

fn apply(tables: &Transaction<'_>, stream: &Stream, step: Step, now: i64) -> Result<()> {
    let open = rows::open_shards(tables, stream)?;
    let holder = |key: u128| open.iter().find(|shard| shard.range.contains(key));
    match step {
        Step::Split(at) => {
            if let Some(parent) = holder(at).filter(|shard| shard.range.low < at) {
                rows::close_shard(tables, parent, now)?;
                for range in parent.range.split(at) {
                    rows::add_shard(tables, stream, range, [Some(parent), None], now)?;
                }
            }
            Ok(())
        }
        Step::Merge(at) => match (at.checked_sub(1).and_then(holder), holder(at)) {
            (Some(left), Some(right)) if left.id != right.id => {
                join(tables, stream, [left, right], now)
            }
            _ => Ok(()),
        },
    }
}

/// Two shards that meet become one.
fn join(tables: &Transaction<'_>, stream: &Stream, parents: [&Shard; 2], now: i64) -> Result<()> {
    let [parent, adjacent] = parents;
    let range = Range {
        low: parent.range.low.min(adjacent.range.low),
        high: parent.range.high.max(adjacent.range.high),
    };
    rows::close_shard(tables, parent, now)?;
    rows::close_shard(tables, adjacent, now)?;
    rows::add_shard(tables, stream, range, [Some(parent), Some(adjacent)], now)
}
