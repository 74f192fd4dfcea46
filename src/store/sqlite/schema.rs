//! The schema, its migrations, and the special values in it. `PRAGMA user_version` counts the applied migrations, and
//! `PRAGMA application_id` tells a database into which a copy was begun and not finished.

use std::path::Path;

use rusqlite::Connection;

use crate::store::StoreError;

/// Bytes of one chunk row.
pub(super) const CHUNK_BYTES: usize = 4096;
/// The `journal.idx` of a change of every entry.
pub(super) const EVERY: i64 = -1;
/// The `journal.idx` of many changes in one step, which are in `many`.
pub(super) const MANY: i64 = -2;

/// The `application_id` of an unfinished copy, "unfi"; any other database has 0.
const UNFINISHED: i32 = 0x756e_6669;

/// In order. A released migration is never changed; a new one follows it.
const MIGRATIONS: [&str; 7] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
];

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed =
        |why: rusqlite::Error| StoreError::Open { path: path.display().to_string(), why: why.to_string() };
    let found = applied(connection, path)?;
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(migration).map_err(failed)?;
        transaction.pragma_update(None, "user_version", number + 1).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

/// Fails unless all migrations are applied.
pub(super) fn check_is_current(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let (found, path) = (applied(connection, path)?, path.display().to_string());
    let known = MIGRATIONS.len();
    if found < known {
        let why = format!(
            "it has schema {found}, and this version reads schema {known}; start its service once, which migrates it"
        );
        return Err(StoreError::Open { path, why });
    }
    Ok(())
}

/// The number of applied migrations.
fn applied(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let path = path.display().to_string();
    match connection.pragma_query_value(None, "user_version", |row| row.get(0)) {
        Ok(found) if found > MIGRATIONS.len() => {
            Err(StoreError::SchemaTooNew { path, found, known: MIGRATIONS.len() })
        }
        Ok(found) => Ok(found),
        Err(why) => Err(StoreError::Open { path, why: why.to_string() }),
    }
}

/// Whether a copy into this database was begun and not finished.
pub(super) fn is_unfinished(connection: &Connection) -> rusqlite::Result<bool> {
    let found: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    Ok(found == UNFINISHED)
}

/// Sets or removes the mark of an unfinished copy, as a part of the current transaction.
pub(super) fn mark_unfinished(connection: &Connection, unfinished: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", if unfinished { UNFINISHED } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing_and_a_newer_schema_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        let path = Path::new("a.db");
        migrate(&mut connection, path).unwrap();
        migrate(&mut connection, path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection, path).unwrap_err();
        assert!(error.to_string().contains("schema 99"), "{error}");
    }
}
