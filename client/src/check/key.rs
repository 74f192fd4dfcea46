//! The keys and algorithms that verify signatures: more than this service signs with.
//!
//! Invariant: a key has one algorithm, which follows from the key alone (RFC 8725, section 3.1). If its kind allows
//! several, as RSA does, the key itself must name the algorithm.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use x509_parser::x509::SubjectPublicKeyInfo;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// ECDSA with P-521 and SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
}

/// The names of an algorithm in JOSE and its number in COSE. RFC 9864 gives a second name to those whose first name leaves
/// the curve open.
const NAMES: &[(Algorithm, &str, i64)] = &[
    (Algorithm::Es256, "ES256", -7),
    (Algorithm::Es256, "ESP256", -9),
    (Algorithm::Es384, "ES384", -35),
    (Algorithm::Es384, "ESP384", -51),
    (Algorithm::Es512, "ES512", -36),
    (Algorithm::Es512, "ESP512", -52),
    (Algorithm::EdDsa, "EdDSA", -8),
    (Algorithm::EdDsa, "Ed25519", -19),
    (Algorithm::Rs256, "RS256", -257),
    (Algorithm::Ps256, "PS256", -37),
];

impl Algorithm {
    /// The algorithm with this `alg` in a JOSE header or a JWK.
    pub(super) fn from_jose_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, jose, _)| *jose == name).map(|(algorithm, ..)| *algorithm)
    }

    /// The algorithm with this `alg` (1) in a COSE header, and its name.
    pub(super) fn from_cose_number(number: i64) -> Option<(Self, &'static str)> {
        NAMES.iter().find(|(_, _, cose)| *cose == number).map(|(algorithm, jose, _)| (*algorithm, *jose))
    }

    /// Its oldest JOSE name.
    pub(super) fn jose_name(self) -> &'static str {
        let named = NAMES.iter().find(|(algorithm, ..)| *algorithm == self);
        named.map(|(_, name, _)| *name).expect("every algorithm has a name")
    }
}

/// A public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    /// A point, or the 32 bytes of Ed25519.
    Parsed(ParsedPublicKey),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
}

