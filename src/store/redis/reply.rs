//! From replies to values.

use std::fmt;
use std::str::FromStr;

use deadpool_redis::redis::{FromRedisValue, ParsingError, Value};

use crate::pool::PoolId;
use crate::status_list::ListId;
use crate::store::model::{ListRecord, Publication, StoreError};

/// The fields of a list that make its record.
pub(super) const RECORD: [&str; 11] = [
    "owner",
    "lease",
    "leased",
    "open",
    "version",
    "published",
    "iat",
    "resign-at",
    "leased-at",
    "retired",
    "key",
];

/// The record of a list; `None` if there is no such list.
pub(super) fn record(
    list: ListId,
    pool: &PoolId,
    fields: &[Value],
) -> Result<Option<ListRecord>, StoreError> {
    let owner: Option<String> = part(fields, 0)?;
    let Some(owner) = owner else { return Ok(None) };
    let version: Option<u64> = part(fields, 5)?;
    let published = match version {
        Some(version) => Some(Publication { version, iat: part(fields, 6)?, resign_at: part(fields, 7)? }),
        None => None,
    };
    Ok(Some(ListRecord {
        id: list,
        pool: pool.clone(),
        lease: part(fields, 1)?,
        leased: part(fields, 2)?,
        owner: parsed(&owner)?,
        open: part(fields, 3)?,
        version: part(fields, 4)?,
        published,
        leased_at: part(fields, 8)?,
        retired: part::<Option<bool>>(fields, 9)?.unwrap_or_default(),
        sealed: part::<Option<Vec<u8>>>(fields, 10)?.is_none(),
    }))
}

/// The part of an answer at `n`; missing ones count as nil.
pub(super) fn part<T: FromRedisValue>(answer: &[Value], n: usize) -> Result<T, StoreError> {
    T::from_redis_value(answer.get(n).cloned().unwrap_or(Value::Nil)).map_err(unexpected)
}

pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error| damaged(&error))
}

pub(super) fn unexpected(error: ParsingError) -> StoreError {
    damaged(&error)
}

pub(super) fn damaged(what: &(impl fmt::Display + ?Sized)) -> StoreError {
    StoreError::Unavailable(format!("Redis holds what this program never writes: {what}"))
}
