//! Promises of this backend only; the others are in `store/tests/`.

use std::collections::BTreeSet;

use deadpool_redis::redis::Value;

use super::*;
use crate::base::clock::Timestamp;
use crate::config::{Config, StoreConfig};
use crate::model::instance::InstanceId;
use crate::status_list::{Bits, Status, StatusSet};
use crate::store::remembered::{Answered, Keep};
use crate::store::servers::redis::RedisServer;
use crate::store::values::{Refusal, StatusChange, Version};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn config(redis: &str) -> RedisConfig {
    let settings = format!("{{ storage-type: redis, redis: {{ {redis} }} }}");
    match Config::load(Some(&settings), std::iter::empty()).unwrap().store {
        StoreConfig::Redis(config) => config,
        other => unreachable!("the settings say redis: {other:?}"),
    }
}

fn shape(size: u64, bits: Bits) -> PoolShape {
    PoolShape {
        id: "p".parse().unwrap(),
        public_url: "https://status.example".parse().unwrap(),
        capacity: Capacity::new(size, bits).unwrap(),
        default_status: Status::VALID,
        final_status: None,
        statuses: StatusSet::new(bits, &[]).unwrap(),
    }
}

async fn store_with_list(server: &RedisServer, shape: &PoolShape) -> (RedisStore, ListId) {
    let store = RedisStore::open(&config(&server.settings())).await.unwrap();
    store.declare_pool(shape).await.unwrap();
    let list = store.open_list(&shape.id, &owner(), u64::MAX, NOW).await.unwrap();
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
    Capacity::new(1_000_000, Bits::One).unwrap().index(idx).unwrap()
}

async fn set(store: &RedisStore, list: ListId, idx: u64) -> Result<(), StoreError> {
    let changes =
        vec![vec![StatusChange { list, index: index(idx), status: Status::INVALID, expected: None }]];
    store
        .apply(&"p".parse().unwrap(), changes, soon(), NOW)
        .await
        .map(|answers| assert_eq!(answers, [Ok(())]))
}

#[tokio::test]
async fn a_list_of_a_million_bits_takes_less_than_a_fifth_of_a_megabyte() {
    let server = RedisServer::start();
    let (store, list) = store_with_list(&server, &shape(1_000_000, Bits::One)).await;
    for n in 0..2000 {
        set(&store, list, n * 7919 % 1_000_000).await.unwrap();
    }
    let keys = server.cli(&["--scan", "--pattern", &format!("*{list}")]);
    let memory: u64 =
        keys.lines().map(|key| server.cli(&["MEMORY", "USAGE", key]).parse::<u64>().unwrap()).sum();
    assert_eq!(keys.lines().count(), 3, "{keys}");
    assert!((125_000..200_000).contains(&memory), "{memory} bytes");
}

