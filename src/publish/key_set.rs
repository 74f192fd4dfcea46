//! The published key set, and the time at which a published key begins to sign.
//!
//! One round: write the keys that sign or will sign; once all verifiers can fetch them, switch to each key that has been published
//! for `keys-max-age`; if there was a switch, write the set again. So a verifier that fetched the set within `keys-max-age` always
//! has the key of every published token, and a verifier that fetches it now has the key of every token that is still valid: a key
//! that no longer signs stays until the last of its tokens has expired.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::PoolPublisher;
use crate::base::clock::NumericDate;
use crate::base::stopper::Stopper;
use crate::model::pool::PoolId;
use crate::sign::{Jwk, JwkSet, KeyRing};
use crate::site::folder::{Site, SiteError};
use crate::site::layout::Lock;
use crate::telemetry::metrics::Metrics;

/// How often to check the set, at most and at least: another instance may have removed a key that still signs here.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);

/// The keys of one pool, and who publishes its lists.
#[derive(Clone, Debug)]
pub struct PoolKeys {
    /// The pool.
    pub id: PoolId,
    /// Its keys.
    pub ring: Arc<KeyRing>,
    /// Uploads the set to the buckets.
    pub publisher: Arc<PoolPublisher>,
}

/// Publishes the keys of all pools.
pub struct KeySet {
    site: Site,
    metrics: Arc<Metrics>,
    pools: ArcSwap<Vec<PoolKeys>>,
    visible_for_millis: AtomicU64,
    /// The longest lifetime of a token that was signed since the start.
    lifetime_max_secs: AtomicU64,
    /// The document of which the buckets were last notified.
    told: Mutex<Vec<u8>>,
    wake: Notify,
    /// Whether a round has succeeded since the start, and since pools were added.
    published: watch::Sender<bool>,
}

/// Why the keys are not published.
#[derive(Debug, Error)]
pub enum KeySetError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// An id would be ambiguous.
    #[error(
        "two different keys have the same id `{0}`; give one of them another `signer.kid`, or leave it out"
    )]
    SameKid(String),
}

impl KeySet {
    /// The set of these pools.
    pub fn new(site: Site, metrics: Arc<Metrics>, pools: Vec<PoolKeys>) -> Self {
        let (visible_for_millis, lifetime_max_secs) = (AtomicU64::new(0), AtomicU64::new(0));
        let (told, wake, published) = (Mutex::default(), Notify::new(), watch::Sender::default());
        let pools = ArcSwap::from_pointee(pools);
        Self { site, metrics, pools, visible_for_millis, lifetime_max_secs, told, wake, published }
    }

    /// Sets how long a key must have been published before it signs, and the longest lifetime of a token.
    pub fn set(&self, visible_for: Duration, lifetime_max: Duration) {
        let millis = u64::try_from(visible_for.as_millis()).unwrap_or(u64::MAX);
        self.visible_for_millis.store(millis, Ordering::Relaxed);
        self.lifetime_max_secs.fetch_max(lifetime_max.as_secs(), Ordering::Relaxed);
    }

    /// Replaces the pools. Those that are new sign nothing before [`Self::first_published`].
    pub fn set_pools(&self, pools: Vec<PoolKeys>) {
        // At once for a round that ends now.
        self.published.send_modify(|published| {
            self.pools.store(Arc::new(pools));
            *published = false;
        });
        self.wake();
    }

    /// Starts a round at once, because the keys have changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether all of these keys fit into one set, together with the earlier ones that are still published.
    pub fn check(&self, announced: Vec<Jwk>) -> Result<(), KeySetError> {
        let published = self.published()?.keys.into_iter().map(|key| Jwk { exp: None, ..key });
        let keys = announced.into_iter().chain(published).collect();
        JwkSet::successor(keys, JwkSet::default(), None, Duration::ZERO)
            .map(|_| ())
            .map_err(KeySetError::SameKid)
    }

    /// Runs the first round, before anything is signed. If the disk is full, [`Self::run`] repeats it until there is room.
    pub async fn publish_first(&self) -> Result<(), KeySetError> {
        let before = self.published()?;
        if let Err(error) =
            self.check(self.pools.load().iter().flat_map(|pool| pool.ring.announced()).collect())
        {
            tracing::error!(%error, "tokens of the earlier key can no longer be verified; signing them anew now");
        }
        let known = |key: &Jwk| before.keys.iter().any(|other| Jwk { exp: None, ..other.clone() } == *key);
        for pool in self.pools.load().iter().filter(|_| !before.keys.is_empty()) {
            let signer = pool.ring.signer();
            if !known(&signer.jwk()) {
                tracing::warn!(
                    pool = %pool.id, kid = signer.kid(),
                    "signing at once with a key that was not published before, because the earlier one is gone: verifiers that keep \
                     the published keys may refuse its tokens for up to keys-max-age; announce a key as `signer.next`, or replace it \
                     while the service runs"
                );
            }
        }
        match self.round().await {
            Err(KeySetError::Site(error)) if is_full(&error) => {
                tracing::error!(
                    %error,
                    "cannot publish the public keys; until there is room on the disk, updates are taken but nothing is signed"
                );
                Ok(())
            }
            round => round.map(|_| ()),
        }
    }

