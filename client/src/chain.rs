//! The certificate chain of a signing key: whether Relying Parties can follow it, and when it is valid.
//!
//! Holds the rules that `check/` and the service, which signs, share. Leaves it to Relying Parties whom they trust: a chain may end at an
//! authority or anywhere below it, and a single certificate may be self-signed. Invariant: a chain that passes is a path in
//! the given order, as `x5c` and `x5chain` demand (RFC 7515, section 4.1.6; RFC 9360, section 2).

use crate::base::clock::NumericDate;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath, anchor_from_trusted_cert,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::AlgorithmIdentifier;

/// The seconds since 1970 in which every certificate of a chain is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: NumericDate,
    /// The last second.
    pub not_after: NumericDate,
}

/// Why verifiers refuse signatures with a certificate chain. Certificates are numbered from 1, the signer's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChainFault {
    /// Bytes that are not a certificate, or a damaged extension.
    #[error("certificate {number} of the chain cannot be read: {why}")]
    Unreadable {
        /// The certificate's number.
        number: usize,
        /// The parser's message.
        why: String,
    },
    /// A certificate that has expired.
    #[error("certificate {number} of the chain expired at {not_after}; renew it")]
    Expired {
        /// The certificate's number.
        number: usize,
        /// The end of its validity.
        not_after: Timestamp,
    },
    /// A certificate that is not valid yet.
    #[error(
        "certificate {number} of the chain is valid only from {not_before} on; use the one before it until then"
    )]
    NotYetValid {
        /// The certificate's number.
        number: usize,
        /// The start of its validity.
        not_before: Timestamp,
    },
    /// The signer's certificate is that of an authority.
    #[error(
        "certificate 1 of the chain is an authority's (CA:TRUE), and verifiers refuse that of a signer; make one without \
         (openssl: -addext basicConstraints=critical,CA:FALSE)"
    )]
    LeafIsAuthority,
    /// The signer's key may not sign.
    #[error(
        "the key usage in certificate 1 of the chain lacks digitalSignature: its key may not sign tokens"
    )]
    LeafUsage,
    /// A certificate is not followed by that of its issuer.
    #[error(
        "certificate {number} of the chain was issued by `{issuer}`, but the next one is that of `{next}`; put the signer's \
         certificate first and behind each one that of its issuer"
    )]
    Issuer {
        /// The certificate's number.
        number: usize,
        /// Its issuer.
        issuer: String,
        /// The subject of the next certificate.
        next: String,
    },
    /// A certificate that issued the one before it, but is not an authority's.
    #[error(
        "certificate {number} of the chain issued the one before it, but is not an authority's (CA:TRUE)"
    )]
    NotAuthority {
        /// The certificate's number.
        number: usize,
    },
    /// An authority whose key may not sign certificates.
    #[error(
        "the key usage in certificate {number} of the chain lacks keyCertSign: its key may not issue the one before it"
    )]
    IssuerUsage {
        /// The certificate's number.
        number: usize,
    },
    /// An authority that allows fewer authorities below it than the chain has.
    #[error(
        "certificate {number} of the chain allows {allowed} authorities between it and the signer (path length), there are {found}"
    )]
    TooDeep {
        /// The certificate's number.
        number: usize,
        /// The number it allows.
        allowed: u32,
        /// The number found.
        found: usize,
    },
    /// A signature that was not made with the next certificate's key.
    #[error(
        "a signature in the chain was not made with the next certificate's key: one of its issuers has the right name, but \
         another key"
    )]
    Signature,
    /// A certificate that the path does not need.
    #[error("certificate {number} of the chain is not on the path from the first to the last; remove it")]
    Superfluous {
        /// The certificate's number.
        number: usize,
    },
    /// Any other reason, such as a violated constraint of an authority.
    #[error("verifiers refuse the chain: {0}")]
    Path(String),
}

