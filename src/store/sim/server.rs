//! The server: what each step does to the data, and what can happen to a server as a whole.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::data::{Data, List, Pool};
use crate::base::clock::{NumericDate, Timestamp};
use crate::model::instance::InstanceId;
use crate::model::order::OrderKey;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{ListId, Status, StatusArray};
use crate::store::remembered::{Answered, Digest, Keep, Remembered};
use crate::store::values::{
    Block, DueMark, Lease, Leased, ListRecord, ListTransfer, OpenList, Order, PoolUsage, Publication,
    Snapshot, StoreError, Version,
};

/// What the clock of the server shows when it starts, in milliseconds since 1970.
const BEGIN_MILLIS: u64 = 1_700_000_000_000;

/// All that a server had at one moment: a backup, or a replica that is behind.
#[derive(Clone, Debug)]
pub struct Copy(Data);

/// What a server says of one list, for whoever compares it with the files.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The list.
    pub id: ListId,
    /// Its pool.
    pub pool: PoolId,
    /// The `iat` of its latest publication.
    pub published_at: Option<NumericDate>,
    /// Whether it is retired.
    pub retired: bool,
    /// Whether, besides, its tokens were removed.
    pub gone: bool,
}

/// One server, its clock and its source of random numbers.
#[derive(Debug)]
pub struct Server {
    pub(super) data: Data,
    started: Instant,
    chance: StdRng,
}

