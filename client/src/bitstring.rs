//! Statuses ⇄ status list credential as a JWT (W3C Bitstring Status List v1.0, secured as W3C VC-JOSE-COSE says).
//!
//! A credential says for one purpose of each entry whether it is set, so a list has one credential for each purpose. Leaves signing
//! and verifying to others, as `status_list/jwt.rs` does. Section titles in comments are those of Bitstring Status List v1.0.
//!
//! Writing packs whole bytes, reading looks at one entry after the other, and they share no code: the publisher reads what it wrote.

use std::io::Read;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::bufread::GzDecoder;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::base::clock::NumericDate;
use crate::status_list::json::{kind, text, whole};
use crate::status_list::jwt::{self, Header, Parts};
use crate::status_list::{
    Claims, InvalidClaims, LIST_BYTES_MAX, ListId, Purpose, Reference, StatusArray, lst,
};

/// The header parameter `typ`.
pub const TYP: &str = "vc+jwt";
/// The header parameter `cty`.
pub const CTY: &str = "vc";
/// The fewest bytes of a bitstring, so that an entry is one of many ("Bitstring Generation Algorithm").
pub const BYTES_MIN: usize = 131_072 / 8;

const CONTEXT: &str = "https://www.w3.org/ns/credentials/v2";
const TYPES: [&str; 2] = ["VerifiableCredential", "BitstringStatusListCredential"];

/// What a status list credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `id`: the address of the credential.
    pub id: String,
    /// `issuer`: a URL or a DID.
    pub issuer: String,
    /// What it is about.
    pub purpose: Purpose,
    /// `iat`: when it was signed.
    pub iat: Option<NumericDate>,
    /// `exp`: the end of the signature's validity.
    pub exp: Option<NumericDate>,
    /// `validFrom`.
    pub valid_from: Option<NumericDate>,
    /// `validUntil`.
    pub valid_until: Option<NumericDate>,
    /// `ttl`: how long a copy may be used before it is fetched again.
    pub ttl: Option<Duration>,
    /// The bitstring: the first entry is the most significant bit of the first byte.
    pub bits: Vec<u8>,
}

/// A parsed credential whose signature is not verified yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// Its header.
    pub header: Header,
    /// Its content.
    pub credential: Credential,
    /// The bytes that were signed.
    pub signing_input: &'a str,
    /// The raw signature.
    pub signature: Vec<u8>,
}

/// The path of a credential below the public address.
pub fn path(purpose: Purpose, list: &ListId) -> String {
    format!("bitstring/{}/{list}", purpose.name())
}

/// The address of a credential of the list `uri`.
pub fn address(uri: &str, purpose: Purpose) -> String {
    let (base, list) = uri.rsplit_once('/').unwrap_or(("", uri));
    format!("{base}/bitstring/{}/{list}", purpose.name())
}

/// The `credentialStatus` of a credential whose status is at `reference`, for these purposes ("BitstringStatusListEntry").
pub fn credential_status(reference: &Reference, purposes: &[Purpose]) -> Value {
    let entry = |purpose: &Purpose| {
        let address = address(&reference.uri, *purpose);
        json!({
            "id": format!("{address}#{}", reference.idx),
            "type": "BitstringStatusListEntry",
            "statusPurpose": purpose.name(),
            "statusListIndex": reference.idx.to_string(),
            "statusListCredential": address,
        })
    };
    purposes.iter().map(entry).collect()
}

impl Credential {
    /// The credential that says of `array` what concerns `purpose`, with the same times as the token of `claims`.
    ///
    /// Without an `iss` it has no issuer, and nobody accepts it.
    pub fn of(claims: &Claims, array: &StatusArray, purpose: Purpose) -> Self {
        Self {
            id: address(&claims.sub, purpose),
            issuer: claims.iss.clone().unwrap_or_default(),
            purpose,
            iat: Some(claims.iat),
            exp: claims.exp,
            valid_from: Some(claims.iat),
            valid_until: claims.exp,
            ttl: claims.ttl,
            bits: packed(array, purpose),
        }
    }

