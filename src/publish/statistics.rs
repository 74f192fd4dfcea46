//! How the counts of a pool develop: a line in a public file for each publication that changed one, if the settings want it.
//!
//! Publishing never waits for it: a pass only leaves the counts of each list that it signs, from the array at hand, and a note that
//! something was published. A task of its own adds the line, at most one for each beat. A crash in between loses that line; the next
//! one has its changes. What fails is logged and made up for with the next line.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, timeout};

use super::pass::gate;
use super::{PoolPublisher, PublishError, ours};
use crate::base::blocking::blocking;
use crate::base::clock::NumericDate;
use crate::base::stopper::Stopper;
use crate::site::layout::Lock;
use crate::site::status_page::{Counts, Statistics};
use crate::status_list::{ListId, Status, StatusArray};
use crate::store::ListRecord;

/// How many lists are read and counted before others may use the thread.
const AT_A_TIME: usize = 64;
/// How long a stop waits for the last line.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

/// The counts of each list, of the publication with this `iat`.
#[derive(Debug, Default)]
pub(super) struct ListCounts {
    lists: Mutex<HashMap<ListId, (NumericDate, Counts)>>,
    published: Notify,
}

impl ListCounts {
    /// Leaves the counts of a list that is about to be published. If that fails, no publication has this `iat`.
    pub(super) fn note(&self, list: ListId, iat: NumericDate, array: &StatusArray) {
        let counts = counts_of(array);
        self.lists.lock().insert(list, (iat, counts));
    }

    /// Asks for a line, because something was published.
    pub(super) fn wake(&self) {
        self.published.notify_one();
    }

    fn of_publication(&self, list: ListId, iat: NumericDate) -> Option<Counts> {
        let lists = self.lists.lock();
        lists.get(&list).filter(|(noted, _)| *noted == iat).map(|(_, counts)| *counts)
    }
}

/// The counts of one list.
fn counts_of(array: &StatusArray) -> Counts {
    let by_status = array.counts();
    let of = |status: Status| by_status.get(usize::from(status.value())).copied().unwrap_or(0).into();
    Counts {
        lists: 1,
        entries: array.capacity().entries().into(),
        revoked: of(Status::INVALID),
        suspended: of(Status::SUSPENDED),
    }
}

fn sum(all: impl Iterator<Item = Counts>) -> Counts {
    all.fold(Counts::default(), |sum, counts| Counts {
        lists: sum.lists + counts.lists,
        entries: sum.entries + counts.entries,
        revoked: sum.revoked + counts.revoked,
        suspended: sum.suspended + counts.suspended,
    })
}

impl PoolPublisher {
    /// The counts to leave, if the pool has statistics.
    pub(super) fn list_counts(&self) -> Option<Arc<ListCounts>> {
        self.live.load().statistics.then(|| Arc::clone(&self.counts))
    }

    /// Adds lines until the stop, and one for what was published last.
    pub(super) async fn run_statistics(&self, stopper: &Stopper) {
        while stopper.until(self.counts.published.notified()).await.is_some() {
            self.write_statistics().await;
            let beat = self.live.load().update_interval;
            let _: Option<()> = stopper.until(tokio::time::sleep(beat)).await;
        }
        if timeout(LAST_PATIENCE, self.write_statistics()).await.is_err() {
            tracing::warn!(pool = %self.shape.id, "stopped before the statistics had their last line; the next start adds it");
        }
    }

    /// Adds a line if a count has changed, if the pool has statistics and this instance publishes it.
    pub async fn write_statistics(&self) {
        if self.live.load().statistics
            && let Err(error) = self.add_line().await
        {
            tracing::error!(pool = %self.shape.id, %error, "cannot write the statistics; retrying with the next publication");
        }
    }

