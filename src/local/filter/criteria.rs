//! The filters of one mapping, and what of a record they see.
//!
//! A record of DynamoDB is its whole JSON. Of a record of Kinesis, AWS documents the key `data`
//! only: the data, decoded, as JSON. Data that is no JSON meets no pattern that asks for
//! `data`. A pattern that asks for other keys is held against the members that the record has
//! in the event beside the data, as older editions of the documentation have it.

use super::{
    Event, Pattern, PatternError,
    event::Builder,
    json::{self, Sink},
};
use crate::record::Source;
use base64_simd::STANDARD;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The most filters of one mapping: AWS's quota is 5, and 10 on request.
const FILTERS_MAX: usize = 10;

/// The most characters of one pattern. Source: Lambda API reference, `Filter`.
const PATTERN_CHARACTERS_MAX: usize = 4_096;

/// The key of a Kinesis record's own content.
const DATA: &str = "data";

/// The filters of one mapping; a record has to match one of them. Cheap to clone.
///
/// `Default` has no filter and takes every record.
#[derive(Debug, Clone, Default)]
pub struct Criteria {
    filters: Arc<Vec<Filter>>,
}

#[derive(Debug)]
struct Filter {
    text: String,
    pattern: Pattern,
}

/// Why AWS would not take the filters of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CriteriaError {
    /// A pattern is none.
    #[error("filter {filter}: {error}")]
    Pattern {
        /// Counted from 1.
        filter: usize,
        /// Where and why.
        error: PatternError,
    },
    /// A pattern is too long.
    #[error("filter {filter} has {characters} characters, {PATTERN_CHARACTERS_MAX} are allowed")]
    TooLong {
        /// Counted from 1.
        filter: usize,
        /// How long it is.
        characters: usize,
    },
    /// There are too many.
    #[error("there are {0} filters, {FILTERS_MAX} are allowed")]
    TooMany(usize),
}

/// The members of an object, unread.
type Members<'t> = BTreeMap<Cow<'t, str>, &'t RawValue>;

impl PartialEq for Criteria {
    /// By the patterns' texts, which say all there is.
    fn eq(&self, other: &Self) -> bool {
        let texts = |it: &Self| -> Vec<String> {
            it.filters.iter().map(|filter| filter.text.clone()).collect()
        };
        texts(self) == texts(other)
    }
}

impl Eq for Criteria {}

impl Criteria {
    /// Compiles the patterns of a mapping.
    ///
    /// # Errors
    /// AWS would not take one of them, or so many.
    pub fn new<T: Into<String>>(
        patterns: impl IntoIterator<Item = T>,
    ) -> Result<Self, CriteriaError> {
        let mut filters = Vec::new();
        for (index, text) in patterns.into_iter().enumerate() {
            let (filter, text): (usize, String) = (index + 1, text.into());
            let characters = text.chars().count();
            if characters > PATTERN_CHARACTERS_MAX {
                return Err(CriteriaError::TooLong { filter, characters });
            }
            let pattern =
                Pattern::parse(&text).map_err(|error| CriteriaError::Pattern { filter, error })?;
            filters.push(Filter { text, pattern });
        }
        if filters.len() > FILTERS_MAX {
            return Err(CriteriaError::TooMany(filters.len()));
        }
        Ok(Self { filters: Arc::new(filters) })
    }

    /// Whether there is no filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Whether a filter asks for more of a Kinesis record than its data, which AWS no longer
    /// documents.
    #[must_use]
    pub fn asks_beside_data(&self) -> bool {
        self.filters.iter().any(|filter| filter.pattern.asks_beside(DATA))
    }

    /// Whether a record, in the JSON it is delivered as, passes.
    ///
    /// What cannot be read as a record of its source passes too: no filter decides about it,
    /// and the function has to see it.
    #[must_use]
    pub fn takes(&self, source: Source, body: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        let taken = match source {
            Source::Kinesis => self.takes_kinesis(body),
            Source::DynamoDb | Source::Sqs => self.takes_whole(body),
        };
        taken.unwrap_or(true)
    }

