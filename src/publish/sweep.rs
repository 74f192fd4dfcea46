//! The look over all files, at the start, once an hour, and when the right to publish comes to this instance: temporary files of
//! a crash are removed, and lists whose files are missing, damaged, expired or not those of the store's latest publication become
//! due. So a deleted or damaged site comes back from the store.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use walkdir::WalkDir;

use super::certificates::is_outlived;
use super::{PoolPublisher, history};
use crate::base::blocking::blocking;
use crate::base::clock::Timestamp;
use crate::base::durable::{self, TEMPORARY_PREFIX};
use crate::config::Formats;
use crate::sign::KeyRing;
use crate::site::folder::{Site, SiteError, gunzip};
use crate::status_list::raw::RawList;
use crate::status_list::{BaseUri, Claims, ListId, cwt, jwt};
use crate::store::{Fence, ListRecord, StoreError};

/// Temporary files younger than this may belong to another instance that is writing them.
const LEFTOVER_AGE: Duration = Duration::from_secs(60);

/// Removes what crashes left behind; answers how many files.
pub fn remove_leftovers(site: &Site, now: Timestamp) -> Result<usize, SiteError> {
    let mut removed = 0;
    for entry in WalkDir::new(site.folder()).into_iter().filter_map(Result::ok) {
        let temporary =
            entry.file_type().is_file() && entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
        if temporary && is_old(&entry, now) {
            // Another instance that starts as well may be faster.
            durable::remove(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_old(entry: &walkdir::DirEntry, now: Timestamp) -> bool {
    let modified = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
    let since_1970 = modified.and_then(|modified| modified.duration_since(std::time::UNIX_EPOCH).ok());
    since_1970.is_none_or(|modified| now.since(Timestamp::from_secs(modified.as_secs())) > LEFTOVER_AGE)
}

impl PoolPublisher {
    pub(super) fn swept(&self) -> MutexGuard<'_, Option<Fence>> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes lists due whose files are not as they should be, and writes the aggregation; if it is ours to publish.
    pub async fn look(&self) {
        match self.lease.take(self.clock.now()).await {
            Ok(Some(fence)) => self.look_as_publisher(fence).await,
            Ok(None) => {}
            Err(error) => {
                tracing::error!(pool = %self.shape.id, %error, "cannot take the right to publish")
            }
        }
    }

    pub(super) async fn look_as_publisher(&self, fence: Fence) {
        match self.sweep(self.clock.now()).await {
            Ok(stale) => {
                *self.swept() = Some(fence);
                if stale > 0 {
                    tracing::warn!(pool = %self.shape.id, stale, "files are missing or out of date; publishing them anew");
                }
            }
            Err(error) => {
                tracing::error!(pool = %self.shape.id, %error, "cannot look through the published files")
            }
        }
        self.write_aggregation().await;
        match self.store.lists(&self.shape.id).await {
            Ok(lists) => {
                let published = lists.iter().filter(|list| list.published.is_some());
                self.sinks.compare(published.map(|list| list.id));
            }
            Err(error) => tracing::error!(pool = %self.shape.id, %error, "cannot compare the buckets"),
        }
    }

    /// Marks every list of the pool due whose files are not those of its latest publication; answers how many.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, StoreError> {
        let lists = self.store.lists(&self.shape.id).await?;
        let (site, base, keys, formats) =
            (self.site.clone(), self.base.clone(), Arc::clone(&self.keys), self.start.formats);
        let history = self.start.history;
        let check = move || -> Vec<ListId> {
            for list in &lists {
                let retention = history.filter(|_| !list.retired);
                if let Err(error) = history::sweep(&site, &list.id, retention, now) {
                    tracing::error!(list.id = %list.id, %error, "cannot remove old tokens from the history");
                }
            }
            let stale = lists.into_iter().filter(|list| match list.retired {
                true => !site.is_retired(&list.id),
                false => !is_current(&site, list, &base, &keys, formats, now),
            });
            stale.map(|list| list.id).collect()
        };
        let stale = blocking(check).await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let found = stale.len();
        self.store.mark_due(stale).await?;
        Ok(found)
    }
}

/// Whether all files of a list are there and whole, verify with a key of the pool, have certificates that last, and are those of
/// its latest publication. The gzip form must hold the JWT, and the raw forms must say what the tokens say. A list that was never
/// published is none of the sweep's business: it is due already.
fn is_current(
    site: &Site,
    list: &ListRecord,
    base: &BaseUri,
    keys: &KeyRing,
    formats: Formats,
    now: Timestamp,
) -> bool {
    let Some(published) = list.published else { return true };
    if site.has_others(&list.id, formats) {
        return false;
    }
    let Ok(files) = site.read(&list.id, formats) else { return false };
    let (uri, signer) = (base.join(&list.id), keys.signer());
    let current = |iat: u64, exp: Option<u64>, sub: &str| {
        iat == published.iat && exp.is_none_or(|exp| exp > now.secs()) && sub == uri
    };
    let jwt_is_current = || {
        let text = files.jwt.as_deref()?;
        let token = jwt::decode(std::str::from_utf8(text).ok()?).ok()?;
        let verified = keys.verifies(token.signing_input.as_bytes(), &token.signature);
        let lasts = !is_outlived(&token.header.certificates().unwrap_or_default(), &signer, now);
        let compressed = gunzip(files.jwt_gz.as_deref()?, text.len()).ok()? == text;
        let current = current(token.claims.iat, token.claims.exp, &token.claims.sub);
        (verified && lasts && compressed && current).then_some(token.claims)
    };
    let cwt_is_current = || {
        let token = cwt::decode(files.cwt.as_deref()?).ok()?;
        let verified = keys.verifies(&token.signing_input, &token.signature);
        let lasts = !is_outlived(&token.key.x5chain, &signer, now);
        let current = current(token.claims.iat, token.claims.exp, &token.claims.sub);
        (verified && lasts && current).then_some(token.claims)
    };
    let (jwt, cwt) = (jwt_is_current(), cwt_is_current());
    if formats.jwt && jwt.is_none() || formats.cwt && cwt.is_none() {
        return false;
    }
    // Nobody signs the raw forms: they must say what a token says.
    let Some(Claims { bits, lst, aggregation_uri, .. }) = jwt.or(cwt) else { return false };
    let raw = RawList { bits, lst, aggregation_uri };
    let json = || files.json.as_deref() == Some(&raw.to_json()[..]);
    let cbor = || files.cbor.as_deref() == Some(&raw.to_cbor()[..]);
    (!formats.json || json()) && (!formats.cbor || cbor())
}
