//! What a record of a batch is to the views: itself, or the change of a table that it carries.
//!
//! A table may stream its changes into a Kinesis data stream. For a view of the table, `FROM` names
//! the table, and such a record is the change of its item, filed as the table's own stream would
//! have it. A view whose `FROM` is the data stream reads the documents as they are. Where both have
//! one name, the table is meant, except by a view with a `key`, which a table's cannot have.
//!
//! A data stream that no view names has to carry changes: what is none is a bad record, if others
//! of the batch are changes, and else the data stream is not one for these views. Of a data stream
//! that has a table's name, what is no change of that table is a bad record, too.
//!
//! What it gives up: every document of a data stream is passed over once more.

use super::{
    NO_VIEW_FOR_SOURCE,
    candidate::Unreadable,
    served::{Group, Served},
};
use crate::{
    call::Halt,
    event::{DecodeError, DecodeReason, Record},
    record::Source,
};
use std::collections::BTreeSet;

/// A record, and the change of a table that it carries.
#[derive(Debug)]
pub(super) struct Reading<'r> {
    record: &'r Record<'r>,
    change: Result<Option<Record<'r>>, DecodeError>,
}

impl<'r> Reading<'r> {
    pub(super) fn of(record: &'r Record<'r>) -> Self {
        Self { record, change: record.table_change() }
    }

    fn change(&self) -> Option<&Record<'_>> {
        self.change.as_ref().ok().and_then(Option::as_ref)
    }

    /// What the group reads it as, if it does.
    fn as_read_by<'p>(&'p self, group: &Group) -> Option<&'p Record<'p>> {
        let is_of = |record: &&Record<'p>| record.stream_name() == Some(&*group.stream);
        let change = self.change().filter(|_| group.key.is_none()).filter(is_of);
        change.or_else(|| Some(self.record).filter(is_of))
    }
}

/// A record as one group of views reads it.
pub(super) type Part<'p> = (usize, &'p Record<'p>);

impl Served {
    /// As what the groups read the records of a batch that read them, or why one cannot be read.
    ///
    /// # Errors
    /// Nothing says where a record comes from, or no view reads that.
    pub(super) fn parts<'p>(
        &self,
        readings: &'p [Reading<'_>],
    ) -> Result<Vec<Result<Vec<Part<'p>>, Unreadable>>, Halt> {
        let parts: Vec<Vec<Part<'p>>> = readings.iter().map(|it| self.parts_of(it)).collect();
        let is_change = |&(_, record): &Part<'_>| record.made().is_some();
        let changed: BTreeSet<usize> = parts
            .iter()
            .flatten()
            .filter(|part| is_change(part))
            .map(|&(group, _)| group)
            .collect();
        let parts = readings.iter().zip(parts).map(|(reading, parts)| match &reading.change {
            // Nobody but those who read the documents as they are could have meant it.
            Err(_) if parts.len() == self.groups.len() => Ok(Ok(parts)),
            Err(error) => Ok(Err(error.clone().into())),
            Ok(None) if parts.is_empty() && !changed.is_empty() => Ok(Err(no_change().into())),
            Ok(_) if parts.is_empty() => Err(no_view(reading)),
            Ok(_) if self.is_of_other_table((reading, &parts), &changed) => {
                Ok(Err(no_change().into()))
            }
            Ok(_) => Ok(Ok(parts)),
        });
        parts.collect()
    }

    /// Whether a group that reads a table would take something else of the data stream for items
    /// of its own, because the data stream has the table's name.
    fn is_of_other_table(
        &self,
        (reading, parts): (&Reading<'_>, &[Part<'_>]),
        changed: &BTreeSet<usize>,
    ) -> bool {
        let is_of_table = |group: usize| {
            let table = format!("table/{}", self.groups[group].stream);
            let has_come = || reading.change().is_some() && self.sources().has_first(&table);
            changed.contains(&group) || has_come()
        };
        parts.iter().any(|&(group, record)| {
            let is_document = record.source() == Source::Kinesis;
            is_document && self.groups[group].key.is_none() && is_of_table(group)
        })
    }

    /// The groups that read one record, each with what it reads it as.
    pub(super) fn parts_of<'p>(&self, reading: &'p Reading<'_>) -> Vec<Part<'p>> {
        let groups = self.groups.iter().enumerate();
        groups.filter_map(|(at, group)| Some((at, reading.as_read_by(group)?))).collect()
    }
}

fn no_change() -> DecodeError {
    let expected = "the change of a table that a view reads".to_owned();
    DecodeError::new("data", DecodeReason::Value { found: "a document", expected })
}

fn no_view(reading: &Reading<'_>) -> Halt {
    let Some(stream) = reading.record.stream_name() else {
        return source_unknown(reading.record);
    };
    let of_kinesis = reading.record.source() == Source::Kinesis;
    let message = if let Some(table) = reading.change().and_then(Record::stream_name) {
        format!(
            "no view reads FROM {table}, a table that streams its changes into {stream}, nor FROM \
             {stream}; add a view of it, or keep its records out with a filter on data.tableName"
        )
    } else {
        let carries = if of_kinesis { ", and the record carries no change of a table" } else { "" };
        format!(
            "no view reads FROM {stream}{carries}; remove this event source or add a view of it"
        )
    };
    Halt::new(NO_VIEW_FOR_SOURCE, message)
}

pub(super) fn source_unknown(record: &Record<'_>) -> Halt {
    let number = record.sequence_number();
    let why = "the event has no eventSourceARN, so no view's FROM can match it";
    Halt::new("SourceUnknown", format!("record {number}: {why}"))
}
