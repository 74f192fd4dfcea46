//! The public keys of an authorization server (RFC 7517), from a file or a URL, kept and refreshed when tokens need them.
//!
//! There is no background task: a request that needs newer keys fetches them, bounded in time, while others go on with the
//! present keys. If fetching fails, the latest keys stay.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Mutex;

use super::AccessError;
use crate::base::clock::{Clock, Timestamp};
use crate::config::JwksSource;

/// How long the keys of a URL are used before they are fetched again.
const URL_FRESH: Duration = Duration::from_secs(600);
/// The shortest time between two requests to a URL, whatever tokens demand.
const URL_PAUSE: Duration = Duration::from_secs(60);
/// How long a file counts as unchanged.
const FILE_PAUSE: Duration = Duration::from_secs(1);
/// Keys older than this are not used while newer ones are being fetched.
const STALE: Duration = Duration::from_secs(3600);
/// The longest wait for a key set.
const FETCH_MAX: Duration = Duration::from_secs(5);
const BYTES_MAX: usize = 256 * 1024;
const KEYS_MAX: usize = 100;

/// The present keys, and the source of newer ones.
pub(super) struct KeySet {
    shared: Arc<Shared>,
    /// When newer keys were last fetched. Locked during a fetch.
    asked: Mutex<Option<Timestamp>>,
    patience: Duration,
    clock: Clock,
}

struct Shared {
    source: Source,
    keys: ArcSwap<Keys>,
}

#[derive(Default)]
struct Keys {
    keys: Vec<Key>,
    read_at: Option<Timestamp>,
}

/// A key that verifies signatures, and its algorithms.
struct Key {
    kid: String,
    algorithms: &'static [Algorithm],
    /// The algorithm that the key itself names.
    only: Option<Algorithm>,
    key: Arc<DecodingKey>,
}

enum Source {
    File(PathBuf),
    Url(Client, Url),
}

/// Why a key set cannot be used.
#[derive(Debug, Error)]
pub enum JwksError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The server cannot be reached, or its response breaks off.
    #[error("cannot fetch the key set: {0}")]
    Http(#[from] reqwest::Error),
    /// The server sends another status.
    #[error("the key set's server answers {0}")]
    Status(StatusCode),
    /// The server does not respond in time.
    #[error("the key set did not come within {0:?}")]
    TooSlow(Duration),
    /// The key set is too large.
    #[error("the key set has more than {BYTES_MAX} bytes or {KEYS_MAX} keys")]
    TooLarge,
    /// The document is not JSON with `keys`.
    #[error("this is not a JWK Set: {0}")]
    Malformed(#[from] serde_json::Error),
    /// No key can verify a token.
    #[error(
        "no key in the set can be used: each needs a `kid` and must be EC P-256, P-384, Ed25519 or RSA for signatures"
    )]
    NoKey,
}

impl KeySet {
    /// The keys of this source. Reads a file at once; fetches a URL when the first token comes.
    pub(super) fn open(source: &JwksSource, patience: Duration, clock: Clock) -> Result<Self, AccessError> {
        let (source, keys) = match source {
            JwksSource::File(path) => {
                let keys = read_file(path).and_then(|bytes| parse(&bytes)).map_err(AccessError::Jwks)?;
                (Source::File(path.clone()), Keys { keys, read_at: Some(clock.now()) })
            }
            JwksSource::Url(url) => (Source::Url(client(url)?, url.clone()), Keys::default()),
        };
        let shared = Arc::new(Shared { source, keys: ArcSwap::from_pointee(keys) });
        Ok(Self { shared, asked: Mutex::default(), patience: patience.min(FETCH_MAX), clock })
    }

    /// Fetches the keys if there are none yet.
    pub(super) async fn prepare(&self) {
        if self.shared.keys.load().read_at.is_none() {
            self.renew(&mut *self.asked.lock().await).await;
        }
    }

    /// Whether keys were ever read.
    pub(super) fn are_known(&self) -> bool {
        self.shared.keys.load().read_at.is_some()
    }

