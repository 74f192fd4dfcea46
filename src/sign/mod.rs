//! Claims → signed Status List Tokens, and the public side that verifies them.
//!
//! Responsible for keys and signatures. Leaves the content of a token to `status_list/`, and when to sign to `publish/`.
//! Invariant: a private key is parsed once, never printed, and never leaves this folder.

#[cfg(feature = "pkcs11")]
mod hsm;
mod invalid_key;
mod key;
mod key_service;
mod pkcs12;
mod public;
mod ring;

pub use chain::{ChainFault, Validity};
#[cfg(feature = "pkcs11")]
pub use hsm::HsmKey;
pub use invalid_key::InvalidKey;
pub use key::{SigningKey, generate};
pub use key_service::{Address, AwsKmsKey, KeyServiceKind, ServiceKey, VaultKey};
pub use public::{Algorithm, Certificate, Jwk, JwkSet, PublicKey, UnsupportedKey};
pub use ring::KeyRing;
pub use statuslist_client::{chain, profile};

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::sync::SemaphorePermit;

use crate::base::clock::NumericDate;
use crate::bitstring::{self, Credential};
use crate::status_list::{Claims, cwt, jwt};

/// The key failed to sign.
#[derive(Debug, Error)]
#[error("the signing key {kid} failed to sign: {why}")]
pub struct SignError {
    kid: String,
    why: String,
}

/// How a token's header refers to the key that verifies it ("Key Resolution and Trust Management").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHints {
    /// `kid`; CWT: 4.
    pub kid: bool,
    /// `x5c`, the certificate chain; CWT: `x5chain`, 33.
    pub x5c: bool,
    /// `jwk`, the public key itself; JWT only.
    pub jwk: bool,
}

/// Signs the tokens of one pool.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Arc<SigningKey>,
    hints: KeyHints,
}

impl Signer {
    /// A signer that refers to its key as `hints` say.
    pub fn new(key: SigningKey, hints: KeyHints) -> Self {
        Self { key: Arc::new(key), hints }
    }

    /// The key's id in `jwks.json` and in tokens.
    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    /// The public key that verifies this signer's tokens.
    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    /// The public key as `jwks.json` holds it.
    pub fn jwk(&self) -> Jwk {
        self.key.public_key().to_jwk(Some(self.key.kid()))
    }

    /// The leaf of the certificate chain, if there is one.
    pub fn certificate(&self) -> Option<Certificate> {
        self.key.chain().first().and_then(|leaf| Certificate::parse(leaf).ok())
    }

    /// The certificate in DER of the authority at the end of the chain. `None` if the chain has only the key's own.
    pub fn authority(&self) -> Option<&[u8]> {
        self.key.chain().get(1..)?.last().map(Vec::as_slice)
    }

    /// The end of the first certificate of the chain.
    pub fn certificate_not_after(&self) -> Option<NumericDate> {
        self.key.validity().map(|validity| validity.not_after)
    }

    /// Whether every certificate of the chain is valid at `now`; true without a chain.
    pub fn certificates_hold_at(&self, now: NumericDate) -> bool {
        self.key.validity().is_none_or(|validity| validity.holds_at(now))
    }

    /// The certificates in the tokens' headers, in DER, leaf first, without the trust anchor.
    pub fn chain_in_header(&self) -> &[Vec<u8>] {
        if self.hints.x5c { self.key.chain_below_anchor() } else { &[] }
    }

    /// Whether signing means to wait for another service, not to compute.
    pub fn is_elsewhere(&self) -> bool {
        self.key.is_elsewhere()
    }

