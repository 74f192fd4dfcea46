//! The last check before a token replaces another: would a Relying Party accept it, is it newer, and was every difference
//! requested? A refusal keeps the old file. The gate reads the final bytes, so it also catches faults of memory and of every
//! step before it.

use std::collections::HashMap;

use thiserror::Error;

use crate::base::clock::NumericDate;
use crate::publish::ours::{self, Token};
use crate::sign::profile::{Breach, Profiles};
use crate::sign::{Certificate, PublicKey};
use crate::site::folder::TokenFiles;
use crate::status_list::{Capacity, Claims, Format, Index, InvalidClaims, Status, StatusArray, lst};
use crate::store::Changes;

/// The requirements for a token.
pub(in crate::publish) struct Expected<'a> {
    /// The list's URI.
    pub(in crate::publish) uri: &'a str,
    /// Entries and bits, as stored with the list.
    pub(in crate::publish) capacity: Capacity,
    /// The signing key.
    pub(in crate::publish) key: &'a PublicKey,
    /// The certificates that tokens of this key carry, leaf first; empty without.
    pub(in crate::publish) chain: &'a [Vec<u8>],
    /// The current second.
    pub(in crate::publish) now: NumericDate,
    /// The latest `iat` it may have: the current second, unless the published `iat` lies in the future.
    pub(in crate::publish) latest_iat: NumericDate,
    /// The largest `iat` published so far, according to the files and the store.
    pub(in crate::publish) previous_iat: Option<NumericDate>,
    /// The claims of the token that would be replaced, if there is one.
    pub(in crate::publish) previous: Option<&'a Claims>,
    /// Whether that token is of the store's latest publication, so that the journal explains every difference from it.
    pub(in crate::publish) previous_is_latest: bool,
    /// The profiles of the pool.
    pub(in crate::publish) profiles: Profiles,
    /// A status that no entry may leave.
    pub(in crate::publish) final_status: Option<Status>,
    /// The statuses in the store: the new token must hold exactly these.
    pub(in crate::publish) array: &'a StatusArray,
    /// The changes since the previous publication, if a journal is kept.
    pub(in crate::publish) changes: Option<&'a Changes>,
}

/// Which check a publication failed.
#[derive(Debug, Error)]
pub enum Refused {
    /// The bytes are not a Status List Token.
    #[error("the new file is not a Status List Token: {0}")]
    Unreadable(#[from] InvalidClaims),
    /// A key other than the pool's made the signature.
    #[error("the signature does not verify with the pool's key")]
    Signature,
    /// The token does not carry the certificates of the pool's key.
    #[error("its certificate chain is not that of the pool's key")]
    Chain,
    /// The token breaks a profile of the pool.
    #[error("{0}")]
    Profile(Breach),
    /// The token is of another list.
    #[error("`sub` is {found}, the list is {expected}")]
    Subject {
        /// In the token.
        found: String,
        /// The list's URI.
        expected: String,
    },
    /// The array is not that of the list.
    #[error("the array cannot be that of the list: {0}")]
    Array(String),
    /// `iat` is not later than that of the published token.
    #[error("`iat` {found} is not later than the published {published}")]
    IssuedAt {
        /// In the new token.
        found: NumericDate,
        /// In the published one.
        published: NumericDate,
    },
    /// The token is not valid now.
    #[error("a Relying Party would refuse it now ({now}): iat {iat}, exp {}", exp.map_or("none".to_owned(), |exp| exp.to_string()))]
    Times {
        /// The current second.
        now: NumericDate,
        /// In the new token.
        iat: NumericDate,
        /// In the new token.
        exp: Option<NumericDate>,
    },
    /// JWT, gzip, CWT and credentials are not of one publication.
    #[error("the files have different contents")]
    FilesDiffer,
    /// The array differs from the statuses in the store.
    #[error("the array is not that of the store")]
    OtherArray,
    /// Entries lost the final status.
    #[error("{} entries would leave their final status, the first is index {}", lost.len(), lost.first().map_or(0, |index| index.get()))]
    FinalStatus {
        /// The entries; at least one.
        lost: Vec<Index>,
        /// The status.
        status: Status,
    },
    /// An entry changed without a request.
    #[error("index {idx} would change from {old} to {new}, which was not requested")]
    Unexplained {
        /// The entry.
        idx: u32,
        /// Its published status.
        old: Status,
        /// Its status in the new token.
        new: Status,
    },
    /// An entry does not have the requested status.
    #[error("index {idx} would be {found}, but {asked} was requested")]
    Missing {
        /// The entry.
        idx: u32,
        /// Its status in the new token.
        found: Status,
        /// The status that was requested last.
        asked: Status,
    },
}

impl Refused {
    /// Every [`Self::check`].
    pub const CHECKS: [&'static str; 13] = [
        "unreadable",
        "signature",
        "chain",
        "profile",
        "subject",
        "array",
        "iat",
        "times",
        "files-differ",
        "other-array",
        "final-status",
        "unexplained",
        "missing",
    ];

