//! What the expiry of a certificate means for publishing: each beat reports it, and tokens are signed anew once a certificate
//! with a later end is available.
//!
//! Leaves the validity of a chain to `sign::chain`, and the refusal of an invalid one to the start and the reload. Publishing
//! continues with an expired chain, see ARCHITECTURE.md, "Keys".

use std::time::Duration;

use super::{LOOK_EVERY, PoolPublisher};
use crate::base::clock::{NumericDate, Timestamp};
use crate::sign::{Signer, Validity};

/// How long before its chain ends a token gets another. At least one check falls into this time, and a whole pool can be signed.
const RENEW_BEFORE_END: Duration = LOOK_EVERY.saturating_mul(2);

impl PoolPublisher {
    /// Reports certificates that are out of date. If the signing key's chain differs from `before`, the following pass checks all
    /// files, because some may carry a chain that ends.
    pub(super) fn look_at_certificates(&self, before: &mut Signer) {
        if !self.lease.may_publish() {
            return;
        }
        let (signer, now) = (self.keys.signer(), self.clock.now().date());
        if signer.chain_in_header() != before.chain_in_header() {
            *self.swept() = None;
            *before = signer.clone();
        }
        let out_of_date = !signer.certificates_hold_at(now);
        self.metrics.certificate_out_of_date.set(out_of_date.into());
        if out_of_date {
            tracing::error!(
                pool = %self.shape.id, kid = signer.kid(), certificate.not_after = signer.certificate_not_after().map(NumericDate::secs),
                "a certificate of the signing key is out of date, so verifiers that check it refuse every token; renew it now: \
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
    not_after < now.plus(RENEW_BEFORE_END).date() && lasts_longer
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::sign::{KeyHints, SigningKey};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    /// A signer whose certificate ends this many seconds after (or, if negative, before) now, and its chain.
    fn signer(secs: i64, x5c: bool) -> (Signer, Vec<Vec<u8>>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["status.example".into()]).unwrap();
        let end = NOW.date().secs().checked_add_signed(secs).unwrap();
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
            // That would not improve it, and would repeat at every check.
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
