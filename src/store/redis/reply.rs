//! Parses replies into values.

use std::fmt;
use std::str::FromStr;

use deadpool_redis::redis::{FromRedisValue, ParsingError, Value};

use crate::base::clock::{NumericDate, Timestamp};
use crate::model::order::OrderKey;
use crate::model::pool::PoolId;
use crate::status_list::{ListId, Status};
use crate::store::Spread;
use crate::store::values::{DueMark, Lease, ListRecord, Publication, StoreError, Version};

/// The fields of a list that make up its record and its [`due_mark`].
pub(super) const RECORD: [&str; 13] = [
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
    "spread",
    "due-mark",
];

/// Parses the record of a list; `None` if there is no such list.
pub(super) fn record(
    list: ListId,
    pool: &PoolId,
    fields: &[Value],
) -> Result<Option<ListRecord>, StoreError> {
    let owner: Option<String> = part(fields, 0)?;
    let Some(owner) = owner else { return Ok(None) };
    let version: Option<u64> = part(fields, 5)?;
    let published = match version {
        Some(version) => Some(Publication {
            version: Version(version),
            iat: NumericDate::from_secs(part(fields, 6)?),
            resign_at: NumericDate::from_secs(part(fields, 7)?),
        }),
        None => None,
    };
    Ok(Some(ListRecord {
        id: list,
        pool: pool.clone(),
        lease: Lease(part(fields, 1)?),
        leased: part(fields, 2)?,
        owner: parsed(&owner)?,
        open: part(fields, 3)?,
        version: Version(part(fields, 4)?),
        published,
        leased_at: part::<Option<u64>>(fields, 8)?.map(Timestamp::from_millis),
        retired: part::<Option<bool>>(fields, 9)?.unwrap_or_default(),
        sealed: part::<Option<Vec<u8>>>(fields, 10)?.is_none(),
        spread: part::<Option<String>>(fields, 11)?.map(|text| spread(&text)).transpose()?,
    }))
}

/// Parses the due mark of a list: 0 if the list was never made due at once.
pub(super) fn due_mark(fields: &[Value]) -> Result<DueMark, StoreError> {
    Ok(DueMark(part::<Option<u64>>(fields, 12)?.unwrap_or_default()))
}

/// The stored form of a spread. Equal texts are equal spreads, so a script only compares them.
pub(super) fn spread_text(spread: &Spread) -> String {
    let Spread { value, beats, key, done } = spread;
    format!("{}{:032x} {done}", spread_begins(*value, *beats), u128::from_be_bytes(*key.as_bytes()))
}

/// The common beginning of the texts of all spreads with this value and these beats.
pub(super) fn spread_begins(value: Status, beats: u32) -> String {
    format!("{} {beats} ", value.value())
}

fn spread(text: &str) -> Result<Spread, StoreError> {
    let words: Vec<_> = text.split(' ').collect();
    let [value, beats, key, done] = words[..] else {
        return Err(damaged("a spread has the wrong number of parts"));
    };
    let key = u128::from_str_radix(key, 16).map_err(|error| damaged(&error))?.to_be_bytes();
    let key = OrderKey::from_bytes(key);
    Ok(Spread { value: Status::new(parsed(value)?), beats: parsed(beats)?, key, done: parsed(done)? })
}

/// Parses a permutation key.
pub(super) fn order_key(bytes: Vec<u8>) -> Result<OrderKey, StoreError> {
    let key = bytes.try_into().map_err(|_| damaged("a permutation key is not 16 bytes long"))?;
    Ok(OrderKey::from_bytes(key))
}

/// Parses part `n` of a reply; a missing part counts as nil.
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
    StoreError::Damaged(format!("Redis holds data that this program never writes: {what}"))
}
