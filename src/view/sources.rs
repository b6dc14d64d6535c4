//! Which source the rows of an item belong to.
//!
//! A view says `FROM orders`, and an event says an ARN. Two tables of one name, in two accounts
//! or Regions, are two sources: their items must not share ledger rows, or each would take back
//! what the other contributed. So the ledger files items under the ARN of their table or
//! stream, without the stream's label and without a consumer, which both may change.
//!
//! Ledgers written before that filed them under the name alone. Those rows have to be found
//! again, or everything would be counted a second time. So a name of such a ledger goes on
//! meaning what it meant, for one source only: the first whose record comes, which the registry
//! writes down. A projection has a row for each item, named by the item's key; there too the
//! first source has the plain key, and any other one its ARN before it.
//!
//! What it gives up: if two sources of one name fed a ledger before it told them apart, their
//! rows were wrong then and stay wrong.

use crate::view::{
    definition::Path,
    source_item::{ITEM_PREFIX, SourceItem},
};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a ledger's sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Names whose items are filed under the name alone.
    pub(crate) by_name: BTreeSet<String>,
    /// The first source that came, by the resource part of its ARN: `table/orders`.
    pub(crate) first: BTreeMap<String, String>,
    /// The ARNs of those that came later and have the name of a first one.
    pub(crate) also: BTreeSet<String>,
}

/// How the items of one source are filed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filing {
    /// What stands for the source in the key of a ledger row.
    label: String,
    /// What tells the source's rows in a projection from those of the first one of its name.
    pub(crate) qualifier: Option<String>,
}

impl Sources {
    /// Whether the ledger knows that records of this source have come.
    pub(crate) fn has_come(&self, arn: &str) -> bool {
        let is_first =
            || resource(arn).and_then(|it| self.first.get(it)).is_some_and(|it| it == arn);
        is_first() || self.also.contains(arn)
    }

    /// Whether a source with this resource part has come: `table/orders`.
    pub(crate) fn has_first(&self, resource: &str) -> bool {
        self.first.contains_key(resource)
    }

    /// How the items of a source are filed; `None` if no source of its name has come yet.
    pub(crate) fn filing(&self, arn: &str) -> Option<Filing> {
        let resource = resource(arn)?;
        let is_first = self.first.get(resource)? == arn;
        let name = resource.split_once('/')?.1;
        let label = if is_first && self.by_name.contains(name) { name } else { arn };
        let qualifier = (!is_first).then(|| arn.to_owned());
        Some(Filing { label: label.to_owned(), qualifier })
    }
}

impl Filing {
    /// Whether a ledger row is filed under the source, with this to tell it apart.
    pub(crate) fn files(&self, ledger_key: &str, kind: &str) -> bool {
        let rest = ledger_key.strip_prefix(ITEM_PREFIX);
        let rest = rest.and_then(|rest| rest.strip_prefix(&*self.label)?.strip_prefix(kind));
        rest.is_some_and(|rest| rest.starts_with('#'))
    }

    /// Key of an item's ledger row. `kind` tells apart what else reads the source: `~` and the
    /// number of a later generation, then `@` and the path of a changelog's key. The first
    /// generation of a table's views has nothing of both.
    pub(crate) fn ledger_key(&self, kind: &str, item: &SourceItem) -> String {
        item.ledger_key(&format!("{}{kind}", self.label))
    }
}

/// What tells the views of a source apart that share no ledger rows: their generation, and their
/// item's key.
pub(crate) fn kind_of(key: Option<&Path>, generation: u32) -> String {
    let generation = if generation == 1 { String::new() } else { format!("~{generation}") };
    let key = key.map(|path| format!("@{path}")).unwrap_or_default();
    generation + &key
}

/// The resource part of an ARN: `table/orders`, `stream/clicks`.
pub(crate) fn resource(arn: &str) -> Option<&str> {
    arn.splitn(6, ':').nth(5).filter(|resource| resource.contains('/'))
}

