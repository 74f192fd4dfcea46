//! The way to PostgreSQL, and the transactions on it.
//!
//! Invariants: every transaction sets for itself what its durability depends on, and leaves nothing in its session, so pgbouncer may
//! give the next one another; a write whose deadline has passed when its locks are held changes nothing; a connection that failed in
//! any way is not reused; no lock outlives its holder for longer than a command may take.

use std::pin::Pin;
use std::sync::Arc;

use deadpool::managed::{Manager, TimeoutType, Timeouts};
use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row};

use super::checks::{Unusable, said};
use super::connections::{Connections, NoConnection, Pooled, connections};
use super::query::{Query, now, query};
use crate::config::{Durability, PostgresConfig};
use crate::store::standing::Standing;
use crate::store::{Deadline, StoreError};

/// The rows of each statement of a transaction.
pub(super) type Answers = Vec<Vec<Row>>;

/// Fails, and with it the transaction, if the deadline has passed by the database's clock. Sent with the commit, when all locks are
/// held: whoever gave up and had the opposite acknowledged elsewhere did so after this one, or this one changes nothing.
const IN_TIME: &str = concat!("SELECT 1 / (CASE WHEN ", now!(), " <= $1 THEN 1 ELSE 0 END)");
/// A commit after it returns when the demanded standbys have everything that was written before, whoever wrote it.
const CONFIRM: &str = "SELECT pg_logical_emit_message(true, 'statuslist', '')";

/// Connections to PostgreSQL, and whether they may be used.
pub(super) struct Link {
    connections: Connections,
    pub(super) config: PostgresConfig,
    pub(super) standing: Arc<Standing>,
    /// Begins a transaction that writes, and one that reads.
    begin: [String; 2],
}

impl Link {
    /// Creates a link that is closed until the first check.
    pub(super) fn new(config: PostgresConfig) -> Result<Self, StoreError> {
        let standing = Arc::new(Standing::new("PostgreSQL", config.to_string()));
        let connections = connections(&config, Arc::clone(&standing))
            .map_err(|why| StoreError::Open { path: config.to_string(), why })?;
        let begin = ["READ COMMITTED", "REPEATABLE READ"].map(|isolation| begin(isolation, &config));
        Ok(Self { connections, config, standing, begin })
    }

    /// Checks whether the server keeps what it acknowledges; opens or closes the link.
    pub(super) async fn check(&self) -> Result<(), Unusable> {
        // The others may lead to a former primary that still answers; each is checked when it is made.
        drop(self.connections.retain(|_, _| false));
        let Timeouts { create, .. } = self.connections.timeouts();
        let made =
            tokio::time::timeout(create.unwrap_or_default(), self.connections.manager().create()).await;
        let timed_out = |_| Unusable::NotNow("it does not answer in time".to_owned());
        let checked = made.map_err(timed_out).and_then(|made| made.map(drop));
        self.standing.set(checked.as_ref().err().map(|why| Arc::from(why.to_string())));
        checked
    }

