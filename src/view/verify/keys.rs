//! From a row's key to the item it belongs to, and back.
//!
//! A ledger row names its item twice: by its own key, which may be a hash, and as people read it.
//! What people read is no code, so every way to read it is tried, and only the one counts that
//! gives the row's key again. What it gives up: a projection's row whose key is a hash cannot be
//! led back to its ledger row.

use crate::{
    store::{Item, tables::KeyType},
    view::{
        scalar::{Scalar, decode_key},
        served::Group,
        source_item::{ITEM_PREFIX, SourceItem},
        sources::{Sources, source_of},
    },
};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};

/// What a hashed key begins with.
const HASHED: &str = "h:";

/// Every key that reads so; `keys` are the table's key attributes and their types.
pub(super) fn readings(readable: &str, keys: &[(String, KeyType)]) -> Vec<Item> {
    let mut keys: Vec<&(String, KeyType)> = keys.iter().collect();
    keys.sort();
    match keys[..] {
        [one] => {
            let value = readable.strip_prefix(&*format!("{}=", one.0));
            value.and_then(|value| item([(one, value)])).into_iter().collect()
        }
        [one, other] => {
            let separator = format!(", {}=", other.0);
            let Some(rest) = readable.strip_prefix(&*format!("{}=", one.0)) else {
                return Vec::new();
            };
            let splits = rest.match_indices(&separator);
            let parts = splits.map(|(at, _)| (&rest[..at], &rest[at + separator.len()..]));
            parts.filter_map(|(first, second)| item([(one, first), (other, second)])).collect()
        }
        _ => Vec::new(),
    }
}

fn item<const N: usize>(parts: [(&(String, KeyType), &str); N]) -> Option<Item> {
    let parts = parts.into_iter().map(|((name, kind), text)| {
        let value = match kind {
            KeyType::Text => AttributeValue::S(text.to_owned()),
            KeyType::Number => AttributeValue::N(text.to_owned()),
            KeyType::Bytes => {
                AttributeValue::B(Blob::new(base64_simd::STANDARD.decode_to_vec(text).ok()?))
            }
        };
        Some((name.clone(), value))
    });
    parts.collect()
}

/// Key of the row of a projection that belongs to this ledger row; none if it is hashed.
pub(super) fn row_key(pk: &str, groups: &[Group], sources: &Sources) -> Option<String> {
    let label = source_of(pk)?;
    let rest = &pk[ITEM_PREFIX.len() + label.len()..];
    let is_arn = label.contains('/');
    let name = label.rsplit_once('/').map_or(label, |(_, name)| name);
    let mut kinds = groups.iter().filter(|group| group.stream == name);
    let row_key = kinds
        .find_map(|group| rest.strip_prefix(&*group.kind)?.strip_prefix('#').map(str::to_owned))?;
    if row_key.starts_with(HASHED) {
        return None;
    }
    let item = SourceItem { row_key, readable: String::new() };
    let is_first = sources.first.values().any(|arn| arn == label);
    let item = if is_arn && !is_first { item.of_source(label) } else { item };
    (!item.row_key.starts_with(HASHED)).then_some(item.row_key)
}

/// Keys of the ledger rows that a row of a projection may belong to; none if it is hashed.
pub(super) fn ledger_keys(row_key: &str, group: &Group, sources: &Sources) -> Option<Vec<String>> {
    if row_key.starts_with(HASHED) {
        return None;
    }
    let is_of = |arn: &str| arn.rsplit_once('/').is_some_and(|(_, name)| name == group.stream);
    let filed = |arn: &str, row_key: &str| {
        let item = SourceItem { row_key: row_key.to_owned(), readable: String::new() };
        sources.filing(arn).map(|filing| filing.ledger_key(&group.kind, &item))
    };
    let firsts = sources.first.values().filter(|arn| is_of(arn));
    let mut keys: Vec<String> = firsts.filter_map(|arn| filed(arn, row_key)).collect();
    if let Some(Scalar::Text(arn)) = decode_key(row_key).into_iter().flatten().next()
        && is_of(&arn)
    {
        let prefix = crate::view::scalar::encode_key(&[Scalar::Text(arn.clone())]);
        keys.extend(row_key.strip_prefix(&*prefix).and_then(|rest| filed(&arn, rest)));
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[(&str, KeyType)]) -> Vec<(String, KeyType)> {
        keys.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
    }

    #[test]
    fn every_reading_of_a_key_is_tried() {
        let of = |readable: &str, named: &[(&str, KeyType)]| {
            let mut found: Vec<Vec<String>> = readings(readable, &keys(named))
                .iter()
                .map(|item| {
                    let mut parts: Vec<_> =
                        item.iter().map(|(name, value)| format!("{name} {value:?}")).collect();
                    parts.sort();
                    parts
                })
                .collect();
            found.sort();
            found
        };
        let text = ("pk", KeyType::Text);
        assert_eq!(of("pk=a=b, c", &[text]), [[r#"pk S("a=b, c")"#]]);
        assert_eq!(of("id=a", &[text]), Vec::<Vec<String>>::new());
        let two = [("sk", KeyType::Number), text];
        assert_eq!(of("pk=a, sk=7", &two), [[r#"pk S("a")"#, r#"sk N("7")"#]]);
        assert_eq!(of("pk=a, sk=1, sk=2", &two).len(), 2);
        assert_eq!(of("pk=*", &[("pk", KeyType::Bytes)]), Vec::<Vec<String>>::new());
        assert_eq!(readings("pk=AP8=", &keys(&[("pk", KeyType::Bytes)])).len(), 1);
    }

    #[test]
    fn a_projections_row_and_its_ledger_row_lead_to_each_other() {
        let here = "arn:aws:dynamodb:us-east-1:1:table/orders";
        let there = "arn:aws:dynamodb:eu-west-1:1:table/orders";
        let group = Group {
            stream: "orders".into(),
            key: None,
            generation: 1,
            kind: String::new(),
            views: vec![0],
            joined: Vec::new(),
            attributes: std::sync::Arc::default(),
            from: None,
        };
        let first = std::collections::BTreeMap::from([("table/orders".into(), here.into())]);
        for by_name in [vec![], vec!["orders".to_owned()]] {
            let by_name = by_name.into_iter().collect();
            let sources = Sources { by_name, first: first.clone(), ..Sources::default() };
            for arn in [here, there] {
                let filing = sources.filing(arn).unwrap();
                let item = || SourceItem { row_key: "S3:O#1".into(), readable: String::new() };
                let pk = filing.ledger_key("", &item());
                let item = if arn == here { item() } else { item().of_source(arn) };
                let groups = std::slice::from_ref(&group);
                assert_eq!(row_key(&pk, groups, &sources).as_deref(), Some(&*item.row_key));
                let leads_to = ledger_keys(&item.row_key, &group, &sources).unwrap();
                assert!(leads_to.contains(&pk), "{leads_to:?}");
            }
        }
        let sources = Sources::default();
        assert_eq!(ledger_keys("h:00", &group, &sources), None);
        assert_eq!(row_key("K#orders#h:00", std::slice::from_ref(&group), &sources), None);
    }
}
