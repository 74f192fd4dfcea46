//! Profiles: what an ecosystem demands of Status List Tokens and their signers beyond the IETF's document.
//!
//! Each rule has the number under which docs/COMPLIANCE.md names its source and its tests. The settings, the gate and
//! `statuslist check` apply the same rules: to what a pool will sign, to what it signed, and to what others serve. Pure.

mod eudi;
mod haip;
mod mdoc;

use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use crate::status_list::{Bits, Format};

pub use eudi::{ENTRIES_MIN, MAINTAINED_DAYS_MIN};

/// A profile of the Token Status List.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// OpenID4VC High Assurance Interoperability Profile 1.0, section 6.1: JWTs for SD-JWT VCs.
    Haip,
    /// ISO/IEC 18013-5, second edition, 12.3.6 and Table B.9: CWTs for mdocs.
    Mdoc,
    /// The European Digital Identity Wallet: Architecture and Reference Framework, Topic 7, and Technical Specification 3.
    Eudi,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Haip, Self::Mdoc, Self::Eudi];

    /// Its name in settings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Haip => "haip",
            Self::Mdoc => "mdoc",
            Self::Eudi => "eudi",
        }
    }

    /// The format that it is about; `None` for both.
    pub const fn format(self) -> Option<Format> {
        match self {
            Self::Haip => Some(Format::Jwt),
            Self::Mdoc => Some(Format::Cwt),
            Self::Eudi => None,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profiles(u8);

impl Profiles {
    /// Whether `profile` is in the set.
    pub const fn contains(self, profile: Profile) -> bool {
        self.0 & 1 << profile as u8 != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The profiles in the set, in the order of [`Profile::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Profile> {
        Profile::ALL.into_iter().filter(move |profile| self.contains(*profile))
    }

    /// The rules of these profiles that a token breaks. A profile that is only about the other format has none.
    pub fn breaches(self, token: &Facts<'_>) -> Vec<Breach> {
        let of_format =
            self.iter().filter(|profile| profile.format().is_none_or(|only| only == token.format));
        let broken = of_format.flat_map(|profile| {
            let rules = match profile {
                Profile::Haip => haip::broken(token),
                Profile::Mdoc => mdoc::broken(token),
                Profile::Eudi => eudi::broken(token),
            };
            rules.into_iter().map(move |(rule, why)| Breach { profile, rule, why })
        });
        broken.collect()
    }
}

impl FromIterator<Profile> for Profiles {
    fn from_iter<I: IntoIterator<Item = Profile>>(profiles: I) -> Self {
        Self(profiles.into_iter().fold(0, |set, profile| set | 1 << profile as u8))
    }
}

/// What profiles look at in a token, or in the tokens that a pool will sign.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its format.
    pub format: Format,
    /// The JOSE name of its algorithm.
    pub alg: &'a str,
    /// The certificates in its header, in DER, leaf first.
    pub chain: &'a [Vec<u8>],
    /// Whether they are in the protected header. A JWT has no other.
    pub chain_is_protected: bool,
    /// Bits of an entry.
    pub bits: Bits,
    /// Number of entries.
    pub entries: u32,
    /// Whether it has `exp`.
    pub expires: bool,
}

/// A rule of a profile that is broken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{why} (rule {rule} of the profile {profile})")]
pub struct Breach {
    /// The profile.
    pub profile: Profile,
    /// The number of the rule in docs/COMPLIANCE.md.
    pub rule: &'static str,
    /// What is wrong.
    pub why: String,
}

/// The number of a broken rule, and what is wrong.
type Broken = (&'static str, String);