    async fn add_line(&self) -> Result<(), PublishError> {
        let now = self.believed_now()?;
        let Some(fence) = self.lease.take(now).await? else { return Ok(()) };
        let Some(counts) = self.count().await? else { return Ok(()) };
        // A lock of its own: no publication waits for this file.
        let lock = self.site.lock(&Lock::Statistics(self.shape.id.clone())).await?;
        if !self.lease.is_current(fence, self.clock.now()).await? {
            return Ok(());
        }
        let (site, pool) = (self.site.clone(), self.shape.id.clone());
        let add = move || {
            let _until_written = lock;
            let document = site.read_statistics(&pool)?.unwrap_or_default();
            let mut statistics = match Statistics::from_csv(&document) {
                Ok(statistics) => statistics,
                Err(_) if document.is_empty() => Statistics::default(),
                Err(error) => {
                    tracing::error!(%pool, %error, "the statistics are damaged; keeping the lines that can be read");
                    Statistics::salvaged(&document)
                }
            };
            match statistics.add(now.date(), counts) {
                true => site.write_statistics(&pool, &statistics.to_csv()),
                false => Ok(()),
            }
        };
        let added = blocking(add).await;
        added.map_err(|error| PublishError::Interrupted(error.to_string()))?.map_err(PublishError::from)
    }

    /// The counts of all published lists together. Lists that this instance has not published since its start are read once. `None`
    /// if the file of one cannot be read: the comparison of all files restores it.
    async fn count(&self) -> Result<Option<Counts>, PublishError> {
        let lists = self.store.lists(&self.shape.id).await?;
        let published = |list: &ListRecord| Some((list.id, list.published.filter(|_| !list.retired)?.iat));
        let lists: HashMap<_, _> = lists.iter().filter_map(published).collect();
        self.counts.lists.lock().retain(|list, _| lists.contains_key(list));
        let unknown = |(list, iat): (&ListId, &NumericDate)| {
            self.counts.of_publication(*list, *iat).is_none().then_some(*list)
        };
        let unknown: Vec<_> = lists.iter().filter_map(unknown).collect();
        for some in unknown.chunks(AT_A_TIME) {
            self.read_counts(some.to_vec()).await?;
        }
        // A list that was published in between counts as it is now.
        let noted = self.counts.lists.lock();
        let counts: Option<Vec<_>> =
            lists.keys().map(|list| noted.get(list).map(|(_, counts)| *counts)).collect();
        Ok(counts.map(|counts| sum(counts.into_iter())))
    }

    /// Counts the published tokens of these lists, in place of what was noted of a publication that failed.
    async fn read_counts(&self, lists: Vec<ListId>) -> Result<(), PublishError> {
        let (site, base, keys) = (self.site.clone(), self.base.clone(), Arc::clone(&self.keys));
        let (formats, capacity, noted) = (self.start.formats, self.shape.capacity, Arc::clone(&self.counts));
        let read = move || {
            for list in lists {
                let claims = ours::published(&site, &list, formats, &keys, &base.join(&list));
                let array = claims
                    .ok()
                    .flatten()
                    .and_then(|claims| Some((claims.iat, gate::array_of(&claims, capacity).ok()?)));
                match array {
                    Some((iat, array)) => noted.note(list, iat, &array),
                    None => _ = noted.lists.lock().remove(&list),
                }
            }
        };
        blocking(read).await.map_err(|error| PublishError::Interrupted(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::{Bits, Capacity};

    #[test]
    fn counts_belong_to_one_publication() {
        let capacity = Capacity::new(1000, Bits::Two).unwrap();
        let mut array = StatusArray::filled(capacity, Status::VALID);
        for (index, status) in [(0, 1), (7, 1), (8, 2), (999, 3)] {
            array.set(capacity.index(index).unwrap(), Status::new(status));
        }
        let (noted, list) = (ListCounts::default(), ListId::random());
        let at = NumericDate::from_secs;
        assert_eq!(noted.of_publication(list, at(17)), None);
        noted.note(list, at(17), &array);
        let counts = Counts { lists: 1, entries: 1000, revoked: 2, suspended: 1 };
        assert_eq!(noted.of_publication(list, at(17)), Some(counts));
        assert_eq!(
            noted.of_publication(list, at(16)),
            None,
            "what was noted failed, or was replaced by another instance"
        );
        let one_bit = StatusArray::filled(Capacity::new(80, Bits::One).unwrap(), Status::INVALID);
        let together = sum([counts, counts_of(&one_bit)].into_iter());
        assert_eq!(together, Counts { lists: 2, entries: 1080, revoked: 82, suspended: 1 });
    }
}
