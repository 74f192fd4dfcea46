//! A status on the command line: a registered name or a number. The service checks whether the list can hold it.

use std::fmt;
use std::str::FromStr;

use crate::status_list::Status;

/// A status in human notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::cli) struct StatusValue(pub(in crate::cli) u64);

impl FromStr for StatusValue {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let status = match text.to_ascii_lowercase().as_str() {
            "valid" => Status::VALID,
            "revoked" | "invalid" => Status::INVALID,
            "suspended" => Status::SUSPENDED,
            number => {
                let number = number.parse().map(Self);
                return number.map_err(|_| "a value is valid, revoked, invalid, suspended, or a number");
            }
        };
        Ok(Self(status.value().into()))
    }
}

impl fmt::Display for StatusValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.pad("valid (0)"),
            1 => f.pad("revoked (1)"),
            2 => f.pad("suspended (2)"),
            other => f.pad(&other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_names_or_numbers() {
        for (text, value) in [("valid", 0), ("revoked", 1), ("INVALID", 1), ("suspended", 2), ("15", 15)] {
            assert_eq!(text.parse(), Ok(StatusValue(value)));
        }
        for text in ["", "-1", "revoke", "1.0"] {
            assert!(text.parse::<StatusValue>().unwrap_err().contains("suspended"), "{text}");
        }
    }
}
