//! A status in a request body, and the requested change.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::PoolApi;
use super::problem::Problem;
use crate::status_list::{ListId, Status, StatusRefused};
use crate::store::StatusChange;

/// A status as clients write it: its number, or its registered name.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(as = Status, example = "invalid")]
#[serde(
    untagged,
    expecting = "`value` must be a number from 0, or \"valid\", \"invalid\", \"revoked\" or \"suspended\""
)]
pub(super) enum Value {
    // A negative one is no status, which is another error than a body that cannot be read.
    #[schema(value_type = u64)]
    Number(i64),
    Name(Name),
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(as = StatusName)]
#[serde(rename_all = "lowercase")]
pub(super) enum Name {
    Valid,
    Invalid,
    /// The same as `invalid`.
    Revoked,
    Suspended,
}

/// Another name for `Value`, which utoipa would take for serde_json's.
pub(super) type NewStatus = Value;

/// Reads the status that the caller expects. It may be left out but not be null, so that a client that lost what it expected
/// never changes a status unconditionally.
pub(super) fn expected<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let must = "`expected` must be a number from 0, or \"valid\", \"invalid\", \"revoked\" or \"suspended\"";
    Value::deserialize(deserializer).map(Some).map_err(|_| D::Error::custom(must))
}

/// An index as clients write it. A negative one is no index, which is another error than a body that cannot be read.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct WrittenIndex(i128);

impl WrittenIndex {
    /// Returns the index. `uri` is that of the list.
    pub(super) fn number(self, uri: &str) -> Result<u64, Problem> {
        u64::try_from(self.0).map_err(|_| Problem::index_out_of_bounds(uri, self.0, None))
    }
}

/// One change, as the client wrote it. Index and statuses are unchecked.
pub(super) struct Requested {
    pub(super) list: ListId,
    pub(super) index: u64,
    pub(super) value: u64,
    /// The status that the client believes is stored.
    pub(super) expected: Option<u64>,
}

impl Value {
    /// Returns the number of the status. `uri` is that of the list.
    pub(super) fn number(&self, uri: &str) -> Result<u64, Problem> {
        let status = match self {
            Self::Number(number) => {
                let negative = |_| Problem::value_out_of_range(uri, number, &"a status is a number from 0");
                return u64::try_from(*number).map_err(negative);
            }
            Self::Name(Name::Valid) => Status::VALID,
            Self::Name(Name::Invalid | Name::Revoked) => Status::INVALID,
            Self::Name(Name::Suspended) => Status::SUSPENDED,
        };
        Ok(status.value().into())
    }
}

impl Requested {
    /// Returns the change if the pool's lists have the index and may hold the value. Any status that fits an entry may be
    /// expected: it may be stored although the settings no longer declare it.
    pub(super) fn checked(&self, pool: &PoolApi) -> Result<StatusChange, Problem> {
        let &Self { list, index, value, expected } = self;
        let uri = || pool.base.join(&list);
        let out = |_| Problem::index_out_of_bounds(&uri(), index, Some(pool.capacity.entries()));
        let index = pool.capacity.index(index).map_err(out)?;
        let status =
            pool.statuses.check(value).map_err(|why| Problem::value_out_of_range(&uri(), value, &why))?;
        let bits = pool.capacity.bits();
        let fits = |value: u64| u8::try_from(value).ok().filter(|value| *value <= bits.status_max());
        let expected = expected
            .map(|value| match fits(value) {
                Some(status) => Ok(Status::new(status)),
                None => {
                    Err(Problem::value_out_of_range(&uri(), value, &StatusRefused::TooWide { value, bits }))
                }
            })
            .transpose()?;
        Ok(StatusChange { list, index, status, expected })
    }
}
