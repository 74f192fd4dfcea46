//! Claims ⇄ Status List Token in JWT format ("Status List Token in JWT Format"). The only JSON code for tokens.
//!
//! Leaves signing and verifying to `sign/`: [`signing_input`] returns what is to be signed, [`decode`] what was signed.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value};

use super::json::{self, kind, text, whole};
use super::{Bits, Claims, InvalidClaims};
use crate::base::clock::NumericDate;

/// The header parameter `typ`.
pub const TYP: &str = "statuslist+jwt";
/// The media type of the token.
pub const MEDIA_TYPE: &str = "application/statuslist+jwt";

/// The JOSE header of a Status List Token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Header {
    /// The signature's algorithm, for example `ES256`.
    pub alg: String,
    /// The key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Always [`TYP`] in our tokens.
    pub typ: String,
    /// What the payload is, where `typ` does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cty: Option<String>,
    /// Certificate chain, leaf first: base64 (with padding) of DER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x5c: Option<Vec<String>>,
    /// The public key itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwk: Option<Value>,
}

impl Header {
    /// The certificates of `x5c` in DER, leaf first; empty without `x5c`. `None` if they are not base64 with padding.
    pub fn certificates(&self) -> Option<Vec<Vec<u8>>> {
        self.x5c.iter().flatten().map(|der| STANDARD.decode(der).ok()).collect()
    }
}

/// A parsed token whose signature is not verified yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// Its header.
    pub header: Header,
    /// Its claims.
    pub claims: Claims,
    /// The bytes that were signed.
    pub signing_input: &'a str,
    /// The raw signature.
    pub signature: Vec<u8>,
}

#[derive(Serialize)]
struct Payload<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    iat: NumericDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<NumericDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<NumericDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    status_list: StatusList<'a>,
}

#[derive(Serialize)]
struct StatusList<'a> {
    bits: u8,
    lst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregation_uri: Option<&'a str>,
}

/// Returns `<header>.<payload>`. [`assemble`] appends `.<signature>`.
pub fn signing_input(header: &Header, claims: &Claims) -> String {
    let payload = Payload {
        sub: &claims.sub,
        iss: claims.iss.as_deref(),
        iat: claims.iat,
        nbf: claims.nbf,
        exp: claims.exp,
        ttl: claims.ttl.map(|ttl| ttl.as_secs()),
        status_list: StatusList {
            bits: claims.bits.get(),
            lst: URL_SAFE_NO_PAD.encode(&claims.lst),
            aggregation_uri: claims.aggregation_uri.as_deref(),
        },
    };
    input_of(header, &payload)
}

/// Returns `<header>.<payload>` for any payload.
pub(crate) fn input_of(header: &Header, payload: &impl Serialize) -> String {
    let header = serde_json::to_vec(header).expect("a header has only strings");
    let payload = serde_json::to_vec(payload).expect("a payload has only strings and numbers");
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

/// Parses a token and checks everything except its signature, its times and which list it is of.
pub fn decode(token: &str) -> Result<Unverified<'_>, InvalidClaims> {
    let Parts { header, payload, signing_input, signature } = parts(token, TYP)?;
    Ok(Unverified { header, claims: read_claims(payload)?.checked()?, signing_input, signature })
}

/// The parts of a compact JWS whose payload is a JSON object.
pub(crate) struct Parts<'a> {
    pub(crate) header: Header,
    pub(crate) payload: Map<String, Value>,
    pub(crate) signing_input: &'a str,
    pub(crate) signature: Vec<u8>,
}

/// Takes a compact JWS of this `typ` apart.
pub(crate) fn parts<'a>(token: &'a str, typ: &str) -> Result<Parts<'a>, InvalidClaims> {
    let (signing_input, signature) = token.rsplit_once('.').ok_or_else(|| malformed("has no parts"))?;
    let (header, payload) =
        signing_input.split_once('.').ok_or_else(|| malformed("has two parts, not three"))?;
    let header = read_header(json::object(&base64url(header)?).map_err(malformed)?, typ)?;
    let payload = json::object(&base64url(payload)?).map_err(malformed)?;
    Ok(Parts { header, payload, signing_input, signature: base64url(signature)? })
}

fn read_header(mut members: Map<String, Value>, wanted: &str) -> Result<Header, InvalidClaims> {
    let typ = text(&mut members, "typ")?.unwrap_or_default();
    if typ != wanted {
        return Err(InvalidClaims::wrong("typ", format!("must be {wanted}, got {typ:?}")));
    }
    // We understand no extension, and an empty list is forbidden too (RFC 7515, section 4.1.11).
    if members.contains_key("crit") {
        return Err(InvalidClaims::wrong("crit", "names extensions that are not understood"));
    }
    let jwk = members.remove("jwk");
    if let Some(other) = jwk.as_ref().filter(|jwk| !jwk.is_object()) {
        return Err(InvalidClaims::wrong("jwk", format!("must be an object, is {}", kind(other))));
    }
    let x5c = members.remove("x5c").map(|chain| {
        let texts = chain.as_array().map(|chain| chain.iter().map(|der| der.as_str().map(str::to_owned)));
        let texts = texts.and_then(Iterator::collect);
        texts.ok_or_else(|| InvalidClaims::wrong("x5c", "must be an array of texts"))
    });
    Ok(Header {
        alg: text(&mut members, "alg")?.ok_or(InvalidClaims::Missing("alg"))?,
        kid: text(&mut members, "kid")?,
        typ,
        cty: text(&mut members, "cty")?,
        x5c: x5c.transpose()?,
        jwk,
    })
}

