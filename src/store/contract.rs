//! The promises of a store as a suite. A backend instantiates it with [`suite!`] and a folder-like harness that opens the
//! same data again, as after a restart.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::config::{Config, Synchronous};
use crate::status_list::{Bits, Capacity, Status, StatusRefused, StatusSet};

/// One set of data that can be opened again and again, once at a time.
pub(crate) trait Harness {
    /// Opens it, as a fresh process would.
    async fn open(&self) -> Store;
}

/// Runs every promise below on a backend. `$harness` is an expression that makes an empty one.
macro_rules! suite {
    ($backend:ident, $harness:expr) => {
        mod $backend {
            suite! { @each $harness;
                shape_is_kept_and_a_mismatch_refused, blocks_are_disjoint_and_end_with_the_list,
                concurrent_leases_are_disjoint, tail_comes_back_once_and_only_from_the_end,
                sealed_list_gives_nothing_more, changes_are_stored_and_counted, requests_are_all_or_nothing,
                every_refusal_names_its_reason, final_status_is_never_left, final_status_holds_inside_a_batch,
                default_status_fills_new_lists, touched_lists_are_dirty_since_their_first_change,
                settling_clears_only_what_was_published, older_fence_is_refused, lease_expires_and_fences_grow,
                due_lists_are_those_to_be_renewed, changes_since_publication_explain_it, everything_survives_a_restart,
                unknown_lists_and_pools_are_errors, usage_adds_up, lists_give_references_through_one_instance,
                a_store_that_lost_leases_gives_nothing, single_statuses_are_those_of_the_snapshot,
                large_batches_are_one_step, retired_lists_take_nothing_and_are_due_once,
                an_answer_is_remembered_once_and_for_a_while, concurrent_answers_under_one_key_are_one,
                filled_lists_have_one_status_and_later_changes, filling_is_refused_as_a_whole_and_changes_nothing,
                filled_lists_give_no_more_references_unless_as_by_default,
                a_spread_sets_each_entry_once_and_ends_with_the_last, a_step_of_a_spread_counts_once_and_only_in_order,
                another_status_completes_a_spread_first_and_stands, a_spread_never_leaves_the_final_status,
                a_spread_is_repeated_replaced_and_ended, a_spread_seals_as_filling_does_and_moves_with_its_list
            }
        }
    };
    (@each $harness:expr; $($name:ident),* $(,)?) => {
        $(#[tokio::test] async fn $name() { let harness = $harness; super::$name(&harness).await; })*
    };
}

suite!(redis, super::RedisHarness::new(super::SERVER.settings()));
suite!(sentinel, super::RedisHarness::new(format!("replicas: 1, {}", super::SENTINELS.settings())));
suite!(cluster, super::RedisHarness::new(format!("replicas: 1, {}", super::CLUSTER.settings())));
suite!(sqlite, super::SqliteHarness(tempfile::tempdir().expect("a temporary folder")));

struct SqliteHarness(tempfile::TempDir);

impl Harness for SqliteHarness {
    async fn open(&self) -> Store {
        Store::Sqlite(
            SqliteStore::open(&self.0.path().join("contract.db"), Synchronous::Full)
                .expect("the database opens"),
        )
    }
}

/// The servers are shared by all tests, which have key prefixes of their own.
static SERVER: LazyLock<servers::RedisServer> = LazyLock::new(servers::RedisServer::start);
static SENTINELS: LazyLock<servers::Sentinels> =
    LazyLock::new(|| servers::Sentinels::start(&[("min-replicas-to-write", "1")]));
static CLUSTER: LazyLock<servers::Cluster> = LazyLock::new(servers::Cluster::start);

struct RedisHarness(StoreConfig);

impl RedisHarness {
    fn new(redis: String) -> Self {
        let prefix = ListId::random();
        let settings = format!("{{ storage-type: redis, redis: {{ key-prefix: \"{prefix}\", {redis} }} }}");
        Self(Config::load(Some(&settings), std::iter::empty()).unwrap().store)
    }
}

impl Harness for RedisHarness {
    async fn open(&self) -> Store {
        Store::open(&self.0).await.expect("Redis can be used")
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const TERM: Duration = Duration::from_secs(30);
/// When the snapshot of a publication was asked for: a second after the first changes, before the later ones.
const TAKEN: Timestamp = Timestamp::from_secs(1_700_000_001);

fn instance(id: &str) -> InstanceId {
    id.parse().unwrap()
}

fn ours() -> InstanceId {
    instance("ours")
}

/// Leases without a mark.
async fn lease(store: &Store, list: ListId, n: u32) -> Option<Block> {
    match store.lease_block(list, n, &ours(), 0, NOW).await.unwrap() {
        Leased::Block(block) => Some(block),
        Leased::Nothing => None,
        behind @ Leased::Behind { .. } => panic!("{behind:?}"),
    }
}

fn shape(name: &str, size: u64, bits: Bits) -> PoolShape {
    PoolShape {
        id: name.parse().unwrap(),
        public_url: "https://status.example".parse().unwrap(),
        capacity: Capacity::new(size, bits).unwrap(),
        default_status: Status::VALID,
        final_status: None,
        statuses: StatusSet::new(bits, &[]).unwrap(),
    }
}

async fn store_with_list(harness: &impl Harness, shape: &PoolShape) -> (Store, ListId) {
    let store = harness.open().await;
    store.declare_pool(shape).await.unwrap();
    let list = store.open_list(&shape.id, &ours(), NOW).await.unwrap();
    (store, list)
}

fn change(list: ListId, idx: u64, value: u64) -> StatusChange {
    StatusChange { list, idx, value }
}

async fn apply_one(store: &Store, changes: Vec<StatusChange>) -> Applied {
    store.apply(&"a".parse().unwrap(), vec![changes], NOW).await.unwrap().remove(0)
}

async fn value(store: &Store, list: ListId, idx: u64) -> u8 {
    let array = store.snapshot(list).await.unwrap().array;
    array.get(array.capacity().index(idx).unwrap()).value()
}

async fn publish(store: &Store, pool: &PoolId, list: ListId, version: u64, resign_at: u64) {
    let fence = store.lease_publisher(pool, &ours(), NOW, TERM, Duration::ZERO).await.unwrap().unwrap();
    let publication = Publication { version, iat: NOW.secs(), resign_at };
    store.settle(list, publication, TAKEN, fence).await.unwrap();
}

async fn shape_is_kept_and_a_mismatch_refused(harness: &impl Harness) {
    let given = shape("a", 800, Bits::Two);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    store.declare_pool(&given).await.unwrap();
    let others = [
        ("public-url", PoolShape { public_url: "https://other.example".parse().unwrap(), ..given.clone() }),
        ("bits", shape("a", 800, Bits::Four)),
        ("size", shape("a", 1600, Bits::Two)),
        ("default-status", PoolShape { default_status: Status::INVALID, ..given.clone() }),
        ("final-status", PoolShape { final_status: Some(Status::INVALID), ..given.clone() }),
    ];
    for (expected, other) in others {
        match store.declare_pool(&other).await {
            Err(StoreError::ShapeMismatch { setting, .. }) => assert_eq!(setting, expected),
            answer => panic!("{expected}: {answer:?}"),
        }
    }
    store.declare_pool(&given).await.unwrap();
}

async fn blocks_are_disjoint_and_end_with_the_list(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let first = lease(&store, list, 60).await.unwrap();
    assert_eq!((first.list, first.positions), (list, 0..60));
    let second = lease(&store, list, 60).await.unwrap();
    assert_eq!(second.positions, 60..96);
    assert_eq!(first.key, second.key, "one key for the life of a list");
    assert_eq!(lease(&store, list, 1).await, None);
    assert!(store.open_lists(&"a".parse().unwrap(), &ours()).await.unwrap().is_empty());
    let other = store.open_list(&"a".parse().unwrap(), &ours(), NOW).await.unwrap();
    assert_ne!(lease(&store, other, 1).await.unwrap().key, first.key, "every list has its own key");
}

async fn concurrent_leases_are_disjoint(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 8000, Bits::One)).await;
    let leases = (0..40).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { lease(&store, list, 100 + n).await })
    });
    let mut seen = HashSet::new();
    for lease in leases.collect::<Vec<_>>() {
        for position in lease.await.unwrap().unwrap().positions {
            assert!(seen.insert(position), "position {position} was leased twice");
        }
    }
}

