//! The mapping's parameters, read from the SAM template that is deployed.
//!
//! Separate because it is the only place that knows SAM and CloudFormation: it finds the
//! event sources of every function and gives the chosen one its parameters under AWS's own
//! names. An event source that was not chosen may hold anything. What it gives up: of
//! `Globals` only the function's `Timeout` is read; conditions, nested stacks and
//! intrinsic functions other than `Ref`, `GetAtt` and `Sub` are not.

mod document;
mod environment;
mod resources;

use self::document::Document;
pub(super) use self::document::{ACCOUNT, REGION};
pub use self::{
    environment::Environment,
    resources::{Index, StreamOfKinesis, Table},
};
use super::mapping::{ParameterError, Parameters};
use crate::{encoding, record::Source};
use serde_json::{Map, Value};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Where a project made after this one has its template.
pub const TEMPLATE_DEFAULT: &str = "infra/template.yaml";

/// AWS's own default for `Timeout`, in seconds.
const FUNCTION_TIMEOUT_S_DEFAULT: u32 = 3;

/// The event sources of one template.
#[derive(Debug, Clone)]
pub struct Template {
    path: PathBuf,
    document: Document,
    written: Vec<Written>,
}

/// A stream, joined to a function by an event source mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSource {
    /// The event's name under the function's `Events`, or the mapping's own logical id.
    pub logical_id: String,
    /// The function that is called: its logical id, or its name as written.
    pub function_logical_id: String,
    /// DynamoDB or Kinesis.
    pub source: Source,
    /// How the mapping batches, retries and gives up.
    pub parameters: Parameters,
    /// The table or stream: its logical id, or its ARN as written.
    pub stream: String,
    /// The function's `Timeout` in seconds.
    pub function_timeout_s: u32,
}

impl EventSource {
    /// The `Timeout` of a function without a template, in seconds: that of the template in
    /// `infra/`. AWS's own 3 seconds are too few for a batch.
    pub const TIMEOUT_ASSUMED_S: u32 = 60;

    /// What is taken where there is no template: AWS's defaults for the mapping, with the two
    /// settings on without which records are lost or discarded in crowds.
    #[must_use]
    pub fn assumed(source: Source) -> Self {
        Self {
            logical_id: String::new(),
            function_logical_id: "function".to_owned(),
            source,
            parameters: Parameters {
                report_batch_item_failures: true,
                bisect_batch_on_function_error: true,
                ..Parameters::default()
            },
            stream: String::new(),
            function_timeout_s: Self::TIMEOUT_ASSUMED_S,
        }
    }
}

/// An event source of a stream kind as it stands in the template.
#[derive(Debug, Clone)]
struct Written {
    logical_id: String,
    function_logical_id: String,
    source: Source,
    properties: Map<String, Value>,
}

/// Why a template does not give the event source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// No file, or no right to read it.
    #[error("template {path}: cannot be read", path = path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not YAML.
    #[error("template {path}: is not YAML", path = path.display())]
    Yaml {
        /// As given.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_norway::Error,
    },
    /// YAML without resources.
    #[error(
        "template {path}: has no `Resources`, so it is no SAM or CloudFormation template",
        path = path.display()
    )]
    NoResources {
        /// As given.
        path: PathBuf,
    },
    /// A property that AWS or the desk does not take.
    #[error("template {path}: event source `{logical_id}`: {error}", path = path.display())]
    Parameter {
        /// As given.
        path: PathBuf,
        /// Of the event source.
        logical_id: String,
        /// Which property, why, and what would work.
        error: ParameterError,
    },
    /// No event source of this kind, or none of this name.
    #[error(
        "template {path}: no {kind} event source{named}; its stream event sources: {found}",
        path = path.display()
    )]
    Missing {
        /// As given.
        path: PathBuf,
        /// `DynamoDB` or `Kinesis`.
        kind: &'static str,
        /// The wanted logical id, as part of the sentence.
        named: String,
        /// What it has instead.
        found: String,
    },
    /// No function of this name, or none with a stream.
    #[error(
        "template {path}: no stream event source calls a function `{logical_id}`; functions \
         with one: {found}",
        path = path.display()
    )]
    NoFunction {
        /// As given.
        path: PathBuf,
        /// The wanted logical id.
        logical_id: String,
        /// What it has instead.
        found: String,
    },
    /// Several fit, and the choice is the user's.
    #[error(
        "template {path}: several {kind} event sources fit: {found}; \
         choose one with --event-source, or a function with --function",
        path = path.display()
    )]
    Ambiguous {
        /// As given.
        path: PathBuf,
        /// `DynamoDB` or `Kinesis`.
        kind: &'static str,
        /// Those that fit.
        found: String,
    },
}

