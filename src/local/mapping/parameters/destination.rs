//! The on-failure destination: who hears of records that the mapping gave up.
//!
//! Separate because it comes in three writings (an ARN, AWS's nested object, SAM's object
//! with a `Type`), of which all but the ARN's service is irrelevant to the mapping.

use super::{ON_FAILURE, ParameterError, value::invalid};
use serde_json::Value;

const OF_STREAMS: &str = "the ARN of a standard SQS queue, a standard SNS topic or an S3 bucket";

/// Source: Lambda developer guide, "Using Kafka topics as on-failure destinations".
const OF_KAFKA: &str = "the ARN of a standard SQS queue, a standard SNS topic or an S3 bucket: a \
                        Kafka topic is a destination only of mappings whose source is that Kafka \
                        cluster; name a queue, topic or bucket, and write to Kafka behind it";

/// Who hears of discarded records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// ARN of a standard queue: metadata only.
    Sqs(String),
    /// ARN of a standard topic: metadata only.
    Sns(String),
    /// ARN of a bucket: metadata and the records themselves.
    S3(String),
}

impl Destination {
    /// The ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        match self {
            Self::Sqs(arn) | Self::Sns(arn) | Self::S3(arn) => arn,
        }
    }

    /// Tells the kind from the ARN's service.
    ///
    /// # Errors
    /// The text is no ARN of a queue, topic or bucket, or names a FIFO queue or topic, which
    /// AWS accepts and then fails to deliver to.
    pub fn from_arn(arn: &str) -> Result<Self, ParameterError> {
        let invalid = |expected| ParameterError::Invalid {
            name: ON_FAILURE.to_owned(),
            found: arn.to_owned(),
            expected,
        };
        let path_is_fifo = arn.rsplit('.').next().is_some_and(|end| end == "fifo");
        let mut parts = arn.splitn(6, ':');
        let (scheme, service) = (parts.next(), parts.nth(1));
        match (scheme, service) {
            (Some("arn"), Some("sqs")) if !path_is_fifo => Ok(Self::Sqs(arn.to_owned())),
            (Some("arn"), Some("sns")) if !path_is_fifo => Ok(Self::Sns(arn.to_owned())),
            (Some("arn"), Some("s3")) => Ok(Self::S3(arn.to_owned())),
            (Some("kafka"), _) | (Some("arn"), Some("kafka")) => Err(invalid(OF_KAFKA)),
            _ => Err(invalid(OF_STREAMS)),
        }
    }
}

pub(super) fn config(name: &str, value: &Value) -> Result<Option<Destination>, ParameterError> {
    let expected = "{\"OnFailure\":{\"Destination\":\"arn:…\"}}";
    let parsed: Value;
    let value = match value {
        Value::String(text) => {
            parsed = serde_json::from_str(text).map_err(|_| invalid(name, value, expected))?;
            &parsed
        }
        _ => value,
    };
    let members = match value {
        Value::Null => return Ok(None),
        Value::Object(members) => members,
        _ => return Err(invalid(name, value, expected)),
    };
    if let Some(other) = members.keys().find(|key| *key != "OnFailure") {
        return Err(ParameterError::Invalid {
            name: format!("{name}.{other}"),
            found: "set".to_owned(),
            expected: "only OnFailure, as AWS takes no other destination for a stream",
        });
    }
    match members.get("OnFailure") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(on_failure)) => {
            if let Some(other) = on_failure.keys().find(|key| !is_on_failure_member(key)) {
                return Err(ParameterError::Unknown {
                    name: format!("{name}.OnFailure.{other}"),
                    suggestion: Some(ON_FAILURE),
                });
            }
            let found =
                on_failure.get("Destination").map_or(Ok(None), |arn| single(ON_FAILURE, arn))?;
            agree(found, on_failure.get("Type"))
        }
        Some(_) => Err(invalid(name, value, expected)),
    }
}

/// `Type` is SAM's own member; CloudFormation has only the ARN.
fn is_on_failure_member(key: &str) -> bool {
    key == "Destination" || key == "Type"
}

