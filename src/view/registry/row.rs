//! The registry's row, as it is stored.
//!
//! Separate because its layout is read by older and newer functions, during a deployment beside
//! each other. While every view has its first generation alone, the row is one that functions
//! from before generations read: its member `views` has an entry for each. An entry says `from`
//! where items are filed under the name of its source, as the first functions did; they know no
//! other layout. Where items are filed under ARNs the entry says `source` instead: such a function
//! cannot read it and refuses to start, and does not count everything again. As soon as a view was
//! changed, added later or dropped, the row has no member `views` but `served`: a function that
//! knows no generations would leave one out, so it must not be able to read the row.
//!
//! What this version does not know of a row stays in it. A second row, `V#served`, has the
//! revision at which the served views changed last. Every invocation reads that one, because it
//! stays small.

use super::{REGISTRY_KEY, RegistryError, SERVED_KEY};
use crate::{
    record::Timestamp,
    store::{
        Item, Store, StoreError,
        rows::{Change, number, number_of, text, text_of},
    },
    view::{source_item::LEDGER_KEY, sources::Sources},
};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::{BTreeMap, BTreeSet};

/// A view's name, and the number of one generation of it.
pub(crate) type Id = (String, u32);

/// What the row says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Registry {
    pub(crate) revision: u64,
    pub(crate) owner: Option<String>,
    /// What is served.
    pub(crate) generations: BTreeMap<Id, Registered>,
    /// What is served no longer, and whose rows are still there.
    pub(crate) dropped: BTreeMap<Id, Registered>,
    /// The highest number that a generation has had, once one had another than the first. A
    /// number is never used again.
    pub(crate) number_max: u32,
    /// Views that were dropped, and of which nothing is left. One of the name may come back.
    pub(crate) retired: BTreeSet<String>,
    /// The first source that came, by the resource part of its ARN.
    pub(crate) first: BTreeMap<String, String>,
    /// The ARNs of those that came later and have the name of a first one.
    pub(crate) also: BTreeSet<String>,
    /// What this version does not know.
    rest: Item,
}

/// One generation of a view: what it is computed from, and by which definition.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Registered {
    pub(crate) from: String,
    /// Whether its source's items are filed under the name alone.
    pub(crate) by_name: bool,
    pub(crate) fingerprint: String,
    /// Its canonical text; functions from before generations did not write it down.
    pub(crate) sql: Option<String>,
    /// Its table's name; as little written down by those.
    pub(crate) table: Option<String>,
    /// Whether readers of the view read it.
    pub(crate) is_current: bool,
    /// Whether they have read it once.
    pub(crate) was_current: bool,
    /// When it was seen registered, or seen dropped, in milliseconds by the store's clock.
    pub(crate) since_ms: Option<i64>,
    pub(crate) rest: Item,
}

impl Registry {
    /// How the items of the sources are filed.
    pub(crate) fn sources(&self) -> Sources {
        let by_name = self.generations.values().filter(|view| view.by_name);
        let by_name = by_name.map(|view| view.from.clone()).collect();
        Sources { by_name, first: self.first.clone(), also: self.also.clone() }
    }

    /// The generations of a view, in the order of their numbers.
    pub(crate) fn of(&self, view: &str) -> impl Iterator<Item = (u32, &Registered)> {
        let from = (view.to_owned(), 0);
        let to = (view.to_owned(), u32::MAX);
        self.generations.range(from..=to).map(|((_, number), known)| (*number, known))
    }

    /// Whether everything is dated that has to be.
    pub(super) fn is_dated(&self) -> bool {
        let later = self.generations.iter().filter(|((_, number), _)| *number > 1);
        later.map(|(_, known)| known).chain(self.dropped.values()).all(|it| it.since_ms.is_some())
    }

    /// Whether a function from before generations may read it.
    fn is_plain(&self) -> bool {
        let is_first = |((_, number), known): (&Id, &Registered)| *number == 1 && known.is_current;
        let was_never_changed =
            self.number_max <= 1 && self.dropped.is_empty() && self.retired.is_empty();
        was_never_changed && self.generations.iter().all(is_first)
    }
}

/// Reads the row; one that is not there says nothing.
pub(super) async fn read(
    store: &Store,
    table: &str,
    deadline: Timestamp,
) -> Result<Registry, RegistryError> {
    parsed(store.get(table, LEDGER_KEY, REGISTRY_KEY, deadline).await?, table)
}

/// Reads the row, and tells when that was by the store's clock.
pub(super) async fn read_dated(
    store: &Store,
    table: &str,
    deadline: Timestamp,
) -> Result<(Registry, Timestamp), RegistryError> {
    let (row, read) = store.row_dated(table, (LEDGER_KEY, REGISTRY_KEY), deadline).await?;
    Ok((parsed(row, table)?, read))
}

fn parsed(row: Option<Item>, table: &str) -> Result<Registry, RegistryError> {
    let Some(row) = row else { return Ok(Registry::default()) };
    parse(row).ok_or_else(|| RegistryError::Unreadable { table: table.to_owned() })
}

fn parse(mut row: Item) -> Option<Registry> {
    let mut registry = Registry {
        revision: number_of(&row, "rev")?,
        owner: text_of(&row, "owner").map(str::to_owned),
        ..Registry::default()
    };
    match row.remove("views") {
        Some(AttributeValue::M(views)) => {
            for (name, entry) in views {
                let known = Registered { is_current: true, ..parse_entry(&entry)?.1 };
                registry.generations.insert((name, 1), known);
            }
        }
        Some(_) => return None,
        None => {
            registry.generations = parse_list(&row.remove("served")?)?;
            registry.dropped =
                row.remove("dropped").map_or(Some(BTreeMap::new()), |list| parse_list(&list))?;
        }
    }
    if let Some(sources) = row.remove("sources") {
        for (resource, arn) in sources.as_m().ok()? {
            registry.first.insert(resource.clone(), arn.as_s().ok()?.clone());
        }
    }
    registry.number_max = number_of(&row, "number_max").unwrap_or_default();
    registry.retired = row.remove("retired").map_or(Some(BTreeSet::new()), |list| texts(&list))?;
    registry.also = row.remove("also").map_or(Some(BTreeSet::new()), |list| texts(&list))?;
    row.retain(|name, _| !matches!(name.as_str(), "rev" | "owner" | "number_max" | LEDGER_KEY));
    registry.rest = row;
    Some(registry)
}

