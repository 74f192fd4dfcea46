//! The content of a line of the trail. The writer adds its place in the chain and its time.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;

use super::chain::hex;
use crate::model::pool::PoolId;
use crate::status_list::ListId;

/// Batches up to this size list their targets; larger ones have only their hash.
const TARGETS_MAX: usize = 100;

/// One line, without its place in the chain.
#[derive(Debug, Serialize)]
pub struct Line {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    caller: Option<Caller>,
    #[serde(flatten)]
    action: Action,
    /// How many similar lines without a waiting caller were dropped before this one, because there were too many.
    #[serde(rename = "left-out", skip_serializing_if = "is_zero")]
    pub(super) left_out: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

/// The caller of an action.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Caller {
    /// The request's id, as in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// A name that is not secret; none for callers whose authentication failed.
    #[serde(rename = "caller", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A requested action, or the outcome of one.
#[derive(Debug, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Action {
    /// References were handed out. Never says which.
    Allocate {
        /// The pool.
        pool: PoolName,
        /// The number of references.
        amount: u32,
        /// Whether these are the references of an earlier request, retried with its `Idempotency-Key`.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        repeated: bool,
    },
    /// One status is about to be changed.
    Update {
        /// The pool.
        pool: PoolName,
        /// The list.
        list: String,
        /// The index.
        index: u64,
        /// The new value.
        value: u64,
    },
    /// Several statuses are about to be changed, all or none.
    BatchUpdate {
        /// The pool.
        pool: PoolName,
        /// The number of changes.
        count: usize,
        /// The new values.
        values: Vec<u64>,
        /// SHA-256 over a line `<list> <index> <value>` for each, sorted as text.
        targets_sha256: String,
        /// List, index and value of each, unless there are too many.
        #[serde(skip_serializing_if = "Option::is_none")]
        targets: Option<Vec<(String, u64, u64)>>,
    },
    /// Every status of a list is about to be changed.
    Fill {
        /// The pool.
        pool: PoolName,
        /// The list.
        list: String,
        /// The new value.
        value: u64,
        /// The number of beats over which the change is spread.
        #[serde(skip_serializing_if = "is_one")]
        beats: u32,
    },
    /// A list is about to be retired.
    Retire {
        /// The pool.
        pool: PoolName,
        /// The list.
        list: String,
        /// Whether references of the list may still be valid.
        force: bool,
    },
    /// The service goes on with new settings and keys, or loaded the same ones again.
    Reloaded {
        /// By pool: the names of its API keys from now on.
        api_keys: BTreeMap<String, Vec<String>>,
        /// By pool: the id of the signing key, or of the one that signs as soon as it may.
        signing_keys: BTreeMap<String, String>,
    },
    /// A pool is about to be made of a template.
    CreatePool {
        /// The pool.
        pool: String,
        /// The template.
        template: String,
    },
    /// A pool that was made at run time is about to be changed.
    PatchPool {
        /// The pool.
        pool: String,
        /// The settings, `closed` included.
        settings: Vec<String>,
    },
    /// A pool that was made at run time is about to be deleted.
    DeletePool {
        /// The pool.
        pool: String,
        /// Whether its references may still be valid.
        force: bool,
    },
    /// An API key is about to be made.
    CreateKey {
        /// Its name.
        key: String,
        /// The pools.
        pools: Vec<String>,
        /// What it allows there.
        scopes: Vec<String>,
    },
    /// An API key that was made at run time is about to be replaced.
    RotateKey {
        /// Its name.
        key: String,
        /// For how many seconds the earlier one stays valid.
        grace_secs: u64,
    },
    /// An API key that was made at run time is about to end.
    EndKey {
        /// Its name.
        key: String,
    },
    /// An operator has tokens replaced whose `iat` lies in the future: `statuslist publish --once --replace-future`.
    ReplaceFuture {
        /// The pools.
        pools: Vec<PoolName>,
    },
    /// The outcome of an earlier line.
    Outcome {
        /// The earlier line's number.
        of: u64,
        /// The outcome.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// A request that was refused because of its caller.
    Refused(Refusal),
    /// The first line of a file.
    Opened {
        /// The program's version.
        version: &'static str,
        /// The file that this one continues.
        #[serde(skip_serializing_if = "Option::is_none")]
        continues: Option<String>,
    },
    /// After a crash, an incomplete end of the file was moved to another file. It was never acknowledged.
    Recovered {
        /// The number of bytes.
        torn_bytes: usize,
        /// Their SHA-256.
        torn_sha256: String,
        /// The file that holds them.
        torn_file: String,
    },
}

/// The outcome of a change.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The change was made.
    Done,
    /// The change was not made.
    Refused {
        /// The error code that the client received.
        code: String,
    },
    /// It is unknown whether the change was made: the store failed, or the client went away.
    Unknown,
}

