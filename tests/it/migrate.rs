//! Moving a store from SQLite to another and back keeps everything that was issued before.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::{Method, StatusCode};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use statuslist::base::clock::Clock;
use statuslist::config::Config;
use statuslist::model::instance::InstanceId;
use statuslist::model::pool::PoolId;
use statuslist::store::Store;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::postgres::PostgresServer;
use crate::support::process::PROGRAM;
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

const POOL: &str = "size: 8000, bits: 2, default-status: 1, final-status: 3, application-statuses: [3], update-interval: 1s, \
                    list-lifetime: 1h, prefetch: { capacity: 50 }";

fn settings(store: &str) -> String {
    format!("{{ {store}, status-list-pools: {{ p: {{ api-key: {KEY}, {POOL} }} }} }}")
}

fn migrate(folder: &Path, from: &str, to: &str) -> (bool, String) {
    let output = Command::new(PROGRAM)
        .current_dir(folder)
        .args(["migrate", "--from", from, "--to", to])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.success(), text)
}

#[tokio::test]
async fn lists_move_to_redis_and_back_with_their_counters_and_statuses() {
    let redis = RedisServer::start();
    there_and_back("redis", &format!("redis://127.0.0.1:{}", redis.port)).await;
}

#[tokio::test]
async fn lists_move_to_postgresql_and_back_with_their_counters_and_statuses() {
    let postgres = PostgresServer::start();
    there_and_back("postgres", &format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port)).await;
}

async fn there_and_back(kind: &str, url: &str) {
    let on_it = settings(&format!("storage-type: {kind}, {kind}: {{ url: \"{url}\" }}"));
    let public = "http://status.example";
    let mut told: Vec<Reference> = Vec::new();
    let mut statuses = Vec::new();

    let app = TestApp::start_at(
        tempfile::tempdir().unwrap(),
        public,
        &settings("log: { format: human }"),
        Clock::System,
    );
    told.extend(app.references(300).await);
    for (n, reference) in told.iter().enumerate().take(100) {
        let value = [0, 2, 3][n % 3];
        app.update(reference, json!(value)).await;
        statuses.push((reference.clone(), value));
    }
    let folder = app.stop();
    let from = format!("sqlite:{}", folder.path().join("statuslist.db").display());

    let (moved, text) = migrate(folder.path(), &from, url);
    assert!(moved && text.contains("moved and compared: 1 pool(s)"), "{text}");
    let (again, text) = migrate(folder.path(), &from, url);
    assert!(!again && text.contains("already has pool"), "{text}");

    let app = TestApp::start_at(folder, public, &on_it, Clock::System);
    told.extend(app.references(300).await);
    for (n, (reference, value)) in statuses.iter_mut().enumerate().filter(|(n, _)| n % 3 < 2) {
        assert_eq!(app.stored(reference).await["value"], *value);
        // Unpublished when the service stops, or just published: both must be moved.
        *value = if n % 2 == 0 { 1 } else { 3 };
        app.update(reference, json!(*value)).await;
    }
    let (refused, text) = migrate(app.folder(), url, "sqlite:back.db");
    assert!(!refused && text.contains("stop all instances"), "{text}");
    let folder = app.stop();

    let (moved, text) = migrate(folder.path(), url, "sqlite:back.db");
    assert!(moved, "{text}");
    std::fs::rename(folder.path().join("back.db"), folder.path().join("statuslist.db")).unwrap();
    for rest in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("statuslist.db{rest}")));
        let _ = std::fs::rename(
            folder.path().join(format!("back.db{rest}")),
            folder.path().join(format!("statuslist.db{rest}")),
        );
    }
    let app = TestApp::start_at(folder, public, &settings("log: { format: human }"), Clock::System);
    told.extend(app.references(300).await);
    assert_eq!(told.iter().collect::<HashSet<_>>().len(), 900, "a reference was handed out twice");
    for (reference, value) in &statuses {
        assert_eq!(app.stored(reference).await["value"], *value, "{reference:?}");
    }
    let folder = app.folder().to_owned();
    eventually("all statuses to be published", async || {
        statuses
            .iter()
            .all(|(reference, value)| {
                published(&folder, &reference.uri).is_ok_and(|list| list.status(reference.index) == *value)
            })
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_list_that_is_being_spread_goes_on_in_the_other_store() {
    let (redis, postgres) = (RedisServer::start(), PostgresServer::start());
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let on_redis = settings(&format!("storage-type: redis, redis: {{ url: \"{url}\" }}"));
    let next = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port);
    let on_next = settings(&format!("storage-type: postgres, postgres: {{ url: \"{next}\" }}"));
    let (folder, public) = (tempfile::tempdir().unwrap(), "http://status.example");
    let app = TestApp::start_at(folder, public, &settings("storage-type: sqlite"), Clock::System);
    let uri = app.references(1).await.remove(0).uri;
    let path = format!("/pools/p/lists/{}", uri.rsplit('/').next().unwrap());
    let body = json!({ "value": "suspended", "spread-beats": 1000 });
    assert_eq!(app.send(Method::PATCH, &path, Some(body)).await.0, StatusCode::ACCEPTED);
    let left = async |app: &TestApp| {
        let lists = app.send(Method::GET, "/pools/p/lists", None).await.1;
        let list = lists["lists"].as_array().unwrap().iter().find(|list| list["uri"] == *uri).unwrap();
        assert_eq!((&list["spread"]["value"], &list["spread"]["beats"]), (&json!(2), &json!(1000)));
        list["spread"]["entriesLeft"].as_u64().unwrap()
    };
    let begun =
        eventually("a first share", async || Some(left(&app).await).filter(|left| *left < 8000)).await;
    let folder = app.stop();
    let from = format!("sqlite:{}", folder.path().join("statuslist.db").display());
    let (moved, text) = migrate(folder.path(), &from, &url);
    assert!(moved, "{text}");
    let app = TestApp::start_at(folder, public, &on_redis, Clock::System);
    let begun =
        eventually("the next share", async || Some(left(&app).await).filter(|left| *left < begun)).await;
    let folder = app.stop();
    let (moved, text) = migrate(folder.path(), &url, &next);
    assert!(moved, "{text}");
    let app = TestApp::start_at(folder, public, &on_next, Clock::System);
    eventually("the share after that", async || (left(&app).await < begun).then_some(())).await;
}

#[tokio::test]
async fn a_store_in_use_and_one_that_is_not_there_are_refused() {
    let app = TestApp::start("size: 800");
    let from = format!("sqlite:{}", app.folder().join("statuslist.db").display());
    let (moved, text) = migrate(app.folder(), &from, "sqlite:other.db");
    assert!(!moved && text.contains("used by another process"), "{text}");
    let (moved, text) = migrate(app.folder(), "sqlite:none.db", "sqlite:other.db");
    assert!(!moved && text.contains("none.db does not exist"), "{text}");
    let (moved, text) = migrate(app.folder(), "somewhere", "sqlite:other.db");
    assert!(!moved && text.contains("sqlite:PATH"), "{text}");
}

/// Lists enough that a copy takes a while.
const MANY: usize = 2000;

/// Makes many lists in the store of these settings.
async fn fill(settings: &str) {
    let config = Config::load(Some(settings), std::iter::empty()).unwrap();
    let (pool, owner): (PoolId, _) = ("p".parse().unwrap(), InstanceId::random());
    let store = Store::open(&config.store).await.unwrap();
    store.declare_pool(&config.pools[&pool].shape).await.unwrap();
    // At the same time, so that they share commits.
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..MANY {
        let (store, pool, owner) = (store.clone(), pool.clone(), owner.clone());
        opening.spawn(
            async move { store.open_list(&pool, &owner, u64::MAX, Clock::System.now()).await.unwrap() },
        );
    }
    assert_eq!(opening.join_all().await.len(), MANY);
}

/// Runs a command to its end, which must be a failure. Returns what it says.
fn refused(folder: &Path, settings: &str, arguments: &[&str]) -> String {
    let file = folder.join("settings.yaml");
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), settings.as_bytes()).unwrap();
    let mut command = Command::new("timeout");
    command.current_dir(folder).args(["30", PROGRAM, "--config"]).arg(&file).args(arguments);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    text
}

