//! A store that went back in time, by a restored backup or by a failover, is noticed: no reference comes twice.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use statuslist::clock::Clock;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::process::pause;
use crate::support::redis::RedisServer;

/// References that are handed out after the restore.
const AFTER: usize = 1_000_000;
const POOL: &str = "size: 500000, update-interval: 1s, prefetch: { capacity: 10000 }";
const PUBLIC: &str = "http://status.example";

fn settings(store: &str, marks: bool) -> String {
    format!(
        "{{ {store}, high-water-marks: {marks}, status-list-pools: {{ p: {{ api-key: {KEY}, {POOL} }} }} }}"
    )
}

/// Hands out references before and after a backup, restores it, and answers how many of the further ones came twice.
async fn repeated(
    settings: &str,
    amount: usize,
    backup: impl FnOnce(&Path),
    restore: impl FnOnce(&Path),
) -> usize {
    let start = |folder| TestApp::start_at(folder, PUBLIC, settings, Clock::System);
    let app = start(tempfile::tempdir().unwrap());
    let mut told: HashSet<Reference> = app.references(1000).await.into_iter().collect();
    let folder = app.stop();
    backup(folder.path());

    let app = start(folder);
    for _ in 0..3 {
        told.extend(app.references(10_000).await);
    }
    let folder = app.stop();
    restore(folder.path());

    let app = start(folder);
    let mut repeated = 0;
    for _ in 0..amount / 10_000 {
        repeated += app.references(10_000).await.iter().filter(|reference| told.contains(reference)).count();
    }
    repeated
}

pub(crate) fn copy_database(from: &Path, to: &Path) {
    wait_until_closed(from);
    wait_until_closed(to);
    for name in ["statuslist.db", "statuslist.db-wal", "statuslist.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

/// The writing thread closes the database a moment after the service has stopped, and removes its log by name.
fn wait_until_closed(folder: &Path) {
    let is_open = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        let mut files = files.filter_map(|file| fs::read_link(file.path()).ok());
        files.any(|file| file.starts_with(folder) && file.to_string_lossy().contains("statuslist.db"))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_open() {
        assert!(Instant::now() < deadline, "the database stays open");
        pause(Duration::from_millis(10));
    }
}

async fn repeated_on_sqlite(marks: bool, amount: usize) -> usize {
    let copy = tempfile::tempdir().unwrap();
    repeated(
        &settings("storage-type: sqlite", marks),
        amount,
        |folder| copy_database(folder, copy.path()),
        |folder| copy_database(copy.path(), folder),
    )
    .await
}

#[tokio::test]
async fn a_restored_copy_of_sqlite_repeats_nothing_in_a_million_but_would_without_marks() {
    assert_eq!(repeated_on_sqlite(true, AFTER).await, 0);
    assert!(repeated_on_sqlite(false, 20_000).await > 0, "the control");
}

async fn repeated_on_redis(marks: bool, amount: usize) -> usize {
    let (data, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = std::cell::RefCell::new(RedisServer::start_in(data.path(), &[]));
    let redis = format!("storage-type: redis, redis: {{ {} }}", server.borrow().settings());
    repeated(
        &settings(&redis, marks),
        amount,
        |_| {
            server.borrow_mut().kill();
            copy_folder(data.path(), copy.path());
            server.borrow_mut().start_again();
        },
        |_| {
            server.borrow_mut().kill();
            fs::remove_dir_all(data.path()).unwrap();
            copy_folder(copy.path(), data.path());
            server.borrow_mut().start_again();
        },
    )
    .await
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in walkdir::WalkDir::new(from).into_iter().map(Result::unwrap) {
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        match entry.file_type().is_dir() {
            true => fs::create_dir_all(target).unwrap(),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test]
async fn a_restored_copy_of_redis_repeats_nothing_in_a_million_but_would_without_marks() {
    assert_eq!(repeated_on_redis(true, AFTER).await, 0);
    assert!(repeated_on_redis(false, 20_000).await > 0, "the control");
}
