//! The arguments and results of a store.

use std::ops::Range;
use std::time::Duration;

use thiserror::Error;

use super::spread::Spread;
use crate::base::clock::{NumericDate, Timestamp};
use crate::model::instance::InstanceId;
use crate::model::order::OrderKey;
use crate::model::pool::PoolId;
use crate::status_list::{Index, ListId, Status, StatusArray};

/// The version of a list: grows by one with each applied batch that touches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// The number of a list's lease, which reveals a lost one: grows with each lease and each return; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease(pub u64);

/// How often a list was made due at once: by its retirement, and by checks that found its files missing or wrong. A publication
/// covers only the marks that it saw when it began; a later one leaves the list due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueMark(pub u64);

/// One status to be set. Index and status fit the pool: the caller has checked both. The store checks inside its atomic step what
/// only it knows (the list, its retirement, a final status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// The list.
    pub list: ListId,
    /// The entry.
    pub index: Index,
    /// The new status.
    pub status: Status,
    /// The status that the caller believes is stored. If another one is, nothing of the request is applied. It is compared
    /// with what stands before the request, and after the requests before it in the same call.
    pub expected: Option<Status>,
}

/// Why a request's changes were not applied. None of them was.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// No list has this id.
    #[error("no list with id {list}")]
    NoSuchList {
        /// The id.
        list: ListId,
    },
    /// The list was retired: nobody reads it any more.
    #[error("list {list} was retired")]
    Retired {
        /// The list.
        list: ListId,
    },
    /// The entry has the pool's final status, which cannot be left.
    #[error("index {idx} of list {list} has the final status {status}", idx = .index.get())]
    FinalStatus {
        /// The list.
        list: ListId,
        /// The index.
        index: Index,
        /// The final status.
        status: Status,
    },
    /// The entry has another status than the caller expected.
    #[error("index {idx} of list {list} has the status {stored}, not {expected} as expected", idx = .index.get())]
    NotAsExpected {
        /// The list.
        list: ListId,
        /// The index.
        index: Index,
        /// The status that the caller expected.
        expected: Status,
        /// The status that stands.
        stored: Status,
    },
}

/// The outcome of a lease of positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// These positions are the caller's.
    Block(Block),
    /// The list is full, sealed, or another instance hands out its references.
    Nothing,
    /// The store knows of fewer leases than the caller was given: it lost some, and would lease their positions again.
    Behind {
        /// The latest lease that the store knows of.
        lease: Lease,
    },
}

/// A leased range of a list's positions: durably this caller's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The list.
    pub list: ListId,
    /// The list's permutation key.
    pub key: OrderKey,
    /// The positions.
    pub positions: Range<u32>,
    /// The number of this lease: only the latest can return positions.
    pub lease: Lease,
}

/// The order in which a list's indices are handed out, and how far it is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The permutation key.
    pub key: OrderKey,
    /// Positions below this are leased.
    pub leased: u32,
}

/// A reference that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Given {
    /// The list.
    pub list: ListId,
    /// Its `idx`.
    pub idx: u32,
}

/// A list whose references are still handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenList {
    /// The list.
    pub id: ListId,
    /// Positions already leased.
    pub leased: u32,
    /// Whether its `uri` is already published.
    pub published: bool,
}

/// The store's record of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRecord {
    /// The list.
    pub id: ListId,
    /// The pool it belongs to, for ever.
    pub pool: PoolId,
    /// Positions already leased.
    pub leased: u32,
    /// Its latest lease.
    pub lease: Lease,
    /// The instance that hands out its references.
    pub owner: InstanceId,
    /// When positions were last leased.
    pub leased_at: Option<Timestamp>,
    /// Whether its references are still handed out.
    pub open: bool,
    /// Whether it was closed for allocation, though perhaps not full; its permutation key is deleted.
    pub sealed: bool,
    /// Whether it is no longer published: the mark of a retired list replaces its tokens.
    pub retired: bool,
    /// The number of its changes.
    pub version: Version,
    /// Its latest publication.
    pub published: Option<Publication>,
    /// The spread in progress, which changes a share of its entries at each beat.
    pub spread: Option<Spread>,
}

/// The signed files of one list at one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The version that the files show.
    pub version: Version,
    /// `iat` of the tokens.
    pub iat: NumericDate,
    /// When the list must be signed again without a change.
    pub resign_at: NumericDate,
}