/// Kills a copy when some lists have arrived. Returns how many had.
async fn kill_half_way(folder: &Path, from: &str, to: &str, arrived: impl Fn() -> usize) -> usize {
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder).args(["migrate", "--from", from, "--to", to]);
    let mut copying = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("half of the lists", async || (arrived() >= MANY / 20).then_some(())).await;
    copying.kill().unwrap();
    copying.wait().unwrap();
    let arrived = arrived();
    assert!(arrived < MANY, "the copy was faster than this test");
    arrived
}

fn lists_in(database: &Path) -> usize {
    let open = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let count = |open: Connection| open.query_row("SELECT count(*) FROM list", [], |row| row.get(0));
    open.and_then(count).unwrap_or(0)
}

/// As if it were whole, a service would start on it: with lists missing whose references were handed out.
#[tokio::test]
async fn a_copy_that_was_killed_half_way_is_refused_by_every_command_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let redis = RedisServer::start();
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let on_redis = settings(&format!("storage-type: redis, redis: {{ url: \"{url}\" }}"));
    let on_sqlite = |name: &str| settings(&format!("sqlite: {{ path: {} }}", folder.join(name).display()));
    let commands: [&[&str]; 3] = [&["serve"], &["publish", "--once"], &["seal", "p"]];
    let check = |settings: &str, to: &str| {
        for command in commands {
            let text = refused(folder, settings, command);
            assert!(text.contains("`statuslist migrate` did not finish"), "{command:?}: {text}");
        }
        let (moved, text) = migrate(folder, "sqlite:from.db", to);
        assert!(!moved && text.contains("--to") && text.contains("did not finish"), "{text}");
        let (moved, text) = migrate(folder, to, "sqlite:elsewhere.db");
        assert!(!moved && text.contains("--from") && text.contains("did not finish"), "{text}");
    };

    fill(&on_sqlite("from.db")).await;
    let lists =
        || redis.try_cli(&["ZCARD", "statuslist:{p}:lists"]).map_or(0, |count| count.parse().unwrap());
    kill_half_way(folder, "sqlite:from.db", &url, lists).await;
    check(&on_redis, &url);
    redis.cli(&["FLUSHALL"]);
    let (moved, text) = migrate(folder, "sqlite:from.db", &url);
    assert!(moved, "{text}");

    kill_half_way(folder, &url, "sqlite:to.db", || lists_in(&folder.join("to.db"))).await;
    check(&on_sqlite("to.db"), "sqlite:to.db");
    for name in ["to.db", "to.db-wal", "to.db-shm"] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    let (moved, text) = migrate(folder, &url, "sqlite:to.db");
    assert!(moved, "{text}");
    Store::open(&Config::load(Some(&on_sqlite("to.db")), std::iter::empty()).unwrap().store).await.unwrap();
}
