//! Sets every entry of a list: at once, with one journal row whatever the size of the list, or as a spread, which has a row
//! of its own until it ends.

use super::schema::EVERY;
use super::write::Writer;
use super::{journal, spread_row};
use crate::base::clock::Timestamp;
use crate::model::order::OrderKey;
use crate::status_list::{Index, ListId, Status};
use crate::store::values::{Refusal, StoreError};
use crate::store::{Applied, Spread};

impl Writer {
    pub(super) fn fill_list(
        &mut self,
        list: ListId,
        status: Status,
        beats: u32,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let filled = self.fill(list, status, beats, now);
        if filled.is_err() {
            // Memory may be ahead of what is committed.
            self.forget(list);
        }
        filled
    }

    fn fill(
        &mut self,
        list: ListId,
        status: Status,
        beats: u32,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let (connection, loaded) = self.load(list)?;
        let Some(loaded) = loaded else { return Ok(Err(Refusal::NoSuchList { list })) };
        if loaded.retired {
            return Ok(Err(Refusal::Retired { list }));
        }
        if let Some(last) = loaded.shape.final_status.filter(|last| *last != status)
            && let Some(index) = loaded.first_to_have(last)
        {
            return Ok(Err(Refusal::FinalStatus { list, index, status: last }));
        }
        if beats > 1 {
            if loaded.spread.is_some_and(|spread| (spread.value, spread.beats) == (status, beats)) {
                return Ok(Ok(()));
            }
            let spread = Spread { value: status, beats, key: OrderKey::random(), done: 0 };
            spread_row::insert(connection, loaded.id, &spread)?;
            loaded.spread = Some(spread);
        } else {
            spread_row::remove(connection, loaded)?;
            loaded.fill(status);
            journal::append(connection, loaded, [(EVERY, status)], now)?;
        }
        if status != loaded.shape.default_status {
            let sql = "UPDATE list SET open = 0, permutation_key = NULL WHERE id = ?1";
            connection.prepare_cached(sql)?.execute([loaded.id])?;
        }
        Ok(Ok(()))
    }

    pub(super) fn advance_spread(
        &mut self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let advanced = self.advance(list, spread, entries, now);
        if advanced.is_err() {
            self.forget(list);
        }
        advanced
    }

    fn advance(
        &mut self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (connection, loaded) = self.load(list)?;
        let loaded = loaded.ok_or(StoreError::NoSuchList(list))?;
        if loaded.spread.as_ref() != Some(spread) {
            return Ok(false);
        }
        for index in entries {
            loaded.set(*index, spread.value);
        }
        let changes = entries.iter().map(|index| (index.get().into(), spread.value));
        journal::append(connection, loaded, changes, now)?;
        let advanced = spread.advanced(entries);
        if advanced.done < loaded.shape.capacity.entries() {
            spread_row::insert(connection, loaded.id, &advanced)?;
            loaded.spread = Some(advanced);
        } else {
            spread_row::remove(connection, loaded)?;
        }
        Ok(true)
    }
}
