//! A certificate chain as a path from a signer to a trusted authority (RFC 5280, section 6).
//!
//! x509-parser parses and webpki verifies each signature. This file holds the search, and the rules that no library
//! enforces as OpenSSL does: webpki ignores the key usage of authorities, takes a trust anchor to be valid for ever and for
//! any path length, and refuses critical extensions that every web implementation understands.
//!
//! Not evaluated: policies (a chain that demands them is refused) and revocation.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{AuthorityKeyIdentifier, GeneralName, KeyIdentifier, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::name_constraints;
use super::times::instant;
use crate::base::clock::NumericDate;
use crate::chain::has_signed;

/// The most certificates between a signer and a trusted authority.
const BETWEEN_MAX: usize = 8;
/// The most signatures to verify for one chain, so that a stranger's pile of certificates cannot cost more.
const SIGNATURES_MAX: u32 = 100;

/// Why a certificate chain is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum ChainFlaw {
    /// A certificate cannot be read.
    Unreadable(String),
    /// No path leads to a trusted authority.
    UnknownIssuer,
    /// An issuer has the right name, but another key.
    OtherKey,
    /// A certificate, or the trusted one itself, has expired.
    Expired {
        /// The certificate's subject.
        subject: String,
        /// The end of its validity.
        not_after: NumericDate,
    },
    /// A certificate, or the trusted one itself, is not valid yet.
    NotYet {
        /// The certificate's subject.
        subject: String,
        /// The start of its validity.
        not_before: NumericDate,
    },
    /// The first certificate is that of an authority.
    AuthorityAsLeaf,
    /// A certificate was issued by one that must not issue any.
    NotAnAuthority {
        /// The issuer's subject.
        subject: String,
        /// The rule that forbids it.
        why: &'static str,
    },
    /// An authority allows fewer authorities below it than there are.
    PathTooLong {
        /// The certificate's subject.
        subject: String,
    },
    /// A critical extension is unknown.
    Critical {
        /// The certificate's subject.
        subject: String,
        /// The extension in dotted numbers.
        extension: String,
    },
    /// The name constraints of an authority forbid a name in the chain.
    Name {
        /// The authority.
        authority: String,
    },
    /// An authority demands policies.
    Policy {
        /// The certificate's subject.
        subject: String,
    },
    /// More certificates than any chain needs.
    TooComplex,
}

/// A certificate of a chain, or a trusted one.
pub(super) struct Node<'a> {
    certificate: X509Certificate<'a>,
}

