//! What the model keeps.

use std::collections::BTreeMap;

use crate::base::clock::{NumericDate, Timestamp};
use crate::model::instance::InstanceId;
use crate::model::order::OrderKey;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{ListId, StatusArray};
use crate::store::Registered;
use crate::store::remembered::{Answered, Digest};
use crate::store::spread::Spread;
use crate::store::values::{DueMark, Lease, ListRecord, Pending, Publication, Version};

/// Everything that a server has, in plain maps.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    /// In the order of their declaration.
    pub(super) pools: Vec<Pool>,
    pub(super) lists: BTreeMap<ListId, List>,
    /// How many lists were ever made: the number of the next one.
    pub(super) made: u64,
    pub(super) registry: Registered,
}

#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) shape: PoolShape,
    pub(super) holder: Option<InstanceId>,
    /// By the server's clock, in milliseconds.
    pub(super) held_until: u64,
    pub(super) fence: u64,
    /// Each with the moment at which it is forgotten, likewise.
    pub(super) answers: BTreeMap<Digest, (Answered, u64)>,
}

#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) id: ListId,
    /// Lists stand in the order of their making.
    pub(super) number: u64,
    pub(super) pool: PoolId,
    pub(super) owner: InstanceId,
    /// `None` once it is sealed.
    pub(super) key: Option<OrderKey>,
    pub(super) leased: u32,
    pub(super) lease: Lease,
    pub(super) leased_at: Option<Timestamp>,
    pub(super) open: bool,
    pub(super) retired: bool,
    pub(super) version: Version,
    pub(super) dirty_since: Option<Timestamp>,
    /// The version and `iat` of its latest publication.
    pub(super) published: Option<(Version, NumericDate)>,
    pub(super) resign_at: NumericDate,
    pub(super) due_mark: DueMark,
    pub(super) spread: Option<Spread>,
    pub(super) array: StatusArray,
}

impl Data {
    pub(super) fn pool(&self, pool: &PoolId) -> Option<&Pool> {
        self.pools.iter().find(|known| known.shape.id == *pool)
    }

    pub(super) fn pool_mut(&mut self, pool: &PoolId) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|known| known.shape.id == *pool)
    }

    /// The lists of a pool, in the order of their making.
    pub(super) fn lists_of(&self, pool: &PoolId) -> Vec<&List> {
        let mut lists: Vec<_> = self.lists.values().filter(|list| list.pool == *pool).collect();
        lists.sort_by_key(|list| list.number);
        lists
    }
}

impl List {
    pub(super) fn size(&self) -> u32 {
        self.array.capacity().entries()
    }

    pub(super) fn publication(&self) -> Option<Publication> {
        self.published.map(|(version, iat)| Publication { version, iat, resign_at: self.resign_at })
    }

    /// Ends allocation for ever.
    pub(super) fn seal(&mut self) {
        self.open = false;
        self.key = None;
    }

    /// The next version, which is not published yet.
    pub(super) fn changed(&mut self, now: Timestamp) {
        self.version.0 += 1;
        self.dirty_since = self.dirty_since.or(Some(now));
    }

    pub(super) fn record(&self) -> ListRecord {
        ListRecord {
            id: self.id,
            pool: self.pool.clone(),
            leased: self.leased,
            lease: self.lease,
            owner: self.owner.clone(),
            leased_at: self.leased_at,
            open: self.open,
            sealed: self.key.is_none(),
            retired: self.retired,
            version: self.version,
            published: self.publication(),
            spread: self.spread,
        }
    }

    pub(super) fn pending(&self) -> Pending {
        Pending {
            list: self.id,
            since: self.dirty_since,
            retired: self.retired,
            published: self.publication(),
            due_mark: self.due_mark,
        }
    }
}
