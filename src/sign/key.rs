//! The signing key: PKCS#8 in PEM, PKCS#12, PKCS#11 or in a key service, read once, with the algorithm that its curve
//! determines and an optional certificate chain.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use pem::{EncodeConfig, LineEnding, Pem};
use zeroize::Zeroizing;

#[cfg(feature = "pkcs11")]
use super::hsm::{Hsm, HsmKey};
use super::invalid_key::InvalidKey;
use super::key_service::{KeyService, ServiceKey};
use super::{Algorithm, Certificate, ChainFault, PublicKey, Validity, chain, pkcs12};
use crate::base::clock::NumericDate;

/// The private key printed in the specification: every reader can sign with it.
const EXAMPLE_KEY_X: &str = "I3HWm_0Ds1dPMI-IWmf4mBmH-YaeAVbPVu7vB27CxXo";

/// A private key, its public half, its id and its certificates.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
    kid: String,
    chain: Vec<Vec<u8>>,
    /// How many of the chain belong into tokens.
    below_anchor: usize,
    validity: Option<Validity>,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    #[cfg(feature = "pkcs11")]
    Hsm(Hsm),
    Elsewhere(KeyService),
}

impl SigningKey {
    /// Reads a PKCS#8 key and, if given, its certificate chain, leaf first. The default `kid` is the key's thumbprint.
    pub fn from_pem(key: &str, chain: Option<&str>, kid: Option<&str>) -> Result<Self, InvalidKey> {
        let blocks = pem::parse_many(key)?;
        let found = blocks.iter().map(|block| block.tag().to_owned()).collect();
        let keys = blocks.into_iter().filter(|block| block.tag() == "PRIVATE KEY");
        // All of them, so that all are wiped.
        let keys: Vec<_> = keys.map(|block| Zeroizing::new(block.into_contents())).collect();
        let pkcs8 = keys.first().ok_or(InvalidKey::NotPkcs8 { found })?;
        let (pair, public) = parse(pkcs8)?;
        let chain = chain.map(certificates).transpose()?.unwrap_or_default();
        Self::new(pair, public, chain, kid)
    }

    /// Reads a key and its certificates from a PKCS#12 key store. `alias` selects the key if there are several.
    pub fn from_pkcs12(
        store: &[u8],
        password: &str,
        alias: Option<&str>,
        kid: Option<&str>,
    ) -> Result<Self, InvalidKey> {
        let store = pkcs12::open(store, password, alias)?;
        let (pair, public) = parse(&store.pkcs8)?;
        let chain = store.chain(|der| Certificate::parse(der).is_ok_and(|leaf| leaf.key == public));
        Self::new(pair, public, chain, kid)
    }

    /// Finds a key in a hardware security module. Its optional certificate chain is in PEM.
    #[cfg(feature = "pkcs11")]
    pub fn from_hsm(key: HsmKey, chain: Option<&str>, kid: Option<&str>) -> Result<Self, InvalidKey> {
        let (hsm, public) = Hsm::open(key).map_err(InvalidKey::Hsm)?;
        let chain = chain.map(certificates).transpose()?.unwrap_or_default();
        Self::new(Pair::Hsm(hsm), public, chain, kid)
    }

    /// Asks a key service for a key. Its optional certificate chain is in PEM.
    pub fn from_service(
        key: &ServiceKey,
        chain: Option<&str>,
        kid: Option<&str>,
    ) -> Result<Self, InvalidKey> {
        let (service, public) = KeyService::open(key).map_err(InvalidKey::Service)?;
        let chain = chain.map(certificates).transpose()?.unwrap_or_default();
        Self::new(Pair::Elsewhere(service), public, chain, kid)
    }

    fn new(
        pair: Pair,
        public: PublicKey,
        chain: Vec<Vec<u8>>,
        kid: Option<&str>,
    ) -> Result<Self, InvalidKey> {
        if public.to_jwk(None).x == EXAMPLE_KEY_X {
            return Err(InvalidKey::Example);
        }
        if let Some(leaf) = chain.first() {
            let leaf = Certificate::parse(leaf).map_err(|why| InvalidKey::Certificate { number: 1, why })?;
            if leaf.key != public {
                return Err(InvalidKey::OtherKey);
            }
        }
        let validity = Validity::of(&chain)?;
        let below_anchor = chain::without_anchor(&chain).len();
        let kid = kid.map_or_else(|| public.thumbprint(), str::to_owned);
        Ok(Self { pair, public, kid, chain, below_anchor, validity })
    }

    /// The public key that verifies its signatures.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Its id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its certificates in DER, leaf first; empty without a chain.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Its certificates without a trust anchor at their end: those that belong into tokens.
    pub fn chain_below_anchor(&self) -> &[Vec<u8>] {
        &self.chain[..self.below_anchor]
    }

    /// The time in which all its certificates are valid; `None` without a chain.
    pub fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// Checks that Relying Parties can follow its chain at `now`. A key without a chain passes.
    pub fn check_chain(&self, now: NumericDate) -> Result<(), ChainFault> {
        chain::check(&self.chain, now)
    }

    /// The raw signature over `message`: for ECDSA r and s side by side, never DER. The error says why it could not sign.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                Ok(signature.map_err(|error| error.to_string())?.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            #[cfg(feature = "pkcs11")]
            Pair::Hsm(hsm) => hsm.sign(message),
            Pair::Elsewhere(service) => service.sign(message),
        }
    }

    /// Whether another service signs with it.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.pair, Pair::Elsewhere(_))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.public.algorithm().jose_name(), self.kid)
    }
}

