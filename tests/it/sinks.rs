//! Buckets get what is published, whatever dies in between, and never delay the local files.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;
use statuslist::base::clock::Clock;

use super::reload::replace_key;
use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::process::{Process, command, free_port, log_path};
use crate::support::relying_party::{List, jwks, published};
use crate::support::s3::{Object, PutGate, S3Server, SECRET};

/// What the format `bitstring` needs.
const ISSUER: &str = "issuer: 'https://issuer.example'";

/// Whole settings with one bucket and the pool `p`.
fn settings(sink: &str, pool: &str) -> String {
    format!(
        "{{ publish: {{ sinks: [ {sink} ] }}, status-list-pools: {{ p: {{ api-key: {KEY}, {pool} }} }} }}"
    )
}

fn start(server: &S3Server, pool: &str) -> TestApp {
    let settings = settings(&server.settings(server.port, ""), pool);
    TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System)
}

fn id(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap()
}

/// Returns the list of `uri` as a verifier gets it from the bucket.
async fn in_bucket(server: &S3Server, folder: &Path, uri: &str) -> Option<List> {
    let object = server.get(id(uri)).await?;
    List::verify(&String::from_utf8(object.bytes).unwrap(), uri, &jwks(folder)).ok()
}

/// Waits until a verifier that reads the bucket sees `value`.
async fn until_in_bucket(server: &S3Server, folder: &Path, reference: &Reference, value: u8) {
    eventually("the update in the bucket", async || {
        let list = in_bucket(server, folder, &reference.uri).await?;
        (list.status(reference.index) == value).then_some(())
    })
    .await;
}

/// One reference of each of at least `lists` lists.
async fn of_each_list(app: &TestApp, lists: usize) -> Vec<Reference> {
    let mut references = HashMap::new();
    while references.len() < lists {
        let more = app.references(50).await;
        references.extend(more.into_iter().map(|reference| (reference.uri.clone(), reference)));
    }
    references.into_values().collect()
}

