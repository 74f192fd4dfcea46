//! The publication of one list: snapshot → `lst` → claims → signatures → gate → files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::{self, Refused};
use super::render::Template;
use super::{PublishError, schedule};
use crate::base::blocking::blocking;
use crate::base::clock::{NumericDate, Timestamp};
use crate::bitstring::Credential;
use crate::model::pool::{PoolId, PoolShape};
use crate::publish::ours;
use crate::publish::statistics::ListCounts;
use crate::sign::profile::Profiles;
use crate::sign::{KeyRing, SignError, Signer};
use crate::site::folder::{Prepared, Site, SiteError, Stamp, TokenFiles};
use crate::status_list::raw::RawList;
use crate::status_list::{Claims, Format, Formats, Index, ListId, Status, StatusArray, lst};
use crate::store::{
    Changes, Deadline, Pending, Publication, Snapshot, StatusChange, Store, StoreError, Version,
};
use crate::telemetry::metrics::PoolMetrics;

/// How long restoring lost statuses may take; the next beat retries.
const RESTORE_PATIENCE: Duration = Duration::from_secs(10);

/// The publication of one list.
pub(super) struct Job {
    pub(super) pending: Pending,
    pub(super) store: Store,
    pub(super) site: Site,
    pub(super) uri: String,
    pub(super) keys: Arc<KeyRing>,
    pub(super) metrics: Arc<PoolMetrics>,
    pub(super) shape: PoolShape,
    pub(super) formats: Formats,
    pub(super) profiles: Profiles,
    pub(super) history: bool,
    /// Where to leave the counts of the list, for a pool with statistics.
    pub(super) counts: Option<Arc<ListCounts>>,
    pub(super) template: Template,
    pub(super) now: Timestamp,
    /// Whether an operator demands that tokens from the future are replaced, although `iat` goes back by that.
    pub(super) replace_future: bool,
}

/// A list whose new files are written, but not in place yet.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) pending: Pending,
    pub(super) publication: Publication,
    /// When its snapshot was requested.
    pub(super) taken: Timestamp,
    /// The files that the gate compared it with.
    seen: Stamp,
    files: Prepared,
}

/// Restores final statuses that the published token shows and the store no longer has, because it lost data. The token is ours
/// and verified, and no entry can leave a final status, so these statuses were requested.
async fn restore(
    store: &Store,
    pool: &PoolId,
    list: ListId,
    lost: &[Index],
    status: Status,
    now: Timestamp,
) -> Result<(), StoreError> {
    let changes = lost.iter().map(|&index| StatusChange { list, index, status, expected: None }).collect();
    match store.apply(pool, vec![changes], Deadline::after(RESTORE_PATIENCE), now).await?.pop() {
        Some(Ok(())) => {
            let restored = lost.len();
            tracing::error!(
                %pool, list.id = %list, restored,
                "THE STORE LOST DATA: it did not have final statuses that are published; set them again from the published token"
            );
        }
        refused => tracing::error!(%pool, list.id = %list, ?refused, "cannot restore lost final statuses"),
    }
    Ok(())
}

impl Ready {
    /// Puts the files in place, unless another instance did so in the meantime. Requires the pool's lock.
    pub(super) fn put(self, site: &Site) -> (Pending, Result<(Publication, Timestamp), PublishError>) {
        let put = match site.stamp(&self.pending.list) == self.seen {
            true => self.files.put().map_err(PublishError::from),
            false => Err(PublishError::Overtaken),
        };
        (self.pending, put.map(|()| (self.publication, self.taken)))
    }
}

/// The input of the job.
struct Wanted {
    seen: Stamp,
    snapshot: Snapshot,
    changes: Option<Changes>,
}

impl Job {
    /// Prepares the files of the list. Also returns the list.
    pub(super) async fn run(self) -> (Pending, Result<Ready, PublishError>) {
        (self.pending, self.prepare().await)
    }

    async fn prepare(self) -> Result<Ready, PublishError> {
        let list = self.pending.list;
        // Before anything is read, so that a replacement by another instance from now on is detected.
        let seen = self.site.stamp(&list);
        let snapshot = self.store.snapshot(list).await?;
        if self.pending.retired {
            return self.retire(snapshot.version, seen);
        }
        let changes = self.store.changes_since_publication(list, snapshot.version).await?;
        let wanted = Wanted { seen, snapshot, changes };
        let (store, pool, now) = (self.store.clone(), self.shape.id.clone(), self.now);
        let turn = self.keys.signer().turn().await;
        let work = move || self.write(wanted);
        let written = blocking(work).await.map_err(|error| PublishError::Interrupted(error.to_string()))?;
        drop(turn);
        if let Err(PublishError::Refused(Refused::FinalStatus { lost, status, .. })) = &written {
            restore(&store, &pool, list, lost, *status, now).await?;
        }
        written
    }

