//! Which keys have parked records: entries in striped rows, and rows that tell when to read
//! them.
//!
//! An entry is a hash of the key and what it means for later records. It stands in one of
//! `STRIPES` rows of its consumer, which is replaced under its revision, so two functions
//! never overwrite each other's entries. In the same transaction the new revision is written
//! to each of the `REPLICAS` *revisions rows*. An invocation reads one of these, and then
//! only the stripes whose revision is another than that of the copy its process has. So
//! looking costs one read unit as long as nobody parks, however many keys are parked; and a
//! stripe that is used is at least as new as the revisions that were read.
//!
//! A closed entry stays until late duplicates can no longer come: they are looked up instead
//! of run. Then it goes with the next write of its stripe.
//!
//! What it gives up: whoever opens or closes a key writes all revisions rows, so two of them
//! at the same moment conflict and one has to wait. Replicas are for readers only.

use crate::store::{
    Item,
    rows::{Change, RowKey, number, number_of, text, text_of},
};
use aws_sdk_dynamodb::types::AttributeValue;
use std::{collections::BTreeMap, sync::Arc};

/// How many rows share the keys of a consumer.
pub(crate) const STRIPES: u8 = 64;

/// How many rows have the revisions. An item serves 3,000 read units a second, so that eight
/// of them serve 10,000 invocations a second with as much again to spare.
/// Source: DynamoDB Developer Guide, "Designing partition keys", limits of one partition.
pub(crate) const REPLICAS: u8 = 8;

/// The most bytes of entries in a row when it is written; an item may have 400 KB.
pub(crate) const STRIPE_BYTES_MAX: usize = 300_000;

/// How many keys can be parked unless told otherwise.
pub const KEYS_MAX_DEFAULT: u32 = 4_096;

/// The most that can be chosen: so many entries, of the longest keys, are a third of what the
/// stripes take.
pub const KEYS_MAX_MAX: u32 = 100_000;

/// How many keys of a row are watched at most: 512 in all. More would make every process read
/// large rows again and again just when everything fails.
const WATCHED_MAX: usize = 8;

/// Sort key of the rows that are no record.
pub(super) const SORT: &str = "S";

/// What parked records of a key mean for its later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Later records queue behind.
    Open,
    /// Later records flow.
    Skipped,
    /// None is parked any more; those that were are known.
    Closed,
    /// None is parked, but one failed and may be given up by the mapping: the head row says
    /// which later ones are begun and finished from here on.
    Watched,
}

impl State {
    fn has_parked(self) -> bool {
        matches!(self, Self::Open | Self::Skipped)
    }
}

/// One key's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) state: State,
    /// Place of the first parked record, as sort key.
    pub(crate) from: String,
    /// When the entry was last changed, in seconds since the epoch.
    pub(crate) changed_s: i64,
}

/// One row of entries, as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stripe {
    revision: u64,
    /// By which order the keys were told that are parked here; not known of those that an
    /// earlier version wrote.
    order: Option<String>,
    pub(crate) entries: BTreeMap<String, Entry>,
}

/// All rows of entries of one consumer; copies share the rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds {
    /// By which order the keys of this invocation are told; none where no record is parked.
    order: Option<String>,
    stripes: BTreeMap<u8, Arc<Stripe>>,
}

/// By stripe its revision, as one revisions row had it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Revisions(BTreeMap<u8, u64>);

/// How many keys there may be, and until when closed ones are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The most keys with parked records.
    pub(crate) keys: u32,
    /// Closed entries from before this moment may go, in seconds since the epoch.
    pub(crate) closed_since_s: i64,
}

/// No room for another open key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A table and the consumer whose rows are meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'t> {
    pub(crate) table: &'t str,
    pub(crate) consumer: &'t str,
}

/// The row of a key's entry.
pub(crate) fn stripe_of(hash: &str) -> u8 {
    let byte = hash.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    byte.unwrap_or_default() % STRIPES
}

/// The key of a row that is no record.
pub(super) fn key(pk: impl Into<String>) -> Item {
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(SORT))])
}

