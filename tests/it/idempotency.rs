//! `Idempotency-Key`: whatever fails in between, a key has one answer, and no two keys share a reference.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;

use crate::restore::copy_database;
use crate::support::app::{KEY, Reference, TestApp};
use crate::support::authority::{AUDIENCE, Answer, Authority, ISSUER, KeySetServer, claims, now};
use crate::support::eventually;
use crate::support::process::{Process, command, free_port};
use crate::support::redis::RedisServer;

/// Requests references under a key; `None` if no answer came.
async fn ask(client: &Client, url: &str, path: &str, key: &str) -> Option<(StatusCode, Value)> {
    let request = client.post(format!("{url}{path}")).header("X-Api-Key", KEY).header("Idempotency-Key", key);
    let response = request.send().await.ok()?;
    let status = response.status();
    Some((status, serde_json::from_str(&response.text().await.ok()?).ok()?))
}

fn references(body: &Value) -> Vec<Reference> {
    serde_json::from_value(body["references"].clone()).unwrap_or_else(|_| panic!("no references: {body}"))
}

/// Returns the references under a key, from a service that answers.
async fn given(app: &TestApp, amount: usize, key: &str) -> Vec<Reference> {
    let path = format!("/pools/p/new-references?amount={amount}");
    let (status, body) = ask(&app.client, &app.url, &path, key).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    references(&body)
}

async fn ready(app: &TestApp) -> u64 {
    app.send(Method::GET, "/pools/p", None).await.1["references"]["ready"].as_u64().unwrap()
}