#[tokio::test]
async fn objects_are_the_files_with_the_headers_that_verifiers_need() {
    let server = S3Server::start();
    let app = start(&server, &format!("update-interval: 1s, formats: [jwt, cwt, bitstring], {ISSUER}"));
    let references = of_each_list(&app, 2).await;
    for reference in &references {
        app.update(reference, json!(1)).await;
        until_in_bucket(&server, app.folder(), reference, 1).await;
    }
    let folder = app.folder().join("public/lists");
    let expected = |file: &str, content_type: &str| Object {
        bytes: std::fs::read(folder.join(file)).unwrap(),
        content_type: Some(content_type.to_owned()),
        cache_control: Some("public, max-age=1".to_owned()),
    };
    let (jwt, cwt) = ("application/statuslist+jwt", "application/statuslist+cwt");
    eventually("all objects", async || {
        for reference in &references {
            let id = id(&reference.uri);
            for (key, file, content_type) in [
                (id.to_owned(), "jwt", jwt),
                (format!("{id}.jwt"), "jwt", jwt),
                (format!("{id}.cwt"), "cwt", cwt),
                (format!("bitstring/revocation/{id}"), "revocation", "application/vc+jwt"),
            ] {
                let object = server.get(&key).await?;
                let expected = expected(&format!("{id}.{file}"), content_type);
                assert_eq!(object.content_type, expected.content_type);
                if object != expected {
                    return None;
                }
            }
        }
        let aggregation = expected("aggregation/p.json", "application/json");
        let same = server.get("aggregation/p").await? == aggregation
            && server.get("aggregation/p.json").await? == aggregation
            && server.get("jwks.json").await? == expected("jwks.json", "application/json");
        same.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_format_that_is_dropped_leaves_the_bucket() {
    let server = S3Server::start();
    let app = start(&server, &format!("update-interval: 1s, formats: [jwt, cwt, bitstring], {ISSUER}"));
    let reference = app.references(1).await.remove(0);
    let cwt = format!("{}.cwt", id(&reference.uri));
    let credential = format!("bitstring/revocation/{}", id(&reference.uri));
    assert!(server.get(&cwt).await.is_some() && server.get(&credential).await.is_some());
    let url = app.url.clone();
    let folder = app.stop();
    let settings = settings(&server.settings(server.port, "cache-control: no-cache"), "update-interval: 1s");
    let app = TestApp::start_at(folder, &url, &settings, Clock::System);
    eventually("the other format to leave", async || {
        (server.get(&cwt).await.is_none() && server.get(&credential).await.is_none()).then_some(())
    })
    .await;
    eventually("the new header", async || {
        let header = server.get(id(&reference.uri)).await?.cache_control;
        (header.as_deref() == Some("no-cache")).then_some(())
    })
    .await;
    assert_eq!(in_bucket(&server, app.folder(), &reference.uri).await.unwrap().status(reference.index), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_local_publication_and_upload_loses_nothing() {
    let mut server = S3Server::start();
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let settings = settings(&server.settings(server.port, ""), "update-interval: 1s");
    let start = || Process::start(command(folder.path(), port, &settings), folder.path(), port);
    let process = start();
    let client = reqwest::Client::new();
    let reference: Reference = eventually("a reference", async || {
        let request = client.post(format!("{}/api/p/new-reference", process.url)).header("X-Api-Key", KEY);
        serde_json::from_str(&request.send().await.ok()?.text().await.ok()?).ok()
    })
    .await;
    assert_eq!(
        in_bucket(&server, folder.path(), &reference.uri).await.map(|list| list.status(reference.index)),
        Some(0),
        "the list of a handed-out reference is in the bucket"
    );
    server.kill();
    let body = json!({ "uri": reference.uri, "index": reference.index, "value": 1 }).to_string();
    let request = client.patch(format!("{}/status-lists/update", process.url)).header("X-Api-Key", KEY);
    let answer = request.header("Content-Type", "application/json").body(body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    eventually("the local publication", async || {
        (published(folder.path(), &reference.uri).ok()?.status(reference.index) == 1).then_some(())
    })
    .await;
    // Settled: the store does not know about the bucket, so only the sweep at the start can find it.
    let url = format!("{}/pools/p/lists/{}/statuses/{}", process.url, id(&reference.uri), reference.index);
    eventually("the list to be settled", async || {
        let text = client.get(&url).header("X-Api-Key", KEY).send().await.ok()?.text().await.ok()?;
        let stored: serde_json::Value = serde_json::from_str(&text).ok()?;
        (stored["published"] == true).then_some(())
    })
    .await;
    let log = || std::fs::read_to_string(log_path(folder.path())).unwrap();
    eventually("the failure in the log", async || log().contains("an upload failed").then_some(())).await;
    process.kill();
    server.start_again();
    let before = in_bucket(&server, folder.path(), &reference.uri).await.unwrap();
    assert_eq!(before.status(reference.index), 0, "the bucket must have the older state");
    let _process = start();
    until_in_bucket(&server, folder.path(), &reference, 1).await;
    assert_eq!(log().matches("an upload failed;").count(), 1, "one line for one outage");
    assert!(!log().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_frozen_in_the_middle_gets_everything_and_holds_up_nothing() {
    const LISTS: usize = 50;
    let mut server = S3Server::start();
    let app = start(&server, "update-interval: 1s, size: 1000, open-lists: 50");
    let references = of_each_list(&app, LISTS).await;
    let mut slowest = Duration::ZERO;
    for round in 0..6_u8 {
        let value = 1 - round % 2;
        for reference in &references {
            assert_eq!(app.update(reference, json!(value)).await.0, StatusCode::NO_CONTENT);
        }
        let begun = Instant::now();
        // The pass has begun to put files in place, and uploads follow at once.
        eventually("the first list", async || {
            let show = |r: &Reference| published(app.folder(), &r.uri).unwrap().status(r.index) == value;
            references.iter().any(show).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 15)).await;
        let frozen = round % 3 == 2;
        if frozen {
            server.freeze(true)
        } else {
            server.kill()
        }
        eventually("all local files", async || {
            let show = |r: &Reference| published(app.folder(), &r.uri).unwrap().status(r.index) == value;
            references.iter().all(show).then_some(())
        })
        .await;
        slowest = slowest.max(begun.elapsed());
        if round == 2 || round == 4 {
            // One more beat of changes while the server is away.
            app.update(&references[0], json!(1 - value)).await;
            eventually("another beat", async || {
                let list = published(app.folder(), &references[0].uri).unwrap();
                (list.status(references[0].index) != value).then_some(())
            })
            .await;
            app.update(&references[0], json!(value)).await;
        }
        if frozen { server.freeze(false) } else { server.start_again() }
    }
    // Far below the timeout of one request: nothing waited for the server.
    assert!(slowest < Duration::from_secs(9), "local publication took {slowest:?}");
    for reference in &references {
        until_in_bucket(&server, app.folder(), reference, 0).await;
        let id = id(&reference.uri);
        eventually("the files as they are", async || {
            let local = std::fs::read(app.folder().join(format!("public/lists/{id}.jwt"))).unwrap();
            let same = server.get(id).await?.bytes == local
                && server.get(&format!("{id}.jwt")).await?.bytes == local;
            same.then_some(())
        })
        .await;
    }
    let metrics = app.client.get(format!("{}/metrics", app.url)).send().await.unwrap().text().await.unwrap();
    let failed =
        metrics.lines().find(|line| line.starts_with("statuslist_sink_failed_total{pool=\"p\"")).unwrap();
    assert!(!failed.ends_with(" 0"), "the server was away: {failed}");
    println!("{LISTS} lists, 6 outages; slowest local publication {slowest:?}; {failed}");
}

#[tokio::test]
async fn an_emptied_or_damaged_bucket_is_rebuilt() {
    let server = S3Server::start();
    let pool = "update-interval: 1s, size: 1000, open-lists: 4";
    let app = start(&server, pool);
    let references = of_each_list(&app, 4).await;
    app.update(&references[0], json!(1)).await;
    until_in_bucket(&server, app.folder(), &references[0], 1).await;
    assert!(server.empty() >= 10);
    // What is published again is uploaded at once: the uploader's cache is not trusted over the bucket.
    app.update(&references[1], json!(1)).await;
    until_in_bucket(&server, app.folder(), &references[1], 1).await;
    assert!(server.get(id(&references[0].uri)).await.is_none());
    server.put(id(&references[2].uri), b"not a token".to_vec()).await;
    // The rest at the next sweep: here that of the start.
    let url = app.url.clone();
    let folder = app.stop();
    let settings = settings(&server.settings(server.port, ""), pool);
    let app = TestApp::start_at(folder, &url, &settings, Clock::System);
    for (n, reference) in references.iter().enumerate() {
        until_in_bucket(&server, app.folder(), reference, u8::from(n < 2)).await;
    }
    eventually("the documents", async || {
        server.get("jwks.json").await?;
        server.get("aggregation/p").await.map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn keys_come_before_the_tokens_that_they_verify() {
    let server = S3Server::start();
    let gate = PutGate::to(server.port);
    let folder = tempfile::tempdir().unwrap();
    replace_key(folder.path(), "signer.pem");
    let key = folder.path().join("signer.pem").display().to_string();
    let pool = format!("update-interval: 1s, signer: {{ pem: {{ key: {key} }} }}");
    let settings = settings(&server.settings(gate.port, ""), &pool);
    let app = TestApp::start_with(folder, &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    until_in_bucket(&server, app.folder(), &reference, 0).await;
    let keys = server.get("jwks.json").await.unwrap();
    let url = app.url.clone();
    let folder = app.stop();

    // The next start finds keys and tokens that the bucket does not have.
    replace_key(folder.path(), "signer.pem");
    let without = format!("status-list-pools: {{ p: {{ api-key: {KEY}, {pool} }} }}");
    let app = TestApp::start_at(folder, &url, &without, Clock::System);
    app.update(&reference, json!(1)).await;
    eventually("the local token", async || {
        let list = published(app.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == 1).then_some(())
    })
    .await;
    let folder = app.stop();
    gate.close("jwks.json");
    let app = TestApp::start_at(folder, &url, &settings, Clock::System);
    eventually("the keys on their way", async || (gate.held() == 1).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.get("jwks.json").await.unwrap().bytes, keys.bytes);
    let list = in_bucket(&server, app.folder(), &reference.uri).await.unwrap();
    assert_eq!(list.status(reference.index), 0, "a token that the bucket's keys do not verify");
    gate.open();
    until_in_bucket(&server, app.folder(), &reference, 1).await;
    assert_ne!(server.get("jwks.json").await.unwrap().bytes, keys.bytes);
}

#[tokio::test]
async fn a_reference_is_handed_out_only_when_the_bucket_answers_for_it() {
    let mut server = S3Server::stopped();
    let sink = server.settings(server.port, "");
    let settings = format!(
        "{{ limits: {{ request-timeout: 1s }}, publish: {{ sinks: [ {sink} ] }},
            status-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1s }} }} }}"
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let path = "/pools/p/new-references?amount=1";
    assert_eq!(app.send(Method::POST, path, None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let tokens = || {
        let entries = std::fs::read_dir(app.folder().join("public/lists")).unwrap();
        let tokens = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension() == Some("jwt".as_ref()));
        tokens.map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let local = tokens();
    assert!(!local.is_empty(), "the local files are in place");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let now = tokens();
    let unchanged = local.iter().all(|token| now.contains(token));
    assert!(unchanged, "the files were signed again although nothing changed");
    server.start_again();
    let reference: Reference = eventually("a reference", async || {
        let (status, body) = app.send(Method::POST, path, None).await;
        (status == StatusCode::OK).then(|| serde_json::from_value(body["references"][0].clone()).unwrap())
    })
    .await;
    let list = in_bucket(&server, app.folder(), &reference.uri)
        .await
        .expect("the bucket has the list of the reference");
    assert_eq!(list.status(reference.index), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_once_uploads_and_fails_when_it_cannot() {
    let mut server = S3Server::start();
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let settings = settings(&server.settings(server.port, ""), "update-interval: 1s");
    let process = Process::start(command(folder.path(), port, &settings), folder.path(), port);
    let client = reqwest::Client::new();
    let reference: Reference = eventually("a reference", async || {
        let request = client.post(format!("{}/api/p/new-reference", process.url)).header("X-Api-Key", KEY);
        serde_json::from_str(&request.send().await.ok()?.text().await.ok()?).ok()
    })
    .await;
    process.kill();
    server.empty();
    let once = || command(folder.path(), port, &settings).args(["publish", "--once"]).output().unwrap();
    let output = once();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(in_bucket(&server, folder.path(), &reference.uri).await.is_some());
    assert!(server.get("aggregation/p").await.is_some());
    server.kill();
    let output = once();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("could not be published or uploaded"), "{said}");
    assert!(said.contains("an upload failed;") && !said.contains(SECRET), "{said}");
}

/// Returns `iat` in the bucket before and after a write that was decided before another publisher wrote a later state.
async fn late_write(more: &str) -> (u64, u64) {
    let server = S3Server::start();
    let gate = PutGate::to(server.port);
    let settings = settings(&server.settings(gate.port, more), "update-interval: 1s, open-lists: 1");
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let references = app.references(2).await;
    let (first, id) = (&references[0], id(&references[0].uri));
    assert_eq!(first.uri, references[1].uri);
    until_in_bucket(&server, app.folder(), first, 0).await;
    let uploaded = async || server.get(&format!("{id}.jwt")).await.map(|_| ());
    eventually("the first upload to end", uploaded).await;

    gate.close(id);
    app.update(first, json!(1)).await;
    eventually("a write on its way", async || (gate.held() == 1).then_some(())).await;
    app.update(&references[1], json!(1)).await;
    let later = eventually("a later state", async || {
        published(app.folder(), &first.uri).ok().filter(|list| list.status(references[1].index) == 1)
    })
    .await;
    // Another publisher was faster.
    let token = std::fs::read(app.folder().join(format!("public/lists/{id}.jwt"))).unwrap();
    server.put(id, token).await;
    gate.let_one_through();
    eventually("the next write, after the answer", async || (gate.held() == 1).then_some(())).await;
    let found = in_bucket(&server, app.folder(), &first.uri).await.unwrap();
    gate.open();
    until_in_bucket(&server, app.folder(), &references[1], 1).await;
    (later.claims["iat"].as_u64().unwrap(), found.claims["iat"].as_u64().unwrap())
}

#[tokio::test]
async fn a_write_that_comes_late_does_not_roll_a_list_back() {
    let (later, found) = late_write("").await;
    assert_eq!(found, later);
}

#[tokio::test]
async fn without_conditional_put_a_write_that_comes_late_rolls_a_list_back() {
    let (later, found) = late_write("conditional-put: false").await;
    assert!(found < later, "the control: {found} and {later}");
}
