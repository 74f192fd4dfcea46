//! The references that a waiting request has so far, so that none are lost if it gives up.

use super::{Allocated, Allocator};

/// References on their way to a request; given back if the request goes away before it has all.
pub(super) struct Taken<'a> {
    pub(super) allocator: &'a Allocator,
    pub(super) references: Vec<Allocated>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.references.is_empty() {
            self.allocator.give_back(std::mem::take(&mut self.references));
        }
    }
}
