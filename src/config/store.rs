//! The store's backend, and how to reach it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use deadpool_redis::redis::{ConnectionAddr, IntoConnectionInfo, parse_redis_url};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::ConfigError;
use super::address::{ServerAddress, addresses};
use super::postgres::PostgresConfig;
use super::raw::{
    RawPersistence, RawPersistenceName, RawPostgres, RawRedis, RawSqlite, RawStorageType, RawSynchronous,
};

/// The store's backend.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// SQLite: one file, one process.
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// Which writes survive a power cut.
        synchronous: Synchronous,
    },
    /// Redis, shared by several instances.
    Redis(RedisConfig),
    /// PostgreSQL, shared by several instances.
    Postgres(PostgresConfig),
}

/// Which writes of SQLite survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// Every acknowledged write.
    Full,
    /// All but the latest. For experiments, and as the negative control of the tests.
    Normal,
}

/// How to reach Redis, and which durability it must offer.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The servers.
    pub target: RedisTarget,
    /// Whether to encrypt connections. Trusts the system's certificate authorities.
    pub tls: bool,
    /// The user name.
    pub username: Option<String>,
    /// The password; never shown.
    pub password: Option<SecretString>,
    /// The number of the database; 0 in a cluster.
    pub database: i64,
    /// The prefix of every key.
    pub key_prefix: String,
    /// The required durability.
    pub persistence: Persistence,
    /// How many replicas must have a write before it is acknowledged.
    pub replicas: u32,
    /// The most connections of this instance.
    pub connections: usize,
    /// The longest that connecting may take.
    pub connect_timeout: Duration,
    /// The longest that a command may take. After that its outcome is unknown.
    pub command_timeout: Duration,
    /// The longest that the replicas may take to confirm a write.
    pub replica_timeout: Duration,
}

/// The servers to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTarget {
    /// One server.
    Single(ServerAddress),
    /// The current master of this name.
    Sentinel {
        /// The name of the master.
        master: String,
        /// The sentinels.
        nodes: Vec<ServerAddress>,
    },
    /// A cluster.
    Cluster {
        /// Some servers of the cluster.
        nodes: Vec<ServerAddress>,
    },
}

/// The durability that Redis must offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// `appendonly yes`, `appendfsync always`: an acknowledged write survives.
    AppendFsyncAlways,
    /// Not checked: acknowledged writes can be lost.
    Disabled,
}

impl StoreConfig {
    pub(super) fn check(
        kind: RawStorageType,
        sqlite: RawSqlite,
        redis: RawRedis,
        postgres: RawPostgres,
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
                let persistence = Persistence::check(redis.persistence_strategy)?;
                if persistence == Persistence::Disabled {
                    let lost = "acknowledged revocations can be lost, and references can be handed out twice";
                    warnings.push(format!("redis.persistence-strategy is disabled: {lost}"));
                }
                Ok(Self::Redis(RedisConfig::check(redis, persistence)?))
            }
            RawStorageType::Postgres => Ok(Self::Postgres(PostgresConfig::check(postgres, warnings)?)),
        }
    }
}

impl Persistence {
    fn check(raw: RawPersistence) -> Result<Self, ConfigError> {
        match raw {
            RawPersistence::Name(RawPersistenceName::AppendFsyncAlways) => Ok(Self::AppendFsyncAlways),
            RawPersistence::Name(RawPersistenceName::Disabled) => Ok(Self::Disabled),
            RawPersistence::Map(map) if map.append_fsync_always && !map.disabled => {
                Ok(Self::AppendFsyncAlways)
            }
            RawPersistence::Map(map) if map.disabled && !map.append_fsync_always => Ok(Self::Disabled),
            RawPersistence::Map(_) => {
                let why = "set exactly one: `append-fsync-always: true` or `disabled: true`";
                Err(ConfigError::at("redis.persistence-strategy", why))
            }
        }
    }
}

