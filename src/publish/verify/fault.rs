//! What a comparison of the published folder with the store finds.

use std::path::PathBuf;

use thiserror::Error;

use crate::base::clock::NumericDate;
use crate::model::pool::PoolId;
use crate::publish::Refused;
use crate::sign::ChainFault;
use crate::sign::profile::Breach;
use crate::status_list::{InvalidClaims, ListId};

/// A fault, and where it is.
#[derive(Debug, Error)]
#[error("{}: {kind}", path.display())]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// The pool that it belongs to, if it does.
    pub pool: Option<PoolId>,
    /// The list that it belongs to, if it does.
    pub list: Option<ListId>,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum FaultKind {
    /// A published list lacks it.
    #[error("it is missing")]
    Missing,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(String),
    /// It is not a Status List Token.
    #[error("it is not a Status List Token: {0}")]
    Unreadable(#[from] InvalidClaims),
    /// No known key made its signature.
    #[error(
        "its signature was made by no key of the settings and by no key in jwks.json, or it was changed afterwards"
    )]
    Signature,
    /// Its certificates do not lead from its signature to the pool's key.
    #[error("its certificates are not those of the key that signed it")]
    OtherChain,
    /// Verifiers refuse its certificates.
    #[error("verifiers refuse its certificates: {0}")]
    Chain(#[from] ChainFault),
    /// It breaks a profile of the pool.
    #[error("{0}; a token that was signed before the pool had the profile is replaced when it is renewed")]
    Profile(Breach),
    /// It is of another list.
    #[error("it is of another list: its `sub` is {0:?}")]
    Subject(String),
    /// It has expired.
    #[error("it expired ({exp}, seconds since 1970; now {now})")]
    Expired {
        /// Its `exp`.
        exp: NumericDate,
        /// The time of the comparison.
        now: NumericDate,
    },
    /// It is not of the latest publication.
    #[error("its `iat` is {found}, the store's latest publication has {published}")]
    OtherPublication {
        /// In the file.
        found: NumericDate,
        /// In the store.
        published: NumericDate,
    },
    /// It does not match the other files of its publication.
    #[error("it differs from the other files of the same publication")]
    FilesDiffer,
    /// Its statuses are not those of the store.
    #[error("its statuses are not those of the store: {0}")]
    Statuses(Refused),
    /// A list that the store does not know as retired has the mark of a retired one.
    #[error("it is the mark of a retired list, and the store does not know that the list was retired")]
    MarkOfLiveList,
    /// A retired list still has it.
    #[error("its list is retired, and verifiers still find it")]
    OfRetiredList,
    /// The pool does not publish this format.
    #[error("it is of a format that the pool does not publish, so nobody renews it")]
    OtherFormat,
    /// An earlier token under a wrong name.
    #[error("its name says that its `iat` is another: it has {0}")]
    WrongName(NumericDate),
    /// A crash left it.
    #[error("a crash left it under a temporary name; the next start removes it")]
    Leftover,
    /// Nothing explains it.
    #[error("nothing in the store or the settings explains it")]
    Foreign,
    /// An aggregation names other lists than the store.
    #[error("it lacks {missing} lists of the store, and names {others} others")]
    Aggregation {
        /// Lists that it lacks.
        missing: usize,
        /// Those that it should not name.
        others: usize,
    },
    /// It is not a document of its kind.
    #[error("it is not the document that it should be: {0}")]
    Document(String),
    /// The key set lacks a key of the settings.
    #[error("it lacks the key {kid:?} of pool {pool}, so verifiers cannot verify what that signs")]
    NoKey {
        /// The pool.
        pool: PoolId,
        /// The id of the key.
        kid: String,
    },
}

impl FaultKind {
    /// One word for the fault, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Io(_) => "io",
            Self::Unreadable(_) => "unreadable",
            Self::Signature => "signature",
            Self::OtherChain | Self::Chain(_) => "chain",
            Self::Profile(_) => "profile",
            Self::Subject(_) => "subject",
            Self::Expired { .. } => "expired",
            Self::OtherPublication { .. } => "iat",
            Self::FilesDiffer => "files-differ",
            Self::Statuses(_) => "statuses",
            Self::MarkOfLiveList | Self::OfRetiredList => "retired",
            Self::OtherFormat => "format",
            Self::WrongName(_) => "name",
            Self::Leftover => "leftover",
            Self::Foreign => "foreign",
            Self::Aggregation { .. } => "aggregation",
            Self::Document(_) => "document",
            Self::NoKey { .. } => "no-key",
        }
    }
}
