//! The atomic steps: the arguments of each script, and the meaning of its reply.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use deadpool_redis::redis::{Value, cmd};

use super::reply::{damaged, order_key, part};
use super::scripts::{self, Call, Script};
use super::{PAGE, RedisStore, bit_offset};
use crate::base::clock::Timestamp;
use crate::model::instance::InstanceId;
use crate::model::order::OrderKey;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{ListId, Status};
use crate::store::values::{
    Block, DueMark, Fence, Lease, Leased, Publication, Refusal, StatusChange, StoreError,
};
use crate::store::{Applied, Deadline};

impl RedisStore {
    pub(in crate::store) async fn declare_pool(&self, shape: &PoolShape) -> Result<(), StoreError> {
        let keys = &self.0.keys;
        // First, so that every existing pool can be found; a name without a pool is harmless.
        let name = cmd("SADD").arg(keys.pools()).arg(shape.id.as_str()).take();
        self.0.link.write_plain(name).await?;
        let given = shape_texts(shape);
        let shown: Vec<_> = given.iter().map(|(_, given)| given).collect();
        let call = Call::new(&scripts::DECLARE_POOL, &[keys.pool(&shape.id)]).arg(shown);
        let stored: Vec<String> = self.write(&call).await?;
        for ((setting, given), stored) in given.into_iter().zip(stored) {
            if stored != given {
                return Err(StoreError::ShapeMismatch { pool: shape.id.clone(), setting, stored, given });
            }
        }
        let mut shapes = self.0.shapes.write();
        shapes.insert(shape.id.clone(), Arc::new(shape.clone()));
        Ok(())
    }

    pub(in crate::store) async fn open_list(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
        most: u64,
        _now: Timestamp,
    ) -> Result<ListId, StoreError> {
        let too_many = || StoreError::TooManyLists { pool: pool.clone(), most };
        // The script decides; this saves a name for each try while the pool has enough lists.
        let usage = self.usage(pool).await?;
        if usage.lists.saturating_sub(usage.retired) >= most {
            return Err(too_many());
        }
        let list = ListId::random();
        let key = OrderKey::random();
        let keys = &self.0.keys;
        // First, so that every existing list can be found; a name without a list is harmless.
        let name = cmd("SET").arg(keys.pool_of(&list)).arg(pool.as_str()).take();
        self.0.link.write_plain(name).await?;
        let call = Call::new(
            &scripts::OPEN_LIST,
            &[
                keys.pool(pool),
                keys.lists(pool),
                keys.open(pool, owner),
                keys.due(pool),
                keys.list(pool, &list),
            ],
        )
        .arg(list.to_string())
        .arg(&key.as_bytes()[..])
        .arg(owner.as_str())
        .arg(most)
        .arg(u8::from(
            self.shape(pool)
                .is_ok_and(|shape| shape.final_status.is_some_and(|last| last != shape.default_status)),
        ));
        match self.write::<i64>(&call).await? {
            1 => return Ok(list),
            -1 => return Err(too_many()),
            _ => self.declare_again(pool).await?,
        }
        Err(StoreError::NoSuchPool(pool.clone()))
    }

