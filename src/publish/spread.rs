//! Spreads: before it looks for changes, each beat sets the next share of entries of every list that has a spread, in a random
//! order. The store records the progress, so another publisher continues where this one stopped.

use tokio::time::Instant;

use super::PoolPublisher;
use crate::model::order::Permutation;
use crate::status_list::{Capacity, Index, ListId};
use crate::store::{ListRecord, SPREAD_STEP_MAX, Spread, StoreError};

impl PoolPublisher {
    /// Advances every spread of the pool by one beat, if this instance publishes it. A beat that comes early, because the settings were
    /// reloaded, advances nothing. Stops after half a beat, even in the middle of a list, because urgent changes wait.
    pub async fn advance_spreads(&self) {
        if self.believed_now().is_err() {
            return;
        }
        let (now, half) = (Instant::now(), self.live.load().update_interval / 2);
        {
            let mut latest = self.advanced_at.lock();
            if latest.is_some_and(|latest| now.duration_since(latest) < half) {
                return;
            }
            *latest = Some(now);
        }
        if let Err(error) = self.advance_until(now + half).await {
            self.metrics.publish_failed.inc();
            tracing::error!(pool = %self.shape.id, %error, "cannot advance the spreads; retrying at the next beat");
        }
    }

    async fn advance_until(&self, deadline: Instant) -> Result<(), StoreError> {
        let pool = &self.shape.id;
        let ours = async || Ok::<_, StoreError>(self.lease.take(self.clock.now()).await?.is_some());
        if !ours().await? {
            return Ok(());
        }
        let mut lists = self.store.spreading(pool).await?;
        // First those that the latest beat left out.
        lists.sort_by_key(|list| list.spread.map(|spread| spread.done));
        for ListRecord { id, spread, .. } in lists {
            let Some(spread) = spread else { continue };
            if !ours().await? {
                return Ok(());
            }
            match self.advance(id, spread, deadline).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(%pool, list.id = %id, "half a beat is not enough for the spreads of the pool; they will take longer");
                    return Ok(());
                }
                Err(error) => {
                    self.metrics.publish_failed.inc();
                    tracing::error!(%pool, list.id = %id, %error, "cannot advance the spread of a list; retrying at the next beat");
                }
            }
        }
        Ok(())
    }

    /// Sets one share, in steps that let others in between. Returns `false` if the deadline came before its end. The rest of the
    /// share is not made up for: the next beat takes a whole share from there.
    async fn advance(&self, list: ListId, mut spread: Spread, deadline: Instant) -> Result<bool, StoreError> {
        let capacity = self.shape.capacity;
        let until = spread.after_beat(capacity);
        while spread.done < until {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let step = step(&spread, until, capacity);
            if !self.store.advance_spread(list, &spread, &step, self.clock.now()).await? {
                // It was completed or replaced in the meantime, or another instance publishes.
                return Ok(true);
            }
            spread = spread.advanced(&step);
        }
        let (pool, done, of) = (&self.shape.id, spread.done, capacity.entries());
        tracing::debug!(%pool, list.id = %list, done, of, "advanced the spread of a list");
        Ok(true)
    }
}

/// Returns the entries of the next step, in the order of the spread. One or two milliseconds: others wait for this thread.
fn step(spread: &Spread, until: u32, capacity: Capacity) -> Vec<Index> {
    let order = Permutation::new(spread.key, capacity.entries());
    let entry = |position| {
        let index = capacity.index(order.index(position).into());
        index.expect("the order is one of the entries of the list")
    };
    (spread.done..until).take(SPREAD_STEP_MAX).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::order::OrderKey;
    use crate::status_list::{Bits, Status};

    #[test]
    fn shares_are_of_every_entry_once_and_in_no_visible_order() {
        let capacity = Capacity::new(100_000, Bits::One).unwrap();
        let mut spread =
            Spread { value: Status::INVALID, beats: 7, key: OrderKey::from_bytes([3; 16]), done: 0 };
        let mut seen = HashSet::new();
        for _ in 0..7 {
            let until = spread.after_beat(capacity);
            let mut share = Vec::new();
            while spread.done < until {
                let step = step(&spread, until, capacity);
                assert!(!step.is_empty() && step.len() <= SPREAD_STEP_MAX);
                spread = spread.advanced(&step);
                share.extend(step);
            }
            let half = share.iter().filter(|index| index.get() < 50_000).count();
            assert!(half.abs_diff(share.len() / 2) < 500, "{half} of {} in the first half", share.len());
            seen.extend(share);
        }
        assert_eq!((seen.len(), spread.done), (100_000, 100_000));
    }
}