    /// Whether it is the credential of the list with these `claims` and this `array`, entry by entry.
    pub fn is_of(&self, claims: &Claims, array: &StatusArray) -> bool {
        let capacity = array.capacity();
        let bit = |idx: u64| {
            let byte = self.bits.get(usize::try_from(idx / 8).unwrap_or(usize::MAX));
            byte.is_some_and(|byte| byte & (0x80 >> (idx % 8)) != 0)
        };
        let same = |idx: u64| {
            let status = capacity.index(idx).ok().map(|index| array.get(index));
            bit(idx) == (status == Some(self.purpose.status()))
        };
        self.id == address(&claims.sub, self.purpose)
            && Some(&self.issuer) == claims.iss.as_ref()
            && [self.iat, self.valid_from] == [Some(claims.iat); 2]
            && [self.exp, self.valid_until] == [claims.exp; 2]
            && self.ttl == claims.ttl
            && self.bits.len() as u64 * 8 >= u64::from(capacity.entries())
            && (0..self.bits.len() as u64 * 8).all(same)
    }
}

/// The bitstring of the entries with the status of `purpose`, padded with zeros.
fn packed(array: &StatusArray, purpose: Purpose) -> Vec<u8> {
    let bits = array.capacity().bits();
    let (width, per_byte) = (u32::from(bits.get()), bits.entries_per_byte() as usize);
    let (mask, wanted) = (bits.status_max(), purpose.status().value());
    // Each byte of the array has up to eight entries, the first in its least significant bits.
    let picked = |byte: u8| {
        (0..8 / width)
            .filter(|entry| byte >> (entry * width) & mask == wanted)
            .fold(0_u8, |set, entry| set | 0x80 >> entry)
    };
    let table: [u8; 256] = std::array::from_fn(|byte| picked(byte as u8));
    let mut set = vec![0; (array.capacity().entries() as usize).div_ceil(8).max(BYTES_MIN)];
    for (at, byte) in array.as_bytes().iter().enumerate() {
        let first = at * per_byte;
        set[first / 8] |= table[usize::from(*byte)] >> (first % 8);
    }
    set
}

/// Returns `<header>.<payload>` of the JWT. `jwt::assemble` appends `.<signature>`.
pub fn signing_input(header: &Header, credential: &Credential) -> String {
    let Credential { id, issuer, purpose, iat, exp, valid_from, valid_until, ttl, bits } = credential;
    let mut subject = json!({
        "id": format!("{id}#list"),
        "type": "BitstringStatusList",
        "statusPurpose": purpose.name(),
        // The default, which some verifiers demand nevertheless.
        "statusSize": 1,
        "encodedList": encoded(bits),
    });
    if let Some(ttl) = ttl {
        subject["ttl"] = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).into();
    }
    let mut payload = json!({
        "@context": [CONTEXT],
        "id": id,
        "type": TYPES,
        "issuer": issuer,
        "credentialSubject": subject,
        // Verifiers find the keys with it where the header has only a `kid`.
        "iss": issuer,
    });
    for (name, time) in [("iat", iat), ("exp", exp)] {
        if let Some(time) = time {
            payload[name] = time.secs().into();
        }
    }
    for (name, time) in [("validFrom", valid_from), ("validUntil", valid_until)] {
        if let Some(time) = time {
            payload[name] = Timestamp::from_second(i64::try_from(time.secs()).unwrap_or(i64::MAX))
                .unwrap_or(Timestamp::MAX)
                .to_string()
                .into();
        }
    }
    jwt::input_of(header, &payload)
}

/// `encodedList`: multibase, base64url, gzip.
pub fn encoded(bits: &[u8]) -> String {
    let mut text = "u".to_owned();
    URL_SAFE_NO_PAD.encode_string(lst::gzip(bits), &mut text);
    text
}

