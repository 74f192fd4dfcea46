//! The atomic steps, on the single writing thread. `commit.rs` puts each into a savepoint and several into a transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::hot::{HotList, HotLists};
use crate::base::clock::Timestamp;
use crate::model::instance::InstanceId;
use crate::model::order::OrderKey;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{ListId, Status};
use crate::store::values::{Block, DueMark, Fence, Lease, Leased, Publication, StoreError};

pub(super) struct Writer {
    pub(super) connection: Connection,
    /// The declared pools by row id.
    pub(super) pools: HashMap<i64, Arc<PoolShape>>,
    pub(super) hot: HotLists,
    /// How many lists each pool has that are not retired, as far as they were counted. Only opening a list keeps it; all
    /// other changes of the number, and every failure, empty it.
    in_use: HashMap<PoolId, u64>,
    /// Who holds the lease to publish each pool, and until when.
    leases: HashMap<PoolId, (InstanceId, Instant)>,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Self {
        let (pools, in_use, leases) = Default::default();
        Self { connection, pools, hot: HotLists::default(), in_use, leases }
    }

    /// For steps in other files.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns a list in memory, and the connection. For steps in other files.
    pub(super) fn load(&mut self, list: ListId) -> Result<(&Connection, Option<&mut HotList>), StoreError> {
        let Self { connection, pools, hot, .. } = self;
        let loaded = hot.load(connection, list, |id| shape_of(connection, pools, id))?;
        Ok((connection, loaded))
    }

    /// Drops a list from memory, so that it is read again.
    pub(super) fn forget(&mut self, list: ListId) {
        self.hot.forget(list);
    }

