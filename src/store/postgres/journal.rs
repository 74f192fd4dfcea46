//! The journal: one row for each version of a list, with the changes that made it.

use tokio_postgres::Row;

use super::query::{Query, damaged, get, maybe, query};
use crate::base::clock::Timestamp;
use crate::status_list::{ListId, Status};
use crate::store::values::{Changes, StoreError, Version};

/// Bytes of a change: the index, little-endian, and the status.
const ENTRY_BYTES: usize = 5;

/// The next version of a list.
pub(super) struct Entry {
    /// The id of the list's row.
    pub(super) list: u64,
    /// The status of the entries whose chunk is missing.
    pub(super) filled: Status,
    /// The status that every entry was set to first.
    pub(super) every: Option<Status>,
    /// The changes after that, in their order.
    pub(super) changes: Vec<(u32, Status)>,
}

/// Gives lists, which are locked, their next versions and dirty marks.
pub(super) fn append(entries: &[Entry], now: Timestamp) -> Query {
    let sql = "WITH changed AS (
                   UPDATE list SET version = version + 1, dirty_since = coalesce(dirty_since, $5), filled = next.filled
                   FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::bytea[]) AS next (id, filled, every, entries)
                   WHERE list.id = next.id RETURNING list.id, list.version, next.every, next.entries)
               INSERT INTO journal (list, version, at, every, entries) SELECT id, version, $5, every, entries FROM changed";
    query(sql)
        .numbers(entries.iter().map(|entry| entry.list))
        .numbers(entries.iter().map(|entry| u64::from(entry.filled.value())))
        .maybes(entries.iter().map(|entry| entry.every.map(|status| status.value().into())))
        .byte_strings(entries.iter().map(|entry| bytes(&entry.changes)).collect())
        .number(now.millis())
}

fn bytes(changes: &[(u32, Status)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_BYTES * changes.len());
    for (index, status) in changes {
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.push(status.value());
    }
    bytes
}

/// The changes since the list's latest publication, up to `version`: every, entries.
pub(super) fn read(list: ListId, version: Version) -> Query {
    let sql = "SELECT journal.every, journal.entries FROM list
               JOIN journal ON journal.list = list.id AND journal.version > coalesce(list.published_version, 0)
               WHERE list.uuid = $1 AND journal.version <= $2 ORDER BY journal.version";
    query(sql).list(list).number(version.0)
}

pub(super) fn changes(rows: &[Row]) -> Result<Changes, StoreError> {
    let mut changes = Changes::default();
    for row in rows {
        if let Some(status) = maybe::<u8>(row, 0)? {
            changes = Changes { every: Some(Status::new(status)), entries: Vec::new() };
        }
        let (entries, rest) = get::<&[u8]>(row, 1)?.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(damaged(&"entries of the journal are cut off"));
        }
        let change = |&[a, b, c, d, status]: &[u8; ENTRY_BYTES]| {
            (u32::from_le_bytes([a, b, c, d]), Status::new(status))
        };
        changes.entries.extend(entries.iter().map(change));
    }
    Ok(changes)
}
