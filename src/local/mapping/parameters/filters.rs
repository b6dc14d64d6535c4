//! `FilterCriteria`: which records the function gets to see at all.

use super::{ParameterError, value::invalid};
use crate::local::filter::Criteria;
use serde_json::Value;

const EXPECTED: &str = "{\"Filters\":[{\"Pattern\":\"a pattern as text\"}]}";

/// The criteria as an object, or as its JSON in text. An empty one filters nothing.
pub(super) fn criteria(name: &str, value: &Value) -> Result<Criteria, ParameterError> {
    let parsed: Value;
    let value = match value {
        Value::String(text) if text.is_empty() => &Value::Null,
        Value::String(text) => {
            parsed = serde_json::from_str(text).map_err(|_| invalid(name, value, EXPECTED))?;
            &parsed
        }
        _ => value,
    };
    let members = match value {
        Value::Null => return Ok(Criteria::default()),
        Value::Object(members) => members,
        _ => return Err(invalid(name, value, EXPECTED)),
    };
    if members.keys().any(|key| key != "Filters") {
        return Err(invalid(name, value, EXPECTED));
    }
    let filters = match members.get("Filters") {
        None | Some(Value::Null) => return Ok(Criteria::default()),
        Some(Value::Array(filters)) => filters,
        Some(_) => return Err(invalid(name, value, EXPECTED)),
    };
    let mut patterns = Vec::with_capacity(filters.len());
    for filter in filters {
        let members = filter.as_object().filter(|members| members.len() == 1);
        let pattern = members.and_then(|members| members.get("Pattern")).and_then(Value::as_str);
        patterns.push(pattern.ok_or_else(|| invalid(name, value, EXPECTED))?);
    }
    Criteria::new(patterns)
        .map_err(|error| ParameterError::Filter { name: name.to_owned(), error: Box::new(error) })
}
