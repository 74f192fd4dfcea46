//! A signing key in another service: its address, and how to ask it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

use super::duration::Setting;
use super::raw_signer::RawExternal;
use super::show_duration;
use crate::base::loopback::is_loopback_host;

/// How long a signature may take, unless the settings say otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// The shortest and the longest time that may be set.
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(30)];
/// The longest name of a key.
const NAME_MAX: usize = 128;

/// A signing key that stays in another service (`docs/KEY_SERVICE.md`).
#[derive(Clone, Debug)]
pub struct ExternalKey {
    /// The service.
    pub address: KeyServiceAddress,
    /// The key's name there.
    pub key: String,
    /// The bearer token, if the service wants one.
    pub token: Option<SecretString>,
    /// How long each try of a call may take.
    pub timeout: Duration,
    /// The certificates in PEM, leaf first.
    pub chain: Option<PathBuf>,
}

/// The address of a key service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyServiceAddress {
    /// A Unix socket.
    Socket(PathBuf),
    /// Over TLS, or on this machine.
    Web(Url),
}

impl fmt::Display for KeyServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Web(url) => url.fmt(f),
        }
    }
}

impl KeyServiceAddress {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix://") else { return checked_url(text).map(Self::Web) };
        match path.strip_prefix('/').is_some_and(|rest| !rest.is_empty()) {
            true => Ok(Self::Socket(path.into())),
            false => Err("a socket has an absolute path, as in unix:///run/keys.sock".to_owned()),
        }
    }
}

impl ExternalKey {
    pub(super) fn check(raw: RawExternal) -> Result<Self, String> {
        let RawExternal { url, key, token, timeout, chain } = raw;
        let address = KeyServiceAddress::parse(&url).map_err(|why| format!("external.url: {why}"))?;
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let dots = key.bytes().all(|byte| byte == b'.');
        if key.len() > NAME_MAX || dots || !key.bytes().all(of_name) {
            return Err(format!(
                "external.key: must be a name of 1 to {NAME_MAX} letters, digits, `.`, `_` and `-`"
            ));
        }
        if token.as_ref().is_some_and(String::is_empty) {
            return Err("external.token: is empty; leave it out if the key service wants none".to_owned());
        }
        let timeout = checked_timeout(timeout).map_err(|why| format!("external.timeout: {why}"))?;
        Ok(Self { address, key, token: token.map(Into::into), timeout, chain })
    }
}

/// How long each try of a call may take.
pub(super) fn checked_timeout(raw: Option<Setting>) -> Result<Duration, String> {
    let timeout = raw.map_or(TIMEOUT_DEFAULT, |timeout| timeout.0);
    let [least, most] = TIMEOUTS;
    match (least..=most).contains(&timeout) {
        true => Ok(timeout),
        false => Err(format!("must be from {} to {}", show_duration(least), show_duration(most))),
    }
}

/// An address with nothing but a host, a port and a path, to which requests go over TLS or on this machine.
pub(super) fn checked_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|why| format!("is not a URL: {why}"))?;
    let loopback = url.host_str().is_some_and(is_loopback_host);
    if !(url.scheme() == "https" || url.scheme() == "http" && loopback) {
        return Err("must begin with unix:// or https://, or with http:// on this machine: whoever reads \
                    the token on the way could have lists signed"
            .to_owned());
    }
    let plain = url.username().is_empty() && url.password().is_none();
    match plain && url.query().is_none() && url.fragment().is_none() {
        true => Ok(url),
        false => {
            Err("may have a host, a port and a path, nothing else; a token belongs into token-file"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KeySource};

    fn external(external: &str) -> Result<ExternalKey, String> {
        let settings =
            format!("status-list-pools: {{ a: {{ api-key: x, signer: {{ external: {{ {external} }} }} }} }}");
        let config = Config::load(Some(&settings), std::iter::empty()).map_err(|error| error.to_string())?;
        match config.pools.into_values().next().unwrap().signer.key {
            Some(KeySource::External(key)) => Ok(key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_socket_or_a_url_is_enough_and_the_token_is_never_shown() {
        let key = external("url: 'unix:///run/a b/keys.sock', key: signer").unwrap();
        assert_eq!(key.address, KeyServiceAddress::Socket("/run/a b/keys.sock".into()));
        assert_eq!((key.timeout, key.token.is_none()), (TIMEOUT_DEFAULT, true));
        let key = external("url: 'https://keys.example/a', key: k.1_b-2, token: hidden, timeout: 500ms");
        let key = key.unwrap();
        assert_eq!(key.address.to_string(), "https://keys.example/a");
        assert_eq!(key.timeout, Duration::from_millis(500));
        assert!(!format!("{key:?}").contains("hidden"));
        assert!(external("url: 'http://127.0.0.1:8200', key: k").is_ok());
    }

    #[test]
    fn what_cannot_be_asked_safely_is_refused_by_name() {
        for (written, why) in [
            ("url: 'http://keys.example', key: k", "external.url: must begin with unix:// or https://"),
            ("url: 'keys.example', key: k", "external.url: is not a URL"),
            ("url: 'unix://keys.sock', key: k", "external.url: a socket has an absolute path"),
            ("url: 'unix:///', key: k", "external.url: a socket has an absolute path"),
            ("url: 'https://me:hidden@keys.example', key: k", "external.url: may have a host"),
            ("url: 'https://keys.example/?a', key: k", "external.url: may have a host"),
            ("url: 'https://keys.example', key: a/b", "external.key: must be a name"),
            ("url: 'https://keys.example', key: ..", "external.key: must be a name"),
            ("url: 'https://keys.example', key: ''", "external.key: must be a name"),
            ("url: 'https://keys.example', key: k, token: ''", "external.token: is empty"),
            (
                "url: 'https://keys.example', key: k, timeout: 1m",
                "external.timeout: must be from 50ms to 30s",
            ),
            ("url: 'https://keys.example'", "missing field `key`"),
            ("url: 'https://keys.example', key: k, token: 1234", "put it in quotes"),
            ("url: 'https://keys.example', key: k, retries: 1", "external.retries: there is no such setting"),
        ] {
            let error = external(written).unwrap_err();
            assert!(error.starts_with("status-list-pools.a.signer") && error.contains(why), "{error}");
            assert!(!error.contains("hidden") && !error.contains("1234"), "{error}");
        }
    }

    #[test]
    fn it_can_be_set_by_variables_and_its_token_read_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), b"1234\n").unwrap();
        let variable = |name: &str, value: &str| {
            (format!("STATUSLIST__STATUS_LIST_POOLS__DEMO__SIGNER__EXTERNAL__{name}"), value.to_owned())
        };
        let variables = [
            variable("URL", "unix:///run/keys.sock"),
            variable("KEY", "signer"),
            variable("TOKEN_FILE", file.to_str().unwrap()),
        ];
        let config = Config::load(None, variables.into_iter()).unwrap();
        assert_eq!(config.files(), [file], "changes of it are noticed");
        let Some(KeySource::External(key)) = config.pools.into_values().next().unwrap().signer.key else {
            panic!("no external key")
        };
        assert_eq!(secrecy::ExposeSecret::expose_secret(&key.token.unwrap()), "1234");
    }
}
