//! Promises of this backend only; the others are in `store/tests/`.

use super::query::query;
use super::*;
use crate::config::{Config, StoreConfig};
use crate::model::instance::InstanceId;
use crate::status_list::{Bits, Capacity, Index, ListId, Status, StatusSet};
use crate::store::Deadline;
use crate::store::servers::postgres::{Pair, PostgresServer, settings, wait_in_step};
use crate::store::servers::wire::Wire;
use crate::store::values::{Lease, Leased, StatusChange, Version};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn config(postgres: &str) -> PostgresConfig {
    let settings = format!("{{ storage-type: postgres, postgres: {{ {postgres} }} }}");
    match Config::load(Some(&settings), std::iter::empty()).unwrap().store {
        StoreConfig::Postgres(config) => config,
        other => unreachable!("the settings say postgres: {other:?}"),
    }
}

fn shape() -> PoolShape {
    PoolShape {
        id: "p".parse().unwrap(),
        public_url: "https://status.example".parse().unwrap(),
        capacity: Capacity::new(800, Bits::One).unwrap(),
        default_status: Status::VALID,
        final_status: None,
        statuses: StatusSet::new(Bits::One, &[]).unwrap(),
    }
}

async fn open(settings: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(&config(settings)).await
}

async fn store_with_list(settings: &str) -> (PostgresStore, ListId) {
    let store = open(settings).await.unwrap();
    store.declare_pool(&shape()).await.unwrap();
    let list = store.open_list(&shape().id, &owner(), u64::MAX, NOW).await.unwrap();
    (store, list)
}

fn owner() -> InstanceId {
    "ours".parse().unwrap()
}

/// A deadline that no test reaches.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

fn index(idx: u64) -> Index {
    Capacity::new(800, Bits::One).unwrap().index(idx).unwrap()
}

async fn set(store: &PostgresStore, list: ListId, idx: u64) -> Result<(), StoreError> {
    set_before(store, list, idx, soon()).await
}

async fn set_before(
    store: &PostgresStore,
    list: ListId,
    idx: u64,
    deadline: Deadline,
) -> Result<(), StoreError> {
    let changes =
        vec![vec![StatusChange { list, index: index(idx), status: Status::INVALID, expected: None }]];
    let answers = store.apply(&shape().id, changes, deadline, NOW).await?;
    assert_eq!(answers, [Ok(())]);
    Ok(())
}

