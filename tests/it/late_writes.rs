//! A request that was sent before an acknowledged update, and was not acknowledged itself, takes no effect afterwards: not from a
//! paused instance that reads an old request when it resumes, and not from a paused Redis or PostgreSQL that finds an old batch in its
//! sockets.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::app::Reference;
use crate::support::fleet::{Instance, on_redis, shared};
use crate::support::postgres::PostgresServer;
use crate::support::process::signal;
use crate::support::redis::RedisServer;

/// Longer than a request may take, so that its sender has given up.
const PAUSE: Duration = Duration::from_secs(4);

/// What makes a command of Redis end in time.
const REDIS: &str = "timeouts: { command: 2s, replicas: 1s }";

/// Two instances on this store whose requests may take two seconds.
fn two_instances(folder: &std::path::Path, store: &str) -> [Instance; 2] {
    let settings = format!(
        "limits: {{ request-timeout: 2s }}\n{}\nstatus-list-pools: {{ p: {{ api-key: x, size: 200000, {} }} }}",
        store, "precreation: { check-delay: 200ms }"
    );
    let settings = format!("{settings}\n{}", shared(folder));
    ["a", "b"].map(|name| Instance::start(folder, name, &settings))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_paused_instance_reads_late_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let [a, b] = two_instances(folder.path(), &on_redis(&redis, REDIS));
    let references = b.issuer().references("p", 20).await;
    a.issuer().references("p", 1).await;
    // On connections that are already open, and on new ones.
    let impatient = Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
    let old = async |reference: &Reference| {
        let body = json!({ "uri": reference.uri, "index": reference.index, "value": 0 }).to_string();
        let request = impatient.patch(format!("{}/status-lists/update", a.url())).header("X-Api-Key", "x");
        request
            .header("Content-Type", "application/json")
            .body(body)
            .send()
            .await
            .map(|answer| answer.status())
    };
    assert_eq!(old(&references[0]).await.unwrap(), StatusCode::NO_CONTENT);

    signal("-STOP", a.pid());
    for reference in &references {
        assert!(old(reference).await.is_err(), "nobody answers while the instance is paused");
    }
    for reference in &references {
        assert_eq!(b.issuer().set(reference, 1).await, Some(StatusCode::NO_CONTENT));
    }
    tokio::time::sleep(PAUSE).await;
    signal("-CONT", a.pid());
    tokio::time::sleep(Duration::from_secs(2)).await;
    for reference in &references {
        assert_eq!(b.issuer().stored("p", reference).await, Some(1), "an acknowledged update was undone");
    }
    assert_eq!(
        old(&references[0]).await.unwrap(),
        StatusCode::NO_CONTENT,
        "it does not accept requests again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_a_paused_redis_reads_late_changes_nothing() {
    let redis = RedisServer::start();
    late_batch(&on_redis(&redis, REDIS), |frozen| redis.freeze(frozen)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_a_paused_postgresql_reads_late_changes_nothing() {
    let server = PostgresServer::start();
    let store = format!(
        "storage-type: postgres\npostgres: {{ {}, timeouts: {{ command: 2s }} }}\n",
        server.settings()
    );
    late_batch(&store, |frozen| server.freeze(frozen)).await;
}

async fn late_batch(store: &str, freeze: impl Fn(bool)) {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = two_instances(folder.path(), store);
    let references = b.issuer().references("p", 10).await;
    let list = references[0].uri.clone();
    let of_list: Vec<_> = references.iter().filter(|reference| reference.uri == list).collect();
    let client = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let batch = |entries: Vec<Value>, value: u8| {
        let body = json!({ "statusListReferences": entries, "value": value }).to_string();
        let request = client.patch(format!("{}/status-lists/batch-update", a.url())).header("X-Api-Key", "x");
        request.header("Content-Type", "application/json").body(body).send()
    };
    let entry = |index: u64| json!({ "uri": list, "index": index });
    assert_eq!(batch(vec![entry(1)], 0).await.unwrap().status(), StatusCode::NO_CONTENT);

    freeze(true);
    let old = batch((0..30_000).map(entry).collect(), 0).await.unwrap();
    assert_eq!(old.status(), StatusCode::SERVICE_UNAVAILABLE);
    // Sent by another instance while the server is still paused: it waits in another of its sockets.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let issuer = b.issuer();
    let later: Vec<_> = of_list.iter().map(|reference| (*reference).clone()).collect();
    let later = later.into_iter().map(|reference| {
        let issuer = issuer.clone();
        tokio::spawn(async move {
            while issuer.set(&reference, 1).await != Some(StatusCode::NO_CONTENT) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    });
    let later: Vec<_> = later.collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    freeze(false);
    for set in later {
        set.await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for reference in of_list {
        assert_eq!(issuer.stored("p", reference).await, Some(1), "an acknowledged update was undone");
    }
}
