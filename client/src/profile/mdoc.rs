//! ISO/IEC 18013-5, second edition: the MSO revocation list as a Status List Token (12.3.6.3, 12.3.6.5), and the profile of its
//! signer's certificate (Table B.9).

use aws_lc_rs::digest;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE};
use x509_parser::prelude::{CRLDistributionPoint, FromDer, X509Certificate};
use x509_parser::x509::X509Version;

use super::{Broken, Facts};
use crate::status_list::Bits;

const ALGORITHMS: [&str; 4] = ["ES256", "ES384", "ES512", "EdDSA"];
const VALID_DAYS_MAX: i64 = 1187;
const SERIAL_BYTES_MAX: usize = 20;
const EC_KEY: &str = "1.2.840.10045.2.1";
const CURVES: [&str; 7] = [
    "1.2.840.10045.3.1.7",
    "1.3.132.0.34",
    "1.3.132.0.35",
    // brainpoolP256r1, P320r1, P384r1, P512r1
    "1.3.36.3.3.2.8.1.1.7",
    "1.3.36.3.3.2.8.1.1.9",
    "1.3.36.3.3.2.8.1.1.11",
    "1.3.36.3.3.2.8.1.1.13",
];
/// ECDSA with SHA-256, SHA-384 and SHA-512.
const ISSUED_WITH: [&str; 3] = ["1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3", "1.2.840.10045.4.3.4"];
/// What no certificate of Annex B may have (B.1.1).
const FORBIDDEN: [(&str, &str); 5] = [
    ("2.5.29.30", "name constraints"),
    ("2.5.29.33", "policy mappings"),
    ("2.5.29.36", "policy constraints"),
    ("2.5.29.46", "the freshest CRL"),
    ("2.5.29.54", "inhibition of any policy"),
];

pub(super) fn broken(token: &Facts<'_>) -> Vec<Broken> {
    let mut broken = Vec::new();
    if !ALGORITHMS.contains(&token.alg) {
        broken.push(("M-01", format!("it is signed with {}, not with {}", token.alg, ALGORITHMS.join(", "))));
    }
    if token.chain.is_empty() || !token.chain_is_protected {
        broken.push(("M-02", "`x5chain` is missing from the protected header".to_owned()));
    }
    if !token.expires {
        broken.push(("M-03", "`exp` is missing".to_owned()));
    }
    if token.bits != Bits::One {
        broken.push(("M-04", format!("`bits` is {}, not 1", token.bits)));
    }
    let mut certificates = token.chain.iter().map(|der| X509Certificate::from_der(der));
    match (certificates.next(), certificates.next()) {
        (Some(Ok((_, signer))), issuer) => {
            let issuer = issuer.and_then(Result::ok).map(|(_, issuer)| issuer);
            broken.extend(broken_by(&signer, issuer.as_ref()));
        }
        (Some(Err(why)), _) => {
            broken.push(("M-05", format!("the signer's certificate cannot be read: {why}")));
        }
        (None, _) => {}
    }
    broken
}

/// The rules of Table B.9 that the signer's certificate breaks; `issuer` follows it in the chain.
fn broken_by(signer: &X509Certificate<'_>, issuer: Option<&X509Certificate<'_>>) -> Vec<Broken> {
    let checks = [
        ("M-05", key(signer)),
        ("M-06", validity(signer)),
        ("M-07", subject_key_id(signer)),
        ("M-08", authority_key_id(signer, issuer)),
        ("M-09", key_usage(signer)),
        ("M-10", critical_key_purpose(signer)),
        ("M-11", other_critical(signer)),
        ("M-12", version_and_serial(signer)),
        ("M-13", issued_with(signer)),
        ("M-14", forbidden(signer)),
        ("M-15", distribution_points(signer)),
    ];
    let of_signer = |(rule, flaw): (&'static str, Option<String>)| {
        flaw.map(|flaw| (rule, format!("the signer's certificate {flaw}")))
    };
    checks.into_iter().filter_map(of_signer).collect()
}

fn key(signer: &X509Certificate<'_>) -> Option<String> {
    let info = signer.public_key();
    let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let curve = curve.map(|curve| curve.to_id_string()).unwrap_or_default();
    let kind = info.algorithm.algorithm.to_id_string();
    let uncompressed = info.subject_public_key.data.first() == Some(&4);
    let fits = kind == EC_KEY && CURVES.contains(&curve.as_str()) && uncompressed;
    (!fits).then(|| {
        format!(
            "has a key of type {kind} {curve}; it must be an EC key, uncompressed, on a curve that ISO allows"
        )
    })
}

fn validity(signer: &X509Certificate<'_>) -> Option<String> {
    let validity = signer.validity();
    let secs = validity.not_after.timestamp() - validity.not_before.timestamp();
    let days = secs / 86_400;
    (secs > VALID_DAYS_MAX * 86_400).then(|| format!("is valid for {days} days, more than {VALID_DAYS_MAX}"))
}

