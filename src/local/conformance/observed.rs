//! What was seen of a case: calls, and what reached the destination.

use crate::local::simulate::{Case, Discarded, Trace};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// Calls, as far as they are compared, and discards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    /// For each shard its calls; where a case has several keys, for each key its records.
    lanes: BTreeMap<u64, Vec<Vec<u64>>>,
    discarded: Vec<Discarded>,
    /// The members of what reached the destination, in order, if they are compared.
    members: Vec<Vec<String>>,
}

impl Observed {
    /// What the desk's own mapping does.
    pub(super) fn of(case: &Case, trace: Trace) -> Self {
        let documents = trace.documents.iter().map(String::as_str);
        Self::new(case, &trace.invocations, trace.on_failure, documents)
    }

    pub(super) fn new<'d>(
        case: &Case,
        calls: &[Vec<u64>],
        mut discarded: Vec<Discarded>,
        documents: impl Iterator<Item = &'d str>,
    ) -> Self {
        let mut lanes = BTreeMap::<u64, Vec<Vec<u64>>>::new();
        for call in calls {
            let mut parts = BTreeMap::<u64, Vec<u64>>::new();
            for number in call {
                let lane = case.shard_of(*number) + case.key_of(*number) * case.shards();
                parts.entry(lane).or_default().push(*number);
            }
            for (lane, part) in parts {
                let calls = lanes.entry(lane).or_default();
                match calls.first_mut() {
                    // How a key's records fall into batches depends on the records beside them.
                    Some(all) if case.keys() > 1 => all.extend(part),
                    _ => calls.push(part),
                }
            }
        }
        if case.shards() > 1 || case.keys() > 1 {
            discarded.sort_by_key(|one| one.first);
        }
        let members = if case.compares_shape { documents.map(members).collect() } else { vec![] };
        Self { lanes, discarded, members }
    }

    /// Whether nothing that may still come could make this what is expected.
    pub(super) fn is_settled(&self, expected: &Self) -> bool {
        let is_begun = |lane: &u64, calls: &Vec<Vec<u64>>| {
            let wanted = expected.lanes.get(lane).map(Vec::as_slice).unwrap_or_default();
            match (calls.as_slice(), wanted) {
                ([one], [other]) => other.starts_with(one),
                (calls, wanted) => wanted.starts_with(calls),
            }
        };
        !self.lanes.iter().all(|(lane, calls)| is_begun(lane, calls))
            || self.discarded.len() > expected.discarded.len()
    }

    /// The calls and discards in a few words. Beside what is expected, long ones are cut.
    pub(super) fn in_words(&self, expected: &Self) -> String {
        let mut lanes = Vec::new();
        for (lane, calls) in &self.lanes {
            let wanted = expected.lanes.get(lane).map_or(0, Vec::len);
            let shown = calls.iter().take(wanted + 2).map(|call| ranges(call));
            let mut words: Vec<String> = shown.collect();
            if calls.len() > wanted + 2 {
                words.push(format!("and {} more", calls.len() - wanted - 2));
            }
            let text = words.join(" ");
            lanes.push(text);
        }
        let calls = if lanes.is_empty() { "no call".to_owned() } else { lanes.join(" | ") };
        let given_up = self.discarded.iter().map(|one| {
            format!(
                "gave up {} ({} calls, {}, {})",
                span(one.first, one.last),
                one.approximate_invoke_count,
                one.condition,
                one.function_error.as_deref().unwrap_or("null"),
            )
        });
        let mut words: Vec<String> = std::iter::once(calls).chain(given_up).collect();
        if self.members != expected.members {
            words.push("other members".to_owned());
        }
        words.join("; ")
    }
}

/// `[1-4]`, of which nobody says that all of them are meant.
fn span(first: Option<u64>, last: Option<u64>) -> String {
    match (first, last) {
        (Some(first), Some(last)) if first == last => format!("[{first}]"),
        (Some(first), Some(last)) => format!("[{first}-{last}]"),
        _ => "unknown records".to_owned(),
    }
}

/// `[1-4]`, or `[1,3]` where numbers are missing.
fn ranges(numbers: &[u64]) -> String {
    let mut runs = Vec::new();
    let mut rest = numbers;
    while let [first, ..] = rest {
        let run = rest.windows(2).take_while(|pair| pair[1] == pair[0] + 1).count();
        runs.push(if run == 0 { first.to_string() } else { format!("{first}-{}", rest[run]) });
        rest = &rest[run + 1..];
    }
    format!("[{}]", runs.join(","))
}

