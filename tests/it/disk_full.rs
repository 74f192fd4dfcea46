//! A full disk: writes get 503, published files stay, and everything recovers without intervention once there is room again.
//!
//! In the first test the data is on a small tmpfs in a separate mount namespace; the filler is written through /proc/<pid>/root.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::support::app::Reference;
use crate::support::disk::{Disk, can_mount};
use crate::support::eventually;
use crate::support::fleet::signer;
use crate::support::postgres::PostgresServer;
use crate::support::process::{Process, command, free_port, log_path};
use crate::support::relying_party::{List, published};

const SETTINGS: &str = "
sqlite: { path: disk/statuslist.db }
storage-directory: disk/public
status-list-pools:
  p: { api-key: x, size: 80000, update-interval: 1s, prefetch: { capacity: 50 } }";

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_files_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let port = free_port();
    let inner = command(folder.path(), port, SETTINGS);
    let process = Process::start(on_small_disk(&inner, &disk), folder.path(), port);
    let seen =
        Path::new("/proc").join(process.id().to_string()).join("root").join(disk.strip_prefix("/").unwrap());
    let client = Client::new();
    let base = process.url.clone();

    let reference = references(&client, &base, 1).await.remove(0);
    assert_eq!(update(&client, &base, &reference, 0).await, StatusCode::NO_CONTENT);
    let keys = serde_json::from_slice(&std::fs::read(seen.join("public/lists/jwks.json")).unwrap()).unwrap();
    let fetch = async || {
        let token = client.get(&reference.uri).send().await.unwrap().text().await.unwrap();
        List::verify(&token, &reference.uri, &keys).unwrap()
    };
    fetch().await;

    let filler = seen.join("filler");
    fill(&filler);
    // The log may have room left in its current file, which is soon used up.
    eventually("writes to be refused", async || {
        let status = update(&client, &base, &reference, 1).await;
        fill(&filler);
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    assert_eq!(client.get(format!("{base}/health/ready")).send().await.unwrap().status(), StatusCode::OK);
    // A beat passes while the disk is full: readers still get a whole, valid token.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    fetch().await;

    std::fs::remove_file(&filler).unwrap();
    eventually("writes to go on without a restart", async || {
        (update(&client, &base, &reference, 1).await == StatusCode::NO_CONTENT).then_some(())
    })
    .await;
    eventually("publishing to go on", async || (fetch().await.status(reference.index) == 1).then_some(()))
        .await;
    let log = std::fs::read_to_string(log_path(folder.path())).unwrap();
    assert!(log.contains("full"), "the log says why: {log}");
}

/// Like a machine that starts again after its signing key was replaced, with a full disk for the lists and another one for the store.
#[tokio::test]
async fn a_start_with_a_new_key_and_a_full_disk_signs_nothing_until_there_is_room() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "public");
    let settings = format!(
        "storage-directory: public
status-list-pools:
  p: {{ api-key: x, size: 80000, update-interval: 1s, {} }}",
        signer(folder.path())
    );
    let port = free_port();
    let start = || Process::start(command(folder.path(), port, &settings), folder.path(), port);
    let process = start();
    let (client, base) = (Client::new(), process.url.clone());
    let reference = references(&client, &base, 1).await.remove(0);
    let list = || published(folder.path(), &reference.uri).unwrap();
    eventually("the list", async || published(folder.path(), &reference.uri).ok()).await;
    let before = list().iat;
    process.kill();
    std::fs::remove_file(folder.path().join("signer.pem")).unwrap();
    signer(folder.path());
    let filler = disk.mounted.join("filler");
    fill(&filler);
    let _process = start();
    let client = Client::new();
    assert_eq!(update(&client, &base, &reference, 1).await, StatusCode::NO_CONTENT);
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!((list().iat, list().status(reference.index)), (before, 0), "nothing is signed");
    let log = std::fs::read_to_string(log_path(folder.path())).unwrap();
    assert!(log.contains("until there is room on the disk"), "{log}");
    std::fs::remove_file(&filler).unwrap();
    eventually("the update to be published with the new key", async || {
        (list().status(reference.index) == 1).then_some(())
    })
    .await;
}

