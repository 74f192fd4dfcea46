//! Who may do what, and how often: API keys, bearer tokens, client certificates behind a proxy, and rates.
//!
//! All of it is one value, `Access`, so that a reload of the settings replaces it whole. Knows nothing of HTTP: `http/api/auth.rs`
//! reads the headers and turns refusals into answers.
//!
//! How long a refusal takes tells nothing of a key. Every key of every pool is compared, in constant time, whichever fits;
//! whether a key is within its time is part of that comparison, so one that has ended cannot be told from one that never was.
//! Tokens are verified with public keys only, so there is no secret whose bytes their refusals could tell.

mod address;
mod identity;
mod jwks;
mod rate;
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
use token::{TokenRefused, Tokens};

/// Who may do what, and how often.
pub struct Access {
    keys: Vec<Key>,
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

/// What was counted of callers so far; outlives a reload that leaves the rates as they are.
struct Limits {
    of_callers: Option<Limiter<Identity>>,
    of_addresses: Option<Limiter<IpAddr>>,
    of_failures: Option<Failures>,
}

/// What came with a request.
#[derive(Default)]
pub struct Presented<'a> {
    /// The other end of the connection, if it has an address.
    pub peer: Option<IpAddr>,
    /// The values of `X-Forwarded-For`, in their order.
    pub forwarded_for: Vec<&'a str>,
    /// What the header of [`Access::certificate_header`] says, if it came exactly once.
    pub client_certificate: Option<&'a [u8]>,
    /// An API key. With one, a token is not looked at.
    pub api_key: Option<&'a [u8]>,
    /// A bearer token.
    pub token: Option<&'a str>,
}

/// Somebody who was let in.
#[derive(Debug)]
pub struct Caller {
    identity: Identity,
    name: Arc<str>,
    rights: Vec<(PoolId, Scopes)>,
    with_token: bool,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Neither key nor token.
    #[error("no credential")]
    Missing,
    /// No such key, or not now.
    #[error("unknown API key")]
    InvalidKey,
    /// Not a token that we accept.
    #[error("bearer token not accepted")]
    InvalidToken,
    /// Nobody can tell whether the token is good: the authorization server's keys were never to be had.
    #[error("the keys that verify bearer tokens are not known")]
    KeysUnknown,
    /// The proxy did not say that it verified a certificate.
    #[error("no verified client certificate")]
    NoCertificate,
    /// Too often.
    #[error("too many requests")]
    TooMany {
        /// When it is worth another try.
        retry_after: Duration,
    },
}

/// Why a caller may not do this in that pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// An API key of other pools: as good as none.
    OtherPool,
    /// Something else would be allowed.
    LacksScope,
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The file with the public keys.
    #[error("oauth.jwks-path: {0}; it must hold the authorization server's JWK Set")]
    Jwks(jwks::JwksError),
    /// The HTTP client of the public keys.
    #[error("oauth.jwks-url: no HTTP client can be made: {0}")]
    Client(reqwest::Error),
}

