//! `statuslist healthcheck`: whether the service of these settings responds. For containers, whose images have no other
//! client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Config;

/// Docker treats 0 as healthy and 1 as unhealthy; other codes are reserved.
const UNHEALTHY: u8 = 1;
/// Longer than a busy service takes, and shorter than a container runtime's timeout for this command.
const PATIENCE: Duration = Duration::from_secs(4);

/// Requests `/health/live` at the configured address.
pub(super) fn run(config: &Config) -> ExitCode {
    let address = reachable(config.server.listen);
    match status_line(address) {
        Ok(line) if line.split(' ').nth(1) == Some("200") => return ExitCode::SUCCESS,
        Ok(line) => eprintln!("http://{address}/health/live answered `{line}`"),
        Err(error) => eprintln!("no answer from http://{address}/health/live: {error}"),
    }
    ExitCode::from(UNHEALTHY)
}

/// Without an HTTP client: it would load certificate authorities first, and a small image has none.
fn status_line(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /health/live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// The loopback address, if the service listens on all addresses.
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
    fn every_listen_address_has_a_reachable_one() {
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