/// Generates a private key in PKCS#8 PEM.
pub fn generate(algorithm: Algorithm) -> Result<Zeroizing<String>, Unspecified> {
    let ecdsa = |signing| -> Result<Vec<u8>, Unspecified> {
        Ok(EcdsaKeyPair::generate(signing)?.to_pkcs8v1().map_err(|_| Unspecified)?.as_ref().to_vec())
    };
    let der = match algorithm {
        Algorithm::Es256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
        Algorithm::Es384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING)?,
        Algorithm::Es512 => ecdsa(&ECDSA_P521_SHA512_FIXED_SIGNING)?,
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate()?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?.as_ref().to_vec()
        }
    };
    let block = Pem::new("PRIVATE KEY", der);
    let text = pem::encode_config(&block, EncodeConfig::new().set_line_ending(LineEnding::LF));
    drop(Zeroizing::new(block.into_contents()));
    Ok(Zeroizing::new(text))
}

fn parse(pkcs8: &[u8]) -> Result<(Pair, PublicKey), InvalidKey> {
    let curves = [
        (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
        (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    for (algorithm, signing) in curves {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(signing, pkcs8) {
            let public = PublicKey::new(algorithm, pair.public_key().as_ref().to_vec());
            return Ok((Pair::Ecdsa(pair), public));
        }
    }
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| InvalidKey::Unsupported)?;
    let public = PublicKey::new(Algorithm::EdDsa, pair.public_key().as_ref().to_vec());
    Ok((Pair::Ed25519(pair), public))
}

fn certificates(chain: &str) -> Result<Vec<Vec<u8>>, InvalidKey> {
    let blocks = pem::parse_many(chain)?;
    let chain: Vec<Vec<u8>> =
        blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").map(Pem::into_contents).collect();
    if chain.is_empty() { Err(InvalidKey::EmptyChain) } else { Ok(chain) }
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    /// A PKCS#8 key and a chain: its leaf, the authority that issued the leaf, and the root, which issued that.
    pub(in crate::sign) fn key_and_chain() -> (String, String) {
        let named = |name: &str, is_authority: bool| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            if is_authority {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }
            (params, rcgen::KeyPair::generate().unwrap())
        };
        let (root, root_key) = named("root", true);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let root = rcgen::Issuer::new(root, root_key);
        let (between, between_key) = named("between", true);
        let between_pem = between.signed_by(&between_key, &root).unwrap().pem();
        let between = rcgen::Issuer::new(between, between_key);
        let (leaf, key) = named("signer", false);
        let leaf_pem = leaf.signed_by(&key, &between).unwrap().pem();
        (key.serialize_pem(), format!("{leaf_pem}{between_pem}{root_pem}"))
    }

    #[test]
    fn generated_keys_are_read_back_with_their_algorithm() {
        for (algorithm, signature_bytes) in Algorithm::ALL.into_iter().zip([64, 96, 132, 64]) {
            let key = SigningKey::from_pem(&generate(algorithm).unwrap(), None, None).unwrap();
            assert_eq!(key.public_key().algorithm(), algorithm);
            assert_eq!(key.kid(), key.public_key().thumbprint());
            assert_eq!(key.sign(b"x").unwrap().len(), signature_bytes);
        }
    }

    #[test]
    fn openssl_keys_are_read() {
        for arguments in [
            ["EC", "ec_paramgen_curve:P-256"],
            ["EC", "ec_paramgen_curve:P-384"],
            ["EC", "ec_paramgen_curve:P-521"],
            ["ED25519", ""],
        ] {
            let mut openssl = std::process::Command::new("openssl");
            openssl.args(["genpkey", "-algorithm", arguments[0]]);
            if !arguments[1].is_empty() {
                openssl.args(["-pkeyopt", arguments[1]]);
            }
            let pem = String::from_utf8(openssl.output().unwrap().stdout).unwrap();
            SigningKey::from_pem(&pem, None, None).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        }
    }

    #[test]
    fn debug_prints_no_secret() {
        let pem = generate(Algorithm::Es256).unwrap();
        let key = SigningKey::from_pem(&pem, None, Some("a-key")).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(ES256, a-key)");
    }

    #[test]
    fn chain_of_another_key_is_refused() {
        let (_, chain) = key_and_chain();
        let (key, _) = key_and_chain();
        assert!(matches!(SigningKey::from_pem(&key, Some(&chain), None), Err(InvalidKey::OtherKey)));
        assert!(matches!(SigningKey::from_pem(&key, Some(&key), None), Err(InvalidKey::EmptyChain)));
    }

    #[test]
    fn other_forms_are_refused_with_advice() {
        let refused = |pem: &str| SigningKey::from_pem(pem, None, None).unwrap_err();
        assert!(matches!(
            refused("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"),
            InvalidKey::NotPkcs8 { .. }
        ));
        assert!(matches!(
            refused("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            InvalidKey::Unsupported
        ));
        assert!(matches!(refused(""), InvalidKey::NotPkcs8 { .. }));
    }

    #[test]
    fn the_specifications_example_key_is_refused() {
        use p256::pkcs8::EncodePrivateKey;
        // The private value beside the public one in the specification's source.
        let d = URL_SAFE_NO_PAD.decode("xzUEdsyLosZF0acZGRAjTKImb0lQvAvssDK5XIZELd0").unwrap();
        let pem = p256::SecretKey::from_slice(&d).unwrap().to_pkcs8_pem(Default::default()).unwrap();
        assert!(matches!(SigningKey::from_pem(&pem, None, None), Err(InvalidKey::Example)));
    }
}