/// The source that an item's ledger row is filed under: its ARN, or its name alone.
pub(crate) fn source_of(ledger_key: &str) -> Option<&str> {
    let filed = ledger_key.strip_prefix(ITEM_PREFIX)?;
    let end = filed.find(['~', '@', '#'])?;
    Some(&filed[..end])
}

/// Whether a ledger row is an item's of this name and kind, filed in either way.
pub(crate) fn is_of(ledger_key: &str, name: &str, kind: &str) -> bool {
    let Some(source) = source_of(ledger_key) else { return false };
    // A name has no slash.
    let found = source.rsplit_once('/').map_or(source, |(_, name)| name);
    let rest = ledger_key[ITEM_PREFIX.len() + source.len()..].strip_prefix(kind);
    found == name && rest.is_some_and(|rest| rest.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/orders";
    const THERE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";

    fn sources(by_name: &[&str]) -> Sources {
        Sources {
            by_name: by_name.iter().map(|name| (*name).to_owned()).collect(),
            first: BTreeMap::from([("table/orders".to_owned(), HERE.to_owned())]),
            also: BTreeSet::from([THERE.to_owned()]),
        }
    }

    #[track_caller]
    fn check(sources: &Sources, arn: &str, label: &str, qualifier: Option<&str>) {
        let filing = sources.filing(arn).unwrap();
        assert_eq!((filing.label.as_str(), filing.qualifier.as_deref()), (label, qualifier));
    }

    #[test]
    fn a_source_is_filed_under_its_arn() {
        check(&sources(&[]), HERE, HERE, None);
        check(&sources(&[]), THERE, THERE, Some(THERE));
        let stream = "arn:aws:dynamodb:us-east-1:123456789012:stream/orders";
        assert_eq!(sources(&[]).filing(stream), None, "a stream of a table's name is another");
        assert_eq!(sources(&[]).filing("orders"), None);
        let elsewhere = THERE.replace("eu-west-1", "eu-west-2");
        let has_come = [HERE, THERE, &elsewhere].map(|arn| sources(&[]).has_come(arn));
        assert_eq!(has_come, [true, true, false]);
    }

    #[test]
    fn a_name_of_an_older_ledger_stays_the_first_source_alone() {
        check(&sources(&["orders"]), HERE, "orders", None);
        check(&sources(&["orders"]), THERE, THERE, Some(THERE));
        check(&sources(&["clicks"]), HERE, HERE, None);
    }

    #[test]
    fn a_rows_source_is_read_from_its_key() {
        let filed = format!("K#{HERE}#S3:O#1");
        for (key, name, kind, is_of) in [
            ("K#orders#S3:O#1", "orders", "", true),
            ("K#orders#S3:O#1", "order", "", false),
            ("K#orders@id#S3:O#1", "orders", "", false),
            ("K#orders@id#S3:O#1", "orders", "@id", true),
            ("K#orders~2#S3:O#1", "orders", "", false),
            ("K#orders~2#S3:O#1", "orders", "~2", true),
            ("K#orders~2#S3:O#1", "orders", "~21", false),
            ("K#orders~2@id#S3:O#1", "orders", "~2", false),
            ("K#orders~2@id#S3:O#1", "orders", "~2@id", true),
            ("K#clicks#S8:x/orders#", "orders", "", false),
            (&*filed, "orders", "", true),
            (&*filed, "orders", "@id", false),
            ("V#", "orders", "", false),
        ] {
            assert_eq!(super::is_of(key, name, kind), is_of, "{key}");
        }
        assert_eq!(source_of(&filed), Some(HERE));
        assert_eq!(source_of("K#clicks@a.b#S1:x"), Some("clicks"));
        assert_eq!(source_of("K#clicks~12#S1:x"), Some("clicks"));
        assert_eq!(source_of("V#"), None);
    }
}
