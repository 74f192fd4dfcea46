//! Exports and imports whole lists, for a move from one store to another.

use super::PostgresStore;
use super::chunks::{CHUNK_BYTES, write};
use super::fill::write_spread;
use super::query::{damaged, maybe, number, order_key, parsed, query};
use super::read::{capacity, read_record, record, snapshot, snapshot_queries};
use crate::base::clock::Timestamp;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{ListId, Status, StatusArray, StatusSet};
use crate::store::values::{ListTransfer, StoreError};

impl PostgresStore {
    pub(in crate::store) async fn shape_of(&self, pool: &PoolId) -> Result<Option<PoolShape>, StoreError> {
        let sql = "SELECT size, bits, public_url, default_status, final_status FROM pool WHERE name = $1";
        let answers = self.0.link.read(vec![query(sql).text(pool.as_str())]).await?;
        let Some(row) = answers[0].first() else { return Ok(None) };
        let capacity = capacity(row, 0)?;
        Ok(Some(PoolShape {
            id: pool.clone(),
            public_url: parsed(row, 2)?,
            capacity,
            default_status: Status::new(number(row, 3)?),
            final_status: maybe(row, 4)?.map(Status::new),
            statuses: StatusSet::new(capacity.bits(), &[]).map_err(|error| damaged(&error))?,
        }))
    }

    pub(in crate::store) async fn export_list(&self, list: ListId) -> Result<ListTransfer, StoreError> {
        let [found, stored] = snapshot_queries(list);
        let more = query("SELECT permutation_key, dirty_since FROM list WHERE uuid = $1").list(list);
        let answers = self.0.link.read_confirmed(vec![found, stored, read_record(list), more]).await?;
        let (Some(of_record), Some(of_list)) = (answers[2].first(), answers[3].first()) else {
            return Err(StoreError::NoSuchList(list));
        };
        Ok(ListTransfer {
            record: record(of_record)?,
            key: order_key(of_list, 0)?,
            dirty_since: maybe(of_list, 1)?.map(Timestamp::from_millis),
            array: snapshot(list, &answers[..2])?.array,
        })
    }

    pub(in crate::store) async fn begin_import(&self) -> Result<(), StoreError> {
        self.0.link.write_now(vec![query("UPDATE store SET unfinished = true")]).await.map(|_| ())
    }

    pub(in crate::store) async fn finish_import(&self) -> Result<(), StoreError> {
        self.0.link.write_now(vec![query("UPDATE store SET unfinished = false")]).await.map(|_| ())
    }

    /// The journal of changes is not exported. Where the gate would need it to explain an unpublished change, the list counts as
    /// published by files that are not those of this store: the gate then compares it with them, but needs no explanation.
    pub(in crate::store) async fn import_list(&self, list: &ListTransfer) -> Result<bool, StoreError> {
        let ListTransfer { record, key, dirty_since, array } = list;
        let no_pool = || StoreError::NoSuchPool(record.pool.clone());
        let published = record.published;
        let iat = published.filter(|_| dirty_since.is_none()).map_or(0, |published| published.iat.secs());
        let mut step = self.0.link.begin(self.0.link.patience()).await?;
        let pool = "SELECT id, default_status FROM pool WHERE name = $1 FOR UPDATE";
        let answers = step.run(vec![query(pool).text(record.pool.as_str())]).await?;
        let pool = answers[0].first().ok_or_else(no_pool)?;
        let (pool, filled) = (number::<u64>(pool, 0)?, Status::new(number(pool, 1)?));
        let sql = "INSERT INTO list (uuid, pool, permutation_key, owner, leased, leases, leased_at, open, retired, filled, version,
                                     dirty_since, published_version, published_iat, resign_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
                   ON CONFLICT (uuid) DO NOTHING RETURNING id";
        let insert = query(sql)
            .list(record.id)
            .number(pool)
            .key(*key)
            .text(record.owner.as_str())
            .number(record.leased)
            .number(record.lease.0)
            .maybe(record.leased_at.map(Timestamp::millis))
            .bool(record.open)
            .bool(record.retired)
            .number(filled.value())
            .number(record.version.0)
            .maybe(dirty_since.map(Timestamp::millis))
            .maybe(published.map(|published| published.version.0))
            .number(iat)
            .number(published.map_or(0, |published| published.resign_at.secs()));
        let answers = step.run(vec![insert]).await?;
        let Some(row) = answers[0].first() else {
            step.end().await?;
            return Ok(false);
        };
        let id: u64 = number(row, 0)?;
        let untouched = StatusArray::filled(array.capacity(), filled);
        let chunks = array.as_bytes().chunks(CHUNK_BYTES).zip(untouched.as_bytes().chunks(CHUNK_BYTES));
        let written = (0..).zip(chunks).filter(|(_, (chunk, untouched))| chunk != untouched);
        let count = "UPDATE pool SET in_use = in_use + $2 WHERE id = $1";
        let mut writes = vec![query(count).number(pool).number(u64::from(!record.retired))];
        writes.extend(write(written.map(|(n, (chunk, _))| (id, n, chunk))));
        writes.extend(record.spread.as_ref().map(|spread| write_spread(id, spread)));
        step.commit(writes).await.map(|_| true)
    }
}