impl<'a> Node<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, ChainFlaw> {
        let unreadable = |why: String| ChainFlaw::Unreadable(why);
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable(format!("{} bytes follow it", rest.len())));
        }
        if certificate.version() != X509Version::V3 {
            return Err(unreadable("it must be of version 3".to_owned()));
        }
        if certificate.signature_algorithm != certificate.tbs_certificate.signature {
            return Err(unreadable("it names two signature algorithms".to_owned()));
        }
        for (at, extension) in certificate.extensions().iter().enumerate() {
            if let ParsedExtension::ParseError { error } = extension.parsed_extension() {
                return Err(unreadable(format!("its extension {}: {error}", extension.oid)));
            }
            if certificate.extensions()[..at].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(unreadable(format!("it has the extension {} twice", extension.oid)));
            }
        }
        Ok(Self { certificate })
    }

    fn subject(&self) -> String {
        self.certificate.subject().to_string()
    }

    fn extensions(&self) -> impl Iterator<Item = &ParsedExtension<'a>> {
        self.certificate.extensions().iter().map(|extension| extension.parsed_extension())
    }

    fn is_self_issued(&self) -> bool {
        self.certificate.subject().as_raw() == self.certificate.issuer().as_raw()
    }

    fn is_authority(&self) -> bool {
        self.extensions()
            .any(|extension| matches!(extension, ParsedExtension::BasicConstraints(basic) if basic.ca))
    }

    fn key_id(&self) -> Option<&KeyIdentifier<'a>> {
        self.extensions().find_map(|extension| match extension {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id),
            _ => None,
        })
    }

    fn authority_key_id(&self) -> Option<&AuthorityKeyIdentifier<'a>> {
        self.extensions().find_map(|extension| match extension {
            ParsedExtension::AuthorityKeyIdentifier(id) => Some(id),
            _ => None,
        })
    }

    /// Checks the rules for every certificate of a path: it is valid now, and its critical extensions are understood.
    fn check(&self, now: NumericDate) -> Result<(), ChainFlaw> {
        let validity = self.certificate.validity();
        let [not_before, not_after] = [validity.not_before, validity.not_after]
            .map(|time| NumericDate::from_signed_secs(time.timestamp()));
        if now > not_after {
            return Err(ChainFlaw::Expired { subject: self.subject(), not_after });
        }
        if now < not_before {
            return Err(ChainFlaw::NotYet { subject: self.subject(), not_before });
        }
        for extension in self.certificate.extensions() {
            let subject = || self.subject();
            match extension.parsed_extension() {
                // Mappings and inhibitions only affect demanded policies, and a distribution point only says where
                // revocations are published.
                ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_)
                | ParsedExtension::NameConstraints(_)
                | ParsedExtension::SubjectKeyIdentifier(_)
                | ParsedExtension::AuthorityKeyIdentifier(_)
                | ParsedExtension::CertificatePolicies(_)
                | ParsedExtension::PolicyMappings(_)
                | ParsedExtension::InhibitAnyPolicy(_)
                | ParsedExtension::CRLDistributionPoints(_) => {}
                ParsedExtension::PolicyConstraints(policy) if policy.require_explicit_policy.is_some() => {
                    return Err(ChainFlaw::Policy { subject: subject() });
                }
                ParsedExtension::PolicyConstraints(_) => {}
                _ if extension.critical => {
                    return Err(ChainFlaw::Critical {
                        subject: subject(),
                        extension: extension.oid.to_id_string(),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that this certificate may have issued others, with `between` authorities between it and the signer.
    fn check_authority(&self, between: usize) -> Result<(), ChainFlaw> {
        let refused = |why| ChainFlaw::NotAnAuthority { subject: self.subject(), why };
        if !self.is_authority() {
            return Err(refused("it is not that of a certificate authority"));
        }
        for extension in self.extensions() {
            match extension {
                ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() => {
                    return Err(refused("its key usage lacks keyCertSign"));
                }
                ParsedExtension::BasicConstraints(basic)
                    if basic.path_len_constraint.is_some_and(|most| between > most as usize) =>
                {
                    return Err(ChainFlaw::PathTooLong { subject: self.subject() });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether `issued` names this certificate as its issuer: by name and, if it gives them, by key id and serial number.
    fn is_named_by(&self, issued: &Self) -> bool {
        if issued.certificate.issuer().as_raw() != self.certificate.subject().as_raw() {
            return false;
        }
        let Some(named) = issued.authority_key_id() else { return true };
        let differs = |named: Option<&KeyIdentifier<'_>>, own: Option<&KeyIdentifier<'_>>| {
            named.zip(own).is_some_and(|(named, own)| named.0 != own.0)
        };
        let issuers = named.authority_cert_issuer.iter().flatten();
        let issuer = issuers.filter_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        });
        let mut issuer = issuer.take(1);
        !differs(named.key_identifier.as_ref(), self.key_id())
            && named.authority_cert_serial.is_none_or(|serial| serial == self.certificate.raw_serial())
            && issuer.all(|issuer| issuer.as_raw() == self.certificate.issuer().as_raw())
    }

    fn has_signed(&self, issued: &Self) -> bool {
        has_signed(&self.certificate, &issued.certificate)
    }
}

/// Finds the trusted authority that the signer's certificate leads to, through some of `rest`, at `now`.
pub(super) fn find(
    leaf: &[u8],
    rest: &[Vec<u8>],
    trusted: &[Node<'_>],
    now: NumericDate,
) -> Result<usize, ChainFlaw> {
    let leaf = Node::parse(leaf)?;
    leaf.check(now)?;
    if leaf.is_authority() {
        return Err(ChainFlaw::AuthorityAsLeaf);
    }
    // Ignores unreadable certificates: the others may be enough for the path.
    let rest: Vec<_> = rest.iter().filter_map(|der| Node::parse(der).ok()).collect();
    Search { leaf: &leaf, rest: &rest, trusted, now, signatures: SIGNATURES_MAX }.from(&mut Vec::new())
}

struct Search<'a, 'b> {
    leaf: &'a Node<'a>,
    rest: &'a [Node<'a>],
    trusted: &'a [Node<'b>],
    now: NumericDate,
    signatures: u32,
}

impl<'a> Search<'a, '_> {
    /// Continues from the end of `path`, the authorities between the signer and here.
    fn from(&mut self, path: &mut Vec<&'a Node<'a>>) -> Result<usize, ChainFlaw> {
        let end = path.last().copied().unwrap_or(self.leaf);
        let mut flaw = ChainFlaw::UnknownIssuer;
        for (at, authority) in self.trusted.iter().enumerate() {
            if authority.is_named_by(end) {
                match self.step(authority, end, path).and_then(|()| self.check_names(authority, path)) {
                    Ok(()) => return Ok(at),
                    Err(why) => flaw = why,
                }
            }
        }
        for authority in self.rest {
            let is_used = path.iter().any(|used| std::ptr::eq(*used, authority));
            if is_used || path.len() == BETWEEN_MAX || !authority.is_named_by(end) {
                continue;
            }
            let found = self.step(authority, end, path).and_then(|()| {
                path.push(authority);
                let found = self.from(path);
                path.pop();
                found
            });
            match found {
                Ok(at) => return Ok(at),
                Err(ChainFlaw::TooComplex) => return Err(ChainFlaw::TooComplex),
                // A path that breaks is more informative than one that leads nowhere.
                Err(why) if flaw == ChainFlaw::UnknownIssuer => flaw = why,
                Err(_) => {}
            }
        }
        Err(flaw)
    }

    /// Checks that `issuer` has issued `issued`, and was allowed to.
    fn step(&mut self, issuer: &Node<'_>, issued: &Node<'_>, path: &[&Node<'_>]) -> Result<(), ChainFlaw> {
        issuer.check(self.now)?;
        issuer.check_authority(path.iter().filter(|authority| !authority.is_self_issued()).count())?;
        self.signatures = self.signatures.checked_sub(1).ok_or(ChainFlaw::TooComplex)?;
        if issuer.has_signed(issued) { Ok(()) } else { Err(ChainFlaw::OtherKey) }
    }

    /// Checks that every authority may vouch for all names below it.
    fn check_names(&self, root: &Node<'_>, path: &[&Node<'_>]) -> Result<(), ChainFlaw> {
        for (below, authority) in path.iter().copied().chain([root]).enumerate() {
            for extension in authority.extensions() {
                let ParsedExtension::NameConstraints(constraints) = extension else { continue };
                let issued = path[..below].iter().filter(|issued| !issued.is_self_issued());
                let mut issued = issued.map(|issued| &issued.certificate);
                let allowed = name_constraints::allow(constraints, &self.leaf.certificate, true)
                    && issued.all(|issued| name_constraints::allow(constraints, issued, false));
                if !allowed {
                    return Err(ChainFlaw::Name { authority: authority.subject() });
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for ChainFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "a certificate in it cannot be read: {why}"),
            Self::UnknownIssuer => f.write_str("it is neither trusted itself nor issued by a trusted authority"),
            Self::OtherKey => f.write_str("an authority of that name is trusted, but with another key"),
            Self::Expired { subject, not_after } => {
                write!(f, "{subject:?}: a certificate in it expired at {}", instant(*not_after))
            }
            Self::NotYet { subject, not_before } => {
                write!(f, "{subject:?}: a certificate in it is valid only from {} on", instant(*not_before))
            }
            Self::AuthorityAsLeaf => f.write_str(
                "its first certificate is that of an authority; put the signer's own first, or trust exactly this one",
            ),
            Self::NotAnAuthority { subject, why } => {
                write!(f, "the certificate of {subject:?} may not issue others: {why}")
            }
            Self::PathTooLong { subject } => {
                write!(f, "more authorities follow {subject:?} than its certificate allows")
            }
            Self::Critical { subject, extension } => {
                write!(f, "the certificate of {subject:?} has the critical extension {extension}, which is not understood")
            }
            Self::Name { authority } => {
                write!(f, "the name constraints of {authority:?} forbid a name in it")
            }
            Self::Policy { subject } => {
                write!(f, "the certificate of {subject:?} demands explicit policies, which are not evaluated")
            }
            Self::TooComplex => f.write_str("it has more certificates than any chain needs"),
        }
    }
}