impl<'t> Rows<'t> {
    /// A row of entries.
    pub(crate) fn stripe(&self, stripe: u8) -> RowKey<'t> {
        RowKey { table: self.table, key: key(self.stripe_pk(stripe)) }
    }

    /// A row of revisions.
    pub(crate) fn revisions(&self, replica: u8) -> RowKey<'t> {
        RowKey { table: self.table, key: key(self.revisions_pk(replica)) }
    }

    fn stripe_pk(&self, stripe: u8) -> String {
        format!("S#{}#{stripe}", self.consumer)
    }

    fn revisions_pk(&self, replica: u8) -> String {
        format!("V#{}#{replica}", self.consumer)
    }

    /// The revisions in a row that was read; a row that is not there has none.
    pub(crate) fn revisions_in(&self, rows: &[(String, Item)]) -> Revisions {
        let is_one = |pk: &str| {
            let replica = pk.strip_prefix("V#").and_then(|it| it.strip_prefix(self.consumer));
            replica.is_some_and(|replica| replica.starts_with('#'))
        };
        let mine = rows
            .iter()
            .find(|(of, item)| of == self.table && text_of(item, "pk").is_some_and(is_one));
        let Some((_, item)) = mine else { return Revisions::default() };
        let all = item.keys().filter_map(|name| name.strip_prefix('s')?.parse().ok());
        let all = all.filter_map(|at: u8| Some((at, number_of(item, &format!("s{at}"))?)));
        Revisions(all.collect())
    }

    /// What a transaction that writes stripes writes into the revisions rows.
    fn announce(&self, stripes: &[(u8, u64)]) -> impl Iterator<Item = Change> {
        let sets: Vec<String> = stripes.iter().map(|(at, _)| format!("s{at} = :s{at}")).collect();
        let update = format!("SET {}", sets.join(", "));
        (0..REPLICAS).map(move |replica| {
            let row = key(self.revisions_pk(replica));
            let change = Change::update(self.table, row, update.clone());
            stripes.iter().fold(change, |change, (at, revision)| {
                change.value(format!(":s{at}"), number(*revision))
            })
        })
    }

    /// The changes that write whole stripes, none of which may be there.
    pub(super) fn first(&self, holds: &Holds) -> Vec<Change> {
        let put = |(at, stripe): (&u8, &Arc<Stripe>)| {
            Change::put(self.table, self.item(*at, stripe)).only_if("attribute_not_exists(pk)")
        };
        let revisions: Vec<(u8, u64)> =
            holds.stripes.iter().map(|(at, stripe)| (*at, stripe.revision)).collect();
        let mut changes: Vec<Change> = holds.stripes.iter().map(put).collect();
        if !revisions.is_empty() {
            changes.extend(self.announce(&revisions));
        }
        changes
    }

    fn item(&self, at: u8, stripe: &Stripe) -> Item {
        let mut item = key(self.stripe_pk(at));
        item.insert("rev".to_owned(), number(stripe.revision));
        if let Some(order) = &stripe.order {
            item.insert("order".to_owned(), text(order));
        }
        let entries = stripe.entries.iter().map(|(hash, entry)| (hash.clone(), entry.attribute()));
        item.insert("e".to_owned(), AttributeValue::M(entries.collect()));
        item
    }
}

impl Holds {
    /// The same, for keys that are told by this order.
    pub(crate) fn by_order(self, order: &impl ToString) -> Self {
        Self { order: Some(order.to_string()), ..self }
    }

    /// Another order, by which keys were told that have parked records.
    pub(crate) fn foreign_order(&self) -> Option<&str> {
        let with_parked = self
            .stripes
            .values()
            .filter(|stripe| stripe.entries.values().any(|entry| entry.state != State::Closed));
        let mut orders = with_parked.filter_map(|stripe| stripe.order.as_deref());
        orders.find(|order| self.order.as_deref().is_some_and(|mine| mine != *order))
    }

    /// The stripes whose copy here is of another revision.
    pub(crate) fn stale(&self, revisions: &Revisions) -> Vec<u8> {
        let is_stale = |(at, revision): &(&u8, &u64)| {
            self.stripes.get(*at).is_none_or(|stripe| stripe.revision != **revision)
        };
        revisions.0.iter().filter(is_stale).map(|(at, _)| *at).collect()
    }

