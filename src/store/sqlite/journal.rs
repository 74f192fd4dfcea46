//! Appends to the journal: a list's changes, its new version, and its dirty mark. Used by every step that changes statuses; the
//! caller updates memory.

use rusqlite::{Connection, params};

use super::hot::HotList;
use super::many;
use super::schema::{EVERY, MANY};
use crate::base::clock::Timestamp;
use crate::status_list::Status;
use crate::store::values::StoreError;

/// Makes these changes, in their order, the list's next version. Changes of every entry come first.
pub(super) fn append(
    connection: &Connection,
    list: &mut HotList,
    changes: impl IntoIterator<Item = (i64, Status)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    list.version.0 += 1;
    let sql = "INSERT INTO journal (list, seq, idx, value, version, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert = connection.prepare_cached(sql)?;
    let mut insert = |list: &mut HotList, idx: i64, status: Status| -> Result<(), StoreError> {
        list.journaled += 1;
        let row = params![list.id, list.journaled, idx, status.value(), list.version.0, now.millis()];
        insert.execute(row)?;
        Ok(())
    };
    let changes: Vec<_> = changes.into_iter().collect();
    let of_every = changes.iter().take_while(|(idx, _)| *idx == EVERY).count();
    let (every, entries) = changes.split_at(of_every);
    for &(idx, status) in every {
        insert(list, idx, status)?;
    }
    if entries.len() < many::MIN {
        for &(idx, status) in entries {
            insert(list, idx, status)?;
        }
    } else {
        insert(list, MANY, Status::VALID)?;
        let entry = |&(idx, status): &(i64, Status)| {
            (u32::try_from(idx).expect("every other index is one of an entry"), status)
        };
        many::insert(connection, list.id, list.journaled, entries.iter().map(entry))?;
    }
    let sql =
        "UPDATE list SET version = ?2, journaled = ?3, dirty_since = coalesce(dirty_since, ?4) WHERE id = ?1";
    let row = params![list.id, list.version.0, list.journaled, now.millis()];
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(())
}
