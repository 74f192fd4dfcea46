//! Why a redirect is not followed.

use thiserror::Error;

/// The most redirects to follow.
pub const REDIRECTS_MAX: usize = 5;

/// Why a redirect is not followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RedirectRefused {
    /// There were too many.
    #[error("more than {REDIRECTS_MAX} redirects, the last one to {to}")]
    TooMany {
        /// Target of the next one.
        to: String,
    },
    /// The redirects form a loop.
    #[error("the redirects form a loop, back to {to}")]
    Loop {
        /// Where the loop closes.
        to: String,
    },
    /// The target has a user name or password.
    #[error("the redirect has a user name or password")]
    Credentials,
    /// It leads from a public address to a private one.
    #[error(
        "the redirect from a public address leads to {to}, a private one; allow it with `--private-redirects`"
    )]
    Private {
        /// The target.
        to: String,
    },
    /// It leads from https to http.
    #[error("the redirect to {to} drops https")]
    Downgrade {
        /// The target.
        to: String,
    },
}
