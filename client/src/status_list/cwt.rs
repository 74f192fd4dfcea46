//! Claims ⇄ Status List Token in CWT format ("Status List Token in CWT Format"). The only CBOR code for tokens.
//!
//! A tagged COSE_Sign1 (18), never inside CWT tag 61. Leaves signing and verifying to `sign/`.

use std::time::Duration;

use ciborium::Value;
use coset::iana::{EnumI64, WithPrivateRange};
use coset::{
    AsCborValue, CoseSign1, CoseSign1Builder, Header, HeaderBuilder, Label, RegisteredLabelWithPrivate,
    TaggedCborSerializable, iana,
};

use super::cbor::{self, member};
use super::{Bits, Claims, InvalidClaims};
use crate::base::clock::NumericDate;

/// The media type of the token, and the text of its protected header 16.
pub const MEDIA_TYPE: &str = "application/statuslist+cwt";
/// The CoAP Content-Format that readers must accept instead.
pub const COAP_CONTENT_FORMAT: u64 = 279;

const COSE_SIGN1: u64 = 18;
const ALG: i64 = 1;
const CRIT: i64 = 2;
const KID: i64 = 4;
const TYP: i64 = 16;
const X5CHAIN: i64 = 33;
const ISS: i64 = 1;
const SUB: i64 = 2;
const EXP: i64 = 4;
const NBF: i64 = 5;
const IAT: i64 = 6;
const TTL: i64 = 65534;
const STATUS_LIST: i64 = 65533;

/// How the header names the key.
#[derive(Clone, Debug, Default)]
pub struct KeyHint {
    /// `kid` (4).
    pub kid: Option<Vec<u8>>,
    /// `x5chain` (33): DER, leaf first.
    pub x5chain: Vec<Vec<u8>>,
}

/// A parsed token whose signature is not verified yet.
#[derive(Debug)]
pub struct Unverified {
    /// Its COSE algorithm, for example -7 for ES256.
    pub alg: i64,
    /// How it names its key.
    pub key: KeyHint,
    /// Whether its certificates are in the protected header, as ISO/IEC 18013-5 demands.
    pub x5chain_is_protected: bool,
    /// Its claims.
    pub claims: Claims,
    /// The Sig_structure that was signed.
    pub signing_input: Vec<u8>,
    /// The raw signature.
    pub signature: Vec<u8>,
}

/// Encodes the token: `claims` under `alg` (a COSE algorithm number), with the signature that `sign` makes of the
/// Sig_structure.
pub fn encode<E>(
    alg: i64,
    key: &KeyHint,
    claims: &Claims,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    // RFC 9360: one certificate stands alone, several are an array.
    let x5chain: Option<Value> = match key.x5chain.as_slice() {
        [] => None,
        [leaf] => Some(leaf.clone().into()),
        chain => Some(Value::Array(chain.iter().cloned().map(Value::from).collect())),
    };
    let mut rest = vec![(Label::Int(TYP), MEDIA_TYPE.into())];
    rest.extend(x5chain.map(|x5chain| (Label::Int(X5CHAIN), x5chain)));
    let alg = iana::Algorithm::from_i64(alg).map(RegisteredLabelWithPrivate::Assigned);
    let protected = Header { alg, rest, ..Header::default() };
    let mut unprotected = HeaderBuilder::new();
    if let Some(kid) = &key.kid {
        unprotected = unprotected.key_id(kid.clone());
    }
    let mut payload = Vec::with_capacity(claims.lst.len() + 256);
    ciborium::into_writer(&map(claims), &mut payload).expect("writing to memory does not fail");
    let token = CoseSign1Builder::new()
        .protected(protected)
        .unprotected(unprotected.build())
        .payload(payload)
        .try_create_signature(&[], |sig_structure| sign(sig_structure))?
        .build();
    Ok(token.to_tagged_vec().expect("a COSE_Sign1 built from values can be written"))
}

