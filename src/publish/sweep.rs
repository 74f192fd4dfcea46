//! The comparison of all files with the store: at the start, once an hour, and when this instance takes over the publishing of a pool.
//! Lists whose files are missing, damaged, expired or not those of the store's latest publication become due, so a deleted or
//! damaged site comes back from the store. It runs beside the publishing: revocations do not wait for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use walkdir::WalkDir;

use super::certificates::is_outlived;
use super::ours::{self, Token};
use super::pass::schedule;
use super::{PoolPublisher, history};
use crate::base::blocking::blocking;
use crate::base::clock::Timestamp;
use crate::base::durable::{self, TEMPORARY_PREFIX};
use crate::sign::KeyRing;
use crate::site::folder::{Site, SiteError, TokenFiles};
use crate::status_list::{BaseUri, Formats, ListId};
use crate::store::{Fence, ListRecord, StoreError};

/// Temporary files younger than this may belong to another instance that is writing them.
const LEFTOVER_AGE: Duration = Duration::from_secs(60);

/// Removes what crashes left behind. Returns the number of files.
pub fn remove_leftovers(site: &Site, now: Timestamp) -> Result<usize, SiteError> {
    let mut removed = 0;
    for entry in WalkDir::new(site.layout().lists()).into_iter().filter_map(Result::ok) {
        if is_temporary(&entry) && is_old(&entry, now) {
            // Another instance that is also starting may be faster.
            durable::remove(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether this is a file under a temporary name.
pub(super) fn is_temporary(entry: &walkdir::DirEntry) -> bool {
    entry.file_type().is_file() && entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX)
}

/// Whether nobody can be writing this temporary file any more.
pub(super) fn is_old(entry: &walkdir::DirEntry, now: Timestamp) -> bool {
    let modified = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
    let since_1970 = modified.and_then(|modified| modified.duration_since(std::time::UNIX_EPOCH).ok());
    since_1970.is_none_or(|modified| now.since(Timestamp::from_secs(modified.as_secs())) > LEFTOVER_AGE)
}

impl PoolPublisher {
    pub(super) fn swept(&self) -> MutexGuard<'_, Option<Fence>> {
        self.swept.lock()
    }

    /// Marks lists as due whose files are not current, and writes the aggregation, if this instance publishes the pool.
    pub async fn look(&self) {
        // The pass at the next beat logs it, and looks when the clock is right again.
        if self.believed_now().is_err() {
            return;
        }
        match self.lease.take(self.clock.now()).await {
            Ok(Some(fence)) => self.look_as_publisher(fence).await,
            Ok(None) => {}
            Err(error) => {
                tracing::error!(pool = %self.shape.id, %error, "cannot take the lease to publish")
            }
        }
    }

    async fn look_as_publisher(&self, fence: Fence) {
        *self.swept() = Some(fence);
        match self.sweep(self.clock.now()).await {
            Ok(0) => {}
            Ok(stale) => {
                tracing::warn!(pool = %self.shape.id, stale, "files are missing or out of date; publishing them anew");
                self.stale_found.notify_one();
            }
            Err(error) => {
                *self.swept() = None;
                tracing::error!(pool = %self.shape.id, %error, "cannot compare the published files with the store");
            }
        }
        self.write_aggregation().await;
        self.counts.wake();
        match self.store.lists(&self.shape.id).await {
            Ok(lists) => {
                let published = lists.iter().filter(|list| list.published.is_some());
                self.sinks.compare(published.map(|list| list.id));
            }
            Err(error) => {
                tracing::error!(pool = %self.shape.id, %error, "cannot list the files to compare with the buckets")
            }
        }
    }

    /// Logs that lists have a published `iat` in the future.
    pub(super) fn note_ahead(&self, lists: usize) {
        if lists > 0 {
            tracing::error!(
                pool = %self.shape.id, lists,
                "published tokens have an `iat` in the future, because the clock was ahead or is behind now; verifiers may refuse them. \
                 Check the clock (ntp); if it is right, stop the service and run `statuslist publish --once --replace-future`"
            );
        }
    }

    /// Marks every list of the pool due whose files are not those of its latest publication. Returns how many.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, StoreError> {
        let lists = self.store.lists(&self.shape.id).await?;
        self.find_ahead(&lists, now).await?;
        let stale: HashSet<_> = self.stale(lists, now).await?.into_iter().collect();
        if stale.is_empty() {
            return Ok(0);
        }
        let marked: HashSet<_> =
            stale.iter().copied().filter(|list| self.site.has_mark_of_retirement(list)).collect();
        // A list that was published in between has files that are newer than what the store said of it.
        let lists = self.store.lists(&self.shape.id).await?;
        // The store is asked after the mark was seen, and knows of each retirement before its mark is made.
        for list in lists.iter().filter(|list| !list.retired && marked.contains(&list.id)) {
            tracing::error!(
                pool = %self.shape.id, list.id = %list.id,
                "THE STORE LOST DATA: it does not know that this list was retired; publishing the list again. Retire it again: see \
                 docs/OPERATIONS.md, \"When the store lost data\""
            );
        }
        let stale =
            self.stale(lists.into_iter().filter(|list| stale.contains(&list.id)).collect(), now).await?;
        let found = stale.len();
        self.store.mark_due(stale).await?;
        Ok(found)
    }

    /// Counts the lists whose published `iat` lies in the future, and marks them due if an operator wants them replaced.
    async fn find_ahead(&self, lists: &[ListRecord], now: Timestamp) -> Result<(), StoreError> {
        let is_ahead = |list: &&ListRecord| {
            !list.retired && list.published.is_some_and(|published| schedule::is_ahead(published.iat, now))
        };
        let ahead: Vec<_> = lists.iter().filter(is_ahead).map(|list| list.id).collect();
        self.metrics.lists_ahead.set(i64::try_from(ahead.len()).unwrap_or(i64::MAX));
        if !self.replaces_future() {
            self.note_ahead(ahead.len());
            return Ok(());
        }
        tracing::warn!(pool = %self.shape.id, lists = ahead.len(), "replacing tokens whose `iat` lies in the future");
        self.store.mark_due(ahead).await
    }

    /// The lists whose files are not those of their latest publication. Removes what the history need not keep.
    async fn stale(&self, lists: Vec<ListRecord>, now: Timestamp) -> Result<Vec<ListId>, StoreError> {
        let (site, base, keys) = (self.site.clone(), self.base.clone(), Arc::clone(&self.keys));
        let (formats, history) = (self.start.formats, self.start.history);
        let check = move || -> Vec<ListId> {
            for list in &lists {
                let retention = history.filter(|_| !list.retired);
                if let Err(error) = history::sweep(&site, &list.id, retention, now) {
                    tracing::error!(list.id = %list.id, %error, "cannot remove old tokens from the history");
                }
            }
            let stale = lists.into_iter().filter(|list| match list.retired {
                true => !site.is_retired(&list.id),
                false => {
                    site.has_mark_of_retirement(&list.id)
                        || !is_current(&site, list, &base, &keys, formats, now)
                }
            });
            stale.map(|list| list.id).collect()
        };
        blocking(check).await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }
}

/// Whether all files of a list exist and are whole, verify with a key of the pool, have certificates that last, and are those of
/// its latest publication. A list that was never published is left out: it is already due.
fn is_current(
    site: &Site,
    list: &ListRecord,
    base: &BaseUri,
    keys: &KeyRing,
    formats: Formats,
    now: Timestamp,
) -> bool {
    let Some(published) = list.published else { return true };
    let Ok(files) = site.read(&list.id, formats) else { return false };
    if site.has_others(&list.id, formats) || !files.are_all_of(formats) {
        return false;
    }
    let (uri, signer) = (base.join(&list.id), keys.signer());
    let lasts =
        |certificates: Option<Vec<Vec<u8>>>| !is_outlived(&certificates.unwrap_or_default(), &signer, now);
    let tokens = formats.iter().filter_map(|format| {
        let bytes = files.form(format).filter(|_| format.is_signed())?;
        Some(ours::token(format, bytes, keys, &uri))
    });
    let tokens_are_current = tokens.into_iter().all(|token| {
        token.is_some_and(|Token { claims, certificates, .. }| {
            let holds = claims.exp.is_none_or(|exp| exp > now.date());
            claims.iat == published.iat
                && holds
                && lasts(certificates)
                && ours::unsigned_files_match(&files, &claims)
        })
    });
    tokens_are_current
        && (ours::credentials(&files).next().is_none() || credentials_are_current(&files, keys, &uri, lasts))
}

/// Whether the credentials are ours, have certificates that last, and say what the tokens say.
fn credentials_are_current(
    files: &TokenFiles,
    keys: &KeyRing,
    uri: &str,
    lasts: impl Fn(Option<Vec<Vec<u8>>>) -> bool,
) -> bool {
    let Some(claims) = ours::newest(files, keys, uri) else { return false };
    let Some(array) = ours::array_in(&claims) else { return false };
    ours::credentials(files).all(|(purpose, bytes)| {
        let token = ours::credential(purpose, bytes, keys, uri);
        token.is_some_and(|token| token.claims.is_of(&claims, &array) && lasts(token.certificates))
    })
}
