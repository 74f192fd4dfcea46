//! The status page and the statistics of a pool: nothing without the settings, and with them what was published, whatever happens to
//! the files. `tests/browser/status_page.mjs` says what must be visible.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;

use crate::explorer::{play, run};
use crate::reload::Live;
use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::relying_party::published;

const COUNTED: &str = "explorer: { pools: { p: { statistics: true } } }";
const POOL: &str = "size: 4096, bits: 2, open-lists: 1, update-interval: 1s, list-lifetime: 1h";

fn settings(explorer: &str) -> String {
    format!("{explorer}\nstatus-list-pools: {{ p: {{ api-key: {KEY}, {POOL} }} }}")
}

fn start(explorer: &str) -> TestApp {
    start_in(tempfile::tempdir().unwrap(), explorer)
}

/// Its lists keep their `uri`s, whatever the port.
fn start_in(folder: tempfile::TempDir, explorer: &str) -> TestApp {
    TestApp::start_at(folder, "http://status.example", &settings(explorer), Clock::System)
}

fn statistics(folder: &Path) -> PathBuf {
    folder.join("public/lists/status/p.csv")
}

/// The counts of each line: lists, entries, revoked, suspended.
fn lines(folder: &Path) -> Vec<String> {
    let csv = fs::read_to_string(statistics(folder)).unwrap_or_default();
    csv.lines().skip(1).map(|line| line.split_once(',').unwrap().1.to_owned()).collect()
}

async fn until_last(folder: &Path, wanted: &str) {
    eventually(wanted, async || lines(folder).last().is_some_and(|last| last == wanted).then_some(())).await;
}

async fn set(app: &TestApp, reference: &Reference, value: u8) {
    assert_eq!(app.update(reference, json!(value)).await.0, StatusCode::NO_CONTENT);
    eventually("the update", async || {
        let list = published(app.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == value).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_status_page_counts_what_is_published_and_follows_it() {
    let pools = format!(
        "explorer: {{ operator: {{ name: Agency, url: https://agency.example/, documentation: https://agency.example/lists }}, \
         pools: {{ p: {{ title: {{ en: Driving licences, de: Führerscheine }}, statistics: true }}, plain: }} }}\n\
         status-list-pools: {{ p: {{ api-key: {KEY}, {POOL} }}, plain: {{ api-key: {KEY}2, size: 8000, update-interval: 1s }}, \
         hidden: {{ api-key: {KEY}3, size: 8000, update-interval: 1s }} }}"
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &pools, Clock::System);
    let references = app.references(3).await;
    let [revoked, suspended, later] = references.as_slice() else { panic!("{references:?}") };
    set(&app, revoked, 1).await;
    set(&app, suspended, 2).await;
    // The open list and the one that is kept ready.
    let lists = 2;
    until_last(app.folder(), &format!("{lists},{},1,1", lists * 4096)).await;
    let scene = json!({
        "page": format!("{}/", app.url), "lists": lists, "size": 4096, "apiKey": KEY, "uri": later.uri, "later": later.index,
    });
    play("statusPage", scene).await;
    let shown = fs::read_to_string(app.folder().join("public/lists/status/pools.json")).unwrap();
    assert!(!shown.contains("hidden") && !shown.contains(KEY), "{shown}");
}

#[test]
fn every_language_of_the_status_page_has_every_text_and_each_is_used() {
    let output = run("texts", &Value::Null);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn without_the_settings_there_is_no_page_and_no_file() {
    let app = start("");
    let reference = app.references(1).await.remove(0);
    set(&app, &reference, 1).await;
    assert!(!app.folder().join("public/lists/status").exists());
    for path in ["/status.html", "/lists/status/pools.json", "/lists/status/p.csv"] {
        let answer = app.client.get(format!("{}{path}", app.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn statistics_get_a_line_for_each_publication_that_changed_a_count_and_survive_restarts() {
    let app = start(COUNTED);
    let references = app.references(3).await;
    until_last(app.folder(), "2,8192,0,0").await;
    set(&app, &references[0], 1).await;
    until_last(app.folder(), "2,8192,1,0").await;
    set(&app, &references[1], 2).await;
    until_last(app.folder(), "2,8192,1,1").await;
    let counted = lines(app.folder());
    assert!(counted.windows(2).all(|pair| pair[0] != pair[1]), "each line has a change: {counted:?}");

    // Nothing has changed: no line, although every list is counted anew from its file.
    let folder = app.stop();
    let app = start_in(folder, COUNTED);
    set(&app, &references[2], 2).await;
    until_last(app.folder(), "2,8192,1,2").await;
    assert_eq!(lines(app.folder()).len(), counted.len() + 1);

    // Switched off, it gets no more lines, and stays; switched on again, the next line has what was missed.
    let folder = app.stop();
    let app = start_in(folder, "");
    set(&app, &references[2], 0).await;
    let folder = app.stop();
    assert_eq!(lines(folder.path()).len(), counted.len() + 1);
    let app = start_in(folder, COUNTED);
    until_last(app.folder(), "2,8192,1,1").await;

    // A retired list no longer counts.
    let list = references[0].uri.rsplit('/').next().unwrap();
    let (status, body) = app.send(Method::DELETE, &format!("/pools/p/lists/{list}?force=true"), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    eventually("a line without the retired list", async || {
        lines(app.folder()).last().is_some_and(|last| last.ends_with(",0,0")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_publication_never_waits_for_statistics_that_cannot_be_written() {
    let app = start(COUNTED);
    let references = app.references(3).await;
    set(&app, &references[0], 1).await;
    until_last(app.folder(), "2,8192,1,0").await;
    // Neither read nor replaced, whoever runs the tests.
    let path = statistics(app.folder());
    let kept = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    set(&app, &references[1], 1).await;
    // Another process holds the lock and hangs.
    let lock = fs::File::open(app.folder().join("public/lists/.statistics-p.lock")).unwrap();
    lock.lock().unwrap();
    set(&app, &references[1], 2).await;
    fs::remove_dir(&path).unwrap();
    // With a damaged line at the end, as no crash of ours leaves it.
    let damaged = [kept.as_slice(), b"2027-01-15T"].concat();
    std::io::Write::write_all(&mut fs::File::create(&path).unwrap(), &damaged).unwrap();
    drop(lock);
    set(&app, &references[2], 1).await;
    until_last(app.folder(), "2,8192,2,1").await;
    let csv = fs::read(&path).unwrap();
    assert!(csv.starts_with(&kept), "the good lines stay: {}", String::from_utf8_lossy(&csv));
}

#[tokio::test]
async fn what_the_page_shows_changes_without_a_restart() {
    let live = Live::start(&settings("explorer: { pools: { p: { title: First } } }"));
    let shown =
        async || -> Option<Value> { serde_json::from_str(&live.text("/lists/status/pools.json").await).ok() };
    let title = async |wanted: &str| {
        eventually(wanted, async || (shown().await?["pools"][0]["title"]["de"] == wanted).then_some(()))
            .await;
    };
    title("First").await;
    assert!(!statistics(live.folder()).exists());
    live.set(&settings("explorer: { pools: { p: { title: Second, statistics: true } } }"));
    title("Second").await;
    eventually("statistics", async || statistics(live.folder()).exists().then_some(())).await;
    live.set(&settings(""));
    eventually("no page", async || {
        let status = live.client.get(format!("{}/status.html", live.url())).send().await.ok()?.status();
        (status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}