    fn takes_whole(&self, body: &[u8]) -> Option<bool> {
        let event = Event::parse(std::str::from_utf8(body).ok()?).ok()?;
        Some(self.filters.iter().any(|filter| filter.pattern.matches(&event)))
    }

    fn takes_kinesis(&self, body: &[u8]) -> Option<bool> {
        let mut record: Members<'_> = serde_json::from_slice(body).ok()?;
        let content: Members<'_> = serde_json::from_str(record.remove("kinesis")?.get()).ok()?;
        record.extend(content);
        let asks_for_data = |filter: &Filter| filter.pattern.asks_for(DATA);
        let data = if self.filters.iter().any(asks_for_data) {
            let data: Cow<'_, str> = serde_json::from_str(record.get(DATA)?.get()).ok()?;
            STANDARD.decode_to_vec(data.as_bytes()).ok().and_then(|it| String::from_utf8(it).ok())
        } else {
            None
        };
        let event = with_data(&record, data.as_deref());
        let (event, has_data) = match event {
            Some(event) => (event, data.is_some()),
            None => (with_data(&record, None)?, false),
        };
        Some(
            self.filters.iter().any(|filter| {
                (has_data || !asks_for_data(filter)) && filter.pattern.matches(&event)
            }),
        )
    }
}

/// What patterns see of a record: its data, and all members beside it; none if one of these is
/// no JSON.
fn with_data<'t>(record: &Members<'t>, data: Option<&'t str>) -> Option<Event<'t>> {
    let mut event = Builder::new();
    event.begin_object();
    for (key, value) in record.iter().filter(|(key, _)| key.as_ref() != DATA) {
        event.key(key.clone());
        json::read(value.get(), &mut event).ok()?;
    }
    if let Some(data) = data {
        event.key(Cow::Borrowed(DATA));
        json::read(data, &mut event).ok()?;
    }
    event.end();
    Some(event.finish())
}

#[cfg(test)]
mod tests {
    use super::Criteria;
    use crate::record::Source;
    use base64_simd::STANDARD;

    #[track_caller]
    fn check(pattern: &str, data: &str, expected: bool) {
        let criteria = Criteria::new([pattern]).unwrap();
        let body = format!(
            r#"{{"kinesis":{{"partitionKey":"k","data":"{data}","sequenceNumber":"1"}},
            "eventSource":"aws:kinesis","eventID":"shardId-0:1"}}"#
        );
        let taken = criteria.takes(Source::Kinesis, body.as_bytes());
        assert_eq!(taken, expected, "{pattern} {data}");
    }

    // R38
    #[test]
    fn the_data_of_a_kinesis_record_is_decoded_and_read_as_json() {
        let sales = r#"{"data":{"kind":["sale"],"amount":[{"numeric":[">",10]}]}}"#;
        let of = |text: &str| STANDARD.encode_to_string(text.as_bytes());
        check(sales, &of(r#"{"kind":"sale","amount":11}"#), true);
        check(sales, &of(r#"{"kind":"sale","amount":10}"#), false);
        check(sales, &of(r#"{"kind":"refund","amount":11}"#), false);
        check(r#"{"data":["sale"]}"#, &of(r#""sale""#), true);
        // Data that is no JSON meets no pattern that asks for it, nor does what is no base64.
        let absent = r#"{"data":{"kind":[{"exists":false}]}}"#;
        check(absent, &of(r#"{"amount":11}"#), true);
        for data in [of("sale"), of(r#"{"kind":"sale""#), "%%%".to_owned(), String::new()] {
            check(sales, &data, false);
            check(absent, &data, false);
        }
        // A pattern of other members does not look at the data.
        check(r#"{"partitionKey":["k"]}"#, &of("sale"), true);
        check(r#"{"partitionKey":["l"]}"#, &of("sale"), false);
    }

    #[test]
    fn what_is_no_record_of_its_source_reaches_the_function() {
        let criteria = Criteria::new([r#"{"data":{"kind":["sale"]}}"#]).unwrap();
        assert!(criteria.takes(Source::Kinesis, b"{}"));
        assert!(criteria.takes(Source::Kinesis, b"no JSON"));
    }
}
