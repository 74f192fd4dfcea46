//! What one pass did, and why a list was not published.

use thiserror::Error;

use super::gate::Refused;
use super::schedule::NotNow;
use super::site::SiteError;
use crate::sign::SignError;
use crate::status_list::ListId;
use crate::store::StoreError;

/// What one pass did.
#[derive(Debug, Default)]
pub struct Pass {
    /// Lists that were signed and written.
    pub published: Vec<ListId>,
    /// Lists that wait for the next second of the clock.
    pub waiting: usize,
    /// Lists that stay as they were, and why; they are tried again.
    pub failed: Vec<(ListId, PublishError)>,
    /// Whether another instance publishes this pool.
    pub not_ours: bool,
    /// Why the pass ended early, if it did.
    pub ended_by: Option<PublishError>,
}

/// Why a list was not published. Its old file stays, and it stays pending.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A file could not be read or written.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The gate refused it.
    #[error("refused by the gate: {0}")]
    Refused(#[from] Refused),
    /// Another instance replaced the list's files in between.
    #[error("another instance published the list in the meantime")]
    Overtaken,
    /// Not at this moment.
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// A thread ended early; only at a stop.
    #[error("interrupted: {0}")]
    Interrupted(String),
}
