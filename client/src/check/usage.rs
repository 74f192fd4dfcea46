//! What the signer's certificate allows its key to be used for, and when (RFC 5280, sections 4.1.2.5, 4.2.1.3 and
//! 4.2.1.12).
//!
//! Applies to a pinned certificate as well as to one that a trusted authority issued: trust extends only to what the
//! certificate says.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{ExtendedKeyUsage, FromDer, KeyUsage};

use super::key::Key;
use super::untrusted::Untrusted;
use crate::base::clock::NumericDate;

const ANY: &str = "2.5.29.37.0";

/// The key purposes other than signing statuses: all that are registered below `id-kp` up to RFC 9509, and two older ones.
/// The purpose for statuses has no number yet, so an unknown number may be it.
const ID_KP: &str = "1.3.6.1.5.5.7.3.";
const ID_KP_LAST: u32 = 39;
const OLDER: &[&str] = &["1.3.6.1.4.1.311.10.3.3", "2.16.840.1.113730.4.1"];

/// A signer's certificate.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) key: Key,
    not_before: NumericDate,
    not_after: NumericDate,
    key_usage: Option<KeyUsage>,
    /// Extended key usages in dotted numbers; `None` if the certificate does not restrict them.
    extended_key_usages: Option<Vec<String>>,
}

/// The extended key usages that the signer's certificate must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Any, but not only those of other purposes.
    #[default]
    NoOther,
    /// Any at all.
    Any,
    /// This one, in dotted numbers.
    Demanded(String),
}

impl Leaf {
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("it is not X.509 ({error})"))?;
        let validity = certificate.validity();
        let mut leaf = Self {
            key: Key::from_certificate(certificate.public_key())?,
            not_before: NumericDate::from_signed_secs(validity.not_before.timestamp()),
            not_after: NumericDate::from_signed_secs(validity.not_after.timestamp()),
            key_usage: None,
            extended_key_usages: None,
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::KeyUsage(usage) => leaf.key_usage = Some(*usage),
                ParsedExtension::ExtendedKeyUsage(usage) => leaf.extended_key_usages = Some(purposes(usage)),
                ParsedExtension::ParseError { error } => {
                    return Err(format!("its extension {} cannot be read ({error})", extension.oid));
                }
                _ => {}
            }
        }
        Ok(leaf)
    }

    /// Checks that the certificate lets its key sign statuses at `now`.
    pub(super) fn check(&self, purpose: &Purpose, now: NumericDate) -> Result<(), Untrusted> {
        let &Self { not_before, not_after, .. } = self;
        if !(not_before..=not_after).contains(&now) {
            return Err(Untrusted::OutOfDate { not_before, not_after });
        }
        let signs = |usage: &KeyUsage| usage.digital_signature() || usage.non_repudiation();
        if let Some(usage) = self.key_usage.as_ref().filter(|usage| !signs(usage)) {
            return Err(Untrusted::KeyUsage { present: usage.to_string() });
        }
        let present = self.extended_key_usages.clone();
        match purpose {
            Purpose::Any => Ok(()),
            Purpose::Demanded(demanded) => {
                let present = present.unwrap_or_default();
                match present.contains(demanded) {
                    true => Ok(()),
                    false => Err(Untrusted::ExtendedKeyUsage { demanded: demanded.clone(), present }),
                }
            }
            Purpose::NoOther => match present {
                Some(present) if present.iter().all(|usage| is_another_purpose(usage)) => {
                    Err(Untrusted::OtherPurpose { present })
                }
                _ => Ok(()),
            },
        }
    }
}

fn is_another_purpose(usage: &str) -> bool {
    let number = usage.strip_prefix(ID_KP).and_then(|number| number.parse::<u32>().ok());
    number.is_some_and(|number| number <= ID_KP_LAST) || OLDER.contains(&usage)
}

/// The usages in dotted numbers; the parser keeps the well-known ones apart.
fn purposes(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let well_known = [
        (usage.any, ANY),
        (usage.server_auth, "1.3.6.1.5.5.7.3.1"),
        (usage.client_auth, "1.3.6.1.5.5.7.3.2"),
        (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    let well_known = well_known.into_iter().filter(|(present, _)| *present).map(|(_, oid)| oid.to_owned());
    well_known.chain(usage.other.iter().map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registered_purposes_count_as_other_ones() {
        for other in ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.36", "2.16.840.1.113730.4.1"] {
            assert!(is_another_purpose(other), "{other}");
        }
        for perhaps in [
            ANY,
            "1.3.6.1.5.5.7.3.999",
            "1.3.6.1.5.5.7.3",
            "1.2.3",
            "1.3.6.1.5.5.7.31",
            "1.3.6.1.5.5.7.3.1.1",
        ] {
            assert!(!is_another_purpose(perhaps), "{perhaps}");
        }
    }
}
