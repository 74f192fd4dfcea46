//! What operators made at run time: one hash.

use deadpool_redis::redis::cmd;

use super::RedisStore;
use super::reply::{damaged, part};
use super::scripts::{self, Call};
use crate::store::values::StoreError;
use crate::store::{Deadline, Registered, Stamp};

impl RedisStore {
    pub(in crate::store) async fn registry_stamp(&self) -> Result<Stamp, StoreError> {
        let read = cmd("HGET").arg(self.0.keys.registry()).arg("stamp").take();
        let stamp: Option<String> = self.read_one(read).await?;
        stamp.unwrap_or_default().parse().map_err(|error| damaged(&error))
    }

    pub(in crate::store) async fn registry(&self) -> Result<Registered, StoreError> {
        let read = cmd("HMGET").arg(self.0.keys.registry()).arg(&["stamp", "content"]).take();
        let count = cmd("INCR").arg(self.0.keys.registry_confirmations()).take();
        let answers = self.0.link.read_confirmed(count, vec![read]).await?;
        let fields: Vec<Option<String>> = part(&answers, 0)?;
        let [stamp, content] = <[Option<String>; 2]>::try_from(fields).unwrap_or_default();
        Registered::from_parts(&stamp.unwrap_or_default(), content.unwrap_or_default())
    }

    pub(in crate::store) async fn replace_registry(
        &self,
        seen: &Stamp,
        newer: &Registered,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let call = Call::new(&scripts::REPLACE_REGISTRY, &[self.0.keys.registry()])
            .arg(seen.as_str())
            .arg(newer.stamp.as_str())
            .arg(&newer.content);
        Ok(self.write_before::<i64>(&call, deadline).await? == 1)
    }
}
