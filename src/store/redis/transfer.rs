//! Exports and imports whole lists, for a move from one store to another.

use deadpool_redis::redis::{Pipeline, cmd};

use super::RedisStore;
use super::reply::{damaged, order_key, parsed, part, spread_text};
use super::scripts::{self, Call};
use crate::base::clock::Timestamp;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{Capacity, ListId, Status, StatusSet};
use crate::store::values::{ListTransfer, StoreError};

impl RedisStore {
    pub(in crate::store) async fn shape_of(&self, pool: &PoolId) -> Result<Option<PoolShape>, StoreError> {
        let fields = ["public-url", "bits", "size", "default-status", "final-status"];
        let get = cmd("HMGET").arg(self.0.keys.pool(pool)).arg(&fields[..]).take();
        let stored: Vec<Option<String>> = self.read_one(get).await?;
        let Ok(stored) = <[String; 5]>::try_from(stored.into_iter().flatten().collect::<Vec<_>>()) else {
            return Ok(None);
        };
        let [public_url, bits, size, default, last] = stored;
        let bits = parsed::<u64>(&bits)?.try_into().map_err(|error| damaged(&error))?;
        let last = if last == "null" { None } else { Some(Status::new(parsed(&last)?)) };
        Ok(Some(PoolShape {
            id: pool.clone(),
            public_url: parsed(&public_url)?,
            capacity: Capacity::new(parsed(&size)?, bits).map_err(|error| damaged(&error))?,
            default_status: Status::new(parsed(&default)?),
            final_status: last,
            statuses: StatusSet::new(bits, &[]).map_err(|error| damaged(&error))?,
        }))
    }

    pub(in crate::store) async fn export_list(&self, list: ListId) -> Result<ListTransfer, StoreError> {
        let record = self.list(list).await?.ok_or(StoreError::NoSuchList(list))?;
        let snapshot = self.snapshot(list).await?;
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("HGET").arg(self.0.keys.list(&record.pool, &list)).arg("key");
        commands.cmd("ZSCORE").arg(self.0.keys.dirty(&record.pool)).arg(list.to_string());
        let answers = self.0.link.read(&commands).await?;
        let key: Option<Vec<u8>> = part(&answers, 0)?;
        let key = key.map(order_key).transpose()?;
        let dirty_since = part::<Option<u64>>(&answers, 1)?.map(Timestamp::from_millis);
        Ok(ListTransfer { record, key, dirty_since, array: snapshot.array })
    }

    pub(in crate::store) async fn import_list(&self, list: &ListTransfer) -> Result<bool, StoreError> {
        let ListTransfer { record, key, dirty_since, array } = list;
        let (keys, pool) = (&self.0.keys, &record.pool);
        let name = cmd("SET").arg(keys.pool_of(&record.id)).arg(pool.as_str()).take();
        self.0.link.write_plain(name).await?;
        let default = self.shape(pool)?.default_status;
        let filled = crate::status_list::StatusArray::filled(array.capacity(), default);
        let relative: Vec<u8> =
            array.as_bytes().iter().zip(filled.as_bytes()).map(|(byte, filled)| byte ^ filled).collect();
        let untouched = relative.iter().all(|byte| *byte == 0);
        let published = record.published;
        let or_empty = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let call = Call::new(
            &scripts::IMPORT_LIST,
            &[
                keys.pool(pool),
                keys.lists(pool),
                keys.open(pool, &record.owner),
                keys.due(pool),
                keys.dirty(pool),
                keys.list(pool, &record.id),
                keys.bytes(pool, &record.id),
                keys.spreads(pool),
            ],
        )
        .arg(record.id.to_string())
        .arg(key.as_ref().map_or(&[][..], |key| &key.as_bytes()[..]))
        .arg(record.owner.as_str())
        .arg(record.leased)
        .arg(record.lease.0)
        .arg(u8::from(record.open))
        .arg(record.version.0)
        .arg(or_empty(published.map(|published| published.version.0)))
        .arg(published.map_or(0, |published| published.iat.secs()))
        .arg(published.map_or(0, |published| published.resign_at.secs()))
        .arg(or_empty(dirty_since.map(Timestamp::millis)))
        .arg(if untouched { &[][..] } else { &relative[..] })
        .arg(or_empty(record.leased_at.map(Timestamp::millis)))
        .arg(u8::from(record.retired))
        .arg(record.spread.as_ref().map(spread_text).unwrap_or_default());
        match self.write::<i64>(&call).await? {
            1 => Ok(true),
            0 => Ok(false),
            _ => Err(StoreError::NoSuchPool(pool.clone())),
        }
    }
}
