//! The requests, as AWS's model of the API has them.
//!
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_Operations.html>. Members that
//! change nothing on the desk are left out, and so passed over.

use super::error::{KinesisError, Result};
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap};

/// A stream, by name or ARN.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Named<'a> {
    #[serde(rename = "StreamName", borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(rename = "StreamARN", borrow)]
    arn: Option<Cow<'a, str>>,
    /// As the operations on any resource call it.
    #[serde(rename = "ResourceARN", borrow)]
    resource: Option<Cow<'a, str>>,
}

impl Named<'_> {
    /// The stream's name.
    pub(super) fn name(&self) -> Result<&str> {
        let arn = self.arn.as_deref().or(self.resource.as_deref());
        let in_arn = arn.map(name_in).transpose()?;
        match (self.name.as_deref(), in_arn) {
            (Some(name), Some(in_arn)) if name != in_arn => Err(KinesisError::argument(format!(
                "StreamName {name} and StreamARN name different streams; leave out one"
            ))),
            (Some(name), _) | (None, Some(name)) => checked(name),
            (None, None) => {
                Err(KinesisError::argument("Either StreamName or StreamARN must be specified."))
            }
        }
    }

    /// Whether it says which stream at all.
    pub(super) fn is_there(&self) -> bool {
        self.name.is_some() || self.arn.is_some()
    }
}

/// `arn:aws:kinesis:REGION:ACCOUNT:stream/NAME`: any Region's and account's, as the desk has one.
fn name_in(arn: &str) -> Result<&str> {
    let mut parts = arn.splitn(6, ':');
    let service = parts.nth(2);
    let name = parts.nth(2).and_then(|resource| resource.strip_prefix("stream/"));
    name.filter(|_| arn.starts_with("arn:") && service == Some("kinesis"))
        .ok_or_else(|| KinesisError::constraint(arn, "streamARN", "be the ARN of a stream"))
}

fn checked(name: &str) -> Result<&str> {
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"_.-".contains(&it);
    if !(1..=128).contains(&name.len()) || !name.bytes().all(is_plain) {
        let must = "satisfy regular expression pattern: [a-zA-Z0-9_.-]+ \
                    and have 1 to 128 characters";
        return Err(KinesisError::constraint(name, "streamName", must));
    }
    Ok(name)
}

/// Checks a number that a request may leave out.
pub(super) fn within(
    value: Option<i64>,
    member: &str,
    range: std::ops::RangeInclusive<i64>,
) -> Result<usize> {
    let value = value.unwrap_or(*range.end());
    if value < *range.start() {
        let must = format!("have value greater than or equal to {}", range.start());
        return Err(KinesisError::constraint(value, member, &must));
    }
    if value > *range.end() {
        let must = format!("have value less than or equal to {}", range.end());
        return Err(KinesisError::constraint(value, member, &must));
    }
    usize::try_from(value).map_err(|_| KinesisError::constraint(value, member, "be a size"))
}

/// Seconds of a request, which may have a fraction, in milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "saturates, and no moment is out there")]
pub(super) fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// A moment in the seconds of an answer.
#[expect(clippy::cast_precision_loss, reason = "milliseconds fit until the year 287,396")]
pub(super) fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Create<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) shard_count: Option<i64>,
    pub(super) stream_mode_details: Option<Mode>,
    pub(super) tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Mode {
    pub(super) stream_mode: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SetMode<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) stream_mode_details: Mode,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Describe<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) limit: Option<i64>,
    pub(super) exclusive_start_shard_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreams {
    pub(super) limit: Option<i64>,
    pub(super) exclusive_start_stream_name: Option<String>,
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Retention<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) retention_period_hours: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AddTags<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RemoveTags<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) tag_keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTags<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) limit: Option<i64>,
    pub(super) exclusive_start_tag_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListShards<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) exclusive_start_shard_id: Option<String>,
    pub(super) shard_filter: Option<ShardFilter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardFilter {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) shard_id: Option<String>,
    pub(super) timestamp: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Split<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    #[serde(rename = "ShardToSplit")]
    pub(super) shard: String,
    pub(super) new_starting_hash_key: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Merge<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    #[serde(rename = "ShardToMerge")]
    pub(super) shard: String,
    #[serde(rename = "AdjacentShardToMerge")]
    pub(super) adjacent: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Scale<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) target_shard_count: i64,
    pub(super) scaling_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    pub(super) data: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) partition_key: Cow<'a, str>,
    pub(super) explicit_hash_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecord<'a> {
    #[serde(rename = "StreamName")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(rename = "StreamARN")]
    pub(super) arn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) data: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) partition_key: Cow<'a, str>,
    pub(super) explicit_hash_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecords<'a> {
    #[serde(rename = "StreamName")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(rename = "StreamARN")]
    pub(super) arn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) records: Vec<Entry<'a>>,
}

impl<'a> PutRecord<'a> {
    /// Whose record, and the record.
    pub(super) fn parts(self) -> (Named<'a>, Entry<'a>) {
        let Self { name, arn, data, partition_key, explicit_hash_key } = self;
        let stream = Named { name, arn, resource: None };
        (stream, Entry { data, partition_key, explicit_hash_key })
    }
}

impl<'a> PutRecords<'a> {
    /// Whose records, and the records.
    pub(super) fn parts(self) -> (Named<'a>, Vec<Entry<'a>>) {
        (Named { name: self.name, arn: self.arn, resource: None }, self.records)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetIterator<'a> {
    #[serde(flatten, borrow)]
    pub(super) stream: Named<'a>,
    pub(super) shard_id: String,
    pub(super) shard_iterator_type: String,
    pub(super) starting_sequence_number: Option<String>,
    pub(super) timestamp: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetRecords {
    pub(super) shard_iterator: String,
    pub(super) limit: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::Named;

    fn named(json: &str) -> Result<String, String> {
        let named: Named<'_> = serde_json::from_str(json).unwrap();
        named.name().map(str::to_owned).map_err(|error| error.to_string())
    }

    #[test]
    fn a_stream_has_a_name_or_an_arn() {
        let arn = r#""arn:aws:kinesis:eu-west-1:000000000000:stream/clicks""#;
        assert_eq!(named(r#"{"StreamName":"clicks"}"#).unwrap(), "clicks");
        assert_eq!(named(&format!(r#"{{"StreamARN":{arn}}}"#)).unwrap(), "clicks");
        assert_eq!(named(&format!(r#"{{"ResourceARN":{arn}}}"#)).unwrap(), "clicks");
        assert_eq!(
            named(&format!(r#"{{"StreamName":"clicks","StreamARN":{arn}}}"#)).unwrap(),
            "clicks"
        );
        for (json, code) in [
            (r"{}".to_owned(), "InvalidArgumentException"),
            (format!(r#"{{"StreamName":"orders","StreamARN":{arn}}}"#), "InvalidArgumentException"),
            (r#"{"StreamName":"a b"}"#.to_owned(), "ValidationException"),
            (r#"{"StreamName":""}"#.to_owned(), "ValidationException"),
            (r#"{"StreamARN":"clicks"}"#.to_owned(), "ValidationException"),
            (r#"{"StreamARN":"arn:aws:sqs:a:b:stream/x"}"#.to_owned(), "ValidationException"),
        ] {
            assert!(named(&json).unwrap_err().starts_with(code), "{json}: {:?}", named(&json));
        }
    }
}
