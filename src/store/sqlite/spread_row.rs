//! The row of a list's spread. It exists while the spread is in progress.

use rusqlite::{Connection, params};

use super::hot::HotList;
use crate::store::Spread;
use crate::store::values::StoreError;

/// Gives a list this spread. Replaces any other.
pub(super) fn insert(connection: &Connection, list: i64, spread: &Spread) -> Result<(), StoreError> {
    let Spread { value, beats, key, done } = spread;
    let sql = "INSERT OR REPLACE INTO spread (list, value, beats, key, done) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![list, value.value(), beats, key.as_bytes(), done])?;
    Ok(())
}

/// Removes a list's spread, if it has one.
pub(super) fn remove(connection: &Connection, list: &mut HotList) -> Result<Option<Spread>, StoreError> {
    let spread = list.spread.take();
    if spread.is_some() {
        connection.prepare_cached("DELETE FROM spread WHERE list = ?1")?.execute([list.id])?;
    }
    Ok(spread)
}