    /// Begins a transaction and takes the write lock at once, so that nothing read in it can be stale when it writes.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            // A failed commit can leave its transaction open; nothing of it was acknowledged.
            self.connection.execute_batch("ROLLBACK")?;
        }
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Makes the transaction durable. If that fails, drops all lists from memory.
    pub(super) fn commit(&mut self) -> Result<(), StoreError> {
        let committed = self.connection.execute_batch("COMMIT");
        if committed.is_err() {
            self.hot = HotLists::default();
            self.in_use.clear();
        }
        self.hot.trim();
        Ok(committed?)
    }

    /// Runs one step. If it fails, nothing of it stays in the transaction.
    pub(super) fn in_savepoint<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.connection.is_autocommit() {
            return Err(StoreError::Unavailable("an earlier step ended the transaction".to_owned()));
        }
        self.connection.prepare_cached("SAVEPOINT step")?.execute([])?;
        let outcome = step(self);
        if outcome.is_err() {
            self.in_use.clear();
            // A full disk may have ended the whole transaction: then the commit fails, and every caller gets the error.
            let undone = self.connection.execute_batch("ROLLBACK TO step");
            if undone.is_err() && !self.connection.is_autocommit() {
                // Half a step must not be committed with the others.
                self.connection.execute_batch("ROLLBACK")?;
            }
            undone?;
        }
        self.connection.prepare_cached("RELEASE step")?.execute([])?;
        outcome
    }

    pub(super) fn declare_pool(&mut self, shape: PoolShape) -> Result<(), StoreError> {
        let sql = "INSERT INTO pool (name, public_url, bits, size, default_status, final_status)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING";
        let show = |status: Option<u8>| status.map_or("null".to_owned(), |status| status.to_string());
        let (name, url, capacity) = (shape.id.as_str(), shape.public_url.as_str(), shape.capacity);
        let (bits, size) = (capacity.bits().get(), capacity.entries());
        let (default, last) = (shape.default_status.value(), shape.final_status.map(Status::value));
        self.connection.execute(sql, params![name, url, bits, size, default, last])?;
        let sql = "SELECT id, public_url, bits, size, default_status, final_status FROM pool WHERE name = ?1";
        let (id, stored) = self.connection.query_row(sql, [name], |row| {
            let stored: [String; 5] = [
                row.get(1)?,
                row.get::<_, u8>(2)?.to_string(),
                row.get::<_, u32>(3)?.to_string(),
                row.get::<_, u8>(4)?.to_string(),
                show(row.get(5)?),
            ];
            Ok((row.get(0)?, stored))
        })?;
        let given = [url.to_owned(), bits.to_string(), size.to_string(), default.to_string(), show(last)];
        let settings = ["public-url", "bits", "size", "default-status", "final-status"];
        for ((setting, stored), given) in settings.into_iter().zip(stored).zip(given) {
            if stored != given {
                return Err(StoreError::ShapeMismatch { pool: shape.id, setting, stored, given });
            }
        }
        self.pools.insert(id, Arc::new(shape));
        Ok(())
    }

    /// Returns `None` if the pool has `most` lists already.
    pub(super) fn open_list(
        &mut self,
        pool: &PoolId,
        owner: &InstanceId,
        most: u64,
    ) -> Result<Option<ListId>, StoreError> {
        let in_use = match self.in_use.get(pool) {
            Some(in_use) => *in_use,
            None => {
                let sql = "SELECT count(*) FROM list JOIN pool ON pool.id = list.pool WHERE pool.name = ?1 AND NOT retired";
                self.connection.prepare_cached(sql)?.query_row([pool.as_str()], |row| row.get(0))?
            }
        };
        if in_use >= most {
            return Ok(None);
        }
        let list = ListId::random();
        let key = OrderKey::random();
        let sql = "INSERT INTO list (uuid, pool, permutation_key, owner) SELECT ?1, id, ?2, ?3 FROM pool WHERE name = ?4";
        let values = params![list.to_string(), key.as_bytes(), owner.as_str(), pool.as_str()];
        let inserted = self.connection.prepare_cached(sql)?.execute(values)?;
        if inserted == 0 {
            return Err(StoreError::NoSuchPool(pool.clone()));
        }
        self.in_use.insert(pool.clone(), in_use + 1);
        Ok(Some(list))
    }

    pub(super) fn lease_block(
        &mut self,
        list: ListId,
        n: u32,
        owner: &InstanceId,
        mark: Lease,
        now: Timestamp,
    ) -> Result<Leased, StoreError> {
        let sql = "SELECT list.id, list.leased, list.leases, list.permutation_key, list.open, pool.size
                   FROM list JOIN pool ON pool.id = list.pool
                   WHERE list.uuid = ?1 AND list.owner = ?2";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![list.to_string(), owner.as_str()], |row| {
                let (id, leased, leases): (i64, u32, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok((
                    id,
                    leased,
                    leases,
                    row.get::<_, Option<[u8; 16]>>(3)?,
                    row.get(4)?,
                    row.get::<_, u32>(5)?,
                ))
            })
            .optional()?;
        let Some((id, leased, leases, key, open, size)) = found else { return Ok(Leased::Nothing) };
        if Lease(leases) < mark {
            return Ok(Leased::Behind { lease: Lease(leases) });
        }
        let end = leased.saturating_add(n).min(size);
        let (true, Some(key), true) = (open, key.map(OrderKey::from_bytes), end > leased) else {
            return Ok(Leased::Nothing);
        };
        let lease = leases + 1;
        self.connection
            .prepare_cached(
                "UPDATE list SET leased = ?2, leases = ?3, open = ?4, leased_at = ?5 WHERE id = ?1",
            )?
            .execute(params![id, end, lease, end < size, now.millis()])?;
        Ok(Leased::Block(Block { list, key, positions: leased..end, lease: Lease(lease) }))
    }

    pub(super) fn return_tail(&mut self, block: &Block, from: u32) -> Result<bool, StoreError> {
        if !block.positions.contains(&from) {
            return Ok(false);
        }
        // A sealed list has no key: positions returned to it stay unused.
        let sql = "UPDATE list SET leased = ?3, leases = leases + 1, open = 1
                   WHERE uuid = ?1 AND leases = ?2 AND permutation_key IS NOT NULL";
        let returned = self.connection.prepare_cached(sql)?.execute(params![
            block.list.to_string(),
            block.lease.0,
            from
        ])?;
        Ok(returned == 1)
    }

    pub(super) fn seal_list(&mut self, list: ListId) -> Result<(), StoreError> {
        let sql = "UPDATE list SET open = 0, permutation_key = NULL WHERE uuid = ?1";
        match self.connection.prepare_cached(sql)?.execute([list.to_string()])? {
            0 => Err(StoreError::NoSuchList(list)),
            _ => Ok(()),
        }
    }

    pub(super) fn retire_list(&mut self, list: ListId) -> Result<(), StoreError> {
        self.seal_list(list)?;
        let sql = "UPDATE list SET retired = 1, resign_at = 0, due_mark = due_mark + 1 WHERE uuid = ?1";
        self.connection.prepare_cached(sql)?.execute([list.to_string()])?;
        let sql = "DELETE FROM spread WHERE list = (SELECT id FROM list WHERE uuid = ?1)";
        self.connection.prepare_cached(sql)?.execute([list.to_string()])?;
        self.hot.forget(list);
        self.in_use.clear();
        Ok(())
    }

    /// Counts the lists of all pools anew. For steps in other files that add some.
    pub(super) fn recount(&mut self) {
        self.in_use.clear();
    }

    pub(super) fn settle(
        &mut self,
        list: ListId,
        publication: Publication,
        seen: DueMark,
        fence: Fence,
    ) -> Result<(), StoreError> {
        let settled = self.fold_and_settle(list, publication, seen, fence);
        if settled.is_err() {
            self.hot.forget(list);
        }
        settled
    }

    fn fold_and_settle(
        &mut self,
        list: ListId,
        publication: Publication,
        seen: DueMark,
        fence: Fence,
    ) -> Result<(), StoreError> {
        let Self { connection, pools, hot, .. } = self;
        let sql = "SELECT pool.fence FROM list JOIN pool ON pool.id = list.pool WHERE list.uuid = ?1";
        let current: Option<u64> =
            connection.prepare_cached(sql)?.query_row([list.to_string()], |row| row.get(0)).optional()?;
        if current.ok_or(StoreError::NoSuchList(list))? > fence.0 {
            return Err(StoreError::Fenced);
        }
        let loaded = hot.load(connection, list, |id| shape_of(connection, pools, id))?;
        let loaded = loaded.ok_or(StoreError::NoSuchList(list))?;

        let sql = "INSERT INTO chunk (list, n, bytes) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET bytes = excluded.bytes";
        let mut upsert = connection.prepare_cached(sql)?;
        for (n, bytes) in loaded.unfolded() {
            upsert.execute(params![loaded.id, n, bytes])?;
        }
        drop(upsert);

        // The first change that the publication does not show, if there is one.
        let sql = "SELECT journal.seq, journal.at FROM list JOIN journal ON journal.list = list.id AND journal.seq > list.published_seq
                   WHERE list.id = ?1 AND journal.version > ?2 ORDER BY journal.seq LIMIT 1";
        let unpublished = connection
            .prepare_cached(sql)?
            .query_row(params![loaded.id, publication.version.0], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?))
            })
            .optional()?;
        let published_seq = unpublished.map_or(loaded.journaled, |(seq, _)| seq - 1);
        let sql = "UPDATE list SET folded = journaled, dirty_since = ?2, published_version = ?3, published_seq = ?4,
                          published_iat = ?5, resign_at = CASE due_mark WHEN ?7 THEN ?6 ELSE 0 END WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![
            loaded.id,
            unpublished.map(|(_, at)| at),
            publication.version.0,
            published_seq,
            publication.iat.secs(),
            publication.resign_at.secs(),
            seen.0
        ])?;
        loaded.folded();
        Ok(())
    }

    pub(super) fn mark_due(&mut self, lists: &[ListId]) -> Result<(), StoreError> {
        let sql = "UPDATE list SET resign_at = 0, due_mark = due_mark + 1 WHERE uuid = ?1";
        let mut update = self.connection.prepare_cached(sql)?;
        for list in lists {
            if update.execute([list.to_string()])? == 0 {
                return Err(StoreError::NoSuchList(*list));
            }
        }
        Ok(())
    }

    /// Leases are in memory, by the monotonic clock: the database has one process, so the lease of an earlier process is over.
    /// Only the fence must survive.
    pub(super) fn lease_publisher(
        &mut self,
        pool: &PoolId,
        holder: &InstanceId,
        term: Duration,
        patience: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        let now = Instant::now();
        if let Some((other, until)) = self.leases.get(pool).filter(|(other, _)| other != holder)
            && *until + patience > now
        {
            tracing::debug!(%pool, holder = %other, "another holder has the lease to publish");
            return Ok(None);
        }
        // SQLite reads the old values on the right side of SET, so the fence grows exactly when the holder changes.
        let sql =
            "UPDATE pool SET fence = fence + (holder <> ?2), holder = ?2 WHERE name = ?1 RETURNING fence";
        let mut update = self.connection.prepare_cached(sql)?;
        let fence = update.query_row([pool.as_str(), holder.as_str()], |row| row.get(0)).optional()?;
        self.leases.insert(pool.clone(), (holder.clone(), now + term));
        Ok(fence.map(Fence))
    }

    pub(super) fn release_publisher(&mut self, pool: &PoolId, holder: &InstanceId) {
        if self.leases.get(pool).is_some_and(|(held_by, _)| held_by == holder) {
            // The patience of others counts from now on.
            self.leases.insert(pool.clone(), (holder.clone(), Instant::now()));
        }
    }
}

pub(super) fn shape_of(
    connection: &Connection,
    pools: &HashMap<i64, Arc<PoolShape>>,
    list: i64,
) -> Result<Arc<PoolShape>, StoreError> {
    let pool: i64 = connection
        .prepare_cached("SELECT pool FROM list WHERE id = ?1")?
        .query_row([list], |row| row.get(0))?;
    let undeclared =
        || StoreError::Unavailable("the list belongs to a pool that is not in the settings".to_owned());
    pools.get(&pool).cloned().ok_or_else(undeclared)
}
