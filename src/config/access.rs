//! Who is let in, apart from the pools' API keys: bearer tokens, client certificates behind a proxy, and how often.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::Url;

use super::ConfigError;
use super::network::Network;
use super::rate::Rate;
use super::raw::{RawClientCertificate, RawLimits, RawOauth, RawServer};

/// Clocks of authorization servers may differ so much from ours, unless the settings say otherwise.
const LEEWAY_DEFAULT: Duration = Duration::from_secs(30);
/// More would keep expired tokens alive, which is not what a leeway is for.
const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Who is let in, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessConfig {
    /// Bearer tokens, if they are accepted.
    pub oauth: Option<OauthConfig>,
    /// Proxies whose `X-Forwarded-For` and client certificate header are believed.
    pub trusted_proxies: Vec<Network>,
    /// What a proxy must say of the client's certificate, if that is demanded.
    pub client_certificate: Option<ClientCertificate>,
    /// How often callers may come.
    pub rates: Rates,
}

/// Which bearer tokens are accepted (RFC 9068).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthConfig {
    /// `iss` must be this.
    pub issuer: String,
    /// `aud` must contain this.
    pub audience: String,
    /// Where the authorization server's public keys are.
    pub jwks: JwksSource,
    /// Algorithms of their signatures.
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// Where public keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// In a file.
    File(PathBuf),
    /// Behind an HTTP URL.
    Url(Url),
}

/// A header in which a proxy says that it verified the client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its name.
    pub header: String,
    /// What it says.
    pub value: String,
}

/// How often callers may come; `None` is as often as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Requests with one key, or of one client of the authorization server.
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
            let why = "nobody is believed about certificates; name the proxy in server.trusted-proxies";
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
                return refuse(key, "is empty; tokens of anybody would do");
            }
        }
        let jwks = match (raw.jwks_path, raw.jwks_url) {
            (Some(path), None) => JwksSource::File(path),
            (None, Some(url)) => JwksSource::Url(checked_url(&url)?),
            _ => {
                return refuse("jwks-url", "set either `jwks-url` or `jwks-path`, where the public keys are");
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

/// Only signatures with a public key: with an HMAC, whoever can check a token can make one.
fn algorithm(name: &str) -> Result<Algorithm, ConfigError> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let all = [ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512];
    let found = all.into_iter().find(|algorithm| format!("{algorithm:?}") == name);
    found.ok_or_else(|| {
        let why = format!("cannot use `{name}`; choose among {all:?}, which verify with a public key");
        ConfigError::at("oauth.algorithms", why)
    })
}

fn checked_url(url: &str) -> Result<Url, ConfigError> {
    let refuse = |why: String| ConfigError::at("oauth.jwks-url", why);
    let url: Url = url.parse().map_err(|why| refuse(format!("is no URL: {why}")))?;
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() == "https" || url.scheme() == "http" && loopback {
        true => Ok(url),
        false => Err(refuse(
            "must begin with https: whoever changes the keys on the way can make tokens".to_owned(),
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
    fn what_would_let_anybody_in_is_refused() {
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
        ] {
            let error = load(file).unwrap_err();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }
}
