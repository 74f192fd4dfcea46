//! Uploads the published files to buckets as well, behind the local publication and never in its way.
//!
//! The rule: a bucket is made equal to the folder. A list is settled in the store when its *local* files are durable; what a
//! bucket still needs is kept in memory only, because it can always be found out again: at the start, once an hour, and when
//! the right to publish comes to this instance, everything is compared. (Settling only what every bucket has would sign
//! every list anew on every beat for as long as a bucket is down.) What is uploaded is the file as it is then, not as it was
//! when the upload fell due, so a bucket that comes back gets each list once, in its latest state.
//!
//! One exception: a list that was never published is settled only when every bucket has it, because its references are handed
//! out from then on, and a `uri` that was handed out must answer wherever verifiers ask.
//!
//! Bounds: 16 uploads at a time for each pool and bucket, 10 s for a request; after 16 failures and no success the bucket is
//! left alone for up to a minute. No lock is held meanwhile. Only the instance that has the right to publish uploads.

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

/// How long a pass waits for a new list to be uploaded before it goes on without.
const NEW_LIST_PATIENCE: Duration = Duration::from_secs(1);
/// How long a stop waits for the last uploads. What is left is found out at the next start.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// The buckets of one pool.
#[derive(Debug)]
pub(super) struct Sinks {
    uploaders: Vec<Arc<Uploader>>,
    /// New lists whose local files are in place, to be settled when every bucket has them.
    held: Mutex<HashMap<ListId, Put>>,
    /// Counts what buckets have got.
    paid: watch::Sender<u64>,
}

impl Sinks {
    pub(super) fn new(buckets: &[Bucket], files: &Files) -> Self {
        let paid = watch::Sender::new(0);
        let uploader = |bucket: &Bucket| Uploader::new(bucket.for_pool(), files.clone(), paid.clone());
        Self { uploaders: buckets.iter().map(uploader).map(Arc::new).collect(), held: Mutex::default(), paid }
    }

    /// Uploads what is owed until asked to stop, then what is left, for a moment.
    pub(super) async fn run(&self, stopper: &Stopper) {
        let mut running = JoinSet::new();
        for uploader in &self.uploaders {
            let (uploader, stopper) = (Arc::clone(uploader), stopper.clone());
            running.spawn(async move { uploader.run(&stopper).await });
        }
        while running.join_next().await.is_some() {}
        self.flush(FLUSH_PATIENCE).await;
    }

    /// Uploads what is owed, for at most this long; answers how many uploads are left.
    pub(super) async fn flush(&self, patience: Duration) -> usize {
        let mut rounds = JoinSet::new();
        for uploader in &self.uploaders {
            let uploader = Arc::clone(uploader);
            rounds.spawn(async move { uploader.round(true).await });
        }
        // Dropping what takes longer is safe: whatever it did shows at the next look.
        let _ = timeout(patience, async { while rounds.join_next().await.is_some() {} }).await;
        self.uploaders.iter().map(|uploader| uploader.owed_count()).sum()
    }

    /// These files have changed.
    pub(super) fn owe(&self, names: impl Iterator<Item = Name> + Clone) {
        self.uploaders.iter().for_each(|uploader| uploader.owe(names.clone()));
    }

    /// Whether there is no bucket.
    pub(super) fn are_none(&self) -> bool {
        self.uploaders.is_empty()
    }

    /// Everything is to be compared with what the buckets have.
    pub(super) fn compare(&self, lists: impl Iterator<Item = ListId> + Clone) {
        self.uploaders.iter().for_each(|uploader| uploader.doubt_everything());
        self.owe(lists.map(Name::List).chain([Name::Aggregation, Name::Keys]));
    }

    /// Takes note of lists that were put in place; answers those that can be settled now.
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

    /// Takes out of `pending` the new lists whose files are in place already; answers those that can be settled now. A list that
    /// was retired meanwhile stays: its files are to be removed, whether a bucket has them or not.
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

    /// Resolves when every bucket has got a new list that waited for that.
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

    /// Counts the uploads from now on, for [`Self::released`].
    pub(super) fn watch_paid(&self) -> watch::Receiver<u64> {
        self.paid.subscribe()
    }

    /// Another instance publishes; it uploads as well, and compares everything first.
    pub(super) fn forget(&self) {
        self.held().clear();
        self.uploaders.iter().for_each(|uploader| uploader.forget());
    }

    /// Whether a bucket has not got the latest state of this.
    pub(super) fn owes(&self, name: Name) -> bool {
        self.uploaders.iter().any(|uploader| uploader.owes(&name))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<ListId, Put>> {
        self.held.lock()
    }
}