    /// The label of `publish_refused_total`.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Signature => "signature",
            Self::Chain => "chain",
            Self::Profile(_) => "profile",
            Self::Subject { .. } => "subject",
            Self::Array(_) => "array",
            Self::IssuedAt { .. } => "iat",
            Self::Times { .. } => "times",
            Self::FilesDiffer => "files-differ",
            Self::OtherArray => "other-array",
            Self::FinalStatus { .. } => "final-status",
            Self::Unexplained { .. } => "unexplained",
            Self::Missing { .. } => "missing",
        }
    }
}

/// Passes a publication, or says why not.
pub(in crate::publish) fn check(files: &TokenFiles, expected: &Expected<'_>) -> Result<(), Refused> {
    let claims = one_publication(files, expected)?;
    if claims.sub != expected.uri {
        return Err(Refused::Subject { found: claims.sub, expected: expected.uri.to_owned() });
    }
    if let Some(published) = expected.previous_iat.filter(|published| claims.iat <= *published) {
        return Err(Refused::IssuedAt { found: claims.iat, published });
    }
    if claims.iat > expected.latest_iat || claims.exp.is_some_and(|exp| exp <= expected.now) {
        return Err(Refused::Times { now: expected.now, iat: claims.iat, exp: claims.exp });
    }
    let array = array_of(&claims, expected.capacity)?;
    if array != *expected.array {
        return Err(Refused::OtherArray);
    }
    check_credentials(files, &claims, expected)?;
    check_changes(&array, expected)
}

/// Whether each status list credential is signed as the tokens are and says the same as they do. What holds for them then holds for it.
fn check_credentials(files: &TokenFiles, claims: &Claims, expected: &Expected<'_>) -> Result<(), Refused> {
    for (purpose, bytes) in ours::credentials(files) {
        let token = Token::decode_credential(bytes)?;
        let carried = token.certificates.as_deref().ok_or(Refused::Chain)?;
        let key = verifying_key(carried, (expected.key, expected.chain))?;
        if !token.is_signed_by(&key) {
            return Err(Refused::Signature);
        }
        if token.claims.purpose != purpose || !token.claims.is_of(claims, expected.array) {
            return Err(Refused::FilesDiffer);
        }
    }
    Ok(())
}

/// Returns the claims of all files, which must be equal, signed by the pool's key, carry its certificates, and keep its profiles.
fn one_publication(files: &TokenFiles, expected: &Expected<'_>) -> Result<Claims, Refused> {
    let mut claims = Vec::with_capacity(2);
    for format in Format::SIGNED {
        let Some(bytes) = files.form(format) else { continue };
        let token = Token::decode(format, bytes)?;
        let carried = token.certificates.as_deref().ok_or(Refused::Chain)?;
        let key = verifying_key(carried, (expected.key, expected.chain))?;
        if !token.is_signed_by(&key) {
            return Err(Refused::Signature);
        }
        if let Some(breach) = token.breach(format, expected.capacity.entries(), expected.profiles) {
            return Err(Refused::Profile(breach));
        }
        claims.push(token.claims);
    }
    let last = claims.pop().ok_or(Refused::FilesDiffer)?;
    let agree = claims.iter().all(|other| *other == last) && ours::unsigned_files_match(files, &last);
    if agree { Ok(last) } else { Err(Refused::FilesDiffer) }
}

