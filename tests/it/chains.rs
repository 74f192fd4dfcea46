//! The same certificate chains for `statuslist check` and for `openssl verify`: what OpenSSL refuses, `check` refuses (RFC 5280,
//! section 6). The chains have up to three authorities below the trusted one, and faults of every kind.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
    date_time_ymd,
};
use statuslist::base::clock::NumericDate;
use statuslist::check::{CannotTell, ChainFlaw, Check, Outcome, Trust, Untrusted, judge};
use statuslist::sign::{KeyHints, Signer, SigningKey};
use statuslist::status_list::{Bits, Claims, Format, lst};

const CHAINS: u32 = 500;
const URI: &str = "https://status.example/lists/1";
const NOW: NumericDate = NumericDate::from_secs(1_800_000_000);
/// The name of every signer, and one that contains it.
const NAME: &str = "status.example";
const DOMAIN: &str = "example";

/// How a certificate differs from an ordinary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Twist {
    Ordinary,
    Expired,
    NotYet,
    CaFalse,
    NoBasicConstraints,
    NoCertSign,
    NoKeyUsage,
    PathLength(u8),
    PermitsItsName,
    PermitsOtherNames,
    ExcludesItsName,
    SignedByOtherKey,
    IssuedByOtherName,
    IssuedByOtherKeyId,
    NamedAsIssuer,
    UnknownCritical,
    UnknownUncritical,
    NotSent,
    SentTwice,
    /// Only the signer's: a certificate authority.
    SignerIsAuthority,
    /// Only the signer's: a key for something else.
    KeyEncipherment,
    /// Only the signer's: a certificate of a TLS server.
    ServerAuth,
}

use Twist::*;

#[derive(Clone, Debug)]
struct Chain {
    root: Twist,
    /// Below the root, nearest first.
    between: Vec<Twist>,
    signer: Twist,
    /// Sends the signer's issuer last instead of first.
    reversed: bool,
    /// Sends the root as well.
    with_root: bool,
    /// Trusts the first authority below the root instead of the root.
    trusts_between: bool,
}

/// Most certificates are ordinary, so that many chains have one fault, some two, and some none.
fn twist(faults: Vec<Twist>) -> impl Strategy<Value = Twist> {
    prop_oneof![4 => Just(Ordinary), 2 => proptest::sample::select(faults)]
}

fn chain() -> impl Strategy<Value = Chain> {
    let of_all = vec![Expired, NotYet, UnknownCritical, UnknownUncritical];
    let of_authority = vec![
        CaFalse,
        NoBasicConstraints,
        NoCertSign,
        NoKeyUsage,
        PathLength(0),
        PathLength(1),
        PathLength(2),
        PermitsItsName,
        PermitsOtherNames,
        ExcludesItsName,
    ];
    let of_issued = vec![SignedByOtherKey, IssuedByOtherName, IssuedByOtherKeyId, NotSent, SentTwice];
    let of_signer = vec![SignerIsAuthority, KeyEncipherment, ServerAuth, CaFalse];
    let root = twist([of_all.clone(), of_authority.clone()].concat());
    let between = twist([of_all.clone(), of_authority, of_issued.clone(), vec![NamedAsIssuer]].concat());
    let issued = of_issued.into_iter().filter(|twist| *twist != NotSent && *twist != SentTwice).collect();
    let signer = twist([of_all, issued, of_signer].concat());
    let between = proptest::collection::vec(between, 0..=3);
    (root, between, signer, any::<bool>(), any::<bool>(), proptest::bool::weighted(0.2)).prop_map(
        |(root, between, signer, reversed, with_root, trusts_between)| Chain {
            root,
            between,
            signer,
            reversed,
            with_root,
            trusts_between,
        },
    )
}

