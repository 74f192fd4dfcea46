//! What a status list pool is: its name, and the shape that its lists share and that never changes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::status_list::{BaseUri, Capacity, Status, StatusSet};

/// A pool's name: 1 to 64 of a-z, 0-9, `_` and `-`, so it is safe in paths, file names and log lines. A clone shares the
/// text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(Arc<str>);

/// A text that cannot be a pool's name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a pool's name is 1 to {max} of a-z, 0-9, `_` and `-`, got `{0}`", max = PoolId::LENGTH_MAX)]
pub struct InvalidPoolId(String);

impl PoolId {
    const LENGTH_MAX: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PoolId {
    type Err = InvalidPoolId;

    fn from_str(name: &str) -> Result<Self, InvalidPoolId> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        match (1..=Self::LENGTH_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            true => Ok(Self(name.into())),
            false => Err(InvalidPoolId(name.to_owned())),
        }
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What all lists of a pool have in common. The store keeps it, and refuses to serve a pool whose settings differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// The pool's name.
    pub id: PoolId,
    /// What every `uri` of its lists begins with. It is part of each issued credential.
    pub public_url: BaseUri,
    /// Entries of a list, and bits of an entry.
    pub capacity: Capacity,
    /// The status of an entry before its first update ("Default Values and Double Allocation").
    pub default_status: Status,
    /// A status that is final: no update may change it. None if there is no such status.
    pub final_status: Option<Status>,
    /// Which statuses updates may set. The only part that the settings may change later.
    pub statuses: StatusSet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_ids_are_safe_names() {
        for name in ["demo", "c4157bd6-9415-4cdb-af57-0fb91781993b", "a_b-9"] {
            assert!(name.parse::<PoolId>().is_ok(), "{name}");
        }
        for name in ["", "Demo", "a/b", "..", "a b", &"x".repeat(65)] {
            assert!(name.parse::<PoolId>().is_err(), "{name}");
        }
    }
}
