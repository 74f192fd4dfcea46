//! Authentication, authorization and rate limits: API keys, bearer tokens, client certificates behind a proxy.
//!
//! All of it is one value, `Access`, which a reload of the settings replaces as a whole. Knows nothing of HTTP:
//! `http/api/auth.rs` reads the headers and turns refusals into responses.
//!
//! The time of a refusal reveals nothing about keys. Every key of every pool is compared, in constant time, even after a
//! match. The comparison includes the key's times, so an expired key cannot be told from one that never existed. Tokens are
//! verified with public keys only: there is no secret to reveal.

mod address;
mod identity;
mod jwks;
mod rate;
mod today;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use subtle::Choice;
use thiserror::Error;

use crate::base::clock::Clock;
use crate::config::{AccessConfig, ClientCertificate, Rates};
use crate::model::api_key::{ApiKey, ApiKeyHash, Scope, Scopes};
use crate::model::pool::PoolId;
pub use identity::Identity;
use rate::{Failures, Limiter};
pub use today::{Today, UsedUp};
use token::{TokenRefused, Tokens};

/// Decides who may do what, and how often.
pub struct Access {
    keys: Vec<Key>,
    admins: Vec<Admin>,
    tokens: Option<Arc<Tokens>>,
    limits: Arc<Limits>,
    settings: AccessConfig,
    clock: Clock,
}

/// One key of one pool.
#[derive(Clone)]
struct Key {
    pool: PoolId,
    key: ApiKey,
    name: Arc<str>,
    identity: Identity,
}

/// One key that may make pools and keys.
#[derive(Clone)]
struct Admin {
    key: ApiKey,
    name: Arc<str>,
    identity: Identity,
}

/// The counters of callers. They survive a reload that leaves the rates unchanged.
struct Limits {
    of_callers: Option<Limiter<Identity>>,
    of_addresses: Option<Limiter<IpAddr>>,
    of_failures: Option<Failures>,
}

/// The credentials and addresses of a request.
#[derive(Default)]
pub struct Credentials<'a> {
    /// The peer address of the connection, if it has one.
    pub peer: Option<IpAddr>,
    /// The values of `X-Forwarded-For`, in order.
    pub forwarded_for: Vec<&'a str>,
    /// The value of the header [`Access::certificate_header`], if it was sent exactly once.
    pub client_certificate: Option<&'a [u8]>,
    /// An API key. If present, the token is ignored.
    pub api_key: Option<&'a [u8]>,
    /// A bearer token.
    pub token: Option<&'a str>,
}

/// An authenticated caller.
#[derive(Debug)]
pub struct Caller {
    identity: Identity,
    name: Arc<str>,
    rights: Vec<(PoolId, Scopes)>,
    with_token: bool,
}

/// Why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The request has neither key nor token.
    #[error("no credential")]
    Missing,
    /// The API key does not exist, or is not valid now.
    #[error("unknown API key")]
    InvalidKey,
    /// The token is not acceptable.
    #[error("bearer token not accepted")]
    InvalidToken,
    /// The token cannot be verified: the authorization server's keys could never be fetched.
    #[error("the keys that verify bearer tokens are not known")]
    KeysUnknown,
    /// The API key is for pools, not for their administration.
    #[error("no key for administration")]
    NotAdmin,
    /// The proxy did not confirm a client certificate.
    #[error("no verified client certificate")]
    NoCertificate,
    /// The caller sent too many requests.
    #[error("too many requests")]
    TooMany {
        /// How long to wait before a retry.
        retry_after: Duration,
    },
}

/// Why a caller may not do this in that pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The API key is for other pools: answered as if it did not exist.
    OtherPool,
    /// The caller has other scopes in that pool.
    LacksScope,
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The file with the public keys cannot be used.
    #[error("oauth.jwks-path: {0}; it must hold the authorization server's JWK Set")]
    Jwks(jwks::JwksError),
    /// There is no HTTP client for the public keys.
    #[error("oauth.jwks-url: cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
}

