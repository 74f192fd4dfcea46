//! What the end of a certificate means for publishing: it is told on every beat, and tokens are signed anew once there is a
//! certificate that lasts longer.
//!
//! Leaves it to `sign/chain.rs` when a chain holds, and to the start and reload to refuse one that does not. Publishing goes on
//! with a chain that has ended, see ARCHITECTURE.md, "Keys".

use std::time::Duration;

use super::{LOOK_EVERY, PoolPublisher};
use crate::base::clock::Timestamp;
use crate::sign::{Signer, Validity};

/// Tokens get another chain so long before theirs ends. At least one look falls into it, and a whole pool can be signed.
const RENEW_BEFORE_END: Duration = LOOK_EVERY.saturating_mul(2);

impl PoolPublisher {
    /// Tells of certificates that are out of date. If the key that signs has another chain than `before`, all files are looked
    /// through in the pass that follows, because some may show one that ends.
    pub(super) fn look_at_certificates(&self, before: &mut Signer) {
        if !self.lease.may_publish() {
            return;
        }
        let (signer, now) = (self.keys.signer(), self.clock.now().secs());
        if signer.chain_in_header() != before.chain_in_header() {
            *self.swept() = None;
            *before = signer.clone();
        }
        let out_of_date = !signer.certificates_hold_at(now);
        self.metrics.certificate_out_of_date.set(out_of_date.into());
        if out_of_date {
            tracing::error!(
                pool = %self.shape.id, kid = signer.kid(), certificate.not_after = signer.certificate_not_after(),
                "a certificate of the signing key is out of date, so verifiers that look at it refuse every token; renew it now: \
                 it is taken without a restart"
            );
        }
    }
}

/// Whether a token with this chain should be signed anew because its chain ends, or has ended, and that of `signer` lasts longer.
pub(super) fn is_outlived(chain: &[Vec<u8>], signer: &Signer, now: Timestamp) -> bool {
    if chain == signer.chain_in_header() {
        return false;
    }
    let Ok(Some(Validity { not_after, .. })) = Validity::of(chain) else { return false };
    let lasts_longer = signer.certificate_not_after().is_none_or(|end| end > not_after);
    not_after < now.plus(RENEW_BEFORE_END).secs() && lasts_longer
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::sign::{KeyHints, SigningKey};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    /// A signer whose certificate ends so many seconds after (or before) now, and its chain.
    fn signer(secs: i64, x5c: bool) -> (Signer, Vec<Vec<u8>>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["status.example".into()]).unwrap();
        let end = NOW.secs().checked_add_signed(secs).unwrap();
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
        let pem = params.self_signed(&key).unwrap().pem();
        let key = SigningKey::from_pem(&key.serialize_pem(), Some(&pem), None).unwrap();
        let chain = key.chain().to_vec();
        (Signer::new(key, KeyHints { kid: true, x5c, jwk: false }), chain)
    }

    #[test]
    fn tokens_get_another_chain_when_theirs_ends_and_the_other_lasts_longer() {
        let hour = 3600;
        for (published, signs, expected) in [
            (-1, 100 * hour, true),
            (2 * hour - 1, 100 * hour, true),
            (2 * hour, 100 * hour, false),
            // Nothing would be better for it, at every look again.
            (-1, -2, false),
            (hour, hour, false),
        ] {
            let ((_, chain), (signer, _)) = (signer(published, true), signer(signs, true));
            assert_eq!(is_outlived(&chain, &signer, NOW), expected, "{published} {signs}");
        }
        let (ended, chain) = signer(-1, true);
        assert!(!is_outlived(&chain, &ended, NOW), "there is no other chain");
        assert!(is_outlived(&chain, &signer(hour, false).0, NOW), "the other needs none");
        assert!(!is_outlived(&[], &signer(hour, true).0, NOW), "nothing in it ends");
    }
}
