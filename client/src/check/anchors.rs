//! Trusted certificates, and a token's certificate chain as a path to one of them.
//!
//! Leaves it to `trust.rs` whether the leaf's key signed the token and may do so.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::path::{self, Node};
use super::untrusted::{TrustedBy, Untrusted};
use super::usage::Leaf;
use crate::base::clock::NumericDate;

/// A trusted certificate.
#[derive(Debug)]
pub(super) struct Anchor {
    der: Vec<u8>,
    subject: String,
    is_authority: bool,
}

/// The certificates to try if a token carries none.
pub(super) fn pinned(anchors: &[Anchor]) -> Result<Vec<(Leaf, TrustedBy)>, Untrusted> {
    let own: Vec<_> = anchors.iter().filter(|anchor| !anchor.is_authority).collect();
    if own.is_empty() {
        return Err(Untrusted::NoChain);
    }
    own.into_iter().map(Anchor::leaf).collect()
}

/// The leaf of a token's chain, if it is a trusted certificate or leads to a trusted authority.
pub(super) fn chained(
    anchors: &[Anchor],
    leaf: &[u8],
    rest: &[Vec<u8>],
    now: NumericDate,
) -> Result<(Leaf, TrustedBy), Untrusted> {
    // Self-signed certificates made with openssl say that they are authorities, so equality decides.
    if let Some(equal) = anchors.iter().find(|anchor| anchor.der == leaf) {
        return equal.leaf();
    }
    let flaw = |why| Untrusted::Chain { why };
    let authorities: Vec<_> = anchors.iter().filter(|anchor| anchor.is_authority).collect();
    let trusted: Result<Vec<_>, _> = authorities.iter().map(|anchor| Node::parse(&anchor.der)).collect();
    // At the current time, even for a token of the past: the key of an expired certificate may be in anyone's hands.
    let found = path::find(leaf, rest, &trusted.map_err(flaw)?, now).map_err(flaw)?;
    let subject = authorities[found].subject.clone();
    Ok((Leaf::parse(leaf).map_err(Untrusted::Leaf)?, TrustedBy::Authority { subject }))
}