async fn tail_comes_back_once_and_only_from_the_end(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let first = lease(&store, list, 50).await.unwrap();
    let second = lease(&store, list, 46).await.unwrap();
    assert!(!store.return_tail(&first, 10).await.unwrap(), "somebody leased beyond it");
    assert!(store.return_tail(&second, 60).await.unwrap());
    assert!(!store.return_tail(&second, 60).await.unwrap(), "a retry is a no-op");
    assert!(!store.return_tail(&second, 96).await.unwrap(), "nothing to return");
    assert_eq!(lease(&store, list, 100).await.unwrap().positions, 60..96, "a full list is open again");
}

async fn sealed_list_gives_nothing_more(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let block = lease(&store, list, 50).await.unwrap();
    store.seal_list(list).await.unwrap();
    assert_eq!(lease(&store, list, 1).await, None);
    assert!(!store.return_tail(&block, 10).await.unwrap());
    assert!(!store.list(list).await.unwrap().unwrap().open);
    apply_one(&store, vec![change(list, 3, 1)]).await.unwrap();
    assert_eq!(value(&store, list, 3).await, 1, "its statuses can still be updated");
}

async fn changes_are_stored_and_counted(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 100_000, Bits::Two)).await;
    let other = store.open_list(&"a".parse().unwrap(), &ours(), NOW).await.unwrap();
    let answers = store
        .apply(
            &"a".parse().unwrap(),
            vec![
                vec![change(list, 0, 1), change(list, 99_999, 2)],
                vec![change(list, 50_000, 1)],
                vec![change(other, 1, 1)],
            ],
            NOW,
        )
        .await
        .unwrap();
    assert_eq!(answers, [Ok(()), Ok(()), Ok(())]);
    let snapshot = store.snapshot(list).await.unwrap();
    assert_eq!(snapshot.version, 1, "one batch, one version");
    assert_eq!(snapshot.array.counts(), [99_997, 2, 1, 0]);
    apply_one(&store, vec![change(list, 0, 0)]).await.unwrap();
    assert_eq!(store.snapshot(list).await.unwrap().version, 2);
    assert_eq!((value(&store, list, 0).await, value(&store, list, 1).await), (0, 0));
    assert_eq!(store.snapshot(other).await.unwrap().version, 1);
}

async fn requests_are_all_or_nothing(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let answers = store
        .apply(
            &"a".parse().unwrap(),
            vec![
                vec![change(list, 1, 1)],
                vec![change(list, 2, 1), change(list, 1, 0), change(list, 800, 1)],
                vec![change(list, 3, 1)],
            ],
            NOW,
        )
        .await
        .unwrap();
    assert!(answers[0].is_ok() && answers[1].is_err() && answers[2].is_ok());
    let found = [value(&store, list, 1).await, value(&store, list, 2).await, value(&store, list, 3).await];
    assert_eq!(found, [1, 0, 1], "nothing of the refused request stands, and all of the others");
    let version = store.snapshot(list).await.unwrap().version;
    assert!(apply_one(&store, vec![change(list, 9, 9)]).await.is_err());
    assert_eq!(store.snapshot(list).await.unwrap().version, version, "a refused batch changes no version");
}

