//! From an update to what a Relying Party sees, and how lost, damaged and expiring files are handled.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use statuslist::base::clock::Clock;

use crate::support::app::{Reference, TestApp};
use crate::support::eventually;
use crate::support::relying_party::{List, jwks, published};

/// Fetches the list over HTTP and verifies it.
async fn fetch(app: &TestApp, uri: &str) -> List {
    let response = app.client.get(uri).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/statuslist+jwt");
    List::verify(&response.text().await.unwrap(), uri, &jwks(app.folder())).unwrap()
}

async fn until_published(app: &TestApp, reference: &Reference, value: u8) -> List {
    eventually("the update to be published", async || {
        let list = fetch(app, &reference.uri).await;
        (list.status(reference.index) == value).then_some(list)
    })
    .await
}

#[tokio::test]
async fn a_revocation_is_visible_within_a_beat_and_nothing_else_changes() {
    let app = TestApp::start("update-interval: 1s");
    let references = app.references(2).await;
    let before = fetch(&app, &references[0].uri).await;
    assert_eq!(before.status(references[0].index), 0);
    assert_eq!(app.update(&references[0], json!(1)).await.0, StatusCode::NO_CONTENT);
    let acknowledged = std::time::Instant::now();
    let list = until_published(&app, &references[0], 1).await;
    // One beat, and generous time for a busy machine; bench/ measures it.
    assert!(acknowledged.elapsed() < Duration::from_secs(15), "{:?}", acknowledged.elapsed());
    assert!(list.claims["iat"].as_u64() > before.claims["iat"].as_u64());
    for idx in 0..100_000 {
        let revoked =
            references.iter().any(|r| r.uri == references[0].uri && r.index == idx && *r == references[0]);
        assert_eq!(list.status(idx), u8::from(revoked), "index {idx}");
    }
    // The file exists a moment before the store knows.
    eventually("the store to know", async || {
        let stored = app.stored(&references[0]).await;
        assert_eq!(stored["value"], json!(1));
        (stored["published"] == json!(true)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn claims_are_those_of_the_settings() {
    let app = TestApp::start(
        "update-interval: 1s, list-lifetime: 1h, ttl: 5m, issuer: https://issuer.example, bits: 2, size: 8000",
    );
    let reference = app.references(1).await.remove(0);
    let claims = fetch(&app, &reference.uri).await.claims;
    assert_eq!(claims["iss"], "https://issuer.example");
    assert_eq!(claims["ttl"], 300);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    assert_eq!(claims["status_list"]["bits"], 2);
    let aggregation = claims["status_list"]["aggregation_uri"].as_str().unwrap();
    let response = app.client.get(aggregation).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let lists: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let lists = lists["status_lists"].as_array().unwrap();
    assert!(lists.contains(&json!(reference.uri)), "{lists:?}");
    for uri in lists {
        fetch(&app, uri.as_str().unwrap()).await;
    }
    let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["exp", "iat", "iss", "status_list", "sub", "ttl"], "and no other claim");
}

#[tokio::test]
async fn pools_do_not_show_each_others_lists() {
    let settings = "status-list-pools: { a: { api-key: x }, b: { api-key: y, aggregation: false } }";
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), settings, Clock::System);
    let lists = eventually("the aggregation", async || {
        let response = app.client.get(format!("{}/lists/aggregation/a", app.url)).send().await.unwrap();
        let lists: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).ok()?;
        (lists["status_lists"].as_array()?.len() == 3).then_some(lists)
    })
    .await;
    assert_eq!(lists.as_object().unwrap().len(), 1);
    let off = app.client.get(format!("{}/lists/aggregation/b", app.url)).send().await.unwrap();
    assert_eq!(off.status(), StatusCode::NOT_FOUND);
    let of_b = eventually("a reference of the other pool", async || {
        let request = app.client.post(format!("{}/api/b/new-reference", app.url)).header("X-Api-Key", "y");
        serde_json::from_str::<Reference>(&request.send().await.unwrap().text().await.unwrap()).ok()
    })
    .await;
    let claims = fetch(&app, &of_b.uri).await.claims;
    assert!(claims["status_list"].get("aggregation_uri").is_none(), "{claims}");
    assert!(!lists["status_lists"].as_array().unwrap().contains(&json!(of_b.uri)));
}