fn texts(list: &AttributeValue) -> Option<BTreeSet<String>> {
    list.as_l().ok()?.iter().map(|it| it.as_s().ok().cloned()).collect()
}

fn list_of(texts: &BTreeSet<String>) -> AttributeValue {
    AttributeValue::L(texts.iter().map(text).collect())
}

fn parse_list(list: &AttributeValue) -> Option<BTreeMap<Id, Registered>> {
    list.as_l().ok()?.iter().map(parse_entry).collect()
}

fn parse_entry(entry: &AttributeValue) -> Option<(Id, Registered)> {
    let mut fields = entry.as_m().ok()?.clone();
    let mut take = |name: &str| match fields.remove(name) {
        Some(AttributeValue::S(text)) => Some(text),
        _ => None,
    };
    let by_name = take("from");
    let known = Registered {
        by_name: by_name.is_some(),
        from: by_name.or_else(|| take("source"))?,
        fingerprint: take("fingerprint")?,
        sql: take("sql"),
        table: take("table"),
        ..Registered::default()
    };
    let view = take("view").unwrap_or_default();
    let number = number_of(&fields, "generation").unwrap_or(1);
    let flag = |name: &str| fields.get(name).is_some_and(|it| it.as_bool() == Ok(&true));
    let known = Registered {
        is_current: flag("current"),
        was_current: flag("was_current"),
        since_ms: number_of(&fields, "since_ms"),
        ..known
    };
    for name in ["generation", "current", "was_current", "since_ms"] {
        fields.remove(name);
    }
    Some(((view, number), Registered { rest: fields, ..known }))
}

fn entry((_, number_of): &Id, known: &Registered) -> Item {
    let source = if known.by_name { "from" } else { "source" };
    let mut fields = known.rest.clone();
    set(&mut fields, source, text(&known.from));
    set(&mut fields, "fingerprint", text(&known.fingerprint));
    set(&mut fields, "generation", number(*number_of));
    for (name, it) in [("sql", &known.sql), ("table", &known.table)] {
        if let Some(it) = it {
            set(&mut fields, name, text(it));
        }
    }
    fields
}

/// One copy of an insertion: the program would have thirty.
#[inline(never)]
fn set(fields: &mut Item, name: &str, value: AttributeValue) {
    fields.insert(name.to_owned(), value);
}

fn list(generations: &BTreeMap<Id, Registered>) -> AttributeValue {
    let mut entries = Vec::with_capacity(generations.len());
    for (id, known) in generations {
        let mut fields = entry(id, known);
        set(&mut fields, "view", text(&id.0));
        set(&mut fields, "current", AttributeValue::Bool(known.is_current));
        set(&mut fields, "was_current", AttributeValue::Bool(known.was_current));
        if let Some(since) = known.since_ms {
            set(&mut fields, "since_ms", number(since));
        }
        entries.push(AttributeValue::M(fields));
    }
    AttributeValue::L(entries)
}

/// The changes that replace the row at the revision that was read; `serves_others` is whether
/// what is served changes with it.
pub(super) fn changes(table: &str, registry: &Registry, serves_others: bool) -> Vec<Change> {
    let mut sources = Item::new();
    for (resource, arn) in &registry.first {
        set(&mut sources, resource, text(arn));
    }
    let mut row = registry.rest.clone();
    set(&mut row, LEDGER_KEY, text(REGISTRY_KEY));
    set(&mut row, "rev", number(registry.revision + 1));
    set(&mut row, "owner", text(registry.owner.as_deref().unwrap_or_default()));
    set(&mut row, "sources", AttributeValue::M(sources));
    if registry.is_plain() {
        let mut views = Item::new();
        for (id, known) in &registry.generations {
            set(&mut views, &id.0, AttributeValue::M(entry(id, known)));
        }
        set(&mut row, "views", AttributeValue::M(views));
    } else {
        set(&mut row, "served", list(&registry.generations));
        set(&mut row, "dropped", list(&registry.dropped));
        set(&mut row, "number_max", number(registry.number_max));
        set(&mut row, "retired", list_of(&registry.retired));
    }
    if !registry.also.is_empty() {
        set(&mut row, "also", list_of(&registry.also));
    }
    let registered = Change::put(table, row)
        .only_if("attribute_not_exists(#k) OR #r = :r")
        .name("#k", LEDGER_KEY)
        .name("#r", "rev")
        .value(":r", number(registry.revision));
    let mut changes = vec![registered];
    if serves_others {
        let mut served = Item::new();
        set(&mut served, LEDGER_KEY, text(SERVED_KEY));
        set(&mut served, "rev", number(registry.revision + 1));
        changes.push(Change::put(table, served));
    }
    changes
}

/// Replaces the row at the revision that was read, and makes other changes with it.
pub(super) async fn write(
    store: &Store,
    table: &str,
    (registry, serves_others): (&Registry, bool),
    others: Vec<Change>,
    deadline: Timestamp,
) -> Result<(), StoreError> {
    let mut all = changes(table, registry, serves_others);
    all.extend(others);
    store.change_all(all, deadline).await
}