/// Parses a token and checks everything except its signature, its times and which list it is of.
pub fn decode(token: &[u8]) -> Result<Unverified, InvalidClaims> {
    let Value::Tag(COSE_SIGN1, sign1) = cbor::read(token).map_err(malformed)? else {
        return Err(malformed("it is not a COSE_Sign1 with tag 18"));
    };
    let (protected, unprotected) = headers(&sign1)?;
    let alg = check_headers(&protected, unprotected)?;
    let header = |label: i64| {
        let label = Value::from(label);
        member(&protected, &label).or_else(|| member(unprotected, &label))
    };
    let key = KeyHint {
        kid: header(KID).and_then(Value::as_bytes).cloned(),
        x5chain: header(X5CHAIN).map(certificates).transpose()?.unwrap_or_default(),
    };
    let x5chain_is_protected = member(&protected, &X5CHAIN.into()).is_some();
    let sign1 = CoseSign1::from_cbor_value(*sign1).map_err(malformed)?;
    let payload = sign1.payload.as_deref().ok_or(InvalidClaims::Missing("payload"))?;
    let claims = claims(&cbor::read(payload).map_err(malformed)?)?;
    let signing_input = sign1.tbs_data(&[]);
    Ok(Unverified { alg, key, x5chain_is_protected, claims, signing_input, signature: sign1.signature })
}

type Map = Vec<(Value, Value)>;

/// The protected and the unprotected header.
fn headers(sign1: &Value) -> Result<(Map, &Map), InvalidClaims> {
    let Some([Value::Bytes(protected), Value::Map(unprotected), _, _]) = sign1.as_array().map(Vec::as_slice)
    else {
        return Err(malformed("a COSE_Sign1 is a protected header, a header, a payload and a signature"));
    };
    // An empty protected header may also be an empty byte string (RFC 9052, section 3).
    let protected = if protected.is_empty() { Ok(Value::Map(vec![])) } else { cbor::read(protected) };
    let protected = protected.map_err(malformed)?.into_map();
    Ok((protected.map_err(|_| malformed("the protected header is not a map"))?, unprotected))
}

/// Returns the algorithm. Checks that each parameter occurs once, with its own type, in the right header.
fn check_headers(protected: &Map, unprotected: &Map) -> Result<i64, InvalidClaims> {
    let both = [protected, unprotected];
    match member(protected, &TYP.into()) {
        Some(Value::Text(text)) if text == MEDIA_TYPE => {}
        Some(Value::Integer(number)) if u64::try_from(*number) == Ok(COAP_CONTENT_FORMAT) => {}
        Some(_) => {
            return Err(InvalidClaims::wrong(
                "typ (16)",
                format!("must be {MEDIA_TYPE} or {COAP_CONTENT_FORMAT}"),
            ));
        }
        None => return Err(InvalidClaims::Missing("typ (16) in the protected header")),
    }
    if both.iter().any(|header| member(header, &CRIT.into()).is_some()) {
        return Err(InvalidClaims::wrong("crit (2)", "names extensions that are not understood"));
    }
    let kids = both.iter().filter_map(|header| member(header, &KID.into()));
    if kids.clone().any(|kid| kid.as_bytes().is_none_or(Vec::is_empty)) {
        return Err(InvalidClaims::wrong("kid (4)", "must be a byte string that is not empty"));
    }
    if let Some((label, _)) = protected.iter().find(|(label, _)| member(unprotected, label).is_some()) {
        return Err(malformed(format!("the header parameter {label:?} is in both headers")));
    }
    let alg = member(protected, &ALG.into());
    let alg = alg.ok_or(InvalidClaims::Missing("alg (1) in the protected header"))?;
    let number = alg.as_integer().and_then(|alg| i64::try_from(alg).ok());
    let is_known = |alg: &i64| {
        iana::Algorithm::from_i64(*alg).is_some() || <iana::Algorithm as WithPrivateRange>::is_private(*alg)
    };
    number
        .filter(is_known)
        .ok_or_else(|| InvalidClaims::wrong("alg (1)", format!("must be a registered number, is {alg:?}")))
}

