//! Answers recorded for retries: one key each, which Redis expires by itself.

use std::time::Duration;

use deadpool_redis::redis::cmd;

use super::RedisStore;
use super::reply::part;
use super::scripts::{self, Call};
use crate::base::clock::Timestamp;
use crate::model::pool::PoolId;
use crate::store::remembered::{Answered, Digest, Remembered};
use crate::store::values::StoreError;

impl RedisStore {
    pub(in crate::store) async fn remember(
        &self,
        pool: &PoolId,
        key: Digest,
        answer: Answered,
        now: Timestamp,
        keep: Duration,
    ) -> Result<Remembered, StoreError> {
        let call = Call::new(&scripts::REMEMBER, &[self.0.keys.answer(pool, &key)])
            .arg(answer.to_bytes())
            .arg(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        if self.write(&call).await? {
            return Ok(Remembered::Now);
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
