//! Queries. Each may be several commands, which need not be one atomic step.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_redis::redis::{FromRedisValue, Pipeline, cmd};

use super::reply::{RECORD, damaged, due_mark, order_key, parsed, part, record, unexpected};
use super::{PAGE, RedisStore, bit_offset};
use crate::base::clock::Timestamp;
use crate::model::instance::InstanceId;
use crate::model::pool::PoolId;
use crate::status_list::{Index, ListId, Status, StatusArray};
use crate::store::values::{
    Changes, DueMark, Fence, ListRecord, OpenList, Order, Pending, PoolUsage, Publication, PublisherState,
    Snapshot, StoreError, Version,
};

impl RedisStore {
    pub(in crate::store) async fn dirty(&self, pool: &PoolId) -> Result<Vec<Pending>, StoreError> {
        let range = cmd("ZRANGE").arg(self.0.keys.dirty(pool)).arg(0).arg(-1).arg("WITHSCORES").take();
        let dirty: Vec<(String, u64)> = self.read_one(range).await?;
        let dirty =
            dirty.into_iter().map(|(list, since)| Ok((parsed(&list)?, Some(Timestamp::from_millis(since)))));
        self.pending(pool, dirty.collect::<Result<_, StoreError>>()?).await
    }

    pub(in crate::store) async fn due(
        &self,
        pool: &PoolId,
        t: Timestamp,
    ) -> Result<Vec<Pending>, StoreError> {
        let range = cmd("ZRANGEBYSCORE").arg(self.0.keys.due(pool)).arg("-inf").arg(t.date().secs()).take();
        let due: Vec<String> = self.read_one(range).await?;
        let due = due.iter().map(|list| Ok((parsed(list)?, None))).collect::<Result<_, StoreError>>()?;
        self.pending(pool, due).await
    }

    pub(in crate::store) async fn next_due(&self, pool: &PoolId) -> Result<Option<Timestamp>, StoreError> {
        // Zero: never published, or due at once.
        let first = cmd("ZRANGEBYSCORE")
            .arg(self.0.keys.due(pool))
            .arg("(0")
            .arg(format!("({}", Publication::NEVER))
            .arg(&["WITHSCORES", "LIMIT", "0", "1"])
            .take();
        let first: Vec<(String, u64)> = self.read_one(first).await?;
        Ok(first.first().map(|(_, at)| Timestamp::from_secs(*at)))
    }

    pub(in crate::store) async fn snapshot(&self, list: ListId) -> Result<Snapshot, StoreError> {
        let pool = self.pool_of(list).await?;
        let shape = self.shape(&pool)?;
        let keys = &self.0.keys;
        let count = cmd("INCR").arg(keys.confirmations(&pool)).take();
        // The version first: the bytes are then at least as new.
        let reads = vec![
            cmd("HGET").arg(keys.list(&pool, &list)).arg("version").take(),
            cmd("GET").arg(keys.bytes(&pool, &list)).take(),
        ];
        // What is published must not be lost afterwards.
        let answers = self.0.link.read_confirmed(count, reads).await?;
        let version: Option<u64> = part(&answers, 0)?;
        let version = version.ok_or(StoreError::NoSuchList(list))?;
        let relative: Option<Vec<u8>> = part(&answers, 1)?;
        let mut bytes = StatusArray::filled(shape.capacity, shape.default_status).as_bytes().to_vec();
        for (byte, relative) in bytes.iter_mut().zip(relative.unwrap_or_default()) {
            *byte ^= relative;
        }
        let array = StatusArray::from_bytes(shape.capacity, bytes).map_err(|error| damaged(&error))?;
        Ok(Snapshot { version: Version(version), array })
    }

    pub(in crate::store) async fn status(
        &self,
        list: ListId,
        index: Index,
    ) -> Result<(Status, Version), StoreError> {
        let pool = self.pool_of(list).await?;
        let shape = self.shape(&pool)?;
        let mut commands = Pipeline::with_capacity(2);
        // The value first: the version is then at least as new.
        commands
            .cmd("BITFIELD")
            .arg(self.0.keys.bytes(&pool, &list))
            .arg("GET")
            .arg(format!("u{}", shape.capacity.bits()))
            .arg(bit_offset(shape.capacity, index));
        commands.cmd("HGET").arg(self.0.keys.list(&pool, &list)).arg("version");
        let answers = self.0.link.read(&commands).await?;
        let relative: Vec<u8> = part(&answers, 0)?;
        let version: Option<u64> = part(&answers, 1)?;
        let relative = relative.first().copied().unwrap_or_default();
        let status = Status::new(relative ^ shape.default_status.value());
        Ok((status, Version(version.ok_or(StoreError::NoSuchList(list))?)))
    }

    pub(in crate::store) async fn changes_since_publication(
        &self,
        _list: ListId,
        _version: Version,
    ) -> Result<Option<Changes>, StoreError> {
        Ok(None)
    }

    pub(in crate::store) async fn order_of(&self, list: ListId) -> Result<Option<Order>, StoreError> {
        let Some(pool) = self.find_pool(list).await? else { return Ok(None) };
        let get = cmd("HMGET").arg(self.0.keys.list(&pool, &list)).arg("key").arg("leased").take();
        let (key, leased): (Option<Vec<u8>>, Option<u32>) = self.read_one(get).await?;
        let (Some(key), Some(leased)) = (key, leased) else { return Ok(None) };
        Ok(Some(Order { key: order_key(key)?, leased }))
    }

