//! Answers recorded for retries: one row each, for as long as the caller says.
//!
//! Each step that adds one removes some that have expired, so the table shrinks as fast as it grew and no step takes long.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::write::Writer;
use crate::base::clock::Timestamp;
use crate::store::remembered::{Answered, Digest, Remembered};
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
        key: &Digest,
        answer: &Answered,
        now: Timestamp,
        keep: Duration,
    ) -> Result<Remembered, StoreError> {
        if let Some(before) = remembered(self.connection(), key, now)? {
            return Ok(Remembered::Before(before));
        }
        let sql = "DELETE FROM answer WHERE rowid IN (SELECT rowid FROM answer WHERE until <= ?1 LIMIT ?2)";
        self.connection().prepare_cached(sql)?.execute(params![now.millis(), SWEPT_MAX])?;
        // The row that it replaces has expired, and was only not swept yet.
        let sql = "INSERT OR REPLACE INTO answer (key, answer, until) VALUES (?1, ?2, ?3)";
        let row = params![key, answer.to_bytes(), now.plus(keep).millis()];
        self.connection().prepare_cached(sql)?.execute(row)?;
        Ok(Remembered::Now)
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
        let answer = Answered { request: [0; 32], references: Vec::new() };
        let keep = Duration::from_secs(10);
        for second in 0..100_u8 {
            let now = Timestamp::from_secs(second.into());
            let remembered = writer.remember(&[second; 32], &answer, now, keep).unwrap();
            assert_eq!(remembered, Remembered::Now);
        }
        let rows = |writer: &Writer| -> u32 {
            writer.connection().query_row("SELECT count(*) FROM answer", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(rows(&writer), 10);
        let later = Timestamp::from_secs(1000);
        writer.remember(&[200; 32], &answer, later, keep).unwrap();
        assert_eq!(rows(&writer), 3, "a step removes only a few");
        writer.remember(&[201; 32], &answer, later, keep).unwrap();
        assert_eq!(rows(&writer), 2);
    }
}
