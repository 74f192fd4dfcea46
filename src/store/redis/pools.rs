//! Connections through deadpool-redis: to one server, to the master that sentinels name, or to a cluster.

use deadpool::managed;
use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::cluster::{ClusterClient, ClusterClientBuilder};
use deadpool_redis::redis::cluster_async::ClusterConnection;
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, ErrorKind, Pipeline, RedisError, RedisResult, Value,
};
use deadpool_redis::{
    ConnectionAddr, ConnectionInfo, HookError, PoolConfig, RedisConnectionInfo, Runtime, Timeouts, sentinel,
};
use secrecy::ExposeSecret;

use crate::config::{RedisConfig, RedisTarget, ServerAddress};

/// Pools of reusable connections.
pub(super) enum Pools {
    Single(deadpool_redis::Pool),
    Sentinel(sentinel::Pool),
    Cluster(managed::Pool<ClusterManager>),
}

/// A connection, for one caller at a time.
pub(super) enum Connection {
    Single(deadpool_redis::Connection),
    Sentinel(sentinel::Connection),
    Cluster(managed::Object<ClusterManager>),
}

impl Pools {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, Box<dyn std::error::Error>> {
        let limits = PoolConfig {
            max_size: config.connections,
            timeouts: Timeouts {
                wait: Some(config.command_timeout),
                // Sentinels are queried one after the other.
                create: Some(config.connect_timeout * config.target.nodes()),
                recycle: Some(config.command_timeout),
            },
            ..PoolConfig::default()
        };
        let timeout = config.command_timeout;
        Ok(match &config.target {
            RedisTarget::Single(address) => {
                let settings = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(config.connect_timeout))
                    .set_response_timeout(Some(timeout));
                let server = server(config, address);
                let manager = deadpool_redis::Manager::new_with_config(server, settings)?;
                let new = deadpool_redis::Hook::async_fn(|connection: &mut MultiplexedConnection, _| {
                    Box::pin(async { refuse_replica(connection).await })
                });
                let pool = deadpool_redis::Pool::builder(manager).config(limits).post_create(new);
                Self::Single(pool.runtime(Runtime::Tokio1).build()?)
            }
            RedisTarget::Sentinel { master, nodes } => {
                // Sentinels are queried without a password; it is that of the servers behind them.
                let sentinels = nodes.iter().map(|node| ConnectionInfo {
                    addr: address_of(config, node),
                    redis: RedisConnectionInfo::default(),
                });
                let behind = sentinel::SentinelNodeConnectionInfo {
                    tls_mode: config.tls.then_some(sentinel::TlsMode::Secure),
                    redis_connection_info: Some(login(config)),
                };
                let manager = sentinel::Manager::new(
                    sentinels.collect(),
                    master.clone(),
                    Some(behind),
                    sentinel::SentinelServerType::Master,
                )?;
                let new = sentinel::Hook::async_fn(move |connection: &mut MultiplexedConnection, _| {
                    Box::pin(async move {
                        connection.set_response_timeout(timeout);
                        refuse_replica(connection).await
                    })
                });
                let pool = sentinel::Pool::builder(manager).config(limits).post_create(new);
                Self::Sentinel(pool.runtime(Runtime::Tokio1).build()?)
            }
            RedisTarget::Cluster { nodes } => {
                let servers: Vec<_> = nodes.iter().map(|node| server(config, node)).collect();
                let client = ClusterClientBuilder::new(servers)
                    .connection_timeout(config.connect_timeout)
                    .response_timeout(timeout)
                    .retries(0);
                let pool = managed::Pool::builder(ClusterManager(client.build()?)).config(limits);
                Self::Cluster(pool.runtime(Runtime::Tokio1).build()?)
            }
        })
    }

    pub(super) async fn get(&self) -> RedisResult<Connection> {
        match self {
            Self::Single(pool) => pool.get().await.map(Connection::Single).map_err(pool_error),
            Self::Sentinel(pool) => pool.get().await.map(Connection::Sentinel).map_err(pool_error),
            Self::Cluster(pool) => pool.get().await.map(Connection::Cluster).map_err(pool_error),
        }
    }

    /// Closes the idle connections: they may lead to the same server as the failed one.
    pub(super) fn forget_idle(&self) {
        match self {
            Self::Single(pool) => drop(pool.retain(|_, _| false)),
            Self::Sentinel(pool) => drop(pool.retain(|_, _| false)),
            Self::Cluster(pool) => drop(pool.retain(|_, _| false)),
        }
    }
}

/// Refuses a replica: its reads may be stale, and it refuses writes.
async fn refuse_replica(connection: &mut MultiplexedConnection) -> Result<(), HookError> {
    let role: Vec<Value> = redis::cmd("ROLE").query_async(connection).await.map_err(HookError::Backend)?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(HookError::message("the server is a replica, not the master")),
    }
}

/// Like deadpool-redis' manager, but without the client's own retries: a batch whose reply was lost would be applied again, and
/// answered as if the first attempt had not happened. The caller decides whether to repeat.
pub(super) struct ClusterManager(ClusterClient);

impl managed::Manager for ClusterManager {
    type Type = ClusterConnection;
    type Error = RedisError;

    async fn create(&self) -> RedisResult<ClusterConnection> {
        self.0.get_async_connection().await
    }

    async fn recycle(
        &self,
        connection: &mut ClusterConnection,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<RedisError> {
        redis::cmd("PING").query_async::<()>(connection).await.map_err(managed::RecycleError::Backend)
    }
}

/// All connections are in use. Says nothing about Redis.
const BUSY: &str = "all connections to Redis are in use";

/// Whether a request was not even sent, because too many others are in flight.
pub(super) fn is_busy(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Client && error.to_string().contains(BUSY)
}

fn pool_error(error: managed::PoolError<RedisError>) -> RedisError {
    match error {
        managed::PoolError::Backend(error) => error,
        managed::PoolError::Timeout(managed::TimeoutType::Wait) => (ErrorKind::Client, BUSY).into(),
        other => RedisError::from(std::io::Error::other(other.to_string())),
    }
}

impl Connection {
    /// Returns the replies to all commands, in order.
    pub(super) async fn send(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.len();
        let answers = match self {
            Self::Single(connection) => connection.req_packed_commands(commands, 0, count).await,
            Self::Sentinel(connection) => connection.req_packed_commands(commands, 0, count).await,
            // All of it goes to the master of the first key's slot.
            Self::Cluster(connection) => connection.req_packed_commands(commands, 0, count).await,
        }?;
        answers.into_iter().map(Value::extract_error).collect()
    }

    /// Closes the connection.
    pub(super) fn discard(self) {
        match self {
            Self::Single(connection) => drop(deadpool_redis::Connection::take(connection)),
            Self::Sentinel(connection) => drop(sentinel::Connection::take(connection)),
            Self::Cluster(connection) => drop(managed::Object::take(connection)),
        }
    }
}

fn server(config: &RedisConfig, address: &ServerAddress) -> ConnectionInfo {
    ConnectionInfo { addr: address_of(config, address), redis: login(config) }
}

fn address_of(config: &RedisConfig, address: &ServerAddress) -> ConnectionAddr {
    let ServerAddress { host, port } = address.clone();
    match config.tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false },
        false => ConnectionAddr::Tcp(host, port),
    }
}

fn login(config: &RedisConfig) -> RedisConnectionInfo {
    RedisConnectionInfo {
        db: config.database,
        username: config.username.clone(),
        password: config.password.as_ref().map(|password| password.expose_secret().to_owned()),
        ..RedisConnectionInfo::default()
    }
}
