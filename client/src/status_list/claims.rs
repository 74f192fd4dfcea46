//! The claims of a Status List Token, before any format ("Status List Token").

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::Bits;
use crate::base::clock::NumericDate;

/// What a Status List Token says. The JWT and the CWT of one publication say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: the `uri` of the list.
    pub sub: String,
    /// `iss`, which the specification does not require.
    pub iss: Option<String>,
    /// `iat`: when the token was issued.
    pub iat: NumericDate,
    /// `nbf`: start of its validity. Our tokens have none.
    pub nbf: Option<NumericDate>,
    /// `exp`: end of its validity.
    pub exp: Option<NumericDate>,
    /// `ttl`: how long a Relying Party may use a fetched copy before it fetches again, in whole seconds; never 0.
    pub ttl: Option<Duration>,
    /// `status_list.bits`.
    pub bits: Bits,
    /// `status_list.lst` as the raw zlib stream, shared with the cache that it comes from.
    pub lst: Arc<[u8]>,
    /// `status_list.aggregation_uri`.
    pub aggregation_uri: Option<String>,
}

/// Why a document is not a Status List Token. Says nothing about its signature.
#[derive(Debug, Error)]
pub enum InvalidClaims {
    /// Neither a compact JWS nor a COSE_Sign1.
    #[error("not a {format}: {why}")]
    Malformed {
        /// `JWT` or `CWT`.
        format: &'static str,
        /// The parser's message.
        why: String,
    },
    /// A claim or header is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A claim or header is of the wrong type or out of range.
    #[error("`{name}` {why}")]
    Wrong {
        /// Its name.
        name: &'static str,
        /// What it must be.
        why: String,
    },
}

impl InvalidClaims {
    pub(crate) fn wrong(name: &'static str, why: impl Into<String>) -> Self {
        Self::Wrong { name, why: why.into() }
    }
}

impl Claims {
    /// The rules that hold in both formats. Both readers call it.
    pub(super) fn checked(self) -> Result<Self, InvalidClaims> {
        if self.ttl == Some(Duration::ZERO) {
            return Err(InvalidClaims::wrong("ttl", "must be positive"));
        }
        if self.exp.is_some_and(|exp| exp <= self.iat) {
            return Err(InvalidClaims::wrong("exp", "must be later than `iat`"));
        }
        Ok(self)
    }
}
