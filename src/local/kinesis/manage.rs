//! Streams are made, described, tagged and deleted.

use super::{
    ACCOUNT, Asked,
    error::{KinesisError, Result},
    hash,
    request::{
        self, AddTags, Create, Describe, ListStreams, ListTags, Mode, Named, RemoveTags, Retention,
        SetMode,
    },
    rows::{self, Stream},
    shards,
};
use rusqlite::{Transaction, params};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Hours that records are kept, unless told otherwise, and at most; AWS's limits.
const HOURS: i64 = 24;
const HOURS_MAX: i64 = 8_760;
/// What a stream begins with that scales by itself; on the desk it stays so.
const ON_DEMAND_SHARDS: i64 = 4;
const TAGS_MAX: usize = 50;

pub(super) fn create(
    tables: &Transaction<'_>,
    Asked { now, .. }: Asked<'_>,
    request: &Create<'_>,
) -> Result<String> {
    let name = request.stream.name()?;
    let mode = request.stream_mode_details.as_ref().map(known_mode).transpose()?;
    let mode = mode.unwrap_or("PROVISIONED");
    let count = match (mode, request.shard_count) {
        ("ON_DEMAND", Some(_)) => {
            let message = "Requests with StreamMode ON_DEMAND must not have a ShardCount.";
            return Err(KinesisError::validation(message));
        }
        ("ON_DEMAND", None) => ON_DEMAND_SHARDS,
        (_, count) => count.unwrap_or(1),
    };
    let count = u32::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
        KinesisError::constraint(count, "shardCount", "have value greater than or equal to 1")
    })?;
    shards::refuse_too_many(count as usize)?;
    if rows::stream(tables, name).is_ok() {
        let message = format!("Stream {name} under account {ACCOUNT} already exists.");
        return Err(KinesisError::in_use(message));
    }
    let tags = request.tags.clone().unwrap_or_default();
    tables.execute(
        "INSERT INTO streams (name, created, hours, mode, shards, tags, trimmed) \
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?2)",
        params![name, now, HOURS, mode, to_text(&tags)?],
    )?;
    let stream = rows::stream(tables, name)?;
    for range in hash::ranges(&hash::boundaries(count)) {
        rows::add_shard(tables, &stream, range, [None, None], now)?;
    }
    Ok(String::new())
}

fn known_mode(mode: &Mode) -> Result<&str> {
    match mode.stream_mode.as_str() {
        known @ ("PROVISIONED" | "ON_DEMAND") => Ok(known),
        other => Err(KinesisError::constraint(
            other,
            "streamModeDetails.streamMode",
            "satisfy enum value set: [PROVISIONED, ON_DEMAND]",
        )),
    }
}

pub(super) fn delete(tables: &Transaction<'_>, stream: &Named<'_>) -> Result<String> {
    rows::delete(tables, &rows::stream(tables, stream.name()?)?)?;
    Ok(String::new())
}

pub(super) fn set_mode(tables: &Transaction<'_>, request: &SetMode<'_>) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let mode = known_mode(&request.stream_mode_details)?;
    tables.execute("UPDATE streams SET mode = ?2 WHERE id = ?1", params![stream.id, mode])?;
    Ok(String::new())
}

fn common(asked: Asked<'_>, stream: &Stream) -> Map<String, Value> {
    let members = json!({
        "StreamName": stream.name,
        "StreamARN": rows::arn(asked.region, &stream.name),
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": { "StreamMode": stream.mode },
        "StreamCreationTimestamp": request::seconds(stream.created),
    });
    if let Value::Object(members) = members { members } else { Map::new() }
}

fn described(asked: Asked<'_>, stream: &Stream) -> Map<String, Value> {
    let mut members = common(asked, stream);
    members.insert("RetentionPeriodHours".to_owned(), stream.hours.into());
    members.insert("EnhancedMonitoring".to_owned(), json!([{ "ShardLevelMetrics": [] }]));
    members.insert("EncryptionType".to_owned(), "NONE".into());
    members
}

pub(super) fn describe(
    tables: &Transaction<'_>,
    asked: Asked<'_>,
    request: &Describe<'_>,
) -> Result<String> {
    let limit = request::within(request.limit.or(Some(100)), "limit", 1..=10_000)?;
    let stream = rows::stream(tables, request.stream.name()?)?;
    let mut listed = rows::shards(tables, &stream, asked.now)?;
    if let Some(start) = &request.exclusive_start_shard_id {
        let after = rows::shard_number(start);
        listed.retain(|shard| Some(shard.number) > after);
    }
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let mut members = described(asked, &stream);
    members.insert("Shards".to_owned(), listed.iter().map(shards::to_json).collect());
    members.insert("HasMoreShards".to_owned(), has_more.into());
    Ok(json!({ "StreamDescription": members }).to_string())
}

pub(super) fn summary(
    tables: &Transaction<'_>,
    asked: Asked<'_>,
    stream: &Named<'_>,
) -> Result<String> {
    let stream = rows::stream(tables, stream.name()?)?;
    let mut members = described(asked, &stream);
    let open = rows::open_shards(tables, &stream)?.len();
    members.insert("OpenShardCount".to_owned(), open.into());
    members.insert("ConsumerCount".to_owned(), 0.into());
    Ok(json!({ "StreamDescriptionSummary": members }).to_string())
}

