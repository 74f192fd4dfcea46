//! An Issuer for the tests: signs tokens as the service does, which they cannot use because it depends on this crate.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::chain::without_anchor;
use crate::status_list::{Claims, cwt, jwt};

/// Algorithms of the tests' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// A public key in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Jwk {
    pub(crate) kty: String,
    pub(crate) crv: String,
    pub(crate) x: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct JwkSet {
    pub(crate) keys: Vec<Jwk>,
}

/// How a token's header refers to its key.
pub(crate) struct KeyHints {
    pub(crate) kid: bool,
    pub(crate) x5c: bool,
    pub(crate) jwk: bool,
}

enum Pair {
    Ecdsa(Algorithm, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    fn public(&self) -> &[u8] {
        match self {
            Self::Ecdsa(_, pair) => &pair.public_key().as_ref()[1..],
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// The curve, and the algorithm in JOSE and in COSE.
    fn names(&self) -> (&'static str, &'static str, i64) {
        match self {
            Self::Ecdsa(Algorithm::Es512, _) => ("P-521", "ES512", -36),
            Self::Ecdsa(Algorithm::Es384, _) => ("P-384", "ES384", -35),
            Self::Ecdsa(..) => ("P-256", "ES256", -7),
            Self::Ed25519(_) => ("Ed25519", "EdDSA", -8),
        }
    }
}

pub(crate) struct SigningKey {
    pair: Pair,
    kid: String,
    chain: Vec<Vec<u8>>,
}

pub(crate) struct Signer {
    key: SigningKey,
    hints: KeyHints,
}

/// A private key in PKCS#8 PEM.
pub(crate) fn generate(algorithm: Algorithm) -> Result<String, rcgen::Error> {
    let kind = match algorithm {
        Algorithm::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Algorithm::Es384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        Algorithm::Es512 => &rcgen::PKCS_ECDSA_P521_SHA512,
        Algorithm::EdDsa => &rcgen::PKCS_ED25519,
    };
    Ok(rcgen::KeyPair::generate_for(kind)?.serialize_pem())
}

impl SigningKey {
    /// Reads a PKCS#8 key and its certificate chain, leaf first. The default `kid` is the start of
    /// the public key.
    pub(crate) fn from_pem(key: &str, chain: Option<&str>, kid: Option<&str>) -> Result<Self, pem::PemError> {
        let pkcs8 = pem::parse(key)?.into_contents();
        let kinds = [
            (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
            (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED_SIGNING),
        ];
        let mut ecdsa = kinds.into_iter().filter_map(|(algorithm, kind)| {
            EcdsaKeyPair::from_pkcs8(kind, &pkcs8).ok().map(|pair| Pair::Ecdsa(algorithm, pair))
        });
        let pair = ecdsa.next().unwrap_or_else(|| Pair::Ed25519(Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap()));
        let kid = kid.map_or_else(|| URL_SAFE_NO_PAD.encode(&pair.public()[..12]), str::to_owned);
        let chain = pem::parse_many(chain.unwrap_or_default())?;
        let chain = chain.into_iter().map(pem::Pem::into_contents).collect();
        Ok(Self { pair, kid, chain })
    }
}

impl Signer {
    pub(crate) fn new(key: SigningKey, hints: KeyHints) -> Self {
        Self { key, hints }
    }

    pub(crate) fn jwk(&self) -> Jwk {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = self.key.pair.public();
        let (kty, x, y) = match self.key.pair {
            Pair::Ecdsa(..) => {
                let (x, y) = public.split_at(public.len() / 2);
                ("EC", text(x), Some(text(y)))
            }
            Pair::Ed25519(_) => ("OKP", text(public), None),
        };
        let crv = self.key.pair.names().0.to_owned();
        Jwk { kty: kty.to_owned(), crv, x, y, kid: Some(self.key.kid.clone()) }
    }

    pub(crate) fn sign_jwt(&self, claims: &Claims) -> Result<String, serde_json::Error> {
        let x5c = || self.chain().iter().map(|der| STANDARD.encode(der)).collect();
        let header = jwt::Header {
            alg: self.key.pair.names().1.to_owned(),
            typ: jwt::TYP.to_owned(),
            cty: None,
            kid: self.hints.kid.then(|| self.key.kid.clone()),
            x5c: self.hints.x5c.then(x5c),
            jwk: self.hints.jwk.then(|| serde_json::to_value(self.jwk())).transpose()?,
        };
        let input = jwt::signing_input(&header, claims);
        let signature = self.signature(input.as_bytes());
        Ok(jwt::assemble(input, &signature))
    }

    pub(crate) fn sign_cwt(&self, claims: &Claims) -> Result<Vec<u8>, std::convert::Infallible> {
        let hint = cwt::KeyHint {
            kid: self.hints.kid.then(|| self.key.kid.as_bytes().to_vec()),
            x5chain: self.chain().to_vec(),
        };
        cwt::encode(self.key.pair.names().2, &hint, claims, |input| Ok(self.signature(input)))
    }

    pub(crate) fn signature(&self, input: &[u8]) -> Vec<u8> {
        match &self.key.pair {
            Pair::Ecdsa(_, pair) => pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(input).as_ref().to_vec(),
        }
    }

    fn chain(&self) -> &[Vec<u8>] {
        if self.hints.x5c { without_anchor(&self.key.chain) } else { &[] }
    }
}
