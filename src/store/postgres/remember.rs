//! Answers recorded for retries: one row each, for as long as the caller says, by the database's clock.
//!
//! Each step that adds one removes some that have expired. The steps of a pool wait for each other, so that its answers never take more
//! than their room.

use std::time::Duration;

use super::PostgresStore;
use super::query::{damaged, get, maybe, now, number, query};
use crate::base::clock::Timestamp;
use crate::model::pool::PoolId;
use crate::store::remembered::{Answered, Digest, Keep, Remembered};
use crate::store::values::StoreError;

/// The most rows that one step removes: more than it adds.
const SWEPT_MAX: u64 = 8;
/// The answer recorded under a key.
const RECORDED: &str = concat!("SELECT answer FROM answer WHERE key = $1 AND until > ", now!());

impl PostgresStore {
    pub(in crate::store) async fn remembered(
        &self,
        _pool: &PoolId,
        key: Digest,
        _now: Timestamp,
    ) -> Result<Option<Answered>, StoreError> {
        let answers = self.0.link.read_confirmed(vec![query(RECORDED).bytes(&key)]).await?;
        recorded(&answers[0])
    }

    pub(in crate::store) async fn remember(
        &self,
        pool: &PoolId,
        key: Digest,
        answer: Answered,
        _now: Timestamp,
        keep: Keep,
    ) -> Result<Remembered, StoreError> {
        let name = pool.as_str();
        let lock = query("SELECT id FROM pool WHERE name = $1 FOR NO KEY UPDATE").text(name);
        let sum = concat!(
            "SELECT coalesce(sum(bytes), 0)::int8, min(until), ",
            now!(),
            " FROM answer_bytes WHERE pool = $1 AND until > ",
            now!()
        );
        let mut step = self.0.link.begin(self.0.link.patience()).await?;
        let queries = vec![lock, query(RECORDED).bytes(&key), query(sum).text(name)];
        let answers = step.run(queries).await?;
        if let Some(before) = recorded(&answers[1])? {
            step.commit_confirmed(Vec::new()).await?;
            return Ok(Remembered::Before(before));
        }
        let Some(row) = answers[2].first() else { return Err(damaged(&"a sum has no row")) };
        let (sum, first, now): (u64, Option<u64>, u64) = (number(row, 0)?, maybe(row, 1)?, number(row, 2)?);
        if sum.saturating_add(answer.bytes()) > keep.bytes_max {
            step.end().await?;
            let wait = first.map_or(keep.millis(), |first| first.saturating_sub(now));
            return Ok(Remembered::Full { retry_after: Duration::from_millis(wait) });
        }
        let sweep = "DELETE FROM answer WHERE key IN
                     (SELECT key FROM answer WHERE until <= $1 AND key <> $2 LIMIT $3 FOR UPDATE SKIP LOCKED)";
        // The row that it replaces has expired, and was only not swept yet.
        let add = "INSERT INTO answer (key, answer, until) VALUES ($1, $2, $3)
                   ON CONFLICT (key) DO UPDATE SET answer = excluded.answer, until = excluded.until";
        let count = "INSERT INTO answer_bytes (pool, until, bytes) VALUES ($1, $2, $3)
                     ON CONFLICT (pool, until) DO UPDATE SET bytes = answer_bytes.bytes + excluded.bytes";
        let writes = vec![
            query(add).bytes(&key).bytes(&answer.to_bytes()).number(now.saturating_add(keep.millis())),
            query(count).text(name).number(keep.counts_until(now)).number(answer.bytes()),
            // Last, and only what nobody holds: two steps that swept each other's keys would wait for each other.
            query(sweep).number(now).bytes(&key).number(SWEPT_MAX),
            query("DELETE FROM answer_bytes WHERE pool = $1 AND until <= $2").text(name).number(now),
        ];
        step.commit(writes).await.map(|_| Remembered::Now)
    }
}

fn recorded(rows: &[tokio_postgres::Row]) -> Result<Option<Answered>, StoreError> {
    rows.first().map(|row| Answered::from_bytes(get(row, 0)?)).transpose()
}
