//! How to reach PostgreSQL, and which durability it must offer.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use tokio_postgres::config::{Host, SslMode};
use zeroize::Zeroizing;

use super::ConfigError;
use super::address::{ServerAddress, addresses};
use super::raw::{RawDurability, RawPostgres};

/// The default port of PostgreSQL.
const PORT: u16 = 5432;

/// How to reach PostgreSQL, and which durability it must offer.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// The servers, of which the primary is used.
    pub hosts: Vec<ServerAddress>,
    /// Whether to encrypt connections. Trusts the system's certificate authorities.
    pub tls: bool,
    /// The role.
    pub username: String,
    /// The password; never shown.
    pub password: Option<SecretString>,
    /// The database.
    pub database: String,
    /// The schema that holds the tables.
    pub schema: String,
    /// The required durability.
    pub durability: Durability,
    /// How many synchronous standbys must have a write before it is acknowledged.
    pub replicas: u32,
    /// The most connections of this instance.
    pub connections: usize,
    /// The longest that connecting to one server may take.
    pub connect_timeout: Duration,
    /// The longest that the statements of a round trip may take. After that the outcome of a write is unknown.
    pub command_timeout: Duration,
}

/// The durability that PostgreSQL must offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `fsync`, `full_page_writes` and the demanded standbys are checked, and every commit waits for them.
    Checked,
    /// The server's defaults count: acknowledged writes can be lost.
    Unchecked,
}

impl PostgresConfig {
    pub(super) fn check(raw: RawPostgres, warnings: &mut Vec<String>) -> Result<Self, ConfigError> {
        let at = |key: &str, why: &str| ConfigError::at(format!("postgres.{key}"), why.to_owned());
        let (mut tls, mut username, mut database) = (raw.tls, raw.username, raw.database);
        let mut password = raw.password.map(SecretString::from);
        let hosts = match raw.url {
            Some(url) => {
                // It may hold the password.
                let url = Zeroizing::new(url);
                let bad = || {
                    let form = "must be postgres://[user[:password]@]host[:port][,host[:port]][/database][?sslmode=require]";
                    at("url", form)
                };
                let parsed = tokio_postgres::Config::from_str(&url).map_err(|_| bad())?;
                tls |= url.contains("sslmode=") && parsed.get_ssl_mode() == SslMode::Require;
                username = parsed.get_user().map_or(username, str::to_owned);
                database = parsed.get_dbname().map_or(database, str::to_owned);
                let of_url = parsed.get_password().map(String::from_utf8_lossy);
                password = password.or_else(|| of_url.map(|password| password.into_owned().into()));
                let ports = parsed.get_ports();
                let hosts = parsed.get_hosts().iter().enumerate().map(|(n, host)| match host {
                    Host::Tcp(host) => {
                        let port = ports.get(n).or(ports.first()).copied().unwrap_or(PORT);
                        Ok(ServerAddress { host: host.clone(), port })
                    }
                    Host::Unix(_) => Err(bad()),
                });
                let hosts: Vec<_> = hosts.collect::<Result<_, _>>()?;
                if hosts.is_empty() {
                    return Err(bad());
                }
                hosts
            }
            None => addresses("postgres.hosts", &raw.hosts, PORT)?,
        };
        for (key, value) in [("username", &username), ("database", &database)] {
            if value.is_empty() {
                return Err(at(key, "must not be empty"));
            }
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if raw.schema.is_empty() || raw.schema.len() > 63 || !raw.schema.chars().all(allowed) {
            return Err(at("schema", "must be 1 to 63 of a-z, 0-9 and `_`"));
        }
        if raw.connections < 2 {
            return Err(at("connections", "must be at least 2"));
        }
        let (connect_timeout, command_timeout) = (raw.timeouts.connect.0, raw.timeouts.command.0);
        for (key, timeout) in [("connect", connect_timeout), ("command", command_timeout)] {
            if timeout < Duration::from_millis(10) {
                return Err(at(&format!("timeouts.{key}"), "must be at least 10ms"));
            }
        }
        let durability = match raw.durability {
            RawDurability::Checked => Durability::Checked,
            RawDurability::Unchecked => {
                let lost = "acknowledged revocations can be lost, and references can be handed out twice";
                warnings.push(format!("postgres.durability is unchecked: {lost}; set it to checked"));
                Durability::Unchecked
            }
        };
        Ok(Self {
            hosts,
            tls,
            username,
            password,
            database,
            schema: raw.schema,
            durability,
            replicas: raw.replicas,
            connections: raw.connections,
            connect_timeout,
            command_timeout,
        })
    }
}

impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        let Self { database, schema, .. } = self;
        write!(f, "PostgreSQL at {}, database {database}, schema {schema}", hosts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::{Config, StoreConfig};

    fn load(postgres: &str) -> Result<(PostgresConfig, Vec<String>), ConfigError> {
        let settings = format!("{{ storage-type: postgres, postgres: {{ {postgres} }} }}");
        let config = Config::load(Some(&settings), std::iter::empty())?;
        let StoreConfig::Postgres(postgres) = config.store else { panic!("not PostgreSQL") };
        Ok((postgres, config.warnings))
    }

    #[test]
    fn a_url_names_the_servers_the_role_and_the_database() {
        let (config, warnings) = load("url: 'postgres://u:hunter2@a,b:6432/d?sslmode=require'").unwrap();
        assert_eq!(config.to_string(), "PostgreSQL at a:5432, b:6432, database d, schema statuslist");
        assert!(config.tls && config.username == "u" && warnings.is_empty(), "{warnings:?}");
        assert_eq!(config.password.as_ref().unwrap().expose_secret(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        let (config, _) = load("url: 'postgres://a', username: v, hosts: [b]").unwrap();
        assert!(!config.tls && config.username == "v" && config.database == "statuslist");
        assert_eq!(config.hosts.len(), 1);
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        for (given, key) in [
            ("url: 'http://a'", "postgres.url"),
            ("url: 'postgres:///d'", "postgres.url"),
            ("hosts: []", "postgres.hosts"),
            ("hosts: ['a:b']", "postgres.hosts"),
            ("schema: 'a\"b'", "postgres.schema"),
            ("schema: ''", "postgres.schema"),
            ("username: ''", "postgres.username"),
            ("database: ''", "postgres.database"),
            ("connections: 1", "postgres.connections"),
            ("timeouts: { command: 1ms }", "postgres.timeouts.command"),
            ("timeouts: { connect: 1ms }", "postgres.timeouts.connect"),
            ("replica: 1", "postgres.replica"),
        ] {
            let refused = load(given).unwrap_err().to_string();
            assert!(refused.contains(key) && !refused.contains("hunter2"), "{given}: {refused}");
        }
        let (_, warnings) = load("durability: unchecked").unwrap();
        assert!(warnings[0].contains("postgres.durability is unchecked"), "{warnings:?}");
    }
}
