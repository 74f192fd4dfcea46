//! The welcome text: commands to copy, with real values, when the service runs on its built-in settings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use zeroize::Zeroizing;

use crate::app::{App, Handle};
use crate::config::Config;
use crate::model::pool::PoolId;
use crate::status_list::BaseUri;

/// The settings that the text needs.
pub(super) struct FirstMinute {
    base: BaseUri,
    /// Where this machine reaches the service.
    address: String,
    pool: PoolId,
    /// In seconds.
    beat: u64,
}

/// The text, except for two references.
pub(super) struct Welcome {
    about: FirstMinute,
    /// The API key, if this start made it.
    key: Option<Zeroizing<String>>,
    key_file: String,
}

impl FirstMinute {
    pub(super) fn new(config: &Config) -> Option<Self> {
        let (pool, settings) = config.pools.first_key_value()?;
        Some(Self {
            base: settings.shape.public_url.clone(),
            address: format!(
                "http://{}",
                reachable(config.server.api_listen.unwrap_or(config.server.listen))
            ),
            pool: pool.clone(),
            beat: settings.live.update_interval.as_secs(),
        })
    }

    pub(super) fn of(self, app: &App) -> Welcome {
        let key = app.new_api_keys().get(&self.pool).cloned();
        let key_file = app.api_key_path(&self.pool).unwrap_or_default().display().to_string();
        Welcome { about: self, key, key_file }
    }
}

impl Welcome {
    /// Prints the text as soon as references are ready. Its two references are real and used up.
    pub(super) async fn print(self, handle: &Handle) {
        let Some(references) = handle.allocate(&self.about.pool, 2).await else { return };
        let [revoked, kept] = [references[0], references[1]]
            .map(|reference| (self.about.base.join(&reference.list), reference.idx));
        let FirstMinute { base, address, pool, beat } = &self.about;
        let program = program();
        let (key_line, key) = match &self.key {
            Some(key) => (
                format!(
                    "API key of pool `{pool}`, shown only now (its hash is in {}):\n  {}",
                    self.key_file,
                    key.as_str()
                ),
                key.as_str(),
            ),
            None => (
                format!(
                    "The API key of pool `{pool}` was shown at the first start; for a new one delete {} and restart.\n  export STATUSLIST_API_KEY=…",
                    self.key_file
                ),
                "$STATUSLIST_API_KEY",
            ),
        };
        println!(
            r#"
See the lists in a browser: {address}/
The documentation of the API: {address}/docs

{key_line}

1. Get a reference for a new credential:
  curl -X POST -H "X-Api-Key: {key}" "{address}/pools/{pool}/new-references?amount=1"

2. Revoke one (a reference that was made for you to try this). The answer is empty, so curl prints its status, 204:
  curl -X PATCH -H "X-Api-Key: {key}" -H "Content-Type: application/json" -w "%{{http_code}}\n" \
    -d '{{"uri":"{revoked_uri}","index":{revoked_idx},"value":"revoked"}}' {address}/status-lists/update

3. Wait for the next beat, on which changed lists are signed and published:
  sleep {beat}

4. Fetch the list as a wallet or verifier does:
  curl {revoked_uri}

5. Check as a verifier: INVALID for the one that you revoked, VALID for another:
  {program} check --uri {revoked_uri} --idx {revoked_idx} --trust {jwks}
  {program} check --uri {kept_uri} --idx {kept_idx} --trust {jwks}
"#,
            revoked_uri = revoked.0,
            revoked_idx = revoked.1,
            kept_uri = kept.0,
            kept_idx = kept.1,
            jwks = base.join_path("jwks.json"),
        );
    }
}

/// The address at which this machine reaches what listens on `listen`.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The command that started this program, as a shell accepts it.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| Path::new("statuslist").to_owned());
    let folder = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
    if path.contains('/') { path } else { format!("./{path}") }
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
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
