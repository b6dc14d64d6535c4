//! Which on-failure messages are believed.
//!
//! Separate because it is the whole of the rule, and needs no service to be judged: whoever may
//! send to the queue or topic that carries these messages could otherwise have any stream read,
//! any object fetched, and changes of any key made. So a message is believed only about the
//! streams that a setting names, only where it is about this function, and its records are taken
//! from nowhere but those streams and objects in the buckets that a setting names. AWS puts a
//! payload only into objects; anywhere else it was written by somebody else.
//!
//! What it gives up: it is not known who wrote an object. Who may write into the bucket is
//! believed, so only the mappings' roles should.

use crate::{
    event::Record,
    record::Source,
    recovery::notice::{Notice, Object},
};

/// What a function takes in of on-failure messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    function: String,
    any_alias: bool,
    streams: Vec<String>,
    buckets: Vec<Bucket>,
}

/// A bucket that on-failure objects are fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// The account it must belong to: names of deleted buckets can be taken by anybody.
    pub owner: String,
}

impl Trust {
    /// Believes messages about these streams and of the function of this name. A table's ARN
    /// stands for all of its streams, a data stream's for its consumers too.
    #[must_use]
    pub fn new(function: impl Into<String>, streams: Vec<String>, buckets: Vec<Bucket>) -> Self {
        Self { function: function.into(), any_alias: false, streams, buckets }
    }

    /// Believes messages of every alias of the function, because a setting names the consumer.
    #[must_use]
    pub fn of_any_alias(self, any_alias: bool) -> Self {
        Self { any_alias, ..self }
    }

    /// Whether a bucket is one of those that objects are fetched from.
    pub(super) fn has_bucket(&self, name: &str) -> bool {
        self.buckets.iter().any(|bucket| bucket.name == name)
    }

    /// The account that the bucket of an object has to belong to.
    pub(super) fn owner(&self, object: &Object) -> Result<&str, Refused> {
        let bucket = self.buckets.iter().find(|bucket| bucket.name == object.bucket);
        let bucket = bucket.ok_or_else(|| Refused::OtherBucket { found: shown(&object.bucket) })?;
        Ok(&bucket.owner)
    }

    /// Judges a document. `invoked_arn` is what the function was invoked by, where that is
    /// known: another alias is another consumer of the stream, another version is not.
    pub(super) fn check(
        &self,
        notice: &Notice,
        (is_object, invoked_arn): (bool, Option<&str>),
    ) -> Result<(), Refused> {
        let service = match notice.source {
            Source::DynamoDb => "dynamodb",
            Source::Kinesis => "kinesis",
            Source::Sqs => "sqs",
        };
        // The Region that is asked is part of what was compared here.
        let is_known = notice.stream_arn.split(':').nth(2) == Some(service)
            && self.streams.iter().any(|stream| covers(stream, &notice.stream_arn));
        if !is_known {
            return Err(Refused::OtherStream { found: shown(&notice.stream_arn) });
        }
        if !self.is_own(&notice.function_arn, invoked_arn) {
            let (found, function) = (shown(&notice.function_arn), self.function.clone());
            return Err(Refused::OtherFunction { found, function });
        }
        if notice.payload.is_some() && !is_object {
            return Err(Refused::PayloadOutsideBucket);
        }
        Ok(())
    }

    fn is_own(&self, function_arn: &str, invoked_arn: Option<&str>) -> bool {
        let Some(found) = FunctionArn::read(function_arn) else { return false };
        if found.name != self.function {
            return false;
        }
        let invoked = invoked_arn.and_then(FunctionArn::read);
        invoked.is_none_or(|own| {
            own.place == found.place && (self.any_alias || own.alias == found.alias)
        })
    }
}

/// Whether the records of a payload are the notice's: all of its stream, and as many as it says.
pub(super) fn check_payload(notice: &Notice, records: &[Record<'_>]) -> Result<(), Refused> {
    let is_of_stream = |record: &Record<'_>| {
        let arn = record.stream_arn().unwrap_or_default();
        record.source() == notice.source
            && without_consumer(arn) == without_consumer(&notice.stream_arn)
    };
    if !records.iter().all(is_of_stream) {
        return Err(Refused::PayloadOfOtherStream);
    }
    // The mapping counts an aggregate as one.
    let delivered = records.iter().filter(|record| record.is_first_of_element());
    let (found, expected) = (delivered.count() as u64, notice.batch_size);
    if found < expected { Err(Refused::PayloadNotWhole { found, expected }) } else { Ok(()) }
}

