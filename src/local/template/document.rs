//! The template's text as a tree, with its intrinsic functions followed as far as needed.
//!
//! Separate because YAML's tags and CloudFormation's references have nothing to do with
//! event sources. A tag becomes its long form (`!Ref x` is `{"Ref": "x"}`), so both ways of
//! writing it are one from here on.

use serde_json::{Map, Value};

/// The Region of the desk, where nobody names another.
pub(in crate::local) const REGION: &str = "us-east-1";
/// The account of everything on the desk.
pub(in crate::local) const ACCOUNT: &str = "123456789012";

/// A template as a tree of JSON values.
#[derive(Debug, Clone)]
pub(super) struct Document(Value);

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, serde_norway::Error> {
        let mut yaml: serde_norway::Value = serde_norway::from_str(text)?;
        yaml.apply_merge()?;
        Ok(Self(to_json(yaml)))
    }

    pub(super) fn resources(&self) -> Option<&Map<String, Value>> {
        self.at(&["Resources"])?.as_object()
    }

    pub(super) fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(&self.0, |value, name| value.get(name))
    }

    /// The value, or the default of the template parameter it refers to.
    pub(super) fn resolve(&self, value: &Value) -> Value {
        let parameter = value.get("Ref").and_then(Value::as_str);
        parameter
            .and_then(|name| self.at(&["Parameters", name, "Default"]))
            .unwrap_or(value)
            .clone()
    }

    /// What a value points at: a logical id of this template, or the text as written.
    pub(super) fn target(&self, value: &Value) -> String {
        let resolved = self.resolve(value);
        logical_id(&resolved).or_else(|| text(&resolved)).unwrap_or_else(|| resolved.to_string())
    }

    /// A text with the template's parameters filled in by their defaults; other references stand
    /// for themselves.
    pub(super) fn filled(&self, value: &Value) -> Option<String> {
        let resolved = self.resolve(value);
        if let Some(text) = resolved.as_str() {
            return Some(text.to_owned());
        }
        let Some(text) = sub(&resolved) else { return logical_id(&resolved) };
        fill(text, |name| self.at(&["Parameters", name, "Default"]).and_then(Value::as_str))
    }

    /// An ARN of the kind that deploying the template would give this value.
    pub(super) fn arn(&self, value: &Value) -> Option<String> {
        let resolved = self.resolve(value);
        let Some(id) = logical_id(&resolved) else { return text(&resolved) };
        let kind = self.at(&["Resources", &id, "Type"])?.as_str()?;
        let arn = match kind {
            "AWS::SQS::Queue" if self.is_fifo(&id, "FifoQueue") => {
                here("sqs", format_args!("{id}.fifo"))
            }
            "AWS::SQS::Queue" => here("sqs", &id),
            "AWS::SNS::Topic" if self.is_fifo(&id, "FifoTopic") => {
                here("sns", format_args!("{id}.fifo"))
            }
            "AWS::SNS::Topic" => here("sns", &id),
            "AWS::S3::Bucket" => format!("arn:aws:s3:::{}", id.to_ascii_lowercase()),
            "AWS::DynamoDB::Table" | "AWS::DynamoDB::GlobalTable" => {
                here("dynamodb", format_args!("table/{id}/stream/1970-01-01T00:00:00.000"))
            }
            "AWS::Kinesis::Stream" | "AWS::Kinesis::StreamConsumer" => {
                here("kinesis", format_args!("stream/{id}"))
            }
            _ => return None,
        };
        Some(arn)
    }

    fn is_fifo(&self, id: &str, property: &str) -> bool {
        let flag = self.at(&["Resources", id, "Properties", property]);
        flag.is_some_and(|flag| flag == true || flag == "true")
    }

    /// A `DestinationConfig` whose destination is an ARN in text, whoever it refers to.
    ///
    /// A reference that leads out of the template gets its kind from SAM's `Type`.
    pub(super) fn with_destination_arn(&self, config: &Value) -> Value {
        let mut config = self.resolve(config);
        let Some(Value::Object(on_failure)) = config.get_mut("OnFailure") else { return config };
        let kind = on_failure.get("Type").and_then(Value::as_str).map(str::to_ascii_lowercase);
        if let Some(written) = on_failure.get_mut("Destination") {
            let outside = || {
                let id = logical_id(written)?;
                kind.map(|kind| here(&kind, &id))
            };
            if let Some(arn) = self.arn(written).or_else(outside) {
                *written = Value::String(arn);
            }
        }
        config
    }
}

/// The resource that `Ref` or `GetAtt` names.
fn logical_id(value: &Value) -> Option<String> {
    if let Some(name) = value.get("Ref").and_then(Value::as_str) {
        return Some(name.to_owned());
    }
    match value.get("Fn::GetAtt")? {
        Value::String(path) => path.split('.').next().map(str::to_owned),
        Value::Array(path) => path.first()?.as_str().map(str::to_owned),
        _ => None,
    }
}

/// Plain text, or the text of `Sub` with its places filled by what they are called.
fn text(value: &Value) -> Option<String> {
    if let Value::String(text) = value {
        return Some(text.clone());
    }
    fill(sub(value)?, |_| None)
}

/// The text of `Sub`.
fn sub(value: &Value) -> Option<&str> {
    match value.get("Fn::Sub")? {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts.first()?.as_str(),
        _ => None,
    }
}

/// Fills the places of a text with what is known of their names, and else with the names.
fn fill<'t>(text: &'t str, known: impl Fn(&'t str) -> Option<&'t str>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}')?;
        filled.push_str(before);
        filled.push_str(known(name).unwrap_or(match name {
            "AWS::Partition" => "aws",
            "AWS::Region" => REGION,
            "AWS::AccountId" => ACCOUNT,
            "AWS::StackName" => "desk",
            other => other,
        }));
        rest = behind;
    }
    filled.push_str(rest);
    Some(filled)
}

/// The ARN of what is on the desk.
pub(super) fn here(service: &str, resource: impl std::fmt::Display) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}

fn to_json(yaml: serde_norway::Value) -> Value {
    use serde_norway::Value as Yaml;
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::Number(number) => number
            .as_i64()
            .map(Value::from)
            .or_else(|| number.as_u64().map(Value::from))
            .or_else(|| number.as_f64().map(Value::from))
            .unwrap_or(Value::Null),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect()),
        Yaml::Mapping(members) => Value::Object(
            members.into_iter().map(|(key, value)| (name(key), to_json(value))).collect(),
        ),
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let function = match tag.trim_start_matches('!') {
                plain @ ("Ref" | "Condition") => plain.to_owned(),
                other => format!("Fn::{other}"),
            };
            Value::Object(Map::from_iter([(function, to_json(tagged.value))]))
        }
    }
}

/// A member's name; YAML also allows numbers and booleans there.
fn name(key: serde_norway::Value) -> String {
    match to_json(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