    /// Declares a pool again that has disappeared: Redis came back empty, or an empty server took over. All its lists are gone too, so
    /// new lists repeat no reference. The current caller gets an error, once, and then checks what else is lost.
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
        let Some(pool) = self.find_pool(list).await? else { return Ok(Leased::Nothing) };
        let call = self
            .of_open_list(&scripts::LEASE_BLOCK, &pool, list, owner)
            .arg(owner.as_str())
            .arg(n)
            .arg(mark.0)
            .arg(now.millis());
        let reply: Vec<Value> = self.write(&call).await?;
        let kind: String = part(&reply, 0)?;
        Ok(match kind.as_str() {
            "block" => {
                let key = order_key(part(&reply, 4)?)?;
                let positions = part(&reply, 1)?..part(&reply, 2)?;
                Leased::Block(Block { list, key, positions, lease: Lease(part(&reply, 3)?) })
            }
            "behind" => Leased::Behind { lease: Lease(part(&reply, 1)?) },
            _ => Leased::Nothing,
        })
    }

    pub(in crate::store) async fn return_tail(&self, block: &Block, from: u32) -> Result<bool, StoreError> {
        if !block.positions.contains(&from) {
            return Ok(false);
        }
        let Some((pool, owner)) = self.owner_of(block.list).await? else { return Ok(false) };
        let call = self.of_open_list(&scripts::RETURN_TAIL, &pool, block.list, &owner);
        self.write(&call.arg(block.lease.0).arg(from)).await
    }

    pub(in crate::store) async fn seal_list(&self, list: ListId) -> Result<(), StoreError> {
        let (pool, owner) = self.owner_of(list).await?.ok_or(StoreError::NoSuchList(list))?;
        match self.write(&self.of_open_list(&scripts::SEAL_LIST, &pool, list, &owner)).await? {
            true => Ok(()),
            false => Err(StoreError::NoSuchList(list)),
        }
    }

    pub(in crate::store) async fn retire_list(
        &self,
        list: ListId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let (pool, owner) = self.owner_of(list).await?.ok_or(StoreError::NoSuchList(list))?;
        let keys = &self.0.keys;
        let keys = [
            keys.pool(&pool),
            keys.open(&pool, &owner),
            keys.list(&pool, &list),
            keys.due(&pool),
            keys.spreads(&pool),
        ];
        let call = Call::new(&scripts::RETIRE_LIST, &keys).arg(list.to_string());
        match self.write_before(&call, deadline).await? {
            true => Ok(()),
            false => Err(StoreError::NoSuchList(list)),
        }
    }

    pub(in crate::store) async fn apply(
        &self,
        pool: &PoolId,
        requests: Vec<Vec<StatusChange>>,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        let shape = self.shape(pool)?;
        let default = shape.default_status.value();
        let capacity = shape.capacity;
        let mut numbers: HashMap<ListId, usize> = HashMap::new();
        let mut lists = Vec::new();
        let mut arguments = Vec::with_capacity(4 * requests.len());
        let mut expecting = false;
        for request in &requests {
            arguments.push(request.len() as u64);
            for change in request {
                let number = *numbers.entry(change.list).or_insert_with(|| {
                    lists.push(change.list);
                    lists.len()
                });
                let mut value = u64::from(change.status.value() ^ default);
                if let Some(expected) = change.expected {
                    expecting = true;
                    value += 256 * (u64::from(expected.value() ^ default) + 1);
                }
                arguments.extend([number as u64, bit_offset(capacity, change.index), value]);
            }
        }
        if arguments.is_empty() {
            return Ok(Vec::new());
        }
        let mut keys = vec![self.0.keys.dirty(pool), self.0.keys.spreads(pool)];
        for list in &lists {
            keys.extend([self.0.keys.list(pool, list), self.0.keys.bytes(pool, list)]);
        }
        let last = shape.final_status.map(|last| (last.value() ^ default).to_string());
        let call = Call::new(&scripts::APPLY, &keys)
            .arg(now.millis())
            .arg(capacity.bits().get())
            .arg(last.unwrap_or_default())
            .arg(capacity.bytes())
            .arg(default)
            .arg(u8::from(expecting))
            .arg(arguments);
        let replies: Vec<usize> = self.write_before(&call, deadline).await?;
        if replies.len() != 2 * requests.len() {
            return Err(damaged("the script returned the wrong number of outcomes"));
        }
        let answers = requests.iter().zip(replies.chunks_exact(2));
        answers.map(|(request, reply)| outcome(&shape, request, reply[0], reply[1])).collect()
    }

    pub(in crate::store) async fn settle(
        &self,
        list: ListId,
        publication: Publication,
        taken: Timestamp,
        seen: DueMark,
        fence: Fence,
    ) -> Result<(), StoreError> {
        let pool = self.pool_of(list).await?;
        let keys = &self.0.keys;
        let call = Call::new(
            &scripts::SETTLE,
            &[keys.pool(&pool), keys.dirty(&pool), keys.due(&pool), keys.list(&pool, &list)],
        )
        .arg(list.to_string())
        .arg(fence.0)
        .arg(publication.version.0)
        .arg(publication.iat.secs())
        .arg(publication.resign_at.secs())
        .arg(taken.millis())
        .arg(seen.0);
        let settled: String = self.write(&call).await?;
        match settled.as_str() {
            "settled" => Ok(()),
            "fenced" => Err(StoreError::Fenced),
            _ => Err(StoreError::NoSuchList(list)),
        }
    }

    pub(in crate::store) async fn mark_due(&self, lists: Vec<ListId>) -> Result<(), StoreError> {
        let mut by_pool: HashMap<PoolId, Vec<ListId>> = HashMap::new();
        for list in lists {
            by_pool.entry(self.pool_of(list).await?).or_default().push(list);
        }
        for (pool, lists) in by_pool {
            for page in lists.chunks(PAGE) {
                let mut keys = vec![self.0.keys.due(&pool)];
                keys.extend(page.iter().map(|list| self.0.keys.list(&pool, list)));
                let ids: Vec<_> = page.iter().map(ListId::to_string).collect();
                let call = Call::new(&scripts::MARK_DUE, &keys).arg(ids);
                let missing: usize = self.write(&call).await?;
                if let Some(list) = missing.checked_sub(1).and_then(|n| page.get(n)) {
                    return Err(StoreError::NoSuchList(*list));
                }
            }
        }
        Ok(())
    }

    pub(in crate::store) async fn lease_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
        term: Duration,
        patience: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        let call = Call::new(&scripts::LEASE_PUBLISHER, &[self.0.keys.pool(pool)])
            .arg(holder.as_str())
            .arg(u64::try_from(term.as_millis()).unwrap_or(u64::MAX))
            .arg(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        match self.write::<Option<i64>>(&call).await?.map(u64::try_from) {
            None => Ok(None),
            Some(Ok(fence)) => Ok(Some(Fence(fence))),
            Some(Err(_)) => Err(StoreError::NoSuchPool(pool.clone())),
        }
    }

    pub(in crate::store) async fn release_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
    ) -> Result<(), StoreError> {
        let call = Call::new(&scripts::RELEASE_PUBLISHER, &[self.0.keys.pool(pool)]).arg(holder.as_str());
        self.write::<bool>(&call).await.map(|_| ())
    }

    fn of_open_list(
        &self,
        script: &'static LazyLock<Script>,
        pool: &PoolId,
        list: ListId,
        owner: &InstanceId,
    ) -> Call {
        let keys = &self.0.keys;
        let keys = [keys.pool(pool), keys.open(pool, owner), keys.list(pool, &list)];
        Call::new(script, &keys).arg(list.to_string())
    }

    /// Returns the pool of a list, and the instance that hands out its references. Neither ever changes.
    pub(super) async fn owner_of(&self, list: ListId) -> Result<Option<(PoolId, InstanceId)>, StoreError> {
        Ok(self.list(list).await?.map(|record| (record.pool, record.owner)))
    }
}

