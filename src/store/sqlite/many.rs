//! Many changes of one list in one step: one row of the journal and one value that holds them all, instead of a row for each. The
//! writing thread is the only one, so what takes it long keeps every other pool waiting.

use rusqlite::{Connection, OptionalExtension, params};

use crate::status_list::Status;
use crate::store::values::StoreError;

/// From so many changes on; below, rows are as quick.
pub(super) const MIN: usize = 32;
/// Bytes of a change: the index, little-endian, and the value.
const ENTRY_BYTES: usize = 5;

/// Stores the changes of the journal's row `seq` of a list.
pub(super) fn insert(
    connection: &Connection,
    list: i64,
    seq: i64,
    changes: impl ExactSizeIterator<Item = (u32, Status)>,
) -> Result<(), StoreError> {
    let mut entries = Vec::with_capacity(ENTRY_BYTES * changes.len());
    for (index, status) in changes {
        entries.extend_from_slice(&index.to_le_bytes());
        entries.push(status.value());
    }
    let sql = "INSERT INTO many (list, seq, entries) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![list, seq, entries])?;
    Ok(())
}

/// The changes of the journal's row `seq` of a list, in their order.
pub(super) fn select(connection: &Connection, list: i64, seq: i64) -> Result<Vec<(u32, Status)>, StoreError> {
    let sql = "SELECT entries FROM many WHERE list = ?1 AND seq = ?2";
    let mut query = connection.prepare_cached(sql)?;
    let entries: Option<Vec<u8>> = query.query_row([list, seq], |row| row.get(0)).optional()?;
    let missing = || StoreError::Damaged(format!("the journal's row {seq} of list {list} has no entries"));
    parse(&entries.ok_or_else(missing)?)
}

/// The indices of all such changes of a list since its latest folding.
pub(super) fn unfolded(connection: &Connection, list: i64) -> Result<Vec<u32>, StoreError> {
    let sql = "SELECT entries FROM many JOIN list ON list.id = many.list WHERE many.list = ?1 AND many.seq > list.folded";
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query([list])?;
    let mut indices = Vec::new();
    while let Some(row) = rows.next()? {
        indices.extend(parse(&row.get::<_, Vec<u8>>(0)?)?.into_iter().map(|(index, _)| index));
    }
    Ok(indices)
}

fn parse(entries: &[u8]) -> Result<Vec<(u32, Status)>, StoreError> {
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(StoreError::Damaged("entries of the journal are cut off".to_owned()));
    }
    let change =
        |&[a, b, c, d, value]: &[u8; ENTRY_BYTES]| (u32::from_le_bytes([a, b, c, d]), Status::new(value));
    Ok(entries.iter().map(change).collect())
}