/// The bitstring in `encodedList` ("Bitstring Expansion Algorithm").
pub fn expanded(encoded: &str) -> Result<Vec<u8>, InvalidClaims> {
    let wrong = |why: String| InvalidClaims::wrong("encodedList", why);
    let base64url =
        encoded.strip_prefix('u').ok_or_else(|| wrong("is not base64url in multibase".to_owned()))?;
    let gzip = URL_SAFE_NO_PAD
        .decode(base64url)
        .map_err(|error| wrong(format!("is not base64url without padding: {error}")))?;
    let mut decoder = GzDecoder::new(gzip.as_slice()).take(LIST_BYTES_MAX + 1);
    let mut bits = Vec::new();
    decoder.read_to_end(&mut bits).map_err(|error| wrong(format!("is not gzip: {error}")))?;
    if bits.len() as u64 > LIST_BYTES_MAX {
        return Err(wrong(format!("inflates to more than {LIST_BYTES_MAX} bytes")));
    }
    match decoder.into_inner().into_inner() {
        [] => {}
        trailing => return Err(wrong(format!("has {} byte(s) after its gzip stream", trailing.len()))),
    }
    match bits.len() {
        enough if enough >= BYTES_MIN => Ok(bits),
        few => Err(wrong(format!("has {few} bytes, at least {BYTES_MIN} are needed"))),
    }
}

/// Parses a credential and checks everything except its signature, its times and which list it is of.
pub fn decode(token: &str) -> Result<Unverified<'_>, InvalidClaims> {
    let Parts { header, payload, signing_input, signature } = jwt::parts(token, TYP)?;
    if let Some(cty) = header.cty.as_deref().filter(|cty| *cty != CTY) {
        return Err(InvalidClaims::wrong("cty", format!("must be {CTY}, got {cty:?}")));
    }
    Ok(Unverified { header, credential: read(payload)?, signing_input, signature })
}

fn read(mut members: Map<String, Value>) -> Result<Credential, InvalidClaims> {
    for name in ["vc", "vp"] {
        if members.contains_key(name) {
            return Err(InvalidClaims::wrong(
                name,
                "must not be there: the payload is the credential itself",
            ));
        }
    }
    if members.get("@context").and_then(|contexts| contexts.get(0)).and_then(Value::as_str) != Some(CONTEXT) {
        return Err(InvalidClaims::wrong("@context", format!("must begin with {CONTEXT}")));
    }
    let types = members.get("type").cloned().unwrap_or_default();
    if !TYPES.iter().all(|name| is_or_has(&types, name)) {
        return Err(InvalidClaims::wrong("type", format!("must have {} and {}", TYPES[0], TYPES[1])));
    }
    let issuer = match members.remove("issuer") {
        Some(Value::Object(mut issuer)) => text(&mut issuer, "id")?,
        Some(Value::String(issuer)) => Some(issuer),
        Some(other) => {
            return Err(InvalidClaims::wrong(
                "issuer",
                format!("must be text or an object, is {}", kind(&other)),
            ));
        }
        None => None,
    };
    let issuer = issuer.filter(|issuer| !issuer.is_empty()).ok_or(InvalidClaims::Missing("issuer"))?;
    if let Some(iss) = text(&mut members, "iss")?.filter(|iss| *iss != issuer) {
        return Err(InvalidClaims::wrong("iss", format!("is {iss:?}, and the issuer is {issuer:?}")));
    }
    let mut subject = match members.remove("credentialSubject") {
        Some(Value::Object(subject)) => subject,
        _ => return Err(InvalidClaims::wrong("credentialSubject", "must be an object")),
    };
    if !is_or_has(&subject.get("type").cloned().unwrap_or_default(), "BitstringStatusList") {
        return Err(InvalidClaims::wrong("credentialSubject", "must be of the type BitstringStatusList"));
    }
    if let Some(size) = subject.get("statusSize")
        && whole("statusSize", size)? != 1
    {
        return Err(InvalidClaims::wrong("statusSize", format!("must be 1, is {size}")));
    }
    let stated = subject.get("statusPurpose").cloned().unwrap_or_default();
    let purpose = Purpose::ALL.into_iter().find(|purpose| is_or_has(&stated, purpose.name()));
    let purpose =
        purpose.ok_or_else(|| InvalidClaims::wrong("statusPurpose", "must be revocation or suspension"))?;
    let ttl = subject.get("ttl").map(|ttl| whole("ttl", ttl).map(Duration::from_millis)).transpose()?;
    let list = text(&mut subject, "encodedList")?.ok_or(InvalidClaims::Missing("encodedList"))?;
    Ok(Credential {
        issuer,
        purpose,
        iat: jwt::date(&members, "iat")?,
        exp: jwt::date(&members, "exp")?,
        valid_from: moment(&mut members, "validFrom")?,
        valid_until: moment(&mut members, "validUntil")?,
        ttl,
        id: text(&mut members, "id")?.ok_or(InvalidClaims::Missing("id"))?,
        bits: expanded(&list)?,
    })
}

