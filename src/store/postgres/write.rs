//! The atomic steps that set no status.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::PostgresStore;
use super::apply::end_spreads;
use super::query::{get, list_id, maybe, now, number, order_key, parsed, query};
use super::read::POOL;
use crate::base::clock::Timestamp;
use crate::model::instance::InstanceId;
use crate::model::order::OrderKey;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::ListId;
use crate::store::Deadline;
use crate::store::values::{Block, DueMark, Fence, Lease, Leased, Publication, StoreError};

impl PostgresStore {
    pub(in crate::store) async fn declare_pool(&self, shape: &PoolShape) -> Result<(), StoreError> {
        let name = shape.id.as_str();
        let insert = "INSERT INTO pool (name, public_url, bits, size, default_status, final_status)
                      VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING";
        let insert = query(insert)
            .text(name)
            .text(shape.public_url.as_str())
            .number(shape.capacity.bits().get())
            .number(shape.capacity.entries())
            .number(shape.default_status.value())
            .maybe(shape.final_status.map(|status| status.value().into()));
        let publisher = format!("INSERT INTO publisher (pool) SELECT {POOL} ON CONFLICT (pool) DO NOTHING");
        let read = "SELECT public_url, bits, size, default_status, final_status FROM pool WHERE name = $1";
        let queries = vec![insert, query(publisher).text(name), query(read).text(name)];
        let answers = self.0.link.write_now(queries).await?;
        let row = answers[2].first().ok_or_else(|| StoreError::NoSuchPool(shape.id.clone()))?;
        let show = |status: Option<u8>| status.map_or("null".to_owned(), |status| status.to_string());
        let stored = [
            parsed(row, 0)?,
            number::<u8>(row, 1)?.to_string(),
            number::<u32>(row, 2)?.to_string(),
            number::<u8>(row, 3)?.to_string(),
            show(maybe(row, 4)?),
        ];
        let given = [
            shape.public_url.as_str().to_owned(),
            shape.capacity.bits().to_string(),
            shape.capacity.entries().to_string(),
            shape.default_status.value().to_string(),
            show(shape.final_status.map(|status| status.value())),
        ];
        let settings = ["public-url", "bits", "size", "default-status", "final-status"];
        for ((setting, stored), given) in settings.into_iter().zip(stored).zip(given) {
            if stored != given {
                return Err(StoreError::ShapeMismatch { pool: shape.id.clone(), setting, stored, given });
            }
        }
        self.0.shapes.write().insert(shape.id.clone(), Arc::new(shape.clone()));
        Ok(())
    }

    pub(in crate::store) async fn open_list(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
        most: u64,
        _now: Timestamp,
    ) -> Result<ListId, StoreError> {
        let mut step = self.0.link.begin(self.0.link.patience()).await?;
        let lock = "SELECT id, in_use, default_status FROM pool WHERE name = $1 FOR NO KEY UPDATE";
        let answers = step.run(vec![query(lock).text(pool.as_str())]).await?;
        let Some(row) = answers[0].first() else {
            step.end().await?;
            self.declare_again(pool).await?;
            return Err(StoreError::NoSuchPool(pool.clone()));
        };
        let (id, in_use, filled): (u64, u64, u8) = (number(row, 0)?, number(row, 1)?, number(row, 2)?);
        if in_use >= most {
            step.end().await?;
            return Err(StoreError::TooManyLists { pool: pool.clone(), most });
        }
        let list = ListId::random();
        let insert =
            "INSERT INTO list (uuid, pool, permutation_key, owner, filled) VALUES ($1, $2, $3, $4, $5)";
        let insert = query(insert).list(list).number(id).key(Some(OrderKey::random()));
        let insert = insert.text(owner.as_str()).number(filled);
        let count = query("UPDATE pool SET in_use = in_use + 1 WHERE id = $1").number(id);
        step.commit(vec![insert, count]).await.map(|_| list)
    }

    /// Declares a pool again that has disappeared: the database was restored to a moment before it. All its lists are gone too, so new
    /// lists repeat no reference. The current caller gets an error, once, and then checks what else is lost.
    async fn declare_again(&self, pool: &PoolId) -> Result<(), StoreError> {
        let Ok(shape) = self.shape(pool) else { return Ok(()) };
        self.declare_pool(&shape).await?;
        tracing::error!(
            %pool,
            "THE STORE LOST DATA: it no longer knew this pool or any list of it; continuing with new lists: \
             see docs/OPERATIONS.md, \"When the store lost data\""
        );
        Ok(())
    }

