//! A Relying Party that shares no code with the service: jsonwebtoken and p256 verify, ciborium decodes CBOR, flate2
//! decompresses, bits are read by hand.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value as Cbor;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use serde_json::Value;

/// A verified list.
#[derive(Debug)]
pub(crate) struct List {
    /// Of a JWT.
    pub(crate) claims: Value,
    pub(crate) iat: u64,
    bits: u64,
    array: Vec<u8>,
}

impl List {
    /// Returns the list in `token`, which must verify with a key of `jwks` and have this `uri`.
    pub(crate) fn verify(token: &str, uri: &str, jwks: &JwkSet) -> Result<Self, String> {
        let header = decode_header(token).map_err(|error| error.to_string())?;
        if header.typ.as_deref() != Some("statuslist+jwt") {
            return Err(format!("typ is {:?}", header.typ));
        }
        let kid = header.kid.ok_or("no kid")?;
        let jwk = jwks.find(&kid).ok_or_else(|| format!("kid {kid} is not published"))?;
        let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = 0;
        validation.set_required_spec_claims(&["exp", "sub"]);
        let claims = decode::<Value>(token, &key, &validation).map_err(|error| error.to_string())?.claims;
        if claims["sub"] != uri {
            return Err(format!("sub is {}, not {uri}", claims["sub"]));
        }
        let lst = claims["status_list"]["lst"].as_str().ok_or("no lst")?;
        let zlib = URL_SAFE_NO_PAD.decode(lst).map_err(|error| error.to_string())?;
        let bits = claims["status_list"]["bits"].as_u64().ok_or("no bits")?;
        let iat = claims["iat"].as_u64().ok_or("no iat")?;
        Ok(Self { claims, iat, bits, array: inflate(&zlib)? })
    }

    /// As [`Self::verify`], for a CWT signed with ES256.
    pub(crate) fn verify_cwt(token: &[u8], uri: &str, jwks: &JwkSet) -> Result<Self, String> {
        let sign1: Cbor = ciborium::from_reader(token).map_err(|error| error.to_string())?;
        let Cbor::Tag(18, sign1) = sign1 else { return Err("no COSE_Sign1".to_owned()) };
        let parts = sign1.into_array().map_err(|_| "no array")?;
        let [Cbor::Bytes(protected), unprotected, Cbor::Bytes(payload), Cbor::Bytes(signature)] =
            parts.as_slice()
        else {
            return Err("not the four parts of a COSE_Sign1".to_owned());
        };
        let header: Cbor = ciborium::from_reader(protected.as_slice()).map_err(|error| error.to_string())?;
        if at(&header, 1) != Some(&Cbor::from(-7))
            || at(&header, 16) != Some(&"application/statuslist+cwt".into())
        {
            return Err(format!("alg or typ: {header:?}"));
        }
        let kid = at(&header, 4).or_else(|| at(unprotected, 4)).and_then(Cbor::as_bytes).ok_or("no kid")?;
        let kid = String::from_utf8_lossy(kid);
        let jwk = jwks.find(&kid).ok_or_else(|| format!("kid {kid} is not published"))?;
        let signed = (
            "Signature1",
            Cbor::from(protected.as_slice()),
            Cbor::Bytes(Vec::new()),
            Cbor::from(payload.as_slice()),
        );
        let mut message = Vec::new();
        ciborium::into_writer(&signed, &mut message).map_err(|error| error.to_string())?;
        let signature = Signature::from_slice(signature).map_err(|error| error.to_string())?;
        let key: VerifyingKey = p256_key(jwk)?;
        key.verify(&message, &signature).map_err(|error| error.to_string())?;

        let claims: Cbor = ciborium::from_reader(payload.as_slice()).map_err(|error| error.to_string())?;
        let number =
            |name| at(&claims, name).and_then(Cbor::as_integer).and_then(|number| u64::try_from(number).ok());
        if at(&claims, 2) != Some(&uri.into()) {
            return Err(format!("sub is {:?}, not {uri}", at(&claims, 2)));
        }
        if number(4).ok_or("no exp")? <= now() {
            return Err("expired".to_owned());
        }
        let list = at(&claims, 65533).and_then(Cbor::as_map).ok_or("no status_list")?;
        let member =
            |name: &str| list.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value);
        let bits = member("bits")
            .and_then(Cbor::as_integer)
            .and_then(|bits| u64::try_from(bits).ok())
            .ok_or("no bits")?;
        let zlib = member("lst").and_then(Cbor::as_bytes).ok_or("no lst")?;
        let iat = number(6).ok_or("no iat")?;
        Ok(Self { claims: Value::Null, iat, bits, array: inflate(zlib)? })
    }

    pub(crate) fn iat(&self) -> u64 {
        self.claims["iat"].as_u64().unwrap()
    }

    /// The packed statuses.
    pub(crate) fn array(&self) -> &[u8] {
        &self.array
    }

    /// The status at `idx`: least significant bits first.
    pub(crate) fn status(&self, idx: u64) -> u8 {
        let bit = idx * self.bits;
        let byte = self.array[usize::try_from(bit / 8).unwrap()];
        byte >> (bit % 8) & (0xFF >> (8 - self.bits))
    }
}

fn inflate(zlib: &[u8]) -> Result<Vec<u8>, String> {
    let mut array = Vec::new();
    let read = std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(zlib), &mut array);
    read.map(|_| array).map_err(|error| error.to_string())
}

/// The member of a CBOR map with this number as its key.
fn at(map: &Cbor, key: i64) -> Option<&Cbor> {
    map.as_map()?.iter().find(|(name, _)| *name == Cbor::from(key)).map(|(_, value)| value)
}

fn p256_key(jwk: &Jwk) -> Result<VerifyingKey, String> {
    let AlgorithmParameters::EllipticCurve(point) = &jwk.algorithm else {
        return Err("no EC key".to_owned());
    };
    let mut sec1 = vec![4];
    for coordinate in [&point.x, &point.y] {
        sec1.extend(URL_SAFE_NO_PAD.decode(coordinate).map_err(|error| error.to_string())?);
    }
    VerifyingKey::from_sec1_bytes(&sec1).map_err(|error| error.to_string())
}

fn now() -> u64 {
    statuslist::base::clock::Clock::System.now().date().secs()
}

/// The published keys.
pub(crate) fn jwks(folder: &std::path::Path) -> JwkSet {
    serde_json::from_slice(&std::fs::read(folder.join("public/lists/jwks.json")).unwrap()).unwrap()
}

/// The list of `uri` in its published file.
pub(crate) fn published(folder: &std::path::Path, uri: &str) -> Result<List, String> {
    let id = uri.rsplit('/').next().unwrap();
    let token = std::fs::read_to_string(folder.join(format!("public/lists/{id}.jwt")))
        .map_err(|error| error.to_string())?;
    List::verify(&token, uri, &jwks(folder))
}
