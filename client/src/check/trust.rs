//! Whose signatures are trusted: pinned certificates, certificate authorities, or the keys of a JWKS ("Key Resolution and
//! Trust Management").
//!
//! Invariant: the trusted key determines the algorithm, and the token's must equal it, never the other way round (RFC 8725,
//! section 3.1). A token's own `jwk` is ignored; its chain only serves as a path to a trusted certificate.

use serde::de::Error as _;
use serde_json::{Map, Value};
use thiserror::Error;

use super::FetchError;
use super::anchors::{Anchor, chained, pinned};
use super::key::{Algorithm, Key};
use super::untrusted::{TrustedBy, Untrusted};
use super::usage::Purpose;
use crate::base::clock::NumericDate;

/// Trust anchors, and requirements on the certificates that lead to them.
#[derive(Debug)]
pub struct Trust {
    anchors: Anchors,
    purpose: Purpose,
}

#[derive(Debug)]
enum Anchors {
    Certificates(Vec<Anchor>),
    Keys(Vec<NamedKey>),
}

#[derive(Debug)]
struct NamedKey {
    kid: Option<String>,
    key: Key,
}

/// Why a given trust anchor is unusable.
#[derive(Debug, Error)]
pub enum InvalidTrust {
    /// The file cannot be read.
    #[error("cannot read the trust anchor {path}: {source}")]
    File {
        /// The file's path.
        path: String,
        /// The system's message.
        source: std::io::Error,
    },
    /// The JWKS cannot be fetched.
    #[error("cannot fetch the trusted JWKS: {0}")]
    Fetch(#[from] FetchError),
    /// The PEM is malformed.
    #[error("the trust anchor is not a PEM file: {0}")]
    Pem(#[from] pem::PemError),
    /// The PEM has no certificate.
    #[error("the trust anchor has no `CERTIFICATE` in it, only {found:?}")]
    NoCertificate {
        /// The labels in the file.
        found: Vec<String>,
    },
    /// A certificate is unreadable, or its key cannot sign tokens.
    #[error("certificate {number} of the trust anchor: {why}")]
    Certificate {
        /// The certificate's number, from 1.
        number: usize,
        /// The fault.
        why: String,
    },
    /// The document is not a JWKS.
    #[error(
        "the trust anchor is neither PEM nor a JWKS ({0}); a JWKS is an object whose member `keys` is an array of keys"
    )]
    Json(#[from] serde_json::Error),
    /// The JWKS has no key that can verify signatures.
    #[error("the trusted JWKS has no key to verify with: {skipped:?}")]
    NoKey {
        /// Why each key was skipped.
        skipped: Vec<String>,
    },
    /// A JWKS cannot meet the requirement.
    #[error(
        "an extended key usage is required, but the keys of a JWKS have none; trust a certificate, or omit `--eku`"
    )]
    EkuOfJwks,
}

/// The part of a token that trust depends on, the same for both formats.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) alg: Option<Algorithm>,
    pub(super) alg_name: String,
    pub(super) kid: Option<Vec<u8>>,
    /// DER, leaf first.
    pub(super) chain: Vec<Vec<u8>>,
    /// Whether the signature covers the chain.
    pub(super) chain_is_protected: bool,
    pub(super) message: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Trust {
    /// Trusts the certificates in `pem`: authorities for what they issue, other certificates for what their own key signs.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidTrust> {
        let blocks = pem::parse_many(pem)?;
        let found = || blocks.iter().map(|block| block.tag().to_owned()).collect();
        let certificates: Vec<_> = blocks.iter().filter(|block| block.tag() == "CERTIFICATE").collect();
        if certificates.is_empty() {
            return Err(InvalidTrust::NoCertificate { found: found() });
        }
        let anchors = certificates.iter().zip(1..).map(|(block, number)| {
            Anchor::parse(block.contents()).map_err(|why| InvalidTrust::Certificate { number, why })
        });
        let anchors = Anchors::Certificates(anchors.collect::<Result<_, _>>()?);
        Ok(Self { anchors, purpose: Purpose::default() })
    }

    /// Trusts the keys of this JWKS. Skips damaged keys and unsupported kinds (RFC 7517, section 5).
    pub fn from_jwks(json: &[u8]) -> Result<Self, InvalidTrust> {
        let set: Map<String, Value> = serde_json::from_slice(json)?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| serde_json::Error::custom("`keys` is not an array"))?;
        let (usable, skipped): (Vec<_>, Vec<_>) = keys.iter().map(NamedKey::read).partition(Result::is_ok);
        let usable: Vec<_> = usable.into_iter().filter_map(Result::ok).collect();
        match usable.is_empty() {
            true => {
                Err(InvalidTrust::NoKey { skipped: skipped.into_iter().filter_map(Result::err).collect() })
            }
            false => Ok(Self { anchors: Anchors::Keys(usable), purpose: Purpose::default() }),
        }
    }

    /// Requires that the signer's certificate has this extended key usage, in dotted numbers.
    pub fn requiring_eku(self, eku: &str) -> Result<Self, InvalidTrust> {
        match self.anchors {
            Anchors::Certificates(_) => Ok(Self { purpose: Purpose::Demanded(eku.to_owned()), ..self }),
            Anchors::Keys(_) => Err(InvalidTrust::EkuOfJwks),
        }
    }

    /// Accepts a signer's certificate with any extended key usages, such as that of a TLS server.
    pub fn allowing_any_eku(self) -> Self {
        Self { purpose: Purpose::Any, ..self }
    }

    /// Returns why the signature is trusted at `now`, or why it is not.
    pub(super) fn signer_of(&self, token: &Signed, now: NumericDate) -> Result<TrustedBy, Untrusted> {
        match &self.anchors {
            Anchors::Keys(keys) => {
                verifying(named(keys, token)?, token)?;
                Ok(TrustedBy::Jwks)
            }
            Anchors::Certificates(anchors) => {
                let candidates = match token.chain.split_first() {
                    None => pinned(anchors)?,
                    Some((leaf, rest)) => vec![chained(anchors, leaf, rest, now)?],
                };
                let candidates =
                    candidates.into_iter().map(|(leaf, by)| (leaf.key.clone(), (leaf, by))).collect();
                let (leaf, by) = verifying(candidates, token)?;
                leaf.check(&self.purpose, now)?;
                Ok(by)
            }
        }
    }
}

