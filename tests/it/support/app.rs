//! The real service in this process, on a port of its own, with its own folder.

use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use statuslist::app::{App, Handle};
use statuslist::base::clock::Clock;
use statuslist::config::Config;
use tempfile::TempDir;

pub(crate) const KEY: &str = "the key of this test";

/// One running service; stopped gracefully when dropped.
pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) client: Client,
    folder: Option<TempDir>,
    running: Option<(Handle, JoinHandle<()>)>,
}

/// A reference as the API returns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
pub(crate) struct Reference {
    pub(crate) uri: String,
    pub(crate) index: u64,
}

impl TestApp {
    /// Starts with the pool `p` of these settings, given as the inside of a YAML flow mapping.
    pub(crate) fn start(pool: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), pool, Clock::System)
    }

    /// As [`Self::start`], on the data of an earlier one, with a given clock.
    pub(crate) fn start_in(folder: TempDir, pool: &str, clock: Clock) -> Self {
        Self::start_with(folder, &format!("status-list-pools: {{ p: {{ api-key: {KEY}, {pool} }} }}"), clock)
    }

    /// Starts with whole settings; adds addresses and paths.
    pub(crate) fn start_with(folder: TempDir, settings: &str, clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::start_on(listener, folder, &url, settings, clock)
    }

    /// As [`Self::start_with`], but the `uri`s begin with `public`, whatever port is bound.
    pub(crate) fn start_at(folder: TempDir, public: &str, settings: &str, clock: Clock) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), folder, public, settings, clock)
    }

    fn start_on(listener: TcpListener, folder: TempDir, public: &str, settings: &str, clock: Clock) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = settings_in(folder.path(), public, settings);
        let (started, starting) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                let app = App::build_on(listener, config, clock).await.unwrap();
                let (handle, running) = app.run();
                started.send(handle).unwrap();
                running.await.unwrap();
            });
        });
        let handle = starting.recv().expect("the service starts");
        Self { url, client: Client::new(), folder: Some(folder), running: Some((handle, thread)) }
    }

    /// Stops gracefully and returns the folder for the next start.
    pub(crate) fn stop(mut self) -> TempDir {
        self.stop_running();
        self.folder.take().unwrap()
    }

    fn stop_running(&mut self) {
        if let Some((handle, thread)) = self.running.take() {
            handle.stop();
            thread.join().unwrap();
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Sends a request with the right key. Returns status and body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).header("X-Api-Key", KEY);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) async fn references(&self, amount: usize) -> Vec<Reference> {
        let (status, body) =
            self.send(Method::POST, &format!("/pools/p/new-references?amount={amount}"), None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_value(body["references"].clone()).unwrap()
    }

    pub(crate) async fn update(&self, reference: &Reference, value: Value) -> (StatusCode, Value) {
        let body = serde_json::json!({ "uri": reference.uri, "index": reference.index, "value": value });
        self.send(Method::PATCH, "/status-lists/update", Some(body)).await
    }

    /// What the store has: the value, and whether it is published.
    pub(crate) async fn stored(&self, reference: &Reference) -> Value {
        let list = reference.uri.rsplit('/').next().unwrap();
        let (status, body) = self
            .send(Method::GET, &format!("/pools/p/lists/{list}/statuses/{}", reference.index), None)
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop_running();
    }
}

/// Settings with their files in `folder`.
pub(crate) fn settings_in(folder: &Path, url: &str, settings: &str) -> Config {
    let environment = [
        ("STATUSLIST__PUBLIC_URL", format!("{url}/lists")),
        ("STATUSLIST__STORAGE_DIRECTORY", folder.join("public").display().to_string()),
        ("STATUSLIST__KEY_DIRECTORY", folder.join("keys").display().to_string()),
        ("STATUSLIST__INSTANCE_DIRECTORY", folder.join("instance").display().to_string()),
        ("STATUSLIST__SQLITE__PATH", folder.join("statuslist.db").display().to_string()),
    ];
    Config::load(Some(settings), environment.into_iter().map(|(name, value)| (name.to_owned(), value)))
        .unwrap()
}
