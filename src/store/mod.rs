//! The durable state: pools, lists, statuses, and what is still to be published.
//!
//! Responsible for atomic, durable steps. Leaves the choice of indices to `allocate/`, batching to `update.rs`, and publications to
//! `publish/`. Invariants: an acknowledged write survives any crash; a change and its dirty mark are one step; a write whose
//! deadline has passed changes nothing; the cost of every operation depends on what it returns, never on the number of lists.

mod deadline;
mod postgres;
mod redis;
mod registry;
mod remembered;
#[cfg(test)]
#[path = "../../tests/it/support/servers.rs"]
mod servers;
#[cfg(feature = "sim")]
pub mod sim;
mod spread;
mod sqlite;
mod standing;
#[cfg(test)]
mod tests;
mod values;

pub use deadline::Deadline;
pub use postgres::PostgresStore;
pub use redis::RedisStore;
pub use registry::{REGISTRY_BYTES_MAX, Registered, Stamp};
pub use remembered::{Answered, Digest, Keep, Placed, Remembered};
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

/// The outcome of one request's changes.
pub type Applied = Result<(), Refusal>;

/// A backend. Closed: all are listed here, and all pass the suite in `tests/`. A clone is another handle.
#[derive(Clone, Debug)]
pub enum Store {
    /// One file, one process.
    Sqlite(SqliteStore),
    /// Shared by several instances.
    Redis(RedisStore),
    /// Shared by several instances.
    Postgres(PostgresStore),
    /// The contract's model, in the simulator only.
    #[cfg(feature = "sim")]
    Simulated(sim::SimulatedStore),
}

/// Forwards a call to the backend.
macro_rules! backend {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Store::Sqlite($store) => $call.await,
            Store::Redis($store) => $call.await,
            Store::Postgres($store) => $call.await,
            #[cfg(feature = "sim")]
            Store::Simulated($store) => $call.await,
        }
    };
}

