//! The forms of a published list: two signed tokens, and the list alone in JSON and CBOR.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::{cwt, jwt, raw};

/// The form of a published list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A Status List Token as a JWT ("Status List Token in JWT Format").
    Jwt,
    /// A Status List Token as a CWT ("Status List Token in CWT Format").
    Cwt,
    /// The list without a signature ("Status List in JSON Format").
    Json,
    /// The list without a signature ("Status List in CBOR Format").
    Cbor,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Jwt, Self::Cwt, Self::Json, Self::Cbor];

    /// Those that are Status List Tokens, the one that verifiers prefer first.
    pub const SIGNED: [Self; 2] = [Self::Jwt, Self::Cwt];

    /// Whether it is a Status List Token.
    pub const fn is_signed(self) -> bool {
        matches!(self, Self::Jwt | Self::Cwt)
    }

    /// Its name in settings and at the end of file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Cwt => "cwt",
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }

    /// Its media type in `Accept` and `Content-Type`.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jwt => jwt::MEDIA_TYPE,
            Self::Cwt => cwt::MEDIA_TYPE,
            Self::Json => raw::JSON_MEDIA_TYPE,
            Self::Cbor => raw::CBOR_MEDIA_TYPE,
        }
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
        self.0 & 1 << format as u8 != 0
    }

    /// The formats in the set, in the order of [`Format::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Format> {
        Format::ALL.into_iter().filter(move |format| self.contains(*format))
    }
}

impl FromIterator<Format> for Formats {
    fn from_iter<I: IntoIterator<Item = Format>>(formats: I) -> Self {
        Self(formats.into_iter().fold(0, |set, format| set | 1 << format as u8))
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
    }
}
