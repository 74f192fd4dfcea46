//! What operators made at run time: one row.

use rusqlite::{Connection, params};

use super::SqliteStore;
use super::write::Writer;
use crate::store::values::StoreError;
use crate::store::{Deadline, Registered, Stamp};

impl SqliteStore {
    pub(in crate::store) async fn registry_stamp(&self) -> Result<Stamp, StoreError> {
        self.read(|connection| Ok(read(connection)?.stamp)).await
    }

    pub(in crate::store) async fn registry(&self) -> Result<Registered, StoreError> {
        self.read(|connection| read(connection)).await
    }

    pub(in crate::store) async fn replace_registry(
        &self,
        seen: &Stamp,
        newer: &Registered,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let (seen, newer) = (seen.clone(), newer.clone());
        self.write_before(deadline, 0, move |writer| replace(writer, &seen, &newer)).await
    }
}

fn read(connection: &Connection) -> Result<Registered, StoreError> {
    let mut query = connection.prepare_cached("SELECT stamp, content FROM registry")?;
    let (stamp, content): (String, String) = query.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Registered::from_parts(&stamp, content)
}

fn replace(writer: &mut Writer, seen: &Stamp, newer: &Registered) -> Result<bool, StoreError> {
    let connection = writer.connection();
    let present = read(connection)?.stamp;
    if present == newer.stamp {
        return Ok(true);
    }
    if present != *seen {
        return Ok(false);
    }
    let sql = "UPDATE registry SET stamp = ?1, content = ?2";
    connection.execute(sql, params![newer.stamp.as_str(), newer.content])?;
    Ok(true)
}
