//! A queue's batch that holds on-failure messages beside others, cut into parts.
//!
//! Pure, because all that matters is the order: what is not a notice is worked on like any
//! message, what is one is rescued, and within a FIFO group the two must not overtake each
//! other. So each part holds messages of one kind, and those of a group stand in as many parts
//! as they change between the kinds. Messages without a group are in no order: they need one
//! part of either kind.

use crate::{event::Record, recovery::notice::Found};
use std::collections::BTreeMap;

/// What is done with the messages of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They are worked on.
    Ordinary,
    /// They are rescued.
    Notices,
}

/// Messages that are dealt with at one time, in the batch's order.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) kind: Kind,
    pub(crate) messages: Vec<(Record<'a>, Found)>,
}

/// Cuts a batch. The parts are to be dealt with one after another.
pub(crate) fn parts<'a>(
    messages: impl Iterator<Item = (Record<'a>, Found)>,
    is_ordinary: impl Fn(&Found) -> bool,
) -> Vec<Part<'a>> {
    let mut parts: BTreeMap<usize, Vec<(Record<'a>, Found)>> = BTreeMap::new();
    // By group: the part of its last message so far.
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for (record, found) in messages {
        // Even parts are ordinary, odd ones notices.
        let kind = usize::from(!is_ordinary(&found));
        let part = match record.message_group() {
            None => kind,
            Some(group) => {
                let last = last.entry(group.to_owned()).or_insert(kind);
                *last += usize::from(*last % 2 != kind);
                *last
            }
        };
        parts.entry(part).or_default().push((record, found));
    }
    let kind =
        |number: usize| if number.is_multiple_of(2) { Kind::Ordinary } else { Kind::Notices };
    parts.into_iter().map(|(number, messages)| Part { kind: kind(number), messages }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event;

    /// Messages as `GROUP` for an ordinary one and `GROUP!` for a notice; `-` is no group.
    #[track_caller]
    fn check(batch: &str, expected: &[&str]) {
        let words: Vec<&str> = batch.split_whitespace().collect();
        let message = |(at, word): (usize, &&str)| {
            let attributes = match word.trim_end_matches('!') {
                "-" => serde_json::json!({}),
                group => serde_json::json!({"SequenceNumber": "1", "MessageGroupId": group}),
            };
            serde_json::json!({"eventSource": "aws:sqs", "messageId": format!("{at}"),
                               "attributes": attributes, "body": "{}"})
        };
        let records: Vec<_> = words.iter().enumerate().map(message).collect();
        let event = serde_json::json!({ "Records": records }).to_string();
        let records = event::parse(event.as_bytes()).into_records().unwrap();
        let is_notice = |word: &&str| word.ends_with('!');
        let found = words
            .iter()
            .map(|word| if is_notice(word) { Found::Notices(Vec::new()) } else { Found::Other });
        let parts = parts(records.into_iter().zip(found), |found| *found == Found::Other);
        let text = |part: &Part<'_>| {
            let ids: Vec<_> =
                part.messages.iter().filter_map(|(record, _)| record.message_id()).collect();
            format!("{:?} {}", part.kind, ids.join(" "))
        };
        assert_eq!(parts.iter().map(text).collect::<Vec<_>>(), expected, "{batch}");
    }

    #[test]
    fn within_a_group_notices_and_others_do_not_overtake_each_other() {
        check("", &[]);
        check("- -! - -!", &["Ordinary 0 2", "Notices 1 3"]);
        check("-! -!", &["Notices 0 1"]);
        check("a b! a! b a", &["Ordinary 0", "Notices 1 2", "Ordinary 3 4"]);
        check("a! a a! a", &["Notices 0", "Ordinary 1", "Notices 2", "Ordinary 3"]);
        check("a - a! -! a", &["Ordinary 0 1", "Notices 2 3", "Ordinary 4"]);
    }
}
