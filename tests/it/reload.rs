//! Settings, API keys and signing keys change without a restart: all or nothing, and the log and the metrics report which.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;
use statuslist::sign::{Algorithm, generate};
use tempfile::TempDir;
use tokio::time::error::Elapsed;

use crate::support::app::Reference;
use crate::support::eventually;
use crate::support::process::{self, Process, free_port, log_path};

/// The service with settings that a test changes while it runs.
pub(crate) struct Live {
    folder: TempDir,
    process: Process,
    pub(crate) client: Client,
}

impl Live {
    /// Starts with these settings; `signer.pem` in its folder is a key.
    pub(crate) fn start(settings: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        replace_key(folder.path(), "signer.pem");
        let command = process::command(folder.path(), port, settings);
        let process = Process::start(command, folder.path(), port);
        Self::of(folder, process)
    }

    /// A service that was started in `folder`.
    pub(crate) fn of(folder: TempDir, process: Process) -> Self {
        Self { folder, process, client: Client::new() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> &str {
        &self.process.url
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Rewrites the settings file, as an editor does.
    pub(crate) fn set(&self, settings: &str) {
        write(&self.folder().join("settings.yaml"), settings);
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.client.get(format!("{}{path}", self.url())).send().await.unwrap().text().await.unwrap()
    }

    /// The answer of `GET /pools/p` with this key.
    pub(crate) async fn pool(&self, key: &str) -> (StatusCode, Value) {
        let request = self.client.get(format!("{}/pools/p", self.url())).header("X-Api-Key", key);
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    pub(crate) async fn reference(&self, key: &str) -> Reference {
        let url = format!("{}/pools/p/new-references?amount=1", self.url());
        let response = self.client.post(url).header("X-Api-Key", key).send().await.unwrap();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        serde_json::from_value(body["references"][0].clone()).unwrap_or_else(|_| panic!("{body}"))
    }

    pub(crate) async fn update(&self, key: &str, reference: &Reference, value: u8) -> StatusCode {
        let body = serde_json::json!({ "uri": reference.uri, "index": reference.index, "value": value });
        let request = self.client.patch(format!("{}/status-lists/update", self.url()));
        let request = request.header("X-Api-Key", key).header("Content-Type", "application/json");
        request.body(body.to_string()).send().await.unwrap().status()
    }

    pub(crate) async fn until_metric(&self, line: &str) {
        eventually(line, async || self.text("/metrics").await.contains(line).then_some(())).await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(log_path(self.folder())).unwrap()
    }
}

/// Replaces this file by a new key, with a rename. Returns the key's id.
pub(crate) fn replace_key(folder: &Path, name: &str) -> String {
    let pem = generate(Algorithm::Es256).unwrap();
    let new = folder.join("new.pem");
    write(&new, &pem);
    std::fs::rename(new, folder.join(name)).unwrap();
    statuslist::sign::SigningKey::from_pem(&pem, None, None).unwrap().kid().to_owned()
}

pub(crate) fn write(path: &Path, content: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), content.as_bytes()).unwrap();
}

fn settings(pool: &str) -> String {
    format!("status-list-pools: {{ p: {{ size: 1000, update-interval: 1s, {pool} }} }}")
}

#[tokio::test]
async fn api_keys_come_and_go_without_a_restart() {
    let live = Live::start(&settings("api-keys: [one]"));
    assert_eq!(live.pool("one").await.0, StatusCode::OK);
    assert_eq!(live.pool("two").await.0, StatusCode::UNAUTHORIZED);
    live.set(&settings("api-keys: [one, two]"));
    eventually("the second key opens", async || (live.pool("two").await.0 == StatusCode::OK).then_some(()))
        .await;
    assert_eq!(live.pool("one").await.0, StatusCode::OK);
    live.set(&settings("api-keys: [two]"));
    eventually("the first key opens nothing", async || {
        (live.pool("one").await.0 == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    assert_eq!(live.pool("two").await.0, StatusCode::OK);
}

#[tokio::test]
async fn settings_that_cannot_be_used_change_nothing_and_are_reported_until_they_are_put_right() {
    let live = Live::start(&settings("api-keys: [one]"));
    live.reference("one").await;
    let (refused, taken) = ("statuslist_settings_stale 1", "statuslist_settings_stale 0");
    for (settings, reason) in [
        ("status-list-pools: { p: [".to_owned(), "cannot be read as YAML"),
        (settings("api-keys: [two], update-intervall: 2s"), "update-interval`?"),
        (settings("api-keys: [two], ttl: 48h"), "status-list-pools.p.ttl"),
        (settings("api-keys: [two], signer: { pem: { key: none.pem } }"), "none.pem"),
        (
            format!("server: {{ workers: 1 }}\n{}", settings("api-keys: [two], bits: 2")),
            "needs a restart: server.workers, status-list-pools.p.bits",
        ),
        (settings("api-keys: [two]") + "\npublic-url: http://other.example/lists", ""),
    ] {
        live.set(&settings);
        if reason.is_empty() {
            // The environment overrides this one, so it is not a change.
            live.until_metric(taken).await;
            assert_eq!(live.pool("two").await.0, StatusCode::OK);
            continue;
        }
        eventually(reason, async || live.log().contains(reason).then_some(())).await;
        live.until_metric(refused).await;
        assert_eq!(live.pool("one").await.0, StatusCode::OK, "{reason}");
        assert_eq!(live.pool("two").await.0, StatusCode::UNAUTHORIZED, "{reason}");
    }
    assert!(live.text("/metrics").await.contains("statuslist_reloads_total{result=\"refused\"}"));
    live.until_metric("statuslist_reloads_total{result=\"ok\"} 1").await;
}

/// A ConfigMap of Kubernetes is a link to a link to a folder, and changes when the middle link does.
#[tokio::test]
async fn settings_behind_links_change_when_the_folder_behind_them_is_another() {
    let live = Live::start(&settings("api-keys: [one]"));
    let folder = live.folder();
    std::fs::create_dir(folder.join("..first")).unwrap();
    std::fs::rename(folder.join("settings.yaml"), folder.join("..first/settings.yaml")).unwrap();
    symlink("..first", folder.join("..data")).unwrap();
    symlink("..data/settings.yaml", folder.join("settings.yaml")).unwrap();
    live.until_metric("statuslist_settings_stale 0").await;
    assert_eq!(live.pool("two").await.0, StatusCode::UNAUTHORIZED);
    std::fs::create_dir(folder.join("..second")).unwrap();
    write(&folder.join("..second/settings.yaml"), &settings("api-keys: [two]"));
    symlink("..second", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    within_seconds(10, async || live.pool("two").await.0 == StatusCode::OK).await.unwrap();
}

/// Nothing happens in the folder of such a link, so a watcher of that folder would wait for ever.
#[tokio::test]
async fn settings_behind_a_link_into_another_folder_change_with_their_file() {
    let (links, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (link, file) = (links.path().join("settings.yaml"), elsewhere.path().join("settings.yaml"));
    symlink(&file, &link).unwrap();
    write(&file, &settings("api-keys: [one]"));
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let process = Process::start(process::command_with(&link, folder.path(), port), folder.path(), port);
    let live = Live::of(folder, process);
    for key in ["two", "three"] {
        write(&file, &settings(&format!("api-keys: [{key}]")));
        within_seconds(10, async || live.pool(key).await.0 == StatusCode::OK).await.unwrap();
    }
}

/// A file that the settings name may appear after the settings, and a watcher of existing files would never notice it.
#[tokio::test]
async fn a_file_that_was_missing_is_taken_when_it_comes() {
    let live = Live::start(&settings("api-keys: [one]"));
    live.set(&settings("api-keys: [two], signer: { pem: { key: late.pem } }"));
    live.until_metric("statuslist_settings_stale 1").await;
    replace_key(live.folder(), "late.pem");
    within_seconds(10, async || live.pool("two").await.0 == StatusCode::OK).await.unwrap();
}

#[tokio::test]
async fn a_file_whose_time_changes_and_content_does_not_is_left_alone() {
    let live = Live::start(&settings("api-keys: [one]"));
    let file = std::fs::File::options().append(true).open(live.folder().join("settings.yaml")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)).unwrap();
    let reloaded = async || live.text("/metrics").await.contains("statuslist_reloads_total{result=\"ok\"} 1");
    assert!(within_seconds(2, &reloaded).await.is_err());
}

#[tokio::test]
async fn a_hangup_makes_it_read_everything_anew_though_no_file_has_changed() {
    let live = Live::start(&settings("api-keys: [one]"));
    let reloaded = async || live.text("/metrics").await.contains("statuslist_reloads_total{result=\"ok\"} 1");
    assert!(within_seconds(2, &reloaded).await.is_err(), "nothing has changed and nobody asked");
    live.process.hang_up();
    within_seconds(10, &reloaded).await.unwrap();
}

/// `serve --config <(decrypt settings.yaml)`: a second read would return nothing, and the service would run without settings.
#[tokio::test]
async fn settings_from_a_pipe_are_refused_because_they_can_be_read_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = process::command_with(Path::new("/dev/stdin"), folder.path(), free_port());
    let piped = command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut serve = piped.spawn().unwrap();
    serve.stdin.take().unwrap().write_all(settings("api-keys: [one]").as_bytes()).unwrap();
    let end = async {
        while serve.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), end).await;
    serve.kill().unwrap();
    let mut said = String::new();
    serve.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert!(ended.is_ok() && said.contains("/dev/stdin is not a regular file"), "{said}");
}

/// Whether this happens before a refused file is tried again.
async fn within_seconds(seconds: u64, what: impl AsyncFn() -> bool) -> Result<(), Elapsed> {
    let waiting = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(seconds), waiting).await
}

#[tokio::test]
async fn times_change_without_a_restart() {
    let live = Live::start(&settings("api-keys: [one], list-lifetime: 1h"));
    let reference = live.reference("one").await;
    live.set(&settings("api-keys: [one], list-lifetime: 2h, ttl: 77s"));
    eventually("the new ttl is told", async || (live.pool("one").await.1["ttl"] == 77).then_some(())).await;
    // The published token keeps its times until the list is published again.
    assert_eq!(live.update("one", &reference, 1).await, StatusCode::NO_CONTENT);
    eventually("a token with the new times", async || {
        let list = crate::support::relying_party::published(live.folder(), &reference.uri).ok()?;
        let claims = list.claims.as_object()?;
        let lifetime = claims["exp"].as_u64()? - claims["iat"].as_u64()?;
        (lifetime == 7200 && claims["ttl"] == 77).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_file_that_cannot_be_read_leaves_the_old_key_signing() {
    let pem = settings("api-keys: [one], signer: { pem: { key: signer.pem } }");
    let live = Live::start(&format!("publish: {{ keys-max-age: 1s }}\n{pem}"));
    let old = live.pool("one").await.1["keyId"].clone();
    write(&live.folder().join("signer.pem"), "-----BEGIN half a key");
    live.until_metric("statuslist_settings_stale 1").await;
    assert_eq!(live.pool("one").await.1["keyId"], old);
    let new = replace_key(live.folder(), "signer.pem");
    live.until_metric("statuslist_settings_stale 0").await;
    eventually("the new key signs", async || (live.pool("one").await.1["keyId"] == *new).then_some(())).await;
}
