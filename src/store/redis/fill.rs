//! Sets every entry of a list with a few arguments, whatever the size of the list: at once, or as a spread.

use super::reply::{damaged, spread_begins, spread_text};
use super::scripts::{self, Call};
use super::{RedisStore, bit_offset};
use crate::base::clock::Timestamp;
use crate::model::order::OrderKey;
use crate::status_list::{Index, ListId, Status, StatusArray};
use crate::store::values::{Refusal, StoreError};
use crate::store::{Applied, Deadline, Spread};

impl RedisStore {
    pub(in crate::store) async fn fill_list(
        &self,
        list: ListId,
        status: Status,
        beats: u32,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let Some((pool, owner)) = self.owner_of(list).await? else {
            return Ok(Err(Refusal::NoSuchList { list }));
        };
        let shape = self.shape(&pool)?;
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
            keys.spreads(&pool),
        ];
        let spread = match beats > 1 {
            true => spread_text(&Spread { value: status, beats, key: OrderKey::random(), done: 0 }),
            false => String::new(),
        };
        let call = Call::new(&scripts::FILL_LIST, &keys)
            .arg(list.to_string())
            .arg(now.millis())
            .arg(capacity.bits().get())
            .arg(capacity.bytes())
            .arg(&filled.as_bytes()[..1])
            .arg(last.map(|last| relative(last).value().to_string()).unwrap_or_default())
            .arg(u8::from(status != default))
            .arg(spread)
            .arg(spread_begins(status, beats))
            .arg(last.map(|last| format!("{} ", last.value())).unwrap_or_default());
        let reply: Vec<u64> = self.write_before(&call, deadline).await?;
        match (&reply[..], shape.final_status) {
            ([0], _) => Ok(Ok(())),
            ([1], _) => Ok(Err(Refusal::NoSuchList { list })),
            ([2], _) => Ok(Err(Refusal::Retired { list })),
            ([3, idx], Some(status)) => {
                let index = capacity.index(*idx).map_err(|error| damaged(&error))?;
                Ok(Err(Refusal::FinalStatus { list, index, status }))
            }
            _ => Err(damaged("the script returned an unknown outcome")),
        }
    }

    pub(in crate::store) async fn advance_spread(
        &self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let pool = self.pool_of(list).await?;
        let shape = self.shape(&pool)?;
        let (keys, capacity) = (&self.0.keys, shape.capacity);
        let advanced = Some(spread.advanced(entries)).filter(|spread| spread.done < capacity.entries());
        let keys =
            [keys.dirty(&pool), keys.spreads(&pool), keys.list(&pool, &list), keys.bytes(&pool, &list)];
        let offsets: Vec<_> = entries.iter().map(|index| bit_offset(capacity, *index)).collect();
        let call = Call::new(&scripts::ADVANCE_SPREAD, &keys)
            .arg(list.to_string())
            .arg(now.millis())
            .arg(capacity.bits().get())
            .arg(capacity.bytes())
            .arg(spread_text(spread))
            .arg(advanced.as_ref().map(spread_text).unwrap_or_default())
            .arg(spread.value.value() ^ shape.default_status.value())
            .arg(offsets);
        self.write(&call).await
    }
}
