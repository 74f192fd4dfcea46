//! Several instances of the service on one Redis: real processes, each with a folder of its own, behind one `public-url`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::app::Reference;
use super::eventually;
use super::process::{PROGRAM, Process, command, free_port, log_path, signal};
use super::redis::RedisServer;

/// The address of the lists in the settings of all instances; nobody listens there.
pub(crate) const PUBLIC_URL: &str = "http://status.example/lists";

/// One instance, which can be killed and started again with the same identity.
pub(crate) struct Instance {
    folder: PathBuf,
    port: u16,
    settings: String,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl Instance {
    /// The instance `name`, with its own files in a folder of that name. `settings` contain the rest.
    pub(crate) fn start(folder: &Path, name: &str, settings: &str) -> Self {
        Self::start_with(folder, name, settings, Vec::new())
    }

    /// The same with these environment variables.
    pub(crate) fn start_with(
        folder: &Path,
        name: &str,
        settings: &str,
        environment: Vec<(String, String)>,
    ) -> Self {
        let (folder, settings) = (folder.join(name), settings.to_owned());
        std::fs::create_dir_all(&folder).unwrap();
        let mut instance = Self { folder, port: free_port(), settings, environment, process: None };
        instance.start_again();
        instance
    }

    /// Starts it, unless it runs. Also restarts an instance that ended by itself, because Redis went away during its start, as a
    /// supervisor would.
    pub(crate) fn start_again(&mut self) {
        if self.process.as_mut().is_none_or(Process::has_ended) {
            let mut command = command(&self.folder, self.port, &self.settings);
            command.env("STATUSLIST__PUBLIC_URL", PUBLIC_URL).envs(self.environment.iter().cloned());
            self.process = Some(Process::start(command, &self.folder, self.port));
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops it for a while, like a machine that hangs.
    pub(crate) fn freeze(&self, frozen: bool) {
        signal(if frozen { "-STOP" } else { "-CONT" }, self.pid());
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client of this instance.
    pub(crate) fn issuer(&self) -> Issuer {
        let client = Client::builder().timeout(Duration::from_secs(15)).build().unwrap();
        Issuer { client, url: self.url() }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Its name in the store.
    pub(crate) fn id(&self) -> String {
        let id = std::fs::read_to_string(self.folder.join("data/instance/id")).unwrap();
        id.trim().to_owned()
    }

    /// The folder of its own files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(log_path(&self.folder)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let running = self.process.as_mut().is_some_and(|process| !process.has_ended());
            eprintln!("{} (running: {running}):", self.folder.display());
            lines[lines.len().saturating_sub(30)..].iter().for_each(|line| eprintln!("    {line}"));
        }
    }
}

/// A client of one instance, with the API key `x` that all pools of these tests have.
#[derive(Clone)]
pub(crate) struct Issuer {
    client: Client,
    url: String,
}

impl Issuer {
    /// Retries until there are references.
    pub(crate) async fn references(&self, pool: &str, amount: usize) -> Vec<Reference> {
        eventually("references", async || self.try_references(pool, amount).await).await
    }

    /// Sends one request.
    pub(crate) async fn try_references(&self, pool: &str, amount: usize) -> Option<Vec<Reference>> {
        let url = format!("{}/pools/{pool}/new-references?amount={amount}", self.url);
        let answer = self.client.post(url).header("X-Api-Key", "x").send().await.ok()?;
        let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        serde_json::from_value(body["references"].clone()).ok()
    }

    /// Sets a status; `None` if no answer came.
    pub(crate) async fn set(&self, reference: &Reference, value: u8) -> Option<StatusCode> {
        let body = json!({ "uri": reference.uri, "index": reference.index, "value": value }).to_string();
        let request = self.client.patch(format!("{}/status-lists/update", self.url)).header("X-Api-Key", "x");
        let answer = request.header("Content-Type", "application/json").body(body).send().await.ok()?;
        Some(answer.status())
    }

    /// The status that the store has, if it has the list.
    pub(crate) async fn stored(&self, pool: &str, reference: &Reference) -> Option<u64> {
        let list = reference.uri.rsplit('/').next().unwrap();
        let url = format!("{}/pools/{pool}/lists/{list}/statuses/{}", self.url, reference.index);
        let answer = self.client.get(url).header("X-Api-Key", "x").send().await.unwrap();
        assert!([StatusCode::OK, StatusCode::NOT_FOUND].contains(&answer.status()), "{answer:?}");
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        body["value"].as_u64()
    }
}

/// The settings that connect to `redis`; further keys of `redis:` can be given as the inside of a YAML flow mapping.
pub(crate) fn on_redis(redis: &RedisServer, more: &str) -> String {
    format!("storage-type: redis\nredis: {{ {}, {more} }}\n", redis.settings())
}

/// The settings by which instances publish into one folder, `public` below `folder`.
pub(crate) fn shared(folder: &Path) -> String {
    format!("storage-directory: {}\n", folder.join("public").display())
}

/// Generates a signing key. Returns the `signer` of a pool that uses it.
pub(crate) fn signer(folder: &Path) -> String {
    let key = folder.join("signer.pem");
    let made = std::process::Command::new(PROGRAM).arg("generate-key").arg(&key).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    format!("signer: {{ pem: {{ key: {} }} }}", key.display())
}

/// Which instance holds the lease to publish `pool`, and the fence.
pub(crate) fn publisher(redis: &RedisServer, pool: &str) -> (String, u64) {
    let key = format!("statuslist:{{{pool}}}");
    (redis.cli(&["HGET", &key, "holder"]), redis.cli(&["HGET", &key, "fence"]).parse().unwrap())
}
