//! What became of each record, and the reply that follows from it.
//!
//! The default is pessimistic: a record nobody spoke for was not attempted, so Lambda
//! delivers it again. Success has to be said.

use crate::record::SequenceNumber;
use serde::Serialize;

/// What became of one record in this invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Its effect is made.
    Applied,
    /// An earlier delivery had made its effect already.
    AlreadyApplied,
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
            Self::Applied | Self::AlreadyApplied => true,
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
/// Serialises to `{"batchItemFailures":[]}` or to one item. An empty, null or foreign
/// identifier, which would fail the whole batch at AWS, cannot be built.
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
        use Outcome::{AlreadyApplied, Applied, Failed, NotAttempted};
        check(&[], "");
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
            outcomes in prop::collection::vec(("[1-9][0-9]{0,128}", 0..4_usize), 0..20),
        ) {
            let kinds = [
                Outcome::Applied,
                Outcome::AlreadyApplied,
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