/// A request that was refused because of its caller.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// The method.
    pub method: String,
    /// The route, with placeholders instead of values.
    pub route: String,
    /// The HTTP status of the response.
    pub status: u16,
    /// The error code of the response.
    pub code: String,
    /// The peer address of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The name of a pool.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct PoolName(String);

impl From<&PoolId> for PoolName {
    fn from(pool: &PoolId) -> Self {
        Self(pool.as_str().to_owned())
    }
}

/// One changed status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The list.
    pub list: ListId,
    /// The index.
    pub index: u64,
    /// The new value.
    pub value: u64,
}

impl Action {
    /// The action that makes these changes.
    pub fn update(pool: &PoolId, changes: impl ExactSizeIterator<Item = Change>) -> Self {
        let pool = PoolName::from(pool);
        let mut targets: Vec<_> =
            changes.map(|change| (change.list.to_string(), change.index, change.value)).collect();
        if let [(list, index, value)] = targets.as_mut_slice() {
            return Self::Update { pool, list: std::mem::take(list), index: *index, value: *value };
        }
        let mut values: Vec<_> = targets.iter().map(|(_, _, value)| *value).collect();
        values.sort_unstable();
        values.dedup();
        let mut lines: Vec<_> =
            targets.iter().map(|(list, index, value)| format!("{list} {index} {value}\n")).collect();
        lines.sort_unstable();
        let mut hash = Context::new(&SHA256);
        lines.iter().for_each(|line| hash.update(line.as_bytes()));
        let count = targets.len();
        let targets_sha256 = hex(hash.finish().as_ref());
        let targets = (count <= TARGETS_MAX).then_some(targets);
        Self::BatchUpdate { pool, count, values, targets_sha256, targets }
    }
}

impl Line {
    /// A line about an action of `caller`.
    pub fn new(caller: Caller, action: Action) -> Self {
        Self { caller: Some(caller), action, left_out: 0 }
    }

    /// The outcome of the line `of`.
    pub(super) fn outcome(of: u64, outcome: Outcome) -> Self {
        Self::of_the_trail(Action::Outcome { of, outcome })
    }

    /// A line without a caller.
    pub(super) fn of_the_trail(action: Action) -> Self {
        Self { caller: None, action, left_out: 0 }
    }

    /// Records that `count` lines like this one were dropped before it.
    pub fn with_dropped(mut self, count: u64) -> Self {
        self.left_out = count;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller { request: None, name: Some("key:0123abcd".to_owned()) }
    }

    #[test]
    fn a_line_names_caller_and_action() {
        let (pool, list) = ("p".parse().unwrap(), ListId::random());
        let change = Change { list, index: 5, value: 1 };
        let line = Line::new(caller(), Action::update(&pool, [change].into_iter()));
        let expected = format!(
            r#"{{"caller":"key:0123abcd","action":"update","pool":"p","list":"{list}","index":5,"value":1}}"#
        );
        assert_eq!(serde_json::to_string(&line).unwrap(), expected);
        let refused = Outcome::Refused { code: "FORBIDDEN".to_owned() };
        let line = serde_json::to_string(&Line::outcome(7, refused)).unwrap();
        assert_eq!(line, r#"{"action":"outcome","of":7,"outcome":"refused","code":"FORBIDDEN"}"#);
    }

    #[test]
    fn the_hash_of_a_batch_depends_on_everything_but_its_order() {
        let (pool, list) = ("p".parse().unwrap(), ListId::random());
        let change = |index, value| Change { list, index, value };
        let hash = |changes: Vec<Change>| match Action::update(&pool, changes.into_iter()) {
            Action::BatchUpdate { targets_sha256, targets, count, .. } => {
                assert_eq!(targets.is_some(), count <= TARGETS_MAX);
                targets_sha256
            }
            other => panic!("{other:?}"),
        };
        let sorted: Vec<_> = (0..200).map(|index| change(index, 1)).collect();
        let reversed: Vec<_> = sorted.iter().rev().copied().collect();
        assert_eq!(hash(sorted.clone()), hash(reversed));
        let mut other = sorted.clone();
        other[7].value = 0;
        assert_ne!(hash(sorted), hash(other));
        assert_ne!(hash(vec![change(1, 1), change(2, 1)]), hash(vec![change(1, 1), change(3, 1)]));
    }
}
