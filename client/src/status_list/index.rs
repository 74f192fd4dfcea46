//! `idx` and the number of entries it must stay below ("Status List", "Referenced Token").

use thiserror::Error;

use super::Bits;

/// The most bytes that a list's array may have: 512 million entries of one bit. Bounds the memory and the inflating.
pub const LIST_BYTES_MAX: u64 = 64 << 20;

/// How many entries a list has, and how wide they are. Always whole bytes, so that no padding looks like entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capacity {
    entries: u32,
    bits: Bits,
}

/// A size that no list can have.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidCapacity {
    /// Not a whole number of bytes.
    #[error("size * bits must be divisible by 8, got {size} * {bits}; the next sizes that fit are {below} and {above}",
        below = size / u64::from(bits.entries_per_byte()) * u64::from(bits.entries_per_byte()),
        above = size.div_ceil(u64::from(bits.entries_per_byte())) * u64::from(bits.entries_per_byte()))]
    PartialByte {
        /// The number of entries given.
        size: u64,
        /// Bits per entry.
        bits: Bits,
    },
    /// Zero, or more than [`LIST_BYTES_MAX`] bytes.
    #[error("size must be 1 to {max} for {bits} bit(s) per entry, got {size}", max = LIST_BYTES_MAX * u64::from(bits.entries_per_byte()))]
    OutOfRange {
        /// The number of entries given.
        size: u64,
        /// Bits per entry.
        bits: Bits,
    },
}

/// An `idx` at or above the number of entries.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("index {idx} is outside the list, which has {entries} entries")]
pub struct IndexOutOfRange {
    /// The index given.
    pub idx: u64,
    /// Entries of the list.
    pub entries: u32,
}

/// An index below the capacity that made it. [`Capacity::index`] is the only way to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index(u32);

impl Capacity {
    /// `size` entries of `bits` each.
    pub fn new(size: u64, bits: Bits) -> Result<Self, InvalidCapacity> {
        let per_byte = u64::from(bits.entries_per_byte());
        let entries = u32::try_from(size).ok().filter(|_| (1..=LIST_BYTES_MAX * per_byte).contains(&size));
        let entries = entries.ok_or(InvalidCapacity::OutOfRange { size, bits })?;
        if !size.is_multiple_of(per_byte) {
            return Err(InvalidCapacity::PartialByte { size, bits });
        }
        Ok(Self { entries, bits })
    }

    /// The capacity of an array of this many bytes. A Relying Party needs it to read a token.
    pub fn of_bytes(bytes: usize, bits: Bits) -> Result<Self, InvalidCapacity> {
        Self::new(bytes as u64 * u64::from(bits.entries_per_byte()), bits)
    }

    /// Number of entries.
    pub const fn entries(self) -> u32 {
        self.entries
    }

    /// Bits per entry.
    pub const fn bits(self) -> Bits {
        self.bits
    }

    /// Bytes of the packed array.
    pub const fn bytes(self) -> usize {
        (self.entries / self.bits.entries_per_byte()) as usize
    }

    /// The index `idx`, if it is within the list.
    pub fn index(self, idx: u64) -> Result<Index, IndexOutOfRange> {
        match u32::try_from(idx) {
            Ok(idx) if idx < self.entries => Ok(Index(idx)),
            _ => Err(IndexOutOfRange { idx, entries: self.entries }),
        }
    }
}

impl Index {
    /// The number that goes into a Referenced Token.
    pub const fn get(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_whole_bytes() {
        assert_eq!(Capacity::new(100_000, Bits::One).unwrap().bytes(), 12_500);
        assert_eq!(Capacity::new(3, Bits::Eight).unwrap().bytes(), 3);
        let refused = Capacity::new(50_001, Bits::One).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "size * bits must be divisible by 8, got 50001 * 1; the next sizes that fit are 50000 and 50008"
        );
    }

    #[test]
    fn capacity_is_bounded() {
        for (size, bits) in [(0, Bits::One), (u64::MAX, Bits::Eight), (LIST_BYTES_MAX + 1, Bits::Eight)] {
            assert_eq!(Capacity::new(size, bits), Err(InvalidCapacity::OutOfRange { size, bits }));
        }
        assert!(Capacity::new(LIST_BYTES_MAX * 8, Bits::One).is_ok());
    }

    #[test]
    fn index_stays_below_the_capacity() {
        let capacity = Capacity::new(16, Bits::One).unwrap();
        assert_eq!(capacity.index(0).map(Index::get), Ok(0));
        assert_eq!(capacity.index(15).map(Index::get), Ok(15));
        assert_eq!(capacity.index(16), Err(IndexOutOfRange { idx: 16, entries: 16 }));
        assert!(capacity.index(u64::from(u32::MAX) + 1).is_err());
    }
}
