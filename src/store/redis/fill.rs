//! Sets every entry of a list with a few arguments, whatever the size of the list: at once, or as a spread.

use super::reply::{damaged, spread_begins, spread_text};
use super::scripts::{self, Call};
use super::{RedisStore, bit_offset};
use crate::base::clock::Timestamp;
use crate::model::order::OrderKey;
use crate::status_list::{Index, ListId, Status, StatusArray};
use crate::store::values::{Refusal, Snapshot, StoreError, Version};
use crate::store::{Applied, Deadline, Spread};

/// How often the entries of a list are read before giving up, because the list changes meanwhile.
const LOOKS_MAX: usize = 10;

impl RedisStore {
    /// Reads the entries only if the list may have the final status: of lists that have it, and of those whose `no-final` does not
    /// keep up with their version, because they were spread, or changed by an earlier version of this program.
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
        let call = |seen: Option<Version>| {
            Call::new(&scripts::FILL_LIST, &keys)
                .arg(list.to_string())
                .arg(now.millis())
                .arg(seen.map(|version| version.0.to_string()).unwrap_or_default())
                .arg(capacity.bytes())
                .arg(&filled.as_bytes()[..1])
                .arg(u8::from(last.is_some()))
                .arg(u8::from(status != default))
                .arg(spread.as_str())
                .arg(spread_begins(status, beats))
                .arg(last.map(|last| format!("{} ", last.value())).unwrap_or_default())
        };
        let refused = |index, status| Ok(Err(Refusal::FinalStatus { list, index, status }));
        let mut seen = None;
        for _ in 0..=LOOKS_MAX {
            let reply: u64 = self.write_before(&call(seen), deadline).await?;
            match (reply, last) {
                (0, _) => return Ok(Ok(())),
                (1, _) => return Ok(Err(Refusal::NoSuchList { list })),
                (2, _) => return Ok(Err(Refusal::Retired { list })),
                (3, Some(last)) => return refused(capacity.index(0).map_err(|error| damaged(&error))?, last),
                (4, Some(last)) => {
                    let Snapshot { version, array } = self.snapshot(list).await?;
                    // It keeps that status whatever happens meanwhile.
                    if let Some(index) = array.find(last) {
                        return refused(index, last);
                    }
                    seen = Some(version);
                }
                _ => return Err(damaged("the script returned an unknown outcome")),
            }
        }
        Err(StoreError::Unavailable(format!(
            "list {list} changed each of {LOOKS_MAX} times that its entries were read"
        )))
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
