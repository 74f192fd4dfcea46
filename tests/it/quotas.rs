//! What callers can make a pool store and sign has an end, and the answer says how to move it.

use std::collections::HashSet;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use statuslist::base::clock::{Clock, Timestamp};

use crate::reload::Live;
use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;

/// Two lists of 1,000 at a time, and quick to notice what changes.
const SMALL: &str = "size: 1000, update-interval: 1s, open-lists: 1, precreation: { lists: 1, check-delay: 100ms }, \
                     prefetch: { capacity: 200 }";

fn lists(quota: u64) -> String {
    format!("status-list-pools: {{ p: {{ {SMALL}, api-keys: [one], quotas: {{ lists: {quota} }} }} }}")
}

async fn request(live: &Live, amount: u32) -> (StatusCode, Value) {
    let url = format!("{}/pools/p/new-references?amount={amount}", live.url());
    let response = live.client.post(url).header("X-Api-Key", "one").send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

/// Takes references until they are refused. Returns them and the refusal.
async fn exhaust(live: &Live) -> (Vec<Reference>, StatusCode, Value) {
    let mut references = Vec::new();
    loop {
        let (status, body) = request(live, 100).await;
        if status != StatusCode::OK {
            return (references, status, body);
        }
        let more: Vec<Reference> = serde_json::from_value(body["references"].clone()).unwrap();
        references.extend(more);
        assert!(references.len() <= 20_000, "nobody ends it");
    }
}

async fn metric(live: &Live, line: &str) -> bool {
    live.text("/metrics").await.lines().any(|found| found == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn references_in_a_loop_open_no_more_lists_than_the_quota() {
    let live = Live::start(&lists(3));
    let (references, status, body) = exhaust(&live).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &"LIST_QUOTA_REACHED".into()));
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains("has 3 lists") && message.contains("status-list-pools.p.quotas.lists"),
        "{message}"
    );
    assert_eq!(references.len(), 3000, "what the lists have is handed out");
    assert_eq!(references.iter().collect::<HashSet<_>>().len(), 3000);
    for line in [
        "statuslist_lists{pool=\"p\"} 3",
        "statuslist_lists_max{pool=\"p\"} 3",
        "statuslist_quota_reached_total{pool=\"p\",quota=\"lists\"} 1",
    ] {
        assert!(metric(&live, line).await, "{line}");
    }
    // Updates go on.
    assert_eq!(live.update("one", &references[0], 1).await, StatusCode::NO_CONTENT);

    // A higher quota counts at once.
    live.set(&lists(4));
    eventually("one more list", async || (request(&live, 100).await.0 == StatusCode::OK).then_some(())).await;
    let (more, status, _) = exhaust(&live).await;
    assert_eq!((more.len(), status), (900, StatusCode::CONFLICT));

    // So does a list that is retired.
    let list = references[0].uri.rsplit('/').next().unwrap();
    let url = format!("{}/pools/p/lists/{list}?force=true", live.url());
    let retired = live.client.delete(url).header("X-Api-Key", "one").send().await.unwrap();
    assert!(retired.status().is_success(), "{}", retired.status());
    eventually("a list in its place", async || (request(&live, 100).await.0 == StatusCode::OK).then_some(()))
        .await;
    assert_eq!(exhaust(&live).await.0.len(), 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_requests_hear_that_no_references_will_come() {
    let live = Live::start(&lists(2));
    let (all, ..) = exhaust(&live).await;
    assert_eq!(all.len(), 2000);
    let begun = std::time::Instant::now();
    assert_eq!(request(&live, 1).await.0, StatusCode::CONFLICT);
    assert!(begun.elapsed().as_secs() < 5, "it waited until it timed out");
}

/// 1000 seconds before a midnight.
const EVENING: u64 = 20_000 * 86_400 - 1000;

fn daily(clock: &Clock) -> TestApp {
    let settings = format!(
        "limits: {{ amount: 1000 }}
status-list-pools: {{ p: {{ api-keys: [{KEY}, other], quotas: {{ references-per-day: 50, references-per-key-per-day: 30 }} }} }}"
    );
    TestApp::start_with(tempfile::tempdir().unwrap(), &settings, clock.clone())
}

async fn references_of(
    app: &TestApp,
    key: &str,
    amount: u32,
    retry: Option<&str>,
) -> (StatusCode, Value, Option<u64>) {
    let url = format!("{}/pools/p/new-references?amount={amount}", app.url);
    let mut request = app.client.post(url).header("X-Api-Key", key);
    if let Some(retry) = retry {
        request = request.header("Idempotency-Key", retry);
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap(), after)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pool_and_each_key_has_its_references_of_the_day() {
    let clock = Clock::set_to(Timestamp::from_secs(EVENING));
    let app = daily(&clock);
    let refused = |(status, body, after): (StatusCode, Value, Option<u64>), setting: &str| {
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::TOO_MANY_REQUESTS, &"DAILY_QUOTA_REACHED".into()),
            "{body}"
        );
        assert!(body["message"].as_str().unwrap().contains(setting), "{body}");
        assert!((990..=1001).contains(&after.unwrap()), "{after:?} s to midnight");
    };
    // A repeated answer counts once.
    for _ in 0..3 {
        assert_eq!(references_of(&app, KEY, 10, Some("retry")).await.0, StatusCode::OK);
    }
    assert_eq!(references_of(&app, KEY, 31, None).await.0, StatusCode::BAD_REQUEST, "more than in any day");
    refused(references_of(&app, KEY, 21, None).await, "quotas.references-per-key-per-day");
    assert_eq!(references_of(&app, KEY, 20, None).await.0, StatusCode::OK);
    refused(references_of(&app, KEY, 1, None).await, "quotas.references-per-key-per-day");
    refused(references_of(&app, "other", 21, None).await, "quotas.references-per-day");
    assert_eq!(references_of(&app, "other", 20, None).await.0, StatusCode::OK);
    refused(references_of(&app, "other", 1, None).await, "quotas.references-per-day");
    let text = app.client.get(format!("{}/metrics", app.url)).send().await.unwrap().text().await.unwrap();
    for line in [
        "statuslist_references_today{pool=\"p\"} 50",
        "statuslist_references_per_day_max{pool=\"p\"} 50",
        "statuslist_quota_reached_total{pool=\"p\",quota=\"references-per-day\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    clock.advance(std::time::Duration::from_secs(1000));
    assert_eq!(references_of(&app, KEY, 30, None).await.0, StatusCode::OK, "another day");
    let (status, _) = app.send(Method::GET, "/pools/p", None).await;
    assert_eq!(status, StatusCode::OK);
}