    pub(in crate::store) async fn lease_block(
        &self,
        list: ListId,
        n: u32,
        owner: &InstanceId,
        mark: Lease,
        now: Timestamp,
    ) -> Result<Leased, StoreError> {
        let lock = "SELECT list.id, list.leased, list.leases, list.permutation_key, list.open, pool.size
                    FROM list JOIN pool ON pool.id = list.pool WHERE list.uuid = $1 AND list.owner = $2 FOR UPDATE OF list";
        let mut step = self.0.link.begin(self.0.link.patience()).await?;
        let answers = step.run(vec![query(lock).list(list).text(owner.as_str())]).await?;
        let Some(row) = answers[0].first() else {
            step.end().await?;
            return Ok(Leased::Nothing);
        };
        let (id, leased, leases): (u64, u32, u64) = (number(row, 0)?, number(row, 1)?, number(row, 2)?);
        let (key, open, size) = (order_key(row, 3)?, get(row, 4)?, number::<u32>(row, 5)?);
        if Lease(leases) < mark {
            step.end().await?;
            return Ok(Leased::Behind { lease: Lease(leases) });
        }
        let to = leased.saturating_add(n).min(size);
        let (Some(key), true, true) = (key, open, to > leased) else {
            step.end().await?;
            return Ok(Leased::Nothing);
        };
        let lease = leases + 1;
        let sql = "UPDATE list SET leased = $2, leases = $3, open = $4, leased_at = $5 WHERE id = $1";
        let update = query(sql).number(id).number(to).number(lease).bool(to < size).number(now.millis());
        step.commit(vec![update]).await?;
        Ok(Leased::Block(Block { list, key, positions: leased..to, lease: Lease(lease) }))
    }

    pub(in crate::store) async fn return_tail(&self, block: &Block, from: u32) -> Result<bool, StoreError> {
        if !block.positions.contains(&from) {
            return Ok(false);
        }
        // A sealed list has no key: positions returned to it stay unused.
        let sql = "UPDATE list SET leased = $3, leases = leases + 1, open = true
                   WHERE uuid = $1 AND leases = $2 AND permutation_key IS NOT NULL RETURNING id";
        let update = query(sql).list(block.list).number(block.lease.0).number(from);
        let answers = self.0.link.write_now(vec![update]).await?;
        Ok(!answers[0].is_empty())
    }

    pub(in crate::store) async fn seal_list(&self, list: ListId) -> Result<(), StoreError> {
        let sql = "UPDATE list SET open = false, permutation_key = NULL WHERE uuid = $1 RETURNING id";
        let answers = self.0.link.write_now(vec![query(sql).list(list)]).await?;
        answers[0].first().map(|_| ()).ok_or(StoreError::NoSuchList(list))
    }

    pub(in crate::store) async fn retire_list(
        &self,
        list: ListId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        // The pool before the list, as in every step that locks both.
        let pool = "SELECT id FROM pool WHERE id = (SELECT pool FROM list WHERE uuid = $1) FOR NO KEY UPDATE";
        let read = "SELECT id, retired FROM list WHERE uuid = $1 FOR UPDATE";
        let mut step = self.0.link.begin(deadline).await?;
        let answers = step.run(vec![query(pool).list(list), query(read).list(list)]).await?;
        let Some(row) = answers[1].first() else {
            step.end().await?;
            return Err(StoreError::NoSuchList(list));
        };
        let (id, before): (u64, bool) = (number(row, 0)?, get(row, 1)?);
        let count = "UPDATE pool SET in_use = in_use - $2 WHERE id = (SELECT pool FROM list WHERE id = $1)";
        let retire = "UPDATE list SET open = false, permutation_key = NULL, retired = true, resign_at = 0, due_mark = due_mark + 1
                      WHERE id = $1";
        let mut writes = vec![query(count).number(id).number(u64::from(!before)), query(retire).number(id)];
        writes.extend(end_spreads(vec![id]));
        step.commit(writes).await.map(|_| ())
    }

