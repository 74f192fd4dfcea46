//! A copy of the database while a service uses it.

use std::path::Path;

use rusqlite::Connection;

use super::read;
use crate::base::durable::{self, FileError, Temporary};
use crate::store::values::StoreError;

/// Copies the database at `from`, as it is at one moment, into the new file `to`. The copy is whole, checked and durable when it has
/// its name. Returns the number of its lists. The database's log grows while the copy is made, for it keeps that moment.
pub(super) fn back_up(from: &Path, to: &Path) -> Result<u64, StoreError> {
    let shown = |path: &Path| path.display().to_string();
    let of_file = |why: FileError| StoreError::Open { path: shown(to), why: why.to_string() };
    let source = read::open(from)?;
    let copy = |temporary: &Path| {
        source.execute("VACUUM INTO ?1", [shown(temporary)])?;
        check(temporary)
    };
    let (temporary, lists) = Temporary::written_by(to, copy).map_err(of_file)?;
    let lists = lists.map_err(|why| StoreError::Open {
        path: shown(to),
        why: format!("copying {} into it: {why}; nothing was left there", shown(from)),
    })?;
    temporary.link_to(to).map_err(of_file)?;
    durable::sync_folder(durable::folder_of(to)).map_err(of_file)?;
    Ok(lists)
}

/// Returns the number of lists, if the copy is whole.
fn check(copy: &Path) -> rusqlite::Result<u64> {
    let copy = Connection::open(copy)?;
    let said: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        let damaged = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(damaged, Some(said)));
    }
    copy.query_row("SELECT count(*) FROM list", [], |row| row.get(0))
}
