//! Opens lists, as many as the pool needs and its quota allows.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use super::Allocator;
use crate::base::clock::Clock;
use crate::base::signals::Signals;
use crate::store::{Store, StoreError};

/// How far the opening of lists has come.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// Whether the lists of the pool were counted since the start.
    counted: AtomicBool,
    /// Whether the latest try found as many lists as the pool may have.
    refused: AtomicBool,
    /// Whether, besides, no list of this instance has references left.
    at_its_end: AtomicBool,
}

impl Opening {
    /// Whether no more references will come until lists are retired or the quota is raised.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.at_its_end.load(Relaxed)
    }
}

/// The value of a gauge.
pub(super) fn gauge(lists: u64) -> i64 {
    i64::try_from(lists).unwrap_or(i64::MAX)
}

impl Allocator {
    /// Opens lists until there are `wanted`, of which `open` are there. Returns how many it opened: fewer if the pool has as many lists
    /// as it may have.
    pub(super) async fn open_missing(
        &self,
        store: &Store,
        signals: &Signals,
        clock: &Clock,
        wanted: usize,
        open: usize,
    ) -> Result<usize, StoreError> {
        let (mut opened, mut refused) = (0, false);
        while open + opened < wanted && !refused {
            let most = self.settings().lists_max;
            match store.open_list(&self.pool, &self.owner, most, clock.now()).await {
                Ok(list) => {
                    tracing::info!(pool = %self.pool, list.id = %list, "opened a list");
                    signals.list_wanted.notify_one();
                    opened += 1;
                }
                Err(StoreError::TooManyLists { .. }) => refused = true,
                Err(error) => return Err(error),
            }
        }
        if refused != self.opening.refused.swap(refused, Relaxed) && refused {
            self.metrics.quota_reached("lists");
            tracing::error!(
                pool = %self.pool, lists = self.settings().lists_max,
                "the pool has as many lists as status-list-pools.{}.quotas.lists allows, and opens no more: retire lists \
                 whose credentials have expired, or raise the setting; no restart is needed",
                self.pool
            );
        }
        if opened > 0 || !self.opening.counted.swap(true, Relaxed) {
            let usage = store.usage(&self.pool).await?;
            self.metrics.lists.set(gauge(usage.lists.saturating_sub(usage.retired)));
        }
        Ok(opened)
    }

    /// Notes, after a try that leased nothing, whether more references can come. `none_open`: no list has any left.
    pub(super) fn note_end(&self, none_open: bool) {
        let at_its_end = none_open && self.opening.refused.load(Relaxed);
        if at_its_end != self.opening.at_its_end.swap(at_its_end, Relaxed) && at_its_end {
            // They need not wait until they time out.
            self.refilled.notify_waiters();
        }
    }
}
