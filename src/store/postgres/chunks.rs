//! The statuses of one list as they are stored: chunks of the packed array, of which those are missing whose entries all have the
//! status that the list is filled with.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::query::{Query, damaged, get, number, query};
use crate::status_list::{Capacity, Index, ListId, Status, StatusArray};
use crate::store::values::StoreError;

/// Bytes of one chunk. Entries never lie in two of them.
pub(super) const CHUNK_BYTES: usize = 1024;

/// The chunks of a list that a step needs, all others being untouched.
pub(super) struct Chunks {
    capacity: Capacity,
    filled: Status,
    chunks: BTreeMap<u64, Chunk>,
}

struct Chunk {
    array: StatusArray,
    changed: bool,
}

impl Chunks {
    /// No chunk yet: all entries have the status that the list is filled with.
    pub(super) fn new(capacity: Capacity, filled: Status) -> Self {
        Self { capacity, filled, chunks: BTreeMap::new() }
    }

    /// Adds a stored chunk.
    pub(super) fn add(&mut self, n: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let capacity = self.capacity_of(n)?;
        let array = StatusArray::from_bytes(capacity, bytes.to_vec()).map_err(|error| damaged(&error))?;
        self.chunks.insert(n, Chunk { array, changed: false });
        Ok(())
    }

    /// The status of an entry whose chunk was added, if it is stored.
    pub(super) fn get(&self, index: Index) -> Result<Status, StoreError> {
        let (n, within) = self.place(index);
        match self.chunks.get(&n) {
            Some(chunk) => Ok(chunk.array.get(at(&chunk.array, within)?)),
            None => Ok(self.filled),
        }
    }

    /// Sets a status and returns the old one.
    pub(super) fn set(&mut self, index: Index, status: Status) -> Result<Status, StoreError> {
        let (n, within) = self.place(index);
        let (capacity, filled) = (self.capacity_of(n)?, self.filled);
        let missing = || Chunk { array: StatusArray::filled(capacity, filled), changed: true };
        let chunk = self.chunks.entry(n).or_insert_with(missing);
        chunk.changed = true;
        let index = at(&chunk.array, within)?;
        Ok(chunk.array.set(index, status))
    }

    /// Sets every status. All stored chunks must then be removed.
    pub(super) fn fill(&mut self, status: Status) {
        self.filled = status;
        self.chunks.clear();
    }

    /// The status that the list is filled with.
    pub(super) fn filled(&self) -> Status {
        self.filled
    }

    /// The chunks that were changed, each with its number.
    pub(super) fn changed(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let changed = self.chunks.iter().filter(|(_, chunk)| chunk.changed);
        changed.map(|(n, chunk)| (*n, chunk.array.as_bytes()))
    }

    /// All statuses, if all stored chunks were added.
    pub(super) fn array(&self) -> Result<StatusArray, StoreError> {
        let mut bytes = StatusArray::filled(self.capacity, self.filled).as_bytes().to_vec();
        for (n, chunk) in &self.chunks {
            let start = usize::try_from(*n).map_err(|error| damaged(&error))? * CHUNK_BYTES;
            let chunk = chunk.array.as_bytes();
            bytes[start..start + chunk.len()].copy_from_slice(chunk);
        }
        StatusArray::from_bytes(self.capacity, bytes).map_err(|error| damaged(&error))
    }

    /// The chunk of an entry, and its place within.
    fn place(&self, index: Index) -> (u64, u64) {
        let (index, entries) = (u64::from(index.get()), entries_of_chunk(self.capacity));
        (index / entries, index % entries)
    }

    fn capacity_of(&self, n: u64) -> Result<Capacity, StoreError> {
        let beyond = || StoreError::Damaged(format!("a list has a chunk {n}, beyond its end"));
        let start = n.checked_mul(CHUNK_BYTES as u64).ok_or_else(beyond)?;
        let left = (self.capacity.bytes() as u64).checked_sub(start).filter(|left| *left > 0);
        let bytes = usize::try_from(left.ok_or_else(beyond)?).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        Capacity::of_bytes(bytes, self.capacity.bits()).map_err(|error| damaged(&error))
    }
}

