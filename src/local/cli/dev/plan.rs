//! What is to run: the event sources, and the tables and streams they need.

use super::{Complaint, DevArgs};
use crate::{
    local::{
        source::stream_name,
        template::{Environment, EventSource, StreamOfKinesis, TEMPLATE_DEFAULT, Table, Template},
    },
    record::Source,
};
use serde_json::Value;
use std::path::Path;

/// The event sources, with all tables and streams of the template.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) wanted: Vec<Wanted>,
    pub(super) tables: Vec<Table>,
    pub(super) streams: Vec<StreamOfKinesis>,
    /// What the template gives the function in its environment.
    pub(super) environment: Environment,
}

/// An event source, and what it reads by its physical name.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) event_source: EventSource,
    pub(super) name: String,
}

impl Plan {
    pub(super) fn read(arguments: &DevArgs) -> Result<Self, Complaint> {
        let mut plan = Self::default();
        if let Some(template) = template(arguments)? {
            plan.take(&template)?;
        }
        for table in &arguments.tables {
            plan.wanted.push(Wanted::assumed(Source::DynamoDb, &table.name));
            plan.tables.push(table.clone());
        }
        for stream in &arguments.streams {
            plan.wanted.push(Wanted::assumed(Source::Kinesis, &stream.name));
            plan.streams.push(stream.clone());
        }
        if plan.wanted.is_empty() {
            return Err(Complaint::new("there is no event source to run").with_hint(
                "give the function of the template an event of Type DynamoDB or Kinesis, or name \
                 tables and streams: --table orders=order_id --stream clicks",
            ));
        }
        for wanted in &mut plan.wanted {
            for (name, value) in &arguments.assignments {
                wanted.event_source.parameters.set(name, &Value::String(value.clone()))?;
            }
            wanted.event_source.parameters.check(wanted.event_source.source)?;
        }
        Ok(plan)
    }

    fn take(&mut self, template: &Template) -> Result<(), Complaint> {
        self.tables = template.tables();
        self.streams = template.streams();
        for event_source in template.event_sources()? {
            let name = self.name(&event_source)?;
            self.wanted.push(Wanted { event_source, name });
        }
        // One program is all the functions of the template: it is started as the first.
        if let Some(first) = self.wanted.first() {
            self.environment = template.environment(&first.event_source.function_logical_id);
        }
        Ok(())
    }

    /// The physical name of what an event source reads.
    fn name(&self, event_source: &EventSource) -> Result<String, Complaint> {
        let stream = &event_source.stream;
        let tables = self.tables.iter().map(|table| (&table.logical_id, &table.name));
        let streams = self.streams.iter().map(|stream| (&stream.logical_id, &stream.name));
        let mut of_template = tables.chain(streams);
        if let Some((_, name)) = of_template.find(|(logical_id, _)| *logical_id == stream) {
            return Ok(name.clone());
        }
        if stream.starts_with("arn:") {
            return Ok(stream_name(stream).to_owned());
        }
        Err(Complaint::new(format!(
            "event source `{}` reads `{stream}`, which is no table or stream of the template",
            event_source.logical_id
        ))
        .with_hint("name it by its ARN, or put it into the template"))
    }
}

impl Wanted {
    pub(super) fn assumed(source: Source, name: &str) -> Self {
        let event_source =
            EventSource { logical_id: name.to_owned(), ..EventSource::assumed(source) };
        Self { event_source, name: name.to_owned() }
    }
}

/// Where the template is; none where tables or streams are given instead.
pub(super) fn template_path(arguments: &DevArgs) -> Option<&Path> {
    let has_own = !arguments.tables.is_empty() || !arguments.streams.is_empty();
    let default = (!has_own).then(|| Path::new(TEMPLATE_DEFAULT));
    arguments.template.as_deref().or(default)
}

/// The template, or none where tables or streams are given instead.
fn template(arguments: &DevArgs) -> Result<Option<Template>, Complaint> {
    let path = arguments.template.as_deref();
    let Some(read) = template_path(arguments) else { return Ok(None) };
    match Template::read(read) {
        Ok(template) => Ok(Some(match &arguments.function {
            Some(function) => template.of_function(function)?,
            None => template,
        })),
        Err(error) if path.is_none() && error.is_not_there() => {
            Err(Complaint::new(format!("there is no {TEMPLATE_DEFAULT} here")).with_hint(
                "name a SAM template with --template, or tables and streams: --table \
                 orders=order_id --stream clicks=4; their mappings have AWS's defaults, with \
                 ReportBatchItemFailures and BisectBatchOnFunctionError on",
            ))
        }
        Err(error) => Err(error.into()),
    }
}