#[tokio::test]
async fn a_server_that_would_lose_writes_is_refused_at_the_start_by_name() {
    for (option, value, expected) in [
        ("appendonly", "no", "appendonly no, must have yes"),
        ("appendfsync", "everysec", "appendfsync everysec, must have always"),
        ("no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite yes, must have no"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy allkeys-lru, must have noeviction"),
    ] {
        let server = RedisServer::start_with(&[(option, value)]);
        let refused = RedisStore::open(&config(&server.settings())).await.unwrap_err().to_string();
        assert!(refused.contains(expected) && refused.contains("CONFIG SET"), "{refused}");
        let allowed = format!("persistence-strategy: disabled, {}", server.settings());
        RedisStore::open(&config(&allowed)).await.unwrap();
    }
}

#[tokio::test]
async fn too_few_replicas_and_a_replica_itself_are_refused_at_the_start() {
    let server = RedisServer::start();
    let wanted = config(&format!("replicas: 1, {}", server.settings()));
    let refused = RedisStore::open(&wanted).await.unwrap_err().to_string();
    assert!(refused.contains("min-replicas-to-write below 1"), "{refused}");
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let refused = RedisStore::open(&wanted).await.unwrap_err().to_string();
    assert!(refused.contains("0 replicas in step, redis.replicas demands 1"), "{refused}");
    let replica = RedisServer::replica_of(server.port, &[]);
    RedisStore::open(&wanted).await.unwrap();
    let refused = config(&format!("timeouts: {{ connect: 200ms }}, {}", replica.settings()));
    let refused = RedisStore::open(&refused).await.unwrap_err().to_string();
    assert!(refused.contains("replica, not the master"), "{refused}");
}

#[tokio::test]
async fn writes_stop_while_the_server_would_lose_them_and_go_on_afterwards() {
    let server = RedisServer::start();
    let (store, list) = store_with_list(&server, &shape(800, Bits::One)).await;
    server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    // As every 30 seconds.
    store.0.link.check().await.unwrap_err();
    let refused = set(&store, list, 1).await.unwrap_err().to_string();
    assert!(refused.contains("appendfsync everysec"), "{refused}");
    server.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    store.0.link.check().await.unwrap();
    set(&store, list, 1).await.unwrap();
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_or_comes_back_is_used_again() {
    let mut server = RedisServer::start();
    let (store, list) = store_with_list(&server, &shape(800, Bits::One)).await;
    set(&store, list, 1).await.unwrap();
    server.cli(&["SCRIPT", "FLUSH"]);
    set(&store, list, 2).await.unwrap();
    server.kill();
    set(&store, list, 3).await.unwrap_err();
    let begun = Instant::now();
    set(&store, list, 3).await.unwrap_err();
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "a request waited for a server that is known to be unavailable"
    );
    server.start_again();
    let returned = Instant::now();
    while set(&store, list, 3).await.is_err() {
        assert!(returned.elapsed() < Duration::from_secs(2), "it must be used again within two seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let snapshot = store.snapshot(list).await.unwrap();
    assert_eq!((snapshot.version, snapshot.array.counts()), (Version(3), vec![797, 3]));
}

#[tokio::test]
async fn a_replica_that_does_not_confirm_leaves_the_write_unknown() {
    let server = RedisServer::start_with(&[("min-replicas-to-write", "1")]);
    let replica = RedisServer::replica_of(server.port, &[]);
    let settings = format!("replicas: 1, timeouts: {{ replicas: 1s }}, {}", server.settings());
    let store = RedisStore::open(&config(&settings)).await.unwrap();
    let shape = shape(800, Bits::One);
    store.declare_pool(&shape).await.unwrap();
    let list = store.open_list(&shape.id, &owner(), u64::MAX, NOW).await.unwrap();
    set(&store, list, 1).await.unwrap();
    replica.freeze(true);
    let unknown = set(&store, list, 2).await.unwrap_err().to_string();
    assert!(unknown.contains("0 of 1 replicas confirmed") && unknown.contains("unknown"), "{unknown}");
    replica.freeze(false);
    set(&store, list, 2).await.unwrap();
}

#[test]
fn entries_lie_where_a_token_has_them() {
    for bits in [Bits::One, Bits::Two, Bits::Four, Bits::Eight] {
        let capacity = Capacity::new(64, bits).unwrap();
        let width = u64::from(bits.get());
        for idx in 0..64 {
            // Redis counts from the most significant bit, so a value's last bit is at `offset + width - 1`.
            let last = bit_offset(capacity, capacity.index(idx).unwrap()) + width - 1;
            let (byte, shift) = (last / 8, 7 - last % 8);
            assert_eq!((byte, shift), (idx * width / 8, idx * width % 8), "{bits} bits, index {idx}");
        }
    }
}

#[tokio::test]
async fn data_that_this_program_never_writes_is_damage_not_an_outage() {
    let server = RedisServer::start();
    let (store, list) = store_with_list(&server, &shape(800, Bits::One)).await;
    let keys = server.cli(&["--scan", "--pattern", &format!("*:list:{list}")]);
    let key = keys.lines().find(|key| key.contains("{p}")).unwrap();
    server.cli(&["HSET", key, "owner", "not an id!"]);
    let error = store.list(list).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    set(&store, list, 7).await.unwrap();
}

/// Everything that the server stores.
fn all_keys(server: &RedisServer) -> BTreeSet<String> {
    server
        .try_cli(&["--scan"])
        .unwrap_or_default()
        .lines()
        .filter(|key| !key.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `WAIT` confirms only what was written before it, so with replicas even a read writes something.
#[tokio::test]
async fn a_pool_that_was_flushed_can_be_declared_again_whatever_was_read_in_between() {
    let server = RedisServer::start_with(&[("min-replicas-to-write", "1")]);
    let _replica = RedisServer::replica_of(server.port, &[]);
    let settings = config(&format!("replicas: 1, {}", server.settings()));
    let store = RedisStore::open(&settings).await.unwrap();
    let (shape, key) = (shape(800, Bits::One), [7; 32]);
    store.declare_pool(&shape).await.unwrap();
    let list = store.open_list(&shape.id, &owner(), u64::MAX, NOW).await.unwrap();
    set(&store, list, 1).await.unwrap();
    server.cli(&["FLUSHALL"]);

    store.snapshot(list).await.unwrap_err();
    let answer = Answered::new([0; 32], &[], 800);
    let keep = Keep { time: Duration::from_secs(60), bytes_max: 1 << 30 };
    store.remember(&shape.id, key, answer, NOW, keep).await.unwrap();
    assert!(store.remembered(&shape.id, key, NOW).await.unwrap().is_some());
    assert_eq!(store.shape_of(&shape.id).await.unwrap(), None);
    assert!(!all_keys(&server).contains(&store.0.keys.pool(&shape.id)), "{:?}", all_keys(&server));

    // As the next start does, followed by allocation.
    let store = RedisStore::open(&settings).await.unwrap();
    store.declare_pool(&shape).await.unwrap();
    let list = store.open_list(&shape.id, &owner(), u64::MAX, NOW).await.unwrap();
    set(&store, list, 1).await.unwrap();
}

/// Earlier versions counted snapshots in the pool's hash, and left that hash behind with nothing else in it.
#[tokio::test]
async fn a_pool_of_which_only_a_counter_is_left_is_declared_anew() {
    let server = RedisServer::start();
    let store = RedisStore::open(&config(&server.settings())).await.unwrap();
    let shape = shape(800, Bits::One);
    server.cli(&["HSET", &store.0.keys.pool(&shape.id), "snapshots", "1"]);
    store.declare_pool(&shape).await.unwrap();
    store.declare_pool(&shape).await.unwrap();
    assert_eq!(store.shape_of(&shape.id).await.unwrap(), Some(shape.clone()));
    let list = store.open_list(&shape.id, &owner(), u64::MAX, NOW).await.unwrap();
    set(&store, list, 1).await.unwrap();
}

#[tokio::test]
async fn keys_with_an_unfinished_copy_are_refused_until_they_are_removed_as_the_message_says() {
    let server = RedisServer::start();
    let open = async || RedisStore::open(&config(&server.settings())).await;
    let (store, _) = store_with_list(&server, &shape(800, Bits::One)).await;
    store.begin_import().await.unwrap();
    let refused = open().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unfinished { .. }), "{refused}");
    let message = refused.to_string();
    let pattern = message.split('\'').nth(1).unwrap();
    let others: BTreeSet<_> =
        server.cli(&["--scan", "--pattern", pattern]).lines().map(str::to_owned).collect();
    let marked = all_keys(&server);
    let mark: Vec<_> = marked.difference(&others).collect();
    assert_eq!(mark, ["statuslist:unfinished"], "the mark is removed last");
    assert!(message.ends_with(&format!("then redis-cli DEL {}", mark[0])), "{message}");
    store.finish_import().await.unwrap();
    open().await.unwrap();
}

fn with_final_status(size: u64, bits: Bits) -> PoolShape {
    PoolShape { final_status: Some(Status::INVALID), ..shape(size, bits) }
}

/// Sets an entry as an earlier version of this program did, which knew nothing of `no-final`.
fn set_as_before(server: &RedisServer, store: &RedisStore, list: ListId, idx: u64, value: &str) {
    let pool = "p".parse().unwrap();
    let offset = bit_offset(Capacity::new(800, Bits::Two).unwrap(), index(idx)).to_string();
    server.cli(&["BITFIELD", &store.0.keys.bytes(&pool, &list), "SET", "u2", &offset, value]);
    server.cli(&["HINCRBY", &store.0.keys.list(&pool, &list), "version", "1"]);
}

#[tokio::test]
async fn filling_never_leaves_a_final_status_that_an_earlier_version_set() {
    let server = RedisServer::start();
    let shape = with_final_status(800, Bits::Two);
    for (made_before, value) in [(false, "1"), (true, "1"), (false, "2"), (true, "2")] {
        for beats in [1, 2] {
            let (store, list) = store_with_list(&server, &shape).await;
            if made_before {
                server.cli(&["HDEL", &store.0.keys.list(&shape.id, &list), "no-final"]);
            }
            set_as_before(&server, &store, list, 5, value);
            let filled = store.fill_list(list, Status::new(2), beats, soon(), NOW).await.unwrap();
            let refusal = Refusal::FinalStatus { list, index: index(5), status: Status::INVALID };
            let expected = if value == "1" { Err(refusal) } else { Ok(()) };
            assert_eq!(filled, expected, "made before: {made_before}, {value}, {beats} beats");
        }
    }
}

/// Otherwise filling has to read the entries.
#[tokio::test]
async fn a_list_is_known_to_have_no_final_status_until_it_has_one() {
    let server = RedisServer::start();
    let shape = with_final_status(800, Bits::Two);
    let (store, list) = store_with_list(&server, &shape).await;
    let key = store.0.keys.list(&shape.id, &list);
    let known = || server.cli(&["HGET", &key, "no-final"]) == server.cli(&["HGET", &key, "version"]);
    assert!(known());
    let set_to = async |value| {
        let change = StatusChange { list, index: index(6), status: Status::new(value), expected: None };
        store.apply(&shape.id, vec![vec![change]], soon(), NOW).await.unwrap().remove(0)
    };
    for value in [2, 0] {
        assert_eq!(set_to(value).await, Ok(()));
        assert!(known(), "{value}");
        store.fill_list(list, Status::new(value), 1, soon(), NOW).await.unwrap().unwrap();
        assert!(known(), "{value}");
    }
    assert_eq!(set_to(1).await, Ok(()));
    assert!(!known());
}

/// Whichever comes first: an entry that was set to its final status has it.
#[tokio::test]
async fn a_final_status_that_is_set_while_the_entries_are_read_is_not_left() {
    let server = RedisServer::start();
    let shape = with_final_status(800, Bits::Two);
    let (mut refused, mut filled) = (0, 0);
    for round in 0..200 {
        let (store, list) = store_with_list(&server, &shape).await;
        server.cli(&["HDEL", &store.0.keys.list(&shape.id, &list), "no-final"]);
        let fill = async {
            tokio::time::sleep(Duration::from_millis(3 * (round % 5))).await;
            store.fill_list(list, Status::new(2), 1, soon(), NOW).await.unwrap()
        };
        let finally = async {
            // At the same time, or some milliseconds before or after.
            tokio::time::sleep(Duration::from_millis(3 * (4 - round % 5))).await;
            set(&store, list, 5).await.unwrap();
        };
        match tokio::join!(fill, finally).0 {
            Ok(()) => filled += 1,
            Err(_) => refused += 1,
        }
        let status = store.status(list, index(5)).await.unwrap().0;
        assert_eq!(status, Status::INVALID, "round {round}");
    }
    assert!(refused > 0 && filled > 0, "{refused} refused, {filled} filled");
}

/// All other clients wait for a script.
#[tokio::test]
async fn filling_a_large_list_with_a_final_status_does_not_stop_the_server() {
    let server = RedisServer::start();
    let (store, list) = store_with_list(&server, &with_final_status(128_000_000, Bits::One)).await;
    let change = StatusChange { list, index: index(7), status: Status::VALID, expected: None };
    let applied = store.apply(&"p".parse().unwrap(), vec![vec![change]], soon(), NOW).await.unwrap();
    assert_eq!(applied, [Ok(())]);
    for known in [true, false] {
        if !known {
            server.cli(&["HDEL", &store.0.keys.list(&"p".parse().unwrap(), &list), "no-final"]);
        }
        let before = cpu_seconds(&server);
        store.fill_list(list, Status::VALID, 1, soon(), NOW).await.unwrap().unwrap();
        let took = cpu_seconds(&server) - before;
        assert!(took < 0.5, "the server did nothing else for {took} s, known: {known}");
    }
}

/// The CPU time of the thread that executes commands, which other programs on a busy machine do not change.
fn cpu_seconds(server: &RedisServer) -> f64 {
    let info = server.cli(&["INFO", "cpu"]);
    let of_main_thread = info.lines().filter_map(|line| line.split_once("_main_thread:"));
    of_main_thread.map(|(_, seconds)| seconds.trim().parse::<f64>().unwrap()).sum()
}

/// Calls every script with the keys of a pool and a list that do not exist. Returns the calls, each with the key that it may create.
fn calls_for_nothing(store: &RedisStore) -> Vec<(Call, Vec<String>)> {
    let (keys, pool, list, owner) = (&store.0.keys, "p".parse().unwrap(), ListId::random(), owner());
    let (of_pool, lists, due, dirty) =
        (keys.pool(&pool), keys.lists(&pool), keys.due(&pool), keys.dirty(&pool));
    let (open, spreads) = (keys.open(&pool, &owner), keys.spreads(&pool));
    let (answer, answer_bytes) = (keys.answer(&pool, &[7; 32]), keys.answer_bytes(&pool));
    let registry = keys.registry();
    let (of_list, bytes, id) = (keys.list(&pool, &list), keys.bytes(&pool, &list), list.to_string());
    let call = |script, keys: &[&String], arguments: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|key| (*key).clone()).collect();
        (Call::new(script, &keys).arg(arguments), Vec::new())
    };
    let creates = |(call, _): (Call, Vec<String>), keys: &[&String]| {
        (call, keys.iter().map(|key| (*key).clone()).collect())
    };
    let import = |is_open: &str| {
        let arguments = [
            &id,
            "0123456789abcdef",
            "ours",
            "10",
            "1",
            is_open,
            "3",
            "2",
            "1700000000",
            "1700000100",
            "1700000000000",
            "\u{1}",
            "1700000000000",
            "0",
            "1 2 0 0",
            "1",
        ];
        call(
            &scripts::IMPORT_LIST,
            &[&of_pool, &lists, &open, &due, &dirty, &of_list, &bytes, &spreads],
            &arguments,
        )
    };
    let fill = |final_status: &str, spread: &str| {
        let arguments = [&id, "1700000000000", "", "100", "\u{1}", final_status, "1", spread, "1 2 ", "0 "];
        call(&scripts::FILL_LIST, &[&of_pool, &open, &of_list, &dirty, &bytes, &spreads], &arguments)
    };
    let apply = |final_status: &str, expecting: &str, value: &str| {
        let arguments = ["1700000000000", "1", final_status, "100", "0", expecting, "1", "1", "7", value];
        call(&scripts::APPLY, &[&dirty, &spreads, &of_list, &bytes], &arguments)
    };
    vec![
        call(
            &scripts::ADVANCE_SPREAD,
            &[&dirty, &spreads, &of_list, &bytes],
            &[&id, "1700000000000", "1", "100", "1 2 0 0", "", "1", "7"],
        ),
        apply("", "0", "1"),
        apply("1", "0", "1"),
        apply("", "1", "257"),
        fill("0", ""),
        fill("1", ""),
        fill("0", "1 2 0 0"),
        import("0"),
        import("1"),
        call(&scripts::LEASE_BLOCK, &[&of_pool, &open, &of_list], &[&id, "ours", "10", "0", "1700000000000"]),
        call(&scripts::LEASE_PUBLISHER, &[&of_pool], &["ours", "30000", "0"]),
        call(&scripts::MARK_DUE, &[&due, &of_list], &[&id]),
        call(
            &scripts::OPEN_LIST,
            &[&of_pool, &lists, &open, &due, &of_list],
            &[&id, "0123456789abcdef", "ours", "1000", "1"],
        ),
        call(&scripts::RELEASE_PUBLISHER, &[&of_pool], &["ours"]),
        call(&scripts::REPLACE_REGISTRY, &[&registry], &["1-0123456789abcdef", "2-0123456789abcdef", "{}"]),
        call(&scripts::RETIRE_LIST, &[&of_pool, &open, &of_list, &due, &spreads], &[&id]),
        call(&scripts::RETURN_TAIL, &[&of_pool, &open, &of_list], &[&id, "1", "5"]),
        call(&scripts::SEAL_LIST, &[&of_pool, &open, &of_list], &[&id]),
        call(
            &scripts::SETTLE,
            &[&of_pool, &dirty, &due, &of_list],
            &[&id, "1", "1", "1700000000", "1700000100", "1700000000000", "0"],
        ),
        // The key that a script creates is its purpose, and evidence of nothing else.
        creates(
            call(
                &scripts::REMEMBER,
                &[&answer, &answer_bytes],
                &["an answer", "60000", "2500", "300", "1000"],
            ),
            &[&answer_bytes, &answer],
        ),
        creates(
            call(&scripts::DECLARE_POOL, &[&of_pool], &["https://status.example", "1", "800", "0", "null"]),
            &[&of_pool],
        ),
    ]
}

#[tokio::test]
async fn no_script_creates_keys_that_count_as_a_pool_or_a_list() {
    let server = RedisServer::start();
    let store = RedisStore::open(&config(&server.settings())).await.unwrap();
    for (call, creates) in calls_for_nothing(&store) {
        // A script that fails midway keeps what it has written.
        let answer = store.write::<Value>(&call).await;
        let created: Vec<_> = all_keys(&server).into_iter().collect();
        assert_eq!(created, creates, "{:?} answered {answer:?}", call.command(0));
        answer.unwrap();
        server.cli(&["FLUSHALL"]);
    }
    for script in scripts::ALL {
        assert_eq!(
            server.cli(&["SCRIPT", "EXISTS", script.sha1()]),
            "1",
            "every script must be called above"
        );
    }
}
