//! What publishers ask and tell: pending lists, settling, the right to publish.

use std::time::Duration;

use super::data::List;
use super::server::{Server, millis};
use crate::base::clock::{NumericDate, Timestamp};
use crate::model::instance::InstanceId;
use crate::model::pool::PoolId;
use crate::status_list::ListId;
use crate::store::values::{DueMark, Fence, Pending, Publication, PublisherState, StoreError};

impl Server {
    pub(super) fn dirty(&self, pool: &PoolId) -> Vec<Pending> {
        let mut lists = self.data.lists_of(pool);
        lists.retain(|list| list.dirty_since.is_some());
        lists.sort_by_key(|list| list.dirty_since);
        lists.into_iter().map(List::pending).collect()
    }

    pub(super) fn due(&self, pool: &PoolId, t: Timestamp) -> Vec<Pending> {
        let mut lists = self.data.lists_of(pool);
        lists.retain(|list| list.resign_at <= t.date());
        lists.sort_by_key(|list| list.resign_at);
        lists.into_iter().map(List::pending).collect()
    }

    pub(super) fn next_due(&self, pool: &PoolId) -> Option<Timestamp> {
        let renewals = self.data.lists_of(pool).into_iter().map(|list| list.resign_at);
        renewals
            .filter(|at| (NumericDate::from_secs(1)..Publication::NEVER).contains(at))
            .min()
            .map(Timestamp::from)
    }

    pub(super) fn settle(
        &mut self,
        id: ListId,
        publication: Publication,
        taken: Timestamp,
        seen: DueMark,
        fence: Fence,
    ) -> Result<(), StoreError> {
        let pool = self.known(id)?.pool.clone();
        if self.data.pool(&pool).is_some_and(|pool| pool.fence > fence.0) {
            return Err(StoreError::Fenced);
        }
        let list = self.known(id)?;
        list.published = Some((publication.version, publication.iat));
        list.resign_at = if list.due_mark == seen { publication.resign_at } else { NumericDate::MIN };
        list.dirty_since = match list.version <= publication.version {
            true => None,
            // What the publication does not show was changed after its snapshot.
            false => list.dirty_since.max(Some(taken)),
        };
        Ok(())
    }

    pub(super) fn mark_due(&mut self, lists: &[ListId]) -> Result<(), StoreError> {
        for list in lists {
            self.known(*list)?;
        }
        for list in lists {
            let list = self.known(*list)?;
            list.resign_at = NumericDate::MIN;
            list.due_mark.0 += 1;
        }
        Ok(())
    }

    pub(super) fn lease_publisher(
        &mut self,
        pool: &PoolId,
        holder: &InstanceId,
        term: Duration,
        patience: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        let now = self.now();
        let pool = self.data.pool_mut(pool).ok_or_else(|| StoreError::NoSuchPool(pool.clone()))?;
        if pool.holder.as_ref() != Some(holder) {
            if pool.holder.is_some() && pool.held_until + millis(patience) > now {
                return Ok(None);
            }
            pool.fence += 1;
            pool.holder = Some(holder.clone());
        }
        pool.held_until = now + millis(term);
        Ok(Some(Fence(pool.fence)))
    }

    pub(super) fn release_publisher(&mut self, pool: &PoolId, holder: &InstanceId) -> Result<(), StoreError> {
        let now = self.now();
        if let Some(pool) = self.data.pool_mut(pool)
            && pool.holder.as_ref() == Some(holder)
        {
            pool.held_until = now;
        }
        Ok(())
    }

    pub(super) fn publisher(&self, pool: &PoolId) -> Result<PublisherState, StoreError> {
        let found = self.data.pool(pool).ok_or_else(|| StoreError::NoSuchPool(pool.clone()))?;
        let left = Duration::from_millis(found.held_until.saturating_sub(self.now()));
        Ok(PublisherState { fence: Fence(found.fence), left })
    }
}