/// What a destination's document says of a discard; none if it is no such document.
pub(super) fn discarded(document: &str, number: impl Fn(&str) -> Option<u64>) -> Option<Discarded> {
    let document: Value = serde_json::from_str(document).ok()?;
    let batch = document.get("DDBStreamBatchInfo").or_else(|| document.get("KinesisBatchInfo"))?;
    let position = |name: &str| batch[name].as_str().and_then(&number);
    let context = &document["requestContext"];
    let count = context["approximateInvokeCount"].as_u64().unwrap_or_default();
    let error = document["responseContext"]["functionError"].as_str();
    Some(Discarded {
        first: position("startSequenceNumber"),
        last: position("endSequenceNumber"),
        batch_size: batch["batchSize"]
            .as_u64()
            .and_then(|it| usize::try_from(it).ok())
            .unwrap_or(0),
        approximate_invoke_count: u32::try_from(count).unwrap_or(u32::MAX),
        condition: context["condition"].as_str().unwrap_or_default().to_owned(),
        function_error: error.map(str::to_owned),
    })
}

/// The members of a document and of what is in it, in the order of writing.
fn members(document: &str) -> Vec<String> {
    let Members(members) = serde_json::from_str(document).unwrap_or_default();
    members
}

#[derive(Default)]
struct Members(Vec<String>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut found = Vec::new();
        while let Some((name, Members(inner))) = map.next_entry::<String, Members>()? {
            let inner = inner.into_iter().map(|below| format!("{name}.{below}"));
            let inner: Vec<String> = inner.collect();
            found.push(name);
            found.extend(inner);
        }
        Ok(Members(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Members, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Members::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Members, E> {
        Ok(Members::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Members, E> {
        Ok(Members::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Members, E> {
        Ok(Members::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Members, E> {
        Ok(Members::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Members, E> {
        Ok(Members::default())
    }

    fn visit_unit<E>(self) -> Result<Members, E> {
        Ok(Members::default())
    }
}

#[cfg(test)]
mod tests {
    use super::{Discarded, discarded};

    /// As AWS writes it of a queue, with the number of each sequence number behind it.
    fn read(document: &str) -> Option<Discarded> {
        let number = |text: &str| text.strip_prefix("9700")?.parse().ok();
        discarded(document, number)
    }

    #[test]
    fn a_documents_members_are_what_is_compared() {
        let document = concat!(
            r#"{"requestContext":{"requestId":"r","functionArn":"arn:f","#,
            r#""condition":"RetryAttemptsExhausted","approximateInvokeCount":3},"#,
            r#""responseContext":{"statusCode":200,"executedVersion":"$LATEST","#,
            r#""functionError":"Unhandled"},"version":"1.0","timestamp":"2026-09-17T13:03:40.011Z","#,
            r#""DDBStreamBatchInfo":{"shardId":"s","startSequenceNumber":"97002","#,
            r#""endSequenceNumber":"97004","batchSize":3,"streamArn":"arn:s"}}"#,
        );
        let expected = Discarded {
            first: Some(2),
            last: Some(4),
            batch_size: 3,
            approximate_invoke_count: 3,
            condition: "RetryAttemptsExhausted".to_owned(),
            function_error: Some("Unhandled".to_owned()),
        };
        assert_eq!(read(document), Some(expected.clone()));
        // A report of the function is no error, Kinesis has another name for the same.
        let reported = document
            .replace("DDBStreamBatchInfo", "KinesisBatchInfo")
            .replace(r#""functionError":"Unhandled""#, r#""functionError":null"#);
        let reported = read(&reported).unwrap();
        assert_eq!(reported, Discarded { function_error: None, ..expected.clone() });
        // Age has no `responseContext`, and a window's last call no sequence numbers.
        let (context, batch) =
            (document.find(r#""responseContext""#), document.find(r#""version""#));
        let aged = [&document[..context.unwrap()], &document[batch.unwrap()..]].concat();
        assert_eq!(read(&aged), Some(Discarded { function_error: None, ..expected.clone() }));
        let last = document.replace(
            r#""startSequenceNumber":"97002","endSequenceNumber":"97004","batchSize":3,"#,
            "",
        );
        let bare = Discarded { first: None, last: None, batch_size: 0, ..expected.clone() };
        assert_eq!(read(&last), Some(bare));
        // A number of another stream is nobody's.
        let foreign = document.replace("97002", "11900");
        assert_eq!(read(&foreign), Some(Discarded { first: None, ..expected }));
    }

    #[test]
    fn what_is_no_such_document_is_none() {
        for document in [
            "",
            "null",
            "[]",
            r#"{"requestContext":{}}"#,
            r#"{"Type":"Notification","Message":"{\"DDBStreamBatchInfo\":{}}"}"#,
            r#"{"DDBStreamBatchInfo":"#,
        ] {
            assert_eq!(read(document), None, "{document}");
        }
    }
}
