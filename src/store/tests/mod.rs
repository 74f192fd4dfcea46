//! The promises of a store as a suite. A backend instantiates it with [`suite!`] and a harness that opens the same data again,
//! as after a restart.

mod allocation;
mod answers;
mod fills;
mod permissions;
mod pools;
mod publication;
mod registry;
mod spreads;
mod updates;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::base::clock::NumericDate;
use crate::config::{Config, Synchronous};
use crate::model::order::{OrderKey, Permutation};
use crate::status_list::{Bits, Capacity, Status, StatusSet};
use allocation::*;
use answers::*;
use fills::*;
use pools::*;
use publication::*;
use registry::{
    of_concurrent_changes_of_the_registry_one_is_made, the_registry_is_replaced_only_as_it_was_seen,
};
use spreads::*;
use updates::*;

/// Data that can be opened again and again, by one process at a time.
pub(crate) trait Harness {
    /// Opens it, as a fresh process would.
    async fn open(&self) -> Store;
}

/// Runs every promise below on a backend. `$harness` is an expression that creates an empty one.
macro_rules! suite {
    ($backend:ident, $harness:expr) => {
        mod $backend {
            suite! { @each $harness;
                shape_is_kept_and_a_mismatch_refused, blocks_are_disjoint_and_end_with_the_list,
                concurrent_leases_are_disjoint, tail_comes_back_once_and_only_from_the_end,
                lists_are_opened_up_to_the_quota, concurrent_openings_keep_the_quota, sealed_list_gives_nothing_more, changes_are_stored_and_counted, requests_are_all_or_nothing,
                an_unexpected_status_refuses_the_whole_request, what_is_expected_stands_after_the_requests_before,
                a_spread_counts_for_what_is_expected_once_it_is_done,
                every_refusal_names_its_reason, final_status_is_never_left, final_status_holds_inside_a_batch,
                default_status_fills_new_lists, touched_lists_are_dirty_since_their_first_change,
                settling_clears_only_what_was_published, older_fence_is_refused, lease_expires_and_fences_grow,
                due_lists_are_those_to_be_renewed, changes_since_publication_explain_it,
                a_list_that_is_retired_during_its_publication_stays_due,
                a_list_that_is_wanted_during_its_publication_stays_due, everything_survives_a_restart,
                unknown_lists_and_pools_are_errors, usage_adds_up, lists_give_references_through_one_instance,
                a_store_that_lost_leases_gives_nothing, single_statuses_are_those_of_the_snapshot,
                large_batches_are_one_step, large_batches_survive_restarts_and_explain_what_is_published, retired_lists_take_nothing_and_are_due_once,
                an_answer_is_remembered_once_and_for_a_while, concurrent_answers_under_one_key_are_one,
                answers_are_small_and_outlive_the_order_of_their_list, answers_of_a_pool_take_no_more_than_their_room,
                concurrent_answers_do_not_exceed_their_room,
                filled_lists_have_one_status_and_later_changes, filling_is_refused_as_a_whole_and_changes_nothing,
                filled_lists_hand_out_no_references_unless_filled_with_the_default,
                a_spread_sets_each_entry_once_and_ends_with_the_last, a_step_of_a_spread_counts_once_and_only_in_order,
                another_status_completes_a_spread_first_and_wins, a_spread_never_leaves_the_final_status,
                writes_after_their_deadline_change_nothing,
                a_spread_is_repeated_replaced_and_ended, a_spread_seals_as_filling_does_and_moves_with_its_list,
                an_imported_list_keeps_a_name_that_is_no_uuid,
                the_registry_is_replaced_only_as_it_was_seen, of_concurrent_changes_of_the_registry_one_is_made
            }
        }
    };
    (@each $harness:expr; $($name:ident),* $(,)?) => {
        $(#[tokio::test] async fn $name() { let harness = $harness; super::$name(&harness).await; })*
    };
}

suite!(postgres, super::PostgresHarness::new(&super::POSTGRES.settings()));
suite!(postgres_with_the_shipped_role, super::permissions::RoleHarness::new());
suite!(postgres_behind_pgbouncer, super::PostgresHarness::new(&super::PGBOUNCER.settings()));
suite!(
    postgres_with_a_standby,
    super::PostgresHarness::new(&format!("replicas: 1, {}", super::PAIR.primary.settings()))
);
suite!(redis, super::RedisHarness::new(super::SERVER.settings()));
suite!(redis_with_the_shipped_rights, super::permissions::LimitedHarness::new());
suite!(sentinel, super::RedisHarness::new(format!("replicas: 1, {}", super::SENTINELS.settings())));
suite!(cluster, super::RedisHarness::new(format!("replicas: 1, {}", super::CLUSTER.settings())));
#[cfg(feature = "sim")]
suite!(simulated, super::SimulatedHarness::new());
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

/// The simulator's model must keep the same promises, or what the simulator finds says nothing of the others.
#[cfg(feature = "sim")]
struct SimulatedHarness(std::sync::Arc<parking_lot::Mutex<sim::Server>>);

#[cfg(feature = "sim")]
impl SimulatedHarness {
    fn new() -> Self {
        Self(std::sync::Arc::new(parking_lot::Mutex::new(sim::Server::new(1))))
    }
}

#[cfg(feature = "sim")]
impl Harness for SimulatedHarness {
    async fn open(&self) -> Store {
        Store::Simulated(sim::SimulatedStore::new(self.0.clone(), std::sync::Arc::new(sim::Direct)))
    }
}

/// All tests share the servers, and have key prefixes of their own.
static SERVER: LazyLock<servers::redis::RedisServer> = LazyLock::new(servers::redis::RedisServer::start);
static SENTINELS: LazyLock<servers::redis::Sentinels> =
    LazyLock::new(|| servers::redis::Sentinels::start(&[("min-replicas-to-write", "1")]));
static CLUSTER: LazyLock<servers::redis::Cluster> = LazyLock::new(servers::redis::Cluster::start);

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

/// All tests share the servers, and have schemas of their own.
static POSTGRES: LazyLock<servers::postgres::PostgresServer> =
    LazyLock::new(servers::postgres::PostgresServer::start);
static PGBOUNCER: LazyLock<servers::postgres::Pgbouncer> =
    LazyLock::new(|| servers::postgres::Pgbouncer::to(&POSTGRES));
static PAIR: LazyLock<servers::postgres::Pair> = LazyLock::new(servers::postgres::Pair::start);

struct PostgresHarness(StoreConfig);

impl PostgresHarness {
    fn new(postgres: &str) -> Self {
        let schema = ListId::random().to_string().replace('-', "_");
        let settings = format!("{{ storage-type: postgres, postgres: {{ schema: s{schema}, {postgres} }} }}");
        Self(Config::load(Some(&settings), std::iter::empty()).unwrap().store)
    }
}

impl Harness for PostgresHarness {
    async fn open(&self) -> Store {
        Store::open(&self.0).await.expect("PostgreSQL can be used")
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const TERM: Duration = Duration::from_secs(30);
/// When the snapshot of a publication was requested: a second after the first changes, before the later ones.
const TAKEN: Timestamp = Timestamp::from_secs(1_700_000_001);

fn instance(id: &str) -> InstanceId {
    id.parse().unwrap()
}

fn ours() -> InstanceId {
    instance("ours")
}

/// Leases without a mark.
async fn lease(store: &Store, list: ListId, n: u32) -> Option<Block> {
    match store.lease_block(list, n, &ours(), Lease::default(), NOW).await.unwrap() {
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
    let list = store.open_list(&shape.id, &ours(), u64::MAX, NOW).await.unwrap();
    (store, list)
}

/// A deadline that no test reaches.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

/// An index of any list that is long enough.
fn index(idx: u64) -> Index {
    Capacity::new(1_000_000, Bits::One).unwrap().index(idx).unwrap()
}

fn change(list: ListId, idx: u64, value: u8) -> StatusChange {
    StatusChange { list, index: index(idx), status: Status::new(value), expected: None }
}

/// A change of an entry that is believed to have this status.
fn change_of(list: ListId, idx: u64, expected: u8, value: u8) -> StatusChange {
    StatusChange { expected: Some(Status::new(expected)), ..change(list, idx, value) }
}

async fn apply_one(store: &Store, changes: Vec<StatusChange>) -> Applied {
    store.apply(&"a".parse().unwrap(), vec![changes], soon(), NOW).await.unwrap().remove(0)
}

async fn value(store: &Store, list: ListId, idx: u64) -> u8 {
    let array = store.snapshot(list).await.unwrap().array;
    array.get(array.capacity().index(idx).unwrap()).value()
}

async fn publish(store: &Store, pool: &PoolId, list: ListId, version: u64, resign_at: NumericDate) {
    let due_mark = mark_of(store, pool, list).await;
    settle(store, pool, list, version, resign_at, due_mark).await;
}

/// The second this long after `NOW`.
const fn in_secs(secs: u64) -> NumericDate {
    NOW.date().plus(Duration::from_secs(secs))
}

/// Settles like a publisher that saw the list when it had this mark.
async fn settle(
    store: &Store,
    pool: &PoolId,
    list: ListId,
    version: u64,
    resign_at: NumericDate,
    due_mark: DueMark,
) {
    let fence = store.lease_publisher(pool, &ours(), TERM, Duration::ZERO).await.unwrap().unwrap();
    let publication = Publication { version: Version(version), iat: NOW.date(), resign_at };
    store.settle(list, publication, TAKEN, due_mark, fence).await.unwrap();
}

/// The due mark that a pass reads when it begins.
async fn mark_of(store: &Store, pool: &PoolId, list: ListId) -> DueMark {
    let due = store.due(pool, Timestamp::from_secs(1 << 53)).await.unwrap();
    due.into_iter().find(|pending| pending.list == list).expect("every list is due some day").due_mark
}
