//! What strangers can send: one function of arbitrary bytes for each kind. The fuzz targets in `fuzz/` call them, and so do
//! the tests below, with the corpus, on every run.
//!
//! Each function must return, whatever the bytes are, and what it read must keep its reader's promises. Only built for
//! tests and with the feature `fuzzing`.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::base::clock::NumericDate;
use crate::check::{Check, Trust, judge};
use crate::config::Config;
use crate::status_list::{
    Aggregation, Bits, Capacity, Format, Reference, StatusArray, cwt, jwt, lst, raw::RawList,
};

/// The time at which tokens are judged: that of the specification's examples.
const NOW: NumericDate = NumericDate::from_secs(1_686_920_170);
/// The list of the specification's examples.
const URI: &str = "https://example.com/statuslists/1";
/// The key of the specification's examples.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":"12",
    "x":"I3HWm_0Ds1dPMI-IWmf4mBmH-YaeAVbPVu7vB27CxXo","y":"6N_d5Elj9bs1htgV3okJKIdbHEpkgTmAluYKJemzn1M"}]}"#;

/// A function that must return, whatever it is given.
pub type Target = fn(&[u8]);

/// Every target by name, as in `fuzz/fuzz_targets` and `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("accept", accept),
    ("body", body),
    ("chain", chain),
    ("config", config),
    ("cose", cose),
    ("list", list),
    ("token", token),
];

/// The text of a settings file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::load(Some(text), std::iter::empty()) {
        Ok(config) => assert!(!config.pools.is_empty(), "settings without a pool are refused"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A compressed list as in a token: the first byte is the width of its entries, the rest is `lst`.
pub fn list(bytes: &[u8]) {
    const BYTES_MAX: u64 = 1 << 16;
    let Some((&bits, zlib)) = bytes.split_first() else { return };
    let Ok(array) = lst::inflate(zlib, BYTES_MAX) else { return };
    assert!(array.len() as u64 <= BYTES_MAX, "inflating is bounded");
    assert_eq!(lst::inflate(&lst::compress(&array), BYTES_MAX).ok().as_ref(), Some(&array));
    let Ok(bits) = Bits::try_from(u64::from(bits)) else { return };
    let Ok(capacity) = Capacity::of_bytes(array.len(), bits) else { return };
    let array = StatusArray::from_bytes(capacity, array).expect("the capacity is that of these bytes");
    let (entries, last) = (capacity.entries(), u64::from(capacity.entries()) - 1);
    assert_eq!(array.counts().iter().sum::<u32>(), entries, "every entry has one status");
    assert!(capacity.index(last + 1).is_err());
    let last = capacity.index(last).expect("a list has at least one entry");
    assert!(array.get(last).value() <= bits.status_max());
}

/// Certificates in DER, each after its length in two bytes: the first is trusted, the others are the chain of a token whose
/// signature is not made by anybody.
pub fn chain(bytes: &[u8]) {
    let mut certificates = Vec::new();
    let mut rest = bytes;
    while let Some((length, more)) = rest.split_first_chunk() {
        let (certificate, more) = more.split_at(more.len().min(u16::from_be_bytes(*length).into()));
        certificates.push(certificate);
        rest = more;
    }
    let Some((trusted, chain)) = certificates.split_first() else { return };
    let trusted = pem::encode(&pem::Pem::new("CERTIFICATE", *trusted));
    let Ok(trust) = Trust::from_pem(&trusted) else { return };
    let x5c: Vec<_> = chain.iter().map(|certificate| STANDARD.encode(certificate)).collect();
    let header = serde_json::json!({ "alg": "ES256", "typ": "statuslist+jwt", "x5c": x5c }).to_string();
    let claims =
        serde_json::json!({ "sub": URI, "iat": NOW, "status_list": { "bits": 1, "lst": "eNpjAAAAAQAB" } });
    let [header, claims] = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    let token = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([1; 64]));
    let report = judge(&Check::new(URI, 0), Format::Jwt, token.as_bytes(), Some(&trust), NOW);
    assert_eq!(report.exit_code(), 2, "nobody made the signature");
    assert!(!report.to_string().is_empty());
}

