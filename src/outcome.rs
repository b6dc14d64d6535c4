//! What became of each record, and the reply that follows from it.
//!
//! The default is pessimistic: a record nobody spoke for was not attempted, so Lambda
//! delivers it again. Success has to be said.

use crate::{event::Record, record::SequenceNumber};
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeSet, iter};

/// What became of one record in this invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Its effect is made.
    Applied,
    /// An earlier delivery had made its effect already, or set it aside.
    AlreadyApplied,
    /// It is set aside with its payload, confirmed.
    Parked,
    /// It was tried and is not finished.
    Failed,
    /// It was not tried.
    #[default]
    NotAttempted,
}

impl Outcome {
    /// Whether Lambda may pass this record.
    #[must_use]
    pub fn is_finished(self) -> bool {
        match self {
            Self::Applied | Self::AlreadyApplied | Self::Parked => true,
            Self::Failed | Self::NotAttempted => false,
        }
    }
}

/// Where we ask Lambda to stand after this invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checkpoint<'a> {
    /// Every record is finished.
    AllFinished,
    /// Deliver again from this record, the lowest unfinished one.
    RetryFrom(SequenceNumber<'a>),
}

/// Finds the lowest unfinished record.
#[must_use]
pub fn checkpoint<'a, 'r>(
    outcomes: impl IntoIterator<Item = (&'r SequenceNumber<'a>, Outcome)>,
) -> Checkpoint<'a>
where
    'a: 'r,
{
    outcomes
        .into_iter()
        .filter(|(_, outcome)| !outcome.is_finished())
        .map(|(sequence_number, _)| sequence_number)
        .min()
        .map_or(Checkpoint::AllFinished, |lowest| Checkpoint::RetryFrom(lowest.clone()))
}

/// The partial batch response.
///
/// Serialises to `{"batchItemFailures":[]}`, to one item for a stream, or to an item for each
/// message a queue is to keep. An empty, null or foreign identifier, which would fail the whole
/// batch at AWS, cannot be built: identifiers come from records only, and a record has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reply {
    #[serde(rename = "batchItemFailures")]
    batch_item_failures: Vec<BatchItemFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct BatchItemFailure {
    #[serde(rename = "itemIdentifier")]
    item_identifier: String,
}

impl From<Checkpoint<'_>> for Reply {
    fn from(checkpoint: Checkpoint<'_>) -> Self {
        let batch_item_failures = match checkpoint {
            Checkpoint::AllFinished => Vec::new(),
            Checkpoint::RetryFrom(sequence_number) => {
                vec![BatchItemFailure { item_identifier: sequence_number.to_string() }]
            }
        };
        Self { batch_item_failures }
    }
}

impl Reply {
    /// The reply to a batch: of a stream the lowest unfinished sequence number, of a queue every
    /// unfinished message. A record without an outcome is unfinished.
    ///
    /// Lambda deletes what a queue's reply does not name. Behind an unfinished message of a
    /// FIFO group that would be the order's end, so the rest of the group is named as well,
    /// whatever became of it. Lanes that follow the groups never get that far.
    #[must_use]
    pub fn of(records: &[Record<'_>], outcomes: &[Outcome]) -> Self {
        let is_all_finished = outcomes.len() >= records.len()
            && outcomes[..records.len()].iter().all(|outcome| outcome.is_finished());
        if is_all_finished {
            return Checkpoint::AllFinished.into();
        }
        let outcomes = outcomes.iter().copied().chain(iter::repeat(Outcome::default()));
        let records_with_outcomes = records.iter().zip(outcomes);
        // A batch's records are of one source.
        if !records.first().is_some_and(|record| record.source().is_queue()) {
            let positions =
                records_with_outcomes.map(|(record, outcome)| (record.sequence_number(), outcome));
            return checkpoint(positions).into();
        }
        let mut stopped_groups = BTreeSet::new();
        let unfinished = records_with_outcomes.filter(|(record, outcome)| {
            let group = record.message_group();
            if !outcome.is_finished() {
                stopped_groups.extend(group);
            }
            !outcome.is_finished() || group.is_some_and(|group| stopped_groups.contains(group))
        });
        let batch_item_failures = unfinished
            .filter_map(|(record, _)| record.message_id())
            .map(|id| BatchItemFailure { item_identifier: id.to_owned() })
            .collect();
        Self { batch_item_failures }
    }
}

/// What an invocation answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To a batch of records.
    Reply(Reply),
    /// To an operator.
    Operation(Value),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(outcomes: &[(&str, Outcome)]) -> String {
        let outcomes: Vec<_> = outcomes
            .iter()
            .map(|(text, outcome)| (SequenceNumber::new(*text).unwrap(), *outcome))
            .collect();
        let checkpoint = checkpoint(outcomes.iter().map(|(at, outcome)| (at, *outcome)));
        serde_json::to_string(&Reply::from(checkpoint)).unwrap()
    }

    #[track_caller]
    fn check(outcomes: &[(&str, Outcome)], identifiers: &str) {
        assert_eq!(reply(outcomes), format!(r#"{{"batchItemFailures":[{identifiers}]}}"#));
    }

    #[test]
    fn the_reply_names_the_lowest_unfinished_record() {
        use Outcome::{AlreadyApplied, Applied, Failed, NotAttempted, Parked};
        check(&[], "");
        check(&[("1", Parked), ("2", Applied)], "");
        check(&[("1", Applied), ("2", AlreadyApplied)], "");
        check(&[("1", Applied), ("2", Failed)], r#"{"itemIdentifier":"2"}"#);
        check(&[("1", Applied), ("2", NotAttempted)], r#"{"itemIdentifier":"2"}"#);
        check(&[("1", NotAttempted), ("2", Failed)], r#"{"itemIdentifier":"1"}"#);
        check(&[("2", Failed), ("10", Failed)], r#"{"itemIdentifier":"2"}"#);
        // The text goes back as it came, though it compares as a number.
        check(&[("7", Applied), ("0008", Failed)], r#"{"itemIdentifier":"0008"}"#);
    }

    #[test]
    fn a_record_nobody_spoke_for_is_not_finished() {
        assert!(!Outcome::default().is_finished());
    }

    proptest! {
        #[test]
        fn the_reply_is_never_empty_null_or_foreign(
            outcomes in prop::collection::vec(("[1-9][0-9]{0,128}", 0..5_usize), 0..20),
        ) {
            let kinds = [
                Outcome::Applied,
                Outcome::AlreadyApplied,
                Outcome::Parked,
                Outcome::Failed,
                Outcome::NotAttempted,
            ];
            let outcomes: Vec<(&str, Outcome)> =
                outcomes.iter().map(|(text, kind)| (text.as_str(), kinds[*kind])).collect();
            let reply: serde_json::Value = serde_json::from_str(&reply(&outcomes)).unwrap();
            let failures = reply["batchItemFailures"].as_array().unwrap();
            let mut unfinished = outcomes.iter().filter(|(_, outcome)| !outcome.is_finished());
            match failures.as_slice() {
                [] => prop_assert!(unfinished.next().is_none()),
                [failure] => {
                    let named = failure["itemIdentifier"].as_str().unwrap();
                    prop_assert!(unfinished.any(|(text, _)| *text == named));
                }
                more => prop_assert!(false, "{more:?}"),
            }
        }
    }
}
