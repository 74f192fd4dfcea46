//! A spread: a gradual change of a whole list to one status, a share of its entries at each beat, so that no token shows which
//! entries belong together. It is durable and part of the list, and ends with the last share.
//!
//! Its caller chooses the order of the entries. Invariants: a step counts only if it begins where the latest one ended, so no step
//! is made twice or skipped; setting another status completes the spread first, so the latest request wins.

use crate::model::order::OrderKey;
use crate::status_list::{Capacity, Index, Status};

/// The most entries of one step, so that the updates of others never wait long for it.
pub const SPREAD_STEP_MAX: usize = 8192;

/// A gradual change of a whole list to one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The status that every entry gets.
    pub value: Status,
    /// The requested number of beats; at least 2.
    pub beats: u32,
    /// The permutation key of the order in which the entries change; no other spread has the same.
    pub key: OrderKey,
    /// The number of entries, in that order, that already have the value.
    pub done: u32,
}

impl Spread {
    /// Returns the number of entries that are done after one more beat.
    pub fn after_beat(&self, capacity: Capacity) -> u32 {
        self.done.saturating_add(share(capacity, self.beats)).min(capacity.entries())
    }

    /// The spread after these entries.
    pub fn advanced(&self, entries: &[Index]) -> Self {
        Self { done: self.done.saturating_add(u32::try_from(entries.len()).unwrap_or(u32::MAX)), ..*self }
    }

    /// The number of beats it takes: fewer than requested if the entries do not divide evenly, never more.
    pub fn beats_taken(capacity: Capacity, beats: u32) -> u32 {
        capacity.entries().div_ceil(share(capacity, beats))
    }
}

/// The number of entries that change at each beat.
fn share(capacity: Capacity, beats: u32) -> u32 {
    capacity.entries().div_ceil(beats.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::Bits;

    #[test]
    fn shares_are_equal_and_end_with_the_list() {
        for (entries, beats, expected) in
            [(1000, 4, 4), (1000, 3, 3), (1000, 300, 250), (8, 1000, 8), (1000, 1, 1), (1000, 2, 2)]
        {
            let capacity = Capacity::new(entries, Bits::One).unwrap();
            let mut spread =
                Spread { value: Status::INVALID, beats, key: OrderKey::from_bytes([7; 16]), done: 0 };
            let (mut taken, mut shares) = (0, Vec::new());
            while spread.done < capacity.entries() {
                let after = spread.after_beat(capacity);
                shares.push(after - spread.done);
                spread.done = after;
                taken += 1;
            }
            assert_eq!(taken, expected, "{entries} entries over {beats} beats");
            assert_eq!(Spread::beats_taken(capacity, beats), expected);
            let last = shares.pop().unwrap();
            assert!(shares.iter().all(|share| *share == shares[0] && last <= *share), "{shares:?}, {last}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        let spread =
            Spread { value: Status::INVALID, beats: 10, key: OrderKey::from_bytes([201; 16]), done: 3 };
        let shown = format!("{spread:?}");
        assert!(
            shown.contains("beats: 10") && shown.contains("done: 3") && !shown.contains("201"),
            "{shown}"
        );
    }
}
