//! What the records of a fixture say about views: which attributes there are, how many groups.
//!
//! Separate because it reads records, once, for all views. What it gives up: a fixture is a
//! sample, and an attribute that it lacks may come tomorrow.

use crate::{
    event::{self, Value},
    local::{
        carried,
        source::{Archive, FixtureError, Fixtures},
    },
    record::Source,
    view::{
        definition::View,
        evaluate::{Contribution, evaluate},
        scalar::encode_key,
    },
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// A longer value is no time.
const TIME_BYTES_MAX: usize = 40;

/// What a fixture has.
#[derive(Debug)]
pub struct Observed {
    /// The table or stream.
    pub stream: String,
    /// Which service it is.
    pub source: Source,
    /// How many records there are.
    pub records: u64,
    /// How many different items, if they have keys.
    pub items: u64,
    /// The attributes of the items' keys.
    pub keys: BTreeSet<String>,
    /// The names of attributes at any depth, with points between.
    pub attributes: BTreeSet<String>,
    /// Those that hold a moment as text, to the second or finer.
    pub moments: BTreeSet<String>,
    /// By the names of views, how many changes each group has.
    pub groups: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Observed {
    /// Reads a fixture for these views.
    ///
    /// # Errors
    /// It cannot be read, or is no fixture.
    pub fn read<'v>(
        path: PathBuf,
        views: impl Iterator<Item = &'v View>,
    ) -> Result<Self, FixtureError> {
        let fixtures = Fixtures::open(std::slice::from_ref(&path))?;
        let mut views: Vec<&View> = views.collect();
        // Of a data stream that carries changes of tables, the first that a view is of.
        let tables = carried::tables(&fixtures, std::slice::from_ref(&path))?;
        let table = tables.iter().find(|table| views.iter().any(|view| view.from == **table));
        let source = if table.is_some() { Source::DynamoDb } else { fixtures.source() };
        let stream = table.map_or(fixtures.stream_name(), String::as_str).to_owned();
        views.retain(|view| view.from == stream);
        let mut observed = Self {
            stream,
            source,
            records: 0,
            items: 0,
            keys: BTreeSet::new(),
            attributes: BTreeSet::new(),
            moments: BTreeSet::new(),
            groups: BTreeMap::new(),
        };
        let mut items = BTreeSet::new();
        let mut archive = Archive::of(vec![path]);
        while let Some(archived) = archive.next_record()? {
            let payload = json!({ "Records": [archived.record] }).to_string();
            let batch = event::parse(payload.as_bytes());
            for record in batch.records().unwrap_or_default() {
                let change = if table.is_some() { record.table_change() } else { Ok(None) };
                let record = match &change {
                    Ok(Some(change)) if change.stream_name() == Some(&*observed.stream) => change,
                    _ if table.is_some() => continue,
                    _ => record,
                };
                observed.records += 1;
                if let Ok(event::RecordKey::Item(key)) = record.keys() {
                    items.insert(format!("{key:?}"));
                    observed.keys.extend(key.iter().map(|(name, _)| name.to_string()));
                }
                let Ok(change) = record.values() else { continue };
                for image in change.new_image().into_iter().chain(change.old_image()) {
                    observed.look(image, "");
                }
                let Some(item) = change.new_image() else { continue };
                for view in &views {
                    let Ok(Contribution::Groups(added)) = evaluate(view, item) else { continue };
                    let groups = observed.groups.entry(view.name.clone()).or_default();
                    for one in added {
                        *groups.entry(encode_key(&one.key)).or_default() += 1;
                    }
                }
            }
        }
        observed.items = items.len() as u64;
        Ok(observed)
    }

    /// Whether some record has what a path leads to; NULL counts.
    #[must_use]
    pub fn has(&self, path: &[String]) -> bool {
        self.attributes.contains(&path.join("."))
    }

    fn look(&mut self, value: &Value<'_>, prefix: &str) {
        let Value::Map(members) = value else { return };
        for (name, value) in members {
            let path =
                if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
            self.look(value, &path);
            if matches!(value, Value::Text(text) if is_moment(text)) {
                self.moments.insert(path.clone());
            }
            if !self.attributes.contains(&path) {
                self.attributes.insert(path);
            }
        }
    }
}

/// `2026-03-02T08:05:00`, and what may stand behind it.
fn is_moment(text: &str) -> bool {
    let bytes = text.as_bytes();
    let signs = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    (19..=TIME_BYTES_MAX).contains(&bytes.len())
        && signs.iter().all(|(at, sign)| bytes[*at] == *sign)
        && bytes[..4].iter().all(u8::is_ascii_digit)
}