impl Key {
    /// The algorithm of its signatures.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` (raw, as JOSE and COSE have it) is a signature of this key over `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Parsed(key) => key.verify_sig(message, signature).is_ok(),
            Material::Rsa(key) => {
                let parameters = match self.algorithm {
                    Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    _ => &RSA_PKCS1_2048_8192_SHA256,
                };
                key.verify(parameters, message, signature).is_ok()
            }
        }
    }

    /// The key in a certificate.
    pub(super) fn from_certificate(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, String> {
        const EC_KEY: &str = "1.2.840.10045.2.1";
        let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string());
        let kind = info.algorithm.algorithm.to_id_string();
        let algorithm = match (kind.as_str(), curve.as_deref()) {
            (EC_KEY, Some("1.2.840.10045.3.1.7")) => Algorithm::Es256,
            (EC_KEY, Some("1.3.132.0.34")) => Algorithm::Es384,
            (EC_KEY, Some("1.3.132.0.35")) => Algorithm::Es512,
            ("1.3.101.112", None) => Algorithm::EdDsa,
            // An RSA key could be for RS256 or for PS256, and a certificate does not say which.
            _ => {
                return Err(format!(
                    "a key of type {kind} {}; expected an EC key on P-256, P-384 or P-521, or Ed25519",
                    curve.unwrap_or_default()
                ));
            }
        };
        Self::parsed(algorithm, &info.subject_public_key.data)
    }

    /// Reads this JWK (RFC 7517), if it is for verifying signatures.
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, String> {
        let said = jwk.get("alg").map(|alg| alg.as_str().ok_or("`alg` must be text")).transpose()?;
        check_use(jwk)?;
        let (kty, crv) = (text(jwk, "kty")?, jwk.get("crv").and_then(Value::as_str));
        let algorithm = match (kty, crv) {
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("EC", Some("P-384")) => Algorithm::Es384,
            ("EC", Some("P-521")) => Algorithm::Es512,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            ("RSA", _) => match said {
                Some("RS256") => Algorithm::Rs256,
                Some("PS256") => Algorithm::Ps256,
                _ => return Err("an RSA key must name its `alg`: RS256 or PS256".to_owned()),
            },
            _ => return Err(format!("keys of `kty` {kty:?} and `crv` {crv:?} are not used here")),
        };
        if said.is_some_and(|said| Algorithm::from_jose_name(said) != Some(algorithm)) {
            return Err(format!("its `alg` {said:?} does not match its kind, {}", algorithm.jose_name()));
        }
        match algorithm {
            Algorithm::Es256 => Self::point(algorithm, jwk, 32),
            Algorithm::Es384 => Self::point(algorithm, jwk, 48),
            Algorithm::Es512 => Self::point(algorithm, jwk, 66),
            Algorithm::EdDsa => Self::parsed(algorithm, &bytes(jwk, "x", Some(32))?),
            Algorithm::Rs256 | Algorithm::Ps256 => {
                let (n, e) = (bytes(jwk, "n", None)?, bytes(jwk, "e", None)?);
                if !(256..=1024).contains(&n.len()) {
                    return Err(format!("an RSA modulus has 2048 to 8192 bits, this has {}", 8 * n.len()));
                }
                Ok(Self { algorithm, material: Material::Rsa(RsaPublicKeyComponents { n, e }) })
            }
        }
    }

    fn point(algorithm: Algorithm, jwk: &Map<String, Value>, half: usize) -> Result<Self, String> {
        let (x, y) = (bytes(jwk, "x", Some(half))?, bytes(jwk, "y", Some(half))?);
        Self::parsed(algorithm, &[&[4][..], &x, &y].concat())
    }

    fn parsed(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, String> {
        let parsed = match algorithm {
            Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes),
            Algorithm::Es384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes),
            Algorithm::Es512 => ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, bytes),
            Algorithm::EdDsa => ParsedPublicKey::new(&ED25519, bytes),
            Algorithm::Rs256 | Algorithm::Ps256 => return Err("an RSA key has no point".to_owned()),
        };
        let material = parsed.map_err(|_| format!("it is not a key of {}", algorithm.jose_name()))?;
        Ok(Self { algorithm, material: Material::Parsed(material) })
    }
}

/// Checks that `use` and `key_ops`, if present, allow verifying.
fn check_use(jwk: &Map<String, Value>) -> Result<(), String> {
    if jwk.get("use").is_some_and(|use_| use_ != "sig") {
        return Err(format!("its `use` is {}, not \"sig\"", jwk["use"]));
    }
    let may_verify = |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
    if jwk.get("key_ops").is_some_and(|ops| !may_verify(ops)) {
        return Err(format!("its `key_ops` are {}, without \"verify\"", jwk["key_ops"]));
    }
    if jwk.get("exp").is_some_and(|exp| !exp.is_number()) {
        return Err("its `exp` must be a number".to_owned());
    }
    Ok(())
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    jwk.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` must be present, as text"))
}

fn bytes(jwk: &Map<String, Value>, name: &str, length: Option<usize>) -> Result<Vec<u8>, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text(jwk, name)?);
    let bytes = bytes.ok().filter(|bytes| length.is_none_or(|length| bytes.len() == length));
    bytes.ok_or_else(|| match length {
        Some(length) => format!("`{name}` must be {length} bytes in base64url"),
        None => format!("`{name}` must be bytes in base64url"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_has_one_first_name() {
        for (algorithm, jose, cose) in NAMES {
            assert_eq!(Algorithm::from_jose_name(jose), Some(*algorithm));
            assert_eq!(Algorithm::from_cose_number(*cose), Some((*algorithm, *jose)));
            assert_eq!(Algorithm::from_jose_name(algorithm.jose_name()), Some(*algorithm));
        }
        assert_eq!(Algorithm::from_jose_name("none"), None);
        assert_eq!(Algorithm::from_cose_number(5), None);
    }
}