/// Whether an ARN in a message is the configured stream's: itself, a stream of the configured
/// table, or a consumer of the configured data stream.
fn covers(configured: &str, found: &str) -> bool {
    let rest = found.strip_prefix(configured);
    rest.is_some_and(|rest| {
        rest.is_empty() || ["/stream/", "/consumer/"].iter().any(|it| rest.starts_with(it))
    })
}

fn without_consumer(stream_arn: &str) -> &str {
    stream_arn.split("/consumer/").next().unwrap_or_default()
}

/// `arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME[:ALIAS]`; a version is left out.
#[derive(Debug, PartialEq, Eq)]
struct FunctionArn<'a> {
    place: &'a str,
    name: &'a str,
    alias: Option<&'a str>,
}

impl<'a> FunctionArn<'a> {
    fn read(arn: &'a str) -> Option<Self> {
        let (place, name) = arn.split_once(":function:")?;
        let is_place = place.starts_with("arn:") && place.split(':').nth(2) == Some("lambda");
        let (name, qualifier) = name.split_once(':').unwrap_or((name, "$LATEST"));
        // An alias is never a number. Source: `Name` of `CreateAlias` in the Lambda API reference.
        let is_version =
            qualifier == "$LATEST" || qualifier.bytes().all(|byte| byte.is_ascii_digit());
        let alias = (!is_version).then_some(qualifier);
        is_place.then_some(Self { place, name, alias })
    }
}

/// A name from a message, for an error: only what looks like one is shown.
fn shown(found: &str) -> String {
    let is_name = |text: &&str| {
        (1..=300).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/._-$".contains(&byte))
    };
    Some(found).filter(is_name).map_or_else(|| "another".to_owned(), |name| format!("`{name}`"))
}

/// An on-failure message is not believed, so its records are not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Nobody has said which streams are to be rescued.
    #[error(
        "rescue is off: set CHANGEFOLD_RESCUE_STREAMS to the ARNs of the streams whose records \
         this function takes back, or send on-failure messages elsewhere"
    )]
    Off,
    #[error(
        "it is about {found}, which is none of CHANGEFOLD_RESCUE_STREAMS: add the stream there \
         if its records are this function's"
    )]
    OtherStream { found: String },
    #[error(
        "it is of {found}, and this is `{function}`: on-failure messages go to the function and \
         the alias that they are of"
    )]
    OtherFunction { found: String, function: String },
    #[error(
        "its object is in {found}, which is none of CHANGEFOLD_RESCUE_BUCKETS: add the bucket \
         there if mappings of this function write to it"
    )]
    OtherBucket { found: String },
    #[error(
        "it has a payload, which AWS writes only into the objects of a bucket: notify the \
         function of the object instead"
    )]
    PayloadOutsideBucket,
    #[error("its payload has records of another stream")]
    PayloadOfOtherStream,
    #[error("its payload has {found} records of {expected}")]
    PayloadNotWhole { found: u64, expected: u64 },
}

impl Refused {
    /// Stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Off => "RescueOff",
            Self::OtherStream { .. } => "NoticeOfOtherStream",
            Self::OtherFunction { .. } => "NoticeOfOtherFunction",
            Self::OtherBucket { .. } => "ObjectOfOtherBucket",
            Self::PayloadOutsideBucket => "PayloadOutsideBucket",
            Self::PayloadOfOtherStream => "PayloadOfOtherStream",
            Self::PayloadNotWhole { .. } => "PayloadNotWhole",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event;

    const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
    const CLICKS: &str = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks";
    const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:shop";

    fn trust() -> Trust {
        let bucket = Bucket { name: "given-up".to_owned(), owner: "123456789012".to_owned() };
        Trust::new("shop", vec![TABLE.to_owned(), CLICKS.to_owned()], vec![bucket])
    }

    fn notice(kind: &str, stream: &str, function: &str) -> Notice {
        let document = serde_json::json!({
            "requestContext": {"functionArn": function, "condition": "RetryAttemptsExhausted"},
            kind: {"shardId": "s", "startSequenceNumber": "1", "endSequenceNumber": "2",
                   "batchSize": 2, "streamArn": stream},
        });
        Notice::read(&document.to_string()).unwrap()
    }

