//! The last steps of a publication: rename the new files into place, then settle in the store. In this order, so that a crash in
//! between leaves a list pending.

use super::job::Ready;
use super::{Pass, PublishError, Put, schedule};
use crate::base::blocking::blocking;
use crate::publish::PoolPublisher;
use crate::site::folder::{SiteError, SiteLock};
use crate::site::layout::Lock;
use crate::store::{Fence, Pending, StoreError};

impl PoolPublisher {
    /// Renames the new files into place, durably. Instances that share the folder do so one after the other, and only the holder
    /// of the lease: an instance that slept between its snapshot and this step must not restore an older state.
    pub(super) async fn put_in_place(
        &self,
        ready: Vec<Ready>,
        fence: Fence,
    ) -> Result<Vec<Put>, PublishError> {
        let lock = self.lock().await?;
        if !self.lease.is_current(fence, self.clock.now()).await? {
            return Err(StoreError::Fenced.into());
        }
        let site = self.site.clone();
        let put = move || {
            let put = ready.into_iter().map(|list| list.put(&site)).collect();
            let synced = site.sync();
            drop(lock);
            synced.map(|()| put)
        };
        let put = blocking(put).await;
        put.map_err(|error| PublishError::Interrupted(error.to_string()))?.map_err(PublishError::from)
    }

    pub(in crate::publish) async fn lock(&self) -> Result<SiteLock, SiteError> {
        self.site.lock(&Lock::Pool(self.shape.id.clone())).await
    }

    /// Records in the store what is now in place.
    pub(super) async fn settle(&self, put: Vec<Put>, fence: Fence, pass: &mut Pass) {
        let mut settles = Vec::with_capacity(put.len());
        let of_publication =
            put.iter().filter_map(|(pending, put)| Some((pending.retired, put.as_ref().ok()?)));
        let ahead = of_publication.filter(|(retired, (publication, taken))| {
            !retired && schedule::is_ahead(publication.iat, *taken)
        });
        self.note_ahead(ahead.count());
        for (pending, put) in put {
            match put {
                Ok((publication, taken)) => {
                    let store = self.store.clone();
                    // Concurrently, so that they share a commit.
                    settles.push(tokio::spawn(async move {
                        let Pending { list, due_mark, .. } = pending;
                        (pending, store.settle(list, publication, taken, due_mark, fence).await)
                    }));
                }
                Err(error) => self.note_failure(pass, pending.list, error),
            }
        }
        for settle in settles {
            match settle.await {
                Ok((pending, Ok(()))) => {
                    self.metrics.published.inc();
                    if let Some(since) = pending.since {
                        let waited = self.clock.now().since(since);
                        self.metrics.update_to_publish.observe(waited.as_secs_f64());
                    }
                    pass.published.push(pending.list);
                }
                Ok((pending, Err(error))) => self.note_failure(pass, pending.list, error.into()),
                Err(error) => {
                    tracing::error!(pool = %self.shape.id, %error, "a settling task ended early");
                    pass.ended_by = Some(PublishError::Interrupted(error.to_string()));
                }
            }
        }
    }
}
