//! From references in memory to an answer that a store can keep.

use super::{Allocated, Allocator};
use crate::store::{Answered, Digest, Given, Placed};

impl Allocator {
    /// The answer to `request` that has these references.
    pub fn answer(&self, request: Digest, references: &[Allocated]) -> Answered {
        let buffer = self.buffer();
        let placed = references.iter().map(|reference| Placed {
            given: Given::from(reference),
            position: reference.position,
            key: buffer.order_of(&reference.list),
        });
        let placed: Vec<_> = placed.collect();
        drop(buffer);
        Answered::new(request, &placed, self.list_entries)
    }
}
