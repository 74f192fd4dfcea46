//! A Relying Party that shares no code with the service: jsonwebtoken verifies, flate2 inflates, bits are read by hand.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

/// A verified list.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) claims: Value,
    array: Vec<u8>,
}

impl List {
    /// The list in `token`, which must verify with a key of `jwks` and be that of `uri`.
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
        let mut array = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(zlib.as_slice()), &mut array)
            .map_err(|error| error.to_string())?;
        Ok(Self { claims, array })
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
        let bits = self.claims["status_list"]["bits"].as_u64().unwrap();
        let bit = idx * bits;
        let byte = self.array[usize::try_from(bit / 8).unwrap()];
        byte >> (bit % 8) & (0xFF >> (8 - bits))
    }
}

/// The published keys.
pub(crate) fn jwks(folder: &std::path::Path) -> JwkSet {
    serde_json::from_slice(&std::fs::read(folder.join("public/lists/jwks.json")).unwrap()).unwrap()
}

/// The list of `uri` as its file has it.
pub(crate) fn published(folder: &std::path::Path, uri: &str) -> Result<List, String> {
    let id = uri.rsplit('/').next().unwrap();
    let token = std::fs::read_to_string(folder.join(format!("public/lists/{id}.jwt")))
        .map_err(|error| error.to_string())?;
    List::verify(&token, uri, &jwks(folder))
}