/// The subject key identifier, if there is one.
fn subject_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    parsed(certificate).find_map(|extension| match extension {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn subject_key_id(signer: &X509Certificate<'_>) -> Option<String> {
    let Some(id) = subject_key(signer) else { return Some("has no subject key identifier".to_owned()) };
    let key = &signer.public_key().subject_public_key.data;
    let expected = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key);
    (id != expected.as_ref()).then(|| {
        "has a subject key identifier that is not the SHA-1 of its key (openssl: subjectKeyIdentifier=hash)"
            .to_owned()
    })
}

fn authority_key_id(signer: &X509Certificate<'_>, issuer: Option<&X509Certificate<'_>>) -> Option<String> {
    let named = parsed(signer).find_map(|extension| match extension {
        ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref().map(|id| id.0)),
        _ => None,
    });
    let Some(named) = named else { return Some("has no authority key identifier".to_owned()) };
    let of_issuer = issuer.and_then(subject_key);
    let differs = named.zip(of_issuer).is_some_and(|(named, of_issuer)| named != of_issuer);
    differs.then(|| "has an authority key identifier that is not that of its issuer".to_owned())
}

fn key_usage(signer: &X509Certificate<'_>) -> Option<String> {
    let usage = signer.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::KeyUsage(usage) => Some((usage, extension.critical)),
        _ => None,
    });
    match usage {
        None => Some("has no key usage".to_owned()),
        // The bit of digitalSignature.
        Some((usage, _)) if usage.flags != 1 => {
            Some(format!("allows its key to be used for {usage}, not for digitalSignature alone"))
        }
        Some((_, false)) => Some("has a key usage that is not critical".to_owned()),
        Some(_) => None,
    }
}

fn critical_key_purpose(signer: &X509Certificate<'_>) -> Option<String> {
    let is_critical = |oid: &_| signer.extensions().iter().any(|one| one.critical && one.oid == *oid);
    is_critical(&OID_X509_EXT_EXTENDED_KEY_USAGE)
        .then(|| "has an extended key usage that is critical".to_owned())
}

fn other_critical(signer: &X509Certificate<'_>) -> Option<String> {
    let allowed = [OID_X509_EXT_KEY_USAGE, OID_X509_EXT_EXTENDED_KEY_USAGE];
    let other = signer.extensions().iter().find(|one| one.critical && !allowed.contains(&one.oid))?;
    Some(format!("has the critical extension {}; only its key usage may be critical", other.oid))
}

fn version_and_serial(signer: &X509Certificate<'_>) -> Option<String> {
    let serial = signer.raw_serial();
    if signer.version() != X509Version::V3 {
        return Some("is not of version 3".to_owned());
    }
    let positive = serial.iter().any(|byte| *byte != 0) && serial.first().is_some_and(|first| *first < 0x80);
    (!positive || serial.len() > SERIAL_BYTES_MAX)
        .then(|| format!("has a serial number that is not positive, or longer than {SERIAL_BYTES_MAX} bytes"))
}

fn issued_with(signer: &X509Certificate<'_>) -> Option<String> {
    let algorithm = signer.signature_algorithm.algorithm.to_id_string();
    (!ISSUED_WITH.contains(&algorithm.as_str()))
        .then(|| format!("was signed with the algorithm {algorithm}, not with ECDSA and SHA-2"))
}

fn forbidden(signer: &X509Certificate<'_>) -> Option<String> {
    let has = |oid: &str| signer.extensions().iter().any(|extension| extension.oid.to_id_string() == oid);
    let (_, name) = FORBIDDEN.into_iter().find(|(oid, _)| has(oid))?;
    Some(format!("has {name}, which Annex B forbids"))
}

fn distribution_points(signer: &X509Certificate<'_>) -> Option<String> {
    let points = parsed(signer).find_map(|extension| match extension {
        ParsedExtension::CRLDistributionPoints(points) => Some(&points.points),
        _ => None,
    })?;
    let is_uri = |point: &CRLDistributionPoint<'_>| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => {
            names.iter().any(|name| matches!(name, GeneralName::URI(_)))
        }
        _ => false,
    };
    let plain = points.iter().all(|point| point.reasons.is_none() && point.crl_issuer.is_none());
    (!plain || !points.iter().any(is_uri))
        .then(|| "has CRL distribution points without a URI, or with reasons or an issuer".to_owned())
}

fn parsed<'a, 'b>(certificate: &'a X509Certificate<'b>) -> impl Iterator<Item = &'a ParsedExtension<'b>> {
    certificate.extensions().iter().map(|extension| extension.parsed_extension())
}
