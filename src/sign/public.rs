//! Public keys: verifying a signature, JWK and certificate forms, and a key's thumbprint.

use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use x509_parser::prelude::{ExtendedKeyUsage, FromDer, SubjectPublicKeyInfo, X509Certificate};

use crate::base::clock::NumericDate;

/// The signature algorithms. The key determines its algorithm, never the token (RFC 8725, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// ECDSA with P-521 and SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 4] = [Self::Es256, Self::Es384, Self::Es512, Self::EdDsa];

    /// `alg` of a JOSE header.
    pub const fn jose_name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// `alg` (1) of a COSE header.
    pub const fn cose_number(self) -> i64 {
        match self {
            Self::Es256 => -7,
            Self::Es384 => -35,
            Self::Es512 => -36,
            Self::EdDsa => -8,
        }
    }

    /// The algorithm with this JOSE name.
    pub fn from_jose_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.jose_name() == name)
    }

    const fn curve(self) -> &'static str {
        match self {
            Self::Es256 => "P-256",
            Self::Es384 => "P-384",
            Self::Es512 => "P-521",
            Self::EdDsa => "Ed25519",
        }
    }

    /// The bytes of a coordinate, or of a whole Ed25519 key.
    pub(super) const fn coordinate_bytes(self) -> usize {
        match self {
            Self::Es256 | Self::EdDsa => 32,
            Self::Es384 => 48,
            Self::Es512 => 66,
        }
    }

    /// The bytes of a public key: an uncompressed point, or an Ed25519 key.
    pub(super) const fn key_bytes(self) -> usize {
        match self {
            Self::EdDsa => self.coordinate_bytes(),
            Self::Es256 | Self::Es384 | Self::Es512 => 1 + 2 * self.coordinate_bytes(),
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
            Self::EdDsa => &signature::ED25519,
        }
    }
}

const EC_KEY: &str = "1.2.840.10045.2.1";
const P_256: &str = "1.2.840.10045.3.1.7";
const P_384: &str = "1.3.132.0.34";
const P_521: &str = "1.3.132.0.35";
const ED25519: &str = "1.3.101.112";

/// A public key and its one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// The uncompressed point (0x04, x, y), or the 32 bytes of Ed25519.
    bytes: Vec<u8>,
}

/// A key of an unsupported kind, or damaged.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}: expected an EC key on P-256, P-384 or P-521, or Ed25519")]
pub struct UnsupportedKey(pub String);

/// A public key in JSON (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `EC` or `OKP`.
    pub kty: String,
    /// The curve.
    #[serde(default)]
    pub crv: String,
    /// The first coordinate, or the whole Ed25519 key.
    #[serde(default)]
    pub x: String,
    /// The second coordinate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// The key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The key's algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// `sig`.
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub use_: Option<String>,
    /// Until when a key that no longer signs is kept (as OpenID Federation's historical keys have
    /// it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<NumericDate>,
}

/// Several public keys, as in `jwks.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys.
    pub keys: Vec<Jwk>,
}

impl JwkSet {
    /// The key set after `published`, if `current` sign `now`: keys that no longer sign stay for `keep_for`, or until their earlier
    /// date. While nobody knows the time, they all stay. Fails with an id that two different keys have.
    pub fn successor(
        mut current: Vec<Jwk>,
        published: Self,
        now: Option<NumericDate>,
        keep_for: Duration,
    ) -> Result<Self, String> {
        current.sort_by(|a, b| a.kid.cmp(&b.kid));
        current.dedup();
        if let Some(pair) = current.windows(2).find(|pair| pair[0].kid == pair[1].kid) {
            return Err(pair[0].kid.clone().unwrap_or_default());
        }
        let kids: Vec<_> = current.iter().map(|key| key.kid.clone()).collect();
        let earlier = published.keys.into_iter().filter(|key| !kids.contains(&key.kid));
        let kept = earlier.map(|key| Jwk { exp: key.exp.or(now.map(|now| now.plus(keep_for))), ..key });
        current.extend(kept.filter(|key| now.is_none_or(|now| key.exp.is_none_or(|exp| exp > now))));
        Ok(Self { keys: current })
    }
}

/// The parts of an X.509 certificate that are needed here.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The key it certifies.
    pub key: PublicKey,
    /// The start of its validity.
    pub not_before: NumericDate,
    /// The end of its validity.
    pub not_after: NumericDate,
    /// Its extended key usages in dotted numbers.
    pub extended_key_usages: Vec<String>,
}

impl PublicKey {
    pub(super) fn new(algorithm: Algorithm, bytes: Vec<u8>) -> Self {
        Self { algorithm, bytes }
    }

