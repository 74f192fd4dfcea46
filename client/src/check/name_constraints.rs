//! Name constraints of certificate authorities (RFC 5280, section 4.2.1.10).
//!
//! Invariant: if a constraint covers a kind of name that is not understood here, certificates with such a name are refused.

use std::mem::discriminant;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, NameConstraints, ParsedExtension};
use x509_parser::x509::X509Name;

/// Whether `constraints` allow every name of the certificate: the signer's own or that of an authority below.
pub(super) fn allow(
    constraints: &NameConstraints<'_>,
    certificate: &X509Certificate<'_>,
    is_leaf: bool,
) -> bool {
    names(certificate, is_leaf).iter().all(|name| {
        let of_kind = |subtrees: &Option<Vec<_>>| -> Vec<GeneralName<'_>> {
            let bases = subtrees.iter().flatten();
            let bases =
                bases.map(|subtree: &x509_parser::extensions::GeneralSubtree<'_>| subtree.base.clone());
            bases.filter(|base| discriminant(base) == discriminant(name)).collect()
        };
        let (permitted, excluded) =
            (of_kind(&constraints.permitted_subtrees), of_kind(&constraints.excluded_subtrees));
        // A name that cannot be compared counts as not permitted, and as excluded.
        let is_permitted =
            permitted.is_empty() || permitted.iter().any(|base| within(name, base) == Some(true));
        is_permitted && excluded.iter().all(|base| within(name, base) == Some(false))
    })
}

fn names<'a>(certificate: &'a X509Certificate<'_>, is_leaf: bool) -> Vec<GeneralName<'a>> {
    let subject = certificate.subject();
    let mut names = Vec::new();
    if subject.iter_rdn().next().is_some() {
        names.push(GeneralName::DirectoryName(subject.clone()));
    }
    let alternatives =
        certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    names.extend(alternatives.flatten().cloned());
    names.extend(subject.iter_email().filter_map(|email| email.as_str().ok()).map(GeneralName::RFC822Name));
    // Without a DNS name, a common name that looks like one counts as a DNS name, as in OpenSSL.
    if is_leaf && !names.iter().any(|name| matches!(name, GeneralName::DNSName(_))) {
        let common = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.filter(|name| looks_like_dns(name)).map(GeneralName::DNSName));
    }
    names
}

fn looks_like_dns(name: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    name.contains('.') && name.split('.').all(label)
}

/// Whether `name` lies in the subtree of `base`, which has the same kind; `None` if that is unknown.
fn within(name: &GeneralName<'_>, base: &GeneralName<'_>) -> Option<bool> {
    match (name, base) {
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => {
            let (name, base) = (parts(name), parts(base));
            Some(name.starts_with(&base))
        }
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => {
            let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
            let base = base.strip_prefix('.').unwrap_or(&base).to_owned();
            Some(base.is_empty() || name == base || name.ends_with(&format!(".{base}")))
        }
        (GeneralName::RFC822Name(name), GeneralName::RFC822Name(base)) => {
            let (local, host) = name.rsplit_once('@')?;
            match base.rsplit_once('@') {
                Some((base_local, base_host)) => {
                    Some(local == base_local && host.eq_ignore_ascii_case(base_host))
                }
                None => Some(is_host_within(host, base)),
            }
        }
        (GeneralName::URI(name), GeneralName::URI(base)) => {
            let (_, rest) = name.split_once("://")?;
            let authority = rest.split(['/', '?', '#']).next()?;
            let host = authority.rsplit('@').next()?;
            if host.starts_with('[') {
                return None;
            }
            let host = host.split(':').next().filter(|host| !host.is_empty())?;
            Some(is_host_within(host, base))
        }
        (GeneralName::IPAddress(name), GeneralName::IPAddress(base)) => {
            if base.len() != 2 * name.len() {
                return Some(false);
            }
            let (network, mask) = base.split_at(name.len());
            Some(name.iter().zip(network).zip(mask).all(|((byte, of), mask)| byte & mask == of & mask))
        }
        _ => None,
    }
}

/// A base that begins with a dot means all hosts below it, any other base a single host.
fn is_host_within(host: &str, base: &str) -> bool {
    let (host, base) = (host.to_ascii_lowercase(), base.to_ascii_lowercase());
    if base.starts_with('.') { host.ends_with(&base) } else { base.is_empty() || host == base }
}

/// The relative names, each as its attributes in a form that ignores case and superfluous space.
fn parts(name: &X509Name<'_>) -> Vec<Vec<(String, Vec<u8>)>> {
    let canonical = |text: &str| {
        let words: Vec<_> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
        words.join(" ").into_bytes()
    };
    let parts = name.iter_rdn().map(|rdn| {
        let attributes = rdn.iter().map(|attribute| {
            let value = attribute.as_str().map_or_else(|_| attribute.as_slice().to_vec(), canonical);
            (attribute.attr_type().to_id_string(), value)
        });
        let mut attributes: Vec<_> = attributes.collect();
        attributes.sort();
        attributes
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtrees_are_those_of_the_rfc() {
        use GeneralName::{DNSName, IPAddress, RFC822Name, URI};
        for (name, base, expected) in [
            (DNSName("a.example"), DNSName("example"), Some(true)),
            (DNSName("A.Example"), DNSName(".example"), Some(true)),
            (DNSName("aexample"), DNSName("example"), Some(false)),
            (RFC822Name("a@b.example"), RFC822Name(".example"), Some(true)),
            (RFC822Name("a@example"), RFC822Name(".example"), Some(false)),
            (RFC822Name("a@EXAMPLE"), RFC822Name("a@example"), Some(true)),
            (RFC822Name("A@example"), RFC822Name("a@example"), Some(false)),
            (URI("https://u@status.example:1/x"), URI("status.example"), Some(true)),
            (URI("https://other.example/status.example"), URI("status.example"), Some(false)),
            (URI("https://[::1]/"), URI("status.example"), None),
            (URI("urn:x"), URI("status.example"), None),
            (IPAddress(&[10, 1, 2, 3]), IPAddress(&[10, 0, 0, 0, 255, 0, 0, 0]), Some(true)),
            (IPAddress(&[11, 1, 2, 3]), IPAddress(&[10, 0, 0, 0, 255, 0, 0, 0]), Some(false)),
        ] {
            assert_eq!(within(&name, &base), expected, "{name:?} within {base:?}");
        }
    }

    #[test]
    fn only_whole_host_names_look_like_dns() {
        assert!(looks_like_dns("status.example"));
        assert!(!["signer", "a b.example", "", "a..example", "-a.example"].into_iter().any(looks_like_dns));
    }
}