/// A token in CWT format: COSE_Sign1 with its headers and claims.
pub fn cose(bytes: &[u8]) {
    verdict(Format::Cwt, bytes);
    if let Ok(token) = cwt::decode(bytes) {
        let signed = cwt::encode::<()>(token.alg, &token.key, &token.claims, |_| Ok(token.signature.clone()));
        // An algorithm without a registered number cannot be written.
        let again = signed.ok().and_then(|signed| cwt::decode(&signed).ok());
        assert!(again.is_none_or(|again| again.claims == token.claims));
    }
}

fn verdict(format: Format, bytes: &[u8]) {
    let trust = Trust::from_jwks(JWKS.as_bytes()).expect("the key of the specification is a key");
    let report = judge(&Check::new(URI, 0), format, bytes, Some(&trust), NOW);
    assert!(!report.to_json().is_null());
    assert!(!report.to_string().is_empty());
}

/// A token in JWT format, and everything else that a Relying Party reads from strangers.
pub fn token(bytes: &[u8]) {
    verdict(Format::Jwt, bytes);
    if let Some(token) = std::str::from_utf8(bytes).ok().and_then(|text| jwt::decode(text).ok()) {
        let again = jwt::assemble(jwt::signing_input(&token.header, &token.claims), &token.signature);
        let again = jwt::decode(&again).expect("what was read can be written and read again");
        assert_eq!((again.header, again.claims), (token.header, token.claims));
    }
    let _ = RawList::from_json(bytes)
        .map(|list| assert_eq!(RawList::from_json(&list.to_json()).ok(), Some(list)));
    let _ = RawList::from_cbor(bytes)
        .map(|list| assert_eq!(RawList::from_cbor(&list.to_cbor()).ok(), Some(list)));
    let _ = Aggregation::from_json(bytes);
    let _ = Reference::from_cbor(bytes);
    let _ = serde_json::from_slice(bytes).map(|status| Reference::from_json(&status));
    let _ = Trust::from_jwks(bytes);
    let _ = std::str::from_utf8(bytes).map(Trust::from_pem);
}

/// The lines of `Accept`, then an empty line and the lines of `Accept-Encoding`.
pub fn accept(bytes: &[u8]) {
    let (formats, _) = crate::site::server::negotiated(bytes);
    let each: BTreeSet<_> = formats.iter().collect();
    assert_eq!(each.len(), formats.len(), "no format is offered twice");
}

/// The body or query of a request to the API.
pub fn body(bytes: &[u8]) {
    crate::http::api::read_any(bytes);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};

    use super::*;

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// A seed with some bytes overwritten, a part cut out, and another part inserted.
    fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let seed = any::<prop::sample::Index>();
        let bytes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
        let part = any::<[prop::sample::Index; 4]>();
        (seed.clone(), seed, bytes, part, any::<bool>()).prop_map(move |(one, other, bytes, part, splice)| {
            let (mut mutated, other) = (one.get(&seeds).clone(), other.get(&seeds));
            for (at, byte) in bytes {
                if !mutated.is_empty() {
                    let at = at.index(mutated.len());
                    mutated[at] = byte;
                }
            }
            if splice {
                let range = |of: usize, ends: &[prop::sample::Index]| {
                    let (one, two) = (ends[0].index(of + 1), ends[1].index(of + 1));
                    one.min(two)..one.max(two)
                };
                let (cut, put) = (range(mutated.len(), &part[..2]), range(other.len(), &part[2..]));
                mutated.splice(cut, other[put].iter().copied());
            }
            mutated
        })
    }

    #[test]
    fn every_target_survives_its_corpus_and_mutations_of_it() {
        const CASES: u32 = 2000;
        for (name, target) in TARGETS {
            let seeds = corpus(name);
            assert!(!seeds.is_empty(), "fuzz/corpus/{name} is empty");
            seeds.iter().for_each(|seed| target(seed));
            // The same cases on each run, so a failure is reproducible. PROPTEST_CASES sets a larger number.
            let usual = Runs::default();
            let runs = Runs { cases: usual.cases.max(CASES), failure_persistence: None, ..usual };
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
            let run = TestRunner::new_with_rng(runs, rng).run(&mutated(seeds), |bytes| {
                target(&bytes);
                Ok(())
            });
            run.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn every_target_has_its_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let files =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: BTreeSet<_> = files.map(|file| file.trim_end_matches(".rs").to_owned()).collect();
        assert_eq!(names, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }
}
