//! Who may write, and to which pool: API keys, kept only as hashes.

use std::fmt;

use aws_lc_rs::digest;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// The SHA-256 of an API key. A fast hash will do: our keys are 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeyHash([u8; 32]);

/// `sha256:` without 64 hexadecimal digits behind it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an API key hash is `sha256:` and 64 hexadecimal digits; make one with `statuslist hash-key`")]
pub struct InvalidApiKeyHash;

impl ApiKeyHash {
    const PREFIX: &str = "sha256:";

    /// The hash of a key as an issuer presents it.
    pub fn of(key: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
        Self(hash)
    }

    /// Reads what stands in the settings: `sha256:<hex>`, or `None` for a key in plain text.
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

    /// What to write into the settings.
    pub fn to_setting(&self) -> String {
        self.0.iter().fold(Self::PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Whether both are of one key, in a time that tells nothing of them.
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
pub fn generate_api_key() -> String {
    let mut key = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut key).expect("the system's random numbers never run out once it has started");
    key.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
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
    fn debug_prints_no_hash_and_keys_differ() {
        assert_eq!(format!("{:?}", ApiKeyHash::of("abc")), "ApiKeyHash(..)");
        assert_ne!(generate_api_key(), generate_api_key());
        assert_eq!(generate_api_key().len(), 64);
    }
}
