//! The mapping's parameters under AWS's own names, checked as AWS checks them.
//!
//! One setter serves the template, `--set` and `simulate`, so a name means the same
//! everywhere. A parameter of AWS that would change what is delivered and is not honoured
//! here is refused by name: silently ignoring it would make a green run on the desk a lie.

mod destination;
mod filters;
mod value;

pub use self::destination::Destination;

use self::value::{
    boolean, integer, limit, moment, reports_batch_item_failures, starting_position,
};
use super::readings::Readings;
use crate::{
    local::filter::{Criteria, CriteriaError},
    record::{Source, Timestamp},
};
use serde_json::Value;

/// How a mapping batches, retries and gives up. `Default` is AWS's default for streams.
///
/// Source of ranges and defaults: Lambda API reference, `CreateEventSourceMapping`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// `BatchSize`: most records of one call, 1 to 10000.
    pub batch_size: usize,
    /// `MaximumBatchingWindowInSeconds`: how long a batch may gather, 0 to 300.
    pub maximum_batching_window_s: u32,
    /// `ParallelizationFactor`: sub-lanes per shard, 1 to 10.
    pub parallelization_factor: usize,
    /// `MaximumRetryAttempts`: 0 to 10000; `None` is AWS's −1, without limit.
    pub maximum_retry_attempts: Option<u32>,
    /// `MaximumRecordAgeInSeconds`: 60 to 604800; `None` is AWS's −1, without limit.
    pub maximum_record_age_s: Option<u32>,
    /// `BisectBatchOnFunctionError`: halve a failing batch.
    pub bisect_batch_on_function_error: bool,
    /// `FunctionResponseTypes` contains `ReportBatchItemFailures`.
    pub report_batch_item_failures: bool,
    /// `DestinationConfig.OnFailure`: who hears of discarded records.
    pub on_failure: Option<Destination>,
    /// `FilterCriteria`: the records that the function gets.
    pub filters: Criteria,
    /// `TumblingWindowInSeconds`, 1 to 900; `None` without windows.
    pub tumbling_window_s: Option<u32>,
    /// `StartingPosition`. A shard is fed from its first record; what arrived before the moment
    /// of `AT_TIMESTAMP` it passes. `LATEST` is for whoever feeds it.
    pub starting_position: StartingPosition,
    /// `StartingPositionTimestamp`: the moment of `AT_TIMESTAMP`.
    pub starting_timestamp: Option<Timestamp>,
    /// How long the stream keeps a record, in seconds; `None` is for ever. It is the stream's, and
    /// none of the mapping's parameters.
    pub retention_s: Option<u32>,
    /// What is taken where AWS does not say; none of AWS's parameters.
    pub readings: Readings,
}

/// For how long a stream keeps a record, in hours: one of DynamoDB always, one of Kinesis unless
/// it is told to keep it longer. AWS's rule.
pub(in crate::local) const RETENTION_HOURS: u32 = 24;

impl Default for Parameters {
    fn default() -> Self {
        Self {
            batch_size: 100,
            maximum_batching_window_s: 0,
            parallelization_factor: 1,
            maximum_retry_attempts: None,
            maximum_record_age_s: None,
            bisect_batch_on_function_error: false,
            report_batch_item_failures: false,
            on_failure: None,
            filters: Criteria::default(),
            tumbling_window_s: None,
            starting_position: StartingPosition::TrimHorizon,
            starting_timestamp: None,
            retention_s: None,
            readings: Readings::default(),
        }
    }
}

/// Where a mapping begins to read a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingPosition {
    /// `TRIM_HORIZON`: the oldest record still in the stream.
    TrimHorizon,
    /// `LATEST`: only what comes after the mapping began.
    Latest,
    /// `AT_TIMESTAMP`: the first record that arrived at a moment or later; Kinesis only.
    AtTimestamp,
}