    pub(in crate::store) async fn settle(
        &self,
        list: ListId,
        publication: Publication,
        taken: Timestamp,
        seen: DueMark,
        fence: Fence,
    ) -> Result<(), StoreError> {
        // Until this step ends, nobody takes over.
        let fenced = "SELECT publisher.fence FROM publisher JOIN list ON list.pool = publisher.pool
                      WHERE list.uuid = $1 FOR SHARE OF publisher";
        let lock = "SELECT id FROM list WHERE uuid = $1 FOR UPDATE";
        let mut step = self.0.link.begin(self.0.link.patience()).await?;
        let answers = step.run(vec![query(fenced).list(list), query(lock).list(list)]).await?;
        let (Some(current), Some(row)) = (answers[0].first(), answers[1].first()) else {
            step.end().await?;
            return Err(StoreError::NoSuchList(list));
        };
        let (current, id): (u64, u64) = (number(current, 0)?, number(row, 0)?);
        if current > fence.0 {
            step.end().await?;
            return Err(StoreError::Fenced);
        }
        // Dirty since the first change that the publication does not show. Imported changes are not in the journal.
        let sql = "UPDATE list SET published_version = $2, published_iat = $3,
                          resign_at = CASE due_mark WHEN $5 THEN $4 ELSE 0 END,
                          dirty_since = CASE WHEN version > $2 THEN coalesce(
                              (SELECT at FROM journal WHERE journal.list = $1 AND journal.version > $2 ORDER BY version LIMIT 1),
                              greatest(dirty_since, $6)) END
                   WHERE id = $1";
        let update = query(sql)
            .number(id)
            .number(publication.version.0)
            .number(publication.iat.secs())
            .number(publication.resign_at.secs())
            .number(seen.0)
            .number(taken.millis());
        step.commit(vec![update]).await.map(|_| ())
    }

    pub(in crate::store) async fn mark_due(&self, lists: Vec<ListId>) -> Result<(), StoreError> {
        let mut step = self.0.link.begin(self.0.link.patience()).await?;
        let lock = "SELECT uuid FROM list WHERE uuid = ANY($1) ORDER BY id FOR UPDATE";
        let answers = step.run(vec![query(lock).lists(&lists)]).await?;
        let found = answers[0].iter().map(|row| list_id(row, 0)).collect::<Result<HashSet<_>, _>>()?;
        if let Some(missing) = lists.iter().find(|list| !found.contains(list)) {
            step.end().await?;
            return Err(StoreError::NoSuchList(*missing));
        }
        let sql = "UPDATE list SET resign_at = 0, due_mark = due_mark + 1 WHERE uuid = ANY($1)";
        step.commit(vec![query(sql).lists(&lists)]).await.map(|_| ())
    }

    pub(in crate::store) async fn lease_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
        term: Duration,
        patience: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        // The old values stand on the right side of SET, so the fence grows exactly when the holder changes.
        let sql = format!(
            concat!(
                "UPDATE publisher SET fence = fence + (holder <> $2)::int, holder = $2, held_until = ",
                now!(),
                " + $3 WHERE pool = {} AND (holder IN ('', $2) OR held_until + $4 <= ",
                now!(),
                ") RETURNING fence"
            ),
            POOL
        );
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 2);
        let update = query(sql).text(pool.as_str()).text(holder.as_str());
        let update = update.number(millis(term)).number(millis(patience));
        let exists = query("SELECT id FROM pool WHERE name = $1").text(pool.as_str());
        let answers = self.0.link.write_now(vec![update, exists]).await?;
        match (answers[0].first(), answers[1].first()) {
            (Some(row), _) => Ok(Some(Fence(number(row, 0)?))),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(StoreError::NoSuchPool(pool.clone())),
        }
    }

    pub(in crate::store) async fn release_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
    ) -> Result<(), StoreError> {
        let sql = format!(
            concat!("UPDATE publisher SET held_until = ", now!(), " WHERE pool = {} AND holder = $2"),
            POOL
        );
        let update = query(sql).text(pool.as_str()).text(holder.as_str());
        self.0.link.write_now(vec![update]).await.map(|_| ())
    }
}
