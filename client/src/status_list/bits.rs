//! `bits`: how many bits one entry of a Status List has ("Status List").

use std::fmt;

use thiserror::Error;

/// Bits per entry of a list. The specification allows these four widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Bits {
    /// Two values: valid and invalid.
    One = 1,
    /// Four values: suspension and one application-specific status as well.
    Two = 2,
    /// Sixteen values.
    Four = 4,
    /// 256 values.
    Eight = 8,
}

/// A number that is not one of the four widths.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("bits must be 1, 2, 4 or 8, got {0}")]
pub struct InvalidBits(pub u64);

impl Bits {
    /// The four widths, narrowest first.
    pub const ALL: [Self; 4] = [Self::One, Self::Two, Self::Four, Self::Eight];

    /// The number itself: 1, 2, 4 or 8.
    pub const fn get(self) -> u8 {
        self as u8
    }

    /// The largest value an entry can hold: 1, 3, 15 or 255.
    pub const fn status_max(self) -> u8 {
        u8::MAX >> (8 - self as u8)
    }

    /// How many entries one byte holds: 8, 4, 2 or 1.
    pub const fn entries_per_byte(self) -> u32 {
        8 / self as u32
    }
}

impl TryFrom<u64> for Bits {
    type Error = InvalidBits;

    fn try_from(bits: u64) -> Result<Self, InvalidBits> {
        Self::ALL.into_iter().find(|b| u64::from(b.get()) == bits).ok_or(InvalidBits(bits))
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_widths_are_accepted() {
        for bits in 0..=300 {
            assert_eq!(Bits::try_from(bits).is_ok(), [1, 2, 4, 8].contains(&bits), "{bits}");
        }
        assert_eq!(Bits::try_from(3).unwrap_err().to_string(), "bits must be 1, 2, 4 or 8, got 3");
    }

    #[test]
    fn status_max_is_all_ones() {
        assert_eq!(Bits::ALL.map(Bits::status_max), [1, 3, 15, 255]);
    }
}
