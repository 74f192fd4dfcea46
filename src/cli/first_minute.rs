//! The welcome text: commands to copy, with real values, when the service runs on its built-in settings.

use std::path::Path;

use zeroize::Zeroizing;

use crate::app::{App, Handle};
use crate::config::Config;
use crate::model::pool::PoolId;
use crate::status_list::BaseUri;

/// The settings that the text needs.
pub(super) struct FirstMinute {
    base: BaseUri,
    address: String,
    pool: PoolId,
    beat: String,
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
            address: format!("http://{}", config.server.listen),
            pool: pool.clone(),
            beat: crate::config::show_duration(settings.live.update_interval),
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
{key_line}

Get a reference for a new credential:
  curl -X POST -H "X-Api-Key: {key}" "{address}/pools/{pool}/new-references?amount=1"

Revoke one (a reference that was made for you to try this):
  curl -X PATCH -H "X-Api-Key: {key}" -H "Content-Type: application/json" \
    -d '{{"uri":"{revoked_uri}","index":{revoked_idx},"value":"invalid"}}' {address}/status-lists/update

Fetch the list as a wallet or verifier does:
  curl {revoked_uri}

Check as a verifier; the first says INVALID within {beat} of the revocation, the second VALID:
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

/// The command that started this program, as a shell accepts it.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| Path::new("statuslist").to_owned());
    let folder = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&folder).unwrap_or(&path).display().to_string()
}
