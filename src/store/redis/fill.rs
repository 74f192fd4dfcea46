//! Setting every entry of a list: a few arguments, whatever the size of the list.

use super::RedisStore;
use super::reply::damaged;
use super::scripts::{self, Call};
use crate::clock::Timestamp;
use crate::status_list::{ListId, Status, StatusArray};
use crate::store::Applied;
use crate::store::model::{Refusal, StoreError};

impl RedisStore {
    pub(in crate::store) async fn fill_list(
        &self,
        list: ListId,
        value: u64,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let Some((pool, owner)) = self.owner_of(list).await? else {
            return Ok(Err(Refusal::NoSuchList { list }));
        };
        let shape = self.shape(&pool)?;
        let status = match shape.statuses.check(value) {
            Ok(status) => status,
            Err(why) => return Ok(Err(Refusal::ValueRefused { list, idx: 0, value, why })),
        };
        let (default, capacity) = (shape.default_status, shape.capacity);
        let relative = |status: Status| Status::new(status.value() ^ default.value());
        let filled = StatusArray::filled(capacity, relative(status));
        let last = shape.final_status.filter(|last| *last != status);
        let keys = &self.0.keys;
        let keys = [
            keys.pool(&pool),
            keys.open(&pool, &owner),
            keys.list(&pool, &list),
            keys.dirty(&pool),
            keys.bytes(&pool, &list),
        ];
        let call = Call::new(&scripts::FILL_LIST, &keys)
            .arg(list.to_string())
            .arg(now.millis())
            .arg(capacity.bits().get())
            .arg(capacity.bytes())
            .arg(&filled.as_bytes()[..1])
            .arg(last.map(|last| relative(last).value().to_string()).unwrap_or_default())
            .arg(u8::from(status != default));
        let reply: Vec<u64> = self.write(&call).await?;
        match (&reply[..], shape.final_status) {
            ([0], _) => Ok(Ok(())),
            ([1], _) => Ok(Err(Refusal::NoSuchList { list })),
            ([2], _) => Ok(Err(Refusal::Retired { list })),
            ([3, idx], Some(status)) => Ok(Err(Refusal::FinalStatus { list, idx: *idx, status })),
            _ => Err(damaged("the script knows an outcome that this program does not")),
        }
    }
}