fn agree(
    found: Option<Destination>,
    kind: Option<&Value>,
) -> Result<Option<Destination>, ParameterError> {
    let (Some(destination), Some(kind)) = (&found, kind) else { return Ok(found) };
    let service = match destination {
        Destination::Sqs(_) => "SQS",
        Destination::Sns(_) => "SNS",
        Destination::S3(_) => "S3",
    };
    if kind.as_str() == Some(service) {
        return Ok(found);
    }
    Err(invalid(
        "DestinationConfig.OnFailure.Type",
        kind,
        "the kind that the destination's ARN has",
    ))
}

pub(super) fn single(name: &str, value: &Value) -> Result<Option<Destination>, ParameterError> {
    match value {
        Value::Null => Ok(None),
        // AWS removes a destination this way.
        Value::String(arn) if arn.is_empty() => Ok(None),
        Value::String(arn) => Destination::from_arn(arn).map(Some),
        _ => Err(invalid(name, value, "an ARN")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Parameters, Destination};
    use serde_json::{Value, json};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a case reads better with a value")]
    fn check(value: &Value, expected: Option<Destination>) {
        let mut parameters = Parameters::default();
        parameters.set("DestinationConfig", value).unwrap();
        assert_eq!(parameters.on_failure, expected, "{value}");
    }

    #[track_caller]
    fn check_refused(value: &Value) -> String {
        Parameters::default().set("DestinationConfig", value).unwrap_err().to_string()
    }

    #[test]
    fn the_kind_follows_from_the_arn() {
        let queue = "arn:aws:sqs:eu-west-1:123456789012:failed";
        let topic = "arn:aws:sns:eu-west-1:123456789012:failed";
        let bucket = "arn:aws:s3:::failed";
        let on_failure = |arn: &str| json!({"OnFailure": {"Destination": arn}});
        check(&on_failure(queue), Some(Destination::Sqs(queue.to_owned())));
        check(&on_failure(topic), Some(Destination::Sns(topic.to_owned())));
        check(&on_failure(bucket), Some(Destination::S3(bucket.to_owned())));
        let as_text = json!(on_failure(bucket).to_string());
        check(&as_text, Some(Destination::S3(bucket.to_owned())));
    }

    // R22
    #[test]
    fn nothing_and_an_empty_text_mean_no_destination() {
        for value in [json!({}), json!({"OnFailure": {}}), json!(null)] {
            check(&value, None);
        }
        check(&json!({"OnFailure": {"Destination": ""}}), None);
    }

    // R44
    #[test]
    fn a_kafka_topic_is_refused_by_name_with_what_aws_says_and_what_helps() {
        let cluster = "arn:aws:kafka:eu-west-1:123456789012:cluster/c/1";
        for topic in ["kafka://failed", cluster] {
            let refused = check_refused(&json!({"OnFailure": {"Destination": topic}}));
            assert!(refused.contains(topic), "{refused}");
            for words in ["only of mappings whose source is that Kafka", "name a queue, topic or"] {
                assert!(refused.contains(words), "{refused}");
            }
        }
        let queue = check_refused(&json!({"OnFailure": {"Destination": "failed"}}));
        assert!(!queue.contains("Kafka"), "{queue}");
    }

    #[test]
    fn a_destination_that_would_never_hear_of_it_is_refused() {
        let fifo = "arn:aws:sqs:eu-west-1:123456789012:failed.fifo";
        check_refused(&json!({"OnFailure": {"Destination": fifo}}));
        check_refused(&json!({"OnFailure": {"Destination": "arn:aws:lambda:r:1:function:f"}}));
        check_refused(&json!("not json"));
        let success = check_refused(&json!({"OnSuccess": {"Destination": fifo}}));
        assert!(success.contains("DestinationConfig.OnSuccess"), "{success}");
        let bucket = "arn:aws:s3:::failed";
        let kind = check_refused(&json!({"OnFailure": {"Type": "SQS", "Destination": bucket}}));
        assert!(kind.contains("DestinationConfig.OnFailure.Type"), "{kind}");
    }
}
