//! Who may use the API, apart from the pools' API keys (bearer tokens, client certificates behind a proxy), and how often.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::Url;

use super::ConfigError;
use super::network::Network;
use super::rate::Rate;
use super::raw::{RawClientCertificate, RawLimits, RawOauth, RawServer};
use crate::base::loopback::is_loopback_host;

/// How far the clocks of authorization servers may differ from ours, unless the settings say otherwise.
const LEEWAY_DEFAULT: Duration = Duration::from_secs(30);
/// The largest leeway allowed: a larger one would keep expired tokens alive.
const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Who may use the API, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessConfig {
    /// Bearer tokens, if they are accepted.
    pub oauth: Option<OauthConfig>,
    /// Proxies whose `X-Forwarded-For` and client certificate header are trusted.
    pub trusted_proxies: Vec<Network>,
    /// The header that a proxy must send about the client's certificate, if certificates are required.
    pub client_certificate: Option<ClientCertificate>,
    /// The rates of callers.
    pub rates: Rates,
}

/// Which bearer tokens are accepted (RFC 9068).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthConfig {
    /// The `iss` that a token must have.
    pub issuer: String,
    /// The `aud` that a token must contain.
    pub audience: String,
    /// The source of the authorization server's public keys.
    pub jwks: JwksSource,
    /// The signature algorithms that tokens may use.
    pub algorithms: Vec<Algorithm>,
    /// How far the clocks may differ.
    pub leeway: Duration,
}

/// The source of a set of public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A file.
    File(PathBuf),
    /// An HTTP URL.
    Url(Url),
}

/// A header in which a proxy confirms that it verified the client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The header's name.
    pub header: String,
    /// The value that confirms it.
    pub value: String,
}

/// How often callers may send requests. `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Requests with one API key, or of one client of the authorization server.
    pub requests_per_key: Option<Rate>,
    /// Requests from one address.
    pub requests_per_address: Option<Rate>,
    /// Wrong credentials from one address.
    pub failures_per_address: Option<Rate>,
}

impl AccessConfig {
    pub(super) fn check(
        oauth: Option<RawOauth>,
        server: &RawServer,
        limits: &RawLimits,
    ) -> Result<Self, ConfigError> {
        let certificate = server.client_certificate.clone();
        if certificate.is_some() && server.trusted_proxies.is_empty() {
            let why =
                "no proxy is trusted to tell about certificates; name the proxy in server.trusted-proxies";
            return Err(ConfigError::at("server.client-certificate", why));
        }
        if let Some(RawClientCertificate { header, value }) = &certificate
            && (!is_header_name(header) || value.is_empty())
        {
            let why =
                "needs the name of a header and a value, as in { header: X-Client-Verify, value: SUCCESS }";
            return Err(ConfigError::at("server.client-certificate", why));
        }
        Ok(Self {
            oauth: oauth.map(OauthConfig::check).transpose()?,
            trusted_proxies: server.trusted_proxies.clone(),
            client_certificate: certificate
                .map(|raw| ClientCertificate { header: raw.header, value: raw.value }),
            rates: Rates {
                requests_per_key: limits.requests_per_key,
                requests_per_address: limits.requests_per_address,
                failures_per_address: limits.failures_per_address,
            },
        })
    }
}

impl OauthConfig {
    fn check(raw: RawOauth) -> Result<Self, ConfigError> {
        let refuse = |key: &str, why: &str| Err(ConfigError::at(format!("oauth.{key}"), why));
        for (key, value) in [("issuer", &raw.issuer), ("audience", &raw.audience)] {
            if value.is_empty() {
                return refuse(key, "must not be empty, or tokens of anyone would be accepted");
            }
        }
        let jwks = match (raw.jwks_path, raw.jwks_url) {
            (Some(path), None) => JwksSource::File(path),
            (None, Some(url)) => JwksSource::Url(checked_url(&url)?),
            _ => {
                return refuse(
                    "jwks-url",
                    "set either `jwks-url` or `jwks-path`, the source of the public keys",
                );
            }
        };
        let algorithms = raw.algorithms.map_or(Ok(vec![Algorithm::ES256, Algorithm::RS256]), |names| {
            names.iter().map(|name| algorithm(name)).collect::<Result<_, _>>()
        })?;
        if algorithms.is_empty() {
            return refuse("algorithms", "must name at least one, such as ES256");
        }
        let leeway = raw.leeway.map_or(LEEWAY_DEFAULT, |setting| setting.0);
        if leeway > LEEWAY_MAX {
            let why = format!("must be at most {}", super::show_duration(LEEWAY_MAX));
            return refuse("leeway", &why);
        }
        Ok(Self { issuer: raw.issuer, audience: raw.audience, jwks, algorithms, leeway })
    }
}

