//! What operators made at run time, as one text that only `config/` and `app/` understand, and a stamp that tells its versions apart.
//!
//! One text, not a row for each pool or key: the rules between them (names, templates) are checked once, outside the store, and a
//! change that was decided on an older text is refused.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::StoreError;

/// The most bytes of the text: some thousands of pools.
pub const REGISTRY_BYTES_MAX: usize = 1 << 20;

/// Tells one version of the registry from every other, also from one with its number in a store that went back in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(String);

/// A text that is no stamp.
#[derive(Debug, Error)]
#[error("the registry's stamp must be a number, `-` and 16 digits")]
pub struct InvalidStamp;

impl Stamp {
    /// The stamp of the next version.
    pub fn next(&self) -> Self {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random)
            .expect("the system's random numbers never run out once it has started");
        Self(format!("{}-{:016x}", self.number() + 1, u64::from_be_bytes(random)))
    }

    /// The number of the version; 0 before the first.
    pub fn number(&self) -> u64 {
        self.0.split_once('-').and_then(|(number, _)| number.parse().ok()).unwrap_or_default()
    }

    /// As the store keeps it; empty before the first version.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Stamp {
    type Err = InvalidStamp;

    fn from_str(text: &str) -> Result<Self, InvalidStamp> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_stamp = |(number, random): (&str, &str)| {
            number.parse::<u64>().is_ok() && random.len() == 16 && digits(random)
        };
        let valid = text.is_empty() || text.split_once('-').is_some_and(is_stamp);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidStamp) }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

/// A version of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Its stamp.
    pub stamp: Stamp,
    /// Its text; empty before the first version.
    pub content: String,
}

impl Registered {
    /// The version that follows this one.
    pub fn followed_by(&self, content: String) -> Self {
        Self { stamp: self.stamp.next(), content }
    }

    pub(super) fn from_parts(stamp: &str, content: String) -> Result<Self, StoreError> {
        let stamp = stamp.parse().map_err(|error: InvalidStamp| StoreError::Damaged(error.to_string()))?;
        Ok(Self { stamp, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_and_two_of_one_number_differ() {
        let first = Stamp::default().next();
        assert_eq!((Stamp::default().number(), first.number(), first.next().number()), (0, 1, 2));
        assert_ne!(first.next(), first.next());
        assert_eq!(first.as_str().parse::<Stamp>().unwrap(), first);
        for wrong in ["1", "x-0123456789abcdef", "1-0123456789abcde", "1-0123456789abcdeg"] {
            assert!(wrong.parse::<Stamp>().is_err(), "{wrong}");
        }
    }
}
