//! Status values and their registry ("Status Types", "Status Types Values").

use std::fmt;

use thiserror::Error;

use super::Bits;

/// The value of one entry. It may be too large for a list's width: [`StatusSet`] checks that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u8);

impl Status {
    /// The Referenced Token is valid, correct or legal.
    pub const VALID: Self = Self(0x00);
    /// The Referenced Token is revoked, annulled, taken back, recalled or cancelled.
    pub const INVALID: Self = Self(0x01);
    /// The Referenced Token is temporarily invalid, hanging, or debarred from privilege.
    pub const SUSPENDED: Self = Self(0x02);
    /// The values whose meaning the application defines. A pool declares those that it uses.
    pub const APPLICATION_SPECIFIC: [Self; 5] = [Self(0x03), Self(0x0C), Self(0x0D), Self(0x0E), Self(0x0F)];

    /// The status with this number.
    pub const fn new(value: u8) -> Self {
        Self(value)
    }

    /// The status as a number.
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::VALID => f.write_str("VALID"),
            Self::INVALID => f.write_str("INVALID"),
            Self::SUSPENDED => f.write_str("SUSPENDED"),
            other if Self::APPLICATION_SPECIFIC.contains(&other) => {
                write!(f, "APPLICATION_SPECIFIC ({:#04x})", other.0)
            }
            other => write!(f, "UNREGISTERED ({:#04x})", other.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({:#04x})", self.0)
    }
}

/// Which statuses the lists of a pool may hold: the registered ones that fit, and the declared application-specific ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusSet {
    bits: Bits,
    /// Bit n is set if status n is accepted. All registered values are below 16.
    accepted: u16,
}

/// Why a value may not be written into a list.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StatusRefused {
    /// The entry has too few bits for it.
    #[error("the list has {bits} bit(s) per entry and holds 0 to {max}; use a pool with more bits", max = bits.status_max())]
    TooWide {
        /// The given value.
        value: u64,
        /// Bits per entry of the list.
        bits: Bits,
    },
    /// The value is application-specific and the pool does not declare it.
    #[error(
        "this application-specific status is not declared by the pool; add it to its `application-statuses`"
    )]
    Undeclared {
        /// The given value.
        value: u8,
    },
    /// The registry reserves the value.
    #[error("this value is reserved by the registry of status types; registered are 0, 1, 2, 3 and 12 to 15")]
    Reserved {
        /// The given value.
        value: u8,
    },
}

impl StatusSet {
    /// The registered statuses that fit in `bits`, and those of `declared`, which must be application-specific.
    pub fn new(bits: Bits, declared: &[u8]) -> Result<Self, StatusRefused> {
        let registered = [Status::VALID, Status::INVALID, Status::SUSPENDED];
        let mut accepted = 0;
        for status in registered.into_iter().filter(|status| status.0 <= bits.status_max()) {
            accepted |= 1 << status.0;
        }
        for &value in declared {
            if value > bits.status_max() {
                return Err(StatusRefused::TooWide { value: value.into(), bits });
            }
            if !Status::APPLICATION_SPECIFIC.contains(&Status(value)) {
                return Err(StatusRefused::Reserved { value });
            }
            accepted |= 1 << value;
        }
        Ok(Self { bits, accepted })
    }

    /// Returns the status with this value, if the lists may hold it.
    pub fn check(&self, value: u64) -> Result<Status, StatusRefused> {
        let fits = u8::try_from(value).ok().filter(|value| *value <= self.bits.status_max());
        let value = fits.ok_or(StatusRefused::TooWide { value, bits: self.bits })?;
        if value < 16 && self.accepted & (1 << value) != 0 {
            Ok(Status(value))
        } else if Status::APPLICATION_SPECIFIC.contains(&Status(value)) {
            Err(StatusRefused::Undeclared { value })
        } else {
            Err(StatusRefused::Reserved { value })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_decides_which_values_are_accepted() {
        let plain = StatusSet::new(Bits::Eight, &[]).unwrap();
        let declaring = StatusSet::new(Bits::Eight, &[3, 12, 15]).unwrap();
        for value in 0..=255 {
            assert_eq!(plain.check(value).is_ok(), value <= 2, "{value}");
            assert_eq!(declaring.check(value).is_ok(), [0, 1, 2, 3, 12, 15].contains(&value), "{value}");
        }
        assert_eq!(plain.check(3), Err(StatusRefused::Undeclared { value: 3 }));
        assert_eq!(plain.check(0x0B), Err(StatusRefused::Reserved { value: 0x0B }));
        assert_eq!(plain.check(0x10), Err(StatusRefused::Reserved { value: 0x10 }));
    }

    #[test]
    fn value_must_fit_the_width() {
        let one = StatusSet::new(Bits::One, &[]).unwrap();
        assert_eq!(one.check(1), Ok(Status::INVALID));
        assert_eq!(one.check(2), Err(StatusRefused::TooWide { value: 2, bits: Bits::One }));
        assert_eq!(one.check(257), Err(StatusRefused::TooWide { value: 257, bits: Bits::One }));
        assert!(StatusSet::new(Bits::One, &[3]).is_err());
    }

    #[test]
    fn declaring_a_reserved_value_is_refused() {
        assert_eq!(StatusSet::new(Bits::Four, &[4]), Err(StatusRefused::Reserved { value: 4 }));
        assert_eq!(StatusSet::new(Bits::Four, &[1]), Err(StatusRefused::Reserved { value: 1 }));
    }
}
