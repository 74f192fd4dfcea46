//! The HTTP server's own settings.

use std::net::SocketAddr;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use super::ConfigError;
use super::raw::{RawLogFormat, RawServer};
use crate::status_list::BaseUri;

/// Where and how requests are answered.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address of the write API, and of the lists when they are served here.
    pub listen: SocketAddr,
    /// Threads that answer requests.
    pub workers: usize,
    /// How long a running request may go on at a stop.
    pub shutdown_grace: Duration,
    /// Connections that are open at a time; more wait to be accepted.
    pub max_connections: usize,
    /// Whether lists are served here as well.
    pub serve_status_lists: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl From<RawLogFormat> for LogFormat {
    fn from(raw: RawLogFormat) -> Self {
        match raw {
            RawLogFormat::Human => Self::Human,
            RawLogFormat::Json => Self::Json,
        }
    }
}

/// First segments of the API's own paths.
const API_PATHS: [&str; 8] =
    ["api", "docs", "health", "metrics", "openapi.json", "pools", "status-lists", "version"];

impl ServerConfig {
    /// The lists must not be served where the API is.
    pub(super) fn check_paths(&self, public_url: &BaseUri) -> Result<(), ConfigError> {
        let first = public_url.path().split('/').nth(1).unwrap_or_default();
        match self.serve_status_lists && API_PATHS.contains(&first) {
            true => Err(ConfigError::at(
                "public-url",
                format!("its path must not begin with /{first}, where the API is; use /lists"),
            )),
            false => Ok(()),
        }
    }

    pub(super) fn check(raw: RawServer, serve_status_lists: bool) -> Result<Self, ConfigError> {
        if raw.workers == Some(0) {
            return Err(ConfigError::at("server.workers", "must be at least 1, or null for one a core"));
        }
        if raw.max_connections == 0 {
            return Err(ConfigError::at("server.max-connections", "must be at least 1"));
        }
        let cores = || available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            listen: raw.listen,
            workers: raw.workers.unwrap_or_else(cores),
            shutdown_grace: raw.shutdown_grace.0,
            max_connections: raw.max_connections,
            serve_status_lists,
        })
    }
}
