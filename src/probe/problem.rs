//! What the probe finds wrong, and its name in the metrics.

use std::fmt;

use super::Node;
use crate::check::{CannotTell, FetchError};

/// Something that a verifier could run into.
#[derive(Debug)]
pub struct Problem {
    /// Where it was found.
    pub node: Node,
    /// The `uri` of the list or aggregation; empty if it concerns all.
    pub list: String,
    /// Its kind.
    pub reason: Reason,
    /// What was found, for people.
    pub why: String,
}

/// The kinds of problems, each with a counter that begins at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The node does not answer, or not in time.
    Unreachable,
    /// It answers, but not with a token.
    Fetch,
    /// The trusted keys could not be loaded.
    Trust,
    /// The signature or the certificates are not to be trusted.
    Signature,
    /// The token has expired, or comes from the future.
    Times,
    /// The answer is not a Status List Token of this list.
    Token,
    /// A node has an older token than others.
    Behind,
    /// Two nodes have different statuses in tokens of the same second.
    Differs,
    /// A node has an older token than it had before.
    Back,
    /// A revocation was not published in time.
    Canary,
}

impl Reason {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Fetch,
        Self::Trust,
        Self::Signature,
        Self::Times,
        Self::Token,
        Self::Behind,
        Self::Differs,
        Self::Back,
        Self::Canary,
    ];

    pub(super) fn of(why: &CannotTell) -> Self {
        match why {
            CannotTell::Fetch(FetchError::Timeout { .. } | FetchError::Transport { .. }) => Self::Unreachable,
            CannotTell::Fetch(_) => Self::Fetch,
            CannotTell::Trust(_) | CannotTell::NoTrust => Self::Trust,
            CannotTell::Untrusted(_) => Self::Signature,
            CannotTell::NotYet { .. }
            | CannotTell::IssuedInFuture { .. }
            | CannotTell::Expired { .. }
            | CannotTell::TooOld { .. }
            | CannotTell::TimeAhead { .. }
            | CannotTell::OtherTime { .. } => Self::Times,
            CannotTell::Token(_)
            | CannotTell::OtherSubject { .. }
            | CannotTell::Profile { .. }
            | CannotTell::Lst(_) => Self::Token,
        }
    }

    /// The label of `problems_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Fetch => "fetch",
            Self::Trust => "trust",
            Self::Signature => "signature",
            Self::Times => "times",
            Self::Token => "token",
            Self::Behind => "behind",
            Self::Differs => "differs",
            Self::Back => "back",
            Self::Canary => "canary",
        }
    }
}

impl Problem {
    /// Found at this node, about this list.
    pub fn new(node: Node, list: &str, reason: Reason, why: String) -> Self {
        Self { node, list: list.to_owned(), reason, why }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.node)?;
        if !self.list.is_empty() {
            write!(f, "{}: ", self.list.escape_debug())?;
        }
        f.write_str(&self.why)
    }
}