impl NamedKey {
    fn read(jwk: &Value) -> Result<Self, String> {
        let jwk = jwk.as_object().ok_or("a key must be a JSON object")?;
        let kid = jwk.get("kid").map(|kid| kid.as_str().map(str::to_owned).ok_or("`kid` must be text"));
        Ok(Self { kid: kid.transpose()?, key: Key::from_jwk(jwk)? })
    }
}

/// The candidate keys for a token: those with the id that it names, or all if it names none.
fn named(keys: &[NamedKey], token: &Signed) -> Result<Vec<(Key, ())>, Untrusted> {
    let Some(kid) = &token.kid else {
        return Ok(keys.iter().map(|key| (key.key.clone(), ())).collect());
    };
    let named: Vec<_> = keys
        .iter()
        .filter(|key| key.kid.as_ref().is_some_and(|known| known.as_bytes() == kid))
        .map(|key| (key.key.clone(), ()))
        .collect();
    match named.is_empty() {
        true => Err(Untrusted::UnknownKid {
            kid: String::from_utf8_lossy(kid).into_owned(),
            known: keys.iter().map(|key| key.kid.clone().unwrap_or_else(|| "(no kid)".to_owned())).collect(),
        }),
        false => Ok(named),
    }
}

/// The first candidate with the token's algorithm that verifies its signature.
fn verifying<T>(candidates: Vec<(Key, T)>, token: &Signed) -> Result<T, Untrusted> {
    let trusted = candidates.iter().map(|(key, _)| key.algorithm().jose_name()).collect();
    let mut of_algorithm =
        candidates.into_iter().filter(|(key, _)| token.alg == Some(key.algorithm())).peekable();
    if of_algorithm.peek().is_none() {
        return Err(Untrusted::Algorithm { token: token.alg_name.clone(), trusted });
    }
    of_algorithm
        .find(|(key, _)| key.verify(&token.message, &token.signature))
        .map(|(_, candidate)| candidate)
        .ok_or(Untrusted::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_trust_anchors_are_refused() {
        let pem = |tag: &str| format!("-----BEGIN {tag}-----\nAAAA\n-----END {tag}-----\n");
        assert!(matches!(
            Trust::from_pem(&pem("PRIVATE KEY")),
            Err(InvalidTrust::NoCertificate { found }) if found == ["PRIVATE KEY"]
        ));
        assert!(matches!(
            Trust::from_pem(&pem("CERTIFICATE")),
            Err(InvalidTrust::Certificate { number: 1, .. })
        ));
        assert!(matches!(
            Trust::from_pem("-----BEGIN"),
            Err(InvalidTrust::NoCertificate { .. } | InvalidTrust::Pem(_))
        ));
        for no_set in [&b"{}"[..], b"[]", b"[[]]", br#"{"keys":{}}"#, br#"{"keys":null}"#] {
            assert!(matches!(Trust::from_jwks(no_set), Err(InvalidTrust::Json(_))), "{no_set:?}");
        }
        let unusable = br#"{"keys":[{"kty":"RSA","n":"AA","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA","use":"enc"}]}"#;
        assert!(
            matches!(Trust::from_jwks(unusable), Err(InvalidTrust::NoKey { skipped }) if skipped.len() == 2)
        );
        let jwks = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"sig"}]}"#;
        assert!(matches!(
            Trust::from_jwks(jwks).unwrap().requiring_eku("1.2.3"),
            Err(InvalidTrust::EkuOfJwks)
        ));
    }
}
