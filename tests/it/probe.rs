//! `statuslist probe` sees what wallets see: a node that is stale, tampered with, or gone, and how long a revocation takes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::app::Reference;
use crate::support::eventually;
use crate::support::fleet::PUBLIC_URL;
use crate::support::process::{PROGRAM, Process, command, free_port};

/// A node: a process that serves the lists of its own folder under the public name.
struct Node {
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Node {
    fn start(folder: &Path, name: &str, more: &str) -> Self {
        let (folder, port) = (folder.join(name), free_port());
        fs::create_dir_all(&folder).unwrap();
        let settings = format!(
            "{more}\nstatus-list-pools: {{ p: {{ api-key: x, size: 1000, update-interval: 1s, open-lists: 1, \
             precreation: {{ lists: 0 }}, formats: [jwt, cwt] }} }}"
        );
        let mut command = command(&folder, port, &settings);
        command.env("STATUSLIST__PUBLIC_URL", PUBLIC_URL);
        let process = Some(Process::start(command, &folder, port));
        Self { folder, port, process }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn lists(&self) -> PathBuf {
        self.folder.join("public/lists")
    }

    /// Takes over the list that another node has now.
    fn copy(&self, other: &Self, list: &str) {
        for extension in ["jwt.gz", "jwt", "cwt"] {
            let name = format!("{list}.{extension}");
            // As rsync does it: whole files under their names.
            let aside = self.lists().join(".aside");
            fs::copy(other.lists().join(&name), &aside).unwrap();
            fs::rename(aside, self.lists().join(&name)).unwrap();
        }
    }
}

/// Two nodes: one publishes, the other has what was copied to it.
struct Site {
    publisher: Node,
    copy: Node,
    client: Client,
}

impl Site {
    fn start(folder: &Path) -> Self {
        let publisher = Node::start(folder, "publisher", "");
        let copy = Node::start(folder, "copy", "publish: { role: off }");
        Self { publisher, copy, client: Client::new() }
    }

    async fn reference(&self) -> Reference {
        eventually("a reference", async || {
            let url = format!("http://{}/pools/p/new-references", self.publisher.address());
            let answer = self.client.post(url).header("X-Api-Key", "x").send().await.ok()?;
            let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
            serde_json::from_value(body["references"][0].clone()).ok()
        })
        .await
    }

    /// Revokes, and waits until the publisher has published it.
    async fn revoke(&self, reference: &Reference) {
        let body = json!({ "uri": reference.uri, "index": reference.index, "value": 1 }).to_string();
        let url = format!("http://{}/status-lists/update", self.publisher.address());
        let request =
            self.client.patch(url).header("X-Api-Key", "x").header("Content-Type", "application/json");
        assert_eq!(request.body(body).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        let list = reference.uri.rsplit('/').next().unwrap();
        let path = format!("/pools/p/lists/{list}/statuses/{}", reference.index);
        eventually("the revocation", async || {
            let url = format!("http://{}{path}", self.publisher.address());
            let answer = self.client.get(url).header("X-Api-Key", "x").send().await.ok()?;
            let stored: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
            (stored["published"] == true).then_some(())
        })
        .await;
    }

    /// The probe of these nodes.
    fn probe(&self, nodes: &[&Node], more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        let publisher = self.publisher.address();
        command.args(["probe", "--trust", &format!("http://{publisher}/lists/jwks.json")]);
        command.args(["--format", "jwt", "--format", "cwt", "--max-lag", "1s"]);
        for node in nodes {
            command.args(["--node", &node.address()]);
        }
        command
            .args(more)
            .env("STATUSLIST_URL", format!("http://{publisher}"))
            .env("STATUSLIST_API_KEY", "x");
        command
    }

    /// Looks once at one list on both nodes. Returns the exit code and what was said.
    fn look(&self, uri: &str) -> (i32, String) {
        let output = self.probe(&[&self.publisher, &self.copy], &["--once", "--list", uri]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

/// A probe that runs until it is dropped.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let child =
            command.args(["--listen", &address, "--every", "1s"]).stderr(Stdio::null()).spawn().unwrap();
        Self { child, url: format!("http://{address}/metrics") }
    }

    async fn metrics(&self) -> Option<String> {
        Client::new().get(&self.url).send().await.ok()?.text().await.ok()
    }

    /// The value of a series, once it has one.
    async fn value(&self, series: &str) -> Option<f64> {
        let text = self.metrics().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_stale_tampered_with_or_gone_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(folder.path());
    let reference = site.reference().await;
    let list = reference.uri.rsplit('/').next().unwrap();
    site.copy.copy(&site.publisher, list);
    let (code, said) = site.look(&reference.uri);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("looked at 1 lists on 2 nodes: 0 problems"), "{said}");
    // All lists of the pool, of which the copy lacks none.
    let aggregation = format!("http://{}/lists/aggregation/p", site.publisher.address());
    let all = site.probe(&[&site.publisher], &["--once", "--aggregation", &aggregation]).output().unwrap();
    assert_eq!(all.status.code(), Some(0), "{all:?}");

    // Later by more than the second that is allowed.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    site.revoke(&reference).await;
    let (code, said) = site.look(&reference.uri);
    let stale = format!("node={}", site.copy.address());
    assert!(code == 1 && said.contains("reason=\"behind\"") && said.contains(&stale), "{said}");
    assert!(!said.contains(&format!("node={}", site.publisher.address())), "{said}");

    site.copy.copy(&site.publisher, list);
    assert_eq!(site.look(&reference.uri).0, 0);
    for (extension, reason) in [("jwt", "signature"), ("cwt", "signature")] {
        let path = site.copy.lists().join(format!("{list}.{extension}"));
        let good = fs::read(&path).unwrap();
        let mut token = good.clone();
        // In the signature, which ends both formats.
        let at = token.len() - 10;
        token[at] = if token[at] == b'A' { b'B' } else { b'A' };
        fs::File::create(&path).unwrap().write_all(&token).unwrap();
        let (code, said) = site.look(&reference.uri);
        assert!(code == 1 && said.contains(&format!("reason=\"{reason}\"")), "{extension}: {said}");
        fs::File::create(&path).unwrap().write_all(&good).unwrap();
    }
    site.copy.process.take().unwrap().kill();
    let (code, said) = site.look(&reference.uri);
    assert!(code == 1 && said.contains("reason=\"unreachable\"") && said.contains(&stale), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_show_each_node_and_how_long_a_revocation_takes() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path());
    let reference = site.reference().await;
    let list = reference.uri.rsplit('/').next().unwrap();
    site.copy.copy(&site.publisher, list);
    let more =
        ["--list", &reference.uri, "--canary", "p", "--canary-every", "1h", "--canary-patience", "15s"];
    let probe = Running::start(site.probe(&[&site.publisher, &site.copy], &more));
    let series = |name: &str, node: &Node, more: &str| {
        format!("statuslist_probe_{name}{{node=\"{}\"{more}}}", node.address())
    };
    let problems =
        |node: &Node, reason: &str| series("problems_total", node, &format!(",reason=\"{reason}\""));

    // The canary reaches the publisher, and the copy never.
    let took =
        eventually("the canary", async || probe.value(&series("canary_seconds", &site.publisher, "")).await)
            .await;
    assert!((0.0..20.0).contains(&took), "{took}");
    eventually("the canary that is missed", async || {
        probe.value(&problems(&site.copy, "canary")).await.filter(|missed| *missed == 1.0)
    })
    .await;
    assert_eq!(probe.value(&problems(&site.publisher, "canary")).await, Some(0.0));
    let success = probe.value("statuslist_probe_canary_last_success_timestamp_seconds").await.unwrap();
    let started = statuslist::base::clock::Clock::System.now().date().secs() as f64 - success;
    assert!(started >= 15.0, "it was not found at every node: {started} s ago");
    // The canary may be in another list.
    site.revoke(&reference).await;
    eventually("the copy to be behind", async || {
        let behind = probe.value(&series("behind_seconds", &site.copy, "")).await?;
        let good = probe.value(&series("good", &site.copy, "")).await?;
        (behind >= 1.0 && good == 0.0).then_some(())
    })
    .await;
    assert_eq!(probe.value(&series("behind_seconds", &site.publisher, "")).await, Some(0.0));
    assert_eq!(probe.value(&series("good", &site.publisher, "")).await, Some(1.0));
    // The built-in lifetime is a day.
    let valid = probe.value(&series("valid_seconds", &site.publisher, "")).await.unwrap();
    let ratio = probe.value(&series("valid_ratio", &site.publisher, "")).await.unwrap();
    assert!((43_000.0..86_401.0).contains(&valid) && (0.5..=1.0).contains(&ratio), "{valid} {ratio}");

    // A copy that goes back.
    let aside = folder.path().join("aside");
    let older = Node { folder: aside.clone(), port: 1, process: None };
    fs::create_dir_all(older.lists()).unwrap();
    older.copy(&site.copy, list);
    site.copy.copy(&site.publisher, list);
    eventually("the copy to be good again", async || {
        probe.value(&series("good", &site.copy, "")).await.filter(|good| *good == 1.0)
    })
    .await;
    assert_eq!(probe.value(&problems(&site.copy, "back")).await, Some(0.0));
    site.copy.copy(&older, list);
    eventually("the `iat` that went back", async || {
        probe.value(&problems(&site.copy, "back")).await.filter(|back| *back >= 1.0)
    })
    .await;
    assert_eq!(probe.value(&problems(&site.publisher, "back")).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_gets_an_exit_code_and_a_textfile() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path());
    let reference = site.reference().await;
    let file = folder.path().join("probe.prom");
    let once = ["--once", "--list", &reference.uri, "--canary", "p", "--textfile", file.to_str().unwrap()];
    let output = site.probe(&[&site.publisher], &once).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = fs::read_to_string(&file).unwrap();
    let node = site.publisher.address();
    for line in [
        format!("statuslist_probe_good{{node=\"{node}\"}} 1"),
        "statuslist_probe_lists 1".to_owned(),
        format!("statuslist_probe_problems_total{{node=\"{node}\",reason=\"canary\"}} 0"),
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
    assert!(text.contains(&format!("statuslist_probe_canary_seconds{{node=\"{node}\"}} ")), "{text}");
    let refused = site.probe(&[&site.publisher], &["--list", "x", "--listen", "0.0.0.0:9"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("loopback"), "{refused:?}");
}
