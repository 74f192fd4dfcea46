//! Exports and imports whole lists, for a move from one store to another.

use rusqlite::{Connection, OptionalExtension, params};

use super::schema::{self, CHUNK_BYTES};
use super::write::Writer;
use super::{read, spread_row};
use crate::base::clock::Timestamp;
use crate::model::order::OrderKey;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{Bits, Capacity, ListId, Status, StatusArray, StatusSet};
use crate::store::values::{ListTransfer, StoreError};

pub(super) fn shape_of(connection: &Connection, pool: &PoolId) -> Result<Option<PoolShape>, StoreError> {
    let sql = "SELECT public_url, bits, size, default_status, final_status FROM pool WHERE name = ?1";
    let stored = connection.prepare_cached(sql)?.query_row([pool.as_str()], |row| {
        let numbers: (u64, u64, u8, Option<u8>) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        Ok((row.get::<_, String>(0)?, numbers))
    });
    let Some((public_url, (bits, size, default, last))) = stored.optional()? else { return Ok(None) };
    let damaged = |what: &dyn ToString| StoreError::Damaged(what.to_string());
    let bits = Bits::try_from(bits).map_err(|error| damaged(&error))?;
    Ok(Some(PoolShape {
        id: pool.clone(),
        public_url: public_url.parse().map_err(|error| damaged(&error))?,
        capacity: Capacity::new(size, bits).map_err(|error| damaged(&error))?,
        default_status: Status::new(default),
        final_status: last.map(Status::new),
        statuses: StatusSet::new(bits, &[]).map_err(|error| damaged(&error))?,
    }))
}

pub(super) fn export_list(connection: &mut Connection, list: ListId) -> Result<ListTransfer, StoreError> {
    let transaction = connection.transaction()?;
    let record = read::list(&transaction, list)?.ok_or(StoreError::NoSuchList(list))?;
    let snapshot = read::snapshot_in(&transaction, list)?.ok_or(StoreError::NoSuchList(list))?.snapshot;
    let sql = "SELECT permutation_key, dirty_since FROM list WHERE uuid = ?1";
    let stored: (Option<[u8; 16]>, Option<u64>) =
        transaction.query_row(sql, [list.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (key, dirty_since) = (stored.0.map(OrderKey::from_bytes), stored.1.map(Timestamp::from_millis));
    Ok(ListTransfer { record, key, dirty_since, array: snapshot.array })
}

impl Writer {
    pub(super) fn mark_unfinished(&mut self, unfinished: bool) -> Result<(), StoreError> {
        Ok(schema::mark_unfinished(self.connection(), unfinished)?)
    }

    /// The journal of changes is not exported. Where the gate would need it to explain an unpublished change, the list counts as
    /// published by files that are not those of this store: the gate then compares it with them, but needs no explanation.
    pub(super) fn import_list(&mut self, list: &ListTransfer) -> Result<bool, StoreError> {
        let ListTransfer { record, key, dirty_since, array } = list;
        let shape = shape_of(self.connection(), &record.pool)?;
        let default = shape.ok_or_else(|| StoreError::NoSuchPool(record.pool.clone()))?.default_status;
        let iat = record
            .published
            .map_or(0, |published| if dirty_since.is_some() { 0 } else { published.iat.secs() });
        let sql = "INSERT INTO list (uuid, pool, permutation_key, leased, leases, owner, open, version, dirty_since,
                                     published_version, published_iat, resign_at, leased_at, retired)
                   SELECT ?1, id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 FROM pool WHERE name = ?14
                   ON CONFLICT (uuid) DO NOTHING";
        let inserted = self.connection().prepare_cached(sql)?.execute(params![
            record.id.to_string(),
            key.as_ref().map(OrderKey::as_bytes),
            record.leased,
            record.lease.0,
            record.owner.as_str(),
            record.open,
            record.version.0,
            dirty_since.map(Timestamp::millis),
            record.published.map(|published| published.version.0),
            iat,
            record.published.map_or(0, |published| published.resign_at.secs()),
            record.leased_at.map(Timestamp::millis),
            record.retired,
            record.pool.as_str(),
        ])?;
        if inserted == 0 {
            return Ok(false);
        }
        let id = self.connection().last_insert_rowid();
        self.recount();
        let filled = StatusArray::filled(array.capacity(), default);
        let chunks = array.as_bytes().chunks(CHUNK_BYTES).zip(filled.as_bytes().chunks(CHUNK_BYTES));
        let mut insert =
            self.connection().prepare_cached("INSERT INTO chunk (list, n, bytes) VALUES (?1, ?2, ?3)")?;
        for (n, (chunk, _)) in chunks.enumerate().filter(|(_, (chunk, filled))| chunk != filled) {
            insert.execute(params![id, n, chunk])?;
        }
        record.spread.map_or(Ok(()), |spread| spread_row::insert(self.connection(), id, &spread))?;
        Ok(true)
    }
}