/// Tries until it succeeds, for a few seconds: a failure closes the way to the server until it was checked again.
async fn patiently<T>(attempt: impl AsyncFn() -> Result<T, StoreError>) -> T {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(answer) => return answer,
            Err(why) => assert!(begun.elapsed() < Duration::from_secs(15), "{why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn version(store: &PostgresStore, list: ListId) -> Version {
    patiently(|| store.list(list)).await.unwrap().version
}

async fn soon_set(store: &PostgresStore, list: ListId, idx: u64) {
    patiently(|| set(store, list, idx)).await;
}

#[tokio::test]
async fn a_server_that_would_lose_writes_is_refused_by_name_at_the_start_and_while_it_runs() {
    let server = PostgresServer::start();
    let settings = server.settings();
    let (store, list) = store_with_list(&settings).await;
    for (name, expected) in
        [("fsync", "fsync off, must have on"), ("full_page_writes", "full_page_writes off, must have on")]
    {
        server.set(name, "off");
        let refused = open(&settings).await.unwrap_err().to_string();
        assert!(refused.contains(expected) && refused.contains("ALTER SYSTEM"), "{refused}");
        open(&format!("durability: unchecked, {settings}")).await.unwrap();
        // As every 30 seconds.
        store.0.link.check().await.unwrap_err();
        let refused = set(&store, list, 1).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        assert!(refused.to_string().contains(expected), "{refused}");
        server.set(name, "on");
        store.0.link.check().await.unwrap();
        set(&store, list, 1).await.unwrap();
    }
    server.set("default_transaction_read_only", "on");
    let refused = store.0.link.check().await.unwrap_err().to_string();
    assert!(refused.contains("does not allow writes"), "{refused}");
}

#[tokio::test]
async fn missing_standbys_and_a_standby_itself_are_refused() {
    let Pair { primary, mut standby } = Pair::start();
    let wanted = format!("replicas: 1, {}", primary.settings());
    let (store, list) = store_with_list(&wanted).await;
    set(&store, list, 1).await.unwrap();
    let two = open(&format!("replicas: 2, {}", primary.settings())).await.unwrap_err().to_string();
    assert!(two.contains("waits for 1 standbys, postgres.replicas demands 2"), "{two}");
    let of_standby = format!("timeouts: {{ connect: 200ms }}, {}", standby.settings());
    let refused = open(&of_standby).await.unwrap_err().to_string();
    assert!(refused.contains("does not allow writes"), "{refused}");
    // The primary is found among several servers.
    let both = format!(
        "replicas: 1, hosts: [\"127.0.0.1:{}\", \"127.0.0.1:{}\"], username: postgres, database: postgres",
        standby.port, primary.port
    );
    let found = open(&both).await.unwrap();
    found.declare_pool(&shape()).await.unwrap();
    set(&found, list, 2).await.unwrap();

    standby.kill();
    primary.wait("no standby", |primary| primary.sql("SELECT count(*) FROM pg_stat_replication") == "0");
    let refused = store.0.link.check().await.unwrap_err().to_string();
    assert!(refused.contains("0 synchronous standbys connected, postgres.replicas demands 1"), "{refused}");
    set(&store, list, 3).await.unwrap_err();
    standby.start_again();
    wait_in_step(&primary);
    store.0.link.check().await.unwrap();
    set(&store, list, 3).await.unwrap();
    primary.set("synchronous_standby_names", "");
    let refused = store.0.link.check().await.unwrap_err().to_string();
    assert!(refused.contains("synchronous_standby_names") && refused.contains("waits for 0"), "{refused}");
}

/// PostgreSQL answers such a commit as if all were well, after a warning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_wait_for_the_standby_is_cancelled_is_not_acknowledged() {
    let Pair { primary, standby } = Pair::start();
    let settings = format!("replicas: 1, timeouts: {{ command: 20s }}, {}", primary.settings());
    let (store, list) = store_with_list(&settings).await;
    set(&store, list, 1).await.unwrap();
    standby.freeze(true);
    let setting = {
        let store = store.clone();
        tokio::spawn(async move { set(&store, list, 2).await })
    };
    let waiting = "pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    primary.wait("a commit that waits", |primary| !primary.sql(&format!("SELECT {waiting}")).is_empty());
    primary.sql(&format!("SELECT pg_cancel_backend(pid) FROM (SELECT {waiting}) AS waiting"));
    let unknown = setting.await.unwrap().unwrap_err().to_string();
    assert!(unknown.contains("standby") && unknown.contains("unknown"), "{unknown}");
    // It is visible, but nobody else may build on it before the standby has it.
    assert_eq!(version(&store, list).await, Version(2));
    let reading = {
        let store = store.clone();
        tokio::spawn(async move { store.snapshot(list).await })
    };
    primary.wait("a snapshot that waits", |primary| !primary.sql(&format!("SELECT {waiting}")).is_empty());
    assert!(!reading.is_finished());
    standby.freeze(false);
    assert_eq!(reading.await.unwrap().unwrap().version, Version(2));
}

#[tokio::test]
async fn a_write_that_got_its_locks_after_its_deadline_changes_nothing() {
    let server = PostgresServer::start();
    let (store, list) = store_with_list(&server.settings()).await;
    // Another instance stands still with the list locked.
    let link = &store.0.link;
    let mut other = link.begin(link.patience()).await.unwrap();
    other.run(super::apply::lock(&[list]).into()).await.unwrap();
    let late = set_before(&store, list, 1, Deadline::after(Duration::from_millis(300)));
    let (late, ()) = tokio::join!(late, async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        other.end().await.unwrap();
    });
    assert!(matches!(late, Err(StoreError::Late)), "{late:?}");
    assert_eq!(version(&store, list).await, Version(0));
    set_before(&store, list, 1, Deadline::after(Duration::from_secs(5))).await.unwrap();
    assert_eq!(version(&store, list).await, Version(1));
}

