//! The names of all keys. Keys of a pool carry its hash tag, so that a cluster keeps them together and every script
//! runs on one node.

use crate::model::instance::InstanceId;
use crate::model::pool::PoolId;
use crate::status_list::ListId;
use crate::store::remembered::Digest;

/// Names keys under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Set: the names of all pools that were ever declared.
    pub(super) fn pools(&self) -> String {
        format!("{}:pools", self.prefix)
    }

    /// String: there while a copy into these keys is not finished; then nobody uses them. The only key that begins with this letter,
    /// so that a pattern can name all others.
    pub(super) fn unfinished(&self) -> String {
        format!("{}:unfinished", self.prefix)
    }

    /// Hash: what operators made at run time, `stamp` and `content`. No pool can have this name.
    pub(super) fn registry(&self) -> String {
        format!("{}:{{:registry}}", self.prefix)
    }

    /// String: counts the reads of the registry that waited for replicas, in its slot of a cluster. Nothing reads it.
    pub(super) fn registry_confirmations(&self) -> String {
        format!("{}:{{:registry}}:confirmations", self.prefix)
    }

    /// A pattern of all keys but [`Self::unfinished`].
    pub(super) fn all_others(&self) -> String {
        format!("{}:[^u]*", self.prefix)
    }

    /// String: the name of the list's pool, for ever.
    pub(super) fn pool_of(&self, list: &ListId) -> String {
        format!("{}:list:{list}", self.prefix)
    }

    /// Hash: the pool's shape, sums over its lists, and its publisher.
    pub(super) fn pool(&self, pool: &PoolId) -> String {
        format!("{}:{{{pool}}}", self.prefix)
    }

    /// Sorted set: all lists in the order of their creation.
    pub(super) fn lists(&self, pool: &PoolId) -> String {
        self.of(pool, "lists")
    }

    /// Sorted set: the lists whose references an instance still hands out, in the order of their creation.
    pub(super) fn open(&self, pool: &PoolId, owner: &InstanceId) -> String {
        self.of(pool, &format!("open:{owner}"))
    }

    /// Sorted set: lists with unpublished changes, by the time of the first of them (ms).
    pub(super) fn dirty(&self, pool: &PoolId) -> String {
        self.of(pool, "dirty")
    }

    /// Sorted set: all lists by the time at which they must be signed again (s).
    pub(super) fn due(&self, pool: &PoolId) -> String {
        self.of(pool, "due")
    }

    /// Set: the lists that have a spread.
    pub(super) fn spreads(&self, pool: &PoolId) -> String {
        self.of(pool, "spreads")
    }

    /// Hash: the record of a list.
    pub(super) fn list(&self, pool: &PoolId, list: &ListId) -> String {
        self.of(pool, &format!("list:{list}"))
    }

    /// String: a list's packed statuses, relative to the pool's default status.
    pub(super) fn bytes(&self, pool: &PoolId, list: &ListId) -> String {
        self.of(pool, &format!("bytes:{list}"))
    }

    /// String, for a day: the answer recorded under the Idempotency-Key of this hash.
    pub(super) fn answer(&self, pool: &PoolId, key: &Digest) -> String {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        self.of(pool, &format!("answer:{hex}"))
    }

    /// Hash: the bytes that the pool's answers count for, by the end of their group (ms).
    pub(super) fn answer_bytes(&self, pool: &PoolId) -> String {
        self.of(pool, "answer-bytes")
    }

    /// String: counts the reads that waited for replicas, because `WAIT` covers only writes. Nothing reads it.
    pub(super) fn confirmations(&self, pool: &PoolId) -> String {
        self.of(pool, "confirmations")
    }

    fn of(&self, pool: &PoolId, what: &str) -> String {
        format!("{}:{{{pool}}}:{what}", self.prefix)
    }
}
