//! Databases of released versions, kept in `tests/golden/`: the current program opens each of them and continues from it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use statuslist::base::clock::Clock;
use tempfile::TempDir;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::relying_party::published;

const PUBLIC: &str = "http://status.example";
/// The status of the spread that was in progress.
const SPREAD: u8 = 1;

/// What a database must still contain: `tests/golden/<version>.json`.
#[derive(Deserialize)]
struct Told {
    lists: Vec<ToldList>,
    references: ToldReferences,
    answer: Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToldList {
    pool: String,
    id: String,
    used: u64,
    open: bool,
    version: u64,
    retired: bool,
    /// Of a spread that was in progress.
    entries_left: Option<u64>,
    /// Its packed statuses in base64; `None` for a retired list.
    array: Option<String>,
}

#[derive(Deserialize)]
struct ToldReferences {
    small: Vec<Reference>,
    wide: Vec<Reference>,
}

/// An answer recorded under an `Idempotency-Key`.
#[derive(Deserialize)]
struct Answer {
    key: String,
    amount: usize,
    references: Vec<Reference>,
}

impl ToldList {
    fn uri(&self) -> String {
        format!("{PUBLIC}/lists/{}", self.id)
    }
}

/// All golden databases, as paths without extension.
fn golden() -> Vec<PathBuf> {
    let files = fs::read_dir("tests/golden").unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "db")).collect()
}

/// The settings with which `tests/golden/make` ran the service.
fn settings() -> String {
    format!(
        "status-list-pools: {{
            small: {{ api-key: {KEY}, size: 128, final-status: 1, update-interval: 1s, open-lists: 1, prefetch: {{ capacity: 20 }} }},
            wide: {{ api-key: {KEY}, size: 1000, bits: 2, formats: [jwt, cwt], update-interval: 1s, prefetch: {{ capacity: 50 }} }}
        }}"
    )
}

/// Starts the service on copies of a golden database and of the instance that wrote it.
fn start(database: &Path) -> (TestApp, Told) {
    let told = fs::read_to_string(database.with_extension("json")).unwrap();
    let told = serde_json::from_str(&told).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::copy(database, folder.path().join("statuslist.db")).unwrap();
    fs::create_dir(folder.path().join("instance")).unwrap();
    for entry in fs::read_dir(database.with_extension("instance")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join("instance").join(entry.file_name())).unwrap();
    }
    remember_for_another_day(&folder);
    (TestApp::start_at(folder, PUBLIC, &settings(), Clock::System), told)
}

/// Extends the day for which answers under an `Idempotency-Key` are kept, because the database is older.
fn remember_for_another_day(folder: &TempDir) {
    let database = rusqlite::Connection::open(folder.path().join("statuslist.db")).unwrap();
    let until = (Clock::System.now().date().secs() + 86_400) * 1000;
    database.execute("UPDATE answer SET until = ?1", [i64::try_from(until).unwrap()]).unwrap();
}