    /// Leaves only stripes that the revisions tell of.
    pub(crate) fn keep_only(&mut self, revisions: &Revisions) {
        self.stripes.retain(|at, _| revisions.0.contains_key(at));
    }

    /// Takes the stripes that were asked for out of the rows that were read. A row that is
    /// not there is empty.
    pub(crate) fn read(&mut self, of: Rows<'_>, asked: &[u8], rows: &[(String, Item)]) {
        for at in asked {
            let pk = of.stripe_pk(*at);
            let row = rows
                .iter()
                .find(|(table, item)| table == of.table && text_of(item, "pk") == Some(&pk));
            match row {
                Some((_, item)) => drop(self.stripes.insert(*at, Arc::new(Stripe::read(item)))),
                None => drop(self.stripes.remove(at)),
            }
        }
    }

    /// Puts an entry where it belongs, without a row having been read.
    pub(super) fn adopt(&mut self, hash: String, entry: Entry) {
        let stripe = Arc::make_mut(self.stripes.entry(stripe_of(&hash)).or_default());
        stripe.revision = stripe.revision.max(first_revision(entry.changed_s));
        stripe.entries.insert(hash, entry);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stripes.values().all(|stripe| stripe.entries.is_empty())
    }

    /// The entry of a key.
    pub(crate) fn entry(&self, hash: &str) -> Option<&Entry> {
        self.stripes.get(&stripe_of(hash))?.entries.get(hash)
    }

    /// All entries, those of closed keys too.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let all = self.stripes.values().flat_map(|stripe| &stripe.entries);
        all.map(|(hash, entry)| (hash.as_str(), entry))
    }

    /// Hashes of the keys that have parked records.
    pub(crate) fn parked(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.all().filter(|(_, entry)| entry.state.has_parked())
    }

    /// Whether a key is in one of these states.
    pub(crate) fn has(&self, states: &[State]) -> bool {
        self.all().any(|(_, entry)| states.contains(&entry.state))
    }

    /// Hashes of the keys that are watched.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &str> {
        self.all().filter(|(_, entry)| entry.state == State::Watched).map(|(hash, _)| hash)
    }

    /// Whether a key that has no parked records yet would be one too many.
    pub(crate) fn is_full(&self, hash: &str, keys: u32) -> bool {
        let has_parked = |entry: &Entry| entry.state.has_parked();
        !self.entry(hash).is_some_and(has_parked) && self.parked().nth(keys as usize - 1).is_some()
    }

    /// The changes that set an entry, which belong into one transaction, and the row as it is
    /// after them.
    pub(crate) fn set(
        &self,
        of: Rows<'_>,
        hash: &str,
        entry: Entry,
        bounds: Bounds,
    ) -> Result<(Vec<Change>, Stripe), Full> {
        if entry.state != State::Closed && self.is_full(hash, bounds.keys) {
            return Err(Full);
        }
        let place = stripe_of(hash);
        let mut stripe = self.stripes.get(&place).map(|it| (**it).clone()).unwrap_or_default();
        stripe.entries.retain(|_, entry| {
            entry.state != State::Closed || entry.changed_s >= bounds.closed_since_s
        });
        stripe.entries.insert(hash.to_owned(), entry);
        stripe.make_room(hash)?;
        let (change, stripe) = self.replace(of, place, stripe);
        let mut changes = vec![change];
        changes.extend(of.announce(&[(place, stripe.revision)]));
        Ok((changes, stripe))
    }

    /// The changes that watch keys from a place on, where there is room, or none any more. They
    /// belong into one transaction. What was watched since before `expired_s` goes.
    pub(crate) fn watch(
        &self,
        of: Rows<'_>,
        keys: &BTreeMap<String, Option<String>>,
        (now_s, expired_s): (i64, i64),
    ) -> Vec<Change> {
        let mut by_place: BTreeMap<u8, Vec<_>> = BTreeMap::new();
        for key in keys {
            by_place.entry(stripe_of(key.0)).or_default().push(key);
        }
        let (mut changes, mut revisions) = (Vec::new(), Vec::new());
        for (place, keys) in by_place {
            let before = self.stripes.get(&place).map(|it| (**it).clone()).unwrap_or_default();
            let mut stripe = before.clone();
            stripe.watch(&keys, (now_s, expired_s));
            if stripe.entries != before.entries {
                let (change, stripe) = self.replace(of, place, stripe);
                changes.push(change);
                revisions.push((place, stripe.revision));
            }
        }
        if !changes.is_empty() {
            changes.extend(of.announce(&revisions));
        }
        changes
    }

    fn replace(&self, of: Rows<'_>, place: u8, mut stripe: Stripe) -> (Change, Stripe) {
        let newest = stripe.entries.values().map(|entry| entry.changed_s).max();
        let first = first_revision(newest.unwrap_or_default());
        let before = stripe.revision;
        stripe.revision = if before == 0 { first } else { before + 1 };
        stripe.order = self.order.clone().or(stripe.order);
        let change = Change::put(of.table, of.item(place, &stripe));
        let change = if before == 0 {
            change.only_if("attribute_not_exists(pk)")
        } else {
            change.only_if("rev = :rev").value(":rev", number(before))
        };
        (change, stripe)
    }

    /// Takes note of a row that was written.
    pub(crate) fn wrote(&mut self, hash: &str, stripe: Stripe) {
        self.stripes.insert(stripe_of(hash), Arc::new(stripe));
    }

    /// Takes a stripe over as another has it.
    pub(crate) fn copy(&mut self, at: u8, other: &Self) {
        match other.stripes.get(&at) {
            Some(stripe) => drop(self.stripes.insert(at, Arc::clone(stripe))),
            None => drop(self.stripes.remove(&at)),
        }
    }
}

