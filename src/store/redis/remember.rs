//! Answers recorded for retries: one key each, which Redis expires by itself.

use std::time::Duration;

use deadpool_redis::redis::cmd;

use super::RedisStore;
use super::reply::part;
use super::scripts::{self, Call};
use crate::base::clock::Timestamp;
use crate::model::pool::PoolId;
use crate::store::remembered::{Answered, Digest, Keep, Remembered};
use crate::store::values::StoreError;

impl RedisStore {
    pub(in crate::store) async fn remember(
        &self,
        pool: &PoolId,
        key: Digest,
        answer: Answered,
        now: Timestamp,
        keep: Keep,
    ) -> Result<Remembered, StoreError> {
        let keys = [self.0.keys.answer(pool, &key), self.0.keys.answer_bytes(pool)];
        let call = Call::new(&scripts::REMEMBER, &keys)
            .arg(answer.to_bytes())
            .arg(keep.millis())
            .arg(keep.group_millis())
            .arg(answer.bytes())
            .arg(keep.bytes_max);
        match self.write::<i64>(&call).await? {
            1 => return Ok(Remembered::Now),
            0 => {}
            wait => {
                return Ok(Remembered::Full { retry_after: Duration::from_millis(wait.unsigned_abs()) });
            }
        }
        let before = self.remembered(pool, key, now).await?;
        before
            .map(Remembered::Before)
            .ok_or_else(|| StoreError::Unavailable("an earlier answer expired just now; retry".to_owned()))
    }

    pub(in crate::store) async fn remembered(
        &self,
        pool: &PoolId,
        key: Digest,
        _now: Timestamp,
    ) -> Result<Option<Answered>, StoreError> {
        let get = cmd("GET").arg(self.0.keys.answer(pool, &key)).take();
        if self.read_one::<Option<Vec<u8>>>(get.clone()).await?.is_none() {
            return Ok(None);
        }
        // Its writer may never have seen the replicas confirm it: it is not returned before they have it.
        let count = cmd("INCR").arg(self.0.keys.confirmations(pool)).take();
        let answers = self.0.link.read_confirmed(count, vec![get]).await?;
        let bytes: Option<Vec<u8>> = part(&answers, 0)?;
        bytes.map(|bytes| Answered::from_bytes(&bytes)).transpose()
    }
}
