//! `statuslist healthcheck`: whether the service of these settings answers. For containers, whose images have no other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Client;

use crate::config::Config;

/// Docker knows 0 as healthy and 1 as not; other codes are reserved.
const UNHEALTHY: u8 = 1;
/// Longer than a busy service takes, shorter than the limit that a container's runtime sets to this command.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks `/health/live` at the configured address.
pub(super) fn run(config: &Config) -> Result<ExitCode> {
    let url = format!("http://{}/health/live", reachable(config.server.listen));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    // The service is on this host: no proxy of the environment is asked.
    let client = Client::builder().no_proxy().timeout(PATIENCE).build().context("cannot make a client")?;
    let answer = runtime.block_on(client.get(&url).send()).and_then(reqwest::Response::error_for_status);
    Ok(match answer {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:#}", anyhow::Error::new(error).context(format!("no good answer from {url}")));
            ExitCode::from(UNHEALTHY)
        }
    })
}

/// Who listens on all addresses is reached at the loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_that_can_be_listened_on_can_be_asked() {
        for (listen, asked) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
