//! Uploads the published files to buckets, after the local publication and without delaying it.
//!
//! The rule: a bucket is made equal to the folder. A list is settled in the store when its *local* files are durable. What a
//! bucket still needs is kept only in memory, because it can always be found again: everything is compared at the start, once an
//! hour, and when this instance gets the lease to publish. (Settling only what every bucket has would sign every list anew on
//! every beat while a bucket is down.) An upload sends the file as it is at that time, not as it was when the upload fell due, so
//! a bucket that comes back gets each list once, in its latest state.
//!
//! One exception: a list that was never published is settled only when every bucket has it, because its references are handed
//! out from then on, and a `uri` that was handed out must be published everywhere that verifiers read.
//!
//! Bounds: 16 concurrent uploads for each pool and bucket, 10 s for a request. After 16 failures without a success the bucket gets
//! no requests for up to a minute. No lock is held meanwhile. Only the instance that holds the lease to publish uploads.

mod bucket;
mod uploader;

pub use bucket::Bucket;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::base::stopper::Stopper;
use crate::publish::pass::Put;
use crate::status_list::ListId;
use crate::store::Pending;
use uploader::Uploader;
pub(super) use uploader::{Files, Name};

/// How long a pass waits for the upload of a new list before it continues.
const NEW_LIST_PATIENCE: Duration = Duration::from_secs(1);
/// How long a stop waits for the last uploads. The next start finds what is left.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// The buckets of one pool.
#[derive(Debug)]
pub(super) struct Sinks {
    uploaders: Vec<Arc<Uploader>>,
    /// New lists whose local files are in place, to be settled when every bucket has them.
    held: Mutex<HashMap<ListId, Put>>,
    /// Counts completed uploads.
    paid: watch::Sender<u64>,
}

impl Sinks {
    pub(super) fn new(buckets: &[Bucket], files: &Files) -> Self {
        let paid = watch::Sender::new(0);
        let uploader = |bucket: &Bucket| Uploader::new(bucket.for_pool(), files.clone(), paid.clone());
        Self { uploaders: buckets.iter().map(uploader).map(Arc::new).collect(), held: Mutex::default(), paid }
    }

    /// Uploads what is owed until the stop, then what is left, for a limited time.
    pub(super) async fn run(&self, stopper: &Stopper) {
        let mut running = JoinSet::new();
        for uploader in &self.uploaders {
            let (uploader, stopper) = (Arc::clone(uploader), stopper.clone());
            running.spawn(async move { uploader.run(&stopper).await });
        }
        while running.join_next().await.is_some() {}
        self.flush(FLUSH_PATIENCE).await;
    }

    /// Uploads what is owed, for at most this long. Returns how many uploads are left.
    pub(super) async fn flush(&self, patience: Duration) -> usize {
        let mut rounds = JoinSet::new();
        for uploader in &self.uploaders {
            let uploader = Arc::clone(uploader);
            rounds.spawn(async move { uploader.round(true).await });
        }
        // Dropping slower uploads is safe: the next read shows what they did.
        let _ = timeout(patience, async { while rounds.join_next().await.is_some() {} }).await;
        self.uploaders.iter().map(|uploader| uploader.owed_count()).sum()
    }

    /// Marks these files as changed, so that every bucket owes them.
    pub(super) fn owe(&self, names: impl Iterator<Item = Name> + Clone) {
        self.uploaders.iter().for_each(|uploader| uploader.owe(names.clone()));
    }

    /// Whether there is no bucket.
    pub(super) fn are_none(&self) -> bool {
        self.uploaders.is_empty()
    }

    /// Marks everything for comparison with the buckets.
    pub(super) fn compare(&self, lists: impl Iterator<Item = ListId> + Clone) {
        self.uploaders.iter().for_each(|uploader| uploader.doubt_everything());
        self.owe(lists.map(Name::List).chain([Name::Aggregation, Name::Keys]));
    }

    /// Records lists that were put in place. Returns those that can be settled now.
    pub(super) async fn accept(&self, put: Vec<Put>) -> Vec<Put> {
        let in_place = put.iter().filter(|(_, put)| put.is_ok()).map(|(pending, _)| pending);
        self.owe(in_place.clone().map(|pending| Name::List(pending.list)));
        let new: Vec<_> =
            in_place.filter(|pending| pending.published.is_none()).map(|new| new.list).collect();
        if self.uploaders.is_empty() || new.is_empty() {
            return put;
        }
        let mut paid = self.watch_paid();
        let uploaded = async {
            while new.iter().any(|list| self.owes(Name::List(*list))) && paid.changed().await.is_ok() {}
        };
        let _ = timeout(NEW_LIST_PATIENCE, uploaded).await;
        let owed = |(pending, put): &Put| {
            put.is_ok() && new.contains(&pending.list) && self.owes(Name::List(pending.list))
        };
        let (held, settled): (Vec<_>, Vec<_>) = put.into_iter().partition(owed);
        self.held().extend(held.into_iter().map(|put| (put.0.list, put)));
        settled
    }

    /// Removes from `pending` the new lists whose files are already in place. Returns those that can be settled now. A list that
    /// was retired in the meantime stays: its files must be removed, whether a bucket has them or not.
    pub(super) fn release(&self, pending: &mut Vec<Pending>) -> Vec<Put> {
        let mut held = std::mem::take(&mut *self.held());
        let mut released = Vec::new();
        pending.retain(|list| {
            let new = list.published.is_none() && !list.retired;
            let Some(put) = held.remove(&list.list).filter(|_| new) else { return true };
            if self.owes(Name::List(list.list)) {
                self.held().insert(list.list, put);
            } else {
                released.push(put);
            }
            false
        });
        released
    }

    /// Resolves when every bucket has a new list that waited for that.
    pub(super) async fn released(&self, paid: &mut watch::Receiver<u64>) {
        loop {
            if paid.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if self.held().keys().any(|list| !self.owes(Name::List(*list))) {
                return;
            }
        }
    }

    /// Counts uploads from now on, for [`Self::released`].
    pub(super) fn watch_paid(&self) -> watch::Receiver<u64> {
        self.paid.subscribe()
    }

    /// Drops all owed uploads, because another instance publishes; it also uploads, and compares everything first.
    pub(super) fn forget(&self) {
        self.held().clear();
        self.uploaders.iter().for_each(|uploader| uploader.forget());
    }

    /// Whether a bucket lacks the latest state of this.
    pub(super) fn owes(&self, name: Name) -> bool {
        self.uploaders.iter().any(|uploader| uploader.owes(&name))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<ListId, Put>> {
        self.held.lock()
    }
}
