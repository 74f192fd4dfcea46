//! How many of the process' open files may be connections. The publisher's files come first, whatever happens.

use anyhow::Result;

use crate::base::open_files;
use crate::config::{Config, StoreConfig};
use crate::http::places::Room;

/// Files of every instance: the program, the database and its log, locks, marks, the audit trail, the log, files that are read by
/// a reload or for a reader.
const BASE: u64 = 128;
/// Files of each thread that answers requests: its runtime and its listener.
const OF_THREAD: u64 = 4;
/// Files of each pool: lists that are signed, compared and renamed at the same time.
const OF_POOL: u64 = 16;
/// Connections from each pool to each bucket.
const OF_POOL_AND_BUCKET: u64 = 32;

/// Raises the limit of open files, and tells how many connections it leaves room for.
pub(super) fn make(config: &Config) -> Result<Room> {
    let (limit, reserve) = (open_files::raise_limit(), reserve(config));
    let room = Room::new(&config.server, limit, reserve)?;
    let Room { connections, per_address } = room;
    let wanted = config.server.max_connections;
    if connections < wanted {
        tracing::warn!(
            connections,
            per_address,
            open_files = limit,
            reserve,
            "the limit of open files leaves room for fewer connections than server.max-connections ({wanted}): raise it to {} \
             (LimitNOFILE, ulimit -n), or lower the setting",
            reserve + 2 * wanted as u64
        );
    } else {
        tracing::info!(
            connections,
            per_address,
            open_files = limit,
            reserve,
            "connections as many as server.max-connections allows"
        );
    }
    Ok(room)
}

/// The most files that are open besides those of connections.
fn reserve(config: &Config) -> u64 {
    let (pools, buckets) = (config.pools.len() as u64, config.publish.sinks.len() as u64);
    let of_store = match &config.store {
        StoreConfig::Sqlite { .. } => 0,
        StoreConfig::Redis(redis) => redis.connections as u64,
        // One more for the checks.
        StoreConfig::Postgres(postgres) => postgres.connections as u64 + 1,
    };
    let listeners = [config.server.api_listen, config.server.management_listen].iter().flatten().count() + 1;
    let threads = (config.server.workers * listeners) as u64;
    BASE + of_store + threads * OF_THREAD + pools * (OF_POOL + buckets * OF_POOL_AND_BUCKET)
}