#[tokio::test]
async fn locks_of_an_instance_that_stands_still_end_soon_and_its_step_changes_nothing() {
    let server = PostgresServer::start();
    let settings = format!("timeouts: {{ command: 1s }}, {}", server.settings());
    let (store, list) = store_with_list(&settings).await;
    let link = &store.0.link;
    let mut still = link.begin(link.patience()).await.unwrap();
    still.run(super::apply::lock(&[list]).into()).await.unwrap();
    let begun = Instant::now();
    soon_set(&store, list, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let raise = query("UPDATE list SET version = 1000");
    still.commit(vec![raise]).await.unwrap_err();
    assert_eq!(version(&store, list).await, Version(1));
}

#[tokio::test]
async fn a_step_that_is_abandoned_leaves_no_lock_and_no_open_transaction() {
    let server = PostgresServer::start();
    let (store, list) = store_with_list(&server.settings()).await;
    let link = &store.0.link;
    for _ in 0..20 {
        let mut step = link.begin(link.patience()).await.unwrap();
        step.run(super::apply::lock(&[list]).into()).await.unwrap();
        // As when the request that it is for ends.
        drop(step);
    }
    for waited in [0, 1, 2, 3, 4, 5, 6, 8, 10] {
        let setting = set(&store, list, waited);
        let _ = tokio::time::timeout(Duration::from_millis(waited), setting).await;
    }
    set(&store, list, 100).await.unwrap();
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    server.wait("no transaction", |server| server.sql(idle) == "0");
}

/// The connection ends after ever more bytes of an update, in both directions together, until one gets through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_at_any_point_of_an_update_leaves_all_of_it_or_nothing_and_no_lock() {
    let server = PostgresServer::start();
    let wire = Wire::to(server.port);
    let (store, list) = store_with_list(&settings(wire.port)).await;
    let both = |idx| {
        let change = |idx| StatusChange { list, index: index(idx), status: Status::INVALID, expected: None };
        vec![vec![change(idx), change(idx + 1)]]
    };
    let (mut cut, mut refused, mut set_before) = (0, 0, 1);
    soon_set(&store, list, 799).await;
    loop {
        // Few enough bytes that the limits fall between all messages.
        wire.close_after(1 + cut * 83);
        let idx = u64::try_from(cut * 2).unwrap();
        let answer = store.apply(&shape().id, both(idx), soon(), NOW).await;
        let was_cut = wire.lift_limit();
        // Waits until the step stands or is undone, because it locks the same list.
        soon_set(&store, list, 799).await;
        let [_, set] = patiently(|| store.snapshot(list)).await.array.counts()[..] else { panic!("one bit") };
        match answer {
            Ok(answers) => {
                assert_eq!(answers, [Ok(())]);
                assert_eq!(set, set_before + 2, "an acknowledged update is lost after cut {cut}");
            }
            Err(StoreError::Unavailable(_)) => {
                assert!(set == set_before || set == set_before + 2, "half an update after cut {cut}");
                refused += 1;
            }
            Err(other) => panic!("cut {cut}: {other:?}"),
        }
        set_before = set;
        if !was_cut {
            break;
        }
        cut += 1;
    }
    assert!(refused > 5, "only {refused} of {cut} cuts struck");
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again_and_nobody_waits_meanwhile() {
    let mut server = PostgresServer::start();
    let (store, list) = store_with_list(&server.settings()).await;
    set(&store, list, 1).await.unwrap();
    server.kill();
    set(&store, list, 2).await.unwrap_err();
    let begun = Instant::now();
    set(&store, list, 2).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(100), "a request waited: {:?}", begun.elapsed());
    server.start_again();
    soon_set(&store, list, 2).await;
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [798, 2]);
}