async fn every_refusal_names_its_reason(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::Four)).await;
    let nowhere = ListId::random();
    assert_eq!(
        apply_one(&store, vec![change(nowhere, 0, 1)]).await,
        Err(Refusal::NoSuchList { list: nowhere })
    );
    assert_eq!(
        apply_one(&store, vec![change(list, 800, 1)]).await,
        Err(Refusal::IndexOutOfRange { list, idx: 800, entries: 800 })
    );
    for (value, why) in [
        (16, StatusRefused::TooWide { value: 16, bits: Bits::Four }),
        (3, StatusRefused::Undeclared { value: 3 }),
        (4, StatusRefused::Reserved { value: 4 }),
    ] {
        assert_eq!(
            apply_one(&store, vec![change(list, 7, value)]).await,
            Err(Refusal::ValueRefused { list, idx: 7, value, why })
        );
    }
    assert!(store.dirty(&"a".parse().unwrap()).await.unwrap().is_empty(), "nothing changed");
}

async fn final_status_is_never_left(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 800, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    apply_one(&store, vec![change(list, 5, 2)]).await.unwrap();
    apply_one(&store, vec![change(list, 5, 1)]).await.unwrap();
    apply_one(&store, vec![change(list, 5, 1)]).await.unwrap();
    for value in [0, 2] {
        let refusal = Refusal::FinalStatus { list, idx: 5, status: Status::INVALID };
        assert_eq!(apply_one(&store, vec![change(list, 5, value)]).await, Err(refusal));
    }
    publish(&store, &given.id, list, 3, 0).await;
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert!(apply_one(&store, vec![change(list, 5, 0)]).await.is_err(), "nor after a restart");
    assert_eq!(value(&store, list, 5).await, 1);
}

async fn final_status_holds_inside_a_batch(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 800, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    let answers = store
        .apply(
            &"a".parse().unwrap(),
            vec![
                vec![change(list, 5, 1), change(list, 6, 9)],
                vec![change(list, 5, 2)],
                vec![change(list, 5, 1)],
                vec![change(list, 5, 0)],
            ],
            NOW,
        )
        .await
        .unwrap();
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true, false]);
    assert_eq!(value(&store, list, 5).await, 1);
}

async fn default_status_fills_new_lists(harness: &impl Harness) {
    let given = PoolShape { default_status: Status::INVALID, ..shape("a", 80_000, Bits::One) };
    let (store, list) = store_with_list(harness, &given).await;
    apply_one(&store, vec![change(list, 70_000, 0)]).await.unwrap();
    publish(&store, &given.id, list, 1, 0).await;
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [1, 79_999]);
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [1, 79_999]);
}

async fn touched_lists_are_dirty_since_their_first_change(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    let untouched = store.open_list(&pool, &ours(), NOW).await.unwrap();
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 1, 1)]], NOW).await.unwrap();
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 2, 1)]], NOW.plus(TERM)).await.unwrap();
    let dirty = store.dirty(&pool).await.unwrap();
    assert_eq!(dirty, [Pending { list, since: Some(NOW.millis()), retired: false, published: None }]);
    assert!(
        store.due(&pool, NOW).await.unwrap().iter().any(|pending| pending.list == untouched),
        "never published"
    );
}

async fn settling_clears_only_what_was_published(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 1, 1)]], NOW).await.unwrap();
    let snapshot = store.snapshot(list).await.unwrap();
    let later = NOW.plus(TERM);
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 2, 1)]], later).await.unwrap();
    publish(&store, &pool, list, snapshot.version, NOW.secs() + 100).await;
    let dirty = store.dirty(&pool).await.unwrap();
    assert_eq!(dirty.len(), 1, "a change came in between");
    let since = dirty[0].since.unwrap();
    assert!((TAKEN.millis()..=later.millis()).contains(&since), "only the later change waits: {since}");
    publish(&store, &pool, list, 2, NOW.secs() + 100).await;
    assert!(store.dirty(&pool).await.unwrap().is_empty());
    assert_eq!(store.list(list).await.unwrap().unwrap().published.unwrap().version, 2);
    assert_eq!((value(&store, list, 1).await, value(&store, list, 2).await), (1, 1));
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 1, 0)]], later).await.unwrap();
    assert_eq!(value(&store, list, 1).await, 0, "changes after folding stand over the chunks");
}

