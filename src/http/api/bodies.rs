//! The memory of all request bodies together, so that unfinished or large ones cannot fill the machine.
//!
//! Not counted are the first bytes of each body: the update of one status never waits for the bodies of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of each body that are not counted. An update of one status has some 200.
const FREE_BYTES: usize = 8192;

/// What is left of the budget.
pub(super) struct Bodies {
    left: AtomicUsize,
}

/// A part of the budget, given back when dropped.
pub(super) struct Share {
    bodies: Arc<Bodies>,
    bytes: usize,
}

/// The budget is spent.
pub(super) struct Spent;

impl Bodies {
    /// A budget of so many bytes.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: bytes.into() })
    }

    /// The share of a body of which nothing has arrived.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { bodies: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Whether nothing of the budget was needed.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Grows the share to that of a body that takes `capacity` bytes. Does not shrink it.
    pub(super) fn grow_to(&mut self, capacity: usize) -> Result<(), Spent> {
        let more = capacity.saturating_sub(FREE_BYTES).saturating_sub(self.bytes);
        let taken = self
            .bodies
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
        taken.map_err(|_| Spent)?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.bodies.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_back_and_small_bodies_need_none() {
        let bodies = Bodies::new(100);
        let (mut one, mut other) = (bodies.share(), bodies.share());
        assert!(one.grow_to(FREE_BYTES + 60).is_ok() && one.grow_to(10).is_ok());
        assert!(other.grow_to(FREE_BYTES + 41).is_err() && other.grow_to(FREE_BYTES + 40).is_ok());
        assert!(bodies.share().grow_to(FREE_BYTES).is_ok(), "nothing is left, but it needs nothing");
        assert!(one.grow_to(FREE_BYTES + 61).is_err());
        drop(other);
        assert!(one.grow_to(FREE_BYTES + 100).is_ok());
        drop(one);
        assert!(bodies.share().grow_to(FREE_BYTES + 100).is_ok());
    }
}
