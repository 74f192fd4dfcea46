//! What conformance suites test of Status List Tokens, rule by rule: each row breaks one rule in an otherwise good token and names
//! what `check --profile` must find. The rows restate the conditions of the OpenID Foundation's conformance suite of 2026
//! (`ValidateStatusListTokenCwtFormat`, `ValidateStatusListSignerCertificateProfile`,
//! `ValidateStatusListTokenX5cCertificateChain`, `ValidateStatusListTokenCwtCertificateChain`); no code of it is here.
//!
//! Not restated: a certificate of version 1, which the library that makes certificates here cannot make, and certification paths,
//! which `tests/it/chains.rs` compares with those of OpenSSL.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use ciborium::Value as Cbor;
use coset::{AsCborValue, CborSerializable, CoseSign1, TaggedCborSerializable};
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber, SignatureAlgorithm,
};

use super::verdict::tests::{NOW, URI, after, claims};
use super::{CannotTell, Check, Format, Outcome, Trust, judge};
use crate::issuer::{JwkSet, KeyHints, Signer, SigningKey};
use crate::profile::{Profile, Profiles};
use crate::status_list::{Bits, Claims, lst};

const COMPLIANCE: &str = include_str!("../../../docs/COMPLIANCE.md");
/// Of settings, not of tokens.
const NOT_IN_TOKENS: [&str; 2] = ["E-03", "E-04"];
const ENTRIES: usize = 10_000;

/// A token, and who signs it.
struct Made {
    signer: Signer,
    claims: Claims,
    /// Changes the CWT before it is signed.
    cwt: fn(&mut Parts),
    /// Changes its bytes afterwards.
    bytes: fn(Vec<u8>) -> Vec<u8>,
}

/// The parts of a COSE_Sign1 before it is signed.
struct Parts {
    protected: Vec<(Cbor, Cbor)>,
    unprotected: Vec<(Cbor, Cbor)>,
    payload: Vec<(Cbor, Cbor)>,
}

fn value(map: &mut [(Cbor, Cbor)], key: i64) -> &mut Cbor {
    let (_, value) = map.iter_mut().find(|(label, _)| *label == Cbor::from(key)).unwrap();
    value
}

fn remove(map: &mut Vec<(Cbor, Cbor)>, key: i64) -> Cbor {
    let at = map.iter().position(|(label, _)| *label == Cbor::from(key)).unwrap();
    map.remove(at).1
}

/// A member of `status_list`.
fn member<'a>(parts: &'a mut Parts, name: &str) -> &'a mut Cbor {
    let list = value(&mut parts.payload, 65533).as_map_mut().unwrap();
    if !list.iter().any(|(label, _)| label.as_text() == Some(name)) {
        list.push((name.into(), Cbor::Null));
    }
    let (_, value) = list.iter_mut().find(|(label, _)| label.as_text() == Some(name)).unwrap();
    value
}

fn without_member(parts: &mut Parts, name: &str) {
    value(&mut parts.payload, 65533).as_map_mut().unwrap().retain(|(label, _)| label.as_text() != Some(name));
}

/// An authority's certificate and key, or a signer's.
struct Certified {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn named(name: &str, key: KeyPair) -> Certified {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    // 1187 days later.
    params.not_after = rcgen::date_time_ymd(2029, 4, 2);
    Certified { params, key, pem: String::new() }
}

fn authority(name: &str, above: Option<&Certified>, key: &'static SignatureAlgorithm) -> Certified {
    let mut made = named(name, KeyPair::generate_for(key).unwrap());
    made.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    made.params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    made.pem = match above {
        Some(above) => made.params.signed_by(&made.key, &issuer(above)).unwrap().pem(),
        None => made.params.self_signed(&made.key).unwrap().pem(),
    };
    made
}

fn issuer(of: &Certified) -> Issuer<'_, &KeyPair> {
    Issuer::from_params(&of.params, &of.key)
}

fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

const SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];
const AUTHORITY_KEY_ID: &[u64] = &[2, 5, 29, 35];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];