async fn older_fence_is_refused(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    let old =
        store.lease_publisher(&pool, &instance("first"), NOW, TERM, Duration::ZERO).await.unwrap().unwrap();
    let new = store
        .lease_publisher(&pool, &instance("second"), NOW.plus(TERM * 2), TERM, Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    let publication = Publication { version: 0, iat: NOW.secs(), resign_at: 0 };
    assert!(matches!(store.settle(list, publication, TAKEN, old).await, Err(StoreError::Fenced)));
    assert_eq!(store.list(list).await.unwrap().unwrap().published, None);
    store.settle(list, publication, TAKEN, new).await.unwrap();
}

async fn lease_expires_and_fences_grow(harness: &impl Harness) {
    let (store, _) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    let first =
        store.lease_publisher(&pool, &instance("first"), NOW, TERM, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(
        store.lease_publisher(&pool, &instance("second"), NOW, TERM, Duration::ZERO).await.unwrap(),
        None
    );
    assert_eq!(
        store
            .lease_publisher(&pool, &instance("first"), NOW.plus(TERM / 2), TERM, Duration::ZERO)
            .await
            .unwrap(),
        Some(first),
        "extended"
    );
    assert_eq!(
        store
            .lease_publisher(&pool, &instance("second"), NOW.plus(TERM), TERM, Duration::ZERO)
            .await
            .unwrap(),
        None
    );
    let second = store
        .lease_publisher(&pool, &instance("second"), NOW.plus(TERM * 2), TERM, Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    assert!(second > first);
    assert_eq!(
        store
            .lease_publisher(&pool, &instance("first"), NOW.plus(TERM * 2), TERM, Duration::ZERO)
            .await
            .unwrap(),
        None
    );
}

async fn due_lists_are_those_to_be_renewed(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool: PoolId = "a".parse().unwrap();
    let due = async |t: u64| store.due(&pool, Timestamp::from_secs(t)).await.unwrap().len();
    assert_eq!(due(0).await, 1, "a list that was never published is due at once");
    publish(&store, &pool, list, 0, 5000).await;
    assert_eq!((due(4999).await, due(5000).await), (0, 1));
    assert_eq!(store.next_due(&pool).await.unwrap(), Some(Timestamp::from_secs(5000)));
    store.mark_due(vec![list]).await.unwrap();
    assert_eq!(due(0).await, 1);
    assert_eq!(store.next_due(&pool).await.unwrap(), None, "it is published no more as it should be");
}

async fn changes_since_publication_explain_it(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    apply_one(&store, vec![change(list, 1, 1)]).await.unwrap();
    publish(&store, &pool, list, 1, 0).await;
    apply_one(&store, vec![change(list, 2, 1), change(list, 3, 1)]).await.unwrap();
    apply_one(&store, vec![change(list, 3, 0)]).await.unwrap();
    apply_one(&store, vec![change(list, 4, 1)]).await.unwrap();
    let Some(changes) = store.changes_since_publication(list, 3).await.unwrap() else { return };
    assert_eq!(changes.every, None);
    assert_eq!(changes.entries, [(2, Status::INVALID), (3, Status::INVALID), (3, Status::VALID)]);
}

async fn everything_survives_a_restart(harness: &impl Harness) {
    let given = shape("a", 100_000, Bits::Two);
    let (store, list) = store_with_list(harness, &given).await;
    let block = lease(&store, list, 10).await.unwrap();
    apply_one(&store, vec![change(list, 1, 1), change(list, 99_999, 2)]).await.unwrap();
    publish(&store, &given.id, list, 1, 5000).await;
    apply_one(&store, vec![change(list, 50_000, 1)]).await.unwrap();
    let record = store.list(list).await.unwrap();
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert_eq!(store.list(list).await.unwrap(), record);
    assert_eq!(store.dirty(&given.id).await.unwrap().len(), 1);
    assert_eq!(
        [value(&store, list, 1).await, value(&store, list, 99_999).await, value(&store, list, 50_000).await],
        [1, 2, 1]
    );
    let next = lease(&store, list, 10).await.unwrap();
    assert_eq!((next.positions, next.key), (10..20, block.key));
    apply_one(&store, vec![change(list, 2, 1)]).await.unwrap();
    publish(&store, &given.id, list, 3, 5000).await;
    assert_eq!(
        [value(&store, list, 1).await, value(&store, list, 2).await, value(&store, list, 50_000).await],
        [1, 1, 1]
    );
}

async fn unknown_lists_and_pools_are_errors(harness: &impl Harness) {
    let store = harness.open().await;
    let (pool, list) = ("none".parse().unwrap(), ListId::random());
    assert!(matches!(store.open_list(&pool, &ours(), NOW).await, Err(StoreError::NoSuchPool(_))));
    assert!(matches!(store.snapshot(list).await, Err(StoreError::NoSuchList(_))));
    assert!(matches!(store.seal_list(list).await, Err(StoreError::NoSuchList(_))));
    assert!(matches!(store.mark_due(vec![list]).await, Err(StoreError::NoSuchList(_))));
    assert_eq!(lease(&store, list, 1).await, None);
    assert_eq!(store.list(list).await.unwrap(), None);
    assert!(store.lists(&pool).await.unwrap().is_empty());
}

async fn usage_adds_up(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    store.open_list(&given.id, &ours(), NOW).await.unwrap();
    lease(&store, list, 10).await.unwrap();
    assert_eq!(store.usage(&given.id).await.unwrap(), PoolUsage { lists: 2, leased: 10, free: 182 });
    store.declare_pool(&shape("b", 96, Bits::One)).await.unwrap();
    assert_eq!(store.pools().await.unwrap(), [("a".parse().unwrap(), 2), ("b".parse().unwrap(), 0)]);
    let lists = store.lists(&given.id).await.unwrap();
    assert_eq!(lists.iter().map(|list| list.leased).collect::<Vec<_>>(), [10, 0]);
    assert!(lists.iter().all(|list| list.pool == given.id && list.open));
}

async fn lists_give_references_through_one_instance(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let pool = "a".parse().unwrap();
    let other = instance("other");
    assert_eq!(store.lease_block(list, 10, &other, 0, NOW).await.unwrap(), Leased::Nothing);
    assert!(store.open_lists(&pool, &other).await.unwrap().is_empty());
    let theirs = store.open_list(&pool, &other, NOW).await.unwrap();
    let open = async |owner: &InstanceId| -> Vec<ListId> {
        store.open_lists(&pool, owner).await.unwrap().into_iter().map(|list| list.id).collect()
    };
    assert_eq!((open(&ours()).await, open(&other).await), (vec![list], vec![theirs]));
    assert_eq!(store.list(theirs).await.unwrap().unwrap().owner, other);
}

async fn a_store_that_lost_leases_gives_nothing(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let first = lease(&store, list, 10).await.unwrap();
    assert_eq!(store.list(list).await.unwrap().unwrap().lease, first.lease);
    let behind = store.lease_block(list, 10, &ours(), first.lease + 1, NOW).await.unwrap();
    assert_eq!(behind, Leased::Behind { lease: first.lease });
    let Leased::Block(next) = store.lease_block(list, 10, &ours(), first.lease, NOW).await.unwrap() else {
        panic!("the mark fits, so it gives")
    };
    assert_eq!((next.positions.clone(), next.lease > first.lease), (10..20, true));
    assert!(store.return_tail(&next, 15).await.unwrap());
    let Leased::Block(after) = store.lease_block(list, 10, &ours(), next.lease, NOW).await.unwrap() else {
        panic!("what was returned never looks like a loss")
    };
    assert_eq!((after.positions, after.lease > next.lease), (15..25, true));
}

async fn single_statuses_are_those_of_the_snapshot(harness: &impl Harness) {
    for bits in [Bits::One, Bits::Two, Bits::Four, Bits::Eight] {
        let name = format!("p{bits}");
        let given = PoolShape { default_status: Status::INVALID, ..shape(&name, 96, bits) };
        let (store, list) = store_with_list(harness, &given).await;
        let changes = (0..96).step_by(5).map(|idx| change(list, idx, idx % 2)).collect();
        store.apply(&given.id, vec![changes], NOW).await.unwrap().remove(0).unwrap();
        let snapshot = store.snapshot(list).await.unwrap();
        for idx in 0..96 {
            let index = given.capacity.index(idx).unwrap();
            let expected = if idx % 5 == 0 { u8::try_from(idx % 2).unwrap() } else { 1 };
            assert_eq!(snapshot.array.get(index).value(), expected, "{bits} bits, index {idx}");
            assert_eq!(store.status(list, index).await.unwrap(), (snapshot.array.get(index), 1));
        }
    }
}

async fn large_batches_are_one_step(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 80_000, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    let all = |value: u64| (0..10_000).map(|n| change(list, n * 7, value)).collect::<Vec<_>>();
    apply_one(&store, all(2)).await.unwrap();
    apply_one(&store, vec![change(list, 69_993, 1)]).await.unwrap();
    assert!(apply_one(&store, all(0)).await.is_err(), "the last of them would leave the final status");
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [70_000, 1, 9_999, 0]);
    assert_eq!(store.snapshot(list).await.unwrap().version, 2);
}

async fn retired_lists_take_nothing_and_are_due_once(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    lease(&store, list, 10).await.unwrap();
    apply_one(&store, vec![change(list, 1, 1)]).await.unwrap();
    publish(&store, &given.id, list, 1, NOW.secs() + 1000).await;
    let record = store.list(list).await.unwrap().unwrap();
    assert_eq!((record.leased_at, record.retired), (Some(NOW.millis()), false));
    store.retire_list(list).await.unwrap();
    assert_eq!(apply_one(&store, vec![change(list, 2, 1)]).await, Err(Refusal::Retired { list }));
    assert_eq!(lease(&store, list, 1).await, None);
    assert_eq!(store.usage(&given.id).await.unwrap(), PoolUsage { lists: 1, leased: 10, free: 0 });
    let due = store.due(&given.id, NOW).await.unwrap();
    assert!(due.len() == 1 && due[0].list == list && due[0].retired, "{due:?}");
    publish(&store, &given.id, list, 1, Publication::NEVER).await;
    assert!(store.due(&given.id, Timestamp::from_secs(1 << 40)).await.unwrap().is_empty());
    assert!(store.list(list).await.unwrap().unwrap().retired);
    assert!(matches!(store.retire_list(ListId::random()).await, Err(StoreError::NoSuchList(_))));
}

fn answered(request: u8, references: &[(ListId, u32)]) -> Answered {
    let references = references.iter().map(|&(list, idx)| Given { list, idx }).collect();
    Answered { request: [request; 32], references }
}

async fn an_answer_is_remembered_once_and_for_a_while(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let key = [1; 32];
    assert_eq!(store.remembered(&given.id, key, NOW).await.unwrap(), None);
    let first = answered(1, &[(list, 7), (ListId::random(), 799), (list, 0)]);
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(store.remember(&given.id, key, first.clone(), NOW, day).await.unwrap(), Remembered::Now);
    let second = answered(2, &[(list, 8)]);
    let before = store.remember(&given.id, key, second.clone(), NOW, day).await.unwrap();
    assert_eq!(before, Remembered::Before(first.clone()), "the first answer stands");
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert_eq!(store.remembered(&given.id, key, NOW).await.unwrap(), Some(first), "after a restart as well");

    // Redis counts by its own clock, SQLite by the caller's.
    let (short, brief) = ([2; 32], Duration::from_millis(500));
    assert_eq!(store.remember(&given.id, short, second, NOW, brief).await.unwrap(), Remembered::Now);
    tokio::time::sleep(brief + Duration::from_millis(200)).await;
    let later = NOW.plus(brief);
    assert_eq!(store.remembered(&given.id, short, later).await.unwrap(), None);
    let third = answered(3, &[(list, 9)]);
    let again = store.remember(&given.id, short, third.clone(), later, day).await.unwrap();
    assert_eq!(again, Remembered::Now);
    assert_eq!(store.remembered(&given.id, short, later).await.unwrap(), Some(third));
}

async fn concurrent_answers_under_one_key_are_one(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let answers = (0..20).map(|idx| {
        let (store, pool) = (store.clone(), given.id.clone());
        tokio::spawn(async move {
            let answer = answered(1, &[(list, idx)]);
            match store.remember(&pool, [9; 32], answer.clone(), NOW, TERM).await.unwrap() {
                Remembered::Now => (answer, true),
                Remembered::Before(before) => (before, false),
            }
        })
    });
    let (mut distinct, mut first) = (HashSet::new(), 0);
    for answer in answers.collect::<Vec<_>>() {
        let (answer, now) = answer.await.unwrap();
        distinct.extend(answer.references);
        first += u32::from(now);
    }
    assert_eq!((distinct.len(), first), (1, 1), "one of them is remembered, and told to all");
}

async fn filled_lists_have_one_status_and_later_changes(harness: &impl Harness) {
    for bits in [Bits::One, Bits::Two, Bits::Eight] {
        let default = Status::new(bits.status_max() & 2);
        let given = PoolShape { default_status: default, ..shape(&format!("p{bits}"), 80_000, bits) };
        let (store, list) = store_with_list(harness, &given).await;
        let set = async |idx, value| {
            store
                .apply(&given.id, vec![vec![change(list, idx, value)]], NOW)
                .await
                .unwrap()
                .remove(0)
                .unwrap();
        };
        set(7, 0).await;
        publish(&store, &given.id, list, 1, 0).await;
        set(8, 0).await;
        store.fill_list(list, 1, 1, NOW.plus(TERM)).await.unwrap().unwrap();
        let dirty = store.dirty(&given.id).await.unwrap();
        assert_eq!(dirty[0].since, Some(NOW.millis()), "dirty since the first change");
        assert_eq!(store.snapshot(list).await.unwrap().array.counts()[1], 80_000, "{bits} bits");
        set(70_000, 0).await;
        let check = async |store: &Store, when: &str| {
            let snapshot = store.snapshot(list).await.unwrap();
            assert_eq!(snapshot.version, 4);
            assert_eq!(
                (snapshot.array.counts()[0], snapshot.array.counts()[1]),
                (1, 79_999),
                "{bits} bits, {when}"
            );
            assert_eq!((value(store, list, 70_000).await, value(store, list, 8).await), (0, 1), "{when}");
        };
        check(&store, "at once").await;
        if let Some(changes) = store.changes_since_publication(list, 4).await.unwrap() {
            assert_eq!(changes.every, Some(Status::INVALID));
            assert_eq!(
                changes.entries,
                [(70_000, Status::VALID)],
                "what was before does not matter any more"
            );
        }
        drop(store);
        let store = harness.open().await;
        store.declare_pool(&given).await.unwrap();
        check(&store, "after a restart").await;
        publish(&store, &given.id, list, 4, 0).await;
        assert!(store.dirty(&given.id).await.unwrap().is_empty());
        check(&store, "once published").await;
        drop(store);
        let store = harness.open().await;
        store.declare_pool(&given).await.unwrap();
        check(&store, "from what was published").await;
    }
}

async fn filling_is_refused_as_a_whole_and_changes_nothing(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 800, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    let fill = async |list, value| store.fill_list(list, value, 1, NOW).await.unwrap();
    let nowhere = ListId::random();
    assert_eq!(fill(nowhere, 1).await, Err(Refusal::NoSuchList { list: nowhere }));
    let why = StatusRefused::Undeclared { value: 3 };
    assert_eq!(fill(list, 3).await, Err(Refusal::ValueRefused { list, idx: 0, value: 3, why }));
    apply_one(&store, vec![change(list, 5, 2), change(list, 701, 1), change(list, 702, 1)]).await.unwrap();
    let before = store.list(list).await.unwrap();
    for value in [0, 2] {
        let refusal = Refusal::FinalStatus { list, idx: 701, status: Status::INVALID };
        assert_eq!(fill(list, value).await, Err(refusal));
    }
    assert_eq!(store.list(list).await.unwrap(), before, "no version, nothing sealed");
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [797, 2, 1, 0]);
    fill(list, 1).await.unwrap();
    assert_eq!(
        store.snapshot(list).await.unwrap().array.counts(),
        [0, 800, 0, 0],
        "those that had it keep it"
    );
    assert!(apply_one(&store, vec![change(list, 5, 0)]).await.is_err(), "and all have it for ever");
    store.retire_list(list).await.unwrap();
    assert_eq!(fill(list, 1).await, Err(Refusal::Retired { list }));
}

async fn filled_lists_give_no_more_references_unless_as_by_default(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let block = lease(&store, list, 10).await.unwrap();
    store.fill_list(list, 0, 1, NOW).await.unwrap().unwrap();
    assert!(!store.list(list).await.unwrap().unwrap().sealed);
    assert_eq!(lease(&store, list, 10).await.unwrap().positions, 10..20, "as new lists are");
    store.fill_list(list, 1, 1, NOW).await.unwrap().unwrap();
    store.fill_list(list, 1, 1, NOW).await.unwrap().unwrap();
    let record = store.list(list).await.unwrap().unwrap();
    assert_eq!((record.sealed, record.open, record.leased), (true, false, 20));
    assert_eq!(lease(&store, list, 10).await, None, "they would be invalid from the start");
    assert!(!store.return_tail(&block, 5).await.unwrap());
    assert!(store.open_lists(&given.id, &ours()).await.unwrap().is_empty());
    assert_eq!(store.usage(&given.id).await.unwrap(), PoolUsage { lists: 1, leased: 20, free: 0 });
}

async fn spread_of(store: &Store, list: ListId) -> Option<Spread> {
    store.list(list).await.unwrap().unwrap().spread
}

fn indices(given: &PoolShape, entries: Range<u64>) -> Vec<Index> {
    entries.map(|idx| given.capacity.index(idx).unwrap()).collect()
}

async fn a_spread_sets_each_entry_once_and_ends_with_the_last(harness: &impl Harness) {
    for bits in [Bits::One, Bits::Two, Bits::Eight] {
        let default = Status::new(bits.status_max() & 2);
        let given = PoolShape { default_status: default, ..shape(&format!("p{bits}"), 20_000, bits) };
        let (mut store, list) = store_with_list(harness, &given).await;
        publish(&store, &given.id, list, 0, NOW.secs() + 1000).await;
        store.fill_list(list, 1, 3, NOW).await.unwrap().unwrap();
        assert_eq!(store.list(list).await.unwrap().unwrap().version, 0);
        assert!(store.dirty(&given.id).await.unwrap().is_empty(), "nothing is changed yet");
        let order = indices(&given, 0..20_000).into_iter().rev().collect::<Vec<_>>();
        let mut done = 0;
        // More than a script's stack holds, and an odd rest.
        for (step, version) in order.chunks(SPREAD_STEP_MAX).zip(1..) {
            let spread = spread_of(&store, list).await.unwrap();
            assert_eq!((spread.value, spread.beats, spread.done), (Status::INVALID, 3, done));
            assert_eq!(store.spreading(&given.id).await.unwrap()[0].id, list);
            assert!(store.advance_spread(list, &spread, step, NOW.plus(TERM)).await.unwrap());
            done += u32::try_from(step.len()).unwrap();
            let snapshot = store.snapshot(list).await.unwrap();
            assert_eq!((snapshot.version, snapshot.array.counts()[1]), (version, done), "{bits} bits");
            assert!(step.iter().all(|index| snapshot.array.get(*index) == Status::INVALID));
            let dirty = store.dirty(&given.id).await.unwrap();
            assert_eq!(dirty[0].since, Some(NOW.plus(TERM).millis()), "as after any change");
            if version == 1 {
                drop(store);
                store = harness.open().await;
                store.declare_pool(&given).await.unwrap();
            }
        }
        assert_eq!((done, spread_of(&store, list).await), (20_000, None));
        assert!(store.spreading(&given.id).await.unwrap().is_empty());
        assert_eq!(store.snapshot(list).await.unwrap().array.counts()[1], 20_000);
        if let Some(changes) = store.changes_since_publication(list, 3).await.unwrap() {
            assert_eq!((changes.every, changes.entries.len()), (None, 20_000), "each is explained");
        }
        publish(&store, &given.id, list, 3, 0).await;
        assert!(store.dirty(&given.id).await.unwrap().is_empty());
        assert_eq!(store.snapshot(list).await.unwrap().array.counts()[1], 20_000, "once published");
    }
}

async fn a_step_of_a_spread_counts_once_and_only_in_order(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    store.fill_list(list, 1, 4, NOW).await.unwrap().unwrap();
    let first = spread_of(&store, list).await.unwrap();
    let step = indices(&given, 0..200);
    let publishers = (0..8).map(|_| {
        let (store, step) = (store.clone(), step.clone());
        tokio::spawn(async move { store.advance_spread(list, &first, &step, NOW).await.unwrap() })
    });
    let mut counted = 0;
    for publisher in publishers.collect::<Vec<_>>() {
        counted += u32::from(publisher.await.unwrap());
    }
    assert_eq!(counted, 1, "two publishers, or a repetition after an unknown outcome");
    let second = spread_of(&store, list).await.unwrap();
    assert_eq!(second, first.advanced(&step));
    let skipping = second.advanced(&indices(&given, 0..1));
    let other = Spread { key: [0; 16], ..second };
    for wrong in [first, skipping, other, Spread { value: Status::VALID, ..second }] {
        let rest = indices(&given, 200..800);
        assert!(!store.advance_spread(list, &wrong, &rest, NOW).await.unwrap(), "{wrong:?}");
    }
    let snapshot = store.snapshot(list).await.unwrap();
    assert_eq!((snapshot.version, snapshot.array.counts()), (1, vec![600, 200]));
    assert_eq!(spread_of(&store, list).await, Some(second));
}

async fn another_status_completes_a_spread_first_and_stands(harness: &impl Harness) {
    for bits in [Bits::Two, Bits::Four] {
        let default = Status::new(bits.status_max() & 2);
        let id = format!("p{bits}");
        let given = PoolShape { default_status: default, ..shape(&id, 8000, bits) };
        let (store, list) = store_with_list(harness, &given).await;
        let other = store.open_list(&given.id, &ours(), NOW).await.unwrap();
        let apply = async |requests| store.apply(&given.id, requests, NOW).await.unwrap();
        for list in [list, other] {
            store.fill_list(list, 1, 4, NOW).await.unwrap().unwrap();
            let spread = spread_of(&store, list).await.unwrap();
            assert!(store.advance_spread(list, &spread, &indices(&given, 0..2000), NOW).await.unwrap());
        }
        let spread = spread_of(&store, list).await.unwrap();
        apply(vec![vec![change(list, 5, 1), change(list, 5000, 1)]]).await[0].clone().unwrap();
        assert_eq!(spread_of(&store, list).await, Some(spread), "the same status is no other");
        let refused = apply(vec![vec![change(list, 6, 0), change(list, 9000, 0)]]).await;
        assert!(refused[0].is_err());
        assert_eq!(spread_of(&store, list).await, Some(spread), "what is refused changes nothing");
        assert_eq!(value(&store, list, 7000).await, default.value());

        // Of an entry that has it already, of one that would get it, and twice of one.
        let changes = vec![change(list, 5, 0), change(list, 7000, 1), change(list, 7001, 0)];
        let answers = apply(vec![changes, vec![change(list, 7001, 2)], vec![change(other, 9000, 1)]]).await;
        assert!(answers[0].is_ok() && answers[1].is_ok() && answers[2].is_err());
        let check = async |store: &Store| {
            let snapshot = store.snapshot(list).await.unwrap();
            assert_eq!((snapshot.version, &snapshot.array.counts()[..3]), (3, &[1, 7998, 1][..]), "{bits}");
            assert_eq!((value(store, list, 5).await, value(store, list, 7001).await), (0, 2));
            assert_eq!(spread_of(store, list).await, None);
            assert!(spread_of(store, other).await.is_some(), "that of another list goes on");
            let spreading = store.spreading(&given.id).await.unwrap();
            assert_eq!(spreading.iter().map(|list| list.id).collect::<Vec<_>>(), [other]);
        };
        check(&store).await;
        let late = indices(&given, 2000..4000);
        assert!(!store.advance_spread(list, &spread, &late, NOW).await.unwrap(), "it is over");
        if let Some(changes) = store.changes_since_publication(list, 3).await.unwrap() {
            assert_eq!(changes.every, Some(Status::INVALID));
            assert_eq!(changes.entries.last(), Some(&(7001, Status::SUSPENDED)));
        }
        publish(&store, &given.id, list, 3, 0).await;
        check(&store).await;
        drop(store);
        let store = harness.open().await;
        store.declare_pool(&given).await.unwrap();
        check(&store).await;
    }
}

async fn a_spread_never_leaves_the_final_status(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 800, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    let fill = async |value, beats| store.fill_list(list, value, beats, NOW).await.unwrap();
    let refusal = |idx| Err(Refusal::FinalStatus { list, idx, status: Status::INVALID });
    fill(2, 4).await.unwrap();
    let spread = spread_of(&store, list).await.unwrap();
    assert!(store.advance_spread(list, &spread, &indices(&given, 0..200), NOW).await.unwrap());
    apply_one(&store, vec![change(list, 700, 1)]).await.unwrap();
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [0, 1, 799, 0], "the rest came first");
    assert_eq!(fill(2, 4).await, refusal(700), "as a change of all at once");
    assert_eq!(spread_of(&store, list).await, None);

    fill(1, 4).await.unwrap();
    let spread = spread_of(&store, list).await.unwrap();
    // It was answered that all will have the final status, so nobody may have another again.
    assert_eq!(apply_one(&store, vec![change(list, 5, 0)]).await, refusal(5));
    assert_eq!(fill(0, 1).await, refusal(0));
    assert_eq!(fill(0, 4).await, refusal(0));
    apply_one(&store, vec![change(list, 6, 1)]).await.unwrap();
    assert_eq!(spread_of(&store, list).await, Some(spread), "it goes on");
    assert!(store.advance_spread(list, &spread, &indices(&given, 0..800), NOW).await.unwrap());
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [0, 800, 0, 0]);
}

