//! A caller's identity: a hash of the credential. Rates count by it, and an `Idempotency-Key` belongs to it.
//!
//! Leaves names to logs and the audit trail, where they may be truncated, sanitized, or shared by several keys.
//! Invariant: two callers share an identity only if they use one API key, or tokens with the same issuer, subject and
//! client.

use std::fmt;

use crate::base::digest::digest;
use crate::model::api_key::ApiKeyHash;

/// Distinguishes a caller from every other, whatever their names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

impl Identity {
    /// The identity of the holder of this API key, in every pool that it opens.
    pub(super) fn of_api_key(hash: &ApiKeyHash) -> Self {
        Self(digest("statuslist caller with an API key", &[hash.to_setting().as_bytes()]))
    }

    /// The identity of the holder of tokens with this `iss`, `sub` and `client_id`. An absent claim differs from an empty
    /// one.
    pub(super) fn of_token(issuer: &str, subject: Option<&str>, client: Option<&str>) -> Self {
        let claim = |claim: Option<&'_ str>| claim.map_or(&b"absent"[..], |_| b"given");
        let parts = [
            issuer.as_bytes(),
            claim(subject),
            subject.unwrap_or_default().as_bytes(),
            claim(client),
            client.unwrap_or_default().as_bytes(),
        ];
        Self(digest("statuslist caller with a token", &parts))
    }

    /// The bytes, for hashes that include the caller.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_credential_has_an_identity_of_its_own() {
        let token = Identity::of_token;
        let (long_a, long_b) = ("x".repeat(64) + "a", "x".repeat(64) + "b");
        let identities = [
            Identity::of_api_key(&ApiKeyHash::of("a")),
            Identity::of_api_key(&ApiKeyHash::of("b")),
            token("i", Some("a"), None),
            token("i", None, Some("a")),
            token("j", None, Some("a")),
            token("i", Some("a"), Some("")),
            token("i", Some(""), Some("a")),
            token("i", Some("a"), Some("a")),
            token("i", Some("aa"), Some("")),
            token("ia", Some("a"), Some("")),
            token("i", Some("a"), Some("odd\n")),
            token("i", Some("a"), Some("odd?")),
            token("i", Some("a"), Some(&long_a)),
            token("i", Some("a"), Some(&long_b)),
        ];
        assert_eq!(identities.iter().collect::<HashSet<_>>().len(), identities.len());
        assert_eq!(token("i", Some("a"), Some(&long_a)), token("i", Some("a"), Some(&long_a)), "the control");
        assert_eq!(format!("{:?}", identities[0]), "Identity(..)");
    }
}
