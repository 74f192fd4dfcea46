//! `statuslist plan` against what stores really need.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use statuslist::clock::Timestamp;
use statuslist::config::Config;
use statuslist::pool::PoolId;
use statuslist::store::{StatusChange, Store};

use crate::support::process::PROGRAM;
use crate::support::redis::RedisServer;

const LISTS: u64 = 300;
const ENTRIES: u64 = 80_000;
/// Of each list, so that every part of its array is touched.
const UPDATES: u64 = 400;

/// As many lists with as many updates as the plan is asked for.
async fn fill(settings: &str) {
    let config = Config::load(Some(settings), std::iter::empty()).unwrap();
    let store = Store::open(&config.store).await.unwrap();
    let pool: PoolId = "p".parse().unwrap();
    store.declare_pool(&config.pools[&pool].shape).await.unwrap();
    let now = Timestamp::from_secs(1_700_000_000);
    for _ in 0..LISTS {
        let list = store
            .open_list(&pool, &"00000000-0000-4000-8000-000000000001".parse().unwrap(), now)
            .await
            .unwrap();
        let change = |n: u64| StatusChange { list, idx: n * (ENTRIES / UPDATES), value: 1 };
        store.apply(&pool, vec![(0..UPDATES).map(change).collect()], now).await.unwrap()[0].as_ref().unwrap();
        // As the publisher does: statuses are folded into the arrays.
        store.snapshot(list).await.unwrap();
    }
}

/// What the plan says of a member, for a pool that has come to as many lists and updates.
fn planned(member: &str) -> f64 {
    let references = (LISTS - 1) * ENTRIES;
    let rate = (LISTS * UPDATES) as f64 / references as f64;
    let output = Command::new(PROGRAM)
        .args(["plan", "--json", "--lifetime", "1d", "--size", &ENTRIES.to_string()])
        .args(["--references-per-day", &references.to_string(), "--revocation-rate", &rate.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["plan"]["lists"].as_f64().unwrap(), LISTS as f64);
    plan["plan"][member].as_f64().unwrap()
}

fn size_of(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

const POOL: &str = "status-list-pools: { p: { api-key: x, size: 80000 } }";

#[tokio::test]
async fn redis_needs_what_was_planned() {
    let redis = RedisServer::start();
    let used = || -> f64 {
        let memory = redis.cli(&["INFO", "memory"]);
        let line = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.trim().parse().unwrap()
    };
    let before = used();
    fill(&format!("storage-type: redis\nredis: {{ {} }}\n{POOL}", redis.settings())).await;
    let (needed, planned) = (used() - before, planned("redis_bytes"));
    assert!((0.7..=1.15).contains(&(needed / planned)), "needed {needed}, planned {planned}");
}

#[tokio::test]
async fn sqlite_needs_what_was_planned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statuslist.db");
    fill(&format!("sqlite: {{ path: {} }}\n{POOL}", path.display())).await;
    let (needed, planned) = (size_of(folder.path()) as f64, planned("sqlite_bytes"));
    assert!((0.5..=1.6).contains(&(needed / planned)), "needed {needed}, planned {planned}");
}
