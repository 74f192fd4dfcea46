//! Recently written lists, unpacked in memory: checks final statuses and folds chunks without reading the database.
//!
//! Only a cache. Its content equals what is committed, or the list is dropped from it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rusqlite::Connection;

use super::schema::{CHUNK_BYTES, EVERY, MANY};
use super::{many, read};
use crate::model::pool::PoolShape;
use crate::status_list::{Index, ListId, Status, StatusArray};
use crate::store::Spread;
use crate::store::values::{StoreError, Version};

/// The most bytes of arrays in memory: 2,500 lists of 100,000 entries of one bit.
const ARRAYS_BYTES_MAX: usize = 32 << 20;
/// The number of lists kept whatever their size; otherwise the largest would be read anew for every batch.
const LISTS_MIN: usize = 4;

/// One list in memory.
pub(super) struct HotList {
    pub(super) id: i64,
    pub(super) shape: Arc<PoolShape>,
    pub(super) retired: bool,
    pub(super) version: Version,
    /// The seq of its latest journal row.
    pub(super) journaled: i64,
    pub(super) spread: Option<Spread>,
    array: StatusArray,
    /// For each chunk, whether it differs from its row.
    unfolded: Vec<bool>,
    used_at: u64,
}

/// The lists in memory.
#[derive(Default)]
pub(super) struct HotLists {
    lists: HashMap<ListId, HotList>,
    bytes: usize,
    ticks: u64,
}

impl HotList {
    pub(super) fn get(&self, index: Index) -> Status {
        self.array.get(index)
    }

    /// Sets a status and returns the old one.
    pub(super) fn set(&mut self, index: Index, status: Status) -> Status {
        self.unfolded[self.array.byte_of(index) / CHUNK_BYTES] = true;
        self.array.set(index, status)
    }

    /// Sets every status.
    pub(super) fn fill(&mut self, status: Status) {
        self.array = StatusArray::filled(self.array.capacity(), status);
        self.unfolded.fill(true);
    }

    /// Returns the first entry that has this status, or will have it through the list's spread.
    pub(super) fn first_to_have(&self, status: Status) -> Option<Index> {
        match self.spread {
            Some(spread) if spread.value == status => self.array.capacity().index(0).ok(),
            _ => self.array.find(status),
        }
    }

    /// Returns the chunks that differ from their rows, each with its number.
    pub(super) fn unfolded(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let bytes = self.array.as_bytes();
        let chunks = bytes.chunks(CHUNK_BYTES).enumerate();
        chunks.zip(&self.unfolded).filter(|(_, unfolded)| **unfolded).map(|(chunk, _)| chunk)
    }

    pub(super) fn folded(&mut self) {
        self.unfolded.fill(false);
    }
}

impl HotLists {
    /// Returns the list, from the database if it is not in memory; `None` if no list has this id.
    pub(super) fn load(
        &mut self,
        connection: &Connection,
        list: ListId,
        shape_of: impl FnOnce(i64) -> Result<Arc<PoolShape>, StoreError>,
    ) -> Result<Option<&mut HotList>, StoreError> {
        self.ticks += 1;
        // One look into the map: large batches come here for each of their changes.
        let hot = match self.lists.entry(list) {
            Entry::Occupied(loaded) => loaded.into_mut(),
            Entry::Vacant(absent) => {
                let Some(stored) = read::snapshot_in(connection, list)? else { return Ok(None) };
                let read::Stored { id, journaled, retired, spread, snapshot } = stored;
                let shape = shape_of(id)?;
                let unfolded = unfolded_chunks(connection, id, &snapshot.array)?;
                self.bytes += snapshot.array.as_bytes().len();
                absent.insert(HotList {
                    id,
                    shape,
                    retired,
                    version: snapshot.version,
                    journaled,
                    spread,
                    array: snapshot.array,
                    unfolded,
                    used_at: 0,
                })
            }
        };
        hot.used_at = self.ticks;
        Ok(Some(hot))
    }

    /// Returns a list that was loaded before and not dropped since.
    pub(super) fn loaded(&mut self, list: ListId) -> &mut HotList {
        self.lists
            .get_mut(&list)
            .expect("the caller loaded it in this step, and nothing is dropped before its end")
    }

    /// Drops a list, so that it is read again.
    pub(super) fn forget(&mut self, list: ListId) {
        if let Some(hot) = self.lists.remove(&list) {
            self.bytes -= hot.array.as_bytes().len();
        }
    }

    /// Drops the least recently used lists until the rest fits. To be called between steps.
    pub(super) fn trim(&mut self) {
        if self.bytes <= ARRAYS_BYTES_MAX {
            return;
        }
        let mut by_age: Vec<_> = self.lists.iter().map(|(list, hot)| (hot.used_at, *list)).collect();
        by_age.sort_unstable();
        for (_, list) in by_age {
            if self.bytes <= ARRAYS_BYTES_MAX * 3 / 4 || self.lists.len() <= LISTS_MIN {
                break;
            }
            self.forget(list);
        }
    }
}

/// Returns the chunks that the journal has changed since the last folding.
fn unfolded_chunks(connection: &Connection, id: i64, array: &StatusArray) -> Result<Vec<bool>, StoreError> {
    let sql = "SELECT DISTINCT journal.idx FROM journal JOIN list ON list.id = journal.list
               WHERE journal.list = ?1 AND journal.seq > list.folded";
    let mut query = connection.prepare_cached(sql)?;
    let indices = query.query_map([id], |row| row.get::<_, i64>(0))?;
    let mut chunks = vec![false; array.as_bytes().len().div_ceil(CHUNK_BYTES)];
    let mut changed = |idx: i64| {
        if let Some(index) = u64::try_from(idx).ok().and_then(|idx| array.capacity().index(idx).ok()) {
            chunks[array.byte_of(index) / CHUNK_BYTES] = true;
        }
    };
    for idx in indices {
        match idx? {
            EVERY => return Ok(vec![true; array.as_bytes().len().div_ceil(CHUNK_BYTES)]),
            MANY => many::unfolded(connection, id)?.into_iter().for_each(|idx| changed(idx.into())),
            idx => changed(idx),
        }
    }
    Ok(chunks)
}
