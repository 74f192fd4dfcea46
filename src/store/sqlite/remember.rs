//! Answers recorded for retries: one row each, for as long as the caller says.
//!
//! Each step that adds one removes some that have expired, so the table shrinks as fast as it grew and no step takes long. What the
//! answers of a pool take together is counted in groups that end together, so the count costs a few rows.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::write::Writer;
use crate::base::clock::Timestamp;
use crate::model::pool::PoolId;
use crate::store::remembered::{Answered, Digest, Keep, Remembered};
use crate::store::values::StoreError;

/// The most rows that one step removes: more than it adds.
const SWEPT_MAX: u32 = 8;

pub(super) fn remembered(
    connection: &Connection,
    key: &Digest,
    now: Timestamp,
) -> Result<Option<Answered>, StoreError> {
    let sql = "SELECT answer FROM answer WHERE key = ?1 AND until > ?2";
    let answer = connection
        .prepare_cached(sql)?
        .query_row(params![key, now.millis()], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    answer.map(|bytes| Answered::from_bytes(&bytes)).transpose()
}

impl Writer {
    pub(super) fn remember(
        &mut self,
        pool: &PoolId,
        key: &Digest,
        answer: &Answered,
        now: Timestamp,
        keep: Keep,
    ) -> Result<Remembered, StoreError> {
        if let Some(before) = remembered(self.connection(), key, now)? {
            return Ok(Remembered::Before(before));
        }
        let sql = "DELETE FROM answer WHERE rowid IN (SELECT rowid FROM answer WHERE until <= ?1 LIMIT ?2)";
        self.connection().prepare_cached(sql)?.execute(params![now.millis(), SWEPT_MAX])?;
        if let Some(retry_after) = self.count(pool, answer.bytes(), now, keep)? {
            return Ok(Remembered::Full { retry_after });
        }
        // The row that it replaces has expired, and was only not swept yet.
        let sql = "INSERT OR REPLACE INTO answer (key, answer, until) VALUES (?1, ?2, ?3)";
        let row = params![key, answer.to_bytes(), now.plus(keep.time).millis()];
        self.connection().prepare_cached(sql)?.execute(row)?;
        Ok(Remembered::Now)
    }

    /// Counts so many bytes for the pool. If there is no room for them, counts nothing and returns the time until the first group
    /// ends.
    fn count(
        &mut self,
        pool: &PoolId,
        bytes: u64,
        now: Timestamp,
        keep: Keep,
    ) -> Result<Option<Duration>, StoreError> {
        let connection = self.connection();
        let (pool, now) = (pool.as_str(), now.millis());
        let sql = "DELETE FROM answer_bytes WHERE pool = ?1 AND until <= ?2";
        connection.prepare_cached(sql)?.execute(params![pool, now])?;
        let sql = "SELECT coalesce(sum(bytes), 0), min(until) FROM answer_bytes WHERE pool = ?1";
        let (sum, first) = connection
            .prepare_cached(sql)?
            .query_row([pool], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, Option<u64>>(1)?)))?;
        if sum.saturating_add(bytes) > keep.bytes_max {
            let wait = first.map_or(keep.millis(), |first| first - now);
            return Ok(Some(Duration::from_millis(wait)));
        }
        let sql = "INSERT INTO answer_bytes (pool, until, bytes) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes";
        connection.prepare_cached(sql)?.execute(params![pool, keep.counts_until(now), bytes])?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::schema;

    #[test]
    fn the_table_does_not_keep_what_is_over() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, std::path::Path::new("a.db")).unwrap();
        let mut writer = Writer::new(connection);
        let answer = Answered::new([0; 32], &[], 100);
        let keep = Keep { time: Duration::from_secs(10), bytes_max: u64::MAX };
        let pool = "p".parse().unwrap();
        for second in 0..100_u8 {
            let now = Timestamp::from_secs(second.into());
            let remembered = writer.remember(&pool, &[second; 32], &answer, now, keep).unwrap();
            assert_eq!(remembered, Remembered::Now);
        }
        let rows = |writer: &Writer| -> u32 {
            writer.connection().query_row("SELECT count(*) FROM answer", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(rows(&writer), 10);
        let later = Timestamp::from_secs(1000);
        writer.remember(&pool, &[200; 32], &answer, later, keep).unwrap();
        assert_eq!(rows(&writer), 3, "a step removes only a few");
        writer.remember(&pool, &[201; 32], &answer, later, keep).unwrap();
        assert_eq!(rows(&writer), 2);
    }
}
