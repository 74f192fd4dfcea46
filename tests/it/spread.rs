//! `spread-beats` of `PATCH /pools/{pool}/lists/{id}`: each beat sets a share of a whole list, and nobody's update is lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;

use super::reload::Live;
use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::process::{Process, command, free_port};
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

const SIZE: u64 = 1000;
const BEATS: u64 = 4;

fn settings(store: &str) -> String {
    format!(
        "{{ {store}, audit: {{ path: AUDIT }}, status-list-pools: {{ p: {{ api-key: {KEY}, bits: 2, size: {SIZE}, update-interval: 2s, open-lists: 1, prefetch: {{ capacity: 100 }} }} }} }}"
    )
}

fn start(folder: tempfile::TempDir, store: &str) -> TestApp {
    let trail = folder.path().join("audit.jsonl").display().to_string();
    // The same `uri`s after a restart, whatever port is free.
    TestApp::start_at(
        folder,
        "http://status.example",
        &settings(store).replace("AUDIT", &trail),
        Clock::System,
    )
}

async fn fill(app: &TestApp, uri: &str, body: Value) -> (StatusCode, Value) {
    let path = format!("/pools/p/lists/{}", uri.rsplit('/').next().unwrap());
    app.send(Method::PATCH, &path, Some(body)).await
}

/// Returns the list's spread from `GET /pools/p/lists`.
async fn spread(app: &TestApp, uri: &str) -> Value {
    let lists = app.send(Method::GET, "/pools/p/lists", None).await.1;
    lists["lists"].as_array().unwrap().iter().find(|list| list["uri"] == uri).unwrap()["spread"].clone()
}

/// Reads the published token repeatedly.
struct Watch<'a> {
    folder: &'a Path,
    uri: &'a str,
    value: u8,
    /// The entries that are set in each of the tokens that were seen.
    seen: Vec<BTreeSet<u64>>,
}

impl<'a> Watch<'a> {
    fn new(folder: &'a Path, uri: &'a str, value: u8) -> Self {
        Self { folder, uri, value, seen: vec![BTreeSet::new()] }
    }

    /// Waits for a token that shows more than the latest one, and misses none of its entries.
    async fn more(&mut self) -> usize {
        let latest = self.seen.last().unwrap();
        let more = eventually("more entries to be published", async || {
            let list = published(self.folder, self.uri).ok()?;
            let set: BTreeSet<_> = (0..SIZE).filter(|index| list.status(*index) == self.value).collect();
            assert!(set.is_superset(latest), "{} of {} entries", set.len(), latest.len());
            (set != *latest).then_some(set)
        });
        let more = more.await;
        self.seen.push(more);
        self.seen.last().unwrap().len()
    }

    async fn until_all(&mut self) {
        while self.more().await < SIZE as usize {}
    }

    fn counts(&self) -> Vec<usize> {
        self.seen.iter().map(BTreeSet::len).collect()
    }
}

fn in_whole_shares(count: &usize) -> bool {
    (*count as u64).is_multiple_of(SIZE / BEATS)
}

