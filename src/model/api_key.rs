//! Issuers as the settings name them: their API keys, kept only as hashes, and what each key allows.

use std::fmt;

use aws_lc_rs::digest;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;

/// An action that a caller may be allowed in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Take references.
    Allocate,
    /// Update statuses and retire lists.
    Update,
    /// Look at the pool, its lists and their statuses.
    Read,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Allocate, Self::Update, Self::Read];

    /// The name in settings and tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allocate => "allocate",
            Self::Update => "update",
            Self::Read => "read",
        }
    }

    /// The scope of this name, if it exists.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self(0b111);

    /// Whether `scope` is among them.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }

    /// The scopes that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

/// One API key of a pool and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The hash of the key.
    pub hash: ApiKeyHash,
    /// Its name in logs and the audit trail.
    pub name: String,
    /// What its holder may do.
    pub scopes: Scopes,
    /// Before this time the key counts as unknown.
    pub not_before: Option<Timestamp>,
    /// After this time the key counts as unknown.
    pub not_after: Option<Timestamp>,
}

impl ApiKey {
    /// A key with every scope and no end, named after its hash.
    pub fn unlimited(hash: ApiKeyHash) -> Self {
        let name = hash.short_name();
        Self { hash, name, scopes: Scopes::ALL, not_before: None, not_after: None }
    }

    /// Whether `now` lies within the key's times.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|begin| begin <= now) && self.not_after.is_none_or(|end| now <= end)
    }
}

/// The SHA-256 of an API key. A fast hash is enough: our keys are 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeyHash([u8; 32]);

/// A text in which 64 hexadecimal digits do not follow `sha256:`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an API key hash is `sha256:` and 64 hexadecimal digits; make one with `statuslist hash-key`")]
pub struct InvalidApiKeyHash;

impl ApiKeyHash {
    const PREFIX: &str = "sha256:";

    /// The hash of a key as an issuer sends it.
    pub fn of(key: &str) -> Self {
        Self::of_bytes(key.as_bytes())
    }

    /// Like [`Self::of`], for a key that may not be text.
    pub fn of_bytes(key: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, key).as_ref());
        Self(hash)
    }

    /// Reads the text in the settings: `sha256:<hex>`. Returns `None` for a key in plain text.
    pub fn from_setting(setting: &str) -> Result<Option<Self>, InvalidApiKeyHash> {
        let Some(hex) = setting.strip_prefix(Self::PREFIX) else { return Ok(None) };
        let digits = hex.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(InvalidApiKeyHash)
        });
        let bytes = digits.collect::<Result<Vec<u8>, _>>()?;
        if hex.len() != 64 {
            return Err(InvalidApiKeyHash);
        }
        Ok(Some(Self(bytes.try_into().map_err(|_| InvalidApiKeyHash)?)))
    }

    /// The text to write into the settings.
    pub fn to_setting(&self) -> String {
        self.0.iter().fold(Self::PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// The name of a key that has none: enough of the hash to find it in the settings, far too little to find the key.
    pub fn short_name(&self) -> String {
        self.0[..4].iter().fold("key:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Whether both are hashes of one key. Takes the same time whatever they are.
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyHash(..)")
    }
}

/// A fresh API key: 256 random bits in hexadecimal.
pub fn generate_api_key() -> Zeroizing<String> {
    let mut key = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(&mut *key).expect("the system's random numbers never run out once it has started");
    // One allocation, so that no copy stays behind.
    let text = Zeroizing::new(String::with_capacity(64));
    key.iter().fold(text, |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits are a digit"));
        text.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits are a digit"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_sha256_and_round_trips() {
        let hash = ApiKeyHash::of("abc");
        let setting = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_setting(), setting);
        let read = ApiKeyHash::from_setting(setting).unwrap().unwrap();
        assert!(bool::from(read.matches(&hash)));
        assert!(!bool::from(read.matches(&ApiKeyHash::of("abd"))));
        assert_eq!(ApiKeyHash::from_setting("af05bedc-ec26-472a-af56-f3b862e8e00d"), Ok(None));
        for wrong in
            ["sha256:", "sha256:zz", &setting[..70], &format!("{setting}00"), &setting.replace("ba", "+a")]
        {
            assert_eq!(ApiKeyHash::from_setting(wrong), Err(InvalidApiKeyHash), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_valid_between_its_times() {
        let at = Timestamp::from_secs;
        let mut key = ApiKey::unlimited(ApiKeyHash::of("abc"));
        assert_eq!(key.name, "key:ba7816bf");
        assert!(key.is_valid_at(at(0)));
        (key.not_before, key.not_after) = (Some(at(10)), Some(at(20)));
        for (secs, valid) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(key.is_valid_at(at(secs)), valid, "{secs}");
        }
    }

    #[test]
    fn scopes_are_a_set() {
        let scopes: Scopes = [Scope::Allocate, Scope::Read].into_iter().collect();
        assert!(scopes.contains(Scope::Allocate) && !scopes.contains(Scope::Update));
        assert_eq!(scopes.union(Scopes::from_iter([Scope::Update])), Scopes::ALL);
        assert_eq!(Scope::ALL.map(|scope| Scope::from_name(scope.name())), Scope::ALL.map(Some));
    }

    #[test]
    fn debug_prints_no_hash_and_keys_differ() {
        assert_eq!(format!("{:?}", ApiKeyHash::of("abc")), "ApiKeyHash(..)");
        assert_ne!(generate_api_key(), generate_api_key());
        assert_eq!(generate_api_key().len(), 64);
    }
}
