//! Which instance publishes a pool: the holder of its lease in the store. A lease expires, so a dead instance blocks nobody.
//! Its number, the fence, grows with each new holder, which reveals an instance that only slept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::base::clock::Timestamp;
use crate::config::PublishRole;
use crate::model::instance::InstanceId;
use crate::model::pool::PoolId;
use crate::store::{Fence, Store, StoreError};

/// How long the lease outlives the latest pass of its holder, beyond two beats.
const MARGIN: Duration = Duration::from_secs(10);

/// This instance's role in publishing one pool.
#[derive(Debug)]
pub(super) struct PublisherLease {
    store: Store,
    pool: PoolId,
    holder: InstanceId,
    role: PublishRole,
    term_millis: AtomicU64,
    /// The fence, and when it was last extended.
    held: Mutex<Option<(Fence, Timestamp)>>,
}

impl PublisherLease {
    pub(super) fn new(
        store: Store,
        pool: PoolId,
        holder: InstanceId,
        role: PublishRole,
        beat: Duration,
    ) -> Self {
        Self { store, pool, holder, role, term_millis: term_millis(beat).into(), held: Mutex::new(None) }
    }

    /// Changes the beat of the pool.
    pub(super) fn set_beat(&self, beat: Duration) {
        self.term_millis.store(term_millis(beat), Ordering::Relaxed);
        // The store has the old term; the next pass sends the new one.
        if let Some((_, extended)) = &mut *self.held() {
            *extended = Timestamp::from_secs(0);
        }
    }

    /// Whether this instance publishes, now or once it gets the lease.
    pub(super) fn may_publish(&self) -> bool {
        self.role != PublishRole::Off
    }

    fn term(&self) -> Duration {
        Duration::from_millis(self.term_millis.load(Ordering::Relaxed))
    }

    /// Takes or extends the lease; `None` while another instance holds it. Queries the store only after half of the lease has passed.
    pub(super) async fn take(&self, now: Timestamp) -> Result<Option<Fence>, StoreError> {
        if let Some((fence, extended)) = *self.held()
            && now >= extended
            && now.since(extended) < self.term() / 2
        {
            return Ok(Some(fence));
        }
        self.extend(now).await
    }

    /// Whether nobody has taken over the lease since. Extends it, which is a write: a server that may be cut off from the others
    /// takes no writes, so it cannot confirm the lease.
    pub(super) async fn is_current(&self, fence: Fence, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.extend(now).await? == Some(fence))
    }

    async fn extend(&self, now: Timestamp) -> Result<Option<Fence>, StoreError> {
        let patience = match self.role {
            PublishRole::Off => return Ok(None),
            PublishRole::Leader => Duration::ZERO,
            // Long enough for every living leader to take it first.
            PublishRole::Follower => self.term(),
        };
        let lease = self.store.lease_publisher(&self.pool, &self.holder, self.term(), patience);
        let fence = lease.await?;
        *self.held() = fence.map(|fence| (fence, now));
        Ok(fence)
    }

    /// Whether this instance held the lease when it last queried it.
    pub(super) fn was_held(&self) -> bool {
        self.held().is_some()
    }

    /// Whether this instance currently holds the lease, according to the store.
    pub(super) async fn is_held(&self) -> Result<bool, StoreError> {
        let fence = self.held().map(|(fence, _)| fence);
        match fence {
            Some(fence) => Ok(self.store.publisher(&self.pool).await?.fence == fence),
            None => Ok(false),
        }
    }

    /// Lets another instance take over at once. For a stop.
    pub(super) async fn release(&self) {
        if self.held().take().is_some()
            && let Err(error) = self.store.release_publisher(&self.pool, &self.holder).await
        {
            tracing::warn!(pool = %self.pool, %error, "could not release the lease to publish; it expires by itself");
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<(Fence, Timestamp)>> {
        self.held.lock()
    }
}

fn term_millis(beat: Duration) -> u64 {
    u64::try_from((beat * 2 + MARGIN).as_millis()).unwrap_or(u64::MAX)
}