/// Revisions count on from the moment a row is made, so that a row made anew in an emptied
/// table is not taken for a copy of the one before.
fn first_revision(now_s: i64) -> u64 {
    u64::try_from(now_s).unwrap_or_default() * 1_000 + 1
}

impl Stripe {
    fn read(item: &Item) -> Self {
        Self {
            revision: number_of(item, "rev").unwrap_or(0),
            order: text_of(item, "order").map(str::to_owned),
            entries: Self::entries_in(item),
        }
    }

    /// The entries in a row, of this layout or the one before consumers.
    pub(super) fn entries_in(item: &Item) -> BTreeMap<String, Entry> {
        let entries = item.get("e").and_then(|entries| entries.as_m().ok()).into_iter().flatten();
        entries.filter_map(|(hash, it)| Some((hash.clone(), Entry::of_attribute(it)?))).collect()
    }

    /// Watches keys from a place on, or none any more.
    fn watch(&mut self, keys: &[(&String, &Option<String>)], (now_s, expired_s): (i64, i64)) {
        self.entries
            .retain(|_, entry| entry.state != State::Watched || entry.changed_s >= expired_s);
        for (hash, from) in keys {
            let known = self.entries.get(*hash);
            let is_free = known.is_none_or(|entry| {
                entry.state == State::Watched && from.as_ref().is_none_or(|it| *it < entry.from)
            });
            let watched = self.entries.values().filter(|it| it.state == State::Watched).count();
            match from {
                _ if !is_free => {}
                None => drop(self.entries.remove(*hash)),
                Some(_) if known.is_none() && watched >= WATCHED_MAX => {}
                Some(from) => {
                    let (state, from) = (State::Watched, from.clone());
                    self.entries.insert((*hash).clone(), Entry { state, from, changed_s: now_s });
                }
            }
        }
    }

    /// Where the row would be too large, watched entries go, and then closed ones before their
    /// time, the oldest first; if there are none, there is no room.
    fn make_room(&mut self, new: &str) -> Result<(), Full> {
        // A map's member has its name, its value and a byte; numbers and states are short.
        let size = |(hash, entry): (&String, &Entry)| hash.len() + entry.from.len() + 24;
        let mut bytes: usize = self.entries.iter().map(size).sum();
        while bytes > STRIPE_BYTES_MAX {
            let spare = self
                .entries
                .iter()
                .filter(|(hash, entry)| !entry.state.has_parked() && hash.as_str() != new);
            let rank = |entry: &Entry| (entry.state != State::Watched, entry.changed_s);
            let oldest = spare.min_by_key(|(_, entry)| rank(entry));
            let (hash, entry) = oldest.map(|(hash, entry)| (hash.clone(), entry)).ok_or(Full)?;
            bytes -= size((&hash, entry));
            self.entries.remove(&hash);
        }
        Ok(())
    }
}

