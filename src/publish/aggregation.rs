//! The Status List Aggregation of a pool: the URIs of its lists.

use super::{PoolPublisher, PublishError};
use crate::base::blocking::blocking;
use crate::publish::sinks::Name;
use crate::status_list::{Aggregation, BaseUri};
use crate::store::ListRecord;

/// The aggregation of a pool with these lists.
pub(super) fn of(lists: &[ListRecord], base: &BaseUri) -> Aggregation {
    let published = lists.iter().filter(|list| list.published.is_some() && !list.retired);
    let mut status_lists: Vec<_> = published.map(|list| base.join(&list.id)).collect();
    // Sorted by their random names, which reveals nothing about their age.
    status_lists.sort_unstable();
    Aggregation { status_lists }
}

impl PoolPublisher {
    /// Writes the aggregation of the pool.
    pub(super) async fn write_aggregation(&self) {
        let write = async {
            if !self.start.aggregation {
                return self.site.remove_aggregation(&self.shape.id).map_err(PublishError::from);
            }
            // Under the lock, so that no instance overwrites a newer state with an older one.
            let lock = self.lock().await?;
            let document = of(&self.store.lists(&self.shape.id).await?, &self.base).to_json();
            let (site, pool) = (self.site.clone(), self.shape.id.clone());
            let write = move || {
                let _until_written = lock;
                site.write_aggregation(&pool, &document)
            };
            let written = blocking(write).await;
            written.map_err(|error| PublishError::Interrupted(error.to_string()))?.map_err(PublishError::from)
        };
        match write.await {
            Ok(()) => self.sinks.owe([Name::Aggregation].into_iter()),
            Err(error) => {
                tracing::error!(pool = %self.shape.id, %error, "cannot write the aggregation; retrying with the next new list");
            }
        }
    }
}