    /// Replaces the list's tokens by the mark of a retired list.
    fn retire(self, version: Version, seen: Stamp) -> Result<Ready, PublishError> {
        let list = self.pending.list;
        let files = self.site.prepare_retirement(&list)?;
        let iat = self.pending.published.map_or(NumericDate::MIN, |published| published.iat);
        let publication = Publication { version, iat, resign_at: Publication::NEVER };
        Ok(Ready { pending: self.pending, publication, taken: self.now, seen, files })
    }

    /// Compresses, signs, checks and writes. Takes milliseconds of CPU and several fsyncs: not for an async thread.
    fn write(self, wanted: Wanted) -> Result<Ready, PublishError> {
        let Wanted { seen, snapshot, changes } = wanted;
        let list = self.pending.list;
        let previous = self.previous()?;
        let previous_iat = [
            self.pending.published.map(|published| published.iat),
            previous.as_ref().map(|claims| claims.iat),
            // Another instance's clock may be ahead; the publisher did not write what is even further ahead.
            self.site.latest_mtime(&list, self.now.plus(schedule::CLOCK_BEHIND_MAX).date()),
        ];
        let replaced = |iat: &NumericDate| self.replace_future && schedule::is_ahead(*iat, self.now);
        let previous_iat = previous_iat.into_iter().flatten().filter(|iat| !replaced(iat)).max();
        let iat = schedule::issued_at(self.now, previous_iat)?;
        // The journal explains every difference only from a file of the store's latest publication.
        let previous_is_latest = previous.as_ref().map(|claims| claims.iat)
            == self.pending.published.map(|published| published.iat);

        let unchanged = self.pending.published.is_some_and(|published| published.version == snapshot.version);
        let lst = match &previous {
            Some(claims) if unchanged && previous_is_latest => Arc::clone(&claims.lst),
            _ => lst::compress(snapshot.array.as_bytes()).into(),
        };
        let claims = self.template.claims(self.uri.clone(), lst, iat);
        // One key for all files of a publication, even if another key takes over in the meantime.
        let signer = self.keys.signer();
        let encode = |format| Ok((format, self.encode(format, &signer, &claims, &snapshot.array)?));
        let forms = self.formats.iter().map(encode);
        let files = TokenFiles::new(forms.collect::<Result<Vec<_>, SignError>>()?);
        gate::check(
            &files,
            &gate::Expected {
                uri: &self.uri,
                capacity: self.shape.capacity,
                key: signer.public_key(),
                chain: signer.chain_in_header(),
                now: self.now.date(),
                latest_iat: schedule::latest_issued_at(self.now, previous_iat),
                previous_iat,
                previous: previous.as_ref(),
                previous_is_latest,
                profiles: self.profiles,
                final_status: self.shape.final_status,
                array: &snapshot.array,
                changes: changes.as_ref(),
            },
        )?;
        if let Some(counts) = &self.counts {
            counts.note(list, iat, &snapshot.array);
        }
        let mut files = self.site.prepare(&list, &files, iat)?;
        if self.history {
            files = files.archived(&self.site, &list, iat);
        }
        let resign_at = schedule::resign_at(iat, &list, &self.template.lifetimes);
        let publication = Publication { version: snapshot.version, iat, resign_at };
        Ok(Ready { pending: self.pending, publication, taken: self.now, seen, files })
    }

    /// Encodes the list of `claims`, whose statuses are `array`, in this format.
    fn encode(
        &self,
        format: Format,
        signer: &Signer,
        claims: &Claims,
        array: &StatusArray,
    ) -> Result<Vec<u8>, SignError> {
        match format {
            Format::Jwt => self.timed(|| signer.sign_jwt(claims)).map(String::into_bytes),
            Format::Cwt => self.timed(|| signer.sign_cwt(claims)),
            Format::Json => Ok(RawList::of(claims).to_json()),
            Format::Cbor => Ok(RawList::of(claims).to_cbor()),
            Format::Bitstring(purpose) => {
                let credential = Credential::of(claims, array, purpose);
                self.timed(|| signer.sign_credential(&credential)).map(String::into_bytes)
            }
        }
    }

    fn timed<T>(&self, sign: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let signed = sign();
        self.metrics.signing.observe(begun.elapsed().as_secs_f64());
        signed
    }

    /// Returns the claims of the published token, if it is one of ours.
    fn previous(&self) -> Result<Option<Claims>, SiteError> {
        let files = self.site.read(&self.pending.list, self.formats)?;
        Ok(ours::newest(&files, &self.keys, &self.uri))
    }
}