async fn a_spread_is_repeated_replaced_and_ended(harness: &impl Harness) {
    let given = shape("a", 800, Bits::Two);
    let (store, list) = store_with_list(harness, &given).await;
    let fill = async |value, beats| store.fill_list(list, value, beats, NOW).await.unwrap();
    let spread = async || spread_of(&store, list).await;
    fill(1, 4).await.unwrap();
    let first = spread().await.unwrap();
    assert!(store.advance_spread(list, &first, &indices(&given, 0..200), NOW).await.unwrap());
    let advanced = spread().await;
    fill(1, 4).await.unwrap();
    assert_eq!(spread().await, advanced, "a retry is harmless");
    for (value, beats) in [(1, 40), (2, 40), (2, 4)] {
        let before = spread().await.unwrap();
        fill(value, beats).await.unwrap();
        let now = spread().await.unwrap();
        assert_eq!((u64::from(now.value.value()), now.beats, now.done), (value, beats, 0));
        assert_ne!(now.key, before.key, "in an order of its own");
        assert!(!store.advance_spread(list, &before, &indices(&given, 200..400), NOW).await.unwrap());
    }
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [600, 200, 0, 0]);
    assert!(fill(4, 4).await.is_err() && fill(3, 4).await.is_err(), "no such status");
    assert!(spread().await.is_some());
    fill(0, 1).await.unwrap();
    assert_eq!((spread().await, store.spreading(&given.id).await.unwrap()), (None, Vec::new()));
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [800, 0, 0, 0]);

    fill(1, 4).await.unwrap();
    let last = spread().await.unwrap();
    store.retire_list(list).await.unwrap();
    assert_eq!((spread().await, store.spreading(&given.id).await.unwrap()), (None, Vec::new()));
    assert!(!store.advance_spread(list, &last, &indices(&given, 0..200), NOW).await.unwrap());
    assert_eq!(fill(1, 4).await, Err(Refusal::Retired { list }));
    let nowhere = ListId::random();
    assert!(store.fill_list(nowhere, 1, 4, NOW).await.unwrap().is_err());
}

