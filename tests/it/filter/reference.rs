//! The language once more, as plainly as it can be said: `$or` multiplied out into patterns
//! without it, recursion over values, wildcards by trying everything. Slow, and easy to check.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Patterns over few keys and values, so that many match.
pub(super) fn patterns() -> impl Strategy<Value = Value> {
    members(true).prop_recursive(3, 16, 3, |inner| {
        let inner = inner.boxed();
        let nested = (key(), inner.clone()).prop_map(|(key, inner)| json!({ key: inner }));
        // Where `$or` asks for what is not there, AWS's way to multiply it out decides.
        let either = proptest::collection::vec(members(false), 2..4);
        let both = (inner, members(true)).prop_map(|(one, other)| merged(one, other));
        prop_oneof![nested, either.prop_map(|it| json!({ "$or": it })), both]
    })
}

fn merged(one: Value, other: Value) -> Value {
    let (Value::Object(mut one), Value::Object(other)) = (one, other) else { return Value::Null };
    for (key, value) in other {
        one.entry(key).or_insert(value);
    }
    Value::Object(one)
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned())]
}

fn members(may_be_absent: bool) -> impl Strategy<Value = Value> {
    let list = proptest::collection::vec(element(may_be_absent), 1..4);
    proptest::collection::btree_map(key(), list, 1..3).prop_map(|members| {
        Value::Object(members.into_iter().map(|(k, v)| (k, v.into())).collect())
    })
}

fn text() -> impl Strategy<Value = String> {
    "[xyX]{0,3}"
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![(-2_i64..4).prop_map(Value::from), Just(json!(1.5)), Just(json!(2.0))]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        3 => number(),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn wildcard() -> impl Strategy<Value = String> {
    proptest::collection::vec("[xyX]{0,2}", 1..4).prop_map(|pieces| {
        let mut text = pieces.join("*");
        while text.contains("**") {
            text = text.replace("**", "*");
        }
        text
    })
}

fn element(may_be_absent: bool) -> BoxedStrategy<Value> {
    let texts = || proptest::collection::vec("[xyX]{1,2}", 1..3);
    let comparison = prop_oneof![Just("<"), Just("<="), Just(">"), Just(">="), Just("=")];
    let one_bound = (comparison, number()).prop_map(|(op, it)| json!({ "numeric": [op, it] }));
    let two_bounds = (-3_i64..2, 1_i64..4, any::<bool>(), any::<bool>()).prop_map(
        |(from, width, is_open, is_closed)| {
            let (lower, upper) =
                (if is_open { ">" } else { ">=" }, if is_closed { "<=" } else { "<" });
            json!({ "numeric": [lower, from, upper, from + width] })
        },
    );
    let of_texts = prop_oneof![Just("prefix"), Just("suffix"), Just("equals-ignore-case")];
    let none_of =
        (of_texts, texts()).prop_map(|(op, texts)| json!({ "anything-but": { op: texts } }));
    let exists = any::<bool>().prop_map(move |it| json!({ "exists": it || !may_be_absent }));
    prop_oneof![
        6 => scalar(),
        1 => text().prop_map(|it| json!({ "prefix": it })),
        1 => text().prop_map(|it| json!({ "suffix": { "equals-ignore-case": it } })),
        1 => text().prop_map(|it| json!({ "equals-ignore-case": it })),
        2 => wildcard().prop_map(|it| json!({ "wildcard": it })),
        1 => texts().prop_map(|it| json!({ "anything-but": it })),
        1 => number().prop_map(|it| json!({ "anything-but": [it] })),
        1 => none_of,
        1 => wildcard().prop_map(|it| json!({ "anything-but": { "wildcard": it } })),
        1 => one_bound,
        1 => two_bounds,
        2 => exists,
    ]
    .boxed()
}

/// Events over the same keys and values, with arrays of values and of objects.
pub(super) fn events() -> impl Strategy<Value = Value> {
    let value = scalar().boxed().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner),
        ]
    });
    object(value)
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(key(), value, 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// Whether one of the patterns that `$or` stands for matches.
pub(super) fn matches(pattern: &Value, event: &Value) -> bool {
    let Value::Object(pattern) = pattern else { panic!("a pattern is an object") };
    multiplied_out(pattern).iter().any(|pattern| members_of(pattern, Some(event)).is_some())
}

fn multiplied_out(pattern: &Map<String, Value>) -> Vec<Vec<(String, Value)>> {
    let mut all = vec![Vec::new()];
    for (key, value) in pattern {
        let choices: Vec<Vec<(String, Value)>> = match value {
            Value::Array(alternatives) if key == "$or" => alternatives
                .iter()
                .flat_map(|alternative| multiplied_out(alternative.as_object().unwrap()))
                .collect(),
            Value::Object(inner) => multiplied_out(inner)
                .into_iter()
                .map(|inner| vec![(key.clone(), pairs(inner))])
                .collect(),
            leaf => vec![vec![(key.clone(), leaf.clone())]],
        };
        let longer = |choice: &Vec<(String, Value)>| {
            all.iter().map(|it| [it.clone(), choice.clone()].concat()).collect::<Vec<_>>()
        };
        all = choices.iter().flat_map(longer).collect();
    }
    all
}

/// An object whose keys may repeat: a list of pairs under a key of its own.
fn pairs(members: Vec<(String, Value)>) -> Value {
    let pairs: Vec<_> = members.into_iter().map(|(key, value)| json!([key, value])).collect();
    json!({ "pairs": pairs })
}

fn unpaired(value: &Value) -> Vec<(String, Value)> {
    let pairs = value["pairs"].as_array().unwrap().iter();
    pairs.map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone())).collect()
}

