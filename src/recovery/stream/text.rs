//! Records of the two services as the JSON text that Lambda delivers for them.
//!
//! Separate because that text is a contract in both directions: `event` reads it, and a
//! redrive must not tell it from a delivery. Members stand in the order AWS writes them;
//! within an item, where AWS has no order, by name. `invokeIdentityArn` is there where the
//! reader knows as whom the function is invoked.

use aws_sdk_dynamodbstreams::types::{
    AttributeValue, Identity, OperationType, Record, StreamRecord, StreamViewType,
};
use aws_sdk_kinesis::types::EncryptionType;
use aws_smithy_types::{Blob, DateTime};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use std::collections::BTreeMap;

/// Where a record was read.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) stream_arn: &'a str,
    pub(super) shard_id: &'a str,
    pub(super) region: &'a str,
    /// The role that the function is invoked with, if it is known.
    pub(super) invoked_as: Option<&'a str>,
}

/// What a record has that has no text.
type Unknown = &'static str;

pub(super) fn kinesis(record: &aws_sdk_kinesis::types::Record, place: Place<'_>) -> String {
    let encryption = record.encryption_type.as_ref();
    json(&KinesisElement {
        kinesis: KinesisBody {
            schema_version: "1.0",
            partition_key: record.partition_key(),
            sequence_number: &record.sequence_number,
            data: base64(&record.data),
            arrival: record.approximate_arrival_timestamp.as_ref().map(DateTime::as_secs_f64),
            encryption_type: encryption
                .filter(|kind| **kind != EncryptionType::None)
                .map(EncryptionType::as_str),
        },
        event_source: "aws:kinesis",
        event_version: "1.0",
        event_id: format!("{}:{}", place.shard_id, record.sequence_number),
        event_name: "aws:kinesis:record",
        invoked_as: place.invoked_as,
        region: place.region,
        stream_arn: place.stream_arn,
    })
}

pub(super) fn dynamodb(record: &Record, place: Place<'_>) -> Result<String, Unknown> {
    let change = record.dynamodb().ok_or("a record without `dynamodb`")?;
    Ok(json(&DynamoDbElement {
        event_id: record.event_id(),
        event_name: record.event_name().map(OperationType::as_str),
        event_version: record.event_version().unwrap_or("1.1"),
        event_source: "aws:dynamodb",
        region: record.aws_region().unwrap_or(place.region),
        dynamodb: DynamoDbBody::new(change)?,
        stream_arn: place.stream_arn,
        user_identity: record.user_identity().map(UserIdentity::from),
    }))
}

fn json(element: &impl Serialize) -> String {
    serde_json::to_string(element).expect("text and numbers serialise")
}

fn base64(bytes: &Blob) -> String {
    base64_simd::STANDARD.encode_to_string(bytes.as_ref())
}

#[derive(Serialize)]
struct KinesisElement<'a> {
    kinesis: KinesisBody<'a>,
    #[serde(rename = "eventSource")]
    event_source: &'static str,
    #[serde(rename = "eventVersion")]
    event_version: &'static str,
    #[serde(rename = "eventID")]
    event_id: String,
    #[serde(rename = "eventName")]
    event_name: &'static str,
    #[serde(rename = "invokeIdentityArn", skip_serializing_if = "Option::is_none")]
    invoked_as: Option<&'a str>,
    #[serde(rename = "awsRegion")]
    region: &'a str,
    #[serde(rename = "eventSourceARN")]
    stream_arn: &'a str,
}

#[derive(Serialize)]
struct KinesisBody<'a> {
    #[serde(rename = "kinesisSchemaVersion")]
    schema_version: &'static str,
    #[serde(rename = "partitionKey", skip_serializing_if = "Option::is_none")]
    partition_key: Option<&'a str>,
    #[serde(rename = "sequenceNumber")]
    sequence_number: &'a str,
    data: String,
    #[serde(rename = "approximateArrivalTimestamp", skip_serializing_if = "Option::is_none")]
    arrival: Option<f64>,
    #[serde(rename = "encryptionType", skip_serializing_if = "Option::is_none")]
    encryption_type: Option<&'a str>,
}

