//! Appends to the journal: a list's changes, its new version, and its dirty mark. Used by every step that changes statuses; the
//! caller updates memory.

use rusqlite::{Connection, params};

use super::hot::HotList;
use crate::base::clock::Timestamp;
use crate::status_list::Status;
use crate::store::values::StoreError;

/// Makes these changes, in their order, the list's next version.
pub(super) fn append(
    connection: &Connection,
    list: &mut HotList,
    changes: impl IntoIterator<Item = (i64, Status)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    list.version.0 += 1;
    let sql = "INSERT INTO journal (list, seq, idx, value, version, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert = connection.prepare_cached(sql)?;
    for (idx, status) in changes {
        list.journaled += 1;
        let row = params![list.id, list.journaled, idx, status.value(), list.version.0, now.millis()];
        insert.execute(row)?;
    }
    let sql =
        "UPDATE list SET version = ?2, journaled = ?3, dirty_since = coalesce(dirty_since, ?4) WHERE id = ?1";
    let row = params![list.id, list.version.0, list.journaled, now.millis()];
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(())
}
