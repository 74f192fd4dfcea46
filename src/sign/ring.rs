//! The keys of one pool over time: the one that signs, those announced, and those that signed before.
//!
//! A key signs only after its public key has been published for as long as anyone may cache an older key set. The one
//! exception is the first key after a start, because no other could sign. Keys that signed before stay trusted for what is
//! published until the next start, so a new key replaces no token early.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::{Jwk, PublicKey, Signer};

/// How many earlier keys are remembered. They matter as long as a token of theirs is published: at most one lifetime.
const EARLIER_MAX: usize = 16;

/// The keys of one pool. Readers take a snapshot and never wait.
#[derive(Debug)]
pub struct KeyRing(ArcSwap<Keys>);

/// The content of a ring at one moment.
#[derive(Clone, Debug)]
struct Keys {
    signing: Signer,
    /// The key in the settings, if it does not sign yet.
    wanted: Option<Signer>,
    /// The next key in the settings.
    next: Option<Signer>,
    /// Since when each announced key has been published, as far as this process knows.
    visible: Vec<(Jwk, Instant)>,
    /// Keys that signed before, the latest first.
    earlier: Vec<PublicKey>,
}

impl KeyRing {
    /// A ring whose first key signs at once.
    pub fn new(signing: Signer, next: Option<Signer>) -> Self {
        let (visible, earlier) = (Vec::new(), Vec::new());
        Self(ArcSwap::from_pointee(Keys { signing, wanted: None, next, visible, earlier }))
    }

    /// The key that signs now.
    pub fn signer(&self) -> Signer {
        self.0.load().signing.clone()
    }

    /// Whether a key of this pool signed `message`: one in the settings (another instance may already sign with it), or one
    /// that has signed since the start.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let keys = self.0.load();
        let named = [Some(&keys.signing), keys.wanted.as_ref(), keys.next.as_ref()].into_iter().flatten();
        named.map(Signer::public_key).chain(&keys.earlier).any(|key| key.verify(message, signature))
    }

    /// The public keys to publish: of all keys that sign or are to sign.
    pub fn announced(&self) -> Vec<Jwk> {
        self.0.load().announced()
    }

    /// Like [`Self::announced`], if the settings named these keys.
    pub fn announced_with(&self, wanted: &Signer, next: Option<&Signer>) -> Vec<Jwk> {
        self.0.load().with(wanted.clone(), next.cloned()).announced()
    }

    /// Sets the keys of new settings. A new key waits until it has been published for long enough.
    pub fn set_wanted(&self, wanted: &Signer, next: Option<&Signer>) {
        self.0.rcu(|keys| keys.with(wanted.clone(), next.cloned()));
    }

    /// Records that all announced keys are published at this moment, wherever verifiers look.
    pub fn published(&self, announced: &[Jwk], now: Instant) {
        self.0.rcu(|keys| {
            let mut keys = Keys::clone(keys);
            keys.visible.retain(|(key, _)| announced.contains(key));
            for key in announced {
                if !keys.visible.iter().any(|(known, _)| known == key) {
                    keys.visible.push((key.clone(), now));
                }
            }
            keys
        });
    }

    /// Lets the waiting key sign if it has been published for `visible_for`. Returns the remaining wait, if a key still
    /// waits.
    pub fn advance(&self, visible_for: Duration, now: Instant) -> Option<Duration> {
        self.0.rcu(|keys| keys.advanced(visible_for, now));
        let keys = self.0.load();
        let wanted = keys.wanted.as_ref()?;
        Some(keys.left(wanted, visible_for, now).unwrap_or(visible_for))
    }
}

impl Keys {
    fn announced(&self) -> Vec<Jwk> {
        [Some(&self.signing), self.wanted.as_ref(), self.next.as_ref()]
            .into_iter()
            .flatten()
            .map(Signer::jwk)
            .collect()
    }

    fn with(&self, wanted: Signer, next: Option<Signer>) -> Self {
        let mut keys = Self { next, wanted: None, ..self.clone() };
        // The same key may have another chain, or other hints: that takes effect at once.
        if wanted.jwk() == keys.signing.jwk() {
            keys.signing = wanted
        } else {
            keys.wanted = Some(wanted)
        }
        keys
    }

    /// How long `signer` must wait until it has been published for `visible_for`; `None` if it is not published.
    fn left(&self, signer: &Signer, visible_for: Duration, now: Instant) -> Option<Duration> {
        let jwk = signer.jwk();
        let (_, since) = self.visible.iter().find(|(key, _)| *key == jwk)?;
        Some(visible_for.saturating_sub(now.saturating_duration_since(*since)))
    }

