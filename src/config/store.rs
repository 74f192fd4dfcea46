//! Which store keeps the truth, and how it is reached.

use std::path::PathBuf;

use super::ConfigError;
use super::raw::{RawPersistence, RawPersistenceName, RawRedis, RawSqlite, RawStorageType, RawSynchronous};

/// The backend.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// One file, one process.
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What survives a power cut.
        synchronous: Synchronous,
    },
    /// Several instances share it.
    Redis(RedisConfig),
}

/// What of SQLite survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// Every acknowledged write.
    Full,
    /// Not the latest ones. The negative control of the tests, and for trying things out.
    Normal,
}

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What is demanded of its durability.
    pub persistence: Persistence,
}

/// What is demanded of Redis' durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// `appendonly yes`, `appendfsync always`: an acknowledged write survives.
    AppendFsyncAlways,
    /// Nothing is checked; acknowledged writes can be lost.
    Disabled,
}

impl StoreConfig {
    pub(super) fn check(
        kind: RawStorageType,
        sqlite: RawSqlite,
        redis: RawRedis,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        match kind {
            RawStorageType::Sqlite => {
                let synchronous = match sqlite.synchronous {
                    RawSynchronous::Full => Synchronous::Full,
                    RawSynchronous::Normal => {
                        let lost = "a power cut loses acknowledged updates and hands out references twice";
                        warnings.push(format!("sqlite.synchronous is normal: {lost}; set it to full"));
                        Synchronous::Normal
                    }
                };
                Ok(Self::Sqlite { path: sqlite.path, synchronous })
            }
            RawStorageType::Redis => {
                let persistence = match redis.persistence_strategy {
                    RawPersistence::Name(RawPersistenceName::AppendFsyncAlways) => {
                        Persistence::AppendFsyncAlways
                    }
                    RawPersistence::Name(RawPersistenceName::Disabled) => Persistence::Disabled,
                    RawPersistence::Map(map) if map.append_fsync_always && !map.disabled => {
                        Persistence::AppendFsyncAlways
                    }
                    RawPersistence::Map(map) if map.disabled && !map.append_fsync_always => {
                        Persistence::Disabled
                    }
                    RawPersistence::Map(_) => {
                        let why = "set exactly one: `append-fsync-always: true` or `disabled: true`";
                        return Err(ConfigError::at("redis.persistence-strategy", why));
                    }
                };
                Ok(Self::Redis(RedisConfig { host: redis.host, port: redis.port, persistence }))
            }
        }
    }
}