#[derive(Serialize)]
struct DynamoDbElement<'a> {
    #[serde(rename = "eventID", skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(rename = "eventName", skip_serializing_if = "Option::is_none")]
    event_name: Option<&'a str>,
    #[serde(rename = "eventVersion")]
    event_version: &'a str,
    #[serde(rename = "eventSource")]
    event_source: &'static str,
    #[serde(rename = "awsRegion")]
    region: &'a str,
    dynamodb: DynamoDbBody<'a>,
    #[serde(rename = "eventSourceARN")]
    stream_arn: &'a str,
    #[serde(rename = "userIdentity", skip_serializing_if = "Option::is_none")]
    user_identity: Option<UserIdentity<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DynamoDbBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    approximate_creation_date_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_image: Option<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_image: Option<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_view_type: Option<&'a str>,
}

impl<'a> DynamoDbBody<'a> {
    fn new(change: &'a StreamRecord) -> Result<Self, Unknown> {
        Ok(Self {
            approximate_creation_date_time: change
                .approximate_creation_date_time()
                .map(DateTime::as_secs_f64),
            keys: change.keys().map(item).transpose()?,
            new_image: change.new_image().map(item).transpose()?,
            old_image: change.old_image().map(item).transpose()?,
            sequence_number: change.sequence_number(),
            size_bytes: change.size_bytes(),
            stream_view_type: change.stream_view_type().map(StreamViewType::as_str),
        })
    }
}

/// The service writes `Type` and `PrincipalId`; Lambda does not.
#[derive(Serialize)]
struct UserIdentity<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(rename = "principalId", skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
}

impl<'a> From<&'a Identity> for UserIdentity<'a> {
    fn from(identity: &'a Identity) -> Self {
        Self { kind: identity.r#type(), principal: identity.principal_id() }
    }
}

type Item<'a> = BTreeMap<&'a str, Attribute<'a>>;

/// An attribute value under the name of its type.
enum Attribute<'a> {
    Text(&'static str, &'a str),
    Texts(&'static str, &'a [String]),
    Binary(String),
    BinarySet(Vec<String>),
    Flag(&'static str, bool),
    List(Vec<Attribute<'a>>),
    Map(Item<'a>),
}

impl Serialize for Attribute<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tagged = serializer.serialize_map(Some(1))?;
        match self {
            Self::Text(kind, text) => tagged.serialize_entry(kind, text)?,
            Self::Texts(kind, texts) => tagged.serialize_entry(kind, texts)?,
            Self::Binary(bytes) => tagged.serialize_entry("B", bytes)?,
            Self::BinarySet(set) => tagged.serialize_entry("BS", set)?,
            Self::Flag(kind, flag) => tagged.serialize_entry(kind, flag)?,
            Self::List(values) => tagged.serialize_entry("L", values)?,
            Self::Map(members) => tagged.serialize_entry("M", members)?,
        }
        tagged.end()
    }
}

#[expect(clippy::disallowed_types, reason = "the SDK's own type; sorted here")]
fn item(
    attributes: &std::collections::HashMap<String, AttributeValue>,
) -> Result<Item<'_>, Unknown> {
    attributes.iter().map(|(name, value)| Ok((name.as_str(), attribute(value)?))).collect()
}