/// Why a parameter was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// Not a name of AWS.
    #[error("unknown mapping parameter `{name}`{}", suggest(suggestion.as_deref()))]
    Unknown {
        /// The name as given.
        name: String,
        /// The nearest name that would work.
        suggestion: Option<&'static str>,
    },
    /// A name of AWS that the desk would have to ignore.
    #[error(
        "mapping parameter `{name}` is not honoured by the desk yet{}; take it out to run",
        only(allowed)
    )]
    NotHonoured {
        /// The name as given.
        name: String,
        /// The value that may stand, as it changes nothing.
        allowed: &'static str,
    },
    /// Filters that AWS would refuse too, in its words and ours.
    #[error("mapping parameter `{name}`: Invalid filter pattern definition. {error}")]
    Filter {
        /// The name as given.
        name: String,
        /// Which filter, where in it, and what would work.
        error: Box<CriteriaError>,
    },
    /// A value that AWS would refuse too.
    #[error("mapping parameter `{name}` is {found}, expected {expected}")]
    Invalid {
        /// The name as given.
        name: String,
        /// The value as given.
        found: String,
        /// What would work.
        expected: &'static str,
    },
}

fn suggest(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn only(allowed: &str) -> String {
    if allowed.is_empty() { String::new() } else { format!(" (only {allowed} is)") }
}

const STARTING_TIMESTAMP: &str = "StartingPositionTimestamp";

const ON_FAILURE: &str = "DestinationConfig.OnFailure.Destination";

const HONOURED: [&str; 16] = [
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "ParallelizationFactor",
    "MaximumRetryAttempts",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "FunctionResponseTypes",
    "DestinationConfig",
    ON_FAILURE,
    "FilterCriteria",
    "TumblingWindowInSeconds",
    "StartingPosition",
    STARTING_TIMESTAMP,
    "Enabled",
    "Tags",
    "MetricsConfig",
];

/// AWS's names that the desk knows and cannot honour whatever their value.
const NOT_HONOURED: [&str; 11] = [
    "ScalingConfig",
    "ProvisionedPollerConfig",
    "LoggingConfig",
    "KmsKeyArn",
    "KMSKeyArn",
    "Topics",
    "Queues",
    "SourceAccessConfigurations",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
];

impl Parameters {
    /// Sets one parameter by AWS's own name.
    ///
    /// Numbers, booleans and lists may also come as text, as they do from a command line;
    /// `DestinationConfig` and `FilterCriteria` as text are JSON.
    ///
    /// # Errors
    /// - The name is none of AWS's: the nearest one is suggested.
    /// - AWS has the parameter and the desk does not honour it.
    /// - AWS would refuse the value.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), ParameterError> {
        match name {
            "BatchSize" => {
                let expected = "an integer from 1 to 10000";
                self.batch_size = integer(name, value, expected, 1..=10_000)?;
            }
            "MaximumBatchingWindowInSeconds" => {
                let expected = "an integer from 0 to 300";
                self.maximum_batching_window_s = integer(name, value, expected, 0..=300)?;
            }
            "ParallelizationFactor" => {
                let expected = "an integer from 1 to 10";
                self.parallelization_factor = integer(name, value, expected, 1..=10)?;
            }
            "MaximumRetryAttempts" => {
                let expected = "an integer from -1 to 10000";
                self.maximum_retry_attempts = limit(name, value, expected, 0..=10_000)?;
            }
            "MaximumRecordAgeInSeconds" => {
                let expected = "-1 or an integer from 60 to 604800";
                self.maximum_record_age_s = limit(name, value, expected, 60..=604_800)?;
            }
            "BisectBatchOnFunctionError" => {
                self.bisect_batch_on_function_error = boolean(name, value)?;
            }
            "FunctionResponseTypes" => {
                self.report_batch_item_failures = reports_batch_item_failures(name, value)?;
            }
            "DestinationConfig" => self.on_failure = destination::config(name, value)?,
            ON_FAILURE => self.on_failure = destination::single(name, value)?,
            "FilterCriteria" => self.filters = filters::criteria(name, value)?,
            "TumblingWindowInSeconds" => {
                let expected = "an integer from 0 to 900";
                let window = integer(name, value, expected, 0..=900)?;
                self.tumbling_window_s = (window > 0).then_some(window);
            }
            "StartingPosition" => self.starting_position = starting_position(name, value)?,
            STARTING_TIMESTAMP => self.starting_timestamp = Some(moment(name, value)?),
            "Tags" | "MetricsConfig" => {}
            _ => return unhonoured(name, value),
        }
        Ok(())
    }
}