fn map(claims: &Claims) -> Value {
    let mut list =
        vec![("bits".into(), claims.bits.get().into()), ("lst".into(), Value::Bytes(claims.lst.to_vec()))];
    list.extend(claims.aggregation_uri.as_ref().map(|uri| ("aggregation_uri".into(), uri.as_str().into())));
    let mut map = Vec::with_capacity(6);
    map.extend(claims.iss.as_ref().map(|iss| (ISS.into(), iss.as_str().into())));
    map.push((SUB.into(), claims.sub.as_str().into()));
    map.extend(claims.exp.map(|exp| (EXP.into(), exp.secs().into())));
    map.extend(claims.nbf.map(|nbf| (NBF.into(), nbf.secs().into())));
    map.push((IAT.into(), claims.iat.secs().into()));
    map.push((STATUS_LIST.into(), Value::Map(list)));
    map.extend(claims.ttl.map(|ttl| (TTL.into(), ttl.as_secs().into())));
    Value::Map(map)
}

fn claims(payload: &Value) -> Result<Claims, InvalidClaims> {
    let map = payload.as_map().ok_or_else(|| malformed("the payload is not a map"))?;
    let claim = |key: i64| member(map, &Value::from(key));
    let list = claim(STATUS_LIST).ok_or(InvalidClaims::Missing("status_list (65533)"))?;
    let list = list.as_map().ok_or_else(|| InvalidClaims::wrong("status_list (65533)", "must be a map"))?;
    let member = |name: &str| member(list, &Value::from(name));
    let bits = member("bits").ok_or(InvalidClaims::Missing("bits"))?;
    let bits = uint("bits", bits)?;
    let lst = member("lst").ok_or(InvalidClaims::Missing("lst"))?;
    Claims {
        sub: text("sub (2)", claim(SUB).ok_or(InvalidClaims::Missing("sub (2)"))?)?,
        iss: claim(ISS).map(|iss| text("iss (1)", iss)).transpose()?,
        iat: date("iat (6)", claim(IAT).ok_or(InvalidClaims::Missing("iat (6)"))?)?,
        nbf: claim(NBF).map(|nbf| date("nbf (5)", nbf)).transpose()?,
        exp: claim(EXP).map(|exp| date("exp (4)", exp)).transpose()?,
        ttl: claim(TTL).map(|ttl| uint("ttl (65534)", ttl)).transpose()?.map(Duration::from_secs),
        bits: Bits::try_from(bits).map_err(|error| InvalidClaims::wrong("bits", error.to_string()))?,
        lst: lst
            .as_bytes()
            .ok_or_else(|| InvalidClaims::wrong("lst", "must be a byte string"))?
            .as_slice()
            .into(),
        aggregation_uri: member("aggregation_uri").map(|uri| text("aggregation_uri", uri)).transpose()?,
    }
    .checked()
}

fn text(name: &'static str, value: &Value) -> Result<String, InvalidClaims> {
    value.as_text().map(str::to_owned).ok_or_else(|| InvalidClaims::wrong(name, "must be a text string"))
}

fn uint(name: &'static str, value: &Value) -> Result<u64, InvalidClaims> {
    let integer = value.as_integer().and_then(|integer| u64::try_from(integer).ok());
    integer.ok_or_else(|| InvalidClaims::wrong(name, "must be an unsigned integer"))
}

/// RFC 8392 allows a NumericDate to be a float. We need only whole seconds.
fn date(name: &'static str, value: &Value) -> Result<NumericDate, InvalidClaims> {
    let is_time = |secs: &f64| secs.is_finite() && *secs >= 0.0;
    let from_float = value.as_float().filter(is_time).map(|secs| secs as u64);
    from_float.map_or_else(|| uint(name, value), Ok).map(NumericDate::from_secs)
}