impl Validity {
    /// The time in which all certificates of `chain` are valid; `None` without a chain. Fails at the first unreadable
    /// certificate.
    pub fn of(chain: &[Vec<u8>]) -> Result<Option<Self>, ChainFault> {
        let mut whole: Option<Self> = None;
        for certificate in read(chain)? {
            let Self { not_before, not_after } = Self::of_one(&certificate);
            let known = whole.unwrap_or(Self { not_before, not_after });
            let not_before = known.not_before.max(not_before);
            whole = Some(Self { not_before, not_after: known.not_after.min(not_after) });
        }
        Ok(whole)
    }

    fn of_one(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: NumericDate::from_signed_secs(validity.not_before.timestamp()),
            not_after: NumericDate::from_signed_secs(validity.not_after.timestamp()),
        }
    }

    /// Whether every certificate is valid in this second.
    pub fn holds_at(&self, now: NumericDate) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Checks that a Relying Party that trusts the last certificate of `chain`, or its issuer, can follow the chain at `now`.
/// The signer's certificate comes first. An empty chain has no faults.
pub fn check(chain: &[Vec<u8>], now: NumericDate) -> Result<(), ChainFault> {
    let certificates = read(chain)?;
    for (number, certificate) in (1..).zip(&certificates) {
        check_time(number, certificate, now)?;
    }
    let Some(leaf) = certificates.first() else { return Ok(()) };
    if leaf.is_ca() {
        return Err(ChainFault::LeafIsAuthority);
    }
    if key_usage(leaf, 1)?.is_some_and(|usage| !usage.digital_signature()) {
        return Err(ChainFault::LeafUsage);
    }
    for (number, pair) in (1..).zip(certificates.windows(2)) {
        check_issuer(number, &pair[0], &pair[1])?;
    }
    check_path(chain, now)
}

fn read(chain: &[Vec<u8>]) -> Result<Vec<X509Certificate<'_>>, ChainFault> {
    let one = |(number, der)| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(ChainFault::Unreadable { number, why: "bytes follow it".to_owned() }),
        Err(why) => Err(ChainFault::Unreadable { number, why: why.to_string() }),
    };
    (1..).zip(chain.iter().map(Vec::as_slice)).map(one).collect()
}

fn check_time(number: usize, certificate: &X509Certificate<'_>, now: NumericDate) -> Result<(), ChainFault> {
    let Validity { not_before, not_after } = Validity::of_one(certificate);
    let time = |date: NumericDate| {
        i64::try_from(date.secs())
            .ok()
            .and_then(|secs| Timestamp::from_second(secs).ok())
            .unwrap_or(Timestamp::MAX)
    };
    if now < not_before {
        return Err(ChainFault::NotYetValid { number, not_before: time(not_before) });
    }
    if now > not_after {
        return Err(ChainFault::Expired { number, not_after: time(not_after) });
    }
    Ok(())
}

/// Checks that `issuer`, which follows `certificate`, may have issued it.
fn check_issuer(
    number: usize,
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), ChainFault> {
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        let (issuer, next) = (certificate.issuer().to_string(), issuer.subject().to_string());
        return Err(ChainFault::Issuer { number, issuer, next });
    }
    let number = number + 1;
    if !issuer.is_ca() {
        return Err(ChainFault::NotAuthority { number });
    }
    if key_usage(issuer, number)?.is_some_and(|usage| !usage.key_cert_sign()) {
        return Err(ChainFault::IssuerUsage { number });
    }
    // `webpki` requires it of all but the last, which it takes as trusted.
    let constraints = issuer.basic_constraints().ok().flatten();
    let (allowed, found) = (constraints.and_then(|basic| basic.value.path_len_constraint), number - 2);
    match allowed.filter(|allowed| u32::try_from(found).is_ok_and(|found| found > *allowed)) {
        Some(allowed) => Err(ChainFault::TooDeep { number, allowed, found }),
        None => Ok(()),
    }
}

