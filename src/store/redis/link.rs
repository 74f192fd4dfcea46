//! The connection to Redis, and whether it may currently be used.
//!
//! Invariants: a write is acknowledged only after the demanded replicas have it; a connection that failed in any way is not
//! reused; while the link is closed, nobody waits for a server that is known not to answer.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::checks::{self, Unusable};
use super::pools::{Connection, Pools, is_busy};
use super::scripts::Call;
use crate::config::RedisConfig;
use crate::store::standing::Standing;
use crate::store::{Deadline, StoreError};

/// Connections to Redis, and whether they may be used.
pub(super) struct Link {
    pools: Pools,
    pub(super) config: RedisConfig,
    /// Its time is that of the clock that is furthest behind.
    pub(super) standing: Arc<Standing>,
}

impl Link {
    /// Creates a link that is closed until the first check.
    pub(super) fn new(config: RedisConfig) -> Result<Self, StoreError> {
        let pools = Pools::new(&config)
            .map_err(|why| StoreError::Open { path: config.target.to_string(), why: why.to_string() })?;
        let standing = Arc::new(Standing::new("Redis", config.target.to_string()));
        Ok(Self { pools, config, standing })
    }

    /// Runs one atomic step. Returns when it is as durable as the settings demand. After the deadline it changes nothing,
    /// however late the server reads it.
    pub(super) async fn write(&self, call: &Call, deadline: Deadline) -> Result<Value, StoreError> {
        self.standing.refuse_if_closed()?;
        let command = call.command(self.standing.by_its_clock(deadline));
        let named = Pipeline::with_capacity(2);
        let mut answers = match self.send(&self.confirmed(named, &command)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut carried = Pipeline::with_capacity(3);
                // On the same connection, so that a cluster routes both to the same server.
                carried.add_command(call.load());
                self.send(&self.confirmed(carried, &command)).await.map(|mut answers| answers.split_off(1))
            }
            sent => sent,
        }
        .map_err(|error| match error.code() {
            Some("LATE") => {
                // Unless this instance is slow, the server's clock was changed, so read it again.
                self.standing.recheck();
                StoreError::Late
            }
            _ => self.doubt(&error),
        })?;
        self.check_replicas(answers.get(1))?;
        Ok(answers.swap_remove(0))
    }

    /// Runs a write that needs no script.
    pub(super) async fn write_plain(&self, command: Cmd) -> Result<(), StoreError> {
        self.standing.refuse_if_closed()?;
        let commands = self.confirmed(Pipeline::with_capacity(2), &command);
        let answers = self.send(&commands).await.map_err(|error| self.doubt(&error))?;
        self.check_replicas(answers.get(1))
    }

    /// Reads only what survives a failover to the demanded replicas: an unacknowledged change may still be lost with its server. The
    /// wait covers only writes on the same connection, so `write` goes first; its reply is dropped. `write` must not create anything
    /// that counts as evidence of data: the server may have come back empty.
    pub(super) async fn read_confirmed(&self, write: Cmd, reads: Vec<Cmd>) -> Result<Vec<Value>, StoreError> {
        self.standing.refuse_if_closed()?;
        let mut commands = Pipeline::with_capacity(reads.len() + 2);
        let writes = usize::from(self.config.replicas > 0);
        let count = writes + reads.len();
        for command in Some(write).filter(|_| writes > 0).into_iter().chain(reads) {
            commands.add_command(command);
        }
        let mut answers = self.send(&self.with_wait(commands)).await.map_err(|error| self.doubt(&error))?;
        self.check_replicas(answers.get(count))?;
        answers.truncate(count);
        Ok(answers.split_off(writes))
    }

    /// Runs read commands, which need not be one atomic step. Returns the replies in the order of the commands.
    pub(super) async fn read(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.standing.refuse_if_closed()?;
        self.send(commands).await.map_err(|error| self.doubt(&error))
    }

    /// Checks whether the server, or every master of a cluster, keeps what it acknowledges; opens or closes the link.
    pub(super) async fn check(&self) -> Result<(), Unusable> {
        let checked = match self.ask_servers().await {
            Ok(servers) => {
                if let Some(millis) = servers.iter().filter_map(|server| server.clock_millis).min() {
                    self.standing.saw_clock(millis);
                }
                checks::judge(&servers, &self.config)
            }
            Err(error) => Err(Unusable::NotNow(error.to_string())),
        };
        if checked.is_err() {
            // They may all lead to a former master that still answers.
            self.pools.forget_idle();
        }
        self.standing.set(checked.as_ref().err().map(|why| Arc::from(why.to_string())));
        checked
    }

    async fn ask_servers(&self) -> RedisResult<Vec<checks::Server>> {
        let asking = async {
            match self.pools.get().await? {
                Connection::Single(mut connection) => Ok(vec![checks::ask(&mut *connection).await?]),
                Connection::Sentinel(mut connection) => Ok(vec![checks::ask(&mut *connection).await?]),
                Connection::Cluster(mut connection) => checks::ask_cluster(&mut connection).await,
            }
        };
        let asked = tokio::time::timeout(self.config.command_timeout, asking).await;
        asked.unwrap_or_else(|_| Err(timed_out(self.config.command_timeout)))
    }

    /// `command`, and after it the wait for the replicas, which covers what was written on the same connection.
    fn confirmed(&self, mut commands: Pipeline, command: &Cmd) -> Pipeline {
        commands.add_command(command.clone());
        self.with_wait(commands)
    }

    fn with_wait(&self, mut commands: Pipeline) -> Pipeline {
        if self.config.replicas > 0 {
            let patience = self.config.replica_timeout.as_millis();
            commands.cmd("WAIT").arg(self.config.replicas).arg(u64::try_from(patience).unwrap_or(u64::MAX));
        }
        commands
    }

    fn check_replicas(&self, answer: Option<&Value>) -> Result<(), StoreError> {
        let wanted = i64::from(self.config.replicas);
        match answer {
            Some(Value::Int(confirmed)) if *confirmed >= wanted => Ok(()),
            None if wanted == 0 => Ok(()),
            confirmed => {
                self.standing.recheck();
                let confirmed = if let Some(Value::Int(confirmed)) = confirmed { *confirmed } else { 0 };
                Err(StoreError::Unavailable(format!(
                    "{confirmed} of {wanted} replicas confirmed a write within {:?}; whether it stands is unknown",
                    self.config.replica_timeout
                )))
            }
        }
    }

    /// Sends commands on one connection, in order.
    async fn send(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        // The future that opens a connection is large; unboxed, it would enlarge the future of every caller, up to the handlers.
        let mut connection = Box::pin(self.pools.get()).await?;
        let sending = Box::pin(connection.send(commands));
        let sent = tokio::time::timeout(self.config.command_timeout, sending).await;
        let sent = sent.unwrap_or_else(|_| Err(timed_out(self.config.command_timeout)));
        if sent.as_ref().is_err_and(|error| error.kind() != ErrorKind::Server(ServerErrorKind::NoScript)) {
            // A reply may still be pending on it.
            connection.discard();
        }
        sent
    }

    /// Closes the link after a failure, until a check finds Redis usable again.
    fn doubt(&self, error: &RedisError) -> StoreError {
        if is_busy(error) {
            return StoreError::Unavailable(error.to_string());
        }
        self.pools.forget_idle();
        self.standing.doubt(&error.to_string());
        StoreError::Unavailable(format!("Redis: {error}"))
    }
}

fn timed_out(after: Duration) -> RedisError {
    let why = format!("no answer within {after:?}");
    RedisError::from(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}