impl Access {
    /// Access with these keys and settings. Takes over the counters and fetched keys of `before` where its settings are the
    /// same. No request waits longer than `patience` for public keys.
    pub fn new(
        keys: Vec<(PoolId, ApiKey)>,
        settings: AccessConfig,
        patience: Duration,
        clock: Clock,
        before: Option<&Self>,
    ) -> Result<Self, AccessError> {
        let limits = match before.filter(|before| before.settings.rates == settings.rates) {
            Some(before) => Arc::clone(&before.limits),
            None => Arc::new(Limits::new(&settings.rates)),
        };
        let tokens = match (before.filter(|before| before.settings.oauth == settings.oauth), &settings.oauth)
        {
            (Some(before), _) => before.tokens.clone(),
            (None, Some(oauth)) => Some(Arc::new(Tokens::new(oauth, patience, clock.clone())?)),
            (None, None) => None,
        };
        let key = |(pool, key): (PoolId, ApiKey)| {
            let (name, identity) = (key.name.as_str().into(), Identity::of_api_key(&key.hash));
            Key { pool, key, name, identity }
        };
        let keys = keys.into_iter().map(key).collect();
        Ok(Self { keys, admins: Vec::new(), tokens, limits, settings, clock })
    }

    /// The same access, with these keys for administration.
    pub fn administered_by(self, keys: impl IntoIterator<Item = ApiKey>) -> Self {
        let admin = |key: ApiKey| {
            let (name, identity) = (key.name.as_str().into(), Identity::of_api_key(&key.hash));
            Admin { key, name, identity }
        };
        Self { admins: keys.into_iter().map(admin).collect(), ..self }
    }

    /// Authenticates the holder of a key for administration. A client certificate is not needed: its address is no issuer's.
    pub fn admit_admin(&self, credentials: &Credentials<'_>) -> Result<Caller, Refused> {
        let address = self.count_address(credentials)?;
        let admin = match credentials.api_key {
            Some(key) => self.admin_of(key).ok_or_else(|| match self.holder_of(key) {
                Some(_) => Refused::NotAdmin,
                None => Refused::InvalidKey,
            }),
            None => Err(Refused::Missing),
        };
        let caller = admin.inspect_err(|refused| self.count_failure(*refused, address))?;
        if let Some(limiter) = &self.limits.of_callers {
            limiter.check(&caller.identity).map_err(too_many)?;
        }
        Ok(caller)
    }

    fn admin_of(&self, key: &[u8]) -> Option<Caller> {
        let (hash, now) = (ApiKeyHash::of_bytes(key), self.clock.now());
        let mut found = None;
        // No shortcut, as in `holder_of`.
        for admin in &self.admins {
            let fits = admin.key.hash.matches(&hash) & Choice::from(u8::from(admin.key.is_valid_at(now)));
            if bool::from(fits) {
                found.get_or_insert(admin);
            }
        }
        let Admin { name, identity, .. } = found?;
        Some(Caller { identity: *identity, name: Arc::clone(name), rights: Vec::new(), with_token: false })
    }

    /// The header in which a trusted proxy confirms the client's certificate, if certificates are required.
    pub fn certificate_header(&self) -> Option<&str> {
        self.settings.client_certificate.as_ref().map(|certificate| certificate.header.as_str())
    }

    /// The client's address: that of the connection, or what trusted proxies report.
    pub fn client_address(&self, peer: IpAddr, forwarded_for: &[&str]) -> IpAddr {
        address::client(peer, forwarded_for, &self.settings.trusted_proxies)
    }

    /// The address under which the connections of this peer are counted; `None` for a trusted proxy, which has many clients.
    pub fn counted(&self, peer: IpAddr) -> Option<IpAddr> {
        let trusted = address::is_trusted(peer, &self.settings.trusted_proxies);
        (!trusted).then(|| address::counted_as(peer.to_canonical()))
    }

