//! Sets every entry of a list: at once, by removing its chunks, or as a spread, which has a row of its own until it ends.

use super::PostgresStore;
use super::apply::{Locked, end_spreads, lock, locked};
use super::chunks::{self, Chunks};
use super::journal::{self, Entry};
use super::query::{Query, query};
use crate::base::clock::Timestamp;
use crate::model::order::OrderKey;
use crate::status_list::{Index, ListId, Status};
use crate::store::values::{Refusal, StoreError};
use crate::store::{Applied, Deadline, Spread};

impl PostgresStore {
    pub(in crate::store) async fn fill_list(
        &self,
        list: ListId,
        status: Status,
        beats: u32,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let mut step = self.0.link.begin(deadline).await?;
        let answers = step.run(lock(&[list]).into()).await?;
        let found = locked(&answers[1])?.remove(&list);
        let stored = match found {
            Some(stored) if !stored.retired => stored,
            refused => {
                step.end().await?;
                let retired = Refusal::Retired { list };
                return Ok(Err(refused.map_or(Refusal::NoSuchList { list }, |_| retired)));
            }
        };
        let shape = self.shape(&stored.pool)?;
        if let Some(last) = shape.final_status.filter(|last| *last != status) {
            let mut chunks = Chunks::new(shape.capacity, stored.filled);
            for row in &step.run(vec![chunks::read_all(list)]).await?[0] {
                let (n, bytes) = chunks::row(row)?;
                chunks.add(n, bytes)?;
            }
            let will_have = stored.spread.is_some_and(|spread| spread.value == last);
            let first = if will_have { shape.capacity.index(0).ok() } else { chunks.array()?.find(last) };
            if let Some(index) = first {
                step.end().await?;
                return Ok(Err(Refusal::FinalStatus { list, index, status: last }));
            }
        }
        let mut writes = Vec::new();
        if beats > 1 {
            let continues =
                stored.spread.is_some_and(|spread| (spread.value, spread.beats) == (status, beats));
            if !continues {
                let spread = Spread { value: status, beats, key: OrderKey::random(), done: 0 };
                writes.push(write_spread(stored.id, &spread));
            }
        } else {
            let entry = Entry { list: stored.id, filled: status, every: Some(status), changes: Vec::new() };
            writes.push(journal::append(&[entry], now));
            writes.extend(chunks::remove(vec![stored.id]));
            writes.extend(end_spreads(vec![stored.id]));
        }
        if status != shape.default_status {
            let sql = "UPDATE list SET open = false, permutation_key = NULL WHERE id = $1";
            writes.push(query(sql).number(stored.id));
        }
        step.commit(writes).await.map(|_| Ok(()))
    }

    pub(in crate::store) async fn advance_spread(
        &self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut step = self.0.link.begin(self.0.link.patience()).await?;
        let answers = step.run(lock(&[list]).into()).await?;
        let stored = locked(&answers[1])?.remove(&list).ok_or(StoreError::NoSuchList(list))?;
        if stored.spread.as_ref() != Some(spread) {
            step.end().await?;
            return Ok(false);
        }
        let Locked { id, pool, filled, .. } = stored;
        let capacity = self.shape(&pool)?.capacity;
        let mut numbers: Vec<_> = entries.iter().map(|index| chunks::chunk_of(capacity, *index)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut chunks = Chunks::new(capacity, filled);
        for row in &step.run(vec![chunks::read(&vec![list; numbers.len()], numbers)]).await?[0] {
            let (n, bytes) = chunks::row(row)?;
            chunks.add(n, bytes)?;
        }
        for index in entries {
            chunks.set(*index, spread.value)?;
        }
        let changes = entries.iter().map(|index| (index.get(), spread.value)).collect();
        let mut writes = vec![journal::append(&[Entry { list: id, filled, every: None, changes }], now)];
        writes.extend(chunks::write(chunks.changed().map(|(n, bytes)| (id, n, bytes))));
        let advanced = spread.advanced(entries);
        match advanced.done < capacity.entries() {
            true => writes.push(write_spread(id, &advanced)),
            false => writes.extend(end_spreads(vec![id])),
        }
        step.commit(writes).await.map(|_| true)
    }
}

/// Gives a list, by the id of its row, this spread. Replaces any other.
pub(super) fn write_spread(list: u64, spread: &Spread) -> Query {
    let Spread { value, beats, key, done } = spread;
    let sql = "INSERT INTO spread (list, value, beats, key, done) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (list) DO UPDATE SET value = $2, beats = $3, key = $4, done = $5";
    query(sql).number(list).number(value.value()).number(*beats).bytes(key.as_bytes()).number(*done)
}