    pub(in crate::store) async fn publisher(&self, pool: &PoolId) -> Result<PublisherState, StoreError> {
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("HMGET").arg(self.0.keys.pool(pool)).arg("fence").arg("held-until");
        commands.cmd("TIME");
        let answers = self.0.link.read(&commands).await?;
        let (secs, micros): (u64, u64) = part(&answers, 1)?;
        match part::<(Option<u64>, Option<u64>)>(&answers, 0)? {
            (Some(fence), Some(until)) => {
                let left = until.saturating_sub(secs * 1000 + micros / 1000);
                Ok(PublisherState { fence: Fence(fence), left: Duration::from_millis(left) })
            }
            _ => Err(StoreError::NoSuchPool(pool.clone())),
        }
    }

    pub(in crate::store) async fn open_lists(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
    ) -> Result<Vec<OpenList>, StoreError> {
        let range = cmd("ZRANGE").arg(self.0.keys.open(pool, owner)).arg(0).arg(-1).take();
        let open: Vec<String> = self.read_one(range).await?;
        let open = open.iter().map(|list| parsed(list)).collect::<Result<Vec<_>, _>>()?;
        let records = self.records(pool, &open).await?.into_iter();
        let ours = records.filter(|record| record.open);
        let open = |record: ListRecord| OpenList {
            id: record.id,
            leased: record.leased,
            published: record.published.is_some(),
        };
        Ok(ours.map(open).collect())
    }

    pub(in crate::store) async fn list(&self, list: ListId) -> Result<Option<ListRecord>, StoreError> {
        let Some(pool) = self.find_pool(list).await? else { return Ok(None) };
        Ok(self.records(&pool, &[list]).await?.pop())
    }

    pub(in crate::store) async fn lists(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        let range = cmd("ZRANGE").arg(self.0.keys.lists(pool)).arg(0).arg(-1).take();
        let lists: Vec<String> = self.read_one(range).await?;
        let lists = lists.iter().map(|list| parsed(list)).collect::<Result<Vec<_>, _>>()?;
        self.records(pool, &lists).await
    }

    pub(in crate::store) async fn spreading(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        let lists: Vec<String> = self.read_one(cmd("SMEMBERS").arg(self.0.keys.spreads(pool)).take()).await?;
        let lists = lists.iter().map(|list| parsed(list)).collect::<Result<Vec<_>, _>>()?;
        self.records(pool, &lists).await
    }

    pub(in crate::store) async fn pools(&self) -> Result<Vec<(PoolId, u64)>, StoreError> {
        let mut names: Vec<String> = self.read_one(cmd("SMEMBERS").arg(self.0.keys.pools()).take()).await?;
        names.sort_unstable();
        let mut pools = Vec::with_capacity(names.len());
        for name in names {
            let pool: PoolId = name.parse().map_err(|error| damaged(&error))?;
            let lists = self.read_one(cmd("ZCARD").arg(self.0.keys.lists(&pool)).take()).await?;
            pools.push((pool, lists));
        }
        Ok(pools)
    }

    pub(in crate::store) async fn usage(&self, pool: &PoolId) -> Result<PoolUsage, StoreError> {
        let get = cmd("HMGET")
            .arg(self.0.keys.pool(pool))
            .arg("made")
            .arg("leased")
            .arg("free")
            .arg("retired")
            .take();
        let sums: Vec<Option<u64>> = self.read_one(get).await?;
        let sum = |n: usize| sums.get(n).copied().flatten().unwrap_or_default();
        Ok(PoolUsage { lists: sum(0), leased: sum(1), free: sum(2), retired: sum(3) })
    }

    /// Returns these lists with their latest publications.
    async fn pending(
        &self,
        pool: &PoolId,
        lists: Vec<(ListId, Option<Timestamp>)>,
    ) -> Result<Vec<Pending>, StoreError> {
        let ids: Vec<_> = lists.iter().map(|(list, _)| *list).collect();
        let records = self.marked_records(pool, &ids).await?.into_iter();
        let since: HashMap<_, _> = lists.into_iter().collect();
        let pending = |(record, due_mark): (ListRecord, DueMark)| Pending {
            list: record.id,
            since: since.get(&record.id).copied().flatten(),
            retired: record.retired,
            published: record.published,
            due_mark,
        };
        Ok(records.map(pending).collect())
    }

    /// Returns the records of these lists, in their order, without those that do not exist.
    async fn records(&self, pool: &PoolId, lists: &[ListId]) -> Result<Vec<ListRecord>, StoreError> {
        Ok(self.marked_records(pool, lists).await?.into_iter().map(|(record, _)| record).collect())
    }

    /// As [`Self::records`], each with its due mark of the same moment.
    async fn marked_records(
        &self,
        pool: &PoolId,
        lists: &[ListId],
    ) -> Result<Vec<(ListRecord, DueMark)>, StoreError> {
        let mut records = Vec::with_capacity(lists.len());
        for page in lists.chunks(PAGE) {
            let mut commands = Pipeline::with_capacity(page.len());
            for list in page {
                commands.cmd("HMGET").arg(self.0.keys.list(pool, list)).arg(&RECORD[..]);
            }
            for (list, answer) in page.iter().zip(self.0.link.read(&commands).await?) {
                let fields = Vec::from_redis_value(answer).map_err(unexpected)?;
                if let Some(record) = record(*list, pool, &fields)? {
                    records.push((record, due_mark(&fields)?));
                }
            }
        }
        let mut pools = self.0.pools.write();
        pools.extend(records.iter().map(|(record, _)| (record.id, pool.clone())));
        drop(pools);
        Ok(records)
    }
}