/// Parses the script's outcome of one request.
fn outcome(
    shape: &PoolShape,
    request: &[StatusChange],
    outcome: usize,
    change: usize,
) -> Result<Applied, StoreError> {
    if outcome == 0 {
        return Ok(Ok(()));
    }
    let change = change.checked_sub(1).and_then(|n| request.get(n));
    let StatusChange { list, index, expected, .. } =
        *change.ok_or_else(|| damaged("the script names a change that does not exist"))?;
    // The stored status, if another was expected.
    let stored = outcome.checked_sub(4).and_then(|relative| u8::try_from(relative).ok());
    let stored = stored.map(|relative| Status::new(relative ^ shape.default_status.value()));
    match (outcome, shape.final_status, expected, stored) {
        (1, ..) => Ok(Err(Refusal::NoSuchList { list })),
        (2, ..) => Ok(Err(Refusal::Retired { list })),
        (3, Some(status), ..) => Ok(Err(Refusal::FinalStatus { list, index, status })),
        (_, _, Some(expected), Some(stored)) => {
            Ok(Err(Refusal::NotAsExpected { list, index, expected, stored }))
        }
        _ => Err(damaged("the script returned an unknown outcome")),
    }
}

fn shape_texts(shape: &PoolShape) -> [(&'static str, String); 5] {
    let last = shape.final_status.map_or("null".to_owned(), |last| last.value().to_string());
    [
        ("public-url", shape.public_url.as_str().to_owned()),
        ("bits", shape.capacity.bits().to_string()),
        ("size", shape.capacity.entries().to_string()),
        ("default-status", shape.default_status.value().to_string()),
        ("final-status", last),
    ]
}
