//! The backend for several instances on PostgreSQL, also through pgbouncer.
//!
//! Every step is one transaction of one or two round trips: the first locks the lists that it changes and reads what it needs, the
//! second writes, checks the deadline by the database's clock, and commits. There are no functions in the database: the rules are here,
//! beside those of the other backends, and an instance that stops in between loses its locks after a moment (`link.rs`).
//! Nothing is acknowledged before the database and the demanded standbys have it on their disks, which `checks.rs` watches. The
//! outcome of a commit without an answer is *unknown*: every step may be repeated.

mod apply;
mod checks;
mod chunks;
mod connections;
mod fill;
mod journal;
mod link;
mod query;
mod read;
mod registry;
mod remember;
mod schema;
#[cfg(test)]
mod tests;
mod transfer;
mod write;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::standing::PROBE_EVERY;
use super::values::StoreError;
use crate::base::clock::Timestamp;
use crate::config::PostgresConfig;
use crate::model::pool::{PoolId, PoolShape};
use checks::Unusable;
use link::Link;

/// How long a start waits for a server that does not answer yet.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A handle; clones share its connections.
#[derive(Clone, Debug)]
pub struct PostgresStore(Arc<Shared>);

struct Shared {
    link: Link,
    /// The declared pools.
    shapes: RwLock<HashMap<PoolId, Arc<PoolShape>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("server", &self.link.config.to_string()).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, checks that the server keeps what it acknowledges, and migrates the schema. Waits a moment for a server that is
    /// still starting.
    pub async fn open(config: &PostgresConfig) -> Result<Self, StoreError> {
        let store = Self::connect(config).await?;
        schema::migrate(&store.0.link).await?;
        store.start().await
    }

    /// Opens a store that exists, without migrating it.
    pub async fn open_to_read(config: &PostgresConfig) -> Result<Self, StoreError> {
        let store = Self::connect(config).await?;
        schema::check_is_current(&store.0.link).await?;
        store.start().await
    }

    /// Whether the server answers and is as durable as the settings want.
    pub async fn check_server(config: &PostgresConfig) -> Result<(), StoreError> {
        Self::connect(config).await.map(drop)
    }

    async fn connect(config: &PostgresConfig) -> Result<Self, StoreError> {
        let link = Link::new(config.clone())?;
        let begun = Instant::now();
        while let Err(why) = link.check().await {
            if matches!(why, Unusable::Settings(_)) || begun.elapsed() > START_PATIENCE {
                return Err(StoreError::Open { path: config.to_string(), why: why.to_string() });
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
        Ok(Self(Arc::new(Shared { link, shapes: RwLock::default() })))
    }

    async fn start(self) -> Result<Self, StoreError> {
        schema::refuse_unfinished(&self.0.link).await?;
        tokio::spawn(watch(Arc::downgrade(&self.0)));
        Ok(self)
    }

    pub(super) async fn ended(&self) {
        // Connections are re-established, so this backend never ends.
        std::future::pending().await
    }

    /// The time of day by the server's clock, as far as it was asked.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.0.link.standing.time()
    }

    fn shape(&self, pool: &PoolId) -> Result<Arc<PoolShape>, StoreError> {
        let shapes = self.0.shapes.read();
        let undeclared = || {
            StoreError::Unavailable(format!("the list belongs to pool {pool}, which is not in the settings"))
        };
        shapes.get(pool).cloned().ok_or_else(undeclared)
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