    /// Waits until the process may ask another service for a signature once more; at once if this key needs none. Hold it while
    /// signing.
    pub async fn turn(&self) -> Option<SemaphorePermit<'static>> {
        if self.is_elsewhere() { key_service::turn().await } else { None }
    }

    /// Signs the Status List Token in JWT format.
    pub fn sign_jwt(&self, claims: &Claims) -> Result<String, SignError> {
        let input = jwt::signing_input(&self.header(jwt::TYP, None), claims);
        let signature = self.sign(input.as_bytes())?;
        Ok(jwt::assemble(input, &signature))
    }

    /// Signs the status list credential as a JWT.
    pub fn sign_credential(&self, credential: &Credential) -> Result<String, SignError> {
        let input = bitstring::signing_input(&self.header(bitstring::TYP, Some(bitstring::CTY)), credential);
        let signature = self.sign(input.as_bytes())?;
        Ok(jwt::assemble(input, &signature))
    }

    fn header(&self, typ: &str, cty: Option<&str>) -> jwt::Header {
        jwt::Header {
            alg: self.key.public_key().algorithm().jose_name().to_owned(),
            typ: typ.to_owned(),
            cty: cty.map(str::to_owned),
            kid: self.hints.kid.then(|| self.key.kid().to_owned()),
            x5c: self
                .hints
                .x5c
                .then(|| self.chain_in_header().iter().map(|der| STANDARD.encode(der)).collect()),
            jwk: self.hints.jwk.then(|| {
                serde_json::to_value(self.key.public_key().to_jwk(None))
                    .expect("a public key has only text members")
            }),
        }
    }

    /// Signs the Status List Token in CWT format.
    pub fn sign_cwt(&self, claims: &Claims) -> Result<Vec<u8>, SignError> {
        let hint = cwt::KeyHint {
            kid: self.hints.kid.then(|| self.key.kid().as_bytes().to_vec()),
            x5chain: self.chain_in_header().to_vec(),
        };
        cwt::encode(self.key.public_key().algorithm().cose_number(), &hint, claims, |input| self.sign(input))
    }

    /// A signature over any bytes, for tests of verifiers.
    #[cfg(test)]
    pub(crate) fn signature(&self, input: &[u8]) -> Vec<u8> {
        self.sign(input).unwrap()
    }

    fn sign(&self, input: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key.sign(input).map_err(|why| SignError { kid: self.key.kid().to_owned(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::{Bits, lst};

    fn claims() -> Claims {
        Claims {
            sub: "https://example.com/lists/1".into(),
            iss: Some("https://example.com".into()),
            iat: NumericDate::from_secs(1000),
            nbf: None,
            exp: Some(NumericDate::from_secs(2000)),
            ttl: Some(std::time::Duration::from_secs(60)),
            bits: Bits::One,
            lst: lst::compress(&[0; 100]).into(),
            aggregation_uri: Some("https://example.com/lists/aggregation/demo".into()),
        }
    }

    fn signer(algorithm: Algorithm, hints: KeyHints) -> Signer {
        Signer::new(SigningKey::from_pem(&generate(algorithm).unwrap(), None, None).unwrap(), hints)
    }

    const ALL_HINTS: KeyHints = KeyHints { kid: true, x5c: false, jwk: true };

    #[test]
    fn both_formats_verify_with_every_algorithm_and_not_with_another_key() {
        for algorithm in Algorithm::ALL {
            let (signer, other) = (signer(algorithm, ALL_HINTS), signer(algorithm, ALL_HINTS));
            let token = signer.sign_jwt(&claims()).unwrap();
            let read = jwt::decode(&token).unwrap();
            assert_eq!(read.claims, claims());
            assert_eq!(read.header.alg, algorithm.jose_name());
            assert!(signer.public_key().verify(read.signing_input.as_bytes(), &read.signature));
            assert!(!other.public_key().verify(read.signing_input.as_bytes(), &read.signature));

            let token = signer.sign_cwt(&claims()).unwrap();
            let read = cwt::decode(&token).unwrap();
            assert_eq!(read.claims, claims());
            assert_eq!(read.alg, algorithm.cose_number());
            assert!(signer.public_key().verify(&read.signing_input, &read.signature));
            assert!(!other.public_key().verify(&read.signing_input, &read.signature));
        }
    }

    #[test]
    fn another_library_verifies_our_jwt() {
        for (algorithm, theirs) in [
            (Algorithm::Es256, jsonwebtoken::Algorithm::ES256),
            (Algorithm::Es384, jsonwebtoken::Algorithm::ES384),
            (Algorithm::EdDsa, jsonwebtoken::Algorithm::EdDSA),
        ] {
            let signer = signer(algorithm, ALL_HINTS);
            let jwk: jsonwebtoken::jwk::Jwk =
                serde_json::from_value(serde_json::to_value(signer.jwk()).unwrap()).unwrap();
            let mut validation = jsonwebtoken::Validation::new(theirs);
            validation.validate_exp = false;
            let token = signer.sign_jwt(&claims()).unwrap();
            let read = jsonwebtoken::decode::<serde_json::Value>(
                &token,
                &jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap(),
                &validation,
            );
            assert_eq!(read.unwrap().claims["sub"], claims().sub);
        }
    }

    #[test]
    fn hints_are_switches() {
        let none = signer(Algorithm::Es256, KeyHints { kid: false, x5c: false, jwk: false });
        let header = jwt::decode(&none.sign_jwt(&claims()).unwrap()).unwrap().header;
        assert_eq!((header.kid, header.x5c, header.jwk), (None, None, None));
        let all = signer(Algorithm::Es256, ALL_HINTS);
        let header = jwt::decode(&all.sign_jwt(&claims()).unwrap()).unwrap().header;
        assert_eq!(header.kid.as_deref(), Some(all.kid()));
        let jwk = header.jwk.unwrap();
        assert!(jwk.get("d").is_none() && jwk["x"].is_string());
        assert_eq!(
            cwt::decode(&all.sign_cwt(&claims()).unwrap()).unwrap().key.kid.as_deref(),
            Some(all.kid().as_bytes())
        );
    }

    #[test]
    fn both_formats_carry_the_chain_leaf_first() {
        let (key, chain) = key::tests::key_and_chain();
        let signer = Signer::new(
            SigningKey::from_pem(&key, Some(&chain), None).unwrap(),
            KeyHints { kid: true, x5c: true, jwk: false },
        );
        let x5c = jwt::decode(&signer.sign_jwt(&claims()).unwrap()).unwrap().header.x5c.unwrap();
        let x5chain = cwt::decode(&signer.sign_cwt(&claims()).unwrap()).unwrap().key.x5chain;
        assert_eq!(x5c.iter().map(|der| STANDARD.decode(der).unwrap()).collect::<Vec<_>>(), x5chain);
        assert_eq!(&Certificate::parse(&x5chain[0]).unwrap().key, signer.public_key());
        // The certificate of the authority itself is the trust anchor.
        assert_eq!((x5chain.len(), signer.key.chain().len()), (2, 3));
        assert!(x5chain == signer.key.chain()[..2] && chain::is_self_signed(&signer.key.chain()[2]));
        assert!(signer.certificate_not_after().is_some());
        assert_eq!(signer.authority(), Some(signer.key.chain()[2].as_slice()));
        let leaf = &chain[..chain.find("-----END CERTIFICATE-----").unwrap() + 25];
        let alone = Signer::new(SigningKey::from_pem(&key, Some(leaf), None).unwrap(), ALL_HINTS);
        assert!(alone.certificate().is_some() && alone.authority().is_none());
    }
}
