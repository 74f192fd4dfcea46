//! A signing key in the transit engine of HashiCorp Vault or OpenBao.

use std::path::PathBuf;
use std::time::Duration;

use super::key_service::{KeyServiceAddress, checked_timeout};
use super::raw_signer::RawVault;

/// Where the engine is unless the settings say otherwise.
const MOUNT_DEFAULT: &str = "transit";
/// The longest name of a key, an engine or a namespace.
const NAME_MAX: usize = 128;

/// A signing key that stays in a transit engine.
#[derive(Clone, Debug)]
pub struct VaultSource {
    /// The server, or an agent.
    pub address: KeyServiceAddress,
    /// The path of the engine.
    pub mount: String,
    /// The key's name there.
    pub key: String,
    /// The version of the key that signs; `None` is the newest when the settings are read.
    pub version: Option<u64>,
    /// The namespace, if the server has several.
    pub namespace: Option<String>,
    /// The file with the token, read for each call; `None` if an agent adds it.
    pub token_file: Option<PathBuf>,
    /// How long each try of a call may take.
    pub timeout: Duration,
    /// The certificates in PEM, leaf first.
    pub chain: Option<PathBuf>,
}

impl VaultSource {
    pub(super) fn check(raw: RawVault) -> Result<Self, String> {
        let RawVault { url, key, mount, version, namespace, token_file, timeout, chain } = raw;
        let address = KeyServiceAddress::parse(&url).map_err(|why| format!("vault.url: {why}"))?;
        if !is_name(&key) {
            return Err(format!("vault.key: must be {A_NAME}"));
        }
        let mount = mount.unwrap_or_else(|| MOUNT_DEFAULT.to_owned());
        for (setting, path) in [("mount", Some(&mount)), ("namespace", namespace.as_ref())] {
            if path.is_some_and(|path| path.len() > NAME_MAX || !path.split('/').all(is_name)) {
                return Err(format!("vault.{setting}: must be {A_NAME}, or several with `/` in between"));
            }
        }
        if version == Some(0) {
            return Err("vault.version: versions count from 1".to_owned());
        }
        let timeout = checked_timeout(timeout).map_err(|why| format!("vault.timeout: {why}"))?;
        Ok(Self { address, mount, key, version, namespace, token_file, timeout, chain })
    }
}

const A_NAME: &str = "a name of letters, digits, `.`, `_` and `-`";

fn is_name(text: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let dots = text.bytes().all(|byte| byte == b'.');
    text.len() <= NAME_MAX && !dots && text.bytes().all(of_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KeySource};

    fn load(vault: &str) -> Result<Config, String> {
        let settings =
            format!("status-list-pools: {{ a: {{ api-key: x, signer: {{ vault: {{ {vault} }} }} }} }}");
        Config::load(Some(&settings), std::iter::empty()).map_err(|error| error.to_string())
    }

    fn vault(vault: &str) -> Result<VaultSource, String> {
        match load(vault)?.pools.into_values().next().unwrap().signer.key {
            Some(KeySource::Vault(key)) => Ok(key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_url_and_a_name_are_enough_and_the_token_is_left_in_its_file() {
        let key = vault("url: 'https://vault.example:8200', key: signer").unwrap();
        assert_eq!((key.mount.as_str(), key.version, key.token_file), ("transit", None, None));
        let config = load(
            "url: 'unix:///run/bao.sock', key: k, mount: a/b, version: 2, namespace: team/x, token-file: /none/token, chain: /none/chain",
        );
        let config = config.unwrap();
        assert_eq!(config.files(), [PathBuf::from("/none/chain")], "another token is no reason to reload");
        let signer = config.pools.into_values().next().unwrap().signer;
        let Some(KeySource::Vault(key)) = signer.key else { panic!("no key of Vault") };
        assert_eq!((key.mount.as_str(), key.version), ("a/b", Some(2)));
        assert_eq!((key.namespace.as_deref(), key.token_file), (Some("team/x"), Some("/none/token".into())));
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_name() {
        let of_server = "url: 'https://vault.example'";
        for (written, why) in [
            ("url: 'http://vault.example', key: k", "vault.url: must begin with unix:// or https://"),
            ("url: 'https://vault.example/?a', key: k", "vault.url: may have a host"),
            (&format!("{of_server}, key: a/b"), "vault.key: must be a name"),
            (&format!("{of_server}, key: .."), "vault.key: must be a name"),
            (&format!("{of_server}, key: k, mount: /transit"), "vault.mount: must be a name"),
            (&format!("{of_server}, key: k, mount: a/../b"), "vault.mount: must be a name"),
            (&format!("{of_server}, key: k, namespace: 'a b'"), "vault.namespace: must be a name"),
            (&format!("{of_server}, key: k, version: 0"), "vault.version: versions count from 1"),
            (&format!("{of_server}, key: k, timeout: 1m"), "vault.timeout: must be from 50ms to 30s"),
            (&format!("{of_server}, key: k, token: hidden"), "vault.token: there is no such setting"),
        ] {
            let error = vault(written).unwrap_err();
            assert!(error.starts_with("status-list-pools.a.signer") && error.contains(why), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn a_token_in_the_public_folder_is_refused() {
        let error = load("url: 'https://vault.example', key: k, token-file: public/token").unwrap_err();
        assert!(error.contains("signer.vault.token-file") && error.contains("the world can read"), "{error}");
    }
}