    /// Whether bearer tokens are accepted.
    pub fn accepts_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Fetches the public keys before the first token comes, so that the log shows early if that fails.
    pub async fn prepare(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.prepare().await;
        }
    }

    /// Authenticates a caller. Fails if the credentials are invalid or a rate is exceeded.
    pub async fn admit(&self, credentials: &Credentials<'_>) -> Result<Caller, Refused> {
        let address = self.count_address(credentials)?;
        self.check_certificate(credentials)?;
        let caller = match (credentials.api_key, credentials.token, &self.tokens) {
            (Some(key), _, _) => self.holder_of(key).ok_or(Refused::InvalidKey),
            (None, Some(token), Some(tokens)) => Box::pin(tokens.verify(token)).await.map_err(|why| {
                tracing::debug!(%why, "a bearer token was refused");
                match why {
                    TokenRefused::NoKeys => Refused::KeysUnknown,
                    _ => Refused::InvalidToken,
                }
            }),
            _ => Err(Refused::Missing),
        };
        let caller = caller.inspect_err(|refused| self.count_failure(*refused, address))?;
        if let Some(limiter) = &self.limits.of_callers {
            limiter.check(&caller.identity).map_err(too_many)?;
        }
        Ok(caller)
    }

    /// Counts the request under its address and returns the address. Fails if the rate is exceeded.
    fn count_address(&self, credentials: &Credentials<'_>) -> Result<Option<IpAddr>, Refused> {
        let Limits { of_addresses, of_failures, .. } = &*self.limits;
        if of_addresses.is_none() && of_failures.is_none() {
            return Ok(None);
        }
        let Some(peer) = credentials.peer else { return Ok(None) };
        let client = address::client(peer, &credentials.forwarded_for, &self.settings.trusted_proxies);
        let counted = address::counted_as(client);
        if let Some(failures) = of_failures {
            failures.check(&counted).map_err(too_many)?;
        }
        if let Some(limiter) = of_addresses {
            limiter.check(&counted).map_err(too_many)?;
        }
        Ok(Some(counted))
    }

    /// Fails if the settings require a client certificate, and no trusted proxy confirms that of this request.
    pub fn check_certificate(&self, credentials: &Credentials<'_>) -> Result<(), Refused> {
        let Some(ClientCertificate { value, .. }) = &self.settings.client_certificate else { return Ok(()) };
        let proxies = &self.settings.trusted_proxies;
        let believed = credentials.peer.is_some_and(|peer| address::is_trusted(peer, proxies));
        let verified = credentials.client_certificate == Some(value.as_bytes());
        if believed && verified { Ok(()) } else { Err(Refused::NoCertificate) }
    }

    fn holder_of(&self, key: &[u8]) -> Option<Caller> {
        let (hash, now) = (ApiKeyHash::of_bytes(key), self.clock.now());
        // No shortcut: the same steps for each key, whether it matches or not and whether it is valid or not.
        let fits = |key: &ApiKey| key.hash.matches(&hash) & Choice::from(u8::from(key.is_valid_at(now)));
        let (mut first, mut rights) = (None, Vec::new());
        for of_pool in self.keys.iter().filter(|key| bool::from(fits(&key.key))) {
            first.get_or_insert(of_pool);
            rights.push((of_pool.pool.clone(), of_pool.key.scopes));
        }
        let Key { identity, name, .. } = first?;
        Some(Caller { identity: *identity, name: Arc::clone(name), rights, with_token: false })
    }

    fn count_failure(&self, refused: Refused, address: Option<IpAddr>) {
        let guessed = matches!(refused, Refused::InvalidKey | Refused::InvalidToken);
        if let (true, Some(address), Some(failures)) = (guessed, address, &self.limits.of_failures) {
            failures.count(&address);
        }
    }
}

impl Limits {
    fn new(rates: &Rates) -> Self {
        Self {
            of_callers: rates.requests_per_key.map(Limiter::new),
            of_addresses: rates.requests_per_address.map(Limiter::new),
            of_failures: rates.failures_per_address.map(Failures::new),
        }
    }
}

impl Caller {
    /// The caller's identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The caller's name in logs and the audit trail: that of the key or `key:<8 digits of its hash>`, or `jwt:<client>`.
    /// Several callers may share a name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the caller used a bearer token.
    pub fn has_token(&self) -> bool {
        self.with_token
    }

