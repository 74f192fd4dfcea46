//! The packed array of statuses: entries fill a byte from the least significant bit ("Status List").

use thiserror::Error;

use super::{Capacity, Index, Status};

/// All statuses of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusArray {
    capacity: Capacity,
    bytes: Vec<u8>,
}

/// Bytes that are not the array of a list of this capacity.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the array of this list has {expected} bytes, got {got}")]
pub struct WrongLength {
    /// Bytes that the array must have.
    pub expected: usize,
    /// Bytes of the given array.
    pub got: usize,
}

impl StatusArray {
    /// An array whose entries all have the status `default`, which must fit the width: excess bits are dropped.
    pub fn filled(capacity: Capacity, default: Status) -> Self {
        let bits = u32::from(capacity.bits().get());
        let value = default.value() & capacity.bits().status_max();
        let byte =
            (0..capacity.bits().entries_per_byte()).fold(0, |byte, entry| byte | value << (entry * bits));
        Self { capacity, bytes: vec![byte; capacity.bytes()] }
    }

    /// The array with these bytes. Fails if their number is not that of `capacity`.
    pub fn from_bytes(capacity: Capacity, bytes: Vec<u8>) -> Result<Self, WrongLength> {
        match bytes.len() == capacity.bytes() {
            true => Ok(Self { capacity, bytes }),
            false => Err(WrongLength { expected: capacity.bytes(), got: bytes.len() }),
        }
    }

    /// Number and width of the entries.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The packed bytes, ready to be compressed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The status at `index`.
    pub fn get(&self, index: Index) -> Status {
        let (byte, shift) = self.place(index);
        Status::new(self.bytes[byte] >> shift & self.capacity.bits().status_max())
    }

    /// Writes `status` at `index` and returns the status before. Drops excess bits of `status`; keeps the neighbours.
    pub fn set(&mut self, index: Index, status: Status) -> Status {
        let before = self.get(index);
        let (byte, shift) = self.place(index);
        let mask = self.capacity.bits().status_max();
        self.bytes[byte] = self.bytes[byte] & !(mask << shift) | (status.value() & mask) << shift;
        before
    }

    /// The number of the byte that holds `index`.
    pub fn byte_of(&self, index: Index) -> usize {
        self.place(index).0
    }

    /// The first index that has this status.
    pub fn find(&self, status: Status) -> Option<Index> {
        let per_byte = u64::from(self.capacity.bits().entries_per_byte());
        let (bits, mask) = (u32::from(self.capacity.bits().get()), self.capacity.bits().status_max());
        let has = |byte: u8| (0..8 / bits).any(|entry| byte >> (entry * bits) & mask == status.value());
        let bytes: [bool; 256] = std::array::from_fn(|byte| has(byte as u8));
        let byte = self.bytes.iter().position(|byte| bytes[usize::from(*byte)])? as u64;
        let mut entries = (byte * per_byte..).map_while(|entry| self.capacity.index(entry).ok());
        entries.find(|index| self.get(*index) == status)
    }

