//! A store that went back in time, by a restored backup or by a failover, is detected: no reference is repeated.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;
use statuslist::base::clock::Clock;

use crate::drills::runbook::{Shell, blocks};
use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::postgres::PostgresServer;
use crate::support::process::pause;
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

/// References that are handed out after the restore.
const AFTER: usize = 1_000_000;
const POOL: &str = "size: 500000, update-interval: 1s, prefetch: { capacity: 10000 }";
const PUBLIC: &str = "http://status.example";

fn settings(store: &str, marks: bool) -> String {
    format!(
        "{{ {store}, high-water-marks: {marks}, status-list-pools: {{ p: {{ api-key: {KEY}, {POOL} }} }} }}"
    )
}

/// Hands out references before and after a backup, restores it, and returns how many of the later ones were repeated.
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

/// Waits until the writing thread has closed the database, a moment after the service has stopped, and removed its log by name.
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

/// The database is restored, and the folder with the marks loses them: only the id of the instance is left.
#[tokio::test]
async fn lost_marks_are_noticed_and_nothing_is_repeated() {
    let copy = tempfile::tempdir().unwrap();
    let repeated = repeated(
        &settings("storage-type: sqlite", true),
        20_000,
        |folder| copy_database(folder, copy.path()),
        |folder| {
            copy_database(copy.path(), folder);
            fs::remove_file(folder.join("instance/p.marks")).unwrap();
            assert!(folder.join("instance/id").exists());
        },
    )
    .await;
    assert_eq!(repeated, 0);
}

#[tokio::test]
async fn lists_whose_marks_are_lost_are_sealed_and_counted_once() {
    let settings = settings("storage-type: sqlite", true);
    let start = |folder| TestApp::start_at(folder, PUBLIC, &settings, Clock::System);
    let app = start(tempfile::tempdir().unwrap());
    let before = app.references(10).await;
    let folder = app.stop();
    fs::remove_file(folder.path().join("instance/p.marks")).unwrap();
    let app = start(folder);
    let behind = async |app: &TestApp| {
        let metrics =
            app.client.get(format!("{}/metrics", app.url)).send().await.unwrap().text().await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with("statuslist_lists_behind_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // Two lists that are mixed, and a spare one.
    eventually("all open lists to be sealed", async || (behind(&app).await == 3).then_some(())).await;
    let after = app.references(1000).await;
    assert!(after.iter().all(|after| before.iter().all(|before| before.uri != after.uri)));
    assert_eq!(app.update(&before[0], json!(1)).await.0, StatusCode::NO_CONTENT);
    let app = start(app.stop());
    assert_eq!(behind(&app).await, 0, "the marks are there again");
    app.references(10).await;
}

/// What the public folder says does not retire a list: whoever writes to it could end any list.
#[tokio::test]
async fn a_list_whose_retirement_the_store_lost_is_published_again_until_it_is_retired_again() {
    let settings = settings("storage-type: sqlite", true);
    let start = |folder| TestApp::start_at(folder, PUBLIC, &settings, Clock::System);
    let app = start(tempfile::tempdir().unwrap());
    let reference = app.references(1).await.remove(0);
    let list = reference.uri.rsplit('/').next().unwrap().to_owned();
    let (folder, copy) = (app.stop(), tempfile::tempdir().unwrap());
    copy_database(folder.path(), copy.path());
    let app = start(folder);
    let file = |folder: &Path, ending: &str| folder.join(format!("public/lists/{list}.{ending}"));
    let retire = async |app: &TestApp| {
        let path = format!("/pools/p/lists/{list}?force=true");
        assert_eq!(app.send(Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
        let is_gone = async || {
            let is_gone = file(app.folder(), "gone").exists() && !file(app.folder(), "jwt").exists();
            is_gone.then_some(())
        };
        eventually("the list to be gone", is_gone).await;
    };
    retire(&app).await;
    let folder = app.stop();
    copy_database(copy.path(), folder.path());
    let app = start(folder);
    eventually("the list to be published again", async || {
        let is_back = published(app.folder(), &reference.uri).is_ok();
        (is_back && !file(app.folder(), "gone").exists()).then_some(())
    })
    .await;
    assert_eq!(app.update(&reference, json!(1)).await.0, StatusCode::NO_CONTENT);
    retire(&app).await;
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

async fn repeated_on_postgresql(marks: bool, amount: usize) -> usize {
    let (server, folder) = (PostgresServer::start(), tempfile::tempdir().unwrap());
    let postgres = format!("storage-type: postgres, postgres: {{ {} }}", server.settings());
    let [.., back_up, restore] = &blocks("Backup and restore")[..] else { panic!("the page has changed") };
    let database = format!("--host 127.0.0.1 --port {} --username postgres --dbname postgres", server.port);
    let here = vec![("--dbname statuslist", database), ("/backup", folder.path().display().to_string())];
    let shell = Shell { folder: folder.path().to_owned(), here };
    let run = |lines: &str| drop(shell.succeed(lines));
    repeated(&settings(&postgres, marks), amount, |_| run(back_up), |_| run(restore)).await
}

#[tokio::test]
async fn a_dump_of_postgresql_restored_as_the_runbook_says_repeats_nothing_but_would_without_marks() {
    assert_eq!(repeated_on_postgresql(true, 100_000).await, 0);
    assert!(repeated_on_postgresql(false, 20_000).await > 0, "the control");
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_gets_new_lists_without_a_restart() {
    let mut server = RedisServer::start();
    let redis = format!("storage-type: redis, redis: {{ {} }}", server.settings());
    let pool = "update-interval: 1s, prefetch: { capacity: 1000 }, precreation: { check-delay: 1s }";
    let settings = format!("{{ {redis}, status-list-pools: {{ p: {{ api-key: {KEY}, {pool} }} }} }}");
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let before = app.references(10).await;
    server.kill();
    fs::remove_dir_all(server.folder()).unwrap();
    fs::create_dir(server.folder()).unwrap();
    server.start_again();

    let after = eventually("a reference of a new list", async || {
        let (status, body) = app.send(Method::POST, "/pools/p/new-references", None).await;
        let reference = serde_json::from_value::<Reference>(body["references"][0].clone());
        reference
            .ok()
            .filter(|after| status == StatusCode::OK && before.iter().all(|before| before.uri != after.uri))
    })
    .await;
    assert_eq!(app.update(&after, json!(1)).await.0, StatusCode::NO_CONTENT);
    let (status, body) = app.update(&before[0], json!(1)).await;
    assert_eq!(
        (status, &body["code"]),
        (StatusCode::BAD_REQUEST, &json!("NO_SUCH_LIST")),
        "the answer does not report the loss"
    );
    eventually("the update is published", async || {
        published(app.folder(), &after.uri).is_ok_and(|list| list.status(after.index) == 1).then_some(())
    })
    .await;
    // The copies of the lost lists that verifiers get stay published.
    assert!(published(app.folder(), &before[0].uri).is_ok());
}
