//! "Backup and restore": a copy that is made under load has everything that was acknowledged before; after it is restored, what it does not know
//! is never handed out again.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::runbook::{Shell, blocks, said};
use crate::support::app::Reference;
use crate::support::eventually;
use crate::support::process::{Process, command, free_port, log_path};

const POOL: &str = "p: { api-key: x, size: 100000, update-interval: 1s, prefetch: { capacity: 100 } }";

/// The service in `folder`, which reads its settings from `statuslist.yaml` there.
struct Service {
    process: Process,
    url: String,
}

impl Service {
    fn start(folder: &Path, settings: &str) -> Self {
        let port = free_port();
        let mut start = command(folder, port, settings);
        // The `uri`s stay the same whatever the port.
        start.env("STATUSLIST__PUBLIC_URL", "http://status.example/lists");
        std::fs::copy(folder.join("settings.yaml"), folder.join("statuslist.yaml")).unwrap();
        let process = Process::start(start, folder, port);
        Self { url: process.url.clone(), process }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        send(&self.url, method, path, body).await
    }

    async fn is_revoked(&self, reference: &Reference) -> bool {
        let list = reference.uri.rsplit('/').next().unwrap();
        let path = format!("/pools/p/lists/{list}/statuses/{}", reference.index);
        self.send(Method::GET, &path, None).await.1["value"] == 1
    }

    async fn some_references(&self, amount: usize) -> Vec<Reference> {
        eventually("references", async || {
            let some = references(&self.url, amount).await;
            (!some.is_empty()).then_some(some)
        })
        .await
    }
}

async fn send(url: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let request = Client::new().request(method, format!("{url}{path}")).header("X-Api-Key", "x");
    let request = match body {
        Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
        None => request,
    };
    let Ok(answer) = request.send().await else { return (StatusCode::BAD_GATEWAY, Value::Null) };
    let status = answer.status();
    (status, serde_json::from_str(&answer.text().await.unwrap_or_default()).unwrap_or(Value::Null))
}

async fn references(url: &str, amount: usize) -> Vec<Reference> {
    let path = format!("/pools/p/new-references?amount={amount}");
    match send(url, Method::POST, &path, None).await {
        (StatusCode::OK, body) => serde_json::from_value(body["references"].clone()).unwrap(),
        _ => Vec::new(),
    }
}

async fn revoke(url: &str, reference: &Reference) -> bool {
    let body = json!({ "uri": reference.uri, "index": reference.index, "value": 1 });
    send(url, Method::PATCH, "/status-lists/update", Some(body)).await.0 == StatusCode::NO_CONTENT
}

/// Takes references until it is stopped, and returns them.
struct Load {
    stop: Arc<AtomicBool>,
    taken: JoinHandle<Vec<Reference>>,
}

