//! Claims ⇄ Status List Token in JWT format ("Status List Token in JWT Format"). The only JSON of a token.
//!
//! Leaves signing and verifying to `sign/`: [`signing_input`] is what gets signed, [`decode`] hands out what was.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Bits, Claims, InvalidClaims};

/// The header parameter `typ`.
pub const TYP: &str = "statuslist+jwt";
/// The media type of the token.
pub const MEDIA_TYPE: &str = "application/statuslist+jwt";

/// The JOSE header of a Status List Token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The signature's algorithm, `ES256` for example.
    pub alg: String,
    /// The key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Always [`TYP`] in ours.
    #[serde(default)]
    pub typ: String,
    /// Certificate chain, leaf first: base64 (with padding) of DER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x5c: Option<Vec<String>>,
    /// The public key itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwk: Option<Value>,
    /// Extensions that must be understood. We know none, so readers refuse a token that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crit: Option<Value>,
}

impl Header {
    /// The certificates of `x5c` in DER, leaf first; none without it. `None` if they are not base64 with padding.
    pub fn certificates(&self) -> Option<Vec<Vec<u8>>> {
        self.x5c.iter().flatten().map(|der| STANDARD.decode(der).ok()).collect()
    }
}

/// A token that was taken apart, but whose signature nobody has looked at.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// Its header.
    pub header: Header,
    /// Its claims.
    pub claims: Claims,
    /// What the signature is over.
    pub signing_input: &'a str,
    /// The raw signature.
    pub signature: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    sub: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    iat: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<Value>,
    status_list: Option<StatusList>,
}

#[derive(Serialize, Deserialize)]
struct StatusList {
    bits: u64,
    lst: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aggregation_uri: Option<String>,
}

/// `<header>.<payload>`, to which `.<signature>` is to be appended with [`assemble`].
pub fn signing_input(header: &Header, claims: &Claims) -> String {
    let payload = Payload {
        sub: Some(claims.sub.clone()),
        iss: claims.iss.clone(),
        iat: Some(claims.iat.into()),
        nbf: claims.nbf.map(Value::from),
        exp: claims.exp.map(Value::from),
        ttl: claims.ttl.map(Value::from),
        status_list: Some(StatusList {
            bits: claims.bits.get().into(),
            lst: URL_SAFE_NO_PAD.encode(&claims.lst),
            aggregation_uri: claims.aggregation_uri.clone(),
        }),
    };
    let header = serde_json::to_vec(header).expect("a header has only strings");
    let payload = serde_json::to_vec(&payload).expect("a payload has only strings and numbers");
    let mut input = URL_SAFE_NO_PAD.encode(header);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut input);
    input
}

/// The token: `signing_input` and its signature.
pub fn assemble(mut signing_input: String, signature: &[u8]) -> String {
    signing_input.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut signing_input);
    signing_input
}

/// Takes a token apart and checks everything but its signature, the time, and whose list it is.
pub fn decode(token: &str) -> Result<Unverified<'_>, InvalidClaims> {
    let (signing_input, signature) = token.rsplit_once('.').ok_or_else(|| malformed("has no parts"))?;
    let (header, payload) =
        signing_input.split_once('.').ok_or_else(|| malformed("has two parts, not three"))?;
    let header: Header = serde_json::from_slice(&base64url(header)?).map_err(malformed)?;
    if header.typ != TYP {
        return Err(InvalidClaims::wrong("typ", format!("must be {TYP}, got {:?}", header.typ)));
    }
    if header.crit.is_some() {
        return Err(InvalidClaims::wrong("crit", "names extensions that are not understood"));
    }
    let payload: Payload = serde_json::from_slice(&base64url(payload)?).map_err(malformed)?;
    let list = payload.status_list.ok_or(InvalidClaims::Missing("status_list"))?;
    let claims = Claims {
        sub: payload.sub.ok_or(InvalidClaims::Missing("sub"))?,
        iss: payload.iss,
        iat: payload.iat.map(|iat| seconds("iat", &iat)).transpose()?.ok_or(InvalidClaims::Missing("iat"))?,
        nbf: payload.nbf.map(|nbf| seconds("nbf", &nbf)).transpose()?,
        exp: payload.exp.map(|exp| seconds("exp", &exp)).transpose()?,
        ttl: payload.ttl.map(|ttl| seconds("ttl", &ttl)).transpose()?,
        bits: Bits::try_from(list.bits).map_err(|error| InvalidClaims::wrong("bits", error.to_string()))?,
        lst: URL_SAFE_NO_PAD
            .decode(&list.lst)
            .map_err(|error| {
                InvalidClaims::wrong("lst", format!("is not base64url without padding: {error}"))
            })?
            .into(),
        aggregation_uri: list.aggregation_uri,
    };
    Ok(Unverified { header, claims: claims.checked()?, signing_input, signature: base64url(signature)? })
}

fn base64url(part: &str) -> Result<Vec<u8>, InvalidClaims> {
    URL_SAFE_NO_PAD.decode(part).map_err(malformed)
}

fn malformed(why: impl ToString) -> InvalidClaims {
    InvalidClaims::Malformed { format: "JWT", why: why.to_string() }
}

