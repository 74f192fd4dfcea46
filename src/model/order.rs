//! Counter → index: the pseudo-random order in which a list gives its indices. Never changes.
//!
//! A 12-round Feistel network over pairs of numbers below ⌈√size⌉, repeated until the result is below `size`, with
//! SipHash-2-4 as round function (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", Generalized-Feistel). It is
//! bijective, and without the key an index says nothing about the others. A test pins its output: a change would hand out
//! an index twice.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

const ROUNDS: u64 = 12;

/// The secret key of a list's order: 128 random bits. With it anyone can tell in which order the list's references were
/// handed out, so it is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OrderKey([u8; 16]);

impl OrderKey {
    /// A fresh random key.
    pub fn random() -> Self {
        let mut key = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut key)
            .expect("the system's random numbers never run out once it has started");
        Self(key)
    }

    /// The key with the bytes that a store keeps.
    pub const fn from_bytes(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// The bytes that a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Shows no part of the key.
impl fmt::Debug for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrderKey(..)")
    }
}

/// The order of one list.
#[derive(Clone, Debug)]
pub struct Permutation {
    keys: (u64, u64),
    size: u32,
    /// ⌈√size⌉: both halves of a position are below it.
    side: u64,
}

impl Permutation {
    /// The order of a list of `size` entries with this key.
    pub fn new(key: OrderKey, size: u32) -> Self {
        let key = u128::from_le_bytes(key.0);
        let side = u64::from(size).isqrt();
        let side = if side * side < u64::from(size) { side + 1 } else { side };
        Self { keys: (key as u64, (key >> 64) as u64), size, side }
    }

    /// The index at `position`, which must be below the size.
    pub fn index(&self, position: u32) -> u32 {
        assert!(position < self.size, "positions are leased below the size of the list");
        let mut at = u64::from(position);
        loop {
            at = self.shuffle(at);
            // The square of `side` is hardly larger than `size`, so one pass is nearly always enough.
            if at < u64::from(self.size) {
                return at as u32;
            }
        }
    }

    /// The position of `index`, which must be below the size.
    pub fn position(&self, index: u32) -> u32 {
        assert!(index < self.size, "indices are below the size of the list");
        let mut at = u64::from(index);
        loop {
            at = self.unshuffle(at);
            // The same walk backwards: it passes only through values that were too large on the way forward.
            if at < u64::from(self.size) {
                return at as u32;
            }
        }
    }

    fn unshuffle(&self, at: u64) -> u64 {
        let (mut left, mut right) = (at / self.side, at % self.side);
        for round in (0..ROUNDS).rev() {
            (left, right) = ((right + self.side - self.round(round, left)) % self.side, left);
        }
        left * self.side + right
    }

    fn shuffle(&self, at: u64) -> u64 {
        let (mut left, mut right) = (at / self.side, at % self.side);
        for round in 0..ROUNDS {
            (left, right) = (right, (left + self.round(round, right)) % self.side);
        }
        left * self.side + right
    }

    fn round(&self, round: u64, half: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        // Halves stay below 2^16, so the round takes the high bytes of one word.
        hasher.write_u64(round << 32 | half);
        hasher.finish() % self.side
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> OrderKey {
        OrderKey(std::array::from_fn(|at| n.wrapping_mul(31).wrapping_add(at as u8)))
    }

    #[test]
    fn output_is_pinned() {
        let first = |n: u8, size: u32| {
            (0..8).map(|position| Permutation::new(key(n), size).index(position)).collect::<Vec<_>>()
        };
        assert_eq!(first(0, 100_000), PINNED_100_000);
        assert_eq!(first(1, 8), PINNED_8);
        assert_eq!(first(2, u32::MAX), PINNED_LARGEST);
    }

    const PINNED_100_000: [u32; 8] = [49587, 29095, 43717, 32687, 43170, 97083, 89612, 88227];
    const PINNED_8: [u32; 8] = [0, 5, 6, 1, 2, 7, 4, 3];
    const PINNED_LARGEST: [u32; 8] =
        [4122470187, 297600436, 2023605930, 1508866346, 2860226120, 658396993, 1740444456, 1810300089];

    #[test]
    fn every_index_comes_exactly_once() {
        for size in [1, 2, 3, 7, 8, 9, 15, 16, 17, 128, 1000, 10_000, 65_536, 100_003] {
            let order = Permutation::new(key(3), size);
            let mut seen = vec![false; size as usize];
            for position in 0..size {
                let index = order.index(position) as usize;
                assert!(!std::mem::replace(&mut seen[index], true), "index {index} of {size} came twice");
            }
        }
    }

    proptest! {
        #[test]
        fn position_is_the_inverse_of_index(bytes: [u8; 16], size in 1..=u32::MAX, at: u32) {
            let order = Permutation::new(OrderKey::from_bytes(bytes), size);
            let at = at % size;
            prop_assert_eq!(order.position(order.index(at)), at);
            prop_assert_eq!(order.index(order.position(at)), at);
        }
    }

    #[test]
    fn position_is_the_inverse_of_index_in_small_lists() {
        for size in [1, 2, 3, 7, 8, 9, 15, 16, 17, 128, 1000] {
            let order = Permutation::new(key(3), size);
            for position in 0..size {
                assert_eq!(order.position(order.index(position)), position, "of {size}");
            }
        }
    }

    #[test]
    fn order_looks_random() {
        const SIZE: u32 = 100_000;
        let order: Vec<_> =
            (0..SIZE).map(|position| Permutation::new(key(7), SIZE).index(position)).collect();
        let successors = order.windows(2).filter(|pair| pair[1] == pair[0].wrapping_add(1)).count();
        // Chance gives about one; a sequential order gives all.
        assert!(successors < 8, "{successors} successors");

        // Chi-square over 100 bins of the first tenth: 99 degrees of freedom, 99.9 % of all draws lie below 149.
        let mut bins = [0_f64; 100];
        for index in &order[..SIZE as usize / 10] {
            bins[(index / (SIZE / 100)) as usize] += 1.0;
        }
        let chi_square: f64 = bins.iter().map(|count| (count - 100.0).powi(2) / 100.0).sum();
        assert!((40.0..149.0).contains(&chi_square), "{chi_square}");
    }

    #[test]
    fn keys_give_unrelated_orders() {
        const SIZE: u32 = 10_000;
        let (a, b) = (Permutation::new(key(1), SIZE), Permutation::new(key(2), SIZE));
        let same = (0..SIZE).filter(|position| a.index(*position) == b.index(*position)).count();
        assert!(same < 10, "{same} positions agree, chance gives about one");
    }
}
