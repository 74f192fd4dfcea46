//! A real Prometheus with what is shipped for it in `deploy/observability`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::{Client, StatusCode};
use serde_json::Value;

use super::eventually;
use super::process::{free_port, test_tool};

/// The path of a shipped file.
pub(crate) fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/observability").join(name)
}

/// What it scrapes, and how often; it evaluates the rules as often.
pub(crate) struct Scraped<'a> {
    pub(crate) services: &'a [String],
    pub(crate) probe: &'a str,
    pub(crate) every: &'a str,
}

/// A Prometheus with the shipped configuration, but these addresses and this interval; killed when dropped.
pub(crate) struct Prometheus {
    process: Child,
    pub(crate) url: String,
    client: Client,
}

impl Prometheus {
    pub(crate) async fn start(folder: &Path, scraped: &Scraped<'_>, rules: &str) -> Self {
        let port = free_port();
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::File::create(&file).unwrap().write_all(text.as_bytes()).unwrap();
            file
        };
        write("rules.yml", rules);
        let sample = fs::read_to_string(shipped("prometheus.yml")).unwrap();
        let (services, every) = (scraped.services.join("\", \""), format!("interval: {}", scraped.every));
        let ours = [
            ("127.0.0.1:8090", services.as_str()),
            ("127.0.0.1:9634", scraped.probe),
            ("interval: 10s", &every),
        ];
        let config = ours.into_iter().fold(sample, |config, (sample, ours)| {
            assert!(config.contains(sample), "{sample} is not in prometheus.yml");
            config.replace(sample, ours)
        });
        let file = write("prometheus.yml", &config);
        let process = Command::new(test_tool("bin/prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // For k6.
            .arg("--web.enable-remote-write-receiver")
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Self { process, url: format!("http://127.0.0.1:{port}"), client: Client::new() };
        let ready = format!("{}/-/ready", prometheus.url);
        eventually("Prometheus", async || {
            let answer = prometheus.client.get(&ready).send().await.ok()?;
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
        prometheus
    }

    pub(crate) async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url =
            reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), parameters).unwrap();
        let answer: Value =
            serde_json::from_str(&self.client.get(url).send().await.unwrap().text().await.unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"].clone()
    }

    /// Whether a query has had a number in the last `seconds`.
    pub(crate) async fn has(&self, query: &str, seconds: u64) -> bool {
        let now = statuslist::base::clock::Clock::System.now().date().secs();
        let (begin, end) = ((now - seconds).to_string(), now.to_string());
        let parameters = [("query", query), ("start", &begin), ("end", &end), ("step", "1")];
        let found = self.ask("query_range", &parameters).await;
        let values = found["result"].as_array().unwrap().iter();
        let mut values = values.flat_map(|series| series["values"].as_array().unwrap());
        values.any(|value| value[1].as_str().unwrap().parse::<f64>().unwrap().is_finite())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