    /// Begins a step that changes nothing after its deadline, nor after its command was given up: whoever hears of that may have the
    /// opposite acknowledged at once.
    pub(super) async fn begin(&self, deadline: Deadline) -> Result<Step<'_>, StoreError> {
        let deadline = deadline.min(Deadline::after(self.config.command_timeout));
        self.step(&self.begin[0], Some(self.standing.by_its_clock(deadline))).await
    }

    /// A step of statements that need nothing of each other's answers.
    pub(super) async fn write(&self, deadline: Deadline, queries: Vec<Query>) -> Result<Answers, StoreError> {
        self.begin(deadline).await?.commit(queries).await
    }

    /// As [`Self::write`], for a step whose deadline is the timeout of its command.
    pub(super) async fn write_now(&self, queries: Vec<Query>) -> Result<Answers, StoreError> {
        self.write(self.patience(), queries).await
    }

    /// The deadline of a step that has no other.
    pub(super) fn patience(&self) -> Deadline {
        Deadline::after(self.config.command_timeout)
    }

    /// Reads, all of it as of one moment.
    pub(super) async fn read(&self, queries: Vec<Query>) -> Result<Answers, StoreError> {
        self.step(&self.begin[1], None).await?.commit(queries).await
    }

    /// Reads only what survives a failover to the demanded standbys. What was committed and not confirmed is visible after a crash of
    /// the primary.
    pub(super) async fn read_confirmed(&self, queries: Vec<Query>) -> Result<Answers, StoreError> {
        self.step(&self.begin[1], None).await?.commit_confirmed(queries).await
    }

    async fn step<'a>(&'a self, begin: &'a str, deadline: Option<u64>) -> Result<Step<'a>, StoreError> {
        self.standing.refuse_if_closed()?;
        // The future that opens a connection is large; unboxed, it would enlarge the future of every caller, up to the handlers.
        let connection = match Box::pin(self.connections.get()).await {
            Ok(connection) => connection,
            Err(NoConnection::Timeout(TimeoutType::Wait)) => {
                let why = "all connections to PostgreSQL are in use";
                return Err(StoreError::Unavailable(why.to_owned()));
            }
            Err(error) => {
                self.standing.doubt(&error.to_string());
                return Err(StoreError::Unavailable(format!("PostgreSQL: {error}")));
            }
        };
        Ok(Step {
            link: self,
            connection: Held(Some(connection)),
            begin: Some(begin),
            deadline,
            conflict: false,
        })
    }
}

/// What a transaction sets for itself. Its commit waits for the disk, and for the standbys if there are any, whatever the default is.
fn begin(isolation: &str, config: &PostgresConfig) -> String {
    let millis = config.command_timeout.as_millis();
    let synchronous = match config.durability {
        Durability::Checked => "SET LOCAL synchronous_commit = on; ",
        Durability::Unchecked => "",
    };
    format!(
        "BEGIN ISOLATION LEVEL {isolation}; {synchronous}SET LOCAL search_path = \"{schema}\", pg_temp; \
         SET LOCAL client_min_messages = warning; SET LOCAL lock_timeout = {millis}; SET LOCAL statement_timeout = {millis}; \
         SET LOCAL idle_in_transaction_session_timeout = {millis}",
        schema = config.schema
    )
}

/// A transaction. If it is dropped before its end, its connection is closed, and the server undoes it.
pub(super) struct Step<'a> {
    link: &'a Link,
    connection: Held,
    /// How it begins, until it has.
    begin: Option<&'a str>,
    /// By the database's clock; `None` if it changes nothing.
    deadline: Option<u64>,
    conflict: bool,
}

/// A connection that is closed when dropped, also when the caller gives up in the middle of an answer: whoever got it next would find
/// the transaction open.
struct Held(Option<Pooled>);

impl Held {
    /// Takes it out after its transaction has ended. Dropping it then gives it back to the pool.
    fn release(mut self) -> Option<Pooled> {
        self.0.take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Pooled::take(connection));
        }
    }
}

/// A statement on its way.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + Send + 'a>>;

/// How a transaction goes on after some statements.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Continue,
    Commit,
    Rollback,
}