    /// The key with this id, if it fits this algorithm.
    pub(super) async fn find(&self, kid: &str, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let keys = self.shared.keys.load_full();
        let (found, age) = (keys.find(kid, algorithm), keys.age(self.clock.now()));
        if found.is_some() && age < self.shared.source.fresh() {
            return found;
        }
        let mut asked = match &found {
            // Another request is fetching, and this key was valid a moment ago.
            Some(_) if age < STALE => match self.asked.try_lock() {
                Ok(asked) => asked,
                Err(_) => return found,
            },
            _ => self.asked.lock().await,
        };
        let pause = self.shared.source.pause();
        if asked.is_none_or(|asked| elapsed(asked, self.clock.now()) >= pause) {
            self.renew(&mut asked).await;
        }
        self.shared.keys.load().find(kid, algorithm)
    }

    /// Reads the source once. If that fails, the keys stay as they are.
    async fn renew(&self, asked: &mut Option<Timestamp>) {
        let now = self.clock.now();
        *asked = Some(now);
        let (shared, patience) = (Arc::clone(&self.shared), self.patience);
        // In a task of its own: if this caller goes away, others still need the result.
        let renewal = tokio::spawn(async move {
            let read = tokio::time::timeout(patience, shared.source.read()).await;
            let read = read.unwrap_or(Err(JwksError::TooSlow(patience)));
            match read.and_then(|bytes| parse(&bytes)) {
                Ok(keys) => shared.keys.store(Arc::new(Keys { keys, read_at: Some(now) })),
                Err(error) => {
                    let kept = shared.keys.load().keys.len();
                    tracing::warn!(%error, keys.kept = kept, "cannot renew the keys of the authorization server (oauth)");
                }
            }
        });
        if renewal.await.is_err() {
            tracing::error!("renewing the keys of the authorization server ended early");
        }
    }
}

impl Source {
    fn fresh(&self) -> Duration {
        match self {
            Self::File(_) => FILE_PAUSE,
            Self::Url(..) => URL_FRESH,
        }
    }

    fn pause(&self) -> Duration {
        match self {
            Self::File(_) => FILE_PAUSE,
            Self::Url(..) => URL_PAUSE,
        }
    }

    async fn read(&self) -> Result<Vec<u8>, JwksError> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
                read.expect("reading a file does not panic")
            }
            Self::Url(client, url) => fetch(client, url.clone()).await,
        }
    }
}

impl Keys {
    fn find(&self, kid: &str, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let fits = |key: &&Key| {
            let named = key.only.is_none_or(|only| only == algorithm);
            key.kid == kid && named && key.algorithms.contains(&algorithm)
        };
        self.keys.iter().find(fits).map(|key| Arc::clone(&key.key))
    }

    fn age(&self, now: Timestamp) -> Duration {
        self.read_at.map_or(Duration::MAX, |read_at| elapsed(read_at, now))
    }
}

/// The age of keys. If the clock was set back, they count as old: that must not keep old keys alive.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    if now < since { Duration::MAX } else { now.since(since) }
}

fn client(url: &Url) -> Result<Client, AccessError> {
    let client = Client::builder()
        // A redirect may lead to anyone. Each server thread has a runtime of its own, and connections cannot leave it.
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(FETCH_MAX)
        .user_agent(concat!("statuslist/", env!("CARGO_PKG_VERSION")));
    // Without TLS the server is on this machine, and a proxy's localhost is another.
    let client = if url.scheme() == "http" { client.no_proxy() } else { client };
    client.build().map_err(AccessError::Client)
}