    /// Reads a public key in DER (SubjectPublicKeyInfo of RFC 5280).
    pub(super) fn from_der(der: &[u8]) -> Result<Self, UnsupportedKey> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der)
            .map_err(|error| UnsupportedKey(format!("not a public key ({error})")))?;
        Self::of_info(&info).map_err(|kind| UnsupportedKey(format!("public key of type {kind}")))
    }

    /// Fails with the type of a key that is not supported.
    fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, String> {
        let bytes = info.subject_public_key.data.to_vec();
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.as_oid().ok())
            .map(|oid| oid.to_id_string());
        let kind = info.algorithm.algorithm.to_id_string();
        let algorithm = match (kind.as_str(), curve.as_deref()) {
            (EC_KEY, Some(P_256)) => Some(Algorithm::Es256),
            (EC_KEY, Some(P_384)) => Some(Algorithm::Es384),
            (EC_KEY, Some(P_521)) => Some(Algorithm::Es512),
            (ED25519, None) => Some(Algorithm::EdDsa),
            _ => None,
        };
        let algorithm = algorithm.filter(|algorithm| bytes.len() == algorithm.key_bytes());
        match algorithm {
            Some(algorithm) => Ok(Self { algorithm, bytes }),
            None => Err(format!("{kind} {}", curve.unwrap_or_default())),
        }
    }

    /// The algorithm of its signatures.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` (raw, as JOSE and COSE have it) is a signature of this key over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm.verification(), &self.bytes).verify(message, signature).is_ok()
    }

    /// Reads a JWK.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, UnsupportedKey> {
        let unsupported = || UnsupportedKey(format!("JWK with kty {:?} and crv {:?}", jwk.kty, jwk.crv));
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.curve() == jwk.crv)
            .ok_or_else(unsupported)?;
        if jwk.alg.as_deref().is_some_and(|alg| alg != algorithm.jose_name()) {
            return Err(UnsupportedKey(format!(
                "JWK whose alg {:?} is not that of its curve {}",
                jwk.alg, jwk.crv
            )));
        }
        let half = algorithm.coordinate_bytes();
        let decode = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok().filter(|bytes| bytes.len() == half);
            bytes.ok_or_else(|| {
                UnsupportedKey(format!("JWK on {} whose coordinates are not {half} bytes", jwk.crv))
            })
        };
        let bytes = match (algorithm, jwk.kty.as_str()) {
            (Algorithm::EdDsa, "OKP") => decode(&jwk.x)?,
            (Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512, "EC") => {
                [&[4][..], &decode(&jwk.x)?, &decode(jwk.y.as_deref().unwrap_or_default())?].concat()
            }
            _ => return Err(unsupported()),
        };
        Ok(Self { algorithm, bytes })
    }

    /// This key as a JWK, with the id `kid` if given.
    pub fn to_jwk(&self, kid: Option<&str>) -> Jwk {
        let coordinates = match self.algorithm {
            Algorithm::EdDsa => (URL_SAFE_NO_PAD.encode(&self.bytes), None),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                let (x, y) = self.bytes[1..].split_at(self.bytes.len() / 2);
                (URL_SAFE_NO_PAD.encode(x), Some(URL_SAFE_NO_PAD.encode(y)))
            }
        };
        Jwk {
            kty: if self.algorithm == Algorithm::EdDsa { "OKP" } else { "EC" }.to_owned(),
            crv: self.algorithm.curve().to_owned(),
            x: coordinates.0,
            y: coordinates.1,
            kid: kid.map(str::to_owned),
            alg: Some(self.algorithm.jose_name().to_owned()),
            use_: Some("sig".to_owned()),
            exp: None,
        }
    }

    /// The JWK thumbprint (RFC 7638) with SHA-256: a name derived from the key alone.
    pub fn thumbprint(&self) -> String {
        let Jwk { kty, crv, x, y, .. } = self.to_jwk(None);
        let canonical = match y {
            Some(y) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
            None => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
        };
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
    }
}

impl Certificate {
    /// Reads a DER certificate. Does not verify its signature.
    pub fn parse(der: &[u8]) -> Result<Self, UnsupportedKey> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| UnsupportedKey(format!("not an X.509 certificate ({error})")))?;
        let key = PublicKey::of_info(certificate.public_key())
            .map_err(|kind| UnsupportedKey(format!("certificate with a key of type {kind}")))?;
        let eku = certificate.extended_key_usage().ok().flatten();
        Ok(Self {
            key,
            not_before: NumericDate::from_signed_secs(certificate.validity().not_before.timestamp()),
            not_after: NumericDate::from_signed_secs(certificate.validity().not_after.timestamp()),
            extended_key_usages: eku.map(|eku| usages(eku.value)).unwrap_or_default(),
        })
    }
}

