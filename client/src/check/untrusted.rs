//! Why a token's signature is trusted, or is not.

use std::fmt;

use thiserror::Error;

use super::key::Algorithm;
use super::path::ChainFlaw;
use super::times::instant;
use crate::base::clock::NumericDate;

/// Why a signature is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedBy {
    /// The signer's certificate itself is trusted.
    Certificate {
        /// The subject of that certificate.
        subject: String,
    },
    /// The signer's certificate leads to a trusted one.
    Authority {
        /// The subject of the trusted certificate.
        subject: String,
    },
    /// A key of the trusted JWKS.
    Jwks,
}

/// Why a token's signature is not trusted.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Untrusted {
    /// No trusted key has the id that the token names.
    #[error(
        "the token names the key {kid:?}, the trusted JWKS has {known:?}; get a newer JWKS, unless the token is another issuer's"
    )]
    UnknownKid {
        /// The token's key id.
        kid: String,
        /// The ids of the trusted keys.
        known: Vec<String>,
    },
    /// The token's algorithm is not that of the trusted keys.
    #[error("the token's `alg` is {token:?}, the trusted keys have {trusted:?}; they must be equal")]
    Algorithm {
        /// The token's algorithm.
        token: String,
        /// The algorithms of the keys.
        trusted: Vec<&'static str>,
    },
    /// The signature does not verify.
    #[error("no trusted key made the signature: the token was changed, or another key signed it")]
    Signature,
    /// The chain in the header is damaged.
    #[error("the token's `x5c` must be certificates in base64 with padding")]
    ChainEncoding,
    /// Authorities are trusted, but the token has no chain.
    #[error(
        "the token has no certificate chain, and only certificate authorities are trusted; trust the signer's own certificate or its JWKS"
    )]
    NoChain,
    /// The signer's certificate is unreadable, or its key is of an unsupported kind.
    #[error("the certificate of the token's signer: {0}")]
    Leaf(String),
    /// The chain does not lead to a trusted certificate.
    #[error("the token's certificate chain does not lead to a trusted certificate: {why}")]
    Chain {
        /// What breaks the chain.
        why: ChainFlaw,
    },
    /// The trusted certificate itself is not valid now.
    #[error("the signer's certificate is valid from {} to {}, not now; trust its successor", instant(*not_before), instant(*not_after))]
    OutOfDate {
        /// The start of its validity.
        not_before: NumericDate,
        /// The end of its validity.
        not_after: NumericDate,
    },
    /// The signer's certificate is not for signatures.
    #[error(
        "the key usage of the signer's certificate is {present}, but signing needs digitalSignature or nonRepudiation"
    )]
    KeyUsage {
        /// Its key usage.
        present: String,
    },
    /// The signer's certificate is for other purposes.
    #[error(
        "the signer's certificate is for other purposes only ({present:?}); trust one for signing statuses, name the purpose with `--eku`, or allow all with `--any-eku`"
    )]
    OtherPurpose {
        /// Its extended key usages.
        present: Vec<String>,
    },
    /// The signer's certificate lacks the required extended key usage.
    #[error("the signer's certificate lacks the extended key usage {demanded}; it has {present:?}")]
    ExtendedKeyUsage {
        /// The required usage.
        demanded: String,
        /// Its extended key usages.
        present: Vec<String>,
    },
}

impl Untrusted {
    /// One word for the reason, for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Algorithm { token, .. } if Algorithm::from_jose_name(token).is_none() => "alg",
            Self::UnknownKid { .. } | Self::Algorithm { .. } | Self::Signature => "signature",
            Self::ChainEncoding => "x5c",
            Self::NoChain | Self::Leaf(_) | Self::Chain { .. } => "chain",
            Self::OutOfDate { .. }
            | Self::KeyUsage { .. }
            | Self::OtherPurpose { .. }
            | Self::ExtendedKeyUsage { .. } => "certificate",
        }
    }
}

impl fmt::Display for TrustedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { subject } => write!(f, "the pinned certificate {subject:?}"),
            Self::Authority { subject } => write!(f, "a certificate chain to {subject:?}"),
            Self::Jwks => f.write_str("a key of the trusted JWKS"),
        }
    }
}
