//! The tables and streams of a template, as far as a desk has to make them.
//!
//! Separate because event sources need none of it: whoever plays a fixture has the stream in
//! its records. What a desk does not have is left out: capacity, encryption, backups, tags.
//! A resource without a name of its own is called by its logical id.

use super::Template;
use serde_json::Value;

/// A table of a template, or one given by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What `Ref` and `GetAtt` call it.
    pub logical_id: String,
    /// Its physical name.
    pub name: String,
    /// Names and types (`S`, `N`, `B`) of the attributes that keys are made of.
    pub attributes: Vec<(String, String)>,
    /// The partition key and, if there is one, the sort key.
    pub key: Vec<String>,
    /// `StreamViewType`, if the table has a stream.
    pub view_type: Option<String>,
    /// The attribute that says when an item expires.
    pub ttl: Option<String>,
    /// Its global and local indexes.
    pub indexes: Vec<Index>,
}

/// A secondary index of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Whether it has the table's partition key.
    pub is_local: bool,
    /// As [`Table::key`].
    pub key: Vec<String>,
    /// `ALL`, `KEYS_ONLY` or `INCLUDE`.
    pub projection: String,
    /// The attributes of `INCLUDE`.
    pub included: Vec<String>,
}

/// A stream of Kinesis of a template, or one given by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOfKinesis {
    /// What `Ref` and `GetAtt` call it.
    pub logical_id: String,
    /// Its physical name.
    pub name: String,
    /// How many shards it begins with; none where AWS decides.
    pub shards: Option<i32>,
    /// How long it keeps its records, if not for AWS's 24 hours.
    pub retention_hours: Option<i32>,
}

impl Template {
    /// The tables, by logical id.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        let is_table = |kind: &str| {
            matches!(
                kind,
                "AWS::DynamoDB::Table"
                    | "AWS::DynamoDB::GlobalTable"
                    | "AWS::Serverless::SimpleTable"
            )
        };
        self.of_kind(is_table)
            .map(|(logical_id, properties)| self.table(logical_id, properties))
            .collect()
    }

    /// The streams of Kinesis, by logical id.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamOfKinesis> {
        self.of_kind(|kind| kind == "AWS::Kinesis::Stream")
            .map(|(logical_id, properties)| StreamOfKinesis {
                logical_id: logical_id.to_owned(),
                name: self.name(properties, "Name", logical_id),
                shards: self.number(&properties["ShardCount"]),
                retention_hours: self.number(&properties["RetentionPeriodHours"]),
            })
            .collect()
    }

    fn of_kind<'t>(
        &'t self,
        is_wanted: impl Fn(&str) -> bool + 't,
    ) -> impl Iterator<Item = (&'t str, &'t Value)> {
        const NONE: &Value = &Value::Null;
        let resources = self.document.resources().into_iter().flatten();
        resources.filter_map(move |(logical_id, resource)| {
            let kind = resource.get("Type")?.as_str()?;
            let properties = resource.get("Properties").unwrap_or(NONE);
            is_wanted(kind).then_some((logical_id.as_str(), properties))
        })
    }

    fn table(&self, logical_id: &str, properties: &Value) -> Table {
        let (attributes, key) = match &properties["PrimaryKey"] {
            // SAM's short form, and its default.
            Value::Null if properties["KeySchema"].is_null() => {
                (vec![("id".to_owned(), "S".to_owned())], vec!["id".to_owned()])
            }
            Value::Null => (self.attributes(properties), self.key(properties)),
            primary => {
                let name = self.text(&primary["Name"]).unwrap_or_else(|| "id".to_owned());
                let kind = self.text(&primary["Type"]).unwrap_or_default();
                let kind = kind.get(..1).unwrap_or("S").to_ascii_uppercase();
                (vec![(name.clone(), kind)], vec![name])
            }
        };
        let ttl = &properties["TimeToLiveSpecification"];
        let indexes = [("GlobalSecondaryIndexes", false), ("LocalSecondaryIndexes", true)];
        Table {
            logical_id: logical_id.to_owned(),
            name: self.name(properties, "TableName", logical_id),
            attributes,
            key,
            view_type: self.text(&properties["StreamSpecification"]["StreamViewType"]),
            ttl: self.text(&ttl["AttributeName"]).filter(|_| ttl["Enabled"] == true),
            indexes: indexes
                .iter()
                .flat_map(|(member, is_local)| {
                    let list = properties[*member].as_array().into_iter().flatten();
                    list.map(|index| self.index(index, *is_local))
                })
                .collect(),
        }
    }

    fn index(&self, index: &Value, is_local: bool) -> Index {
        let projection = &index["Projection"];
        let included = projection["NonKeyAttributes"].as_array().into_iter().flatten();
        Index {
            name: self.text(&index["IndexName"]).unwrap_or_default(),
            is_local,
            key: self.key(index),
            projection: self.text(&projection["ProjectionType"]).unwrap_or_else(|| "ALL".into()),
            included: included.filter_map(|name| self.text(name)).collect(),
        }
    }

    fn attributes(&self, properties: &Value) -> Vec<(String, String)> {
        let list = properties["AttributeDefinitions"].as_array().into_iter().flatten();
        list.filter_map(|attribute| {
            let name = self.text(&attribute["AttributeName"])?;
            Some((name, self.text(&attribute["AttributeType"])?))
        })
        .collect()
    }

    /// The partition key goes first, in whatever order they are written.
    fn key(&self, of: &Value) -> Vec<String> {
        let mut key: Vec<&Value> = of["KeySchema"].as_array().into_iter().flatten().collect();
        key.sort_by_key(|part| part["KeyType"] != "HASH");
        key.into_iter().filter_map(|part| self.text(&part["AttributeName"])).collect()
    }

    fn name(&self, properties: &Value, member: &str, logical_id: &str) -> String {
        self.text(&properties[member]).unwrap_or_else(|| logical_id.to_owned())
    }

    fn text(&self, value: &Value) -> Option<String> {
        self.document.filled(value)
    }

    fn number(&self, value: &Value) -> Option<i32> {
        let resolved = self.document.resolve(value);
        let number = resolved.as_i64().or_else(|| resolved.as_str()?.parse().ok());
        number.and_then(|number| i32::try_from(number).ok())
    }
}
