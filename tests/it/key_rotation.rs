//! Signing keys are replaced under load: no Relying Party ever holds a token that fails with the published keys, whether it
//! fetched them just then or kept them for as long as allowed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use reqwest::{Client, StatusCode};

use super::reload::{Live, replace_key};
use crate::support::eventually;
use crate::support::relying_party::{List, jwks};

const ROTATIONS: usize = 4;
const KEY: &str = "one";
/// How long the prober keeps the keys; below `keys-max-age` by the time that noticing and publishing a key may take.
const KEPT: Duration = Duration::from_millis(1500);

fn settings(keys_max_age: &str, pool: &str) -> String {
    format!(
        "publish: {{ keys-max-age: {keys_max_age} }}\n\
         status-list-pools: {{ p: {{ api-keys: [{KEY}], size: 1000, update-interval: 1s, {pool} }} }}"
    )
}

/// The id of the key that signed the published token of `uri`.
fn signed_by(folder: &Path, uri: &str) -> String {
    let id = uri.rsplit('/').next().unwrap();
    let token = std::fs::read_to_string(folder.join(format!("public/lists/{id}.jwt"))).unwrap();
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// Fetches a list repeatedly, and verifies it with keys that were fetched just before, and with cached keys.
async fn probe(url: String, uri: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let client = Client::new();
    let fetch = async |url: &str| client.get(url).send().await.unwrap().text().await.unwrap();
    let keys = format!("{url}/lists/jwks.json");
    let fresh = async || (Instant::now(), serde_json::from_str::<JwkSet>(&fetch(&keys).await).unwrap());
    let mut kept = fresh().await;
    let mut failures = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let (_, now) = fresh().await;
        let token = fetch(&uri).await;
        if kept.0.elapsed() > KEPT {
            kept = fresh().await;
        }
        for (which, keys) in [("fresh", &now), ("kept", &kept.1)] {
            if let Err(why) = List::verify(&token, &uri, keys) {
                failures.push(format!("{which} keys: {why}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    failures
}

/// Replaces the key several times under updates. Returns the failures that the prober found.
async fn rotate(keys_max_age: &str) -> Vec<String> {
    let pool = "list-lifetime: 6s, resign-after: 2s, signer: { pem: { key: signer.pem } }";
    let live = Arc::new(Live::start(&settings(keys_max_age, pool)));
    let reference = live.reference(KEY).await;
    let stop = Arc::new(AtomicBool::new(false));
    let prober = tokio::spawn(probe(live.url().to_owned(), reference.uri.clone(), Arc::clone(&stop)));
    let load = tokio::spawn({
        let (live, reference, stop, value) =
            (Arc::clone(&live), reference.clone(), Arc::clone(&stop), AtomicU8::new(0));
        async move {
            while !stop.load(Ordering::SeqCst) {
                let value = value.fetch_xor(1, Ordering::SeqCst);
                assert_eq!(live.update(KEY, &reference, value).await, StatusCode::NO_CONTENT);
            }
        }
    });
    for _ in 0..ROTATIONS {
        let kid = replace_key(live.folder(), "signer.pem");
        eventually("the new key signs", async || {
            (signed_by(live.folder(), &reference.uri) == kid).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    load.await.unwrap();
    prober.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_fails_while_keys_are_replaced_under_load() {
    let failures = rotate("3s").await;
    assert!(failures.is_empty(), "{} failures, such as {:?}", failures.len(), failures[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_overlap_the_prober_finds_tokens_that_fail() {
    let failures = rotate("0s").await;
    assert!(failures.iter().any(|failure| failure.contains("is not published")), "{failures:?}");
}

#[tokio::test]
async fn a_key_change_signs_no_list_before_its_time() {
    let live = Live::start(&settings("1s", "list-lifetime: 24h, signer: { pem: { key: signer.pem } }"));
    let reference = live.reference(KEY).await;
    let old = signed_by(live.folder(), &reference.uri);
    let new = replace_key(live.folder(), "signer.pem");
    eventually("the new key signs", async || (live.pool(KEY).await.1["keyId"] == *new).then_some(())).await;
    // Several beats in which nothing is due.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(signed_by(live.folder(), &reference.uri), old);
    List::verify(&live.text(&path_of(&reference.uri)).await, &reference.uri, &jwks(live.folder())).unwrap();
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    eventually("its next token is the new key's", async || {
        (signed_by(live.folder(), &reference.uri) == new).then_some(())
    })
    .await;
    // The gate still knew what was published: the list's first token, of the old key.
    let metrics = live.text("/metrics").await;
    let mut refused = metrics.lines().filter(|line| line.starts_with("statuslist_publish_refused_total{"));
    assert!(refused.all(|line| line.ends_with(" 0")), "{metrics}");
}

#[tokio::test]
async fn an_announced_key_is_published_at_once_and_signs_when_it_moves_up() {
    let signer = |signer: &str| {
        settings("1h", &format!("list-lifetime: 6s, resign-after: 2s, signer: {{ {signer} }}"))
    };
    let live = Live::start(&signer("pem: { key: signer.pem }"));
    let reference = live.reference(KEY).await;
    let old = signed_by(live.folder(), &reference.uri);
    let next = replace_key(live.folder(), "next.pem");
    live.set(&signer("pem: { key: signer.pem }, next: { pem: { key: next.pem } }"));
    eventually("the announced key is published", async || jwks(live.folder()).find(&next).map(|_| ())).await;
    assert_eq!(live.pool(KEY).await.1["keyId"], *old);
    // It has not been published for an hour yet, so it must wait and not sign.
    live.set(&signer("pem: { key: next.pem }"));
    live.until_metric("statuslist_reloads_total{result=\"ok\"} 2").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(signed_by(live.folder(), &reference.uri), old);
    // With a shorter time it has already waited long enough.
    live.set(&signer("pem: { key: next.pem }").replace("1h", "1s"));
    eventually("it signs", async || (signed_by(live.folder(), &reference.uri) == next).then_some(())).await;
    assert!(jwks(live.folder()).find(&old).is_some(), "its last token is still valid");
    eventually("its last token has expired", async || jwks(live.folder()).find(&old).is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn another_key_of_the_same_id_is_refused() {
    let live = Live::start(&settings("1s", "signer: { kid: mine, pem: { key: signer.pem } }"));
    live.reference(KEY).await;
    replace_key(live.folder(), "signer.pem");
    live.until_metric("statuslist_settings_stale 1").await;
    let log = std::fs::read_to_string(crate::support::process::log_path(live.folder())).unwrap();
    assert!(log.contains("same id `mine`"), "{log}");
}

fn path_of(uri: &str) -> String {
    format!("/lists/{}", uri.rsplit('/').next().unwrap())
}