/// Returns the key with which a Relying Party verifies a token that carries these certificates: that of the first one. Does not
/// check whether they are within their time: see ARCHITECTURE.md, "Keys".
fn verifying_key(carried: &[Vec<u8>], (key, chain): (&PublicKey, &[Vec<u8>])) -> Result<PublicKey, Refused> {
    if carried != chain {
        return Err(Refused::Chain);
    }
    match carried.first() {
        Some(leaf) => Certificate::parse(leaf).map(|leaf| leaf.key).map_err(|_| Refused::Chain),
        None => Ok(key.clone()),
    }
}

/// Returns the statuses in these claims, if they can be those of a list of this capacity.
pub(in crate::publish) fn array_of(claims: &Claims, capacity: Capacity) -> Result<StatusArray, Refused> {
    if claims.bits != capacity.bits() {
        return Err(Refused::Array(format!("bits is {}, the list has {}", claims.bits, capacity.bits())));
    }
    let bytes = lst::inflate(&claims.lst, capacity.bytes() as u64)
        .map_err(|error| Refused::Array(error.to_string()))?;
    StatusArray::from_bytes(capacity, bytes).map_err(|error| Refused::Array(error.to_string()))
}

/// Whether every difference between `array` and the published token was requested, and every request is in `array`.
pub(in crate::publish) fn check_changes(array: &StatusArray, expected: &Expected<'_>) -> Result<(), Refused> {
    // The latest request for each entry.
    let asked: Option<HashMap<u32, Status>> =
        expected.changes.map(|changes| changes.entries.iter().copied().collect());
    let every = expected.changes.and_then(|changes| changes.every);
    for (&idx, &asked) in asked.iter().flatten() {
        let index: Index =
            expected.capacity.index(idx.into()).map_err(|error| Refused::Array(error.to_string()))?;
        let found = array.get(index);
        if found != asked {
            return Err(Refused::Missing { idx, found, asked });
        }
    }
    if let Some(every) = every {
        let filled = StatusArray::filled(expected.capacity, every);
        let mut others = filled.changes(array).map(|(index, _, found)| (index.get(), found));
        if let Some((idx, found)) =
            others.find(|(idx, _)| !asked.as_ref().is_some_and(|asked| asked.contains_key(idx)))
        {
            return Err(Refused::Missing { idx, found, asked: every });
        }
    }
    let Some(previous) = expected.previous else { return Ok(()) };
    // Usually only the times differ.
    let previous = array_of(previous, expected.capacity)?;
    if let Some(status) = expected.final_status {
        let left = previous.changes(array).filter(|(_, old, _)| *old == status);
        let lost: Vec<_> = left.map(|(index, _, _)| index).collect();
        if !lost.is_empty() {
            return Err(Refused::FinalStatus { lost, status });
        }
    }
    if every.is_some() {
        // It explains every other change.
        return Ok(());
    }
    for (index, old, new) in previous.changes(array) {
        let idx = index.get();
        if expected.previous_is_latest && asked.as_ref().is_some_and(|asked| !asked.contains_key(&idx)) {
            return Err(Refused::Unexplained { idx, old, new });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bitstring::Credential;
    use crate::sign::profile::Profile;
    use crate::sign::{Algorithm, KeyHints, Signer, SigningKey, generate};
    use crate::site::layout::ListFile;
    use crate::status_list::jwt;
    use crate::status_list::{Bits, Purpose};

    const URI: &str = "https://example.com/lists/1";

    fn signer() -> Signer {
        let key = SigningKey::from_pem(&generate(Algorithm::Es256).unwrap(), None, None).unwrap();
        Signer::new(key, KeyHints { kid: true, x5c: false, jwk: false })
    }

    fn capacity() -> Capacity {
        Capacity::new(800, Bits::Two).unwrap()
    }

    const fn at(secs: u64) -> NumericDate {
        NumericDate::from_secs(secs)
    }

    fn claims(changes: &[(u32, u8)], iat: u64) -> Claims {
        let mut array = StatusArray::filled(capacity(), Status::VALID);
        for (idx, value) in changes {
            array.set(capacity().index((*idx).into()).unwrap(), Status::new(*value));
        }
        Claims {
            sub: URI.into(),
            iss: None,
            iat: at(iat),
            nbf: None,
            exp: Some(at(iat + 100)),
            ttl: Some(Duration::from_secs(10)),
            bits: Bits::Two,
            lst: lst::compress(array.as_bytes()).into(),
            aggregation_uri: None,
        }
    }

    /// What a list that was never published must be.
    fn of_new_list<'a>(signer: &'a Signer, array: &'a StatusArray) -> Expected<'a> {
        Expected {
            uri: URI,
            capacity: capacity(),
            key: signer.public_key(),
            chain: signer.chain_in_header(),
            now: at(2000),
            latest_iat: at(2000),
            previous_iat: None,
            previous: None,
            previous_is_latest: false,
            profiles: Profiles::default(),
            final_status: None,
            array,
            changes: None,
        }
    }

    fn jwt_of(signer: &Signer, claims: &Claims) -> (Format, Vec<u8>) {
        (Format::Jwt, signer.sign_jwt(claims).unwrap().into_bytes())
    }

    fn cwt_of(signer: &Signer, claims: &Claims) -> (Format, Vec<u8>) {
        (Format::Cwt, signer.sign_cwt(claims).unwrap())
    }

    fn replace(files: &mut TokenFiles, (format, bytes): (Format, Vec<u8>)) {
        *files = std::mem::take(files).with(ListFile::Form(format), bytes);
    }

    fn truncate(files: &mut TokenFiles, file: ListFile, length: usize) {
        let shorter = files.file(file).unwrap()[..length].to_vec();
        *files = std::mem::take(files).with(file, shorter);
    }

    fn files(signer: &Signer, claims: &Claims) -> TokenFiles {
        TokenFiles::new([jwt_of(signer, claims), cwt_of(signer, claims)])
    }

    /// Publishes `new` over `old`, with `changes` in the journal.
    fn outcome(
        old: &Claims,
        new: &Claims,
        changes: &[(u32, Status)],
        adjust: impl FnOnce(&mut Expected<'_>, &mut TokenFiles),
    ) -> Result<(), Refused> {
        outcome_after(old, new, &Changes { every: None, entries: changes.to_vec() }, adjust)
    }

    fn outcome_after(
        old: &Claims,
        new: &Claims,
        changes: &Changes,
        adjust: impl FnOnce(&mut Expected<'_>, &mut TokenFiles),
    ) -> Result<(), Refused> {
        let signer = signer();
        let mut files = files(&signer, new);
        let array = array_of(new, capacity()).unwrap();
        let mut expected = Expected {
            uri: URI,
            capacity: capacity(),
            key: signer.public_key(),
            chain: &[],
            now: at(2000),
            latest_iat: at(2000),
            previous_iat: Some(old.iat),
            previous: Some(old),
            previous_is_latest: true,
            profiles: Profiles::default(),
            final_status: Some(Status::INVALID),
            array: &array,
            changes: Some(changes),
        };
        adjust(&mut expected, &mut files);
        check(&files, &expected)
    }

    fn label(
        old: &Claims,
        new: &Claims,
        changes: &[(u32, Status)],
        adjust: impl FnOnce(&mut Expected<'_>, &mut TokenFiles),
    ) -> &'static str {
        let label = outcome(old, new, changes, adjust).map_or_else(|refused| refused.check(), |()| "passed");
        assert!(label == "passed" || Refused::CHECKS.contains(&label), "{label} is missing in CHECKS");
        label
    }

    #[test]
    fn explained_changes_pass() {
        let (old, new) = (claims(&[(1, 1)], 1000), claims(&[(1, 1), (2, 2), (700, 1)], 2000));
        let journal = [(2, Status::INVALID), (2, Status::SUSPENDED), (700, Status::INVALID)];
        assert_eq!(label(&old, &new, &journal, |_, _| ()), "passed");
        assert_eq!(
            label(&old, &claims(&[(1, 1)], 2000), &[], |_, _| ()),
            "passed",
            "signed again without a change"
        );
    }

    #[test]
    fn signature_of_another_key_is_refused() {
        let (old, new) = (claims(&[], 1000), claims(&[], 2000));
        let other = signer();
        assert_eq!(label(&old, &new, &[], |_, files| replace(files, jwt_of(&other, &new))), "signature");
        assert_eq!(label(&old, &new, &[], |_, files| replace(files, cwt_of(&other, &new))), "signature");
    }

    #[test]
    fn a_credential_must_be_signed_by_the_same_key_and_say_the_same() {
        let with_issuer = |changes: &[(u32, u8)], iat| Claims {
            iss: Some("https://issuer.example".to_owned()),
            ..claims(changes, iat)
        };
        let (old, new) = (with_issuer(&[(1, 1)], 1000), with_issuer(&[(1, 1), (2, 2)], 2000));
        let journal = [(2, Status::SUSPENDED)];
        let suspension = Format::Bitstring(Purpose::Suspension);
        let outcome = |of: &Claims, purpose: Purpose, other: Option<&Signer>| {
            let signer = signer();
            let array = array_of(of, capacity()).unwrap();
            let credential = Credential::of(of, &array, purpose);
            let credential = other.unwrap_or(&signer).sign_credential(&credential).unwrap();
            let files = files(&signer, &new).with(ListFile::Form(suspension), credential.into_bytes());
            let array = array_of(&new, capacity()).unwrap();
            let changes = Changes { every: None, entries: journal.to_vec() };
            let expected = Expected {
                previous_iat: Some(old.iat),
                previous: Some(&old),
                previous_is_latest: true,
                changes: Some(&changes),
                ..of_new_list(&signer, &array)
            };
            check(&files, &expected).map_or_else(|refused| refused.check(), |()| "passed")
        };
        assert_eq!(outcome(&new, Purpose::Suspension, None), "passed");
        assert_eq!(outcome(&new, Purpose::Suspension, Some(&signer())), "signature");
        assert_eq!(outcome(&new, Purpose::Revocation, None), "files-differ", "the other purpose");
        assert_eq!(outcome(&old, Purpose::Suspension, None), "files-differ", "the publication before");
        let stale = with_issuer(&[(1, 1)], 2000);
        assert_eq!(outcome(&stale, Purpose::Suspension, None), "files-differ", "without the change");
        assert_eq!(
            outcome(&claims(&[(1, 1), (2, 2)], 2000), Purpose::Suspension, None),
            "unreadable",
            "no issuer"
        );
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let (old, new) = (claims(&[], 1000), claims(&[], 2000));
        assert_eq!(
            label(&old, &new, &[], |_, files| replace(files, (Format::Jwt, b"a.b".to_vec()))),
            "unreadable"
        );
        assert_eq!(
            label(&old, &new, &[], |_, files| truncate(files, ListFile::Form(Format::Cwt), 50)),
            "unreadable"
        );
    }

    #[test]
    fn token_of_another_list_is_refused() {
        let new = Claims { sub: "https://example.com/lists/2".into(), ..claims(&[], 2000) };
        assert_eq!(label(&claims(&[], 1000), &new, &[], |_, _| ()), "subject");
    }

    #[test]
    fn iat_that_does_not_grow_is_refused() {
        assert_eq!(label(&claims(&[], 2000), &claims(&[], 2000), &[], |_, _| ()), "iat");
        assert_eq!(label(&claims(&[], 2000), &claims(&[], 1999), &[], |_, _| ()), "iat");
    }

    #[test]
    fn token_that_is_not_valid_now_is_refused() {
        assert_eq!(label(&claims(&[], 1000), &claims(&[], 2001), &[], |_, _| ()), "times");
        assert_eq!(label(&claims(&[], 1000), &claims(&[], 1900), &[], |_, _| ()), "times");
    }

    #[test]
    fn array_of_another_size_or_width_is_refused() {
        let (old, new) = (claims(&[], 1000), claims(&[], 2000));
        let adjust =
            |capacity| move |expected: &mut Expected<'_>, _: &mut TokenFiles| expected.capacity = capacity;
        assert_eq!(label(&old, &new, &[], adjust(Capacity::new(1600, Bits::One).unwrap())), "array");
        assert_eq!(label(&old, &new, &[], adjust(Capacity::new(1600, Bits::Two).unwrap())), "array");
        assert_eq!(label(&old, &new, &[], adjust(Capacity::new(400, Bits::Two).unwrap())), "array");
    }

    #[test]
    fn files_of_different_publications_are_refused() {
        let (old, new) = (claims(&[], 1000), claims(&[], 2000));
        assert_eq!(label(&old, &new, &[], |_, files| truncate(files, ListFile::JwtGzip, 20)), "files-differ");
        assert_eq!(label(&old, &new, &[], |_, files| *files = TokenFiles::default()), "files-differ");
        let signer = signer();
        let mixed = TokenFiles::new([jwt_of(&signer, &new), cwt_of(&signer, &claims(&[], 1999))]);
        let array = array_of(&new, capacity()).unwrap();
        assert!(matches!(check(&mixed, &of_new_list(&signer, &array)), Err(Refused::FilesDiffer)));
    }

    #[test]
    fn other_statuses_than_those_of_the_store_are_refused() {
        let stored = array_of(&claims(&[(7, 1)], 2000), capacity()).unwrap();
        let outcome = outcome(&claims(&[], 1000), &claims(&[], 2000), &[], |_, _| ());
        assert!(outcome.is_ok());
        let signer = signer();
        let new = claims(&[], 2000);
        let expected = of_new_list(&signer, &stored);
        assert!(matches!(check(&files(&signer, &new), &expected), Err(Refused::OtherArray)));
    }

    /// A signer with a chain of its own.
    fn signer_with_chain(x5c: bool) -> Signer {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["status.example".into()]).unwrap();
        let chain = certificate.self_signed(&key).unwrap().pem();
        let key = SigningKey::from_pem(&key.serialize_pem(), Some(&chain), None).unwrap();
        Signer::new(key, KeyHints { kid: true, x5c, jwk: false })
    }

    /// Returns the outcome for a token of `signs` in a pool with the key and chain of `configured`, for each format alone.
    fn outcome_of_chain(signs: &Signer, configured: &Signer) -> &'static str {
        let new = claims(&[], 2000);
        let array = array_of(&new, capacity()).unwrap();
        let formats = [TokenFiles::new([jwt_of(signs, &new)]), TokenFiles::new([cwt_of(signs, &new)])];
        let outcomes = formats.map(|files| {
            let expected = of_new_list(configured, &array);
            check(&files, &expected).map_or_else(|refused| refused.check(), |()| "passed")
        });
        assert_eq!(outcomes[0], outcomes[1]);
        outcomes[0]
    }

    #[test]
    fn other_chain_than_the_pools_is_refused() {
        let (one, other) = (signer_with_chain(true), signer_with_chain(true));
        assert_eq!(outcome_of_chain(&one, &one), "passed", "the control");
        assert_eq!(outcome_of_chain(&other, &one), "chain");
        assert_eq!(outcome_of_chain(&signer_with_chain(false), &one), "chain", "none");
        assert_eq!(outcome_of_chain(&one, &signer()), "chain", "a chain where none is configured");
    }

    /// The signature fits the pool's key, but not the chain that verifiers check: the first certificate is for another key.
    #[test]
    fn signature_of_another_key_than_the_leafs_is_refused() {
        let (one, other) = (signer_with_chain(true), signer_with_chain(true));
        let new = claims(&[], 2000);
        let token = other.sign_jwt(&new).unwrap();
        let mut header = jwt::decode(&token).unwrap().header;
        header.x5c = jwt::decode(&one.sign_jwt(&new).unwrap()).unwrap().header.x5c;
        let input = jwt::signing_input(&header, &new);
        let array = array_of(&new, capacity()).unwrap();
        let signed = |signer: &Signer| {
            let signature = signer.signature(input.as_bytes());
            let files =
                TokenFiles::new([(Format::Jwt, jwt::assemble(input.clone(), &signature).into_bytes())]);
            let expected = Expected { chain: one.chain_in_header(), ..of_new_list(&other, &array) };
            check(&files, &expected).map_or_else(|refused| refused.check(), |()| "passed")
        };
        assert_eq!(signed(&other), "signature");
        assert_eq!(signed(&one), "passed", "the control: the leaf's own key");
    }

    #[test]
    fn a_token_that_breaks_a_profile_of_the_pool_is_refused() {
        let (signer, new) = (signer_with_chain(true), claims(&[], 2000));
        let array = array_of(&new, capacity()).unwrap();
        let outcome = |profile: Option<Profile>, format: (Format, Vec<u8>)| {
            let profiles = profile.into_iter().collect();
            let expected = Expected { profiles, ..of_new_list(&signer, &array) };
            match check(&TokenFiles::new([format]), &expected) {
                Err(refused @ Refused::Profile(_)) => refused.to_string(),
                other => other.map_or_else(|refused| refused.check(), |()| "passed").to_owned(),
            }
        };
        assert!(outcome(Some(Profile::Haip), jwt_of(&signer, &new)).contains("H-02"), "self-signed");
        assert!(outcome(Some(Profile::Mdoc), cwt_of(&signer, &new)).contains("M-04"), "two bits");
        assert!(outcome(Some(Profile::Eudi), jwt_of(&signer, &new)).contains("E-02"), "800 entries");
        assert_eq!(outcome(Some(Profile::Haip), cwt_of(&signer, &new)), "passed", "it is about JWTs");
        assert_eq!(outcome(None, jwt_of(&signer, &new)), "passed");
    }

    #[test]
    fn lost_final_status_is_refused() {
        let (old, new) = (claims(&[(5, 1)], 1000), claims(&[], 2000));
        assert_eq!(label(&old, &new, &[(5, Status::VALID)], |_, _| ()), "final-status");
    }

    #[test]
    fn change_without_a_request_is_refused() {
        assert_eq!(label(&claims(&[], 1000), &claims(&[(9, 2)], 2000), &[], |_, _| ()), "unexplained");
        assert_eq!(
            label(&claims(&[], 1000), &claims(&[(9, 2)], 2000), &[], |expected, _| expected.changes = None),
            "passed",
            "no journal"
        );
    }

    #[test]
    fn a_change_of_every_entry_explains_all_and_demands_all() {
        let some = |value: u8| (0..800).map(move |idx| (idx, value)).collect::<Vec<_>>();
        let every = |after: &[(u32, Status)], new: &[(u32, u8)]| {
            let changes = Changes { every: Some(Status::INVALID), entries: after.to_vec() };
            let (old, new) = (claims(&[(3, 1), (4, 2)], 1000), claims(new, 2000));
            outcome_after(&old, &new, &changes, |_, _| ())
                .map_or_else(|refused| refused.check(), |()| "passed")
        };
        assert_eq!(every(&[], &some(1)), "passed");
        let mut other = some(1);
        other[9].1 = 2;
        assert_eq!(every(&[], &other), "missing", "an entry without the status requested for all");
        assert_eq!(every(&[(9, Status::SUSPENDED)], &other), "passed", "unless it was requested later");
        assert_eq!(every(&[(9, Status::SUSPENDED)], &some(1)), "missing");
        other[3].1 = 0;
        let lost = [(9, Status::SUSPENDED), (3, Status::VALID)];
        assert_eq!(every(&lost, &other), "final-status", "nothing explains that");
    }

    #[test]
    fn change_that_is_missing_is_refused() {
        assert_eq!(
            label(&claims(&[], 1000), &claims(&[], 2000), &[(9, Status::INVALID)], |_, _| ()),
            "missing"
        );
    }
}