    #[track_caller]
    fn check(stream: &str, function: &str, invoked: Option<&str>, code: Option<&str>) {
        let service = stream.split(':').nth(2);
        let kind =
            if service == Some("kinesis") { "KinesisBatchInfo" } else { "DDBStreamBatchInfo" };
        let judged = trust().check(&notice(kind, stream, function), (false, invoked));
        assert_eq!(judged.as_ref().err().map(Refused::code), code, "{stream} {function}");
    }

    #[test]
    fn a_notice_is_believed_about_configured_streams_only() {
        let label = "/stream/2026-09-17T12:50:51.000";
        check(&format!("{TABLE}{label}"), FUNCTION, None, None);
        check(CLICKS, FUNCTION, None, None);
        check(&format!("{CLICKS}/consumer/c:1"), FUNCTION, None, None);
        for other in [
            &format!("{TABLE}-of-another{label}"),
            &format!("{TABLE}/index/i"),
            &format!("{CLICKS}-2"),
            // Another account's, another Region's, and none at all.
            &TABLE.replace("123456789012", "210987654321"),
            &TABLE.replace("eu-west-1", "us-east-1"),
            "orders",
        ] {
            check(other, FUNCTION, None, Some("NoticeOfOtherStream"));
        }
        let disguised = notice("KinesisBatchInfo", TABLE, FUNCTION);
        let judged = trust().check(&disguised, (false, None));
        assert_eq!(judged.map_err(|it| it.code()), Err("NoticeOfOtherStream"));
    }

    #[test]
    fn a_notice_is_believed_of_this_function_and_its_alias_only() {
        let of = |qualifier: &str| format!("{FUNCTION}{qualifier}");
        for fine in ["", ":$LATEST", ":17", ":live"] {
            check(CLICKS, &of(fine), None, None);
        }
        // A version is no other consumer, an alias is.
        check(CLICKS, &of(":17"), Some(&of("")), None);
        check(CLICKS, &of(":live"), Some(&of(":live")), None);
        let other = Some("NoticeOfOtherFunction");
        check(CLICKS, &of(":live"), Some(&of(":blue")), other);
        check(CLICKS, &of(":live"), Some(&of("")), other);
        check(CLICKS, &of("2"), None, other);
        check(CLICKS, &FUNCTION.replace("eu-west-1", "us-east-1"), Some(FUNCTION), other);
        check(CLICKS, "shop", None, other);
        check(CLICKS, "", None, other);
    }

    #[test]
    fn a_payload_is_believed_out_of_a_configured_bucket_and_of_its_stream() {
        let mut notice = notice("KinesisBatchInfo", CLICKS, FUNCTION);
        notice.payload = Some("{}".to_owned());
        let judged = |is_object| trust().check(&notice, (is_object, None)).map_err(|it| it.code());
        assert_eq!((judged(false), judged(true)), (Err("PayloadOutsideBucket"), Ok(())));
        let object = |bucket: &str| Object {
            bucket: bucket.to_owned(),
            key: "aws/lambda/k".to_owned(),
            version_id: None,
        };
        assert_eq!(trust().owner(&object("given-up")), Ok("123456789012"));
        assert_eq!(
            trust().owner(&object("another's")).map_err(|it| it.code()),
            Err("ObjectOfOtherBucket")
        );
        let check = |arns: &[&str], code| {
            let record = |arn: &&str| {
                serde_json::json!({"eventSource": "aws:kinesis", "eventSourceARN": arn,
                                   "kinesis": {"sequenceNumber": "1"}})
            };
            let records: Vec<_> = arns.iter().map(record).collect();
            let event = serde_json::json!({ "Records": records }).to_string();
            let batch = event::parse(event.as_bytes());
            let judged = check_payload(&notice, batch.records().unwrap());
            assert_eq!(judged.err().map(|it| it.code()), code, "{arns:?}");
        };
        let consumer = format!("{CLICKS}/consumer/c:1");
        check(&[CLICKS, &consumer], None);
        check(&[CLICKS, TABLE], Some("PayloadOfOtherStream"));
        check(&[CLICKS], Some("PayloadNotWhole"));
    }

    #[test]
    fn a_name_is_shown_only_if_it_is_one() {
        assert_eq!(shown(CLICKS), format!("`{CLICKS}`"));
        for text in ["", "a b", "a\nb", &"a".repeat(301)] {
            assert_eq!(shown(text), "another");
        }
    }
}
