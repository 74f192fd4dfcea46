//! `statuslist healthcheck`: whether a service responds as it should. For containers, whose images have no other client, for
//! timers and for people.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::first_minute::reachable;
use crate::config::Config;

/// Docker treats 0 as healthy and 1 as unhealthy; other codes are reserved.
const UNHEALTHY: u8 = 1;
/// Longer than a busy service takes, and shorter than a container runtime's timeout for this command.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most bytes of an answer that are shown.
const SHOWN_MAX: usize = 4096;

/// `statuslist healthcheck`
#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    /// The address that must answer 200, for example http://127.0.0.1:8090/health/fresh. Without it, /health/live at `server.listen`
    /// of the settings, which are not read otherwise
    #[arg(long, value_parser = web_address)]
    url: Option<Url>,
}

impl Healthcheck {
    pub(super) fn run(self, settings: impl FnOnce() -> Result<Config>) -> Result<ExitCode> {
        let url = match self.url {
            Some(url) => url,
            None => {
                live(settings()?.server.listen).parse().context("cannot make an address of server.listen")?
            }
        };
        match super::runtime()?.block_on(problem(&url)) {
            None => Ok(ExitCode::SUCCESS),
            Some(problem) => {
                eprintln!("{problem}");
                Ok(ExitCode::from(UNHEALTHY))
            }
        }
    }
}

/// What is wrong with the answer of `url`.
async fn problem(url: &Url) -> Option<String> {
    let answer = async { client(url)?.get(url.clone()).send().await };
    match answer.await {
        Ok(answer) if answer.status() == StatusCode::OK => None,
        Ok(answer) => Some(format!("{url} answered {}: {}", answer.status(), start_of(answer).await)),
        Err(error) => Some(format!("no answer from {url}: {:#}", anyhow::Error::new(error.without_url()))),
    }
}

fn client(url: &Url) -> reqwest::Result<Client> {
    // A proxy or another address could be well while this one is not.
    let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(PATIENCE);
    match url.scheme() {
        // Without certificate authorities: a small image has none.
        "http" => client.tls_certs_only([]).build(),
        _ => client.build(),
    }
}

/// The beginning of the body, on one line: the service says in it what is wrong.
async fn start_of(mut answer: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await
        && body.len() < SHOWN_MAX
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(SHOWN_MAX);
    let text = String::from_utf8_lossy(&body);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn web_address(text: &str) -> Result<Url, &'static str> {
    let url = text.parse::<Url>().ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    url.ok_or("an address begins with http:// or https://")
}

/// The address of `/health/live`, at the loopback address if the service listens on all addresses.
fn live(listen: SocketAddr) -> String {
    format!("http://{}/health/live", reachable(listen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_are_asked() {
        let url = live("0.0.0.0:80".parse().unwrap());
        assert_eq!(url, "http://127.0.0.1:80/health/live");
        assert!(web_address(&url).is_ok());
        assert!(web_address("127.0.0.1:80").is_err() && web_address("ftp://x/").is_err());
    }
}