impl RedisConfig {
    fn check(raw: RawRedis, persistence: Persistence) -> Result<Self, ConfigError> {
        let given = [raw.url.is_some(), raw.sentinel.is_some(), raw.cluster.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            let why = "set one of `url`, `sentinel` and `cluster`, or only `host` and `port`";
            return Err(ConfigError::at("redis", why));
        }
        let (mut tls, mut username, mut database) = (raw.tls, raw.username, 0);
        let mut password = raw.password.map(SecretString::from);
        let target = match (raw.url, raw.sentinel, raw.cluster) {
            (Some(url), _, _) => {
                let bad = || {
                    ConfigError::at(
                        "redis.url",
                        "must be redis://[user[:password]@]host[:port][/database], or rediss:// for TLS",
                    )
                };
                // It may hold the password.
                let url = Zeroizing::new(url);
                let url = parse_redis_url(&url).ok_or_else(bad)?;
                let info = url.into_connection_info().map_err(|_| bad())?;
                let (host, port) = match info.addr() {
                    ConnectionAddr::Tcp(host, port) => (host.clone(), *port),
                    ConnectionAddr::TcpTls { host, port, .. } => {
                        tls = true;
                        (host.clone(), *port)
                    }
                    _ => return Err(bad()),
                };
                username = username.or_else(|| info.redis_settings().username().map(str::to_owned));
                password = password.or_else(|| info.redis_settings().password().map(SecretString::from));
                database = info.redis_settings().db();
                RedisTarget::Single(ServerAddress { host, port })
            }
            (None, Some(sentinel), _) => RedisTarget::Sentinel {
                master: sentinel.master,
                nodes: addresses("redis.sentinel.nodes", &sentinel.nodes, 26379)?,
            },
            (None, None, Some(cluster)) => {
                RedisTarget::Cluster { nodes: addresses("redis.cluster.nodes", &cluster.nodes, 6379)? }
            }
            (None, None, None) => RedisTarget::Single(ServerAddress { host: raw.host, port: raw.port }),
        };
        let prefix = &raw.key_prefix;
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            let why = "must not be empty, and must have no `{` or `}`, which place keys in a cluster";
            return Err(ConfigError::at("redis.key-prefix", why));
        }
        if raw.connections < 2 {
            return Err(ConfigError::at("redis.connections", "must be at least 2"));
        }
        let timeouts = raw.timeouts;
        let command_timeout = timeouts.command.0;
        let replica_timeout = timeouts.replicas.0;
        for (key, timeout) in
            [("connect", timeouts.connect.0), ("command", command_timeout), ("replicas", replica_timeout)]
        {
            if timeout < Duration::from_millis(10) {
                return Err(ConfigError::at(format!("redis.timeouts.{key}"), "must be at least 10ms"));
            }
        }
        if replica_timeout >= command_timeout && raw.replicas > 0 {
            let why = "must be below redis.timeouts.command, or a slow replica looks like a server that does not answer";
            return Err(ConfigError::at("redis.timeouts.replicas", why));
        }
        Ok(Self {
            target,
            tls,
            username,
            password,
            database,
            key_prefix: raw.key_prefix,
            persistence,
            replicas: raw.replicas,
            connections: raw.connections,
            connect_timeout: timeouts.connect.0,
            command_timeout,
            replica_timeout,
        })
    }
}

impl RedisTarget {
    /// How many servers may be tried before one answers.
    pub fn nodes(&self) -> u32 {
        match self {
            Self::Single(_) => 1,
            Self::Sentinel { nodes, .. } | Self::Cluster { nodes } => {
                u32::try_from(nodes.len()).unwrap_or(u32::MAX).saturating_add(1)
            }
        }
    }
}

impl fmt::Display for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |nodes: &[ServerAddress]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Single(address) => write!(f, "Redis at {address}"),
            Self::Sentinel { master, nodes } => {
                write!(f, "Redis master {master} of sentinels {}", list(nodes))
            }
            Self::Cluster { nodes } => write!(f, "Redis Cluster with {}", list(nodes)),
        }
    }
}