impl Server {
    /// An empty server. Ids and keys that it makes follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { data: Data::default(), started: Instant::now(), chance: StdRng::seed_from_u64(seed) }
    }

    /// What it has now.
    pub fn copy(&self) -> Copy {
        Copy(self.data.clone())
    }

    /// A line for each list, for whoever reads a failed simulation.
    pub fn describe(&self) -> Vec<String> {
        let line = |list: &List| {
            let List {
                id,
                pool,
                owner,
                leased,
                version,
                dirty_since,
                published,
                resign_at,
                due_mark,
                retired,
                ..
            } = list;
            format!(
                "{id} of {pool}, {owner}: leased {leased}, {version:?}, dirty {dirty_since:?}, published {published:?}, \
                 again {resign_at}, {due_mark:?}, retired {retired}"
            )
        };
        let mut lines: Vec<_> = self.data.lists.values().map(line).collect();
        lines.extend(self.data.pools.iter().map(|pool| {
            format!(
                "pool {}: {:?}, fence {}, until {}",
                pool.shape.id, pool.holder, pool.fence, pool.held_until
            )
        }));
        lines
    }

    /// All lists, as the server knows them.
    pub fn lists_stored(&self) -> Vec<Stored> {
        let stored = |list: &List| Stored {
            id: list.id,
            pool: list.pool.clone(),
            published_at: list.published.map(|(_, iat)| iat),
            retired: list.retired,
            gone: list.retired && list.resign_at == Publication::NEVER,
        };
        self.data.lists.values().map(stored).collect()
    }

    /// Goes on with what it had before: a restored backup, or a failover to a replica that is behind.
    pub fn restore(&mut self, copy: Copy) {
        self.data = copy.0;
    }

    /// Loses everything.
    pub fn flush(&mut self) {
        self.data = Data::default();
    }

    /// Its clock, in milliseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        BEGIN_MILLIS + millis(self.started.elapsed())
    }

    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.chance.fill_bytes(&mut bytes);
        bytes
    }

    pub(super) fn order_key(&mut self) -> OrderKey {
        OrderKey::from_bytes(self.bytes())
    }

    pub(super) fn declare_pool(&mut self, shape: &PoolShape) -> Result<(), StoreError> {
        let Some(pool) = self.data.pool(&shape.id) else {
            self.data.pools.push(Pool {
                shape: shape.clone(),
                holder: None,
                held_until: 0,
                fence: 0,
                answers: Default::default(),
            });
            return Ok(());
        };
        let show = |status: Option<Status>| status.map_or("null".to_owned(), |status| status.to_string());
        let settings = |shape: &PoolShape| {
            [
                ("public-url", shape.public_url.as_str().to_owned()),
                ("bits", shape.capacity.bits().to_string()),
                ("size", shape.capacity.entries().to_string()),
                ("default-status", shape.default_status.to_string()),
                ("final-status", show(shape.final_status)),
            ]
        };
        for ((setting, stored), (_, given)) in settings(&pool.shape).into_iter().zip(settings(shape)) {
            if stored != given {
                return Err(StoreError::ShapeMismatch { pool: shape.id.clone(), setting, stored, given });
            }
        }
        Ok(())
    }

    pub(super) fn open_list(
        &mut self,
        pool: &PoolId,
        owner: &InstanceId,
        most: u64,
    ) -> Result<ListId, StoreError> {
        let shape = self.data.pool(pool).ok_or_else(|| StoreError::NoSuchPool(pool.clone()))?.shape.clone();
        let in_use = self.data.lists_of(pool).into_iter().filter(|list| !list.retired).count();
        if in_use as u64 >= most {
            return Err(StoreError::TooManyLists { pool: pool.clone(), most });
        }
        // The bits that tell a random UUID.
        let mut bytes = self.bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let id = ListId::from_bytes(bytes);
        let list = List {
            id,
            number: self.data.made,
            pool: pool.clone(),
            owner: owner.clone(),
            key: Some(self.order_key()),
            leased: 0,
            lease: Lease::default(),
            leased_at: None,
            open: true,
            retired: false,
            version: Version::default(),
            dirty_since: None,
            published: None,
            resign_at: NumericDate::MIN,
            due_mark: DueMark::default(),
            spread: None,
            array: StatusArray::filled(shape.capacity, shape.default_status),
        };
        self.data.made += 1;
        self.data.lists.insert(id, list);
        Ok(id)
    }

    pub(super) fn open_lists(&self, pool: &PoolId, owner: &InstanceId) -> Vec<OpenList> {
        let lists = self.data.lists_of(pool).into_iter().filter(|list| list.open && list.owner == *owner);
        lists
            .map(|list| OpenList { id: list.id, leased: list.leased, published: list.published.is_some() })
            .collect()
    }

    pub(super) fn lease_block(
        &mut self,
        list: ListId,
        n: u32,
        owner: &InstanceId,
        mark: Lease,
        now: Timestamp,
    ) -> Leased {
        let Some(found) = self.data.lists.get_mut(&list).filter(|list| list.owner == *owner) else {
            return Leased::Nothing;
        };
        if found.lease < mark {
            return Leased::Behind { lease: found.lease };
        }
        let (from, to) = (found.leased, found.leased.saturating_add(n).min(found.size()));
        let (true, Some(key)) = (found.open && from < to, found.key) else { return Leased::Nothing };
        found.leased = to;
        found.lease.0 += 1;
        found.leased_at = Some(now);
        found.open = to < found.size();
        Leased::Block(Block { list, key, positions: from..to, lease: found.lease })
    }

    pub(super) fn return_tail(&mut self, block: &Block, from: u32) -> bool {
        let Some(list) = self.data.lists.get_mut(&block.list) else { return false };
        if !block.positions.contains(&from) || list.lease != block.lease || list.key.is_none() {
            return false;
        }
        list.leased = from;
        list.lease.0 += 1;
        list.open = true;
        true
    }

    pub(super) fn known(&mut self, list: ListId) -> Result<&mut List, StoreError> {
        self.data.lists.get_mut(&list).ok_or(StoreError::NoSuchList(list))
    }

    pub(super) fn seal_list(&mut self, list: ListId) -> Result<(), StoreError> {
        self.known(list)?.seal();
        Ok(())
    }

    pub(super) fn retire_list(&mut self, list: ListId) -> Result<(), StoreError> {
        let list = self.known(list)?;
        list.seal();
        list.retired = true;
        list.spread = None;
        list.resign_at = NumericDate::MIN;
        list.due_mark.0 += 1;
        Ok(())
    }

    pub(super) fn order_of(&self, list: ListId) -> Option<Order> {
        let list = self.data.lists.get(&list)?;
        Some(Order { key: list.key?, leased: list.leased })
    }

    pub(super) fn remember(
        &mut self,
        pool: &PoolId,
        key: Digest,
        answer: &Answered,
        keep: Keep,
    ) -> Result<Remembered, StoreError> {
        if let Some(before) = self.remembered(pool, &key) {
            return Ok(Remembered::Before(before));
        }
        let (now, until) = (self.now(), self.now() + keep.millis());
        let pool = self.data.pool_mut(pool).ok_or_else(|| StoreError::NoSuchPool(pool.clone()))?;
        pool.answers.retain(|_, (_, until)| *until > now);
        let bytes: u64 = pool.answers.values().map(|(answer, _)| answer.bytes()).sum();
        if bytes + answer.bytes() > keep.bytes_max {
            let first = pool.answers.values().map(|(_, until)| *until).min().unwrap_or(until);
            return Ok(Remembered::Full { retry_after: Duration::from_millis(first - now) });
        }
        pool.answers.insert(key, (answer.clone(), until));
        Ok(Remembered::Now)
    }

    pub(super) fn remembered(&self, pool: &PoolId, key: &Digest) -> Option<Answered> {
        let (answer, until) = self.data.pool(pool)?.answers.get(key)?;
        (*until > self.now()).then(|| answer.clone())
    }

    pub(super) fn snapshot(&mut self, list: ListId) -> Result<Snapshot, StoreError> {
        let list = self.known(list)?;
        Ok(Snapshot { version: list.version, array: list.array.clone() })
    }

    pub(super) fn list(&self, list: ListId) -> Option<ListRecord> {
        self.data.lists.get(&list).map(List::record)
    }

    pub(super) fn lists(&self, pool: &PoolId) -> Vec<ListRecord> {
        self.data.lists_of(pool).into_iter().map(List::record).collect()
    }

    pub(super) fn spreading(&self, pool: &PoolId) -> Vec<ListRecord> {
        let lists = self.data.lists_of(pool).into_iter().filter(|list| list.spread.is_some());
        lists.map(List::record).collect()
    }

    pub(super) fn pools(&self) -> Vec<(PoolId, u64)> {
        let count = |pool: &Pool| (pool.shape.id.clone(), self.data.lists_of(&pool.shape.id).len() as u64);
        self.data.pools.iter().map(count).collect()
    }

    pub(super) fn usage(&self, pool: &PoolId) -> PoolUsage {
        let mut usage = PoolUsage::default();
        for list in self.data.lists_of(pool) {
            usage.lists += 1;
            usage.retired += u64::from(list.retired);
            usage.leased += u64::from(list.leased);
            usage.free += if list.open { u64::from(list.size() - list.leased) } else { 0 };
        }
        usage
    }

    pub(super) fn shape_of(&self, pool: &PoolId) -> Option<PoolShape> {
        self.data.pool(pool).map(|pool| pool.shape.clone())
    }

    pub(super) fn export_list(&mut self, list: ListId) -> Result<ListTransfer, StoreError> {
        let list = self.known(list)?;
        let (key, dirty_since, array) = (list.key, list.dirty_since, list.array.clone());
        Ok(ListTransfer { record: list.record(), key, dirty_since, array })
    }

    pub(super) fn import_list(&mut self, transfer: &ListTransfer) -> Result<bool, StoreError> {
        let ListTransfer { record, key, dirty_since, array } = transfer;
        if self.data.lists.contains_key(&record.id) {
            return Ok(false);
        }
        if self.data.pool(&record.pool).is_none() {
            return Err(StoreError::NoSuchPool(record.pool.clone()));
        }
        let list = List {
            id: record.id,
            number: self.data.made,
            pool: record.pool.clone(),
            owner: record.owner.clone(),
            key: *key,
            leased: record.leased,
            lease: record.lease,
            leased_at: record.leased_at,
            open: record.open,
            retired: record.retired,
            version: record.version,
            dirty_since: *dirty_since,
            published: record.published.map(|published| (published.version, published.iat)),
            resign_at: record.published.map_or(NumericDate::MIN, |published| published.resign_at),
            due_mark: DueMark::default(),
            spread: record.spread,
            array: array.clone(),
        };
        self.data.made += 1;
        self.data.lists.insert(record.id, list);
        Ok(true)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