fn key_usage<'a>(
    certificate: &'a X509Certificate<'_>,
    number: usize,
) -> Result<Option<&'a x509_parser::extensions::KeyUsage>, ChainFault> {
    let usage = certificate.key_usage();
    let usage = usage.map_err(|why| ChainFault::Unreadable { number, why: why.to_string() })?;
    Ok(usage.map(|extension| extension.value))
}

/// Checks the signatures from the first certificate to the last, and the authorities' constraints.
fn check_path(chain: &[Vec<u8>], now: NumericDate) -> Result<(), ChainFault> {
    let certificates: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let [leaf, above @ ..] = &certificates[..] else { return Ok(()) };
    let leaf = EndEntityCert::try_from(leaf).map_err(fault)?;
    let [between @ .., last] = above else { return Ok(()) };
    let anchor = [anchor_from_trusted_cert(last).map_err(fault)?];
    let path = path(&leaf, between, &anchor, now).map_err(fault)?;
    let mut steps = path.intermediate_certificates();
    // The path may be shorter than the chain.
    let skipped = between.iter().position(|expected| steps.next().is_none_or(|step| step.der() != *expected));
    skipped.map_or(Ok(()), |at| Err(ChainFault::Superfluous { number: at + 2 }))
}

/// The certificates of `chain` that belong into tokens: all but a self-signed one at its end. It is a trust anchor, which
/// verifiers must have from elsewhere, and some refuse tokens with it (HAIP 1.0, section 6.1).
pub fn without_anchor(chain: &[Vec<u8>]) -> &[Vec<u8>] {
    match chain {
        [below @ .., last] if !below.is_empty() && is_self_signed(last) => below,
        all => all,
    }
}

/// Whether a certificate was issued by itself.
pub fn is_self_signed(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
        certificate.issuer().as_raw() == certificate.subject().as_raw()
            && has_signed(&certificate, &certificate)
    })
}

/// Whether the signature of `issued` was made with the key of `issuer`.
pub fn has_signed(issuer: &X509Certificate<'_>, issued: &X509Certificate<'_>) -> bool {
    let key = issuer.public_key();
    let (key_id, signature_id) = (identifier(&key.algorithm), identifier(&issued.signature_algorithm));
    let fits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
        algorithm.public_key_alg_id().as_ref() == key_id
            && algorithm.signature_alg_id().as_ref() == signature_id
    };
    webpki::ALL_VERIFICATION_ALGS.iter().filter(fits).any(|algorithm| {
        let message = issued.tbs_certificate.as_ref();
        algorithm
            .verify_signature(&key.subject_public_key.data, message, &issued.signature_value.data)
            .is_ok()
    })
}

/// The content of an AlgorithmIdentifier in DER, which identifies the algorithm.
fn identifier(algorithm: &AlgorithmIdentifier<'_>) -> Vec<u8> {
    let mut der = element(0x06, algorithm.algorithm.as_bytes());
    if let Some(parameters) = &algorithm.parameters {
        let constructed = u8::from(parameters.header.is_constructed()) << 5;
        let tag = u8::try_from(parameters.header.tag().0).unwrap_or(0xFF);
        der.extend(element(tag | constructed, parameters.data));
    }
    der
}

/// A short DER element; those of all known algorithms are short.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 0x80).unwrap_or(0xFF);
    [&[tag, length], content].concat()
}

fn fault(error: webpki::Error) -> ChainFault {
    match error {
        webpki::Error::InvalidSignatureForPublicKey => ChainFault::Signature,
        other => ChainFault::Path(other.to_string()),
    }
}

/// The path from a signer's certificate through `between` to one of `anchors` at `now`. Ignores key usages.
pub fn path<'a>(
    leaf: &'a EndEntityCert<'a>,
    between: &'a [CertificateDer<'a>],
    anchors: &'a [TrustAnchor<'a>],
    now: NumericDate,
) -> Result<VerifiedPath<'a>, webpki::Error> {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.secs()));
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, anchors, between, now, AnyUsage, None, None)
}

/// The extended key usage concerns only the leaf, and is optional.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}