fn attribute(value: &AttributeValue) -> Result<Attribute<'_>, Unknown> {
    Ok(match value {
        AttributeValue::S(text) => Attribute::Text("S", text),
        AttributeValue::N(digits) => Attribute::Text("N", digits),
        AttributeValue::Ss(texts) => Attribute::Texts("SS", texts),
        AttributeValue::Ns(numbers) => Attribute::Texts("NS", numbers),
        AttributeValue::B(bytes) => Attribute::Binary(base64(bytes)),
        AttributeValue::Bs(set) => Attribute::BinarySet(set.iter().map(base64).collect()),
        AttributeValue::Bool(flag) => Attribute::Flag("BOOL", *flag),
        AttributeValue::Null(flag) => Attribute::Flag("NULL", *flag),
        AttributeValue::L(values) => {
            Attribute::List(values.iter().map(attribute).collect::<Result<_, _>>()?)
        }
        AttributeValue::M(members) => Attribute::Map(item(members)?),
        _ => return Err("an attribute of a type not known here; update changefold"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        stream_arn: "arn:stream",
        shard_id: "shardId-1",
        region: "eu-west-1",
        invoked_as: None,
    };

    #[test]
    fn a_kinesis_record_reads_as_lambda_writes_it() {
        let record = |encryption| {
            aws_sdk_kinesis::types::Record::builder()
                .sequence_number("4967")
                .approximate_arrival_timestamp(DateTime::from_secs_f64(1_545_084_650.987))
                .data(Blob::new("Hello"))
                .partition_key("k")
                .encryption_type(encryption)
                .build()
                .unwrap()
        };
        let expected = concat!(
            r#"{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"k","sequenceNumber":"4967","#,
            r#""data":"SGVsbG8=","approximateArrivalTimestamp":1545084650.987},"#,
            r#""eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-1:4967","#,
            r#""eventName":"aws:kinesis:record","awsRegion":"eu-west-1","eventSourceARN":"arn:stream"}"#,
        );
        assert_eq!(kinesis(&record(EncryptionType::None), PLACE), expected);
        let encrypted = expected.replace(".987}", r#".987,"encryptionType":"KMS"}"#);
        assert_eq!(kinesis(&record(EncryptionType::Kms), PLACE), encrypted);
    }

    #[test]
    fn a_change_reads_as_lambda_writes_it() {
        let members = [
            ("b", AttributeValue::B(Blob::new("foobar"))),
            ("bs", AttributeValue::Bs(vec![Blob::new([255])])),
            ("l", AttributeValue::L(vec![AttributeValue::Bool(true), AttributeValue::Null(true)])),
            ("n", AttributeValue::N("1.50".to_owned())),
            ("ns", AttributeValue::Ns(vec!["1".to_owned(), "2".to_owned()])),
            ("ss", AttributeValue::Ss(vec!["a".to_owned()])),
        ];
        let map = members.map(|(name, value)| (name.to_owned(), value)).into();
        let change = StreamRecord::builder()
            .approximate_creation_date_time(DateTime::from_secs(1_789_649_451))
            .keys("id", AttributeValue::S("ä\"".to_owned()))
            .old_image("m", AttributeValue::M(map))
            .sequence_number("9700")
            .size_bytes(32)
            .stream_view_type(StreamViewType::OldImage);
        let ttl = Identity::builder().r#type("Service").principal_id("dynamodb.amazonaws.com");
        let record = Record::builder()
            .event_id("e")
            .event_name(OperationType::Remove)
            .dynamodb(change.build())
            .user_identity(ttl.build())
            .build();
        assert_eq!(
            dynamodb(&record, PLACE).unwrap(),
            concat!(
                r#"{"eventID":"e","eventName":"REMOVE","eventVersion":"1.1","eventSource":"aws:dynamodb","#,
                r#""awsRegion":"eu-west-1","dynamodb":{"ApproximateCreationDateTime":1789649451.0,"#,
                r#""Keys":{"id":{"S":"ä\""}},"OldImage":{"m":{"M":{"b":{"B":"Zm9vYmFy"},"bs":{"BS":["/w=="]},"#,
                r#""l":{"L":[{"BOOL":true},{"NULL":true}]},"n":{"N":"1.50"},"ns":{"NS":["1","2"]},"#,
                r#""ss":{"SS":["a"]}}}},"SequenceNumber":"9700","SizeBytes":32,"StreamViewType":"OLD_IMAGE"},"#,
                r#""eventSourceARN":"arn:stream","#,
                r#""userIdentity":{"type":"Service","principalId":"dynamodb.amazonaws.com"}}"#,
            )
        );
        let unknown = Record::builder().event_id("e").build();
        assert_eq!(dynamodb(&unknown, PLACE), Err("a record without `dynamodb`"));
    }
}
