//! Setting every entry of a list: one journal row, whatever the size of the list.

use rusqlite::params;

use super::read::EVERY;
use super::write::Writer;
use crate::clock::Timestamp;
use crate::status_list::ListId;
use crate::store::Applied;
use crate::store::model::{Refusal, StoreError};

impl Writer {
    pub(super) fn fill_list(
        &mut self,
        list: ListId,
        value: u64,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let filled = self.fill(list, value, now);
        if filled.is_err() {
            // Memory may be ahead of what is committed.
            self.forget(list);
        }
        filled
    }

    fn fill(&mut self, list: ListId, value: u64, now: Timestamp) -> Result<Applied, StoreError> {
        let (connection, loaded) = self.load(list)?;
        let Some(loaded) = loaded else { return Ok(Err(Refusal::NoSuchList { list })) };
        if loaded.retired {
            return Ok(Err(Refusal::Retired { list }));
        }
        let status = match loaded.shape.statuses.check(value) {
            Ok(status) => status,
            Err(why) => return Ok(Err(Refusal::ValueRefused { list, idx: 0, value, why })),
        };
        if let Some(last) = loaded.shape.final_status.filter(|last| *last != status)
            && let Some(index) = loaded.find(last)
        {
            return Ok(Err(Refusal::FinalStatus { list, idx: index.get().into(), status: last }));
        }
        loaded.fill(status);
        loaded.version += 1;
        loaded.journaled += 1;
        let sql = "INSERT INTO journal (list, seq, idx, value, version, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        connection.prepare_cached(sql)?.execute(params![
            loaded.id,
            loaded.journaled,
            EVERY,
            status.value(),
            loaded.version,
            now.millis()
        ])?;
        let sealed = status != loaded.shape.default_status;
        let sql = "UPDATE list SET version = ?2, journaled = ?3, dirty_since = coalesce(dirty_since, ?4),
                          open = iif(?5, 0, open), permutation_key = iif(?5, NULL, permutation_key) WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![
            loaded.id,
            loaded.version,
            loaded.journaled,
            now.millis(),
            sealed
        ])?;
        Ok(Ok(()))
    }
}
