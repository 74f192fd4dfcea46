//! The forms of a published list: two signed tokens, the list alone in JSON and CBOR, and the credentials of another specification
//! that hold the same statuses.

use std::fmt;
use std::str::FromStr;

use super::{Status, cwt, jwt, raw};

/// The form of a published list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// A Status List Token as a JWT ("Status List Token in JWT Format").
    Jwt,
    /// A Status List Token as a CWT ("Status List Token in CWT Format").
    Cwt,
    /// The list without a signature ("Status List in JSON Format").
    Json,
    /// The list without a signature ("Status List in CBOR Format").
    Cbor,
    /// A status list credential of the W3C (Bitstring Status List v1.0), which says for one purpose whether each entry is set.
    Bitstring(Purpose),
}

/// What a Bitstring Status List is about ("statusPurpose").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The entries that are revoked.
    Revocation,
    /// The entries that are suspended.
    Suspension,
}

impl Purpose {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Revocation, Self::Suspension];

    /// Its name in credentials, in addresses and at the end of file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::Suspension => "suspension",
        }
    }

    /// The status of the entries that are set.
    pub const fn status(self) -> Status {
        match self {
            Self::Revocation => Status::INVALID,
            Self::Suspension => Status::SUSPENDED,
        }
    }
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Jwt,
        Self::Cwt,
        Self::Json,
        Self::Cbor,
        Self::Bitstring(Purpose::Revocation),
        Self::Bitstring(Purpose::Suspension),
    ];

    /// Those that are Status List Tokens, the one that verifiers prefer first.
    pub const SIGNED: [Self; 2] = [Self::Jwt, Self::Cwt];

    /// Whether it is a Status List Token.
    pub const fn is_signed(self) -> bool {
        matches!(self, Self::Jwt | Self::Cwt)
    }

    /// What it is about, if it is a Bitstring Status List.
    pub const fn purpose(self) -> Option<Purpose> {
        match self {
            Self::Bitstring(purpose) => Some(purpose),
            Self::Jwt | Self::Cwt | Self::Json | Self::Cbor => None,
        }
    }

    /// Its name at the end of file names, and in settings, where `bitstring` stands for the credentials of all purposes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Cwt => "cwt",
            Self::Json => "json",
            Self::Cbor => "cbor",
            Self::Bitstring(purpose) => purpose.name(),
        }
    }

    /// Its media type in `Accept` and `Content-Type`.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jwt => jwt::MEDIA_TYPE,
            Self::Cwt => cwt::MEDIA_TYPE,
            Self::Json => raw::JSON_MEDIA_TYPE,
            Self::Cbor => raw::CBOR_MEDIA_TYPE,
            Self::Bitstring(_) => "application/vc+jwt",
        }
    }

    const fn bit(self) -> u8 {
        let place = match self {
            Self::Jwt => 0,
            Self::Cwt => 1,
            Self::Json => 2,
            Self::Cbor => 3,
            Self::Bitstring(Purpose::Revocation) => 4,
            Self::Bitstring(Purpose::Suspension) => 5,
        };
        1 << place
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of no format.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a format; the formats are jwt, cwt, json and cbor")]
pub struct InvalidFormat(pub String);

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        let named = Self::ALL.into_iter().find(|format| format.name() == text);
        named.ok_or_else(|| InvalidFormat(text.to_owned()))
    }
}

/// A set of formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats(u8);

impl Formats {
    /// Whether `format` is in the set.
    pub const fn contains(self, format: Format) -> bool {
        self.0 & format.bit() != 0
    }

    /// The formats in the set, in the order of [`Format::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Format> {
        Format::ALL.into_iter().filter(move |format| self.contains(*format))
    }
}

impl FromIterator<Format> for Formats {
    fn from_iter<I: IntoIterator<Item = Format>>(formats: I) -> Self {
        Self(formats.into_iter().fold(0, |set, format| set | format.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("JWT".parse::<Format>(), Err(InvalidFormat("JWT".into())));
    }

    #[test]
    fn a_set_contains_what_was_put_in() {
        let set: Formats = [Format::Cbor, Format::Jwt].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Format::Jwt, Format::Cbor]);
        assert!(!set.contains(Format::Cwt) && Formats::default().iter().next().is_none());
        let all: Formats = Format::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Format::ALL);
    }
}
