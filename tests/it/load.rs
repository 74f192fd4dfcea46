//! The load suite in a short form: each scenario against service, Redis and nginx, with its checks and thresholds. Its limits
//! for times are wide here, because other tests run at the same time: `k6/` by itself has the real ones.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::k6;
use crate::support::nginx::{Nginx, Settings};
use crate::support::process::{Process, command, free_port};
use crate::support::redis::RedisServer;

/// A service with shipped settings, its Redis, and nginx in front.
struct Deployment {
    nginx: Nginx,
    service: Process,
    _redis: RedisServer,
    folder: TempDir,
}

impl Deployment {
    fn start(settings: &str) -> Self {
        let (folder, redis, port) = (tempfile::tempdir().unwrap(), RedisServer::start(), free_port());
        let text = std::fs::read_to_string(Path::new("config").join(settings)).unwrap();
        let mut command = command(folder.path(), port, &text);
        command
            .env("STATUSLIST__REDIS__HOST", "127.0.0.1")
            .env("STATUSLIST__REDIS__PORT", redis.port.to_string())
            .env("STATUSLIST__STATUS_LIST_POOLS__TESTS__UPDATE_INTERVAL", "1s");
        let service = Process::start(command, folder.path(), port);
        let storage = folder.path().join("public");
        let nginx = Nginx::start(&Settings::new(&storage));
        Self { nginx, service, _redis: redis, folder }
    }

    fn run(&self, script: &str, key: &str, more: &[(&str, &str)]) -> Output {
        let site = format!("http://{}/lists", self.nginx.public);
        let api = self.service.url.as_str();
        let settings = [("API", api), ("SITE", &site), ("POOL", "tests"), ("API_KEY", key), ("BEAT", "1")];
        let wide = [("P99", "10000"), ("FRESH_WITHIN", "20"), ("DROPPED", "1")];
        let environment: Vec<_> = settings.iter().chain(&wide).chain(more).copied().collect();
        k6::run(&Path::new("k6").join(script), self.folder.path(), &environment)
    }

    /// How many requests the last run made.
    fn requests(&self) -> f64 {
        let summary = std::fs::read(self.folder.path().join("summary.json")).unwrap();
        let summary: Value = serde_json::from_slice(&summary).unwrap();
        summary["metrics"]["http_reqs"]["values"]["count"].as_f64().unwrap()
    }

    fn passes(&self, script: &str, more: &[(&str, &str)]) -> String {
        let output = self.run(script, "test", more);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{script}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("met ") && !said.contains("MISSED"), "{script}: {said}");
        said.into_owned()
    }
}

const SHORT: [(&str, &str); 2] = [("VUS", "5"), ("DURATION", "3s")];

#[test]
fn every_scenario_passes() {
    let deployment = Deployment::start("append-fsync-always.delay.yaml");
    for script in ["fetch-status-list.js", "update-status.js", "fetch-reference-unlimited.js", "ramp.js"] {
        deployment.passes(script, &SHORT);
    }
    let said = deployment.passes("lifecycle.js", &SHORT);
    for step in ["allocate", "update", "wait for publication", "fetch", "verify"] {
        assert!(said.contains(&format!("met     checks{{step:{step}}}: rate==1")), "{step}: {said}");
    }
    for (script, clients, wait) in
        [("fetch-reference-basic.js", 12.0, 0.01), ("fetch-reference-bulk.js", 10.0, 0.25)]
    {
        deployment.passes(script, &[("DURATION", "3s")]);
        let (requests, most) = (deployment.requests(), clients * (3.0 / wait));
        assert!(clients < requests && requests <= most, "{script}: {requests} requests, at most {most}");
    }
    let rates = [
        ("DURATION", "4s"),
        ("FETCHES", "100"),
        ("UPDATES", "50"),
        ("MOST_FETCHES", "200"),
        ("MOST_UPDATES", "100"),
    ];
    let said = deployment.passes("fetch-vs-update.js", &rates);
    assert!(said.contains("99th percentile of fetches"), "{said}");
}

/// A scenario that cannot fail would show nothing.
#[test]
fn with_a_wrong_key_no_scenario_passes() {
    let deployment = Deployment::start("append-fsync-always.fail.yaml");
    for script in ["fetch-reference-unlimited.js", "update-status.js", "lifecycle.js"] {
        let output = deployment.run(script, "not the key", &SHORT);
        assert!(!output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stdout));
    }
    deployment.passes("fetch-reference-unlimited.js", &SHORT);
}

/// Nor one whose limits cannot be missed.
#[test]
fn what_is_too_late_or_left_out_is_missed() {
    let deployment = Deployment::start("append-fsync-always.delay.yaml");
    let misses = |script: &str, more: &[(&str, &str)], limit: &str| {
        let output = deployment.run(script, "test", more);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(&format!("MISSED  {limit}")), "{script}: {said}");
    };
    // Each client looks half a second after its update at the earliest.
    misses("lifecycle.js", &[SHORT.as_slice(), &[("FRESH_WITHIN", "0")]].concat(), "freshness");
    // Nobody waits for the publication.
    let impatient = [SHORT.as_slice(), &[("FRESH_WITHIN", "-6")]].concat();
    misses("lifecycle.js", &impatient, "checks{step:wait for publication}");
    // More than k6 has clients for.
    let too_many = [("DURATION", "1s"), ("FETCHES", "100000"), ("DROPPED", "0.01")];
    misses("fetch-vs-update.js", &too_many, "dropped_iterations{scenario:alone_fetch}");
}