async fn fetch(client: &Client, url: Url) -> Result<Vec<u8>, JwksError> {
    let mut response = client.get(url).send().await.map_err(reqwest::Error::without_url)?;
    if response.status() != StatusCode::OK {
        return Err(JwksError::Status(response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err(JwksError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>, JwksError> {
    let failed = |error| JwksError::File(path.clone(), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > BYTES_MAX { Err(JwksError::TooLarge) } else { Ok(bytes) }
}

/// The usable keys of a set. Ignores keys of unknown kinds, as the RFC demands.
fn parse(bytes: &[u8]) -> Result<Vec<Key>, JwksError> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes)?;
    if set.keys.len() > KEYS_MAX {
        return Err(JwksError::TooLarge);
    }
    let keys: Vec<_> =
        set.keys.into_iter().filter_map(|key| Key::of(&serde_json::from_value(key).ok()?)).collect();
    if keys.is_empty() { Err(JwksError::NoKey) } else { Ok(keys) }
}

impl Key {
    /// Reads a public key for signatures. Ignores symmetric keys.
    fn of(jwk: &Jwk) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let algorithms: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => &[ES256],
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => &[ES384],
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => &[EdDSA],
            AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
            _ => return None,
        };
        let common = &jwk.common;
        let for_signatures = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
        let operations = common.key_operations.as_ref();
        let may_verify = operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let only = common.key_algorithm.as_ref().map(signature_algorithm);
        let fits = only.is_none_or(|only| only.is_some_and(|only| algorithms.contains(&only)));
        if !for_signatures || !may_verify || !fits {
            return None;
        }
        let key = Arc::new(DecodingKey::from_jwk(jwk).ok()?);
        Some(Self { kid: common.key_id.clone()?, algorithms, only: only.flatten(), key })
    }
}

fn signature_algorithm(algorithm: &KeyAlgorithm) -> Option<Algorithm> {
    algorithm.to_string().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    #[test]
    fn only_public_keys_for_signatures_are_used() {
        let usable = |members: &str| parse(format!(r#"{{"keys":[{{{members}}}]}}"#).as_bytes()).is_ok();
        assert!(usable(&format!(r#"{EC},"kid":"a""#)));
        assert!(usable(&format!(r#"{EC},"kid":"a","use":"sig","alg":"ES256","key_ops":["verify"]"#)));
        assert!(!usable(EC), "no kid");
        assert!(!usable(&format!(r#"{EC},"kid":"a","use":"enc""#)));
        assert!(!usable(&format!(r#"{EC},"kid":"a","alg":"HS256""#)));
        assert!(!usable(&format!(r#"{EC},"kid":"a","alg":"ES384""#)));
        assert!(!usable(&format!(r#"{EC},"kid":"a","key_ops":["encrypt"]"#)));
        assert!(!usable(r#""kty":"oct","k":"c2VjcmV0","kid":"a""#));
        assert!(!usable(r#""kty":"new","kid":"a""#));
        let set = format!(r#"{{"keys":[{{"kty":"new","kid":"a"}},{{{EC},"kid":"b"}}]}}"#);
        let keys = Keys { keys: parse(set.as_bytes()).unwrap(), read_at: None };
        assert!(keys.find("b", Algorithm::ES256).is_some(), "beside a key of unknown kind");
        for (kid, algorithm) in [("b", Algorithm::RS256), ("b", Algorithm::HS256), ("a", Algorithm::ES256)] {
            assert!(keys.find(kid, algorithm).is_none(), "{kid} {algorithm:?}");
        }
    }

    #[test]
    fn other_documents_than_key_sets_are_refused() {
        assert!(matches!(parse(b"{}"), Err(JwksError::Malformed(_))));
        assert!(matches!(parse(br#"{"keys":[]}"#), Err(JwksError::NoKey)));
        let many = format!(r#"{{"keys":[{}1]}}"#, "1,".repeat(KEYS_MAX));
        assert!(matches!(parse(many.as_bytes()), Err(JwksError::TooLarge)));
        assert!(matches!(read_file(&"/none".into()), Err(JwksError::File(..))));
        assert!(matches!(read_file(&"/dev/zero".into()), Err(JwksError::TooLarge)));
    }

    #[test]
    fn a_clock_set_back_makes_keys_old() {
        let at = Timestamp::from_secs;
        assert_eq!(elapsed(at(10), at(15)), Duration::from_secs(5));
        assert_eq!(elapsed(at(10), at(9)), Duration::MAX);
    }
}
