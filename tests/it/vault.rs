//! Signing with keys in the transit engine of a real OpenBao. `scripts/vault` runs these tests: OpenBao is too large to be built by
//! `scripts/test`, which tests the requests and answers alone (`src/sign/key_service/`).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;
use tempfile::TempDir;

use super::interop::{about, run, updated};
use super::key_service::{KEY, ran, settings, start, status, status_of, until_counted, until_published};
use super::reload::{Live, write};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::process::{self, free_port, log_path, pause, test_tool};

const ROOT: &str = "the-root-token";

/// A running OpenBao with a transit engine in a path of two segments; killed when dropped.
struct Bao {
    server: Child,
    port: u16,
    folder: TempDir,
    client: Client,
}

impl Bao {
    async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(test_tool("bin/bao"));
        command.args(["server", "-dev", "-dev-no-store-token"]).env("HOME", folder.path());
        command.arg(format!("-dev-root-token-id={ROOT}"));
        command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        let server = command.stdout(log).stderr(Stdio::null()).spawn().unwrap();
        let bao = Self { server, port, folder, client: Client::new() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while bao.send(Method::GET, "sys/health", Value::Null).await.is_none_or(|(status, _)| status != 200) {
            assert!(Instant::now() < deadline, "OpenBao does not answer:\n{}", bao.log());
            pause(Duration::from_millis(50));
        }
        bao.done("sys/mounts/keys/status", json!({ "type": "transit" })).await;
        let rules = r#"path "keys/status/keys/*" { capabilities = ["read"] } path "keys/status/sign/*" { capabilities = ["update"] }"#;
        bao.done("sys/policies/acl/sign", json!({ "policy": rules })).await;
        bao
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Option<(u16, Value)> {
        let request = self.client.request(method, format!("http://127.0.0.1:{}/v1/{path}", self.port));
        let answer = request.header("X-Vault-Token", ROOT).body(body.to_string()).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, serde_json::from_str(&answer.text().await.ok()?).unwrap_or_default()))
    }

    /// Sends this, which must succeed. Returns the answer.
    async fn done(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::POST, path, body).await.unwrap();
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    async fn make(&self, key: &str, kind: &str) {
        self.done(&format!("keys/status/keys/{key}"), json!({ "type": kind })).await;
    }

    /// Writes a token that may describe keys and sign, and nothing else.
    async fn token(&self, file: &Path) -> String {
        let answer = self.done("auth/token/create", json!({ "policies": ["sign"] })).await;
        let token = answer["auth"]["client_token"].as_str().unwrap().to_owned();
        write(file, &format!("{token}\n"));
        token
    }

    fn signer(&self, key: &str, token_file: &Path, more: &str) -> String {
        let (port, token_file) = (self.port, token_file.display());
        format!(
            "vault: {{ url: 'http://127.0.0.1:{port}', mount: keys/status, key: {key}, token-file: {token_file}, {more} }}"
        )
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A service that signs with the key `signer`, and its token.
async fn signing(bao: &Bao) -> (Live, String) {
    bao.make("signer", "ecdsa-p256").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let token = bao.token(&file).await;
    let signer = bao.signer("signer", &file, "timeout: 500ms");
    (start(folder, &settings(&format!("signer: {{ {signer} }}"))), token)
}

#[tokio::test]
#[ignore = "needs OpenBao: scripts/vault"]
async fn independent_libraries_accept_what_transit_signs() {
    let bao = Bao::start().await;
    for kind in ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519"] {
        bao.make(kind, kind).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        bao.token(&file).await;
        let signer = bao.signer(kind, &file, "");
        let pool =
            format!("update-interval: 1s, list-lifetime: 1h, formats: [jwt, cwt], signer: {{ {signer} }}");
        let app = TestApp::start_in(folder, &pool, Clock::System);
        let about = about(&updated(&app, 1).await, 1);
        run(&app, "cose_verify.py", &about).await;
        // It has no P-521.
        if kind != "ecdsa-p521" {
            run(&app, "openvc_verify.py", &about).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs OpenBao: scripts/vault"]
async fn a_token_that_ends_delays_publications_until_its_file_has_another() {
    let bao = Bao::start().await;
    let (live, token) = signing(&bao).await;
    let reference = live.reference(KEY).await;
    bao.done("auth/token/revoke", json!({ "token": token })).await;
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    until_counted(&live, "statuslist_publish_failed_total{pool=\"p\"}").await;
    assert_eq!(status_of(&live, &reference), 0, "the old token stays");
    assert_eq!(status(&live, "/health/ready").await, StatusCode::OK, "it takes requests");
    let log = std::fs::read_to_string(log_path(live.folder())).unwrap();
    assert!(log.contains("answered 403 Forbidden (") && !log.contains(&token), "{log}");
    bao.token(&live.folder().join("token")).await;
    until_published(&live, &reference, 1).await;
}

#[tokio::test]
#[ignore = "needs OpenBao: scripts/vault"]
async fn while_it_is_sealed_updates_go_on_and_are_published_when_it_is_open() {
    let bao = Bao::start().await;
    let (live, _) = signing(&bao).await;
    let reference = live.reference(KEY).await;
    bao.done("sys/seal", Value::Null).await;
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    until_counted(&live, "statuslist_publish_failed_total{pool=\"p\"}").await;
    let stale =
        async || (status(&live, "/health/fresh").await == StatusCode::SERVICE_UNAVAILABLE).then_some(());
    eventually("the freshness says so", stale).await;
    assert_eq!(status(&live, "/health/ready").await, StatusCode::OK, "it takes requests");
    assert_eq!(live.update(KEY, &live.reference(KEY).await, 1).await, StatusCode::NO_CONTENT);
    let log = std::fs::read_to_string(log_path(live.folder())).unwrap();
    assert!(log.contains("answered 503 Service Unavailable ("), "{log}");
    let said = bao.log();
    let key = said.lines().find_map(|line| line.strip_prefix("Unseal Key: ")).unwrap();
    bao.done("sys/unseal", json!({ "key": key })).await;
    until_published(&live, &reference, 1).await;
}

#[tokio::test]
#[ignore = "needs OpenBao: scripts/vault"]
async fn a_rotation_there_changes_nothing_until_the_settings_name_the_version() {
    let bao = Bao::start().await;
    let (live, _) = signing(&bao).await;
    let reference = live.reference(KEY).await;
    let first = live.pool(KEY).await.1["keyId"].clone();
    bao.done("keys/status/keys/signer/rotate", json!({})).await;
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    until_published(&live, &reference, 1).await;
    assert_eq!(live.pool(KEY).await.1["keyId"], first, "version 1 signs");

    let version =
        |version: u8| bao.signer("signer", &live.folder().join("token"), &format!("version: {version}"));
    live.set(&settings(&format!("signer: {{ {}, next: {{ {} }} }}", version(1), version(2))));
    eventually("the next key is announced", async || {
        let keys = std::fs::read_to_string(live.folder().join("public/lists/jwks.json")).unwrap();
        let keys: Value = serde_json::from_str(&keys).ok()?;
        (keys["keys"].as_array()?.len() == 2).then_some(())
    })
    .await;
    live.set(&settings(&format!("signer: {{ {} }}", version(2))));
    eventually("version 2 signs", async || (live.pool(KEY).await.1["keyId"] != first).then_some(())).await;
    assert_eq!(live.update(KEY, &reference, 0).await, StatusCode::NO_CONTENT);
    until_published(&live, &reference, 0).await;
}

#[tokio::test]
#[ignore = "needs OpenBao: scripts/vault"]
async fn a_key_that_was_made_anew_under_its_name_publishes_nothing() {
    let bao = Bao::start().await;
    let (live, _) = signing(&bao).await;
    let reference = live.reference(KEY).await;
    bao.done("keys/status/keys/signer/config", json!({ "deletion_allowed": true })).await;
    assert_eq!(bao.send(Method::DELETE, "keys/status/keys/signer", Value::Null).await.unwrap().0, 204);
    bao.make("signer", "ecdsa-p256").await;
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    until_counted(&live, "statuslist_publish_refused_total{pool=\"p\",check=\"signature\"}").await;
    assert_eq!(status_of(&live, &reference), 0, "the old token stays");
}

#[tokio::test]
#[ignore = "needs OpenBao: scripts/vault"]
async fn it_starts_only_with_a_key_that_can_sign_tokens_and_a_token_that_may() {
    let bao = Bao::start().await;
    bao.make("signer", "ecdsa-p256").await;
    bao.make("symmetric", "aes256-gcm96").await;
    let folder = tempfile::tempdir().unwrap();
    let (folder, port) = (folder.path(), free_port());
    let (file, wrong) = (folder.join("token"), folder.join("wrong"));
    bao.token(&file).await;
    write(&wrong, "another-token");
    for (signer, why) in [
        (bao.signer("signer", &file, ""), None),
        (bao.signer("signer", &file, "version: 7"), Some("the key has no version 7, only 1")),
        (bao.signer("symmetric", &file, ""), Some("a key of the type aes256-gcm96: expected ecdsa-p256")),
        (bao.signer("none", &file, ""), Some("answered 404 Not Found")),
        (bao.signer("signer", &wrong, ""), Some("answered 403 Forbidden (")),
        (bao.signer("signer", &folder.join("absent"), ""), Some("cannot read the token of the key service")),
    ] {
        let mut command = process::command(folder, port, &settings(&format!("signer: {{ {signer} }}")));
        let (succeeded, said) = ran(command.args(["publish", "--once"]));
        assert!(!said.contains("another-token"), "{said}");
        match why {
            None => assert!(succeeded, "the control: {said}"),
            Some(why) => {
                assert!(!succeeded && said.contains(why) && said.contains("(vault)"), "{why}: {said}")
            }
        }
    }
}
