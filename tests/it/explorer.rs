//! The explorer page in a real browser, over lists that the real service published. `tests/browser/` drives it and says what
//! must be visible; screenshots go to `target/explorer/`. `scripts/install-test-tools` installs the browser.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::process::{PROGRAM, free_port};
use crate::support::relying_party::published;

/// Runs `tests/browser/run`, which finds Node wherever scripts/install-test-tools has put it.
pub(crate) fn run(name: &str, scene: &Value) -> Output {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/run"))
        .arg(name)
        .env("SCENE", scene.to_string())
        .output()
        .unwrap()
}

/// Plays one scene of `tests/browser/explorer.mjs`.
pub(crate) async fn play(name: &'static str, scene: Value) {
    let output = tokio::task::spawn_blocking(move || run(name, &scene)).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n(exit code 3: run scripts/install-test-tools first)");
}

/// Sets statuses and waits until they are published; all references are of one list.
async fn set(app: &TestApp, statuses: &[(&Reference, u8)]) {
    for (reference, value) in statuses {
        assert_eq!(app.update(reference, json!(value)).await.0, StatusCode::NO_CONTENT);
    }
    eventually("the updates to be published", async || {
        let list = published(app.folder(), &statuses[0].0.uri).ok()?;
        statuses.iter().all(|(reference, value)| list.status(reference.index) == *value).then_some(())
    })
    .await;
}

/// A service with one list, and the scene of it: one entry is revoked, one suspended.
async fn one_list() -> (TestApp, Value) {
    let app = TestApp::start(
        "update-interval: 1s, list-lifetime: 1h, ttl: 10m, bits: 2, size: 4096, open-lists: 1, formats: [jwt, cwt]",
    );
    let references = app.references(5).await;
    let [valid, revoked, suspended, later, _] = references.as_slice() else { panic!("{references:?}") };
    set(&app, &[(revoked, 1), (suspended, 2)]).await;
    let scene = json!({
        "page": format!("{}/", app.url), "pool": "p", "size": 4096, "bits": 2, "apiKey": KEY,
        "uri": valid.uri, "valid": valid.index, "revoked": revoked.index, "suspended": suspended.index, "later": later.index,
    });
    (app, scene)
}

#[tokio::test]
async fn statuses_are_shown_as_a_verifier_sees_them() {
    let (_app, scene) = one_list().await;
    play("statuses", scene).await;
}

#[tokio::test]
async fn credentials_are_taken_by_paste_file_drop_and_image() {
    let (_app, scene) = one_list().await;
    play("handover", scene).await;
}

#[tokio::test]
async fn no_verdict_stands_beside_another_question() {
    let (_app, scene) = one_list().await;
    play("questions", scene).await;
}

#[tokio::test]
async fn each_failure_to_fetch_a_list_has_its_own_words() {
    let (_app, scene) = one_list().await;
    play("failures", scene).await;
}

#[tokio::test]
async fn the_page_is_for_everyone() {
    let (_app, scene) = one_list().await;
    play("everyone", scene).await;
}