/// The usages in dotted numbers; the parser keeps the well-known ones apart.
fn usages(eku: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let well_known = [
        (eku.any, "2.5.29.37.0"),
        (eku.server_auth, "1.3.6.1.5.5.7.3.1"),
        (eku.client_auth, "1.3.6.1.5.5.7.3.2"),
        (eku.code_signing, "1.3.6.1.5.5.7.3.3"),
        (eku.email_protection, "1.3.6.1.5.5.7.3.4"),
        (eku.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (eku.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    let well_known = well_known.into_iter().filter(|(present, _)| *present).map(|(_, oid)| oid.to_owned());
    well_known.chain(eku.other.iter().map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_is_that_of_rfc_8037() {
        let jwk = Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".into(),
            y: None,
            kid: None,
            alg: None,
            use_: None,
            exp: None,
        };
        let key = PublicKey::from_jwk(&jwk).unwrap();
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn verifies_the_specifications_tokens() {
        let all: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/vectors.json")).unwrap();
        let mut tokens = all["tokens"].as_array().unwrap().iter();
        let vector = tokens.find(|token| token["name"] == "status-list-token-cwt").unwrap();
        let key =
            PublicKey::from_jwk(&serde_json::from_value(vector["public_jwk"].clone()).unwrap()).unwrap();
        let (message, signature) = ("sig_structure_hex", "signature_hex");
        let bytes = |name: &str| {
            let hex = vector[name].as_str().unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>()
        };
        assert!(key.verify(&bytes(message), &bytes(signature)));
        assert!(!key.verify(&bytes("payload_hex"), &bytes(signature)));
        assert!(!key.verify(&bytes(message), &[]));
    }

    #[test]
    fn earlier_keys_stay_published_until_their_tokens_have_expired() {
        let key = |kid: &str| {
            PublicKey { algorithm: Algorithm::EdDsa, bytes: vec![kid.len() as u8; 32] }.to_jwk(Some(kid))
        };
        let successor = |keys, published, now| {
            JwkSet::successor(keys, published, Some(NumericDate::from_secs(now)), Duration::from_secs(100))
        };
        let kids =
            |set: &JwkSet| set.keys.iter().map(|key| (key.kid.clone().unwrap(), key.exp)).collect::<Vec<_>>();
        let first = successor(vec![key("a")], JwkSet::default(), 1000).unwrap();
        assert_eq!(kids(&first), [("a".into(), None)]);
        let second = successor(vec![key("bb")], first, 2000).unwrap();
        assert_eq!(kids(&second), [("bb".into(), None), ("a".into(), Some(NumericDate::from_secs(2100)))]);
        let third = successor(vec![key("bb")], second.clone(), 2050).unwrap();
        assert_eq!(kids(&third), kids(&second), "not prolonged");
        let unknown = JwkSet::successor(vec![key("bb")], third.clone(), None, Duration::ZERO).unwrap();
        assert_eq!(kids(&unknown), kids(&third), "nobody knows the time");
        let last = successor(vec![key("bb")], third, 2100).unwrap();
        assert_eq!(kids(&last), [("bb".into(), None)]);
        let back = successor(vec![key("a")], second, 2050).unwrap();
        assert_eq!(kids(&back), [("a".into(), None), ("bb".into(), Some(NumericDate::from_secs(2150)))]);
        let other = PublicKey { algorithm: Algorithm::EdDsa, bytes: vec![9; 32] }.to_jwk(Some("a"));
        assert_eq!(successor(vec![key("a"), other], JwkSet::default(), 1), Err("a".into()));
    }

    #[test]
    fn other_keys_are_refused() {
        let jwk = |kty: &str, crv: &str, alg: Option<&str>| Jwk {
            kty: kty.into(),
            crv: crv.into(),
            x: "AA".into(),
            y: Some("AA".into()),
            kid: None,
            alg: alg.map(str::to_owned),
            use_: None,
            exp: None,
        };
        assert!(PublicKey::from_jwk(&jwk("RSA", "", None)).is_err());
        assert!(PublicKey::from_jwk(&jwk("oct", "P-256", None)).is_err());
        assert!(PublicKey::from_jwk(&jwk("EC", "secp256k1", None)).is_err());
        assert!(PublicKey::from_jwk(&jwk("EC", "P-256", Some("HS256"))).is_err());
        assert!(Certificate::parse(b"no").is_err());
    }
}
