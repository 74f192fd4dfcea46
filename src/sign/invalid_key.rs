//! Why a signing key cannot be used.

use thiserror::Error;

use super::{ChainFault, UnsupportedKey};

/// Why a key or its chain cannot be used.
#[derive(Debug, Error)]
pub enum InvalidKey {
    /// Not PEM.
    #[error("not a PEM file: {0}")]
    Pem(#[from] pem::PemError),
    /// PEM without a PKCS#8 private key.
    #[error(
        "no `PRIVATE KEY` (PKCS#8) in it, only {found:?}; convert an older form with `openssl pkcs8 -topk8 -nocrypt -in KEY`"
    )]
    NotPkcs8 {
        /// The labels in the file.
        found: Vec<String>,
    },
    /// Not a PKCS#12 key store.
    #[error("not a PKCS#12 key store that can be read: {0}")]
    Pkcs12(String),
    /// The password does not fit the key store.
    #[error("the key store's password is wrong")]
    Password,
    /// Several keys, none, or none of the given name.
    #[error("expected one key, the key store has {aliases:?}; name one of them as `alias`")]
    Alias {
        /// The names of all its keys.
        aliases: Vec<String>,
    },
    /// A key in a hardware security module that cannot sign.
    #[cfg(feature = "pkcs11")]
    #[error("PKCS#11: {0}")]
    Hsm(String),
    /// A key service that does not answer, or not as it should.
    #[error("{0}")]
    Service(String),
    /// A key of a kind that is not used here.
    #[error(
        "expected an EC key on P-256, P-384 or P-521, or Ed25519; make one with `statuslist generate-key FILE`"
    )]
    Unsupported,
    /// The specification's example key, whose private part is public.
    #[error("this is the example key printed in the specification; anyone can sign with it")]
    Example,
    /// A certificate that cannot be read.
    #[error("certificate {number} of the chain: {why}")]
    Certificate {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        why: UnsupportedKey,
    },
    /// The chain file holds no certificate.
    #[error("no `CERTIFICATE` in the chain file")]
    EmptyChain,
    /// The first certificate is for another key.
    #[error("the first certificate of the chain is not for this key; put the leaf first")]
    OtherKey,
    /// A certificate above the leaf that cannot be read.
    #[error(transparent)]
    Chain(#[from] ChainFault),
}
