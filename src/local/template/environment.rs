//! What a template gives a function in its environment.
//!
//! Separate because nobody but a program of its own is told: references become what they are on
//! the desk, physical names and ARNs. What it gives up: intrinsic functions other than `Ref`,
//! `GetAtt`, `Sub` and `Join`; a variable that needs another one is named and left out.

use super::{
    Template,
    document::{ACCOUNT, REGION, here},
};
use serde_json::{Map, Value};

/// The variables of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Names and values.
    pub variables: Vec<(String, String)>,
    /// The names of those whose value the desk cannot tell.
    pub unknown: Vec<String>,
}

impl Template {
    /// The `Environment` of a function, and what `Globals` say for all.
    #[must_use]
    pub fn environment(&self, function: &str) -> Environment {
        let mut written = Map::new();
        for place in [
            ["Globals", "Function", "Environment", "Variables"].as_slice(),
            &["Resources", function, "Properties", "Environment", "Variables"],
        ] {
            let found = self.document.at(place).and_then(Value::as_object);
            written
                .extend(found.into_iter().flatten().map(|(name, it)| (name.clone(), it.clone())));
        }
        let mut environment = Environment::default();
        for (name, value) in written {
            match self.deployed(&value) {
                Some(value) => environment.variables.push((name, value)),
                None => environment.unknown.push(name),
            }
        }
        environment
    }

    /// A value as text, as if the template were deployed to the desk.
    fn deployed(&self, value: &Value) -> Option<String> {
        match value {
            Value::String(text) => return Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => return Some(value.to_string()),
            _ => {}
        }
        let (function, of) = value.as_object()?.iter().next()?;
        match function.as_str() {
            "Ref" => self.reference(of.as_str()?),
            "Fn::GetAtt" => match of {
                Value::String(path) => self.attribute(path.split_once('.')?),
                _ => self.attribute((of.get(0)?.as_str()?, of.get(1)?.as_str()?)),
            },
            "Fn::Sub" => match of {
                Value::String(text) => self.substituted(text, &Value::Null),
                _ => self.substituted(of.get(0)?.as_str()?, of.get(1)?),
            },
            "Fn::Join" => {
                let parts = of.get(1)?.as_array()?.iter().map(|part| self.deployed(part));
                Some(parts.collect::<Option<Vec<_>>>()?.join(of.get(0)?.as_str()?))
            }
            _ => None,
        }
    }

    /// What `Ref` says: a parameter's default, or a resource's name.
    fn reference(&self, name: &str) -> Option<String> {
        let of_desk = match name {
            "AWS::Partition" => Some("aws"),
            "AWS::Region" => Some(REGION),
            "AWS::AccountId" => Some(ACCOUNT),
            "AWS::StackName" => Some("desk"),
            "AWS::URLSuffix" => Some("amazonaws.com"),
            _ => None,
        };
        if let Some(text) = of_desk {
            return Some(text.to_owned());
        }
        if let Some(parameter) = self.document.at(&["Parameters", name]) {
            return self.deployed(parameter.get("Default")?);
        }
        self.physical_name(name).or_else(|| {
            self.document.at(&["Resources", name])?;
            Some(name.to_owned())
        })
    }

    fn physical_name(&self, logical_id: &str) -> Option<String> {
        let tables = self.tables().into_iter().map(|table| (table.logical_id, table.name));
        let streams = self.streams().into_iter().map(|stream| (stream.logical_id, stream.name));
        tables.chain(streams).find(|(id, _)| id == logical_id).map(|(_, name)| name)
    }

    /// What `GetAtt` says. Only ARNs are known.
    fn attribute(&self, (logical_id, attribute): (&str, &str)) -> Option<String> {
        let is_table = || self.tables().iter().any(|table| table.logical_id == logical_id);
        match (attribute, self.physical_name(logical_id)) {
            ("Arn", Some(name)) if is_table() => Some(here("dynamodb", format!("table/{name}"))),
            ("Arn", Some(name)) => Some(here("kinesis", format!("stream/{name}"))),
            ("Arn" | "TopicArn", None) => {
                self.document.arn(&serde_json::json!({ "Fn::GetAtt": [logical_id, attribute] }))
            }
            // Among others a stream's label, which is known when the table is made.
            _ => None,
        }
    }

    /// The text of `Sub`, its places filled from its own list or as references.
    fn substituted(&self, text: &str, own: &Value) -> Option<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after.split_once('}')?;
            filled.push_str(before);
            let part = match (name.strip_prefix('!'), own.get(name)) {
                (Some(literal), _) => format!("${{{literal}}}"),
                (None, Some(value)) => self.deployed(value)?,
                (None, None) => match name.split_once('.') {
                    Some(path) => self.attribute(path)?,
                    None => self.reference(name)?,
                },
            };
            filled.push_str(&part);
            rest = behind;
        }
        filled.push_str(rest);
        Some(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::Template;
    use std::path::Path;

    const TEMPLATE: &str = r"
Parameters:
  Stage: {Type: String, Default: test}
Globals:
  Function: {Environment: {Variables: {LEVEL: info, STAGE: unset}}}
Resources:
  Orders: {Type: AWS::DynamoDB::Table, Properties: {TableName: !Sub 'orders-${Stage}'}}
  Clicks: {Type: AWS::Kinesis::Stream}
  Topic: {Type: AWS::SNS::Topic}
  Function:
    Type: AWS::Serverless::Function
    Properties:
      Environment:
        Variables:
          STAGE: !Ref Stage
          TABLE: !Ref Orders
          TABLE_ARN: !GetAtt Orders.Arn
          STREAM_ARN: {'Fn::GetAtt': [Clicks, Arn]}
          LABEL: !GetAtt Orders.StreamArn
          TOPIC: !GetAtt Topic.TopicArn
          PLACE: !Sub '${AWS::Region}/${Orders}/${Clicks.Arn}/${!literal}/${own}'
          LISTED: !Sub ['${own}-${Stage}', {own: !Ref Clicks}]
          JOINED: !Join ['-', [a, !Ref Stage, 3]]
          CHOSEN: !If [Yes, a, b]
          NUMBER: 5
          FLAG: true
";

    #[test]
    fn references_are_what_they_are_on_the_desk() {
        let template = Template::parse(Path::new("t.yaml"), TEMPLATE).unwrap();
        let found = template.environment("Function");
        let of = |name: &str| {
            let mut found = found.variables.iter().filter(|(it, _)| it == name);
            found.next().map(|(_, value)| value.as_str())
        };
        for (name, value) in [
            ("LEVEL", "info"),
            ("STAGE", "test"),
            ("TABLE", "orders-test"),
            ("TABLE_ARN", "arn:aws:dynamodb:us-east-1:123456789012:table/orders-test"),
            ("STREAM_ARN", "arn:aws:kinesis:us-east-1:123456789012:stream/Clicks"),
            ("TOPIC", "arn:aws:sns:us-east-1:123456789012:Topic"),
            ("LISTED", "Clicks-test"),
            ("JOINED", "a-test-3"),
            ("NUMBER", "5"),
            ("FLAG", "true"),
        ] {
            assert_eq!(of(name), Some(value), "{name}");
        }
        // `own` is none of the template's, the label is not known yet, `If` is not followed.
        assert_eq!(found.unknown, ["CHOSEN", "LABEL", "PLACE"]);
        assert_eq!(template.environment("Other").variables.len(), 2, "what Globals say");
        let place = template.substituted("${AWS::Region}/${Clicks.Arn}/${!it}", &().into());
        let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/Clicks";
        assert_eq!(place, Some(format!("us-east-1/{arn}/${{it}}")));
    }
}