/// Whether a property is this text, or an array with it.
fn is_or_has(value: &Value, wanted: &str) -> bool {
    match value {
        Value::Array(several) => several.iter().any(|one| one == wanted),
        one => one == wanted,
    }
}

fn moment(
    members: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<NumericDate>, InvalidClaims> {
    let Some(written) = text(members, name)? else { return Ok(None) };
    let read: Timestamp =
        written.parse().map_err(|_| InvalidClaims::wrong(name, "must be a time with its offset"))?;
    Ok(Some(NumericDate::from_signed_secs(read.as_second())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::{Bits, Capacity, Status};

    const URI: &str = "https://status.example/lists/1";

    fn claims() -> Claims {
        Claims {
            sub: URI.to_owned(),
            iss: Some("https://issuer.example".to_owned()),
            iat: NumericDate::from_secs(1_800_000_000),
            nbf: None,
            exp: Some(NumericDate::from_secs(1_800_003_600)),
            ttl: Some(Duration::from_secs(10)),
            bits: Bits::Two,
            lst: [].into(),
            aggregation_uri: None,
        }
    }

    fn array(entries: u64, bits: Bits, set: &[(u64, u8)]) -> StatusArray {
        let capacity = Capacity::new(entries, bits).unwrap();
        let mut array = StatusArray::filled(capacity, Status::VALID);
        for (idx, value) in set {
            array.set(capacity.index(*idx).unwrap(), Status::new(*value));
        }
        array
    }

    fn header() -> Header {
        Header { alg: "ES256".into(), typ: TYP.into(), cty: Some(CTY.into()), ..Header::default() }
    }

    fn payload_of(input: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(input.split_once('.').unwrap().1).unwrap()).unwrap()
    }

    #[test]
    fn the_specifications_empty_list_is_read() {
        // "BitstringStatusListCredential", the example.
        let example = "uH4sIAAAAAAAAA-3BMQEAAADCoPVPbQwfoAAAAAAAAAAAAAAAAAAAAIC3AYbSVKsAQAAA";
        assert_eq!(expanded(example).unwrap(), vec![0; BYTES_MIN]);
    }

    #[test]
    fn the_first_entry_is_the_most_significant_bit() {
        let list = array(131_072, Bits::One, &[(0, 1), (9, 1), (131_071, 1)]);
        let bits = packed(&list, Purpose::Revocation);
        assert_eq!((bits[0], bits[1], bits[BYTES_MIN - 1]), (0x80, 0x40, 0x01));
        assert_eq!(bits.len(), BYTES_MIN);
        assert_eq!(packed(&array(262_144, Bits::One, &[]), Purpose::Revocation).len(), 2 * BYTES_MIN);
    }

    #[test]
    fn each_purpose_has_the_entries_with_its_status() {
        for bits in [Bits::Two, Bits::Four, Bits::Eight] {
            let set = [(0, 1), (1, 2), (2, 3), (7, 1), (8, 2), (799, 1)];
            let list = array(800, bits, &set);
            for (purpose, value) in [(Purpose::Revocation, 1), (Purpose::Suspension, 2)] {
                let credential = Credential::of(&claims(), &list, purpose);
                for idx in 0..131_072_usize {
                    let bit = credential.bits[idx / 8] & (0x80 >> (idx % 8)) != 0;
                    assert_eq!(bit, set.contains(&(idx as u64, value)), "{bits} {purpose:?} {idx}");
                }
                let read = decode_signed(&signing_input(&header(), &credential)).unwrap();
                assert_eq!(read, credential);
                assert!(read.is_of(&claims(), &list));
            }
        }
    }

    fn decode_signed(input: &str) -> Result<Credential, InvalidClaims> {
        decode(&format!("{input}.AAAA")).map(|read| read.credential)
    }

    #[test]
    fn the_payload_is_the_credential() {
        let credential = Credential::of(&claims(), &array(8, Bits::One, &[]), Purpose::Revocation);
        let mut payload = payload_of(&signing_input(&header(), &credential));
        let list = payload["credentialSubject"]["encodedList"].take();
        assert!(list.as_str().unwrap().starts_with("uH4sI"), "{list}");
        let id = "https://status.example/lists/bitstring/revocation/1";
        assert_eq!(
            payload,
            json!({
                "@context": ["https://www.w3.org/ns/credentials/v2"],
                "id": id,
                "type": ["VerifiableCredential", "BitstringStatusListCredential"],
                "issuer": "https://issuer.example",
                "iss": "https://issuer.example",
                "iat": 1_800_000_000,
                "exp": 1_800_003_600,
                "validFrom": "2027-01-15T08:00:00Z",
                "validUntil": "2027-01-15T09:00:00Z",
                "credentialSubject": {
                    "id": format!("{id}#list"),
                    "type": "BitstringStatusList",
                    "statusPurpose": "revocation",
                    "statusSize": 1,
                    "encodedList": null,
                    "ttl": 10_000,
                },
            })
        );
    }

    #[test]
    fn an_entry_names_its_list_and_never_the_lists_address_as_its_id() {
        let reference = Reference { uri: URI.to_owned(), idx: 42 };
        let address = "https://status.example/lists/bitstring/suspension/1";
        assert_eq!(
            credential_status(&reference, &[Purpose::Suspension]),
            json!([{
                "id": format!("{address}#42"),
                "type": "BitstringStatusListEntry",
                "statusPurpose": "suspension",
                "statusListIndex": "42",
                "statusListCredential": address,
            }])
        );
        let list = "5f1ae880-251c-4ec2-b3d0-b61ea62a306d".parse().unwrap();
        let base: crate::status_list::BaseUri = "https://status.example/lists".parse().unwrap();
        for purpose in Purpose::ALL {
            assert_eq!(base.join_path(&path(purpose, &list)), super::address(&base.join(&list), purpose));
        }
    }

    #[test]
    fn what_differs_from_the_list_in_anything_is_not_of_it() {
        let list = array(800, Bits::Two, &[(3, 1), (4, 2)]);
        let good = Credential::of(&claims(), &list, Purpose::Revocation);
        assert!(good.is_of(&claims(), &list));
        type Change = fn(&mut Credential);
        let changes: [Change; 11] = [
            |it| it.id.push('0'),
            |it| it.issuer.push('0'),
            |it| it.purpose = Purpose::Suspension,
            |it| it.iat = None,
            |it| it.exp = None,
            |it| it.valid_from = Some(NumericDate::MIN),
            |it| it.valid_until = None,
            |it| it.ttl = None,
            |it| it.bits[0] ^= 0x80,
            |it| *it.bits.last_mut().unwrap() = 1,
            |it| it.bits.truncate(99),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = good.clone();
            change(&mut other);
            assert!(!other.is_of(&claims(), &list), "change {number}");
        }
        let later = Claims { iat: claims().iat.plus(Duration::from_secs(1)), ..claims() };
        assert!(!good.is_of(&later, &list), "an earlier publication");
    }

    #[test]
    fn every_flaw_is_refused_by_name() {
        let list = array(8, Bits::One, &[]);
        let good =
            payload_of(&signing_input(&header(), &Credential::of(&claims(), &list, Purpose::Revocation)));
        let check = |change: &dyn Fn(&mut Value), expected: &str| {
            let mut payload = good.clone();
            change(&mut payload);
            let error = decode_signed(&jwt::input_of(&header(), &payload)).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        };
        let remove = |name: &'static str| move |it: &mut Value| _ = it.as_object_mut().unwrap().remove(name);
        check(&|it| it["vc"] = json!({}), "`vc` must not be there");
        check(&|it| it["@context"] = json!(["https://www.w3.org/2018/credentials/v1"]), "`@context`");
        check(&|it| it["type"] = json!("VerifiableCredential"), "`type` must have");
        check(&remove("issuer"), "`issuer` is missing");
        check(&|it| it["issuer"] = json!(1), "`issuer` must be text or an object");
        check(&|it| it["iss"] = json!("https://other.example"), "`iss` is");
        check(&remove("id"), "`id` is missing");
        check(&remove("credentialSubject"), "`credentialSubject`");
        check(&|it| it["credentialSubject"]["type"] = json!("X"), "of the type BitstringStatusList");
        check(&|it| it["credentialSubject"]["statusSize"] = json!(2), "`statusSize` must be 1");
        check(&|it| it["credentialSubject"]["statusPurpose"] = json!("message"), "`statusPurpose`");
        check(&|it| it["credentialSubject"]["ttl"] = json!("1"), "`ttl` must be a whole number");
        check(&|it| it["validFrom"] = json!("2027-01-15"), "`validFrom` must be a time");
        check(&|it| it["iat"] = json!("1"), "`iat` must be a number");
        let list = |list: String| move |it: &mut Value| it["credentialSubject"]["encodedList"] = json!(list);
        let gzip = lst::gzip(&[0; BYTES_MIN]);
        check(&list(format!("z{}", &encoded(&[0; BYTES_MIN])[1..])), "multibase");
        check(&list(format!("{}=", encoded(&[0; BYTES_MIN]))), "without padding");
        check(&list(encoded(&[0; BYTES_MIN - 1])), "at least 16384");
        check(&list(format!("u{}", URL_SAFE_NO_PAD.encode(&gzip[..gzip.len() - 1]))), "is not gzip");
        let trailing = URL_SAFE_NO_PAD.encode([gzip.as_slice(), &[0]].concat());
        check(&list(format!("u{trailing}")), "after its gzip stream");
        let typ = Header { typ: "statuslist+jwt".into(), ..header() };
        let error = decode_signed(&jwt::input_of(&typ, &good)).unwrap_err().to_string();
        assert!(error.contains("`typ` must be vc+jwt"), "{error}");
        let cty = Header { cty: Some("vp".into()), ..header() };
        assert!(decode_signed(&jwt::input_of(&cty, &good)).unwrap_err().to_string().contains("`cty`"));
    }

    #[test]
    fn what_others_may_write_is_read() {
        let list = array(8, Bits::One, &[]);
        let mut payload =
            payload_of(&signing_input(&header(), &Credential::of(&claims(), &list, Purpose::Revocation)));
        for name in ["iss", "iat", "exp", "validUntil"] {
            payload.as_object_mut().unwrap().remove(name);
        }
        payload["issuer"] = json!({ "id": "did:example:1", "name": "Example" });
        payload["validFrom"] = json!("2027-01-15T09:00:00.5+01:00");
        payload["credentialSubject"]["statusPurpose"] = json!(["refresh", "suspension"]);
        payload["credentialSubject"].as_object_mut().unwrap().remove("statusSize");
        let bare = Header { cty: None, ..header() };
        let read = decode_signed(&jwt::input_of(&bare, &payload)).unwrap();
        assert_eq!((read.issuer.as_str(), read.purpose), ("did:example:1", Purpose::Suspension));
        assert_eq!((read.iat, read.valid_from), (None, Some(claims().iat)));
    }
}