impl Entry {
    fn attribute(&self) -> AttributeValue {
        let state = match self.state {
            State::Open => "open",
            State::Skipped => "skipped",
            State::Closed => "closed",
            State::Watched => "watched",
        };
        text(format!("{state} {} {}", self.changed_s, self.from))
    }

    fn of_attribute(value: &AttributeValue) -> Option<Self> {
        let mut parts = value.as_s().ok()?.splitn(3, ' ');
        let state = match parts.next()? {
            "open" => State::Open,
            "skipped" => State::Skipped,
            "closed" => State::Closed,
            "watched" => State::Watched,
            _ => return None,
        };
        let changed_s = parts.next()?.parse().ok()?;
        Some(Self { state, changed_s, from: parts.next()?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: Rows<'static> = Rows { table: "t", consumer: "c" };
    const BOUNDS: Bounds = Bounds { keys: KEYS_MAX_DEFAULT, closed_since_s: 0 };

    fn entry(state: State, changed_s: i64) -> Entry {
        Entry { state, from: "R#a b".to_owned(), changed_s }
    }

    fn set(holds: &mut Holds, hash: &str, entry: Entry, bounds: Bounds) -> Result<Item, Full> {
        let (changes, stripe) = holds.set(OF, hash, entry, bounds)?;
        assert_eq!(changes.len(), 1 + usize::from(REPLICAS));
        holds.wrote(hash, stripe);
        Ok(changes[0].item.clone())
    }

    #[test]
    fn an_entry_survives_its_row() {
        let mut holds = Holds::default();
        for (hash, state) in [("00a", State::Open), ("41b", State::Skipped), ("3fc", State::Closed)]
        {
            let row = set(&mut holds, hash, entry(state, 7), BOUNDS).unwrap();
            let mut again = Holds::default();
            let rows = [("t".to_owned(), row), ("u".to_owned(), Item::new())];
            again.read(OF, &[stripe_of(hash)], &rows);
            assert_eq!(again.entry(hash), Some(&entry(state, 7)));
            again.read(OF, &[stripe_of(hash)], &[]);
            assert_eq!(again.entry(hash), None, "a row that is not there any more");
        }
        assert_eq!(holds.parked().count(), 2);
    }

    #[test]
    fn keys_that_are_parked_in_another_order_are_told() {
        let mut before = Holds::default().by_order(&"key");
        let mut after = Holds::default().by_order(&"shard");
        let read = |holds: &mut Holds, hash: &str, row: Item| {
            holds.read(OF, &[stripe_of(hash)], &[("t".to_owned(), row)]);
        };
        for (hash, state, foreign) in
            [("00a", State::Closed, None), ("01b", State::Open, Some("key"))]
        {
            let row = set(&mut before, hash, entry(state, 7), BOUNDS).unwrap();
            read(&mut after, hash, row);
            assert_eq!((before.foreign_order(), after.foreign_order()), (None, foreign));
        }
        // Taking records out, which knows no order, leaves it as it is.
        let mut operator = Holds { order: None, ..after.clone() };
        let row = set(&mut operator, "01b", entry(State::Skipped, 8), BOUNDS).unwrap();
        assert_eq!(operator.foreign_order(), None);
        read(&mut after, "01b", row);
        assert_eq!(after.foreign_order(), Some("key"));
    }

    #[test]
    fn watched_keys_take_the_room_that_nobody_needs() {
        let keys = |from: usize, to: usize, place: Option<&str>| {
            let key = |at| (format!("00{at:04}"), place.map(str::to_owned));
            (from..to).map(key).collect::<BTreeMap<_, _>>()
        };
        let mut holds = Holds::default();
        let write = |holds: &mut Holds, changes: Vec<Change>| {
            assert_eq!(changes.len(), 1 + usize::from(REPLICAS));
            holds.read(OF, &[0], &[("t".to_owned(), changes[0].item.clone())]);
        };
        let changes = holds.watch(OF, &keys(0, WATCHED_MAX + 9, Some("R#5")), (10, 0));
        write(&mut holds, changes);
        assert_eq!(holds.watched().count(), WATCHED_MAX);
        assert_eq!(holds.parked().count(), 0);
        // What is watched from an earlier place stays; from a later one it changes nothing.
        assert!(holds.watch(OF, &keys(0, 9, Some("R#6")), (11, 0)).is_empty());
        set(&mut holds, "00x", entry(State::Open, 12), BOUNDS).unwrap();
        assert_eq!(holds.watched().count(), WATCHED_MAX, "there was room");
        let changes = holds.watch(OF, &keys(3, 4, None), (13, 0));
        write(&mut holds, changes);
        assert_eq!(holds.watched().count(), WATCHED_MAX - 1);
        let changes = holds.watch(OF, &keys(1, 2, Some("R#1")), (90, 50));
        write(&mut holds, changes);
        assert_eq!(holds.watched().collect::<Vec<_>>(), ["000001"], "the others are expired");
        assert_eq!(holds.parked().count(), 1);
    }

    #[test]
    fn a_copy_is_stale_when_its_revision_is_another() {
        let mut holds = Holds::default();
        set(&mut holds, "00", entry(State::Open, 7), BOUNDS).unwrap();
        let row = |revision: u64| {
            let mut item = key("V#c#5");
            item.insert("s0".to_owned(), number(revision));
            vec![("t".to_owned(), item)]
        };
        assert_eq!(holds.stale(&OF.revisions_in(&row(7_001))), [0; 0]);
        assert_eq!(holds.stale(&OF.revisions_in(&row(7_002))), [0]);
        assert_eq!(holds.stale(&OF.revisions_in(&row(1))), [0], "of an emptied table");
        let other = Rows { consumer: "c2", ..OF };
        assert_eq!(other.revisions_in(&row(7_002)), Revisions::default());
        holds.keep_only(&Revisions::default());
        assert!(holds.is_empty());
    }

    #[test]
    fn closed_entries_leave_by_their_age() {
        let mut holds = Holds::default();
        set(&mut holds, "00a", entry(State::Closed, 10), BOUNDS).unwrap();
        set(&mut holds, "00b", entry(State::Closed, 20), BOUNDS).unwrap();
        set(&mut holds, "00c", entry(State::Open, 10), BOUNDS).unwrap();
        let later = Bounds { closed_since_s: 20, ..BOUNDS };
        set(&mut holds, "00d", entry(State::Open, 30), later).unwrap();
        let left: Vec<&str> = ["00a", "00b", "00c", "00d"]
            .into_iter()
            .filter(|hash| holds.entry(hash).is_some())
            .collect();
        assert_eq!(left, ["00b", "00c", "00d"]);
    }

    #[test]
    fn a_row_is_bounded_by_its_bytes_and_all_by_the_number_of_keys() {
        let mut holds = Holds::default();
        let long = |state, changed_s| Entry { from: "x".repeat(10_000), ..entry(state, changed_s) };
        set(&mut holds, "00", long(State::Closed, 1), BOUNDS).unwrap();
        for at in 0..29 {
            set(&mut holds, &format!("00{at:02}"), long(State::Open, 2), BOUNDS).unwrap();
        }
        assert_eq!(holds.entry("00"), None, "closed entries make room");
        assert_eq!(set(&mut holds, "00x", long(State::Open, 3), BOUNDS), Err(Full));
        let few = Bounds { keys: 29, ..BOUNDS };
        assert_eq!(set(&mut holds, "01", entry(State::Open, 3), few), Err(Full));
        assert!(set(&mut holds, "01", entry(State::Closed, 3), few).is_ok());
        assert!(set(&mut holds, "0000", entry(State::Closed, 3), few).is_ok());
        assert!(set(&mut holds, "01", entry(State::Open, 4), few).is_ok(), "one has gone");
    }
}