    /// Every index whose status differs in `newer`, with the old and the new status. Both arrays must have the same
    /// capacity.
    pub fn changes<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = (Index, Status, Status)> + 'a {
        const STRIDE: usize = 4096;
        let per_byte = self.capacity.bits().entries_per_byte() as u64;
        let differing_bytes = self
            .bytes
            .chunks(STRIDE)
            .zip(newer.bytes.chunks(STRIDE))
            .enumerate()
            .filter(|(_, (old, new))| old != new)
            .flat_map(|(chunk, (old, new))| {
                old.iter()
                    .zip(new)
                    .enumerate()
                    .filter(|(_, (old, new))| old != new)
                    .map(move |(at, _)| chunk * STRIDE + at)
            });
        differing_bytes
            .flat_map(move |byte| {
                (0..per_byte)
                    .filter_map(move |entry| self.capacity.index(byte as u64 * per_byte + entry).ok())
            })
            .map(|index| (index, self.get(index), newer.get(index)))
            .filter(|(_, old, new)| old != new)
    }

    /// How many entries have each status: item `n` counts those of value `n`.
    pub fn counts(&self) -> Vec<u32> {
        let mut bytes_seen = [0_u32; 256];
        for &byte in &self.bytes {
            bytes_seen[usize::from(byte)] += 1;
        }
        let (bits, mask) = (u32::from(self.capacity.bits().get()), self.capacity.bits().status_max());
        let mut counts = vec![0; usize::from(mask) + 1];
        for (byte, seen) in bytes_seen.into_iter().enumerate() {
            for entry in 0..self.capacity.bits().entries_per_byte() {
                counts[byte >> (entry * bits) & usize::from(mask)] += seen;
            }
        }
        counts
    }

    fn place(&self, index: Index) -> (usize, u32) {
        let (per_byte, bits) =
            (self.capacity.bits().entries_per_byte(), u32::from(self.capacity.bits().get()));
        ((index.get() / per_byte) as usize, index.get() % per_byte * bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::status_list::{Bits, vectors};

    fn array_of(vector: &serde_json::Value) -> StatusArray {
        let bits = Bits::try_from(vector["bits"].as_u64().unwrap()).unwrap();
        let capacity = Capacity::new(vector["list_length"].as_u64().unwrap(), bits).unwrap();
        let mut array = StatusArray::filled(capacity, Status::VALID);
        for pair in vector["nonzero"].as_array().unwrap() {
            let index = capacity.index(pair[0].as_u64().unwrap()).unwrap();
            array.set(index, Status::new(u8::try_from(pair[1].as_u64().unwrap()).unwrap()));
        }
        array
    }

    #[test]
    fn packs_like_every_vector() {
        for vector in vectors::all()["encodings"].as_array().unwrap() {
            let array = array_of(vector);
            let zlib = vectors::hex(vector["lst_zlib_hex"].as_str().unwrap());
            let theirs = crate::status_list::lst::inflate(&zlib, 1 << 21).unwrap();
            assert_eq!(array.as_bytes(), theirs, "{}", vector["name"]);
            if let Some(hex) = vector["uncompressed_hex"].as_str() {
                assert_eq!(array.as_bytes(), vectors::hex(hex));
            }
        }
    }

    #[test]
    fn second_entry_of_four_bits_is_the_high_nibble() {
        let capacity = Capacity::new(2, Bits::Four).unwrap();
        let mut array = StatusArray::filled(capacity, Status::VALID);
        array.set(capacity.index(1).unwrap(), Status::new(0xA));
        assert_eq!(array.as_bytes(), [0xA0]);
    }

    #[test]
    fn default_fills_every_entry() {
        for bits in Bits::ALL {
            let array = StatusArray::filled(Capacity::new(64, bits).unwrap(), Status::new(bits.status_max()));
            assert!(array.as_bytes().iter().all(|byte| *byte == 0xFF));
        }
    }

    #[test]
    fn wrong_length_is_refused() {
        let capacity = Capacity::new(16, Bits::One).unwrap();
        assert_eq!(StatusArray::from_bytes(capacity, vec![0; 3]), Err(WrongLength { expected: 2, got: 3 }));
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector_of_numbers(
            width in 0_usize..4,
            writes in prop::collection::vec((0_u64..20_000, any::<u8>()), 0..200),
        ) {
            let capacity = Capacity::new(20_000, Bits::ALL[width]).unwrap();
            let before = StatusArray::filled(capacity, Status::VALID);
            let mut array = before.clone();
            let mut model = vec![0_u8; 20_000];
            for (idx, value) in writes {
                let value = value & capacity.bits().status_max();
                let old = array.set(capacity.index(idx).unwrap(), Status::new(value));
                prop_assert_eq!(old.value(), std::mem::replace(&mut model[idx as usize], value));
            }
            for (idx, value) in model.iter().enumerate() {
                prop_assert_eq!(array.get(capacity.index(idx as u64).unwrap()).value(), *value);
            }
            let changed: Vec<_> = before.changes(&array).map(|(index, _, new)| (index.get() as usize, new.value())).collect();
            let expected: Vec<_> = model.iter().copied().enumerate().filter(|(_, value)| *value != 0).collect();
            prop_assert_eq!(changed, expected);
            for value in 0..=capacity.bits().status_max() {
                let first = model.iter().position(|held| *held == value);
                let found = array.find(Status::new(value)).map(|index| index.get() as usize);
                prop_assert_eq!(found, first);
            }
            for (value, count) in array.counts().into_iter().enumerate() {
                prop_assert_eq!(count as usize, model.iter().filter(|held| usize::from(**held) == value).count());
            }
        }
    }
}