#[tokio::test]
async fn instances_that_start_together_make_one_schema_and_a_newer_one_is_refused() {
    let server = PostgresServer::start();
    let settings = server.settings();
    let starts = (0..5).map(|_| {
        let settings = settings.clone();
        tokio::spawn(async move { open(&settings).await.map(|_| ()) })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    assert_eq!(server.sql("SELECT count(*) FROM statuslist.store"), "1");
    server.sql("UPDATE statuslist.store SET schema = 99");
    let refused = open(&settings).await.unwrap_err().to_string();
    assert!(refused.contains("schema 99"), "{refused}");
    let unmade = PostgresStore::open_to_read(&config(&format!("schema: other, {settings}"))).await;
    let refused = unmade.unwrap_err().to_string();
    assert!(refused.contains("start its service once"), "{refused}");
}

#[tokio::test]
async fn an_unfinished_copy_is_refused_until_it_is_removed_as_the_message_says() {
    let server = PostgresServer::start();
    let store = open(&server.settings()).await.unwrap();
    store.begin_import().await.unwrap();
    let Err(StoreError::Unfinished { remove, .. }) = open(&server.settings()).await else {
        panic!("it was opened")
    };
    store.finish_import().await.unwrap();
    open(&server.settings()).await.unwrap();
    store.begin_import().await.unwrap();
    server.sql(&remove);
    open(&server.settings()).await.unwrap();
}

#[tokio::test]
async fn data_that_this_program_never_writes_is_damage_not_an_outage() {
    let server = PostgresServer::start();
    let (store, list) = store_with_list(&server.settings()).await;
    set(&store, list, 1).await.unwrap();
    for (damage, repair) in [
        ("UPDATE statuslist.list SET owner = 'not an id!'", "UPDATE statuslist.list SET owner = 'ours'"),
        ("UPDATE statuslist.list SET version = -1", "UPDATE statuslist.list SET version = 1"),
    ] {
        server.sql(damage);
        let error = store.list(list).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
        server.sql(repair);
    }
    server.sql("UPDATE statuslist.chunk SET bytes = substring(bytes FOR 5)");
    let error = store.snapshot(list).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    let error = set(&store, list, 2).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
}

/// What the marks of an instance notice, wherever the data went: here an older copy of the list's row.
#[tokio::test]
async fn leases_that_were_lost_are_noticed_and_a_pool_that_was_lost_is_declared_anew() {
    let server = PostgresServer::start();
    let (store, list) = store_with_list(&server.settings()).await;
    let lease = async |mark| store.lease_block(list, 10, &owner(), Lease(mark), NOW).await.unwrap();
    assert!(matches!(lease(0).await, Leased::Block(_)));
    server.sql("CREATE TABLE older AS SELECT * FROM statuslist.list");
    let Leased::Block(block) = lease(1).await else { panic!("nothing was leased") };
    server.sql("UPDATE statuslist.list SET leases = older.leases, leased = older.leased FROM older");
    assert_eq!(lease(block.lease.0).await, Leased::Behind { lease: Lease(1) });
    let rest = "TRUNCATE statuslist.list, statuslist.pool, statuslist.publisher, statuslist.chunk, statuslist.spread";
    server.sql(rest);
    let lost = store.open_list(&shape().id, &owner(), u64::MAX, NOW).await;
    assert!(matches!(lost, Err(StoreError::NoSuchPool(_))), "{lost:?}");
    store.open_list(&shape().id, &owner(), u64::MAX, NOW).await.unwrap();
}

#[tokio::test]
async fn updates_go_on_while_the_tables_are_vacuumed() {
    let server = PostgresServer::start();
    let (store, list) = store_with_list(&settings(server.port)).await;
    for round in 0..5 {
        for idx in 0..20 {
            set(&store, list, round * 20 + idx).await.unwrap();
        }
        let (vacuumed, ()) = tokio::join!(async { server.try_sql("VACUUM ANALYZE") }, async {
            set(&store, list, 700 + round).await.unwrap()
        });
        assert!(vacuumed.is_some());
    }
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [695, 105]);
    assert_eq!(version(&store, list).await, Version(105));
}