impl Publication {
    /// `resign_at` of a list that is never signed again: beyond every clock.
    pub const NEVER: NumericDate = NumericDate::from_secs(1 << 52);
}

/// A list that has something to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The list.
    pub list: ListId,
    /// When its first unpublished change was made; `None` if it is only due.
    pub since: Option<Timestamp>,
    /// Whether its tokens must be removed instead.
    pub retired: bool,
    /// Its latest publication.
    pub published: Option<Publication>,
    /// The mark that its settling must name.
    pub due_mark: DueMark,
}

/// A list's statuses. Invariant: `array` is at least as new as `version`.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The version.
    pub version: Version,
    /// The statuses.
    pub array: StatusArray,
}

/// The changes since a list's latest publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The status that every entry was set to, if there was such a change.
    pub every: Option<Status>,
    /// The changes after that, oldest first.
    pub entries: Vec<(u32, Status)>,
}

/// The number of a lease to publish a pool. A later holder has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// Who publishes a pool: the latest holder's number, and how long its lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherState {
    /// Grows with each new holder.
    pub fence: Fence,
    /// How long no other instance can take over, by the store's own clock.
    pub left: Duration,
}

/// A whole list, for a move from one store to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTransfer {
    /// The store's record of it.
    pub record: ListRecord,
    /// Its permutation key; `None` once it is sealed.
    pub key: Option<OrderKey>,
    /// When its first unpublished change was made.
    pub dirty_since: Option<Timestamp>,
    /// Its statuses.
    pub array: StatusArray,
}

/// How much of a pool is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Lists of the pool.
    pub lists: u64,
    /// Those of them that are retired.
    pub retired: u64,
    /// Positions leased, in all lists.
    pub leased: u64,
    /// Positions left in open lists.
    pub free: u64,
}

/// Why an operation of the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The store does not answer, or not in time. Whether the write happened is unknown; every write may be repeated.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The write came after its deadline, and changed nothing.
    #[error("the write reached the store after its deadline; nothing was changed")]
    Late,
    /// The store holds data that this program never writes. A retry does not help: an operator has to act.
    #[error(
        "the store is damaged: {0}; stop the service, keep a copy of the store, and restore a backup: \
         see docs/OPERATIONS.md, \"A damaged store\""
    )]
    Damaged(String),
    /// Another process has the database.
    #[error("{path} is used by another process; stop it first, or give this one another `sqlite.path`")]
    InUse {
        /// The database.
        path: String,
    },
    /// The file cannot be opened, or is not a database of ours.
    #[error("cannot open {path}: {why}")]
    Open {
        /// The database.
        path: String,
        /// The error of the system.
        why: String,
    },
    /// The database was written by a later version of this program.
    #[error(
        "{path} has schema {found}, this version knows up to {known}; use the newer version that wrote it"
    )]
    SchemaTooNew {
        /// The database.
        path: String,
        /// Its schema.
        found: usize,
        /// The newest schema known here.
        known: usize,
    },
    /// The database has no tables of ours yet.
    #[error("{place} has no store yet; start its service once, which makes it")]
    Nothing {
        /// The database.
        place: String,
    },
    /// The store holds the beginning of a copy that was not finished.
    #[error(
        "{place} holds a copy that `statuslist migrate` did not finish, so updates and lists may be missing in it; run `statuslist \
         migrate` again into an empty store, and remove this one: {remove}"
    )]
    Unfinished {
        /// The store.
        place: String,
        /// The commands that remove what it holds.
        remove: String,
    },
    /// The pool exists with another shape.
    #[error(
        "pool {pool} was created with {setting} {stored}, the settings say {given}; {setting} can never change: set it back, or give the pool a new name"
    )]
    ShapeMismatch {
        /// The pool.
        pool: PoolId,
        /// The setting that differs.
        setting: &'static str,
        /// Its value in the store.
        stored: String,
        /// Its value in the settings.
        given: String,
    },
    /// No pool of this name was declared.
    #[error("no pool {0}")]
    NoSuchPool(PoolId),
    /// The pool has as many lists as it may have.
    #[error("pool {pool} has {most} lists, as many as its quotas.lists allows")]
    TooManyLists {
        /// The pool.
        pool: PoolId,
        /// The most lists that it may have.
        most: u64,
    },
    /// No list has this id.
    #[error("no list {0}")]
    NoSuchList(ListId),
    /// Another instance took over the publishing of this pool.
    #[error("publishing of this pool was taken over by another instance")]
    Fenced,
}
