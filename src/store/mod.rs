//! The durable truth: pools, lists, statuses, and what is still to be published.
//!
//! Responsible for atomic, durable steps. Leaves the choice of indices to `allocate/`, batching to `update.rs`, and what a
//! publication is to `publish/`. Invariants: a write that was answered survives any crash; a change and its dirty mark are
//! one step; a write whose deadline has passed changes nothing; the cost of every operation follows what it returns, never
//! how many lists there are.

mod deadline;
mod redis;
mod remembered;
#[cfg(test)]
#[path = "../../tests/it/support/redis.rs"]
mod servers;
mod spread;
mod sqlite;
#[cfg(test)]
mod tests;
mod values;

pub use deadline::Deadline;
pub use redis::RedisStore;
pub use remembered::{Answered, Digest, Remembered};
pub use spread::{SPREAD_STEP_MAX, Spread};
pub use sqlite::SqliteStore;
pub use values::{
    Block, Changes, DueMark, Fence, Given, Lease, Leased, ListRecord, ListTransfer, OpenList, Order, Pending,
    PoolUsage, Publication, PublisherState, Refusal, Snapshot, StatusChange, StoreError, Version,
};

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::config::StoreConfig;
use crate::model::instance::InstanceId;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{Index, ListId, Status};

/// What one request's changes came to.
pub type Applied = Result<(), Refusal>;

/// A backend. Closed: both are listed here, and both pass the suite in `tests/`. Cloning gives another handle.
#[derive(Clone, Debug)]
pub enum Store {
    /// One file, one process.
    Sqlite(SqliteStore),
    /// Several instances share it.
    Redis(RedisStore),
}

/// Passes a call on to the backend.
macro_rules! backend {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Store::Sqlite($store) => $call.await,
            Store::Redis($store) => $call.await,
        }
    };
}

