//! Checks whether a server keeps what it acknowledges: it is the primary, writes to the disk before it answers, and has the standbys
//! that the settings demand.

use thiserror::Error;
use tokio_postgres::Client;

use super::query::{self, get, now, number};
use crate::config::{Durability, PostgresConfig};
use crate::store::values::StoreError;

/// The oldest version of PostgreSQL that is supported.
const VERSION_MIN: u64 = 13;
/// Settings that must be on, and the reasons. `synchronous_commit` is not one of them: every transaction sets it for itself.
const DEMANDS: [(&str, &str); 2] = [
    ("fsync", "otherwise a crash of its machine loses writes that were acknowledged, or the whole database"),
    ("full_page_writes", "otherwise a power cut leaves torn pages, and with them lost statuses"),
];

/// The facts that a server reports.
#[derive(Debug)]
pub(super) struct Server {
    /// The server's time, in milliseconds since 1970.
    pub(super) clock_millis: u64,
    version: u64,
    in_recovery: bool,
    read_only: bool,
    /// The values of [`DEMANDS`].
    settings: [String; 2],
    synchronous_standby_names: String,
    /// Synchronous standbys that are connected; `None` if this role may not know.
    standbys: Option<u64>,
}

/// Why PostgreSQL cannot be used.
#[derive(Debug, Error)]
pub(super) enum Unusable {
    /// The server does not answer, is not the primary, or has too few standbys. That may pass.
    #[error("{0}")]
    NotNow(String),
    /// An operator must change a setting.
    #[error("{0}")]
    Settings(String),
}

impl From<tokio_postgres::Error> for Unusable {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::NotNow(said(&error))
    }
}

impl From<StoreError> for Unusable {
    fn from(error: StoreError) -> Self {
        Self::NotNow(error.to_string())
    }
}

/// What an error says, with its causes and what the server said.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}

/// Queries the server.
pub(super) async fn ask(client: &Client) -> Result<Server, Unusable> {
    let sql = concat!(
        "SELECT ",
        now!(),
        ", current_setting('server_version_num')::int8, pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
           current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_standby_names'),
           (SELECT count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) FROM pg_stat_replication),
           (SELECT count(*) FROM pg_stat_replication WHERE sync_state IS NULL)"
    );
    let rows = query::query(sql).send(client).await?;
    let row = rows.first().ok_or_else(|| Unusable::NotNow("it reports no settings".to_owned()))?;
    // Only some roles see the state of others' connections.
    let hidden: u64 = number(row, 8)?;
    Ok(Server {
        clock_millis: number(row, 0)?,
        version: number::<u64>(row, 1)? / 10_000,
        in_recovery: get(row, 2)?,
        read_only: get(row, 3)?,
        settings: [get(row, 4)?, get(row, 5)?],
        synchronous_standby_names: get(row, 6)?,
        standbys: (hidden == 0).then(|| number(row, 7)).transpose()?,
    })
}

/// Checks that the server keeps what it acknowledges. The error says what to do.
pub(super) fn judge(server: &Server, config: &PostgresConfig) -> Result<(), Unusable> {
    let Server { version, settings, synchronous_standby_names, .. } = server;
    if *version < VERSION_MIN {
        let why = format!("it is PostgreSQL {version}; use {VERSION_MIN} or later");
        return Err(Unusable::Settings(why));
    }
    if server.in_recovery {
        let why =
            "the server is a standby, not the primary; name the primary in postgres.hosts, or all servers";
        return Err(Unusable::NotNow(why.to_owned()));
    }
    if server.read_only {
        let why = "transactions are read-only; set default_transaction_read_only to off for this server, database and role";
        return Err(Unusable::NotNow(why.to_owned()));
    }
    if config.durability == Durability::Unchecked {
        return Ok(());
    }
    for ((name, why), value) in DEMANDS.iter().zip(settings) {
        if value != "on" {
            return Err(Unusable::Settings(format!(
                "it has {name} {value}, must have on: {why} (ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();)"
            )));
        }
    }
    let (named, wanted) = (standbys_waited_for(synchronous_standby_names), u64::from(config.replicas));
    if named < wanted {
        return Err(Unusable::Settings(format!(
            "its synchronous_standby_names '{synchronous_standby_names}' waits for {named} standbys, postgres.replicas demands \
             {wanted}: a failover would lose writes that were acknowledged \
             (ALTER SYSTEM SET synchronous_standby_names = 'ANY {wanted} (*)'; SELECT pg_reload_conf();)"
        )));
    }
    if let Some(there) = server.standbys.filter(|there| *there < wanted) {
        let why =
            format!("it has {there} synchronous standbys connected, postgres.replicas demands {wanted}");
        return Err(Unusable::NotNow(why));
    }
    Ok(())
}

/// The number of standbys that a commit waits for: `FIRST 2 (a, b)`, `ANY 2 (a, b)`, `2 (a, b)`; a plain list waits for one.
fn standbys_waited_for(names: &str) -> u64 {
    let names = names.trim();
    if names.is_empty() {
        return 0;
    }
    let Some((before, _)) = names.split_once('(') else { return 1 };
    let count = before.split_whitespace().next_back();
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synchronous_standby_names_say_how_many_a_commit_waits_for() {
        for (names, expected) in [
            ("", 0),
            ("  ", 0),
            ("*", 1),
            ("a, b", 1),
            ("FIRST 2 (a, b, c)", 2),
            ("any 3(*)", 3),
            ("2 (a, b)", 2),
            ("ANY 1 (\"a(1\")", 1),
        ] {
            assert_eq!(standbys_waited_for(names), expected, "{names}");
        }
    }
}
