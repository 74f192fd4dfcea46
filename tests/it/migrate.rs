//! Moving a store from SQLite to Redis and back keeps everything that was issued before.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::json;
use statuslist::base::clock::Clock;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
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
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let on_redis = settings(&format!("storage-type: redis, redis: {{ url: \"{url}\" }}"));
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

    let (moved, text) = migrate(folder.path(), &from, &url);
    assert!(moved && text.contains("compared every list"), "{text}");
    let (again, text) = migrate(folder.path(), &from, &url);
    assert!(!again && text.contains("already has pool"), "{text}");

    let app = TestApp::start_at(folder, public, &on_redis, Clock::System);
    told.extend(app.references(300).await);
    for (n, (reference, value)) in statuses.iter_mut().enumerate().filter(|(n, _)| n % 3 < 2) {
        assert_eq!(app.stored(reference).await["value"], *value);
        // Unpublished when the service stops, or just published: both must be moved.
        *value = if n % 2 == 0 { 1 } else { 3 };
        app.update(reference, json!(*value)).await;
    }
    let (refused, text) = migrate(app.folder(), &url, "sqlite:back.db");
    assert!(!refused && text.contains("stop all instances"), "{text}");
    let folder = app.stop();

    let (moved, text) = migrate(folder.path(), &url, "sqlite:back.db");
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
    let redis = RedisServer::start();
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let on_redis = settings(&format!("storage-type: redis, redis: {{ url: \"{url}\" }}"));
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
    eventually("the next share", async || (left(&app).await < begun).then_some(())).await;
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