impl Store {
    /// Opens the backend of the settings. Fails with [`StoreError::Unfinished`] if a copy into it was begun and not finished.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        match config {
            StoreConfig::Sqlite { path, synchronous } => {
                Ok(Self::Sqlite(SqliteStore::open(path, *synchronous)?))
            }
            StoreConfig::Redis(config) => Ok(Self::Redis(RedisStore::open(config).await?)),
            StoreConfig::Postgres(config) => Ok(Self::Postgres(PostgresStore::open(config).await?)),
        }
    }

    /// Opens a store that exists, for reading only, also while a service uses it: SQLite without its lock, and without migrating it.
    pub async fn open_to_read(config: &StoreConfig) -> Result<Self, StoreError> {
        match config {
            StoreConfig::Sqlite { path, .. } => Ok(Self::Sqlite(SqliteStore::open_to_read(path)?)),
            StoreConfig::Redis(config) => Ok(Self::Redis(RedisStore::open(config).await?)),
            StoreConfig::Postgres(config) => Ok(Self::Postgres(PostgresStore::open_to_read(config).await?)),
        }
    }

    /// Whether a store that others share answers and is as durable as the settings want. Changes nothing; SQLite is not asked.
    pub async fn check_server(config: &StoreConfig) -> Result<(), StoreError> {
        match config {
            StoreConfig::Sqlite { .. } => Ok(()),
            StoreConfig::Redis(config) => RedisStore::open(config).await.map(drop),
            StoreConfig::Postgres(config) => PostgresStore::check_server(config).await,
        }
    }

    /// Waits until the backend can never answer again, which only a bug causes.
    pub async fn ended(&self) {
        backend!(self, store => store.ended());
    }

    /// The time of day by the store's own clock; `None` if it has none. A server is asked every 30 s, and the time since then is
    /// added.
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Sqlite(_) => None,
            Self::Redis(store) => store.time(),
            Self::Postgres(store) => store.time(),
            #[cfg(feature = "sim")]
            Self::Simulated(store) => Some(store.time()),
        }
    }

    /// Creates the pool, or verifies that it has this shape. Must precede every other operation on the pool.
    pub async fn declare_pool(&self, shape: &PoolShape) -> Result<(), StoreError> {
        backend!(self, store => store.declare_pool(shape))
    }

    /// Opens a list with a random id and permutation key. `owner` hands out its references. The list is pending until its first
    /// publication. Fails with [`StoreError::TooManyLists`] if the pool has `most` lists already, those that are retired not counted.
    pub async fn open_list(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
        most: u64,
        now: Timestamp,
    ) -> Result<ListId, StoreError> {
        backend!(self, store => store.open_list(pool, owner, most, now))
    }

    /// Returns the lists of a pool whose references `owner` still hands out, in the order of their creation.
    pub async fn open_lists(&self, pool: &PoolId, owner: &InstanceId) -> Result<Vec<OpenList>, StoreError> {
        backend!(self, store => store.open_lists(pool, owner))
    }

    /// Leases up to `n` positions of a list to the caller alone. Returns after the lease is durable. `mark` is the latest lease of
    /// this list that the caller ever had: a store that is behind it leases nothing.
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

    /// Returns the positions of `block` from `from` on to the list, if the block is the list's latest lease. Returns whether it was. A
    /// retry never succeeds, not even if the same positions were leased again in between.
    pub async fn return_tail(&self, block: &Block, from: u32) -> Result<bool, StoreError> {
        backend!(self, store => store.return_tail(block, from))
    }

    /// Ends allocation from a list for ever and deletes its permutation key.
    pub async fn seal_list(&self, list: ListId) -> Result<(), StoreError> {
        backend!(self, store => store.seal_list(list))
    }

    /// Seals a list, refuses all later updates of it, and makes it due, so that the publisher removes its tokens.
    pub async fn retire_list(&self, list: ListId, deadline: Deadline) -> Result<(), StoreError> {
        backend!(self, store => store.retire_list(list, deadline))
    }

    /// Applies requests for lists of one pool in one atomic durable step, each all or nothing, in order. Marks the touched
    /// lists dirty. A change to another status than that of a list's spread first completes the spread.
    pub async fn apply(
        &self,
        pool: &PoolId,
        requests: Vec<Vec<StatusChange>>,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        backend!(self, store => store.apply(pool, requests, deadline, now))
    }

    /// Returns the order of a list and how far it is leased; `None` once it is sealed, because its order is then deleted.
    pub async fn order_of(&self, list: ListId) -> Result<Option<Order>, StoreError> {
        backend!(self, store => store.order_of(list))
    }

    /// Sets every entry of a list in one atomic durable step, whose cost depends on the bytes of the list. Over more than one beat,
    /// gives the list a [`Spread`] instead: a spread of the same value and beats continues, any other is replaced. Refused if an entry
    /// would leave its final status. Unless the status is the default, also seals the list: references that were handed out later
    /// would have that status from the start.
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

    /// Returns the lists of a pool that have a spread.
    pub async fn spreading(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        backend!(self, store => store.spreading(pool))
    }

    /// Sets the next `entries` of a list to the value of its spread, in one atomic durable step, if the spread is still `spread`.
    /// Returns whether it was. Takes at most [`SPREAD_STEP_MAX`] entries; the last of them ends the spread.
    pub async fn advance_spread(
        &self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        backend!(self, store => store.advance_spread(list, spread, entries, now))
    }

    /// Records an answer under `key`, unless one is already recorded or the answers of the pool would take more than `keep` allows.
    /// Returns after it is durable. The references must be the caller's own: if this fails, whether a retry will receive them is
    /// unknown.
    pub async fn remember(
        &self,
        pool: &PoolId,
        key: Digest,
        answer: Answered,
        now: Timestamp,
        keep: Keep,
    ) -> Result<Remembered, StoreError> {
        backend!(self, store => store.remember(pool, key, answer, now, keep))
    }

    /// Returns the answer recorded under `key`. A store that went back in time may have lost it.
    pub async fn remembered(
        &self,
        pool: &PoolId,
        key: Digest,
        now: Timestamp,
    ) -> Result<Option<Answered>, StoreError> {
        backend!(self, store => store.remembered(pool, key, now))
    }

    /// Returns the lists with unpublished changes, those that wait longest first.
    pub async fn dirty(&self, pool: &PoolId) -> Result<Vec<Pending>, StoreError> {
        backend!(self, store => store.dirty(pool))
    }

    /// Returns the lists whose publication must be renewed by `t`, and those that were never published.
    pub async fn due(&self, pool: &PoolId, t: Timestamp) -> Result<Vec<Pending>, StoreError> {
        backend!(self, store => store.due(pool, t))
    }

    /// Returns when the next renewal of a published list of the pool is due; `None` while nothing is published.
    pub async fn next_due(&self, pool: &PoolId) -> Result<Option<Timestamp>, StoreError> {
        backend!(self, store => store.next_due(pool))
    }

    /// Returns the statuses of a list. The bytes are at least as new as the version, and as durable as acknowledged writes.
    pub async fn snapshot(&self, list: ListId) -> Result<Snapshot, StoreError> {
        backend!(self, store => store.snapshot(list))
    }

    /// Returns one status of a list, and a version that has it: at least as new as the status.
    pub async fn status(&self, list: ListId, index: Index) -> Result<(Status, Version), StoreError> {
        backend!(self, store => store.status(list, index))
    }

    /// Returns the changes since the list's latest publication, up to `version`; `None` if no journal is kept.
    pub async fn changes_since_publication(
        &self,
        list: ListId,
        version: Version,
    ) -> Result<Option<Changes>, StoreError> {
        backend!(self, store => store.changes_since_publication(list, version))
    }

    /// Records a publication; clears the dirty mark if the published version is still the current one. Otherwise the list is dirty
    /// since its first change after that version, or, if that time is unknown, since `taken`, the time when its snapshot was requested.
    /// `seen` is the list's due mark when the publication began. If the list was made due at once after that, it stays due: the
    /// publication was decided earlier. Refuses an older fence.
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

    /// Makes lists due at once, because files are missing or wrong. Holds until a publication that began later is settled.
    pub async fn mark_due(&self, lists: Vec<ListId>) -> Result<(), StoreError> {
        backend!(self, store => store.mark_due(lists))
    }

    /// Takes or extends the lease to publish a pool, for `term` from now by the store's own clock. `None` while another holder
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

    /// Releases the lease to publish a pool at once, if this holder has it.
    pub async fn release_publisher(&self, pool: &PoolId, holder: &InstanceId) -> Result<(), StoreError> {
        backend!(self, store => store.release_publisher(pool, holder))
    }

    /// Returns who holds the lease to publish a pool.
    pub async fn publisher(&self, pool: &PoolId) -> Result<PublisherState, StoreError> {
        backend!(self, store => store.publisher(pool))
    }

    /// Returns the record of a list.
    pub async fn list(&self, list: ListId) -> Result<Option<ListRecord>, StoreError> {
        backend!(self, store => store.list(list))
    }

    /// Returns all lists of a pool, in the order of their creation.
    pub async fn lists(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        backend!(self, store => store.lists(pool))
    }

    /// Returns every pool that was ever declared, with the number of its lists.
    pub async fn pools(&self) -> Result<Vec<(PoolId, u64)>, StoreError> {
        backend!(self, store => store.pools())
    }

    /// Returns how much of a pool is used.
    pub async fn usage(&self, pool: &PoolId) -> Result<PoolUsage, StoreError> {
        backend!(self, store => store.usage(pool))
    }

    /// Returns the shape that a pool was created with. The statuses that updates may set are not part of it.
    pub async fn shape_of(&self, pool: &PoolId) -> Result<Option<PoolShape>, StoreError> {
        backend!(self, store => store.shape_of(pool))
    }

    /// Returns the stamp of the registry: one cheap read, which every instance makes again and again.
    pub async fn registry_stamp(&self) -> Result<Stamp, StoreError> {
        backend!(self, store => store.registry_stamp())
    }

    /// Returns the registry, as durable as acknowledged writes.
    pub async fn registry(&self) -> Result<Registered, StoreError> {
        backend!(self, store => store.registry())
    }

    /// Replaces the registry in one atomic durable step, if its stamp is still `seen`. Returns whether it was; a repetition of a
    /// replacement that was made returns that too.
    pub async fn replace_registry(
        &self,
        seen: &Stamp,
        newer: &Registered,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        backend!(self, store => store.replace_registry(seen, newer, deadline))
    }

    /// Exports a whole list for import into another store. Nobody may write in the meantime.
    pub async fn export_list(&self, list: ListId) -> Result<ListTransfer, StoreError> {
        backend!(self, store => store.export_list(list))
    }

    /// Marks the store durably as an unfinished copy: until [`finish_import`](Self::finish_import) nobody can open it, so a copy that
    /// was interrupted cannot be taken for a whole store. Open handles are not affected.
    pub async fn begin_import(&self) -> Result<(), StoreError> {
        backend!(self, store => store.begin_import())
    }

    /// Removes the mark of [`begin_import`](Self::begin_import) durably.
    pub async fn finish_import(&self) -> Result<(), StoreError> {
        backend!(self, store => store.finish_import())
    }

    /// Imports a list of another store into its pool, which must be declared. Returns whether it was new. The journal of its changes is not exported, so a dirty list
    /// may count as published by files that are not the current ones.
    pub async fn import_list(&self, list: &ListTransfer) -> Result<bool, StoreError> {
        backend!(self, store => store.import_list(list))
    }
}