/// Lets a value stand that changes nothing, and refuses every other.
impl Parameters {
    /// Checks what one parameter cannot tell: whether they go together, and with the source.
    ///
    /// # Errors
    /// A combination that AWS refuses.
    pub fn check(&self, source: Source) -> Result<(), ParameterError> {
        let is_at_timestamp = self.starting_position == StartingPosition::AtTimestamp;
        let invalid = |name: &str, found: &str, expected| ParameterError::Invalid {
            name: name.to_owned(),
            found: found.to_owned(),
            expected,
        };
        if self.tumbling_window_s.is_some() {
            if self.parallelization_factor > 1 {
                let expected = "1, because TumblingWindowInSeconds is set";
                let found = self.parallelization_factor.to_string();
                return Err(invalid("ParallelizationFactor", &found, expected));
            }
            if !self.filters.is_empty() {
                let expected = "nothing, because TumblingWindowInSeconds is set";
                return Err(invalid("FilterCriteria", "set", expected));
            }
        }
        if is_at_timestamp && source == Source::DynamoDb {
            let expected = "TRIM_HORIZON or LATEST for DynamoDB";
            return Err(invalid("StartingPosition", "\"AT_TIMESTAMP\"", expected));
        }
        match (is_at_timestamp, self.starting_timestamp) {
            (true, None) => {
                let expected = "Unix time in seconds, because StartingPosition is AT_TIMESTAMP";
                Err(invalid(STARTING_TIMESTAMP, "missing", expected))
            }
            (false, Some(_)) => {
                let expected = "nothing, because StartingPosition is not AT_TIMESTAMP";
                Err(invalid(STARTING_TIMESTAMP, "set", expected))
            }
            _ => Ok(()),
        }
    }

    /// Whether a mapping that begins now would be given a record that arrived at this moment.
    pub(crate) fn begins_at(&self, arrival: Option<Timestamp>) -> bool {
        let from = self.starting_timestamp;
        from.zip(arrival).is_none_or(|(from, arrival)| arrival >= from)
    }
}

fn unhonoured(name: &str, value: &Value) -> Result<(), ParameterError> {
    let (changes_nothing, allowed) = match name {
        "Enabled" => (boolean(name, value)?, "true"),
        _ if NOT_HONOURED.contains(&name) => (false, ""),
        _ => {
            let (name, suggestion) = (name.to_owned(), nearest(name));
            return Err(ParameterError::Unknown { name, suggestion });
        }
    };
    if changes_nothing {
        return Ok(());
    }
    Err(ParameterError::NotHonoured { name: name.to_owned(), allowed })
}

/// The honoured name that needs the fewest edits, if it is near enough to be meant.
fn nearest(name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_lowercase();
    HONOURED
        .iter()
        .map(|known| (edits(&wanted, &known.to_ascii_lowercase()), *known))
        .min()
        .filter(|(edits, known)| *edits <= known.len() / 2)
        .map(|(_, known)| known)
}