#[tokio::test]
async fn unchanged_lists_are_renewed_and_none_is_ever_expired() {
    let app = TestApp::start("update-interval: 1s, list-lifetime: 12s, resign-after: 2s");
    let reference = app.references(1).await.remove(0);
    let mut issued = Vec::new();
    let end = std::time::Instant::now() + Duration::from_secs(9);
    while std::time::Instant::now() < end {
        // `fetch` verifies `exp` without leeway.
        issued.push(fetch(&app, &reference.uri).await.claims["iat"].as_u64().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(issued.is_sorted(), "iat went back: {issued:?}");
    issued.dedup();
    assert!(issued.len() >= 3, "renewed at {issued:?}");
}

#[tokio::test]
async fn verifiers_that_count_ttl_from_iat_are_served_when_resign_after_is_below_ttl() {
    let app = TestApp::start("update-interval: 1s, list-lifetime: 1m, ttl: 12s, resign-after: 3s");
    let reference = app.references(1).await.remove(0);
    // Longer than `ttl`, so that a list that is not renewed would be detected.
    let end = std::time::Instant::now() + Duration::from_secs(15);
    while std::time::Instant::now() < end {
        let claims = fetch(&app, &reference.uri).await.claims;
        let stale_at = claims["iat"].as_u64().unwrap() + claims["ttl"].as_u64().unwrap();
        assert!(stale_at >= Clock::System.now().date().secs(), "stale at {stale_at}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn deleted_and_damaged_files_come_back_at_the_next_start() {
    let app = TestApp::start("update-interval: 1s, formats: [jwt, cwt]");
    let references = app.references(50).await;
    for reference in &references[..10] {
        app.update(reference, json!(1)).await;
    }
    for reference in &references[..10] {
        until_published(&app, reference, 1).await;
    }
    let folder = app.stop();
    let lists = folder.path().join("public/lists");
    let file = |reference: &Reference, extension: &str| {
        lists.join(format!("{}.{extension}", reference.uri.rsplit('/').next().unwrap()))
    };
    let old = published(folder.path(), &references[0].uri).unwrap().claims["iat"].as_u64();
    std::fs::remove_file(file(&references[0], "cwt")).unwrap();
    let token = std::fs::read(file(&references[0], "jwt")).unwrap();
    damage(&file(&references[0], "jwt"), &token[..token.len() - 5]);
    damage(&lists.join(".tmp-1-1"), b"half a file");
    let long_ago = std::fs::File::options().write(true).open(lists.join(".tmp-1-1")).unwrap();
    long_ago.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();

    // The lists must be served under their old address, so the URI's port cannot be used here: the test reads files.
    let uris: Vec<_> = references.iter().map(|reference| reference.uri.clone()).collect();
    let url = uris[0].split("/lists/").next().unwrap().to_owned();
    let app = restart_as(folder, &url);
    eventually("the files to come back", async || {
        let list = published(app.folder(), &uris[0]).ok()?;
        let lists = app.folder().join("public/lists");
        let cwt = lists.join(format!("{}.cwt", uris[0].rsplit('/').next().unwrap()));
        (list.claims["iat"].as_u64() > old && cwt.exists()).then_some(())
    })
    .await;
    for reference in &references {
        let revoked = references[..10].contains(reference);
        assert_eq!(
            published(app.folder(), &reference.uri).unwrap().status(reference.index),
            u8::from(revoked)
        );
    }
    assert!(!app.folder().join("public/lists/.tmp-1-1").exists(), "leftovers are removed");

    let folder = app.stop();
    std::fs::remove_dir_all(folder.path().join("public")).unwrap();
    let app = restart_as(folder, &url);
    for reference in &references {
        let list =
            eventually("the site to be rebuilt", async || published(app.folder(), &reference.uri).ok()).await;
        assert_eq!(list.status(reference.index), u8::from(references[..10].contains(reference)));
    }
}

/// Restarts with the `public-url` of an earlier start.
fn restart_as(folder: tempfile::TempDir, url: &str) -> TestApp {
    let key = crate::support::app::KEY;
    let settings =
        format!("status-list-pools: {{ p: {{ api-key: {key}, update-interval: 1s, formats: [jwt, cwt] }} }}");
    TestApp::start_at(folder, url, &settings, Clock::System)
}

fn damage(path: &std::path::Path, bytes: &[u8]) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), bytes).unwrap();
}

#[tokio::test]
async fn a_file_that_the_gate_refuses_keeps_the_old_one() {
    // The clock is set back by more than a minute: a token signed now would be older than the published one.
    let clock = Clock::set_to(Clock::System.now().date().into());
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::start_in(folder, "update-interval: 1s", clock.clone());
    let reference = app.references(1).await.remove(0);
    let before = fetch(&app, &reference.uri).await.claims["iat"].as_u64();
    clock.jump(-100);
    assert_eq!(app.update(&reference, json!(1)).await.0, StatusCode::NO_CONTENT);
    let failed = "statuslist_publish_failed_total{pool=\"p\"}";
    eventually("the publisher to refuse", async || {
        let text = app.client.get(format!("{}/metrics", app.url)).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(failed))?.to_owned();
        (!line.ends_with(" 0")).then_some(())
    })
    .await;
    assert_eq!(
        published(app.folder(), &reference.uri).unwrap().claims["iat"].as_u64(),
        before,
        "the old file stays"
    );
    clock.advance(Duration::from_secs(110));
    eventually("publishing to go on", async || {
        let list = published(app.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn changes_wait_for_the_beat_and_come_out_together() {
    let app = TestApp::start("update-interval: 10s");
    let references = app.references(20).await;
    // The first beat was at the start; the updates fall between it and the next.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for reference in &references {
        app.update(reference, json!(1)).await;
    }
    let visible = async || {
        let mut visible = 0;
        for reference in &references {
            visible += usize::from(fetch(&app, &reference.uri).await.status(reference.index));
        }
        visible
    };
    assert_eq!(visible().await, 0, "an update was visible before the beat");
    eventually("the beat", async || (visible().await > 0).then_some(())).await;
    eventually("all of them", async || (visible().await == 20).then_some(())).await;
}

#[tokio::test]
async fn a_pool_of_cwts_alone_is_checked_like_any_other() {
    use statuslist::check::{Check, Outcome, check};
    let app = TestApp::start("update-interval: 1s, formats: [cwt]");
    let references = app.references(2).await;
    app.update(&references[0], json!(1)).await;
    let outcome = async |reference: &Reference| {
        let trust = format!("{}/lists/jwks.json", app.url).parse().ok();
        let request = Check { trust, ..Check::new(&reference.uri, reference.index) };
        check(&request, Clock::System.now().date()).await.outcome
    };
    eventually("the revocation", async || {
        matches!(outcome(&references[0]).await, Outcome::NotValid(_)).then_some(())
    })
    .await;
    assert!(matches!(outcome(&references[1]).await, Outcome::Valid));
}

#[tokio::test]
async fn nothing_is_published_without_need() {
    let app = TestApp::start("update-interval: 1s");
    let reference = app.references(1).await.remove(0);
    let iat = fetch(&app, &reference.uri).await.claims["iat"].clone();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(fetch(&app, &reference.uri).await.claims["iat"], iat);
}