/// None if the object does not match; else whether something that is there made it match.
fn members_of(pattern: &[(String, Value)], object: Option<&Value>) -> Option<bool> {
    let mut keys: Vec<&String> = pattern.iter().map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let mut is_there = false;
    for key in keys {
        let asked: Vec<&Value> =
            pattern.iter().filter(|(own, _)| own == key).map(|(_, value)| value).collect();
        is_there |= path(&asked, object.and_then(|object| object.get(key)))?;
    }
    Some(is_there)
}

/// What is asked of one path: lists of alternatives, and members of the object there.
fn path(asked: &[&Value], found: Option<&Value>) -> Option<bool> {
    let mut flat = Vec::new();
    if let Some(found) = found {
        flatten(found, &mut flat);
    }
    let values: Vec<&Value> = flat.iter().copied().filter(|it| !it.is_object()).collect();
    let mut is_there = false;
    let mut members = Vec::new();
    for asked in asked {
        let Value::Array(list) = asked else {
            members.extend(unpaired(asked));
            continue;
        };
        let takes = |value: &&Value| list.iter().any(|element| takes(element, value));
        if values.iter().any(takes) {
            is_there = true;
        } else if !values.is_empty() || !list.contains(&json!({ "exists": false })) {
            return None;
        }
    }
    if members.is_empty() {
        return Some(is_there);
    }
    let mut objects: Vec<Option<&Value>> =
        flat.iter().map(|it| Some(*it).filter(|it| it.is_object())).collect();
    if objects.is_empty() {
        objects.push(None);
    }
    let answers: Vec<Option<bool>> =
        objects.into_iter().map(|object| members_of(&members, object)).collect();
    if answers.contains(&Some(true)) {
        return Some(true);
    }
    answers.iter().all(Option::is_some).then_some(is_there)
}

fn flatten<'v>(value: &'v Value, flat: &mut Vec<&'v Value>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|it| flatten(it, flat)),
        other => flat.push(other),
    }
}

fn takes(element: &Value, value: &Value) -> bool {
    let Value::Object(operator) = element else { return equals(element, value) };
    let (name, operand) = operator.iter().next().unwrap();
    if name == "exists" {
        return operand == true;
    }
    if name == "anything-but" {
        let list = |it: &Value| it.as_array().cloned().unwrap_or_else(|| vec![it.clone()]);
        return match operand {
            Value::Object(inner) => {
                let (name, operand) = inner.iter().next().unwrap();
                !list(operand).iter().any(|it| takes(&json!({ name: it }), value))
            }
            plain => !list(plain).iter().any(|it| equals(it, value)),
        };
    }
    if name == "numeric" {
        let Some(number) = value.as_f64() else { return false };
        return operand.as_array().unwrap().chunks(2).all(|term| {
            let bound = term[1].as_f64().unwrap();
            match term[0].as_str().unwrap() {
                "=" => (number - bound).abs() < f64::EPSILON,
                "<" => number < bound,
                "<=" => number <= bound,
                ">" => number > bound,
                _ => number >= bound,
            }
        });
    }
    let Some(text) = value.as_str() else { return false };
    let (text, operand) = match operand {
        Value::Object(of_any_case) => {
            let operand = of_any_case["equals-ignore-case"].as_str().unwrap();
            (text.to_lowercase(), operand.to_lowercase())
        }
        _ => (text.to_owned(), operand.as_str().unwrap().to_owned()),
    };
    match name.as_str() {
        "prefix" => text.starts_with(&operand),
        "suffix" => text.ends_with(&operand),
        "equals-ignore-case" => text.to_lowercase() == operand.to_lowercase(),
        "wildcard" => fits(operand.as_bytes(), text.as_bytes()),
        other => panic!("no operator: {other}"),
    }
}

fn equals(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() < f64::EPSILON,
        _ => one == other,
    }
}

/// Every way to divide the text among the stars.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| fits(rest, &text[at..])),
        Some((own, rest)) => text.first() == Some(own) && fits(rest, &text[1..]),
    }
}

/// One value of each path that has one, as a pattern of nested objects and as one of paths.
/// Arrays are left out: what is asked of several members has to be in one element.
pub(super) fn write_both(event: &Value, nested: &mut Value, paths: &mut Map<String, Value>) {
    let mut left = vec![(Vec::<String>::new(), event)];
    while let Some((path, value)) = left.pop() {
        match value {
            Value::Object(members) => left.extend(
                members
                    .iter()
                    .map(|(key, it)| ([&path[..], std::slice::from_ref(key)].concat(), it)),
            ),
            Value::Array(_) => {}
            scalar => {
                paths.insert(path.join("."), json!([scalar]));
                let mut inner = &mut *nested;
                for key in &path {
                    inner = &mut inner[key];
                }
                *inner = json!([scalar]);
            }
        }
    }
}

/// The event with its outermost objects written as keys with dots.
pub(super) fn dotted(event: &Value) -> Value {
    let mut members = Map::new();
    for (key, value) in event.as_object().unwrap() {
        match value {
            Value::Object(inner) if !inner.is_empty() => members
                .extend(inner.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone()))),
            other => {
                members.insert(key.clone(), other.clone());
            }
        }
    }
    Value::Object(members)
}
