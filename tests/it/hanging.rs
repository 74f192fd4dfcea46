//! A publication that hangs shows: in the metrics, in `/health/fresh`, and in the log. The published folder is on a disk of its own that
//! is frozen, which only root can do. Outside CI the test says so and passes.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::disk::{Disk, can_mount};
use crate::support::eventually;
use crate::support::process::{Process, command, free_port, log_path, test_tool};

/// A frozen disk, thawed when dropped: also if the test fails.
struct Frozen<'a>(&'a Disk);

impl<'a> Frozen<'a> {
    fn new(disk: &'a Disk) -> Self {
        disk.freeze(true);
        Self(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.freeze(false);
    }
}

struct Service {
    client: Client,
    process: Process,
}

impl Service {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.client.get(format!("{}{path}", self.process.url)).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// The value of a series of the pool `p`.
    async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let series = format!("statuslist_{name}{{pool=\"p\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    async fn revoke(&self, reference: &Value) {
        let body = json!({ "uri": reference["uri"], "index": reference["index"], "value": 1 }).to_string();
        let request =
            self.client.patch(format!("{}/status-lists/update", self.process.url)).header("X-Api-Key", "x");
        let answer = request.header("Content-Type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_hangs_shows_and_so_does_its_end() {
    if !can_mount() {
        return;
    }
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let disk = Disk::new(folder.path(), "public");
    let settings = "status-list-pools: { p: { api-key: x, size: 1000, update-interval: 1s, open-lists: 1 } }";
    let mut command = command(folder.path(), port, settings);
    command.env("STATUSLIST__STORAGE_DIRECTORY", &disk.mounted);
    let process = Process::start(command, folder.path(), port);
    let service = Service { client: Client::new(), process };
    let references = eventually("references", async || {
        let url = format!("{}/pools/p/new-references?amount=2", service.process.url);
        let answer = service.client.post(url).header("X-Api-Key", "x").send().await.ok()?;
        let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        body["references"].as_array().cloned()
    })
    .await;
    eventually("a whole pass", async || {
        (service.metric("last_pass_timestamp_seconds").await > 0.0).then_some(())
    })
    .await;
    assert_eq!(service.get("/health/fresh").await, (StatusCode::OK, r#"{"status":"UP"}"#.to_owned()));

    let frozen = Frozen::new(&disk);
    service.revoke(&references[0]).await;
    eventually("the age of the change to grow", async || {
        (service.metric("oldest_unpublished_seconds").await >= 5.0).then_some(())
    })
    .await;
    assert!(service.metric("pass_running_seconds").await >= 3.0);
    let (status, body) = service.get("/health/fresh").await;
    let problem = "pool p: a change has been waiting for its publication for";
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains(problem), "{body}");
    // It still takes requests.
    assert_eq!(service.get("/health/ready").await.0, StatusCode::OK);
    service.revoke(&references[1]).await;
    let log = std::fs::read_to_string(log_path(folder.path())).unwrap();
    assert!(log.contains("publishing takes long"), "{log}");

    drop(frozen);
    eventually("everything to be published", async || {
        (service.metric("oldest_unpublished_seconds").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(service.metric("pass_running_seconds").await, 0.0);
    assert_eq!(service.get("/health/fresh").await.0, StatusCode::OK);
}

#[tokio::test]
async fn counters_begin_at_zero_and_both_text_formats_are_served() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let settings = "status-list-pools: { p: { api-key: x, size: 1000 } }";
    let process = Process::start(command(folder.path(), port, settings), folder.path(), port);
    let service = Service { client: Client::new(), process };
    let (_, text) = service.get("/metrics").await;
    for series in [
        "statuslist_publish_refused_total{pool=\"p\",check=\"signature\"} 0",
        "statuslist_publish_refused_total{pool=\"p\",check=\"final-status\"} 0",
        "statuslist_reloads_total{result=\"refused\"} 0",
        "statuslist_build_info{version=\"0.1.0\"} 1",
        "# TYPE statuslist_updates_total counter",
        "# TYPE process_cpu_seconds_total counter",
    ] {
        assert!(text.lines().any(|line| line == series), "no {series} in {text}");
    }
    for of_process in ["process_start_time_seconds ", "process_resident_memory_bytes ", "process_open_fds "] {
        assert!(text.lines().any(|line| line.starts_with(of_process)), "no {of_process} in {text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    let promtool = std::process::Command::new(test_tool("bin/promtool"))
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut promtool = promtool.expect("promtool runs");
    std::io::Write::write_all(promtool.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let request = service.client.get(format!("{}/metrics", service.process.url));
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let answer = request.header("Accept", accept).send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE statuslist_updates counter"), "{text}");
}
