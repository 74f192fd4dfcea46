//! What can change while a pool is published: its times, and the keys.

use std::sync::Arc;

use tokio::time::{Interval, MissedTickBehavior};

use super::PoolPublisher;
use super::sinks::Name;
use crate::config::PoolConfig;

impl PoolPublisher {
    /// Goes on with other times; lists keep theirs until they are published again. What else differs is not looked at.
    pub fn set(&self, pool: PoolConfig) {
        self.lease.set_beat(pool.update_interval);
        self.live.store(Arc::new(pool));
        self.changed.notify_one();
    }

    /// The published keys have changed: the buckets owe them.
    pub fn keys_changed(&self) {
        self.sinks.owe([Name::Keys].into_iter());
    }

    /// Whether every bucket has the published keys. An instance that does not publish cannot know: its new keys wait until it
    /// does, and has brought them there.
    pub fn keys_are_uploaded(&self) -> bool {
        self.sinks.are_none() || self.lease.was_held() && !self.sinks.owes(Name::Keys)
    }

    pub(super) fn beat(&self) -> Interval {
        let mut beat = tokio::time::interval(self.live.load().update_interval);
        // After a long pass the next one comes a whole beat later, so that two never fall into one second.
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat
    }
}