async fn references(app: &TestApp, pool: &str, amount: usize) -> Vec<Reference> {
    let path = format!("/pools/{pool}/new-references?amount={amount}");
    let (status, body) = app.send(Method::POST, &path, None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_value(body["references"].clone()).unwrap()
}

/// Returns what the service reports about all lists of a pool.
async fn lists(app: &TestApp, pool: &str) -> Vec<serde_json::Value> {
    let (status, body) = app.send(Method::GET, &format!("/pools/{pool}/lists"), None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["lists"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_list_has_the_counters_and_statuses_that_it_had() {
    for database in golden() {
        let (app, told) = start(&database);
        for pool in ["small", "wide"] {
            let now = lists(&app, pool).await;
            for then in told.lists.iter().filter(|list| list.pool == pool) {
                let now = now.iter().find(|list| list["id"] == then.id.as_str()).unwrap();
                assert_eq!(now["uri"], then.uri());
                assert_eq!(now["retired"], then.retired, "{now}");
                match then.open {
                    // An open list hands out its next references as soon as the service starts.
                    true => assert!(now["used"].as_u64() >= Some(then.used), "{now}"),
                    false => assert_eq!((&now["used"], &now["open"]), (&json!(then.used), &json!(false))),
                }
                match then.entries_left {
                    None => assert_eq!(now["version"], then.version, "{now}"),
                    Some(left) => assert!(now["spread"]["entriesLeft"].as_u64() <= Some(left), "{now}"),
                }
            }
        }
        for list in told.lists.iter().filter(|list| !list.retired) {
            let now = eventually("the list to be published again", async || {
                published(app.folder(), &list.uri()).ok()
            })
            .await;
            let then = STANDARD.decode(list.array.as_ref().unwrap()).unwrap();
            match list.entries_left {
                None => assert_eq!(now.array(), then, "{} of {}", list.id, list.pool),
                // Two bits each: an entry is unchanged, or the spread has reached it.
                Some(_) => {
                    for (idx, byte) in
                        (0..).zip(&then).flat_map(|(n, byte)| (0..4).map(move |i| (n * 4 + i, byte)))
                    {
                        let was = byte >> (idx % 4 * 2) & 0b11;
                        assert!([was, SPREAD].contains(&now.status(idx)), "entry {idx} of {}", list.id);
                    }
                }
            }
        }
        let retired = told.lists.iter().find(|list| list.retired).unwrap();
        // The comparison of files makes its mark anew, beside the publishing of the others.
        eventually("the retired list to be gone", async || {
            let answer = app.client.get(format!("{}/lists/{}", app.url, retired.id)).send().await.unwrap();
            (answer.status() == StatusCode::GONE).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn no_reference_of_an_earlier_version_is_handed_out_again() {
    for database in golden() {
        let (app, told) = start(&database);
        // More than the open lists have left.
        for (pool, amount, then) in
            [("small", 500, &told.references.small), ("wide", 4000, &told.references.wide)]
        {
            let then: HashSet<_> = then.iter().cloned().collect();
            let now = references(&app, pool, amount).await;
            let again: Vec<_> = now.iter().filter(|reference| then.contains(reference)).collect();
            assert!(again.is_empty(), "handed out before: {again:?}");
            // The control: the rest of the old lists is handed out, so their references could have been repeated.
            let old = told.lists.iter().filter(|list| list.pool == pool && list.open).map(ToldList::uri);
            for uri in old {
                assert!(now.iter().any(|reference| reference.uri == uri), "{uri} gives no more references");
            }
        }
    }
}

#[tokio::test]
async fn updates_retries_and_spreads_go_on() {
    for database in golden() {
        let (app, told) = start(&database);

        let path = format!("{}/pools/wide/new-references?amount={}", app.url, told.answer.amount);
        let request = app.client.post(path).header("X-Api-Key", KEY);
        let retried = request.header("Idempotency-Key", &told.answer.key).send().await.unwrap();
        let retried: serde_json::Value = serde_json::from_str(&retried.text().await.unwrap()).unwrap();
        let retried: Vec<Reference> = serde_json::from_value(retried["references"].clone()).unwrap();
        assert_eq!(retried, told.answer.references);

        let revoked = told.references.small.last().unwrap();
        let (status, body) = app.update(revoked, json!(0)).await;
        assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("FORBIDDEN")), "final: {body}");
        let valid = &told.references.small[told.references.small.len() - 30];
        assert_eq!(app.update(valid, json!(1)).await.0, StatusCode::NO_CONTENT);
        eventually("the update to be published", async || {
            let list = published(app.folder(), &valid.uri).ok()?;
            (list.status(valid.index) == 1).then_some(())
        })
        .await;

        let spread = told.lists.iter().find(|list| list.entries_left.is_some()).unwrap();
        eventually("the spread to go on", async || {
            let now = lists(&app, "wide").await;
            let now = now.iter().find(|list| list["id"] == spread.id.as_str()).unwrap().clone();
            // The step of the start alone would not show that beats continue.
            (now["spread"]["entriesLeft"].as_u64()? + 3 <= spread.entries_left.unwrap()).then_some(())
        })
        .await;
    }
}