impl Access {
    /// Access by these keys and settings. What was counted and fetched so far is taken over from the one before, where its
    /// settings were the same. No request waits longer than `patience` for public keys.
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
        Ok(Self { keys, tokens, limits, settings, clock })
    }

    /// The header in which a trusted proxy tells of the client's certificate, if that is demanded.
    pub fn certificate_header(&self) -> Option<&str> {
        self.settings.client_certificate.as_ref().map(|certificate| certificate.header.as_str())
    }

    /// Where a request comes from: the other end of the connection, or what trusted proxies say.
    pub fn client_address(&self, peer: IpAddr, forwarded_for: &[&str]) -> IpAddr {
        address::client(peer, forwarded_for, &self.settings.trusted_proxies)
    }

    /// Whether bearer tokens are accepted at all.
    pub fn accepts_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Asks for the public keys ahead of the first token, so that the log says early if they cannot be had.
    pub async fn prepare(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.prepare().await;
        }
    }

    /// Who presents this, if they may come in now.
    pub async fn admit(&self, presented: &Presented<'_>) -> Result<Caller, Refused> {
        let address = self.count_address(presented)?;
        self.check_certificate(presented)?;
        let caller = match (presented.api_key, presented.token, &self.tokens) {
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

    /// The address that the request is counted under; refused if it came too often.
    fn count_address(&self, presented: &Presented<'_>) -> Result<Option<IpAddr>, Refused> {
        let Limits { of_addresses, of_failures, .. } = &*self.limits;
        if of_addresses.is_none() && of_failures.is_none() {
            return Ok(None);
        }
        let Some(peer) = presented.peer else { return Ok(None) };
        let client = address::client(peer, &presented.forwarded_for, &self.settings.trusted_proxies);
        let counted = address::counted_as(client);
        if let Some(failures) = of_failures {
            failures.check(&counted).map_err(too_many)?;
        }
        if let Some(limiter) = of_addresses {
            limiter.check(&counted).map_err(too_many)?;
        }
        Ok(Some(counted))
    }

    fn check_certificate(&self, presented: &Presented<'_>) -> Result<(), Refused> {
        let Some(ClientCertificate { value, .. }) = &self.settings.client_certificate else { return Ok(()) };
        let proxies = &self.settings.trusted_proxies;
        let believed = presented.peer.is_some_and(|peer| address::is_trusted(peer, proxies));
        let verified = presented.client_certificate == Some(value.as_bytes());
        if believed && verified { Ok(()) } else { Err(Refused::NoCertificate) }
    }

    fn holder_of(&self, key: &[u8]) -> Option<Caller> {
        let (hash, now) = (ApiKeyHash::of_bytes(key), self.clock.now());
        // No shortcut: the same steps for each key, whichever fits and whether or not it is still valid.
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
    /// What tells them from every other caller.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What logs and the audit trail call them: the name of their key or `key:<8 digits of its hash>`, or `jwt:<client>`. Several
    /// may have one name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether they came with a bearer token, not with an API key.
    pub fn has_token(&self) -> bool {
        self.with_token
    }

    /// Whether they may do this in that pool.
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
        let presented =
            Presented { peer: peer.parse().ok(), api_key: Some(key.as_bytes()), ..Presented::default() };
        access.admit(&presented).await
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
        assert_eq!(access.admit(&Presented::default()).await.unwrap_err(), Refused::Missing);
    }

    /// Not how long it takes, which the machine decides, but whether that depends on the key.
    #[test]
    fn a_refusal_takes_as_long_wherever_a_key_stands_and_whether_or_not_it_ever_was_one() {
        let good = (0..2000).map(|n| format!("good-{n}"));
        let ended = |key: &str| format!("{{ key: {key}, not-after: 2020-01-01T00:00:00Z }}");
        let keys: Vec<_> =
            std::iter::once(ended("first")).chain(good).chain(std::iter::once(ended("last"))).collect();
        let settings = format!("status-list-pools: {{ p: {{ api-keys: [{}] }} }}", keys.join(", "));
        let (access, clock) = access(&settings);
        let ours = |key: &str| access.holder_of(key.as_bytes()).is_none();
        // The control: it ends with the first key that fits.
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
            let mut medians = times.map(|(_, mut times)| {
                times.sort_unstable();
                times[times.len() / 2].as_secs_f64()
            });
            medians.sort_unstable_by(f64::total_cmp);
            medians[2] / medians[0]
        };
        let (ours, control) = (slowest_to_fastest(&ours), slowest_to_fastest(&ends_early));
        assert!(ours < 1.5, "{ours}: the time of a refusal tells of the key");
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
        assert!(matches!(right, Err(Refused::TooMany { .. })), "guessing goes no faster with the right one");
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
            let presented = Presented { peer, api_key, client_certificate: said, ..Presented::default() };
            let access = &access;
            async move { access.admit(&presented).await.map(|_| ()) }
        };
        assert_eq!(admit("10.0.0.1", Some(b"SUCCESS")).await, Ok(()));
        for (peer, said) in
            [("10.0.0.1", Some(&b"NONE"[..])), ("10.0.0.1", None), ("10.0.0.2", Some(b"SUCCESS"))]
        {
            assert_eq!(admit(peer, said).await, Err(Refused::NoCertificate), "{peer}");
        }
    }
}