impl Anchor {
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let anchor = Self {
            der: der.to_vec(),
            subject: certificate.subject().to_string(),
            is_authority: certificate.is_ca(),
        };
        // Refuses now what could never verify anything, rather than ignoring it silently later.
        if anchor.is_authority {
            Node::parse(der).map_err(|flaw| flaw.to_string())?;
        } else {
            Leaf::parse(der)?;
        }
        Ok(anchor)
    }

    fn leaf(&self) -> Result<(Leaf, TrustedBy), Untrusted> {
        let leaf = Leaf::parse(&self.der).map_err(Untrusted::Leaf)?;
        Ok((leaf, TrustedBy::Certificate { subject: self.subject.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
        Issuer, KeyPair, date_time_ymd,
    };

    use super::super::verdict::tests::{NOW, URI, claims, refusal, token};
    use super::super::{CannotTell, Check, Format, Outcome, Trust, judge};
    use super::*;
    use crate::issuer::{KeyHints, Signer, SigningKey};
    use crate::status_list::jwt;

    const EKU: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 999];

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    fn named(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        params
    }

    fn authority(name: &str, parent: Option<&Authority>) -> Authority {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = match parent {
            Some(parent) => params.signed_by(&key, &parent.issuer),
            None => params.self_signed(&key),
        };
        Authority { pem: certificate.unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// A signer whose chain is its own certificate followed by `rest`, and that certificate.
    fn leaf(params: CertificateParams, issuer: &Authority, rest: &str, x5c: bool) -> (Signer, String) {
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &issuer.issuer).unwrap().pem();
        let key = SigningKey::from_pem(&key.serialize_pem(), Some(&format!("{pem}{rest}")), None).unwrap();
        (Signer::new(key, KeyHints { kid: true, x5c, jwk: false }), pem)
    }

    fn judged(signer: &Signer, trust: &Trust) -> Result<TrustedBy, Untrusted> {
        let [jwt, cwt] = Format::SIGNED.map(|format| {
            let report =
                judge(&Check::new(URI, 0), format, &token(format, signer, &claims()), Some(trust), NOW);
            match report.outcome {
                Outcome::Valid => Ok(report.token.unwrap().trusted_by.unwrap()),
                Outcome::Unknown(CannotTell::Untrusted(why)) => Err(why),
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(jwt, cwt);
        jwt
    }

    fn trust(pem: &str) -> Trust {
        Trust::from_pem(pem).unwrap()
    }

    #[test]
    fn chain_to_a_trusted_authority_is_accepted() {
        let root = authority("root", None);
        let between = authority("between", Some(&root));
        let (direct, _) = leaf(named("signer"), &root, &root.pem, true);
        let (indirect, _) = leaf(named("signer"), &between, &between.pem, true);
        let other = authority("other", None);
        let both = trust(&format!("{}{}", other.pem, root.pem));
        let by_root = TrustedBy::Authority { subject: "CN=root".into() };
        assert_eq!(judged(&direct, &both), Ok(by_root.clone()));
        assert_eq!(judged(&indirect, &both), Ok(by_root));
        let (cut, _) = leaf(named("signer"), &between, "", true);
        let why = judged(&cut, &both).unwrap_err();
        assert!(why.to_string().ends_with("nor issued by a trusted authority"), "{why}");
    }

    #[test]
    fn chain_to_another_authority_is_refused() {
        let (signer, _) = leaf(named("signer"), &authority("root", None), "", true);
        for other in ["other", "root"] {
            let why = judged(&signer, &trust(&authority(other, None).pem)).unwrap_err();
            assert!(matches!(why, Untrusted::Chain { .. }), "{why}");
        }
    }

    #[test]
    fn expired_leaf_is_refused() {
        let root = authority("root", None);
        let mut params = named("signer");
        params.not_after = date_time_ymd(2026, 1, 1);
        let (signer, pem) = leaf(params, &root, "", true);
        let why = judged(&signer, &trust(&root.pem)).unwrap_err();
        assert!(why.to_string().ends_with("a certificate in it expired at 2026-01-01T00:00:00Z"), "{why}");
        let pinned = judged(&signer, &trust(&pem)).unwrap_err();
        assert!(matches!(pinned, Untrusted::OutOfDate { .. }), "{pinned}");
    }

    #[test]
    fn leaf_before_its_time_is_refused() {
        let root = authority("root", None);
        let mut params = named("signer");
        params.not_before = date_time_ymd(2030, 1, 1);
        let why = judged(&leaf(params, &root, "", true).0, &trust(&root.pem)).unwrap_err();
        assert!(why.to_string().contains("only from 2030-01-01T00:00:00Z on"), "{why}");
    }

    #[test]
    fn a_required_extended_key_usage_must_be_present() {
        let root = authority("root", None);
        let demanding = || trust(&root.pem).requiring_eku("1.3.6.1.5.5.7.3.999").unwrap();
        let mut params = named("signer");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(EKU.to_vec())];
        let (with, _) = leaf(params, &root, "", true);
        let (without, pem) = leaf(named("signer"), &root, "", true);
        assert!(judged(&with, &demanding()).is_ok());
        assert!(judged(&without, &trust(&root.pem)).is_ok(), "no usage is required");
        for trust in [demanding(), trust(&pem).requiring_eku("1.3.6.1.5.5.7.3.999").unwrap()] {
            let why = judged(&without, &trust).unwrap_err();
            assert!(matches!(why, Untrusted::ExtendedKeyUsage { .. }), "{why}");
        }
    }

    #[test]
    fn pinned_certificate_is_trusted_with_and_without_a_chain() {
        let root = authority("root", None);
        for x5c in [true, false] {
            let (signer, pem) = leaf(named("signer"), &root, &root.pem, x5c);
            let by = TrustedBy::Certificate { subject: "CN=signer".into() };
            assert_eq!(judged(&signer, &trust(&pem)), Ok(by));
            let (_, other) = leaf(named("signer"), &root, "", x5c);
            let why = judged(&signer, &trust(&other)).unwrap_err();
            assert_eq!(why == Untrusted::Signature, !x5c, "{why}");
        }
    }

    #[test]
    fn self_signed_authority_that_signs_tokens_itself_can_be_pinned() {
        let mut params = named("both");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let key = SigningKey::from_pem(&key.serialize_pem(), Some(&pem), None).unwrap();
        let signer = Signer::new(key, KeyHints { kid: true, x5c: true, jwk: false });
        assert_eq!(judged(&signer, &trust(&pem)), Ok(TrustedBy::Certificate { subject: "CN=both".into() }));
        let why = judged(&signer, &trust(&authority("other", None).pem)).unwrap_err();
        assert!(why.to_string().contains("trust exactly this one"), "{why}");
    }

    #[test]
    fn authority_alone_cannot_vouch_for_a_token_without_a_chain() {
        let root = authority("root", None);
        let (signer, _) = leaf(named("signer"), &root, "", false);
        assert_eq!(judged(&signer, &trust(&root.pem)), Err(Untrusted::NoChain));
    }

    #[test]
    fn pinned_certificate_vouches_for_no_other() {
        let (params, key) = (named("pinned"), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        let pinned = Authority { pem, issuer: Issuer::new(params, key) };
        let (signer, _) = leaf(named("signer"), &pinned, &pinned.pem, true);
        let why = judged(&signer, &trust(&pinned.pem)).unwrap_err();
        assert!(matches!(why, Untrusted::Chain { .. }), "{why}");
    }

    #[test]
    fn chain_of_another_key_than_the_signers_is_refused() {
        let root = authority("root", None);
        let (honest, _) = leaf(named("signer"), &root, "", true);
        let stolen = jwt::decode(&honest.sign_jwt(&claims()).unwrap()).unwrap().header;
        let forged = jwt::assemble(jwt::signing_input(&stolen, &claims()), &[7; 64]);
        let report = judge(&Check::new(URI, 0), Format::Jwt, forged.as_bytes(), Some(&trust(&root.pem)), NOW);
        assert!(matches!(refusal(report), CannotTell::Untrusted(Untrusted::Signature)));
    }

    #[test]
    fn unreadable_chains_are_refused() {
        let root = authority("root", None);
        let check = |x5c: &str, expected: &str| {
            let header = jwt::Header {
                alg: "ES256".into(),
                typ: jwt::TYP.into(),
                x5c: Some(vec![x5c.to_owned()]),
                ..jwt::Header::default()
            };
            let token = jwt::assemble(jwt::signing_input(&header, &claims()), &[7; 64]);
            let report =
                judge(&Check::new(URI, 0), Format::Jwt, token.as_bytes(), Some(&trust(&root.pem)), NOW);
            let why = refusal(report).to_string();
            assert!(why.contains(expected), "{why}");
        };
        check("%", "certificates in base64");
        check("AAAA", "does not lead to a trusted certificate");
        let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let leaf = named("signer").signed_by(&rsa, &root.issuer).unwrap();
        check(&STANDARD.encode(leaf.der()), "expected an EC key on P-256, P-384 or P-521, or Ed25519");
    }
}