/// Accepts only algorithms that verify with a public key: with an HMAC, everyone who can verify a token can make one.
fn algorithm(name: &str) -> Result<Algorithm, ConfigError> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let all = [ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512];
    let found = all.into_iter().find(|algorithm| format!("{algorithm:?}") == name);
    found.ok_or_else(|| {
        let why = format!("cannot use `{name}`; choose one of {all:?}, which verify with a public key");
        ConfigError::at("oauth.algorithms", why)
    })
}

fn checked_url(url: &str) -> Result<Url, ConfigError> {
    let refuse = |why: String| ConfigError::at("oauth.jwks-url", why);
    let url: Url = url.parse().map_err(|why| refuse(format!("is not a URL: {why}")))?;
    let loopback = url.host_str().is_some_and(is_loopback_host);
    match url.scheme() == "https" || url.scheme() == "http" && loopback {
        true => Ok(url),
        false => Err(refuse(
            "must begin with https: an attacker who changes the keys on the way could make tokens".to_owned(),
        )),
    }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn load(file: &str) -> Result<AccessConfig, String> {
        let config = Config::load(Some(file), std::iter::empty());
        config.map(|config| config.access).map_err(|error| error.to_string())
    }

    #[test]
    fn by_default_there_are_only_api_keys() {
        let access = load("").unwrap();
        assert!(
            access.oauth.is_none()
                && access.trusted_proxies.is_empty()
                && access.client_certificate.is_none()
        );
        let Rates { requests_per_key, requests_per_address, failures_per_address } = access.rates;
        assert_eq!((requests_per_key, requests_per_address, failures_per_address), (None, None, None));
    }

    #[test]
    fn oauth_has_defaults_where_they_are_safe() {
        let file =
            "oauth: { issuer: 'https://as.example', audience: s, jwks-url: 'https://as.example/jwks' }";
        let oauth = load(file).unwrap().oauth.unwrap();
        assert_eq!(oauth.algorithms, [Algorithm::ES256, Algorithm::RS256]);
        assert_eq!(oauth.leeway, LEEWAY_DEFAULT);
        let oauth = load("oauth: { issuer: a, audience: s, jwks-path: keys.json, algorithms: [EdDSA] }");
        let oauth = oauth.unwrap().oauth.unwrap();
        assert_eq!(oauth.jwks, JwksSource::File("keys.json".into()));
    }

    #[test]
    fn settings_that_would_admit_anyone_are_refused() {
        for (file, expected) in [
            ("oauth: { issuer: '', audience: s, jwks-path: k }", "oauth.issuer"),
            ("oauth: { issuer: a, audience: s }", "jwks-path"),
            ("oauth: { issuer: a, audience: s, jwks-path: k, jwks-url: 'https://a' }", "either"),
            ("oauth: { issuer: a, audience: s, jwks-url: 'http://as.example/jwks' }", "https"),
            ("oauth: { issuer: a, audience: s, jwks-path: k, algorithms: [HS256] }", "`HS256`"),
            ("oauth: { issuer: a, audience: s, jwks-path: k, algorithms: [none] }", "`none`"),
            ("oauth: { issuer: a, audience: s, jwks-path: k, algorithms: [] }", "at least one"),
            ("oauth: { issuer: a, audience: s, jwks-path: k, leeway: 1h }", "at most 5m"),
            ("oauth: { issuer: a, jwks-path: k }", "audience"),
            ("server: { client-certificate: { header: X, value: Y } }", "server.trusted-proxies"),
            (
                "server: { trusted-proxies: [127.0.0.1], client-certificate: { header: '', value: Y } }",
                "X-Client-Verify",
            ),
            ("server: { trusted-proxies: [10.0.0.0/33] }", "server.trusted-proxies[0]"),
            ("limits: { requests-per-key: 100 }", "limits.requests-per-key"),
            ("limits: { failures-per-address: 0/s }", "`20/m`"),
            ("server: { max-connections: 0 }", "server.max-connections"),
            ("limits: { body-bytes: 1000, bodies-bytes: 999 }", "limits.bodies-bytes"),
            ("server: { connections-per-address: 0 }", "server.connections-per-address"),
        ] {
            let error = load(file).unwrap_err();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }
}