/// Waits until nothing more is leased before the buffer of 500 is empty.
async fn settled(app: &TestApp) {
    eventually("all lists to be published and the buffer to be full", async || {
        let lists = app.send(Method::GET, "/pools/p/lists", None).await.1;
        let published = lists["lists"].as_array()?.iter().filter(|list| !list["publishedVersion"].is_null());
        (published.count() == 3 && ready(app).await == 500).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_retry_is_answered_the_same_on_every_path_and_takes_nothing() {
    let pool = "size: 8000, precreation: { check-delay: 1h }, prefetch: { capacity: 500, threshold: 1 }";
    let app = TestApp::start(pool);
    settled(&app).await;
    let first = given(&app, 20, "a").await;
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 20);
    let left = ready(&app).await;
    assert_eq!(given(&app, 20, "a").await, first);
    assert_eq!(ready(&app).await, left, "a retry took references from the buffer");
    assert_ne!(given(&app, 20, "b").await, first, "the control: another key");
    assert_eq!(ready(&app).await, left - 20);

    let older = ask(&app.client, &app.url, "/api/p/new-references/20", "a").await.unwrap();
    assert_eq!(references(&older.1), first, "the older path is the same request");
    let one = ask(&app.client, &app.url, "/api/p/new-reference", "one").await.unwrap();
    assert_eq!(one.0, StatusCode::OK);
    assert_eq!(ask(&app.client, &app.url, "/api/p/new-reference", "one").await.unwrap(), one);
    let claims = "/pools/p/new-references?amount=3&claims=true";
    let with_claims = ask(&app.client, &app.url, claims, "claims").await.unwrap();
    assert!(with_claims.1["references"][0]["status"].is_object(), "{with_claims:?}");
    assert_eq!(ask(&app.client, &app.url, claims, "claims").await.unwrap(), with_claims);
}

#[tokio::test]
async fn a_key_of_another_request_or_of_no_form_is_refused() {
    let app = TestApp::start("size: 8000");
    given(&app, 2, "a").await;
    for path in ["/pools/p/new-references?amount=3", "/pools/p/new-references?amount=2&claims=true"] {
        let (status, problem) = ask(&app.client, &app.url, path, "a").await.unwrap();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem["code"], "IDEMPOTENCY_KEY_REUSED", "{problem}");
    }
    let longest = "x".repeat(255);
    given(&app, 1, &longest).await;
    for key in ["", "two words", &"x".repeat(256), "é"] {
        for path in ["/pools/p/new-references", "/api/p/new-reference", "/api/p/new-references/1"] {
            let (status, problem) = ask(&app.client, &app.url, path, key).await.unwrap();
            assert_eq!((status, problem["code"].as_str()), (StatusCode::BAD_REQUEST, Some("BAD_REQUEST")));
            assert!(problem["message"].as_str().unwrap().contains("1 to 255 visible ASCII"), "{problem}");
        }
    }
}

/// Issuers of one pool that choose the same key, such as an order number, must not put one reference into two credentials.
#[tokio::test]
async fn callers_with_one_key_get_references_of_their_own() {
    let settings = format!("status-list-pools: {{ p: {{ api-keys: [{KEY}, another], size: 8000 }} }}");
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let first = given(&app, 3, "order-1").await;
    let theirs = app.client.post(format!("{}/pools/p/new-references?amount=3", app.url));
    let theirs =
        theirs.header("X-Api-Key", "another").header("Idempotency-Key", "order-1").send().await.unwrap();
    let theirs = references(&serde_json::from_str(&theirs.text().await.unwrap()).unwrap());
    assert!(theirs.len() == 3 && theirs.iter().all(|reference| !first.contains(reference)), "{theirs:?}");
    assert_eq!(given(&app, 3, "order-1").await, first);
}

/// Callers are distinguished by their credentials, not by their names in logs: several callers may have the same name.
#[tokio::test]
async fn callers_whose_names_look_alike_get_references_of_their_own() {
    let authority = Authority::new("k1");
    let server = KeySetServer::start(Answer::Keys(vec![authority.jwk()]));
    let settings = format!(
        "oauth: {{ issuer: '{ISSUER}', audience: '{AUDIENCE}', jwks-url: '{}', algorithms: [ES256] }}\n\
         status-list-pools:\n  p: {{ api-key: {KEY}, size: 20000 }}\n  q: {{ api-key: {KEY}, size: 20000 }}",
        server.url
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let token = |subject: Option<&str>, client: Option<&str>, exp: u64| {
        let mut claims = claims("p:allocate q:allocate");
        (claims["exp"], claims["sub"], claims["client_id"]) = (json!(exp), json!(subject), json!(client));
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        authority.signed(&authority.header(), &claims)
    };
    let given = async |pool: &str, token: &str| {
        let request = app.client.post(format!("{}/pools/{pool}/new-references?amount=3", app.url));
        let request = request.bearer_auth(token).header("Idempotency-Key", "order-1");
        let response = request.send().await.unwrap();
        let (status, body) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{body}");
        references(&serde_json::from_str(&body).unwrap())
    };
    let long = |end: &str| format!("{}{end}", "x".repeat(64));
    let callers = [
        (Some("s"), Some(long("a"))),
        (Some("s"), Some(long("b"))),
        (Some("s"), Some("odd\u{1}".to_owned())),
        (Some("s"), Some("odd\u{2}".to_owned())),
        (Some("s"), Some("odd?".to_owned())),
        // Neither a subject nor a client can imitate the other.
        (Some("s"), None),
        (None, Some("s".to_owned())),
        (Some("other"), Some("s".to_owned())),
        (Some("other"), None),
        (Some(""), Some("otherother".to_owned())),
        (Some("other"), Some("other".to_owned())),
        (Some("otherother"), Some(String::new())),
    ];
    let mut told: HashMap<Reference, String> = HashMap::new();
    for (subject, client) in &callers {
        let (now, client) = (now(), client.as_deref());
        let first = given("p", &token(*subject, client, now + 600)).await;
        let who = format!("{subject:?} of {client:?}");
        assert_eq!(
            given("p", &token(*subject, client, now + 700)).await,
            first,
            "the control: {who} with a fresh token"
        );
        for reference in first.into_iter().chain(given("q", &token(*subject, client, now + 600)).await) {
            if let Some(other) = told.insert(reference, who.clone()) {
                panic!("{who} was given a reference of {other}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day_and_not_before() {
    let clock = Clock::set_to(Clock::System.now());
    let app = TestApp::start_in(tempfile::tempdir().unwrap(), "size: 8000", clock.clone());
    let first = given(&app, 5, "a").await;
    clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(given(&app, 5, "a").await, first);
    clock.advance(Duration::from_secs(2));
    let later = given(&app, 5, "a").await;
    assert!(later.iter().all(|reference| !first.contains(reference)), "a reference was repeated");
    assert_eq!(given(&app, 5, "a").await, later);
}

#[tokio::test]
async fn a_pool_without_room_for_answers_is_told_so_and_loses_no_references() {
    let settings = format!(
        "limits: {{ idempotency-bytes: 1000 }}\nstatus-list-pools:\n  \
         p: {{ api-key: {KEY}, size: 8000, precreation: {{ check-delay: 1h }}, prefetch: {{ capacity: 500, threshold: 1 }} }}\n  \
         q: {{ api-key: {KEY}, size: 8000 }}"
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    settled(&app).await;
    let first = given(&app, 1, "a").await;
    given(&app, 1, "b").await;
    let left = ready(&app).await;
    for key in ["c", "d", "c"] {
        let url = format!("{}/pools/p/new-references?amount=20", app.url);
        let request = app.client.post(url).header("X-Api-Key", KEY).header("Idempotency-Key", key);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let retry_after: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        // A day, and up to an hour more.
        assert!((1..=25 * 3600 + 1).contains(&retry_after), "{retry_after}");
        let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(problem["code"], "IDEMPOTENCY_BUDGET_REACHED", "{problem}");
        assert!(problem["message"].as_str().unwrap().contains("limits.idempotency-bytes"), "{problem}");
    }
    assert_eq!(ready(&app).await, left, "references of refused requests are lost");
    assert_eq!(given(&app, 1, "a").await, first, "a retry needs no room");
    app.references(20).await;
    let other = ask(&app.client, &app.url, "/pools/q/new-references", "c").await.unwrap();
    assert_eq!(other.0, StatusCode::OK, "another pool has room of its own");
}

/// Answers once took 8 bytes for each reference: a hundred requests for the most references filled a small Redis, and then no pool
/// could be updated.
#[tokio::test]
async fn answers_of_one_pool_leave_a_redis_with_little_memory_to_the_others() {
    let server = RedisServer::start_with(&[("maxmemory", "4mb"), ("maxmemory-policy", "noeviction")]);
    let settings = format!(
        "{{ storage-type: redis, redis: {{ {} }}, status-list-pools: {{ p: {{ api-key: {KEY}, size: 1000000, open-lists: 1, prefetch: {{ capacity: 10000 }} }}, q: {{ api-key: {KEY}, size: 800 }} }} }}",
        server.settings()
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let (status, body) = app.send(Method::POST, "/pools/q/new-references", None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let theirs = references(&body).remove(0);
    for key in 0..100 {
        given(&app, 5000, &format!("key-{key}")).await;
    }
    assert_eq!(app.update(&theirs, json!(1)).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_get_the_same_references() {
    let app = TestApp::start("size: 8000, prefetch: { capacity: 2000 }");
    let mut told: HashSet<Reference> = HashSet::new();
    for key in 0..10 {
        let requests = (0..20).map(|_| {
            let (client, url) = (app.client.clone(), app.url.clone());
            tokio::spawn(async move {
                let path = "/pools/p/new-references?amount=7";
                ask(&client, &url, path, &format!("key-{key}")).await.unwrap()
            })
        });
        let mut answers = Vec::new();
        for request in requests.collect::<Vec<_>>() {
            let (status, body) = request.await.unwrap();
            assert_eq!(status, StatusCode::OK, "{body}");
            answers.push(references(&body));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "one key had several answers");
        // What the slower requests took was returned to be handed out to others.
        for reference in answers.swap_remove(0).into_iter().chain(app.references(50).await) {
            assert!(told.insert(reference), "a reference was handed out twice");
        }
    }
    let used = app.send(Method::GET, "/pools/p", None).await.1["references"]["used"].as_u64().unwrap();
    assert!(used < 570 + 2 * 2000 + 1000, "{used} were leased: references of slower requests were lost");
}

/// Kills the service repeatedly under requests that are retried with their keys until they are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_one_answer_whatever_is_killed() {
    const SETTINGS: &str = "
status-list-pools:
  p: { api-key: the key of this test, size: 20000, update-interval: 1s, prefetch: { capacity: 500 } }";
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut process = Some(Process::start(command(folder.path(), port, SETTINGS), folder.path(), port));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answered = std::sync::Arc::new(AtomicUsize::new(0));
    let clients = (0..4).map(|client| {
        let (url, stop, answered) =
            (url.clone(), std::sync::Arc::clone(&stop), std::sync::Arc::clone(&answered));
        tokio::spawn(async move {
            let http = Client::builder().timeout(Duration::from_secs(15)).build().unwrap();
            let (mut answers, mut retried) = (HashMap::new(), 0);
            for request in 0.. {
                if stop.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
                let key = format!("{client}-{request}");
                let answer = loop {
                    match ask(&http, &url, "/pools/p/new-references?amount=5", &key).await {
                        Some((StatusCode::OK, body)) => break references(&body),
                        _ => retried += 1,
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                };
                answers.insert(key, answer);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            (answers, retried)
        })
    });
    let clients: Vec<_> = clients.collect();
    for kill in 0..15 {
        // A busy machine takes longer for as much.
        let before = answered.load(Ordering::SeqCst);
        eventually("answers since the last kill", async || {
            (answered.load(Ordering::SeqCst) > before + 6).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(kill * 37 % 300)).await;
        process.take().unwrap().kill();
        let path = folder.path().to_owned();
        let again = move || Process::start(command(&path, port, SETTINGS), &path, port);
        process = Some(tokio::task::spawn_blocking(again).await.unwrap());
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let (mut all, mut retried) = (HashMap::new(), 0);
    for client in clients {
        let (answers, again) = client.await.unwrap();
        all.extend(answers);
        retried += again;
    }
    assert!(all.len() > 100 && retried > 0, "{} answers, {retried} retries", all.len());
    let distinct: HashSet<_> = all.values().flatten().collect();
    assert_eq!(distinct.len(), 5 * all.len(), "a reference was handed out under two keys");
    let http = Client::new();
    for (key, answer) in &all {
        let again = ask(&http, &url, "/pools/p/new-references?amount=5", key).await.unwrap();
        assert_eq!(&references(&again.1), answer, "after all those kills, {key} has another answer");
    }
    println!("{} keys, {retried} requests without an answer", all.len());
}

#[tokio::test]
async fn a_restored_store_that_forgot_a_key_gives_new_references_and_repeats_none() {
    let settings = format!(
        "status-list-pools: {{ p: {{ api-key: {KEY}, size: 8000, update-interval: 1s, prefetch: {{ capacity: 200 }} }} }}"
    );
    let start = |folder| TestApp::start_at(folder, "http://status.example", &settings, Clock::System);
    let app = start(tempfile::tempdir().unwrap());
    let mut told: HashSet<Reference> = app.references(100).await.into_iter().collect();
    let known = given(&app, 10, "before-the-backup").await;
    told.extend(known.iter().cloned());
    let folder = app.stop();
    let copy = tempfile::tempdir().unwrap();
    copy_database(folder.path(), copy.path());

    let app = start(folder);
    told.extend(app.references(300).await);
    told.extend(given(&app, 10, "after-the-backup").await);
    let folder = app.stop();
    copy_database(copy.path(), folder.path());

    let app = start(folder);
    assert_eq!(given(&app, 10, "before-the-backup").await, known, "the recorded answer was lost");
    let anew = given(&app, 10, "after-the-backup").await;
    assert!(anew.iter().all(|reference| !told.contains(reference)), "a reference was repeated");
    assert_eq!(given(&app, 10, "after-the-backup").await, anew);
}

#[tokio::test]
async fn references_of_an_unknown_outcome_are_kept_for_the_retry() {
    let server = RedisServer::start_with(&[("min-replicas-to-write", "1")]);
    let replica = RedisServer::replica_of(server.port, &[]);
    let redis = format!("replicas: 1, timeouts: {{ replicas: 1s }}, {}", server.settings());
    let settings = format!(
        "{{ storage-type: redis, redis: {{ {redis} }}, status-list-pools: {{ p: {{ api-key: {KEY}, size: 8000, update-interval: 1s, prefetch: {{ capacity: 500 }} }} }} }}"
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let mut told: HashSet<Reference> = app.references(1).await.into_iter().collect();
    replica.freeze(true);
    let path = "/pools/p/new-references?amount=10";
    let (status, problem) = ask(&app.client, &app.url, path, "a").await.unwrap();
    assert_eq!((status, problem["code"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("UNAVAILABLE")));
    replica.freeze(false);
    // Everything in memory, and more: had the ten been returned, they would be among them.
    for _ in 0..6 {
        told.extend(app.references(100).await);
    }
    let answer = eventually("the store to answer again", async || {
        let (status, body) = ask(&app.client, &app.url, path, "a").await?;
        (status == StatusCode::OK).then(|| references(&body))
    })
    .await;
    assert!(answer.iter().all(|reference| !told.contains(reference)), "somebody else received them");
    assert_eq!(given(&app, 10, "a").await, answer);
}