fn read_claims(mut members: Map<String, Value>) -> Result<Claims, InvalidClaims> {
    let mut list = match members.remove("status_list") {
        Some(Value::Object(list)) => list,
        Some(other) => {
            return Err(InvalidClaims::wrong(
                "status_list",
                format!("must be an object, is {}", kind(&other)),
            ));
        }
        None => return Err(InvalidClaims::Missing("status_list")),
    };
    let time = |name| date(&members, name);
    let (iat, nbf, exp) = (time("iat")?, time("nbf")?, time("exp")?);
    let ttl = members.get("ttl").map(lifetime).transpose()?;
    let bits = whole("bits", list.get("bits").ok_or(InvalidClaims::Missing("bits"))?)?;
    let lst = text(&mut list, "lst")?.ok_or(InvalidClaims::Missing("lst"))?;
    let lst = URL_SAFE_NO_PAD
        .decode(lst)
        .map_err(|error| InvalidClaims::wrong("lst", format!("is not base64url without padding: {error}")))?;
    Ok(Claims {
        sub: text(&mut members, "sub")?.ok_or(InvalidClaims::Missing("sub"))?,
        iss: text(&mut members, "iss")?,
        iat: iat.ok_or(InvalidClaims::Missing("iat"))?,
        nbf,
        exp,
        ttl,
        bits: Bits::try_from(bits).map_err(|error| InvalidClaims::wrong("bits", error.to_string()))?,
        lst: lst.into(),
        aggregation_uri: text(&mut list, "aggregation_uri")?,
    })
}

fn base64url(part: &str) -> Result<Vec<u8>, InvalidClaims> {
    URL_SAFE_NO_PAD.decode(part).map_err(malformed)
}

fn malformed(why: impl ToString) -> InvalidClaims {
    InvalidClaims::Malformed { format: "JWT", why: why.to_string() }
}

/// The time in a claim, if the claim is present.
pub(crate) fn date(
    members: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<NumericDate>, InvalidClaims> {
    members.get(name).map(|value| seconds(name, value).map(NumericDate::from_secs)).transpose()
}

/// A NumericDate may have a fraction. We need only whole seconds.
fn seconds(name: &'static str, value: &Value) -> Result<u64, InvalidClaims> {
    number(value)
        .map(|(secs, _)| secs)
        .ok_or_else(|| InvalidClaims::wrong(name, format!("must be a number of seconds, is {}", kind(value))))
}

/// Reads a `ttl`: any positive number is valid. A value below one second counts as one second.
fn lifetime(value: &Value) -> Result<Duration, InvalidClaims> {
    let (secs, is_positive) = number(value).unwrap_or_default();
    match (value.is_number(), is_positive) {
        (true, true) => Ok(Duration::from_secs(secs.max(1))),
        (true, false) => Err(InvalidClaims::wrong("ttl", format!("must be positive, is {value}"))),
        (false, _) => seconds("ttl", value).map(Duration::from_secs),
    }
}

/// The whole part of a number that is not negative, and whether the number is above 0.
fn number(value: &Value) -> Option<(u64, bool)> {
    let from_float =
        || value.as_f64().filter(|number| *number >= 0.0).map(|number| (number as u64, number > 0.0));
    value.as_u64().map(|number| (number, number > 0)).or_else(from_float)
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier;

    use super::*;
    use crate::status_list::vectors;

    #[test]
    fn reads_the_specifications_token_and_verifies_its_signature() {
        let vector = vectors::token("status-list-token-jwt-raw");
        let token = decode(vector["raw"].as_str().unwrap()).unwrap();
        assert_eq!(token.header.kid.as_deref(), Some("12"));
        assert_eq!(token.claims.sub, "https://example.com/statuslists/1");
        assert_eq!(token.claims.iss.as_deref(), Some("https://example.com"));
        assert_eq!(
            (token.claims.iat.secs(), token.claims.exp.map(NumericDate::secs), token.claims.ttl),
            (1686920170, Some(2291720170), Some(Duration::from_secs(43200)))
        );
        assert_eq!(crate::status_list::lst::inflate(&token.claims.lst, 100).unwrap(), [0xB9, 0xA3]);

        let key = vectors::p256_key(&vector["public_jwk"]);
        let signature = p256::ecdsa::Signature::from_slice(&token.signature).unwrap();
        key.verify(token.signing_input.as_bytes(), &signature).unwrap();
        assert!(key.verify(b"something else", &signature).is_err());
    }

    #[test]
    fn writes_the_specifications_payload() {
        let vector = vectors::token("status-list-token-jwt-decoded");
        let claims = Claims {
            sub: "https://example.com/statuslists/1".into(),
            iss: None,
            iat: NumericDate::from_secs(1686920170),
            nbf: None,
            exp: Some(NumericDate::from_secs(2291720170)),
            ttl: Some(Duration::from_secs(43200)),
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
        assert_eq!(decode(&token).unwrap().claims.iat.secs(), 1);
    }
}
