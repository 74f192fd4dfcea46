//! Old tokens and old lists: the history of a pool that has one ("Historical Resolution"), and retirement.

use std::process::Command;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::{Clock, Timestamp};
use tempfile::TempDir;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::process::PROGRAM;
use crate::support::redis::RedisServer;
use crate::support::relying_party::{List, jwks};

/// The current time, so that tokens have not expired for code that uses the system's clock.
fn now() -> Timestamp {
    Clock::System.now()
}

/// Starts with the same public address each time, whatever port is bound.
fn start(folder: TempDir, pool: &str, clock: &Clock) -> TestApp {
    let settings = format!("status-list-pools: {{ p: {{ api-key: {KEY}, {pool} }} }}");
    TestApp::start_at(folder, "http://status.example", &settings, clock.clone())
}

/// Requests a `uri` from the built-in server.
async fn ask(app: &TestApp, uri: &str, query: &str, accept: &str) -> (StatusCode, Vec<u8>, String) {
    let path = uri.strip_prefix("http://status.example").unwrap();
    let answer =
        app.client.get(format!("{}{path}{query}", app.url)).header("Accept", accept).send().await.unwrap();
    let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (answer.status(), answer.bytes().await.unwrap().to_vec(), media_type)
}

async fn token_at(app: &TestApp, reference: &Reference, time: u64) -> List {
    let (status, body, _) = ask(app, &reference.uri, &format!("?time={time}"), "*/*").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    List::verify(std::str::from_utf8(&body).unwrap(), &reference.uri, &jwks(app.folder())).unwrap()
}

async fn until_published(app: &TestApp, clock: &Clock, reference: &Reference) -> u64 {
    eventually("the update to be published", async || {
        clock.advance(Duration::from_millis(200));
        (app.stored(reference).await["published"] == true).then_some(())
    })
    .await;
    let (status, body, _) = ask(app, &reference.uri, "", "*/*").await;
    assert_eq!(status, StatusCode::OK);
    List::verify(std::str::from_utf8(&body).unwrap(), &reference.uri, &jwks(app.folder())).unwrap().iat
}

#[tokio::test]
async fn a_pool_with_history_answers_with_the_original_token_of_that_time() {
    let clock = Clock::set_to(now());
    let pool = "update-interval: 1s, list-lifetime: 1h, formats: [jwt, cwt], open-lists: 1, history: { retention: 1m }";
    let app = start(tempfile::tempdir().unwrap(), pool, &clock);
    let reference = app.references(1).await.remove(0);
    clock.advance(Duration::from_secs(5));
    let mut times = Vec::new();
    for value in [1, 0, 1] {
        assert_eq!(app.update(&reference, json!(value)).await.0, StatusCode::NO_CONTENT);
        let iat = until_published(&app, &clock, &reference).await;
        times.push((iat, value));
        clock.advance(Duration::from_secs(10));
    }
    for (n, &(iat, value)) in times.iter().enumerate() {
        let until = times.get(n + 1).map_or(iat + 5, |next| next.0 - 1);
        for time in [iat, until] {
            let token = token_at(&app, &reference, time).await;
            assert_eq!((token.iat, token.status(reference.index)), (iat, value), "at {time}");
        }
    }
    let (first, _) = times[0];
    let (status, original, media_type) =
        ask(&app, &reference.uri, &format!("?time={first}"), "application/statuslist+cwt").await;
    assert_eq!((status, media_type.as_str()), (StatusCode::OK, "application/statuslist+cwt"));
    assert_eq!(List::verify_cwt(&original, &reference.uri, &jwks(app.folder())).unwrap().iat, first);

    let code = async |query: &str| {
        let (status, body, media_type) = ask(&app, &reference.uri, query, "*/*").await;
        assert_eq!(media_type, "application/problem+json");
        (status.as_u16(), serde_json::from_slice::<Value>(&body).unwrap()["code"].clone())
    };
    assert_eq!(code("?time=1000").await, (404, json!("NO_SUCH_TIME")), "before the first publication");
    let future = clock.now().date().secs() + 100;
    assert_eq!(code(&format!("?time={future}")).await, (404, json!("NO_SUCH_TIME")));
    for bad in
        ["?time=abc", "?time=1.5", "?time=", "?time=1&time=2", "?time=-1", "?time=99999999999999999999999"]
    {
        assert_eq!(code(bad).await, (400, json!("BAD_REQUEST")), "{bad}");
    }

    // After the retention only what was current since then is left.
    clock.advance(Duration::from_secs(120));
    let folder = app.stop();
    let app = start(folder, pool, &clock);
    eventually("old tokens to be removed", async || {
        (ask(&app, &reference.uri, &format!("?time={first}"), "*/*").await.0 == StatusCode::NOT_FOUND)
            .then_some(())
    })
    .await;
    let (status, latest, _) = ask(&app, &reference.uri, &format!("?time={}", times[2].0), "*/*").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&latest));
}

