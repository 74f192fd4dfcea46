//! The id of a running instance of the service. The store keeps it with what belongs to that instance.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// One running instance of the service, as the store knows it: it owns the lists that it gives references of, and holds the
/// right to publish. Keeps its id across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceId(String);

/// A text that cannot be an instance's id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an instance's id is 1 to {max} of a-z, 0-9 and `-`, got `{0}`", max = InstanceId::LENGTH_MAX)]
pub struct InvalidInstanceId(String);

impl InstanceId {
    const LENGTH_MAX: usize = 64;

    /// A new, unique id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = InvalidInstanceId;

    fn from_str(id: &str) -> Result<Self, InvalidInstanceId> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match (1..=Self::LENGTH_MAX).contains(&id.len()) && id.bytes().all(allowed) {
            true => Ok(Self(id.to_owned())),
            false => Err(InvalidInstanceId(id.to_owned())),
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
