//! Graceful restarts: references are given back, none comes twice, and no update is forgotten.

use std::collections::HashSet;

use reqwest::StatusCode;
use serde_json::json;
use statuslist::clock::Clock;

use crate::support::app::{KEY, TestApp};

#[tokio::test]
async fn references_never_repeat_and_unused_ones_come_back() {
    let mut folder = tempfile::tempdir().unwrap();
    let mut seen = HashSet::new();
    let url = "http://status.example";
    let settings = format!(
        "status-list-pools: {{ p: {{ api-key: {KEY}, size: 8000, open-lists: 1, precreation: {{ lists: 0 }} }} }}"
    );
    for _ in 0..10 {
        let app = TestApp::start_at(folder, url, &settings, Clock::System);
        for reference in app.references(790).await {
            assert!(seen.insert((reference.uri.clone(), reference.index)), "{reference:?} came twice");
        }
        folder = app.stop();
    }
    let lists: HashSet<_> = seen.iter().map(|(uri, _)| uri).collect();
    assert_eq!(
        lists.len(),
        1,
        "7900 references of 8000 fit into one list only if every stop gave the unused ones back"
    );
}

#[tokio::test]
async fn an_update_that_was_not_published_yet_is_published_after_the_restart() {
    let url = "http://status.example";
    let settings =
        format!("status-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1h, list-lifetime: 24h }} }}");
    let app = TestApp::start_at(tempfile::tempdir().unwrap(), url, &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    assert_eq!(app.update(&reference, json!(1)).await.0, StatusCode::NO_CONTENT);
    let app = TestApp::start_at(app.stop(), url, &settings, Clock::System);
    crate::support::eventually("the update to be published", async || {
        let list = crate::support::relying_party::published(app.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pool_settings_that_differ_from_the_store_are_refused() {
    let folder = TestApp::start("size: 800").stop();
    let config = crate::support::app::settings_in(
        folder.path(),
        "http://status.example",
        &format!("status-list-pools: {{ p: {{ api-key: {KEY}, size: 1600 }} }}"),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = statuslist::app::App::build_on(listener, config, Clock::System).await.err().unwrap();
    let error = format!("{error:#}");
    assert!(error.contains("pool p was created with size 800, the settings say 1600"), "{error}");
}