struct Made {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn params(name: &str, twist: Twist, is_authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    params.use_authority_key_identifier_extension = true;
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    } else {
        params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    }
    let names = |permitted: &[&str], excluded: &[&str]| {
        let [permitted_subtrees, excluded_subtrees] = [permitted, excluded]
            .map(|names| names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect());
        Some(NameConstraints { permitted_subtrees, excluded_subtrees })
    };
    let extension = |critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(critical);
        vec![extension]
    };
    match twist {
        Expired => params.not_after = date_time_ymd(2026, 1, 1),
        NotYet => params.not_before = date_time_ymd(2030, 1, 1),
        CaFalse => params.is_ca = IsCa::ExplicitNoCa,
        NoBasicConstraints => params.is_ca = IsCa::NoCa,
        NoCertSign => params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature],
        NoKeyUsage => params.key_usages.clear(),
        PathLength(most) => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most)),
        PermitsItsName => params.name_constraints = names(&[DOMAIN], &[]),
        PermitsOtherNames => params.name_constraints = names(&["test"], &[]),
        ExcludesItsName => params.name_constraints = names(&[], &[DOMAIN]),
        UnknownCritical => params.custom_extensions = extension(true),
        UnknownUncritical => params.custom_extensions = extension(false),
        SignerIsAuthority => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        KeyEncipherment => params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
        ServerAuth => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        Ordinary | SignedByOtherKey | IssuedByOtherName | IssuedByOtherKeyId | NamedAsIssuer | NotSent
        | SentTwice => {}
    }
    params
}

fn root(twist: Twist) -> Made {
    let (params, key) = (params("root", twist, true), KeyPair::generate().unwrap());
    Made { pem: params.self_signed(&key).unwrap().pem(), params, key }
}

fn issued(name: &str, twist: Twist, is_authority: bool, issuer: &Made) -> Made {
    let (mut params, key) = (params(name, twist, is_authority), KeyPair::generate().unwrap());
    let (mut by, other) = (issuer.params.clone(), KeyPair::generate().unwrap());
    let signing = if twist == SignedByOtherKey { &other } else { &issuer.key };
    match twist {
        // Its key id is still that of the right key.
        SignedByOtherKey => {
            by.key_identifier_method = KeyIdMethod::PreSpecified(issuer.params.key_identifier(&issuer.key))
        }
        IssuedByOtherName => {
            by.distinguished_name = DistinguishedName::new();
            by.distinguished_name.push(DnType::CommonName, "somebody else");
        }
        IssuedByOtherKeyId => by.key_identifier_method = KeyIdMethod::PreSpecified(vec![9; 20]),
        NamedAsIssuer => params.distinguished_name = by.distinguished_name.clone(),
        _ => {}
    }
    let pem = params.signed_by(&key, &Issuer::from_params(&by, signing)).unwrap().pem();
    Made { params, key, pem }
}

/// The trusted certificate, the signer's, its key, and what is sent with it.
struct Presented {
    trusted: String,
    signer: Made,
    rest: String,
}

fn present(chain: &Chain) -> Presented {
    let root = root(chain.root);
    let mut between: Vec<Made> = Vec::new();
    for (number, twist) in chain.between.iter().enumerate() {
        let issuer = between.last().unwrap_or(&root);
        between.push(issued(&format!("authority {number}"), *twist, true, issuer));
    }
    let signer = issued("signer", chain.signer, false, between.last().unwrap_or(&root));
    let trusted = match between.first() {
        Some(first) if chain.trusts_between => first.pem.clone(),
        _ => root.pem.clone(),
    };
    let copies = |twist| match twist {
        NotSent => 0,
        SentTwice => 2,
        _ => 1,
    };
    let sent = between.iter().zip(&chain.between);
    let mut rest: Vec<_> = sent.flat_map(|(made, twist)| vec![made.pem.clone(); copies(*twist)]).collect();
    rest.reverse();
    rest.extend(chain.with_root.then(|| root.pem.clone()));
    if chain.reversed {
        rest.reverse();
    }
    Presented { trusted, signer, rest: rest.concat() }
}