/// A NumericDate may have a fraction; what we need of it is the second.
fn seconds(name: &'static str, value: &Value) -> Result<u64, InvalidClaims> {
    let from_float = || value.as_f64().filter(|secs| (0.0..=9e15).contains(secs)).map(|secs| secs as u64);
    value
        .as_u64()
        .or_else(from_float)
        .ok_or_else(|| InvalidClaims::wrong(name, format!("must be a number of seconds, got {value}")))
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier;

    use super::*;
    use crate::status_list::vectors;

    #[test]
    fn reads_the_documents_token_and_its_signature_verifies() {
        let vector = vectors::token("status-list-token-jwt-raw");
        let token = decode(vector["raw"].as_str().unwrap()).unwrap();
        assert_eq!(token.header.kid.as_deref(), Some("12"));
        assert_eq!(token.claims.sub, "https://example.com/statuslists/1");
        assert_eq!(token.claims.iss.as_deref(), Some("https://example.com"));
        assert_eq!(
            (token.claims.iat, token.claims.exp, token.claims.ttl),
            (1686920170, Some(2291720170), Some(43200))
        );
        assert_eq!(crate::status_list::lst::inflate(&token.claims.lst, 100).unwrap(), [0xB9, 0xA3]);

        let key = vectors::p256_key(&vector["public_jwk"]);
        let signature = p256::ecdsa::Signature::from_slice(&token.signature).unwrap();
        key.verify(token.signing_input.as_bytes(), &signature).unwrap();
        assert!(key.verify(b"something else", &signature).is_err());
    }

    #[test]
    fn writes_the_documents_payload() {
        let vector = vectors::token("status-list-token-jwt-decoded");
        let claims = Claims {
            sub: "https://example.com/statuslists/1".into(),
            iss: None,
            iat: 1686920170,
            nbf: None,
            exp: Some(2291720170),
            ttl: Some(43200),
            bits: Bits::One,
            lst: URL_SAFE_NO_PAD.decode("eNrbuRgAAhcBXQ").unwrap().into(),
            aggregation_uri: None,
        };
        let header =
            Header { alg: "ES256".into(), kid: Some("12".into()), typ: TYP.into(), ..Header::default() };
        let input = signing_input(&header, &claims);
        let parts: Vec<Value> = input
            .split('.')
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!(parts, [vector["header"].clone(), vector["payload"].clone()]);

        let token = assemble(input, &[1; 64]);
        let read = decode(&token).unwrap();
        assert_eq!((read.claims, read.signature), (claims, vec![1; 64]));
    }

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn every_flaw_is_refused_by_name() {
        let header = r#"{"alg":"ES256","typ":"statuslist+jwt"}"#;
        let check = |header: &str, payload: &str, expected: &str| {
            let error = decode(&token(header, payload)).unwrap_err().to_string();
            assert!(error.contains(expected), "{payload}: {error}");
        };
        let list = r#""status_list":{"bits":1,"lst":"eNrbuRgAAhcBXQ"}"#;
        check(r#"{"alg":"ES256","typ":"JWT"}"#, "{}", "`typ` must be statuslist+jwt");
        check(r#"{"alg":"ES256"}"#, "{}", "`typ`");
        check(r#"{"alg":"ES256","typ":"statuslist+jwt","crit":["x"]}"#, "{}", "`crit`");
        check(header, &format!(r#"{{"iat":1,{list}}}"#), "`sub` is missing");
        check(header, &format!(r#"{{"sub":"a",{list}}}"#), "`iat` is missing");
        check(header, r#"{"sub":"a","iat":1}"#, "`status_list` is missing");
        check(header, &format!(r#"{{"sub":"a","iat":"1",{list}}}"#), "`iat` must be a number");
        check(header, &format!(r#"{{"sub":"a","iat":1,"ttl":"9",{list}}}"#), "`ttl` must be a number");
        check(header, &format!(r#"{{"sub":"a","iat":1,"ttl":0,{list}}}"#), "`ttl` must be positive");
        check(header, &format!(r#"{{"sub":"a","iat":5,"exp":5,{list}}}"#), "`exp` must be later");
        check(
            header,
            r#"{"sub":"a","iat":1,"status_list":{"bits":3,"lst":""}}"#,
            "bits must be 1, 2, 4 or 8",
        );
        check(
            header,
            r#"{"sub":"a","iat":1,"status_list":{"bits":1,"lst":"eNrbuRgAAhcBXQ=="}}"#,
            "without padding",
        );
        for broken in ["", "a", "a.b", "a.b.c", "....", "eyJ9.e30.AA"] {
            assert!(matches!(decode(broken), Err(InvalidClaims::Malformed { .. })), "{broken}");
        }
    }

    #[test]
    fn extra_claims_and_fractions_are_accepted() {
        let payload = r#"{"sub":"a","iat":1.9,"jti":"x","status_list":{"bits":1,"lst":"eNrbuRgAAhcBXQ"}}"#;
        let token = token(r#"{"alg":"ES256","typ":"statuslist+jwt","x5t":"y"}"#, payload);
        assert_eq!(decode(&token).unwrap().claims.iat, 1);
    }
}