/// Levenshtein's distance over bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check_set(name: &str, value: &Value, expected: impl Fn(&mut Parameters)) {
        let (mut found, mut wanted) = (Parameters::default(), Parameters::default());
        found.set(name, value).unwrap();
        expected(&mut wanted);
        assert_eq!(found, wanted, "{name} = {value}");
    }

    #[track_caller]
    fn check_refused(name: &str, value: &Value, message: &str) {
        let mut parameters = Parameters::default();
        let error = parameters.set(name, value).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(parameters, Parameters::default(), "a refused value changes nothing");
    }

    #[test]
    fn every_parameter_takes_its_values_as_json_and_as_text() {
        check_set("BatchSize", &json!(10_000), |p| p.batch_size = 10_000);
        check_set("BatchSize", &json!("1"), |p| p.batch_size = 1);
        check_set("MaximumBatchingWindowInSeconds", &json!(300), |p| {
            p.maximum_batching_window_s = 300;
        });
        check_set("ParallelizationFactor", &json!(10), |p| p.parallelization_factor = 10);
        check_set("MaximumRetryAttempts", &json!(0), |p| p.maximum_retry_attempts = Some(0));
        check_set("MaximumRetryAttempts", &json!("-1"), |p| p.maximum_retry_attempts = None);
        check_set("MaximumRecordAgeInSeconds", &json!(60), |p| p.maximum_record_age_s = Some(60));
        check_set("MaximumRecordAgeInSeconds", &json!(-1), |p| p.maximum_record_age_s = None);
        check_set("BisectBatchOnFunctionError", &json!("true"), |p| {
            p.bisect_batch_on_function_error = true;
        });
        check_set("TumblingWindowInSeconds", &json!("900"), |p| p.tumbling_window_s = Some(900));
        check_set("StartingPosition", &json!("LATEST"), |p| {
            p.starting_position = StartingPosition::Latest;
        });
        for on in [json!(["ReportBatchItemFailures"]), json!("ReportBatchItemFailures")] {
            check_set("FunctionResponseTypes", &on, |p| p.report_batch_item_failures = true);
        }
        for off in [json!([]), json!("[]"), json!(""), json!(null)] {
            check_set("FunctionResponseTypes", &off, |p| p.report_batch_item_failures = false);
        }
    }

    // R36
    #[test]
    fn a_value_that_aws_refuses_is_refused_with_the_range() {
        let age = "mapping parameter `MaximumRecordAgeInSeconds` is 59, \
                   expected -1 or an integer from 60 to 604800";
        check_refused("MaximumRecordAgeInSeconds", &json!(59), age);
        let size = "mapping parameter `BatchSize` is 0, expected an integer from 1 to 10000";
        check_refused("BatchSize", &json!(0), size);
        for (name, value) in [
            ("BatchSize", json!(10_001)),
            ("BatchSize", json!(1.5)),
            ("BatchSize", json!(null)),
            ("BatchSize", json!({"Ref": "Size"})),
            ("MaximumBatchingWindowInSeconds", json!(301)),
            ("MaximumBatchingWindowInSeconds", json!(-1)),
            ("ParallelizationFactor", json!(0)),
            ("ParallelizationFactor", json!(11)),
            ("MaximumRetryAttempts", json!(-2)),
            ("MaximumRetryAttempts", json!(10_001)),
            ("MaximumRecordAgeInSeconds", json!(0)),
            ("MaximumRecordAgeInSeconds", json!(604_801)),
            ("BisectBatchOnFunctionError", json!(1)),
            ("FunctionResponseTypes", json!(["ReportFailures"])),
            ("FunctionResponseTypes", json!([1])),
            ("StartingPosition", json!("EARLIEST")),
            ("TumblingWindowInSeconds", json!(901)),
        ] {
            let error = Parameters::default().set(name, &value).unwrap_err();
            assert!(matches!(error, ParameterError::Invalid { .. }), "{name} = {value}: {error}");
        }
    }

    #[test]
    fn what_the_desk_would_have_to_ignore_is_refused_by_name() {
        let scaling = "mapping parameter `ScalingConfig` is not honoured by the desk yet; \
                       take it out to run";
        check_refused("ScalingConfig", &json!({"MaximumConcurrency": 2}), scaling);
        let error = Parameters::default().set("Enabled", &json!(false)).unwrap_err();
        assert!(matches!(error, ParameterError::NotHonoured { .. }), "{error}");
    }

    // R36
    #[test]
    fn windows_go_with_one_sub_lane_and_no_filters() {
        let windowed = || Parameters { tumbling_window_s: Some(30), ..Parameters::default() };
        assert_eq!(windowed().check(Source::Kinesis), Ok(()));
        let lanes = Parameters { parallelization_factor: 2, ..windowed() };
        assert_eq!(
            lanes.check(Source::Kinesis).unwrap_err().to_string(),
            "mapping parameter `ParallelizationFactor` is 2, expected 1, because \
             TumblingWindowInSeconds is set"
        );
        let filters = Criteria::new([r#"{"eventName":["INSERT"]}"#]).unwrap();
        let filtered = Parameters { filters, ..windowed() };
        assert_eq!(
            filtered.check(Source::DynamoDb).unwrap_err().to_string(),
            "mapping parameter `FilterCriteria` is set, expected nothing, because \
             TumblingWindowInSeconds is set"
        );
    }

    // R39
    #[test]
    fn a_starting_position_goes_with_its_source_and_its_moment() {
        let check = |position: &str, moment: Option<Value>, source| {
            let mut parameters = Parameters::default();
            parameters.set("StartingPosition", &json!(position)).unwrap();
            if let Some(moment) = moment {
                parameters.set(STARTING_TIMESTAMP, &moment).unwrap();
            }
            parameters.check(source).map_err(|error| error.to_string())
        };
        let moment = || Some(json!(1_772_442_000.5));
        assert_eq!(check("AT_TIMESTAMP", moment(), Source::Kinesis), Ok(()));
        assert_eq!(check("LATEST", None, Source::DynamoDb), Ok(()));
        let refused = |position, moment, source, name: &str, why: &str| {
            let said = format!("mapping parameter `{name}` is {why}");
            assert_eq!(check(position, moment, source), Err(said));
        };
        refused(
            "AT_TIMESTAMP",
            moment(),
            Source::DynamoDb,
            "StartingPosition",
            "\"AT_TIMESTAMP\", expected TRIM_HORIZON or LATEST for DynamoDB",
        );
        refused(
            "AT_TIMESTAMP",
            None,
            Source::Kinesis,
            STARTING_TIMESTAMP,
            "missing, expected Unix time in seconds, because StartingPosition is AT_TIMESTAMP",
        );
        refused(
            "LATEST",
            moment(),
            Source::Kinesis,
            STARTING_TIMESTAMP,
            "set, expected nothing, because StartingPosition is not AT_TIMESTAMP",
        );
        for text in [json!("1772442000.5"), json!(1_772_442_000.5)] {
            check_set(STARTING_TIMESTAMP, &text, |parameters| {
                parameters.starting_timestamp = Some(Timestamp(1_772_442_000_500));
            });
        }
        check_refused(
            STARTING_TIMESTAMP,
            &json!("2026-03-02"),
            "mapping parameter `StartingPositionTimestamp` is \"2026-03-02\", expected Unix \
             time in seconds, such as 1772442000.5",
        );
    }

    #[test]
    fn a_value_that_changes_nothing_may_stand() {
        for (name, value) in [
            ("TumblingWindowInSeconds", json!(0)),
            ("FilterCriteria", json!({"Filters": []})),
            ("FilterCriteria", json!({})),
            ("FilterCriteria", json!("")),
            ("Enabled", json!(true)),
            ("Tags", json!({"team": "orders"})),
            ("MetricsConfig", json!({"Metrics": ["EventCount"]})),
        ] {
            check_set(name, &value, |_| {});
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one() {
        let near = "unknown mapping parameter `batchsize`; did you mean `BatchSize`?";
        check_refused("batchsize", &json!(1), near);
        let near = "unknown mapping parameter `MaximumRetryAttempt`; \
                    did you mean `MaximumRetryAttempts`?";
        check_refused("MaximumRetryAttempt", &json!(1), near);
        check_refused("Zzz", &json!(1), "unknown mapping parameter `Zzz`");
    }

    #[test]
    fn filters_are_compiled_and_what_aws_refuses_is_refused() {
        let patterns = [r#"{"eventName":["INSERT"]}"#, r#"{"dynamodb":{"Keys":{}}}"#];
        let filters = json!({"Filters": [{"Pattern": patterns[0]}]});
        let criteria = Criteria::new([patterns[0]]).unwrap();
        check_set("FilterCriteria", &filters, |it| it.filters = criteria.clone());
        let text = json!(filters.to_string());
        check_set("FilterCriteria", &text, |it| it.filters = criteria.clone());

        let filters = json!({"Filters": patterns.map(|it| json!({"Pattern": it}))});
        let refused = "mapping parameter `FilterCriteria`: Invalid filter pattern definition. \
                       filter 2: `dynamodb.Keys` is an empty object; \
                       allowed: an object with a key";
        check_refused("FilterCriteria", &filters, refused);
        let long = format!(r#"{{"a":["{}"]}}"#, "é".repeat(4_087));
        let filters = json!({"Filters": [{"Pattern": long}]});
        let refused = "mapping parameter `FilterCriteria`: Invalid filter pattern definition. \
                       filter 1 has 4097 characters, 4096 are allowed";
        check_refused("FilterCriteria", &filters, refused);
        let filters = json!({"Filters": vec![json!({"Pattern": patterns[0]}); 11]});
        let refused = "mapping parameter `FilterCriteria`: Invalid filter pattern definition. \
                       there are 11 filters, 10 are allowed";
        check_refused("FilterCriteria", &filters, refused);
        for value in [
            json!([]),
            json!("{"),
            json!({"Filters": {}}),
            json!({"Filters": [{"Pattern": {"a": [1]}}]}),
            json!({"Filters": [{"Pattern": "{}", "Name": "x"}]}),
            json!({"Filters": [{}]}),
            json!({"filters": []}),
        ] {
            let error = Parameters::default().set("FilterCriteria", &value).unwrap_err();
            assert!(matches!(error, ParameterError::Invalid { .. }), "{value}: {error}");
        }
    }
}
