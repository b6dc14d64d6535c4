//! What was read and not handed over yet, and how readers and the run wait for each other.
//!
//! A reader goes on when a shard's buffer holds less than one batch, so at most a batch and one
//! read stand there; the run is woken when something changes. Both sides look first and wait
//! then, and a notification that comes between the two is kept.

use super::error::LiveError;
use crate::local::mapping::{Entry, Listed};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The buffers of all shards that are being read.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    inner: Mutex<Inner>,
    /// For the run: there is something new.
    changed: Notify,
    /// For the discovery: a shard has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    shards: BTreeMap<String, Buffer>,
    listing: Option<Vec<Listed>>,
    failure: Option<LiveError>,
}

#[derive(Debug, Default)]
struct Buffer {
    entries: VecDeque<Entry>,
    has_ended: bool,
    /// For the reader: there is room.
    taken: Arc<Notify>,
}

/// What a buffer gives.
#[derive(Debug)]
pub(super) enum Taken {
    Entry(Entry),
    Nothing,
    End,
}

impl Buffers {
    /// What is locked is whole between any two lines of this file, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, shard_id: &str) {
        self.lock().shards.insert(shard_id.to_owned(), Buffer::default());
    }

    pub(super) fn close(&self, shard_id: &str) {
        self.lock().shards.remove(shard_id);
    }

    pub(super) fn list(&self, listing: Vec<Listed>) {
        self.lock().listing = Some(listing);
        self.changed.notify_one();
    }

    pub(super) fn take_listing(&self) -> Option<Vec<Listed>> {
        self.lock().listing.take()
    }

    pub(super) fn has_more(&self, shard_id: &str) -> bool {
        let inner = self.lock();
        let buffer = inner.shards.get(shard_id);
        buffer.is_some_and(|buffer| buffer.has_ended || !buffer.entries.is_empty())
    }

    pub(super) fn take(&self, shard_id: &str) -> Taken {
        let mut inner = self.lock();
        let Some(buffer) = inner.shards.get_mut(shard_id) else { return Taken::Nothing };
        match buffer.entries.pop_front() {
            Some(entry) => {
                buffer.taken.notify_one();
                Taken::Entry(entry)
            }
            None if buffer.has_ended => Taken::End,
            None => Taken::Nothing,
        }
    }

    pub(super) fn push(&self, shard_id: &str, entries: Vec<Entry>) {
        if let Some(buffer) = self.lock().shards.get_mut(shard_id) {
            buffer.entries.extend(entries);
        }
        self.changed.notify_one();
    }

    pub(super) fn end(&self, shard_id: &str) {
        if let Some(buffer) = self.lock().shards.get_mut(shard_id) {
            buffer.has_ended = true;
        }
        self.changed.notify_one();
        self.ended.notify_one();
    }

    /// The stream cannot be read any more.
    pub(super) fn fail(&self, error: LiveError) {
        self.lock().failure.get_or_insert(error);
        self.changed.notify_one();
    }

    /// Waits until fewer than so many entries of the shard are left.
    pub(super) async fn room(&self, shard_id: &str, fewer_than: usize) {
        loop {
            let taken = match self.lock().shards.get(shard_id) {
                Some(buffer) if buffer.entries.len() >= fewer_than.max(1) => {
                    Arc::clone(&buffer.taken)
                }
                _ => return,
            };
            taken.notified().await;
        }
    }

    /// Waits until a shard has ended.
    pub(super) async fn shard_ends(&self) {
        self.ended.notified().await;
    }

    /// Waits for something new.
    pub(super) async fn changes(&self) -> Result<(), LiveError> {
        self.changed.notified().await;
        self.lock().failure.clone().map_or(Ok(()), Err)
    }
}