impl Load {
    fn on(service: &Service) -> Self {
        let (url, stop) = (service.url.clone(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&stop);
        let taken = tokio::spawn(async move {
            let mut all = Vec::new();
            while !until.load(Ordering::SeqCst) {
                let some = references(&url, 20).await;
                if let Some(first) = some.first() {
                    revoke(&url, first).await;
                }
                all.extend(some);
            }
            all
        });
        Self { stop, taken }
    }

    /// Returns what was taken, after more than the service keeps at hand was taken.
    async fn end(self, service: &Service) -> Vec<Reference> {
        let mut more = Vec::new();
        for _ in 0..4 {
            more.extend(service.some_references(400).await);
        }
        self.stop.store(true, Ordering::SeqCst);
        more.extend(self.taken.await.unwrap());
        more
    }
}

/// What must hold after the restore.
async fn check(folder: &Path, service: &Service, revoked: &[Reference], given: &HashSet<Reference>) {
    for reference in revoked {
        assert!(service.is_revoked(reference).await, "{reference:?} was revoked before the copy");
    }
    let later = service.some_references(1000).await;
    let repeated = later.iter().filter(|reference| given.contains(reference)).count();
    assert_eq!(repeated, 0, "of {}, beside {} earlier ones", later.len(), given.len());
    let log = std::fs::read_to_string(log_path(folder)).unwrap();
    assert!(log.contains("THE STORE LOST DATA"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_is_copied_under_load_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("status-list-pools: {{ {POOL} }}");
    let backups = folder.path().join("copies");
    std::fs::create_dir(&backups).unwrap();
    let [back_up, restore, ..] = &blocks("Backup and restore")[..] else { panic!("the page has changed") };
    let mut shell = Shell {
        folder: folder.path().to_owned(),
        here: vec![
            ("/backup", backups.display().to_string()),
            ("/etc/statuslist/", String::new()),
            ("/var/lib/statuslist/", String::new()),
            ("runuser -u statuslist -- ", String::new()),
            ("-o statuslist -g statuslist ", String::new()),
        ],
    };
    drop(command(folder.path(), free_port(), &settings));
    std::fs::copy(folder.path().join("settings.yaml"), folder.path().join("statuslist.yaml")).unwrap();
    let never = shell.run(back_up);
    assert!(!never.status.success() && said(&never).contains("never been started"), "{}", said(&never));

    let service = Service::start(folder.path(), &settings);
    let revoked = service.some_references(200).await;
    for reference in &revoked {
        assert!(revoke(&service.url, reference).await);
    }
    let load = Load::on(&service);
    let printed = tokio::task::block_in_place(|| shell.succeed(back_up));
    assert!(printed.contains(" lists, "), "{printed}");
    let [file] = &std::fs::read_dir(&backups).unwrap().map(|file| file.unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("not one file in {}", backups.display())
    };
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has the keys of all orders");
    let again = shell.run(&format!("statuslist backup {}", file.path().display()));
    assert!(!again.status.success() && said(&again).contains("exists already"), "{}", said(&again));
    let mut given: HashSet<Reference> = load.end(&service).await.into_iter().collect();
    given.extend(revoked.iter().cloned());

    service.process.kill();
    shell.here.insert(0, ("/backup/statuslist-2026-11-27-0300.db", file.path().display().to_string()));
    shell.succeed(restore);
    let service = Service::start(folder.path(), &settings);
    check(folder.path(), &service, &revoked, &given).await;
}

/// Redis with a file of settings, as a package installs it.
struct Redis {
    child: Child,
}

impl Redis {
    fn start(file: &Path) -> Self {
        let child =
            Command::new("redis-server").arg(file).stdout(Stdio::null()).spawn().expect("redis-server");
        Self { child }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_copied_under_load_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backups, port) = (folder.path().join("redis"), folder.path().join("copies"), free_port());
    for new in [&data, &backups, &folder.path().join("bin")] {
        std::fs::create_dir(new).unwrap();
    }
    let file = folder.path().join("redis.conf");
    let text = format!(
        "bind 127.0.0.1\nport {port}\ndir {}\nappendonly yes\nappendfsync always\nno-appendfsync-on-rewrite no\n\
         maxmemory-policy noeviction\nsave \"\"\n",
        data.display()
    );
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), text.as_bytes()).unwrap();
    let settings = format!(
        "{{ storage-type: redis, redis: {{ host: 127.0.0.1, port: {port} }}, status-list-pools: {{ {POOL} }} }}"
    );
    let [_, _, back_up, restore, ..] = &blocks("Backup and restore")[..] else {
        panic!("the page has changed")
    };
    let shell = Shell {
        folder: folder.path().to_owned(),
        here: vec![
            ("redis-cli", format!("redis-cli -p {port}")),
            ("/etc/redis/redis.conf", file.display().to_string()),
            ("/var/lib/redis", data.display().to_string()),
            ("/backup", backups.display().to_string()),
        ],
    };
    let answers = async |redis: &str| {
        eventually(redis, async || shell.run("redis-cli PING").status.success().then_some(())).await;
    };
    let redis = Redis::start(&file);
    answers("Redis").await;
    let service = Service::start(folder.path(), &settings);
    let of_sqlite = shell.run("statuslist backup copy.db");
    assert!(
        !of_sqlite.status.success() && said(&of_sqlite).contains("the store is Redis"),
        "{}",
        said(&of_sqlite)
    );
    let revoked = service.some_references(200).await;
    for reference in &revoked {
        assert!(revoke(&service.url, reference).await);
    }
    let load = Load::on(&service);
    // LASTSAVE counts in seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut saved = String::new();
    for line in back_up.lines() {
        match line {
            "redis-cli LASTSAVE" if saved.is_empty() => saved = shell.succeed(line),
            "redis-cli LASTSAVE" => {
                eventually("the copy", async || (shell.succeed(line) != saved).then_some(())).await;
            }
            line => drop(shell.succeed(line)),
        }
    }
    let mut given: HashSet<Reference> = load.end(&service).await.into_iter().collect();
    given.extend(revoked.iter().cloned());

    service.process.kill();
    drop(redis);
    std::fs::remove_dir_all(data.join("appendonlydir")).unwrap();
    std::fs::copy(backups.join("dump.rdb"), data.join("dump.rdb")).unwrap();
    for line in restore.lines() {
        match line {
            "redis-cli INFO persistence" => {
                let done = async || shell.succeed(line).contains("aof_rewrite_in_progress:0").then_some(());
                eventually("the log", done).await;
            }
            "redis-cli SHUTDOWN" => drop(shell.run(line)),
            line => {
                shell.succeed(line);
                answers("the Redis without a log").await;
            }
        }
    }
    eventually("the end of Redis", async || (!shell.run("redis-cli PING").status.success()).then_some(()))
        .await;
    let _redis = Redis::start(&file);
    answers("the restored Redis").await;
    let service = Service::start(folder.path(), &settings);
    check(folder.path(), &service, &revoked, &given).await;
}
