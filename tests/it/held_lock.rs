//! A publisher that is stopped while it holds the lock of a pool's files holds up the publishing of that pool. That is safe, the log
//! of the others says so, and killing it ends it: see docs/OPERATIONS.md, "A publisher that hangs".

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::support::app::Reference;
use crate::support::eventually;
use crate::support::fleet::{Instance, on_redis, publisher, shared, signer};
use crate::support::process::{log_path, signal};
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

/// How long the lease to publish outlives its holder.
const LEASE: Duration = Duration::from_secs(12);
/// How long a publisher waits for the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

fn shows(folder: &Path, reference: &Reference, value: u8) -> bool {
    published(folder, &reference.uri).is_ok_and(|list| list.status(reference.index) == value)
}

/// Who holds the lock, as the handbook says to find out.
fn holder_of(lock: &Path) -> Option<u32> {
    let output = Command::new("lslocks").args(["--noheadings", "-o", "PID,PATH"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.ends_with(lock.to_str().unwrap()))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Stops the process that publishes while it holds the lock `path`: the test holds it until that process waits for it with the files
/// of `change`, and Redis stands still when it gets the lock, so that it keeps it until it is stopped.
pub(crate) async fn stop_with_lock(
    path: &Path,
    publisher: u32,
    redis: u32,
    change: impl Future<Output = ()>,
) {
    let lock = File::open(path).unwrap();
    lock.lock().unwrap();
    change.await;
    eventually("new files that wait for the lock", async || {
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
        let mut names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.any(|name| name.starts_with(".tmp-")).then_some(())
    })
    .await;
    signal("-STOP", redis);
    drop(lock);
    eventually("the publisher to hold the lock", async || (holder_of(path) == Some(publisher)).then_some(()))
        .await;
    signal("-STOP", publisher);
    signal("-CONT", redis);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_stopped_with_the_lock_holds_up_its_pool_until_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let pool = format!("api-key: x, size: 8000, update-interval: 1s, {}", signer(folder.path()));
    let settings = format!(
        "{}{}status-list-pools: {{ p: {{ {pool} }}, q: {{ {pool} }} }}",
        on_redis(&redis, ""),
        shared(folder.path())
    );
    let mut first = Instance::start(folder.path(), "first", &settings);
    let reference = first.issuer().references("p", 1).await.remove(0);
    let second = Instance::start(folder.path(), "second", &settings);
    let other = second.issuer().references("q", 1).await.remove(0);
    assert_eq!(publisher(&redis, "p").0, first.id());

    let path = folder.path().join("public/lists/.pool-p.lock");
    let change = async {
        assert_eq!(second.issuer().set(&reference, 1).await, Some(StatusCode::NO_CONTENT));
    };
    stop_with_lock(&path, first.pid(), redis.pid(), change).await;

    // Its lease ends, but nobody can know that it will not go on with renaming. Other pools go on.
    let stopped = Instant::now();
    assert_eq!(second.issuer().set(&other, 1).await, Some(StatusCode::NO_CONTENT));
    eventually("the other pool", async || shows(folder.path(), &other, 1).then_some(())).await;
    let said = async || {
        let log = std::fs::read_to_string(log_path(second.folder())).unwrap();
        log.lines().any(|line| line.contains("another instance has held it for 10s")).then_some(())
    };
    eventually("the log to say who waits for what", said).await;
    assert!(stopped.elapsed() > LOCK_PATIENCE && !shows(folder.path(), &reference, 1));
    assert_eq!(holder_of(&path), Some(first.pid()));

    first.kill();
    eventually("the revocation", async || shows(folder.path(), &reference, 1).then_some(())).await;
    assert!(stopped.elapsed() < LEASE + 3 * LOCK_PATIENCE, "{:?}", stopped.elapsed());
    assert_eq!(publisher(&redis, "p").0, second.id());
}