async fn a_spread_seals_as_filling_does_and_moves_with_its_list(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    lease(&store, list, 10).await.unwrap();
    store.fill_list(list, 0, 4, NOW).await.unwrap().unwrap();
    assert_eq!(lease(&store, list, 10).await.unwrap().positions, 10..20, "as new lists are");
    store.fill_list(list, 1, 4, NOW).await.unwrap().unwrap();
    let record = store.list(list).await.unwrap().unwrap();
    assert_eq!((record.sealed, record.open), (true, false));
    assert_eq!(lease(&store, list, 10).await, None, "they would be invalid sooner or later");
    assert_eq!(store.usage(&given.id).await.unwrap(), PoolUsage { lists: 1, leased: 20, free: 0 });

    let spread = record.spread.unwrap();
    assert!(store.advance_spread(list, &spread, &indices(&given, 0..24), NOW).await.unwrap());
    let mut moved = store.export_list(list).await.unwrap();
    moved.record.id = ListId::random();
    assert!(store.import_list(&moved).await.unwrap());
    let spread = spread_of(&store, moved.record.id).await;
    assert_eq!((spread, spread.map(|spread| spread.done)), (spread_of(&store, list).await, Some(24)));
    assert_eq!(store.spreading(&given.id).await.unwrap().len(), 2);
    let rest = indices(&given, 24..96);
    assert!(store.advance_spread(moved.record.id, &spread.unwrap(), &rest, NOW).await.unwrap());
    assert_eq!(store.snapshot(moved.record.id).await.unwrap().array.counts(), [0, 96]);
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [72, 24]);
}