impl Store {
    /// Opens the backend of the settings.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        match config {
            StoreConfig::Sqlite { path, synchronous } => {
                Ok(Self::Sqlite(SqliteStore::open(path, *synchronous)?))
            }
            StoreConfig::Redis(config) => Ok(Self::Redis(RedisStore::open(config).await?)),
        }
    }

    /// Waits until the backend can never answer again, which only a fault of the program brings about.
    pub async fn ended(&self) {
        backend!(self, store => store.ended());
    }

    /// The time of day by the store's own clock; `None` if it has none. Redis is asked every 30 s, and the time since then is
    /// added.
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Sqlite(_) => None,
            Self::Redis(store) => store.time(),
        }
    }

    /// Creates the pool, or verifies that it has this shape. Must come before every other operation on it.
    pub async fn declare_pool(&self, shape: &PoolShape) -> Result<(), StoreError> {
        backend!(self, store => store.declare_pool(shape))
    }

    /// Opens a list with a random id and permutation key, whose references `owner` gives. It is pending until its first
    /// publication.
    pub async fn open_list(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
        now: Timestamp,
    ) -> Result<ListId, StoreError> {
        backend!(self, store => store.open_list(pool, owner, now))
    }

    /// The lists of a pool that still give references through `owner`, in the order of their making.
    pub async fn open_lists(&self, pool: &PoolId, owner: &InstanceId) -> Result<Vec<OpenList>, StoreError> {
        backend!(self, store => store.open_lists(pool, owner))
    }

    /// Takes up to `n` positions of a list for the caller alone. Answered after it is durable. `mark` is the latest lease of
    /// this list that the caller ever had: a store that is behind it gives nothing.
    pub async fn lease_block(
        &self,
        list: ListId,
        n: u32,
        owner: &InstanceId,
        mark: Lease,
        now: Timestamp,
    ) -> Result<Leased, StoreError> {
        backend!(self, store => store.lease_block(list, n, owner, mark, now))
    }

    /// Gives the positions of `block` from `from` on back, if it is the list's latest lease. Answers whether it did. A retry
    /// never does, not even when the same positions were leased again in between.
    pub async fn return_tail(&self, block: &Block, from: u32) -> Result<bool, StoreError> {
        backend!(self, store => store.return_tail(block, from))
    }

    /// Ends allocation from a list for ever and forgets its permutation key.
    pub async fn seal_list(&self, list: ListId) -> Result<(), StoreError> {
        backend!(self, store => store.seal_list(list))
    }

    /// Seals a list, takes no more updates of it, and makes it due, so that the publisher removes its tokens.
    pub async fn retire_list(&self, list: ListId, deadline: Deadline) -> Result<(), StoreError> {
        backend!(self, store => store.retire_list(list, deadline))
    }

    /// Applies requests for lists of one pool in one atomic durable step, each all or nothing, in order. Marks the touched
    /// lists dirty. Before another status than that of a list's spread, all that is left of the spread is done.
    pub async fn apply(
        &self,
        pool: &PoolId,
        requests: Vec<Vec<StatusChange>>,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        backend!(self, store => store.apply(pool, requests, deadline, now))
    }

    /// How far a list is leased, and in which order; `None` once it is sealed, because its order is forgotten then.
    pub async fn order_of(&self, list: ListId) -> Result<Option<Order>, StoreError> {
        backend!(self, store => store.order_of(list))
    }

    /// Sets every entry of a list in one atomic durable step, whose cost follows the bytes of the list; or, over more than
    /// one beat, begins to: then it has a [`Spread`]. One of the same value and beats goes on, any other is replaced. Refused if
    /// an entry would leave its final status. Unless it is the default status, the list is sealed with it: a reference that was
    /// handed out afterwards would have that status from the start.
    pub async fn fill_list(
        &self,
        list: ListId,
        status: Status,
        beats: u32,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        backend!(self, store => store.fill_list(list, status, beats, deadline, now))
    }

    /// The lists of a pool that have a spread.
    pub async fn spreading(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        backend!(self, store => store.spreading(pool))
    }

    /// Gives the next `entries` of a list the value of its spread, in one atomic durable step, if the spread still is `spread`.
    /// Answers whether it was. At most [`SPREAD_STEP_MAX`] at once; with the last of them the spread is over.
    pub async fn advance_spread(
        &self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        backend!(self, store => store.advance_spread(list, spread, entries, now))
    }

    /// Remembers an answer under `key` for `keep`, unless one is remembered already. Answered after it is durable. The
    /// references must be the caller's own: if it fails, whether they will be answered to a retry is unknown.
    pub async fn remember(
        &self,
        pool: &PoolId,
        key: Digest,
        answer: Answered,
        now: Timestamp,
        keep: Duration,
    ) -> Result<Remembered, StoreError> {
        backend!(self, store => store.remember(pool, key, answer, now, keep))
    }

    /// What is remembered under `key`. A store that went back in time may have forgotten it.
    pub async fn remembered(
        &self,
        pool: &PoolId,
        key: Digest,
        now: Timestamp,
    ) -> Result<Option<Answered>, StoreError> {
        backend!(self, store => store.remembered(pool, key, now))
    }

    /// Lists with unpublished changes, those waiting longest first.
    pub async fn dirty(&self, pool: &PoolId) -> Result<Vec<Pending>, StoreError> {
        backend!(self, store => store.dirty(pool))
    }

    /// Lists whose publication is to be renewed by `t`, and those that were never published.
    pub async fn due(&self, pool: &PoolId, t: Timestamp) -> Result<Vec<Pending>, StoreError> {
        backend!(self, store => store.due(pool, t))
    }

    /// When the next renewal of a published list of the pool is due; `None` while nothing is published.
    pub async fn next_due(&self, pool: &PoolId) -> Result<Option<Timestamp>, StoreError> {
        backend!(self, store => store.next_due(pool))
    }

    /// The statuses of a list; its bytes are at least as new as its version, and as durable as what is acknowledged.
    pub async fn snapshot(&self, list: ListId) -> Result<Snapshot, StoreError> {
        backend!(self, store => store.snapshot(list))
    }

    /// One status of a list, and a version that has it: at least as new as the status.
    pub async fn status(&self, list: ListId, index: Index) -> Result<(Status, Version), StoreError> {
        backend!(self, store => store.status(list, index))
    }

    /// What was changed since the list's latest publication, up to `version`; `None` where no journal is kept.
    pub async fn changes_since_publication(
        &self,
        list: ListId,
        version: Version,
    ) -> Result<Option<Changes>, StoreError> {
        backend!(self, store => store.changes_since_publication(list, version))
    }

    /// Records a publication; clears the dirty mark if its version is still the current one. Otherwise the list is dirty
    /// since its first change after that version, or, where that is not known, since `taken`, when its snapshot was asked
    /// for. It stays due at once if it was made so after the publication began, when its mark was `seen`: what the files show
    /// was decided before that. Refuses an older fence.
    pub async fn settle(
        &self,
        list: ListId,
        publication: Publication,
        taken: Timestamp,
        seen: DueMark,
        fence: Fence,
    ) -> Result<(), StoreError> {
        backend!(self, store => store.settle(list, publication, taken, seen, fence))
    }

    /// Makes lists due at once, for files that are missing or wrong. Holds until a publication that began later is settled.
    pub async fn mark_due(&self, lists: Vec<ListId>) -> Result<(), StoreError> {
        backend!(self, store => store.mark_due(lists))
    }

    /// Takes or extends the right to publish a pool, for `term` from now by the store's own clock; `None` while another holder
    /// has it, and for `patience` after that.
    pub async fn lease_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
        term: Duration,
        patience: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        backend!(self, store => store.lease_publisher(pool, holder, term, patience))
    }

    /// Lets go of the right to publish a pool, if it is this holder's: it ends now.
    pub async fn release_publisher(&self, pool: &PoolId, holder: &InstanceId) -> Result<(), StoreError> {
        backend!(self, store => store.release_publisher(pool, holder))
    }

    /// Who has the right to publish a pool.
    pub async fn publisher(&self, pool: &PoolId) -> Result<PublisherState, StoreError> {
        backend!(self, store => store.publisher(pool))
    }

    /// What the store knows of a list.
    pub async fn list(&self, list: ListId) -> Result<Option<ListRecord>, StoreError> {
        backend!(self, store => store.list(list))
    }

    /// All lists of a pool, in the order of their making.
    pub async fn lists(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        backend!(self, store => store.lists(pool))
    }

    /// Every pool that was ever declared, with the number of its lists.
    pub async fn pools(&self) -> Result<Vec<(PoolId, u64)>, StoreError> {
        backend!(self, store => store.pools())
    }

    /// How much of a pool is used.
    pub async fn usage(&self, pool: &PoolId) -> Result<PoolUsage, StoreError> {
        backend!(self, store => store.usage(pool))
    }

    /// The shape that a pool was created with; which statuses updates may set is not part of it.
    pub async fn shape_of(&self, pool: &PoolId) -> Result<Option<PoolShape>, StoreError> {
        backend!(self, store => store.shape_of(pool))
    }

    /// A whole list, to be put into another store. Nobody may write meanwhile.
    pub async fn export_list(&self, list: ListId) -> Result<ListTransfer, StoreError> {
        backend!(self, store => store.export_list(list))
    }

    /// Puts a list of another store in; answers whether it was not there before. A history of its changes does not come
    /// along, so a dirty one may count as published by files that are not the current ones.
    pub async fn import_list(&self, list: &ListTransfer) -> Result<bool, StoreError> {
        backend!(self, store => store.import_list(list))
    }
}
