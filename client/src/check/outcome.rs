//! The outcome of a check: the status, or why it cannot be told.

use std::time::Duration;

use thiserror::Error;

use super::fetch::FetchError;
use super::times::{instant, span};
use super::trust::InvalidTrust;
use super::untrusted::Untrusted;
use crate::base::clock::NumericDate;
use crate::profile::Breach;
use crate::status_list::{IndexOutOfRange, InvalidAggregation, InvalidClaims, Status, lst};

/// How far the issuer's clock may be ahead of ours.
pub const IAT_LEEWAY: Duration = Duration::from_secs(60);

/// The outcome of a check.
#[derive(Debug)]
pub enum Outcome {
    /// The list says VALID. The credential's own rules still apply.
    Valid,
    /// The credential must be rejected.
    NotValid(NotValid),
    /// There is no reliable token. The specification advises to reject the credential here too.
    Unknown(CannotTell),
}

/// Why a credential must be rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotValid {
    /// The entry has another status than VALID.
    #[error("the list says {0}")]
    Status(Status),
    /// The list has no such entry, so the reference in the credential is wrong.
    #[error("{0}; a credential with such a reference must be rejected")]
    OutsideList(#[from] IndexOutOfRange),
}

/// Why there is no reliable token.
#[derive(Debug, Error)]
pub enum CannotTell {
    /// No token could be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The trust anchors are unusable.
    #[error(transparent)]
    Trust(#[from] InvalidTrust),
    /// No trust anchors were given.
    #[error(
        "nothing is trusted yet, so the signature cannot be verified; pass `--trust` with the signer's or its CA's certificate (PEM), a JWKS file, or the URL of a JWKS"
    )]
    NoTrust,
    /// The document is not a Status List Token.
    #[error("the response is not a Status List Token: {0}")]
    Token(#[from] InvalidClaims),
    /// The signature is invalid or not trusted.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The token is for another list.
    #[error(
        "the token is for another list: its `sub` is {sub:?}, but {uri:?} was requested; they must be equal byte for byte"
    )]
    OtherSubject {
        /// The token's `sub`.
        sub: String,
        /// The credential's `uri`.
        uri: String,
    },
    /// The token is not valid yet.
    #[error("the token is not valid before {from} (`nbf`, seconds since 1970); fetch the list again later")]
    NotYet {
        /// Its `nbf`.
        from: NumericDate,
    },
    /// The token was issued in the future.
    #[error("the token was issued at {}, which is {} ahead of now (leeway {}s); compare the clocks here and at the issuer", instant(*iat), span(iat.since(*now)), IAT_LEEWAY.as_secs())]
    IssuedInFuture {
        /// The token's `iat`.
        iat: NumericDate,
        /// The time of the check.
        now: NumericDate,
    },
    /// The token has expired.
    #[error("the token expired at {}, {} ago; fetch it again later, or ask the issuer why no new one is published", instant(*exp), span(now.since(*exp)))]
    Expired {
        /// The token's `exp`.
        exp: NumericDate,
        /// The time of the check.
        now: NumericDate,
    },
    /// The token is older than the caller accepts.
    #[error("the token is {} old, and `--max-age` allows {}; fetch it again later, or allow more", span(*age), span(*max_age))]
    TooOld {
        /// How long ago it was issued.
        age: Duration,
        /// The largest age allowed.
        max_age: Duration,
    },
    /// The requested time is in the future.
    #[error("`--time` {} has not come yet; omit it to get the present status", instant(*time))]
    TimeAhead {
        /// The requested time.
        time: NumericDate,
    },
    /// The token is not of the requested time.
    #[error("the token is from {} to {}, but {} was requested; the server seems to keep no history", instant(*iat), exp.map_or("no end".to_owned(), instant), instant(*time))]
    OtherTime {
        /// The token's `iat`.
        iat: NumericDate,
        /// The token's `exp`.
        exp: Option<NumericDate>,
        /// The requested time.
        time: NumericDate,
    },
    /// The token breaks a profile.
    #[error(
        "verifiers that follow the profile refuse the token: {}",
        breaches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Profile {
        /// Every rule that it breaks; at least one.
        breaches: Vec<Breach>,
    },
    /// The list cannot be inflated.
    #[error("the token's `lst` {0}")]
    Lst(#[from] lst::InvalidLst),
}

/// Why the lists of an aggregation are unknown.
#[derive(Debug, Error)]
pub enum CannotList {
    /// It cannot be fetched.
    #[error("cannot fetch the aggregation: {0}")]
    Fetch(#[from] FetchError),
    /// It is not one.
    #[error(transparent)]
    Document(#[from] InvalidAggregation),
}

impl Outcome {
    /// The exit code of a program that reports this outcome: 0 valid, 1 not valid, 2 could not tell.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::NotValid(_) => 1,
            Self::Unknown(_) => 2,
        }
    }
}

impl CannotTell {
    /// One word for the reason, for programs: the claim or header parameter at fault, if there is one.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "fetch",
            Self::Trust(_) => "trust",
            Self::NoTrust => "no-trust",
            Self::Token(InvalidClaims::Malformed { .. }) => "token",
            // A CWT's claim has its number in its name: `exp (4)`.
            Self::Token(InvalidClaims::Missing(name) | InvalidClaims::Wrong { name, .. }) => {
                name.split(' ').next().unwrap_or(name)
            }
            Self::Untrusted(why) => why.code(),
            Self::OtherSubject { .. } => "sub",
            Self::NotYet { .. } => "nbf",
            Self::IssuedInFuture { .. } => "iat",
            Self::Expired { .. } => "exp",
            Self::TooOld { .. } => "max-age",
            Self::TimeAhead { .. } | Self::OtherTime { .. } => "time",
            Self::Profile { .. } => "profile",
            Self::Lst(_) => "lst",
        }
    }
}
