//! The backend for several instances: Redis, alone, behind sentinels, or as a cluster.
//!
//! Every step is one Lua script (`*.lua`) on the keys of one pool, which share a slot of a cluster; `keys.rs` names them.
//! Statuses are packed as in the token, but relative to the pool's default status, so that missing bytes mean the default.
//! Nothing is acknowledged before Redis has fsynced it (`appendfsync always`, which `checks.rs` watches) and the demanded
//! replicas have it. The outcome of a command without a reply is *unknown*: every step may be repeated.

mod checks;
mod fill;
mod keys;
mod link;
mod pools;
mod read;
mod registry;
mod remember;
mod reply;
mod scripts;
#[cfg(test)]
mod tests;
mod transfer;
mod write;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool_redis::redis::{Cmd, FromRedisValue, Pipeline, cmd};
use parking_lot::RwLock;
use tokio::time::Instant;

use super::deadline::Deadline;
use super::standing::PROBE_EVERY;
use super::values::StoreError;
use crate::base::clock::Timestamp;
use crate::config::RedisConfig;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{Capacity, Index, ListId};
use checks::Unusable;
use keys::Keys;
use link::Link;
use reply::{damaged, part, unexpected};
use scripts::Call;

/// How long a start waits for a Redis that does not answer yet.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// The most lists queried in one round trip.
const PAGE: usize = 500;

/// A handle; clones share its connections.
#[derive(Clone, Debug)]
pub struct RedisStore(Arc<Shared>);

struct Shared {
    link: Link,
    keys: Keys,
    /// The declared pools.
    shapes: RwLock<HashMap<PoolId, Arc<PoolShape>>>,
    /// The pool of each known list. A list never changes its pool.
    pools: RwLock<HashMap<ListId, PoolId>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", &self.link.config.target).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, and checks that Redis keeps what it acknowledges. Waits a moment for a Redis that is still starting.
    pub async fn open(config: &RedisConfig) -> Result<Self, StoreError> {
        let link = Link::new(config.clone())?;
        let begun = Instant::now();
        while let Err(why) = link.check().await {
            if matches!(why, Unusable::Settings(_)) || begun.elapsed() > START_PATIENCE {
                return Err(StoreError::Open { path: config.target.to_string(), why: why.to_string() });
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
        let keys = Keys::new(&config.key_prefix);
        let shared = Shared { link, keys, shapes: RwLock::default(), pools: RwLock::default() };
        let store = Self(Arc::new(shared));
        store.refuse_unfinished().await?;
        tokio::spawn(watch(Arc::downgrade(&store.0)));
        Ok(store)
    }

    pub(super) async fn ended(&self) {
        // Connections are re-established, so this backend never ends.
        std::future::pending().await
    }

    /// The time of day by the servers' clock, as far as it was asked.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.0.link.standing.time()
    }

    async fn pool_of(&self, list: ListId) -> Result<PoolId, StoreError> {
        self.find_pool(list).await?.ok_or(StoreError::NoSuchList(list))
    }

    async fn find_pool(&self, list: ListId) -> Result<Option<PoolId>, StoreError> {
        let known = self.0.pools.read().get(&list).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let name: Option<String> = self.read_one(cmd("GET").arg(self.0.keys.pool_of(&list)).take()).await?;
        let Some(name) = name else { return Ok(None) };
        let pool: PoolId = name.parse().map_err(|error| damaged(&error))?;
        self.0.pools.write().insert(list, pool.clone());
        Ok(Some(pool))
    }

    fn shape(&self, pool: &PoolId) -> Result<Arc<PoolShape>, StoreError> {
        let shapes = self.0.shapes.read();
        let undeclared = || {
            StoreError::Unavailable(format!("the list belongs to pool {pool}, which is not in the settings"))
        };
        shapes.get(pool).cloned().ok_or_else(undeclared)
    }

    /// Runs a step whose deadline is the timeout of its command.
    async fn write<T: FromRedisValue>(&self, call: &Call) -> Result<T, StoreError> {
        self.write_before(call, Deadline::after(self.0.link.config.command_timeout)).await
    }

    /// A step that changes nothing after its deadline, nor after its command was given up: whoever hears of that may have the
    /// opposite acknowledged at once.
    async fn write_before<T: FromRedisValue>(
        &self,
        call: &Call,
        deadline: Deadline,
    ) -> Result<T, StoreError> {
        let deadline = deadline.min(Deadline::after(self.0.link.config.command_timeout));
        T::from_redis_value(self.0.link.write(call, deadline).await?).map_err(unexpected)
    }

    async fn read_one<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        part(&self.0.link.read(&commands).await?, 0)
    }
}

/// Watches the link as long as a handle of the store exists.
async fn watch(shared: Weak<Shared>) {
    while let Some(store) = shared.upgrade() {
        // A failed check has closed the link and logged why.
        let _ = store.link.check().await;
        let standing = Arc::clone(&store.link.standing);
        drop(store);
        standing.next_check().await;
    }
}

/// The offset of an entry. Redis counts bits from the most significant bit of each byte; a token counts from the least.
fn bit_offset(capacity: Capacity, index: Index) -> u64 {
    let (idx, bits) = (u64::from(index.get()), u64::from(capacity.bits().get()));
    let (byte, shift) = (idx * bits / 8, idx * bits % 8);
    byte * 8 + 8 - bits - shift
}