#[test]
fn the_pages_modules_read_credentials_and_indices_as_people_have_them() {
    let output = run("read", &Value::Null);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The scene `everyone` makes this picture anew, in `target/explorer/`.
#[test]
fn the_readme_shows_a_picture_of_the_page() {
    const BYTES_MAX: usize = 200_000;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (alternative, _) = readme.split_once("](docs/page.png)").unwrap();
    let alternative = alternative.rsplit_once("![").unwrap().1;
    assert!(alternative.len() > 40, "the text for those who cannot see it: {alternative:?}");
    let picture = std::fs::read(root.join("docs/page.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    assert!(picture.len() < BYTES_MAX, "{} bytes", picture.len());
}

#[tokio::test]
async fn a_list_of_a_million_entries_is_shown_whole() {
    let app =
        TestApp::start("update-interval: 1s, list-lifetime: 24h, ttl: 10m, size: 1048576, open-lists: 1");
    let references = app.references(1000).await;
    let body = json!({
        "statusListReferences": references.iter().map(|r| json!({ "uri": r.uri, "index": r.index })).collect::<Vec<_>>(),
        "value": 1,
    });
    assert_eq!(
        app.send(Method::PATCH, "/status-lists/batch-update", Some(body)).await.0,
        StatusCode::NO_CONTENT
    );
    let last = references.last().unwrap();
    eventually("the revocations to be published", async || {
        published(app.folder(), &last.uri).ok().filter(|list| list.status(last.index) == 1)
    })
    .await;
    let indices: Vec<_> = references.iter().map(|reference| reference.index).collect();
    let scene =
        json!({ "page": format!("{}/", app.url), "uri": last.uri, "size": 1 << 20, "revoked": indices });
    play("million", scene).await;
}

/// A service whose lists a static host on `port` will serve, with the URIs of that host. `clock` is the service's time.
fn published_for(port: u16, clock: Clock) -> TestApp {
    let folder = tempfile::tempdir().unwrap();
    let mut pools = String::new();
    for (pool, algorithm, formats) in
        [("p", "es256", "jwt"), ("es384", "es384", "jwt"), ("cwt", "es256", "cwt"), ("eddsa", "eddsa", "cwt")]
    {
        let key = folder.path().join(format!("{pool}.pem"));
        let made = Command::new(PROGRAM).args(["generate-key", "--algorithm", algorithm]).arg(&key).output();
        assert!(made.unwrap().status.success());
        let signer = format!("signer: {{ pem: {{ key: {} }} }}", key.display());
        pools += &format!(
            "{pool}: {{ api-key: {KEY}, formats: [{formats}], size: 800, bits: 2, open-lists: 1, update-interval: 1s, \
             list-lifetime: 1h, {signer} }}, "
        );
    }
    TestApp::start_at(
        folder,
        &format!("http://127.0.0.1:{port}"),
        &format!("status-list-pools: {{ {pools} }}"),
        clock,
    )
}

/// One reference of each pool.
async fn one_of_each(app: &TestApp) -> BTreeMap<&'static str, Reference> {
    let mut references = BTreeMap::new();
    for pool in ["p", "es384", "cwt", "eddsa"] {
        let path = format!("/pools/{pool}/new-references?amount=1");
        let (status, body) = app.send(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        references.insert(pool, serde_json::from_value(body["references"][0].clone()).unwrap());
    }
    references
}

#[tokio::test]
async fn faults_of_a_token_are_shown_and_its_statuses_are_not() {
    let ports = [free_port(), free_port()];
    let app = published_for(ports[0], Clock::System);
    let references = one_of_each(&app).await;
    let json: BTreeMap<_, _> =
        references.iter().map(|(pool, r)| (pool, json!({ "uri": r.uri, "idx": r.index }))).collect();
    // Published by a service two days in the past.
    let then = Clock::System.now().date().minus(std::time::Duration::from_secs(2 * 86400)).into();
    let past = published_for(ports[1], Clock::set_to(then));
    let expired = one_of_each(&past).await.remove("p").unwrap();
    let scene = json!({
        "host": { "port": ports[0], "lists": app.folder().join("public/lists") },
        "references": json,
        "past": { "port": ports[1], "lists": past.folder().join("public/lists"), "uri": expired.uri, "idx": expired.index },
    });
    play("untrustworthy", scene).await;
}

#[test]
fn the_pages_modules_answer_every_case_of_the_shared_table() {
    let output = run("cases", &Value::Null);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_page_is_served_beside_the_api_and_the_lists() {
    let app = TestApp::start("update-interval: 1s");
    let get = async |path: &str| app.client.get(format!("{}{path}", app.url)).send().await.unwrap();
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/explorer.json", "application/json"),
        ("/assets/main.js", "text/javascript; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
        ("/assets/vendor/jsqr-1.4.0.js", "text/javascript; charset=utf-8"),
        ("/assets/vendor/jsqr-1.4.0.LICENSE.txt", "text/plain; charset=utf-8"),
    ] {
        let response = get(path).await;
        let headers = response.headers().clone();
        assert_eq!(
            (response.status(), &headers[header::CONTENT_TYPE]),
            (StatusCode::OK, &media_type.parse().unwrap()),
            "{path}"
        );
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache", "{path}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        let head = app.client.head(format!("{}{path}", app.url)).send().await.unwrap();
        assert_eq!(head.headers()[header::CONTENT_LENGTH], headers[header::CONTENT_LENGTH], "{path}");
        let post = app.client.post(format!("{}{path}", app.url)).send().await.unwrap();
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    // This service has no pool `demo`, so the page suggests none; nor does it reveal the name of the existing pool.
    let settings: Value = serde_json::from_str(&get("/explorer.json").await.text().await.unwrap()).unwrap();
    assert_eq!(settings, json!({ "lists": "/lists/", "pools": [] }));
    // The earlier routes are unchanged.
    for (path, status) in
        [("/health/live", 200), ("/version", 200), ("/pools/p", 401), ("/lists/jwks.json", 200)]
    {
        assert_eq!(get(path).await.status(), status, "{path}");
    }
    for path in ["/assets/", "/assets/none.js", "/assets/../index.html", "/index.html", "/lists/"] {
        assert_eq!(get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
