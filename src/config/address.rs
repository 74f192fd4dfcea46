//! Host and port of a server of the store.

use std::fmt;

use super::ConfigError;

/// Host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Parses `host:port`, or `host` alone.
pub(super) fn addresses(
    key: &str,
    nodes: &[String],
    default_port: u16,
) -> Result<Vec<ServerAddress>, ConfigError> {
    if nodes.is_empty() {
        return Err(ConfigError::at(key, "must name at least one server"));
    }
    let address = |node: &String| {
        let (host, port) =
            node.rsplit_once(':').map_or((node.as_str(), None), |(host, port)| (host, Some(port)));
        let port = port.map_or(Ok(default_port), str::parse);
        match port {
            Ok(port) if !host.is_empty() => {
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Ok(ServerAddress { host, port })
            }
            _ => Err(ConfigError::at(key, format!("`{node}` is not host:port"))),
        }
    };
    nodes.iter().map(address).collect()
}