fn at(array: &StatusArray, within: u64) -> Result<Index, StoreError> {
    array.capacity().index(within).map_err(|error| damaged(&error))
}

fn entries_of_chunk(capacity: Capacity) -> u64 {
    CHUNK_BYTES as u64 * 8 / u64::from(capacity.bits().get())
}

/// The number of the chunk that holds an entry of a list of this capacity.
pub(super) fn chunk_of(capacity: Capacity, index: Index) -> u64 {
    u64::from(index.get()) / entries_of_chunk(capacity)
}

/// The chunks of these lists and numbers that are stored: uuid, n, bytes.
pub(super) fn read(lists: &[ListId], numbers: Vec<u64>) -> Query {
    let sql = "SELECT list.uuid, chunk.n, chunk.bytes FROM unnest($1::text[], $2::int8[]) AS wanted (uuid, n)
               JOIN list ON list.uuid = wanted.uuid JOIN chunk ON chunk.list = list.id AND chunk.n = wanted.n";
    query(sql).lists(lists).numbers(numbers)
}

/// All stored chunks of a list: uuid, n, bytes.
pub(super) fn read_all(list: ListId) -> Query {
    let sql = "SELECT list.uuid, chunk.n, chunk.bytes FROM list JOIN chunk ON chunk.list = list.id WHERE list.uuid = $1";
    query(sql).list(list)
}

/// A row of [`read`] or [`read_all`], without the list.
pub(super) fn row(row: &Row) -> Result<(u64, &[u8]), StoreError> {
    Ok((number(row, 1)?, get(row, 2)?))
}

/// Writes chunks: of lists, by the id of their rows.
pub(super) fn write<'a>(changed: impl Iterator<Item = (u64, u64, &'a [u8])>) -> Option<Query> {
    let (mut lists, mut numbers, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (list, n, chunk) in changed {
        lists.push(list);
        numbers.push(n);
        bytes.push(chunk.to_vec());
    }
    let sql = "INSERT INTO chunk (list, n, bytes) SELECT * FROM unnest($1::int8[], $2::int8[], $3::bytea[])
               ON CONFLICT (list, n) DO UPDATE SET bytes = excluded.bytes";
    (!lists.is_empty()).then(|| query(sql).numbers(lists).numbers(numbers).byte_strings(bytes))
}

/// Removes all chunks of lists, by the id of their rows.
pub(super) fn remove(lists: Vec<u64>) -> Option<Query> {
    let sql = "DELETE FROM chunk WHERE list = ANY($1)";
    (!lists.is_empty()).then(|| query(sql).numbers(lists))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::Bits;

    /// Against one array for the whole list, across the borders of chunks and in a last one that is shorter.
    #[test]
    fn chunks_are_pieces_of_the_array() {
        for (bits, size) in [(Bits::One, 20_000), (Bits::Two, 8000), (Bits::Eight, 3000), (Bits::Four, 16)] {
            let capacity = Capacity::new(size, bits).unwrap();
            let filled = Status::INVALID;
            let mut expected = StatusArray::filled(capacity, filled);
            let mut chunks = Chunks::new(capacity, filled);
            for step in 0..500 {
                let index = capacity.index(step * 7919 % size).unwrap();
                let status = Status::new((step % 2) as u8);
                assert_eq!(chunks.get(index).unwrap(), expected.get(index));
                assert_eq!(chunks.set(index, status).unwrap(), expected.set(index, status));
            }
            assert_eq!(chunks.array().unwrap(), expected);
            let mut again = Chunks::new(capacity, filled);
            for (n, bytes) in chunks.changed() {
                again.add(n, bytes).unwrap();
            }
            assert_eq!(again.array().unwrap(), expected);
            assert_eq!(again.changed().count(), 0);
            assert!(matches!(again.add(1 << 40, &[]), Err(StoreError::Damaged(_))));
            assert!(matches!(again.add(0, &[1]), Err(StoreError::Damaged(_))));
        }
    }
}