/// From nothing to everything, over tokens that each show one more share, also over a restart in between.
async fn grows_beat_by_beat(store: &str) {
    let app = start(tempfile::tempdir().unwrap(), store);
    let reference = app.references(1).await.remove(0);
    let folder = app.folder().to_owned();
    let body = json!({ "value": "invalid", "spread-beats": BEATS });
    let (status, answer) = fill(&app, &reference.uri, body.clone()).await;
    assert_eq!((status, answer), (StatusCode::ACCEPTED, json!({ "beats": BEATS })));
    assert_eq!(spread(&app, &reference.uri).await["value"], 1);
    let mut watch = Watch::new(&folder, &reference.uri, 1);
    let first = watch.more().await;
    assert_eq!(fill(&app, &reference.uri, body).await.0, StatusCode::ACCEPTED, "a retry");
    let left = spread(&app, &reference.uri).await;
    assert!(
        (left["beats"].as_u64(), left["entriesLeft"].as_u64() < Some(SIZE)) == (Some(BEATS), true),
        "{left}"
    );
    let given = app.references(20).await;
    assert!(given.iter().all(|given| given.uri != reference.uri), "these references would become invalid");

    let app = start(app.stop(), store);
    watch.until_all().await;
    let counts = watch.counts();
    assert!(counts.iter().all(in_whole_shares), "{counts:?}");
    assert!(counts.len() > 3, "at least two tokens between nothing and all: {counts:?}");
    let (least, most) = (watch.seen[1].first().unwrap(), watch.seen[1].last().unwrap());
    assert!(most - least > first as u64 + 100, "the first share is no range: {least} to {most}");
    assert_eq!(spread(&app, &reference.uri).await, Value::Null, "the spread must be over");

    let trail = std::fs::read_to_string(folder.join("audit.jsonl")).unwrap();
    let line = trail.lines().find(|line| line.contains(r#""action":"fill""#)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["value"], &line["beats"]), (&json!(1), &json!(BEATS)), "{line}");

    // The control: at once, one token shows that all entries belong together.
    let (status, _) = fill(&app, &reference.uri, json!({ "value": 2 })).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let mut watch = Watch::new(&folder, &reference.uri, 2);
    watch.until_all().await;
    assert_eq!(watch.counts(), [0, SIZE as usize]);
}

#[tokio::test]
async fn a_spread_list_grows_beat_by_beat_over_a_restart_and_never_falls_on_sqlite() {
    grows_beat_by_beat("storage-type: sqlite").await;
}

#[tokio::test]
async fn a_spread_list_grows_beat_by_beat_over_a_restart_and_never_falls_on_redis() {
    let redis = RedisServer::start();
    grows_beat_by_beat(&format!("storage-type: redis, redis: {{ {} }}", redis.settings())).await;
}

/// An update to another status wins, and first completes the earlier request.
async fn an_update_wins(store: &str) {
    let app = start(tempfile::tempdir().unwrap(), store);
    let reference = app.references(1).await.remove(0);
    let folder = app.folder().to_owned();
    let body = json!({ "value": 1, "spread-beats": 100 });
    assert_eq!(fill(&app, &reference.uri, body).await.0, StatusCode::ACCEPTED);
    let mut watch = Watch::new(&folder, &reference.uri, 1);
    let share = watch.more().await;
    assert_eq!(share as u64 % 10, 0);
    let of = |index| Reference { index, ..reference.clone() };
    let set = *watch.seen[1].first().unwrap();
    let unset = (0..SIZE).find(|index| !watch.seen[1].contains(index)).unwrap();
    assert_eq!(app.update(&of(unset), json!(1)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(spread(&app, &reference.uri).await["value"], 1, "the same status: the control");
    for (index, value) in [(set, 0), (unset, 2)] {
        assert_eq!(app.update(&of(index), json!(value)).await.0, StatusCode::NO_CONTENT);
    }
    assert_eq!(spread(&app, &reference.uri).await, Value::Null);
    eventually("the updates to be published", async || {
        (app.stored(&of(unset)).await["published"] == true).then_some(())
    })
    .await;
    let list = published(&folder, &reference.uri).unwrap();
    for index in 0..SIZE {
        let expected = if index == set {
            0
        } else if index == unset {
            2
        } else {
            1
        };
        assert_eq!(list.status(index), expected, "index {index}");
    }
}

#[tokio::test]
async fn an_update_to_another_status_completes_a_spread_and_wins_on_sqlite() {
    an_update_wins("storage-type: sqlite").await;
}

#[tokio::test]
async fn an_update_to_another_status_completes_a_spread_and_wins_on_redis() {
    let redis = RedisServer::start();
    an_update_wins(&format!("storage-type: redis, redis: {{ {} }}", redis.settings())).await;
}

#[tokio::test]
async fn a_spread_goes_on_after_kill_9() {
    const SETTINGS: &str = "
status-list-pools:
  p: { api-key: the key of this test, size: 1000, update-interval: 2s }";
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let start = || Process::start(command(folder.path(), port, SETTINGS), folder.path(), port);
    // No connection outlives the process at its other end.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let ask = async |method: Method, path: &str, body: String| {
        let request = http.request(method, format!("http://127.0.0.1:{port}{path}"));
        let request = request.header("X-Api-Key", KEY).header("Content-Type", "application/json");
        request.body(body).send().await.unwrap()
    };
    let process = start();
    let answer = ask(Method::POST, "/pools/p/new-references", String::new()).await.text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let uri = answer["references"][0]["uri"].as_str().unwrap().to_owned();
    let path = format!("/pools/p/lists/{}", uri.rsplit('/').next().unwrap());
    let body = json!({ "value": 1, "spread-beats": BEATS }).to_string();
    assert_eq!(ask(Method::PATCH, &path, body).await.status(), StatusCode::ACCEPTED);
    process.kill();
    let process = start();
    let mut watch = Watch::new(folder.path(), &uri, 1);
    watch.more().await;
    process.kill();
    let _process = start();
    watch.until_all().await;
    let counts = watch.counts();
    assert!(counts.iter().all(in_whole_shares), "an entry was set twice or left out: {counts:?}");
}

#[tokio::test]
async fn numbers_of_beats_that_make_no_sense_are_refused_and_one_is_at_once() {
    let app = TestApp::start("size: 1000, update-interval: 1h");
    let reference = app.references(1).await.remove(0);
    for beats in [json!(0), json!(1001), json!(-1), json!(2.5), json!("4"), Value::Null] {
        let (status, problem) =
            fill(&app, &reference.uri, json!({ "value": 1, "spread-beats": beats })).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("BAD_REQUEST")), "{beats}");
    }
    assert_eq!(app.stored(&reference).await["version"], 0);
    // The entries do not divide by 300: four entries a beat.
    let (status, answer) = fill(&app, &reference.uri, json!({ "value": 1, "spread-beats": 300 })).await;
    assert_eq!((status, answer), (StatusCode::ACCEPTED, json!({ "beats": 250 })));
    assert_eq!(app.stored(&reference).await["value"], 0, "not before the next beat");
    let (status, _) = fill(&app, &reference.uri, json!({ "value": 1, "spread-beats": 1 })).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(app.stored(&reference).await["value"], 1);
    assert_eq!(spread(&app, &reference.uri).await, Value::Null);
}

/// One list after the other, so the one that fails must not be the last.
#[tokio::test]
async fn a_damaged_list_does_not_hold_up_the_spreads_of_others() {
    let lists = "open-lists: 2";
    let start = |folder| {
        let pool = format!("api-key: {KEY}, size: {SIZE}, update-interval: 1s, {lists}");
        let settings = format!("status-list-pools: {{ p: {{ {pool} }} }}");
        TestApp::start_at(folder, "http://status.example", &settings, Clock::System)
    };
    let app = start(tempfile::tempdir().unwrap());
    app.references(1).await;
    let answer = app.send(Method::GET, "/pools/p/lists", None).await.1;
    let uris = [0, 1].map(|n| answer["lists"][n]["uri"].as_str().unwrap().to_owned());
    for uri in &uris {
        let (status, answer) = fill(&app, uri, json!({ "value": 1, "spread-beats": 20 })).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    }
    let folder = app.stop();
    let store = rusqlite::Connection::open(folder.path().join("statuslist.db")).unwrap();
    let sql = "INSERT INTO chunk SELECT id, 99, x'00' FROM list WHERE uuid = ?1";
    assert_eq!(store.execute(sql, [uris[0].rsplit('/').next().unwrap()]).unwrap(), 1);
    drop(store);
    let app = start(folder);
    let left = async |uri: &str| spread(&app, uri).await["entriesLeft"].as_u64().unwrap();
    let before = left(&uris[0]).await;
    eventually("the other list goes on", async || (left(&uris[1]).await < SIZE * 3 / 4).then_some(())).await;
    assert_eq!(left(&uris[0]).await, before, "the control: it is damaged");
}

#[tokio::test]
async fn a_reload_is_no_beat() {
    let settings = |keys: &str| {
        format!(
            "status-list-pools: {{ p: {{ api-keys: [{keys}], size: {SIZE}, update-interval: 1h, list-lifetime: 48h }} }}"
        )
    };
    let live = Live::start(&settings("one"));
    let reference = live.reference("one").await;
    let list = format!("{}/pools/p/lists", live.url());
    let request = live.client.patch(format!("{list}/{}", reference.uri.rsplit('/').next().unwrap()));
    let request = request.header("X-Api-Key", "one").header("Content-Type", "application/json");
    let answer = request.body(r#"{"value":1,"spread-beats":4}"#).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    live.set(&settings("one, two"));
    eventually("the reload", async || (live.pool("two").await.0 == StatusCode::OK).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = live.client.get(list).header("X-Api-Key", "two").send().await.unwrap().text().await.unwrap();
    assert!(answer.contains(&format!("\"entriesLeft\":{SIZE}")), "{answer}");
}

/// The share of a beat takes longer than the beat: other lists must be published before it is complete.
#[tokio::test]
async fn a_spread_over_millions_of_entries_does_not_hold_up_other_lists() {
    const ENTRIES: u64 = 4_000_000;
    let app = TestApp::start(&format!(
        "size: {ENTRIES}, update-interval: 1s, open-lists: 2, precreation: {{ lists: 0 }}, prefetch: {{ capacity: 100 }}"
    ));
    let references = app.references(100).await;
    let spread_over = references[0].uri.clone();
    let others: Vec<_> = references.into_iter().filter(|reference| reference.uri != spread_over).collect();
    let body = json!({ "value": "invalid", "spread-beats": 2 });
    assert_eq!(fill(&app, &spread_over, body).await.0, StatusCode::ACCEPTED);
    for reference in &others[..3] {
        let begun = Instant::now();
        assert_eq!(app.update(reference, json!(1)).await.0, StatusCode::NO_CONTENT);
        eventually("the revocation to be published", async || {
            let list = published(app.folder(), &reference.uri).ok()?;
            (list.status(reference.index) == 1).then_some(())
        })
        .await;
        // A beat and a second, and much more for a busy machine.
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let left = spread(&app, &spread_over).await["entriesLeft"].as_u64().unwrap();
        assert!(left > ENTRIES / 2, "published only after the share of a beat: {left} entries are left");
    }
}