#[tokio::test]
async fn a_pool_without_history_keeps_no_old_tokens_and_forgets_those_it_had() {
    let pool = "update-interval: 1s, open-lists: 1";
    let with_history = format!("{pool}, history: {{ retention: 1d }}");
    let app = start(tempfile::tempdir().unwrap(), &with_history, &Clock::System);
    let reference = app.references(1).await.remove(0);
    let history = app.folder().join("public/history");
    assert!(history.join(reference.uri.rsplit('/').next().unwrap()).exists());
    let folder = app.stop();
    let app = start(folder, pool, &Clock::System);
    app.references(1).await;
    eventually("the history to be removed", async || {
        let left = std::fs::read_dir(&history).map_or(0, Iterator::count);
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(ask(&app, &reference.uri, "?time=1", "*/*").await.0, StatusCode::NOT_IMPLEMENTED);
}

async fn retire(app: &TestApp, list: &str, query: &str) -> (u16, Value) {
    let (status, body) = app.send(Method::DELETE, &format!("/pools/p/lists/{list}{query}"), None).await;
    (status.as_u16(), body["code"].clone())
}

#[tokio::test]
async fn a_list_is_retired_when_no_reference_of_it_can_be_valid_and_then_gone() {
    let clock = Clock::set_to(now());
    let pool = "size: 96, update-interval: 1s, list-lifetime: 2d, ttl: 1h, open-lists: 1, prefetch: { capacity: 96 }, \
                precreation: { lists: 1, check-delay: 100ms }, reference-lifetime: 1h";
    let app = start(tempfile::tempdir().unwrap(), pool, &clock);
    let full = app.references(96).await;
    let (uri, list) = (full[0].uri.clone(), full[0].uri.rsplit('/').next().unwrap().to_owned());
    // The next references are of the next list, so this list hands out none any more.
    let other = app.references(1).await.remove(0);
    assert_ne!(other.uri, uri);

    assert_eq!(retire(&app, &list, "").await, (409, json!("LIST_IN_USE")));
    assert_eq!(retire(&app, other.uri.rsplit('/').next().unwrap(), "").await, (409, json!("LIST_IN_USE")));
    assert_eq!(retire(&app, "00000000-0000-4000-8000-000000000000", "").await, (404, json!("NO_SUCH_LIST")));
    clock.advance(Duration::from_secs(3601));
    assert_eq!(retire(&app, &list, "").await.0, 204);
    assert_eq!(retire(&app, &list, "").await.0, 204, "a repetition changes nothing");

    eventually("410", async || {
        let (status, body, _) = ask(&app, &uri, "", "*/*").await;
        (status == StatusCode::GONE).then(|| assert!(String::from_utf8_lossy(&body).contains("retired")))
    })
    .await;
    let (_, body, _) = ask(&app, "http://status.example/lists/aggregation/p", "", "*/*").await;
    let lists: Value = serde_json::from_slice(&body).unwrap();
    let lists = lists["status_lists"].as_array().unwrap();
    assert!(!lists.contains(&json!(uri)) && lists.contains(&json!(other.uri)), "{lists:?}");
    let (status, body) = app.update(&full[0], json!(1)).await;
    assert_eq!((status, &body["code"]), (StatusCode::GONE, &json!("LIST_RETIRED")));
    assert_eq!(app.update(&other, json!(1)).await.0, StatusCode::NO_CONTENT);

    // It stays retired after a restart, and the mark is restored with the site.
    let folder = app.stop();
    std::fs::remove_dir_all(folder.path().join("public/lists")).unwrap();
    let app = start(folder, pool, &clock);
    eventually("410 after the site was rebuilt", async || {
        clock.advance(Duration::from_millis(200));
        let gone = ask(&app, &uri, "", "*/*").await.0 == StatusCode::GONE;
        gone.then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_command_retires_a_list_by_force() {
    let app = start(tempfile::tempdir().unwrap(), "size: 800, update-interval: 1s", &Clock::System);
    let reference = app.references(1).await.remove(0);
    let run = |arguments: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(["retire", &reference.uri, "--pool", "p"])
            .args(arguments)
            .envs([("STATUSLIST_URL", app.url.as_str()), ("STATUSLIST_API_KEY", KEY)])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.success(), text)
    };
    let (done, text) = run(&[]);
    assert!(
        !done && text.contains("references of it are still handed out") && text.contains("force"),
        "{text}"
    );
    let (done, text) = run(&["--force"]);
    assert!(done && text.contains("410"), "{text}");
    eventually("410", async || {
        (ask(&app, &reference.uri, "", "*/*").await.0 == StatusCode::GONE).then_some(())
    })
    .await;
    // None of its references is handed out any more.
    eventually("references of other lists only", async || {
        app.references(50).await.iter().all(|other| other.uri != reference.uri).then_some(())
    })
    .await;
}

/// Delays a publication between its snapshot and its settling, and retires the list in the meantime.
async fn retired_during_its_own_publication(store: &str) {
    let pool = "size: 800, update-interval: 1s, open-lists: 1, precreation: { lists: 0 }";
    let settings = format!("{{ {store}, status-list-pools: {{ p: {{ api-key: {KEY}, {pool} }} }} }}");
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::start_at(folder, "http://status.example", &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    let list = reference.uri.rsplit('/').next().unwrap().to_owned();
    let names = || -> Vec<std::path::PathBuf> {
        let entries = walkdir::WalkDir::new(app.folder().join("public")).into_iter().filter_map(Result::ok);
        entries.map(|entry| entry.into_path()).collect()
    };
    let named =
        |name: &str| names().into_iter().find(|path| path.file_name().is_some_and(|file| file == name));
    let lock = std::fs::File::open(named(".pool-p.lock").unwrap()).unwrap();
    lock.lock().unwrap();
    assert_eq!(app.update(&reference, json!(1)).await.0, StatusCode::NO_CONTENT);
    eventually("the new files to wait for the lock", async || {
        names().iter().any(|path| path.display().to_string().contains("/.tmp-")).then_some(())
    })
    .await;
    assert_eq!(retire(&app, &list, "?force=true").await.0, 204);
    drop(lock);
    eventually("410", async || {
        (ask(&app, &reference.uri, "", "*/*").await.0 == StatusCode::GONE).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_list_that_is_retired_during_its_own_publication_is_gone() {
    let server = RedisServer::start();
    let redis = format!("storage-type: redis, redis: {{ {} }}", server.settings());
    tokio::join!(
        retired_during_its_own_publication("storage-type: sqlite"),
        retired_during_its_own_publication(&redis)
    );
}
