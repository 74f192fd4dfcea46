//! A pool in a store on a real disk, with lists that count as published although no files were written.

use std::path::Path;
use std::time::Duration;

use statuslist::base::clock::Timestamp;
use statuslist::config::{Config, PoolConfig, Synchronous};
use statuslist::model::instance::InstanceId;
use statuslist::status_list::ListId;
use statuslist::store::{DueMark, Publication, SqliteStore, Store, Version};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The time at which all benchmarks begin.
pub(crate) const BEGIN: Timestamp = Timestamp::from_secs(1_800_000_000);
/// The instance that allocates and publishes.
pub(crate) fn holder() -> InstanceId {
    "bench".parse().unwrap()
}

/// A folder that is removed at the end. On the disk of the target folder: a temporary folder may be in memory, where fsync
/// costs nothing.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A pool, its store, and the runtime for them.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) pool: PoolConfig,
    pub(crate) store: Store,
}

impl Bench {
    /// A pool with these settings, given as the inside of a YAML flow mapping, its store in `folder`.
    pub(crate) fn new(folder: &Path, settings: &str) -> Self {
        let settings = format!("status-list-pools: {{ p: {{ api-key: a key of benchmarks, {settings} }} }}");
        let config = Config::load(Some(&settings), std::iter::empty()).unwrap();
        let pool = config.pools.into_values().find(|pool| pool.shape.id.as_str() == "p").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let store = Store::Sqlite(SqliteStore::open(&folder.join("bench.db"), Synchronous::Full).unwrap());
        runtime.block_on(store.declare_pool(&pool.shape)).unwrap();
        Self { runtime, pool, store }
    }

    /// Opens lists and records a publication of each that needs no renewal.
    pub(crate) fn open_lists(&self, count: usize) -> Vec<ListId> {
        let pool = &self.pool.shape.id;
        let publication =
            Publication { version: Version(0), iat: BEGIN.date(), resign_at: Publication::NEVER };
        self.runtime.block_on(async {
            let term = Duration::from_secs(1 << 30);
            let fence =
                self.store.lease_publisher(pool, &holder(), term, Duration::ZERO).await.unwrap().unwrap();
            // Opened concurrently, so that they share commits.
            let opening: Vec<_> = (0..count)
                .map(|_| {
                    let (store, pool) = (self.store.clone(), pool.clone());
                    tokio::spawn(async move {
                        let list = store.open_list(&pool, &holder(), u64::MAX, BEGIN).await.unwrap();
                        store.settle(list, publication, BEGIN, DueMark::default(), fence).await.unwrap();
                        list
                    })
                })
                .collect();
            let mut lists = Vec::with_capacity(count);
            for opened in opening {
                lists.push(opened.await.unwrap());
            }
            lists
        })
    }
}