impl TemplateError {
    /// Whether it is only that the file is not there.
    #[must_use]
    pub fn is_not_there(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

impl Template {
    /// Reads a template and finds its event sources of a stream kind.
    ///
    /// # Errors
    /// The file cannot be read, is not YAML, or is no template.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TemplateError> {
        let path = path.as_ref();
        let text = encoding::read_to_string(path)
            .map_err(|source| TemplateError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, TemplateError> {
        let document = Document::parse(text)
            .map_err(|source| TemplateError::Yaml { path: path.to_owned(), source })?;
        let Some(resources) = document.resources() else {
            return Err(TemplateError::NoResources { path: path.to_owned() });
        };
        let mut written = Vec::new();
        for (logical_id, resource) in resources {
            match resource.get("Type").and_then(Value::as_str) {
                Some("AWS::Serverless::Function") => {
                    written.extend(events_of(logical_id, resource));
                }
                Some("AWS::Lambda::EventSourceMapping") => {
                    written.extend(mapping_of(&document, logical_id, resource));
                }
                _ => {}
            }
        }
        Ok(Self { path: path.to_owned(), document, written })
    }

    /// The template as if it had this function alone: only its event sources are left.
    ///
    /// # Errors
    /// No event source of a stream calls a function of this logical id.
    pub fn of_function(mut self, logical_id: &str) -> Result<Self, TemplateError> {
        let of_all: BTreeSet<&str> =
            self.written.iter().map(|written| &*written.function_logical_id).collect();
        if !of_all.contains(logical_id) {
            let found = of_all.into_iter().collect::<Vec<_>>().join(", ");
            return Err(TemplateError::NoFunction {
                path: self.path.clone(),
                logical_id: logical_id.to_owned(),
                found: if found.is_empty() { "none".to_owned() } else { found },
            });
        }
        self.written.retain(|written| written.function_logical_id == logical_id);
        Ok(self)
    }

    /// The event source of this kind, or the one of this name among them.
    ///
    /// # Errors
    /// - None is of this kind, or none of them has this name.
    /// - Several are of this kind, and no name was given.
    /// - It has a property that AWS or the desk does not take.
    pub fn event_source(
        &self,
        kind: Source,
        logical_id: Option<&str>,
    ) -> Result<EventSource, TemplateError> {
        let fitting: Vec<&Written> = self
            .written
            .iter()
            .filter(|written| written.source == kind)
            .filter(|written| logical_id.is_none_or(|id| written.logical_id == id))
            .collect();
        match fitting.as_slice() {
            [one] => self.read_event_source(one),
            [] => Err(TemplateError::Missing {
                path: self.path.clone(),
                kind: kind_name(kind),
                named: logical_id.map_or_else(String::new, |id| format!(" `{id}`")),
                found: listed(self.written.iter()),
            }),
            several => Err(TemplateError::Ambiguous {
                path: self.path.clone(),
                kind: kind_name(kind),
                found: listed(several.iter().copied()),
            }),
        }
    }

    /// All event sources that are streams.
    ///
    /// # Errors
    /// One has a property that AWS or the desk does not take.
    pub fn event_sources(&self) -> Result<Vec<EventSource>, TemplateError> {
        self.written.iter().map(|written| self.read_event_source(written)).collect()
    }

    fn read_event_source(&self, written: &Written) -> Result<EventSource, TemplateError> {
        let parameters =
            parameters(&self.document, written).map_err(|error| TemplateError::Parameter {
                path: self.path.clone(),
                logical_id: written.logical_id.clone(),
                error,
            })?;
        let stream = written
            .properties
            .get("Stream")
            .or_else(|| written.properties.get("EventSourceArn"))
            .map(|value| self.document.target(value))
            .unwrap_or_default();
        Ok(EventSource {
            logical_id: written.logical_id.clone(),
            function_logical_id: written.function_logical_id.clone(),
            source: written.source,
            parameters,
            stream,
            function_timeout_s: self.function_timeout_s(&written.function_logical_id),
        })
    }

    fn function_timeout_s(&self, function: &str) -> u32 {
        let own = self.document.at(&["Resources", function, "Properties", "Timeout"]);
        own.or_else(|| self.document.at(&["Globals", "Function", "Timeout"]))
            .map(|value| self.document.resolve(value))
            .and_then(|value| value.as_u64().and_then(|seconds| u32::try_from(seconds).ok()))
            .unwrap_or(FUNCTION_TIMEOUT_S_DEFAULT)
    }
}

/// The `Events` of a SAM function that are streams; a queue, an API or a schedule is not.
fn events_of(function: &str, resource: &Value) -> Vec<Written> {
    let events = resource.get("Properties").and_then(|properties| properties.get("Events"));
    let Some(Value::Object(events)) = events else { return Vec::new() };
    events
        .iter()
        .filter_map(|(logical_id, event)| {
            let source = match event.get("Type").and_then(Value::as_str) {
                Some("DynamoDB") => Source::DynamoDb,
                Some("Kinesis") => Source::Kinesis,
                _ => return None,
            };
            Some(Written {
                logical_id: logical_id.clone(),
                function_logical_id: function.to_owned(),
                source,
                properties: properties(event),
            })
        })
        .collect()
}

/// A mapping written out as a resource of its own, if its source is a stream.
fn mapping_of(document: &Document, logical_id: &str, resource: &Value) -> Option<Written> {
    let properties = properties(resource);
    let arn = document.arn(properties.get("EventSourceArn")?)?;
    let source = match arn.split(':').nth(2)? {
        "dynamodb" => Source::DynamoDb,
        "kinesis" => Source::Kinesis,
        _ => return None,
    };
    let function = properties.get("FunctionName").map(|value| document.target(value));
    Some(Written {
        logical_id: logical_id.to_owned(),
        function_logical_id: function.unwrap_or_default(),
        source,
        properties,
    })
}

fn properties(resource: &Value) -> Map<String, Value> {
    resource.get("Properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn parameters(document: &Document, written: &Written) -> Result<Parameters, ParameterError> {
    let mut parameters = Parameters::default();
    for (name, value) in &written.properties {
        match name.as_str() {
            // Which stream and which function, not how.
            "Stream" | "EventSourceArn" | "FunctionName" => {}
            "DestinationConfig" => {
                parameters.set(name, &document.with_destination_arn(value))?;
            }
            _ => parameters.set(name, &document.resolve(value))?,
        }
    }
    if !written.properties.contains_key("StartingPosition") {
        return Err(ParameterError::Invalid {
            name: "StartingPosition".to_owned(),
            found: "missing".to_owned(),
            expected: "TRIM_HORIZON or LATEST: AWS demands it for a stream",
        });
    }
    parameters.check(written.source)?;
    Ok(parameters)
}

fn kind_name(kind: Source) -> &'static str {
    match kind {
        Source::DynamoDb => "DynamoDB",
        Source::Kinesis => "Kinesis",
        Source::Sqs => "SQS",
    }
}

fn listed<'a>(written: impl Iterator<Item = &'a Written>) -> String {
    let names: Vec<String> = written
        .map(|written| format!("{} ({})", written.logical_id, kind_name(written.source)))
        .collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