/// Our refusal; `None` if the token is valid.
fn ours(presented: &Presented) -> Option<Untrusted> {
    let Presented { trusted, signer, rest } = presented;
    // An authority that can never verify anything is refused as soon as it is read.
    let trust = match Trust::from_pem(trusted) {
        Ok(trust) => trust,
        Err(why) => return Some(Untrusted::Leaf(why.to_string())),
    };
    let key = SigningKey::from_pem(&signer.key.serialize_pem(), Some(&format!("{}{rest}", signer.pem)), None);
    let token = Signer::new(key.unwrap(), KeyHints { kid: false, x5c: true, jwk: false }).sign_jwt(&Claims {
        sub: URI.to_owned(),
        iss: None,
        iat: NOW,
        nbf: None,
        exp: None,
        ttl: None,
        bits: Bits::One,
        lst: lst::compress(&[0; 100]).into(),
        aggregation_uri: None,
    });
    match judge(&Check::new(URI, 0), Format::Jwt, token.unwrap().as_bytes(), Some(&trust), NOW).outcome {
        Outcome::Valid => None,
        Outcome::Unknown(CannotTell::Untrusted(why)) => Some(why),
        other => panic!("{other:?}"),
    }
}

/// What OpenSSL says against the chain; `None` if it accepts it.
fn openssls(folder: &Path, presented: &Presented) -> Option<String> {
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
        path
    };
    let mut command = Command::new("openssl");
    command.args(["verify", "-no-CApath", "-no-CAstore", "-partial_chain", "-attime", &NOW.to_string()]);
    command.arg("-CAfile").arg(file("trusted.pem", &presented.trusted));
    if !presented.rest.is_empty() {
        command.arg("-untrusted").arg(file("rest.pem", &presented.rest));
    }
    let output =
        command.arg(file("signer.pem", &presented.signer.pem)).output().expect("openssl is installed");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What we refuse on purpose although OpenSSL accepts it, with the reason.
fn is_stricter_on_purpose(chain: &Chain, why: &Untrusted) -> bool {
    let without_constraints =
        [&chain.root].into_iter().chain(&chain.between).any(|twist| *twist == NoBasicConstraints);
    match why {
        // RFC 5280, section 4.2.1.9: without basic constraints a key verifies no certificates. OpenSSL lets a key usage with
        // keyCertSign pass for them.
        Untrusted::Chain { why: ChainFlaw::UnknownIssuer | ChainFlaw::NotAnAuthority { .. } } => {
            without_constraints
        }
        // OpenSSL is not told what the certificate is used for. A signer of statuses issues no certificates, and its key must be
        // for signatures, and not only for TLS.
        Untrusted::Chain { why: ChainFlaw::AuthorityAsLeaf } => true,
        Untrusted::KeyUsage { .. } | Untrusted::OtherPurpose { .. } => true,
        _ => false,
    }
}

#[test]
fn what_openssl_refuses_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // How often both accept, both refuse, and only we refuse, for each twist.
    let seen: Mutex<BTreeMap<Twist, [usize; 3]>> = Mutex::default();
    let config = Config { cases: CHAINS, failure_persistence: None, ..Config::default() };
    let compared = TestRunner::new(config).run(&chain(), |chain| {
        let presented = present(&chain);
        let (ours, theirs) = (ours(&presented), openssls(folder.path(), &presented));
        let case = match (&ours, &theirs) {
            (None, None) => 0,
            (Some(_), Some(_)) => 1,
            (Some(why), None) if is_stricter_on_purpose(&chain, why) => 2,
            _ => return Err(TestCaseError::fail(format!("check: {ours:?}\nopenssl: {theirs:?}"))),
        };
        for twist in [chain.root, chain.signer].iter().chain(&chain.between) {
            seen.lock().entry(*twist).or_default()[case] += 1;
        }
        Ok(())
    });
    compared.unwrap();
    let seen = seen.into_inner();
    println!("both accept, both refuse, only we refuse: {seen:#?}");
    let [accepted, refused, _] = seen[&Ordinary];
    assert!(accepted > 50 && refused > 50, "the chains are of one kind: {seen:?}");
    for twist in [Expired, NotYet, CaFalse, NoCertSign, PathLength(0), PermitsOtherNames, ExcludesItsName] {
        assert!(seen[&twist][1] > 0, "{twist:?} was never refused");
    }
}