pub(super) fn list(
    tables: &Transaction<'_>,
    asked: Asked<'_>,
    request: &ListStreams,
) -> Result<String> {
    let limit = request::within(request.limit.or(Some(100)), "limit", 1..=10_000)?;
    // A token of this listing is the last name; nothing else has to be kept for it.
    let after = request.next_token.as_ref().or(request.exclusive_start_stream_name.as_ref());
    let mut streams = rows::streams(tables, after.map_or("", String::as_str), limit + 1)?;
    let has_more = streams.len() > limit;
    streams.truncate(limit);
    let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
    let summaries: Vec<_> = streams.iter().map(|stream| common(asked, stream)).collect();
    let mut answer =
        json!({ "StreamNames": names, "HasMoreStreams": has_more, "StreamSummaries": summaries });
    if let (true, Some(last)) = (has_more, names.last()) {
        answer["NextToken"] = (*last).into();
    }
    Ok(answer.to_string())
}

pub(super) fn limits(tables: &Transaction<'_>) -> Result<String> {
    let number = |sql: &str| tables.query_row(sql, [], |row| row.get::<_, i64>(0));
    let open = number("SELECT count(*) FROM shards WHERE closed IS NULL")?;
    let on_demand = number("SELECT count(*) FROM streams WHERE mode = 'ON_DEMAND'")?;
    let answer = json!({
        "ShardLimit": shards::SHARDS_MAX,
        "OpenShardCount": open,
        "OnDemandStreamCount": on_demand,
        "OnDemandStreamCountLimit": 50,
    });
    Ok(answer.to_string())
}

pub(super) fn lengthen(tables: &Transaction<'_>, request: &Retention<'_>) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let wanted = request.retention_period_hours;
    if wanted > HOURS_MAX || wanted < stream.hours {
        return Err(KinesisError::argument(format!(
            "Requested retention period ({wanted} hours) for stream {} must be from its \
             current one ({} hours) to {HOURS_MAX} hours.",
            stream.name, stream.hours
        )));
    }
    keep(tables, &stream, wanted)
}

pub(super) fn shorten(tables: &Transaction<'_>, request: &Retention<'_>) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let wanted = request.retention_period_hours;
    if wanted < HOURS || wanted > stream.hours {
        return Err(KinesisError::argument(format!(
            "Requested retention period ({wanted} hours) for stream {} must be from {HOURS} \
             hours to its current one ({} hours).",
            stream.name, stream.hours
        )));
    }
    keep(tables, &stream, wanted)
}

fn keep(tables: &Transaction<'_>, stream: &Stream, hours: i64) -> Result<String> {
    tables.execute("UPDATE streams SET hours = ?2 WHERE id = ?1", [stream.id, hours])?;
    Ok(String::new())
}

fn tags_of(tables: &Transaction<'_>, stream: &Stream) -> Result<BTreeMap<String, String>> {
    let sql = "SELECT tags FROM streams WHERE id = ?1";
    let text: String = tables.query_row(sql, [stream.id], |row| row.get(0))?;
    serde_json::from_str(&text).map_err(|error| KinesisError::unreadable(&error))
}

fn to_text(tags: &BTreeMap<String, String>) -> Result<String> {
    if tags.len() > TAGS_MAX {
        let message = format!("A stream has at most {TAGS_MAX} tags.");
        return Err(KinesisError::argument(message));
    }
    serde_json::to_string(tags).map_err(|error| KinesisError::unreadable(&error))
}

fn set_tags(
    tables: &Transaction<'_>,
    stream: &Stream,
    tags: &BTreeMap<String, String>,
) -> Result<String> {
    let tags = to_text(tags)?;
    tables.execute("UPDATE streams SET tags = ?2 WHERE id = ?1", params![stream.id, tags])?;
    Ok(String::new())
}

pub(super) fn add_tags(tables: &Transaction<'_>, request: &AddTags<'_>) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let mut tags = tags_of(tables, &stream)?;
    tags.extend(request.tags.clone());
    set_tags(tables, &stream, &tags)
}

pub(super) fn remove_tags(tables: &Transaction<'_>, request: &RemoveTags<'_>) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let mut tags = tags_of(tables, &stream)?;
    tags.retain(|key, _| !request.tag_keys.contains(key));
    set_tags(tables, &stream, &tags)
}

pub(super) fn tags(tables: &Transaction<'_>, request: &ListTags<'_>) -> Result<String> {
    let stream = rows::stream(tables, request.stream.name()?)?;
    let limit = request::within(request.limit, "limit", 1..=50)?;
    let mut tags = tags_of(tables, &stream)?;
    if let Some(after) = &request.exclusive_start_tag_key {
        tags.retain(|key, _| key > after);
    }
    let has_more = tags.len() > limit;
    let listed = tags.iter().take(limit);
    let listed: Vec<_> = listed.map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(json!({ "Tags": listed, "HasMoreTags": has_more }).to_string())
}