fn certificates(x5chain: &Value) -> Result<Vec<Vec<u8>>, InvalidClaims> {
    let wrong = || InvalidClaims::wrong("x5chain (33)", "must be a certificate or an array of certificates");
    match x5chain {
        Value::Bytes(leaf) => Ok(vec![leaf.clone()]),
        Value::Array(chain) => {
            chain.iter().map(|certificate| certificate.as_bytes().cloned().ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

fn malformed(why: impl ToString) -> InvalidClaims {
    InvalidClaims::Malformed { format: "CWT", why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use coset::CborSerializable;
    use p256::ecdsa::signature::Verifier;

    use super::*;
    use crate::status_list::vectors;

    fn example() -> Claims {
        Claims {
            sub: "https://example.com/statuslists/1".into(),
            iss: None,
            iat: NumericDate::from_secs(1686920170),
            nbf: None,
            exp: Some(NumericDate::from_secs(2291720170)),
            ttl: Some(Duration::from_secs(43200)),
            bits: Bits::One,
            lst: vectors::hex("78dadbb918000217015d").into(),
            aggregation_uri: None,
        }
    }

    #[test]
    fn reads_the_specifications_token_and_verifies_its_signature() {
        let vector = vectors::token("status-list-token-cwt");
        let token = decode(&vectors::hex(vector["hex"].as_str().unwrap())).unwrap();
        assert_eq!(token.claims, example());
        assert_eq!((token.alg, token.key.kid.as_deref()), (-7, Some(b"12".as_slice())));
        assert_eq!(token.signing_input, vectors::hex(vector["sig_structure_hex"].as_str().unwrap()));

        let key = vectors::p256_key(&vector["public_jwk"]);
        let signature = p256::ecdsa::Signature::from_slice(&token.signature).unwrap();
        key.verify(&token.signing_input, &signature).unwrap();
        assert!(key.verify(b"something else", &signature).is_err());
    }

    #[test]
    fn writes_what_the_specification_requires() {
        let key = KeyHint { kid: Some(b"12".to_vec()), x5chain: Vec::new() };
        let claims = Claims { aggregation_uri: Some("https://example.com/a".into()), ..example() };
        let token = encode(-7, &key, &claims, |_| Ok::<_, Infallible>(vec![9; 64])).unwrap();
        assert_eq!(token[0], 0xD2, "COSE_Sign1 tag 18 comes first, no tag 61");
        let vector = vectors::token("status-list-token-cwt");
        let protected = vectors::hex(vector["protected_hex"].as_str().unwrap());
        assert!(
            token.windows(protected.len()).any(|window| window == protected),
            "the protected header is the specification's"
        );
        let read = decode(&token).unwrap();
        assert_eq!(read.claims, claims);
        assert_eq!((read.key.kid.as_deref(), read.signature), (Some(b"12".as_slice()), vec![9; 64]));
    }

    #[test]
    fn the_chain_is_written_into_the_protected_header_and_read_from_both() {
        for chain in [vec![vec![1]], vec![vec![1], vec![2]]] {
            let key = KeyHint { kid: None, x5chain: chain.clone() };
            let token = encode(-7, &key, &example(), |_| Ok::<_, Infallible>(vec![9; 64])).unwrap();
            let read = decode(&token).unwrap();
            assert!(read.x5chain_is_protected && read.key.x5chain == chain);
            let mut sign1 = CoseSign1::from_tagged_slice(&token).unwrap();
            assert_eq!(sign1.unprotected, Header::default(), "nothing is in the header that is not signed");
            // As other issuers have it.
            let at = sign1.protected.header.rest.iter().position(|(label, _)| *label == Label::Int(X5CHAIN));
            let moved = sign1.protected.header.rest.remove(at.unwrap());
            sign1.unprotected.rest.push(moved);
            sign1.protected.original_data = None;
            let read = decode(&sign1.to_tagged_vec().unwrap()).unwrap();
            assert!(!read.x5chain_is_protected && read.key.x5chain == chain);
        }
    }

    #[test]
    fn status_list_equals_the_specifications_cbor_for_every_vector() {
        for vector in vectors::all()["encodings"].as_array().unwrap() {
            let Some(hex) = vector["status_list_cbor_hex"].as_str() else { continue };
            let claims = Claims {
                bits: Bits::try_from(vector["bits"].as_u64().unwrap()).unwrap(),
                lst: vectors::hex(vector["lst_zlib_hex"].as_str().unwrap()).into(),
                ..example()
            };
            let Value::Map(members) = map(&claims) else { panic!("not a map") };
            let (_, list) = members.into_iter().find(|(key, _)| *key == Value::from(STATUS_LIST)).unwrap();
            assert_eq!(list.to_vec().unwrap(), vectors::hex(hex), "{}", vector["name"]);
        }
    }

    fn refused(payload: &Value, protected: Header) -> String {
        let sign1 =
            CoseSign1Builder::new().protected(protected).payload(payload.clone().to_vec().unwrap()).build();
        decode(&sign1.to_tagged_vec().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn every_flaw_is_refused_by_name() {
        let header = |typ: Option<Value>| Header {
            alg: Some(RegisteredLabelWithPrivate::Assigned(iana::Algorithm::ES256)),
            rest: typ.map(|typ| (Label::Int(TYP), typ)).into_iter().collect(),
            ..Header::default()
        };
        let good = || header(Some(MEDIA_TYPE.into()));
        assert!(refused(&map(&example()), header(None)).contains("typ (16)"));
        assert!(refused(&map(&example()), header(Some("application/cwt".into()))).contains("typ (16)"));
        let without = |key: i64| {
            let Value::Map(members) = map(&example()) else { panic!("not a map") };
            Value::Map(members.into_iter().filter(|(k, _)| *k != Value::from(key)).collect())
        };
        assert!(refused(&without(SUB), good()).contains("sub (2)` is missing"));
        assert!(refused(&without(IAT), good()).contains("iat (6)` is missing"));
        assert!(refused(&without(STATUS_LIST), good()).contains("65533)` is missing"));
        assert!(
            refused(&map(&Claims { ttl: Some(Duration::ZERO), ..example() }), good())
                .contains("ttl` must be positive")
        );
        assert!(decode(&[]).is_err());

        let tagged = vectors::hex(vectors::token("status-list-token-cwt")["hex"].as_str().unwrap());
        let in_cwt_tag: Vec<u8> = [&[0xD8, 0x3D], tagged.as_slice()].concat();
        assert!(decode(&in_cwt_tag).is_err(), "tag 61 is forbidden");
        assert!(decode(&tagged[1..]).is_err(), "an untagged COSE_Sign1 is not enough");
    }

    #[test]
    fn ttl_and_exp_may_be_absent() {
        let claims = Claims { ttl: None, exp: None, ..example() };
        let token = encode(-7, &KeyHint::default(), &claims, |_| Ok::<_, Infallible>(vec![9; 64])).unwrap();
        assert_eq!(decode(&token).unwrap().claims, claims);
    }

    #[test]
    fn typ_may_be_the_coap_content_format() {
        let protected = Header {
            alg: Some(RegisteredLabelWithPrivate::Assigned(iana::Algorithm::ES256)),
            rest: vec![(Label::Int(TYP), COAP_CONTENT_FORMAT.into())],
            ..Header::default()
        };
        let sign1 =
            CoseSign1Builder::new().protected(protected).payload(map(&example()).to_vec().unwrap()).build();
        assert_eq!(decode(&sign1.to_tagged_vec().unwrap()).unwrap().claims, example());
    }
}