    /// Checks that the caller has this scope in that pool.
    pub fn may(&self, scope: Scope, pool: &PoolId) -> Result<(), Denied> {
        let mut of_pool =
            self.rights.iter().filter(|(of, _)| of == pool).map(|(_, scopes)| *scopes).peekable();
        if of_pool.peek().is_none() && !self.with_token {
            return Err(Denied::OtherPool);
        }
        let scopes = of_pool.fold(Scopes::default(), Scopes::union);
        if scopes.contains(scope) { Ok(()) } else { Err(Denied::LacksScope) }
    }
}

fn too_many(retry_after: Duration) -> Refused {
    Refused::TooMany { retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn access(settings: &str) -> (Access, Clock) {
        let config = Config::load(Some(settings), std::iter::empty()).unwrap();
        let keys = config
            .pools
            .iter()
            .flat_map(|(id, pool)| pool.api_keys.iter().map(|key| (id.clone(), key.clone())));
        let clock = Clock::set_to(crate::base::clock::Timestamp::from_secs(1_800_000_000));
        let patience = Duration::from_secs(1);
        (Access::new(keys.collect(), config.access.clone(), patience, clock.clone(), None).unwrap(), clock)
    }

    async fn with_key(access: &Access, key: &str, peer: &str) -> Result<Caller, Refused> {
        let credentials =
            Credentials { peer: peer.parse().ok(), api_key: Some(key.as_bytes()), ..Credentials::default() };
        access.admit(&credentials).await
    }

    const POOLS: &str = "status-list-pools:
  a: { api-keys: [ { key: both, name: one, scopes: [read, update] }, { key: soon, not-before: 2027-01-16T00:00:00Z } ] }
  b: { api-keys: [ both, { key: late, not-after: 2027-01-15T08:00:10Z } ] }";

    #[tokio::test]
    async fn a_key_opens_its_pools_with_its_scopes_in_its_time() {
        let (access, clock) = access(POOLS);
        let (a, b): (PoolId, PoolId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let both = with_key(&access, "both", "").await.unwrap();
        assert_eq!(&**both.name(), "one");
        assert_eq!(both.may(Scope::Read, &a), Ok(()));
        assert_eq!(both.may(Scope::Update, &a), Ok(()));
        assert_eq!(both.may(Scope::Allocate, &a), Err(Denied::LacksScope));
        assert_eq!(both.may(Scope::Allocate, &b), Ok(()));
        let late = with_key(&access, "late", "").await.unwrap();
        assert_eq!(late.may(Scope::Read, &a), Err(Denied::OtherPool));
        assert!(with_key(&access, "soon", "").await.is_err());
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(with_key(&access, "late", "").await.unwrap_err(), Refused::InvalidKey);
        assert!(with_key(&access, "soon", "").await.is_ok());
        assert_eq!(access.admit(&Credentials::default()).await.unwrap_err(), Refused::Missing);
    }

    /// Measures not the time, which depends on the machine, but whether it depends on the key.
    #[test]
    fn the_time_of_a_refusal_does_not_depend_on_the_key() {
        let good = (0..2000).map(|n| format!("good-{n}"));
        let ended = |key: &str| format!("{{ key: {key}, not-after: 2020-01-01T00:00:00Z }}");
        let keys: Vec<_> =
            std::iter::once(ended("first")).chain(good).chain(std::iter::once(ended("last"))).collect();
        let settings = format!("status-list-pools: {{ p: {{ api-keys: [{}] }} }}", keys.join(", "));
        let (access, clock) = access(&settings);
        let ours = |key: &str| access.holder_of(key.as_bytes()).is_none();
        // The control: it stops at the first key that matches.
        let ends_early = |key: &str| {
            let (hash, now) = (ApiKeyHash::of(key), clock.now());
            let found = access.keys.iter().find(|Key { key, .. }| bool::from(key.hash.matches(&hash)));
            found.is_none_or(|Key { key, .. }| !key.is_valid_at(now))
        };
        let slowest_to_fastest = |is_refused: &dyn Fn(&str) -> bool| {
            let mut times = ["first", "last", "never"].map(|key| (key, Vec::new()));
            for _ in 0..101 {
                for (key, times) in &mut times {
                    let begun = std::time::Instant::now();
                    assert!(is_refused(key));
                    times.push(begun.elapsed());
                }
            }
            // The shortest of each: what else runs on the machine makes them only longer.
            let mut shortest = times.map(|(_, times)| times.into_iter().min().unwrap().as_secs_f64());
            shortest.sort_unstable_by(f64::total_cmp);
            shortest[2] / shortest[0]
        };
        let (ours, control) = (slowest_to_fastest(&ours), slowest_to_fastest(&ends_early));
        assert!(ours < 1.5, "{ours}: the time of a refusal depends on the key");
        assert!(control > 1.5, "the control: {control}");
    }

    #[tokio::test]
    async fn rates_are_counted_apart_and_outlive_a_reload() {
        let (access, clock) =
            access(&format!("limits: {{ requests-per-key: 2/h, failures-per-address: 2/h }}\n{POOLS}"));
        for _ in 0..2 {
            assert!(with_key(&access, "both", "10.0.0.1").await.is_ok());
        }
        let keys = access.keys.iter().map(|key| (key.pool.clone(), key.key.clone())).collect();
        let again = Access::new(keys, access.settings.clone(), Duration::ZERO, clock, Some(&access)).unwrap();
        let Err(Refused::TooMany { retry_after }) = with_key(&again, "both", "10.0.0.2").await else {
            panic!("the third within an hour")
        };
        assert!(
            retry_after > Duration::from_secs(1700) && retry_after <= Duration::from_secs(1800),
            "{retry_after:?}"
        );
        assert!(with_key(&again, "late", "10.0.0.1").await.is_ok(), "another key");
        for _ in 0..3 {
            assert_eq!(with_key(&again, "wrong", "10.0.0.3").await.unwrap_err(), Refused::InvalidKey);
        }
        let right = with_key(&again, "late", "10.0.0.3").await;
        assert!(
            matches!(right, Err(Refused::TooMany { .. })),
            "the right key is refused too, so guessing is no faster"
        );
        assert!(with_key(&again, "late", "10.0.0.4").await.is_ok(), "another address");
    }

    #[tokio::test]
    async fn keys_of_one_name_do_not_share_a_rate() {
        let pools = "status-list-pools:
  a: { api-keys: [ { key: first, name: ops }, shared ] }
  b: { api-keys: [ { key: second, name: ops }, { key: shared, name: other } ] }";
        let (access, _) = access(&format!("limits: {{ requests-per-key: 1/h }}\n{pools}"));
        for key in ["first", "second", "shared"] {
            assert!(with_key(&access, key, "").await.is_ok(), "{key}");
            let again = with_key(&access, key, "").await;
            assert!(matches!(again, Err(Refused::TooMany { .. })), "the control: {key} a second time");
        }
    }

    #[tokio::test]
    async fn certificates_are_believed_from_trusted_proxies_only() {
        let settings =
            "server: { trusted-proxies: [10.0.0.1], client-certificate: { header: X-V, value: SUCCESS } }";
        let (access, _) = access(&format!("{settings}\n{POOLS}"));
        let admit = |peer: &str, said: Option<&'static [u8]>| {
            let (peer, api_key) = (peer.parse().ok(), Some(&b"both"[..]));
            let credentials =
                Credentials { peer, api_key, client_certificate: said, ..Credentials::default() };
            let access = &access;
            async move { access.admit(&credentials).await.map(|_| ()) }
        };
        assert_eq!(admit("10.0.0.1", Some(b"SUCCESS")).await, Ok(()));
        for (peer, said) in
            [("10.0.0.1", Some(&b"NONE"[..])), ("10.0.0.1", None), ("10.0.0.2", Some(b"SUCCESS"))]
        {
            assert_eq!(admit(peer, said).await, Err(Refused::NoCertificate), "{peer}");
        }
    }
}