/// PostgreSQL ends when its log has no room. Whoever runs it makes room, and starts it again; the service stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_postgresql_loses_no_acknowledged_update() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The server's user has its data there.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let disk = Disk::of_size(folder.path(), "disk", 200 << 20);
    let mut server = PostgresServer::start_in(&disk.mounted, &[]);
    let settings = format!(
        "storage-type: postgres
postgres: {{ {} }}
status-list-pools:
  p: {{ api-key: x, size: 80000, update-interval: 1s, prefetch: {{ capacity: 50 }} }}",
        server.settings()
    );
    let port = free_port();
    let process = Process::start(command(folder.path(), port, &settings), folder.path(), port);
    let (client, base) = (Client::new(), process.url.clone());
    let mut references = references(&client, &base, 200).await;
    let filler = disk.mounted.join("filler");
    fill(&filler);
    let mut acknowledged = Vec::new();
    eventually("writes to be refused", async || {
        // Its log continues in a new file.
        let _ = server.try_sql("SELECT pg_switch_wal()");
        let reference = references.pop().expect("room for fewer updates");
        match update(&client, &base, &reference, 1).await {
            StatusCode::NO_CONTENT => acknowledged.push(reference),
            StatusCode::SERVICE_UNAVAILABLE => return Some(()),
            other => panic!("{other}"),
        }
        None
    })
    .await;
    assert_eq!(client.get(format!("{base}/health/live")).send().await.unwrap().status(), StatusCode::OK);
    std::fs::remove_file(&filler).unwrap();
    server.start_again();
    let last = references.pop().unwrap();
    eventually("writes to go on without a restart of the service", async || {
        (update(&client, &base, &last, 1).await == StatusCode::NO_CONTENT).then_some(())
    })
    .await;
    acknowledged.push(last);
    eventually("every acknowledged update to be published", async || {
        let revoked = |reference: &Reference| {
            published(folder.path(), &reference.uri).is_ok_and(|list| list.status(reference.index) == 1)
        };
        acknowledged.iter().all(revoked).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_backup_without_room_says_so_and_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "backups");
    let port = free_port();
    let settings = "status-list-pools: { p: { api-key: x, size: 80000, update-interval: 1s } }";
    let process = Process::start(command(folder.path(), port, settings), folder.path(), port);
    references(&Client::new(), &process.url, 1).await;
    let back_up =
        || command(folder.path(), port, settings).args(["backup", "backups/copy.db"]).output().unwrap();
    let there = || {
        let names = std::fs::read_dir(&disk.mounted).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "lost+found").collect::<Vec<_>>()
    };
    let filler = disk.mounted.join("filler");
    fill(&filler);
    let failed = back_up();
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && said.contains("full") && said.contains("copy.db"), "{said}");
    assert_eq!(there(), ["filler"]);
    std::fs::remove_file(&filler).unwrap();
    let done = back_up();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(there(), ["copy.db"]);
}

/// Runs `inner` where `disk` is an empty file system of four megabytes.
pub(crate) fn on_small_disk(inner: &Command, disk: &Path) -> Command {
    let mut outer = Command::new("unshare");
    let mount = r#"mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@""#;
    outer
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(disk)
        .arg(inner.get_program())
        .args(inner.get_args());
    outer.current_dir(inner.get_current_dir().unwrap());
    for (name, value) in inner.get_envs() {
        outer.env(name, value.unwrap());
    }
    outer
}

/// Uses up all free space.
pub(crate) fn fill(filler: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(filler).unwrap();
    for bytes in [65536, 4096, 256, 1] {
        while file.write_all(&vec![7; bytes]).is_ok() {}
    }
}

/// The first references, as soon as there are some.
async fn references(client: &Client, base: &str, amount: u64) -> Vec<Reference> {
    eventually("references", async || {
        let request = client.post(format!("{base}/pools/p/new-references?amount={amount}"));
        let answer = request.header("X-Api-Key", "x").send().await.ok()?;
        let body: serde_json::Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        serde_json::from_value(body["references"].clone()).ok()
    })
    .await
}

async fn update(client: &Client, base: &str, reference: &Reference, value: u8) -> StatusCode {
    let body = json!({ "uri": reference.uri, "index": reference.index, "value": value }).to_string();
    let request = client
        .patch(format!("{base}/status-lists/update"))
        .header("X-Api-Key", "x")
        .header("Content-Type", "application/json");
    request.body(body).send().await.unwrap().status()
}