    /// Waits until the keys have been published since the start: before that nothing may be signed.
    pub async fn first_published(&self) {
        // Fails only without a sender, and this is one.
        let _ = self.published.subscribe().wait_for(|published| *published).await;
    }

    /// Runs a round whenever one is due, until the stop.
    pub async fn run(&self, stopper: &Stopper) {
        loop {
            let wait = match self.round().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "cannot publish the public keys; no new key signs until that works");
                    LOOK_EVERY_MIN
                }
            };
            let next = async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.wake.notified() => {}
                }
            };
            if stopper.until(next).await.is_none() {
                return;
            }
        }
    }

    /// Returns when the next round is due.
    async fn round(&self) -> Result<Duration, KeySetError> {
        // Instances that share the folder must not lose each other's keys.
        let _lock = self.site.lock(&Lock::Jwks).await?;
        let pools = self.pools.load_full();
        let announced: Vec<_> = pools.iter().map(|pool| pool.ring.announced()).collect();
        self.write(announced.concat())?;
        let now = Instant::now();
        if pools.iter().all(|pool| pool.publisher.keys_are_uploaded()) {
            for (pool, announced) in pools.iter().zip(&announced) {
                pool.ring.published(announced, now);
            }
        }
        let visible_for = Duration::from_millis(self.visible_for_millis.load(Ordering::Relaxed));
        let mut wait = self.look_every();
        for pool in pools.iter() {
            let before = pool.ring.signer();
            // Not more often than a check is useful: a key whose upload waits for a bucket has not begun its waiting time.
            wait = pool
                .ring
                .advance(visible_for, now)
                .map_or(wait, |left| wait.min(left.max(LOOK_EVERY_MIN / 10)));
            let signer = pool.ring.signer();
            if signer.jwk() != before.jwk() {
                tracing::info!(pool = %pool.id, kid = signer.kid(), before = before.kid(), "another key signs from now on");
            }
            self.metrics.certificate_not_after(&pool.id, signer.certificate_not_after());
        }
        self.write(pools.iter().flat_map(|pool| pool.ring.announced()).collect())?;
        // Otherwise the next round publishes the keys of those that came meanwhile.
        self.published.send_if_modified(|published| {
            let first = !*published && Arc::ptr_eq(&pools, &self.pools.load());
            *published |= first;
            first
        });
        Ok(wait)
    }

    /// Writes the set if it has changed, and notifies the buckets of a set that they have not seen.
    fn write(&self, announced: Vec<Jwk>) -> Result<(), KeySetError> {
        let lifetime_max = Duration::from_secs(self.lifetime_max_secs.load(Ordering::Relaxed));
        let keys = JwkSet::successor(announced, self.published()?, self.believed_now(), lifetime_max);
        let keys = keys.map_err(KeySetError::SameKid)?;
        let document = serde_json::to_vec(&keys).expect("keys contain only strings and numbers");
        if self.site.read_jwks()?.as_ref() != Some(&document) {
            self.site.write_jwks(&document)?;
        }
        let mut told = self.told.lock();
        if *told != document {
            self.pools.load().iter().for_each(|pool| pool.publisher.keys_changed());
            *told = document;
        }
        Ok(())
    }

    /// The time of day; `None` if a publisher does not believe it. A clock that is wrong must not remove keys whose tokens are valid.
    fn believed_now(&self) -> Option<NumericDate> {
        let pools = self.pools.load();
        let believed = pools.iter().map(|pool| pool.publisher.believed_now());
        believed.collect::<Result<Vec<_>, _>>().ok()?.first().map(|now| now.date())
    }

    /// Returns the published set; an unreadable one counts as empty.
    fn published(&self) -> Result<JwkSet, KeySetError> {
        let document = self.site.read_jwks()?;
        Ok(document.and_then(|document| serde_json::from_slice(&document).ok()).unwrap_or_default())
    }

    fn look_every(&self) -> Duration {
        let lifetime_max = Duration::from_secs(self.lifetime_max_secs.load(Ordering::Relaxed));
        (lifetime_max / 4).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)
    }
}

fn is_full(error: &SiteError) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