/// The certificate of an mdoc's revocation list signer, before the row's change.
fn leaf(key: &'static SignatureAlgorithm) -> Certified {
    let mut made = named("signer", KeyPair::generate_for(key).unwrap());
    let id = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, made.key.public_key_raw());
    let id = [&[4, 20], id.as_ref()].concat();
    made.params.custom_extensions = vec![extension(SUBJECT_KEY_ID, false, &id)];
    made.params.use_authority_key_identifier_extension = true;
    made.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    made
}

/// A signer with the changed certificate, issued by an authority below a root; the chain is the three of them.
fn signer_with(key: &'static SignatureAlgorithm, change: impl FnOnce(&mut CertificateParams)) -> Signer {
    let root = authority("root", None, &rcgen::PKCS_ECDSA_P256_SHA256);
    let between = authority("between", Some(&root), &rcgen::PKCS_ECDSA_P256_SHA256);
    issued_by(&between, &format!("{}{}", between.pem, root.pem), key, change)
}

fn issued_by(
    above: &Certified,
    rest: &str,
    key: &'static SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> Signer {
    let mut leaf = leaf(key);
    change(&mut leaf.params);
    let pem = leaf.params.signed_by(&leaf.key, &issuer(above)).unwrap().pem();
    signer_of(&leaf.key, &format!("{pem}{rest}"), true)
}

fn signer_of(key: &KeyPair, chain: &str, x5c: bool) -> Signer {
    let key = SigningKey::from_pem(&key.serialize_pem(), Some(chain), Some("k")).unwrap();
    Signer::new(key, KeyHints { kid: true, x5c, jwk: false })
}

fn made(signer: Signer) -> Made {
    let lst = lst::compress(&[0; ENTRIES / 8]).into();
    let claims = Claims { bits: Bits::One, lst, ..claims() };
    Made { signer, claims, cwt: |_| (), bytes: |bytes| bytes }
}

fn p256() -> Made {
    made(signer_with(&rcgen::PKCS_ECDSA_P256_SHA256, |_| ()))
}

impl Made {
    fn token(&self, format: Format) -> Vec<u8> {
        if format == Format::Jwt {
            return self.signer.sign_jwt(&self.claims).unwrap().into_bytes();
        }
        let good = CoseSign1::from_tagged_slice(&self.signer.sign_cwt(&self.claims).unwrap()).unwrap();
        let map = |value: Cbor| value.into_map().unwrap();
        let mut parts = Parts {
            protected: map(good.protected.header.to_cbor_value().unwrap()),
            unprotected: map(good.unprotected.to_cbor_value().unwrap()),
            payload: map(Cbor::from_slice(good.payload.as_deref().unwrap()).unwrap()),
        };
        (self.cwt)(&mut parts);
        let [protected, payload] =
            [parts.protected, parts.payload].map(|map| Cbor::Bytes(Cbor::Map(map).to_vec().unwrap()));
        let signed = ["Signature1".into(), protected.clone(), Cbor::Bytes(vec![]), payload.clone()];
        let signature = self.signer.signature(&Cbor::Array(signed.into()).to_vec().unwrap());
        let sign1 = vec![protected, Cbor::Map(parts.unprotected), payload, Cbor::Bytes(signature)];
        (self.bytes)(Cbor::Tag(18, Box::new(Cbor::Array(sign1))).to_vec().unwrap())
    }

    /// The broken rules, or the one word of another refusal.
    fn judged(&self, profile: Profile, format: Format) -> Vec<String> {
        // Trusts the key itself, so that the profile alone judges the certificates.
        let keys = serde_json::to_vec(&JwkSet { keys: vec![self.signer.jwk()] }).unwrap();
        let request = Check { profiles: [profile].into_iter().collect::<Profiles>(), ..Check::new(URI, 0) };
        let trust = Trust::from_jwks(&keys).unwrap();
        match judge(&request, format, &self.token(format), Some(&trust), NOW).outcome {
            Outcome::Valid => Vec::new(),
            Outcome::Unknown(CannotTell::Profile { breaches }) => {
                breaches.iter().map(|breach| breach.rule.to_owned()).collect()
            }
            Outcome::Unknown(why) => vec![why.code().to_owned()],
            other => panic!("{other:?}"),
        }
    }
}

