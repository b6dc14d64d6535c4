//! Items as DynamoDB's own JSON: `{"pk":{"S":"a"},"n":{"N":"1"}}`.
//!
//! The SDK keeps this form to itself. We need it twice: an item that was read from a table goes
//! the way of a stream's record, which is this text, and the key where a scan stands is written
//! down. Invariant: what is written is read back as it was.

use super::Item;
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use base64_simd::STANDARD;
use serde_json::{Map, Value, json};

/// An item as JSON; none if it has a type that DynamoDB did not have when this was written.
pub(crate) fn item_to_json(item: &Item) -> Option<Value> {
    let members = item.iter().map(|(name, value)| Some((name.clone(), to_json(value)?)));
    members.collect::<Option<Map<_, _>>>().map(Value::Object)
}

/// Reads an item; none if the JSON is not one.
pub(crate) fn item_from_json(json: &Value) -> Option<Item> {
    json.as_object()?.iter().map(|(name, value)| Some((name.clone(), from_json(value)?))).collect()
}

fn to_json(value: &AttributeValue) -> Option<Value> {
    let bytes = |blob: &Blob| STANDARD.encode_to_string(blob);
    Some(match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(digits) => json!({ "N": digits }),
        AttributeValue::B(blob) => json!({ "B": bytes(blob) }),
        AttributeValue::Bool(value) => json!({ "BOOL": value }),
        AttributeValue::Null(value) => json!({ "NULL": value }),
        AttributeValue::Ss(set) => json!({ "SS": set }),
        AttributeValue::Ns(set) => json!({ "NS": set }),
        AttributeValue::Bs(set) => json!({ "BS": set.iter().map(bytes).collect::<Vec<_>>() }),
        AttributeValue::L(list) => {
            json!({ "L": list.iter().map(to_json).collect::<Option<Vec<_>>>()? })
        }
        AttributeValue::M(map) => json!({ "M": item_to_json(map)? }),
        _ => return None,
    })
}

fn from_json(json: &Value) -> Option<AttributeValue> {
    let mut members = json.as_object()?.iter();
    let (kind, value) =
        members.next().filter(|_| json.as_object().is_some_and(|it| it.len() == 1))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let bytes = |value: &Value| Some(Blob::new(STANDARD.decode_to_vec(value.as_str()?).ok()?));
    Some(match kind.as_str() {
        "S" => AttributeValue::S(text(value)?),
        "N" => AttributeValue::N(text(value)?),
        "B" => AttributeValue::B(bytes(value)?),
        "BOOL" => AttributeValue::Bool(value.as_bool()?),
        "NULL" => AttributeValue::Null(value.as_bool()?),
        "SS" => AttributeValue::Ss(value.as_array()?.iter().map(text).collect::<Option<_>>()?),
        "NS" => AttributeValue::Ns(value.as_array()?.iter().map(text).collect::<Option<_>>()?),
        "BS" => AttributeValue::Bs(value.as_array()?.iter().map(bytes).collect::<Option<_>>()?),
        "L" => AttributeValue::L(value.as_array()?.iter().map(from_json).collect::<Option<_>>()?),
        "M" => AttributeValue::M(item_from_json(value)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back() {
        let text = json!({
            "s": {"S": "é\"\n"}, "n": {"N": "-1.50E3"}, "b": {"B": "AP8="}, "t": {"BOOL": true},
            "z": {"NULL": true}, "ss": {"SS": ["a", "b"]}, "ns": {"NS": ["1"]},
            "bs": {"BS": ["AA=="]}, "l": {"L": [{"S": ""}, {"L": []}]},
            "m": {"M": {"x": {"N": "1"}}}
        });
        let item = item_from_json(&text).unwrap();
        assert_eq!(item.len(), 10);
        assert_eq!(item_to_json(&item), Some(text));
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for text in [
            json!([]),
            json!({"a": "x"}),
            json!({"a": {}}),
            json!({"a": {"S": "x", "N": "1"}}),
            json!({"a": {"S": 1}}),
            json!({"a": {"B": "*"}}),
            json!({"a": {"X": "x"}}),
            json!({"a": {"L": [1]}}),
        ] {
            assert_eq!(item_from_json(&text), None, "{text}");
        }
    }
}
