//! Status List Tokens as a Relying Party reads them, with a few lines of its own.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value as Cbor;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::Value;

/// A pool's shape as the checker was told it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) size: usize,
    pub(crate) bits: u32,
}

/// A token that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    bits: u32,
    array: Vec<u8>,
}

/// A public key, and the member that tells it from others in a key set.
pub(crate) struct Key {
    key: DecodingKey,
    x: String,
}

impl Key {
    pub(crate) fn of(jwk: Value) -> Self {
        let x = jwk["x"].as_str().unwrap().to_owned();
        let jwk: Jwk = serde_json::from_value(jwk).unwrap();
        Self { key: DecodingKey::from_jwk(&jwk).unwrap(), x }
    }

    /// Whether it is in this key set.
    pub(crate) fn is_in(&self, set: &[u8]) -> bool {
        let set: Value = serde_json::from_slice(set).unwrap_or_default();
        let mut keys = set["keys"].as_array().into_iter().flatten();
        keys.any(|key| key["x"] == self.x.as_str())
    }
}

impl Token {
    /// Reads a JWT. Also returns which of `keys` signed it.
    pub(crate) fn of_jwt(bytes: &[u8], shape: Shape, keys: &[Key]) -> Option<(Self, usize)> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (_, claims) = signed.split_once('.')?;
        let alg = jsonwebtoken::Algorithm::EdDSA;
        let verified = |key: &Key| {
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, alg).unwrap_or(false)
        };
        let key = keys.iter().position(verified)?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let list = &claims["status_list"];
        let lst = URL_SAFE_NO_PAD.decode(list["lst"].as_str()?).ok()?;
        let (iat, exp) = (claims["iat"].as_u64()?, claims["exp"].as_u64()?);
        Some((Self::of(iat, exp, list["bits"].as_u64()?, &lst, shape)?, key))
    }

    /// Reads a CWT, without its signature.
    pub(crate) fn of_cwt(bytes: &[u8], shape: Shape) -> Option<Self> {
        let Cbor::Tag(_, parts) = ciborium::from_reader::<Cbor, _>(bytes).ok()? else { return None };
        let parts = parts.into_array().ok()?;
        let payload = parts.get(2)?.as_bytes()?.clone();
        let claims = ciborium::from_reader::<Cbor, _>(&payload[..]).ok()?.into_map().ok()?;
        let find = |map: &[(Cbor, Cbor)], key: Cbor| {
            map.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone())
        };
        let number = |value: Cbor| value.as_integer().and_then(|number| u64::try_from(number).ok());
        let list = find(&claims, Cbor::from(65533))?.into_map().ok()?;
        let lst = find(&list, Cbor::from("lst"))?.into_bytes().ok()?;
        let bits = number(find(&list, Cbor::from("bits"))?)?;
        let (iat, exp) = (number(find(&claims, Cbor::from(6))?)?, number(find(&claims, Cbor::from(4))?)?);
        Self::of(iat, exp, bits, &lst, shape)
    }

    fn of(iat: u64, exp: u64, bits: u64, lst: &[u8], shape: Shape) -> Option<Self> {
        let mut array = Vec::new();
        flate2::read::ZlibDecoder::new(lst).read_to_end(&mut array).ok()?;
        let whole = array.len() == shape.size * shape.bits as usize / 8 && bits == u64::from(shape.bits);
        whole.then_some(Self { iat, exp, bits: shape.bits, array })
    }

    /// The status of an entry.
    pub(crate) fn value(&self, entry: usize) -> u8 {
        let bit = entry * self.bits as usize;
        let mask = u8::try_from((1_u16 << self.bits) - 1).unwrap();
        self.array[bit / 8] >> (bit % 8) & mask
    }
}