/// What is changed in a good token, and what must be found.
type Row = (&'static str, Made, &'static [&'static str]);

/// Rows about the CWT: what is changed, and what must be found.
fn cwt_rows() -> Vec<Row> {
    let with = |cwt: fn(&mut Parts)| Made { cwt, ..p256() };
    vec![
        ("nothing", p256(), &[]),
        ("no tag", Made { bytes: |bytes| bytes[1..].to_vec(), ..p256() }, &["token"]),
        (
            "the tag of a COSE_Mac0",
            Made { bytes: |bytes| [&[0xD1], &bytes[1..]].concat(), ..p256() },
            &["token"],
        ),
        ("no alg", with(|parts| _ = remove(&mut parts.protected, 1)), &["alg"]),
        ("alg RS256", with(|parts| *value(&mut parts.protected, 1) = (-257).into()), &["signature"]),
        ("alg ESP256", with(|parts| *value(&mut parts.protected, 1) = (-9).into()), &["M-01"]),
        ("no typ", with(|parts| _ = remove(&mut parts.protected, 16)), &["typ"]),
        ("another typ", with(|parts| *value(&mut parts.protected, 16) = "application/cwt".into()), &["typ"]),
        ("typ as a number", with(|parts| *value(&mut parts.protected, 16) = 279.into()), &[]),
        (
            "x5chain in the unprotected header",
            with(|parts| {
                let chain = remove(&mut parts.protected, 33);
                parts.unprotected.push((33.into(), chain));
            }),
            &["M-02"],
        ),
        ("no x5chain", with(|parts| _ = remove(&mut parts.protected, 33)), &["M-02"]),
        ("an empty x5chain", with(|parts| *value(&mut parts.protected, 33) = Cbor::Array(vec![])), &["M-02"]),
        (
            "an x5chain of other bytes",
            with(|parts| *value(&mut parts.protected, 33) = Cbor::Bytes(vec![1])),
            &["M-05"],
        ),
        ("no sub", with(|parts| _ = remove(&mut parts.payload, 2)), &["sub"]),
        ("sub is a number", with(|parts| *value(&mut parts.payload, 2) = 1.into()), &["sub"]),
        ("another sub", with(|parts| *value(&mut parts.payload, 2) = "https://x/".into()), &["sub"]),
        ("no iat", with(|parts| _ = remove(&mut parts.payload, 6)), &["iat"]),
        ("no exp", with(|parts| _ = remove(&mut parts.payload, 4)), &["M-03"]),
        ("exp is past", with(|parts| *value(&mut parts.payload, 4) = after(-1).secs().into()), &["exp"]),
        ("exp is a text", with(|parts| *value(&mut parts.payload, 4) = "soon".into()), &["exp"]),
        ("no status_list", with(|parts| _ = remove(&mut parts.payload, 65533)), &["status_list"]),
        ("no bits", with(|parts| without_member(parts, "bits")), &["bits"]),
        ("two bits", with(|parts| *member(parts, "bits") = 2.into()), &["M-04"]),
        ("bits is a text", with(|parts| *member(parts, "bits") = "1".into()), &["bits"]),
        ("no lst", with(|parts| without_member(parts, "lst")), &["lst"]),
        ("lst is a text", with(|parts| *member(parts, "lst") = "AA".into()), &["lst"]),
        ("aggregation_uri is a text", with(|parts| *member(parts, "aggregation_uri") = "a".into()), &[]),
        (
            "aggregation_uri is a number",
            with(|parts| *member(parts, "aggregation_uri") = 42.into()),
            &["aggregation_uri"],
        ),
    ]
}

type Change = fn(&mut CertificateParams);

/// Rows about the certificate of the signer (Table B.9).
fn certificate_rows() -> Vec<Row> {
    let with = |change: Change| made(signer_with(&rcgen::PKCS_ECDSA_P256_SHA256, change));
    let of = |key: &'static SignatureAlgorithm| made(signer_with(key, |_| ()));
    let by_ed25519 = || {
        let root = authority("root", None, &rcgen::PKCS_ED25519);
        made(issued_by(&root, &root.pem, &rcgen::PKCS_ECDSA_P256_SHA256, |_| ()))
    };
    let usage = |critical: bool, bits: &[u8]| {
        made(signer_with(&rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            params.key_usages.clear();
            params.custom_extensions.push(extension(KEY_USAGE, critical, bits));
        }))
    };
    vec![
        ("a key on P-384", of(&rcgen::PKCS_ECDSA_P384_SHA384), &[]),
        ("a key on P-521", of(&rcgen::PKCS_ECDSA_P521_SHA512), &[]),
        ("Ed25519", of(&rcgen::PKCS_ED25519), &["M-05"]),
        ("1188 days", with(|params| params.not_after = rcgen::date_time_ymd(2029, 4, 3)), &["M-06"]),
        ("no subject key id", with(|params| params.custom_extensions.clear()), &["M-07"]),
        (
            "another subject key id",
            with(|params| params.custom_extensions = vec![extension(SUBJECT_KEY_ID, false, &[4, 1, 7])]),
            &["M-07"],
        ),
        (
            "no authority key id",
            with(|params| params.use_authority_key_identifier_extension = false),
            &["M-08"],
        ),
        (
            "another authority's key id",
            with(|params| {
                params.use_authority_key_identifier_extension = false;
                params.custom_extensions.push(extension(AUTHORITY_KEY_ID, false, &[0x30, 3, 0x80, 1, 7]));
            }),
            &["M-08"],
        ),
        ("no key usage", with(|params| params.key_usages.clear()), &["M-09"]),
        (
            "digitalSignature and keyAgreement",
            with(|params| params.key_usages.push(KeyUsagePurpose::KeyAgreement)),
            &["M-09"],
        ),
        ("a critical key usage by hand", usage(true, &[3, 2, 7, 0x80]), &[]),
        ("a key usage that is not critical", usage(false, &[3, 2, 7, 0x80]), &["M-09"]),
        (
            "an extended key usage",
            with(|params| {
                let usage = [0x30, 7, 6, 5, 0x28, 0x81, 0x8C, 0x5D, 5];
                params.custom_extensions.push(extension(&[2, 5, 29, 37], false, &usage));
            }),
            &[],
        ),
        (
            "a critical extended key usage",
            with(|params| {
                let usage = [0x30, 7, 6, 5, 0x28, 0x81, 0x8C, 0x5D, 5];
                params.custom_extensions.push(extension(&[2, 5, 29, 37], true, &usage));
            }),
            &["M-10"],
        ),
        (
            "critical basic constraints",
            with(|params| params.custom_extensions.push(extension(&[2, 5, 29, 19], true, &[0x30, 0]))),
            &["M-11"],
        ),
        (
            "a serial number of 21 bytes",
            with(|params| params.serial_number = Some(SerialNumber::from(vec![1; 21]))),
            &["M-12"],
        ),
        (
            "the serial number 0",
            with(|params| params.serial_number = Some(SerialNumber::from(vec![0]))),
            &["M-12"],
        ),
        ("issued with Ed25519", by_ed25519(), &["M-13"]),
        (
            "policy constraints",
            with(|params| {
                params.custom_extensions.push(extension(&[2, 5, 29, 36], false, &[0x30, 3, 0x80, 1, 0]));
            }),
            &["M-14"],
        ),
        (
            "a distribution point",
            with(|params| {
                let uris = vec!["https://crl.example/1".to_owned()];
                params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
            }),
            &[],
        ),
        (
            "a distribution point with reasons and no URI",
            with(|params| {
                let points = [0x30, 6, 0x30, 4, 0x81, 2, 1, 0x40];
                params.custom_extensions.push(extension(&[2, 5, 29, 31], false, &points));
            }),
            &["M-15"],
        ),
    ]
}

/// Rows about the chain in a JWT, and about what the European wallet demands.
fn jwt_rows() -> Vec<(Profile, Row)> {
    let key = KeyPair::generate().unwrap();
    let alone = named("alone", KeyPair::generate().unwrap());
    let self_signed = alone.params.self_signed(&alone.key).unwrap().pem();
    let without = {
        let pem = alone.params.self_signed(&key).unwrap().pem();
        signer_of(&key, &pem, false)
    };
    let smaller = |made: Made| {
        let lst = lst::compress(&[0; (ENTRIES - 8) / 8]).into();
        Made { claims: Claims { lst, ..made.claims }, ..made }
    };
    let of = |key| made(signer_with(key, |_| ()));
    vec![
        (Profile::Haip, ("nothing", p256(), &[])),
        (Profile::Haip, ("no x5c", made(without), &["H-01"])),
        (Profile::Haip, ("a self-signed signer", made(signer_of(&alone.key, &self_signed, true)), &["H-02"])),
        (Profile::Eudi, ("nothing", p256(), &[])),
        (Profile::Eudi, ("ES384", of(&rcgen::PKCS_ECDSA_P384_SHA384), &[])),
        (Profile::Eudi, ("ES512", of(&rcgen::PKCS_ECDSA_P521_SHA512), &[])),
        (Profile::Eudi, ("EdDSA", of(&rcgen::PKCS_ED25519), &["E-01"])),
        (Profile::Eudi, ("a smaller list", smaller(p256()), &["E-02"])),
    ]
}

/// A JWT whose `x5c` has the root as well, which this service never writes.
fn with_root_in_x5c() -> Vec<String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use crate::status_list::jwt;
    let root = authority("root", None, &rcgen::PKCS_ECDSA_P256_SHA256);
    let made = made(issued_by(&root, "", &rcgen::PKCS_ECDSA_P256_SHA256, |_| ()));
    let token = made.signer.sign_jwt(&made.claims).unwrap();
    let mut header = jwt::decode(&token).unwrap().header;
    let der = pem::parse(&root.pem).unwrap().into_contents();
    header.x5c.as_mut().unwrap().push(STANDARD.encode(der));
    let input = jwt::signing_input(&header, &made.claims);
    let signature = made.signer.signature(input.as_bytes());
    let token = jwt::assemble(input, &signature);
    let keys = serde_json::to_vec(&JwkSet { keys: vec![made.signer.jwk()] }).unwrap();
    let profiles = [Profile::Haip].into_iter().collect();
    let request = Check { profiles, ..Check::new(URI, 0) };
    let trust = Trust::from_jwks(&keys).unwrap();
    match judge(&request, Format::Jwt, token.as_bytes(), Some(&trust), NOW).outcome {
        Outcome::Unknown(CannotTell::Profile { breaches }) => {
            breaches.iter().map(|breach| breach.rule.to_owned()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_rule_of_the_conformance_suite_has_its_verdict() {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut row = |name: String, found: Vec<String>, expected: &[&str]| {
        if found != expected {
            wrong.push(format!("{name}: expected {expected:?}, found {found:?}"));
        }
        seen.extend(found.into_iter().filter(|found| found.contains("-0") || found.contains("-1")));
    };
    for (name, made, expected) in cwt_rows().into_iter().chain(certificate_rows()) {
        row(format!("mdoc, {name}"), made.judged(Profile::Mdoc, Format::Cwt), expected);
    }
    for (profile, (name, made, expected)) in jwt_rows() {
        row(format!("{profile}, {name}"), made.judged(profile, Format::Jwt), expected);
    }
    row("haip, the root in x5c".to_owned(), with_root_in_x5c(), &["H-03"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let is_rule = |id: &str| ["H-", "M-", "E-"].iter().any(|prefix| id.starts_with(prefix)) && id.len() == 4;
    let of_document = COMPLIANCE.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let of_document: BTreeSet<_> = of_document.filter(|id| is_rule(id)).map(str::to_owned).collect();
    seen.extend(NOT_IN_TOKENS.map(str::to_owned));
    assert_eq!(of_document, seen, "docs/COMPLIANCE.md names exactly the rules that are applied");
}
