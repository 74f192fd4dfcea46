//! The HTTP server's own settings.

use std::net::SocketAddr;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use super::ConfigError;
use super::raw::RawServer;
use crate::status_list::BaseUri;

/// Where and how the service answers requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address of the lists if this service serves them, and of everything without an address of its own.
    pub listen: SocketAddr,
    /// Address of the write API and of the operators' endpoints.
    pub api_listen: Option<SocketAddr>,
    /// Address of the operators' endpoints.
    pub management_listen: Option<SocketAddr>,
    /// Number of threads that answer requests.
    pub workers: usize,
    /// How long a running request may take after a stop.
    pub shutdown_grace: Duration,
    /// The most open connections of all addresses together, if there are enough open files; more wait to be accepted.
    pub max_connections: usize,
    /// The most open connections of one client's address; `None` for half of all. More are closed.
    pub connections_per_address: Option<usize>,
    /// Whether this service also serves the lists.
    pub serve_status_lists: bool,
}

/// First path segments that the lists must not use.
const API_PATHS: [&str; 8] =
    ["api", "docs", "health", "metrics", "openapi.json", "pools", "status-lists", "version"];

impl ServerConfig {
    /// Refuses to serve the lists at an address of the API.
    pub(super) fn check_paths(&self, key: &str, public_url: &BaseUri) -> Result<(), ConfigError> {
        let first = public_url.path().split('/').nth(1).unwrap_or_default();
        match self.serve_status_lists && API_PATHS.contains(&first) {
            true => Err(ConfigError::at(
                key,
                format!(
                    "its path must not begin with /{first}, which is used for something else; use /lists"
                ),
            )),
            false => Ok(()),
        }
    }

    pub(super) fn check(raw: RawServer, serve_status_lists: bool) -> Result<Self, ConfigError> {
        if raw.workers == Some(0) {
            return Err(ConfigError::at("server.workers", "must be at least 1, or null for one per core"));
        }
        if raw.max_connections == 0 {
            return Err(ConfigError::at("server.max-connections", "must be at least 1"));
        }
        if raw.connections_per_address == Some(0) {
            let why = "must be at least 1, or null for half of all";
            return Err(ConfigError::at("server.connections-per-address", why));
        }
        let addresses = [Some(raw.listen), raw.api_listen, raw.management_listen];
        for (place, key) in [(1, "server.api-listen"), (2, "server.management-listen")] {
            if addresses[place].is_some_and(|address| address.port() != 0)
                && addresses[..place].contains(&addresses[place])
            {
                return Err(ConfigError::at(key, "must be an address that nothing else listens on, or null"));
            }
        }
        let cores = || available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            listen: raw.listen,
            api_listen: raw.api_listen,
            management_listen: raw.management_listen,
            workers: raw.workers.unwrap_or_else(cores),
            shutdown_grace: raw.shutdown_grace.0,
            max_connections: raw.max_connections,
            connections_per_address: raw.connections_per_address,
            serve_status_lists,
        })
    }
}
