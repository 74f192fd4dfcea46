//! What a cache answers: a status and how fresh it is, or why there is none.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::base::clock::NumericDate;
use crate::check::{CannotTell, FetchError, InvalidTrust};
use crate::status_list::{IndexOutOfRange, Status};

/// The status at one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the list says. The credential's own rules still apply.
    pub status: Status,
    /// Whether the token may still be used by its own rules.
    pub freshness: Freshness,
    /// The time since the token was fetched, or since its server said that it has not changed.
    pub age: Duration,
    /// When the token was issued.
    pub iat: NumericDate,
}

/// Whether a token may still be used by its own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Within its `ttl`.
    Fresh,
    /// Its `ttl` is over, its server cannot be reached, and the rules of the cache allow to use it nevertheless.
    Stale {
        /// How long ago its `ttl` was over.
        by: Duration,
    },
}

/// Why there is no status. The credential must be rejected.
#[derive(Clone, Debug, Error)]
pub enum NoStatus {
    /// There is no reliable token.
    #[error(transparent)]
    CannotTell(Arc<CannotTell>),
    /// The list has no such entry, so the reference in the credential is wrong.
    #[error("{0}; a credential with such a reference must be rejected")]
    OutsideList(#[from] IndexOutOfRange),
    /// The server sent an older token than it had sent before.
    #[error(
        "the server sent a token issued at {iat}, after one issued at {held} (seconds since 1970); an older token may hide a revocation"
    )]
    WentBack {
        /// `iat` of the token that was sent.
        iat: NumericDate,
        /// `iat` of the token that is held.
        held: NumericDate,
    },
    /// As many lists as the cache may hold are being fetched.
    #[error("{max} lists are being fetched at this moment, which is the limit; try again later")]
    Full {
        /// The most lists.
        max: usize,
    },
}

impl NoStatus {
    /// One word for the reason, for programs: the claim or header parameter at fault, if there is one.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CannotTell(why) => why.code(),
            Self::OutsideList(_) => "idx",
            Self::WentBack { .. } => "iat",
            Self::Full { .. } => "full",
        }
    }

    /// Whether the server of the list, or of the keys, did not answer or was not able to. What it answers otherwise is a reason of
    /// its own, so that nobody can prolong the use of an old token by sending something else.
    pub fn is_unreachable(&self) -> bool {
        let Self::CannotTell(why) = self else { return false };
        let (CannotTell::Fetch(fetch) | CannotTell::Trust(InvalidTrust::Fetch(fetch))) = &**why else {
            return false;
        };
        matches!(
            fetch,
            FetchError::Timeout { .. }
                | FetchError::Transport { .. }
                | FetchError::Status { status: 429 | 500.., .. }
        )
    }
}

impl From<CannotTell> for NoStatus {
    fn from(why: CannotTell) -> Self {
        Self::CannotTell(Arc::new(why))
    }
}