impl Step<'_> {
    /// Runs statements in their order, sent together. Returns the rows of each.
    pub(super) async fn run(&mut self, queries: Vec<Query>) -> Result<Answers, StoreError> {
        self.send(queries, Then::Continue).await
    }

    /// Runs the last statements, and returns when all of it is as durable as the settings demand.
    pub(super) async fn commit(&mut self, queries: Vec<Query>) -> Result<Answers, StoreError> {
        self.send(queries, Then::Commit).await
    }

    /// As [`Self::commit`]; what others wrote before is then as durable as well.
    pub(super) async fn commit_confirmed(&mut self, mut queries: Vec<Query>) -> Result<Answers, StoreError> {
        let wanted = queries.len();
        if self.link.config.replicas > 0 {
            queries.push(query(CONFIRM));
        }
        let mut answers = self.send(queries, Then::Commit).await?;
        answers.truncate(wanted);
        Ok(answers)
    }

    /// Ends it without a change.
    pub(super) async fn end(mut self) -> Result<(), StoreError> {
        self.send(Vec::new(), Then::Rollback).await.map(|_| ())
    }

    /// Whether it failed because others hold or changed what it needs: it changed nothing, and may be repeated at once.
    pub(super) fn met_others(&self) -> bool {
        self.conflict
    }

    async fn send(&mut self, queries: Vec<Query>, then: Then) -> Result<Answers, StoreError> {
        let ended = || StoreError::Unavailable("an earlier statement ended the transaction".to_owned());
        let held = std::mem::replace(&mut self.connection, Held(None));
        let connection = held.0.as_ref().ok_or_else(ended)?;
        let begin = self.begin.take();
        let last = match then {
            Then::Continue => None,
            Then::Commit => Some("COMMIT"),
            Then::Rollback => Some("ROLLBACK"),
        };
        let in_time = self.deadline.filter(|_| then == Then::Commit);
        let in_time = in_time.map(|deadline| query(IN_TIME).number(deadline));
        if begin.is_some() {
            // What earlier transactions were warned of.
            connection.was_warned();
        }
        let client = &connection.client;
        let mut sending: Vec<Sending<'_>> = begin.map(|sql| plain(client, sql)).into_iter().collect();
        let first = sending.len();
        for query in queries.iter().chain(&in_time) {
            sending.push(Box::pin(query.send(client)));
        }
        sending.extend(last.map(|sql| plain(client, sql)));
        // Each is sent when it is first polled, so in this order.
        let answered = tokio::time::timeout(self.link.config.command_timeout, join_all(sending)).await;
        let Ok(answered) = answered else {
            let why = format!("no answer within {:?}", self.link.config.command_timeout);
            self.link.standing.doubt(&why);
            return Err(StoreError::Unavailable(format!(
                "PostgreSQL: {why}; whether a write stands is unknown"
            )));
        };
        let ended_well = answered.last().is_some_and(Result::is_ok);
        let mut answers = match answered.into_iter().collect::<Result<Answers, Error>>() {
            Ok(answers) => answers,
            Err(error) => {
                if last.is_some() && ended_well && is_harmless(&error) {
                    drop(held.release());
                }
                return Err(self.failed(&error));
            }
        };
        if then == Then::Commit && connection.was_warned() {
            let why = "the server warned when it committed: a synchronous standby may not have confirmed it";
            self.link.standing.recheck();
            return Err(StoreError::Unavailable(format!(
                "PostgreSQL: {why}; whether the write stands is unknown"
            )));
        }
        match then {
            Then::Continue => self.connection = held,
            Then::Commit | Then::Rollback => drop(held.release()),
        }
        drop(answers.drain(..first));
        answers.truncate(queries.len());
        Ok(answers)
    }

    fn failed(&mut self, error: &Error) -> StoreError {
        let standing = &self.link.standing;
        let why = format!("PostgreSQL: {}", said(error));
        let Some(code) = error.code() else {
            standing.doubt(&said(error));
            return StoreError::Unavailable(why);
        };
        match code {
            &SqlState::DIVISION_BY_ZERO => {
                // Unless this instance is slow, the server's clock was changed, so read it again.
                standing.recheck();
                StoreError::Late
            }
            &SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE => {
                self.conflict = true;
                StoreError::Unavailable(why)
            }
            &SqlState::LOCK_NOT_AVAILABLE => StoreError::Unavailable(why),
            &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => StoreError::Damaged(said(error)),
            _ => {
                standing.doubt(&said(error));
                StoreError::Unavailable(why)
            }
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if self.begin.is_some() {
            // Nothing was sent, so it may go back.
            drop(self.connection.0.take());
        }
    }
}

/// Statements without values and rows.
fn plain<'a>(client: &'a Client, sql: &'a str) -> Sending<'a> {
    Box::pin(async move { client.batch_execute(sql).await.map(|()| Vec::new()) })
}

/// Whether the transaction was undone and its connection is as good as before.
fn is_harmless(error: &Error) -> bool {
    error.code() == Some(&SqlState::DIVISION_BY_ZERO)
}
