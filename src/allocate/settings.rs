//! The settings that a running allocator takes.

use crate::config::{OnUnderflow, PoolLive};

/// How much is kept ready, and how much there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) capacity: usize,
    pub(super) threshold: usize,
    pub(super) on_underflow: OnUnderflow,
    pub(super) open_lists: usize,
    pub(super) spare_lists: usize,
    /// The most lists of the pool.
    pub(super) lists_max: u64,
}

impl Settings {
    pub(super) fn of(live: &PoolLive) -> Self {
        Self {
            capacity: live.prefetch.capacity as usize,
            threshold: live.prefetch.threshold as usize,
            on_underflow: live.prefetch.on_underflow,
            open_lists: live.open_lists,
            spare_lists: live.ready_lists,
            lists_max: live.quotas.lists,
        }
    }
}