    fn advanced(&self, visible_for: Duration, now: Instant) -> Arc<Self> {
        let mut keys = self.clone();
        if let Some(wanted) = &self.wanted
            && self.left(wanted, visible_for, now) == Some(Duration::ZERO)
        {
            let earlier = std::mem::replace(&mut keys.signing, wanted.clone());
            keys.earlier.insert(0, earlier.public_key().clone());
            keys.earlier.truncate(EARLIER_MAX);
            keys.wanted = None;
        }
        Arc::new(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{Algorithm, KeyHints, SigningKey, generate};

    const HOUR: Duration = Duration::from_secs(3600);
    const HINTS: KeyHints = KeyHints { kid: true, x5c: false, jwk: false };

    fn signer() -> Signer {
        Signer::new(SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap(), HINTS)
    }

    fn signs(ring: &KeyRing) -> String {
        ring.signer().kid().to_owned()
    }

    #[test]
    fn a_key_signs_only_after_it_was_published_for_long_enough() {
        let (old, new, start) = (signer(), signer(), Instant::now());
        let ring = KeyRing::new(old.clone(), None);
        ring.published(&ring.announced(), start);
        ring.set_wanted(&new, None);
        assert_eq!(ring.announced(), [old.jwk(), new.jwk()]);
        // Publishing fails for an hour, which does not count.
        assert_eq!(ring.advance(HOUR, start + HOUR), Some(HOUR));
        assert_eq!(signs(&ring), old.kid());
        ring.published(&ring.announced(), start + HOUR);
        assert_eq!(ring.advance(HOUR, start + HOUR + HOUR / 2), Some(HOUR / 2));
        assert_eq!(signs(&ring), old.kid());
        assert_eq!(ring.advance(HOUR, start + HOUR * 2), None);
        assert_eq!(signs(&ring), new.kid());
        assert_eq!(ring.announced(), [new.jwk()]);
    }

    #[test]
    fn a_key_that_was_announced_takes_over_at_once() {
        let (old, new, start) = (signer(), signer(), Instant::now());
        let ring = KeyRing::new(old, Some(new.clone()));
        ring.published(&ring.announced(), start);
        ring.set_wanted(&new, None);
        assert_eq!(ring.advance(HOUR, start + HOUR), None);
        assert_eq!(signs(&ring), new.kid());
    }

    #[test]
    fn a_replacement_that_is_taken_back_never_signs() {
        let (old, new, start) = (signer(), signer(), Instant::now());
        let ring = KeyRing::new(old.clone(), None);
        ring.set_wanted(&new, None);
        ring.published(&ring.announced(), start);
        ring.set_wanted(&old, None);
        assert_eq!(ring.advance(HOUR, start + HOUR * 2), None);
        assert_eq!(signs(&ring), old.kid());
        // It left the key set, so its time starts again.
        ring.published(&ring.announced(), start + HOUR);
        ring.set_wanted(&new, None);
        ring.published(&ring.announced(), start + HOUR * 3);
        assert_eq!(ring.advance(HOUR, start + HOUR * 3), Some(HOUR));
    }

    #[test]
    fn tokens_of_earlier_keys_stay_ours_and_those_of_strangers_never_are() {
        let (old, new, start) = (signer(), signer(), Instant::now());
        let ring = KeyRing::new(old.clone(), None);
        let signed = |signer: &Signer| signer.sign(b"message").unwrap();
        assert!(!ring.verifies(b"message", &signed(&new)));
        ring.set_wanted(&new, None);
        ring.published(&ring.announced(), start);
        ring.advance(Duration::ZERO, start);
        assert!(ring.verifies(b"message", &signed(&old)) && ring.verifies(b"message", &signed(&new)));
        assert!(!ring.verifies(b"message", &signed(&signer())));
    }

    #[test]
    fn another_chain_or_hint_of_the_same_key_needs_no_waiting() {
        let pem = generate(Algorithm::EdDsa).unwrap();
        let with = |hints| Signer::new(SigningKey::from_pem(&pem, None, None).unwrap(), hints);
        let ring = KeyRing::new(with(HINTS), None);
        ring.set_wanted(&with(KeyHints { jwk: true, ..HINTS }), None);
        assert!(ring.signer().hints.jwk && ring.advance(HOUR, Instant::now()).is_none());
    }
}
